//! Every model of `testsuite/models` at every stage: onnxruntime's stored outputs ≡ `nn` evaluated as imported ≡ after
//! each pass ≡ `tile` evaluated ≡ the simulator, on each target.

use indexmap::IndexMap;
use kiln::{
    CompileOptions, Tensors,
    compare::{Tolerance, compare},
    host::Folds,
    inputs::from_data_set,
};
use kiln_frontend::{ImportOptions, Imported, SourceFile};
use kiln_ir::{
    DType, Module,
    eval::{self, array},
    pass,
};
use kiln_machine::{target::Target, tensor::Tensor};
use kiln_passes::{AFTER_ALGEBRA, BEFORE_ALGEBRA, algebra, lower::lower, registry};
use kiln_testsuite::model;
use std::path::Path;

/// What the outputs may differ by, by the model's dtype.
fn tolerance(wanted: &Tensors) -> Tolerance {
    match wanted.values().any(|tensor| tensor.dtype == DType::F16) {
        true => Tolerance { rtol: 2e-2, atol: 2e-2 },
        false => Tolerance { rtol: 1e-3, atol: 1e-4 },
    }
}

fn assert_close(stage: &str, got: &Tensors, wanted: &Tensors) {
    for (name, want) in wanted {
        let got = got.get(name).unwrap_or_else(|| panic!("{stage}: no output {name}"));
        let worst = compare(got, want, tolerance(wanted)).unwrap_or_else(|e| panic!("{stage}: {name}: {e}"));
        assert_eq!(worst.outside, 0, "{stage}: {name}: {worst:?}");
    }
}

fn cast(tensor: &Tensor, dtype: DType) -> Tensor {
    array::cast(&array::Array::from_tensor(tensor), dtype).to_tensor()
}

/// `main` of `module` on host tensors, which are narrowed to its arguments' types and widened back.
fn eval_nn(module: &Module, files: &[SourceFile], inputs: &Tensors, wanted: &Tensors) -> Tensors {
    let func = module.func("main").expect("main");
    let ordered: Vec<Tensor> = func
        .args
        .iter()
        .zip(func.arg_values())
        .map(|(port, value)| cast(&inputs[&port.name], func.ty(value).dtype))
        .collect();
    let results = eval::nn::eval(&func, &ordered, &Folds { files }.contents(module)).expect("nn evaluates");
    let named = func.results.iter().zip(results);
    named.map(|((_, port), tensor)| (port.name.clone(), widened(&port.name, &tensor, wanted))).collect()
}

fn widened(name: &str, tensor: &Tensor, wanted: &Tensors) -> Tensor {
    wanted.get(name).map_or_else(|| tensor.clone(), |want| cast(tensor, want.dtype))
}

fn eval_tile(module: &Module, files: &[SourceFile], inputs: &Tensors, wanted: &Tensors) -> Tensors {
    let program = module.program("main").expect("a tile program");
    let mut narrowed = IndexMap::new();
    for dram in &program.drams {
        if let kiln_ir::tile::DramKind::Input(port) = &dram.kind {
            narrowed.insert(port.name.clone(), cast(&inputs[&port.name], dram.ty.dtype));
        }
    }
    let results = eval::tile::run(module, &program, &Folds { files }.contents(module), &narrowed)
        .expect("tile evaluates");
    results.iter().map(|(name, tensor)| (name.clone(), widened(name, tensor, wanted))).collect()
}

/// All stages of one model on its first data set.
fn check(folder: &Path) {
    pass::register(registry());
    let path = folder.join("model.onnx");
    let data = folder.join("test_data_set_0");
    let names: Vec<String> =
        kiln_frontend::inspect(&path).expect("a model").into_iter().map(|input| input.name).collect();
    let inputs = from_data_set(&data, "input", &names).expect("inputs");
    let input_shapes: IndexMap<String, Vec<usize>> =
        inputs.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let options = ImportOptions { input_shapes: input_shapes.clone(), ..ImportOptions::default() };
    let Imported { mut module, files, outputs, .. } =
        kiln_frontend::import(&path, &options).expect("imports");
    let names: Vec<String> = outputs.into_iter().map(|(name, _)| name).collect();
    let wanted = from_data_set(&data, "output", &names).expect("outputs");

    assert_close("imported", &eval_nn(&module, &files, &inputs, &wanted), &wanted);
    for name in BEFORE_ALGEBRA.split(',') {
        pass::run_pipeline(&mut module, name).expect("the pass runs");
        assert_close(name, &eval_nn(&module, &files, &inputs, &wanted), &wanted);
    }
    algebra::run(&mut module, algebra::Options::default()).expect("algebra runs");
    assert_close("algebra", &eval_nn(&module, &files, &inputs, &wanted), &wanted);
    pass::run_pipeline(&mut module, AFTER_ALGEBRA).expect("the pass runs");
    let edge = Target::preset("edge").expect("a preset");
    lower(&mut module, &edge).expect("lowers");
    assert_close("tile", &eval_tile(&module, &files, &inputs, &wanted), &wanted);

    for name in ["edge", "core"] {
        let mut options = CompileOptions::new(path.clone(), Target::preset(name).expect("a preset"));
        options.shapes = input_shapes.clone();
        options.device_only = true;
        options.sanitize = true;
        let compiled = kiln::compile(&options).unwrap_or_else(|e| panic!("{name}: {}", e.in_one_line()));
        let run = compiled.run(&inputs).unwrap_or_else(|e| panic!("{name}: {}", e.in_one_line()));
        assert_close(name, &run.outputs, &wanted);
        let faults: Vec<String> = run.findings.faults().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "{name}: {}", faults.join("\n"));
    }
}

macro_rules! models {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(&model(stringify!($name))); })*

        #[test]
        fn every_kept_model_is_listed() {
            let listed = [$(stringify!($name)),*];
            for folder in kiln_testsuite::models().expect("the models are there") {
                let name = folder.file_name().expect("a folder").to_string_lossy().into_owned();
                assert!(listed.contains(&name.as_str()), "{name} is not among the differential tests");
            }
        }
    };
}

models! {
    matmul_kn matmul_nk matmul_batched matmul_f16 gemm_bias_gelu elementwise softmax softmax_axis layer_norm rms_norm
    embedding attention relu2_attention where_slice_concat int_arithmetic
    bert gpt2 llama vit vit_f16
}
