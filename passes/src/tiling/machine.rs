//! What the solver knows of a target: partitions, capacities and the time of a transfer or an op on whole tiles.
//!
//! All times are integer ticks of the target's base clock.

use super::problem::{Access, OpKind, Problem};
use kiln_ir::nn::MapKind;
use kiln_ir::types::DType;
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
    /// Issue of transfers, over all queues.
    Issue,
    /// DRAM bytes.
    Dram,
}

/// Number of [`Engine`]s.
pub const ENGINES: usize = 5;

/// The numbers of a target that decide a tiling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine {
    /// Partitions = array rows = array columns.
    pub partitions: u64,
    /// SPM bytes of one partition.
    pub spm_bytes: u64,
    /// ACC bytes of one partition.
    pub acc_bytes: u64,
    /// 32-bit entries of one ACC bank: the longest row of one matmul instruction.
    pub bank_entries: u64,
    /// Alignment of a buffer in its partition.
    pub align_bytes: u64,
    /// Ticks of an MXU column for bf16; f32 takes `mxu_f32_factor` times as long.
    pub mxu_ticks: u64,
    /// How much slower f32 is than bf16 on the array.
    pub mxu_f32_factor: u64,
    /// Ticks of a VEC clock, lanes, start-up in VEC clocks.
    pub vec_ticks: u64,
    /// Elements a VEC clock over all partitions.
    pub vec_lanes: u64,
    /// Start-up of a VEC instruction in its clocks.
    pub vec_startup: u64,
    /// Ticks of an ACT clock.
    pub act_ticks: u64,
    /// Elements an ACT clock over all partitions.
    pub act_lanes: u64,
    /// Start-up of an ACT instruction in its clocks.
    pub act_startup: u64,
    /// DMA queues.
    pub queues: u64,
    /// Ticks to issue one transfer.
    pub dma_issue_ticks: u64,
    /// Ticks before the first byte of a transfer.
    pub dma_latency_ticks: u64,
    /// Bytes that one DRAM burst moves.
    pub burst_bytes: u64,
    /// DRAM rate as bytes in `dram_rate.1` ticks.
    pub dram_rate: (u64, u64),
    /// Entries of every on-chip free dim counter.
    pub dims: usize,
}

/// Time by engine and bytes moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Busy ticks of each engine.
    pub busy: [u64; ENGINES],
    /// Bytes between DRAM and chip as requested.
    pub dram_bytes: u64,
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

/// Whether ACT rather than VEC computes `kind`.
fn is_act(kind: MapKind) -> bool {
    use MapKind::*;
    matches!(kind, Exp | Log | Sqrt | Rsqrt | Reciprocal | Tanh | Erf | Sigmoid | Sin | Cos | Softplus | Pow)
}

