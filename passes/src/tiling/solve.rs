//! The tile solver: partition axes × loop orders × tile extents × hold levels, least time within the memories.

use std::collections::BTreeMap;

use super::cost::{self, Cost};
use super::machine::Machine;
use super::partition::{Assignment, assignments};
use super::plan::{Item, Loop, Nest, Schedule, Step, plan};
use super::problem::{AxisSet, Problem};

/// The best schedule found for a problem.
#[derive(Clone, Debug)]
pub struct Solution {
    /// The problem with its loaded tensors repeated as the partition axes need.
    pub problem: Problem,
    /// For each tensor of `problem`, the tensor of the original problem.
    pub stands_for: Vec<usize>,
    /// The choices.
    pub schedule: Schedule,
    /// The plan they give.
    pub steps: Vec<Step>,
    /// What it takes.
    pub cost: Cost,
}

/// Why a problem has no schedule on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSchedule {
    /// No order of loops gives each consumer a complete value.
    Illegal,
    /// The least tiles exceed a memory: the largest tensor and the bytes of a partition that are missing.
    TooLarge {
        /// Tensor of the original problem.
        tensor: usize,
        /// Bytes missing in each partition.
        missing_bytes: u64,
    },
}

/// Limits of a search.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Partition assignments looked at.
    pub assignments: usize,
    /// Tile vectors of the first sweep for each assignment.
    pub sweep: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Effort { assignments: 24, sweep: 240 }
    }
}

/// The schedule of least time for `problem`.
///
/// # Errors
/// [`NoSchedule`], where nothing is legal or nothing fits.
pub fn solve(problem: &Problem, machine: &Machine, effort: Effort) -> Result<Solution, NoSchedule> {
    let mut best: Option<Solution> = None;
    let mut nearest: Option<(u64, usize)> = None;
    for assignment in assignments(problem, effort.assignments) {
        let mut search = Search::new(&assignment, machine);
        search.run(effort);
        if let Some((missing, tensor)) = search.nearest {
            let tensor = assignment.stands_for[tensor];
            if nearest.is_none_or(|n| missing < n.0) {
                nearest = Some((missing, tensor));
            }
        }
        if let Some((cost, schedule, steps)) = search.best {
            if best.as_ref().is_none_or(|b| rank(&cost) < rank(&b.cost)) {
                let Assignment { problem, stands_for, .. } = assignment;
                best = Some(Solution { problem, stands_for, schedule, steps, cost });
            }
        }
    }
    best.ok_or(match nearest {
        Some((missing_bytes, tensor)) => NoSchedule::TooLarge { tensor, missing_bytes },
        None => NoSchedule::Illegal,
    })
}

/// What is minimised: time, then DRAM bytes, then text, then memory.
fn rank(cost: &Cost) -> (u64, u64, u64, u64) {
    (cost.ticks, cost.load.dram_bytes, cost.steps, cost.spm_bytes)
}

struct Search<'a> {
    a: &'a Assignment,
    m: &'a Machine,
    best: Option<(Cost, Schedule, Vec<Step>)>,
    /// Least overflow seen and the largest tensor of that plan.
    nearest: Option<(u64, usize)>,
    /// Axes that may be cut, with their candidate extents, largest first.
    axes: Vec<(usize, Vec<u64>)>,
    seen: BTreeMap<Vec<u64>, ()>,
}

impl<'a> Search<'a> {
    fn new(a: &'a Assignment, m: &'a Machine) -> Self {
        let p = &a.problem;
        let mut touched = AxisSet::default();
        let mut uncut = AxisSet::default();
        for op in 0..p.ops.len() {
            touched = touched.or(p.touched(op));
            uncut = uncut.or(p.uncut(op));
        }
        let axes = touched
            .minus(uncut)
            .iter()
            .map(|axis| {
                let on_partitions =
                    (0..p.tensors.len()).any(|t| a.part[t] == axis && p.tensors[t].shape[axis] > 1);
                (axis, candidates(p.extents[axis], on_partitions.then_some(m.partitions)))
            })
            .collect();
        Search { a, m, best: None, nearest: None, axes, seen: BTreeMap::new() }
    }

