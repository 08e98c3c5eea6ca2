//! `Tile`: the tensor repeated along its axes.
//!
//! ```text
//! [a, b] × [2, 3]   →   broadcast [1, a, 1, b] to [2, a, 3, b], reshaped to [2a, 3b]
//! ```

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Tile`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let shape = c.draft.shape(x).to_vec();
    let repeats = match (c.known_ints(1, "the repeats"), c.declared(0)) {
        // What the shapes before and after say.
        (Err(_), Some(out)) if out.len() == shape.len() && !shape.contains(&0) => {
            out.iter().zip(&shape).map(|(o, n)| o / n).collect()
        }
        (repeats, _) => c.extents(&repeats?)?,
    };
    if repeats.len() != shape.len() {
        return Err(Diagnostic::new(Code::Shape, format!("repeats {repeats:?} for {shape:?}")));
    }
    let mut spread = Vec::new();
    let mut ones = Vec::new();
    for (&n, &r) in shape.iter().zip(&repeats) {
        if r != 1 {
            ones.push(1);
            spread.push(r);
        }
        ones.push(n);
        spread.push(n);
    }
    let apart = c.draft.reshape(x, &ones)?;
    let wide = c.draft.broadcast_to(apart, &spread)?;
    let out: Vec<usize> = shape.iter().zip(&repeats).map(|(n, r)| n * r).collect();
    Ok(vec![c.draft.reshape(wide, &out)?])
}
