//! Register blocks of products in x86 vectors.
//!
//! One macro writes them all: a block keeps its results in registers, and each step of k broadcasts a term of every
//! row against the vectors of the moving operand's row. The last columns of a result take as few vectors as they need,
//! and are loaded and stored in part.

use std::arch::x86_64::*;

use super::ahead::Ahead;
use super::product::{COLS, Panel, Quad, Stationary, Tile};

macro_rules! block {
    (
        $(#[doc = $doc:literal])* $name:ident, $features:literal, $T:ty, $V:ident,
        $rows:literal rows of $vectors:literal vectors of $lanes:literal,
        zero $zero:ident, load $load:ident, load part $load_part:ident, store part $store_part:ident,
        broadcast $broadcast:expr, step $step:expr, offset $offset:expr
    ) => {
        pub(super) mod $name {
            use super::*;

            $(#[doc = $doc])*
            ///
            /// # Safety
            /// The host has the features; the panel holds whole steps of [`COLS`] terms; the stationary operand holds as
            /// many steps of the tile's rows; the lines hold the tile.
            #[target_feature(enable = $features)]
            pub(crate) unsafe fn panel(
                accumulate: bool,
                s: &Stationary<'_, $T>,
                moving: &Panel<'_, $T>,
                tile: &mut Tile<'_, '_>,
                ahead: &mut Ahead<'_>,
            ) {
                let (start, pitch) = tile.lines.raw();
                let parts = tile.rows.len().div_ceil($rows) * tile.cols.div_ceil($vectors * $lanes);
                let steps = parts * (moving.terms.len() / COLS);
                // How many steps there are for each line that is asked for.
                let often = (steps / ahead.lines().max(1)).clamp(1, 3);
                for row in tile.rows.clone().step_by($rows) {
                    for col in (0..tile.cols).step_by($vectors * $lanes) {
                        let cols = tile.cols - col;
                        // SAFETY: the caller vouches for the extents.
                        unsafe {
                            let first = start.add(row * pitch + (tile.first + col) * 4);
                            let results = Results { first, pitch, rows: tile.rows.end - row, cols };
                            let (at, ahead) = ((row, col), (&mut *ahead, often));
                            match (cols.div_ceil($lanes).min($vectors), results.rows) {
                                (1, _) => part::<$rows, 1, false>(accumulate, s, moving, results, at, ahead),
                                (2, _) => part::<$rows, 2, false>(accumulate, s, moving, results, at, ahead),
                                (_, 1) => part::<1, $vectors, false>(accumulate, s, moving, results, at, ahead),
                                (_, $rows..) => {
                                    part::<$rows, $vectors, true>(accumulate, s, moving, results, at, ahead);
                                }
                                _ => part::<$rows, $vectors, false>(accumulate, s, moving, results, at, ahead),
                            }
                        }
                    }
                }
            }

            /// So many rows, or as many of them as there are, of so many vectors.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn part<const ROWS: usize, const VECTORS: usize, const WHOLE: bool>(
                accumulate: bool,
                s: &Stationary<'_, $T>,
                moving: &Panel<'_, $T>,
                results: Results,
                (row, col): (usize, usize),
                (ahead, often): (&mut Ahead<'_>, usize),
            ) {
                let Results { first, pitch, rows, cols } = results;
                let steps = moving.terms.len() / COLS;
                // Rows that are not there are the last one's, and never stored.
                let of = |r: usize| r.min(rows - 1);
                let lines: [*mut u8; ROWS] = std::array::from_fn(|r| first.wrapping_add(of(r) * pitch));
                // SAFETY: the caller vouches for the extents: the rows and columns lie inside the lines, of vectors
                // only the part that does, and every step of every row inside the terms. All accesses are unaligned.
                unsafe {
                    let mut acc = [[$zero(); VECTORS]; ROWS];
                    if accumulate {
                        for (acc, line) in acc.iter_mut().zip(lines) {
                            for (v, acc) in acc.iter_mut().enumerate() {
                                *acc = $load_part(line.add(v * $lanes * 4).cast(), cols - v * $lanes);
                            }
                        }
                    }
                    let mut x = moving.terms.as_ptr().add(col);
                    let (mut first, mut left) = (s.first_of(row), often);
                    // The rows of a whole block are equally far apart, so that a few registers reach them.
                    let apart = s.row_pitch();
                    let terms: [*const $T; ROWS] = std::array::from_fn(|r| s.first_of(row + of(r)));
                    let mut at = 0;
                    for _ in 0..steps {
                        left -= 1;
                        if left == 0 {
                            ahead.ask();
                            left = often;
                        }
                        let vectors: [$V; VECTORS] = std::array::from_fn(|v| $load(x.add(v * $lanes).cast()));
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let term = if WHOLE { first.wrapping_add(r * apart) } else { terms[r].wrapping_add(at) };
                            let s = $broadcast(term);
                            for (acc, x) in acc.iter_mut().zip(vectors) {
                                *acc = $step(*acc, s, x);
                            }
                        }
                        at += s.step;
                        first = first.wrapping_add(s.step);
                        x = x.wrapping_add(COLS);
                    }
                    for (r, (acc, line)) in acc.into_iter().zip(lines).enumerate().take(rows) {
                        for (v, acc) in acc.into_iter().enumerate() {
                            let columns: *const i32 = moving.offsets.as_ptr().add(col + v * $lanes);
                            let acc = $offset(acc, s.offset(row + r), columns);
                            $store_part(line.add(v * $lanes * 4).cast(), cols - v * $lanes, acc);
                        }
                    }
                }
            }
        }
    };
}

/// Where results are: the first one, how far apart rows are, and rows and columns from there on.
#[derive(Clone, Copy)]
struct Results {
    first: *mut u8,
    pitch: usize,
    rows: usize,
    cols: usize,
}

block! {
    /// 8 × 48 results in 24 512-bit registers.
    f32_avx512, "avx512f", f32, __m512, 8 rows of 3 vectors of 16,
    zero _mm512_setzero_ps, load _mm512_loadu_ps, load part load_512_ps, store part store_512_ps,
    broadcast |term: *const f32| _mm512_set1_ps(*term), step |acc, s, x| _mm512_fmadd_ps(s, x, acc),
    offset |acc, _: i32, _: *const i32| acc
}

block! {
    /// 4 × 16 results in eight 256-bit registers.
    f32_avx2, "avx2,fma", f32, __m256, 4 rows of 2 vectors of 8,
    zero _mm256_setzero_ps, load _mm256_loadu_ps, load part load_256_ps, store part store_256_ps,
    broadcast |term: *const f32| _mm256_set1_ps(*term), step |acc, s, x| _mm256_fmadd_ps(s, x, acc),
    offset |acc, _: i32, _: *const i32| acc
}

block! {
    /// 8 × 48 results; a step is the dot product of four bytes.
    quad_avx512_vnni, "avx512f,avx512bw,avx512vnni", Quad, __m512i, 8 rows of 3 vectors of 16,
    zero _mm512_setzero_si512, load _mm512_loadu_si512, load part load_512, store part store_512,
    broadcast |term: *const Quad| _mm512_set1_epi32(*term.cast()), step |acc, s, x| _mm512_dpbusd_epi32(acc, s, x),
    offset offset_512
}

block! {
    /// The same with multiplications of 16 bits: those of bytes saturate.
    quad_avx512, "avx512f,avx512bw", Quad, __m512i, 8 rows of 3 vectors of 16,
    zero _mm512_setzero_si512, load _mm512_loadu_si512, load part load_512, store part store_512,
    broadcast |term: *const Quad| _mm512_set1_epi32(*term.cast()),
    step |acc, s, x| {
        let even = _mm512_madd_epi16(
            _mm512_and_si512(s, _mm512_set1_epi16(0xff)),
            _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x)),
        );
        let odd = _mm512_madd_epi16(_mm512_srli_epi16::<8>(s), _mm512_srai_epi16::<8>(x));
        _mm512_add_epi32(acc, _mm512_add_epi32(even, odd))
    },
    offset offset_512
}

