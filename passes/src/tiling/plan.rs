//! From a schedule to a plan: the tree of loops, allocations, transfers and ops that is costed and then emitted.
//!
//! A schedule is a small tree of *nests*. A nest has an ordered chain of loops and items (ops or further nests); an
//! item stands in the body of the last loop of the chain that it touches, before or after the next inner loop as its
//! dependences demand. Everything else follows: where a buffer is allocated, when a transfer happens, what
//! accumulates. One tree serves the cost model and the emitter, so that both mean the same program.

use std::collections::BTreeSet;

use super::problem::{AxisSet, Facts, OpSet, Problem};

/// A loop over one position in steps of `tile` elements (the last step may be shorter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Loop {
    /// The position.
    pub axis: usize,
    /// Elements a step.
    pub tile: u64,
}

/// An op or a nest inside a nest, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// An op of the problem.
    Op(usize),
    /// A nest of the schedule.
    Nest(usize),
}

/// A chain of loops around items.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nest {
    /// Outermost first.
    pub loops: Vec<Loop>,
    /// In a topological order.
    pub items: Vec<Item>,
}

/// All choices about one problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Schedule {
    /// Nests; 0 is the root, children come after their parents.
    pub nests: Vec<Nest>,
    /// Partition axis of each tensor.
    pub part: Vec<usize>,
    /// Which operand of each op is stationary (contracts; 0 elsewhere).
    pub stationary: Vec<usize>,
    /// For each loaded tensor, the number of enclosing loops at which it is held.
    pub hold: Vec<usize>,
    /// Instances of a transferred buffer inside a loop: 2 overlaps transfer and use.
    pub ring: u64,
    /// The same for accumulators.
    pub acc_ring: u64,
}

/// The nests of a chain of loops: one of the loops over `common` axes, which all ops run in, and in it, side by side,
/// one for each set of further loops that no op runs in together with others. Ops that run in none of these stand
/// between them.
pub(super) fn nests(facts: &Facts, common: AxisSet, loops: &[Loop]) -> Vec<Nest> {
    let count = facts.touched.len();
    let chain = || vec![Nest { loops: loops.to_vec(), items: (0..count).map(Item::Op).collect() }];
    let (outer, inner): (Vec<Loop>, Vec<Loop>) = loops.iter().partition(|l| common.has(l.axis));
    let axes = inner.iter().fold(AxisSet::default(), |s, l| s.with(l.axis));
    let mut sets: Vec<AxisSet> = Vec::new();
    for touched in facts.touched.iter().map(|t| t.and(axes)).filter(|t| !t.is_empty()) {
        let (joined, apart): (Vec<AxisSet>, Vec<AxisSet>) =
            sets.into_iter().partition(|s| !s.and(touched).is_empty());
        sets = apart;
        sets.push(joined.into_iter().fold(touched, AxisSet::or));
    }
    if sets.len() < 2 {
        return chain();
    }
    let nest_of = |o: usize| sets.iter().position(|s| !s.and(facts.touched[o]).is_empty());
    // Ops that stand alone come first as items, then the nests; each runs after what it needs.
    let item_of = |o: usize| nest_of(o).map_or(o, |n| count + n);
    let mut needs = vec![BTreeSet::new(); count + sets.len()];
    let mut first = vec![usize::MAX; count + sets.len()];
    for o in 0..count {
        let item = item_of(o);
        first[item] = first[item].min(o);
        needs[item].extend(facts.before[o].iter().map(item_of).filter(|&b| b != item));
    }
    let mut waiting: BTreeSet<(usize, usize)> =
        first.iter().enumerate().filter(|(_, o)| **o < count).map(|(item, &o)| (o, item)).collect();
    let (mut done, mut items) = (BTreeSet::new(), Vec::new());
    while !waiting.is_empty() {
        // Two sets of loops that need one another are one chain after all.
        let Some(&next) = waiting.iter().find(|(_, item)| needs[*item].is_subset(&done)) else {
            return chain();
        };
        waiting.remove(&next);
        done.insert(next.1);
        items.push(if next.1 < count { Item::Op(next.1) } else { Item::Nest(next.1 - count + 1) });
    }
    let mut nests = vec![Nest { loops: outer, items }];
    nests.extend(sets.iter().enumerate().map(|(n, set)| Nest {
        loops: inner.iter().filter(|l| set.has(l.axis)).copied().collect(),
        items: (0..count).filter(|&o| nest_of(o) == Some(n)).map(Item::Op).collect(),
    }));
    nests
}

