//! What the simulator's products are measured against: other implementations of a matrix product on this host.

use matrixmultiply::sgemm;

use super::Isa;
use super::team::Team;

/// `c = a · b` for square matrices of `side`, row-major, by crate `matrixmultiply`.
///
/// Its threads are `MATMUL_NUM_THREADS` of the environment, else one for each core of the host, at most 4.
///
/// # Panics
/// If a slice is not of `side · side` elements.
pub fn gemm_f32(side: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!([a.len(), b.len(), c.len()].iter().all(|len| *len == side * side));
    let pitch = side as isize;
    // SAFETY: all three hold `side` rows of `side` elements, `pitch` apart.
    unsafe {
        sgemm(
            side,
            side,
            side,
            1.0,
            a.as_ptr(),
            pitch,
            1,
            b.as_ptr(),
            pitch,
            1,
            0.0,
            c.as_mut_ptr(),
            pitch,
            1,
        );
    }
}

/// Rows of the result that one item computes.
const ROWS: usize = 8;

/// `c = a · b` for square matrices of `side`, row-major, by a plain loop that is unrolled by four steps of k.
///
/// # Panics
/// If a slice is shorter than `side · side` elements.
pub fn gemm_i8(threads: usize, side: usize, a: &[i8], b: &[i8], c: &mut [i32]) {
    let team = Team::new(threads);
    team.each_chunk(&mut c[..side * side], ROWS * side, |first, rows| {
        for (m, row) in rows.chunks_mut(side).enumerate() {
            row.fill(0);
            rows_i8(side, &a[first + m * side..][..side], b, row);
        }
    });
}

for_widest! {
    /// One row of the result.
    rows_i8 / rows_i8_avx2 / rows_i8_avx512 = rows_i8_body(side: usize, a: &[i8], b: &[i8], c: &mut [i32])
}

#[inline(always)]
fn rows_i8_body(side: usize, a: &[i8], b: &[i8], c: &mut [i32]) {
    let row = |k: usize| &b[k * side..][..side];
    let (quads, rest) = a.as_chunks::<4>();
    for (quad, s) in quads.iter().enumerate() {
        let [s0, s1, s2, s3] = s.map(i32::from);
        let k = quad * 4;
        let terms = c.iter_mut().zip(row(k)).zip(row(k + 1)).zip(row(k + 2)).zip(row(k + 3));
        for ((((c, x0), x1), x2), x3) in terms {
            *c += s0 * i32::from(*x0) + s1 * i32::from(*x1) + s2 * i32::from(*x2) + s3 * i32::from(*x3);
        }
    }
    for (i, s) in rest.iter().enumerate() {
        let terms = c.iter_mut().zip(row(quads.len() * 4 + i));
        terms.for_each(|(c, x)| *c += i32::from(*s) * i32::from(*x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_multiply() {
        let side = 37;
        let numbers = |seed: usize| (0..side * side).map(move |i| ((i * seed) % 255) as i8);
        let (a, b): (Vec<i8>, Vec<i8>) = (numbers(7).collect(), numbers(11).collect());
        let float = |x: &[i8]| x.iter().map(|x| f32::from(*x)).collect::<Vec<_>>();
        let (mut integers, mut floats) = (vec![0; side * side], vec![0.0; side * side]);
        gemm_i8(2, side, &a, &b, &mut integers);
        gemm_f32(side, &float(&a), &float(&b), &mut floats);
        for (i, (integer, x)) in integers.iter().zip(floats).enumerate() {
            let term = |k: usize| i32::from(a[i / side * side + k]) * i32::from(b[k * side + i % side]);
            assert_eq!((*integer, x), ((0..side).map(term).sum(), *integer as f32));
        }
    }
}
