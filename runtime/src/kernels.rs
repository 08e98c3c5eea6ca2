//! The value kernels that are worth intrinsics: the only module of the crate with `unsafe`.
//!
//! Each has a portable safe twin that computes the same bits; the twin is the definition, and the
//! tests compare the two. Products are in [`product`].

/// The same loop compiled for the host's widest vectors and for any host; all give the same bits, since the
/// operations are the same and each rounds by itself.
macro_rules! for_widest {
    ($(#[doc = $doc:literal])* $name:ident / $wide:ident / $wider:ident = $body:ident($($arg:ident: $T:ty),*)) => {
        $(#[doc = $doc])*
        pub(crate) fn $name($($arg: $T),*) {
            match Isa::detect() {
                // SAFETY: `Isa::detect` has seen the features on this host.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Vnni | Isa::Avx512 => unsafe { $wider($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::AvxVnni | Isa::Avx2 => unsafe { $wide($($arg),*) },
                Isa::Portable => $body($($arg),*),
            }
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn $wider($($arg: $T),*) {
            $body($($arg),*);
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $wide($($arg: $T),*) {
            $body($($arg),*);
        }
    };
}

pub(crate) mod ahead;
pub(crate) mod arena;
pub(crate) mod flow;
#[cfg(feature = "peers")]
pub(crate) mod peer;
pub(crate) mod product;
#[cfg(feature = "peers")]
pub(crate) mod team;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;
use std::sync::OnceLock;

use kiln_machine::isa::{ActFunc, Dt, VecOp};
use kiln_machine::numerics;
use product::Quad;

use crate::convert::{load_floats as load_floats_body, store_floats as store_floats_body};

/// Which implementation runs; all give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// 512-bit vectors with dot products of four bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit vectors with dot products of four bytes.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Plain Rust, on any host.
    Portable,
}

impl Isa {
    /// The widest one that this host has.
    pub(crate) fn detect() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| Self::available().into_iter().next().unwrap_or(Isa::Portable))
    }

    /// All that this host has, widest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if wide && is_x86_feature_detected!("avx512vnni") {
                found.push(Isa::Avx512Vnni);
            }
            if wide {
                found.push(Isa::Avx512);
            }
            let narrow = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if narrow && is_x86_feature_detected!("avxvnni") {
                found.push(Isa::AvxVnni);
            }
            if narrow {
                found.push(Isa::Avx2);
            }
        }
        found.push(Isa::Portable);
        found
    }
}

/// Ask the host to bring these bytes near; nothing but speed depends on it.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    let first = bytes.as_ptr().addr();
    (0..bytes.len()).step_by(64).for_each(|byte| prefetch_line(first + byte));
}

/// The same, but not as far as the nearest cache, so that more can be under way.
#[inline]
fn prefetch_behind(bytes: &[u8]) {
    let first = bytes.as_ptr().addr();
    (0..bytes.len()).step_by(64).for_each(|byte| prefetch_line_behind(first + byte));
}

