//! `com.microsoft.GroupQueryAttention`: grouped heads, rotary embedding and a cache in one operator.
//!
//! `seqlens_k[b] + 1` keys of sequence `b` are valid, its new rows last; a first prompt (as many rows as keys)
//! starts at 0. The present holds the valid past, then the new rows: in a gather, as the past of a sequence
//! may be shorter than its tensor.

use kiln_ir::nn::{ContractDims, MapKind, OpKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Range, Result, Val};
use crate::ops::{gather, rotary_embedding};

/// `GroupQueryAttention`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let heads = c.extents(&[c.required(c.int("num_heads")?, "num_heads")?])?[0];
    let kv_heads = c.extents(&[c.required(c.int("kv_num_heads")?, "kv_num_heads")?])?[0];
    if kv_heads == 0 || heads % kv_heads != 0 {
        return Err(Diagnostic::new(Code::Attribute, format!("{heads} heads in {kv_heads} groups")));
    }
    if (12..c.inputs.len()).any(|i| c.optional(i).is_some()) {
        return Err(Diagnostic::new(Code::Attribute, "a quantised cache is not handled"));
    }
    c.ignore(&["qk_output"]);
    let is_smooth = c.flag("smooth_softmax", false)?;
    let (q, k, v) = query_key_value(c, heads, kv_heads)?;
    let dtype = c.expect_float(q)?;
    let &[batch, _, rows, depth] = c.draft.shape(q) else { return Ok(Vec::new()) };
    let total = match c.known_ints(6, "total_sequence_length")?[..] {
        [total] => c.extents(&[total])?[0],
        _ => return Err(Diagnostic::new(Code::Shape, "total_sequence_length must be one number")),
    };
    let past = Past::of(c, batch, rows, total)?;
    let row = c.draft.iota(&[1, rows], 1, DType::I64)?;
    let position = c.draft.map2(MapKind::Add, past.start, row)?;
    let (mut q, mut k) = (q, k);
    if c.flag("do_rotary", false)? {
        let interleaved = c.flag("rotary_interleaved", false)?;
        let (cos, sin) = (c.input(7)?, c.input(8)?);
        // Positions for the angles may be given; the mask goes by the cache.
        let angles = c.optional(9).unwrap_or(position);
        q = turned(c.draft, q, cos, sin, angles, interleaved)?;
        k = turned(c.draft, k, cos, sin, angles, interleaved)?;
    } else {
        c.ignore(&["rotary_interleaved"]);
    }
    let (present_k, present_v) = (past.joined(c, 3, k)?, past.joined(c, 4, v)?);
    let scale = match c.float_or("scale", 0.0)? {
        0.0 => 1.0 / (depth as f64).sqrt(),
        scale => scale.into(),
    };
    let softcap = c.float_or("softcap", 0.0)?;
    let keys = c.draft.shape(present_k)[2];
    let grouped = c.draft.reshape(q, &[batch, kv_heads, heads / kv_heads, rows, depth])?;
    let scaled = c.draft.map_scalar(MapKind::Mul, grouped, scale)?;
    let mut scores = c.draft.contract(scaled, present_k, pairing(3), dtype)?;
    if softcap > 0.0 {
        let small = c.draft.map_scalar(MapKind::Div, scores, softcap.into())?;
        let bent = c.draft.map1(MapKind::Tanh, small)?;
        scores = c.draft.map_scalar(MapKind::Mul, bent, softcap.into())?;
    }
    if let Some(bias) = c.optional(10) {
        let &[b, h, _, t] = c.draft.shape(bias) else {
            return Err(Diagnostic::new(Code::Shape, "the attention bias is not [B, heads, S, T]"));
        };
        let bias = if h == 1 {
            c.draft.reshape(bias, &[b, 1, 1, rows, t])?
        } else {
            c.draft.reshape(bias, &[b, kv_heads, heads / kv_heads, rows, t])?
        };
        let bias = if t > keys { c.draft.slice_axis(bias, 4, 0, keys)? } else { bias };
        scores = c.draft.map2(MapKind::Add, scores, bias)?;
    }
    let key = c.draft.iota(&[1, 1, 1, 1, keys], 4, DType::I64)?;
    let shape: Vec<usize> = c.draft.shape(position).to_vec();
    let limit = c.draft.reshape(position, &[shape[0], 1, 1, shape[1], 1])?;
    let mut allowed = c.draft.map2(MapKind::Le, key, limit)?;
    let window = c.int_or("local_window_size", -1)?;
    if window > 0 {
        let first = c.draft.map_scalar(MapKind::Sub, limit, window.min(keys as i64) as f64)?;
        let near = c.draft.map2(MapKind::Gt, key, first)?;
        allowed = c.draft.map2(MapKind::And, allowed, near)?;
    }
    let never = c.draft.scalar(f64::NEG_INFINITY, dtype);
    let masked = c.draft.select(allowed, scores, never)?;
    let weights = match (c.optional(11), is_smooth) {
        (Some(sink), _) => {
            let sink = c.draft.reshape(sink, &[1, kv_heads, heads / kv_heads, 1, 1])?;
            softmax_beside(c.draft, masked, sink)?
        }
        (None, true) => {
            let zero = c.draft.scalar(0.0, dtype);
            softmax_beside(c.draft, masked, zero)?
        }
        (None, false) => c.draft.softmax(masked, 4)?,
    };
    let y = c.draft.contract(weights, present_v, pairing(2), dtype)?;
    let y = c.draft.reshape(y, &[batch, heads, rows, depth])?;
    let y = c.draft.transpose(y, &[0, 2, 1, 3])?;
    let y = c.draft.reshape(y, &[batch, rows, heads * depth])?;
    Ok(vec![y, present_k, present_v])
}

