//! Sine and cosine: reduction by π/2 in f64, then polynomials in f64 rounded once.
//!
//! Below 2²⁸·π/2 the reduction is two products; above it is exact in integers (Payne and Hanek).

// Coefficients are written with the digits of their sources, which round to the same values.
#![allow(clippy::excessive_precision)]

/// The first 33 bits of π/2 and the rest.
const HALF_PI_HI: f64 = 1.570_796_310_901_641_8;
const HALF_PI_LO: f64 = 1.589_325_477_352_819_7e-8;
/// Adding it rounds an f64 to an integer.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Magnitude up to which the fast reduction is good.
const FAST_LIMIT: f32 = 4.0e8;

/// Sine.
#[inline]
pub fn sin(x: f32) -> f32 {
    let (quadrant, r) = reduce(x);
    pick(quadrant, r)
}

/// Cosine.
#[inline]
pub fn cos(x: f32) -> f32 {
    let (quadrant, r) = reduce(x);
    pick(quadrant.wrapping_add(1), r)
}

/// x = quadrant·π/2 + r with |r| ≤ π/4 (and a little).
#[inline]
fn reduce(x: f32) -> (u32, f64) {
    if x.abs() <= FAST_LIMIT {
        let wide = f64::from(x);
        let shifted = wide * std::f64::consts::FRAC_2_PI + ROUNDER;
        let n = shifted - ROUNDER;
        let r = wide - n * HALF_PI_HI - n * HALF_PI_LO;
        (shifted.to_bits() as u32, r)
    } else {
        reduce_large(x)
    }
}

/// sin(quadrant·π/2 + r).
#[inline]
fn pick(quadrant: u32, r: f64) -> f32 {
    let z = r * r;
    let w = z * z;
    let sine = (r + z * r * (-0.166_666_666_416_265_24 + z * 0.008_333_329_385_889_463))
        + z * r * w * (-0.000_198_393_348_360_966_32 + z * 0.000_002_718_311_493_989_822);
    let cosine = ((1.0 + z * -0.499_999_997_251_031) + w * 0.041_666_623_323_739_063)
        + w * z * (-0.001_388_676_377_460_993 + z * 0.000_024_390_448_796_277_41);
    let value = if quadrant & 1 == 0 { sine } else { cosine };
    let value = if quadrant & 2 == 0 { value } else { -value };
    // A sum of products loses the sign of −0 only here.
    if r == 0.0 && quadrant & 3 == 0 { r as f32 } else { value as f32 }
}

/// The binary digits of 2/π after the point.
const TWO_OVER_PI: [u64; 4] =
    [0xa2f9_836e_4e44_1529, 0xfc27_57d1_f534_ddc0, 0xdb62_9599_3c43_9041, 0xfe51_63ab_debb_c561];

/// Reduction with the digits of 2/π that matter for this exponent.
#[cold]
fn reduce_large(x: f32) -> (u32, f64) {
    if !x.is_finite() {
        return (0, f64::NAN);
    }
    let bits = x.to_bits();
    let mantissa = u128::from(bits & 0x7f_ffff | 0x80_0000);
    // x = mantissa · 2^e; digit i of 2/π (from 1) weighs 2^-i, and those with e − i ≥ 2 give multiples of 4.
    let e = (bits >> 23 & 0xff) as usize - 150;
    let first = e - 2;
    let digit_word = |at: usize| -> u64 {
        let (word, shift) = (at / 64, at % 64);
        let low = TWO_OVER_PI.get(word + 1).copied().unwrap_or(0);
        let high = TWO_OVER_PI.get(word).copied().unwrap_or(0);
        if shift == 0 { high } else { high << shift | low >> (64 - shift) }
    };
    let digits = u128::from(digit_word(first)) << 32 | u128::from(digit_word(first + 64) >> 32);
    // 96 digits, the first of weight 2^1 after scaling: the point stands 94 bits up.
    let product = mantissa.wrapping_mul(digits) & ((1 << 96) - 1);
    let quadrant = (product + (1 << 93)) >> 94;
    let fraction = product as i128 - (quadrant << 94) as i128;
    let r = fraction as f64 / (1u128 << 94) as f64 * std::f64::consts::FRAC_PI_2;
    if x < 0.0 { ((quadrant as u32).wrapping_neg(), -r) } else { (quadrant as u32, r) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_reductions_agree_where_both_work() {
        for i in 0..1000u32 {
            let x = 1.0e8 + i as f32 * 12_345.0;
            let (q, r) = reduce(x);
            let (ql, rl) = reduce_large(x);
            assert_eq!(q & 3, ql & 3, "{x}");
            assert!((r - rl).abs() < 1e-8, "{x}: {r} {rl}");
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(sin(0.0).to_bits(), 0);
        assert_eq!(sin(-0.0).to_bits(), 1 << 31);
        assert_eq!(cos(0.0), 1.0);
        assert!((f64::from(sin(f32::MAX)) - f64::from(f32::MAX).sin()).abs() < 1e-7);
        assert!((f64::from(cos(-1.0e30)) - (-1.0e30f32 as f64).cos()).abs() < 1e-7);
    }
}
