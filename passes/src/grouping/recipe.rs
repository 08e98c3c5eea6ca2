//! Recipes: what depends on weights only is made at compile time, not by the machine on every run.
//!
//! A concatenation of weights is placement: rows of files that lie in one array. Anything else that changes
//! bytes is a fold, evaluated once and kept in the program. A fold that would hold more bytes than the weights
//! it is made of (a dequantised weight, say) stays a computation, unless it is small.

use std::collections::BTreeSet;

use kiln_ir::tile::Part;

use crate::axes::{AxisId, Graph, Kind, NodeId};

/// A fold of no more bytes than this may hold more than it is made of.
const SMALL_FOLD_BYTES: u64 = 1 << 20;
/// All folds of a program together.
const MOST_FOLDED_BYTES: u64 = 1 << 30;

/// How a node made of weights comes to lie in memory before a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Parts of files, placed.
    Placed(Vec<Part>),
    /// Evaluated at compile time.
    Folded,
}

/// For each node its recipe; none for inputs, work of the machine, leaves, and views of what has a recipe.
pub fn recipes(graph: &Graph) -> Vec<Option<Recipe>> {
    let mut constant: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    let mut folded = 0;
    let recipe = |(id, node): (NodeId, &crate::axes::Node)| {
        let is_constant = !matches!(node.kind, Kind::Input { .. } | Kind::Opaque { .. })
            && node.operands.iter().all(|o| constant[o.0 as usize]);
        constant.push(is_constant);
        if !is_constant || is_view(&node.kind) {
            return None;
        }
        let source = source_bytes(graph, id);
        if source == 0 {
            return None;
        }
        if let Some(parts) = placed(graph, id) {
            return Some(Recipe::Placed(parts));
        }
        let bytes = graph.elements(&node.axes) * node.dtype.size_bytes() as u64;
        let fits = bytes <= source.max(SMALL_FOLD_BYTES) && folded + bytes <= MOST_FOLDED_BYTES;
        fits.then(|| {
            folded += bytes;
            Recipe::Folded
        })
    };
    graph.ids().zip(&graph.nodes).map(recipe).collect()
}

/// Bytes of the distinct weights that a constant is made of.
fn source_bytes(graph: &Graph, id: NodeId) -> u64 {
    let leaves = made_of(graph, id).into_iter().map(|at| graph.node(at));
    let weights = leaves.filter(|node| matches!(node.kind, Kind::Weight { .. }));
    weights.map(|node| graph.elements(&node.axes) * node.dtype.size_bytes() as u64).sum()
}

/// The node and all that it depends on.
fn made_of(graph: &Graph, id: NodeId) -> BTreeSet<NodeId> {
    let mut needed = BTreeSet::new();
    let mut stack = vec![id];
    while let Some(at) = stack.pop() {
        if needed.insert(at) {
            stack.extend(&graph.node(at).operands);
        }
    }
    needed
}

/// Leaves, and views that need no bytes of their own.
fn is_view(kind: &Kind) -> bool {
    kind.is_leaf()
        || matches!(
            kind,
            Kind::Slice { .. }
                | Kind::Reverse { .. }
                | Kind::Rename { .. }
                | Kind::Broadcast { .. }
                | Kind::Relayout { .. }
        )
}

/// The parts of a concatenation of whole weights that are stored in the result's order of axes.
fn placed(graph: &Graph, id: NodeId) -> Option<Vec<Part>> {
    let node = graph.node(id);
    let Kind::Concat { from, to } = &node.kind else { return None };
    let at = node.axes.iter().position(|a| a == to)?;
    let size = node.dtype.size_bytes() as u64;
    let rows = graph.elements(&node.axes[..at]);
    let inner = graph.elements(&node.axes[at + 1..]) * size;
    let pitch = graph.extent(*to) * inner;
    let mut offset = 0;
    let part = |(&operand, from): (&NodeId, &Option<AxisId>)| -> Option<Part> {
        let (file, file_offset, mut axes) = stored(graph, operand)?;
        match from {
            Some(from) => *axes.iter_mut().find(|a| *a == from)? = *to,
            None => axes.insert(at.min(axes.len()), *to),
        }
        let row_bytes = from.map_or(1, |f| graph.extent(f)) * inner;
        let part = Part { file, file_offset, rows, row_bytes, file_pitch: row_bytes, offset, pitch };
        offset += row_bytes;
        (axes == node.axes).then_some(part)
    };
    node.operands.iter().zip(from).map(part).collect()
}