impl Machine {
    /// The numbers of `target`.
    pub fn new(target: &Target) -> Self {
        let f32_macs = target.mxu_f32_macs_per_4_cycles.max(1);
        let seconds = |ns: u64| ns.saturating_mul(target.base_clock_hz / 1_000_000) / 1000;
        let rate = target.dram_bytes_per_second.min(target.dma_queue_bytes_per_second * target.dma_queues);
        Machine {
            partitions: target.partitions,
            spm_bytes: target.spm_bytes / target.partitions,
            acc_bytes: target.acc_bytes / target.partitions,
            bank_entries: (target.acc_bytes / target.partitions / target.acc_banks / 4).max(1),
            align_bytes: 4,
            mxu_ticks: target.mxu_clock_div,
            mxu_f32_factor: (target.mxu_bf16_macs_per_4_cycles / f32_macs).max(1),
            vec_ticks: target.vec_clock_div,
            vec_lanes: target.vec_lanes,
            vec_startup: target.vec_startup_cycles,
            act_ticks: target.act_clock_div,
            act_lanes: target.act_lanes,
            act_startup: target.act_startup_cycles,
            queues: target.dma_queues,
            dma_issue_ticks: target.dma_issue_cycles * target.dma_clock_div,
            dma_latency_ticks: seconds(target.dma_latency_ns),
            burst_bytes: target.dram_burst_bytes,
            dram_rate: (rate / 1_000_000, (target.base_clock_hz / 1_000_000).max(1)),
            dims: 3,
        }
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

    /// A transfer of a view of `shape`.
    pub fn transfer(&self, access: &Access, shape: &[u64], part: usize) -> Load {
        let size = access.dtype.size_bytes() as u64;
        let mut dims: Vec<(u64, u64, bool)> = Vec::new();
        let mut elements = 1u64;
        let mut copies = 1;
        for (axis, &extent) in shape.iter().enumerate() {
            if extent == 1 {
                continue;
            }
            if access.strides[axis] == 0 && axis == part {
                continue;
            }
            elements *= extent;
            if axis == part && extent > self.partitions {
                copies = self.chunks(extent);
            }
            dims.push((access.strides[axis].unsigned_abs(), extent, axis == part));
        }
        dims.sort_unstable();
        let mut run = 1;
        let mut free_dims = 0;
        let mut open = true;
        for &(stride, extent, is_part) in &dims {
            if open && stride == run {
                run *= extent;
            } else {
                open = false;
            }
            free_dims += usize::from(!is_part);
        }
        let bytes = elements * size;
        let moved = (elements / run.max(1)) * (run * size).next_multiple_of(self.burst_bytes);
        let mut issues = copies;
        if free_dims > self.dims {
            let mut extents: Vec<u64> = dims.iter().filter(|d| !d.2).map(|d| d.1).collect();
            extents.sort_unstable();
            issues *= extents[..free_dims - self.dims].iter().product::<u64>();
        }
        let mut load = Load { dram_bytes: bytes, ..Load::default() };
        load.busy[Engine::Dram as usize] = (moved * self.dram_rate.1).div_ceil(self.dram_rate.0);
        load.busy[Engine::Issue as usize] = (issues * self.dma_issue_ticks).div_ceil(self.queues);
        load
    }

    /// Elements of one partition of the largest of an op's operands and results.
    fn free_elements(&self, shape: &[u64], part: usize) -> u64 {
        let all: u64 = shape.iter().product();
        all / shape[part] * self.chunks(shape[part])
    }

    fn vec(&self, entries: u64, passes: u64) -> Load {
        let mut load = Load::default();
        let clocks = self.vec_startup + (entries * self.partitions).div_ceil(self.vec_lanes);
        load.busy[Engine::Vec as usize] = clocks * self.vec_ticks * passes;
        load
    }

    fn act(&self, entries: u64) -> Load {
        let mut load = Load::default();
        let clocks = self.act_startup + (entries * self.partitions).div_ceil(self.act_lanes);
        load.busy[Engine::Act as usize] = clocks * self.act_ticks;
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
            OpKind::Map(kind) if is_act(*kind) => self.act(self.free_elements(&view(o.outs[0]), at)),
            OpKind::Map(_) | OpKind::Cast | OpKind::Fill(_) | OpKind::Iota { .. } => {
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
                let mut load = self.transfer(data, &view, at);
                if !index.has(at) {
                    load.busy[Engine::Issue as usize] *= view[at].min(self.partitions);
                }
                load
            }
            OpKind::Scatter { data, .. } => {
                let source = o.tensors().next().unwrap_or(0);
                self.transfer(data, &view(source), part[source])
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
        let (mut chunks, mut rows, mut columns, mut grids) = (1u64, 1u64, 1u64, 1u64);
        for (axis, &extent) in shape.iter().enumerate() {
            if extent == 1 || !(sa.or(xa).has(axis)) {
                continue;
            }
            if !oa.has(axis) {
                let is_part = axis == part[x];
                chunks *= if is_part { self.chunks(extent) } else { extent };
                if is_part {
                    rows = extent.min(self.partitions);
                }
            } else if sa.has(axis) && xa.has(axis) {
                grids *= extent;
            } else if sa.has(axis) {
                grids *= if axis == part[out] { self.chunks(extent) } else { extent };
            } else {
                columns *= extent;
            }
        }
        let factor = if problem.tensors[x].dtype == DType::F32 { self.mxu_f32_factor } else { 1 };
        let pass = (columns * factor).max(rows) + 4 * columns.div_ceil(self.bank_entries);
        let mut load = Load::default();
        load.busy[Engine::Mxu as usize] = grids * chunks * pass * self.mxu_ticks;
        load
    }
}
