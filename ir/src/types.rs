//! Tensor types and scalars: the vocabulary that `nn` and `tile` share.

use std::fmt;

pub use kiln_machine::tensor::{DType, Tensor};

/// A statically shaped, ranked tensor type. Zero extents are legal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Element type; `Bool` is MLIR's `i1`.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl TensorType {
    /// A tensor type of `dtype` and `shape`.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>) -> Self {
        TensorType { dtype, shape: shape.into() }
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of a dense array of this type.
    pub fn size_bytes(&self) -> usize {
        self.elements() * self.dtype.size_bytes()
    }

    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType { dtype, shape: self.shape.clone() }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        for d in &self.shape {
            write!(f, "{d}x")?;
        }
        write!(f, "{}>", dtype_name(self.dtype))
    }
}

/// MLIR's spelling of an element type.
pub fn dtype_name(dtype: DType) -> &'static str {
    DTYPES.iter().find(|(d, _)| *d == dtype).map_or("?", |(_, name)| name)
}

/// The element type that MLIR spells `name`.
pub fn dtype_from_name(name: &str) -> Option<DType> {
    DTYPES.iter().find(|(_, n)| *n == name).map(|(d, _)| *d)
}

/// Element types of the IR with MLIR's spelling.
#[rustfmt::skip] // a table
pub const DTYPES: &[(DType, &str)] = &[
    (DType::F32,    "f32"),
    (DType::F16,    "f16"),
    (DType::BF16,   "bf16"),
    (DType::F64,    "f64"),
    (DType::Bool,   "i1"),
    (DType::I8,     "i8"),
    (DType::U8,     "ui8"),
    (DType::I16,    "i16"),
    (DType::U16,    "ui16"),
    (DType::I32,    "i32"),
    (DType::U32,    "ui32"),
    (DType::I64,    "i64"),
    (DType::U64,    "ui64"),
    (DType::F8E4M3, "f8E4M3FN"),
    (DType::F8E5M2, "f8E5M2"),
];

/// True for floating point element types.
pub fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64 | DType::F8E4M3 | DType::F8E5M2)
}

/// True for integer element types (`Bool` is none).
pub fn is_int(dtype: DType) -> bool {
    !is_float(dtype) && dtype != DType::Bool
}

/// A scalar attribute: a float (held as its `f64` bits, so that it can be compared and hashed) or an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scalar {
    /// Bits of an `f64`.
    Float(u64),
    /// An integer.
    Int(i64),
}

impl Scalar {
    /// A float scalar.
    pub fn float(value: f64) -> Self {
        Scalar::Float(value.to_bits())
    }

    /// The value as `f64` (an integer is converted).
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::Float(bits) => f64::from_bits(bits),
            Scalar::Int(i) => i as f64,
        }
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Scalar::float(value)
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Scalar::Int(value)
    }
}

/// Row-major strides, in elements.
pub fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}
