//! onnxruntime's attention operators: `Attention` (with its projections), `MultiHeadAttention`, and `QAttention`.
//!
//! ```text
//! softmax(scale·Q·Kᵀ + mask + bias)·V,  heads side by side in the last dim
//! ```
//! A masked score gets `mask_filter_value` added; what lies after a row in a causal one is never attended.

use kiln_ir::nn::{ContractDims, MapKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::ops::{gather, matmul_integer, rotary_embedding};

/// `com.microsoft.Attention`: input, weights, bias, mask, past, attention bias.
pub fn attention(c: &mut Call) -> Result<Vec<Val>> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let dtype = c.expect_float(x)?;
    let product = c.draft.matmul(x, w, dtype)?;
    let bias = c.optional(2);
    projected(c, product, bias, [3, 4, 5])
}

/// `com.microsoft.QAttention`: the projections are products of quantised tensors.
pub fn quantized(c: &mut Call) -> Result<Vec<Val>> {
    let (x, w, bias) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (x_scale, w_scale) = (c.input(3)?, c.input(4)?);
    let (x_zero, w_zero) = (c.optional(6), c.optional(7));
    let sum = matmul_integer::product(c.draft, x, w, x_zero, w_zero)?;
    let scale = c.draft.map2(MapKind::Mul, x_scale, w_scale)?;
    let wide = c.draft.cast(sum, c.draft.dtype(scale))?;
    let product = c.draft.map2(MapKind::Mul, wide, scale)?;
    projected(c, product, Some(bias), [5, 8, usize::MAX])
}

/// Attention over Q, K and V side by side in the last dim; `at` are the inputs of mask, past and bias.
fn projected(c: &mut Call, product: Val, bias: Option<Val>, at: [usize; 3]) -> Result<Vec<Val>> {
    c.ignore(&["past_present_share_buffer"]);
    let heads = c.extents(&[c.required(c.int("num_heads")?, "num_heads")?])?[0];
    let mut all = product;
    if let Some(bias) = bias {
        all = c.draft.map2(MapKind::Add, all, bias)?;
    }
    let &[batch, rows, hidden] = c.draft.shape(all) else {
        return Err(Diagnostic::new(Code::Shape, format!("{:?} is not [B, S, hidden]", c.draft.shape(all))));
    };
    let sizes = match c.ints("qkv_hidden_sizes")? {
        Some(sizes) if sizes.len() == 3 => c.extents(sizes)?,
        _ => vec![hidden / 3; 3],
    };
    if heads == 0 || sizes.iter().any(|n| n % heads != 0) || sizes.iter().sum::<usize>() != hidden {
        return Err(Diagnostic::new(Code::Shape, format!("{sizes:?} of {hidden} for {heads} heads")));
    }
    let mut parts = Vec::new();
    let mut from = 0;
    for &size in &sizes {
        let part = c.draft.slice_axis(all, 2, from, size)?;
        let apart = c.draft.reshape(part, &[batch, rows, heads, size / heads])?;
        parts.push(c.draft.transpose(apart, &[0, 2, 1, 3])?);
        from += size;
    }
    let [mut q, mut k, mut v] = parts[..] else { return Ok(Vec::new()) };
    let past = c.optional(at[1]);
    let length = past.and_then(|p| c.draft.shape(p).get(3).copied()).unwrap_or(0);
    if c.flag("do_rotary", false)? {
        (q, k) = rotated(c, q, k, length)?;
    } else {
        c.ignore(&["rotary_embedding_dim"]);
    }
    if let Some(past) = past {
        let half = |d: &mut Draft, i: usize| -> Result<Val> {
            let one = d.slice_axis(past, 0, i, 1)?;
            let shape = d.shape(one)[1..].to_vec();
            d.reshape(one, &shape)
        };
        let (past_k, past_v) = (half(c.draft, 0)?, half(c.draft, 1)?);
        (k, v) = (c.draft.concat(&[past_k, k], 2)?, c.draft.concat(&[past_v, v], 2)?);
    }
    let (mask, bias) = (c.optional(at[0]), c.optional(at[2]));
    let y = attended(c, q, k, v, mask, bias, length)?;
    let mut results = vec![y];
    if c.wants(1) {
        let (k, v) = (c.draft.unsqueeze(k, 0)?, c.draft.unsqueeze(v, 0)?);
        results.push(c.draft.concat(&[k, v], 0)?);
    }
    Ok(results)
}

