//! Shadow memory: for every byte who wrote it last and who has read it since.
//!
//! Bytes that share their past share a cell: a page of 4 KiB is a short list of cells, in bands of partitions that
//! differ. A tile that is written as a whole is one cell again, so the cost follows the number of tiles, not of bytes.

use indexmap::IndexMap;

use super::clock::Clock;
use super::footprint::Memory;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Pages of DRAM after which those that nothing can race with any more are looked for.
const SWEEP: usize = 1 << 15;

/// An access as later ones see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its stream's time.
    pub(crate) time: u64,
    /// Index of the instruction in its stream's code.
    pub(crate) step: u32,
    pub(crate) stream: u8,
}

/// What became of some bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    written: Option<Stamp>,
    /// A read since by each stream, but those that a later read is known to follow.
    readers: [Option<Stamp>; 2],
    /// Further readers.
    more: Vec<Stamp>,
}

/// Bytes from `start` to the next cell's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    start: u16,
    state: State,
}

/// Partitions up to `end`, from where the band before ends.
#[derive(Clone, Debug)]
struct Band {
    end: u32,
    cells: Vec<Cell>,
}

type Page = Vec<Band>;

/// An earlier access that conflicts with the present one and is not known to be complete; none: nothing wrote the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) kind: ConflictKind,
    pub(crate) earlier: Option<Stamp>,
    pub(crate) parts: (u32, u32),
    /// First byte and one past the last.
    pub(crate) bytes: (u64, u64),
}

/// How two accesses conflict, in the order in which they came this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConflictKind {
    ReadAfterWrite,
    WriteAfterRead,
    WriteAfterWrite,
    Unwritten,
}

/// An access under way.
pub(crate) struct Access<'a> {
    pub(crate) stamp: Stamp,
    pub(crate) clock: &'a Clock,
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    /// Bytes must have been written to be read.
    pub(crate) strict: bool,
}

impl Access<'_> {
    #[inline]
    fn follows(&self, earlier: &Stamp) -> bool {
        earlier.stream == self.stamp.stream || self.clock.knows(earlier.stream.into(), earlier.time)
    }
}

impl State {
    /// The access happens to these bytes; conflicts are told.
    fn touch(&mut self, access: &Access<'_>, mut tell: impl FnMut(ConflictKind, Option<Stamp>)) {
        if let Some(written) = self.written.filter(|written| !access.follows(written)) {
            if access.reads {
                tell(ConflictKind::ReadAfterWrite, Some(written));
            } else {
                tell(ConflictKind::WriteAfterWrite, Some(written));
            }
        }
        if access.reads && access.strict && self.written.is_none() {
            tell(ConflictKind::Unwritten, None);
        }
        if access.writes {
            let readers = self.readers.iter().flatten().chain(&self.more);
            for reader in readers.filter(|reader| !access.follows(reader)) {
                tell(ConflictKind::WriteAfterRead, Some(*reader));
            }
            *self = State { written: Some(access.stamp), ..State::default() };
        } else {
            self.read(access);
        }
    }

    fn read(&mut self, access: &Access<'_>) {
        if !self.more.is_empty() {
            self.more.retain(|reader| !access.follows(reader));
        }
        for reader in &mut self.readers {
            *reader = reader.filter(|reader| !access.follows(reader));
        }
        match self.readers {
            [None, _] => self.readers[0] = Some(access.stamp),
            [_, None] => self.readers[1] = Some(access.stamp),
            _ => self.more.push(access.stamp),
        }
    }

    /// Whether every stream knows all of it.
    fn is_known(&self, clock: &Clock) -> bool {
        let knows = |stamp: &Stamp| clock.knows(stamp.stream.into(), stamp.time);
        self.written.iter().chain(self.readers.iter().flatten()).chain(&self.more).all(knows)
    }
}

/// All memories.
pub(crate) struct Cells {
    chip: [Vec<Option<Page>>; 2],
    dram: IndexMap<u64, Page>,
    partitions: u32,
    sweep_at: usize,
    /// What is built anew; kept for its memory.
    scratch: Vec<Cell>,
}

impl Cells {
    /// Untouched memories: bytes of a scratchpad partition and of an accumulator partition.
    pub(crate) fn new(partitions: u32, spm_bytes: u64, acc_bytes: u64) -> Self {
        let pages = |bytes: u64| vec![None; bytes.div_ceil(PAGE) as usize];
        Self {
            chip: [pages(spm_bytes), pages(acc_bytes)],
            dram: IndexMap::new(),
            partitions,
            sweep_at: SWEEP,
            scratch: Vec::new(),
        }
    }

