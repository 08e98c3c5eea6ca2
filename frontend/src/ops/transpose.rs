//! `Transpose`: dims permuted, reversed by default.

use crate::call::Call;
use crate::draft::{Result, Val};

/// `Transpose`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let rank = c.draft.rank(x);
    let perm = match c.ints("perm")? {
        Some(perm) => perm.iter().map(|&p| c.axis(p, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    Ok(vec![c.draft.transpose(x, &perm)?])
}
