//! What stands in the scratchpad but was not copied there.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::Place;
use super::access::{copy_from, load_from};
use crate::convert::Number;
use crate::kernels::ahead::Span;
use crate::kernels::arena::{Granted, Rect};

/// Rows that were loaded but not copied: what stands in some partitions is what stands in a file that nobody changes.
///
/// Weights are mostly read once, by the matrix engine, which can as well read them where they lie.
#[derive(Clone)]
pub(crate) struct Borrowed {
    pub(super) rect: Rect,
    source: Bytes,
    /// Where the first partition's row is in the source, and how far apart the rows are there.
    offset: usize,
    pitch: usize,
}

impl Borrowed {
    /// `to` of these partitions, whose elements are one run of bytes each, from rows of a source.
    pub(crate) fn new(to: &Place, parts: Range<usize>, source: Bytes, offset: usize, pitch: usize) -> Self {
        debug_assert!(to.is_dense());
        let rect = Rect { parts: (parts.start, parts.end), bytes: to.span };
        Self { rect, source, offset, pitch }
    }

    /// The bytes of a partition.
    pub(super) fn row(&self, part: usize) -> &[u8] {
        let first = self.offset + (part - self.rect.parts.0) * self.pitch;
        &self.source[first..first + (self.rect.bytes.1 - self.rect.bytes.0)]
    }

    /// Whether the next partitions' rows are the next ones of the source.
    pub(super) fn goes_on_as(&self, next: &Self) -> bool {
        let end = self.offset + (self.rect.parts.1 - self.rect.parts.0) * self.pitch;
        self.source.as_ptr() == next.source.as_ptr()
            && self.source.len() == next.source.len()
            && (self.rect.parts.1, self.rect.bytes) == (next.rect.parts.0, next.rect.bytes)
            && (end, self.pitch) == (next.offset, next.pitch)
    }

    /// A part of it.
    fn part(&self, rect: Rect) -> Option<Self> {
        let (down, right) = (rect.parts.0 - self.rect.parts.0, rect.bytes.0 - self.rect.bytes.0);
        let some = rect.parts.0 < rect.parts.1 && rect.bytes.0 < rect.bytes.1;
        some.then(|| Self { rect, offset: self.offset + down * self.pitch + right, ..self.clone() })
    }

    /// What is left when a rectangle that it meets is written over.
    pub(super) fn without(&self, written: &Rect) -> impl Iterator<Item = Self> {
        let Rect { parts, bytes } = self.rect;
        let (first, end) = (parts.0.max(written.parts.0), parts.1.min(written.parts.1));
        let (left, right) = (bytes.0.max(written.bytes.0), bytes.1.min(written.bytes.1));
        let rects = [
            Rect { parts: (parts.0, first), bytes },
            Rect { parts: (end, parts.1), bytes },
            Rect { parts: (first, end), bytes: (bytes.0, left) },
            Rect { parts: (first, end), bytes: (right, bytes.1) },
        ];
        rects.into_iter().filter_map(|rect| self.part(rect))
    }
}

/// All borrowed rows of a scratchpad, no two of which share bytes, found by the bytes that they stand for.
#[derive(Default)]
pub(super) struct Lent {
    pub(super) rows: Vec<Option<Borrowed>>,
    free: Vec<usize>,
    /// For each [`GRANULE`] bytes of a partition, the rows that stand for some of them.
    granules: Vec<Vec<(Rect, usize)>>,
}

/// Bytes of a partition that borrowed rows are looked up together for.
const GRANULE: usize = 2048;

impl Lent {
    /// None, in a memory of so many bytes in each partition.
    pub(super) fn new(size: usize) -> Self {
        Self { granules: vec![Vec::new(); size.div_ceil(GRANULE)], ..Self::default() }
    }

    pub(super) fn clear(&mut self) {
        self.granules.iter_mut().for_each(Vec::clear);
        self.rows.clear();
        self.free.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == self.free.len()
    }

    fn granules_of(rect: &Rect) -> Range<usize> {
        rect.bytes.0 / GRANULE..rect.bytes.1.div_ceil(GRANULE)
    }

    /// The numbers of all that share bytes with a rectangle.
    pub(super) fn meeting(&self, rect: &Rect) -> SmallVec<[usize; 16]> {
        let mut found = SmallVec::new();
        // Buffers are filled again and again with rows of the same shape, which then are the only ones.
        if let Some(same) = self.same_as(rect) {
            found.push(same);
            return found;
        }
        for granule in self.granules.get(Self::granules_of(rect)).unwrap_or_default() {
            for (_, number) in granule.iter().filter(|(other, _)| other.meets(rect)) {
                if !found.contains(number) {
                    found.push(*number);
                }
            }
        }
        found
    }

