//! Buffers: what a compiler placed in the memories, and which operand of which instruction lies in which of them.
//!
//! A program runs without them. With them a sanitizer can tell an operand that leaves its buffer for a neighbour's.

use crate::isa::{Operand, Space};

/// A memory that operands lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Memory {
    /// The scratchpad.
    Spm,
    /// The accumulators.
    Acc,
    /// Off chip.
    Dram,
}

impl Memory {
    /// All of them.
    pub const ALL: [Memory; 3] = [Memory::Spm, Memory::Acc, Memory::Dram];

    /// Its name in texts and reports.
    pub fn name(self) -> &'static str {
        match self {
            Memory::Spm => "spm",
            Memory::Acc => "acc",
            Memory::Dram => "dram",
        }
    }

    /// Where an operand lies.
    pub fn of(operand: &Operand) -> Memory {
        match operand {
            Operand::OnChip { view, .. } => view.space.into(),
            Operand::Dram { .. } => Memory::Dram,
        }
    }
}

impl From<Space> for Memory {
    fn from(space: Space) -> Self {
        match space {
            Space::Spm => Memory::Spm,
            Space::Acc => Memory::Acc,
        }
    }
}

/// A place that was given to one value at a time: on chip the same bytes in some partitions, once or as a ring of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// What the compiler calls it.
    pub name: String,
    /// Index into [`super::Program::origins`] of what writes it, if that is known.
    pub origin: Option<u32>,
    /// Which memory.
    pub memory: Memory,
    /// First partition and one past the last; `(0, 1)` in DRAM.
    pub parts: (u32, u32),
    /// First byte of slot 0 (in each partition), and the bytes of a slot.
    pub offset: u64,
    /// Bytes of a slot.
    pub bytes: u64,
    /// Slots, at least 1.
    pub slots: u32,
    /// Bytes from one slot to the next.
    pub pitch: u64,
}

impl Buffer {
    /// First byte of its slots and one past the last (saturating).
    pub fn hull(&self) -> (u64, u64) {
        let last = u64::from(self.slots.max(1) - 1).saturating_mul(self.pitch);
        (self.offset, self.offset.saturating_add(last).saturating_add(self.bytes))
    }

    /// Whether these bytes of these partitions of its memory lie in one slot.
    pub fn holds(&self, parts: (u32, u32), (first, end): (i64, i64)) -> bool {
        let inside = self.parts.0 <= parts.0 && parts.1 <= self.parts.1;
        let Some(distance) = u64::try_from(first).ok().and_then(|first| first.checked_sub(self.offset))
        else {
            return false;
        };
        let slot = distance.checked_div(self.pitch).unwrap_or(0).min(u64::from(self.slots.max(1) - 1));
        let start = self.offset + slot * self.pitch;
        inside && i128::from(end) <= i128::from(start) + i128::from(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_slot_is_held() {
        let ring = Buffer {
            name: "ring".into(),
            origin: None,
            memory: Memory::Spm,
            parts: (0, 4),
            offset: 100,
            bytes: 20,
            slots: 3,
            pitch: 30,
        };
        let held: Vec<i64> = (0..300).filter(|at| ring.holds((1, 4), (*at, at + 20))).collect();
        assert_eq!(held, [100, 130, 160]);
        assert_eq!((0..300).filter(|at| ring.holds((1, 4), (*at, at + 1))).count(), 60);
        assert!(!ring.holds((1, 5), (100, 101)) && !ring.holds((0, 1), (-1, 101)));
        let (first, end) = ring.hull();
        assert_eq!((first, end), (100, 180));
        let one = Buffer { slots: 1, pitch: 0, ..ring };
        assert!(one.holds((0, 4), (100, 120)) && !one.holds((0, 4), (101, 121)));
    }
}
