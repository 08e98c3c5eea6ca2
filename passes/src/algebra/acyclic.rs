//! Keeping the e-graph acyclic: the test before a union and the repair after a rebuild.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::term::EGraph;

/// For each class of an acyclic e-graph a number above those of everything it is made of.
pub fn ranks(egraph: &EGraph) -> BTreeMap<Id, u32> {
    let mut ranks: BTreeMap<Id, u32> = BTreeMap::new();
    let mut open: BTreeSet<Id> = BTreeSet::new();
    for root in egraph.classes().map(|c| c.id) {
        let mut stack = vec![(root, false)];
        while let Some((class, ready)) = stack.pop() {
            if ranks.contains_key(&class) {
                continue;
            }
            let children = egraph[class].nodes.iter().flat_map(|t| &t.children).map(|c| egraph.find(*c));
            if ready {
                let rank = children.filter_map(|c| ranks.get(&c)).max().map_or(0, |r| r + 1);
                ranks.insert(class, rank);
            } else if open.insert(class) {
                stack.push((class, true));
                stack.extend(children.filter(|c| !ranks.contains_key(c)).map(|c| (c, false)));
            }
        }
    }
    ranks
}

/// Whether `below` is among what `from` is made of. `ranks` may be older than the e-graph: classes
/// without a rank are looked into, ranked ones only where they can hold `below`.
pub fn reaches(egraph: &EGraph, from: Id, below: Id, ranks: &BTreeMap<Id, u32>) -> bool {
    let floor = ranks.get(&below).copied();
    let mut seen = BTreeSet::new();
    let mut stack = vec![egraph.find(from)];
    while let Some(class) = stack.pop() {
        if class == below {
            return true;
        }
        if !seen.insert(class) {
            continue;
        }
        if let (Some(rank), Some(floor)) = (ranks.get(&class), floor)
            && *rank <= floor
        {
            continue;
        }
        stack.extend(egraph[class].nodes.iter().flat_map(|t| &t.children).map(|c| egraph.find(*c)));
    }
    false
}

/// Drops the terms that close cycles; every class keeps a term that does not.
pub fn restore(egraph: &mut EGraph) {
    let mut graph: DiGraph<Id, ()> = DiGraph::new();
    let mut node_of: BTreeMap<Id, NodeIndex> = BTreeMap::new();
    let classes: BTreeSet<Id> = egraph.classes().map(|c| c.id).collect();
    for &id in &classes {
        node_of.insert(id, graph.add_node(id));
    }
    for &id in &classes {
        let children: BTreeSet<Id> =
            egraph[id].nodes.iter().flat_map(|t| &t.children).map(|c| egraph.find(*c)).collect();
        for c in children {
            graph.add_edge(node_of[&id], node_of[&c], ());
        }
    }
    let cyclic: Vec<BTreeSet<Id>> = tarjan_scc(&graph)
        .into_iter()
        .filter(|scc| scc.len() > 1 || graph.contains_edge(scc[0], scc[0]))
        .map(|scc| scc.into_iter().map(|n| graph[n]).collect())
        .collect();
    if cyclic.is_empty() {
        return;
    }
    for scc in cyclic {
        let height = heights(egraph, &scc);
        for &class in &scc {
            let keep: Vec<bool> = egraph[class]
                .nodes
                .iter()
                .map(|t| {
                    let inside = t.children.iter().map(|c| egraph.find(*c)).filter(|c| scc.contains(c));
                    inside.map(|c| height.get(&c)).all(|h| h.is_some_and(|h| *h < height[&class]))
                })
                .collect();
            let mut keep = keep.into_iter();
            egraph[class].nodes.retain(|_| keep.next().unwrap_or(true));
        }
    }
}

/// The least number of steps inside the component that a term of each class needs.
fn heights(egraph: &EGraph, scc: &BTreeSet<Id>) -> BTreeMap<Id, u32> {
    let mut height: BTreeMap<Id, u32> = BTreeMap::new();
    let mut level = 0;
    while height.len() < scc.len() {
        let ready: Vec<Id> = scc
            .iter()
            .filter(|c| !height.contains_key(c))
            .filter(|c| {
                egraph[**c].nodes.iter().any(|t| {
                    let mut inside = t.children.iter().map(|c| egraph.find(*c)).filter(|c| scc.contains(c));
                    inside.all(|c| height.contains_key(&c))
                })
            })
            .copied()
            .collect();
        if ready.is_empty() {
            // Cannot be: every class was built from leaves.
            break;
        }
        ready.into_iter().for_each(|c| {
            height.insert(c, level);
        });
        level += 1;
    }
    height
}
