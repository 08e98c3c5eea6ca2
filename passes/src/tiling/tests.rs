//! The solver against hand-made problems and an exhaustive search.

use super::machine::Machine;
use super::plan::{Item, Loop, Step, nests};
use super::problem::{Access, AxisSet, Facts, In, Op, OpKind, Problem, Space, Tensor};
use super::solve::{Effort, NoSchedule, solve};
use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_ir::types::DType;
use kiln_machine::target::Target;

fn machine(spm_bytes: u64) -> Machine {
    let mut target = Target::preset("core").expect("preset");
    target.set("spm_bytes", &spm_bytes.to_string()).expect("a size");
    Machine::new(&target)
}

fn tensor(extents: &[u64], axes: &[usize], space: Space, moves: (bool, bool)) -> Tensor {
    let mut shape = vec![1; extents.len()];
    let mut strides = vec![0; extents.len()];
    let mut stride = 1;
    for &a in axes.iter().rev() {
        shape[a] = extents[a];
        strides[a] = stride;
        stride *= extents[a] as i64;
    }
    let access = Access { strides, dtype: DType::F32 };
    Tensor {
        shape,
        dtype: DType::F32,
        space,
        load: moves.0.then(|| access.clone()),
        store: moves.1.then_some(access),
    }
}

/// out[m, n] = Σ_k x[m, k]·w[k, n]
fn linear(m: u64, k: u64, n: u64) -> Problem {
    let e = vec![m, k, n, 1];
    let tensors = vec![
        tensor(&e, &[0, 1], Space::Spm, (true, false)),
        tensor(&e, &[1, 2], Space::Spm, (true, false)),
        tensor(&e, &[0, 2], Space::Acc, (false, false)),
        tensor(&e, &[0, 2], Space::Spm, (false, true)),
    ];
    let ops = vec![
        Op { kind: OpKind::Contract, ins: vec![In::Tensor(0), In::Tensor(1)], outs: vec![2] },
        Op { kind: OpKind::Map(MapKind::Identity), ins: vec![In::Tensor(2)], outs: vec![3] },
    ];
    Problem { extents: e, tensors, ops }
}

/// y[r, c] = x[r, c] / Σ_c x[r, c]
fn row_sum(r: u64, c: u64) -> Problem {
    let e = vec![r, c, 1];
    let tensors = vec![
        tensor(&e, &[0, 1], Space::Spm, (true, false)),
        tensor(&e, &[0], Space::Spm, (false, false)),
        tensor(&e, &[0, 1], Space::Spm, (false, true)),
    ];
    let ops = vec![
        Op { kind: OpKind::Reduce(ReduceKind::Sum), ins: vec![In::Tensor(0)], outs: vec![1] },
        Op { kind: OpKind::Map(MapKind::Div), ins: vec![In::Tensor(0), In::Tensor(1)], outs: vec![2] },
    ];
    Problem { extents: e, tensors, ops }
}

