//! Tensors as the evaluator computes with them: numbers in a plain vector, rounded to the dtype after every op.

use crate::types::{DType, Tensor, TensorType, is_float, row_major_strides};
use bytes::Bytes;
use half::{bf16, f16};

/// A dense row-major tensor of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub data: Data,
}

/// The elements; a float of at most 32 bits is held as the f32 of equal value, every integer and bool as an i64
/// (u64 by its bits).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Int(Vec<i64>),
}

/// Applies one expression to the vector of whichever kind of element.
macro_rules! each {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            Data::F32($v) => Data::F32($body),
            Data::F64($v) => Data::F64($body),
            Data::Int($v) => Data::Int($body),
        }
    };
}

impl Array {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.clone())
    }

    /// Reads a host tensor.
    pub fn from_tensor(tensor: &Tensor) -> Array {
        fn chunks<const N: usize, T>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
            data.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
        }
        let d = &tensor.data;
        let data = match tensor.dtype {
            DType::F32 => Data::F32(chunks(d, f32::from_le_bytes)),
            DType::F16 => Data::F32(chunks(d, |b| f16::from_le_bytes(b).to_f32())),
            DType::BF16 => Data::F32(chunks(d, |b| bf16::from_le_bytes(b).to_f32())),
            DType::F8E4M3 => Data::F32(chunks(d, |[b]| F8::E4M3.decode(b))),
            DType::F8E5M2 => Data::F32(chunks(d, |[b]| F8::E5M2.decode(b))),
            DType::F64 => Data::F64(chunks(d, f64::from_le_bytes)),
            DType::Bool | DType::U8 => Data::Int(chunks(d, |[b]| i64::from(b))),
            DType::I8 => Data::Int(chunks(d, |b| i64::from(i8::from_le_bytes(b)))),
            DType::I16 => Data::Int(chunks(d, |b| i64::from(i16::from_le_bytes(b)))),
            DType::U16 => Data::Int(chunks(d, |b| i64::from(u16::from_le_bytes(b)))),
            DType::I32 => Data::Int(chunks(d, |b| i64::from(i32::from_le_bytes(b)))),
            DType::U32 => Data::Int(chunks(d, |b| i64::from(u32::from_le_bytes(b)))),
            DType::I64 | DType::U64 => Data::Int(chunks(d, i64::from_le_bytes)),
        };
        Array { dtype: tensor.dtype, shape: tensor.shape.clone(), data }
    }

    /// The host tensor of equal values.
    pub fn to_tensor(&self) -> Tensor {
        fn bytes<const N: usize, T: Copy>(values: &[T], write: impl Fn(T) -> [u8; N]) -> Vec<u8> {
            values.iter().flat_map(|v| write(*v)).collect()
        }
        let data = match (&self.data, self.dtype) {
            (Data::F32(v), DType::F16) => bytes(v, |x| f16::from_f32(x).to_le_bytes()),
            (Data::F32(v), DType::BF16) => bytes(v, |x| bf16::from_f32(x).to_le_bytes()),
            (Data::F32(v), DType::F8E4M3) => bytes(v, |x| [F8::E4M3.encode(x)]),
            (Data::F32(v), DType::F8E5M2) => bytes(v, |x| [F8::E5M2.encode(x)]),
            (Data::F32(v), _) => bytes(v, f32::to_le_bytes),
            (Data::F64(v), _) => bytes(v, f64::to_le_bytes),
            (Data::Int(v), dtype) => match dtype.size_bytes() {
                1 => bytes(v, |x| [x as u8]),
                2 => bytes(v, |x| (x as u16).to_le_bytes()),
                4 => bytes(v, |x| (x as u32).to_le_bytes()),
                _ => bytes(v, i64::to_le_bytes),
            },
        };
        Tensor { dtype: self.dtype, shape: self.shape.clone(), data: Bytes::from(data) }
    }

    /// The same elements under another shape.
    pub fn reshaped(mut self, shape: &[usize]) -> Array {
        self.shape = shape.to_vec();
        self
    }

    /// Element `i` of the result is the element at `base + Σ iₐ·stridesₐ`: every view is one of these.
    pub fn strided(&self, shape: &[usize], base: isize, strides: &[isize]) -> Array {
        Array {
            dtype: self.dtype,
            shape: shape.to_vec(),
            data: each!(&self.data, v => viewed(v, shape, base, strides)),
        }
    }

    /// Elements at these places, as an array of `shape`.
    pub fn picked(&self, shape: &[usize], at: &[usize]) -> Array {
        Array {
            dtype: self.dtype,
            shape: shape.to_vec(),
            data: each!(&self.data, v => at.iter().map(|i| v[*i]).collect()),
        }
    }

    /// The values as indices; only integer arrays have them.
    pub fn indices(&self) -> &[i64] {
        match &self.data {
            Data::Int(v) => v,
            _ => &[],
        }
    }
}

