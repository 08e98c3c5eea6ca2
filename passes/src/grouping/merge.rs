//! Groups by merging: from single ops, the merge that saves most time is made first, until none saves any.
//!
//! A merge joins a producer with a consumer, or two readers of one value. It is made only if nothing outside lies on a
//! path between the two (the groups stay a directed acyclic graph), if no operand inside would have to go through DRAM,
//! and if the tile solver finds the joint group faster than the two. Every group tried becomes an e-node of the
//! e-graph, which the extraction chooses from.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::kernel::{Kernel, Source, ValueId, Work};
use crate::lower::{Memo, Readers, problem_of};
use crate::regions;
use crate::tiling::machine::Machine;
use crate::tiling::problem::OpSet;
use crate::tiling::solve::NoSchedule;

/// Ops that a group holds at most; beyond, the solver's time grows and nothing is gained.
const MAX_OPS: usize = 40;
// A contract becomes two ops of a problem, no other op more.
const _: () = assert!(2 * MAX_OPS <= OpSet::MOST);

/// Times that neighbours exchange parts at most.
const REGROUPINGS: usize = 8;

/// A set of ops that can run as one group, with its planned time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Kernel ops, ascending.
    pub ops: Vec<usize>,
    /// Planned ticks.
    pub ticks: u64,
}

/// The outcome of the merging: a partition of the ops and all bodies seen on the way.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// Bodies by their ops.
    pub bodies: BTreeMap<Vec<usize>, u64>,
    /// The partition reached, in no particular order.
    pub groups: Vec<Body>,
}

struct Merger<'a, 'g> {
    k: &'a Kernel<'g>,
    readers: &'a Readers,
    machine: &'a Machine,
    memo: &'a mut Memo,
    after: Vec<Vec<usize>>,
    group_of: Vec<usize>,
    groups: Vec<Option<Body>>,
    seen: BTreeMap<Vec<usize>, Option<u64>>,
    queue: BinaryHeap<(u64, std::cmp::Reverse<(usize, usize)>)>,
    /// Ops that may be merged now.
    scope: Vec<bool>,
    /// Region and instance of each op.
    border: Vec<Option<(usize, usize)>>,
    /// Whether merges are across the borders of instances, or within them.
    is_across: bool,
    /// The two sets of ops that each merged one was made of.
    halves: BTreeMap<Vec<usize>, [Vec<usize>; 2]>,
}

/// Repetition in the kernel: where each op stands in a repeated region.
struct Regions {
    /// Region, instance, and node position.
    place: Vec<Option<(usize, usize, usize)>>,
    /// Op at a place.
    at: BTreeMap<(usize, usize, usize), usize>,
    /// Instances of each region.
    instances: Vec<usize>,
}

impl Regions {
    fn new(kernel: &Kernel) -> Self {
        let found = regions::find(kernel.graph);
        let mut of_node = BTreeMap::new();
        for (r, region) in found.iter().enumerate() {
            for (i, instance) in region.instances.iter().enumerate() {
                for (n, node) in instance.nodes.iter().enumerate() {
                    of_node.insert(node.0 as usize, (r, i, n));
                }
            }
        }
        // A node's op is the first that makes it; what else an op of the kernel does (copies) is in no region.
        let mut at = BTreeMap::new();
        let mut place = vec![None; kernel.ops.len()];
        for (o, op) in kernel.ops.iter().enumerate() {
            if matches!(op.work, Work::Copy) {
                continue;
            }
            let here = op.outs.first().and_then(|v| of_node.get(v)).copied();
            if let Some(key) = here
                && !at.contains_key(&key)
            {
                at.insert(key, o);
                place[o] = Some(key);
            }
        }
        Regions { place, at, instances: found.iter().map(|r| r.instances.len()).collect() }
    }

