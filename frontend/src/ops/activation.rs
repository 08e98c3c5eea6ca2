//! Activations that are small compositions: `LeakyRelu`, `HardSwish`, `Elu`, `Mish`, …

use kiln_ir::nn::MapKind as M;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::ops::gelu;

fn input(c: &Call) -> Result<Val> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    Ok(x)
}

/// x < 0 ? below : x.
fn below_zero(d: &mut Draft, x: Val, below: Val) -> Result<Val> {
    let negative = d.map_scalar(M::Lt, x, 0.0)?;
    d.select(negative, below, x)
}

/// `LeakyRelu`: x < 0 ? α·x : x.
pub fn leaky_relu(c: &mut Call) -> Result<Vec<Val>> {
    let (x, alpha) = (input(c)?, c.float_or("alpha", 0.01)?);
    let below = c.draft.map_scalar(M::Mul, x, alpha.into())?;
    Ok(vec![below_zero(c.draft, x, below)?])
}

/// `PRelu`: x < 0 ? slope·x : x.
pub fn prelu(c: &mut Call) -> Result<Vec<Val>> {
    let (x, slope) = (input(c)?, c.input(1)?);
    let below = c.draft.map2(M::Mul, x, slope)?;
    Ok(vec![below_zero(c.draft, x, below)?])
}

/// `Elu`: x < 0 ? α·(eˣ − 1) : x.
pub fn elu(c: &mut Call) -> Result<Vec<Val>> {
    let (x, alpha) = (input(c)?, c.float_or("alpha", 1.0)?);
    let exp = c.draft.map1(M::Exp, x)?;
    let less = c.draft.map_scalar(M::Sub, exp, 1.0)?;
    let below = c.draft.map_scalar(M::Mul, less, alpha.into())?;
    Ok(vec![below_zero(c.draft, x, below)?])
}

/// max(0, min(1, α·x + β)).
fn hard_sigmoid_of(d: &mut Draft, x: Val, alpha: f64, beta: f64) -> Result<Val> {
    let scaled = d.map_scalar(M::Mul, x, alpha)?;
    let moved = d.map_scalar(M::Add, scaled, beta)?;
    let capped = d.map_scalar(M::Min, moved, 1.0)?;
    d.map_scalar(M::Max, capped, 0.0)
}

/// `HardSigmoid`.
pub fn hard_sigmoid(c: &mut Call) -> Result<Vec<Val>> {
    let (x, alpha, beta) = (input(c)?, c.float_or("alpha", 0.2)?, c.float_or("beta", 0.5)?);
    Ok(vec![hard_sigmoid_of(c.draft, x, alpha.into(), beta.into())?])
}

/// `HardSwish`: x·max(0, min(1, x/6 + 1/2)).
pub fn hard_swish(c: &mut Call) -> Result<Vec<Val>> {
    let x = input(c)?;
    let gate = hard_sigmoid_of(c.draft, x, 1.0 / 6.0, 0.5)?;
    Ok(vec![c.draft.map2(M::Mul, x, gate)?])
}

/// `Softsign`: x/(1 + |x|).
pub fn softsign(c: &mut Call) -> Result<Vec<Val>> {
    let x = input(c)?;
    let size = c.draft.map1(M::Abs, x)?;
    let more = c.draft.map_scalar(M::Add, size, 1.0)?;
    Ok(vec![c.draft.map2(M::Div, x, more)?])
}

/// `Mish`: x·tanh(softplus(x)).
pub fn mish(c: &mut Call) -> Result<Vec<Val>> {
    let x = input(c)?;
    let soft = c.draft.map1(M::Softplus, x)?;
    let gate = c.draft.map1(M::Tanh, soft)?;
    Ok(vec![c.draft.map2(M::Mul, x, gate)?])
}

/// `Swish` and `com.microsoft.QuickGelu`: x·σ(α·x).
pub fn swish(c: &mut Call, default_alpha: f32) -> Result<Vec<Val>> {
    let (x, alpha) = (input(c)?, c.float_or("alpha", default_alpha)?);
    let scaled = if alpha == 1.0 { x } else { c.draft.map_scalar(M::Mul, x, alpha.into())? };
    let gate = c.draft.map1(M::Sigmoid, scaled)?;
    Ok(vec![c.draft.map2(M::Mul, x, gate)?])
}

/// `com.microsoft.BiasGelu` (exact) and `com.microsoft.FastGelu` (by tanh): gelu(x + bias).
pub fn bias_gelu(c: &mut Call, gelu_of: fn(&mut Draft, Val) -> Result<Val>) -> Result<Vec<Val>> {
    let mut x = input(c)?;
    if let Some(bias) = c.optional(1) {
        x = c.draft.map2(M::Add, x, bias)?;
    }
    Ok(vec![gelu_of(c.draft, x)?])
}

/// `com.microsoft.Gelu`: always exact.
pub fn microsoft_gelu(c: &mut Call) -> Result<Vec<Val>> {
    let x = input(c)?;
    Ok(vec![gelu::exact(c.draft, x)?])
}

