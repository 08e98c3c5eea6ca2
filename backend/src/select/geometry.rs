//! Views as addresses: partitions, chunks and free dims of on-chip tiles, and boxes of DRAM tensors.

use std::collections::BTreeMap;

use kiln_machine::isa::{Dims, Dt};

use crate::lir::{
    Access, Addr, BufId, Buffer, Code, DramId, IvId, Lir, Mode, Opnd, Region, Storage, Terms, add_term,
};

/// Iterations of a local loop that are written out instead.
const UNROLL: u64 = 2;

/// A view of a buffer with its layout worked out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tile {
    pub buf: BufId,
    pub dt: Dt,
    pub sizes: Vec<u32>,
    /// The partition axis.
    pub part: usize,
    /// First partition.
    pub part0: u32,
    /// Bytes from the start of the slot.
    pub off: i64,
    pub terms: Terms,
    /// Element strides; that of the partition axis is from chunk to chunk.
    pub strides: Vec<i64>,
    pub region: Region,
}

impl Tile {
    /// The view at `offsets + Σ coef·iv` of these sizes; `Err` says what the hardware cannot address.
    pub fn new(
        buffer: &Buffer,
        buf: BufId,
        partitions: u32,
        offsets: &[i64],
        sizes: &[u32],
        coefs: &BTreeMap<IvId, Vec<i64>>,
    ) -> Result<Tile, String> {
        let (part, p) = (buffer.part, i64::from(partitions));
        let strides = buffer.strides();
        let bytes = i64::from(buffer.dt.bits()) / 8;
        let along = |v: &[i64]| -> i64 {
            v.iter().enumerate().filter(|(a, _)| *a != part).map(|(a, o)| o * strides[a]).sum::<i64>()
        };
        let mut terms = Terms::new();
        for (iv, coef) in coefs {
            if coef[part] % p != 0 {
                return Err(format!(
                    "a loop moves the partition axis by {}, not by whole chunks of {p}",
                    coef[part]
                ));
            }
            add_term(&mut terms, *iv, (along(coef) + coef[part] / p * strides[part]) * bytes);
        }
        let off = (along(offsets) + offsets[part].div_euclid(p) * strides[part]) * bytes;
        Ok(Tile {
            buf,
            dt: buffer.dt,
            sizes: sizes.to_vec(),
            part,
            part0: offsets[part].rem_euclid(p) as u32,
            off,
            terms,
            strides,
            region: Region {
                lo: offsets.to_vec(),
                size: sizes.iter().map(|s| i64::from(*s)).collect(),
                coefs: coefs.clone(),
            },
        })
    }

    /// Bytes of an element.
    pub fn element_bytes(&self) -> i64 {
        i64::from(self.dt.bits()) / 8
    }

    /// Extent along the partition axis.
    pub fn parts(&self) -> u32 {
        self.sizes[self.part]
    }

    /// Element stride along an axis that is not the partition axis; 0 where the extent is 1.
    pub fn stride(&self, axis: usize) -> i64 {
        if self.sizes[axis] == 1 { 0 } else { self.strides[axis] }
    }

    /// Reads or writes all of it.
    pub fn access(&self, mode: Mode) -> Access {
        Access { storage: Storage::Buf(self.buf), mode, boxed: Some(self.region.clone()), flat: None }
    }

    /// An operand at a position in it.
    pub fn opnd(&self, part: u32, at: &(i64, Terms), strides: [i64; 3]) -> Opnd {
        let addr = Addr { buf: self.buf, part, off: at.0, terms: at.1.clone() };
        Opnd { addr, dt: self.dt, strides }
    }

    /// Its start.
    pub fn start(&self) -> (i64, Terms) {
        (self.off, self.terms.clone())
    }
}

/// A range along the partition axis that one instruction covers: `chunks` times `parts` partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First index along the axis.
    pub first: u32,
    pub parts: u32,
    pub chunks: u32,
}

