//! Places on-chip buffers: interval packing per group and memory.
//!
//! Attempts, each only if the one before does not fit: every buffer has its own bytes and its full ring; buffers that
//! are apart in time share bytes, those used last longest ago, but for buffers of one loop body; these too; as tight as
//! it goes; rings lose slots, the largest first; nothing is left to give and the group does not fit.
//! Sharing and shorter rings cost overlap, never correctness: the constraints are computed afterwards.
//!
//! Rings get the slots they may have as far as the group stays within half of the memory: groups take turns at its two
//! ends, so the loads of the next one run ahead into the other half.

use std::collections::BTreeMap;

use kiln_machine::isa::Space;

use crate::error::BackendError;
use crate::lir::{BlockId, Item, Lir, ROOT, Storage};
use crate::placement::{Ring, Slot};

/// Slots start at multiples of so many bytes of a partition: a memory word, or an element when memory is short.
const ALIGNMENTS_BYTES: [u64; 2] = [32, 4];

/// Slots of a ring at most, tried in turn; the last whatever the memory they take.
const DEPTHS: [u32; 5] = [64, 32, 16, 8, 4];

/// Capacities in bytes of one partition, and the number of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub partitions: u32,
    pub spm_bytes: u64,
    pub acc_bytes: u64,
}

/// What packing one memory of one group came to; bytes of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    pub group: usize,
    pub space: Space,
    pub peak_bytes: u64,
    /// The most that is live at once: no packing can need less.
    pub max_live_bytes: u64,
    /// Ring slots given up to fit.
    pub slots_dropped: u32,
    pub shares_memory: bool,
}

/// Buffers that move together: the slots of one ring, or one buffer.
#[derive(Clone, Debug)]
struct Unit {
    members: Vec<(usize, u64)>,
    block: BlockId,
    depth: u32,
    /// Bytes of one slot.
    pitch: u64,
    /// Leaf positions, inclusive.
    live: (usize, usize),
}

impl Unit {
    fn bytes(&self) -> u64 {
        self.pitch * u64::from(self.depth)
    }
}

/// Places every buffer of the program.
pub fn allocate(lir: &Lir, capacity: Capacity) -> Result<(Vec<Slot>, Vec<Packing>), BackendError> {
    let lifetimes = lifetimes(lir);
    let bodies = bodies(lir);
    let mut slots: Vec<Option<Slot>> = vec![None; lir.buffers.len()];
    let mut packings = Vec::new();
    for (group, info) in lir.groups.iter().enumerate() {
        for (space, limit) in [(Space::Spm, capacity.spm_bytes), (Space::Acc, capacity.acc_bytes)] {
            let members: Vec<usize> = (0..lir.buffers.len())
                .filter(|b| lir.buffers[*b].group == group && lir.buffers[*b].space == space)
                .collect();
            if members.is_empty() {
                continue;
            }
            let mut attempt = |align| {
                let partitions = capacity.partitions;
                pack_group(
                    lir,
                    partitions,
                    group,
                    space,
                    (limit, align),
                    &members,
                    (&lifetimes, &bodies),
                    &mut slots,
                )
            };
            let [wide, narrow] = ALIGNMENTS_BYTES;
            let packing =
                attempt(wide).or_else(|_| attempt(narrow)).map_err(|missing| BackendError::DoesNotFit {
                    group: info.name.clone(),
                    space,
                    missing_bytes: missing * u64::from(capacity.partitions),
                })?;
            packings.push(packing);
        }
    }
    let unused = Slot { space: Space::Spm, base: 0, bytes: 0, ring: None };
    Ok((slots.into_iter().map(|s| s.unwrap_or(unused)).collect(), packings))
}

