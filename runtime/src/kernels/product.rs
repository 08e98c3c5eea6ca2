//! Products: one chain in ascending `k` for each element of the result.
//!
//! That is exactly what a register-blocked kernel does when it keeps a block of results in registers and runs over
//! `k`: blocking rows and columns changes no chain. A panel of columns of the moving operand at a time is packed into a
//! buffer of the thread and multiplied while it stays in the nearest cache; meanwhile the host is [asked](Ahead) for the
//! next one, line by line.
//!
//! Layouts: the stationary operand is read where it lies, with a stride for rows of the result and one for steps
//! of k ([`Stationary`]); the moving operand comes as panels of [`COLS`] columns (`[k][COLS]`), padded; each result
//! row is a slice of contiguous 32-bit little-endian elements. A term is an f32, or a [`Quad`] of 8-bit integers: four
//! steps of k at once.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::Isa;
use super::ahead::{Ahead, Span};
use super::arena::{Lines, ReadLines};
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Result columns that register blocks hold.
pub(crate) const COLS: usize = 48;

/// Columns of each of the last two panels if there are little more than [`COLS`].
const HALF: usize = 32;

/// How many rows ahead of its reading a row of the moving operand is asked for, if it was not before.
pub(crate) const AHEAD: usize = 16;
/// Rows of a result that are computed while the host brings what the next ones need.
const ROWS: usize = 8;

/// The shape of one product: `rows` result rows of `cols` columns, `depth` terms in each chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) depth: usize,
    /// Whether the chain continues from the value in the result, or starts at zero.
    pub(crate) accumulate: bool,
}

/// The stationary operand: the term of result row `m` and step `k` is at `m · row + k · step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stationary<'a, T> {
    first: *const T,
    row: usize,
    pub(super) step: usize,
    /// Rows and steps that there are.
    extents: (usize, usize),
    /// What makes chains of bytes into those of the integers that the bytes stand for; floats stand for themselves.
    pub(crate) offsets: Offsets<'a>,
    terms: PhantomData<&'a [T]>,
}

/// An integer that is added to each chain: `rows[m] − factor · Σ_k moving[k, n]`.
///
/// With operands `s − zs` and `x − zx` whose bytes are `s` and `x`, the sum of their products is
/// `Σ s·x − zs·Σ x + (K·zs·zx − zx·Σ s)`. All of it wraps, so that it is exact in 32 bits whatever the terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets<'a> {
    /// One for each row of the result; no entry is 0.
    pub(crate) rows: &'a [i32],
    pub(crate) factor: i32,
}

impl Offsets<'static> {
    /// Nothing is added.
    pub(crate) const NONE: Self = Self { rows: &[], factor: 0 };
}

/// Four consecutive steps of a chain of 8-bit integers: unsigned in the stationary operand, signed in the moving one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub(crate) struct Quad(pub(crate) [u8; 4]);

/// One term of a chain: 32 bits, whatever they are.
pub(crate) trait Term: Copy + Default + Send + Sync + 'static {
    /// The chain's bits after a step.
    fn chain(acc: u32, s: Self, x: Self) -> u32;

    /// The chain's bits with an offset added, if this is an integer.
    fn offset(acc: u32, offset: i32) -> u32;

    /// A term that adds up another one's.
    const ONES: Self;

    /// The results of one panel, in columns of the lines; meanwhile the host is asked for what is `ahead`.
    ///
    /// # Panics
    /// If the stationary operand or the lines do not hold as many rows and columns.
    fn panel(
        isa: Isa,
        accumulate: bool,
        s: &Stationary<'_, Self>,
        moving: &Panel<'_, Self>,
        results: &mut Tile<'_, '_>,
        ahead: &mut Ahead<'_>,
    );
}

/// [`COLS`] columns of the moving operand, `[k][COLS]`, and what is added to their chains.
pub(crate) struct Panel<'a, T> {
    pub(super) terms: &'a [T],
    pub(super) offsets: &'a [i32; COLS],
}

