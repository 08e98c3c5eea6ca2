//! `Reshape` and `Flatten`.
//!
//! A 0 in the shape copies the input's extent unless `allowzero`; one −1 is what remains.

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Reshape`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let copies_zero = !c.flag("allowzero", false)?;
    let from = c.draft.shape(x).to_vec();
    let asked = match (c.known_ints(1, "the shape"), c.declared(0)) {
        (Err(_), Some(shape)) if shape.iter().product::<usize>() == c.draft.ty(x).elements() => {
            return Ok(vec![c.draft.reshape(x, shape)?]);
        }
        (asked, _) => asked?,
    };
    let mut shape = Vec::with_capacity(asked.len());
    for (i, &n) in asked.iter().enumerate() {
        shape.push(match n {
            0 if copies_zero => *from.get(i).ok_or_else(|| mismatch(&from, &asked))? as i64,
            -1 => -1,
            n => n,
        });
    }
    if let Some(rest) = shape.iter().position(|&n| n == -1) {
        let others = shape.iter().enumerate().filter(|(i, _)| *i != rest).map(|(_, &n)| n);
        let product = others.fold(1i64, |p, n| p.saturating_mul(n));
        let total = from.iter().product::<usize>() as i64;
        if product <= 0 || total % product != 0 {
            return Err(mismatch(&from, &asked));
        }
        shape[rest] = total / product;
    }
    let shape = c.extents(&shape)?;
    if shape.iter().product::<usize>() != from.iter().product::<usize>() {
        return Err(mismatch(&from, &asked));
    }
    Ok(vec![c.draft.reshape(x, &shape)?])
}

fn mismatch(from: &[usize], asked: &[i64]) -> Diagnostic {
    Diagnostic::new(Code::Shape, format!("cannot reshape {from:?} to {asked:?}"))
        .help("the numbers of elements differ: a dim bound with --dim may contradict a size in the model")
}

/// `Flatten`: two dims, split before `axis`.
pub fn flatten(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let shape = c.draft.shape(x).to_vec();
    let axis = c.int_or("axis", 1)?;
    // Here, unlike elsewhere, the axis may be the rank itself.
    let split = if axis == shape.len() as i64 { shape.len() } else { c.axis(axis, shape.len())? };
    let (rows, columns) = (shape[..split].iter().product(), shape[split..].iter().product());
    Ok(vec![c.draft.reshape(x, &[rows, columns])?])
}
