//! Shadow memory: for every byte who wrote it last and who has read it since.
//!
//! Bytes that share their past share a cell: a page of 4 KiB is a short list of cells, in bands of partitions that
//! differ. A tile that is written as a whole is one cell again, so the cost follows the number of tiles, not of bytes.
//!
//! Most of DRAM is only read: weights. Until a block of it is first written, its reads are only listed; then they are
//! entered as if they had been from the start.

use std::rc::Rc;

use indexmap::IndexMap;

use super::clock::Clock;
use super::footprint::Footprint;
use kiln_machine::program::Memory;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Bytes of DRAM whose reads are listed together.
const BLOCK: u64 = 1 << 20;

/// Pages and listed reads of DRAM after which those that nothing can race with any more are looked for.
const SWEEP: usize = 1 << 15;

/// Runs in a page from which its cells are built anew.
const MANY_RUNS: usize = 8;

/// An access as later ones see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its stream's time.
    pub(crate) time: u64,
    /// Index of the instruction in its stream's code.
    pub(crate) step: u32,
    pub(crate) stream: u16,
}

impl Stamp {
    /// No access.
    const NONE: Stamp = Stamp { time: 0, step: 0, stream: u16::MAX };

    fn is_some(&self) -> bool {
        self.stream != u16::MAX
    }
}

/// What became of some bytes. Kept small, since there are many.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    written: Stamp,
    /// A read since by each stream, but those that a later read is known to follow.
    readers: [Stamp; 2],
    /// Further readers; boxed, since there are hardly ever some.
    #[allow(clippy::box_collection)]
    more: Option<Box<Vec<Stamp>>>,
}

impl Default for State {
    fn default() -> Self {
        Self { written: Stamp::NONE, readers: [Stamp::NONE; 2], more: None }
    }
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
    /// What was written before was never read.
    Unread,
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
        if self.written.is_some() && !access.follows(&self.written) {
            if access.reads {
                tell(ConflictKind::ReadAfterWrite, Some(self.written));
            } else {
                tell(ConflictKind::WriteAfterWrite, Some(self.written));
            }
        }
        if access.reads && access.strict && !self.written.is_some() {
            tell(ConflictKind::Unwritten, None);
        }
        if access.writes && !access.reads && access.strict && self.is_unread() {
            tell(ConflictKind::Unread, Some(self.written));
        }
        if access.writes {
            for reader in self.readers().filter(|reader| !access.follows(reader)) {
                tell(ConflictKind::WriteAfterRead, Some(*reader));
            }
            *self = State { written: access.stamp, ..State::default() };
        } else {
            self.read(access);
        }
    }

    fn readers(&self) -> impl Iterator<Item = &Stamp> {
        let more = self.more.iter().flat_map(|more| more.iter());
        self.readers.iter().filter(|reader| reader.is_some()).chain(more)
    }

    fn read(&mut self, access: &Access<'_>) {
        if let Some(more) = &mut self.more {
            more.retain(|reader| !access.follows(reader));
            if more.is_empty() {
                self.more = None;
            }
        }
        for reader in &mut self.readers {
            if reader.is_some() && access.follows(reader) {
                *reader = Stamp::NONE;
            }
        }
        match self.readers.iter_mut().find(|reader| !reader.is_some()) {
            Some(free) => *free = access.stamp,
            None => self.more.get_or_insert_default().push(access.stamp),
        }
    }

    /// Whether something was written that nothing has read since.
    fn is_unread(&self) -> bool {
        self.written.is_some() && self.readers().next().is_none()
    }

    /// Whether every stream knows all of it.
    fn is_known(&self, clock: &Clock) -> bool {
        let knows = |stamp: &Stamp| clock.knows(stamp.stream.into(), stamp.time);
        (!self.written.is_some() || knows(&self.written)) && self.readers().all(knows)
    }
}

/// A stretch of DRAM.
enum Block {
    /// Never written.
    Read(Vec<Read>),
    /// Its pages know all.
    Written,
}

