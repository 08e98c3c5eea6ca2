//! Reductions, cumulative ops and sorting: everything that runs along axes in ascending order.

use super::array::{Array, Data, cast, for_each_index, round_f32, strides, wrap_int};
use crate::nn::{ReduceKind, ScanKind};
use crate::types::{DType, TensorType};

/// The reduced axes last, in ascending order, as rows of `length` elements.
pub(super) fn rows(x: &Array, axes: &[usize]) -> (Array, usize) {
    let kept: Vec<usize> = (0..x.shape.len()).filter(|d| !axes.contains(d)).collect();
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    let order = [kept, sorted].concat();
    let from = strides(&x.shape);
    let shape: Vec<usize> = order.iter().map(|d| x.shape[*d]).collect();
    let to: Vec<isize> = order.iter().map(|d| from[*d]).collect();
    (x.strided(&shape, 0, &to), axes.iter().map(|d| x.shape[*d]).product())
}

pub(super) fn reduce(kind: ReduceKind, x: &Array, axes: &[usize], ty: &TensorType) -> Array {
    let (x, length) = rows(x, axes);
    let count = ty.elements();
    let row = |i: usize| i * length..(i + 1) * length;
    if matches!(kind, ReduceKind::Argmax | ReduceKind::Argmin) {
        fn first<T: PartialOrd + Copy>(row: &[T], greatest: bool) -> i64 {
            let mut best = 0;
            for (i, x) in row.iter().enumerate() {
                if (greatest && *x > row[best]) || (!greatest && *x < row[best]) {
                    best = i;
                }
            }
            best as i64
        }
        let greatest = kind == ReduceKind::Argmax;
        let at = (0..count).map(|i| match &x.data {
            Data::F32(v) => first(&v[row(i)], greatest),
            Data::F64(v) => first(&v[row(i)], greatest),
            Data::Int(v) => first(&v[row(i)], greatest),
        });
        return Array { dtype: ty.dtype, shape: ty.shape.clone(), data: Data::Int(at.collect()) };
    }
    if length == 1 {
        // A chain of one element is that element: 0 + −0 would be 0.
        return cast(&Array { shape: ty.shape.clone(), ..x }, ty.dtype);
    }
    let unsigned = x.dtype == DType::U64;
    let data = match &x.data {
        Data::F32(v) => {
            Data::F32((0..count).map(|i| round_f32(ty.dtype, fold_f32(kind, &v[row(i)]))).collect())
        }
        Data::F64(v) => Data::F64((0..count).map(|i| fold_f64(kind, &v[row(i)])).collect()),
        Data::Int(v) => {
            Data::Int((0..count).map(|i| wrap_int(ty.dtype, fold_int(kind, &v[row(i)], unsigned))).collect())
        }
    };
    Array { dtype: ty.dtype, shape: ty.shape.clone(), data }
}

macro_rules! fold_float {
    ($name:ident, $float:ty) => {
        pub(super) fn $name(kind: ReduceKind, row: &[$float]) -> $float {
            let start = match kind {
                ReduceKind::Sum => 0.0,
                ReduceKind::Prod => 1.0,
                ReduceKind::Max => <$float>::NEG_INFINITY,
                _ => <$float>::INFINITY,
            };
            row.iter().fold(start, |acc, x| match kind {
                ReduceKind::Sum => acc + x,
                ReduceKind::Prod => acc * x,
                _ if acc.is_nan() || x.is_nan() => <$float>::NAN,
                ReduceKind::Max => {
                    if *x > acc {
                        *x
                    } else {
                        acc
                    }
                }
                _ => {
                    if *x < acc {
                        *x
                    } else {
                        acc
                    }
                }
            })
        }
    };
}
fold_float!(fold_f32, f32);
fold_float!(fold_f64, f64);

pub(super) fn fold_int(kind: ReduceKind, row: &[i64], unsigned: bool) -> i64 {
    // Flipping the sign bit makes signed order out of unsigned order.
    let key = |x: i64| if unsigned { x ^ i64::MIN } else { x };
    match kind {
        ReduceKind::Sum => row.iter().fold(0, |acc: i64, x| acc.wrapping_add(*x)),
        ReduceKind::Prod => row.iter().fold(1, |acc: i64, x| acc.wrapping_mul(*x)),
        ReduceKind::Max => row.iter().copied().max_by_key(|x| key(*x)).unwrap_or(key(i64::MIN)),
        _ => row.iter().copied().min_by_key(|x| key(*x)).unwrap_or(key(i64::MAX)),
    }
}

/// Places along `axis`: for each line of the array, its elements' places in ascending order.
pub(super) fn lines(shape: &[usize], axis: usize) -> Vec<Vec<usize>> {
    let step = strides(shape);
    let mut others = shape.to_vec();
    others[axis] = 1;
    let mut lines = Vec::new();
    for_each_index(&others, |index| {
        let base: usize = index.iter().zip(&step).map(|(i, s)| i * *s as usize).sum();
        lines.push((0..shape[axis]).map(|i| base + i * step[axis] as usize).collect());
    });
    lines
}

