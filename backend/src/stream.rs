//! Instruction streams: each engine's projection of the block tree, with loops, address registers and patterns.
//!
//! An address is a constant plus a sum over loop counters (and ring slots). Each distinct sum gets a register that the
//! hardware loops step: a loop adds the coefficient of its counter after each iteration and restores the register on
//! exit, so at any point the register holds exactly the sum over the open loops. Two sums share a register if they
//! agree on the loops around both. A ring's register moves to the next slot at the end of the body that makes the
//! instances and is never restored. Where the sums outnumber the registers, the outermost ones are computed before
//! each use, from registers that count iterations.

mod registers;

use std::collections::{BTreeMap, BTreeSet};

use kiln_machine::isa::{AccessPattern, Add, AluOp, Ap, Engine as Unit, Inst, Operand, Pc, Reg, Steps, Word};

use crate::error::BackendError;
use crate::instruction;
use crate::lir::{
    BlockId, Code, DramOpnd, Engine, Item, IvId, Lir, MOp, Opnd, OriginId, ROOT, Storage, Work,
};
use crate::placement::{Placement, Ring};
use crate::sync::{Sem, SyncPlan};
use registers::{PatternKey, Plan, REGISTERS, SCRATCH, Sum, assign, pattern_key};

/// Steps that a hardware loop applies by itself.
const LOOP_STEPS: usize = 4;
/// Hardware loop nest.
const LOOP_DEPTH: usize = 8;
/// Access-pattern registers.
const PATTERNS: usize = 16;

/// The words of one stream and which origins they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmittedStream {
    pub words: Vec<Word>,
    /// First word, one past the last word, origin; ascending and disjoint.
    pub origins: Vec<(u32, u32, OriginId)>,
    /// Instructions as they stand in the text.
    pub instructions: usize,
    /// First word and one past the last word of each group, in the order of [`Lir::groups`].
    pub groups: Vec<(u32, u32)>,
    /// What each operand in memory of each instruction lies in, in their order.
    pub operands: Vec<Option<Storage>>,
    /// What writes a storage first in this stream.
    pub writers: BTreeMap<Storage, OriginId>,
}

/// One engine's share of a block.
#[derive(Clone, Debug)]
enum Node<'a> {
    Wait(Sem, u32),
    Signal(Sem, u32),
    Inst(&'a MOp, OriginId),
    Loop { iv: IvId, body: Vec<Node<'a>>, rings_of: Option<BlockId> },
}

/// Emits the stream of `engine`; empty if it has nothing to do.
pub fn emit(
    lir: &Lir,
    placement: &Placement,
    sync: &SyncPlan,
    engine: Engine,
) -> Result<EmittedStream, BackendError> {
    let mut out = Emitter {
        lir,
        placement,
        insts: Vec::new(),
        loaded: [None; PATTERNS],
        next_pattern: 0,
        dirty: BTreeSet::new(),
        plan: Plan::default(),
        groups: Vec::new(),
        operands: Vec::new(),
        writers: BTreeMap::new(),
    };
    out.counts(sync.credits.get(&engine), false);
    for group in &lir.groups {
        let start = out.insts.len();
        for item in group.items.clone() {
            let mut nodes = Vec::new();
            project(lir, sync, engine, ROOT, item, &mut nodes);
            out.root_item(&nodes)?;
        }
        out.groups.push((start, out.insts.len()));
    }
    if out.insts.is_empty() {
        return Ok(EmittedStream::default());
    }
    out.counts(sync.drains.get(&engine), true);
    out.insts.push((Inst::Halt {}, None));
    out.finish()
}

/// Appends an item's share for one engine.
fn project<'a>(
    lir: &'a Lir,
    sync: &SyncPlan,
    engine: Engine,
    block: BlockId,
    item: usize,
    out: &mut Vec<Node<'a>>,
) {
    let place = (block, item, engine);
    let at = |counts: &crate::sync::Counts| counts.get(&place).cloned().unwrap_or_default();
    out.extend(at(&sync.gifts).into_iter().map(|(sem, n)| Node::Signal(sem, n)));
    out.extend(at(&sync.waits).into_iter().map(|(sem, n)| Node::Wait(sem, n)));
    out.extend(at(&sync.passes).into_iter().map(|(sem, n)| Node::Signal(sem, n)));
    match &lir.blocks[block.index()].items[item] {
        Item::Work(work) if work.engine == engine => {
            code_nodes(work, &work.code, out);
        }
        Item::Work(_) => {}
        Item::Loop(body) => {
            let mut inner = Vec::new();
            let items = lir.blocks[body.index()].items.len();
            (0..items).for_each(|i| project(lir, sync, engine, *body, i, &mut inner));
            match lir.blocks[body.index()].iv {
                Some(iv) if !inner.is_empty() => {
                    out.push(Node::Loop { iv, body: inner, rings_of: Some(*body) })
                }
                _ => {}
            }
        }
    }
    out.extend(at(&sync.signals).into_iter().map(|(sem, n)| Node::Signal(sem, n)));
}

