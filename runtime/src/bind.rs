//! Host tensors to device bytes and back.
//!
//! The device may hold a narrower type than the host sees (i64 as i32, bool as a byte); every element is checked
//! against the binding's range and the device type before it is narrowed.

use bytes::Bytes;
use kiln_machine::program::Binding;
use kiln_machine::tensor::{DType, Tensor};

use crate::error::SimError;

/// The device's bytes for a host tensor, checked against the binding.
pub(crate) fn narrow(binding: &Binding, tensor: &Tensor) -> Result<Bytes, SimError> {
    let name = || binding.name.clone();
    if tensor.dtype != binding.host_dtype {
        return Err(SimError::InputDtype { name: name(), given: tensor.dtype, expected: binding.host_dtype });
    }
    if tensor.shape != binding.shape {
        return Err(SimError::InputShape {
            name: name(),
            given: tensor.shape.clone(),
            expected: binding.shape.clone(),
        });
    }
    let Some((type_low, type_high)) = integer_range(binding.dtype) else {
        return floats(binding, tensor);
    };
    if integer_range(tensor.dtype).is_none() {
        return Err(no_conversion(binding));
    }
    let (low, high) = binding.range.unwrap_or((i64::MIN, i64::MAX));
    let (low, high) = (i128::from(low).max(type_low), i128::from(high).min(type_high));
    let mut out = Vec::new();
    let same = tensor.dtype == binding.dtype;
    for index in 0..tensor.elements() {
        let value = integer(tensor, index);
        if value < low || value > high {
            return Err(SimError::InputRange { name: name(), index, value, low, high });
        }
        if !same {
            let bytes = value.to_le_bytes();
            out.extend_from_slice(&bytes[..binding.dtype.size_bytes()]);
        }
    }
    Ok(if same { tensor.data.clone() } else { out.into() })
}

/// The host's tensor of the device's bytes.
pub(crate) fn widen(binding: &Binding, bytes: Vec<u8>) -> Result<Tensor, SimError> {
    let tensor = |dtype, data: Vec<u8>| Tensor { dtype, shape: binding.shape.clone(), data: data.into() };
    let device = tensor(binding.dtype, bytes);
    let (from, to) = (binding.dtype, binding.host_dtype);
    if from == to || (from, to) == (DType::U8, DType::Bool) {
        return Ok(Tensor { dtype: to, ..device });
    }
    let elements = 0..device.elements();
    match (integer_range(from), integer_range(to)) {
        (Some(_), Some(_)) => {
            let size = to.size_bytes();
            Ok(tensor(
                to,
                elements.flat_map(|i| integer(&device, i).to_le_bytes().into_iter().take(size)).collect(),
            ))
        }
        (None, None) if to == DType::F64 => {
            Ok(tensor(to, elements.flat_map(|i| device.element_f64(i).to_le_bytes()).collect()))
        }
        (None, None) if to == DType::F32 => {
            Ok(tensor(to, elements.flat_map(|i| (device.element_f64(i) as f32).to_le_bytes()).collect()))
        }
        _ => Err(no_conversion(binding)),
    }
}

/// Float tensors go as they are, or from f64 to f32.
fn floats(binding: &Binding, tensor: &Tensor) -> Result<Bytes, SimError> {
    match (tensor.dtype, binding.dtype) {
        (from, to) if from == to => Ok(tensor.data.clone()),
        (DType::F64, DType::F32) => {
            Ok((0..tensor.elements()).flat_map(|i| (tensor.element_f64(i) as f32).to_le_bytes()).collect())
        }
        _ => Err(no_conversion(binding)),
    }
}

fn no_conversion(binding: &Binding) -> SimError {
    SimError::Binding { name: binding.name.clone(), host: binding.host_dtype, device: binding.dtype }
}

/// Least and greatest value of an integer type.
fn integer_range(dtype: DType) -> Option<(i128, i128)> {
    let signed = match dtype {
        DType::Bool => return Some((0, 1)),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => true,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => false,
        DType::F32 | DType::BF16 | DType::F16 | DType::F64 | DType::F8E4M3 | DType::F8E5M2 => return None,
    };
    let bits = 8 * dtype.size_bytes();
    Some(if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) })
}

/// Element `i` of a tensor of an integer type.
pub(crate) fn integer(tensor: &Tensor, i: usize) -> i128 {
    let mut wide = [0; 8];
    let size = tensor.dtype.size_bytes();
    wide[..size].copy_from_slice(&tensor.data[i * size..(i + 1) * size]);
    let unused = 64 - 8 * size as u32;
    let value = i64::from_le_bytes(wide);
    match tensor.dtype {
        DType::Bool => i128::from(value != 0),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => i128::from(value as u64),
        _ => i128::from(value << unused >> unused),
    }
}
