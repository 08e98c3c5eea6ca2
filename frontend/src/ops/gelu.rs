//! `Gelu`, exact or by tanh.
//!
//! ```text
//! Gelu(x)          = 0.5·x·(1 + erf(x/√2))
//! Gelu(x) by tanh  = 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
//! ```

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use kiln_ir::nn::MapKind;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};

/// `Gelu`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    match c.string("approximate")?.unwrap_or("none") {
        "none" => Ok(vec![exact(c.draft, x)?]),
        "tanh" => Ok(vec![by_tanh(c.draft, x)?]),
        other => Err(Diagnostic::new(Code::Attribute, format!("approximate = {other:?} is unknown"))),
    }
}

/// 0.5·x·(1 + erf(x/√2)).
pub fn exact(d: &mut Draft, x: Val) -> Result<Val> {
    let scaled = d.map_scalar(MapKind::Mul, x, FRAC_1_SQRT_2)?;
    let erf = d.map1(MapKind::Erf, scaled)?;
    half_times_one_plus(d, x, erf)
}

/// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
pub fn by_tanh(d: &mut Draft, x: Val) -> Result<Val> {
    let square = d.map1(MapKind::Square, x)?;
    let cube = d.map2(MapKind::Mul, square, x)?;
    let part = d.map_scalar(MapKind::Mul, cube, 0.044715)?;
    let sum = d.map2(MapKind::Add, x, part)?;
    let scaled = d.map_scalar(MapKind::Mul, sum, FRAC_2_PI.sqrt())?;
    let tanh = d.map1(MapKind::Tanh, scaled)?;
    half_times_one_plus(d, x, tanh)
}

fn half_times_one_plus(d: &mut Draft, x: Val, y: Val) -> Result<Val> {
    let more = d.map_scalar(MapKind::Add, y, 1.0)?;
    let half = d.map_scalar(MapKind::Mul, x, 0.5)?;
    d.map2(MapKind::Mul, half, more)
}
