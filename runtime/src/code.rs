//! A stream's words decoded once, with everything about an instruction that does not change while it runs.

pub(crate) mod ahead;
pub(crate) mod nest;

use kiln_machine::duration::{self, Cost};
use kiln_machine::isa::{
    AccessPattern, Add, AluOp, Ap, Class, Csr, Dt, Engine, Extent, Inst, Operand, Pc, Shape, Space, View,
    Word,
};
use kiln_machine::program::{OriginRange, Stream};
use kiln_machine::target::Target;

use crate::error::{SimError, TrapKind};
use nest::Nests;

/// The instructions of one stream.
pub(crate) struct Code {
    pub(crate) core: u8,
    pub(crate) engine: Engine,
    pub(crate) steps: Vec<Step>,
    /// Index into `steps` of the instruction that starts at a word, or `NOWHERE`.
    index_of_word: Vec<u32>,
    pub(crate) origins: Vec<OriginRange>,
    /// Buffers of operands in memory, from [`Step::operands`] on; empty if none is known.
    buffers: Vec<Option<u32>>,
    /// Number of operands in memory.
    operands: usize,
    /// Number of instructions whose cost depends on access patterns.
    pub(crate) dynamic: usize,
    /// Number of `loop` instructions.
    pub(crate) loops: usize,
    /// What the matrix engine does without looking at others.
    pub(crate) nests: Nests,
    /// Registers whose values can change the order or the time of instructions.
    pub(crate) control_registers: u32,
    /// Whether some of these are set from the cycle.
    pub(crate) by_clock: bool,
    /// Whether values decide on traps or addresses: indices, scalars from memory, the cycle.
    pub(crate) by_values: bool,
}

const NOWHERE: u32 = u32::MAX;

/// An instruction, prepared.
pub(crate) struct Step {
    /// The word it starts at.
    pub(crate) pc: u32,
    pub(crate) inst: Inst,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    /// Its cost, unless that depends on an access pattern.
    pub(crate) cost: Cost,
    /// Its number among those whose cost depends on an access pattern.
    pub(crate) dynamic: Option<u32>,
    /// What it touches in the scratchpad, but what depends on an access pattern.
    pub(crate) touches: Box<[Touch]>,
    /// Its number among the `loop` instructions.
    pub(crate) loop_number: u32,
    /// Whether it can be taken before its time comes.
    pub(crate) ahead: bool,
    /// Index into the stream's origins; their number if it has none.
    pub(crate) origin: u32,
    /// Operands in memory of the instructions before it.
    operands: u32,
}

/// How an instruction is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It concerns nothing but its stream.
    Own,
    /// The same, and a loop may begin.
    Loop,
    /// It waits for a semaphore.
    Wait,
    /// It signals one.
    Signal,
    /// Anything else.
    Other,
}

/// What an instruction asks of its unit.
pub(crate) enum Unit {
    /// Nothing: control.
    None,
    Product(Box<Product>),
    /// A stationary load: array rows.
    Load {
        rows: (u32, u32),
    },
    /// A transfer on a queue.
    Transfer,
    /// A VEC, ACT or COL instruction, or a transfer that is not on a queue: one at a time.
    Whole,
}

/// A product: array rows and the accumulators, whose register is added to the bytes.
pub(crate) struct Product {
    pub(crate) rows: (u64, u64),
    pub(crate) dst: View,
    pub(crate) parts: (u64, u64),
    pub(crate) bytes: (i64, i64),
    pub(crate) n: [u32; 3],
}

/// What one execution counts besides its cost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Work {
    /// Multiply-accumulates with an energy each.
    pub(crate) macs: u64,
    pub(crate) width: Width,
    pub(crate) vec_elements: u64,
    pub(crate) act_elements: u64,
}

/// Which energy a product takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Width {
    #[default]
    F32 = 0,
    Half = 1,
    Byte = 2,
}

