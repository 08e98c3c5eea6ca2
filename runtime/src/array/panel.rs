//! One load of the stationary grid, in the order in which it came.

use std::borrow::Cow;

use kiln_machine::isa::Dt;

use super::Window;
use crate::kernels;
use crate::kernels::arena::Granted;
use crate::kernels::product::{Offsets, Quad, Stationary};
use crate::lane::{self, Place, Rows};

/// Terms between the rows of a panel, so that rows do not share their places in the host's caches.
const GAP: usize = 16;

/// The numbers of a panel.
pub(super) enum Terms {
    Floats(Vec<f32>),
    /// Bytes, unsigned, four rows of the grid in one term, zeros beyond the rows.
    Integers(Vec<Quad>),
}

/// A window of the grid as one load left it: a row for each partition that it came from.
pub(super) struct Panel {
    pub(super) window: Window,
    /// Partitions are columns of the grid, not rows.
    transposed: bool,
    pitch: usize,
    pub(super) terms: Terms,
    /// How much the bytes of integers stand above them: 128 if they are signed.
    above: i32,
}

/// Integers of a window of the grid, as products read them.
pub(super) struct Integers<'a> {
    quads: Cow<'a, [Quad]>,
    /// As in [`Stationary`].
    row: usize,
    step: usize,
    /// Columns of the window, and steps of its rows.
    extents: (usize, usize),
    /// How much the bytes stand above the integers.
    pub(super) above: i32,
}

/// Columns of a window, and steps of four of its rows.
fn extents_of(window: &Window) -> (usize, usize) {
    (window.cols, window.rows.div_ceil(4))
}

impl Integers<'static> {
    /// The bytes of a window, of row and column in it.
    pub(super) fn new(window: &Window, above: i32, byte: impl Fn(usize, usize) -> u8) -> Self {
        let mut quads = Vec::with_capacity(window.rows.div_ceil(4) * window.cols);
        for k in (0..window.rows).step_by(4) {
            let within = |k: usize, m: usize| if k < window.rows { byte(k, m) } else { 0 };
            quads.extend((0..window.cols).map(|m| Quad(std::array::from_fn(|i| within(k + i, m)))));
        }
        Self { quads: quads.into(), row: 1, step: window.cols, extents: extents_of(window), above }
    }
}

impl Integers<'_> {
    /// Whether all bytes are 0.
    pub(super) fn are_zero(&self) -> bool {
        self.quads.iter().all(|quad| quad.0 == [0; 4])
    }

    /// What the columns' chains of a product lack, see [`Offsets`].
    pub(super) fn row_offsets(&self, window: &Window, zero_s: i32, zero_x: i32) -> Vec<i32> {
        if zero_x == 0 {
            return Vec::new();
        }
        let both = (window.rows as i32).wrapping_mul(zero_s).wrapping_mul(zero_x);
        let depth = window.rows.div_ceil(4);
        let mut sums = vec![0; window.cols];
        if self.row == 1 {
            (0..depth).for_each(|k| kernels::add_quads(&self.quads[k * self.step..], &mut sums));
        } else {
            for (m, sum) in sums.iter_mut().enumerate() {
                let bytes = self.quads[m * self.row..][..depth].iter().flat_map(|quad| quad.0);
                *sum = bytes.map(i32::from).sum();
            }
        }
        sums.iter().map(|sum| both.wrapping_sub(zero_x.wrapping_mul(*sum))).collect()
    }

    pub(super) fn stationary<'a>(&'a self, offsets: Offsets<'a>) -> Stationary<'a, Quad> {
        Stationary::new(&self.quads, (self.row, self.step), self.extents).with_offsets(offsets)
    }
}

impl Panel {
    /// What a load reads from a place; its type is one that the array takes.
    pub(super) fn load(
        granted: &Granted<'_>,
        from: &Rows,
        window: Window,
        place: &Place,
        transposed: bool,
    ) -> Self {
        let (parts, free) = if transposed { (window.cols, window.rows) } else { (window.rows, window.cols) };
        let pitch = free + GAP;
        if place.dt.is_integer() {
            let above = if place.dt == Dt::I8 { 128 } else { 0 };
            let quads = load_integers((from, granted), place, transposed, (parts, free, pitch), above as u8);
            return Self { window, transposed, pitch, terms: Terms::Integers(quads), above };
        }
        let mut terms = Vec::with_capacity(parts * pitch);
        let partitions = place.part..place.part + parts;
        if place.is_dense() {
            let rows = from.all_dense(granted, place, partitions);
            kernels::lay_floats(&rows, free, place.dt, pitch, &mut terms);
        } else {
            terms.resize(parts * pitch, 0.0);
            for (part, row) in partitions.zip(terms.chunks_mut(pitch)) {
                from.load(granted, place, part, 0, &mut row[..free]);
            }
        }
        Self { window, transposed, pitch, terms: Terms::Floats(terms), above: 0 }
    }

