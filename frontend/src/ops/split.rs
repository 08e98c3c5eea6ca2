//! `Split`: slices along one axis, by sizes or into equal parts.

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Split`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let shape = c.draft.shape(x).to_vec();
    let axis = c.axis(c.int_or("axis", 0)?, shape.len())?;
    let parts = c.int("num_outputs")?.map_or(c.node.output.len(), |n| n as usize);
    let listed = match c.ints("split")? {
        Some(sizes) => Some(sizes.to_vec()),
        None => match (c.optional_ints(1, "the sizes"), declared_sizes(c, axis)) {
            (Err(_), Some(sizes)) => Some(sizes),
            (sizes, _) => sizes?,
        },
    };
    let sizes = match listed {
        Some(sizes) => c.extents(&sizes)?,
        None => {
            // The last part is smaller when the extent does not divide.
            let each = shape[axis].div_ceil(parts.max(1));
            (0..parts).map(|i| shape[axis].saturating_sub(i * each).min(each)).collect()
        }
    };
    if sizes.iter().sum::<usize>() != shape[axis] || sizes.len() < c.node.output.len() {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("cannot split {} elements along axis {axis} into {sizes:?}", shape[axis]),
        ));
    }
    let mut at = 0;
    let mut out = Vec::with_capacity(sizes.len());
    for size in sizes {
        out.push(c.draft.slice_axis(x, axis, at, size)?);
        at += size;
    }
    Ok(out)
}

/// The sizes that the model declares for the outputs.
fn declared_sizes(c: &Call, axis: usize) -> Option<Vec<i64>> {
    (0..c.node.output.len()).map(|i| Some(*c.declared(i)?.get(axis)? as i64)).collect()
}
