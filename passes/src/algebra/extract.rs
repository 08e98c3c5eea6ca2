//! Extraction: which term computes each class, at the least total cost of the whole program.
//!
//! Costs are counted once per class (a DAG, not a tree). Greedy first: each class takes the term whose
//! set of needed classes is cheapest, bottom-up. Then local search: exchange the term of one needed
//! class, or of all classes that one rule application equated, and keep what is cheaper, with exact
//! differences by reference counts. A lower bound tells how far from the best this can be at most.

use std::collections::{BTreeMap, BTreeSet};

use egg::{Id, Language};

use super::cost::{Weights, own_cost};
use super::term::{EGraph, Term};

/// A choice of terms, with its cost and a bound no choice can go below.
#[derive(Clone, Debug)]
pub struct Extraction {
    pub choice: BTreeMap<Id, Term>,
    pub cost: u64,
    pub lower_bound: u64,
}

/// Chooses a term for each class that the roots need. `program` is each class as it was written,
/// `joint` the exchanges that only pay together.
///
/// # Errors
/// A class that no finite term computes; an acyclic e-graph has none.
pub fn extract(
    egraph: &EGraph,
    roots: &[Id],
    program: &[(Id, Term)],
    joint: &[Vec<(Id, Term)>],
    weights: Weights,
) -> Result<Extraction, Id> {
    let table = Table::new(egraph, weights);
    let moves: Vec<_> = joint.iter().filter_map(|m| table.moves(m, egraph)).collect();
    let greedy = table.greedy()?;
    let mut as_is = greedy.clone();
    for (c, o) in program.iter().filter_map(|m| table.moves(std::slice::from_ref(m), egraph)).flatten() {
        as_is[c] = o;
    }
    // Greedy may miss what sharing makes cheap, the program what takes several steps: try both.
    let mut best: Option<Search> = None;
    for start in [as_is, greedy] {
        let mut search = Search::start(&table, start, roots, egraph)?;
        search.improve(&table, &moves);
        if best.as_ref().is_none_or(|b| search.cost < b.cost) {
            best = Some(search);
        }
    }
    let search = best.ok_or_else(|| roots.first().copied().unwrap_or(Id::from(0)))?;
    let choice =
        search.needed().map(|c| (table.ids[c], table.terms[c][search.choice[c]].term.clone())).collect();
    Ok(Extraction { choice, cost: search.cost, lower_bound: table.lower_bound(roots, egraph) })
}

struct Choice {
    term: Term,
    cost: u64,
    /// Distinct child classes.
    children: Vec<usize>,
}

/// The e-graph over dense class numbers in topological order (children first).
struct Table {
    ids: Vec<Id>,
    index: BTreeMap<Id, usize>,
    terms: Vec<Vec<Choice>>,
}

impl Table {
    fn new(egraph: &EGraph, weights: Weights) -> Self {
        let mut ids = Vec::new();
        let mut index: BTreeMap<Id, usize> = BTreeMap::new();
        let mut open: BTreeSet<Id> = BTreeSet::new();
        for root in egraph.classes().map(|c| c.id) {
            let mut stack = vec![(root, false)];
            while let Some((class, ready)) = stack.pop() {
                if index.contains_key(&class) {
                    continue;
                }
                if ready {
                    index.insert(class, ids.len());
                    ids.push(class);
                } else if open.insert(class) {
                    stack.push((class, true));
                    for t in &egraph[class].nodes {
                        stack.extend(t.children.iter().map(|c| (egraph.find(*c), false)));
                    }
                }
            }
        }
        let terms = ids
            .iter()
            .map(|&class| {
                let options = egraph[class].nodes.iter().map(|t| {
                    let mut children: Vec<usize> =
                        t.children().iter().map(|c| index[&egraph.find(*c)]).collect();
                    children.sort_unstable();
                    children.dedup();
                    Choice { term: t.clone(), cost: own_cost(egraph, class, t, weights), children }
                });
                options.collect()
            })
            .collect();
        Table { ids, index, terms }
    }

