//! `NonZero`, `Compress` and `Unique`: how many elements come out depends on the data, so the data must be known.

use kiln_machine::tensor::{DType, Tensor};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};
use crate::fold::{self, Values};
use crate::ops::gather;

fn depends() -> Diagnostic {
    Diagnostic::new(Code::DataDependent, "how many elements come out depends on the values of the inputs")
        .help("only what follows from the inputs' shapes is known when the model is compiled")
}

/// `NonZero`: the indices of the elements that are not zero, `[rank, count]`.
pub fn non_zero(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let tensor = c.draft.tensor(x).ok_or_else(depends)?;
    let is_set: Vec<bool> = match Values::of(&tensor).ok_or_else(depends)? {
        Values::Int(v) => v.iter().map(|&v| v != 0).collect(),
        Values::Float(v) => v.iter().map(|&v| v != 0.0).collect(),
    };
    let strides = kiln_ir::types::row_major_strides(&tensor.shape);
    let set: Vec<usize> = (0..is_set.len()).filter(|&i| is_set[i]).collect();
    let indices = strides
        .iter()
        .zip(&tensor.shape)
        .flat_map(|(stride, extent)| set.iter().map(move |i| (i / stride % extent) as i64))
        .collect();
    let shape = vec![tensor.shape.len(), set.len()];
    let data = Values::Int(indices).encode(DType::I64);
    Ok(vec![c.draft.known(Tensor { dtype: DType::I64, shape, data })])
}

/// `Compress`: the rows along an axis for which the condition holds.
pub fn compress(c: &mut Call) -> Result<Vec<Val>> {
    let (x, condition) = (c.input(0)?, c.input(1)?);
    let condition = c.draft.tensor(condition).as_ref().and_then(fold::ints).ok_or_else(depends)?;
    let rows: Vec<i64> = (0..condition.len() as i64).filter(|&i| condition[i as usize] != 0).collect();
    let (x, axis) = match c.int("axis")? {
        Some(axis) => (x, c.axis(axis, c.draft.rank(x))?),
        None => {
            let elements = c.draft.ty(x).elements();
            (c.draft.reshape(x, &[elements])?, 0)
        }
    };
    let rows = c.draft.int64s(&rows);
    Ok(vec![gather::take(c.draft, x, rows, axis)?])
}
