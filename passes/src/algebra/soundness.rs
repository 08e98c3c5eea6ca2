//! Each row of the rule table on random instances: both sides through the reference evaluator.

use std::collections::BTreeSet;

use kiln_ir::eval::{self, Files};
use kiln_ir::nn::{FuncBuilder, MapKind, Port, ReduceKind};
use kiln_ir::{Context, DType, Module, Tensor, TensorType};

use super::apply::{Budget, Compiled, saturate};
use super::pattern::{Pat, PatHead};
use super::split::Part;
use super::term::{Head, Term, load, unload};
use super::{Grade, RULES, Rule};
use crate::axes::round_trip::Random;
use crate::axes::{self, AxisId, Graph, Kind, NodeId, number};

const INSTANCES: usize = 6;
const ATTEMPTS: u64 = 3_000;

#[test]
fn every_row_parses() {
    for rule in RULES {
        Compiled::new(rule).unwrap();
    }
}

#[test]
fn every_row_is_sound() {
    let mut silent = Vec::new();
    let context = Context::new();
    for rule in RULES {
        let fired = instances(rule, &context);
        if fired < INSTANCES {
            silent.push(format!("{} ({fired})", rule.name));
        }
    }
    assert!(silent.is_empty(), "no instances of their left sides were found for: {}", silent.join(", "));
}

/// Number of instances on which the row fired, each checked.
fn instances(rule: &'static Rule, context: &Context) -> usize {
    let compiled = Compiled::new(rule).unwrap();
    let mut found = 0;
    for seed in 0..ATTEMPTS {
        if found == INSTANCES {
            break;
        }
        let mut maker = Maker::new(seed);
        let Some(root) = maker.make(&compiled.left.root, None) else { continue };
        let sibling = maker.sibling(root);
        let graph = maker.finish(&[Some(root), sibling]);
        let Some(right) = rewritten(rule, &graph) else { continue };
        if let Some((want, got)) = evaluated(context, &graph, &right, &maker.bytes) {
            assert_close(rule, seed, &want, &got);
            found += 1;
        }
    }
    found
}

/// The graph with every class that the row gave another term computed by that one.
fn rewritten(rule: &'static Rule, graph: &Graph) -> Option<Graph> {
    let mut program = load(&Part::whole(graph));
    let rules = [Compiled::new(rule).unwrap()];
    let budget = Budget { rounds: 1, terms_per_rule: 100, matches_per_class: 16 };
    let log = saturate(&mut program, &rules, Grade::E3, budget, &[]);
    assert!(log.unsound.is_none(), "{}: {:?}", rule.name, log.unsound);
    if log.fired.get(rule.name).is_none_or(|f| f.times == 0) {
        return None;
    }
    let egraph = &program.egraph;
    let own: BTreeSet<Term> = graph
        .nodes
        .iter()
        .map(|n| Term {
            kind: n.kind.clone(),
            dtype: n.dtype,
            children: n.operands.iter().map(|o| egraph.find(program.classes[o.0 as usize])).collect(),
        })
        .collect();
    let choice = |id: egg::Id| -> Option<Term> {
        let nodes = &egraph[id].nodes;
        nodes.iter().find(|t| !own.contains(t)).or(nodes.first()).cloned()
    };
    Some(unload(graph, &program, &choice).unwrap())
}

/// Both graphs' results on the same random inputs; none where the left one is no valid program.
fn evaluated(
    context: &Context,
    left: &Graph,
    right: &Graph,
    bytes: &[u8],
) -> Option<(Vec<Tensor>, Vec<Tensor>)> {
    let mut random = Random::new(11);
    let shape = |axes: &[AxisId]| -> Vec<usize> { axes.iter().map(|a| left.extent(*a) as usize).collect() };
    let args: Vec<(TensorType, Port)> = left
        .inputs
        .iter()
        .map(|p| {
            (TensorType::new(left.node(p.node).dtype, shape(&left.node(p.node).axes)), p.outside.clone())
        })
        .collect();
    let inputs: Vec<Tensor> = args.iter().map(|(ty, _)| random.tensor(ty.dtype, &ty.shape)).collect();
    let run = |graph: &Graph| -> kiln_ir::Result<Vec<Tensor>> {
        let mut module = Module::new(context);
        module.add_blob(bytes);
        let mut b = FuncBuilder::new(context, "main", &args)?;
        let values = axes::to_nn(graph, &mut b)?;
        let results: Vec<_> = values.into_iter().map(|v| (v, Port::named("y"))).collect();
        b.finish(&mut module, &results)?;
        eval::nn::eval(&module.func("main")?, &inputs, &Files::of(&module, vec![]))
    };
    let want = run(left).ok()?;
    Some((want, run(right).unwrap()))
}

