//! Building `nn` functions: one method an op, result types inferred, the current origin attached.

use super::codec;
use super::func::{Func, Op, Port, ValueId};
use super::kind::*;
use crate::context::Context;
use crate::error::{IrError, Result};
use crate::ffi::{self, Attr, OpParts, OwnedOp, Ty};
use crate::module::Module;
use crate::origin::Origin;
use crate::types::{DType, Scalar, Tensor, TensorType};

/// Builds one function op by op. Nothing shows in a module before [`FuncBuilder::finish`].
pub struct FuncBuilder {
    // Before `context`: the IR must go first.
    op: OwnedOp,
    context: Context,
    name: String,
    args: Vec<Port>,
    values: Vec<ffi::Value>,
    types: Vec<TensorType>,
    origin: Origin,
}

impl FuncBuilder {
    /// Starts a public function.
    pub fn new(context: &Context, name: &str, args: &[(TensorType, Port)]) -> Result<Self> {
        Self::start(context, name, args, false)
    }

    /// Starts a private function without arguments: a fold.
    pub fn fold(context: &Context, name: &str) -> Result<Self> {
        Self::start(context, name, &[], true)
    }

    /// Starts a function with the name, the visibility and the arguments of `other`.
    pub fn like(context: &Context, other: &Func) -> Result<Self> {
        let args: Vec<_> =
            other.arg_values().map(|v| other.ty(v).clone()).zip(other.args.iter().cloned()).collect();
        Self::start(context, &other.name, &args, other.private)
    }

    fn start(context: &Context, name: &str, args: &[(TensorType, Port)], private: bool) -> Result<Self> {
        let types: Vec<TensorType> = args.iter().map(|(ty, _)| ty.clone()).collect();
        let tys: Vec<Ty> = types.iter().cloned().map(Ty::Tensor).collect();
        let mut attrs = vec![
            ("sym_name", Attr::Text(name.to_owned())),
            ("arg_attrs", Attr::List(args.iter().map(|(_, port)| codec::encode_port(port)).collect())),
        ];
        if private {
            attrs.push(("sym_visibility", Attr::Text("private".into())));
        }
        let parts = OpParts {
            name: "func.func",
            operands: &[],
            results: &[],
            attrs: &attrs,
            regions: std::slice::from_ref(&tys),
            origin: &Origin::default(),
        };
        let op = OwnedOp::new(&context.0, &parts).ok_or_else(|| context.refused("func.func"))?;
        let values = op.get().block(0).map(|b| b.args()).unwrap_or_default();
        Ok(FuncBuilder {
            op,
            context: context.clone(),
            name: name.to_owned(),
            args: args.iter().map(|(_, port)| port.clone()).collect(),
            values,
            types,
            origin: Origin::default(),
        })
    }

    /// The value of argument `index`.
    ///
    /// # Panics
    /// When there is no such argument.
    pub fn arg(&self, index: usize) -> ValueId {
        assert!(index < self.args.len(), "argument {index} of {}", self.args.len());
        ValueId(index as u32)
    }

    /// Ops built from now on come from `origin`.
    pub fn set_origin(&mut self, origin: &Origin) {
        self.origin = origin.clone();
    }

    /// The current origin.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Type of a value built so far.
    ///
    /// # Panics
    /// When `value` is not of this builder.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.types[value.index()]
    }

    /// Shape of a value built so far.
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.ty(value).shape
    }

    /// Any op, from its kind; gives all its results.
    ///
    /// # Errors
    /// [`IrError::Build`] with the rule broken.
    pub fn op(&mut self, kind: &OpKind, operands: &[ValueId]) -> Result<Vec<ValueId>> {
        let types: Vec<&TensorType> = operands.iter().map(|v| &self.types[v.index()]).collect();
        let results = kind.infer(&types).map_err(|e| e.with_origin(&self.origin))?;
        let values: Vec<_> = operands.iter().map(|v| self.values[v.index()]).collect();
        let tys: Vec<Ty> = results.iter().cloned().map(Ty::Tensor).collect();
        let new = self.append(&OpParts {
            name: kind.name(),
            operands: &values,
            results: &tys,
            attrs: &codec::encode(kind),
            regions: &[],
            origin: &self.origin,
        })?;
        let first = self.types.len() as u32;
        self.values.extend(new.results());
        self.types.extend(results);
        Ok((first..self.types.len() as u32).map(ValueId).collect())
    }

    /// A copy of `op` of another function with `operands` in place of its own; keeps its origin.
    pub fn clone_op(&mut self, op: &Op, operands: &[ValueId]) -> Result<Vec<ValueId>> {
        let saved = std::mem::replace(&mut self.origin, op.origin.clone());
        let results = self.op(&op.kind, operands);
        self.origin = saved;
        results
    }

    fn append(&self, parts: &OpParts) -> Result<ffi::Op> {
        let op = OwnedOp::new(&self.context.0, parts).ok_or_else(|| self.context.refused(parts.name))?;
        let body =
            self.op.get().block(0).ok_or_else(|| IrError::malformed("a function under construction"))?;
        Ok(body.append(op))
    }

    fn one(&mut self, kind: &OpKind, operands: &[ValueId]) -> Result<ValueId> {
        Ok(self.op(kind, operands)?[0])
    }

    /// Returns `results` and puts the function into `module`, in place of one of the same name.
    pub fn finish(mut self, module: &mut Module, results: &[(ValueId, Port)]) -> Result<()> {
        self.origin = Origin::default();
        let values: Vec<_> = results.iter().map(|(v, _)| self.values[v.index()]).collect();
        self.append(&OpParts {
            name: "func.return",
            operands: &values,
            results: &[],
            attrs: &[],
            regions: &[],
            origin: &Origin::default(),
        })?;
        let inputs: Vec<Ty> = self.types[..self.args.len()].iter().cloned().map(Ty::Tensor).collect();
        let outputs: Vec<Ty> = results.iter().map(|(v, _)| Ty::Tensor(self.ty(*v).clone())).collect();
        self.op.set_function_type(&self.context.0, &inputs, &outputs);
        let ports = results.iter().map(|(_, port)| codec::encode_port(port)).collect();
        self.op.get().set_attr("res_attrs", &Attr::List(ports));
        if !module.context().0.holds(self.op.get()) {
            return Err(IrError::malformed("a function cannot move to a module of another context"));
        }
        module.put(&self.name, self.op);
        Ok(())
    }
}