#[allow(clippy::too_many_arguments)]
fn pack_group(
    lir: &Lir,
    partitions: u32,
    group: usize,
    space: Space,
    (limit, align): (u64, u64),
    members: &[usize],
    leaves: (&[(usize, usize)], &[(usize, usize)]),
    slots: &mut [Option<Slot>],
) -> Result<Packing, u64> {
    let wanted = |most: u32| -> BTreeMap<usize, u32> {
        let depth = |b: &usize| {
            let buffer = &lir.buffers[*b];
            let runs = u32::try_from(lir.executions(buffer.block)).unwrap_or(u32::MAX);
            if buffer.block == ROOT { 1 } else { buffer.depth.clamp(1, most).min(runs) }
        };
        members.iter().map(|b| (*b, depth(b))).collect()
    };
    let mut modes = Sharing::ALL.into_iter();
    let mut mode = Sharing::Nothing;
    let mut most = DEPTHS.into_iter().peekable();
    let (mut depths, mut units, mut bases) = loop {
        let depths = wanted(most.next().unwrap_or(1));
        let units = units(lir, (partitions, align), &depths, leaves);
        let bases = pack(&units, mode, limit);
        if peak(&units, &bases) <= limit / 2 || most.peek().is_none() {
            break (depths, units, bases);
        }
    };
    let wanted: u32 = depths.values().sum();
    loop {
        let peak = peak(&units, &bases);
        if peak <= limit {
            break;
        }
        if let Some(next) = modes.next() {
            mode = next;
        } else {
            let Some(largest) = units.iter().filter(|u| u.depth > 1).max_by_key(|u| u.pitch) else {
                return Err(peak - limit);
            };
            for (b, _) in &largest.members {
                depths.insert(*b, largest.depth - 1);
            }
            units = self::units(lir, (partitions, align), &depths, leaves);
        }
        bases = pack(&units, mode, limit);
    }
    let peak_bytes = peak(&units, &bases);
    for (unit, base) in units.iter().zip(&bases) {
        // groups take turns at the two ends of the memory, so that one can start while the last one still runs
        let base =
            if group.is_multiple_of(2) { *base } else { (limit - base - unit.bytes()) / align * align };
        let ring = (unit.depth > 1).then_some(Ring {
            block: unit.block,
            space_is_acc: space == Space::Acc,
            depth: unit.depth,
            pitch: unit.pitch,
        });
        for (b, offset) in &unit.members {
            let bytes = lir.buffers[*b].slot_bytes(partitions);
            slots[*b] = Some(Slot { space, base: base + offset, bytes, ring });
        }
    }
    Ok(Packing {
        group,
        space,
        peak_bytes,
        max_live_bytes: max_live(&units),
        slots_dropped: wanted - depths.values().sum::<u32>(),
        shares_memory: mode != Sharing::Nothing,
    })
}

fn units(
    lir: &Lir,
    (partitions, align): (u32, u64),
    depths: &BTreeMap<usize, u32>,
    (lifetimes, bodies): (&[(usize, usize)], &[(usize, usize)]),
) -> Vec<Unit> {
    let mut rings: BTreeMap<(BlockId, u32), Unit> = BTreeMap::new();
    let mut units = Vec::new();
    for (b, depth) in depths {
        let buffer = &lir.buffers[*b];
        let bytes = buffer.slot_bytes(partitions).next_multiple_of(align);
        if *depth == 1 {
            units.push(Unit {
                members: vec![(*b, 0)],
                block: buffer.block,
                depth: 1,
                pitch: bytes,
                live: lifetimes[*b],
            });
            continue;
        }
        let body = bodies[buffer.block.index()];
        let unit = rings.entry((buffer.block, *depth)).or_insert(Unit {
            members: Vec::new(),
            block: buffer.block,
            depth: *depth,
            pitch: 0,
            live: body,
        });
        unit.members.push((*b, unit.pitch));
        unit.pitch += bytes;
    }
    units.extend(rings.into_values());
    units
}

/// Which buffers may have the same bytes. What shares bytes waits for one another, so the least is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// None.
    Nothing,
    /// All that are apart in time but those of one loop body, bytes used last longest ago.
    Bodies,
    /// All that are apart in time, bytes used last longest ago.
    Oldest,
    /// All that are apart in time, as tight as it goes.
    Tight,
}

impl Sharing {
    /// After [`Sharing::Nothing`], in the order they are tried.
    const ALL: [Sharing; 3] = [Sharing::Bodies, Sharing::Oldest, Sharing::Tight];

    /// Whether two units must not have the same bytes.
    fn parts(self, unit: &Unit, other: &Unit) -> bool {
        let at_once = unit.live.0 <= other.live.1 && other.live.0 <= unit.live.1;
        match self {
            Sharing::Nothing => true,
            Sharing::Bodies => at_once || (unit.block == other.block && unit.block != ROOT),
            Sharing::Oldest | Sharing::Tight => at_once,
        }
    }
}

/// Offsets of the units.
fn pack(units: &[Unit], sharing: Sharing, limit: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..units.len()).collect();
    match sharing {
        Sharing::Nothing | Sharing::Tight => {
            order.sort_by_key(|i| (std::cmp::Reverse(units[*i].bytes()), units[*i].live, *i));
            pack_first_fit(units, &order, sharing)
        }
        Sharing::Bodies | Sharing::Oldest => {
            order.sort_by_key(|i| (units[*i].live, std::cmp::Reverse(units[*i].bytes()), *i));
            pack_oldest(units, &order, sharing, limit)
        }
    }
}

/// Each in turn at the lowest offset where it fits.
fn pack_first_fit(units: &[Unit], order: &[usize], sharing: Sharing) -> Vec<u64> {
    let mut bases = vec![0; units.len()];
    for (n, &i) in order.iter().enumerate() {
        let unit = &units[i];
        let placed = order[..n].iter().filter(|j| sharing.parts(unit, &units[**j]));
        let mut taken: Vec<(u64, u64)> = placed.map(|j| (bases[*j], bases[*j] + units[*j].bytes())).collect();
        taken.sort_unstable();
        for (lo, hi) in taken {
            if bases[i] + unit.bytes() <= lo {
                break;
            }
            bases[i] = bases[i].max(hi);
        }
    }
    bases
}

