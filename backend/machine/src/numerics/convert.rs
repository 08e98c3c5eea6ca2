//! Conversions between element types.
//!
//! Narrowing of floats rounds to nearest, ties to even; subnormals are kept; NaN becomes a quiet NaN of the type.

use crate::isa::{CvtMode, Dt};

/// bfloat16 bits to f32, exact.
#[inline]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// f32 to bfloat16 bits.
#[inline]
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

/// binary16 bits to f32, exact.
#[inline]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    // Exponents line up after a multiplication by 2^112, which also makes subnormals normal.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let special = magnitude >= 0x7c00;
    let body = if special { 0x7f80_0000 | magnitude << 13 } else { scaled.to_bits() };
    f32::from_bits(sign | body)
}

/// f32 to binary16 bits; magnitudes from 65520 become infinity.
#[inline]
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let nan = 0x7e00 | (magnitude >> 13 & 0x3ff) as u16;
    // Normal results: rebias, round by adding half minus one plus the odd bit.
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    // Subnormal results: adding 0.5 puts the rounding at the right bit.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let body = if magnitude > 0x7f80_0000 {
        nan
    } else if magnitude >= 0x477f_f000 {
        0x7c00
    } else if magnitude < 0x3880_0000 {
        small as u16
    } else {
        normal as u16
    };
    sign | body
}

/// OCP E4M3 bits to f32, exact; there is no infinity, NaN is `S.1111.111`.
#[inline]
pub fn f8e4m3_to_f32(bits: u8) -> f32 {
    let sign = u32::from(bits & 0x80) << 24;
    let magnitude = u32::from(bits & 0x7f);
    let scaled = f32::from_bits(magnitude << 20) * f32::from_bits((127 + 120) << 23);
    let body = if magnitude == 0x7f { 0x7fc0_0000 } else { scaled.to_bits() };
    f32::from_bits(sign | body)
}

/// f32 to OCP E4M3 bits; what rounds beyond 448 becomes NaN (as ONNX without saturation).
#[inline]
pub fn f32_to_f8e4m3(value: f32) -> u8 {
    let bits = value.to_bits();
    let sign = (bits >> 24 & 0x80) as u8;
    let magnitude = bits & 0x7fff_ffff;
    let normal = magnitude.wrapping_sub(120 << 23).wrapping_add(0x7ffff + (magnitude >> 20 & 1)) >> 20;
    // The least subnormal is 2^-9: adding 2^14 leaves exactly those bits.
    let small = (f32::from_bits(magnitude) + 16384.0).to_bits().wrapping_sub(16384f32.to_bits());
    let body = if magnitude < (121 << 23) { small } else { normal.min(0x7f) };
    sign | if magnitude >= 0x7f80_0000 { 0x7f } else { body as u8 }
}

/// OCP E5M2 bits to f32, exact.
#[inline]
pub fn f8e5m2_to_f32(bits: u8) -> f32 {
    f16_to_f32(u16::from(bits) << 8)
}

/// f32 to OCP E5M2 bits; magnitudes from 61440 become infinity.
#[inline]
pub fn f32_to_f8e5m2(value: f32) -> u8 {
    let bits = value.to_bits();
    let sign = (bits >> 24 & 0x80) as u8;
    let magnitude = bits & 0x7fff_ffff;
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xf_ffff + (magnitude >> 21 & 1)) >> 21;
    // The least subnormal is 2^-16: adding 2^7 leaves exactly those bits.
    let small = (f32::from_bits(magnitude) + 128.0).to_bits().wrapping_sub(128f32.to_bits());
    let body = if magnitude < (113 << 23) { small } else { normal.min(0x7c) };
    sign | if magnitude > 0x7f80_0000 { 0x7e } else { body as u8 }
}