/// The same of the line at an address, whatever is there.
#[inline(always)]
fn prefetch_line(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address faults never, and SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The same, but not as far as the nearest cache, which is full of what is worked on.
#[inline(always)]
fn prefetch_line_behind(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(std::ptr::without_provenance(address));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Four rows of bytes, exclusive-or `flip`, as one row of [`Quad`]s.
///
/// # Panics
/// If the rows are shorter than `out`.
pub(crate) fn interleave(rows: [&[u8]; 4], flip: u8, out: &mut [Quad]) {
    interleave_by(Isa::detect(), rows, flip, out);
}

#[inline]
fn interleave_by(isa: Isa, rows: [&[u8]; 4], flip: u8, out: &mut [Quad]) {
    #[cfg(target_arch = "x86_64")]
    let done = match isa {
        Isa::Portable => 0,
        // SAFETY: all but the portable one have AVX2.
        _ => unsafe { x86::interleave(rows, flip, out) },
    };
    #[cfg(not(target_arch = "x86_64"))]
    let (Isa::Portable, done) = (isa, 0);
    let [a, b, c, d] = rows.map(|row| &row[done..]);
    for ((((quad, a), b), c), d) in out[done..].iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *quad = Quad([a ^ flip, b ^ flip, c ^ flip, d ^ flip]);
    }
}

/// Columns of some rows of bytes, exclusive-or `flip`, as rows of quads that are `pitch` apart: four rows of bytes give
/// one, and rows that the last four lack give 0.
///
/// # Panics
/// If a row does not hold the columns, or `to` has no room for them.
pub(crate) fn pack_quads(rows: &[&[u8]], columns: Range<usize>, flip: u8, (pitch, to): (usize, &mut [Quad])) {
    const SOME: usize = 256;
    let isa = Isa::detect();
    let none = [flip; SOME];
    for (number, (four, to)) in rows.chunks(4).zip(to.chunks_mut(pitch)).enumerate() {
        for row in rows.iter().skip(number * 4 + product::AHEAD).take(4) {
            prefetch_behind(&row[columns.clone()]);
        }
        let to = &mut to[..columns.len()];
        if let Ok(four) = <[&[u8]; 4]>::try_from(four) {
            interleave_by(isa, four.map(|row| &row[columns.clone()]), flip, to);
            continue;
        }
        for (start, to) in columns.clone().step_by(SOME).zip(to.chunks_mut(SOME)) {
            let row = |i: usize| four.get(i).map_or(&none[..to.len()], |row| &row[start..start + to.len()]);
            interleave_by(isa, [row(0), row(1), row(2), row(3)], flip, to);
        }
    }
}

for_widest! {
    /// Adds the unsigned bytes of each quad to its sum.
    add_quads / add_quads_avx2 / add_quads_avx512 = add_quads_body(quads: &[Quad], sums: &mut [i32])
}

#[inline(always)]
fn add_quads_body(quads: &[Quad], sums: &mut [i32]) {
    for (sum, quad) in sums.iter_mut().zip(quads) {
        let bytes = u32::from_le_bytes(quad.0);
        *sum += ((bytes & 255) + (bytes >> 8 & 255) + (bytes >> 16 & 255) + (bytes >> 24)) as i32;
    }
}

/// One loop for each type of floats, which is a constant in it: `$loop!(bytes, conversion)`.
macro_rules! by_float {
    ($dt:ident, $loop:ident) => {
        match $dt {
            Dt::F32 => $loop!(4, f32::from_le_bytes),
            Dt::F16 => $loop!(2, |bytes| numerics::convert::f16_to_f32(u16::from_le_bytes(bytes))),
            Dt::Bf16 => $loop!(2, |bytes| numerics::convert::bf16_to_f32(u16::from_le_bytes(bytes))),
            Dt::F8e4m3 => $loop!(1, |[byte]: [u8; 1]| numerics::convert::f8e4m3_to_f32(byte)),
            Dt::F8e5m2 => $loop!(1, |[byte]: [u8; 1]| numerics::convert::f8e5m2_to_f32(byte)),
            _ => unreachable!("the array takes floats and bytes"),
        }
    };
}

for_widest! {
    /// The same columns of some rows of numbers as rows of `to`, [`COLS`](product::COLS) apart.
    ///
    /// # Panics
    /// If a row does not hold them, or there are more.
    pack_floats / pack_floats_avx2 / pack_floats_avx512 = pack_floats_body(
        rows: &[&[u8]], first: usize, cols: usize, dt: Dt, to: &mut [f32]
    )
}

#[inline(always)]
fn pack_floats_body(rows: &[&[u8]], first: usize, cols: usize, dt: Dt, to: &mut [f32]) {
    let to = to.as_chunks_mut::<{ product::COLS }>().0.iter_mut().zip(rows).enumerate();
    let ask = |number: usize, size: usize| {
        if let Some(row) = rows.get(number + product::AHEAD) {
            prefetch_behind(&row[first * size..(first + cols) * size]);
        }
    };
    /// One loop for each type, which is a constant in it. Most panels are whole ones, whose loop has a known length.
    macro_rules! pack {
        ($size:literal, $convert:expr) => {
            for (number, (to, row)) in to {
                ask(number, $size);
                let elements = row[first * $size..(first + cols) * $size].as_chunks::<$size>().0;
                match <&[[u8; $size]; product::COLS]>::try_from(elements) {
                    Ok(elements) => (0..product::COLS).for_each(|i| to[i] = $convert(elements[i])),
                    Err(_) => to.iter_mut().zip(elements).for_each(|(to, bytes)| *to = $convert(*bytes)),
                }
            }
        };
    }
    by_float!(dt, pack);
}

for_widest! {
    /// Rows of so many numbers as rows of `to`, behind what it holds, each followed by zeros as far as `pitch`.
    ///
    /// # Panics
    /// If a row does not hold them.
    lay_floats / lay_floats_avx2 / lay_floats_avx512 = lay_floats_body(
        rows: &[&[u8]], count: usize, dt: Dt, pitch: usize, to: &mut Vec<f32>
    )
}

#[inline(always)]
fn lay_floats_body(rows: &[&[u8]], count: usize, dt: Dt, pitch: usize, to: &mut Vec<f32>) {
    /// One loop for each type, which is a constant in it.
    macro_rules! lay {
        ($size:literal, $convert:expr) => {
            for (number, row) in rows.iter().enumerate() {
                if let Some(later) = rows.get(number + product::AHEAD) {
                    prefetch_behind(&later[..count * $size]);
                }
                let start = to.len();
                to.extend(row[..count * $size].as_chunks::<$size>().0.iter().map(|bytes| $convert(*bytes)));
                to.resize(start + pitch, 0.0);
            }
        };
    }
    by_float!(dt, lay);
}

for_widest! {
    /// See [`Number::load`](crate::convert::Number::load).
    load_floats / load_floats_avx2 / load_floats_avx512 = load_floats_body(
        bytes: &[u8], byte: usize, stride: isize, dt: Dt, out: &mut [f32]
    )
}

for_widest! {
    /// See [`Number::store`](crate::convert::Number::store).
    store_floats / store_floats_avx2 / store_floats_avx512 = store_floats_body(
        bytes: &mut [u8], byte: usize, stride: isize, dt: Dt, values: &[f32]
    )
}

for_widest! {
    /// `out = a op b` in f32.
    binary_f32 / binary_f32_avx2 / binary_f32_avx512 = binary_body(
        op: VecOp, a: &[f32], b: &[f32], out: &mut [f32]
    )
}

for_widest! {
    /// `out = f(x)` in f32.
    activate / activate_avx2 / activate_avx512 = activate_body(func: ActFunc, x: &[f32], out: &mut [f32])
}

for_widest! {
    /// `x = f(x)` in f32.
    activate_in_place / activate_in_place_avx2 / activate_in_place_avx512 = activate_in_place_body(
        func: ActFunc, x: &mut [f32]
    )
}

for_widest! {
    /// `out = x · scale + bias` in f32, each rounded; a scale for all, or one for each.
    scale_and_bias / scale_and_bias_avx2 / scale_and_bias_avx512 = scale_and_bias_body(
        x: &[f32], factor: f32, scale: Option<&[f32]>, bias: Option<&[f32]>, out: &mut [f32]
    )
}

#[inline(always)]
fn scale_and_bias_body(x: &[f32], factor: f32, scale: Option<&[f32]>, bias: Option<&[f32]>, out: &mut [f32]) {
    let each = out.iter_mut().zip(x);
    match (scale, bias) {
        (Some(scale), Some(bias)) => {
            each.zip(scale).zip(bias).for_each(|(((out, x), scale), bias)| *out = x * scale + bias);
        }
        (Some(scale), None) => each.zip(scale).for_each(|((out, x), scale)| *out = x * scale),
        (None, Some(bias)) => each.zip(bias).for_each(|((out, x), bias)| *out = x * factor + bias),
        (None, None) => each.for_each(|(out, x)| *out = x * factor),
    }
}

#[inline(always)]
fn binary_body(op: VecOp, a: &[f32], b: &[f32], out: &mut [f32]) {
    /// One loop for each operation, with the operation a constant in it.
    macro_rules! by_op {
        ($($op:ident)*) => {
            match op {
                $(VecOp::$op => {
                    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                        *out = numerics::vec_f32(VecOp::$op, *a, *b);
                    }
                })*
            }
        };
    }
    by_op!(Add Sub Mul Div Max Min Pow Mod Fmod And Or Xor Shl Shr Eq Ne Lt Le Gt Ge);
}

