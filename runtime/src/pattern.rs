//! DRAM operands: access patterns resolved to addresses, and moving their elements to and from dense bytes.

use kiln_machine::isa::{AccessPattern, Dt};

use crate::dram::{Cursor, Dram, Unwritten};
use crate::error::TrapKind;

/// An access pattern whose register is read and whose bounds are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DramPlace {
    pub(crate) dt: Dt,
    /// Byte address of element 0.
    base: u64,
    /// (extent, stride in elements), outermost first.
    dims: [(usize, i64); 4],
}

/// One dim of a walk over DRAM and dense bytes at once; strides in elements.
#[derive(Clone, Copy, Debug)]
struct Step {
    n: usize,
    dram: i64,
    dense: usize,
}

/// In which order the elements of a place are walked; the same for all rows of a pattern.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// Outermost first; the first `depth` of them count.
    outer: [Step; 4],
    depth: usize,
    run: Step,
    empty: bool,
}

/// Elements of a run that lie at most so far apart are read with what is between them.
const NEAR: i64 = 16;

/// Bytes of a row that are asked for ahead; behind them the host foresees what comes.
const PREFETCH_BYTES: usize = 1024;

/// Elements along a row that are read together where rows lie side by side.
const TURNED: usize = 16;

impl DramPlace {
    /// Resolve a pattern with its register's value added.
    ///
    /// `size` is the memory's, in bytes.
    pub(crate) fn new(pattern: &AccessPattern, reg_value: i64, size: u64) -> Result<Self, TrapKind> {
        let base = i128::from(pattern.base) + i128::from(reg_value);
        let bits = i128::from(pattern.dt.bits());
        let (mut low, mut high) = (0i128, 0i128);
        for (n, stride) in pattern.size.into_iter().zip(pattern.stride) {
            let end = i128::from(stride) * (i128::from(n) - 1).max(0);
            low += end.min(0);
            high += end.max(0);
        }
        let (first, end) = (base + (low * bits).div_euclid(8), base + ((high + 1) * bits + 7).div_euclid(8));
        if pattern.elements() > 0 && (first < 0 || end > i128::from(size)) {
            return Err(TrapKind::DramOutOfBounds { first, end, size });
        }
        if base % (bits / 8).max(1) != 0 {
            return Err(TrapKind::DramMisaligned { byte: base, dt: pattern.dt });
        }
        let dims = std::array::from_fn(|d| (pattern.size[d] as usize, pattern.stride[d]));
        Ok(Self { dt: pattern.dt, base: base.max(0) as u64, dims })
    }

    /// If the elements of each partition are one run of bytes, and partitions follow one another upwards: the first
    /// byte, the bytes of a partition, and those from one to the next.
    pub(crate) fn rows_of_bytes(&self) -> Option<(u64, usize, u64)> {
        let size = self.dt.bytes()? as usize;
        let mut len = 1;
        for (n, stride) in self.dims[1..].iter().rev().filter(|(n, _)| *n > 1) {
            if *stride != len as i64 {
                return None;
            }
            len *= n;
        }
        let (parts, stride) = self.dims[0];
        let pitch = if parts > 1 { u64::try_from(stride).ok()? * size as u64 } else { 0 };
        (pitch > 0 || parts == 1).then_some((self.base, len * size, pitch))
    }

    /// First byte and one past the last.
    pub(crate) fn span(&self) -> (u64, u64) {
        let (mut low, mut high) = (0, 0);
        for (n, stride) in self.dims {
            let end = stride * (n as i64 - 1).max(0);
            low += end.min(0);
            high += end.max(0);
        }
        let bits = i64::from(self.dt.bits());
        let first = self.base as i64 + (low * bits).div_euclid(8);
        let end = self.base as i64 + ((high + 1) * bits + 7).div_euclid(8);
        (first as u64, end as u64)
    }

    /// The type of the elements once in dense bytes: 4-bit ones take a byte each.
    pub(crate) fn dense_dt(&self) -> Dt {
        match self.dt {
            Dt::I4 => Dt::I8,
            Dt::U4 => Dt::U8,
            dt => dt,
        }
    }

