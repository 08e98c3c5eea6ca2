//! A plan becomes code: loops with peeled remainders, views of buffers, addresses in DRAM.
//!
//! A loop whose body accumulates has its first iteration peeled (it starts the chains that the others continue), and
//! a remainder is a copy of the body with smaller extents. All offsets are constants plus induction variables.

use crate::grouping::group::Binding;
use crate::tiling::pipeline;
use crate::tiling::plan::{Schedule, Step};
use crate::tiling::problem::{self, Facts, In, OpKind, Problem};
use crate::tiling::solve::Solution;
use kiln_ir::Origin;
use kiln_ir::tile::{Access, Affine, BufId, BufType, DramId, Group, IvId, Op, Source, Space, Stmt, View};
use std::collections::BTreeMap;

/// Where an enclosing loop stands: its position, the constant part of its offset, its variable, and whether it is at
/// its first iteration.
#[derive(Clone, Copy)]
struct At {
    axis: usize,
    constant: i64,
    variable: Option<(IvId, i64)>,
    is_first: bool,
}

struct Emitter<'a> {
    p: &'a Problem,
    facts: &'a Facts,
    s: &'a Schedule,
    b: &'a Binding,
    stands_for: &'a [usize],
    origins: &'a [Origin],
    all: Origin,
    /// Current extent of each position.
    now: Vec<u64>,
    loops: Vec<At>,
    /// Buffer and number of loops around its allocation, by tensor.
    buffers: Vec<Option<(BufId, usize)>>,
    types: Vec<BufType>,
    variables: u32,
    /// Buffers of what crosses from one iteration's steps to the next's, in a loop that runs ahead.
    crossing: BTreeMap<usize, BufId>,
    /// Times that the current steps are written out, which share the slots of a ring.
    copies: usize,
}

/// The group called `name` that runs `solution` on the DRAM places of `b`. `origins` are those of each op of the
/// problem; a DRAM array is the DRAM tensor of the same number.
pub fn emit(name: &str, solution: &Solution, b: &Binding, origins: &[Origin]) -> Group {
    let p = &solution.problem;
    let facts = Facts::new(p);
    let mut e = Emitter {
        p,
        s: &solution.schedule,
        b,
        stands_for: &solution.stands_for,
        origins,
        all: Origin::fuse(origins),
        now: p.extents.clone(),
        loops: Vec::new(),
        buffers: vec![None; p.tensors.len()],
        types: Vec::new(),
        variables: 0,
        crossing: BTreeMap::new(),
        copies: 1,
        facts: &facts,
    };
    let body = e.steps(&solution.steps);
    Group { name: name.to_string(), bufs: e.types, body }
}

