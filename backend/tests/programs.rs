//! Hand-written tile programs, emitted, checked and run on the simulator.

use bytes::Bytes;
use indexmap::IndexMap;
use kiln_backend::{EmitReport, FoldEvaluator, Layout, emit_with_report};
use kiln_ir::eval::{self, Files};
use kiln_ir::nn::{Func, MapKind, Port, ReduceKind};
use kiln_ir::tile::{
    Access, Affine, BufId, BufType, Dram, DramId, DramKind, Group, IvId, Op, Program, Source, Space, Stmt,
    View,
};
use kiln_ir::{Context, DType, Module, Origin, Tensor, TensorType};
use kiln_machine::target::Target;
use kiln_runtime::{Options, Report, Simulator};

struct NoFolds;

impl FoldEvaluator for NoFolds {
    fn evaluate(&self, function: &Func, _: &Files) -> Result<Tensor, String> {
        Err(format!("no fold `{}`", function.name))
    }
    fn contents(&self, _: &Module) -> Files {
        Files::default()
    }
    fn file(&self, path: &str) -> Result<Bytes, String> {
        Err(format!("no file `{path}`"))
    }
}

fn dram(name: &str, kind: DramKind, shape: &[usize]) -> Dram {
    let ty = TensorType::new(DType::F32, shape);
    Dram { name: name.into(), kind, ty, origin: Origin::node(name, "Tensor") }
}

fn port(name: &str) -> Port {
    Port { name: name.into(), ..Port::default() }
}

fn buf(shape: &[usize], space: Space, part: usize) -> BufType {
    BufType { dtype: DType::F32, shape: shape.to_vec(), space, part }
}

fn op(name: &str, op: Op) -> Stmt {
    Stmt::Op { op, origin: Origin::node(name, "Test") }
}

fn at(offset: i64, strides: &[i64], ivs: &[(u32, i64)]) -> Access {
    Access { offset, strides: strides.to_vec(), ivs: ivs.iter().map(|(i, c)| (IvId(*i), *c)).collect() }
}

fn whole(b: u32, shape: &[usize]) -> View {
    View { buf: BufId(b), offsets: vec![0; shape.len()], shape: shape.to_vec(), ivs: Vec::new() }
}

/// Small multiples of 1/8, so that sums are exact and any order of them is right.
fn numbers(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let n: usize = shape.iter().product();
    let data: Vec<u8> = (0..n)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (((state >> 33) % 33) as f32 / 8.0 - 2.0).to_le_bytes()
        })
        .collect();
    Tensor { dtype: DType::F32, shape: shape.to_vec(), data: data.into() }
}

