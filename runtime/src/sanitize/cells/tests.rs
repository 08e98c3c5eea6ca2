//! The cells against one state for each byte and partition.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use kiln_machine::random::Rng;

/// A read or a write of bytes that need not have been written.
fn access(stamp: Stamp, clock: &Clock, writes: bool) -> Access<'_> {
    Access { stamp, clock, reads: !writes, writes, strict: false }
}

/// A stream tells another one what it knows.
fn tell(clocks: &mut [Clock; 3], stream: usize, other: usize) {
    clocks[stream].tick(stream);
    let message = clocks[stream].clone();
    clocks[other].join(&message);
}

/// Every access of a byte so far: (stream, time, wrote).
type Past = BTreeMap<(u32, u64), Vec<(u16, u64, bool)>>;

#[test]
fn conflicts_are_those_of_every_byte_by_itself() {
    let mut rng = Rng::new(11);
    let mut next = |below| rng.below(below);
    for memory in [Memory::Spm, Memory::Dram] {
        let partitions = if memory == Memory::Dram { 1 } else { 5 };
        let mut cells = Cells::new(1, 5, [2 * PAGE, PAGE]);
        let mut past = Past::new();
        let mut clocks = [0; 3].map(|_| Clock::default());
        let mut raced = 0;
        for _ in 0..6000 {
            let stream = next(3) as usize;
            if next(2) == 0 {
                tell(&mut clocks, stream, (stream + 1 + next(2) as usize) % 3);
                continue;
            }
            let (first, writes) = (next(u64::from(partitions)) as u32, next(3) == 0);
            let parts = (first, first + 1 + next(u64::from(partitions - first)) as u32);
            let mut runs = Vec::new();
            let mut at = PAGE - 40 + next(60);
            for _ in 0..=next(4) {
                let len = 1 + next(12);
                runs.push((at, at + len));
                at += len + next(9);
            }
            let time = clocks[stream].of(stream);
            let stamp = Stamp { time, step: 0, stream: stream as u16 };
            let clock = &clocks[stream];
            let access = access(stamp, clock, writes);
            let mut found = BTreeSet::new();
            cells.touch((0, memory), parts, &runs, &access, |conflict| {
                for part in conflict.parts.0..conflict.parts.1 {
                    let bytes = conflict.bytes.0..conflict.bytes.1;
                    found.extend(bytes.map(|byte| (part, byte)));
                }
            });
            let mut expected = BTreeSet::new();
            for place in (parts.0..parts.1).flat_map(|part| {
                runs.iter().flat_map(move |(start, end)| (*start..*end).map(move |byte| (part, byte)))
            }) {
                let accesses = past.entry(place).or_default();
                let races = accesses.iter().any(|(who, when, wrote)| {
                    usize::from(*who) != stream
                        && (writes || *wrote)
                        && !clocks[stream].knows((*who).into(), *when)
                });
                if races {
                    // From here on the two count as ordered: only the first race of a byte is exact.
                    expected.insert(place);
                    accesses.clear();
                    found.remove(&place).then_some(()).expect("a race is found");
                }
                accesses.push((stamp.stream, time, writes));
            }
            raced += expected.len();
            // What is left are bytes that raced before and are not followed exactly any more.
            if !expected.is_empty() || !found.is_empty() {
                cells = Cells::new(1, 5, [2 * PAGE, PAGE]);
                past.clear();
                assert_eq!(found, BTreeSet::new(), "no race is invented");
            }
        }
        assert!(raced > 100, "{raced} bytes raced");
    }
}

#[test]
fn a_tile_written_as_a_whole_is_one_cell() {
    let mut cells = Cells::new(1, 8, [PAGE, PAGE]);
    let clock = Clock::default();
    let write = |step| access(Stamp { time: 0, step, stream: 1 }, &clock, true);
    let columns: Vec<(u64, u64)> = (0..64).map(|i| (i * 16, i * 16 + 4)).collect();
    cells.touch((0, Memory::Spm), (0, 4), &columns, &write(0), |_| panic!("a stream is in order"));
    let bands =
        |cells: &Cells| cells.chip[0][0][0].iter().flatten().map(|band| band.cells.len()).collect::<Vec<_>>();
    assert_eq!(bands(&cells), [128, 1]);
    cells.touch((0, Memory::Spm), (0, 8), &[(0, 1024)], &write(1), |_| panic!("a stream is in order"));
    assert_eq!(bands(&cells), [2]);
}

