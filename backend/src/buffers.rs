//! The table of buffers that a program carries: those that instructions name, numbered as they are first met.

use std::collections::BTreeMap;

use kiln_ir::tile;
use kiln_machine::program::{Buffer, Memory};
use kiln_machine::target::Target;

use crate::lir::{BufId, DramId, Lir, Storage};
use crate::placement::Placement;

/// The table under construction.
pub struct Table<'a> {
    source: &'a tile::Program,
    lir: &'a Lir,
    placement: &'a Placement,
    partitions: u32,
    buffers: Vec<Buffer>,
    numbers: BTreeMap<Storage, u32>,
}

impl<'a> Table<'a> {
    /// No buffer yet, of a placed program.
    pub fn new(source: &'a tile::Program, lir: &'a Lir, placement: &'a Placement, target: &Target) -> Self {
        let partitions = target.partitions as u32;
        Self { source, lir, placement, partitions, buffers: Vec::new(), numbers: BTreeMap::new() }
    }

    /// The numbers of what the operands of a stream lie in; `writer` is the origin of what writes a storage there.
    pub fn numbers(
        &mut self,
        operands: &[Option<Storage>],
        mut writer: impl FnMut(Storage) -> Option<u32>,
    ) -> Vec<Option<u32>> {
        let mut number = |storage: Storage| {
            let number = *self.numbers.entry(storage).or_insert_with(|| {
                self.buffers.push(match storage {
                    Storage::Buf(id) => on_chip(self.lir, self.placement, self.partitions, id),
                    Storage::Dram(id) => in_dram(self.source, self.placement, id),
                });
                self.buffers.len() as u32 - 1
            });
            let origin = &mut self.buffers[number as usize].origin;
            if origin.is_none() {
                *origin = writer(storage);
            }
            number
        };
        operands.iter().map(|storage| storage.map(&mut number)).collect()
    }

    /// The table.
    pub fn finish(self) -> Vec<Buffer> {
        self.buffers
    }
}

/// Named by its group and its place among the group's buffers.
fn on_chip(lir: &Lir, placement: &Placement, partitions: u32, id: BufId) -> Buffer {
    let (buffer, slot) = (&lir.buffers[id.index()], &placement.slots[id.index()]);
    let group = &lir.groups[buffer.group];
    let before = lir.buffers[..id.index()].iter().rev().take_while(|other| other.group == buffer.group);
    Buffer {
        name: format!("{}.{}", group.name, before.count()),
        origin: None,
        memory: slot.space.into(),
        parts: (0, buffer.extents[buffer.part].min(partitions)),
        offset: slot.base,
        bytes: buffer.slot_bytes(partitions),
        slots: slot.ring.map_or(1, |ring| ring.depth),
        pitch: slot.ring.map_or(0, |ring| ring.pitch),
    }
}

/// Named as the binding that it is, else as in the tile program.
fn in_dram(source: &tile::Program, placement: &Placement, id: DramId) -> Buffer {
    let (dram, place) = (&source.drams[id.index()], placement.drams[id.index()]);
    let name = match &dram.kind {
        tile::DramKind::Input(port) | tile::DramKind::Output(port) => port.name.clone(),
        _ => dram.name.clone(),
    };
    let memory = Memory::Dram;
    let (offset, bytes) = (place.base, place.bytes);
    Buffer { name, origin: None, memory, parts: (0, 1), offset, bytes, slots: 1, pitch: 0 }
}
