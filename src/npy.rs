//! NumPy's `.npy` files: one tensor a file, read and written without NumPy.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3,
//! little-endian, C order. bf16 and the 8-bit floats have no NumPy type and are refused.

use crate::error::Error;
use bytes::Bytes;
use kiln_machine::tensor::{DType, Tensor};
use std::{fs, path::Path};

/// NumPy's type descriptor of each dtype that has one.
#[rustfmt::skip] // a table
const DESCR: &[(DType, &str)] = &[
    (DType::F32, "<f4"), (DType::F16, "<f2"), (DType::F64, "<f8"), (DType::Bool, "|b1"),
    (DType::I8,  "|i1"), (DType::U8,  "|u1"), (DType::I16, "<i2"), (DType::U16,  "<u2"),
    (DType::I32, "<i4"), (DType::U32, "<u4"), (DType::I64, "<i8"), (DType::U64,  "<u8"),
];

/// Reads a tensor.
///
/// # Errors
/// When the file cannot be read, is not `.npy`, is in Fortran or big-endian order, has a dtype without
/// counterpart here, or holds fewer bytes than its shape needs.
pub fn read(path: &Path) -> Result<Tensor, Error> {
    let data = fs::read(path).map_err(|source| Error::read(path, source))?;
    parse(Bytes::from(data)).map_err(|what| Error::Npy { path: path.to_path_buf(), what })
}

/// Writes a tensor as version 1.0.
///
/// # Errors
/// When the dtype has no NumPy type or the file cannot be written.
pub fn write(path: &Path, tensor: &Tensor) -> Result<(), Error> {
    let bytes = format(tensor).map_err(|what| Error::Npy { path: path.to_path_buf(), what })?;
    fs::write(path, bytes).map_err(|source| Error::write(path, source))
}

fn parse(file: Bytes) -> Result<Tensor, String> {
    if !file.starts_with(b"\x93NUMPY") || file.len() < 10 {
        return Err("is not a .npy file (it does not begin with \\x93NUMPY)".into());
    }
    let (header_at, header_len) = match file[6] {
        1 => (10, usize::from(u16::from_le_bytes([file[8], file[9]]))),
        2 | 3 if file.len() >= 12 => {
            (12, u32::from_le_bytes([file[8], file[9], file[10], file[11]]) as usize)
        }
        version => return Err(format!("has the unknown format version {version}")),
    };
    let header = file.get(header_at..header_at + header_len).ok_or("ends within its header")?;
    let header = std::str::from_utf8(header).map_err(|_| "has a header that is not text")?;
    let descr = quoted(field(header, "descr")?).ok_or("has a structured dtype")?;
    let dtype = DESCR
        .iter()
        .find(|(_, text)| descr.replace('=', "<") == *text || descr == text.replace('|', "<"))
        .map(|(dtype, _)| *dtype)
        .ok_or_else(|| format!("has the dtype '{descr}', which is not supported"))?;
    let shape = shape(field(header, "shape")?).ok_or("has a shape that cannot be read")?;
    if field(header, "fortran_order")?.starts_with("True") && shape.len() > 1 {
        return Err("is in Fortran order; save numpy.ascontiguousarray(x) instead".into());
    }
    let size = shape
        .iter()
        .try_fold(dtype.size_bytes(), |n, &extent| n.checked_mul(extent))
        .ok_or("has more elements than fit in memory")?;
    let at = header_at + header_len;
    if file.len() - at < size {
        return Err(format!("holds {} bytes of data where its shape needs {size}", file.len() - at));
    }
    Ok(Tensor { dtype, shape, data: file.slice(at..at + size) })
}

/// The text after `'name':` in the header's Python dictionary.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str, String> {
    let key = format!("'{name}':");
    let at = header.find(&key).ok_or_else(|| format!("has a header without {key}"))?;
    Ok(header[at + key.len()..].trim_start())
}

fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('\'')?.split('\'').next()
}

fn shape(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.split(')').next()?;
    inner.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

fn format(tensor: &Tensor) -> Result<Vec<u8>, String> {
    let descr = DESCR
        .iter()
        .find(|(dtype, _)| *dtype == tensor.dtype)
        .map(|(_, text)| *text)
        .ok_or_else(|| format!("cannot hold {:?}: NumPy has no such type", tensor.dtype))?;
    let extents: String = tensor.shape.iter().map(|extent| format!("{extent}, ")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", extents.trim_end());
    // The data begins at a multiple of 64 bytes; the header ends with a line feed.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| "has too many dimensions for .npy".to_string())?;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&tensor.data);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { dtype: DType::F32, shape: shape.to_vec(), data: Bytes::from(data) }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for t in [tensor(&[2, 3], &[1., 2., 3., 4., 5., 6.]), tensor(&[], &[7.]), tensor(&[0, 4], &[])] {
            let back = parse(Bytes::from(format(&t).expect("f32 has a NumPy type"))).expect("is well formed");
            assert_eq!((back.dtype, &back.shape, &back.data), (t.dtype, &t.shape, &t.data));
        }
    }

    #[test]
    fn the_header_is_as_numpy_writes_it() {
        let file = format(&tensor(&[5], &[0.; 5])).expect("f32 has a NumPy type");
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert!(file[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }"));
        assert_eq!(file.len(), 128 + 20);
    }

    #[test]
    fn faults_are_told() {
        let good = format(&tensor(&[2], &[1., 2.])).expect("f32 has a NumPy type");
        let fault = |file: Vec<u8>| parse(Bytes::from(file)).expect_err("is at fault");
        assert!(fault(b"hello".to_vec()).contains("not a .npy file"));
        assert!(fault(good[..good.len() - 1].to_vec()).contains("7 bytes of data where its shape needs 8"));
        assert!(fault(good[..40].to_vec()).contains("ends within its header"));
        let text = String::from_utf8_lossy(&good[10..128]).replace("'<f4'", "'<c8'");
        assert!(fault([&good[..10], text.as_bytes()].concat()).contains("'<c8'"));
    }
}
