//! What the machine can run: asked of each `nn` op before anything is compiled, so that a program is cut into device
//! and host segments by a table and never by a later stage's failure.

use kiln_ir::nn::{Func, MapKind, Op, OpKind};
use kiln_ir::types::{DType, dtype_name, is_float};

/// Why the machine has no way to run `op`, or nothing when it has one. Leaves are storage, not work; of convolutions
/// only those that `conv-to-contract` has rewritten run.
pub fn unsupported(func: &Func, op: &Op) -> Option<String> {
    let dtypes = || op.operands.iter().chain(&op.results).map(|v| func.ty(*v).dtype);
    if let Some(wide) = dtypes().find(|d| is_wider_than_the_machine(*d)) {
        return Some(format!("the machine has no {}", dtype_name(wide)));
    }
    let first = op.operands.first().map(|v| func.ty(*v));
    match &op.kind {
        OpKind::Map { kind } => {
            let dtype = first.map_or(DType::F32, |ty| ty.dtype);
            let missing = kind.arity() == 1 && !is_float(dtype) && !runs_on_integers(*kind);
            missing.then(|| format!("no engine computes {kind} of {}", dtype_name(dtype)))
        }
        OpKind::Contract { .. } => {
            let integers = dtypes().filter(|d| !is_float(*d)).collect::<Vec<_>>();
            let bytes = op.operands.iter().all(|v| matches!(func.ty(*v).dtype, DType::I8 | DType::U8));
            (!integers.is_empty() && !bytes).then(|| "the array multiplies integers of 8 bits only".into())
        }
        // What `decompose-indexing` has left.
        OpKind::GatherNd { .. } => Some("an index tuple of elements that the device does not hold".into()),
        OpKind::ScatterNd { .. } | OpKind::ScatterElements { .. } => {
            Some("too many elements to compare with the indices".into())
        }
        OpKind::Scan { exclusive: true, kind: kiln_ir::nn::ScanKind::Max, axis, .. }
            if first.is_some_and(|ty| ty.shape[*axis] == 1) =>
        {
            Some("an exclusive maximum over one element".into())
        }
        OpKind::Conv { .. } => Some("a convolution that is not written as a contraction".into()),
        _ => None,
    }
}

/// 64-bit elements are neither computed nor moved.
pub fn is_wider_than_the_machine(dtype: DType) -> bool {
    dtype.size_bytes() > 4
}

/// Unary kinds that VEC computes of integers; ACT computes all others, of floats.
fn runs_on_integers(kind: MapKind) -> bool {
    use MapKind::*;
    matches!(kind, Identity | Floor | Ceil | Round | Relu | Square | Neg | Abs | Sign | Not | IsNan | IsInf)
}
