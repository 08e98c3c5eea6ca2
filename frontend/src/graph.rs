//! Walking a graph: scopes of names, topological order, functions and constant `If`s inlined.
//!
//! A node that fails leaves its outputs without a value; nodes that read those are skipped in silence, so that
//! each problem is told once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use kiln_ir::Origin;
use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic, Diagnostics, NodeRef};
use crate::draft::{Draft, Val};
use crate::inputs;
use crate::model_file::Files;
use crate::node_text::node_text;
use crate::onnx::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto};
use crate::ops;

/// Function calls and subgraphs nest no deeper.
const MAX_DEPTH: usize = 64;

/// Versions of operator sets, by domain; ONNX's own is "".
type Opsets = IndexMap<String, i64>;

/// The values of one graph's names; names of the graphs around it show through.
#[derive(Default)]
struct Scope<'p, 'm> {
    around: Option<&'p Scope<'p, 'm>>,
    /// `None` for a value that failed.
    values: RefCell<IndexMap<String, Option<Val>>>,
    /// Initializers not read so far.
    initializers: IndexMap<&'m str, &'m TensorProto>,
    /// Shapes that the graph declares, with all dims bound.
    declared: IndexMap<String, Vec<usize>>,
}

/// How far name lookup got.
enum Found {
    Value(Val),
    Failed,
    Unknown,
}

/// Imports graphs into a draft and collects what is wrong.
pub(crate) struct Walker<'m> {
    pub(crate) draft: Draft,
    pub(crate) problems: Diagnostics,
    files: &'m mut Files,
    functions: IndexMap<(&'m str, &'m str, &'m str), &'m FunctionProto>,
    dims: &'m IndexMap<String, i64>,
    depth: usize,
}

impl<'m> Walker<'m> {
    /// A walker over a model with these local functions and bound dims.
    pub(crate) fn new(
        files: &'m mut Files,
        functions: &'m [FunctionProto],
        dims: &'m IndexMap<String, i64>,
    ) -> Self {
        let key = |f: &'m FunctionProto| ((own_domain(f.domain()), f.name(), f.overload()), f);
        Walker {
            draft: Draft::default(),
            problems: Diagnostics::default(),
            files,
            functions: functions.iter().map(key).collect(),
            dims,
            depth: 0,
        }
    }

    /// Imports the main graph with `inputs` bound; gives the values of its outputs, `None` where they failed.
    pub(crate) fn main(
        &mut self,
        graph: &'m GraphProto,
        opsets: &[OperatorSetIdProto],
        inputs: IndexMap<String, Option<Val>>,
    ) -> Vec<Option<Val>> {
        let opsets = match self.opsets(opsets) {
            Ok(opsets) => opsets,
            Err(problem) => {
                self.problems.push(problem);
                return Vec::new();
            }
        };
        let scope = Scope { values: RefCell::new(inputs), ..Scope::default() };
        self.graph(graph, &opsets, "", scope)
    }

    fn opsets(&self, imports: &[OperatorSetIdProto]) -> Result<Opsets, Diagnostic> {
        let opsets: Opsets =
            imports.iter().map(|i| (own_domain(i.domain()).to_string(), i.version())).collect();
        if let Some(&version) = opsets.get("")
            && !(ops::OLDEST..=ops::NEWEST).contains(&version)
        {
            return Err(Diagnostic::new(
                Code::Opset,
                format!(
                    "the model uses ONNX opset {version}; {} to {} are handled",
                    ops::OLDEST,
                    ops::NEWEST
                ),
            )
            .help("export again with another opset, or convert the model with onnx.version_converter"));
        }
        Ok(opsets)
    }

