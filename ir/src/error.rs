//! The errors of this crate: one enum, each variant with a stable code and a help text.

use crate::origin::Origin;

/// Result of everything here that can fail.
pub type Result<T, E = IrError> = std::result::Result<T, E>;

/// What can go wrong while building, reading, verifying, transforming or evaluating IR.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum IrError {
    /// Text or bytecode does not parse; the message holds MLIR's diagnostics with line and column.
    #[error("the IR does not parse: {message}")]
    Parse {
        /// MLIR's diagnostics, one a line.
        message: String,
    },
    /// The verifier rejects a module.
    #[error("the IR does not verify: {message}")]
    Verify {
        /// MLIR's diagnostics, one a line.
        message: String,
    },
    /// An op whose operands and attributes do not go together.
    #[error("{op}: {message}{}", at(.origin))]
    Build {
        /// The op's name, such as `nn.contract`.
        op: String,
        /// What does not fit, with the shapes and dtypes concerned.
        message: String,
        /// Where the op came from.
        origin: Origin,
    },
    /// IR that verifies as MLIR but is no program of ours (a foreign op, a missing function, …).
    #[error("malformed module: {message}")]
    Malformed {
        /// What is missing or foreign.
        message: String,
    },
    /// A pass said no, or panicked; the message names the pass.
    #[error("pass pipeline failed: {message}")]
    Pass {
        /// The diagnostics of the failing pass.
        message: String,
    },
    /// A pipeline's text names an unknown pass or option.
    #[error("bad pass pipeline: {message}")]
    Pipeline {
        /// What the pipeline's parser says.
        message: String,
    },
    /// The evaluator met something that has no value (index out of range, missing input, …).
    #[error("{op}: {message}{}", at(.origin))]
    Eval {
        /// The op's name.
        op: String,
        /// What went wrong, with the numbers.
        message: String,
        /// Where the op came from.
        origin: Origin,
    },
}

fn at(origin: &Origin) -> String {
    if origin.is_empty() { String::new() } else { format!(" (from {origin})") }
}

impl IrError {
    /// Stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            IrError::Parse { .. } => "ir::parse",
            IrError::Verify { .. } => "ir::verify",
            IrError::Build { .. } => "ir::build",
            IrError::Malformed { .. } => "ir::malformed",
            IrError::Pass { .. } => "ir::pass",
            IrError::Pipeline { .. } => "ir::pipeline",
            IrError::Eval { .. } => "ir::eval",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            IrError::Parse { .. } => "mend the text at the place named; `kiln opt` prints well-formed IR",
            IrError::Verify { .. } => {
                "the op named breaks a rule of its dialect; see docs/ir.md for its table"
            }
            IrError::Build { .. } => "the operands' shapes and dtypes must obey the op's rule in docs/ir.md",
            IrError::Malformed { .. } => {
                "give a module with one `func.func @main` of `nn` ops, or one `tile.program`"
            }
            IrError::Pass { .. } => "rerun with the pipeline up to the pass named to see its input",
            IrError::Pipeline { .. } => "`kiln passes` lists the passes and their options",
            IrError::Eval { .. } => "check the inputs' values and shapes against the model",
        }
    }

    /// The same error with `origin` filled in where it had none.
    pub fn with_origin(self, from: &Origin) -> Self {
        match self {
            IrError::Build { op, message, origin } if origin.is_empty() => {
                IrError::Build { op, message, origin: from.clone() }
            }
            IrError::Eval { op, message, origin } if origin.is_empty() => {
                IrError::Eval { op, message, origin: from.clone() }
            }
            other => other,
        }
    }

    pub(crate) fn build(op: &str, message: impl Into<String>) -> Self {
        IrError::Build { op: op.into(), message: message.into(), origin: Origin::default() }
    }

    pub(crate) fn eval(op: &str, message: impl Into<String>) -> Self {
        IrError::Eval { op: op.into(), message: message.into(), origin: Origin::default() }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        IrError::Malformed { message: message.into() }
    }
}
