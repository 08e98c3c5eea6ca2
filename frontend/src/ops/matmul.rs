//! `MatMul`: numpy's `matmul` as one `nn.contract`.

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `MatMul`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let (da, db) = (c.draft.dtype(a), c.draft.dtype(b));
    if da != db {
        return Err(Diagnostic::new(Code::DType, format!("operands of different dtypes: {da}, {db}"))
            .help("ONNX converts nothing by itself: a Cast is missing in the model"));
    }
    Ok(vec![c.draft.matmul(a, b, da)?])
}
