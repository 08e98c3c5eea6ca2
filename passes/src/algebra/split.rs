//! Repetition in algebra: each body of a repeated region is rewritten once, with weights abstract, and the
//! result is put in the place of all its instances; what is repeated nowhere is one more part.
//!
//! A part takes its values from outside as inputs, with the ranges that hold in all instances.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use kiln_ir::DType;

use super::apply::Compiled;
use super::range::Range;
use super::{AlgebraError, Options, Repeated, Report, rewrite, steps, term};
use crate::axes::{AxisId, Graph, Kind, NodeId, Origins, Port};
use crate::regions::{Instance, Region};

/// A graph with what is known of its surroundings.
pub struct Part {
    pub graph: Graph,
    /// Of each input.
    pub ranges: Vec<Range>,
    /// Nodes that must keep their bits for what is done with them outside.
    pub exact: Vec<NodeId>,
}

impl Part {
    /// A whole program.
    pub fn whole(graph: &Graph) -> Self {
        let ranges = graph
            .inputs
            .iter()
            .map(|p| match p.outside.range {
                Some([lo, hi]) => Range::between(lo as f64, hi as f64),
                None => Range::all(graph.node(p.node).dtype),
            })
            .collect();
        Part { graph: graph.clone(), ranges, exact: Vec::new() }
    }

    fn of(from: &Graph, inputs: &[(NodeId, Range)], nodes: &[NodeId], outputs: &[(NodeId, bool)]) -> Self {
        let (ids, ranges): (Vec<NodeId>, Vec<Range>) = inputs.iter().copied().unzip();
        let (outputs, keep): (Vec<NodeId>, Vec<bool>) = outputs.iter().copied().unzip();
        let graph = from.part(&ids, nodes, &outputs);
        let exact = graph.outputs.iter().zip(keep).filter(|(_, keep)| *keep).map(|(p, _)| p.node).collect();
        Part { graph, ranges, exact }
    }
}

/// Rewrites `graph` region by region; none when the parts depend on one another in a circle, as happens
/// when a rule joins what stands before a region with what stands after it.
///
/// # Errors
/// Internal faults only.
pub fn optimise(
    graph: &Graph,
    regions: &[Region],
    rules: &[Compiled],
    options: Options,
) -> Result<Option<(Graph, Report)>, AlgebraError> {
    let ranges: Vec<Range> = {
        let program = term::load(&Part::whole(graph));
        program.classes.iter().map(|c| program.egraph[*c].data.range).collect()
    };
    let range = |id: NodeId| ranges[id.0 as usize];
    let exact = steps::of_graph(graph);
    let mut report = Report::default();
    let mut bodies = Vec::new();
    for region in regions {
        let first = &region.instances[0];
        let inputs: Vec<(NodeId, Range)> = (0..first.inputs.len())
            .map(|i| {
                let all = region.instances.iter().map(|instance| range(instance.inputs[i]));
                (first.inputs[i], all.reduce(Range::join).unwrap_or(range(first.inputs[i])))
            })
            .collect();
        let nodes: BTreeSet<NodeId> = first.constants.iter().chain(&first.nodes).copied().collect();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let outputs: Vec<(NodeId, bool)> = region
            .outputs
            .iter()
            .map(|&o| (first.nodes[o], region.instances.iter().any(|i| exact[i.nodes[o].0 as usize])))
            .collect();
        let (body, of_body) = rewrite(&Part::of(graph, &inputs, &nodes, &outputs), rules, options)?;
        report.add(of_body, region.instances.len() as u64);
        report.repeated.push(Repeated { nodes: first.nodes.len(), instances: region.instances.len() });
        bodies.push(body);
    }
    let (rest, of_rest) = rewrite(&remainder(graph, regions, &range, &exact), rules, options)?;
    report.add(of_rest, 1);
    let assembled = Assembly::new(graph, regions, &bodies, &rest).run();
    Ok(assembled.map(|graph| (graph, report)))
}

