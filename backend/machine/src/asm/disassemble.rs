//! Program to text that assembles to the same program.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use crate::isa::{Inst, Pc, Word};
use crate::program::*;

/// How blobs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobText {
    /// Every byte: the text assembles again.
    Whole,
    /// Only the sizes of those above this many bytes, as comments: for reading.
    Above(usize),
}

/// Writes a program as assembly text.
pub fn disassemble(program: &Program, blobs: BlobText) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_program(&mut text, program, blobs);
    text
}

/// Writes the instructions of one stream, with labels and origins.
pub fn disassemble_stream(stream: &Stream) -> String {
    let mut text = String::new();
    let _ = write_stream(&mut text, stream);
    text
}

fn write_program(out: &mut String, p: &Program, blobs: BlobText) -> fmt::Result {
    writeln!(out, ".target {} digest={}", Quoted(&p.target_name), Hex(&p.target_digest))?;
    writeln!(out, ".dram {:#x}", p.dram_bytes)?;
    for b in &p.bindings {
        write_binding(out, b)?;
    }
    for s in &p.scalars {
        writeln!(out, ".scalar {} {}..{}", Quoted(&s.name), s.range.0, s.range.1)?;
    }
    for f in &p.files {
        write!(out, ".file {} size={} digest={}", Quoted(&f.path), f.size, Hex(&f.digest))?;
        match &f.seal {
            Some(seal) => writeln!(out, " seal={}", Hex(seal))?,
            None => writeln!(out)?,
        }
    }
    for (i, blob) in p.blobs.iter().enumerate() {
        match blobs {
            BlobText::Above(limit) if blob.len() > limit => {
                writeln!(out, "; blob {i}: {} bytes", blob.len())?
            }
            _ => write_blob(out, blob)?,
        }
    }
    for extent in &p.image {
        write_extent(out, extent)?;
    }
    for origin in &p.origins {
        writeln!(out, ".origin {}", Quoted(origin))?;
    }
    for segment in &p.segments {
        match segment {
            Segment::Device(device) => {
                writeln!(out, ".segment device")?;
                device.buffers.iter().try_for_each(|buffer| write_buffer(out, buffer))?;
                let mut last = 0;
                for (core, engine, stream) in device.all_streams() {
                    if core != last {
                        writeln!(out, ".core {core}")?;
                        last = core;
                    }
                    writeln!(out, ".engine {engine}")?;
                    write_stream(out, stream)?;
                }
            }
            Segment::Host(h) => {
                let (inputs, outputs) = (Names(&h.inputs), Names(&h.outputs));
                let (reason, code) = (Quoted(&h.reason), Hex(&h.bytecode));
                writeln!(
                    out,
                    ".segment host inputs={inputs} outputs={outputs} reason={reason} bytecode={code}"
                )?;
            }
        }
    }
    Ok(())
}

fn write_binding(out: &mut String, b: &Binding) -> fmt::Result {
    let role = match b.role {
        BindingRole::Input => "input",
        BindingRole::Output => "output",
        BindingRole::Internal => "internal",
    };
    let shape: Vec<String> = b.shape.iter().map(usize::to_string).collect();
    write!(out, ".{role} {} {} [{}] @{:#x}", Quoted(&b.name), b.dtype, shape.join(","), b.address)?;
    if b.host_dtype != b.dtype {
        write!(out, " host={}", b.host_dtype)?;
    }
    if let Some((lo, hi)) = b.range {
        write!(out, " range={lo}..{hi}")?;
    }
    if let Some(alias) = &b.alias_of {
        write!(out, " alias={}", Quoted(alias))?;
    }
    writeln!(out)
}

fn write_blob(out: &mut String, blob: &[u8]) -> fmt::Result {
    let mut lines = blob.chunks(32);
    match lines.next() {
        Some(first) => writeln!(out, ".blob {}", Hex(first))?,
        None => writeln!(out, ".blob")?,
    }
    lines.try_for_each(|line| writeln!(out, ".bytes {}", Hex(line)))
}

