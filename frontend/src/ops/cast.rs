//! `Cast` and `CastLike`.
//!
//! ```text
//! y = Cast <to = 1> (x)   →   nn.cast x : f32
//! ```

use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};
use crate::model_file::{dtype_from_onnx, onnx_type_name};
use crate::ops::quantize;
use crate::tensor_pb::is_four_bit;

/// `Cast`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let to = c.required(c.int("to")?, "to")?;
    let whole_bytes = |t: &i32| !is_four_bit(*t);
    let dtype = i32::try_from(to).ok().filter(whole_bytes).and_then(dtype_from_onnx).ok_or_else(|| {
        Diagnostic::new(Code::DType, format!("conversion to {} is not handled", onnx_type_name(to as i32)))
    })?;
    convert(c, dtype)
}

/// `CastLike`: to the dtype of the second input.
pub fn import_like(c: &mut Call) -> Result<Vec<Val>> {
    let like = c.input(1)?;
    let dtype = c.draft.dtype(like);
    convert(c, dtype)
}

fn convert(c: &mut Call, dtype: DType) -> Result<Vec<Val>> {
    // Both only concern the 8-bit floats.
    let saturate = c.flag("saturate", true)?;
    c.ignore(&["round_mode"]);
    let x = c.input(0)?;
    if saturate {
        return Ok(vec![quantize::saturated(c.draft, x, dtype)?]);
    }
    Ok(vec![c.draft.cast(x, dtype)?])
}
