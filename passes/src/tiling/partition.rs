//! The choice of partition axes: every consistent assignment of one axis to each tensor of a group.
//!
//! A map ties its operands and result to one axis; a reduction never runs over it; a contract wants the last contracted
//! axis on the partitions of its moving operand, a row axis on those of its result, and either on its stationary
//! operand. A loaded tensor may be loaded twice, on two axes, or repeated over an axis that it lacks.

use super::problem::{In, OpKind, Problem};

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

#[derive(Clone)]
struct State {
    problem: Problem,
    stands_for: Vec<usize>,
    part: Vec<Option<usize>>,
    stationary: Vec<usize>,
}

/// At most `limit` assignments, in a fixed order.
pub fn assignments(problem: &Problem, limit: usize) -> Vec<Assignment> {
    let state = State {
        problem: problem.clone(),
        stands_for: (0..problem.tensors.len()).collect(),
        part: vec![None; problem.tensors.len()],
        stationary: vec![0; problem.ops.len()],
    };
    let mut found = Vec::new();
    extend(state, 0, limit, &mut found);
    found
}

fn extend(state: State, op: usize, limit: usize, found: &mut Vec<Assignment>) {
    if found.len() >= limit {
        return;
    }
    if op == state.problem.ops.len() {
        let unit = state.problem.unit();
        found.push(Assignment {
            part: state.part.iter().map(|p| p.unwrap_or(unit)).collect(),
            problem: state.problem,
            stands_for: state.stands_for,
            stationary: state.stationary,
        });
        return;
    }
    for next in choices(&state, op) {
        extend(next, op + 1, limit, found);
    }
}

fn choices(state: &State, op: usize) -> Vec<State> {
    let p = &state.problem;
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
                for of_s in if row == inner { vec![row] } else { vec![inner, row] } {
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
    for axis in axes {
        let mut st = state.clone();
        let mut fits = st.problem.ops[op].outs.clone().iter().all(|&t| st.set(t, axis));
        for position in 0..st.problem.ops[op].ins.len() {
            fits = fits && st.operand(op, position, axis);
        }
        if fits {
            next.push(st);
        }
    }
    next
}

impl State {
    fn set(&mut self, tensor: usize, axis: usize) -> bool {
        let shape = &self.problem.tensors[tensor].shape;
        match self.part[tensor] {
            None => {
                self.part[tensor] = Some(axis);
                true
            }
            Some(now) => now == axis || (shape[now] == 1 && shape[axis] == 1),
        }
    }

    /// Puts operand `position` of `op` on `axis`, by a second load where it is needed.
    fn operand(&mut self, op: usize, position: usize, axis: usize) -> bool {
        let In::Tensor(tensor) = self.problem.ops[op].ins[position] else { return true };
        let t = self.problem.tensors[tensor].clone();
        let is_loaded = t.load.is_some() && t.store.is_none();
        let over = self.problem.ops[op].outs.first().map_or(1, |&out| self.problem.tensors[out].shape[axis]);
        let is_gather = matches!(self.problem.ops[op].kind, OpKind::Gather { .. } | OpKind::Scatter { .. });
        let is_contract = self.problem.ops[op].kind == OpKind::Contract;
        let wanted = if is_contract { self.problem.extents[axis] } else { over };
        let repeats = t.shape[axis] == 1 && wanted > 1 && !is_gather;
        if !repeats && self.set(tensor, axis) {
            return true;
        }
        if !is_loaded {
            return false;
        }
        let mut copy = t;
        if repeats {
            copy.shape[axis] = wanted;
        }
        let known = (0..self.problem.tensors.len()).find(|&i| {
            self.stands_for[i] == self.stands_for[tensor]
                && self.part[i] == Some(axis)
                && self.problem.tensors[i] == copy
        });
        let index = known.unwrap_or(self.problem.tensors.len());
        if known.is_none() {
            self.problem.tensors.push(copy);
            self.stands_for.push(self.stands_for[tensor]);
            self.part.push(Some(axis));
        }
        self.problem.ops[op].ins[position] = In::Tensor(index);
        true
    }
}