/// Cumulative sum, maximum or product; the accumulator is f32 (f64, wrapping integer), each element rounded.
pub(super) fn scan(x: &Array, kind: ScanKind, axis: usize, exclusive: bool, reverse: bool) -> Array {
    fn run<T: Copy>(
        v: &[T],
        lines: &[Vec<usize>],
        (exclusive, reverse): (bool, bool),
        start: T,
        step: impl Fn(T, T) -> T,
        round: impl Fn(T) -> T,
    ) -> Vec<T> {
        let mut out = v.to_vec();
        for line in lines {
            let mut acc = start;
            for i in 0..line.len() {
                let at = if reverse { line[line.len() - 1 - i] } else { line[i] };
                if exclusive {
                    out[at] = round(acc);
                }
                acc = step(acc, v[at]);
                if !exclusive {
                    out[at] = round(acc);
                }
            }
        }
        out
    }
    let lines = lines(&x.shape, axis);
    let how = (exclusive, reverse);
    let reduce = match kind {
        ScanKind::Sum => ReduceKind::Sum,
        ScanKind::Max => ReduceKind::Max,
        ScanKind::Prod => ReduceKind::Prod,
    };
    let (dtype, unsigned) = (x.dtype, x.dtype == DType::U64);
    let data = match &x.data {
        Data::F32(v) => Data::F32(run(
            v,
            &lines,
            how,
            fold_f32(reduce, &[]),
            |a, b| fold_f32_step(reduce, a, b),
            |a| round_f32(dtype, a),
        )),
        Data::F64(v) => {
            Data::F64(run(v, &lines, how, fold_f64(reduce, &[]), |a, b| fold_f64_step(reduce, a, b), |a| a))
        }
        Data::Int(v) => {
            let start = wrap_int(dtype, fold_int(reduce, &[], unsigned));
            let start = if kind == ScanKind::Max { least_int(dtype) } else { start };
            Data::Int(run(
                v,
                &lines,
                how,
                start,
                |a, b| wrap_int(dtype, fold_int(reduce, &[a, b], unsigned)),
                |a| a,
            ))
        }
    };
    Array { dtype, shape: x.shape.clone(), data }
}

pub(super) fn fold_f32_step(kind: ReduceKind, acc: f32, x: f32) -> f32 {
    match kind {
        ReduceKind::Sum => acc + x,
        ReduceKind::Prod => acc * x,
        _ => fold_f32(kind, &[acc, x]),
    }
}

fn fold_f64_step(kind: ReduceKind, acc: f64, x: f64) -> f64 {
    match kind {
        ReduceKind::Sum => acc + x,
        ReduceKind::Prod => acc * x,
        _ => fold_f64(kind, &[acc, x]),
    }
}

pub(super) fn least_int(dtype: DType) -> i64 {
    match dtype {
        DType::I8 => i64::from(i8::MIN),
        DType::I16 => i64::from(i16::MIN),
        DType::I32 => i64::from(i32::MIN),
        DType::I64 => i64::MIN,
        _ => 0,
    }
}

/// The `k` greatest (least) along an axis in order, the lower index first among equals; NaN counts as greatest.
pub(super) fn topk(x: &Array, k: usize, axis: usize, largest: bool, types: &[&TensorType]) -> Vec<Array> {
    fn order<T: Copy>(
        v: &[T],
        line: &[usize],
        largest: bool,
        less: impl Fn(T, T) -> std::cmp::Ordering,
    ) -> Vec<usize> {
        let mut by: Vec<usize> = (0..line.len()).collect();
        // A stable sort keeps the lower index first.
        by.sort_by(|a, b| {
            let ordering = less(v[line[*a]], v[line[*b]]);
            if largest { ordering.reverse() } else { ordering }
        });
        by
    }
    let unsigned = x.dtype == DType::U64;
    let (mut from, mut indices) = (vec![0; types[0].elements()], vec![0i64; types[0].elements()]);
    for (line, to) in lines(&x.shape, axis).iter().zip(lines(&types[0].shape, axis)) {
        let by = match &x.data {
            Data::F32(v) => order(v, line, largest, |a, b| numeric(f64::from(a), f64::from(b))),
            Data::F64(v) => order(v, line, largest, numeric),
            Data::Int(v) if unsigned => order(v, line, largest, |a, b| (a as u64).cmp(&(b as u64))),
            Data::Int(v) => order(v, line, largest, |a, b| a.cmp(&b)),
        };
        for (place, i) in to.iter().zip(by).take(k) {
            from[*place] = line[i];
            indices[*place] = i as i64;
        }
    }
    let indices = Array { dtype: types[1].dtype, shape: types[1].shape.clone(), data: Data::Int(indices) };
    vec![x.picked(&types[0].shape, &from), indices]
}

/// Order of floats with both zeros equal and NaN greatest.
fn numeric(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
