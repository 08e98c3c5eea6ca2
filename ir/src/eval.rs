//! The reference evaluator: what a program of `nn` or `tile` means, written to be obviously right.
//!
//! It shares no code with the simulator, the rewrites or the lowering.

pub mod array;
mod fma;
mod indexing;
pub mod map;
pub mod nn;
mod reduce;
pub mod tile;

pub use array::Array;

use crate::module::{IN_MEMORY, Module};
use crate::types::{DType, Scalar};
use bytes::Bytes;
use half::{bf16, f16};

/// The contents of a module's `nn.files`, by number.
#[derive(Clone, Debug, Default)]
pub struct Files(Vec<Bytes>);

impl Files {
    /// The files of `module`: `maps` holds one entry for each entry of `nn.files` in order; that of the in-memory
    /// file `""` is ignored, the module's own bytes stand there. Missing entries are empty.
    pub fn of(module: &Module, maps: Vec<Bytes>) -> Self {
        let mut maps = maps.into_iter();
        let contents = module.files().into_iter().map(|name| {
            let map = maps.next().unwrap_or_default();
            if name == IN_MEMORY { Bytes::copy_from_slice(module.blob()) } else { map }
        });
        Files(contents.collect())
    }

    /// `length` bytes at `offset` of file number `file`; none when the file is shorter.
    pub fn slice(&self, file: u32, offset: u64, length: u64) -> Option<Bytes> {
        let bytes = self.0.get(file as usize)?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    }
}

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
        DType::F8E4M3 | DType::F8E5M2 => nn::filled(dtype, &[], value).to_tensor().data.to_vec(),
        _ => int.to_le_bytes()[..dtype.size_bytes()].to_vec(),
    }
}
