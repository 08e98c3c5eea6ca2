//! `CumSum` and `CumProd`: `nn.scan` along an axis.

use kiln_ir::nn::{MapKind, OpKind, ScanKind};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `CumSum` and `CumProd`. An axis that is not known at import is looked up among all.
pub fn import(c: &mut Call, kind: ScanKind) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let rank = c.draft.rank(x);
    let (exclusive, reverse) = (c.flag("exclusive", false)?, c.flag("reverse", false)?);
    let scan = |axis| OpKind::Scan { kind, axis, exclusive, reverse };
    let asked = c.input(1)?;
    if c.draft.ty(asked).elements() != 1 {
        return Err(Diagnostic::new(Code::Shape, "the axis must be one number"));
    }
    if let Some(known) = c.draft.ints(asked) {
        let axis = c.axis(known[0], rank)?;
        return Ok(vec![c.draft.op(scan(axis), &[x])?]);
    }
    let asked = c.draft.reshape(asked, &[])?;
    let negative = c.draft.map_scalar(MapKind::Lt, asked, 0.0)?;
    let from_end = c.draft.map_scalar(MapKind::Add, asked, rank as f64)?;
    let asked = c.draft.select(negative, from_end, asked)?;
    let mut y = x;
    for axis in 0..rank {
        let along = c.draft.op(scan(axis), &[x])?;
        let hit = c.draft.map_scalar(MapKind::Eq, asked, axis as f64)?;
        y = c.draft.select(hit, along, y)?;
    }
    Ok(vec![y])
}
