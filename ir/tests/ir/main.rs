//! Building, printing, parsing and reading back.

mod docs;
mod rules;
mod tile_eval;

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

mod matmul {
    //! `y = x·w` as a tile program: x [8, 16], w [16, 4], two tiles of k.

    use kiln_ir::nn::Port;
    use kiln_ir::tile::*;
    use kiln_ir::{DType, Origin, TensorType};

    fn dram(name: &str, kind: DramKind, shape: [usize; 2]) -> Dram {
        Dram { name: name.into(), kind, ty: TensorType::new(DType::F32, shape), origin: Origin::default() }
    }

    fn buf(shape: [usize; 3], space: Space, part: usize) -> BufType {
        BufType { dtype: DType::F32, shape: shape.to_vec(), space, part }
    }

    pub fn program() -> Program {
        let part = Part {
            file: 0,
            file_offset: 64,
            rows: 1,
            row_bytes: 256,
            file_pitch: 256,
            offset: 0,
            pitch: 256,
        };
        // Axes: m, n, k.
        let bufs = vec![
            buf([8, 4, 1], Space::Acc, 0),
            buf([8, 1, 8], Space::Spm, 2),
            buf([1, 4, 16], Space::Spm, 2),
            buf([8, 4, 1], Space::Spm, 0),
        ];
        let whole = |i: u32| View::whole(BufId(i), &bufs[i as usize]);
        let mut half = whole(2);
        half.shape[2] = 8;
        half.ivs = vec![(IvId(0), vec![0, 0, 8])];
        let at = |strides: [i64; 3], ivs: &[(IvId, i64)]| Access {
            offset: 0,
            strides: strides.to_vec(),
            ivs: ivs.to_vec(),
        };
        let origin = Origin::node("/mm", "MatMul");
        let op = |op: Op| Stmt::Op { op, origin: origin.clone() };
        let inner = vec![
            Stmt::Alloc { buf: BufId(1), depth: 2 },
            op(Op::Load { dram: DramId(0), at: at([16, 0, 1], &[(IvId(0), 8)]), dst: whole(1) }),
            op(Op::Matmul { acc: whole(0), s: whole(1), x: half, accumulate: true }),
        ];
        let body = vec![
            Stmt::Alloc { buf: BufId(0), depth: 1 },
            Stmt::Alloc { buf: BufId(2), depth: 1 },
            op(Op::Load { dram: DramId(1), at: at([0, 1, 4], &[]), dst: whole(2) }),
            op(Op::Fill { dst: whole(0), value: 0.0 }),
            Stmt::For { iv: IvId(0), trip: 2, body: inner },
            Stmt::Alloc { buf: BufId(3), depth: 1 },
            op(Op::Map {
                kind: kiln_ir::nn::MapKind::Max,
                dst: whole(3),
                srcs: vec![Source::Number(-1.5), Source::View(whole(0))],
            }),
            op(Op::Store { src: whole(3), dram: DramId(2), at: at([4, 1, 0], &[]) }),
        ];
        Program {
            name: "main".into(),
            drams: vec![
                dram("x", DramKind::Input(Port::named("x")), [8, 16]),
                dram("w", DramKind::Weight(vec![part]), [16, 4]),
                dram("y", DramKind::Output(Port::named("y")), [8, 4]),
            ],
            groups: vec![Group { name: "g0".into(), bufs, body }],
        }
    }
}

#[test]
fn a_tile_program_survives_mlir() -> Result<(), IrError> {
    let context = Context::new();
    let mut module = Module::new(&context);
    module.add_file("model.onnx");
    let program = matmul::program();
    module.put_program(&program)?;
    let text = module.print();
    assert!(text.contains("tile.map max %2, (-1.500000e+00, %0)"), "{text}");
    let read = module.program("main")?;
    assert_eq!(read.drams, program.drams);
    let mut again = Module::parse(&context, module.print_with_locations())?;
    assert_eq!(again.program("main")?, read);
    again.put_program(&read)?;
    assert_eq!(again.program("main")?, read);
    Ok(())
}

#[test]
fn an_access_past_a_tensor_does_not_verify() {
    let mut program = matmul::program();
    program.drams[0].ty.shape = vec![8, 15];
    let error = Module::new(&Context::new()).put_program(&program).unwrap_err();
    assert_eq!(error.code(), "ir::verify");
    assert!(error.to_string().contains("reaches elements 0 to 127 of the 120 of @x"), "{error}");
}

mod passes {
    use super::*;
    use kiln_ir::pass::{OptionInfo, Pass, PassError, PassInfo, register, run_pipeline};

    /// Renames `main`, or misbehaves as told.
    struct Rename {
        to: String,
    }

    impl Pass for Rename {
        fn set_option(&mut self, _: &str, value: &str) -> Result<(), String> {
            if value.contains(' ') {
                return Err("a name has no blanks".into());
            }
            self.to = value.into();
            Ok(())
        }

        fn run(&mut self, module: &mut Module) -> Result<(), PassError> {
            match self.to.as_str() {
                "panic" => panic!("as told"),
                "fail" => Err("as told".into()),
                "swap" => {
                    *module = Module::new(&Context::new());
                    Ok(())
                }
                to => {
                    let text = module.print_with_locations().replace("@main", &format!("@{to}"));
                    let (_, offset) = module.add_blob(b"abc");
                    assert_eq!(offset, 64);
                    let context = module.context().clone();
                    let files = module.files();
                    *module = Module::parse(&context, text)?;
                    assert_eq!(module.files(), files);
                    module.add_blob(&[7; 65]);
                    Ok(())
                }
            }
        }
    }

    static PASSES: &[PassInfo] = &[PassInfo {
        name: "test-rename",
        description: "renames main",
        options: &[OptionInfo { name: "to", description: "new name", default: "other" }],
        create: || Box::new(Rename { to: String::new() }),
    }];

    fn module() -> Result<Module, IrError> {
        let mut module = Module::new(&Context::new());
        softmax(&mut module)?;
        module.add_blob(&[1, 2, 3]);
        Ok(module)
    }

    #[test]
    fn a_pipeline_runs_rust_and_mlir_passes() -> Result<(), IrError> {
        register(PASSES);
        register(PASSES);
        let mut m = module()?;
        run_pipeline(&mut m, "cse,test-rename{to=renamed},canonicalize")?;
        let f = m.func("renamed")?;
        // The two equal broadcasts' operands differ, so nothing merges; the identity is kept.
        assert_eq!(f.ops.len(), 12);
        assert!(!f.ops[11].origin.is_empty());
        assert_eq!(m.blob().len(), 65);
        Ok(())
    }

    #[test]
    fn failures_are_told_with_the_pass() -> Result<(), IrError> {
        register(PASSES);
        for (pipeline, code, text) in [
            ("test-rename{to=panic}", "ir::pass", "pass 'test-rename' panicked: as told"),
            ("test-rename{to=fail}", "ir::pass", "pass 'test-rename': as told"),
            ("test-rename{to=swap}", "ir::pass", "a module of another context"),
            ("test-rename{to='a b'}", "ir::pass", "a name has no blanks"),
            ("test-rename{from=x}", "ir::pipeline", "no such option from"),
            ("nope", "ir::pipeline", "'nope' does not refer to a registered pass"),
        ] {
            let error = run_pipeline(&mut module()?, pipeline).unwrap_err();
            assert_eq!(error.code(), code, "{pipeline}: {error}");
            assert!(error.to_string().contains(text), "{pipeline}: {error}");
        }
        Ok(())
    }
}
