//! Programs: what the backend emits, the file holds and the simulator runs.

mod buffers;
mod file;
mod source;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use crate::isa::{Engine, Word};
use crate::tensor::DType;

pub use buffers::{Buffer, Memory};

/// A compiled model, complete but for the bytes of the files it refers to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Name of the target.
    pub target_name: String,
    /// [`crate::target::Target::digest`] of the target compiled for.
    pub target_digest: [u8; 32],
    /// Bytes of DRAM used, from address 0.
    pub dram_bytes: u64,
    /// Tensors that the host can name.
    pub bindings: Vec<Binding>,
    /// Values set before a run and read by `csr`.
    pub scalars: Vec<RuntimeScalar>,
    /// Files referred to.
    pub files: Vec<FileRef>,
    /// Bytes carried in the program file itself.
    pub blobs: Vec<Bytes>,
    /// Contents of DRAM before the first run.
    pub image: Vec<ImageExtent>,
    /// Names that [`OriginShare::origin`] indexes: `"<node name>|<op type>"`.
    pub origins: Vec<String>,
    /// What runs, in order.
    pub segments: Vec<Segment>,
}

/// What is wrong with a program or its file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum ProgramError {
    /// The system refuses.
    #[error("{path}: {message}")]
    #[diagnostic(code(kiln::program::io))]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        message: String,
    },
    /// What is wrong with a certain file.
    #[error("{path}: {cause}")]
    #[diagnostic(forward(cause))]
    InFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: Box<ProgramError>,
    },
    /// Another kind of file.
    #[error("this is not a kiln program file")]
    #[diagnostic(code(kiln::program::magic), help("`kiln compile model.onnx -o model.kiln` writes one"))]
    NotAProgram,
    /// Another version of the format.
    #[error("this program file has format version {found}; this kiln reads version {known}")]
    #[diagnostic(code(kiln::program::version), help("compile the model again"))]
    Version {
        /// In the file.
        found: u32,
        /// The version that can be read.
        known: u32,
    },
    /// The file ends early.
    #[error("the program file is truncated: it has {found} of {needed} bytes")]
    #[diagnostic(code(kiln::program::truncated), help("copy it again or compile the model again"))]
    Truncated {
        /// Bytes that it should have.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A checksum differs.
    #[error("the program file is corrupt: checksum of the {part} differs")]
    #[diagnostic(code(kiln::program::corrupt), help("copy it again or compile the model again"))]
    Corrupt {
        /// Which part.
        part: String,
    },
    /// It contradicts itself.
    #[error("the program is inconsistent: {what}")]
    #[diagnostic(code(kiln::program::invalid))]
    Invalid {
        /// How.
        what: String,
    },
    /// Compiled for another machine.
    #[error("the program was compiled for target `{compiled_for}`, not for `{given}` as it is now")]
    #[diagnostic(
        code(kiln::program::target),
        help("compile the model again for this target, with the same --set options")
    )]
    Target {
        /// Name at compile time.
        compiled_for: String,
        /// Name now.
        given: String,
    },
    /// More memory than the device has.
    #[error("the program needs {needed} bytes of DRAM; the target has {available}")]
    #[diagnostic(
        code(kiln::program::dram),
        help("a larger dram_bytes, a smaller model, or a narrower dtype")
    )]
    DoesNotFit {
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// A weight file is not the one that was compiled.
    #[error("{path} is not the file that was compiled: {what}")]
    #[diagnostic(code(kiln::program::file), help("restore the file, or compile the model again"))]
    FileChanged {
        /// The file.
        path: String,
        /// How it differs.
        what: String,
    },
}

fn invalid(what: impl Into<String>) -> ProgramError {
    ProgramError::Invalid { what: what.into() }
}

impl Program {
    /// Reads a program file; its blobs stay mapped.
    ///
    /// # Errors
    /// See [`ProgramError`]; a file is never trusted.
    pub fn read(path: &Path) -> Result<Program, ProgramError> {
        file::read(path)
    }

    /// Reads a program file from memory; blobs stay slices of it.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn from_bytes(bytes: &Bytes) -> Result<Program, ProgramError> {
        file::from_bytes(bytes)
    }

    /// Writes a program file. The bytes depend on the program alone.
    ///
    /// # Errors
    /// An inconsistent program, or the system.
    pub fn write(&self, path: &Path) -> Result<(), ProgramError> {
        file::write(self, path)
    }

    /// The program file as bytes.
    ///
    /// # Errors
    /// An inconsistent program.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProgramError> {
        file::to_bytes(self)
    }

    /// The binding of that name: an input or internal one first, else an output.
    pub fn binding(&self, name: &str) -> Option<&Binding> {
        let named = |b: &&Binding| b.name == name;
        let first = self.bindings.iter().find(|b| named(b) && b.role != BindingRole::Output);
        first.or_else(|| self.bindings.iter().find(named))
    }

    /// One past the last DRAM byte that bindings and image reach (saturating).
    pub fn reached_bytes(&self) -> u64 {
        let bindings = self.bindings.iter().map(|b| {
            let bytes = b.dtype.byte_count(&b.shape).map_or(u64::MAX, |n| n as u64);
            b.address.saturating_add(bytes)
        });
        bindings.chain(self.image.iter().map(ImageExtent::end)).max().unwrap_or(0)
    }
}

