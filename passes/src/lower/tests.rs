//! Whole functions through lowering: the tile evaluator gives the same bits as the evaluator of `nn`.

use indexmap::IndexMap;

use super::{Lowered, lower, lower_again};
use crate::grouping::tests::attention;
use kiln_ir::eval::Files;
use kiln_ir::nn::{ContractDims, FuncBuilder, MapKind, OpKind, Port, ReduceKind, ScanKind, ValueId};
use kiln_ir::tile::{DramKind, Op, Source};
use kiln_ir::{Context, DType, Module, Tensor, TensorType};
use kiln_machine::target::Target;

type Build = fn(&mut FuncBuilder, &[ValueId]) -> Vec<ValueId>;

fn module(shapes: &[&[usize]], build: Build) -> Module {
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

fn target(name: &str, spm: &str) -> Target {
    let mut target = Target::preset(name).expect("preset");
    target.set("spm_bytes", spm).expect("a size");
    target
}

/// Values in [-1, 1) from a small generator.
fn tensor(shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let bytes = (0..shape.iter().product::<usize>()).flat_map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 23) as f32 - 1.0).to_le_bytes()
    });
    let data = bytes.collect::<Vec<u8>>().into();
    Tensor { dtype: DType::F32, shape: shape.to_vec(), data }
}

/// Lowers, evaluates both programs and compares all bits.
fn agree(shapes: &[&[usize]], build: Build, target: &Target) -> (Lowered, Module) {
    let mut m = module(shapes, build);
    let func = m.func("main").expect("main");
    let files = Files::of(&m, Vec::new());
    let inputs: Vec<Tensor> = shapes.iter().enumerate().map(|(i, s)| tensor(s, i as u32)).collect();
    let want = kiln_ir::eval::nn::eval(&func, &inputs, &files).expect("nn evaluates");
    let lowered = lower(&mut m, target).expect("lowers");
    m.verify().expect("verifies");
    let program = m.program("main").expect("program");
    let named: IndexMap<String, Tensor> =
        inputs.into_iter().enumerate().map(|(i, t)| (format!("x{i}"), t)).collect();
    let got = kiln_ir::eval::tile::run(&m, &program, &files, &named).expect("tile evaluates");
    for (i, want) in want.iter().enumerate() {
        assert!(got[&format!("y{i}")].data == want.data, "result {i} differs\n{}", m.print());
    }
    (lowered, m)
}

fn temps(m: &Module) -> usize {
    let program = m.program("main").expect("program");
    let used = |i: usize| {
        let mut hit = false;
        for group in &program.groups {
            group.for_each_op(&mut |op, _| hit |= op.dram().is_some_and(|(d, _)| d.index() == i));
        }
        hit
    };
    (0..program.drams.len()).filter(|&i| matches!(program.drams[i].kind, DramKind::Temp) && used(i)).count()
}

#[test]
fn attention_stays_on_chip_and_falls_apart_in_a_small_scratchpad() {
    let shapes: &[&[usize]] = &[&[2, 70, 16], &[2, 300, 16], &[2, 300, 16]];
    let (whole, m) = agree(shapes, attention, &target("core", "24M"));
    assert_eq!((whole.groups.len(), temps(&m)), (1, 0));
    assert_eq!(
        whole.groups[0].planned_bytes, whole.groups[0].compulsory_bytes,
        "{}",
        whole.groups[0].schedule
    );
    let (parts, m) = agree(shapes, attention, &target("core", "64K"));
    assert!(parts.groups.len() > 1 && temps(&m) > 0, "{} groups", parts.groups.len());
}

/// relu(q·kᵀ)²·v
fn squared_relu(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
    let dims =
        ContractDims { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![2], rhs_contract: vec![2] };
    let s = b.contract(x[0], x[1], &dims).expect("scores");
    let s = b.map(MapKind::Relu, &[s]).expect("relu");
    let s = b.map(MapKind::Square, &[s]).expect("square");
    vec![b.contract(s, x[2], &ContractDims::matmul(1)).expect("product")]
}

