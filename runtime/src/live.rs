//! How much of the scratchpad holds values that are still to be read.
//!
//! A stretch of bytes is live from the write that fills it to its last read before the next one. That a read was the
//! last is known only later, so intervals are entered when they end, at evenly spaced moments of the run; their number
//! is bounded, so a longer run has them further apart. The greatest sum over the moments is the high water.

use crate::code::Touch;

/// Bytes of a stretch, in each partition.
pub(crate) const STRETCH: i64 = 256;
/// Moments looked at, at most; at least half as many are.
const MOMENTS: usize = 8192;

/// Live bytes over time.
pub(crate) struct Live {
    stretches: Vec<Stretch>,
    /// Bytes that become live, or no longer are, from moment to moment.
    changes: Vec<i64>,
    /// Ticks between moments.
    apart: u64,
    partitions: u64,
}

#[derive(Clone, Copy, Default)]
struct Stretch {
    written: u64,
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
        }
    }

    /// An instruction touches bytes; `reg` is the value of the touch's register.
    pub(crate) fn touch(&mut self, tick: u64, touch: &Touch, reg: i64) {
        let (first, end) = (touch.bytes.0.wrapping_add(reg), touch.bytes.1.wrapping_add(reg));
        // Out of bounds is a trap where there are values, and nothing without.
        if first < 0 || end > self.stretches.len() as i64 * STRETCH || first >= end {
            return;
        }
        for index in first / STRETCH..=(end - 1) / STRETCH {
            let start = index * STRETCH;
            let bytes = (end.min(start + STRETCH) - first.max(start)) as u64 * touch.parts;
            let stretch = &mut self.stretches[index as usize];
            if touch.reads {
                stretch.read = Some(tick);
            }
            if touch.writes {
                if stretch.read.is_some() && !touch.reads {
                    let ended = std::mem::take(stretch);
                    stretch.written = tick;
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

    /// Some stretches side by side are read.
    pub(crate) fn read(&mut self, first: i64, count: i64, tick: u64) {
        for stretch in &mut self.stretches[first as usize..(first + count) as usize] {
            stretch.read = Some(tick);
        }
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
