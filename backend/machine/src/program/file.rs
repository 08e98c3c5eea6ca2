//! Reading and writing program files.
//!
//! Layout: a header of 64 bytes (magic, version, directory length, file length, SHA-256 of the directory; all
//! little-endian), the directory in protobuf, then sections aligned to [`ALIGN`] bytes, zero between them. The bytes
//! depend on the program alone. A file is not trusted: lengths are checked before anything is allocated, checksums
//! before anything is decoded, and [`super::Program::validate`] before anyone sees the program.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::*;
use crate::map::FileMap;

/// The generated directory types.
#[allow(missing_docs, clippy::all)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/kiln.program.rs"));
}

/// The first bytes of every program file.
pub const MAGIC: [u8; 8] = *b"KILNPROG";
/// The one version this crate reads and writes.
pub const VERSION: u32 = 3;
/// Alignment of sections.
pub const ALIGN: u64 = 64;
/// Bytes of the header.
const HEADER: usize = 64;
/// No directory is larger: a bound on what decoding may allocate.
const DIRECTORY_LIMIT: u64 = 64 << 20;

/// Writes a program file, through a temporary file beside it, so that no half-written one is left under its name.
///
/// # Errors
/// What [`Program::validate`] finds, or the system.
pub(super) fn write(program: &Program, path: &Path) -> Result<(), ProgramError> {
    let io =
        |e: std::io::Error| ProgramError::Io { path: path.display().to_string(), message: e.to_string() };
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let result = (|| {
        let mut out = std::io::BufWriter::new(std::fs::File::create(partial).map_err(io)?);
        write_to(program, &mut |bytes| out.write_all(bytes).map_err(io))?;
        out.flush().map_err(io)?;
        std::fs::rename(partial, path).map_err(io)
    })();
    if result.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(partial);
    }
    result
}