/// Softmax over the last dim in which each row has one more score, whose weight is left out.
fn softmax_beside(d: &mut Draft, x: Val, sink: Val) -> Result<Val> {
    let sink = d.cast(sink, d.dtype(x))?;
    let max = d.reduce(ReduceKind::Max, x, &[4], Keep::Dims)?;
    let max = d.map2(MapKind::Max, max, sink)?;
    let shifted = d.map2(MapKind::Sub, x, max)?;
    let exp = d.map1(MapKind::Exp, shifted)?;
    let beside = d.map2(MapKind::Sub, sink, max)?;
    let beside = d.map1(MapKind::Exp, beside)?;
    let sum = d.reduce(ReduceKind::Sum, exp, &[4], Keep::Dims)?;
    let sum = d.map2(MapKind::Add, sum, beside)?;
    d.map2(MapKind::Div, exp, sum)
}

fn pairing(rhs: usize) -> ContractDims {
    ContractDims {
        lhs_batch: vec![0, 1],
        rhs_batch: vec![0, 1],
        lhs_contract: vec![4],
        rhs_contract: vec![rhs],
    }
}

/// Q, K and V as `[B, heads, S, D]`, from three inputs or one packed.
fn query_key_value(c: &mut Call, heads: usize, kv_heads: usize) -> Result<(Val, Val, Val)> {
    let x = c.input(0)?;
    let packed = c.optional(1).is_none();
    let shape = c.draft.shape(x).to_vec();
    let all = if packed { heads + 2 * kv_heads } else { heads };
    let [b, s, hidden] = shape[..] else {
        return Err(Diagnostic::new(Code::Shape, format!("the query {shape:?} is not [B, S, hidden]")));
    };
    if hidden % all != 0 {
        return Err(Diagnostic::new(Code::Shape, format!("{hidden} elements for {all} heads")));
    }
    let depth = hidden / all;
    let apart = |c: &mut Call, v: Val, n: usize| -> Result<Val> {
        let apart = c.draft.reshape(v, &[b, s, n, depth])?;
        c.draft.transpose(apart, &[0, 2, 1, 3])
    };
    if packed {
        let mut part = |from: usize, n: usize| -> Result<Val> {
            let part = c.draft.slice_axis(x, 2, from * depth, n * depth)?;
            apart(c, part, n)
        };
        return Ok((part(0, heads)?, part(heads, kv_heads)?, part(heads + kv_heads, kv_heads)?));
    }
    let (k, v) = (c.input(1)?, c.input(2)?);
    Ok((apart(c, x, heads)?, apart(c, k, kv_heads)?, apart(c, v, kv_heads)?))
}

