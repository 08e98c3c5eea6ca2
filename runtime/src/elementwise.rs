//! The frame of VEC and ACT: partitions in parallel, elements in chunks that stay in the first-level cache.
//!
//! An operation loads each operand's chunk as numbers, works on slices, and stores the chunk. Since a result
//! depends on its own partition's elements only, neither the chunk size nor the number of threads shows.

use std::cell::RefCell;

use crate::convert::Number;
use crate::lane::{Fault, Lane, OnChip, Place};

/// Elements of one chunk.
pub(crate) const CHUNK: usize = 1024;

/// Elements from which an operation is worth spreading over threads.
const PARALLEL_ELEMENTS: usize = 1 << 12;

/// Partitions that one item of a spread operation works on.
const LANES: usize = 16;
/// Partitions whose operands are asked for ahead of working on them.
const AHEAD: usize = 2;

/// Chunks of operands, for one thread.
pub(crate) struct Scratch<N> {
    pub(crate) x: [N; CHUNK],
    pub(crate) y: [N; CHUNK],
    pub(crate) mask: [f32; CHUNK],
    pub(crate) wide: [i64; CHUNK],
}

impl<N: Number> Scratch<N> {
    const fn new(zero: N) -> Self {
        Self { x: [zero; CHUNK], y: [zero; CHUNK], mask: [0.0; CHUNK], wide: [0; CHUNK] }
    }
}

/// A number type that each thread has chunks of.
pub(crate) trait Scratched: Number {
    /// Call `work` with this thread's chunks; what is in them may be anything.
    fn with_scratch<R>(work: impl FnOnce(&mut Scratch<Self>) -> R) -> R;
}

thread_local! {
    static FLOATS: RefCell<Scratch<f32>> = const { RefCell::new(Scratch::new(0.0)) };
    static INTEGERS: RefCell<Scratch<i32>> = const { RefCell::new(Scratch::new(0)) };
}

impl Scratched for f32 {
    fn with_scratch<R>(work: impl FnOnce(&mut Scratch<Self>) -> R) -> R {
        FLOATS.with_borrow_mut(work)
    }
}

impl Scratched for i32 {
    fn with_scratch<R>(work: impl FnOnce(&mut Scratch<Self>) -> R) -> R {
        INTEGERS.with_borrow_mut(work)
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
pub(crate) fn each_part<N: Scratched, E: Send>(
    chip: &mut OnChip,
    parts: usize,
    places: &[&Place],
    work: impl Fn(&mut Reach<'_>, &mut Scratch<N>) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let Some(part) = places.first().map(|place| place.part) else { return Ok(()) };
    let elements = places.iter().map(|place| place.elements()).max().unwrap_or(0);
    if places.iter().all(|place| place.part == part) && elements * parts >= PARALLEL_ELEMENTS {
        let lanes = &mut chip.lanes[part..part + parts];
        let ask = |lane: &Lane| places.iter().for_each(|place| lane.ask_for(place));
        return chip.team.try_each_chunk(lanes, LANES, |first, lanes| {
            N::with_scratch(|scratch| {
                lanes.iter().take(AHEAD).for_each(ask);
                (0..lanes.len()).try_for_each(|i| {
                    lanes.get(i + AHEAD).into_iter().for_each(ask);
                    work(&mut Reach { lanes, first: part + first, index: first + i }, scratch)
                })
            })
        });
    }
    let lanes = &mut chip.lanes;
    N::with_scratch(|scratch| {
        (0..parts).try_for_each(|index| work(&mut Reach { lanes, first: 0, index }, scratch))
    })
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
