//! How much of the scratchpad holds values that are still to be read.
//!
//! A stretch of bytes is live from the write that fills it to its last read before the next one. That a read was the
//! last is known only later, so intervals are entered when they end, at evenly spaced moments of the run; their number
//! is bounded, so a longer run has them further apart. The greatest sum over the moments is the high water.
//!
//! Touches must come in the order of time. Where streams run ahead they do not: they are collected, and entered in order
//! when time has passed them. Reads of a nest that is taken as a whole are entered at its end, but for a stretch that
//! another stream writes meanwhile, which is one with bytes of two buffers: its reads so far are entered then.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::code::Touch;

/// Bytes of a stretch, in each partition.
pub(crate) const STRETCH: i64 = 256;
/// Moments looked at, at most; at least half as many are.
const MOMENTS: usize = 8192;

/// Touches that are collected before they are put in order.
const COLLECTED: usize = 4096;

/// Live bytes over time.
pub(crate) struct Live {
    stretches: Vec<Stretch>,
    /// Bytes that become live, or no longer are, from moment to moment.
    changes: Vec<i64>,
    /// Ticks between moments.
    apart: u64,
    partitions: u64,
    /// Touches that other ones may still precede, and how many there may be.
    collected: Vec<Collected>,
    full: usize,
    /// Nests whose ends are among them, in order.
    nests: VecDeque<Nest>,
}

/// A touch with its tick and stream, or the end of a nest.
struct Collected {
    tick: u64,
    stream: u32,
    reads: bool,
    writes: bool,
    /// Neither read nor written: a nest ends.
    bytes: (i64, i64),
    parts: u64,
}

/// All reads of a nest, by stretch, less those that an address register skips.
pub(crate) struct NestReads {
    /// Register among the nest's, stretch and tick from the start of the nest on; sorted.
    all: Vec<(usize, i64, u64)>,
    /// Register, first stretch, number of stretches, tick of their last read.
    last: Vec<(usize, i64, i64, u64)>,
    /// For each register the first and the last stretch.
    ranges: Vec<(i64, i64)>,
    end: u64,
}

impl NestReads {
    /// Of reads as (register, stretch, tick), of so many registers.
    pub(crate) fn new(mut all: Vec<(usize, i64, u64)>, registers: usize) -> Self {
        all.sort_unstable();
        all.dedup();
        let mut last: Vec<(usize, i64, i64, u64)> = Vec::new();
        let mut ranges = vec![(i64::MAX, i64::MIN); registers];
        for (i, &(register, stretch, tick)) in all.iter().enumerate() {
            let range = &mut ranges[register];
            *range = (range.0.min(stretch), range.1.max(stretch));
            if all.get(i + 1).is_some_and(|next| (next.0, next.1) == (register, stretch)) {
                continue;
            }
            match last.last_mut() {
                Some((r, first, count, t)) if (*r, *first + *count, *t) == (register, stretch, tick) => {
                    *count += 1;
                }
                _ => last.push((register, stretch, 1, tick)),
            }
        }
        let end = all.iter().map(|(.., tick)| *tick).max().unwrap_or(0);
        Self { all, last, ranges, end }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The first stretch and the last, if each register skips so many.
    pub(crate) fn within(&self, skipped: &[i64], stretches: i64) -> bool {
        let mut ranges = self.ranges.iter().zip(skipped).filter(|((first, last), _)| first <= last);
        ranges.all(|((first, last), skip)| first + skip >= 0 && last + skip < stretches)
    }
}

/// A nest that is under way.
struct Nest {
    start: u64,
    stream: u32,
    reads: Rc<NestReads>,
    skipped: Vec<i64>,
}

impl Nest {
    /// Whether it may read some of these stretches.
    fn reads_some(&self, (from, to): (i64, i64)) -> bool {
        let mut ranges = self.reads.ranges.iter().zip(&self.skipped);
        ranges.any(|((first, last), skip)| first <= last && first + skip <= to && from <= last + skip)
    }

