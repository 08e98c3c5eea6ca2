//! A plan becomes code: loops with peeled remainders, views of buffers, addresses in DRAM.
//!
//! A loop whose body accumulates has its first iteration peeled (it starts the chains that the others continue), and
//! a remainder is a copy of the body with smaller extents. All offsets are constants plus induction variables.

use super::code::{Address, Code, View};
use crate::grouping::group::Binding;
use crate::tiling::plan::{Schedule, Step};
use crate::tiling::problem::{Access, In, OpKind, Problem};

/// Where an enclosing loop stands: its position, the constant part of its offset, its variable, and whether it is at
/// its first iteration.
#[derive(Clone, Copy)]
struct At {
    axis: usize,
    constant: i64,
    variable: Option<(usize, i64)>,
    is_first: bool,
}

struct Emitter<'a> {
    p: &'a Problem,
    s: &'a Schedule,
    b: &'a Binding,
    stands_for: &'a [usize],
    /// Current extent of each position.
    now: Vec<u64>,
    loops: Vec<At>,
    /// Buffer and number of loops around its allocation, by tensor.
    buffers: Vec<Option<(usize, usize)>>,
    next_buffer: usize,
    next_variable: usize,
}

/// The code of one group.
pub fn emit(p: &Problem, s: &Schedule, steps: &[Step], b: &Binding, stands_for: &[usize]) -> Vec<Code> {
    let mut e = Emitter {
        p,
        s,
        b,
        stands_for,
        now: p.extents.clone(),
        loops: Vec::new(),
        buffers: vec![None; p.tensors.len()],
        next_buffer: 0,
        next_variable: 0,
    };
    e.steps(steps)
}

impl Emitter<'_> {
    fn steps(&mut self, steps: &[Step]) -> Vec<Code> {
        let mut code = Vec::new();
        for step in steps {
            match step {
                Step::Alloc { tensor, depth } => {
                    let t = &self.p.tensors[*tensor];
                    self.buffers[*tensor] = Some((self.next_buffer, self.loops.len()));
                    code.push(Code::Alloc {
                        buffer: self.next_buffer,
                        shape: self.sizes(*tensor),
                        dtype: t.dtype,
                        space: t.space,
                        part: self.s.part[*tensor],
                        depth: *depth,
                    });
                    self.next_buffer += 1;
                }
                Step::Load(t) => {
                    let place = self.b.load[self.stands_for[*t]];
                    if let (Some(access), Some(place)) = (&self.p.tensors[*t].load, place) {
                        code.push(Code::Load { from: self.address(access, place), to: self.view(*t) });
                    }
                }
                Step::Store(t) => {
                    let place = self.b.store[self.stands_for[*t]];
                    if let (Some(access), Some(place)) = (&self.p.tensors[*t].store, place) {
                        code.push(Code::Store { from: self.view(*t), to: self.address(access, place) });
                    }
                }
                Step::Op(op) => code.extend(self.op(*op)),
                Step::Loop { axis, tile, accumulates, body } => self.repeat(*axis, *tile, *accumulates, body, &mut code),
            }
        }
        code
    }

    fn repeat(&mut self, axis: usize, tile: u64, accumulates: bool, body: &[Step], code: &mut Vec<Code>) {
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
        } else if trip > 1 {
            let variable = self.next_variable;
            self.next_variable += 1;
            let at = At { axis, constant: start, variable: Some((variable, tile as i64)), is_first: peeled == 0 };
            let body = self.within(at, tile, body);
            code.push(Code::For { variable, trip, body });
        }
        if rest > 0 {
            code.extend(self.once(axis, rest, (full * tile) as i64, false, body));
        }
    }

    fn once(&mut self, axis: usize, extent: u64, constant: i64, is_first: bool, body: &[Step]) -> Vec<Code> {
        self.within(At { axis, constant, variable: None, is_first }, extent, body)
    }

    fn within(&mut self, at: At, extent: u64, body: &[Step]) -> Vec<Code> {
        let before = self.now[at.axis];
        self.now[at.axis] = extent;
        self.loops.push(at);
        let code = self.steps(body);
        self.loops.pop();
        self.now[at.axis] = before;
        code
    }

    fn sizes(&self, tensor: usize) -> Vec<u64> {
        self.p.tensors[tensor].shape.iter().zip(&self.now).map(|(&full, &now)| full.min(now)).collect()
    }

    /// The part of a tensor's buffer that the current iteration works on.
    fn view(&self, tensor: usize) -> View {
        let (buffer, level) = self.buffers[tensor].unwrap_or((usize::MAX, 0));
        let t = &self.p.tensors[tensor];
        let mut view =
            View { buffer, offsets: vec![0; t.shape.len()], sizes: self.sizes(tensor), variables: Vec::new() };
        for at in self.loops[level..].iter().filter(|at| t.shape[at.axis] > 1) {
            view.offsets[at.axis] += at.constant;
            if let Some((variable, step)) = at.variable {
                let mut coefficients = vec![0; t.shape.len()];
                coefficients[at.axis] = step;
                view.variables.push((variable, coefficients));
            }
        }
        view
    }

    fn address(&self, access: &Access, (array, offset): (usize, i64)) -> Address {
        let mut address = Address { array, offset, strides: access.strides.clone(), variables: Vec::new() };
        for at in &self.loops {
            let stride = access.strides[at.axis];
            if stride == 0 {
                continue;
            }
            address.offset += stride * at.constant;
            if let Some((variable, step)) = at.variable {
                address.variables.push((variable, stride * step));
            }
        }
        address
    }

    /// Whether an op continues a chain that an earlier iteration began.
    fn accumulates(&self, op: usize) -> bool {
        let reduced = self.p.reduced(op);
        let level = self.p.ops[op].outs.first().and_then(|&t| self.buffers[t]).map_or(0, |b| b.1);
        self.loops[level..].iter().any(|at| reduced.has(at.axis) && !at.is_first)
    }

    fn op(&self, index: usize) -> Option<Code> {
        let op = &self.p.ops[index];
        let tensors: Vec<View> = op.tensors().map(|t| self.view(t)).collect();
        let outs: Vec<View> = op.outs.iter().map(|&t| self.view(t)).collect();
        let from = self.b.op[index];
        let (mut counts, mut base, mut variables) = (Vec::new(), 0, Vec::new());
        let mut address = None;
        match &op.kind {
            OpKind::Copy => return None,
            OpKind::Iota { axis } => {
                counts = vec![0; self.p.extents.len()];
                counts[*axis] = 1;
                for at in self.loops.iter().filter(|at| at.axis == *axis) {
                    base += at.constant;
                    variables.extend(at.variable);
                }
            }
            OpKind::Gather { data, .. } | OpKind::Scatter { data, .. } => {
                address = self.b.data[index].map(|place| self.address(data, place));
            }
            _ => {}
        }
        let mut next = tensors.into_iter();
        let ins = op
            .ins
            .iter()
            .filter_map(|i| match i {
                In::Scalar(s) => Some(super::code::Operand::Scalar(*s)),
                In::Tensor(_) => next.next().map(super::code::Operand::View),
            })
            .collect();
        Some(Code::Op {
            kind: op.kind.clone(),
            outs,
            ins,
            stationary: self.s.stationary[index],
            accumulates: self.accumulates(index),
            address,
            counts,
            base,
            variables,
            from,
        })
    }
}
