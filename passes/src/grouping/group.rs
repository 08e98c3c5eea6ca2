//! From a set of kernel ops to the tile solver's problem: local positions, merged axes, strides, and what each tensor
//! is bound to in DRAM.

use std::collections::{BTreeMap, BTreeSet};

use crate::axes::AxisId;
use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_ir::types::{DType, Scalar, is_float};

use super::kernel::{ArrayId, Home, Kernel, Source, ValueId, Work};
use crate::tiling::problem::{Access, In, Op, OpKind, Problem, Space, Tensor};

/// Where tensors and data operands of a problem lie.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    /// For each tensor: array and element offset of its load.
    pub load: Vec<Option<(ArrayId, i64)>>,
    /// For each tensor: array and element offset of its store.
    pub store: Vec<Option<(ArrayId, i64)>>,
    /// For each op: array and element offset of its DRAM operand (gathers and scatters).
    pub data: Vec<Option<(ArrayId, i64)>>,
    /// For each op of the problem, the kernel op it comes from.
    pub op: Vec<usize>,
    /// For each tensor, the value it holds (or leads to).
    pub value: Vec<ValueId>,
}

struct Local {
    axes: BTreeSet<AxisId>,
    dtype: DType,
    space: Space,
    load: Option<(Home, DType)>,
    store: Option<(Home, DType)>,
    value: ValueId,
    /// Extents that differ from the axis (results of a selection).
    short: Option<(AxisId, u64)>,
}

struct LocalOp {
    kind: LocalKind,
    ins: Vec<In>,
    outs: Vec<usize>,
    from: usize,
}

enum LocalKind {
    Plain(OpKind),
    Iota(AxisId),
    Scan(AxisId, kiln_ir::nn::ScanKind, bool, bool),
    TopK(AxisId, bool),
    Gather(Home, DType, AxisId),
    Scatter(Home, DType, i64, u64),
}

struct Maker<'k, 'g> {
    k: &'k Kernel<'g>,
    tensors: Vec<Local>,
    ops: Vec<LocalOp>,
    /// Tensor that holds a value, made in the group or loaded.
    of_value: BTreeMap<ValueId, usize>,
    alias: BTreeMap<AxisId, AxisId>,
    partitions: u64,
}

/// The problem of running `ops` (ascending) as one group. `stored` are the values that others read from DRAM.
/// An axis that fills the `partitions` does not become one position with the axes inside it: as the partition axis, that
/// position would spread neighbours in memory over partitions.
pub fn problem(
    kernel: &Kernel,
    ops: &[usize],
    stored: &BTreeSet<ValueId>,
    partitions: u64,
) -> (Problem, Binding) {
    let mut m = Maker {
        k: kernel,
        tensors: Vec::new(),
        ops: Vec::new(),
        of_value: BTreeMap::new(),
        alias: BTreeMap::new(),
        partitions,
    };
    for &op in ops {
        m.op(op, ops, stored);
    }
    m.finish()
}

impl Maker<'_, '_> {
    fn axes(&self, v: ValueId) -> BTreeSet<AxisId> {
        self.k.values[v].axes.iter().copied().collect()
    }

    fn fresh(&mut self, value: ValueId, dtype: DType, space: Space) -> usize {
        let axes = self.axes(value);
        self.tensors.push(Local { axes, dtype, space, load: None, store: None, value, short: None });
        self.tensors.len() - 1
    }

    fn operand(&mut self, source: &Source) -> In {
        match source {
            Source::Scalar(s) => In::Scalar(*s),
            Source::Value(v) => {
                if let Some(&t) = self.of_value.get(v) {
                    return In::Tensor(t);
                }
                let dtype = self.k.values[*v].dtype;
                let t = self.fresh(*v, dtype, Space::Spm);
                self.tensors[t].load = self.k.values[*v].home.clone().map(|h| {
                    let stored = self.k.arrays[h.array].dtype;
                    (h, stored)
                });
                self.of_value.insert(*v, t);
                In::Tensor(t)
            }
        }
    }

    /// Readers of `v` inside the group can all read an accumulator.
    fn stays_in_acc(&self, v: ValueId, ops: &[usize], stored: &BTreeSet<ValueId>) -> bool {
        !stored.contains(&v)
            && ops.iter().all(|&o| {
                let op = &self.k.ops[o];
                let reads = op.ins.contains(&Source::Value(v));
                !reads || matches!(op.work, Work::Map(_) | Work::Cast | Work::Reduce(..))
            })
    }

