//! The meaning of `tile`, op by op: buffers are arrays by logical index, loops are interpreted, and reading an
//! element that nothing has written is an error. Partitions, rings and engines have no meaning here.

use super::Files;
use super::array::{Array, Data, cast, wrap_int};
use super::indexing::in_range;
use super::nn::filled;
use super::reduce::{fold_f32, fold_f32_step, fold_int, least_int, scan, topk};
use super::{fma, map};
use crate::error::{IrError, Result};
use crate::module::Module;
use crate::nn::{MapKind, ReduceKind};
use crate::tile::{Access, Affine, DramId, DramKind, Group, IvId, Op, Part, Program, Source, Stmt, View};
use crate::types::{DType, Scalar, Tensor, TensorType, is_float, row_major_strides};
use bytes::Bytes;
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// What an op may fail with, in words; [`run`] adds the op and its origin.
type Outcome<T> = std::result::Result<T, String>;

/// Runs `program` of `module` (whose folds it evaluates) on `inputs` by port name, which have the types of the DRAM
/// tensors, and gives its outputs by port name in order.
///
/// # Errors
/// [`IrError::Eval`] when an input is missing or of another type, bytes of a weight are missing, an index is out of
/// range, or an op reads what nothing has written.
pub fn run(
    module: &Module,
    program: &Program,
    files: &Files,
    inputs: &IndexMap<String, Tensor>,
) -> Result<IndexMap<String, Tensor>> {
    let mut drams = Vec::with_capacity(program.drams.len());
    for dram in &program.drams {
        let unwritten = || Cells::new(dram.ty.dtype, dram.ty.elements());
        drams.push(match &dram.kind {
            DramKind::Output(_) | DramKind::Temp => unwritten(),
            DramKind::Input(port) => {
                let found = inputs.get(&port.name);
                let tensor =
                    found.ok_or_else(|| fault(&dram.name, format!("no input '{}' is given", port.name)))?;
                full(&dram.name, &dram.ty, tensor)?
            }
            DramKind::Weight(parts) => weight(&dram.ty, parts, files).map_err(|m| fault(&dram.name, m))?,
            DramKind::Fold(function) => {
                let results = super::nn::eval(&module.func(function)?, &[], files)?;
                let tensor =
                    results.first().ok_or_else(|| fault(&dram.name, "its function gives nothing"))?;
                full(&dram.name, &dram.ty, tensor)?
            }
        });
    }
    let mut machine = Machine { program, drams };
    for group in &program.groups {
        machine.group(group)?;
    }
    let mut outputs = IndexMap::new();
    for (dram, cells) in program.drams.iter().zip(&machine.drams) {
        if let DramKind::Output(port) = &dram.kind {
            let all: Vec<usize> = (0..dram.ty.elements()).collect();
            let array = cells.read(&dram.ty.shape, &all).map_err(|m| fault(&dram.name, m))?;
            outputs.insert(port.name.clone(), array.to_tensor());
        }
    }
    Ok(outputs)
}

fn fault(name: &str, message: impl Into<String>) -> IrError {
    IrError::eval(&format!("@{name}"), message)
}

fn full(name: &str, ty: &TensorType, tensor: &Tensor) -> Result<Cells> {
    let got = TensorType::new(tensor.dtype, tensor.shape.clone());
    if got != *ty {
        return Err(fault(name, format!("is a {ty}, but a {got} is given")));
    }
    Ok(Cells {
        flat: Array::from_tensor(tensor).reshaped(&[ty.elements()]),
        written: vec![true; ty.elements()],
    })
}

fn weight(ty: &TensorType, parts: &[Part], files: &Files) -> Outcome<Cells> {
    let mut bytes = vec![0u8; ty.size_bytes()];
    let mut covered = vec![false; ty.size_bytes()];
    for part in parts {
        for row in 0..part.rows {
            let offset = part.file_offset + row * part.file_pitch;
            let source = files.slice(part.file, offset, part.row_bytes);
            let source = source.ok_or_else(|| format!("file {} ends before byte {offset}", part.file))?;
            let to = (part.offset + row * part.pitch) as usize;
            let end = to + source.len();
            if end > bytes.len() {
                return Err(format!("a part ends at byte {end} of {}", bytes.len()));
            }
            bytes[to..end].copy_from_slice(&source);
            covered[to..end].fill(true);
        }
    }
    let written = covered.chunks_exact(ty.dtype.size_bytes()).map(|c| c.iter().all(|b| *b)).collect();
    let tensor = Tensor { dtype: ty.dtype, shape: vec![ty.elements()], data: Bytes::from(bytes) };
    Ok(Cells { flat: Array::from_tensor(&tensor), written })
}

