//! `Range`: start, start + delta, … below limit; all three known at import.

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::{DType, Tensor};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};
use crate::fold::{Values, is_float};

/// `Range`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let dtype = c.draft.dtype(c.input(0)?);
    if (0..3).any(|i| c.optional(i).is_some_and(|v| c.draft.splat(v).is_none()))
        && let Some(&[count]) = c.declared(0)
    {
        // The length is declared: start + i·delta, whatever they are.
        let (start, delta) = (c.input(0)?, c.input(2)?);
        let index = c.draft.iota(&[count], 0, if is_float(dtype) { DType::F32 } else { dtype })?;
        let index = c.draft.cast(index, dtype)?;
        let steps = c.draft.map2(MapKind::Mul, index, delta)?;
        return Ok(vec![c.draft.map2(MapKind::Add, steps, start)?]);
    }
    let known = |i: usize| -> Result<Values> {
        let v = c.input(i)?;
        c.draft.splat(v).and_then(Values::of).ok_or_else(|| {
            Diagnostic::new(Code::DataDependent, "the length of a Range depends on the values of the inputs")
                .help("only what follows from the inputs' shapes is known when the model is compiled")
        })
    };
    let values = match (known(0)?, known(1)?, known(2)?) {
        (Values::Int(s), Values::Int(l), Values::Int(d)) => {
            let (start, limit, delta) = (s[0] as i128, l[0] as i128, d[0] as i128);
            let count = count(delta != 0, ((limit - start) as f64 / delta as f64).ceil())?;
            Values::Int((0..count).map(|i| (start + i as i128 * delta) as i64).collect())
        }
        (Values::Float(s), Values::Float(l), Values::Float(d)) => {
            let count = count(d[0] != 0.0, ((l[0] - s[0]) / d[0]).ceil())?;
            Values::Float((0..count).map(|i| s[0] + i as f64 * d[0]).collect())
        }
        _ => return Err(Diagnostic::new(Code::DType, "start, limit and delta have different dtypes")),
    };
    let count = match &values {
        Values::Int(v) => v.len(),
        Values::Float(v) => v.len(),
    };
    let data = values.encode(dtype);
    Ok(vec![c.draft.known(Tensor { dtype, shape: vec![count], data })])
}

fn count(moves: bool, count: f64) -> Result<usize> {
    if !moves {
        return Err(Diagnostic::new(Code::Shape, "a Range with a delta of 0 has no end"));
    }
    if count.is_nan() || count > (1u64 << 28) as f64 {
        return Err(Diagnostic::new(Code::Shape, format!("a Range of {count} elements is absurd")));
    }
    Ok(count.max(0.0) as usize)
}
