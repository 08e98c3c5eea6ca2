//! The cost of a plan: memory high water by liveness, engine times with exact remainders, and DRAM bytes.

use super::machine::{Engine, Load, Machine};
use super::pipeline;
use super::plan::{Schedule, Step};
use super::prices::Prices;
use super::problem::{Facts, Problem, Space};

/// What a plan takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Ticks from the first transfer to the last.
    pub ticks: u64,
    /// Engine times and DRAM bytes.
    pub load: Load,
    /// High water of a partition's SPM bytes.
    pub spm_bytes: u64,
    /// High water of a partition's ACC bytes.
    pub acc_bytes: u64,
    /// Instructions in the emitted text, roughly: steps times peeled copies.
    pub steps: u64,
    /// The time is only that of the busiest engine: the plan is too dear whatever else.
    pub is_bound: bool,
}

impl Cost {
    /// What the search minimises: time, and a little traffic, which costs energy and others' time on a shared memory.
    pub fn price(&self) -> u64 {
        self.ticks + self.load.busy[Engine::Dram as usize] / 4
    }
}

struct Walk<'a, 'p> {
    f: &'a Facts,
    prices: &'a mut Prices<'p>,
    steps: u64,
    /// Ticks that all loads and all stores take with all queues.
    moved: [u64; 2],
}

/// The cost of `steps`, the plan of `schedule`, whose memory high water is `(SPM, ACC)`. Its time is not found out
/// where the engines alone make the price exceed `enough`; it is then that of the busiest engine.
pub fn cost(
    problem: &Problem,
    facts: &Facts,
    schedule: &Schedule,
    machine: &Machine,
    steps: &[Step],
    (spm_bytes, acc_bytes): (u64, u64),
    enough: u64,
) -> Cost {
    let mut prices = Prices::new(problem, schedule, machine);
    let mut walk = Walk { f: facts, prices: &mut prices, steps: 0, moved: [0; 2] };
    let load = walk.time(steps, 1);
    let (count, moved) = (walk.steps, walk.moved);
    let ticks = load.busy.iter().copied().max().unwrap_or(0);
    let mut cost = Cost { ticks, load, spm_bytes, acc_bytes, steps: count, is_bound: true };
    if cost.price() <= enough {
        cost.is_bound = false;
        cost.ticks = ticks.max(pipeline::ticks(facts, &mut prices, moved, steps));
    }
    cost
}

/// How buffers of one loop body share bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Not at all, so that an iteration overlaps with the next.
    Apart,
    /// Where their lifetimes do not meet; then they wait for one another.
    Tight,
}

/// Only the memory high water of a plan, in bytes of a partition: (SPM, ACC).
pub fn memory(
    problem: &Problem,
    facts: &Facts,
    schedule: &Schedule,
    machine: &Machine,
    steps: &[Step],
    sharing: Sharing,
) -> (u64, u64) {
    let mut prices = Prices::new(problem, schedule, machine);
    Walk { f: facts, prices: &mut prices, steps: 0, moved: [0; 2] }.memory(steps, &[], (sharing, 1, true))
}

impl Walk<'_, '_> {
    /// High water of one pass through `steps`: a buffer lives from its allocation to its last use, a whole iteration
    /// where that use is in a loop.
    fn memory(
        &mut self,
        steps: &[Step],
        crossing: &[usize],
        (sharing, copies, is_root): (Sharing, u64, bool),
    ) -> (u64, u64) {
        let mut live: Vec<(usize, Space, u64)> = Vec::new();
        let (mut spm, mut acc) = (0, 0);
        let mut last_use = vec![0; self.prices.p.tensors.len()];
        for (index, step) in steps.iter().enumerate() {
            mark(step, index, self.prices.p, &mut last_use);
        }
        for (index, step) in steps.iter().enumerate() {
            let mut inner = (0, 0);
            match step {
                Step::Alloc { tensor, depth } => {
                    let last = last_use[*tensor];
                    let (p, s) = (self.prices.p, self.prices.s);
                    let shape = self.prices.shape(*tensor);
                    let bytes =
                        self.prices.m.partition_bytes(&shape, s.part[*tensor], p.tensors[*tensor].dtype);
                    // What crosses a cut has one instance for either iteration under way.
                    let depth = if crossing.contains(tensor) { 2 } else { depth.div_ceil(copies) * copies };
                    // A ring of several instances is held for the whole body: the next iteration's load is in flight.
                    let is_held = depth > 1 || (sharing == Sharing::Apart && !is_root);
                    let last = if is_held { steps.len() } else { last };
                    live.push((last, p.tensors[*tensor].space, bytes * depth));
                }
                Step::Loop { axis, tile, body, cut, .. } => {
                    let before = self.prices.extent(*axis);
                    self.prices.set(*axis, before.min(*tile));
                    let crossing = cut.map(|cut| pipeline::crossing(self.f, body, cut)).unwrap_or_default();
                    let copies = if cut.is_some() && sharing == Sharing::Apart { 2 } else { 1 };
                    inner = self.memory(body, &crossing, (sharing, copies, false));
                    self.prices.set(*axis, before);
                }
                _ => {}
            }
            let sum = |space: Space| live.iter().filter(|l| l.1 == space).map(|l| l.2).sum::<u64>();
            spm = spm.max(sum(Space::Spm) + inner.0);
            acc = acc.max(sum(Space::Acc) + inner.1);
            live.retain(|l| l.0 > index);
        }
        (spm, acc)
    }

    /// Times and bytes of one pass through `steps`, which run `runs` times in all.
    fn time(&mut self, steps: &[Step], runs: u64) -> Load {
        let mut total = Load::default();
        for step in steps {
            self.steps += 1;
            let (load, way) = match step {
                Step::Alloc { .. } => continue,
                Step::Load(t) => (self.prices.load(*t).unwrap_or_default(), Some(0)),
                Step::Store(t) => (self.prices.store(*t).unwrap_or_default(), Some(1)),
                Step::Op(o) => (self.prices.op(*o), pipeline::way_of(&self.prices.p.ops[*o].kind)),
                Step::Loop { axis, tile, accumulates, body, cut } => {
                    let before = self.prices.extent(*axis);
                    let tile = before.min(*tile);
                    self.prices.set(*axis, tile);
                    let at = self.steps;
                    let full = before / tile;
                    total.add(&self.time(body, runs.saturating_mul(full)), full);
                    if (*accumulates || cut.is_some()) && full > 1 {
                        self.steps += self.steps - at;
                    }
                    if !before.is_multiple_of(tile) {
                        self.prices.set(*axis, before % tile);
                        total.add(&self.time(body, runs), 1);
                    }
                    self.prices.set(*axis, before);
                    continue;
                }
            };
            total.add(&load, 1);
            if let Some(way) = way {
                let moved = pipeline::share(&load).saturating_mul(runs);
                self.moved[way] = self.moved[way].saturating_add(moved);
            }
        }
        total
    }
}

/// Notes `index` as the last place of each tensor that a step mentions.
fn mark(step: &Step, index: usize, problem: &Problem, last: &mut [usize]) {
    match step {
        Step::Alloc { tensor: t, .. } | Step::Load(t) | Step::Store(t) => last[*t] = index,
        Step::Op(o) => {
            let op = &problem.ops[*o];
            op.tensors().chain(op.outs.iter().copied()).for_each(|t| last[t] = index);
        }
        Step::Loop { body, .. } => body.iter().for_each(|s| mark(s, index, problem, last)),
    }
}
