//! onnxruntime's operators on quantised tensors: in float between dequantising and quantising.
//!
//! ```text
//! QLinearAdd (a, sa, za, b, sb, zb, s, z)   →   quantise_{s, z} (dequantise a + dequantise b)
//! ```

use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Keep, Result, Val};
use crate::ops::pool;
use crate::ops::quantize::{dequantized, round_to};

/// The value of the triple of inputs from `i` on.
fn operand(c: &mut Call, i: usize) -> Result<Val> {
    let (x, scale) = (c.input(i)?, c.input(i + 1)?);
    let zero = c.optional(i + 2);
    dequantized(c.draft, x, scale, zero)
}

/// `y` quantised by the scale in input `i` and the zero point after it.
fn requantized(c: &mut Call, y: Val, i: usize) -> Result<Vec<Val>> {
    let scale = c.input(i)?;
    let zero = c.optional(i + 1);
    let dtype = zero.map_or(DType::U8, |z| c.draft.dtype(z));
    let scaled = c.draft.map2(MapKind::Div, y, scale)?;
    Ok(vec![round_to(c.draft, scaled, zero, dtype)?])
}

/// `QLinearAdd` and `QLinearMul`.
pub fn binary(c: &mut Call, kind: MapKind) -> Result<Vec<Val>> {
    let (a, b) = (operand(c, 0)?, operand(c, 3)?);
    let y = c.draft.map2(kind, a, b)?;
    requantized(c, y, 6)
}

/// `QLinearSoftmax`.
pub fn softmax(c: &mut Call) -> Result<Vec<Val>> {
    let opset = c.int_or("opset", 13)?;
    let shape = c.draft.shape(c.input(0)?).to_vec();
    let axis = c.axis(c.int_or("axis", -1)?, shape.len())?;
    let x = operand(c, 0)?;
    let y = if opset >= 13 {
        c.draft.softmax(x, axis)?
    } else {
        let flat = [shape[..axis].iter().product(), shape[axis..].iter().product()];
        let x = c.draft.reshape(x, &flat)?;
        let y = c.draft.softmax(x, 1)?;
        c.draft.reshape(y, &shape)?
    };
    requantized(c, y, 3)
}

/// `QLinearSigmoid`.
pub fn sigmoid(c: &mut Call) -> Result<Vec<Val>> {
    let x = operand(c, 0)?;
    let y = c.draft.map1(MapKind::Sigmoid, x)?;
    requantized(c, y, 3)
}

/// `QLinearLeakyRelu`.
pub fn leaky_relu(c: &mut Call) -> Result<Vec<Val>> {
    let alpha = c.float_or("alpha", 0.01)?;
    let x = operand(c, 0)?;
    let below = c.draft.map_scalar(MapKind::Mul, x, alpha.into())?;
    let negative = c.draft.map_scalar(MapKind::Lt, x, 0.0)?;
    let y = c.draft.select(negative, below, x)?;
    requantized(c, y, 3)
}

/// `QLinearAveragePool`.
pub fn average_pool(c: &mut Call) -> Result<Vec<Val>> {
    channels_second(c)?;
    let x = operand(c, 0)?;
    let y = pool::average_of(c, x)?;
    requantized(c, y, 3)
}

/// `QLinearGlobalAveragePool`.
pub fn global_average_pool(c: &mut Call) -> Result<Vec<Val>> {
    channels_second(c)?;
    let x = operand(c, 0)?;
    let axes: Vec<usize> = (2..c.draft.rank(x)).collect();
    let y = c.draft.mean(x, &axes)?;
    requantized(c, y, 3)
}

fn channels_second(c: &Call) -> Result<()> {
    match c.flag("channels_last", false)? {
        false => Ok(()),
        true => Err(Diagnostic::new(Code::Attribute, "channels_last = 1 is not handled")),
    }
}

/// `QLinearReduceMean`.
pub fn reduce_mean(c: &mut Call) -> Result<Vec<Val>> {
    let x = operand(c, 0)?;
    let rank = c.draft.rank(x);
    let axes = match c.ints("axes")? {
        Some(axes) => c.axes(axes, rank)?,
        None => (0..rank).collect(),
    };
    let keep = if c.flag("keepdims", true)? { Keep::Dims } else { Keep::No };
    let count: usize = axes.iter().map(|&d| c.draft.shape(x)[d]).product();
    let sum = c.draft.reduce(ReduceKind::Sum, x, &axes, keep)?;
    let y = c.draft.map_scalar(MapKind::Div, sum, count as f64)?;
    requantized(c, y, 3)
}

/// `QLinearWhere`: a condition before the triples.
pub fn choose(c: &mut Call) -> Result<Vec<Val>> {
    let condition = c.input(0)?;
    let (a, b) = (operand(c, 1)?, operand(c, 4)?);
    let y = c.draft.select(condition, a, b)?;
    requantized(c, y, 7)
}

/// `QLinearConcat`: the result's scale and zero point, then triples.
pub fn concat(c: &mut Call) -> Result<Vec<Val>> {
    let mut parts = Vec::new();
    for i in (2..c.inputs.len()).step_by(3) {
        parts.push(operand(c, i)?);
    }
    let rank = parts.first().map_or(0, |&v| c.draft.rank(v));
    let axis = c.axis(c.required(c.int("axis")?, "axis")?, rank)?;
    let y = c.draft.concat(&parts, axis)?;
    requantized(c, y, 0)
}
