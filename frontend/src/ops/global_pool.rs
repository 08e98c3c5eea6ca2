//! `GlobalAveragePool` and `GlobalMaxPool`: reductions over all spatial dims.

use kiln_ir::nn::ReduceKind;

use crate::call::Call;
use crate::draft::{Keep, Result, Val};

/// Mean over the spatial dims.
pub fn average(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let axes: Vec<usize> = (2..c.draft.rank(x)).collect();
    Ok(vec![c.draft.mean(x, &axes)?])
}

/// Maximum over the spatial dims.
pub fn max(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let axes: Vec<usize> = (2..c.draft.rank(x)).collect();
    Ok(vec![c.draft.reduce(ReduceKind::Max, x, &axes, Keep::Dims)?])
}
