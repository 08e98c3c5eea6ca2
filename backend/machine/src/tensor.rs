//! Host tensors: a dtype, a shape and dense row-major little-endian bytes.

use std::fmt;

use bytes::Bytes;

use crate::isa::Dt;

/// Element type of a host tensor or of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F16,
    BF16,
    F64,
    /// One byte, 0 or 1.
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F8E4M3,
    F8E5M2,
}

impl DType {
    /// Every type.
    #[rustfmt::skip] // a table
    pub const ALL: &'static [DType] = &[
        DType::F32, DType::F16, DType::BF16, DType::F64, DType::Bool,
        DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64, DType::U64,
        DType::F8E4M3, DType::F8E5M2,
    ];

    /// The lower-case name, such as `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F64 => "f64",
            DType::Bool => "bool",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::U16 => "u16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::I64 => "i64",
            DType::U64 => "u64",
            DType::F8E4M3 => "f8e4m3",
            DType::F8E5M2 => "f8e5m2",
        }
    }
    /// The dtype called `name`.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.name() == name)
    }
    /// Bytes of one element.
    pub const fn size_bytes(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::BF16 | DType::F16 | DType::I16 | DType::U16 => 2,
            DType::Bool | DType::I8 | DType::U8 | DType::F8E4M3 | DType::F8E5M2 => 1,
        }
    }
    /// Bytes of a dense tensor of these extents; `None` when that overflows.
    pub fn byte_count(self, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(self.size_bytes(), |n, e| n.checked_mul(*e))
    }
    /// The machine's element type, if it has one.
    pub const fn device(self) -> Option<Dt> {
        Some(match self {
            DType::F32 => Dt::F32,
            DType::BF16 => Dt::Bf16,
            DType::F16 => Dt::F16,
            DType::F8E4M3 => Dt::F8e4m3,
            DType::F8E5M2 => Dt::F8e5m2,
            DType::I8 => Dt::I8,
            DType::U8 | DType::Bool => Dt::U8,
            DType::I32 => Dt::I32,
            DType::I16 => Dt::I16,
            DType::U16 => Dt::U16,
            DType::U32 => Dt::U32,
            DType::F64 | DType::I64 | DType::U64 => return None,
        })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are no tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The byte count does not match dtype and shape.
    #[error("a tensor of {dtype} {shape:?} takes {expected} bytes, not {found}")]
    Size {
        /// Element type.
        dtype: DType,
        /// Extents.
        shape: Vec<usize>,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The element count overflows.
    #[error("a tensor of {dtype} {shape:?} has more bytes than can be counted")]
    TooLarge {
        /// Element type.
        dtype: DType,
        /// Extents.
        shape: Vec<usize>,
    },
}

/// A tensor on the host: dense, row-major, little-endian; bools are bytes 0 and 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Extents; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Bytes,
}

impl Tensor {
    /// A tensor of these bytes.
    ///
    /// # Errors
    /// A byte count that dtype and shape do not give.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Bytes) -> Result<Self, TensorError> {
        match dtype.byte_count(&shape) {
            None => Err(TensorError::TooLarge { dtype, shape }),
            Some(expected) if expected != data.len() => {
                Err(TensorError::Size { dtype, shape, expected, found: data.len() })
            }
            Some(_) => Ok(Tensor { dtype, shape, data }),
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// An f32 tensor. Fails as [`Tensor::new`].
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, TensorError> {
        Self::new(DType::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
    /// An i32 tensor. Fails as [`Tensor::new`].
    pub fn from_i32(shape: Vec<usize>, values: &[i32]) -> Result<Self, TensorError> {
        Self::new(DType::I32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
    /// An i64 tensor. Fails as [`Tensor::new`].
    pub fn from_i64(shape: Vec<usize>, values: &[i64]) -> Result<Self, TensorError> {
        Self::new(DType::I64, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Every element as f64 (exact for all types but 64-bit integers beyond 2⁵³).
    pub fn to_f64_vec(&self) -> Vec<f64> {
        (0..self.elements()).map(|i| self.element_f64(i)).collect()
    }

    /// The elements of an f32 tensor; of other types, converted.
    pub fn to_f32_vec(&self) -> Vec<f32> {
        if self.dtype == DType::F32 {
            return self.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        }
        self.to_f64_vec().into_iter().map(|v| v as f32).collect()
    }

    /// Element `i` in row-major order as f64; panics when there is none, as slices do.
    pub fn element_f64(&self, i: usize) -> f64 {
        macro_rules! read {
            ($T:ty) => {{
                const N: usize = size_of::<$T>();
                let mut raw = [0; N];
                raw.copy_from_slice(&self.data[i * N..(i + 1) * N]);
                <$T>::from_le_bytes(raw)
            }};
        }
        use crate::numerics::convert;
        match self.dtype {
            DType::F32 => read!(f32).into(),
            DType::F64 => read!(f64),
            DType::BF16 => convert::bf16_to_f32(read!(u16)).into(),
            DType::F16 => convert::f16_to_f32(read!(u16)).into(),
            DType::F8E4M3 => convert::f8e4m3_to_f32(self.data[i]).into(),
            DType::F8E5M2 => convert::f8e5m2_to_f32(self.data[i]).into(),
            DType::Bool | DType::U8 => self.data[i].into(),
            DType::I8 => (self.data[i] as i8).into(),
            DType::I16 => read!(i16).into(),
            DType::U16 => read!(u16).into(),
            DType::I32 => read!(i32).into(),
            DType::U32 => read!(u32).into(),
            DType::I64 => read!(i64) as f64,
            DType::U64 => read!(u64) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_read_back() {
        DType::ALL.iter().for_each(|d| assert_eq!(DType::from_name(d.name()), Some(*d)));
        assert_eq!(DType::from_name("f33"), None);
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Tensor::from_f32(vec![2, 2], &[1.0; 4]).is_ok());
        let error = Tensor::from_f32(vec![2, 2], &[1.0; 3]).unwrap_err();
        assert_eq!(error.to_string(), "a tensor of f32 [2, 2] takes 16 bytes, not 12");
        let huge = Tensor::new(DType::F32, vec![usize::MAX, 2], Bytes::new());
        assert!(matches!(huge, Err(TensorError::TooLarge { .. })));
    }

    #[test]
    fn elements_read_back() {
        let t = Tensor::new(DType::BF16, vec![1], Bytes::from_static(&[0x80, 0x3f])).unwrap();
        assert_eq!(t.to_f32_vec(), [1.0]);
        assert_eq!(Tensor::from_i64(vec![2], &[-5, 7]).unwrap().to_f64_vec(), [-5.0, 7.0]);
    }
}
