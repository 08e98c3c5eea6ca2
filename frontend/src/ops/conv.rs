//! `Conv` and `ConvTranspose`, with `auto_pad` resolved.
//!
//! ```text
//! y = Conv <strides = [4, 4]> (x, w, b)   →   add (nn.conv x, w) (broadcast b)
//! ```
//! The transposed convolution is the plain one over the data spread out by its strides, with the kernel reversed.

use kiln_ir::nn::{MapKind, OpKind};
use kiln_ir::types::Scalar;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::windows::Windows;

/// The windows of a convolution of `x` with `w`, whose kernel `kernel_shape` may repeat.
pub fn windows_of(c: &Call, sx: &[usize], sw: &[usize]) -> Result<Windows> {
    if sx.len() < 3 || sx.len() != sw.len() {
        return Err(Diagnostic::new(Code::Shape, format!("cannot convolve {sx:?} with {sw:?}")));
    }
    check_kernel_shape(c, sw)?;
    Windows::of(c, &sx[2..], &sw[2..], false)
}

fn check_kernel_shape(c: &Call, sw: &[usize]) -> Result<()> {
    match c.ints("kernel_shape")? {
        Some(declared) if declared.iter().map(|&k| k as usize).ne(sw[2..].iter().copied()) => {
            Err(Diagnostic::new(
                Code::Shape,
                format!("kernel_shape {declared:?} is not that of the weight {sw:?}"),
            ))
        }
        _ => Ok(()),
    }
}

/// `Conv`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    c.expect_float(x)?;
    let (sx, sw) = (c.draft.shape(x).to_vec(), c.draft.shape(w).to_vec());
    let windows = windows_of(c, &sx, &sw)?;
    let groups = c.extents(&[c.int_or("group", 1)?])?[0];
    let Windows { strides, dilations, low, declared_high, .. } = windows;
    let kind = OpKind::Conv { strides, pads_low: low, pads_high: declared_high, dilations, groups };
    let y = c.draft.op(kind, &[x, w])?;
    let bias = c.optional(2);
    Ok(vec![biased(c.draft, y, bias)?])
}

/// `com.microsoft.FusedConv` before its activation: a fourth input is added.
pub fn fused(c: &mut Call) -> Result<Vec<Val>> {
    let mut y = import(c)?[0];
    if let Some(z) = c.optional(3) {
        y = c.draft.map2(MapKind::Add, y, z)?;
    }
    Ok(vec![y])
}

/// y + bias over the channels.
pub fn biased(d: &mut Draft, y: Val, bias: Option<Val>) -> Result<Val> {
    let Some(bias) = bias else { return Ok(y) };
    let mut shape = vec![1; d.rank(y)];
    shape[1] = d.ty(bias).elements();
    let bias = d.reshape(bias, &shape)?;
    d.map2(MapKind::Add, y, bias)
}