    /// A window of floats, of row and column in it.
    pub(super) fn of_floats(window: Window, term: impl Fn(usize, usize) -> f32) -> Self {
        let pitch = window.cols + GAP;
        let mut terms = vec![0.0; window.rows * pitch];
        for (k, row) in terms.chunks_mut(pitch).enumerate() {
            row[..window.cols].iter_mut().enumerate().for_each(|(m, cell)| *cell = term(k, m));
        }
        Self { window, transposed: false, pitch, terms: Terms::Floats(terms), above: 0 }
    }

    /// Where the term of row `k` and column `m` of the panel is; integers have a row for four.
    pub(super) fn at(&self, k: usize, m: usize) -> usize {
        if self.transposed { m * self.pitch + k } else { k * self.pitch + m }
    }

    /// A window of the grid that lies in the panel; nothing if it holds integers.
    pub(super) fn floats(&self, window: &Window) -> Stationary<'_, f32> {
        let first = self.at(window.row - self.window.row, window.col - self.window.col);
        let terms: &[f32] = match &self.terms {
            Terms::Floats(terms) => &terms[first..],
            Terms::Integers(_) => return Stationary::new(&[], (0, 0), (0, 0)),
        };
        let strides = if self.transposed { (self.pitch, 1) } else { (1, self.pitch) };
        Stationary::new(terms, strides, (window.cols, window.rows))
    }

    /// An integer of row `k` and column `m` of the panel; 0 if it holds floats.
    pub(super) fn integer(&self, k: usize, m: usize) -> i16 {
        match &self.terms {
            Terms::Integers(quads) => i16::from(quads[self.at(k / 4, m)].0[k % 4]) - self.above as i16,
            Terms::Floats(_) => 0,
        }
    }

    /// A window of the grid that lies in the panel; zeros if it holds floats.
    pub(super) fn integers(&self, window: &Window) -> Integers<'_> {
        let (row, col) = (window.row - self.window.row, window.col - self.window.col);
        match &self.terms {
            // Terms lie as in the window, and hold nothing behind its last row.
            Terms::Integers(quads)
                if row.is_multiple_of(4)
                    && (window.rows.is_multiple_of(4) || row + window.rows == self.window.rows) =>
            {
                let (row_step, step) = if self.transposed { (self.pitch, 1) } else { (1, self.pitch) };
                let quads = Cow::Borrowed(&quads[self.at(row / 4, col)..]);
                Integers { quads, row: row_step, step, extents: extents_of(window), above: self.above }
            }
            _ => {
                let above = self.above;
                Integers::new(window, above, |k, m| (i32::from(self.integer(row + k, col + m)) + above) as u8)
            }
        }
    }
}

/// Rows of quads as a load reads them, from so many partitions of so many integers each.
fn load_integers(
    (from, granted): (&Rows, &Granted<'_>),
    place: &Place,
    transposed: bool,
    (parts, free, pitch): (usize, usize, usize),
    flip: u8,
) -> Vec<Quad> {
    if transposed {
        let mut quads = vec![Quad::default(); parts * pitch];
        for (part, row) in (place.part..).zip(quads.chunks_mut(pitch)) {
            let mut bytes = [flip; 256];
            from.copy_out(granted, place, part, 0, &mut bytes[..free]);
            for (quad, bytes) in row[..free.div_ceil(4)].iter_mut().zip(bytes.as_chunks::<4>().0) {
                *quad = Quad(bytes.map(|byte| byte ^ flip));
            }
        }
        return quads;
    }
    let mut quads = vec![Quad::default(); parts.div_ceil(4) * pitch];
    if place.is_dense() {
        let rows = from.all_dense(granted, place, place.part..place.part + parts);
        kernels::pack_quads(&rows, 0..free, flip, (pitch, &mut quads));
        return quads;
    }
    for (four, row) in quads.chunks_mut(pitch).enumerate() {
        let rows = (place.part + four * 4, (parts - four * 4).min(4));
        lane::interleave((from, granted), place, rows, 0, flip, &mut row[..free]);
    }
    quads
}
