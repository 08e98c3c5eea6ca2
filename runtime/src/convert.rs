//! Runs of elements in memory as numbers: the arithmetic of the machine is f32 or i32, whatever is stored.
//!
//! Each pair of a stored type and a number type is one loop over a run, so that runs without gaps vectorise.

use crate::kernels;
use kiln_machine::isa::Dt;
use kiln_machine::numerics::convert::{
    bf16_to_f32, f8e4m3_to_f32, f8e5m2_to_f32, f16_to_f32, f32_to_bf16, f32_to_f8e4m3, f32_to_f8e5m2,
    f32_to_f16,
};

/// A type that the machine computes in.
pub(crate) trait Number: kernels::Plain + Default + Send + Sync {
    /// Whether memory holds elements of this type as the number itself.
    fn is_stored_as(dt: Dt) -> bool;
    /// Load `out.len()` elements from `byte` on, `stride` bytes apart.
    fn load(bytes: &[u8], byte: usize, stride: isize, dt: Dt, out: &mut [Self]);
    /// Store elements from `byte` on, `stride` bytes apart.
    fn store(bytes: &mut [u8], byte: usize, stride: isize, dt: Dt, values: &[Self]);
}

/// See [`Number::load`].
#[inline]
pub(crate) fn load_run<N: Number>(bytes: &[u8], byte: usize, stride: isize, dt: Dt, out: &mut [N]) {
    N::load(bytes, byte, stride, dt, out);
}

/// See [`Number::store`].
#[inline]
pub(crate) fn store_run<N: Number>(bytes: &mut [u8], byte: usize, stride: isize, dt: Dt, values: &[N]) {
    N::store(bytes, byte, stride, dt, values);
}

/// Load with one element conversion.
#[inline(always)]
fn load_with<N: Number, const SIZE: usize>(
    bytes: &[u8],
    byte: usize,
    stride: isize,
    out: &mut [N],
    convert: impl Fn([u8; SIZE]) -> N,
) {
    if stride == SIZE as isize {
        let span = &bytes[byte..byte + out.len() * SIZE];
        for (out, element) in out.iter_mut().zip(span.as_chunks::<SIZE>().0) {
            *out = convert(*element);
        }
    } else {
        let element = |i: usize| {
            let at = (byte as isize + i as isize * stride) as usize;
            let mut element = [0; SIZE];
            element.copy_from_slice(&bytes[at..at + SIZE]);
            element
        };
        if stride == 0 {
            out.fill(convert(element(0)));
        } else if stride > SIZE as isize {
            for (out, bytes) in out.iter_mut().zip(bytes[byte..].chunks(stride as usize)) {
                let mut element = [0; SIZE];
                element.copy_from_slice(&bytes[..SIZE]);
                *out = convert(element);
            }
        } else {
            for (i, out) in out.iter_mut().enumerate() {
                *out = convert(element(i));
            }
        }
    }
}

/// Store with one element conversion.
#[inline(always)]
fn store_with<N: Number, const SIZE: usize>(
    bytes: &mut [u8],
    byte: usize,
    stride: isize,
    values: &[N],
    convert: impl Fn(N) -> [u8; SIZE],
) {
    if stride == SIZE as isize {
        let span = &mut bytes[byte..byte + values.len() * SIZE];
        for (value, element) in values.iter().zip(span.as_chunks_mut::<SIZE>().0) {
            *element = convert(*value);
        }
    } else {
        for (i, value) in values.iter().enumerate() {
            let at = (byte as isize + i as isize * stride) as usize;
            bytes[at..at + SIZE].copy_from_slice(&convert(*value));
        }
    }
}

impl Number for f32 {
    fn is_stored_as(dt: Dt) -> bool {
        dt == Dt::F32
    }

    fn load(bytes: &[u8], byte: usize, stride: isize, dt: Dt, out: &mut [Self]) {
        kernels::load_floats(bytes, byte, stride, dt, out);
    }

    fn store(bytes: &mut [u8], byte: usize, stride: isize, dt: Dt, values: &[Self]) {
        kernels::store_floats(bytes, byte, stride, dt, values);
    }
}