impl Emitter<'_> {
    fn steps(&mut self, steps: &[Step]) -> Vec<Stmt> {
        let mut code = Vec::new();
        for step in steps {
            match step {
                Step::Alloc { tensor, depth } => {
                    if let Some(buf) = self.crossing.get(tensor) {
                        self.buffers[*tensor] = Some((*buf, self.loops.len()));
                        continue;
                    }
                    let buf = self.buffer(*tensor);
                    self.buffers[*tensor] = Some((buf, self.loops.len()));
                    let depth = (*depth as usize).div_ceil(self.copies);
                    code.push(Stmt::Alloc { buf, depth });
                }
                Step::Load(t) => {
                    let place = self.b.load[self.stands_for[*t]];
                    if let (Some(access), Some(place), Some(dst)) =
                        (&self.p.tensors[*t].load, place, self.view(*t))
                    {
                        let (dram, at) = self.address(access, place);
                        code.push(Stmt::Op { op: Op::Load { dram, at, dst }, origin: self.readers(*t) });
                    }
                }
                Step::Store(t) => {
                    let place = self.b.store[self.stands_for[*t]];
                    if let (Some(access), Some(place), Some(src)) =
                        (&self.p.tensors[*t].store, place, self.view(*t))
                    {
                        let (dram, at) = self.address(access, place);
                        code.push(Stmt::Op { op: Op::Store { src, dram, at }, origin: self.writers(*t) });
                    }
                }
                Step::Op(index) => {
                    let origin = self.origins[*index].clone();
                    code.extend(self.op(*index).map(|op| Stmt::Op { op, origin }));
                }
                Step::Loop { axis, tile, accumulates, body, cut } => {
                    self.repeat((*axis, *tile), *accumulates, body, *cut, &mut code)
                }
            }
        }
        code
    }

    /// Origins of the ops that read `tensor`.
    fn readers(&self, tensor: usize) -> Origin {
        let ops = (0..self.p.ops.len()).filter(|&o| self.p.ops[o].tensors().any(|t| t == tensor));
        Origin::fuse(ops.map(|o| &self.origins[o]))
    }

    fn writers(&self, tensor: usize) -> Origin {
        let made = (0..self.p.ops.len()).filter(|&o| self.p.ops[o].outs.contains(&tensor));
        let origin = Origin::fuse(made.map(|o| &self.origins[o]));
        if origin.is_empty() { self.all.clone() } else { origin }
    }

    /// A new buffer for a tensor.
    fn buffer(&mut self, tensor: usize) -> BufId {
        let t = &self.p.tensors[tensor];
        let buf = BufId(self.types.len() as u32);
        self.types.push(BufType {
            dtype: t.dtype,
            shape: self.sizes(tensor),
            space: match t.space {
                problem::Space::Spm => Space::Spm,
                problem::Space::Acc => Space::Acc,
            },
            part: self.s.part[tensor],
        });
        buf
    }

    fn repeat(
        &mut self,
        (axis, tile): (usize, u64),
        accumulates: bool,
        body: &[Step],
        cut: Option<usize>,
        code: &mut Vec<Stmt>,
    ) {
        let extent = self.now[axis];
        let tile = tile.min(extent);
        let (full, rest) = (extent / tile, extent % tile);
        let peeled = u64::from(accumulates && full > 1);
        if peeled == 1 {
            code.extend(self.once(axis, tile, 0, true, body));
        }
        let trip = full - peeled;
        let start = (peeled * tile) as i64;
        if trip == 1 {
            code.extend(self.once(axis, tile, start, peeled == 0, body));
        } else if let (Some(cut), true) = (cut, trip > 1) {
            self.staggered((axis, tile), start, trip, body.split_at(cut), code);
        } else if trip > 1 {
            let iv = IvId(self.variables);
            self.variables += 1;
            let at = At { axis, constant: start, variable: Some((iv, tile as i64)), is_first: peeled == 0 };
            let body = self.within(at, tile, body);
            code.push(Stmt::For { iv, trip: trip as usize, body });
        }
        if rest > 0 {
            code.extend(self.once(axis, rest, (full * tile) as i64, false, body));
        }
    }

    /// A loop of which the steps `ahead` run an iteration before the steps `behind`. Two iterations are written out,
    /// with a buffer for either of what crosses from one to the other.
    fn staggered(
        &mut self,
        (axis, tile): (usize, u64),
        start: i64,
        trip: u64,
        (ahead, behind): (&[Step], &[Step]),
        code: &mut Vec<Stmt>,
    ) {
        let body: Vec<Step> = ahead.iter().chain(behind).cloned().collect();
        let crossing = pipeline::crossing(self.facts, &body, ahead.len());
        let before = self.now[axis];
        self.now[axis] = tile;
        let pairs: [BTreeMap<usize, BufId>; 2] =
            [0, 1].map(|_| crossing.iter().map(|&t| (t, self.buffer(t))).collect());
        self.now[axis] = before;
        for buf in pairs.iter().flat_map(BTreeMap::values) {
            code.push(Stmt::Alloc { buf: *buf, depth: 1 });
        }
        let step = tile as i64;
        let outer = (std::mem::take(&mut self.crossing), std::mem::replace(&mut self.copies, 2));
        let stage = |me: &mut Self, steps: &[Step], variable: Option<IvId>, iteration: i64, parity: usize| {
            me.crossing.clone_from(&pairs[parity]);
            let variable = variable.map(|iv| (iv, 2 * step));
            let at = At { axis, constant: start + iteration * step, variable, is_first: false };
            let level = me.loops.len() + 1;
            for (t, buf) in &pairs[parity] {
                me.buffers[*t] = Some((*buf, level));
            }
            me.within(at, tile, steps)
        };
        code.extend(stage(self, ahead, None, 0, 0));
        let twice = (trip - 1) / 2;
        if twice > 0 {
            let iv = IvId(self.variables);
            self.variables += 1;
            let loops = (twice > 1).then_some(iv);
            let mut inner = stage(self, ahead, loops, 1, 1);
            inner.extend(stage(self, behind, loops, 0, 0));
            inner.extend(stage(self, ahead, loops, 2, 0));
            inner.extend(stage(self, behind, loops, 1, 1));
            match loops {
                Some(iv) => code.push(Stmt::For { iv, trip: twice as usize, body: inner }),
                None => code.extend(inner),
            }
        }
        let done = 2 * twice as i64;
        if (trip - 1) % 2 == 1 {
            code.extend(stage(self, ahead, None, done + 1, 1));
            code.extend(stage(self, behind, None, done, 0));
            code.extend(stage(self, behind, None, done + 1, 1));
        } else {
            code.extend(stage(self, behind, None, done, 0));
        }
        (self.crossing, self.copies) = outer;
    }

    fn once(&mut self, axis: usize, extent: u64, constant: i64, is_first: bool, body: &[Step]) -> Vec<Stmt> {
        self.within(At { axis, constant, variable: None, is_first }, extent, body)
    }

    fn within(&mut self, at: At, extent: u64, body: &[Step]) -> Vec<Stmt> {
        let before = self.now[at.axis];
        self.now[at.axis] = extent;
        self.loops.push(at);
        let code = self.steps(body);
        self.loops.pop();
        self.now[at.axis] = before;
        code
    }

    fn sizes(&self, tensor: usize) -> Vec<usize> {
        self.s.shape(self.p, tensor, &self.now).into_iter().map(|extent| extent as usize).collect()
    }

    /// The part of a tensor's buffer that the current iteration works on.
    fn view(&self, tensor: usize) -> Option<View> {
        let (buf, level) = self.buffers[tensor]?;
        let t = &self.p.tensors[tensor];
        let mut view =
            View { buf, offsets: vec![0; t.shape.len()], shape: self.sizes(tensor), ivs: Vec::new() };
        for at in self.loops[level..].iter().filter(|at| t.shape[at.axis] > 1 && !t.repeats(at.axis)) {
            view.offsets[at.axis] += at.constant;
            if let Some((iv, step)) = at.variable {
                let mut coefficients = vec![0; t.shape.len()];
                coefficients[at.axis] = step;
                view.ivs.push((iv, coefficients));
            }
        }
        Some(view)
    }

    fn address(&self, access: &problem::Access, (array, offset): (usize, i64)) -> (DramId, Access) {
        let mut at = Access { offset, strides: access.strides.clone(), ivs: Vec::new() };
        for l in &self.loops {
            let stride = access.strides[l.axis];
            if stride == 0 {
                continue;
            }
            at.offset += stride * l.constant;
            if let Some((iv, step)) = l.variable {
                at.ivs.push((iv, stride * step));
            }
        }
        (DramId(array as u32), at)
    }

    /// Whether an op continues a chain that an earlier iteration began.
    fn accumulates(&self, op: usize) -> bool {
        let reduced = self.p.reduced(op);
        let level = self.p.ops[op].outs.first().and_then(|&t| self.buffers[t]).map_or(0, |b| b.1);
        self.loops[level..].iter().any(|at| reduced.has(at.axis) && !at.is_first)
    }

    fn op(&self, index: usize) -> Option<Op> {
        let op = &self.p.ops[index];
        let out = |i: usize| op.outs.get(i).and_then(|&t| self.view(t));
        let operand = |i: usize| match op.ins.get(i)? {
            In::Tensor(t) => self.view(*t),
            In::Scalar(_) => None,
        };
        let accumulate = self.accumulates(index);
        Some(match &op.kind {
            OpKind::Copy => return None,
            OpKind::Map(kind) => {
                let source = |i: &In| match i {
                    In::Tensor(t) => self.view(*t).map(Source::View),
                    In::Scalar(s) => Some(Source::Number(s.as_f64())),
                };
                Op::Map { kind: *kind, dst: out(0)?, srcs: op.ins.iter().map(source).collect::<Option<_>>()? }
            }
            OpKind::Cast => Op::Cast { dst: out(0)?, src: operand(0)? },
            OpKind::Reduce(kind) => Op::Reduce { kind: *kind, dst: out(0)?, src: operand(0)?, accumulate },
            OpKind::Contract => {
                let s = self.s.stationary[index];
                Op::Matmul { acc: out(0)?, s: operand(s)?, x: operand(1 - s)?, accumulate }
            }
            OpKind::Fill(value) => Op::Fill { dst: out(0)?, value: value.as_f64() },
            OpKind::Iota { axis } => {
                let mut form = Affine { base: 0, axes: vec![0; self.p.extents.len()], ivs: Vec::new() };
                form.axes[*axis] = 1;
                for at in self.loops.iter().filter(|at| at.axis == *axis) {
                    form.base += at.constant;
                    form.ivs.extend(at.variable);
                }
                Op::Iota { dst: out(0)?, form }
            }
            OpKind::Gather { data, row_stride, rows } => {
                let (dram, at) = self.address(data, self.b.data[index]?);
                let (row_stride, rows) = (*row_stride, *rows as i64);
                Op::Gather { dram, at, idx: operand(0)?, row_stride, rows, dst: out(0)? }
            }
            OpKind::Scatter { data, row_stride, rows } => {
                let (dram, at) = self.address(data, self.b.data[index]?);
                let (row_stride, rows) = (*row_stride, *rows as i64);
                Op::Scatter { src: operand(0)?, idx: operand(1)?, dram, at, row_stride, rows }
            }
            OpKind::Scan { kind, axis, exclusive, reverse } => {
                let (exclusive, reverse) = (*exclusive, *reverse);
                Op::Scan { kind: *kind, dst: out(0)?, src: operand(0)?, axis: *axis, exclusive, reverse }
            }
            OpKind::TopK { axis, largest } => Op::TopK {
                values: out(0)?,
                indices: out(1)?,
                src: operand(0)?,
                axis: *axis,
                largest: *largest,
            },
        })
    }
}
