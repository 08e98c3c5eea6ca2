//! `tile.matmul` as stationary loads and multiplications.
//!
//! Steps of the contraction are outermost, so that successive multiplications of one accumulator region lie as far
//! apart as the tile allows and their drain is hidden; then batch and outer m axes, chunks of m, and blocks of n. Each
//! stationary chunk is loaded once. The chain ascends over the contracted axes in the order of the positions.

use kiln_machine::isa::{Dt, Space};

use super::geometry::{Dim, Piece, Position, Tile, merge, moved, pieces, repeat};
use crate::lir::{Code, Lir, MOp};

/// The array as selection needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Array {
    pub partitions: u32,
    /// Columns of one multiplication.
    pub bank_entries: u32,
    pub has_ldwt: bool,
}

/// An axis that the tiles walk together, with bytes per step of (acc, stationary, moving).
#[derive(Clone, Debug)]
struct Walk {
    extent: u64,
    bytes: Vec<i64>,
}

/// Chunks of the contraction on partitions, or of m.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    parts: u32,
    count: u32,
    first: u32,
}

struct Plan<'a> {
    acc: &'a Tile,
    s: &'a Tile,
    x: &'a Tile,
    array: Array,
    /// Contracted axes before the one on partitions.
    outer_k: Vec<Walk>,
    k: Vec<Chunk>,
    /// Bytes from chunk to chunk of k.
    k_bytes: Vec<i64>,
    /// Batch axes and m axes that are not on partitions.
    outer_m: Vec<Walk>,
    m: Vec<Chunk>,
    m_bytes: Vec<i64>,
    n: Vec<Dim>,
    transposed: bool,
    /// Element stride of the free axis of the stationary load.
    s_free: i64,
}

fn is_byte(dt: Dt) -> bool {
    matches!(dt, Dt::I8 | Dt::U8)
}

/// Instructions for `acc (+)= s · x`; `Err` says why there are none.
pub(crate) fn select(
    lir: &mut Lir,
    array: Array,
    acc: &Tile,
    s: &Tile,
    x: &Tile,
    accumulate: bool,
) -> Result<Vec<Code>, String> {
    let plan = plan(array, acc, s, x)?;
    let start = vec![acc.start(), s.start(), x.start()];
    plan.contraction(lir, &start, 0, accumulate)
}