fn floats(t: &Tensor) -> Vec<f32> {
    t.data.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

fn run(
    program: &Program,
    target: &Target,
    inputs: &[(&str, &Tensor)],
) -> (IndexMap<String, Tensor>, Report, EmitReport) {
    let context = Context::new();
    let mut module = Module::new(&context);
    module.put_program(program).expect("a valid program");
    let (emitted, report) = emit_with_report(&module, target, &NoFolds, &Layout::default()).expect("emitted");
    let inputs = inputs.iter().map(|(n, t)| ((*n).to_owned(), (*t).clone())).collect();
    let checked = kiln_backend::check::check(&emitted, target).unwrap_or_else(|e| panic!("{e}"));
    assert!(checked.races_complete);
    let mut simulator = Simulator::new(&emitted, target, Options::default()).expect("loaded");
    let (outputs, timing) = simulator.run(&inputs).unwrap_or_else(|e| panic!("{e:?}"));
    (outputs, timing, report)
}

fn targets() -> Vec<Target> {
    ["edge", "core"].iter().map(|n| Target::preset(n).expect("a preset")).collect()
}

/// c[m, n] = a[m, k] · w[k, n] in tiles, k in blocks accumulated, with rings two deep.
fn tiled_matmul(p: usize, [mt, kt, nt]: [usize; 3], [tm, tk, tn]: [usize; 3], transposed_a: bool) -> Program {
    let (m, k, n) = (mt * tm, kt * tk, nt * tn);
    let _ = p;
    let (mi, ki, ni) = (0u32, 1u32, 2u32);
    // axes: m, k, n
    let a = [tm, tk, 1];
    let w = [1, tk, tn];
    let c = [tm, 1, tn];
    let a_part = if transposed_a { 0 } else { 1 };
    let bufs = vec![
        buf(&a, Space::Spm, a_part),
        buf(&w, Space::Spm, 1),
        buf(&c, Space::Acc, 0),
        buf(&c, Space::Spm, 0),
        buf(&a, Space::Spm, a_part),
        buf(&w, Space::Spm, 1),
    ];
    let (ks, ns) = (k as i64, n as i64);
    let (tm_, tk_, tn_) = (tm as i64, tk as i64, tn as i64);
    let step = |first: i64, a_buf: u32, w_buf: u32, accumulate: bool| {
        let k_terms = |c: i64| if accumulate { vec![(ki, c)] } else { vec![] };
        let mut a_ivs = vec![(mi, tm_ * ks)];
        a_ivs.extend(k_terms(tk_));
        let mut w_ivs = vec![(ni, tn_)];
        w_ivs.extend(k_terms(tk_ * ns));
        vec![
            Stmt::Alloc { buf: BufId(a_buf), depth: 2 },
            Stmt::Alloc { buf: BufId(w_buf), depth: 2 },
            op(
                "load a",
                Op::Load { dram: DramId(0), at: at(first * tk_, &[ks, 1, 0], &a_ivs), dst: whole(a_buf, &a) },
            ),
            op(
                "load w",
                Op::Load {
                    dram: DramId(1),
                    at: at(first * tk_ * ns, &[0, ns, 1], &w_ivs),
                    dst: whole(w_buf, &w),
                },
            ),
            op(
                "matmul",
                Op::Matmul { acc: whole(2, &c), s: whole(a_buf, &a), x: whole(w_buf, &w), accumulate },
            ),
        ]
    };
    let mut inner = vec![Stmt::Alloc { buf: BufId(2), depth: 2 }, Stmt::Alloc { buf: BufId(3), depth: 2 }];
    inner.extend(step(0, 0, 1, false));
    if kt > 1 {
        inner.push(Stmt::For { iv: IvId(ki), trip: kt - 1, body: step(1, 4, 5, true) });
    }
    inner.push(op(
        "evict",
        Op::Map {
            kind: MapKind::Mul,
            dst: whole(3, &c),
            srcs: vec![Source::View(whole(2, &c)), Source::Number(2.0)],
        },
    ));
    inner.push(op(
        "store",
        Op::Store {
            src: whole(3, &c),
            dram: DramId(2),
            at: at(0, &[ns, 0, 1], &[(mi, tm_ * ns), (ni, tn_)]),
        },
    ));
    let body = vec![Stmt::For {
        iv: IvId(mi),
        trip: mt,
        body: vec![Stmt::For { iv: IvId(ni), trip: nt, body: inner }],
    }];
    Program {
        name: "main".into(),
        drams: vec![
            dram("a", DramKind::Input(port("a")), &[m, k]),
            dram("w", DramKind::Input(port("w")), &[k, n]),
            dram("c", DramKind::Output(port("c")), &[m, n]),
        ],
        groups: vec![Group { name: "g0".into(), bufs, body }],
    }
}

#[test]
fn a_tiled_matmul_is_exact_with_either_stationary_load() {
    for target in targets() {
        let p = target.partitions as usize;
        for (counts, tiles, transposed) in [
            ([1, 1, 1], [5, 7, 3], true),
            ([2, 3, 2], [p, p, 40], true),
            ([2, 3, 2], [p, p, 40], false),
            ([1, 4, 3], [p + 9, 2 * p + 5, 300], true),
        ] {
            let program = tiled_matmul(p, counts, tiles, transposed);
            let [m, k, n] = [0, 1, 2].map(|i| counts[i] * tiles[i]);
            let (a, w) = (numbers(&[m, k], 1), numbers(&[k, n], 2));
            let (outputs, timing, report) = run(&program, &target, &[("a", &a), ("w", &w)]);
            let (a, w, c) = (floats(&a), floats(&w), floats(&outputs["c"]));
            for i in (0..m).step_by(3) {
                for j in (0..n).step_by(7) {
                    let row = &a[i * k..(i + 1) * k];
                    let want = 2.0 * row.iter().enumerate().map(|(l, x)| x * w[l * n + j]).sum::<f32>();
                    assert_eq!(c[i * n + j], want, "{counts:?} {tiles:?} at {i},{j}");
                }
            }
            assert!(timing.cycles > 0 && report.semaphores > 0);
        }
    }
}

/// y[r, c] = softmax of the causal part of row idx[r] of x; rows in tiles on partitions, the last one short.
fn gathered_softmax(rows: usize, cols: usize, tile: usize) -> Program {
    let (count, rest) = (rows / tile, rows % tile);
    let mut bufs = Vec::new();
    let mut body = Vec::new();
    let mut part = |height: usize, first: usize, iv: Option<u32>| {
        let full = [height, cols];
        let column = [height, 1];
        let base = bufs.len() as u32;
        bufs.push(BufType { dtype: DType::I32, ..buf(&column, Space::Spm, 0) });
        for shape in [full, full, column, full, full, column] {
            bufs.push(buf(&shape, Space::Spm, 0));
        }
        let v = |i: u32| whole(base + i, if matches!(i, 0 | 3 | 6) { &column } else { &full });
        let steps = |by: i64| iv.map(|i| vec![(i, by)]).unwrap_or_default();
        let map = |kind, dst, srcs: Vec<Source>| op("map", Op::Map { kind, dst, srcs });
        let (x, masked, high, shifted, e, sum) = (1, 2, 3, 4, 5, 6);
        let table = at(0, &[0, 1], &[]);
        let form = Affine {
            base: first as i64,
            axes: vec![1, -1],
            ivs: steps(tile as i64).into_iter().map(|(i, c)| (IvId(i), c)).collect(),
        };
        let mut ops: Vec<Stmt> = (0..7).map(|i| Stmt::Alloc { buf: BufId(base + i), depth: 2 }).collect();
        ops.extend([
            op(
                "ids",
                Op::Load { dram: DramId(1), at: at(first as i64, &[1, 0], &steps(tile as i64)), dst: v(0) },
            ),
            op(
                "gather",
                Op::Gather {
                    dram: DramId(0),
                    at: table,
                    idx: v(0),
                    row_stride: cols as i64,
                    rows: 50,
                    dst: v(x),
                },
            ),
            op("mask", Op::Mask { dst: v(masked), src: v(x), form, fill: f64::NEG_INFINITY }),
            op("max", Op::Reduce { kind: ReduceKind::Max, dst: v(high), src: v(masked), accumulate: false }),
            map(MapKind::Sub, v(shifted), vec![Source::View(v(masked)), Source::View(v(high))]),
            map(MapKind::Exp, v(e), vec![Source::View(v(shifted))]),
            op("sum", Op::Reduce { kind: ReduceKind::Sum, dst: v(sum), src: v(e), accumulate: false }),
            map(MapKind::Div, v(x), vec![Source::View(v(e)), Source::View(v(sum))]),
            op(
                "store",
                Op::Store {
                    src: v(x),
                    dram: DramId(2),
                    at: at((first * cols) as i64, &[cols as i64, 1], &steps((tile * cols) as i64)),
                },
            ),
        ]);
        ops
    };
    if count > 0 {
        let ops = part(tile, 0, Some(0));
        body.push(Stmt::For { iv: IvId(0), trip: count, body: ops });
    }
    if rest > 0 {
        body.extend(part(rest, count * tile, None));
    }
    let mut ids = dram("ids", DramKind::Input(port("ids")), &[rows]);
    ids.ty.dtype = DType::I32;
    Program {
        name: "main".into(),
        drams: vec![
            dram("x", DramKind::Input(port("x")), &[50, cols]),
            ids,
            dram("y", DramKind::Output(port("y")), &[rows, cols]),
        ],
        groups: vec![Group { name: "g0".into(), bufs, body }],
    }
}

#[test]
fn gather_mask_and_softmax_agree_with_the_evaluator() {
    let mut target = Target::preset("edge").expect("a preset");
    for spm in ["2M", "128K"] {
        target.set("spm_bytes", spm).expect("legal");
        let (rows, cols) = (150, 90);
        let program = gathered_softmax(rows, cols, 40);
        let x = numbers(&[50, cols], 3);
        let data: Vec<u8> = (0..rows as i32).flat_map(|i| (i * 7 % 50).to_le_bytes()).collect();
        let ids = Tensor { dtype: DType::I32, shape: vec![rows], data: data.into() };
        let (outputs, _, report) = run(&program, &target, &[("x", &x), ("ids", &ids)]);
        let context = Context::new();
        let inputs = IndexMap::from([("x".to_owned(), x), ("ids".to_owned(), ids)]);
        let want =
            eval::tile::run(&Module::new(&context), &program, &Files::default(), &inputs).expect("evaluated");
        for (i, (got, want)) in floats(&outputs["y"]).iter().zip(floats(&want["y"])).enumerate() {
            assert!((got - want).abs() < 1e-6, "element {i}: {got}, not {want}");
        }
        let dropped: u32 = report.packings.iter().map(|p| p.slots_dropped).sum();
        assert_eq!(dropped > 0, spm == "128K", "{:?}", report.packings);
    }
}

/// Each file holds a tile program and, after `// EXPECT`, the streams it becomes on `edge`. `KILN_BLESS=1` writes them.
#[test]
fn golden_programs_become_their_streams() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testsuite/golden/backend");
    let target = Target::preset("edge").expect("a preset");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the goldens").flatten().map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "mlir"));
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a golden");
        let (source, want) = text.split_once("// EXPECT\n").unwrap_or((&text, ""));
        let context = Context::new();
        let module = Module::parse(&context, source).expect("a module");
        let (program, _) = emit_with_report(&module, &target, &NoFolds, &Layout::default()).expect("emitted");
        kiln_backend::check::check(&program, &target).expect("a sound program");
        let mut got = String::new();
        for segment in &program.segments {
            let kiln_machine::program::Segment::Device(device) = segment else { continue };
            for (engine, stream) in &device.streams {
                got += &format!("// {engine}:\n");
                let mut pc = 0;
                while pc < stream.words.len() {
                    let (inst, words) =
                        kiln_machine::isa::Inst::decode(&stream.words[pc..]).expect("an instruction");
                    got += &format!("//   {pc}: {inst}\n");
                    pc += words;
                }
            }
        }
        if std::env::var_os("KILN_BLESS").is_some() {
            std::fs::write(&path, format!("{source}// EXPECT\n{got}")).expect("written");
        } else {
            assert_eq!(
                got,
                want,
                "{}: bless with KILN_BLESS=1 cargo test -p kiln-backend golden",
                path.display()
            );
        }
    }
}
