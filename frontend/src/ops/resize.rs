//! `Resize` (and the older `Upsample`): one axis after the other.
//!
//! ```text
//! nearest          →  elements taken by constant indices
//! linear, cubic    →  x · W, a constant matrix of the weights along the axis
//! ```
//! Sizes, scales and the region of interest are known at import.

use kiln_ir::nn::ContractDims;
use kiln_machine::tensor::{DType, Tensor};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::fold::{Values, is_float};
use crate::ops::gather;

/// How one axis is resized.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
    /// Start and end of the region of interest, normalised.
    region: (f64, f64),
}

/// What the attributes say of all axes.
struct Method {
    mode: String,
    coordinates: String,
    nearest: String,
    cubic_a: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

/// `Resize` of opset 10 on.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let shape = c.draft.shape(x).to_vec();
    let text =
        |name: &str, default: &str| -> Result<String> { Ok(c.string(name)?.unwrap_or(default).to_string()) };
    let default_coordinates = if c.opset < 11 { "asymmetric" } else { "half_pixel" };
    let default_nearest = if c.opset < 11 { "simple" } else { "round_prefer_floor" };
    let method = Method {
        mode: text("mode", "nearest")?,
        coordinates: text("coordinate_transformation_mode", default_coordinates)?,
        nearest: text("nearest_mode", default_nearest)?,
        cubic_a: c.float_or("cubic_coeff_a", -0.75)?.into(),
        exclude_outside: c.flag("exclude_outside", false)?,
        antialias: c.flag("antialias", false)?,
        extrapolation: c.float_or("extrapolation_value", 0.0)?.into(),
    };
    let policy = text("keep_aspect_ratio_policy", "stretch")?;
    let axes = match c.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| c.axis(a, shape.len())).collect::<Result<Vec<_>>>()?,
        None => (0..shape.len()).collect(),
    };
    let floats = |i: usize| known_floats(c, i);
    let (roi, scales, sizes) = if c.opset < 11 {
        (None, floats(1)?, None)
    } else {
        let sizes = c.optional(3).filter(|&v| c.draft.ty(v).elements() > 0);
        let sizes = match sizes {
            Some(v) => match (c.draft.ints(v), c.declared(0)) {
                (Some(sizes), _) => Some(sizes),
                (None, Some(out)) if policy == "stretch" => {
                    Some(axes.iter().map(|&a| out.get(a).map_or(0, |&n| n as i64)).collect())
                }
                (None, _) => Some(c.known_ints(3, "the sizes")?),
            },
            None => None,
        };
        let wanted = method.coordinates == "tf_crop_and_resize";
        (if wanted { floats(1)? } else { None }, if sizes.is_some() { None } else { floats(2)? }, sizes)
    };
    let count = axes.len();
    let plan = plan(c, &shape, &axes, scales, sizes, &policy)?;
    let mut y = x;
    let dtype = c.draft.dtype(x);
    let interpolates = method.mode != "nearest";
    if interpolates && !is_float(dtype) {
        y = c.draft.cast(y, DType::F32)?;
    }
    for (i, &(axis, to, scale)) in plan.iter().enumerate() {
        let region = match &roi {
            Some(roi) if roi.len() == 2 * count => (roi[i], roi[count + i]),
            _ => (0.0, 1.0),
        };
        if !(1e-6..1e6).contains(&scale) {
            return Err(Diagnostic::new(Code::Shape, format!("a scale of {scale} is absurd")));
        }
        let one = Axis { from: shape[axis], to, scale, region };
        c.expect_table(&[if interpolates { one.from } else { 1 }, to])?;
        if one.from == one.to && one.scale == 1.0 && method.coordinates != "tf_crop_and_resize" {
            continue;
        }
        y = match method.mode.as_str() {
            "nearest" => nearest(c.draft, y, axis, &one, &method)?,
            "linear" | "cubic" => weighted(c.draft, y, axis, &one, &method)?,
            other => return Err(Diagnostic::new(Code::Attribute, format!("mode {other:?} is unknown"))),
        };
    }
    Ok(vec![c.draft.cast(y, dtype)?])
}

/// `Upsample`, deprecated since opset 10.
pub fn upsample(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let shape = c.draft.shape(x).to_vec();
    let mode = c.string("mode")?.unwrap_or("nearest").to_string();
    let scales = match c.floats("scales")? {
        Some(scales) => Some(scales.iter().map(|&s| f64::from(s)).collect()),
        None => known_floats(c, 1)?,
    };
    let method = Method {
        mode: if mode == "bilinear" { "linear".into() } else { mode },
        coordinates: "asymmetric".into(),
        nearest: "floor".into(),
        cubic_a: -0.75,
        exclude_outside: false,
        antialias: false,
        extrapolation: 0.0,
    };
    let axes: Vec<usize> = (0..shape.len()).collect();
    let mut y = x;
    for (axis, to, scale) in plan(c, &shape, &axes, scales, None, "stretch")? {
        let one = Axis { from: shape[axis], to, scale, region: (0.0, 1.0) };
        c.expect_table(&[if method.mode == "nearest" { 1 } else { one.from }, to])?;
        y = match method.mode.as_str() {
            "nearest" => nearest(c.draft, y, axis, &one, &method)?,
            _ => weighted(c.draft, y, axis, &one, &method)?,
        };
    }
    Ok(vec![y])
}

