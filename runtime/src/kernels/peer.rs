//! What the simulator's products are measured against: other implementations of a matrix product on this host.

use gemm_common::Parallelism;
use matrixmultiply::sgemm;

use super::Isa;
use super::team::Team;

/// `c = a · b` for square matrices of `side`, row-major, by crate `matrixmultiply`.
///
/// Its threads are `MATMUL_NUM_THREADS` of the environment, else one for each core of the host, at most 4.
///
/// # Panics
/// If a slice is not of `side · side` elements.
pub fn matrixmultiply_f32(side: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!([a.len(), b.len(), c.len()].iter().all(|len| *len == side * side));
    let pitch = side as isize;
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    // SAFETY: all three hold `side` rows of `side` elements, `pitch` apart.
    unsafe { sgemm(side, side, side, 1.0, a, pitch, 1, b, pitch, 1, 0.0, c, pitch, 1) };
}

/// The same by crate `gemm`, with so many threads.
///
/// # Panics
/// If a slice is not of `side · side` elements.
pub fn gemm_f32(threads: usize, side: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!([a.len(), b.len(), c.len()].iter().all(|len| *len == side * side));
    let pitch = side as isize;
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    let multiply = gemm_f32::gemm::f32::get_gemm_fn();
    // SAFETY: all three hold `side` rows of `side` elements, `pitch` apart.
    unsafe {
        multiply(
            side,
            side,
            side,
            c,
            1,
            pitch,
            false,
            a,
            1,
            pitch,
            b,
            1,
            pitch,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Rows of the result that one item computes.
const ROWS: usize = 16;

/// Products of 8-bit integers by a team of threads.
pub struct Integers {
    team: Team,
}

impl Integers {
    /// A team of so many threads.
    pub fn new(threads: usize) -> Self {
        Self { team: Team::new(threads) }
    }

    /// `c = a · b` for square matrices of `side`, row-major: by an unrolled loop of 8-bit dot products where the host
    /// has them, else by a plain loop that is unrolled by four steps of k.
    ///
    /// # Panics
    /// If a slice is shorter than `side · side` elements.
    pub fn multiply(&self, side: usize, a: &[i8], b: &[i8], c: &mut [i32]) {
        assert!(a.len() >= side * side && b.len() >= side * side);
        let c = &mut c[..side * side];
        #[cfg(target_arch = "x86_64")]
        if Isa::detect() == Isa::Avx512Vnni {
            let quads = pack_quads(side, b);
            return self.team.each_chunk(c, ROWS * side, |first, rows| {
                for (m, rows) in rows.chunks_mut(dot::ROWS * side).enumerate() {
                    let a = &a[first + m * dot::ROWS * side..][..rows.len()];
                    // SAFETY: `Isa::detect` has seen the features on this host.
                    unsafe { dot::rows(side, a, &quads, rows) };
                }
            });
        }
        self.team.each_chunk(c, ROWS * side, |first, rows| {
            for (m, row) in rows.chunks_mut(side).enumerate() {
                row.fill(0);
                rows_i8(side, &a[first + m * side..][..side], b, row);
            }
        });
    }
}

/// Columns that one pass of the dot products computes.
const COLUMNS: usize = 32;

/// Four steps of k beside one another, column by column, steps beyond the last zero; and each column's sum.
struct Quads {
    quads: Vec<[i8; 4]>,
    sums: Vec<i32>,
}

fn pack_quads(side: usize, b: &[i8]) -> Quads {
    let pitch = side.next_multiple_of(COLUMNS);
    let mut quads = vec![[0; 4]; side.div_ceil(4) * pitch];
    let mut sums = vec![0; pitch];
    for k in 0..side {
        let row = &mut quads[k / 4 * pitch..][..pitch];
        for ((quad, sum), x) in row.iter_mut().zip(&mut sums).zip(&b[k * side..][..side]) {
            quad[k % 4] = *x;
            *sum += i32::from(*x);
        }
    }
    Quads { quads, sums }
}

#[cfg(target_arch = "x86_64")]
mod dot {
    use std::arch::x86_64::*;

    use super::{COLUMNS, Quads};

    /// Rows that share what is loaded of the other operand.
    pub(super) const ROWS: usize = 8;

    /// Up to [`ROWS`] rows of the result, 32 columns in two registers of each. The instruction multiplies unsigned
    /// bytes with signed ones: 128 is added to the first factor, and taken off again by the columns' sums.
    ///
    /// # Safety
    /// The host has the features.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn rows(side: usize, a: &[i8], b: &Quads, c: &mut [i32]) {
        let (pitch, rows) = (b.sums.len(), c.len() / side);
        let shifted = |row: usize, k: usize| -> i32 {
            let byte = |i: usize| match a.get(row * side + k + i) {
                Some(a) if k + i < side => (*a as u8) ^ 0x80,
                _ => 0x80,
            };
            i32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
        };
        let mut terms = vec![[0i32; ROWS]; side.div_ceil(4)];
        for (quad, terms) in terms.iter_mut().enumerate() {
            for (row, term) in terms.iter_mut().enumerate().take(rows) {
                *term = shifted(row, quad * 4);
            }
        }
        for column in (0..pitch).step_by(COLUMNS) {
            let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
            for (quad, terms) in terms.iter().enumerate() {
                let quads = &b.quads[quad * pitch + column..][..COLUMNS];
                // SAFETY: these are 32 quads, of four bytes each.
                let x = [0, 16].map(|at| unsafe { _mm512_loadu_si512(quads.as_ptr().add(at).cast()) });
                for (sums, term) in sums.iter_mut().zip(terms) {
                    let term = _mm512_set1_epi32(*term);
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = _mm512_dpbusd_epi32(*sum, term, x);
                    }
                }
            }
            let columns = COLUMNS.min(side - column.min(side));
            for (row, sums) in sums.iter().enumerate().take(rows) {
                let mut numbers = [0i32; COLUMNS];
                for (numbers, sum) in numbers.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                    // SAFETY: the array holds 16 numbers.
                    unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), *sum) };
                }
                let out = &mut c[row * side + column..][..columns];
                for ((out, number), sum) in out.iter_mut().zip(numbers).zip(&b.sums[column..]) {
                    *out = number - 128 * sum;
                }
            }
        }
    }
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
        let mut others = floats.clone();
        Integers::new(2).multiply(side, &a, &b, &mut integers);
        matrixmultiply_f32(side, &float(&a), &float(&b), &mut floats);
        gemm_f32(2, side, &float(&a), &float(&b), &mut others);
        for (i, ((integer, x), y)) in integers.iter().zip(floats).zip(others).enumerate() {
            let term = |k: usize| i32::from(a[i / side * side + k]) * i32::from(b[k * side + i % side]);
            assert_eq!((*integer, x, y), ((0..side).map(term).sum(), *integer as f32, *integer as f32));
        }
    }
}
