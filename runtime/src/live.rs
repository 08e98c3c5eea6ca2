//! How much of the scratchpad holds values that are still to be read.
//!
//! A stretch of bytes is live from the write that fills it to its last read before the next one. That a read was the
//! last is known only later, so intervals are entered when they end, at evenly spaced moments of the run; their number
//! is bounded, so a longer run has them further apart. The greatest sum over the moments is the high water.
//!
//! Touches must come in the order of time. Where streams run ahead they do not: they are collected, and entered in order
//! when time has passed them. Reads of a nest that is taken as a whole are entered at its end, but for a stretch that
//! another stream writes meanwhile, which is one with bytes of two buffers: its reads so far are entered then.
//!
//! Only the moments between which something happens are kept of it. So most neighbours have one past, though they are
//! read one after another, and are dealt with together.

mod cells;
mod nest;

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use crate::code::Touch;
use cells::{Cells, Stretch};
use nest::Nest;
pub(crate) use nest::NestReads;

/// Bytes of a stretch, in each partition.
pub(crate) const STRETCH: i64 = 256;
/// Moments looked at, at most; at least half as many are.
const MOMENTS: usize = 8192;

/// Touches that are collected before they are put in order.
const COLLECTED: usize = 4096;

/// Live bytes over time.
pub(crate) struct Live {
    cells: Cells,
    /// Bytes that become live, or no longer are, from moment to moment.
    changes: Vec<i64>,
    /// Moments are 2^`apart` ticks apart.
    apart: u32,
    partitions: u64,
    /// Intervals that have ended and are not entered: of one stretch, and of how many.
    ended: Vec<(Stretch, u64)>,
    /// Touches of each stream that other streams' may still precede, and how many there are of all and may be.
    collected: Vec<VecDeque<Collected>>,
    count: usize,
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

impl Live {
    /// Nothing live in a scratchpad of so many partitions of so many bytes.
    pub(crate) fn new(partitions: u64, partition_bytes: u64) -> Self {
        Self {
            cells: Cells::new(partition_bytes.div_ceil(STRETCH as u64) as usize),
            changes: vec![0; MOMENTS + 1],
            apart: 0,
            partitions,
            ended: Vec::new(),
            collected: Vec::new(),
            count: 0,
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
        if let Some(touch) = self.collected(tick, stream as u32, touch, reg) {
            self.push(touch);
        }
    }

    fn push(&mut self, touch: Collected) {
        let stream = touch.stream as usize;
        if self.collected.len() <= stream {
            self.collected.resize_with(stream + 1, VecDeque::new);
        }
        self.collected[stream].push_back(touch);
        self.count += 1;
    }

    /// A stream takes a nest as a whole; each of its address registers skips so many stretches.
    pub(crate) fn collect_nest(
        &mut self,
        start: u64,
        stream: usize,
        reads: Rc<NestReads>,
        skipped: Vec<i64>,
    ) {
        let (tick, stream) = (start + reads.end(), stream as u32);
        self.push(Collected { tick, stream, reads: false, writes: false, bytes: (0, 0), parts: 0 });
        self.nests.push_back(Nest { start, stream, reads, skipped, overwritten: false });
    }

    /// Whether it is time to put in order what was collected.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.count >= self.full
    }

    /// Enter what was collected of the time before a tick; all of it is there.
    pub(crate) fn settle(&mut self, before: u64) {
        let mut collected = std::mem::take(&mut self.collected);
        // Ticks and streams of the first touches, the next one last; of equal ticks, the lower stream's comes first.
        let first = |stream: usize, touches: &VecDeque<Collected>| Some((touches.front()?.tick, stream));
        let firsts = collected.iter().enumerate().filter_map(|(stream, touches)| first(stream, touches));
        let mut order: Vec<(u64, usize)> = firsts.filter(|(tick, _)| *tick < before).collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        while let Some((_, stream)) = order.pop() {
            let end = order.last().copied().unwrap_or((before, 0));
            let touches = &mut collected[stream];
            while let Some(touch) = touches.pop_front_if(|touch| (touch.tick, stream) < end) {
                self.count -= 1;
                if touch.reads || touch.writes {
                    self.enter_touch(&touch);
                } else {
                    self.end_nest();
                }
            }
            if let Some(next) = first(stream, touches).filter(|(tick, _)| *tick < before) {
                let at = order.iter().rposition(|other| *other > next).map_or(0, |at| at + 1);
                order.insert(at, next);
            }
        }
        self.full = COLLECTED.max(2 * self.count);
        self.collected = collected;
    }

