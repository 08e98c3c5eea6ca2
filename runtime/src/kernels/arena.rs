//! The bytes of the on-chip memories, given out by rectangle.
//!
//! A task of the [flow](super::flow) gets the rectangles that it has named and nothing else, and the flow lets no two
//! tasks run at once of which one writes what the other touches. So many threads work in one memory without a lock.

use std::marker::PhantomData;
use std::ops::Range;

use memmap2::MmapMut;

use super::ahead::Span;

/// A page of the host; partitions start in different sets of its caches beyond that.
const PAGE: usize = 4096;
/// A large page of the host.
const LARGE_PAGE: usize = 1 << 21;
/// Bytes that a partition starts further into its page than the one before it, since the same bytes of all partitions
/// are mostly read together.
const STAGGER: usize = 5 * 64;

/// One memory: as many bytes in each of its partitions.
pub(crate) struct Arena {
    /// Pages of the system, large ones where it has them: an instruction touches all partitions.
    map: Option<MmapMut>,
    start: *mut u8,
    bytes: usize,
    pitch: usize,
    parts: usize,
    size: usize,
}

// SAFETY: its bytes are reached by `Granted` alone, whose makers keep accesses apart.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// A rectangle of a memory: partitions, and bytes in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rect {
    /// First partition and one past the last.
    pub(crate) parts: (usize, usize),
    /// First byte and one past the last.
    pub(crate) bytes: (usize, usize),
}

impl Rect {
    /// Whether they share a byte.
    #[inline]
    pub(crate) fn meets(&self, other: &Rect) -> bool {
        self.bytes.0 < other.bytes.1
            && other.bytes.0 < self.bytes.1
            && self.parts.0 < other.parts.1
            && other.parts.0 < self.parts.1
    }
}

impl Arena {
    /// A memory of zeros.
    pub(crate) fn new(parts: usize, size: usize) -> Self {
        let pitch = size.next_multiple_of(PAGE) + STAGGER;
        let bytes = (pitch * parts).next_multiple_of(LARGE_PAGE).max(LARGE_PAGE);
        let (map, start) = match MmapMut::map_anon(bytes + LARGE_PAGE) {
            Ok(mut map) => {
                // Only speed depends on it.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                let start = map.as_mut_ptr();
                (Some(map), start.wrapping_add(start.align_offset(LARGE_PAGE)))
            }
            Err(_) => (None, Box::leak(vec![0u8; bytes].into_boxed_slice()).as_mut_ptr()),
        };
        Self { map, start, bytes, pitch, parts, size }
    }

    /// Bytes of a partition.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Partitions.
    pub(crate) fn parts(&self) -> usize {
        self.parts
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.map.is_none() {
            let bytes = std::ptr::slice_from_raw_parts_mut(self.start, self.bytes);
            // SAFETY: without a map the bytes are those of a box of this length, leaked by `new`.
            drop(unsafe { Box::from_raw(bytes) });
        }
    }
}

/// Operands of one instruction at most.
pub(crate) const FIELDS: usize = 8;

/// A rectangle that was given out.
#[derive(Clone, Copy)]
struct Field {
    /// Byte 0 of partition 0 of its memory.
    start: *mut u8,
    pitch: usize,
    rect: Rect,
    writes: bool,
}

/// The rectangles that a task has named, by the number of the operand.
pub(crate) struct Granted<'a> {
    fields: [Option<Field>; FIELDS],
    /// What the next task of the thread reads first.
    next: Span,
    arenas: PhantomData<&'a Arena>,
}

impl<'a> Granted<'a> {
    /// No rectangle.
    pub(super) fn none(next: Span) -> Self {
        Self { fields: [None; FIELDS], next, arenas: PhantomData }
    }

    /// What the next task of the thread reads first, as far as is known: the host may be asked for it.
    pub(crate) fn next(&self) -> Span {
        self.next
    }

    /// Give out a rectangle as operand `field`.
    ///
    /// # Safety
    /// For as long as this lives nobody else reads what is given out to write, and nobody else writes what is given out.
    ///
    /// # Panics
    /// If the rectangle leaves the memory.
    pub(super) unsafe fn add(&mut self, field: u8, arena: &'a Arena, rect: Rect, writes: bool) {
        assert!(rect.parts.1 <= arena.parts && rect.bytes.1 <= arena.size);
        let (start, pitch) = (arena.start, arena.pitch);
        self.fields[usize::from(field)] = Some(Field { start, pitch, rect, writes });
    }

    fn field(&self, field: u8) -> &Field {
        match &self.fields[usize::from(field)] {
            Some(field) => field,
            None => panic!("the task has not named operand {field}"),
        }
    }

    /// The bytes of an operand in a partition, and the number of the first of them.
    #[inline]
    pub(crate) fn row(&self, field: u8, part: usize) -> (&[u8], usize) {
        let Field { start, pitch, rect, .. } = *self.field(field);
        assert!(rect.parts.0 <= part && part < rect.parts.1 && rect.bytes.0 <= rect.bytes.1);
        // SAFETY: the rectangle lies in the memory, whose partition `part` starts there; whoever writes these bytes
        // has this borrowed mutably.
        let bytes = unsafe {
            let first = start.add(part * pitch + rect.bytes.0);
            std::slice::from_raw_parts(first, rect.bytes.1 - rect.bytes.0)
        };
        (bytes, rect.bytes.0)
    }

