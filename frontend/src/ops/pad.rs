//! `Pad` with a constant; negative pads crop.

use kiln_ir::nn::OpKind;
use kiln_ir::types::Scalar;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};
use crate::fold::{Values, is_float};

/// `Pad`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let mode = c.string("mode")?.unwrap_or("constant");
    if mode != "constant" {
        return Err(Diagnostic::new(Code::Attribute, format!("mode {mode:?} is not handled")));
    }
    let rank = c.draft.rank(x);
    let (pads, value) = if c.opset < 11 {
        let pads = c.required(c.ints("pads")?, "pads")?.to_vec();
        (pads, Scalar::float(c.float_or("value", 0.0)?.into()))
    } else {
        (c.known_ints(1, "the pads")?, known_scalar(c, 2)?)
    };
    let value = match value {
        Scalar::Int(v) if is_float(c.draft.dtype(x)) => Scalar::float(v as f64),
        other => other,
    };
    let axes = match c.optional_ints(3, "the axes")? {
        Some(axes) => axes.iter().map(|&a| c.axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Diagnostic::new(Code::Shape, format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let (mut low, mut high) = (vec![0i64; rank], vec![0i64; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        (low[axis], high[axis]) = (pads[i], pads[axes.len() + i]);
    }
    // Cropping first is the same, as what is cropped is never what was padded.
    let shape = c.draft.shape(x).to_vec();
    let crop = |v: i64| usize::try_from(-v).unwrap_or(0);
    let offsets: Vec<usize> = low.iter().map(|&v| crop(v)).collect();
    let sizes: Vec<i64> =
        (0..rank).map(|d| shape[d] as i64 - crop(low[d]) as i64 - crop(high[d]) as i64).collect();
    let sizes = c.extents(&sizes)?;
    let cropped = c.draft.slice(x, &offsets, &sizes, &vec![1; rank])?;
    let grow = |v: &i64| (*v).max(0);
    let low = c.extents(&low.iter().map(grow).collect::<Vec<_>>())?;
    let high = c.extents(&high.iter().map(grow).collect::<Vec<_>>())?;
    Ok(vec![c.draft.op(OpKind::Pad { low, high, value }, &[cropped])?])
}

/// The known value of a scalar input; 0 when it is left out.
fn known_scalar(c: &Call, i: usize) -> Result<Scalar> {
    let Some(v) = c.optional(i) else { return Ok(Scalar::Int(0)) };
    match c.draft.splat(v).and_then(Values::of) {
        Some(Values::Int(v)) => Ok(Scalar::Int(v[0])),
        Some(Values::Float(v)) => Ok(Scalar::float(v[0])),
        None => Err(Diagnostic::new(Code::NotConstant, "the value to pad with depends on the inputs")),
    }
}