/// Values that instances hand out, with the instance and the position among its outputs.
fn handed_out(regions: &[Region]) -> impl Iterator<Item = (NodeId, (usize, usize, usize))> + '_ {
    regions.iter().enumerate().flat_map(|(r, region)| {
        region.instances.iter().enumerate().flat_map(move |(i, instance)| {
            region.outputs.iter().enumerate().map(move |(o, &at)| (instance.nodes[at], (r, i, o)))
        })
    })
}

/// What instances take from outside of all of them.
fn taken_in(regions: &[Region]) -> BTreeSet<NodeId> {
    let outside: BTreeSet<NodeId> = handed_out(regions).map(|(id, _)| id).collect();
    let inputs = regions.iter().flat_map(|r| &r.instances).flat_map(|i| &i.inputs);
    inputs.filter(|id| !outside.contains(id)).copied().collect()
}

/// Everything outside the regions: its inputs are the program's and what regions hand out, its outputs the
/// program's and what regions take in.
fn remainder(graph: &Graph, regions: &[Region], range: &dyn Fn(NodeId) -> Range, exact: &[bool]) -> Part {
    let inside: BTreeSet<NodeId> =
        regions.iter().flat_map(|r| &r.instances).flat_map(|i| &i.nodes).copied().collect();
    let own: BTreeSet<NodeId> = graph.inputs.iter().map(|p| p.node).collect();
    let from_regions = handed_out(regions).map(|(id, _)| id);
    let inputs: Vec<(NodeId, Range)> =
        graph.inputs.iter().map(|p| p.node).chain(from_regions).map(|id| (id, range(id))).collect();
    let nodes: Vec<NodeId> = graph.ids().filter(|id| !inside.contains(id) && !own.contains(id)).collect();
    let outputs: Vec<(NodeId, bool)> = graph
        .outputs
        .iter()
        .map(|p| p.node)
        .chain(taken_in(regions))
        .map(|id| (id, exact[id.0 as usize]))
        .collect();
    Part::of(graph, &inputs, &nodes, &outputs)
}

/// A node of the rewritten remainder or of a rewritten body at one of its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Rest(NodeId),
    Body { region: usize, instance: usize, node: NodeId },
}

/// Puts the rewritten parts together.
struct Assembly<'a> {
    graph: &'a Graph,
    regions: &'a [Region],
    bodies: &'a [Graph],
    rest: &'a Graph,
    /// Where the values that cross the parts' borders are made.
    made: BTreeMap<NodeId, Key>,
    /// What each input of the remainder past the program's own stands for.
    from_regions: Vec<Key>,
    places: BTreeMap<(usize, usize), Placing>,
    out: Graph,
    known: IndexMap<(Kind, Vec<NodeId>, DType), NodeId>,
}

/// How the numbers of a body read at one of its instances.
struct Placing {
    axes: BTreeMap<AxisId, AxisId>,
    weights: BTreeMap<Kind, Kind>,
    origins: BTreeMap<u32, Origins>,
}

impl Placing {
    fn new(graph: &Graph, body: &Instance, at: &Instance) -> Self {
        let axes = body.axes.iter().copied().zip(at.axes.iter().copied()).collect();
        let mut weights = BTreeMap::new();
        for (a, b) in body.constants.iter().zip(&at.constants) {
            if let Kind::Weight { .. } = graph.node(*a).kind {
                weights.insert(graph.node(*a).kind.clone(), graph.node(*b).kind.clone());
            }
        }
        let mut origins: BTreeMap<u32, Origins> = BTreeMap::new();
        let mut relate = |from: &[NodeId], to: &[NodeId], known: &BTreeSet<u32>| {
            for (a, b) in from.iter().zip(to) {
                let (a, b) = (&graph.node(*a).origins, &graph.node(*b).origins);
                let mut in_order = b.iter();
                for name in a {
                    // As many names: each means one, in program order. Else each means all.
                    let meant: Origins = match (a.len() == b.len(), in_order.next()) {
                        (true, Some(one)) => Origins::from([*one]),
                        _ => b.clone(),
                    };
                    if !known.contains(name) {
                        origins.entry(*name).or_default().extend(meant);
                    }
                }
            }
        };
        relate(&body.nodes, &at.nodes, &BTreeSet::new());
        let own: BTreeSet<u32> = body.nodes.iter().flat_map(|n| &graph.node(*n).origins).copied().collect();
        relate(&body.constants, &at.constants, &own);
        Placing { axes, weights, origins }
    }
}

