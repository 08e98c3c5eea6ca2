//! `Concat`.
//!
//! ```text
//! y = Concat <axis = 2> (past, k)   →   nn.concat past, k axis 2
//! ```
//! Parts of extent 0 (a past of length 0) are left out.

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Concat`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let parts = c.all_inputs()?;
    let first = c.input(0)?;
    let (dtype, shape) = (c.draft.dtype(first), c.draft.shape(first).to_vec());
    let axis = c.axis(c.required(c.int("axis")?, "axis")?, shape.len())?;
    for &part in &parts {
        let other = c.draft.shape(part);
        let agrees = other.len() == shape.len()
            && (0..shape.len()).all(|d| d == axis || other[d] == shape[d])
            && c.draft.dtype(part) == dtype;
        if !agrees {
            return Err(Diagnostic::new(
                Code::Shape,
                format!("cannot join {other:?} to {shape:?} along axis {axis}"),
            )
            .help("all extents but that of the axis must be equal"));
        }
    }
    Ok(vec![c.draft.concat(&parts, axis)?])
}
