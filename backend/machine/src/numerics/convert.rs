//! Conversions between element types.
//!
//! Narrowing of floats rounds to nearest, ties to even; subnormals are kept; NaN becomes a quiet NaN of the type.

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
