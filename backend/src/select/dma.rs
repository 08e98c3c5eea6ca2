//! Loads, stores, gathers and scatters as transfers, split by partitions where several queues share one.

use super::geometry::{Dim, DramTensor, Tile, merge, over_grid, pieces};
use crate::lir::{Access, Code, DramOpnd, Lir, MOp, Mode, Terms, add_term};

/// The DRAM side of an access, in elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DramView<'a> {
    pub tensor: &'a DramTensor,
    pub offset: i64,
    pub terms: Terms,
    /// One stride for each axis of the on-chip view.
    pub strides: Vec<i64>,
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Load,
    Store,
}

/// One queue's part of a transfer.
pub(crate) struct Transfer {
    pub code: Vec<Code>,
    pub accesses: Vec<Access>,
}

/// Splits the partition range of a tile into at most `ways` parts: of a chunk of partitions each, or of whole chunks.
pub(crate) fn shares(tile: &Tile, partitions: u32, ways: u32) -> Vec<(u32, u32)> {
    let parts = tile.parts();
    if parts <= partitions {
        let ways = ways.clamp(1, parts);
        let each = parts.div_ceil(ways);
        return (0..parts).step_by(each as usize).map(|first| (first, each.min(parts - first))).collect();
    }
    let chunks = parts.div_ceil(partitions);
    if ways < 2 * chunks {
        // whole chunks to each
        let each = chunks.div_ceil(ways.clamp(1, chunks)) * partitions;
        return (0..parts).step_by(each as usize).map(|first| (first, each.min(parts - first))).collect();
    }
    // a part of one chunk to each
    let each = partitions.div_ceil(ways / chunks);
    let of_chunk = |first: u32| {
        let end = (first + partitions).min(parts);
        (first..end).step_by(each as usize).map(move |at| (at, each.min(end - at)))
    };
    (0..parts).step_by(partitions as usize).flat_map(of_chunk).collect()
}

/// A transfer of the partitions `first ..+ count` of the tile.
pub(crate) fn transfer(
    lir: &mut Lir,
    partitions: u32,
    direction: Direction,
    tile: &Tile,
    dram: &DramView<'_>,
    (first, count): (u32, u32),
) -> Result<Transfer, String> {
    let (unit, dram_unit) = (tile.element_bytes(), i64::from(dram.tensor.dt.bits()) / 8);
    if dram_unit == 0 {
        return Err("4-bit elements in DRAM".into());
    }
    let (part, p) = (tile.part, i64::from(partitions));
    let part_stride = dram.strides[part];
    let rank = tile.sizes.len();
    let lead = tile.part0 + first % partitions;
    let lead = lead % partitions;
    let chunk0 = i64::from((tile.part0 + first) / partitions);
    let mut code = Vec::new();
    for piece in pieces(count, &[lead], partitions).ok_or("a view crosses a chunk off its boundary")? {
        let chunks = vec![tile.strides[part], part_stride * p];
        let mut dims = vec![Dim { extent: piece.chunks, strides: chunks, reduced: false }];
        for a in (0..rank).filter(|a| *a != part) {
            let strides = vec![tile.stride(a), dram.strides[a]];
            dims.push(Dim { extent: tile.sizes[a], strides, reduced: false });
        }
        // the innermost dim is the one with the shortest way in DRAM, whatever the order on chip
        dims.sort_by_key(|d| std::cmp::Reverse(d.strides[1].unsigned_abs()));
        let dims = merge(&dims);
        let chunk = chunk0 + i64::from(piece.first) / p;
        let offset = dram.offset + i64::from(first + piece.first) * part_stride;
        let mut dram_terms = Terms::new();
        for (iv, c) in &dram.terms {
            add_term(&mut dram_terms, *iv, c * dram_unit);
        }
        let at = vec![
            (tile.off + chunk * tile.strides[part] * unit, tile.terms.clone()),
            (offset * dram_unit, dram_terms),
        ];
        code.extend(over_grid(lir, &at, &[unit, dram_unit], &dims, &mut |_, at, spread| {
            let opnd = tile.opnd(lead, &at[0], spread.strides[0]);
            let [n0, n1, n2] = spread.n;
            let [s0, s1, s2] = spread.strides[1];
            let side = DramOpnd {
                dram: dram.tensor.id,
                dt: dram.tensor.dt,
                off: at[1].0,
                terms: at[1].1.clone(),
                sizes: [piece.parts, n0, n1, n2],
                strides: [part_stride, s0, s1, s2],
            };
            let op = match direction {
                Direction::Store => MOp::Store { dst: side, src: opnd },
                Direction::Load => {
                    let transposing = runs_along_partitions(&side, dram_unit);
                    MOp::Load { dst: opnd, src: side, transposing }
                }
            };
            Ok::<_, String>(vec![Code::Inst(op)])
        })?);
    }
    let mut walk: Vec<(u32, i64)> = tile.sizes.iter().copied().zip(dram.strides.iter().copied()).collect();
    walk[part] = (count, part_stride);
    let (here, there) = match direction {
        Direction::Load => (Mode::Write, Mode::Read),
        Direction::Store => (Mode::Read, Mode::Write),
    };
    let mut on_chip = tile.access(here);
    if let Some(region) = &mut on_chip.boxed {
        region.lo[part] += i64::from(first);
        region.size[part] = i64::from(count);
    }
    let offset = dram.offset + i64::from(first) * part_stride;
    let off_chip = dram.tensor.access(there, lir, offset, &dram.terms, &walk);
    Ok(Transfer { code, accesses: vec![on_chip, off_chip] })
}