    /// Lines of bytes `first..first + len` of an operand in `rows` partitions from `part` on.
    ///
    /// # Panics
    /// If the operand does not hold them.
    pub(crate) fn read_lines(
        &self,
        field: u8,
        (part, rows): (usize, usize),
        (first, len): (usize, usize),
    ) -> ReadLines<'_> {
        let Field { start, pitch, rect, .. } = *self.field(field);
        assert!(rect.parts.0 <= part && part + rows <= rect.parts.1);
        assert!(rect.bytes.0 <= first && first + len <= rect.bytes.1);
        // SAFETY: the partition and the bytes lie in the memory.
        let start = unsafe { start.add(part * pitch + first) };
        ReadLines { start, pitch, rows, len, bytes: PhantomData }
    }

    /// The same for writing.
    ///
    /// # Panics
    /// If the operand was named to be read only.
    #[inline]
    pub(crate) fn row_mut(&mut self, field: u8, part: usize) -> (&mut [u8], usize) {
        let Field { start, pitch, rect, writes } = *self.field(field);
        assert!(writes && rect.parts.0 <= part && part < rect.parts.1 && rect.bytes.0 <= rect.bytes.1);
        // SAFETY: as above, and nobody else touches what was given out to write.
        let bytes = unsafe {
            let first = start.add(part * pitch + rect.bytes.0);
            std::slice::from_raw_parts_mut(first, rect.bytes.1 - rect.bytes.0)
        };
        (bytes, rect.bytes.0)
    }

    /// Whether no other operand shares bytes with this one.
    pub(crate) fn is_apart(&self, field: u8) -> bool {
        let own = self.field(field);
        let others = self.fields.iter().enumerate().filter(|(number, _)| *number != usize::from(field));
        let mut others = others.filter_map(|(_, other)| other.as_ref());
        !others.any(|other| other.start == own.start && other.rect.meets(&own.rect))
    }

    /// Lines for writing bytes `first..first + len` of an operand in `rows` partitions from `part` on, and all other
    /// operands.
    ///
    /// # Panics
    /// If the operand does not hold them, was named to be read only, or [shares](Self::is_apart) bytes with another.
    pub(crate) fn lines(
        &mut self,
        field: u8,
        (part, rows): (usize, usize),
        (first, len): (usize, usize),
    ) -> (Lines<'_>, Granted<'_>) {
        let own = *self.field(field);
        assert!(own.writes && own.rect.parts.0 <= part && part + rows <= own.rect.parts.1);
        assert!(own.rect.bytes.0 <= first && first + len <= own.rect.bytes.1);
        assert!(self.is_apart(field));
        // SAFETY: the partition and the bytes lie in the memory; no other operand shares bytes with these.
        let start = unsafe { own.start.add(part * own.pitch + first) };
        let mut others = Granted { fields: self.fields, next: self.next, arenas: PhantomData };
        others.fields[usize::from(field)] = None;
        (Lines { start, pitch: own.pitch, rows, len, bytes: PhantomData }, others)
    }
}

/// Rows of as many bytes each, equally far apart, for reading.
#[derive(Clone, Copy)]
pub(crate) struct ReadLines<'a> {
    start: *const u8,
    pitch: usize,
    rows: usize,
    len: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl ReadLines<'_> {
    /// Rows, and bytes of each.
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.rows, self.len)
    }

    /// The first row's first byte, and how far apart the rows are.
    pub(super) fn raw(&self) -> (*const u8, usize) {
        (self.start, self.pitch)
    }
}

/// Rows of as many bytes each, equally far apart, for writing.
pub(crate) struct Lines<'a> {
    start: *mut u8,
    pitch: usize,
    rows: usize,
    len: usize,
    bytes: PhantomData<&'a mut [u8]>,
}

impl<'a> Lines<'a> {
    /// The first `len` bytes of each `pitch`.
    ///
    /// # Panics
    /// If rows overlap or leave the bytes.
    pub(crate) fn of(bytes: &'a mut [u8], pitch: usize, rows: usize, len: usize) -> Self {
        assert!(rows == 0 || (len <= pitch && (rows - 1) * pitch + len <= bytes.len()));
        Self { start: bytes.as_mut_ptr(), pitch, rows, len, bytes: PhantomData }
    }

    /// Rows, and bytes of each.
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.rows, self.len)
    }

    /// Some bytes of a row.
    ///
    /// # Panics
    /// If they leave it.
    pub(crate) fn line(&mut self, row: usize, bytes: Range<usize>) -> &mut [u8] {
        assert!(row < self.rows && bytes.start <= bytes.end && bytes.end <= self.len);
        // SAFETY: the row holds these bytes, and `self` is borrowed mutably.
        unsafe {
            let start = self.start.add(row * self.pitch + bytes.start);
            std::slice::from_raw_parts_mut(start, bytes.len())
        }
    }

    /// All bytes of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        assert!(row < self.rows);
        // SAFETY: the row holds these bytes, and nobody writes them while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.add(row * self.pitch), self.len) }
    }

    /// Where some bytes of some rows are.
    pub(super) fn span(&self, rows: Range<usize>, bytes: Range<usize>) -> Span {
        let first = self.start.wrapping_add(rows.start * self.pitch + bytes.start);
        Span::new(first, bytes.len(), self.pitch, rows.len())
    }

    /// The first row's first byte, and how far apart the rows are.
    pub(super) fn raw(&mut self) -> (*mut u8, usize) {
        (self.start, self.pitch)
    }
}
