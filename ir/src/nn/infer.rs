//! Result types of `nn` ops, and the rules their operands must obey.
//!
//! The C++ verifiers state the same rules again; this copy gives errors before anything is built.

use super::kind::*;
use crate::error::{IrError, Result};
use crate::types::{DType, Scalar, TensorType, dtype_name, is_float, is_int};

impl OpKind {
    /// The result types for operands of these types.
    ///
    /// # Errors
    /// [`IrError::Build`] naming the rule broken and the shapes or dtypes concerned.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>> {
        let rule = Rule { op: self.name(), operands };
        if let Some(n) = self.operand_count() {
            rule.check(operands.len() == n, || format!("takes {n} operands, not {}", operands.len()))?;
        }
        let one = |ty: TensorType| Ok(vec![ty]);
        match self {
            OpKind::Constant { ty, bytes } => {
                rule.check(bytes.len() == ty.size_bytes(), || {
                    format!("{ty} needs {} bytes, not {}", ty.size_bytes(), bytes.len())
                })?;
                one(ty.clone())
            }
            OpKind::Weight { ty, length, .. } => {
                rule.check(*length == ty.size_bytes() as u64, || {
                    format!("{ty} needs {} bytes, not {length}", ty.size_bytes())
                })?;
                one(ty.clone())
            }
            OpKind::Map { kind } => one(rule.map(*kind)?),
            OpKind::Cast { dtype } => one(operands[0].with_dtype(*dtype)),
            OpKind::Contract { dims, acc, dtype } => one(rule.contract(dims, *acc, *dtype)?),
            OpKind::Reduce { kind, axes } => one(rule.reduce(*kind, axes)?),
            OpKind::Reshape { shape } => {
                let ty = TensorType::new(operands[0].dtype, shape.clone());
                rule.check(ty.elements() == operands[0].elements(), || {
                    format!("cannot view {} as {ty}: the numbers of elements differ", operands[0])
                })?;
                one(ty)
            }
            OpKind::Transpose { perm } => {
                let x = operands[0];
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                rule.check(sorted.iter().copied().eq(0..x.rank()), || {
                    format!("perm {perm:?} is no permutation of the {} dims of {x}", x.rank())
                })?;
                one(TensorType::new(x.dtype, perm.iter().map(|&p| x.shape[p]).collect::<Vec<_>>()))
            }
            OpKind::Broadcast { dims, shape } => one(rule.broadcast(dims, shape)?),
            OpKind::Slice { offsets, sizes, strides } => one(rule.slice(offsets, sizes, strides)?),
            OpKind::Pad { low, high, value } => one(rule.pad(low, high, *value)?),
            OpKind::Concat { axis } => one(rule.concat(*axis)?),
            OpKind::Reverse { axes } => {
                rule.axes("axes", axes, operands[0])?;
                one(operands[0].clone())
            }
            OpKind::Iota { ty, axis } => {
                rule.axis("axis", *axis, ty)?;
                rule.check(matches!(ty.dtype, DType::I32 | DType::F32), || {
                    format!("gives i32 or f32, not {}", dtype_name(ty.dtype))
                })?;
                one(ty.clone())
            }
            OpKind::Gather { axis } => {
                let (x, indices) = (operands[0], operands[1]);
                rule.axis("axis", *axis, x)?;
                rule.indices(indices)?;
                let mut shape = x.shape.clone();
                shape.splice(*axis..*axis + 1, indices.shape.iter().copied());
                one(TensorType::new(x.dtype, shape))
            }
            OpKind::GatherElements { axis } => one(rule.gather_elements(*axis)?),
            OpKind::GatherNd { batch_dims } => one(rule.gather_nd(*batch_dims)?),
            OpKind::ScatterNd { .. } => one(rule.scatter_nd()?),
            OpKind::ScatterElements { axis, .. } => {
                let (x, indices, updates) = (operands[0], operands[1], operands[2]);
                rule.axis("axis", *axis, x)?;
                rule.indices(indices)?;
                rule.check(indices.rank() == x.rank() && indices.shape == updates.shape, || {
                    format!("indices {indices} and updates {updates} must have one shape and the rank of {x}")
                })?;
                rule.check((0..x.rank()).all(|d| d == *axis || indices.shape[d] <= x.shape[d]), || {
                    format!("indices {indices} reach past {x} off the axis {axis}")
                })?;
                rule.same_dtype(x, updates)?;
                one(x.clone())
            }
            OpKind::Scan { axis, .. } => {
                rule.axis("axis", *axis, operands[0])?;
                rule.arithmetic(operands[0])?;
                one(operands[0].clone())
            }
            OpKind::TopK { k, axis, .. } => {
                let x = operands[0];
                rule.axis("axis", *axis, x)?;
                rule.arithmetic(x)?;
                rule.check(*k <= x.shape[*axis], || {
                    format!("k = {k} exceeds the {} of {x}", x.shape[*axis])
                })?;
                let mut ty = x.clone();
                ty.shape[*axis] = *k;
                Ok(vec![ty.clone(), ty.with_dtype(DType::I32)])
            }
            OpKind::Conv { .. } => one(rule.conv(self)?),
        }
    }

    /// Number of operands, or none where it varies (`nn.concat`).
    pub fn operand_count(&self) -> Option<usize> {
        Some(match self {
            OpKind::Constant { .. } | OpKind::Weight { .. } | OpKind::Iota { .. } => 0,
            OpKind::Map { kind } => kind.arity(),
            OpKind::Concat { .. } => return None,
            OpKind::Contract { .. }
            | OpKind::Gather { .. }
            | OpKind::GatherElements { .. }
            | OpKind::GatherNd { .. }
            | OpKind::Conv { .. } => 2,
            OpKind::ScatterNd { .. } | OpKind::ScatterElements { .. } => 3,
            _ => 1,
        })
    }
}