/// Where the new rows of each sequence go.
struct Past {
    /// Position of the first new row, `[B, 1]`, or `[1, 1]` when it is 0 for all.
    start: Val,
    first_prompt: bool,
    rows: usize,
    /// Keys in the present.
    keys: usize,
}

impl Past {
    fn of(c: &mut Call, batch: usize, rows: usize, total: usize) -> Result<Past> {
        let length = c.optional(3).map_or(0, |p| c.draft.shape(p).get(2).copied().unwrap_or(0));
        let keys = total.max(length);
        if rows == total {
            let start = c.draft.full(0.0, DType::I64, &[1, 1])?;
            return Ok(Past { start, first_prompt: true, rows, keys });
        }
        let last = c.input(5)?;
        // More would not fit the present.
        c.draft.demand(last, Range::new(rows as i64 - 1, keys as i64 - 1));
        let last = c.draft.assume(last, Range::new(rows as i64 - 1, keys as i64 - 1));
        let last = c.draft.cast(last, DType::I64)?;
        let start = c.draft.map_scalar(MapKind::Sub, last, rows as f64 - 1.0)?;
        let start = c.draft.reshape(start, &[batch, 1])?;
        Ok(Past { start, first_prompt: false, rows, keys })
    }

    /// The past in input `i`, then `new`, `[B, heads, keys, D]`.
    fn joined(&self, c: &mut Call, i: usize, new: Val) -> Result<Val> {
        let past = c.optional(i).filter(|&p| c.draft.shape(p).get(2).is_some_and(|&n| n > 0));
        let d = &mut *c.draft;
        let Some(past) = past.filter(|_| !self.first_prompt) else {
            let mut shape = d.shape(new).to_vec();
            if shape[2] == self.keys {
                return Ok(new);
            }
            shape[2] = self.keys - shape[2];
            let rest = d.full(0.0, d.dtype(new), &shape)?;
            return d.concat(&[new, rest], 2);
        };
        let length = d.shape(past)[2];
        let all = d.concat(&[past, new], 2)?;
        // Rows of the sequence in order: the past up to `start`, then the new ones, then whatever.
        let at = d.iota(&[1, self.keys], 1, DType::I64)?;
        let is_past = d.map2(MapKind::Lt, at, self.start)?;
        let since = d.map2(MapKind::Sub, at, self.start)?;
        let since = d.map_scalar(MapKind::Max, since, 0.0)?;
        let since = d.map_scalar(MapKind::Min, since, self.rows as f64 - 1.0)?;
        let from_new = d.map_scalar(MapKind::Add, since, length as f64)?;
        let from_past = d.map_scalar(MapKind::Min, at, length as f64 - 1.0)?;
        let row = d.select(is_past, from_past, from_new)?;
        let row = d.unsqueeze(row, 2)?;
        let by_row = d.transpose(all, &[0, 2, 1, 3])?;
        let taken = d.op(OpKind::GatherNd { batch_dims: 1 }, &[by_row, row])?;
        let taken = d.transpose(taken, &[0, 2, 1, 3])?;
        // Behind the last row of a sequence there is nothing.
        let end = d.map_scalar(MapKind::Add, self.start, self.rows as f64)?;
        let valid = d.map2(MapKind::Lt, at, end)?;
        let valid = d.reshape(valid, &[d.shape(valid)[0], 1, self.keys, 1])?;
        let zero = d.scalar(0.0, d.dtype(taken));
        d.select(valid, taken, zero)
    }
}

/// Rotary embedding of `[B, heads, S, D]` at positions `[B or 1, S]`.
fn turned(d: &mut Draft, x: Val, cos: Val, sin: Val, position: Val, interleaved: bool) -> Result<Val> {
    let dtype = d.dtype(x);
    let angle = |d: &mut Draft, cache: Val| -> Result<Val> {
        let taken = gather::take(d, cache, position, 0)?;
        let taken = d.cast(taken, dtype)?;
        d.unsqueeze(taken, 1)
    };
    let (cos, sin) = (angle(d, cos)?, angle(d, sin)?);
    let rotated = 2 * d.shape(cos).last().copied().unwrap_or(0);
    rotary_embedding::rotate(d, x, cos, sin, rotated, interleaved)
}
