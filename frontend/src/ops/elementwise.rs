//! Operators that are one `nn.map` kind, with numpy's broadcasting: `Add`, `Tanh`, `Equal`, `Max`, …
//!
//! ```text
//! C = Add (A, B)   →   nn.map add (broadcast A, broadcast B)
//! ```

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// One operand.
pub fn unary(c: &mut Call, kind: MapKind) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    Ok(vec![c.draft.map1(kind, x)?])
}

/// Two operands that broadcast.
pub fn binary(c: &mut Call, kind: MapKind) -> Result<Vec<Val>> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    same_dtype(c, &[a, b])?;
    Ok(vec![c.draft.map2(kind, a, b)?])
}

/// Any number of operands that broadcast, combined from the left.
pub fn variadic(c: &mut Call, kind: MapKind) -> Result<Vec<Val>> {
    let inputs = c.all_inputs()?;
    same_dtype(c, &inputs)?;
    let (&first, rest) = inputs
        .split_first()
        .ok_or_else(|| Diagnostic::new(Code::InvalidGraph, "needs at least one input"))?;
    let mut all = first;
    for &next in rest {
        all = c.draft.map2(kind, all, next)?;
    }
    Ok(vec![all])
}

/// `Mean`: the sum of all operands divided by their number.
pub fn mean(c: &mut Call) -> Result<Vec<Val>> {
    let sum = variadic(c, MapKind::Add)?[0];
    let count = c.inputs.len() as f64;
    Ok(vec![c.draft.map_scalar(MapKind::Div, sum, count)?])
}

fn same_dtype(c: &Call, inputs: &[Val]) -> Result<()> {
    let dtypes: Vec<DType> = inputs.iter().map(|&v| c.draft.dtype(v)).collect();
    if dtypes.windows(2).all(|w| w[0] == w[1]) {
        return Ok(());
    }
    let names: Vec<&str> = dtypes.iter().map(|d| d.name()).collect();
    Err(Diagnostic::new(Code::DType, format!("operands of different dtypes: {}", names.join(", ")))
        .help("ONNX converts nothing by itself: a Cast is missing in the model"))
}

/// `Pow`: the exponent may have another dtype than the base.
pub fn pow(c: &mut Call) -> Result<Vec<Val>> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let dtype = c.draft.dtype(a);
    // The exponents that models use most are cheaper and exact as products.
    let whole = c.draft.splat(b).and_then(crate::fold::Values::of).map(|v| match v {
        crate::fold::Values::Int(v) => v[0] as f64,
        crate::fold::Values::Float(v) => v[0],
    });
    if whole == Some(2.0) {
        let shape = crate::draft::broadcast_shape(&[c.draft.shape(a), c.draft.shape(b)])?;
        let a = c.draft.broadcast_to(a, &shape)?;
        return Ok(vec![c.draft.map1(MapKind::Square, a)?]);
    }
    let b = c.draft.cast(b, dtype)?;
    Ok(vec![c.draft.map2(MapKind::Pow, a, b)?])
}

/// `Mod`: with the divisor's sign, or the dividend's when `fmod = 1`.
pub fn modulo(c: &mut Call) -> Result<Vec<Val>> {
    let fmod = c.flag("fmod", false)?;
    binary(c, if fmod { MapKind::Fmod } else { MapKind::Mod })
}

/// `Clip`: bounds as attributes up to opset 10, as inputs from 11.
pub fn clip(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let dtype = c.draft.dtype(x);
    let (low, high) = if c.opset < 11 {
        let low = c.float("min")?.map(|v| c.draft.scalar(v.into(), dtype));
        let high = c.float("max")?.map(|v| c.draft.scalar(v.into(), dtype));
        (low, high)
    } else {
        (c.optional(1), c.optional(2))
    };
    let mut y = x;
    if let Some(low) = low {
        y = c.draft.map2(MapKind::Max, y, low)?;
    }
    if let Some(high) = high {
        y = c.draft.map2(MapKind::Min, y, high)?;
    }
    Ok(vec![y])
}

/// `IsInf`, of either sign or of both.
pub fn is_inf(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let (negative, positive) = (c.flag("detect_negative", true)?, c.flag("detect_positive", true)?);
    let inf = c.draft.map1(MapKind::IsInf, x)?;
    let sign = match (negative, positive) {
        (true, true) => return Ok(vec![inf]),
        (false, false) => {
            let shape = c.draft.shape(x).to_vec();
            return Ok(vec![c.draft.full(0.0, DType::Bool, &shape)?]);
        }
        (true, false) => MapKind::Lt,
        (false, true) => MapKind::Gt,
    };
    let signed = c.draft.map_scalar(sign, x, 0.0)?;
    Ok(vec![c.draft.map2(MapKind::And, inf, signed)?])
}

/// `Dropout` in inference: the data pass, and the mask is all true.
pub fn dropout(c: &mut Call) -> Result<Vec<Val>> {
    c.ignore(&["ratio", "seed"]);
    let x = c.input(0)?;
    if let Some(training) = c.optional_ints(2, "training_mode")?
        && training.iter().any(|&t| t != 0)
    {
        return Err(Diagnostic::new(Code::Attribute, "Dropout in training mode is not handled")
            .help("export the model for inference"));
    }
    let shape = c.draft.shape(x).to_vec();
    Ok(vec![x, c.draft.full(1.0, DType::Bool, &shape)?])
}