/// The elements of a strided view, in row-major order.
fn viewed<T: Copy>(from: &[T], shape: &[usize], base: isize, strides: &[isize]) -> Vec<T> {
    let mut to = Vec::with_capacity(shape.iter().product());
    let (outer, extent) = shape.split_at(shape.len().saturating_sub(1));
    let inner = extent.first().copied().unwrap_or(1);
    let step = strides.last().copied().unwrap_or(0);
    for_each_index(outer, |index| {
        let start = index.iter().zip(strides).fold(base, |sum, (i, s)| sum + *i as isize * s);
        match (inner, step) {
            (0, _) => {}
            (_, 0) => to.resize(to.len() + inner, from[start as usize]),
            (_, 1) => to.extend_from_slice(&from[start as usize..start as usize + inner]),
            _ => to.extend((0..inner as isize).map(|i| from[(start + i * step) as usize])),
        }
    });
    to
}

/// Row-major strides, signed.
pub fn strides(shape: &[usize]) -> Vec<isize> {
    row_major_strides(shape).into_iter().map(|s| s as isize).collect()
}

/// Calls `f` with every multi-index of `shape`, in ascending lexicographic order.
pub fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// `x` rounded to nearest even in `dtype`, as an f32.
pub fn round_f32(dtype: DType, x: f32) -> f32 {
    match dtype {
        DType::F16 => f16::from_f32(x).to_f32(),
        DType::BF16 => bf16::from_f32(x).to_f32(),
        DType::F8E4M3 => F8::E4M3.decode(F8::E4M3.encode(x)),
        DType::F8E5M2 => F8::E5M2.decode(F8::E5M2.encode(x)),
        _ => x,
    }
}

/// `x` wrapped to the width of the integer `dtype`; a bool is whether it is not 0.
pub fn wrap_int(dtype: DType, x: i64) -> i64 {
    match dtype {
        DType::Bool => i64::from(x != 0),
        DType::I8 => i64::from(x as i8),
        DType::U8 => i64::from(x as u8),
        DType::I16 => i64::from(x as i16),
        DType::U16 => i64::from(x as u16),
        DType::I32 => i64::from(x as i32),
        DType::U32 => i64::from(x as u32),
        _ => x,
    }
}

/// Converts to `dtype`: float to integer truncates toward zero and saturates, NaN gives 0; integers wrap; bool is
/// whether it is not 0.
pub fn cast(x: &Array, dtype: DType) -> Array {
    let unsigned = x.dtype == DType::U64;
    let data = match (&x.data, dtype) {
        (Data::F32(v), DType::Bool) => Data::Int(v.iter().map(|x| i64::from(*x != 0.0)).collect()),
        (Data::F64(v), DType::Bool) => Data::Int(v.iter().map(|x| i64::from(*x != 0.0)).collect()),
        (Data::F32(v), DType::F64) => Data::F64(v.iter().map(|x| f64::from(*x)).collect()),
        (Data::F64(v), DType::F64) => Data::F64(v.clone()),
        (Data::Int(v), DType::F64) if unsigned => Data::F64(v.iter().map(|x| *x as u64 as f64).collect()),
        (Data::Int(v), DType::F64) => Data::F64(v.iter().map(|x| *x as f64).collect()),
        (Data::F32(v), to) if is_float(to) => Data::F32(v.iter().map(|x| round_f32(to, *x)).collect()),
        (Data::F64(v), to) if is_float(to) => Data::F32(v.iter().map(|x| round_f32(to, *x as f32)).collect()),
        (Data::Int(v), to) if is_float(to) && unsigned => {
            Data::F32(v.iter().map(|x| round_f32(to, *x as u64 as f32)).collect())
        }
        (Data::Int(v), to) if is_float(to) => Data::F32(v.iter().map(|x| round_f32(to, *x as f32)).collect()),
        (Data::F32(v), to) => Data::Int(v.iter().map(|x| saturate(to, f64::from(*x))).collect()),
        (Data::F64(v), to) => Data::Int(v.iter().map(|x| saturate(to, *x)).collect()),
        (Data::Int(v), to) => Data::Int(v.iter().map(|x| wrap_int(to, *x)).collect()),
    };
    Array { dtype, shape: x.shape.clone(), data }
}