#[test]
fn scores_of_any_kind_stay_on_chip() {
    let (lowered, m) =
        agree(&[&[3, 33, 8], &[3, 150, 8], &[3, 150, 8]], squared_relu, &target("core", "24M"));
    assert_eq!((lowered.groups.len(), temps(&m)), (1, 0));
}

/// ((a·b + bias) normalised over rows)·c
fn normalised_product(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
    let h = b.contract(x[0], x[1], &ContractDims::matmul(0)).expect("a·b");
    let shape = b.shape(h).to_vec();
    let bias = b.broadcast(x[2], &[1], &shape).expect("bias");
    let h = b.map(MapKind::Add, &[h, bias]).expect("add");
    let square = b.map(MapKind::Square, &[h]).expect("square");
    let sum = b.reduce(ReduceKind::Sum, square, &[1]).expect("sum");
    let scale = b.map(MapKind::Rsqrt, &[sum]).expect("rsqrt");
    let scale = b.broadcast(scale, &[0], &shape).expect("scale");
    let h = b.map(MapKind::Mul, &[h, scale]).expect("mul");
    vec![b.contract(h, x[3], &ContractDims::matmul(0)).expect("·c")]
}

#[test]
fn a_row_norm_between_products_stays_on_chip() {
    let shapes: &[&[usize]] = &[&[50, 40], &[40, 200], &[200], &[200, 24]];
    let (whole, m) = agree(shapes, normalised_product, &target("core", "24M"));
    assert_eq!((whole.groups.len(), temps(&m)), (1, 0));
    let (parts, _) = agree(shapes, normalised_product, &target("core", "64K"));
    assert!(parts.groups.len() > 1);
}

/// Transposes, slices, a concatenation, a padding, a scan and a selection between other ops.
fn movement(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
    let t = b.transpose(x[0], &[1, 0]).expect("transpose");
    let low = b.slice(t, &[0, 0], &[5, 7], &[1, 1]).expect("slice");
    let high = b.slice(t, &[6, 0], &[5, 7], &[1, 1]).expect("slice");
    let high = b.map(MapKind::Neg, &[high]).expect("neg");
    let joined = b.concat(&[high, low], 0).expect("concat");
    let padded = b.pad(joined, &[1, 0], &[2, 3], 0.5).expect("pad");
    let scanned = b.scan(ScanKind::Sum, joined, 0).expect("scan");
    let (values, indices) = b.topk(joined, 3, 1).expect("topk");
    let flat = b.reshape(scanned, &[14, 5]).expect("reshape");
    vec![padded, scanned, values, indices, flat]
}

#[test]
fn data_movement_is_addresses() {
    agree(&[&[7, 11]], movement, &target("core", "24M"));
    agree(&[&[7, 11]], movement, &target("edge", "64K"));
}

#[test]
fn rows_longer_than_a_partition_are_reduced_in_blocks() {
    fn sums(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
        let last = b.reduce(ReduceKind::Sum, x[0], &[1]).expect("rows");
        let first = b.reduce(ReduceKind::Max, x[0], &[0]).expect("columns");
        vec![last, first]
    }
    for name in ["core", "edge"] {
        agree(&[&[3, 5000]], sums, &target(name, "64K"));
    }
}

#[test]
fn a_retry_takes_less_of_the_scratchpad() {
    let shapes: &[&[usize]] = &[&[50, 40], &[40, 200], &[200], &[200, 24]];
    let first = lower(&mut module(shapes, normalised_product), &target("core", "24M")).expect("lowers");
    let retries = [("g0".to_string(), 7)].into();
    let tight = target("core", &format!("{}", first.groups[0].spm_bytes * 128));
    let again = lower_again(&mut module(shapes, normalised_product), &tight, &retries);
    assert!(again.is_err() || again.is_ok_and(|l| l.groups[0].spm_bytes < first.groups[0].spm_bytes));
}

