//! Normalizations with statistics per channel: `BatchNormalization`, `InstanceNormalization`,
//! `GroupNormalization`.

use kiln_ir::nn::MapKind;
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::ops::layer_normalization::{normalize, stash_dtype};

/// A vector over the channels as `[C, 1, …]`, to broadcast against `[N, C, …]`.
fn per_channel(d: &mut Draft, v: Val, rank: usize) -> Result<Val> {
    let mut shape = vec![1; rank - 1];
    shape[0] = d.ty(v).elements();
    d.reshape(v, &shape)
}

fn channels(c: &Call, x: Val) -> Result<usize> {
    let shape = c.draft.shape(x);
    if shape.len() < 2 {
        return Err(Diagnostic::new(Code::Shape, format!("{shape:?} has no channels")));
    }
    Ok(shape.len())
}

/// `BatchNormalization` in inference: (x − mean)/√(var + ε)·scale + bias.
pub fn batch(c: &mut Call) -> Result<Vec<Val>> {
    c.ignore(&["momentum", "spatial"]);
    if c.flag("training_mode", false)? {
        return Err(Diagnostic::new(Code::Attribute, "BatchNormalization in training mode is not handled"));
    }
    let x = c.input(0)?;
    let rank = channels(c, x)?;
    let epsilon = c.float_or("epsilon", 1e-5)?;
    let mut vectors = Vec::new();
    for i in 1..5 {
        let v = c.input(i)?;
        vectors.push(per_channel(c.draft, v, rank)?);
    }
    let [scale, bias, mean, variance] = vectors[..] else { return Ok(Vec::new()) };
    let shifted = c.draft.map_scalar(MapKind::Add, variance, epsilon.into())?;
    let deviation = c.draft.map1(MapKind::Sqrt, shifted)?;
    let factor = c.draft.map2(MapKind::Div, scale, deviation)?;
    let centered = c.draft.map2(MapKind::Sub, x, mean)?;
    let scaled = c.draft.map2(MapKind::Mul, centered, factor)?;
    Ok(vec![c.draft.map2(MapKind::Add, scaled, bias)?])
}

/// `InstanceNormalization`: over the spatial dims of each channel.
pub fn instance(c: &mut Call) -> Result<Vec<Val>> {
    let (x, scale, bias) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (rank, dtype) = (channels(c, x)?, c.expect_float(x)?);
    let epsilon = c.float_or("epsilon", 1e-5)?;
    let axes: Vec<usize> = (2..rank).collect();
    let (normal, ..) = normalize(c.draft, x, &axes, epsilon.into(), DType::F32)?;
    let normal = c.draft.cast(normal, dtype)?;
    affine(c.draft, normal, scale, bias, rank)
}

/// `GroupNormalization`: over the channels of a group and the spatial dims.
pub fn group(c: &mut Call) -> Result<Vec<Val>> {
    let (x, scale, bias) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (rank, dtype) = (channels(c, x)?, c.expect_float(x)?);
    let epsilon = c.float_or("epsilon", 1e-5)?;
    let groups = c.extents(&[c.required(c.int("num_groups")?, "num_groups")?])?[0];
    let stash = stash_dtype(c)?;
    let shape = c.draft.shape(x).to_vec();
    if groups == 0 || !shape[1].is_multiple_of(groups) {
        return Err(Diagnostic::new(Code::Shape, format!("{} channels in {groups} groups", shape[1])));
    }
    let mut apart = vec![shape[0], groups, shape[1] / groups];
    apart.extend(&shape[2..]);
    let grouped = c.draft.reshape(x, &apart)?;
    let axes: Vec<usize> = (2..apart.len()).collect();
    let (normal, ..) = normalize(c.draft, grouped, &axes, epsilon.into(), stash)?;
    let normal = c.draft.cast(normal, dtype)?;
    let joined = c.draft.reshape(normal, &shape)?;
    // Up to opset 20 scale and bias are per group.
    let spread = |d: &mut Draft, v: Val| -> Result<Val> {
        if d.ty(v).elements() == shape[1] {
            return Ok(v);
        }
        let column = d.reshape(v, &[groups, 1])?;
        let wide = d.broadcast_to(column, &[groups, shape[1] / groups])?;
        d.reshape(wide, &[shape[1]])
    };
    let (scale, bias) = (spread(c.draft, scale)?, spread(c.draft, bias)?);
    affine(c.draft, joined, scale, bias, rank)
}

fn affine(d: &mut Draft, x: Val, scale: Val, bias: Val, rank: usize) -> Result<Vec<Val>> {
    let (scale, bias) = (per_channel(d, scale, rank)?, per_channel(d, bias, rank)?);
    let scaled = d.map2(MapKind::Mul, x, scale)?;
    Ok(vec![d.map2(MapKind::Add, scaled, bias)?])
}