    fn push(&mut self, kind: LocalKind, ins: Vec<In>, outs: Vec<usize>, from: usize) {
        self.ops.push(LocalOp { kind, ins, outs, from });
    }

    fn op(&mut self, index: usize, ops: &[usize], stored: &BTreeSet<ValueId>) {
        let op = &self.k.ops[index];
        let ins: Vec<In> = op.ins.iter().map(|s| self.operand(s)).collect();
        let dtype = op.outs.first().map_or(DType::F32, |&v| self.k.values[v].dtype);
        match &op.work {
            Work::Copy => {
                let In::Tensor(t) = ins[0] else { return };
                let target = op.outs[0];
                let home = self.k.values[target].home.clone();
                // The target may repeat the value; it then has the axis in storage only.
                self.tensors[t].axes.extend(self.k.values[target].axes.iter().copied());
                self.tensors[t].store = home.map(|h| {
                    let dtype = self.k.arrays[h.array].dtype;
                    (h, dtype)
                });
                self.push(LocalKind::Plain(OpKind::Copy), ins, Vec::new(), index);
                return;
            }
            Work::Contract(_) => {
                let wide = if is_float(dtype) { DType::F32 } else { DType::I32 };
                let v = op.outs[0];
                let acc = self.fresh(v, wide, Space::Acc);
                self.push(LocalKind::Plain(OpKind::Contract), ins, vec![acc], index);
                let result = if dtype != wide {
                    let t = self.fresh(v, dtype, Space::Spm);
                    self.push(LocalKind::Plain(OpKind::Cast), vec![In::Tensor(acc)], vec![t], index);
                    t
                } else if !self.stays_in_acc(v, ops, stored) {
                    let t = self.fresh(v, dtype, Space::Spm);
                    self.push(
                        LocalKind::Plain(OpKind::Map(MapKind::Identity)),
                        vec![In::Tensor(acc)],
                        vec![t],
                        index,
                    );
                    t
                } else {
                    acc
                };
                self.of_value.insert(v, result);
            }
            Work::Reduce(kind, _) => {
                let v = op.outs[0];
                let is_narrow = match kind {
                    ReduceKind::Sum | ReduceKind::Prod => !matches!(dtype, DType::F32 | DType::I32),
                    _ => false,
                };
                let wide = if is_float(dtype) { DType::F32 } else { DType::I32 };
                let t = self.fresh(v, if is_narrow { wide } else { dtype }, Space::Spm);
                self.push(LocalKind::Plain(OpKind::Reduce(*kind)), ins, vec![t], index);
                let result = if is_narrow {
                    let narrow = self.fresh(v, dtype, Space::Spm);
                    self.push(LocalKind::Plain(OpKind::Cast), vec![In::Tensor(t)], vec![narrow], index);
                    narrow
                } else {
                    t
                };
                self.of_value.insert(v, result);
            }
            work => {
                let mut outs = Vec::new();
                for &v in &op.outs {
                    let dtype = self.k.values[v].dtype;
                    let t = self.fresh(v, dtype, Space::Spm);
                    self.of_value.insert(v, t);
                    outs.push(t);
                }
                let kind = match work {
                    Work::Map(kind) => LocalKind::Plain(OpKind::Map(*kind)),
                    Work::Cast => LocalKind::Plain(OpKind::Cast),
                    Work::Fill(s) => LocalKind::Plain(OpKind::Fill(fit(*s, dtype))),
                    Work::Iota(axis) => LocalKind::Iota(*axis),
                    Work::Scan { kind, axis, exclusive, reverse } => {
                        LocalKind::Scan(*axis, *kind, *exclusive, *reverse)
                    }
                    Work::TopK { axis, to, largest } => {
                        for &t in &outs {
                            let local = &mut self.tensors[t];
                            let short = to.map_or(1, |a| self.k.graph.extent(a));
                            if let Some(to) = to {
                                local.axes.remove(to);
                            }
                            local.axes.insert(*axis);
                            local.short = Some((*axis, short));
                        }
                        if let Some(to) = to {
                            self.alias.insert(*to, *axis);
                        }
                        LocalKind::TopK(*axis, *largest)
                    }
                    Work::Gather { data, axis } => {
                        let home = self.k.values[*data].home.clone();
                        let Some(home) = home else { return };
                        let dtype = self.k.arrays[home.array].dtype;
                        LocalKind::Gather(home, dtype, *axis)
                    }
                    Work::Scatter { target, row_stride, rows } => {
                        let dtype = self.k.arrays[target.array].dtype;
                        LocalKind::Scatter(target.clone(), dtype, *row_stride, *rows)
                    }
                    Work::Copy | Work::Contract(_) | Work::Reduce(..) => return,
                };
                self.push(kind, ins, outs, index);
            }
        }
        for &v in &self.k.ops[index].outs {
            if (stored.contains(&v) || self.k.values[v].is_stored)
                && let (Some(&t), Some(home)) = (self.of_value.get(&v), self.k.values[v].home.clone())
            {
                let dtype = self.k.arrays[home.array].dtype;
                self.tensors[t].store = Some((home, dtype));
            }
        }
    }