/// One method an op.
impl FuncBuilder {
    /// A small constant.
    pub fn constant(&mut self, tensor: &Tensor) -> Result<ValueId> {
        let ty = TensorType::new(tensor.dtype, tensor.shape.clone());
        self.one(&OpKind::Constant { ty, bytes: tensor.data.clone() }, &[])
    }

    /// A constant scalar (rank 0) of a float or integer dtype; the value is rounded or wrapped to it.
    pub fn scalar(&mut self, dtype: DType, value: impl Into<Scalar>) -> Result<ValueId> {
        let ty = TensorType::new(dtype, []);
        let bytes = crate::eval::scalar_bytes(dtype, value.into());
        self.one(&OpKind::Constant { ty, bytes: bytes.into() }, &[])
    }

    /// A scalar broadcast to `shape`.
    pub fn splat(&mut self, dtype: DType, value: impl Into<Scalar>, shape: &[usize]) -> Result<ValueId> {
        let scalar = self.scalar(dtype, value)?;
        self.broadcast(scalar, &[], shape)
    }

    /// Bytes `offset..` of file number `file`, as many as the type needs.
    pub fn weight(&mut self, file: u32, offset: u64, shape: &[usize], dtype: DType) -> Result<ValueId> {
        let ty = TensorType::new(dtype, shape);
        let length = ty.size_bytes() as u64;
        self.one(&OpKind::Weight { ty, file, offset, length }, &[])
    }

    /// Elementwise; all operands have one shape.
    pub fn map(&mut self, kind: MapKind, operands: &[ValueId]) -> Result<ValueId> {
        self.one(&OpKind::Map { kind }, operands)
    }

    /// Conversion; a cast to the dtype it has is the value itself.
    pub fn cast(&mut self, x: ValueId, dtype: DType) -> Result<ValueId> {
        if self.ty(x).dtype == dtype { Ok(x) } else { self.one(&OpKind::Cast { dtype }, &[x]) }
    }

    /// Generalised product in the dtype of `lhs`, accumulated in f32 (f64 for f64), or in i32.
    pub fn contract(&mut self, lhs: ValueId, rhs: ValueId, dims: &ContractDims) -> Result<ValueId> {
        let dtype = self.ty(lhs).dtype;
        self.contract_as(lhs, rhs, dims, dtype)
    }

    /// Generalised product with a result dtype of choice.
    pub fn contract_as(
        &mut self,
        lhs: ValueId,
        rhs: ValueId,
        dims: &ContractDims,
        dtype: DType,
    ) -> Result<ValueId> {
        let acc = match (self.ty(lhs).dtype, self.ty(rhs).dtype) {
            (DType::F64, DType::F64) => DType::F64,
            (l, _) if crate::types::is_float(l) => DType::F32,
            _ => DType::I32,
        };
        self.one(&OpKind::Contract { dims: dims.clone(), acc, dtype }, &[lhs, rhs])
    }

    /// Reduction over `axes` (ascending), which are removed.
    pub fn reduce(&mut self, kind: ReduceKind, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        self.one(&OpKind::Reduce { kind, axes: axes.to_vec() }, &[x])
    }

    /// The same elements under another shape; the same shape is the value itself.
    pub fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId> {
        if self.shape(x) == shape {
            Ok(x)
        } else {
            self.one(&OpKind::Reshape { shape: shape.to_vec() }, &[x])
        }
    }