    fn run(&mut self, effort: Effort) {
        let mut lists: Vec<Vec<u64>> = self.axes.iter().map(|a| a.1.clone()).collect();
        while lists.iter().map(Vec::len).product::<usize>() > effort.sweep {
            let Some(longest) = lists.iter_mut().max_by_key(|l| l.len()) else { break };
            if longest.len() <= 2 {
                break;
            }
            // Every other candidate; the ends stay.
            let last = longest.len() - 1;
            let mut index = 0;
            longest.retain(|_| {
                index += 1;
                (index - 1) % 2 == 0 || index - 1 == last
            });
        }
        let mut at = vec![0; lists.len()];
        loop {
            let tiles: Vec<u64> = at.iter().zip(&lists).map(|(&i, l)| l[i]).collect();
            self.try_tiles(&tiles);
            let Some(i) = (0..at.len()).rev().find(|&i| at[i] + 1 < lists[i].len()) else { break };
            at[i] += 1;
            at[i + 1..].fill(0);
        }
        self.refine();
    }

    /// Coordinate descent from the best of the sweep over all candidates of each axis.
    fn refine(&mut self) {
        loop {
            let Some((cost, schedule, _)) = &self.best else { return };
            let before = rank(cost);
            let tiles: Vec<u64> = self
                .axes
                .iter()
                .map(|&(axis, _)| {
                    let l = schedule.nests[0].loops.iter().find(|l| l.axis == axis);
                    l.map_or(self.a.problem.extents[axis], |l| l.tile)
                })
                .collect();
            for i in 0..tiles.len() {
                for extent in self.axes[i].1.clone() {
                    let mut tiles = tiles.clone();
                    tiles[i] = extent;
                    self.try_tiles(&tiles);
                }
            }
            if self.best.as_ref().is_none_or(|b| rank(&b.0) >= before) {
                return;
            }
        }
    }

    fn try_tiles(&mut self, tiles: &[u64]) {
        if self.seen.insert(tiles.to_vec(), ()).is_some() {
            return;
        }
        let p = &self.a.problem;
        let loops: Vec<Loop> = self
            .axes
            .iter()
            .zip(tiles)
            .filter(|((axis, _), tile)| **tile < p.extents[*axis])
            .map(|((axis, _), &tile)| Loop { axis: *axis, tile })
            .collect();
        for order in orders(p, &loops) {
            self.try_order(order);
        }
    }

    fn try_order(&mut self, loops: Vec<Loop>) {
        let p = &self.a.problem;
        let natural: Vec<usize> = p
            .tensors
            .iter()
            .map(|t| loops.iter().rposition(|l| t.axes().has(l.axis)).map_or(0, |i| i + 1))
            .collect();
        let mut schedule = Schedule {
            nests: vec![Nest { loops: loops.clone(), items: (0..p.ops.len()).map(Item::Op).collect() }],
            part: self.a.part.clone(),
            stationary: self.a.stationary.clone(),
            hold: natural.clone(),
            ring: 2,
        };
        if !self.evaluate(&schedule) {
            schedule.ring = 1;
            if !self.evaluate(&schedule) {
                return;
            }
        }
        // Hold a tensor outside loops that it lacks: only there does holding it longer save a load.
        let mut base = schedule;
        for (t, tensor) in p.tensors.iter().enumerate() {
            if tensor.load.is_none() {
                continue;
            }
            let mut least: Option<((u64, u64, u64, u64), usize)> = None;
            for level in (0..natural[t]).rev().filter(|&l| !tensor.axes().has(loops[l].axis)) {
                let mut held = base.clone();
                held.hold[t] = level;
                if let Some(cost) = self.measure(&held) {
                    let cost = rank(&cost);
                    if least.is_none_or(|l| cost < l.0) {
                        least = Some((cost, level));
                    }
                }
            }
            if let Some((cost, level)) = least {
                if self.measure(&base).is_none_or(|b| cost < rank(&b)) {
                    base.hold[t] = level;
                    self.evaluate(&base);
                }
            }
        }
    }

    fn measure(&mut self, schedule: &Schedule) -> Option<Cost> {
        let steps = plan(&self.a.problem, schedule)?;
        self.check(schedule, &steps)
    }

    /// The cost of a plan that fits; where it does not, how near it came.
    fn check(&mut self, schedule: &Schedule, steps: &[Step]) -> Option<Cost> {
        if !views_are_aligned(&self.a.problem, schedule, self.m.partitions, steps) {
            return None;
        }
        let (spm, acc) = cost::memory(&self.a.problem, schedule, self.m, steps);
        let over = spm.saturating_sub(self.m.spm_bytes).max(acc.saturating_sub(self.m.acc_bytes));
        if over > 0 {
            if self.nearest.is_none_or(|n| over < n.0) {
                let largest = largest_tensor(&self.a.problem, schedule, self.m, steps);
                self.nearest = Some((over, largest));
            }
            return None;
        }
        Some(cost::cost(&self.a.problem, schedule, self.m, steps))
    }

