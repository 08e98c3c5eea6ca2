//! `OneHot`: a comparison with an iota.
//!
//! ```text
//! y[.., d, ..] = (index mod depth == d) ? on : off
//! ```

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `OneHot`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (indices, values) = (c.input(0)?, c.input(2)?);
    let rank = c.draft.rank(indices);
    let axis = c.axis(c.int_or("axis", -1)?, rank + 1)?;
    let depth = match c.draft.tensor(c.input(1)?).and_then(|t| crate::fold::Values::of(&t)) {
        Some(crate::fold::Values::Int(v)) if v.len() == 1 => c.extents(&v)?[0],
        Some(crate::fold::Values::Float(v)) if v.len() == 1 => c.extents(&[v[0] as i64])?[0],
        _ => match c.declared(0) {
            Some(shape) if shape.len() == rank + 1 => shape[axis],
            _ => {
                return Err(Diagnostic::new(
                    Code::NotConstant,
                    "the depth depends on the values of the inputs",
                ));
            }
        },
    };
    let indices = c.draft.cast(indices, DType::I64)?;
    let negative = c.draft.map_scalar(MapKind::Lt, indices, 0.0)?;
    let from_end = c.draft.map_scalar(MapKind::Add, indices, depth as f64)?;
    let indices = c.draft.select(negative, from_end, indices)?;
    let spread = c.draft.unsqueeze(indices, axis)?;
    let mut shape = vec![1; rank + 1];
    shape[axis] = depth;
    let class = c.draft.iota(&shape, axis, DType::I64)?;
    let hit = c.draft.map2(MapKind::Eq, spread, class)?;
    let off = c.draft.slice_axis(values, 0, 0, 1)?;
    let on = c.draft.slice_axis(values, 0, 1, 1)?;
    Ok(vec![c.draft.select(hit, on, off)?])
}