block! {
    /// The dot products in 256-bit registers.
    quad_avx_vnni, "avx2,avxvnni", Quad, __m256i, 4 rows of 2 vectors of 8,
    zero _mm256_setzero_si256, load _mm256_loadu_si256, load part load_256, store part store_256,
    broadcast |term: *const Quad| _mm256_set1_epi32(*term.cast()),
    step |acc, s, x| _mm256_dpbusd_avx_epi32(acc, s, x),
    offset offset_256
}

block! {
    /// The multiplications of 16 bits in 256-bit registers.
    quad_avx2, "avx2", Quad, __m256i, 4 rows of 2 vectors of 8,
    zero _mm256_setzero_si256, load _mm256_loadu_si256, load part load_256, store part store_256,
    broadcast |term: *const Quad| _mm256_set1_epi32(*term.cast()),
    step |acc, s, x| {
        let even = _mm256_madd_epi16(
            _mm256_and_si256(s, _mm256_set1_epi16(0xff)),
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)),
        );
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(s), _mm256_srai_epi16::<8>(x));
        _mm256_add_epi32(acc, _mm256_add_epi32(even, odd))
    },
    offset offset_256
}

/// The first `n` of sixteen.
fn mask_512(n: usize) -> __mmask16 {
    if n >= 16 { !0 } else { (1 << n) - 1 }
}

