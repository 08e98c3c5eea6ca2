//! The frame of VEC and ACT: partitions in parallel, elements in chunks that stay in the first-level cache.
//!
//! An operation works on slices: of the memory itself where an operand's elements are one run of numbers as the machine
//! computes with, else of a chunk that is loaded from there or stored to there. Since a result depends on its own
//! partition's elements only, neither the chunk size nor the number of threads shows.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::convert::{self, Number};
use crate::error::TrapKind;
use crate::kernels;
use crate::kernels::arena::{Granted, Lines};
use crate::lane::{OnChip, Place, Use};

/// Elements of one chunk.
pub(crate) const CHUNK: usize = 1024;

/// Elements from which an operation is worth spreading over threads.
const PARALLEL_ELEMENTS: usize = 1 << 14;

/// Partitions whose operands are asked for ahead of working on them.
const AHEAD: usize = 2;

/// Chunks of operands, for one thread.
pub(crate) struct Scratch<N> {
    pub(crate) out: [N; CHUNK],
    pub(crate) x: [N; CHUNK],
    pub(crate) y: [N; CHUNK],
    pub(crate) mask: [f32; CHUNK],
    pub(crate) wide: [i64; CHUNK],
}

impl<N: Number> Scratch<N> {
    const fn new(zero: N) -> Self {
        Self { out: [zero; CHUNK], x: [zero; CHUNK], y: [zero; CHUNK], mask: [0.0; CHUNK], wide: [0; CHUNK] }
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
    /// The first operand, if it is only written and shares no bytes with the others, and its first partition here.
    out: Option<(&'a Place, Lines<'a>, usize)>,
    /// Which partition of the instruction this is.
    pub(crate) index: usize,
}

/// The operands of an instruction that are read, in one of its partitions.
pub(crate) struct Sources<'a, 'g> {
    granted: &'a Granted<'g>,
    index: usize,
}

impl Sources<'_, '_> {
    /// Elements of an operand's partition, where they lie or in the buffer.
    pub(crate) fn numbers<'a, N: Number>(
        &'a self,
        place: &Place,
        start: usize,
        buffer: &'a mut [N],
    ) -> &'a [N] {
        self.granted.numbers(place, place.part + self.index, start, buffer)
    }
}

impl Reach<'_, '_> {
    /// Load elements of an operand's partition.
    pub(crate) fn load<N: Number>(&self, place: &Place, start: usize, out: &mut [N]) {
        self.granted.load(place, place.part + self.index, start, out);
    }

    /// What is read, in this partition.
    pub(crate) fn sources(&self) -> Sources<'_, '_> {
        Sources { granted: self.granted, index: self.index }
    }

    /// Store elements of an operand's partition.
    pub(crate) fn store<N: Number>(&mut self, place: &Place, start: usize, values: &[N]) {
        match &mut self.out {
            Some((out, lines, first)) if out.field() == place.field() => {
                let size = place.element_bytes();
                let bytes = lines.line(self.index - *first, start * size..(start + values.len()) * size);
                convert::store_run(bytes, 0, size as isize, place.dt, values);
            }
            _ => self.granted.store(place, place.part + self.index, start, values),
        }
    }

    /// Elements of the first operand as `work` writes them, from elements of others in chunks: in place, or in the
    /// buffers if they do not lie so.
    pub(crate) fn compute<N: Number, const SOURCES: usize>(
        &mut self,
        to: (&Place, &mut [N; CHUNK]),
        mut sources: [(&Place, &mut [N; CHUNK]); SOURCES],
        work: impl Fn([&[N]; SOURCES], &mut [N]),
    ) {
        self.compute_each(to, |from, start, out| {
            let of = sources
                .each_mut()
                .map(|(place, buffer)| from.numbers(place, start, &mut buffer[..out.len()]));
            work(of, out);
        });
    }

    /// The same with a `work` that gets its operands itself, from the number of the chunk's first element on.
    pub(crate) fn compute_each<N: Number>(
        &mut self,
        (to, buffer): (&Place, &mut [N; CHUNK]),
        mut work: impl FnMut(&Sources<'_, '_>, usize, &mut [N]),
    ) {
        each_chunk(to.elements(), |start, len| {
            let Self { granted, out, index } = self;
            let sources = Sources { granted, index: *index };
            match numbers_of(out, *index, to, start..start + len) {
                Some(out) => work(&sources, start, out),
                None => {
                    work(&sources, start, &mut buffer[..len]);
                    self.store(to, start, &buffer[..len]);
                }
            }
        });
    }

