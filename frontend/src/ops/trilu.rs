//! `Trilu`: the upper or lower triangle of the last two dims, zero elsewhere.

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Trilu`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let upper = c.flag("upper", true)?;
    let shape = c.draft.shape(x).to_vec();
    let [.., rows, columns] = shape[..] else {
        return Err(Diagnostic::new(Code::Shape, format!("{shape:?} has no triangle")));
    };
    let row = c.draft.iota(&[rows, 1], 0, DType::I64)?;
    let column = c.draft.iota(&[1, columns], 1, DType::I64)?;
    let diagonal = match c.optional(1) {
        None => row,
        Some(k) => {
            // Beyond every diagonal all are alike, and the sum stays small.
            let k = c.draft.reshape(k, &[])?;
            let k = c.draft.map_scalar(MapKind::Max, k, -(rows as f64) - 1.0)?;
            let k = c.draft.map_scalar(MapKind::Min, k, columns as f64 + 1.0)?;
            c.draft.map2(MapKind::Add, row, k)?
        }
    };
    let keep = c.draft.map2(if upper { MapKind::Ge } else { MapKind::Le }, column, diagonal)?;
    let zero = c.draft.scalar(0.0, c.draft.dtype(x));
    Ok(vec![c.draft.select(keep, x, zero)?])
}
