//! Instructions that walk several tiles in step: maps, casts, masks, reductions.

use kiln_machine::isa::Dims;

use super::geometry::{Dim, Tile, merge, over_grid, pieces};
use crate::lir::{Code, Grid, Lir, MOp, Opnd, Terms};

/// An affine form of the position in a tile and of loop counters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Affine {
    pub base: i64,
    /// Coefficient of each axis.
    pub axes: Vec<i64>,
    pub terms: Terms,
}

/// The form as an instruction takes it: base, loop terms, coefficients of partition and free dims.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Predicate {
    pub base: i64,
    pub terms: Terms,
    pub cp: i64,
    pub c: [i64; 3],
}

/// One instruction's worth of a walk.
pub(crate) struct Step<'a> {
    /// One operand for each tile.
    pub opnds: &'a [Opnd],
    pub grid: Grid,
    pub reduced: Dims,
    pub predicate: Option<Predicate>,
}

/// The axis over partitions that the tiles share; any does if all have one partition.
fn shared_partition_axis(tiles: &[&Tile]) -> Result<usize, String> {
    let Some(lead) = tiles.iter().find(|t| t.parts() > 1) else { return Ok(tiles[0].part) };
    for t in tiles {
        if t.part != lead.part && (t.parts() > 1 || t.sizes[lead.part] > 1) {
            return Err(format!("partition axes {} and {} differ", lead.part, t.part));
        }
        if t.sizes[lead.part] != lead.parts() {
            return Err("an operand would have to be broadcast over partitions".into());
        }
    }
    Ok(lead.part)
}

