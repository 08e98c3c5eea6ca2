//! Kiln's IR: the MLIR dialects `nn` (pure tensors) and `tile` (explicit memory and loops) with typed
//! builders and views, Rust passes in MLIR's pass manager, and the reference evaluator.
//!
//! Nothing outside this crate touches MLIR. Reading gives owned snapshots ([`nn::Func`]), building goes
//! through builders ([`nn::FuncBuilder`]) or data ([`tile::Program`]); a pass reads a snapshot and puts a new function in its place.

#![deny(unsafe_code)]

mod context;
mod error;
pub mod eval;
mod ffi;
mod module;
pub mod nn;
mod origin;
pub mod pass;
pub mod tile;
pub mod types;

pub use context::Context;
pub use error::{IrError, Result};
pub use module::{IN_MEMORY, Module};
pub use origin::Origin;
pub use types::{DType, Scalar, Tensor, TensorType};
