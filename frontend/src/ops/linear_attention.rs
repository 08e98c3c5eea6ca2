//! `LinearAttention` and `CausalConvWithState`: recurrent layers with a carried state.
//!
//! ```text
//! S ← e^g·S + k ⊗ β(v − (e^g·S)ᵀk);   o = scale·Sᵀq
//! ```
//! The rows are known, so that the recurrence is written out row by row.

use kiln_ir::nn::{MapKind, OpKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Result, Val};
use crate::ops::conv::biased;

/// More rows than this would make a program of as many copies of the layer.
const MOST_ROWS: usize = 1024;

/// `LinearAttention`: query, key, value, past state, decay, beta.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    c.ignore(&["chunk_size"]);
    let q_heads = c.extents(&[c.required(c.int("q_num_heads")?, "q_num_heads")?])?[0];
    let heads = c.extents(&[c.required(c.int("kv_num_heads")?, "kv_num_heads")?])?[0];
    let (is_gated, is_delta) = match c.string("update_rule")?.unwrap_or("gated_delta") {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Diagnostic::new(Code::Attribute, format!("update_rule {other:?} is unknown"))),
    };
    let (q, k, v) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let dtype = c.expect_float(q)?;
    let (sq, sk, sv) = (c.draft.shape(q).to_vec(), c.draft.shape(k).to_vec(), c.draft.shape(v).to_vec());
    let fits = heads > 0
        && q_heads % heads == 0
        && q_heads > 0
        && [&sq, &sk, &sv].iter().all(|s| s.len() == 3 && s[..2] == sq[..2])
        && sq[2] % q_heads == 0
        && sv[2] % heads == 0
        && sk[2] == heads * (sq[2] / q_heads);
    if !fits || sq[1] > MOST_ROWS {
        return Err(Diagnostic::new(
            Code::Shape,
            format!(
                "Q {sq:?}, K {sk:?}, V {sv:?} for {q_heads} heads over {heads}; at most {MOST_ROWS} rows"
            ),
        ));
    }
    let (batch, rows, group) = (sq[0], sq[1], q_heads / heads);
    let (dk, dv) = (sq[2] / q_heads, sv[2] / heads);
    let scale = match c.float_or("scale", 0.0)? {
        0.0 => 1.0 / (dk as f64).sqrt(),
        scale => scale.into(),
    };
    let wide = |d: &mut Draft, x: Val, shape: &[usize]| -> Result<Val> {
        let x = d.reshape(x, shape)?;
        d.cast(x, DType::F32)
    };
    // Rows second; states are [B, heads, dk, dv].
    let q = wide(c.draft, q, &[batch, rows, heads, group, dk])?;
    let k = wide(c.draft, k, &[batch, rows, heads, dk, 1])?;
    let v = wide(c.draft, v, &[batch, rows, heads, 1, dv])?;
    let decay = match is_gated {
        true => {
            let g = c.input(4)?;
            let last = c.draft.shape(g).last().copied().unwrap_or(0) / heads;
            let g = wide(c.draft, g, &[batch, rows, heads, last, 1])?;
            Some(c.draft.map1(MapKind::Exp, g)?)
        }
        false => None,
    };
    let beta = match is_delta {
        true => {
            let b = c.input(5)?;
            let last = c.draft.shape(b).last().copied().unwrap_or(0);
            Some(wide(c.draft, b, &[batch, rows, last, 1, 1])?)
        }
        false => None,
    };
    let past = c.optional(3);
    let state_dtype = past.map_or(dtype, |p| c.draft.dtype(p));
    let d = &mut *c.draft;
    let mut state = match past {
        Some(past) => d.cast(past, DType::F32)?,
        None => d.full(0.0, DType::F32, &[batch, heads, dk, dv])?,
    };
    let row_of = |d: &mut Draft, x: Val, i: usize| -> Result<Val> {
        let row = d.slice_axis(x, 1, i, 1)?;
        let mut shape = d.shape(row).to_vec();
        shape.remove(1);
        d.reshape(row, &shape)
    };
    let mut outputs = Vec::new();
    for i in 0..rows {
        let (k, mut v) = (row_of(d, k, i)?, row_of(d, v, i)?);
        if let Some(decay) = decay {
            let decay = row_of(d, decay, i)?;
            state = d.map2(MapKind::Mul, state, decay)?;
        }
        if let Some(beta) = beta {
            let read = d.map2(MapKind::Mul, state, k)?;
            let read = d.reduce(ReduceKind::Sum, read, &[2], Keep::Dims)?;
            let less = d.map2(MapKind::Sub, v, read)?;
            let beta = row_of(d, beta, i)?;
            v = d.map2(MapKind::Mul, less, beta)?;
        }
        let written = d.map2(MapKind::Mul, k, v)?;
        state = d.map2(MapKind::Add, state, written)?;
        let q = row_of(d, q, i)?;
        let o = d.matmul(q, state, DType::F32)?;
        let o = d.map_scalar(MapKind::Mul, o, scale)?;
        outputs.push(d.reshape(o, &[batch, 1, q_heads * dv])?);
    }
    let y = d.concat(&outputs, 1)?;
    Ok(vec![d.cast(y, dtype)?, d.cast(state, state_dtype)?])
}

/// `CausalConvWithState`: a depthwise convolution over the carried positions and the new ones.
pub fn causal_conv(c: &mut Call) -> Result<Vec<Val>> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let dtype = c.expect_float(x)?;
    let (&[batch, channels, _], &[_, _, kernel]) = (c.draft.shape(x), c.draft.shape(w)) else {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("cannot convolve {:?} with {:?}", c.draft.shape(x), c.draft.shape(w)),
        ));
    };
    let carried = kernel.saturating_sub(1);
    let past = match c.optional(3) {
        Some(past) => past,
        None => c.draft.full(0.0, dtype, &[batch, channels, carried])?,
    };
    let all = c.draft.concat(&[past, x], 2)?;
    let kind = OpKind::Conv {
        strides: vec![1],
        pads_low: vec![0],
        pads_high: vec![0],
        dilations: vec![1],
        groups: channels,
    };
    let y = c.draft.op(kind, &[all, w])?;
    let bias = c.optional(2);
    let mut y = biased(c.draft, y, bias)?;
    match c.string("activation")?.unwrap_or("none") {
        "none" => {}
        "silu" | "swish" => {
            let gate = c.draft.map1(MapKind::Sigmoid, y)?;
            y = c.draft.map2(MapKind::Mul, y, gate)?;
        }
        other => return Err(Diagnostic::new(Code::Attribute, format!("activation {other:?} is unknown"))),
    }
    let length = c.draft.shape(all)[2];
    let present = c.draft.slice_axis(all, 2, length - carried, carried)?;
    Ok(vec![y, present])
}
