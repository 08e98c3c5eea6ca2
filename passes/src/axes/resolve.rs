//! The second half of `nn` → named axes: every atom becomes the axes it stands for in the end.

use kiln_ir::DType;
use kiln_ir::nn::{self, MapKind};

use super::atoms::{Atom, Atoms};
use super::from_nn::{Draft, Value};
use super::graph::{AxisId, Dim, Graph, Kind, NodeId, Origins, Port};
use super::number;

/// Builds the graph of the drafts that the outputs need; every input stays.
pub(super) fn resolve(
    atoms: Atoms,
    drafts: Vec<Draft>,
    graph: Graph,
    inputs: Vec<(Value, nn::Port)>,
    outputs: Vec<(Value, nn::Port)>,
) -> Graph {
    let mut live = vec![false; drafts.len()];
    let mut stack: Vec<usize> = inputs.iter().chain(&outputs).map(|(v, _)| v.draft).collect();
    while let Some(d) = stack.pop() {
        if !std::mem::replace(&mut live[d], true) {
            stack.extend(&drafts[d].operands);
        }
    }
    let mut r = Resolver { atoms, axis_of: Vec::new(), graph };
    let mut nodes: Vec<Option<NodeId>> = Vec::with_capacity(drafts.len());
    for (draft, live) in drafts.iter().zip(live) {
        let node = live.then(|| {
            let operands: Vec<NodeId> = draft.operands.iter().filter_map(|&o| nodes[o]).collect();
            r.node(draft, operands)
        });
        nodes.push(node);
    }
    let ports = |r: &mut Resolver, values: Vec<(Value, nn::Port)>| -> Vec<Port> {
        values
            .into_iter()
            .filter_map(|(v, outside)| {
                let dims = v.dims.iter().map(|d| r.axes_of_atoms(d)).collect();
                Some(Port { node: nodes[v.draft]?, dims, outside })
            })
            .collect()
    };
    let (inputs, outputs) = (ports(&mut r, inputs), ports(&mut r, outputs));
    Graph { inputs, outputs, ..r.graph }
}

struct Resolver {
    atoms: Atoms,
    axis_of: Vec<Option<AxisId>>,
    graph: Graph,
}

impl Resolver {
    fn axes_of_atoms(&mut self, atoms: &[Atom]) -> Vec<AxisId> {
        let leaves = self.atoms.resolve(atoms);
        leaves
            .into_iter()
            .map(|leaf| {
                let i = leaf as usize;
                if self.axis_of.len() <= i {
                    self.axis_of.resize(i + 1, None);
                }
                match self.axis_of[i] {
                    Some(axis) => axis,
                    None => {
                        let axis = self.graph.add_axis(self.atoms.extent(leaf));
                        self.axis_of[i] = Some(axis);
                        axis
                    }
                }
            })
            .collect()
    }

    /// Drafts hold atoms where the graph has axes.
    fn axes(&mut self, drafted: &[AxisId]) -> Vec<AxisId> {
        let atoms: Vec<Atom> = drafted.iter().map(|a| a.0).collect();
        self.axes_of_atoms(&atoms)
    }

    fn dims(&mut self, drafted: &[Dim]) -> Vec<Dim> {
        drafted.iter().map(|d| self.axes(d)).collect()
    }

