//! The vocabulary in which ops of the importer are written: `nn` ops with numpy's broadcasting.

use kiln_ir::nn::{ContractDims, MapKind, OpKind, ReduceKind};
use kiln_ir::types::TensorType;
use kiln_machine::tensor::{DType, Tensor};

use super::{Draft, Result, Val};
use crate::diagnostics::{Code, Diagnostic};
use crate::fold::{Values, is_float};

/// The shape to which numpy broadcasts shapes of these extents.
///
/// # Errors
/// [`Code::Shape`] when two extents differ and neither is 1.
pub fn broadcast_shape(shapes: &[&[usize]]) -> Result<Vec<usize>> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![1; rank];
    for shape in shapes {
        for (o, &n) in out[rank - shape.len()..].iter_mut().zip(*shape) {
            if *o != n && *o != 1 && n != 1 {
                return Err(Diagnostic::new(
                    Code::Shape,
                    format!("shapes {} do not broadcast together", shapes_text(shapes)),
                )
                .help("extents must be equal or 1, aligned at the last axis"));
            }
            if n != 1 {
                *o = n;
            }
        }
    }
    Ok(out)
}

fn shapes_text(shapes: &[&[usize]]) -> String {
    shapes.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" and ")
}

impl Draft {
    /// A scalar of `dtype`.
    pub fn scalar(&mut self, value: f64, dtype: DType) -> Val {
        let values =
            if is_float(dtype) { Values::Float(vec![value]) } else { Values::Int(vec![value as i64]) };
        self.known(Tensor { dtype, shape: Vec::new(), data: values.encode(dtype) })
    }

    /// Known int64s, one-dimensional.
    pub fn int64s(&mut self, values: &[i64]) -> Val {
        let data = Values::Int(values.to_vec()).encode(DType::I64);
        self.known(Tensor { dtype: DType::I64, shape: vec![values.len()], data })
    }

    /// A known splat of `shape`.
    pub fn full(&mut self, value: f64, dtype: DType, shape: &[usize]) -> Result<Val> {
        let scalar = self.scalar(value, dtype);
        self.broadcast_to(scalar, shape)
    }

    /// Elementwise on one operand.
    pub fn map1(&mut self, kind: MapKind, a: Val) -> Result<Val> {
        self.op(OpKind::Map { kind }, &[a])
    }

    /// Elementwise on two operands that broadcast.
    pub fn map2(&mut self, kind: MapKind, a: Val, b: Val) -> Result<Val> {
        let shape = broadcast_shape(&[self.shape(a), self.shape(b)])?;
        let operands = [self.broadcast_to(a, &shape)?, self.broadcast_to(b, &shape)?];
        self.op(OpKind::Map { kind }, &operands)
    }

    /// Elementwise with a scalar of the same dtype on the right.
    pub fn map_scalar(&mut self, kind: MapKind, a: Val, value: f64) -> Result<Val> {
        let b = self.scalar(value, self.dtype(a));
        self.map2(kind, a, b)
    }

    /// `mask ? a : b`, broadcasting all three.
    pub fn select(&mut self, mask: Val, a: Val, b: Val) -> Result<Val> {
        let shape = broadcast_shape(&[self.shape(mask), self.shape(a), self.shape(b)])?;
        let operands =
            [self.broadcast_to(mask, &shape)?, self.broadcast_to(a, &shape)?, self.broadcast_to(b, &shape)?];
        self.op(OpKind::Map { kind: MapKind::Select }, &operands)
    }

    /// Conversion.
    pub fn cast(&mut self, a: Val, dtype: DType) -> Result<Val> {
        self.op(OpKind::Cast { dtype }, &[a])
    }

    /// Row-major reshape.
    pub fn reshape(&mut self, a: Val, shape: &[usize]) -> Result<Val> {
        // A reshape of a reshape is one.
        let mut from = a;
        while let Some(OpKind::Reshape { .. }) = self.op_of(from).map(|op| &op.kind) {
            from = self.op_of(from).map_or(from, |op| op.operands[0]);
        }
        self.op(OpKind::Reshape { shape: shape.to_vec() }, &[from])
    }