impl ImageExtent {
    /// One past its last DRAM byte (saturating).
    pub fn end(&self) -> u64 {
        if self.rows == 0 || self.row_bytes == 0 {
            return self.address;
        }
        self.address.saturating_add((self.rows - 1).saturating_mul(self.pitch)).saturating_add(self.row_bytes)
    }
}

/// A tensor that the host reads or writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The model's name of it.
    pub name: String,
    /// What it is to the host.
    pub role: BindingRole,
    /// Element type in DRAM.
    pub dtype: DType,
    /// Element type the host sees; wider or equal.
    pub host_dtype: DType,
    /// Extents; dense, row-major.
    pub shape: Vec<usize>,
    /// Byte address in DRAM.
    pub address: u64,
    /// Inclusive range that values must lie in, checked when bound.
    pub range: Option<(i64, i64)>,
    /// Name of the binding whose memory this one shares (a cache updated in place).
    pub alias_of: Option<String>,
}

/// What a binding is to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindingRole {
    /// Given before a run.
    Input,
    /// Taken after a run.
    Output,
    /// Passed between segments.
    Internal,
}

/// A 32-bit value given before a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeScalar {
    /// Its name; its number is its position.
    pub name: String,
    /// Inclusive range.
    pub range: (i32, i32),
}

/// A file outside the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Relative path with `/`, below the model's directory.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of 64 evenly spaced blocks of 4 KiB: see [`FileRef::digest_of`].
    pub digest: [u8; 32],
    /// SHA-256 of everything, if sealed.
    pub seal: Option<[u8; 32]>,
}

/// `rows` runs of `row_bytes` bytes placed in DRAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageExtent {
    /// DRAM address of the first row.
    pub address: u64,
    /// Bytes from row to row in DRAM.
    pub pitch: u64,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Where they come from.
    pub source: ImageSource,
}

/// Where image bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A file.
    File {
        /// Index into [`Program::files`].
        file: u32,
        /// Byte offset of the first row.
        offset: u64,
        /// Bytes from row to row.
        pitch: u64,
    },
    /// A blob of the program.
    Blob {
        /// Index into [`Program::blobs`].
        blob: u32,
        /// Byte offset of the first row.
        offset: u64,
        /// Bytes from row to row.
        pitch: u64,
    },
    /// Zero bytes.
    Zero,
}

/// One step of a program.
#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    /// Runs on the machine.
    Device(DeviceSegment),
    /// Runs on the host.
    Host(HostSegment),
}

/// Instruction streams that run together, all starting at word 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceSegment {
    /// The streams of core 0; an engine without one does nothing.
    pub streams: BTreeMap<Engine, Stream>,
    /// The streams of other cores, by number.
    pub others: BTreeMap<u8, BTreeMap<Engine, Stream>>,
    /// The buffers that [`Stream::buffers`] index; on chip they are those of the core whose stream names them.
    pub buffers: Vec<Buffer>,
}

impl DeviceSegment {
    /// Streams of core 0 alone.
    pub fn of_one_core(streams: BTreeMap<Engine, Stream>) -> Self {
        DeviceSegment { streams, ..DeviceSegment::default() }
    }

    /// The streams of a core; `None` if it has none.
    pub fn of_core(&self, core: u8) -> Option<&BTreeMap<Engine, Stream>> {
        if core == 0 { Some(&self.streams) } else { self.others.get(&core) }
    }

    /// Every stream with its core and engine, in order.
    pub fn all_streams(&self) -> impl Iterator<Item = (u8, Engine, &Stream)> {
        let first = self.streams.iter().map(|(engine, stream)| (0, *engine, stream));
        let of = |(core, streams): (&u8, _)| {
            let (core, streams): (u8, &BTreeMap<Engine, Stream>) = (*core, streams);
            streams.iter().map(move |(engine, stream)| (core, *engine, stream))
        };
        first.chain(self.others.iter().flat_map(of))
    }
}

/// The instructions of one engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// Encoded instructions.
    pub words: Vec<Word>,
    /// Origins by ranges of words, ascending and disjoint.
    pub origins: Vec<OriginRange>,
    /// For each operand in memory of each instruction, in their order ([`crate::isa::Inst::operands`]), the buffer that
    /// it lies in, where one is known; empty if none is.
    pub buffers: Vec<Option<u32>>,
}

/// Where a range of words comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRange {
    /// First word.
    pub start: u32,
    /// One past the last word.
    pub end: u32,
    /// Shares in the cost; their weights count relative to their sum.
    pub shares: Vec<OriginShare>,
}

/// A share of an origin in a range of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginShare {
    /// Index into [`Program::origins`].
    pub origin: u32,
    /// Relative weight.
    pub weight: u64,
}

/// A part that the machine cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSegment {
    /// Opaque to this crate: what the host's executor takes.
    pub bytecode: Bytes,
    /// Names of the bindings it reads, in argument order.
    pub inputs: Vec<String>,
    /// Names of the bindings it writes, in result order.
    pub outputs: Vec<String>,
    /// Why it is not on the device.
    pub reason: String,
}
