//! Nests of the matrix engine, taken as a whole where what comes of them is known.

use std::collections::HashMap;
use std::rc::Rc;

use super::Device;
use crate::code::{Code, Touch};
use crate::error::SimError;
use crate::live::{NestReads, STRETCH};
use crate::mxu::MxuState;

/// Reads that are kept of all outcomes together, at most.
const MOST_READS: usize = 1 << 20;

/// What came of a nest; ticks count from its start.
struct Outcome {
    /// Until the stream's next instruction.
    ticks: u64,
    /// Until all of it is complete.
    complete: u64,
    /// Waited for the engine's own units.
    hazard: u64,
    /// The matrix engine at the stream's next instruction.
    mxu: MxuState,
    reads: Rc<NestReads>,
}

/// A read in a nest.
pub(super) struct Touched {
    tick: u64,
    reg: u8,
    /// First byte and one past the last.
    bytes: (i64, i64),
}

/// All outcomes.
pub(super) struct Outcomes {
    /// Of each stream, of each class of nests, by the state at the start.
    known: Vec<Vec<HashMap<Box<[u64]>, Outcome>>>,
    reads: usize,
    key: Vec<u64>,
}

impl Outcomes {
    /// Nothing known.
    pub(super) fn new(codes: &[Code]) -> Self {
        let of_code = |code: &Code| code.nests.classes.iter().map(|_| HashMap::new()).collect();
        Self { known: codes.iter().map(of_code).collect(), reads: 0, key: Vec::new() }
    }
}

