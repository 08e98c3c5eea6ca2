//! Nodes become ops: what each computes, and what its operands are.

use std::collections::BTreeSet;

use kiln_ir::nn::{MapKind, OpKind as NnOp};
use kiln_ir::types::{DType, Scalar};

use super::{ArrayKind, Home, Kernel, KernelOp, Source, Value, ValueId, Work, chip_dtype};
use crate::axes::{AxisId, Graph, Kind, NodeId, TopKPart};
use crate::grouping::order;
use crate::grouping::recipe::{self, Recipe};
use crate::lower::LowerError;

/// The one value of all elements of a constant, where they are equal.
fn splat(dtype: DType, bytes: &[u8]) -> Option<Scalar> {
    let size = dtype.size_bytes();
    let first = bytes.get(..size)?;
    if !bytes.chunks_exact(size).all(|c| c == first) {
        return None;
    }
    Some(match dtype {
        DType::F32 => Scalar::float(f64::from(f32::from_le_bytes(first.try_into().ok()?))),
        DType::F64 => Scalar::float(f64::from_le_bytes(first.try_into().ok()?)),
        DType::F16 => Scalar::float(half::f16::from_le_bytes(first.try_into().ok()?).to_f64()),
        DType::BF16 => Scalar::float(half::bf16::from_le_bytes(first.try_into().ok()?).to_f64()),
        DType::I32 => Scalar::Int(i64::from(i32::from_le_bytes(first.try_into().ok()?))),
        DType::I64 => Scalar::Int(i64::from_le_bytes(first.try_into().ok()?)),
        DType::I16 => Scalar::Int(i64::from(i16::from_le_bytes(first.try_into().ok()?))),
        DType::U16 => Scalar::Int(i64::from(u16::from_le_bytes(first.try_into().ok()?))),
        DType::U32 => Scalar::Int(i64::from(u32::from_le_bytes(first.try_into().ok()?))),
        DType::I8 => Scalar::Int(i64::from(first[0] as i8)),
        DType::U8 | DType::Bool => Scalar::Int(i64::from(first[0])),
        _ => return None,
    })
}

/// A kernel in the making.
pub(super) struct Maker<'g> {
    pub(super) k: Kernel<'g>,
    pub(super) live: Vec<bool>,
    pub(super) recipes: Vec<Option<Recipe>>,
    /// Axes of each node in the order that its storage has.
    pub(super) orders: Vec<Vec<AxisId>>,
    /// Storage that a consumer wants a computed node to have.
    pub(super) claims: Vec<Option<Home>>,
}

