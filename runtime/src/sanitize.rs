//! The sanitizer: what is wrong with a program whatever its timing.
//!
//! It follows a run and notes, with vector clocks that the semaphores carry, which accesses are ordered. Two accesses of
//! one byte by different streams, one of them a write, that nothing orders are a race, also where this run's timing put
//! them into the right order. Since the unit of a semaphore that is taken n-th is the one given n-th, the order between
//! accesses is a property of the program and its inputs, and every race of these inputs is found in one run, the first
//! one of a byte exactly.

use std::rc::Rc;

use indexmap::IndexMap;
use kiln_machine::isa::{AccessPattern, Add, Inst, Operand, Role, Space, View};
use kiln_machine::program::{Buffers, Program};
use kiln_machine::target::Target;

use crate::code::{Code, Step, patterns_of};
use crate::error::{SimError, TrapKind};
use crate::lane::OnChip;
use crate::stream::Stream;

mod cells;
mod clock;
mod finding;
mod footprint;

use cells::{Access, Cells, Conflict, ConflictKind, Stamp};
use clock::{Channel, Clock};
pub use finding::{Bytes, Finding, FindingKind, Memory, Site};
use footprint::Footprint;

/// The highest count of a semaphore.
const MAX_COUNT: u64 = 65535;

/// Waits in a row that are compared with one another.
const WAITS: usize = 32;

/// Findings that are kept; more are only counted.
const KEPT: usize = 1000;

/// An operand of an instruction, ready to be followed.
#[derive(Clone, Debug)]
struct Touch {
    footprint: Rc<Footprint>,
    role: Role,
    reg: Add,
}

/// The operands of an instruction while access patterns hold what they held.
struct Prepared {
    patterns: [AccessPattern; 3],
    touches: Vec<Touch>,
}

/// What the sanitizer knows of a stream.
struct Thread {
    clock: Clock,
    /// Waits since the last instruction that depends on order: step, and what they told.
    waits: Vec<(usize, Clock)>,
    /// For each step: how often it waited, and how often for nothing.
    waited: Vec<(u64, u64)>,
    prepared: Vec<Option<Prepared>>,
    halted: bool,
}

/// Two instructions, by stream and step, and what is wrong between them.
type Key = (FindingKind, (usize, usize), Option<(usize, usize)>);

/// What was found in a run.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// In the order in which they came up; advice last.
    pub list: Vec<Finding>,
    /// Findings beyond those kept.
    pub dropped: u64,
    /// Gathers and scatters whose DRAM side was not followed, since their indices are not known without values.
    pub unfollowed: u64,
}

impl Findings {
    /// Findings that are no advice.
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.list.iter().filter(|finding| !finding.kind.is_advice())
    }
}

/// One device segment under way.
pub(crate) struct Sanitizer<'a> {
    codes: &'a [Code],
    program: &'a Program,
    buffers: Option<&'a Buffers>,
    segment: u32,
    chip_bytes: [u64; 2],
    partitions: u32,
    threads: Vec<Thread>,
    channels: Vec<Channel>,
    cells: Cells,
    index: IndexMap<Key, usize>,
    found: &'a mut Findings,
}

impl<'a> Sanitizer<'a> {
    /// Nothing has happened yet in this segment of the program.
    pub(crate) fn new(
        codes: &'a [Code],
        program: &'a Program,
        segment: u32,
        target: &Target,
        buffers: Option<&'a Buffers>,
        found: &'a mut Findings,
    ) -> Self {
        let thread = |code: &Code| Thread {
            clock: Clock::default(),
            waits: Vec::new(),
            waited: vec![(0, 0); code.steps.len()],
            prepared: code.steps.iter().map(|_| None).collect(),
            halted: code.steps.is_empty(),
        };
        let chip_bytes = [target.spm_partition_bytes(), target.acc_partition_bytes()];
        Self {
            codes,
            program,
            buffers,
            segment,
            chip_bytes,
            partitions: target.partitions as u32,
            threads: codes.iter().map(thread).collect(),
            channels: (0..256).map(|_| Channel::default()).collect(),
            cells: Cells::new(target.partitions as u32, chip_bytes[0], chip_bytes[1]),
            index: IndexMap::new(),
            found,
        }
    }

