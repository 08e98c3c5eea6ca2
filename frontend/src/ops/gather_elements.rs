//! `GatherElements`: one index for each element along an axis.

use kiln_ir::nn::OpKind;

use crate::call::Call;
use crate::draft::{Result, Val};
use crate::ops::gather::legal_indices;

/// `GatherElements`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (data, indices) = (c.input(0)?, c.input(1)?);
    let axis = c.axis(c.int_or("axis", 0)?, c.draft.rank(data))?;
    let extent = c.draft.shape(data)[axis];
    let indices = legal_indices(c.draft, indices, extent)?;
    Ok(vec![c.draft.op(OpKind::GatherElements { axis }, &[data, indices])?])
}
