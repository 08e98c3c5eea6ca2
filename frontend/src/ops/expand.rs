//! `Expand`: numpy's broadcast in both directions.

use crate::call::Call;
use crate::draft::{Result, Val, broadcast_shape};

/// `Expand`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let asked = match (c.known_ints(1, "the shape"), c.declared(0)) {
        (Err(_), Some(shape)) => shape.to_vec(),
        (asked, _) => c.extents(&asked?)?,
    };
    let shape = broadcast_shape(&[c.draft.shape(x), &asked])?;
    Ok(vec![c.draft.broadcast_to(x, &shape)?])
}
