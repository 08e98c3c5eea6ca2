//! Ops that only move elements: strided copies, joins, paddings, lookups and scatters of bytes.

use bytes::Bytes;
use kiln_machine::tensor::Tensor;

use super::{ints, row_major};

/// Row-major copy of a strided view; strides and start in elements.
pub(super) fn strided(tensor: &Tensor, start: i64, strides: &[i64], shape: &[usize]) -> Bytes {
    let size = tensor.dtype.size_bytes();
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * size);
    for_each_index(shape, |index| {
        let at = start + index.iter().zip(strides).map(|(i, s)| *i as i64 * s).sum::<i64>();
        let at = at as usize * size;
        out.extend_from_slice(&tensor.data[at..at + size]);
    });
    out.into()
}

/// Calls `f` with each index of `shape`, row-major.
pub(super) fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let Some(d) = (0..shape.len()).rev().find(|&d| index[d] + 1 < shape[d]) else { return };
        index[d] += 1;
        index[d + 1..].fill(0);
    }
}

pub(super) fn concat(operands: &[&Tensor], axis: usize) -> Bytes {
    let outer: usize = operands[0].shape[..axis].iter().product();
    let mut out = Vec::new();
    for o in 0..outer {
        for t in operands {
            let row = t.shape[axis..].iter().product::<usize>() * t.dtype.size_bytes();
            out.extend_from_slice(&t.data[o * row..(o + 1) * row]);
        }
    }
    out.into()
}

pub(super) fn pad(tensor: &Tensor, low: &[usize], fill: &[u8], shape: &[usize]) -> Bytes {
    let size = tensor.dtype.size_bytes();
    let strides = row_major(&tensor.shape);
    let mut out = Vec::new();
    for_each_index(shape, |index| {
        let inside = index.iter().zip(low).zip(&tensor.shape).all(|((i, l), n)| i >= l && i - l < *n);
        if inside {
            let at: i64 = index.iter().zip(low).zip(&strides).map(|((i, l), s)| (i - l) as i64 * s).sum();
            out.extend_from_slice(&tensor.data[at as usize * size..][..size]);
        } else {
            out.extend_from_slice(fill);
        }
    });
    out.into()
}

pub(super) fn gather_nd(data: &Tensor, indices: &Tensor, batch: usize) -> Option<Bytes> {
    let depth = *indices.shape.last()?;
    let values = ints(indices)?;
    let slice = data.shape[batch + depth..].iter().product::<usize>() * data.dtype.size_bytes();
    let batches: usize = data.shape[..batch].iter().product();
    let block: usize = data.shape[batch..batch + depth].iter().product();
    let per_batch = indices.shape[batch..indices.shape.len() - 1].iter().product::<usize>();
    let mut out = Vec::new();
    for b in 0..batches {
        for t in 0..per_batch {
            let tuple = &values[(b * per_batch + t) * depth..][..depth];
            let mut at = 0;
            for (&i, &n) in tuple.iter().zip(&data.shape[batch..]) {
                at = at * n + usize::try_from(i).ok().filter(|&i| i < n)?;
            }
            out.extend_from_slice(&data.data[(b * block + at) * slice..][..slice]);
        }
    }
    Some(out.into())
}

pub(super) fn gather_elements(data: &Tensor, indices: &[i64], axis: usize, shape: &[usize]) -> Option<Bytes> {
    let size = data.dtype.size_bytes();
    let strides = row_major(&data.shape);
    let mut out = Vec::with_capacity(indices.len() * size);
    let mut next = indices.iter();
    let mut legal = true;
    for_each_index(shape, |index| {
        let i = *next.next().unwrap_or(&-1);
        if i < 0 || i as usize >= data.shape[axis] {
            legal = false;
            return;
        }
        let at: i64 =
            (0..shape.len()).map(|d| strides[d] * if d == axis { i } else { index[d] as i64 }).sum();
        out.extend_from_slice(&data.data[at as usize * size..][..size]);
    });
    legal.then(|| out.into())
}

pub(super) fn scatter_elements(
    data: &Tensor,
    indices: &[i64],
    updates: &Tensor,
    axis: usize,
) -> Option<Bytes> {
    let size = data.dtype.size_bytes();
    let strides = row_major(&data.shape);
    let mut out = data.data.to_vec();
    let mut at = 0;
    let mut legal = true;
    for_each_index(&updates.shape, |index| {
        let i = indices[at];
        match usize::try_from(i).ok().filter(|&i| i < data.shape[axis]) {
            Some(i) => {
                let to: i64 =
                    (0..index.len()).map(|d| strides[d] * if d == axis { i } else { index[d] } as i64).sum();
                out[to as usize * size..][..size].copy_from_slice(&updates.data[at * size..][..size]);
            }
            None => legal = false,
        }
        at += 1;
    });
    legal.then(|| out.into())
}

pub(super) fn scatter_nd(data: &Tensor, indices: &Tensor, updates: &Tensor) -> Option<Bytes> {
    let depth = *indices.shape.last()?;
    let values = ints(indices)?;
    let slice = data.shape[depth..].iter().product::<usize>() * data.dtype.size_bytes();
    let mut out = data.data.to_vec();
    for (t, tuple) in values.chunks_exact(depth.max(1)).enumerate() {
        let mut at = 0;
        for (&i, &n) in tuple.iter().zip(&data.shape) {
            at = at * n + usize::try_from(i).ok().filter(|&i| i < n)?;
        }
        out[at * slice..][..slice].copy_from_slice(&updates.data[t * slice..][..slice]);
    }
    Some(out.into())
}
