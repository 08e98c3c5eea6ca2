//! Which instructions a stream may take before its time comes, where only time is counted.
//!
//! What most instructions do depends on their own stream alone, and what others see of it has its tick with it: a
//! signal arrives when it arrives, a transfer starts when it starts. So a stream takes them, one after another, at the
//! ticks at which it would have taken them anyway, before the event loop comes there. A wait too: it is over when the
//! last of the signals that it needs arrives, or at once if they have arrived before; who has not sent them yet will. A
//! signal behind a transfer leaves when the transfer ends, though not before the instruction's own tick. Not so what
//! looks at others otherwise (a fence of transfers, a message), what can end the run with an error (its error might not be
//! the first), and the last instruction, whose tick may be the run's. Whether a counter overflows is not sure to be seen:
//! where one may, the run begins again without running ahead.

use kiln_machine::isa::{AluOp, Engine, Inst};
use kiln_machine::target::Target;

use super::Code;

/// Instructions of a loop at most, all its iterations together, for its end to be taken ahead: there is then no place
/// between them where a steady state could be seen.
const SHORT: u64 = 1 << 16;

/// The same of a loop with a wait in it.
const SHORT_WITH_WAIT: u64 = 1 << 11;

/// How deep loops nest.
const MAX_LOOPS: usize = 8;

/// Mark what a stream may take ahead.
pub(crate) fn mark(code: &mut Code, target: &Target) {
    let Some(lengths) = loop_lengths(code) else { return };
    let on_queue = matches!(code.engine, Engine::Queue(_));
    let count = code.steps.len();
    for (step, length) in code.steps.iter_mut().zip(lengths).take(count.saturating_sub(1)) {
        step.ahead = match step.inst {
            Inst::Halt {}
            | Inst::Trap { .. }
            | Inst::Br { .. }
            | Inst::ReadCsr { .. }
            | Inst::Bar { .. }
            | Inst::Cput { .. }
            | Inst::Cred { .. } => false,
            Inst::Fence {} => !on_queue,
            Inst::Sems { sem, .. } | Inst::Semw { sem, .. } => u64::from(sem.0) < target.semaphores,
            Inst::Alu { op: AluOp::Div | AluOp::Mod, rb, imm, .. } => rb.0 == 0 && imm != 0,
            Inst::Endl {} => length.is_some(),
            _ => true,
        };
    }
}

/// For each `endl` of a short loop its length, if all loops are closed in order and control leaves them nowhere else.
fn loop_lengths(code: &Code) -> Option<Vec<Option<u64>>> {
    /// A loop that is open: its last instruction, its iterations if they are known, its body so far.
    struct Open {
        end: usize,
        iterations: Option<u64>,
        length: Option<u64>,
        waits: bool,
    }
    let mut lengths = vec![None; code.steps.len()];
    let mut open: Vec<Open> = Vec::new();
    for (at, step) in code.steps.iter().enumerate() {
        if let Some(Open { length: Some(length), .. }) = open.last_mut() {
            *length += 1;
        }
        match step.inst {
            Inst::Br { .. } => return None,
            Inst::Semw { .. } => open.iter_mut().for_each(|open| open.waits = true),
            Inst::Loop { count, rc, end, .. } => {
                let end = code.index_of(end).ok()?;
                if end <= at || open.len() == MAX_LOOPS {
                    return None;
                }
                let iterations = (rc.0 == 0).then_some(u64::from(count));
                open.push(Open { end, iterations, length: Some(0), waits: false });
            }
            Inst::Endl {} => {
                let Open { end, iterations, length, waits } = open.pop()?;
                if end != at {
                    return None;
                }
                let whole = length.zip(iterations).map(|(length, n)| length.saturating_mul(n));
                lengths[at] = whole.filter(|n| *n <= if waits { SHORT_WITH_WAIT } else { SHORT });
                if let Some(outer) = open.last_mut() {
                    outer.length = outer.length.zip(whole).map(|(a, b)| a.saturating_add(b));
                }
            }
            _ => {}
        }
    }
    open.is_empty().then_some(lengths)
}
