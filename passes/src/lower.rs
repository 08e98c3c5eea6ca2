//! Lowering: the named-axis graph, grouped and tiled, becomes a `tile.program`.

use std::collections::{BTreeMap, BTreeSet};

use crate::axes::Graph;
use crate::grouping::group::{self, Binding};
use crate::grouping::kernel::{Kernel, Source, ValueId, Work};
use crate::tiling::machine::Machine;
use crate::tiling::problem::Problem;
use crate::tiling::solve::{Effort, NoSchedule, Solution, solve};

pub mod code;
pub mod emit;

/// Why a program cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// An op that the machine has no way to run.
    #[error("{what} cannot run on the device")]
    Unsupported {
        /// The op or the data type.
        what: String,
        /// ONNX nodes, `"<node name>|<op type>"`.
        origin: Vec<String>,
    },
    /// Not even the least tiles fit on chip.
    #[error("{operand} does not fit on chip: {missing_bytes} bytes are missing in each partition")]
    DoesNotFit {
        /// The operand and its shape.
        operand: String,
        /// Bytes missing in each partition with the least tiles.
        missing_bytes: u64,
        /// ONNX nodes.
        origin: Vec<String>,
    },
    /// No order of loops gives each consumer a complete value: a fault of ours.
    #[error("no legal schedule for {what}")]
    NoSchedule {
        /// The op.
        what: String,
        /// ONNX nodes.
        origin: Vec<String>,
    },
    /// The IR refused what was built: a fault of ours.
    #[error("the tile program is not valid: {0}")]
    Invalid(String),
}

/// DRAM traffic and time of one group as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// Its name in the program.
    pub name: String,
    /// ONNX nodes.
    pub origin: Vec<String>,
    /// Bytes of its inputs and outputs, each once.
    pub compulsory_bytes: u64,
    /// Bytes that the plan moves.
    pub planned_bytes: u64,
    /// Planned time in ticks of the target's base clock.
    pub ticks: u64,
    /// High water of a partition's SPM bytes.
    pub spm_bytes: u64,
    /// High water of a partition's ACC bytes.
    pub acc_bytes: u64,
}

/// A group ready to be written.
#[derive(Clone, Debug)]
pub struct Grouped {
    /// Kernel ops, ascending.
    pub ops: Vec<usize>,
    /// DRAM places of its tensors.
    pub binding: Binding,
    /// Its schedule.
    pub solution: Solution,
    /// Statements.
    pub code: Vec<code::Code>,
    /// Traffic and time.
    pub report: GroupReport,
}

/// Solved problems, kept across groups: layers with equal structure are solved once.
#[derive(Default)]
pub struct Memo {
    solved: BTreeMap<Problem, Result<Solution, NoSchedule>>,
}

impl Memo {
    /// The best schedule of `problem`.
    ///
    /// # Errors
    /// As [`solve`].
    pub fn solve(&mut self, problem: &Problem, machine: &Machine) -> Result<Solution, NoSchedule> {
        if let Some(known) = self.solved.get(problem) {
            return known.clone();
        }
        let found = solve(problem, machine, Effort::default());
        self.solved.insert(problem.clone(), found.clone());
        found
    }

    /// Number of different problems solved.
    pub fn len(&self) -> usize {
        self.solved.len()
    }

    /// Whether nothing was solved yet.
    pub fn is_empty(&self) -> bool {
        self.solved.is_empty()
    }
}

/// Values made in `ops` that something outside them reads from DRAM.
pub fn stored_values(kernel: &Kernel, ops: &[usize]) -> BTreeSet<ValueId> {
    let inside: BTreeSet<usize> = ops.iter().copied().collect();
    let mut stored = BTreeSet::new();
    for &o in ops {
        stored.extend(kernel.ops[o].outs.iter().filter(|&&v| kernel.values[v].is_stored));
    }
    for (i, op) in kernel.ops.iter().enumerate() {
        if let Work::Gather { data, .. } = &op.work {
            stored.insert(*data);
        }
        if inside.contains(&i) {
            continue;
        }
        for source in &op.ins {
            if let Source::Value(v) = source {
                stored.insert(*v);
            }
        }
    }
    stored.retain(|&v| kernel.values[v].producer.is_some_and(|p| inside.contains(&p)));
    stored
}

fn origin_of(graph: &Graph, kernel: &Kernel, ops: &[usize]) -> Vec<String> {
    let ids: BTreeSet<u32> = ops.iter().flat_map(|&o| kernel.ops[o].origins.iter().copied()).collect();
    ids.iter().filter_map(|&i| graph.names.get_index(i as usize).cloned()).collect()
}

/// Lowers one group.
///
/// # Errors
/// [`LowerError::DoesNotFit`] and [`LowerError::NoSchedule`].
pub fn lower_group(kernel: &Kernel, ops: &[usize], index: usize, machine: &Machine, memo: &mut Memo) -> Result<Grouped, LowerError> {
    let stored = stored_values(kernel, ops);
    let (problem, binding) = group::problem(kernel, ops, &stored);
    let origin = origin_of(kernel.graph, kernel, ops);
    let solution = memo.solve(&problem, machine).map_err(|e| match e {
        NoSchedule::Illegal => LowerError::NoSchedule {
            what: ops.iter().map(|&o| format!("{:?}", kernel.ops[o].work)).collect::<Vec<_>>().join(", "),
            origin: origin.clone(),
        },
        NoSchedule::TooLarge { tensor, missing_bytes } => {
            let t = &problem.tensors[tensor];
            let shape: Vec<String> = t.shape.iter().filter(|&&e| e > 1).map(u64::to_string).collect();
            LowerError::DoesNotFit {
                operand: format!("{}x{:?}", shape.join("x"), t.dtype),
                missing_bytes,
                origin: origin.clone(),
            }
        }
    })?;
    let code = emit::emit(&solution.problem, &solution.schedule, &solution.steps, &binding, &solution.stands_for);
    let compulsory = problem
        .tensors
        .iter()
        .map(|t| {
            let elements: u64 = t.shape.iter().product();
            let moved = |a: &Option<crate::tiling::problem::Access>| {
                a.as_ref().map_or(0, |a| {
                    let repeated: u64 =
                        t.shape.iter().zip(&a.strides).filter(|(_, s)| **s == 0).map(|(e, _)| *e).product();
                    elements / repeated.max(1) * a.dtype.size_bytes() as u64
                })
            };
            moved(&t.load) + elements * t.store.as_ref().map_or(0, |a| a.dtype.size_bytes() as u64)
        })
        .sum();
    let report = GroupReport {
        name: format!("g{index}"),
        origin,
        compulsory_bytes: compulsory,
        planned_bytes: solution.cost.load.dram_bytes,
        ticks: solution.cost.ticks,
        spm_bytes: solution.cost.spm_bytes,
        acc_bytes: solution.cost.acc_bytes,
    };
    Ok(Grouped { ops: ops.to_vec(), binding, solution, code, report })
}
