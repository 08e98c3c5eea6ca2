//! One engine's instruction stream: decoded code, registers, access patterns and the loop stack.

use kiln_machine::isa::{AccessPattern, Add, AluOp, Ap, Cond, Engine, Inst, Pc, Reg, Steps, Word};
use kiln_machine::target::Target;

use crate::error::{SimError, TrapKind};

/// How deep loops nest.
const MAX_LOOPS: usize = 8;

/// The state of one stream.
pub(crate) struct Stream {
    pub(crate) engine: Engine,
    code: Vec<Decoded>,
    /// Index into `code` of the instruction that starts at a word, or `NOWHERE`.
    index_of_word: Vec<u32>,
    /// Index into `code` of the next instruction.
    at: usize,
    registers: [i64; 32],
    pub(crate) patterns: [AccessPattern; 16],
    loops: Vec<Loop>,
    pub(crate) halted: bool,
}

const NOWHERE: u32 = u32::MAX;

/// An instruction and the word it starts at.
#[derive(Clone, Copy)]
struct Decoded {
    pc: u32,
    inst: Inst,
}

/// An open loop.
struct Loop {
    /// Index of the first instruction of the body.
    body: usize,
    /// Iterations after this one.
    left: u64,
    steps: Steps,
    entry: [i64; 4],
}

impl Stream {
    /// Decode the stream's words.
    pub(crate) fn decode(engine: Engine, words: &[Word], target: &Target) -> Result<Self, SimError> {
        if let Engine::Queue(queue) = engine
            && u64::from(queue) >= target.dma_queues
        {
            let reason = format!("the machine has {} DMA queues", target.dma_queues);
            return Err(SimError::Illegal { engine: engine.to_string(), pc: 0, reason });
        }
        let mut code = Vec::with_capacity(words.len());
        let mut index_of_word = vec![NOWHERE; words.len()];
        let mut pc = 0;
        while pc < words.len() {
            let illegal =
                |reason: String| SimError::Illegal { engine: engine.to_string(), pc: pc as u32, reason };
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
            index_of_word[pc] = code.len() as u32;
            code.push(Decoded { pc: pc as u32, inst });
            pc += length;
        }
        let mut stream = Self {
            engine,
            code,
            index_of_word,
            at: 0,
            registers: [0; 32],
            patterns: [AccessPattern::default(); 16],
            loops: Vec::new(),
            halted: false,
        };
        stream.reset();
        Ok(stream)
    }

    /// Back to the first instruction, with all state as at the start.
    pub(crate) fn reset(&mut self) {
        self.at = 0;
        self.registers = [0; 32];
        self.patterns = [AccessPattern::default(); 16];
        self.loops.clear();
        self.halted = self.code.is_empty();
    }

