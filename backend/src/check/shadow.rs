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

    /// What both know.
    pub fn meet(&mut self, other: &Clock) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = (*a).min(b);
        }
    }

    /// Whether what the engine of this index did at `time` is known to be complete: a later signal of it was received.
    fn knows(&self, who: usize, time: u64) -> bool {
        self.0[who] > time
    }
}

/// Which memory, and the bytes an operand touches in it: the same in each of a range of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    space: u8,
    parts: (u64, u64),
    /// Hull in bytes.
    pub low: i64,
    pub high: i64,
    unit: i64,
    /// Extents and byte strides, largest stride first, dense inner dims folded into `unit`; (1, 0) past `rank`.
    dims: [(u32, i64); 4],
    rank: u8,
}

impl Patch {
    pub fn new(first: u64, last: u64, base: i64, unit: i64, n: [u32; 3], strides: [i64; 3]) -> Patch {
        let dim = |i: usize| (n[i], strides[i] * unit);
        Patch::folded(0, (first, last), base, unit, [dim(0), dim(1), dim(2), (1, 0)])
    }

    pub fn in_dram(base: i64, unit: i64, size: [u32; 4], stride: [i64; 4]) -> Patch {
        Patch::folded(2, (0, 1), base, unit, [0, 1, 2, 3].map(|i| (size[i], stride[i] * unit)))
    }

    pub fn on_chip(self, space: Space) -> Patch {
        Patch { space: space as u8, ..self }
    }

    pub fn memory(&self) -> &'static str {
        ["SPM", "ACC", "DRAM"][usize::from(self.space)]
    }

    fn folded(space: u8, parts: (u64, u64), base: i64, unit: i64, mut dims: [(u32, i64); 4]) -> Patch {
        let mut low = base;
        for (n, s) in &mut dims {
            if *s < 0 {
                low += *s * (i64::from(*n) - 1);
                *s = -*s;
            }
            if *n <= 1 || *s == 0 {
                (*n, *s) = (1, 0);
            }
        }
        dims.sort_unstable_by_key(|(_, s)| std::cmp::Reverse(*s));
        let mut rank = dims.iter().filter(|(_, s)| *s != 0).count();
        let mut unit = unit;
        while rank > 0 && dims[rank - 1].1 <= unit {
            let (n, s) = std::mem::replace(&mut dims[rank - 1], (1, 0));
            unit += s * (i64::from(n) - 1);
            rank -= 1;
        }
        let high = low + unit + dims.iter().map(|(n, s)| (i64::from(*n) - 1) * s).sum::<i64>();
        Patch { space, parts, low, high, unit, dims, rank: rank as u8 }
    }

    /// Whether every byte of the other is in this one; false where that is not plain to see.
    fn covers(&self, other: &Patch) -> bool {
        let bytes = if self.rank == 0 {
            self.low <= other.low && other.high <= self.high
        } else {
            (self.low, self.unit, self.dims) == (other.low, other.unit, other.dims)
        };
        bytes && self.space == other.space && self.parts.0 <= other.parts.0 && other.parts.1 <= self.parts.1
    }

    /// Whether some byte is in both.
    fn meets(&self, other: &Patch) -> bool {
        let hulls = self.space == other.space
            && self.low < other.high
            && other.low < self.high
            && self.parts.0 < other.parts.1
            && other.parts.0 < self.parts.1;
        hulls && (self.rank == 0 && other.rank == 0 || self.runs_meet(other))
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
        for (n, s) in &self.dims[..usize::from(self.rank)] {
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

/// An access that a later one may conflict with.
#[derive(Clone)]
struct Entry {
    patch: Patch,
    /// The engine's index.
    who: usize,
    writes: bool,
    time: u64,
    pc: u32,
}

/// The accesses that a later one may have to be ordered after.
///
/// An access is forgotten when a later one stands for it, since whoever is ordered after the later one is ordered
/// after it too: one of the same engine that covers its bytes and conflicts with as much, or another engine's write
/// that covers its bytes and was ordered after it.
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
            let mut i = 0;
            while let Some(e) = entries.get(i) {
                let ordered = e.who == who || clock.knows(e.who, e.time);
                if !ordered && (writes || e.writes) && e.patch.meets(patch) {
                    return Engine::from_index(e.who).map(|by| (by, e.pc));
                }
                let as_strict = writes || (e.who == who && !e.writes);
                if ordered && as_strict && patch.covers(&e.patch) {
                    entries.swap_remove(i);
                } else {
                    i += 1;
                }
            }
            entries.push(Entry { patch: *patch, who, writes, time, pc });
        }
        None
    }

    /// Forgets what `all`, the knowledge common to all engines still running, knows to be complete.
    pub fn forget(&mut self, all: &Clock) {
        for entries in self.buckets.iter_mut().flatten() {
            entries.retain(|e| !all.knows(e.who, e.time));
        }
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
    fn a_write_stands_for_what_it_was_ordered_after() {
        let (program, target) = (Program::default(), Target::preset("edge").expect("a preset"));
        let mut shadow = Shadow::new(&program, &target);
        let row = |at: i64, n: u32| Patch::new(0, 4, at, 4, [n, 1, 1], [1, 0, 0]);
        let (mut vec, mut act, mut mxu) = (Clock::default(), Clock::default(), Clock::default());
        assert_eq!(shadow.access(Engine::Vec, 1, &row(0, 8), true, &vec), None);
        assert_eq!(shadow.access(Engine::Act, 2, &row(16, 8), true, &act), Some((Engine::Vec, 1)));
        vec.tick(Engine::Vec);
        act.join(&vec);
        assert_eq!(shadow.access(Engine::Act, 2, &row(0, 16), true, &act), None);
        assert_eq!(shadow.access(Engine::Mxu, 3, &row(0, 1), false, &mxu), Some((Engine::Act, 2)));
        act.tick(Engine::Act);
        mxu.join(&act);
        assert_eq!(shadow.access(Engine::Mxu, 3, &row(0, 1), false, &mxu), None);
        // the reader is not ordered before the next write of either
        assert_eq!(shadow.access(Engine::Vec, 4, &row(0, 8), true, &vec), Some((Engine::Act, 2)));
        vec.join(&act);
        assert_eq!(shadow.access(Engine::Vec, 4, &row(0, 8), true, &vec), Some((Engine::Mxu, 3)));
    }

    #[test]
    fn what_all_know_is_forgotten() {
        let (program, target) = (Program::default(), Target::preset("edge").expect("a preset"));
        let mut shadow = Shadow::new(&program, &target);
        let mut clock = Clock::default();
        assert_eq!(
            shadow.access(Engine::Vec, 1, &Patch::new(0, 4, 0, 4, [8, 1, 1], [1, 0, 0]), true, &clock),
            None
        );
        let kept = |shadow: &Shadow| shadow.buckets.iter().flatten().map(Vec::len).sum::<usize>();
        shadow.forget(&clock);
        assert_ne!(kept(&shadow), 0);
        clock.tick(Engine::Vec);
        shadow.forget(&clock);
        assert_eq!(kept(&shadow), 0);
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