/// One loop for each function, with the function a constant in it: `$loop!(function)`.
macro_rules! by_func {
    ($of:ident, $loop:ident) => {
        by_func!(@ $of, $loop, Identity Exp Log Sqrt Rsqrt Reciprocal Tanh Erf Sigmoid Sin Cos Softplus Relu Square
            Abs Neg Sign Floor Ceil Round Not IsNan IsInf Lut)
    };
    (@ $of:ident, $loop:ident, $($func:ident)*) => {
        match $of {
            $(ActFunc::$func => $loop!(ActFunc::$func),)*
        }
    };
}

#[inline(always)]
fn activate_body(func: ActFunc, x: &[f32], out: &mut [f32]) {
    macro_rules! each {
        ($func:expr) => {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = numerics::act::act($func, *x))
        };
    }
    by_func!(func, each);
}

#[inline(always)]
fn activate_in_place_body(func: ActFunc, x: &mut [f32]) {
    macro_rules! each {
        ($func:expr) => {
            x.iter_mut().for_each(|x| *x = numerics::act::act($func, *x))
        };
    }
    by_func!(func, each);
}

/// A number of which any bits are one.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for i32 {}

/// Little-endian bytes as the numbers that they are, if the host reads them so.
pub(crate) fn as_numbers<N: Plain>(bytes: &[u8]) -> Option<&[N]> {
    // SAFETY: any bits are a number of each `Plain` type.
    let (before, numbers, after) = unsafe { bytes.align_to::<N>() };
    (cfg!(target_endian = "little") && before.is_empty() && after.is_empty()).then_some(numbers)
}

