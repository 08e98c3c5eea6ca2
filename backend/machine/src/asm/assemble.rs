//! Text to program: one pass that places instructions and collects labels, one that reads operands.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{AsmError, AsmErrors};
use crate::isa::{Cursor, CvtMode, Dt, Engine, Field, Inst, ROWS, SyntaxError, Word};
use crate::numerics::convert;
use crate::program::*;
use crate::target::Target;
use crate::tensor::DType;

/// Assembles a whole program. `target`, where given, is the target whatever the text names.
///
/// # Errors
/// Everything wrong in the text, with lines and columns.
pub fn assemble(text: &str, target: Option<&Target>) -> Result<Program, AsmErrors> {
    let mut a = Assembler::default();
    for (index, line) in text.lines().enumerate() {
        if let Err(e) = a.statement(index + 1, strip_comment(line)) {
            a.errors.push(AsmError { line: index + 1, column: e.column, message: e.message });
        }
    }
    a.finish(target)
}

/// The line without its comment; quotes protect comment characters.
fn strip_comment(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let bytes = line.as_bytes();
    for (i, b) in bytes.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' | b'#' if !quoted => return &line[..i],
            b'/' if !quoted && bytes.get(i + 1) == Some(&b'/') => return &line[..i],
            _ => {}
        }
    }
    line
}

/// A line of a stream, placed but not yet read.
struct Pending<'t> {
    line: usize,
    text: Cursor<'t>,
    mnemonic: &'t str,
    at: u32,
}

#[derive(Default)]
struct StreamDraft<'t> {
    labels: BTreeMap<String, u32>,
    pending: Vec<Pending<'t>>,
    origins: Vec<OriginRange>,
    words: u32,
}

/// The streams of a device segment, still text, and its buffers.
#[derive(Default)]
struct DeviceDraft<'t> {
    streams: BTreeMap<(u8, Engine), StreamDraft<'t>>,
    buffers: Vec<Buffer>,
}

/// A segment, its streams still text.
enum SegmentDraft<'t> {
    Device(DeviceDraft<'t>),
    Host(HostSegment),
}

#[derive(Default)]
struct Assembler<'t> {
    program: Program,
    named_target: bool,
    dram_given: bool,
    segments: Vec<SegmentDraft<'t>>,
    blobs: Vec<Vec<u8>>,
    engine: Option<Engine>,
    core: u8,
    shares: Vec<OriginShare>,
    errors: Vec<AsmError>,
}

type Statement = Result<(), SyntaxError>;

impl<'t> Assembler<'t> {
    fn statement(&mut self, line: usize, text: &'t str) -> Statement {
        let mut c = Cursor::new(text, None);
        if c.at_end() {
            return Ok(());
        }
        if c.ahead(".") {
            return self.directive(&mut c);
        }
        let mut start = c.clone();
        let mut word = c.word();
        if c.eat(":") {
            let stream = self.stream(&start)?;
            let at = stream.words;
            if stream.labels.insert(word.to_owned(), at).is_some() {
                return Err(start.error(format!("label `{word}` stands twice in this stream")));
            }
            if c.at_end() {
                return Ok(());
            }
            start = c.clone();
            word = c.word();
        }
        self.place(line, word, start, c)
    }

    /// Reserves the words of an instruction.
    fn place(&mut self, line: usize, mnemonic: &'t str, start: Cursor<'t>, rest: Cursor<'t>) -> Statement {
        let Some(row) = ROWS.iter().find(|r| r.mnemonic == mnemonic) else {
            return Err(start.expected("an instruction"));
        };
        let engine = self.engine.ok_or_else(|| start.error("an instruction before any `.engine`"))?;
        if !engine.runs(row.class) {
            return Err(start.error(format!("`{mnemonic}` does not run on stream {engine}")));
        }
        let shares = self.shares.clone();
        let stream = self.stream(&start)?;
        let at = stream.words;
        stream.pending.push(Pending { line, text: rest, mnemonic, at });
        stream.advance(row.words, shares);
        Ok(())
    }

