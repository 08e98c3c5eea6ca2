//! `Pad`: with a constant, or with elements of the tensor itself; negative pads crop.

use kiln_ir::nn::{MapKind, OpKind};
use kiln_ir::types::Scalar;
use kiln_machine::tensor::{DType, Tensor};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::fold::{Values, is_float};
use crate::ops::gather;

/// `Pad`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let mode = c.string("mode")?.unwrap_or("constant").to_string();
    let rank = c.draft.rank(x);
    let (pads, attribute) = if c.opset < 11 && c.node.domain() != "com.microsoft" {
        let pads = c.required(c.ints("pads")?, "pads")?.to_vec();
        (pads, Some(f64::from(c.float_or("value", 0.0)?)))
    } else {
        (c.known_ints(1, "the pads")?, None)
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
    if mode != "constant" {
        return reflected(c, x, &low, &high, &mode);
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
    let dtype = c.draft.dtype(x);
    let number = |v: f64| if is_float(dtype) { Scalar::float(v) } else { Scalar::Int(v as i64) };
    let given = if attribute.is_none() { c.optional(2) } else { None };
    let known = match given {
        None => Some(number(attribute.unwrap_or(0.0))),
        Some(v) => c.draft.splat(v).and_then(Values::of).map(|v| match v {
            Values::Int(v) if is_float(dtype) => Scalar::float(v[0] as f64),
            Values::Int(v) => Scalar::Int(v[0]),
            Values::Float(v) => number(v[0]),
        }),
    };
    if let (Some(value), true) = (known, dtype != DType::Bool) {
        return Ok(vec![c.draft.op(OpKind::Pad { low, high, value }, &[cropped])?]);
    }
    // A value of the inputs (or a bool): chosen where a mask of the data has been padded with 0.
    let value = match given {
        Some(v) => c.draft.reshape(v, &[])?,
        None => c.draft.scalar(0.0, dtype),
    };
    let ones = c.draft.full(1.0, DType::I32, &sizes)?;
    let inside = pad_zero(c.draft, ones, &low, &high)?;
    let inside = c.draft.map_scalar(MapKind::Ne, inside, 0.0)?;
    let data = if dtype == DType::Bool { c.draft.cast(cropped, DType::I32)? } else { cropped };
    let padded = pad_zero(c.draft, data, &low, &high)?;
    let padded = c.draft.cast(padded, dtype)?;
    Ok(vec![c.draft.select(inside, padded, value)?])
}

fn pad_zero(d: &mut Draft, x: Val, low: &[usize], high: &[usize]) -> Result<Val> {
    let value = if is_float(d.dtype(x)) { Scalar::float(0.0) } else { Scalar::Int(0) };
    d.op(OpKind::Pad { low: low.to_vec(), high: high.to_vec(), value }, &[x])
}

/// Modes `reflect`, `edge` and `wrap`: each axis taken by constant indices.
fn reflected(c: &mut Call, x: Val, low: &[i64], high: &[i64], mode: &str) -> Result<Vec<Val>> {
    let mut y = x;
    for axis in 0..low.len() {
        if low[axis] == 0 && high[axis] == 0 {
            continue;
        }
        let n = c.draft.shape(x)[axis] as i64;
        let place = |i: i64| match mode {
            _ if n == 0 => None,
            "edge" => Some(i.clamp(0, n - 1)),
            "wrap" => Some(i.rem_euclid(n)),
            "reflect" => {
                let period = (2 * (n - 1)).max(1);
                let at = i.rem_euclid(period);
                Some(if at < n { at } else { period - at })
            }
            _ => None,
        };
        let total = c.extents(&[n + low[axis] + high[axis]])?[0] as i64;
        c.expect_table(&[total as usize])?;
        let indices: Option<Vec<i64>> = (0..total).map(|i| place(i - low[axis])).collect();
        let indices = indices.ok_or_else(|| {
            Diagnostic::new(Code::Attribute, format!("mode {mode:?} cannot pad {n} elements"))
        })?;
        let data = Values::Int(indices).encode(DType::I64);
        let indices = c.draft.known(Tensor { dtype: DType::I64, shape: vec![total as usize], data });
        y = gather::take(c.draft, y, indices, axis)?;
    }
    Ok(vec![y])
}