    /// A stream takes an instruction that can issue. `chip` holds the indices of gathers, where values are computed.
    pub(crate) fn take(&mut self, index: usize, at: usize, stream: &Stream, chip: Option<&OnChip>) {
        let codes = self.codes;
        let step = &codes[index].steps[at];
        match step.inst {
            Inst::Semw { sem, n } => {
                let thread = &mut self.threads[index];
                let time = thread.clock.of(index);
                let told = self.channels[usize::from(sem.0)].take(n, index, time);
                thread.waits.push((at, told.unwrap_or_default()));
                if thread.waits.len() >= WAITS {
                    self.join_waits(index);
                }
            }
            Inst::Sems { sem, n } => {
                self.join_waits(index);
                let thread = &mut self.threads[index];
                thread.clock.tick(index);
                let channel = &mut self.channels[usize::from(sem.0)];
                channel.last = Some((index, at));
                let highest = channel.give(n, &thread.clock);
                if highest > MAX_COUNT {
                    let detail = format!("semaphore {} may count to {highest}", sem.0);
                    self.note(FindingKind::SemaphoreOverflow, (index, at), None, None, || detail);
                }
            }
            Inst::Halt {} => {
                self.join_waits(index);
                self.threads[index].halted = true;
            }
            _ => self.touch(index, at, step, stream, chip),
        }
    }

    /// The stream goes on with what its waits told it, and notes which of them told nothing new.
    fn join_waits(&mut self, index: usize) {
        let Thread { clock, waits, waited, .. } = &mut self.threads[index];
        if waits.is_empty() {
            return;
        }
        // Of two that tell the same the first is redundant.
        for i in 0..waits.len() {
            let mut others = *clock;
            waits[i + 1..].iter().for_each(|(_, told)| others.join(told));
            let (at, told) = waits[i];
            let useless = others.covers(&told);
            waited[at].0 += 1;
            waited[at].1 += u64::from(useless);
            clock.join(&told);
        }
        waits.clear();
    }

    /// The operands of an instruction are read and written.
    fn touch(&mut self, index: usize, at: usize, step: &'a Step, stream: &Stream, chip: Option<&OnChip>) {
        let used = match step.inst {
            Inst::Lutld { ap, .. } => [Some(ap), None, None],
            inst => patterns_of(&inst).unwrap_or_default(),
        };
        let patterns = used.map(|ap| ap.map_or_else(AccessPattern::default, |ap| *stream.pattern(ap)));
        let slot = &mut self.threads[index].prepared[at];
        let prepared = match slot.take() {
            Some(prepared) if prepared.patterns == patterns => prepared,
            _ => Prepared { patterns, touches: touches(&step.inst, stream) },
        };
        let rows = indexed_rows(&step.inst, stream, chip);
        if !prepared.touches.is_empty() {
            self.join_waits(index);
            for touch in &prepared.touches {
                self.access(index, at, &touch.footprint, touch.role, stream.added(touch.reg));
            }
        }
        match rows {
            Rows::None => {}
            Rows::Unknown => self.found.unfollowed += 1,
            Rows::Known { row, role, bases } => {
                for base in bases {
                    self.access(index, at, &row, role, base);
                }
            }
        }
        self.threads[index].prepared[at] = Some(prepared);
        if self.cells.is_large() {
            self.forget();
        }
    }

    fn access(&mut self, index: usize, at: usize, footprint: &Rc<Footprint>, role: Role, base: i64) {
        let (memory, parts) = (footprint.memory, footprint.parts);
        let hull = footprint.hull(base);
        let (size, partitions) = match memory {
            Memory::Dram => (self.program.dram_bytes, 1),
            memory => (self.chip_bytes[memory as usize], self.partitions),
        };
        if hull.0 < 0 || hull.1 > size as i64 || parts.1 > partitions {
            let detail = || match memory {
                Memory::Dram => format!("DRAM bytes {:#x}..{:#x} of {size:#x}", hull.0, hull.1),
                memory => format!(
                    "{} partitions {}..{} of {partitions}, bytes {}..{} of {size}",
                    memory.name(),
                    parts.0,
                    parts.1,
                    hull.0,
                    hull.1
                ),
            };
            self.note(FindingKind::OutOfBounds, (index, at), None, None, detail);
            return;
        }
        self.check_buffers(index, at, memory, parts, hull);
        let clock = self.threads[index].clock;
        let access = Access {
            stamp: Stamp { time: clock.of(index), step: at as u32, stream: index as u8 },
            clock: &clock,
            reads: role.reads(),
            writes: role.writes(),
            strict: memory != Memory::Dram,
        };
        let mut conflicts: Vec<Conflict> = Vec::new();
        self.cells.access(footprint, base, &access, |conflict| {
            let same = |seen: &Conflict| {
                let step = |stamp: Option<Stamp>| stamp.map(|stamp| (stamp.stream, stamp.step));
                seen.kind == conflict.kind && step(seen.earlier) == step(conflict.earlier)
            };
            if !conflicts.iter().any(same) {
                conflicts.push(conflict);
            }
        });
        for Conflict { kind, earlier, parts, bytes } in conflicts {
            let kind = match kind {
                ConflictKind::ReadAfterWrite => FindingKind::ReadAfterWrite,
                ConflictKind::WriteAfterRead => FindingKind::WriteAfterRead,
                ConflictKind::WriteAfterWrite => FindingKind::WriteAfterWrite,
                ConflictKind::Unwritten => FindingKind::Unwritten,
            };
            let earlier = earlier.map(|stamp| (usize::from(stamp.stream), stamp.step as usize));
            let bytes = Some(Bytes { memory, parts, bytes });
            self.note(kind, (index, at), earlier, bytes, String::new);
        }
    }