fn write_extent(out: &mut String, e: &ImageExtent) -> fmt::Result {
    write!(out, ".image @{:#x} rows={} row={} pitch={}", e.address, e.rows, e.row_bytes, e.pitch)?;
    match &e.source {
        ImageSource::Zero => writeln!(out, " zero"),
        ImageSource::File { file, offset, pitch } => {
            writeln!(out, " file={file} offset={offset} step={pitch}")
        }
        ImageSource::Blob { blob, offset, pitch } => {
            writeln!(out, " blob={blob} offset={offset} step={pitch}")
        }
    }
}

fn write_buffer(out: &mut String, b: &Buffer) -> fmt::Result {
    write!(out, ".buffer {} {}", Quoted(&b.name), b.memory.name())?;
    if b.memory != Memory::Dram {
        write!(out, " parts={}..{}", b.parts.0, b.parts.1)?;
    }
    write!(out, " @{:#x} bytes={}", b.offset, b.bytes)?;
    if (b.slots, b.pitch) != (1, 0) {
        write!(out, " slots={} pitch={}", b.slots, b.pitch)?;
    }
    match b.origin {
        Some(origin) => writeln!(out, " origin={origin}"),
        None => writeln!(out),
    }
}

/// A decoded stream: word index, and the instruction or the word that is none.
fn decode_stream(words: &[Word]) -> Vec<(u32, Result<Inst, Word>)> {
    let (mut list, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let (item, used) = match Inst::decode(&words[at..]) {
            Ok((inst, used)) => (Ok(inst), used),
            Err(_) => (Err(words[at]), 1),
        };
        list.push((at as u32, item));
        at += used;
    }
    list
}

fn jump_target(inst: &Inst) -> Option<Pc> {
    match inst {
        Inst::Br { to, .. } => Some(*to),
        Inst::Loop { end, .. } => Some(*end),
        _ => None,
    }
}

fn write_stream(out: &mut String, stream: &Stream) -> fmt::Result {
    let items = decode_stream(&stream.words);
    let starts: BTreeSet<u32> = items.iter().map(|(at, _)| *at).collect();
    let jumps = items.iter().filter_map(|(_, i)| i.as_ref().ok().and_then(jump_target));
    let labels: BTreeSet<u32> = jumps.map(|pc| pc.0).filter(|pc| starts.contains(pc)).collect();
    let mut current: &[OriginShare] = &[];
    let mut buffers = stream.buffers.iter();
    for (at, item) in &items {
        let shares =
            stream.origins.iter().find(|r| (r.start..r.end).contains(at)).map_or(&[][..], |r| &r.shares);
        if shares != current {
            let list: String = shares.iter().map(|s| format!(" {}:{}", s.origin, s.weight)).collect();
            writeln!(out, ".from{list}")?;
            current = shares;
        }
        if labels.contains(at) {
            writeln!(out, "L{at}:")?;
        }
        match item {
            Ok(inst) => {
                match jump_target(inst).filter(|pc| labels.contains(&pc.0)) {
                    Some(Pc(to)) => {
                        write!(out, "    {}", inst.to_string().replace(&format!("@{to}"), &format!("L{to}")))?
                    }
                    None => write!(out, "    {inst}")?,
                }
                let number =
                    |buffer: &Option<u32>| buffer.map_or("-".to_owned(), |number| number.to_string());
                let used: Vec<String> =
                    inst.operands().iter().filter_map(|_| buffers.next().map(number)).collect();
                match used.iter().any(|buffer| buffer != "-") {
                    true => writeln!(out, " in=[{}]", used.join(","))?,
                    false => writeln!(out)?,
                }
            }
            Err([a, b, c, d]) => writeln!(out, "    .word {d:016x}{c:016x}{b:016x}{a:016x}")?,
        }
    }
    Ok(())
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A name in quotes: `"` and `\` escaped, control characters as `\u{…}`.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => {
                    write!(f, "\\u{{{:x}}}", c as u32)?
                }
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|n| Quoted(n).to_string()).collect();
        write!(f, "[{}]", names.join(","))
    }
}