impl<'g> Maker<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let values = graph
            .nodes
            .iter()
            .map(|n| Value {
                axes: n.axes.clone(),
                dtype: chip_dtype(n.dtype),
                home: None,
                writers: Vec::new(),
                producer: None,
                is_stored: false,
            })
            .collect();
        let recipes = recipe::recipes(graph);
        let mut live = vec![false; graph.nodes.len()];
        for port in &graph.outputs {
            live[port.node.0 as usize] = true;
        }
        for i in (0..graph.nodes.len()).rev() {
            if live[i] && recipes[i].is_none() {
                graph.nodes[i].operands.iter().for_each(|o| live[o.0 as usize] = true);
            }
        }
        let claims = vec![None; graph.nodes.len()];
        let k = Kernel { graph, arrays: Vec::new(), values, ops: Vec::new() };
        Maker { k, live, recipes, orders: order::orders(graph), claims }
    }

    /// All nodes in order.
    pub(super) fn make(mut self) -> Result<Kernel<'g>, LowerError> {
        self.claim_outputs();
        self.claim_backwards();
        for i in 0..self.k.graph.nodes.len() {
            if self.live[i] {
                self.node(i)?;
            }
        }
        self.write_outputs();
        Ok(self.k)
    }

    pub(super) fn op(
        &mut self,
        work: Work,
        ins: Vec<Source>,
        outs: Vec<ValueId>,
        origins: BTreeSet<u32>,
    ) -> usize {
        self.k.ops.push(KernelOp { work, ins, outs, origins, after: Vec::new() });
        self.k.ops.len() - 1
    }

    fn compute(&mut self, i: usize, work: Work, ins: Vec<Source>) {
        let origins = self.k.graph.nodes[i].origins.clone();
        let op = self.op(work, ins, vec![i], origins);
        self.k.values[i].producer = Some(op);
        self.k.values[i].writers = vec![op];
        self.home(i);
    }

    /// A broadcast is its operand: consumers repeat it along what it lacks.
    pub(super) fn through_broadcast(&self, mut node: NodeId) -> NodeId {
        while let Kind::Broadcast { .. } = self.k.graph.node(node).kind {
            node = self.k.graph.node(node).operands[0];
        }
        node
    }

    fn source(&self, node: NodeId) -> Source {
        let node = self.through_broadcast(node);
        let n = self.k.graph.node(node);
        if let Kind::Const { id, .. } = &n.kind
            && let Some(scalar) = splat(n.dtype, self.k.graph.const_bytes(*id))
        {
            return Source::Scalar(scalar);
        }
        Source::Value(node.0 as usize)
    }

    /// As [`Maker::source`], for operands that cannot be immediates.
    fn tensor(&self, node: NodeId) -> Source {
        Source::Value(self.through_broadcast(node).0 as usize)
    }

    /// As [`Maker::tensor`], for an operand that must have `axes`: one that does not vary along some of them is read
    /// from its storage, once for each index of those. A chain along them then has as many steps as it is written to
    /// have, which a sum of the other operand would not.
    fn tensor_over(&mut self, node: NodeId, axes: &[AxisId]) -> Source {
        let below = self.through_broadcast(node);
        let lacked_by = |n: NodeId| -> Vec<AxisId> {
            let has = &self.k.graph.node(n).axes;
            axes.iter().filter(|a| !has.contains(a)).copied().collect()
        };
        if lacked_by(below).is_empty() {
            return Source::Value(below.0 as usize);
        }
        if lacked_by(node).is_empty() {
            return Source::Value(node.0 as usize);
        }
        let lacked = lacked_by(below);
        let below = below.0 as usize;
        self.store(below);
        let Value { dtype, home, writers, .. } = self.k.values[below].clone();
        let axes = [self.ordered(below), lacked].concat();
        self.k.values.push(Value { axes, dtype, home, writers, producer: None, is_stored: true });
        Source::Value(self.k.values.len() - 1)
    }

    fn node(&mut self, i: usize) -> Result<(), LowerError> {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        if let Some(recipe) = &self.recipes[i] {
            let kind = match recipe {
                Recipe::Placed(parts) => ArrayKind::Placed(parts.clone()),
                Recipe::Folded => ArrayKind::Fold(NodeId(i as u32)),
            };
            let home = self.array(kind, node.dtype, &node.axes);
            self.k.values[i].home = Some(home);
            return Ok(());
        }
        if self.k.values[i].producer.is_some() {
            // The second result of an op that stands before.
            return Ok(());
        }
        let unsupported = |what: &str| LowerError::Unsupported {
            what: what.to_string(),
            origin: node.origins.iter().filter_map(|&o| graph.names.get_index(o as usize)).cloned().collect(),
        };
        match &node.kind {
            Kind::Input { index, axes } => {
                let home = self.array(ArrayKind::Input(*index as usize), node.dtype, axes);
                self.k.arrays[home.array].shape =
                    graph.inputs.get(*index as usize).map_or_else(Vec::new, |p| {
                        p.dims.iter().map(|d| d.iter().map(|&a| graph.extent(a)).product()).collect()
                    });
                self.k.values[i].home = Some(home);
            }
            Kind::Weight { file, offset, axes, .. } => {
                let home = self.array(ArrayKind::Weight { file: *file, offset: *offset }, node.dtype, axes);
                self.k.values[i].home = Some(home);
            }
            Kind::Const { axes, .. } => {
                let home = self.array(ArrayKind::Fold(NodeId(i as u32)), node.dtype, axes);
                self.k.values[i].home = Some(home);
            }
            Kind::Slice { .. }
            | Kind::Reverse { .. }
            | Kind::Rename { .. }
            | Kind::Broadcast { .. }
            | Kind::Relayout { .. } => {
                self.view(i);
            }
            Kind::Concat { from, to } => self.concat(i, from, *to),
            Kind::Pad { from, to, low, value } => self.pad(i, *from, *to, *low, *value),
            kind => {
                if matches!(node.dtype, DType::F64 | DType::I64 | DType::U64) {
                    return Err(unsupported(&format!("arithmetic on {:?}", node.dtype)));
                }
                let (work, ins) = self.work(i, kind).ok_or_else(|| unsupported(kind.name()))?;
                self.compute(i, work, ins);
                if matches!(kind, Kind::TopK { .. }) {
                    self.second_result(i);
                }
            }
        }
        Ok(())
    }

    /// A selection makes values and indices. Where the graph wants both, they are the results of one op; one that it
    /// does not want lives on chip only.
    fn second_result(&mut self, i: usize) {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let Kind::TopK { axis, to, largest, part } = node.kind else { return };
        let Some(op) = self.k.values[i].producer else { return };
        let (missing, dtype) = match part {
            TopKPart::Values => (TopKPart::Indices, DType::I32),
            TopKPart::Indices => (TopKPart::Values, self.k.values[node.operands[0].0 as usize].dtype),
        };
        let twin = Kind::TopK { axis, to, largest, part: missing };
        let is_twin = |j: &usize| graph.nodes[*j].kind == twin && graph.nodes[*j].operands == node.operands;
        let other = match (i + 1..graph.nodes.len())
            .filter(|&j| self.live[j] && self.recipes[j].is_none())
            .find(is_twin)
        {
            Some(j) => {
                self.k.values[j].producer = Some(op);
                self.k.values[j].writers = vec![op];
                self.k.ops[op].origins.extend(&graph.nodes[j].origins);
                self.home(j);
                j
            }
            None => {
                self.k.values.push(Value {
                    axes: self.k.values[i].axes.clone(),
                    dtype,
                    home: None,
                    writers: Vec::new(),
                    producer: Some(op),
                    is_stored: false,
                });
                self.k.values.len() - 1
            }
        };
        self.k.ops[op].outs = if part == TopKPart::Values { vec![i, other] } else { vec![other, i] };
    }

    /// The operands of a map: no instruction takes numbers alone.
    fn sources(&mut self, operands: &[NodeId]) -> Vec<Source> {
        let mut sources: Vec<Source> = operands.iter().map(|&operand| self.source(operand)).collect();
        if sources.iter().all(|source| matches!(source, Source::Scalar(_))) {
            sources[0] = self.tensor(operands[0]);
        }
        sources
    }

    fn work(&mut self, i: usize, kind: &Kind) -> Option<(Work, Vec<Source>)> {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let dtype_of = |n: NodeId| graph.node(n).dtype;
        let zero = |d: DType| if kiln_ir::types::is_float(d) { Scalar::float(0.0) } else { Scalar::Int(0) };
        Some(match kind {
            Kind::Map(MapKind::Not) if node.dtype == DType::Bool => {
                (Work::Map(MapKind::Eq), vec![self.source(node.operands[0]), Source::Scalar(Scalar::Int(0))])
            }
            Kind::Map(k) => (Work::Map(*k), self.sources(&node.operands)),
            Kind::Cast if node.dtype == DType::Bool => {
                let from = zero(dtype_of(node.operands[0]));
                (Work::Map(MapKind::Ne), vec![self.source(node.operands[0]), Source::Scalar(from)])
            }
            Kind::Cast => match self.source(node.operands[0]) {
                Source::Scalar(s) => (Work::Fill(s), Vec::new()),
                source => (Work::Cast, vec![source]),
            },
            Kind::Ein { contracted, .. } if contracted.is_empty() => {
                (Work::Map(MapKind::Mul), self.sources(&node.operands))
            }
            Kind::Ein { contracted, .. } => {
                // The array sums over what both operands have.
                let ins = node.operands.iter().map(|&o| self.tensor_over(o, contracted)).collect();
                (Work::Contract(contracted.clone()), ins)
            }
            Kind::Reduce { kind, axes } => {
                (Work::Reduce(*kind, axes.clone()), vec![self.tensor_over(node.operands[0], axes)])
            }
            Kind::Scan { kind, axis, exclusive, reverse } => (
                Work::Scan { kind: *kind, axis: *axis, exclusive: *exclusive, reverse: *reverse },
                vec![self.tensor_over(node.operands[0], &[*axis])],
            ),
            Kind::Iota { axis } => (Work::Iota(*axis), Vec::new()),
            Kind::Gather { axis } => {
                let data = self.through_broadcast(node.operands[0]).0 as usize;
                (Work::Gather { data, axis: *axis }, vec![self.tensor(node.operands[1])])
            }
            Kind::TopK { axis, to, largest, .. } => (
                Work::TopK { axis: *axis, to: *to, largest: *largest },
                vec![self.tensor_over(node.operands[0], &[*axis])],
            ),
            Kind::Opaque { op, .. } => match **op {
                NnOp::Conv { .. } => return None,
                _ => return None,
            },
            _ => return None,
        })
    }
}
