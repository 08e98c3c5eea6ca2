//! `LayerNormalization`: statistics in float over the axes from `axis` on.
//!
//! ```text
//! d = x − mean(x);  y = d · (1/√(mean(d²) + ε)) · scale + bias
//! ```

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};

/// `LayerNormalization`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let dtype = c.expect_float(x)?;
    let rank = c.draft.rank(x);
    let axis = c.axis(c.int_or("axis", -1)?, rank)?;
    let epsilon = c.float_or("epsilon", 1e-5)?;
    let stash = stash_dtype(c)?;
    let axes: Vec<usize> = (axis..rank).collect();
    let (normal, mean, inverse) = normalize(c.draft, x, &axes, epsilon.into(), stash)?;
    let normal = c.draft.cast(normal, dtype)?;
    let mut y = c.draft.map2(MapKind::Mul, normal, scale)?;
    if let Some(bias) = c.optional(2) {
        y = c.draft.map2(MapKind::Add, y, bias)?;
    }
    Ok(vec![y, mean, inverse])
}

/// The dtype of the statistics.
pub fn stash_dtype(c: &Call) -> Result<DType> {
    match c.int_or("stash_type", 1)? {
        1 => Ok(DType::F32),
        other => {
            let known = i32::try_from(other).ok().and_then(crate::model_file::dtype_from_onnx);
            known.filter(|&d| crate::fold::is_float(d)).ok_or_else(|| {
                Diagnostic::new(Code::Attribute, format!("stash_type {other} is not a float type"))
            })
        }
    }
}

/// The normalized `x` (in the dtype of the statistics), its mean and 1/√(variance + ε), dims kept.
pub fn normalize(
    d: &mut Draft,
    x: Val,
    axes: &[usize],
    epsilon: f64,
    stash: DType,
) -> Result<(Val, Val, Val)> {
    let x = d.cast(x, stash)?;
    let mean = d.mean(x, axes)?;
    let centered = d.map2(MapKind::Sub, x, mean)?;
    let square = d.map1(MapKind::Square, centered)?;
    let variance = d.mean(square, axes)?;
    let shifted = d.map_scalar(MapKind::Add, variance, epsilon)?;
    let deviation = d.map1(MapKind::Sqrt, shifted)?;
    let inverse = d.map1(MapKind::Reciprocal, deviation)?;
    Ok((d.map2(MapKind::Mul, centered, inverse)?, mean, inverse))
}