/// The known floats of input `i`; none when it is left out or empty.
fn known_floats(c: &Call, i: usize) -> Result<Option<Vec<f64>>> {
    let Some(v) = c.optional(i).filter(|&v| c.draft.ty(v).elements() > 0) else { return Ok(None) };
    match c.draft.tensor(v).and_then(|t| Values::of(&t)) {
        Some(Values::Float(v)) => Ok(Some(v)),
        _ => Err(Diagnostic::new(Code::NotConstant, "the scales depend on the values of the inputs")),
    }
}

/// For each axis its new extent and its scale.
fn plan(
    c: &Call,
    shape: &[usize],
    axes: &[usize],
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<i64>>,
    policy: &str,
) -> Result<Vec<(usize, usize, f64)>> {
    let wrong =
        |n: usize| Diagnostic::new(Code::Shape, format!("{n} sizes or scales for {} axes", axes.len()));
    let scale_of = |to: f64, axis: usize| to / shape[axis].max(1) as f64;
    let scaled = |scale: f64, axis: usize, to: f64| -> Result<(usize, usize, f64)> {
        Ok((axis, c.extents(&[to as i64])?[0], scale))
    };
    match (scales, sizes) {
        (_, Some(sizes)) if sizes.len() == axes.len() => {
            let each = || sizes.iter().zip(axes).map(|(&n, &axis)| scale_of(n as f64, axis));
            let one = match policy {
                "not_larger" => each().reduce(f64::min),
                "not_smaller" => each().reduce(f64::max),
                _ => None,
            };
            let planned = sizes.iter().zip(axes).map(|(&n, &axis)| match one {
                Some(scale) => scaled(scale, axis, (scale * shape[axis] as f64 + 0.5).floor()),
                None => scaled(scale_of(n as f64, axis), axis, n as f64),
            });
            planned.collect()
        }
        (Some(scales), None) if scales.len() == axes.len() => {
            let planned = scales.iter().zip(axes);
            // A product that float rounding left just below a whole number is that number.
            planned.map(|(&s, &axis)| scaled(s, axis, (s * shape[axis] as f64 + 1e-6).floor())).collect()
        }
        (scales, sizes) => Err(wrong(scales.map(|s| s.len()).or(sizes.map(|s| s.len())).unwrap_or(0))),
    }
}

impl Axis {
    /// The place in the data that element `i` of the result stands for.
    fn coordinate(&self, i: usize, method: &Method) -> f64 {
        // In f32, as the operator is defined on it: ties between neighbours are decided by its rounding.
        let (x, from, to, scale) = (i as f32, self.from as f32, self.to as f32, self.scale as f32);
        let at = match method.coordinates.as_str() {
            "asymmetric" => x / scale,
            "align_corners" if self.to > 1 => x * (from - 1.0) / (to - 1.0),
            "align_corners" => 0.0,
            "pytorch_half_pixel" if self.to <= 1 => 0.0,
            "tf_half_pixel_for_nn" => (x + 0.5) / scale,
            "half_pixel_symmetric" => {
                let adjustment = to / (scale * from);
                let offset = from / 2.0 * (1.0 - adjustment);
                offset + (x + 0.5) / scale - 0.5
            }
            "tf_crop_and_resize" => {
                let (start, end) = (self.region.0 as f32, self.region.1 as f32);
                if self.to > 1 {
                    start * (from - 1.0) + x * (end - start) * (from - 1.0) / (to - 1.0)
                } else {
                    0.5 * (start + end) * (from - 1.0)
                }
            }
            _ => (x + 0.5) / scale - 0.5,
        };
        at.into()
    }

    fn is_outside(&self, at: f64, method: &Method) -> bool {
        method.coordinates == "tf_crop_and_resize" && !(0.0..=self.from as f64 - 1.0).contains(&at)
    }

    fn clamped(&self, at: i64) -> usize {
        at.clamp(0, self.from as i64 - 1) as usize
    }
}

fn nearest(d: &mut Draft, x: Val, axis: usize, one: &Axis, method: &Method) -> Result<Val> {
    let round = |at: f64| match method.nearest.as_str() {
        // Opset 10 leaves it open; onnxruntime goes up where the data shrinks.
        "simple" if one.scale < 1.0 => at.ceil(),
        "floor" | "simple" => at.floor(),
        "ceil" => at.ceil(),
        "round_prefer_ceil" => (at + 0.5).floor(),
        _ => (at - 0.5).ceil(),
    };
    let places: Vec<f64> = (0..one.to).map(|i| one.coordinate(i, method)).collect();
    let indices: Vec<i64> = places.iter().map(|&at| one.clamped(round(at) as i64) as i64).collect();
    let indices = d.int64s(&indices);
    let taken = gather::take(d, x, indices, axis)?;
    extrapolated(d, taken, axis, one, &places, method)
}