impl<'a> Assembly<'a> {
    fn new(graph: &'a Graph, regions: &'a [Region], bodies: &'a [Graph], rest: &'a Graph) -> Self {
        let mut made: BTreeMap<NodeId, Key> = BTreeMap::new();
        let mut from_regions = Vec::new();
        for (id, (region, instance, output)) in handed_out(regions) {
            let key = Key::Body { region, instance, node: bodies[region].outputs[output].node };
            made.insert(id, key);
            from_regions.push(key);
        }
        let crossing = rest.outputs.iter().skip(graph.outputs.len());
        for (id, port) in taken_in(regions).into_iter().zip(crossing) {
            made.insert(id, Key::Rest(port.node));
        }
        let places = regions
            .iter()
            .enumerate()
            .flat_map(|(r, region)| {
                let body = &region.instances[0];
                let place = move |(i, at)| ((r, i), Placing::new(graph, body, at));
                region.instances.iter().enumerate().map(place)
            })
            .collect();
        let out = Graph { axes: rest.axes.clone(), names: graph.names.clone(), ..Graph::default() };
        Assembly { graph, regions, bodies, rest, made, from_regions, places, out, known: IndexMap::new() }
    }

    fn run(mut self) -> Option<Graph> {
        let mut done: BTreeMap<Key, NodeId> = BTreeMap::new();
        for (index, port) in self.graph.inputs.iter().enumerate() {
            let node = self.graph.node(port.node);
            let id = self.out.add(node.kind.clone(), vec![], node.dtype, node.origins.clone());
            self.out.inputs.push(Port { node: id, ..port.clone() });
            done.insert(Key::Rest(self.rest.inputs[index].node), id);
        }
        for (index, port) in self.graph.outputs.iter().enumerate() {
            let root = self.source(Key::Rest(self.rest.outputs[index].node))?;
            let mut open: BTreeSet<Key> = BTreeSet::new();
            let mut stack = vec![(root, false)];
            while let Some((key, ready)) = stack.pop() {
                if done.contains_key(&key) {
                    continue;
                }
                let operands = self.operands(key)?;
                if ready {
                    let operands = operands.iter().map(|o| done.get(o).copied()).collect::<Option<_>>()?;
                    let id = self.place(key, operands);
                    done.insert(key, id);
                } else {
                    if !open.insert(key) {
                        return None;
                    }
                    stack.push((key, true));
                    stack.extend(operands.into_iter().rev().map(|o| (o, false)));
                }
            }
            self.out.outputs.push(Port { node: *done.get(&root)?, ..port.clone() });
        }
        Some(self.out)
    }

    /// The node itself, or the node of another part that it stands for.
    fn source(&self, mut key: Key) -> Option<Key> {
        loop {
            key = match (key, &self.node(key).kind) {
                (Key::Rest(_), Kind::Input { index, .. }) => {
                    match (*index as usize).checked_sub(self.graph.inputs.len()) {
                        Some(at) => *self.from_regions.get(at)?,
                        None => return Some(key),
                    }
                }
                (Key::Body { region, instance, .. }, Kind::Input { index, .. }) => {
                    let value = self.regions[region].instances[instance].inputs[*index as usize];
                    *self.made.get(&value)?
                }
                _ => return Some(key),
            };
        }
    }

