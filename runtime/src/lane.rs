//! The on-chip memories: operands in them, which of their bytes are written, and typed access to strided elements.
//!
//! VEC and ACT never move data between partitions, so a partition is the unit of their work. Operands are walked in
//! row-major order of their three free dims; every load names a range of that order and converts runs, so arithmetic
//! happens on plain slices. What is written is known when an instruction issues; tasks then only move bytes.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Arc, Weak};

use kiln_machine::isa::{Dt, Space, View};
use smallvec::SmallVec;

use crate::error::TrapKind;
use crate::kernels::ahead::Span;
use crate::kernels::arena::{FIELDS, Granted, Rect};
use crate::kernels::flow::{Flow, Touch, Work};
use crate::shadow::Shadow;

mod access;
mod lent;

pub(crate) use access::interleave;
pub(crate) use lent::{Borrowed, Rows};

use lent::Lent;

/// Partitions whose written bytes are also known together.
const GROUP: usize = 32;

/// What can go wrong when an instruction touches memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operand leaves the memory: its first and one-past-last byte in a partition, and the partition's size.
    OutOfBounds { space: Space, first: i64, end: i64, size: i64 },
    /// The operand leaves the memory's partitions.
    NoSuchPartition { space: Space, first: usize, end: usize, parts: usize },
    /// An element is not at a multiple of its size.
    Misaligned { space: Space, byte: i64, dt: Dt },
    /// A byte that nothing wrote is read.
    Unwritten { space: Space, part: usize, byte: usize },
    /// The instruction cannot work on this element type.
    ElementType { dt: Dt },
}

/// One dim of a walk: its extent and its stride in bytes.
#[derive(Clone, Copy, Debug)]
struct Dim {
    n: usize,
    stride: isize,
}

/// An on-chip operand whose register is read and whose bounds are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) space: Space,
    /// First partition.
    pub(crate) part: usize,
    /// Which operand of its instruction it is.
    field: u8,
    pub(crate) dt: Dt,
    /// Byte of element (0, 0, 0) in each partition.
    base: usize,
    /// Bytes from the first touched to one past the last, in each partition.
    pub(crate) span: (usize, usize),
    size: usize,
    /// Outermost first; dims that continue one another are merged.
    dims: [Dim; 3],
    /// Every element is known to be written in every partition: nothing is left to check or to mark.
    known: bool,
    /// The elements of a partition are one run of bytes.
    dense: bool,
}