impl Schedule {
    /// The least steps over each position.
    pub fn tile(&self, axis: usize, extent: u64) -> u64 {
        let loops = self.nests.iter().flat_map(|n| &n.loops).filter(|l| l.axis == axis);
        loops.map(|l| l.tile).min().unwrap_or(extent).min(extent)
    }

    /// The extents of a tensor's buffer where the positions have the extents `now`. Along an axis that its load
    /// repeats, one tile serves all.
    pub fn shape(&self, problem: &Problem, tensor: usize, now: &[u64]) -> Vec<u64> {
        let t = &problem.tensors[tensor];
        let extent = |(axis, (&full, &now)): (usize, (&u64, &u64))| {
            let extent = full.min(now);
            if t.repeats(axis) { self.tile(axis, extent) } else { extent }
        };
        t.shape.iter().zip(now).enumerate().map(extent).collect()
    }
}

/// A step of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A buffer for a tensor, fresh in each iteration of the enclosing loop; `depth` instances may be in flight.
    Alloc {
        /// Tensor.
        tensor: usize,
        /// Ring depth.
        depth: u64,
    },
    /// DRAM to chip.
    Load(usize),
    /// Chip to DRAM.
    Store(usize),
    /// An op on views of the buffers.
    Op(usize),
    /// A loop.
    Loop {
        /// The position.
        axis: usize,
        /// Elements a step.
        tile: u64,
        /// Whether an op inside accumulates over it, so that the first step differs from the others.
        accumulates: bool,
        /// What is repeated.
        body: Vec<Step>,
        /// The steps before this one run an iteration ahead of the others.
        cut: Option<usize>,
    },
}

/// An item of a nest.
#[derive(Clone, Copy)]
struct Entry {
    item: Item,
    /// Loops of the nest around it.
    depth: usize,
    ops: OpSet,
    /// Ops that make its operands.
    before: OpSet,
}

struct Builder<'a> {
    p: &'a Problem,
    f: &'a Facts,
    s: &'a Schedule,
    /// Parent nest of each nest, and the depth in the parent at which it stands.
    parent: Vec<Option<(usize, usize)>>,
    /// Loops enclosing each nest.
    base: Vec<usize>,
    /// Nest and depth in it where each tensor is allocated.
    site: Vec<Option<(usize, usize)>>,
    /// All ops under each nest.
    ops_of: Vec<OpSet>,
    /// The nest that directly holds each op.
    home: Vec<usize>,
}

/// The plan of `schedule`, or `None` where the schedule is not legal: a consumer would see a partial result, an order
/// of summation would change, or an axis that must stay whole is cut.
pub fn plan(problem: &Problem, facts: &Facts, schedule: &Schedule) -> Option<Vec<Step>> {
    let mut b = Builder {
        p: problem,
        f: facts,
        s: schedule,
        parent: vec![None; schedule.nests.len()],
        base: vec![0; schedule.nests.len()],
        site: vec![None; problem.tensors.len()],
        ops_of: vec![OpSet::default(); schedule.nests.len()],
        home: vec![0; problem.ops.len()],
    };
    for n in (0..schedule.nests.len()).rev() {
        for item in &schedule.nests[n].items {
            if let Item::Op(o) = *item {
                b.home[o] = n;
            }
            b.ops_of[n] = b.ops_of[n].or(b.ops(*item));
        }
    }
    for n in 0..schedule.nests.len() {
        for item in &schedule.nests[n].items {
            if let Item::Nest(m) = *item {
                let depth = b.depth(n, *item);
                b.parent[m] = Some((n, depth));
                b.base[m] = b.base[n] + depth;
            }
        }
    }
    for op in 0..problem.ops.len() {
        b.check_chain(op)?;
    }
    for tensor in 0..problem.tensors.len() {
        b.site[tensor] = b.place(tensor)?;
    }
    b.body(0, 0, &b.entries(0))
}

