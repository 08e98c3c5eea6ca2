//! What happens between instructions: signals leave and arrive, transfers start and end.

use kiln_machine::duration;

use super::{Blocked, Device};
use crate::bandwidth::NEVER;
use crate::error::{SimError, TrapKind};
use crate::queue::Signal;
use crate::semaphore::Semaphores;

impl Device<'_> {
    /// When the next signal of any core arrives, if that is an event; else `NEVER`.
    #[inline]
    pub(super) fn next_signal(&self) -> u64 {
        match self.ahead {
            true => NEVER,
            false => self.semaphores.iter().map(Semaphores::next_arrival).fold(NEVER, u64::min),
        }
    }

    /// A signal counts, and wakes whoever waits for its semaphore.
    pub(super) fn signal_arrives(&mut self) -> Result<(), SimError> {
        let arrives = |semaphores: &Semaphores| semaphores.next_arrival() == self.now;
        let Some(slot) = self.semaphores.iter().position(arrives) else { return Ok(()) };
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
    pub(super) fn transfers_advance(&mut self, tick: u64) {
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
                    self.send(tick.max(signal.earliest), index, signal);
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
        self.unsure |= !semaphores.send(arrives, signal, index, self.time);
        // Where streams run ahead, who waits goes on when it arrives.
        if self.ahead
            && let Some(waiter) = semaphores.users(signal.semaphore).waiter
            && self.clocks[waiter].next == NEVER
            && let Some((Blocked::Semaphore { semaphore, n }, since)) = self.clocks[waiter].blocked
            && semaphore == signal.semaphore
            && let Some(enough) = semaphores.enough_at(semaphore, n)
        {
            let next = enough.max(since);
            self.clocks[waiter].next = next;
            self.bound = self.bound.min(next.saturating_sub(1));
            self.woken.push(waiter);
        }
    }

    /// A signal leaves when everything before it is complete.
    pub(super) fn signal(&mut self, index: usize, signal: Signal) -> Result<(), TrapKind> {
        self.semaphores(index).check(signal.semaphore)?;
        let queue = self.queue_of(index);
        let behind_transfers = queue.is_some_and(|queue| self.queues.signal_behind(queue, signal));
        if !behind_transfers {
            self.send(self.clocks[index].complete.max(self.now), index, signal);
        }
        Ok(())
    }
}
