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

/// The dtype in which the device holds `dtype`.
pub fn device_dtype(dtype: DType) -> DType {
    match dtype {
        DType::I64 | DType::U64 => DType::I32,
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
            (ty.with_dtype(device_dtype(ty.dtype)), port(&spec.name, draft, *v, Direction::In))
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
    for (index, op) in draft.ops().iter().enumerate().filter(|(i, _)| live[*i]) {
        emitter.builder.set_origin(&op.origin);
        let operands: Vec<ValueId> =
            op.operands.iter().map(|&v| emitter.value(v)).collect::<kiln_ir::Result<_>>()?;
        let results = emitter.builder.op(&device_kind(op), &operands)?;
        emitter.op_results[index] = Some(results);
    }
    let mut results = Vec::with_capacity(outputs.len());
    for (name, v) in outputs {
        emitter.builder.set_origin(&Origin::default());
        results.push((emitter.value(*v)?, port(name, draft, *v, Direction::Out)));
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
    let held_narrower = device_dtype(dtype) != dtype;
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

/// The op with the device's dtypes in its attributes.
fn device_kind(op: &DraftOp) -> OpKind {
    match &op.kind {
        OpKind::Cast { dtype } => OpKind::Cast { dtype: device_dtype(*dtype) },
        OpKind::Contract { dims, acc, dtype } => {
            OpKind::Contract { dims: dims.clone(), acc: *acc, dtype: device_dtype(*dtype) }
        }
        other => other.clone(),
    }
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
            Def::Known(known) => self.known(known, draft.ty(v)),
        }
    }

    fn known(&mut self, known: &Known, ty: &TensorType) -> kiln_ir::Result<ValueId> {
        if known.splat {
            if ty.elements() == 1 {
                return self.leaf(&known.tensor, None, &ty.shape);
            }
            let scalar = self.leaf(&known.tensor, None, &[])?;
            let spread = OpKind::Broadcast { dims: vec![], shape: ty.shape.clone() };
            return Ok(self.builder.op(&spread, &[scalar])?[0]);
        }
        if let Some(made) = self.iota(&known.tensor, ty)? {
            return Ok(made);
        }
        self.leaf(&known.tensor, known.place, &ty.shape)
    }

    /// Long runs of consecutive integers as an `nn.iota`: positions, from which masks are made.
    fn iota(&mut self, tensor: &Tensor, ty: &TensorType) -> kiln_ir::Result<Option<ValueId>> {
        let dtype = device_dtype(ty.dtype);
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
    ) -> kiln_ir::Result<ValueId> {
        let dtype = device_dtype(tensor.dtype);
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
