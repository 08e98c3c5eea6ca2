//! Who touched which bytes when: patches of memory with vector-clock times.

use kiln_machine::isa::{Engine, Space};
use kiln_machine::program::Program;
use kiln_machine::target::Target;

use super::run::index;

/// For each engine, the number of its signals that are known to have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clock([u64; Engine::COUNT]);

impl Default for Clock {
    /// Nothing is known; an engine's own time starts at 1 (see [`Clock::own`]).
    fn default() -> Self {
        Clock([0; Engine::COUNT])
    }
}

impl Clock {
    pub fn join(&mut self, other: &Clock) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = (*a).max(b);
        }
    }

    /// The engine has sent a signal: what it does from now on is later.
    pub fn tick(&mut self, engine: Engine) {
        self.0[index(engine)] += 1;
    }

    /// The engine's present time: a signal sent now tells of it.
    fn own(&self, engine: Engine) -> u64 {
        self.0[index(engine)]
    }

    /// Whether what the engine of this index did at `time` is known to be complete: a later signal of it was received.
    fn knows(&self, who: usize, time: u64) -> bool {
        self.0[who] > time
    }
}

/// Which memory, and the bytes an operand touches in it: the same in each of a range of partitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Patch {
    space: u8,
    parts: (u64, u64),
    /// Hull in bytes.
    pub low: i64,
    pub high: i64,
    unit: i64,
    /// Extents and byte strides, largest stride first, dense inner dims folded into `unit`.
    dims: Vec<(u32, i64)>,
}

impl Patch {
    pub fn new(first: u64, last: u64, base: i64, unit: i64, n: [u32; 3], strides: [i64; 3]) -> Patch {
        let dims = n.iter().zip(strides).map(|(n, s)| (*n, s * unit)).collect();
        Patch::folded(0, (first, last), base, unit, dims)
    }

    pub fn in_dram(base: i64, unit: i64, size: [u32; 4], stride: [i64; 4]) -> Patch {
        let dims = size.iter().zip(stride).map(|(n, s)| (*n, s * unit)).collect();
        Patch::folded(2, (0, 1), base, unit, dims)
    }

    pub fn on_chip(self, space: Space) -> Patch {
        Patch { space: space as u8, ..self }
    }

    pub fn memory(&self) -> &'static str {
        ["SPM", "ACC", "DRAM"][usize::from(self.space)]
    }

    fn folded(space: u8, parts: (u64, u64), base: i64, unit: i64, mut dims: Vec<(u32, i64)>) -> Patch {
        let mut low = base;
        for (n, s) in &mut dims {
            if *s < 0 {
                low += *s * (i64::from(*n) - 1);
                *s = -*s;
            }
        }
        dims.retain(|(n, s)| *n > 1 && *s != 0);
        dims.sort_by_key(|(_, s)| std::cmp::Reverse(*s));
        let mut unit = unit;
        while let Some((n, s)) = dims.last().copied() {
            if s > unit {
                break;
            }
            unit += s * (i64::from(n) - 1);
            dims.pop();
        }
        let high = low + unit + dims.iter().map(|(n, s)| (i64::from(*n) - 1) * s).sum::<i64>();
        Patch { space, parts, low, high, unit, dims }
    }

    /// Whether some byte is in both.
    fn meets(&self, other: &Patch) -> bool {
        let hulls = self.space == other.space
            && self.low < other.high
            && other.low < self.high
            && self.parts.0 < other.parts.1
            && other.parts.0 < self.parts.1;
        hulls && (self.dims.is_empty() && other.dims.is_empty() || self.runs_meet(other))
    }

    /// Exact test by merging the two sorted lists of runs.
    fn runs_meet(&self, other: &Patch) -> bool {
        let (a, b) = (self.runs(), other.runs());
        let (mut i, mut j) = (0, 0);
        while i < a.len() && j < b.len() {
            if a[i] < b[j] + other.unit && b[j] < a[i] + self.unit {
                return true;
            }
            if a[i] < b[j] { i += 1 } else { j += 1 }
        }
        false
    }

    /// Starts of the contiguous runs, ascending.
    fn runs(&self) -> Vec<i64> {
        let mut starts = vec![self.low];
        for (n, s) in &self.dims {
            let before = std::mem::take(&mut starts);
            for start in before {
                starts.extend((0..i64::from(*n)).map(|i| start + i * s));
            }
        }
        starts.sort_unstable();
        starts
    }
}

