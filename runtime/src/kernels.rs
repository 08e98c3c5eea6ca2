//! The value kernels that are worth intrinsics: the only module of the crate with `unsafe`.
//!
//! Each has a portable safe twin that computes the same bits; the twin is the definition, and the
//! tests compare the two. A product is one chain `acc = fma(s, x, acc)` in ascending `k` for each
//! element of the result, which is exactly what a register-blocked kernel does when it keeps a block
//! of results in registers and runs over `k`: blocking rows and columns changes no chain.
//!
//! Layouts: the stationary operand comes packed as blocks of [`ROWS`] rows (`[block][k][ROWS]`), the
//! moving operand as panels of [`COLS`] columns (`[panel][k][COLS]`), both padded with zeros; each
//! result row is a slice of contiguous 32-bit little-endian elements.

use std::sync::OnceLock;

use kiln_machine::isa::{ActFunc, VecOp};
use kiln_machine::numerics;
use rayon::prelude::*;

/// Result rows that one register block holds.
pub(crate) const ROWS: usize = 8;
/// Result columns that one register block holds.
pub(crate) const COLS: usize = 32;

/// Multiply-accumulates from which a product is worth spreading over threads.
const PARALLEL_MACS: usize = 1 << 20;

/// Which implementation of the f32 product runs; all give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// 512-bit fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `f32::mul_add`, on any host.
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
            if is_x86_feature_detected!("avx512f") {
                found.push(Isa::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
            }
        }
        found.push(Isa::Portable);
        found
    }
}

/// The shape of one product: `rows` result rows of `cols` columns, `depth` terms in each chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) depth: usize,
    /// Whether the chain continues from the value in the result, or starts at zero.
    pub(crate) accumulate: bool,
}

impl Product {
    /// Length in elements of the packed moving operand.
    pub(crate) fn packed_moving_len(&self) -> usize {
        self.cols.div_ceil(COLS) * COLS * self.depth
    }
}

/// `result[m, n] (+)= Σ_k stationary[k, m] · moving[k, n]` in f32.
///
/// # Panics
/// If a slice is shorter than the shape says: callers have checked the operands' bounds.
pub(crate) fn product_f32(
    isa: Isa,
    shape: Product,
    stationary: &[f32],
    moving: &[f32],
    result: &mut [&mut [u8]],
) {
    assert!(moving.len() >= shape.packed_moving_len());
    each_block(shape, result, |block, rows| {
        let stationary = &stationary[block * ROWS * shape.depth..][..ROWS * shape.depth];
        for panel in 0..shape.cols.div_ceil(COLS) {
            let moving = &moving[panel * COLS * shape.depth..][..COLS * shape.depth];
            let first = panel * COLS * 4;
            let bytes = COLS.min(shape.cols - panel * COLS) * 4;
            if rows.len() == ROWS && bytes == COLS * 4 {
                let mut rows = rows.iter_mut();
                let tile = std::array::from_fn(|_| match rows.next() {
                    Some(row) => &mut row[first..first + COLS * 4],
                    None => Default::default(),
                });
                block_f32(isa, shape.accumulate, stationary, moving, tile);
            } else {
                // An edge goes through a full block on the side, so that every kernel is a full one.
                let mut side = [[0u8; COLS * 4]; ROWS];
                for (side, row) in side.iter_mut().zip(rows.iter()) {
                    side[..bytes].copy_from_slice(&row[first..first + bytes]);
                }
                let tile = side.each_mut().map(|row| row.as_mut_slice());
                block_f32(isa, shape.accumulate, stationary, moving, tile);
                for (side, row) in side.iter().zip(rows.iter_mut()) {
                    row[first..first + bytes].copy_from_slice(&side[..bytes]);
                }
            }
        }
    });
}

