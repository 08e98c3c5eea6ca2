//! Scalars as bytes: reading and writing single elements of constants.

use bytes::Bytes;
use half::{bf16, f16};
use kiln_ir::DType;

/// The two numbers every dtype has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Zero,
    One,
}

/// Zero or one as an element of `dtype`.
pub fn unit_bytes(value: Unit, dtype: DType) -> Bytes {
    let one = value == Unit::One;
    match dtype {
        // 1.0: exponent at the bias (7 and 15), mantissa of 3 and 2 bits.
        DType::F8E4M3 => Bytes::from(vec![if one { 7 << 3 } else { 0 }]),
        DType::F8E5M2 => Bytes::from(vec![if one { 15 << 2 } else { 0 }]),
        _ => to_bytes(f64::from(u8::from(one)), dtype).unwrap_or_default(),
    }
}

/// `value` rounded to `dtype` (integers: only if exact); none for the 8-bit floats.
pub fn to_bytes(value: f64, dtype: DType) -> Option<Bytes> {
    let int = |low: f64, high: f64| (value.fract() == 0.0 && value >= low && value <= high).then_some(value);
    Some(match dtype {
        DType::F32 => Bytes::copy_from_slice(&(value as f32).to_le_bytes()),
        DType::F64 => Bytes::copy_from_slice(&value.to_le_bytes()),
        DType::F16 => Bytes::copy_from_slice(&f16::from_f64(value).to_le_bytes()),
        DType::BF16 => Bytes::copy_from_slice(&bf16::from_f64(value).to_le_bytes()),
        DType::Bool => Bytes::from(vec![int(0.0, 1.0)? as u8]),
        DType::I8 => Bytes::copy_from_slice(&(int(-128.0, 127.0)? as i8).to_le_bytes()),
        DType::U8 => Bytes::copy_from_slice(&(int(0.0, 255.0)? as u8).to_le_bytes()),
        DType::I16 => Bytes::copy_from_slice(&(int(-32768.0, 32767.0)? as i16).to_le_bytes()),
        DType::U16 => Bytes::copy_from_slice(&(int(0.0, 65535.0)? as u16).to_le_bytes()),
        DType::I32 => Bytes::copy_from_slice(&(int(-2147483648.0, 2147483647.0)? as i32).to_le_bytes()),
        DType::U32 => Bytes::copy_from_slice(&(int(0.0, 4294967295.0)? as u32).to_le_bytes()),
        DType::I64 => Bytes::copy_from_slice(&(int(-9.0e15, 9.0e15)? as i64).to_le_bytes()),
        DType::U64 => Bytes::copy_from_slice(&(int(0.0, 9.0e15)? as u64).to_le_bytes()),
        _ => return None,
    })
}

/// The element `bytes` holds, when `dtype` is one of the usual ones (64-bit integers round).
pub fn from_bytes(bytes: &[u8], dtype: DType) -> Option<f64> {
    Some(match dtype {
        DType::F32 => f32::from_le_bytes(bytes.try_into().ok()?) as f64,
        DType::F64 => f64::from_le_bytes(bytes.try_into().ok()?),
        DType::F16 => f16::from_le_bytes(bytes.try_into().ok()?).to_f64(),
        DType::BF16 => bf16::from_le_bytes(bytes.try_into().ok()?).to_f64(),
        DType::Bool | DType::U8 => *bytes.first()? as f64,
        DType::I8 => *bytes.first()? as i8 as f64,
        DType::I16 => i16::from_le_bytes(bytes.try_into().ok()?) as f64,
        DType::U16 => u16::from_le_bytes(bytes.try_into().ok()?) as f64,
        DType::I32 => i32::from_le_bytes(bytes.try_into().ok()?) as f64,
        DType::U32 => u32::from_le_bytes(bytes.try_into().ok()?) as f64,
        DType::I64 => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
        DType::U64 => u64::from_le_bytes(bytes.try_into().ok()?) as f64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_survive_the_way_through_bytes() {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::I32, DType::I64] {
            let bytes = to_bytes(-3.0, dtype).unwrap();
            assert_eq!(bytes.len(), dtype.size_bytes());
            assert_eq!(from_bytes(&bytes, dtype), Some(-3.0));
        }
        assert_eq!(to_bytes(300.0, DType::U8), None);
        assert_eq!(to_bytes(0.5, DType::I32), None);
    }
}