/// Products along axes that one operand or both do not vary along.
fn products_with_the_same_rows(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
    let once = b.map(MapKind::Neg, &[x[1]]).expect("neg");
    let rows = b.broadcast(once, &[1], &[40, 24]).expect("rows");
    let right = b.contract(x[0], rows, &ContractDims::matmul(0)).expect("x·rows");
    let columns = b.broadcast(x[1], &[0], &[24, 40]).expect("columns");
    let turned = b.transpose(x[0], &[1, 0]).expect("transpose");
    let left = b.contract(columns, turned, &ContractDims::matmul(0)).expect("columns·xᵀ");
    let neither = b.contract(columns, rows, &ContractDims::matmul(0)).expect("columns·rows");
    vec![right, left, neither]
}

#[test]
fn an_operand_that_lacks_the_contracted_axis_repeats_along_it() {
    agree(&[&[33, 40], &[24]], products_with_the_same_rows, &target("core", "24M"));
    agree(&[&[33, 40], &[24]], products_with_the_same_rows, &target("edge", "64K"));
}

/// A running sum and the greatest elements along axes that the operand does not vary along.
fn scans_of_the_same_rows(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
    let y = b.map(MapKind::Neg, &[x[0]]).expect("neg");
    let rows = b.broadcast(y, &[1], &[40, 24]).expect("rows");
    let sums = b.scan(ScanKind::Sum, rows, 0).expect("scan");
    let (values, indices) = b.topk(rows, 3, 0).expect("topk");
    let sum = b.reduce(ReduceKind::Sum, rows, &[0]).expect("sum");
    vec![sums, values, indices, sum]
}

#[test]
fn an_operand_that_lacks_the_scanned_axis_repeats_along_it() {
    agree(&[&[24]], scans_of_the_same_rows, &target("core", "24M"));
}

#[test]
fn both_results_of_a_selection_are_of_one_op() {
    fn both(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
        let (values, indices) = b.topk(x[0], 3, 1).expect("topk");
        vec![indices, values]
    }
    let (_, m) = agree(&[&[9, 20]], both, &target("core", "24M"));
    let mut selections = 0;
    for group in &m.program("main").expect("program").groups {
        group.for_each_op(&mut |op, _| selections += usize::from(matches!(op, Op::TopK { .. })));
    }
    assert_eq!(selections, 1, "{}", m.print());
}

#[test]
fn a_map_of_numbers_alone_reads_one_from_memory() {
    fn chosen(b: &mut FuncBuilder, x: &[ValueId]) -> Vec<ValueId> {
        // What a running sum leaves before its first element is a number that no fold sees.
        let exclusive = OpKind::Scan { kind: ScanKind::Sum, axis: 0, exclusive: true, reverse: false };
        let zero = b.op(&exclusive, &[x[0]]).expect("scan")[0];
        let limit = b.splat(DType::F32, 0.5, &[1]).expect("splat");
        let mask = b.map(MapKind::Gt, &[zero, limit]).expect("gt");
        let less = b.map(MapKind::Sub, &[zero, limit]).expect("sub");
        let matrix = b.reshape(zero, &[1, 1]).expect("reshape");
        let product = b.contract(matrix, matrix, &ContractDims::matmul(0)).expect("matmul");
        vec![b.map(MapKind::Select, &[mask, x[0], limit]).expect("select"), less, product]
    }
    let (_, m) = agree(&[&[1]], chosen, &target("core", "24M"));
    for group in &m.program("main").expect("program").groups {
        group.for_each_op(&mut |op, _| {
            if let Op::Map { kind, srcs, .. } = op {
                assert!(srcs.iter().any(|s| matches!(s, Source::View(_))), "{kind:?} of numbers alone");
            }
        });
    }
}
