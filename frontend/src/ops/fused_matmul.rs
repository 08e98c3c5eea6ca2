//! `com.microsoft.FusedMatMul`: α·A′·B′ with transposes of the last two dims.

use kiln_ir::nn::MapKind;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `FusedMatMul`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (mut a, mut b) = (c.input(0)?, c.input(1)?);
    let dtype = c.expect_float(a)?;
    if c.flag("transBatchA", false)? || c.flag("transBatchB", false)? {
        return Err(Diagnostic::new(Code::Attribute, "transBatchA and transBatchB are not handled"));
    }
    if c.flag("transA", false)? && c.draft.rank(a) > 1 {
        a = c.draft.transpose_last(a)?;
    }
    if c.flag("transB", false)? && c.draft.rank(b) > 1 {
        b = c.draft.transpose_last(b)?;
    }
    let alpha = c.float_or("alpha", 1.0)?;
    let y = c.draft.matmul(a, b, dtype)?;
    Ok(vec![if alpha == 1.0 { y } else { c.draft.map_scalar(MapKind::Mul, y, alpha.into())? }])
}
