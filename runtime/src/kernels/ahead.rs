//! What is asked of the host's memory while it computes: the lines that the next block of a product needs.
//!
//! A product of one block takes about as long as the host needs to bring the operands of the next one. Asked for all at
//! once they wait for one another and the arithmetic for them; asked for one by one between its steps they cost nothing.

use std::ops::Range;

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
    /// Not as far as the nearest cache.
    behind: bool,
}

// SAFETY: nothing is read or written there.
unsafe impl Send for Span {}

impl Span {
    /// No rows.
    pub(crate) const NONE: Self = Self { at: std::ptr::null(), lines: 0, pitch: 0, rows: 0, behind: false };

    /// `rows` rows of so many bytes each.
    pub(crate) fn new(first: *const u8, bytes: usize, pitch: usize, rows: usize) -> Self {
        let into = first.addr() % LINE;
        let lines = if bytes == 0 { 0 } else { (into + bytes).div_ceil(LINE) };
        let rows = if lines == 0 { 0 } else { rows };
        Self { at: first.wrapping_sub(into), lines, pitch, rows, behind: false }
    }

    /// The same, but not as far as the nearest cache, which is full of what is worked on.
    pub(crate) fn behind(self) -> Self {
        Self { behind: true, ..self }
    }

    /// Some of its rows.
    pub(crate) fn part(self, rows: Range<usize>) -> Self {
        let rows = rows.start.min(self.rows)..rows.end.min(self.rows);
        Self { at: self.at.wrapping_add(rows.start * self.pitch), rows: rows.len(), ..self }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

/// Lines to be asked for, in order: those of the spans, then those of the rows.
#[derive(Debug, Default)]
pub(crate) struct Ahead<'a> {
    spans: SmallVec<[Span; 4]>,
    /// Some columns of rows, in bytes.
    rows: &'a [&'a [u8]],
    columns: Range<usize>,
    /// The span under way, its next row and the rows left in it.
    span: usize,
    row: usize,
    left: usize,
    /// The next line, and how many are left of its row.
    at: usize,
    lines: usize,
    behind: bool,
}

impl<'a> Ahead<'a> {
    /// Forget what was not asked for.
    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.rows = &[];
        (self.span, self.left, self.lines) = (0, 0, 0);
        self.behind = false;
    }

    /// Ask for this too.
    #[inline]
    pub(crate) fn push(&mut self, span: Span) {
        if span.rows > 0 {
            self.spans.push(span);
        }
    }

    /// Ask for the same bytes of each of these rows, after all spans.
    #[inline]
    pub(crate) fn set_rows(&mut self, rows: &'a [&'a [u8]], columns: Range<usize>) {
        (self.rows, self.columns) = (rows, columns);
    }

    /// The lines of a row that starts there.
    #[inline(always)]
    fn lines_of(&self, row: usize) -> usize {
        (row % LINE + self.columns.len()).div_ceil(LINE)
    }

    /// About how many lines there are.
    pub(crate) fn lines(&self) -> usize {
        let of_spans: usize = self.spans.iter().map(|span| span.lines * span.rows).sum();
        of_spans + self.rows.len() * (self.columns.len().div_ceil(LINE) + 1)
    }

    /// Ask for the next line.
    #[inline(always)]
    pub(super) fn ask(&mut self) {
        if self.lines == 0 && !self.advance() {
            return;
        }
        if self.behind {
            super::prefetch_line_behind(self.at);
        } else {
            super::prefetch_line(self.at);
        }
        self.at = self.at.wrapping_add(LINE);
        self.lines -= 1;
    }

    /// Go on to the next row: whether there is one. Never a call, for which a kernel would have to save its registers.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        let Some(span) = self.spans.get(self.span) else {
            let Some((row, rest)) = self.rows.split_first() else { return false };
            let row = row.as_ptr().addr() + self.columns.start;
            (self.rows, self.at, self.lines) = (rest, row / LINE * LINE, self.lines_of(row));
            // They are those of a panel that is packed after the one that fills the nearest cache.
            self.behind = true;
            return self.lines > 0;
        };
        if self.left == 0 {
            (self.row, self.left) = (span.at.addr(), span.rows);
        }
        (self.at, self.lines, self.behind) = (self.row, span.lines, span.behind);
        self.row = self.row.wrapping_add(span.pitch);
        self.left -= 1;
        if self.left == 0 {
            self.span += 1;
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

        let bytes = vec![0; 512];
        let rows: Vec<&[u8]> = bytes.chunks(256).collect();
        ahead.push(Span::new(at(0x40), 1, 0, 1));
        ahead.set_rows(&rows, 64..192);
        let line = |row: &[u8], byte: usize| (row.as_ptr().addr() + byte) / LINE * LINE;
        let ends = rows.iter().flat_map(|row| [line(row, 64), line(row, 191)]);
        let asked = asked(&mut ahead);
        assert!(asked.len() <= 1 + 2 * 3 && ends.into_iter().all(|line| asked.contains(&line)));
    }
}
