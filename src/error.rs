//! What can go wrong between a model file and its outputs, and which exit code says so.

use crate::segments::HostOp;
use kiln_backend::{BackendError, check::CheckError};
use kiln_frontend::{Diagnostic, Diagnostics};
use kiln_ir::IrError;
use kiln_machine::{asm::AsmErrors, program::ProgramError, target::TargetError};
use kiln_passes::{PassesError, lower::LowerError};
use kiln_runtime::SimError;
use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
};

/// Exit codes of the command line.
pub mod exit {
    pub const OK: u8 = 0;
    /// The input is wrong: a model, a data file, a target.
    pub const INPUT: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// Our fault.
    pub const INTERNAL: u8 = 101;
}

/// Every failure of the façade. The part that found it keeps its own message, code and help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("{path} cannot be {verb}: {source}")]
    Io { path: PathBuf, verb: &'static str, source: io::Error },
    #[error("{path} {what}")]
    Npy { path: PathBuf, what: String },
    #[error("the data set {folder}: {what}")]
    DataSet { folder: PathBuf, what: String },
    #[error("{} of the model's ops can run on the host only, and --device-only is given: {}", .0.len(), host_ops(.0))]
    HostOnly(Vec<HostOp>),
    #[error("simulated {cycles} cycles where no program for this graph takes fewer than {bound}")]
    FasterThanBound { cycles: u64, bound: u64 },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Model(#[from] Diagnostics),
    #[error(transparent)]
    TensorFile(#[from] Diagnostic),
    #[error(transparent)]
    Passes(#[from] PassesError),
    #[error(transparent)]
    Lower(#[from] LowerError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("the emitted program is wrong: {0}")]
    Emitted(#[from] CheckError),
    #[error(transparent)]
    Ir(#[from] IrError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Assembly(#[from] AsmErrors),
    #[error(transparent)]
    Simulation(#[from] SimError),
    #[error("{}{cause}", crate::sanitize::text(.findings))]
    Sanitized { findings: Box<kiln_runtime::Findings>, cause: Box<SimError> },
}

/// The first ops with their reasons, in one line.
fn host_ops(ops: &[HostOp]) -> String {
    let told = ops.iter().take(3).map(|op| {
        let node =
            op.origin.first().map_or_else(String::new, |o| format!(" of {}", o.replace('|', " (") + ")"));
        format!("{}{node}: {}", op.op, op.reason)
    });
    let told = told.collect::<Vec<_>>().join("; ");
    if ops.len() > 3 { format!("{told}; and {} more", ops.len() - 3) } else { told }
}

impl Error {
    pub fn usage(message: impl Into<String>) -> Self {
        Error::Usage(message.into())
    }

    pub fn read(path: &Path, source: io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), verb: "read", source }
    }

    pub fn write(path: &Path, source: io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), verb: "written", source }
    }

    /// The exit code that this failure ends the process with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => exit::USAGE,
            // The frontend has checked the model: what fails behind it is ours, unless it is about size or support.
            Error::Lower(LowerError::Unsupported { .. } | LowerError::DoesNotFit { .. }) => exit::INPUT,
            Error::Backend(BackendError::DoesNotFit { .. } | BackendError::DramFull { .. }) => exit::INPUT,
            Error::Passes(_)
            | Error::Lower(_)
            | Error::Backend(_)
            | Error::Ir(_)
            | Error::Emitted(_)
            | Error::FasterThanBound { .. } => exit::INTERNAL,
            _ => exit::INPUT,
        }
    }

    /// The message with its code, on one line.
    pub fn in_one_line(&self) -> String {
        let text = self.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        match miette::Diagnostic::code(self) {
            Some(code) => format!("{text} [{code}]"),
            None => text,
        }
    }

    /// The part's own diagnostic, where it has one.
    fn inner(&self) -> Option<&dyn miette::Diagnostic> {
        match self {
            Error::Target(e) => Some(e),
            Error::Model(e) => Some(e),
            Error::TensorFile(e) => Some(e),
            Error::Program(e) => Some(e),
            Error::Assembly(e) => Some(e),
            Error::Simulation(e) => Some(e),
            Error::Sanitized { cause, .. } => Some(cause.as_ref()),
            _ => None,
        }
    }

    fn origin(&self) -> &[String] {
        match self {
            Error::Lower(
                LowerError::Unsupported { origin, .. }
                | LowerError::DoesNotFit { origin, .. }
                | LowerError::NoSchedule { origin, .. },
            )
            | Error::Backend(BackendError::Unsupported { origin, .. }) => origin,
            _ => &[],
        }
    }
}

impl miette::Diagnostic for Error {
    fn code<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        let own: &str = match self {
            Error::Usage(_) => "kiln::usage",
            Error::Io { .. } => "kiln::io",
            Error::Npy { .. } => "kiln::npy",
            Error::DataSet { .. } => "kiln::data_set",
            Error::HostOnly(_) => "kiln::host_only",
            Error::Lower(LowerError::Unsupported { .. }) => "kiln::lower::unsupported",
            Error::Lower(LowerError::DoesNotFit { .. }) => "kiln::lower::does_not_fit",
            Error::Lower(_) => "kiln::lower::internal",
            Error::Backend(e) => e.code(),
            Error::Passes(e) => e.code(),
            Error::Ir(e) => e.code(),
            Error::Emitted(_) => "backend::check",
            Error::FasterThanBound { .. } => "kiln::faster_than_bound",
            _ => return self.inner().and_then(miette::Diagnostic::code),
        };
        Some(Box::new(own))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        let own = match self {
            Error::Npy { .. } => "numpy.save(path, array) writes what is read here".to_string(),
            Error::HostOnly(_) => "without --device-only the reference evaluator runs them".to_string(),
            Error::Backend(e) => e.help().to_string(),
            Error::Passes(e) => e.help().to_string(),
            Error::Ir(e) => e.help().to_string(),
            Error::Lower(LowerError::DoesNotFit { .. }) => {
                "a target with more spm_bytes or acc_bytes, or smaller dimensions, would do".to_string()
            }
            Error::Lower(LowerError::NoSchedule { .. } | LowerError::Invalid(_))
            | Error::Emitted(_)
            | Error::FasterThanBound { .. } => {
                "this is a fault of kiln, not of the model; please report it with the command and the model"
                    .to_string()
            }
            _ => return self.inner().and_then(miette::Diagnostic::help),
        };
        let nodes: Vec<String> =
            self.origin().iter().take(4).map(|origin| origin.replace('|', " (") + ")").collect();
        let more = self.origin().len().saturating_sub(nodes.len());
        let from = match (nodes.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!("; ONNX nodes: {}", nodes.join(", ")),
            (false, more) => format!("; ONNX nodes: {} and {more} more", nodes.join(", ")),
        };
        Some(Box::new(own + &from))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.inner().and_then(miette::Diagnostic::source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        self.inner().and_then(miette::Diagnostic::labels)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        self.inner().and_then(miette::Diagnostic::related)
    }
}
