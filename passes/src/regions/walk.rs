//! Laying a template over other places of its graph, by following operands.

use std::collections::{BTreeMap, BTreeSet};

use super::label::{Labels, anonymous};
use super::{Instance, Region};
use crate::axes::{AxisId, Graph, NodeId};

/// A region with what it takes from outside.
pub(super) struct Template<'g> {
    graph: &'g Graph,
    labels: &'g Labels,
    users: &'g [Vec<NodeId>],
    own: Instance,
    place: BTreeMap<NodeId, Place>,
}

/// What a node is to the template: a position in one of its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Node(usize),
    Input(usize),
    Constant(usize),
}

impl<'g> Template<'g> {
    /// The region of `nodes` (ascending); none when it is not convex.
    pub(super) fn new(
        graph: &'g Graph,
        labels: &'g Labels,
        users: &'g [Vec<NodeId>],
        nodes: &[NodeId],
    ) -> Option<Self> {
        let mut place: BTreeMap<NodeId, Place> = BTreeMap::new();
        nodes.iter().enumerate().for_each(|(i, &id)| {
            place.insert(id, Place::Node(i));
        });
        let (mut inputs, mut constants) = (Vec::new(), Vec::new());
        let mut stack: Vec<NodeId> = nodes.iter().rev().copied().collect();
        while let Some(id) = stack.pop() {
            for &o in &graph.node(id).operands {
                if place.contains_key(&o) {
                    continue;
                }
                if labels.is_constant(o) {
                    place.insert(o, Place::Constant(constants.len()));
                    constants.push(o);
                    stack.push(o);
                } else {
                    place.insert(o, Place::Input(inputs.len()));
                    inputs.push(o);
                }
            }
        }
        let mut axes: Vec<AxisId> = Vec::new();
        let mut seen = BTreeSet::new();
        for id in inputs.iter().chain(&constants).chain(nodes) {
            let node = graph.node(*id);
            for &a in &node.axes {
                if seen.insert(a) {
                    axes.push(a);
                }
            }
            node.kind.map_axes(&mut |a| {
                if seen.insert(a) {
                    axes.push(a);
                }
                a
            });
        }
        let own = Instance { nodes: nodes.to_vec(), inputs, constants, axes };
        is_convex(graph, &own).then_some(Template { graph, labels, users, own, place })
    }

    pub(super) fn inputs(&self) -> &[NodeId] {
        &self.own.inputs
    }

    /// The template and its copies before it: `carried` are positions of nodes with the values that the
    /// last copy before has there.
    pub(super) fn extend(&self, carried: &[(usize, NodeId)], taken: &[bool]) -> Region {
        let slots: Vec<(usize, usize)> = carried
            .iter()
            .filter_map(|(node, value)| {
                Some((*node, self.own.inputs.iter().position(|input| input == value)?))
            })
            .collect();
        let mut used: BTreeSet<NodeId> = self.own.nodes.iter().copied().collect();
        let mut instances = vec![self.own.clone()];
        while let Some(last) = instances.last() {
            let roots: Vec<(usize, NodeId)> =
                slots.iter().map(|&(node, input)| (node, last.inputs[input])).collect();
            let Some(copy) = self.lay(&roots) else { break };
            if copy.nodes.iter().any(|id| taken[id.0 as usize] || !used.insert(*id)) {
                break;
            }
            instances.push(copy);
        }
        instances.reverse();
        let read_outside = |i: usize| {
            instances.iter().any(|instance| {
                let id = instance.nodes[i];
                self.graph.outputs.iter().any(|p| p.node == id)
                    || self.users[id.0 as usize].iter().any(|u| !instance.nodes.contains(u))
            })
        };
        let outputs = (0..self.own.nodes.len()).filter(|&i| read_outside(i)).collect();
        Region { instances, outputs }
    }

    /// The copy in which the nodes at the given positions are the given ones.
    fn lay(&self, roots: &[(usize, NodeId)]) -> Option<Instance> {
        if roots.is_empty() {
            return None;
        }
        let mut lay = Laying { t: self, at: BTreeMap::new(), axes: BTreeMap::new(), back: BTreeMap::new() };
        for &(node, value) in roots {
            lay.put(Place::Node(node), value)?;
        }
        // What no root is made of (a value only handed out) is made of what they are made of.
        for (i, &id) in self.own.nodes.iter().enumerate() {
            if !lay.at.contains_key(&Place::Node(i)) {
                let value = lay.reader_like(id)?;
                lay.put(Place::Node(i), value)?;
            }
        }
        let list = |n: usize, place: fn(usize) -> Place| -> Option<Vec<NodeId>> {
            (0..n).map(|i| lay.at.get(&place(i)).copied()).collect()
        };
        let copy = Instance {
            nodes: list(self.own.nodes.len(), Place::Node)?,
            inputs: list(self.own.inputs.len(), Place::Input)?,
            constants: list(self.own.constants.len(), Place::Constant)?,
            axes: self.own.axes.iter().map(|a| lay.axes.get(a).copied()).collect::<Option<_>>()?,
        };
        let distinct: BTreeSet<&NodeId> = copy.nodes.iter().collect();
        (distinct.len() == copy.nodes.len() && is_convex(self.graph, &copy)).then_some(copy)
    }
}

