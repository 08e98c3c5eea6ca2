//! The MLIR context that modules live in.

use crate::error::IrError;
use crate::ffi::RawContext;
use std::fmt;
use std::rc::Rc;

/// A context with the dialects `nn`, `tile`, `func` and `builtin`. Cheap to clone; every [`crate::Module`]
/// and builder keeps its context alive. One context is used from one thread.
#[derive(Clone)]
pub struct Context(pub(crate) Rc<RawContext>);

impl Context {
    /// A new context.
    pub fn new() -> Self {
        Context(Rc::new(RawContext::new()))
    }

    /// The diagnostics since the last call as one text, one a line.
    pub(crate) fn diagnostics(&self) -> String {
        self.0.take_diagnostics().join("\n")
    }

    /// An internal error when MLIR refuses an op that inference has passed.
    pub(crate) fn refused(&self, op: &str) -> IrError {
        IrError::build(op, format!("refused by MLIR: {}", self.diagnostics()))
    }
}

impl Default for Context {
    fn default() -> Self {
        Context::new()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}