    fn node(&mut self, draft: &Draft, operands: Vec<NodeId>) -> NodeId {
        let emit = Emit { dtype: draft.dtype, origins: draft.origins.clone() };
        match &draft.kind {
            Kind::Input { index, axes } => {
                let kind = Kind::Input { index: *index, axes: self.axes(axes) };
                emit.add(self, kind, operands)
            }
            Kind::Weight { file, offset, length, axes } => {
                let kind =
                    Kind::Weight { file: *file, offset: *offset, length: *length, axes: self.axes(axes) };
                emit.add(self, kind, operands)
            }
            Kind::Const { id, axes } => {
                let kind = Kind::Const { id: *id, axes: self.axes(axes) };
                emit.add(self, kind, operands)
            }
            Kind::Iota { axis } => {
                let axes = self.axes(&[*axis]);
                self.iota(&emit, &axes)
            }
            Kind::Map(_) | Kind::Cast => emit.add(self, draft.kind.clone(), operands),
            Kind::Ein { contracted, acc } => {
                let contracted = self.axes(contracted);
                let (a, b) = (operands[0], operands[1]);
                let missing: Vec<AxisId> = contracted
                    .iter()
                    .filter(|x| !self.graph.node(a).axes.contains(x) && !self.graph.node(b).axes.contains(x))
                    .copied()
                    .collect();
                let a = self.present(&emit, a, &missing);
                emit.add(self, Kind::Ein { contracted, acc: *acc }, vec![a, b])
            }
            Kind::Reduce { kind, axes } => {
                let axes = self.axes(axes);
                let x = self.present(&emit, operands[0], &axes);
                emit.add(self, Kind::Reduce { kind: *kind, axes }, vec![x])
            }
            Kind::Scan { kind, axis, exclusive, reverse } => {
                let axes = self.axes(&[*axis]);
                let x = self.present(&emit, operands[0], &axes);
                let (x, axis) = self.collapse(&emit, x, &axes);
                let scan = Kind::Scan { kind: *kind, axis, exclusive: *exclusive, reverse: *reverse };
                emit.add(self, scan, vec![x])
            }
            Kind::Slice { from, to, start, stride } => {
                let to: Vec<AxisId> = to.iter().copied().collect();
                self.slice(&emit, operands[0], *from, &to, *start, *stride)
            }
            Kind::Pad { from, to, low, value } => {
                let mut from: Vec<AxisId> = from.map(|f| self.axes(&[f])).unwrap_or_default();
                let mut to = self.axes(&[*to]);
                let inner = self.strip(&mut [&mut from, &mut to]);
                let mut x = self.present(&emit, operands[0], &from);
                let mut one = None;
                if !from.is_empty() {
                    let (collapsed, axis) = self.collapse(&emit, x, &from);
                    (x, one) = (collapsed, Some(axis));
                }
                self.widen(
                    &emit,
                    to,
                    |to| Kind::Pad { from: one, to, low: low / inner, value: *value },
                    vec![x],
                )
            }
            Kind::Concat { from, to } => {
                let mut lists: Vec<Vec<AxisId>> =
                    from.iter().map(|f| f.map(|f| self.axes(&[f])).unwrap_or_default()).collect();
                lists.push(self.axes(&[*to]));
                self.strip(&mut lists.iter_mut().collect::<Vec<_>>());
                let to = lists.pop().unwrap_or_default();
                let mut parts = Vec::new();
                let mut singles = Vec::new();
                for (x, list) in operands.into_iter().zip(lists) {
                    if list.len() > 1 {
                        let x = self.present(&emit, x, &list);
                        let (x, axis) = self.collapse(&emit, x, &list);
                        parts.push(x);
                        singles.push(Some(axis));
                    } else {
                        parts.push(x);
                        singles.push(list.first().copied());
                    }
                }
                self.widen(&emit, to, |to| Kind::Concat { from: singles, to }, parts)
            }
            Kind::Reverse { axis } => {
                let axes = self.axes(&[*axis]);
                if axes.iter().all(|a| !self.graph.node(operands[0]).axes.contains(a)) {
                    return operands[0];
                }
                let x = self.present(&emit, operands[0], &axes);
                let (x, axis) = self.collapse(&emit, x, &axes);
                emit.add(self, Kind::Reverse { axis }, vec![x])
            }
            Kind::Gather { axis } => {
                let axes = self.axes(&[*axis]);
                if axes.iter().all(|a| !self.graph.node(operands[0]).axes.contains(a)) {
                    return operands[0];
                }
                let x = self.present(&emit, operands[0], &axes);
                let (x, axis) = self.collapse(&emit, x, &axes);
                emit.add(self, Kind::Gather { axis }, vec![x, operands[1]])
            }
            Kind::Rename { pairs } => {
                let (old, new): (Vec<AxisId>, Vec<AxisId>) = pairs.iter().copied().unzip();
                let (old, new) = (self.axes(&old), self.axes(&new));
                self.rename(&emit, operands[0], &old, &new)
            }
            Kind::Relayout { from, to } => {
                let (from, to) = (self.axes(from), self.axes(to));
                self.relayout(&emit, operands[0], from, to)
            }
            Kind::Broadcast { axes } => {
                let axes = self.axes(axes);
                self.present(&emit, operands[0], &axes)
            }
            Kind::TopK { axis, to, largest, part } => {
                let axes = self.axes(&[*axis]);
                let to = to.and_then(|t| self.axes(&[t]).first().copied());
                let x = self.present(&emit, operands[0], &axes);
                let (x, axis) = self.collapse(&emit, x, &axes);
                emit.add(self, Kind::TopK { axis, to, largest: *largest, part: *part }, vec![x])
            }
            Kind::Opaque { op, operands: dims, results, result } => {
                let dims: Vec<Vec<Dim>> = dims.iter().map(|d| self.dims(d)).collect();
                let results = results.iter().map(|d| self.dims(d)).collect();
                let operands = operands
                    .into_iter()
                    .zip(&dims)
                    .map(|(x, dims)| self.present(&emit, x, &dims.concat()))
                    .collect();
                emit.add(
                    self,
                    Kind::Opaque { op: op.clone(), operands: dims, results, result: *result },
                    operands,
                )
            }
        }
    }

