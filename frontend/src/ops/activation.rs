//! Activations that are small compositions: `LeakyRelu`, `HardSwish`, `Elu`, `Mish`, …

use kiln_ir::nn::MapKind as M;

use crate::call::Call;
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
