//! The meaning of `nn`, op by op, as plainly as it can be written. It shares no code with the simulator.

use super::array::{Array, Data, cast, for_each_index, round_f32, strides, wrap_int};
use super::indexing::{gather, gather_elements, gather_nd, scatter_elements, scatter_nd};
use super::reduce::{reduce, scan, topk};
use super::{Files, fma, map};
use crate::error::{IrError, Result};
use crate::nn::{ContractDims, Func, Op, OpKind};
use crate::types::{DType, Scalar, Tensor, TensorType};
use bytes::Bytes;

/// Evaluates `func` on `inputs`, which must have its arguments' types, and gives its results in order.
///
/// # Errors
/// [`IrError::Eval`] when an input has another type, a weight cannot be read, or an index is out of range.
pub fn eval(func: &Func, inputs: &[Tensor], files: &Files) -> Result<Vec<Tensor>> {
    let mut values: Vec<Option<Array>> = vec![None; func.value_count()];
    if inputs.len() != func.args.len() {
        return Err(IrError::eval(
            &func.name,
            format!("takes {} inputs, not {}", func.args.len(), inputs.len()),
        ));
    }
    for ((value, port), tensor) in func.arg_values().zip(&func.args).zip(inputs) {
        let (want, got) = (func.ty(value), TensorType::new(tensor.dtype, tensor.shape.clone()));
        if *want != got {
            return Err(IrError::eval(
                &func.name,
                format!("the input {} is a {got}, not a {want}", port.name),
            ));
        }
        values[value.index()] = Some(Array::from_tensor(tensor));
    }
    // A value is dropped after its last use: a real model's intermediate tensors do not fit in memory together.
    let mut uses = vec![0usize; func.value_count()];
    for value in func.ops.iter().flat_map(|op| &op.operands).chain(func.results.iter().map(|(v, _)| v)) {
        uses[value.index()] += 1;
    }
    for op in &func.ops {
        let types: Vec<&TensorType> = op.results.iter().map(|r| func.ty(*r)).collect();
        let operands: Vec<&Array> = op.operands.iter().filter_map(|v| values[v.index()].as_ref()).collect();
        let results = eval_op(op, &operands, &types, files).map_err(|message| IrError::Eval {
            op: op.kind.name().into(),
            message,
            origin: op.origin.clone(),
        })?;
        for (result, array) in op.results.iter().zip(results) {
            if uses[result.index()] > 0 {
                values[result.index()] = Some(array);
            }
        }
        for operand in &op.operands {
            uses[operand.index()] -= 1;
            if uses[operand.index()] == 0 {
                values[operand.index()] = None;
            }
        }
    }
    Ok(func.results.iter().filter_map(|(v, _)| values[v.index()].as_ref()).map(Array::to_tensor).collect())
}