/// Q and K turned by the angles of their positions, which are computed here.
fn rotated(c: &mut Call, q: Val, k: Val, past: usize) -> Result<(Val, Val)> {
    let shape = c.draft.shape(q).to_vec();
    let asked = c.extents(&[c.int_or("rotary_embedding_dim", 0)?])?[0];
    let part = if asked == 0 { shape[3] } else { asked };
    let half = part / 2;
    c.expect_table(&[shape[2], half])?;
    let angles: Vec<f64> = (0..shape[2])
        .flat_map(|s| {
            (0..half).map(move |i| {
                let power = -2.0 * i as f64 / part.max(1) as f64;
                (past + s) as f64 * libm::pow(10000.0, power)
            })
        })
        .collect();
    let dtype = c.draft.dtype(q);
    let mut table = |f: fn(f64) -> f64| {
        let values = crate::fold::Values::Float(angles.iter().map(|&a| f(a)).collect());
        let data = values.encode(dtype);
        c.draft.known(kiln_machine::tensor::Tensor { dtype, shape: vec![shape[2], half], data })
    };
    let (cos, sin) = (table(libm::cos), table(libm::sin));
    Ok((
        rotary_embedding::rotate(c.draft, q, cos, sin, part, false)?,
        rotary_embedding::rotate(c.draft, k, cos, sin, part, false)?,
    ))
}

/// `com.microsoft.MultiHeadAttention`: query, key, value, bias, padding mask, attention bias, past key, past value.
pub fn multi_head(c: &mut Call) -> Result<Vec<Val>> {
    let heads = c.extents(&[c.required(c.int("num_heads")?, "num_heads")?])?[0];
    let (q, k, v) = query_key_value(c, heads)?;
    c.expect_float(q)?;
    let (mut k, mut v) = (k, v);
    let mut past = 0;
    if let (Some(past_k), Some(past_v)) = (c.optional(6), c.optional(7)) {
        past = c.draft.shape(past_k).get(2).copied().unwrap_or(0);
        (k, v) = (c.draft.concat(&[past_k, k], 2)?, c.draft.concat(&[past_v, v], 2)?);
    }
    if c.optional(8).is_some() || c.optional(9).is_some() {
        return Err(Diagnostic::new(
            Code::Attribute,
            "a shared past buffer and cache indirection are not handled",
        ));
    }
    let (mask, bias) = (c.optional(4), c.optional(5));
    let y = attended(c, q, k, v, mask, bias, past)?;
    Ok(vec![y, k, v])
}

/// Q, K and V as `[B, heads, S, D]`, from three inputs or packed ones.
fn query_key_value(c: &mut Call, heads: usize) -> Result<(Val, Val, Val)> {
    let q = c.input(0)?;
    let wrong = |d: &Draft, v: Val| {
        Diagnostic::new(Code::Shape, format!("{:?} is no query, key or value of {heads} heads", d.shape(v)))
    };
    // Dim 3 of a packed tensor tells Q, K and V apart.
    let unpack = |d: &mut Draft, x: Val, i: usize| -> Result<Val> {
        let &[b, s, n, _, depth] = d.shape(x) else { return Err(wrong(d, x)) };
        let one = d.slice_axis(x, 3, i, 1)?;
        let one = d.reshape(one, &[b, s, n, depth])?;
        d.transpose(one, &[0, 2, 1, 3])
    };
    let bias = c.optional(3);
    let d = &mut *c.draft;
    if d.rank(q) == 5 {
        if bias.is_some() {
            return Err(Diagnostic::new(Code::Attribute, "a bias of a packed query is not handled"));
        }
        return Ok((unpack(d, q, 0)?, unpack(d, q, 1)?, unpack(d, q, 2)?));
    }
    let widths =
        |c: &Call, i: usize| c.optional(i).and_then(|v| c.draft.shape(v).last().copied()).unwrap_or(0);
    let hidden = c.draft.shape(q).last().copied().unwrap_or(0);
    let v_hidden = widths(c, 2);
    // The bias of Q, K and V stands in one vector.
    let with_bias = |c: &mut Call, x: Val, from: usize| -> Result<Val> {
        let Some(bias) = bias else { return Ok(x) };
        let n = c.draft.shape(x).last().copied().unwrap_or(0);
        let part = c.draft.slice_axis(bias, 0, from, n)?;
        c.draft.map2(MapKind::Add, x, part)
    };
    let apart = |c: &mut Call, x: Val| -> Result<Val> {
        match c.draft.shape(x)[..] {
            [b, s, n] if heads > 0 && n % heads == 0 => {
                let apart = c.draft.reshape(x, &[b, s, heads, n / heads])?;
                c.draft.transpose(apart, &[0, 2, 1, 3])
            }
            [_, _, _, _] => Ok(x),
            _ => Err(wrong(c.draft, x)),
        }
    };
    let query = with_bias(c, q, 0)?;
    let query = apart(c, query)?;
    let Some(k) = c.optional(1) else {
        return Err(Diagnostic::new(Code::InvalidGraph, "input 1 is missing")
            .help("key and value may be left out only beside a packed query"));
    };
    if c.draft.rank(k) == 5 {
        return Ok((query, unpack(c.draft, k, 0)?, unpack(c.draft, k, 1)?));
    }
    let v = c.input(2)?;
    let (k, v) = match c.draft.rank(k) {
        // Already by heads: projected elsewhere, so without a bias.
        4 => (k, v),
        _ => (with_bias(c, k, hidden)?, with_bias(c, v, 2 * hidden)?),
    };
    debug_assert!(v_hidden > 0 || c.draft.rank(v) == 4);
    Ok((query, apart(c, k)?, apart(c, v)?))
}

