//! `TopK`: values and indices, sorted; `k` known at import.

use kiln_ir::nn::OpKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `TopK`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    // Sorted is one of the orders that `sorted = 0` allows.
    c.ignore(&["sorted"]);
    let axis = c.axis(c.int_or("axis", -1)?, c.draft.rank(x))?;
    let k = if c.opset < 10 {
        vec![c.required(c.int("k")?, "k")?]
    } else {
        match (c.known_ints(1, "k"), c.declared(0)) {
            (Err(_), Some(shape)) if shape.len() == c.draft.rank(x) => vec![shape[axis] as i64],
            (k, _) => k?,
        }
    };
    let largest = c.flag("largest", true)?;
    let k = match k[..] {
        [k] => c.extents(&[k])?[0],
        _ => return Err(Diagnostic::new(Code::Shape, "k must be one number")),
    };
    let both = c.draft.multi_op(OpKind::TopK { k, axis, largest }, &[x])?;
    let indices = c.draft.relabel(both[1], DType::I64);
    Ok(vec![both[0], indices])
}