/// Evaluates one op; `types` are its results' types.
///
/// # Errors
/// In words.
pub fn eval_op(
    op: &Op,
    operands: &[&Array],
    types: &[&TensorType],
    files: &Files,
) -> std::result::Result<Vec<Array>, String> {
    let ty = types[0];
    let x = || operands[0];
    let one = match &op.kind {
        OpKind::Constant { ty, bytes } => read(ty, bytes.clone()),
        OpKind::Weight { ty, file, offset, length } => read(ty, weight(files, *file, *offset, *length)?),
        OpKind::Map { kind } => map::map(*kind, operands),
        OpKind::Cast { dtype } => cast(x(), *dtype),
        OpKind::Contract { dims, .. } => contract(operands[0], operands[1], dims, ty),
        OpKind::Reduce { kind, axes } => reduce(*kind, x(), axes, ty),
        OpKind::Reshape { shape } => x().clone().reshaped(shape),
        OpKind::Transpose { perm } => {
            let from = strides(&x().shape);
            x().strided(&ty.shape, 0, &perm.iter().map(|p| from[*p]).collect::<Vec<_>>())
        }
        OpKind::Broadcast { dims, shape } => {
            let from = strides(&x().shape);
            let mut to = vec![0; shape.len()];
            for (axis, dim) in dims.iter().enumerate() {
                to[*dim] = if x().shape[axis] == 1 { 0 } else { from[axis] };
            }
            x().strided(shape, 0, &to)
        }
        OpKind::Slice { offsets, strides: steps, .. } => {
            let from = strides(&x().shape);
            let base = offsets.iter().zip(&from).map(|(o, s)| *o as isize * s).sum();
            let to: Vec<isize> = from.iter().zip(steps).map(|(s, step)| s * *step as isize).collect();
            x().strided(&ty.shape, base, &to)
        }
        OpKind::Reverse { axes } => {
            let mut to = strides(&x().shape);
            let mut base = 0;
            for axis in axes {
                base += to[*axis] * (x().shape[*axis] as isize - 1);
                to[*axis] = -to[*axis];
            }
            x().strided(&ty.shape, base, &to)
        }
        OpKind::Pad { low, value, .. } => pad(x(), low, *value, ty),
        OpKind::Concat { axis } => concat(operands, *axis, ty),
        OpKind::Iota { axis, .. } => iota(*axis, ty),
        OpKind::Gather { axis } => gather(operands[0], operands[1], *axis, ty)?,
        OpKind::GatherElements { axis } => gather_elements(operands[0], operands[1], *axis, ty)?,
        OpKind::GatherNd { batch_dims } => gather_nd(operands[0], operands[1], *batch_dims, ty)?,
        OpKind::ScatterNd { reduction } => scatter_nd(operands, *reduction)?,
        OpKind::ScatterElements { axis, reduction } => scatter_elements(operands, *axis, *reduction)?,
        OpKind::Scan { kind, axis, exclusive, reverse } => scan(x(), *kind, *axis, *exclusive, *reverse),
        OpKind::TopK { k, axis, largest } => return Ok(topk(x(), *k, *axis, *largest, types)),
        OpKind::Conv { .. } => conv(operands[0], operands[1], &op.kind, ty),
    };
    debug_assert_eq!(one.ty(), *ty, "{}", op.kind.name());
    Ok(vec![one])
}

fn weight(files: &Files, file: u32, offset: u64, length: u64) -> std::result::Result<Bytes, String> {
    let missing = || format!("file {file} has no {length} bytes at {offset}");
    files.slice(file, offset, length).ok_or_else(missing)
}

fn read(ty: &TensorType, data: Bytes) -> Array {
    Array::from_tensor(&Tensor { dtype: ty.dtype, shape: ty.shape.clone(), data })
}

/// An array of `dtype` from f64 values that it holds exactly.
pub(super) fn filled(dtype: DType, shape: &[usize], value: Scalar) -> Array {
    let n = shape.iter().product();
    let data = match dtype {
        DType::F64 => Data::F64(vec![value.as_f64(); n]),
        DType::F32 | DType::F16 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2 => {
            Data::F32(vec![round_f32(dtype, value.as_f64() as f32); n])
        }
        _ => {
            let int = match value {
                Scalar::Int(i) => i,
                Scalar::Float(_) => value.as_f64() as i64,
            };
            Data::Int(vec![wrap_int(dtype, int); n])
        }
    };
    Array { dtype, shape: shape.to_vec(), data }
}

/// Writes `from`'s elements to the places `at` of `to`.
pub(super) fn put(to: &mut Data, at: impl Iterator<Item = usize>, from: &Data) {
    match (to, from) {
        (Data::F32(to), Data::F32(from)) => at.zip(from).for_each(|(i, x)| to[i] = *x),
        (Data::F64(to), Data::F64(from)) => at.zip(from).for_each(|(i, x)| to[i] = *x),
        (Data::Int(to), Data::Int(from)) => at.zip(from).for_each(|(i, x)| to[i] = *x),
        _ => {}
    }
}

/// The places in an array of `shape` of the box that begins at `low` and has the extents of `inner`.
fn places(shape: &[usize], low: &[usize], inner: &[usize]) -> Vec<usize> {
    let step = strides(shape);
    let mut at = Vec::with_capacity(inner.iter().product());
    for_each_index(inner, |index| {
        at.push(index.iter().zip(low).zip(&step).map(|((i, l), s)| (i + l) * *s as usize).sum());
    });
    at
}

