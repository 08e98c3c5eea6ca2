//! The on-chip memories, one partition after another, and typed access to strided operands in them.
//!
//! VEC and ACT never move data between partitions, so a [`Lane`] (one partition of both memories) is the
//! unit of their work and of their parallelism. Operands are walked in row-major order of their three free
//! dims; every load names a range of that order and converts runs, so arithmetic happens on plain slices.

use std::sync::Arc;

use kiln_machine::isa::{Dt, Space, View};
use memmap2::MmapMut;

use crate::convert::{self, Number};
use crate::kernels::{self, product::Quad, team::Team};
use crate::shadow::{Shadow, SharedShadow};

/// One partition of the scratchpad and of the accumulators.
pub(crate) struct Lane {
    part: usize,
    memories: [Memory; 2],
}

struct Memory {
    bytes: Backing,
    /// Where in `bytes` the memory starts.
    start: usize,
    written: Shadow,
}

/// The host's memory under a partition.
enum Backing {
    /// Pages of the system, large ones where it has them: an instruction touches all partitions.
    Mapped(MmapMut),
    Owned(Vec<u8>),
}

/// A line of the host's caches.
const LINE: usize = 64;
/// Lines that the sets of the host's first cache hold.
const SETS: usize = 64;
/// Partitions whose written bytes are also known together.
const GROUP: usize = 32;

impl Memory {
    /// The memory of partition `part`. Partitions start in different sets of the host's caches, since the same
    /// bytes of all of them are mostly read together.
    fn new(part: usize, size: usize) -> Self {
        let start = part * 5 % SETS * LINE;
        let bytes = match MmapMut::map_anon(start + size) {
            Ok(map) => {
                // Only speed depends on it.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Backing::Mapped(map)
            }
            Err(_) => Backing::Owned(vec![0; start + size]),
        };
        Self { bytes, start, written: Shadow::new(size) }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Backing::Mapped(map) => &map[self.start..],
            Backing::Owned(bytes) => &bytes[self.start..],
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Backing::Mapped(map) => &mut map[self.start..],
            Backing::Owned(bytes) => &mut bytes[self.start..],
        }
    }
}

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

/// Both memories.
pub(crate) struct OnChip {
    pub(crate) lanes: Vec<Lane>,
    /// Who computes in them.
    pub(crate) team: Arc<Team>,
    spm_bytes: usize,
    acc_bytes: usize,
    /// What is written in all partitions of each group.
    groups: Vec<[SharedShadow; 2]>,
}

impl OnChip {
    /// Memories with nothing written; sizes in bytes for each partition.
    pub(crate) fn new(parts: usize, spm_bytes: usize, acc_bytes: usize, team: Arc<Team>) -> Self {
        let lane =
            |part| Lane { part, memories: [Memory::new(part, spm_bytes), Memory::new(part, acc_bytes)] };
        let group = |_| [SharedShadow::new(spm_bytes), SharedShadow::new(acc_bytes)];
        Self {
            lanes: (0..parts).map(lane).collect(),
            team,
            spm_bytes,
            acc_bytes,
            groups: (0..parts.div_ceil(GROUP)).map(group).collect(),
        }
    }

    /// Nothing is written any more; the bytes stay, since none can be read before it is written.
    pub(crate) fn clear(&mut self) {
        self.lanes.iter_mut().flat_map(|lane| &mut lane.memories).for_each(|memory| memory.written.clear());
        self.groups.iter_mut().flatten().for_each(SharedShadow::clear);
    }

    /// Bytes of one partition of a memory.
    fn size_of(&self, space: Space) -> usize {
        match space {
            Space::Spm => self.spm_bytes,
            Space::Acc => self.acc_bytes,
        }
    }

    /// Resolve a view over `parts` partitions and free extents `n`, with its register's value added.
    pub(crate) fn place(
        &self,
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
        if part + parts > self.lanes.len() {
            return Err(Fault::NoSuchPartition {
                space: view.space,
                first: part,
                end: part + parts,
                parts: self.lanes.len(),
            });
        }
        let size = size as usize;
        let dims = merged(n, view.strides, size);
        let [d0, d1, d2] = dims;
        let mut place = Place {
            space: view.space,
            part,
            dt: view.dt,
            base: base as usize,
            span: (first as usize, end as usize),
            size,
            dims,
            known: false,
            dense: d0.n == 1 && d1.n == 1 && (d2.n == 1 || d2.stride == size as isize),
        };
        place.known =
            (part / GROUP..(part + parts).div_ceil(GROUP)).all(|group| self.is_known(group, &place));
        Ok(place)
    }