/// Walks the tiles together over their common extents, reducing the axes in `reduced`.
pub(crate) fn walk(
    lir: &mut Lir,
    partitions: u32,
    tiles: &[&Tile],
    reduced: &[usize],
    affine: Option<&Affine>,
    make: &mut dyn FnMut(Step<'_>) -> Vec<MOp>,
) -> Result<Vec<Code>, String> {
    let axis = shared_partition_axis(tiles)?;
    let rank = tiles[0].sizes.len();
    let extents: Vec<u32> = (0..rank).map(|a| tiles.iter().map(|t| t.sizes[a]).max().unwrap_or(1)).collect();
    for t in tiles {
        if t.sizes.iter().zip(&extents).any(|(s, e)| s != e && *s != 1) {
            return Err("extents differ".into());
        }
    }
    let starts: Vec<u32> = tiles.iter().map(|t| t.part0).collect();
    let pieces =
        pieces(extents[axis], &starts, partitions).ok_or("a view crosses a chunk off its boundary")?;
    let mut units: Vec<i64> = tiles.iter().map(|t| t.element_bytes()).collect();
    units.extend(affine.map(|_| 1));
    let p = i64::from(partitions);
    let mut code = Vec::new();
    for piece in pieces {
        let mut dims = Vec::new();
        let mut chunk: Vec<i64> =
            tiles.iter().map(|t| if t.part == axis { t.strides[axis] } else { 0 }).collect();
        chunk.extend(affine.map(|f| f.axes[axis] * p));
        dims.push(Dim { extent: piece.chunks, strides: chunk, reduced: false });
        for a in (0..rank).filter(|a| *a != axis) {
            let mut strides: Vec<i64> = tiles.iter().map(|t| t.stride(a)).collect();
            strides.extend(affine.map(|f| f.axes[a]));
            dims.push(Dim { extent: extents[a], strides, reduced: reduced.contains(&a) });
        }
        let dims = merge(&dims);
        if dims.iter().filter(|d| d.reduced).count() > 3
            || dims.iter().any(|d| d.reduced && d.extent > 1 << 16)
        {
            return Err("the reduced axes do not fit three dims of an instruction".into());
        }
        let first = i64::from(piece.first);
        let mut at: Vec<(i64, Terms)> = tiles
            .iter()
            .map(|t| {
                (
                    t.off + if t.part == axis { first / p * t.strides[axis] * t.element_bytes() } else { 0 },
                    t.terms.clone(),
                )
            })
            .collect();
        at.extend(affine.map(|f| (f.base + first * f.axes[axis], f.terms.clone())));
        code.extend(over_grid(lir, &at, &units, &dims, &mut |_, at, spread| {
            let opnds: Vec<Opnd> =
                tiles.iter().enumerate().map(|(i, t)| t.opnd(t.part0, &at[i], spread.strides[i])).collect();
            let predicate = affine.map(|f| Predicate {
                base: at[tiles.len()].0,
                terms: at[tiles.len()].1.clone(),
                cp: f.axes[axis],
                c: spread.strides[tiles.len()],
            });
            let grid = Grid { parts: piece.parts, n: spread.n };
            let made = make(Step { opnds: &opnds, grid, reduced: spread.reduced, predicate });
            Ok::<_, String>(made.into_iter().map(Code::Inst).collect())
        })?);
    }
    Ok(code)
}

/// Instructions that work along one free axis (scan, top-k, shuffle): that axis is the last dim, the others are walked.
/// Tiles may differ in extent along it.
pub(crate) fn along(
    lir: &mut Lir,
    partitions: u32,
    tiles: &[&Tile],
    axis: usize,
    make: &mut dyn FnMut(&[Opnd], u32, [u32; 2]) -> MOp,
) -> Result<Vec<Code>, String> {
    let part = shared_partition_axis(tiles)?;
    if part == axis && tiles[0].sizes[axis] > 1 {
        return Err("the op runs along the partition axis".into());
    }
    let rank = tiles[0].sizes.len();
    let starts: Vec<u32> = tiles.iter().map(|t| t.part0).collect();
    let extent = tiles.iter().map(|t| t.sizes[part]).max().unwrap_or(1);
    let extent = if part == axis { 1 } else { extent };
    let pieces = pieces(extent, &starts, partitions).ok_or("a view crosses a chunk off its boundary")?;
    let units: Vec<i64> = tiles.iter().map(|t| t.element_bytes()).collect();
    let p = i64::from(partitions);
    let mut code = Vec::new();
    for piece in pieces {
        let chunk = tiles.iter().map(|t| if t.part == part { t.strides[part] } else { 0 }).collect();
        let mut dims = vec![Dim { extent: piece.chunks, strides: chunk, reduced: false }];
        for a in (0..rank).filter(|a| *a != part && *a != axis) {
            let strides = tiles.iter().map(|t| t.stride(a)).collect();
            let extent = tiles.iter().map(|t| t.sizes[a]).max().unwrap_or(1);
            dims.push(Dim { extent, strides, reduced: false });
        }
        let mut dims = merge(&dims);
        // over_grid takes three dims: mark a unit dim for the axis so that at most two others stay
        let unit = Dim { extent: 1, strides: vec![0; tiles.len()], reduced: true };
        dims.push(unit);
        let first = i64::from(piece.first) / p;
        let at = tiles
            .iter()
            .map(|t| {
                (
                    t.off + if t.part == part { first * t.strides[part] * t.element_bytes() } else { 0 },
                    t.terms.clone(),
                )
            })
            .collect();
        code.extend(over_grid(lir, &at, &units, &dims, &mut |_, at, spread| {
            let opnds: Vec<Opnd> = tiles
                .iter()
                .enumerate()
                .map(|(i, t)| {
                    let [s0, s1, _] = spread.strides[i];
                    t.opnd(t.part0, &at[i], [s0, s1, t.stride(axis)])
                })
                .collect();
            Ok::<_, String>(vec![Code::Inst(make(&opnds, piece.parts, [spread.n[0], spread.n[1]]))])
        })?);
    }
    Ok(code)
}

/// `dst[.., q on partitions, p free, ..] = src[.., p on partitions, q free, ..]` chunk by chunk through the array.
pub(crate) fn transpose(lir: &mut Lir, partitions: u32, dst: &Tile, src: &Tile) -> Result<Vec<Code>, String> {
    use super::geometry::repeat;
    if dst.sizes != src.sizes {
        return Err("extents differ".into());
    }
    let (p, q) = (src.part, dst.part);
    if p == q {
        return Err("both sides have one partition axis".into());
    }
    let width = i64::from(partitions);
    let (db, sb) = (dst.element_bytes(), src.element_bytes());
    let cross = "a view crosses a chunk off its boundary";
    let mut code = Vec::new();
    for rows in pieces(src.parts(), &[src.part0], partitions).ok_or(cross)? {
        for cols in pieces(dst.parts(), &[dst.part0], partitions).ok_or(cross)? {
            let (r, c) = (i64::from(rows.first), i64::from(cols.first));
            let start = vec![
                (dst.off + (r * dst.stride(p) + c / width * dst.strides[q]) * db, dst.terms.clone()),
                (src.off + (r / width * src.strides[p] + c * src.stride(q)) * sb, src.terms.clone()),
            ];
            let mut dims: Vec<Dim> = (0..dst.sizes.len())
                .filter(|a| *a != p && *a != q)
                .map(|a| Dim {
                    extent: dst.sizes[a],
                    strides: vec![dst.stride(a), src.stride(a)],
                    reduced: false,
                })
                .collect();
            dims.push(Dim {
                extent: rows.chunks,
                strides: vec![width * dst.stride(p), src.strides[p]],
                reduced: false,
            });
            dims.push(Dim {
                extent: cols.chunks,
                strides: vec![dst.strides[q], width * src.stride(q)],
                reduced: false,
            });
            let mut nest: Vec<Dim> = merge(&dims);
            nest.reverse();
            code.extend(nested(lir, &start, &[db, sb], &mut nest, &mut |at| {
                Code::Inst(MOp::Mtrn {
                    dst: dst.opnd(dst.part0, &at[0], [0, 0, dst.stride(p)]),
                    src: src.opnd(src.part0, &at[1], [0, 0, src.stride(q)]),
                    parts: rows.parts,
                    n: cols.parts,
                })
            })?);
        }
    }
    return Ok(code);

    fn nested(
        lir: &mut Lir,
        at: &super::geometry::Position,
        units: &[i64],
        dims: &mut Vec<Dim>,
        leaf: &mut dyn FnMut(&super::geometry::Position) -> Code,
    ) -> Result<Vec<Code>, String> {
        let Some(dim) = dims.pop() else { return Ok(vec![leaf(at)]) };
        let bytes: Vec<i64> = dim.strides.iter().zip(units).map(|(s, u)| s * u).collect();
        let code =
            repeat(lir, at, dim.extent.into(), &bytes, &mut |lir, at| nested(lir, at, units, dims, leaf));
        dims.push(dim);
        code
    }
}
