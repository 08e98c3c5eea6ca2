//! `com.microsoft.MatMulNBits`: weights of 4 or 8 bits in blocks along K, each block with a scale.
//!
//! ```text
//! B [N, blocks, block·bits/8] u8  →  (nibbles − zero) · scale  →  [N, K];   y = A·Bᵀ + bias
//! ```

use kiln_ir::nn::{ContractDims, MapKind, OpKind, ReduceKind};
use kiln_ir::types::Scalar;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Result, Val};
use crate::fold::is_float;

/// `MatMulNBits`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (a, b, scales) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let dtype = c.expect_float(a)?;
    c.ignore(&["weight_prepacked"]);
    let accuracy = c.int_or("accuracy_level", 0)?;
    let size = |name: &str| -> Result<usize> { Ok(c.extents(&[c.required(c.int(name)?, name)?])?[0]) };
    let (k, n, block) = (size("K")?, size("N")?, size("block_size")?);
    let bits = c.int_or("bits", 4)?;
    if !matches!(bits, 4 | 8) || block == 0 {
        return Err(Diagnostic::new(
            Code::Attribute,
            format!("bits = {bits}, block_size = {block} is not handled"),
        ));
    }
    if c.optional(4).is_some() {
        return Err(Diagnostic::new(Code::Attribute, "reordered groups (g_idx) are not handled"));
    }
    let blocks = k.div_ceil(block);
    let per_byte = 8 / bits as usize;
    let codes = c.draft.reshape(b, &[n, blocks, block / per_byte])?;
    let codes = unpacked(c.draft, codes, per_byte)?;
    let codes = c.draft.cast(codes, dtype)?;
    let zero = match c.optional(3) {
        None => c.draft.scalar(f64::from(1 << (bits - 1)), dtype),
        Some(zero) if is_float(c.draft.dtype(zero)) => {
            let zero = c.draft.cast(zero, dtype)?;
            c.draft.reshape(zero, &[n, blocks, 1])?
        }
        Some(zero) => {
            let packed = c.draft.reshape(zero, &[n, 1, blocks.div_ceil(per_byte)])?;
            let all = unpacked(c.draft, packed, per_byte)?;
            let all = c.draft.slice_axis(all, 2, 0, blocks)?;
            let all = c.draft.cast(all, dtype)?;
            c.draft.reshape(all, &[n, blocks, 1])?
        }
    };
    let centered = c.draft.map2(MapKind::Sub, codes, zero)?;
    let scales = c.draft.reshape(scales, &[n, blocks, 1])?;
    let scales = c.draft.cast(scales, dtype)?;
    let weight = c.draft.map2(MapKind::Mul, centered, scales)?;
    let weight = c.draft.reshape(weight, &[n, blocks * block])?;
    let weight = c.draft.slice_axis(weight, 1, 0, k)?;
    // The least accuracy that the exporter allows for A, which is also what onnxruntime computes with.
    let a = if accuracy == 4 && bits == 4 { in_bytes(c.draft, a, block)? } else { a };
    let last = c.draft.rank(a) - 1;
    let dims = ContractDims {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![last],
        rhs_contract: vec![1],
    };
    let mut y = c.draft.contract(a, weight, dims, dtype)?;
    if let Some(bias) = c.optional(5) {
        y = c.draft.map2(MapKind::Add, y, bias)?;
    }
    Ok(vec![y])
}

/// `a` rounded to signed bytes in blocks of the last dim, each with a scale of its greatest magnitude / 127.
fn in_bytes(d: &mut Draft, a: Val, block: usize) -> Result<Val> {
    let dtype = d.dtype(a);
    let shape = d.shape(a).to_vec();
    let last = shape.len() - 1;
    let k = shape[last];
    let blocks = k.div_ceil(block);
    let mut high = vec![0; shape.len()];
    high[last] = blocks * block - k;
    let wide = d.cast(a, DType::F32)?;
    let pad = OpKind::Pad { low: vec![0; shape.len()], high, value: Scalar::float(0.0) };
    let padded = d.op(pad, &[wide])?;
    let apart = d.reshape(padded, &[&shape[..last], &[blocks, block]].concat())?;
    let size = d.map1(MapKind::Abs, apart)?;
    let most = d.reduce(ReduceKind::Max, size, &[last + 1], Keep::Dims)?;
    let scale = d.map_scalar(MapKind::Div, most, 127.0)?;
    // A block of zeros has no scale.
    let none = d.map_scalar(MapKind::Eq, scale, 0.0)?;
    let one = d.scalar(1.0, DType::F32);
    let divisor = d.select(none, one, scale)?;
    let scaled = d.map2(MapKind::Div, apart, divisor)?;
    let codes = d.map1(MapKind::Round, scaled)?;
    let rounded = d.map2(MapKind::Mul, codes, scale)?;
    let joined = d.reshape(rounded, &[&shape[..last], &[blocks * block]].concat())?;
    let y = d.slice_axis(joined, last, 0, k)?;
    d.cast(y, dtype)
}

/// The codes of each byte of the last dim, low bits first, one a byte.
fn unpacked(d: &mut Draft, packed: Val, per_byte: usize) -> Result<Val> {
    if per_byte == 1 {
        return Ok(packed);
    }
    let last = d.rank(packed);
    let mut shape = d.shape(packed).to_vec();
    let fifteen = d.scalar(15.0, DType::U8);
    let low = d.map2(MapKind::And, packed, fifteen)?;
    let high = d.map_scalar(MapKind::Shr, packed, 4.0)?;
    let (low, high) = (d.unsqueeze(low, last)?, d.unsqueeze(high, last)?);
    let pairs = d.concat(&[low, high], last)?;
    shape[last - 1] *= per_byte;
    d.reshape(pairs, &shape)
}
