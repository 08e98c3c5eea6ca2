//! Nests of loops in which the matrix engine only loads and multiplies.
//!
//! Nothing outside can hinder such a nest, so its time depends on the matrix engine's state at its start alone. Where
//! only time is counted, what came of it is kept and taken again when the same nest begins in the same state:
//! `device/nest.rs`. Nests with the same instructions, such as those of a model's layers, are one class.

use std::collections::HashMap;

use kiln_machine::isa::Inst;

use super::{Code, Kind, Product, Step, Unit};

/// What nests with the same instructions have in common.
pub(crate) struct Nest {
    /// Executions of each instruction, from the loop to its end.
    pub(crate) counts: Vec<u64>,
    /// Registers of accumulator addresses.
    pub(crate) accumulators: Vec<u8>,
    /// Registers of scratchpad addresses.
    pub(crate) addresses: Vec<u8>,
}

/// The nests of a stream.
#[derive(Default)]
pub(crate) struct Nests {
    pub(crate) classes: Vec<Nest>,
    /// Of each `loop` instruction, if it is the outermost of a nest.
    of_loops: Vec<Option<u32>>,
}

impl Nests {
    /// The nest that begins with a step.
    #[inline]
    pub(crate) fn at(&self, step: &Step) -> Option<u32> {
        match step.kind {
            Kind::Loop => self.of_loops.get(step.loop_number as usize).copied().flatten(),
            _ => None,
        }
    }

    /// Find the nests of a stream whose steps are marked.
    pub(crate) fn find(code: &Code) -> Self {
        let mut nests = Self { classes: Vec::new(), of_loops: vec![None; code.loops] };
        let mut known: HashMap<Vec<i64>, u32> = HashMap::new();
        let mut at = 0;
        while at < code.steps.len() {
            let Some((contents, nest)) = nest(code, at) else {
                at += 1;
                continue;
            };
            let length = nest.counts.len();
            let class = *known.entry(contents).or_insert_with(|| {
                nests.classes.push(nest);
                nests.classes.len() as u32 - 1
            });
            nests.of_loops[code.steps[at].loop_number as usize] = Some(class);
            at += length;
        }
        nests
    }
}

/// The nest whose outermost loop is at `at`, and all of it that decides its time and what it touches.
fn nest(code: &Code, at: usize) -> Option<(Vec<i64>, Nest)> {
    let Inst::Loop { end, .. } = code.steps[at].inst else { return None };
    let end = code.index_of(end).ok()?;
    let (mut contents, mut counts) = (Vec::new(), Vec::new());
    let (mut accumulators, mut addresses) = (Vec::new(), Vec::new());
    // Executions of the loops that are open.
    let mut open = vec![1u64];
    for (here, step) in code.steps.iter().enumerate().take(end + 1).skip(at) {
        if !step.ahead || step.dynamic.is_some() {
            return None;
        }
        let times = *open.last()?;
        counts.push(times);
        contents.extend([step.cost.issue, step.cost.busy, step.cost.latency].map(|n| n as i64));
        match (&step.inst, &step.unit) {
            (Inst::Loop { count, rc, end: inner, step: steps }, _) if rc.0 == 0 && *count > 0 => {
                // A loop without a body is skipped.
                let length = code.index_of(*inner).ok()?.checked_sub(here)?;
                if length < 2 {
                    return None;
                }
                contents.extend([0, i64::from(*count), length as i64]);
                contents.extend(steps.0.iter().flat_map(|(reg, step)| [i64::from(reg.0), *step]));
                open.push(times.saturating_mul(u64::from(*count)));
            }
            (Inst::Endl {}, _) => {
                contents.push(1);
                open.pop();
            }
            (_, Unit::Load { rows }) => contents.extend([2, i64::from(rows.0), i64::from(rows.1)]),
            (_, Unit::Product(product)) => {
                let Product { rows, dst, parts, bytes, n } = &**product;
                contents.extend([3, rows.0 as i64, rows.1 as i64, parts.0 as i64, parts.1 as i64]);
                contents.extend([bytes.0, bytes.1, i64::from(dst.reg.0)]);
                contents.extend(dst.strides.map(i64::from));
                contents.extend(n.map(i64::from));
                accumulators.push(dst.reg.0 & 31);
            }
            _ => return None,
        }
        contents.push(step.touches.len() as i64);
        for touch in &step.touches {
            if touch.writes {
                return None;
            }
            contents.extend([touch.bytes.0, touch.bytes.1, i64::from(touch.reg.0)]);
            addresses.push(touch.reg.0 & 31);
        }
    }
    for registers in [&mut accumulators, &mut addresses] {
        registers.sort_unstable();
        registers.dedup();
    }
    Some((contents, Nest { counts, accumulators, addresses }))
}
