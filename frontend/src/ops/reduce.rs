//! `ReduceSum`, `ReduceMax`, …, `ReduceMean`, `ReduceL2`: axes as attribute or as input, whichever is given.

use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::draft::{Keep, Result, Val};

/// A plain reduction.
pub fn import(c: &mut Call, kind: ReduceKind) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let (axes, keep) = axes(c)?;
    if c.draft.dtype(x) == DType::Bool {
        let codes = c.draft.cast(x, DType::U8)?;
        let y = c.draft.reduce(kind, codes, &axes, keep)?;
        return Ok(vec![c.draft.cast(y, DType::Bool)?]);
    }
    Ok(vec![c.draft.reduce(kind, x, &axes, keep)?])
}

/// `ReduceMean`.
pub fn mean(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    let (axes, keep) = axes(c)?;
    if axes.is_empty() {
        return Ok(vec![x]);
    }
    let count: usize = axes.iter().map(|&d| c.draft.shape(x)[d]).product();
    let sum = c.draft.reduce(ReduceKind::Sum, x, &axes, keep)?;
    Ok(vec![c.draft.map_scalar(MapKind::Div, sum, count as f64)?])
}

/// `ReduceL2`: √Σx².
pub fn l2(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    let (axes, keep) = axes(c)?;
    let square = c.draft.map1(MapKind::Square, x)?;
    let sum = c.draft.reduce(ReduceKind::Sum, square, &axes, keep)?;
    Ok(vec![c.draft.map1(MapKind::Sqrt, sum)?])
}

/// `ReduceL1`: Σ|x|.
pub fn l1(c: &mut Call) -> Result<Vec<Val>> {
    before(c, MapKind::Abs, None)
}

/// `ReduceSumSquare`: Σx².
pub fn sum_square(c: &mut Call) -> Result<Vec<Val>> {
    before(c, MapKind::Square, None)
}

/// `ReduceLogSum`: log Σx.
pub fn log_sum(c: &mut Call) -> Result<Vec<Val>> {
    before(c, MapKind::Identity, Some(MapKind::Log))
}

/// after(Σ before(x)).
fn before(c: &mut Call, before: MapKind, after: Option<MapKind>) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    let (axes, keep) = axes(c)?;
    let mapped = c.draft.map1(before, x)?;
    let sum = c.draft.reduce(ReduceKind::Sum, mapped, &axes, keep)?;
    Ok(vec![match after {
        Some(kind) => c.draft.map1(kind, sum)?,
        None => sum,
    }])
}

/// `ReduceLogSumExp`: log Σeˣ, the maximum taken out first.
pub fn log_sum_exp(c: &mut Call) -> Result<Vec<Val>> {
    let x = c.input(0)?;
    c.expect_float(x)?;
    let (axes, keep) = axes(c)?;
    let max = c.draft.reduce(ReduceKind::Max, x, &axes, Keep::Dims)?;
    let shifted = c.draft.map2(MapKind::Sub, x, max)?;
    let exp = c.draft.map1(MapKind::Exp, shifted)?;
    let sum = c.draft.reduce(ReduceKind::Sum, exp, &axes, keep)?;
    let log = c.draft.map1(MapKind::Log, sum)?;
    let shape = c.draft.shape(log).to_vec();
    let max = c.draft.reshape(max, &shape)?;
    Ok(vec![c.draft.map2(MapKind::Add, log, max)?])
}

/// The axes to reduce, and whether they stay.
fn axes(c: &mut Call) -> Result<(Vec<usize>, Keep)> {
    let rank = c.draft.rank(c.input(0)?);
    let keep = if c.flag("keepdims", true)? { Keep::Dims } else { Keep::No };
    let noop = c.flag("noop_with_empty_axes", false)?;
    let listed = match c.ints("axes")? {
        Some(axes) => Some(axes.to_vec()),
        None => match (c.optional_ints(1, "the axes"), declared_axes(c, keep)) {
            (Err(_), Some(axes)) => return Ok((axes, keep)),
            (axes, _) => axes?,
        },
    };
    let axes = match listed {
        Some(axes) if !axes.is_empty() => c.axes(&axes, rank)?,
        _ if noop => Vec::new(),
        _ => (0..rank).collect(),
    };
    Ok((axes, keep))
}

/// The axes whose reduction gives the declared shape, where it is the only set that does: extents of 1 aside, which
/// it does not matter to reduce.
fn declared_axes(c: &Call, keep: Keep) -> Option<Vec<usize>> {
    let (from, to) = (c.draft.shape(c.optional(0)?), c.declared(0)?);
    let wide: Vec<usize> = (0..from.len()).filter(|&d| from[d] != 1).collect();
    if keep == Keep::Dims {
        let axes: Vec<usize> = wide.iter().copied().filter(|&d| to.get(d) == Some(&1)).collect();
        let fits = to.len() == from.len() && (0..from.len()).all(|d| axes.contains(&d) || from[d] == to[d]);
        return fits.then_some(axes);
    }
    let mut found = (0u32..1 << wide.len().min(16)).filter_map(|set| {
        let axes: Vec<usize> = (0..wide.len()).filter(|i| set >> i & 1 == 1).map(|i| wide[i]).collect();
        let left: Vec<usize> = (0..from.len()).filter(|d| !axes.contains(d)).map(|d| from[d]).collect();
        (left == to).then_some(axes)
    });
    match (found.next(), found.next()) {
        (Some(axes), None) => Some(axes),
        _ => None,
    }
}
