//! Constant evaluation of `nn` ops on host tensors.
//!
//! Index arithmetic folds away here: what an exporter computes from `Shape` with int64 ops is known once the
//! dims are bound. Unlike on the device, int64 stays int64. Floats compute in f64 and round once per op, which
//! for `+ − × ÷ √` is the correctly rounded f32 (53 ≥ 2·24+2 bits); transcendental functions come from the
//! `libm` crate, so that a fold has the same bits on every host.

use bytes::Bytes;
use half::{bf16, f16};
use kiln_ir::nn::{MapKind, OpKind, ReduceKind, ScanKind, ScatterReduction};
use kiln_machine::tensor::{DType, Tensor};

/// The elements of a tensor in one of two arithmetics; bools are 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Integers and bools.
    Int(Vec<i64>),
    /// Floats; each is representable in the tensor's dtype.
    Float(Vec<f64>),
}

/// True for the floating-point dtypes.
pub fn is_float(dtype: DType) -> bool {
    kiln_ir::types::is_float(dtype)
}

impl Values {
    /// The elements of `tensor`; `None` for dtypes that never take part in folding.
    pub fn of(tensor: &Tensor) -> Option<Values> {
        fn each<const N: usize, T>(data: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
            data.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
        }
        let d = &tensor.data[..];
        Some(match tensor.dtype {
            DType::F32 => Values::Float(each(d, |b| f32::from_le_bytes(b) as f64)),
            DType::F64 => Values::Float(each(d, f64::from_le_bytes)),
            DType::F16 => Values::Float(each(d, |b| f16::from_le_bytes(b).to_f64())),
            DType::BF16 => Values::Float(each(d, |b| bf16::from_le_bytes(b).to_f64())),
            DType::Bool => Values::Int(each(d, |b: [u8; 1]| i64::from(b[0] != 0))),
            DType::I8 => Values::Int(each(d, |b| i8::from_le_bytes(b) as i64)),
            DType::U8 => Values::Int(each(d, |b| u8::from_le_bytes(b) as i64)),
            DType::I16 => Values::Int(each(d, |b| i16::from_le_bytes(b) as i64)),
            DType::U16 => Values::Int(each(d, |b| u16::from_le_bytes(b) as i64)),
            DType::I32 => Values::Int(each(d, |b| i32::from_le_bytes(b) as i64)),
            DType::U32 => Values::Int(each(d, |b| u32::from_le_bytes(b) as i64)),
            DType::I64 => Values::Int(each(d, i64::from_le_bytes)),
            DType::U64 => {
                let values = each(d, u64::from_le_bytes);
                Values::Int(values.into_iter().map(|v| i64::try_from(v).ok()).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// Elements of `dtype` as little-endian bytes: integers wrap, floats round to nearest even.
    pub fn encode(&self, dtype: DType) -> Bytes {
        match self {
            Values::Int(v) => encode_ints(v, dtype),
            Values::Float(v) => encode_floats(v, dtype),
        }
    }
}

fn encode_ints(values: &[i64], dtype: DType) -> Bytes {
    let mut out = Vec::with_capacity(values.len() * dtype.size_bytes());
    for &v in values {
        match dtype {
            DType::Bool => out.push(u8::from(v != 0)),
            DType::I8 | DType::U8 => out.push(v as u8),
            DType::I16 | DType::U16 => out.extend((v as u16).to_le_bytes()),
            DType::I32 | DType::U32 => out.extend((v as u32).to_le_bytes()),
            DType::I64 | DType::U64 => out.extend(v.to_le_bytes()),
            DType::F64 => out.extend((v as f64).to_le_bytes()),
            // One rounding, straight from the integer.
            DType::F32 => out.extend((v as f32).to_le_bytes()),
            DType::F16 => out.extend(f16::from_f32(v as f32).to_le_bytes()),
            DType::BF16 => out.extend(bf16::from_f32(v as f32).to_le_bytes()),
            _ => unreachable!("fold results have an arithmetic dtype"),
        }
    }
    out.into()
}

fn encode_floats(values: &[f64], dtype: DType) -> Bytes {
    let mut out = Vec::with_capacity(values.len() * dtype.size_bytes());
    for &v in values {
        match dtype {
            DType::F64 => out.extend(v.to_le_bytes()),
            DType::F32 => out.extend((v as f32).to_le_bytes()),
            DType::F16 => out.extend(f16::from_f32(v as f32).to_le_bytes()),
            DType::BF16 => out.extend(bf16::from_f32(v as f32).to_le_bytes()),
            DType::Bool => out.push(u8::from(v != 0.0)),
            // Toward zero, then as an integer of that width.
            _ => return encode_ints(&values.iter().map(|v| *v as i64).collect::<Vec<_>>(), dtype),
        }
    }
    out.into()
}

/// Evaluates `kind` on known operands; `None` when this evaluator does not do that op or dtype, or the op has
/// no value there (division by zero, index out of range).
///
/// `shape` and `dtype` are the result's; index operands keep their own integer dtype.
pub fn fold(kind: &OpKind, operands: &[&Tensor], dtype: DType, shape: &[usize]) -> Option<Tensor> {
    let made = |data: Bytes| Some(Tensor { dtype, shape: shape.to_vec(), data });
    match kind {
        OpKind::Map { kind } => made(map(*kind, operands, dtype)?),
        OpKind::Cast { .. } => made(Values::of(operands[0])?.encode(dtype)),
        OpKind::Reshape { .. } => made(operands[0].data.clone()),
        OpKind::Transpose { perm } => {
            let strides = row_major(&operands[0].shape);
            made(strided(operands[0], 0, &perm.iter().map(|&p| strides[p]).collect::<Vec<_>>(), shape))
        }
        OpKind::Broadcast { dims, .. } => {
            let from = row_major(&operands[0].shape);
            let mut strides = vec![0; shape.len()];
            for (i, &d) in dims.iter().enumerate() {
                strides[d] = if operands[0].shape[i] == 1 { 0 } else { from[i] };
            }
            made(strided(operands[0], 0, &strides, shape))
        }
        OpKind::Slice { offsets, strides: steps, .. } => {
            let strides = row_major(&operands[0].shape);
            let start = offsets.iter().zip(&strides).map(|(o, s)| *o as i64 * s).sum();
            let stepped: Vec<i64> = strides.iter().zip(steps).map(|(s, t)| s * *t as i64).collect();
            made(strided(operands[0], start, &stepped, shape))
        }
        OpKind::Reverse { axes } => {
            let mut strides = row_major(&operands[0].shape);
            let mut start = 0;
            for &a in axes {
                start += strides[a] * (shape[a] as i64 - 1);
                strides[a] = -strides[a];
            }
            made(strided(operands[0], start, &strides, shape))
        }
        OpKind::Concat { axis } => made(concat(operands, *axis)),
        OpKind::Pad { low, value, .. } => {
            let fill = Values::Float(vec![value.as_f64()]).encode(dtype);
            made(pad(operands[0], low, &fill, shape))
        }
        OpKind::Reduce { kind, axes } => made(reduce(*kind, operands[0], axes, dtype)?),
        OpKind::Scan { kind, axis, exclusive, reverse } => {
            made(scan(*kind, operands[0], *axis, *exclusive, *reverse)?)
        }
        OpKind::Gather { axis } => {
            let indices = ints(operands[1])?;
            let data = operands[0];
            let outer: usize = data.shape[..*axis].iter().product();
            let inner: usize = data.shape[*axis + 1..].iter().product::<usize>() * data.dtype.size_bytes();
            let extent = data.shape[*axis];
            let mut out = Vec::with_capacity(outer * indices.len() * inner);
            for o in 0..outer {
                for &i in &indices {
                    let i = usize::try_from(i).ok().filter(|&i| i < extent)?;
                    let at = (o * extent + i) * inner;
                    out.extend_from_slice(&data.data[at..at + inner]);
                }
            }
            made(out.into())
        }
        OpKind::GatherNd { batch_dims } => made(gather_nd(operands[0], operands[1], *batch_dims)?),
        OpKind::GatherElements { axis } => {
            let indices = ints(operands[1])?;
            made(gather_elements(operands[0], &indices, *axis, shape)?)
        }
        OpKind::ScatterElements { axis, reduction: ScatterReduction::None } => {
            made(scatter_elements(operands[0], &ints(operands[1])?, operands[2], *axis)?)
        }
        OpKind::ScatterNd { reduction: ScatterReduction::None } => {
            made(scatter_nd(operands[0], operands[1], operands[2])?)
        }
        OpKind::Iota { axis, .. } => {
            let inner: usize = shape[axis + 1..].iter().product();
            let count: usize = shape.iter().product();
            made(encode_ints(
                &(0..count).map(|i| (i / inner % shape[*axis]) as i64).collect::<Vec<_>>(),
                dtype,
            ))
        }
        _ => None,
    }
}

/// The integers of a tensor of an integer or bool dtype.
pub fn ints(tensor: &Tensor) -> Option<Vec<i64>> {
    // Weights are large, and none of them is ever an index.
    if is_float(tensor.dtype) {
        return None;
    }
    match Values::of(tensor)? {
        Values::Int(v) => Some(v),
        Values::Float(_) => None,
    }
}

fn row_major(shape: &[usize]) -> Vec<i64> {
    kiln_ir::types::row_major_strides(shape).into_iter().map(|s| s as i64).collect()
}

/// Row-major copy of a strided view; strides and start in elements.
fn strided(tensor: &Tensor, start: i64, strides: &[i64], shape: &[usize]) -> Bytes {
    let size = tensor.dtype.size_bytes();
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * size);
    for_each_index(shape, |index| {
        let at = start + index.iter().zip(strides).map(|(i, s)| *i as i64 * s).sum::<i64>();
        let at = at as usize * size;
        out.extend_from_slice(&tensor.data[at..at + size]);
    });
    out.into()
}

/// Calls `f` with each index of `shape`, row-major.
fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let Some(d) = (0..shape.len()).rev().find(|&d| index[d] + 1 < shape[d]) else { return };
        index[d] += 1;
        index[d + 1..].fill(0);
    }
}

fn concat(operands: &[&Tensor], axis: usize) -> Bytes {
    let outer: usize = operands[0].shape[..axis].iter().product();
    let mut out = Vec::new();
    for o in 0..outer {
        for t in operands {
            let row = t.shape[axis..].iter().product::<usize>() * t.dtype.size_bytes();
            out.extend_from_slice(&t.data[o * row..(o + 1) * row]);
        }
    }
    out.into()
}

fn pad(tensor: &Tensor, low: &[usize], fill: &[u8], shape: &[usize]) -> Bytes {
    let size = tensor.dtype.size_bytes();
    let strides = row_major(&tensor.shape);
    let mut out = Vec::new();
    for_each_index(shape, |index| {
        let inside = index.iter().zip(low).zip(&tensor.shape).all(|((i, l), n)| i >= l && i - l < *n);
        if inside {
            let at: i64 = index.iter().zip(low).zip(&strides).map(|((i, l), s)| (i - l) as i64 * s).sum();
            out.extend_from_slice(&tensor.data[at as usize * size..][..size]);
        } else {
            out.extend_from_slice(fill);
        }
    });
    out.into()
}

fn gather_nd(data: &Tensor, indices: &Tensor, batch: usize) -> Option<Bytes> {
    let depth = *indices.shape.last()?;
    let values = ints(indices)?;
    let slice = data.shape[batch + depth..].iter().product::<usize>() * data.dtype.size_bytes();
    let batches: usize = data.shape[..batch].iter().product();
    let block: usize = data.shape[batch..batch + depth].iter().product();
    let per_batch = indices.shape[batch..indices.shape.len() - 1].iter().product::<usize>();
    let mut out = Vec::new();
    for b in 0..batches {
        for t in 0..per_batch {
            let tuple = &values[(b * per_batch + t) * depth..][..depth];
            let mut at = 0;
            for (&i, &n) in tuple.iter().zip(&data.shape[batch..]) {
                at = at * n + usize::try_from(i).ok().filter(|&i| i < n)?;
            }
            out.extend_from_slice(&data.data[(b * block + at) * slice..][..slice]);
        }
    }
    Some(out.into())
}

fn gather_elements(data: &Tensor, indices: &[i64], axis: usize, shape: &[usize]) -> Option<Bytes> {
    let size = data.dtype.size_bytes();
    let strides = row_major(&data.shape);
    let mut out = Vec::with_capacity(indices.len() * size);
    let mut next = indices.iter();
    let mut legal = true;
    for_each_index(shape, |index| {
        let i = *next.next().unwrap_or(&-1);
        if i < 0 || i as usize >= data.shape[axis] {
            legal = false;
            return;
        }
        let at: i64 =
            (0..shape.len()).map(|d| strides[d] * if d == axis { i } else { index[d] as i64 }).sum();
        out.extend_from_slice(&data.data[at as usize * size..][..size]);
    });
    legal.then(|| out.into())
}

fn scatter_elements(data: &Tensor, indices: &[i64], updates: &Tensor, axis: usize) -> Option<Bytes> {
    let size = data.dtype.size_bytes();
    let strides = row_major(&data.shape);
    let mut out = data.data.to_vec();
    let mut at = 0;
    let mut legal = true;
    for_each_index(&updates.shape, |index| {
        let i = indices[at];
        match usize::try_from(i).ok().filter(|&i| i < data.shape[axis]) {
            Some(i) => {
                let to: i64 =
                    (0..index.len()).map(|d| strides[d] * if d == axis { i } else { index[d] } as i64).sum();
                out[to as usize * size..][..size].copy_from_slice(&updates.data[at * size..][..size]);
            }
            None => legal = false,
        }
        at += 1;
    });
    legal.then(|| out.into())
}

fn scatter_nd(data: &Tensor, indices: &Tensor, updates: &Tensor) -> Option<Bytes> {
    let depth = *indices.shape.last()?;
    let values = ints(indices)?;
    let slice = data.shape[depth..].iter().product::<usize>() * data.dtype.size_bytes();
    let mut out = data.data.to_vec();
    for (t, tuple) in values.chunks_exact(depth.max(1)).enumerate() {
        let mut at = 0;
        for (&i, &n) in tuple.iter().zip(&data.shape) {
            at = at * n + usize::try_from(i).ok().filter(|&i| i < n)?;
        }
        out[at * slice..][..slice].copy_from_slice(&updates.data[t * slice..][..slice]);
    }
    Some(out.into())
}

/// Rounds to the arithmetic's precision: what a chain in f32 keeps after each step.
fn round_step(value: f64, dtype: DType) -> f64 {
    if dtype == DType::F64 { value } else { value as f32 as f64 }
}

fn reduce(kind: ReduceKind, tensor: &Tensor, axes: &[usize], dtype: DType) -> Option<Bytes> {
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

fn scan(kind: ScanKind, tensor: &Tensor, axis: usize, exclusive: bool, reverse: bool) -> Option<Bytes> {
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

fn map(kind: MapKind, operands: &[&Tensor], dtype: DType) -> Option<Bytes> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn int64(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor { dtype: DType::I64, shape: shape.to_vec(), data: encode_ints(values, DType::I64) }
    }

    fn folded(kind: OpKind, operands: &[&Tensor], shape: &[usize]) -> Option<Vec<i64>> {
        ints(&fold(&kind, operands, DType::I64, shape)?)
    }

    #[test]
    fn views_copy_row_major() {
        let x = int64(&[2, 3], &[0, 1, 2, 3, 4, 5]);
        let perm = OpKind::Transpose { perm: vec![1, 0] };
        assert_eq!(folded(perm, &[&x], &[3, 2]), Some(vec![0, 3, 1, 4, 2, 5]));
        let slice = OpKind::Slice { offsets: vec![1, 0], sizes: vec![1, 2], strides: vec![1, 2] };
        assert_eq!(folded(slice, &[&x], &[1, 2]), Some(vec![3, 5]));
        let reverse = OpKind::Reverse { axes: vec![1] };
        assert_eq!(folded(reverse, &[&x], &[2, 3]), Some(vec![2, 1, 0, 5, 4, 3]));
        let row = int64(&[1, 2], &[7, 8]);
        let broadcast = OpKind::Broadcast { dims: vec![0, 2], shape: vec![2, 1, 2] };
        assert_eq!(folded(broadcast, &[&row], &[2, 1, 2]), Some(vec![7, 8, 7, 8]));
        assert_eq!(folded(OpKind::Concat { axis: 0 }, &[&x, &x], &[4, 3]).map(|v| v[6]), Some(0));
    }

    #[test]
    fn integer_division_and_modulo_are_onnx() {
        let a = int64(&[4], &[7, -7, 7, -7]);
        let b = int64(&[4], &[2, 2, -2, -2]);
        let of = |kind| folded(OpKind::Map { kind }, &[&a, &b], &[4]);
        assert_eq!(of(MapKind::Div), Some(vec![3, -3, -3, 3]));
        assert_eq!(of(MapKind::Mod), Some(vec![1, 1, -1, -1]));
        assert_eq!(of(MapKind::Fmod), Some(vec![1, -1, 1, -1]));
        let zero = int64(&[4], &[0; 4]);
        assert_eq!(folded(OpKind::Map { kind: MapKind::Div }, &[&a, &zero], &[4]), None);
    }

    #[test]
    fn gathers_refuse_what_is_out_of_range() {
        let x = int64(&[2, 2], &[1, 2, 3, 4]);
        let i = int64(&[2], &[1, 0]);
        assert_eq!(folded(OpKind::Gather { axis: 0 }, &[&x, &i], &[2, 2]), Some(vec![3, 4, 1, 2]));
        let outside = int64(&[1], &[2]);
        assert_eq!(folded(OpKind::Gather { axis: 0 }, &[&x, &outside], &[1, 2]), None);
        let tuple = int64(&[1, 2], &[1, 0]);
        assert_eq!(folded(OpKind::GatherNd { batch_dims: 0 }, &[&x, &tuple], &[1]), Some(vec![3]));
    }

    #[test]
    fn scatters_replace_elements() {
        let x = int64(&[2, 2], &[1, 2, 3, 4]);
        let (i, u) = (int64(&[1, 2], &[1, 0]), int64(&[1, 2], &[8, 9]));
        let elements = OpKind::ScatterElements { axis: 0, reduction: ScatterReduction::None };
        assert_eq!(folded(elements, &[&x, &i, &u], &[2, 2]), Some(vec![1, 9, 8, 4]));
        let (i, u) = (int64(&[1, 1], &[1]), int64(&[1, 2], &[8, 9]));
        let nd = OpKind::ScatterNd { reduction: ScatterReduction::None };
        assert_eq!(folded(nd, &[&x, &i, &u], &[2, 2]), Some(vec![1, 2, 8, 9]));
    }

    #[test]
    fn floats_round_once_to_their_dtype() {
        let third = |dtype| {
            let one = Tensor { dtype, shape: vec![], data: encode_floats(&[1.0], dtype) };
            let three = Tensor { dtype, shape: vec![], data: encode_floats(&[3.0], dtype) };
            Values::of(&fold(&OpKind::Map { kind: MapKind::Div }, &[&one, &three], dtype, &[])?)
        };
        assert_eq!(third(DType::F32), Some(Values::Float(vec![(1.0f32 / 3.0) as f64])));
        assert_eq!(third(DType::F16), Some(Values::Float(vec![f16::from_f32(1.0 / 3.0).to_f64()])));
    }

    #[test]
    fn scans_run_both_ways() {
        let x = int64(&[4], &[1, 2, 3, 4]);
        let of = |exclusive, reverse| {
            folded(OpKind::Scan { kind: ScanKind::Sum, axis: 0, exclusive, reverse }, &[&x], &[4])
        };
        assert_eq!(of(false, false), Some(vec![1, 3, 6, 10]));
        assert_eq!(of(true, true), Some(vec![9, 7, 4, 0]));
    }
}