#[test]
fn what_everyone_knows_is_forgotten() {
    let mut cells = Cells::new(1, 1, [PAGE, PAGE]);
    let clock = Clock::default();
    let stamp = Stamp { time: 3, step: 0, stream: 2 };
    let access = access(stamp, &clock, false);
    cells.touch((0, Memory::Dram), (0, 1), &[(0, 3 * PAGE)], &access, |_| {});
    assert_eq!(cells.dram.len(), 3);
    cells.forget(&clock);
    assert_eq!(cells.dram.len(), 3);
    cells.forget(&Clock::all(3));
    assert_eq!(cells.dram.len(), 0);
}

#[test]
fn reads_that_were_listed_are_entered_when_their_block_is_written() {
    use kiln_machine::isa::{AccessPattern, Dt};
    let mut rng = Rng::new(5);
    let mut next = |below| rng.below(below);
    // The same accesses, once listed and once entered at once.
    let (mut listed, mut entered) = (Cells::new(1, 1, [PAGE, PAGE]), Cells::new(1, 1, [PAGE, PAGE]));
    let mut clocks = [0; 3].map(|_| Clock::default());
    let mut conflicts = 0;
    for turn in 0..3000 {
        let stream = next(3) as usize;
        if next(3) == 0 {
            tell(&mut clocks, stream, (stream + 1 + next(2) as usize) % 3);
            continue;
        }
        let pattern = AccessPattern {
            dt: Dt::U8,
            base: next(5) * (BLOCK / 2) + BLOCK / 4,
            size: [1, 1 + next(3) as u32, 1 + next(4) as u32, 1 + next(40) as u32],
            stride: [0, 300_000, 64, 1],
        };
        let footprint = Rc::new(Footprint::in_dram(&pattern).expect("it has elements"));
        let writes = turn > 200 && next(6) == 0;
        let stamp = Stamp { time: clocks[stream].of(stream), step: turn, stream: stream as u16 };
        let access = access(stamp, &clocks[stream], writes);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        listed.access(0, &footprint, 0, &access, |conflict| ours.push((conflict.kind, conflict.bytes)));
        let mut runs = Vec::new();
        footprint.runs(0, &mut runs);
        let told = |conflict: Conflict| theirs.push((conflict.kind, conflict.bytes));
        entered.touch((0, Memory::Dram), (0, 1), &runs, &access, told);
        // Cells may be divided otherwise: compared by byte.
        let bytes = |conflicts: &[(ConflictKind, (u64, u64))]| -> BTreeSet<(ConflictKind, u64)> {
            let each = |(kind, (start, end)): &(ConflictKind, (u64, u64))| {
                let kind = *kind;
                (*start..*end).map(move |byte| (kind, byte))
            };
            conflicts.iter().flat_map(each).collect()
        };
        assert_eq!(bytes(&ours), bytes(&theirs), "{pattern:?}");
        conflicts += ours.len();
    }
    assert!(conflicts > 100 && listed.dram.len() < entered.dram.len() + 1, "{conflicts} conflicts");
}

#[test]
fn what_nothing_has_read_is_told() {
    let mut cells = Cells::new(2, 8, [PAGE, 2 * PAGE]);
    let clock = Clock::default();
    let chip =
        |step, writes| Access { strict: true, ..access(Stamp { time: 0, step, stream: 1 }, &clock, writes) };
    let acc = (1, Memory::Acc);
    cells.touch(acc, (2, 6), &[(PAGE - 8, PAGE + 8)], &chip(0, true), |_| panic!("nothing was there"));
    cells.touch(acc, (2, 6), &[(PAGE - 8, PAGE + 4)], &chip(1, false), |_| panic!("it was written"));
    let mut left = Vec::new();
    cells.unread(|core, memory, found| left.push((core, memory, found.parts, found.bytes)));
    assert_eq!(left, [(1, Memory::Acc, (2, 6), (PAGE + 4, PAGE + 8))]);
    let mut lost = Vec::new();
    cells.touch(acc, (0, 4), &[(PAGE, PAGE + 6)], &chip(2, true), |found| lost.push(found));
    let earlier = Some(Stamp { time: 0, step: 0, stream: 1 });
    let bytes = (PAGE + 4, PAGE + 6);
    assert_eq!(lost, [Conflict { kind: ConflictKind::Unread, earlier, parts: (2, 4), bytes }]);
}
