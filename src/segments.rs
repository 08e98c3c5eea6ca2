//! Cutting a program into segments: what the machine runs and what only the host can.
//!
//! The decision is `kiln-passes`' table, asked of each op before algebra. Ops then run in phases that alternate
//! between device and host; a phase takes every op whose operands are there, so that each segment is a convex subgraph
//! and as large as it can be. What depends on constants only belongs to no phase: each segment that needs it has its
//! own copy, and what the machine cannot compute of it is computed here, once.

use bytes::Bytes;
use indexmap::{IndexMap, IndexSet};
use kiln_ir::{
    DType, IrError, Module, Tensor, TensorType,
    eval::{Array, Files, nn::eval_op},
    nn::{Func, FuncBuilder, Op, OpKind, Port, ValueId},
};
use kiln_passes::lower::{is_wider_than_the_machine, unsupported};
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::BTreeMap;

/// Constants computed here that are longer become bytes of the module's own file.
const CONSTANT_LIMIT_BYTES: u64 = 64 << 10;

/// Where a segment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Device,
    Host,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Device => Side::Host,
            Side::Host => Side::Device,
        }
    }
}

/// An op that only the host can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOp {
    /// The `nn` op with its element type.
    pub op: String,
    /// Why the machine cannot.
    pub reason: String,
    /// ONNX nodes, `"<node name>|<op type>"`.
    pub origin: Vec<String>,
}

/// One segment: a module whose `main` takes and gives tensors by the names of its ports.
pub struct Part {
    pub side: Side,
    pub module: Module,
    /// What made it a host segment; empty for a device segment.
    pub host_ops: Vec<HostOp>,
    /// Weights that a host segment reads from DRAM, by the names of its ports.
    pub weights: Vec<(Port, WeightPlace)>,
}

/// The bytes of a weight in a file of the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightPlace {
    pub ty: TensorType,
    pub file: u32,
    pub offset: u64,
    pub length: u64,
}

/// How a program runs.
pub enum Cut {
    /// The machine runs all of it.
    Whole,
    /// In these segments, one after another.
    Parts(Vec<Part>),
}

/// Cuts `main` of a prepared module.
///
/// # Errors
/// When constants cannot be evaluated or a part cannot be built.
pub fn cut(module: &Module, files: &Files) -> Result<Cut, IrError> {
    let func = module.func("main")?;
    let reasons: Vec<Option<String>> =
        func.ops.iter().map(|op| if op.kind.is_leaf() { None } else { unsupported(&func, op) }).collect();
    let wide_port = func.arg_values().chain(func.results.iter().map(|(v, _)| *v));
    let has_wide_port =
        wide_port.into_iter().any(|v| is_wider_than_the_machine(func.ty(v).dtype) && is_used(&func, v));
    if reasons.iter().all(Option::is_none) && !has_wide_port {
        return Ok(Cut::Whole);
    }
    let folded = fold(&func, &reasons, files)?;
    let constant = constants(&func);
    let phases = phases(&func, &reasons, &constant);
    let parts =
        Cutter { module, func: &func, reasons: &reasons, constant: &constant, folded, phases }.parts()?;
    Ok(Cut::Parts(parts))
}

fn is_used(func: &Func, value: ValueId) -> bool {
    func.results.iter().any(|(v, _)| *v == value) || func.ops.iter().any(|op| op.operands.contains(&value))
}

/// For each value whether it depends on no argument.
fn constants(func: &Func) -> Vec<bool> {
    let mut constant = vec![false; func.value_count()];
    for op in &func.ops {
        let all = op.operands.iter().all(|v| constant[v.index()]);
        op.results.iter().for_each(|r| constant[r.index()] = all);
    }
    constant
}

