//! `decompose-indexing`: index tuples and scatters as arithmetic on indices, lookups and selections.
//!
//! ```text
//! gather_nd  data[i, j]          →   gather (reshape data), i·stride + j
//! scatter    data[r] = upd[n]    →   select u(r) ≥ 0, gather upd, u(r), data;  u(r) = max {n : index n = r}
//! scatter    data[r] += upd[n]   →   data[r] + Σ (index n = r ? upd[n] : 0)
//! ```
//! The last of several updates of one row wins, as in the reference evaluator. What an index does not vary along
//! costs nothing here: over named axes it is not there. A scatter whose comparisons are too many stays as it is.

use kiln_ir::nn::{Func, FuncBuilder, MapKind, Op, OpKind, ReduceKind, ScatterReduction, ValueId};
use kiln_ir::types::{Scalar, TensorType, is_float};
use kiln_ir::{DType, IrError, Module};

/// Scatters that would compare or combine more elements than this stay.
const MOST_ELEMENTS: usize = 1 << 26;

/// Rewrites function `main`.
///
/// # Errors
/// When the function cannot be rebuilt.
pub fn decompose_indexing(module: &mut Module) -> Result<(), IrError> {
    let func = module.func("main")?;
    if !func.ops.iter().any(|op| is_indexing(&op.kind)) {
        return Ok(());
    }
    let context = module.context().clone();
    let mut b = FuncBuilder::like(&context, &func)?;
    let mut map: Vec<Option<ValueId>> = vec![None; func.value_count()];
    for (i, v) in func.arg_values().enumerate() {
        map[v.index()] = Some(b.arg(i));
    }
    let producers = func.producers();
    for op in &func.ops {
        let operands: Vec<ValueId> = op.operands.iter().filter_map(|v| map[v.index()]).collect();
        b.set_origin(&op.origin);
        let results = match rewritten(&mut b, &func, &producers, op, &operands)? {
            Some(value) => vec![value],
            None => b.clone_op(op, &operands)?,
        };
        for (old, new) in op.results.iter().zip(results) {
            map[old.index()] = Some(new);
        }
    }
    let results: Vec<_> =
        func.results.iter().filter_map(|(v, port)| Some((map[v.index()]?, port.clone()))).collect();
    b.finish(module, &results)
}

fn is_indexing(kind: &OpKind) -> bool {
    matches!(kind, OpKind::GatherNd { .. } | OpKind::ScatterNd { .. } | OpKind::ScatterElements { .. })
}

/// The value of `op` in simpler ops, where there is one.
fn rewritten(
    b: &mut FuncBuilder,
    func: &Func,
    producers: &[Option<usize>],
    op: &Op,
    operands: &[ValueId],
) -> Result<Option<ValueId>, IrError> {
    if !is_indexing(&op.kind) || op.operands.iter().any(|v| !is_plain(func.ty(*v))) {
        return Ok(None);
    }
    let (data, index) = (func.ty(op.operands[0]), func.ty(op.operands[1]));
    match &op.kind {
        OpKind::GatherNd { batch_dims } => gather_nd(b, *batch_dims, operands).map(Some),
        OpKind::ScatterNd { reduction } => {
            let depth = index.shape[index.rank() - 1];
            let (rows, row): (usize, usize) =
                (data.shape[..depth].iter().product(), data.shape[depth..].iter().product());
            let count = index.elements() / depth.max(1);
            let compared = rows.saturating_mul(count);
            if !is_affordable(compared, row, *reduction) {
                return Ok(None);
            }
            let at = linear(b, operands[1], &data.shape[..depth])?;
            let scatter = Scatter { outer: 1, rows, count, inner: row, reduction: *reduction };
            let at = b.reshape(at, &[1, count, 1])?;
            let at = b.broadcast(at, &[0, 1, 2], &[1, count, row])?;
            scatter.build(b, operands[0], at, operands[2]).map(Some)
        }
        OpKind::ScatterElements { axis, reduction } => {
            let same = (0..data.rank()).all(|d| d == *axis || data.shape[d] == index.shape[d]);
            let varying = varying_elements(func, producers, op.operands[1], *axis);
            let others = index.elements() / index.shape[*axis].max(1);
            let compared = data.shape[*axis].saturating_mul(index.shape[*axis]).saturating_mul(varying);
            if !same || !is_affordable(compared, others / varying.max(1), *reduction) {
                return Ok(None);
            }
            let outer = data.shape[..*axis].iter().product();
            let inner = data.shape[axis + 1..].iter().product();
            let count = index.shape[*axis];
            let scatter = Scatter { outer, rows: data.shape[*axis], count, inner, reduction: *reduction };
            let at = b.reshape(operands[1], &[outer, count, inner])?;
            scatter.build(b, operands[0], at, operands[2]).map(Some)
        }
        _ => Ok(None),
    }
}

