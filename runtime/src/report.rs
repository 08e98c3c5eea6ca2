//! What a run tells besides its outputs.

use indexmap::IndexMap;
use kiln_machine::isa::Engine;

/// Counters of one engine, in ticks of the base clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineReport {
    /// Its unit worked.
    pub busy_ticks: u64,
    /// It waited for a semaphore.
    pub semaphore_ticks: u64,
    /// It waited for its own unit: an earlier result, a load, a fence.
    pub hazard_ticks: u64,
    /// Instructions executed.
    pub instructions: u64,
    /// Energy of its work, of the on-chip bytes and of the DRAM bytes it moved, in femtojoules.
    pub energy_fj: u64,
}

/// What one origin (an ONNX node) cost; shares of fused instructions sum to the totals exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginReport {
    /// Ticks in which the matrix engine, VEC, ACT and the DMA queues worked for it.
    pub mxu_ticks: u64,
    /// See `mxu_ticks`.
    pub vec_ticks: u64,
    /// See `mxu_ticks`.
    pub act_ticks: u64,
    /// See `mxu_ticks`.
    pub dma_ticks: u64,
    /// Bytes over the DRAM bus for it.
    pub dram_bytes: u64,
    /// Multiply-accumulates for it.
    pub macs: u64,
    /// Energy of work and of bytes for it, in femtojoules; static power is nobody's.
    pub energy_fj: u64,
}

/// One instruction's stay on its unit, for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// The core.
    pub core: u8,
    /// The stream.
    pub engine: Engine,
    /// Device segment.
    pub segment: u32,
    /// Word index.
    pub pc: u32,
    /// Tick of issue; of a transfer, tick in which it begins to move its bytes.
    pub start: u64,
    /// Tick of completion.
    pub end: u64,
}

/// A wait that was passed: which slice of the trace came before the signal, and which after the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The semaphore.
    pub semaphore: u8,
    /// Index into [`Report::trace`].
    pub from: usize,
    /// Index into [`Report::trace`].
    pub to: usize,
}

/// What a trace holds besides slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Order between streams.
    pub flows: Vec<Flow>,
    /// Tick, and bytes a second over the DRAM bus from there on.
    pub dram_bytes_per_second: Vec<(u64, u64)>,
    /// Tick, and scratchpad bytes that are live from there on, of the moments looked at.
    pub spm_bytes: Vec<(u64, u64)>,
    /// Instructions outside the window.
    pub outside: u64,
    /// Instructions in the window that were too many.
    pub left_out: u64,
    /// Tick of the first of them.
    pub left_out_from: Option<u64>,
}

/// The counters of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// MXU cycles from the start to the last completion, rounded up.
    pub cycles: u64,
    /// The same in ticks of the base clock.
    pub ticks: u64,
    /// The same in seconds.
    pub seconds: f64,
    /// Each engine that has a stream.
    pub engines: IndexMap<Engine, EngineReport>,
    /// Bytes read from DRAM, in whole bursts.
    pub dram_read_bytes: u64,
    /// Bytes written to DRAM, in whole bursts.
    pub dram_write_bytes: u64,
    /// Multiply-accumulates executed by the matrix engine.
    pub macs: u64,
    /// Elements processed by VEC.
    pub vec_elements: u64,
    /// Elements processed by ACT.
    pub act_elements: u64,
    /// Bytes of on-chip operands read and written by VEC, ACT, the matrix engine and DMA.
    pub chip_bytes: u64,
    /// Most scratchpad bytes that hold a value still to be read, of the moments looked at: see `docs/simulator.md`.
    pub spm_peak_bytes: u64,
    /// Energy of all of this at the target's numbers, in joules: of the engines and static.
    pub energy_joules: f64,
    /// The part of static power in it, in joules.
    pub static_joules: f64,
    /// Number of executions of each mnemonic.
    pub instructions: IndexMap<&'static str, u64>,
    /// Cost by ONNX node, in the program's order of origins; those that cost nothing are left out.
    pub origins: IndexMap<String, OriginReport>,
    /// Host segments executed.
    pub host_segments: u64,
    /// Every instruction but control, if asked for.
    pub trace: Vec<TraceEvent>,
    /// What goes with the trace.
    pub timeline: Timeline,
}

/// Split `total` by weights, exactly: the parts sum to it. All weights zero count as equal.
pub(crate) fn split(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let weight = |i: usize| if sum == 0 { 1 } else { u128::from(weights[i]) };
    let sum = if sum == 0 { weights.len() as u128 } else { sum };
    let shift = (128 - sum.leading_zeros()).saturating_sub(63);
    let mut before = 0;
    let mut given = 0;
    (0..weights.len())
        .map(|i| {
            before += weight(i);
            // The last part ends at the sum itself, whatever the shift drops.
            let upto = (u128::from(total) * (before >> shift) / (sum >> shift)) as u64;
            let part = upto - given;
            given = upto;
            part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn shares_sum_to_the_total() {
        assert_eq!(split(10, &[1, 1, 1]), [3, 3, 4]);
        assert_eq!(split(7, &[0, 0]), [3, 4]);
        assert_eq!(split(100, &[1, 0, 3]), [25, 0, 75]);
        assert_eq!(
            split(u64::MAX, &[u64::MAX, u64::MAX]).iter().map(|p| u128::from(*p)).sum::<u128>(),
            u128::from(u64::MAX)
        );
    }
}
