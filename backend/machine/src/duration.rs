//! How long everything takes, in ticks of the target's base clock.
//!
//! One function, [`duration`], with an arm for every row of the instruction table; it is built from the summary
//! functions above it ([`mma`], [`vector`], [`activation`], [`transfer`], …), which the tile solver calls before there
//! are instructions. So solver, scheduler and simulator agree by construction. All integers, no state: contention
//! and waiting are the simulator's.

use crate::isa::{AccessPattern, Dt, Engine, Inst, Shape, VecOp};
use crate::target::Target;
pub use crate::target::Ticks;

/// What one instruction costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The stream cannot issue its next instruction for so long.
    pub issue: Ticks,
    /// The unit is busy for so long: the array, the grid's load port, the lanes, the queue.
    /// The next instruction for the same unit starts no earlier.
    pub busy: Ticks,
    /// From start to completion, when nothing contends (at least `busy`).
    pub latency: Ticks,
    /// Bytes read from DRAM, in whole bursts.
    pub dram_read_bytes: u64,
    /// Bytes written to DRAM, in whole bursts.
    pub dram_write_bytes: u64,
}

/// A transfer as a queue sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Contiguous runs in DRAM; 0 if it stays on chip.
    pub runs: u64,
    /// Bytes of each run.
    pub run_bytes: u64,
    /// Bytes through the queue's on-chip port, repeated elements counted each time.
    pub chip_bytes: u64,
}

/// A transfer of fewer bytes is not worth a second queue: several times what one queue moves while another is started.
/// The solver plans with it and the backend shares transfers out by it.
pub const SPLIT_BYTES: u64 = 8 << 10;

/// The fewest queues that transfers of one direction or role have to themselves.
pub fn least_queues(queues: u64) -> u64 {
    if queues < 8 { 1 } else { 2 }
}