    /// The ops at the same places in another instance.
    fn same(&self, ops: &[usize], region: usize, instance: usize) -> Option<Vec<usize>> {
        let one = |&o: &usize| {
            let (r, _, node) = self.place[o]?;
            if r != region {
                return None;
            }
            self.at.get(&(region, instance, node)).copied()
        };
        let mut all = ops.iter().map(one).collect::<Option<Vec<usize>>>()?;
        all.sort_unstable();
        Some(all)
    }
}

/// Merges the ops of `kernel`.
///
/// # Errors
/// The op that has no schedule even alone, with the reason.
pub fn merge(
    kernel: &Kernel,
    readers: &Readers,
    machine: &Machine,
    memo: &mut Memo,
) -> Result<Merged, (usize, NoSchedule)> {
    let n = kernel.ops.len();
    let before: Vec<BTreeSet<usize>> = (0..n).map(|o| kernel.dependences(o)).collect();
    let mut after = vec![Vec::new(); n];
    for (o, set) in before.iter().enumerate() {
        set.iter().for_each(|&b| after[b].push(o));
    }
    let mut m = Merger {
        k: kernel,
        readers,
        machine,
        memo,
        after,
        group_of: (0..n).collect(),
        groups: vec![None; n],
        seen: BTreeMap::new(),
        queue: BinaryHeap::new(),
        scope: vec![true; n],
        border: vec![None; n],
        is_across: false,
        halves: BTreeMap::new(),
    };
    for o in 0..n {
        m.groups[o] = Some(Body { ops: vec![o], ticks: 0 });
    }
    let regions = Regions::new(kernel);
    m.border = regions.place.iter().map(|p| p.map(|(region, instance, _)| (region, instance))).collect();
    m.join_chains();
    m.cost_all()?;
    // The first instance of each region, and what is in none; then the others as it; then across their borders.
    m.scope = regions.place.iter().map(|place| place.is_none_or(|(_, instance, _)| instance == 0)).collect();
    m.propose_all();
    m.run();
    m.regroup();
    m.scope = vec![true; n];
    m.replay(&regions);
    m.is_across = true;
    m.propose_all();
    m.run();
    let bodies = m.seen.into_iter().filter_map(|(ops, ticks)| ticks.map(|t| (ops, t))).collect();
    Ok(Merged { bodies, groups: m.groups.into_iter().flatten().collect() })
}

fn may_join(work: &Work) -> bool {
    !matches!(work, Work::Copy | Work::Scatter { .. } | Work::TopK { .. } | Work::Fill(_))
}

impl Merger<'_, '_> {
    fn cost(&mut self, ops: &[usize]) -> Result<u64, NoSchedule> {
        if let Some(Some(ticks)) = self.seen.get(ops) {
            return Ok(*ticks);
        }
        let (problem, _) = problem_of(self.k, self.readers, ops, self.machine);
        let ticks = self.memo.estimate(&problem, self.machine);
        self.seen.insert(ops.to_vec(), ticks.as_ref().ok().copied());
        ticks
    }

    /// An elementwise op whose only reader is elementwise over the same axes always gains by running with it.
    fn join_chains(&mut self) {
        for o in 0..self.k.ops.len() {
            let op = &self.k.ops[o];
            let is_plain = |w: &Work| matches!(w, Work::Map(_) | Work::Cast);
            let [v] = op.outs[..] else { continue };
            if !is_plain(&op.work) || self.k.values[v].is_stored {
                continue;
            }
            let [reader] = self.readers.of(v) else { continue };
            let next = &self.k.ops[*reader];
            let same = |a: ValueId, b: ValueId| {
                let axes = |v: ValueId| self.k.values[v].axes.iter().copied().collect::<BTreeSet<_>>();
                axes(a) == axes(b)
            };
            if is_plain(&next.work)
                && next.outs.first().is_some_and(|&w| same(v, w))
                && self.border[o] == self.border[*reader]
            {
                let (a, b) = (self.group_of[o], self.group_of[*reader]);
                if let Some(ops) = self.candidate(a, b) {
                    self.join(a, b, ops, 0);
                }
            }
        }
    }

