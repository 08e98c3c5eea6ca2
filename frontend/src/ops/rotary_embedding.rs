//! `RotaryEmbedding`: pairs of the head dim turned by an angle per position.
//!
//! ```text
//! (x₁, x₂) → (cos·x₁ − sin·x₂, sin·x₁ + cos·x₂)
//! ```
//! The pairs are halves of the rotated part, or neighbours when `interleaved`.

use kiln_ir::nn::MapKind;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::ops::gather;

/// `RotaryEmbedding`: X `[B, heads, S, D]` or `[B, S, heads·D]`; caches `[max, R/2]` with position ids
/// `[B, S]`, or `[B, S, R/2]` (a batch of 1 broadcasts) without.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (x, cos, sin) = (c.input(0)?, c.input(1)?, c.input(2)?);
    c.expect_float(x)?;
    let interleaved = c.flag("interleaved", false)?;
    let heads = c.int_or("num_heads", 0)?;
    let rotated = c.int_or("rotary_embedding_dim", 0)?;
    let positions = c.optional(3);
    let shape = c.draft.shape(x).to_vec();
    // As [B, S, heads, D], so that an angle of [B, S, 1, R/2] broadcasts.
    let x4 = match shape[..] {
        [_, _, _, _] => c.draft.transpose(x, &[0, 2, 1, 3])?,
        [b, s, hidden] if heads > 0 && hidden % heads as usize == 0 => {
            c.draft.reshape(x, &[b, s, heads as usize, hidden / heads as usize])?
        }
        _ => {
            return Err(Diagnostic::new(
                Code::Shape,
                format!(
                    "X {shape:?} with num_heads = {heads} is neither [B, heads, S, D] nor [B, S, heads·D]"
                ),
            ));
        }
    };
    let angle = |d: &mut Draft, cache: Val| -> Result<Val> {
        let taken = match positions {
            Some(ids) => gather::take(d, cache, ids, 0)?,
            None => cache,
        };
        d.unsqueeze(taken, d.rank(taken) - 1)
    };
    let (cos, sin) = (angle(c.draft, cos)?, angle(c.draft, sin)?);
    let rotated = if rotated == 0 { c.draft.shape(x4)[3] } else { rotated as usize };
    let turned = rotate(c.draft, x4, cos, sin, rotated, interleaved)?;
    let y = if shape.len() == 4 {
        c.draft.transpose(turned, &[0, 2, 1, 3])?
    } else {
        c.draft.reshape(turned, &shape)?
    };
    Ok(vec![y])
}

/// Turns the first `rotated` elements of the last dim of `x`; `cos` and `sin` broadcast to its pairs.
pub fn rotate(d: &mut Draft, x: Val, cos: Val, sin: Val, rotated: usize, interleaved: bool) -> Result<Val> {
    let shape = d.shape(x).to_vec();
    let last = shape.len() - 1;
    let half = rotated / 2;
    if !rotated.is_multiple_of(2) || rotated > shape[last] || d.shape(cos).last() != Some(&half) {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("caches of {:?} do not turn {rotated} of {} elements", d.shape(cos), shape[last]),
        ));
    }
    let turning = d.slice_axis(x, last, 0, rotated)?;
    let mut pairs = shape[..last].to_vec();
    // Neighbours are [half, 2], halves are [2, half]: one dim tells the two of a pair apart.
    let which = if interleaved { last + 1 } else { last };
    pairs.extend(if interleaved { [half, 2] } else { [2, half] });
    let paired = d.reshape(turning, &pairs)?;
    let mut flat = shape[..last].to_vec();
    flat.push(half);
    let part = |d: &mut Draft, i: usize| -> Result<Val> {
        let one = d.slice_axis(paired, which, i, 1)?;
        d.reshape(one, &flat)
    };
    let (x1, x2) = (part(d, 0)?, part(d, 1)?);
    let (c1, s2) = (d.map2(MapKind::Mul, cos, x1)?, d.map2(MapKind::Mul, sin, x2)?);
    let (s1, c2) = (d.map2(MapKind::Mul, sin, x1)?, d.map2(MapKind::Mul, cos, x2)?);
    let (real, imaginary) = (d.map2(MapKind::Sub, c1, s2)?, d.map2(MapKind::Add, s1, c2)?);
    let (real, imaginary) = (d.unsqueeze(real, which)?, d.unsqueeze(imaginary, which)?);
    let joined = d.concat(&[real, imaginary], which)?;
    let mut out = shape[..last].to_vec();
    out.push(rotated);
    let turned = d.reshape(joined, &out)?;
    if rotated == shape[last] {
        return Ok(turned);
    }
    let rest = d.slice_axis(x, last, rotated, shape[last] - rotated)?;
    d.concat(&[turned, rest], last)
}
