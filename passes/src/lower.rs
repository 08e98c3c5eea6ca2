//! Lowering: grouped and tiled ops become a `tile.program`.

/// Why a program cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// An op that the machine has no way to run.
    #[error("{what} cannot run on the device")]
    Unsupported {
        /// The op or the data type.
        what: String,
        /// ONNX nodes, `"<node name>|<op type>"`.
        origin: Vec<String>,
    },
}