/// Ticks for `bytes` at `bytes_per_second`, rounded up.
pub fn ticks_at(target: &Target, bytes: u64, bytes_per_second: u64) -> Ticks {
    let ticks =
        (u128::from(bytes) * u128::from(target.base_clock_hz)).div_ceil(u128::from(bytes_per_second.max(1)));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn ticks_of_ns(target: &Target, ns: u64) -> Ticks {
    ticks_at(target, ns, 1_000_000_000)
}

/// Clock divisor of an engine.
pub fn clock_div(target: &Target, engine: Engine) -> u64 {
    match engine {
        Engine::Mxu => target.mxu_clock_div,
        Engine::Vec => target.vec_clock_div,
        Engine::Act => target.act_clock_div,
        Engine::Ctl | Engine::Col => target.ctl_clock_div,
        Engine::Queue(_) => target.dma_clock_div,
    }
}

/// One control instruction on an engine.
pub fn control(target: &Target, engine: Engine) -> Cost {
    let ticks = target.control_cycles * clock_div(target, engine);
    Cost { issue: ticks, busy: ticks, latency: ticks, ..Cost::default() }
}

/// From a semaphore's signal to its being seen.
pub fn semaphore_latency(target: &Target) -> Ticks {
    target.sem_latency_cycles * target.ctl_clock_div
}

/// One `mma` of `n` columns with a moving operand of type `dt`: the array takes a column at the type's rate; the last
/// result is drained rows + columns later. The stream goes on as soon as the array has taken the instruction, so that
/// a stationary load behind it runs beside it. Types that the array does not take count as f32.
pub fn mma(target: &Target, n: u64, dt: Dt) -> Cost {
    let rate = target.mxu_rate(dt).unwrap_or(target.mxu_f32_macs_per_4_cycles);
    let columns = (4 * n).div_ceil(rate).max(1);
    let busy = columns * target.mxu_clock_div;
    let drain = (target.mxu_startup_cycles + 2 * target.partitions) * target.mxu_clock_div;
    let issue = target.control_cycles * target.mxu_clock_div;
    Cost { issue, busy, latency: busy + drain, ..Cost::default() }
}

/// One stationary load of `rows` array rows. It occupies the grid's load port, not the array: an earlier `mma` goes on.
pub fn stationary_load(target: &Target, rows: u64) -> Cost {
    let issue = target.control_cycles * target.mxu_clock_div;
    let busy = rows.max(1) * target.mxu_clock_div;
    Cost { issue, busy, latency: busy + target.mxu_startup_cycles * target.mxu_clock_div, ..Cost::default() }
}

/// One `ldwt` of a k × m grid.
pub fn stationary_load_transposed(target: &Target, k: u64, m: u64) -> Cost {
    stationary_load(target, k.max(m) * target.ldwt_factor)
}

/// One VEC instruction over `n` elements in each partition, each taking `factor` times as long as an addition.
pub fn vector(target: &Target, n: u64, factor: u64) -> Cost {
    lanes(
        n.saturating_mul(factor),
        target.partitions,
        target.vec_lanes,
        target.vec_startup_cycles,
        target.vec_clock_div,
    )
}

/// One VEC instruction that takes one element a cycle in each partition (scan, shuffle).
pub fn vector_serial(target: &Target, n: u64) -> Cost {
    lanes(n, 1, 1, target.vec_startup_cycles, target.vec_clock_div)
}

/// How many times longer than an addition an element of this operation takes.
pub fn vector_factor(target: &Target, op: VecOp) -> u64 {
    match op {
        VecOp::Div | VecOp::Mod | VecOp::Fmod => target.vec_div_factor,
        VecOp::Pow => target.vec_pow_factor,
        _ => 1,
    }
}

/// One ACT instruction over `n` elements in each partition.
pub fn activation(target: &Target, n: u64) -> Cost {
    lanes(n, target.partitions, target.act_lanes, target.act_startup_cycles, target.act_clock_div)
}

fn lanes(n: u64, partitions: u64, lanes: u64, startup: u64, clock_div: u64) -> Cost {
    let cycles = startup + n.saturating_mul(partitions).div_ceil(lanes);
    let ticks = cycles.max(1).saturating_mul(clock_div);
    Cost { issue: ticks, busy: ticks, latency: ticks, ..Cost::default() }
}

/// Bytes that a transfer moves over the DRAM bus: every run in whole bursts.
pub fn burst_bytes(target: &Target, runs: u64, run_bytes: u64) -> u64 {
    runs.saturating_mul(run_bytes.div_ceil(target.dram_burst_bytes).saturating_mul(target.dram_burst_bytes))
}

/// One transfer on a queue: issue, then the slower of the queue's DRAM side and its on-chip side. `latency` includes
/// the time to the first byte when DRAM takes part. The direction is left to the caller: bytes count as read.
pub fn transfer(target: &Target, t: Transfer) -> Cost {
    moving(target, burst_bytes(target, t.runs, t.run_bytes), t.chip_bytes)
}

/// The same of `dram` bytes in whole bursts.
fn moving(target: &Target, dram: u64, chip_bytes: u64) -> Cost {
    let issue = target.dma_issue_cycles * target.dma_clock_div;
    let moving = ticks_at(target, dram, target.dma_queue_bytes_per_second).max(ticks_at(
        target,
        chip_bytes,
        target.dma_spm_bytes_per_second,
    ));
    let first = if dram > 0 { ticks_of_ns(target, target.dma_latency_ns) } else { 0 };
    let busy = moving.max(issue);
    Cost { issue, busy, latency: issue + first + moving, dram_read_bytes: dram, dram_write_bytes: 0 }
}

/// Ticks that these bytes occupy the whole DRAM, all queues together.
pub fn dram_ticks(target: &Target, bytes: u64) -> Ticks {
    ticks_at(target, bytes, target.dram_bytes_per_second)
}

/// MXU ticks of a whole tile product in a steady state: for each k × m block of the array the slower of streaming `n`
/// columns and loading the next stationary block.
pub fn mma_ticks(target: &Target, k: u64, m: u64, n: u64, dt: Dt) -> Ticks {
    let p = target.partitions;
    let columns = mma_columns_ticks(target, n, dt);
    let block = |rows: u64| columns.max(stationary_load(target, rows).busy);
    let of_k = (k / p).saturating_mul(block(p)) + if k.is_multiple_of(p) { 0 } else { block(k % p) };
    m.div_ceil(p).saturating_mul(of_k)
}

/// Ticks to stream `n` columns, cut into instructions of at most a bank.
fn mma_columns_ticks(target: &Target, n: u64, dt: Dt) -> Ticks {
    let bank = target.acc_bank_entries().max(1);
    let rest = if n.is_multiple_of(bank) { 0 } else { mma(target, n % bank, dt).busy };
    (n / bank).saturating_mul(mma(target, bank, dt).busy) + rest
}

/// VEC ticks of one operation over `n` elements in each partition.
pub fn vec_ticks(target: &Target, n: u64, op: VecOp) -> Ticks {
    vector(target, n, vector_factor(target, op)).busy
}

/// ACT ticks of one function over `n` elements in each partition.
pub fn act_ticks(target: &Target, n: u64) -> Ticks {
    activation(target, n).busy
}

/// Queue ticks of a DRAM transfer of `runs` contiguous runs of `run_bytes` bytes.
pub fn dma_ticks(target: &Target, runs: u64, run_bytes: u64) -> Ticks {
    transfer(target, Transfer { runs, run_bytes, chip_bytes: runs.saturating_mul(run_bytes) }).busy
}

/// In which order a queue walks the dims of a pattern, innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The last dim innermost.
    Rows,
    /// The partition dim innermost (`dtr`).
    Columns,
}