impl Code {
    /// Decode the words of a stream of a core.
    pub(crate) fn decode(
        core: u8,
        engine: Engine,
        stream: &Stream,
        target: &Target,
    ) -> Result<Self, SimError> {
        let words: &[Word] = &stream.words;
        if let Engine::Queue(queue) = engine
            && u64::from(queue) >= target.dma_queues
        {
            let reason = format!("the machine has {} DMA queues", target.dma_queues);
            return Err(SimError::Illegal { engine: name(core, engine), pc: 0, reason });
        }
        if u64::from(core) >= target.cores {
            let reason = format!("the machine has {} cores", target.cores);
            return Err(SimError::Illegal { engine: name(core, engine), pc: 0, reason });
        }
        let mut code = Self {
            core,
            engine,
            steps: Vec::with_capacity(words.len()),
            index_of_word: vec![NOWHERE; words.len()],
            origins: stream.origins.clone(),
            buffers: stream.buffers.clone(),
            operands: 0,
            dynamic: 0,
            loops: 0,
            nests: Nests::default(),
            control_registers: 0,
            by_clock: false,
            by_values: false,
        };
        let mut pc = 0;
        while pc < words.len() {
            let illegal =
                |reason: String| SimError::Illegal { engine: name(core, engine), pc: pc as u32, reason };
            let (inst, length) = Inst::decode(&words[pc..]).map_err(|error| illegal(error.to_string()))?;
            if !engine.runs(inst.class()) {
                return Err(illegal(format!("`{}` does not run on this engine", inst.mnemonic())));
            }
            // What the machine lacks is refused at once, not when it is reached.
            let absent = match inst {
                Inst::Ldwt { .. } => target.has_ldwt == 0,
                Inst::Mtrn { .. } => target.has_mtrn == 0,
                Inst::Mmax { .. } => target.has_mmax == 0,
                _ => false,
            };
            if absent {
                return Err(illegal(format!("target `{}` has no `{}`", target.name, inst.mnemonic())));
            }
            code.index_of_word[pc] = code.steps.len() as u32;
            code.push(pc as u32, inst, target);
            pc += length;
        }
        code.control_registers = control_registers(&code.steps);
        for step in &code.steps {
            match step.inst {
                Inst::ReadCsr { rd, which: Csr::Cycle } => {
                    code.by_clock |= code.control_registers >> (rd.0 & 31) & 1 == 1;
                    code.by_values = true;
                }
                Inst::Lds { .. } | Inst::Dga { .. } | Inst::Dsc { .. } | Inst::Vshuf { .. } => {
                    code.by_values = true;
                }
                _ => {}
            }
        }
        ahead::mark(&mut code, target);
        code.nests = Nests::find(&code);
        Ok(code)
    }

    fn push(&mut self, pc: u32, inst: Inst, target: &Target) {
        let none = [AccessPattern::default(); 16];
        let dynamic = patterns_of(&inst).map(|_| self.dynamic as u32);
        self.dynamic += usize::from(dynamic.is_some());
        let is_loop = matches!(inst, Inst::Loop { .. });
        self.loops += usize::from(is_loop);
        let after = self.origins.partition_point(|range| range.start <= pc);
        let origin = after.checked_sub(1).filter(|i| pc < self.origins[*i].end);
        let operands = inst.operands();
        let fixed = |extent: &Extent| matches!(extent, Extent::Shape(_));
        self.steps.push(Step {
            pc,
            inst,
            kind: kind_of(&inst),
            unit: unit_of(&inst, self.engine),
            cost: duration::duration(&inst, self.engine, target, &none),
            dynamic,
            touches: touches(&operands, &none, fixed).into(),
            loop_number: (self.loops.max(1) - 1) as u32,
            ahead: false,
            origin: origin.unwrap_or(self.origins.len()) as u32,
            operands: self.operands as u32,
        });
        self.operands += operands.len();
    }

