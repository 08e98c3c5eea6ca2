//! The abstract run: exact control, no data.

use std::collections::{BTreeMap, VecDeque};

use kiln_machine::isa::{AccessPattern, Add, AluOp, Cond, Engine, Inst, Operand, Reg, Role, Space};
use kiln_machine::program::Program;
use kiln_machine::target::Target;

use super::shadow::{Clock, Patch, Shadow};
use super::{CheckError, CheckReport, Decoded, touched};

/// Executed instructions after which accesses are no longer compared, and after which the run is given up.
const COMPARED: u64 = 400_000;
const GIVEN_UP: u64 = 400_000_000;

/// Executed instructions after which accesses that all engines know of are forgotten.
const SWEPT: u64 = 4096;

struct Frame {
    /// Index of the `loop`.
    start: usize,
    left: i64,
    entry: [i64; 4],
}

struct Thread<'a> {
    stream: &'a Decoded,
    at: usize,
    done: bool,
    registers: [i64; 32],
    patterns: [AccessPattern; 16],
    frames: Vec<Frame>,
    clock: Clock,
}

#[derive(Default)]
struct Semaphore {
    count: u64,
    /// Signals not yet taken: how many, and the producer's clock.
    signals: VecDeque<(u64, Clock)>,
}

/// Runs all streams to their ends.
pub(super) fn run(
    streams: &[Decoded],
    program: &Program,
    target: &Target,
) -> Result<CheckReport, CheckError> {
    let mut threads: Vec<Thread<'_>> = streams
        .iter()
        .map(|stream| Thread {
            stream,
            at: 0,
            done: stream.insts.is_empty(),
            registers: [0; 32],
            patterns: [AccessPattern::default(); 16],
            frames: Vec::new(),
            clock: Clock::default(),
        })
        .collect();
    let mut semaphores: BTreeMap<u8, Semaphore> = BTreeMap::new();
    let mut machine =
        Machine { target, dram_bytes: program.dram_bytes, shadow: Shadow::new(program, target), executed: 0 };
    let mut sweep = SWEPT;
    loop {
        let mut moved = false;
        for thread in &mut threads {
            while !thread.done && machine.step(thread, &mut semaphores)? {
                moved = true;
            }
        }
        let running = || threads.iter().filter(|t| !t.done);
        let Some(mut common) = running().next().map(|t| t.clock.clone()) else { break };
        if machine.executed >= sweep {
            running().for_each(|t| common.meet(&t.clock));
            machine.shadow.forget(&common);
            sweep = machine.executed + SWEPT;
        }
        if !moved {
            let waiting: Vec<String> = threads.iter().filter(|t| !t.done).map(Thread::place).collect();
            return Err(CheckError::Deadlock { waiting: waiting.join("; ") });
        }
    }
    if let Some((sem, left)) = semaphores.iter().find(|(_, s)| s.count != 0) {
        let reason = format!("{} signals are never waited for", left.count);
        return Err(CheckError::Semaphore { sem: *sem, reason });
    }
    Ok(CheckReport { executed: machine.executed, races_complete: machine.executed <= COMPARED })
}

impl Thread<'_> {
    fn place(&self) -> String {
        let (pc, inst) = &self.stream.insts[self.at];
        format!("{} word {pc} at `{inst}`", self.stream.engine)
    }

    fn read(&self, reg: Reg) -> i64 {
        if reg.0 == 0 { 0 } else { self.registers[usize::from(reg.0)] }
    }

    fn added(&self, add: Add) -> i64 {
        self.read(add.reg())
    }
}

struct Machine<'a> {
    target: &'a Target,
    dram_bytes: u64,
    shadow: Shadow,
    executed: u64,
}