/// Elements that the device holds, few enough to be numbered in 32 bits, and some of them.
fn is_plain(ty: &TensorType) -> bool {
    ty.dtype.size_bytes() <= 4 && ty.elements() > 0 && ty.elements() <= i32::MAX as usize
}

fn is_affordable(compared: usize, row: usize, reduction: ScatterReduction) -> bool {
    let combined = if reduction == ScatterReduction::None { 1 } else { row };
    compared.saturating_mul(combined) <= MOST_ELEMENTS
}

/// Over how many elements off `axis` an index varies: a broadcast repeats along the others.
fn varying_elements(func: &Func, producers: &[Option<usize>], index: ValueId, axis: usize) -> usize {
    let shape = &func.ty(index).shape;
    let varies = |d: usize| match producers[index.index()].map(|op| &func.ops[op]) {
        Some(Op { kind: OpKind::Broadcast { dims, .. }, operands, .. }) => {
            let from = &func.ty(operands[0]).shape;
            dims.iter().zip(from).any(|(&to, &n)| to == d && n == shape[d])
        }
        _ => true,
    };
    (0..shape.len()).filter(|&d| d != axis && varies(d)).map(|d| shape[d]).product()
}

/// Index tuples `[…, k]` over `extents` as numbers `[…]` of rows.
fn linear(b: &mut FuncBuilder, tuples: ValueId, extents: &[usize]) -> Result<ValueId, IrError> {
    let shape = b.shape(tuples).to_vec();
    let last = shape.len() - 1;
    let mut sum: Option<ValueId> = None;
    for (i, _) in extents.iter().enumerate() {
        let stride: usize = extents[i + 1..].iter().product();
        let (mut offsets, mut sizes) = (vec![0; shape.len()], shape.clone());
        (offsets[last], sizes[last]) = (i, 1);
        let part = b.slice(tuples, &offsets, &sizes, &vec![1; shape.len()])?;
        let part = b.reshape(part, &shape[..last])?;
        let part = if stride == 1 {
            part
        } else {
            let stride = b.splat(DType::I32, stride as i64, &shape[..last])?;
            b.map(MapKind::Mul, &[part, stride])?
        };
        sum = Some(match sum {
            Some(sum) => b.map(MapKind::Add, &[sum, part])?,
            None => part,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => b.splat(DType::I32, 0, &shape[..last]),
    }
}

fn gather_nd(b: &mut FuncBuilder, batch: usize, operands: &[ValueId]) -> Result<ValueId, IrError> {
    let (data, tuples) = (b.shape(operands[0]).to_vec(), b.shape(operands[1]).to_vec());
    let depth = tuples[tuples.len() - 1];
    let extents = &data[batch..batch + depth];
    let at = linear(b, operands[1], extents)?;
    let (batches, rows): (usize, usize) = (data[..batch].iter().product(), extents.iter().product());
    let row: usize = data[batch + depth..].iter().product();
    let places = &tuples[batch..tuples.len() - 1];
    let result = [&data[..batch], places, &data[batch + depth..]].concat();
    let count: usize = places.iter().product();
    let picked = if batches == 1 {
        let flat = b.reshape(operands[0], &[rows, row])?;
        let at = b.reshape(at, &[count])?;
        b.gather(flat, at, 0)?
    } else {
        // Looked up batch by batch; along a row the index repeats.
        let flat = b.reshape(operands[0], &[batches, rows, row])?;
        let at = b.reshape(at, &[batches, count, 1])?;
        let at = b.broadcast(at, &[0, 1, 2], &[batches, count, row])?;
        b.gather_elements(flat, at, 1)?
    };
    b.reshape(picked, &result)
}

/// A scatter along the middle of three dims.
struct Scatter {
    outer: usize,
    /// Of the data.
    rows: usize,
    /// Of the updates.
    count: usize,
    inner: usize,
    reduction: ScatterReduction,
}

impl Scatter {
    /// `at` and `updates` over `[outer, count, inner]`, the data over `[outer, rows, inner]`.
    fn build(
        &self,
        b: &mut FuncBuilder,
        data: ValueId,
        at: ValueId,
        updates: ValueId,
    ) -> Result<ValueId, IrError> {
        let shape = b.shape(data).to_vec();
        let dtype = b.ty(data).dtype;
        let [outer, rows, count, inner] = [self.outer, self.rows, self.count, self.inner];
        let data = b.reshape(data, &[outer, rows, inner])?;
        let updates = b.reshape(updates, &[outer, count, inner])?;
        let all = [outer, count, rows, inner];
        let at = b.broadcast(at, &[0, 1, 3], &all)?;
        let row = b.iota(DType::I32, &all, 2)?;
        let hit = b.map(MapKind::Eq, &[at, row])?;
        let y = if self.reduction == ScatterReduction::None {
            let number = b.iota(DType::I32, &all, 1)?;
            let none = b.splat(DType::I32, -1, &all)?;
            let candidates = b.map(MapKind::Select, &[hit, number, none])?;
            let last = b.reduce(ReduceKind::Max, candidates, &[1])?;
            let zero = b.splat(DType::I32, 0, &[outer, rows, inner])?;
            let is_set = b.map(MapKind::Ge, &[last, zero])?;
            let legal = b.map(MapKind::Max, &[last, zero])?;
            let picked = b.gather_elements(updates, legal, 1)?;
            b.map(MapKind::Select, &[is_set, picked, data])?
        } else {
            let (neutral, combine, kind) = self.monoid(dtype);
            let spread = b.broadcast(updates, &[0, 1, 3], &all)?;
            let neutral = b.splat(dtype, neutral, &all)?;
            let chosen = b.map(MapKind::Select, &[hit, spread, neutral])?;
            let combined = b.reduce(kind, chosen, &[1])?;
            b.map(combine, &[data, combined])?
        };
        b.reshape(y, &shape)
    }

    fn monoid(&self, dtype: DType) -> (Scalar, MapKind, ReduceKind) {
        let number =
            |float: f64, int: i64| if is_float(dtype) { Scalar::float(float) } else { Scalar::Int(int) };
        let bits = 8 * dtype.size_bytes() as u32;
        let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32);
        let (least, greatest) =
            if signed { (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1) } else { (0, (1i64 << bits) - 1) };
        match self.reduction {
            ScatterReduction::Mul => (number(1.0, 1), MapKind::Mul, ReduceKind::Prod),
            ScatterReduction::Max => (number(f64::NEG_INFINITY, least), MapKind::Max, ReduceKind::Max),
            ScatterReduction::Min => (number(f64::INFINITY, greatest), MapKind::Min, ReduceKind::Min),
            ScatterReduction::Add | ScatterReduction::None => (number(0.0, 0), MapKind::Add, ReduceKind::Sum),
        }
    }
}