fn plan<'a>(array: Array, acc: &'a Tile, s: &'a Tile, x: &'a Tile) -> Result<Plan<'a>, String> {
    let p = array.partitions;
    let wide = |t: &Tile, a: usize| t.sizes[a] > 1;
    let rank = acc.sizes.len();
    let contracted: Vec<usize> =
        (0..rank).filter(|a| !wide(acc, *a) && (wide(s, *a) || wide(x, *a))).collect();
    // the axis on partitions of the moving operand; with extent 1 any contracted axis of extent 1 will do
    let kp = x.part;
    let mp = acc.part;
    if wide(x, kp) && wide(acc, kp) {
        return Err("the moving operand's partition axis is not contracted".into());
    }
    if wide(acc, mp) && wide(x, mp) {
        return Err("the accumulator's partition axis is not an axis of the stationary operand alone".into());
    }
    let (k, m) = (x.parts(), acc.parts());
    if wide(s, kp) && s.sizes[kp] != k {
        return Err("the contracted axis on partitions has two extents".into());
    }
    if k > 1 && !wide(s, kp) {
        return Err("the stationary operand lacks the contracted axis on partitions".into());
    }
    if let Some(late) = contracted.iter().find(|a| **a > kp && k > 1) {
        return Err(format!(
            "contracted axis {late} comes after the one on partitions, which breaks the chain's order"
        ));
    }
    let transposed = if s.part == kp
        || (k == 1 && s.parts() == 1 && m == 1)
        || (s.parts() == 1 && m > 1 && s.part != mp)
    {
        false
    } else if s.part == mp || s.parts() == 1 {
        true
    } else {
        return Err("the stationary operand has neither the contracted axis nor m on partitions".into());
    };
    if transposed && !array.has_ldwt {
        return Err("this target has no `ldwt`".into());
    }
    if !transposed && s.part0 != x.part0 {
        return Err("stationary and moving operand start at different partitions".into());
    }
    if (!transposed && k > 1 && s.part != kp) || (transposed && m > 1 && s.part != mp) {
        return Err("the stationary operand's partition axis has extent 1 but its other axes do not".into());
    }
    // The array takes signed and unsigned bytes side by side.
    if s.dt != x.dt && !(is_byte(s.dt) && is_byte(x.dt)) {
        return Err(format!("operands of {} and {}", s.dt, x.dt));
    }
    let (s_bytes, x_bytes, a_bytes) = (s.element_bytes(), x.element_bytes(), acc.element_bytes());
    let step = |t: &Tile, a: usize| t.stride(a) * t.element_bytes();
    let walk = |a: usize| Walk {
        extent: acc.sizes[a].max(s.sizes[a]).max(x.sizes[a]).into(),
        bytes: vec![step(acc, a), step(s, a), step(x, a)],
    };
    let outer_k = contracted.iter().filter(|a| **a != kp).map(|a| walk(*a)).collect();
    let outer_m = (0..rank).filter(|a| *a != mp && wide(acc, *a) && wide(s, *a)).map(walk).collect();
    let n_dims: Vec<Dim> = (0..rank)
        .filter(|a| wide(acc, *a) && wide(x, *a) && !wide(s, *a))
        .map(|a| Dim { extent: acc.sizes[a], strides: vec![acc.stride(a), x.stride(a)], reduced: false })
        .collect();
    let k_starts = if transposed { vec![x.part0] } else { vec![s.part0, x.part0] };
    let m_starts = if transposed { vec![s.part0, acc.part0] } else { vec![acc.part0] };
    let chunked = |extent, starts: &[u32]| -> Result<Vec<Chunk>, String> {
        let pieces =
            pieces(extent, starts, p).ok_or("a view crosses a chunk of partitions off its boundary")?;
        Ok(pieces
            .iter()
            .map(|Piece { first, parts, chunks }| Chunk { parts: *parts, count: *chunks, first: first / p })
            .collect())
    };
    // along the free axis of the stationary operand a chunk is P elements
    let (k_free, m_free) = (s.stride(kp) * i64::from(p) * s_bytes, s.stride(mp) * i64::from(p) * s_bytes);
    let s_chunk = s.strides[s.part] * s_bytes;
    let (k_step, m_step) = if transposed { (k_free, s_chunk) } else { (s_chunk, m_free) };
    Ok(Plan {
        acc,
        s,
        x,
        array,
        outer_k,
        k: chunked(k, &k_starts)?,
        k_bytes: vec![0, k_step, x.strides[kp] * x_bytes],
        outer_m,
        m: chunked(m, &m_starts)?,
        m_bytes: vec![acc.strides[mp] * a_bytes, m_step, 0],
        n: merge(&n_dims),
        transposed,
        s_free: if transposed { s.stride(kp) } else { s.stride(mp) },
    })
}