    /// The number of the rows that stand for just this rectangle.
    pub(super) fn same_as(&self, rect: &Rect) -> Option<usize> {
        let granule = self.granules.get(rect.bytes.0 / GRANULE)?;
        granule.iter().find(|(other, _)| other == rect).map(|(_, number)| *number)
    }

    pub(super) fn add(&mut self, rows: Borrowed) {
        let rect = rows.rect;
        if let Some(same) = self.same_as(&rect) {
            self.rows[same] = Some(rows);
            return;
        }
        let number = self.free.pop().unwrap_or(self.rows.len());
        if number == self.rows.len() {
            self.rows.push(None);
        }
        self.rows[number] = Some(rows);
        self.granules[Self::granules_of(&rect)].iter_mut().for_each(|granule| granule.push((rect, number)));
    }

    pub(super) fn take(&mut self, number: usize) -> Option<Borrowed> {
        let rows = self.rows.get_mut(number)?.take()?;
        self.free.push(number);
        for granule in &mut self.granules[Self::granules_of(&rows.rect)] {
            granule.retain(|(_, other)| *other != number);
        }
        Some(rows)
    }
}

/// The rows of an operand: on chip, or borrowed.
#[derive(Clone, Default)]
pub(crate) struct Rows(pub(super) SmallVec<[Borrowed; 1]>);

impl Rows {
    /// Whether they are borrowed.
    pub(crate) fn are_borrowed(&self) -> bool {
        !self.0.is_empty()
    }

    /// Where the first elements of an operand that [is dense](Place::is_dense) are in borrowed partitions.
    pub(crate) fn span(&self, place: &Place, elements: usize) -> Span {
        let Some(first) = self.0.first() else { return Span::NONE };
        let Rect { parts, bytes } = first.rect;
        let part = parts.0.max(place.part);
        let len = (place.span.1 - place.span.0).min(elements * place.size);
        let start = first.row(part).as_ptr().wrapping_add(place.span.0 - bytes.0);
        Span::new(start, len, first.pitch, parts.1 - part)
    }

    /// The bytes of an operand in a partition, and the number of the first of them.
    #[inline]
    fn row<'a>(&'a self, granted: &'a Granted<'_>, place: &Place, part: usize) -> (&'a [u8], usize) {
        match self.0.iter().find(|borrowed| (borrowed.rect.parts.0..borrowed.rect.parts.1).contains(&part)) {
            Some(borrowed) => (borrowed.row(part), borrowed.rect.bytes.0),
            None => granted.row(place.field, part),
        }
    }

    /// Load elements `start..start + out.len()` of the operand as numbers.
    pub(crate) fn load<N: Number>(
        &self,
        granted: &Granted<'_>,
        place: &Place,
        part: usize,
        start: usize,
        out: &mut [N],
    ) {
        load_from(self.row(granted, place, part), place, start, out);
    }

    /// Copy elements `start..` of the operand into dense bytes, whatever they mean.
    pub(crate) fn copy_out(
        &self,
        granted: &Granted<'_>,
        place: &Place,
        part: usize,
        start: usize,
        out: &mut [u8],
    ) {
        copy_from(self.row(granted, place, part), place, start, out);
    }

    /// All bytes of an operand that [is dense](Place::is_dense), partition by partition.
    pub(crate) fn all_dense<'a>(
        &'a self,
        granted: &'a Granted<'_>,
        place: &Place,
        parts: Range<usize>,
    ) -> Vec<&'a [u8]> {
        debug_assert!(place.is_dense());
        let (start, end) = place.span;
        let mut all: Vec<&[u8]> = Vec::with_capacity(parts.len());
        if !self.are_borrowed() {
            all.extend(parts.map(|part| {
                let (bytes, first) = granted.row(place.field, part);
                &bytes[start - first..end - first]
            }));
            return all;
        }
        all.resize(parts.len(), &[]);
        for borrowed in &self.0 {
            let Rect { parts: (first, last), bytes: (left, _) } = borrowed.rect;
            for part in first.max(parts.start)..last.min(parts.end) {
                all[part - parts.start] = &borrowed.row(part)[start - left..end - left];
            }
        }
        all
    }

    /// Bytes `start..start + len` of an operand that [is dense](Place::is_dense).
    #[inline]
    pub(crate) fn dense<'a>(
        &'a self,
        granted: &'a Granted<'_>,
        place: &Place,
        part: usize,
        start: usize,
        len: usize,
    ) -> &'a [u8] {
        debug_assert!(place.is_dense());
        let (bytes, first) = self.row(granted, place, part);
        &bytes[place.span.0 - first + start..][..len]
    }
}