fn pad(x: &Array, low: &[usize], value: Scalar, ty: &TensorType) -> Array {
    let mut result = filled(ty.dtype, &ty.shape, value);
    put(&mut result.data, places(&ty.shape, low, &x.shape).into_iter(), &x.data);
    result
}

fn concat(operands: &[&Array], axis: usize, ty: &TensorType) -> Array {
    let mut result = filled(ty.dtype, &ty.shape, Scalar::Int(0));
    let mut low = vec![0; ty.shape.len()];
    for operand in operands {
        put(&mut result.data, places(&ty.shape, &low, &operand.shape).into_iter(), &operand.data);
        low[axis] += operand.shape[axis];
    }
    result
}

fn iota(axis: usize, ty: &TensorType) -> Array {
    let mut index_along = Vec::with_capacity(ty.elements());
    for_each_index(&ty.shape, |index| index_along.push(index[axis] as i64));
    let ints = Array { dtype: DType::I64, shape: ty.shape.clone(), data: Data::Int(index_along) };
    cast(&ints, ty.dtype)
}

/// One ascending chain of `acc = fma(a, b, acc)` for each result element: f32 (wrapping i32 for integers, f64 for f64),
/// rounded to the result's type at the end. A chain of one product is that product, a zero's sign included.
fn contract(a: &Array, b: &Array, dims: &ContractDims, ty: &TensorType) -> Array {
    let extents = |array: &Array, axes: &[usize]| axes.iter().map(|d| array.shape[*d]).collect::<Vec<_>>();
    let ordered = |array: &Array, axes: &[&[usize]]| {
        let from = strides(&array.shape);
        let axes = axes.concat();
        let to: Vec<isize> = axes.iter().map(|d| from[*d]).collect();
        array.strided(&extents(array, &axes), 0, &to)
    };
    let (a_free, b_free) = (dims.lhs_free(a.shape.len()), dims.rhs_free(b.shape.len()));
    let count = |array: &Array, axes: &[usize]| extents(array, axes).iter().product::<usize>();
    let (m, n) = (count(a, &a_free), count(b, &b_free));
    let (batch, k) = (count(a, &dims.lhs_batch), count(a, &dims.lhs_contract));
    let a = ordered(a, &[&dims.lhs_batch, &a_free, &dims.lhs_contract]);
    let b = ordered(b, &[&dims.rhs_batch, &dims.rhs_contract, &b_free]);
    let batches = |i: usize| (i * m * k..(i + 1) * m * k, i * k * n..(i + 1) * k * n);
    let data = match (&a.data, &b.data) {
        (Data::F32(a), Data::F32(b)) => {
            let products = (0..batch).map(batches).flat_map(|(at, bt)| fma::product(&a[at], &b[bt], m, k, n));
            return cast(
                &Array { dtype: DType::F32, shape: ty.shape.clone(), data: Data::F32(products.collect()) },
                ty.dtype,
            );
        }
        (Data::F64(a), Data::F64(b)) => Data::F64(
            (0..batch)
                .map(batches)
                .flat_map(|(at, bt)| {
                    chain(&a[at], &b[bt], m, k, n, if k == 1 { -0.0 } else { 0.0 }, f64::mul_add)
                })
                .collect(),
        ),
        (Data::Int(a), Data::Int(b)) => {
            let step = |a: i64, b: i64, acc: i64| {
                i64::from((acc as i32).wrapping_add((a as i32).wrapping_mul(b as i32)))
            };
            Data::Int(
                (0..batch)
                    .map(batches)
                    .flat_map(|(at, bt)| chain(&a[at], &b[bt], m, k, n, 0, step))
                    .collect(),
            )
        }
        _ => Data::Int(Vec::new()),
    };
    let dtype = if matches!(data, Data::F64(_)) { DType::F64 } else { DType::I32 };
    cast(&Array { dtype, shape: ty.shape.clone(), data }, ty.dtype)
}

