//! The draft: the model as `nn` ops over owned ids, before it becomes MLIR.
//!
//! Ops of the importer speak to the draft only. It infers types, folds what is known, keeps an interval for
//! every integer, and drops what nothing needs when it is emitted. Dtypes here are the model's: int64 turns
//! into the device's i32 only on emission, so that folded index arithmetic is exact.

mod compose;
mod range;

use bytes::Bytes;
use indexmap::IndexMap;
use kiln_ir::Origin;
use kiln_ir::nn::{MapKind, OpKind};
use kiln_ir::types::TensorType;
use kiln_machine::tensor::{DType, Tensor};

use crate::diagnostics::{Code, Diagnostic};
use crate::fold::{self, is_float};
use crate::model_file::{FilePlace, MAX_TABLE, Payload};

pub use compose::{Keep, broadcast_shape};
pub use range::Range;

/// Result of building.
pub type Result<T> = std::result::Result<T, Diagnostic>;

/// Integers and bools fold up to this many bytes: index arithmetic, and masks of a few hundred positions.
/// Larger masks stay comparisons of iotas, which say more and weigh less.
const INT_FOLD_LIMIT_BYTES: usize = 1 << 20;

/// Computed floats fold up to this many bytes, the size of an `nn.constant`; more is a recipe for the passes.
const FLOAT_FOLD_LIMIT_BYTES: usize = 64 << 10;

/// Floats and narrow integers that stand in a file are weights, unless they are this few.
const SCALAR_LIMIT: usize = 4;

/// A value of the draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Val(u32);

/// A tensor known at import.
#[derive(Debug, Clone)]
pub struct Known {
    /// The elements; a scalar when `splat`.
    pub tensor: Tensor,
    /// Where the bytes stand, if they are a file's.
    pub place: Option<FilePlace>,
    /// Every element equals the scalar.
    pub splat: bool,
}

/// What makes a value.
#[derive(Debug, Clone)]
pub enum Def {
    /// Input of the model, by position.
    Input(usize),
    /// Known at import.
    Known(Known),
    /// Result `result` of op `op`.
    Op { op: usize, result: usize },
}

/// An `nn` op of the draft.
#[derive(Debug, Clone)]
pub struct DraftOp {
    /// The op and its attributes, dtypes as in the model.
    pub kind: OpKind,
    /// Operands.
    pub operands: Vec<Val>,
    /// The ONNX node.
    pub origin: Origin,
}

/// A value's facts.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Dtype (the model's) and shape.
    pub ty: TensorType,
    /// What makes it.
    pub def: Def,
    /// Interval of an integer value.
    pub range: Range,
}

/// The graph under construction.
#[derive(Debug, Default)]
pub struct Draft {
    slots: Vec<Slot>,
    ops: Vec<DraftOp>,
    /// Origin of what is built next.
    origin: Origin,
    /// Tighter ranges that uses of an input ask for.
    demands: IndexMap<usize, Range>,
    exceeds_32_bits: bool,
}

impl Draft {
    /// Everything built from now on comes from this node.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// Dtype and shape of `v`.
    pub fn ty(&self, v: Val) -> &TensorType {
        &self.slots[v.0 as usize].ty
    }

    /// Extents of `v`.
    pub fn shape(&self, v: Val) -> &[usize] {
        &self.ty(v).shape
    }

    /// Number of dims of `v`.
    pub fn rank(&self, v: Val) -> usize {
        self.ty(v).rank()
    }

    /// Dtype of `v`.
    pub fn dtype(&self, v: Val) -> DType {
        self.ty(v).dtype
    }

    /// Interval of the integer `v`.
    pub fn range(&self, v: Val) -> Range {
        self.slots[v.0 as usize].range
    }

    /// All facts of `v`.
    pub fn slot(&self, v: Val) -> &Slot {
        &self.slots[v.0 as usize]
    }

    /// The op that makes `v`, unless it is an input or known.
    pub fn op_of(&self, v: Val) -> Option<&DraftOp> {
        match self.slot(v).def {
            Def::Op { op, .. } => Some(&self.ops[op]),
            _ => None,
        }
    }

    /// All ops in order of building; operands come before uses.
    pub fn ops(&self) -> &[DraftOp] {
        &self.ops
    }

    /// All values, by index.
    pub fn values(&self) -> impl Iterator<Item = (Val, &Slot)> {
        self.slots.iter().enumerate().map(|(i, s)| (Val(i as u32), s))
    }

    /// The ranges that uses of the inputs ask for, by input position.
    pub fn demands(&self) -> &IndexMap<usize, Range> {
        &self.demands
    }

