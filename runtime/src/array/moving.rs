//! The moving operand of a product as panels, and the block scales of both operands.

use kiln_machine::isa::Dt;

use crate::kernels;
use crate::kernels::arena::Granted;
use crate::kernels::product::{COLS, Moving, Offsets, Product, Quad, Stationary};
use crate::lane::{self, Place, Rows};

/// Rows of an operand that share their scales.
pub(super) const SCALED_ROWS: usize = 32;

/// The operands of a block-scaled product.
pub(super) struct Scaled {
    /// `[k][m]`, scaled.
    stationary: Vec<f32>,
    rows: usize,
    /// The moving operand's scales, `[k / 32][n]`.
    factors: Vec<f32>,
    cols: usize,
}

impl Scaled {
    /// The operands of a product of `depth` rows with their scales.
    pub(super) fn new(
        granted: &Granted<'_>,
        [ss, sx]: &[Place; 2],
        grid: &Stationary<'_, f32>,
        (depth, shape): (usize, Product),
    ) -> Self {
        let blocks = depth.div_ceil(SCALED_ROWS);
        let mut stationary = Vec::with_capacity(depth * shape.rows);
        let mut exponents = vec![0i32; shape.rows.max(shape.cols)];
        let mut factors = Vec::with_capacity(blocks * shape.cols);
        for block in 0..blocks {
            granted.load(ss, ss.part + block, 0, &mut exponents[..shape.rows]);
            for k in block * SCALED_ROWS..((block + 1) * SCALED_ROWS).min(depth) {
                let terms = (0..shape.rows).map(|m| grid.terms[m * grid.row + k * grid.step]);
                stationary.extend(
                    terms.zip(&exponents).map(|(term, exponent)| term * power_of_two(exponent - 127)),
                );
            }
            granted.load(sx, sx.part + block, 0, &mut exponents[..shape.cols]);
            factors.extend(exponents[..shape.cols].iter().map(|exponent| power_of_two(exponent - 127)));
        }
        Self { stationary, rows: shape.rows, factors, cols: shape.cols }
    }

    pub(super) fn stationary(&self) -> Stationary<'_, f32> {
        Stationary { terms: &self.stationary, row: 1, step: self.rows, offsets: Offsets::NONE }
    }

    /// Scale a panel of the moving operand.
    fn scale(&self, start: usize, columns: usize, panel: &mut [f32]) {
        for (k, row) in panel.as_chunks_mut::<COLS>().0.iter_mut().enumerate() {
            let factors = &self.factors[k / SCALED_ROWS * self.cols + start..];
            row[..columns].iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
        }
    }
}

/// 2 to the `exponent`, for −127 to 128; the last is the NaN of E8M0.
fn power_of_two(exponent: i32) -> f32 {
    match exponent {
        -127 => f32::from_bits(1 << 22),
        128 => f32::NAN,
        _ => f32::from_bits(((exponent + 127) as u32) << 23),
    }
}

/// How many partitions ahead of its reading a row is asked for.
const AHEAD: usize = 8;

/// What a product needs to know of its moving operand beside the memory.
#[derive(Clone, Copy)]
pub(super) struct Rest<'a> {
    pub(super) place: &'a Place,
    pub(super) rows: &'a Rows,
    pub(super) depth: usize,
    pub(super) scaled: Option<&'a Scaled>,
}

/// The moving operand of a product, in the memory that a task may read.
pub(super) struct Panels<'a, 'g> {
    pub(super) granted: &'a Granted<'g>,
    pub(super) rest: Rest<'a>,
}

impl Moving<f32> for Panels<'_, '_> {
    fn pack(&self, first: usize, cols: usize, panels: &mut [f32]) {
        let Rest { place, rows, depth, scaled } = self.rest;
        let plain = place.is_dense() && place.dt == Dt::F32;
        let size = depth * COLS;
        for (k, part) in (place.part..place.part + depth).enumerate() {
            if plain {
                if k + AHEAD < depth {
                    kernels::prefetch(rows.dense(self.granted, place, part + AHEAD, first * 4, cols * 4));
                }
                let bytes = rows.dense(self.granted, place, part, first * 4, cols * 4);
                for (panel, bytes) in panels.chunks_mut(size).zip(bytes.chunks(COLS * 4)) {
                    let row = &mut panel[k * COLS..][..COLS];
                    for (slot, bytes) in row.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        *slot = f32::from_le_bytes(*bytes);
                    }
                }
            } else {
                for (panel, start) in panels.chunks_mut(size).zip((first..first + cols).step_by(COLS)) {
                    let width = COLS.min(first + cols - start);
                    rows.load(self.granted, place, part, start, &mut panel[k * COLS..][..width]);
                }
            }
        }
        if let Some(scaled) = scaled {
            for (panel, start) in panels.chunks_mut(size).zip((first..first + cols).step_by(COLS)) {
                scaled.scale(start, COLS.min(first + cols - start), panel);
            }
        }
    }
}

/// As signed bytes: those of u8 less 128.
impl Moving<Quad> for Panels<'_, '_> {
    fn pack(&self, first: usize, cols: usize, panels: &mut [Quad]) {
        let Rest { place, rows, depth, .. } = self.rest;
        let flip = if place.dt == Dt::U8 { 0x80 } else { 0 };
        let size = depth.div_ceil(4) * COLS;
        for k in (0..depth).step_by(4) {
            if place.is_dense() {
                for ahead in (k + AHEAD..depth).take(4) {
                    kernels::prefetch(rows.dense(self.granted, place, place.part + ahead, first, cols));
                }
            }
            let four = (place.part + k, (depth - k).min(4));
            for (panel, start) in panels.chunks_mut(size).zip((first..first + cols).step_by(COLS)) {
                let width = COLS.min(first + cols - start);
                let row = &mut panel[k / 4 * COLS..][..width];
                lane::interleave((rows, self.granted), place, four, start, flip, row);
            }
        }
    }
}
