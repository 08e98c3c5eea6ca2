//! From a schedule to a plan: the tree of loops, allocations, transfers and ops that is costed and then emitted.
//!
//! A schedule is a small tree of *nests*. A nest has an ordered chain of loops and items (ops or further nests); an
//! item stands in the body of the last loop of the chain that it touches, before or after the next inner loop as its
//! dependences demand. Everything else follows: where a buffer is allocated, when a transfer happens, what
//! accumulates. One tree serves the cost model and the emitter, so that both mean the same program.

use super::problem::{AxisSet, Facts, OpKind, Problem};

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
    ops_of: Vec<Vec<usize>>,
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
        ops_of: vec![Vec::new(); schedule.nests.len()],
        home: vec![0; problem.ops.len()],
    };
    for n in (0..schedule.nests.len()).rev() {
        let mut ops = Vec::new();
        for item in &schedule.nests[n].items {
            match *item {
                Item::Op(o) => {
                    ops.push(o);
                    b.home[o] = n;
                }
                Item::Nest(m) => ops.extend_from_slice(&b.ops_of[m]),
            }
        }
        b.ops_of[n] = ops;
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
    b.body(0, 0, &schedule.nests[0].items)
}

impl Builder<'_> {
    fn touched(&self, item: Item) -> AxisSet {
        match item {
            Item::Op(o) => self.f.touched[o],
            Item::Nest(n) => self.ops_of[n].iter().fold(AxisSet::default(), |s, &o| s.or(self.f.touched[o])),
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

    fn refers(&self, op: usize, tensor: usize) -> bool {
        self.f.users[tensor].binary_search(&op).is_ok()
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

    fn ops_under(&self, item: Item) -> &[usize] {
        match item {
            Item::Op(_) => &[],
            Item::Nest(n) => &self.ops_of[n],
        }
    }

    fn each_op(&self, item: Item, mut f: impl FnMut(usize)) {
        match item {
            Item::Op(o) => f(o),
            Item::Nest(_) => self.ops_under(item).iter().for_each(|&o| f(o)),
        }
    }

    fn depends(&self, later: Item, earlier: Item) -> bool {
        let mut outs = Vec::new();
        self.each_op(earlier, |o| outs.extend_from_slice(&self.p.ops[o].outs));
        let mut hit = false;
        self.each_op(later, |o| hit |= self.p.ops[o].tensors().any(|t| outs.contains(&t)));
        hit
    }

    fn body(&self, nest: usize, depth: usize, items: &[Item]) -> Option<Vec<Step>> {
        let deeper: Vec<Item> = items.iter().copied().filter(|&i| self.depth(nest, i) > depth).collect();
        let own: Vec<Item> = items.iter().copied().filter(|&i| self.depth(nest, i) == depth).collect();
        let mut after = vec![false; items.len()];
        for (j, &later) in items.iter().enumerate() {
            let behind = |i: usize| after[i] || deeper.contains(&items[i]);
            after[j] = (0..j)
                .any(|i| behind(i) && self.depends(later, items[i]) && (own.contains(&later) || after[i]));
            if after[j] && deeper.contains(&later) {
                return None;
            }
        }
        let is_post = |item: &Item| items.iter().position(|i| i == item).is_some_and(|i| after[i]);
        let mut entries: Vec<(Vec<Step>, Vec<usize>)> = Vec::new();
        let push_own = |entries: &mut Vec<(Vec<Step>, Vec<usize>)>, item: Item| -> Option<()> {
            match item {
                Item::Op(o) => entries.push((vec![Step::Op(o)], vec![o])),
                Item::Nest(n) => {
                    entries.push((self.body(n, 0, &self.s.nests[n].items)?, self.ops_of[n].clone()))
                }
            }
            Some(())
        };
        for &item in own.iter().filter(|i| !is_post(i)) {
            push_own(&mut entries, item)?;
        }
        if !deeper.is_empty() {
            let l = self.s.nests[nest].loops[depth];
            let mut ops = Vec::new();
            deeper.iter().for_each(|&i| self.each_op(i, |o| ops.push(o)));
            let accumulates = ops.iter().any(|&o| self.f.reduced[o].has(l.axis));
            let body = self.body(nest, depth + 1, &deeper)?;
            entries
                .push((vec![Step::Loop { axis: l.axis, tile: l.tile, accumulates, body, cut: None }], ops));
        }
        for &item in own.iter().filter(|i| is_post(i)) {
            push_own(&mut entries, item)?;
        }
        Some(self.weave(nest, depth, entries))
    }

    /// Adds the allocations, loads and stores of the tensors that live in this body around its entries.
    fn weave(&self, nest: usize, depth: usize, entries: Vec<(Vec<Step>, Vec<usize>)>) -> Vec<Step> {
        let here: Vec<usize> =
            (0..self.site.len()).filter(|&t| self.site[t] == Some((nest, depth))).collect();
        let mut done = vec![false; here.len()];
        let mut steps = Vec::new();
        let level = self.base[nest] + depth;
        for (body, ops) in entries {
            for (i, &t) in here.iter().enumerate() {
                if done[i] || !ops.iter().any(|&o| self.refers(o, t)) {
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
                let Some(_) = self.p.tensors[t].store else { continue };
                let writer = self.f.producer[t].or_else(|| {
                    self.p
                        .ops
                        .iter()
                        .position(|o| matches!(o.kind, OpKind::Copy) && o.tensors().any(|x| x == t))
                });
                if writer.is_some_and(|w| ops.contains(&w)) {
                    steps.push(Step::Store(t));
                }
            }
        }
        steps
    }
}
