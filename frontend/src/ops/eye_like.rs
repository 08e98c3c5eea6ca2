//! `EyeLike`: ones on a diagonal.

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};
use crate::model_file::dtype_from_onnx;

/// `EyeLike`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let &[rows, columns] = c.draft.shape(x) else {
        return Err(Diagnostic::new(Code::Shape, format!("{:?} is no matrix", c.draft.shape(x))));
    };
    let dtype = match c.int("dtype")? {
        None => c.draft.dtype(x),
        Some(number) => i32::try_from(number)
            .ok()
            .and_then(dtype_from_onnx)
            .ok_or_else(|| Diagnostic::new(Code::DType, format!("element type {number} is not handled")))?,
    };
    let k = c.int_or("k", 0)?.clamp(-(rows as i64) - 1, columns as i64 + 1);
    let row = c.draft.iota(&[rows, 1], 0, DType::I32)?;
    let column = c.draft.iota(&[1, columns], 1, DType::I32)?;
    let diagonal = c.draft.map_scalar(MapKind::Add, row, k as f64)?;
    let hit = c.draft.map2(MapKind::Eq, column, diagonal)?;
    Ok(vec![c.draft.cast(hit, dtype)?])
}
