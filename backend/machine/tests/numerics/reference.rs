//! The machine's numbers against other implementations: functions against f64 ones, narrow floats against the crates
//! `half` and `float8`.

use std::ops::RangeInclusive;

use float8::{F8E4M3, F8E5M2};
use kiln_machine::isa::ActFunc;
use kiln_machine::numerics::act::{BOUNDS, act};
use kiln_machine::numerics::convert;

/// The greatest distance of a function from the truth, and where.
#[derive(Clone, Copy, Debug)]
pub struct Worst {
    /// In units in the last place.
    pub ulps: f64,
    pub at: f32,
}

/// The functions of ACT that round: what they should give, and the greatest distance allowed.
pub fn functions() -> Vec<(ActFunc, fn(f64) -> f64, f64)> {
    let truths: [(ActFunc, fn(f64) -> f64); 11] = [
        (ActFunc::Exp, libm::exp),
        (ActFunc::Log, libm::log),
        (ActFunc::Sqrt, libm::sqrt),
        (ActFunc::Rsqrt, |x| 1.0 / libm::sqrt(x)),
        (ActFunc::Reciprocal, |x| 1.0 / x),
        (ActFunc::Tanh, libm::tanh),
        (ActFunc::Erf, libm::erf),
        (ActFunc::Sigmoid, |x| {
            if x < 0.0 { libm::exp(x) / (1.0 + libm::exp(x)) } else { 1.0 / (1.0 + libm::exp(-x)) }
        }),
        (ActFunc::Sin, libm::sin),
        (ActFunc::Cos, libm::cos),
        (ActFunc::Softplus, |x| libm::fmax(x, 0.0) + libm::log1p(libm::exp(-libm::fabs(x))) + 0.0 * x),
    ];
    // Half a unit is correct rounding; what f64 itself rounds is far below the rest.
    let bound =
        |func| BOUNDS.iter().find(|(other, _)| *other == func).map_or(0.5 + 1e-6, |(_, bound)| *bound);
    truths.into_iter().map(|(func, truth)| (func, truth, bound(func))).collect()
}

/// Distance in units in the last place of f32 where the truth is; infinity stands for 2¹²⁸.
pub fn ulps(found: f32, truth: f64) -> f64 {
    if found.is_nan() || truth.is_nan() {
        return if found.is_nan() && truth.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let limit = 2f64.powi(128);
    let truth = truth.clamp(-limit, limit);
    let found = f64::from(found).clamp(-limit, limit);
    let exponent = ((truth.abs().to_bits() >> 52) as i32 - 1023).clamp(-126, 127);
    // A power of two, so that nothing is rounded.
    let units = f64::from_bits(((1023 + 23 - exponent) as u64) << 52);
    (found - truth).abs() * units
}

/// The worst of a function over the bit patterns of a range, each `step`-th of them.
pub fn worst(func: ActFunc, truth: fn(f64) -> f64, patterns: RangeInclusive<u32>, step: usize) -> Worst {
    let mut worst = Worst { ulps: -1.0, at: 0.0 };
    for bits in patterns.step_by(step) {
        let x = f32::from_bits(bits);
        // Softplus of infinity is infinity, which the sum that keeps NaN hides.
        let truth =
            if func == ActFunc::Softplus && x.is_infinite() { x.max(0.0).into() } else { truth(x.into()) };
        let distance = ulps(act(func, x), truth);
        if distance > worst.ulps {
            (worst.ulps, worst.at) = (distance, x);
        }
    }
    worst
}

/// The first f32 of a range that one of the narrow types rounds otherwise than it should.
pub fn first_wrong_narrowing(patterns: RangeInclusive<u32>, step: usize) -> Option<String> {
    patterns.step_by(step).find_map(|bits| {
        let x = f32::from_bits(bits);
        let f16 = (u32::from(convert::f32_to_f16(x)), u32::from(half::f16::from_f32(x).to_bits()));
        let bf16 = (u32::from(convert::f32_to_bf16(x)), u32::from(half::bf16::from_f32(x).to_bits()));
        // That crate saturates; the machine goes on to NaN and infinity.
        let e4m3 = match x.abs() {
            a if a > 464.0 || a.is_nan() => 0x7f | u32::from(x.is_sign_negative()) << 7,
            _ => F8E4M3::from_f32(x).to_bits().into(),
        };
        let e4m3 = (u32::from(convert::f32_to_f8e4m3(x)), e4m3);
        let e5m2 = match x.abs() {
            a if a.is_nan() => 0x7e | u32::from(x.is_sign_negative()) << 7,
            a if a >= 61440.0 => 0x7c | u32::from(x.is_sign_negative()) << 7,
            _ => F8E5M2::from_f32(x).to_bits().into(),
        };
        let e5m2 = (u32::from(convert::f32_to_f8e5m2(x)), e5m2);
        let wrong = |(name, (found, truth), nan): (&str, (u32, u32), fn(u32) -> bool)| {
            let alike = found == truth || (nan(found) && nan(truth));
            (!alike).then(|| format!("{name} of {x:e} ({bits:#x}): {found:#x}, not {truth:#x}"))
        };
        [
            ("f16", f16, (|bits| bits & 0x7fff > 0x7c00) as fn(u32) -> bool),
            ("bf16", bf16, |bits| bits & 0x7fff > 0x7f80),
            ("f8e4m3", e4m3, |_| false),
            ("f8e5m2", e5m2, |_| false),
        ]
        .into_iter()
        .find_map(wrong)
    })
}