/// Columns of a result, at least one and at most [`COLS`], in some rows.
pub(crate) struct Tile<'a, 'b> {
    pub(super) lines: &'a mut Lines<'b>,
    pub(super) rows: Range<usize>,
    /// The first column, and how many.
    pub(super) first: usize,
    pub(super) cols: usize,
}

impl<'a, T: Term> Stationary<'a, T> {
    /// `rows` rows of `steps` steps in a slice, without offsets.
    ///
    /// # Panics
    /// If the slice does not hold them.
    pub(crate) fn new(terms: &'a [T], (row, step): (usize, usize), (rows, steps): (usize, usize)) -> Self {
        let reach = rows.saturating_sub(1) * row + steps.saturating_sub(1) * step;
        assert!(rows == 0 || steps == 0 || reach < terms.len());
        let (offsets, extents) = (Offsets::NONE, (rows, steps));
        Self { first: terms.as_ptr(), row, step, extents, offsets, terms: PhantomData }
    }

    /// The terms that stand in lines: those of a row of the result in each, or, if not `rowwise`, those of a step.
    pub(crate) fn of_lines(lines: ReadLines<'a>, rowwise: bool) -> Self {
        let (start, pitch) = lines.raw();
        let (count, len) = lines.shape();
        let (pitch, len) = (pitch / size_of::<T>(), len / size_of::<T>());
        let (row, step, extents) = if rowwise { (pitch, 1, (count, len)) } else { (1, pitch, (len, count)) };
        Self { first: start.cast(), row, step, extents, offsets: Offsets::NONE, terms: PhantomData }
    }

    /// The same with offsets.
    pub(crate) fn with_offsets(self, offsets: Offsets<'a>) -> Self {
        Self { offsets, ..self }
    }

    /// One term.
    ///
    /// # Panics
    /// If there is no such row or step.
    #[inline(always)]
    pub(crate) fn term(&self, row: usize, step: usize) -> T {
        assert!(row < self.extents.0 && step < self.extents.1);
        // SAFETY: the term is one of those that the constructors have checked.
        unsafe { self.first_of(row).add(step * self.step).read_unaligned() }
    }

    /// Where a row's terms start.
    #[inline(always)]
    pub(super) fn first_of(&self, row: usize) -> *const T {
        self.first.wrapping_add(row * self.row)
    }

    /// Terms from a row to the next.
    #[inline(always)]
    pub(super) fn row_pitch(&self) -> usize {
        self.row
    }

    /// Where the terms of some rows are, if the host would not find the way itself.
    fn span(&self, rows: Range<usize>) -> Span {
        let (first, size) = (self.first_of(rows.start).cast(), size_of::<T>());
        match self.step {
            1 => Span::new(first, self.extents.1 * size, self.row * size, rows.len()),
            step => Span::new(first, rows.len() * size, step * size, self.extents.1),
        }
    }

    /// What is added to the chains of a row.
    #[inline]
    pub(super) fn offset(&self, row: usize) -> i32 {
        self.offsets.rows.get(row).copied().unwrap_or(0)
    }