impl Walk {
    fn dims(self) -> [usize; 4] {
        match self {
            Walk::Rows => [3, 2, 1, 0],
            Walk::Columns => [0, 3, 2, 1],
        }
    }
}

/// Contiguous runs in DRAM of a strided walk: (runs, elements of a run). Dims of stride 0 are read once; dims of
/// extent 1 do not count.
pub fn runs(sizes_strides_inner_first: impl IntoIterator<Item = (u64, i64)>) -> (u64, u64) {
    let (mut runs, mut run, mut whole) = (1u64, 1u64, true);
    for (size, stride) in sizes_strides_inner_first {
        if size == 0 {
            return (0, 0);
        }
        if size == 1 || stride == 0 {
            continue;
        }
        whole &= stride == i64::try_from(run).unwrap_or(i64::MAX);
        let grown = if whole { &mut run } else { &mut runs };
        *grown = grown.saturating_mul(size);
    }
    (runs, run)
}

/// A load or store through an access pattern, with elements of type `chip` on chip.
pub fn pattern_transfer(pattern: &AccessPattern, walk: Walk, chip: Dt, target: &Target) -> Transfer {
    let dims = walk.dims().map(|d| (u64::from(pattern.size[d]), pattern.stride[d]));
    let (runs, elements) = runs(dims);
    let factor = if walk == Walk::Columns { target.dma_transpose_factor } else { 1 };
    let chip_bytes = chip.bytes_of(pattern.elements()).saturating_mul(factor);
    Transfer { runs, run_bytes: pattern.dt.bytes_of(elements), chip_bytes }
}

/// A gather or scatter: every indexed row its own runs.
fn indexed_transfer(pattern: &AccessPattern, parts: u64, n0: u64, chip: Dt) -> Transfer {
    let dims = [2, 1].map(|d| (u64::from(pattern.size[d]), pattern.stride[d]));
    let (row_runs, elements) = runs(dims);
    let rows = parts * n0;
    let row_elements = u64::from(pattern.size[1]) * u64::from(pattern.size[2]);
    Transfer {
        runs: rows.saturating_mul(row_runs),
        run_bytes: pattern.dt.bytes_of(elements),
        chip_bytes: chip.bytes_of(rows.saturating_mul(row_elements)),
    }
}

/// A decoding load: the bytes of each of its patterns.
fn decoding(target: &Target, patterns: &[&AccessPattern], chip: Dt) -> Cost {
    let transfers = patterns.iter().map(|pattern| pattern_transfer(pattern, Walk::Rows, chip, target));
    let (mut dram, mut chip_bytes) = (0u64, 0);
    for t in transfers {
        dram = dram.saturating_add(burst_bytes(target, t.runs, t.run_bytes));
        chip_bytes = chip_bytes.max(t.chip_bytes);
    }
    moving(target, dram, chip_bytes)
}

fn on_chip(shape: &Shape, dt: Dt) -> Transfer {
    Transfer { runs: 0, run_bytes: 0, chip_bytes: dt.bytes_of(shape.elements()) }
}

fn write(cost: Cost) -> Cost {
    Cost { dram_read_bytes: 0, dram_write_bytes: cost.dram_read_bytes, ..cost }
}

/// From a message's head entering a link to its leaving it.
pub fn link_latency(target: &Target) -> Ticks {
    ticks_of_ns(target, target.link_latency_ns)
}

/// A message to a neighbouring core, when nothing contends; the simulator knows the ways between others.
fn link(target: &Target, bytes: u64) -> Cost {
    let busy = ticks_at(target, bytes, target.link_bytes_per_second).max(1);
    Cost { issue: busy, busy, latency: busy + link_latency(target), ..Cost::default() }
}

