//! `TensorProto` files (`input_0.pb`), and the elements of a `TensorProto` whichever field holds them.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use kiln_machine::tensor::{DType, Tensor};
use prost::Message;

use crate::diagnostics::{Code, Diagnostic};
use crate::model_file::{MAX_ELEMENTS, dtype_from_onnx, dtype_to_onnx, onnx_type_name};
use crate::onnx::{TensorProto, tensor_proto};

/// Reads a `TensorProto` file: the tensor's name and the tensor.
///
/// # Errors
/// [`Code::Io`], [`Code::NotOnnx`] for bytes that are no `TensorProto`, [`Code::DType`], [`Code::Shape`].
pub fn read(path: &Path) -> Result<(String, Tensor), Diagnostic> {
    let bytes = fs::read(path)
        .map_err(|e| Diagnostic::new(Code::Io, format!("cannot read {}: {e}", path.display())))?;
    let in_file = |d: Diagnostic| Diagnostic { message: format!("{}: {}", path.display(), d.message), ..d };
    let proto = TensorProto::decode(Bytes::from(bytes))
        .map_err(|e| in_file(Diagnostic::new(Code::NotOnnx, format!("not an ONNX tensor: {e}"))))?;
    let tensor = to_tensor(&proto).map_err(in_file)?;
    Ok((proto.name().to_string(), tensor))
}

/// Writes a `TensorProto` file (raw data).
///
/// # Errors
/// [`Code::Io`].
pub fn write(path: &Path, name: &str, tensor: &Tensor) -> Result<(), Diagnostic> {
    fs::write(path, from_tensor(name, tensor).encode_to_vec())
        .map_err(|e| Diagnostic::new(Code::Io, format!("cannot write {}: {e}", path.display())))
}

/// A `TensorProto` with raw data.
pub fn from_tensor(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: Some(name.to_string()),
        data_type: Some(dtype_to_onnx(tensor.dtype)),
        dims: tensor.shape.iter().map(|&d| d as i64).collect(),
        raw_data: Some(tensor.data.clone()),
        ..Default::default()
    }
}

/// The dtype that holds the elements of `proto`.
pub(crate) fn dtype_of(proto: &TensorProto) -> Result<DType, Diagnostic> {
    dtype_from_onnx(proto.data_type()).ok_or_else(|| {
        Diagnostic::new(
            Code::DType,
            format!(
                "tensor {:?} is of {}, which is not handled",
                proto.name(),
                onnx_type_name(proto.data_type())
            ),
        )
    })
}

/// The shape of `proto`, if it is a possible one.
pub(crate) fn shape_of(proto: &TensorProto) -> Result<Vec<usize>, Diagnostic> {
    let elements =
        proto.dims.iter().try_fold(1i64, |n, &d| if d < 0 { None } else { n.checked_mul(d.max(1)) });
    if elements.is_none_or(|n| n > MAX_ELEMENTS) {
        return Err(Diagnostic::new(
            Code::Shape,
            format!("tensor {:?} has the impossible shape {:?}", proto.name(), proto.dims),
        ));
    }
    Ok(proto.dims.iter().map(|&d| d as usize).collect())
}

/// How many bytes ONNX stores for `elements` of an element type; four-bit types are packed in pairs.
pub(crate) fn stored_bytes(data_type: i32, elements: usize) -> usize {
    if is_four_bit(data_type) {
        return elements.div_ceil(2);
    }
    elements * dtype_from_onnx(data_type).map_or(1, |d| d.size_bytes())
}

/// Four-bit integers are unpacked on reading; only constants may be of them.
pub(crate) fn is_four_bit(data_type: i32) -> bool {
    data_type == tensor_proto::DataType::Int4 as i32 || data_type == tensor_proto::DataType::Uint4 as i32
}

/// Four-bit elements one a byte; other types pass through uncopied.
pub(crate) fn unpack(data_type: i32, stored: Bytes, elements: usize) -> Bytes {
    if !is_four_bit(data_type) {
        return stored;
    }
    let signed = data_type == tensor_proto::DataType::Int4 as i32;
    let widen = |nibble: u8| if signed { (((nibble << 4) as i8) >> 4) as u8 } else { nibble };
    stored.iter().flat_map(|b| [widen(b & 15), widen(b >> 4)]).take(elements).collect()
}

