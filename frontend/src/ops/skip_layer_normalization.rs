//! onnxruntime's norms with a residual: `SkipLayerNormalization`, `SkipSimplifiedLayerNormalization`, and
//! `SimplifiedLayerNormalization` (RMS), which it puts into ONNX's own domain without a schema.

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::draft::{Result, Val};
use crate::ops::{layer_normalization, rms_normalization};

/// `SimplifiedLayerNormalization`: as `RMSNormalization`, with the factor as second result.
pub fn simplified(c: &mut Call) -> Result<Vec<Val>> {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    c.expect_float(x)?;
    let rank = c.draft.rank(x);
    let axis = c.axis(c.int_or("axis", -1)?, rank)?;
    let epsilon = c.float_or("epsilon", 1e-5)?;
    let stash = layer_normalization::stash_dtype(c)?;
    let axes: Vec<usize> = (axis..rank).collect();
    let (normal, factor) = rms_normalization::normalize(c.draft, x, &axes, epsilon.into(), stash)?;
    let normal = c.draft.cast(normal, c.draft.dtype(scale))?;
    Ok(vec![c.draft.map2(MapKind::Mul, normal, scale)?, factor])
}

/// `com.microsoft.SkipSimplifiedLayerNormalization`: input, skip, gamma, bias.
pub fn skip_simplified(c: &mut Call) -> Result<Vec<Val>> {
    let gamma = c.input(2)?;
    let sum = residual(c, 3)?;
    let (axes, dtype, epsilon) =
        (vec![c.draft.rank(sum) - 1], c.expect_float(sum)?, c.float_or("epsilon", 1e-12)?);
    let (normal, factor) = rms_normalization::normalize(c.draft, sum, &axes, epsilon.into(), DType::F32)?;
    let normal = c.draft.cast(normal, dtype)?;
    let y = c.draft.map2(MapKind::Mul, normal, gamma)?;
    // The mean is never computed; its place among the results is that of the factor.
    Ok(vec![y, factor, factor, sum])
}

/// `com.microsoft.SkipLayerNormalization`: input, skip, gamma, beta, bias.
pub fn skip(c: &mut Call) -> Result<Vec<Val>> {
    let gamma = c.input(2)?;
    let sum = residual(c, 4)?;
    let (axes, dtype, epsilon) =
        (vec![c.draft.rank(sum) - 1], c.expect_float(sum)?, c.float_or("epsilon", 1e-12)?);
    let (normal, mean, factor) =
        layer_normalization::normalize(c.draft, sum, &axes, epsilon.into(), DType::F32)?;
    let normal = c.draft.cast(normal, dtype)?;
    let mut y = c.draft.map2(MapKind::Mul, normal, gamma)?;
    if let Some(beta) = c.optional(3) {
        y = c.draft.map2(MapKind::Add, y, beta)?;
    }
    Ok(vec![y, mean, factor, sum])
}

/// input + skip (+ the bias in input `bias`).
fn residual(c: &mut Call, bias: usize) -> Result<Val> {
    let (x, skip) = (c.input(0)?, c.input(1)?);
    let mut sum = c.draft.map2(MapKind::Add, x, skip)?;
    if let Some(bias) = c.optional(bias) {
        sum = c.draft.map2(MapKind::Add, sum, bias)?;
    }
    Ok(sum)
}