impl Device<'_> {
    /// Take a nest whose first instruction is next. The stream stands behind it afterwards, if the limit lets it.
    pub(super) fn take_nest(&mut self, index: usize, class: u32) -> Result<(), SimError> {
        let Some(mut outcomes) = self.outcomes.take() else { return self.simulate_nest(index, class) };
        let taken = self.take_nest_with(&mut outcomes, index, class);
        self.outcomes = Some(outcomes);
        taken
    }

    fn take_nest_with(&mut self, outcomes: &mut Outcomes, index: usize, class: u32) -> Result<(), SimError> {
        let Outcomes { known, reads, key } = outcomes;
        let known = &mut known[index][class as usize];
        self.nest_key(index, class, key);
        match known.get(key.as_slice()) {
            Some(outcome) if self.may_replay(index, class, outcome) => {
                self.replay(index, class, outcome);
                Ok(())
            }
            Some(_) => self.simulate_nest(index, class),
            None => {
                let (now, complete) = (self.now, self.clocks[index].complete);
                let hazard = self.counters.streams[index].hazard_ticks;
                self.clocks[index].complete = now;
                self.touched = (*reads < MOST_READS).then(Vec::new);
                self.simulate_nest(index, class)?;
                let clock = &mut self.clocks[index];
                let (next, own) = (clock.next, clock.complete);
                clock.complete = own.max(complete);
                if let Some(touched) = self.touched.take()
                    && next <= self.settings.tick_limit
                    && let Some(all) = self.nest_reads(index, class, &touched, now)
                {
                    *reads += all.len();
                    let outcome = Outcome {
                        ticks: next - now,
                        complete: own - now,
                        hazard: self.counters.streams[index].hazard_ticks - hazard,
                        mxu: self.mxu[self.slots[index]].state(next),
                        reads: Rc::new(all),
                    };
                    known.insert(key.as_slice().into(), outcome);
                }
                Ok(())
            }
        }
    }

    /// A read in a nest that is being simulated.
    #[inline]
    pub(super) fn note_touch(&mut self, touch: &Touch, reg: i64) {
        if let Some(touched) = &mut self.touched {
            let bytes = (touch.bytes.0.wrapping_add(reg), touch.bytes.1.wrapping_add(reg));
            touched.push(Touched { tick: self.now, reg: touch.reg.0 & 31, bytes });
        }
    }

    /// All that decides what comes of a nest.
    fn nest_key(&self, index: usize, class: u32, key: &mut Vec<u64>) {
        let nest = &self.codes[index].nests.classes[class as usize];
        let registers = &self.streams[index].registers;
        key.clear();
        key.extend(nest.accumulators.iter().map(|reg| registers[usize::from(*reg)] as u64));
        key.extend(nest.addresses.iter().map(|reg| registers[usize::from(*reg)].rem_euclid(STRETCH) as u64));
        self.mxu[self.slots[index]].key(self.now, key);
    }

    /// Whether a known outcome stays within the limit, and its reads within the scratchpad.
    fn may_replay(&self, index: usize, class: u32, outcome: &Outcome) -> bool {
        let stretches = self.live[self.slots[index]].stretches();
        self.now + outcome.ticks <= self.settings.tick_limit
            && outcome.reads.within(&self.skipped(index, class), stretches)
    }

    /// How many stretches each address register skips now; a nest ends with the registers that it began with.
    fn skipped(&self, index: usize, class: u32) -> Vec<i64> {
        let addresses = &self.codes[index].nests.classes[class as usize].addresses;
        let registers = &self.streams[index].registers;
        addresses.iter().map(|register| registers[usize::from(*register)].div_euclid(STRETCH)).collect()
    }

    /// Let come of a nest what came of it before.
    fn replay(&mut self, index: usize, class: u32, outcome: &Outcome) {
        let (now, slot) = (self.now, self.slots[index]);
        let nest = &self.codes[index].nests.classes[class as usize];
        let at = self.streams[index].at;
        for (step, times) in nest.counts.iter().enumerate() {
            self.counters.streams[index].executed[at + step] += times;
            self.taken += times;
            if let Some(periods) = &mut self.periods {
                periods.took(index, at + step, *times, None);
            }
        }
        self.counters.streams[index].hazard_ticks += outcome.hazard;
        let (reads, skipped) = (outcome.reads.clone(), self.skipped(index, class));
        self.live[slot].collect_nest(now - self.jumped, index, reads, skipped);
        self.mxu[slot].set_state(&outcome.mxu, now + outcome.ticks);
        let clock = &mut self.clocks[index];
        clock.next = now + outcome.ticks;
        clock.complete = clock.complete.max(now + outcome.complete);
        self.streams[index].at = at + nest.counts.len();
    }

    /// Take the instructions of a nest one by one.
    fn simulate_nest(&mut self, index: usize, class: u32) -> Result<(), SimError> {
        let nest = &self.codes[index].nests.classes[class as usize];
        let behind = self.streams[index].at + nest.counts.len();
        while let Some(step) = self.codes[index].steps.get(self.streams[index].at) {
            self.step(index, step)?;
            let next = self.clocks[index].next;
            if self.streams[index].at == behind || next > self.settings.tick_limit {
                return Ok(());
            }
            self.now = next;
        }
        Ok(())
    }

    /// The reads of a nest that began at the tick `start`; none if some are outside.
    fn nest_reads(&self, index: usize, class: u32, touched: &[Touched], start: u64) -> Option<NestReads> {
        let addresses = &self.codes[index].nests.classes[class as usize].addresses;
        let skipped = self.skipped(index, class);
        let end = self.live[self.slots[index]].stretches() * STRETCH;
        let mut all = Vec::new();
        for touched in touched.iter().filter(|touched| touched.bytes.0 < touched.bytes.1) {
            if touched.bytes.0 < 0 || touched.bytes.1 > end {
                return None;
            }
            let register = addresses.binary_search(&touched.reg).ok()?;
            let stretches = touched.bytes.0 / STRETCH..=(touched.bytes.1 - 1) / STRETCH;
            let tick = touched.tick - start;
            all.extend(stretches.map(|stretch| (register, stretch - skipped[register], tick)));
        }
        Some(NestReads::new(all, addresses.len()))
    }
}
