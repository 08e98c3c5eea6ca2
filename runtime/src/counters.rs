//! Counting while a program runs, and the report at its end.
//!
//! While it runs, each instruction only counts its executions; what they cost is worked out at the end. Where the
//! cost depends on an access pattern it is added up as it comes.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use kiln_machine::duration::Cost;
use kiln_machine::isa::{AccessPattern, Class, Engine, Extent};
use kiln_machine::target::Target;

use crate::code::{self, Code, Step, Unit, Width};
use crate::live::Live;
use crate::recorder::Recorder;
use crate::report::{EngineReport, OriginReport, Report, split};

/// The counters of a run over all its segments.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) names: Vec<String>,
    /// The streams of the segment that runs.
    pub(crate) streams: Vec<StreamCounters>,
    engines: BTreeMap<Engine, EngineReport>,
    origins: BTreeMap<u32, OriginReport>,
    instructions: BTreeMap<&'static str, u64>,
    dram_read_bytes: u64,
    dram_write_bytes: u64,
    macs: u64,
    vec_elements: u64,
    act_elements: u64,
    chip_bytes: u64,
    pub(crate) recorder: Option<Recorder>,
}

/// One stream of the running segment.
#[derive(Default)]
pub(crate) struct StreamCounters {
    /// How often each instruction was taken.
    pub(crate) executed: Vec<u64>,
    /// The sums of those whose cost depends on access patterns.
    pub(crate) sums: Vec<Sums>,
    pub(crate) semaphore_ticks: u64,
    pub(crate) hazard_ticks: u64,
}

/// What executions of one instruction cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) busy: u64,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
    pub(crate) chip_bytes: u64,
}

impl Sums {
    /// One execution.
    pub(crate) fn of(cost: &Cost, chip_bytes: u64) -> Self {
        Self {
            busy: cost.busy,
            read_bytes: cost.dram_read_bytes,
            write_bytes: cost.dram_write_bytes,
            chip_bytes,
        }
    }

    fn times(self, n: u64) -> Self {
        Self {
            busy: self.busy * n,
            read_bytes: self.read_bytes * n,
            write_bytes: self.write_bytes * n,
            chip_bytes: self.chip_bytes * n,
        }
    }

    /// Add `n` executions.
    pub(crate) fn add(&mut self, other: Self, n: u64) {
        let other = other.times(n);
        self.busy += other.busy;
        self.read_bytes += other.read_bytes;
        self.write_bytes += other.write_bytes;
        self.chip_bytes += other.chip_bytes;
    }
}

impl Counters {
    /// Nothing counted; `names` are the program's origins.
    pub(crate) fn new(names: &[String], recorder: Option<Recorder>) -> Self {
        Self { names: names.to_vec(), recorder, ..Self::default() }
    }

    /// A device segment begins, with this code.
    pub(crate) fn begin(&mut self, segment: u32, codes: &[Code]) {
        if let Some(recorder) = &mut self.recorder {
            recorder.begin(segment, codes.iter().map(|code| code.core).collect());
        }
        let stream = |code: &Code| StreamCounters {
            executed: vec![0; code.steps.len()],
            sums: vec![Sums::default(); code.dynamic],
            ..StreamCounters::default()
        };
        self.streams = codes.iter().map(stream).collect();
    }

    /// An engine stood still for so long.
    pub(crate) fn waited(&mut self, index: usize, for_semaphore: bool, ticks: u64) {
        let stream = &mut self.streams[index];
        if for_semaphore {
            stream.semaphore_ticks += ticks;
        } else {
            stream.hazard_ticks += ticks;
        }
    }