/// An element's bits (in the low end) as f32; 32-bit integers round to nearest even.
#[inline(always)]
pub fn to_f32(dt: Dt, bits: u32) -> f32 {
    match dt {
        Dt::F32 => f32::from_bits(bits),
        Dt::Bf16 => bf16_to_f32(bits as u16),
        Dt::F16 => f16_to_f32(bits as u16),
        Dt::F8e4m3 => f8e4m3_to_f32(bits as u8),
        Dt::F8e5m2 => f8e5m2_to_f32(bits as u8),
        Dt::U32 => bits as f32,
        _ => to_i32(dt, bits) as f32,
    }
}

/// An element's bits as i32; floats truncate toward zero and saturate, u32 keeps its bits.
#[inline(always)]
pub fn to_i32(dt: Dt, bits: u32) -> i32 {
    match dt {
        Dt::I32 | Dt::U32 => bits as i32,
        Dt::I16 => (bits as i16).into(),
        Dt::U16 => (bits as u16).into(),
        Dt::I8 => (bits as i8).into(),
        Dt::U8 => (bits as u8).into(),
        Dt::I4 => (bits << 28) as i32 >> 28,
        Dt::U4 => (bits & 15) as i32,
        _ => to_f32(dt, bits) as i32,
    }
}

/// A float as an element's bits. Integers truncate toward zero ([`CvtMode::Cast`]) or round to nearest even
/// ([`CvtMode::Round`]) and saturate; NaN gives 0. [`CvtMode::Nonzero`] gives 1 or 0 of the type.
#[inline(always)]
pub fn from_f32(dt: Dt, mode: CvtMode, value: f32) -> u32 {
    let value = match mode {
        CvtMode::Cast => value,
        CvtMode::Round if dt.is_integer() => value.round_ties_even(),
        CvtMode::Round => value,
        CvtMode::Nonzero => {
            if value != 0.0 {
                1.0
            } else {
                0.0
            }
        }
    };
    match dt {
        Dt::F32 => value.to_bits(),
        Dt::Bf16 => f32_to_bf16(value).into(),
        Dt::F16 => f32_to_f16(value).into(),
        Dt::F8e4m3 => f32_to_f8e4m3(value).into(),
        Dt::F8e5m2 => f32_to_f8e5m2(value).into(),
        Dt::I32 => value as i32 as u32,
        Dt::U32 => value as u32,
        Dt::I16 => u32::from(value as i16 as u16),
        Dt::U16 => (value as u16).into(),
        Dt::I8 => u32::from(value as i8 as u8),
        Dt::U8 => (value as u8).into(),
        Dt::I4 => (value as i8).clamp(-8, 7) as u32 & 15,
        Dt::U4 => (value as u8).min(15).into(),
    }
}

/// An integer as an element's bits; narrower integers keep the low bits.
#[inline(always)]
pub fn from_i32(dt: Dt, mode: CvtMode, value: i32) -> u32 {
    let value = if mode == CvtMode::Nonzero { i32::from(value != 0) } else { value };
    match dt {
        Dt::I32 | Dt::U32 => value as u32,
        Dt::I16 | Dt::U16 => value as u32 & 0xffff,
        Dt::I8 | Dt::U8 => value as u32 & 0xff,
        Dt::I4 | Dt::U4 => value as u32 & 15,
        _ => from_f32(dt, mode, value as f32),
    }
}

