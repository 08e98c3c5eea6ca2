//! Why an op has no instructions.

use kiln_ir::{Origin, tile};

use crate::error::BackendError;

/// Why an op has no instructions.
pub(super) enum Fault {
    Backend(BackendError),
    Text(String),
}

impl Fault {
    /// The error that an op has no instructions.
    pub(super) fn of(self, op: &tile::Op, origin: &Origin) -> BackendError {
        match self {
            Fault::Backend(e) => e,
            Fault::Text(reason) => BackendError::Unsupported {
                op: op.name().into(),
                reason,
                origin: origin.names().map(str::to_owned).collect(),
            },
        }
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Fault::Text(text)
    }
}

impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Fault::Text(text.into())
    }
}

impl From<BackendError> for Fault {
    fn from(e: BackendError) -> Self {
        Fault::Backend(e)
    }
}