    /// Result dim `i` is dim `perm[i]`.
    pub fn transpose(&mut self, a: Val, perm: &[usize]) -> Result<Val> {
        self.op(OpKind::Transpose { perm: perm.to_vec() }, &[a])
    }

    /// The last two dims exchanged.
    pub fn transpose_last(&mut self, a: Val) -> Result<Val> {
        let mut perm: Vec<usize> = (0..self.rank(a)).collect();
        let n = perm.len();
        perm.swap(n - 1, n - 2);
        self.transpose(a, &perm)
    }

    /// Numpy's broadcast to `shape`.
    pub fn broadcast_to(&mut self, a: Val, shape: &[usize]) -> Result<Val> {
        let from = self.shape(a);
        let fits = from.len() <= shape.len()
            && from.iter().zip(&shape[shape.len() - from.len()..]).all(|(a, b)| a == b || *a == 1);
        if !fits {
            return Err(Diagnostic::new(Code::Shape, format!("{from:?} does not broadcast to {shape:?}"))
                .help("extents must be equal or 1, aligned at the last axis"));
        }
        if from == shape {
            return Ok(a);
        }
        let dims: Vec<usize> = (shape.len() - from.len()..shape.len()).collect();
        // Dims of extent 1 that a reshape put in need no dim of the operand.
        if let Some(op) = self.op_of(a)
            && let OpKind::Reshape { .. } = op.kind
        {
            let inner = op.operands[0];
            if let Some(kept) = squeezed_dims(self.shape(a), self.shape(inner)) {
                let dims = kept.into_iter().map(|d| dims[d]).collect();
                return self.op(OpKind::Broadcast { dims, shape: shape.to_vec() }, &[inner]);
            }
        }
        self.op(OpKind::Broadcast { dims, shape: shape.to_vec() }, &[a])
    }

    /// Elements `offsets + i·strides`.
    pub fn slice(&mut self, a: Val, offsets: &[usize], sizes: &[usize], strides: &[usize]) -> Result<Val> {
        let kind = OpKind::Slice { offsets: offsets.into(), sizes: sizes.into(), strides: strides.into() };
        self.op(kind, &[a])
    }

    /// `size` elements from `offset` along one axis.
    pub fn slice_axis(&mut self, a: Val, axis: usize, offset: usize, size: usize) -> Result<Val> {
        let mut sizes = self.shape(a).to_vec();
        let mut offsets = vec![0; sizes.len()];
        (offsets[axis], sizes[axis]) = (offset, size);
        self.slice(a, &offsets, &sizes, &vec![1; offsets.len()])
    }

    /// Concatenation; parts of extent 0 along `axis` are left out.
    pub fn concat(&mut self, parts: &[Val], axis: usize) -> Result<Val> {
        let empty = |d: &Draft, v: Val| d.shape(v).get(axis) == Some(&0);
        let mut kept: Vec<Val> = parts.iter().copied().filter(|&v| !empty(self, v)).collect();
        if kept.is_empty() {
            kept.extend(parts.first());
        }
        self.op(OpKind::Concat { axis }, &kept)
    }

    /// `a` with a dim of extent 1 put in before dim `axis`.
    pub fn unsqueeze(&mut self, a: Val, axis: usize) -> Result<Val> {
        let mut shape = self.shape(a).to_vec();
        shape.insert(axis, 1);
        self.reshape(a, &shape)
    }

    /// Reduction over `axes` (any order); they stay with extent 1 if `keep` asks so.
    pub fn reduce(&mut self, kind: ReduceKind, a: Val, axes: &[usize], keep: Keep) -> Result<Val> {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        let mut shape = self.shape(a).to_vec();
        let reduced =
            if axes.is_empty() { a } else { self.op(OpKind::Reduce { kind, axes: axes.clone() }, &[a])? };
        match keep {
            Keep::No => Ok(reduced),
            Keep::Dims => {
                axes.iter().for_each(|&d| shape[d] = 1);
                self.reshape(reduced, &shape)
            }
        }
    }

