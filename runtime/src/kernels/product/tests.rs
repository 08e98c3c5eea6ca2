//! Products against chains of one element at a time.

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

/// Reproducible bytes, those at the ends of their ranges often.
fn bytes(len: usize, seed: u64) -> Vec<Quad> {
    const ENDS: [u8; 4] = [0, 127, 128, 255];
    let byte = |x: f32| match (x.to_bits() >> 3) as usize {
        bits if bits.is_multiple_of(3) => ENDS[bits / 3 % 4],
        bits => (bits / 3) as u8,
    };
    noise(len * 4, seed).as_chunks::<4>().0.iter().map(|quad| Quad(quad.map(byte))).collect()
}

const SHAPES: [(usize, usize, usize, bool); 12] = [
    (8, 32, 5, false),
    (128, 512, 128, true),
    (128, 256, 128, false),
    (1, 1, 1, true),
    (13, 33, 7, true),
    (9, 70, 64, false),
    (128, 1, 128, true),
    (3, 32, 0, true),
    (5, 48, 9, true),
    (20, 60, 3, true),
    (128, 60, 64, true),
    (12, 77, 2, false),
];

/// A moving operand of rows of `cols` terms.
struct Plain<'a, T> {
    terms: &'a [T],
    cols: usize,
}

impl<T: Term> Moving<T> for Plain<'_, T> {
    fn pack(&self, first: usize, cols: usize, panel: &mut [T]) {
        for (k, row) in panel.chunks_mut(COLS).enumerate() {
            row[..cols].copy_from_slice(&self.terms[k * self.cols + first..][..cols]);
        }
    }

    fn rows(&self, _: Range<usize>, _: Range<usize>) -> (&[&[u8]], Range<usize>) {
        (&[], 0..0)
    }

    fn next(&self) -> Span {
        Span::NONE
    }
}

/// Every implementation on every shape, with the stationary operand in both orders, against chains.
fn check<T: Term>(
    noise: impl Fn(usize, u64) -> Vec<T>,
    start: impl Fn(usize) -> Vec<u32>,
    offsets: impl Fn(usize) -> (Vec<i32>, i32),
    sum: impl Fn(T) -> i32,
) {
    for (rows, cols, depth, accumulate) in SHAPES {
        let shape = Product { rows, cols, depth, accumulate };
        // s[m][k], and the same as [k][m] with a gap after each row.
        let (s, x) = (noise(depth * rows, 1), noise(depth * cols, 2));
        let pitch = rows + 3;
        let mut turned = vec![T::default(); pitch * depth];
        (0..rows * depth).for_each(|i| turned[i % depth * pitch + i / depth] = s[i]);
        let (start, (added, factor)) = (start(rows * cols), offsets(rows));
        let offsets = Offsets { rows: &added, factor };
        let moving = Plain { terms: &x, cols };
        for isa in Isa::available() {
            for stationary in [
                Stationary::new(&s, (depth, 1), (rows, depth)).with_offsets(offsets),
                Stationary::new(&turned, (1, pitch), (rows, depth)).with_offsets(offsets),
            ] {
                let pitch = cols * 4 + 24;
                let mut out = vec![0xAAu8; rows * pitch];
                for (i, value) in start.iter().enumerate() {
                    out[i / cols * pitch + i % cols * 4..][..4].copy_from_slice(&value.to_le_bytes());
                }
                let mut lines = Lines::of(&mut out, pitch, rows, cols * 4);
                product(isa, shape, stationary, &moving, &mut lines);
                for (m, line) in out.chunks(pitch).enumerate() {
                    for n in 0..cols {
                        let mut want = if accumulate { start[m * cols + n] } else { 0 };
                        let mut column = 0i32;
                        for k in 0..depth {
                            want = T::chain(want, s[m * depth + k], x[k * cols + n]);
                            column += sum(x[k * cols + n]);
                        }
                        let added = added.get(m).copied().unwrap_or(0);
                        want = T::offset(want, added.wrapping_sub(factor.wrapping_mul(column)));
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
    let start = |len| noise(len, 3).into_iter().map(f32::to_bits).collect();
    check(noise, start, |_| (Vec::new(), 0), |_| 0);
}

#[test]
fn integers_are_exact_and_wrap() {
    let start = |len| (0..len as u32).map(|i| if i % 2 == 0 { i32::MAX as u32 - i } else { i }).collect();
    let sum = |x: Quad| x.0.iter().map(|x| i32::from(*x as i8)).sum();
    check(bytes, start, |_| (Vec::new(), 0), sum);
    check(bytes, start, |rows| ((0..rows as i32).map(|m| i32::MAX - m * 7).collect(), 383), sum);
}

/// Zero points and signs as the manual has them, from one byte at a time.
#[test]
fn a_step_multiplies_unsigned_with_signed_bytes() {
    for s in 0..=255u8 {
        for x in 0..=255u8 {
            let want = i32::from(s) * i32::from(x as i8);
            assert_eq!(Quad::chain(7, Quad([0, s, 0, 0]), Quad([9, x, 8, 7])), (7 + want) as u32);
        }
    }
    let (s, x) = (Quad([255; 4]), Quad([128; 4]));
    assert_eq!(Quad::chain(0, s, x) as i32, -4 * 255 * 128);
}
