//! `DepthToSpace` and `SpaceToDepth`: reshape, transpose, reshape.

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

fn arguments(c: &Call) -> Result<(Val, [usize; 4], usize)> {
    let x = c.input(0)?;
    let block = c.extents(&[c.required(c.int("blocksize")?, "blocksize")?])?[0];
    match c.draft.shape(x)[..] {
        [n, ch, h, w] if block > 0 => Ok((x, [n, ch, h, w], block)),
        ref shape => Err(Diagnostic::new(Code::Shape, format!("{shape:?} with blocksize {block}"))),
    }
}

/// `DepthToSpace`, by depth first or by column and row first.
pub fn depth_to_space(c: &mut Call) -> Result<Vec<Val>> {
    let (x, [n, ch, h, w], b) = arguments(c)?;
    let out = ch / (b * b);
    if out * b * b != ch {
        return Err(Diagnostic::new(Code::Shape, format!("{ch} channels are not blocks of {b}×{b}")));
    }
    let (split, perm) = match c.string("mode")?.unwrap_or("DCR") {
        "DCR" => ([n, b, b, out, h, w], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([n, out, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        other => return Err(Diagnostic::new(Code::Attribute, format!("mode {other:?} is unknown"))),
    };
    let apart = c.draft.reshape(x, &split)?;
    let turned = c.draft.transpose(apart, &perm)?;
    Ok(vec![c.draft.reshape(turned, &[n, out, h * b, w * b])?])
}

/// `SpaceToDepth`.
pub fn space_to_depth(c: &mut Call) -> Result<Vec<Val>> {
    let (x, [n, ch, h, w], b) = arguments(c)?;
    if h % b != 0 || w % b != 0 {
        return Err(Diagnostic::new(Code::Shape, format!("{h}×{w} are not blocks of {b}×{b}")));
    }
    let apart = c.draft.reshape(x, &[n, ch, h / b, b, w / b, b])?;
    let perm = match c.string("mode")?.unwrap_or("DCR") {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(Diagnostic::new(Code::Attribute, format!("mode {other:?} is unknown"))),
    };
    let turned = c.draft.transpose(apart, &perm)?;
    Ok(vec![c.draft.reshape(turned, &[n, ch * b * b, h / b, w / b])?])
}
