//! Comparing tensors as onnx_test_runner does: `|a − b| ≤ atol + rtol·|b|`, integers and bools exactly.

use half::{bf16, f16};
use kiln_machine::tensor::{DType, Tensor};

/// How far two floating-point tensors may lie apart.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub rtol: f64,
    pub atol: f64,
}

/// The worst error of a comparison; `at` is where it is, as a multi-index.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Worst {
    pub max_abs: f64,
    pub max_rel: f64,
    pub at: Vec<usize>,
    /// Elements outside the tolerance.
    pub outside: usize,
}

/// Compares `got` with the reference `want`.
///
/// # Errors
/// When dtype or shape differ, in words.
pub fn compare(got: &Tensor, want: &Tensor, tolerance: Tolerance) -> Result<Worst, String> {
    if got.dtype != want.dtype {
        return Err(format!("dtype {:?} where {:?} is expected", got.dtype, want.dtype));
    }
    if got.shape != want.shape {
        return Err(format!("shape {:?} where {:?} is expected", got.shape, want.shape));
    }
    let mut worst = Worst::default();
    let mut worst_at = None;
    // What decides "worst" is the excess over the tolerance, so that the place shown explains a failure.
    let mut worst_excess = f64::NEG_INFINITY;
    let exact = !is_float(want.dtype);
    let size = want.dtype.size_bytes();
    for (index, (a, b)) in values(got).zip(values(want)).enumerate() {
        let same = if exact {
            // By bytes: 64-bit integers do not fit in an f64.
            got.data[index * size..][..size] == want.data[index * size..][..size]
        } else {
            a == b || (a.is_nan() && b.is_nan())
        };
        let (abs, allowed) = match (same, exact) {
            (true, _) => (0.0, 0.0),
            (false, true) => ((a - b).abs().max(1.0), 0.0),
            (false, false) => ((a - b).abs(), tolerance.atol + tolerance.rtol * b.abs()),
        };
        // NaN against a number, or an infinity against anything else, is infinitely far.
        let abs = if abs.is_nan() { f64::INFINITY } else { abs };
        let allowed = if allowed.is_finite() { allowed } else { 0.0 };
        worst.outside += usize::from(abs > allowed);
        worst.max_abs = worst.max_abs.max(abs);
        if abs > 0.0 {
            worst.max_rel = worst.max_rel.max(abs / b.abs());
            if abs - allowed > worst_excess {
                worst_excess = abs - allowed;
                worst_at = Some(index);
            }
        }
    }
    if let Some(index) = worst_at {
        worst.at = multi_index(index, &want.shape);
    }
    Ok(worst)
}

/// Least, greatest, mean and the number of values that are not finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub not_finite: usize,
}

/// Statistics over the finite values; all zero for an empty tensor.
pub fn statistics(tensor: &Tensor) -> Statistics {
    let (mut min, mut max, mut sum, mut finite, mut not_finite) =
        (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0u64, 0);
    for value in values(tensor) {
        if value.is_finite() {
            min = min.min(value);
            max = max.max(value);
            sum += value;
            finite += 1;
        } else {
            not_finite += 1;
        }
    }
    if finite == 0 {
        return Statistics { min: 0.0, max: 0.0, mean: 0.0, not_finite };
    }
    Statistics { min, max, mean: sum / finite as f64, not_finite }
}

/// The values as f64; 64-bit integers beyond 2⁵³ are rounded.
pub fn values(tensor: &Tensor) -> Box<dyn Iterator<Item = f64> + '_> {
    fn each<'a, const N: usize>(
        tensor: &'a Tensor,
        read: impl Fn([u8; N]) -> f64 + 'a,
    ) -> Box<dyn Iterator<Item = f64> + 'a> {
        Box::new(tensor.data.as_chunks::<N>().0.iter().map(move |bytes| read(*bytes)))
    }
    match tensor.dtype {
        DType::F32 => each(tensor, |b| f32::from_le_bytes(b).into()),
        DType::F64 => each(tensor, f64::from_le_bytes),
        DType::F16 => each(tensor, |b| f16::from_le_bytes(b).into()),
        DType::BF16 => each(tensor, |b| bf16::from_le_bytes(b).into()),
        DType::I8 => each(tensor, |b| i8::from_le_bytes(b).into()),
        DType::I16 => each(tensor, |b| i16::from_le_bytes(b).into()),
        DType::U16 => each(tensor, |b| u16::from_le_bytes(b).into()),
        DType::I32 => each(tensor, |b| i32::from_le_bytes(b).into()),
        DType::U32 => each(tensor, |b| u32::from_le_bytes(b).into()),
        DType::I64 => each(tensor, |b| i64::from_le_bytes(b) as f64),
        DType::U64 => each(tensor, |b| u64::from_le_bytes(b) as f64),
        // Bytes as they stand: bool and u8 exactly, the 8-bit floats by their bits (compared for equality).
        _ => each(tensor, |[b]: [u8; 1]| b.into()),
    }
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}

fn multi_index(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (place, &extent) in at.iter_mut().zip(shape).rev() {
        *place = index % extent;
        index /= extent;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const TOLERANCE: Tolerance = Tolerance { rtol: 1e-3, atol: 1e-4 };

    fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { dtype: DType::F32, shape: shape.to_vec(), data: Bytes::from(data) }
    }

    #[test]
    fn the_worst_place_is_told() {
        let want = f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let got = f32s(&[2, 3], &[1., 2.0001, 3., 4., 5.5, 6.]);
        let worst = compare(&got, &want, TOLERANCE).expect("same dtype and shape");
        assert_eq!((worst.outside, worst.at.as_slice()), (1, &[1, 1][..]));
        assert_eq!(worst.max_abs, 0.5);
    }

    #[test]
    fn nan_matches_only_nan_and_infinity_only_itself() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let outside = |a, b| {
            compare(&f32s(&[1], &[a]), &f32s(&[1], &[b]), TOLERANCE).expect("same dtype and shape").outside
        };
        assert_eq!((outside(nan, nan), outside(inf, inf)), (0, 0));
        assert_eq!((outside(nan, 1.), outside(1., nan), outside(1., inf), outside(-inf, inf)), (1, 1, 1, 1));
    }

    #[test]
    fn integers_are_exact_whatever_the_tolerance() {
        let i32s = |v: i32| Tensor {
            dtype: DType::I32,
            shape: vec![1],
            data: Bytes::from(v.to_le_bytes().to_vec()),
        };
        let loose = Tolerance { rtol: 1.0, atol: 10.0 };
        assert_eq!(compare(&i32s(5), &i32s(6), loose).expect("same dtype and shape").outside, 1);
    }

    #[test]
    fn shapes_and_dtypes_must_agree() {
        assert!(compare(&f32s(&[2], &[1., 2.]), &f32s(&[1, 2], &[1., 2.]), TOLERANCE).is_err());
    }
}