    /// Removes the axes that all lists share at their inner end; their number of elements.
    fn strip(&self, lists: &mut [&mut Vec<AxisId>]) -> u64 {
        let mut inner = 1;
        while let Some(&last) = lists[0].last() {
            if !lists.iter().all(|l| l.last() == Some(&last)) {
                break;
            }
            lists.iter_mut().for_each(|l| {
                l.pop();
            });
            inner *= self.graph.extent(last);
        }
        inner
    }

    fn slice(
        &mut self,
        emit: &Emit,
        x: NodeId,
        from: AxisId,
        to: &[AxisId],
        start: u64,
        stride: u64,
    ) -> NodeId {
        let (mut from, mut to) = (self.axes(&[from]), self.axes(to));
        let inner = self.strip(&mut [&mut from, &mut to]);
        if from == to || from.iter().all(|a| !self.graph.node(x).axes.contains(a)) {
            return x;
        }
        let x = self.present(emit, x, &from);
        let (x, axis) = self.collapse(emit, x, &from);
        let start = start / inner;
        match to.as_slice() {
            [] => emit.add(self, Kind::Slice { from: axis, to: None, start, stride }, vec![x]),
            _ => self.widen(emit, to, |to| Kind::Slice { from: axis, to: Some(to), start, stride }, vec![x]),
        }
    }

    /// A node whose one new axis stands for `to`: directly, or read again as several.
    fn widen(
        &mut self,
        emit: &Emit,
        to: Vec<AxisId>,
        kind: impl FnOnce(AxisId) -> Kind,
        operands: Vec<NodeId>,
    ) -> NodeId {
        if let &[axis] = to.as_slice() {
            return emit.add(self, kind(axis), operands);
        }
        let extent = self.graph.elements(&to);
        let axis = self.graph.add_axis(extent);
        let node = emit.add(self, kind(axis), operands);
        emit.add(self, Kind::Relayout { from: vec![axis], to }, vec![node])
    }

    /// The value with `axes` read as a single one.
    fn collapse(&mut self, emit: &Emit, x: NodeId, axes: &[AxisId]) -> (NodeId, AxisId) {
        if let &[axis] = axes {
            return (x, axis);
        }
        let extent = self.graph.elements(axes);
        let axis = self.graph.add_axis(extent);
        (emit.add(self, Kind::Relayout { from: axes.to_vec(), to: vec![axis] }, vec![x]), axis)
    }