/// The elements of a DRAM tensor or of a buffer, and which of them hold a value.
struct Cells {
    flat: Array,
    written: Vec<bool>,
}

impl Cells {
    fn new(dtype: DType, elements: usize) -> Self {
        Cells { flat: filled(dtype, &[elements], Scalar::Int(0)), written: vec![false; elements] }
    }

    /// The elements at these places as an array of `shape`.
    fn read(&self, shape: &[usize], at: &[usize]) -> Outcome<Array> {
        if let Some(place) = at.iter().find(|i| !self.written[**i]) {
            return Err(format!("reads element {place}, which nothing has written"));
        }
        Ok(self.flat.picked(shape, at))
    }

    /// Writes `values`, converted to the element type; where a place stands twice, the last value stays.
    fn write(&mut self, at: &[usize], values: &Array) {
        let values = cast(values, self.flat.dtype);
        match (&mut self.flat.data, &values.data) {
            (Data::F32(to), Data::F32(from)) => at.iter().zip(from).for_each(|(i, x)| to[*i] = *x),
            (Data::F64(to), Data::F64(from)) => at.iter().zip(from).for_each(|(i, x)| to[*i] = *x),
            (Data::Int(to), Data::Int(from)) => at.iter().zip(from).for_each(|(i, x)| to[*i] = *x),
            _ => unreachable!("an element type has one kind of data"),
        }
        at.iter().for_each(|i| self.written[*i] = true);
    }
}

/// `base + Σ iₐ·stridesₐ` for every index of `shape`, in ascending lexicographic order.
fn addresses(shape: &[usize], base: i64, strides: &[i64]) -> Vec<i64> {
    let mut at = vec![base];
    for (&extent, &stride) in shape.iter().zip(strides) {
        let inner: Vec<i64> = (0..extent as i64).map(|i| i * stride).collect();
        at = at.iter().flat_map(|a| inner.iter().map(move |i| a + i)).collect();
    }
    at
}

/// Addresses as places among `extent` elements.
fn places(at: Vec<i64>, extent: usize) -> Outcome<Vec<usize>> {
    at.into_iter().map(|a| in_range(a, extent)).collect()
}

struct Machine<'a> {
    program: &'a Program,
    drams: Vec<Cells>,
}

/// One group under way: its live buffers and the values of the loop variables.
struct Scope<'a> {
    group: &'a Group,
    bufs: Vec<Option<Cells>>,
    ivs: BTreeMap<IvId, i64>,
}

