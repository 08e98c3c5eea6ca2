//! `Gather`: numpy's `take` along one axis.
//!
//! ```text
//! y = Gather <axis = 0> (table, ids)   →   nn.gather table, (ids < 0 ? ids + n : ids) axis 0
//! ```
//! Known indices in arithmetic progression are a slice; others stay indices. An input that is the index gets
//! the range that makes it legal, which the runtime checks.

use kiln_ir::nn::{MapKind, OpKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Range, Result, Val};

/// `Gather`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (data, indices) = (c.input(0)?, c.input(1)?);
    let axis = c.axis(c.int_or("axis", 0)?, c.draft.rank(data))?;
    Ok(vec![take(c.draft, data, indices, axis)?])
}

/// Elements of `data` at `indices` (any integer dtype, negative from the end) along `axis`.
pub fn take(draft: &mut Draft, data: Val, indices: Val, axis: usize) -> Result<Val> {
    let shape = draft.shape(data).to_vec();
    if let Some(progression) = draft.ints(indices).and_then(|list| progression(&list, shape[axis])) {
        let (offset, count, step) = progression?;
        let mut sizes = shape.clone();
        let (mut offsets, mut strides) = (vec![0; sizes.len()], vec![1; sizes.len()]);
        (offsets[axis], sizes[axis], strides[axis]) = (offset, count, step);
        let slice = draft.slice(data, &offsets, &sizes, &strides)?;
        let mut result = shape;
        result.splice(axis..axis + 1, draft.shape(indices).to_vec());
        return draft.reshape(slice, &result);
    }
    let indices = legal_indices(draft, indices, shape[axis])?;
    draft.op(OpKind::Gather { axis }, &[data, indices])
}

/// Offset, count and positive step, when the indices are one slice of `extent` elements.
fn progression(indices: &[i64], extent: usize) -> Option<Result<(usize, usize, usize)>> {
    let wrapped: Option<Vec<usize>> = indices.iter().map(|&i| wrap(i, extent)).collect();
    let Some(list) = wrapped else {
        let bad = indices.iter().find(|&&i| wrap(i, extent).is_none()).copied().unwrap_or(0);
        return Some(Err(out_of_range(bad, extent)));
    };
    match list[..] {
        [] => None,
        [only] => Some(Ok((only, 1, 1))),
        [first, second, ..] if second > first => {
            let step = second - first;
            list.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] == step).then_some(Ok((
                first,
                list.len(),
                step,
            )))
        }
        _ => None,
    }
}

/// The index counted from the front, if it exists.
fn wrap(index: i64, extent: usize) -> Option<usize> {
    let from_front = if index < 0 { index + extent as i64 } else { index };
    usize::try_from(from_front).ok().filter(|&i| i < extent)
}

fn out_of_range(index: i64, extent: usize) -> Diagnostic {
    Diagnostic::new(Code::Shape, format!("index {index} lies outside an axis of {extent} elements"))
}

/// `indices` as non-negative ones: an input that is the index is told its range, and what may be negative is
/// counted from the end.
pub fn legal_indices(draft: &mut Draft, indices: Val, extent: usize) -> Result<Val> {
    let dtype = draft.dtype(indices);
    if !matches!(dtype, DType::I32 | DType::I64) {
        return Err(Diagnostic::new(Code::DType, format!("indices must be int32 or int64, not {dtype}")));
    }
    let n = extent as i64;
    draft.demand(indices, Range::new(-n, (n - 1).max(0)));
    if let Some(list) = draft.ints(indices) {
        let wrapped = list
            .iter()
            .map(|&i| wrap(i, extent).map(|i| i as i64).ok_or_else(|| out_of_range(i, extent)))
            .collect::<Result<Vec<_>>>()?;
        let flat = draft.int64s(&wrapped);
        let shape = draft.shape(indices).to_vec();
        return draft.reshape(flat, &shape);
    }
    if draft.range(indices).lo >= 0 {
        return Ok(indices);
    }
    // Whatever else it may be is an error, so the sum fits.
    let indices = draft.assume(indices, Range::new(-n, n - 1));
    let negative = draft.map_scalar(MapKind::Lt, indices, 0.0)?;
    let from_end = draft.map_scalar(MapKind::Add, indices, n as f64)?;
    draft.select(negative, from_end, indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progressions_are_slices() {
        assert!(matches!(progression(&[2, 4, 6], 8), Some(Ok((2, 3, 2)))));
        assert!(matches!(progression(&[-1], 8), Some(Ok((7, 1, 1)))));
        assert!(progression(&[0, 0], 8).is_none());
        assert!(progression(&[0, 2, 3], 8).is_none());
        assert!(matches!(progression(&[8], 8), Some(Err(_))));
    }
}
