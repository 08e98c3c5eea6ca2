//! `RMSNormalization`: y = x · (1/√(mean(x²) + ε)) · scale, the statistics in float.

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::draft::{Draft, Result, Val};
use crate::ops::layer_normalization::stash_dtype;

/// `RMSNormalization`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let dtype = c.expect_float(x)?;
    let rank = c.draft.rank(x);
    let axis = c.axis(c.int_or("axis", -1)?, rank)?;
    let epsilon = c.float_or("epsilon", 1e-5)?;
    let stash = stash_dtype(c)?;
    let axes: Vec<usize> = (axis..rank).collect();
    let (normal, _) = normalize(c.draft, x, &axes, epsilon.into(), stash)?;
    let normal = c.draft.cast(normal, dtype)?;
    Ok(vec![c.draft.map2(MapKind::Mul, normal, scale)?])
}

/// x/√(mean(x²) + ε) in the dtype of the statistics, and the factor, dims kept.
pub fn normalize(d: &mut Draft, x: Val, axes: &[usize], epsilon: f64, stash: DType) -> Result<(Val, Val)> {
    let x = d.cast(x, stash)?;
    let square = d.map1(MapKind::Square, x)?;
    let mean = d.mean(square, axes)?;
    let shifted = d.map_scalar(MapKind::Add, mean, epsilon)?;
    let root = d.map1(MapKind::Sqrt, shifted)?;
    let inverse = d.map1(MapKind::Reciprocal, root)?;
    Ok((d.map2(MapKind::Mul, x, inverse)?, inverse))
}
