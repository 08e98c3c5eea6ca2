//! `MaxPool`, `AveragePool`, `LpPool` and the global ones: sliding windows, one spatial dim after the other.
//!
//! ```text
//! max over a 3×3 window = max of 3 shifted rows, then of 3 shifted columns
//! ```

use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_machine::tensor::{DType, Tensor};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Range, Result, Val};
use crate::fold::{Values, is_float};
use crate::windows::Windows;

fn windows(c: &mut Call) -> Result<(Val, Vec<usize>, Windows)> {
    let x = c.input(0)?;
    let (shape, windows) = windows_over(c, x)?;
    Ok((x, shape, windows))
}

/// The windows over the spatial dims of `x`, and its shape.
fn windows_over(c: &Call, x: Val) -> Result<(Vec<usize>, Windows)> {
    let shape = c.draft.shape(x).to_vec();
    if shape.len() < 3 {
        return Err(Diagnostic::new(Code::Shape, format!("{shape:?} has no spatial dims")));
    }
    let kernel = c.extents(c.required(c.ints("kernel_shape")?, "kernel_shape")?)?;
    let ceil = c.flag("ceil_mode", false)?;
    let windows = Windows::of(c, &shape[2..], &kernel, ceil)?;
    Ok((shape, windows))
}

/// `kind` over each window, dim by dim; `fill` is its neutral element.
fn combined(d: &mut Draft, w: &Windows, x: Val, kind: MapKind, fill: f64) -> Result<Val> {
    let mut y = w.padded(d, x, fill)?;
    for dim in 0..w.kernel.len() {
        let padded = y;
        y = w.along(d, padded, dim, 0)?;
        for tap in 1..w.kernel[dim] {
            let next = w.along(d, padded, dim, tap)?;
            y = d.map2(kind, y, next)?;
        }
    }
    Ok(y)
}

/// `MaxPool`, with the flat indices of the greatest elements where they are wanted.
pub fn max(c: &mut Call) -> Result<Vec<Val>> {
    let (x, shape, w) = windows(c)?;
    let column_major = c.flag("storage_order", false)?;
    let dtype = c.draft.dtype(x);
    let least = if is_float(dtype) { f64::NEG_INFINITY } else { Range::of_dtype(dtype).lo as f64 };
    if !c.wants(1) {
        return Ok(vec![combined(c.draft, &w, x, MapKind::Max, least)?]);
    }
    c.expect_table(&shape)?;
    let places = flat_places(&shape, column_major);
    let places = c.draft.known(places);
    let (x, places) = (w.padded(c.draft, x, least)?, w.padded(c.draft, places, 0.0)?);
    let mut best: Option<(Val, Val)> = None;
    for tap in w.taps() {
        let (value, place) = (w.tap(c.draft, x, &tap)?, w.tap(c.draft, places, &tap)?);
        best = Some(match best {
            None => (value, place),
            Some((most, at)) => {
                let greater = c.draft.map2(MapKind::Gt, value, most)?;
                (c.draft.map2(MapKind::Max, most, value)?, c.draft.select(greater, place, at)?)
            }
        });
    }
    let (values, places) = best.ok_or_else(|| Diagnostic::new(Code::Shape, "an empty window"))?;
    Ok(vec![values, places])
}

/// For each element its number in the whole tensor; within a channel by columns if asked.
fn flat_places(shape: &[usize], column_major: bool) -> Tensor {
    let spatial = &shape[2..];
    let volume: usize = spatial.iter().product();
    let channels: usize = shape[..2].iter().product();
    let mut values = Vec::with_capacity(channels * volume);
    for channel in 0..channels {
        for i in 0..volume {
            let within = if column_major {
                // The index of each dim, from the last; the first dim counts fastest.
                let mut rest = i;
                let index: Vec<usize> = spatial
                    .iter()
                    .rev()
                    .map(|n| {
                        let at = rest % n;
                        rest /= n;
                        at
                    })
                    .collect();
                index.iter().zip(spatial.iter().rev()).fold(0, |flat, (at, n)| flat * n + at)
            } else {
                i
            };
            values.push((channel * volume + within) as i64);
        }
    }
    Tensor { dtype: DType::I64, shape: shape.to_vec(), data: Values::Int(values).encode(DType::I64) }
}

/// `AveragePool`: padding counts when `count_include_pad` says so.
pub fn average(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    Ok(vec![average_of(c, x)?])
}

/// Means over windows of `x`, which the attributes describe.
pub fn average_of(c: &mut Call, x: Val) -> Result<Val> {
    let (shape, w) = windows_over(c, x)?;
    let dtype = c.expect_float(x)?;
    let padding_counts = c.flag("count_include_pad", false)?;
    let sum = combined(c.draft, &w, x, MapKind::Add, 0.0)?;
    c.expect_table(&w.out)?;
    let counts = w.counts(&shape[2..], padding_counts);
    let mut products = vec![1.0];
    for dim in &counts {
        products = products.iter().flat_map(|p| dim.iter().map(move |&n| p * n as f64)).collect();
    }
    let divisor = Tensor { dtype, shape: w.out.clone(), data: Values::Float(products).encode(dtype) };
    let divisor = c.draft.known(divisor);
    c.draft.map2(MapKind::Div, sum, divisor)
}

/// `LpPool`: (Σ|x|ᵖ)^(1/p).
pub fn lp(c: &mut Call) -> Result<Vec<Val>> {
    let (x, _, w) = windows(c)?;
    c.expect_float(x)?;
    let p = c.int_or("p", 2)? as f64;
    let powers = powers(c.draft, x, p)?;
    let sum = combined(c.draft, &w, powers, MapKind::Add, 0.0)?;
    Ok(vec![root(c.draft, sum, p)?])
}

/// `GlobalLpPool`.
pub fn global_lp(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    let p = c.int_or("p", 2)? as f64;
    let axes: Vec<usize> = (2..c.draft.rank(x)).collect();
    let powers = powers(c.draft, x, p)?;
    let sum = c.draft.reduce(ReduceKind::Sum, powers, &axes, Keep::Dims)?;
    Ok(vec![root(c.draft, sum, p)?])
}

/// |x|ᵖ.
pub fn powers(d: &mut Draft, x: Val, p: f64) -> Result<Val> {
    if p == 2.0 {
        return d.map1(MapKind::Square, x);
    }
    let size = d.map1(MapKind::Abs, x)?;
    if p == 1.0 { Ok(size) } else { d.map_scalar(MapKind::Pow, size, p) }
}

/// x^(1/p).
pub fn root(d: &mut Draft, x: Val, p: f64) -> Result<Val> {
    match p {
        1.0 => Ok(x),
        2.0 => d.map1(MapKind::Sqrt, x),
        p => d.map_scalar(MapKind::Pow, x, 1.0 / p),
    }
}