impl Place {
    /// Elements in each partition.
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().map(|dim| dim.n).product()
    }

    /// Whether the elements of one partition are one run of bytes, in order.
    #[inline]
    pub(crate) fn is_dense(&self) -> bool {
        self.dense
    }

    /// Which operand of its instruction it is.
    pub(crate) fn field(&self) -> u8 {
        self.field
    }

    /// The same place as another instruction's last operand, which no instruction has of its own.
    pub(crate) fn as_last_operand(self) -> Self {
        Self { field: FIELDS as u8 - 1, ..self }
    }

    /// Bytes of one element.
    pub(crate) fn element_bytes(&self) -> usize {
        self.size
    }

    /// The byte spans of a run: (first byte, bytes).
    #[inline]
    fn spans(&self, byte: usize, run: usize, stride: isize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (count, len) = match stride {
            stride if stride == self.size as isize => (1, run * self.size),
            0 => (1, self.size),
            _ => (run, self.size),
        };
        (0..count).map(move |i| ((byte as isize + i as isize * stride) as usize, len))
    }

    /// Whether `visit(byte, elements, stride)` holds for all runs; it stops at the first for which it does not.
    #[inline]
    fn each_run(&self, mut visit: impl FnMut(usize, usize, isize) -> bool) -> bool {
        let visit = |byte, run, stride| if visit(byte, run, stride) { Ok(()) } else { Err(()) };
        self.runs(0, self.elements(), visit).is_ok()
    }

    /// Call `visit(byte, elements, stride)` for the runs of elements `start..start + len`.
    #[inline]
    fn each_run_of(&self, start: usize, len: usize, mut visit: impl FnMut(usize, usize, isize)) {
        let done: Result<(), std::convert::Infallible> = self.runs(start, len, |byte, run, stride| {
            visit(byte, run, stride);
            Ok(())
        });
        match done {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// The same with a visitor that may fail.
    #[inline]
    pub(crate) fn runs<E>(
        &self,
        start: usize,
        len: usize,
        mut visit: impl FnMut(usize, usize, isize) -> Result<(), E>,
    ) -> Result<(), E> {
        let [d0, d1, d2] = self.dims;
        if d0.n == 1 && d1.n == 1 {
            let byte = (self.base as isize + start as isize * d2.stride) as usize;
            return if len > 0 { visit(byte, len, d2.stride) } else { Ok(()) };
        }
        let (mut i2, rest) = (start % d2.n, start / d2.n);
        let (mut i1, mut i0) = (rest % d1.n, rest / d1.n);
        let mut left = len;
        while left > 0 {
            let run = left.min(d2.n - i2);
            let offset = i0 as isize * d0.stride + i1 as isize * d1.stride + i2 as isize * d2.stride;
            visit((self.base as isize + offset) as usize, run, d2.stride)?;
            left -= run;
            i2 = 0;
            i1 += 1;
            if i1 == d1.n {
                i1 = 0;
                i0 += 1;
            }
        }
        Ok(())
    }
}

/// Both memories of a core.
pub(crate) struct OnChip {
    flow: Arc<Flow>,
    /// Number of the scratchpad among the flow's arenas; the accumulators are the next one.
    first_arena: usize,
    parts: usize,
    /// What is written in each partition.
    written: Vec<[Shadow; 2]>,
    /// What is written in all partitions of each group.
    groups: Vec<[Shadow; 2]>,
    next_field: Cell<u8>,
    /// What was loaded into the scratchpad but not copied.
    lent: Lent,
    /// What is to be done before something else is written over rectangles of the scratchpad.
    pins: Vec<(Rect, Weak<dyn Pinned>)>,
}

/// Somebody who reads a rectangle of the scratchpad later than the program does.
pub(crate) trait Pinned: Send + Sync {
    /// The rectangle is about to be written over: give the flow what has to be done before.
    fn release(self: Arc<Self>, flow: &Flow);
}

/// An operand of a task: where it is, the partitions of it that are touched, and whether they are written.
pub(crate) type Use<'a> = (&'a Place, Range<usize>, bool);

impl OnChip {
    /// Memories with nothing written: two arenas of the flow, of as many partitions.
    pub(crate) fn new(flow: Arc<Flow>, first_arena: usize) -> Self {
        let parts = flow.arena(first_arena).parts();
        let [spm, acc] = [0, 1].map(|space| flow.arena(first_arena + space).size());
        let shadows = |_| [Shadow::new(spm), Shadow::new(acc)];
        Self {
            flow,
            first_arena,
            parts,
            written: (0..parts).map(shadows).collect(),
            groups: (0..parts.div_ceil(GROUP)).map(shadows).collect(),
            next_field: Cell::new(0),
            lent: Lent::new(spm),
            pins: Vec::new(),
        }
    }

    /// Nothing is written any more; the bytes stay, since none can be read before it is written.
    pub(crate) fn clear(&mut self) {
        self.written.iter_mut().flatten().for_each(Shadow::clear);
        self.groups.iter_mut().flatten().for_each(Shadow::clear);
        self.lent.clear();
        self.pins.clear();
    }

    /// Another instruction begins: its operands are counted from 0.
    pub(crate) fn begin(&self) {
        self.next_field.set(0);
    }

    /// Threads that compute in the memories.
    pub(crate) fn threads(&self) -> usize {
        self.flow.threads()
    }

    /// Who computes in the memories.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Bytes of one partition of a memory.
    fn size_of(&self, space: Space) -> usize {
        self.flow.arena(self.first_arena + space as usize).size()
    }

