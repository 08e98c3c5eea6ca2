//! `com.microsoft.FusedMatMul`: α·A′·B′ with transposes of the last two dims.

use kiln_ir::nn::MapKind;

use crate::call::Call;
use crate::draft::{Result, Val};

/// `FusedMatMul`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (mut a, mut b) = (c.input(0)?, c.input(1)?);
    let dtype = c.expect_float(a)?;
    if c.flag("transBatchA", false)? {
        a = batch_last(c, a)?;
    }
    if c.flag("transBatchB", false)? {
        b = batch_last(c, b)?;
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

/// `[m, batch…, k]` as `[batch…, m, k]`.
fn batch_last(c: &mut Call, x: Val) -> Result<Val> {
    let rank = c.draft.rank(x);
    if rank < 3 {
        return Ok(x);
    }
    let mut perm: Vec<usize> = (1..rank - 1).collect();
    perm.extend([0, rank - 1]);
    c.draft.transpose(x, &perm)
}
