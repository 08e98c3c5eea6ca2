//! Which address registers hold which sums of loop counters, and which access patterns are set once.

use std::collections::{BTreeMap, BTreeSet};

use kiln_machine::isa::AccessPattern;

use crate::error::BackendError;
use crate::lir::{IvId, Terms};
use crate::placement::Ring;

/// Registers available to address sums; `r0` reads zero.
pub(super) const REGISTERS: usize = 31;
/// Registers at the top kept for sums that are computed before their use: four operands and a product.
pub(super) const SCRATCH: usize = 5;

/// A register's meaning: a ring slot's offset (at most one) and coefficients of loop counters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Sum {
    pub(super) ring: Option<Ring>,
    pub(super) terms: Terms,
}

impl Sum {
    /// The number of iterations of a loop.
    pub(super) fn counter(iv: IvId) -> Self {
        Self { ring: None, terms: Terms::from([(iv, 1)]) }
    }

    /// The number of the ring's slot, which rings of one depth in one block have in common.
    pub(super) fn slot(ring: Ring) -> Self {
        Self { ring: Some(Ring { pitch: 1, ..ring }), terms: Terms::new() }
    }

    /// What the sum is computed from, each with its coefficient: its ring slot and a counter of each of its loops.
    pub(super) fn factors(&self) -> impl Iterator<Item = (Self, i64)> {
        let slot = self.ring.map(|ring| (Self::slot(ring), ring.pitch as i64));
        slot.into_iter().chain(self.terms.iter().map(|(iv, coef)| (Self::counter(*iv), *coef)))
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Self> {
        self.factors().map(|(part, _)| part)
    }
}

/// Registers and patterns of one root item.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Register of each sum.
    pub(super) registers: BTreeMap<Sum, usize>,
    /// Meaning of each register, from index 1 on.
    pub(super) meanings: Vec<Sum>,
    /// Some sums have no register: they are computed from the registers of their ring and counters.
    pub(super) computes: bool,
    /// Patterns set before the item.
    pub(super) hoisted: BTreeMap<PatternKey, usize>,
}

/// Patterns by content.
pub(super) type PatternKey = (u64, [u32; 4], [i64; 4], u8);

pub(super) fn pattern_key(p: &AccessPattern) -> PatternKey {
    (p.base, p.size, p.stride, p.dt as u8)
}

/// Gives sums their registers; sums that agree on the loops around both share one. If they do not all fit, rings and
/// loop counters come first, then the sums used in the most loops; the rest is left to be computed.
pub(super) fn assign(uses: &[(Sum, Vec<IvId>)]) -> Result<Plan, BackendError> {
    let sums = with_loops(uses.iter().cloned());
    let mut all = Sharing::new(REGISTERS);
    if sums.iter().all(|(sum, open)| all.place(sum, open)) {
        return Ok(all.plan);
    }
    let parts = with_loops(uses.iter().flat_map(|(sum, open)| sum.parts().map(|p| (p, open.clone()))));
    let mut some = Sharing::new(REGISTERS - SCRATCH);
    if !parts.iter().all(|(part, open)| some.place(part, open)) {
        let reason =
            format!("{} rings and loop counters need registers, a stream has {REGISTERS}", parts.len());
        return Err(BackendError::Encoding { op: "loop nest".into(), reason });
    }
    let mut deepest: Vec<(usize, &Sum)> = Vec::new();
    for (sum, open) in uses {
        match deepest.iter_mut().find(|(_, s)| *s == sum) {
            Some((depth, _)) => *depth = (*depth).max(open.len()),
            None => deepest.push((open.len(), sum)),
        }
    }
    deepest.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    for (_, sum) in deepest {
        if let Some((_, open)) = sums.iter().find(|(s, _)| s == sum) {
            some.place(sum, open);
        }
    }
    some.plan.computes = true;
    Ok(some.plan)
}

/// Distinct sums with all the loops open around their uses.
fn with_loops(uses: impl Iterator<Item = (Sum, Vec<IvId>)>) -> Vec<(Sum, BTreeSet<IvId>)> {
    let mut sums: Vec<(Sum, BTreeSet<IvId>)> = Vec::new();
    for (sum, open) in uses {
        match sums.iter_mut().find(|(s, _)| *s == sum) {
            Some((_, all)) => all.extend(open),
            None => sums.push((sum, open.into_iter().collect())),
        }
    }
    sums
}

/// Registers being given out, up to a limit.
struct Sharing {
    plan: Plan,
    /// Loops open around the uses of each register.
    open_of: Vec<BTreeSet<IvId>>,
    limit: usize,
}

impl Sharing {
    fn new(limit: usize) -> Self {
        Self { plan: Plan::default(), open_of: Vec::new(), limit }
    }

    /// Gives `sum` a register; false if none is left.
    fn place(&mut self, sum: &Sum, open: &BTreeSet<IvId>) -> bool {
        if self.plan.registers.contains_key(sum) {
            return true;
        }
        // A loop around one of the two only neither sees nor disturbs the other: it restores the register on exit.
        let agrees = |r: &usize| {
            let meaning = &self.plan.meanings[*r];
            let same = |iv: &IvId| meaning.terms.get(iv) == sum.terms.get(iv);
            meaning.ring == sum.ring && open.intersection(&self.open_of[*r]).all(same)
        };
        let register = match (0..self.plan.meanings.len()).find(agrees) {
            Some(r) => r,
            None if self.plan.meanings.len() == self.limit => return false,
            None => {
                self.plan.meanings.push(Sum { ring: sum.ring, terms: Terms::new() });
                self.open_of.push(BTreeSet::new());
                self.plan.meanings.len() - 1
            }
        };
        self.plan.meanings[register].terms.extend(sum.terms.clone());
        self.open_of[register].extend(open);
        self.plan.registers.insert(sum.clone(), register + 1);
        true
    }
}
