//! The time of a plan: engines that work in order, rings and transfers, simulated over the first iterations of each
//! loop and carried on from there.
//!
//! The model is the backend's: each engine takes its ops in the order of the plan, an op starts when its operands are
//! there and its result has a free buffer, transfers share the queues and DRAM. A loop with a cut runs the steps before
//! the cut one iteration ahead of those after it, so that an engine that comes twice in a chain of ops does not wait
//! for the chain.

use super::machine::{Engine, Load, Machine};
use super::plan::Step;
use super::prices::Prices;
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

/// Instances of a ring whose ends are remembered: no ring of a plan is longer.
const RING: usize = 4;

/// A buffer's times.
#[derive(Clone, Copy, Debug, Default)]
struct Buffer {
    /// The value is complete.
    ready: u64,
    /// A slot is free for the instance.
    free: u64,
    /// The last use of the instance ends.
    used: u64,
    /// Ends of the last uses of earlier instances, the latest first, and how many there are.
    before: [u64; RING],
    instances: usize,
}

struct Pipeline<'a, 'p> {
    f: &'a Facts,
    prices: &'a mut Prices<'p>,
    units: [u64; UNITS],
    /// Two of each tensor: those that cross a cut have one for even and one for odd iterations.
    buffers: Vec<Buffer>,
    /// Second instance in use, by tensor.
    odd: Vec<bool>,
    /// Tensors that cross the cut of a loop under way: one buffer for either iteration, whatever the ring.
    crosses: Vec<bool>,
    /// Ticks that the loads and the stores of the outermost loop under way keep the queues and DRAM busy: each has its
    /// part of them. Nothing outside loops, where loads come first and stores last.
    moved: Option<[u64; 2]>,
    /// Queues for loads and for stores.
    share: [u64; 2],
    /// When the queues that a tensor is loaded or stored through are free.
    queues: [Vec<u64>; 2],
}

/// Ticks from the first transfer of `steps` to the last. `moved` are the ticks that all loads and all stores take if
/// each has all queues (see [`share`]).
pub fn ticks(facts: &Facts, prices: &mut Prices, moved: [u64; 2], steps: &[Step]) -> u64 {
    let tensors = prices.p.tensors.len();
    let share = prices.m.queue_shares(moved);
    let mut pipeline = Pipeline {
        f: facts,
        prices,
        units: [0; UNITS],
        buffers: vec![Buffer::default(); 2 * tensors],
        odd: vec![false; tensors],
        crosses: vec![false; tensors],
        moved: None,
        share,
        queues: [vec![0; tensors], vec![0; tensors]],
    };
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
pub fn share(load: &Load) -> u64 {
    load.busy[Engine::Queues as usize].max(load.busy[Engine::Dram as usize])
}

/// Whether an op moves bytes from DRAM (0) or to it (1).
pub fn way_of(op: &OpKind) -> Option<usize> {
    match op {
        OpKind::Gather { .. } => Some(0),
        OpKind::Scatter { .. } => Some(1),
        _ => None,
    }
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

impl Pipeline<'_, '_> {
    fn buffer(&mut self, tensor: usize) -> &mut Buffer {
        let index = tensor + if self.odd[tensor] { self.odd.len() } else { 0 };
        &mut self.buffers[index]
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Alloc { tensor, depth } => {
                    let depth = if self.crosses[*tensor] { 1 } else { (*depth as usize).clamp(1, RING) };
                    let buffer = self.buffer(*tensor);
                    let used = buffer.used.max(buffer.ready);
                    buffer.before.copy_within(..RING - 1, 1);
                    buffer.before[0] = used;
                    buffer.instances = (buffer.instances + 1).min(RING);
                    buffer.free = if buffer.instances < depth { 0 } else { buffer.before[depth - 1] };
                    (buffer.ready, buffer.used) = (buffer.free, 0);
                }
                Step::Load(t) => self.load(*t),
                Step::Store(t) => self.store(*t),
                Step::Op(o) => self.op(*o),
                Step::Loop { axis, tile, body, cut, .. } => self.repeat(*axis, *tile, body, *cut),
            }
        }
    }

    /// A transfer of tensor `t` that may start at `from`: when it is complete. It has its own queues, in turn with its
    /// other iterations, and its part of what all queues and DRAM can do.
    fn transfer(&mut self, unit: Unit, t: usize, from: u64, load: &Load) -> u64 {
        let way = usize::from(unit == Unit::Store);
        let mut share = share(load);
        if let Some(moved) = self.moved {
            let all = u128::from(share) * (u128::from(moved[0]) + u128::from(moved[1]));
            share = all.div_ceil(u128::from(moved[way]).max(1)) as u64;
        }
        let alone = load.alone.div_ceil(load.ways.clamp(1, self.share[way]));
        let from = from.max(self.queues[way][t]);
        self.queues[way][t] = from + alone;
        let at = &mut self.units[unit as usize];
        *at = (*at).max(from) + share;
        let latency = self.prices.m.dma_latency_ticks();
        (*at + latency).max(from + latency + alone)
    }

    fn load(&mut self, t: usize) {
        let Some(load) = self.prices.load(t) else { return };
        let from = self.buffer(t).free;
        let end = self.transfer(Unit::Load, t, from, &load);
        let buffer = self.buffer(t);
        buffer.ready = end;
        buffer.used = end;
    }

    fn store(&mut self, t: usize) {
        let Some(load) = self.prices.store(t) else { return };
        let from = self.buffer(t).ready;
        let end = self.transfer(Unit::Store, t, from, &load);
        let buffer = self.buffer(t);
        buffer.used = buffer.used.max(end);
    }

    fn op(&mut self, o: usize) {
        let p = self.prices.p;
        let Some(unit) = unit_of(p, self.prices.m, o) else { return };
        let load = self.prices.op(o);
        let mut start = 0;
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
                (*at, *at + self.prices.m.result_latency(unit == Unit::Mxu))
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
        let before = self.prices.extent(axis);
        let tile = before.min(tile);
        let (full, rest) = (before / tile, before % tile);
        let nested = body.iter().any(|s| matches!(s, Step::Loop { .. }));
        let most = if nested { 2 } else { 4 };
        self.prices.set(axis, tile);
        let is_outermost = self.moved.is_none();
        if is_outermost {
            let mut moved = [0; 2];
            self.add_moved(body, 1, &mut moved);
            self.moved = Some(moved);
        }
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
            self.prices.set(axis, rest);
            self.run(body);
        }
        if is_outermost {
            self.moved = None;
        }
        self.prices.set(axis, before);
    }

    /// Adds the ticks that the loads and the stores of `runs` times these steps keep the queues and DRAM busy.
    fn add_moved(&mut self, steps: &[Step], runs: u64, moved: &mut [u64; 2]) {
        for step in steps {
            let (load, way) = match step {
                Step::Load(t) => (self.prices.load(*t), Some(0)),
                Step::Store(t) => (self.prices.store(*t), Some(1)),
                Step::Op(o) => {
                    let way = way_of(&self.prices.p.ops[*o].kind);
                    (way.map(|_| self.prices.op(*o)), way)
                }
                Step::Loop { axis, tile, body, .. } => {
                    let before = self.prices.extent(*axis);
                    let tile = before.min(*tile);
                    self.prices.set(*axis, tile);
                    self.add_moved(body, runs.saturating_mul(before / tile), moved);
                    self.prices.set(*axis, before);
                    continue;
                }
                Step::Alloc { .. } => continue,
            };
            if let (Some(load), Some(way)) = (load, way) {
                moved[way] = moved[way].saturating_add(share(&load).saturating_mul(runs));
            }
        }
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
