//! The evaluator's inner product, a blocked loop of its own: C[m, n] = one chain of fused multiply-adds in ascending
//! k, from 0 or from given sums.
//!
//! Without the host's FMA instruction each `mul_add` is a call into libm, a hundred times slower. Choosing at run time
//! needs an unsafe call; both ways walk over the same blocks and give the same bits.

#![allow(unsafe_code)]

/// Rows and columns of a block of results held in registers.
const ROWS: usize = 4;
const COLUMNS: usize = 16;

/// `a`: `[m, k]`, `b`: `[k, n]`, the result `[m, n]`, all row-major. A chain of one product is that product: it starts
/// from −0, which changes nothing that is added to it.
pub fn product(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    let mut c = vec![if k == 1 { -0.0 } else { 0.0 }; m * n];
    accumulate(&mut c, a, b, k);
    c
}

/// Continues the chains in `c` (`[m, n]`, m·n elements) by `a` (`[m, k]`) and `b` (`[k, n]`).
pub fn accumulate(c: &mut [f32], a: &[f32], b: &[f32], k: usize) {
    if k == 0 || c.is_empty() {
        return;
    }
    let (m, n) = (a.len() / k, b.len() / k);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the two features that the function is compiled for have just been detected.
        unsafe { with_fma(c, a, b, m, k, n) };
        return;
    }
    body(c, a, b, m, k, n);
}

/// Sums of one block of results.
type Sums = [[f32; COLUMNS]; ROWS];

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_fma(c: &mut [f32], a: &[f32], b: &[f32], m: usize, k: usize, n: usize) {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps};
    blocked(c, (a, b), (m, k, n), |sums, a, b| {
        // SAFETY: each load and store is of 8 of the COLUMNS = 2 · 8 floats of an array.
        unsafe {
            let mut wide = [[_mm256_set1_ps(0.0); 2]; ROWS];
            for (wide, sums) in wide.iter_mut().zip(&*sums) {
                *wide = [_mm256_loadu_ps(sums.as_ptr()), _mm256_loadu_ps(sums[8..].as_ptr())];
            }
            for (a, b) in a.iter().zip(b) {
                let (low, high) = (_mm256_loadu_ps(b.as_ptr()), _mm256_loadu_ps(b[8..].as_ptr()));
                for (wide, a) in wide.iter_mut().zip(a) {
                    let a = _mm256_set1_ps(*a);
                    *wide = [_mm256_fmadd_ps(a, low, wide[0]), _mm256_fmadd_ps(a, high, wide[1])];
                }
            }
            for (wide, sums) in wide.iter().zip(sums) {
                _mm256_storeu_ps(sums.as_mut_ptr(), wide[0]);
                _mm256_storeu_ps(sums[8..].as_mut_ptr(), wide[1]);
            }
        }
    });
}

/// The same without the instruction.
fn body(c: &mut [f32], a: &[f32], b: &[f32], m: usize, k: usize, n: usize) {
    blocked(c, (a, b), (m, k, n), |sums, a, b| {
        for (a, b) in a.iter().zip(b) {
            for (sums, a) in sums.iter_mut().zip(a) {
                sums.iter_mut().zip(b).for_each(|(sum, b)| *sum = a.mul_add(*b, *sum));
            }
        }
    });
}

/// Walks over the blocks of results; `chains` continues the sums of one by k rows of both operands.
#[inline(always)]
fn blocked(
    c: &mut [f32],
    (a, b): (&[f32], &[f32]),
    (m, k, n): (usize, usize, usize),
    chains: impl Fn(&mut Sums, &[[f32; ROWS]], &[[f32; COLUMNS]]),
) {
    if k == 0 {
        return;
    }
    // Blocks of ROWS rows of a, k outermost; rows past the end are zeros and their results are dropped.
    let mut blocks = vec![[0.0f32; ROWS]; m.div_ceil(ROWS) * k];
    for (row, values) in a.chunks_exact(k).enumerate() {
        let block = &mut blocks[row / ROWS * k..][..k];
        block.iter_mut().zip(values).for_each(|(packed, x)| packed[row % ROWS] = *x);
    }
    // A strip of COLUMNS columns of b, dense, zeros past its end.
    let mut strip = vec![[0.0f32; COLUMNS]; k];
    for column in (0..n).step_by(COLUMNS) {
        let width = COLUMNS.min(n - column);
        for (row, packed) in strip.iter_mut().enumerate() {
            packed[..width].copy_from_slice(&b[row * n + column..][..width]);
        }
        for (row, block) in blocks.chunks_exact(k).enumerate().map(|(i, block)| (i * ROWS, block)) {
            let height = ROWS.min(m - row);
            let mut sums = [[0.0f32; COLUMNS]; ROWS];
            for (i, sums) in sums.iter_mut().enumerate().take(height) {
                sums[..width].copy_from_slice(&c[(row + i) * n + column..][..width]);
            }
            chains(&mut sums, block, &strip);
            for (i, sums) in sums.iter().enumerate().take(height) {
                c[(row + i) * n + column..][..width].copy_from_slice(&sums[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_remainders_are_one_chain_each() {
        let value = |i: usize| ((i * 7919 % 1013) as f32 - 500.0) / 300.0;
        for (m, k, n) in [(1, 1, 1), (4, 5, 16), (7, 33, 19), (3, 0, 2), (0, 4, 4)] {
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 31)).collect();
            let mut want = vec![0.0f32; m * n];
            for i in 0..m {
                for j in 0..n {
                    for l in 0..k {
                        want[i * n + j] = a[i * k + l].mul_add(b[l * n + j], want[i * n + j]);
                    }
                }
            }
            assert_eq!(product(&a, &b, m, k, n), want);
            let mut plain = vec![0.0; m * n];
            body(&mut plain, &a, &b, m, k, n);
            assert_eq!(plain, want);
            // Two halves of k, one after the other.
            let cut = k / 2;
            let half = |from: usize, to: usize| -> Vec<f32> {
                (0..m).flat_map(|i| a[i * k + from..i * k + to].to_vec()).collect()
            };
            let mut halves = vec![0.0; m * n];
            accumulate(&mut halves, &half(0, cut), &b[..cut * n], cut);
            accumulate(&mut halves, &half(cut, k), &b[cut * n..], k - cut);
            assert_eq!(halves, want);
        }
    }
}
