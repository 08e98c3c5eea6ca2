//! The frame of VEC and ACT: partitions in parallel, elements in chunks that stay in the first-level cache.
//!
//! An operation loads each operand's chunk as numbers, works on slices, and stores the chunk. Since a result
//! depends on its own partition's elements only, neither the chunk size nor the number of threads shows.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use crate::convert::Number;
use crate::error::TrapKind;
use crate::kernels::arena::Granted;
use crate::lane::{OnChip, Place, Use};

/// Elements of one chunk.
pub(crate) const CHUNK: usize = 1024;

/// Elements from which an operation is worth spreading over threads.
const PARALLEL_ELEMENTS: usize = 1 << 14;

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
pub(crate) trait Scratched: Number + 'static {
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

/// The operands of an instruction in one of its partitions.
pub(crate) struct Reach<'a, 'g> {
    granted: &'a mut Granted<'g>,
    /// Which partition of the instruction this is.
    pub(crate) index: usize,
}

impl Reach<'_, '_> {
    /// Load elements of an operand's partition.
    pub(crate) fn load<N: Number>(&self, place: &Place, start: usize, out: &mut [N]) {
        self.granted.load(place, place.part + self.index, start, out);
    }

    /// Store elements of an operand's partition.
    pub(crate) fn store<N: Number>(&mut self, place: &Place, start: usize, values: &[N]) {
        self.granted.store(place, place.part + self.index, start, values);
    }
}

/// What an instruction does with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Read,
    Write,
    /// Both; what it reads is what it writes.
    Update,
}

/// The partitions of an instruction, in as many parts as are worth a task of their own.
pub(crate) fn cut(
    chip: &OnChip,
    parts: usize,
    elements: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let tasks = if elements * parts >= PARALLEL_ELEMENTS { chip.threads().min(parts) } else { 1 };
    let each = parts.div_ceil(tasks.max(1)).max(1);
    (0..parts).step_by(each).map(move |first| first..(first + each).min(parts))
}

/// Check what is read of these operands, and mark what is written.
pub(crate) fn prepare(chip: &mut OnChip, parts: usize, places: &[(&Place, Role)]) -> Result<(), TrapKind> {
    for (place, role) in places {
        if *role != Role::Write {
            chip.check(place, place.part..place.part + parts)?;
        }
    }
    for (place, role) in places {
        if *role != Role::Read {
            chip.mark(place, place.part..place.part + parts);
        }
    }
    Ok(())
}

/// Run `work` for each of `parts` partitions; `places` are the operands that it touches.
pub(crate) fn each_part<N: Scratched>(
    chip: &mut OnChip,
    parts: usize,
    places: &[(&Place, Role)],
    work: impl Fn(&mut Reach<'_, '_>, &mut Scratch<N>) + Send + Sync + 'static,
) -> Result<(), TrapKind> {
    prepare(chip, parts, places)?;
    let elements = places.iter().map(|(place, _)| place.elements()).max().unwrap_or(0);
    let (work, all) = (Arc::new(work), places.iter().map(|(place, _)| **place).collect::<Arc<[Place]>>());
    for (piece, range) in cut(chip, parts, elements).enumerate() {
        let of = |place: &Place| place.part + range.start..place.part + range.end;
        let uses: Vec<Use<'_>> =
            places.iter().map(|(place, role)| (*place, of(place), *role != Role::Read)).collect();
        let (work, all) = (Arc::clone(&work), Arc::clone(&all));
        chip.submit(Some(piece), &uses, &[], move |granted| {
            N::with_scratch(|scratch| {
                for index in range.clone() {
                    if index + AHEAD < range.end {
                        all.iter().for_each(|place| granted.ask_for(place, place.part + index + AHEAD));
                    }
                    work(&mut Reach { granted, index }, scratch);
                }
            });
            Ok(())
        });
    }
    Ok(())
}

/// Run `work(start, length)` for the chunks of `elements` elements.
pub(crate) fn each_chunk(elements: usize, mut work: impl FnMut(usize, usize)) {
    (0..elements).step_by(CHUNK).for_each(|start| work(start, CHUNK.min(elements - start)));
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
