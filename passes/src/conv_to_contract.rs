//! `conv-to-contract`: convolutions as views and contractions.
//!
//! A window of k positions at stride s along a spatial dim becomes two dims, the window's number and
//! the place in it. Where stride and window agree (patch embeddings, 1×1) that is a reshape; where
//! they do not, one strided slice a place in the window, stacked; with many places, a gather by a
//! constant table. Then the convolution is one contraction over input channels and places.

use kiln_ir::nn::{ContractDims, FuncBuilder, Op, OpKind, ValueId};
use kiln_ir::{DType, IrError, Module, Scalar, Tensor};

/// Windows of more places than this are gathered.
const MAX_SLICES: usize = 16;

/// Rewrites every `nn.conv` of function `main`.
///
/// # Errors
/// When the function cannot be rebuilt.
pub fn conv_to_contract(module: &mut Module) -> Result<(), IrError> {
    let func = module.func("main")?;
    if !func.ops.iter().any(|op| matches!(op.kind, OpKind::Conv { .. })) {
        return Ok(());
    }
    let context = module.context().clone();
    let mut b = FuncBuilder::like(&context, &func)?;
    let mut map: Vec<Option<ValueId>> = vec![None; func.value_count()];
    for (i, v) in func.arg_values().enumerate() {
        map[v.index()] = Some(b.arg(i));
    }
    for op in &func.ops {
        let operands: Vec<ValueId> = op.operands.iter().filter_map(|v| map[v.index()]).collect();
        let results = match Conv::of(op) {
            Some(conv) => {
                b.set_origin(&op.origin);
                vec![conv.expand(&mut b, operands[0], operands[1])?]
            }
            None => b.clone_op(op, &operands)?,
        };
        for (old, new) in op.results.iter().zip(results) {
            map[old.index()] = Some(new);
        }
    }
    let results: Vec<_> =
        func.results.iter().filter_map(|(v, port)| Some((map[v.index()]?, port.clone()))).collect();
    b.finish(module, &results)
}

struct Conv<'a> {
    strides: &'a [usize],
    low: &'a [usize],
    high: &'a [usize],
    dilations: &'a [usize],
    groups: usize,
}

impl<'a> Conv<'a> {
    fn of(op: &'a Op) -> Option<Self> {
        match &op.kind {
            OpKind::Conv { strides, pads_low, pads_high, dilations, groups } => {
                Some(Conv { strides, low: pads_low, high: pads_high, dilations, groups: *groups })
            }
            _ => None,
        }
    }

    /// x: N, C, spatial…; w: O, C/groups, kernel… → N, O, spatial…
    fn expand(&self, b: &mut FuncBuilder, x: ValueId, w: ValueId) -> Result<ValueId, IrError> {
        let kernel: Vec<usize> = b.shape(w)[2..].to_vec();
        let spatial = kernel.len();
        let dtype = b.ty(x).dtype;
        let mut x = x;
        if self.low.iter().chain(self.high).any(|&p| p != 0) {
            let with = |pads: &[usize]| [&[0, 0], pads].concat();
            let zero = if kiln_ir::types::is_float(dtype) { Scalar::float(0.0) } else { Scalar::Int(0) };
            x = b.op(&OpKind::Pad { low: with(self.low), high: with(self.high), value: zero }, &[x])?[0];
        }
        // Dims of x: N, C, then per spatial dim the window's number and the place in it.
        for (d, &places) in kernel.iter().enumerate() {
            x = self.windows(b, x, d, 2 + 2 * d, places)?;
        }
        let (n, c) = (b.shape(x)[0], b.shape(x)[1]);
        let (o, g) = (b.shape(w)[0], self.groups);
        let rest: Vec<usize> = b.shape(x)[2..].to_vec();
        let grouped: Vec<usize> = [&[n, g, c / g], rest.as_slice()].concat();
        let x = b.reshape(x, &grouped)?;
        let w = b.reshape(w, &[&[g, o / g, c / g], kernel.as_slice()].concat())?;
        // Channels and places in the order of the sum. The longest comes last: a chain's last axis can lie on the
        // partitions, whose rows it is to fill.
        let mut summed: Vec<(usize, usize)> = vec![(2, 2)];
        summed.extend((0..spatial).map(|d| (4 + 2 * d, 3 + d)));
        summed.sort_by_key(|&(dim, _)| b.shape(x)[dim]);
        let dims = ContractDims {
            lhs_batch: vec![1],
            rhs_batch: vec![0],
            lhs_contract: summed.iter().map(|s| s.0).collect(),
            rhs_contract: summed.iter().map(|s| s.1).collect(),
        };
        // Result: g, N, spatial…, O/g.
        let y = b.contract_as(x, w, &dims, dtype)?;
        let mut perm = vec![1, 0, 2 + spatial];
        perm.extend(2..2 + spatial);
        let y = b.transpose(y, &perm)?;
        let out: Vec<usize> = (0..spatial).map(|d| rest[2 * d]).collect();
        b.reshape(y, &[&[n, o], out.as_slice()].concat())
    }

    /// Dim `at` of x, of spatial dim `d`, becomes two: windows, places.
    fn windows(
        &self,
        b: &mut FuncBuilder,
        x: ValueId,
        d: usize,
        at: usize,
        places: usize,
    ) -> Result<ValueId, IrError> {
        let shape = b.shape(x).to_vec();
        let (stride, dilation) = (self.strides[d], self.dilations[d]);
        let count = (shape[at] - (places - 1) * dilation - 1) / stride + 1;
        let split = |count: usize, places: usize| -> Vec<usize> {
            [&shape[..at], &[count, places], &shape[at + 1..]].concat()
        };
        let take = |b: &mut FuncBuilder, offset: usize, size: usize, step: usize| {
            let mut offsets = vec![0; shape.len()];
            let mut sizes = shape.clone();
            let mut strides = vec![1; shape.len()];
            (offsets[at], sizes[at], strides[at]) = (offset, size, step);
            b.slice(x, &offsets, &sizes, &strides)
        };
        if stride == places && (dilation == 1 || places == 1) {
            let whole = take(b, 0, count * places, 1)?;
            return b.reshape(whole, &split(count, places));
        }
        if places == 1 {
            let kept = take(b, 0, count, stride)?;
            return b.reshape(kept, &split(count, 1));
        }
        if places <= MAX_SLICES {
            let mut parts = Vec::new();
            for p in 0..places {
                let part = take(b, p * dilation, count, stride)?;
                parts.push(b.reshape(part, &split(count, 1))?);
            }
            return b.concat(&parts, at + 1);
        }
        let table: Vec<u8> = (0..count)
            .flat_map(|i| (0..places).map(move |p| ((i * stride + p * dilation) as i32).to_le_bytes()))
            .flatten()
            .collect();
        let table =
            b.constant(&Tensor { dtype: DType::I32, shape: vec![count, places], data: table.into() })?;
        b.gather(x, table, at)
    }
}
