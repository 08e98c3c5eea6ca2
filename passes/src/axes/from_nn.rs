//! `nn` → named axes.
//!
//! One pass over the ops decides, with [`Atoms`], which dims are one axis; a second resolves every
//! atom to final axes. Where two dims would have to be one axis although some op has both (X·Xᵀ), the
//! later operand is renamed; where a reshape does not factor, it is a relayout; whatever the graph
//! does not model is opaque. So every function converts.

use kiln_ir::nn::{self, ContractDims, Func, MapKind, OpKind, ReduceKind, ScanKind, ValueId};
use kiln_ir::{DType, Scalar};

use super::atoms::{Atom, Atoms};
use super::graph::{AxisId, Dim, Graph, Kind, Origins, TopKPart};
use super::number::{Unit, unit_bytes};
use super::resolve::resolve;

/// Converts a function. Values that no result needs are dropped.
pub fn from_nn(func: &Func) -> Graph {
    let mut c = Converter {
        func,
        atoms: Atoms::default(),
        drafts: Vec::new(),
        values: Vec::new(),
        graph: Graph::default(),
        origins: Origins::new(),
    };
    c.values = vec![None; func.value_count()];
    c.inputs();
    let live = live_ops(func);
    for (op, live) in func.ops.iter().zip(live) {
        if live {
            c.origins = op.origin.names().map(|n| c.graph.intern_origin(n)).collect();
            c.op(op);
        }
    }
    let outputs = func.results.iter().map(|(v, port)| (c.value(*v), port.clone())).collect();
    let inputs = func.arg_values().map(|v| (c.value(v), func.args[v.index()].clone())).collect();
    resolve(c.atoms, c.drafts, c.graph, inputs, outputs)
}

/// Corresponding groups of dims (those of extent 1 aside) of two shapes with one number of elements.
fn blocks(old: &[u64], new: &[u64]) -> Vec<(Vec<usize>, Vec<usize>)> {
    let dims = |shape: &[u64]| (0..shape.len()).filter(|&d| shape[d] != 1).collect::<Vec<_>>();
    let (i, j) = (dims(old), dims(new));
    if old.contains(&0) || new.contains(&0) {
        return vec![(i, j)];
    }
    let mut result = Vec::new();
    let (mut i, mut j) = (i.into_iter(), j.into_iter());
    while let (Some(a), Some(b)) = (i.next(), j.next()) {
        let (mut p, mut q) = (old[a], new[b]);
        let (mut left, mut right) = (vec![a], vec![b]);
        while p != q {
            let (list, product, next, shape) =
                if p < q { (&mut left, &mut p, i.next(), old) } else { (&mut right, &mut q, j.next(), new) };
            let Some(d) = next else { break };
            list.push(d);
            *product *= shape[d];
        }
        result.push((left, right));
    }
    result
}

fn live_ops(func: &Func) -> Vec<bool> {
    let producers = func.producers();
    let mut live = vec![false; func.ops.len()];
    let mut stack: Vec<usize> = func.results.iter().filter_map(|(v, _)| producers[v.index()]).collect();
    while let Some(i) = stack.pop() {
        if !std::mem::replace(&mut live[i], true) {
            stack.extend(func.ops[i].operands.iter().filter_map(|v| producers[v.index()]));
        }
    }
    live
}

/// A node whose kind still speaks of atoms (in the place of axes).
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) operands: Vec<usize>,
    pub(super) dtype: DType,
    pub(super) origins: Origins,
}

/// A positional value: a draft, and what each dim is made of. The draft may lack some of the atoms.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) draft: usize,
    pub(super) dims: Vec<Vec<Atom>>,
    dtype: DType,
}

struct Converter<'a> {
    func: &'a Func,
    atoms: Atoms,
    drafts: Vec<Draft>,
    values: Vec<Option<Value>>,
    graph: Graph,
    /// Of the op being converted.
    origins: Origins,
}