    /// The first nest that is under way ends: stretches that were not written since are read.
    fn end_nest(&mut self) {
        let Some(nest) = self.nests.pop_front() else { return };
        let mut reads = nest.last_reads().map(|(stretch, tick)| (stretch as usize, tick)).peekable();
        while let Some((first, tick)) = reads.next() {
            let (mut end, moment) = (first + 1, tick >> self.apart);
            if nest.overwritten {
                self.cells.change(first..end, |stretch, _| {
                    if (tick, nest.stream) > stretch.last {
                        stretch.read = stretch.read.max(Some(moment));
                    }
                });
                continue;
            }
            while reads.next_if(|(next, tick)| (*next, tick >> self.apart) == (end, moment)).is_some() {
                end += 1;
            }
            self.cells.change(first..end, |stretch, _| stretch.read = stretch.read.max(Some(moment)));
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
        let Collected { tick, bytes: (first, end), .. } = *touch;
        let span = (first / STRETCH, (end - 1) / STRETCH);
        let mut overwritten = false;
        if touch.writes {
            for nest in self.nests.iter_mut().take_while(|nest| nest.start <= tick) {
                let reads_some = nest.reads_some(span);
                nest.overwritten |= reads_some;
                overwritten |= reads_some;
            }
        }
        // What is touched as a whole goes together.
        let mut at = first;
        while at < end {
            let next = (at / STRETCH + 1) * STRETCH;
            let to = match at % STRETCH == 0 && next <= end && !overwritten {
                true => end / STRETCH * STRETCH,
                false => next.min(end),
            };
            if overwritten {
                self.read_by_nests(at / STRETCH, touch);
            }
            let stretches = (at / STRETCH) as usize..(to as u64).div_ceil(STRETCH as u64) as usize;
            let bytes = (to - at).min(STRETCH) as u64 * touch.parts;
            self.enter_stretches(stretches, bytes, touch);
            at = to;
        }
    }

    /// A stretch will be written: what nests have read of it before is over.
    fn read_by_nests(&mut self, index: i64, touch: &Collected) {
        let Collected { tick, stream, .. } = *touch;
        let nests = self.nests.iter().take_while(|nest| nest.start <= tick);
        let reads = nests.filter_map(|nest| Some((nest.read_before(index, tick, stream)?, nest.stream)));
        if let Some(read) = reads.max() {
            let moment = read.0 >> self.apart;
            self.cells.change(index as usize..index as usize + 1, |stretch, _| {
                if read > stretch.last {
                    stretch.read = stretch.read.max(Some(moment));
                }
            });
        }
    }

    /// So many bytes of each of some stretches are touched.
    fn enter_stretches(&mut self, stretches: Range<usize>, bytes: u64, touch: &Collected) {
        let Collected { tick, stream, .. } = *touch;
        let (before, behind) = (tick >> self.apart, tick.div_ceil(1 << self.apart));
        let (most, ended) = (STRETCH as u64 * self.partitions, &mut self.ended);
        self.cells.change(stretches, |stretch, count| {
            if touch.reads {
                stretch.read = Some(before);
            }
            if touch.writes {
                if stretch.read.is_some() && !touch.reads {
                    ended.push((*stretch, count));
                    *stretch = Stretch { written: behind, bytes, ..Stretch::default() };
                } else {
                    if stretch.bytes == 0 {
                        stretch.written = behind;
                    }
                    stretch.bytes = (stretch.bytes + bytes).min(most);
                }
                stretch.last = (tick, stream);
            }
        });
        self.enter_ended();
    }

    /// How many stretches there are.
    pub(crate) fn stretches(&self) -> i64 {
        self.cells.count() as i64
    }

    /// Enter the intervals that have ended.
    fn enter_ended(&mut self) {
        let apart = self.apart;
        let mut all = std::mem::take(&mut self.ended);
        for (ended, count) in all.drain(..) {
            let mut ended = ended.coarser(self.apart - apart);
            let Some(read) = ended.read.filter(|_| ended.bytes > 0) else { continue };
            let mut read = read;
            while read >= MOMENTS as u64 {
                self.halve();
                ended = ended.coarser(1);
                read >>= 1;
            }
            if ended.written <= read {
                let bytes = (ended.bytes * count) as i64;
                self.changes[ended.written as usize] += bytes;
                self.changes[read as usize + 1] -= bytes;
            }
        }
        self.ended = all;
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
        self.apart += 1;
        let all = 0..self.cells.count();
        self.cells.change(all, |stretch, _| *stretch = stretch.coarser(1));
    }

    /// The most bytes that were live at one of the moments; and if `tells`, from which tick on how many were.
    pub(crate) fn finish(mut self, tells: bool) -> (u64, Vec<(u64, u64)>) {
        self.settle(u64::MAX);
        let (all, ended) = (0..self.cells.count(), &mut self.ended);
        self.cells.change(all, |stretch, count| ended.push((*stretch, count)));
        self.enter_ended();
        let (mut live, mut peak, mut told) = (0, 0, Vec::new());
        for (moment, change) in self.changes.iter().enumerate() {
            live += change;
            peak = peak.max(live);
            if tells && *change != 0 {
                told.push(((moment as u64) << self.apart, live.max(0) as u64));
            }
        }
        (peak.max(0) as u64, told)
    }
}

#[cfg(test)]
mod tests {
    use kiln_machine::isa::Add;
    use kiln_machine::random::Rng;

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

