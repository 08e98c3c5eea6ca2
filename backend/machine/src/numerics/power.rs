//! Power: log2 and exp2 in f64, rounded once.

/// a to the power b, with the special cases of IEEE 754 `pow`.
pub fn pow(a: f32, b: f32) -> f32 {
    if b == 0.0 || a == 1.0 {
        return 1.0;
    }
    if a.is_nan() || b.is_nan() {
        return f32::NAN;
    }
    let integer = b.floor() == b;
    let odd = integer && b.abs() < 16_777_216.0 && b.abs() % 2.0 == 1.0;
    if a < 0.0 && a.is_finite() && b.is_finite() && !integer {
        return f32::NAN;
    }
    let magnitude = pow_positive(a.abs(), b);
    if a.is_sign_negative() && odd { -magnitude } else { magnitude }
}

fn pow_positive(a: f32, b: f32) -> f32 {
    let grows = (a > 1.0) == (b > 0.0);
    if a == 1.0 {
        return 1.0;
    }
    if a == 0.0 || a.is_infinite() || b.is_infinite() {
        return if grows { f32::INFINITY } else { 0.0 };
    }
    exp2(f64::from(b) * log2(a.into()))
}

/// log2 of a positive normal f64, to about 2⁻⁵⁰: the series of log((1+s)/(1−s)).
fn log2(x: f64) -> f64 {
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF) as i64;
    let k = bits >> 52;
    let m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) as u64 + SQRT_HALF);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 0.0;
    for n in (0..12).rev() {
        p = p * z + 1.0 / f64::from(2 * n + 1);
    }
    k as f64 + 2.0 * s * p * std::f64::consts::LOG2_E
}

/// 2 to the x, rounded to f32.
fn exp2(x: f64) -> f32 {
    let x = if x > 200.0 { 200.0 } else { x };
    let x = if x < -200.0 { -200.0 } else { x };
    let n = x.round_ties_even();
    let r = (x - n) * std::f64::consts::LN_2;
    let mut p = 1.0;
    for i in (1..14).rev() {
        p = p * r / f64::from(i) + 1.0;
    }
    let scale = f64::from_bits(((n as i64 + 1023) as u64) << 52);
    (p * scale) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    #[test]
    fn within_one_ulp() {
        let mut rng = Rng::new(3);
        for _ in 0..200_000 {
            let a = f32::from_bits(rng.next_u64() as u32).abs();
            let b = (rng.below(20_001) as f32 - 10_000.0) / 500.0;
            let truth = f64::from(a).powf(b.into());
            let found = pow(a, b);
            let nearest = truth as f32;
            let apart = (i64::from(found.to_bits()) - i64::from(nearest.to_bits())).abs();
            assert!(
                apart <= 1 || (found.is_nan() && nearest.is_nan()),
                "{a:e}^{b}: {found:e}, true {truth:e}"
            );
        }
    }

    #[test]
    fn special_cases_are_those_of_ieee() {
        let values = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            2.0,
            -2.0,
            0.5,
            -0.5,
            3.0,
            -3.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        for a in values {
            for b in values {
                let (found, truth) = (pow(a, b), f64::from(a).powf(b.into()) as f32);
                assert!(
                    found == truth || (found.is_nan() && truth.is_nan()),
                    "{a}^{b}: {found}, true {truth}"
                );
            }
        }
    }
}
