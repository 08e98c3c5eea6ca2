//! The evaluator's inner product, a blocked loop of its own: C[m, n] = one chain of fused multiply-adds in ascending
//! k, from 0 or from given sums.
//!
//! Without the host's FMA instruction each `mul_add` is a call into libm, a hundred times slower. Choosing at run time
//! needs the one unsafe call of this file; both ways compile from the same body and give the same bits.

#![allow(unsafe_code)]

/// Rows and columns of a block of results held in registers.
const ROWS: usize = 4;
const COLUMNS: usize = 16;

/// `a`: `[m, k]`, `b`: `[k, n]`, the result `[m, n]`, all row-major.
pub fn product(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    let mut c = vec![0.0; m * n];
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_fma(c: &mut [f32], a: &[f32], b: &[f32], m: usize, k: usize, n: usize) {
    body(c, a, b, m, k, n);
}

#[inline(always)]
fn body(c: &mut [f32], a: &[f32], b: &[f32], m: usize, k: usize, n: usize) {
    // A strip of COLUMNS columns of b, dense, zeros past its end: read m / ROWS times.
    let mut strip = vec![[0.0f32; COLUMNS]; k];
    for column in (0..n).step_by(COLUMNS) {
        let width = COLUMNS.min(n - column);
        for (row, packed) in strip.iter_mut().enumerate() {
            *packed = [0.0; COLUMNS];
            packed[..width].copy_from_slice(&b[row * n + column..][..width]);
        }
        for row in (0..m).step_by(ROWS) {
            let height = ROWS.min(m - row);
            // Rows past the end repeat the last one; their results are dropped.
            let rows: [&[f32]; ROWS] = std::array::from_fn(|i| &a[(row + i.min(height - 1)) * k..][..k]);
            let mut block = [[0.0f32; COLUMNS]; ROWS];
            for (i, sums) in block.iter_mut().enumerate().take(height) {
                sums[..width].copy_from_slice(&c[(row + i) * n + column..][..width]);
            }
            for (at, packed) in strip.iter().enumerate() {
                for (sums, a) in block.iter_mut().zip(rows) {
                    for (sum, b) in sums.iter_mut().zip(packed) {
                        *sum = a[at].mul_add(*b, *sum);
                    }
                }
            }
            for (i, sums) in block.iter().enumerate().take(height) {
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