fn code_nodes<'a>(work: &'a Work, code: &'a [Code], out: &mut Vec<Node<'a>>) {
    for c in code {
        match c {
            Code::Inst(op) => out.push(Node::Inst(op, work.origin)),
            Code::Loop { iv, body } => {
                let mut inner = Vec::new();
                code_nodes(work, body, &mut inner);
                out.push(Node::Loop { iv: *iv, body: inner, rings_of: None });
            }
        }
    }
}

struct Emitter<'a> {
    lir: &'a Lir,
    placement: &'a Placement,
    insts: Vec<(Inst, Option<OriginId>)>,
    loaded: [Option<AccessPattern>; PATTERNS],
    next_pattern: usize,
    /// Registers that may not be zero between root items.
    dirty: BTreeSet<usize>,
    plan: Plan,
    /// First instruction and one past the last of each group.
    groups: Vec<(usize, usize)>,
    /// See [`EmittedStream`].
    operands: Vec<Option<Storage>>,
    writers: BTreeMap<Storage, OriginId>,
}

impl<'a> Emitter<'a> {
    fn push(&mut self, inst: Inst, origin: Option<OriginId>) {
        self.insts.push((inst, origin));
    }

    fn counts(&mut self, list: Option<&Vec<(Sem, u32)>>, wait: bool) {
        for (sem, n) in list.into_iter().flatten() {
            let inst = if wait { instruction::wait(*sem, *n) } else { instruction::signal(*sem, *n) };
            self.push(inst, None);
        }
    }