/// Splits the common extent of tiles along their partition axes; `None` if a view crosses a chunk off its boundary.
pub(crate) fn pieces(extent: u32, starts: &[u32], partitions: u32) -> Option<Vec<Piece>> {
    if starts.iter().all(|s| s + extent <= partitions) {
        return Some(vec![Piece { first: 0, parts: extent, chunks: 1 }]);
    }
    if starts.iter().any(|s| *s != 0) {
        return None;
    }
    let (full, rest) = (extent / partitions, extent % partitions);
    let mut all = vec![Piece { first: 0, parts: partitions, chunks: full }];
    if rest > 0 {
        all.push(Piece { first: full * partitions, parts: rest, chunks: 1 });
    }
    Some(all)
}

/// A free dim walked by several operands at once; strides in elements of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dim {
    pub extent: u32,
    pub strides: Vec<i64>,
    /// A dim that is reduced merges only with its like.
    pub reduced: bool,
}

/// Drops unit dims and merges neighbours that every operand walks as one.
pub(crate) fn merge(dims: &[Dim]) -> Vec<Dim> {
    let mut merged: Vec<Dim> = Vec::new();
    for dim in dims.iter().filter(|d| d.extent != 1) {
        if let Some(outer) = merged.last_mut() {
            let inner = i64::from(dim.extent);
            let joins = outer.strides.iter().zip(&dim.strides).all(|(o, i)| *o == i * inner);
            let fits = u64::from(outer.extent) * u64::from(dim.extent) <= 1 << 16;
            if joins && fits && outer.reduced == dim.reduced {
                *outer = Dim { extent: outer.extent * dim.extent, ..dim.clone() };
                continue;
            }
        }
        merged.push(dim.clone());
    }
    merged
}

/// Byte positions of several operands: constant and loop terms.
pub(crate) type Position = Vec<(i64, Terms)>;

/// Moves each operand by its bytes.
pub(crate) fn moved(at: &Position, bytes: &[i64], times: i64) -> Position {
    at.iter().zip(bytes).map(|((off, terms), b)| (off + b * times, terms.clone())).collect()
}

/// Runs `body` at `trip` positions, each `bytes` after the last: written out if few, else as a loop.
pub(crate) fn repeat<E>(
    lir: &mut Lir,
    at: &Position,
    trip: u64,
    bytes: &[i64],
    body: &mut dyn FnMut(&mut Lir, &Position) -> Result<Vec<Code>, E>,
) -> Result<Vec<Code>, E> {
    if trip <= UNROLL {
        let mut code = Vec::new();
        for i in 0..trip {
            code.extend(body(lir, &moved(at, bytes, i as i64))?);
        }
        return Ok(code);
    }
    let iv = lir.new_iv(trip);
    let mut inside = at.clone();
    for ((_, terms), b) in inside.iter_mut().zip(bytes) {
        add_term(terms, iv, *b);
    }
    let body = body(lir, &inside)?;
    Ok(vec![Code::Loop { iv, body }])
}