    /// From which tick on how many bytes are live: one stretch after another, one moment after another.
    fn lives(touches: &[(u64, usize, Touch)], partitions: u64, partition_bytes: i64) -> Vec<(u64, u64)> {
        let mut lives: Vec<(u64, u64, u64)> = Vec::new();
        for start in (0..partition_bytes).step_by(STRETCH as usize) {
            let (mut written, mut read, mut bytes) = (0, None, 0);
            for (tick, _, touch) in touches {
                let here = touch.bytes.1.min(start + STRETCH) - touch.bytes.0.max(start);
                if here <= 0 {
                    continue;
                }
                if touch.reads {
                    read = Some(*tick);
                }
                if touch.writes {
                    if !touch.reads
                        && let Some(read) = read.take()
                    {
                        lives.push((written, read, bytes));
                        bytes = 0;
                    }
                    if bytes == 0 {
                        written = *tick;
                    }
                    bytes = (bytes + here as u64 * touch.parts).min(STRETCH as u64 * partitions);
                }
            }
            lives.extend(read.map(|read| (written, read, bytes)));
        }
        lives.retain(|(.., bytes)| *bytes > 0);
        let end = lives.iter().map(|(_, read, _)| *read).max().unwrap_or(0);
        let apart = (0..).map(|n| 1 << n).find(|apart| end / apart < MOMENTS as u64).unwrap_or(1);
        let at = |moment: u64| {
            let tick = moment * apart;
            let live = lives.iter().filter(|(written, read, _)| (*written..=*read).contains(&tick));
            (tick, live.map(|(.., bytes)| bytes).sum())
        };
        let mut all: Vec<(u64, u64)> = (0..=MOMENTS as u64).map(at).collect();
        all.dedup_by_key(|(_, bytes)| *bytes);
        all.into_iter().skip_while(|(_, bytes)| *bytes == 0).collect()
    }

    #[test]
    fn cells_and_nests_tell_what_single_stretches_tell() {
        const STRETCHES: i64 = 70;
        for seed in 0..60 {
            let rng = &mut Rng::new(seed);
            let span = 400 << rng.below(12);
            // Stream 0 reads in nests; others write and read whatever they like.
            let mut touches: Vec<(u64, usize, Touch)> = Vec::new();
            for _ in 0..150 {
                let first = rng.below(STRETCHES as u64 * 4 - 40) as i64 * 64;
                let length = if rng.below(2) == 0 { STRETCH * 8 } else { 64 * (1 + rng.below(40) as i64) };
                let first = if rng.below(2) == 0 { first / STRETCH * STRETCH } else { first };
                let bytes = (first, (first + length).min(STRETCHES * STRETCH));
                let (reads, writes) = [(true, false), (false, true), (true, true)][rng.below(3) as usize];
                let parts = [2, 4][rng.below(2) as usize];
                let touch = Touch { reads, writes, bytes, reg: Add::NONE, parts };
                touches.push((rng.below(span), 1 + rng.below(3) as usize, touch));
            }
            let mut nests = Vec::new();
            let mut start = rng.below(20);
            while start < span {
                let reads: Vec<(usize, i64, u64)> = (0..1 + rng.below(60))
                    .map(|i| (0, (i as i64 * 7 + seed as i64) % 40, rng.below(span / 8 + 1)))
                    .collect();
                let skipped = rng.below(30) as i64;
                for (_, stretch, tick) in &reads {
                    let first = (stretch + skipped) * STRETCH;
                    touches.push((start + tick, 0, touch(false, (first, first + STRETCH))));
                }
                nests.push((start, NestReads::new(reads, 1), skipped));
                start += span / 8 + 1 + rng.below(span / 4 + 1);
            }
            touches.sort_by_key(|(tick, stream, _)| (*tick, *stream));
            let mut expected = None;
            for (in_nests, ahead) in [(false, false), (false, true), (true, true)] {
                let mut live = Live::new(4, (STRETCHES * STRETCH) as u64);
                let mut nests = nests.iter();
                let mut nest = nests.next();
                let mut order = touches.clone();
                if ahead {
                    // One stream after another, a part of the run at a time.
                    order.sort_by_key(|(tick, stream, _)| (tick / (span / 3), *stream, *tick));
                }
                let mut settled = 0;
                for (tick, stream, touch) in &order {
                    if ahead && tick / (span / 3) > settled {
                        settled = tick / (span / 3);
                        live.settle(settled * (span / 3));
                    }
                    while in_nests
                        && let Some((start, reads, skipped)) = nest
                        && start / (span / 3) <= settled
                    {
                        let all = reads.all.clone();
                        live.collect_nest(*start, 0, Rc::new(NestReads::new(all, 1)), vec![*skipped]);
                        nest = nests.next();
                    }
                    match (ahead, *stream) {
                        (true, 0) if in_nests => {}
                        (true, _) => live.collect(*tick, *stream, touch, 0),
                        (false, _) => live.touch(*tick, touch, 0),
                    }
                }
                let (peak, told) = live.finish(true);
                let expected = expected.get_or_insert_with(|| lives(&touches, 4, STRETCHES * STRETCH));
                assert_eq!(peak, expected.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0));
                assert_eq!(&told, expected, "seed {seed}, nests {in_nests}, ahead {ahead}");
            }
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
