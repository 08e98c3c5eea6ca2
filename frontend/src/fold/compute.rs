//! Ops that compute: elementwise, reductions and scans, in i64 and f64.

use bytes::Bytes;
use kiln_ir::nn::{MapKind, ReduceKind, ScanKind};
use kiln_machine::tensor::{DType, Tensor};

use super::places::for_each_index;
use super::{Values, encode_floats, encode_ints, ints, row_major};

/// Rounds to the arithmetic's precision: what a chain in f32 keeps after each step.
fn round_step(value: f64, dtype: DType) -> f64 {
    if dtype == DType::F64 { value } else { value as f32 as f64 }
}

pub(super) fn reduce(kind: ReduceKind, tensor: &Tensor, axes: &[usize], dtype: DType) -> Option<Bytes> {
    let rank = tensor.shape.len();
    let kept: Vec<usize> = (0..rank).filter(|d| !axes.contains(d)).collect();
    let strides = row_major(&tensor.shape);
    let outer: Vec<usize> = kept.iter().map(|&d| tensor.shape[d]).collect();
    let inner: Vec<usize> = axes.iter().map(|&d| tensor.shape[d]).collect();
    let values = Values::of(tensor)?;
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for_each_index(&outer, |o| {
        let base: i64 = o.iter().zip(&kept).map(|(i, &d)| *i as i64 * strides[d]).sum();
        let mut chain = Vec::new();
        for_each_index(&inner, |i| {
            let at: i64 = i.iter().zip(axes).map(|(i, &d)| *i as i64 * strides[d]).sum();
            chain.push((base + at) as usize);
        });
        chains.push(chain);
    });
    Some(match values {
        Values::Int(v) => {
            let of = |chain: &Vec<usize>| {
                let items = chain.iter().map(|&i| v[i]);
                match kind {
                    ReduceKind::Sum => Some(items.fold(0i64, i64::wrapping_add)),
                    ReduceKind::Prod => Some(items.fold(1i64, i64::wrapping_mul)),
                    ReduceKind::Max => items.max().or(lowest(dtype)),
                    ReduceKind::Min => items.min().or(highest(dtype)),
                    ReduceKind::Argmax => first_best(items, |a, b| a > b),
                    ReduceKind::Argmin => first_best(items, |a, b| a < b),
                }
            };
            encode_ints(&chains.iter().map(of).collect::<Option<Vec<_>>>()?, dtype)
        }
        Values::Float(v) => {
            let step = |f: fn(f64, f64) -> f64| move |a: f64, b: f64| round_step(f(a, b), tensor.dtype);
            let of = |chain: &Vec<usize>| {
                let mut items = chain.iter().map(|&i| v[i]);
                match kind {
                    ReduceKind::Sum => Some(items.fold(0.0, step(|a, b| a + b))),
                    ReduceKind::Prod => Some(items.fold(1.0, step(|a, b| a * b))),
                    ReduceKind::Max => {
                        Some(items.next().map_or(f64::NEG_INFINITY, |x| items.fold(x, float_max)))
                    }
                    ReduceKind::Min => Some(items.next().map_or(f64::INFINITY, |x| items.fold(x, float_min))),
                    ReduceKind::Argmax => first_best(items, |a, b| a > b).map(|i| i as f64),
                    ReduceKind::Argmin => first_best(items, |a, b| a < b).map(|i| i as f64),
                }
            };
            encode_floats(&chains.iter().map(of).collect::<Option<Vec<_>>>()?, dtype)
        }
    })
}

/// The neutral element of an integer maximum.
fn lowest(dtype: DType) -> Option<i64> {
    Some(match dtype {
        DType::I8 => i8::MIN.into(),
        DType::I16 => i16::MIN.into(),
        DType::I32 => i32::MIN.into(),
        DType::I64 => i64::MIN,
        _ => 0,
    })
}

