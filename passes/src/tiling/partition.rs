//! The choice of partition axes: every consistent assignment of one axis to each tensor of a group.
//!
//! A map ties its operands and result to one axis; a reduction never runs over it; a contract wants the last contracted
//! axis on the partitions of its moving operand, a row axis on those of its result, and either on its stationary
//! operand; the contracted one where the machine has no transposed stationary load. A loaded tensor may be loaded twice, on two axes, or repeated over an axis that it lacks.

use super::machine::{Direction, Load, Machine};
use super::problem::{In, OpKind, Problem, Tensor};

/// One consistent assignment. Its problem is the original with loaded tensors repeated where two axes are needed.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The problem; tensors past the original ones are copies.
    pub problem: Problem,
    /// For each tensor, the original tensor that it stands for.
    pub stands_for: Vec<usize>,
    /// Partition axis of each tensor.
    pub part: Vec<usize>,
    /// Stationary operand of each op.
    pub stationary: Vec<usize>,
}

/// Choices so far; the problem itself is shared.
#[derive(Clone)]
struct State<'p> {
    problem: &'p Problem,
    /// Whether a stationary operand may lie with its rows on partitions.
    loads_transposed: bool,
    /// Loaded tensors that are needed on a second axis or repeated, with the original each stands for.
    copies: Vec<(Tensor, usize)>,
    /// Operands that read a copy.
    reads: Vec<(usize, usize, usize)>,
    part: Vec<Option<usize>>,
    stationary: Vec<usize>,
}

/// Assignments looked at for each that is asked for.
const LOOKED_AT: usize = 32;

/// The `limit` most promising assignments, in a fixed order.
pub fn assignments(problem: &Problem, machine: &Machine, limit: usize) -> Vec<Assignment> {
    let state = State {
        problem,
        loads_transposed: machine.loads_transposed(),
        copies: Vec::new(),
        reads: Vec::new(),
        part: vec![None; problem.tensors.len()],
        stationary: vec![0; problem.ops.len()],
    };
    let mut found = Vec::new();
    extend(state, 0, limit.saturating_mul(LOOKED_AT).min(1024), &mut found);
    if found.len() > limit {
        found.sort_by_cached_key(|a| promise(a, machine));
        found.truncate(limit);
    }
    found
}

/// Ticks of the engines if everything fitted on chip: what the assignment costs in transfers and idle partitions.
fn promise(a: &Assignment, machine: &Machine) -> u64 {
    let p = &a.problem;
    let mut load = Load::default();
    for (t, tensor) in p.tensors.iter().enumerate() {
        if let Some(access) = &tensor.load {
            load.add(&machine.transfer(access, &tensor.shape, a.part[t], Direction::Load), 1);
        }
        if let Some(access) = &tensor.store {
            load.add(&machine.transfer(access, &tensor.shape, a.part[t], Direction::Store), 1);
        }
    }
    for o in 0..p.ops.len() {
        load.add(&machine.op(p, o, &p.extents, &a.part, a.stationary[o]), 1);
    }
    // The sum: what is not the bottleneck now may be once tiles are small.
    load.busy.iter().copied().max().unwrap_or(0) + load.busy.iter().sum::<u64>() / 4
}

fn extend(mut state: State, first: usize, limit: usize, found: &mut Vec<Assignment>) {
    for op in first..state.problem.ops.len() {
        if found.len() >= limit {
            return;
        }
        let mut choices = choices(&state, op);
        if choices.len() == 1 {
            state = choices.remove(0);
            continue;
        }
        for next in choices {
            extend(next, op + 1, limit, found);
        }
        return;
    }
    if found.len() >= limit {
        return;
    }
    let mut problem = state.problem.clone();
    let mut stands_for: Vec<usize> = (0..problem.tensors.len()).collect();
    for (tensor, original) in state.copies {
        problem.tensors.push(tensor);
        stands_for.push(original);
    }
    for (op, position, tensor) in state.reads {
        problem.ops[op].ins[position] = In::Tensor(tensor);
    }
    let unit = problem.unit();
    found.push(Assignment {
        part: state.part.iter().map(|p| p.unwrap_or(unit)).collect(),
        problem,
        stands_for,
        stationary: state.stationary,
    });
}

