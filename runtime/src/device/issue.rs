//! When instructions issue, what they cost, and what they keep busy.

use kiln_machine::duration::{self, Cost};
use kiln_machine::isa::{AccessPattern, Extent, Inst};

use super::{Blocked, Device, Meeting, Memo, NEVER};
use crate::code::{self, Product, Step, Unit};
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
            let touches = code::touches(&step.inst.operands(), patterns, depends);
            let (patterns_set, patterns) = (stream.patterns_set, used_patterns(step, stream));
            *memo = Some(Memo { patterns_set, patterns, cost, sums, touches });
        }
        match memo {
            Some(memo) => memo,
            None => unreachable!("it was made above"),
        }
    }

    /// Whether so many units of a semaphore can be taken now; if not, when to look again is noted.
    #[inline]
    pub(super) fn wait(&mut self, index: usize, semaphore: u8, n: u16) -> Result<bool, TrapKind> {
        let semaphores = &mut self.semaphores[self.slots[index]];
        semaphores.check(semaphore)?;
        if semaphores.take(semaphore, n, self.now, self.time) {
            self.go_on_waiting(index);
            return Ok(true);
        }
        let enough = semaphores.enough_at(semaphore, n);
        self.block(index, Blocked::Semaphore { semaphore, n });
        if let Some(enough) = enough {
            self.clocks[index].next = enough;
        }
        Ok(false)
    }

    /// Whether the instruction can issue now; if not, when to look again is noted.
    pub(super) fn may_issue(&mut self, index: usize, step: &Step) -> Result<bool, TrapKind> {
        let now = self.now;
        let start = match (&step.unit, &step.inst) {
            (Unit::Product(product), _) => {
                let region = self.region(index, product);
                self.mxu[self.slots[index]].product_start(now, product.rows, &region, step.cost.busy)
            }
            (Unit::Load { .. }, _) => self.mxu[self.slots[index]].load_start(now),
            // The program ends when everything is complete, so the end of a stream waits for nothing.
            (_, Inst::Bar { group } | Inst::Cred { group, .. }) => match self.meetings[index] {
                Meeting::Over => {
                    self.meetings[index] = Meeting::Away;
                    self.go_on_waiting(index);
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
                _ => {
                    self.go_on_waiting(index);
                    self.clocks[index].complete.max(now)
                }
            },
            _ => now,
        };
        if start > now {
            self.counters.waited(index, false, start - now);
            self.clocks[index].next = start;
            return Ok(false);
        }
        Ok(true)
    }

    /// A stream's wait is over, if it waited.
    #[inline]
    fn go_on_waiting(&mut self, index: usize) {
        if let Some((blocked, since)) = self.clocks[index].blocked.take() {
            self.counters.waited(index, blocked != Blocked::Transfers, self.now - since);
        }
    }

    pub(super) fn block(&mut self, index: usize, why: Blocked) {
        let clock = &mut self.clocks[index];
        clock.next = NEVER;
        clock.blocked.get_or_insert((why, self.now));
    }

    /// The accumulators of a product.
    fn region(&self, index: usize, product: &Product) -> Region {
        let Product { dst, parts, bytes, n, .. } = product;
        let reg = self.streams[index].added(dst.reg);
        Region { parts: *parts, bytes: (bytes.0 + reg, bytes.1 + reg), walk: (dst.strides, *n) }
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
            (Unit::Load { rows: (row, rows) }, _) => {
                let rows = (u64::from(*row), u64::from(*rows));
                self.mxu[self.slots[index]].start_load(now, rows, cost.busy, cost.latency);
            }
            (Unit::Product(product), _) => {
                let region = self.region(index, product);
                let mxu = &mut self.mxu[self.slots[index]];
                mxu.start_product(now, product.rows, region, cost.busy, cost.latency);
            }
            _ => {}
        }
        self.go_on(index, complete, cost.issue);
    }

    /// The stream's next instruction comes `issue` ticks from now; its last one is complete at the tick `complete`.
    #[inline]
    pub(super) fn go_on(&mut self, index: usize, complete: u64, issue: u64) {
        let clock = &mut self.clocks[index];
        clock.complete = clock.complete.max(complete);
        clock.next = if self.streams[index].halted { NEVER } else { self.now + issue };
    }
}

/// The access patterns that an instruction uses.
fn used_patterns(step: &Step, stream: &Stream) -> [AccessPattern; 3] {
    let used = code::patterns_of(&step.inst).unwrap_or_default();
    used.map(|ap| ap.map_or_else(AccessPattern::default, |ap| *stream.pattern(ap)))
}
