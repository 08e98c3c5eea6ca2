//! `BitwiseAnd`, `BitwiseNot`, …, `BitShift`.

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};
use crate::fold::is_float;
use crate::ops::elementwise;

fn integer(c: &Call) -> Result<Val> {
    let x = c.input(0)?;
    let dtype = c.draft.dtype(x);
    if is_float(dtype) {
        return Err(Diagnostic::new(Code::DType, format!("takes integers, not {dtype}")));
    }
    Ok(x)
}

/// Two operands, bit by bit.
pub fn binary(c: &mut Call, kind: MapKind) -> Result<Vec<Val>> {
    integer(c)?;
    elementwise::binary(c, kind)
}

/// `BitwiseNot`: every bit turned.
pub fn not(c: &mut Call) -> Result<Vec<Val>> {
    let x = integer(c)?;
    Ok(vec![c.draft.map_scalar(MapKind::Xor, x, -1.0)?])
}

/// `BitShift`.
pub fn shift(c: &mut Call) -> Result<Vec<Val>> {
    let kind = match c.required(c.string("direction")?, "direction")? {
        "LEFT" => MapKind::Shl,
        "RIGHT" => MapKind::Shr,
        other => return Err(Diagnostic::new(Code::Attribute, format!("direction {other:?} is unknown"))),
    };
    let x = integer(c)?;
    let dtype = c.draft.dtype(x);
    let width = 8 * dtype.size_bytes() as i64;
    let is_signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    if kind == MapKind::Shr && is_signed {
        // Any number of bits and more leaves the sign.
        let by = c.input(1)?;
        let last = c.draft.scalar((width - 1) as f64, dtype);
        let capped = c.draft.map2(MapKind::Min, by, last)?;
        let negative = c.draft.map_scalar(MapKind::Lt, by, 0.0)?;
        let by = c.draft.select(negative, last, capped)?;
        return Ok(vec![c.draft.map2(kind, x, by)?]);
    }
    binary(c, kind)
}