    /// Check what the kernels rely on.
    fn check(&self, moving: &Panel<'_, T>, tile: &Tile<'_, '_>) {
        let (rows, bytes) = tile.lines.shape();
        let steps = moving.terms.len() / COLS;
        assert!(tile.rows.start < tile.rows.end && tile.rows.end <= rows.min(self.extents.0));
        assert!(steps <= self.extents.1 && moving.terms.len() == steps * COLS);
        assert!((1..=COLS).contains(&tile.cols) && (tile.first + tile.cols) * 4 <= bytes);
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// 32-bit terms as the host's memory moves them together, so that no vector of a panel lies in two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

impl Term for f32 {
    const ONES: Self = 1.0;

    #[inline(always)]
    fn chain(acc: u32, s: Self, x: Self) -> u32 {
        s.mul_add(x, f32::from_bits(acc)).to_bits()
    }

    #[inline(always)]
    fn offset(acc: u32, _: i32) -> u32 {
        acc
    }

    fn panel(
        isa: Isa,
        accumulate: bool,
        s: &Stationary<'_, Self>,
        moving: &Panel<'_, Self>,
        tile: &mut Tile<'_, '_>,
        ahead: &mut Ahead<'_>,
    ) {
        s.check(moving, tile);
        match isa {
            // SAFETY: `Isa::available` has seen the feature on this host, and `check` has asserted what covers every
            // address that the kernel touches.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512 => unsafe {
                x86::f32_avx512::panel(accumulate, s, moving, tile, ahead)
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni | Isa::Avx2 => unsafe { x86::f32_avx2::panel(accumulate, s, moving, tile, ahead) },
            Isa::Portable => panel_portable(accumulate, s, moving, tile),
        }
    }
}

impl Term for Quad {
    const ONES: Self = Quad([1; 4]);

    #[inline(always)]
    fn chain(acc: u32, s: Self, x: Self) -> u32 {
        let product = |i: usize| i32::from(s.0[i]) * i32::from(x.0[i] as i8);
        acc.wrapping_add((product(0) + product(1) + product(2) + product(3)) as u32)
    }

    #[inline(always)]
    fn offset(acc: u32, offset: i32) -> u32 {
        acc.wrapping_add(offset as u32)
    }

    fn panel(
        isa: Isa,
        accumulate: bool,
        s: &Stationary<'_, Self>,
        moving: &Panel<'_, Self>,
        tile: &mut Tile<'_, '_>,
        ahead: &mut Ahead<'_>,
    ) {
        s.check(moving, tile);
        match isa {
            // SAFETY: `Isa::available` has seen the feature on this host, and `check` has asserted what covers every
            // address that the kernel touches.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { x86::quad_avx512_vnni::panel(accumulate, s, moving, tile, ahead) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { x86::quad_avx512::panel(accumulate, s, moving, tile, ahead) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => unsafe { x86::quad_avx_vnni::panel(accumulate, s, moving, tile, ahead) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86::quad_avx2::panel(accumulate, s, moving, tile, ahead) },
            Isa::Portable => panel_portable(accumulate, s, moving, tile),
        }
    }
}

/// Call `work` with a buffer of this thread, at the start of a line; what is in it may be anything.
fn with_buffer<T: Term>(len: usize, work: impl FnOnce(&mut [T])) {
    const { assert!(size_of::<T>() == 4 && align_of::<T>() <= 64) };
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() * 16 < len {
            buffer.resize(len.div_ceil(16), Line([0; 16]));
        }
        // SAFETY: the lines hold as many terms, of which any bits are one.
        work(unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), len) });
    });
}

/// The moving operand of a product, by columns.
pub(crate) trait Moving<T> {
    /// Write `[depth][COLS]` terms of so many columns from `first` on; what is written beyond the columns may be
    /// anything.
    fn pack(&self, first: usize, cols: usize, panel: &mut [T]);

    /// The rows of memory that hold the terms of some steps, if the host can be asked for them, and the bytes of such a
    /// row that hold these columns.
    fn rows(&self, steps: Range<usize>, cols: Range<usize>) -> (&[&[u8]], Range<usize>);

    /// What the host may be asked for while the last columns are computed.
    fn next(&self) -> Span;
}

