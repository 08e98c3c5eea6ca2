//! `Softmax`: max, sub, exp, sum, div.
//!
//! Before opset 13 it runs over all dims from `axis` on at once.

use kiln_ir::nn::{MapKind, ReduceKind};

use crate::call::Call;
use crate::draft::{Draft, Keep, Result, Val};

/// `Softmax`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    along_axis(c, Draft::softmax)
}

/// `LogSoftmax`: x − max − log Σ exp(x − max).
pub fn log_softmax(c: &mut Call) -> Result<Vec<Val>> {
    along_axis(c, |d, x, axis| {
        let max = d.reduce(ReduceKind::Max, x, &[axis], Keep::Dims)?;
        let shifted = d.map2(MapKind::Sub, x, max)?;
        let exp = d.map1(MapKind::Exp, shifted)?;
        let sum = d.reduce(ReduceKind::Sum, exp, &[axis], Keep::Dims)?;
        let log = d.map1(MapKind::Log, sum)?;
        d.map2(MapKind::Sub, shifted, log)
    })
}

fn along_axis(c: &mut Call, of: fn(&mut Draft, Val, usize) -> Result<Val>) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    let shape = c.draft.shape(x).to_vec();
    if c.opset >= 13 {
        let axis = c.axis(c.int_or("axis", -1)?, shape.len())?;
        return Ok(vec![of(c.draft, x, axis)?]);
    }
    let axis = c.axis(c.int_or("axis", 1)?, shape.len())?;
    let (rows, columns) = (shape[..axis].iter().product(), shape[axis..].iter().product());
    let flat = c.draft.reshape(x, &[rows, columns])?;
    let y = of(c.draft, flat, 1)?;
    Ok(vec![c.draft.reshape(y, &shape)?])
}