    /// Costs all groups; a chain that does not fit falls apart into its ops.
    fn cost_all(&mut self) -> Result<(), (usize, NoSchedule)> {
        for g in 0..self.groups.len() {
            let Some(Body { ops, .. }) = self.groups[g].clone() else { continue };
            if let Ok(ticks) = self.cost(&ops) {
                self.groups[g] = Some(Body { ops, ticks });
                continue;
            }
            self.groups[g] = None;
            for o in ops {
                let ticks = self.cost(&[o]).map_err(|e| (o, e))?;
                self.group_of[o] = self.groups.len();
                self.groups.push(Some(Body { ops: vec![o], ticks }));
            }
        }
        Ok(())
    }

    fn propose_all(&mut self) {
        for g in 0..self.groups.len() {
            let is_in = |b: &Body| b.ops.iter().all(|&o| self.scope[o]);
            if self.groups[g].as_ref().is_some_and(is_in) {
                self.propose(g);
            }
        }
    }

    /// Groups the later instances of each region as its first.
    fn replay(&mut self, regions: &Regions) {
        for (region, &count) in regions.instances.iter().enumerate() {
            let first: Vec<Body> = self
                .groups
                .iter()
                .flatten()
                .filter(|b| b.ops.len() > 1 && regions.same(&b.ops, region, 0).as_ref() == Some(&b.ops))
                .cloned()
                .collect();
            for instance in 1..count {
                for body in &first {
                    let Some(ops) = regions.same(&body.ops, region, instance) else { continue };
                    let parts: BTreeSet<usize> = ops.iter().map(|&o| self.group_of[o]).collect();
                    let inside: BTreeSet<usize> = ops.iter().copied().collect();
                    let is_whole = parts.iter().all(|&g| {
                        self.groups[g].as_ref().is_some_and(|b| b.ops.iter().all(|o| inside.contains(o)))
                    });
                    if !is_whole || !reads_on_chip(self.k, &inside) || !self.is_convex(&inside) {
                        continue;
                    }
                    // An instance at the end of the program may store more than the first one.
                    let apart: u64 =
                        parts.iter().filter_map(|&g| self.groups[g].as_ref()).map(|b| b.ticks).sum();
                    let Ok(ticks) = self.cost(&ops) else { continue };
                    if ticks < apart || parts.len() == 1 {
                        parts.iter().for_each(|&g| self.groups[g] = None);
                        let into = self.groups.len();
                        ops.iter().for_each(|&o| self.group_of[o] = into);
                        self.groups.push(Some(Body { ops, ticks }));
                    }
                }
            }
        }
    }

    fn run(&mut self) {
        while let Some((saving, std::cmp::Reverse((a, b)))) = self.queue.pop() {
            let (Some(x), Some(y)) = (self.groups[a].clone(), self.groups[b].clone()) else { continue };
            let Some(ops) = self.candidate(a, b) else { continue };
            let Some(Some(ticks)) = self.seen.get(&ops).copied() else { continue };
            if (x.ticks + y.ticks).checked_sub(ticks) != Some(saving) {
                continue;
            }
            let into = self.join(a, b, ops, ticks);
            self.propose(into);
        }
    }

    fn join(&mut self, a: usize, b: usize, ops: Vec<usize>, ticks: u64) -> usize {
        if let (Some(x), Some(y)) = (&self.groups[a], &self.groups[b]) {
            self.halves.insert(ops.clone(), [x.ops.clone(), y.ops.clone()]);
        }
        self.groups[a] = None;
        self.groups[b] = None;
        let into = self.groups.len();
        ops.iter().for_each(|&o| self.group_of[o] = into);
        self.groups.push(Some(Body { ops, ticks }));
        into
    }