/// The same with i32 operands and wrapping arithmetic.
///
/// # Panics
/// As [`product_f32`].
pub(crate) fn product_i32(shape: Product, stationary: &[i32], moving: &[i32], result: &mut [&mut [u8]]) {
    each_block(shape, result, |block, rows| {
        let stationary = &stationary[block * ROWS * shape.depth..][..ROWS * shape.depth];
        for panel in 0..shape.cols.div_ceil(COLS) {
            let moving = &moving[panel * COLS * shape.depth..][..COLS * shape.depth];
            let first = panel * COLS * 4;
            let bytes = COLS.min(shape.cols - panel * COLS) * 4;
            let mut acc = [[0i32; COLS]; ROWS];
            if shape.accumulate {
                for (acc, row) in acc.iter_mut().zip(rows.iter()) {
                    for (acc, old) in acc.iter_mut().zip(row[first..first + bytes].as_chunks::<4>().0) {
                        *acc = i32::from_le_bytes(*old);
                    }
                }
            }
            for (s, x) in stationary.as_chunks::<ROWS>().0.iter().zip(moving.as_chunks::<COLS>().0) {
                for (acc, &s) in acc.iter_mut().zip(s) {
                    for (acc, &x) in acc.iter_mut().zip(x) {
                        *acc = acc.wrapping_add(s.wrapping_mul(x));
                    }
                }
            }
            for (acc, row) in acc.iter().zip(rows.iter_mut()) {
                for (acc, new) in acc.iter().zip(row[first..first + bytes].as_chunks_mut::<4>().0) {
                    *new = acc.to_le_bytes();
                }
            }
        }
    });
}

/// Run `work(block, its rows)` for each block of result rows, in parallel if the product is large.
fn each_block(shape: Product, result: &mut [&mut [u8]], work: impl Fn(usize, &mut [&mut [u8]]) + Sync) {
    let result = &mut result[..shape.rows];
    if shape.rows * shape.cols * shape.depth >= PARALLEL_MACS && shape.rows > ROWS {
        result.par_chunks_mut(ROWS).enumerate().for_each(|(block, rows)| work(block, rows));
    } else {
        for (block, rows) in result.chunks_mut(ROWS).enumerate() {
            work(block, rows);
        }
    }
}

/// The rows of one full block of results, each of [`COLS`] elements.
type Tile<'a> = [&'a mut [u8]; ROWS];

/// One full block of [`ROWS`] × [`COLS`] results.
fn block_f32(isa: Isa, accumulate: bool, stationary: &[f32], moving: &[f32], tile: Tile<'_>) {
    assert!(tile.iter().all(|row| row.len() == COLS * 4));
    assert_eq!(stationary.len() / ROWS, moving.len() / COLS);
    match isa {
        // SAFETY: `Isa::available` has seen the feature on this host, and the assertions above cover
        // every address that the kernel touches.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::block_avx512(accumulate, stationary, moving, tile) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::block_avx2(accumulate, stationary, moving, tile) },
        Isa::Portable => block_portable(accumulate, stationary, moving, tile),
    }
}

/// The definition: each element is a chain of `mul_add` in ascending k.
fn block_portable(accumulate: bool, stationary: &[f32], moving: &[f32], tile: Tile<'_>) {
    for (m, row) in tile.into_iter().enumerate() {
        for (n, bytes) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut acc = if accumulate { f32::from_le_bytes(*bytes) } else { 0.0 };
            for (s, x) in stationary.as_chunks::<ROWS>().0.iter().zip(moving.as_chunks::<COLS>().0) {
                acc = s[m].mul_add(x[n], acc);
            }
            *bytes = acc.to_le_bytes();
        }
    }
}

