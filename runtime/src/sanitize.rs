//! The sanitizer: what is wrong with a program whatever its timing.
//!
//! It follows a run and notes, with vector clocks that the semaphores carry, which accesses are ordered. Two accesses of
//! one byte by different streams, one of them a write, that nothing orders are a race, also where this run's timing put
//! them into the right order. Since the unit of a semaphore that is taken n-th is the one given n-th, the order between
//! accesses is a property of the program and its inputs, and every race of these inputs is found in one run, the first
//! one of a byte exactly. Several cores are followed together: each has its memories on chip and its semaphores, DRAM is
//! one, and barriers and reductions order them.

use indexmap::IndexMap;
use kiln_machine::isa::{AccessPattern, Inst, Operand};
use kiln_machine::program::{Buffer, Program, Segment};
use kiln_machine::target::Target;

use crate::code::{Code, Step, patterns_of};
use crate::error::{SimError, TrapKind};
use crate::lane::OnChip;
use crate::stream::Stream;

mod cells;
mod clock;
mod finding;
mod footprint;
mod operand;

use cells::{Access, Cells, Conflict, ConflictKind, Stamp};
use clock::{Channel, Clock};
pub use finding::{Bytes, Finding, FindingKind, Memory, Site};
use operand::{Rows, Touch};

/// The highest count of a semaphore.
const MAX_COUNT: u64 = 65535;

/// Semaphores that an instruction can name.
const SEMAPHORES: usize = 256;

/// Waits in a row that are compared with one another.
const WAITS: usize = 32;

/// Findings that are kept; more are only counted.
const KEPT: usize = 1000;

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
    /// All cores, and the place of each stream's among them.
    cores: Vec<u8>,
    slots: Vec<usize>,
    program: &'a Program,
    buffers: &'a [Buffer],
    segment: u32,
    chip_bytes: [u64; 2],
    partitions: u32,
    threads: Vec<Thread>,
    /// The semaphores of one core after another's.
    channels: Vec<Channel>,
    cells: Cells,
    index: IndexMap<Key, usize>,
    found: &'a mut Findings,
}

impl<'a> Sanitizer<'a> {
    /// Nothing has happened yet in this segment of the program.
    pub(crate) fn new(
        codes: &'a [Code],
        cores: &[u8],
        program: &'a Program,
        segment: usize,
        target: &Target,
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
        let slot = |code: &Code| cores.iter().position(|core| *core == code.core).unwrap_or(0);
        let buffers = match program.segments.get(segment) {
            Some(Segment::Device(device)) => &device.buffers[..],
            _ => &[],
        };
        Self {
            codes,
            cores: cores.to_vec(),
            slots: codes.iter().map(slot).collect(),
            program,
            buffers,
            segment: segment as u32,
            chip_bytes,
            partitions: target.partitions as u32,
            threads: codes.iter().map(thread).collect(),
            channels: (0..cores.len() * SEMAPHORES).map(|_| Channel::default()).collect(),
            cells: Cells::new(cores.len(), target.partitions as u32, chip_bytes),
            index: IndexMap::new(),
            found,
        }
    }

