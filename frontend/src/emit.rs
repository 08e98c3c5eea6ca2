//! From the draft to an `nn` function: what the outputs need, with the device's dtypes.

use indexmap::IndexMap;
use kiln_ir::nn::{FuncBuilder, MapKind, OpKind, Port, ValueId};
use kiln_ir::types::TensorType;
use kiln_ir::{Context, Module, Origin};
use kiln_machine::tensor::{DType, Tensor};

use crate::draft::{Def, Draft, DraftOp, Known, Range, Val};
use crate::fold::Values;
use crate::inputs::InputSpec;
use crate::model_file::Files;

/// Larger tensors without a file go to the module's own bytes.
const CONSTANT_LIMIT_BYTES: usize = 64 << 10;

/// Shorter runs of integers are constants.
const IOTA_FROM_ELEMENTS: usize = 512;

/// The dtype in which a value is held: 64-bit integers in 32 bits where their interval shows that they fit.
fn held_dtype(draft: &Draft, v: Val) -> DType {
    match draft.dtype(v) {
        DType::I64 | DType::U64 if draft.range(v).is_within(Range::of_dtype(DType::I32)) => DType::I32,
        other => other,
    }
}

/// Builds `func.func @main` of `inputs` → `outputs` from the draft.
///
/// # Errors
/// Those of the builder; the draft has checked types, so they are faults of ours.
pub fn emit(
    draft: &Draft,
    inputs: &[(InputSpec, Val)],
    outputs: &[(String, Val)],
    files: &Files,
) -> kiln_ir::Result<Module> {
    let context = Context::new();
    let mut module = Module::new(&context);
    for file in files.iter() {
        module.add_file(&file.name);
    }
    let args: Vec<(TensorType, Port)> = inputs
        .iter()
        .map(|(spec, v)| {
            let ty = draft.ty(*v);
            (ty.with_dtype(held_dtype(draft, *v)), port(&spec.name, draft, *v, Direction::In))
        })
        .collect();
    let builder = FuncBuilder::new(&context, "main", &args)?;
    let mut emitter = Emitter {
        draft,
        module: &mut module,
        builder,
        op_results: vec![None; draft.ops().len()],
        leaves: IndexMap::new(),
    };
    let live = live_ops(draft, outputs);
    let results_of = results_of(draft);
    for (index, op) in draft.ops().iter().enumerate().filter(|(i, _)| live[*i]) {
        emitter.builder.set_origin(&op.origin);
        emitter.op(index, op, &results_of[index])?;
    }
    let mut results = Vec::with_capacity(outputs.len());
    for (name, v) in outputs {
        emitter.builder.set_origin(&Origin::default());
        let value = emitter.value(*v)?;
        let value = emitter.builder.cast(value, held_dtype(draft, *v))?;
        results.push((value, port(name, draft, *v, Direction::Out)));
    }
    emitter.builder.finish(&mut module, &results)?;
    Ok(module)
}

#[derive(PartialEq)]
enum Direction {
    In,
    Out,
}

fn port(name: &str, draft: &Draft, v: Val, direction: Direction) -> Port {
    let dtype = draft.dtype(v);
    let range = draft.range(v);
    let narrower = range.is_within(Range::of_dtype(dtype)) && range != Range::of_dtype(dtype);
    let held_narrower = held_dtype(draft, v) != dtype;
    let checked = direction == Direction::In && (held_narrower || narrower) && range != Range::ANY;
    Port {
        name: name.to_string(),
        host_type: held_narrower.then_some(dtype),
        range: checked.then_some([range.lo as i64, range.hi as i64]),
    }
}

/// Ops that the outputs need.
fn live_ops(draft: &Draft, outputs: &[(String, Val)]) -> Vec<bool> {
    let mut live = vec![false; draft.ops().len()];
    let mark = |live: &mut Vec<bool>, v: Val| {
        if let Def::Op { op, .. } = draft.slot(v).def {
            live[op] = true;
        }
    };
    outputs.iter().for_each(|(_, v)| mark(&mut live, *v));
    for index in (0..draft.ops().len()).rev() {
        if live[index] {
            draft.ops()[index].operands.iter().for_each(|&v| mark(&mut live, v));
        }
    }
    live
}

/// For each op the draft's values of its results; none for a result that nothing has named.
fn results_of(draft: &Draft) -> Vec<Vec<Option<Val>>> {
    let mut results: Vec<Vec<Option<Val>>> = vec![Vec::new(); draft.ops().len()];
    for (v, slot) in draft.values() {
        if let Def::Op { op, result } = slot.def {
            let list = &mut results[op];
            list.resize(list.len().max(result + 1), None);
            // Later values of a result are relabelled or assumed; the first is the op's own.
            list[result].get_or_insert(v);
        }
    }
    results
}

/// Whether operand `i` of an op is an index, which is always held in 32 bits.
fn is_index(kind: &OpKind, i: usize) -> bool {
    i == 1
        && matches!(
            kind,
            OpKind::Gather { .. }
                | OpKind::GatherElements { .. }
                | OpKind::GatherNd { .. }
                | OpKind::ScatterNd { .. }
                | OpKind::ScatterElements { .. }
        )
}

fn is_64_bit_integer(dtype: DType) -> bool {
    matches!(dtype, DType::I64 | DType::U64)
}

struct Emitter<'a> {
    draft: &'a Draft,
    module: &'a mut Module,
    builder: FuncBuilder,
    op_results: Vec<Option<Vec<ValueId>>>,
    /// Constants and weights made so far.
    leaves: IndexMap<OpKind, ValueId>,
}