    /// Whether every partition of a group has all elements written. What is found out is noted.
    fn is_known(&self, group: usize, place: &Place) -> bool {
        let known = &self.groups[group][place.space as usize];
        let noted = place.each_run(|byte, run, stride| {
            place.spans(byte, run, stride).all(|(byte, len)| known.covers(byte, len))
        });
        if noted {
            return true;
        }
        let lanes = &self.lanes[group * GROUP..((group + 1) * GROUP).min(self.lanes.len())];
        let written = lanes.iter().all(|lane| lane.check(place).is_ok());
        if written {
            place.each_run(|byte, run, stride| {
                place.spans(byte, run, stride).for_each(|(byte, len)| known.mark(byte, len));
                true
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

impl Lane {
    /// Load elements `start..start + out.len()` of the operand as numbers.
    pub(crate) fn load<N: Number>(&self, place: &Place, start: usize, out: &mut [N]) -> Result<(), Fault> {
        let memory = &self.memories[place.space as usize];
        let mut done = 0;
        place.runs(start, out.len(), |byte, run, stride| {
            self.check_run(place, byte, run, stride)?;
            convert::load_run(memory.bytes(), byte, stride, place.dt, &mut out[done..done + run]);
            done += run;
            Ok(())
        })
    }

    /// Store numbers as elements `start..start + values.len()` of the operand.
    pub(crate) fn store<N: Number>(&mut self, place: &Place, start: usize, values: &[N]) {
        let memory = &mut self.memories[place.space as usize];
        let mut done = 0;
        let stored: Result<(), Fault> = place.runs(start, values.len(), |byte, run, stride| {
            convert::store_run(memory.bytes_mut(), byte, stride, place.dt, &values[done..done + run]);
            memory.mark_run(place, byte, run, stride);
            done += run;
            Ok(())
        });
        debug_assert!(stored.is_ok());
    }

    /// Copy elements `start..` of the operand into dense bytes, whatever they mean.
    pub(crate) fn copy_out(&self, place: &Place, start: usize, out: &mut [u8]) -> Result<(), Fault> {
        place.runs(start, out.len() / place.size, |byte, run, stride| {
            self.check_run(place, byte, run, stride)
        })?;
        self.source(place.space).copy_out(place, start, out);
        Ok(())
    }

    /// Copy dense bytes over elements `start..` of the operand.
    pub(crate) fn copy_in(&mut self, place: &Place, start: usize, values: &[u8]) {
        let memory = &mut self.memories[place.space as usize];
        let mut done = 0;
        let copied: Result<(), Fault> = place.runs(start, values.len() / place.size, |byte, run, stride| {
            let values = &values[done..done + run * place.size];
            let bytes = memory.bytes_mut();
            match place.size {
                size if stride == size as isize => bytes[byte..byte + values.len()].copy_from_slice(values),
                1 => spread::<1>(bytes, byte, stride, values),
                2 => spread::<2>(bytes, byte, stride, values),
                _ => spread::<4>(bytes, byte, stride, values),
            }
            memory.mark_run(place, byte, run, stride);
            done += run * place.size;
            Ok(())
        });
        debug_assert!(copied.is_ok());
    }

    /// Check that every element of the operand was written.
    #[inline]
    pub(crate) fn check(&self, place: &Place) -> Result<(), Fault> {
        if place.known {
            return Ok(());
        }
        place.runs(0, place.elements(), |byte, run, stride| self.check_run(place, byte, run, stride))
    }

    /// Mark every element of the operand as written.
    #[inline]
    pub(crate) fn mark(&mut self, place: &Place) {
        if place.known {
            return;
        }
        let memory = &mut self.memories[place.space as usize];
        let marked: Result<(), Fault> = place.runs(0, place.elements(), |byte, run, stride| {
            memory.mark_run(place, byte, run, stride);
            Ok(())
        });
        debug_assert!(marked.is_ok());
    }

    /// Bytes `start..start + len` of an operand that [is dense](Place::is_dense), if all of them were written.
    #[inline]
    pub(crate) fn checked_bytes(&self, place: &Place, start: usize, len: usize) -> Result<&[u8], Fault> {
        debug_assert!(place.is_dense());
        let memory = &self.memories[place.space as usize];
        let first = place.span.0 + start;
        if !place.known
            && let Some(byte) = memory.written.first_unwritten(first, len)
        {
            return Err(Fault::Unwritten { space: place.space, part: self.part, byte });
        }
        Ok(&memory.bytes()[first..first + len])
    }

    /// The operand will soon be read or written: ask the host for what is near its start.
    #[inline]
    pub(crate) fn ask_for(&self, place: &Place) {
        const SOME: usize = 2048;
        let (first, end) = place.span;
        kernels::prefetch(&self.memories[place.space as usize].bytes()[first..end.min(first + SOME)]);
    }

    /// One of the memories for reading what has been checked.
    #[inline]
    pub(crate) fn source(&self, space: Space) -> Source<'_> {
        Source { bytes: self.memories[space as usize].bytes() }
    }

    /// The scratchpad for reading what has been checked, and an operand in the accumulators for writing: all bytes
    /// from its first to its last. The caller marks them.
    #[inline]
    pub(crate) fn split(&mut self, acc: &Place) -> (Source<'_>, &mut [u8]) {
        debug_assert_eq!(acc.space, Space::Acc);
        let [spm, accumulators] = &mut self.memories;
        (Source { bytes: spm.bytes() }, &mut accumulators.bytes_mut()[acc.span.0..acc.span.1])
    }

    /// The operand's bytes for writing, if it [is dense](Place::is_dense); the caller marks them.
    pub(crate) fn dense_bytes_mut(&mut self, place: &Place) -> &mut [u8] {
        debug_assert!(place.is_dense());
        &mut self.memories[place.space as usize].bytes_mut()[place.span.0..place.span.1]
    }

    #[inline]
    fn check_run(&self, place: &Place, byte: usize, run: usize, stride: isize) -> Result<(), Fault> {
        if place.known {
            return Ok(());
        }
        let written = &self.memories[place.space as usize].written;
        let unwritten =
            place.spans(byte, run, stride).find_map(|(byte, len)| written.first_unwritten(byte, len));
        match unwritten {
            None => Ok(()),
            Some(byte) => Err(Fault::Unwritten { space: place.space, part: self.part, byte }),
        }
    }
}

/// A partition's memory for reading operands that [have been checked](Lane::check).
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    bytes: &'a [u8],
}

impl Source<'_> {
    /// Load elements `start..start + out.len()` of the operand as numbers.
    pub(crate) fn load<N: Number>(&self, place: &Place, start: usize, out: &mut [N]) {
        let mut done = 0;
        place.each_run_of(start, out.len(), |byte, run, stride| {
            convert::load_run(self.bytes, byte, stride, place.dt, &mut out[done..done + run]);
            done += run;
        });
    }

    /// Copy elements `start..` of the operand into dense bytes, whatever they mean.
    pub(crate) fn copy_out(&self, place: &Place, start: usize, out: &mut [u8]) {
        let (mut done, bytes) = (0, self.bytes);
        place.each_run_of(start, out.len() / place.size, |byte, run, stride| {
            let out = &mut out[done..done + run * place.size];
            match place.size {
                size if stride == size as isize => out.copy_from_slice(&bytes[byte..byte + out.len()]),
                1 => pick::<1>(bytes, byte, stride, out),
                2 => pick::<2>(bytes, byte, stride, out),
                _ => pick::<4>(bytes, byte, stride, out),
            }
            done += run * place.size;
        });
    }

    /// Bytes `start..start + len` of an operand that [is dense](Place::is_dense).
    #[inline]
    pub(crate) fn dense_bytes(&self, place: &Place, start: usize, len: usize) -> &[u8] {
        debug_assert!(place.is_dense());
        &self.bytes[place.span.0 + start..][..len]
    }

    /// Bytes `start..start + len` of a dense operand will soon be read.
    #[inline]
    pub(crate) fn prefetch(&self, place: &Place, start: usize, len: usize) {
        kernels::prefetch(self.dense_bytes(place, start, len));
    }
}

impl Memory {
    #[inline]
    fn mark_run(&mut self, place: &Place, byte: usize, run: usize, stride: isize) {
        if !place.known {
            place.spans(byte, run, stride).for_each(|(byte, len)| self.written.mark(byte, len));
        }
    }
}

/// Bytes of an operand from up to four partitions, exclusive-or `flip`, as one row of quads; partitions that are not
/// there give 0.
pub(crate) fn interleave(
    sources: [Option<Source<'_>>; 4],
    place: &Place,
    start: usize,
    flip: u8,
    out: &mut [Quad],
) {
    if let (true, [Some(a), Some(b), Some(c), Some(d)]) = (place.is_dense(), &sources) {
        let rows = [a, b, c, d].map(|source| source.dense_bytes(place, start, out.len()));
        return kernels::interleave(rows, flip, out);
    }
    const SOME: usize = 64;
    for (i, out) in out.chunks_mut(SOME).enumerate() {
        let mut side = [[flip; SOME]; 4];
        for (source, side) in sources.iter().zip(&mut side) {
            if let Some(source) = source {
                source.copy_out(place, start + i * SOME, &mut side[..out.len()]);
            }
        }
        kernels::interleave(side.each_ref().map(|side| &side[..out.len()]), flip, out);
    }
}

/// Elements of `SIZE` bytes that lie `stride` bytes apart, in a row.
fn pick<const SIZE: usize>(bytes: &[u8], byte: usize, stride: isize, out: &mut [u8]) {
    for (i, element) in out.as_chunks_mut::<SIZE>().0.iter_mut().enumerate() {
        let at = (byte as isize + i as isize * stride) as usize;
        element.copy_from_slice(&bytes[at..at + SIZE]);
    }
}

/// The reverse of [`pick`].
fn spread<const SIZE: usize>(bytes: &mut [u8], byte: usize, stride: isize, values: &[u8]) {
    let elements = values.as_chunks::<SIZE>().0;
    if stride > SIZE as isize {
        for (slot, element) in bytes[byte..].chunks_mut(stride as usize).zip(elements) {
            slot[..SIZE].copy_from_slice(element);
        }
        return;
    }
    for (i, element) in elements.iter().enumerate() {
        let at = (byte as isize + i as isize * stride) as usize;
        bytes[at..at + SIZE].copy_from_slice(element);
    }
}