    fn node(&self, key: Key) -> &'a crate::axes::Node {
        match key {
            Key::Rest(node) => self.rest.node(node),
            Key::Body { region, node, .. } => self.bodies[region].node(node),
        }
    }

    fn operands(&self, key: Key) -> Option<Vec<Key>> {
        let beside = |o: &NodeId| match key {
            Key::Rest(_) => Key::Rest(*o),
            Key::Body { region, instance, .. } => Key::Body { region, instance, node: *o },
        };
        self.node(key).operands.iter().map(|o| self.source(beside(o))).collect()
    }

    /// Adds the node unless it is there already: constants that instances share are computed once.
    fn place(&mut self, key: Key, operands: Vec<NodeId>) -> NodeId {
        let node = self.node(key);
        let (mut kind, mut origins) = (node.kind.clone(), node.origins.clone());
        let consts = match key {
            Key::Rest(_) => &self.rest.consts,
            Key::Body { region, .. } => &self.bodies[region].consts,
        };
        if let Kind::Const { id, .. } = &mut kind {
            *id = self.out.add_const(consts[id.0 as usize].clone());
        }
        if let Key::Body { region, instance, .. } = key {
            let extents = &self.bodies[region].axes;
            let placing = self.places.entry((region, instance)).or_insert_with(|| Placing {
                axes: BTreeMap::new(),
                weights: BTreeMap::new(),
                origins: BTreeMap::new(),
            });
            kind = match placing.weights.get(&kind) {
                Some(weight) => weight.clone(),
                None => {
                    let out = &mut self.out;
                    // An axis that a rule made is made anew at each instance.
                    kind.map_axes(&mut |a| {
                        *placing.axes.entry(a).or_insert_with(|| out.add_axis(extents[a.0 as usize]))
                    })
                }
            };
            origins = origins
                .iter()
                .flat_map(|o| placing.origins.get(o).cloned().unwrap_or_else(|| Origins::from([*o])))
                .collect();
        }
        let entry = (kind, operands, node.dtype);
        if let Some(&id) = self.known.get(&entry) {
            self.out.nodes[id.0 as usize].origins.extend(origins);
            return id;
        }
        let id = self.out.add(entry.0.clone(), entry.1.clone(), entry.2, origins);
        self.known.insert(entry, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use kiln_ir::Tensor;
    use kiln_ir::eval::{self, Files};
    use kiln_ir::nn::MapKind;

    use super::*;
    use crate::algebra::compile_rules;
    use crate::axes::round_trip::Random;
    use crate::regions::tests::toy;

    #[test]
    fn repeated_layers_cost_what_they_cost_one_by_one() {
        let (mut module, graph) =
            toy(|t, h, bias| (0..5).try_fold(h, |h, _| t.layer(h, bias, 0.5, MapKind::Relu)));
        let options = Options::default();
        let rules = compile_rules().unwrap();
        let (_, apart) = rewrite(&Part::whole(&graph), &rules, options).unwrap();
        let (together, report) = crate::algebra::optimise(&graph, options).unwrap();
        assert_eq!(report.repeated.len(), 1);
        // The scale, a constant that the layers share, counts once an instance.
        assert_eq!((report.cost_before, report.cost), (apart.cost_before + 4, apart.cost + 4));
        assert!(report.terms < apart.terms / 2);

        let func = module.func("main").unwrap();
        let mut random = Random::new(3);
        let inputs: Vec<Tensor> =
            func.arg_values().map(|v| random.tensor(func.ty(v).dtype, &func.ty(v).shape)).collect();
        let value = |m: &kiln_ir::Module| -> Vec<f32> {
            let result = eval::nn::eval(&m.func("main").unwrap(), &inputs, &Files::of(m, vec![])).unwrap();
            result[0].data.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
        };
        let want = value(&module);
        crate::axes::replace(&mut module, &func, &together).unwrap();
        let got = value(&module);
        let scale = want.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        assert!(want.iter().zip(&got).all(|(a, b)| (a - b).abs() <= 1e-4 * scale), "{want:?} {got:?}");
    }
}
