//! What the solver knows of a target: partitions, capacities and the time of a transfer or an op on whole tiles.
//!
//! All times are integer ticks of the target's base clock.

use super::problem::{Access, OpKind, Problem};
use kiln_ir::nn::MapKind;
use kiln_ir::types::DType;
use kiln_machine::duration::{self, Transfer};
use kiln_machine::isa::Dt;
use kiln_machine::target::Target;

/// The resources that a group keeps busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// The systolic array.
    Mxu,
    /// The vector engine.
    Vec,
    /// The activation engine.
    Act,
    /// The DMA queues together.
    Queues,
    /// DRAM bytes.
    Dram,
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// DRAM to chip: may walk the partitions innermost.
    Load,
    /// Chip to DRAM.
    Store,
}

/// Number of [`Engine`]s.
pub const ENGINES: usize = 5;

/// The numbers of a target that decide a tiling. Times come from `kiln-machine`'s durations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Partitions = array rows = array columns.
    pub partitions: u64,
    /// SPM bytes of one partition.
    pub spm_bytes: u64,
    /// ACC bytes of one partition.
    pub acc_bytes: u64,
    /// Alignment of a buffer in its partition.
    pub align_bytes: u64,
    pub(crate) target: Target,
}

/// Time by engine and bytes moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Busy ticks of each engine.
    pub busy: [u64; ENGINES],
    /// Bytes between DRAM and chip as requested.
    pub dram_bytes: u64,
    /// Ticks of a transfer on one queue, after its latency.
    pub alone: u64,
    /// Queues that a transfer is worth.
    pub ways: u64,
}

impl Load {
    /// Adds `other` `count` times.
    pub fn add(&mut self, other: &Load, count: u64) {
        for (a, b) in self.busy.iter_mut().zip(other.busy) {
            *a = a.saturating_add(b.saturating_mul(count));
        }
        self.dram_bytes = self.dram_bytes.saturating_add(other.dram_bytes.saturating_mul(count));
    }
}

/// Free dims that one transfer or vector instruction walks.
const FREE_DIMS: usize = 3;

/// Queues that one transfer is spread over at most.
const SPREAD: u64 = 16;

fn dt(dtype: DType) -> Dt {
    match dtype {
        DType::F16 => Dt::F16,
        DType::BF16 => Dt::Bf16,
        DType::I8 => Dt::I8,
        DType::U8 | DType::Bool => Dt::U8,
        DType::F8E4M3 => Dt::F8e4m3,
        DType::F8E5M2 => Dt::F8e5m2,
        _ => Dt::F32,
    }
}

impl Machine {
    /// The numbers of `target`.
    pub fn new(target: &Target) -> Self {
        Machine {
            partitions: target.partitions,
            spm_bytes: target.spm_bytes / target.partitions,
            acc_bytes: target.acc_bytes / target.partitions,
            align_bytes: 4,
            target: target.clone(),
        }
    }

    /// Whether the array loads a stationary operand whose rows lie on partitions.
    pub fn loads_transposed(&self) -> bool {
        self.target.has_ldwt != 0
    }

    /// Ticks before the first byte of a transfer.
    pub fn dma_latency_ticks(&self) -> u64 {
        duration::transfer(&self.target, Transfer { runs: 1, run_bytes: 1, chip_bytes: 1 }).latency
    }

    /// Queues that loads and stores have, which move for so long: about as the backend shares them out.
    pub fn queue_shares(&self, moved: [u64; 2]) -> [u64; 2] {
        let queues = self.target.dma_queues;
        let least = duration::least_queues(queues);
        let all = u128::from(moved[0]) + u128::from(moved[1]);
        moved.map(|own| {
            let part = u128::from(queues) * u128::from(own) / all.max(1);
            (part as u64).clamp(least, queues.saturating_sub(least).max(1))
        })
    }

    /// What an instruction costs beside its work: it waits for and signals others.
    fn overhead(&self) -> u64 {
        2 * self.target.control_cycles * self.target.ctl_clock_div
    }

    /// Whether ACT rather than VEC computes `kind`.
    pub fn is_act(&self, kind: MapKind) -> bool {
        use MapKind::*;
        matches!(kind, Exp | Log | Sqrt | Rsqrt | Reciprocal | Tanh | Erf | Sigmoid | Sin | Cos | Softplus)
    }

    /// Ticks from the end of an op's work to its result being seen by another engine.
    pub fn result_latency(&self, is_product: bool) -> u64 {
        let one =
            if is_product { duration::mma(&self.target, 1, Dt::F32) } else { duration::Cost::default() };
        duration::semaphore_latency(&self.target) + one.latency - one.busy
    }