    /// The last read of a stretch before a stream's touch.
    fn read_before(&self, stretch: i64, tick: u64, stream: u32) -> Option<u64> {
        let mut latest = None;
        for (register, ((first, last), skip)) in self.reads.ranges.iter().zip(&self.skipped).enumerate() {
            let stretch = stretch - skip;
            if (*first..=*last).contains(&stretch) {
                let before = |(r, s, t): &(usize, i64, u64)| {
                    (*r, *s) < (register, stretch)
                        || (*r, *s) == (register, stretch) && (self.start + t, self.stream) < (tick, stream)
                };
                let at = self.reads.all.partition_point(before);
                let read = at.checked_sub(1).map(|at| self.reads.all[at]);
                let read = read.filter(|(r, s, _)| (*r, *s) == (register, stretch));
                latest = latest.max(read.map(|(.., t)| self.start + t));
            }
        }
        latest
    }
}

#[derive(Clone, Copy, Default)]
struct Stretch {
    written: u64,
    /// The last write.
    last: (u64, u32),
    /// Last read, if it was read since.
    read: Option<u64>,
    /// Bytes written, in all partitions.
    bytes: u64,
}

impl Live {
    /// Nothing live in a scratchpad of so many partitions of so many bytes.
    pub(crate) fn new(partitions: u64, partition_bytes: u64) -> Self {
        Self {
            stretches: vec![Stretch::default(); partition_bytes.div_ceil(STRETCH as u64) as usize],
            changes: vec![0; MOMENTS + 1],
            apart: 1,
            partitions,
            collected: Vec::new(),
            full: COLLECTED,
            nests: VecDeque::new(),
        }
    }

    /// An instruction touches bytes; `reg` is the value of the touch's register.
    pub(crate) fn touch(&mut self, tick: u64, touch: &Touch, reg: i64) {
        if let Some(touch) = self.collected(tick, 0, touch, reg) {
            self.enter_touch(&touch);
        }
    }

    /// The same of a stream that may be ahead of others.
    pub(crate) fn collect(&mut self, tick: u64, stream: usize, touch: &Touch, reg: i64) {
        let touch = self.collected(tick, stream as u32, touch, reg);
        self.collected.extend(touch);
    }

    /// A stream takes a nest as a whole; each of its address registers skips so many stretches.
    pub(crate) fn collect_nest(
        &mut self,
        start: u64,
        stream: usize,
        reads: Rc<NestReads>,
        skipped: Vec<i64>,
    ) {
        let (tick, stream) = (start + reads.end, stream as u32);
        self.collected.push(Collected { tick, stream, reads: false, writes: false, bytes: (0, 0), parts: 0 });
        self.nests.push_back(Nest { start, stream, reads, skipped });
    }

    /// Whether it is time to put in order what was collected.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.collected.len() >= self.full
    }

    /// Enter what was collected of the time before a tick; all of it is there.
    pub(crate) fn settle(&mut self, before: u64) {
        let mut collected = std::mem::take(&mut self.collected);
        collected.sort_by_key(|touch| (touch.tick, touch.stream));
        let due = collected.partition_point(|touch| touch.tick < before);
        for touch in collected.drain(..due) {
            if touch.reads || touch.writes {
                self.enter_touch(&touch);
            } else {
                self.end_nest();
            }
        }
        self.full = COLLECTED.max(2 * collected.len());
        self.collected = collected;
    }

    /// The first nest that is under way ends: stretches that were not written since are read.
    fn end_nest(&mut self) {
        let Some(Nest { start, stream, reads, skipped }) = self.nests.pop_front() else { return };
        for (register, first, count, tick) in &reads.last {
            let (first, tick) = (first + skipped[*register], start + tick);
            for stretch in &mut self.stretches[first as usize..(first + count) as usize] {
                if (tick, stream) > stretch.last {
                    stretch.read = stretch.read.max(Some(tick));
                }
            }
        }
    }

    /// A touch with its bytes; out of bounds is a trap where there are values, and nothing without.
    fn collected(&self, tick: u64, stream: u32, touch: &Touch, reg: i64) -> Option<Collected> {
        let bytes = (touch.bytes.0.wrapping_add(reg), touch.bytes.1.wrapping_add(reg));
        let fits = bytes.0 >= 0 && bytes.1 <= self.stretches() * STRETCH && bytes.0 < bytes.1;
        let Touch { reads, writes, parts, .. } = *touch;
        fits.then_some(Collected { tick, stream, reads, writes, bytes, parts })
    }