impl Scope<'_> {
    fn iv(&self, iv: IvId) -> Outcome<i64> {
        self.ivs.get(&iv).copied().ok_or_else(|| format!("there is no loop variable {}", iv.0))
    }

    fn sum(&self, base: i64, ivs: &[(IvId, i64)]) -> Outcome<i64> {
        ivs.iter().try_fold(base, |sum, (iv, coef)| Ok(sum + coef * self.iv(*iv)?))
    }

    /// Places of a view's elements in its buffer, with extents of 1 repeated to those of `shape`.
    fn places(&self, view: &View, shape: &[usize]) -> Outcome<Vec<usize>> {
        let ty = self.group.bufs.get(view.buf.index()).ok_or("there is no such buffer")?;
        let steps: Vec<i64> = row_major_strides(&ty.shape).into_iter().map(|s| s as i64).collect();
        let mut base = 0;
        for (axis, step) in steps.iter().enumerate() {
            let mut offset = view.offsets[axis];
            for (iv, coef) in &view.ivs {
                offset += coef[axis] * self.iv(*iv)?;
            }
            let end = offset + view.shape[axis] as i64;
            if offset < 0 || end > ty.shape[axis] as i64 {
                return Err(format!("axis {axis} reaches {offset} to {end} of {}", ty.shape[axis]));
            }
            base += offset * step;
        }
        let broadcast = |(axis, step): (usize, &i64)| if view.shape[axis] == 1 { 0 } else { *step };
        let steps: Vec<i64> = steps.iter().enumerate().map(broadcast).collect();
        places(addresses(shape, base, &steps), ty.elements())
    }

    fn read_as(&self, view: &View, shape: &[usize]) -> Outcome<Array> {
        let cells = self.bufs.get(view.buf.index()).and_then(Option::as_ref);
        let cells = cells.ok_or_else(|| format!("buffer {} is not alive", view.buf.0))?;
        cells.read(shape, &self.places(view, shape)?)
    }

    fn read(&self, view: &View) -> Outcome<Array> {
        self.read_as(view, &view.shape)
    }

    fn write(&mut self, view: &View, values: &Array) -> Outcome<()> {
        let at = self.places(view, &view.shape)?;
        let cells = self.bufs.get_mut(view.buf.index()).and_then(Option::as_mut);
        let cells = cells.ok_or_else(|| format!("buffer {} is not alive", view.buf.0))?;
        cells.write(&at, values);
        Ok(())
    }

    fn dtype(&self, view: &View) -> DType {
        self.group.bufs.get(view.buf.index()).map_or(DType::F32, |ty| ty.dtype)
    }

    /// The values of an affine form over `shape`.
    fn affine(&self, form: &Affine, shape: &[usize]) -> Outcome<Vec<i64>> {
        Ok(addresses(shape, self.sum(form.base, &form.ivs)?, &form.axes))
    }
}

