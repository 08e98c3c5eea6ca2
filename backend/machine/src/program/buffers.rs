//! What a compiler knows of a segment besides its instructions: where buffers lie on chip, and who uses which.
//!
//! A program runs without it. With it a sanitizer can tell an operand that leaves its buffer for a neighbour's.

use std::collections::BTreeMap;

use crate::isa::{Engine, Space};

/// A buffer on chip: the same bytes in every partition, once or as a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferPlace {
    /// Which memory.
    pub space: Space,
    /// First byte of slot 0 in a partition.
    pub offset: u64,
    /// Bytes of a slot in a partition.
    pub bytes: u64,
    /// Slots, at least 1.
    pub slots: u32,
    /// Bytes from one slot to the next.
    pub pitch: u64,
}

/// The buffers of a device segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// All of them.
    pub places: Vec<BufferPlace>,
    /// For each stream, in ascending order, the first words of instructions with on-chip operands, and the buffers that
    /// these lie in.
    pub uses: BTreeMap<Engine, Vec<(u32, Vec<u32>)>>,
}

impl BufferPlace {
    /// Whether bytes of a partition lie in one slot.
    pub fn holds(&self, space: Space, (first, end): (i64, i64)) -> bool {
        self.space == space
            && (0..u64::from(self.slots)).any(|slot| {
                let start = (self.offset + slot * self.pitch) as i64;
                start <= first && end <= start + self.bytes as i64
            })
    }
}

impl Buffers {
    /// The buffers that the operands of an instruction lie in; `None` if that is not known.
    pub fn of(&self, engine: Engine, pc: u32) -> Option<&[u32]> {
        let uses = self.uses.get(&engine)?;
        let at = uses.binary_search_by_key(&pc, |(word, _)| *word).ok()?;
        Some(&uses[at].1)
    }
}