    /// The running segment has ended: work out what its instructions cost.
    pub(crate) fn finish(&mut self, codes: &[Code], target: &Target) {
        for (code, stream) in codes.iter().zip(std::mem::take(&mut self.streams)) {
            let mut engine = EngineReport {
                semaphore_ticks: stream.semaphore_ticks,
                hazard_ticks: stream.hazard_ticks,
                ..EngineReport::default()
            };
            // The last is for words without origin.
            let mut costs = vec![OriginReport::default(); code.origins.len() + 1];
            for (step, &executed) in code.steps.iter().zip(&stream.executed).filter(|(_, n)| **n > 0) {
                // Of operands whose extents depend on no access pattern.
                let fixed = |extent: &Extent| matches!(extent, Extent::Shape(_));
                let chip_bytes = code::chip_bytes(&step.inst, &[AccessPattern::default(); 16], fixed);
                let sums = match step.dynamic {
                    Some(dynamic) => {
                        let mut sums = stream.sums[dynamic as usize];
                        sums.chip_bytes += chip_bytes * executed;
                        sums
                    }
                    None => Sums::of(&step.cost, chip_bytes).times(executed),
                };
                let cost = &mut costs[step.origin as usize];
                self.count(code.engine, step, executed, sums, target, &mut engine, cost);
            }
            let total = self.engines.entry(code.engine).or_default();
            total.busy_ticks += engine.busy_ticks;
            total.semaphore_ticks += engine.semaphore_ticks;
            total.hazard_ticks += engine.hazard_ticks;
            total.instructions += engine.instructions;
            total.energy_fj += engine.energy_fj;
            self.share(code, &costs);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn count(
        &mut self,
        on: Engine,
        step: &Step,
        executed: u64,
        sums: Sums,
        target: &Target,
        engine: &mut EngineReport,
        origin: &mut OriginReport,
    ) {
        let work = code::work_of(&step.inst);
        let [macs, vec_elements, act_elements] =
            [work.macs, work.vec_elements, work.act_elements].map(|n| n * executed);
        let mac_fj = match work.width {
            Width::F32 => target.mac_f32_fj,
            Width::Half => target.mac_bf16_fj,
            Width::Byte => target.mac_8bit_fj,
        };
        let dram_bytes = sums.read_bytes + sums.write_bytes;
        let energy_fj = [
            (macs, mac_fj),
            (vec_elements, target.vec_element_fj),
            (act_elements, target.act_element_fj),
            (sums.chip_bytes, target.spm_byte_fj),
            (dram_bytes, target.dram_byte_fj),
        ]
        .into_iter()
        .fold(0u64, |sum, (count, each)| sum.saturating_add(count.saturating_mul(each)));
        *self.instructions.entry(step.inst.mnemonic()).or_default() += executed;
        self.macs += macs;
        self.vec_elements += vec_elements;
        self.act_elements += act_elements;
        self.chip_bytes += sums.chip_bytes;
        self.dram_read_bytes += sums.read_bytes;
        self.dram_write_bytes += sums.write_bytes;
        engine.instructions += executed;
        engine.energy_fj = engine.energy_fj.saturating_add(energy_fj);
        origin.energy_fj = origin.energy_fj.saturating_add(energy_fj);
        if step.inst.class() == Class::Any || matches!(step.unit, Unit::None) {
            return;
        }
        engine.busy_ticks += sums.busy;
        let ticks = match on {
            Engine::Mxu => Some(&mut origin.mxu_ticks),
            Engine::Vec => Some(&mut origin.vec_ticks),
            Engine::Act => Some(&mut origin.act_ticks),
            Engine::Queue(_) => Some(&mut origin.dma_ticks),
            Engine::Ctl | Engine::Col => None,
        };
        if let Some(ticks) = ticks {
            *ticks += sums.busy;
        }
        origin.dram_bytes += dram_bytes;
        origin.macs += macs;
    }

    /// Share the costs of a stream's origin ranges out to the origins.
    fn share(&mut self, code: &Code, costs: &[OriginReport]) {
        for (range, cost) in code.origins.iter().zip(costs) {
            if *cost == OriginReport::default() {
                continue;
            }
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
            give(cost.energy_fj, |o| &mut o.energy_fj);
        }
    }

    /// The report of a run of `ticks` ticks.
    ///
    /// The scratchpads of its cores are told by the one with the highest water; the trace's counter is the first one's.
    pub(crate) fn report(self, target: &Target, ticks: u64, host_segments: u64, live: Vec<Live>) -> Report {
        let tells = self.recorder.is_some();
        let waters: Vec<_> = live.into_iter().map(|live| live.finish(tells)).collect();
        let spm_peak_bytes = waters.iter().map(|(peak, _)| *peak).max().unwrap_or(0);
        let spm = waters.into_iter().next().map(|(_, timeline)| timeline).unwrap_or_default();
        let recorded = self.recorder.map(|recorder| recorder.finish(spm));
        let (trace, timeline) = recorded.unwrap_or_default();
        let seconds = target.seconds(ticks);
        let femtojoules: u128 = self.engines.values().map(|engine| u128::from(engine.energy_fj)).sum();
        let static_joules = target.static_mw as f64 * 1e-3 * seconds;
        Report {
            cycles: target.mxu_cycles(ticks),
            ticks,
            seconds,
            engines: self.engines.into_iter().collect(),
            dram_read_bytes: self.dram_read_bytes,
            dram_write_bytes: self.dram_write_bytes,
            macs: self.macs,
            vec_elements: self.vec_elements,
            act_elements: self.act_elements,
            chip_bytes: self.chip_bytes,
            spm_peak_bytes,
            energy_joules: femtojoules as f64 * 1e-15 + static_joules,
            static_joules,
            instructions: self.instructions.into_iter().collect(),
            origins: self
                .origins
                .into_iter()
                .filter(|(_, cost)| *cost != OriginReport::default())
                .filter_map(|(origin, cost)| Some((self.names.get(origin as usize)?.clone(), cost)))
                .collect::<IndexMap<_, _>>(),
            host_segments,
            trace,
            timeline,
        }
    }
}
