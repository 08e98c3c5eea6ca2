//! The value kernels that are worth intrinsics: the only module of the crate with `unsafe`.
//!
//! Each has a portable safe twin that computes the same bits; the twin is the definition, and the
//! tests compare the two. A product is one chain in ascending `k` for each element of the result,
//! which is exactly what a register-blocked kernel does when it keeps a block of results in registers
//! and runs over `k`: blocking rows and columns changes no chain.
//!
//! Layouts: the stationary operand is read where it lies, with a stride for rows of the result and one for steps
//! of k ([`Stationary`]); the moving operand comes as panels of [`COLS`] columns (`[panel][k][COLS]`), padded; each
//! result row is a slice of contiguous 32-bit little-endian elements. A term is an f32, or a [`Pair`] of 16-bit
//! integers: two steps of k at once.

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

#[cfg(feature = "peers")]
pub(crate) mod peer;
pub(crate) mod team;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use kiln_machine::isa::{ActFunc, VecOp};
use kiln_machine::numerics;

use team::Team;

/// Result rows that one register block holds.
pub(crate) const ROWS: usize = 8;
/// Result columns that one register block holds.
pub(crate) const COLS: usize = 32;

/// Multiply-accumulates from which a product is worth spreading over threads.
const PARALLEL_MACS: usize = 1 << 17;

/// Which implementation runs; all give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// 512-bit vectors with multiply-add of 16-bit pairs.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
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
    /// Length in terms of the packed moving operand.
    pub(crate) fn packed_moving_len(&self) -> usize {
        self.cols.div_ceil(COLS) * COLS * self.depth
    }
}

/// The stationary operand: the term of result row `m` and step `k` is at `m · row + k · step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stationary<'a, T> {
    pub(crate) terms: &'a [T],
    pub(crate) row: usize,
    pub(crate) step: usize,
}

/// Two consecutive steps of an integer chain; the factors fit in 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub(crate) struct Pair(pub(crate) [i16; 2]);

/// One term of a chain; 32 bits.
pub(crate) trait Term: Copy + Default + Send + Sync + 'static {
    /// The chain's bits after a step.
    fn chain(acc: u32, s: Self, x: Self) -> u32;

    /// One full block of results. `offsets` are the first terms of its rows.
    fn block(isa: Isa, accumulate: bool, s: Block<'_, Self>, moving: &[Self], tile: Tile<'_>);
}

/// [`ROWS`] rows of the stationary operand.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a, T> {
    terms: &'a [T],
    offsets: [usize; ROWS],
    step: usize,
}

impl<T> Block<'_, T> {
    /// Whether `steps` steps of every row lie inside the terms.
    fn holds(&self, steps: usize) -> bool {
        let reach = steps.saturating_sub(1) * self.step;
        steps == 0 || self.offsets.iter().all(|offset| offset + reach < self.terms.len())
    }
}

impl Term for f32 {
    #[inline(always)]
    fn chain(acc: u32, s: Self, x: Self) -> u32 {
        s.mul_add(x, f32::from_bits(acc)).to_bits()
    }

    fn block(isa: Isa, accumulate: bool, s: Block<'_, Self>, moving: &[Self], tile: Tile<'_>) {
        match isa {
            // SAFETY: `Isa::available` has seen the feature on this host, and `product` has asserted what covers
            // every address that the kernel touches.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512 => unsafe { x86::f32_avx512(accumulate, s, moving, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86::f32_avx2(accumulate, s, moving, tile) },
            Isa::Portable => block_portable(accumulate, s, moving, tile),
        }
    }
}

impl Term for Pair {
    #[inline(always)]
    fn chain(acc: u32, s: Self, x: Self) -> u32 {
        let [a, b] = [0, 1].map(|i| i32::from(s.0[i]) * i32::from(x.0[i]));
        acc.wrapping_add(a as u32).wrapping_add(b as u32)
    }

    fn block(isa: Isa, accumulate: bool, s: Block<'_, Self>, moving: &[Self], tile: Tile<'_>) {
        match isa {
            // SAFETY: as for f32.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { x86::pair_vnni(accumulate, s, moving, tile) },
            // SAFETY: as for f32.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { x86::pair_avx512(accumulate, s, moving, tile) },
            // SAFETY: as for f32.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86::pair_avx2(accumulate, s, moving, tile) },
            Isa::Portable => block_portable(accumulate, s, moving, tile),
        }
    }
}

/// The rows of one full block of results, each of [`COLS`] elements.
pub(crate) type Tile<'a> = [&'a mut [u8]; ROWS];