/// Buckets that a memory's addresses are divided into.
const BUCKETS: i64 = 512;

/// The latest time of a patch by an engine; an earlier one is ordered whenever the latest is.
#[derive(Clone)]
struct Entry {
    patch: Patch,
    /// The engine's index.
    who: usize,
    writes: bool,
    time: u64,
    pc: u32,
}

/// All patches touched so far.
pub(super) struct Shadow {
    /// By memory and address bucket.
    buckets: [Vec<Vec<Entry>>; 3],
    widths: [i64; 3],
    /// DRAM ranges that hold the image, which nobody may write.
    image: Vec<(i64, i64)>,
}

impl Shadow {
    pub fn new(program: &Program, target: &Target) -> Shadow {
        let sizes = [target.spm_partition_bytes(), target.acc_partition_bytes(), program.dram_bytes];
        let mut image: Vec<(i64, i64)> =
            program.image.iter().map(|e| (e.address as i64, e.end() as i64)).collect();
        image.sort_unstable();
        Shadow {
            buckets: sizes.map(|_| vec![Vec::new(); BUCKETS as usize]),
            widths: sizes.map(|s| (s as i64 / BUCKETS + 1).max(1)),
            image,
        }
    }

    /// Notes an access; gives an earlier one by another engine that conflicts with it and is not known to be complete.
    pub fn access(
        &mut self,
        engine: Engine,
        pc: u32,
        patch: &Patch,
        writes: bool,
        clock: &Clock,
    ) -> Option<(Engine, u32)> {
        let memory = usize::from(patch.space);
        if memory == 2 && !writes && self.in_image(patch) {
            return None;
        }
        let width = self.widths[memory];
        let (from, to) = ((patch.low / width).max(0), ((patch.high - 1) / width).min(BUCKETS - 1));
        let (who, time) = (index(engine), clock.own(engine));
        for bucket in from..=to {
            let entries = &mut self.buckets[memory][bucket as usize];
            let mut known = None;
            for (i, e) in entries.iter().enumerate() {
                if e.who == who {
                    if e.writes == writes && e.patch == *patch {
                        known = Some(i);
                    }
                } else if (writes || e.writes) && !clock.knows(e.who, e.time) && e.patch.meets(patch) {
                    return Engine::from_index(e.who).map(|by| (by, e.pc));
                }
            }
            match known {
                Some(i) => (entries[i].time, entries[i].pc) = (time, pc),
                None => entries.push(Entry { patch: patch.clone(), who, writes, time, pc }),
            }
        }
        None
    }

    fn in_image(&self, patch: &Patch) -> bool {
        let after = self.image.partition_point(|(lo, _)| *lo <= patch.low);
        after > 0 && self.image[after - 1].1 >= patch.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_columns_do_not_meet() {
        let columns = |first: i64| Patch::new(0, 4, first * 4, 4, [1, 8, 2], [0, 4, 1]);
        assert!(columns(0).meets(&columns(0)) && columns(0).meets(&columns(1)));
        assert!(!columns(0).meets(&columns(2)));
        let elsewhere = Patch::new(4, 8, 0, 4, [1, 8, 2], [0, 4, 1]);
        assert!(!columns(0).meets(&elsewhere));
    }

    #[test]
    fn a_signal_makes_earlier_accesses_known() {
        let (mut a, mut b) = (Clock::default(), Clock::default());
        let (vec, then) = (index(Engine::Vec), a.own(Engine::Vec));
        assert!(!b.knows(vec, then));
        a.tick(Engine::Vec);
        b.join(&a);
        assert!(b.knows(vec, then) && !b.knows(vec, a.own(Engine::Vec)));
    }
}