    /// Sum over `axes` divided by the number of elements, dims kept.
    pub fn mean(&mut self, a: Val, axes: &[usize]) -> Result<Val> {
        let count: usize = axes.iter().map(|&d| self.shape(a)[d]).product();
        let sum = self.reduce(ReduceKind::Sum, a, axes, Keep::Dims)?;
        self.map_scalar(MapKind::Div, sum, count as f64)
    }

    /// Contraction; floats accumulate in f32 (f64 in f64) and the result has `dtype`. Of integers the array takes
    /// bytes only, accumulated in i32: others are multiplied and summed elementwise.
    pub fn contract(&mut self, a: Val, b: Val, dims: ContractDims, dtype: DType) -> Result<Val> {
        let is_byte = |d: &Draft, v: Val| matches!(d.dtype(v), DType::I8 | DType::U8);
        let is_bytes = dtype == DType::I32 && is_byte(self, a) && is_byte(self, b);
        if !is_float(dtype) && !is_bytes {
            return self.sum_of_products(a, b, &dims, dtype);
        }
        let acc = match dtype {
            DType::F64 => DType::F64,
            d if is_float(d) => DType::F32,
            _ => DType::I32,
        };
        self.op(OpKind::Contract { dims, acc, dtype }, &[a, b])
    }

    /// A contraction as one product of broadcast operands, summed over its last dims.
    fn sum_of_products(&mut self, a: Val, b: Val, dims: &ContractDims, dtype: DType) -> Result<Val> {
        let (a, b) = (self.cast(a, dtype)?, self.cast(b, dtype)?);
        let (lhs_free, rhs_free) = (dims.lhs_free(self.rank(a)), dims.rhs_free(self.rank(b)));
        let (sa, sb) = (self.shape(a).to_vec(), self.shape(b).to_vec());
        let paired = |pairs: &[usize], others: &[usize]| pairs.len() == others.len();
        let extents = |s: &[usize], list: &[usize]| list.iter().map(|&d| s[d]).collect::<Vec<_>>();
        if !paired(&dims.lhs_batch, &dims.rhs_batch)
            || extents(&sa, &dims.lhs_contract) != extents(&sb, &dims.rhs_contract)
        {
            return Err(Diagnostic::new(Code::Shape, format!("cannot contract {sa:?} with {sb:?}")));
        }
        // Dims in order: batch, left free, right free, contracted.
        let perm_a = [&dims.lhs_batch[..], &lhs_free, &dims.lhs_contract].concat();
        let perm_b = [&dims.rhs_batch[..], &rhs_free, &dims.rhs_contract].concat();
        let (a, b) = (self.transpose(a, &perm_a)?, self.transpose(b, &perm_b)?);
        let ones = |n: usize| vec![1; n];
        let shape_a = [
            extents(&sa, &dims.lhs_batch),
            extents(&sa, &lhs_free),
            ones(rhs_free.len()),
            extents(&sa, &dims.lhs_contract),
        ]
        .concat();
        let shape_b = [
            extents(&sb, &dims.rhs_batch),
            ones(lhs_free.len()),
            extents(&sb, &rhs_free),
            extents(&sb, &dims.rhs_contract),
        ]
        .concat();
        let (a, b) = (self.reshape(a, &shape_a)?, self.reshape(b, &shape_b)?);
        let product = self.map2(MapKind::Mul, a, b)?;
        let rank = self.rank(product);
        let summed: Vec<usize> = (rank - dims.lhs_contract.len()..rank).collect();
        self.reduce(ReduceKind::Sum, product, &summed, Keep::No)
    }