    /// The value with all of `axes`, repeated along those it lacks.
    fn present(&mut self, emit: &Emit, x: NodeId, axes: &[AxisId]) -> NodeId {
        let has = &self.graph.node(x).axes;
        let missing: Vec<AxisId> = axes.iter().filter(|a| !has.contains(a)).copied().collect();
        if missing.is_empty() {
            return x;
        }
        let dtype = self.graph.node(x).dtype;
        self.graph.add(Kind::Broadcast { axes: missing }, vec![x], dtype, emit.origins.clone())
    }

    fn relayout(&mut self, emit: &Emit, x: NodeId, mut from: Vec<AxisId>, mut to: Vec<AxisId>) -> NodeId {
        self.strip(&mut [&mut from, &mut to]);
        if from == to {
            return x;
        }
        let x = self.present(emit, x, &from);
        emit.add(self, Kind::Relayout { from, to }, vec![x])
    }

    fn rename(&mut self, emit: &Emit, x: NodeId, old: &[AxisId], new: &[AxisId]) -> NodeId {
        let same_extents = old.len() == new.len()
            && old.iter().zip(new).all(|(&a, &b)| self.graph.extent(a) == self.graph.extent(b));
        if !same_extents {
            return self.relayout(emit, x, old.to_vec(), new.to_vec());
        }
        let node = self.graph.node(x);
        let pairs: Vec<(AxisId, AxisId)> = old
            .iter()
            .zip(new)
            .filter(|(a, b)| a != b && node.axes.contains(a))
            .map(|(&a, &b)| (a, b))
            .collect();
        if pairs.is_empty() {
            return x;
        }
        let renamed = |axes: &[AxisId]| -> Vec<AxisId> {
            axes.iter().map(|a| pairs.iter().find(|(o, _)| o == a).map_or(*a, |(_, n)| *n)).collect()
        };
        // Storage is read under any names.
        let kind = match &node.kind {
            Kind::Weight { file, offset, length, axes } => {
                Kind::Weight { file: *file, offset: *offset, length: *length, axes: renamed(axes) }
            }
            Kind::Const { id, axes } => Kind::Const { id: *id, axes: renamed(axes) },
            Kind::Iota { axis } => Kind::Iota { axis: renamed(&[*axis])[0] },
            _ => return emit.add(self, Kind::Rename { pairs }, vec![x]),
        };
        emit.add(self, kind, vec![])
    }

    /// The index along a dim of several axes is Σ index·pitch.
    fn iota(&mut self, emit: &Emit, axes: &[AxisId]) -> NodeId {
        let mut sum: Option<NodeId> = None;
        let mut pitch = 1;
        for &axis in axes.iter().rev() {
            let mut term = emit.add(self, Kind::Iota { axis }, vec![]);
            if pitch != 1 {
                let bytes = number::to_bytes(pitch as f64, emit.dtype).unwrap_or_default();
                let id = self.graph.add_const(bytes);
                let scale = emit.add(self, Kind::Const { id, axes: vec![] }, vec![]);
                term = emit.add(self, Kind::Map(MapKind::Mul), vec![term, scale]);
            }
            sum = Some(match sum {
                Some(inner) => emit.add(self, Kind::Map(MapKind::Add), vec![term, inner]),
                None => term,
            });
            pitch *= self.graph.extent(axis);
        }
        match sum {
            Some(node) => node,
            None => {
                let id = self.graph.add_const(number::unit_bytes(number::Unit::Zero, emit.dtype));
                emit.add(self, Kind::Const { id, axes: vec![] }, vec![])
            }
        }
    }
}

/// What the nodes made for one draft have in common.
struct Emit {
    dtype: DType,
    origins: Origins,
}

impl Emit {
    fn add(&self, r: &mut Resolver, kind: Kind, operands: Vec<NodeId>) -> NodeId {
        r.graph.add(kind, operands, self.dtype, self.origins.clone())
    }
}
