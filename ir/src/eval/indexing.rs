//! Gathers and scatters: what picks elements by an index tensor, and what writes to such places.

use super::array::{Array, Data, for_each_index, round_f32, strides, wrap_int};
use super::map;
use super::nn::put;
use crate::nn::{MapKind, ScatterReduction};
use crate::types::TensorType;

/// `index`, when it is one of an axis of `extent`.
pub(super) fn in_range(index: i64, extent: usize) -> Result<usize, String> {
    usize::try_from(index)
        .ok()
        .filter(|i| *i < extent)
        .ok_or_else(|| format!("the index {index} lies outside 0..{extent}"))
}

pub(super) fn gather(x: &Array, indices: &Array, axis: usize, ty: &TensorType) -> Result<Array, String> {
    let step = strides(&x.shape);
    let rank = indices.shape.len();
    let index_step = strides(&indices.shape);
    let rows: Vec<usize> =
        indices.indices().iter().map(|i| in_range(*i, x.shape[axis])).collect::<Result<_, _>>()?;
    let mut at = Vec::with_capacity(ty.elements());
    for_each_index(&ty.shape, |index| {
        let row: isize = index[axis..axis + rank].iter().zip(&index_step).map(|(i, s)| *i as isize * s).sum();
        let before: usize = index[..axis].iter().zip(&step).map(|(i, s)| i * *s as usize).sum();
        let after: usize =
            index[axis + rank..].iter().zip(&step[axis + 1..]).map(|(i, s)| i * *s as usize).sum();
        at.push(before + rows[row as usize] * step[axis] as usize + after);
    });
    Ok(x.picked(&ty.shape, &at))
}

pub(super) fn gather_elements(
    x: &Array,
    indices: &Array,
    axis: usize,
    ty: &TensorType,
) -> Result<Array, String> {
    Ok(x.picked(&ty.shape, &element_places(&x.shape, indices, axis)?))
}

/// For each index tensor element: its own place, with the coordinate along `axis` replaced by its value.
fn element_places(shape: &[usize], indices: &Array, axis: usize) -> Result<Vec<usize>, String> {
    let step = strides(shape);
    let mut values = indices.indices().iter();
    let mut at = Vec::with_capacity(indices.elements());
    let mut fault = None;
    for_each_index(&indices.shape, |index| {
        let value = values.next().copied().unwrap_or(0);
        let row = in_range(value, shape[axis]).unwrap_or_else(|message| {
            fault.get_or_insert(message);
            0
        });
        at.push((0..shape.len()).map(|d| if d == axis { row } else { index[d] } * step[d] as usize).sum());
    });
    fault.map_or(Ok(at), Err)
}

/// For each tuple of indices (the last axis of `indices`): the offset of the slice of an array of `shape` it names.
fn tuple_offsets(shape: &[usize], indices: &Array, batch_dims: usize) -> Result<Vec<usize>, String> {
    let step = strides(shape);
    let depth = indices.shape.last().copied().unwrap_or(1);
    let tuples = &indices.shape[..indices.shape.len().saturating_sub(1)];
    let mut offsets = Vec::new();
    let mut values = indices.indices().chunks(depth.max(1));
    let mut fault = None;
    for_each_index(tuples, |index| {
        let mut offset: usize = index[..batch_dims].iter().zip(&step).map(|(i, s)| i * *s as usize).sum();
        let tuple = if depth == 0 { &[][..] } else { values.next().unwrap_or(&[]) };
        for (d, value) in tuple.iter().enumerate() {
            match in_range(*value, shape[batch_dims + d]) {
                Ok(row) => offset += row * step[batch_dims + d] as usize,
                Err(message) => {
                    fault.get_or_insert(message);
                }
            }
        }
        offsets.push(offset);
    });
    fault.map_or(Ok(offsets), Err)
}

pub(super) fn gather_nd(
    x: &Array,
    indices: &Array,
    batch_dims: usize,
    ty: &TensorType,
) -> Result<Array, String> {
    let depth = indices.shape.last().copied().unwrap_or(1);
    let slice: usize = x.shape[batch_dims + depth..].iter().product();
    let at: Vec<usize> =
        tuple_offsets(&x.shape, indices, batch_dims)?.into_iter().flat_map(|o| o..o + slice).collect();
    Ok(x.picked(&ty.shape, &at))
}

pub(super) fn scatter_nd(operands: &[&Array], reduction: ScatterReduction) -> Result<Array, String> {
    let (x, indices, updates) = (operands[0], operands[1], operands[2]);
    let depth = indices.shape.last().copied().unwrap_or(1);
    let slice: usize = x.shape[depth..].iter().product();
    let at: Vec<usize> =
        tuple_offsets(&x.shape, indices, 0)?.into_iter().flat_map(|o| o..o + slice).collect();
    Ok(scattered(x, &at, updates, reduction))
}

pub(super) fn scatter_elements(
    operands: &[&Array],
    axis: usize,
    reduction: ScatterReduction,
) -> Result<Array, String> {
    let (x, indices, updates) = (operands[0], operands[1], operands[2]);
    Ok(scattered(x, &element_places(&x.shape, indices, axis)?, updates, reduction))
}

/// `x` with the updates applied one after another; each step rounds to the dtype.
fn scattered(x: &Array, at: &[usize], updates: &Array, reduction: ScatterReduction) -> Array {
    let kind = match reduction {
        ScatterReduction::None => None,
        ScatterReduction::Add => Some(MapKind::Add),
        ScatterReduction::Mul => Some(MapKind::Mul),
        ScatterReduction::Max => Some(MapKind::Max),
        ScatterReduction::Min => Some(MapKind::Min),
    };
    let mut result = x.clone();
    let Some(kind) = kind else {
        put(&mut result.data, at.iter().copied(), &updates.data);
        return result;
    };
    let dtype = x.dtype;
    match (&mut result.data, &updates.data) {
        (Data::F32(to), Data::F32(from)) => {
            at.iter()
                .zip(from)
                .for_each(|(i, x)| to[*i] = round_f32(dtype, map::binary_f32(kind, to[*i], *x)));
        }
        (Data::F64(to), Data::F64(from)) => {
            at.iter().zip(from).for_each(|(i, x)| to[*i] = map::binary_f64(kind, to[*i], *x));
        }
        (Data::Int(to), Data::Int(from)) => {
            at.iter()
                .zip(from)
                .for_each(|(i, x)| to[*i] = wrap_int(dtype, map::binary_int(kind, dtype, to[*i], *x)));
        }
        _ => {}
    }
    result
}
