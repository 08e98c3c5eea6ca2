//! Access to the elements of operands, where they lie in a partition.

use super::Place;
use super::lent::Rows;
use crate::convert::{self, Number};
use crate::kernels::arena::{Granted, ReadLines};
use crate::kernels::{self, product::Quad};

impl Place {
    /// Lines of elements `first..first + len` of an operand that [is dense](Self::is_dense) in `rows` partitions, the
    /// first of them `down` from its own.
    pub(crate) fn read_lines<'a>(
        &self,
        granted: &'a Granted<'_>,
        (down, rows): (usize, usize),
        (first, len): (usize, usize),
    ) -> ReadLines<'a> {
        debug_assert!(self.dense);
        let bytes = (self.span.0 + first * self.size, len * self.size);
        granted.read_lines(self.field, (self.part + down, rows), bytes)
    }
}

/// Access to operands by partition.
impl Granted<'_> {
    /// Load elements `start..start + out.len()` of the operand as numbers.
    pub(crate) fn load<N: Number>(&self, place: &Place, part: usize, start: usize, out: &mut [N]) {
        load_from(self.row(place.field, part), place, start, out);
    }

    /// Elements `start..start + buffer.len()` of the operand as numbers: where they lie if they are such, else loaded into
    /// the buffer.
    pub(crate) fn numbers<'a, N: Number>(
        &'a self,
        place: &Place,
        part: usize,
        start: usize,
        buffer: &'a mut [N],
    ) -> &'a [N] {
        let (bytes, first) = self.row(place.field, part);
        if place.dense && N::is_stored_as(place.dt) {
            let run = &bytes[place.span.0 - first + start * place.size..][..buffer.len() * place.size];
            if let Some(numbers) = kernels::as_numbers(run) {
                return numbers;
            }
        }
        load_from((bytes, first), place, start, buffer);
        buffer
    }

    /// Store numbers as elements `start..start + values.len()` of the operand.
    pub(crate) fn store<N: Number>(&mut self, place: &Place, part: usize, start: usize, values: &[N]) {
        let (bytes, first) = self.row_mut(place.field, part);
        let mut done = 0;
        place.each_run_of(start, values.len(), |byte, run, stride| {
            convert::store_run(bytes, byte - first, stride, place.dt, &values[done..done + run]);
            done += run;
        });
    }

    /// Copy elements `start..` of the operand into dense bytes, whatever they mean.
    pub(crate) fn copy_out(&self, place: &Place, part: usize, start: usize, out: &mut [u8]) {
        copy_from(self.row(place.field, part), place, start, out);
    }

    /// Copy dense bytes over elements `start..` of the operand.
    pub(crate) fn copy_in(&mut self, place: &Place, part: usize, start: usize, values: &[u8]) {
        let (bytes, first) = self.row_mut(place.field, part);
        let [outermost, outer, inner] = place.dims;
        let size = place.size;
        // Many short runs are better taken as a few long ones across them, if no two elements are one.
        let turned = outermost.n == 1
            && (2..outer.n).contains(&inner.n)
            && inner.stride >= outer.n as isize * outer.stride.max(1);
        if turned && start == 0 && values.len() == place.elements() * size {
            for i in 0..inner.n {
                let byte = (place.base as isize + i as isize * inner.stride) as usize - first;
                let of = (&values[i * size..], inner.n);
                match size {
                    1 => spread::<1>(bytes, byte, outer.stride, of),
                    2 => spread::<2>(bytes, byte, outer.stride, of),
                    _ => spread::<4>(bytes, byte, outer.stride, of),
                }
            }
            return;
        }
        let mut done = 0;
        place.each_run_of(start, values.len() / size, |byte, run, stride| {
            let (values, byte) = (&values[done..done + run * size], byte - first);
            match size {
                size if stride == size as isize => bytes[byte..byte + values.len()].copy_from_slice(values),
                1 => spread::<1>(bytes, byte, stride, (values, 1)),
                2 => spread::<2>(bytes, byte, stride, (values, 1)),
                _ => spread::<4>(bytes, byte, stride, (values, 1)),
            }
            done += run * size;
        });
    }

    /// All bytes of an operand that [is dense](Place::is_dense).
    #[inline]
    pub(crate) fn dense_mut(&mut self, place: &Place, part: usize) -> &mut [u8] {
        debug_assert!(place.is_dense());
        let (bytes, first) = self.row_mut(place.field, part);
        &mut bytes[place.span.0 - first..place.span.1 - first]
    }

    /// The operand will soon be read or written: ask the host for what is near its start.
    #[inline]
    pub(crate) fn ask_for(&self, place: &Place, part: usize) {
        const SOME: usize = 2048;
        let (bytes, first) = self.row(place.field, part);
        let bytes = &bytes[place.span.0 - first..place.span.1 - first];
        kernels::prefetch(&bytes[..bytes.len().min(SOME)]);
    }
}

/// Elements `start..start + out.len()` of an operand as numbers, from its bytes in a partition.
pub(super) fn load_from<N: Number>(
    (bytes, first): (&[u8], usize),
    place: &Place,
    start: usize,
    out: &mut [N],
) {
    let mut done = 0;
    place.each_run_of(start, out.len(), |byte, run, stride| {
        convert::load_run(bytes, byte - first, stride, place.dt, &mut out[done..done + run]);
        done += run;
    });
}

/// The same as dense bytes, whatever they mean.
pub(super) fn copy_from((bytes, first): (&[u8], usize), place: &Place, start: usize, out: &mut [u8]) {
    let mut done = 0;
    place.each_run_of(start, out.len() / place.size, |byte, run, stride| {
        let (out, byte) = (&mut out[done..done + run * place.size], byte - first);
        match place.size {
            size if stride == size as isize => out.copy_from_slice(&bytes[byte..byte + out.len()]),
            1 => pick::<1>(bytes, byte, stride, out),
            2 => pick::<2>(bytes, byte, stride, out),
            _ => pick::<4>(bytes, byte, stride, out),
        }
        done += run * place.size;
    });
}

/// Bytes of an operand from up to four partitions from `part` on, exclusive-or `flip`, as one row of quads; partitions
/// beyond `parts` give 0.
pub(crate) fn interleave(
    (rows, granted): (&Rows, &Granted<'_>),
    place: &Place,
    (part, parts): (usize, usize),
    start: usize,
    flip: u8,
    out: &mut [Quad],
) {
    const SOME: usize = 64;
    for (i, out) in out.chunks_mut(SOME).enumerate() {
        let mut side = [[flip; SOME]; 4];
        for (part, side) in (part..part + parts).zip(&mut side) {
            rows.copy_out(granted, place, part, start + i * SOME, &mut side[..out.len()]);
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

/// The reverse of [`pick`], of every so many elements.
fn spread<const SIZE: usize>(bytes: &mut [u8], byte: usize, stride: isize, (values, every): (&[u8], usize)) {
    let elements = values.as_chunks::<SIZE>().0.iter().step_by(every);
    if stride >= SIZE as isize {
        for (slot, element) in bytes[byte..].chunks_mut(stride as usize).zip(elements) {
            slot[..SIZE].copy_from_slice(element);
        }
        return;
    }
    for (i, element) in elements.enumerate() {
        let at = (byte as isize + i as isize * stride) as usize;
        bytes[at..at + SIZE].copy_from_slice(element);
    }
}
