//! `ConvInteger` and `QLinearConv`: Σ (x − x₀)·(w − w₀) in int32 over the places of a window that lie in the data.
//!
//! ```text
//! Σ x·w − x₀·Σ w − w₀·Σ x + x₀·w₀·places
//! ```

use kiln_ir::nn::{ContractDims, MapKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Result, Val};
use crate::fold;
use crate::ops::conv::{biased, windows_of};
use crate::ops::quantize;

/// `ConvInteger`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let (x_zero, w_zero) = (c.optional(2), c.optional(3));
    Ok(vec![convolved(c, x, w, x_zero, w_zero)?])
}

/// `QLinearConv`: the sum, rescaled to the result's quantisation.
pub fn qlinear(c: &mut Call) -> Result<Vec<Val>> {
    let (x, x_scale, x_zero) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (w, w_scale, w_zero) = (c.input(3)?, c.input(4)?, c.input(5)?);
    let (y_scale, y_zero) = (c.input(6)?, c.input(7)?);
    let sum = convolved(c, x, w, Some(x_zero), Some(w_zero))?;
    let bias = c.optional(8);
    let sum = biased(c.draft, sum, bias)?;
    let w_scale = over_channels(c.draft, w_scale, c.draft.rank(sum))?;
    let scales = c.draft.map2(MapKind::Mul, w_scale, x_scale)?;
    let factor = c.draft.map2(MapKind::Div, scales, y_scale)?;
    let wide = c.draft.cast(sum, c.draft.dtype(factor))?;
    let scaled = c.draft.map2(MapKind::Mul, wide, factor)?;
    let dtype = c.draft.dtype(y_zero);
    Ok(vec![quantize::round_to(c.draft, scaled, Some(y_zero), dtype)?])
}

/// A vector over the channels, to broadcast against `[N, C, …]`; a scalar as it is.
fn over_channels(d: &mut Draft, v: Val, rank: usize) -> Result<Val> {
    let n = d.ty(v).elements();
    if n == 1 {
        return d.reshape(v, &[]);
    }
    let mut shape = vec![1; rank];
    shape[1] = n;
    d.reshape(v, &shape)
}

fn is_zero(d: &Draft, zero: Option<Val>) -> bool {
    zero.is_none_or(|z| d.splat(z).and_then(fold::ints) == Some(vec![0]))
}

fn convolved(c: &mut Call, x: Val, w: Val, x_zero: Option<Val>, w_zero: Option<Val>) -> Result<Val> {
    let (sx, sw) = (c.draft.shape(x).to_vec(), c.draft.shape(w).to_vec());
    let windows = windows_of(c, &sx, &sw)?;
    let group = c.extents(&[c.int_or("group", 1)?])?[0];
    if group == 0 || sx[1] != sw[1] * group || sw[0] % group != 0 {
        return Err(Diagnostic::new(Code::Shape, format!("cannot convolve {sx:?} with {sw:?}")));
    }
    let d = &mut *c.draft;
    let (taps, out) = (windows.kernel.iter().product::<usize>(), windows.out.clone());
    let rank = sx.len();
    let (n, filters, channels) = (sx[0], sw[0] / group, sx[1] / group);
    // x as [N, group, channels, taps, out…], w as [group, filters, channels, taps].
    let padded = windows.padded(d, x, 0.0)?;
    let stacked = windows.stacked(d, padded)?;
    let stacked = d.reshape(stacked, &[&[n, group, channels, taps], &out[..]].concat())?;
    let weight = d.reshape(w, &[group, filters, channels, taps])?;
    let dims = ContractDims {
        lhs_batch: vec![0],
        rhs_batch: vec![1],
        lhs_contract: vec![2, 3],
        rhs_contract: vec![2, 3],
    };
    // [group, filters, N, out…]
    let product = d.contract(weight, stacked, dims, DType::I32)?;
    let shape = [&[n, sw[0]], &out[..]].concat();
    let placed = |d: &mut Draft, v: Val| -> Result<Val> {
        let joined = d.reshape(v, &[&[sw[0], n], &out[..]].concat())?;
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(0, 1);
        d.transpose(joined, &perm)
    };
    let mut y = placed(d, product)?;
    let inside = {
        let ones = d.full(1.0, DType::I32, &[&[1, 1], &sx[2..]].concat())?;
        let padded = windows.padded(d, ones, 0.0)?;
        let stacked = windows.stacked(d, padded)?;
        d.reshape(stacked, &[&[taps], &out[..]].concat())?
    };
    let x_zero = x_zero.filter(|_| !is_zero(d, x_zero));
    let w_zero = w_zero.filter(|_| !is_zero(d, w_zero));
    if let Some(x_zero) = x_zero {
        let x_zero = d.cast(x_zero, DType::I32)?;
        let x_zero = d.reshape(x_zero, &[])?;
        let wide = d.cast(weight, DType::I32)?;
        let summed = d.reduce(ReduceKind::Sum, wide, &[2], Keep::No)?;
        let summed = d.reshape(summed, &[sw[0], taps])?;
        let dims = ContractDims {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![1],
            rhs_contract: vec![0],
        };
        let sums = d.contract(summed, inside, dims, DType::I32)?;
        let less = d.map2(MapKind::Mul, sums, x_zero)?;
        y = d.map2(MapKind::Sub, y, less)?;
    }
    if let Some(w_zero) = w_zero {
        let w_zero = d.cast(w_zero, DType::I32)?;
        let w_zero = over_channels(d, w_zero, rank)?;
        let wide = d.cast(stacked, DType::I32)?;
        let sums = d.reduce(ReduceKind::Sum, wide, &[2, 3], Keep::No)?;
        let sums = d.reshape(sums, &[&[n, group, 1], &out[..]].concat())?;
        let sums = d.broadcast_to(sums, &[&[n, group, filters], &out[..]].concat())?;
        let mut sums = d.reshape(sums, &shape)?;
        if let Some(x_zero) = x_zero {
            let x_zero = d.cast(x_zero, DType::I32)?;
            let x_zero = d.reshape(x_zero, &[])?;
            let places = d.reduce(ReduceKind::Sum, inside, &[0], Keep::No)?;
            let places = d.map_scalar(MapKind::Mul, places, channels as f64)?;
            let centre = d.map2(MapKind::Mul, places, x_zero)?;
            sums = d.map2(MapKind::Sub, sums, centre)?;
        }
        let less = d.map2(MapKind::Mul, sums, w_zero)?;
        y = d.map2(MapKind::Sub, y, less)?;
    }
    Ok(y)
}
