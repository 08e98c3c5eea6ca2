//! The on-chip memories, one partition after another, and typed access to strided operands in them.
//!
//! VEC and ACT never move data between partitions, so a [`Lane`] (one partition of both memories) is the
//! unit of their work and of their parallelism. Operands are walked in row-major order of their three free
//! dims; every load names a range of that order and converts runs, so arithmetic happens on plain slices.

use kiln_machine::isa::{Dt, Space, View};

use crate::convert::{self, Number};
use crate::shadow::Shadow;

/// One partition of the scratchpad and of the accumulators.
pub(crate) struct Lane {
    part: usize,
    memories: [Memory; 2],
}

struct Memory {
    bytes: Vec<u8>,
    written: Shadow,
}

impl Memory {
    fn new(size: usize) -> Self {
        Self { bytes: vec![0; size], written: Shadow::new(size) }
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
}

impl Place {
    /// Elements in each partition.
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().map(|dim| dim.n).product()
    }

    /// Whether the elements of one partition are one run of bytes, in order.
    pub(crate) fn is_dense(&self) -> bool {
        let [d0, d1, d2] = self.dims;
        d0.n == 1 && d1.n == 1 && (d2.n == 1 || d2.stride == self.size as isize)
    }

    /// The same elements read as 32-bit patterns; only for types of 32 bits.
    pub(crate) fn as_bits(&self) -> Self {
        debug_assert_eq!(self.size, 4);
        Place { dt: Dt::I32, ..*self }
    }

    /// Bytes of one element.
    pub(crate) fn element_bytes(&self) -> usize {
        self.size
    }

    /// Call `visit(byte, elements, stride)` for the runs of elements `start..start + len`.
    #[inline]
    pub(crate) fn runs<E>(
        &self,
        start: usize,
        len: usize,
        mut visit: impl FnMut(usize, usize, isize) -> Result<(), E>,
    ) -> Result<(), E> {
        let [d0, d1, d2] = self.dims;
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
    spm_bytes: usize,
    acc_bytes: usize,
}

impl OnChip {
    /// Memories with nothing written; sizes in bytes for each partition.
    pub(crate) fn new(parts: usize, spm_bytes: usize, acc_bytes: usize) -> Self {
        let lane = |part| Lane { part, memories: [Memory::new(spm_bytes), Memory::new(acc_bytes)] };
        Self { lanes: (0..parts).map(lane).collect(), spm_bytes, acc_bytes }
    }

    /// Nothing is written any more; the bytes stay, since none can be read before it is written.
    pub(crate) fn clear(&mut self) {
        self.lanes.iter_mut().flat_map(|lane| &mut lane.memories).for_each(|memory| memory.written.clear());
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
        Ok(Place {
            space: view.space,
            part,
            dt: view.dt,
            base: base as usize,
            span: (first as usize, end as usize),
            size,
            dims: merged(n, view.strides, size),
        })
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
            convert::load_run(&memory.bytes, byte, stride, place.dt, &mut out[done..done + run]);
            done += run;
            Ok(())
        })
    }

    /// Store numbers as elements `start..start + values.len()` of the operand.
    pub(crate) fn store<N: Number>(&mut self, place: &Place, start: usize, values: &[N]) {
        let memory = &mut self.memories[place.space as usize];
        let mut done = 0;
        let stored: Result<(), Fault> = place.runs(start, values.len(), |byte, run, stride| {
            convert::store_run(&mut memory.bytes, byte, stride, place.dt, &values[done..done + run]);
            memory.mark_run(byte, run, stride, place.size);
            done += run;
            Ok(())
        });
        debug_assert!(stored.is_ok());
    }

    /// Copy elements `start..` of the operand into dense bytes, whatever they mean.
    pub(crate) fn copy_out(&self, place: &Place, start: usize, out: &mut [u8]) -> Result<(), Fault> {
        let bytes = &self.memories[place.space as usize].bytes;
        let mut done = 0;
        place.runs(start, out.len() / place.size, |byte, run, stride| {
            self.check_run(place, byte, run, stride)?;
            let out = &mut out[done..done + run * place.size];
            if stride == place.size as isize {
                out.copy_from_slice(&bytes[byte..byte + out.len()]);
            } else {
                for (i, element) in out.chunks_exact_mut(place.size).enumerate() {
                    let at = (byte as isize + i as isize * stride) as usize;
                    element.copy_from_slice(&bytes[at..at + place.size]);
                }
            }
            done += run * place.size;
            Ok(())
        })
    }

    /// Copy dense bytes over elements `start..` of the operand.
    pub(crate) fn copy_in(&mut self, place: &Place, start: usize, values: &[u8]) {
        let memory = &mut self.memories[place.space as usize];
        let mut done = 0;
        let copied: Result<(), Fault> = place.runs(start, values.len() / place.size, |byte, run, stride| {
            let values = &values[done..done + run * place.size];
            if stride == place.size as isize {
                memory.bytes[byte..byte + values.len()].copy_from_slice(values);
            } else {
                for (i, element) in values.chunks_exact(place.size).enumerate() {
                    let at = (byte as isize + i as isize * stride) as usize;
                    memory.bytes[at..at + place.size].copy_from_slice(element);
                }
            }
            memory.mark_run(byte, run, stride, place.size);
            done += run * place.size;
            Ok(())
        });
        debug_assert!(copied.is_ok());
    }

    /// Check that every element of the operand was written.
    pub(crate) fn check(&self, place: &Place) -> Result<(), Fault> {
        place.runs(0, place.elements(), |byte, run, stride| self.check_run(place, byte, run, stride))
    }

    /// Mark every element of the operand as written.
    pub(crate) fn mark(&mut self, place: &Place) {
        let memory = &mut self.memories[place.space as usize];
        let marked: Result<(), Fault> = place.runs(0, place.elements(), |byte, run, stride| {
            memory.mark_run(byte, run, stride, place.size);
            Ok(())
        });
        debug_assert!(marked.is_ok());
    }

    /// The operand's bytes, if it [is dense](Place::is_dense).
    pub(crate) fn dense_bytes(&self, place: &Place) -> &[u8] {
        debug_assert!(place.is_dense());
        &self.memories[place.space as usize].bytes[place.span.0..place.span.1]
    }

    /// The operand's bytes for writing, if it [is dense](Place::is_dense); the caller marks them.
    pub(crate) fn dense_bytes_mut(&mut self, place: &Place) -> &mut [u8] {
        debug_assert!(place.is_dense());
        &mut self.memories[place.space as usize].bytes[place.span.0..place.span.1]
    }

    fn check_run(&self, place: &Place, byte: usize, run: usize, stride: isize) -> Result<(), Fault> {
        let written = &self.memories[place.space as usize].written;
        let unwritten = if stride == place.size as isize {
            written.first_unwritten(byte, run * place.size)
        } else {
            let distinct = if stride == 0 { 1 } else { run };
            (0..distinct).find_map(|i| {
                written.first_unwritten((byte as isize + i as isize * stride) as usize, place.size)
            })
        };
        match unwritten {
            None => Ok(()),
            Some(byte) => Err(Fault::Unwritten { space: place.space, part: self.part, byte }),
        }
    }
}

impl Memory {
    fn mark_run(&mut self, byte: usize, run: usize, stride: isize, size: usize) {
        if stride == size as isize {
            self.written.mark(byte, run * size);
        } else {
            for i in 0..run {
                self.written.mark((byte as isize + i as isize * stride) as usize, size);
            }
        }
    }
}