    fn root_item(&mut self, nodes: &[Node<'a>]) -> Result<(), BackendError> {
        let mut uses = Vec::new();
        let mut patterns: Vec<(usize, AccessPattern)> = Vec::new();
        self.survey(nodes, &mut Vec::new(), &mut uses, &mut patterns)?;
        self.plan = assign(&uses)?;
        for (r, meaning) in self.plan.meanings.iter().enumerate() {
            if self.dirty.remove(&(r + 1)) {
                self.insts.push((Inst::Li { rd: Reg(r as u8 + 1), imm: 0 }, None));
            }
            if meaning.ring.is_some() {
                self.dirty.insert(r + 1);
            }
        }
        if nodes.iter().any(|n| matches!(n, Node::Loop { .. })) {
            self.hoist(&patterns);
        }
        self.nodes(nodes, 0)?;
        if self.plan.computes {
            self.dirty.extend(REGISTERS + 1 - SCRATCH..=REGISTERS);
        }
        Ok(())
    }

    /// Collects the sums with the loops open around them, and the patterns with their loop depth.
    fn survey(
        &self,
        nodes: &[Node<'a>],
        open: &mut Vec<(IvId, Option<BlockId>)>,
        uses: &mut Vec<(Sum, Vec<IvId>)>,
        patterns: &mut Vec<(usize, AccessPattern)>,
    ) -> Result<(), BackendError> {
        for node in nodes {
            match node {
                Node::Wait(..) | Node::Signal(..) => {}
                Node::Loop { iv, body, rings_of } => {
                    open.push((*iv, *rings_of));
                    self.survey(body, open, uses, patterns)?;
                    open.pop();
                }
                Node::Inst(op, _) => {
                    let mut failure = None;
                    let mut note = |sum: Sum| {
                        if let Some(ring) = sum.ring {
                            let home = open.iter().position(|(_, b)| *b == Some(ring.block));
                            let inside = |iv: &IvId| open.iter().position(|(o, _)| o == iv) > home;
                            if !sum.terms.keys().all(inside) {
                                failure = Some("a ring buffer is indexed by a loop around it");
                            }
                        }
                        if sum != Sum::default() {
                            uses.push((sum, open.iter().map(|(iv, _)| *iv).collect()));
                        }
                    };
                    for opnd in op.on_chip() {
                        note(self.sum_of(opnd));
                    }
                    if let Some(d) = op.dram() {
                        note(Sum { ring: None, terms: d.terms.clone() });
                        patterns.push((open.len(), self.pattern(d)));
                    }
                    if let Some(terms) = op.scalar_terms() {
                        note(Sum { ring: None, terms: terms.clone() });
                    }
                    if let Some(reason) = failure {
                        return Err(BackendError::Encoding { op: format!("{op:?}"), reason: reason.into() });
                    }
                }
            }
        }
        Ok(())
    }

    fn sum_of(&self, opnd: &Opnd) -> Sum {
        Sum { ring: self.placement.slots[opnd.addr.buf.index()].ring, terms: opnd.addr.terms.clone() }
    }

    fn pattern(&self, d: &DramOpnd) -> AccessPattern {
        let base = self.placement.drams[d.dram.index()].base.wrapping_add_signed(d.off);
        AccessPattern { dt: d.dt, base, size: d.sizes, stride: d.strides }
    }

    /// Sets the patterns of an item with loops before it: all if they fit, else the innermost ones.
    fn hoist(&mut self, patterns: &[(usize, AccessPattern)]) {
        let mut wanted: Vec<(usize, PatternKey, AccessPattern)> = Vec::new();
        for (depth, p) in patterns {
            match wanted.iter_mut().find(|(_, key, _)| *key == pattern_key(p)) {
                Some(known) => known.0 = known.0.max(*depth),
                None => wanted.push((*depth, pattern_key(p), *p)),
            }
        }
        let room = if wanted.len() <= PATTERNS { PATTERNS } else { PATTERNS - 1 };
        wanted.sort_by_key(|w| std::cmp::Reverse(w.0));
        wanted.truncate(room);
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        let mut missing = Vec::new();
        for (_, key, p) in &wanted {
            match self.loaded.iter().take(room).position(|l| l.as_ref() == Some(p)) {
                Some(ap) => {
                    taken.insert(ap);
                    self.plan.hoisted.insert(*key, ap);
                }
                None => missing.push((*key, *p)),
            }
        }
        let mut free = (0..room).filter(|ap| !taken.contains(ap)).collect::<Vec<_>>().into_iter();
        for (key, p) in missing {
            if let Some(ap) = free.next() {
                self.set_pattern(ap, p, None);
                self.plan.hoisted.insert(key, ap);
            }
        }
    }

    fn set_pattern(&mut self, ap: usize, pattern: AccessPattern, origin: Option<OriginId>) {
        self.loaded[ap] = Some(pattern);
        self.push(Inst::Apset { ap: Ap(ap as u8), pattern }, origin);
    }

    /// The register that holds a pattern here, setting one if need be.
    fn pattern_register(&mut self, pattern: AccessPattern, depth: usize, origin: OriginId) -> Ap {
        if let Some(ap) = self.plan.hoisted.get(&pattern_key(&pattern)) {
            return Ap(*ap as u8);
        }
        if depth > 0 {
            self.set_pattern(PATTERNS - 1, pattern, Some(origin));
            return Ap(PATTERNS as u8 - 1);
        }
        if let Some(ap) = self.loaded.iter().position(|l| *l == Some(pattern)) {
            return Ap(ap as u8);
        }
        let held: BTreeSet<usize> = self.plan.hoisted.values().copied().collect();
        let mut ap = self.next_pattern;
        while held.contains(&ap) && held.len() < PATTERNS {
            ap = (ap + 1) % PATTERNS;
        }
        self.next_pattern = (ap + 1) % PATTERNS;
        self.set_pattern(ap, pattern, Some(origin));
        Ap(ap as u8)
    }

    /// The registers of an instruction's sums, those without one computed here into scratch registers.
    fn sums(&mut self, op: &MOp, origin: OriginId) -> BTreeMap<Sum, Add> {
        let mut out = BTreeMap::new();
        let mut scratch = REGISTERS + 1 - SCRATCH;
        for sum in self.sums_of(op) {
            if sum == Sum::default() || out.contains_key(&sum) {
                continue;
            }
            if let Some(r) = self.plan.registers.get(&sum) {
                out.insert(sum, Add(*r as u8));
                continue;
            }
            let (rd, product) = (Reg(scratch as u8), Reg(REGISTERS as u8));
            let mut held = Reg(0);
            for (part, coef) in sum.factors() {
                let ra = self.plan.registers.get(&part).map_or(Reg(0), |r| Reg(*r as u8));
                let times = Inst::Alu { op: AluOp::Mul, rd: product, ra, rb: Reg(0), imm: coef };
                self.push(times, Some(origin));
                self.push(Inst::Alu { op: AluOp::Add, rd, ra: held, rb: product, imm: 0 }, Some(origin));
                held = rd;
            }
            out.insert(sum, Add(held.0));
            scratch += 1;
        }
        out
    }

    /// The address sums of an instruction, in operand order.
    fn sums_of(&self, op: &MOp) -> Vec<Sum> {
        let mut sums: Vec<Sum> = op.on_chip().iter().map(|o| self.sum_of(o)).collect();
        sums.extend(op.dram().map(|d| Sum { ring: None, terms: d.terms.clone() }));
        sums.extend(op.scalar_terms().map(|t| Sum { ring: None, terms: t.clone() }));
        sums
    }

    fn nodes(&mut self, nodes: &[Node<'a>], depth: usize) -> Result<(), BackendError> {
        for node in nodes {
            match node {
                Node::Wait(sem, n) => self.push(instruction::wait(*sem, *n), None),
                Node::Signal(sem, n) => self.push(instruction::signal(*sem, *n), None),
                Node::Inst(op, origin) => {
                    let ap =
                        op.dram().map(|d| self.pattern(d)).map(|p| self.pattern_register(p, depth, *origin));
                    let sums = self.sums(op, *origin);
                    let register = |sum: &Sum| sums.get(sum).copied().unwrap_or(Add::NONE);
                    let resolved = instruction::Resolved {
                        view: &|opnd: &Opnd| {
                            instruction::view(opnd, self.placement, register(&self.sum_of(opnd)))
                        },
                        ap: ap.unwrap_or(Ap(0)),
                        reg: op
                            .dram()
                            .map_or(Add::NONE, |d| register(&Sum { ring: None, terms: d.terms.clone() })),
                        scalar: op
                            .scalar_terms()
                            .map_or(Add::NONE, |t| register(&Sum { ring: None, terms: t.clone() })),
                    };
                    let inst = instruction::build(op, &resolved)?;
                    self.note_operands(op, &inst, *origin);
                    self.push(inst, Some(*origin));
                }
                Node::Loop { iv, body, rings_of } => self.hardware_loop(*iv, body, *rings_of, depth)?,
            }
        }
        Ok(())
    }

    /// Keeps what the operands of an instruction lie in. Both list theirs in the order of the row.
    fn note_operands(&mut self, op: &MOp, inst: &Inst, origin: OriginId) {
        let mut on_chip = op.on_chip().into_iter();
        for operand in inst.operands() {
            let (storage, role) = match operand {
                Operand::OnChip { role, .. } => {
                    (on_chip.next().map(|opnd| Storage::Buf(opnd.addr.buf)), role)
                }
                Operand::Dram { role, .. } => (op.dram().map(|d| Storage::Dram(d.dram)), role),
            };
            if let Some(storage) = storage.filter(|_| role.writes()) {
                self.writers.entry(storage).or_insert(origin);
            }
            self.operands.push(storage);
        }
    }

    fn hardware_loop(
        &mut self,
        iv: IvId,
        body: &[Node<'a>],
        rings_of: Option<BlockId>,
        depth: usize,
    ) -> Result<(), BackendError> {
        let trip = self.lir.trip(iv);
        if trip == 0 {
            return Ok(());
        }
        let used = self.registers_in(body);
        let step = |r: &usize| self.plan.meanings[r - 1].terms.get(&iv).map(|s| (Reg(*r as u8), *s));
        let steps: Vec<(Reg, i64)> =
            if trip > 1 { used.iter().filter_map(step).collect() } else { Vec::new() };
        let moves: Vec<(usize, Ring)> = used
            .iter()
            .filter_map(|r| self.plan.meanings[r - 1].ring.map(|ring| (*r, ring)))
            .filter(|(_, ring)| Some(ring.block) == rings_of)
            .collect();
        let (hardware, manual) = steps.split_at(steps.len().min(LOOP_STEPS));
        let too_deep = depth >= LOOP_DEPTH;
        let count = u32::try_from(trip).ok().filter(|_| !too_deep || trip == 1);
        let (Some(count), Some(step)) = (count, Steps::of(hardware)) else {
            let reason = format!("a loop of {trip} iterations inside {depth} loops has no encoding");
            return Err(BackendError::Encoding { op: "loop".into(), reason });
        };
        let open = self.insts.len();
        let inner = if trip > 1 {
            self.push(Inst::Loop { count, rc: Add::NONE, end: Pc(0), step }, None);
            depth + 1
        } else {
            depth
        };
        self.nodes(body, inner)?;
        for (r, ring) in moves {
            let (rd, pitch) = (Reg(r as u8), ring.pitch as i64);
            let r0 = Reg(0);
            if ring.depth == 2 {
                self.push(Inst::Alu { op: AluOp::Sub, rd, ra: r0, rb: rd, imm: -pitch }, None);
            } else {
                self.push(Inst::Alu { op: AluOp::Add, rd, ra: rd, rb: r0, imm: pitch }, None);
                let wrap = pitch * i64::from(ring.depth);
                self.push(Inst::Alu { op: AluOp::Mod, rd, ra: rd, rb: r0, imm: wrap }, None);
            }
        }
        for (r, s) in manual {
            self.push(Inst::Alu { op: AluOp::Add, rd: *r, ra: *r, rb: Reg(0), imm: *s }, None);
        }
        if trip > 1 {
            let end = self.insts.len();
            self.push(Inst::Endl {}, None);
            // the instruction's index for now; `finish` turns it into a word
            self.insts[open].0 = Inst::Loop { count, rc: Add::NONE, end: Pc(end as u32), step };
        }
        for (r, s) in manual {
            self.push(Inst::Alu { op: AluOp::Add, rd: *r, ra: *r, rb: Reg(0), imm: -s * trip as i64 }, None);
        }
        Ok(())
    }

    fn registers_in(&self, nodes: &[Node<'a>]) -> BTreeSet<usize> {
        let mut used = BTreeSet::new();
        for node in nodes {
            match node {
                Node::Wait(..) | Node::Signal(..) => {}
                Node::Loop { body, .. } => used.extend(self.registers_in(body)),
                Node::Inst(op, _) => {
                    for sum in self.sums_of(op) {
                        match self.plan.registers.get(&sum) {
                            Some(r) => {
                                used.insert(*r);
                            }
                            None => used.extend(sum.parts().filter_map(|p| self.plan.registers.get(&p))),
                        }
                    }
                }
            }
        }
        used
    }

    fn finish(self) -> Result<EmittedStream, BackendError> {
        let mut starts = Vec::with_capacity(self.insts.len());
        let mut at = 0;
        for (inst, _) in &self.insts {
            starts.push(at);
            at += inst.words();
        }
        starts.push(at);
        let groups = self.groups.iter().map(|&(first, end)| (starts[first], starts[end])).collect();
        let mut out = EmittedStream {
            instructions: self.insts.len(),
            groups,
            operands: self.operands,
            writers: self.writers,
            ..EmittedStream::default()
        };
        for (i, (inst, origin)) in self.insts.iter().enumerate() {
            let inst = match *inst {
                Inst::Loop { count, rc, end, step } => {
                    Inst::Loop { count, rc, end: Pc(starts[end.0 as usize]), step }
                }
                other => other,
            };
            inst.encode(&mut out.words)
                .map_err(|e| BackendError::Encoding { op: inst.to_string(), reason: e.to_string() })?;
            let Some(origin) = *origin else { continue };
            let end = starts[i] + inst.words();
            match out.origins.last_mut() {
                Some(last) if last.2 == origin && last.1 == starts[i] => last.1 = end,
                _ => out.origins.push((starts[i], end, origin)),
            }
        }
        Ok(out)
    }
}

/// The machine's name of an engine.
pub fn unit(engine: Engine) -> Option<Unit> {
    Unit::from_index(engine.index())
}