/// What `inst` costs on stream `engine`, with these access patterns in its registers.
pub fn duration(inst: &Inst, engine: Engine, target: &Target, patterns: &[AccessPattern; 16]) -> Cost {
    let pattern = |ap: crate::isa::Ap| &patterns[usize::from(ap.0 & 15)];
    let free = |shape: &Shape| shape.free();
    match inst {
        Inst::Nop {}
        | Inst::Halt {}
        | Inst::Li { .. }
        | Inst::Alu { .. }
        | Inst::Br { .. }
        | Inst::Loop { .. }
        | Inst::Semw { .. }
        | Inst::Sems { .. }
        | Inst::Fence {}
        | Inst::Apset { .. }
        | Inst::ReadCsr { .. }
        | Inst::Trap { .. }
        // Waiting is the simulator's.
        | Inst::Bar { .. } => control(target, engine),
        // The loop back is part of the fetch unit.
        Inst::Endl {} => Cost::default(),
        Inst::Lds { .. } | Inst::Sts { .. } => {
            let control = control(target, engine);
            let access = target.vec_startup_cycles * target.vec_clock_div;
            Cost {
                issue: control.issue + access,
                busy: control.busy + access,
                latency: control.latency + access,
                ..control
            }
        }
        Inst::Dld { dst, ap, .. } => {
            transfer(target, pattern_transfer(pattern(*ap), Walk::Rows, dst.dt, target))
        }
        Inst::Dtr { dst, ap, .. } => {
            transfer(target, pattern_transfer(pattern(*ap), Walk::Columns, dst.dt, target))
        }
        Inst::Dst { src, ap, .. } => {
            write(transfer(target, pattern_transfer(pattern(*ap), Walk::Rows, src.dt, target)))
        }
        Inst::Dga { dst, ap, parts, n0, .. } => {
            transfer(target, indexed_transfer(pattern(*ap), parts.0.into(), n0.0.into(), dst.dt))
        }
        Inst::Dsc { src, ap, parts, n0, .. } => {
            write(transfer(target, indexed_transfer(pattern(*ap), parts.0.into(), n0.0.into(), src.dt)))
        }
        Inst::Dlq { dst, ap, sap, zap, .. } => {
            let read: Vec<_> = [Some(*ap), Some(*sap), *zap].into_iter().flatten().map(pattern).collect();
            decoding(target, &read, dst.dt)
        }
        Inst::Dmv { dst, shape, .. } | Inst::Dfill { dst, shape, .. } => {
            transfer(target, on_chip(shape, dst.dt))
        }
        Inst::Ldw { k, .. } => stationary_load(target, k.0.into()),
        Inst::Ldwt { k, m, .. } => stationary_load_transposed(target, k.0.into(), m.0.into()),
        Inst::Mma { mov, n0, n1, n2, .. } | Inst::Mmax { mov, n0, n1, n2, .. } => {
            mma(target, u64::from(n0.0) * u64::from(n1.0) * u64::from(n2.0), mov.dt)
        }
        Inst::Mtrn { src, parts, .. } => mma(target, parts.0.into(), src.dt),
        Inst::Vtt { op, shape, .. } | Inst::Vts { op, shape, .. } => {
            vector(target, free(shape), vector_factor(target, *op))
        }
        Inst::Vmrg { shape, .. }
        | Inst::Vsel { shape, .. }
        | Inst::Vcvt { shape, .. }
        | Inst::Vred { shape, .. }
        | Inst::Viota { shape, .. } => vector(target, free(shape), 1),
        Inst::Vscan { shape, .. } | Inst::Vshuf { shape, .. } => vector_serial(target, free(shape)),
        Inst::Vtopk { shape, k, .. } => vector(target, free(shape), u64::from(k.0).div_ceil(8)),
        Inst::Act { shape, .. } | Inst::Actr { shape, .. } => activation(target, free(shape)),
        Inst::Lutld { .. } => transfer(target, Transfer { runs: 1, run_bytes: 4 * 258, chip_bytes: 4 * 258 }),
        Inst::Cput { src, shape, .. } | Inst::Cred { src, shape, .. } => {
            link(target, src.dt.bytes_of(shape.elements()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::*;

    const NONE: [AccessPattern; 16] =
        [AccessPattern { dt: Dt::F32, base: 0, size: [0; 4], stride: [0; 4] }; 16];

    fn core() -> Target {
        Target::preset("core").unwrap()
    }

    #[test]
    fn peak_rates_are_the_published_ones() {
        let t = core();
        // 512 columns of bf16 in 512 cycles of 2 ticks.
        assert_eq!(mma(&t, 512, Dt::Bf16).busy, 1024);
        assert_eq!(mma(&t, 512, Dt::I8).busy, 512);
        assert_eq!(mma(&t, 512, Dt::F32).busy, 4096);
        assert_eq!(mma(&t, 512, Dt::Bf16).latency, 1024 + 2 * (16 + 256));
        let macs_per_second = 128 * 128 * 512 * t.base_clock_hz / mma(&t, 512, Dt::Bf16).busy;
        assert_eq!(macs_per_second, 39_321_600_000_000);
    }

    #[test]
    fn lanes_and_startup() {
        let t = core();
        // 40 cycles, then 4 elements a cycle, 5 ticks a cycle.
        assert_eq!(vec_ticks(&t, 512, VecOp::Add), (40 + 128) * 5);
        assert_eq!(vec_ticks(&t, 512, VecOp::Div), (40 + 512) * 5);
        // 100 cycles, then 3 elements a cycle, 4 ticks a cycle.
        assert_eq!(act_ticks(&t, 512), (100 + 171) * 4);
        assert_eq!(vector_serial(&t, 10).busy, 250);
    }

    #[test]
    fn contiguous_dims_merge_into_runs() {
        let rows = |size: [u64; 4], stride: [i64; 4]| runs([3, 2, 1, 0].map(|d| (size[d], stride[d])));
        assert_eq!(rows([128, 1, 1, 64], [64, 0, 0, 1]), (1, 8192));
        assert_eq!(rows([128, 1, 1, 64], [256, 0, 0, 1]), (128, 64));
        assert_eq!(rows([128, 1, 1, 64], [1, 0, 0, 128]), (8192, 1));
        // A row repeated over all partitions is read once.
        assert_eq!(rows([128, 1, 1, 64], [0, 0, 0, 1]), (1, 64));
        assert_eq!(rows([128, 2, 4, 16], [1000, 500, 16, 1]), (256, 64));
    }

    #[test]
    fn a_transposing_load_gets_whole_bursts() {
        let t = core();
        let mut patterns = NONE;
        patterns[1] = AccessPattern { dt: Dt::F32, base: 0, size: [128, 1, 1, 64], stride: [1, 0, 0, 128] };
        let dst = View::spm(0, 0, Dt::F32);
        let q = Engine::Queue(0);
        let plain = duration(&Inst::Dld { dst, ap: Ap(1), reg: Add::NONE }, q, &t, &patterns);
        let turned = duration(&Inst::Dtr { dst, ap: Ap(1), reg: Add::NONE }, q, &t, &patterns);
        assert_eq!(plain.dram_read_bytes, 8192 * 64);
        assert_eq!(turned.dram_read_bytes, 8192 * 4);
        assert!(turned.busy < plain.busy / 8);
        // 32768 bytes at 27 GB/s in ticks of 4.8 GHz; twice the bytes at four times the rate is less.
        assert_eq!(turned.busy, (32768u64 * 48).div_ceil(270));
        assert_eq!(turned.latency, 64 * 4 + 6240 + turned.busy);
    }

    #[test]
    fn summaries_agree_with_instructions() {
        let t = core();
        let p = t.partitions;
        let one = |inst: Inst, engine| duration(&inst, engine, &t, &NONE).busy;
        let (acc, mov) = (View::acc(0, 0, Dt::F32), View::spm(0, 0, Dt::Bf16));
        let parts = Parts(128);
        let mma = Inst::Mma {
            acc,
            mov,
            k: parts,
            m: parts,
            n0: Len(1),
            n1: Len(2),
            n2: Len(256),
            cont: false,
            zs: 0,
            zx: 0,
        };
        let ldw = Inst::Ldw { src: mov, k: parts, m: parts, col: 0 };
        let pass = one(mma, Engine::Mxu).max(one(ldw, Engine::Mxu));
        assert_eq!(mma_ticks(&t, 3 * p, 2 * p, 512, Dt::Bf16), 6 * pass);
        // A thin product is bound by the stationary loads.
        assert_eq!(mma_ticks(&t, p, p, 1, Dt::Bf16), one(ldw, Engine::Mxu));
        let shape = Shape::new(128, [1, 4, 100]);
        let act = Inst::Act {
            func: ActFunc::Exp,
            dst: mov,
            src: mov,
            bias: None,
            sum: None,
            over: Dims::NONE,
            sumc: false,
            scale: ImmF32::ONE,
            shape,
        };
        assert_eq!(one(act, Engine::Act), act_ticks(&t, 400));
    }
}
