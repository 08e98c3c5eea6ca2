//! `Slice`: numpy's, with steps of either sign; limits past the ends are clamped.

use kiln_ir::nn::OpKind;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Slice`: attributes before opset 10, inputs since.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let shape = c.draft.shape(x).to_vec();
    let rank = shape.len();
    let (starts, ends, axes, steps) = if c.opset < 10 {
        let starts = c.required(c.ints("starts")?, "starts")?.to_vec();
        let ends = c.required(c.ints("ends")?, "ends")?.to_vec();
        (starts, ends, c.ints("axes")?.map(<[i64]>::to_vec), None)
    } else {
        let (starts, ends) = (c.known_ints(1, "the starts")?, c.known_ints(2, "the ends")?);
        (starts, ends, c.optional_ints(3, "the axes")?, c.optional_ints(4, "the steps")?)
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&n| n != starts.len()) {
        return Err(Diagnostic::new(Code::Shape, "starts, ends, axes and steps differ in length"));
    }
    let (mut offsets, mut sizes, mut strides) = (vec![0; rank], shape.clone(), vec![1; rank]);
    let mut reversed = Vec::new();
    for i in 0..starts.len() {
        let axis = c.axis(axes[i], rank)?;
        let n = shape[axis] as i64;
        let step = steps[i];
        if step == 0 {
            return Err(Diagnostic::new(Code::Shape, format!("the step along axis {axis} is 0")));
        }
        let from_front = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        if step > 0 {
            let (start, end) = (from_front(starts[i]).clamp(0, n), from_front(ends[i]).clamp(0, n));
            offsets[axis] = start as usize;
            sizes[axis] = ((end - start).max(0) as u64).div_ceil(step as u64) as usize;
            strides[axis] = step as usize;
        } else {
            // Backward from start: the same elements forward from the last one, then reversed.
            let (start, end) = (from_front(starts[i]).clamp(-1, n - 1), from_front(ends[i]).clamp(-1, n - 1));
            let back = step.unsigned_abs();
            let count = ((start - end).max(0) as u64).div_ceil(back);
            sizes[axis] = count as usize;
            offsets[axis] = if count == 0 { 0 } else { (start as u64 - (count - 1) * back) as usize };
            strides[axis] = back as usize;
            reversed.push(axis);
        }
        if sizes[axis] <= 1 {
            strides[axis] = 1;
        }
        if sizes[axis] == 0 {
            offsets[axis] = 0;
        }
    }
    let sliced = c.draft.slice(x, &offsets, &sizes, &strides)?;
    if reversed.is_empty() {
        return Ok(vec![sliced]);
    }
    reversed.sort_unstable();
    Ok(vec![c.draft.op(OpKind::Reverse { axes: reversed }, &[sliced])?])
}
