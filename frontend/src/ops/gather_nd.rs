//! `GatherND`: index tuples.
//!
//! Exporters index a padding mask `[batch, seq]` by tuples computed from `Range`. Known tuples that walk the
//! data along its axes are a slice, a transpose and a broadcast:
//!
//! ```text
//! mask[b, k] for [b, 0, 0, k]   →   nn.broadcast mask
//! ```

use kiln_ir::nn::OpKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::ops::gather::legal_indices;

/// `GatherND`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (data, indices) = (c.input(0)?, c.input(1)?);
    let batch_dims = usize::try_from(c.int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    let (sd, si) = (c.draft.shape(data).to_vec(), c.draft.shape(indices).to_vec());
    let depth = si.last().copied().unwrap_or(0);
    let fits = batch_dims < sd.len().min(si.len())
        && depth >= 1
        && batch_dims + depth <= sd.len()
        && sd[..batch_dims] == si[..batch_dims];
    if !fits {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("indices {si:?} with batch_dims = {batch_dims} do not index {sd:?}"),
        ));
    }
    if batch_dims == 0
        && let Some(tuples) = c.draft.ints(indices)
        && let Some(walk) = Walk::find(&tuples, &si[..si.len() - 1], &sd[..depth])
    {
        return Ok(vec![walk.build(c.draft, data, &si[..si.len() - 1])?]);
    }
    let legal = legal_tuples(c.draft, indices, &sd[batch_dims..batch_dims + depth])?;
    Ok(vec![c.draft.op(OpKind::GatherNd { batch_dims }, &[data, legal])?])
}

/// Index tuples with each component counted from the front.
pub fn legal_tuples(draft: &mut Draft, indices: Val, extents: &[usize]) -> Result<Val> {
    let last = draft.rank(indices) - 1;
    if draft.dtype(indices) != DType::I64 && draft.dtype(indices) != DType::I32 {
        return Err(Diagnostic::new(Code::DType, "indices must be integers"));
    }
    if draft.range(indices).lo >= 0 && !draft.is_known(indices) {
        return Ok(indices);
    }
    let mut parts = Vec::new();
    for (i, &extent) in extents.iter().enumerate() {
        let part = draft.slice_axis(indices, last, i, 1)?;
        parts.push(legal_indices(draft, part, extent)?);
    }
    draft.concat(&parts, last)
}

/// How known tuples walk the leading dims of the data: per component where it starts, and which output dim
/// moves it by which step. No output dim moves two components, none is moved by two.
struct Walk {
    /// Component → first index.
    start: Vec<usize>,
    /// Component → (output dim, step).
    moved_by: Vec<Option<(usize, usize)>>,
}

impl Walk {
    fn find(tuples: &[i64], out: &[usize], extents: &[usize]) -> Option<Walk> {
        let depth = extents.len();
        if tuples.is_empty() || tuples.len() != out.iter().product::<usize>() * depth {
            return None;
        }
        let wrapped: Vec<i64> = tuples
            .iter()
            .enumerate()
            .map(|(i, &t)| if t < 0 { t + extents[i % depth] as i64 } else { t })
            .collect();
        let strides = kiln_ir::types::row_major_strides(out);
        let mut walk = Walk { start: Vec::new(), moved_by: vec![None; depth] };
        for (component, &extent) in extents.iter().enumerate() {
            walk.start.push(usize::try_from(wrapped[component]).ok().filter(|&s| s < extent)?);
        }
        for (d, &n) in out.iter().enumerate().filter(|(_, n)| **n > 1) {
            let mut moves = (0..depth).filter(|&c| wrapped[strides[d] * depth + c] != wrapped[c]);
            let (Some(component), None) = (moves.next(), moves.next()) else {
                if (0..depth).all(|c| wrapped[strides[d] * depth + c] == wrapped[c]) {
                    continue;
                }
                return None;
            };
            let step = usize::try_from(wrapped[strides[d] * depth + component] - wrapped[component]).ok()?;
            let last = walk.start[component] + step * (n - 1);
            if walk.moved_by[component].replace((d, step)).is_some() || last >= extents[component] {
                return None;
            }
        }
        walk.explains(&wrapped, out, &strides).then_some(walk)
    }

    fn explains(&self, tuples: &[i64], out: &[usize], strides: &[usize]) -> bool {
        let depth = self.start.len();
        tuples.chunks_exact(depth).enumerate().all(|(at, tuple)| {
            tuple.iter().enumerate().all(|(c, &t)| {
                let moved = self.moved_by[c].map_or(0, |(d, step)| at / strides[d] % out[d] * step);
                t == (self.start[c] + moved) as i64
            })
        })
    }

    fn build(&self, draft: &mut Draft, data: Val, out: &[usize]) -> Result<Val> {
        let shape = draft.shape(data).to_vec();
        let depth = self.start.len();
        let (mut offsets, mut sizes, mut steps) = (vec![0; shape.len()], shape.clone(), vec![1; shape.len()]);
        for c in 0..depth {
            offsets[c] = self.start[c];
            sizes[c] = self.moved_by[c].map_or(1, |(d, _)| out[d]);
            steps[c] = self.moved_by[c].map_or(1, |(_, step)| step);
        }
        let sliced = draft.slice(data, &offsets, &sizes, &steps)?;
        // Moved components in the order of their output dims; the others have extent 1 and fall away.
        let mut moved: Vec<(usize, usize)> =
            (0..depth).filter_map(|c| self.moved_by[c].map(|(d, _)| (d, c))).collect();
        moved.sort_unstable();
        let still = (0..depth).filter(|&c| self.moved_by[c].is_none());
        let perm: Vec<usize> = moved.iter().map(|&(_, c)| c).chain(still).chain(depth..shape.len()).collect();
        let turned = draft.transpose(sliced, &perm)?;
        let mut ones = vec![1; out.len()];
        moved.iter().for_each(|&(d, _)| ones[d] = out[d]);
        ones.extend(&shape[depth..]);
        let placed = draft.reshape(turned, &ones)?;
        draft.broadcast_to(placed, &[out, &shape[depth..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_walks_and_scrambles_are_not() {
        // [b, 0, k] for out [2, 1, 3] over data [2, 3].
        let tuples: Vec<i64> = (0..2).flat_map(|b| (0..3).flat_map(move |k| [b, k])).collect();
        let walk = Walk::find(&tuples, &[2, 1, 3], &[2, 3]);
        assert_eq!(walk.map(|w| w.moved_by), Some(vec![Some((0, 1)), Some((2, 1))]));
        assert!(Walk::find(&[0, 0, 1, 1], &[2], &[2, 2]).is_none(), "a diagonal moves two components");
        assert!(Walk::find(&[0, 2, 1], &[3], &[3]).is_none());
        assert!(Walk::find(&[0, 1, 2], &[3], &[2]).is_none(), "out of range");
    }
}