/// See [`Number::load`]; compiled for several hosts in [`kernels`].
#[inline(always)]
pub(crate) fn load_floats(bytes: &[u8], byte: usize, stride: isize, dt: Dt, out: &mut [f32]) {
    match dt {
        Dt::F32 => load_with(bytes, byte, stride, out, f32::from_le_bytes),
        Dt::Bf16 => load_with(bytes, byte, stride, out, |e| bf16_to_f32(u16::from_le_bytes(e))),
        Dt::F16 => load_with(bytes, byte, stride, out, |e| f16_to_f32(u16::from_le_bytes(e))),
        Dt::F8e4m3 => load_with(bytes, byte, stride, out, |[e]| f8e4m3_to_f32(e)),
        Dt::F8e5m2 => load_with(bytes, byte, stride, out, |[e]| f8e5m2_to_f32(e)),
        Dt::I8 => load_with(bytes, byte, stride, out, |e| i8::from_le_bytes(e).into()),
        Dt::U8 => load_with(bytes, byte, stride, out, |[e]| e.into()),
        Dt::I16 => load_with(bytes, byte, stride, out, |e| i16::from_le_bytes(e).into()),
        Dt::U16 => load_with(bytes, byte, stride, out, |e| u16::from_le_bytes(e).into()),
        Dt::I32 => load_with(bytes, byte, stride, out, |e| i32::from_le_bytes(e) as f32),
        Dt::U32 => load_with(bytes, byte, stride, out, |e| u32::from_le_bytes(e) as f32),
        Dt::I4 | Dt::U4 => unreachable!("4-bit types are only in DRAM"),
    }
}

/// See [`Number::store`]; compiled for several hosts in [`kernels`].
#[inline(always)]
pub(crate) fn store_floats(bytes: &mut [u8], byte: usize, stride: isize, dt: Dt, values: &[f32]) {
    match dt {
        Dt::F32 => store_with(bytes, byte, stride, values, f32::to_le_bytes),
        Dt::Bf16 => store_with(bytes, byte, stride, values, |v| f32_to_bf16(v).to_le_bytes()),
        Dt::F16 => store_with(bytes, byte, stride, values, |v| f32_to_f16(v).to_le_bytes()),
        Dt::F8e4m3 => store_with(bytes, byte, stride, values, |v| [f32_to_f8e4m3(v)]),
        Dt::F8e5m2 => store_with(bytes, byte, stride, values, |v| [f32_to_f8e5m2(v)]),
        Dt::I8 => store_with(bytes, byte, stride, values, |v| (v as i8).to_le_bytes()),
        Dt::U8 => store_with(bytes, byte, stride, values, |v| [v as u8]),
        Dt::I16 => store_with(bytes, byte, stride, values, |v| (v as i16).to_le_bytes()),
        Dt::U16 => store_with(bytes, byte, stride, values, |v| (v as u16).to_le_bytes()),
        Dt::I32 => store_with(bytes, byte, stride, values, |v| (v as i32).to_le_bytes()),
        Dt::U32 => store_with(bytes, byte, stride, values, |v| (v as u32).to_le_bytes()),
        Dt::I4 | Dt::U4 => unreachable!("4-bit types are only in DRAM"),
    }
}

impl Number for i32 {
    fn is_stored_as(dt: Dt) -> bool {
        matches!(dt, Dt::I32 | Dt::U32)
    }

    fn load(bytes: &[u8], byte: usize, stride: isize, dt: Dt, out: &mut [Self]) {
        match dt {
            Dt::I8 => load_with(bytes, byte, stride, out, |e| i8::from_le_bytes(e).into()),
            Dt::U8 => load_with(bytes, byte, stride, out, |[e]| e.into()),
            Dt::I16 => load_with(bytes, byte, stride, out, |e| i16::from_le_bytes(e).into()),
            Dt::U16 => load_with(bytes, byte, stride, out, |e| u16::from_le_bytes(e).into()),
            Dt::I32 | Dt::U32 => load_with(bytes, byte, stride, out, i32::from_le_bytes),
            _ => {
                let mut float = [0.0f32; 256];
                for (chunk, out) in out.chunks_mut(256).enumerate() {
                    let at = (byte as isize + chunk as isize * 256 * stride) as usize;
                    f32::load(bytes, at, stride, dt, &mut float[..out.len()]);
                    for (out, float) in out.iter_mut().zip(float) {
                        *out = float as i32;
                    }
                }
            }
        }
    }

    fn store(bytes: &mut [u8], byte: usize, stride: isize, dt: Dt, values: &[Self]) {
        match dt {
            Dt::I8 => store_with(bytes, byte, stride, values, |v| (v as i8).to_le_bytes()),
            Dt::U8 => store_with(bytes, byte, stride, values, |v| [v as u8]),
            Dt::I16 => store_with(bytes, byte, stride, values, |v| (v as i16).to_le_bytes()),
            Dt::U16 => store_with(bytes, byte, stride, values, |v| (v as u16).to_le_bytes()),
            Dt::I32 | Dt::U32 => store_with(bytes, byte, stride, values, i32::to_le_bytes),
            _ => {
                let mut float = [0.0f32; 256];
                for (chunk, values) in values.chunks(256).enumerate() {
                    let at = (byte as isize + chunk as isize * 256 * stride) as usize;
                    for (float, value) in float.iter_mut().zip(values) {
                        *float = *value as f32;
                    }
                    f32::store(bytes, at, stride, dt, &float[..values.len()]);
                }
            }
        }
    }
}