fn loops(steps: &[Step]) -> Vec<(usize, u64, bool)> {
    steps
        .iter()
        .flat_map(|s| match s {
            Step::Loop { axis, tile, accumulates, body, .. } => {
                let mut all = vec![(*axis, *tile, *accumulates)];
                all.extend(loops(body));
                all
            }
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn a_linear_layer_fits_and_moves_what_it_must() {
    let p = linear(512, 768, 3072);
    let s = solve(&p, &machine(24 << 20), Effort::THOROUGH).expect("fits");
    let compulsory = 4 * (512 * 768 + 768 * 3072 + 512 * 3072);
    assert!(s.cost.load.dram_bytes >= compulsory);
    assert!(s.cost.load.dram_bytes <= compulsory * 2, "{} of {compulsory}", s.cost.load.dram_bytes);
    let array = s.cost.load.busy[super::machine::Engine::Mxu as usize];
    assert!(s.cost.ticks < array * 11 / 10, "the array is kept busy: {:?}", s.cost);
}

#[test]
fn tight_memory_accumulates_over_blocks_of_k() {
    let p = linear(300, 70_000, 20);
    let s = solve(&p, &machine(64 << 10), Effort::THOROUGH).expect("fits");
    assert!(s.cost.spm_bytes <= 512);
    assert!(loops(&s.steps).iter().any(|l| l.0 == 1 && l.2), "{:?}", loops(&s.steps));
}

#[test]
fn a_row_that_is_used_twice_stays_whole_or_does_not_fit() {
    let fits = solve(&row_sum(300, 1000), &machine(24 << 20), Effort::THOROUGH).expect("fits");
    assert!(loops(&fits.steps).iter().all(|l| l.0 == 0));
    let error =
        solve(&row_sum(300, 1000), &machine(64 << 10), Effort::THOROUGH).expect_err("rows are too long");
    assert!(matches!(error, NoSchedule::TooLarge { missing_bytes, .. } if missing_bytes > 0), "{error:?}");
}

/// y[m, n] = Σ_j relu(Σ_k x[m, k]·w[k, j])·v[j, n]
pub(super) fn two_products(m: u64, k: u64, j: u64, n: u64) -> Problem {
    let e = vec![m, k, j, n, 1];
    let tensors = vec![
        tensor(&e, &[0, 1], Space::Spm, (true, false)),
        tensor(&e, &[1, 2], Space::Spm, (true, false)),
        tensor(&e, &[0, 2], Space::Acc, (false, false)),
        tensor(&e, &[0, 2], Space::Spm, (false, false)),
        tensor(&e, &[2, 3], Space::Spm, (true, false)),
        tensor(&e, &[0, 3], Space::Acc, (false, false)),
        tensor(&e, &[0, 3], Space::Spm, (false, true)),
    ];
    let op = |kind: OpKind, ins: &[usize], out: usize| Op {
        kind,
        ins: ins.iter().map(|&t| In::Tensor(t)).collect(),
        outs: vec![out],
    };
    let ops = vec![
        op(OpKind::Contract, &[0, 1], 2),
        op(OpKind::Map(MapKind::Relu), &[2], 3),
        op(OpKind::Contract, &[3, 4], 5),
        op(OpKind::Map(MapKind::Identity), &[5], 6),
    ];
    Problem { extents: e, tensors, ops }
}

#[test]
fn two_products_overlap_with_their_weights() {
    let problem = two_products(128, 768, 3072, 768);
    let machine = machine(24 << 20);
    for effort in [Effort::QUICK, Effort::THOROUGH] {
        let solution = solve(&problem, &machine, effort).expect("fits");
        let array = solution.cost.load.busy[super::machine::Engine::Mxu as usize];
        assert!(solution.cost.ticks < array * 5 / 4, "{:?}\n{}", solution.cost, solution.describe());
    }
}

#[test]
fn loops_that_no_op_shares_stand_side_by_side() {
    let facts = Facts::new(&two_products(128, 768, 3072, 768));
    let (m, k, j, n) = (0, 1, 2, 3);
    let of = |axes: &[usize]| {
        let loops: Vec<Loop> = axes.iter().map(|&axis| Loop { axis, tile: 1 }).collect();
        let found = nests(&facts, AxisSet::default().with(m), &loops);
        let axes = |l: &[Loop]| l.iter().map(|l| l.axis).collect::<Vec<_>>();
        found.into_iter().map(|nest| (axes(&nest.loops), nest.items)).collect::<Vec<_>>()
    };
    let all: Vec<Item> = (0..4).map(Item::Op).collect();
    // the first product sums over k, the second makes n; what stands between runs in neither
    let apart = of(&[m, k, n]);
    assert_eq!(apart[0], (vec![m], vec![Item::Nest(1), Item::Op(1), Item::Nest(2)]));
    assert_eq!(apart[1], (vec![k], vec![Item::Op(0)]));
    assert_eq!(apart[2], (vec![n], vec![Item::Op(2), Item::Op(3)]));
    // j is in both
    assert_eq!(of(&[m, j, k]), [(vec![m, j, k], all.clone())]);
    assert_eq!(of(&[m, j, k, n]), [(vec![m, j, k, n], all)]);
}