/// The file as bytes in memory.
///
/// # Errors
/// What [`Program::validate`] finds.
pub(super) fn to_bytes(program: &Program) -> Result<Vec<u8>, ProgramError> {
    let mut all = Vec::new();
    write_to(program, &mut |bytes| {
        all.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(all)
}

/// Collects sections; their offsets are from the end of the directory until its length is known.
#[derive(Default)]
struct Sections {
    bodies: Vec<Bytes>,
    end: u64,
}

impl Sections {
    fn add(&mut self, body: Bytes) -> pb::Section {
        let offset = self.end.next_multiple_of(ALIGN);
        let length = body.len() as u64;
        let sha256 = Sha256::digest(&body).to_vec();
        self.end = offset + length;
        self.bodies.push(body);
        pb::Section { offset, length, sha256 }
    }
}

fn write_to(
    program: &Program,
    out: &mut dyn FnMut(&[u8]) -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    program.validate()?;
    let mut sections = Sections::default();
    let directory = encode(program, &mut sections).encode_to_vec();
    let directory_length = directory.len() as u64;
    if directory_length > DIRECTORY_LIMIT {
        return Err(invalid(format!(
            "the directory takes {directory_length} bytes, more than {DIRECTORY_LIMIT}"
        )));
    }
    let base = (HEADER as u64 + directory_length).next_multiple_of(ALIGN);
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(0u32.to_le_bytes());
    header.extend(directory_length.to_le_bytes());
    header.extend((base + sections.end).to_le_bytes());
    header.extend(Sha256::digest(&directory));
    out(&header)?;
    out(&directory)?;
    let mut at = HEADER as u64 + directory_length;
    let pad_to = |at: &mut u64, to: u64, out: &mut dyn FnMut(&[u8]) -> Result<(), ProgramError>| {
        let result = out(&[0; ALIGN as usize][..(to - *at) as usize]);
        *at = to;
        result
    };
    pad_to(&mut at, base, out)?;
    for body in &sections.bodies {
        let aligned = at.next_multiple_of(ALIGN);
        pad_to(&mut at, aligned, out)?;
        out(body)?;
        at += body.len() as u64;
    }
    Ok(())
}

fn encode(p: &Program, sections: &mut Sections) -> pb::Directory {
    let binding = |b: &Binding| pb::Binding {
        name: b.name.clone(),
        role: b.role as u32,
        dtype: b.dtype.name().to_owned(),
        host_dtype: b.host_dtype.name().to_owned(),
        shape: b.shape.iter().map(|n| *n as u64).collect(),
        address: b.address,
        range: b.range.map(|(low, high)| pb::Range { low, high }),
        alias_of: b.alias_of.clone(),
    };
    let scalar = |s: &RuntimeScalar| pb::Scalar {
        name: s.name.clone(),
        range: Some(pb::Range { low: s.range.0.into(), high: s.range.1.into() }),
    };
    let file = |f: &FileRef| pb::File {
        path: f.path.clone(),
        size: f.size,
        digest: f.digest.to_vec(),
        seal: f.seal.map_or_else(Vec::new, |s| s.to_vec()),
    };
    let extent = |e: &ImageExtent| pb::Extent {
        address: e.address,
        pitch: e.pitch,
        rows: e.rows,
        row_bytes: e.row_bytes,
        source: match e.source {
            ImageSource::Zero => None,
            ImageSource::File { file: index, offset, pitch } => {
                Some(pb::extent::Source::File(pb::Source { index, offset, pitch }))
            }
            ImageSource::Blob { blob: index, offset, pitch } => {
                Some(pb::extent::Source::Blob(pb::Source { index, offset, pitch }))
            }
        },
    };
    pb::Directory {
        target_name: p.target_name.clone(),
        target_digest: p.target_digest.to_vec(),
        dram_bytes: p.dram_bytes,
        bindings: p.bindings.iter().map(binding).collect(),
        scalars: p.scalars.iter().map(scalar).collect(),
        files: p.files.iter().map(file).collect(),
        image: p.image.iter().map(extent).collect(),
        origins: p.origins.clone(),
        segments: p.segments.iter().map(|s| encode_segment(s, sections)).collect(),
        // Last, so that the program proper stands before the large part.
        blobs: p.blobs.iter().map(|b| sections.add(b.clone())).collect(),
    }
}

fn encode_segment(segment: &Segment, sections: &mut Sections) -> pb::Segment {
    let kind = match segment {
        Segment::Device(d) => pb::segment::Kind::Device(pb::Device {
            streams: d
                .all_streams()
                .map(|(core, engine, stream)| encode_stream(core, engine, stream, sections))
                .collect(),
            buffers: d.buffers.iter().map(encode_buffer).collect(),
        }),
        Segment::Host(h) => pb::segment::Kind::Host(pb::Host {
            bytecode: Some(sections.add(h.bytecode.clone())),
            inputs: h.inputs.clone(),
            outputs: h.outputs.clone(),
            reason: h.reason.clone(),
        }),
    };
    pb::Segment { kind: Some(kind) }
}

fn encode_stream(core: u8, engine: Engine, stream: &Stream, sections: &mut Sections) -> pb::Stream {
    let words: Vec<u8> = stream.words.iter().flatten().flat_map(|limb| limb.to_le_bytes()).collect();
    let range = |r: &OriginRange| pb::OriginRange {
        start: r.start,
        end: r.end,
        origin: r.shares.iter().map(|s| s.origin).collect(),
        weight: r.shares.iter().map(|s| s.weight).collect(),
    };
    pb::Stream {
        engine: engine.to_string(),
        words: Some(sections.add(words.into())),
        origins: stream.origins.iter().map(range).collect(),
        core: core.into(),
        buffers: differences(&stream.buffers),
    }
}

fn encode_buffer(b: &Buffer) -> pb::Buffer {
    pb::Buffer {
        name: b.name.clone(),
        origin: b.origin.map_or(0, |origin| origin + 1),
        memory: b.memory as u32,
        first_part: b.parts.0,
        end_part: b.parts.1,
        offset: b.offset,
        bytes: b.bytes,
        slots: b.slots,
        pitch: b.pitch,
    }
}

/// Neighbouring operands lie in neighbouring buffers, so that most differences take one byte.
fn differences(buffers: &[Option<u32>]) -> Vec<i32> {
    let mut before = 0;
    let difference = |buffer: &Option<u32>| {
        let now = buffer.map_or(0, |number| number as i32 + 1);
        now.wrapping_sub(std::mem::replace(&mut before, now))
    };
    buffers.iter().map(difference).collect()
}

/// Reads a program file through a mapping.
///
/// # Errors
/// See [`ProgramError`].
pub(super) fn read(path: &Path) -> Result<Program, ProgramError> {
    let name = || path.display().to_string();
    let map = FileMap::open(path).map_err(|e| ProgramError::Io { path: name(), message: e.to_string() })?;
    from_bytes(&map.bytes()).map_err(|cause| ProgramError::InFile { path: name(), cause: Box::new(cause) })
}

/// Reads a program file from memory; blobs stay slices of it.
///
/// # Errors
/// See [`ProgramError`].
pub(super) fn from_bytes(file: &Bytes) -> Result<Program, ProgramError> {
    let truncated = |needed: u64| ProgramError::Truncated { needed, found: file.len() as u64 };
    if file.len() < 8 || file[..8] != MAGIC {
        return Err(ProgramError::NotAProgram);
    }
    if file.len() < HEADER {
        return Err(truncated(HEADER as u64));
    }
    let u64_at = |at: usize| {
        let mut raw = [0; 8];
        raw.copy_from_slice(&file[at..at + 8]);
        u64::from_le_bytes(raw)
    };
    let version = u64_at(8) as u32;
    if version != VERSION {
        return Err(ProgramError::Version { found: version, known: VERSION });
    }
    let (directory_length, file_length) = (u64_at(16), u64_at(24));
    if directory_length > DIRECTORY_LIMIT {
        return Err(ProgramError::Corrupt { part: "directory length".into() });
    }
    if (file.len() as u64) < file_length || (file.len() as u64) < HEADER as u64 + directory_length {
        return Err(truncated(file_length.max(HEADER as u64 + directory_length)));
    }
    if file.len() as u64 > file_length || u64_at(8) >> 32 != 0 {
        return Err(ProgramError::Corrupt { part: "header".into() });
    }
    let directory = file.slice(HEADER..HEADER + directory_length as usize);
    if Sha256::digest(&directory)[..] != file[32..64] {
        return Err(ProgramError::Corrupt { part: "directory".into() });
    }
    let directory =
        pb::Directory::decode(directory).map_err(|e| invalid(format!("the directory is malformed: {e}")))?;
    let base = (HEADER as u64 + directory_length).next_multiple_of(ALIGN);
    let program = decode(directory, &Reader { file, base })?;
    program.validate()?;
    Ok(program)
}

/// Takes sections out of the file.
struct Reader<'a> {
    file: &'a Bytes,
    base: u64,
}

impl Reader<'_> {
    fn section(&self, section: &pb::Section, what: &str) -> Result<Bytes, ProgramError> {
        let range = section.offset.checked_add(self.base).and_then(|start| {
            let end = start.checked_add(section.length)?;
            (end <= self.file.len() as u64 && start.is_multiple_of(ALIGN))
                .then_some(start as usize..end as usize)
        });
        let Some(range) = range else {
            return Err(invalid(format!("{what} lies outside the file or is not aligned")));
        };
        let body = self.file.slice(range);
        if Sha256::digest(&body)[..] != section.sha256[..] {
            return Err(ProgramError::Corrupt { part: what.to_owned() });
        }
        Ok(body)
    }
}