impl Machine<'_> {
    /// Executes one instruction; false if it must wait.
    fn step(
        &mut self,
        t: &mut Thread<'_>,
        semaphores: &mut BTreeMap<u8, Semaphore>,
    ) -> Result<bool, CheckError> {
        let (pc, inst) = t.stream.insts[t.at];
        let engine = t.stream.engine;
        let illegal = |reason: &str| CheckError::Illegal { engine, pc, reason: reason.into() };
        let mut next = t.at + 1;
        match inst {
            Inst::Semw { sem, n } => {
                let semaphore = semaphores.entry(sem.0).or_default();
                if semaphore.count < n.into() {
                    return Ok(false);
                }
                semaphore.count -= u64::from(n);
                let mut left = u64::from(n);
                while left > 0 {
                    let Some((count, clock)) = semaphore.signals.front_mut() else { break };
                    t.clock.join(clock);
                    let taken = left.min(*count);
                    left -= taken;
                    *count -= taken;
                    if *count == 0 {
                        semaphore.signals.pop_front();
                    }
                }
            }
            Inst::Sems { sem, n } => {
                let semaphore = semaphores.entry(sem.0).or_default();
                semaphore.count += u64::from(n);
                if semaphore.count > 65535 {
                    return Err(CheckError::Semaphore {
                        sem: sem.0,
                        reason: "its count passes 65535".into(),
                    });
                }
                t.clock.tick(engine);
                semaphore.signals.push_back((n.into(), t.clock.clone()));
            }
            Inst::Halt {} => t.done = true,
            Inst::Trap { .. } => return Err(illegal("a `trap` is reached")),
            Inst::Li { rd, imm } => t.registers[usize::from(rd.0)] = imm,
            Inst::Alu { op, rd, ra, rb, imm } => {
                let (a, b) = (t.read(ra), t.read(rb).wrapping_add(imm));
                t.registers[usize::from(rd.0)] =
                    scalar(op, a, b).ok_or_else(|| illegal("division by zero"))?;
            }
            Inst::Br { cond, ra, rb, to } => {
                let (a, b) = (t.read(ra), t.read(rb));
                let taken = match cond {
                    Cond::Al => true,
                    Cond::Eq => a == b,
                    Cond::Ne => a != b,
                    Cond::Lt => a < b,
                    Cond::Ge => a >= b,
                };
                if taken {
                    next = t
                        .stream
                        .insts
                        .iter()
                        .position(|(at, _)| *at == to.0)
                        .ok_or_else(|| illegal("a branch to no instruction"))?;
                }
            }
            Inst::Loop { count, rc, step, .. } => {
                let left = i64::from(count) + t.added(rc);
                if left <= 0 {
                    next = t.stream.matching[t.at] + 1;
                } else {
                    let entry = step.0.map(|(r, _)| t.read(r));
                    t.frames.push(Frame { start: t.at, left, entry });
                }
            }
            Inst::Endl {} => {
                let Some(frame) = t.frames.last_mut() else { return Err(illegal("no loop is open")) };
                let Inst::Loop { step, .. } = t.stream.insts[frame.start].1 else {
                    return Err(illegal("no loop is open"));
                };
                frame.left -= 1;
                if frame.left > 0 {
                    next = frame.start + 1;
                    for (r, s) in step.active() {
                        t.registers[usize::from(r.0)] += s;
                    }
                } else {
                    for (slot, (r, _)) in step.0.iter().enumerate() {
                        t.registers[usize::from(r.0)] = frame.entry[slot];
                    }
                    t.frames.pop();
                }
            }
            Inst::Apset { ap, pattern } => t.patterns[usize::from(ap.0 & 15)] = pattern,
            Inst::ReadCsr { .. } | Inst::Lds { .. } => {
                return Err(illegal("control that depends on data is not checked"));
            }
            other => self.operands(t, pc, &other)?,
        }
        t.at = next;
        self.executed += 1;
        if self.executed > GIVEN_UP {
            return Err(illegal("the program runs for too long to be checked"));
        }
        Ok(true)
    }

    fn operands(&mut self, t: &Thread<'_>, pc: u32, inst: &Inst) -> Result<(), CheckError> {
        let engine = t.stream.engine;
        let fault = |reason: String| CheckError::Operand { engine, pc, inst: inst.to_string(), reason };
        for operand in touched(inst) {
            let (patch, role) = match operand {
                Operand::OnChip { view, extent, role, .. } => {
                    let shape = extent
                        .resolve(&t.patterns)
                        .ok_or_else(|| fault("an empty or oversized extent".into()))?;
                    let (first, last) = (u64::from(view.part), u64::from(view.part) + u64::from(shape.parts));
                    if last > self.target.partitions {
                        return Err(fault(format!(
                            "{view}: partition {} of {}",
                            last - 1,
                            self.target.partitions
                        )));
                    }
                    let base = i64::from(view.off) + t.added(view.reg);
                    let unit =
                        i64::from(view.dt.bytes().ok_or_else(|| fault("4-bit elements on chip".into()))?);
                    let patch = Patch::new(first, last, base, unit, shape.n, view.strides.map(i64::from));
                    let limit = match view.space {
                        Space::Spm => self.target.spm_partition_bytes(),
                        Space::Acc => self.target.acc_partition_bytes(),
                    };
                    if patch.low < 0 || patch.high as u64 > limit {
                        return Err(fault(format!("{view}: bytes {}..{} of {limit}", patch.low, patch.high)));
                    }
                    if base % unit != 0 {
                        return Err(fault(format!("{view}: byte {base} is not aligned")));
                    }
                    (patch.on_chip(view.space), role)
                }
                Operand::Dram { ap, reg, role, .. } => {
                    let p = &t.patterns[usize::from(ap.0 & 15)];
                    let base = p.base as i64 + t.added(reg);
                    let unit = i64::from(p.dt.bytes().unwrap_or(1));
                    let size = match inst {
                        // any row may be meant
                        Inst::Dga { .. } | Inst::Dsc { .. } => [p.size[0], p.size[1], p.size[2], 1],
                        _ => p.size,
                    };
                    let patch = Patch::in_dram(base, unit, size, p.stride);
                    if patch.low < 0 || patch.high as u64 > self.dram_bytes {
                        return Err(fault(format!(
                            "DRAM bytes {}..{} of {}",
                            patch.low, patch.high, self.dram_bytes
                        )));
                    }
                    (patch, role)
                }
            };
            if self.executed <= COMPARED {
                self.touch(t, pc, &patch, role)?;
            }
        }
        Ok(())
    }

    fn touch(&mut self, t: &Thread<'_>, pc: u32, patch: &Patch, role: Role) -> Result<(), CheckError> {
        let here = t.stream.engine;
        match self.shadow.access(here, pc, patch, role.writes(), &t.clock) {
            None => Ok(()),
            Some((other, at)) => Err(CheckError::Race {
                memory: patch.memory(),
                first: format!("{other} word {at}"),
                second: format!("{here} word {pc}"),
            }),
        }
    }
}

fn scalar(op: AluOp, a: i64, b: i64) -> Option<i64> {
    Some(match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b)?,
        AluOp::Mod => a.checked_rem(b)?,
        AluOp::And => a & b,
        AluOp::Or => a | b,
        AluOp::Xor => a ^ b,
        AluOp::Shl => a.wrapping_shl(b as u32 & 63),
        AluOp::Shr => a.wrapping_shr(b as u32 & 63),
        AluOp::Min => a.min(b),
        AluOp::Max => a.max(b),
    })
}

/// Position of an engine in clocks.
pub(super) fn index(engine: Engine) -> usize {
    engine.index()
}