/// A mapping in the making.
struct Laying<'t, 'g> {
    t: &'t Template<'g>,
    at: BTreeMap<Place, NodeId>,
    axes: BTreeMap<AxisId, AxisId>,
    back: BTreeMap<AxisId, AxisId>,
}

impl Laying<'_, '_> {
    /// States that `value` stands at `place`, with everything that follows from it.
    fn put(&mut self, place: Place, value: NodeId) -> Option<()> {
        let mut open = vec![(place, value)];
        while let Some((place, value)) = open.pop() {
            if let Some(known) = self.at.insert(place, value) {
                if known != value {
                    return None;
                }
                continue;
            }
            let t = self.t;
            let own = match place {
                Place::Node(i) => t.own.nodes[i],
                Place::Input(i) => t.own.inputs[i],
                Place::Constant(i) => t.own.constants[i],
            };
            let (a, b) = (t.graph.node(own), t.graph.node(value));
            self.unify(&a.axes, &b.axes)?;
            if let Place::Input(_) = place {
                if a.dtype != b.dtype || t.labels.is_constant(value) {
                    return None;
                }
                continue;
            }
            if t.labels.of(own) != t.labels.of(value) {
                return None;
            }
            let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
            let list = |to: &mut Vec<AxisId>, axis| {
                to.push(axis);
                axis
            };
            a.kind.map_axes(&mut |axis| list(&mut of_a, axis));
            b.kind.map_axes(&mut |axis| list(&mut of_b, axis));
            self.unify(&of_a, &of_b)?;
            debug_assert!(anonymous(a.kind.map_axes(&mut |x| self.axes[&x])) == anonymous(b.kind.clone()));
            open.extend(a.operands.iter().zip(&b.operands).map(|(o, v)| (t.place[o], *v)));
        }
        Some(())
    }

    /// Each axis of the template means one axis of the copy, and the other way round.
    fn unify(&mut self, a: &[AxisId], b: &[AxisId]) -> Option<()> {
        if a.len() != b.len() {
            return None;
        }
        for (&x, &y) in a.iter().zip(b) {
            let same = *self.axes.entry(x).or_insert(y) == y && *self.back.entry(y).or_insert(x) == x;
            if !same || self.t.graph.extent(x) != self.t.graph.extent(y) {
                return None;
            }
        }
        Some(())
    }

    /// A node that reads what the template's node `id` reads, as far as that is known.
    fn reader_like(&self, id: NodeId) -> Option<NodeId> {
        let t = self.t;
        let operands = &t.graph.node(id).operands;
        let known: Vec<Option<NodeId>> = operands.iter().map(|o| self.at.get(&t.place[o]).copied()).collect();
        let first = operands
            .iter()
            .zip(&known)
            .find_map(|(o, k)| k.filter(|_| !matches!(t.place[o], Place::Constant(_))))?;
        let free = |u: &NodeId| !self.at.values().any(|v| v == u);
        let fits = |u: &&NodeId| {
            let of_u = &t.graph.node(**u).operands;
            t.labels.of(**u) == t.labels.of(id)
                && of_u.iter().zip(&known).all(|(o, k)| k.is_none_or(|k| k == *o))
                && free(u)
        };
        t.users[first.0 as usize].iter().find(fits).copied()
    }
}

/// Whether no value leaves the region and comes back.
fn is_convex(graph: &Graph, instance: &Instance) -> bool {
    let Some(first) = instance.nodes.iter().min() else { return true };
    let Some(last) = instance.inputs.iter().max() else { return true };
    let mut depends: BTreeSet<NodeId> = instance.nodes.iter().copied().collect();
    for id in (first.0..=last.0).map(NodeId) {
        if graph.node(id).operands.iter().any(|o| depends.contains(o)) {
            depends.insert(id);
        }
    }
    instance.inputs.iter().all(|i| !depends.contains(i))
}
