//! `MatMulInteger` and `QLinearMatMul`: (A − a₀)·(B − b₀) in int32.

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::draft::{Draft, Result, Val};
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
    let wide = c.draft.cast(sum, c.draft.dtype(factor))?;
    let scaled = c.draft.map2(MapKind::Mul, wide, factor)?;
    let y_zero = row(c.draft, y_zero)?;
    let dtype = c.draft.dtype(y_zero);
    Ok(vec![quantize::round_to(c.draft, scaled, Some(y_zero), dtype)?])
}

/// Parameters of A and of the result stand for rows; a vector of them is a column.
fn row(d: &mut Draft, v: Val) -> Result<Val> {
    if d.rank(v) == 1 && d.shape(v)[0] > 1 { d.unsqueeze(v, 1) } else { Ok(v) }
}

fn product(d: &mut Draft, a: Val, b: Val, a_zero: Option<Val>, b_zero: Option<Val>) -> Result<Val> {
    let a_zero = a_zero.map(|z| row(d, z)).transpose()?;
    let (a, b) = (centered(d, a, a_zero)?, centered(d, b, b_zero)?);
    d.matmul(a, b, DType::I32)
}

/// x − zero in int32; `x` itself where the zero point is 0.
fn centered(d: &mut Draft, x: Val, zero: Option<Val>) -> Result<Val> {
    let Some(zero) = zero else { return Ok(x) };
    if d.splat(zero).is_some_and(|z| crate::fold::ints(z) == Some(vec![0])) {
        return Ok(x);
    }
    let (x, zero) = (d.cast(x, DType::I32)?, d.cast(zero, DType::I32)?);
    d.map2(MapKind::Sub, x, zero)
}
