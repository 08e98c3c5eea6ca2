//! How DMA queues share the DRAM: fluid fair sharing in exact integers.
//!
//! Each queue moves one transfer's bytes at a time. While `n` queues move bytes to or from DRAM, each of
//! them runs at the smaller of the queue's own rate and an n-th of the DRAM's bandwidth. Work is counted in
//! units so small that every such rate is a whole number of units a tick, so nothing is ever rounded but
//! the tick in which a transfer ends.

/// Bytes a tick, as a ratio of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) bytes: u64,
    pub(crate) ticks: u64,
}

impl Rate {
    /// A rate in bytes a second at a clock of so many ticks a second.
    pub(crate) fn per_tick(bytes_per_second: u64, ticks_per_second: u64) -> Self {
        let common = gcd(bytes_per_second.into(), ticks_per_second.into()).max(1) as u64;
        Self { bytes: bytes_per_second / common, ticks: ticks_per_second / common }
    }
}

/// The queues' current transfers and the bandwidth they share.
#[derive(Clone, Debug)]
pub(crate) struct Bandwidth {
    /// Units that a queue which moves bytes from the start on has moved. All that move bytes move as many a tick.
    moved: u128,
    /// What `moved` will be when each queue's transfer has ended; `IDLE` if it has none.
    ends: Vec<u128>,
    /// The least of them.
    least: u128,
    /// When the first transfer ends, at the rates of now; `NEVER` if there is none.
    end: u64,
    /// Queues that are not idle.
    sharers: usize,
    units_per_byte: u128,
    /// Units a tick of each queue that moves bytes, by their number.
    rates: Vec<u128>,
    now: u64,
}

/// The end of no transfer.
const IDLE: u128 = u128::MAX;

/// No tick.
pub(crate) const NEVER: u64 = u64::MAX;

impl Bandwidth {
    /// `queues` idle queues at tick `now`.
    pub(crate) fn new(queues: usize, queue: Rate, dram: Rate, now: u64) -> Self {
        let sharers = (1..=queues as u128).fold(1, lcm);
        let units_per_byte = lcm(u128::from(queue.ticks), u128::from(dram.ticks)) * sharers;
        let per_tick = |rate: Rate| u128::from(rate.bytes) * (units_per_byte / u128::from(rate.ticks));
        Self {
            moved: 0,
            ends: vec![IDLE; queues],
            least: IDLE,
            end: NEVER,
            sharers: 0,
            units_per_byte,
            // The DRAM's rate is divisible by every number of queues.
            rates: (0..=queues as u128).map(|n| per_tick(queue).min(per_tick(dram) / n.max(1))).collect(),
            now,
        }
    }

    /// Let an idle queue start to move `bytes` bytes now.
    pub(crate) fn start(&mut self, queue: usize, bytes: u64) {
        debug_assert!(self.ends[queue] == IDLE);
        self.ends[queue] = self.moved + u128::from(bytes) * self.units_per_byte;
        self.least = self.least.min(self.ends[queue]);
        self.sharers += 1;
    }

    /// The first tick in which some transfer has ended, at the rates of now; `NEVER` if there is none.
    #[inline]
    pub(crate) fn next_end(&self) -> u64 {
        self.end
    }

    /// Transfers have started or ended: find the next end.
    pub(crate) fn find_end(&mut self) {
        self.end = match self.sharers {
            0 => NEVER,
            _ => self.now.saturating_add(div_ceil(self.least.saturating_sub(self.moved), self.rate())),
        };
    }

    /// Move bytes until `tick`, which no transfer's end precedes.
    pub(crate) fn advance(&mut self, tick: u64) {
        self.moved += u128::from(tick - self.now) * self.rate();
        self.now = tick;
    }

    /// Forget the transfers that have ended, and tell their queues.
    #[inline]
    pub(crate) fn finish(&mut self, mut ended: impl FnMut(usize)) {
        if self.least > self.moved {
            return;
        }
        self.least = IDLE;
        for (queue, end) in self.ends.iter_mut().enumerate() {
            if *end <= self.moved {
                *end = IDLE;
                self.sharers -= 1;
                ended(queue);
            }
            self.least = self.least.min(*end);
        }
    }

