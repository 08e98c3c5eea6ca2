//! The event loop: values and ticks of one device segment in one pass.
//!
//! Time is the tick of the base clock. In each turn the earliest of three things happens: a semaphore signal
//! arrives, a DMA transfer starts or ends, or an engine takes its next instruction; at equal ticks in this
//! order, and engines in theirs. Values are computed when an instruction issues. Since a signal leaves when its
//! cause is complete, an engine that waited for it computes after its producers did, and values do not depend
//! on timing as long as the program's waits are right.

use kiln_machine::duration::{self, Cost};
use kiln_machine::isa::{Class, Csr, Engine, Inst, Operand};
use kiln_machine::target::Target;

use crate::bandwidth::{Bandwidth, Rate};
use crate::counters::Counters;
use crate::error::{SimError, Trap, TrapKind};
use crate::execute::Memories;
use crate::mxu::{MxuTiming, Region};
use crate::queue::{Queues, Signal, Transfer};
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
}

/// One device segment under way.
pub(crate) struct Device<'a> {
    settings: &'a Settings<'a>,
    pub(crate) streams: &'a mut [Stream],
    clocks: Vec<Clock>,
    pub(crate) semaphores: Semaphores,
    queues: Queues,
    mxu: MxuTiming,
    memories: &'a mut Memories,
    pub(crate) counters: &'a mut Counters,
    now: u64,
}

impl<'a> Device<'a> {
    /// All streams at their first instruction, at tick `start`.
    pub(crate) fn new(
        settings: &'a Settings<'a>,
        streams: &'a mut [Stream],
        memories: &'a mut Memories,
        counters: &'a mut Counters,
        start: u64,
    ) -> Result<Self, SimError> {
        let target = settings.target;
        let semaphores = Semaphores::new(target.semaphores as usize, streams)?;
        let per_tick = |bytes_per_second| Rate::per_tick(bytes_per_second, target.base_clock_hz);
        let bandwidth = Bandwidth::new(
            target.dma_queues as usize,
            per_tick(target.dma_queue_bytes_per_second),
            per_tick(target.dram_bytes_per_second),
            start,
        );
        let clocks = streams
            .iter()
            .map(|stream| Clock {
                next: if stream.halted { NEVER } else { start },
                complete: start,
                blocked: None,
            })
            .collect();
        Ok(Self {
            settings,
            clocks,
            semaphores,
            queues: Queues::new(target.dma_queues as usize, bandwidth),
            mxu: MxuTiming::new(target.partitions, target.row_groups),
            streams,
            memories,
            counters,
            now: start,
        })
    }

    /// Run to the end; the tick of the last completion.
    pub(crate) fn run(mut self) -> Result<u64, SimError> {
        loop {
            let signal = self.semaphores.next_arrival();
            let transfer = self.queues.next_event();
            let engine = (0..self.clocks.len()).min_by_key(|i| self.clocks[*i].next);
            let engine = engine.map(|i| (self.clocks[i].next, i)).filter(|(tick, _)| *tick != NEVER);
            let next = [signal, transfer, engine.map(|(tick, _)| tick)].into_iter().flatten().min();
            let Some(next) = next else { break };
            if next > self.settings.tick_limit {
                return Err(self.cycle_limit());
            }
            self.now = next;
            if signal == Some(next) {
                self.signal_arrives()?;
            } else if transfer == Some(next) {
                self.transfers_advance(next);
            } else if let Some((_, index)) = engine {
                self.step(index)?;
            }
        }
        if self.streams.iter().any(|stream| !stream.halted) {
            return Err(self.deadlock());
        }
        Ok(self.clocks.iter().map(|clock| clock.complete).fold(self.now, u64::max))
    }