impl Builder<'_> {
    fn touched(&self, item: Item) -> AxisSet {
        match item {
            Item::Op(o) => self.f.touched[o],
            Item::Nest(n) => self.ops_of[n].iter().fold(AxisSet::default(), |s, o| s.or(self.f.touched[o])),
        }
    }

    /// Number of loops of `nest` around `item`.
    fn depth(&self, nest: usize, item: Item) -> usize {
        let touched = self.touched(item);
        self.s.nests[nest].loops.iter().rposition(|l| touched.has(l.axis)).map_or(0, |i| i + 1)
    }

    /// The nests from `nest` up to the root with the depth in each at which the path passes.
    fn path(&self, nest: usize, depth: usize) -> Vec<(usize, usize)> {
        let mut path = vec![(nest, depth)];
        while let Some((up, at)) = self.parent[path[path.len() - 1].0] {
            path.push((up, at));
        }
        path.reverse();
        path
    }

    /// The loops around an op, outermost first.
    fn loops_around(&self, op: usize) -> Vec<Loop> {
        let nest = self.home[op];
        let path = self.path(nest, self.depth(nest, Item::Op(op)));
        path.iter().flat_map(|&(n, d)| self.s.nests[n].loops[..d].iter().copied()).collect()
    }

    /// Cutting the reduced axes must keep the ascending chain: an axis is cut only inside steps of one element of the
    /// reduced axes before it.
    fn check_chain(&self, op: usize) -> Option<()> {
        let (reduced, uncut) = (self.f.reduced[op], self.f.uncut[op]);
        if uncut.is_empty() && reduced.0.count_ones() < 2 {
            return Some(());
        }
        let mut inner = self.p.extents.clone();
        for l in self.loops_around(op) {
            if l.tile >= inner[l.axis] {
                continue;
            }
            if uncut.has(l.axis) {
                return None;
            }
            if reduced.has(l.axis)
                && self.p.is_chain(op)
                && (0..l.axis).any(|a| reduced.has(a) && inner[a] > 1)
            {
                return None;
            }
            inner[l.axis] = l.tile;
        }
        Some(())
    }

    /// The item of `nest` that holds `op`.
    fn item_of(&self, nest: usize, op: usize) -> Option<Item> {
        let mut at = self.home[op];
        if at == nest {
            return Some(Item::Op(op));
        }
        while let Some((up, _)) = self.parent[at] {
            if up == nest {
                return Some(Item::Nest(at));
            }
            at = up;
        }
        None
    }

    /// Where `tensor` is allocated; the outer option is legality, the inner whether it is used at all.
    fn place(&self, tensor: usize) -> Option<Option<(usize, usize)>> {
        let users = &self.f.users[tensor];
        let Some(&first) = users.first() else { return Some(None) };
        let mut nest = self.home[first];
        while !users.iter().all(|&o| self.item_of(nest, o).is_some()) {
            nest = self.parent[nest]?.0;
        }
        let Some(producer) = self.f.producer[tensor] else {
            while self.base[nest] > self.s.hold[tensor] {
                nest = self.parent[nest]?.0;
            }
            let limit = users
                .iter()
                .map(|&o| self.depth(nest, self.item_of(nest, o).unwrap_or(Item::Op(o))))
                .min()?;
            return Some(Some((nest, limit.min(self.s.hold[tensor] - self.base[nest]))));
        };
        let reduced = self.f.reduced[producer];
        // A result that accumulates over an enclosing loop of an outer nest lives outside that loop.
        let mut depth = self.site_depth(nest, producer, users)?;
        let mut at = nest;
        while let Some((up, pos)) = self.parent[at] {
            if let Some(i) = self.s.nests[up].loops[..pos].iter().position(|l| reduced.has(l.axis)) {
                if users
                    .iter()
                    .any(|&o| o != producer && self.item_of(up, o).is_some_and(|it| self.depth(up, it) > i))
                {
                    return None;
                }
                nest = up;
                depth = i;
            }
            at = up;
        }
        Some(Some((nest, depth)))
    }

    fn site_depth(&self, nest: usize, producer: usize, users: &[usize]) -> Option<usize> {
        let reduced = self.f.reduced[producer];
        let chain = &self.s.nests[nest].loops;
        let own = self.depth(nest, self.item_of(nest, producer)?);
        let complete = chain[..own].iter().position(|l| reduced.has(l.axis)).unwrap_or(own);
        let mut site = complete;
        for &user in users {
            if user == producer {
                continue;
            }
            let depth = self.depth(nest, self.item_of(nest, user)?);
            if complete < own && depth > complete {
                return None;
            }
            site = site.min(depth);
        }
        Some(site)
    }

    fn ops(&self, item: Item) -> OpSet {
        match item {
            Item::Op(o) => OpSet::default().with(o),
            Item::Nest(n) => self.ops_of[n],
        }
    }

    /// The items of a nest with what ordering them takes.
    fn entries(&self, nest: usize) -> Vec<Entry> {
        let entry = |&item: &Item| {
            let ops = self.ops(item);
            let before = ops.iter().fold(OpSet::default(), |s, o| s.or(self.f.before[o]));
            Entry { item, depth: self.depth(nest, item), ops, before }
        };
        self.s.nests[nest].items.iter().map(entry).collect()
    }

    /// The steps of the body at `depth` in `nest`. An item of this depth stands before the next inner loop unless it
    /// needs what that makes; nothing inside may need what stands after it.
    fn body(&self, nest: usize, depth: usize, items: &[Entry]) -> Option<Vec<Step>> {
        let (mut inside, mut behind) = (OpSet::default(), OpSet::default());
        let mut after = Vec::new();
        let mut parts: Vec<(Vec<Step>, OpSet)> = Vec::with_capacity(items.len());
        for entry in items {
            if entry.depth > depth {
                if entry.before.meets(behind) {
                    return None;
                }
                inside = inside.or(entry.ops);
            } else if entry.before.meets(inside.or(behind)) {
                behind = behind.or(entry.ops);
                after.push(*entry);
            } else {
                parts.push((self.item(entry.item)?, entry.ops));
            }
        }
        if inside != OpSet::default() {
            let l = self.s.nests[nest].loops[depth];
            let deeper: Vec<Entry> = items.iter().filter(|e| e.depth > depth).copied().collect();
            let accumulates = inside.iter().any(|o| self.f.reduced[o].has(l.axis));
            let body = self.body(nest, depth + 1, &deeper)?;
            parts.push((
                vec![Step::Loop { axis: l.axis, tile: l.tile, accumulates, body, cut: None }],
                inside,
            ));
        }
        for entry in after {
            parts.push((self.item(entry.item)?, entry.ops));
        }
        Some(self.weave(nest, depth, parts))
    }

    fn item(&self, item: Item) -> Option<Vec<Step>> {
        match item {
            Item::Op(o) => Some(vec![Step::Op(o)]),
            Item::Nest(n) => self.body(n, 0, &self.entries(n)),
        }
    }

    /// Adds the allocations, loads and stores of the tensors that live in this body around its parts.
    fn weave(&self, nest: usize, depth: usize, parts: Vec<(Vec<Step>, OpSet)>) -> Vec<Step> {
        let here: Vec<usize> =
            (0..self.site.len()).filter(|&t| self.site[t] == Some((nest, depth))).collect();
        let mut done = vec![false; here.len()];
        let mut steps = Vec::with_capacity(parts.len() + 3 * here.len());
        let level = self.base[nest] + depth;
        for (body, ops) in parts {
            for (i, &t) in here.iter().enumerate() {
                if done[i] || !ops.meets(self.f.referring[t]) {
                    continue;
                }
                done[i] = true;
                let tensor = &self.p.tensors[t];
                let moves = tensor.load.is_some() || tensor.store.is_some();
                let depth = match tensor.space {
                    _ if level == 0 => 1,
                    super::problem::Space::Acc => self.s.acc_ring,
                    super::problem::Space::Spm if moves => self.s.ring,
                    super::problem::Space::Spm => 1,
                };
                steps.push(Step::Alloc { tensor: t, depth });
                if tensor.load.is_some() {
                    steps.push(Step::Load(t));
                }
            }
            steps.extend(body);
            for &t in &here {
                let is_written = |w: usize| ops.meets(OpSet::default().with(w));
                if self.p.tensors[t].store.is_some() && self.f.writer[t].is_some_and(is_written) {
                    steps.push(Step::Store(t));
                }
            }
        }
        steps
    }
}
