//! The stretches of a scratchpad, neighbours with one past together in a cell.

use std::ops::Range;

/// What is known of a stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first moment after the write that filled it, or in it.
    pub(super) written: u64,
    /// The last write: tick and stream.
    pub(super) last: (u64, u32),
    /// The last moment before its last read, or in it, if it was read since.
    pub(super) read: Option<u64>,
    /// Bytes written, in all partitions.
    pub(super) bytes: u64,
}

impl Stretch {
    /// The same where only every 2^`by`-th moment counts.
    pub(super) fn coarser(self, by: u32) -> Self {
        let written = self.written.div_ceil(1 << by);
        Self { written, read: self.read.map(|read| read >> by), ..self }
    }
}

/// All stretches.
pub(super) struct Cells {
    /// Of each stretch; where none begins, that of the cell it is in counts.
    states: Vec<Stretch>,
    /// A bit for each stretch at which a cell begins, and one behind the last.
    heads: Vec<u64>,
}

impl Cells {
    /// So many stretches that nothing has touched.
    pub(super) fn new(count: usize) -> Self {
        let mut cells = Self { states: vec![Stretch::default(); count], heads: vec![0; count / 64 + 1] };
        cells.heads[0] = 1;
        cells.heads[count / 64] |= 1 << (count % 64);
        cells
    }

    /// How many stretches there are.
    pub(super) fn count(&self) -> usize {
        self.states.len()
    }

    /// Change the stretches of a range; `change` is given those that are alike, and how many they are.
    #[inline]
    pub(super) fn change(&mut self, range: Range<usize>, mut change: impl FnMut(&mut Stretch, u64)) {
        self.cut(range.start);
        self.cut(range.end);
        let (mut at, mut former) = (range.start, range.start);
        while at < range.end {
            let next = self.next(at);
            change(&mut self.states[at], (next - at) as u64);
            if at > former && self.states[at] == self.states[former] {
                self.heads[at / 64] &= !(1 << (at % 64));
            } else {
                former = at;
            }
            at = next;
        }
    }

    /// Let a cell begin at a stretch.
    #[inline]
    fn cut(&mut self, at: usize) {
        if self.heads[at / 64] >> (at % 64) & 1 == 0 {
            self.states[at] = self.states[self.head_before(at)];
            self.heads[at / 64] |= 1 << (at % 64);
        }
    }

    /// Where the cell begins that a stretch is in, which is not its first.
    fn head_before(&self, at: usize) -> usize {
        let mut word = at / 64;
        let mut bits = self.heads[word] & !(u64::MAX << (at % 64));
        while bits == 0 {
            word -= 1;
            bits = self.heads[word];
        }
        word * 64 + 63 - bits.leading_zeros() as usize
    }

    /// Where the cell begins that follows the one that begins at a stretch.
    #[inline]
    fn next(&self, at: usize) -> usize {
        let mut word = (at + 1) / 64;
        let mut bits = self.heads[word] & (u64::MAX << ((at + 1) % 64));
        while bits == 0 {
            word += 1;
            bits = self.heads[word];
        }
        word * 64 + bits.trailing_zeros() as usize
    }
}
