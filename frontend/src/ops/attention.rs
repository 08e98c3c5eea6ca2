//! `Attention` (opset 23 on): softmax(scale·Q·Kᵀ + bias)·V with heads, grouped heads, masks, soft cap, a past
//! and a window.
//!
//! ```text
//! scores = (scale·Q)·Kᵀ  → softcap → mask → softmax → ·V
//! ```
//! Grouped heads stay grouped: Q becomes `[B, kv heads, group, S, D]`, and K and V are not repeated. A row in
//! which no key may be attended gives zeros.

use kiln_ir::nn::{ContractDims, MapKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Result, Val};
use crate::fold::is_float;
use crate::model_file::dtype_from_onnx;

/// `Attention`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let flat = c.draft.rank(c.input(0)?) == 3;
    let (q_heads, kv_heads) = (c.int_or("q_num_heads", 0)?, c.int_or("kv_num_heads", 0)?);
    let q = heads_apart(c, 0, q_heads)?;
    let (mut k, mut v) = (heads_apart(c, 1, kv_heads)?, heads_apart(c, 2, kv_heads)?);
    let dtype = c.expect_float(q)?;
    let mut past = 0;
    if let (Some(past_k), Some(past_v)) = (c.optional(4), c.optional(5)) {
        past = c.draft.shape(past_k).get(2).copied().unwrap_or(0);
        k = c.draft.concat(&[past_k, k], 2)?;
        v = c.draft.concat(&[past_v, v], 2)?;
    }
    let shapes = Shapes::of(c.draft, q, k, v)?;
    let scale = c.float("scale")?.map_or(1.0 / (shapes.depth as f64).sqrt(), f64::from);
    let softcap = c.float_or("softcap", 0.0)?;
    let precision = match c.int_or("softmax_precision", 0)? {
        0 => dtype,
        number => i32::try_from(number).ok().and_then(dtype_from_onnx).filter(|&d| is_float(d)).ok_or_else(
            || Diagnostic::new(Code::Attribute, format!("softmax_precision {number} is not a float type")),
        )?,
    };
    let mode = c.int_or("qk_matmul_output_mode", 0)?;

    let grouped_q =
        c.draft.reshape(q, &[shapes.batch, shapes.kv_heads, shapes.group, shapes.rows, shapes.depth])?;
    let scaled = c.draft.map_scalar(MapKind::Mul, grouped_q, scale)?;
    let raw = c.draft.contract(scaled, k, pairing(4, 3), dtype)?;
    let all_heads = [shapes.batch, shapes.kv_heads * shapes.group, shapes.rows, shapes.keys];
    let raw = c.draft.reshape(raw, &all_heads)?;
    let mut scores = raw;
    if softcap > 0.0 {
        let small = c.draft.map_scalar(MapKind::Div, scores, softcap.into())?;
        let bent = c.draft.map1(MapKind::Tanh, small)?;
        scores = c.draft.map_scalar(MapKind::Mul, bent, softcap.into())?;
    }
    let capped = scores;
    let (masked, rows_may_be_empty) = mask(c, scores, &shapes, past)?;
    scores = c.draft.cast(masked, precision)?;
    let soft =
        if rows_may_be_empty { guarded_softmax(c.draft, scores)? } else { c.draft.softmax(scores, 3)? };
    let weights = c.draft.cast(soft, dtype)?;
    let grouped =
        c.draft.reshape(weights, &[shapes.batch, shapes.kv_heads, shapes.group, shapes.rows, shapes.keys])?;
    let y = c.draft.contract(grouped, v, pairing(4, 2), dtype)?;
    let heads = shapes.kv_heads * shapes.group;
    let mut y = c.draft.reshape(y, &[shapes.batch, heads, shapes.rows, shapes.value_depth])?;
    if flat {
        y = c.draft.transpose(y, &[0, 2, 1, 3])?;
        y = c.draft.reshape(y, &[shapes.batch, shapes.rows, heads * shapes.value_depth])?;
    }
    let inner = match mode {
        0 => raw,
        1 => capped,
        2 => masked,
        3 => weights,
        other => {
            return Err(Diagnostic::new(
                Code::Attribute,
                format!("qk_matmul_output_mode {other} is unknown"),
            ));
        }
    };
    Ok(vec![y, k, v, inner])
}

/// Batch dims 0 and 1 of both, one contracted dim each.
fn pairing(lhs: usize, rhs: usize) -> ContractDims {
    ContractDims {
        lhs_batch: vec![0, 1],
        rhs_batch: vec![0, 1],
        lhs_contract: vec![lhs],
        rhs_contract: vec![rhs],
    }
}

/// Extents of one attention.
struct Shapes {
    batch: usize,
    kv_heads: usize,
    /// Query heads for each key head.
    group: usize,
    rows: usize,
    keys: usize,
    depth: usize,
    value_depth: usize,
}

impl Shapes {
    fn of(d: &Draft, q: Val, k: Val, v: Val) -> Result<Shapes> {
        let (q, k, v) = (d.shape(q), d.shape(k), d.shape(v));
        let fits = q[0] == k[0]
            && k[0] == v[0]
            && k[1] == v[1]
            && k[1] > 0
            && q[1] % k[1] == 0
            && k[2] == v[2]
            && q[3] == k[3];
        if !fits {
            return Err(Diagnostic::new(
                Code::Shape,
                format!("Q {q:?}, K {k:?} and V {v:?} do not go together"),
            )
            .help("expected [B, heads, S, D], [B, kv heads, T, D] and [B, kv heads, T, E]"));
        }
        Ok(Shapes {
            batch: q[0],
            kv_heads: k[1],
            group: q[1] / k[1],
            rows: q[2],
            keys: k[2],
            depth: q[3],
            value_depth: v[3],
        })
    }
}