/// Each in turn on the bytes whose last use is over for longest, so that what fills it may run far ahead; beyond
/// `limit` where it fits nowhere within.
fn pack_oldest(units: &[Unit], order: &[usize], sharing: Sharing, limit: u64) -> Vec<u64> {
    let mut bases = vec![0; units.len()];
    for (n, &i) in order.iter().enumerate() {
        let unit = &units[i];
        let placed = &order[..n];
        let end = |j: &usize| bases[*j] + units[*j].bytes();
        let overlaps = |base: u64, j: &usize| base < end(j) && bases[*j] < base + unit.bytes();
        // The last use of bytes at `base`, as a leaf and one; none where the unit cannot lie there.
        let used = |base: u64| {
            let mut others = placed.iter().filter(|j| overlaps(base, j));
            others.try_fold(0, |last: usize, j| {
                (!sharing.parts(unit, &units[*j])).then(|| last.max(units[*j].live.1 + 1))
            })
        };
        let mut starts: Vec<u64> = placed.iter().map(end).chain([0]).collect();
        starts.sort_unstable();
        starts.dedup();
        let within = starts.iter().filter(|base| **base + unit.bytes() <= limit);
        let oldest = within.filter_map(|&base| Some((used(base)?, base))).min();
        let above = || placed.iter().map(end).max().unwrap_or(0);
        bases[i] = oldest.map_or_else(above, |(_, base)| base);
    }
    bases
}

fn peak(units: &[Unit], bases: &[u64]) -> u64 {
    units.iter().zip(bases).map(|(u, b)| b + u.bytes()).max().unwrap_or(0)
}

fn max_live(units: &[Unit]) -> u64 {
    let at = |t: usize| units.iter().filter(|u| u.live.0 <= t && t <= u.live.1).map(Unit::bytes).sum();
    units.iter().map(|u| at(u.live.0)).max().unwrap_or(0)
}

/// First and last leaf (works in program order) of each block's body.
fn bodies(lir: &Lir) -> Vec<(usize, usize)> {
    let mut ranges = vec![(usize::MAX, 0); lir.blocks.len()];
    let mut next = 0;
    visit(lir, ROOT, &mut next, &mut |leaf, path, _| {
        for (block, _) in path {
            let range = &mut ranges[block.index()];
            *range = (range.0.min(leaf), range.1.max(leaf));
        }
    });
    ranges
}

/// For each buffer the leaves over which an instance must be kept: whole items of the block that makes it.
fn lifetimes(lir: &Lir) -> Vec<(usize, usize)> {
    let mut items: BTreeMap<(BlockId, usize), (usize, usize)> = BTreeMap::new();
    let mut uses: Vec<Vec<(BlockId, usize)>> = vec![Vec::new(); lir.buffers.len()];
    let mut next = 0;
    visit(lir, ROOT, &mut next, &mut |leaf, path, work| {
        for place in path {
            let range = items.entry(*place).or_insert((leaf, leaf));
            range.1 = leaf;
        }
        for access in &work.accesses {
            if let Storage::Buf(b) = access.storage {
                let home = lir.buffers[b.index()].block;
                uses[b.index()].extend(path.iter().find(|(block, _)| *block == home));
            }
        }
    });
    uses.iter()
        .map(|places| {
            let from = places.iter().map(|p| items[p].0).min().unwrap_or(0);
            let to = places.iter().map(|p| items[p].1).max().unwrap_or(0);
            (from, to)
        })
        .collect()
}

fn visit(
    lir: &Lir,
    block: BlockId,
    next: &mut usize,
    f: &mut impl FnMut(usize, &[(BlockId, usize)], &crate::lir::Work),
) {
    fn go(
        lir: &Lir,
        block: BlockId,
        path: &mut Vec<(BlockId, usize)>,
        next: &mut usize,
        f: &mut impl FnMut(usize, &[(BlockId, usize)], &crate::lir::Work),
    ) {
        for (at, item) in lir.blocks[block.index()].items.iter().enumerate() {
            path.push((block, at));
            match item {
                Item::Loop(body) => go(lir, *body, path, next, f),
                Item::Work(work) => {
                    f(*next, path, work);
                    *next += 1;
                }
            }
            path.pop();
        }
    }
    go(lir, block, &mut Vec::new(), next, f);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(pitch: u64, depth: u32, live: (usize, usize)) -> Unit {
        Unit { members: Vec::new(), block: ROOT, depth, pitch, live }
    }

    #[test]
    fn buffers_share_bytes_only_when_asked_and_apart_in_time() {
        let units = [unit(64, 1, (0, 1)), unit(32, 1, (2, 3)), unit(96, 1, (1, 2)), unit(32, 2, (3, 4))];
        assert_eq!(peak(&units, &pack(&units, Sharing::Nothing, 1000)), 64 + 32 + 96 + 64);
        let bases = pack(&units, Sharing::Tight, 160);
        assert_eq!(bases, [96, 96, 0, 0]);
        assert_eq!(peak(&units, &bases), 160);
        // with room, what is made later lies elsewhere
        let bases = pack(&units, Sharing::Oldest, 230);
        assert_eq!(bases, [0, 160, 64, 0]);
        assert_eq!(max_live(&units), 160);
    }
}
