//! Products: one chain in ascending `k` for each element of the result.
//!
//! That is exactly what a register-blocked kernel does when it keeps a block of results in registers and runs over
//! `k`: blocking rows and columns changes no chain. Some columns of the moving operand at a time are packed into a
//! buffer of the thread, and each panel of them is multiplied while it stays in the nearest cache.
//!
//! Layouts: the stationary operand is read where it lies, with a stride for rows of the result and one for steps
//! of k ([`Stationary`]); the moving operand comes as panels of [`COLS`] columns (`[k][COLS]`), padded; each result
//! row is a slice of contiguous 32-bit little-endian elements. A term is an f32, or a [`Quad`] of 8-bit integers: four
//! steps of k at once.

use std::cell::RefCell;
use std::ops::Range;

use super::Isa;
use super::arena::Lines;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Result columns that register blocks hold.
pub(crate) const COLS: usize = 48;

/// Panels that are packed together: so many columns are read from each partition at once.
const PANELS: usize = 8;
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
    pub(crate) terms: &'a [T],
    pub(crate) row: usize,
    pub(crate) step: usize,
    /// What makes chains of bytes into those of the integers that the bytes stand for; floats stand for themselves.
    pub(crate) offsets: Offsets<'a>,
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

/// One term of a chain; 32 bits.
pub(crate) trait Term: Copy + Default + Send + Sync + 'static {
    /// The chain's bits after a step.
    fn chain(acc: u32, s: Self, x: Self) -> u32;

    /// The chain's bits with an offset added, if this is an integer.
    fn offset(acc: u32, offset: i32) -> u32;

    /// A term that adds up another one's.
    const ONES: Self;

    /// The results of one panel, in columns of the lines.
    ///
    /// # Panics
    /// If the stationary operand or the lines do not hold as many rows and columns.
    fn panel(
        isa: Isa,
        accumulate: bool,
        s: &Stationary<'_, Self>,
        moving: &Panel<'_, Self>,
        results: Tile<'_, '_>,
    );

    /// Call `work` with a buffer of this thread; what is in it may be anything.
    fn with_buffer(len: usize, work: impl FnOnce(&mut [Self]));
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

impl<T> Stationary<'_, T> {
    /// Whether `steps` steps of `rows` rows lie inside the terms.
    fn holds(&self, rows: usize, steps: usize) -> bool {
        let reach = rows.saturating_sub(1) * self.row + steps.saturating_sub(1) * self.step;
        rows == 0 || steps == 0 || reach < self.terms.len()
    }

    /// Ask the host for `steps` steps of some rows.
    fn ask_for(&self, rows: Range<usize>, steps: usize) {
        let (outer, inner) = if self.step == 1 { (rows, 0..steps) } else { (0..steps, rows) };
        let pitch = if self.step == 1 { self.row } else { self.step };
        for number in outer {
            if let Some(terms) = self.terms.get(number * pitch + inner.start..number * pitch + inner.end) {
                super::prefetch_terms(terms);
            }
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
        assert!(tile.rows.start < tile.rows.end && tile.rows.end <= rows);
        assert!(self.holds(tile.rows.end, steps) && moving.terms.len() == steps * COLS);
        assert!((1..=COLS).contains(&tile.cols) && (tile.first + tile.cols) * 4 <= bytes);
    }
}