fn saturate(dtype: DType, x: f64) -> i64 {
    match dtype {
        DType::I8 => i64::from(x as i8),
        DType::U8 => i64::from(x as u8),
        DType::I16 => i64::from(x as i16),
        DType::U16 => i64::from(x as u16),
        DType::I32 => i64::from(x as i32),
        DType::U32 => i64::from(x as u32),
        DType::U64 => x as u64 as i64,
        _ => x as i64,
    }
}

/// An 8-bit float format: <https://onnx.ai/onnx/technical/float8.html>.
struct F8 {
    mantissa_bits: u32,
    bias: i32,
    /// Greatest finite value, to which greater ones saturate.
    max: f32,
    /// Greatest finite encoding; above it lie infinity and NaN.
    max_code: u8,
    nan: u8,
}

impl F8 {
    const E4M3: F8 = F8 { mantissa_bits: 3, bias: 7, max: 448.0, max_code: 0x7e, nan: 0x7f };
    const E5M2: F8 = F8 { mantissa_bits: 2, bias: 15, max: 57344.0, max_code: 0x7b, nan: 0x7e };

    fn decode(&self, code: u8) -> f32 {
        let magnitude = code & 0x7f;
        let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
        if magnitude > self.max_code {
            let infinite = self.mantissa_bits == 2 && magnitude == 0x7c;
            return if infinite { sign * f32::INFINITY } else { f32::NAN };
        }
        let exponent = i32::from(magnitude >> self.mantissa_bits);
        let mantissa = f32::from(magnitude & ((1 << self.mantissa_bits) - 1));
        let unit = self.mantissa_bits as i32;
        let value = match exponent {
            0 => mantissa * power_of_two(1 - self.bias - unit),
            _ => (mantissa + power_of_two(unit)) * power_of_two(exponent - self.bias - unit),
        };
        sign * value
    }

    /// The nearest code, ties to even, saturating.
    fn encode(&self, x: f32) -> u8 {
        if x.is_nan() {
            return self.nan;
        }
        let sign = if x.is_sign_negative() { 0x80 } else { 0 };
        let x = x.abs().min(self.max);
        // Codes of finite values ascend with them: the last one at or below x, or its successor.
        let (mut low, mut high) = (0, self.max_code);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.decode(middle) <= x { low = middle } else { high = middle - 1 }
        }
        if low == self.max_code {
            return sign | low;
        }
        let (below, above) = (x - self.decode(low), self.decode(low + 1) - x);
        sign | if above < below || (above == below && low % 2 == 1) { low + 1 } else { low }
    }
}

fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_read_back_and_round_to_even() {
        for format in [F8::E4M3, F8::E5M2] {
            for code in 0..=format.max_code {
                assert_eq!(format.encode(format.decode(code)), code);
                assert_eq!(format.encode(-format.decode(code)), code | 0x80);
            }
            assert!(format.decode(format.encode(f32::NAN)).is_nan());
            assert_eq!(format.decode(format.encode(1e9)), format.max);
        }
        // 1.0625 lies midway between 1.0 and 1.125; 1.1875 between 1.125 and 1.25.
        assert_eq!(round_f32(DType::F8E4M3, 1.0625), 1.0);
        assert_eq!(round_f32(DType::F8E4M3, 1.1875), 1.25);
    }

    #[test]
    fn casts_truncate_saturate_and_wrap() {
        let floats =
            |v: &[f32]| Array { dtype: DType::F32, shape: vec![v.len()], data: Data::F32(v.to_vec()) };
        let to = |x: &Array, dtype| cast(x, dtype).indices().to_vec();
        assert_eq!(to(&floats(&[1.9, -1.9, 300.0, f32::NAN]), DType::I8), [1, -1, 127, 0]);
        let ints = Array { dtype: DType::I64, shape: vec![3], data: Data::Int(vec![300, -1, 1 << 33]) };
        assert_eq!(to(&ints, DType::U8), [44, 255, 0]);
        assert_eq!(to(&ints, DType::Bool), [1, 1, 1]);
    }

    #[test]
    fn host_tensors_read_back() {
        for &dtype in DType::ALL {
            // 8-bit patterns that are no NaN in any dtype.
            let data: Vec<u8> = (0..dtype.size_bytes() * 4)
                .map(|i| if dtype == DType::Bool { 1 } else { i as u8 + 1 })
                .collect();
            let tensor = Tensor { dtype, shape: vec![2, 2], data: Bytes::from(data) };
            assert_eq!(Array::from_tensor(&tensor).to_tensor(), tensor);
        }
    }
}