/// An element of one type as another: the meaning of `vcvt`, and with [`CvtMode::Cast`] of every DMA conversion.
#[inline(always)]
pub fn convert(from: Dt, to: Dt, mode: CvtMode, bits: u32) -> u32 {
    match (from, to) {
        (Dt::U32, _) if !to.is_integer() && mode != CvtMode::Nonzero => from_f32(to, mode, bits as f32),
        _ if from.is_integer() => from_i32(to, mode, to_i32(from, bits)),
        _ => from_f32(to, mode, to_f32(from, bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_agree_with_an_independent_implementation() {
        for bits in 0..=u16::MAX {
            let (found, truth) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32_const());
            assert!(found.to_bits() == truth.to_bits() || (found.is_nan() && truth.is_nan()), "{bits:#x}");
            assert_eq!(bf16_to_f32(bits).to_bits(), u32::from(bits) << 16);
        }
        for bits in (0..=u32::MAX).step_by(997) {
            let x = f32::from_bits(bits);
            let (f, b) = (half::f16::from_bits(f32_to_f16(x)), half::bf16::from_bits(f32_to_bf16(x)));
            assert!(f == half::f16::from_f32_const(x) || (f.is_nan() && x.is_nan()), "{x:e}");
            assert!(b == half::bf16::from_f32_const(x) || (b.is_nan() && x.is_nan()), "{x:e}");
        }
    }

    /// Nearest value of an 8-bit format by search over all of them; ties to the even code.
    fn nearest(decode: fn(u8) -> f32, finite: std::ops::RangeInclusive<u8>, x: f32) -> u8 {
        let a = f64::from(x.abs());
        finite
            .min_by(|p, q| {
                let (dp, dq) = ((f64::from(decode(*p)) - a).abs(), (f64::from(decode(*q)) - a).abs());
                dp.total_cmp(&dq).then((p & 1).cmp(&(q & 1)))
            })
            .unwrap_or(0)
    }

    #[test]
    fn eight_bit_floats_round_to_nearest_even() {
        for code in 0..=255u8 {
            let x = f8e4m3_to_f32(code);
            assert!(x.is_nan() || f32_to_f8e4m3(x) == code, "{code:#x} {x}");
            let x = f8e5m2_to_f32(code);
            assert!(x.is_nan() || f32_to_f8e5m2(x) == code, "{code:#x} {x}");
        }
        assert_eq!((f8e4m3_to_f32(0x7e), f8e4m3_to_f32(1)), (448.0, 2f32.powi(-9)));
        assert_eq!((f8e5m2_to_f32(0x7b), f8e5m2_to_f32(1)), (57344.0, 2f32.powi(-16)));
        for bits in (0..0x7f80_0000u32).step_by(49_999) {
            let x = f32::from_bits(bits);
            if x < 464.0 {
                assert_eq!(f32_to_f8e4m3(x), nearest(f8e4m3_to_f32, 0..=0x7e, x), "{x:e}");
            } else {
                assert_eq!(f32_to_f8e4m3(x), 0x7f, "{x:e}");
            }
            if x < 61440.0 {
                assert_eq!(f32_to_f8e5m2(x), nearest(f8e5m2_to_f32, 0..=0x7b, x), "{x:e}");
            } else {
                assert_eq!(f32_to_f8e5m2(x), 0x7c, "{x:e}");
            }
        }
        assert_eq!((f32_to_f8e4m3(-f32::NAN) & 0x7f, f32_to_f8e5m2(f32::NAN)), (0x7f, 0x7e));
        assert_eq!(f32_to_f8e5m2(f32::NEG_INFINITY), 0xfc);
    }

    #[test]
    fn integer_conversions() {
        use CvtMode::*;
        assert_eq!(convert(Dt::F32, Dt::I8, Cast, (-3.9f32).to_bits()), 0xfd);
        assert_eq!(convert(Dt::F32, Dt::I8, Round, (-3.5f32).to_bits()), 0xfc);
        assert_eq!(convert(Dt::F32, Dt::U8, Round, 300f32.to_bits()), 255);
        assert_eq!(convert(Dt::F32, Dt::U8, Nonzero, f32::NAN.to_bits()), 1);
        assert_eq!(convert(Dt::I32, Dt::U8, Cast, 0x1_02), 2);
        assert_eq!(convert(Dt::I32, Dt::U8, Nonzero, 0x100), 1);
        assert_eq!(convert(Dt::I4, Dt::F32, Cast, 0xf), (-1f32).to_bits());
        assert_eq!(convert(Dt::U32, Dt::F32, Cast, u32::MAX), 4294967296f32.to_bits());
        assert_eq!(convert(Dt::I32, Dt::F32, Cast, u32::MAX), (-1f32).to_bits());
        assert_eq!(convert(Dt::U8, Dt::Bf16, Cast, 200), 0x4348);
    }
}
