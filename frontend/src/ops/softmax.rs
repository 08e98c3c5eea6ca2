//! `Softmax`: max, sub, exp, sum, div.
//!
//! Before opset 13 it runs over all dims from `axis` on at once.

use crate::call::Call;
use crate::draft::{Result, Val};

/// `Softmax`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    let shape = c.draft.shape(x).to_vec();
    if c.opset >= 13 {
        let axis = c.axis(c.int_or("axis", -1)?, shape.len())?;
        return Ok(vec![c.draft.softmax(x, axis)?]);
    }
    let axis = c.axis(c.int_or("axis", 1)?, shape.len())?;
    let (rows, columns) = (shape[..axis].iter().product(), shape[axis..].iter().product());
    let flat = c.draft.reshape(x, &[rows, columns])?;
    let y = c.draft.softmax(flat, 1)?;
    Ok(vec![c.draft.reshape(y, &shape)?])
}
