//! The event loop: values and ticks of one device segment in one pass.
//!
//! Time is the tick of the base clock. In each turn the earliest of three things happens: a semaphore signal
//! arrives, a DMA transfer starts or ends, or an engine takes its next instruction; at equal ticks in this
//! order, and engines in theirs. Values are computed when an instruction issues. Since a signal leaves when its
//! cause is complete, an engine that waited for it computes after its producers did, and values do not depend
//! on timing as long as the program's waits are right.

mod together;

use kiln_machine::duration::{self, Cost};
use kiln_machine::isa::{AccessPattern, Csr, Engine, Extent, Inst};
use kiln_machine::target::Target;

use crate::bandwidth::{Bandwidth, Rate};
use crate::code::{self, Code, Step, Touch, Unit};
use crate::collective::Torus;
use crate::counters::{Counters, Sums};
use crate::error::{SimError, Trap, TrapKind};
use crate::execute::Memories;
use crate::live::Live;
use crate::mxu::{MxuTiming, Region};
use crate::period::{Advice, ClockState, Periods, State, StreamState, repetitions};
use crate::queue::{Queues, Signal, Transfer};
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
    /// The stream of each queue.
    streams_of_queues: Vec<usize>,
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
        let semaphores = memories
            .cores
            .iter()
            .map(|core| Semaphores::new(target.semaphores as usize, core.number, codes))
            .collect::<Result<_, _>>()?;
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
        let jump = settings.jump && quiet && core_count == 1;
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
            periods: jump.then(|| Periods::new(codes)),
            streams_of_queues,
        })
    }

    /// Run to the end; the tick of the last completion.
    pub(crate) fn run(mut self) -> Result<u64, SimError> {
        let outcome = self.run_to_end();
        match (self.sanitizer.take(), &outcome) {
            (Some(sanitizer), Ok(_)) => sanitizer.finish(),
            (Some(sanitizer), Err(error)) => sanitizer.stopped(error),
            (None, _) => {}
        }
        outcome
    }

    fn run_to_end(&mut self) -> Result<u64, SimError> {
        loop {
            let (mut tick, mut index) = (NEVER, 0);
            for (i, clock) in self.clocks.iter().enumerate() {
                if clock.next < tick {
                    (tick, index) = (clock.next, i);
                }
            }
            let (signal, transfer) = (self.next_signal(), self.queues.next_event());
            let event = signal.unwrap_or(NEVER).min(transfer.unwrap_or(NEVER));
            let next = tick.min(event);
            if next == NEVER {
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
                self.take_while_first(index)?;
            }
        }
        if self.streams.iter().any(|stream| !stream.halted) {
            return Err(self.deadlock());
        }
        Ok(self.clocks.iter().map(|clock| clock.complete).fold(self.now, u64::max))
    }

    /// Let an engine take instructions for as long as nothing else comes first.
    fn take_while_first(&mut self, index: usize) -> Result<(), SimError> {
        // At equal ticks the engine that comes first in order goes first.
        let others = self.clocks.iter().enumerate().filter(|(i, _)| *i != index);
        let bound = others.map(|(i, clock)| clock.next - u64::from(i < index && clock.next > 0)).min();
        let bound = bound.unwrap_or(NEVER).min(self.settings.tick_limit);
        loop {
            self.step(index)?;
            let next = self.clocks[index].next;
            let comes_before = |event: Option<u64>| event.is_some_and(|event| event <= next);
            if next > bound
                || next == NEVER
                || comes_before(self.next_signal())
                || comes_before(self.queues.next_event())
            {
                return Ok(());
            }
            self.now = next;
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
                for (clock, of) in self.clocks.iter_mut().zip(&self.slots) {
                    if let Some((Blocked::Semaphore { semaphore: waits, .. }, _)) = clock.blocked
                        && waits == semaphore
                        && *of == slot
                    {
                        clock.next = self.now;
                    }
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(overflow) => Err(self.trap_at(overflow.producer, overflow.pc, overflow.kind)),
        }
    }

    /// Transfers start and end; the signals behind those that end leave.
    fn transfers_advance(&mut self, tick: u64) {
        let all_ended = self.queues.advance(tick);
        if let Some(recorder) = &mut self.counters.recorder {
            for (slice, start) in all_ended.iter().filter_map(|ended| ended.slice) {
                recorder.moved(slice, start, tick);
            }
            recorder.dram_rate(tick, self.queues.dram_rate(self.settings.target.base_clock_hz));
        }
        for ended in all_ended {
            let index = self.streams_of_queues[ended.queue];
            self.clocks[index].complete = self.clocks[index].complete.max(tick);
            for signal in ended.signals {
                self.send(tick, index, signal);
            }
            if let Some((Blocked::Transfers, _)) = self.clocks[index].blocked
                && self.queues.is_empty(ended.queue)
            {
                self.clocks[index].next = tick;
            }
        }
    }

    fn send(&mut self, tick: u64, index: usize, signal: Signal) {
        let arrives = tick + duration::semaphore_latency(self.settings.target);
        let slot = self.slots[index];
        self.semaphores[slot].send(arrives, signal.semaphore, signal.n, index, signal.pc);
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

    /// Take an instruction if it can issue now; whether it begins another iteration of a loop.
    fn take(&mut self, index: usize, step: &'a Step) -> Result<bool, TrapKind> {
        let code = &self.codes[index];
        if !self.may_issue(index, step)? {
            return Ok(false);
        }
        self.taken += 1;
        let at = self.streams[index].at;
        if let Some(sanitizer) = &mut self.sanitizer {
            let chip = self.settings.values.then_some(&self.memories.cores[0].chip);
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
            periods.took(index, at, sums);
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
            Inst::Br { cond, ra, rb, to } => stream.branch(code, *cond, *ra, *rb, *to)?,
            Inst::Loop { count, rc, end, step } => {
                stream.enter_loop(code, *count, *rc, *end, *step, self.taken)?;
            }
            Inst::Endl {} => again = stream.end_loop(code)?,
            inst => {
                self.touch(index, step);
                if let Inst::Cput { core, dst, src, shape } = inst {
                    cost = self.put(index, step, *core, (dst, src, *shape))?;
                } else if let Inst::Cred { .. } = inst {
                    cost = together::MET;
                } else if self.settings.values {
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

    /// The cost of an instruction whose access pattern decides it.
    fn memo(&mut self, index: usize, dynamic: usize, step: &Step) -> &Memo {
        let patterns = &self.streams[index].patterns;
        let used = code::patterns_of(&step.inst).unwrap_or_default();
        let used =
            used.map(|ap| ap.map_or_else(AccessPattern::default, |ap| patterns[usize::from(ap.0 & 15)]));
        let memo = &mut self.memos[index][dynamic];
        if memo.as_ref().is_none_or(|memo| memo.patterns != used) {
            let engine = self.codes[index].engine;
            let cost = duration::duration(&step.inst, engine, self.settings.target, patterns);
            let depends = |extent: &Extent| !matches!(extent, Extent::Shape(_));
            let sums = Sums::of(&cost, code::chip_bytes(&step.inst, patterns, depends));
            let touches = code::touches(&step.inst, patterns, depends);
            *memo = Some(Memo { patterns: used, cost, sums, touches });
        }
        match memo {
            Some(memo) => memo,
            None => unreachable!("it was made above"),
        }
    }

    /// Note what the instruction touches in the scratchpad.
    fn touch(&mut self, index: usize, step: &Step) {
        let (stream, tick) = (&self.streams[index], self.now - self.jumped);
        let live = &mut self.live[self.slots[index]];
        for touch in &step.touches {
            live.touch(tick, touch, stream.added(touch.reg));
        }
        if let Some(memo) = step.dynamic.and_then(|dynamic| self.memos[index][dynamic as usize].as_ref()) {
            for touch in &memo.touches {
                live.touch(tick, touch, stream.added(touch.reg));
            }
        }
    }

    /// Whether the instruction can issue now; if not, when to look again is noted.
    fn may_issue(&mut self, index: usize, step: &Step) -> Result<bool, TrapKind> {
        let now = self.now;
        let start = match (&step.unit, &step.inst) {
            (Unit::Product { .. }, _) => {
                let (rows, region) = self.product(index, step);
                self.mxu[self.slots[index]].product_start(now, rows, &region, step.cost.busy)
            }
            (Unit::Load { .. }, _) => self.mxu[self.slots[index]].load_start(now),
            (_, Inst::Semw { sem, n }) => {
                let semaphores = &mut self.semaphores[self.slots[index]];
                semaphores.check(sem.0)?;
                if !semaphores.take(sem.0, *n) {
                    self.block(index, Blocked::Semaphore { semaphore: sem.0, n: *n });
                    return Ok(false);
                }
                now
            }
            // The program ends when everything is complete, so the end of a stream waits for nothing.
            (_, Inst::Bar { group } | Inst::Cred { group, .. }) => match self.meetings[index] {
                Meeting::Over => {
                    self.meetings[index] = Meeting::Away;
                    now
                }
                // A meeting is entered when all before it is complete.
                Meeting::Away if self.clocks[index].complete > now => self.clocks[index].complete,
                Meeting::Away | Meeting::There => {
                    self.meetings[index] = Meeting::There;
                    self.block(index, Blocked::Cores { group: *group });
                    self.meet(index, *group)?;
                    return Ok(false);
                }
            },
            (_, Inst::Fence {}) => match self.queue_of(index) {
                Some(queue) if !self.queues.is_empty(queue) => {
                    self.block(index, Blocked::Transfers);
                    return Ok(false);
                }
                _ => self.clocks[index].complete.max(now),
            },
            _ => now,
        };
        if let Some((blocked, since)) = self.clocks[index].blocked.take() {
            self.counters.waited(index, blocked != Blocked::Transfers, now - since);
        }
        if start > now {
            self.counters.waited(index, false, start - now);
            self.clocks[index].next = start;
            return Ok(false);
        }
        Ok(true)
    }

    fn block(&mut self, index: usize, why: Blocked) {
        let clock = &mut self.clocks[index];
        clock.next = NEVER;
        clock.blocked.get_or_insert((why, self.now));
    }

    /// Array rows and accumulator region of a product; nothing of another instruction.
    fn product(&self, index: usize, step: &Step) -> ((u64, u64), Region) {
        let Unit::Product { rows, dst, parts, bytes, n } = step.unit else {
            return ((0, 1), Region { parts: (0, 0), bytes: (0, 0), walk: ([0; 3], [0; 3]) });
        };
        let reg = self.streams[index].added(dst.reg);
        (rows, Region { parts, bytes: (bytes.0 + reg, bytes.1 + reg), walk: (dst.strides, n) })
    }

    /// The instruction issues now: its unit is busy, its completion and the stream's next turn are set.
    fn occupy(&mut self, index: usize, step: &Step, cost: &Cost) {
        let now = self.now;
        let mut complete = now + cost.latency;
        let engine = self.codes[index].engine;
        let slice = match &mut self.counters.recorder {
            Some(recorder) if !matches!(step.unit, Unit::None) => {
                recorder.event(index, engine, step.pc, now, now + cost.latency)
            }
            _ => None,
        };
        match (&step.unit, self.queue_of(index)) {
            (Unit::Transfer, Some(queue)) => {
                let transfer = Transfer {
                    data_start: now + (cost.latency - cost.busy.min(cost.latency)),
                    busy: cost.busy,
                    dram_bytes: cost.dram_read_bytes + cost.dram_write_bytes,
                    signals: Vec::new(),
                    slice,
                };
                self.queues.issue(queue, transfer);
                // The queue tells when it is complete.
                complete = now;
            }
            (Unit::Load { rows }, _) => {
                self.mxu[self.slots[index]].start_load(now, *rows, cost.busy, cost.latency)
            }
            (Unit::Product { .. }, _) => {
                let (rows, region) = self.product(index, step);
                self.mxu[self.slots[index]].start_product(now, rows, region, cost.busy, cost.latency);
            }
            _ => {}
        }
        let clock = &mut self.clocks[index];
        clock.complete = clock.complete.max(complete);
        clock.next = if self.streams[index].halted { NEVER } else { now + cost.issue };
    }

    /// An iteration of a loop has ended: look whether a steady state repeats.
    fn iteration(&mut self, index: usize) {
        let Some(mut periods) = self.periods.take() else { return };
        let number = self.streams[index].loops.last().map_or(0, |open| open.number);
        let next = |i: usize| relative(self.clocks[i].next, self.now);
        match periods.iteration(index, &self.streams, self.taken, self.now, next) {
            Advice::GoOn => {}
            Advice::Keep => periods.keep(index, number, self.state()),
            Advice::Compare => periods.compare(index, number, self.state()),
            Advice::Finish => {
                let state = self.state();
                if let Some((recording, progress)) = periods.finish(&state) {
                    let period = state.now - recording.start.now;
                    let room = (self.settings.tick_limit - self.now) / period.max(1);
                    let times = repetitions(&progress).min(room);
                    let waited = state.waited.iter().zip(&recording.start.waited);
                    for (stream, (after, before)) in self.counters.streams.iter_mut().zip(waited) {
                        stream.semaphore_ticks += (after.0 - before.0) * times;
                        stream.hazard_ticks += (after.1 - before.1) * times;
                    }
                    for taken in &recording.taken {
                        let stream = &mut self.counters.streams[taken.stream as usize];
                        stream.executed[taken.step as usize] += times;
                        let dynamic = self.codes[taken.stream as usize].steps[taken.step as usize].dynamic;
                        if let (Some(dynamic), Some(sums)) = (dynamic, taken.sums) {
                            stream.sums[dynamic as usize].add(sums, times);
                        }
                    }
                    for (stream, progress) in self.streams.iter_mut().zip(progress) {
                        if let Some(progress) = progress {
                            let open = &mut stream.loops[progress.level];
                            open.left -= progress.iterations * times;
                            open.begun += progress.iterations * times;
                        }
                    }
                    self.taken += recording.taken.len() as u64 * times;
                    self.pass(period * times);
                }
            }
        }
        self.periods = Some(periods);
    }

    /// Let ticks pass in which what is under way stands still.
    fn pass(&mut self, ticks: u64) {
        self.now += ticks;
        self.jumped += ticks;
        for clock in &mut self.clocks {
            if clock.next != NEVER {
                clock.next += ticks;
            }
            clock.complete += ticks;
            if let Some((_, since)) = &mut clock.blocked {
                *since += ticks;
            }
        }
        self.semaphores.iter_mut().for_each(|semaphores| semaphores.shift(ticks));
        self.queues.shift(ticks);
        self.mxu.iter_mut().for_each(|mxu| mxu.shift(ticks));
    }

    /// All that decides what comes.
    fn state(&self) -> State {
        let now = self.now;
        let clock = |clock: &Clock| ClockState {
            next: relative(clock.next, now),
            complete: clock.complete.saturating_sub(now),
            blocked: clock.blocked.map(|(why, since)| (why, now - since)),
        };
        let streams = self.streams.iter().zip(self.codes).zip(&self.clocks);
        let waited = self.counters.streams.iter();
        State {
            now,
            streams: streams.map(|((s, code), c)| StreamState::new(s, code, clock(c))).collect(),
            semaphores: self.semaphores.iter().map(|semaphores| semaphores.state(now)).collect(),
            queues: self.queues.state(now),
            mxu: self.mxu.iter().map(|mxu| mxu.state(now)).collect(),
            waited: waited.map(|stream| (stream.semaphore_ticks, stream.hazard_ticks)).collect(),
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

    fn deadlock(&self) -> SimError {
        crate::deadlock::error(self, self.cycle())
    }
}

/// Ticks from `now` to a stream's next instruction; none if it has none.
fn relative(next: u64, now: u64) -> Option<u64> {
    (next != NEVER).then(|| next.saturating_sub(now))
}
