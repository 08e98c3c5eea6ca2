//! Named axes: the graph both e-graphs work on, and its converters from and to `nn`.

mod atoms;
mod from_nn;
mod graph;
pub mod number;
mod resolve;
#[cfg(test)]
pub(crate) mod round_trip;
mod to_nn;

pub use from_nn::from_nn;
pub use graph::{AxisId, ConstId, Dim, Graph, Kind, Node, NodeId, Origins, Port, TopKPart};
pub use to_nn::to_nn;

/// Puts a graph in the place of the function it was made from.
///
/// # Errors
/// When a node does not obey its op's rules.
pub fn replace(
    module: &mut kiln_ir::Module,
    func: &kiln_ir::nn::Func,
    graph: &Graph,
) -> Result<(), kiln_ir::IrError> {
    let context = module.context().clone();
    let mut builder = kiln_ir::nn::FuncBuilder::like(&context, func)?;
    let values = to_nn(graph, &mut builder)?;
    let results: Vec<_> = values.into_iter().zip(graph.outputs.iter().map(|p| p.outside.clone())).collect();
    builder.finish(module, &results)
}
