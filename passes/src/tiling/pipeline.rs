//! The time of a plan: engines that work in order, rings and transfers, simulated over the first iterations of each
//! loop and carried on from there.
//!
//! The model is the backend's: each engine takes its ops in the order of the plan, an op starts when its operands are
//! there and its result has a free buffer, transfers share the queues and DRAM. A loop with a cut runs the steps before
//! the cut one iteration ahead of those after it, so that an engine that comes twice in a chain of ops does not wait
//! for the chain.

use std::collections::VecDeque;

use super::machine::{Direction, Engine, Load, Machine};
use super::plan::{Schedule, Step};
use super::problem::{Facts, OpKind, Problem};

/// The streams that work in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Mxu,
    Vec,
    Act,
    Load,
    Store,
}

const UNITS: usize = 5;

/// A buffer's times.
#[derive(Clone, Debug, Default)]
struct Buffer {
    /// The value is complete.
    ready: u64,
    /// A slot is free for the instance.
    free: u64,
    /// The last use of the instance ends.
    used: u64,
    /// Ends of the last uses of earlier instances, the latest last.
    before: VecDeque<u64>,
}

struct Pipeline<'a> {
    p: &'a Problem,
    f: &'a Facts,
    s: &'a Schedule,
    m: &'a Machine,
    now: Vec<u64>,
    units: [u64; UNITS],
    /// Two of each tensor: those that cross a cut have one for even and one for odd iterations.
    buffers: Vec<Buffer>,
    /// Second instance in use, by tensor.
    odd: Vec<bool>,
    /// Tensors that cross the cut of a loop under way: one buffer for either iteration, whatever the ring.
    crosses: Vec<bool>,
    /// Ticks that all loads and all stores keep the queues and DRAM busy: each has its part of them.
    moved: [u64; 2],
    /// Queues for loads and for stores.
    share: [u64; 2],
    /// When the queues that a tensor is loaded or stored through are free.
    queues: [Vec<u64>; 2],
}

/// Ticks from the first transfer of `steps` to the last.
pub fn ticks(
    problem: &Problem,
    facts: &Facts,
    schedule: &Schedule,
    machine: &Machine,
    steps: &[Step],
) -> u64 {
    let mut pipeline = Pipeline {
        p: problem,
        f: facts,
        s: schedule,
        m: machine,
        now: problem.extents.clone(),
        units: [0; UNITS],
        buffers: vec![Buffer::default(); 2 * problem.tensors.len()],
        odd: vec![false; problem.tensors.len()],
        crosses: vec![false; problem.tensors.len()],
        moved: [0; 2],
        share: [1; 2],
        queues: [vec![0; problem.tensors.len()], vec![0; problem.tensors.len()]],
    };
    pipeline.moved = pipeline.traffic(steps);
    pipeline.share = machine.queue_shares(pipeline.moved);
    pipeline.run(steps);
    let last = pipeline.buffers.iter().map(|b| b.used.max(b.ready)).max().unwrap_or(0);
    pipeline.units.into_iter().max().unwrap_or(0).max(last)
}

/// Places at which the body of a loop may be cut so that the steps before run an iteration ahead: before an op that
/// returns to an engine that the ops it needs have used before and left. The array's come first.
pub fn cuts(problem: &Problem, machine: &Machine, body: &[Step]) -> Vec<usize> {
    let mut at: Vec<(usize, usize)> = Vec::new();
    for (place, step) in body.iter().enumerate() {
        match step {
            Step::Op(o) => at.push((place, *o)),
            Step::Loop { .. } => return Vec::new(),
            _ => {}
        }
    }
    let unit = |o: usize| unit_of(problem, machine, o);
    // Engines used by the ops before each op in its chain, with whether another engine came after.
    let mut left: Vec<[bool; UNITS]> = Vec::with_capacity(at.len());
    let mut used: Vec<[bool; UNITS]> = Vec::with_capacity(at.len());
    let mut found: Vec<(bool, usize)> = Vec::new();
    for (i, &(place, o)) in at.iter().enumerate() {
        let Some(own) = unit(o) else {
            left.push([false; UNITS]);
            used.push([false; UNITS]);
            continue;
        };
        let (mut gone, mut seen) = ([false; UNITS], [false; UNITS]);
        for (j, &(_, before)) in at[..i].iter().enumerate() {
            if problem.ops[before].outs.iter().any(|t| problem.ops[o].tensors().any(|x| x == *t)) {
                for u in 0..UNITS {
                    gone[u] |= left[j][u] || (used[j][u] && u != own as usize);
                    seen[u] |= used[j][u];
                }
            }
        }
        if gone[own as usize] {
            // The buffers and loads that only this op needs come with it.
            let mut first = place;
            while first > 0 && matches!(body[first - 1], Step::Alloc { .. } | Step::Load(_)) {
                first -= 1;
            }
            if first > 0 {
                found.push((own != Unit::Mxu, first));
            }
        }
        seen[own as usize] = true;
        left.push(gone);
        used.push(seen);
    }
    found.sort_unstable();
    found.into_iter().map(|(_, place)| place).collect()
}