    /// Bottom-up: the term whose needed classes (with their choices so far) cost least in sum.
    fn greedy(&self) -> Result<Vec<usize>, Id> {
        let n = self.ids.len();
        let words = n.div_ceil(64);
        let mut choice = vec![0usize; n];
        let mut sets: Vec<Vec<u64>> = Vec::with_capacity(n);
        let mut own: Vec<u64> = vec![0; n];
        for c in 0..n {
            let mut best: Option<(u64, usize, Vec<u64>)> = None;
            let single = self.terms[c].len() == 1;
            for (i, o) in self.terms[c].iter().enumerate() {
                // Children come first in an acyclic e-graph.
                if o.children.iter().any(|&child| child >= c) {
                    continue;
                }
                let mut set = vec![0u64; words];
                for &child in &o.children {
                    set.iter_mut().zip(&sets[child]).for_each(|(a, b)| *a |= b);
                }
                let sum = if single { 0 } else { o.cost + members(&set).map(|m| own[m]).sum::<u64>() };
                if best.as_ref().is_none_or(|(cost, ..)| sum < *cost) {
                    best = Some((sum, i, set));
                }
            }
            let (_, i, mut set) = best.ok_or(self.ids[c])?;
            set[c / 64] |= 1 << (c % 64);
            own[c] = self.terms[c][i].cost;
            choice[c] = i;
            sets.push(set);
        }
        Ok(choice)
    }

    /// Classes and terms as numbers; none when one of them is gone.
    fn moves(&self, moves: &[(Id, Term)], egraph: &EGraph) -> Option<Vec<(usize, usize)>> {
        let find = |(class, term): &(Id, Term)| -> Option<(usize, usize)> {
            let c = *self.index.get(&egraph.find(*class))?;
            let children = || term.children.iter().map(|c| egraph.find(*c));
            let same = |o: &Choice| {
                o.term.kind == term.kind
                    && o.term.dtype == term.dtype
                    && o.term.children.iter().map(|c| egraph.find(*c)).eq(children())
            };
            Some((c, self.terms[c].iter().position(same)?))
        };
        moves.iter().map(find).collect()
    }

    /// Every program computes the classes that all choices have in common; each at its cheapest, with a share
    /// of what its terms need besides.
    fn lower_bound(&self, roots: &[Id], egraph: &EGraph) -> u64 {
        let n = self.ids.len();
        let words = n.div_ceil(64);
        let mut needed: Vec<Vec<u64>> = Vec::with_capacity(n);
        for (c, options) in self.terms.iter().enumerate() {
            let mut common: Option<Vec<u64>> = None;
            for o in options {
                let mut set = vec![0u64; words];
                for &child in o.children.iter().filter(|&&child| child < c) {
                    set.iter_mut().zip(&needed[child]).for_each(|(a, b)| *a |= b);
                }
                common = Some(match common {
                    None => set,
                    Some(mut all) => {
                        all.iter_mut().zip(&set).for_each(|(a, b)| *a &= b);
                        all
                    }
                });
            }
            let mut set = common.unwrap_or_else(|| vec![0; words]);
            set[c / 64] |= 1 << (c % 64);
            needed.push(set);
        }
        let mut all = vec![0u64; words];
        for root in roots {
            if let Some(&r) = self.index.get(&egraph.find(*root)) {
                all.iter_mut().zip(&needed[r]).for_each(|(a, b)| *a |= b);
            }
        }
        // What a class may be the only one to need is charged to it: of a class's own bound no more than the
        // share of one among all classes that can have it for an operand.
        let in_all = |c: usize| all[c / 64] >> (c % 64) & 1 == 1;
        let mut parents = vec![0u64; n];
        for options in &self.terms {
            let children: BTreeSet<usize> = options.iter().flat_map(|o| &o.children).copied().collect();
            children.into_iter().for_each(|k| parents[k] += 1);
        }
        let mut least = vec![0u64; n];
        for (c, options) in self.terms.iter().enumerate() {
            let charged = |o: &Choice| -> u64 {
                let beside = o.children.iter().filter(|&&k| k < c && !in_all(k));
                o.cost + beside.map(|&k| least[k] / parents[k].max(1)).sum::<u64>()
            };
            least[c] = options.iter().map(charged).min().unwrap_or(0);
        }
        members(&all).map(|c| least[c]).sum()
    }
}

