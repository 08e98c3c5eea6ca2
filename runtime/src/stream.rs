//! The state of one engine's instruction stream: registers, access patterns and the loop stack.

use kiln_machine::isa::{AccessPattern, Add, AluOp, Ap, Cond, Inst, Pc, Reg, Steps};

use crate::code::Code;
use crate::error::TrapKind;

/// How deep loops nest.
const MAX_LOOPS: usize = 8;

/// The state of one stream.
#[derive(Default)]
pub(crate) struct Stream {
    /// Index into the code of the next instruction.
    pub(crate) at: usize,
    pub(crate) registers: [i64; 32],
    pub(crate) patterns: [AccessPattern; 16],
    /// How many of them were set so far.
    pub(crate) patterns_set: u64,
    pub(crate) loops: Vec<Loop>,
    pub(crate) halted: bool,
    /// Loops entered so far.
    entered: u64,
}

/// An open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loop {
    /// Index of the first instruction of the body.
    pub(crate) body: usize,
    /// Its number among the loops of the stream's code.
    pub(crate) number: u32,
    /// Which entry of a loop of the stream this is.
    pub(crate) instance: u64,
    /// Iterations after this one.
    pub(crate) left: u64,
    /// Iterations begun.
    pub(crate) begun: u64,
    /// Instructions that the device had taken when it was entered.
    pub(crate) taken: u64,
    steps: Steps,
    entry: [i64; 4],
}

impl Loop {
    /// What the end of the loop restores of these registers, one bit each.
    pub(crate) fn restores(&self, registers: u32) -> [i64; 4] {
        let counts = |reg: Reg| registers >> (reg.0 & 31) & 1 == 1;
        std::array::from_fn(|i| if counts(self.steps.0[i].0) { self.entry[i] } else { 0 })
    }
}

impl Stream {
    /// A stream at its first instruction.
    pub(crate) fn new(code: &Code) -> Self {
        Self { halted: code.steps.is_empty(), ..Self::default() }
    }

    /// Go on to the next instruction.
    #[inline]
    pub(crate) fn advance(&mut self, code: &Code) {
        self.at += 1;
        self.halted |= self.at >= code.steps.len();
    }

    /// A register's value; register 0 is zero.
    #[inline]
    pub(crate) fn register(&self, reg: Reg) -> i64 {
        self.registers[usize::from(reg.0 & 31)]
    }

    /// The value of a register that is added to something.
    #[inline]
    pub(crate) fn added(&self, reg: Add) -> i64 {
        self.registers[usize::from(reg.0 & 31)]
    }

    /// Set a register; register 0 stays zero.
    #[inline]
    pub(crate) fn set_register(&mut self, reg: Reg, value: i64) {
        if reg.0 != 0 {
            self.registers[usize::from(reg.0 & 31)] = value;
        }
    }

    /// An access pattern.
    pub(crate) fn pattern(&self, ap: Ap) -> &AccessPattern {
        &self.patterns[usize::from(ap.0 & 15)]
    }

    /// Set an access pattern.
    fn set_pattern(&mut self, ap: Ap, pattern: AccessPattern) {
        self.patterns[usize::from(ap.0 & 15)] = pattern;
        self.patterns_set += 1;
    }

    /// Take an instruction that concerns nothing but its stream: whether it leads back. The device has taken `taken`
    /// instructions.
    #[inline]
    pub(crate) fn take(&mut self, code: &Code, inst: &Inst, taken: u64) -> Result<bool, TrapKind> {
        let at = self.at;
        match inst {
            Inst::Alu { op, rd, ra, rb, imm } => self.alu(*op, *rd, *ra, *rb, *imm)?,
            Inst::Li { rd, imm } => self.set_register(*rd, *imm),
            Inst::Apset { ap, pattern } => self.set_pattern(*ap, *pattern),
            // These say themselves where the stream goes on.
            Inst::Endl {} => return self.end_loop(code),
            Inst::Loop { count, rc, end, step } => {
                self.enter_loop(code, *count, *rc, *end, *step, taken)?;
                return Ok(false);
            }
            Inst::Br { cond, ra, rb, to } => {
                self.branch(code, *cond, *ra, *rb, *to)?;
                return Ok(self.at <= at);
            }
            _ => {}
        }
        self.advance(code);
        Ok(false)
    }

    /// `rd = ra op (rb + imm)`.
    fn alu(&mut self, op: AluOp, rd: Reg, ra: Reg, rb: Reg, imm: i64) -> Result<(), TrapKind> {
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
        Ok(())
    }

    /// Branch to `to` if the condition holds, else go on.
    fn branch(&mut self, code: &Code, cond: Cond, ra: Reg, rb: Reg, to: Pc) -> Result<(), TrapKind> {
        let (a, b) = (self.register(ra), self.register(rb));
        let taken = match cond {
            Cond::Al => true,
            Cond::Eq => a == b,
            Cond::Ne => a != b,
            Cond::Lt => a < b,
            Cond::Ge => a >= b,
        };
        if taken {
            self.at = code.index_of(to)?;
        } else {
            self.advance(code);
        }
        Ok(())
    }

    /// Enter a loop of `count + rc` iterations, or skip it; the device has taken `taken` instructions.
    #[allow(clippy::too_many_arguments)]
    fn enter_loop(
        &mut self,
        code: &Code,
        count: u32,
        rc: Add,
        end: Pc,
        steps: Steps,
        taken: u64,
    ) -> Result<(), TrapKind> {
        let end = code.index_of(end)?;
        if !matches!(code.steps[end].inst, Inst::Endl {}) || end <= self.at {
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
            self.entered += 1;
            self.loops.push(Loop {
                body: self.at + 1,
                number: code.steps[self.at].loop_number,
                instance: self.entered,
                left: iterations as u64 - 1,
                begun: 1,
                taken,
                steps,
                entry: steps.0.map(|(reg, _)| self.register(reg)),
            });
        }
        self.advance(code);
        Ok(())
    }

    /// The end of the innermost loop: whether it goes on.
    #[inline]
    fn end_loop(&mut self, code: &Code) -> Result<bool, TrapKind> {
        let Some(open) = self.loops.last_mut() else { return Err(TrapKind::Flow("no loop is open")) };
        if open.left > 0 {
            open.left -= 1;
            open.begun += 1;
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
        self.advance(code);
        Ok(false)
    }
}
