//! Jumping over repetitions of a steady state.
//!
//! What a device will do depends on its state alone: where each stream stands, the registers that control flow and
//! accumulator addresses depend on, and everything under way, all relative to the present tick. When a loop of a stream
//! comes back to a state that was there before, and the loops that were open have only come nearer to their ends, what
//! lies between is a period, and it will repeat for as long as no such loop ends. So one more period is simulated while
//! everything that is counted is written down; then ticks and counters go on by as many periods as are sure to come.
//!
//! States are compared at the ends of loop iterations, with one kept from an iteration whose number is a power of two
//! (Brent's cycle detection), so a period of any number of iterations is found, and hardly more states are ever kept
//! than loops are open.

use kiln_machine::isa::AccessPattern;

use crate::code::Code;
use crate::counters::Sums;
use crate::device::Blocked;
use crate::mxu::MxuState;
use crate::queue::QueuesState;
use crate::semaphore::SemaphoresState;
use crate::stream::Stream;

/// Instructions that a loop must have before it for a state to be worth keeping.
const WORTH: u64 = 2048;
/// Instructions of a period at most.
const LONGEST: usize = 1 << 22;

/// All of a device that decides what comes, relative to a tick.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) now: u64,
    pub(crate) streams: Vec<StreamState>,
    pub(crate) semaphores: Vec<SemaphoresState>,
    pub(crate) queues: QueuesState,
    pub(crate) mxu: Vec<MxuState>,
    /// Ticks waited by each stream so far; not compared.
    pub(crate) waited: Vec<(u64, u64)>,
}

/// One stream and its clock.
#[derive(Clone, Debug)]
pub(crate) struct StreamState {
    at: usize,
    halted: bool,
    registers: [i64; 32],
    /// Of streams that have instructions that use them.
    patterns: Option<Box<[AccessPattern; 16]>>,
    loops: Vec<LoopState>,
    pub(crate) clock: ClockState,
}

/// The clock of a stream: ticks to its next instruction (none if it waits) and to the end of what it does; what it
/// waits for, and from when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockState {
    pub(crate) next: Option<u64>,
    pub(crate) complete: u64,
    pub(crate) blocked: Option<(Blocked, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct LoopState {
    number: u32,
    instance: u64,
    left: u64,
    /// What its end restores.
    restores: [i64; 4],
}

/// How far a stream came in a period: the loop level, the iterations, and those left.
pub(crate) struct Progress {
    pub(crate) level: usize,
    pub(crate) iterations: u64,
    left: u64,
}

impl StreamState {
    /// Of the registers, those that are `decisive` count.
    pub(crate) fn new(stream: &Stream, code: &Code, decisive: u32, clock: ClockState) -> Self {
        let control = |register: usize| decisive >> register & 1 == 1;
        let value = |register| if control(register) { stream.registers[register] } else { 0 };
        let open = stream.loops.iter();
        Self {
            at: stream.at,
            halted: stream.halted,
            registers: std::array::from_fn(value),
            patterns: (code.dynamic > 0).then(|| Box::new(stream.patterns)),
            loops: open
                .map(|l| LoopState {
                    number: l.number,
                    instance: l.instance,
                    left: l.left,
                    restores: l.restores(decisive),
                })
                .collect(),
            clock,
        }
    }

    /// Whether the stream stands there, as far as that is quickly seen.
    pub(crate) fn resembles(&self, stream: &Stream, next: Option<u64>) -> bool {
        self.at == stream.at && self.clock.next == next
    }

    /// What lies between this state and a later one, if the later one will do the same again.
    pub(crate) fn progress(&self, later: &Stream, decisive: u32) -> Option<Option<Progress>> {
        let mut registers = self.registers.iter().zip(later.registers).enumerate();
        let same = self.at == later.at
            && self.halted == later.halted
            && registers.all(|(i, (before, now))| decisive >> i & 1 == 0 || *before == now)
            && self.patterns.as_ref().is_none_or(|patterns| **patterns == later.patterns)
            && self.loops.len() == later.loops.len();
        if !same {
            return None;
        }
        let mut progress = None;
        // Whether all loops further out are the same entries with the same iterations left.
        let mut unmoved = true;
        for (level, (before, after)) in self.loops.iter().zip(&later.loops).enumerate() {
            if before.number != after.number || before.restores != after.restores(decisive) {
                return None;
            }
            if unmoved && before.instance == after.instance && before.left > after.left {
                progress = Some(Progress { level, iterations: before.left - after.left, left: after.left });
                unmoved = false;
            } else if before.left != after.left {
                return None;
            } else if before.instance != after.instance {
                unmoved = false;
            }
        }
        Some(progress)
    }
}

/// How many more periods are sure to come.
pub(crate) fn repetitions(progress: &[Option<Progress>]) -> u64 {
    progress.iter().flatten().map(|progress| progress.left / progress.iterations).min().unwrap_or(0)
}

/// An execution within the period that is written down.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) stream: u32,
    pub(crate) step: u32,
    pub(crate) times: u64,
    /// What it cost, if that depends on an access pattern.
    pub(crate) sums: Option<Sums>,
}