    /// Once no merge saves time any more: two neighbours give up parts that came to them by earlier merges if the parts
    /// do better together. A contract that was merged with the one after it may have belonged to the one before.
    fn regroup(&mut self) {
        for _ in 0..REGROUPINGS {
            let mut best: Option<(u64, [usize; 2], [Vec<usize>; 2])> = None;
            for [a, b] in self.neighbours() {
                let (Some(x), Some(y)) = (self.groups[a].clone(), self.groups[b].clone()) else { continue };
                let (ours, theirs) = (self.parts(&x.ops, &y.ops), self.parts(&y.ops, &x.ops));
                for one in &ours {
                    for other in &theirs {
                        if one.len() == x.ops.len() && other.len() == y.ops.len() {
                            continue;
                        }
                        let apart = x.ticks + y.ticks;
                        if let Some(ticks) = self.regrouped([a, b], [one, other], false)
                            && let Some(saving) = apart.checked_sub(ticks).filter(|&s| s > 0)
                            && best.as_ref().is_none_or(|(most, ..)| saving > *most)
                        {
                            best = Some((saving, [a, b], [one.clone(), other.clone()]));
                        }
                    }
                }
            }
            let Some((_, pair, [one, other])) = best else { return };
            let first = self.groups.len();
            self.regrouped(pair, [&one, &other], true);
            (first..self.groups.len()).for_each(|g| self.propose(g));
            self.run();
        }
    }

    /// Pairs of groups in scope of which one reads what the other makes.
    fn neighbours(&self) -> Vec<[usize; 2]> {
        let mut pairs = BTreeSet::new();
        for (o, after) in self.after.iter().enumerate().filter(|(o, _)| self.scope[*o]) {
            for &next in after.iter().filter(|&&next| self.scope[next]) {
                let pair = [self.group_of[o], self.group_of[next]];
                if pair[0] != pair[1] && self.is_allowed(pair[0], pair[1]) {
                    pairs.insert(pair);
                }
            }
        }
        pairs.into_iter().collect()
    }

    /// `ops`, and of the sets that it was merged from those that touch `toward` and part its contracts.
    fn parts(&self, ops: &[usize], toward: &[usize]) -> Vec<Vec<usize>> {
        let is_contract = |o: &usize| matches!(self.k.ops[*o].work, Work::Contract(_));
        let contracts = ops.iter().filter(|o| is_contract(o)).count();
        let touches = |o: &usize| {
            let next = |a: usize, b: usize| self.after[a].contains(&b);
            toward.iter().any(|&t| next(*o, t) || next(t, *o))
        };
        let mut found = vec![ops.to_vec()];
        let mut stack: Vec<&Vec<usize>> = self.halves.get(ops).into_iter().flatten().collect();
        while let Some(set) = stack.pop() {
            let own = set.iter().filter(|o| is_contract(o)).count();
            if own == 0 || !set.iter().any(touches) {
                continue;
            }
            if own < contracts {
                found.push(set.clone());
            }
            stack.extend(self.halves.get(set).into_iter().flatten());
        }
        found
    }