    /// All axes in an order that every chain agrees with and that follows the storage of the results.
    fn order(&self) -> Vec<AxisId> {
        let mut wish: Vec<AxisId> = Vec::new();
        let mut add = |axes: Vec<AxisId>| {
            for a in axes {
                if !wish.contains(&a) {
                    wish.push(a);
                }
            }
        };
        let by_stride = |home: &Home, axes: &BTreeSet<AxisId>| {
            let mut list: Vec<AxisId> =
                axes.iter().copied().filter(|a| home.strides.contains_key(a)).collect();
            list.sort_by_key(|a| std::cmp::Reverse(home.stride(*a).abs()));
            list
        };
        for t in self.tensors.iter().rev() {
            if let Some((home, _)) = &t.store {
                add(by_stride(home, &t.axes));
            }
        }
        for t in &self.tensors {
            if let Some((home, _)) = &t.load {
                add(by_stride(home, &t.axes));
            }
            add(t.axes.iter().copied().collect());
        }
        let mut chains: Vec<Vec<AxisId>> = Vec::new();
        for op in &self.ops {
            if let Work::Contract(axes) | Work::Reduce(_, axes) = &self.k.ops[op.from].work {
                chains.push(axes.clone());
            }
        }
        // Kahn's order with the wish as priority; a cycle (chains that disagree) falls back to the wish.
        let mut order: Vec<AxisId> = Vec::new();
        while order.len() < wish.len() {
            let ready = wish.iter().copied().find(|a| {
                !order.contains(a)
                    && chains.iter().all(|c| match c.iter().position(|x| x == a) {
                        Some(i) => c[..i].iter().all(|b| order.contains(b)),
                        None => true,
                    })
            });
            let rest = || wish.iter().copied().find(|a| !order.contains(a));
            match ready.or_else(rest) {
                Some(a) => order.push(a),
                None => break,
            }
        }
        order
    }

    /// Whether axis `b` directly inside `a` can be one position with it.
    fn merges(&self, a: AxisId, b: AxisId) -> bool {
        let extent = self.k.graph.extent(b) as i64;
        let follows = |h: &Home| h.stride(a) == h.stride(b) * extent;
        let tensors = self.tensors.iter().all(|t| {
            let both = t.axes.contains(&a) == t.axes.contains(&b);
            let loads = t.load.as_ref().is_none_or(|(h, _)| follows(h));
            let stores = t.store.as_ref().is_none_or(|(h, _)| follows(h));
            both && (!t.axes.contains(&a) || (loads && stores))
        });
        let ops = self.ops.iter().all(|o| match &o.kind {
            LocalKind::Plain(OpKind::Reduce(ReduceKind::Argmax | ReduceKind::Argmin)) => {
                let out = &self.tensors[o.outs[0]].axes;
                out.contains(&a) && out.contains(&b)
            }
            LocalKind::Iota(x) | LocalKind::Scan(x, ..) | LocalKind::TopK(x, _) => *x != a && *x != b,
            LocalKind::Gather(h, _, _) | LocalKind::Scatter(h, _, _, _) => follows(h),
            LocalKind::Plain(_) => true,
        });
        tensors && ops
    }

    /// Axes of the operands and results of contracts.
    fn multiplied(&self) -> BTreeSet<AxisId> {
        let contracts = self.ops.iter().filter(|o| matches!(o.kind, LocalKind::Plain(OpKind::Contract)));
        let tensors = contracts.flat_map(|o| {
            let ins = o.ins.iter().filter_map(|i| match i {
                In::Tensor(t) => Some(*t),
                In::Scalar(_) => None,
            });
            ins.chain(o.outs.iter().copied())
        });
        tensors.flat_map(|t| self.tensors[t].axes.iter().copied()).collect()
    }