/// A weight under whatever names: its place and its axes as stored.
fn stored(graph: &Graph, id: NodeId) -> Option<(u32, u64, Vec<AxisId>)> {
    let node = graph.node(id);
    match &node.kind {
        Kind::Weight { file, offset, axes, .. } => Some((*file, *offset, axes.clone())),
        Kind::Rename { .. } => {
            let (file, offset, axes) = stored(graph, node.operands[0])?;
            Some((file, offset, node.kind.result_axes(&[&axes])))
        }
        _ => None,
    }
}

/// The graph of a fold: constants in, one result with the node's axes for dims.
pub fn fold(graph: &Graph, id: NodeId) -> Graph {
    let nodes: Vec<NodeId> = made_of(graph, id).into_iter().collect();
    graph.part(&[], &nodes, &[id])
}

#[cfg(test)]
mod tests {
    use kiln_ir::DType;
    use kiln_ir::nn::{ContractDims, MapKind};

    use super::*;
    use crate::grouping::kernel::{ArrayKind, Kernel};
    use crate::regions::tests::toy;

    #[test]
    fn products_of_weights_are_no_work_of_the_machine() {
        let (_, graph) = toy(|t, h, _| {
            let w = t.b.weight(0, 0, &[8, 8], DType::F32)?;
            let gamma = t.b.weight(0, 256, &[8], DType::F32)?;
            let gamma = t.b.broadcast(gamma, &[0], &[8, 8])?;
            let scaled = t.b.map(MapKind::Mul, &[w, gamma])?;
            t.b.contract(h, scaled, &ContractDims::matmul(0))
        });
        let kernel = Kernel::new(&graph).unwrap();
        assert_eq!(kernel.ops.len(), 1);
        let kinds: Vec<&ArrayKind> = kernel.arrays.iter().map(|a| &a.kind).collect();
        assert!(kinds.iter().any(|k| matches!(k, ArrayKind::Fold(_))), "{kinds:?}");
        assert!(!kinds.iter().any(|k| matches!(k, ArrayKind::Weight { .. })), "{kinds:?}");
    }

    #[test]
    fn a_concatenation_of_weights_is_placement() {
        let (_, graph) = toy(|t, h, _| {
            let (a, b) = (t.b.weight(0, 64, &[8, 2], DType::F32)?, t.b.weight(0, 640, &[8, 3], DType::F32)?);
            let both = t.b.concat(&[a, b], 1)?;
            t.b.contract(h, both, &ContractDims::matmul(0))
        });
        let cat = graph.ids().find(|id| graph.node(*id).kind.name() == "cat").unwrap();
        let part = |file_offset, row_bytes, offset| Part {
            file: 0,
            file_offset,
            rows: 8,
            row_bytes,
            file_pitch: row_bytes,
            offset,
            pitch: 20,
        };
        let parts = vec![part(64, 8, 0), part(640, 12, 8)];
        assert_eq!(recipes(&graph)[cat.0 as usize], Some(Recipe::Placed(parts)));
    }

    #[test]
    fn work_on_inputs_has_no_recipe_however_often_it_reads_a_weight() {
        let (_, graph) = toy(|t, h, _| {
            let w = t.b.weight(0, 0, &[8, 8], DType::F32)?;
            let mut y = t.b.contract(h, w, &ContractDims::matmul(0))?;
            // Each doubles the paths to the weight.
            for _ in 0..80 {
                y = t.b.map(MapKind::Max, &[y, y])?;
            }
            Ok(y)
        });
        assert!(recipes(&graph).iter().all(Option::is_none));
    }

    #[test]
    fn a_fold_that_blows_up_stays_work() {
        let (_, graph) = toy(|t, h, _| {
            let w = t.b.weight(0, 0, &[8, 1 << 16], DType::I8)?;
            let w = t.b.op(&kiln_ir::nn::OpKind::Cast { dtype: DType::F32 }, &[w])?[0];
            let y = t.b.contract(h, w, &ContractDims::matmul(0))?;
            t.b.reduce(kiln_ir::nn::ReduceKind::Max, y, &[1])
        });
        assert!(recipes(&graph).iter().all(Option::is_none));
    }
}