    /// Result dim `i` is operand dim `perm[i]`.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        self.one(&OpKind::Transpose { perm: perm.to_vec() }, &[x])
    }

    /// Operand dim `i` becomes result dim `dims[i]`.
    pub fn broadcast(&mut self, x: ValueId, dims: &[usize], shape: &[usize]) -> Result<ValueId> {
        if self.shape(x) == shape && dims.iter().copied().eq(0..shape.len()) {
            return Ok(x);
        }
        self.one(&OpKind::Broadcast { dims: dims.to_vec(), shape: shape.to_vec() }, &[x])
    }

    /// numpy's broadcast of `x` to `shape`: dims are aligned at the end.
    pub fn broadcast_to(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId> {
        let rank = self.ty(x).rank();
        let lead = shape.len().checked_sub(rank).ok_or_else(|| {
            IrError::build("nn.broadcast", format!("cannot broadcast {} to {shape:?}", self.ty(x)))
        })?;
        self.broadcast(x, &(lead..shape.len()).collect::<Vec<_>>(), shape)
    }

    /// A strided box; `sizes` counts elements of the result.
    pub fn slice(
        &mut self,
        x: ValueId,
        offsets: &[usize],
        sizes: &[usize],
        strides: &[usize],
    ) -> Result<ValueId> {
        let kind =
            OpKind::Slice { offsets: offsets.to_vec(), sizes: sizes.to_vec(), strides: strides.to_vec() };
        self.one(&kind, &[x])
    }

    /// Constant padding.
    pub fn pad(
        &mut self,
        x: ValueId,
        low: &[usize],
        high: &[usize],
        value: impl Into<Scalar>,
    ) -> Result<ValueId> {
        self.one(&OpKind::Pad { low: low.to_vec(), high: high.to_vec(), value: value.into() }, &[x])
    }

    /// Operands one after another along `axis`; a single one is itself.
    pub fn concat(&mut self, operands: &[ValueId], axis: usize) -> Result<ValueId> {
        if let [one] = operands { Ok(*one) } else { self.one(&OpKind::Concat { axis }, operands) }
    }

    /// Order reversed along `axes` (ascending).
    pub fn reverse(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        self.one(&OpKind::Reverse { axes: axes.to_vec() }, &[x])
    }

    /// The index along `axis`, i32 or f32.
    pub fn iota(&mut self, dtype: DType, shape: &[usize], axis: usize) -> Result<ValueId> {
        self.one(&OpKind::Iota { ty: TensorType::new(dtype, shape), axis }, &[])
    }

    /// numpy's `take`; indices are i32 and not negative.
    pub fn gather(&mut self, data: ValueId, indices: ValueId, axis: usize) -> Result<ValueId> {
        self.one(&OpKind::Gather { axis }, &[data, indices])
    }

    /// ONNX GatherElements with non-negative i32 indices.
    pub fn gather_elements(&mut self, data: ValueId, indices: ValueId, axis: usize) -> Result<ValueId> {
        self.one(&OpKind::GatherElements { axis }, &[data, indices])
    }

    /// ONNX GatherND with non-negative i32 indices.
    pub fn gather_nd(&mut self, data: ValueId, indices: ValueId, batch_dims: usize) -> Result<ValueId> {
        self.one(&OpKind::GatherNd { batch_dims }, &[data, indices])
    }

    /// ONNX ScatterND with non-negative i32 indices.
    pub fn scatter_nd(
        &mut self,
        data: ValueId,
        indices: ValueId,
        updates: ValueId,
        reduction: ScatterReduction,
    ) -> Result<ValueId> {
        self.one(&OpKind::ScatterNd { reduction }, &[data, indices, updates])
    }

    /// ONNX ScatterElements with non-negative i32 indices.
    pub fn scatter_elements(
        &mut self,
        data: ValueId,
        indices: ValueId,
        updates: ValueId,
        axis: usize,
        reduction: ScatterReduction,
    ) -> Result<ValueId> {
        self.one(&OpKind::ScatterElements { axis, reduction }, &[data, indices, updates])
    }

    /// Cumulative along `axis`; see [`OpKind::Scan`] for `exclusive` and `reverse` through [`FuncBuilder::op`].
    pub fn scan(&mut self, kind: ScanKind, x: ValueId, axis: usize) -> Result<ValueId> {
        self.one(&OpKind::Scan { kind, axis, exclusive: false, reverse: false }, &[x])
    }

    /// The `k` largest along `axis`, sorted: values and i32 indices.
    pub fn topk(&mut self, x: ValueId, k: usize, axis: usize) -> Result<(ValueId, ValueId)> {
        let results = self.op(&OpKind::TopK { k, axis, largest: true }, &[x])?;
        Ok((results[0], results[1]))
    }
}
