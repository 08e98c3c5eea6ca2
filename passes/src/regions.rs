//! Repetition: equal convex regions of a named-axis graph, found by structure.
//!
//! Two regions are equal when a mapping of nodes and axes takes one to the other and keeps everything but
//! the identity of weights: ops, dtypes, extents, the order of dims, the recipes that weights go through,
//! and the bytes of constants. Names play no part. Layers that differ (another window, a first layer that
//! computes a bias) are regions of their own or of none; a graph without repetition has none.
//!
//! **How.** Nodes get labels of what they are locally ([`label`]); a stretch of the program whose labels
//! recur at a distance suggests a period. The stretch is cut where the fewest values cross, and the cut
//! piece is laid over what stands before it by following operands from the values handed on ([`walk`]), which
//! proves the copy and does not mind what else stands in between, such as a mask that all layers share.

mod label;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

use std::collections::BTreeSet;

use crate::axes::{AxisId, Graph, NodeId};
use walk::Template;

/// Regions of fewer nodes are not worth telling apart.
const LEAST_NODES: usize = 6;
/// Distances at which labels recur that are tried for one region, the most promising first.
const MOST_PERIODS: usize = 6;
/// Cuts of one period that are tried.
const MOST_CUTS: usize = 24;

/// A body and where it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// At least two, in program order. All their lists correspond position by position.
    pub instances: Vec<Instance>,
    /// Positions in [`Instance::nodes`] of the values that some instance hands out.
    pub outputs: Vec<usize>,
}

/// One occurrence of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// What it computes from its inputs, in the program order of the body. No node is in two instances.
    pub nodes: Vec<NodeId>,
    /// Values from outside, constants excepted.
    pub inputs: Vec<NodeId>,
    /// Constants and what is computed from constants only; instances may share them.
    pub constants: Vec<NodeId>,
    /// All axes of the above.
    pub axes: Vec<AxisId>,
}

/// The repeated regions of a graph, those that save most first.
pub fn find(graph: &Graph) -> Vec<Region> {
    let labels = label::labels(graph);
    let users = graph.users();
    let mut taken = vec![false; graph.nodes.len()];
    let mut regions = Vec::new();
    loop {
        let sequence: Vec<NodeId> =
            graph.ids().filter(|id| labels.is_work(graph, *id) && !taken[id.0 as usize]).collect();
        let Some(region) = best(graph, &labels, &users, &sequence, &taken) else {
            return regions;
        };
        for id in region.instances.iter().flat_map(|i| &i.nodes) {
            taken[id.0 as usize] = true;
        }
        regions.push(region);
    }
}

/// A stretch `start..start + matched` of the sequence whose labels stand again `period` later.
#[derive(Clone, Copy)]
struct Run {
    period: usize,
    start: usize,
    matched: usize,
}

fn best(
    graph: &Graph,
    labels: &label::Labels,
    users: &[Vec<NodeId>],
    sequence: &[NodeId],
    taken: &[bool],
) -> Option<Region> {
    let mut runs = runs(&sequence.iter().map(|id| labels.of(*id)).collect::<Vec<_>>());
    runs.sort_by_key(|r| (std::cmp::Reverse(r.matched), r.period));
    runs.iter().take(MOST_PERIODS).find_map(|run| {
        let found = cuts(graph, users, sequence, *run).into_iter().filter_map(|cut| {
            let nodes = &sequence[cut..cut + run.period];
            let template = Template::new(graph, labels, users, nodes)?;
            // The values before the cut that recur within the template are what the copy before hands on.
            let carried: Vec<(usize, NodeId)> = template
                .inputs()
                .iter()
                .filter_map(|v| {
                    let at = sequence.binary_search(v).ok()?;
                    let ahead = (at >= run.start && at + run.period >= cut).then(|| at + run.period - cut)?;
                    (ahead < run.period).then_some((ahead, *v))
                })
                .collect();
            let region = template.extend(&carried, taken);
            (region.instances.len() > 1).then_some(region)
        });
        // The most copies; among equals the first cut, where the fewest values cross.
        found.reduce(|a, b| if b.instances.len() > a.instances.len() { b } else { a })
    })
}

/// For each period its longest run.
fn runs(labels: &[u32]) -> Vec<Run> {
    let mut runs = Vec::new();
    for period in LEAST_NODES..labels.len() {
        let mut longest: Option<Run> = None;
        let mut length = 0;
        for i in 0..labels.len() - period {
            length = if labels[i] == labels[i + period] { length + 1 } else { 0 };
            if length >= LEAST_NODES.max(period / 4) && longest.is_none_or(|l| length > l.matched) {
                longest = Some(Run { period, start: i + 1 - length, matched: length });
            }
        }
        runs.extend(longest);
    }
    runs
}

/// Where to cut the last period of a run: positions of the template's first node, fewest crossing values first.
fn cuts(graph: &Graph, users: &[Vec<NodeId>], sequence: &[NodeId], run: Run) -> Vec<usize> {
    let last = run.start + run.matched;
    let first = (run.start + 1).max((last + 1).saturating_sub(run.period));
    let outputs: BTreeSet<NodeId> = graph.outputs.iter().map(|p| p.node).collect();
    let end = NodeId(graph.nodes.len() as u32);
    let crossing = |cut: usize| -> usize {
        let boundary = sequence.get(cut).copied().unwrap_or(end);
        let made = &sequence[cut.saturating_sub(run.period)..cut];
        let is_read = |v: &&NodeId| outputs.contains(v) || users[v.0 as usize].iter().any(|u| *u >= boundary);
        made.iter().filter(is_read).count()
    };
    let mut cuts: Vec<(usize, usize)> =
        (first..=last).map(|cut| (crossing(cut) + crossing(cut + run.period), cut)).collect();
    cuts.sort_unstable();
    cuts.into_iter().map(|(_, cut)| cut).take(MOST_CUTS).collect()
}