/// `ConvTranspose`: W is `[C, M/group, kernel…]`.
pub fn transposed(c: &mut Call) -> Result<Vec<Val>> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    c.expect_float(x)?;
    let (sx, sw) = (c.draft.shape(x).to_vec(), c.draft.shape(w).to_vec());
    let group = c.extents(&[c.int_or("group", 1)?])?[0];
    let fits = sx.len() >= 3 && sx.len() == sw.len() && sx[1] == sw[0] && group > 0 && sx[1] % group == 0;
    if !fits {
        return Err(Diagnostic::new(Code::Shape, format!("cannot convolve {sx:?} with {sw:?}")));
    }
    check_kernel_shape(c, &sw)?;
    let rank = sx.len() - 2;
    let list = |name: &str, default: usize| -> Result<Vec<usize>> {
        match c.ints(name)? {
            None => Ok(vec![default; rank]),
            Some(list) if list.len() == rank => c.extents(list),
            Some(list) => Err(Diagnostic::new(Code::Attribute, format!("attribute {name} is {list:?}"))),
        }
    };
    let (strides, dilations) = (list("strides", 1)?, list("dilations", 1)?);
    let more = list("output_padding", 0)?;
    if strides.iter().chain(&dilations).any(|&v| v == 0) {
        return Err(Diagnostic::new(Code::Attribute, "strides and dilations must be positive"));
    }
    let reach: Vec<usize> = (0..rank).map(|d| (sw[2 + d] - 1) * dilations[d] + 1).collect();
    let whole: Vec<i64> =
        (0..rank).map(|d| ((sx[2 + d] - 1) * strides[d] + more[d] + reach[d]) as i64).collect();
    let (low, high) = cropped(c, &sx[2..], &whole, &strides)?;
    // The data with strides − 1 zeros between neighbours.
    let d = &mut *c.draft;
    let mut spread = x;
    for (dim, &stride) in strides.iter().enumerate().take(rank) {
        if stride > 1 {
            spread = spread_out(d, spread, 2 + dim, stride)?;
        }
    }
    // Padding so that each window holds one result; what is cropped may be more than that.
    let (mut grow, mut cut) = ((vec![0; rank + 2], vec![0; rank + 2]), (vec![0; rank], vec![0; rank]));
    for i in 0..rank {
        let sides = [
            (reach[i] as i64 - 1 - low[i], &mut grow.0[2 + i], &mut cut.0[i]),
            (reach[i] as i64 - 1 - high[i] + more[i] as i64, &mut grow.1[2 + i], &mut cut.1[i]),
        ];
        for (pad, grown, crop) in sides {
            *grown = usize::try_from(pad).unwrap_or(0);
            *crop = usize::try_from(-pad).unwrap_or(0);
        }
    }
    for i in 0..rank {
        let extent = d.shape(spread)[2 + i];
        let left = extent.checked_sub(cut.0[i] + cut.1[i]);
        let left = left.ok_or_else(|| Diagnostic::new(Code::Shape, "the pads leave nothing"))?;
        spread = d.slice_axis(spread, 2 + i, cut.0[i], left)?;
    }
    let padded = d.op(OpKind::Pad { low: grow.0, high: grow.1, value: Scalar::float(0.0) }, &[spread])?;
    // The kernel as [M, C/group, reversed].
    let (channels, filters) = (sw[0], sw[1]);
    let apart = d.reshape(w, &[&[group, channels / group, filters], &sw[2..]].concat())?;
    let mut perm: Vec<usize> = (0..apart_rank(rank)).collect();
    perm.swap(1, 2);
    let turned = d.transpose(apart, &perm)?;
    let kernel = d.reshape(turned, &[&[group * filters, channels / group], &sw[2..]].concat())?;
    let kernel = d.op(OpKind::Reverse { axes: (2..2 + rank).collect() }, &[kernel])?;
    let kind = OpKind::Conv {
        strides: vec![1; rank],
        pads_low: vec![0; rank],
        pads_high: vec![0; rank],
        dilations,
        groups: group,
    };
    let y = d.op(kind, &[padded, kernel])?;
    let bias = c.optional(2);
    Ok(vec![biased(c.draft, y, bias)?])
}

/// Dims of a kernel whose channels are split by group.
fn apart_rank(spatial: usize) -> usize {
    spatial + 3
}

/// What is cut off the whole result on each side.
fn cropped(c: &Call, spatial: &[usize], whole: &[i64], strides: &[usize]) -> Result<(Vec<i64>, Vec<i64>)> {
    let rank = spatial.len();
    let auto = c.string("auto_pad")?.unwrap_or("NOTSET");
    let pads = c.ints("pads")?.map_or(vec![0; 2 * rank], <[i64]>::to_vec);
    let wanted = c.ints("output_shape")?;
    if pads.len() != 2 * rank || wanted.is_some_and(|w| w.len() < rank) {
        return Err(Diagnostic::new(Code::Attribute, format!("pads {pads:?}, output_shape {wanted:?}")));
    }
    let (mut low, mut high) = (pads[..rank].to_vec(), pads[rank..].to_vec());
    let total = |d: usize| match wanted {
        Some(shape) => Some(whole[d] - shape[shape.len() - rank + d]),
        None if auto.starts_with("SAME") => Some(whole[d] - (spatial[d] * strides[d]) as i64),
        None => None,
    };
    for d in 0..rank {
        if auto == "VALID" && wanted.is_none() {
            (low[d], high[d]) = (0, 0);
        } else if let Some(total) = total(d) {
            // Less than the result asked for is padded after it.
            let (less, more) = (total.max(0) / 2, total.max(0) - total.max(0) / 2);
            (low[d], high[d]) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
            high[d] += total.min(0);
        }
    }
    Ok((low, high))
}

/// Zeros put between neighbours along `axis`, so that they stand `step` apart.
fn spread_out(d: &mut Draft, x: Val, axis: usize, step: usize) -> Result<Val> {
    let mut shape = d.shape(x).to_vec();
    let apart = d.unsqueeze(x, axis + 1)?;
    let (low, mut high) = (vec![0; shape.len() + 1], vec![0; shape.len() + 1]);
    high[axis + 1] = step - 1;
    let padded = d.op(OpKind::Pad { low, high, value: Scalar::float(0.0) }, &[apart])?;
    let extent = shape[axis];
    shape[axis] *= step;
    let joined = d.reshape(padded, &shape)?;
    d.slice_axis(joined, axis, 0, (extent - 1) * step + 1)
}