/// A period that is being written down.
pub(crate) struct Recording {
    stream: usize,
    number: u32,
    pub(crate) start: State,
    /// The tick at which the period is over.
    end: u64,
    pub(crate) taken: Vec<Taken>,
}

/// The search for a state that comes again at a stream's branches back.
#[derive(Default)]
pub(crate) struct Branches {
    seen: u64,
    keep_at: u64,
    kept: Option<State>,
}

impl Branches {
    /// Another branch back is taken: the state to compare with, and whether the present one should be kept.
    pub(crate) fn back(&mut self) -> (Option<&State>, bool) {
        self.seen += 1;
        (self.kept.as_ref(), self.seen > self.keep_at)
    }

    /// Keep a state.
    pub(crate) fn keep(&mut self, state: State) {
        self.keep_at = 2 * self.seen;
        self.kept = Some(state);
    }
}

/// The search for periods.
pub(crate) struct Periods {
    /// For each stream, for each of its loops.
    searches: Vec<Vec<Search>>,
    recording: Option<Recording>,
}

/// The search in one loop.
#[derive(Default)]
struct Search {
    instance: u64,
    seen: u64,
    keep_at: u64,
    kept: Option<State>,
}

/// What a device should do at the end of an iteration.
pub(crate) enum Advice {
    /// Nothing.
    GoOn,
    /// Give its state to [`Periods::keep`].
    Keep,
    /// Compare its state with [`Periods::kept`] and tell [`Periods::compared`].
    Compare,
    /// Compare its state with the start of the recording: a period may be over.
    Finish,
}

impl Periods {
    pub(crate) fn new(codes: &[Code]) -> Self {
        let searches = codes.iter().map(|code| (0..code.loops).map(|_| Search::default()).collect());
        Self { searches: searches.collect(), recording: None }
    }

    /// An instruction was taken, once or several times.
    #[inline]
    pub(crate) fn took(&mut self, stream: usize, step: usize, times: u64, sums: Option<Sums>) {
        if let Some(recording) = &mut self.recording {
            recording.taken.push(Taken { stream: stream as u32, step: step as u32, times, sums });
        }
    }

    /// An iteration of a stream's innermost loop has ended, and another begins.
    pub(crate) fn iteration(
        &mut self,
        index: usize,
        streams: &[Stream],
        taken: u64,
        now: u64,
        next: impl Fn(usize) -> Option<u64>,
    ) -> Advice {
        let Some(open) = streams[index].loops.last() else { return Advice::GoOn };
        if let Some(recording) = &self.recording {
            if now > recording.end || recording.taken.len() > LONGEST {
                self.recording = None;
            } else if (recording.stream, recording.number) == (index, open.number) && now == recording.end {
                return Advice::Finish;
            }
            return Advice::GoOn;
        }
        let each = (taken - open.taken) / (open.begun - 1).max(1);
        if each.saturating_mul(open.left) < WORTH {
            return Advice::GoOn;
        }
        let search = &mut self.searches[index][open.number as usize];
        if search.instance != open.instance {
            *search = Search { instance: open.instance, keep_at: 1, ..Search::default() };
        }
        search.seen += 1;
        if let Some(kept) = &search.kept {
            let mut both = kept.streams.iter().zip(streams).enumerate();
            if both.all(|(i, (before, stream))| before.resembles(stream, next(i))) {
                return Advice::Compare;
            }
        }
        if search.seen == search.keep_at { Advice::Keep } else { Advice::GoOn }
    }

    fn search(&mut self, index: usize, number: u32) -> &mut Search {
        &mut self.searches[index][number as usize]
    }

    /// Keep a state; it is compared with the later ones of its loop.
    pub(crate) fn keep(&mut self, index: usize, number: u32, state: State) {
        let search = self.search(index, number);
        search.keep_at *= 2;
        search.kept = Some(state);
    }

    /// The state of a loop that is kept.
    pub(crate) fn kept(&self, index: usize, number: u32) -> Option<&State> {
        self.searches[index][number as usize].kept.as_ref()
    }

    /// Whether it is this iteration's turn to be kept.
    pub(crate) fn keeps(&self, index: usize, number: u32) -> bool {
        let search = &self.searches[index][number as usize];
        search.seen == search.keep_at
    }

    /// The state that is kept of a loop came again `ticks` later, with this one: write down the period from here on.
    pub(crate) fn record(&mut self, index: usize, number: u32, start: State, ticks: u64) {
        let end = start.now + ticks;
        self.recording = Some(Recording { stream: index, number, start, end, taken: Vec::new() });
    }

    /// The state at the start of the recording.
    pub(crate) fn start(&self) -> Option<&State> {
        self.recording.as_ref().map(|recording| &recording.start)
    }

    /// The recording is complete.
    pub(crate) fn finish(&mut self) -> Option<Recording> {
        let recording = self.recording.take()?;
        *self.search(recording.stream, recording.number) = Search::default();
        Some(recording)
    }
}