/// A read of DRAM.
struct Read {
    footprint: Rc<Footprint>,
    base: i64,
    stamp: Stamp,
}

/// All memories.
pub(crate) struct Cells {
    /// Scratchpad and accumulators of each core.
    chip: Vec<[Vec<Option<Page>>; 2]>,
    dram: IndexMap<u64, Page>,
    /// Blocks of DRAM by number.
    blocks: IndexMap<u64, Block>,
    /// Reads that are listed.
    listed: usize,
    partitions: u32,
    sweep_at: usize,
    /// What is built anew; kept for its memory, as are the runs.
    scratch: Vec<Cell>,
    runs: Vec<(u64, u64)>,
}

impl Cells {
    /// Untouched memories of so many cores: bytes of a scratchpad partition and of an accumulator partition.
    pub(crate) fn new(cores: usize, partitions: u32, [spm_bytes, acc_bytes]: [u64; 2]) -> Self {
        let pages = |bytes: u64| vec![None; bytes.div_ceil(PAGE) as usize];
        Self {
            chip: vec![[pages(spm_bytes), pages(acc_bytes)]; cores],
            dram: IndexMap::new(),
            blocks: IndexMap::new(),
            listed: 0,
            partitions,
            sweep_at: SWEEP,
            scratch: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// An access to the bytes of a footprint, which must lie in its memory: on chip that of a core, by its place among
    /// all cores.
    pub(crate) fn access(
        &mut self,
        core: usize,
        footprint: &Rc<Footprint>,
        base: i64,
        access: &Access<'_>,
        tell: impl FnMut(Conflict),
    ) {
        let mut runs = std::mem::take(&mut self.runs);
        if footprint.memory != Memory::Dram {
            footprint.runs(base, &mut runs);
        } else if access.writes {
            let (first, end) = footprint.hull(base);
            (first as u64 / BLOCK..(end as u64).div_ceil(BLOCK)).for_each(|block| self.enter(block));
            footprint.runs(base, &mut runs);
        } else {
            let (first, end) = footprint.hull(base);
            let (mut written, mut read) = (false, false);
            for number in first as u64 / BLOCK..(end as u64).div_ceil(BLOCK) {
                match self.blocks.entry(number).or_insert_with(|| Block::Read(Vec::new())) {
                    Block::Written => written = true,
                    Block::Read(list) => {
                        read = true;
                        self.listed += 1;
                        list.push(Read { footprint: footprint.clone(), base, stamp: access.stamp });
                    }
                }
            }
            runs.clear();
            if written {
                footprint.runs(base, &mut runs);
                if read {
                    let blocks = &self.blocks;
                    let is_written = |number| matches!(blocks.get(&number), Some(Block::Written));
                    runs = runs
                        .iter()
                        .flat_map(|run| by_block(*run))
                        .filter(|run| is_written(run.0 / BLOCK))
                        .collect();
                }
            }
        }
        self.touch((core, footprint.memory), footprint.parts, &runs, access, tell);
        self.runs = runs;
    }

    /// A block is about to be written: what was listed of it is entered.
    fn enter(&mut self, number: u64) {
        let Some(Block::Read(list)) = self.blocks.insert(number, Block::Written) else { return };
        self.listed -= list.len();
        // Nothing was written, so nothing conflicts; and which read follows which need not be known.
        let clock = Clock::default();
        let mut runs = Vec::new();
        for Read { footprint, base, stamp } in list {
            footprint.runs(base, &mut runs);
            let inside = runs.iter().flat_map(|run| by_block(*run)).filter(|run| run.0 / BLOCK == number);
            let inside: Vec<(u64, u64)> = inside.collect();
            let access = Access { stamp, clock: &clock, reads: true, writes: false, strict: false };
            self.touch((0, Memory::Dram), (0, 1), &inside, &access, |_| {});
        }
    }

    /// An access to runs of bytes that ascend and are apart, in some partitions.
    fn touch(
        &mut self,
        (core, memory): (usize, Memory),
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
                _ => self.chip[core][memory as usize][number as usize].get_or_insert_with(untouched),
            };
            touch_page(page, parts, &inside, access, &mut self.scratch, |kind, earlier, parts, bytes| {
                let bytes = (first + u64::from(bytes.0), first + u64::from(bytes.1));
                tell(Conflict { kind, earlier, parts, bytes });
            });
        }
    }