/// `result[m, n] (+)= Σ_k stationary[m, k] · moving[k, n]`; k counts terms.
///
/// # Panics
/// If a slice is shorter than the shape says: callers have checked the operands' bounds.
pub(crate) fn product<T: Term>(
    team: &Team,
    isa: Isa,
    shape: Product,
    stationary: Stationary<'_, T>,
    moving: &[T],
    result: &mut [&mut [u8]],
) {
    assert!(moving.len() >= shape.packed_moving_len());
    let work = |first: usize, rows: &mut [&mut [u8]]| {
        // Rows beyond the last repeat it; their results are dropped.
        let offsets = std::array::from_fn(|row| (first + row).min(shape.rows - 1) * stationary.row);
        let block = Block { terms: stationary.terms, offsets, step: stationary.step };
        assert!(block.holds(shape.depth));
        for panel in 0..shape.cols.div_ceil(COLS) {
            let moving = &moving[panel * COLS * shape.depth..][..COLS * shape.depth];
            let start = panel * COLS * 4;
            let bytes = COLS.min(shape.cols - panel * COLS) * 4;
            if rows.len() == ROWS && bytes == COLS * 4 {
                let mut rows = rows.iter_mut();
                let tile = std::array::from_fn(|_| match rows.next() {
                    Some(row) => &mut row[start..start + COLS * 4],
                    None => Default::default(),
                });
                T::block(isa, shape.accumulate, block, moving, tile);
            } else {
                // An edge goes through a full block on the side, so that every kernel is a full one.
                let mut side = [[0u8; COLS * 4]; ROWS];
                for (side, row) in side.iter_mut().zip(rows.iter()) {
                    side[..bytes].copy_from_slice(&row[start..start + bytes]);
                }
                let tile = side.each_mut().map(|row| row.as_mut_slice());
                T::block(isa, shape.accumulate, block, moving, tile);
                for (side, row) in side.iter().zip(rows.iter_mut()) {
                    row[start..start + bytes].copy_from_slice(&side[..bytes]);
                }
            }
        }
    };
    let result = &mut result[..shape.rows];
    if shape.rows * shape.cols * shape.depth >= PARALLEL_MACS {
        team.each_chunk(result, ROWS, work);
    } else {
        for (block, rows) in result.chunks_mut(ROWS).enumerate() {
            work(block * ROWS, rows);
        }
    }
}

/// The definition: each element is a chain in ascending k.
fn block_portable<T: Term>(accumulate: bool, s: Block<'_, T>, moving: &[T], tile: Tile<'_>) {
    for (row, offset) in tile.into_iter().zip(s.offsets) {
        for (n, bytes) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut acc = if accumulate { u32::from_le_bytes(*bytes) } else { 0 };
            for (k, x) in moving.as_chunks::<COLS>().0.iter().enumerate() {
                acc = T::chain(acc, s.terms[offset + k * s.step], x[n]);
            }
            *bytes = acc.to_le_bytes();
        }
    }
}

/// Ask the host to bring these bytes near; nothing but speed depends on it.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        // SAFETY: a prefetch of any address faults never, and SSE is part of x86-64.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast())
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
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

    fn pack<T: Term>(values: &[T], depth: usize, width: usize) -> Vec<T> {
        let mut packed = vec![T::default(); width.div_ceil(COLS) * COLS * depth];
        for k in 0..depth {
            for i in 0..width {
                packed[(i / COLS) * COLS * depth + k * COLS + i % COLS] = values[k * width + i];
            }
        }
        packed
    }

    const SHAPES: [(usize, usize, usize, bool); 7] = [
        (8, 32, 5, false),
        (128, 512, 128, true),
        (1, 1, 1, true),
        (13, 33, 7, true),
        (9, 70, 64, false),
        (128, 1, 128, true),
        (3, 32, 0, true),
    ];

    /// Every implementation on every shape, with the stationary operand in both orders, against chains.
    fn check<T: Term>(noise: impl Fn(usize, u64) -> Vec<T>, start: impl Fn(usize) -> Vec<u32>) {
        let team = Team::new(2);
        for (rows, cols, depth, accumulate) in SHAPES {
            let shape = Product { rows, cols, depth, accumulate };
            // s[m][k], and the same as [k][m] with a gap after each row.
            let (s, x) = (noise(depth * rows, 1), noise(depth * cols, 2));
            let pitch = rows + 3;
            let mut turned = vec![T::default(); pitch * depth];
            (0..rows * depth).for_each(|i| turned[i % depth * pitch + i / depth] = s[i]);
            let start = start(rows * cols);
            let px = pack(&x, depth, cols);
            for isa in Isa::available() {
                for stationary in [
                    Stationary { terms: &s, row: depth, step: 1 },
                    Stationary { terms: &turned, row: 1, step: pitch },
                ] {
                    let pitch = cols * 4 + 24;
                    let mut out = vec![0xAAu8; rows * pitch];
                    for (i, value) in start.iter().enumerate() {
                        out[i / cols * pitch + i % cols * 4..][..4].copy_from_slice(&value.to_le_bytes());
                    }
                    let mut lines: Vec<&mut [u8]> = out.chunks_mut(pitch).collect();
                    product(&team, isa, shape, stationary, &px, &mut lines);
                    for (m, line) in out.chunks(pitch).enumerate() {
                        for n in 0..cols {
                            let mut want = if accumulate { start[m * cols + n] } else { 0 };
                            for k in 0..depth {
                                want = T::chain(want, s[m * depth + k], x[k * cols + n]);
                            }
                            let got = u32::from_le_bytes(line[n * 4..][..4].try_into().expect("4 bytes"));
                            assert_eq!(got, want, "{isa:?} {shape:?} [{m}, {n}]");
                        }
                        assert!(line[cols * 4..].iter().all(|&b| b == 0xAA), "{isa:?} wrote past row {m}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_implementation_gives_the_bits_of_the_chain() {
        check(noise, |len| noise(len, 3).into_iter().map(f32::to_bits).collect());
    }

    #[test]
    fn integers_wrap() {
        // Factors at the ends of what two bytes' difference can be, chains at the ends of i32.
        let pairs = |len, seed| {
            let number = |x: f32| (x * 383.0 / 3.0) as i16;
            let pairs = noise(len, seed);
            let turned = noise(len, seed + 9);
            pairs.iter().zip(turned).map(|(a, b)| Pair([number(*a), number(b)])).collect()
        };
        check(pairs, |len| {
            (0..len as u32).map(|i| if i % 2 == 0 { i32::MAX as u32 - i } else { i }).collect()
        });
    }
}