    /// What a task touches for an operand.
    pub(crate) fn touch(&self, (place, parts, writes): &Use<'_>) -> Touch {
        let memory = self.first_arena + place.space as usize;
        let rect = Rect { parts: (parts.start, parts.end), bytes: place.span };
        Touch { memory, rect, writes: *writes, field: place.field }
    }

    /// Rows stand in the scratchpad from here on, without being copied before somebody else than the matrix engine asks
    /// for them.
    pub(crate) fn borrow(&mut self, rows: Borrowed) {
        self.release(&rows.rect);
        if self.lent.same_as(&rows.rect).is_none() {
            self.own_rect(&rows.rect, true);
        }
        self.lent.add(rows);
    }

    /// The borrowed rows of an operand, if all of them are.
    pub(crate) fn rows(&self, place: &Place, parts: Range<usize>) -> Rows {
        let mut rows = Rows::default();
        let mut left = parts.len();
        let rect = Rect { parts: (parts.start, parts.end), bytes: place.span };
        if place.space != Space::Spm || self.lent.is_empty() {
            return rows;
        }
        let found = self.lent.meeting(&rect);
        let found = found.iter().filter_map(|number| self.lent.rows[*number].as_ref());
        let whole = |rows: &&Borrowed| rows.rect.bytes.0 <= place.span.0 && place.span.1 <= rows.rect.bytes.1;
        let mut found: SmallVec<[&Borrowed; 16]> = found.filter(whole).collect();
        found.sort_unstable_by_key(|borrowed| borrowed.rect.parts);
        for borrowed in found {
            let Rect { parts: (start, end), .. } = borrowed.rect;
            left -= end.min(parts.end) - start.max(parts.start);
            match rows.0.last_mut() {
                Some(last) if last.goes_on_as(borrowed) => last.rect.parts.1 = end,
                _ => rows.0.push(borrowed.clone()),
            }
        }
        if left == 0 { rows } else { Rows::default() }
    }

    /// Copy what is borrowed under an operand in these partitions.
    pub(crate) fn own(&mut self, place: &Place, parts: Range<usize>) {
        if !self.lent.is_empty() {
            self.own_rect(&self.touch(&(place, parts, false)).rect, false);
        }
    }

