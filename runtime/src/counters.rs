//! Counting while a program runs, and the report at its end.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use kiln_machine::duration::Cost;
use kiln_machine::isa::{Dt, Engine, Inst, Space};
use kiln_machine::program::OriginRange;
use kiln_machine::target::Target;

use crate::report::{EngineReport, OriginReport, Report, TraceEvent, split};

/// The counters of a run over all its segments.
#[derive(Default)]
pub(crate) struct Counters {
    names: Vec<String>,
    /// The streams of the segment that runs: engine and origins.
    streams: Vec<StreamCounters>,
    segment: u32,
    engines: BTreeMap<Engine, EngineReport>,
    origins: BTreeMap<u32, OriginReport>,
    instructions: BTreeMap<&'static str, u64>,
    dram_read_bytes: u64,
    dram_write_bytes: u64,
    macs: [u64; 3],
    vec_elements: u64,
    act_elements: u64,
    chip_bytes: u64,
    spm_end: i64,
    trace: Option<Vec<TraceEvent>>,
}

/// One stream of the running segment.
struct StreamCounters {
    engine: Engine,
    report: EngineReport,
    ranges: Vec<OriginRange>,
    /// What each range cost; the last is for words without origin.
    costs: Vec<OriginReport>,
    last: usize,
}

/// Which energy a product takes.
#[derive(Clone, Copy)]
enum Width {
    F32 = 0,
    Half = 1,
    Byte = 2,
}

impl Counters {
    /// Nothing counted; `names` are the program's origins.
    pub(crate) fn new(names: &[String], trace: bool) -> Self {
        Self { names: names.to_vec(), trace: trace.then(Vec::new), ..Self::default() }
    }

    /// A device segment begins, with these streams in this order.
    pub(crate) fn begin(&mut self, segment: u32, streams: Vec<(Engine, Vec<OriginRange>)>) {
        self.finish();
        self.segment = segment;
        self.streams = streams
            .into_iter()
            .map(|(engine, ranges)| StreamCounters {
                engine,
                report: EngineReport::default(),
                costs: vec![OriginReport::default(); ranges.len() + 1],
                ranges,
                last: 0,
            })
            .collect();
    }