    fn chunks(&self, extent: u64) -> u64 {
        extent.div_ceil(self.partitions)
    }

    /// Bytes a partition holds of a buffer of `shape` with partition axis `part`.
    pub fn partition_bytes(&self, shape: &[u64], part: usize, dtype: DType) -> u64 {
        let mut entries = self.chunks(shape[part]);
        for (axis, &extent) in shape.iter().enumerate() {
            if axis != part {
                entries = entries.saturating_mul(extent);
            }
        }
        entries.saturating_mul(dtype.size_bytes() as u64).next_multiple_of(self.align_bytes)
    }

    /// A transfer of a view of `shape`, as the backend splits it: free dims walked by descending stride, partitions
    /// outermost, or innermost for a load that then has longer runs.
    pub fn transfer(&self, access: &Access, shape: &[u64], part: usize, direction: Direction) -> Load {
        let size = access.dtype.size_bytes() as u64;
        let stride = |axis: usize| access.strides[axis].unsigned_abs();
        let parts = shape[part].min(self.partitions);
        let mut free: Vec<(u64, u64)> = Vec::with_capacity(shape.len());
        for (axis, &extent) in shape.iter().enumerate() {
            if axis != part && extent > 1 {
                free.push((stride(axis), extent));
            }
        }
        if shape[part] > self.partitions {
            free.push((stride(part) * self.partitions, self.chunks(shape[part])));
        }
        free.sort_unstable();
        let walk = |part_first: bool| {
            let own = (parts, stride(part));
            let inner = free.iter().map(|&(stride, extent)| (extent, stride));
            let signed = |(extent, stride): (u64, u64)| (extent, i64::try_from(stride).unwrap_or(i64::MAX));
            if part_first {
                duration::runs([own].into_iter().chain(inner).map(signed))
            } else {
                duration::runs(inner.chain([own]).map(signed))
            }
        };
        let (mut runs, mut run) = walk(false);
        let mut factor = 1;
        if direction == Direction::Load && stride(part) == 1 && parts > 1 {
            let (other_runs, other) = walk(true);
            if other > 2 * run {
                (runs, run) = (other_runs, other);
                factor = self.target.dma_transpose_factor;
            }
        }
        // The last chunk of partitions may be short.
        let elements: u64 = shape
            .iter()
            .enumerate()
            .filter(|(axis, _)| stride(*axis) != 0)
            .map(|(_, &extent)| extent)
            .product();
        if runs > 1 && runs * run > elements {
            runs =
                (u128::from(runs) * u128::from(elements)).div_ceil(u128::from(runs) * u128::from(run)) as u64;
        } else if runs == 1 {
            run = elements;
        }
        // Dims that follow one another without a gap are one; beyond three, each step is a transfer.
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(free.len());
        for &(stride, extent) in &free {
            match merged.last_mut() {
                Some(last) if last.0 * last.1 == stride => last.1 *= extent,
                _ => merged.push((stride, extent)),
            }
        }
        let issues: u64 = match merged.len().checked_sub(FREE_DIMS) {
            Some(over) if over > 0 => {
                let mut extents: Vec<u64> = merged.iter().map(|d| d.1).collect();
                extents.sort_unstable();
                extents[..over].iter().product()
            }
            _ => 1,
        };
        let issues = issues
            * (1 + u64::from(shape[part] > self.partitions && !shape[part].is_multiple_of(self.partitions)));
        let mut load = Load { dram_bytes: elements * size, ..Load::default() };
        let chip_bytes = shape.iter().product::<u64>() * size * factor;
        let one = duration::transfer(&self.target, Transfer { runs, run_bytes: run * size, chip_bytes });
        let issue = one.issue * (issues - 1);
        load.busy[Engine::Queues as usize] = (one.busy + issue).div_ceil(self.target.dma_queues);
        // What is repeated over partitions comes through one queue.
        let repeats = parts > 1 && stride(part) == 0;
        load.ways = if repeats { 1 } else { (load.dram_bytes / duration::SPLIT_BYTES).clamp(1, SPREAD) };
        load.alone = one.busy + issue;
        load.busy[Engine::Dram as usize] = duration::dram_ticks(&self.target, one.dram_read_bytes);
        load
    }

    /// Elements of one partition of the largest of an op's operands and results.
    fn free_elements(&self, shape: &[u64], part: usize) -> u64 {
        let all: u64 = shape.iter().product();
        all / shape[part] * self.chunks(shape[part])
    }

