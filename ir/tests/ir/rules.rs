//! Rust's rules and C++'s rules are one set: what inference accepts verifies, and keywords agree with the `.td`.

use kiln_ir::nn::{ContractDims, FuncBuilder, MapKind, OpKind, Port, ReduceKind, ScanKind, ScatterReduction};
use kiln_ir::{Context, DType, IrError, Module, Scalar, TensorType};

/// Builds one op on arguments of these types and verifies the module; gives its text.
fn build(kind: &OpKind, operands: &[TensorType]) -> Result<String, IrError> {
    let context = Context::new();
    let mut module = Module::new(&context);
    module.add_file("weights.bin");
    let args: Vec<_> = operands.iter().map(|ty| (ty.clone(), Port::default())).collect();
    let mut b = FuncBuilder::new(&context, "main", &args)?;
    let values: Vec<_> = (0..args.len()).map(|i| b.arg(i)).collect();
    let results = b.op(kind, &values)?;
    let results: Vec<_> = results.into_iter().map(|v| (v, Port::default())).collect();
    b.finish(&mut module, &results)?;
    module.verify()?;
    let func = module.func("main")?;
    assert_eq!(func.ops[0].kind, *kind, "reads back");
    Ok(module.print())
}

fn ty(dtype: DType, shape: &[usize]) -> TensorType {
    TensorType::new(dtype, shape)
}

#[test]
fn every_map_kind_is_spelled_and_typed_alike() {
    for &kind in MapKind::ALL {
        for &dtype in DType::ALL {
            let mut operands = vec![ty(dtype, &[2, 3]); kind.arity()];
            if kind == MapKind::Select {
                operands[0].dtype = DType::Bool;
            }
            match build(&OpKind::Map { kind }, &operands) {
                Ok(text) => assert!(text.contains(&format!("nn.map {kind} %")), "{text}"),
                Err(error) => {
                    // Rejected by Rust: C++ must reject it, too.
                    assert_eq!(error.code(), "ir::build", "{kind} on {dtype}: {error}");
                    let types: Vec<String> = operands.iter().map(ToString::to_string).collect();
                    let names: Vec<String> = (0..operands.len()).map(|i| format!("%{i}")).collect();
                    let args: Vec<String> =
                        names.iter().zip(&types).map(|(n, t)| format!("{n}: {t}")).collect();
                    let result = &types[types.len() - 1];
                    let text = format!(
                        "func.func @f({}) {{ %r = nn.map {kind} {} : ({}) -> {result} return }}",
                        args.join(", "),
                        names.join(", "),
                        types.join(", ")
                    )
                    .replace("%0", "%a")
                    .replace("%1", "%b");
                    let error =
                        Module::parse(&Context::new(), text).expect_err("C++ accepts what Rust rejects");
                    assert!(error.to_string().contains("is not defined on"), "{error}");
                }
            }
        }
    }
}

#[test]
fn other_kinds_are_spelled_alike() -> Result<(), IrError> {
    let x = ty(DType::F32, &[4, 5]);
    for &kind in ReduceKind::ALL {
        let text = build(&OpKind::Reduce { kind, axes: vec![1] }, std::slice::from_ref(&x))?;
        assert!(text.contains(&format!("nn.reduce {kind} ")), "{text}");
    }
    for &kind in ScanKind::ALL {
        let op = OpKind::Scan { kind, axis: 0, exclusive: true, reverse: false };
        let text = build(&op, std::slice::from_ref(&x))?;
        assert!(text.contains(&format!("nn.scan {kind} ")), "{text}");
    }
    for &reduction in ScatterReduction::ALL {
        let operands = [x.clone(), ty(DType::I32, &[3, 1]), ty(DType::F32, &[3, 5])];
        let text = build(&OpKind::ScatterNd { reduction }, &operands)?;
        assert!(text.contains(&format!("nn.scatter_nd {reduction} ")), "{text}");
    }
    Ok(())
}

#[test]
fn constants_of_every_dtype_read_back() -> Result<(), IrError> {
    for &dtype in DType::ALL {
        for elements in [0, 1, 4] {
            let bytes: Vec<u8> = (0..elements * dtype.size_bytes())
                .map(|i| if dtype == DType::Bool { u8::from(i % 3 == 0) } else { i as u8 })
                .collect();
            build(&OpKind::Constant { ty: ty(dtype, &[elements]), bytes: bytes.into() }, &[])?;
        }
        build(
            &OpKind::Weight {
                ty: ty(dtype, &[3]),
                file: 0,
                offset: 8,
                length: 3 * dtype.size_bytes() as u64,
            },
            &[],
        )?;
    }
    Ok(())
}

#[test]
fn ops_that_inference_accepts_verify() -> Result<(), IrError> {
    let x = ty(DType::F32, &[2, 3, 4]);
    let i = |shape: &[usize]| ty(DType::I32, shape);
    let dims =
        ContractDims { lhs_batch: vec![0], rhs_batch: vec![1], lhs_contract: vec![2], rhs_contract: vec![0] };
    let conv = OpKind::Conv {
        strides: vec![2, 1],
        pads_low: vec![1, 0],
        pads_high: vec![0, 2],
        dilations: vec![1, 2],
        groups: 2,
    };
    let nan = Scalar::float(f64::NAN);
    #[rustfmt::skip] // a table
    let cases: Vec<(OpKind, Vec<TensorType>)> = vec![
        (OpKind::Cast { dtype: DType::F8E4M3 }, vec![x.clone()]),
        (OpKind::Contract { dims: dims.clone(), acc: DType::F32, dtype: DType::BF16 }, vec![x.clone(), ty(DType::F32, &[4, 2, 5])]),
        (OpKind::Contract { dims, acc: DType::I32, dtype: DType::I32 }, vec![ty(DType::I8, &[2, 3, 4]), ty(DType::U8, &[4, 2, 5])]),
        (OpKind::Reshape { shape: vec![24] }, vec![x.clone()]),
        (OpKind::Transpose { perm: vec![2, 0, 1] }, vec![x.clone()]),
        (OpKind::Broadcast { dims: vec![0, 1, 3], shape: vec![2, 3, 7, 4] }, vec![x.clone()]),
        (OpKind::Slice { offsets: vec![0, 1, 0], sizes: vec![2, 0, 2], strides: vec![1, 1, 3] }, vec![x.clone()]),
        (OpKind::Pad { low: vec![0, 1, 0], high: vec![0, 0, 2], value: nan }, vec![x.clone()]),
        (OpKind::Concat { axis: 1 }, vec![x.clone(), ty(DType::F32, &[2, 1, 4])]),
        (OpKind::Reverse { axes: vec![0, 2] }, vec![x.clone()]),
        (OpKind::Iota { ty: i(&[3, 4]), axis: 1 }, vec![]),
        (OpKind::Gather { axis: 1 }, vec![x.clone(), i(&[5, 6])]),
        (OpKind::GatherElements { axis: 1 }, vec![x.clone(), i(&[2, 9, 4])]),
        (OpKind::GatherNd { batch_dims: 1 }, vec![x.clone(), i(&[2, 5, 1])]),
        (OpKind::ScatterElements { axis: 2, reduction: ScatterReduction::Max }, vec![x.clone(), i(&[1, 3, 9]), ty(DType::F32, &[1, 3, 9])]),
        (OpKind::TopK { k: 2, axis: 1, largest: false }, vec![x.clone()]),
        (conv, vec![ty(DType::F16, &[1, 4, 6, 7]), ty(DType::F16, &[6, 2, 3, 2])]),
    ];
    for (kind, operands) in &cases {
        build(kind, operands)?;
    }
    Ok(())
}