    fn add(&mut self, ty: TensorType, def: Def, range: Range) -> Val {
        self.slots.push(Slot { ty, def, range });
        Val((self.slots.len() - 1) as u32)
    }

    /// Input number `position` of the model.
    pub fn input(&mut self, position: usize, ty: TensorType, range: Range) -> Val {
        if ty.elements() == 0 {
            // Known whatever is given.
            return self.known(Tensor { dtype: ty.dtype, shape: ty.shape, data: Bytes::new() });
        }
        self.add(ty, Def::Input(position), range)
    }

    /// A tensor of the model.
    pub fn payload(&mut self, payload: Payload) -> Val {
        self.add_known(Known { tensor: payload.tensor, place: payload.place, splat: false }, None)
    }

    /// A tensor computed at import.
    pub fn known(&mut self, tensor: Tensor) -> Val {
        self.add_known(Known { tensor, place: None, splat: false }, None)
    }

    fn add_known(&mut self, mut known: Known, shape: Option<Vec<usize>>) -> Val {
        let shape = shape.unwrap_or_else(|| known.tensor.shape.clone());
        // One element is a splat of any shape, which makes its broadcasts free.
        let size = known.tensor.dtype.size_bytes();
        let (count, weight) =
            (known.tensor.elements(), known.place.is_some() && is_float(known.tensor.dtype));
        if !known.splat && (count == 1 || (count > 1 && !weight && all_alike(&known.tensor.data, size))) {
            let data = known.tensor.data.slice(..size);
            known = Known {
                tensor: Tensor { dtype: known.tensor.dtype, shape: Vec::new(), data },
                place: None,
                splat: true,
            };
        }
        let range = Range::of_known(&known.tensor);
        self.add(TensorType::new(known.tensor.dtype, shape), Def::Known(known), range)
    }

    /// The elements of `v`, if they are known; a splat is spread out.
    pub fn tensor(&self, v: Val) -> Option<Tensor> {
        let slot = self.slot(v);
        let Def::Known(known) = &slot.def else { return None };
        if !known.splat {
            return Some(known.tensor.clone());
        }
        if slot.ty.elements() > MAX_TABLE {
            return None;
        }
        let data = known.tensor.data.repeat(slot.ty.elements());
        Some(Tensor { dtype: slot.ty.dtype, shape: slot.ty.shape.clone(), data: data.into() })
    }

    /// The known value of every element of `v`, when they are all one.
    pub fn splat(&self, v: Val) -> Option<&Tensor> {
        match &self.slot(v).def {
            Def::Known(known) if known.splat => Some(&known.tensor),
            _ => None,
        }
    }

    /// True when the elements of `v` are known.
    pub fn is_known(&self, v: Val) -> bool {
        matches!(self.slot(v).def, Def::Known(_))
    }

    /// The known integers of `v`.
    pub fn ints(&self, v: Val) -> Option<Vec<i64>> {
        fold::ints(&self.tensor(v)?)
    }

    /// Result type(s) of `kind` on `operands` in the model's dtypes.
    fn infer(&self, kind: &OpKind, operands: &[Val]) -> Result<Vec<TensorType>> {
        let indexed = matches!(
            kind,
            OpKind::Gather { .. }
                | OpKind::GatherElements { .. }
                | OpKind::GatherNd { .. }
                | OpKind::ScatterNd { .. }
                | OpKind::ScatterElements { .. }
        );
        let types: Vec<TensorType> = operands
            .iter()
            .enumerate()
            .map(
                |(i, &v)| {
                    if indexed && i == 1 { self.ty(v).with_dtype(DType::I32) } else { self.ty(v).clone() }
                },
            )
            .collect();
        kind.infer(&types.iter().collect::<Vec<_>>()).map_err(|e| {
            let message = match e {
                kiln_ir::IrError::Build { message, .. } => message,
                other => other.to_string(),
            };
            Diagnostic::new(Code::Shape, message).help("the operands' shapes and dtypes do not go together")
        })
    }

    /// Adds an `nn` op with one result: folded when its operands are known, dropped when it changes nothing.
    ///
    /// # Errors
    /// [`Code::Shape`] when the operands do not go together.
    pub fn op(&mut self, kind: OpKind, operands: &[Val]) -> Result<Val> {
        let ty = self.infer(&kind, operands)?.swap_remove(0);
        if let Some(known) = self.without_elements(&kind, operands, &ty) {
            return Ok(known);
        }
        if let Some(same) = self.without_effect(&kind, operands, &ty) {
            return Ok(same);
        }
        if let Some(folded) = self.fold(&kind, operands, &ty) {
            return Ok(folded);
        }
        let range = self.result_range(&kind, operands, &ty);
        self.exceeds_32_bits |= !range.is_within(Range::of_dtype(ty.dtype));
        let op = self.push_op(kind, operands);
        Ok(self.add(ty, Def::Op { op, result: 0 }, range))
    }