/// `result[m, n] (+)= Σ_k stationary[m, k] · moving[k, n]`; k counts terms.
///
/// # Panics
/// If an operand is shorter than the shape says: callers have checked the operands' bounds.
pub(crate) fn product<T: Term>(
    isa: Isa,
    shape: Product,
    stationary: Stationary<'_, T>,
    moving: &impl Moving<T>,
    result: &mut Lines<'_>,
) {
    if shape.rows == 0 || shape.cols == 0 {
        return;
    }
    assert!(result.shape() == (shape.rows, shape.cols * 4));
    let next = moving.next();
    let (mut ahead, blocks) = (Ahead::default(), shape.rows.div_ceil(ROWS));
    let each = |all: usize| all.div_ceil(blocks);
    let some_of = |block: usize, all: usize| block * each(all)..((block + 1) * each(all)).min(all);
    with_buffer(COLS * shape.depth, |terms: &mut [T]| {
        let mut after = 0;
        while after < shape.cols {
            let (first, cols) = (after, together(shape.cols - after));
            moving.pack(first, cols, terms);
            let mut offsets = [0; COLS];
            if stationary.offsets.factor != 0 {
                let factor = stationary.offsets.factor;
                offsets = column_sums(isa, terms).map(|sum| factor.wrapping_mul(sum).wrapping_neg());
            }
            let panel = Panel { terms, offsets: &offsets };
            after = first + cols;
            let after_cols = together(shape.cols - after);
            for block in 0..blocks {
                let rows_of = |block: usize| block * ROWS..((block + 1) * ROWS).min(shape.rows);
                ahead.clear();
                if block + 1 < blocks {
                    let next = rows_of(block + 1);
                    if first == 0 {
                        ahead.push(stationary.span(next.clone()));
                    }
                    ahead.push(result.span(next, first * 4..(first + cols) * 4));
                } else if after_cols > 0 {
                    ahead.push(result.span(rows_of(0), after * 4..(after + after_cols) * 4));
                }
                if after_cols > 0 {
                    let steps = some_of(block, shape.depth);
                    let (rows, columns) = moving.rows(steps, after..after + after_cols);
                    ahead.set_rows(rows, columns);
                } else {
                    ahead.push(next.part(some_of(block, next.rows())).behind());
                }
                let mut tile = Tile { lines: &mut *result, rows: rows_of(block), first, cols };
                T::panel(isa, shape.accumulate, &stationary, &panel, &mut tile, &mut ahead);
            }
        }
    });
}

/// How many of the columns that are left are computed together: all that fit, but the last are shared out so that no
/// panel is so narrow that loads of the stationary operand take longer than the arithmetic.
fn together(left: usize) -> usize {
    if (COLS + 1..=2 * HALF).contains(&left) { HALF } else { left.min(COLS) }
}

/// The sum of each column of a panel.
fn column_sums<T: Term>(isa: Isa, panel: &[T]) -> [i32; COLS] {
    let one = [T::ONES];
    let ones = Stationary::new(&one, (0, 0), (1, panel.len() / COLS));
    let panel = Panel { terms: panel, offsets: &[0; COLS] };
    let mut bytes = [0; COLS * 4];
    let mut lines = Lines::of(&mut bytes, COLS * 4, 1, COLS * 4);
    let mut tile = Tile { lines: &mut lines, rows: 0..1, first: 0, cols: COLS };
    T::panel(isa, false, &ones, &panel, &mut tile, &mut Ahead::default());
    std::array::from_fn(|n| i32::from_le_bytes(std::array::from_fn(|i| bytes[n * 4 + i])))
}

/// The definition: each element is a chain in ascending k.
fn panel_portable<T: Term>(
    accumulate: bool,
    s: &Stationary<'_, T>,
    moving: &Panel<'_, T>,
    tile: &mut Tile<'_, '_>,
) {
    for row in tile.rows.clone() {
        let line = tile.lines.line(row, tile.first * 4..(tile.first + tile.cols) * 4);
        for (n, bytes) in line.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut acc = if accumulate { u32::from_le_bytes(*bytes) } else { 0 };
            for (k, x) in moving.terms.as_chunks::<COLS>().0.iter().enumerate() {
                acc = T::chain(acc, s.term(row, k), x[n]);
            }
            *bytes = T::offset(acc, s.offset(row).wrapping_add(moving.offsets[n])).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
