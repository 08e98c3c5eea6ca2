//! How much the sanitizer sees: programs that are broken in one place, and what it says of them.
//!
//! A mutant lacks one wait or one signal, or one buffer, one operand of one instruction, or one access pattern lies a
//! granule further. It *changes behaviour* if conflicting accesses are ordered otherwise than before, or its outputs
//! differ; [`order`] and the outputs decide that, not the sanitizer. The score is the part of those that the sanitizer
//! reports. A pattern that moves inside its tensor reads other elements of it: such a mutant computes something else
//! without any fault that memory shows, so that kind has no bar to pass.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use indexmap::IndexMap;
use kiln_machine::isa::{AccessPattern, Inst, OFFSET_BITS, Operand, ROWS, Space, Word};
use kiln_machine::program::{BindingRole, Buffer, DeviceSegment, Memory, Program, Segment};
use kiln_machine::target::Target;
use kiln_machine::tensor::{DType, Tensor};
use kiln_runtime::{Findings, Options, Simulator};

mod compiled;
pub mod order;

pub use compiled::compiled;

use order::{Order, Unrolled};

/// Bytes by which an operand is moved: the alignment of buffers.
const GRANULE_BYTES: u64 = 32;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A wait is left out.
    Wait,
    /// A signal is left out.
    Signal,
    /// All operands in one buffer, on chip or in DRAM, lie a granule further.
    Buffer,
    /// One operand on chip of one instruction lies a granule further.
    Operand,
    /// The operands in DRAM that one access pattern describes lie a granule further.
    Pattern,
}

/// A way to break a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    pub kind: Kind,
    segment: usize,
    places: Vec<Place>,
}

/// Where a program is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Position of the stream in its segment.
    stream: usize,
    pc: u32,
    /// Bit of the instruction at which an offset begins.
    bit: u32,
}

/// What became of the mutants of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub mutants: usize,
    pub changing: usize,
    /// Of those that change behaviour.
    pub reported: usize,
    /// Reported although neither order nor outputs changed.
    pub harmless: usize,
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Score { mutants, changing, reported, harmless } = self;
        let percent = 100.0 * self.ratio();
        write!(f, "{reported} of {changing} reported ({percent:.1} %), {mutants} tried")?;
        write!(f, ", {harmless} reported that change nothing")
    }
}

impl Score {
    /// Mutants of both.
    pub fn add(&mut self, other: Score) {
        self.mutants += other.mutants;
        self.changing += other.changing;
        self.reported += other.reported;
        self.harmless += other.harmless;
    }

    /// The part of the changing ones that is reported, 1 if there are none.
    pub fn ratio(&self) -> f64 {
        if self.changing == 0 { 1.0 } else { self.reported as f64 / self.changing as f64 }
    }
}

/// A program that can be broken, with what it does whole.
pub struct Subject {
    pub program: Program,
    pub target: Target,
    folder: std::path::PathBuf,
    inputs: IndexMap<String, Tensor>,
    outputs: IndexMap<String, Tensor>,
    cycles: u64,
    unrolled: Vec<Option<(Unrolled, Order)>>,
}

/// What a run of a program gave.
struct Outcome {
    outputs: Option<IndexMap<String, Tensor>>,
    cycles: u64,
    findings: Findings,
}

fn run(
    program: &Program,
    target: &Target,
    folder: &Path,
    inputs: &IndexMap<String, Tensor>,
    cycle_limit: Option<u64>,
) -> Result<Outcome, String> {
    let options = Options {
        model_dir: folder.to_path_buf(),
        threads: NonZeroUsize::new(1),
        sanitize: true,
        cycle_limit,
        ..Options::default()
    };
    let mut simulator = Simulator::new(program, target, options).map_err(|error| error.to_string())?;
    let (outputs, cycles) = match simulator.run(inputs) {
        Ok((outputs, report)) => (Some(outputs), report.cycles),
        Err(_) => (None, 0),
    };
    Ok(Outcome { outputs, cycles, findings: simulator.findings().clone() })
}

