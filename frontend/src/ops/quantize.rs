//! Linear quantisation: `QuantizeLinear`, `DequantizeLinear`, `DynamicQuantizeLinear`.
//!
//! ```text
//! quantise(x) = saturate(round(x/scale) + zero);   dequantise(q) = (q − zero)·scale
//! ```
//! Scale and zero point hold for the whole tensor, for each index of an axis, or for blocks along it.

use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Range, Result, Val};
use crate::fold::is_float;
use crate::model_file::{dtype_from_onnx, dtype_to_onnx};
use crate::onnx::tensor_proto::DataType;

/// `DequantizeLinear`.
pub fn dequantize(c: &mut Call) -> Result<Vec<Val>> {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let asked = c.int_or("output_dtype", 0)?;
    let dtype = if asked == 0 { Some(c.draft.dtype(scale)) } else { dtype_from_onnx(asked as i32) };
    let dtype = dtype
        .filter(|&d| is_float(d))
        .ok_or_else(|| Diagnostic::new(Code::DType, format!("output_dtype {asked} is not a float type")))?;
    let scale = aligned(c, scale, x)?;
    let zero = match c.optional(2) {
        Some(zero) => Some(aligned(c, zero, x)?),
        None => None,
    };
    let y = dequantized(c.draft, x, scale, zero)?;
    Ok(vec![c.draft.cast(y, dtype)?])
}

/// (x − zero)·scale in the scale's dtype.
pub fn dequantized(d: &mut Draft, x: Val, scale: Val, zero: Option<Val>) -> Result<Val> {
    let dtype = d.dtype(scale);
    let mut wide = d.cast(x, dtype)?;
    if let Some(zero) = zero {
        let zero = d.cast(zero, dtype)?;
        if !d.splat(zero).is_some_and(|z| z.data.iter().all(|&b| b == 0)) {
            // Codes of up to 16 bits and their differences are exact in f32.
            wide = d.map2(MapKind::Sub, wide, zero)?;
        }
    }
    d.map2(MapKind::Mul, wide, scale)
}

/// `QuantizeLinear`.
pub fn quantize(c: &mut Call) -> Result<Vec<Val>> {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let asked = c.int_or("output_dtype", 0)?;
    let zero = match c.optional(2) {
        Some(zero) => Some(aligned(c, zero, x)?),
        None => None,
    };
    let packed = asked == DataType::Int4 as i64 || asked == DataType::Uint4 as i64;
    let dtype = match zero {
        Some(zero) => Some(c.draft.dtype(zero)),
        None if asked == 0 => Some(DType::U8),
        None => dtype_from_onnx(asked as i32),
    };
    let agrees = dtype.filter(|&d| !packed && (asked == 0 || i64::from(dtype_to_onnx(d)) == asked));
    let dtype =
        agrees.ok_or_else(|| Diagnostic::new(Code::DType, format!("output_dtype {asked} is not handled")))?;
    c.ignore(&["saturate"]);
    let scale = aligned(c, scale, x)?;
    let x = c.draft.cast(x, c.draft.dtype(scale))?;
    let scaled = c.draft.map2(MapKind::Div, x, scale)?;
    Ok(vec![round_to(c.draft, scaled, zero, dtype)?])
}

/// saturate(round(x) + zero) as `dtype`.
pub fn round_to(d: &mut Draft, x: Val, zero: Option<Val>, dtype: DType) -> Result<Val> {
    if is_float(dtype) {
        return saturated(d, x, dtype);
    }
    let mut code = d.map1(MapKind::Round, x)?;
    if let Some(zero) = zero {
        let zero = d.cast(zero, d.dtype(code))?;
        code = d.map2(MapKind::Add, code, zero)?;
    }
    let range = Range::of_dtype(dtype);
    let low = d.map_scalar(MapKind::Max, code, range.lo as f64)?;
    let both = d.map_scalar(MapKind::Min, low, range.hi as f64)?;
    d.cast(both, dtype)
}

/// `x` as an 8-bit float, its greatest for what is beyond; as any other float, rounded.
pub fn saturated(d: &mut Draft, x: Val, dtype: DType) -> Result<Val> {
    let most = match dtype {
        DType::F8E4M3 => 448.0,
        DType::F8E5M2 => 57344.0,
        _ => return d.cast(x, dtype),
    };
    let x = if is_float(d.dtype(x)) { x } else { d.cast(x, DType::F32)? };
    let above = d.map_scalar(MapKind::Max, x, -most)?;
    let within = d.map_scalar(MapKind::Min, above, most)?;
    d.cast(within, dtype)
}

/// `DynamicQuantizeLinear`: to uint8, by the range of the values.
pub fn dynamic(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let (codes, scale, zero) = by_range(c.draft, x)?;
    Ok(vec![codes, scale, zero])
}

/// Codes of uint8 with scale and zero point, by the range of the values.
pub fn by_range(d: &mut Draft, x: Val) -> Result<(Val, Val, Val)> {
    let axes: Vec<usize> = (0..d.rank(x)).collect();
    let max = d.reduce(ReduceKind::Max, x, &axes, Keep::No)?;
    let min = d.reduce(ReduceKind::Min, x, &axes, Keep::No)?;
    let (max, min) = (d.map_scalar(MapKind::Max, max, 0.0)?, d.map_scalar(MapKind::Min, min, 0.0)?);
    let span = d.map2(MapKind::Sub, max, min)?;
    let scale = d.map_scalar(MapKind::Div, span, 255.0)?;
    // A tensor of zeros has no range: onnxruntime's scale is then 1.
    let none = d.map_scalar(MapKind::Eq, span, 0.0)?;
    let one = d.scalar(1.0, DType::F32);
    let scale = d.select(none, one, scale)?;
    let low = d.map2(MapKind::Div, min, scale)?;
    let start = d.map1(MapKind::Neg, low)?;
    let zero = round_to(d, start, None, DType::U8)?;
    let scaled = d.map2(MapKind::Div, x, scale)?;
    let y = round_to(d, scaled, Some(zero), DType::U8)?;
    Ok((y, scale, zero))
}

/// A scale or zero point in a shape that broadcasts against `x`.
fn aligned(c: &mut Call, parameter: Val, x: Val) -> Result<Val> {
    let (axis, block) = (c.int_or("axis", 1)?, c.int_or("block_size", 0)?);
    let (shape, own) = (c.draft.shape(x).to_vec(), c.draft.shape(parameter).to_vec());
    if own.iter().product::<usize>() == 1 {
        return c.draft.reshape(parameter, &[]);
    }
    let axis = c.axis(axis, shape.len())?;
    if own.len() == 1 && own[0] == shape[axis] {
        let mut along = vec![1; shape.len() - axis];
        along[0] = own[0];
        return c.draft.reshape(parameter, &along);
    }
    let block = usize::try_from(block).unwrap_or(0);
    let blocked = own.len() == shape.len()
        && block > 0
        && (0..own.len()).all(|d| own[d] == if d == axis { shape[d].div_ceil(block) } else { shape[d] });
    if !blocked {
        return Err(Diagnostic::new(Code::Shape, format!("a scale or zero point of {own:?} for {shape:?}")));
    }
    let spread = c.draft.unsqueeze(parameter, axis + 1)?;
    let mut wide = c.draft.shape(spread).to_vec();
    wide[axis + 1] = block;
    let spread = c.draft.broadcast_to(spread, &wide)?;
    let mut joined = own;
    joined[axis] *= block;
    let joined = c.draft.reshape(spread, &joined)?;
    c.draft.slice_axis(joined, axis, 0, shape[axis])
}
