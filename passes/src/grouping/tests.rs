//! Groups of small programs.

use super::kernel::Kernel;
use crate::axes::{Graph, from_nn};
use crate::lower::{Memo, Readers, lower_group};
use crate::tiling::machine::Machine;
use kiln_ir::nn::{ContractDims, FuncBuilder, MapKind, Port, ReduceKind, ValueId};
use kiln_ir::{Context, DType, Module, TensorType};
use kiln_machine::target::Target;

/// The graph of what `build` makes of arguments of the given f32 shapes.
pub(crate) fn graph(
    shapes: &[&[usize]],
    build: impl FnOnce(&mut FuncBuilder, &[ValueId]) -> Vec<ValueId>,
) -> Graph {
    let context = Context::new();
    let mut module = Module::new(&context);
    let args: Vec<(TensorType, Port)> = shapes
        .iter()
        .enumerate()
        .map(|(i, s)| (TensorType::new(DType::F32, s.to_vec()), Port::named(format!("x{i}"))))
        .collect();
    let mut b = FuncBuilder::new(&context, "main", &args).expect("builder");
    let values: Vec<ValueId> = (0..shapes.len()).map(|i| b.arg(i)).collect();
    let results = build(&mut b, &values);
    let results: Vec<(ValueId, Port)> =
        results.into_iter().enumerate().map(|(i, v)| (v, Port::named(format!("y{i}")))).collect();
    b.finish(&mut module, &results).expect("finish");
    from_nn(&module.func("main").expect("main"))
}

pub(crate) fn machine(spm_bytes: u64) -> Machine {
    let mut target = Target::preset("core").expect("preset");
    target.set("spm_bytes", &spm_bytes.to_string()).expect("a size");
    Machine::new(&target)
}

/// softmax(q·kᵀ)·v over [h, s, d]
pub(crate) fn attention(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
    let dims =
        ContractDims { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![2], rhs_contract: vec![2] };
    let scores = b.contract(x[0], x[1], &dims).expect("scores");
    let shape = b.shape(scores).to_vec();
    let max = b.reduce(ReduceKind::Max, scores, &[2]).expect("max");
    let max = b.broadcast(max, &[0, 1], &shape).expect("broadcast");
    let shifted = b.map(MapKind::Sub, &[scores, max]).expect("sub");
    let e = b.map(MapKind::Exp, &[shifted]).expect("exp");
    let sum = b.reduce(ReduceKind::Sum, e, &[2]).expect("sum");
    let sum = b.broadcast(sum, &[0, 1], &shape).expect("broadcast");
    let p = b.map(MapKind::Div, &[e, sum]).expect("div");
    vec![b.contract(p, x[2], &ContractDims::matmul(1)).expect("pv")]
}

#[test]
fn attention_is_one_legal_group() {
    let g = graph(&[&[12, 384, 64], &[12, 384, 64], &[12, 384, 64]], attention);
    let kernel = Kernel::new(&g).expect("kernel");
    let all: Vec<usize> = (0..kernel.ops.len()).collect();
    let mut memo = Memo::default();
    let lowered =
        lower_group(&kernel, &Readers::new(&kernel), &all, 0, &machine(24 << 20), &mut memo).expect("lowers");
    assert_eq!(lowered.report.planned_bytes, lowered.report.compulsory_bytes);
}