/// Reproducible inputs, small and within the ranges that the program declares.
fn inputs(program: &Program) -> Result<IndexMap<String, Tensor>, String> {
    let mut state = 0x1234_5678_9abc_def0u64;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 40
    };
    let mut inputs = IndexMap::new();
    for binding in program.bindings.iter().filter(|binding| binding.role == BindingRole::Input) {
        let count: usize = binding.shape.iter().product();
        let mut bytes = Vec::new();
        for _ in 0..count {
            let draw = next();
            let integer = match binding.range {
                Some((low, high)) => low + (draw % (high - low + 1).clamp(1, 1 << 20) as u64) as i64,
                None => (draw % 7) as i64 - 3,
            };
            let real = draw as f32 / (1 << 24) as f32 - 0.5;
            match binding.host_dtype {
                DType::F32 => bytes.extend(real.to_le_bytes()),
                DType::F16 => bytes.extend(half::f16::from_f32(real).to_le_bytes()),
                DType::BF16 => bytes.extend(half::bf16::from_f32(real).to_le_bytes()),
                DType::I64 => bytes.extend(integer.to_le_bytes()),
                DType::I32 => bytes.extend((integer as i32).to_le_bytes()),
                DType::Bool => bytes.push((draw % 2) as u8),
                other => return Err(format!("input {}: {other} is not drawn here", binding.name)),
            }
        }
        let tensor = Tensor::new(binding.host_dtype, binding.shape.clone(), bytes.into());
        inputs.insert(binding.name.clone(), tensor.map_err(|error| error.to_string())?);
    }
    for scalar in &program.scalars {
        let middle = (i64::from(scalar.range.0) + i64::from(scalar.range.1)) / 2;
        let bytes = (middle as i32).to_le_bytes().to_vec();
        let tensor = Tensor::new(DType::I32, Vec::new(), bytes.into()).map_err(|error| error.to_string())?;
        inputs.insert(scalar.name.clone(), tensor);
    }
    Ok(inputs)
}

impl Subject {
    /// A program whose weight files lie in `folder`.
    ///
    /// # Errors
    /// When the whole program does not run, races by the slow reckoning, or has findings: it is then no subject but a
    /// fault.
    pub fn new(program: Program, target: Target, folder: &Path) -> Result<Subject, String> {
        let inputs = inputs(&program)?;
        let whole = run(&program, &target, folder, &inputs, None)?;
        if let Some(finding) = whole.findings.faults().next() {
            return Err(format!("the whole program has a finding: {finding}"));
        }
        let outputs = whole.outputs.ok_or("the whole program does not run")?;
        let mut unrolled = Vec::new();
        for (_, device) in devices(&program) {
            let one = Unrolled::new(device).map(|one| (one.order(), one));
            if let Some((order, one)) = &one {
                if let Some(race) = one.race(order) {
                    return Err(format!("the whole program races by the slow reckoning: {race:?}"));
                }
                if !order.is_complete() {
                    return Err("the whole program does not end by the slow reckoning".into());
                }
            }
            unrolled.push(one.map(|(order, one)| (one, order)));
        }
        let folder = folder.to_path_buf();
        Ok(Subject { program, target, folder, inputs, outputs, cycles: whole.cycles, unrolled })
    }

