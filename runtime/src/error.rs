//! Everything that can stop a run, each with a stable code and a help text.

use kiln_machine::isa::{Dt, Engine, Space};
use kiln_machine::program::ProgramError;
use kiln_machine::tensor::DType;
use miette::Diagnostic;
use thiserror::Error;

use crate::lane::Fault;

/// Why a program could not be loaded, bound or run to its end.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum SimError {
    /// The program, its files and the machine do not go together.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Program(#[from] ProgramError),

    /// A mapped file has shrunk since the program was loaded.
    #[error("file `{path}` was truncated after it was opened")]
    #[diagnostic(code(kiln::sim::file), help("restore the file and load the program again"))]
    File {
        /// Path below the model's directory.
        path: String,
    },

    /// Words that are no instruction.
    #[error("stream {engine}, word {pc}: {reason}")]
    #[diagnostic(
        code(kiln::sim::illegal),
        help("the program file is damaged, or for a machine without this instruction")
    )]
    Illegal {
        /// The stream.
        engine: String,
        /// Word index.
        pc: u32,
        /// What the decoder says.
        reason: String,
    },

    /// A semaphore with two producers or two consumers.
    #[error("semaphore {semaphore} has two {role}: {first} and {second}")]
    #[diagnostic(
        code(kiln::sim::shared_semaphore),
        help("give each pair of a producing and a consuming engine a semaphore of its own")
    )]
    SharedSemaphore {
        /// The semaphore.
        semaphore: u8,
        /// `producers` or `consumers`.
        role: &'static str,
        /// One engine.
        first: String,
        /// The other.
        second: String,
    },

    /// An input that the program needs was not given.
    #[error("input `{name}` is missing")]
    #[diagnostic(code(kiln::sim::missing_input), help("the program's inputs are: {expected}"))]
    MissingInput {
        /// The input.
        name: String,
        /// All inputs of the program.
        expected: String,
    },

    /// A tensor was given that the program does not know.
    #[error("the program has no input `{name}`")]
    #[diagnostic(code(kiln::sim::unknown_input), help("the program's inputs are: {expected}"))]
    UnknownInput {
        /// The name given.
        name: String,
        /// All inputs of the program.
        expected: String,
    },

    /// An input of another data type.
    #[error("input `{name}` is {given}, the program takes {expected}")]
    #[diagnostic(code(kiln::sim::input_dtype), help("convert the tensor first"))]
    InputDtype {
        /// The input.
        name: String,
        /// The type given.
        given: DType,
        /// The type the program takes.
        expected: DType,
    },

    /// An input of another shape.
    #[error("input `{name}` has shape {given:?}, the program takes {expected:?}")]
    #[diagnostic(
        code(kiln::sim::input_shape),
        help("compile for this shape, or give a tensor of the program's shape")
    )]
    InputShape {
        /// The input.
        name: String,
        /// The shape given.
        given: Vec<usize>,
        /// The shape the program takes.
        expected: Vec<usize>,
    },

    /// An element outside the range that the program was compiled for.
    #[error("input `{name}`: element {index} is {value}, outside {low}..={high}")]
    #[diagnostic(
        code(kiln::sim::input_range),
        help("the compiler proved index arithmetic safe for this range only")
    )]
    InputRange {
        /// The input.
        name: String,
        /// Flat row-major index.
        index: usize,
        /// The element.
        value: i128,
        /// Least allowed.
        low: i128,
        /// Greatest allowed.
        high: i128,
    },

    /// The host type cannot be brought to the device type, or back.
    #[error("tensor `{name}`: no conversion between {host} on the host and {device} on the device")]
    #[diagnostic(code(kiln::sim::binding), help("this is a fault of the program file"))]
    Binding {
        /// The tensor.
        name: String,
        /// Host type.
        host: DType,
        /// Device type.
        device: DType,
    },

    /// An output holds bytes that the program never wrote.
    #[error("output `{name}` was not written: DRAM byte {address:#x}")]
    #[diagnostic(code(kiln::sim::unwritten_output), help("the program ended before it stored this output"))]
    UnwrittenOutput {
        /// The output.
        name: String,
        /// The first byte without a value.
        address: u64,
    },

    /// An instruction that cannot go on.
    #[error("{0}")]
    #[diagnostic(code(kiln::sim::trap), help("{}", .0.kind.help()))]
    Trap(Box<Trap>),

    /// No engine can go on.
    #[error("deadlock at cycle {cycle}:\n{}", waits_text(.waits, *.circle))]
    #[diagnostic(
        code(kiln::sim::deadlock),
        help(
            "each engine waits for what only the next one could do: signal a semaphore, or come to a barrier"
        )
    )]
    Deadlock {
        /// MXU cycles until the last engine stopped.
        cycle: u64,
        /// Who waits for whom: each for the next one.
        waits: Vec<Waiting>,
        /// Whether the last one waits for the first; else nothing will signal what it waits for.
        circle: bool,
    },

    /// The run took longer than allowed.
    #[error("the program is still running after {limit} cycles:\n{engines}")]
    #[diagnostic(
        code(kiln::sim::cycle_limit),
        help(
            "raise the limit if the program is right (`--cycle-limit none` lifts it); it may loop for ever"
        )
    )]
    CycleLimit {
        /// The limit in MXU cycles.
        limit: u64,
        /// Where each engine stands, one a line.
        engines: String,
    },

    /// A branch has led back to a state in which everything was before.
    #[error("the program loops for ever: all is as it was when this was last taken\n  {at}")]
    #[diagnostic(
        code(kiln::sim::endless),
        help("no count and no register that the branch depends on has changed in between")
    )]
    Endless {
        /// The branch: engine, word, instruction, ONNX node.
        at: String,
    },

    /// A host segment without anyone to execute it.
    #[error("segment {segment} runs on the host: {reason}")]
    #[diagnostic(
        code(kiln::sim::host_segment),
        help("run it through the `kiln` library, which brings a host executor")
    )]
    HostSegment {
        /// Index of the segment.
        segment: usize,
        /// Why it cannot run.
        reason: String,
    },
}

