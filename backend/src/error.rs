//! What can go wrong between a tile program and an instruction stream.

use kiln_machine::isa::Space;

/// A program the backend does not emit. [`BackendError::DoesNotFit`] is an answer for the passes, the others are
/// faults of the tile program or limits of the target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// A group's buffers exceed a memory even with single-slot rings.
    #[error("group `{group}` needs {missing_bytes} more bytes of {space}")]
    DoesNotFit {
        group: String,
        space: Space,
        /// Over all partitions.
        missing_bytes: u64,
    },
    /// The tensors of the program exceed DRAM.
    #[error("the program needs {needed_bytes} bytes of DRAM, the target has {available_bytes}")]
    DramFull { needed_bytes: u64, available_bytes: u64 },
    /// An op has no instruction sequence on this machine.
    #[error("{op}: {reason}")]
    Unsupported { op: String, reason: String, origin: Vec<String> },
    /// A value does not fit the instruction's field.
    #[error("{op}: {reason}")]
    Encoding { op: String, reason: String },
    /// More ordered pairs of engines need semaphores than the target has.
    #[error("the program needs {needed} semaphores, the target has {available}")]
    Semaphores { needed: usize, available: usize },
    /// A fold could not be evaluated.
    #[error("evaluating `{name}`: {reason}")]
    Fold { name: String, reason: String },
    /// The module is not a tile program.
    #[error("not a tile program: {0}")]
    Malformed(String),
}

impl BackendError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            BackendError::DoesNotFit { .. } => "backend::does-not-fit",
            BackendError::DramFull { .. } => "backend::dram-full",
            BackendError::Unsupported { .. } => "backend::unsupported",
            BackendError::Encoding { .. } => "backend::encoding",
            BackendError::Semaphores { .. } => "backend::semaphores",
            BackendError::Fold { .. } => "backend::fold",
            BackendError::Malformed(_) => "backend::malformed",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            BackendError::DoesNotFit { .. } => {
                "the passes choose smaller tiles or smaller groups; `--set spm_bytes=…` changes the memory"
            }
            BackendError::DramFull { .. } => "use a target with more `dram_bytes` or smaller dims",
            BackendError::Unsupported { .. } => {
                "this tile op reached the backend in a form that selection does not handle; report it"
            }
            BackendError::Encoding { .. } => "the tile is larger than an instruction can address; report it",
            BackendError::Semaphores { .. } => "raise the target's `semaphores` or lower its `dma_queues`",
            BackendError::Fold { .. } => "the constant subgraph's inputs may be missing or damaged",
            BackendError::Malformed(_) => "`kiln opt` verifies the module and says where it is wrong",
        }
    }
}