impl Machine<'_> {
    fn group(&mut self, group: &Group) -> Result<()> {
        let bufs = group.bufs.iter().map(|_| None).collect();
        let mut scope = Scope { group, bufs, ivs: BTreeMap::new() };
        self.stmts(&group.body, &mut scope)
    }

    fn stmts(&mut self, body: &[Stmt], scope: &mut Scope) -> Result<()> {
        for stmt in body {
            match stmt {
                Stmt::Alloc { buf, .. } => {
                    let ty = &scope.group.bufs[buf.index()];
                    scope.bufs[buf.index()] = Some(Cells::new(ty.dtype, ty.elements()));
                }
                Stmt::For { iv, trip, body } => {
                    for value in 0..*trip as i64 {
                        scope.ivs.insert(*iv, value);
                        self.stmts(body, scope)?;
                    }
                    scope.ivs.remove(iv);
                }
                Stmt::Op { op, origin } => self.op(op, scope).map_err(|message| IrError::Eval {
                    op: format!("{} in @{}", op.name(), scope.group.name),
                    message,
                    origin: origin.clone(),
                })?,
            }
        }
        Ok(())
    }

    fn dram_places(&self, dram: DramId, at: Vec<i64>) -> Outcome<Vec<usize>> {
        let found = self.program.drams.get(dram.index()).ok_or("there is no such DRAM tensor")?;
        places(at, found.ty.elements()).map_err(|m| format!("@{}: {m}", found.name))
    }

    /// Element addresses of an access by a view of `shape`.
    fn access(&self, at: &Access, shape: &[usize], scope: &Scope) -> Outcome<Vec<i64>> {
        Ok(addresses(shape, scope.sum(at.offset, &at.ivs)?, &at.strides))
    }

    /// The same with `row_stride` times an index in 0..`rows` added to each.
    fn indexed(
        &self,
        (at, shape): (&Access, &[usize]),
        idx: &View,
        (rows, row_stride): (i64, i64),
        scope: &Scope,
    ) -> Outcome<Vec<i64>> {
        let indices = scope.read_as(idx, shape)?;
        let mut addresses = self.access(at, shape, scope)?;
        for (address, index) in addresses.iter_mut().zip(indices.indices()) {
            *address += in_range(*index, rows as usize)? as i64 * row_stride;
        }
        Ok(addresses)
    }

    fn op(&mut self, op: &Op, scope: &mut Scope) -> Outcome<()> {
        match op {
            Op::Load { dram, at, dst } => {
                let places = self.dram_places(*dram, self.access(at, &dst.shape, scope)?)?;
                let values = self.drams[dram.index()].read(&dst.shape, &places)?;
                scope.write(dst, &values)
            }
            Op::Store { src, dram, at } => {
                let places = self.dram_places(*dram, self.access(at, &src.shape, scope)?)?;
                self.drams[dram.index()].write(&places, &scope.read(src)?);
                Ok(())
            }
            Op::Gather { dram, at, idx, row_stride, rows, dst } => {
                let addresses = self.indexed((at, &dst.shape), idx, (*rows, *row_stride), scope)?;
                let places = self.dram_places(*dram, addresses)?;
                let values = self.drams[dram.index()].read(&dst.shape, &places)?;
                scope.write(dst, &values)
            }
            Op::Scatter { src, idx, dram, at, row_stride, rows } => {
                let addresses = self.indexed((at, &src.shape), idx, (*rows, *row_stride), scope)?;
                let places = self.dram_places(*dram, addresses)?;
                self.drams[dram.index()].write(&places, &scope.read(src)?);
                Ok(())
            }
            Op::Fill { dst, value } => {
                let values = filled(scope.dtype(dst), &dst.shape, number(scope.dtype(dst), *value));
                scope.write(dst, &values)
            }
            Op::Iota { dst, form } => {
                let values = scope.affine(form, &dst.shape)?;
                scope.write(
                    dst,
                    &Array { dtype: DType::I64, shape: dst.shape.clone(), data: Data::Int(values) },
                )
            }
            Op::Cast { dst, src } | Op::Transpose { dst, src } => scope.write(dst, &scope.read(src)?),
            Op::Map { kind, dst, srcs } => scope.write(dst, &mapped(*kind, dst, srcs, scope)?),
            Op::Mask { dst, src, form, fill } => {
                let values = scope.read(src)?;
                let other = filled(values.dtype, &src.shape, number(values.dtype, *fill));
                let keep = scope.affine(form, &dst.shape)?.into_iter().map(|v| i64::from(v >= 0)).collect();
                let keep = Array { dtype: DType::Bool, shape: dst.shape.clone(), data: Data::Int(keep) };
                scope.write(dst, &map::map(MapKind::Select, &[&keep, &values, &other]))
            }
            Op::Matmul { acc, s, x, accumulate } => matmul(acc, s, x, *accumulate, scope),
            Op::Reduce { kind, dst, src, accumulate } => reduce(*kind, dst, src, *accumulate, scope),
            Op::Scan { kind, dst, src, axis, exclusive, reverse } => {
                let values = scan(&arithmetic(&scope.read(src)?), *kind, *axis, *exclusive, *reverse);
                scope.write(dst, &values)
            }
            Op::TopK { values, indices, src, axis, largest } => {
                let read = scope.read(src)?;
                let types = [
                    TensorType::new(read.dtype, values.shape.clone()),
                    TensorType::new(DType::I32, values.shape.clone()),
                ];
                let k = values.shape[*axis];
                let found = topk(&read, k, *axis, *largest, &[&types[0], &types[1]]);
                scope.write(values, &found[0])?;
                scope.write(indices, &found[1])
            }
            Op::Shuffle { dst, src, idx, axis } => {
                let (values, indices) = (scope.read(src)?, scope.read(idx)?);
                let steps: Vec<i64> = row_major_strides(&src.shape).into_iter().map(|s| s as i64).collect();
                let step = steps[*axis];
                let mut off_axis = steps;
                off_axis[*axis] = 0;
                let mut at = addresses(&dst.shape, 0, &off_axis);
                for (address, index) in at.iter_mut().zip(indices.indices()) {
                    *address += in_range(*index, src.shape[*axis])? as i64 * step;
                }
                scope.write(dst, &values.picked(&dst.shape, &places(at, values.elements())?))
            }
        }
    }
}

fn number(dtype: DType, value: f64) -> Scalar {
    if is_float(dtype) { Scalar::float(value) } else { Scalar::Int(value as i64) }
}

