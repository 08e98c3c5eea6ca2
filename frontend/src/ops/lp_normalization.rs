//! `LpNormalization`, `MeanVarianceNormalization` and `Hardmax`: along axes, by simple statistics.

use kiln_ir::nn::{MapKind, OpKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::draft::{Keep, Result, Val};
use crate::ops::pool::{powers, root};

/// `LpNormalization`: x/‖x‖ₚ along an axis.
pub fn lp(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    let axis = c.axis(c.int_or("axis", -1)?, c.draft.rank(x))?;
    let p = c.int_or("p", 2)? as f64;
    let powers = powers(c.draft, x, p)?;
    let sum = c.draft.reduce(ReduceKind::Sum, powers, &[axis], Keep::Dims)?;
    let norm = root(c.draft, sum, p)?;
    // Zeros stay zeros.
    let none = c.draft.map_scalar(MapKind::Eq, norm, 0.0)?;
    let one = c.draft.scalar(1.0, c.draft.dtype(x));
    let norm = c.draft.select(none, one, norm)?;
    Ok(vec![c.draft.map2(MapKind::Div, x, norm)?])
}

/// `MeanVarianceNormalization`: (x − mean)/(deviation + 10⁻⁹).
pub fn mean_variance(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    let axes = c.axes(c.ints("axes")?.unwrap_or(&[0, 2, 3]), c.draft.rank(x))?;
    let mean = c.draft.mean(x, &axes)?;
    let centered = c.draft.map2(MapKind::Sub, x, mean)?;
    let square = c.draft.map1(MapKind::Square, centered)?;
    let variance = c.draft.mean(square, &axes)?;
    let deviation = c.draft.map1(MapKind::Sqrt, variance)?;
    let deviation = c.draft.map_scalar(MapKind::Add, deviation, 1e-9)?;
    Ok(vec![c.draft.map2(MapKind::Div, centered, deviation)?])
}

/// `Hardmax`: 1 at the first maximum along an axis, 0 elsewhere; before opset 13 over all dims from the axis on.
pub fn hardmax(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let shape = c.draft.shape(x).to_vec();
    let flattens = c.opset < 13;
    let axis = c.axis(c.int_or("axis", if flattens { 1 } else { -1 })?, shape.len())?;
    let (data, axis) = if flattens {
        let flat = [shape[..axis].iter().product(), shape[axis..].iter().product()];
        (c.draft.reshape(x, &flat)?, 1)
    } else {
        (x, axis)
    };
    let best = c.draft.op(OpKind::Reduce { kind: ReduceKind::Argmax, axes: vec![axis] }, &[data])?;
    let best = c.draft.unsqueeze(best, axis)?;
    let extent = c.draft.shape(data)[axis];
    let mut along = vec![1; c.draft.rank(data)];
    along[axis] = extent;
    let index = c.draft.iota(&along, axis, DType::I32)?;
    let hit = c.draft.map2(MapKind::Eq, index, best)?;
    let y = c.draft.cast(hit, c.draft.dtype(x))?;
    Ok(vec![c.draft.reshape(y, &shape)?])
}
