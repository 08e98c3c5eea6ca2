//! Register blocks of products in x86 vectors.
//!
//! One macro writes them all: a block keeps its results in registers, and each step of k broadcasts a term of every
//! row against the vectors of the moving operand's row.

use std::arch::x86_64::*;

use super::{Block, COLS, Pair, ROWS, Tile};

macro_rules! block {
    (
        $(#[doc = $doc:literal])* $name:ident, $features:literal, $T:ty, $V:ident,
        $rows:literal rows of $vectors:literal vectors of $lanes:literal,
        zero $zero:ident, load $load:ident, store $store:ident, broadcast $broadcast:expr, step $step:expr
    ) => {
        $(#[doc = $doc])*
        ///
        /// # Safety
        /// The host has the features; each row of the tile holds [`COLS`] elements; `moving` holds whole steps of
        /// [`COLS`] terms, and the block [holds](Block::holds) as many.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(accumulate: bool, s: Block<'_, $T>, moving: &[$T], tile: Tile<'_>) {
            debug_assert!(tile.iter().all(|row| row.len() == COLS * 4) && s.holds(moving.len() / COLS));
            let steps = moving.len() / COLS;
            let tile = tile.map(|row| row.as_mut_ptr());
            for first_row in (0..ROWS).step_by($rows) {
                for first_col in (0..COLS).step_by($vectors * $lanes) {
                    // SAFETY: the caller vouches for the extents: the rows and columns lie inside the block, and
                    // every step of every row inside the terms. Loads and stores are unaligned ones.
                    unsafe {
                        let rows: [*mut u8; $rows] = std::array::from_fn(|r| tile[first_row + r].add(first_col * 4));
                        let mut acc = [[$zero(); $vectors]; $rows];
                        if accumulate {
                            for (acc, row) in acc.iter_mut().zip(rows) {
                                for (v, acc) in acc.iter_mut().enumerate() {
                                    *acc = $load(row.add(v * $lanes * 4).cast());
                                }
                            }
                        }
                        let mut at = 0;
                        let terms: [*const $T; $rows] =
                            std::array::from_fn(|r| s.terms.as_ptr().wrapping_add(s.offsets[first_row + r]));
                        let mut x = moving.as_ptr().add(first_col);
                        for _ in 0..steps {
                            let vectors: [$V; $vectors] =
                                std::array::from_fn(|v| $load(x.add(v * $lanes).cast()));
                            for (acc, term) in acc.iter_mut().zip(terms) {
                                let s = $broadcast(term.wrapping_add(at));
                                for (acc, x) in acc.iter_mut().zip(vectors) {
                                    *acc = $step(*acc, s, x);
                                }
                            }
                            at += s.step;
                            x = x.wrapping_add(COLS);
                        }
                        for (acc, row) in acc.iter().zip(rows) {
                            for (v, acc) in acc.iter().enumerate() {
                                $store(row.add(v * $lanes * 4).cast(), *acc);
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
    zero _mm512_setzero_ps, load _mm512_loadu_ps, store _mm512_storeu_ps,
    broadcast |term: *const f32| _mm512_set1_ps(*term), step |acc, s, x| _mm512_fmadd_ps(s, x, acc)
}

block! {
    /// 8 × 32 results as four passes of 4 × 16 in eight 256-bit registers.
    f32_avx2, "avx2,fma", f32, __m256, 4 rows of 2 vectors of 8,
    zero _mm256_setzero_ps, load _mm256_loadu_ps, store _mm256_storeu_ps,
    broadcast |term: *const f32| _mm256_set1_ps(*term), step |acc, s, x| _mm256_fmadd_ps(s, x, acc)
}

block! {
    /// 8 × 32 results; a step multiplies pairs and adds both products.
    pair_vnni, "avx512f,avx512bw,avx512vnni", Pair, __m512i, 8 rows of 2 vectors of 16,
    zero _mm512_setzero_si512, load _mm512_loadu_si512, store _mm512_storeu_si512,
    broadcast |term: *const Pair| _mm512_set1_epi32(*term.cast()), step |acc, s, x| _mm512_dpwssd_epi32(acc, s, x)
}

block! {
    /// The same with a multiplication and an addition.
    pair_avx512, "avx512f,avx512bw", Pair, __m512i, 8 rows of 2 vectors of 16,
    zero _mm512_setzero_si512, load _mm512_loadu_si512, store _mm512_storeu_si512,
    broadcast |term: *const Pair| _mm512_set1_epi32(*term.cast()),
    step |acc, s, x| _mm512_add_epi32(acc, _mm512_madd_epi16(s, x))
}

block! {
    /// The same in 256-bit registers.
    pair_avx2, "avx2", Pair, __m256i, 4 rows of 2 vectors of 8,
    zero _mm256_setzero_si256, load _mm256_loadu_si256, store _mm256_storeu_si256,
    broadcast |term: *const Pair| _mm256_set1_epi32(*term.cast()),
    step |acc, s, x| _mm256_add_epi32(acc, _mm256_madd_epi16(s, x))
}