    /// The operand must lie in one of the buffers that the compiler meant for this instruction.
    fn check_buffers(
        &mut self,
        index: usize,
        at: usize,
        memory: Memory,
        parts: (u32, u32),
        hull: (i64, i64),
    ) {
        let space = match memory {
            Memory::Spm => Space::Spm,
            Memory::Acc => Space::Acc,
            Memory::Dram => return,
        };
        let code = &self.codes[index];
        let Some(buffers) = self.buffers else { return };
        let Some(used) = buffers.of(code.engine, code.steps[at].pc) else { return };
        let places = used.iter().filter_map(|buffer| buffers.places.get(*buffer as usize));
        if !places.clone().any(|place| place.holds(space, hull)) {
            let meant: Vec<String> = places
                .filter(|place| place.space == space)
                .map(|place| format!("{:#x}..{:#x}", place.offset, place.offset + place.bytes))
                .collect();
            let bytes = Bytes { memory, parts, bytes: (hull.0 as u64, hull.1 as u64) };
            let detail = || format!("its buffers lie at {}", meant.join(", "));
            self.note(FindingKind::OutOfBuffer, (index, at), None, Some(bytes), detail);
        }
    }

    fn forget(&mut self) {
        let mut known = Clock::all();
        for (index, thread) in self.threads.iter().enumerate().filter(|(_, thread)| !thread.halted) {
            // A stream knows all of itself.
            let mut own = thread.clock;
            own.complete(index);
            known.meet(&own);
        }
        self.cells.forget(&known);
    }

    /// The segment has come to its end: what is left over, and which waits never told anything.
    pub(crate) fn finish(mut self) {
        for index in 0..self.threads.len() {
            self.join_waits(index);
        }
        for semaphore in 0..self.channels.len() {
            let Channel { given, taken, last, .. } = self.channels[semaphore];
            if let Some(last) = last.filter(|_| given > taken) {
                let detail = move || format!("semaphore {semaphore} ends at {}", given - taken);
                self.note(FindingKind::SemaphoreLeftOver, last, None, None, detail);
            }
        }
        for index in 0..self.threads.len() {
            for at in 0..self.threads[index].waited.len() {
                let (times, useless) = self.threads[index].waited[at];
                if times > 0 && times == useless {
                    self.note(FindingKind::RedundantWait, (index, at), None, None, String::new);
                    let key = (FindingKind::RedundantWait, (index, at), None);
                    if let Some(finding) = self.index.get(&key).and_then(|i| self.found.list.get_mut(*i)) {
                        finding.times = times;
                    }
                }
            }
        }
    }

    /// The run was stopped: what stopped it is a finding, unless it is one already.
    pub(crate) fn stopped(mut self, error: &SimError) {
        match error {
            SimError::Trap(trap) => {
                let kind = match trap.kind {
                    TrapKind::Unwritten { .. }
                    | TrapKind::DramUnwritten { .. }
                    | TrapKind::NoStationary { .. } => FindingKind::Unwritten,
                    TrapKind::OutOfBounds { .. }
                    | TrapKind::NoSuchPartition { .. }
                    | TrapKind::DramOutOfBounds { .. } => FindingKind::OutOfBounds,
                    TrapKind::SemaphoreOverflow { .. } => FindingKind::SemaphoreOverflow,
                    _ => FindingKind::Trap,
                };
                let index = self.codes.iter().position(|code| code.engine.to_string() == trap.engine);
                let at = index.and_then(|i| self.codes[i].steps.iter().position(|step| step.pc == trap.pc));
                if let (Some(index), Some(at)) = (index, at)
                    && !self.index.contains_key(&(kind, (index, at), None))
                {
                    self.note(kind, (index, at), None, None, || trap.kind.to_string());
                }
            }
            SimError::Deadlock { waits, circle, .. } => {
                let sites: Vec<(usize, usize)> = waits
                    .iter()
                    .filter_map(|wait| {
                        let index = self.codes.iter().position(|code| code.engine == wait.engine)?;
                        Some((index, self.codes[index].steps.iter().position(|step| step.pc == wait.pc)?))
                    })
                    .collect();
                let kind = if *circle { FindingKind::Deadlock } else { FindingKind::SemaphoreUnderflow };
                let Some(first) = sites.first() else { return };
                let told: Vec<String> =
                    waits.iter().map(|wait| format!("{} waits: {}", wait.engine, wait.why)).collect();
                self.note(kind, *first, None, None, || told.join("; "));
                let others = sites[1..].iter().map(|site| self.site(*site)).collect();
                if let Some(finding) = self.found.list.last_mut().filter(|finding| finding.kind == kind) {
                    finding.others = others;
                }
            }
            _ => {}
        }
    }

