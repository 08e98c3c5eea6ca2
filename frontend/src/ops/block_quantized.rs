//! onnxruntime's weights in blocks beside `MatMulNBits`: `MatMulBnb4` (bitsandbytes) and `GatherBlockQuantized`.

use kiln_ir::nn::{ContractDims, MapKind};
use kiln_machine::tensor::{DType, Tensor};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::fold::Values;
use crate::ops::gather;

/// Values of the 16 codes of a 4-bit float.
const FP4: [f64; 16] = [
    0.0,
    5.208_333_333e-3,
    0.666_666_67,
    1.0,
    0.333_333_33,
    0.5,
    0.166_666_67,
    0.25,
    -0.0,
    -5.208_333_333e-3,
    -0.666_666_67,
    -1.0,
    -0.333_333_33,
    -0.5,
    -0.166_666_67,
    -0.25,
];

/// Values of the 16 codes of a 4-bit normal float.
const NF4: [f64; 16] = [
    -1.0,
    -0.696_192_800_998_687_7,
    -0.525_073_051_452_636_7,
    -0.394_917_488_098_144_53,
    -0.284_441_381_692_886_35,
    -0.184_773_430_228_233_34,
    -0.091_050_036_251_544_95,
    0.0,
    0.079_580_299_556_255_34,
    0.160_930_201_411_247_25,
    0.246_112_301_945_686_34,
    0.337_915_241_718_292_24,
    0.440_709_829_330_444_34,
    0.562_617_003_917_694_1,
    0.722_956_836_223_602_3,
    1.0,
];

/// `com.microsoft.MatMulBnb4`: A·Bᵀ, B `[N, K]` in 4-bit codes, high bits first, in blocks with a greatest magnitude.
pub fn bnb4(c: &mut Call) -> Result<Vec<Val>> {
    let (a, codes, greatest) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let dtype = c.expect_float(a)?;
    c.ignore(&["training_mode"]);
    let size = |name: &str| -> Result<usize> { Ok(c.extents(&[c.required(c.int(name)?, name)?])?[0]) };
    let (k, n, block) = (size("K")?, size("N")?, size("block_size")?);
    let table = match c.required(c.int("quant_type")?, "quant_type")? {
        0 => FP4,
        1 => NF4,
        other => return Err(Diagnostic::new(Code::Attribute, format!("quant_type {other} is unknown"))),
    };
    let is_transposed = c.int_or("transB", 1)? != 0;
    if block == 0 || (n * k) % 2 != 0 || c.draft.ty(codes).elements() * 2 != n * k {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("{} bytes of codes for {n}×{k}", c.draft.ty(codes).elements()),
        ));
    }
    let d = &mut *c.draft;
    let bytes = d.reshape(codes, &[n * k / 2])?;
    let high = d.map_scalar(MapKind::Shr, bytes, 4.0)?;
    let low = d.map_scalar(MapKind::And, bytes, 15.0)?;
    let (high, low) = (d.unsqueeze(high, 1)?, d.unsqueeze(low, 1)?);
    let pairs = d.concat(&[high, low], 1)?;
    let flat = d.reshape(pairs, &[n * k])?;
    let flat = d.cast(flat, DType::I32)?;
    let data = Values::Float(table.to_vec()).encode(dtype);
    let table = d.known(Tensor { dtype, shape: vec![16], data });
    let values = gather::take(d, table, flat, 0)?;
    let scales = d.cast(greatest, dtype)?;
    let blocks = (n * k).div_ceil(block);
    let scales = d.reshape(scales, &[blocks, 1])?;
    let scales = d.broadcast_to(scales, &[blocks, block])?;
    let scales = d.reshape(scales, &[blocks * block])?;
    let scales = d.slice_axis(scales, 0, 0, n * k)?;
    let weight = d.map2(MapKind::Mul, values, scales)?;
    let weight = d.reshape(weight, &if is_transposed { [n, k] } else { [k, n] })?;
    let dims = ContractDims {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![d.rank(a) - 1],
        rhs_contract: vec![usize::from(is_transposed)],
    };
    Ok(vec![d.contract(a, weight, dims, dtype)?])
}

