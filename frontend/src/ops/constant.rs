//! `Constant`: one tensor, from whichever attribute holds it.

use kiln_machine::tensor::{DType, Tensor};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};
use crate::fold::Values;

/// `Constant`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    if let Some(v) = c.tensor("value")? {
        return Ok(vec![v]);
    }
    let (dtype, shape, values) = if let Some(v) = c.int("value_int")? {
        (DType::I64, vec![], Values::Int(vec![v]))
    } else if let Some(v) = c.float("value_float")? {
        (DType::F32, vec![], Values::Float(vec![v.into()]))
    } else if let Some(v) = c.ints("value_ints")? {
        (DType::I64, vec![v.len()], Values::Int(v.to_vec()))
    } else if let Some(v) = c.floats("value_floats")? {
        (DType::F32, vec![v.len()], Values::Float(v.iter().map(|&v| v.into()).collect()))
    } else {
        return Err(Diagnostic::new(Code::Attribute, "no value of a dtype that is handled")
            .help("strings and sparse tensors are not handled"));
    };
    Ok(vec![c.draft.known(Tensor { dtype, shape, data: values.encode(dtype) })])
}
