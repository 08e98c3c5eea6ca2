//! ACT's functions: fixed algorithms on f32, at most 2 units in the last place from the true value.
//!
//! Written without tables and, but for the trigonometric ones, without branches (selects only), so that a loop over
//! a slice vectorises. Subnormals are kept; NaN gives NaN.

// Coefficients are written with the digits of their sources, which round to the same values.
#![allow(clippy::excessive_precision)]

use crate::isa::ActFunc;

pub use super::trig::{cos, sin};

/// The greatest distance from the true value, in units in the last place of the nearest f32, of every function that is
/// neither exact nor correctly rounded.
#[rustfmt::skip] // a table
pub const BOUNDS: &[(ActFunc, f64)] = &[
    (ActFunc::Exp,      1.02),
    (ActFunc::Log,      0.84),
    (ActFunc::Rsqrt,    1.5),
    (ActFunc::Tanh,     1.34),
    (ActFunc::Erf,      2.0),
    (ActFunc::Sigmoid,  2.0),
    (ActFunc::Sin,      1.0),
    (ActFunc::Cos,      1.0),
    (ActFunc::Softplus, 2.0),
];

/// A function of ACT. [`ActFunc::Lut`] needs its table: see [`lut`]; here it gives NaN.
#[inline(always)]
pub fn act(func: ActFunc, x: f32) -> f32 {
    let flag = |holds: bool| if holds { 1.0 } else { 0.0 };
    match func {
        ActFunc::Identity => x,
        ActFunc::Exp => exp(x),
        ActFunc::Log => log(x),
        ActFunc::Sqrt => x.sqrt(),
        ActFunc::Rsqrt => 1.0 / x.sqrt(),
        ActFunc::Reciprocal => 1.0 / x,
        ActFunc::Tanh => tanh(x),
        ActFunc::Erf => erf(x),
        ActFunc::Sigmoid => sigmoid(x),
        ActFunc::Sin => sin(x),
        ActFunc::Cos => cos(x),
        ActFunc::Softplus => softplus(x),
        ActFunc::Relu => super::max(x, 0.0),
        ActFunc::Square => x * x,
        ActFunc::Abs => x.abs(),
        ActFunc::Neg => -x,
        ActFunc::Sign => sign(x),
        ActFunc::Floor => x.floor(),
        ActFunc::Ceil => x.ceil(),
        ActFunc::Round => x.round_ties_even(),
        ActFunc::Not => flag(x == 0.0),
        ActFunc::IsNan => flag(x.is_nan()),
        ActFunc::IsInf => flag(x.is_infinite()),
        ActFunc::Lut => f32::NAN,
    }
}

/// Applies a function to every element in place.
pub fn act_slice(func: ActFunc, values: &mut [f32]) {
    macro_rules! each {
        ($($Func:ident)*) => { match func {
            $(ActFunc::$Func => values.iter_mut().for_each(|x| *x = act(ActFunc::$Func, *x)),)*
        } };
    }
    each! {
        Identity Exp Log Sqrt Rsqrt Reciprocal Tanh Erf Sigmoid Sin Cos Softplus Relu Square Abs Neg Sign Floor Ceil
        Round Not IsNan IsInf Lut
    }
}

/// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 with 9 trailing zero bits, so that its products with exponents are exact; and the rest.
const LN2_HI: f32 = 0.693_138_12;
const LN2_LO: f32 = 9.058_000_6e-6;

/// 2 to the power n for −126 ≤ n ≤ 127.
#[inline(always)]
fn exp2_int(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// e to the x: x = n·ln 2 + r, a polynomial in r, then two steps of scaling so that subnormal results round once more
/// at most.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
    let mut p = 1.987_569_2e-4f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5.000_000_1e-1);
    let y = p.mul_add(r * r, r) + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    // A NaN leaves arbitrary bits in n; masking keeps the scales finite and the product NaN.
    let n = n.clamp(-160, 130);
    let half = n >> 1;
    y * exp2_int(half) * exp2_int(n - half)
}

/// Natural logarithm: x = 2^k·m with m near 1, and the series of log((1+s)/(1−s)).
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 33_554_432.0 } else { x };
    let offset = if subnormal { 25.0 } else { 0.0 };
    let bits = (scaled.to_bits() as i32).wrapping_sub(0x3f35_04f3);
    let k = (bits >> 23) as f32 - offset;
    let m = f32::from_bits(((bits & 0x007f_ffff) + 0x3f35_04f3) as u32);
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * w.mul_add(0.242_790_79, 0.400_009_72);
    let even = z * w.mul_add(0.284_987_87, 0.666_666_6);
    let tail = odd + even;
    let half = 0.5 * f * f;
    let y = k.mul_add(LN2_HI, f - (half - s.mul_add(half + tail, k * LN2_LO)));
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < 0.0 || x.is_nan() { f32::NAN } else { y }
}