impl Plan<'_> {
    /// The contraction from axis `level` on; `continues` is false at the start of the chain.
    fn contraction(
        &self,
        lir: &mut Lir,
        at: &Position,
        level: usize,
        continues: bool,
    ) -> Result<Vec<Code>, String> {
        if let Some(walk) = self.outer_k.get(level) {
            let mut code = self.contraction(lir, at, level + 1, continues)?;
            let rest = moved(at, &walk.bytes, 1);
            code.extend(repeat(lir, &rest, walk.extent - 1, &walk.bytes, &mut |lir, at| {
                self.contraction(lir, at, level + 1, true)
            })?);
            return Ok(code);
        }
        let mut code = Vec::new();
        let mut continues = continues;
        for chunk in &self.k {
            let mut from = 0;
            if !continues {
                code.extend(self.rows(
                    lir,
                    &moved(at, &self.k_bytes, chunk.first.into()),
                    0,
                    *chunk,
                    false,
                )?);
                continues = true;
                from = 1;
            }
            let start = moved(at, &self.k_bytes, i64::from(chunk.first + from));
            let trip = u64::from(chunk.count - from);
            code.extend(repeat(lir, &start, trip, &self.k_bytes, &mut |lir, at| {
                self.rows(lir, at, 0, *chunk, true)
            })?);
        }
        Ok(code)
    }

    /// All of m at one step of the contraction.
    fn rows(
        &self,
        lir: &mut Lir,
        at: &Position,
        level: usize,
        k: Chunk,
        continues: bool,
    ) -> Result<Vec<Code>, String> {
        if let Some(walk) = self.outer_m.get(level) {
            return repeat(lir, at, walk.extent, &walk.bytes, &mut |lir, at| {
                self.rows(lir, at, level + 1, k, continues)
            });
        }
        let mut code = Vec::new();
        for m in &self.m {
            let start = moved(at, &self.m_bytes, m.first.into());
            code.extend(repeat(lir, &start, m.count.into(), &self.m_bytes, &mut |lir, at| {
                let mut code = vec![self.stationary(at, k, *m)];
                code.extend(self.columns(lir, &at.clone(), &self.n, k, *m, continues)?);
                Ok::<_, String>(code)
            })?);
        }
        Ok(code)
    }

    fn stationary(&self, at: &Position, k: Chunk, m: Chunk) -> Code {
        let src = self.s.opnd(self.s.part0, &at[1], [0, 0, self.s_free]);
        Code::Inst(if self.transposed {
            MOp::Ldwt { src, k: k.parts, m: m.parts, row: self.x.part0, col: self.acc.part0 }
        } else {
            MOp::Ldw { src, k: k.parts, m: m.parts, col: self.acc.part0 }
        })
    }

    /// All of n against one stationary chunk: at most three dims and a bank's entries at a time.
    fn columns(
        &self,
        lir: &mut Lir,
        at: &Position,
        n: &[Dim],
        k: Chunk,
        m: Chunk,
        continues: bool,
    ) -> Result<Vec<Code>, String> {
        let entries = u64::from(self.array.bank_entries);
        let total: u64 = n.iter().map(|d| u64::from(d.extent)).product();
        let bytes = |d: &Dim, times: u32| {
            let t = i64::from(times);
            vec![d.strides[0] * t * self.acc.element_bytes(), 0, d.strides[1] * t * self.x.element_bytes()]
        };
        if total <= entries && n.len() <= 3 {
            return Ok(vec![self.multiply(at, n, k, m, continues)]);
        }
        let inner: u64 = n[1..].iter().map(|d| u64::from(d.extent)).product();
        // as many of the outermost dim as fit, in blocks of nearly equal size; else one by one
        let most = if n.len() > 3 { 1 } else { (entries / inner).max(1) as u32 };
        let blocks = n[0].extent.div_ceil(most);
        let block = n[0].extent.div_ceil(blocks);
        let full = n[0].extent / block;
        let rest = n[0].extent % block;
        let sub = |extent: u32| -> Vec<Dim> {
            let outer = Dim { extent, ..n[0].clone() };
            if extent == 1 { n[1..].to_vec() } else { [&[outer], &n[1..]].concat() }
        };
        let (whole, tail) = (sub(block), sub(rest));
        let mut code = repeat(lir, at, full.into(), &bytes(&n[0], block), &mut |lir, at| {
            self.columns(lir, at, &whole, k, m, continues)
        })?;
        if rest > 0 {
            let at = moved(at, &bytes(&n[0], block), full.into());
            code.extend(self.columns(lir, &at, &tail, k, m, continues)?);
        }
        Ok(code)
    }

    fn multiply(&self, at: &Position, dims: &[Dim], k: Chunk, m: Chunk, continues: bool) -> Code {
        let lead = 3 - dims.len();
        let (mut n, mut acc, mut mov) = ([1; 3], [0; 3], [0; 3]);
        for (i, d) in dims.iter().enumerate() {
            n[lead + i] = d.extent;
            acc[lead + i] = d.strides[0];
            mov[lead + i] = d.strides[1];
        }
        Code::Inst(MOp::Mma {
            acc: self.acc.opnd(self.acc.part0, &at[0], acc),
            mov: self.x.opnd(self.x.part0, &at[2], mov),
            k: k.parts,
            m: m.parts,
            n,
            accumulate: continues,
        })
    }
}

/// Why the memories of a matmul's operands do not do, if they do not.
pub(crate) fn wrong_space(acc: Space, s: Space, x: Space) -> Option<&'static str> {
    match (acc, s, x) {
        (Space::Acc, Space::Spm, Space::Spm) => None,
        (Space::Spm, _, _) => Some("the result is not in ACC"),
        _ => Some("an operand is not in SPM"),
    }
}