    /// Whether walking the partition dim innermost gives runs that the last dims do not.
    pub(crate) fn runs_over_partitions(&self) -> bool {
        let [partition, .., last] = self.dims;
        let inner = self.dims[1..].iter().rev().find(|(n, _)| *n > 1).unwrap_or(&last);
        partition.1 == 1 && partition.0 > 1 && inner.0 > 1 && inner.1 != 1
    }

    /// Whether two elements lie at one address.
    pub(crate) fn repeats(&self) -> bool {
        self.dims.iter().any(|(n, stride)| *n > 1 && *stride == 0)
    }

    /// The place of index `i` along the outermost dim, that dim reduced to it.
    pub(crate) fn row(&self, i: i64) -> Self {
        let mut dims = self.dims;
        let offset = i * dims[0].1;
        dims[0] = (1, 0);
        let base = match self.dt.bytes() {
            Some(size) => self.base as i64 + offset * i64::from(size),
            None => self.base as i64 + offset / 2,
        };
        Self { base: base as u64, dims, ..*self }
    }

    /// Whether the row of index `i` starts in the middle of a byte.
    pub(crate) fn splits_a_byte(&self, i: i64) -> bool {
        self.dt.bytes().is_none() && (i * self.dims[0].1) % 2 != 0
    }

    /// Elements in all dims.
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().map(|(n, _)| n).product()
    }

    /// The partitions `first..first + count` of the outermost dim.
    pub(crate) fn rows(&self, first: usize, count: usize) -> Self {
        let row = self.row(first as i64);
        let dims = [(count, self.dims[0].1), row.dims[1], row.dims[2], row.dims[3]];
        Self { dims, ..row }
    }

    /// Read all elements into dense row-major bytes of [`Self::dense_dt`].
    pub(crate) fn read(&self, dram: &Dram, cursor: &mut Cursor, out: &mut [u8]) -> Result<(), Unwritten> {
        self.read_by(&self.walk(), dram, cursor, out)
    }

    /// The same with the walk of this place or of another row of its pattern.
    pub(crate) fn read_by(
        &self,
        walk: &Walk,
        dram: &Dram,
        cursor: &mut Cursor,
        out: &mut [u8],
    ) -> Result<(), Unwritten> {
        match self.dt.bytes() {
            None => self.read_nibbles(dram, cursor, out),
            Some(1) => self.read_as::<1>(walk, dram, cursor, out),
            Some(2) => self.read_as::<2>(walk, dram, cursor, out),
            Some(_) => self.read_as::<4>(walk, dram, cursor, out),
        }
    }

    fn read_as<const SIZE: usize>(
        &self,
        walk: &Walk,
        dram: &Dram,
        cursor: &mut Cursor,
        out: &mut [u8],
    ) -> Result<(), Unwritten> {
        let mut line = Vec::new();
        let element = |address: u64, cursor: &mut Cursor| {
            let mut element = [0; SIZE];
            dram.read(cursor, address, &mut element).map(|()| element)
        };
        self.visit(walk, |address, at, step| {
            let span = &mut out[at * SIZE..];
            match (step.dram, step.dense) {
                (1, 1) => dram.read(cursor, address, &mut span[..step.n * SIZE]),
                (1, apart) => {
                    line.resize(step.n * SIZE, 0);
                    dram.read(cursor, address, &mut line)?;
                    spread::<SIZE>(line.as_chunks().0.iter(), span, apart);
                    Ok(())
                }
                (0, apart) => {
                    let element = element(address, cursor)?;
                    spread::<SIZE>(std::iter::repeat_n(&element, step.n), span, apart);
                    Ok(())
                }
                (stride, apart) => {
                    if (2..=NEAR).contains(&stride) {
                        line.resize(((step.n - 1) * stride as usize + 1) * SIZE, 0);
                        // What lies between need not be written; then each element is read by itself.
                        if dram.read(cursor, address, &mut line).is_ok() {
                            let near = line.as_chunks().0.iter().step_by(stride as usize);
                            spread::<SIZE>(near, span, apart);
                            return Ok(());
                        }
                    }
                    for i in 0..step.n {
                        let address = address as i64 + i as i64 * stride * SIZE as i64;
                        span[i * apart * SIZE..][..SIZE].copy_from_slice(&element(address as u64, cursor)?);
                    }
                    Ok(())
                }
            }
        })
    }

    /// As [`Self::read`] where elements along the outermost dim are neighbours: some of each row at a time, so that
    /// neither side is touched in long strides only.
    pub(crate) fn read_turned(
        &self,
        dram: &Dram,
        cursor: &mut Cursor,
        out: &mut [u8],
    ) -> Result<(), Unwritten> {
        match self.dt.bytes() {
            Some(1) => self.read_turned_as::<1>(dram, cursor, out),
            Some(2) => self.read_turned_as::<2>(dram, cursor, out),
            Some(4) => self.read_turned_as::<4>(dram, cursor, out),
            _ => self.read(dram, cursor, out),
        }
    }

    fn read_turned_as<const SIZE: usize>(
        &self,
        dram: &Dram,
        cursor: &mut Cursor,
        out: &mut [u8],
    ) -> Result<(), Unwritten> {
        let [(rows, along), (n0, s0), (n1, s1), (n2, s2)] = self.dims;
        debug_assert_eq!(along, 1);
        let elements = n0 * n1 * n2;
        let mut block = vec![0; TURNED * rows * SIZE];
        for start in (0..elements).step_by(TURNED) {
            let some = TURNED.min(elements - start);
            for (i, line) in block.chunks_mut(rows * SIZE).enumerate().take(some) {
                let (i0, i1, i2) = ((start + i) / (n1 * n2), (start + i) / n2 % n1, (start + i) % n2);
                let offset = i0 as i64 * s0 + i1 as i64 * s1 + i2 as i64 * s2;
                dram.read(cursor, (self.base as i64 + offset * SIZE as i64) as u64, line)?;
            }
            for (row, out) in out.chunks_mut(elements * SIZE).enumerate() {
                let out = &mut out[start * SIZE..][..some * SIZE];
                for (slot, line) in out.as_chunks_mut::<SIZE>().0.iter_mut().zip(block.chunks(rows * SIZE)) {
                    slot.copy_from_slice(&line[row * SIZE..][..SIZE]);
                }
            }
        }
        Ok(())
    }

    /// The first runs of this place will soon be read, if their elements are neighbours.
    pub(crate) fn prefetch(&self, walk: &Walk, dram: &Dram, cursor: &mut Cursor) {
        if walk.run.dram != 1 {
            return;
        }
        let mut left = PREFETCH_BYTES;
        let asked = self.visit(walk, |address, _, run| {
            let bytes = (run.n * self.dt.bytes().unwrap_or(1) as usize).min(left);
            dram.prefetch(cursor, address, bytes);
            left -= bytes;
            if left == 0 { Err(()) } else { Ok(()) }
        });
        debug_assert!(asked.is_ok() || left == 0);
    }

    /// Write dense row-major bytes to all elements.
    pub(crate) fn write(&self, dram: &mut Dram, bytes: &[u8]) -> Result<(), TrapKind> {
        self.write_by(&self.walk(), dram, bytes)
    }

    /// The same with the walk of this place or of another row of its pattern.
    pub(crate) fn write_by(&self, walk: &Walk, dram: &mut Dram, bytes: &[u8]) -> Result<(), TrapKind> {
        let Some(size) = self.dt.bytes() else { return Err(TrapKind::ElementType { dt: self.dt }) };
        let size = size as usize;
        let mut line = Vec::new();
        self.visit(walk, |address, at, step| {
            let span = &bytes[at * size..];
            match (step.dram, step.dense) {
                (1, 1) => dram.write(address, &span[..step.n * size]),
                (1, apart) => {
                    line.clear();
                    for i in 0..step.n {
                        line.extend_from_slice(&span[i * apart * size..][..size]);
                    }
                    dram.write(address, &line);
                }
                (stride, apart) => {
                    for i in 0..step.n {
                        let address = address as i64 + i as i64 * stride * size as i64;
                        dram.write(address as u64, &span[i * apart * size..][..size]);
                    }
                }
            }
            Ok(())
        })
    }

    /// As [`Self::read`] for 4-bit elements, the low nibble of a byte first.
    fn read_nibbles(&self, dram: &Dram, cursor: &mut Cursor, out: &mut [u8]) -> Result<(), Unwritten> {
        let [d0, d1, d2, d3] = self.dims;
        let mut out = out.iter_mut();
        for i0 in 0..d0.0 as i64 {
            for i1 in 0..d1.0 as i64 {
                for i2 in 0..d2.0 as i64 {
                    for i3 in 0..d3.0 as i64 {
                        let element = i0 * d0.1 + i1 * d1.1 + i2 * d2.1 + i3 * d3.1;
                        let mut byte = [0];
                        let address = self.base as i64 + element.div_euclid(2);
                        dram.read(cursor, address as u64, &mut byte)?;
                        let nibble = byte[0] >> (element.rem_euclid(2) * 4) & 15;
                        let value = if self.dt == Dt::I4 { ((nibble << 4) as i8 >> 4) as u8 } else { nibble };
                        if let Some(slot) = out.next() {
                            *slot = value;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The walk along runs in the dim that is best walked innermost.
    pub(crate) fn walk(&self) -> Walk {
        let none = Step { n: 1, dram: 1, dense: 1 };
        let (mut steps, mut depth) = self.steps();
        // A dim without gaps, best if dense on both sides; else the last.
        let used = &steps[..depth];
        let best = used
            .iter()
            .rposition(|step| step.dram == 1)
            .or_else(|| used.iter().rposition(|step| step.dram == 0))
            .or(depth.checked_sub(1));
        let run = match best {
            Some(best) => {
                let run = steps[best];
                steps.copy_within(best + 1.., best);
                depth -= 1;
                run
            }
            None => none,
        };
        Walk { outer: steps, depth, run, empty: self.elements() == 0 }
    }

    /// Call `visit(byte address, dense index, run)` for the runs of a walk.
    #[inline(always)]
    fn visit<E>(
        &self,
        walk: &Walk,
        mut visit: impl FnMut(u64, usize, Step) -> Result<(), E>,
    ) -> Result<(), E> {
        if walk.empty {
            return Ok(());
        }
        let size = i64::from(self.dt.bytes().unwrap_or(1));
        let mut index = [0; 4];
        let (mut offset, mut dense) = (0i64, 0);
        loop {
            visit((self.base as i64 + offset * size) as u64, dense, walk.run)?;
            // Count up, innermost first.
            let mut level = walk.depth;
            loop {
                let Some(up) = level.checked_sub(1) else { return Ok(()) };
                level = up;
                let step = walk.outer[level];
                index[level] += 1;
                offset += step.dram;
                dense += step.dense;
                if index[level] < step.n {
                    break;
                }
                offset -= step.dram * step.n as i64;
                dense -= step.dense * step.n;
                index[level] = 0;
            }
        }
    }

    /// The dims longer than 1, neighbours joined where both sides continue, and their number.
    fn steps(&self) -> ([Step; 4], usize) {
        let mut steps = [Step { n: 1, dram: 1, dense: 1 }; 4];
        let mut used = 0usize;
        let mut dense = self.elements();
        for (n, dram) in self.dims {
            dense /= n.max(1);
            let step = Step { n, dram, dense };
            match used.checked_sub(1).map(|last| &mut steps[last]) {
                _ if n == 1 => {}
                Some(last) if last.dram == n as i64 * dram && last.dense == n * dense => {
                    *last = Step { n: last.n * n, ..step };
                }
                _ => {
                    steps[used] = step;
                    used += 1;
                }
            }
        }
        (steps, used)
    }
}

/// Elements in a row to places `apart` elements apart.
#[inline(always)]
fn spread<'a, const SIZE: usize>(
    elements: impl Iterator<Item = &'a [u8; SIZE]>,
    out: &mut [u8],
    apart: usize,
) {
    for (slot, element) in out.as_chunks_mut::<SIZE>().0.iter_mut().step_by(apart).zip(elements) {
        *slot = *element;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dram::{Extent, Source};

    fn memory() -> Dram {
        let bytes = (0..4096u32).map(|i| (i % 251) as u8).collect();
        let source = Source::Bytes { bytes, offset: 0, pitch: 0 };
        Dram::new(1 << 16, vec![Extent { address: 0, pitch: 0, rows: 1, row_bytes: 4096, source }])
    }

    /// Dense, broadcast, transposed, strided, negative and merged patterns against the definition.
    #[test]
    fn reads_and_writes_what_the_definition_says() {
        for (dt, size, stride, base) in [
            (Dt::F32, [2, 3, 4, 5], [60i64, 20, 5, 1], 16u64),
            (Dt::U8, [4, 1, 3, 7], [0, 5, 10, 1], 3),
            (Dt::F16, [8, 1, 1, 6], [1, 0, 0, 8], 2),
            (Dt::I32, [3, 2, 2, 4], [100, -9, 4, -1], 400),
            (Dt::U8, [3, 2, 2, 4], [200, 60, 30, 2], 40),
            (Dt::F32, [1, 1, 1, 1], [0, 0, 0, 0], 8),
            (Dt::F32, [2, 0, 1, 1], [0, 0, 0, 0], 8),
        ] {
            let mut dram = memory();
            let pattern = AccessPattern { dt, base, size, stride };
            let place = DramPlace::new(&pattern, 4, dram.size()).expect("in bounds");
            let bytes = (dt.bits() / 8) as usize;
            let mut got = vec![0; place.elements() * bytes];
            place.read(&dram, &mut Cursor::default(), &mut got).expect("written");
            let mut addresses = Vec::new();
            for i0 in 0..size[0] as i64 {
                for i1 in 0..size[1] as i64 {
                    for i2 in 0..size[2] as i64 {
                        for i3 in 0..size[3] as i64 {
                            let e = i0 * stride[0] + i1 * stride[1] + i2 * stride[2] + i3 * stride[3];
                            addresses.push((base as i64 + 4 + e * bytes as i64) as u64);
                        }
                    }
                }
            }
            let want: Vec<u8> =
                addresses.iter().flat_map(|a| (*a..a + bytes as u64).map(|b| (b % 251) as u8)).collect();
            assert_eq!(got, want, "{pattern:?}");
            if !place.repeats() {
                let new: Vec<u8> = (0..got.len()).map(|i| (i * 7 + 1) as u8).collect();
                place.write(&mut dram, &new).expect("whole bytes");
                place.read(&dram, &mut Cursor::default(), &mut got).expect("written");
                assert_eq!(got, new, "{pattern:?}");
            }
        }
    }

    #[test]
    fn nibbles_come_low_first() {
        let bytes = vec![0x21u8, 0xF3].into();
        let source = Source::Bytes { bytes, offset: 0, pitch: 0 };
        let dram = Dram::new(64, vec![Extent { address: 8, pitch: 0, rows: 1, row_bytes: 2, source }]);
        let pattern = AccessPattern { dt: Dt::I4, base: 8, size: [1, 1, 1, 4], stride: [0, 0, 0, 1] };
        let place = DramPlace::new(&pattern, 0, dram.size()).expect("in bounds");
        let mut out = [0; 4];
        place.read(&dram, &mut Cursor::default(), &mut out).expect("written");
        assert_eq!(out, [1, 2, 3, 0xFF]);
    }

    #[test]
    fn leaving_the_memory_is_told() {
        let dram = memory();
        let pattern =
            AccessPattern { dt: Dt::F32, base: 65_536 - 8, size: [1, 1, 1, 3], stride: [0, 0, 0, 1] };
        let kind = DramPlace::new(&pattern, 0, dram.size()).expect_err("one element too many");
        assert_eq!(kind, TrapKind::DramOutOfBounds { first: 65_528, end: 65_540, size: 65_536 });
    }
}
