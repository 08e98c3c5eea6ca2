//! The tile solver: partition axes × loop orders × tile extents × hold levels, least time within the memories.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::cost::{self, Cost, Sharing};
use super::machine::Machine;
use super::partition::{Assignment, assignments};
use super::pipeline;
use super::plan::{Item, Loop, Nest, Schedule, Step, nests, plan};
use super::problem::{AxisSet, Facts, Problem};

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

impl Solution {
    /// The plan in words, one line a step: loops as `for axis extent by step`, buffers with extents, the partition axis
    /// starred, transfers and ops.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        self.describe_steps(&self.steps, 1, &self.problem.extents, &mut text);
        text
    }

    fn describe_steps(&self, steps: &[Step], indent: usize, now: &[u64], text: &mut String) {
        use std::fmt::Write;
        let p = &self.problem;
        let tensor = |t: usize, now: &[u64]| {
            let part = self.schedule.part[t];
            let dims: Vec<String> = self
                .schedule
                .shape(p, t, now)
                .into_iter()
                .enumerate()
                .filter(|&(axis, _)| p.tensors[t].shape[axis] > 1 || axis == part)
                .map(|(axis, extent)| format!("{}{axis}:{extent}", if axis == part { "*" } else { "" }))
                .collect();
            format!("%{t}[{}]", dims.join(" "))
        };
        for step in steps {
            let pad = "  ".repeat(indent);
            let _ = match step {
                Step::Alloc { tensor: t, depth } => writeln!(
                    text,
                    "{pad}{} {} x{depth}",
                    match p.tensors[*t].space {
                        super::problem::Space::Spm => "spm",
                        super::problem::Space::Acc => "acc",
                    },
                    tensor(*t, now)
                ),
                Step::Load(t) => writeln!(text, "{pad}load {}", tensor(*t, now)),
                Step::Store(t) => writeln!(text, "{pad}store {}", tensor(*t, now)),
                Step::Op(o) => {
                    let op = &p.ops[*o];
                    let ins: Vec<String> = op.tensors().map(|t| format!("%{t}")).collect();
                    let outs: Vec<String> = op.outs.iter().map(|t| format!("%{t}")).collect();
                    writeln!(text, "{pad}{} = {:?} {}", outs.join(", "), op.kind, ins.join(", "))
                }
                Step::Loop { axis, tile, body, cut, .. } => {
                    let _ = writeln!(text, "{pad}for axis {axis}: {} by {tile}", now[*axis]);
                    let mut inner = now.to_vec();
                    inner[*axis] = inner[*axis].min(*tile);
                    let (ahead, behind) = body.split_at(cut.unwrap_or(0));
                    self.describe_steps(ahead, indent + 1, &inner, text);
                    if cut.is_some() {
                        let _ = writeln!(text, "{pad}  -- one iteration behind:");
                    }
                    self.describe_steps(behind, indent + 1, &inner, text);
                    Ok(())
                }
            };
        }
    }
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
    /// Assignments that are refined after the first sweep.
    pub refined: usize,
    /// Tile vectors of the first sweep for each assignment.
    pub sweep: usize,
    /// Plans evaluated in the refinement of one assignment.
    pub refine: usize,
}

impl Effort {
    /// For deciding which ops run together.
    pub const QUICK: Effort = Effort { assignments: 8, refined: 1, sweep: 12, refine: 120 };
    /// For a group that is lowered.
    pub const THOROUGH: Effort = Effort { assignments: 24, refined: 2, sweep: 24, refine: 400 };
    /// Everything: for tests on small problems.
    pub const EXHAUSTIVE: Effort =
        Effort { assignments: 1000, refined: 1000, sweep: 1_000_000, refine: 1_000_000 };
}

impl Effort {
    /// More of it where a plan is short and so soon priced; what only decides on a merge stays quick.
    fn for_ops(self, ops: usize) -> Self {
        if self.assignments < Effort::THOROUGH.assignments {
            return self;
        }
        let times = (24 / ops.max(1)).clamp(1, 8);
        Effort {
            refined: self.refined.saturating_mul(times),
            sweep: self.sweep.saturating_mul(times),
            refine: self.refine.saturating_mul(times),
            ..self
        }
    }
}

/// The schedule of least time for `problem`.
///
/// # Errors
/// [`NoSchedule`], where nothing is legal or nothing fits.
pub fn solve(problem: &Problem, machine: &Machine, effort: Effort) -> Result<Solution, NoSchedule> {
    let effort = effort.for_ops(problem.ops.len());
    let found = assignments(problem, machine, effort.assignments);
    // Iterations overlap only where the buffers of a body lie apart; where memory is too short for that, they do not.
    match search(&found, machine, effort, Sharing::Apart) {
        Ok(solution) => Ok(solution),
        Err(_) => search(&found, machine, effort, Sharing::Tight),
    }
}