/// Three dims for an instruction, and loops over the rest. `units` are the bytes of an element of each operand.
pub(crate) fn over_grid<E>(
    lir: &mut Lir,
    at: &Position,
    units: &[i64],
    dims: &[Dim],
    body: &mut dyn FnMut(&mut Lir, &Position, &Spread) -> Result<Vec<Code>, E>,
) -> Result<Vec<Code>, E> {
    let too_long = dims.iter().position(|d| d.extent > 1 << 16);
    if dims.len() > 3 || too_long.is_some() {
        // the shortest dim becomes a loop, unless order matters; then the outermost
        let outer = match too_long {
            Some(i) => i,
            None if dims.iter().any(|d| d.reduced) => dims.iter().position(|d| !d.reduced).unwrap_or(0),
            None => (0..dims.len()).min_by_key(|i| dims[*i].extent).unwrap_or(0),
        };
        let rest: Vec<Dim> =
            dims.iter().enumerate().filter(|(i, _)| *i != outer).map(|(_, d)| d.clone()).collect();
        let bytes: Vec<i64> = dims[outer].strides.iter().zip(units).map(|(s, u)| s * u).collect();
        return repeat(lir, at, dims[outer].extent.into(), &bytes, &mut |lir, at| {
            over_grid(lir, at, units, &rest, body)
        });
    }
    let lead = 3 - dims.len();
    let mut spread = Spread { n: [1; 3], strides: vec![[0; 3]; units.len()], reduced: Dims::NONE };
    for (i, dim) in dims.iter().enumerate() {
        spread.n[lead + i] = dim.extent;
        spread.reduced.0 |= u8::from(dim.reduced) << (lead + i);
        for (to, from) in spread.strides.iter_mut().zip(&dim.strides) {
            to[lead + i] = *from;
        }
    }
    body(lir, at, &spread)
}

/// Up to three dims as an instruction takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub n: [u32; 3],
    /// Element strides of each operand.
    pub strides: Vec<[i64; 3]>,
    pub reduced: Dims,
}

/// A DRAM tensor as selection sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DramTensor {
    pub id: DramId,
    pub dt: Dt,
    pub shape: Vec<u64>,
}

impl DramTensor {
    /// Row-major element strides.
    fn strides(&self) -> Vec<i64> {
        let mut strides = vec![1; self.shape.len()];
        for d in (1..self.shape.len()).rev() {
            strides[d - 1] = strides[d] * self.shape[d] as i64;
        }
        strides
    }

    /// What elements `offset + Σ coef·iv + Σ i·stride` (i below each size) touch.
    pub fn access(&self, mode: Mode, lir: &Lir, offset: i64, terms: &Terms, walk: &[(u32, i64)]) -> Access {
        let (mut low, mut high) = (offset, offset);
        for (n, s) in walk {
            let end = s * (i64::from(*n) - 1);
            low += end.min(0);
            high += end.max(0);
        }
        let flat = Region {
            lo: vec![low],
            size: vec![high - low + 1],
            coefs: terms.iter().map(|(iv, c)| (*iv, vec![*c])).collect(),
        };
        let boxed = self.boxed(lir, offset, terms, walk);
        Access { storage: Storage::Dram(self.id), mode, boxed, flat: Some(flat) }
    }

    /// The whole tensor.
    pub fn all(&self, mode: Mode) -> Access {
        let elements = self.shape.iter().product::<u64>() as i64;
        let flat = Region { lo: vec![0], size: vec![elements], coefs: BTreeMap::new() };
        let boxed = Region {
            lo: vec![0; self.shape.len()],
            size: self.shape.iter().map(|e| *e as i64).collect(),
            coefs: BTreeMap::new(),
        };
        Access { storage: Storage::Dram(self.id), mode, boxed: Some(boxed), flat: Some(flat) }
    }