/// The values of constant ops that the machine cannot compute.
fn fold(
    func: &Func,
    reasons: &[Option<String>],
    files: &Files,
) -> Result<BTreeMap<ValueId, Tensor>, IrError> {
    let constant = constants(func);
    let is_folded = |index: usize| {
        reasons[index].is_some() && func.ops[index].results.iter().all(|r| constant[r.index()])
    };
    let mut wanted: IndexSet<ValueId> = IndexSet::new();
    let mut below = vec![false; func.ops.len()];
    for (index, op) in func.ops.iter().enumerate().rev() {
        below[index] = is_folded(index) || op.results.iter().any(|r| wanted.contains(r));
        if below[index] {
            wanted.extend(&op.operands);
        }
    }
    let mut folded = BTreeMap::new();
    let mut known: BTreeMap<ValueId, Array> = BTreeMap::new();
    for (index, op) in func.ops.iter().enumerate().filter(|(index, _)| below[*index]) {
        let operands: Vec<&Array> = op.operands.iter().filter_map(|v| known.get(v)).collect();
        let types: Vec<&TensorType> = op.results.iter().map(|r| func.ty(*r)).collect();
        let values = eval_op(op, &operands, &types, files).map_err(|message| IrError::Eval {
            op: op.kind.name().into(),
            message,
            origin: op.origin.clone(),
        })?;
        if is_folded(index) {
            folded.extend(op.results.iter().copied().zip(values.iter().map(Array::to_tensor)));
        }
        known.extend(op.results.iter().copied().zip(values));
    }
    Ok(folded)
}

/// The phase of each op that depends on an argument, and the side of each phase.
struct Phases {
    of: Vec<Option<usize>>,
    sides: Vec<Side>,
}

/// Alternates between the sides, from the one that gives fewer phases.
fn phases(func: &Func, reasons: &[Option<String>], constant: &[bool]) -> Phases {
    let mut graph: DiGraph<usize, ()> = DiGraph::new();
    let mut node_of: Vec<Option<NodeIndex>> = vec![None; func.ops.len()];
    let producers = func.producers();
    for (index, op) in func.ops.iter().enumerate() {
        if op.results.iter().all(|r| constant[r.index()]) {
            continue;
        }
        let node = graph.add_node(index);
        node_of[index] = Some(node);
        let before: IndexSet<NodeIndex> =
            op.operands.iter().filter_map(|v| node_of[producers[v.index()]?]).collect();
        before.into_iter().for_each(|b| {
            graph.add_edge(b, node, ());
        });
    }
    let from = |first| phases_from(&graph, func, reasons, first);
    let (device, host) = (from(Side::Device), from(Side::Host));
    if host.sides.len() < device.sides.len() { host } else { device }
}

fn phases_from(graph: &DiGraph<usize, ()>, func: &Func, reasons: &[Option<String>], first: Side) -> Phases {
    let mut waiting: Vec<usize> =
        graph.node_indices().map(|n| graph.neighbors_directed(n, petgraph::Incoming).count()).collect();
    let mut ready: Vec<NodeIndex> = graph.node_indices().filter(|n| waiting[n.index()] == 0).collect();
    let mut phases = Phases { of: vec![None; func.ops.len()], sides: Vec::new() };
    let mut side = first;
    while !ready.is_empty() {
        let (mut held, mut taken) = (Vec::new(), false);
        while let Some(node) = ready.pop() {
            let op = graph[node];
            let fits = match (&reasons[op], side) {
                (Some(_), Side::Device) => false,
                (None, Side::Host) => func.ops[op].kind.is_view(),
                _ => true,
            };
            if !fits {
                held.push(node);
                continue;
            }
            taken = true;
            phases.of[op] = Some(phases.sides.len());
            for next in graph.neighbors(node) {
                waiting[next.index()] -= 1;
                if waiting[next.index()] == 0 {
                    ready.push(next);
                }
            }
        }
        if taken {
            phases.sides.push(side);
        }
        ready = held;
        side = side.other();
    }
    phases
}

struct Cutter<'a> {
    module: &'a Module,
    func: &'a Func,
    reasons: &'a [Option<String>],
    constant: &'a [bool],
    folded: BTreeMap<ValueId, Tensor>,
    phases: Phases,
}

