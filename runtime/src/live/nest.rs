//! What a nest that is taken as a whole reads of the scratchpad.

use std::rc::Rc;

/// All reads of a nest, by stretch, less those that an address register skips.
pub(crate) struct NestReads {
    /// Register among the nest's, stretch and tick from the start of the nest on; sorted.
    pub(super) all: Vec<(usize, i64, u64)>,
    /// The last of each stretch.
    last: Vec<(usize, i64, u64)>,
    /// For each register the first and the last stretch.
    ranges: Vec<(i64, i64)>,
    end: u64,
}

impl NestReads {
    /// Of reads as (register, stretch, tick), of so many registers.
    pub(crate) fn new(mut all: Vec<(usize, i64, u64)>, registers: usize) -> Self {
        all.sort_unstable();
        all.dedup();
        let mut ranges = vec![(i64::MAX, i64::MIN); registers];
        for &(register, stretch, _) in &all {
            let range = &mut ranges[register];
            *range = (range.0.min(stretch), range.1.max(stretch));
        }
        let same = |a: &(usize, i64, u64), b: &(usize, i64, u64)| (a.0, a.1) == (b.0, b.1);
        let last = all.chunk_by(same).filter_map(|reads| reads.last().copied()).collect();
        let end = all.iter().map(|(.., tick)| *tick).max().unwrap_or(0);
        Self { all, last, ranges, end }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The tick of the last one, from the start of the nest on.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether all are among the first `stretches`, if each register skips so many.
    pub(crate) fn within(&self, skipped: &[i64], stretches: i64) -> bool {
        let mut ranges = self.ranges.iter().zip(skipped).filter(|((first, last), _)| first <= last);
        ranges.all(|((first, last), skip)| first + skip >= 0 && last + skip < stretches)
    }
}

/// A nest that is under way.
pub(super) struct Nest {
    pub(super) start: u64,
    pub(super) stream: u32,
    pub(super) reads: Rc<NestReads>,
    pub(super) skipped: Vec<i64>,
    /// Some of its stretches were written since it began.
    pub(super) overwritten: bool,
}

impl Nest {
    /// Whether it may read some of these stretches.
    pub(super) fn reads_some(&self, (from, to): (i64, i64)) -> bool {
        let mut ranges = self.reads.ranges.iter().zip(&self.skipped);
        ranges.any(|((first, last), skip)| first <= last && first + skip <= to && from <= last + skip)
    }

    /// The last read of a stretch before a stream's touch.
    pub(super) fn read_before(&self, stretch: i64, tick: u64, stream: u32) -> Option<u64> {
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

    /// The last read of each stretch: stretch and tick.
    pub(super) fn last_reads(&self) -> impl Iterator<Item = (i64, u64)> {
        let last = self.reads.last.iter();
        last.map(|(register, stretch, tick)| (stretch + self.skipped[*register], self.start + tick))
    }
}
