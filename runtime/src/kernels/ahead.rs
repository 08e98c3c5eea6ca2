//! What is asked of the host's memory while it computes: the lines that the next block of a product needs.
//!
//! A product of one block takes about as long as the host needs to bring the operands of the next one. Asked for all at
//! once they wait for one another and the arithmetic for them; asked for one by one between its steps they cost nothing.

use smallvec::SmallVec;

/// Bytes that the host's memory moves together.
const LINE: usize = 64;

/// Rows of as many bytes each, equally far apart; nothing is read there, so they may be anywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The first line of the first row, and how many lines each has.
    at: *const u8,
    lines: usize,
    pitch: usize,
    rows: usize,
}

// SAFETY: addresses are asked for, never read.
unsafe impl Send for Span {}

impl Span {
    /// `rows` rows of so many bytes each.
    pub(crate) fn new(first: *const u8, bytes: usize, pitch: usize, rows: usize) -> Self {
        let into = first.addr() % LINE;
        let lines = if bytes == 0 { 0 } else { (into + bytes).div_ceil(LINE) };
        Self { at: first.wrapping_sub(into), lines, pitch, rows: if lines == 0 { 0 } else { rows } }
    }

    /// Some bytes.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::new(bytes.as_ptr(), bytes.len(), 0, 1)
    }
}

/// Lines to be asked for, in order.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    spans: SmallVec<[Span; 16]>,
    next: usize,
    /// Of the span under way: the next line, those left in its row, and the rows left.
    at: usize,
    row: usize,
    lines: usize,
    rows: usize,
}

impl Ahead {
    /// Forget what was not asked for.
    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        (self.next, self.lines, self.rows) = (0, 0, 0);
    }

    /// Ask for this too.
    #[inline]
    pub(crate) fn push(&mut self, span: Span) {
        if span.rows > 0 {
            self.spans.push(span);
        }
    }

    /// Lines that were pushed.
    pub(crate) fn lines(&self) -> usize {
        self.spans.iter().map(|span| span.lines * span.rows).sum()
    }

    /// Ask for the next line.
    #[inline(always)]
    pub(super) fn ask(&mut self) {
        if self.lines == 0 && !self.advance() {
            return;
        }
        super::prefetch_line_behind(self.at);
        self.at = self.at.wrapping_add(LINE);
        self.lines -= 1;
    }

    /// Go on to the next row: whether there is one.
    fn advance(&mut self) -> bool {
        let Some(span) = self.spans.get(self.next) else { return false };
        if self.rows == 0 {
            (self.row, self.rows) = (span.at.addr(), span.rows);
        }
        (self.at, self.lines) = (self.row, span.lines);
        self.row = self.row.wrapping_add(span.pitch);
        self.rows -= 1;
        if self.rows == 0 {
            self.next += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of all spans, in order, as [`Ahead`] asks for them.
    fn asked(ahead: &mut Ahead) -> Vec<usize> {
        let mut all = Vec::new();
        while ahead.lines > 0 || ahead.advance() {
            all.push(ahead.at);
            ahead.at += LINE;
            ahead.lines -= 1;
        }
        all
    }

    #[test]
    fn every_line_is_asked_for_once() {
        let at = |address: usize| std::ptr::without_provenance::<u8>(address);
        let mut ahead = Ahead::default();
        ahead.push(Span::new(at(0x1020), 96, 0x400, 3));
        ahead.push(Span::new(at(0x9000), 0, 1, 8));
        ahead.push(Span::new(at(0x8000), 65, 0, 1));
        assert_eq!(ahead.lines(), 3 * 2 + 2);
        let want = [0x1000, 0x1040, 0x1400, 0x1440, 0x1800, 0x1840, 0x8000, 0x8040];
        assert_eq!(asked(&mut ahead), want);
        ahead.clear();
        assert_eq!(asked(&mut ahead), []);
    }
}
