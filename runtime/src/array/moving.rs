//! The moving operand of a product as panels, and the block scales of both operands.

use std::ops::Range;

use kiln_machine::isa::Dt;

use crate::kernels;
use crate::kernels::ahead::Span;
use crate::kernels::arena::Granted;
use crate::kernels::product::{COLS, Moving, Product, Quad, Stationary};
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
                let terms = (0..shape.rows).map(|m| grid.term(m, k));
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
        Stationary::new(
            &self.stationary,
            (1, self.rows),
            (self.rows, self.stationary.len() / self.rows.max(1)),
        )
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
    granted: &'a Granted<'g>,
    rest: Rest<'a>,
    /// Each partition's bytes, if they are one run.
    dense: Vec<&'a [u8]>,
}

impl<'a, 'g> Panels<'a, 'g> {
    pub(super) fn new(granted: &'a Granted<'g>, rest: Rest<'a>) -> Self {
        let Rest { place, rows, depth, .. } = rest;
        let parts = place.part..place.part + depth;
        let dense = if place.is_dense() { rows.all_dense(granted, place, parts) } else { Vec::new() };
        Self { granted, rest, dense }
    }

    /// Some partitions' bytes, and which of them hold these columns.
    fn rows_of(&self, parts: Range<usize>, cols: Range<usize>) -> (&[&[u8]], Range<usize>) {
        let (size, count) = (self.rest.place.element_bytes(), self.dense.len());
        let rows = &self.dense[parts.start.min(count)..parts.end.min(count)];
        (rows, cols.start * size..cols.end * size)
    }
}

impl Moving<f32> for Panels<'_, '_> {
    fn pack(&self, first: usize, cols: usize, panel: &mut [f32]) {
        let Rest { place, rows, depth, scaled } = self.rest;
        if !self.dense.is_empty() {
            kernels::pack_floats(&self.dense, first, cols, place.dt, panel);
        } else {
            for (part, row) in (place.part..place.part + depth).zip(panel.chunks_mut(COLS)) {
                rows.load(self.granted, place, part, first, &mut row[..cols]);
            }
        }
        if let Some(scaled) = scaled {
            scaled.scale(first, cols, panel);
        }
    }

    fn rows(&self, steps: Range<usize>, cols: Range<usize>) -> (&[&[u8]], Range<usize>) {
        self.rows_of(steps, cols)
    }

    fn next(&self) -> Span {
        self.granted.next()
    }
}

/// As signed bytes: those of u8 less 128.
impl Moving<Quad> for Panels<'_, '_> {
    fn pack(&self, first: usize, cols: usize, panel: &mut [Quad]) {
        let Rest { place, rows, depth, .. } = self.rest;
        let flip = if place.dt == Dt::U8 { 0x80 } else { 0 };
        if !self.dense.is_empty() {
            return kernels::pack_quads(&self.dense, first..first + cols, flip, (COLS, panel));
        }
        for (k, row) in (0..depth).step_by(4).zip(panel.chunks_mut(COLS)) {
            let four = (place.part + k, (depth - k).min(4));
            lane::interleave((rows, self.granted), place, four, first, flip, &mut row[..cols]);
        }
    }

    fn rows(&self, steps: Range<usize>, cols: Range<usize>) -> (&[&[u8]], Range<usize>) {
        self.rows_of(steps.start * 4..steps.end * 4, cols)
    }

    fn next(&self) -> Span {
        self.granted.next()
    }
}