fn search(
    found: &[Assignment],
    machine: &Machine,
    effort: Effort,
    sharing: Sharing,
) -> Result<Solution, NoSchedule> {
    let is_exhaustive = effort.sweep >= Effort::EXHAUSTIVE.sweep;
    let mut searches: Vec<Search> =
        found.iter().map(|a| Search::new(a, machine, sharing, is_exhaustive)).collect();
    let mut nearest: Option<(u64, usize)> = None;
    searches.par_iter_mut().for_each(|search| search.sweep(effort.sweep));
    for search in &searches {
        if let Some((missing, tensor)) = search.nearest
            && nearest.is_none_or(|n| missing < n.0)
        {
            nearest = Some((missing, search.a.stands_for[tensor]));
        }
    }
    searches.retain(|s| s.best.is_some());
    searches.sort_by_key(|s| s.best.as_ref().map(|b| rank(&b.0)));
    searches.truncate(effort.refined);
    searches.par_iter_mut().for_each(|search| {
        search.budget = effort.refine;
        search.refine();
    });
    let best = searches.into_iter().min_by_key(|s| s.best.as_ref().map(|b| rank(&b.0)));
    if let Some(Search { a, best: Some((cost, schedule, steps)), .. }) = best {
        let (problem, stands_for) = (a.problem.clone(), a.stands_for.clone());
        return Ok(Solution { problem, stands_for, schedule, steps, cost });
    }
    Err(match nearest {
        Some((missing_bytes, tensor)) => NoSchedule::TooLarge { tensor, missing_bytes },
        None => NoSchedule::Illegal,
    })
}

/// What is minimised: time, then DRAM bytes, then text, then memory.
type Rank = (u64, u64, u64, u64);

fn rank(cost: &Cost) -> Rank {
    // What is only bounded comes after all that was worth finding out.
    let price = cost.price().saturating_add(if cost.is_bound { 1 << 62 } else { 0 });
    (price, cost.load.dram_bytes, cost.steps, cost.spm_bytes)
}

/// Elements of a problem all of whose tile extents an exhaustive search tries.
const EVERY_TILE: u64 = 1000;

struct Search<'a> {
    a: &'a Assignment,
    f: Facts,
    m: &'a Machine,
    best: Option<(Cost, Schedule, Vec<Step>)>,
    /// Least overflow seen and the largest tensor of that plan.
    nearest: Option<(u64, usize)>,
    /// Axes that may be cut, with their candidate extents, largest first.
    axes: Vec<(usize, Vec<u64>)>,
    /// Axes that every op has: outermost, their order moves no byte.
    common: AxisSet,
    /// Loops tried, coarsely or finely.
    seen: BTreeSet<(Vec<Nest>, bool)>,
    /// Plans that the refinement may still evaluate.
    budget: usize,
    /// How the buffers of a loop body may share bytes.
    sharing: Sharing,
    /// Every plan is priced in full.
    is_exhaustive: bool,
}

impl<'a> Search<'a> {
    fn new(a: &'a Assignment, m: &'a Machine, sharing: Sharing, is_exhaustive: bool) -> Self {
        let p = &a.problem;
        let f = Facts::new(p);
        let all = |sets: &[AxisSet]| sets.iter().fold(AxisSet::default(), |s, &t| s.or(t));
        let common = f.touched.iter().fold(AxisSet(u32::MAX), |s, &t| s.and(t));
        let cuttable = all(&f.touched).minus(all(&f.uncut));
        let mut search = Search {
            a,
            f,
            m,
            best: None,
            nearest: None,
            axes: Vec::new(),
            common,
            seen: BTreeSet::new(),
            budget: usize::MAX,
            sharing,
            is_exhaustive,
        };
        for axis in cuttable.iter().filter(|&axis| search.may_cut(axis)).collect::<Vec<_>>() {
            let on_partitions =
                (0..p.tensors.len()).any(|t| a.part[t] == axis && p.tensors[t].shape[axis] > 1);
            let list = if is_exhaustive && p.extents.iter().product::<u64>() <= EVERY_TILE {
                (1..=p.extents[axis]).rev().collect()
            } else {
                candidates(p.extents[axis], on_partitions.then_some(m.partitions))
            };
            search.axes.push((axis, list));
        }
        search
    }