fn digest(bytes: &[u8], what: &str) -> Result<[u8; 32], ProgramError> {
    bytes.try_into().map_err(|_| invalid(format!("the digest of {what} has {} bytes, not 32", bytes.len())))
}

fn decode(d: pb::Directory, reader: &Reader<'_>) -> Result<Program, ProgramError> {
    let each = |(i, section): (usize, &pb::Section)| reader.section(section, &format!("blob {i}"));
    Ok(Program {
        target_digest: digest(&d.target_digest, "the target")?,
        target_name: d.target_name,
        dram_bytes: d.dram_bytes,
        bindings: d.bindings.into_iter().map(decode_binding).collect::<Result<_, _>>()?,
        scalars: d.scalars.into_iter().map(decode_scalar).collect::<Result<_, _>>()?,
        files: d.files.into_iter().map(decode_file).collect::<Result<_, _>>()?,
        blobs: d.blobs.iter().enumerate().map(each).collect::<Result<_, _>>()?,
        image: d.image.into_iter().map(decode_extent).collect(),
        origins: d.origins,
        segments: d.segments.into_iter().map(|s| decode_segment(s, reader)).collect::<Result<_, _>>()?,
    })
}

fn decode_binding(b: pb::Binding) -> Result<Binding, ProgramError> {
    let dtype = |name: &str| {
        DType::from_name(name).ok_or_else(|| invalid(format!("binding `{}` has no dtype `{name}`", b.name)))
    };
    let role = match b.role {
        0 => BindingRole::Input,
        1 => BindingRole::Output,
        2 => BindingRole::Internal,
        other => return Err(invalid(format!("binding `{}` has role {other}", b.name))),
    };
    let extent =
        |n: &u64| usize::try_from(*n).map_err(|_| invalid(format!("binding `{}` is too large", b.name)));
    Ok(Binding {
        role,
        dtype: dtype(&b.dtype)?,
        host_dtype: dtype(&b.host_dtype)?,
        shape: b.shape.iter().map(extent).collect::<Result<_, _>>()?,
        address: b.address,
        range: b.range.map(|r| (r.low, r.high)),
        name: b.name,
        alias_of: b.alias_of,
    })
}

