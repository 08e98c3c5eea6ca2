//! The e-graph of groupings: an e-class is a value in DRAM, an e-node a group that makes it.
//!
//! Every body that the merging tried is one e-node over the classes of the values it reads, so that all groupings made
//! of them share their parts. The analysis of a class holds the cheapest group in it. Extraction starts from the
//! merging's own partition and replaces its groups by cheaper covers where the e-graph has any; the bound says how far
//! any cover of these bodies could still go.

use std::collections::{BTreeMap, BTreeSet};

use egg::{Analysis, DidMerge, EGraph, Id, Language};

use super::kernel::{Kernel, Source, ValueId};
use super::merge::{Body, Merged};

/// A term: a stored value, a group over the values it reads, or one result of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// A value that no group makes: an input, a weight, a view.
    Dram(u32),
    /// Body number and the values it reads.
    Group(u32, Box<[Id]>),
    /// A result of a group.
    Result(u32, [Id; 1]),
}

impl Language for Term {
    type Discriminant = (u8, u32);

    fn discriminant(&self) -> Self::Discriminant {
        match self {
            Term::Dram(v) => (0, *v),
            Term::Group(b, _) => (1, *b),
            Term::Result(v, _) => (2, *v),
        }
    }

    fn matches(&self, other: &Self) -> bool {
        self.discriminant() == other.discriminant() && self.children().len() == other.children().len()
    }

    fn children(&self) -> &[Id] {
        match self {
            Term::Dram(_) => &[],
            Term::Group(_, ids) => ids,
            Term::Result(_, ids) => ids,
        }
    }

    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            Term::Dram(_) => &mut [],
            Term::Group(_, ids) => ids,
            Term::Result(_, ids) => ids,
        }
    }
}

/// Cost of the cheapest group in a class, in ticks.
struct Cheapest {
    ticks: Vec<u64>,
}

impl Analysis<Term> for Cheapest {
    type Data = Option<u64>;

    fn make(egraph: &mut EGraph<Term, Self>, term: &Term, _: Id) -> Self::Data {
        match term {
            Term::Dram(_) => None,
            Term::Group(body, _) => egraph.analysis.ticks.get(*body as usize).copied(),
            Term::Result(_, [group]) => egraph[*group].data,
        }
    }

    fn merge(&mut self, a: &mut Self::Data, b: Self::Data) -> DidMerge {
        let least = match (*a, b) {
            (Some(x), Some(y)) => Some(x.min(y)),
            (x, y) => x.or(y),
        };
        let changed = DidMerge(*a != least, b != least);
        *a = least;
        changed
    }
}

/// What the extraction found.
#[derive(Clone, Debug, Default)]
pub struct Extracted {
    /// A partition of the ops.
    pub groups: Vec<Body>,
    /// Its planned ticks.
    pub ticks: u64,
    /// No partition into bodies of the e-graph takes less.
    pub lower_bound: u64,
    /// E-nodes and e-classes.
    pub size: (usize, usize),
}

/// Extracts the cheapest grouping found among the bodies of `merged`.
pub fn extract(kernel: &Kernel, merged: &Merged) -> Extracted {
    let bodies: Vec<Body> =
        merged.bodies.iter().map(|(ops, &ticks)| Body { ops: ops.clone(), ticks }).collect();
    let mut egraph = EGraph::new(Cheapest { ticks: bodies.iter().map(|b| b.ticks).collect() });
    let mut class: BTreeMap<ValueId, Id> = BTreeMap::new();
    for (number, body) in bodies.iter().enumerate() {
        let inside =
            |v: ValueId| kernel.values[v].producer.is_some_and(|p| body.ops.binary_search(&p).is_ok());
        let mut reads = BTreeSet::new();
        for &o in &body.ops {
            for source in &kernel.ops[o].ins {
                if let Source::Value(v) = source
                    && !inside(*v)
                {
                    reads.insert(*v);
                }
            }
        }
        let reads: Vec<Id> = reads
            .into_iter()
            .map(|v| *class.entry(v).or_insert_with(|| egraph.add(Term::Dram(v as u32))))
            .collect();
        let group = egraph.add(Term::Group(number as u32, reads.into()));
        for &o in &body.ops {
            for &v in &kernel.ops[o].outs {
                let result = egraph.add(Term::Result(v as u32, [group]));
                let id = *class.entry(v).or_insert_with(|| egraph.add(Term::Dram(v as u32)));
                egraph.union(result, id);
            }
        }
    }
    egraph.rebuild();
    let groups = improve(&bodies, &merged.groups);
    Extracted {
        ticks: groups.iter().map(|g| g.ticks).sum(),
        lower_bound: lower_bound(kernel.ops.len(), &bodies),
        size: (egraph.total_number_of_nodes(), egraph.number_of_classes()),
        groups,
    }
}

/// Local search: a group of the partition gives way to two bodies that cover the same ops for less.
fn improve(bodies: &[Body], start: &[Body]) -> Vec<Body> {
    let by_ops: BTreeMap<&[usize], u64> = bodies.iter().map(|b| (b.ops.as_slice(), b.ticks)).collect();
    let mut work: Vec<Body> = start.to_vec();
    let mut done = Vec::new();
    while let Some(group) = work.pop() {
        let inside = |b: &&Body| {
            b.ops.len() < group.ops.len() && b.ops.iter().all(|o| group.ops.binary_search(o).is_ok())
        };
        let split = bodies
            .iter()
            .filter(inside)
            .filter_map(|b| {
                let rest: Vec<usize> =
                    group.ops.iter().copied().filter(|o| b.ops.binary_search(o).is_err()).collect();
                let ticks = *by_ops.get(rest.as_slice())?;
                (b.ticks + ticks < group.ticks)
                    .then(|| (b.ticks + ticks, b.clone(), Body { ops: rest, ticks }))
            })
            .min_by_key(|(ticks, b, _)| (*ticks, b.ops.clone()));
        match split {
            Some((_, a, b)) => work.extend([a, b]),
            None => done.push(group),
        }
    }
    done
}

/// Every op pays at least its share of the body in which its share is least.
fn lower_bound(ops: usize, bodies: &[Body]) -> u64 {
    let mut least = vec![u64::MAX; ops];
    for body in bodies {
        let share = body.ticks / body.ops.len().max(1) as u64;
        body.ops.iter().for_each(|&o| least[o] = least[o].min(share));
    }
    least.into_iter().filter(|&l| l < u64::MAX).sum()
}
