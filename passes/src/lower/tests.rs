//! Whole functions through lowering.

use super::lower;
use crate::grouping::tests::attention;
use kiln_ir::nn::{FuncBuilder, Port, ValueId};
use kiln_ir::{Context, DType, Module, TensorType};
use kiln_machine::target::Target;

fn module(shapes: &[&[usize]], build: impl FnOnce(&mut FuncBuilder, &[ValueId]) -> Vec<ValueId>) -> Module {
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
    module
}

#[test]
fn attention_lowers_and_verifies() {
    let mut m = module(&[&[2, 70, 16], &[2, 300, 16], &[2, 300, 16]], attention);
    lower(&mut m, &Target::preset("core").expect("core")).expect("lowers");
    m.verify().expect("verifies");
}
