//! Where each value lies: arrays of its own, parts of what its reader joins, or strides on the storage of its operand.

use std::collections::{BTreeMap, BTreeSet};

use kiln_ir::types::{DType, Scalar};

use super::maker::Maker;
use super::{Array, ArrayKind, Home, Source, Value, ValueId, Work, chip_dtype};
use crate::axes::{AxisId, Graph, Kind, NodeId};

fn row_major(graph: &Graph, axes: &[AxisId]) -> BTreeMap<AxisId, i64> {
    let mut strides = BTreeMap::new();
    let mut stride = 1;
    for &axis in axes.iter().rev() {
        strides.insert(axis, stride);
        stride *= graph.extent(axis) as i64;
    }
    strides
}

/// Whether a node is made by an op (rather than being storage or a view of it).
fn computes(kind: &Kind) -> bool {
    use Kind::*;
    matches!(
        kind,
        Iota { .. }
            | Map(_)
            | Cast
            | Ein { .. }
            | Reduce { .. }
            | Scan { .. }
            | Gather { .. }
            | TopK { .. }
            | Opaque { .. }
    )
}

impl Maker<'_> {
    pub(super) fn array(&mut self, kind: ArrayKind, dtype: DType, axes: &[AxisId]) -> Home {
        let shape = axes.iter().map(|&a| self.k.graph.extent(a)).collect();
        self.k.arrays.push(Array { kind, dtype: chip_dtype(dtype), shape });
        Home { array: self.k.arrays.len() - 1, offset: 0, strides: row_major(self.k.graph, axes) }
    }

    fn is_claimable(&self, node: NodeId) -> bool {
        let i = node.0 as usize;
        let kind = &self.k.graph.node(node).kind;
        self.claims[i].is_none()
            && self.recipes[i].is_none()
            && (computes(kind) || matches!(kind, Kind::Concat { .. } | Kind::Pad { .. }))
    }

    /// A result's storage is what makes it, where that is an op.
    pub(super) fn claim_outputs(&mut self) {
        let graph = self.k.graph;
        for (i, port) in graph.outputs.iter().enumerate() {
            let axes: Vec<AxisId> = port.dims.iter().flatten().copied().collect();
            let node = graph.node(port.node);
            let shape: Vec<u64> =
                port.dims.iter().map(|d| d.iter().map(|&a| graph.extent(a)).product()).collect();
            let home = self.array(ArrayKind::Output(i), node.dtype, &axes);
            self.k.arrays[home.array].shape = shape;
            let same: BTreeSet<_> = node.axes.iter().collect();
            if self.is_claimable(port.node) && same == axes.iter().collect() {
                self.claims[port.node.0 as usize] = Some(home);
            }
        }
    }

    /// Concatenations and paddings hand parts of their storage to the producers of their operands; a row-major
    /// re-reading asks for a layout.
    pub(super) fn claim_backwards(&mut self) {
        let graph = self.k.graph;
        for i in (0..graph.nodes.len()).rev() {
            let node = &graph.nodes[i];
            if !self.live[i] || self.recipes[i].is_some() {
                continue;
            }
            match &node.kind {
                Kind::Concat { from, to } => {
                    let home = self.claim_or_temp(i);
                    let mut at = 0;
                    for (&operand, from) in node.operands.iter().zip(from) {
                        let piece = piece(&home, *from, *to, at);
                        at += from.map_or(1, |a| graph.extent(a));
                        self.claim_piece(operand, piece);
                    }
                }
                Kind::Pad { from, to, low, .. } => {
                    let home = self.claim_or_temp(i);
                    self.claim_piece(node.operands[0], piece(&home, *from, *to, *low));
                }
                Kind::Relayout { from, .. } if self.is_claimable(node.operands[0]) => {
                    let source = graph.node(node.operands[0]);
                    let mut axes: Vec<AxisId> =
                        source.axes.iter().copied().filter(|a| !from.contains(a)).collect();
                    axes.extend(from);
                    let home = self.array(ArrayKind::Temp, source.dtype, &axes);
                    self.claims[node.operands[0].0 as usize] = Some(home);
                }
                _ => {}
            }
        }
    }

    fn claim_or_temp(&mut self, i: usize) -> Home {
        if self.claims[i].is_none() {
            let node = &self.k.graph.nodes[i];
            let axes = self.ordered(i);
            self.claims[i] = Some(self.array(ArrayKind::Temp, node.dtype, &axes));
        }
        self.claims[i].clone().unwrap_or_else(|| Home { array: 0, offset: 0, strides: BTreeMap::new() })
    }

    fn claim_piece(&mut self, operand: NodeId, piece: Home) {
        let same = self.k.graph.node(operand).axes.iter().copied().collect::<BTreeSet<_>>()
            == piece.strides.keys().copied().collect();
        if same && self.is_claimable(operand) {
            self.claims[operand.0 as usize] = Some(piece);
        }
    }

    /// The axes of a value in the order that its storage has.
    pub(super) fn ordered(&self, v: ValueId) -> Vec<AxisId> {
        self.orders.get(v).unwrap_or(&self.k.values[v].axes).clone()
    }

    /// Storage of value `v`, fresh where nothing claims it.
    pub(super) fn home(&mut self, v: ValueId) -> Home {
        if let Some(home) = &self.k.values[v].home {
            return home.clone();
        }
        let home = match self.claims.get(v).cloned().flatten() {
            Some(home) => home,
            None => {
                let (dtype, axes) = (self.k.values[v].dtype, self.ordered(v));
                self.array(ArrayKind::Temp, dtype, &axes)
            }
        };
        self.k.values[v].home = Some(home.clone());
        home
    }

    /// Marks the storage of `v` as read by an address computation.
    pub(super) fn store(&mut self, v: ValueId) {
        self.home(v);
        self.k.values[v].is_stored = true;
    }

    pub(super) fn view(&mut self, i: usize) {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let mut source = node.operands[0].0 as usize;
        if let Kind::Broadcast { .. } = node.kind {
            // Read through wherever it is an operand; as storage it repeats.
            source = self.through_broadcast(node.operands[0]).0 as usize;
        }
        if let Kind::Relayout { from, .. } = &node.kind
            && !self.is_row_major(source, from)
        {
            source = self.copy_to_layout(source, from, &node.origins);
        }
        self.store(source);
        let mut home = self.home(source);
        match &node.kind {
            Kind::Slice { from, to, start, stride } => {
                let step = home.strides.remove(from).unwrap_or(0);
                home.offset += step * *start as i64;
                if let Some(to) = to {
                    home.strides.insert(*to, step * *stride as i64);
                }
            }
            Kind::Reverse { axis } => {
                let step = home.stride(*axis);
                home.offset += step * (graph.extent(*axis) as i64 - 1);
                home.strides.insert(*axis, -step);
            }
            Kind::Rename { pairs } => {
                let moved: Vec<(AxisId, i64)> = pairs
                    .iter()
                    .filter_map(|(old, new)| home.strides.remove(old).map(|s| (*new, s)))
                    .collect();
                home.strides.extend(moved);
            }
            Kind::Relayout { from, to } => {
                let step = from.last().map_or(1, |a| home.stride(*a));
                for a in from {
                    home.strides.remove(a);
                }
                home.strides.extend(row_major(graph, to).into_iter().map(|(a, s)| (a, s * step)));
            }
            _ => {}
        }
        self.k.values[i].home = Some(home);
        self.k.values[i].writers = self.k.values[source].writers.clone();
    }

    fn is_row_major(&mut self, v: ValueId, order: &[AxisId]) -> bool {
        let home = self.home(v);
        let extent = |a: &AxisId| self.k.graph.extent(*a) as i64;
        order.windows(2).all(|w| home.stride(w[0]) == home.stride(w[1]) * extent(&w[1]))
    }

    /// A copy of `v` that is row-major over `order` innermost.
    fn copy_to_layout(&mut self, v: ValueId, order: &[AxisId], origins: &BTreeSet<u32>) -> ValueId {
        let mut axes: Vec<AxisId> =
            self.k.values[v].axes.iter().copied().filter(|a| !order.contains(a)).collect();
        axes.extend(order);
        let dtype = self.k.values[v].dtype;
        let home = self.array(ArrayKind::Temp, dtype, &axes);
        self.copy(v, home, axes, origins.clone())
    }

    /// A copy of `v` into `home`.
    fn copy(&mut self, v: ValueId, home: Home, axes: Vec<AxisId>, origins: BTreeSet<u32>) -> ValueId {
        let v = match self.k.graph.nodes.get(v).map(|n| &n.kind) {
            Some(Kind::Broadcast { .. }) => self.through_broadcast(NodeId(v as u32)).0 as usize,
            _ => v,
        };
        self.store(v);
        let dtype = self.k.values[v].dtype;
        let target = self.k.values.len();
        self.k.values.push(Value {
            axes,
            dtype,
            home: Some(home),
            writers: Vec::new(),
            producer: None,
            is_stored: true,
        });
        let op = self.op(Work::Copy, vec![Source::Value(v)], vec![target], origins);
        self.k.values[target].writers = vec![op];
        target
    }

    pub(super) fn concat(&mut self, i: usize, from: &[Option<AxisId>], to: AxisId) {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let home = self.home(i);
        let mut at = 0;
        for (&operand, from) in node.operands.iter().zip(from) {
            let part = piece(&home, *from, to, at);
            at += from.map_or(1, |a| graph.extent(a));
            self.fill_piece(i, operand, part);
        }
        self.k.values[i].is_stored = true;
    }

    /// Makes sure that `operand` lies at `part` of node `i`'s storage.
    fn fill_piece(&mut self, i: usize, operand: NodeId, part: Home) {
        let v = operand.0 as usize;
        let writers = if self.k.values[v].home.as_ref() == Some(&part) {
            self.k.values[v].is_stored = true;
            self.k.values[v].writers.clone()
        } else {
            let axes: Vec<AxisId> = part.strides.keys().copied().collect();
            let origins = self.k.graph.nodes[i].origins.clone();
            let copied = self.copy(v, part, axes, origins);
            self.k.values[copied].writers.clone()
        };
        self.k.values[i].writers.extend(writers);
    }

    pub(super) fn pad(&mut self, i: usize, from: Option<AxisId>, to: AxisId, low: u64, value: Scalar) {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let home = self.home(i);
        self.fill_piece(i, node.operands[0], piece(&home, from, to, low));
        let inner = from.map_or(1, |a| graph.extent(a));
        let high = graph.extent(to) - low - inner;
        for (start, size) in [(0, low), (low + inner, high)] {
            if size == 0 {
                continue;
            }
            // The border is a value of its own over the other axes, one slab at a time.
            for slab in 0..size {
                let part = piece(&home, None, to, start + slab);
                let axes: Vec<AxisId> = part.strides.keys().copied().collect();
                let target = self.k.values.len();
                let (dtype, home) = (self.k.values[i].dtype, Some(part));
                self.k.values.push(Value {
                    axes,
                    dtype,
                    home,
                    writers: Vec::new(),
                    producer: None,
                    is_stored: true,
                });
                let op = self.op(Work::Fill(value), Vec::new(), vec![target], node.origins.clone());
                self.k.values[target].producer = Some(op);
                self.k.values[target].writers = vec![op];
                self.k.values[i].writers.push(op);
            }
        }
        self.k.values[i].is_stored = true;
    }

    pub(super) fn write_outputs(&mut self) {
        let graph = self.k.graph;
        for (i, port) in graph.outputs.iter().enumerate() {
            let Some(array) = self.k.arrays.iter().position(|a| a.kind == ArrayKind::Output(i)) else {
                continue;
            };
            let axes: Vec<AxisId> = port.dims.iter().flatten().copied().collect();
            if graph.elements(&axes) == 0 {
                continue;
            }
            let home = Home { array, offset: 0, strides: row_major(graph, &axes) };
            let v = port.node.0 as usize;
            if self.k.values[v].home.as_ref() == Some(&home) {
                self.k.values[v].is_stored = true;
                continue;
            }
            self.copy(v, home, axes, graph.node(port.node).origins.clone());
        }
    }
}

/// The part of `home` where `from` stands from `at` on along `to`.
fn piece(home: &Home, from: Option<AxisId>, to: AxisId, at: u64) -> Home {
    let mut part = home.clone();
    let step = part.strides.remove(&to).unwrap_or(0);
    part.offset += step * at as i64;
    if let Some(from) = from {
        part.strides.insert(from, step);
    }
    part
}