    /// Every way to break it.
    pub fn mutations(&self) -> Vec<Mutation> {
        let mut found = Vec::new();
        for (segment, device) in devices(&self.program) {
            let mut of_buffers: Vec<Vec<Place>> = vec![Vec::new(); device.buffers.len()];
            for (stream, code) in device.streams.values().enumerate() {
                let mut buffers = code.buffers.iter();
                let mut pc = 0;
                while pc < code.words.len()
                    && let Ok((inst, words)) = Inst::decode(&code.words[pc..])
                {
                    let place = |bit| Place { stream, pc: pc as u32, bit };
                    let mut push = |kind, place| found.push(Mutation { kind, segment, places: vec![place] });
                    match inst {
                        Inst::Semw { .. } => push(Kind::Wait, place(0)),
                        Inst::Sems { .. } => push(Kind::Signal, place(0)),
                        Inst::Apset { pattern, .. } => {
                            push(Kind::Pattern, place(0));
                            let holds = |buffer: &Buffer| {
                                let (first, end) = buffer.hull();
                                buffer.memory == Memory::Dram && (first..end).contains(&pattern.base)
                            };
                            if let Some(buffer) = device.buffers.iter().position(holds) {
                                of_buffers[buffer].push(place(0));
                            }
                        }
                        _ => {
                            let known: Vec<(Operand, Option<u32>)> = inst
                                .operands()
                                .into_iter()
                                .map(|operand| (operand, buffers.next().copied().flatten()))
                                .collect();
                            for at in offsets(&inst) {
                                push(Kind::Operand, place(at));
                                let words = &code.words[pc..pc + words];
                                let space = if bit(words, at - 9) == 0 { Space::Spm } else { Space::Acc };
                                let is_here = |(operand, _): &&(Operand, Option<u32>)| {
                                    matches!(operand, Operand::OnChip { view, .. } if view.space == space
                                        && u64::from(view.off) == offset_at(words, at))
                                };
                                if let Some((_, Some(buffer))) = known.iter().find(is_here) {
                                    of_buffers[*buffer as usize].push(place(at));
                                }
                            }
                        }
                    }
                    pc += words;
                }
            }
            let moved = of_buffers.into_iter().filter(|places| !places.is_empty());
            found.extend(moved.map(|places| Mutation { kind: Kind::Buffer, segment, places }));
        }
        found
    }

    /// The broken program; `None` if no instruction says so.
    fn mutant(&self, mutation: &Mutation) -> Option<Program> {
        let mut program = self.program.clone();
        let Segment::Device(device) = &mut program.segments[mutation.segment] else { return None };
        for place in &mutation.places {
            let (_, code) = device.streams.iter_mut().nth(place.stream)?;
            let at = place.pc as usize;
            let (_, length) = Inst::decode(&code.words[at..]).ok()?;
            let words = &mut code.words[at..at + length];
            match mutation.kind {
                Kind::Wait | Kind::Signal => {
                    let mut nop: Vec<Word> = Vec::new();
                    Inst::Nop {}.encode(&mut nop).ok()?;
                    words.copy_from_slice(&nop);
                }
                Kind::Buffer | Kind::Operand | Kind::Pattern => {
                    if let Ok((Inst::Apset { ap, pattern }, _)) = Inst::decode(words) {
                        let pattern = AccessPattern { base: pattern.base + GRANULE_BYTES, ..pattern };
                        let mut moved: Vec<Word> = Vec::new();
                        Inst::Apset { ap, pattern }.encode(&mut moved).ok()?;
                        words.copy_from_slice(&moved);
                        continue;
                    }
                    let moved = offset_at(words, place.bit) + GRANULE_BYTES;
                    (0..OFFSET_BITS).for_each(|i| set_bit(words, place.bit + i, moved >> i & 1));
                    Inst::decode(words).ok()?;
                }
            }
        }
        Some(program)
    }

    /// What it is, in words.
    pub fn describe(&self, mutation: &Mutation) -> String {
        let Segment::Device(device) = &self.program.segments[mutation.segment] else { return String::new() };
        let Some(place) = mutation.places.first() else { return String::new() };
        let Some((engine, code)) = device.streams.iter().nth(place.stream) else { return String::new() };
        let inst = Inst::decode(&code.words[place.pc as usize..]);
        let text = inst.map_or_else(|error| error.to_string(), |(inst, _)| inst.to_string());
        format!(
            "{:?}, {} places, first {engine} word {}: {text}",
            mutation.kind,
            mutation.places.len(),
            place.pc
        )
    }

    /// Whether a mutant changes behaviour and whether the sanitizer reports it; `None` if it cannot be judged.
    pub fn judge(&self, mutation: &Mutation) -> Option<(bool, bool)> {
        let program = self.mutant(mutation)?;
        let limit = Some(self.cycles * 4 + 100_000);
        let outcome = run(&program, &self.target, &self.folder, &self.inputs, limit).ok()?;
        let reported = outcome.findings.faults().next().is_some();
        let differs = outcome.outputs.is_none_or(|outputs| outputs != self.outputs);
        let changes = differs || self.is_reordered(&program, mutation)?;
        Some((changes, reported))
    }