    fn vec(&self, entries: u64, factor: u64) -> Load {
        let mut load = Load::default();
        load.busy[Engine::Vec as usize] =
            duration::vector(&self.target, entries, factor).busy + self.overhead();
        load
    }

    fn act(&self, entries: u64) -> Load {
        let mut load = Load::default();
        load.busy[Engine::Act as usize] = duration::activation(&self.target, entries).busy + self.overhead();
        load
    }

    /// An op on tiles of `shape` over all positions it touches.
    pub fn op(&self, problem: &Problem, op: usize, shape: &[u64], part: &[usize], stationary: usize) -> Load {
        let o = &problem.ops[op];
        let out = o.outs.first().copied();
        let at = out.map_or(problem.unit(), |t| part[t]);
        let view = |t: usize| -> Vec<u64> {
            problem.tensors[t].shape.iter().zip(shape).map(|(&full, &now)| full.min(now)).collect()
        };
        match &o.kind {
            OpKind::Copy => Load::default(),
            OpKind::Map(kind) if self.is_act(*kind) => self.act(self.free_elements(&view(o.outs[0]), at)),
            OpKind::Map(kind) => {
                let factor = match kind {
                    MapKind::Div | MapKind::Mod | MapKind::Fmod => self.target.vec_div_factor,
                    MapKind::Pow => self.target.vec_pow_factor,
                    _ => 1,
                };
                self.vec(self.free_elements(&view(o.outs[0]), at), factor)
            }
            OpKind::Cast | OpKind::Fill(_) | OpKind::Iota { .. } => {
                self.vec(self.free_elements(&view(o.outs[0]), at), 1)
            }
            OpKind::Reduce(_) | OpKind::Scan { .. } => {
                let source = o.tensors().next().map_or_else(|| shape.to_vec(), view);
                self.vec(self.free_elements(&source, at), 1)
            }
            OpKind::TopK { .. } => self.vec(self.free_elements(&view(o.outs[0]), at), 8),
            OpKind::Gather { data, .. } => {
                let view = view(o.outs[0]);
                let index = o.tensors().next().map(|t| problem.tensors[t].axes()).unwrap_or_default();
                let mut load = self.transfer(data, &view, at, Direction::Load);
                if !index.has(at) {
                    load.busy[Engine::Queues as usize] *= view[at].min(self.partitions);
                }
                load
            }
            OpKind::Scatter { data, .. } => {
                let source = o.tensors().next().unwrap_or(0);
                self.transfer(data, &view(source), part[source], Direction::Store)
            }
            OpKind::Contract => self.contract(problem, op, shape, part, stationary),
        }
    }

    fn contract(
        &self,
        problem: &Problem,
        op: usize,
        shape: &[u64],
        part: &[usize],
        stationary: usize,
    ) -> Load {
        let o = &problem.ops[op];
        let ins: Vec<usize> = o.tensors().collect();
        let (Some(&s), Some(&x)) = (ins.get(stationary), ins.get(1 - stationary)) else {
            return Load::default();
        };
        let out = o.outs[0];
        let (sa, xa, oa) =
            (problem.tensors[s].axes(), problem.tensors[x].axes(), problem.tensors[out].axes());
        let (mut inner, mut chain, mut rows, mut columns, mut grids) = (1u64, 1u64, 1u64, 1u64, 1u64);
        for (axis, &extent) in shape.iter().enumerate() {
            if extent == 1 || !(sa.or(xa).has(axis)) {
                continue;
            }
            if !oa.has(axis) {
                if axis == part[x] { inner = extent } else { chain *= extent }
            } else if sa.has(axis) && xa.has(axis) {
                grids *= extent;
            } else if sa.has(axis) {
                if axis == part[out] { rows = extent } else { grids *= extent }
            } else {
                columns *= extent;
            }
        }
        let pass = duration::mma_ticks(&self.target, inner, rows, columns, dt(problem.tensors[x].dtype));
        // A step of the contraction enters the array when the one before it has left the accumulators.
        let steps = chain * inner.div_ceil(self.partitions);
        let one = duration::mma(&self.target, 1, dt(problem.tensors[x].dtype));
        let drains = if steps > 1 { steps.saturating_mul(one.latency - one.busy) } else { 0 };
        let mut load = Load::default();
        load.busy[Engine::Mxu as usize] = (grids * chain * pass).max(drains) + self.overhead();
        load
    }
}
