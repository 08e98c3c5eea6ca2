//! Labels: what a node is, told without names of axes and without identities of weights.

use std::collections::BTreeMap;

use kiln_ir::DType;

use crate::axes::{AxisId, Graph, Kind, NodeId};

/// A label a node; equal labels mean equal ops on operands of equal form.
pub(super) struct Labels {
    of: Vec<u32>,
    is_constant: Vec<bool>,
}

impl Labels {
    pub(super) fn of(&self, id: NodeId) -> u32 {
        self.of[id.0 as usize]
    }

    /// Whether the node is made of constants and weights only.
    pub(super) fn is_constant(&self, id: NodeId) -> bool {
        self.is_constant[id.0 as usize]
    }

    /// Whether the node computes something from inputs.
    pub(super) fn is_work(&self, graph: &Graph, id: NodeId) -> bool {
        !self.is_constant(id) && !matches!(graph.node(id).kind, Kind::Input { .. })
    }
}

/// Axes are numbered in order of appearance, operands first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Signature {
    kind: Kind,
    dtype: DType,
    extents: Vec<u64>,
    operands: Vec<(Option<u32>, DType, Vec<AxisId>)>,
    result: Vec<AxisId>,
}

/// Labels all nodes, in order, so that a constant's label tells its whole recipe.
pub(super) fn labels(graph: &Graph) -> Labels {
    let mut known: BTreeMap<Signature, u32> = BTreeMap::new();
    let mut labels = Labels { of: Vec::new(), is_constant: Vec::new() };
    for node in &graph.nodes {
        let mut numbers: BTreeMap<AxisId, AxisId> = BTreeMap::new();
        let mut extents = Vec::new();
        let mut number = |axis: AxisId| {
            *numbers.entry(axis).or_insert_with(|| {
                extents.push(graph.extent(axis));
                AxisId(extents.len() as u32 - 1)
            })
        };
        let operands = node
            .operands
            .iter()
            .map(|&o| {
                let operand = graph.node(o);
                let label = labels.is_constant(o).then(|| labels.of(o));
                (label, operand.dtype, operand.axes.iter().map(|&a| number(a)).collect())
            })
            .collect();
        let kind = anonymous(node.kind.map_axes(&mut number));
        let result = node.axes.iter().map(|&a| number(a)).collect();
        let signature = Signature { kind, dtype: node.dtype, extents, operands, result };
        let next = known.len() as u32;
        labels.of.push(*known.entry(signature).or_insert(next));
        let is_source = matches!(node.kind, Kind::Input { .. } | Kind::Opaque { .. });
        let constant = !is_source && node.operands.iter().all(|&o| labels.is_constant(o));
        labels.is_constant.push(constant);
    }
    labels
}

/// The kind with a weight's place in its file left out.
pub(super) fn anonymous(kind: Kind) -> Kind {
    match kind {
        Kind::Weight { length, axes, .. } => Kind::Weight { file: 0, offset: 0, length, axes },
        other => other,
    }
}
