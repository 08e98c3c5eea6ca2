//! The passes: the registry, the named-axis graph, the e-graphs, and the lowering of `nn` to `tile`.
#![forbid(unsafe_code)]

pub mod algebra;
pub mod axes;
pub mod grouping;
pub mod lower;
pub mod tiling;