/// The numbers in a bit set, ascending.
fn members(set: &[u64]) -> impl Iterator<Item = usize> + '_ {
    set.iter()
        .enumerate()
        .flat_map(|(w, &bits)| (0..64).filter(move |b| bits >> b & 1 == 1).map(move |b| w * 64 + b))
}

/// A current choice with reference counts.
struct Search {
    choice: Vec<usize>,
    uses: Vec<u32>,
    cost: u64,
}

impl Search {
    fn start(table: &Table, choice: Vec<usize>, roots: &[Id], egraph: &EGraph) -> Result<Self, Id> {
        let mut search = Search { choice, uses: vec![0; table.ids.len()], cost: 0 };
        for root in roots {
            let r = *table.index.get(&egraph.find(*root)).ok_or(*root)?;
            search.acquire(table, r);
        }
        Ok(search)
    }

    /// One more use of a class: its term is computed if this is the first.
    fn acquire(&mut self, table: &Table, class: usize) {
        let mut stack = vec![class];
        while let Some(c) = stack.pop() {
            self.uses[c] += 1;
            if self.uses[c] == 1 {
                let o = &table.terms[c][self.choice[c]];
                self.cost += o.cost;
                stack.extend(&o.children);
            }
        }
    }

    fn release(&mut self, table: &Table, class: usize) {
        let mut stack = vec![class];
        while let Some(c) = stack.pop() {
            self.uses[c] -= 1;
            if self.uses[c] == 0 {
                let o = &table.terms[c][self.choice[c]];
                self.cost -= o.cost;
                stack.extend(&o.children);
            }
        }
    }

    /// Computes a needed class by another term.
    fn exchange(&mut self, table: &Table, class: usize, to: usize) {
        let from = std::mem::replace(&mut self.choice[class], to);
        if self.uses[class] == 0 {
            return;
        }
        self.cost += table.terms[class][to].cost;
        for &child in &table.terms[class][to].children {
            self.acquire(table, child);
        }
        self.cost -= table.terms[class][from].cost;
        for &child in &table.terms[class][from].children {
            self.release(table, child);
        }
    }

    fn improve(&mut self, table: &Table, moves: &[Vec<(usize, usize)>]) {
        for _ in 0..8 {
            let before = self.cost;
            for class in (0..table.ids.len()).rev() {
                if self.uses[class] == 0 {
                    continue;
                }
                for option in 0..table.terms[class].len() {
                    self.attempt(table, &[(class, option)]);
                }
            }
            for m in moves {
                self.attempt(table, m);
            }
            if self.cost == before {
                break;
            }
        }
    }

    /// Makes the exchanges if they lower the cost together.
    fn attempt(&mut self, table: &Table, moves: &[(usize, usize)]) {
        let old: Vec<(usize, usize)> = moves.iter().map(|&(c, _)| (c, self.choice[c])).collect();
        if moves.iter().zip(&old).all(|(a, b)| a == b) {
            return;
        }
        let before = self.cost;
        moves.iter().for_each(|&(c, o)| self.exchange(table, c, o));
        if self.cost >= before {
            old.iter().rev().for_each(|&(c, o)| self.exchange(table, c, o));
        }
    }

    fn needed(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.uses.len()).filter(|&c| self.uses[c] > 0)
    }
}
