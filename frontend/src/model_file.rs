//! A model on disk: decoded without copying a weight, its external data mapped and kept inside its folder.
//!
//! Every tensor's bytes are a [`Payload`]: a slice of a mapped file together with the file's number and the
//! offset, or bytes that exist in memory only.

use std::fs;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;
use kiln_machine::map::FileMap;
use kiln_machine::tensor::{DType, Tensor};
use prost::Message;

use crate::diagnostics::{Code, Diagnostic};
use crate::onnx::{ModelProto, TensorProto, tensor_proto};
use crate::tensor_pb;

/// More elements than any machine's memory holds: a shape that says so is a mistake.
pub const MAX_ELEMENTS: i64 = 1 << 34;

/// Tables that the importer computes have no more entries.
pub const MAX_TABLE: usize = 1 << 26;

/// Where a tensor's bytes lie: file number and byte offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePlace {
    /// Index into [`Files`].
    pub file: u32,
    /// First byte.
    pub offset: u64,
}

/// A tensor's bytes, and where they lie if they are a slice of a file.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Dtype, shape and bytes (row-major, little-endian).
    pub tensor: Tensor,
    /// `None` when the bytes exist in memory only.
    pub place: Option<FilePlace>,
}

/// A file that weights refer to.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Relative to the model's folder, with `/`.
    pub name: String,
    /// Where it was found.
    pub path: PathBuf,
    /// Its mapped bytes.
    pub bytes: Bytes,
}

/// The files behind a model in order of first use; number 0 is the model itself.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    files: IndexMap<String, SourceFile>,
}

impl Files {
    /// All files, by number.
    pub fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.values()
    }

    /// The number and the bytes of the file that an external tensor names.
    fn external(&mut self, location: &str) -> Result<(u32, Bytes), Diagnostic> {
        let refuse = |why: &str| {
            Diagnostic::new(Code::ExternalData, format!("external data location {location:?} {why}"))
                .help("a location is a path inside the model's folder, without `..`; put the file there")
        };
        let relative = Path::new(location);
        if location.is_empty() {
            return Err(refuse("is empty"));
        }
        if relative.is_absolute() || relative.components().any(|c| matches!(c, Component::Prefix(_))) {
            return Err(refuse("is an absolute path"));
        }
        if relative.components().any(|c| matches!(c, Component::ParentDir)) {
            return Err(refuse("leaves the model's folder"));
        }
        let parts: Vec<_> = relative.components().filter(|c| matches!(c, Component::Normal(_))).collect();
        let name = parts.iter().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        if let Some((number, _, file)) = self.files.get_full(&name) {
            return Ok((number as u32, file.bytes.clone()));
        }
        let path = self.folder.join(&name);
        let missing = |e: std::io::Error| {
            Diagnostic::new(Code::ExternalData, format!("cannot open external data {}: {e}", path.display()))
                .help("the weights' file belongs beside the model, under the name the model gives it")
        };
        let real = fs::canonicalize(&path).map_err(missing)?;
        let folder = fs::canonicalize(&self.folder).map_err(missing)?;
        if !real.starts_with(&folder) {
            return Err(refuse("leaves the model's folder through a symbolic link"));
        }
        let bytes = FileMap::open(&real).map_err(missing)?.bytes();
        let (number, _) =
            self.files.insert_full(name.clone(), SourceFile { name, path: real, bytes: bytes.clone() });
        Ok((number as u32, bytes))
    }
}

/// A decoded model and the files behind it.
#[derive(Debug)]
pub struct ModelFile {
    /// The message; `raw_data` points into the mapped file.
    pub proto: ModelProto,
    /// The model's own file and those of its external data.
    pub files: Files,
}

impl ModelFile {
    /// Maps and decodes `path`; external data is looked for in `data_folder`, or else beside the model.
    ///
    /// # Errors
    /// [`Code::Io`] when it cannot be read, [`Code::NotOnnx`] when it is no complete ONNX model.
    pub fn open(path: &Path, data_folder: Option<&Path>) -> Result<ModelFile, Diagnostic> {
        let bytes = FileMap::open(path)
            .map_err(|e| Diagnostic::new(Code::Io, format!("cannot open {}: {e}", path.display())))?
            .bytes();
        let proto = ModelProto::decode(bytes.clone()).map_err(|e| {
            Diagnostic::new(Code::NotOnnx, format!("{} is not an ONNX model: {e}", path.display()))
                .help("the file is truncated or of another format; export or copy it again")
        })?;
        if proto.graph.is_none() {
            let message = format!("{} is not an ONNX model: it has no graph", path.display());
            return Err(Diagnostic::new(Code::NotOnnx, message)
                .help("the file is truncated or of another format; export or copy it again"));
        }
        let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = data_folder.unwrap_or(beside).to_path_buf();
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let own = SourceFile { name: name.clone(), path: path.to_path_buf(), bytes };
        Ok(ModelFile { proto, files: Files { folder, files: IndexMap::from([(name, own)]) } })
    }
}

