//! `Shape` and `Size`: known once the dims are bound.

use crate::call::Call;
use crate::draft::{Result, Val};

/// `Shape`, from `start` to `end`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let shape: Vec<i64> = c.draft.shape(c.input(0)?).iter().map(|&n| n as i64).collect();
    let rank = shape.len() as i64;
    let clamp = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
    let (start, end) = (clamp(c.int_or("start", 0)?), clamp(c.int_or("end", rank)?));
    let part = shape.get(start..end).unwrap_or(&[]).to_vec();
    Ok(vec![c.draft.int64s(&part)])
}

/// `Size`: the number of elements.
pub fn size(c: &mut Call) -> Result<Vec<Val>> {
    let count = c.draft.ty(c.input(0)?).elements() as i64;
    let list = c.draft.int64s(&[count]);
    Ok(vec![c.draft.reshape(list, &[])?])
}