    /// A result without elements, or a sum over none, is known whatever the operands are.
    fn without_elements(&mut self, kind: &OpKind, operands: &[Val], ty: &TensorType) -> Option<Val> {
        if ty.elements() == 0 {
            return Some(self.known(Tensor { dtype: ty.dtype, shape: ty.shape.clone(), data: Bytes::new() }));
        }
        let OpKind::Contract { dims, .. } = kind else { return None };
        let shape = self.shape(operands[0]);
        if dims.lhs_contract.iter().all(|&d| shape[d] > 0) {
            return None;
        }
        let zero = Tensor { dtype: ty.dtype, shape: vec![], data: vec![0; ty.dtype.size_bytes()].into() };
        Some(self.add_known(Known { tensor: zero, place: None, splat: true }, Some(ty.shape.clone())))
    }

    /// Whether some int64 result may not fit the 32 bits in which the device holds it.
    pub fn exceeds_32_bits(&self) -> bool {
        self.exceeds_32_bits
    }

    /// Adds an op with several results (`nn.topk`).
    ///
    /// # Errors
    /// As [`Draft::op`].
    pub fn multi_op(&mut self, kind: OpKind, operands: &[Val]) -> Result<Vec<Val>> {
        let types = self.infer(&kind, operands)?;
        if types.iter().all(|ty| ty.elements() == 0) {
            let empty = |ty: TensorType| Tensor { dtype: ty.dtype, shape: ty.shape, data: Bytes::new() };
            return Ok(types.into_iter().map(|ty| self.known(empty(ty))).collect());
        }
        let ranges: Vec<Range> = types.iter().map(|ty| self.result_range(&kind, operands, ty)).collect();
        let op = self.push_op(kind, operands);
        let def = |result| Def::Op { op, result };
        Ok(types
            .into_iter()
            .zip(ranges)
            .enumerate()
            .map(|(i, (ty, range))| self.add(ty, def(i), range))
            .collect())
    }

    fn push_op(&mut self, kind: OpKind, operands: &[Val]) -> usize {
        self.ops.push(DraftOp { kind, operands: operands.to_vec(), origin: self.origin.clone() });
        self.ops.len() - 1
    }

    /// The same value under another integer dtype that the device holds alike (i32 as int64 and back).
    pub fn relabel(&mut self, v: Val, dtype: DType) -> Val {
        let mut slot = self.slot(v).clone();
        slot.ty.dtype = dtype;
        if let Def::Known(known) = &mut slot.def
            && let Some(values) = fold::Values::of(&known.tensor)
        {
            known.tensor = Tensor { dtype, shape: known.tensor.shape.clone(), data: values.encode(dtype) };
            known.place = None;
        }
        self.slots.push(slot);
        Val((self.slots.len() - 1) as u32)
    }

    /// The operand that an op without effect returns.
    fn without_effect(&self, kind: &OpKind, operands: &[Val], ty: &TensorType) -> Option<Val> {
        let same = |v: Val| (self.ty(v) == ty).then_some(v);
        match kind {
            OpKind::Reshape { .. } | OpKind::Broadcast { .. } | OpKind::Cast { .. } => same(operands[0]),
            OpKind::Slice { strides, .. } if strides.iter().all(|&s| s == 1) => same(operands[0]),
            OpKind::Pad { .. } => same(operands[0]),
            OpKind::Transpose { perm } if perm.is_sorted() => same(operands[0]),
            OpKind::Reverse { axes } if axes.iter().all(|&a| ty.shape[a] <= 1) => same(operands[0]),
            OpKind::Concat { .. } => {
                // Zero-extent parts (a past of length 0) add nothing.
                let mut parts = operands.iter().filter(|&&v| self.ty(v).elements() > 0);
                match (parts.next(), parts.next()) {
                    (Some(&only), None) => same(only),
                    (None, None) => same(operands[0]),
                    _ => None,
                }
            }
            OpKind::Map { kind } => self.map_without_effect(*kind, operands),
            OpKind::ScatterNd { .. } | OpKind::ScatterElements { .. } => {
                (self.ty(operands[2]).elements() == 0).then_some(operands[0])
            }
            _ => None,
        }
    }