impl Cutter<'_> {
    fn parts(mut self) -> Result<Vec<Part>, IrError> {
        let homes = self.result_phases();
        let names = self.names();
        let mut parts = Vec::new();
        for phase in 0..self.phases.sides.len() {
            parts.push(self.part(phase, &homes, &names)?);
        }
        Ok(parts)
    }

    /// The phase that gives each result of the program; results that no op makes go to the last phase of their side.
    fn result_phases(&mut self) -> Vec<usize> {
        let producers = self.func.producers();
        let mut homes = Vec::new();
        for (value, _) in &self.func.results {
            let made = producers[value.index()].and_then(|op| self.phases.of[op]);
            homes.push(made.unwrap_or_else(|| {
                let wide = is_wider_than_the_machine(self.func.ty(*value).dtype);
                let side = if wide { Side::Host } else { Side::Device };
                let last = self.phases.sides.iter().rposition(|s| *s == side);
                last.unwrap_or_else(|| {
                    self.phases.sides.push(side);
                    self.phases.sides.len() - 1
                })
            }));
        }
        homes
    }

    /// A name for every value that may cross between segments: the program's own where it has one.
    fn names(&self) -> Vec<String> {
        let mut names = vec![String::new(); self.func.value_count()];
        let own = self.func.args.iter().chain(self.func.results.iter().map(|(_, port)| port));
        let taken: IndexSet<&str> = own.map(|port| port.name.as_str()).collect();
        for (v, port) in self.func.arg_values().zip(&self.func.args) {
            names[v.index()] = port.name.clone();
        }
        for (v, port) in &self.func.results {
            if names[v.index()].is_empty() {
                names[v.index()] = port.name.clone();
            }
        }
        for (index, name) in names.iter_mut().enumerate().filter(|(_, name)| name.is_empty()) {
            *name = format!("%{index}");
            while taken.contains(name.as_str()) {
                name.push('\'');
            }
        }
        names
    }

    /// The port under which `value` enters or leaves a segment.
    fn port(&self, value: ValueId, names: &[String]) -> Port {
        let arg = self.func.args.get(value.index());
        let result = self.func.results.iter().find(|(v, _)| *v == value).map(|(_, port)| port);
        let known = arg.or(result).cloned().unwrap_or_default();
        Port { name: names[value.index()].clone(), ..known }
    }

    fn part(&self, phase: usize, homes: &[usize], names: &[String]) -> Result<Part, IrError> {
        let func = self.func;
        let own: Vec<usize> = (0..func.ops.len()).filter(|&i| self.phases.of[i] == Some(phase)).collect();
        let made: IndexSet<ValueId> = own.iter().flat_map(|&i| func.ops[i].results.iter().copied()).collect();
        // Results: the program's that are given here, then what later segments read.
        let mut results: Vec<(ValueId, Port)> = Vec::new();
        for ((value, port), home) in func.results.iter().zip(homes) {
            if *home == phase {
                results.push((*value, port.clone()));
            }
        }
        for (index, op) in func.ops.iter().enumerate() {
            if self.phases.of[index].is_some_and(|p| p > phase) {
                for v in op.operands.iter().filter(|v| made.contains(*v)) {
                    if !results.iter().any(|(r, port)| r == v && port.name == names[v.index()]) {
                        results.push((*v, self.port(*v, names)));
                    }
                }
            }
        }
        let mut needed: IndexSet<ValueId> = IndexSet::new();
        own.iter().flat_map(|&i| &func.ops[i].operands).for_each(|v| {
            needed.insert(*v);
        });
        results.iter().for_each(|(v, _)| {
            needed.insert(*v);
        });
        let mut args: Vec<(TensorType, Port)> = Vec::new();
        let mut arg_of: IndexMap<ValueId, usize> = IndexMap::new();
        for v in needed.iter().filter(|v| !made.contains(*v) && !self.constant[v.index()]) {
            arg_of.insert(*v, args.len());
            args.push((func.ty(*v).clone(), self.port(*v, names)));
        }
        let side = self.phases.sides[phase];
        let copied = self.constants_of(&needed, &made);
        let mut weights = Vec::new();
        if side == Side::Host {
            self.weight_arguments(&copied, names, &mut arg_of, &mut args, &mut weights);
        }
        let mut part = Module::new(self.module.context());
        if side == Side::Device {
            for file in self.module.files() {
                part.add_file(&file);
            }
            part.set_blob(Bytes::copy_from_slice(self.module.blob()));
        }
        let mut builder =
            Building { b: FuncBuilder::new(part.context(), "main", &args)?, map: BTreeMap::new() };
        for (v, position) in &arg_of {
            let value = builder.b.arg(*position);
            builder.map.insert(*v, value);
        }
        for &index in &copied {
            let op = &func.ops[index];
            match op.results.iter().map(|r| self.folded.get(r)).collect::<Option<Vec<_>>>() {
                Some(tensors) => {
                    for (r, tensor) in op.results.iter().zip(tensors) {
                        let value = if side == Side::Device && tensor.data.len() as u64 > CONSTANT_LIMIT_BYTES
                        {
                            let (file, offset) = part.add_blob(&tensor.data);
                            builder.b.weight(file, offset, &tensor.shape, tensor.dtype)?
                        } else {
                            builder.b.constant(tensor)?
                        };
                        builder.map.insert(*r, value);
                    }
                }
                None if op.results.iter().all(|r| builder.map.contains_key(r)) => {}
                None => builder.copy(op)?,
            }
        }
        own.iter().try_for_each(|&i| builder.copy(&func.ops[i]))?;
        let results: Vec<_> =
            results.into_iter().filter_map(|(v, port)| Some((*builder.map.get(&v)?, port))).collect();
        builder.b.finish(&mut part, &results)?;
        let host_ops = if side == Side::Host { self.host_ops(&own) } else { Vec::new() };
        Ok(Part { side, module: part, host_ops, weights })
    }

    /// Constant ops below `needed`, in order; what is folded needs nothing below it.
    fn constants_of(&self, needed: &IndexSet<ValueId>, made: &IndexSet<ValueId>) -> Vec<usize> {
        let producers = self.func.producers();
        let mut below = vec![false; self.func.ops.len()];
        let mut stack: Vec<ValueId> =
            needed.iter().copied().filter(|v| !made.contains(v) && self.constant[v.index()]).collect();
        while let Some(v) = stack.pop() {
            if let Some(op) = producers[v.index()]
                && !std::mem::replace(&mut below[op], true)
                && !self.func.ops[op].results.iter().all(|r| self.folded.contains_key(r))
            {
                stack.extend(&self.func.ops[op].operands);
            }
        }
        (0..below.len()).filter(|&i| below[i]).collect()
    }

    /// Weights of a host segment become arguments, read from DRAM: no byte of a file is copied.
    fn weight_arguments(
        &self,
        copied: &[usize],
        names: &[String],
        arg_of: &mut IndexMap<ValueId, usize>,
        args: &mut Vec<(TensorType, Port)>,
        weights: &mut Vec<(Port, WeightPlace)>,
    ) {
        for &index in copied {
            let op = &self.func.ops[index];
            if let OpKind::Weight { ty, file, offset, length } = &op.kind {
                let port = Port::named(names[op.results[0].index()].clone());
                arg_of.insert(op.results[0], args.len());
                args.push((ty.clone(), port.clone()));
                let place = WeightPlace { ty: ty.clone(), file: *file, offset: *offset, length: *length };
                weights.push((port, place));
            }
        }
    }

    fn host_ops(&self, own: &[usize]) -> Vec<HostOp> {
        let told = own.iter().filter_map(|&i| Some((i, self.reasons[i].clone()?)));
        told.map(|(i, reason)| {
            let op = &self.func.ops[i];
            let dtype = op.results.first().map_or(DType::F32, |r| self.func.ty(*r).dtype);
            HostOp {
                op: format!("{} of {}", op.kind.name(), dtype.name()),
                reason,
                origin: op.origin.names().map(str::to_string).collect(),
            }
        })
        .collect()
    }
}