impl Emitter<'_> {
    /// An op in the dtypes in which its values are held: in 64 bits throughout when one of them needs them.
    fn op(&mut self, index: usize, op: &DraftOp, results: &[Option<Val>]) -> kiln_ir::Result<()> {
        let draft = self.draft;
        let counts = |i: usize, v: Val| !is_index(&op.kind, i) && is_64_bit_integer(held_dtype(draft, v));
        let is_wide = op.operands.iter().enumerate().any(|(i, &v)| counts(i, v))
            || results.iter().flatten().any(|&v| is_64_bit_integer(held_dtype(draft, v)));
        let in_op = |dtype: DType, is_index: bool| match dtype {
            DType::I64 | DType::U64 if is_index || !is_wide => DType::I32,
            other => other,
        };
        let mut operands = Vec::with_capacity(op.operands.len());
        for (i, &v) in op.operands.iter().enumerate() {
            let value = self.value(v)?;
            operands.push(self.builder.cast(value, in_op(draft.dtype(v), is_index(&op.kind, i)))?);
        }
        let kind = match &op.kind {
            OpKind::Cast { dtype } => OpKind::Cast { dtype: in_op(*dtype, false) },
            OpKind::Contract { dims, acc, dtype } => {
                OpKind::Contract { dims: dims.clone(), acc: *acc, dtype: in_op(*dtype, false) }
            }
            other => other.clone(),
        };
        let mut made = self.builder.op(&kind, &operands)?;
        for (made, v) in made.iter_mut().zip(results) {
            let held = v.map_or(DType::I32, |v| held_dtype(draft, v));
            let dtype = self.builder.ty(*made).dtype;
            // An index that an op makes is i32 whatever the model calls it.
            if is_64_bit_integer(dtype) && held == DType::I32 {
                *made = self.builder.cast(*made, held)?;
            }
        }
        self.op_results[index] = Some(made);
        Ok(())
    }

    fn value(&mut self, v: Val) -> kiln_ir::Result<ValueId> {
        let draft = self.draft;
        match &draft.slot(v).def {
            Def::Input(position) => Ok(self.builder.arg(*position)),
            Def::Op { op, result } => match &self.op_results[*op] {
                Some(results) => Ok(results[*result]),
                // Ops are emitted in an order that makes this impossible.
                None => {
                    Err(kiln_ir::IrError::Malformed { message: format!("op {op} is used before it is made") })
                }
            },
            Def::Known(known) => self.known(known, draft.ty(v), held_dtype(draft, v)),
        }
    }

    fn known(&mut self, known: &Known, ty: &TensorType, dtype: DType) -> kiln_ir::Result<ValueId> {
        if known.splat {
            if ty.elements() == 1 {
                return self.leaf(&known.tensor, None, &ty.shape, dtype);
            }
            let scalar = self.leaf(&known.tensor, None, &[], dtype)?;
            let spread = OpKind::Broadcast { dims: vec![], shape: ty.shape.clone() };
            return Ok(self.builder.op(&spread, &[scalar])?[0]);
        }
        if let Some(made) = self.iota(&known.tensor, ty, dtype)? {
            return Ok(made);
        }
        self.leaf(&known.tensor, known.place, &ty.shape, dtype)
    }

    /// Long runs of consecutive integers as an `nn.iota`: positions, from which masks are made.
    fn iota(&mut self, tensor: &Tensor, ty: &TensorType, dtype: DType) -> kiln_ir::Result<Option<ValueId>> {
        let mut wide = (0..ty.rank()).filter(|&d| ty.shape[d] > 1);
        let (Some(axis), None) = (wide.next(), wide.next()) else { return Ok(None) };
        if dtype != DType::I32 || ty.elements() < IOTA_FROM_ELEMENTS {
            return Ok(None);
        }
        let Some(values) = crate::fold::ints(tensor) else { return Ok(None) };
        if values.windows(2).any(|w| w[1].checked_sub(w[0]) != Some(1)) {
            return Ok(None);
        }
        let ty = ty.with_dtype(dtype);
        let iota = self.builder.op(&OpKind::Iota { ty: ty.clone(), axis }, &[])?[0];
        if values[0] == 0 {
            return Ok(Some(iota));
        }
        let first = self.builder.splat(dtype, values[0], &ty.shape)?;
        Ok(Some(self.builder.op(&OpKind::Map { kind: MapKind::Add }, &[iota, first])?[0]))
    }

    /// A constant or a weight, made once for all its uses.
    fn leaf(
        &mut self,
        tensor: &Tensor,
        place: Option<crate::model_file::FilePlace>,
        shape: &[usize],
        dtype: DType,
    ) -> kiln_ir::Result<ValueId> {
        let ty = TensorType::new(dtype, shape);
        let length = ty.size_bytes() as u64;
        let kind = match place {
            Some(place) if dtype == tensor.dtype => {
                OpKind::Weight { ty, file: place.file, offset: place.offset, length }
            }
            _ => {
                let bytes = if dtype == tensor.dtype {
                    tensor.data.clone()
                } else {
                    Values::of(tensor).map_or_else(|| tensor.data.clone(), |v| v.encode(dtype))
                };
                let small = OpKind::Constant { ty: ty.clone(), bytes: bytes.clone() };
                if bytes.len() <= CONSTANT_LIMIT_BYTES || self.leaves.contains_key(&small) {
                    small
                } else {
                    let (file, offset) = self.module.add_blob(&bytes);
                    let weight = OpKind::Weight { ty, file, offset, length };
                    let made = self.builder.op(&weight, &[])?[0];
                    self.leaves.insert(small, made);
                    return Ok(made);
                }
            }
        };
        if let Some(&made) = self.leaves.get(&kind) {
            return Ok(made);
        }
        let made = self.builder.op(&kind, &[])?[0];
        self.leaves.insert(kind, made);
        Ok(made)
    }
}