/// Loads of `n` elements, 0 beyond them, and stores of the first `n`.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_512_ps(from: *const f32, n: usize) -> __m512 {
    // SAFETY: what the mask leaves out is not touched.
    unsafe { _mm512_maskz_loadu_ps(mask_512(n), from) }
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store_512_ps(to: *mut f32, n: usize, x: __m512) {
    // SAFETY: what the mask leaves out is not touched.
    unsafe { _mm512_mask_storeu_ps(to, mask_512(n), x) };
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_512(from: *const i32, n: usize) -> __m512i {
    // SAFETY: what the mask leaves out is not touched.
    unsafe { _mm512_maskz_loadu_epi32(mask_512(n), from) }
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store_512(to: *mut i32, n: usize, x: __m512i) {
    // SAFETY: what the mask leaves out is not touched.
    unsafe { _mm512_mask_storeu_epi32(to, mask_512(n), x) };
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn offset_512(acc: __m512i, row: i32, columns: *const i32) -> __m512i {
    // SAFETY: the caller has as many columns as the vector.
    let columns = unsafe { _mm512_loadu_si512(columns.cast()) };
    _mm512_add_epi32(_mm512_add_epi32(acc, columns), _mm512_set1_epi32(row))
}

/// The first `n` of eight.
#[target_feature(enable = "avx2")]
#[inline]
fn mask_256(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_256_ps(from: *const f32, n: usize) -> __m256 {
    // SAFETY: what the mask leaves out is not touched.
    unsafe { if n >= 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask_256(n)) } }
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store_256_ps(to: *mut f32, n: usize, x: __m256) {
    // SAFETY: what the mask leaves out is not touched.
    unsafe { if n >= 8 { _mm256_storeu_ps(to, x) } else { _mm256_maskstore_ps(to, mask_256(n), x) } }
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_256(from: *const i32, n: usize) -> __m256i {
    // SAFETY: what the mask leaves out is not touched.
    unsafe { if n >= 8 { _mm256_loadu_si256(from.cast()) } else { _mm256_maskload_epi32(from, mask_256(n)) } }
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store_256(to: *mut i32, n: usize, x: __m256i) {
    // SAFETY: what the mask leaves out is not touched.
    unsafe {
        if n >= 8 { _mm256_storeu_si256(to.cast(), x) } else { _mm256_maskstore_epi32(to, mask_256(n), x) }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn offset_256(acc: __m256i, row: i32, columns: *const i32) -> __m256i {
    // SAFETY: the caller has as many columns as the vector.
    let columns = unsafe { _mm256_loadu_si256(columns.cast()) };
    _mm256_add_epi32(_mm256_add_epi32(acc, columns), _mm256_set1_epi32(row))
}

/// Four rows of bytes, exclusive-or `flip`, as quads, as far as whole sixteens go: how many it are.
///
/// # Panics
/// If a row is shorter than `out`.
#[target_feature(enable = "avx2")]
pub(super) fn interleave(rows: [&[u8]; 4], flip: u8, out: &mut [Quad]) -> usize {
    let [a, b, c, d] = rows.map(|row| row[..out.len()].as_chunks::<32>());
    let (wide, rest) = out.as_chunks_mut::<32>();
    for ((((out, a), b), c), d) in wide.iter_mut().zip(a.0).zip(b.0).zip(c.0).zip(d.0) {
        interleave_32([a, b, c, d], flip, out);
    }
    let done = wide.len() * 32;
    let Some((out, _)) = rest.split_first_chunk_mut::<16>() else { return done };
    if let [Some(a), Some(b), Some(c), Some(d)] = [a.1, b.1, c.1, d.1].map(|row| row.first_chunk::<16>()) {
        interleave_16([a, b, c, d], flip, out);
    }
    done + 16
}

#[target_feature(enable = "avx2")]
#[inline]
fn interleave_32(rows: [&[u8; 32]; 4], flip: u8, out: &mut [Quad; 32]) {
    let flip = _mm256_set1_epi8(flip as i8);
    // SAFETY: the rows have 32 bytes.
    let [a, b, c, d] =
        rows.map(|row| _mm256_xor_si256(unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }, flip));
    let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
    let (ab_high, cd_high) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
    // Columns 0 to 3 and 16 to 19 of each half of a register, and so on in fours.
    let [q0, q1] = [_mm256_unpacklo_epi16(ab, cd), _mm256_unpackhi_epi16(ab, cd)];
    let [q2, q3] = [_mm256_unpacklo_epi16(ab_high, cd_high), _mm256_unpackhi_epi16(ab_high, cd_high)];
    let ordered = [
        _mm256_permute2x128_si256::<0x20>(q0, q1),
        _mm256_permute2x128_si256::<0x20>(q2, q3),
        _mm256_permute2x128_si256::<0x31>(q0, q1),
        _mm256_permute2x128_si256::<0x31>(q2, q3),
    ];
    for (out, quads) in out.as_chunks_mut::<8>().0.iter_mut().zip(ordered) {
        // SAFETY: eight quads are 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), quads) };
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn interleave_16(rows: [&[u8; 16]; 4], flip: u8, out: &mut [Quad; 16]) {
    let flip = _mm_set1_epi8(flip as i8);
    // SAFETY: the rows have 16 bytes.
    let [a, b, c, d] = rows.map(|row| _mm_xor_si128(unsafe { _mm_loadu_si128(row.as_ptr().cast()) }, flip));
    let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
    let (ab_high, cd_high) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
    let ordered = [
        _mm_unpacklo_epi16(ab, cd),
        _mm_unpackhi_epi16(ab, cd),
        _mm_unpacklo_epi16(ab_high, cd_high),
        _mm_unpackhi_epi16(ab_high, cd_high),
    ];
    for (out, quads) in out.as_chunks_mut::<4>().0.iter_mut().zip(ordered) {
        // SAFETY: four quads are 16 bytes.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), quads) };
    }
}
