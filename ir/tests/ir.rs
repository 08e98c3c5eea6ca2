//! Building, printing, parsing and reading back.

use kiln_ir::nn::{ContractDims, FuncBuilder, MapKind, Port, ReduceKind};
use kiln_ir::{Context, DType, IrError, Module, Origin, TensorType};

/// `softmax(x·w, axis 1)` with a weight and a scalar.
fn softmax(module: &mut Module) -> Result<(), IrError> {
    let context = module.context().clone();
    let file = module.add_file("model.onnx");
    let x = (TensorType::new(DType::F32, [4, 8]), Port::named("x"));
    let mut b = FuncBuilder::new(&context, "main", &[x])?;
    b.set_origin(&Origin::node("/mm", "MatMul"));
    let w = b.weight(file, 16, &[8, 3], DType::F32)?;
    let s = b.contract(b.arg(0), w, &ContractDims::matmul(0))?;
    b.set_origin(&Origin::fuse([&Origin::node("/mm", "MatMul"), &Origin::node("/sm", "Softmax")]));
    let half = b.splat(DType::F32, 0.5, &[4, 3])?;
    let s = b.map(MapKind::Mul, &[s, half])?;
    let max = b.reduce(ReduceKind::Max, s, &[1])?;
    let max = b.broadcast(max, &[0], &[4, 3])?;
    let centred = b.map(MapKind::Sub, &[s, max])?;
    let e = b.map(MapKind::Exp, &[centred])?;
    let sum = b.reduce(ReduceKind::Sum, e, &[1])?;
    let sum = b.broadcast(sum, &[0], &[4, 3])?;
    let y = b.map(MapKind::Div, &[e, sum])?;
    b.finish(module, &[(y, Port::named("y"))])
}

#[test]
fn built_ir_verifies_and_survives_text_and_bytecode() -> Result<(), IrError> {
    let context = Context::new();
    let mut module = Module::new(&context);
    softmax(&mut module)?;
    module.verify()?;
    let built = module.func("main")?;
    assert_eq!(built.ops.len(), 12);
    assert_eq!(built.results[0].1.name, "y");
    let origin = &built.ops[11].origin;
    assert_eq!(origin.nodes().collect::<Vec<_>>(), [("/mm", "MatMul"), ("/sm", "Softmax")]);
    for source in [module.print_with_locations().into_bytes(), module.bytecode()] {
        let again = Module::parse(&context, source)?;
        assert_eq!(again.func("main")?, built);
        assert_eq!(again.files(), ["model.onnx"]);
        assert_eq!(again.print_with_locations(), module.print_with_locations());
    }
    Ok(())
}

#[test]
fn a_module_outlives_the_last_visible_context() -> Result<(), IrError> {
    let mut module = Module::new(&Context::new());
    softmax(&mut module)?;
    module.verify()
}

#[test]
fn rules_are_told_with_shapes_and_origin() -> Result<(), IrError> {
    let context = Context::new();
    let args = [
        (TensorType::new(DType::F32, [4, 8]), Port::named("x")),
        (TensorType::new(DType::F32, [7, 3]), Port::named("w")),
    ];
    let mut b = FuncBuilder::new(&context, "main", &args)?;
    b.set_origin(&Origin::node("/mm", "MatMul"));
    let error = b.contract(b.arg(0), b.arg(1), &ContractDims::matmul(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "nn.contract: contracted extents differ: 8 and 7 (tensor<4x8xf32> and tensor<7x3xf32>) (from /mm (MatMul))"
    );
    let error = Module::parse(&context, "func.func @main(%x: tensor<2xf32>) {\n  nn.oops\n}").unwrap_err();
    assert_eq!(error.code(), "ir::parse");
    assert!(error.to_string().contains(":2:"), "{error}");
    Ok(())
}