/// `ThresholdedRelu`: x > α ? x : 0.
pub fn thresholded_relu(c: &mut Call) -> Result<Vec<Val>> {
    let (x, alpha) = (input(c)?, c.float_or("alpha", 1.0)?);
    let above = c.draft.map_scalar(M::Gt, x, alpha.into())?;
    let zero = c.draft.scalar(0.0, c.draft.dtype(x));
    Ok(vec![c.draft.select(above, x, zero)?])
}

/// `Selu`: γ·(x > 0 ? x : α·(eˣ − 1)).
pub fn selu(c: &mut Call) -> Result<Vec<Val>> {
    let x = input(c)?;
    let (alpha, gamma) = (c.float_or("alpha", 1.673_263_2)?, c.float_or("gamma", 1.050_701)?);
    let exp = c.draft.map1(M::Exp, x)?;
    let less = c.draft.map_scalar(M::Sub, exp, 1.0)?;
    let below = c.draft.map_scalar(M::Mul, less, alpha.into())?;
    let y = below_zero(c.draft, x, below)?;
    Ok(vec![c.draft.map_scalar(M::Mul, y, gamma.into())?])
}

/// `Celu`: max(0, x) + min(0, α·(e^(x/α) − 1)).
pub fn celu(c: &mut Call) -> Result<Vec<Val>> {
    let (x, alpha) = (input(c)?, c.float_or("alpha", 1.0)?);
    let scaled = c.draft.map_scalar(M::Div, x, alpha.into())?;
    let exp = c.draft.map1(M::Exp, scaled)?;
    let less = c.draft.map_scalar(M::Sub, exp, 1.0)?;
    let below = c.draft.map_scalar(M::Mul, less, alpha.into())?;
    Ok(vec![below_zero(c.draft, x, below)?])
}

/// `Shrink`: x − bias above λ, x + bias below −λ, 0 between.
pub fn shrink(c: &mut Call) -> Result<Vec<Val>> {
    let (x, bias, lambda) = (c.input(0)?, c.float_or("bias", 0.0)?, c.float_or("lambd", 0.5)?);
    let dtype = c.draft.dtype(x);
    let x =
        if crate::fold::is_float(dtype) { x } else { c.draft.cast(x, kiln_machine::tensor::DType::F32)? };
    let (above, below) =
        (c.draft.map_scalar(M::Gt, x, lambda.into())?, c.draft.map_scalar(M::Lt, x, -f64::from(lambda))?);
    let (less, more) =
        (c.draft.map_scalar(M::Sub, x, bias.into())?, c.draft.map_scalar(M::Add, x, bias.into())?);
    let zero = c.draft.scalar(0.0, c.draft.dtype(x));
    let y = c.draft.select(below, more, zero)?;
    let y = c.draft.select(above, less, y)?;
    Ok(vec![c.draft.cast(y, dtype)?])
}

/// `SwiGLU`: a·σ(α·a)·b.
pub fn swiglu(c: &mut Call) -> Result<Vec<Val>> {
    let gate = swish(c, 1.0)?[0];
    let b = c.input(1)?;
    Ok(vec![c.draft.map2(M::Mul, gate, b)?])
}

/// The activation that `FusedConv` and `FusedGemm` name, applied to `x`.
pub fn fused(c: &mut Call, x: Val) -> Result<Val> {
    let name = c.string("activation")?.unwrap_or("").to_string();
    let listed = c.floats("activation_params")?.unwrap_or(&[]).to_vec();
    let (first, second) = (c.float("activation_alpha")?, c.float("activation_beta")?);
    let parameter = |i: usize, given: Option<f32>, default: f64| {
        given.or(listed.get(i).copied()).map_or(default, f64::from)
    };
    let d = &mut *c.draft;
    let kind = match name.as_str() {
        "" => return Ok(x),
        "Relu" => M::Relu,
        "Tanh" => M::Tanh,
        "Sigmoid" => M::Sigmoid,
        "LeakyRelu" => {
            let below = d.map_scalar(M::Mul, x, parameter(0, first, 0.01))?;
            return below_zero(d, x, below);
        }
        "Clip" => {
            let low = d.map_scalar(M::Max, x, parameter(0, first, f64::NEG_INFINITY))?;
            return d.map_scalar(M::Min, low, parameter(1, second, f64::INFINITY));
        }
        "HardSigmoid" => {
            return hard_sigmoid_of(d, x, parameter(0, first, 0.2), parameter(1, second, 0.5));
        }
        other => {
            return Err(Diagnostic::new(Code::Attribute, format!("activation {other:?} is unknown")));
        }
    };
    d.map1(kind, x)
}

/// `com.microsoft.FusedConv` and `FusedGemm`: the operator, then an activation.
pub fn after(c: &mut Call, operator: fn(&mut Call) -> Result<Vec<Val>>) -> Result<Vec<Val>> {
    let y = operator(c)?[0];
    Ok(vec![fused(c, y)?])
}