/// As on the machine, arithmetic is in f32, or in i32 on integers.
fn arithmetic(x: &Array) -> Array {
    cast(x, if is_float(x.dtype) { DType::F32 } else { DType::I32 })
}

fn mapped(kind: MapKind, dst: &View, srcs: &[Source], scope: &Scope) -> Outcome<Array> {
    // The mask of a select takes no part in the choice of the arithmetic.
    let first = usize::from(kind == MapKind::Select);
    let mut dtypes = srcs.iter().skip(first).filter_map(|s| match s {
        Source::View(view) => Some(scope.dtype(view)),
        Source::Number(_) => None,
    });
    let of_numbers = srcs.iter().skip(first).all(|s| matches!(s, Source::Number(_)));
    let floats = if of_numbers { is_float(scope.dtype(dst)) } else { dtypes.any(is_float) };
    let dtype = if floats { DType::F32 } else { DType::I32 };
    let mut values = Vec::with_capacity(srcs.len());
    for (i, src) in srcs.iter().enumerate() {
        values.push(match src {
            Source::View(view) if i < first => cast(&scope.read_as(view, &dst.shape)?, DType::Bool),
            // `not` of a mask is logical.
            Source::View(view) if kind == MapKind::Not && scope.dtype(view) == DType::U8 => {
                cast(&scope.read_as(view, &dst.shape)?, DType::Bool)
            }
            Source::View(view) => cast(&scope.read_as(view, &dst.shape)?, dtype),
            Source::Number(n) if i < first => {
                filled(DType::Bool, &dst.shape, Scalar::Int(i64::from(*n != 0.0)))
            }
            Source::Number(n) => filled(dtype, &dst.shape, number(dtype, *n)),
        });
    }
    Ok(map::map(kind, &values.iter().collect::<Vec<_>>()))
}