/// The elements of `proto`, from `raw_data` (uncopied) or a typed field.
///
/// # Errors
/// [`Code::DType`] for types Kiln has no tensor of, [`Code::Shape`] when the number of elements is not what
/// the shape says, [`Code::ExternalData`] for external data, which only a model's folder can resolve.
pub fn to_tensor(proto: &TensorProto) -> Result<Tensor, Diagnostic> {
    let (dtype, shape) = (dtype_of(proto)?, shape_of(proto)?);
    let elements: usize = shape.iter().product();
    if proto.data_location() == tensor_proto::DataLocation::External {
        return Err(Diagnostic::new(
            Code::ExternalData,
            format!("tensor {:?} has external data where none is possible", proto.name()),
        ));
    }
    let wrong = |held: usize, what: &str| {
        Diagnostic::new(
            Code::Shape,
            format!("tensor {:?} of shape {shape:?} holds {held} {what}", proto.name()),
        )
    };
    if let Some(raw) = &proto.raw_data {
        if raw.len() != stored_bytes(proto.data_type(), elements) {
            return Err(wrong(raw.len(), "bytes of raw data"));
        }
        let data = unpack(proto.data_type(), raw.clone(), elements);
        return Ok(Tensor { dtype, shape, data });
    }
    let (held, data) = typed_data(proto, dtype);
    let data = unpack(proto.data_type(), data, elements);
    if held != if is_four_bit(proto.data_type()) { elements.div_ceil(2) } else { elements } {
        return Err(wrong(held, "values"));
    }
    Ok(Tensor { dtype, shape, data })
}

/// The typed field that ONNX prescribes for the dtype: how many values, and their bytes.
fn typed_data(proto: &TensorProto, dtype: DType) -> (usize, Bytes) {
    fn bytes<T: Copy, const N: usize>(values: &[T], f: impl Fn(T) -> [u8; N]) -> (usize, Bytes) {
        (values.len(), values.iter().flat_map(|&v| f(v)).collect::<Vec<u8>>().into())
    }
    match dtype {
        DType::F32 => bytes(&proto.float_data, f32::to_le_bytes),
        DType::F64 => bytes(&proto.double_data, f64::to_le_bytes),
        DType::I64 => bytes(&proto.int64_data, i64::to_le_bytes),
        DType::U64 => bytes(&proto.uint64_data, u64::to_le_bytes),
        DType::U32 => bytes(&proto.uint64_data, |v| (v as u32).to_le_bytes()),
        DType::I32 => bytes(&proto.int32_data, i32::to_le_bytes),
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => {
            bytes(&proto.int32_data, |v| (v as u16).to_le_bytes())
        }
        DType::Bool => bytes(&proto.int32_data, |v| [u8::from(v != 0)]),
        _ => bytes(&proto.int32_data, |v| [v as u8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensor_proto::DataType as T;

    fn proto(data_type: T, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: Some(data_type as i32), dims: dims.to_vec(), ..Default::default() }
    }

    #[test]
    fn typed_fields_are_read_by_dtype() -> Result<(), Diagnostic> {
        let float = TensorProto { float_data: vec![1.0, -2.0], ..proto(T::Float, &[2]) };
        assert_eq!(&to_tensor(&float)?.data[..], [0, 0, 128, 63, 0, 0, 0, 192]);
        let half = TensorProto { int32_data: vec![0x3c00], ..proto(T::Float16, &[]) };
        assert_eq!(&to_tensor(&half)?.data[..], [0, 0x3c]);
        let flags = TensorProto { int32_data: vec![0, 1], ..proto(T::Bool, &[2]) };
        assert_eq!(&to_tensor(&flags)?.data[..], [0, 1]);
        let nibbles = TensorProto { int32_data: vec![0xf1, 0x07], ..proto(T::Int4, &[3]) };
        assert_eq!(&to_tensor(&nibbles)?.data[..], [1, 255, 7]);
        Ok(())
    }

    #[test]
    fn counts_must_match_the_shape() {
        let short = TensorProto { float_data: vec![1.0], ..proto(T::Float, &[2]) };
        assert_eq!(to_tensor(&short).map_err(|d| d.code), Err(Code::Shape));
        let absurd = proto(T::Float, &[i64::MAX, 2]);
        assert_eq!(to_tensor(&absurd).map_err(|d| d.code), Err(Code::Shape));
        assert_eq!(to_tensor(&proto(T::Float, &[-1])).map_err(|d| d.code), Err(Code::Shape));
        assert_eq!(to_tensor(&proto(T::String, &[1])).map_err(|d| d.code), Err(Code::DType));
    }

    #[test]
    fn a_written_file_reads_back() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.pb");
        let tensor = Tensor { dtype: DType::I64, shape: vec![2], data: Bytes::from(vec![7; 16]) };
        write(&path, "ids", &tensor)?;
        let (name, back) = read(&path)?;
        assert_eq!((name.as_str(), back.dtype, &back.data), ("ids", DType::I64, &tensor.data));
        fs::write(&path, &fs::read(&path)?[..10])?;
        assert_eq!(read(&path).map_err(|d| d.code).err(), Some(Code::NotOnnx));
        Ok(())
    }
}