/// The same loop compiled for the host's widest vectors and for any host; all give the same bits, since the
/// operations are the same and each rounds by itself.
macro_rules! for_widest {
    ($(#[doc = $doc:literal])* $name:ident / $wide:ident / $wider:ident = $body:ident($($arg:ident: $T:ty),*)) => {
        $(#[doc = $doc])*
        pub(crate) fn $name($($arg: $T),*) {
            match Isa::detect() {
                // SAFETY: `Isa::detect` has seen the features on this host.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { $wider($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { $wide($($arg),*) },
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

for_widest! {
    /// `a = a op b` in f32.
    binary_f32 / binary_f32_avx2 / binary_f32_avx512 = binary_body(op: VecOp, a: &mut [f32], b: &[f32])
}

for_widest! {
    /// `x = f(x)` in f32.
    activate / activate_avx2 / activate_avx512 = activate_body(func: ActFunc, x: &mut [f32])
}

#[inline(always)]
fn binary_body(op: VecOp, a: &mut [f32], b: &[f32]) {
    /// One loop for each operation, with the operation a constant in it.
    macro_rules! by_op {
        ($($op:ident)*) => {
            match op {
                $(VecOp::$op => {
                    for (a, b) in a.iter_mut().zip(b) {
                        *a = numerics::vec_f32(VecOp::$op, *a, *b);
                    }
                })*
            }
        };
    }
    by_op!(Add Sub Mul Div Max Min Pow Mod Fmod And Or Xor Shl Shr Eq Ne Lt Le Gt Ge);
}

#[inline(always)]
fn activate_body(func: ActFunc, x: &mut [f32]) {
    /// One loop for each function, with the function a constant in it.
    macro_rules! by_func {
        ($($func:ident)*) => {
            match func {
                $(ActFunc::$func => x.iter_mut().for_each(|x| *x = numerics::act::act(ActFunc::$func, *x)),)*
            }
        };
    }
    by_func!(Identity Exp Log Sqrt Rsqrt Reciprocal Tanh Erf Sigmoid Sin Cos Softplus Relu Square Abs Neg Sign
        Floor Ceil Round Not IsNan IsInf Lut);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{COLS, ROWS, Tile};

    /// 8 × 32 results in sixteen 512-bit registers.
    ///
    /// # Safety
    /// The host has avx512f; each row of the tile holds [`COLS`] f32; both operands hold the same
    /// number of steps.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn block_avx512(accumulate: bool, stationary: &[f32], moving: &[f32], tile: Tile<'_>) {
        let steps = moving.len() / COLS;
        let rows = tile.map(|row| row.as_mut_ptr().cast::<f32>());
        let mut acc = [[_mm512_setzero_ps(); 2]; ROWS];
        // SAFETY: the caller vouches for the extents of all slices; loads and stores are unaligned ones.
        unsafe {
            if accumulate {
                for (acc, at) in acc.iter_mut().zip(rows) {
                    *acc = [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(16))];
                }
            }
            let (mut s, mut x) = (stationary.as_ptr(), moving.as_ptr());
            for _ in 0..steps {
                let (x0, x1) = (_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16)));
                for (row, acc) in acc.iter_mut().enumerate() {
                    let s = _mm512_set1_ps(*s.add(row));
                    acc[0] = _mm512_fmadd_ps(s, x0, acc[0]);
                    acc[1] = _mm512_fmadd_ps(s, x1, acc[1]);
                }
                s = s.add(ROWS);
                x = x.add(COLS);
            }
            for (acc, at) in acc.iter().zip(rows) {
                _mm512_storeu_ps(at, acc[0]);
                _mm512_storeu_ps(at.add(16), acc[1]);
            }
        }
    }

    /// 8 × 32 results as four passes of 4 × 16 in eight 256-bit registers.
    ///
    /// # Safety
    /// The host has avx2 and fma; otherwise as [`block_avx512`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn block_avx2(accumulate: bool, stationary: &[f32], moving: &[f32], tile: Tile<'_>) {
        let steps = moving.len() / COLS;
        let rows = tile.map(|row| row.as_mut_ptr().cast::<f32>());
        for (first_row, first_col) in [(0, 0), (0, 16), (4, 0), (4, 16)] {
            let mut acc = [[_mm256_setzero_ps(); 2]; 4];
            // SAFETY: as in `block_avx512`; rows `first_row..+4` and columns `first_col..+16` lie inside
            // the block.
            unsafe {
                let rows: [*mut f32; 4] = std::array::from_fn(|row| rows[first_row + row].add(first_col));
                if accumulate {
                    for (acc, at) in acc.iter_mut().zip(rows) {
                        *acc = [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))];
                    }
                }
                for step in 0..steps {
                    let s = stationary.as_ptr().add(step * ROWS + first_row);
                    let x = moving.as_ptr().add(step * COLS + first_col);
                    let (x0, x1) = (_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8)));
                    for (row, acc) in acc.iter_mut().enumerate() {
                        let s = _mm256_set1_ps(*s.add(row));
                        acc[0] = _mm256_fmadd_ps(s, x0, acc[0]);
                        acc[1] = _mm256_fmadd_ps(s, x1, acc[1]);
                    }
                }
                for (acc, at) in acc.iter().zip(rows) {
                    _mm256_storeu_ps(at, acc[0]);
                    _mm256_storeu_ps(at.add(8), acc[1]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reproducible values with exponents wide enough that a wrong order of a chain changes bits.
    fn noise(len: usize, mut seed: u64) -> Vec<f32> {
        (0..len)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let unit = (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
                unit * ((seed >> 20) % 7) as f32
            })
            .collect()
    }

    fn pack(values: &[f32], depth: usize, width: usize, block: usize) -> Vec<f32> {
        let mut packed = vec![0.0; width.div_ceil(block) * block * depth];
        for k in 0..depth {
            for i in 0..width {
                packed[(i / block) * block * depth + k * block + i % block] = values[k * width + i];
            }
        }
        packed
    }

    fn chain(shape: Product, s: &[f32], x: &[f32], start: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        for m in 0..shape.rows {
            for n in 0..shape.cols {
                let mut acc = if shape.accumulate { start[m * shape.cols + n] } else { 0.0 };
                for k in 0..shape.depth {
                    acc = s[k * shape.rows + m].mul_add(x[k * shape.cols + n], acc);
                }
                out.push(acc);
            }
        }
        out
    }

    #[test]
    fn every_implementation_gives_the_bits_of_the_chain() {
        for (rows, cols, depth, accumulate) in [
            (8, 32, 5, false),
            (128, 512, 128, true),
            (1, 1, 1, true),
            (13, 33, 7, true),
            (9, 70, 64, false),
            (128, 1, 128, true),
            (3, 32, 0, true),
        ] {
            let shape = Product { rows, cols, depth, accumulate };
            let (s, x) = (noise(depth * rows, 1), noise(depth * cols, 2));
            let start = noise(rows * cols, 3);
            let expected = chain(shape, &s, &x, &start);
            let (ps, px) = (pack(&s, depth, rows, ROWS), pack(&x, depth, cols, COLS));
            for isa in Isa::available() {
                let pitch = cols * 4 + 24;
                let mut out = vec![0xAAu8; rows * pitch];
                for (i, value) in start.iter().enumerate() {
                    out[i / cols * pitch + i % cols * 4..][..4].copy_from_slice(&value.to_le_bytes());
                }
                let mut lines: Vec<&mut [u8]> = out.chunks_mut(pitch).collect();
                product_f32(isa, shape, &ps, &px, &mut lines);
                for m in 0..rows {
                    for n in 0..cols {
                        let got =
                            f32::from_le_bytes(out[m * pitch + n * 4..][..4].try_into().expect("4 bytes"));
                        let want = expected[m * cols + n];
                        assert_eq!(got.to_bits(), want.to_bits(), "{isa:?} {shape:?} [{m}, {n}]");
                    }
                    let gap = &out[m * pitch + cols * 4..(m + 1) * pitch];
                    assert!(gap.iter().all(|&b| b == 0xAA), "{isa:?} wrote past row {m} of {shape:?}");
                }
            }
        }
    }

    #[test]
    fn integers_wrap() {
        let shape = Product { rows: 2, cols: 3, depth: 2, accumulate: true };
        let mut s = vec![0i32; ROWS * shape.depth];
        let mut x = vec![0i32; shape.packed_moving_len()];
        for k in 0..2 {
            for m in 0..2 {
                s[k * ROWS + m] = i32::MAX - (k * 2 + m) as i32;
            }
            for n in 0..3 {
                x[k * COLS + n] = (k * 3 + n) as i32 - 2;
            }
        }
        let mut out: Vec<u8> = (0..6).flat_map(|i: i32| i.to_le_bytes()).collect();
        let mut lines: Vec<&mut [u8]> = out.chunks_mut(12).collect();
        product_i32(shape, &s, &x, &mut lines);
        for m in 0..2i32 {
            for n in 0..3i32 {
                let mut want = m * 3 + n;
                for k in 0..2 {
                    want = want.wrapping_add((i32::MAX - (k * 2 + m)).wrapping_mul(k * 3 + n - 2));
                }
                let at = (m * 3 + n) as usize * 4;
                assert_eq!(i32::from_le_bytes(out[at..at + 4].try_into().expect("4 bytes")), want);
            }
        }
    }
}
