//! DMA queues in time: each moves its transfers first in, first out.
//!
//! A transfer's data phase starts when its latency is over and the queue's former transfer has ended. It
//! lasts as long as its bytes take at the shared DRAM rate, and no less than the queue's own duration for it,
//! which covers the on-chip side. Signals behind a transfer leave when it ends.

use std::collections::VecDeque;

use crate::bandwidth::{Bandwidth, NEVER};

/// A semaphore signal that waits for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) semaphore: u8,
    pub(crate) n: u16,
    pub(crate) pc: u32,
    /// It leaves no earlier.
    pub(crate) earliest: u64,
}

impl Signal {
    /// What decides the future of it, relative to `now`.
    fn state(&self, now: u64) -> Self {
        Self { earliest: self.earliest.saturating_sub(now), ..*self }
    }
}

/// An issued transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    /// The data phase starts no earlier.
    pub(crate) data_start: u64,
    /// Least length of the data phase.
    pub(crate) busy: u64,
    /// Bytes over the DRAM bus, in either direction.
    pub(crate) dram_bytes: u64,
    /// Its slice in the trace.
    pub(crate) slice: Option<usize>,
}

/// A transfer in its queue.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    transfer: Transfer,
    /// Signals behind it.
    signals: usize,
}

/// A transfer in its data phase.
#[derive(Debug)]
struct Active {
    transfer: Transfer,
    signals: usize,
    /// When it began.
    start: u64,
    /// The on-chip side is done no earlier.
    earliest_end: u64,
    /// Whether its bytes still share the DRAM.
    flowing: bool,
}

#[derive(Debug, Default)]
struct Queue {
    active: Option<Active>,
    waiting: VecDeque<Waiting>,
    /// Those behind the active transfer, then those behind each that waits.
    signals: VecDeque<Signal>,
}

/// All queues and the bandwidth between them.
pub(crate) struct Queues {
    queues: Vec<Queue>,
    /// When something happens to each queue but that its bytes are moved; `NEVER` if nothing does.
    due: Vec<u64>,
    bandwidth: Bandwidth,
    now: u64,
    /// When something happens next; `NEVER` if nothing is under way.
    next: u64,
}

/// All of a transfer that decides what comes, relative to a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransferState {
    /// Until its data phase may start, or until its on-chip side is done.
    ticks: u64,
    busy: u64,
    dram_bytes: u64,
    flowing: Option<bool>,
    /// Signals behind it.
    signals: usize,
}

/// All of the queues that decides what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueuesState {
    queues: Vec<(Vec<TransferState>, Vec<Signal>)>,
    bandwidth: (Vec<Option<u128>>, u64),
}

/// A transfer that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) queue: usize,
    /// How many signals leave now: see [`Queues::leave`].
    pub(crate) signals: usize,
    /// Its slice in the trace, and when its data phase began.
    pub(crate) slice: Option<(usize, u64)>,
}

impl Queue {
    /// What decides the future of its transfers, relative to `now`.
    fn state(&self, now: u64) -> impl Iterator<Item = TransferState> {
        let waiting = move |Waiting { transfer, signals }: &Waiting| TransferState {
            ticks: transfer.data_start.saturating_sub(now),
            busy: transfer.busy,
            dram_bytes: transfer.dram_bytes,
            flowing: None,
            signals: *signals,
        };
        let active = self.active.iter().map(move |active| TransferState {
            ticks: active.earliest_end.saturating_sub(now),
            busy: active.transfer.busy,
            dram_bytes: active.transfer.dram_bytes,
            flowing: Some(active.flowing),
            signals: active.signals,
        });
        active.chain(self.waiting.iter().map(waiting))
    }
}

impl Queues {
    /// Idle queues.
    pub(crate) fn new(count: usize, bandwidth: Bandwidth) -> Self {
        let queues = (0..count).map(|_| Queue::default()).collect();
        Self { queues, due: vec![NEVER; count], bandwidth, now: 0, next: NEVER }
    }

    /// Append a transfer.
    pub(crate) fn issue(&mut self, index: usize, transfer: Transfer) {
        let queue = &mut self.queues[index];
        if queue.active.is_none() && queue.waiting.is_empty() {
            self.due[index] = transfer.data_start.max(self.now);
            self.next = self.next.min(self.due[index]);
        }
        queue.waiting.push_back(Waiting { transfer, signals: 0 });
    }