fn choices<'p>(state: &State<'p>, op: usize) -> Vec<State<'p>> {
    let p = state.problem;
    let unit = p.unit();
    let mut next = Vec::new();
    if p.ops[op].kind == OpKind::Contract {
        let ins: Vec<usize> = p.ops[op].tensors().collect();
        let out = p.ops[op].outs[0];
        let inner = p.reduced(op).last().unwrap_or(unit);
        for stationary in 0..2 {
            let (s, x) = (ins[stationary], ins[1 - stationary]);
            let rows = p.tensors[s].axes().and(p.tensors[out].axes()).minus(p.tensors[x].axes());
            let mut rows: Vec<usize> = rows.iter().collect();
            if rows.is_empty() {
                rows.push(unit);
            }
            for &row in &rows {
                let other = if row == inner || !state.loads_transposed { None } else { Some(row) };
                for of_s in [Some(inner), other].into_iter().flatten() {
                    let mut st = state.clone();
                    st.stationary[op] = stationary;
                    let fits = st.set(out, row)
                        && st.operand(op, 1 - stationary, inner)
                        && st.operand(op, stationary, of_s);
                    if fits {
                        next.push(st);
                    }
                }
            }
        }
        return next;
    }
    let o = &p.ops[op];
    let shape_of = o.outs.first().copied().or_else(|| o.tensors().next());
    let Some(leader) = shape_of else { return vec![state.clone()] };
    let uncut = p.uncut(op).or(p.reduced(op));
    let mut axes: Vec<usize> = p.tensors[leader].axes().minus(uncut).iter().collect();
    if let OpKind::Gather { .. } = o.kind {
        // An index that lacks the partition axis costs one transfer a partition.
        let index = o.tensors().next().map(|t| p.tensors[t].axes()).unwrap_or_default();
        if axes.iter().any(|&a| index.has(a)) {
            axes.retain(|&a| index.has(a));
        }
    }
    if axes.is_empty() {
        axes.push(unit);
    }
    // What a product made in one partition stays there.
    for t in o.tensors().chain(o.outs.iter().copied()) {
        if let Some(part) = state.part[t]
            && p.tensors[t].shape[part] == 1
            && !axes.contains(&part)
        {
            axes.push(part);
        }
    }
    for axis in axes {
        // Most axes contradict what is decided: see before copying.
        let is_set = |t: usize| state.part[t].is_none() || state.accepts(t, axis);
        if !o.outs.iter().all(|&t| is_set(t)) {
            continue;
        }
        let mut st = state.clone();
        let mut fits = o.outs.iter().all(|&t| st.set(t, axis));
        for position in 0..o.ins.len() {
            fits = fits && st.operand(op, position, axis);
        }
        if fits {
            next.push(st);
        }
    }
    next
}

impl State<'_> {
    fn tensor(&self, t: usize) -> &Tensor {
        let own = self.problem.tensors.len();
        if t < own { &self.problem.tensors[t] } else { &self.copies[t - own].0 }
    }

    /// Whether a tensor that has a partition axis can count as being on `axis`.
    fn accepts(&self, tensor: usize, axis: usize) -> bool {
        let shape = &self.tensor(tensor).shape;
        self.part[tensor].is_some_and(|now| now == axis || (shape[now] == 1 && shape[axis] == 1))
    }

    fn set(&mut self, tensor: usize, axis: usize) -> bool {
        if self.part[tensor].is_none() {
            self.part[tensor] = Some(axis);
            return true;
        }
        self.accepts(tensor, axis)
    }

    /// Puts operand `position` of `op` on `axis`, by a second load where it is needed.
    fn operand(&mut self, op: usize, position: usize, axis: usize) -> bool {
        let p = self.problem;
        let In::Tensor(tensor) = p.ops[op].ins[position] else { return true };
        let t = &p.tensors[tensor];
        let is_loaded = t.load.is_some() && t.store.is_none();
        let over = p.ops[op].outs.first().map_or(1, |&out| p.tensors[out].shape[axis]);
        let is_gather = matches!(p.ops[op].kind, OpKind::Gather { .. } | OpKind::Scatter { .. });
        let is_contract = p.ops[op].kind == OpKind::Contract;
        let wanted = if is_contract { p.extents[axis] } else { over };
        let repeats = t.shape[axis] == 1 && wanted > 1 && !is_gather;
        if !repeats && self.set(tensor, axis) {
            return true;
        }
        if !is_loaded {
            return false;
        }
        let mut copy = t.clone();
        if repeats {
            copy.shape[axis] = wanted;
        }
        let own = p.tensors.len();
        let is_known =
            |i: &usize| self.copies[*i] == (copy.clone(), tensor) && self.part[own + i] == Some(axis);
        let as_it_is = (!repeats && self.part[tensor] == Some(axis)).then_some(tensor);
        let known = as_it_is.or_else(|| (0..self.copies.len()).find(is_known).map(|i| own + i));
        let index = known.unwrap_or(own + self.copies.len());
        if known.is_none() {
            self.copies.push((copy, tensor));
            self.part.push(Some(axis));
        }
        self.reads.push((op, position, index));
        true
    }
}