/// An engine that waits when nothing goes on any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its core.
    pub core: u8,
    /// The engine.
    pub engine: Engine,
    /// Word index in its stream.
    pub pc: u32,
    /// The engine, its word, the instruction there and its origin.
    pub standing: String,
    /// What it waits for.
    pub why: String,
}

fn waits_text(waits: &[Waiting], circle: bool) -> String {
    let lines: String = waits.iter().map(|wait| format!("  {}\n    {}\n", wait.standing, wait.why)).collect();
    lines + "  … " + if circle { "and round again" } else { "and nothing will signal it" }
}

/// An instruction that cannot go on, and where it stands.
#[derive(Debug, Error)]
#[error("trap in {engine} at word {pc} (cycle {cycle}): {kind}\n  {instruction}\n  from {origin}")]
pub struct Trap {
    /// The engine.
    pub engine: String,
    /// Word index in its stream.
    pub pc: u32,
    /// MXU cycles since the start.
    pub cycle: u64,
    /// The instruction in assembly.
    pub instruction: String,
    /// The ONNX nodes it came from.
    pub origin: String,
    /// What happened.
    pub kind: TrapKind,
}

/// What made an instruction stop.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrapKind {
    /// An on-chip operand leaves its partition.
    #[error("out of bounds: bytes {first}..{end} of a {space} partition of {size} bytes")]
    OutOfBounds {
        /// Memory.
        space: Space,
        /// First byte.
        first: i64,
        /// One past the last byte.
        end: i64,
        /// Bytes in a partition.
        size: i64,
    },
    /// An on-chip operand leaves the partitions.
    #[error("out of bounds: partitions {first}..{end} of {parts} in {space}")]
    NoSuchPartition {
        /// Memory.
        space: Space,
        /// First partition.
        first: usize,
        /// One past the last.
        end: usize,
        /// How many there are.
        parts: usize,
    },
    /// A DRAM operand leaves the memory.
    #[error("out of bounds: DRAM bytes {first:#x}..{end:#x} of {size:#x}")]
    DramOutOfBounds {
        /// First byte.
        first: i128,
        /// One past the last byte.
        end: i128,
        /// Bytes of DRAM.
        size: u64,
    },
    /// An element is not at a multiple of its size.
    #[error("misaligned: {dt} at byte {byte} of {space}")]
    Misaligned {
        /// Memory.
        space: Space,
        /// The byte.
        byte: i64,
        /// Element type.
        dt: Dt,
    },
    /// A DRAM element is not at a multiple of its size.
    #[error("misaligned: {dt} at DRAM byte {byte:#x}")]
    DramMisaligned {
        /// The byte.
        byte: i128,
        /// Element type.
        dt: Dt,
    },
    /// A read of on-chip bytes that nothing wrote.
    #[error("uninitialised read: {space} partition {part}, byte {byte:#x}")]
    Unwritten {
        /// Memory.
        space: Space,
        /// Partition.
        part: usize,
        /// Byte in the partition.
        byte: usize,
    },
    /// A read of DRAM bytes that nothing wrote.
    #[error("uninitialised read: DRAM byte {byte:#x}")]
    DramUnwritten {
        /// Address.
        byte: u64,
    },
    /// A product with a part of the array into which nothing was loaded.
    #[error("uninitialised read: stationary row {row}, column {column}")]
    NoStationary {
        /// Row of the array.
        row: usize,
        /// Column of the array.
        column: usize,
    },
    /// The rows, columns or entries named are not in the array.
    #[error("the array has {limit} {what}, the instruction needs {needed}")]
    Array {
        /// Rows, columns or entries.
        what: &'static str,
        /// How many are needed.
        needed: usize,
        /// How many there are.
        limit: usize,
    },
    /// The element type does not fit the instruction.
    #[error("{dt} cannot be used here")]
    ElementType {
        /// The type.
        dt: Dt,
    },
    /// Operands whose extents do not fit one another.
    #[error("the operands' extents differ: {0}")]
    Extents(String),
    /// An index of a gather or scatter.
    #[error("index {index} is outside 0..{size}")]
    Index {
        /// The index.
        index: i64,
        /// The extent of the indexed dim.
        size: u32,
    },
    /// A semaphore counted too far.
    #[error("semaphore {semaphore} overflows: {count} + {added}")]
    SemaphoreOverflow {
        /// The semaphore.
        semaphore: u8,
        /// Its count.
        count: u32,
        /// What was added.
        added: u32,
    },
    /// More semaphores than the machine has.
    #[error("there is no semaphore {semaphore}: the machine has {count}")]
    NoSuchSemaphore {
        /// The semaphore.
        semaphore: u8,
        /// How many there are.
        count: usize,
    },
    /// A loop too deep, an end without a loop, a loop without its end, or a target that is no instruction.
    #[error("loop or branch: {0}")]
    Flow(&'static str),
    /// Division of scalars by zero.
    #[error("scalar division by zero")]
    ScalarDivision,
    /// An instruction this engine does not have.
    #[error("engine {engine} does not execute this instruction")]
    WrongEngine {
        /// The engine.
        engine: String,
    },
    /// An instruction, or an option of it, that this machine does not have.
    #[error("this machine does not have {0}")]
    Absent(&'static str),
    /// The program's own trap.
    #[error("trap instruction, code {code}")]
    Code {
        /// Its code.
        code: u16,
    },
}

impl TrapKind {
    /// What to do about it.
    fn help(&self) -> &'static str {
        match self {
            TrapKind::Unwritten { .. } | TrapKind::DramUnwritten { .. } | TrapKind::NoStationary { .. } => {
                "an instruction reads before its operand was written: a wait is missing or an address is wrong"
            }
            TrapKind::Index { .. } => "an index of the input is out of range for the tensor it selects from",
            TrapKind::SemaphoreOverflow { .. } => "the producer runs ahead without credits from its consumer",
            TrapKind::Code { .. } => "the program checks something itself and found it violated",
            _ => "the program is wrong: check the operands of the instruction above",
        }
    }
}

impl From<Fault> for TrapKind {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::OutOfBounds { space, first, end, size } => {
                TrapKind::OutOfBounds { space, first, end, size }
            }
            Fault::NoSuchPartition { space, first, end, parts } => {
                TrapKind::NoSuchPartition { space, first, end, parts }
            }
            Fault::Misaligned { space, byte, dt } => TrapKind::Misaligned { space, byte, dt },
            Fault::Unwritten { space, part, byte } => TrapKind::Unwritten { space, part, byte },
            Fault::ElementType { dt } => TrapKind::ElementType { dt },
        }
    }
}