    /// Numpy's `matmul`: `[…, m, k] × […, k, n]`, batch dims broadcast, vectors allowed.
    pub fn matmul(&mut self, a: Val, b: Val, dtype: DType) -> Result<Val> {
        let (ra, rb) = (self.rank(a), self.rank(b));
        if ra == 0 || rb == 0 {
            return Err(Diagnostic::new(
                Code::Shape,
                "a matrix product needs operands with at least one dim",
            ));
        }
        if ra == 1 || rb == 1 {
            let a2 = if ra == 1 { self.unsqueeze(a, 0)? } else { a };
            let b2 = if rb == 1 { self.unsqueeze(b, 1)? } else { b };
            let product = self.matmul(a2, b2, dtype)?;
            let mut shape = self.shape(product).to_vec();
            if rb == 1 {
                shape.pop();
            }
            if ra == 1 {
                shape.remove(shape.len() - 1 - usize::from(rb != 1));
            }
            return self.reshape(product, &shape);
        }
        let (sa, sb) = (self.shape(a).to_vec(), self.shape(b).to_vec());
        if sa[ra - 1] != sb[rb - 2] {
            return Err(Diagnostic::new(
                Code::Shape,
                format!("cannot multiply {sa:?} by {sb:?}: {} columns meet {} rows", sa[ra - 1], sb[rb - 2]),
            ));
        }
        // Without a batch on the right, all leading dims on the left are rows.
        if sb[..rb - 2].iter().all(|&n| n == 1) && ra >= rb {
            let flat = self.reshape(b, &sb[rb - 2..])?;
            let dims = ContractDims {
                lhs_batch: vec![],
                rhs_batch: vec![],
                lhs_contract: vec![ra - 1],
                rhs_contract: vec![0],
            };
            return self.contract(a, flat, dims, dtype);
        }
        let batch = broadcast_shape(&[&sa[..ra - 2], &sb[..rb - 2]])?;
        let whole = |s: &[usize]| [&batch[..], &s[s.len() - 2..]].concat();
        let (a, b) = (self.broadcast_to(a, &whole(&sa))?, self.broadcast_to(b, &whole(&sb))?);
        self.contract(a, b, ContractDims::matmul(batch.len()), dtype)
    }

    /// The index along `axis`, as `dtype` (an integer dtype, or f32).
    pub fn iota(&mut self, shape: &[usize], axis: usize, dtype: DType) -> Result<Val> {
        let made = if dtype == DType::F32 { DType::F32 } else { DType::I32 };
        let v = self.op(OpKind::Iota { ty: TensorType::new(made, shape), axis }, &[])?;
        match dtype {
            DType::F32 | DType::I32 => Ok(v),
            DType::I64 => Ok(self.relabel(v, DType::I64)),
            other => self.cast(v, other),
        }
    }

    /// exp(x − max) / Σ exp(x − max) along `axis`.
    pub fn softmax(&mut self, x: Val, axis: usize) -> Result<Val> {
        let max = self.reduce(ReduceKind::Max, x, &[axis], Keep::Dims)?;
        let shifted = self.map2(MapKind::Sub, x, max)?;
        let exp = self.map1(MapKind::Exp, shifted)?;
        let sum = self.reduce(ReduceKind::Sum, exp, &[axis], Keep::Dims)?;
        self.map2(MapKind::Div, exp, sum)
    }
}

/// Whether a reduction leaves its axes with extent 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// They go.
    No,
    /// They stay.
    Dims,
}

/// For each dim of `inner` its dim of `outer`, when `outer` is `inner` with dims of extent 1 put in.
fn squeezed_dims(outer: &[usize], inner: &[usize]) -> Option<Vec<usize>> {
    let mut dims = Vec::with_capacity(inner.len());
    let mut next = 0;
    for (d, &n) in outer.iter().enumerate() {
        let rest = outer.len() - d;
        if next < inner.len() && inner[next] == n && (n != 1 || inner.len() - next == rest) {
            dims.push(d);
            next += 1;
        } else if n != 1 {
            return None;
        }
    }
    (next == inner.len()).then_some(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_like_numpy() {
        assert_eq!(broadcast_shape(&[&[2, 1, 3], &[4, 1]]).ok(), Some(vec![2, 4, 3]));
        assert_eq!(broadcast_shape(&[&[0], &[1]]).ok(), Some(vec![0]));
        assert_eq!(broadcast_shape(&[&[2], &[3]]).map_err(|d| d.code), Err(Code::Shape));
    }

    #[test]
    fn inserted_ones_are_seen() {
        assert_eq!(squeezed_dims(&[2, 1, 3], &[2, 3]), Some(vec![0, 2]));
        assert_eq!(squeezed_dims(&[1, 1, 3], &[1, 3]), Some(vec![1, 2]));
        assert_eq!(squeezed_dims(&[6], &[2, 3]), None);
    }
}
