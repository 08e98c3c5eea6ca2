//! The event loop: values and ticks of one device segment in one pass.
//!
//! Time is the tick of the base clock. In each turn the earliest of three things happens: a semaphore signal
//! arrives, a DMA transfer starts or ends, or an engine takes its next instruction; at equal ticks in this
//! order, and engines in theirs. Values are computed when an instruction issues. Since a signal leaves when its
//! cause is complete, an engine that waited for it computes after its producers did, and values do not depend
//! on timing as long as the program's waits are right. What computes them may be done later than the loop goes on
//! ([`flow`](crate::kernels::flow)), but as if it were not.

mod events;
mod issue;
mod jump;
mod nest;
mod together;

use nest::{Outcomes, Touched};

use kiln_machine::duration::Cost;
use kiln_machine::isa::{AccessPattern, Csr, Engine, Inst};
use kiln_machine::target::Target;

use crate::bandwidth::{Bandwidth, NEVER, Rate};
use crate::code::{Code, Kind, Step, Touch};
use crate::collective::Torus;
use crate::counters::{Counters, Sums};
use crate::error::{SimError, Trap, TrapKind};
use crate::execute::Memories;
use crate::kernels::flow::Tag;
use crate::live::Live;
use crate::mxu::MxuTiming;
use crate::period::{Branches, Periods};
use crate::queue::{Ended, Queues, Signal};
use crate::sanitize::Sanitizer;
use crate::semaphore::Semaphores;
use crate::stream::Stream;

/// Why an engine does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// It waits for a semaphore to reach `n`.
    Semaphore { semaphore: u8, n: u16 },
    /// It waits for its transfers.
    Transfers,
    /// It waits for the other cores of its group.
    Cores { group: u8 },
}

/// An engine in time.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// It takes its next instruction then.
    next: u64,
    /// All its instructions but transfers are complete then.
    complete: u64,
    blocked: Option<(Blocked, u64)>,
}

/// What a run needs to know besides the streams.
pub(crate) struct Settings<'a> {
    pub(crate) target: &'a Target,
    /// Stop after this tick.
    pub(crate) tick_limit: u64,
    /// Values of the runtime scalars.
    pub(crate) scalars: &'a [i32],
    /// Compute values, or time only.
    pub(crate) values: bool,
    /// Jump over repetitions of steady states; only without values.
    pub(crate) jump: bool,
}

/// What a transfer cost when it was last taken, and the patterns it had.
struct Memo {
    /// How many patterns its stream had set by then.
    patterns_set: u64,
    patterns: [AccessPattern; 3],
    cost: Cost,
    sums: Sums,
    touches: Vec<Touch>,
}

/// One device segment under way.
pub(crate) struct Device<'a> {
    settings: &'a Settings<'a>,
    pub(crate) codes: &'a [Code],
    pub(crate) streams: Vec<Stream>,
    clocks: Vec<Clock>,
    /// Of each core.
    semaphores: Vec<Semaphores>,
    /// Of all cores, one core's after another's.
    queues: Queues,
    /// Of each core.
    mxu: Vec<MxuTiming>,
    /// Which of the cores each stream belongs to.
    slots: Vec<usize>,
    torus: Torus,
    /// Where each collective engine stands in the meeting that it waits for.
    meetings: Vec<Meeting>,
    memories: &'a mut Memories,
    pub(crate) counters: &'a mut Counters,
    live: &'a mut [Live],
    sanitizer: Option<Sanitizer<'a>>,
    /// The tick of what happens now; streams that run ahead are later than `time`.
    now: u64,
    /// All that happens before this tick has happened.
    time: u64,
    /// The last tick of all in which something happened.
    latest: u64,
    /// Instructions taken.
    taken: u64,
    /// Ticks jumped over.
    jumped: u64,
    memos: Vec<Vec<Option<Memo>>>,
    periods: Option<Periods>,
    /// Of each stream, if its state tells what comes.
    branches: Option<Vec<Branches>>,
    /// The stream of each queue.
    streams_of_queues: Vec<usize>,
    /// The queue of each stream, if it is one's.
    queues_of_streams: Vec<Option<usize>>,
    /// Transfers that have just ended.
    ended: Vec<Ended>,
    /// Take instructions that nothing else can hinder before their time comes.
    ahead: bool,
    /// Of the stream whose turn it is: up to that tick it goes on before others.
    bound: u64,
    /// Streams whose waits are over, if instructions are taken ahead.
    woken: Vec<usize>,
    /// Whether a counter may have overflowed unseen.
    unsure: bool,
    /// What came of nests, if instructions are taken ahead.
    outcomes: Option<Outcomes>,
    /// Reads of the nest that is being simulated, if its outcome will be kept.
    touched: Option<Vec<Touched>>,
}

