//! Nests of the matrix engine, taken as a whole where what comes of them is known.

use std::collections::{BTreeMap, HashMap};

use super::Device;
use crate::code::{Code, Touch};
use crate::error::SimError;
use crate::live::STRETCH;
use crate::mxu::MxuState;

/// Reads that are kept of all outcomes together, at most.
const MOST_READS: usize = 1 << 21;

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
    reads: Vec<Read>,
}

/// The last read of stretches of the scratchpad side by side.
struct Read {
    tick: u64,
    reg: u8,
    /// The first stretch and their number, less the stretches that the register's value at the start skips.
    first: i64,
    count: i64,
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
        let Some(mut outcomes) = self.outcomes.take() else { return self.step(index) };
        let taken = self.take_nest_with(&mut outcomes, index, class);
        self.outcomes = Some(outcomes);
        taken
    }

    fn take_nest_with(&mut self, outcomes: &mut Outcomes, index: usize, class: u32) -> Result<(), SimError> {
        let Outcomes { known, reads, key } = outcomes;
        let known = &mut known[index][class as usize];
        self.nest_key(index, class, key);
        match known.get(key.as_slice()) {
            Some(outcome) if self.may_replay(index, outcome) => {
                self.replay(index, class, outcome);
                Ok(())
            }
            Some(_) => self.simulate_nest(index, class),
            None => {
                let registers = self.streams[index].registers;
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
                    && let Some(last) = self.last_reads(&touched, now, &registers)
                {
                    *reads += last.len();
                    let outcome = Outcome {
                        ticks: next - now,
                        complete: own - now,
                        hazard: self.counters.streams[index].hazard_ticks - hazard,
                        mxu: self.mxu[self.slots[index]].state(next),
                        reads: last,
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
    fn may_replay(&self, index: usize, outcome: &Outcome) -> bool {
        let live = &self.live[self.slots[index]];
        self.now + outcome.ticks <= self.settings.tick_limit
            && outcome.reads.iter().all(|read| {
                let first = self.first_stretch(index, read);
                first >= 0 && first + read.count <= live.stretches()
            })
    }

    fn first_stretch(&self, index: usize, read: &Read) -> i64 {
        read.first + self.streams[index].registers[usize::from(read.reg)].div_euclid(STRETCH)
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
        for read in &outcome.reads {
            let first = self.first_stretch(index, read);
            self.live[slot].read(first, read.count, now - self.jumped + read.tick);
        }
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
        loop {
            self.step(index)?;
            let next = self.clocks[index].next;
            if self.streams[index].at == behind || next > self.settings.tick_limit {
                return Ok(());
            }
            self.now = next;
        }
    }

    /// The last read of each stretch, by tick from `start` on, where these were the registers; none if some are outside.
    fn last_reads(&self, touched: &[Touched], start: u64, registers: &[i64; 32]) -> Option<Vec<Read>> {
        let mut last: BTreeMap<(u8, i64), u64> = BTreeMap::new();
        for Touched { tick, reg, bytes: (first, end) } in touched {
            let skipped = registers[usize::from(*reg)].div_euclid(STRETCH);
            if *first < 0 || *end > self.live[0].stretches() * STRETCH {
                return None;
            }
            if first < end {
                let stretches = first.div_euclid(STRETCH)..=(end - 1).div_euclid(STRETCH);
                last.extend(stretches.map(|stretch| ((*reg, stretch - skipped), tick - start)));
            }
        }
        let mut reads: Vec<Read> = Vec::new();
        for ((reg, first), tick) in last {
            match reads.last_mut() {
                Some(read) if (read.reg, read.tick, read.first + read.count) == (reg, tick, first) => {
                    read.count += 1;
                }
                _ => reads.push(Read { tick, reg, first, count: 1 }),
            }
        }
        reads.sort_by_key(|read| read.tick);
        Some(reads)
    }
}