/// Tensors that are made or loaded before the cut of a body and used after it.
pub fn crossing(facts: &Facts, body: &[Step], cut: usize) -> Vec<usize> {
    let uses = |steps: &[Step], t: usize| {
        steps.iter().any(|s| match s {
            Step::Op(o) => facts.users[t].binary_search(o).is_ok(),
            Step::Store(x) => *x == t,
            _ => false,
        })
    };
    let allocated = body[..cut].iter().filter_map(|s| match s {
        Step::Alloc { tensor, .. } => Some(*tensor),
        _ => None,
    });
    allocated.filter(|&t| uses(&body[cut..], t)).collect()
}

/// Ticks that a transfer keeps the queues and DRAM busy, with all queues at work.
fn share(load: &Load) -> u64 {
    load.busy[Engine::Queues as usize].max(load.busy[Engine::Dram as usize])
}

fn unit_of(problem: &Problem, machine: &Machine, op: usize) -> Option<Unit> {
    Some(match &problem.ops[op].kind {
        OpKind::Contract => Unit::Mxu,
        OpKind::Map(kind) if machine.is_act(*kind) => Unit::Act,
        OpKind::Gather { .. } => Unit::Load,
        OpKind::Scatter { .. } => Unit::Store,
        OpKind::Copy => return None,
        _ => Unit::Vec,
    })
}

