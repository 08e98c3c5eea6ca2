//! One load of the stationary grid, in the order in which it came.

use kiln_machine::isa::Dt;

use super::{Cell, Window};
use crate::kernels::{Pair, Stationary};
use crate::lane::{Fault, OnChip, Place};

/// Terms between the rows of a panel, so that rows do not share their places in the host's caches.
const GAP: usize = 16;
/// Partitions that one item of a spread load reads.
const LANES: usize = 16;

/// The numbers of a panel.
pub(super) enum Terms {
    Floats(Vec<f32>),
    /// Of 8 bits each.
    Integers(Vec<i16>),
}

/// A window of the grid as one load left it: a row for each partition that it came from.
pub(super) struct Panel {
    pub(super) window: Window,
    /// Partitions are columns of the grid, not rows.
    transposed: bool,
    pitch: usize,
    pub(super) terms: Terms,
    /// The window in pairs less a zero point, as the last product wanted it.
    pairs: Option<(Window, u8, Vec<Pair>)>,
}

impl Default for Panel {
    fn default() -> Self {
        let window = Window { row: 0, rows: 0, col: 0, cols: 0 };
        Self { window, transposed: false, pitch: 0, terms: Terms::Floats(Vec::new()), pairs: None }
    }
}

impl Panel {
    /// Become what a load reads from a place; its type is one that the array takes.
    pub(super) fn load(
        &mut self,
        chip: &OnChip,
        window: Window,
        place: &Place,
        transposed: bool,
    ) -> Result<(), Fault> {
        let (parts, free) = if transposed { (window.cols, window.rows) } else { (window.rows, window.cols) };
        self.pitch = free + GAP;
        (self.window, self.transposed, self.pairs) = (window, transposed, None);
        let (pitch, lanes) = (self.pitch, &chip.lanes[place.part..place.part + parts]);
        if place.dt.is_integer() {
            let mut terms = match std::mem::replace(&mut self.terms, Terms::Floats(Vec::new())) {
                Terms::Integers(terms) => terms,
                Terms::Floats(_) => Vec::new(),
            };
            terms.resize(parts * pitch, 0);
            let loaded = chip.team.try_each_chunk(&mut terms, LANES * pitch, |first, rows| {
                let mut numbers = [0i32; 256];
                for (lane, row) in lanes[first / pitch..].iter().zip(rows.chunks_mut(pitch)) {
                    lane.load(place, 0, &mut numbers[..free])?;
                    row.iter_mut().zip(&numbers[..free]).for_each(|(term, number)| *term = *number as i16);
                }
                Ok(())
            });
            self.terms = Terms::Integers(terms);
            return loaded;
        }
        let mut terms = match std::mem::replace(&mut self.terms, Terms::Floats(Vec::new())) {
            Terms::Floats(terms) => terms,
            Terms::Integers(_) => Vec::new(),
        };
        terms.resize(parts * pitch, 0.0);
        let plain = place.is_dense() && place.dt == Dt::F32;
        let loaded = chip.team.try_each_chunk(&mut terms, LANES * pitch, |first, rows| {
            for (lane, row) in lanes[first / pitch..].iter().zip(rows.chunks_mut(pitch)) {
                if plain {
                    let bytes = lane.checked_bytes(place, 0, free * 4)?;
                    for (term, bytes) in row.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        *term = f32::from_le_bytes(*bytes);
                    }
                } else {
                    lane.load(place, 0, &mut row[..free])?;
                }
            }
            Ok(())
        });
        self.terms = Terms::Floats(terms);
        loaded
    }

    pub(super) fn kind(&self) -> Cell {
        match self.terms {
            Terms::Floats(_) => Cell::Float,
            Terms::Integers(_) => Cell::Integer,
        }
    }

    /// Where the term of row `k` and column `m` of the panel is.
    pub(super) fn at(&self, k: usize, m: usize) -> usize {
        if self.transposed { m * self.pitch + k } else { k * self.pitch + m }
    }

    /// A window of the grid that lies in the panel; nothing if it holds integers.
    pub(super) fn floats(&self, window: &Window) -> Stationary<'_, f32> {
        let first = self.at(window.row - self.window.row, window.col - self.window.col);
        let terms = match &self.terms {
            Terms::Floats(terms) => &terms[first..],
            Terms::Integers(_) => &[],
        };
        let (row, step) = if self.transposed { (self.pitch, 1) } else { (1, self.pitch) };
        Stationary { terms, row, step }
    }

    /// A window of the grid that lies in the panel, less a zero point; zeros if it holds floats.
    pub(super) fn pairs(&mut self, window: &Window, zero: u8) -> Stationary<'_, Pair> {
        let kept = self.pairs.take().filter(|(of, less, _)| of == window && *less == zero);
        let (row, col) = (window.row - self.window.row, window.col - self.window.col);
        let terms = kept.map_or_else(
            || {
                pairs(window, zero, |k, m| match &self.terms {
                    Terms::Integers(terms) => terms[self.at(row + k, col + m)],
                    Terms::Floats(_) => 0,
                })
            },
            |(_, _, terms)| terms,
        );
        let (_, _, terms) = self.pairs.insert((*window, zero, terms));
        Stationary { terms, row: 1, step: window.cols }
    }
}

/// The cells of a window less a zero point in pairs of rows, `[pair of rows][column]`.
pub(super) fn pairs(window: &Window, zero: u8, cell: impl Fn(usize, usize) -> i16) -> Vec<Pair> {
    let zero = i16::from(zero);
    let mut terms = Vec::with_capacity(window.rows.div_ceil(2) * window.cols);
    for k in (0..window.rows).step_by(2) {
        for m in 0..window.cols {
            // A last row alone is paired with a zero.
            let second = if k + 1 < window.rows { cell(k + 1, m) - zero } else { 0 };
            terms.push(Pair([cell(k, m) - zero, second]));
        }
    }
    terms
}
