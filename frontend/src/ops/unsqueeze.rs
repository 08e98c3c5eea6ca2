//! `Unsqueeze`: dims of extent 1 put in; axes as attribute or as input, counted in the result.

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Unsqueeze`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let listed = match c.ints("axes")? {
        Some(axes) => axes.to_vec(),
        None => match (c.known_ints(1, "the axes"), c.declared(0)) {
            (Err(_), Some(out)) if out.iter().product::<usize>() == c.draft.ty(x).elements() => {
                return Ok(vec![c.draft.reshape(x, out)?]);
            }
            (axes, _) => axes?,
        },
    };
    let rank = c.draft.rank(x) + listed.len();
    let axes = c.axes(&listed, rank)?;
    let mut extents = c.draft.shape(x).iter();
    let shape: Vec<usize> =
        (0..rank).map(|d| if axes.contains(&d) { 1 } else { extents.next().copied().unwrap_or(1) }).collect();
    Ok(vec![c.draft.reshape(x, &shape)?])
}

/// `com.microsoft.ExpandDims`: one dim put in, the axis as input.
pub fn expand_dims(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let rank = c.draft.rank(x) + 1;
    let axis = c.axes(&c.known_ints(1, "the axis")?, rank)?;
    match axis[..] {
        [axis] => Ok(vec![c.draft.unsqueeze(x, axis)?]),
        _ => Err(Diagnostic::new(Code::Shape, "the axis must be one number")),
    }
}