    /// A signal counts, and wakes whoever waits for its semaphore.
    fn signal_arrives(&mut self) -> Result<(), SimError> {
        match self.semaphores.arrive() {
            Ok(Some(semaphore)) => {
                for clock in &mut self.clocks {
                    if let Some((Blocked::Semaphore { semaphore: waits, .. }, _)) = clock.blocked
                        && waits == semaphore
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
        for ended in self.queues.advance(tick) {
            let index = self.stream_of_queue(ended.queue);
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

    fn stream_of_queue(&self, queue: usize) -> usize {
        let engine = Engine::Queue(queue as u8);
        self.streams.iter().position(|stream| stream.engine == engine).unwrap_or(0)
    }

    fn send(&mut self, tick: u64, index: usize, signal: Signal) {
        let arrives = tick + duration::semaphore_latency(self.settings.target);
        self.semaphores.send(arrives, signal.semaphore, signal.n, index, signal.pc);
    }

    /// An engine takes its next instruction, or finds that it cannot yet.
    fn step(&mut self, index: usize) -> Result<(), SimError> {
        let Some((pc, inst)) = self.streams[index].current() else {
            self.streams[index].halted = true;
            self.clocks[index].next = NEVER;
            return Ok(());
        };
        self.take(index, pc, &inst).map_err(|kind| self.trap_at(index, pc, kind))
    }

    fn take(&mut self, index: usize, pc: u32, inst: &Inst) -> Result<(), TrapKind> {
        let engine = self.streams[index].engine;
        if !self.may_issue(index, inst)? {
            return Ok(());
        }
        let stream = &mut self.streams[index];
        let cost = duration::duration(inst, engine, self.settings.target, &stream.patterns);
        self.counters.instruction(index, inst);
        match inst {
            Inst::Halt {} => {
                stream.halted = true;
                self.clocks[index].next = NEVER;
                return Ok(());
            }
            Inst::Trap { code } => return Err(TrapKind::Code { code: *code }),
            Inst::Li { rd, imm } => stream.set_register(*rd, *imm),
            Inst::Apset { ap, pattern } => stream.patterns[usize::from(ap.0)] = *pattern,
            Inst::ReadCsr { rd, which } => {
                let value = self.control_register(*which)?;
                self.streams[index].set_register(*rd, value);
            }
            Inst::Sems { sem, n } => self.signal(index, Signal { semaphore: sem.0, n: *n, pc })?,
            // These say themselves where the stream goes on.
            Inst::Alu { op, rd, ra, rb, imm } => stream.alu(*op, *rd, *ra, *rb, *imm)?,
            Inst::Br { cond, ra, rb, to } => stream.branch(*cond, *ra, *rb, *to)?,
            Inst::Loop { count, rc, end, step } => stream.enter_loop(*count, *rc, *end, *step)?,
            Inst::Endl {} => {
                stream.end_loop()?;
            }
            _ => {
                if self.settings.values {
                    self.memories.execute(inst, stream)?;
                }
                self.account(index, inst, &cost);
            }
        }
        if !matches!(inst, Inst::Alu { .. } | Inst::Br { .. } | Inst::Loop { .. } | Inst::Endl {}) {
            self.streams[index].advance();
        }
        self.occupy(index, pc, inst, &cost);
        Ok(())
    }

    /// Whether the instruction can issue now; if not, when to look again is noted.
    fn may_issue(&mut self, index: usize, inst: &Inst) -> Result<bool, TrapKind> {
        let now = self.now;
        let start = match inst {
            Inst::Semw { sem, n } => {
                self.semaphores.check(sem.0)?;
                if !self.semaphores.take(sem.0, *n) {
                    self.block(index, Blocked::Semaphore { semaphore: sem.0, n: *n });
                    return Ok(false);
                }
                now
            }
            // The program ends when everything is complete, so the end of a stream waits for nothing.
            Inst::Fence {} => match self.streams[index].engine {
                Engine::Queue(queue) if !self.queues.is_empty(queue.into()) => {
                    self.block(index, Blocked::Transfers);
                    return Ok(false);
                }
                _ => self.clocks[index].complete.max(now),
            },
            Inst::Mma { .. } | Inst::Mmax { .. } | Inst::Mtrn { .. } => {
                let (rows, region) = self.product(index, inst);
                self.mxu.product_start(now, rows.0, rows.1, &region)
            }
            Inst::Ldw { .. } | Inst::Ldwt { .. } => self.mxu.load_start(now),
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

    /// Array rows and accumulator region of a product.
    fn product(&self, index: usize, inst: &Inst) -> ((u64, u64), Region) {
        let stream = &self.streams[index];
        let (dst, row, k, parts, n) = match inst {
            Inst::Mma { acc, mov, k, m, n0, n1, n2, .. } | Inst::Mmax { acc, mov, k, m, n0, n1, n2, .. } => {
                (acc, mov.part, k.0, m.0, [n0.0, n1.0, n2.0])
            }
            Inst::Mtrn { dst, src, parts, n } => (dst, src.part, parts.0, n.0, [1, 1, parts.0.into()]),
            _ => unreachable!("only products are asked for"),
        };
        let region = Region {
            parts: (dst.part.into(), u64::from(dst.part) + u64::from(parts)),
            bytes: dst.byte_range(n, stream.added(dst.reg)),
            walk: dst.strides,
        };
        ((row.into(), k.into()), region)
    }

    /// The instruction issues now: its unit is busy, its completion and the stream's next turn are set.
    fn occupy(&mut self, index: usize, pc: u32, inst: &Inst, cost: &Cost) {
        let now = self.now;
        let mut complete = now + cost.latency;
        match (inst.class(), self.streams[index].engine) {
            (Class::Dma, Engine::Queue(queue)) => {
                let transfer = Transfer {
                    data_start: now + (cost.latency - cost.busy.min(cost.latency)),
                    busy: cost.busy,
                    dram_bytes: cost.dram_read_bytes + cost.dram_write_bytes,
                    signals: Vec::new(),
                };
                self.queues.issue(queue.into(), transfer);
                // The queue tells when it is complete.
                complete = now;
            }
            (Class::Mxu, _) => match inst {
                Inst::Ldw { src, k, .. } => {
                    let rows = (src.part.into(), k.0.into());
                    self.mxu.start_load(now, rows, cost.busy, cost.latency);
                }
                Inst::Ldwt { row, k, .. } => {
                    let rows = ((*row).into(), k.0.into());
                    self.mxu.start_load(now, rows, cost.busy, cost.latency);
                }
                _ => {
                    let (rows, region) = self.product(index, inst);
                    self.mxu.start_product(now, rows, region, cost.busy, cost.latency);
                }
            },
            _ => {}
        }
        if inst.class() != Class::Any {
            self.counters.worked(index, pc, inst, cost, now, now + cost.latency);
        }
        let clock = &mut self.clocks[index];
        clock.complete = clock.complete.max(complete);
        clock.next = if self.streams[index].halted { NEVER } else { now + cost.issue };
    }

    /// A signal leaves when everything before it is complete.
    fn signal(&mut self, index: usize, signal: Signal) -> Result<(), TrapKind> {
        self.semaphores.check(signal.semaphore)?;
        let behind_transfers = match self.streams[index].engine {
            Engine::Queue(queue) => self.queues.signal_behind(queue.into(), signal),
            _ => false,
        };
        if !behind_transfers {
            self.send(self.clocks[index].complete.max(self.now), index, signal);
        }
        Ok(())
    }

    fn control_register(&self, which: Csr) -> Result<i64, TrapKind> {
        match which {
            Csr::Scalar(n) => match self.settings.scalars.get(usize::from(n)) {
                Some(value) => Ok(i64::from(*value)),
                None => Err(TrapKind::Absent("a runtime scalar of this number")),
            },
            Csr::Cycle => Ok((self.now / self.settings.target.mxu_clock_div) as i64),
            Csr::Core => Ok(0),
        }
    }

    /// Count what the instruction's operands touch on chip.
    fn account(&mut self, index: usize, inst: &Inst, cost: &Cost) {
        let stream = &self.streams[index];
        self.counters.dram(cost);
        for operand in inst.operands() {
            let Operand::OnChip { view, extent, .. } = operand else { continue };
            let Some(shape) = extent.resolve(&stream.patterns) else { continue };
            let end = view.byte_range(shape.n, stream.added(view.reg)).1;
            self.counters.on_chip(view.space, end, view.dt.bytes_of(shape.elements()));
        }
    }

    fn trap_at(&self, index: usize, pc: u32, kind: TrapKind) -> SimError {
        let stream = &self.streams[index];
        SimError::Trap(Box::new(Trap {
            engine: stream.engine.to_string(),
            pc,
            cycle: self.now / self.settings.target.mxu_clock_div,
            instruction: stream.at_word(pc).map_or_else(String::new, |inst| inst.to_string()),
            origin: self.counters.origin(index, pc),
            kind,
        }))
    }

    /// Where an engine stands: word, instruction and origin.
    pub(crate) fn standing(&self, index: usize) -> String {
        let stream = &self.streams[index];
        match stream.current() {
            Some((pc, inst)) if !stream.halted => {
                format!("{} at word {pc}: {inst}  [{}]", stream.engine, self.counters.origin(index, pc))
            }
            _ => format!("{} has ended", stream.engine),
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
        SimError::Deadlock { cycle: self.cycle(), cycle_text: crate::deadlock::describe(self) }
    }
}
