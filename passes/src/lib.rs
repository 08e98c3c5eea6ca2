//! The passes: the registry, the named-axis graph, the e-graphs, and the lowering of `nn` to `tile`.
#![forbid(unsafe_code)]

pub mod algebra;
pub mod axes;
mod conv_to_contract;
mod decompose_indexing;
mod fold_constants;
pub mod grouping;
pub mod lower;
pub mod regions;
pub mod tiling;

mod pipeline;
mod registry;

pub use pipeline::{AFTER_ALGEBRA, BEFORE_ALGEBRA, Options, PassesError, Report, optimise, prepare, rewrite};
pub use registry::registry;