impl Files {
    /// The bytes of `tensor`, wherever they are.
    ///
    /// # Errors
    /// [`Code::Shape`], [`Code::DType`] or [`Code::ExternalData`], naming the tensor.
    pub fn payload(&mut self, tensor: &TensorProto) -> Result<Payload, Diagnostic> {
        if tensor.data_location() == tensor_proto::DataLocation::External {
            return self.external_payload(tensor);
        }
        let place = tensor.raw_data.as_ref().and_then(|raw| {
            let model = &self.files[0].bytes;
            let offset = (raw.as_ptr() as usize).checked_sub(model.as_ptr() as usize)?;
            let inside = !raw.is_empty() && offset + raw.len() <= model.len();
            inside.then_some(FilePlace { file: 0, offset: offset as u64 })
        });
        let tensor = tensor_pb::to_tensor(tensor)?;
        // Sub-byte elements are unpacked on reading: those bytes stand in no file.
        let place = place.filter(|p| {
            self.files[p.file as usize].bytes[p.offset as usize..].as_ptr() == tensor.data.as_ptr()
        });
        Ok(Payload { tensor, place })
    }

    fn external_payload(&mut self, tensor: &TensorProto) -> Result<Payload, Diagnostic> {
        let named = |d: Diagnostic| Diagnostic { message: format!("{}: {}", tensor.name(), d.message), ..d };
        let bad = |why: String| named(Diagnostic::new(Code::ExternalData, why));
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key() == key).map(|e| e.value());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| bad(format!("external data {key} {text:?} is not a number of bytes"))),
        };
        let location = entry("location").ok_or_else(|| bad("external data without a location".into()))?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let dtype = tensor_pb::dtype_of(tensor).map_err(named)?;
        let shape = tensor_pb::shape_of(tensor).map_err(named)?;
        let packed = tensor_pb::stored_bytes(tensor.data_type(), shape.iter().product()) as u64;
        if length.is_some_and(|l| l != packed) {
            return Err(bad(format!(
                "external data has length {}, but {dtype:?}{shape:?} takes {packed} bytes",
                length.unwrap_or(0)
            )));
        }
        let (file, bytes) = self.external(location).map_err(named)?;
        let end = offset.checked_add(packed).filter(|&end| end <= bytes.len() as u64);
        let Some(end) = end else {
            return Err(bad(format!(
                "external data at offset {offset} with {packed} bytes lies outside {location}, which has {} bytes",
                bytes.len()
            ))
            .help("the weights' file is truncated or belongs to another model"));
        };
        let slice = bytes.slice(offset as usize..end as usize);
        let unpacked = tensor_pb::unpack(tensor.data_type(), slice, shape.iter().product());
        let place = (unpacked.len() as u64 == packed).then_some(FilePlace { file, offset });
        Ok(Payload { tensor: Tensor { dtype, shape, data: unpacked }, place })
    }
}

/// The dtype of an ONNX element type number; `None` where Kiln has no tensor of it.
pub fn dtype_from_onnx(number: i32) -> Option<DType> {
    use tensor_proto::DataType as T;
    Some(match T::try_from(number).ok()? {
        T::Float => DType::F32,
        T::Uint8 => DType::U8,
        T::Int8 => DType::I8,
        T::Uint16 => DType::U16,
        T::Int16 => DType::I16,
        T::Int32 => DType::I32,
        T::Int64 => DType::I64,
        T::Bool => DType::Bool,
        T::Float16 => DType::F16,
        T::Double => DType::F64,
        T::Uint32 => DType::U32,
        T::Uint64 => DType::U64,
        T::Bfloat16 => DType::BF16,
        T::Float8e4m3fn => DType::F8E4M3,
        T::Float8e5m2 => DType::F8E5M2,
        // Four-bit integers are held one a byte.
        T::Int4 => DType::I8,
        T::Uint4 => DType::U8,
        _ => return None,
    })
}

/// ONNX's element type number of a dtype.
pub fn dtype_to_onnx(dtype: DType) -> i32 {
    use tensor_proto::DataType as T;
    (match dtype {
        DType::F32 => T::Float,
        DType::U8 => T::Uint8,
        DType::I8 => T::Int8,
        DType::U16 => T::Uint16,
        DType::I16 => T::Int16,
        DType::I32 => T::Int32,
        DType::I64 => T::Int64,
        DType::Bool => T::Bool,
        DType::F16 => T::Float16,
        DType::F64 => T::Double,
        DType::U32 => T::Uint32,
        DType::U64 => T::Uint64,
        DType::BF16 => T::Bfloat16,
        DType::F8E4M3 => T::Float8e4m3fn,
        DType::F8E5M2 => T::Float8e5m2,
    }) as i32
}

/// ONNX's name of an element type number, lower case, as in `tensor(float16)`.
pub fn onnx_type_name(number: i32) -> String {
    tensor_proto::DataType::try_from(number)
        .map_or_else(|_| format!("element type {number}"), |t| t.as_str_name().to_lowercase())
}