    /// All instructions with their words.
    pub(crate) fn instructions(&self) -> impl Iterator<Item = (u32, Inst)> + '_ {
        self.code.iter().map(|decoded| (decoded.pc, decoded.inst))
    }

    /// The next instruction and its word; `None` at the end of the words.
    pub(crate) fn current(&self) -> Option<(u32, Inst)> {
        self.code.get(self.at).map(|decoded| (decoded.pc, decoded.inst))
    }

    /// The instruction that starts at a word.
    pub(crate) fn at_word(&self, pc: u32) -> Option<Inst> {
        let index = *self.index_of_word.get(pc as usize)?;
        self.code.get(index as usize).map(|decoded| decoded.inst)
    }

    /// Go on to the next instruction.
    pub(crate) fn advance(&mut self) {
        self.at += 1;
        self.halted |= self.at >= self.code.len();
    }

    /// A register's value; register 0 is zero.
    pub(crate) fn register(&self, reg: Reg) -> i64 {
        self.registers[usize::from(reg.0)]
    }

    /// The value of a register that is added to something.
    pub(crate) fn added(&self, reg: Add) -> i64 {
        self.register(reg.reg())
    }

    /// Set a register; register 0 stays zero.
    pub(crate) fn set_register(&mut self, reg: Reg, value: i64) {
        if reg.0 != 0 {
            self.registers[usize::from(reg.0)] = value;
        }
    }

    /// An access pattern.
    pub(crate) fn pattern(&self, ap: Ap) -> &AccessPattern {
        &self.patterns[usize::from(ap.0)]
    }

    /// `rd = ra op (rb + imm)`.
    pub(crate) fn alu(&mut self, op: AluOp, rd: Reg, ra: Reg, rb: Reg, imm: i64) -> Result<(), TrapKind> {
        let (a, b) = (self.register(ra), self.register(rb).wrapping_add(imm));
        let value = match op {
            AluOp::Add => a.wrapping_add(b),
            AluOp::Sub => a.wrapping_sub(b),
            AluOp::Mul => a.wrapping_mul(b),
            AluOp::Div | AluOp::Mod if b == 0 => return Err(TrapKind::ScalarDivision),
            AluOp::Div => a.wrapping_div(b),
            AluOp::Mod => a.wrapping_rem(b),
            AluOp::And => a & b,
            AluOp::Or => a | b,
            AluOp::Xor => a ^ b,
            AluOp::Shl => a << (b & 63),
            AluOp::Shr => a >> (b & 63),
            AluOp::Min => a.min(b),
            AluOp::Max => a.max(b),
        };
        self.set_register(rd, value);
        self.advance();
        Ok(())
    }

    /// Branch to `to` if the condition holds, else go on.
    pub(crate) fn branch(&mut self, cond: Cond, ra: Reg, rb: Reg, to: Pc) -> Result<(), TrapKind> {
        let (a, b) = (self.register(ra), self.register(rb));
        let taken = match cond {
            Cond::Al => true,
            Cond::Eq => a == b,
            Cond::Ne => a != b,
            Cond::Lt => a < b,
            Cond::Ge => a >= b,
        };
        if taken {
            self.at = self.index_of(to)?;
        } else {
            self.advance();
        }
        Ok(())
    }

    /// Enter a loop of `count + rc` iterations, or skip it.
    pub(crate) fn enter_loop(&mut self, count: u32, rc: Add, end: Pc, steps: Steps) -> Result<(), TrapKind> {
        let end = self.index_of(end)?;
        if !matches!(self.code[end].inst, Inst::Endl {}) || end <= self.at {
            return Err(TrapKind::Flow("the loop's end is no `endl` after it"));
        }
        let iterations = i64::from(count).saturating_add(self.added(rc));
        // A loop without a body changes nothing, however often it runs.
        if iterations <= 0 || end == self.at + 1 {
            self.at = end;
        } else {
            if self.loops.len() == MAX_LOOPS {
                return Err(TrapKind::Flow("more than 8 loops deep"));
            }
            let entry = steps.0.map(|(reg, _)| self.register(reg));
            self.loops.push(Loop { body: self.at + 1, left: iterations as u64 - 1, steps, entry });
        }
        self.advance();
        Ok(())
    }

    /// The end of the innermost loop: whether it goes on.
    pub(crate) fn end_loop(&mut self) -> Result<bool, TrapKind> {
        let Some(open) = self.loops.last_mut() else { return Err(TrapKind::Flow("no loop is open")) };
        if open.left > 0 {
            open.left -= 1;
            let (body, steps) = (open.body, open.steps);
            for (reg, step) in steps.0 {
                self.set_register(reg, self.register(reg).wrapping_add(step));
            }
            self.at = body;
            return Ok(true);
        }
        if let Some(done) = self.loops.pop() {
            for ((reg, _), value) in done.steps.0.into_iter().zip(done.entry) {
                self.set_register(reg, value);
            }
        }
        self.advance();
        Ok(false)
    }

    fn index_of(&self, pc: Pc) -> Result<usize, TrapKind> {
        match self.index_of_word.get(pc.0 as usize) {
            Some(&index) if index != NOWHERE => Ok(index as usize),
            _ => Err(TrapKind::Flow("the target is not the first word of an instruction")),
        }
    }
}
