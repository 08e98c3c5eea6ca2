//! `Where`: elementwise choice, broadcasting.

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Where`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (mask, a, b) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (da, db) = (c.draft.dtype(a), c.draft.dtype(b));
    if da != db {
        return Err(Diagnostic::new(Code::DType, format!("operands of different dtypes: {da}, {db}")));
    }
    Ok(vec![c.draft.select(mask, a, b)?])
}
