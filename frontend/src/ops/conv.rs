//! `Conv`, with `auto_pad` resolved.
//!
//! ```text
//! y = Conv <strides = [4, 4]> (x, w, b)   →   add (nn.conv x, w) (broadcast b)
//! ```

use kiln_ir::nn::{MapKind, OpKind};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Result, Val};

/// `Conv`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    c.expect_float(x)?;
    let (sx, sw) = (c.draft.shape(x).to_vec(), c.draft.shape(w).to_vec());
    if sx.len() < 3 || sx.len() != sw.len() {
        return Err(Diagnostic::new(Code::Shape, format!("cannot convolve {sx:?} with {sw:?}")));
    }
    let spatial = sx.len() - 2;
    let kernel = &sw[2..];
    if let Some(declared) = c.ints("kernel_shape")?
        && declared.iter().map(|&k| k as usize).ne(kernel.iter().copied())
    {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("kernel_shape {declared:?} is not that of the weight {sw:?}"),
        ));
    }
    let sizes = |name: &str| -> Result<Vec<usize>> {
        let list = c.ints(name)?.map_or(vec![1; spatial], <[i64]>::to_vec);
        if list.len() != spatial || list.iter().any(|&v| v < 1) {
            return Err(Diagnostic::new(Code::Attribute, format!("attribute {name} is {list:?}")));
        }
        c.extents(&list)
    };
    let (strides, dilations) = (sizes("strides")?, sizes("dilations")?);
    let groups = c.extents(&[c.int_or("group", 1)?])?[0];
    let pads = c.ints("pads")?;
    let auto = c.string("auto_pad")?.unwrap_or("NOTSET");
    let (low, high) = match auto {
        "NOTSET" => {
            let pads = pads.map_or(vec![0; 2 * spatial], <[i64]>::to_vec);
            if pads.len() != 2 * spatial {
                return Err(Diagnostic::new(Code::Attribute, format!("attribute pads is {pads:?}")));
            }
            let pads = c.extents(&pads)?;
            (pads[..spatial].to_vec(), pads[spatial..].to_vec())
        }
        "VALID" => (vec![0; spatial], vec![0; spatial]),
        "SAME_UPPER" | "SAME_LOWER" => {
            let total: Vec<usize> = (0..spatial)
                .map(|d| {
                    let out = sx[2 + d].div_ceil(strides[d]);
                    let reach = (kernel[d] - 1) * dilations[d] + 1;
                    (out.saturating_sub(1) * strides[d] + reach).saturating_sub(sx[2 + d])
                })
                .collect();
            let less: Vec<usize> = total.iter().map(|t| t / 2).collect();
            let more: Vec<usize> = total.iter().map(|t| t - t / 2).collect();
            if auto == "SAME_UPPER" { (less, more) } else { (more, less) }
        }
        other => return Err(Diagnostic::new(Code::Attribute, format!("auto_pad {other:?} is unknown"))),
    };
    let kind = OpKind::Conv { strides, pads_low: low, pads_high: high, dilations, groups };
    let y = c.draft.op(kind, &[x, w])?;
    let Some(b) = c.optional(2) else { return Ok(vec![y]) };
    let mut shape = vec![1; spatial + 2];
    shape[1] = sw[0];
    let b = c.draft.reshape(b, &shape)?;
    Ok(vec![c.draft.map2(MapKind::Add, y, b)?])
}