    /// The origin of a word, as text.
    pub(crate) fn origin(&self, index: usize, pc: u32) -> String {
        let ranges = &self.streams[index].ranges;
        let Some(range) = ranges.iter().find(|range| (range.start..range.end).contains(&pc)) else {
            return "no origin".to_owned();
        };
        let names = range.shares.iter().filter_map(|share| self.names.get(share.origin as usize));
        names.map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// An instruction was taken.
    pub(crate) fn instruction(&mut self, index: usize, inst: &Inst) {
        self.streams[index].report.instructions += 1;
        *self.instructions.entry(inst.mnemonic()).or_default() += 1;
    }

    /// An engine stood still for so long.
    pub(crate) fn waited(&mut self, index: usize, for_semaphore: bool, ticks: u64) {
        let report = &mut self.streams[index].report;
        if for_semaphore {
            report.semaphore_ticks += ticks;
        } else {
            report.hazard_ticks += ticks;
        }
    }

    /// A unit works on an instruction.
    pub(crate) fn worked(&mut self, index: usize, pc: u32, inst: &Inst, cost: &Cost, start: u64, end: u64) {
        let macs = self.work_of(inst);
        let stream = &mut self.streams[index];
        stream.report.busy_ticks += cost.busy;
        let range = stream.range_of(pc);
        let total = &mut stream.costs[range];
        let ticks = match stream.engine {
            Engine::Mxu => Some(&mut total.mxu_ticks),
            Engine::Vec => Some(&mut total.vec_ticks),
            Engine::Act => Some(&mut total.act_ticks),
            Engine::Queue(_) => Some(&mut total.dma_ticks),
            Engine::Ctl | Engine::Col => None,
        };
        if let Some(ticks) = ticks {
            *ticks += cost.busy;
        }
        total.dram_bytes += cost.dram_read_bytes + cost.dram_write_bytes;
        total.macs += macs;
        let event = TraceEvent { engine: stream.engine, segment: self.segment, pc, start, end };
        if let Some(trace) = &mut self.trace {
            trace.push(event);
        }
    }

    /// Count elements and products; the products of this instruction.
    fn work_of(&mut self, inst: &Inst) -> u64 {
        match inst {
            Inst::Mma { mov, k, m, n0, n1, n2, .. } | Inst::Mmax { mov, k, m, n0, n1, n2, .. } => {
                let columns = u64::from(n0.0) * u64::from(n1.0) * u64::from(n2.0);
                let macs = u64::from(k.0) * u64::from(m.0) * columns;
                let width = match mov.dt {
                    Dt::F32 => Width::F32,
                    Dt::Bf16 | Dt::F16 => Width::Half,
                    _ => Width::Byte,
                };
                self.macs[width as usize] += macs;
                macs
            }
            Inst::Vtt { shape, .. }
            | Inst::Vts { shape, .. }
            | Inst::Vmrg { shape, .. }
            | Inst::Vsel { shape, .. }
            | Inst::Vcvt { shape, .. }
            | Inst::Vred { shape, .. }
            | Inst::Vscan { shape, .. }
            | Inst::Vshuf { shape, .. }
            | Inst::Vtopk { shape, .. }
            | Inst::Viota { shape, .. } => {
                self.vec_elements += shape.elements();
                0
            }
            Inst::Act { shape, .. } | Inst::Actr { shape, .. } => {
                self.act_elements += shape.elements();
                0
            }
            _ => 0,
        }
    }

    /// DRAM traffic of an instruction.
    pub(crate) fn dram(&mut self, cost: &Cost) {
        self.dram_read_bytes += cost.dram_read_bytes;
        self.dram_write_bytes += cost.dram_write_bytes;
    }

    /// An on-chip operand of `bytes` bytes that ends at byte `end` of its partitions.
    pub(crate) fn on_chip(&mut self, space: Space, end: i64, bytes: u64) {
        self.chip_bytes += bytes;
        if space == Space::Spm {
            self.spm_end = self.spm_end.max(end);
        }
    }

    /// Add the running segment's counters to the totals.
    fn finish(&mut self) {
        for stream in std::mem::take(&mut self.streams) {
            let total = self.engines.entry(stream.engine).or_default();
            total.busy_ticks += stream.report.busy_ticks;
            total.semaphore_ticks += stream.report.semaphore_ticks;
            total.hazard_ticks += stream.report.hazard_ticks;
            total.instructions += stream.report.instructions;
            for (range, cost) in stream.ranges.iter().zip(&stream.costs) {
                let weights: Vec<u64> = range.shares.iter().map(|share| share.weight).collect();
                let mut give = |part: u64, slot: fn(&mut OriginReport) -> &mut u64| {
                    for (share, part) in range.shares.iter().zip(split(part, &weights)) {
                        *slot(self.origins.entry(share.origin).or_default()) += part;
                    }
                };
                give(cost.mxu_ticks, |o| &mut o.mxu_ticks);
                give(cost.vec_ticks, |o| &mut o.vec_ticks);
                give(cost.act_ticks, |o| &mut o.act_ticks);
                give(cost.dma_ticks, |o| &mut o.dma_ticks);
                give(cost.dram_bytes, |o| &mut o.dram_bytes);
                give(cost.macs, |o| &mut o.macs);
            }
        }
    }

    /// The report of a run of `ticks` ticks.
    pub(crate) fn report(mut self, target: &Target, ticks: u64, host_segments: u64) -> Report {
        self.finish();
        let seconds = target.seconds(ticks);
        let femtojoules = u128::from(self.macs[Width::F32 as usize]) * u128::from(target.mac_f32_fj)
            + u128::from(self.macs[Width::Half as usize]) * u128::from(target.mac_bf16_fj)
            + u128::from(self.macs[Width::Byte as usize]) * u128::from(target.mac_8bit_fj)
            + u128::from(self.vec_elements) * u128::from(target.vec_element_fj)
            + u128::from(self.act_elements) * u128::from(target.act_element_fj)
            + u128::from(self.chip_bytes) * u128::from(target.spm_byte_fj)
            + u128::from(self.dram_read_bytes + self.dram_write_bytes) * u128::from(target.dram_byte_fj);
        Report {
            cycles: target.mxu_cycles(ticks),
            ticks,
            seconds,
            engines: self.engines.into_iter().collect(),
            dram_read_bytes: self.dram_read_bytes,
            dram_write_bytes: self.dram_write_bytes,
            macs: self.macs.iter().sum(),
            vec_elements: self.vec_elements,
            act_elements: self.act_elements,
            chip_bytes: self.chip_bytes,
            spm_peak_bytes: self.spm_end.max(0) as u64 * target.partitions,
            energy_joules: femtojoules as f64 * 1e-15 + target.static_mw as f64 * 1e-3 * seconds,
            instructions: self.instructions.into_iter().collect(),
            origins: self
                .origins
                .into_iter()
                .filter(|(_, cost)| *cost != OriginReport::default())
                .filter_map(|(origin, cost)| Some((self.names.get(origin as usize)?.clone(), cost)))
                .collect::<IndexMap<_, _>>(),
            host_segments,
            trace: self.trace.unwrap_or_default(),
        }
    }
}

impl StreamCounters {
    /// The range of a word; neighbours mostly share one.
    fn range_of(&mut self, pc: u32) -> usize {
        let inside = |range: &OriginRange| (range.start..range.end).contains(&pc);
        if !self.ranges.get(self.last).is_some_and(inside) {
            let after = self.ranges.partition_point(|range| range.start <= pc);
            let found = after.checked_sub(1).filter(|i| inside(&self.ranges[*i]));
            self.last = found.unwrap_or(self.ranges.len());
        }
        self.last
    }
}
