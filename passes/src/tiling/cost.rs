//! The cost of a plan: memory high water by liveness, engine times with exact remainders, and DRAM bytes.

use super::machine::{Direction, Engine, Load, Machine};
use super::pipeline;
use super::plan::{Schedule, Step};
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
}

impl Cost {
    /// What the search minimises: time, and a little traffic, which costs energy and others' time on a shared memory.
    pub fn price(&self) -> u64 {
        self.ticks + self.load.busy[Engine::Dram as usize] / 4
    }
}

struct Walk<'a> {
    p: &'a Problem,
    f: &'a Facts,
    s: &'a Schedule,
    m: &'a Machine,
    /// Current extent of each position.
    now: Vec<u64>,
    steps: u64,
}

/// The cost of `steps`, the plan of `schedule`, whose memory high water is `(SPM, ACC)`.
pub fn cost(
    problem: &Problem,
    facts: &Facts,
    schedule: &Schedule,
    machine: &Machine,
    steps: &[Step],
    (spm_bytes, acc_bytes): (u64, u64),
) -> Cost {
    let mut walk =
        Walk { p: problem, f: facts, s: schedule, m: machine, now: problem.extents.clone(), steps: 0 };
    let load = walk.time(steps);
    let steady = load.busy.iter().copied().max().unwrap_or(0);
    let pipeline = pipeline::ticks(problem, facts, schedule, machine, steps);
    let ticks = steady.max(pipeline);
    Cost { ticks, load, spm_bytes, acc_bytes, steps: walk.steps }
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
    Walk { p: problem, f: facts, s: schedule, m: machine, now: problem.extents.clone(), steps: 0 }.memory(
        steps,
        &[],
        (sharing, 1, true),
    )
}

impl Walk<'_> {
    fn shape(&self, tensor: usize) -> Vec<u64> {
        self.s.shape(self.p, tensor, &self.now)
    }

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
        for (index, step) in steps.iter().enumerate() {
            let mut inner = (0, 0);
            match step {
                Step::Alloc { tensor, depth } => {
                    let last = steps.iter().rposition(|s| mentions(s, *tensor, self.f)).unwrap_or(index);
                    let bytes = self.m.partition_bytes(
                        &self.shape(*tensor),
                        self.s.part[*tensor],
                        self.p.tensors[*tensor].dtype,
                    );
                    // What crosses a cut has one instance for either iteration under way.
                    let depth = if crossing.contains(tensor) { 2 } else { depth.div_ceil(copies) * copies };
                    // A ring of several instances is held for the whole body: the next iteration's load is in flight.
                    let is_held = depth > 1 || (sharing == Sharing::Apart && !is_root);
                    let last = if is_held { steps.len() } else { last };
                    live.push((last, self.p.tensors[*tensor].space, bytes * depth));
                }
                Step::Loop { axis, tile, body, cut, .. } => {
                    let before = self.now[*axis];
                    self.now[*axis] = before.min(*tile);
                    let crossing = cut.map(|cut| pipeline::crossing(self.f, body, cut)).unwrap_or_default();
                    let copies = if cut.is_some() && sharing == Sharing::Apart { 2 } else { 1 };
                    inner = self.memory(body, &crossing, (sharing, copies, false));
                    self.now[*axis] = before;
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

    fn time(&mut self, steps: &[Step]) -> Load {
        let mut total = Load::default();
        for step in steps {
            self.steps += 1;
            match step {
                Step::Alloc { .. } => {}
                Step::Load(t) => {
                    if let Some(access) = &self.p.tensors[*t].load {
                        let shape = self.shape(*t);
                        total.add(&self.m.transfer(access, &shape, self.s.part[*t], Direction::Load), 1);
                    }
                }
                Step::Store(t) => {
                    if let Some(access) = &self.p.tensors[*t].store {
                        let shape = self.shape(*t);
                        total.add(&self.m.transfer(access, &shape, self.s.part[*t], Direction::Store), 1);
                    }
                }
                Step::Op(o) => {
                    total.add(&self.m.op(self.p, *o, &self.now, &self.s.part, self.s.stationary[*o]), 1)
                }
                Step::Loop { axis, tile, accumulates, body, cut } => {
                    let before = self.now[*axis];
                    let tile = before.min(*tile);
                    self.now[*axis] = tile;
                    let at = self.steps;
                    total.add(&self.time(body), before / tile);
                    if (*accumulates || cut.is_some()) && before / tile > 1 {
                        self.steps += self.steps - at;
                    }
                    if !before.is_multiple_of(tile) {
                        self.now[*axis] = before % tile;
                        total.add(&self.time(body), 1);
                    }
                    self.now[*axis] = before;
                }
            }
        }
        total
    }
}

fn mentions(step: &Step, tensor: usize, facts: &Facts) -> bool {
    match step {
        Step::Alloc { tensor: t, .. } | Step::Load(t) | Step::Store(t) => *t == tensor,
        Step::Op(o) => facts.users[tensor].binary_search(o).is_ok(),
        Step::Loop { body, .. } => body.iter().any(|s| mentions(s, tensor, facts)),
    }
}
