//! Which bytes an operand touches: a few strides over runs of bytes, the same in a range of partitions.
//!
//! Strides are sorted and what is contiguous is folded, so that a dense tile is one run whatever its shape. Sizes are in
//! bits until a run is given out: DRAM holds elements of four bits.

use kiln_machine::isa::{AccessPattern, Shape, View};
use kiln_machine::program::Memory;

/// The bytes of an operand, relative to a base that a register may move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) memory: Memory,
    /// First partition and one past the last; `(0, 1)` in DRAM.
    pub(crate) parts: (u32, u32),
    /// First bit of all, relative to the base.
    low: i64,
    /// Bits of a run.
    run: i64,
    /// (count, stride in bits) around the run, outermost and largest first.
    dims: Vec<(u32, i64)>,
    /// Runs that are given out in the order of `dims` ascend and do not meet.
    ascending: bool,
}

impl Footprint {
    /// An on-chip operand; the base is its register's value.
    pub(crate) fn on_chip(memory: Memory, view: &View, shape: Shape) -> Self {
        let parts = (u32::from(view.part), u32::from(view.part) + u32::from(shape.parts));
        let dims = shape.n.iter().zip(view.strides).map(|(n, stride)| (*n, stride.into()));
        Self::new(memory, parts, i64::from(view.off) * 8, view.dt.bits().into(), dims)
    }

    /// An operand in DRAM; the base is its register's value. `None` if it is empty.
    pub(crate) fn in_dram(pattern: &AccessPattern) -> Option<Self> {
        if pattern.elements() == 0 {
            return None;
        }
        let dims = pattern.size.into_iter().zip(pattern.stride);
        Some(Self::new(Memory::Dram, (0, 1), pattern.base as i64 * 8, pattern.dt.bits().into(), dims))
    }

    fn new(
        memory: Memory,
        parts: (u32, u32),
        base: i64,
        element: i64,
        dims: impl Iterator<Item = (u32, i64)>,
    ) -> Self {
        let (mut low, mut strided) = (base, Vec::new());
        for (n, stride) in dims.filter(|(n, stride)| *n > 1 && *stride != 0) {
            let stride = stride * element;
            low += (stride * (i64::from(n) - 1)).min(0);
            strided.push((n, stride.abs()));
        }
        strided.sort_by_key(|(_, stride)| std::cmp::Reverse(*stride));
        let mut run = element;
        while let Some((n, stride)) = strided.last().filter(|(_, stride)| *stride <= run) {
            run += stride * (i64::from(*n) - 1);
            strided.pop();
        }
        // Bytes of neighbouring runs may be the same even where their bits are not.
        let mut span = if low % 8 == 0 && run % 8 == 0 { run } else { run + 14 };
        let mut ascending = true;
        for (n, stride) in strided.iter().rev() {
            ascending &= *stride >= span;
            span += stride * (i64::from(*n) - 1);
        }
        Self { memory, parts, low, run, dims: strided, ascending }
    }

    /// First byte and one past the last, with this base.
    pub(crate) fn hull(&self, base: i64) -> (i64, i64) {
        let span: i64 = self.dims.iter().map(|(n, stride)| stride * (i64::from(*n) - 1)).sum();
        (base + self.low.div_euclid(8), base + (self.low + span + self.run + 7).div_euclid(8))
    }

    /// Its runs of bytes with this base, ascending and apart. No byte may be negative.
    pub(crate) fn runs(&self, base: i64, out: &mut Vec<(u64, u64)>) {
        out.clear();
        let mut index = vec![0u32; self.dims.len()];
        let mut at = self.low;
        loop {
            let (start, end) = (base + at.div_euclid(8), base + (at + self.run + 7).div_euclid(8));
            match out.last_mut() {
                Some(last) if self.ascending && last.1 == start as u64 => last.1 = end as u64,
                _ => out.push((start as u64, end as u64)),
            }
            let Some(dim) = (0..index.len()).rev().find(|d| index[*d] + 1 < self.dims[*d].0) else { break };
            for (inner, (_, stride)) in index.iter_mut().zip(&self.dims).skip(dim + 1) {
                at -= i64::from(std::mem::take(inner)) * stride;
            }
            index[dim] += 1;
            at += self.dims[dim].1;
        }
        if !self.ascending {
            out.sort_unstable();
            out.dedup_by(|next, kept| {
                let meets = next.0 <= kept.1;
                if meets {
                    kept.1 = kept.1.max(next.1);
                }
                meets
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_machine::isa::Dt;
    use std::collections::BTreeSet;

    #[test]
    fn runs_are_the_bytes_of_the_elements() {
        let mut seed = 3u64;
        let mut next = |below: i64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as i64 % below
        };
        let mut runs = Vec::new();
        for turn in 0..3000 {
            let dt = [Dt::F32, Dt::F16, Dt::U8, Dt::I4][turn % 4];
            let size = [0; 4].map(|_| 1 + next(5) as u32);
            let stride = [0; 4].map(|_| next(25) - 8);
            let pattern = AccessPattern { dt, base: 4000, size, stride };
            let base = next(3) * 4;
            let mut bytes = BTreeSet::new();
            for i in 0..size.iter().product::<u32>() {
                let (mut rest, mut element) = (i, 0);
                for d in (0..4).rev() {
                    element += i64::from(rest % size[d]) * stride[d];
                    rest /= size[d];
                }
                let bit = 4000 * 8 + element * i64::from(dt.bits());
                let last = bit + i64::from(dt.bits()) - 1;
                bytes.extend((bit.div_euclid(8)..=last.div_euclid(8)).map(|byte| (byte + base) as u64));
            }
            let footprint = Footprint::in_dram(&pattern).expect("it has elements");
            footprint.runs(base, &mut runs);
            assert!(runs.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{pattern:?}: {runs:?}");
            let found: BTreeSet<u64> = runs.iter().flat_map(|(start, end)| *start..*end).collect();
            assert_eq!(found, bytes, "{pattern:?}");
            let hull = footprint.hull(base);
            assert_eq!((hull.0 as u64, hull.1 as u64), (runs[0].0, runs[runs.len() - 1].1));
        }
    }
}