    /// All that decides what comes: the units left, and how long ago they were so.
    pub(crate) fn state(&self, now: u64) -> (Vec<Option<u128>>, u64) {
        (self.units_left().collect(), self.since(now))
    }

    /// Whether the state is that one.
    pub(crate) fn is_in(&self, (left, since): &(Vec<Option<u128>>, u64), now: u64) -> bool {
        self.since(now) == *since && self.units_left().eq(left.iter().copied())
    }

    /// Units that each queue still has to move; `None` if it is idle.
    fn units_left(&self) -> impl Iterator<Item = Option<u128>> {
        self.ends.iter().map(|end| (*end != IDLE).then(|| end.saturating_sub(self.moved)))
    }

    fn since(&self, now: u64) -> u64 {
        if self.sharers == 0 { 0 } else { now - self.now }
    }

    /// Let `ticks` pass in which nothing changes.
    pub(crate) fn shift(&mut self, ticks: u64) {
        self.now += ticks;
        if self.end != NEVER {
            self.end += ticks;
        }
    }

    /// What all transfers move in a second of so many ticks, in bytes.
    pub(crate) fn bytes_per_second(&self, ticks_per_second: u64) -> u64 {
        let sharers = self.sharers as u128;
        (self.rate() * sharers * u128::from(ticks_per_second) / self.units_per_byte) as u64
    }

    /// What each transfer moves in a tick.
    fn rate(&self) -> u128 {
        self.rates[self.sharers]
    }
}

/// The quotient rounded up; 64-bit division is far cheaper where it suffices.
fn div_ceil(a: u128, b: u128) -> u64 {
    match (u64::try_from(a), u64::try_from(b)) {
        (Ok(a), Ok(b)) => a.div_ceil(b),
        _ => u64::try_from(a.div_ceil(b)).unwrap_or(u64::MAX),
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(a: u128, b: u128) -> u128 {
    a / gcd(a, b) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run to the end: (tick, queue) of each end, in order.
    fn ends(bandwidth: &mut Bandwidth) -> Vec<(u64, usize)> {
        let mut ends = Vec::new();
        loop {
            bandwidth.find_end();
            let tick = bandwidth.next_end();
            if tick == NEVER {
                return ends;
            }
            bandwidth.advance(tick);
            bandwidth.finish(|queue| ends.push((tick, queue)));
        }
    }

    #[test]
    fn one_queue_runs_at_its_own_rate() {
        // 5 bytes in 2 ticks, DRAM far faster: 1001 bytes take ceil(1001 · 2 / 5) = 401 ticks.
        let mut bandwidth = Bandwidth::new(3, Rate { bytes: 5, ticks: 2 }, Rate { bytes: 100, ticks: 1 }, 0);
        bandwidth.start(1, 1001);
        assert_eq!(ends(&mut bandwidth), [(401, 1)]);
    }

    #[test]
    fn sharers_split_the_dram_evenly_and_take_over_what_is_freed() {
        // DRAM 12 bytes a tick, queues 8. Three sharers: 4 each. Queue 0 (400 bytes) ends at 100.
        // Then two sharers at 6 each: queues 1 and 2 have 600 left of 1000: 100 ticks more, both at 200.
        let mut bandwidth = Bandwidth::new(4, Rate { bytes: 8, ticks: 1 }, Rate { bytes: 12, ticks: 1 }, 0);
        for (queue, bytes) in [(0, 400), (1, 1000), (2, 1000)] {
            bandwidth.start(queue, bytes);
        }
        assert_eq!(ends(&mut bandwidth), [(100, 0), (200, 1), (200, 2)]);
    }

    #[test]
    fn a_late_starter_slows_the_others_from_then_on() {
        // DRAM 10 a tick, queue 10. Alone for 10 ticks (100 of 200 bytes), then 5 each: both need 20 more.
        let mut bandwidth = Bandwidth::new(2, Rate { bytes: 10, ticks: 1 }, Rate { bytes: 10, ticks: 1 }, 0);
        bandwidth.start(0, 200);
        bandwidth.advance(10);
        bandwidth.start(1, 100);
        assert_eq!(ends(&mut bandwidth), [(30, 0), (30, 1)]);
    }
}
