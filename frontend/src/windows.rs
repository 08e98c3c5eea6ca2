//! Windows that slide over spatial dims: the geometry of convolutions and pools.

use kiln_ir::nn::OpKind;
use kiln_ir::types::Scalar;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::fold::is_float;

/// Windows over the dims from 2 on, one entry a spatial dim.
#[derive(Debug, Clone)]
pub struct Windows {
    /// Extents of a window.
    pub kernel: Vec<usize>,
    /// Steps from window to window.
    pub strides: Vec<usize>,
    /// Steps within a window.
    pub dilations: Vec<usize>,
    /// Padding before.
    pub low: Vec<usize>,
    /// Padding after; in ceil mode it holds the last window whole.
    pub high: Vec<usize>,
    /// Padding after as the attributes say.
    pub declared_high: Vec<usize>,
    /// Numbers of windows.
    pub out: Vec<usize>,
}

impl Windows {
    /// Reads `strides`, `dilations`, `pads`, `auto_pad` and, for pools, `ceil_mode`.
    ///
    /// # Errors
    /// Attributes that contradict the shapes.
    pub fn of(c: &Call, spatial: &[usize], kernel: &[usize], ceil: bool) -> Result<Windows> {
        let rank = spatial.len();
        let sizes = |name: &str| -> Result<Vec<usize>> {
            let list = c.ints(name)?.map_or(vec![1; rank], <[i64]>::to_vec);
            if list.len() != rank || list.iter().any(|&v| v < 1) {
                return Err(Diagnostic::new(Code::Attribute, format!("attribute {name} is {list:?}")));
            }
            c.extents(&list)
        };
        let (strides, dilations) = (sizes("strides")?, sizes("dilations")?);
        if kernel.len() != rank || kernel.contains(&0) {
            return Err(Diagnostic::new(Code::Shape, format!("windows of {kernel:?} over {spatial:?}")));
        }
        let reach: Vec<usize> = (0..rank).map(|d| (kernel[d] - 1) * dilations[d] + 1).collect();
        let pads = c.ints("pads")?;
        let auto = c.string("auto_pad")?.unwrap_or("NOTSET");
        let (low, mut high) = match auto {
            "NOTSET" => {
                let pads = pads.map_or(vec![0; 2 * rank], <[i64]>::to_vec);
                if pads.len() != 2 * rank {
                    return Err(Diagnostic::new(Code::Attribute, format!("attribute pads is {pads:?}")));
                }
                let pads = c.extents(&pads)?;
                (pads[..rank].to_vec(), pads[rank..].to_vec())
            }
            "VALID" => (vec![0; rank], vec![0; rank]),
            "SAME_UPPER" | "SAME_LOWER" => {
                let total = |d: usize| {
                    let out = spatial[d].div_ceil(strides[d]);
                    (out.saturating_sub(1) * strides[d] + reach[d]).saturating_sub(spatial[d])
                };
                let less: Vec<usize> = (0..rank).map(|d| total(d) / 2).collect();
                let more: Vec<usize> = (0..rank).map(|d| total(d) - total(d) / 2).collect();
                if auto == "SAME_UPPER" { (less, more) } else { (more, less) }
            }
            other => return Err(Diagnostic::new(Code::Attribute, format!("auto_pad {other:?} is unknown"))),
        };
        let declared_high = high.clone();
        let mut out = Vec::with_capacity(rank);
        for d in 0..rank {
            let padded = spatial[d] + low[d] + high[d];
            let Some(room) = padded.checked_sub(reach[d]) else {
                return Err(Diagnostic::new(
                    Code::Shape,
                    format!("a window of {} exceeds {padded} padded elements", reach[d]),
                ));
            };
            let mut count = if ceil { room.div_ceil(strides[d]) } else { room / strides[d] } + 1;
            // The last window starts within the data or the padding before it.
            if ceil && (count - 1) * strides[d] >= spatial[d] + low[d] {
                count -= 1;
            }
            high[d] = ((count.max(1) - 1) * strides[d] + reach[d]).saturating_sub(spatial[d] + low[d]);
            out.push(count);
        }
        // Each place of a window is a slice, each window a step of it.
        c.expect_table(kernel)?;
        Ok(Windows { kernel: kernel.to_vec(), strides, dilations, low, high, declared_high, out })
    }

    /// `x` with its padding.
    ///
    /// # Errors
    /// None that shapes of the attributes' rank can cause.
    pub fn padded(&self, d: &mut Draft, x: Val, fill: f64) -> Result<Val> {
        let with = |pads: &[usize]| [&[0, 0], pads].concat();
        let value = if is_float(d.dtype(x)) { Scalar::float(fill) } else { Scalar::Int(fill as i64) };
        // What the last window does not reach is not padded either: it may be cut.
        d.op(OpKind::Pad { low: with(&self.low), high: with(&self.high), value }, &[x])
    }

    /// The elements at place `tap` along spatial dim `dim` of every window, of padded data whose earlier dims are
    /// done: the dim becomes the windows.
    ///
    /// # Errors
    /// As [`Windows::padded`].
    pub fn along(&self, d: &mut Draft, padded: Val, dim: usize, tap: usize) -> Result<Val> {
        let at = 2 + dim;
        let mut sizes = d.shape(padded).to_vec();
        let (mut offsets, mut steps) = (vec![0; sizes.len()], vec![1; sizes.len()]);
        (offsets[at], sizes[at]) = (tap * self.dilations[dim], self.out[dim]);
        steps[at] = if self.out[dim] > 1 { self.strides[dim] } else { 1 };
        d.slice(padded, &offsets, &sizes, &steps)
    }

    /// All places of a window, the last dim fastest.
    pub fn taps(&self) -> Vec<Vec<usize>> {
        let mut taps = vec![Vec::new()];
        for &n in &self.kernel {
            taps = taps.iter().flat_map(|t| (0..n).map(move |i| [t.as_slice(), &[i]].concat())).collect();
        }
        taps
    }

    /// The elements at one place of every window.
    ///
    /// # Errors
    /// As [`Windows::padded`].
    pub fn tap(&self, d: &mut Draft, padded: Val, tap: &[usize]) -> Result<Val> {
        let mut x = padded;
        for (dim, &i) in tap.iter().enumerate() {
            x = self.along(d, x, dim, i)?;
        }
        Ok(x)
    }

    /// All windows stacked: `[N, C, spatial…]` → `[N, C, taps, out…]`.
    ///
    /// # Errors
    /// As [`Windows::padded`].
    pub fn stacked(&self, d: &mut Draft, padded: Val) -> Result<Val> {
        let mut parts = Vec::new();
        for tap in self.taps() {
            let part = self.tap(d, padded, &tap)?;
            parts.push(d.unsqueeze(part, 2)?);
        }
        d.concat(&parts, 2)
    }

    /// For each dim and window how many places lie in the data, or, when padding counts, in the declared padding too.
    pub fn counts(&self, spatial: &[usize], padding_counts: bool) -> Vec<Vec<usize>> {
        (0..spatial.len())
            .map(|d| {
                let (from, to) = match padding_counts {
                    true => (0, self.low[d] + spatial[d] + self.declared_high[d]),
                    false => (self.low[d], self.low[d] + spatial[d]),
                };
                let inside = |w: usize| {
                    let places = (0..self.kernel[d]).map(|k| w * self.strides[d] + k * self.dilations[d]);
                    places.filter(|p| (from..to).contains(p)).count()
                };
                (0..self.out[d]).map(inside).collect()
            })
            .collect()
    }
}
