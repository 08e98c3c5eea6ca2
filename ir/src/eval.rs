//! The reference evaluator of `nn`: what every other part is compared with.
//!
//! Plain and obviously right rather than fast, but for its inner product. It shares nothing with the simulator.

pub mod array;
mod fma;
pub mod map;
pub mod nn;

pub use nn::{Files, NoFiles, eval};

use crate::types::{DType, Scalar};
use half::{bf16, f16};

/// The bytes of `value` rounded or wrapped to `dtype`.
pub(crate) fn scalar_bytes(dtype: DType, value: Scalar) -> Vec<u8> {
    let int = match value {
        Scalar::Int(i) => i,
        Scalar::Float(_) => value.as_f64() as i64,
    };
    let float = value.as_f64();
    match dtype {
        DType::F32 => (float as f32).to_le_bytes().to_vec(),
        DType::F64 => float.to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(float).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f64(float).to_le_bytes().to_vec(),
        DType::Bool => vec![u8::from(int != 0 || (float != 0.0))],
        DType::F8E4M3 | DType::F8E5M2 => vec![0],
        _ => int.to_le_bytes()[..dtype.size_bytes()].to_vec(),
    }
}
