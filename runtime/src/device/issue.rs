//! When instructions issue, what they cost, and what they keep busy.

use kiln_machine::duration::{self, Cost};
use kiln_machine::isa::{AccessPattern, Extent, Inst};

use super::{Blocked, Device, Meeting, Memo, NEVER};
use crate::code::{self, Step, Unit};
use crate::counters::Sums;
use crate::error::TrapKind;
use crate::mxu::Region;
use crate::queue::Transfer;
use crate::stream::Stream;

impl Device<'_> {
    /// The cost of an instruction whose access pattern decides it.
    pub(super) fn memo(&mut self, index: usize, dynamic: usize, step: &Step) -> &Memo {
        let stream = &self.streams[index];
        let memo = &mut self.memos[index][dynamic];
        if let Some(memo) = memo
            && memo.patterns_set != stream.patterns_set
            && memo.patterns == used_patterns(step, stream)
        {
            memo.patterns_set = stream.patterns_set;
        }
        if memo.as_ref().is_none_or(|memo| memo.patterns_set != stream.patterns_set) {
            let (engine, patterns) = (self.codes[index].engine, &stream.patterns);
            let cost = duration::duration(&step.inst, engine, self.settings.target, patterns);
            let depends = |extent: &Extent| !matches!(extent, Extent::Shape(_));
            let sums = Sums::of(&cost, code::chip_bytes(&step.inst, patterns, depends));
            let touches = code::touches(&step.inst, patterns, depends);
            let (patterns_set, patterns) = (stream.patterns_set, used_patterns(step, stream));
            *memo = Some(Memo { patterns_set, patterns, cost, sums, touches });
        }
        match memo {
            Some(memo) => memo,
            None => unreachable!("it was made above"),
        }
    }

    /// Whether the instruction can issue now; if not, when to look again is noted.
    pub(super) fn may_issue(&mut self, index: usize, step: &Step) -> Result<bool, TrapKind> {
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
                if !semaphores.take(sem.0, *n, now, self.time) {
                    let enough = semaphores.enough_at(sem.0, *n);
                    self.block(index, Blocked::Semaphore { semaphore: sem.0, n: *n });
                    if let Some(enough) = enough {
                        self.clocks[index].next = enough;
                    }
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

    pub(super) fn block(&mut self, index: usize, why: Blocked) {
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
    pub(super) fn occupy(&mut self, index: usize, step: &Step, cost: &Cost) {
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
}

/// The access patterns that an instruction uses.
fn used_patterns(step: &Step, stream: &Stream) -> [AccessPattern; 3] {
    let used = code::patterns_of(&step.inst).unwrap_or_default();
    used.map(|ap| ap.map_or_else(AccessPattern::default, |ap| *stream.pattern(ap)))
}