fn matmul(acc: &View, s: &View, x: &View, accumulate: bool, scope: &mut Scope) -> Outcome<()> {
    let axes = |wanted: [bool; 3]| -> Vec<usize> {
        let roles = |a: &usize| [acc.shape[*a] > 1, s.shape[*a] > 1, x.shape[*a] > 1];
        (0..acc.shape.len()).filter(|a| roles(a) == wanted).collect()
    };
    let (batch, m) = (axes([true, true, true]), axes([true, true, false]));
    let (n, k) = (axes([true, false, true]), axes([false, true, true]));
    // Each operand with its axes in the order of the plain product.
    let ordered = |array: &Array, order: &[&[usize]]| -> Array {
        let from = row_major_strides(&array.shape);
        let order = order.concat();
        let shape: Vec<usize> = order.iter().map(|a| array.shape[*a]).collect();
        array.strided(&shape, 0, &order.iter().map(|a| from[*a] as isize).collect::<Vec<_>>())
    };
    let extent = |axes: &[usize], view: &View| axes.iter().map(|a| view.shape[*a]).product::<usize>();
    let (batches, rows, columns, depth) =
        (extent(&batch, acc), extent(&m, acc), extent(&n, acc), extent(&k, s));
    let left = arithmetic(&ordered(&scope.read(s)?, &[&batch, &m, &k]));
    let right = arithmetic(&ordered(&scope.read(x)?, &[&batch, &k, &n]));
    let start = if accumulate {
        arithmetic(&ordered(&scope.read(acc)?, &[&batch, &m, &n]))
    } else {
        filled(left.dtype, &[batches * rows * columns], Scalar::Int(0))
    };
    let data = match (start.data, &left.data, &right.data) {
        (Data::F32(mut c), Data::F32(a), Data::F32(b)) => {
            for i in 0..batches {
                let (to, at, bt) = (rows * columns, rows * depth, depth * columns);
                fma::accumulate(&mut c[i * to..][..to], &a[i * at..][..at], &b[i * bt..][..bt], depth);
            }
            Data::F32(c)
        }
        (Data::Int(mut c), Data::Int(a), Data::Int(b)) => {
            for (at, c) in c.iter_mut().enumerate() {
                let (i, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
                for l in 0..depth {
                    let product = a[(i * rows + row) * depth + l] * b[(i * depth + l) * columns + column];
                    *c = wrap_int(DType::I32, *c + product);
                }
            }
            Data::Int(c)
        }
        _ => return Err("floats and integers do not mix".into()),
    };
    // Back to the order of positions.
    let order = [batch, m, n].concat();
    let packed: Vec<usize> = order.iter().map(|a| acc.shape[*a]).collect();
    let steps = row_major_strides(&packed);
    let mut strides = vec![0isize; acc.shape.len()];
    for (axis, step) in order.iter().zip(steps) {
        strides[*axis] = step as isize;
    }
    let result = Array { dtype: left.dtype, shape: packed, data };
    scope.write(acc, &result.strided(&acc.shape, 0, &strides))
}

fn reduce(kind: ReduceKind, dst: &View, src: &View, accumulate: bool, scope: &mut Scope) -> Outcome<()> {
    let values = arithmetic(&scope.read(src)?);
    // For each element of src the element of dst it goes to; src is visited in ascending order.
    let kept = row_major_strides(&dst.shape);
    let strides: Vec<i64> =
        (0..dst.shape.len()).map(|a| if dst.shape[a] == src.shape[a] { kept[a] as i64 } else { 0 }).collect();
    let to = places(addresses(&src.shape, 0, &strides), dst.elements())?;
    if matches!(kind, ReduceKind::Argmax | ReduceKind::Argmin) {
        let axis = (0..dst.shape.len()).find(|a| dst.shape[*a] != src.shape[*a]);
        return arg_reduce(kind, dst, (&values, &to), axis, scope);
    }
    let start = if accumulate { Some(arithmetic(&scope.read(dst)?).data) } else { None };
    let n = dst.elements();
    let data = match (&values.data, start) {
        (Data::F32(v), start) => {
            let mut sums = match start {
                Some(Data::F32(start)) => start,
                _ => vec![fold_f32(kind, &[]); n],
            };
            to.iter().zip(v).for_each(|(i, x)| sums[*i] = fold_f32_step(kind, sums[*i], *x));
            Data::F32(sums)
        }
        (Data::Int(v), start) => {
            let empty = match kind {
                ReduceKind::Max => least_int(DType::I32),
                ReduceKind::Min => i64::from(i32::MAX),
                _ => fold_int(kind, &[], false),
            };
            let mut sums = match start {
                Some(Data::Int(start)) => start,
                _ => vec![empty; n],
            };
            let step = |acc: i64, x: i64| wrap_int(DType::I32, fold_int(kind, &[acc, x], false));
            to.iter().zip(v).for_each(|(i, x)| sums[*i] = step(sums[*i], *x));
            Data::Int(sums)
        }
        _ => return Err("has no meaning on f64".into()),
    };
    scope.write(dst, &Array { dtype: values.dtype, shape: dst.shape.clone(), data })
}

/// The first index of the extremum along `axis`.
fn arg_reduce(
    kind: ReduceKind,
    dst: &View,
    (values, to): (&Array, &[usize]),
    axis: Option<usize>,
    scope: &mut Scope,
) -> Outcome<()> {
    let greatest = kind == ReduceKind::Argmax;
    let (extent, inner) = match axis {
        Some(axis) => (values.shape[axis], values.shape[axis + 1..].iter().product::<usize>()),
        None => (1, 1),
    };
    let at = |i: usize| match &values.data {
        Data::F32(v) => f64::from(v[i]),
        Data::F64(v) => v[i],
        Data::Int(v) => v[i] as f64,
    };
    let mut best: Vec<Option<(f64, i64)>> = vec![None; dst.elements()];
    for (i, to) in to.iter().enumerate() {
        let (x, index) = (at(i), (i / inner % extent) as i64);
        match best[*to] {
            Some((old, _)) if !(if greatest { x > old } else { x < old }) => {}
            _ => best[*to] = Some((x, index)),
        }
    }
    let data = Data::Int(best.into_iter().map(|b| b.map_or(0, |(_, i)| i)).collect());
    scope.write(dst, &Array { dtype: DType::I32, shape: dst.shape.clone(), data })
}