    /// The time of two groups of which `parts` go together and what is left of each stays alone; made so if wanted.
    fn regrouped(&mut self, pair: [usize; 2], parts: [&Vec<usize>; 2], make: bool) -> Option<u64> {
        let before = [self.groups[pair[0]].clone()?, self.groups[pair[1]].clone()?];
        let mut joint: Vec<usize> = parts.iter().flat_map(|p| p.iter().copied()).collect();
        joint.sort_unstable();
        let mut sets = vec![joint];
        for (body, part) in before.iter().zip(parts) {
            let rest: Vec<usize> =
                body.ops.iter().copied().filter(|o| part.binary_search(o).is_err()).collect();
            if !rest.is_empty() {
                sets.push(rest);
            }
        }
        let first = self.groups.len();
        for (i, set) in sets.iter().enumerate() {
            set.iter().for_each(|&o| self.group_of[o] = first + i);
            self.groups.push(Some(Body { ops: set.clone(), ticks: 0 }));
        }
        pair.iter().for_each(|&g| self.groups[g] = None);
        let is_legal = sets.iter().all(|set| {
            let inside: BTreeSet<usize> = set.iter().copied().collect();
            set.len() <= MAX_OPS
                && (set.len() == 1 || set.iter().all(|&o| may_join(&self.k.ops[o].work)))
                && reads_on_chip(self.k, &inside)
                && self.is_convex(&inside)
        });
        let mut times = Vec::new();
        if is_legal {
            for set in &sets {
                match self.cost(set) {
                    Ok(ticks) => times.push(ticks),
                    Err(_) => break,
                }
            }
        }
        let total = (times.len() == sets.len()).then(|| times.iter().sum::<u64>());
        if make && total.is_some() {
            self.halves.insert(sets[0].clone(), parts.map(Clone::clone));
            for (i, ticks) in times.into_iter().enumerate() {
                if let Some(body) = &mut self.groups[first + i] {
                    body.ticks = ticks;
                }
            }
        } else {
            self.groups.truncate(first);
            for (g, body) in pair.into_iter().zip(before) {
                body.ops.iter().for_each(|&o| self.group_of[o] = g);
                self.groups[g] = Some(body);
            }
        }
        total
    }

    /// Queues the merges of `group` with its neighbours that save time.
    fn propose(&mut self, group: usize) {
        let Some(body) = self.groups[group].clone() else { return };
        let mut near = BTreeSet::new();
        for &o in &body.ops {
            let values = self.k.ops[o].ins.iter().filter_map(|s| match s {
                Source::Value(v) => Some(*v),
                Source::Scalar(_) => None,
            });
            for v in values {
                near.extend(self.k.values[v].producer.map(|p| self.group_of[p]));
                // Readers of one value are siblings; two contracts keep the array busy each by itself.
                if self.k.values[v].producer.is_some() && !self.has_contract(group) {
                    near.extend(self.readers.of(v).iter().map(|&r| self.group_of[r]));
                }
            }
            for &v in &self.k.ops[o].outs {
                near.extend(self.readers.of(v).iter().map(|&r| self.group_of[r]));
            }
        }
        near.remove(&group);
        for other in near {
            let is_in = |b: &Body| b.ops.iter().all(|&o| self.scope[o]);
            if !self.groups[other].as_ref().is_some_and(is_in) || !self.is_allowed(group, other) {
                continue;
            }
            let Some(ops) = self.candidate(group, other) else { continue };
            let Some(apart) = self.groups[other].as_ref().map(|b| b.ticks + body.ticks) else { continue };
            let joint = self.cost(&ops);
            tracing::trace!(
                a = ?body.ops, b = ?self.groups[other].as_ref().map(|b| &b.ops),
                apart, own = body.ticks, ?joint, "merge"
            );
            if let Ok(ticks) = joint
                && ticks < apart
            {
                let pair = (group.min(other), group.max(other));
                self.queue.push((apart - ticks, std::cmp::Reverse(pair)));
            }
        }
    }

    /// Whether two groups may merge now as far as borders go: first within an instance, so that what is found can be
    /// replayed on the others, then only what was not tried.
    fn is_allowed(&self, a: usize, b: usize) -> bool {
        let ops = [a, b].into_iter().filter_map(|g| self.groups[g].as_ref()).flat_map(|b| &b.ops);
        let places: BTreeSet<_> = ops.map(|&o| self.border[o]).collect();
        if self.is_across { places.len() > 1 || places.contains(&None) } else { places.len() == 1 }
    }

    fn has_contract(&self, group: usize) -> bool {
        let is = |&o: &usize| matches!(self.k.ops[o].work, Work::Contract(_));
        self.groups[group].as_ref().is_some_and(|b| b.ops.iter().any(is))
    }