/// Where a stream stands in a meeting of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// It is at none.
    Away,
    /// It is there.
    There,
    /// All have been there; it goes on from that tick.
    Over,
}

impl<'a> Device<'a> {
    /// All streams at their first instruction, at tick `start`.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        settings: &'a Settings<'a>,
        codes: &'a [Code],
        memories: &'a mut Memories,
        counters: &'a mut Counters,
        live: &'a mut [Live],
        sanitizer: Option<Sanitizer<'a>>,
        start: u64,
    ) -> Result<Self, SimError> {
        let target = settings.target;
        let core_count = memories.cores.len();
        let semaphores: Vec<Semaphores> = memories
            .cores
            .iter()
            .map(|core| Semaphores::new(target.semaphores as usize, core.number, codes))
            .collect::<Result<Vec<_>, _>>()?;
        let slots: Vec<usize> = codes.iter().map(|code| memories.slot(code.core).unwrap_or(0)).collect();
        let queue_count = core_count * target.dma_queues as usize;
        let per_tick = |bytes_per_second| Rate::per_tick(bytes_per_second, target.base_clock_hz);
        let bandwidth = Bandwidth::new(
            queue_count,
            per_tick(target.dma_queue_bytes_per_second),
            per_tick(target.dram_bytes_per_second),
            start,
        );
        let streams: Vec<Stream> = codes.iter().map(Stream::new).collect();
        let clock = |stream: &Stream| Clock {
            next: if stream.halted { NEVER } else { start },
            complete: start,
            blocked: None,
        };
        let mut streams_of_queues = vec![0; queue_count];
        let mut queues_of_streams = vec![None; codes.len()];
        for (index, code) in codes.iter().enumerate() {
            if let Engine::Queue(queue) = code.engine {
                let queue = slots[index] * target.dma_queues as usize + usize::from(queue);
                streams_of_queues[queue] = index;
                queues_of_streams[index] = Some(queue);
            }
        }
        // Periods are looked for in the state of one core.
        let quiet = !settings.values && counters.recorder.is_none() && sanitizer.is_none();
        let ahead = settings.jump && quiet;
        // The clock and values that branches depend on are no part of the state.
        let by_clock = codes.iter().any(|code| code.by_clock);
        let by_values = settings.values && codes.iter().any(|code| code.by_values);
        let jump = ahead && core_count == 1 && !by_clock;
        let branches = (core_count == 1 && !by_clock && !by_values)
            .then(|| codes.iter().map(|_| Branches::default()).collect());
        let mut semaphores = semaphores;
        if ahead {
            semaphores.iter_mut().for_each(Semaphores::run_ahead);
        }
        Ok(Self {
            settings,
            codes,
            clocks: streams.iter().map(clock).collect(),
            streams,
            semaphores,
            queues: Queues::new(queue_count, bandwidth),
            mxu: (0..core_count).map(|_| MxuTiming::new(target.partitions, target.row_groups)).collect(),
            slots,
            torus: Torus::new(target),
            meetings: vec![Meeting::Away; codes.len()],
            memories,
            counters,
            live,
            sanitizer,
            now: start,
            time: start,
            latest: start,
            taken: 0,
            jumped: 0,
            memos: codes.iter().map(|code| (0..code.dynamic).map(|_| None).collect()).collect(),
            branches,
            periods: jump.then(|| Periods::new(codes)),
            streams_of_queues,
            queues_of_streams,
            ended: Vec::new(),
            ahead,
            bound: 0,
            woken: Vec::new(),
            unsure: false,
            outcomes: ahead.then(|| Outcomes::new(codes)),
            touched: None,
        })
    }

    /// Run to the end; the tick of the last completion. None if the outcome is not sure: then only a run without jumps
    /// tells it.
    pub(crate) fn run(mut self) -> Result<Option<u64>, SimError> {
        let outcome = self.run_to_end();
        if self.unsure {
            return Ok(None);
        }
        // Streams have other numbers in the next segment.
        self.live.iter_mut().for_each(|live| live.settle(NEVER));
        // Every task before the one that failed has been run, and what came after it does not count.
        let outcome = match self.memories.flow.finish() {
            Some((tag, kind)) => {
                self.now = tag.tick;
                Err(self.trap_at(tag.stream as usize, tag.pc, kind))
            }
            None => outcome,
        };
        match (self.sanitizer.take(), &outcome) {
            (Some(sanitizer), Ok(_)) => sanitizer.finish(),
            (Some(sanitizer), Err(error)) => sanitizer.stopped(error),
            (None, _) => {}
        }
        outcome.map(Some)
    }

    fn run_to_end(&mut self) -> Result<u64, SimError> {
        while !self.memories.flow.has_failed() {
            while let Some(index) = self.woken.pop() {
                let (next, at) = (self.clocks[index].next, self.streams[index].at);
                if self.goes_ahead(next, self.codes[index].steps.get(at)) {
                    self.now = next;
                    self.bound = 0;
                    self.take_while_first(index)?;
                }
            }
            // The earliest tick of an engine and the second; no branches, since what they hold is not foreseen.
            let (mut tick, mut second) = (NEVER, NEVER);
            for clock in &self.clocks {
                second = second.min(clock.next.max(tick));
                tick = tick.min(clock.next);
            }
            let (signal, transfer) = (self.next_signal(), self.queues.next_event());
            let next = tick.min(signal).min(transfer);
            if next == NEVER || self.unsure {
                break;
            }
            if next > self.settings.tick_limit {
                return Err(self.cycle_limit());
            }
            (self.now, self.time) = (next, next);
            self.latest = self.latest.max(next);
            for live in self.live.iter_mut().filter(|live| live.is_full()) {
                live.settle(next - self.jumped);
            }
            if signal == next {
                self.signal_arrives()?;
            } else if transfer == next {
                self.transfers_advance(next);
            } else {
                // At equal ticks the engine that comes first in order goes first.
                let index = self.clocks.iter().position(|clock| clock.next == tick).unwrap_or(0);
                let yields = self.clocks[..index].iter().any(|clock| clock.next == second);
                self.bound = second.saturating_sub(yields.into()).min(self.settings.tick_limit);
                self.take_while_first(index)?;
            }
        }
        // Also signals that nobody waits for arrive before the end.
        let last = self.semaphores.iter().map(Semaphores::last_arrival).fold(self.latest, u64::max);
        if last > self.settings.tick_limit {
            return Err(self.cycle_limit());
        }
        self.now = last;
        if self.streams.iter().any(|stream| !stream.halted) {
            return Err(self.deadlock());
        }
        Ok(self.clocks.iter().map(|clock| clock.complete).fold(self.now, u64::max))
    }

    /// Let an engine take instructions for as long as nothing else comes first, up to the tick `bound`, and then
    /// those that nothing else can hinder or see.
    fn take_while_first(&mut self, index: usize) -> Result<(), SimError> {
        let code = &self.codes[index];
        let mut step = code.steps.get(self.streams[index].at);
        while let Some(taken) = step {
            match code.nests.at(taken) {
                Some(class) if self.ahead => self.take_nest(index, class)?,
                _ => self.step(index, taken)?,
            }
            let next = self.clocks[index].next;
            if next == NEVER {
                break;
            }
            step = code.steps.get(self.streams[index].at);
            let failed = self.settings.values && self.memories.flow.has_failed();
            if failed || !(self.goes_ahead(next, step) || self.is_first(next)) {
                break;
            }
            self.now = next;
        }
        if step.is_none() {
            self.streams[index].halted = true;
            self.clocks[index].next = NEVER;
        }
        self.latest = self.latest.max(self.now);
        Ok(())
    }

    /// Whether nothing else comes before the next instruction of the stream whose turn it is.
    #[inline]
    fn is_first(&self, next: u64) -> bool {
        next <= self.bound && next < self.next_signal() && next < self.queues.next_event()
    }

    /// Whether an instruction can be taken at the tick `next` before other events up to then: it neither looks at what
    /// other streams do, nor can it stop the run.
    #[inline]
    fn goes_ahead(&self, next: u64, step: Option<&Step>) -> bool {
        self.ahead && next <= self.settings.tick_limit && step.is_some_and(|step| step.ahead)
    }

    /// The semaphores that a stream sees.
    pub(crate) fn semaphores(&self, index: usize) -> &Semaphores {
        &self.semaphores[self.slots[index]]
    }

    /// The number of a stream's queue among those of all cores, if it is a queue's.
    #[inline]
    fn queue_of(&self, index: usize) -> Option<usize> {
        self.queues_of_streams[index]
    }

    /// An engine takes its next instruction, or finds that it cannot yet.
    #[inline]
    fn step(&mut self, index: usize, step: &'a Step) -> Result<(), SimError> {
        match self.take(index, step) {
            Ok(false) => Ok(()),
            Ok(true) => self.went_back(index, step),
            Err(kind) => Err(self.trap_at(index, step.pc, kind)),
        }
    }

    /// An instruction has led back: the same may come again.
    fn went_back(&mut self, index: usize, step: &Step) -> Result<(), SimError> {
        if !matches!(step.inst, Inst::Br { .. }) {
            self.iteration(index);
        } else if self.is_endless(index) {
            return Err(self.endless(index, step));
        }
        Ok(())
    }

    /// Take an instruction if it can issue now; whether it leads back.
    #[inline(always)]
    fn take(&mut self, index: usize, step: &'a Step) -> Result<bool, TrapKind> {
        let code = &self.codes[index];
        match (step.kind, &step.inst) {
            (Kind::Own | Kind::Loop, inst) => {
                self.count(index, None);
                let again = self.streams[index].take(code, inst, self.taken)?;
                self.go_on(index, self.now + step.cost.latency, step.cost.issue);
                // A short loop is not worth a look.
                Ok(again && !step.ahead)
            }
            (Kind::Wait, Inst::Semw { sem, n }) => {
                if self.wait(index, sem.0, *n)? {
                    self.count(index, None);
                    if let Some(recorder) = &mut self.counters.recorder {
                        recorder.wait(index, sem.0, *n);
                    }
                    self.streams[index].advance(code);
                    self.go_on(index, self.now + step.cost.latency, step.cost.issue);
                }
                Ok(false)
            }
            (Kind::Signal, Inst::Sems { sem, n }) => {
                self.count(index, None);
                if let Some(recorder) = &mut self.counters.recorder {
                    recorder.signal(index, sem.0, *n);
                }
                self.signal(index, Signal { semaphore: sem.0, n: *n, pc: step.pc, earliest: self.now })?;
                self.streams[index].advance(code);
                self.go_on(index, self.now + step.cost.latency, step.cost.issue);
                Ok(false)
            }
            _ => self.take_other(index, step).map(|()| false),
        }
    }

    /// Count an instruction that is taken.
    #[inline(always)]
    fn count(&mut self, index: usize, sums: Option<Sums>) {
        self.taken += 1;
        let at = self.streams[index].at;
        if let Some(sanitizer) = &mut self.sanitizer {
            let chip = self.settings.values.then_some(&mut self.memories.cores[self.slots[index]].chip);
            sanitizer.take(index, at, &self.streams[index], chip);
        }
        self.counters.streams[index].executed[at] += 1;
        if let Some(periods) = &mut self.periods {
            periods.took(index, at, 1, sums);
        }
    }

    /// Take an instruction that does more than to order others, if it can issue now.
    fn take_other(&mut self, index: usize, step: &'a Step) -> Result<(), TrapKind> {
        if !self.may_issue(index, step)? {
            return Ok(());
        }
        let mut cost = step.cost;
        let mut sums = None;
        if let Some(dynamic) = step.dynamic {
            let memo = self.memo(index, dynamic as usize, step);
            let once = memo.sums;
            (cost, sums) = (memo.cost, Some(once));
            self.counters.streams[index].sums[dynamic as usize].add(once, 1);
        }
        self.count(index, sums);
        match &step.inst {
            Inst::Halt {} => {
                self.streams[index].halted = true;
                self.clocks[index].next = NEVER;
                return Ok(());
            }
            Inst::Trap { code } => return Err(TrapKind::Code { code: *code }),
            Inst::ReadCsr { rd, which } => {
                let value = self.control_register(index, *which)?;
                self.streams[index].set_register(*rd, value);
            }
            inst => {
                self.touch(index, step);
                if let Inst::Cput { core, dst, src, shape } = inst {
                    cost = self.put(index, step, *core, (dst, src, *shape))?;
                } else if let Inst::Cred { .. } = inst {
                    cost = together::MET;
                } else if self.settings.values {
                    self.memories.flow.set_tag(Tag { stream: index as u32, pc: step.pc, tick: self.now });
                    self.memories.execute(self.slots[index], inst, &mut self.streams[index])?;
                }
            }
        }
        self.streams[index].advance(&self.codes[index]);
        self.occupy(index, step, &cost);
        Ok(())
    }

    /// Note what the instruction touches in the scratchpad.
    fn touch(&mut self, index: usize, step: &Step) {
        let (stream, tick) = (&self.streams[index], self.now - self.jumped);
        let live = &mut self.live[self.slots[index]];
        let memo = step.dynamic.and_then(|dynamic| self.memos[index][dynamic as usize].as_ref());
        let touches = step.touches.iter().chain(memo.iter().flat_map(|memo| &memo.touches));
        for touch in touches {
            let reg = stream.added(touch.reg);
            match self.ahead {
                true => live.collect(tick, index, touch, reg),
                false => live.touch(tick, touch, reg),
            }
        }
        if self.touched.is_some() {
            for touch in &step.touches {
                self.note_touch(touch, self.streams[index].added(touch.reg));
            }
        }
    }

    fn control_register(&self, index: usize, which: Csr) -> Result<i64, TrapKind> {
        match which {
            Csr::Scalar(n) => match self.settings.scalars.get(usize::from(n)) {
                Some(value) => Ok(i64::from(*value)),
                None => Err(TrapKind::Absent("a runtime scalar of this number")),
            },
            Csr::Cycle => Ok((self.now / self.settings.target.mxu_clock_div) as i64),
            Csr::Core => Ok(self.codes[index].core.into()),
        }
    }

    fn trap_at(&self, index: usize, pc: u32, kind: TrapKind) -> SimError {
        let code = &self.codes[index];
        SimError::Trap(Box::new(Trap {
            engine: code.name(),
            pc,
            cycle: self.now / self.settings.target.mxu_clock_div,
            instruction: code.at_word(pc).map_or_else(String::new, |inst| inst.to_string()),
            origin: code.origin(pc, &self.counters.names),
            kind,
        }))
    }

    /// Where an engine stands: word, instruction and origin.
    pub(crate) fn standing(&self, index: usize) -> String {
        let (code, stream) = (&self.codes[index], &self.streams[index]);
        match code.steps.get(stream.at) {
            Some(step) if !stream.halted => {
                let origin = code.origin(step.pc, &self.counters.names);
                format!("{} at word {}: {}  [{origin}]", code.name(), step.pc, step.inst)
            }
            _ => format!("{} has ended", code.name()),
        }
    }

    /// What an engine waits for.
    pub(crate) fn blocked(&self, index: usize) -> Option<Blocked> {
        self.clocks[index].blocked.map(|(why, _)| why)
    }

    fn cycle(&self) -> u64 {
        self.now / self.settings.target.mxu_clock_div
    }

    fn cycle_limit(&self) -> SimError {
        let engines: Vec<String> =
            (0..self.streams.len()).map(|i| format!("  {}", self.standing(i))).collect();
        SimError::CycleLimit {
            limit: self.settings.tick_limit / self.settings.target.mxu_clock_div,
            engines: engines.join("\n"),
        }
    }

    fn endless(&self, index: usize, step: &Step) -> SimError {
        let code = &self.codes[index];
        let origin = code.origin(step.pc, &self.counters.names);
        SimError::Endless { at: format!("{} at word {}: {}  [{origin}]", code.name(), step.pc, step.inst) }
    }

    fn deadlock(&self) -> SimError {
        crate::deadlock::error(self, self.cycle())
    }
}