    fn finish(self) -> (Problem, Binding) {
        let mut positions: Vec<Vec<AxisId>> = Vec::new();
        let multiplied: BTreeSet<AxisId> = self.multiplied();
        for axis in self.order() {
            let is_full = |position: &[AxisId]| {
                let extent: u64 = position.iter().map(|&a| self.k.graph.extent(a)).product();
                extent >= self.partitions && !multiplied.contains(&axis)
            };
            match positions.last_mut() {
                Some(last) if last.last().is_some_and(|&a| self.merges(a, axis) && !is_full(last)) => {
                    last.push(axis);
                }
                _ => positions.push(vec![axis]),
            }
        }
        let extent = |p: &Vec<AxisId>| p.iter().map(|&a| self.k.graph.extent(a)).product::<u64>();
        let mut extents: Vec<u64> = positions.iter().map(extent).collect();
        extents.push(1);
        let at = |axis: AxisId| positions.iter().position(|p| p.contains(&axis)).unwrap_or(positions.len());
        let strides = |h: &Home, t: Option<&Local>| -> Vec<i64> {
            let stride = |p: &Vec<AxisId>| {
                let inner = p.last().copied();
                inner.map_or(0, |a| {
                    // A selection's result keeps its own axis in storage.
                    let own = self.alias.iter().find(|(_, to)| **to == a).map(|(from, _)| *from);
                    match own {
                        Some(own) if t.is_some_and(|t| t.short.is_some()) => h.stride(own),
                        _ => h.stride(a),
                    }
                })
            };
            positions.iter().map(stride).chain([0]).collect()
        };
        let mut binding = Binding::default();
        let tensors = self
            .tensors
            .iter()
            .map(|t| {
                let mut shape: Vec<u64> = positions
                    .iter()
                    .zip(&extents)
                    .map(|(p, &e)| if t.axes.contains(&p[0]) { e } else { 1 })
                    .collect();
                shape.push(1);
                if let Some((axis, short)) = t.short {
                    shape[at(axis)] = short;
                }
                binding.value.push(t.value);
                binding.load.push(t.load.as_ref().map(|(h, _)| (h.array, h.offset)));
                binding.store.push(t.store.as_ref().map(|(h, _)| (h.array, h.offset)));
                let access =
                    |(h, dtype): &(Home, DType)| Access { strides: strides(h, Some(t)), dtype: *dtype };
                Tensor {
                    shape,
                    dtype: t.dtype,
                    space: t.space,
                    load: t.load.as_ref().map(access),
                    store: t.store.as_ref().map(access),
                }
            })
            .collect();
        let ops = self
            .ops
            .iter()
            .map(|o| {
                binding.op.push(o.from);
                let mut data = None;
                let kind = match &o.kind {
                    LocalKind::Plain(kind) => kind.clone(),
                    LocalKind::Iota(a) => OpKind::Iota { axis: at(*a) },
                    LocalKind::Scan(a, kind, exclusive, reverse) => {
                        OpKind::Scan { kind: *kind, axis: at(*a), exclusive: *exclusive, reverse: *reverse }
                    }
                    LocalKind::TopK(a, largest) => OpKind::TopK { axis: at(*a), largest: *largest },
                    LocalKind::Gather(h, dtype, axis) => {
                        data = Some((h.array, h.offset));
                        let mut inner = h.clone();
                        let row_stride = inner.strides.remove(axis).unwrap_or(0);
                        let access = Access { strides: strides(&inner, None), dtype: *dtype };
                        OpKind::Gather { data: access, row_stride, rows: self.k.graph.extent(*axis) }
                    }
                    LocalKind::Scatter(h, dtype, row_stride, rows) => {
                        data = Some((h.array, h.offset));
                        let access = Access { strides: strides(h, None), dtype: *dtype };
                        OpKind::Scatter { data: access, row_stride: *row_stride, rows: *rows }
                    }
                };
                binding.data.push(data);
                Op { kind, ins: o.ins.clone(), outs: o.outs.clone() }
            })
            .collect();
        (Problem { extents, tensors, ops }, binding)
    }
}

/// A scalar in the number system of `dtype`.
fn fit(s: Scalar, dtype: DType) -> Scalar {
    match (s, is_float(dtype)) {
        (Scalar::Int(i), true) => Scalar::float(i as f64),
        (Scalar::Float(_), false) => Scalar::Int(s.as_f64() as i64),
        _ => s,
    }
}
