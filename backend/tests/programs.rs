//! Hand-written tile programs, emitted, checked and run on the simulator.

use bytes::Bytes;
use indexmap::IndexMap;
use kiln_backend::{EmitReport, FoldEvaluator, emit_with_report};
use kiln_ir::nn::{MapKind, Port};
use kiln_ir::tile::{
    Access, BufId, BufType, Dram, DramId, DramKind, Group, IvId, Op, Program, Source, Space, Stmt, View,
};
use kiln_ir::{Context, DType, Module, Origin, Tensor, TensorType};
use kiln_machine::target::Target;
use kiln_runtime::{Options, Report, Simulator};

struct NoFolds;

impl FoldEvaluator for NoFolds {
    fn evaluate(&self, _: &Module, function: &str) -> Result<Tensor, String> {
        Err(format!("no fold `{function}`"))
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
    let (emitted, report) = emit_with_report(&module, target, &NoFolds).expect("emitted");
    let inputs = inputs.iter().map(|(n, t)| ((*n).to_owned(), (*t).clone())).collect();
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
            for i in 0..m {
                for j in 0..n {
                    let want: f32 = 2.0 * (0..k).map(|l| a[i * k + l] * w[l * n + j]).sum::<f32>();
                    assert_eq!(c[i * n + j], want, "{counts:?} {tiles:?} at {i},{j}");
                }
            }
            eprintln!("{} {counts:?} {tiles:?}: {} cycles, {report:?}", target.name, timing.cycles);
        }
    }
}
