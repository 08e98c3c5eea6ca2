//! The device's DRAM: 64 KiB pages on demand over read-only extents of files and segments.
//!
//! A program's image may be far larger than the host's memory, and most of it is read once, so bytes of
//! extents are read where they lie (a file mapping) and only a page that is written gets memory of its
//! own, with the extents' bytes under it copied in first.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::kernels;
use crate::shadow::Shadow;

const PAGE: usize = 1 << 16;

/// Rows of bytes that stand in DRAM before the run: row `i` is at `address + i · pitch`.
///
/// Extents may interleave (columns of one tensor from several files) but no byte belongs to two.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) address: u64,
    pub(crate) pitch: u64,
    pub(crate) rows: u64,
    pub(crate) row_bytes: u64,
    pub(crate) source: Source,
}

/// Where an extent's bytes come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Row `i` is at `offset + i · pitch` of the bytes; the loader has checked that all rows lie inside.
    Bytes {
        bytes: Bytes,
        offset: u64,
        pitch: u64,
    },
    Zero,
}

impl Extent {
    /// One past the last byte.
    fn end(&self) -> u64 {
        self.address + self.pitch * (self.rows - 1) + self.row_bytes
    }

    /// The row that holds the byte at `address`, and the byte's place in it.
    fn locate(&self, address: u64) -> Option<(u64, u64)> {
        let from_start = address.checked_sub(self.address)?;
        let (row, column) =
            if self.rows == 1 { (0, from_start) } else { (from_start / self.pitch, from_start % self.pitch) };
        (row < self.rows && column < self.row_bytes).then_some((row, column))
    }
}

/// A page that was written.
struct Page {
    bytes: Box<[u8]>,
    written: Shadow,
}

/// The memory; addresses are bytes.
pub(crate) struct Dram {
    size: u64,
    pages: Vec<Option<Page>>,
    /// Pages of earlier runs; what is in them may be anything.
    spare: Vec<Page>,
    /// Sorted by address.
    extents: Vec<Extent>,
    /// `reach[i]`: the largest end of `extents[..=i]`, which bounds the search to the left.
    reach: Vec<u64>,
}

/// Where a reader found its last extent; the next one is mostly the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor(usize);

/// A read of a byte that neither an extent nor a write has filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unwritten(pub(crate) u64);

/// The memory that tasks share; which of their accesses come first is the flow's business.
#[derive(Clone)]
pub(crate) struct SharedDram {
    size: u64,
    dram: Arc<RwLock<Dram>>,
}