    /// The access as a box of the tensor's dims, if it is one: no step carries from one dim into another.
    fn boxed(&self, lir: &Lir, offset: i64, terms: &Terms, walk: &[(u32, i64)]) -> Option<Region> {
        let strides = self.strides();
        let mut lo = vec![0; self.shape.len()];
        let mut rest = offset;
        for (d, s) in strides.iter().enumerate() {
            lo[d] = rest.div_euclid(*s);
            rest = rest.rem_euclid(*s);
        }
        let dim_of = |step: i64| strides.iter().position(|s| *s > 0 && step % s == 0);
        let mut size = vec![1; self.shape.len()];
        for (n, step) in walk.iter().filter(|(n, s)| *n > 1 && *s != 0) {
            let d = dim_of(*step)?;
            if *step < 0 {
                return None;
            }
            size[d] += (step / strides[d]) * (i64::from(*n) - 1);
        }
        let mut end: Vec<i64> = lo.iter().zip(&size).map(|(l, s)| l + s).collect();
        let mut coefs = BTreeMap::new();
        for (iv, c) in terms {
            let d = dim_of(*c)?;
            if *c < 0 {
                return None;
            }
            end[d] += c / strides[d] * (lir.trip(*iv) as i64 - 1);
            let mut by_dim = vec![0; self.shape.len()];
            by_dim[d] = c / strides[d];
            coefs.insert(*iv, by_dim);
        }
        let inside = end.iter().zip(&self.shape).all(|(e, n)| *e <= *n as i64);
        inside.then_some(Region { lo, size, coefs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lir::ROOT;
    use kiln_machine::isa::Space;

    fn buffer(extents: &[u32], part: usize) -> Buffer {
        Buffer {
            group: 0,
            extents: extents.to_vec(),
            part,
            order: (0..extents.len()).filter(|axis| *axis != part).collect(),
            dt: Dt::Bf16,
            space: Space::Spm,
            depth: 1,
            block: ROOT,
        }
    }

    #[test]
    fn a_tile_is_addressed_by_partition_chunk_and_free_axes() {
        let mut lir = Lir::new();
        let i = lir.new_iv(3);
        let b = buffer(&[4, 300, 10], 1);
        assert_eq!(b.strides(), [10, 40, 1]);
        assert_eq!(b.slot_bytes(128), 3 * 40 * 2);
        let coefs = BTreeMap::from([(i, vec![1, 128, 0])]);
        let t = Tile::new(&b, BufId(0), 128, &[0, 130, 5], &[1, 100, 5], &coefs).expect("legal");
        assert_eq!((t.part0, t.off, t.terms[&i]), (2, (40 + 5) * 2, (10 + 40) * 2));
        let crossing = BTreeMap::from([(i, vec![0, 64, 0])]);
        assert!(Tile::new(&b, BufId(0), 128, &[0, 0, 0], &[4, 64, 10], &crossing).is_err());
    }

    #[test]
    fn partition_axes_split_into_full_chunks_and_a_rest() {
        let whole = |first, parts, chunks| Piece { first, parts, chunks };
        assert_eq!(pieces(300, &[0, 0], 128), Some(vec![whole(0, 128, 2), whole(256, 44, 1)]));
        assert_eq!(pieces(28, &[100, 0], 128), Some(vec![whole(0, 28, 1)]));
        assert_eq!(pieces(29, &[100, 0], 128), None);
    }

    #[test]
    fn dense_dims_merge_and_broadcast_dims_do_not() {
        let dim = |extent, a, b| Dim { extent, strides: vec![a, b], reduced: false };
        assert_eq!(merge(&[dim(2, 32, 32), dim(1, 9, 9), dim(4, 8, 8), dim(8, 1, 1)]), [dim(64, 1, 1)]);
        assert_eq!(merge(&[dim(4, 8, 0), dim(8, 1, 1)]), [dim(4, 8, 0), dim(8, 1, 1)]);
        assert_eq!(merge(&[dim(4, 8, 0), dim(8, 1, 0)]), [dim(32, 1, 0)]);
    }

    #[test]
    fn strided_dram_accesses_are_boxes_unless_they_wrap() {
        let mut lir = Lir::new();
        let i = lir.new_iv(4);
        let t = DramTensor { id: DramId(0), dt: Dt::F32, shape: vec![8, 12, 64] };
        // rows 2.., head by head: [12, 4 heads of 16]
        let a = t.access(Mode::Write, &lir, 2 * 768, &Terms::from([(i, 16)]), &[(12, 64), (16, 1)]);
        let boxed = a.boxed.expect("a box");
        assert_eq!((boxed.lo, boxed.size), (vec![2, 0, 0], vec![1, 12, 16]));
        assert_eq!(boxed.coefs[&i], [0, 0, 16]);
        assert!(t.access(Mode::Read, &lir, 32, &Terms::new(), &[(48, 1)]).boxed.is_none());
    }
}