    fn schedule(&self, loops: &[Loop]) -> Schedule {
        let p = &self.a.problem;
        let mut schedule = Schedule {
            hold: vec![0; p.tensors.len()],
            nests: nests(&self.f, self.common, loops),
            part: self.a.part.clone(),
            stationary: self.a.stationary.clone(),
            ring: 2,
            acc_ring: 2,
        };
        for t in 0..p.tensors.len() {
            let inside = self.f.varies[t];
            let around = self.loops_around(&schedule, t);
            schedule.hold[t] = around.iter().rposition(|l| inside.has(l.axis)).map_or(0, |i| i + 1);
        }
        schedule
    }

    /// The loops around all uses of a tensor, outermost first.
    fn loops_around(&self, schedule: &Schedule, tensor: usize) -> Vec<Loop> {
        let home = |o: usize| schedule.nests.iter().position(|n| n.items.contains(&Item::Op(o))).unwrap_or(0);
        let mut homes = self.f.users[tensor].iter().map(|&o| home(o));
        let nest = homes.next().filter(|&first| homes.all(|h| h == first)).unwrap_or(0);
        let mut loops = schedule.nests[0].loops.clone();
        if nest > 0 {
            loops.extend_from_slice(&schedule.nests[nest].loops);
        }
        loops
    }

    /// Whether a loop over `axis` alone is legal. A loop that is not stays so inside others, except that a later axis
    /// of a chain may be cut once the ones before it are.
    fn may_cut(&self, axis: usize) -> bool {
        let inside_chain = (0..self.a.problem.ops.len()).any(|o| {
            let reduced = self.f.reduced[o];
            reduced.has(axis) && (0..axis).any(|b| reduced.has(b))
        });
        inside_chain || plan(&self.a.problem, &self.f, &self.schedule(&[Loop { axis, tile: 1 }])).is_some()
    }