/// A function under construction and what became of the original's values.
struct Building {
    b: FuncBuilder,
    map: BTreeMap<ValueId, ValueId>,
}

impl Building {
    fn copy(&mut self, op: &Op) -> Result<(), IrError> {
        let operands: Vec<ValueId> = op.operands.iter().filter_map(|v| self.map.get(v).copied()).collect();
        let results = self.b.clone_op(op, &operands)?;
        self.map.extend(op.results.iter().copied().zip(results));
        Ok(())
    }
}

/// Puts a copy of `func` into `module`, in place of what is called so.
///
/// # Errors
/// When it cannot be rebuilt.
pub fn restore(module: &mut Module, func: &Func) -> Result<(), IrError> {
    let context = module.context().clone();
    let mut building = Building { b: FuncBuilder::like(&context, func)?, map: BTreeMap::new() };
    for (i, v) in func.arg_values().enumerate() {
        let value = building.b.arg(i);
        building.map.insert(v, value);
    }
    func.ops.iter().try_for_each(|op| building.copy(op))?;
    let results: Vec<_> =
        func.results.iter().filter_map(|(v, port)| Some((*building.map.get(v)?, port.clone()))).collect();
    module.remove(&func.name);
    building.b.finish(module, &results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::{Context, nn::MapKind};

    /// f32 → f64 → f32 with a double constant of its own, and a second result that stays on the device.
    fn mixed() -> Result<Module, IrError> {
        let context = Context::new();
        let mut module = Module::new(&context);
        let x = (TensorType::new(DType::F32, [4]), Port::named("x"));
        let mut b = FuncBuilder::new(&context, "main", &[x])?;
        let exp = b.map(MapKind::Exp, &[b.arg(0)])?;
        let wide = b.cast(exp, DType::F64)?;
        let third = b.splat(DType::F64, 1.0 / 3.0, &[4])?;
        let scaled = b.map(MapKind::Mul, &[wide, third])?;
        let narrow = b.cast(scaled, DType::F32)?;
        let y = b.map(MapKind::Relu, &[narrow])?;
        b.finish(&mut module, &[(y, Port::named("y")), (exp, Port::named("e"))])?;
        Ok(module)
    }

    fn parts(module: &Module) -> Result<Vec<Part>, IrError> {
        match cut(module, &Files::of(module, Vec::new()))? {
            Cut::Whole => Ok(Vec::new()),
            Cut::Parts(parts) => Ok(parts),
        }
    }

    #[test]
    fn segments_alternate_and_name_what_crosses() -> Result<(), IrError> {
        let parts = parts(&mixed()?)?;
        let sides: Vec<Side> = parts.iter().map(|p| p.side).collect();
        assert_eq!(sides, [Side::Device, Side::Host, Side::Device]);
        let names = |part: &Part| -> Result<(Vec<String>, Vec<String>), IrError> {
            let func = part.module.func("main")?;
            let results = func.results.iter().map(|(_, port)| port.name.clone()).collect();
            Ok((func.args.iter().map(|port| port.name.clone()).collect(), results))
        };
        // The exponential is a result of the program: it crosses under that name.
        assert_eq!(names(&parts[0])?, (vec!["x".into()], vec!["e".into()]));
        let (inner_in, inner_out) = names(&parts[1])?;
        assert_eq!((inner_in, inner_out.len()), (vec!["e".to_string()], 1));
        assert_eq!(names(&parts[2])?, (inner_out, vec!["y".into()]));
        assert!(parts[1].host_ops.iter().all(|op| op.reason == "the machine has no f64"));
        Ok(())
    }

    #[test]
    fn segments_in_order_compute_what_the_whole_does() -> Result<(), IrError> {
        let module = mixed()?;
        let data: Vec<u8> = [-1.0f32, 0.0, 0.5, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let x = Tensor { dtype: DType::F32, shape: vec![4], data: data.into() };
        let files = Files::of(&module, Vec::new());
        let wanted = kiln_ir::eval::nn::eval(&module.func("main")?, std::slice::from_ref(&x), &files)?;
        let mut known: BTreeMap<String, Tensor> = BTreeMap::from([("x".to_string(), x)]);
        for part in parts(&module)? {
            let func = part.module.func("main")?;
            let inputs: Vec<Tensor> = func.args.iter().map(|port| known[&port.name].clone()).collect();
            let files = Files::of(&part.module, Vec::new());
            let outputs = kiln_ir::eval::nn::eval(&func, &inputs, &files)?;
            known.extend(func.results.iter().map(|(_, port)| port.name.clone()).zip(outputs));
        }
        assert_eq!([&known["y"], &known["e"]], [&wanted[0], &wanted[1]]);
        Ok(())
    }

    #[test]
    fn what_the_machine_runs_is_not_cut() -> Result<(), IrError> {
        let context = Context::new();
        let mut module = Module::new(&context);
        let x = (TensorType::new(DType::F32, [4]), Port::named("x"));
        let mut b = FuncBuilder::new(&context, "main", &[x])?;
        let y = b.map(MapKind::Exp, &[b.arg(0)])?;
        b.finish(&mut module, &[(y, Port::named("y"))])?;
        assert!(matches!(cut(&module, &Files::default())?, Cut::Whole));
        Ok(())
    }
}