impl Pipeline<'_> {
    fn shape(&self, tensor: usize) -> Vec<u64> {
        self.s.shape(self.p, tensor, &self.now)
    }

    fn buffer(&mut self, tensor: usize) -> &mut Buffer {
        let index = tensor + if self.odd[tensor] { self.p.tensors.len() } else { 0 };
        &mut self.buffers[index]
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Alloc { tensor, depth } => {
                    let depth = if self.crosses[*tensor] { 1 } else { *depth as usize };
                    let buffer = self.buffer(*tensor);
                    let used = buffer.used.max(buffer.ready);
                    buffer.before.push_back(used);
                    while buffer.before.len() > depth.max(1) {
                        buffer.before.pop_front();
                    }
                    buffer.free = if buffer.before.len() < depth { 0 } else { buffer.before[0] };
                    (buffer.ready, buffer.used) = (buffer.free, 0);
                }
                Step::Load(t) => self.load(*t),
                Step::Store(t) => self.store(*t),
                Step::Op(o) => self.op(*o),
                Step::Loop { axis, tile, body, cut, .. } => self.repeat(*axis, *tile, body, *cut),
            }
        }
    }

    /// Ticks that loads and stores take if each has all queues.
    fn traffic(&mut self, steps: &[Step]) -> [u64; 2] {
        let mut moved = [0u64; 2];
        for step in steps {
            match step {
                Step::Load(t) => {
                    if let Some(access) = &self.p.tensors[*t].load {
                        let load = self.m.transfer(access, &self.shape(*t), self.s.part[*t], Direction::Load);
                        moved[0] += share(&load);
                    }
                }
                Step::Store(t) => {
                    if let Some(access) = &self.p.tensors[*t].store {
                        let load =
                            self.m.transfer(access, &self.shape(*t), self.s.part[*t], Direction::Store);
                        moved[1] += share(&load);
                    }
                }
                Step::Alloc { .. } => {}
                Step::Op(o) => {
                    let way = match unit_of(self.p, self.m, *o) {
                        Some(Unit::Load) => 0,
                        Some(Unit::Store) => 1,
                        _ => continue,
                    };
                    moved[way] +=
                        share(&self.m.op(self.p, *o, &self.now, &self.s.part, self.s.stationary[*o]));
                }
                Step::Loop { axis, tile, body, .. } => {
                    let before = self.now[*axis];
                    let tile = before.min(*tile);
                    let steps = [(tile, before / tile), (before % tile, 1)];
                    for (extent, count) in steps.into_iter().filter(|s| s.0 > 0) {
                        self.now[*axis] = extent;
                        let inner = self.traffic(body);
                        for (all, one) in moved.iter_mut().zip(inner) {
                            *all = all.saturating_add(one.saturating_mul(count));
                        }
                    }
                    self.now[*axis] = before;
                }
            }
        }
        moved
    }

    /// A transfer of tensor `t` that may start at `from`: when it is complete. It has its own queues, in turn with its
    /// other iterations, and its part of what all queues and DRAM can do.
    fn transfer(&mut self, unit: Unit, t: usize, from: u64, load: &Load) -> u64 {
        let [loads, stores] = self.moved;
        let way = usize::from(unit == Unit::Store);
        let share = u128::from(share(load)) * (u128::from(loads) + u128::from(stores));
        let share = share.div_ceil(u128::from(self.moved[way]).max(1)) as u64;
        let alone = load.alone.div_ceil(load.ways.clamp(1, self.share[way]));
        let from = from.max(self.queues[way][t]);
        self.queues[way][t] = from + alone;
        let at = &mut self.units[unit as usize];
        *at = (*at).max(from) + share;
        (*at + self.m.dma_latency_ticks()).max(from + self.m.dma_latency_ticks() + alone)
    }

    fn load(&mut self, t: usize) {
        let Some(access) = &self.p.tensors[t].load else { return };
        let load = self.m.transfer(access, &self.shape(t), self.s.part[t], Direction::Load);
        let from = self.buffer(t).free;
        let end = self.transfer(Unit::Load, t, from, &load);
        let buffer = self.buffer(t);
        buffer.ready = end;
        buffer.used = end;
    }

    fn store(&mut self, t: usize) {
        let Some(access) = &self.p.tensors[t].store else { return };
        let load = self.m.transfer(access, &self.shape(t), self.s.part[t], Direction::Store);
        let from = self.buffer(t).ready;
        let end = self.transfer(Unit::Store, t, from, &load);
        let buffer = self.buffer(t);
        buffer.used = buffer.used.max(end);
    }

    fn op(&mut self, o: usize) {
        let Some(unit) = unit_of(self.p, self.m, o) else { return };
        let load = self.m.op(self.p, o, &self.now, &self.s.part, self.s.stationary[o]);
        let mut start = 0;
        let p = self.p;
        for t in p.ops[o].tensors() {
            start = start.max(self.buffer(t).ready);
        }
        for &t in &p.ops[o].outs {
            start = start.max(self.buffer(t).free);
        }
        let (end, ready) = match unit {
            Unit::Load | Unit::Store => {
                let moved = if unit == Unit::Load {
                    p.ops[o].outs.first().copied()
                } else {
                    p.ops[o].tensors().last()
                };
                let end = self.transfer(unit, moved.unwrap_or(0), start, &load);
                (end, end)
            }
            _ => {
                let busy = load.busy[unit as usize];
                let at = &mut self.units[unit as usize];
                *at = (*at).max(start) + busy;
                (*at, *at + self.m.result_latency(unit == Unit::Mxu))
            }
        };
        for t in p.ops[o].tensors() {
            let buffer = self.buffer(t);
            buffer.used = buffer.used.max(end);
        }
        for &t in &p.ops[o].outs {
            let buffer = self.buffer(t);
            buffer.ready = buffer.ready.max(ready);
            buffer.used = buffer.used.max(end);
        }
    }

    fn repeat(&mut self, axis: usize, tile: u64, body: &[Step], cut: Option<usize>) {
        let before = self.now[axis];
        let tile = before.min(tile);
        let (full, rest) = (before / tile, before % tile);
        let nested = body.iter().any(|s| matches!(s, Step::Loop { .. }));
        let most = if nested { 2 } else { 4 };
        self.now[axis] = tile;
        match cut.filter(|_| full > 1) {
            None => {
                self.carry_on(full, most, |me, _| me.run(body));
            }
            Some(cut) => {
                let (ahead, behind) = body.split_at(cut);
                let crossing = crossing(self.f, body, cut);
                let set = |me: &mut Self, i: u64| crossing.iter().for_each(|&t| me.odd[t] = i % 2 == 1);
                set(self, 0);
                crossing.iter().for_each(|&t| self.crosses[t] = true);
                self.run(ahead);
                self.carry_on(full - 1, most, |me, i| {
                    set(me, i + 1);
                    me.run(ahead);
                    set(me, i);
                    me.run(behind);
                });
                set(self, (full - 1).min(most) % 2);
                self.run(behind);
                set(self, 0);
                crossing.iter().for_each(|&t| self.crosses[t] = false);
            }
        }
        if rest > 0 {
            self.now[axis] = rest;
            self.run(body);
        }
        self.now[axis] = before;
    }

    /// Runs `count` iterations: the first `most` one by one, the others as far apart as the last two of them.
    fn carry_on(&mut self, count: u64, most: u64, mut iteration: impl FnMut(&mut Self, u64)) {
        let mut last = (self.units, Vec::new(), self.queues.clone());
        for i in 0..count.min(most) {
            if i + 1 == most {
                last = (self.units, self.buffers.clone(), self.queues.clone());
            }
            iteration(self, i);
        }
        if count <= most {
            return;
        }
        let far = |now: &[u64; UNITS], before: &[u64; UNITS]| {
            now.iter().zip(before).map(|(a, b)| a - b).max().unwrap_or(0)
        };
        let ahead = (count - most).saturating_mul(far(&self.units, &last.0));
        for (unit, before) in self.units.iter_mut().zip(last.0) {
            if *unit != before {
                *unit += ahead;
            }
        }
        for (queues, before) in self.queues.iter_mut().zip(last.2) {
            for (queue, _) in queues.iter_mut().zip(before).filter(|(now, before)| **now != *before) {
                *queue += ahead;
            }
        }
        for (buffer, before) in self.buffers.iter_mut().zip(last.1) {
            if buffer.ready != before.ready || buffer.used != before.used {
                buffer.ready += ahead;
                buffer.free += ahead;
                buffer.used += ahead;
                buffer.before.iter_mut().for_each(|b| *b += ahead);
            }
        }
    }
}