    /// Whether all transfers of the queue have ended.
    pub(crate) fn is_empty(&self, queue: usize) -> bool {
        let queue = &self.queues[queue];
        queue.active.is_none() && queue.waiting.is_empty()
    }

    /// Send a signal when all transfers so far have ended; false if they have.
    pub(crate) fn signal_behind(&mut self, queue: usize, signal: Signal) -> bool {
        let queue = &mut self.queues[queue];
        match (queue.waiting.back_mut(), &mut queue.active) {
            (Some(waiting), _) => waiting.signals += 1,
            (None, Some(active)) => active.signals += 1,
            (None, None) => return false,
        }
        queue.signals.push_back(signal);
        true
    }

    /// The next signal that leaves, of a transfer that has ended.
    pub(crate) fn leave(&mut self, queue: usize) -> Option<Signal> {
        self.queues[queue].signals.pop_front()
    }

    /// Bytes over the DRAM bus in a second of so many ticks, at the rates of now.
    pub(crate) fn dram_rate(&self, ticks_per_second: u64) -> u64 {
        self.bandwidth.bytes_per_second(ticks_per_second)
    }

    /// When something happens next; `NEVER` if nothing is under way.
    #[inline]
    pub(crate) fn next_event(&self) -> u64 {
        self.next
    }

    /// Let happen what happens at `tick`, the [next event](Self::next_event); the transfers that end go to `ended`.
    pub(crate) fn advance(&mut self, tick: u64, ended: &mut Vec<Ended>) {
        self.now = tick;
        self.bandwidth.advance(tick);
        let (queues, due) = (&mut self.queues, &mut self.due);
        self.bandwidth.finish(|queue| {
            if let Some(active) = &mut queues[queue].active {
                active.flowing = false;
                due[queue] = active.earliest_end;
            }
        });
        for (index, due) in self.due.iter_mut().enumerate().filter(|(_, due)| **due <= tick) {
            let queue = &mut self.queues[index];
            if let Some(active) = queue.active.take() {
                let slice = active.transfer.slice.map(|slice| (slice, active.start));
                ended.push(Ended { queue: index, signals: active.signals, slice });
            }
            let may_start = |waiting: &mut Waiting| waiting.transfer.data_start <= tick;
            *due = match queue.waiting.pop_front_if(may_start) {
                Some(Waiting { transfer, signals }) => {
                    let flowing = transfer.dram_bytes > 0;
                    if flowing {
                        self.bandwidth.start(index, transfer.dram_bytes);
                    }
                    let earliest_end = tick + transfer.busy;
                    queue.active = Some(Active { start: tick, earliest_end, flowing, transfer, signals });
                    if flowing { NEVER } else { earliest_end }
                }
                None => queue.waiting.front().map_or(NEVER, |waiting| waiting.transfer.data_start),
            };
        }
        self.bandwidth.find_end();
        self.next = self.due.iter().fold(self.bandwidth.next_end(), |next, due| next.min(*due));
    }

    /// What decides the future, relative to `now`.
    pub(crate) fn state(&self, now: u64) -> QueuesState {
        let of_queue = |queue: &Queue| {
            (queue.state(now).collect(), queue.signals.iter().map(|signal| signal.state(now)).collect())
        };
        QueuesState {
            queues: self.queues.iter().map(of_queue).collect(),
            bandwidth: self.bandwidth.state(now),
        }
    }

    /// Whether the state is that one.
    pub(crate) fn is_in(&self, state: &QueuesState, now: u64) -> bool {
        let mut queues = self.queues.iter().zip(&state.queues);
        self.bandwidth.is_in(&state.bandwidth, now)
            && queues.all(|(queue, (transfers, signals))| {
                queue.state(now).eq(transfers.iter().copied())
                    && queue.signals.iter().map(|signal| signal.state(now)).eq(signals.iter().copied())
            })
    }

    /// Let `ticks` pass in which nothing changes.
    pub(crate) fn shift(&mut self, ticks: u64) {
        self.now += ticks;
        self.bandwidth.shift(ticks);
        for due in self.due.iter_mut().chain([&mut self.next]).filter(|due| **due != NEVER) {
            *due += ticks;
        }
        for queue in &mut self.queues {
            if let Some(active) = &mut queue.active {
                active.earliest_end += ticks;
                active.start += ticks;
                active.transfer.data_start += ticks;
            }
            queue.waiting.iter_mut().for_each(|waiting| waiting.transfer.data_start += ticks);
            queue.signals.iter_mut().for_each(|signal| signal.earliest += ticks);
        }
    }
}
