//! Where on-chip buffers live, and which of them share memory.

use std::collections::BTreeMap;

use kiln_machine::isa::Space;

use crate::lir::{BlockId, BufId, Lir, Storage};

/// Buffers of one loop body with one ring depth: their slots lie side by side, so that one register moves all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ring {
    pub block: BlockId,
    pub space_is_acc: bool,
    pub depth: u32,
    /// Bytes from one slot to the next.
    pub pitch: u64,
}

/// Place of one buffer: byte offset in the partition of slot 0, and its ring if it has more than one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub space: Space,
    pub base: u64,
    pub bytes: u64,
    pub ring: Option<Ring>,
}

impl Slot {
    /// Byte ranges of all slots.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (depth, pitch) = self.ring.map_or((1, 0), |r| (r.depth, r.pitch));
        (0..u64::from(depth)).map(move |k| (self.base + k * pitch, self.base + k * pitch + self.bytes))
    }

    fn overlaps(&self, other: &Slot) -> bool {
        self.space == other.space
            && self.ranges().any(|(lo, hi)| other.ranges().any(|(from, to)| lo < to && from < hi))
    }
}

/// DRAM range of a tensor in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub base: u64,
    pub bytes: u64,
}

/// The places of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// One per buffer.
    pub slots: Vec<Slot>,
    /// One per DRAM tensor.
    pub drams: Vec<Extent>,
}

impl Placement {
    /// Ring slots of a buffer.
    pub fn depth(&self, buf: BufId) -> u32 {
        self.slots[buf.index()].ring.map_or(1, |r| r.depth)
    }

    /// Pairs of buffers of one group that share memory.
    pub fn aliases_within_groups(&self, lir: &Lir) -> Vec<(Storage, Storage)> {
        let mut by_group: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, b) in lir.buffers.iter().enumerate() {
            by_group.entry(b.group).or_default().push(i);
        }
        let mut pairs = Vec::new();
        for members in by_group.values() {
            for (n, i) in members.iter().enumerate() {
                for j in &members[n + 1..] {
                    if self.slots[*i].overlaps(&self.slots[*j]) {
                        pairs.push((Storage::Buf(BufId(*i as u32)), Storage::Buf(BufId(*j as u32))));
                    }
                }
            }
        }
        pairs
    }
}