    /// The ops of two groups together, if they may be one.
    fn candidate(&self, a: usize, b: usize) -> Option<Vec<usize>> {
        let (x, y) = (self.groups[a].as_ref()?, self.groups[b].as_ref()?);
        let mut ops: Vec<usize> = x.ops.iter().chain(&y.ops).copied().collect();
        ops.sort_unstable();
        if ops.len() > MAX_OPS || !ops.iter().all(|&o| may_join(&self.k.ops[o].work)) {
            return None;
        }
        let inside: BTreeSet<usize> = ops.iter().copied().collect();
        (reads_on_chip(self.k, &inside) && self.is_convex(&inside)).then_some(ops)
    }

    /// No path leaves the set and comes back, counting groups as wholes.
    fn is_convex(&self, inside: &BTreeSet<usize>) -> bool {
        let own: BTreeSet<usize> = inside.iter().map(|&o| self.group_of[o]).collect();
        let mut visited = BTreeSet::new();
        let mut stack: Vec<usize> = Vec::new();
        let push = |o: usize, stack: &mut Vec<usize>| {
            for &next in &self.after[o] {
                if !inside.contains(&next) {
                    stack.push(next);
                }
            }
        };
        inside.iter().for_each(|&o| push(o, &mut stack));
        while let Some(o) = stack.pop() {
            let group = self.group_of[o];
            if own.contains(&group) {
                return false;
            }
            if !visited.insert(group) {
                continue;
            }
            let Some(body) = &self.groups[group] else { continue };
            for &member in &body.ops {
                for &next in &self.after[member] {
                    if inside.contains(&next) {
                        return false;
                    }
                    if self.group_of[next] != group {
                        stack.push(next);
                    }
                }
            }
        }
        true
    }
}

/// Whether every value made inside is read inside as it stands, not through storage that is still being written.
pub fn reads_on_chip(kernel: &Kernel, inside: &BTreeSet<usize>) -> bool {
    let written_inside = |v: ValueId| kernel.values[v].writers.iter().any(|w| inside.contains(w));
    inside.iter().all(|&o| {
        let op = &kernel.ops[o];
        let ins = op.ins.iter().all(|s| match s {
            Source::Value(v) => {
                kernel.values[*v].producer.is_some_and(|p| inside.contains(&p)) || !written_inside(*v)
            }
            Source::Scalar(_) => true,
        });
        let data = match &op.work {
            Work::Gather { data, .. } => !written_inside(*data),
            _ => true,
        };
        ins && data && op.after.iter().all(|a| !inside.contains(a))
    })
}

/// The groups in an order in which each runs after what it reads.
pub fn in_order(kernel: &Kernel, groups: &[Body]) -> Vec<Body> {
    let mut group_of = vec![usize::MAX; kernel.ops.len()];
    for (g, body) in groups.iter().enumerate() {
        body.ops.iter().for_each(|&o| group_of[o] = g);
    }
    let needs: Vec<BTreeSet<usize>> = groups
        .iter()
        .enumerate()
        .map(|(g, body)| {
            let all = body.ops.iter().flat_map(|&o| kernel.dependences(o));
            all.map(|o| group_of[o]).filter(|&h| h != g && h != usize::MAX).collect()
        })
        .collect();
    let mut waiting: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let mut readers = vec![Vec::new(); groups.len()];
    for (g, set) in needs.iter().enumerate() {
        set.iter().for_each(|&h| readers[h].push(g));
    }
    let first = |g: usize| groups[g].ops.first().copied().unwrap_or(0);
    let mut ready: BTreeSet<(usize, usize)> =
        (0..groups.len()).filter(|&g| waiting[g] == 0).map(|g| (first(g), g)).collect();
    let mut order = Vec::new();
    while let Some((_, g)) = ready.pop_first() {
        order.push(groups[g].clone());
        for &r in &readers[g] {
            waiting[r] -= 1;
            if waiting[r] == 0 {
                ready.insert((first(r), r));
            }
        }
    }
    order
}