/// The same for writing.
pub(crate) fn as_numbers_mut<N: Plain>(bytes: &mut [u8]) -> Option<&mut [N]> {
    // SAFETY: as above.
    let (before, numbers, after) = unsafe { bytes.align_to_mut::<N>() };
    (cfg!(target_endian = "little") && before.is_empty() && after.is_empty()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_interleaved_and_added() {
        for len in [0, 1, 31, 32, 33, 64, 100] {
            let rows: Vec<Vec<u8>> =
                (0..4).map(|r| (0..len).map(|i| (i * 37 + r * 101) as u8).collect()).collect();
            for isa in Isa::available() {
                let mut quads = vec![Quad::default(); len];
                interleave_by(isa, [&rows[0], &rows[1], &rows[2], &rows[3]], 0x80, &mut quads);
                for (i, quad) in quads.iter().enumerate() {
                    assert_eq!(quad.0, [0, 1, 2, 3].map(|r| rows[r][i] ^ 0x80), "{isa:?} {len} {i}");
                }
                let mut sums = vec![5; len];
                add_quads(&quads, &mut sums);
                for (sum, quad) in sums.iter().zip(&quads) {
                    assert_eq!(*sum, 5 + quad.0.iter().map(|byte| i32::from(*byte)).sum::<i32>());
                }
            }
        }
    }

    #[test]
    fn rows_of_bytes_become_rows_of_quads() {
        let rows: Vec<Vec<u8>> =
            (0..9).map(|r| (0..700).map(|i| (i * 37 + r * 101) as u8).collect()).collect();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        for (count, columns) in
            [(8usize, 0..48), (9, 3..51), (1, 5..12), (3, 0..700), (6, 640..700), (2, 10..58)]
        {
            let pitch = columns.len() + 5;
            let mut quads = vec![Quad([7; 4]); count.div_ceil(4) * pitch];
            pack_quads(&rows[..count], columns.clone(), 0x80, (pitch, &mut quads));
            for (at, quad) in quads.iter().enumerate() {
                let (four, column) = (at / pitch * 4, at % pitch);
                let byte =
                    |row: usize| if row < count { rows[row][columns.start + column] ^ 0x80 } else { 0 };
                let expected =
                    if column < columns.len() { [0, 1, 2, 3].map(|i| byte(four + i)) } else { [7; 4] };
                assert_eq!(quad.0, expected, "{count} rows, {columns:?}: {at}");
            }
        }
    }

    #[test]
    fn rows_of_numbers_are_laid_one_after_another() {
        let bytes: Vec<u8> = (0..=255).collect();
        for dt in [Dt::F32, Dt::F16, Dt::Bf16, Dt::F8e4m3, Dt::F8e5m2] {
            let size = dt.bytes().unwrap() as usize;
            for (count, pitch) in [(33, 33), (20, 48), (1, 3), (32 / size, 40)] {
                let rows =
                    [&bytes[..count * size], &bytes[77..][..count * size], &bytes[5..][..count * size]];
                let (mut laid, mut expected) = (Vec::new(), vec![0.0f32; 3 * pitch]);
                lay_floats(&rows, count, dt, pitch, &mut laid);
                for (row, to) in rows.iter().zip(expected.chunks_mut(pitch)) {
                    load_floats_body(row, 0, size as isize, dt, &mut to[..count]);
                }
                let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&laid), bits(&expected), "{dt:?} {count} {pitch}");
            }
        }
    }
}