/// Whether walking the partitions innermost gives longer contiguous runs than walking the free dims.
fn runs_along_partitions(side: &DramOpnd, unit: i64) -> bool {
    let run = |order: &[usize]| -> i64 {
        let mut length = 1i64;
        for d in order {
            if side.sizes[*d] == 1 {
                continue;
            }
            if side.strides[*d] != length {
                break;
            }
            length *= i64::from(side.sizes[*d]);
        }
        length * unit
    };
    side.strides[0] == 1 && side.sizes[0] > 1 && run(&[0, 3, 2, 1]) > 2 * run(&[3, 2, 1])
}

/// The row table of a gather or scatter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Bound of the indices.
    pub count: u32,
    /// Elements from row to row.
    pub stride: i64,
}

/// A gather or scatter with indices aligned to the tile. One indexed transfer covers partitions and one free axis of
/// the indices, and two free axes that the indices lack; other axes, and partitions that the address also depends on
/// directly, are taken one by one.
pub(crate) fn indexed(
    lir: &mut Lir,
    partitions: u32,
    direction: Direction,
    tile: &Tile,
    idx: &Tile,
    dram: &DramView<'_>,
    rows: Rows,
) -> Result<Transfer, String> {
    let (unit, dram_unit) = (tile.element_bytes(), i64::from(dram.tensor.dt.bits()) / 8);
    let part = tile.part;
    let rank = tile.sizes.len();
    let wide = |t: &Tile, a: usize| t.sizes[a] > 1;
    if idx.parts() > 1 && idx.part != part {
        return Err("the indices have another partition axis than the tile".into());
    }
    let spread_over_partitions = idx.part == part && idx.parts() == tile.parts() && idx.part0 == tile.part0;
    let together = tile.parts() == 1 || (spread_over_partitions && dram.strides[part] == 0);
    let mut dram_terms = Terms::new();
    for (iv, c) in &dram.terms {
        add_term(&mut dram_terms, *iv, c * dram_unit);
    }
    // free axes of the indices whose position the address also depends on cannot be the indexed dim
    let indexed_axes: Vec<usize> = (0..rank).filter(|a| *a != part && wide(idx, *a)).collect();
    let free_axes: Vec<usize> =
        (0..rank).filter(|a| *a != part && !wide(idx, *a) && wide(tile, *a)).collect();
    let row_axis =
        indexed_axes.iter().copied().filter(|a| dram.strides[*a] == 0).max_by_key(|a| tile.sizes[*a]);
    let dim = |a: usize| Dim {
        extent: tile.sizes[a],
        strides: vec![tile.stride(a), dram.strides[a], idx.stride(a)],
        reduced: false,
    };
    let outer: Vec<Dim> = indexed_axes.iter().filter(|a| Some(**a) != row_axis).map(|a| dim(*a)).collect();
    let inner = merge(&free_axes.iter().map(|a| dim(*a)).collect::<Vec<_>>());
    let spans: Vec<(u32, u32)> = if together {
        pieces(tile.parts(), &[tile.part0], partitions)
            .ok_or("a view crosses a chunk off its boundary")?
            .iter()
            .flat_map(|piece| (0..piece.chunks).map(|c| (piece.first + c * partitions, piece.parts)))
            .collect()
    } else {
        (0..tile.parts()).map(|i| (i, 1)).collect()
    };
    let mut code = Vec::new();
    for (first, count) in spans {
        let place = |t: &Tile| -> (u32, i64) {
            if t.part != part || t.parts() == 1 {
                return (t.part0, 0);
            }
            let at = t.part0 + first;
            (at % partitions, i64::from(at / partitions) * t.strides[part] * t.element_bytes())
        };
        let ((lead, tile_off), (idx_lead, idx_off)) = (place(tile), place(idx));
        if count > 1 && lead != idx_lead {
            return Err("tile and indices start at different partitions".into());
        }
        let at = vec![
            (tile.off + tile_off, tile.terms.clone()),
            ((dram.offset + i64::from(first) * dram.strides[part]) * dram_unit, dram_terms.clone()),
            (idx.off + idx_off, idx.terms.clone()),
        ];
        // the two innermost merged free dims go into the instruction, the others become loops
        let keep = inner.len().saturating_sub(2);
        let loops: Vec<Dim> = outer.iter().chain(&inner[..keep]).cloned().collect();
        let mut free = [(1, 0, 0); 2];
        for (slot, d) in free.iter_mut().rev().zip(inner[keep..].iter().rev()) {
            *slot = (d.extent, d.strides[0], d.strides[1]);
        }
        let (n0, row_tile, row_idx) =
            row_axis.map_or((1, 0, 0), |a| (tile.sizes[a], tile.stride(a), idx.stride(a)));
        let units = [unit, dram_unit, idx.element_bytes()];
        code.extend(each(lir, &at, &units, &loops, &mut |at| {
            let on_chip = tile.opnd(lead, &at[0], [row_tile, free[0].1, free[1].1]);
            let table = DramOpnd {
                dram: dram.tensor.id,
                dt: dram.tensor.dt,
                off: at[1].0,
                terms: at[1].1.clone(),
                sizes: [rows.count, free[0].0, free[1].0, 1],
                strides: [rows.stride, free[0].2, free[1].2, 0],
            };
            let idx = idx.opnd(idx_lead, &at[2], [row_idx, 0, 0]);
            Code::Inst(match direction {
                Direction::Load => MOp::Gather { dst: on_chip, src: table, idx, parts: count, n0 },
                Direction::Store => MOp::Scatter { dst: table, src: on_chip, idx, parts: count, n0 },
            })
        })?);
    }
    let accesses = match direction {
        Direction::Load => {
            vec![tile.access(Mode::Write), idx.access(Mode::Read), dram.tensor.all(Mode::Read)]
        }
        Direction::Store => {
            vec![tile.access(Mode::Read), idx.access(Mode::Read), dram.tensor.all(Mode::Write)]
        }
    };
    Ok(Transfer { code, accesses })
}

/// One instruction at each position of the dims.
fn each(
    lir: &mut Lir,
    at: &super::geometry::Position,
    units: &[i64],
    dims: &[Dim],
    leaf: &mut dyn FnMut(&super::geometry::Position) -> Code,
) -> Result<Vec<Code>, String> {
    let Some((dim, rest)) = dims.split_first() else { return Ok(vec![leaf(at)]) };
    let bytes: Vec<i64> = dim.strides.iter().zip(units).map(|(s, u)| s * u).collect();
    super::geometry::repeat(lir, at, dim.extent.into(), &bytes, &mut |lir, at| {
        each(lir, at, units, rest, leaf)
    })
}