    /// An access to runs of bytes that ascend and are apart, in some partitions.
    pub(crate) fn access(
        &mut self,
        memory: Memory,
        parts: (u32, u32),
        runs: &[(u64, u64)],
        access: &Access<'_>,
        mut tell: impl FnMut(Conflict),
    ) {
        let mut inside: Vec<(u16, u16)> = Vec::new();
        let mut next = 0;
        let mut resume = 0;
        while next < runs.len() {
            let number = runs[next].0.max(resume) / PAGE;
            let (first, end) = (number * PAGE, (number + 1) * PAGE);
            inside.clear();
            while let Some((start, stop)) = runs.get(next).filter(|(start, _)| *start < end) {
                inside.push(((start.max(&first) - first) as u16, (stop.min(&end) - first) as u16));
                if *stop > end {
                    break;
                }
                next += 1;
            }
            resume = end;
            let partitions = if memory == Memory::Dram { 1 } else { self.partitions };
            let untouched = || vec![Band { end: partitions, cells: vec![Cell::untouched()] }];
            let page = match memory {
                Memory::Dram => self.dram.entry(number).or_insert_with(untouched),
                _ => self.chip[memory as usize][number as usize].get_or_insert_with(untouched),
            };
            touch_page(page, parts, &inside, access, &mut self.scratch, |kind, earlier, parts, bytes| {
                let bytes = (first + u64::from(bytes.0), first + u64::from(bytes.1));
                tell(Conflict { kind, earlier, parts, bytes });
            });
        }
    }

    /// Whether it is time to [`Self::forget`].
    pub(crate) fn is_large(&self) -> bool {
        self.dram.len() >= self.sweep_at
    }

    /// Forget DRAM of which every stream knows all; nothing can race with it any more.
    pub(crate) fn forget(&mut self, known_to_all: &Clock) {
        self.dram.retain(|_, page| {
            !page.iter().flat_map(|band| &band.cells).all(|cell| cell.state.is_known(known_to_all))
        });
        self.sweep_at = SWEEP.max(self.dram.len() * 2);
    }
}

impl Cell {
    fn untouched() -> Self {
        Cell { start: 0, state: State::default() }
    }
}

/// Split off bands so that one begins at `part`.
fn split(page: &mut Page, part: u32) -> usize {
    let mut begin = 0;
    for i in 0..page.len() {
        if begin == part {
            return i;
        }
        if page[i].end > part {
            let lower = Band { end: part, cells: page[i].cells.clone() };
            page.insert(i, lower);
            return i + 1;
        }
        begin = page[i].end;
    }
    page.len()
}

fn touch_page(
    page: &mut Page,
    parts: (u32, u32),
    runs: &[(u16, u16)],
    access: &Access<'_>,
    scratch: &mut Vec<Cell>,
    mut tell: impl FnMut(ConflictKind, Option<Stamp>, (u32, u32), (u16, u16)),
) {
    let first = split(page, parts.0);
    let last = split(page, parts.1);
    let mut begin = parts.0;
    for band in &mut page[first..last] {
        let parts = (begin, band.end);
        begin = band.end;
        touch_cells(&mut band.cells, runs, access, scratch, |kind, earlier, bytes| {
            tell(kind, earlier, parts, bytes);
        });
    }
    // Bands that have come to the same are one again.
    for i in (first.saturating_sub(1)..last.min(page.len() - 1)).rev() {
        if page[i].cells == page[i + 1].cells {
            page.remove(i);
        }
    }
}

fn touch_cells(
    cells: &mut Vec<Cell>,
    runs: &[(u16, u16)],
    access: &Access<'_>,
    scratch: &mut Vec<Cell>,
    mut tell: impl FnMut(ConflictKind, Option<Stamp>, (u16, u16)),
) {
    // Mostly an operand is a cell that some other instruction has made.
    if let [(start, end)] = runs {
        let at = cells.partition_point(|cell| cell.start < *start);
        let is_cell = cells.get(at).is_some_and(|cell| cell.start == *start)
            && cells.get(at + 1).map_or(PAGE as u16, |next| next.start) == *end;
        if is_cell {
            cells[at].state.touch(access, |kind, earlier| tell(kind, earlier, (*start, *end)));
            return;
        }
    }
    scratch.clear();
    let mut keep = |start: u16, state: State| {
        if scratch.last().is_none_or(|last| last.state != state) {
            scratch.push(Cell { start, state });
        }
    };
    let mut runs = runs.iter().copied().peekable();
    for i in 0..cells.len() {
        let end = cells.get(i + 1).map_or(PAGE as u16, |next| next.start);
        let mut at = cells[i].start;
        while at < end {
            // Runs before this place are behind.
            while runs.next_if(|(_, stop)| *stop <= at).is_some() {}
            let (upto, inside) = match runs.peek() {
                Some((start, stop)) if *start <= at => ((*stop).min(end), true),
                Some((start, _)) => ((*start).min(end), false),
                None => (end, false),
            };
            let mut state =
                if upto == end { std::mem::take(&mut cells[i].state) } else { cells[i].state.clone() };
            if inside {
                state.touch(access, |kind, earlier| tell(kind, earlier, (at, upto)));
            }
            keep(at, state);
            at = upto;
        }
    }
    std::mem::swap(cells, scratch);
}

#[cfg(test)]
mod tests;
