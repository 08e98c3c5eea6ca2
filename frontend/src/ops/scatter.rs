//! `ScatterElements` (and the older `Scatter`) and `ScatterND`.

use kiln_ir::nn::{OpKind, ScatterReduction};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};
use crate::ops::gather::legal_indices;
use crate::ops::gather_nd::legal_tuples;

fn reduction(c: &Call) -> Result<ScatterReduction> {
    let name = c.string("reduction")?.unwrap_or("none");
    ScatterReduction::from_name(name)
        .ok_or_else(|| Diagnostic::new(Code::Attribute, format!("reduction {name:?} is unknown")))
}

/// `ScatterElements`.
pub fn elements(c: &mut Call) -> Result<Vec<Val>> {
    let (data, indices, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let axis = c.axis(c.int_or("axis", 0)?, c.draft.rank(data))?;
    let reduction = reduction(c)?;
    let extent = c.draft.shape(data)[axis];
    let indices = legal_indices(c.draft, indices, extent)?;
    Ok(vec![c.draft.op(OpKind::ScatterElements { axis, reduction }, &[data, indices, updates])?])
}

/// `ScatterND`.
pub fn nd(c: &mut Call) -> Result<Vec<Val>> {
    let (data, indices, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let reduction = reduction(c)?;
    let (sd, si) = (c.draft.shape(data).to_vec(), c.draft.shape(indices).to_vec());
    let depth = si.last().copied().unwrap_or(0);
    if depth == 0 || depth > sd.len() {
        return Err(Diagnostic::new(Code::Shape, format!("indices {si:?} do not index {sd:?}")));
    }
    let indices = legal_tuples(c.draft, indices, &sd[..depth])?;
    Ok(vec![c.draft.op(OpKind::ScatterNd { reduction }, &[data, indices, updates])?])
}
