//! Register blocks of products in x86 vectors.
//!
//! One macro writes them all: a block keeps its results in registers, and each step of k broadcasts a term of every
//! row against the vectors of the moving operand's row. The last columns of a result take one vector where that is
//! enough, and are loaded and stored in part.

use std::arch::x86_64::*;

use super::product::{Block, COLS, Panel, Quad, ROWS, Tile};

macro_rules! block {
    (
        $(#[doc = $doc:literal])* $name:ident, $features:literal, $T:ty, $V:ident,
        $rows:literal rows of 2 vectors of $lanes:literal,
        zero $zero:ident, load $load:ident, load part $load_part:ident, store part $store_part:ident,
        broadcast $broadcast:expr, step $step:expr, offset $offset:expr
    ) => {
        pub(super) mod $name {
            use super::*;

            $(#[doc = $doc])*
            ///
            /// # Safety
            /// The host has the features; the tile is one; the panel holds whole steps of [`COLS`] terms, and the block
            /// [holds](Block::holds) as many.
            #[target_feature(enable = $features)]
            pub(crate) unsafe fn block(accumulate: bool, s: &Block<'_, $T>, moving: &Panel<'_, $T>, mut tile: Tile<'_>) {
                let cols = tile[0].len() / 4;
                debug_assert!((1..=COLS).contains(&cols) && s.holds(moving.terms.len() / COLS));
                debug_assert!(tile.iter().all(|row| row.is_empty() || row.len() == cols * 4));
                for first_row in (0..ROWS).step_by($rows) {
                    if tile[first_row].is_empty() {
                        break;
                    }
                    for first_col in (0..cols).step_by(2 * $lanes) {
                        // SAFETY: the caller vouches for the extents.
                        unsafe {
                            if cols - first_col > $lanes {
                                part::<2>(accumulate, s, moving, &mut tile, first_row, first_col);
                            } else {
                                part::<1>(accumulate, s, moving, &mut tile, first_row, first_col);
                            }
                        }
                    }
                }
            }

            /// As many rows as registers take, of so many vectors.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn part<const VECTORS: usize>(
                accumulate: bool,
                s: &Block<'_, $T>,
                moving: &Panel<'_, $T>,
                tile: &mut Tile<'_>,
                first_row: usize,
                first_col: usize,
            ) {
                let steps = moving.terms.len() / COLS;
                let cols = tile[first_row].len() / 4 - first_col;
                // Rows that are not there are those of the first, and never stored.
                let first = tile[first_row].as_mut_ptr();
                let rows: [*mut u8; $rows] = std::array::from_fn(|r| match &mut tile[first_row + r] {
                    row if row.is_empty() => first.wrapping_add(first_col * 4),
                    row => row.as_mut_ptr().wrapping_add(first_col * 4),
                });
                // SAFETY: the caller vouches for the extents: the rows and columns lie inside the tile, of vectors
                // only the part that does, and every step of every row inside the terms. All accesses are unaligned.
                unsafe {
                    let mut acc = [[$zero(); VECTORS]; $rows];
                    if accumulate {
                        for (acc, row) in acc.iter_mut().zip(rows) {
                            for (v, acc) in acc.iter_mut().enumerate() {
                                *acc = $load_part(row.add(v * $lanes * 4).cast(), cols - v * $lanes);
                            }
                        }
                    }
                    let mut at = 0;
                    let terms: [*const $T; $rows] =
                        std::array::from_fn(|r| s.terms.as_ptr().wrapping_add(s.firsts[first_row + r]));
                    let mut x = moving.terms.as_ptr().add(first_col);
                    for _ in 0..steps {
                        let vectors: [$V; VECTORS] = std::array::from_fn(|v| $load(x.add(v * $lanes).cast()));
                        for (acc, term) in acc.iter_mut().zip(terms) {
                            let s = $broadcast(term.wrapping_add(at));
                            for (acc, x) in acc.iter_mut().zip(vectors) {
                                *acc = $step(*acc, s, x);
                            }
                        }
                        at += s.step;
                        x = x.wrapping_add(COLS);
                    }
                    for (r, (acc, row)) in acc.into_iter().zip(rows).enumerate() {
                        if r == 0 || !tile[first_row + r].is_empty() {
                            for (v, acc) in acc.into_iter().enumerate() {
                                let columns: *const i32 = moving.offsets.as_ptr().add(first_col + v * $lanes);
                                let acc = $offset(acc, s.offsets[first_row + r], columns);
                                $store_part(row.add(v * $lanes * 4).cast(), cols - v * $lanes, acc);
                            }
                        }
                    }
                }
            }
        }
    };
}

block! {
    /// 8 × 32 results in sixteen 512-bit registers.
    f32_avx512, "avx512f", f32, __m512, 8 rows of 2 vectors of 16,
    zero _mm512_setzero_ps, load _mm512_loadu_ps, load part load_512_ps, store part store_512_ps,
    broadcast |term: *const f32| _mm512_set1_ps(*term), step |acc, s, x| _mm512_fmadd_ps(s, x, acc),
    offset |acc, _: i32, _: *const i32| acc
}

block! {
    /// 8 × 32 results as four passes of 4 × 16 in eight 256-bit registers.
    f32_avx2, "avx2,fma", f32, __m256, 4 rows of 2 vectors of 8,
    zero _mm256_setzero_ps, load _mm256_loadu_ps, load part load_256_ps, store part store_256_ps,
    broadcast |term: *const f32| _mm256_set1_ps(*term), step |acc, s, x| _mm256_fmadd_ps(s, x, acc),
    offset |acc, _: i32, _: *const i32| acc
}

block! {
    /// 8 × 32 results; a step is the dot product of four bytes.
    quad_avx512_vnni, "avx512f,avx512bw,avx512vnni", Quad, __m512i, 8 rows of 2 vectors of 16,
    zero _mm512_setzero_si512, load _mm512_loadu_si512, load part load_512, store part store_512,
    broadcast |term: *const Quad| _mm512_set1_epi32(*term.cast()), step |acc, s, x| _mm512_dpbusd_epi32(acc, s, x),
    offset offset_512
}

block! {
    /// The same with multiplications of 16 bits: those of bytes saturate.
    quad_avx512, "avx512f,avx512bw", Quad, __m512i, 8 rows of 2 vectors of 16,
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

/// Four rows of 32 bytes, exclusive-or `flip`, as 32 quads.
#[target_feature(enable = "avx2")]
pub(super) fn interleave(rows: [&[u8; 32]; 4], flip: u8, out: &mut [Quad; 32]) {
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
