//! `fold-constants`: what depends on small constants only is computed once, at compile time.
//!
//! Views stay views: a broadcast of a constant is not written out. Weights are left alone; what is
//! computed from them is a recipe, evaluated at emission.

use kiln_ir::eval::{self, Files};
use kiln_ir::nn::{Func, FuncBuilder, OpKind, ValueId};
use kiln_ir::{IrError, Module};

/// Folds in function `main`; results of more than `limit` elements stay as they are.
///
/// # Errors
/// When the function cannot be rebuilt.
pub fn fold_constants(module: &mut Module, limit: usize) -> Result<(), IrError> {
    let func = module.func("main")?;
    let known = constant_values(&func, limit);
    let context = module.context().clone();
    let mut b = FuncBuilder::like(&context, &func)?;
    let mut map: Vec<Option<ValueId>> = vec![None; func.value_count()];
    for (i, v) in func.arg_values().enumerate() {
        map[v.index()] = Some(b.arg(i));
    }
    for op in &func.ops {
        let folds = op.results.len() == 1 && known[op.results[0].index()] && computes(&op.kind);
        if folds && let Some(tensor) = evaluate(&func, &context, op.results[0]) {
            b.set_origin(&op.origin);
            map[op.results[0].index()] = Some(b.constant(&tensor)?);
            continue;
        }
        let operands: Vec<ValueId> = op.operands.iter().filter_map(|v| map[v.index()]).collect();
        for (old, new) in op.results.iter().zip(b.clone_op(op, &operands)?) {
            map[old.index()] = Some(new);
        }
    }
    let results: Vec<_> =
        func.results.iter().filter_map(|(v, port)| Some((map[v.index()]?, port.clone()))).collect();
    b.finish(module, &results)
}

/// Which values depend on small constants only.
fn constant_values(func: &Func, limit: usize) -> Vec<bool> {
    let mut known = vec![false; func.value_count()];
    for op in &func.ops {
        let small = op.results.iter().all(|r| func.ty(*r).elements() <= limit);
        let constant = match &op.kind {
            OpKind::Weight { .. } => false,
            _ => op.operands.iter().all(|v| known[v.index()]),
        };
        // A repeated scalar may be of any size: it is no more than the scalar.
        if constant && (small || matches!(op.kind, OpKind::Broadcast { .. })) {
            op.results.iter().for_each(|r| known[r.index()] = true);
        }
    }
    known
}

/// Whether folding the op saves work; views and leaves cost nothing as they are.
fn computes(kind: &OpKind) -> bool {
    !kind.is_leaf() && !kind.is_view() && !matches!(kind, OpKind::Iota { .. })
}

/// The value of a constant subgraph; none where it has none (then running it tells why).
fn evaluate(func: &Func, context: &kiln_ir::Context, value: ValueId) -> Option<kiln_ir::Tensor> {
    let producers = func.producers();
    let mut needed = vec![false; func.ops.len()];
    let mut stack = vec![producers[value.index()]?];
    while let Some(i) = stack.pop() {
        if !std::mem::replace(&mut needed[i], true) {
            stack.extend(func.ops[i].operands.iter().filter_map(|v| producers[v.index()]));
        }
    }
    let mut scratch = Module::new(context);
    let mut b = FuncBuilder::fold(context, "fold").ok()?;
    let mut map: Vec<Option<ValueId>> = vec![None; func.value_count()];
    for (op, _) in func.ops.iter().zip(needed).filter(|(_, n)| *n) {
        let operands: Vec<ValueId> = op.operands.iter().filter_map(|v| map[v.index()]).collect();
        for (old, new) in op.results.iter().zip(b.clone_op(op, &operands).ok()?) {
            map[old.index()] = Some(new);
        }
    }
    b.finish(&mut scratch, &[(map[value.index()]?, kiln_ir::nn::Port::default())]).ok()?;
    let fold = scratch.func("fold").ok()?;
    eval::nn::eval(&fold, &Files::of(&scratch, vec![]), &[]).ok()?.pop()
}