    fn note(
        &mut self,
        kind: FindingKind,
        site: (usize, usize),
        other: Option<(usize, usize)>,
        bytes: Option<Bytes>,
        detail: impl FnOnce() -> String,
    ) {
        let key = (kind, site, other);
        if let Some(known) = self.index.get(&key) {
            if let Some(finding) = self.found.list.get_mut(*known) {
                finding.times += 1;
            }
            return;
        }
        if self.found.list.len() >= KEPT {
            self.found.dropped += 1;
            return;
        }
        self.index.insert(key, self.found.list.len());
        let finding = Finding {
            kind,
            segment: self.segment,
            site: self.site(site),
            others: other.map(|other| self.site(other)).into_iter().collect(),
            bytes,
            detail: detail(),
            times: 1,
        };
        self.found.list.push(finding);
    }

    fn site(&self, (index, at): (usize, usize)) -> Site {
        let code = &self.codes[index];
        let step = &code.steps[at];
        Site {
            engine: code.engine,
            pc: step.pc,
            instruction: step.inst.to_string(),
            origin: code.origin(step.pc, &self.program.origins),
        }
    }
}

/// What an instruction touches, but the DRAM rows that indices name.
fn touches(inst: &Inst, stream: &Stream) -> Vec<Touch> {
    let indexed = matches!(inst, Inst::Dga { .. } | Inst::Dsc { .. });
    let on_chip = |role: Role, view: &View, shape| {
        let memory = match view.space {
            Space::Spm => Memory::Spm,
            Space::Acc => Memory::Acc,
        };
        Touch { footprint: Rc::new(Footprint::on_chip(memory, view, shape)), role, reg: view.reg }
    };
    let mut found: Vec<Touch> = inst
        .operands()
        .into_iter()
        .filter_map(|operand| match operand {
            Operand::OnChip { role, view, extent, .. } => {
                Some(on_chip(role, &view, extent.resolve(&stream.patterns)?))
            }
            Operand::Dram { .. } if indexed => None,
            Operand::Dram { role, ap, reg, .. } => {
                Some(Touch { footprint: Rc::new(Footprint::in_dram(stream.pattern(ap))?), role, reg })
            }
        })
        .collect();
    // What is sent to the own core arrives here.
    if let Inst::Cput { core: 0, dst, shape, .. } = inst {
        found.push(on_chip(Role::Write, dst, *shape));
    }
    found
}

/// The DRAM rows of a gather or scatter.
enum Rows {
    None,
    /// The indices are not known.
    Unknown,
    Known {
        row: Rc<Footprint>,
        role: Role,
        bases: Vec<i64>,
    },
}

fn indexed_rows(inst: &Inst, stream: &Stream, chip: Option<&OnChip>) -> Rows {
    let (role, ap, reg, idx, parts, n0) = match inst {
        Inst::Dga { ap, reg, idx, parts, n0, .. } => (Role::Read, ap, reg, idx, parts, n0),
        Inst::Dsc { ap, reg, idx, parts, n0, .. } => (Role::Write, ap, reg, idx, parts, n0),
        _ => return Rows::None,
    };
    let Some(chip) = chip else { return Rows::Unknown };
    let pattern = stream.pattern(*ap);
    let [_, n1, n2, _] = pattern.size;
    let [pitch, s1, s2, _] = pattern.stride;
    let one = AccessPattern { size: [1, 1, n1, n2], stride: [0, 0, s1, s2], ..*pattern };
    let Some(row) = Footprint::in_dram(&one) else { return Rows::None };
    // Indices that cannot be read, or are none, stop the instruction itself.
    let Ok(place) = chip.place(idx, stream.added(idx.reg), parts.0.into(), [n0.0, 1, 1]) else {
        return Rows::None;
    };
    let mut indices = vec![0i32; n0.0 as usize];
    let mut bases = Vec::new();
    for part in 0..usize::from(parts.0) {
        if chip.lanes[usize::from(idx.part) + part].load(&place, 0, &mut indices).is_err() {
            return Rows::None;
        }
        let valid =
            indices.iter().filter(|index| (0..i64::from(pattern.size[0])).contains(&i64::from(**index)));
        bases.extend(valid.map(|index| {
            stream.added(*reg) + (i64::from(*index) * pitch * i64::from(pattern.dt.bits())).div_euclid(8)
        }));
    }
    bases.sort_unstable();
    bases.dedup();
    Rows::Known { row: Rc::new(row), role, bases }
}
