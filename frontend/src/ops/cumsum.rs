//! `CumSum`: `nn.scan sum` along a known axis.

use kiln_ir::nn::{OpKind, ScanKind};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `CumSum`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let axis = match c.known_ints(1, "the axis")?[..] {
        [axis] => c.axis(axis, c.draft.rank(x))?,
        _ => return Err(Diagnostic::new(Code::Shape, "the axis must be one number")),
    };
    let (exclusive, reverse) = (c.flag("exclusive", false)?, c.flag("reverse", false)?);
    Ok(vec![c.draft.op(OpKind::Scan { kind: ScanKind::Sum, axis, exclusive, reverse }, &[x])?])
}
