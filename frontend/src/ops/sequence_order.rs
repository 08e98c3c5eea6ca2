//! `ReverseSequence` and `TensorScatter`: rows of each sequence chosen by lengths or starts known at run time.

use kiln_ir::nn::{MapKind, OpKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Range, Result, Val};

/// `ReverseSequence`: the first `sequence_lens[b]` rows of sequence b backwards.
pub fn reverse(c: &mut Call) -> Result<Vec<Val>> {
    let (x, lengths) = (c.input(0)?, c.input(1)?);
    let shape = c.draft.shape(x).to_vec();
    let (batch, time) =
        (c.axis(c.int_or("batch_axis", 1)?, shape.len())?, c.axis(c.int_or("time_axis", 0)?, shape.len())?);
    if batch == time || c.draft.shape(lengths) != [shape[batch]] {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("{:?} lengths of {shape:?} along {time}, batch {batch}", c.draft.shape(lengths)),
        ));
    }
    c.draft.demand(lengths, Range::new(0, shape[time] as i64));
    let lengths = c.draft.assume(lengths, Range::new(0, shape[time] as i64));
    let lengths = along(c.draft, lengths, shape.len(), batch)?;
    let mut times = vec![1; shape.len()];
    times[time] = shape[time];
    let at = c.draft.iota(&times, time, DType::I64)?;
    let last = c.draft.map_scalar(MapKind::Sub, lengths, 1.0)?;
    let back = c.draft.map2(MapKind::Sub, last, at)?;
    let inside = c.draft.map2(MapKind::Lt, at, lengths)?;
    let from = c.draft.select(inside, back, at)?;
    let from = c.draft.assume(from, Range::new(0, shape[time].max(1) as i64 - 1));
    let from = c.draft.broadcast_to(from, &shape)?;
    Ok(vec![c.draft.op(OpKind::GatherElements { axis: time }, &[x, from])?])
}

/// A vector along one dim of `rank`.
fn along(d: &mut Draft, v: Val, rank: usize, axis: usize) -> Result<Val> {
    let mut shape = vec![1; rank];
    shape[axis] = d.ty(v).elements();
    let v = d.cast(v, DType::I64)?;
    d.reshape(v, &shape)
}

/// `TensorScatter`: the update stands in the cache from `write_indices[b]` on, wrapping around in circular mode.
pub fn tensor_scatter(c: &mut Call) -> Result<Vec<Val>> {
    let (past, update) = (c.input(0)?, c.input(1)?);
    let shape = c.draft.shape(past).to_vec();
    let axis = c.axis(c.int_or("axis", -2)?, shape.len())?;
    let (keys, rows) = (shape[axis] as i64, c.draft.shape(update).get(axis).copied().unwrap_or(0) as i64);
    let circular = match c.string("mode")?.unwrap_or("linear") {
        "linear" => false,
        "circular" => true,
        other => return Err(Diagnostic::new(Code::Attribute, format!("mode {other:?} is unknown"))),
    };
    if axis == 0 || rows == 0 || rows > keys {
        return Err(Diagnostic::new(Code::Shape, format!("{rows} rows written to {shape:?}")));
    }
    let mut places = vec![1; shape.len()];
    places[axis] = shape[axis];
    let at = c.draft.iota(&places, axis, DType::I64)?;
    let mut since = at;
    if let Some(start) = c.optional(2) {
        let most = if circular { i64::from(i32::MAX) / 2 } else { keys - rows };
        c.draft.demand(start, Range::new(0, most));
        let start = c.draft.assume(start, Range::new(0, most));
        let start = along(c.draft, start, shape.len(), 0)?;
        since = c.draft.map2(MapKind::Sub, at, start)?;
        if circular {
            since = c.draft.map_scalar(MapKind::Mod, since, keys as f64)?;
        }
    }
    let after = c.draft.map_scalar(MapKind::Ge, since, 0.0)?;
    let before = c.draft.map_scalar(MapKind::Lt, since, rows as f64)?;
    let is_new = c.draft.map2(MapKind::And, after, before)?;
    let row = c.draft.map_scalar(MapKind::Max, since, 0.0)?;
    let row = c.draft.map_scalar(MapKind::Min, row, rows as f64 - 1.0)?;
    let mut indexed = c.draft.shape(update).to_vec();
    indexed[axis] = shape[axis];
    let row = c.draft.broadcast_to(row, &indexed)?;
    let new = c.draft.op(OpKind::GatherElements { axis }, &[update, row])?;
    Ok(vec![c.draft.select(is_new, new, past)?])
}