    /// Copy what is borrowed in a rectangle of the scratchpad, unless all of that is written over.
    fn own_rect(&mut self, rect: &Rect, overwritten: bool) {
        for number in self.lent.meeting(rect) {
            let Some(borrowed) = self.lent.take(number) else { continue };
            if overwritten {
                borrowed.without(rect).for_each(|rows| self.lent.add(rows));
                continue;
            }
            let memory = self.first_arena + Space::Spm as usize;
            let touch = Touch { memory, rect: borrowed.rect, writes: true, field: 0 };
            let copy = move |granted: &mut Granted<'_>| {
                for part in borrowed.rect.parts.0..borrowed.rect.parts.1 {
                    granted.row_mut(0, part).0.copy_from_slice(borrowed.row(part));
                }
                Ok(())
            };
            self.flow.submit(None, SmallVec::from_iter([touch]), Span::NONE, Work::once(copy));
        }
    }

    /// Somebody reads an operand in these partitions until it is released or no more: before something is written over it.
    pub(crate) fn pin(&mut self, place: &Place, parts: Range<usize>, reader: Weak<dyn Pinned>) {
        debug_assert!(place.space == Space::Spm);
        self.pins.retain(|(_, reader)| reader.strong_count() > 0);
        self.pins.push((Rect { parts: (parts.start, parts.end), bytes: place.span }, reader));
    }

    /// A rectangle of the scratchpad is about to be written.
    fn release(&mut self, rect: &Rect) {
        let flow = &self.flow;
        self.pins.retain(|(pinned, reader)| {
            let stays = !pinned.meets(rect);
            if !stays && let Some(reader) = reader.upgrade() {
                reader.release(flow);
            }
            stays
        });
    }

    /// Copy what is borrowed under these operands, unless it is written over, and tell who still reads what is.
    fn own_all(&mut self, uses: &[Use<'_>]) {
        for of in uses.iter().filter(|(place, ..)| place.space == Space::Spm) {
            if of.2 && !self.pins.is_empty() {
                self.release(&self.touch(of).rect);
            }
            if !self.lent.is_empty() {
                self.own_rect(&self.touch(of).rect, of.2 && of.0.is_dense());
            }
        }
    }

    /// Run `work` on these operands now that no task is under way.
    pub(crate) fn now<R>(&mut self, uses: &[Use<'_>], work: impl FnOnce(&mut Granted<'_>) -> R) -> R {
        self.own_all(uses);
        let touches: Vec<Touch> = uses.iter().map(|of| self.touch(of)).collect();
        self.flow.now(&touches, work)
    }

    /// Give a task to the flow; `other` is what it touches beside the operands. For `piece` see [`Flow::submit`].
    pub(crate) fn submit(
        &mut self,
        piece: Option<usize>,
        uses: &[Use<'_>],
        other: &[Touch],
        work: impl FnOnce(&mut Granted<'_>) -> Result<(), TrapKind> + Send + 'static,
    ) {
        self.submit_reading(piece, uses, other, Span::NONE, work);
    }

    /// The same for a task that reads borrowed rows first.
    pub(crate) fn submit_reading(
        &mut self,
        piece: Option<usize>,
        uses: &[Use<'_>],
        other: &[Touch],
        first_read: Span,
        work: impl FnOnce(&mut Granted<'_>) -> Result<(), TrapKind> + Send + 'static,
    ) {
        self.own_all(uses);
        let touches = uses.iter().map(|of| self.touch(of)).chain(other.iter().copied()).collect();
        self.flow.submit(piece, touches, first_read, Work::once(work));
    }

    /// Give the flow a task that does something in each of these partitions, counted as the instruction does, whatever
    /// stands in others. For `piece` see [`Flow::submit`].
    pub(crate) fn submit_rows(
        &mut self,
        piece: usize,
        uses: &[Use<'_>],
        rows: Range<usize>,
        work: impl Fn(&mut Granted<'_>, Range<usize>, usize) + Send + 'static,
    ) {
        self.own_all(uses);
        let touches = uses.iter().map(|of| self.touch(of)).collect();
        self.flow.submit(Some(piece), touches, Span::NONE, Work::Rows(rows, Box::new(work)));
    }

    /// Check that an operand was written in these partitions.
    #[inline]
    pub(crate) fn check(&self, place: &Place, parts: Range<usize>) -> Result<(), Fault> {
        if place.known {
            return Ok(());
        }
        parts.into_iter().try_for_each(|part| self.check_part(place, part))
    }

    fn check_part(&self, place: &Place, part: usize) -> Result<(), Fault> {
        let written = &self.written[part][place.space as usize];
        place.runs(0, place.elements(), |byte, run, stride| {
            match place.spans(byte, run, stride).find_map(|(byte, len)| written.first_unwritten(byte, len)) {
                None => Ok(()),
                Some(byte) => Err(Fault::Unwritten { space: place.space, part, byte }),
            }
        })
    }

    /// Check that one element of an operand was written.
    pub(crate) fn check_element(&self, place: &Place, part: usize, element: usize) -> Result<(), Fault> {
        let written = &self.written[part][place.space as usize];
        place.runs(element, 1, |byte, _, _| match written.first_unwritten(byte, place.size) {
            None => Ok(()),
            Some(byte) => Err(Fault::Unwritten { space: place.space, part, byte }),
        })
    }

    /// An operand is written from here on in these partitions.
    #[inline]
    pub(crate) fn mark(&mut self, place: &Place, parts: Range<usize>) {
        if place.known {
            return;
        }
        for part in parts {
            let written = &mut self.written[part][place.space as usize];
            place.each_run_of(0, place.elements(), |byte, run, stride| {
                place.spans(byte, run, stride).for_each(|(byte, len)| written.mark(byte, len));
            });
        }
    }

    /// Resolve a view over `parts` partitions and free extents `n`, with its register's value added.
    pub(crate) fn place(
        &mut self,
        view: &View,
        reg_value: i64,
        parts: usize,
        n: [u32; 3],
    ) -> Result<Place, Fault> {
        let Some(size) = view.dt.bytes() else { return Err(Fault::ElementType { dt: view.dt }) };
        let (first, end) = view.byte_range(n, reg_value);
        let limit = self.size_of(view.space) as i64;
        if first < 0 || end > limit {
            return Err(Fault::OutOfBounds { space: view.space, first, end, size: limit });
        }
        let base = i64::from(view.off) + reg_value;
        if base % i64::from(size) != 0 {
            return Err(Fault::Misaligned { space: view.space, byte: base, dt: view.dt });
        }
        let part = usize::from(view.part);
        if part + parts > self.parts {
            return Err(Fault::NoSuchPartition {
                space: view.space,
                first: part,
                end: part + parts,
                parts: self.parts,
            });
        }
        let size = size as usize;
        let dims = merged(n, view.strides, size);
        let [d0, d1, d2] = dims;
        let mut place = Place {
            space: view.space,
            part,
            field: self.next_field.get(),
            dt: view.dt,
            base: base as usize,
            span: (first as usize, end as usize),
            size,
            dims,
            known: false,
            dense: d0.n == 1 && d1.n == 1 && (d2.n == 1 || d2.stride == size as isize),
        };
        self.next_field.set((place.field + 1) % FIELDS as u8);
        place.known =
            (part / GROUP..(part + parts).div_ceil(GROUP)).all(|group| self.is_known(group, &place));
        Ok(place)
    }

    /// Whether every partition of a group has all elements written. What is found out is noted.
    fn is_known(&mut self, group: usize, place: &Place) -> bool {
        let known = &self.groups[group][place.space as usize];
        let noted = place.each_run(|byte, run, stride| {
            place.spans(byte, run, stride).all(|(byte, len)| known.first_unwritten(byte, len).is_none())
        });
        if noted {
            return true;
        }
        let written = (group * GROUP..((group + 1) * GROUP).min(self.parts))
            .all(|part| self.check_part(place, part).is_ok());
        if written {
            let known = &mut self.groups[group][place.space as usize];
            place.each_run_of(0, place.elements(), |byte, run, stride| {
                place.spans(byte, run, stride).for_each(|(byte, len)| known.mark(byte, len));
            });
        }
        written
    }
}

/// The dims with extent-1 ones dropped and neighbours that continue one another joined.
fn merged(n: [u32; 3], strides: [i32; 3], size: usize) -> [Dim; 3] {
    let mut dims = [Dim { n: 1, stride: 0 }; 3];
    let mut used = 0;
    for (n, stride) in n.into_iter().zip(strides).filter(|(n, _)| *n > 1) {
        let dim = Dim { n: n as usize, stride: stride as isize * size as isize };
        match used {
            1.. if dims[used - 1].stride == dim.n as isize * dim.stride => {
                dims[used - 1] = Dim { n: dims[used - 1].n * dim.n, stride: dim.stride };
            }
            _ => {
                dims[used] = dim;
                used += 1;
            }
        }
    }
    dims.rotate_right(3 - used);
    dims
}

impl Place {
    /// Its elements `start..start + len`, if they lie in one dim; then nothing else of it is touched.
    pub(crate) fn part_of(&self, start: usize, len: usize) -> Option<Self> {
        let [d0, d1, d2] = self.dims;
        if d0.n > 1 || d1.n > 1 || start + len > d2.n || len == 0 || d2.stride < self.size as isize {
            return None;
        }
        let base = self.base + start * d2.stride as usize;
        let span = (base, base + (len - 1) * d2.stride as usize + self.size);
        Some(Self { base, span, dims: [d0, d1, Dim { n: len, ..d2 }], ..*self })
    }
}