    fn graph(
        &mut self,
        graph: &'m GraphProto,
        opsets: &Opsets,
        prefix: &str,
        mut scope: Scope<'_, 'm>,
    ) -> Vec<Option<Val>> {
        scope.initializers = graph.initializer.iter().map(|t| (t.name(), t)).collect();
        scope.declared = graph
            .value_info
            .iter()
            .chain(&graph.output)
            .filter_map(|info| Some((info.name().to_string(), inputs::declared_shape(info, self.dims)?)))
            .collect();
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |v| v.name());
            let message = format!("the sparse initializer {name:?} is not handled");
            self.problems.push(Diagnostic::new(Code::DType, message));
            scope.values.borrow_mut().insert(name.to_string(), None);
        }
        let nodes: Vec<&NodeProto> = graph.node.iter().collect();
        self.nodes(&nodes, opsets, prefix, &scope);
        graph.output.iter().map(|o| self.output(o.name(), &scope)).collect()
    }

    fn output(&mut self, name: &str, scope: &Scope<'_, 'm>) -> Option<Val> {
        match self.look_up(name, scope) {
            Ok(Found::Value(v)) => Some(v),
            Ok(Found::Failed) => None,
            Ok(Found::Unknown) => {
                let message = format!("nothing defines the output {name:?}");
                self.problems.push(Diagnostic::new(Code::UndefinedValue, message));
                None
            }
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn look_up(&mut self, name: &str, scope: &Scope<'_, 'm>) -> Result<Found, Diagnostic> {
        let mut level = Some(scope);
        while let Some(scope) = level {
            if let Some(value) = scope.values.borrow().get(name) {
                return Ok(value.map_or(Found::Failed, Found::Value));
            }
            if let Some(proto) = scope.initializers.get(name) {
                let value = self.files.payload(proto).map(|p| self.draft.payload(p));
                scope.values.borrow_mut().insert(name.to_string(), value.as_ref().ok().copied());
                return value.map(Found::Value);
            }
            level = scope.around;
        }
        Ok(Found::Unknown)
    }

    /// Imports nodes in an order in which values are defined before they are read.
    fn nodes(&mut self, nodes: &[&'m NodeProto], opsets: &Opsets, prefix: &str, scope: &Scope<'_, 'm>) {
        let refs: Vec<Arc<NodeRef>> = nodes.iter().enumerate().map(|(i, n)| node_ref(n, i, prefix)).collect();
        for i in self.order(nodes, &refs, scope) {
            let (node, at) = (nodes[i], &refs[i]);
            let values = match self.node(node, at, opsets, scope) {
                Ok(Some(values)) => values,
                Ok(None) => Vec::new(),
                Err(problem) => {
                    self.problems.push(problem.at(at));
                    Vec::new()
                }
            };
            let mut names = scope.values.borrow_mut();
            for (o, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                names.insert(name.clone(), values.get(o).copied());
            }
        }
    }

    /// Node numbers in an order that defines before use; the given order where it does so already.
    fn order(&mut self, nodes: &[&NodeProto], refs: &[Arc<NodeRef>], scope: &Scope<'_, '_>) -> Vec<usize> {
        let mut producer: IndexMap<&str, usize> = IndexMap::new();
        for (i, node) in nodes.iter().enumerate() {
            for name in node.output.iter().filter(|n| !n.is_empty()) {
                let taken = scope.values.borrow().contains_key(name)
                    || scope.initializers.contains_key(name.as_str());
                if producer.insert(name, i).is_some() || taken {
                    let message = format!("the value {name:?} is defined twice");
                    self.problems.push(Diagnostic::new(Code::InvalidGraph, message).at(&refs[i]));
                }
            }
        }
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        let mut waiting = vec![0usize; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            let mut read = IndexSet::new();
            names_read(node, &mut read);
            for &p in read.iter().filter_map(|name| producer.get(name)) {
                users[p].push(i);
                waiting[i] += 1;
            }
        }
        let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&i| waiting[i] == 0).collect();
        let mut order = Vec::with_capacity(nodes.len());
        while let Some(i) = ready.pop_first() {
            order.push(i);
            for &u in &users[i] {
                waiting[u] -= 1;
                if waiting[u] == 0 {
                    ready.insert(u);
                }
            }
        }
        if order.len() < nodes.len() {
            self.tell_cycles(&users, refs);
        }
        order
    }

    fn tell_cycles(&mut self, users: &[Vec<usize>], refs: &[Arc<NodeRef>]) {
        let edges =
            users.iter().enumerate().flat_map(|(i, us)| us.iter().map(move |&u| (i as u32, u as u32)));
        let graph: DiGraph<(), ()> = DiGraph::from_edges(edges);
        let mut cycles: Vec<Vec<usize>> = tarjan_scc(&graph)
            .into_iter()
            .map(|c| c.into_iter().map(|i| i.index()).collect::<Vec<_>>())
            .filter(|c| c.len() > 1 || users[c[0]].contains(&c[0]))
            .collect();
        cycles.iter_mut().for_each(|c| c.sort_unstable());
        cycles.sort();
        for cycle in cycles {
            let names: Vec<&str> = cycle.iter().take(8).map(|&i| refs[i].name.as_str()).collect();
            let more = if cycle.len() > 8 { ", …" } else { "" };
            let message =
                format!("{} nodes depend on each other in a circle: {}{more}", cycle.len(), names.join(", "));
            self.problems.push(Diagnostic::new(Code::CyclicGraph, message).at(&refs[cycle[0]]));
        }
    }

    /// The values of a node's outputs; `None` when an input has failed before.
    fn node(
        &mut self,
        node: &'m NodeProto,
        at: &Arc<NodeRef>,
        opsets: &Opsets,
        scope: &Scope<'_, 'm>,
    ) -> Result<Option<Vec<Val>>, Diagnostic> {
        let domain = own_domain(node.domain());
        let function = self.functions.get(&(domain, node.op_type(), node.overload())).copied();
        let opset = match opsets.get(domain) {
            Some(&version) => version,
            None if domain == "com.microsoft" || function.is_some() => 1,
            None => {
                return Err(Diagnostic::new(
                    Code::Opset,
                    format!("the model imports no opset of {domain:?}"),
                )
                .help("a model lists the opset of each domain it uses in opset_import"));
            }
        };
        let row = ops::find(domain, node.op_type(), opset);
        let is_if = domain.is_empty() && node.op_type() == "If";
        if row.is_none() && function.is_none() && !is_if {
            return Err(unknown_op(domain, node.op_type(), opset));
        }
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            if name.is_empty() {
                inputs.push(None);
                continue;
            }
            match self.look_up(name, scope)? {
                Found::Value(v) => inputs.push(Some(v)),
                Found::Failed => return Ok(None),
                Found::Unknown => {
                    return Err(Diagnostic::new(
                        Code::UndefinedValue,
                        format!("nothing defines the value {name:?}"),
                    )
                    .help("the graph is incomplete: a node, an initializer or an input is missing"));
                }
            }
        }
        self.draft.set_origin(Origin::node(&at.name, node.op_type()));
        if is_if {
            return self.branch(node, at, inputs, opsets, scope);
        }
        let Some(row) = row else {
            return function.map_or(Ok(None), |f| self.call_function(f, node, at, inputs));
        };
        let mut call = Call {
            draft: &mut self.draft,
            node,
            opset,
            inputs,
            files: self.files,
            declared: &scope.declared,
            used: RefCell::default(),
        };
        let values = (row.import)(&mut call)?;
        if let Some(name) = call.unused_attribute() {
            return Err(Diagnostic::new(Code::Attribute, format!("attribute {name} is not handled"))
                .help("it belongs to another version of the operator, or to another operator"));
        }
        if let Some(missing) = (values.len()..node.output.len()).find(|&o| call.wants(o)) {
            return Err(Diagnostic::new(Code::InvalidGraph, format!("output {missing} is not handled")));
        }
        Ok(Some(values))
    }

    /// `If` with a known condition: the branch that is taken, inlined.
    fn branch(
        &mut self,
        node: &'m NodeProto,
        at: &NodeRef,
        inputs: Vec<Option<Val>>,
        opsets: &Opsets,
        scope: &Scope<'_, 'm>,
    ) -> Result<Option<Vec<Val>>, Diagnostic> {
        let condition = inputs.first().copied().flatten().and_then(|v| self.draft.ints(v));
        let Some(condition) = condition.and_then(|v| v.first().copied()) else {
            return Err(Diagnostic::new(
                Code::DataDependent,
                "the condition depends on the values of the inputs",
            )
            .help("only what follows from the inputs' shapes is known when the model is compiled"));
        };
        let wanted = if condition != 0 { "then_branch" } else { "else_branch" };
        let graph = node.attribute.iter().find(|a| a.name() == wanted).and_then(|a| a.g.as_ref());
        let graph = graph
            .ok_or_else(|| Diagnostic::new(Code::Attribute, format!("attribute {wanted} is missing")))?;
        self.enter()?;
        let inner = Scope { around: Some(scope), ..Scope::default() };
        let outputs = self.graph(graph, opsets, &format!("{}/", at.name), inner).into_iter().collect();
        self.depth -= 1;
        Ok(outputs)
    }

    /// A model-local function: its body, with inputs, attributes and outputs bound.
    fn call_function(
        &mut self,
        function: &'m FunctionProto,
        node: &'m NodeProto,
        at: &NodeRef,
        inputs: Vec<Option<Val>>,
    ) -> Result<Option<Vec<Val>>, Diagnostic> {
        let opsets = self.opsets(&function.opset_import)?;
        if inputs.len() > function.input.len() {
            let message = format!("{} inputs for a function of {}", inputs.len(), function.input.len());
            return Err(Diagnostic::new(Code::InvalidGraph, message));
        }
        let scope = Scope::default();
        {
            let mut values = scope.values.borrow_mut();
            for (name, value) in function.input.iter().zip(inputs) {
                if let Some(value) = value {
                    values.insert(name.clone(), Some(value));
                }
            }
        }
        // An input left out is an empty name inside.
        let given: BTreeSet<String> = scope.values.borrow().keys().cloned().collect();
        let left_out: Vec<&String> = function.input.iter().filter(|i| !given.contains(*i)).collect();
        let body: Vec<NodeProto> =
            function.node.iter().map(|n| bound(n, node, function, &left_out)).collect();
        self.enter()?;
        // The body lives as long as the walk through it, which therefore has a walker of its own.
        let mut inner = Walker {
            draft: std::mem::take(&mut self.draft),
            problems: std::mem::take(&mut self.problems),
            files: &mut *self.files,
            functions: self.functions.clone(),
            dims: self.dims,
            depth: self.depth,
        };
        inner.nodes(&body.iter().collect::<Vec<_>>(), &opsets, &format!("{}/", at.name), &scope);
        let outputs = function.output.iter().map(|name| inner.output(name, &scope)).collect();
        (self.draft, self.problems) = (inner.draft, inner.problems);
        self.depth -= 1;
        Ok(outputs)
    }

    fn enter(&mut self) -> Result<(), Diagnostic> {
        if self.depth == MAX_DEPTH {
            return Err(Diagnostic::new(
                Code::InvalidGraph,
                format!("functions nest deeper than {MAX_DEPTH}"),
            )
            .help("a function that calls itself has no end"));
        }
        self.depth += 1;
        Ok(())
    }
}

