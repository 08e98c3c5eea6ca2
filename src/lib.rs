//! Kiln: from ONNX transformer graphs to a tiled NPU and its simulator. This crate is the façade over the parts.
#![forbid(unsafe_code)]

pub mod bound;
pub mod commands;
pub mod compare;
pub mod compile;
pub mod error;
pub mod host;
pub mod inputs;
pub mod link;
pub mod masks;
pub mod npy;
pub mod progress;
pub mod sanitize;
pub mod segments;
pub mod survey;
pub mod verify;

pub use compile::{CompileOptions, Compiled, Run, compile};
pub use error::Error;
pub use inputs::Tensors;