    /// The bytes on chip that were written and that nothing has read, with their core, memory and writer.
    pub(crate) fn unread(&self, mut tell: impl FnMut(usize, Memory, Conflict)) {
        for (core, chip) in self.chip.iter().enumerate() {
            for (memory, pages) in [Memory::Spm, Memory::Acc].into_iter().zip(chip) {
                for (number, page) in pages.iter().enumerate() {
                    let mut begin = 0;
                    for band in page.iter().flatten() {
                        let parts = (std::mem::replace(&mut begin, band.end), band.end);
                        let ends = band.cells.iter().skip(1).map(|next| next.start).chain([PAGE as u16]);
                        for (cell, end) in
                            band.cells.iter().zip(ends).filter(|(cell, _)| cell.state.is_unread())
                        {
                            let first = number as u64 * PAGE;
                            let bytes = (first + u64::from(cell.start), first + u64::from(end));
                            let earlier = Some(cell.state.written);
                            tell(
                                core,
                                memory,
                                Conflict { kind: ConflictKind::Unread, earlier, parts, bytes },
                            );
                        }
                    }
                }
            }
        }
    }

    /// Whether it is time to [`Self::forget`].
    pub(crate) fn is_large(&self) -> bool {
        self.dram.len() + self.listed >= self.sweep_at
    }

    /// Forget DRAM of which every stream knows all; nothing can race with it any more.
    pub(crate) fn forget(&mut self, known_to_all: &Clock) {
        self.dram.retain(|_, page| {
            !page.iter().flat_map(|band| &band.cells).all(|cell| cell.state.is_known(known_to_all))
        });
        for block in self.blocks.values_mut() {
            if let Block::Read(list) = block {
                list.retain(|read| !known_to_all.knows(read.stamp.stream.into(), read.stamp.time));
            }
        }
        let listed = |block: &Block| if let Block::Read(list) = block { list.len() } else { 0 };
        self.listed = self.blocks.values().map(listed).sum();
        self.sweep_at = SWEEP.max((self.dram.len() + self.listed) * 2);
    }
}

/// The parts of a run in each block.
fn by_block((start, end): (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    (start / BLOCK..end.div_ceil(BLOCK)).map(move |n| (start.max(n * BLOCK), end.min((n + 1) * BLOCK)))
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
    if runs.len() > MANY_RUNS {
        rebuild(cells, runs, access, scratch, tell);
        return;
    }
    for &(start, end) in runs {
        let first = boundary(cells, start);
        let last = boundary(cells, end);
        for at in first..last {
            let stop = cells.get(at + 1).map_or(PAGE as u16, |next| next.start);
            let Cell { start, state } = &mut cells[at];
            let start = *start;
            state.touch(access, |kind, earlier| tell(kind, earlier, (start, stop)));
        }
        // Cells that have come to the same are one again: a write makes them so.
        for at in (first.max(1)..=last.min(cells.len() - 1)).rev() {
            if cells[at - 1].state == cells[at].state {
                cells.remove(at);
            }
        }
    }
}

/// The index of the cell that begins at a byte; it is split off where there is none.
fn boundary(cells: &mut Vec<Cell>, start: u16) -> usize {
    let at = cells.partition_point(|cell| cell.start < start);
    if start < PAGE as u16 && cells.get(at).is_none_or(|cell| cell.start != start) {
        let state = cells[at - 1].state.clone();
        cells.insert(at, Cell { start, state });
    }
    at
}

/// The same for many runs, with the list built anew.
fn rebuild(
    cells: &mut Vec<Cell>,
    runs: &[(u16, u16)],
    access: &Access<'_>,
    scratch: &mut Vec<Cell>,
    mut tell: impl FnMut(ConflictKind, Option<Stamp>, (u16, u16)),
) {
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