/// A function's node with references to the call's attributes replaced, defaults included, and inputs that
/// the call leaves out made empty.
fn bound(inner: &NodeProto, call: &NodeProto, function: &FunctionProto, left_out: &[&String]) -> NodeProto {
    let mut node = inner.clone();
    node.attribute = inner
        .attribute
        .iter()
        .filter_map(|attribute| {
            if attribute.ref_attr_name().is_empty() {
                return Some(attribute.clone());
            }
            let given = call.attribute.iter().chain(&function.attribute_proto);
            let value = given.into_iter().find(|a| a.name() == attribute.ref_attr_name())?;
            Some(AttributeProto { name: attribute.name.clone(), ..value.clone() })
        })
        .collect();
    for input in &mut node.input {
        if left_out.iter().any(|name| *name == input) {
            input.clear();
        }
    }
    node
}

/// ONNX's own domain has two spellings.
fn own_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn node_ref(node: &NodeProto, index: usize, prefix: &str) -> Arc<NodeRef> {
    let name = match node.name() {
        "" => format!("{prefix}{}_{index}", node.op_type()),
        name => format!("{prefix}{name}"),
    };
    let domain = own_domain(node.domain());
    let op_type =
        if domain.is_empty() { node.op_type().to_string() } else { format!("{domain}.{}", node.op_type()) };
    Arc::new(NodeRef { name, op_type, text: node_text(node) })
}

/// All names a node reads, those of its subgraphs included.
fn names_read<'n>(node: &'n NodeProto, out: &mut IndexSet<&'n str>) {
    out.extend(node.input.iter().map(String::as_str).filter(|n| !n.is_empty()));
    for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
        graph.node.iter().for_each(|inner| names_read(inner, out));
        out.extend(graph.output.iter().map(|o| o.name()));
    }
}

fn unknown_op(domain: &str, op: &str, opset: i64) -> Diagnostic {
    let shown = if domain.is_empty() { op.to_string() } else { format!("{domain}.{op}") };
    let others: Vec<String> = ops::TABLE
        .iter()
        .filter(|r| r.domain == domain && r.name == op)
        .map(|r| format!("{} to {}", r.since, r.until))
        .collect();
    let diagnostic = Diagnostic::new(Code::UnknownOp, format!("{shown} of opset {opset} is not handled"));
    if others.is_empty() {
        diagnostic.help("`kiln ops` lists the operators that are")
    } else {
        diagnostic.help(format!("it is in opset {}", others.join(" and ")))
    }
}
