//! The event loop: values and ticks of one device segment in one pass.
//!
//! Time is the tick of the base clock. In each turn the earliest of three things happens: a semaphore signal
//! arrives, a DMA transfer starts or ends, or an engine takes its next instruction; at equal ticks in this
//! order, and engines in theirs. Values are computed when an instruction issues. Since a signal leaves when its
//! cause is complete, an engine that waited for it computes after its producers did, and values do not depend
//! on timing as long as the program's waits are right. What computes them may be done later than the loop goes on
//! ([`flow`](crate::kernels::flow)), but as if it were not.

mod issue;
mod jump;
mod nest;
mod together;

use nest::{Outcomes, Touched};

use kiln_machine::duration::{self, Cost};
use kiln_machine::isa::{AccessPattern, Csr, Engine, Inst};
use kiln_machine::target::Target;

use crate::bandwidth::{Bandwidth, Rate};
use crate::code::ahead::Ahead;
use crate::code::{Code, Step, Touch};
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

/// No event: blocked or halted.
const NEVER: u64 = u64::MAX;

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
    now: u64,
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
    /// Transfers that have just ended.
    ended: Vec<Ended>,
    /// Take instructions that nothing else can hinder before their time comes.
    ahead: bool,
    /// Of the stream whose turn it is: up to that tick it goes on before others.
    bound: u64,
    /// The number of its turn.
    turn: u64,
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
        for (index, code) in codes.iter().enumerate() {
            if let Engine::Queue(queue) = code.engine {
                streams_of_queues[slots[index] * target.dma_queues as usize + usize::from(queue)] = index;
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
            taken: 0,
            jumped: 0,
            memos: codes.iter().map(|code| (0..code.dynamic).map(|_| None).collect()).collect(),
            branches,
            periods: jump.then(|| Periods::new(codes)),
            streams_of_queues,
            ended: Vec::new(),
            ahead,
            bound: 0,
            turn: 0,
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
            // At equal ticks the engine that comes first in order goes first.
            let (mut tick, mut index) = (NEVER, 0);
            let (mut second, mut second_index) = (NEVER, usize::MAX);
            for (i, clock) in self.clocks.iter().enumerate() {
                if clock.next < tick {
                    (second, second_index) = (tick, index);
                    (tick, index) = (clock.next, i);
                } else if clock.next < second {
                    (second, second_index) = (clock.next, i);
                }
            }
            let (signal, transfer) = (self.next_signal(), self.queues.next_event());
            let event = signal.unwrap_or(NEVER).min(transfer.unwrap_or(NEVER));
            let next = tick.min(event);
            if next == NEVER || self.unsure {
                break;
            }
            if next > self.settings.tick_limit {
                return Err(self.cycle_limit());
            }
            self.now = next;
            if signal == Some(next) {
                self.signal_arrives()?;
            } else if transfer == Some(next) {
                self.transfers_advance(next);
            } else {
                let bound = second - u64::from(second_index < index && second > 0);
                self.bound = bound.min(self.settings.tick_limit);
                self.take_while_first(index)?;
            }
        }
        // Also signals that nobody waits for arrive before the end.
        let last = self.semaphores.iter().map(Semaphores::last_arrival).fold(self.now, u64::max);
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
        self.turn += 1;
        let live = &mut self.live[self.slots[index]];
        if live.is_full() {
            live.settle(self.now - self.jumped);
        }
        loop {
            match self.nest(index) {
                Some(class) => self.take_nest(index, class)?,
                None => self.step(index)?,
            }
            let next = self.clocks[index].next;
            if next == NEVER {
                return Ok(());
            }
            let comes_before = |event: Option<u64>| event.is_some_and(|event| event <= next);
            let is_first = next <= self.bound
                && !comes_before(self.next_signal())
                && !comes_before(self.queues.next_event());
            if !(is_first || self.ahead && self.may_go_ahead(index, next)) || self.memories.flow.has_failed()
            {
                return Ok(());
            }
            self.now = next;
        }
    }

    /// The nest that begins with a stream's next instruction, if it can be taken as a whole.
    #[inline]
    fn nest(&self, index: usize) -> Option<u32> {
        let code = &self.codes[index];
        if !self.ahead || code.nests.classes.is_empty() {
            return None;
        }
        code.nests.at(code.steps.get(self.streams[index].at)?)
    }

    /// Whether the next instruction of a stream, at the tick `next`, can be taken before other events up to then: it
    /// neither looks at what other streams do, nor can it stop the run.
    #[inline]
    fn may_go_ahead(&self, index: usize, next: u64) -> bool {
        let code = &self.codes[index];
        let ahead = code.steps.get(self.streams[index].at).map_or(Ahead::Never, |step| step.ahead);
        next <= self.settings.tick_limit
            && match ahead {
                Ahead::Never => false,
                Ahead::Always => true,
                Ahead::Signalled => match code.steps[self.streams[index].at].inst {
                    Inst::Semw { sem, n } => self.semaphores(index).enough_at(sem.0, n).is_some(),
                    _ => false,
                },
                Ahead::BehindTransfer => {
                    self.queue_of(index).is_some_and(|queue| self.queues.is_busy_at(queue, next))
                }
            }
    }

    /// A signal counts, and wakes whoever waits for its semaphore.
    fn signal_arrives(&mut self) -> Result<(), SimError> {
        let arrivals = self.semaphores.iter().map(Semaphores::next_arrival);
        let Some(slot) = arrivals.enumerate().find(|(_, at)| *at == Some(self.now)).map(|(slot, _)| slot)
        else {
            return Ok(());
        };
        match self.semaphores[slot].arrive() {
            Ok(Some(semaphore)) => {
                if let Some(waiter) = self.semaphores[slot].users(semaphore).waiter
                    && let Some((Blocked::Semaphore { semaphore: waits, .. }, _)) =
                        self.clocks[waiter].blocked
                    && waits == semaphore
                {
                    self.clocks[waiter].next = self.now;
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(overflow) => Err(self.trap_at(overflow.producer, overflow.pc, overflow.kind)),
        }
    }

    /// Transfers start and end; the signals behind those that end leave.
    fn transfers_advance(&mut self, tick: u64) {
        let mut all_ended = std::mem::take(&mut self.ended);
        self.queues.advance(tick, &mut all_ended);
        if let Some(recorder) = &mut self.counters.recorder {
            for (slice, start) in all_ended.iter().filter_map(|ended| ended.slice) {
                recorder.moved(slice, start, tick);
            }
            recorder.dram_rate(tick, self.queues.dram_rate(self.settings.target.base_clock_hz));
        }
        for ended in all_ended.drain(..) {
            let index = self.streams_of_queues[ended.queue];
            self.clocks[index].complete = self.clocks[index].complete.max(tick);
            for _ in 0..ended.signals {
                if let Some(signal) = self.queues.leave(ended.queue) {
                    self.send(tick, index, signal);
                }
            }
            if let Some((Blocked::Transfers, _)) = self.clocks[index].blocked
                && self.queues.is_empty(ended.queue)
            {
                self.clocks[index].next = tick;
            }
        }
        self.ended = all_ended;
    }

    fn send(&mut self, tick: u64, index: usize, signal: Signal) {
        let arrives = tick + duration::semaphore_latency(self.settings.target);
        let slot = self.slots[index];
        let semaphores = &mut self.semaphores[slot];
        self.unsure |= !semaphores.send(arrives, signal.semaphore, signal.n, index, signal.pc);
        // Where streams run ahead, who waits goes on when it arrives.
        if self.ahead
            && let Some(waiter) = semaphores.users(signal.semaphore).waiter
            && let Some((Blocked::Semaphore { semaphore, n }, _)) = self.clocks[waiter].blocked
            && semaphore == signal.semaphore
            && self.clocks[waiter].next == NEVER
            && let Some(enough) = semaphores.enough_at(semaphore, n)
        {
            self.clocks[waiter].next = enough;
            self.bound = self.bound.min(enough.saturating_sub(1));
        }
    }

    /// When the next signal of any core arrives.
    #[inline]
    fn next_signal(&self) -> Option<u64> {
        self.semaphores.iter().filter_map(Semaphores::next_arrival).min()
    }

    /// The semaphores that a stream sees.
    pub(crate) fn semaphores(&self, index: usize) -> &Semaphores {
        &self.semaphores[self.slots[index]]
    }

    /// The number of a stream's queue among those of all cores, if it is a queue's.
    #[inline]
    fn queue_of(&self, index: usize) -> Option<usize> {
        match self.codes[index].engine {
            Engine::Queue(queue) => {
                Some(self.slots[index] * self.settings.target.dma_queues as usize + usize::from(queue))
            }
            _ => None,
        }
    }

    /// An engine takes its next instruction, or finds that it cannot yet.
    fn step(&mut self, index: usize) -> Result<(), SimError> {
        let codes = self.codes;
        let Some(step) = codes[index].steps.get(self.streams[index].at) else {
            self.streams[index].halted = true;
            self.clocks[index].next = NEVER;
            return Ok(());
        };
        match self.take(index, step) {
            Ok(true) if matches!(step.inst, Inst::Br { .. }) => match self.is_endless(index) {
                true => Err(self.endless(index, step)),
                false => Ok(()),
            },
            Ok(true) => {
                if self.periods.is_some() {
                    self.iteration(index);
                }
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(kind) => Err(self.trap_at(index, step.pc, kind)),
        }
    }

    /// Take an instruction if it can issue now; whether it leads back.
    fn take(&mut self, index: usize, step: &'a Step) -> Result<bool, TrapKind> {
        let code = &self.codes[index];
        if !self.may_issue(index, step)? {
            return Ok(false);
        }
        self.taken += 1;
        let at = self.streams[index].at;
        if let Some(sanitizer) = &mut self.sanitizer {
            let chip = self.settings.values.then_some(&mut self.memories.cores[self.slots[index]].chip);
            sanitizer.take(index, at, &self.streams[index], chip);
        }
        self.counters.streams[index].executed[at] += 1;
        let mut cost = step.cost;
        let mut sums = None;
        if let Some(dynamic) = step.dynamic {
            let memo = self.memo(index, dynamic as usize, step);
            let once = memo.sums;
            (cost, sums) = (memo.cost, Some(once));
            self.counters.streams[index].sums[dynamic as usize].add(once, 1);
        }
        if let Some(periods) = &mut self.periods {
            periods.took(index, at, 1, sums);
        }
        if let Some(recorder) = &mut self.counters.recorder {
            match step.inst {
                Inst::Semw { sem, n } => recorder.wait(index, sem.0, n),
                Inst::Sems { sem, n } => recorder.signal(index, sem.0, n),
                _ => {}
            }
        }
        let stream = &mut self.streams[index];
        let mut again = false;
        match &step.inst {
            Inst::Halt {} => {
                stream.halted = true;
                self.clocks[index].next = NEVER;
                return Ok(false);
            }
            Inst::Trap { code } => return Err(TrapKind::Code { code: *code }),
            Inst::Li { rd, imm } => stream.set_register(*rd, *imm),
            Inst::Apset { ap, pattern } => stream.patterns[usize::from(ap.0 & 15)] = *pattern,
            Inst::ReadCsr { rd, which } => {
                let value = self.control_register(index, *which)?;
                self.streams[index].set_register(*rd, value);
            }
            Inst::Sems { sem, n } => {
                self.signal(index, Signal { semaphore: sem.0, n: *n, pc: step.pc })?;
            }
            Inst::Alu { op, rd, ra, rb, imm } => stream.alu(*op, *rd, *ra, *rb, *imm)?,
            // These say themselves where the stream goes on.
            Inst::Br { cond, ra, rb, to } => {
                stream.branch(code, *cond, *ra, *rb, *to)?;
                again = stream.at <= at;
            }
            Inst::Loop { count, rc, end, step } => {
                stream.enter_loop(code, *count, *rc, *end, *step, self.taken)?;
            }
            // A short loop is not worth a look.
            Inst::Endl {} => again = stream.end_loop(code)? && step.ahead == Ahead::Never,
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
        if !matches!(step.inst, Inst::Br { .. } | Inst::Loop { .. } | Inst::Endl {}) {
            self.streams[index].advance(code);
        }
        self.occupy(index, step, &cost);
        Ok(again)
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

    /// A signal leaves when everything before it is complete.
    fn signal(&mut self, index: usize, signal: Signal) -> Result<(), TrapKind> {
        self.semaphores(index).check(signal.semaphore)?;
        let queue = self.queue_of(index);
        let behind_transfers = queue.is_some_and(|queue| self.queues.signal_behind(queue, signal));
        if !behind_transfers {
            self.send(self.clocks[index].complete.max(self.now), index, signal);
        }
        Ok(())
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