    /// Tries a coarse grid of at most about `limit` tile vectors.
    fn sweep(&mut self, limit: usize) {
        let mut lists: Vec<Vec<u64>> = self.axes.iter().map(|a| a.1.clone()).collect();
        while lists.iter().map(Vec::len).product::<usize>() > limit {
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
        let all = self.is_exhaustive;
        let mut at = vec![0; lists.len()];
        loop {
            let tiles: Vec<u64> = at.iter().zip(&lists).map(|(&i, l)| l[i]).collect();
            let orders = self.orders(&tiles, all);
            for order in orders {
                self.try_order(order, all);
            }
            let Some(i) = (0..at.len()).rev().find(|&i| at[i] + 1 < lists[i].len()) else { break };
            at[i] += 1;
            at[i + 1..].fill(0);
        }
    }

    /// Coordinate descent from the best of the sweep over all candidates of each axis and all orders.
    fn refine(&mut self) {
        loop {
            let Some((cost, schedule, _)) = &self.best else { return };
            let before = rank(cost);
            let tiles: Vec<u64> = self
                .axes
                .iter()
                .map(|&(axis, _)| {
                    let l = schedule.nests.iter().flat_map(|n| &n.loops).find(|l| l.axis == axis);
                    l.map_or(self.a.problem.extents[axis], |l| l.tile)
                })
                .collect();
            for order in self.orders(&tiles, true) {
                self.try_order(order, true);
            }
            for i in 0..tiles.len() {
                for extent in self.axes[i].1.clone() {
                    let mut tiles = tiles.clone();
                    tiles[i] = extent;
                    for order in self.orders(&tiles, false) {
                        self.try_order(order, true);
                    }
                }
            }
            if self.budget == 0 || self.best.as_ref().is_none_or(|b| rank(&b.0) >= before) {
                return;
            }
        }
    }

    /// Orders of the loops that `tiles` make: axes that every op has go outermost, then the others, all orders of them
    /// or only those with the reduced axes innermost.
    fn orders(&self, tiles: &[u64], all: bool) -> Vec<Vec<Loop>> {
        let p = &self.a.problem;
        let loops: Vec<Loop> = self
            .axes
            .iter()
            .zip(tiles)
            .filter(|((axis, _), tile)| **tile < p.extents[*axis])
            .map(|((axis, _), &tile)| Loop { axis: *axis, tile })
            .collect();
        let (outer, inner): (Vec<Loop>, Vec<Loop>) = loops.iter().partition(|l| self.common.has(l.axis));
        let reduced = self.f.reduced.iter().fold(AxisSet::default(), |s, &r| s.or(r));
        let mut found = Vec::new();
        if all {
            permute(&inner, &mut Vec::new(), &mut |order| found.push([outer.as_slice(), order].concat()));
            return found;
        }
        let (last, mut first): (Vec<Loop>, Vec<Loop>) = inner.iter().partition(|l| reduced.has(l.axis));
        found.push([outer.as_slice(), &first, &last].concat());
        if first.len() > 1 {
            first.reverse();
            found.push([outer.as_slice(), &first, &last].concat());
        }
        found
    }

    fn try_order(&mut self, loops: Vec<Loop>, is_fine: bool) {
        if self.budget == 0 {
            return;
        }
        let mut base = self.schedule(&loops);
        if !self.seen.insert((base.nests.clone(), is_fine)) {
            return;
        }
        let cuts = if is_fine { 2 } else { 1 };
        let mut least = self.evaluate(&base, cuts);
        // Other rings: shorter ones where memory is short, longer ones where a load takes long beside its use.
        let others: &[(u64, u64)] = match (least, is_fine) {
            _ if self.is_exhaustive => &[(1, 1), (1, 2), (2, 1), (4, 1), (4, 2)],
            (Some(_), true) => &[(2, 1), (4, 2)],
            (Some(_), false) => &[],
            (None, true) => &[(2, 1), (1, 2), (1, 1)],
            (None, false) => &[(2, 1), (1, 1)],
        };
        for &(ring, acc_ring) in others {
            let other = Schedule { ring, acc_ring, ..base.clone() };
            let rank = self.evaluate(&other, cuts);
            if rank.is_some() && (least.is_none() || rank < least) {
                (least, base) = (rank, other);
            }
        }
        let Some(mut least) = least else { return };
        // Hold a tensor outside loops that it lacks: only there does holding it longer save a load.
        for t in 0..self.a.problem.tensors.len() {
            if self.a.problem.tensors[t].load.is_none() || self.f.users[t].is_empty() {
                continue;
            }
            let natural = base.hold[t];
            let axes = self.f.varies[t];
            let around = self.loops_around(&base, t);
            let levels: Vec<usize> = (0..natural).filter(|&l| !axes.has(around[l].axis)).collect();
            for &level in levels.iter().take(if is_fine { usize::MAX } else { 1 }) {
                let mut held = base.clone();
                held.hold[t] = level;
                if let Some(cost) = self.evaluate(&held, cuts)
                    && cost < least
                {
                    least = cost;
                    base = held;
                    break;
                }
            }
        }
    }

    /// Evaluates `schedule` and takes it if it is the best so far; its rank where it is legal and fits.
    fn evaluate(&mut self, schedule: &Schedule, cuts: usize) -> Option<Rank> {
        if self.budget == 0 {
            return None;
        }
        self.budget -= 1;
        let p = &self.a.problem;
        let steps = plan(p, &self.f, schedule)?;
        if !views_are_aligned(p, schedule, self.m.partitions, &steps) {
            return None;
        }
        let plain = self.weigh(schedule, steps.clone());
        let mut best = plain;
        // Steps that run an iteration ahead pay where engines wait for one another.
        for which in 0..cuts {
            let mut ahead = steps.clone();
            if !pipelined(p, self.m, &mut ahead, which) {
                break;
            }
            let rank = self.weigh(schedule, ahead);
            best = match (best, rank) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        best
    }

    /// Takes a plan if it is the best so far; its rank where it fits.
    fn weigh(&mut self, schedule: &Schedule, steps: Vec<Step>) -> Option<Rank> {
        let p = &self.a.problem;
        let (spm, acc) = cost::memory(p, &self.f, schedule, self.m, &steps, self.sharing);
        let over = spm.saturating_sub(self.m.spm_bytes).max(acc.saturating_sub(self.m.acc_bytes));
        if over > 0 {
            if self.nearest.is_none_or(|n| over < n.0) {
                self.nearest = Some((over, largest_tensor(p, schedule, self.m, &steps)));
            }
            return None;
        }
        let enough = match &self.best {
            Some(best) if !self.is_exhaustive => best.0.price(),
            _ => u64::MAX,
        };
        let cost = cost::cost(p, &self.f, schedule, self.m, &steps, (spm, acc), enough);
        let rank = rank(&cost);
        if self.best.as_ref().is_none_or(|b| rank < self::rank(&b.0)) {
            self.best = Some((cost, schedule.clone(), steps));
        }
        Some(rank)
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

/// Cuts the innermost loops at their `which`-th place; false where none has one.
fn pipelined(p: &Problem, m: &Machine, steps: &mut [Step], which: usize) -> bool {
    let mut any = false;
    for step in steps {
        if let Step::Loop { body, cut, .. } = step {
            any |= pipelined(p, m, body, which);
            *cut = pipeline::cuts(p, m, body).get(which).copied();
            any |= cut.is_some();
        }
    }
    any
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
                    let cut = |&t: &usize| {
                        s.part[t] == *axis && p.tensors[t].shape[*axis] > 1 && !p.tensors[t].repeats(*axis)
                    };
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
                    let shape = s.shape(p, *tensor, now);
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