fn assert_close(rule: &Rule, seed: u64, want: &[Tensor], got: &[Tensor]) {
    for (a, b) in want.iter().zip(got) {
        assert_eq!((a.dtype, &a.shape), (b.dtype, &b.shape), "{} (seed {seed})", rule.name);
        let size = a.dtype.size_bytes();
        let read = |t: &Tensor| -> Vec<f64> {
            t.data.chunks_exact(size).filter_map(|c| number::from_bytes(c, t.dtype)).collect()
        };
        let (x, y) = (read(a), read(b));
        let scale = x.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
        let limit = if a.dtype == DType::F32 { rule.bound as f64 * scale * f32::EPSILON as f64 } else { 0.0 };
        for (x, y) in x.iter().zip(&y) {
            // A row that may leave the reals (0/0, x/0) says so in its condition; the rest must agree.
            let same = (x.is_nan() && y.is_nan()) || x == y || (x - y).abs() <= limit;
            assert!(same, "{} (seed {seed}): {x} became {y}, allowed ± {limit:e}", rule.name);
        }
    }
}

/// Makes random instances of a left side.
struct Maker {
    random: Random,
    graph: Graph,
    pool: Vec<AxisId>,
    vars: Vec<Option<NodeId>>,
    inputs: Vec<NodeId>,
    bytes: Vec<u8>,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let mut graph = Graph::default();
        let pool = [2, 3, 4].into_iter().map(|n| graph.add_axis(n)).collect();
        Maker {
            random: Random::new(seed + 1),
            graph,
            pool,
            vars: vec![None; 8],
            inputs: vec![],
            bytes: vec![],
        }
    }

    /// Another product of the left operand, by a constant like the right one.
    fn sibling(&mut self, root: NodeId) -> Option<NodeId> {
        let node = self.graph.node(root).clone();
        let (Kind::Ein { .. }, &[x, v]) = (&node.kind, node.operands.as_slice()) else { return None };
        let Kind::Weight { axes, .. } = self.graph.node(v).kind.clone() else { return None };
        let w = self.weight(axes, self.graph.node(v).dtype);
        Some(self.add(node.kind, vec![x, w], node.dtype))
    }

    fn weight(&mut self, axes: Vec<AxisId>, dtype: DType) -> NodeId {
        let shape: Vec<usize> = axes.iter().map(|a| self.graph.extent(*a) as usize).collect();
        let data = self.random.tensor(dtype, &shape).data;
        let (offset, length) = (self.bytes.len() as u64, data.len() as u64);
        self.bytes.extend_from_slice(&data);
        self.add(Kind::Weight { file: 0, offset, length, axes }, vec![], dtype)
    }

    fn finish(&self, roots: &[Option<NodeId>]) -> Graph {
        let mut graph = self.graph.clone();
        for (i, &node) in self.inputs.iter().enumerate() {
            let dims = graph.node(node).axes.iter().map(|a| vec![*a]).collect();
            graph.inputs.push(axes::Port { node, dims, outside: Port::named(format!("x{i}")) });
        }
        for (i, &node) in roots.iter().flatten().enumerate() {
            let dims = graph.node(node).axes.iter().map(|a| vec![*a]).collect();
            graph.outputs.push(axes::Port { node, dims, outside: Port::named(format!("y{i}")) });
        }
        graph
    }

    fn add(&mut self, kind: Kind, operands: Vec<NodeId>, dtype: DType) -> NodeId {
        self.graph.add(kind, operands, dtype, Default::default())
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    fn some_axes(&mut self) -> Vec<AxisId> {
        let pool = self.pool.clone();
        pool.into_iter().filter(|_| self.random.below(5) < 3).collect()
    }

    fn number(&mut self, value: f64, dtype: DType) -> Option<NodeId> {
        let id = self.graph.add_const(number::to_bytes(value, dtype)?);
        Some(self.add(Kind::Const { id, axes: vec![] }, vec![], dtype))
    }

    /// An instance of a pattern; `wanted` is the dtype the place asks for.
    fn make(&mut self, pat: &Pat, wanted: Option<DType>) -> Option<NodeId> {
        let dtype = wanted.unwrap_or(DType::F32);
        match pat {
            Pat::Number(n) => self.number(*n, dtype),
            Pat::Var(v) => {
                if let Some(node) = self.vars[*v] {
                    return Some(node);
                }
                let node = self.leaf(dtype)?;
                self.vars[*v] = Some(node);
                Some(node)
            }
            Pat::Node { head, args, .. } => self.node(*head, args, wanted),
        }
    }

    fn node(&mut self, head: PatHead, args: &[Pat], wanted: Option<DType>) -> Option<NodeId> {
        let head = match head {
            PatHead::One(head) => head,
            PatHead::AnyMap(arity) => {
                let kinds: Vec<MapKind> =
                    MapKind::ALL.iter().copied().filter(|k| k.arity() == arity).collect();
                Head::Map(kinds[self.random.below(kinds.len())])
            }
        };
        let kind = match head {
            Head::Map(kind) => return self.map(kind, args, wanted),
            Head::Other(name) => name,
        };
        if kind == "cast" {
            let dtypes = [DType::F32, DType::Bool, DType::I32, DType::F16, DType::F64];
            let from = dtypes[self.random.below(dtypes.len())];
            let to = wanted.unwrap_or(dtypes[self.random.below(dtypes.len())]);
            let x = self.make(&args[0], Some(from))?;
            return Some(self.add(Kind::Cast, vec![x], to));
        }
        if kind == "iota" {
            let axis = self.pool[self.random.below(self.pool.len())];
            return Some(self.add(Kind::Iota { axis }, vec![], DType::I32));
        }
        let wanted = match kind {
            // Products of integers too.
            "ein" if wanted.is_none() && self.chance(3) => Some(DType::I32),
            _ => wanted,
        };
        let dtypes = if kind == "gather" { [wanted, Some(DType::I32)] } else { [wanted, wanted] };
        let mut operands = Vec::new();
        for (a, dtype) in args.iter().zip(dtypes) {
            operands.push(self.make(a, dtype)?);
        }
        let x = self.graph.node(operands[0]).clone();
        let any = |m: &mut Maker, list: &[AxisId]| -> Option<AxisId> {
            if list.is_empty() { None } else { Some(list[m.random.below(list.len())]) }
        };
        let kind = match kind {
            "ein" => {
                let y = self.graph.node(operands[1]).axes.clone();
                let mut all = x.axes.clone();
                all.extend(y.iter().filter(|a| !x.axes.contains(a)));
                let contracted = all.into_iter().filter(|_| self.random.below(2) == 0).collect();
                Kind::Ein { contracted, acc: if x.dtype == DType::I32 { DType::I32 } else { DType::F32 } }
            }
            "red-sum" | "red-max" => {
                let axes: Vec<AxisId> =
                    x.axes.iter().copied().filter(|_| self.random.below(2) == 0).collect();
                if axes.is_empty() {
                    return None;
                }
                let kind = if kind == "red-sum" { ReduceKind::Sum } else { ReduceKind::Max };
                Kind::Reduce { kind, axes }
            }
            "slice" => {
                let from = any(self, &x.axes)?;
                let extent = self.graph.extent(from);
                // Halves and single elements, at either end.
                let size = if self.chance(2) { 1 } else { extent / 2 };
                let start = if self.chance(2) { 0 } else { extent - size };
                let to = (size > 1).then(|| self.graph.add_axis(size));
                Kind::Slice { from, to, start, stride: 1 }
            }
            "cat" => {
                let part = |n: &axes::Node| match n.kind {
                    Kind::Slice { to, .. } => to,
                    _ => None,
                };
                let from: Vec<Option<AxisId>> = operands.iter().map(|o| part(self.graph.node(*o))).collect();
                let total = from.iter().map(|f| f.map_or(1, |f| self.graph.extent(f))).sum();
                Kind::Concat { from, to: self.graph.add_axis(total) }
            }
            "gather" => Kind::Gather { axis: any(self, &x.axes)? },
            "rename" => {
                let old = any(self, &x.axes)?;
                let new = self.graph.add_axis(self.graph.extent(old));
                Kind::Rename { pairs: vec![(old, new)] }
            }
            "bc" => {
                let missing: Vec<AxisId> =
                    self.pool.iter().filter(|a| !x.axes.contains(a)).copied().collect();
                Kind::Broadcast { axes: vec![any(self, &missing)?] }
            }
            _ => return None,
        };
        Some(self.add(kind, operands, x.dtype))
    }

    fn map(&mut self, kind: MapKind, args: &[Pat], wanted: Option<DType>) -> Option<NodeId> {
        use MapKind::*;
        let dtype = match kind {
            Not | And | Or | Xor => DType::Bool,
            _ => match wanted {
                Some(DType::Bool) | None => {
                    if self.chance(5) {
                        DType::I32
                    } else {
                        DType::F32
                    }
                }
                Some(dtype) => dtype,
            },
        };
        // An operand that is itself a comparison or a cast has its own mind.
        let mut operands = Vec::new();
        for (i, a) in args.iter().enumerate() {
            let first_of_select = kind == Select && i == 0;
            operands.push(self.make(a, Some(if first_of_select { DType::Bool } else { dtype }))?);
        }
        let of = self.graph.node(operands[usize::from(kind == Select)]).dtype;
        let result = if kind.is_compare() || matches!(kind, IsNan | IsInf) { DType::Bool } else { of };
        Some(self.add(Kind::Map(kind), operands, result))
    }

    /// The value repeated along an axis that it lacks, or twice along one that it has.
    fn widened(&mut self, x: NodeId, dtype: DType) -> NodeId {
        let axes = self.graph.node(x).axes.clone();
        match (self.pool.iter().find(|a| !axes.contains(a)).copied(), axes.first()) {
            (Some(missing), _) if self.chance(2) => {
                self.add(Kind::Broadcast { axes: vec![missing] }, vec![x], dtype)
            }
            (_, Some(&axis)) => {
                let to = self.graph.add_axis(2 * self.graph.extent(axis));
                self.add(Kind::Concat { from: vec![Some(axis); 2], to }, vec![x, x], dtype)
            }
            _ => x,
        }
    }

    /// A leaf or a small expression: the facts that conditions ask for come about by chance.
    fn leaf(&mut self, dtype: DType) -> Option<NodeId> {
        if dtype == DType::F32 && self.chance(6) {
            // A sum or a maximum of something already there.
            let known: Vec<NodeId> = self.vars.iter().flatten().copied().collect();
            if !known.is_empty() {
                let x = known[self.random.below(known.len())];
                let axes: Vec<AxisId> = self.graph.node(x).axes.iter().copied().take(2).collect();
                if !axes.is_empty() && self.graph.node(x).dtype == DType::F32 {
                    return Some(self.add(Kind::Reduce { kind: ReduceKind::Sum, axes }, vec![x], dtype));
                }
            }
        }
        match self.random.below(8) {
            0 | 1 if dtype != DType::Bool => {
                let values = [2.0, 1.0, 0.5, -1.0, 3.0, 0.0];
                let values = if dtype == DType::F32 { &values[..] } else { &values[..2] };
                let n = values[self.random.below(values.len())];
                self.number(n, dtype)
            }
            0 => self.number(self.graph.nodes.len() as f64 % 2.0, dtype),
            2..=4 => {
                let axes = self.some_axes();
                Some(self.weight(axes, dtype))
            }
            _ => {
                let axes = self.some_axes();
                let index = self.inputs.len() as u32;
                let x = self.add(Kind::Input { index, axes }, vec![], dtype);
                self.inputs.push(x);
                if self.chance(4) {
                    return Some(self.widened(x, dtype));
                }
                // Within 0..=1, above 0, or anything.
                let bounded = dtype == DType::F32 && self.chance(3);
                Some(if bounded {
                    let kind = [MapKind::Sigmoid, MapKind::Square][self.random.below(2)];
                    self.add(Kind::Map(kind), vec![x], dtype)
                } else {
                    x
                })
            }
        }
    }
}