/// The neutral element of an integer minimum; none where no i64 holds it.
fn highest(dtype: DType) -> Option<i64> {
    Some(match dtype {
        DType::Bool => 1,
        DType::I8 => i8::MAX.into(),
        DType::U8 => u8::MAX.into(),
        DType::I16 => i16::MAX.into(),
        DType::U16 => u16::MAX.into(),
        DType::I32 => i32::MAX.into(),
        DType::U32 => u32::MAX.into(),
        DType::I64 => i64::MAX,
        _ => return None,
    })
}

fn first_best<T: Copy>(items: impl Iterator<Item = T>, better: fn(T, T) -> bool) -> Option<i64> {
    let mut best: Option<(i64, T)> = None;
    for (i, item) in items.enumerate() {
        if best.is_none_or(|(_, b)| better(item, b)) {
            best = Some((i as i64, item));
        }
    }
    best.map(|(i, _)| i)
}

pub(super) fn scan(
    kind: ScanKind,
    tensor: &Tensor,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Option<Bytes> {
    let mut values = Values::of(tensor)?;
    let extent = tensor.shape[axis];
    let inner: usize = tensor.shape[axis + 1..].iter().product();
    let outer: usize = tensor.shape[..axis].iter().product();
    for o in 0..outer {
        for i in 0..inner {
            let at = |k: usize| (o * extent + if reverse { extent - 1 - k } else { k }) * inner + i;
            match &mut values {
                Values::Int(v) => {
                    let mut acc: i64 = if kind == ScanKind::Prod { 1 } else { 0 };
                    for k in 0..extent {
                        let x = v[at(k)];
                        let next = match kind {
                            ScanKind::Sum => acc.wrapping_add(x),
                            ScanKind::Prod => acc.wrapping_mul(x),
                            ScanKind::Max if k == 0 => x,
                            ScanKind::Max => acc.max(x),
                        };
                        v[at(k)] = if exclusive { acc } else { next };
                        acc = next;
                    }
                }
                Values::Float(v) => {
                    let mut acc = if kind == ScanKind::Prod { 1.0 } else { 0.0 };
                    for k in 0..extent {
                        let x = v[at(k)];
                        let next = match kind {
                            ScanKind::Sum => round_step(acc + x, tensor.dtype),
                            ScanKind::Prod => round_step(acc * x, tensor.dtype),
                            ScanKind::Max if k == 0 => x,
                            ScanKind::Max => float_max(acc, x),
                        };
                        v[at(k)] = if exclusive { acc } else { next };
                        acc = next;
                    }
                }
            }
        }
    }
    Some(values.encode(tensor.dtype))
}

/// Maximum that propagates NaN.
fn float_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Minimum that propagates NaN.
fn float_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

pub(super) fn map(kind: MapKind, operands: &[&Tensor], dtype: DType) -> Option<Bytes> {
    if kind == MapKind::Select {
        let mask = ints(operands[0])?;
        let size = dtype.size_bytes();
        let mut out = Vec::with_capacity(mask.len() * size);
        for (i, &m) in mask.iter().enumerate() {
            let from = if m != 0 { operands[1] } else { operands[2] };
            out.extend_from_slice(&from.data[i * size..(i + 1) * size]);
        }
        return Some(out.into());
    }
    let first = Values::of(operands[0])?;
    let second = operands.get(1).map(|t| Values::of(t));
    Some(match (first, second) {
        (Values::Int(a), None) => {
            encode_ints(&a.into_iter().map(|a| int_unary(kind, a)).collect::<Option<Vec<_>>>()?, dtype)
        }
        (Values::Int(a), Some(Some(Values::Int(b)))) => {
            let pairs = a.into_iter().zip(b).map(|(a, b)| int_binary(kind, a, b));
            encode_ints(&pairs.collect::<Option<Vec<_>>>()?, dtype)
        }
        (Values::Float(a), None) => {
            encode_floats(&a.into_iter().map(|a| float_unary(kind, a)).collect::<Option<Vec<_>>>()?, dtype)
        }
        (Values::Float(a), Some(Some(Values::Float(b)))) => {
            let pairs = a.into_iter().zip(b).map(|(a, b)| float_binary(kind, a, b));
            encode_floats(&pairs.collect::<Option<Vec<_>>>()?, dtype)
        }
        _ => return None,
    })
}

fn int_unary(kind: MapKind, a: i64) -> Option<i64> {
    Some(match kind {
        MapKind::Neg => a.wrapping_neg(),
        MapKind::Abs => a.wrapping_abs(),
        MapKind::Sign => a.signum(),
        // Only ever of bools: integers keep their bits for the device.
        MapKind::Not if a == 0 || a == 1 => 1 - a,
        MapKind::Relu => a.max(0),
        MapKind::Square => a.wrapping_mul(a),
        MapKind::Identity => a,
        _ => return None,
    })
}

fn int_binary(kind: MapKind, a: i64, b: i64) -> Option<i64> {
    Some(match kind {
        MapKind::Add => a.wrapping_add(b),
        MapKind::Sub => a.wrapping_sub(b),
        MapKind::Mul => a.wrapping_mul(b),
        MapKind::Div if b != 0 => a.wrapping_div(b),
        MapKind::Mod if b != 0 => {
            let r = a.wrapping_rem(b);
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        MapKind::Fmod if b != 0 => a.wrapping_rem(b),
        MapKind::Max => a.max(b),
        MapKind::Min => a.min(b),
        MapKind::Pow => a.wrapping_pow(u32::try_from(b).ok()?),
        MapKind::And => a & b,
        MapKind::Or => a | b,
        MapKind::Xor => a ^ b,
        MapKind::Eq => i64::from(a == b),
        MapKind::Ne => i64::from(a != b),
        MapKind::Lt => i64::from(a < b),
        MapKind::Le => i64::from(a <= b),
        MapKind::Gt => i64::from(a > b),
        MapKind::Ge => i64::from(a >= b),
        _ => return None,
    })
}

fn float_unary(kind: MapKind, a: f64) -> Option<f64> {
    Some(match kind {
        MapKind::Neg => -a,
        MapKind::Abs => a.abs(),
        MapKind::Sign if a.is_nan() => a,
        MapKind::Sign => f64::from(u8::from(a > 0.0)) - f64::from(u8::from(a < 0.0)),
        MapKind::Exp => libm::exp(a),
        MapKind::Log => libm::log(a),
        MapKind::Sqrt => a.sqrt(),
        MapKind::Reciprocal => 1.0 / a,
        MapKind::Tanh => libm::tanh(a),
        MapKind::Erf => libm::erf(a),
        MapKind::Sigmoid => 1.0 / (1.0 + libm::exp(-a)),
        MapKind::Sin => libm::sin(a),
        MapKind::Cos => libm::cos(a),
        MapKind::Floor => a.floor(),
        MapKind::Ceil => a.ceil(),
        MapKind::Round => a.round_ties_even(),
        MapKind::Relu => float_max(a, 0.0),
        MapKind::Square => a * a,
        MapKind::IsNan => f64::from(u8::from(a.is_nan())),
        MapKind::IsInf => f64::from(u8::from(a.is_infinite())),
        MapKind::Identity => a,
        _ => return None,
    })
}

fn float_binary(kind: MapKind, a: f64, b: f64) -> Option<f64> {
    let truth = |t: bool| f64::from(u8::from(t));
    Some(match kind {
        MapKind::Add => a + b,
        MapKind::Sub => a - b,
        MapKind::Mul => a * b,
        MapKind::Div => a / b,
        MapKind::Fmod => a % b,
        MapKind::Mod => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        }
        MapKind::Max => float_max(a, b),
        MapKind::Min => float_min(a, b),
        MapKind::Pow => libm::pow(a, b),
        MapKind::Eq => truth(a == b),
        MapKind::Ne => truth(a != b),
        MapKind::Lt => truth(a < b),
        MapKind::Le => truth(a <= b),
        MapKind::Gt => truth(a > b),
        MapKind::Ge => truth(a >= b),
        _ => return None,
    })
}