/// softmax(scale·Q·Kᵀ + mask + bias)·V as `[B, S, heads·E]`.
fn attended(
    c: &mut Call,
    q: Val,
    k: Val,
    v: Val,
    mask: Option<Val>,
    bias: Option<Val>,
    past: usize,
) -> Result<Val> {
    let (sq, sk, sv) = (c.draft.shape(q).to_vec(), c.draft.shape(k).to_vec(), c.draft.shape(v).to_vec());
    if sk[..2] != sq[..2] || sv[..3] != sk[..3] || sk[3] != sq[3] {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("Q {sq:?}, K {sk:?} and V {sv:?} do not go together"),
        ));
    }
    let dtype = c.draft.dtype(q);
    let filter = c.float_or("mask_filter_value", -10000.0)?;
    let scale = match c.float_or("scale", 0.0)? {
        0.0 => 1.0 / (sq[3] as f64).sqrt(),
        scale => scale.into(),
    };
    let causal = c.flag("unidirectional", false)?;
    let [batch, heads, rows, _] = sq[..] else { return Ok(q) };
    let keys = sk[2];
    let scores = c.draft.contract(q, k, pairing(3), dtype)?;
    let mut scores = c.draft.map_scalar(MapKind::Mul, scores, scale)?;
    if let Some(mask) = mask {
        let kept = kept(c.draft, mask, batch, rows, keys)?;
        let zero = c.draft.scalar(0.0, dtype);
        let filter = c.draft.scalar(filter.into(), dtype);
        let added = c.draft.select(kept, zero, filter)?;
        scores = c.draft.map2(MapKind::Add, scores, added)?;
    }
    if let Some(bias) = bias {
        scores = c.draft.map2(MapKind::Add, scores, bias)?;
    }
    if causal {
        let row = c.draft.iota(&[rows, 1], 0, DType::I32)?;
        let position = c.draft.map_scalar(MapKind::Add, row, past as f64)?;
        let key = c.draft.iota(&[1, keys], 1, DType::I32)?;
        let seen = c.draft.map2(MapKind::Le, key, position)?;
        let never = c.draft.scalar(f64::NEG_INFINITY, dtype);
        scores = c.draft.select(seen, scores, never)?;
    }
    let weights = c.draft.softmax(scores, 3)?;
    let y = c.draft.contract(weights, v, pairing(2), dtype)?;
    let y = c.draft.transpose(y, &[0, 2, 1, 3])?;
    c.draft.reshape(y, &[batch, rows, heads * sv[3]])
}

fn pairing(rhs: usize) -> ContractDims {
    ContractDims {
        lhs_batch: vec![0, 1],
        rhs_batch: vec![0, 1],
        lhs_contract: vec![3],
        rhs_contract: vec![rhs],
    }
}