fn decode_scalar(s: pb::Scalar) -> Result<RuntimeScalar, ProgramError> {
    let range = s.range.unwrap_or_default();
    match (i32::try_from(range.low), i32::try_from(range.high)) {
        (Ok(low), Ok(high)) => Ok(RuntimeScalar { name: s.name, range: (low, high) }),
        _ => Err(invalid(format!("the range of scalar `{}` exceeds 32 bits", s.name))),
    }
}

fn decode_file(f: pb::File) -> Result<FileRef, ProgramError> {
    let seal = if f.seal.is_empty() { None } else { Some(digest(&f.seal, &f.path)?) };
    Ok(FileRef { digest: digest(&f.digest, &f.path)?, path: f.path, size: f.size, seal })
}

fn decode_extent(e: pb::Extent) -> ImageExtent {
    let source = match e.source {
        None => ImageSource::Zero,
        Some(pb::extent::Source::File(s)) => {
            ImageSource::File { file: s.index, offset: s.offset, pitch: s.pitch }
        }
        Some(pb::extent::Source::Blob(s)) => {
            ImageSource::Blob { blob: s.index, offset: s.offset, pitch: s.pitch }
        }
    };
    ImageExtent { address: e.address, pitch: e.pitch, rows: e.rows, row_bytes: e.row_bytes, source }
}

fn decode_segment(segment: pb::Segment, reader: &Reader<'_>) -> Result<Segment, ProgramError> {
    match segment.kind {
        Some(pb::segment::Kind::Device(d)) => {
            let mut device = DeviceSegment {
                buffers: d.buffers.into_iter().map(decode_buffer).collect::<Result<_, _>>()?,
                ..DeviceSegment::default()
            };
            for s in d.streams {
                let engine =
                    Engine::by_name(&s.engine).ok_or_else(|| invalid(format!("no stream `{}`", s.engine)))?;
                let core = u8::try_from(s.core).map_err(|_| invalid(format!("no core {}", s.core)))?;
                let streams =
                    if core == 0 { &mut device.streams } else { device.others.entry(core).or_default() };
                if streams.insert(engine, decode_stream(s, reader)?).is_some() {
                    return Err(invalid(format!("stream {engine} of core {core} stands twice")));
                }
            }
            Ok(Segment::Device(device))
        }
        Some(pb::segment::Kind::Host(h)) => Ok(Segment::Host(HostSegment {
            bytecode: reader.section(&h.bytecode.unwrap_or_default(), "host bytecode")?,
            inputs: h.inputs,
            outputs: h.outputs,
            reason: h.reason,
        })),
        None => Err(invalid("a segment is neither device nor host")),
    }
}

fn decode_buffer(b: pb::Buffer) -> Result<Buffer, ProgramError> {
    let memory = Memory::ALL.get(b.memory as usize);
    Ok(Buffer {
        origin: b.origin.checked_sub(1),
        memory: *memory.ok_or_else(|| invalid(format!("buffer `{}` has memory {}", b.name, b.memory)))?,
        parts: (b.first_part, b.end_part),
        offset: b.offset,
        bytes: b.bytes,
        slots: b.slots,
        pitch: b.pitch,
        name: b.name,
    })
}