/// The operands under test, with the op's name for messages.
struct Rule<'a> {
    op: &'static str,
    operands: &'a [&'a TensorType],
}

impl Rule<'_> {
    fn check(&self, holds: bool, message: impl FnOnce() -> String) -> Result<()> {
        if holds { Ok(()) } else { Err(IrError::build(self.op, message())) }
    }

    fn axis(&self, what: &str, axis: usize, ty: &TensorType) -> Result<()> {
        self.check(axis < ty.rank(), || format!("{what} {axis} is no dim of {ty}"))
    }

    /// Ascending, distinct, within the rank.
    fn axes(&self, what: &str, axes: &[usize], ty: &TensorType) -> Result<()> {
        self.check(axes.is_sorted_by(|a, b| a < b), || format!("{what} {axes:?} must ascend"))?;
        axes.iter().try_for_each(|&a| self.axis(what, a, ty))
    }

    fn same_dtype(&self, a: &TensorType, b: &TensorType) -> Result<()> {
        self.check(a.dtype == b.dtype, || format!("element types differ: {a} and {b}"))
    }

    fn indices(&self, ty: &TensorType) -> Result<()> {
        self.check(ty.dtype == DType::I32, || format!("indices must be i32, not {ty}"))
    }

    fn arithmetic(&self, ty: &TensorType) -> Result<()> {
        self.check(ty.dtype != DType::Bool, || format!("has no meaning on {ty}"))
    }

    fn map(&self, kind: MapKind) -> Result<TensorType> {
        use MapKind::*;
        let first = self.operands[0];
        let values = if kind == Select { &self.operands[1..] } else { self.operands };
        for ty in self.operands {
            self.check(ty.shape == first.shape, || format!("{kind}: shapes differ: {first} and {ty}"))?;
        }
        for ty in values {
            self.same_dtype(values[0], ty)?;
        }
        let dtype = values[0].dtype;
        let fits = match kind {
            Select => first.dtype == DType::Bool,
            Eq | Ne | Identity => true,
            And | Or | Xor | Not => !is_float(dtype),
            Shl | Shr => is_int(dtype),
            Add | Sub | Mul | Div | Max | Min | Pow | Mod | Fmod | Lt | Le | Gt | Ge => dtype != DType::Bool,
            Neg | Abs | Sign | Relu | Square => dtype != DType::Bool,
            _ => is_float(dtype),
        };
        self.check(fits, || format!("{kind} is not defined on {first}"))?;
        let bool_result = kind.is_compare() || matches!(kind, IsNan | IsInf);
        Ok(values[0].with_dtype(if bool_result { DType::Bool } else { dtype }))
    }

    fn contract(&self, dims: &ContractDims, acc: DType, dtype: DType) -> Result<TensorType> {
        let (l, r) = (self.operands[0], self.operands[1]);
        self.check(dims.lhs_batch.len() == dims.rhs_batch.len(), || "batch dims do not pair".into())?;
        self.check(dims.lhs_contract.len() == dims.rhs_contract.len(), || {
            "contracted dims do not pair".into()
        })?;
        for (ty, batch, contract) in
            [(l, &dims.lhs_batch, &dims.lhs_contract), (r, &dims.rhs_batch, &dims.rhs_contract)]
        {
            let mut all: Vec<usize> = batch.iter().chain(contract).copied().collect();
            all.sort_unstable();
            self.check(all.is_sorted_by(|a, b| a < b), || format!("a dim of {ty} is named twice"))?;
            all.iter().try_for_each(|&d| self.axis("dim", d, ty))?;
        }
        for (&a, &b) in dims.lhs_batch.iter().zip(&dims.rhs_batch) {
            self.check(l.shape[a] == r.shape[b], || {
                format!("batch extents differ: {} and {} ({l} and {r})", l.shape[a], r.shape[b])
            })?;
        }
        for (&a, &b) in dims.lhs_contract.iter().zip(&dims.rhs_contract) {
            self.check(l.shape[a] == r.shape[b], || {
                format!("contracted extents differ: {} and {} ({l} and {r})", l.shape[a], r.shape[b])
            })?;
        }
        let wide = acc == DType::F64 && l.dtype == DType::F64 && r.dtype == DType::F64;
        let floats = is_float(l.dtype) && is_float(r.dtype) && (acc == DType::F32 || wide) && is_float(dtype);
        let ints = is_int(l.dtype) && is_int(r.dtype) && acc == DType::I32 && is_int(dtype);
        self.check(floats || ints, || {
            format!(
                "operands {l} and {r} with accumulator {} and result {}: floats accumulate in f32 (f64 in f64), integers in i32",
                dtype_name(acc),
                dtype_name(dtype)
            )
        })?;
        let mut shape: Vec<usize> = dims.lhs_batch.iter().map(|&d| l.shape[d]).collect();
        shape.extend(dims.lhs_free(l.rank()).iter().map(|&d| l.shape[d]));
        shape.extend(dims.rhs_free(r.rank()).iter().map(|&d| r.shape[d]));
        Ok(TensorType::new(dtype, shape))
    }

    fn reduce(&self, kind: ReduceKind, axes: &[usize]) -> Result<TensorType> {
        let x = self.operands[0];
        self.axes("axes", axes, x)?;
        self.arithmetic(x)?;
        let arg = matches!(kind, ReduceKind::Argmax | ReduceKind::Argmin);
        self.check(!arg || axes.len() == 1, || format!("{kind} takes one axis, not {axes:?}"))?;
        let empty = axes.iter().any(|&a| x.shape[a] == 0);
        self.check(!arg || !empty, || format!("{kind} over no element of {x}"))?;
        let shape: Vec<usize> = (0..x.rank()).filter(|d| !axes.contains(d)).map(|d| x.shape[d]).collect();
        Ok(TensorType::new(if arg { DType::I32 } else { x.dtype }, shape))
    }

    fn broadcast(&self, dims: &[usize], shape: &[usize]) -> Result<TensorType> {
        let x = self.operands[0];
        let ty = TensorType::new(x.dtype, shape);
        self.check(dims.len() == x.rank(), || format!("dims {dims:?} must name each dim of {x}"))?;
        self.axes("dims", dims, &ty)?;
        for (i, &d) in dims.iter().enumerate() {
            self.check(x.shape[i] == shape[d] || x.shape[i] == 1, || {
                format!("dim {i} of {x} cannot become dim {d} of {ty}")
            })?;
        }
        Ok(ty)
    }

    fn slice(&self, offsets: &[usize], sizes: &[usize], strides: &[usize]) -> Result<TensorType> {
        let x = self.operands[0];
        let r = x.rank();
        self.check(offsets.len() == r && sizes.len() == r && strides.len() == r, || {
            format!("offsets, sizes and strides must have one entry for each dim of {x}")
        })?;
        for d in 0..r {
            self.check(strides[d] > 0, || format!("stride of dim {d} must be positive"))?;
            let end = if sizes[d] == 0 { offsets[d] } else { offsets[d] + (sizes[d] - 1) * strides[d] + 1 };
            self.check(end <= x.shape[d], || format!("dim {d} of {x} is read up to {end}"))?;
        }
        Ok(TensorType::new(x.dtype, sizes))
    }

    fn pad(&self, low: &[usize], high: &[usize], value: Scalar) -> Result<TensorType> {
        let x = self.operands[0];
        self.check(low.len() == x.rank() && high.len() == x.rank(), || {
            format!("low and high must have one entry for each dim of {x}")
        })?;
        self.check(matches!(value, Scalar::Float(_)) == is_float(x.dtype), || {
            format!("the value must be of the kind of {x}: a float for floats, an integer else")
        })?;
        let shape: Vec<usize> = (0..x.rank()).map(|d| low[d] + x.shape[d] + high[d]).collect();
        Ok(TensorType::new(x.dtype, shape))
    }

    fn concat(&self, axis: usize) -> Result<TensorType> {
        let Some((&first, rest)) = self.operands.split_first() else {
            return Err(IrError::build(self.op, "takes at least one operand"));
        };
        self.axis("axis", axis, first)?;
        let mut ty = first.clone();
        for x in rest {
            self.same_dtype(first, x)?;
            let fits =
                x.rank() == first.rank() && (0..x.rank()).all(|d| d == axis || x.shape[d] == first.shape[d]);
            self.check(fits, || format!("{first} and {x} differ off the axis {axis}"))?;
            ty.shape[axis] += x.shape[axis];
        }
        Ok(ty)
    }

    fn gather_elements(&self, axis: usize) -> Result<TensorType> {
        let (x, indices) = (self.operands[0], self.operands[1]);
        self.axis("axis", axis, x)?;
        self.indices(indices)?;
        let fits =
            indices.rank() == x.rank() && (0..x.rank()).all(|d| d == axis || indices.shape[d] <= x.shape[d]);
        self.check(fits, || format!("indices {indices} reach past {x} off the axis {axis}"))?;
        Ok(TensorType::new(x.dtype, indices.shape.clone()))
    }

    /// Length of the index tuples, the last dim of `indices`; checks the batch dims.
    fn tuple_len(&self, batch_dims: usize) -> Result<usize> {
        let (x, indices) = (self.operands[0], self.operands[1]);
        self.indices(indices)?;
        let Some(&tuple) = indices.shape.last() else {
            return Err(IrError::build(self.op, "indices must have at least one dim"));
        };
        self.check(batch_dims < indices.rank() && batch_dims + tuple <= x.rank(), || {
            format!("{batch_dims} batch dims and tuples of {tuple} exceed {x}")
        })?;
        self.check(x.shape[..batch_dims] == indices.shape[..batch_dims], || {
            format!("batch dims of {x} and {indices} differ")
        })?;
        Ok(tuple)
    }

    fn gather_nd(&self, batch_dims: usize) -> Result<TensorType> {
        let tuple = self.tuple_len(batch_dims)?;
        let (x, indices) = (self.operands[0], self.operands[1]);
        let mut shape = indices.shape[..indices.rank() - 1].to_vec();
        shape.extend(&x.shape[batch_dims + tuple..]);
        Ok(TensorType::new(x.dtype, shape))
    }

    fn scatter_nd(&self) -> Result<TensorType> {
        let tuple = self.tuple_len(0)?;
        let (x, indices, updates) = (self.operands[0], self.operands[1], self.operands[2]);
        let mut shape = indices.shape[..indices.rank() - 1].to_vec();
        shape.extend(&x.shape[tuple..]);
        self.check(updates.shape == shape, || format!("updates must have shape {shape:?}, not {updates}"))?;
        self.same_dtype(x, updates)?;
        Ok(x.clone())
    }

    fn conv(&self, kind: &OpKind) -> Result<TensorType> {
        let OpKind::Conv { strides, pads_low, pads_high, dilations, groups } = kind else {
            return Err(IrError::build(self.op, "not a convolution"));
        };
        let (x, w) = (self.operands[0], self.operands[1]);
        self.same_dtype(x, w)?;
        self.check(is_float(x.dtype), || format!("is defined on floats, not {x}"))?;
        self.check(x.rank() >= 3 && w.rank() == x.rank(), || {
            format!("data {x} and kernel {w} must have one rank, at least 3")
        })?;
        let spatial = x.rank() - 2;
        let lens = [strides.len(), pads_low.len(), pads_high.len(), dilations.len()];
        self.check(lens.iter().all(|&n| n == spatial), || {
            format!("strides, pads and dilations must have {spatial} entries")
        })?;
        let g = *groups;
        self.check(g > 0 && x.shape[1] == w.shape[1] * g && w.shape[0] % g == 0, || {
            format!("{g} groups do not divide the channels of {x} and {w}")
        })?;
        let mut shape = vec![x.shape[0], w.shape[0]];
        for d in 0..spatial {
            self.check(strides[d] > 0 && dilations[d] > 0 && w.shape[d + 2] > 0, || {
                "strides, dilations and kernel extents must be positive".into()
            })?;
            let reach = dilations[d] * (w.shape[d + 2] - 1) + 1;
            let padded = pads_low[d] + x.shape[d + 2] + pads_high[d];
            self.check(padded >= reach, || format!("the kernel of {w} exceeds the padded {x}"))?;
            shape.push((padded - reach) / strides[d] + 1);
        }
        Ok(TensorType::new(x.dtype, shape))
    }
}
