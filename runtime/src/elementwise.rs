//! The frame of VEC and ACT: partitions in parallel, elements in chunks that stay in the first-level cache.
//!
//! An operation loads each operand's chunk as numbers, works on slices, and stores the chunk. Since a result
//! depends on its own partition's elements only, neither the chunk size nor the number of threads shows.

use crate::convert::Number;
use crate::lane::{Fault, Lane, OnChip, Place};

/// Elements of one chunk.
pub(crate) const CHUNK: usize = 1024;

/// Elements from which an operation is worth spreading over threads.
const PARALLEL_ELEMENTS: usize = 1 << 12;

/// Partitions that one item of a spread operation works on.
const LANES: usize = 16;

/// Chunks of operands, for one thread.
pub(crate) struct Scratch<N> {
    pub(crate) x: [N; CHUNK],
    pub(crate) y: [N; CHUNK],
    pub(crate) mask: [f32; CHUNK],
    pub(crate) wide: [i64; CHUNK],
}

impl<N: Number> Default for Scratch<N> {
    fn default() -> Self {
        Self { x: [N::default(); CHUNK], y: [N::default(); CHUNK], mask: [0.0; CHUNK], wide: [0; CHUNK] }
    }
}

/// The lanes that one partition of an instruction may touch.
pub(crate) struct Reach<'a> {
    lanes: &'a mut [Lane],
    first: usize,
    /// Which partition of the instruction this is.
    pub(crate) index: usize,
}

impl Reach<'_> {
    /// Load elements of an operand's partition.
    pub(crate) fn load<N: Number>(&self, place: &Place, start: usize, out: &mut [N]) -> Result<(), Fault> {
        self.lanes[place.part + self.index - self.first].load(place, start, out)
    }

    /// Store elements of an operand's partition.
    pub(crate) fn store<N: Number>(&mut self, place: &Place, start: usize, values: &[N]) {
        self.lanes[place.part + self.index - self.first].store(place, start, values);
    }
}

/// Run `work` for each of `parts` partitions; `places` are the operands that it touches.
///
/// The error of the lowest partition is the one given.
pub(crate) fn each_part<N: Number, E: Send>(
    chip: &mut OnChip,
    parts: usize,
    places: &[&Place],
    work: impl Fn(&mut Reach<'_>, &mut Scratch<N>) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let Some(part) = places.first().map(|place| place.part) else { return Ok(()) };
    let elements = places.iter().map(|place| place.elements()).max().unwrap_or(0);
    if places.iter().all(|place| place.part == part) && elements * parts >= PARALLEL_ELEMENTS {
        let lanes = &mut chip.lanes[part..part + parts];
        return chip.team.try_each_chunk(lanes, LANES, |first, lanes| {
            let mut scratch = Scratch::default();
            (first..first + lanes.len())
                .try_for_each(|index| work(&mut Reach { lanes, first: part + first, index }, &mut scratch))
        });
    }
    let mut scratch = Scratch::default();
    (0..parts)
        .try_for_each(|index| work(&mut Reach { lanes: &mut chip.lanes, first: 0, index }, &mut scratch))
}

/// Run `work(start, length)` for the chunks of `elements` elements.
pub(crate) fn each_chunk<E>(
    elements: usize,
    mut work: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    (0..elements).step_by(CHUNK).try_for_each(|start| work(start, CHUNK.min(elements - start)))
}

/// Row-major extents of three dims, some of them reduced: which kept element an element belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    n: [usize; 3],
    reduced: [bool; 3],
}

impl Kept {
    pub(crate) fn new(n: [u32; 3], reduced: [bool; 3]) -> Self {
        Self { n: n.map(|n| n as usize), reduced }
    }

    /// Number of kept elements.
    pub(crate) fn count(&self) -> usize {
        (0..3).map(|d| if self.reduced[d] { 1 } else { self.n[d] }).product()
    }

    /// For the elements `start..start + len`, call `visit(kept index, range in the chunk, moves)` by rows of the
    /// last dim: each of them folds into one kept element, or, if `moves`, into neighbours from that one on.
    /// Every kept element meets its elements in ascending order.
    pub(crate) fn rows(
        &self,
        start: usize,
        len: usize,
        mut visit: impl FnMut(usize, std::ops::Range<usize>, bool),
    ) {
        let [n0, n1, n2] = self.n;
        debug_assert!(start + len <= n0 * n1 * n2);
        let moves = !self.reduced[2];
        let stride2 = usize::from(moves);
        let inner = if moves { n2 } else { 1 };
        let stride1 = if self.reduced[1] { 0 } else { inner };
        let stride0 = if self.reduced[0] { 0 } else { inner * if self.reduced[1] { 1 } else { n1 } };
        let mut done = 0;
        while done < len {
            let at = start + done;
            let (i2, i1, i0) = (at % n2, at / n2 % n1, at / n2 / n1);
            let run = (n2 - i2).min(len - done);
            visit(i0 * stride0 + i1 * stride1 + i2 * stride2, done..done + run, moves);
            done += run;
        }
    }
}
