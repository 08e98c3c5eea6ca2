//! `Expand`: numpy's broadcast in both directions.

use crate::call::Call;
use crate::draft::{Result, Val, broadcast_shape};

/// `Expand`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let asked = c.extents(&c.known_ints(1, "the shape")?)?;
    let shape = broadcast_shape(&[c.draft.shape(x), &asked])?;
    Ok(vec![c.draft.broadcast_to(x, &shape)?])
}
