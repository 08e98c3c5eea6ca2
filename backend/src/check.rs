//! An independent check of a finished program: nothing here knows how programs are emitted.
//!
//! 1. Every stream decodes to instructions that its engine may run; loops nest and match; each semaphore has one
//!    producer and one consumer.
//! 2. The streams run abstractly: scalars, loops, access patterns and semaphore counts are exact, data are not
//!    computed. Operands must lie inside their memories and be aligned, no count may overflow, no set of streams may
//!    wait for ever, and every count must be zero again at the end.
//! 3. On that run, vector clocks carried by the semaphores tell which accesses are ordered. Two accesses of one byte
//!    by different engines, one of them a write, must be.

mod run;
mod shadow;

use std::collections::BTreeMap;

use kiln_machine::isa::{Engine, Inst, Operand};
use kiln_machine::program::{DeviceSegment, Program, Segment};
use kiln_machine::target::Target;

/// What is wrong with a program; places are words of a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Words that are no instruction, or one of another engine.
    #[error("{engine} word {pc}: {reason}")]
    Illegal { engine: Engine, pc: u32, reason: String },
    /// A semaphore outside the target's or with two engines at one end.
    #[error("semaphore {sem}: {reason}")]
    Semaphore { sem: u8, reason: String },
    /// An operand reaches outside its memory or is not aligned.
    #[error("{engine} word {pc}: `{inst}`: {reason}")]
    Operand { engine: Engine, pc: u32, inst: String, reason: String },
    /// Streams wait for one another for ever.
    #[error("deadlock: {waiting}")]
    Deadlock { waiting: String },
    /// Two accesses that nothing orders.
    #[error("race on {memory}: {first} and {second} touch the same bytes in no order")]
    Race { memory: &'static str, first: String, second: String },
    /// The program's parts contradict one another.
    #[error("{0}")]
    Inconsistent(String),
}

/// What a check covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Instructions executed abstractly.
    pub executed: u64,
    /// Whether every access was compared; long runs are compared up to a limit.
    pub races_complete: bool,
}

/// A decoded stream.
pub(crate) struct Decoded {
    engine: Engine,
    /// First word and instruction.
    insts: Vec<(u32, Inst)>,
    /// For each `loop` the index of its `endl`, for each other instruction itself.
    matching: Vec<usize>,
}

/// Checks every device segment of a program.
///
/// # Errors
/// The first fault found.
pub fn check(program: &Program, target: &Target) -> Result<CheckReport, CheckError> {
    if program.target_digest != [0; 32] && program.target_digest != target.digest() {
        return Err(CheckError::Inconsistent("the program was compiled for another target".into()));
    }
    if program.dram_bytes > target.dram_bytes || program.reached_bytes() > program.dram_bytes {
        return Err(CheckError::Inconsistent("bindings or image lie outside DRAM".into()));
    }
    let mut report = CheckReport { executed: 0, races_complete: true };
    for segment in &program.segments {
        if let Segment::Device(device) = segment {
            if !device.others.is_empty() {
                return Err(CheckError::Inconsistent("streams of several cores are not checked".into()));
            }
            let streams = decode(device)?;
            semaphores(&streams, target)?;
            let one = run::run(&streams, program, target)?;
            report.executed += one.executed;
            report.races_complete &= one.races_complete;
        }
    }
    Ok(report)
}

fn decode(device: &DeviceSegment) -> Result<Vec<Decoded>, CheckError> {
    let mut streams = Vec::new();
    for (engine, stream) in &device.streams {
        let mut insts = Vec::new();
        let mut pc = 0;
        while pc < stream.words.len() {
            let illegal = |reason: String| CheckError::Illegal { engine: *engine, pc: pc as u32, reason };
            let (inst, words) = Inst::decode(&stream.words[pc..]).map_err(|e| illegal(e.to_string()))?;
            if !engine.runs(inst.class()) {
                return Err(illegal(format!("`{inst}` belongs to another engine")));
            }
            insts.push((pc as u32, inst));
            pc += words;
        }
        if !insts.is_empty() && !matches!(insts.last(), Some((_, Inst::Halt {}))) {
            return Err(CheckError::Illegal {
                engine: *engine,
                pc: pc as u32,
                reason: "no `halt` at the end".into(),
            });
        }
        let matching = match_loops(*engine, &insts)?;
        streams.push(Decoded { engine: *engine, insts, matching });
    }
    Ok(streams)
}

fn match_loops(engine: Engine, insts: &[(u32, Inst)]) -> Result<Vec<usize>, CheckError> {
    let mut matching: Vec<usize> = (0..insts.len()).collect();
    let mut open: Vec<usize> = Vec::new();
    for (i, (pc, inst)) in insts.iter().enumerate() {
        let illegal = |reason: &str| CheckError::Illegal { engine, pc: *pc, reason: reason.into() };
        match inst {
            Inst::Loop { .. } => {
                open.push(i);
                if open.len() > 8 {
                    return Err(illegal("loops nest deeper than 8"));
                }
            }
            Inst::Endl {} => {
                let start = open.pop().ok_or_else(|| illegal("`endl` without a loop"))?;
                let Inst::Loop { end, .. } = insts[start].1 else { continue };
                if end.0 != *pc {
                    return Err(illegal("a loop ends elsewhere than at its `endl`"));
                }
                matching[start] = i;
            }
            Inst::Halt {} if !open.is_empty() => return Err(illegal("`halt` inside a loop")),
            Inst::Li { rd, .. } if stepped(insts, &open, rd.0) => {
                return Err(illegal("an open loop steps the register that is set"));
            }
            _ => {}
        }
    }
    match open.last() {
        Some(start) => {
            Err(CheckError::Illegal { engine, pc: insts[*start].0, reason: "a loop without `endl`".into() })
        }
        None => Ok(matching),
    }
}

fn stepped(insts: &[(u32, Inst)], open: &[usize], register: u8) -> bool {
    open.iter().any(|start| match insts[*start].1 {
        Inst::Loop { step, .. } => step.active().any(|(r, _)| r.0 == register),
        _ => false,
    })
}

fn semaphores(streams: &[Decoded], target: &Target) -> Result<(), CheckError> {
    let mut ends: BTreeMap<u8, [Option<Engine>; 2]> = BTreeMap::new();
    for stream in streams {
        for (_, inst) in &stream.insts {
            let (sem, end, name) = match inst {
                Inst::Sems { sem, .. } => (sem.0, 0, "producers"),
                Inst::Semw { sem, .. } => (sem.0, 1, "consumers"),
                _ => continue,
            };
            if u64::from(sem) >= target.semaphores {
                let reason = format!("the target has {}", target.semaphores);
                return Err(CheckError::Semaphore { sem, reason });
            }
            let slot = &mut ends.entry(sem).or_default()[end];
            match slot {
                Some(other) if *other != stream.engine => {
                    let reason = format!("two {name}, {other} and {}", stream.engine);
                    return Err(CheckError::Semaphore { sem, reason });
                }
                _ => *slot = Some(stream.engine),
            }
        }
    }
    match ends.iter().find(|(_, [producer, consumer])| producer.is_none() || consumer.is_none()) {
        Some((sem, _)) => Err(CheckError::Semaphore { sem: *sem, reason: "one end is missing".into() }),
        None => Ok(()),
    }
}

/// Operands that are in DRAM or on chip, for the run.
pub(crate) fn touched(inst: &Inst) -> Vec<Operand> {
    match inst {
        Inst::Lds { .. } | Inst::Sts { .. } => Vec::new(),
        other => other.operands(),
    }
}
