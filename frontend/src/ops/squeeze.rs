//! `Squeeze`: drops dims of extent 1; axes as attribute or as input.

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Squeeze`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let shape = c.draft.shape(x).to_vec();
    let listed = match c.ints("axes")? {
        Some(axes) => Some(axes.to_vec()),
        None => match (c.optional_ints(1, "the axes"), c.declared(0)) {
            (Err(_), Some(out)) if out.iter().product::<usize>() == shape.iter().product() => {
                return Ok(vec![c.draft.reshape(x, out)?]);
            }
            (axes, _) => axes?,
        },
    };
    let axes = match listed {
        Some(axes) => c.axes(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&d| shape[d] == 1).collect(),
    };
    if let Some(&wide) = axes.iter().find(|&&d| shape[d] != 1) {
        return Err(Diagnostic::new(Code::Shape, format!("axis {wide} of {shape:?} is not of extent 1")));
    }
    let kept: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).collect();
    Ok(vec![c.draft.reshape(x, &kept)?])
}