    /// All elements of an operand in some partitions, if they lie as the machine computes with them.
    pub(crate) fn rows<N: Number>(&self, place: &Place, parts: Range<usize>) -> Option<Rows<'_, N>> {
        if !place.is_dense() || !N::is_stored_as(place.dt) {
            return None;
        }
        let len = place.span.1 - place.span.0;
        let row = |index: usize| match &self.out {
            Some((out, lines, first)) if out.field() == place.field() => lines.row(index - *first),
            _ => {
                let (bytes, first) = self.granted.row(place.field(), place.part + index);
                &bytes[place.span.0 - first..][..len]
            }
        };
        let mut rows = Rows::new();
        for index in parts {
            rows.push(kernels::as_numbers(row(index))?);
        }
        Some(rows)
    }
}

/// Elements of an operand in some partitions.
type Rows<'a, N> = SmallVec<[&'a [N]; 8]>;

/// Elements of the first operand in a partition, if they lie as the machine computes with them.
fn numbers_of<'a, N: Number>(
    out: &'a mut Option<(&Place, Lines<'_>, usize)>,
    index: usize,
    to: &Place,
    elements: Range<usize>,
) -> Option<&'a mut [N]> {
    let (place, lines, first) = out.as_mut()?;
    let size = to.element_bytes();
    if place.field() != to.field() || !N::is_stored_as(to.dt) {
        return None;
    }
    kernels::as_numbers_mut(lines.line(index - *first, elements.start * size..elements.end * size))
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
    each_block(chip, parts, places, 1, move |reach, _, scratch| work(reach, scratch))
}

/// Run `work` for blocks of so many of `parts` partitions, the last of them smaller.
pub(crate) fn each_block<N: Scratched>(
    chip: &mut OnChip,
    parts: usize,
    places: &[(&Place, Role)],
    size: usize,
    work: impl Fn(&mut Reach<'_, '_>, Range<usize>, &mut Scratch<N>) + Send + Sync + 'static,
) -> Result<(), TrapKind> {
    prepare(chip, parts, places)?;
    let elements = places.iter().map(|(place, _)| place.elements()).max().unwrap_or(0);
    let (work, all) = (Arc::new(work), places.iter().map(|(place, _)| **place).collect::<Arc<[Place]>>());
    let writes_first = places.first().is_some_and(|(place, role)| *role == Role::Write && place.is_dense());
    for (piece, range) in cut(chip, parts, elements).enumerate() {
        let of = |place: &Place| place.part + range.start..place.part + range.end;
        let uses: SmallVec<[Use<'_>; 4]> =
            places.iter().map(|(place, role)| (*place, of(place), *role != Role::Read)).collect();
        let (work, all) = (Arc::clone(&work), Arc::clone(&all));
        chip.submit_rows(piece, &uses, range, move |granted, range, end| {
            let to = all.first().filter(|to| writes_first && granted.is_apart(to.field()));
            N::with_scratch(|scratch| {
                let Some(to) = to else {
                    let reach = Reach { granted, out: None, index: range.start };
                    return run_blocks(reach, (&range, end), size, &all, |reach, block| {
                        work(reach, block, scratch);
                    });
                };
                let (parts, bytes) =
                    ((to.part + range.start, range.len()), (to.span.0, to.span.1 - to.span.0));
                let (lines, mut others) = granted.lines(to.field(), parts, bytes);
                let out = Some((to, lines, range.start));
                let reach = Reach { granted: &mut others, out, index: range.start };
                run_blocks(reach, (&range, end), size, &all[1..], |reach, block| {
                    work(reach, block, scratch);
                });
            });
        });
    }
    Ok(())
}

/// Run `work` for all blocks of a task, and ask the host for what the next ones need.
fn run_blocks(
    mut reach: Reach<'_, '_>,
    (parts, end): (&Range<usize>, usize),
    size: usize,
    places: &[Place],
    mut work: impl FnMut(&mut Reach<'_, '_>, Range<usize>),
) {
    for start in parts.clone().step_by(size) {
        let block = start..(start + size).min(parts.end);
        for index in block.clone().map(|index| index + size.max(AHEAD)).filter(|index| *index < end) {
            places.iter().for_each(|place| reach.granted.ask_for(place, place.part + index));
        }
        reach.index = start;
        work(&mut reach, block);
    }
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

    /// How many elements, one after another, each kept element is folded from, if all of them are.
    pub(crate) fn run(&self) -> Option<usize> {
        let folded = |d: usize| self.reduced[d] || self.n[d] == 1;
        let last = (0..3).rev().take_while(|d| folded(*d)).count();
        let outer = (0..3 - last).all(|d| !self.reduced[d] || self.n[d] == 1);
        outer.then(|| self.n[3 - last..].iter().product()).filter(|run| *run > 0)
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
