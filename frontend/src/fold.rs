//! Constant evaluation of `nn` ops on host tensors.
//!
//! Index arithmetic folds away here: what an exporter computes from `Shape` with int64 ops is known once the
//! dims are bound. Unlike on the device, int64 stays int64. Floats compute in f64 and round once per op, which
//! for `+ − × ÷ √` is the correctly rounded f32 (53 ≥ 2·24+2 bits); transcendental functions come from the
//! `libm` crate, so that a fold has the same bits on every host.

mod compute;
mod places;

use bytes::Bytes;
use half::{bf16, f16};
use kiln_ir::nn::{OpKind, ScatterReduction};
use kiln_machine::tensor::{DType, Tensor};

use compute::{map, reduce, scan};
use places::{concat, gather_elements, gather_nd, pad, scatter_elements, scatter_nd, strided};

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

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;
    use kiln_ir::nn::{MapKind, ScanKind};

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