/// Hyperbolic tangent: an odd polynomial near 0, else 1 − 2/(e^{2|x|} + 1).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let mut p = -5.704_988_7e-3f32;
    p = p.mul_add(z, 2.063_908_9e-2);
    p = p.mul_add(z, -5.373_971_6e-2);
    p = p.mul_add(z, 1.333_144_2e-1);
    p = p.mul_add(z, -3.333_328_2e-1);
    let near = (p * z).mul_add(x, x).copysign(x);
    let far = (1.0 - 2.0 / (exp(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { near } else { far }
}

/// 1 / (1 + e^{−x}), from e^{−|x|} so that nothing overflows.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let top = if x < 0.0 { e } else { 1.0 };
    let u = 1.0 + e;
    let lost = e - (u - 1.0);
    // One Newton step brings in what the rounding of 1 + e lost.
    let r = 1.0 / u;
    let q = top * r;
    let rest = q.mul_add(-lost, q.mul_add(-u, top));
    rest.mul_add(r, q)
}

/// Error function: an odd polynomial near 0, else 1 − e^{−p(|x|)}.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = if a > 4.0 { 4.0 } else { a };
    let s = t * t;
    let mut p = (-1.728_534_7e-5f32).mul_add(t, 3.831_971_3e-4);
    let q = (-3.883_964_4e-3f32).mul_add(t, 2.425_462_2e-2);
    p = p.mul_add(s, q);
    p = p.mul_add(t, -1.067_778_8e-1);
    p = p.mul_add(t, -6.348_467e-1);
    p = p.mul_add(t, -1.287_175_1e-1);
    p = p.mul_add(t, -t);
    let far = (1.0 - exp(p)).copysign(x);
    let mut p = -5.967_617e-4f32;
    p = p.mul_add(s, 4.991_194e-3);
    p = p.mul_add(s, -2.676_813_5e-2);
    p = p.mul_add(s, 1.128_199_3e-1);
    p = p.mul_add(s, -3.761_253_4e-1);
    p = p.mul_add(s, 1.283_791_7e-1);
    let near = p.mul_add(x, x);
    if a > 0.927_734_4 { far } else { near }
}

/// log(1 + e^x) = max(x, 0) + log1p(e^{−|x|}).
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let e = exp(-x.abs());
    let u = 1.0 + e;
    // What the rounding of 1 + e lost, to first order.
    let tail = log(u) + (e - (u - 1.0)) / u;
    super::max(x, 0.0) + tail
}

#[inline(always)]
fn sign(x: f32) -> f32 {
    let s = if x > 0.0 { 1.0 } else { x };
    if x < 0.0 { -1.0 } else { s }
}

/// Elements of a lookup table: low end, reciprocal of the step, 256 knots.
pub const LUT_LEN: usize = 258;

/// Piecewise linear interpolation in a table; beyond its ends the first and last piece go on.
pub fn lut(table: &[f32; LUT_LEN], x: f32) -> f32 {
    let at = (x - table[0]) * table[1];
    let cell = if at > 254.0 { 254.0 } else { at.floor() };
    let cell = if cell > 0.0 { cell } else { 0.0 };
    let (y0, y1) = (table[2 + cell as usize], table[3 + cell as usize]);
    (y1 - y0).mul_add(at - cell, y0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_values() {
        let inf = f32::INFINITY;
        assert_eq!((exp(-inf), exp(inf), exp(0.0)), (0.0, inf, 1.0));
        assert!(exp(-87.4) > 0.0 && exp(-103.0) == f32::from_bits(1));
        assert_eq!((log(0.0), log(inf), log(1.0)), (-inf, inf, 0.0));
        assert!(log(-1.0).is_nan() && log(-0.0) == -inf);
        assert_eq!((tanh(inf), tanh(-inf)), (1.0, -1.0));
        assert_eq!((tanh(-0.0).to_bits(), erf(-0.0).to_bits()), (1 << 31, 1 << 31));
        assert_eq!((erf(inf), sigmoid(-inf), sigmoid(inf)), (1.0, 0.0, 1.0));
        assert_eq!((softplus(inf), softplus(-inf)), (inf, 0.0));
        assert!(sin(inf).is_nan() && cos(-inf).is_nan());
        assert_eq!(
            (act(ActFunc::Sign, -0.5), act(ActFunc::Not, 0.0), act(ActFunc::Round, 2.5)),
            (-1.0, 1.0, 2.0)
        );
        for func in ActFunc::ALL {
            let answer = act(*func, f32::NAN);
            let flag = matches!(func, ActFunc::Not | ActFunc::IsNan | ActFunc::IsInf);
            assert_eq!(answer.is_nan(), !flag, "{func}");
        }
    }

    #[test]
    fn slices_have_the_bits_of_scalars() {
        for func in ActFunc::ALL {
            let mut values: Vec<f32> = (0..1000).map(|i| f32::from_bits(i * 4_294_967)).collect();
            let expected: Vec<u32> = values.iter().map(|x| act(*func, *x)).map(quiet).collect();
            act_slice(*func, &mut values);
            assert_eq!(values.into_iter().map(quiet).collect::<Vec<_>>(), expected, "{func}");
        }
        fn quiet(x: f32) -> u32 {
            if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }
        }
    }

    #[test]
    fn lut_interpolates() {
        let mut table = [0.0; LUT_LEN];
        table[1] = 2.0;
        (0..256).for_each(|i| table[2 + i] = (i * i) as f32);
        assert_eq!(lut(&table, 1.0), 4.0);
        assert_eq!(lut(&table, 1.25), 6.5);
        assert_eq!(lut(&table, -0.5), -1.0);
        assert!(lut(&table, f32::NAN).is_nan());
    }
}