    /// A stream takes an instruction that can issue. `chip` holds the indices of gathers, where values are computed.
    pub(crate) fn take(&mut self, index: usize, at: usize, stream: &Stream, chip: Option<&mut OnChip>) {
        let codes = self.codes;
        let step = &codes[index].steps[at];
        match step.inst {
            Inst::Semw { sem, n } => {
                let channel = self.slots[index] * SEMAPHORES + usize::from(sem.0);
                let thread = &mut self.threads[index];
                let time = thread.clock.of(index);
                let told = self.channels[channel].take(n, index, time);
                thread.waits.push((at, told.unwrap_or_default()));
                if thread.waits.len() >= WAITS {
                    self.join_waits(index);
                }
            }
            Inst::Sems { sem, n } => {
                self.join_waits(index);
                let channel = self.slots[index] * SEMAPHORES + usize::from(sem.0);
                let thread = &mut self.threads[index];
                thread.clock.tick(index);
                let channel = &mut self.channels[channel];
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
            // What they do is done when all have come.
            Inst::Bar { .. } | Inst::Cred { .. } => {}
            _ => self.touch(index, at, step, stream, chip),
        }
    }

    /// Streams of several cores have come to a barrier or a reduction and go on together. A reduction takes place when
    /// all have come, and nobody goes on before it is complete.
    pub(crate) fn meet(&mut self, members: &[usize], streams: &[Stream]) {
        self.join_all(members);
        let mut reduces = false;
        for &index in members {
            let at = streams[index].at;
            let step = &self.codes[index].steps[at];
            if matches!(step.inst, Inst::Cred { .. }) {
                self.touch(index, at, step, &streams[index], None);
                reduces = true;
            }
        }
        if reduces {
            self.join_all(members);
        }
    }

    /// Each of these streams knows from now on what any of them has done and known.
    fn join_all(&mut self, members: &[usize]) {
        let mut all = Clock::default();
        for &index in members {
            self.join_waits(index);
            self.threads[index].clock.tick(index);
            all.join(&self.threads[index].clock);
        }
        members.iter().for_each(|index| self.threads[*index].clock = all.clone());
    }

    /// The stream goes on with what its waits told it, and notes which of them told nothing new.
    fn join_waits(&mut self, index: usize) {
        let Thread { clock, waits, waited, .. } = &mut self.threads[index];
        if waits.is_empty() {
            return;
        }
        // Of two that tell the same the first is redundant.
        for i in 0..waits.len() {
            let mut others = clock.clone();
            waits[i + 1..].iter().for_each(|(_, told)| others.join(told));
            let (at, told) = &waits[i];
            let useless = others.covers(told);
            waited[*at].0 += 1;
            waited[*at].1 += u64::from(useless);
            clock.join(told);
        }
        waits.clear();
    }

    /// The operands of an instruction are read and written.
    fn touch(&mut self, index: usize, at: usize, step: &'a Step, stream: &Stream, chip: Option<&mut OnChip>) {
        let used = match step.inst {
            Inst::Lutld { ap, .. } => [Some(ap), None, None],
            inst => patterns_of(&inst).unwrap_or_default(),
        };
        let patterns = used.map(|ap| ap.map_or_else(AccessPattern::default, |ap| *stream.pattern(ap)));
        let (code, core) = (&self.codes[index], self.slots[index]);
        let slot = &mut self.threads[index].prepared[at];
        let prepared = match slot.take() {
            Some(prepared) if prepared.patterns == patterns => prepared,
            _ => Prepared { patterns, touches: operand::touches(step, code, core, &self.cores, stream) },
        };
        let rows = operand::indexed_rows(step, code, core, stream, chip);
        let table = operand::table(step, code, core, stream);
        if !prepared.touches.is_empty() {
            self.join_waits(index);
            for touch in &prepared.touches {
                self.access(index, at, touch, stream.added(touch.reg));
            }
        }
        // The indices of this run do not name every row that those of another may.
        if let Some(table) = table {
            self.check_buffer(index, at, &table, table.footprint.hull(stream.added(table.reg)));
        }
        match rows {
            Rows::None => {}
            Rows::Unknown => self.found.unfollowed += 1,
            Rows::Known { row, bases } => bases.iter().for_each(|base| self.access(index, at, &row, *base)),
        }
        self.threads[index].prepared[at] = Some(prepared);
        if self.cells.is_large() {
            self.forget();
        }
    }

    fn access(&mut self, index: usize, at: usize, touch: &Touch, base: i64) {
        let Touch { footprint, role, core, .. } = touch;
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
        self.check_buffer(index, at, touch, hull);
        let clock = &self.threads[index].clock;
        let access = Access {
            stamp: Stamp { time: clock.of(index), step: at as u32, stream: index as u16 },
            clock,
            reads: role.reads(),
            writes: role.writes(),
            strict: memory != Memory::Dram,
        };
        let mut conflicts: Vec<Conflict> = Vec::new();
        self.cells.access(*core, footprint, base, &access, |conflict| {
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
                ConflictKind::Unread => FindingKind::Unread,
            };
            let earlier = earlier.map(|stamp| (usize::from(stamp.stream), stamp.step as usize));
            let bytes = Bytes { core: self.cores[*core], memory, parts, bytes };
            match earlier.filter(|_| kind == FindingKind::Unread) {
                Some(writer) => self.unread(writer, Some((index, at)), bytes),
                None => self.note(kind, (index, at), earlier, Some(bytes), String::new),
            }
        }
    }

    /// Bytes were written for nothing. What a buffer holds is meant to be read; what lies in none may be left over. A value
    /// may be spread over more partitions than are read: what counts is the first one of its writer. An instruction that
    /// gives several results may be there for one of them: the others are meant to be read if something ever does.
    fn unread(&mut self, writer: (usize, usize), other: Option<(usize, usize)>, bytes: Bytes) {
        let code = &self.codes[writer.0];
        let step = &code.steps[writer.1];
        let operands = step.inst.operands();
        let several = operands.iter().filter(|operand| operand.role().writes()).count() > 1;
        let is_meant = |(number, operand): (usize, &Operand)| {
            let Operand::OnChip { role, view, .. } = operand else { return false };
            let Some(number) = code.buffer(step, number) else { return false };
            let holds = self.buffers.get(number as usize).is_some_and(|buffer| {
                let (first, end) = buffer.hull();
                buffer.memory == bytes.memory && first < bytes.bytes.1 && bytes.bytes.0 < end
            });
            let starts = role.writes() && holds && bytes.parts.0 <= view.part.into();
            starts && (!several || self.is_ever_read(number))
        };
        if operands.iter().enumerate().any(is_meant) {
            self.note(FindingKind::Unread, writer, other, Some(bytes), String::new);
        }
    }

    /// Whether an instruction of the segment reads the buffer.
    fn is_ever_read(&self, buffer: u32) -> bool {
        self.codes.iter().any(|code| {
            code.steps.iter().any(|step| {
                let reads = |(number, operand): (usize, &Operand)| {
                    operand.role().reads() && code.buffer(step, number) == Some(buffer)
                };
                step.inst.operands().iter().enumerate().any(reads)
            })
        })
    }

    /// An operand must lie in the buffer that it belongs to.
    fn check_buffer(&mut self, index: usize, at: usize, touch: &Touch, hull: (i64, i64)) {
        let buffer = touch.buffer.and_then(|number| self.buffers.get(number as usize));
        let Some(buffer) = buffer.filter(|buffer| !buffer.holds(touch.footprint.parts, hull)) else { return };
        let bytes = Bytes {
            core: self.cores[touch.core],
            memory: touch.footprint.memory,
            parts: touch.footprint.parts,
            bytes: (hull.0 as u64, hull.1 as u64),
        };
        let (offset, end) = buffer.hull();
        let place = Bytes { parts: buffer.parts, bytes: (offset, end), ..bytes };
        let origin = buffer.origin.and_then(|origin| self.program.origins.get(origin as usize));
        let detail = || {
            let origin = origin.map_or(String::new(), |origin| format!(" [{origin}]"));
            let slots = match buffer.slots {
                1 => String::new(),
                slots => format!(", {slots} slots of {} bytes", buffer.bytes),
            };
            format!("it belongs to {}{origin}: {place}{slots}", buffer.name)
        };
        self.note(FindingKind::OutOfBuffer, (index, at), None, Some(bytes), detail);
    }

    fn forget(&mut self) {
        let mut known = Clock::all(self.threads.len());
        for (index, thread) in self.threads.iter().enumerate().filter(|(_, thread)| !thread.halted) {
            // A stream knows all of itself.
            let mut own = thread.clock.clone();
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
        let mut unread = Vec::new();
        self.cells.unread(|core, memory, Conflict { earlier, parts, bytes, .. }| {
            let writer = earlier.map(|stamp| (usize::from(stamp.stream), stamp.step as usize));
            unread.extend(
                writer.map(|writer| (writer, Bytes { core: self.cores[core], memory, parts, bytes })),
            );
        });
        for (writer, bytes) in unread {
            self.unread(writer, None, bytes);
        }
        for semaphore in 0..self.channels.len() {
            let Channel { given, taken, last, .. } = self.channels[semaphore];
            if let Some(last) = last.filter(|_| given > taken) {
                let number = semaphore % SEMAPHORES;
                let detail = move || format!("semaphore {number} ends at {}", given - taken);
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
                let index = self.codes.iter().position(|code| code.name() == trap.engine);
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
                        let of = |code: &Code| (code.core, code.engine) == (wait.core, wait.engine);
                        let index = self.codes.iter().position(of)?;
                        Some((index, self.codes[index].steps.iter().position(|step| step.pc == wait.pc)?))
                    })
                    .collect();
                let Some(first) = sites.first() else { return };
                let is_semaphore = |(index, at): &(usize, usize)| {
                    matches!(self.codes[*index].steps[*at].inst, Inst::Semw { .. })
                };
                let kind = match sites.last().is_some_and(is_semaphore) && !circle {
                    true => FindingKind::SemaphoreUnderflow,
                    false => FindingKind::Deadlock,
                };
                let told: Vec<String> = sites
                    .iter()
                    .zip(waits)
                    .map(|((index, _), wait)| format!("{}: {}", self.codes[*index].name(), wait.why))
                    .collect();
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
            core: code.core,
            engine: code.engine,
            pc: step.pc,
            instruction: step.inst.to_string(),
            origin: code.origin(step.pc, &self.program.origins),
        }
    }
}
