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

/// A part of a transfer: `count` positions of an axis of the tile from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub axis: usize,
    pub first: u32,
    pub count: u32,
}

/// Splits a transfer of `bytes` for `ways` queues into about equal shares: ranges of partitions, of whole chunks of
/// them, or, where these do not come out even, of the axis that is outermost in DRAM.
pub(crate) fn shares(
    tile: &Tile,
    dram_strides: &[i64],
    partitions: u32,
    ways: u32,
    bytes: u64,
) -> Vec<Share> {
    let (part, parts) = (tile.part, tile.parts());
    let along = |axis: usize, extent: u32, each: u32| -> Vec<Share> {
        let share = |first| Share { axis, first, count: each.min(extent - first) };
        (0..extent).step_by(each as usize).map(share).collect()
    };
    if parts <= partitions || ways == 1 {
        return along(part, parts, parts.div_ceil(ways.clamp(1, parts)));
    }
    // What the busiest queue moves, in 1/1024 of the transfer, if it is cut into so many equal pieces.
    let most = |pieces: u32| 1024 * pieces.div_ceil(ways) / pieces;
    let is_even = |pieces: u32| most(pieces) <= 1024 * 9 / 8 / ways;
    let chunks = parts.div_ceil(partitions);
    if is_even(chunks) {
        return along(part, parts, chunks.div_ceil(ways) * partitions);
    }
    let outermost = (0..tile.sizes.len())
        .filter(|&a| a != part && tile.sizes[a] > 1 && dram_strides[a].unsigned_abs() > 1)
        .max_by_key(|&a| dram_strides[a].unsigned_abs());
    if let Some(axis) = outermost
        && is_even(tile.sizes[axis])
    {
        return along(axis, tile.sizes[axis], tile.sizes[axis].div_ceil(ways));
    }
    // Pieces of a chunk, as few as come out even and are worth a transfer each.
    let mut pieces = 1;
    while !is_even(chunks * pieces)
        && 2 * pieces <= partitions.min(8)
        && bytes / u64::from(2 * pieces * chunks) >= kiln_machine::duration::SPLIT_BYTES
    {
        pieces *= 2;
    }
    if pieces == 1 {
        return along(part, parts, chunks.div_ceil(ways) * partitions);
    }
    let each = partitions.div_ceil(pieces);
    let of_chunk = |chunk: u32| {
        let end = (chunk + partitions).min(parts);
        (chunk..end).step_by(each as usize).map(move |first| Share {
            axis: part,
            first,
            count: each.min(end - first),
        })
    };
    (0..parts).step_by(partitions as usize).flat_map(of_chunk).collect()
}

/// The part of a transfer that is a range of a free axis.
pub(crate) fn sliced<'a>(tile: &Tile, dram: &DramView<'a>, share: Share) -> (Tile, DramView<'a>) {
    let (mut tile, mut dram) = (tile.clone(), dram.clone());
    let Share { axis, first, count } = share;
    tile.off += i64::from(first) * tile.strides[axis] * tile.element_bytes();
    tile.sizes[axis] = count;
    tile.region.lo[axis] += i64::from(first);
    tile.region.size[axis] = i64::from(count);
    dram.offset += i64::from(first) * dram.strides[axis];
    (tile, dram)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lir::{BufId, Region};
    use kiln_machine::isa::Dt;

    fn tile(sizes: &[u32], strides: &[i64]) -> Tile {
        let region = Region {
            lo: vec![0; sizes.len()],
            size: sizes.iter().map(|n| i64::from(*n)).collect(),
            coefs: Default::default(),
        };
        let (sizes, strides) = (sizes.to_vec(), strides.to_vec());
        Tile {
            buf: BufId(0),
            dt: Dt::F32,
            sizes,
            part: 0,
            part0: 0,
            off: 0,
            terms: Terms::new(),
            strides,
            region,
        }
    }

    /// Shares as (axis, positions), all but the last of equal length.
    fn split(sizes: &[u32], dram: &[i64], ways: u32, bytes: u64) -> (usize, Vec<u32>) {
        let tile = tile(sizes, &[1, 1]);
        let found = shares(&tile, dram, 128, ways, bytes);
        let axis = found[0].axis;
        let mut next = 0;
        for share in &found {
            assert_eq!((share.axis, share.first), (axis, next), "{found:?}");
            next += share.count;
        }
        assert_eq!(next, sizes[axis]);
        (axis, found.iter().map(|s| s.count).collect())
    }

    #[test]
    fn shares_of_queues_come_out_even() {
        // a chunk by partitions
        assert_eq!(split(&[128, 512], &[512, 1], 4, 1 << 18), (0, vec![32; 4]));
        // chunks where they divide
        assert_eq!(split(&[1024, 64], &[64, 1], 4, 1 << 18), (0, vec![256; 4]));
        // 16 chunks for 12 queues do not: rows of a transposed matrix do
        assert_eq!(split(&[2048, 120], &[1, 2048], 12, 1 << 20), (1, vec![10; 12]));
        // where DRAM is contiguous along the free axis, pieces of chunks do
        assert_eq!(split(&[768, 64], &[64, 1], 12, 1 << 20), (0, vec![64; 12]));
        // but not into transfers too short to be worth a queue
        assert_eq!(split(&[768, 16], &[16, 1], 12, 49_152), (0, vec![128; 6]));
    }

    #[test]
    fn a_slice_starts_where_its_share_does() {
        let tile = tile(&[2048, 120], &[120, 1]);
        let lir = DramTensor { id: crate::lir::DramId(0), dt: Dt::F32, shape: vec![120, 2048] };
        let dram = DramView { tensor: &lir, offset: 7, terms: Terms::new(), strides: vec![1, 2048] };
        let (cut, side) = sliced(&tile, &dram, Share { axis: 1, first: 30, count: 10 });
        assert_eq!((cut.off, cut.sizes, side.offset), (120, vec![2048, 10], 7 + 30 * 2048));
        assert_eq!((cut.region.lo[1], cut.region.size[1]), (30, 10));
    }
}