    /// The scores of some mutants by kind, and those that changed behaviour unnoticed.
    pub fn score<'a>(
        &self,
        mutations: impl IntoIterator<Item = &'a Mutation>,
    ) -> (BTreeMap<Kind, Score>, Vec<&'a Mutation>) {
        let (mut scores, mut missed) = (BTreeMap::new(), Vec::new());
        for mutation in mutations {
            let Some((changes, reported)) = self.judge(mutation) else { continue };
            let score: &mut Score = scores.entry(mutation.kind).or_default();
            score.mutants += 1;
            score.changing += usize::from(changes);
            score.reported += usize::from(changes && reported);
            score.harmless += usize::from(!changes && reported);
            if changes && !reported {
                missed.push(mutation);
            }
        }
        (scores, missed)
    }

    /// Whether conflicting accesses of the mutant are ordered otherwise.
    fn is_reordered(&self, program: &Program, mutation: &Mutation) -> Option<bool> {
        let number = devices(&self.program).position(|(segment, _)| segment == mutation.segment)?;
        let (whole, order) = self.unrolled[number].as_ref()?;
        let place = mutation.places.first()?;
        match mutation.kind {
            Kind::Wait | Kind::Signal => {
                let mutant = whole.without(place.stream, place.pc);
                Some(!whole.same(order, &mutant.order()))
            }
            // Other bytes: what changes is a pair without order, since there was none.
            Kind::Buffer | Kind::Operand | Kind::Pattern => {
                let (_, device) = devices(program).nth(number)?;
                let mutant = Unrolled::new(device)?;
                let order = mutant.order();
                Some(mutant.race(&order).is_some())
            }
        }
    }
}

fn devices(program: &Program) -> impl Iterator<Item = (usize, &DeviceSegment)> {
    program.segments.iter().enumerate().filter_map(|(index, segment)| match segment {
        Segment::Device(device) => Some((index, device)),
        Segment::Host(_) => None,
    })
}

/// The bits at which the offsets of an instruction's on-chip operands begin.
fn offsets(inst: &Inst) -> Vec<u32> {
    let row = ROWS.iter().find(|row| row.mnemonic == inst.mnemonic());
    let text = inst.to_string();
    let mut at = 8;
    let mut found = Vec::new();
    for field in row.into_iter().flat_map(|row| row.fields) {
        match field.kind {
            // Memory and partition come first.
            "view" => found.push(at + 9),
            "optional view" if text.contains(&format!("{}=", field.name)) => found.push(at + 10),
            _ => {}
        }
        at += field.bits;
    }
    found
}

/// The byte offset that begins at a bit.
fn offset_at(words: &[Word], at: u32) -> u64 {
    (0..OFFSET_BITS).fold(0, |value, i| value | bit(words, at + i) << i)
}

fn bit(words: &[Word], at: u32) -> u64 {
    words[at as usize / 256][at as usize % 256 / 64] >> (at % 64) & 1
}

fn set_bit(words: &mut [Word], at: u32, value: u64) {
    let limb = &mut words[at as usize / 256][at as usize % 256 / 64];
    *limb = *limb & !(1 << (at % 64)) | value << (at % 64);
}

/// Some of a list, in its order, the same for the same seed; all if there are no more than `count`.
pub fn sample<T>(all: &[T], count: usize, mut seed: u64) -> Vec<&T> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    for i in (1..order.len()).rev() {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        order.swap(i, (seed >> 33) as usize % (i + 1));
    }
    order.truncate(count);
    order.sort_unstable();
    order.into_iter().map(|i| &all[i]).collect()
}

/// A hand-written program for `edge`.
///
/// # Errors
/// See [`Subject::new`]; a text that is no program.
pub fn written(path: &Path) -> Result<Subject, String> {
    let target = Target::preset("edge").map_err(|error| error.to_string())?;
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let program = kiln_machine::asm::assemble(&text, Some(&target)).map_err(|errors| errors.to_string())?;
    Subject::new(program, target, Path::new("."))
}
