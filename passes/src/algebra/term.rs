//! The language of e-graph A: a term is a node of the named-axis graph with e-classes for operands.

use egg::{Id, Language};
use indexmap::IndexMap;
use kiln_ir::DType;
use kiln_ir::nn::MapKind;

use super::facts::World;
use super::split::Part;
use crate::axes::{Graph, Kind, NodeId, Origins};

/// One operation over e-classes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    pub kind: Kind,
    pub dtype: DType,
    pub children: Vec<Id>,
}

/// What a pattern can ask of a term without looking at its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Head {
    Map(MapKind),
    Other(&'static str),
}

impl Term {
    /// The term's head: the map's kind, or the node's name; reductions tell their kinds apart.
    pub fn head(&self) -> Head {
        use kiln_ir::nn::ReduceKind;
        match &self.kind {
            Kind::Map(kind) => Head::Map(*kind),
            Kind::Reduce { kind: ReduceKind::Sum, .. } => Head::Other("red-sum"),
            Kind::Reduce { kind: ReduceKind::Max, .. } => Head::Other("red-max"),
            Kind::Reduce { kind: ReduceKind::Min, .. } => Head::Other("red-min"),
            kind => Head::Other(kind.name()),
        }
    }
}

impl Language for Term {
    type Discriminant = Head;

    fn discriminant(&self) -> Head {
        self.head()
    }

    fn matches(&self, other: &Self) -> bool {
        self.kind == other.kind && self.dtype == other.dtype && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

pub type EGraph = egg::EGraph<Term, World>;

/// An e-graph holding a program: the class of each node, and where each term comes from.
pub struct Program {
    pub egraph: EGraph,
    pub classes: Vec<Id>,
    pub origins: TermOrigins,
}

/// The ONNX nodes of each term: of the program's own from the start, of a rule's from the terms it
/// matched. Keys are canonical as of the last [`TermOrigins::refresh`].
#[derive(Default)]
pub struct TermOrigins(IndexMap<Term, Origins>);

impl TermOrigins {
    pub fn record(&mut self, term: Term, origins: &Origins) {
        self.0.entry(term).or_insert_with(|| origins.clone());
    }

    pub fn of(&self, term: &Term) -> Origins {
        self.0.get(term).cloned().unwrap_or_default()
    }

    /// Rewrites the keys after unions. Terms that became one share their origins.
    pub fn refresh(&mut self, egraph: &EGraph) {
        let mut fresh: IndexMap<Term, Origins> = IndexMap::with_capacity(self.0.len());
        for (mut term, origins) in std::mem::take(&mut self.0) {
            term.children.iter_mut().for_each(|c| *c = egraph.find(*c));
            fresh.entry(term).or_default().extend(origins);
        }
        self.0 = fresh;
    }
}

/// Puts a graph into a fresh e-graph, in program order.
pub fn load(part: &Part) -> Program {
    let graph = &part.graph;
    let mut egraph = EGraph::new(World::of(part));
    let mut classes: Vec<Id> = Vec::with_capacity(graph.nodes.len());
    let mut origins = TermOrigins::default();
    for node in &graph.nodes {
        let children = node.operands.iter().map(|&o| classes[o.0 as usize]).collect();
        let term = Term { kind: node.kind.clone(), dtype: node.dtype, children };
        origins.record(term.clone(), &node.origins);
        classes.push(egraph.add(term));
    }
    egraph.rebuild();
    // A number may be made of itself: √1 = 1.
    super::acyclic::restore(&mut egraph);
    origins.refresh(&egraph);
    Program { egraph, classes, origins }
}

/// Builds the graph in which each needed class is computed by its chosen term. Inputs, outputs and
/// names are those of `graph`.
///
/// # Errors
/// The class at which the choice runs into a cycle.
pub fn unload(graph: &Graph, program: &Program, choice: &dyn Fn(Id) -> Option<Term>) -> Result<Graph, Id> {
    let egraph = &program.egraph;
    let mut out = Graph {
        axes: egraph.analysis.extents().to_vec(),
        consts: egraph.analysis.consts().clone(),
        names: graph.names.clone(),
        ..Graph::default()
    };
    let mut done: IndexMap<Id, NodeId> = IndexMap::new();
    let class_of = |id: NodeId| egraph.find(program.classes[id.0 as usize]);
    // Inputs first, whether or not anything reads them.
    for port in &graph.inputs {
        let node = graph.node(port.node);
        let id = out.add(node.kind.clone(), vec![], node.dtype, node.origins.clone());
        done.insert(class_of(port.node), id);
        out.inputs.push(crate::axes::Port { node: id, ..port.clone() });
    }
    for port in &graph.outputs {
        let root = class_of(port.node);
        let mut open: IndexMap<Id, ()> = IndexMap::new();
        let mut stack = vec![(root, false)];
        while let Some((class, children_done)) = stack.pop() {
            if done.contains_key(&class) {
                continue;
            }
            let term = choice(class).ok_or(class)?;
            if children_done {
                let operands: Vec<NodeId> = term
                    .children
                    .iter()
                    .map(|c| done.get(&egraph.find(*c)).copied().ok_or(class))
                    .collect::<Result<_, _>>()?;
                let origins = program.origins.of(&term);
                done.insert(class, out.add(term.kind, operands, term.dtype, origins));
                continue;
            }
            if open.insert(class, ()).is_some() {
                return Err(class);
            }
            stack.push((class, true));
            stack.extend(term.children.iter().rev().map(|c| (egraph.find(*c), false)));
        }
        let node = done.get(&root).copied().ok_or(root)?;
        out.outputs.push(crate::axes::Port { node, ..port.clone() });
    }
    Ok(out)
}
