//! `MatMulInteger`, `QLinearMatMul` and onnxruntime's relatives: (A − a₀)·(B − b₀) in int32.
//!
//! ```text
//! A·B − a₀·Σ B − b₀·Σ A + K·a₀·b₀
//! ```
//! The array multiplies bytes as they are; what the zero points add is sums over rows and columns.

use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::draft::{Draft, Keep, Result, Val};
use crate::ops::quantize;

/// `MatMulInteger`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let (a_zero, b_zero) = (c.optional(2), c.optional(3));
    Ok(vec![product(c.draft, a, b, a_zero, b_zero)?])
}

/// `QLinearMatMul`: the product, rescaled to the result's quantisation.
pub fn qlinear(c: &mut Call) -> Result<Vec<Val>> {
    let (a, a_scale, a_zero) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (b, b_scale, b_zero) = (c.input(3)?, c.input(4)?, c.input(5)?);
    let (y_scale, y_zero) = (c.input(6)?, c.input(7)?);
    let sum = product(c.draft, a, b, Some(a_zero), Some(b_zero))?;
    let (a_scale, b_scale) = (row(c.draft, a_scale)?, b_scale);
    let scales = c.draft.map2(MapKind::Mul, a_scale, b_scale)?;
    let y_scale = row(c.draft, y_scale)?;
    let factor = c.draft.map2(MapKind::Div, scales, y_scale)?;
    let wide = c.draft.cast(sum, DType::F32)?;
    let factor = c.draft.cast(factor, DType::F32)?;
    let scaled = c.draft.map2(MapKind::Mul, wide, factor)?;
    let y_zero = row(c.draft, y_zero)?;
    let dtype = c.draft.dtype(y_zero);
    Ok(vec![quantize::round_to(c.draft, scaled, Some(y_zero), dtype)?])
}

/// `com.microsoft.MatMulIntegerToFloat`: the product times both scales, plus a bias.
pub fn to_float(c: &mut Call) -> Result<Vec<Val>> {
    let (a, b, a_scale, b_scale) = (c.input(0)?, c.input(1)?, c.input(2)?, c.input(3)?);
    let (a_zero, b_zero, bias) = (c.optional(4), c.optional(5), c.optional(6));
    Ok(vec![scaled(c.draft, (a, a_scale, a_zero), (b, b_scale, b_zero), bias)?])
}

/// `com.microsoft.DynamicQuantizeMatMul`: A is quantised by its range first.
pub fn dynamic(c: &mut Call) -> Result<Vec<Val>> {
    let (a, b, b_scale) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (b_zero, bias) = (c.optional(3), c.optional(4));
    let (codes, scale, zero) = quantize::by_range(c.draft, a)?;
    Ok(vec![scaled(c.draft, (codes, scale, Some(zero)), (b, b_scale, b_zero), bias)?])
}

type Quantized = (Val, Val, Option<Val>);

/// The product of two quantised tensors in float.
fn scaled(d: &mut Draft, a: Quantized, b: Quantized, bias: Option<Val>) -> Result<Val> {
    let sum = product(d, a.0, b.0, a.2, b.2)?;
    let scale = d.map2(MapKind::Mul, a.1, b.1)?;
    let wide = d.cast(sum, d.dtype(scale))?;
    let y = d.map2(MapKind::Mul, wide, scale)?;
    match bias {
        Some(bias) => d.map2(MapKind::Add, y, bias),
        None => Ok(y),
    }
}

/// `com.microsoft.QGemm`: α·A′·B′ + C of quantised tensors; a result without quantisation is float.
pub fn qgemm(c: &mut Call) -> Result<Vec<Val>> {
    let (mut a, a_scale, a_zero) = (c.input(0)?, c.input(1)?, c.optional(2));
    let (mut b, b_scale, b_zero) = (c.input(3)?, c.input(4)?, c.optional(5));
    if c.flag("transA", false)? {
        a = c.draft.transpose_last(a)?;
    }
    if c.flag("transB", false)? {
        b = c.draft.transpose_last(b)?;
    }
    let alpha = c.float_or("alpha", 1.0)?;
    let mut sum = product(c.draft, a, b, a_zero, b_zero)?;
    if let Some(bias) = c.optional(6) {
        sum = c.draft.map2(MapKind::Add, sum, bias)?;
    }
    let scale = c.draft.map2(MapKind::Mul, a_scale, b_scale)?;
    let scale = c.draft.map_scalar(MapKind::Mul, scale, alpha.into())?;
    let wide = c.draft.cast(sum, c.draft.dtype(scale))?;
    let y = c.draft.map2(MapKind::Mul, wide, scale)?;
    let Some(y_scale) = c.optional(7) else { return Ok(vec![y]) };
    let y_zero = c.optional(8);
    let dtype = y_zero.map_or(DType::U8, |z| c.draft.dtype(z));
    let y = c.draft.map2(MapKind::Div, y, y_scale)?;
    Ok(vec![quantize::round_to(c.draft, y, y_zero, dtype)?])
}

/// Parameters of A and of the result stand for rows; a vector of them is a column.
fn row(d: &mut Draft, v: Val) -> Result<Val> {
    if d.rank(v) == 1 && d.shape(v)[0] > 1 { d.unsqueeze(v, 1) } else { Ok(v) }
}

/// (A − a₀)·(B − b₀) in int32.
pub fn product(d: &mut Draft, a: Val, b: Val, a_zero: Option<Val>, b_zero: Option<Val>) -> Result<Val> {
    let mut y = d.matmul(a, b, DType::I32)?;
    let kept = |d: &mut Draft, zero: Option<Val>| -> Result<Option<Val>> {
        let zero = zero.filter(|&z| d.splat(z).and_then(crate::fold::ints) != Some(vec![0]));
        zero.map(|z| d.cast(z, DType::I32)).transpose()
    };
    let a_zero = kept(d, a_zero)?.map(|z| row(d, z)).transpose()?;
    let b_zero = kept(d, b_zero)?;
    // Of vectors the product has lost a dim that the sums must lose too.
    let (ra, rb) = (d.rank(a), d.rank(b));
    let depth = d.shape(a)[ra - 1];
    if let Some(a_zero) = a_zero {
        let wide = d.cast(b, DType::I32)?;
        let axis = if rb == 1 { 0 } else { rb - 2 };
        let keep = if rb == 1 || ra == 1 { Keep::No } else { Keep::Dims };
        let sums = d.reduce(ReduceKind::Sum, wide, &[axis], keep)?;
        let less = d.map2(MapKind::Mul, sums, a_zero)?;
        y = d.map2(MapKind::Sub, y, less)?;
    }
    if let Some(b_zero) = b_zero {
        let wide = d.cast(a, DType::I32)?;
        let keep = if rb == 1 || ra == 1 { Keep::No } else { Keep::Dims };
        let mut sums = d.reduce(ReduceKind::Sum, wide, &[ra - 1], keep)?;
        if let Some(a_zero) = a_zero {
            let centre = d.map_scalar(MapKind::Mul, a_zero, depth as f64)?;
            sums = d.map2(MapKind::Sub, sums, centre)?;
        }
        let less = d.map2(MapKind::Mul, sums, b_zero)?;
        y = d.map2(MapKind::Sub, y, less)?;
    }
    Ok(y)
}