thread_local! {
    static FLOATS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static QUADS: RefCell<Vec<Quad>> = const { RefCell::new(Vec::new()) };
}

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
        tile: Tile<'_, '_>,
    ) {
        s.check(moving, &tile);
        match isa {
            // SAFETY: `Isa::available` has seen the feature on this host, and `check` has asserted what covers every
            // address that the kernel touches.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512 => unsafe { x86::f32_avx512::panel(accumulate, s, moving, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni | Isa::Avx2 => unsafe { x86::f32_avx2::panel(accumulate, s, moving, tile) },
            Isa::Portable => panel_portable(accumulate, s, moving, tile),
        }
    }

    fn with_buffer(len: usize, work: impl FnOnce(&mut [Self])) {
        FLOATS.with_borrow_mut(|buffer| work(sized(buffer, len)));
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
        tile: Tile<'_, '_>,
    ) {
        s.check(moving, &tile);
        match isa {
            // SAFETY: `Isa::available` has seen the feature on this host, and `check` has asserted what covers every
            // address that the kernel touches.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { x86::quad_avx512_vnni::panel(accumulate, s, moving, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { x86::quad_avx512::panel(accumulate, s, moving, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => unsafe { x86::quad_avx_vnni::panel(accumulate, s, moving, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86::quad_avx2::panel(accumulate, s, moving, tile) },
            Isa::Portable => panel_portable(accumulate, s, moving, tile),
        }
    }

    fn with_buffer(len: usize, work: impl FnOnce(&mut [Self])) {
        QUADS.with_borrow_mut(|buffer| work(sized(buffer, len)));
    }
}

fn sized<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

/// The moving operand of a product, by columns.
pub(crate) trait Moving<T> {
    /// Write `[panel][depth][COLS]` terms of so many columns from `first` on; what is written beyond the columns may be
    /// anything.
    fn pack(&self, first: usize, cols: usize, panels: &mut [T]);
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
    let size = COLS * shape.depth;
    let most = PANELS.min(shape.cols.div_ceil(COLS));
    T::with_buffer(most * size, |buffer| {
        for start in (0..shape.cols).step_by(most * COLS) {
            let end = (start + most * COLS).min(shape.cols);
            moving.pack(start, end - start, &mut buffer[..(end - start).div_ceil(COLS) * size]);
            for (number, first) in (start..end).step_by(COLS).enumerate() {
                let terms = &buffer[number * size..][..size];
                let cols = COLS.min(end - first);
                let mut offsets = [0; COLS];
                if stationary.offsets.factor != 0 {
                    let factor = stationary.offsets.factor;
                    offsets = column_sums(isa, terms).map(|sum| factor.wrapping_mul(sum).wrapping_neg());
                }
                let panel = Panel { terms, offsets: &offsets };
                for row in (0..shape.rows).step_by(ROWS) {
                    let next = row + ROWS..(row + 2 * ROWS).min(shape.rows);
                    if first == 0 {
                        stationary.ask_for(next.clone(), shape.depth);
                    }
                    next.for_each(|row| result.ask_for(row, first * 4..(first + cols) * 4));
                    let rows = row..(row + ROWS).min(shape.rows);
                    let tile = Tile { lines: &mut *result, rows, first, cols };
                    T::panel(isa, shape.accumulate, &stationary, &panel, tile);
                }
            }
        }
    });
}

/// The sum of each column of a panel.
fn column_sums<T: Term>(isa: Isa, panel: &[T]) -> [i32; COLS] {
    let ones = Stationary { terms: &[T::ONES], row: 0, step: 0, offsets: Offsets::NONE };
    let panel = Panel { terms: panel, offsets: &[0; COLS] };
    let mut bytes = [0; COLS * 4];
    let mut lines = Lines::of(&mut bytes, COLS * 4, 1, COLS * 4);
    T::panel(isa, false, &ones, &panel, Tile { lines: &mut lines, rows: 0..1, first: 0, cols: COLS });
    std::array::from_fn(|n| i32::from_le_bytes(std::array::from_fn(|i| bytes[n * 4 + i])))
}

/// The definition: each element is a chain in ascending k.
fn panel_portable<T: Term>(
    accumulate: bool,
    s: &Stationary<'_, T>,
    moving: &Panel<'_, T>,
    tile: Tile<'_, '_>,
) {
    for row in tile.rows.clone() {
        let line = tile.lines.line(row, tile.first * 4..(tile.first + tile.cols) * 4);
        for (n, bytes) in line.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut acc = if accumulate { u32::from_le_bytes(*bytes) } else { 0 };
            for (k, x) in moving.terms.as_chunks::<COLS>().0.iter().enumerate() {
                acc = T::chain(acc, s.terms[row * s.row + k * s.step], x[n]);
            }
            *bytes = T::offset(acc, s.offset(row).wrapping_add(moving.offsets[n])).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