impl SharedDram {
    pub(crate) fn new(dram: Dram) -> Self {
        Self { size: dram.size, dram: Arc::new(RwLock::new(dram)) }
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Dram> {
        self.dram.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Dram> {
        self.dram.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dram {
    /// A memory of `size` bytes with the extents in it; extents with no bytes are dropped.
    pub(crate) fn new(size: u64, mut extents: Vec<Extent>) -> Self {
        extents.retain(|extent| extent.rows > 0 && extent.row_bytes > 0);
        extents.sort_by_key(|extent| (extent.address, extent.end()));
        let reach = extents
            .iter()
            .scan(0, |reach, extent| {
                *reach = extent.end().max(*reach);
                Some(*reach)
            })
            .collect();
        Self { size, pages: Vec::new(), spare: Vec::new(), extents, reach }
    }

    /// Size in bytes; the caller checks addresses against it.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Forget everything that was written.
    pub(crate) fn reset(&mut self) {
        self.spare.extend(self.pages.drain(..).flatten());
    }

    /// Read `out.len()` bytes at `address`, all inside the memory.
    pub(crate) fn read(&self, cursor: &mut Cursor, address: u64, out: &mut [u8]) -> Result<(), Unwritten> {
        let mut done = 0;
        while done < out.len() {
            let at = address + done as u64;
            let (page, offset) = (at as usize / PAGE, at as usize % PAGE);
            let in_page = (out.len() - done).min(PAGE - offset);
            let step = match self.pages.get(page) {
                Some(Some(page)) => {
                    if let Some(hole) = page.written.first_unwritten(offset, in_page) {
                        return Err(Unwritten(at - offset as u64 + hole as u64));
                    }
                    out[done..done + in_page].copy_from_slice(&page.bytes[offset..offset + in_page]);
                    in_page
                }
                _ => {
                    let (extent, row, column) = self.find(cursor, at).ok_or(Unwritten(at))?;
                    let extent = &self.extents[extent];
                    let step = in_page.min((extent.row_bytes - column) as usize);
                    extent.copy(row, column, &mut out[done..done + step]);
                    step
                }
            };
            done += step;
        }
        Ok(())
    }

    /// Rows of `len` bytes, `pitch` bytes apart from `address` on, where they lie in the source of an extent, if nothing
    /// was written over them: its bytes, the place of the first row in them, and how far apart the rows are there.
    pub(crate) fn rows_of_source(
        &self,
        address: u64,
        (rows, len, pitch): (usize, usize, u64),
    ) -> Option<(Bytes, usize, usize)> {
        let (more, len) = ((rows as u64).checked_sub(1)?, len as u64);
        let bytes = more * pitch + len;
        let (index, row, column) = self.find(&mut Cursor::default(), address)?;
        let extent = &self.extents[index];
        let Source::Bytes { bytes: source, offset, pitch: apart } = &extent.source else { return None };
        let gapless = extent.rows == 1 || (extent.row_bytes == extent.pitch && *apart == extent.pitch);
        let rows_apart = if gapless && column + bytes <= (extent.rows - row) * extent.row_bytes {
            pitch
        } else if column + len <= extent.row_bytes
            && (more == 0
                || (pitch.is_multiple_of(extent.pitch) && row + more * (pitch / extent.pitch) < extent.rows))
        {
            pitch.checked_div(extent.pitch).unwrap_or(0) * apart
        } else {
            return None;
        };
        let first_page = address as usize / PAGE;
        let pages = (address + bytes - 1) as usize / PAGE - first_page + 1;
        if self.pages.iter().skip(first_page).take(pages).any(Option::is_some) {
            return None;
        }
        Some((source.clone(), (offset + row * apart + column) as usize, rows_apart as usize))
    }

    /// Bytes will soon be read.
    pub(crate) fn prefetch(&self, cursor: &mut Cursor, address: u64, len: usize) {
        if let Some(Some(page)) = self.pages.get(address as usize / PAGE) {
            let offset = address as usize % PAGE;
            return kernels::prefetch(&page.bytes[offset..PAGE.min(offset + len)]);
        }
        if let Some((extent, row, column)) = self.find(cursor, address)
            && let Extent { source: Source::Bytes { bytes, offset, pitch }, row_bytes, .. } =
                &self.extents[extent]
        {
            let at = (offset + row * pitch + column) as usize;
            kernels::prefetch(&bytes[at..at + len.min((row_bytes - column) as usize)]);
        }
    }

    /// Write bytes at `address`, all inside the memory.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = address as usize + done;
            let (page, offset) = (at / PAGE, at % PAGE);
            let step = (bytes.len() - done).min(PAGE - offset);
            let page = self.own(page);
            page.bytes[offset..offset + step].copy_from_slice(&bytes[done..done + step]);
            page.written.mark(offset, step);
            done += step;
        }
    }

    /// The extent, row and column of the byte at `address`.
    fn find(&self, cursor: &mut Cursor, address: u64) -> Option<(usize, u64, u64)> {
        if let Some((row, column)) = self.extents.get(cursor.0).and_then(|extent| extent.locate(address)) {
            return Some((cursor.0, row, column));
        }
        let mut index = self.extents.partition_point(|extent| extent.address <= address);
        while index > 0 && self.reach[index - 1] > address {
            index -= 1;
            if let Some((row, column)) = self.extents[index].locate(address) {
                cursor.0 = index;
                return Some((index, row, column));
            }
        }
        None
    }

    /// The page as memory of its own.
    fn own(&mut self, index: usize) -> &mut Page {
        if self.pages.len() <= index {
            self.pages.resize_with(index + 1, || None);
        }
        if self.pages[index].is_none() {
            let page = match self.spare.pop() {
                Some(mut page) => {
                    page.written.clear();
                    page
                }
                None => Page { bytes: vec![0; PAGE].into_boxed_slice(), written: Shadow::new(PAGE) },
            };
            self.pages[index] = Some(self.page_of_extents(index, page));
        }
        match &mut self.pages[index] {
            Some(page) => page,
            None => unreachable!("the page was made above"),
        }
    }

    /// A page of which nothing is written, holding what the extents hold there.
    fn page_of_extents(&self, index: usize, mut page: Page) -> Page {
        let (start, end) = ((index * PAGE) as u64, ((index + 1) * PAGE) as u64);
        let first_after = self.extents.partition_point(|extent| extent.address < end);
        for (extent, _) in
            self.extents[..first_after].iter().zip(&self.reach).rev().take_while(|(_, reach)| **reach > start)
        {
            let pitch = extent.pitch.max(1);
            let first_row = start.saturating_sub(extent.address + extent.row_bytes) / pitch;
            for row in first_row..extent.rows {
                let row_start = extent.address + row * extent.pitch;
                let (from, to) = (row_start.max(start), (row_start + extent.row_bytes).min(end));
                if row_start >= end {
                    break;
                }
                if from < to {
                    let (at, len) = ((from - start) as usize, (to - from) as usize);
                    extent.copy(row, from - row_start, &mut page.bytes[at..at + len]);
                    page.written.mark(at, len);
                }
            }
        }
        page
    }
}

impl Extent {
    /// Copy bytes of one row, from `column` on.
    fn copy(&self, row: u64, column: u64, out: &mut [u8]) {
        match &self.source {
            Source::Zero => out.fill(0),
            Source::Bytes { bytes, offset, pitch } => {
                let at = (offset + row * pitch + column) as usize;
                out.copy_from_slice(&bytes[at..at + out.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize, step: u8) -> Bytes {
        (0..len).map(|i| (i as u8).wrapping_mul(step).wrapping_add(step)).collect()
    }

    /// Three extents: two interleaved in columns, one of zeros over a page border.
    fn memory() -> (Dram, Vec<Option<u8>>) {
        let (a, b) = (bytes(40_000, 3), bytes(30_000, 5));
        let extents = vec![
            Extent { address: 70_000, pitch: 0, rows: 1, row_bytes: 200_000, source: Source::Zero },
            Extent {
                address: 100,
                pitch: 70,
                rows: 900,
                row_bytes: 30,
                source: Source::Bytes { bytes: a.clone(), offset: 11, pitch: 44 },
            },
            Extent {
                address: 130,
                pitch: 70,
                rows: 900,
                row_bytes: 25,
                source: Source::Bytes { bytes: b.clone(), offset: 0, pitch: 25 },
            },
        ];
        let mut plain = vec![None; 300_000];
        plain[70_000..270_000].fill(Some(0));
        for row in 0..900 {
            for column in 0..30 {
                plain[100 + row * 70 + column] = Some(a[11 + row * 44 + column]);
            }
            for column in 0..25 {
                plain[130 + row * 70 + column] = Some(b[row * 25 + column]);
            }
        }
        (Dram::new(300_000, extents), plain)
    }

    #[test]
    fn reads_and_writes_agree_with_a_plain_array() {
        let (mut dram, mut plain) = memory();
        let mut cursor = Cursor::default();
        let mut seed = 1u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        for turn in 0..4000 {
            let start = next(299_000);
            let len = 1 + next(if turn % 50 == 0 { 1000 } else { 40 });
            if turn % 7 == 0 {
                let new: Vec<u8> = (0..len).map(|i| (i + turn) as u8).collect();
                dram.write(start as u64, &new);
                for (slot, byte) in plain[start..].iter_mut().zip(&new) {
                    *slot = Some(*byte);
                }
            }
            let mut out = vec![0; len];
            let got = dram.read(&mut cursor, start as u64, &mut out).map(|()| out);
            let hole = (start..start + len).find(|&at| plain[at].is_none());
            let want = match hole {
                Some(at) => Err(Unwritten(at as u64)),
                None => Ok(plain[start..start + len].iter().flatten().copied().collect()),
            };
            assert_eq!(got, want, "{start}+{len}");
        }
    }

    #[test]
    fn only_written_pages_take_memory() {
        let extent = Extent { address: 0, pitch: 0, rows: 1, row_bytes: 1 << 34, source: Source::Zero };
        let mut dram = Dram::new(1 << 34, vec![extent]);
        let mut out = [1u8; 8];
        dram.read(&mut Cursor::default(), (1 << 34) - 8, &mut out).expect("zeros");
        assert_eq!((out, dram.pages.len()), ([0; 8], 0));
        dram.write(1 << 20, &[9]);
        assert_eq!(dram.pages.iter().flatten().count(), 1);
        dram.reset();
        assert_eq!(dram.pages.len(), 0);
    }
}
