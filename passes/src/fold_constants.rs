//! `fold-constants`: what depends on small constants only is computed once, at compile time.
//!
//! Views stay views: a broadcast of a constant is not written out. Weights are left alone; what is
//! computed from them is a recipe, evaluated at emission.

use kiln_ir::eval::{Array, Files, nn::eval_op};
use kiln_ir::nn::{FuncBuilder, OpKind, ValueId};
use kiln_ir::types::TensorType;
use kiln_ir::{IrError, Module};

/// Folds in function `main`; results of more than `limit` elements stay as they are.
///
/// # Errors
/// When the function cannot be rebuilt.
pub fn fold_constants(module: &mut Module, limit: usize) -> Result<(), IrError> {
    let func = module.func("main")?;
    let context = module.context().clone();
    let files = Files::default();
    let mut b = FuncBuilder::like(&context, &func)?;
    let mut map: Vec<Option<ValueId>> = vec![None; func.value_count()];
    let mut known: Vec<Option<Array>> = vec![None; func.value_count()];
    for (i, v) in func.arg_values().enumerate() {
        map[v.index()] = Some(b.arg(i));
    }
    for op in &func.ops {
        let types: Vec<&TensorType> = op.results.iter().map(|r| func.ty(*r)).collect();
        let operands: Option<Vec<&Array>> = op.operands.iter().map(|v| known[v.index()].as_ref()).collect();
        // An op without a value (an index out of range) stays: running it tells why.
        let values = match operands {
            Some(operands) if foldable(&op.kind) && types.iter().all(|t| t.elements() <= limit) => {
                eval_op(op, &operands, &types, &files).ok()
            }
            _ => None,
        };
        if let (Some(values), true) = (&values, computes(&op.kind)) {
            b.set_origin(&op.origin);
            for (value, result) in values.iter().zip(&op.results) {
                map[result.index()] = Some(b.constant(&value.to_tensor())?);
            }
        } else {
            let operands: Vec<ValueId> = op.operands.iter().filter_map(|v| map[v.index()]).collect();
            for (old, new) in op.results.iter().zip(b.clone_op(op, &operands)?) {
                map[old.index()] = Some(new);
            }
        }
        for (value, result) in values.into_iter().flatten().zip(&op.results) {
            known[result.index()] = Some(value);
        }
    }
    let results: Vec<_> =
        func.results.iter().filter_map(|(v, port)| Some((map[v.index()]?, port.clone()))).collect();
    b.finish(module, &results)
}

/// Whether the op's value may be known here: weights are not read.
fn foldable(kind: &OpKind) -> bool {
    !matches!(kind, OpKind::Weight { .. })
}

/// Whether folding the op saves work; views, leaves and indices cost nothing as they are.
fn computes(kind: &OpKind) -> bool {
    !kind.is_leaf() && !kind.is_view() && !matches!(kind, OpKind::Iota { .. })
}