/// Results that stand for places outside the data get the attribute's value.
fn extrapolated(
    d: &mut Draft,
    y: Val,
    axis: usize,
    one: &Axis,
    places: &[f64],
    method: &Method,
) -> Result<Val> {
    if !places.iter().any(|&at| one.is_outside(at, method)) {
        return Ok(y);
    }
    let mut shape = vec![1; d.rank(y)];
    shape[axis] = places.len();
    let outside: Vec<u8> = places.iter().map(|&at| u8::from(one.is_outside(at, method))).collect();
    let outside = d.known(Tensor { dtype: DType::Bool, shape, data: outside.into() });
    let value = d.scalar(method.extrapolation, d.dtype(y));
    d.select(outside, value, y)
}

/// Along `axis` the product with a matrix of weights.
fn weighted(d: &mut Draft, x: Val, axis: usize, one: &Axis, method: &Method) -> Result<Val> {
    let mut matrix = vec![0.0; one.from * one.to];
    let places: Vec<f64> = (0..one.to).map(|i| one.coordinate(i, method)).collect();
    for (i, &at) in places.iter().enumerate() {
        for (place, weight) in weights(one, at, method) {
            matrix[place * one.to + i] += weight;
        }
    }
    let dtype = d.dtype(x);
    let data = Values::Float(matrix).encode(dtype);
    let matrix = d.known(Tensor { dtype, shape: vec![one.from, one.to], data });
    let rank = d.rank(x);
    let dims = ContractDims {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![axis],
        rhs_contract: vec![0],
    };
    let product = d.contract(x, matrix, dims, dtype)?;
    // The new extent stands last.
    let mut perm: Vec<usize> = (0..rank - 1).collect();
    perm.insert(axis, rank - 1);
    let y = d.transpose(product, &perm)?;
    extrapolated(d, y, axis, one, &places, method)
}

/// Elements and their weights for a place in the data.
fn weights(one: &Axis, at: f64, method: &Method) -> Vec<(usize, f64)> {
    let cubic = method.mode == "cubic";
    // A filter that is wide enough to see every element when the data shrinks.
    let stretch = if method.antialias && one.scale < 1.0 { one.scale } else { 1.0 };
    let reach = if cubic { 2.0 } else { 1.0 } / stretch;
    let kernel = |distance: f64| {
        let t = (distance * stretch).abs();
        match (cubic, t) {
            (false, t) => (1.0 - t).max(0.0),
            (true, t) if t < 1.0 => ((method.cubic_a + 2.0) * t - (method.cubic_a + 3.0)) * t * t + 1.0,
            (true, t) if t < 2.0 => (((t - 5.0) * t + 8.0) * t - 4.0) * method.cubic_a,
            _ => 0.0,
        }
    };
    let (first, last) = ((at - reach).floor() as i64, (at + reach).ceil() as i64);
    let is_inside = |i: i64| (0..one.from as i64).contains(&i);
    let skips = method.exclude_outside;
    let all: Vec<(i64, f64)> = (first..=last)
        .map(|i| (i, kernel(i as f64 - at)))
        .filter(|&(i, w)| w != 0.0 && (!skips || is_inside(i)))
        .collect();
    let sum: f64 = if skips || stretch < 1.0 { all.iter().map(|(_, w)| w).sum() } else { 1.0 };
    all.into_iter().map(|(i, w)| (one.clamped(i), w / sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(mode: &str, coordinates: &str) -> Method {
        Method {
            mode: mode.into(),
            coordinates: coordinates.into(),
            nearest: "round_prefer_floor".into(),
            cubic_a: -0.75,
            exclude_outside: false,
            antialias: false,
            extrapolation: 0.0,
        }
    }

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        let one = Axis { from: 4, to: 8, scale: 2.0, region: (0.0, 1.0) };
        for mode in ["linear", "cubic"] {
            let m = method(mode, "half_pixel");
            for i in 0..8 {
                let w = weights(&one, one.coordinate(i, &m), &m);
                assert!((w.iter().map(|(_, w)| w).sum::<f64>() - 1.0).abs() < 1e-12, "{mode} {i}");
                assert!(w.iter().all(|(p, _)| *p < 4));
            }
        }
    }

    #[test]
    fn corners_are_aligned() {
        let one = Axis { from: 3, to: 5, scale: 5.0 / 3.0, region: (0.0, 1.0) };
        let m = method("linear", "align_corners");
        assert_eq!((one.coordinate(0, &m), one.coordinate(4, &m)), (0.0, 2.0));
    }
}