/// While drafting, atoms stand where the graph has axes.
fn ax(atom: Atom) -> AxisId {
    AxisId(atom)
}

fn axs(atoms: &[Atom]) -> Vec<AxisId> {
    atoms.iter().map(|&a| AxisId(a)).collect()
}

impl Converter<'_> {
    fn inputs(&mut self) {
        for v in self.func.arg_values() {
            let ty = self.func.ty(v);
            let dims: Vec<Vec<Atom>> = ty.shape.iter().map(|&n| self.atoms.fresh_dim(n as u64)).collect();
            let flat = dims.concat();
            self.atoms.add_space(&flat);
            let kind = Kind::Input { index: v.index() as u32, axes: axs(&flat) };
            let draft = self.draft(kind, vec![], ty.dtype);
            self.values[v.index()] = Some(Value { draft, dims, dtype: ty.dtype });
        }
    }

    fn draft(&mut self, kind: Kind, operands: Vec<usize>, dtype: DType) -> usize {
        self.drafts.push(Draft { kind, operands, dtype, origins: self.origins.clone() });
        self.drafts.len() - 1
    }

    fn value(&self, v: ValueId) -> Value {
        self.values[v.index()].clone().expect("operands come before their uses")
    }

    /// The value with each listed dim made of the given atoms: merged where possible, renamed where
    /// some op has both, laid out anew where the extents do not correspond.
    fn fit(&mut self, value: &Value, targets: &[(usize, Vec<Atom>)]) -> Value {
        let mut renames: Vec<(Atom, Atom)> = Vec::new();
        let (mut from, mut to): (Vec<Atom>, Vec<Atom>) = (Vec::new(), Vec::new());
        let mut structural = false;
        let mut dims = value.dims.clone();
        for (d, target) in targets {
            let mut clash = false;
            match self.atoms.align(&value.dims[*d], target) {
                Ok(pairs) => {
                    for (a, b) in pairs {
                        if !self.atoms.merge(a, b) {
                            renames.push((a, b));
                            clash = true;
                        }
                    }
                }
                Err(_) => {
                    structural = true;
                    clash = true;
                }
            }
            if clash {
                from.extend(&value.dims[*d]);
                to.extend(target);
            }
            dims[*d] = target.clone();
        }
        let draft = if structural {
            let kind = Kind::Relayout { from: axs(&from), to: axs(&to) };
            self.draft(kind, vec![value.draft], value.dtype)
        } else if !renames.is_empty() {
            let pairs = renames.iter().map(|&(a, b)| (ax(a), ax(b))).collect();
            self.draft(Kind::Rename { pairs }, vec![value.draft], value.dtype)
        } else {
            value.draft
        };
        Value { draft, dims, dtype: value.dtype }
    }

    /// A new atom to stand for dim `axis` of the value once fitted, or none when the extent is 1.
    fn alone(&mut self, value: &Value, axis: usize) -> Option<Atom> {
        let extent = self.extent(&value.dims[axis]);
        (extent != 1).then(|| {
            let atom = self.atoms.fresh(extent);
            self.add_space_with(value, axis, &[atom]);
            atom
        })
    }

    /// States that `atoms` occur together with the dims of `value` other than `axis`.
    fn add_space_with(&mut self, value: &Value, axis: usize, atoms: &[Atom]) {
        let others = value.dims.iter().enumerate().filter(|(d, _)| *d != axis).flat_map(|(_, a)| a);
        let space: Vec<Atom> = others.chain(atoms).copied().collect();
        self.atoms.add_space(&space);
    }

    /// The value with dim `axis` as one atom that is never split; none when the extent is 1.
    fn single(&mut self, value: &Value, axis: usize) -> (Value, Option<Atom>) {
        match self.alone(value, axis) {
            None => (value.clone(), None),
            Some(atom) => {
                self.atoms.lock(atom);
                (self.fit(value, &[(axis, vec![atom])]), Some(atom))
            }
        }
    }

    fn extent(&self, dim: &[Atom]) -> u64 {
        dim.iter().map(|&a| self.atoms.extent(a)).product()
    }

    fn op(&mut self, op: &nn::Op) {
        let operands: Vec<Value> = op.operands.iter().map(|&v| self.value(v)).collect();
        let result = op.results[0];
        let dtype = self.func.ty(result).dtype;
        let shape: Vec<u64> = self.func.ty(result).shape.iter().map(|&n| n as u64).collect();
        let value = match &op.kind {
            OpKind::Constant { bytes, .. } => self.constant(bytes.clone(), &shape, dtype),
            OpKind::Weight { file, offset, length, .. } => {
                let dims = self.fresh_dims(&shape);
                let kind =
                    Kind::Weight { file: *file, offset: *offset, length: *length, axes: axs(&dims.concat()) };
                Value { draft: self.draft(kind, vec![], dtype), dims, dtype }
            }
            OpKind::Map { kind } => self.map(*kind, &operands, dtype),
            OpKind::Cast { .. } => {
                let x = &operands[0];
                Value { draft: self.draft(Kind::Cast, vec![x.draft], dtype), dims: x.dims.clone(), dtype }
            }
            OpKind::Contract { dims, acc, .. } => self.contract(&operands, dims, *acc, dtype),
            OpKind::Reduce { kind, axes } => self.reduce(&operands[0], *kind, axes, dtype),
            OpKind::Reshape { .. } => self.reshape(&operands[0], &shape),
            OpKind::Transpose { perm } => {
                let dims = perm.iter().map(|&p| operands[0].dims[p].clone()).collect();
                Value { dims, ..operands[0].clone() }
            }
            OpKind::Broadcast { dims, .. } => self.broadcast(&operands[0], dims, &shape),
            OpKind::Slice { offsets, strides, .. } => self.slice(&operands[0], offsets, &shape, strides),
            OpKind::Pad { low, value, .. } => self.pad(&operands[0], low, &shape, *value),
            OpKind::Concat { axis } => self.concat(&operands, *axis, shape[*axis], dtype),
            OpKind::Reverse { axes } => {
                let mut value = operands[0].clone();
                for &d in axes {
                    let (fitted, atom) = self.single(&value, d);
                    value = fitted;
                    if let Some(a) = atom {
                        value.draft = self.draft(Kind::Reverse { axis: ax(a) }, vec![value.draft], dtype);
                    }
                }
                value
            }
            OpKind::Iota { axis, .. } => {
                let dims = self.fresh_dims(&shape);
                let draft = match dims[*axis].first() {
                    Some(&a) => self.draft(Kind::Iota { axis: ax(a) }, vec![], dtype),
                    None => self.number(Unit::Zero, dtype),
                };
                Value { draft, dims, dtype }
            }
            OpKind::Gather { axis } => self.gather(&operands, *axis, dtype),
            OpKind::GatherElements { axis } => self.gather_elements(&operands, *axis, dtype),
            OpKind::Scan { .. } => match self.scan(&operands[0], &op.kind, dtype) {
                Some(value) => value,
                None => return self.opaque(op, &operands),
            },
            OpKind::TopK { k, axis, largest } => return self.topk(op, &operands[0], *k, *axis, *largest),
            OpKind::GatherNd { .. }
            | OpKind::ScatterNd { .. }
            | OpKind::ScatterElements { .. }
            | OpKind::Conv { .. } => return self.opaque(op, &operands),
        };
        self.values[result.index()] = Some(value);
    }

    fn fresh_dims(&mut self, shape: &[u64]) -> Vec<Vec<Atom>> {
        let dims: Vec<Vec<Atom>> = shape.iter().map(|&n| self.atoms.fresh_dim(n)).collect();
        self.atoms.add_space(&dims.concat());
        dims
    }

    /// A constant; one whose elements are all alike is a scalar that repeats.
    fn constant(&mut self, bytes: bytes::Bytes, shape: &[u64], dtype: DType) -> Value {
        let dims = self.fresh_dims(shape);
        let size = dtype.size_bytes();
        let splat = bytes.len() >= size && bytes.chunks(size).all(|c| c == &bytes[..size]);
        let (bytes, axes) = if splat { (bytes.slice(..size), vec![]) } else { (bytes, axs(&dims.concat())) };
        let id = self.graph.add_const(bytes);
        Value { draft: self.draft(Kind::Const { id, axes }, vec![], dtype), dims, dtype }
    }

    /// A scalar constant, zero or one.
    fn number(&mut self, value: Unit, dtype: DType) -> usize {
        let id = self.graph.add_const(unit_bytes(value, dtype));
        self.draft(Kind::Const { id, axes: vec![] }, vec![], dtype)
    }

    fn map(&mut self, kind: MapKind, operands: &[Value], dtype: DType) -> Value {
        let dims = operands[0].dims.clone();
        let targets: Vec<(usize, Vec<Atom>)> = dims.iter().cloned().enumerate().collect();
        let mut drafts = vec![operands[0].draft];
        for x in &operands[1..] {
            drafts.push(self.fit(x, &targets).draft);
        }
        Value { draft: self.draft(Kind::Map(kind), drafts, dtype), dims, dtype }
    }

    fn contract(&mut self, operands: &[Value], dims: &ContractDims, acc: DType, dtype: DType) -> Value {
        let (lhs, rhs) = (&operands[0], &operands[1]);
        let lhs_free = dims.lhs_free(lhs.dims.len());
        let rhs_free = dims.rhs_free(rhs.dims.len());
        let mut space = lhs.dims.concat();
        let mut free = Vec::new();
        for &d in &rhs_free {
            let atoms = self.atoms.fresh_dim(self.extent(&rhs.dims[d]));
            space.extend(&atoms);
            free.push(atoms);
        }
        self.atoms.add_space(&space);
        let mut targets = Vec::new();
        for (&l, &r) in dims.lhs_batch.iter().zip(&dims.rhs_batch) {
            targets.push((r, lhs.dims[l].clone()));
        }
        for (&l, &r) in dims.lhs_contract.iter().zip(&dims.rhs_contract) {
            targets.push((r, lhs.dims[l].clone()));
        }
        targets.extend(rhs_free.iter().copied().zip(free.iter().cloned()));
        let fitted = self.fit(rhs, &targets);
        let contracted: Vec<Atom> = dims.lhs_contract.iter().flat_map(|&d| lhs.dims[d].clone()).collect();
        let kind = Kind::Ein { contracted: axs(&contracted), acc };
        let draft = self.draft(kind, vec![lhs.draft, fitted.draft], dtype);
        let mut result: Vec<Vec<Atom>> = dims.lhs_batch.iter().map(|&d| lhs.dims[d].clone()).collect();
        result.extend(lhs_free.iter().map(|&d| lhs.dims[d].clone()));
        result.extend(free);
        Value { draft, dims: result, dtype }
    }

    fn reduce(&mut self, x: &Value, kind: ReduceKind, axes: &[usize], dtype: DType) -> Value {
        let keep = |dims: &[Vec<Atom>]| -> Vec<Vec<Atom>> {
            dims.iter().enumerate().filter(|(d, _)| !axes.contains(d)).map(|(_, a)| a.clone()).collect()
        };
        if matches!(kind, ReduceKind::Argmax | ReduceKind::Argmin) {
            let (fitted, atom) = self.single(x, axes[0]);
            let draft = match atom {
                Some(a) => self.draft(Kind::Reduce { kind, axes: vec![ax(a)] }, vec![fitted.draft], dtype),
                None => self.number(Unit::Zero, dtype),
            };
            return Value { draft, dims: keep(&fitted.dims), dtype };
        }
        let reduced: Vec<Atom> = axes.iter().flat_map(|&d| x.dims[d].clone()).collect();
        let draft = if reduced.is_empty() {
            x.draft
        } else {
            self.draft(Kind::Reduce { kind, axes: axs(&reduced) }, vec![x.draft], dtype)
        };
        Value { draft, dims: keep(&x.dims), dtype }
    }

    /// Dims correspond block by block where the running products of extents meet.
    fn reshape(&mut self, x: &Value, shape: &[u64]) -> Value {
        let old: Vec<u64> = x.dims.iter().map(|d| self.extent(d)).collect();
        let dims: Vec<Vec<Atom>> = shape.iter().map(|&n| self.atoms.fresh_dim(n)).collect();
        let (mut from, mut to): (Vec<Atom>, Vec<Atom>) = (Vec::new(), Vec::new());
        let mut kept: Vec<Atom> = Vec::new();
        for (i, j) in blocks(&old, shape) {
            let a: Vec<Atom> = i.iter().flat_map(|&d| x.dims[d].clone()).collect();
            let b: Vec<Atom> = j.iter().flat_map(|&d| dims[d].clone()).collect();
            let aligned = match self.atoms.align(&a, &b) {
                Ok(pairs) => pairs.into_iter().all(|(a, b)| self.atoms.merge(a, b)),
                Err(_) => false,
            };
            if aligned {
                kept.extend(a);
            } else {
                from.extend(a);
                to.extend(b);
            }
        }
        if from.is_empty() && to.is_empty() {
            return Value { dims, ..x.clone() };
        }
        kept.extend(&to);
        self.atoms.add_space(&kept);
        let kind = Kind::Relayout { from: axs(&from), to: axs(&to) };
        Value { draft: self.draft(kind, vec![x.draft], x.dtype), dims, dtype: x.dtype }
    }

    fn broadcast(&mut self, x: &Value, dims: &[usize], shape: &[u64]) -> Value {
        let mut result: Vec<Option<Vec<Atom>>> = vec![None; shape.len()];
        for (i, &d) in dims.iter().enumerate() {
            if self.extent(&x.dims[i]) == shape[d] {
                result[d] = Some(x.dims[i].clone());
            }
        }
        let result: Vec<Vec<Atom>> = result
            .into_iter()
            .zip(shape)
            .map(|(dim, &n)| dim.unwrap_or_else(|| self.atoms.fresh_dim(n)))
            .collect();
        self.atoms.add_space(&result.concat());
        Value { dims: result, ..x.clone() }
    }

    fn slice(&mut self, x: &Value, offsets: &[usize], shape: &[u64], strides: &[usize]) -> Value {
        let mut value = x.clone();
        for d in 0..shape.len() {
            let stride = if shape[d] <= 1 { 1 } else { strides[d] as u64 };
            if shape[d] != self.extent(&value.dims[d]) || stride != 1 {
                value = self.slice_dim(&value, d, offsets[d] as u64, shape[d], stride);
            }
        }
        value
    }

    fn slice_dim(&mut self, x: &Value, d: usize, start: u64, size: u64, stride: u64) -> Value {
        let Some(from) = self.alone(x, d) else { return x.clone() };
        let to = self.atoms.fresh_dim(size);
        self.add_space_with(x, d, &to);
        match to.first() {
            Some(&t) if stride == 1 && size > 0 => self.atoms.link(vec![from, t], vec![start]),
            _ => to.iter().chain([&from]).for_each(|&a| self.atoms.lock(a)),
        }
        let fitted = self.fit(x, &[(d, vec![from])]);
        let kind = Kind::Slice { from: ax(from), to: to.first().map(|&t| ax(t)), start, stride };
        let mut dims = fitted.dims;
        dims[d] = to;
        Value { draft: self.draft(kind, vec![fitted.draft], x.dtype), dims, dtype: x.dtype }
    }

    fn pad(&mut self, x: &Value, low: &[usize], shape: &[u64], fill: Scalar) -> Value {
        let mut value = x.clone();
        for d in 0..shape.len() {
            if shape[d] == self.extent(&value.dims[d]) {
                continue;
            }
            let from = self.alone(&value, d);
            let to = self.atoms.fresh(shape[d]);
            self.add_space_with(&value, d, &[to]);
            match from {
                Some(f) => self.atoms.link(vec![f, to], vec![low[d] as u64]),
                None => self.atoms.lock(to),
            }
            let fitted = match from {
                Some(f) => self.fit(&value, &[(d, vec![f])]),
                None => value.clone(),
            };
            let kind = Kind::Pad { from: from.map(ax), to: ax(to), low: low[d] as u64, value: fill };
            value.draft = self.draft(kind, vec![fitted.draft], value.dtype);
            value.dims = fitted.dims;
            value.dims[d] = vec![to];
        }
        value
    }

    fn concat(&mut self, all: &[Value], axis: usize, extent: u64, dtype: DType) -> Value {
        let operands: Vec<&Value> = all.iter().filter(|x| self.extent(&x.dims[axis]) != 0).collect();
        let first = match operands.as_slice() {
            [] => return all[0].clone(),
            [x] => return (*x).clone(),
            [x, ..] => *x,
        };
        let others: Vec<(usize, Vec<Atom>)> =
            first.dims.iter().cloned().enumerate().filter(|(d, _)| *d != axis).collect();
        let to = self.atoms.fresh(extent);
        self.add_space_with(first, axis, &[to]);
        let mut parts = Vec::new();
        for x in &operands {
            let part_extent = self.extent(&x.dims[axis]);
            parts.push((part_extent != 1).then(|| {
                let atom = self.atoms.fresh(part_extent);
                self.add_space_with(first, axis, &[atom]);
                atom
            }));
        }
        let mut members: Vec<Atom> = parts.iter().flatten().copied().collect();
        members.push(to);
        if parts.iter().all(Option::is_some) {
            // Offsets are sums of the parts' extents: multiples of whatever divides them all.
            self.atoms.link(members, vec![]);
        } else {
            members.iter().for_each(|&a| self.atoms.lock(a));
        }
        let mut drafts = Vec::new();
        for (x, part) in operands.iter().zip(&parts) {
            let mut targets = others.clone();
            targets.extend(part.map(|p| (axis, vec![p])));
            drafts.push(self.fit(x, &targets).draft);
        }
        let mut dims = first.dims.clone();
        dims[axis] = vec![to];
        let from = parts.iter().map(|p| p.map(ax)).collect();
        Value { draft: self.draft(Kind::Concat { from, to: ax(to) }, drafts, dtype), dims, dtype }
    }

    fn gather(&mut self, operands: &[Value], axis: usize, dtype: DType) -> Value {
        let (data, atom) = self.single(&operands[0], axis);
        let indices = &operands[1];
        let fresh: Vec<Vec<Atom>> =
            indices.dims.iter().map(|d| self.atoms.fresh_dim(self.extent(d))).collect();
        let mut space = data.dims.concat();
        space.extend(fresh.concat());
        self.atoms.add_space(&space);
        let targets: Vec<(usize, Vec<Atom>)> = fresh.iter().cloned().enumerate().collect();
        let fitted = self.fit(indices, &targets);
        let draft = match atom {
            Some(a) => self.draft(Kind::Gather { axis: ax(a) }, vec![data.draft, fitted.draft], dtype),
            None => data.draft,
        };
        let mut dims = data.dims;
        dims.splice(axis..=axis, fresh);
        Value { draft, dims, dtype }
    }

    fn gather_elements(&mut self, operands: &[Value], axis: usize, dtype: DType) -> Value {
        let mut data = operands[0].clone();
        let indices = &operands[1];
        for d in 0..data.dims.len() {
            let size = self.extent(&indices.dims[d]);
            if d != axis && self.extent(&data.dims[d]) != size {
                data = self.slice_dim(&data, d, 0, size, 1);
            }
        }
        let (data, atom) = self.single(&data, axis);
        let to = self.atoms.fresh_dim(self.extent(&indices.dims[axis]));
        let mut space = data.dims.concat();
        space.extend(&to);
        self.atoms.add_space(&space);
        let mut dims = data.dims.clone();
        dims[axis] = to;
        let targets: Vec<(usize, Vec<Atom>)> = dims.iter().cloned().enumerate().collect();
        let fitted = self.fit(indices, &targets);
        let draft = match atom {
            Some(a) => self.draft(Kind::Gather { axis: ax(a) }, vec![data.draft, fitted.draft], dtype),
            None => data.draft,
        };
        Value { draft, dims, dtype }
    }

    /// None for the one case without a plain meaning: an exclusive maximum over a single element.
    fn scan(&mut self, x: &Value, op: &OpKind, dtype: DType) -> Option<Value> {
        let &OpKind::Scan { kind, axis, exclusive, reverse } = op else { return None };
        let (mut value, atom) = self.single(x, axis);
        value.draft = match (atom, exclusive, kind) {
            (Some(a), _, _) => {
                self.draft(Kind::Scan { kind, axis: ax(a), exclusive, reverse }, vec![value.draft], dtype)
            }
            (None, false, _) => value.draft,
            (None, true, ScanKind::Sum) => self.number(Unit::Zero, dtype),
            (None, true, ScanKind::Prod) => self.number(Unit::One, dtype),
            (None, true, ScanKind::Max) => return None,
        };
        Some(value)
    }

    fn topk(&mut self, op: &nn::Op, x: &Value, k: usize, axis: usize, largest: bool) {
        let (fitted, atom) = self.single(x, axis);
        let to = self.atoms.fresh_dim(k as u64);
        self.add_space_with(&fitted, axis, &to);
        to.iter().for_each(|&t| self.atoms.lock(t));
        for (part, &result) in [TopKPart::Values, TopKPart::Indices].into_iter().zip(&op.results) {
            let dtype = self.func.ty(result).dtype;
            let draft = match (atom, part) {
                (Some(a), _) => {
                    let kind = Kind::TopK { axis: ax(a), to: to.first().map(|&t| ax(t)), largest, part };
                    self.draft(kind, vec![fitted.draft], dtype)
                }
                (None, TopKPart::Values) => fitted.draft,
                (None, TopKPart::Indices) => self.number(Unit::Zero, dtype),
            };
            let mut dims = fitted.dims.clone();
            dims[axis] = to.clone();
            self.values[result.index()] = Some(Value { draft, dims, dtype });
        }
    }

    /// An op left as it is: positional operands and results.
    fn opaque(&mut self, op: &nn::Op, operands: &[Value]) {
        let to_dim = |dim: &Vec<Atom>| -> Dim { axs(dim) };
        let mut results: Vec<Vec<Vec<Atom>>> = Vec::new();
        for &r in &op.results {
            let shape: Vec<u64> = self.func.ty(r).shape.iter().map(|&n| n as u64).collect();
            // A scatter's result stands where its data stood; the others' dims are new.
            results.push(match op.kind {
                OpKind::ScatterNd { .. } | OpKind::ScatterElements { .. } => operands[0].dims.clone(),
                _ => self.fresh_dims(&shape),
            });
        }
        let kind = Kind::Opaque {
            op: Box::new(op.kind.clone()),
            operands: operands.iter().map(|x| x.dims.iter().map(to_dim).collect()).collect(),
            results: results.iter().map(|dims| dims.iter().map(to_dim).collect()).collect(),
            result: 0,
        };
        let drafts: Vec<usize> = operands.iter().map(|x| x.draft).collect();
        for (i, (&r, dims)) in op.results.iter().zip(results).enumerate() {
            let mut kind = kind.clone();
            if let Kind::Opaque { result, .. } = &mut kind {
                *result = i as u32;
            }
            let dtype = self.func.ty(r).dtype;
            let draft = self.draft(kind, drafts.clone(), dtype);
            self.values[r.index()] = Some(Value { draft, dims, dtype });
        }
    }
}
