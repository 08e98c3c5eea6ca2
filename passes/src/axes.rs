//! Named axes: the graph both e-graphs work on, and its converters from and to `nn`.

mod atoms;
mod from_nn;
mod graph;
pub mod number;
mod resolve;
mod to_nn;

pub use from_nn::from_nn;
pub use graph::{AxisId, ConstId, Dim, Graph, Kind, Node, NodeId, Origins, Port, TopKPart};
pub use to_nn::to_nn;
