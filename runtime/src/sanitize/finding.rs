//! What the sanitizer has found, as data.

use std::fmt::{self, Display};

use kiln_machine::isa::Engine;

pub use kiln_machine::program::Memory;

/// What a finding says. Each has a stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// Nothing orders a read behind the write of its bytes.
    ReadAfterWrite,
    /// Nothing orders a write behind a read of the bytes it replaces: a ring buffer is filled again too early.
    WriteAfterRead,
    /// Nothing orders two writes of the same bytes.
    WriteAfterWrite,
    /// Bytes are read that no instruction wrote.
    Unwritten,
    /// Bytes of a buffer are written and never read.
    Unread,
    /// An operand leaves its memory.
    OutOfBounds,
    /// An operand leaves its buffer for another's bytes.
    OutOfBuffer,
    /// Streams wait for one another.
    Deadlock,
    /// A wait that no signal is left for.
    SemaphoreUnderflow,
    /// A producer that may run further ahead than a semaphore counts.
    SemaphoreOverflow,
    /// Signals that nothing waits for.
    SemaphoreLeftOver,
    /// An instruction that cannot go on for another reason.
    Trap,
    /// A wait that never told its stream anything new.
    RedundantWait,
}

impl FindingKind {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            FindingKind::ReadAfterWrite => "kiln::sanitize::read_after_write",
            FindingKind::WriteAfterRead => "kiln::sanitize::write_after_read",
            FindingKind::WriteAfterWrite => "kiln::sanitize::write_after_write",
            FindingKind::Unwritten => "kiln::sanitize::unwritten",
            FindingKind::Unread => "kiln::sanitize::unread",
            FindingKind::OutOfBounds => "kiln::sanitize::out_of_bounds",
            FindingKind::OutOfBuffer => "kiln::sanitize::out_of_buffer",
            FindingKind::Deadlock => "kiln::sanitize::deadlock",
            FindingKind::SemaphoreUnderflow => "kiln::sanitize::semaphore_underflow",
            FindingKind::SemaphoreOverflow => "kiln::sanitize::semaphore_overflow",
            FindingKind::SemaphoreLeftOver => "kiln::sanitize::semaphore_left_over",
            FindingKind::Trap => "kiln::sanitize::trap",
            FindingKind::RedundantWait => "kiln::sanitize::redundant_wait",
        }
    }

    /// Whether the program is right all the same.
    pub fn is_advice(self) -> bool {
        self == FindingKind::RedundantWait
    }

    /// What to do about it.
    pub fn help(self) -> &'static str {
        match self {
            FindingKind::ReadAfterWrite => {
                "the reader must wait for a signal that the writer sends afterwards"
            }
            FindingKind::WriteAfterRead => {
                "the writer must wait for a signal that the reader sends afterwards, before it fills the buffer again"
            }
            FindingKind::WriteAfterWrite => "one of the two must wait for a signal of the other",
            FindingKind::Unwritten => "an address or an extent is wrong, or a write is missing",
            FindingKind::Unread => {
                "an address or an extent is wrong, there or where they should have been read"
            }
            FindingKind::OutOfBounds | FindingKind::OutOfBuffer => "an address or an extent is wrong",
            FindingKind::Deadlock => {
                "each engine waits for what only the next one could do: signal a semaphore, or come to a barrier"
            }
            FindingKind::SemaphoreUnderflow => "a signal is missing, or a wait is one too many",
            FindingKind::SemaphoreOverflow => {
                "let the producer wait for credits that its consumer gives back"
            }
            FindingKind::SemaphoreLeftOver => "a wait is missing, or a signal is one too many",
            FindingKind::Trap => "see the instruction above",
            FindingKind::RedundantWait => {
                "other waits tell the stream the same: this one and its signals can go"
            }
        }
    }
}

/// An instruction of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its core.
    pub core: u8,
    /// The stream.
    pub engine: Engine,
    /// Word index in it.
    pub pc: u32,
    /// In assembly.
    pub instruction: String,
    /// The ONNX nodes that it came from.
    pub origin: String,
}

/// Bytes of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// On chip: of which core.
    pub core: u8,
    /// Which memory.
    pub memory: Memory,
    /// First partition and one past the last; `(0, 1)` in DRAM.
    pub parts: (u32, u32),
    /// First byte and one past the last, in each partition.
    pub bytes: (u64, u64),
}

/// One finding. The same between the same instructions is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Device segment.
    pub segment: u32,
    /// The instruction.
    pub site: Site,
    /// The earlier of two that nothing orders, the next ones of a circle of waits.
    pub others: Vec<Site>,
    /// The first bytes that it is about.
    pub bytes: Option<Bytes>,
    /// What else there is to say, in a few words.
    pub detail: String,
    /// How often it happened.
    pub times: u64,
}

/// Which core, where it is not the first.
struct OfCore(u8);

impl Display for OfCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " of core {}", self.0) }
    }
}

impl Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{} word {}: {}  [{}]",
            self.engine,
            OfCore(self.core),
            self.pc,
            self.instruction,
            self.origin
        )
    }
}

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((first, end), (low, high)) = (self.parts, self.bytes);
        match self.memory {
            Memory::Dram => write!(f, "DRAM bytes {low:#x}..{high:#x}"),
            memory => write!(
                f,
                "{}{} partitions {first}..{end}, bytes {low:#x}..{high:#x}",
                memory.name(),
                OfCore(self.core)
            ),
        }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FindingKind::ReadAfterWrite => f.write_str("a read races with a write")?,
            FindingKind::WriteAfterRead => f.write_str("a write races with a read before it")?,
            FindingKind::WriteAfterWrite => f.write_str("two writes race")?,
            FindingKind::Unwritten => f.write_str("a read of bytes that nothing wrote")?,
            FindingKind::Unread => f.write_str("bytes of a buffer that nothing reads")?,
            FindingKind::OutOfBounds => f.write_str("an operand out of bounds")?,
            FindingKind::OutOfBuffer => f.write_str("an operand outside its buffer")?,
            FindingKind::Deadlock => f.write_str("a deadlock")?,
            FindingKind::SemaphoreUnderflow => f.write_str("a wait that nothing will signal")?,
            FindingKind::SemaphoreOverflow => f.write_str("a semaphore that may overflow")?,
            FindingKind::SemaphoreLeftOver => f.write_str("signals that nothing waits for")?,
            FindingKind::Trap => f.write_str("a trap")?,
            FindingKind::RedundantWait => f.write_str("a wait that tells nothing new")?,
        }
        if let Some(bytes) = &self.bytes {
            write!(f, ": {bytes}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if self.times > 1 {
            write!(f, " ({} times)", self.times)?;
        }
        write!(f, "\n  {}", self.site)?;
        for other in &self.others {
            write!(f, "\n  {other}")?;
        }
        Ok(())
    }
}