/// `com.microsoft.GatherBlockQuantized`: rows of codes and their scales taken, then dequantised.
pub fn gather_rows(c: &mut Call) -> Result<Vec<Val>> {
    let (data, indices, scales) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let rank = c.draft.rank(data);
    let gather_axis = c.axis(c.int_or("gather_axis", 0)?, rank)?;
    let quantize_axis = c.axis(c.int_or("quantize_axis", 1)?, rank)?;
    let block = c.extents(&[c.int_or("block_size", 128)?])?[0];
    let bits = c.int_or("bits", 4)?;
    let dtype = c.expect_float(scales)?;
    let is_packed = c.draft.shape(scales)[quantize_axis] * block > 0
        && bits == 4
        && c.draft.dtype(data) == DType::U8
        && c.draft.shape(data)[rank - 1] * 2 <= c.draft.shape(scales)[quantize_axis] * block
        && quantize_axis == rank - 1;
    if block == 0 || gather_axis == quantize_axis {
        return Err(Diagnostic::new(
            Code::Attribute,
            format!("blocks of {block} along axis {quantize_axis} of rows along {gather_axis}"),
        ));
    }
    let d = &mut *c.draft;
    let mut codes = gather::take(d, data, indices, gather_axis)?;
    // Axes of the result after the gathered one move by what the indices have more dims than one.
    let moved = |axis: usize| if axis > gather_axis { axis + d.rank(indices) - 1 } else { axis };
    let axis = moved(quantize_axis);
    if is_packed {
        codes = nibbles(d, codes)?;
    }
    let scales = gather::take(d, scales, indices, gather_axis)?;
    let zero = match c.optional(3) {
        Some(zero) => {
            let taken = gather::take(c.draft, zero, indices, gather_axis)?;
            let taken = if is_packed { nibbles(c.draft, taken)? } else { taken };
            let blocks = c.draft.shape(scales)[axis];
            Some(c.draft.slice_axis(taken, axis, 0, blocks)?)
        }
        // Bytes stand for codes around the middle.
        None if is_packed => Some(c.draft.scalar(8.0, DType::U8)),
        None => None,
    };
    let d = &mut *c.draft;
    let extent = d.shape(codes)[axis];
    let spread = |d: &mut Draft, v: Val| -> Result<Val> {
        if d.rank(v) == 0 {
            return Ok(v);
        }
        let mut wide = d.shape(v).to_vec();
        wide.insert(axis + 1, block);
        let apart = d.unsqueeze(v, axis + 1)?;
        let repeated = d.broadcast_to(apart, &wide)?;
        let mut joined = d.shape(v).to_vec();
        joined[axis] *= block;
        let all = d.reshape(repeated, &joined)?;
        d.slice_axis(all, axis, 0, extent)
    };
    let mut values = d.cast(codes, dtype)?;
    if let Some(zero) = zero {
        let zero = d.cast(zero, dtype)?;
        let zero = spread(d, zero)?;
        values = d.map2(MapKind::Sub, values, zero)?;
    }
    let scales = spread(d, scales)?;
    Ok(vec![d.map2(MapKind::Mul, values, scales)?])
}

/// Each byte of the last dim as two codes, low bits first.
fn nibbles(d: &mut Draft, packed: Val) -> Result<Val> {
    let last = d.rank(packed);
    let mut shape = d.shape(packed).to_vec();
    let low = d.map_scalar(MapKind::And, packed, 15.0)?;
    let high = d.map_scalar(MapKind::Shr, packed, 4.0)?;
    let (low, high) = (d.unsqueeze(low, last)?, d.unsqueeze(high, last)?);
    let pairs = d.concat(&[low, high], last)?;
    shape[last - 1] *= 2;
    d.reshape(pairs, &shape)
}
