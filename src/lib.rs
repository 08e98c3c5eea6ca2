//! Kiln: from ONNX transformer graphs to a tiled NPU and its simulator. This crate is the façade over the parts.
#![forbid(unsafe_code)]

pub mod bound;
pub mod commands;
pub mod compare;
pub mod error;
pub mod npy;