fn chain<T: Copy>(
    a: &[T],
    b: &[T],
    m: usize,
    k: usize,
    n: usize,
    zero: T,
    step: impl Fn(T, T, T) -> T,
) -> Vec<T> {
    let mut c = vec![zero; m * n];
    for i in 0..m {
        for l in 0..k {
            for j in 0..n {
                c[i * n + j] = step(a[i * k + l], b[l * n + j], c[i * n + j]);
            }
        }
    }
    c
}

/// Convolution as ONNX has it: one chain over (input channel, kernel…) for each result element, padding included as
/// zeros.
fn conv(x: &Array, w: &Array, kind: &OpKind, ty: &TensorType) -> Array {
    let OpKind::Conv { strides: steps, pads_low, dilations, groups, .. } = kind else {
        return x.clone();
    };
    let spatial = steps.len();
    let window = &w.shape[1..];
    let window_elements = window.iter().product::<usize>();
    let (x_step, w_step) = (strides(&x.shape), strides(&w.shape));
    let per_group = ty.shape[1] / groups;
    // Each result element's operands, as places in x (none in the padding) and in w.
    let mut sums32 = Vec::new();
    let mut sums64 = Vec::new();
    for_each_index(&ty.shape, |out| {
        let group = out[1] / per_group;
        let (mut acc32, mut acc64) = if window_elements == 1 { (-0.0f32, -0.0f64) } else { (0.0, 0.0) };
        for_each_index(window, |tap| {
            let channel = group * window[0] + tap[0];
            let mut at = out[0] as isize * x_step[0] + channel as isize * x_step[1];
            let mut inside = true;
            for d in 0..spatial {
                let place =
                    (out[d + 2] * steps[d] + tap[d + 1] * dilations[d]) as isize - pads_low[d] as isize;
                inside &= place >= 0 && place < x.shape[d + 2] as isize;
                at += place * x_step[d + 2];
            }
            let weight = out[1] as isize * w_step[0]
                + tap.iter().zip(&w_step[1..]).map(|(t, s)| *t as isize * s).sum::<isize>();
            match (&x.data, &w.data) {
                (Data::F32(x), Data::F32(w)) => {
                    let value = if inside { x[at as usize] } else { 0.0 };
                    acc32 = value.mul_add(w[weight as usize], acc32);
                }
                (Data::F64(x), Data::F64(w)) => {
                    let value = if inside { x[at as usize] } else { 0.0 };
                    acc64 = value.mul_add(w[weight as usize], acc64);
                }
                _ => {}
            }
        });
        sums32.push(acc32);
        sums64.push(acc64);
    });
    let (dtype, data) = match x.data {
        Data::F64(_) => (DType::F64, Data::F64(sums64)),
        _ => (DType::F32, Data::F32(sums32)),
    };
    cast(&Array { dtype, shape: ty.shape.clone(), data }, ty.dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{FuncBuilder, Port, ReduceKind, ScanKind, ScatterReduction, ValueId};
    use crate::{Context, Module};

    /// Evaluates what `build` makes of f32 arguments of these shapes and values.
    fn run(
        args: &[(&[usize], &[f32])],
        build: impl FnOnce(&mut FuncBuilder, &[ValueId]) -> Result<Vec<ValueId>>,
    ) -> Result<Vec<Array>> {
        let context = Context::new();
        let types: Vec<_> = args
            .iter()
            .map(|(shape, _)| (TensorType::new(DType::F32, shape.to_vec()), Port::named("x")))
            .collect();
        let mut module = Module::new(&context);
        let mut b = FuncBuilder::new(&context, "main", &types)?;
        let values: Vec<ValueId> = (0..args.len()).map(|i| b.arg(i)).collect();
        let results: Vec<_> = build(&mut b, &values)?.into_iter().map(|v| (v, Port::named("y"))).collect();
        b.finish(&mut module, &results)?;
        let inputs: Vec<Tensor> = args.iter().map(|(shape, v)| floats(shape, v).to_tensor()).collect();
        Ok(eval(&module.func("main")?, &inputs, &Files::default())?.iter().map(Array::from_tensor).collect())
    }

    fn floats(shape: &[usize], values: &[f32]) -> Array {
        Array { dtype: DType::F32, shape: shape.to_vec(), data: Data::F32(values.to_vec()) }
    }

    fn ints(b: &mut FuncBuilder, shape: &[usize], values: &[i32]) -> Result<ValueId> {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        b.constant(&Tensor { dtype: DType::I32, shape: shape.to_vec(), data: Bytes::from(data) })
    }

    const COUNT: [f32; 6] = [1., 2., 3., 4., 5., 6.];

    #[test]
    fn a_contraction_sums_over_several_axes_in_the_order_listed() {
        // Σ over (axis 1 of a with axis 0 of b), a: [2, 3], b: [3, 2] by columns.
        let dims = ContractDims {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![1],
            rhs_contract: vec![1],
        };
        let y = run(&[(&[2, 3], &COUNT), (&[2, 3], &COUNT)], |b, v| Ok(vec![b.contract(v[0], v[1], &dims)?]));
        assert_eq!(y.expect("evaluates"), [floats(&[2, 2], &[14., 32., 32., 77.])]);
        let both = ContractDims {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![1, 0],
            rhs_contract: vec![1, 0],
        };
        // (1·1 + 1e8) − 1e8 loses the 1 only in this order.
        let a = [1., 1e8, -1e8, 0.];
        let y = run(&[(&[2, 2], &a), (&[2, 2], &[1.; 4])], |b, v| Ok(vec![b.contract(v[0], v[1], &both)?]));
        // Listed order: axis 1 outer, axis 0 inner: 1, −1e8, 1e8, 0.
        assert_eq!(y.expect("evaluates"), [floats(&[], &[((1.0f32 - 1e8) + 1e8) + 0.])]);
    }

    #[test]
    fn views_move_elements() {
        let y = run(&[(&[2, 3], &COUNT)], |b, v| {
            let t = b.transpose(v[0], &[1, 0])?;
            let s = b.slice(v[0], &[0, 1], &[2, 1], &[1, 2])?;
            let r = b.reverse(v[0], &[1])?;
            let wide = b.broadcast(s, &[0, 2], &[2, 2, 2])?;
            let p = b.pad(s, &[0, 1], &[0, 1], 9.0)?;
            let c = b.concat(&[s, v[0]], 1)?;
            Ok(vec![t, s, r, wide, p, c])
        })
        .expect("evaluates");
        assert_eq!(y[0], floats(&[3, 2], &[1., 4., 2., 5., 3., 6.]));
        assert_eq!(y[1], floats(&[2, 1], &[2., 5.]));
        assert_eq!(y[2], floats(&[2, 3], &[3., 2., 1., 6., 5., 4.]));
        assert_eq!(y[3], floats(&[2, 2, 2], &[2., 2., 2., 2., 5., 5., 5., 5.]));
        assert_eq!(y[4], floats(&[2, 3], &[9., 2., 9., 9., 5., 9.]));
        assert_eq!(y[5], floats(&[2, 4], &[2., 1., 2., 3., 5., 4., 5., 6.]));
    }

    #[test]
    fn reductions_and_scans_are_ascending_chains() {
        let y = run(&[(&[2, 3], &[1e8, 1., -1e8, f32::NAN, 1., 2.])], |b, v| {
            let sum = b.reduce(ReduceKind::Sum, v[0], &[1])?;
            let max = b.reduce(ReduceKind::Max, v[0], &[1])?;
            let least = b.reduce(ReduceKind::Argmin, v[0], &[1])?;
            let scan = b.scan(ScanKind::Sum, v[0], 1)?;
            Ok(vec![sum, max, least, scan])
        })
        .expect("evaluates");
        let Data::F32(sum) = &y[0].data else { panic!("floats") };
        assert!(sum[0] == (1e8f32 + 1.0) - 1e8 && sum[1].is_nan());
        let Data::F32(max) = &y[1].data else { panic!("floats") };
        assert!(max[0] == 1e8 && max[1].is_nan());
        assert_eq!(y[2].indices()[0], 2);
        let Data::F32(scan) = &y[3].data else { panic!("floats") };
        assert_eq!(scan[..3], [1e8, 1e8 + 1., (1e8 + 1.) - 1e8]);
    }

    #[test]
    fn a_chain_of_one_element_is_that_element() {
        let got = run(&[(&[2, 1], &[-0.0, 0.0]), (&[1, 2], &[3.0, -3.0])], |b, x| {
            let one = b.reduce(ReduceKind::Sum, x[0], &[1])?;
            let two = b.reduce(ReduceKind::Sum, x[0], &[0])?;
            Ok(vec![one, two, b.contract(x[0], x[1], &ContractDims::matmul(0))?])
        })
        .expect("evaluates");
        let signs = |a: &Array| match &a.data {
            Data::F32(v) => v.iter().map(|x| x.is_sign_negative()).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        assert_eq!(signs(&got[0]), [true, false]);
        assert_eq!(signs(&got[1]), [false]);
        assert_eq!(signs(&got[2]), [true, false, false, true]);
    }

    #[test]
    fn gathers_take_and_scatters_add() {
        let y = run(&[(&[3, 2], &COUNT)], |b, v| {
            let rows = ints(b, &[2], &[2, 0])?;
            let taken = b.gather(v[0], rows, 0)?;
            let at = ints(b, &[1, 2], &[1, 2])?;
            let elements = b.gather_elements(v[0], at, 0)?;
            let tuples = ints(b, &[2, 1], &[1, 1])?;
            let twice = b.scatter_nd(v[0], tuples, taken, ScatterReduction::Add)?;
            Ok(vec![taken, elements, twice])
        })
        .expect("evaluates");
        assert_eq!(y[0], floats(&[2, 2], &[5., 6., 1., 2.]));
        assert_eq!(y[1], floats(&[1, 2], &[3., 6.]));
        assert_eq!(y[2], floats(&[3, 2], &[1., 2., 9., 12., 5., 6.]));
    }

    #[test]
    fn an_index_out_of_range_is_an_error() {
        let y = run(&[(&[3, 2], &COUNT)], |b, v| {
            let rows = ints(b, &[1], &[3])?;
            Ok(vec![b.gather(v[0], rows, 0)?])
        });
        assert!(y.expect_err("3 of 3 rows").to_string().contains("the index 3 lies outside 0..3"));
    }

    #[test]
    fn the_greatest_come_first_and_ties_by_index() {
        let y = run(&[(&[1, 5], &[1., 7., 7., 2., -1.])], |b, v| {
            let (values, at) = b.topk(v[0], 3, 1)?;
            Ok(vec![values, at])
        })
        .expect("evaluates");
        assert_eq!(y[0], floats(&[1, 3], &[7., 7., 2.]));
        assert_eq!(y[1].indices(), [1, 2, 3]);
    }

    #[test]
    fn a_convolution_with_padding_stride_and_dilation() {
        // One channel, kernel 2 dilated to 3, stride 2, padded by 1 on both sides of [1, 2, 3, 4, 5].
        let y = run(&[(&[1, 1, 5], &COUNT[..5]), (&[1, 1, 2], &[1., 10.])], |b, v| {
            let kind = OpKind::Conv {
                strides: vec![2],
                pads_low: vec![1],
                pads_high: vec![1],
                dilations: vec![2],
                groups: 1,
            };
            b.op(&kind, &[v[0], v[1]])
        });
        assert_eq!(y.expect("evaluates"), [floats(&[1, 1, 3], &[20., 2. + 40., 4.])]);
    }

    #[test]
    fn an_input_of_another_type_is_an_error() {
        let context = Context::new();
        let mut module = Module::new(&context);
        let arg = (TensorType::new(DType::F32, vec![2]), Port::named("x"));
        let b = FuncBuilder::new(&context, "main", &[arg]).expect("a function");
        let x = b.arg(0);
        b.finish(&mut module, &[(x, Port::named("y"))]).expect("a well-formed function");
        let func = module.func("main").expect("main");
        let fault =
            eval(&func, &[floats(&[3], &[0.; 3]).to_tensor()], &Files::default()).expect_err("another shape");
        assert!(fault.to_string().contains("the input x is a tensor<3xf32>, not a tensor<2xf32>"));
    }
}