fn decode_stream(s: pb::Stream, reader: &Reader<'_>) -> Result<Stream, ProgramError> {
    let body = reader.section(&s.words.unwrap_or_default(), &format!("stream {}", s.engine))?;
    if !body.len().is_multiple_of(32) {
        return Err(invalid(format!("stream {} has {} bytes, not whole words", s.engine, body.len())));
    }
    let limb = |raw: &[u8]| raw.iter().rev().fold(0, |value, b| value << 8 | u64::from(*b));
    let words =
        body.chunks_exact(32).map(|w| [limb(&w[..8]), limb(&w[8..16]), limb(&w[16..24]), limb(&w[24..])]);
    let range = |r: pb::OriginRange| {
        if r.origin.len() != r.weight.len() {
            return Err(invalid("origins and weights of a range differ in number"));
        }
        let shares =
            r.origin.iter().zip(&r.weight).map(|(o, w)| OriginShare { origin: *o, weight: *w }).collect();
        Ok(OriginRange { start: r.start, end: r.end, shares })
    };
    let mut before = 0i32;
    let mut number = |difference: &i32| {
        before = before.wrapping_add(*difference);
        (before != 0).then(|| (before as u32).wrapping_sub(1))
    };
    Ok(Stream {
        buffers: s.buffers.iter().map(&mut number).collect(),
        words: words.collect(),
        origins: s.origins.into_iter().map(range).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asm::assemble;
    use crate::random::Rng;

    fn sample() -> Program {
        let digest = "11".repeat(32);
        let text = format!(
            "
.target core
.input x f32 [128,64] @0x0 range=-4..9
.output y f32 [128,64] @0x8000 host=f64
.scalar past 0..15
.file sub/w.bin size=4096 digest={digest} seal={digest}
.data @0x10000 f32 1, 2, 3
.image @0x10100 rows=3 row=16 pitch=32 file=0 offset=64 step=128
.image @0x11000 row=64 zero
.origin \"relu|Relu\"
.buffer x dram @0x0 bytes=0x8000
.buffer x.1 spm parts=0..128 @0x0 bytes=256 slots=2 pitch=512 origin=0
.engine q0
    apset ap0, f32 @0x0 [128,1,1,64] <64,0,0,1>
    dld spm[0:0x0].f32, ap0 in=[1,0]
    halt
.engine act
.from 0:3
    act relu, spm[0:0x0].f32, spm[0:0x0].f32, 128:1x1x64 in=[-,1]
.from
    halt
.segment host inputs=[x] outputs=[y] reason=\"strings\" bytecode=c0ffee
"
        );
        assemble(&text, None).unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        let program = sample();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.kiln");
        program.write(&path).unwrap();
        assert_eq!(Program::read(&path).unwrap(), program);
        assert_eq!(
            std::fs::read(&path).unwrap(),
            program.to_bytes().unwrap(),
            "the bytes depend on the program alone"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no partial file is left");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = Bytes::from(sample().to_bytes().unwrap());
        for length in 0..bytes.len() {
            let error = Program::from_bytes(&bytes.slice(..length)).unwrap_err();
            assert!(
                matches!(error, ProgramError::Truncated { .. } | ProgramError::NotAProgram),
                "{length}: {error}"
            );
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Program::from_bytes(&longer.into()).is_err());
    }

    #[test]
    fn every_flipped_bit_is_an_error_or_padding() {
        let program = sample();
        let bytes = program.to_bytes().unwrap();
        let mut rng = Rng::new(5);
        let mut refused = 0;
        for _ in 0..3000 {
            let mut changed = bytes.clone();
            let bit = rng.below(bytes.len() as u64 * 8) as usize;
            changed[bit / 8] ^= 1 << (bit % 8);
            match Program::from_bytes(&changed.into()) {
                Err(_) => refused += 1,
                Ok(read) => assert_eq!(read, program, "a flipped padding bit changes nothing"),
            }
        }
        assert!(refused > 2000);
    }

    #[test]
    fn a_correct_checksum_does_not_help_a_bad_directory() {
        let bytes = sample().to_bytes().unwrap();
        let length = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
        let mut rng = Rng::new(6);
        for _ in 0..3000 {
            let mut changed = bytes.clone();
            for _ in 0..=rng.below(3) {
                changed[64 + rng.below(length as u64) as usize] = rng.next_u64() as u8;
            }
            let digest = Sha256::digest(&changed[64..64 + length]);
            changed[32..64].copy_from_slice(&digest);
            // Either an error, or a program that could have been written.
            if let Ok(program) = Program::from_bytes(&changed.into()) {
                program.to_bytes().unwrap();
            }
        }
    }

    #[test]
    fn wrong_version_and_other_files() {
        let mut bytes = sample().to_bytes().unwrap();
        bytes[8] = 9;
        let error = Program::from_bytes(&bytes.into()).unwrap_err();
        assert_eq!(error.to_string(), "this program file has format version 9; this kiln reads version 3");
        assert!(matches!(
            Program::from_bytes(&Bytes::from_static(b"\x08\x01onnx stuff")),
            Err(ProgramError::NotAProgram)
        ));
    }
}
