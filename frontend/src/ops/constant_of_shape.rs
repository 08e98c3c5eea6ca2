//! `ConstantOfShape`: a splat.

use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `ConstantOfShape`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let shape = match (c.known_ints(0, "the shape"), c.declared(0)) {
        (Err(_), Some(shape)) => shape.to_vec(),
        (asked, _) => c.extents(&asked?)?,
    };
    let value = match c.tensor("value")? {
        Some(v) if c.draft.splat(v).is_some() => c.draft.reshape(v, &[])?,
        Some(_) => return Err(Diagnostic::new(Code::Attribute, "attribute value must have one element")),
        None => c.draft.scalar(0.0, DType::F32),
    };
    Ok(vec![c.draft.broadcast_to(value, &shape)?])
}
