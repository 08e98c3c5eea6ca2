//! Constants: fills, index patterns, and the per-partition scalars that an instruction has no immediate for.

use std::collections::BTreeMap;

use kiln_ir::tile;
use kiln_machine::isa::{Dt, Space};

use super::elementwise::{Affine, Predicate, walk};
use super::geometry::Tile;
use super::{Fault, Place, Selector, maps};
use crate::lir::{BufId, Buffer, Code, Engine, Grid, MOp, Mode, Opnd, ROOT, Terms, Work};

impl Selector<'_> {
    pub(super) fn fill(&mut self, dst: &tile::View, value: f64, place: Place) -> Result<(), Fault> {
        let dst = self.tile(dst)?;
        let accesses = vec![dst.access(Mode::Write)];
        let code = self.fill_code(&dst, value)?;
        self.push(place, Engine::VEC, code, accesses);
        Ok(())
    }

    /// An iota without steps writes whole numbers; others are added to 0.
    fn fill_code(&mut self, dst: &Tile, value: f64) -> Result<Vec<Code>, String> {
        let whole = value.fract() == 0.0
            && value.abs() < f64::from(1 << 24)
            && !(value == 0.0 && value.is_sign_negative());
        let base = if whole { value as i64 } else { 0 };
        let form = Affine { base, axes: vec![0; dst.sizes.len()], terms: Terms::new() };
        let imm = maps::immediate(value, dst.dt.is_integer());
        walk(&mut self.lir, self.partitions, &[dst], &[], Some(&form), &mut |step| {
            let ([d], Some(f)) = (step.opnds, &step.predicate) else { return Vec::new() };
            let mut ops = vec![iota(d.clone(), step.grid, f)];
            if !whole {
                let op = kiln_machine::isa::VecOp::Add;
                let (dst, a, grid) = (d.clone(), d.clone(), step.grid);
                ops.push(MOp::Vts { op, dst, a, imm, reversed: false, grid });
            }
            ops
        })
    }

    /// A per-partition constant in ACC (scratchpad is what runs short first), made once at the start of the group.
    fn constant(&mut self, value: f64, integer: bool, part: usize, place: Place) -> Result<Tile, Fault> {
        let bits = maps::immediate(value, integer);
        if let Some(known) = self.group.constants.get(&(bits, integer)) {
            return Ok(Tile { part, ..known.clone() });
        }
        let mut extents = vec![1; self.group.rank];
        extents[part] = self.partitions;
        let buf = BufId(self.lir.buffers.len() as u32);
        let dt = if integer { Dt::I32 } else { Dt::F32 };
        let buffer = Buffer {
            group: self.group.index,
            extents: extents.clone(),
            part,
            order: (0..extents.len()).filter(|axis| *axis != part).collect(),
            dt,
            space: Space::Acc,
            depth: 1,
            block: ROOT,
        };
        let zeros = vec![0; extents.len()];
        let tile = Tile::new(&buffer, buf, self.partitions, &zeros, &extents, &BTreeMap::new())?;
        self.lir.buffers.push(buffer);
        let code = self.fill_code(&tile, value)?;
        let accesses = vec![tile.access(Mode::Write)];
        self.group.prelude.push(Work { engine: Engine::VEC, code, accesses, origin: place.origin });
        self.group.constants.insert((bits, integer), tile.clone());
        Ok(tile)
    }

    /// A constant as an operand beside `like`: the same partitions, extent 1 elsewhere.
    pub(super) fn constant_like(
        &mut self,
        value: f64,
        integer: bool,
        like: &Tile,
        place: Place,
    ) -> Result<Tile, Fault> {
        let mut tile = self.constant(value, integer, like.part, place)?;
        // the value is the same everywhere: any chunk of the operand reads the one there is
        tile.sizes = vec![1; like.sizes.len()];
        tile.sizes[like.part] = like.parts();
        tile.part = like.part;
        tile.part0 = like.part0;
        tile.strides = vec![0; like.sizes.len()];
        Ok(tile)
    }
}

/// The instruction that writes `f` over `grid`.
pub(super) fn iota(dst: Opnd, grid: Grid, f: &Predicate) -> MOp {
    MOp::Viota { dst, grid, base: f.base, terms: f.terms.clone(), cp: f.cp, c: f.c }
}
