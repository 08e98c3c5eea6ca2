//! What every program satisfies, whoever made it: checked before writing and after reading.

use std::collections::BTreeSet;

use super::*;
use crate::isa::{Csr, DRAM_ADDRESS_BITS, Inst, OFFSET_BITS};
use crate::target::Target;

/// Streams are at most as long as a branch can reach.
const STREAM_LIMIT: usize = 1 << 24;
/// As many partitions as a view can name.
const MOST_PARTITIONS: u32 = 256;

impl Program {
    /// Checks that the program is consistent in itself: names, indices, bounds of memory and files, instructions.
    ///
    /// # Errors
    /// The first inconsistency, as [`ProgramError::Invalid`].
    pub fn validate(&self) -> Result<(), ProgramError> {
        if self.dram_bytes > 1 << DRAM_ADDRESS_BITS {
            return Err(invalid(format!("{} bytes of DRAM exceed 48-bit addresses", self.dram_bytes)));
        }
        self.validate_bindings()?;
        if self.scalars.len() > 240 {
            return Err(invalid(format!("{} runtime scalars; there are 240", self.scalars.len())));
        }
        if let Some(s) = self.scalars.iter().find(|s| s.range.0 > s.range.1) {
            return Err(invalid(format!("the range of scalar `{}` is empty", s.name)));
        }
        for file in &self.files {
            file.check_path()?;
        }
        for (i, extent) in self.image.iter().enumerate() {
            self.validate_extent(extent).map_err(|what| invalid(format!("image extent {i}: {what}")))?;
        }
        for segment in &self.segments {
            match segment {
                Segment::Device(device) => {
                    for buffer in &device.buffers {
                        self.validate_buffer(buffer)
                            .map_err(|what| invalid(format!("buffer `{}`: {what}", buffer.name)))?;
                    }
                    for (core, engine, stream) in device.all_streams() {
                        let name =
                            if core == 0 { engine.to_string() } else { format!("{engine} of core {core}") };
                        self.validate_stream(engine, stream, &device.buffers)
                            .map_err(|what| invalid(format!("stream {name}: {what}")))?;
                    }
                }
                Segment::Host(host) => {
                    for name in host.inputs.iter().chain(&host.outputs) {
                        if self.binding(name).is_none() {
                            return Err(invalid(format!("a host segment names no binding `{name}`")));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn validate_bindings(&self) -> Result<(), ProgramError> {
        let mut seen = BTreeSet::new();
        for b in &self.bindings {
            let fail = |what: String| Err(invalid(format!("binding `{}`: {what}", b.name)));
            // An input and an output may share a name (an identity); otherwise names are unique in their role.
            if !seen.insert((b.role, &b.name)) {
                return fail("the name stands twice".into());
            }
            let bytes = b.dtype.byte_count(&b.shape).map(|n| n as u64);
            match bytes.and_then(|n| b.address.checked_add(n)) {
                Some(end) if end <= self.dram_bytes => {}
                _ => return fail(format!("it does not lie within {} bytes of DRAM", self.dram_bytes)),
            }
            if b.range.is_some_and(|(low, high)| low > high) {
                return fail("its range is empty".into());
            }
            if b.host_dtype.byte_count(&b.shape).is_none() {
                return fail("it is too large".into());
            }
            if let Some(alias) = &b.alias_of {
                match self.bindings.iter().find(|other| other.name == *alias && !std::ptr::eq(*other, b)) {
                    Some(other) if other.address == b.address => {}
                    Some(_) => return fail(format!("its alias `{alias}` has another address")),
                    None => return fail(format!("its alias `{alias}` does not exist")),
                }
            }
        }
        Ok(())
    }

    fn validate_extent(&self, e: &ImageExtent) -> Result<(), String> {
        if e.rows > 1 && e.pitch < e.row_bytes {
            return Err(format!("rows of {} bytes overlap at a pitch of {}", e.row_bytes, e.pitch));
        }
        let end = |offset: u64, pitch: u64| {
            if e.rows == 0 || e.row_bytes == 0 {
                return Some(offset);
            }
            (e.rows - 1).checked_mul(pitch)?.checked_add(e.row_bytes)?.checked_add(offset)
        };
        if end(e.address, e.pitch).is_none_or(|end| end > self.dram_bytes) {
            return Err(format!("it does not lie within {} bytes of DRAM", self.dram_bytes));
        }
        let (size, offset, pitch) = match e.source {
            ImageSource::Zero => return Ok(()),
            ImageSource::File { file, offset, pitch } => {
                (self.files.get(file as usize).map(|f| f.size), offset, pitch)
            }
            ImageSource::Blob { blob, offset, pitch } => {
                (self.blobs.get(blob as usize).map(|b| b.len() as u64), offset, pitch)
            }
        };
        let Some(size) = size else { return Err("its source does not exist".into()) };
        match end(offset, pitch) {
            Some(end) if end <= size => Ok(()),
            _ => Err(format!("its source does not lie within {size} bytes")),
        }
    }

    fn validate_buffer(&self, buffer: &Buffer) -> Result<(), String> {
        let Buffer { memory, parts, bytes, slots, pitch, .. } = *buffer;
        if slots == 0 || bytes == 0 || (slots > 1 && pitch < bytes) {
            return Err(format!("{slots} slots of {bytes} bytes at a pitch of {pitch}"));
        }
        let (partitions, size) = match memory {
            Memory::Dram => (1, self.dram_bytes),
            Memory::Spm | Memory::Acc => (MOST_PARTITIONS, 1 << OFFSET_BITS),
        };
        if parts.0 >= parts.1 || parts.1 > partitions {
            return Err(format!("there are no partitions {}..{}", parts.0, parts.1));
        }
        if buffer.hull().1 > size {
            return Err(format!("it does not lie within {size} bytes"));
        }
        match buffer.origin {
            Some(origin) if origin as usize >= self.origins.len() => {
                Err(format!("origin {origin} does not exist"))
            }
            _ => Ok(()),
        }
    }

    fn validate_stream(&self, engine: Engine, stream: &Stream, buffers: &[Buffer]) -> Result<(), String> {
        if stream.words.len() > STREAM_LIMIT {
            return Err(format!("{} words; branches reach {STREAM_LIMIT}", stream.words.len()));
        }
        let mut at = 0;
        let mut meant = stream.buffers.iter();
        while at < stream.words.len() {
            let (inst, used) = Inst::decode(&stream.words[at..]).map_err(|e| format!("word {at}: {e}"))?;
            if !engine.runs(inst.class()) {
                return Err(format!("word {at}: `{}` does not run here", inst.mnemonic()));
            }
            if let Inst::ReadCsr { which: Csr::Scalar(n), .. } = inst
                && usize::from(n) >= self.scalars.len()
            {
                return Err(format!("word {at}: scalar {n} is not declared"));
            }
            // The instructions' operands and their buffers go side by side.
            for operand in inst.operands().iter().filter(|_| !stream.buffers.is_empty()) {
                let number = meant.next().ok_or("buffers of fewer operands than there are")?;
                let buffer = number.map(|number| buffers.get(number as usize).ok_or(number)).transpose();
                let buffer = buffer.map_err(|number| format!("word {at}: buffer {number} does not exist"))?;
                if buffer.is_some_and(|buffer| buffer.memory != Memory::of(operand)) {
                    return Err(format!("word {at}: the buffer of an operand is in another memory"));
                }
            }
            at += used;
        }
        if meant.next().is_some() {
            return Err("buffers of more operands than there are".into());
        }
        let mut before = 0;
        for r in &stream.origins {
            if r.start < before || r.end <= r.start || r.end as usize > stream.words.len() {
                return Err(format!("origin range {}..{} is out of order or out of bounds", r.start, r.end));
            }
            before = r.end;
            if let Some(s) = r.shares.iter().find(|s| s.origin as usize >= self.origins.len()) {
                return Err(format!("origin {} does not exist", s.origin));
            }
        }
        Ok(())
    }

    /// Checks that the program was compiled for this target and fits it.
    ///
    /// # Errors
    /// [`ProgramError::Target`], or [`ProgramError::DoesNotFit`] with both numbers.
    pub fn check_target(&self, target: &Target) -> Result<(), ProgramError> {
        if self.target_digest != target.digest() {
            return Err(ProgramError::Target {
                compiled_for: self.target_name.clone(),
                given: target.name.clone(),
            });
        }
        if self.dram_bytes > target.dram_bytes {
            return Err(ProgramError::DoesNotFit { needed: self.dram_bytes, available: target.dram_bytes });
        }
        for segment in &self.segments {
            let Segment::Device(device) = segment else { continue };
            for (core, engine, _) in device.all_streams() {
                if u64::from(core) >= target.cores {
                    return Err(invalid(format!(
                        "streams of core {core}, but the target has {} cores",
                        target.cores
                    )));
                }
                if let Engine::Queue(q) = engine
                    && u64::from(q) >= target.dma_queues
                {
                    return Err(invalid(format!(
                        "stream {engine}, but the target has {} queues",
                        target.dma_queues
                    )));
                }
            }
        }
        Ok(())
    }
}
