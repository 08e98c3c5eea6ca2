//! `Gemm`: α·A′·B′ + β·C.
//!
//! The transposes are which dims are contracted; α and β of 1 leave nothing behind.

use kiln_ir::nn::{ContractDims, MapKind};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Gemm`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let (sa, sb) = (c.draft.shape(a).to_vec(), c.draft.shape(b).to_vec());
    let (ta, tb) = (usize::from(c.flag("transA", false)?), usize::from(c.flag("transB", false)?));
    let (alpha, beta) = (c.float_or("alpha", 1.0)?, c.float_or("beta", 1.0)?);
    if sa.len() != 2 || sb.len() != 2 || sa[1 - ta] != sb[tb] {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("cannot multiply {sa:?} by {sb:?} with transA = {ta}, transB = {tb}"),
        ));
    }
    let dims = ContractDims {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![1 - ta],
        rhs_contract: vec![tb],
    };
    let dtype = c.draft.dtype(a);
    let mut y = c.draft.contract(a, b, dims, dtype)?;
    if alpha != 1.0 {
        y = c.draft.map_scalar(MapKind::Mul, y, alpha.into())?;
    }
    if let Some(mut bias) = c.optional(2) {
        if beta != 1.0 {
            bias = c.draft.map_scalar(MapKind::Mul, bias, beta.into())?;
        }
        let shape = c.draft.shape(y).to_vec();
        let bias = c.draft.broadcast_to(bias, &shape)?;
        y = c.draft.map2(MapKind::Add, y, bias)?;
    }
    Ok(vec![y])
}