/// Input `i` as `[B, heads, S, D]`.
fn heads_apart(c: &mut Call, i: usize, heads: i64) -> Result<Val> {
    let x = c.input(i)?;
    match c.draft.shape(x).to_vec()[..] {
        [_, _, _, _] => Ok(x),
        [b, s, hidden] if heads > 0 && hidden % heads as usize == 0 => {
            let apart = c.draft.reshape(x, &[b, s, heads as usize, hidden / heads as usize])?;
            c.draft.transpose(apart, &[0, 2, 1, 3])
        }
        ref other => Err(Diagnostic::new(
            Code::Shape,
            format!("input {i} is {other:?}, neither [B, heads, S, D] nor [B, S, heads·D] for {heads} heads"),
        )),
    }
}

/// The scores with what may not be attended at −∞, and whether a row may be without any key.
fn mask(c: &mut Call, scores: Val, shapes: &Shapes, past: usize) -> Result<(Val, bool)> {
    let dtype = c.draft.dtype(scores);
    let mut allowed: Option<Val> = None;
    let mut rows_may_be_empty = false;
    let causal = c.flag("is_causal", false)?;
    let (left, right) = (c.int_or("left_window_size", -1)?, c.int_or("right_window_size", -1)?);
    let lengths = c.optional(6);
    let key = c.draft.iota(&[1, 1, 1, shapes.keys], 3, DType::I64)?;
    if causal || left >= 0 || right >= 0 {
        let row = c.draft.iota(&[1, 1, shapes.rows, 1], 2, DType::I64)?;
        // The position of a row among the keys: after the past, or at the end of the valid keys.
        let position = match lengths {
            Some(lengths) => {
                rows_may_be_empty = true;
                let lengths = per_batch(c.draft, lengths)?;
                let offset = c.draft.map_scalar(MapKind::Sub, lengths, shapes.rows as f64)?;
                c.draft.map2(MapKind::Add, row, offset)?
            }
            None => c.draft.map_scalar(MapKind::Add, row, past as f64)?,
        };
        let limits = [
            (causal, 0, MapKind::Le),
            (right >= 0, right, MapKind::Le),
            (left >= 0, -left.min(shapes.keys as i64 + past as i64), MapKind::Ge),
        ];
        for (_, shift, compare) in limits.into_iter().filter(|(wanted, ..)| *wanted) {
            let limit = c.draft.map_scalar(MapKind::Add, position, shift.min(shapes.keys as i64) as f64)?;
            let inside = c.draft.map2(compare, key, limit)?;
            allowed = Some(both(c.draft, allowed, inside)?);
        }
        rows_may_be_empty |= left >= 0 && past + shapes.rows > shapes.keys;
    }
    if let Some(lengths) = lengths {
        rows_may_be_empty = true;
        let lengths = per_batch(c.draft, lengths)?;
        let valid = c.draft.map2(MapKind::Lt, key, lengths)?;
        allowed = Some(both(c.draft, allowed, valid)?);
    }
    let mut scores = scores;
    if let Some(given) = c.optional(3) {
        rows_may_be_empty = true;
        let given = padded_mask(c.draft, given, shapes.keys)?;
        if c.draft.dtype(given) == DType::Bool {
            allowed = Some(both(c.draft, allowed, given)?);
        } else {
            let bias = c.draft.cast(given, dtype)?;
            scores = c.draft.map2(MapKind::Add, scores, bias)?;
        }
    }
    if let Some(allowed) = allowed {
        let never = c.draft.scalar(f64::NEG_INFINITY, dtype);
        scores = c.draft.select(allowed, scores, never)?;
    }
    Ok((scores, rows_may_be_empty))
}

fn both(d: &mut Draft, a: Option<Val>, b: Val) -> Result<Val> {
    match a {
        Some(a) => d.map2(MapKind::And, a, b),
        None => Ok(b),
    }
}

fn per_batch(d: &mut Draft, lengths: Val) -> Result<Val> {
    let batch = d.ty(lengths).elements();
    d.reshape(lengths, &[batch, 1, 1, 1])
}

/// A mask whose last dim is shorter than the keys goes on with "not attended".
fn padded_mask(d: &mut Draft, mask: Val, keys: usize) -> Result<Val> {
    let mut missing = d.shape(mask).to_vec();
    let Some(last) = missing.last_mut() else { return Ok(mask) };
    if *last == 1 || *last >= keys {
        return Ok(mask);
    }
    *last = keys - *last;
    let dtype = d.dtype(mask);
    let never = if dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    let fill = d.full(never, dtype, &missing)?;
    d.concat(&[mask, fill], missing.len() - 1)
}

/// Softmax over the last dim in which a row of −∞ gives zeros.
fn guarded_softmax(d: &mut Draft, x: Val) -> Result<Val> {
    let last = d.rank(x) - 1;
    let max = d.reduce(ReduceKind::Max, x, &[last], Keep::Dims)?;
    let empty = d.map_scalar(MapKind::Eq, max, f64::NEG_INFINITY)?;
    let zero = d.scalar(0.0, d.dtype(x));
    let safe_max = d.select(empty, zero, max)?;
    let shifted = d.map2(MapKind::Sub, x, safe_max)?;
    let exp = d.map1(MapKind::Exp, shifted)?;
    let sum = d.reduce(ReduceKind::Sum, exp, &[last], Keep::Dims)?;
    let one = d.scalar(1.0, d.dtype(x));
    let safe_sum = d.select(empty, one, sum)?;
    d.map2(MapKind::Div, exp, safe_sum)
}