/// Which keys a mask keeps: lengths `[B]`, ends and starts `[2B]`, or masks `[B, T]`, `[B, S, T]`, `[B, 1, M, M]`.
fn kept(d: &mut Draft, mask: Val, batch: usize, rows: usize, keys: usize) -> Result<Val> {
    let shape = d.shape(mask).to_vec();
    let key = d.iota(&[1, 1, 1, keys], 3, DType::I32)?;
    let limit = |d: &mut Draft, from: usize| -> Result<Val> {
        let part = d.slice_axis(mask, 0, from, batch)?;
        let part = d.cast(part, DType::I32)?;
        d.reshape(part, &[batch, 1, 1, 1])
    };
    let set = |d: &mut Draft, mask: Val, shape: &[usize]| -> Result<Val> {
        let mask = d.reshape(mask, shape)?;
        if d.dtype(mask) == DType::Bool { Ok(mask) } else { d.map_scalar(MapKind::Gt, mask, 0.0) }
    };
    match shape[..] {
        [n] if n == batch => {
            let end = limit(d, 0)?;
            d.map2(MapKind::Lt, key, end)
        }
        [n] if n == 2 * batch => {
            let (end, start) = (limit(d, 0)?, limit(d, batch)?);
            let (before, after) = (d.map2(MapKind::Lt, key, end)?, d.map2(MapKind::Ge, key, start)?);
            d.map2(MapKind::And, before, after)
        }
        [b, t] if t == keys => set(d, mask, &[b, 1, 1, t]),
        [b, s, t] if s == rows && t == keys => set(d, mask, &[b, 1, s, t]),
        // Of a mask for the longest sequence the last rows count, of the keys there are.
        [b, 1, s, t] if s >= keys && t >= keys => {
            let part = d.slice(mask, &[0, 0, keys - rows, 0], &[b, 1, rows, keys], &[1; 4])?;
            set(d, part, &[b, 1, rows, keys])
        }
        _ => Err(Diagnostic::new(
            Code::Shape,
            format!("a mask {shape:?} for {batch} sequences of {rows} rows and {keys} keys"),
        )),
    }
}

/// `com.microsoft.RotaryEmbedding`: X `[B, S, heads·D]` or `[B, heads, S, D]`, positions `[1]` or `[B, S]`, caches.
pub fn rotary(c: &mut Call) -> Result<Vec<Val>> {
    let (x, positions, cos, sin) = (c.input(0)?, c.input(1)?, c.input(2)?, c.input(3)?);
    c.expect_float(x)?;
    c.ignore(&["scale", "is_packed_batching"]);
    let interleaved = c.flag("interleaved", false)?;
    let heads = c.extents(&[c.int_or("num_heads", 0)?])?[0];
    let shape = c.draft.shape(x).to_vec();
    let half = c.draft.shape(cos).last().copied().unwrap_or(0);
    let x4 = match shape[..] {
        [_, _, _, _] => c.draft.transpose(x, &[0, 2, 1, 3])?,
        [b, s, hidden] => {
            // Without a number of heads the caches say how wide one is.
            let heads = if heads > 0 { heads } else { hidden / (2 * half).max(1) };
            if heads == 0 || hidden % heads != 0 {
                return Err(Diagnostic::new(Code::Shape, format!("{shape:?} for {heads} heads")));
            }
            c.draft.reshape(x, &[b, s, heads, hidden / heads])?
        }
        _ => return Err(Diagnostic::new(Code::Shape, format!("{shape:?} is not [B, S, heads·D]"))),
    };
    let (batch, rows) = (c.draft.shape(x4)[0], c.draft.shape(x4)[1]);
    let d = &mut *c.draft;
    let positions = if d.ty(positions).elements() == 1 && batch * rows != 1 {
        // One number: the position of the first row.
        let first = d.reshape(positions, &[1, 1])?;
        let row = d.iota(&[1, rows], 1, DType::I64)?;
        d.map2(MapKind::Add, first, row)?
    } else {
        d.reshape(positions, &[batch, rows])?
    };
    let dtype = d.dtype(x);
    let angle = |d: &mut Draft, cache: Val| -> Result<Val> {
        let taken = gather::take(d, cache, positions, 0)?;
        let taken = d.cast(taken, dtype)?;
        d.unsqueeze(taken, 2)
    };
    let (cos, sin) = (angle(d, cos)?, angle(d, sin)?);
    let turned = rotary_embedding::rotate(d, x4, cos, sin, 2 * half, interleaved)?;
    c.ignore(&["rotary_embedding_dim"]);
    let y = match shape.len() {
        4 => c.draft.transpose(turned, &[0, 2, 1, 3])?,
        _ => c.draft.reshape(turned, &shape)?,
    };
    Ok(vec![y])
}
