//! The solver against brute force: every tile of every axis, every order of every set of loops, every level at which a
//! loaded tensor can be held, with one buffer or two. It shares the meaning of a schedule with the solver (its plan,
//! its memory, its cost), and none of the choices of what to look at.

use super::cost::{self, Sharing};
use super::machine::Machine;
use super::partition::{Assignment, assignments};
use super::plan::{Item, Loop, Nest, Schedule, Step, plan};
use super::problem::{Access, Facts, In, Op, OpKind, Problem, Space, Tensor};
use super::solve::{Effort, solve};
use super::tests::two_products;
use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_ir::types::DType;
use kiln_machine::target::Target;

/// A machine of 4 partitions with this much scratchpad and little latency, so that tiles matter.
fn machine(spm_bytes: u64) -> Machine {
    let mut target = Target::preset("edge").expect("a preset");
    let spm = spm_bytes.to_string();
    let small = [
        ("partitions", "4"),
        ("row_groups", "1"),
        ("spm_bytes", spm.as_str()),
        ("acc_bytes", "1024"),
        ("acc_banks", "2"),
        ("dma_latency_ns", "20"),
        ("dma_issue_cycles", "4"),
        ("dma_queue_bytes_per_second", "1GB/s"),
        ("dram_burst_bytes", "4"),
        ("vec_startup_cycles", "2"),
        ("act_startup_cycles", "2"),
    ];
    target.set_all(small).expect("values that go together");
    Machine::new(&target)
}

fn tensor(extents: &[u64], axes: &[usize], space: Space, loaded: bool, stored: bool) -> Tensor {
    let (mut shape, mut strides) = (vec![1; extents.len()], vec![0; extents.len()]);
    let mut stride = 1;
    for &a in axes.iter().rev() {
        (shape[a], strides[a]) = (extents[a], stride);
        stride *= extents[a] as i64;
    }
    let access = Access { strides, dtype: DType::F32 };
    Tensor {
        shape,
        dtype: DType::F32,
        space,
        load: loaded.then(|| access.clone()),
        store: stored.then_some(access),
    }
}

fn op(kind: OpKind, ins: &[usize], out: usize) -> Op {
    Op { kind, ins: ins.iter().map(|&t| In::Tensor(t)).collect(), outs: vec![out] }
}

/// y[m, n] = relu(Σ_k x[m, k]·w[k, n])
fn linear(m: u64, k: u64, n: u64) -> Problem {
    let e = vec![m, k, n, 1];
    let tensors = vec![
        tensor(&e, &[0, 1], Space::Spm, true, false),
        tensor(&e, &[1, 2], Space::Spm, true, false),
        tensor(&e, &[0, 2], Space::Acc, false, false),
        tensor(&e, &[0, 2], Space::Spm, false, true),
    ];
    let ops = vec![op(OpKind::Contract, &[0, 1], 2), op(OpKind::Map(MapKind::Relu), &[2], 3)];
    Problem { extents: e, tensors, ops }
}

/// y[r, c] = x[r, c] / Σ_c x[r, c]
fn row_sum(r: u64, c: u64) -> Problem {
    let e = vec![r, c, 1];
    let tensors = vec![
        tensor(&e, &[0, 1], Space::Spm, true, false),
        tensor(&e, &[0], Space::Spm, false, false),
        tensor(&e, &[0, 1], Space::Spm, false, true),
    ];
    let ops = vec![op(OpKind::Reduce(ReduceKind::Sum), &[0], 1), op(OpKind::Map(MapKind::Div), &[0, 1], 2)];
    Problem { extents: e, tensors, ops }
}

/// Least price over every schedule of one nest, and how many fit.
fn least(
    problem: &Problem,
    machine: &Machine,
    tiles: &dyn Fn(u64) -> Vec<u64>,
    sharing: Sharing,
) -> (Option<u64>, u64) {
    let (mut best, mut count) = (None, 0);
    for assignment in assignments(problem, machine, 1000) {
        let p = &assignment.problem;
        let facts = Facts::new(p);
        let mut orders = Vec::new();
        let axes: Vec<usize> = (0..p.extents.len()).filter(|&a| p.extents[a] > 1).collect();
        loops(p, &axes, tiles, &mut Vec::new(), &mut orders);
        for order in orders {
            for (ring, acc_ring) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
                for hold in holds(&assignment, order.len()) {
                    let schedule = Schedule {
                        hold,
                        nests: vec![Nest {
                            loops: order.clone(),
                            items: (0..p.ops.len()).map(Item::Op).collect(),
                        }],
                        part: assignment.part.clone(),
                        stationary: assignment.stationary.clone(),
                        ring,
                        acc_ring,
                    };
                    let Some(steps) = plan(p, &facts, &schedule) else { continue };
                    if !whole_chunks(p, &schedule, machine.partitions, &steps, &mut Vec::new()) {
                        continue;
                    }
                    let memory = cost::memory(p, &facts, &schedule, machine, &steps, sharing);
                    if memory.0 > machine.spm_bytes || memory.1 > machine.acc_bytes {
                        continue;
                    }
                    count += 1;
                    let price = cost::cost(p, &facts, &schedule, machine, &steps, memory, u64::MAX).price();
                    best = Some(best.map_or(price, |b: u64| b.min(price)));
                }
            }
        }
    }
    (best, count)
}

