//! Products: one chain in ascending `k` for each element of the result.
//!
//! That is exactly what a register-blocked kernel does when it keeps a block of results in registers and runs over
//! `k`: blocking rows and columns changes no chain. An item of work is some columns of the result: it packs them of
//! the moving operand into a buffer of its thread, which then stays in the nearest cache, and multiplies.
//!
//! Layouts: the stationary operand is read where it lies, with a stride for rows of the result and one for steps
//! of k ([`Stationary`]); the moving operand comes as panels of [`COLS`] columns (`[k][COLS]`), padded; each result
//! row is a slice of contiguous 32-bit little-endian elements. A term is an f32, or a [`Quad`] of 8-bit integers: four
//! steps of k at once.

use std::cell::RefCell;

use super::Isa;
use super::team::Team;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Result rows that one register block holds.
pub(crate) const ROWS: usize = 8;
/// Result columns that one register block holds.
pub(crate) const COLS: usize = 32;

/// No item packs more panels.
const MAX_PANELS: usize = 4;

/// Multiply-accumulates from which a product is worth spreading over threads.
const PARALLEL_MACS: usize = 1 << 17;

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

    /// Panels that an item packs together: they and a block's rows of the stationary operand fill the nearest cache,
    /// and the more they are, the less often the stationary operand is read.
    const PANELS: usize;

    /// One block of results.
    fn block(isa: Isa, accumulate: bool, s: &Block<'_, Self>, moving: &Panel<'_, Self>, tile: Tile<'_>);

    /// Call `work` with a buffer of this thread; what is in it may be anything.
    fn with_buffer(len: usize, work: impl FnOnce(&mut [Self]));
}

/// [`ROWS`] rows of the stationary operand and what is added to their chains.
pub(crate) struct Block<'a, T> {
    pub(super) terms: &'a [T],
    /// First terms of the rows.
    pub(super) firsts: [usize; ROWS],
    pub(super) step: usize,
    pub(super) offsets: [i32; ROWS],
}

/// [`COLS`] columns of the moving operand, `[k][COLS]`, and what is added to their chains.
pub(crate) struct Panel<'a, T> {
    pub(super) terms: &'a [T],
    pub(super) offsets: &'a [i32; COLS],
}

impl<T> Block<'_, T> {
    /// Whether `steps` steps of every row lie inside the terms.
    pub(super) fn holds(&self, steps: usize) -> bool {
        let reach = steps.saturating_sub(1) * self.step;
        steps == 0 || self.firsts.iter().all(|first| first + reach < self.terms.len())
    }
}

/// The rows of a block of results, all of as many elements, at least one and at most [`COLS`]; rows beyond the result
/// are empty, but the first never is.
pub(crate) type Tile<'a> = [&'a mut [u8]; ROWS];

thread_local! {
    static FLOATS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static QUADS: RefCell<Vec<Quad>> = const { RefCell::new(Vec::new()) };
}

impl Term for f32 {
    const ONES: Self = 1.0;
    const PANELS: usize = 2;

    #[inline(always)]
    fn chain(acc: u32, s: Self, x: Self) -> u32 {
        s.mul_add(x, f32::from_bits(acc)).to_bits()
    }

    #[inline(always)]
    fn offset(acc: u32, _: i32) -> u32 {
        acc
    }

    fn block(isa: Isa, accumulate: bool, s: &Block<'_, Self>, moving: &Panel<'_, Self>, tile: Tile<'_>) {
        match isa {
            // SAFETY: `Isa::available` has seen the feature on this host, and `product` has asserted what covers
            // every address that the kernel touches.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512 => unsafe { x86::f32_avx512::block(accumulate, s, moving, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni | Isa::Avx2 => unsafe { x86::f32_avx2::block(accumulate, s, moving, tile) },
            Isa::Portable => block_portable(accumulate, s, moving, tile),
        }
    }

    fn with_buffer(len: usize, work: impl FnOnce(&mut [Self])) {
        FLOATS.with_borrow_mut(|buffer| work(sized(buffer, len)));
    }
}

