//! `ArgMax` and `ArgMin`: the first index of the best element, or the last with `select_last_index`.

use kiln_ir::nn::{MapKind, OpKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::draft::{Result, Val};

/// `ArgMax` or `ArgMin`, by `kind`.
pub fn import(c: &mut Call, kind: ReduceKind) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let mut shape = c.draft.shape(x).to_vec();
    let axis = c.axis(c.int_or("axis", 0)?, shape.len())?;
    let (keep, last) = (c.flag("keepdims", true)?, c.flag("select_last_index", false)?);
    let searched = if last { c.draft.op(OpKind::Reverse { axes: vec![axis] }, &[x])? } else { x };
    let found = c.draft.op(OpKind::Reduce { kind, axes: vec![axis] }, &[searched])?;
    let mut index = c.draft.relabel(found, DType::I64);
    if last {
        let end = c.draft.scalar(shape[axis] as f64 - 1.0, DType::I64);
        index = c.draft.map2(MapKind::Sub, end, index)?;
    }
    if keep {
        shape[axis] = 1;
        index = c.draft.reshape(index, &shape)?;
    }
    Ok(vec![index])
}