    /// Takes `schedule` if it is the best so far; says whether it is legal and fits.
    fn evaluate(&mut self, schedule: &Schedule) -> bool {
        let Some(steps) = plan(&self.a.problem, schedule) else { return false };
        let Some(cost) = self.check(schedule, &steps) else { return false };
        if self.best.as_ref().is_none_or(|b| rank(&cost) < rank(&b.0)) {
            self.best = Some((cost, schedule.clone(), steps));
        }
        true
    }
}

/// Tile extents worth trying for an axis of `extent`: for each number of steps the least extent that needs no more
/// steps. On a partition axis, multiples of the partitions where it is longer than they are.
pub fn candidates(extent: u64, partitions: Option<u64>) -> Vec<u64> {
    let mut list = vec![extent];
    if partitions.is_some_and(|p| extent <= p) {
        // Cutting within the partitions saves no memory; one at a time is how an outer axis runs.
        return if extent > 1 { vec![extent, 1] } else { list };
    }
    let mut steps = 2;
    while steps <= extent {
        let mut tile = extent.div_ceil(steps);
        if let Some(p) = partitions {
            if tile > p {
                tile = tile.next_multiple_of(p);
            } else if tile < p && extent >= p {
                tile = p;
                steps = extent;
            }
        }
        list.push(tile);
        steps = (steps + 1).max(steps * 3 / 2);
    }
    list.push(1);
    list.sort_unstable_by(|a, b| b.cmp(a));
    list.dedup();
    list
}

/// Orders of `loops` worth trying: axes that every transferred tensor has go outermost (their order moves no byte), the
/// others in every order.
fn orders(p: &Problem, loops: &[Loop]) -> Vec<Vec<Loop>> {
    let mut common = AxisSet(u32::MAX);
    for op in 0..p.ops.len() {
        for t in p.ops[op].tensors().chain(p.ops[op].outs.iter().copied()) {
            common = common.and(p.tensors[t].axes());
        }
    }
    let (outer, inner): (Vec<Loop>, Vec<Loop>) = loops.iter().partition(|l| common.has(l.axis));
    let mut found = Vec::new();
    permute(&inner, &mut Vec::new(), &mut |order| {
        let mut all = outer.clone();
        all.extend_from_slice(order);
        found.push(all);
    });
    found
}

fn permute(rest: &[Loop], chosen: &mut Vec<Loop>, emit: &mut impl FnMut(&[Loop])) {
    if chosen.len() == rest.len() {
        return emit(chosen);
    }
    for l in rest {
        if !chosen.contains(l) {
            chosen.push(*l);
            permute(rest, chosen, emit);
            chosen.pop();
        }
    }
}

/// A view that moves along the partition axis of a longer buffer moves by whole chunks.
fn views_are_aligned(p: &Problem, s: &Schedule, partitions: u64, steps: &[Step]) -> bool {
    let mut open: Vec<usize> = Vec::new();
    fn go(p: &Problem, s: &Schedule, partitions: u64, steps: &[Step], open: &mut Vec<usize>) -> bool {
        let before = open.len();
        for step in steps {
            match step {
                Step::Alloc { tensor, .. } => open.push(*tensor),
                Step::Loop { axis, tile, body, .. } => {
                    let cut = |&t: &usize| s.part[t] == *axis && p.tensors[t].shape[*axis] > 1;
                    if tile % partitions != 0 && open.iter().any(cut) {
                        return false;
                    }
                    if !go(p, s, partitions, body, open) {
                        return false;
                    }
                }
                _ => {}
            }
        }
        open.truncate(before);
        true
    }
    go(p, s, partitions, steps, &mut open)
}

fn largest_tensor(p: &Problem, s: &Schedule, m: &Machine, steps: &[Step]) -> usize {
    let mut best = (0, 0);
    fn go(p: &Problem, s: &Schedule, m: &Machine, steps: &[Step], now: &[u64], best: &mut (u64, usize)) {
        for step in steps {
            match step {
                Step::Alloc { tensor, depth } => {
                    let shape: Vec<u64> =
                        p.tensors[*tensor].shape.iter().zip(now).map(|(&full, &now)| full.min(now)).collect();
                    let bytes = depth * m.partition_bytes(&shape, s.part[*tensor], p.tensors[*tensor].dtype);
                    *best = (*best).max((bytes, *tensor));
                }
                Step::Loop { axis, tile, body, .. } => {
                    let mut now = now.to_vec();
                    now[*axis] = now[*axis].min(*tile);
                    go(p, s, m, body, &now, best);
                }
                _ => {}
            }
        }
    }
    go(p, s, m, steps, &p.extents, &mut best);
    best.1
}