    /// The buffer of an operand in memory, counted in the order of [`Inst::operands`].
    pub(crate) fn buffer(&self, step: &Step, operand: usize) -> Option<u32> {
        self.buffers.get(step.operands as usize + operand).copied().flatten()
    }

    /// What its stream is called.
    pub(crate) fn name(&self) -> String {
        name(self.core, self.engine)
    }

    /// The index of the instruction that starts at a word.
    pub(crate) fn index_of(&self, pc: Pc) -> Result<usize, TrapKind> {
        match self.index_of_word.get(pc.0 as usize) {
            Some(&index) if index != NOWHERE => Ok(index as usize),
            _ => Err(TrapKind::Flow("the target is not the first word of an instruction")),
        }
    }

    /// The instruction that starts at a word.
    pub(crate) fn at_word(&self, pc: u32) -> Option<&Inst> {
        self.index_of(Pc(pc)).ok().map(|index| &self.steps[index].inst)
    }

    /// The origin of a word, as text; `names` are the program's.
    pub(crate) fn origin(&self, pc: u32, names: &[String]) -> String {
        let Some(range) = self.origins.iter().find(|range| (range.start..range.end).contains(&pc)) else {
            return "no origin".to_owned();
        };
        let names = range.shares.iter().filter_map(|share| names.get(share.origin as usize));
        names.map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// What a stream is called: its engine, with its core unless that is the first.
fn name(core: u8, engine: Engine) -> String {
    if core == 0 { engine.to_string() } else { format!("{engine} of core {core}") }
}

/// The access-pattern registers that the cost of an instruction depends on, the one of its extents first.
pub(crate) fn patterns_of(inst: &Inst) -> Option<[Option<Ap>; 3]> {
    match inst {
        Inst::Dlq { ap, sap, zap, .. } => Some([Some(*ap), Some(*sap), *zap]),
        Inst::Dld { ap, .. }
        | Inst::Dtr { ap, .. }
        | Inst::Dst { ap, .. }
        | Inst::Dga { ap, .. }
        | Inst::Dsc { ap, .. } => Some([Some(*ap), None, None]),
        _ => None,
    }
}

/// Bytes of the on-chip operands whose extents are `wanted`.
pub(crate) fn chip_bytes(
    inst: &Inst,
    patterns: &[AccessPattern; 16],
    wanted: impl Fn(&Extent) -> bool,
) -> u64 {
    let bytes = |operand: Operand| match operand {
        Operand::OnChip { view, extent, .. } if wanted(&extent) => {
            extent.resolve(patterns).map(|shape: Shape| view.dt.bytes_of(shape.elements()))
        }
        _ => None,
    };
    inst.operands().into_iter().filter_map(bytes).sum()
}

/// Scratchpad bytes that an instruction reads or writes, the same in each of some partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    /// First byte and one past the last; the register's value is added.
    pub(crate) bytes: (i64, i64),
    pub(crate) reg: Add,
    pub(crate) parts: u64,
}

/// What the operands whose extents are `wanted` touch.
pub(crate) fn touches(
    operands: &[Operand],
    patterns: &[AccessPattern; 16],
    wanted: impl Fn(&Extent) -> bool,
) -> Vec<Touch> {
    let touch = |operand: &Operand| match *operand {
        Operand::OnChip { role, view, extent, .. } if view.space == Space::Spm && wanted(&extent) => {
            let shape = extent.resolve(patterns)?;
            let bytes = view.byte_range(shape.n, 0);
            let parts = shape.parts.into();
            Some(Touch { reads: role.reads(), writes: role.writes(), bytes, reg: view.reg, parts })
        }
        _ => None,
    };
    operands.iter().filter_map(touch).collect()
}

fn kind_of(inst: &Inst) -> Kind {
    match inst {
        Inst::Loop { .. } => Kind::Loop,
        Inst::Semw { .. } => Kind::Wait,
        Inst::Sems { .. } => Kind::Signal,
        Inst::Nop {}
        | Inst::Alu { .. }
        | Inst::Apset { .. }
        | Inst::Br { .. }
        | Inst::Endl {}
        | Inst::Li { .. } => Kind::Own,
        _ => Kind::Other,
    }
}

fn unit_of(inst: &Inst, engine: Engine) -> Unit {
    let product = |dst: &View, row: u8, k: u16, parts: u16, n: [u32; 3]| {
        Unit::Product(Box::new(Product {
            rows: (row.into(), k.into()),
            dst: *dst,
            parts: (dst.part.into(), u64::from(dst.part) + u64::from(parts)),
            bytes: dst.byte_range(n, 0),
            n,
        }))
    };
    match inst {
        Inst::Mma { acc, mov, k, m, n0, n1, n2, .. } | Inst::Mmax { acc, mov, k, m, n0, n1, n2, .. } => {
            product(acc, mov.part, k.0, m.0, [n0.0, n1.0, n2.0])
        }
        Inst::Mtrn { dst, src, parts, n } => product(dst, src.part, parts.0, n.0, [1, 1, parts.0.into()]),
        Inst::Ldw { src, k, .. } => Unit::Load { rows: (src.part.into(), k.0.into()) },
        Inst::Ldwt { row, k, .. } => Unit::Load { rows: ((*row).into(), k.0.into()) },
        _ => match (inst.class(), engine) {
            (Class::Any, _) => Unit::None,
            (Class::Dma, Engine::Queue(_)) => Unit::Transfer,
            _ => Unit::Whole,
        },
    }
}

/// What an execution of an instruction counts.
pub(crate) fn work_of(inst: &Inst) -> Work {
    match inst {
        Inst::Mma { mov, k, m, n0, n1, n2, .. } | Inst::Mmax { mov, k, m, n0, n1, n2, .. } => {
            let columns = u64::from(n0.0) * u64::from(n1.0) * u64::from(n2.0);
            let width = match mov.dt {
                Dt::F32 => Width::F32,
                Dt::Bf16 | Dt::F16 => Width::Half,
                _ => Width::Byte,
            };
            Work { macs: u64::from(k.0) * u64::from(m.0) * columns, width, ..Work::default() }
        }
        Inst::Vtt { shape, .. }
        | Inst::Vts { shape, .. }
        | Inst::Vmrg { shape, .. }
        | Inst::Vsel { shape, .. }
        | Inst::Vcvt { shape, .. }
        | Inst::Vred { shape, .. }
        | Inst::Vscan { shape, .. }
        | Inst::Vshuf { shape, .. }
        | Inst::Vtopk { shape, .. }
        | Inst::Viota { shape, .. } => Work { vec_elements: shape.elements(), ..Work::default() },
        Inst::Act { shape, .. } | Inst::Actr { shape, .. } => {
            Work { act_elements: shape.elements(), ..Work::default() }
        }
        _ => Work::default(),
    }
}

/// Registers that branches, trip counts, divisors and accumulator addresses depend on, one bit each.
///
/// All others are addresses of operands, which no rule of time looks at.
fn control_registers(steps: &[Step]) -> u32 {
    let mut found = 0u32;
    for step in steps {
        match (&step.inst, &step.unit) {
            (Inst::Br { ra, rb, .. }, _) => found |= 1 << ra.0 | 1 << rb.0,
            (Inst::Loop { rc, .. }, _) => found |= 1 << rc.0,
            (Inst::Alu { op: AluOp::Div | AluOp::Mod, rb, .. }, _) => found |= 1 << rb.0,
            (_, Unit::Product(product)) => found |= 1 << product.dst.reg.0,
            _ => {}
        }
    }
    loop {
        let before = found;
        for step in steps {
            if let Inst::Alu { rd, ra, rb, .. } = &step.inst
                && found >> rd.0 & 1 == 1
            {
                found |= 1 << ra.0 | 1 << rb.0;
            }
        }
        if found == before {
            return found;
        }
    }
}
