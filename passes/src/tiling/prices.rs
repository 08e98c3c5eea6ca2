//! What each step of a plan takes, computed once for each set of extents that it runs with.

use super::machine::{Direction, Load, Machine};
use super::plan::Schedule;
use super::problem::Problem;

/// Times of the ops and transfers of a schedule at the extents that the loops around them leave.
pub struct Prices<'a> {
    /// The problem.
    pub p: &'a Problem,
    /// The schedule.
    pub s: &'a Schedule,
    /// The machine.
    pub m: &'a Machine,
    now: Vec<u64>,
    /// Index of `now` among the extents seen.
    context: usize,
    seen: Vec<Vec<u64>>,
    /// By op, then by loaded tensor, then by stored tensor: context and time.
    known: Vec<Vec<(usize, Load)>>,
}

impl<'a> Prices<'a> {
    /// At the full extents of the problem.
    pub fn new(p: &'a Problem, s: &'a Schedule, m: &'a Machine) -> Self {
        let now = p.extents.clone();
        let known = vec![Vec::new(); p.ops.len() + 2 * p.tensors.len()];
        Prices { p, s, m, seen: vec![now.clone()], now, context: 0, known }
    }

    /// The extent of `axis` now.
    pub fn extent(&self, axis: usize) -> u64 {
        self.now[axis]
    }

    /// Enters or leaves a step of a loop: `axis` has `extent` elements from now on.
    pub fn set(&mut self, axis: usize, extent: u64) {
        if self.now[axis] == extent {
            return;
        }
        self.now[axis] = extent;
        self.context = self.seen.iter().position(|s| *s == self.now).unwrap_or_else(|| {
            self.seen.push(self.now.clone());
            self.seen.len() - 1
        });
    }

    /// The extents of a tensor's buffer now.
    pub fn shape(&self, tensor: usize) -> Vec<u64> {
        self.s.shape(self.p, tensor, &self.now)
    }

    fn once(&mut self, index: usize, compute: impl FnOnce(&Self) -> Load) -> Load {
        if let Some((_, load)) = self.known[index].iter().find(|(context, _)| *context == self.context) {
            return *load;
        }
        let load = compute(self);
        self.known[index].push((self.context, load));
        load
    }

    /// An op on the tiles it has now.
    pub fn op(&mut self, o: usize) -> Load {
        self.once(o, |me| me.m.op(me.p, o, &me.now, &me.s.part, me.s.stationary[o]))
    }

    /// The load of a tensor's tile, if it is loaded.
    pub fn load(&mut self, t: usize) -> Option<Load> {
        let access = self.p.tensors[t].load.as_ref()?;
        let index = self.p.ops.len() + t;
        Some(self.once(index, |me| me.m.transfer(access, &me.shape(t), me.s.part[t], Direction::Load)))
    }

    /// The store of a tensor's tile, if it is stored.
    pub fn store(&mut self, t: usize) -> Option<Load> {
        let access = self.p.tensors[t].store.as_ref()?;
        let index = self.p.ops.len() + self.p.tensors.len() + t;
        Some(self.once(index, |me| me.m.transfer(access, &me.shape(t), me.s.part[t], Direction::Store)))
    }
}