impl Term for Quad {
    const ONES: Self = Quad([1; 4]);
    const PANELS: usize = MAX_PANELS;

    #[inline(always)]
    fn chain(acc: u32, s: Self, x: Self) -> u32 {
        let product = |i: usize| i32::from(s.0[i]) * i32::from(x.0[i] as i8);
        acc.wrapping_add((product(0) + product(1) + product(2) + product(3)) as u32)
    }

    #[inline(always)]
    fn offset(acc: u32, offset: i32) -> u32 {
        acc.wrapping_add(offset as u32)
    }

    fn block(isa: Isa, accumulate: bool, s: &Block<'_, Self>, moving: &Panel<'_, Self>, tile: Tile<'_>) {
        match isa {
            // SAFETY: as for f32.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { x86::quad_avx512_vnni::block(accumulate, s, moving, tile) },
            // SAFETY: as for f32.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { x86::quad_avx512::block(accumulate, s, moving, tile) },
            // SAFETY: as for f32.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => unsafe { x86::quad_avx_vnni::block(accumulate, s, moving, tile) },
            // SAFETY: as for f32.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86::quad_avx2::block(accumulate, s, moving, tile) },
            Isa::Portable => block_portable(accumulate, s, moving, tile),
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

/// How a product is cut into items: columns in groups of panels, each of them over all rows or over some.
struct Cut {
    /// Columns of an item.
    cols: usize,
    /// Rows of an item.
    rows: usize,
    /// Items along the columns.
    across: usize,
    items: usize,
}

impl Cut {
    /// Each thread should have some items. Rows are cut only where columns do not give every thread as much: it packs
    /// them again.
    fn new(shape: Product, most: usize, threads: usize) -> Self {
        let panels = shape.cols.div_ceil(COLS);
        let whole = threads == 1 || shape.rows * shape.cols * shape.depth < PARALLEL_MACS;
        let threads = if whole { 1 } else { threads };
        let fair = if threads == 1 { panels } else { panels / (2 * threads) };
        let group = fair.clamp(1, most);
        let across = panels.div_ceil(group);
        let down = if across.is_multiple_of(threads) || across >= 4 * threads { 1 } else { threads };
        let rows = shape.rows.div_ceil(down).next_multiple_of(ROWS);
        Self { cols: group * COLS, rows, across, items: across * shape.rows.div_ceil(rows) }
    }
}

/// `result[m, n] (+)= Σ_k stationary[m, k] · moving[k, n]`; k counts terms.
///
/// `pack(first column, columns, panels)` writes `[panel][depth][COLS]` terms of the moving operand; what it writes
/// beyond the columns may be anything. It may be called again for the same columns, and on any thread.
///
/// # Panics
/// If an operand is shorter than the shape says: callers have checked the operands' bounds.
pub(crate) fn product<T: Term>(
    team: &Team,
    isa: Isa,
    shape: Product,
    stationary: Stationary<'_, T>,
    pack: impl Fn(usize, usize, &mut [T]) + Sync,
    result: &mut [&mut [u8]],
) {
    if shape.rows == 0 || shape.cols == 0 {
        return;
    }
    let result = Rows::new(&mut result[..shape.rows], shape.cols * 4);
    let cut = Cut::new(shape, T::PANELS, team.threads());
    let size = COLS * shape.depth;
    let work = |item: usize| {
        let (first_row, start) = (item / cut.across * cut.rows, item % cut.across * cut.cols);
        let (end_row, end) = ((first_row + cut.rows).min(shape.rows), (start + cut.cols).min(shape.cols));
        T::with_buffer((end - start).div_ceil(COLS) * size, |panels| {
            pack(start, end - start, panels);
            let mut columns = [[0; COLS]; MAX_PANELS];
            if stationary.offsets.factor != 0 {
                for (columns, panel) in columns.iter_mut().zip(panels.chunks(size.max(1))) {
                    let sums = column_sums(isa, panel);
                    *columns = sums.map(|sum| stationary.offsets.factor.wrapping_mul(sum).wrapping_neg());
                }
            }
            for row in (first_row..end_row).step_by(ROWS) {
                // Rows beyond the last repeat it; their results are dropped.
                let row_of = |r: usize| (row + r).min(shape.rows - 1);
                let offset = |r: usize| stationary.offsets.rows.get(row_of(r)).copied().unwrap_or(0);
                let block = Block {
                    terms: stationary.terms,
                    firsts: std::array::from_fn(|r| row_of(r) * stationary.row),
                    step: stationary.step,
                    offsets: std::array::from_fn(offset),
                };
                assert!(block.holds(shape.depth));
                for (first, panel) in (start..end).step_by(COLS).zip(0..) {
                    let bytes = first * 4..end.min(first + COLS) * 4;
                    let tile = std::array::from_fn(|r| {
                        // SAFETY: items share no element, and an item takes each of its tiles once.
                        if row + r < end_row {
                            unsafe { result.part(row + r, bytes.clone()) }
                        } else {
                            &mut []
                        }
                    });
                    let panel = Panel { terms: &panels[panel * size..][..size], offsets: &columns[panel] };
                    T::block(isa, shape.accumulate, &block, &panel, tile);
                }
            }
        });
    };
    if cut.items == 1 { work(0) } else { team.each(cut.items, work) }
}

/// The sum of each column of a panel.
fn column_sums<T: Term>(isa: Isa, panel: &[T]) -> [i32; COLS] {
    let ones = Block { terms: &[T::ONES], firsts: [0; ROWS], step: 0, offsets: [0; ROWS] };
    let panel = Panel { terms: panel, offsets: &[0; COLS] };
    let mut bytes = [0; COLS * 4];
    let mut tile: Tile<'_> = Default::default();
    tile[0] = &mut bytes;
    T::block(isa, false, &ones, &panel, tile);
    std::array::from_fn(|n| i32::from_le_bytes(std::array::from_fn(|i| bytes[n * 4 + i])))
}

/// Rows of bytes, parts of which threads write at the same time.
struct Rows<'a> {
    starts: Vec<*mut u8>,
    bytes: usize,
    rows: std::marker::PhantomData<&'a mut [u8]>,
}

// SAFETY: it gives out parts only by an unsafe function, whose callers keep them disjoint.
unsafe impl Sync for Rows<'_> {}

impl<'a> Rows<'a> {
    /// The first `bytes` bytes of each row.
    fn new(rows: &'a mut [&mut [u8]], bytes: usize) -> Self {
        assert!(rows.iter().all(|row| row.len() >= bytes));
        let starts = rows.iter_mut().map(|row| row.as_mut_ptr()).collect();
        Self { starts, bytes, rows: std::marker::PhantomData }
    }

    /// # Safety
    /// While a part is used, no other one overlaps it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, row: usize, bytes: std::ops::Range<usize>) -> &'a mut [u8] {
        assert!(bytes.start <= bytes.end && bytes.end <= self.bytes);
        // SAFETY: the row holds these bytes, and nobody else uses them.
        unsafe { std::slice::from_raw_parts_mut(self.starts[row].add(bytes.start), bytes.len()) }
    }
}

/// The definition: each element is a chain in ascending k.
fn block_portable<T: Term>(accumulate: bool, s: &Block<'_, T>, moving: &Panel<'_, T>, tile: Tile<'_>) {
    for ((row, first), offset) in tile.into_iter().zip(s.firsts).zip(s.offsets) {
        for (n, bytes) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut acc = if accumulate { u32::from_le_bytes(*bytes) } else { 0 };
            for (k, x) in moving.terms.as_chunks::<COLS>().0.iter().enumerate() {
                acc = T::chain(acc, s.terms[first + k * s.step], x[n]);
            }
            *bytes = T::offset(acc, offset.wrapping_add(moving.offsets[n])).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