    /// Exact identities with a known operand; none of them can change a bit of a float.
    fn map_without_effect(&self, kind: MapKind, operands: &[Val]) -> Option<Val> {
        let int = |v: Val| match fold::Values::of(self.splat(v)?)? {
            fold::Values::Int(v) => Some(v[0]),
            fold::Values::Float(_) => None,
        };
        let is_bool = self.dtype(operands[0]) == DType::Bool;
        let either = |neutral: i64| match (int(operands[0]), int(operands[1])) {
            (Some(a), _) if a == neutral => Some(operands[1]),
            (_, Some(b)) if b == neutral => Some(operands[0]),
            _ => None,
        };
        match kind {
            MapKind::Identity => Some(operands[0]),
            MapKind::And if is_bool => either(1),
            MapKind::Or if is_bool => either(0),
            MapKind::Add => either(0),
            MapKind::Mul => either(1),
            MapKind::Sub if int(operands[1]) == Some(0) => Some(operands[0]),
            MapKind::Min | MapKind::Max if !is_float(self.dtype(operands[0])) => {
                // Intervals apart: one operand is always the one.
                let (a, b) = (self.range(operands[0]), self.range(operands[1]));
                let first = if kind == MapKind::Min { a.hi <= b.lo } else { a.lo >= b.hi };
                let second = if kind == MapKind::Min { b.hi <= a.lo } else { b.lo >= a.hi };
                let one = if first { Some(operands[0]) } else { second.then_some(operands[1]) };
                one.filter(|_| self.shape(operands[0]) == self.shape(operands[1]))
            }
            MapKind::Select => Some(operands[if int(operands[0])? != 0 { 1 } else { 2 }]),
            _ => None,
        }
    }

    /// Evaluates the op now, if its operands are known and it is worth it.
    fn fold(&mut self, kind: &OpKind, operands: &[Val], ty: &TensorType) -> Option<Val> {
        let knowns: Vec<&Known> = operands
            .iter()
            .map(|&v| match &self.slot(v).def {
                Def::Known(known) => Some(known),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let elementwise = matches!(kind, OpKind::Map { .. } | OpKind::Cast { .. });
        let keeps_splat = elementwise
            || matches!(
                kind,
                OpKind::Reshape { .. }
                    | OpKind::Transpose { .. }
                    | OpKind::Broadcast { .. }
                    | OpKind::Slice { .. }
                    | OpKind::Reverse { .. }
            );
        if keeps_splat && !knowns.is_empty() && knowns.iter().all(|k| k.splat) && ty.elements() > 0 {
            let tensor = if elementwise {
                let scalars: Vec<&Tensor> = knowns.iter().map(|k| &k.tensor).collect();
                fold::fold(kind, &scalars, ty.dtype, &[])?
            } else {
                knowns[0].tensor.clone()
            };
            return Some(self.add_known(Known { tensor, place: None, splat: true }, Some(ty.shape.clone())));
        }
        // A reshaped weight is the same bytes: addressing, of any size and dtype.
        if let (OpKind::Reshape { shape }, [Known { tensor, place: Some(place), splat: false }]) =
            (kind, &knowns[..])
        {
            let tensor = Tensor { shape: shape.clone(), ..(*tensor).clone() };
            let known = Known { tensor, place: Some(*place), splat: false };
            return Some(self.add_known(known, Some(ty.shape.clone())));
        }
        if !self.is_worth_folding(operands, &knowns, ty) {
            return None;
        }
        let tensors: Vec<Tensor> = operands.iter().map(|&v| self.tensor(v)).collect::<Option<_>>()?;
        let tensor = fold::fold(kind, &tensors.iter().collect::<Vec<_>>(), ty.dtype, &ty.shape)?;
        Some(self.add_known(Known { tensor, place: None, splat: false }, Some(ty.shape.clone())))
    }

    fn is_worth_folding(&self, operands: &[Val], knowns: &[&Known], ty: &TensorType) -> bool {
        let fits = |t: &TensorType| {
            t.size_bytes() <= if is_float(t.dtype) { FLOAT_FOLD_LIMIT_BYTES } else { INT_FOLD_LIMIT_BYTES }
        };
        let weight =
            |k: &&Known| is_float(k.tensor.dtype) && k.place.is_some() && k.tensor.elements() > SCALAR_LIMIT;
        fits(ty) && operands.iter().all(|&v| fits(self.ty(v))) && !knowns.iter().any(weight)
    }
}

/// True when all elements of `size` bytes are the same.
fn all_alike(data: &[u8], size: usize) -> bool {
    data.chunks_exact(size).all(|c| c == &data[..size])
}