    fn stream(&mut self, c: &Cursor<'t>) -> Result<&mut StreamDraft<'t>, SyntaxError> {
        let engine = self.engine.ok_or_else(|| c.error("an instruction or label before any `.engine`"))?;
        let core = self.core;
        Ok(self.device(c)?.streams.entry((core, engine)).or_default())
    }

    /// The device segment under way; one begins if there is none.
    fn device(&mut self, c: &Cursor<'t>) -> Result<&mut DeviceDraft<'t>, SyntaxError> {
        if !matches!(self.segments.last(), Some(SegmentDraft::Device(_))) {
            self.segments.push(SegmentDraft::Device(DeviceDraft::default()));
        }
        match self.segments.last_mut() {
            Some(SegmentDraft::Device(device)) => Ok(device),
            _ => Err(c.error("no device segment")),
        }
    }

    fn buffer(&mut self, c: &mut Cursor<'t>) -> Statement {
        let name = c.name()?;
        let memory =
            c.choice("memory", |name| Memory::ALL.into_iter().find(|memory| memory.name() == name))?;
        let parts = if memory == Memory::Dram {
            (0, 1)
        } else {
            required(c, "parts")?;
            let (first, end) = range(c, 0, u32::MAX.into())?;
            (first as u32, end as u32)
        };
        c.expect("@")?;
        let offset = address(c)?;
        required(c, "bytes")?;
        let bytes = address(c)?;
        let (mut slots, mut pitch) = (1, 0);
        if option(c, "slots")? {
            slots = c.integer(1, u32::MAX.into())? as u32;
            required(c, "pitch")?;
            pitch = address(c)?;
        }
        let origin = if option(c, "origin")? { Some(c.integer(0, u32::MAX.into())? as u32) } else { None };
        let at = c.clone();
        let buffer = Buffer { name, origin, memory, parts, offset, bytes, slots, pitch };
        self.device(&at)?.buffers.push(buffer);
        Ok(())
    }

    fn directive(&mut self, c: &mut Cursor<'t>) -> Statement {
        let start = c.clone();
        match c.word() {
            ".target" => self.target(c)?,
            ".dram" => {
                self.program.dram_bytes = address(c)?;
                self.dram_given = true;
            }
            ".input" => self.binding(c, BindingRole::Input)?,
            ".output" => self.binding(c, BindingRole::Output)?,
            ".internal" => self.binding(c, BindingRole::Internal)?,
            ".scalar" => {
                let name = c.name()?;
                let (lo, hi) = range(c, i32::MIN.into(), i32::MAX.into())?;
                self.program.scalars.push(RuntimeScalar { name, range: (lo as i32, hi as i32) });
            }
            ".file" => self.file(c)?,
            ".blob" => {
                self.blobs.push(Vec::new());
                self.bytes(c)?;
            }
            ".bytes" => self.bytes(c)?,
            ".image" => self.image(c)?,
            ".data" => self.data(c)?,
            ".origin" => {
                let name = c.name()?;
                self.program.origins.push(name);
            }
            ".segment" => self.segment(c)?,
            ".buffer" => self.buffer(c)?,
            ".core" => (self.core, self.engine) = (c.integer(0, 255)? as u8, None),
            ".engine" => {
                let at = c.clone();
                let name = c.word();
                let engine = Engine::by_name(name).ok_or_else(|| at.error(format!("no stream `{name}`")))?;
                self.engine = Some(engine);
                self.shares.clear();
                self.stream(&at)?;
            }
            ".from" => {
                self.shares.clear();
                while !c.at_end() {
                    let origin = c.integer(0, u32::MAX.into())? as u32;
                    c.expect(":")?;
                    self.shares.push(OriginShare { origin, weight: c.integer(0, u64::MAX.into())? as u64 });
                }
            }
            ".word" => self.word(c)?,
            name => return Err(start.error(format!("no directive `{name}`"))),
        }
        finished(c)
    }

    fn target(&mut self, c: &mut Cursor<'t>) -> Statement {
        c.skip_blanks();
        let at = c.clone();
        let name = c.name()?;
        self.program.target_digest = match option(c, "digest")? {
            true => digest(c)?,
            false => Target::preset(&name)
                .map_err(|_| at.error(format!("no target `{name}`; give its digest")))?
                .digest(),
        };
        self.program.target_name = name;
        self.named_target = true;
        Ok(())
    }

    fn binding(&mut self, c: &mut Cursor<'t>, role: BindingRole) -> Statement {
        let name = c.name()?;
        let dtype = dtype(c)?;
        let mut shape = Vec::new();
        c.expect("[")?;
        while !c.eat("]") {
            if !shape.is_empty() {
                c.expect(",")?;
            }
            shape.push(c.integer(0, usize::MAX as i128)? as usize);
        }
        c.expect("@")?;
        let address = address(c)?;
        let host_dtype = if option(c, "host")? { self::dtype(c)? } else { dtype };
        let range = match option(c, "range")? {
            true => Some(range(c, i64::MIN.into(), i64::MAX.into())?),
            false => None,
        };
        let alias_of = if option(c, "alias")? { Some(c.name()?) } else { None };
        self.program.bindings.push(Binding {
            name,
            role,
            dtype,
            host_dtype,
            shape,
            address,
            range,
            alias_of,
        });
        Ok(())
    }

    fn file(&mut self, c: &mut Cursor<'t>) -> Statement {
        let path = c.name()?;
        required(c, "size")?;
        let size = address(c)?;
        required(c, "digest")?;
        let file_digest = digest(c)?;
        let seal = if option(c, "seal")? { Some(digest(c)?) } else { None };
        self.program.files.push(FileRef { path, size, digest: file_digest, seal });
        Ok(())
    }

    /// Appends hexadecimal bytes to the last blob.
    fn bytes(&mut self, c: &mut Cursor<'t>) -> Statement {
        while !c.at_end() {
            let raw = hex(c)?;
            let Some(blob) = self.blobs.last_mut() else {
                return Err(c.error("`.bytes` before any `.blob`"));
            };
            blob.extend(raw);
        }
        Ok(())
    }

    fn image(&mut self, c: &mut Cursor<'t>) -> Statement {
        c.expect("@")?;
        let start = address(c)?;
        let rows = if option(c, "rows")? { address(c)? } else { 1 };
        required(c, "row")?;
        let row_bytes = address(c)?;
        let pitch = if option(c, "pitch")? { address(c)? } else { row_bytes };
        let index = |c: &mut Cursor<'t>| c.integer(0, u32::MAX.into()).map(|i| i as u32);
        let source = if c.eat("zero") {
            ImageSource::Zero
        } else if option(c, "file")? {
            let file = index(c)?;
            let (offset, pitch) = source_steps(c, row_bytes)?;
            ImageSource::File { file, offset, pitch }
        } else {
            required(c, "blob")?;
            let blob = index(c)?;
            let (offset, pitch) = source_steps(c, row_bytes)?;
            ImageSource::Blob { blob, offset, pitch }
        };
        self.program.image.push(ImageExtent { address: start, pitch, rows, row_bytes, source });
        Ok(())
    }

    fn data(&mut self, c: &mut Cursor<'t>) -> Statement {
        c.expect("@")?;
        let start = address(c)?;
        let dt = Dt::parse(c)?;
        let Some(size) = dt.bytes() else { return Err(c.error("4-bit data must be written as a `.blob`")) };
        let mut raw = Vec::new();
        while !c.at_end() {
            if !raw.is_empty() {
                c.expect(",")?;
            }
            let bits = match dt.is_integer() {
                true => {
                    convert::from_i32(dt, CvtMode::Cast, c.integer(i32::MIN.into(), u32::MAX.into())? as i32)
                }
                false => convert::from_f32(dt, CvtMode::Cast, f32::from_bits(c.float_bits()?)),
            };
            raw.extend(&bits.to_le_bytes()[..size as usize]);
        }
        let (blob, row_bytes) = (self.blobs.len() as u32, raw.len() as u64);
        self.blobs.push(raw);
        let source = ImageSource::Blob { blob, offset: 0, pitch: row_bytes };
        self.program.image.push(ImageExtent { address: start, pitch: row_bytes, rows: 1, row_bytes, source });
        Ok(())
    }

    fn segment(&mut self, c: &mut Cursor<'t>) -> Statement {
        (self.engine, self.core) = (None, 0);
        if c.eat("device") {
            self.segments.push(SegmentDraft::Device(DeviceDraft::default()));
            return Ok(());
        }
        c.expect("host")?;
        required(c, "inputs")?;
        let inputs = names(c)?;
        required(c, "outputs")?;
        let outputs = names(c)?;
        required(c, "reason")?;
        let reason = c.name()?;
        required(c, "bytecode")?;
        let bytecode = Bytes::from(if c.at_end() { Vec::new() } else { hex(c)? });
        self.segments.push(SegmentDraft::Host(HostSegment { bytecode, inputs, outputs, reason }));
        Ok(())
    }

    /// A raw word: kept as text until the end, like an instruction.
    fn word(&mut self, c: &mut Cursor<'t>) -> Statement {
        c.skip_blanks();
        let start = c.clone();
        raw_word(c)?;
        let shares = self.shares.clone();
        let stream = self.stream(&start)?;
        let at = stream.words;
        stream.pending.push(Pending { line: 0, text: start, mnemonic: ".word", at });
        stream.advance(1, shares);
        Ok(())
    }

    fn finish(mut self, target: Option<&Target>) -> Result<Program, AsmErrors> {
        let mut errors = std::mem::take(&mut self.errors);
        let mut program = self.program;
        if let Some(target) = target {
            program.target_name = target.name.clone();
            program.target_digest = target.digest();
        } else if !self.named_target && errors.is_empty() {
            errors.push(AsmError { line: 1, column: 1, message: "no `.target`".into() });
        }
        program.blobs = self.blobs.into_iter().map(Bytes::from).collect();
        for draft in self.segments {
            program.segments.push(match draft {
                SegmentDraft::Host(host) => Segment::Host(host),
                SegmentDraft::Device(DeviceDraft { streams, buffers }) => {
                    let mut device = DeviceSegment { buffers, ..DeviceSegment::default() };
                    for ((core, engine), draft) in streams {
                        let of_core = match core {
                            0 => &mut device.streams,
                            _ => device.others.entry(core).or_default(),
                        };
                        of_core.insert(engine, draft.read(&mut errors));
                    }
                    Segment::Device(device)
                }
            });
        }
        if !self.dram_given {
            program.dram_bytes = program.reached_bytes();
        }
        errors.sort_by_key(|e| (e.line, e.column));
        if errors.is_empty() { Ok(program) } else { Err(AsmErrors { errors }) }
    }
}

impl StreamDraft<'_> {
    /// Reserves words for an instruction with these origins.
    fn advance(&mut self, words: u32, shares: Vec<OriginShare>) {
        let (start, end) = (self.words, self.words + words);
        self.words = end;
        if shares.is_empty() {
            return;
        }
        match self.origins.last_mut() {
            Some(last) if last.end == start && last.shares == shares => last.end = end,
            _ => self.origins.push(OriginRange { start, end, shares }),
        }
    }

    /// Reads the operands of every instruction, labels now known.
    fn read(self, errors: &mut Vec<AsmError>) -> Stream {
        let mut words: Vec<Word> = Vec::with_capacity(self.words as usize);
        let mut buffers = Vec::new();
        for Pending { line, text, mnemonic, at } in self.pending {
            let mut c = text.with_labels(&self.labels);
            let result = match mnemonic {
                ".word" => raw_word(&mut c).map(|word| words.push(word)),
                _ => read_instruction(mnemonic, &mut c, &mut words, &mut buffers),
            };
            if let Err(e) = result {
                errors.push(AsmError { line, column: e.column, message: e.message });
            }
            debug_assert!(words.len() >= at as usize || !errors.is_empty());
        }
        if buffers.iter().all(Option::is_none) {
            buffers.clear();
        }
        Stream { words, origins: self.origins, buffers }
    }
}

/// An instruction, and the buffers of its operands.
fn read_instruction(
    mnemonic: &str,
    c: &mut Cursor<'_>,
    words: &mut Vec<Word>,
    buffers: &mut Vec<Option<u32>>,
) -> Statement {
    let inst = Inst::parse_operands(mnemonic, c).unwrap_or_else(|| Err(c.expected("an instruction")))?;
    c.skip_blanks();
    let at = c.clone();
    let operands = inst.operands().len();
    if option(c, "in")? {
        let mut used = Vec::new();
        c.expect("[")?;
        while !c.eat("]") {
            if !used.is_empty() {
                c.expect(",")?;
            }
            used.push(if c.eat("-") { None } else { Some(c.integer(0, u32::MAX.into())? as u32) });
        }
        if used.len() != operands {
            let given = used.len();
            return Err(at.error(format!("buffers of {operands} operands are wanted, not of {given}")));
        }
        buffers.extend(used);
    } else {
        buffers.extend(std::iter::repeat_n(None, operands));
    }
    finished(c)?;
    inst.encode(words).map_err(|e| c.error(e.to_string()))
}

fn finished(c: &mut Cursor<'_>) -> Statement {
    if c.at_end() { Ok(()) } else { Err(c.error(format!("unexpected `{}`", c.remaining()))) }
}

fn address(c: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
    c.integer(0, u64::MAX.into()).map(|v| v as u64)
}

fn range(c: &mut Cursor<'_>, low: i128, high: i128) -> Result<(i64, i64), SyntaxError> {
    let lo = c.integer(low, high)? as i64;
    c.expect("..")?;
    Ok((lo, c.integer(low, high)? as i64))
}

/// Consumes `name=` if it comes next.
fn option(c: &mut Cursor<'_>, name: &str) -> Result<bool, SyntaxError> {
    let before = c.clone();
    if c.eat(name) && c.eat("=") {
        return Ok(true);
    }
    *c = before;
    Ok(false)
}

fn required(c: &mut Cursor<'_>, name: &str) -> Statement {
    if option(c, name)? { Ok(()) } else { Err(c.expected(&format!("`{name}=`"))) }
}

fn source_steps(c: &mut Cursor<'_>, row_bytes: u64) -> Result<(u64, u64), SyntaxError> {
    let offset = if option(c, "offset")? { address(c)? } else { 0 };
    let step = if option(c, "step")? { address(c)? } else { row_bytes };
    Ok((offset, step))
}

fn dtype(c: &mut Cursor<'_>) -> Result<DType, SyntaxError> {
    c.choice("dtype", DType::from_name)
}

fn names(c: &mut Cursor<'_>) -> Result<Vec<String>, SyntaxError> {
    let mut list = Vec::new();
    c.expect("[")?;
    while !c.eat("]") {
        if !list.is_empty() {
            c.expect(",")?;
        }
        list.push(c.name()?);
    }
    Ok(list)
}

/// An even number of hexadecimal digits.
fn hex(c: &mut Cursor<'_>) -> Result<Vec<u8>, SyntaxError> {
    c.skip_blanks();
    let start = c.clone();
    let digits = c.take(|ch| ch.is_ascii_hexdigit());
    let bytes = digits.as_bytes().chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).unwrap_or_default();
        if pair.len() == 2 { u8::from_str_radix(text, 16).ok() } else { None }
    });
    match bytes.collect::<Option<Vec<u8>>>() {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(start.expected("an even number of hexadecimal digits")),
    }
}

fn digest(c: &mut Cursor<'_>) -> Result<[u8; 32], SyntaxError> {
    let start = c.clone();
    hex(c)?.try_into().map_err(|_| start.expected("64 hexadecimal digits"))
}

fn raw_word(c: &mut Cursor<'_>) -> Result<Word, SyntaxError> {
    let bytes = digest(c)?;
    let mut word = [0; 4];
    for (i, limb) in word.iter_mut().enumerate() {
        let mut raw = [0; 8];
        raw.copy_from_slice(&bytes[24 - 8 * i..32 - 8 * i]);
        *limb = u64::from_be_bytes(raw);
    }
    Ok(word)
}