/// Every ordered choice of loops over some of `axes`, with every tile below the extent.
fn loops(
    p: &Problem,
    axes: &[usize],
    tiles: &dyn Fn(u64) -> Vec<u64>,
    chosen: &mut Vec<Loop>,
    found: &mut Vec<Vec<Loop>>,
) {
    found.push(chosen.clone());
    for &axis in axes {
        if chosen.iter().any(|l| l.axis == axis) {
            continue;
        }
        for tile in tiles(p.extents[axis]) {
            chosen.push(Loop { axis, tile });
            loops(p, axes, tiles, chosen, found);
            chosen.pop();
        }
    }
}

/// Every level of every loaded tensor; the others have none.
fn holds(a: &Assignment, depth: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for tensor in &a.problem.tensors {
        let levels = if tensor.load.is_some() { 0..=depth } else { depth..=depth };
        all = all
            .iter()
            .flat_map(|hold| levels.clone().map(|level| [hold.as_slice(), &[level]].concat()))
            .collect();
    }
    all
}

/// A loop moves along the partition axis of a buffer that outlives it by whole chunks of the partitions only.
fn whole_chunks(p: &Problem, s: &Schedule, partitions: u64, steps: &[Step], open: &mut Vec<usize>) -> bool {
    let before = open.len();
    let mut fine = true;
    for step in steps {
        match step {
            Step::Alloc { tensor, .. } => open.push(*tensor),
            Step::Loop { axis, tile, body, .. } => {
                let moves = open.iter().any(|&t| s.part[t] == *axis && p.tensors[t].shape[*axis] > 1);
                fine &= !moves || tile.is_multiple_of(partitions);
                fine &= whole_chunks(p, s, partitions, body, open);
            }
            _ => {}
        }
    }
    open.truncate(before);
    fine
}

fn every(extent: u64) -> Vec<u64> {
    (1..extent).collect()
}

/// Of long axes only some: 1, halves, and multiples of the partitions.
fn some(extent: u64) -> Vec<u64> {
    (1..extent).filter(|t| *t == 1 || t.is_multiple_of(4) || *t == extent.div_ceil(2)).collect()
}

/// With the effort that groups are lowered with, a schedule may be so much worse than the best of one nest, in percent.
const SLACK: u64 = 6;

/// With all its effort the solver finds what brute force finds, or better: it knows more schedules than those of one
/// nest. Where brute force finds nothing, neither does the solver.
fn check(name: &str, problem: &Problem, spm_bytes: u64, tiles: &dyn Fn(u64) -> Vec<u64>) {
    let machine = machine(spm_bytes);
    // Buffers share bytes only where nothing fits otherwise.
    let apart = least(problem, &machine, tiles, Sharing::Apart);
    let (best, count) =
        if apart.0.is_some() { apart } else { least(problem, &machine, tiles, Sharing::Tight) };
    let ticks = |effort| solve(problem, &machine, effort).ok().map(|s| s.cost.price());
    let (exhaustive, thorough) = (ticks(Effort::EXHAUSTIVE), ticks(Effort::THOROUGH));
    assert_eq!(count > 0, best.is_some());
    match (best, exhaustive, thorough) {
        (None, None, None) => {}
        (Some(best), Some(exhaustive), Some(thorough)) => {
            assert!(exhaustive <= best, "{name} in {spm_bytes}: {exhaustive} ticks, brute force has {best}");
            let near = thorough * 100 <= best * (100 + SLACK);
            assert!(near, "{name} in {spm_bytes}: {thorough} ticks in time, brute force has {best}");
        }
        other => panic!("{name} in {spm_bytes}: {other:?}"),
    }
}

#[test]
fn a_linear_layer_is_solved_as_well_as_by_brute_force() {
    for spm_bytes in [1024, 1536, 4096, 16384] {
        check("linear", &linear(5, 6, 9), spm_bytes, &every);
    }
}

#[test]
fn a_longer_linear_layer_is_solved_as_well_as_by_brute_force() {
    for spm_bytes in [1024, 2048, 8192] {
        check("linear", &linear(16, 24, 12), spm_bytes, &some);
    }
}

#[test]
fn a_row_sum_is_solved_as_well_as_by_brute_force() {
    for spm_bytes in [1024, 2048, 16384] {
        check("row sum", &row_sum(13, 30), spm_bytes, &every);
        check("row sum", &row_sum(30, 7), spm_bytes, &every);
    }
}

#[test]
fn two_products_are_solved_as_well_as_by_brute_force() {
    check("two products", &two_products(6, 4, 5, 4), 1024, &some);
}