    fn enter_touch(&mut self, touch: &Collected) {
        let Collected { tick, stream, bytes: (first, end), .. } = *touch;
        let span = (first / STRETCH, (end - 1) / STRETCH);
        let mut nests = self.nests.iter().take_while(|nest| nest.start <= tick);
        let shared = touch.writes && nests.any(|nest| nest.reads_some(span));
        for index in first / STRETCH..=(end - 1) / STRETCH {
            let start = index * STRETCH;
            let bytes = (end.min(start + STRETCH) - first.max(start)) as u64 * touch.parts;
            let nests = self.nests.iter().take_while(|nest| shared && nest.start <= tick);
            let nests = nests.filter_map(|nest| Some((nest.read_before(index, tick, stream)?, nest.stream)));
            let read = nests.max();
            let stretch = &mut self.stretches[index as usize];
            if let Some(read) = read
                && read > stretch.last
            {
                stretch.read = stretch.read.max(Some(read.0));
            }
            if touch.reads {
                stretch.read = Some(tick);
            }
            if touch.writes {
                stretch.last = (tick, stream);
                if stretch.read.is_some() && !touch.reads {
                    let ended = std::mem::take(stretch);
                    (stretch.written, stretch.last) = (tick, (tick, stream));
                    stretch.bytes = bytes;
                    self.enter(ended);
                } else {
                    if stretch.bytes == 0 {
                        stretch.written = tick;
                    }
                    stretch.bytes = (stretch.bytes + bytes).min(STRETCH as u64 * self.partitions);
                }
            }
        }
    }

    /// How many stretches there are.
    pub(crate) fn stretches(&self) -> i64 {
        self.stretches.len() as i64
    }

    /// An interval has ended.
    fn enter(&mut self, ended: Stretch) {
        let Some(read) = ended.read.filter(|_| ended.bytes > 0) else { return };
        while read / self.apart >= MOMENTS as u64 {
            self.halve();
        }
        let (first, last) = (ended.written.div_ceil(self.apart), read / self.apart);
        if first <= last {
            self.changes[first as usize] += ended.bytes as i64;
            self.changes[last as usize + 1] -= ended.bytes as i64;
        }
    }

    /// Keep every second moment.
    fn halve(&mut self) {
        let mut sums = std::mem::replace(&mut self.changes, vec![0; MOMENTS + 1]);
        let mut sum = 0;
        sums.iter_mut().for_each(|change| {
            sum += *change;
            *change = sum;
        });
        let mut before = 0;
        for (change, sum) in self.changes.iter_mut().zip(sums.iter().step_by(2)) {
            *change = sum - before;
            before = *sum;
        }
        self.apart *= 2;
    }

    /// The most bytes that were live at one of the moments; and if `tells`, from which tick on how many were.
    pub(crate) fn finish(mut self, tells: bool) -> (u64, Vec<(u64, u64)>) {
        self.settle(u64::MAX);
        for stretch in std::mem::take(&mut self.stretches) {
            self.enter(stretch);
        }
        let (mut live, mut peak, mut told) = (0, 0, Vec::new());
        for (moment, change) in self.changes.iter().enumerate() {
            live += change;
            peak = peak.max(live);
            if tells && *change != 0 {
                told.push((moment as u64 * self.apart, live.max(0) as u64));
            }
        }
        (peak.max(0) as u64, told)
    }
}

#[cfg(test)]
mod tests {
    use kiln_machine::isa::Add;

    use super::*;

    fn touch(writes: bool, bytes: (i64, i64)) -> Touch {
        Touch { reads: !writes, writes, bytes, reg: Add::NONE, parts: 64 }
    }

    #[test]
    fn only_what_is_still_read_is_live() {
        // Two buffers at both ends whose lives do not meet, each of 512 bytes in 64 partitions.
        let (low, high) = ((0, 512), (3584, 4096));
        for scale in [1, 1000] {
            let mut live = Live::new(64, 4096);
            for (tick, writes, bytes) in
                [(1, true, low), (5, false, low), (6, true, high), (9, false, high), (10, true, low)]
            {
                live.touch(tick * scale, &touch(writes, bytes), 0);
            }
            assert_eq!(live.finish(false).0, 512 * 64);
        }
    }

    #[test]
    fn lives_that_meet_add_up() {
        let mut live = Live::new(64, 4096);
        for (tick, writes, start) in [(1, true, 0), (2, true, 256), (8, false, 0), (9, false, 256)] {
            live.touch(tick, &touch(writes, (0, 256)), start);
        }
        let (peak, told) = live.finish(true);
        assert_eq!(peak, 512 * 64);
        // A read in a tick still finds its bytes live.
        assert_eq!(told, [(1, 256 * 64), (2, 512 * 64), (9, 256 * 64), (10, 0)]);
    }
}
