//! Lowering: the named-axis graph, grouped and tiled, becomes a `tile.program`.

use std::collections::{BTreeMap, BTreeSet};

use crate::axes::{Graph, Kind};
use crate::grouping::egraph;
use crate::grouping::group::{self, Binding};
use crate::grouping::kernel::{ArrayKind, Kernel, Source, ValueId, Work};
use crate::grouping::merge;
use crate::grouping::recipe;
use crate::tiling::machine::{ENGINES, Machine};
use crate::tiling::plan::Step;
use crate::tiling::problem::Problem;
use crate::tiling::solve::{Effort, NoSchedule, Solution, solve};
use kiln_ir::nn::{Func, FuncBuilder, OpKind, Port};
use kiln_ir::tile::{self, Dram, DramKind, Part};
use kiln_ir::types::dtype_name;
use kiln_ir::{Context, DType, Module, Origin, Tensor, TensorType};
use kiln_machine::target::Target;

mod capability;
pub mod emit;

pub use capability::{is_wider_than_the_machine, unsupported};

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
        /// The operand, its shape and its type.
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
    /// Planned busy ticks of MXU, VEC, ACT, the queues together and DRAM.
    pub busy: [u64; ENGINES],
    /// Its loops, outermost first, each as extent and step, with the ops inside.
    pub schedule: String,
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
    pub code: tile::Group,
    /// Traffic and time.
    pub report: GroupReport,
}

/// Solved problems, kept across groups: layers with equal structure are solved once.
#[derive(Default)]
pub struct Memo {
    quick: BTreeMap<Problem, Result<u64, NoSchedule>>,
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
        let found = solve(problem, machine, Effort::THOROUGH);
        self.solved.insert(problem.clone(), found.clone());
        found
    }

    /// Ticks of a good schedule of `problem`, found in less time.
    ///
    /// # Errors
    /// As [`solve`].
    pub fn estimate(&mut self, problem: &Problem, machine: &Machine) -> Result<u64, NoSchedule> {
        if let Some(known) = self.quick.get(problem) {
            return known.clone();
        }
        let found = solve(problem, machine, Effort::QUICK).map(|s| s.cost.price());
        self.quick.insert(problem.clone(), found.clone());
        found
    }

    /// Number of different problems solved.
    pub fn len(&self) -> usize {
        self.quick.len()
    }

    /// Whether nothing was solved yet.
    pub fn is_empty(&self) -> bool {
        self.quick.is_empty()
    }
}

/// Which ops read each value, and which values are read in DRAM.
#[derive(Clone, Debug)]
pub struct Readers {
    ops: Vec<Vec<usize>>,
    in_dram: BTreeSet<ValueId>,
}

impl Readers {
    /// The readers in `kernel`.
    pub fn new(kernel: &Kernel) -> Self {
        let mut ops = vec![Vec::new(); kernel.values.len()];
        let mut in_dram: BTreeSet<ValueId> =
            (0..kernel.values.len()).filter(|&v| kernel.values[v].is_stored).collect();
        for (o, op) in kernel.ops.iter().enumerate() {
            if let Work::Gather { data, .. } = &op.work {
                in_dram.insert(*data);
            }
            for source in &op.ins {
                if let Source::Value(v) = source
                    && ops[*v].last() != Some(&o)
                {
                    ops[*v].push(o);
                }
            }
        }
        Readers { ops, in_dram }
    }

    /// Ops that read `v`, ascending.
    pub fn of(&self, v: ValueId) -> &[usize] {
        &self.ops[v]
    }
}

/// The problem of `ops` (ascending) as a group; what others read is stored.
pub fn problem_of(
    kernel: &Kernel,
    readers: &Readers,
    ops: &[usize],
    machine: &Machine,
) -> (Problem, Binding) {
    let mut stored = BTreeSet::new();
    for &o in ops {
        for &v in &kernel.ops[o].outs {
            let outside = readers.of(v).iter().any(|r| ops.binary_search(r).is_err());
            if outside || readers.in_dram.contains(&v) {
                stored.insert(v);
            }
        }
    }
    group::problem(kernel, ops, &stored, machine.partitions)
}

fn origin_of(graph: &Graph, kernel: &Kernel, ops: &[usize]) -> Vec<String> {
    let ids: BTreeSet<u32> = ops.iter().flat_map(|&o| kernel.ops[o].origins.iter().copied()).collect();
    ids.iter().filter_map(|&i| graph.names.get_index(i as usize).cloned()).collect()
}

/// Slots that a ring of what is in memory from the start may have: its loads need not wait for any other group.
const RING_AHEAD: u64 = 64;

/// Lets the loads of `ahead` run as far ahead as the memory allows.
fn run_ahead(steps: &mut [Step], ahead: &[bool]) {
    for step in steps {
        match step {
            Step::Alloc { tensor, depth } if *depth > 1 && ahead[*tensor] => *depth = RING_AHEAD,
            Step::Loop { body, .. } => run_ahead(body, ahead),
            _ => {}
        }
    }
}

/// Lowers one group.
///
/// # Errors
/// [`LowerError::DoesNotFit`] and [`LowerError::NoSchedule`].
pub fn lower_group(
    kernel: &Kernel,
    readers: &Readers,
    ops: &[usize],
    index: usize,
    machine: &Machine,
    memo: &mut Memo,
) -> Result<Grouped, LowerError> {
    let (problem, binding) = problem_of(kernel, readers, ops, machine);
    let origin = origin_of(kernel.graph, kernel, ops);
    let mut solution = memo.solve(&problem, machine).map_err(|e| match e {
        NoSchedule::Illegal => LowerError::NoSchedule {
            what: ops.iter().map(|&o| format!("{:?}", kernel.ops[o].work)).collect::<Vec<_>>().join(", "),
            origin: origin.clone(),
        },
        NoSchedule::TooLarge { tensor, missing_bytes } => {
            let t = &problem.tensors[tensor];
            let shape: Vec<String> = t.shape.iter().filter(|&&e| e > 1).map(u64::to_string).collect();
            LowerError::DoesNotFit {
                operand: format!(
                    "{}, {}x{},",
                    kernel.describe(binding.value[tensor]),
                    shape.join("x"),
                    dtype_name(t.dtype)
                ),
                missing_bytes,
                origin: origin.clone(),
            }
        }
    })?;
    if 2 * solution.cost.spm_bytes <= machine.spm_bytes {
        let is_there = |t: usize| {
            let array = binding.load[solution.stands_for[t]].map(|(array, _)| &kernel.arrays[array].kind);
            matches!(
                array,
                Some(
                    ArrayKind::Input(_)
                        | ArrayKind::Weight { .. }
                        | ArrayKind::Placed(_)
                        | ArrayKind::Fold(_)
                )
            )
        };
        let ahead: Vec<bool> = (0..solution.problem.tensors.len()).map(is_there).collect();
        run_ahead(&mut solution.steps, &ahead);
    }
    let origins: Vec<Origin> =
        binding.op.iter().map(|&o| Origin::from_names(origin_of(kernel.graph, kernel, &[o]))).collect();
    let name = format!("g{index}");
    let code = emit::emit(&name, &solution, &binding, &origins);
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
        name,
        origin,
        compulsory_bytes: compulsory,
        planned_bytes: solution.cost.load.dram_bytes,
        ticks: solution.cost.ticks,
        spm_bytes: solution.cost.spm_bytes,
        acc_bytes: solution.cost.acc_bytes,
        busy: solution.cost.load.busy,
        schedule: solution.describe(),
    };
    Ok(Grouped { ops: ops.to_vec(), binding, solution, code, report })
}

/// What lowering made beside the program.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// Groups in order.
    pub groups: Vec<GroupReport>,
    /// Different problems solved.
    pub problems: usize,
    /// No grouping made of the bodies tried takes fewer planned ticks.
    pub lower_bound_ticks: u64,
    /// E-nodes of the grouping's e-graph.
    pub alternatives: usize,
}

impl From<kiln_ir::IrError> for LowerError {
    fn from(error: kiln_ir::IrError) -> Self {
        LowerError::Invalid(error.to_string())
    }
}

/// Groups, tiles and lowers the function `main` of `module` for `target`; the `tile.program` takes its place.
///
/// # Errors
/// [`LowerError`].
pub fn lower(module: &mut Module, target: &Target) -> Result<Lowered, LowerError> {
    lower_again(module, target, &BTreeMap::new())
}

/// As [`lower`], for a program some of whose groups turned out not to fit: each named group is tiled for a scratchpad
/// that is an eighth smaller for each of its retries (at most 7). The grouping stays as it was.
///
/// # Errors
/// [`LowerError`].
pub fn lower_again(
    module: &mut Module,
    target: &Target,
    retries: &BTreeMap<String, u32>,
) -> Result<Lowered, LowerError> {
    let func = module.func("main")?;
    let graph = crate::axes::from_nn(&func);
    let kernel = Kernel::new(&graph)?;
    let machine = Machine::new(target);
    let mut memo = Memo::default();
    let mut program = tile::Program { name: "main".into(), drams: Vec::new(), groups: Vec::new() };
    let readers = Readers::new(&kernel);
    let merged = match merge::merge(&kernel, &readers, &machine, &mut memo) {
        Ok(merged) => merged,
        Err((op, _)) => {
            lower_group(&kernel, &readers, &[op], op, &machine, &mut memo)?;
            return Err(LowerError::Invalid("an op without a schedule".into()));
        }
    };
    let extracted = egraph::extract(&kernel, &merged);
    let mut lowered = Lowered {
        lower_bound_ticks: extracted.lower_bound,
        alternatives: extracted.size.0,
        ..Lowered::default()
    };
    for (index, body) in merge::in_order(&kernel, &extracted.groups).iter().enumerate() {
        let group = match retries.get(&format!("g{index}")) {
            None | Some(0) => lower_group(&kernel, &readers, &body.ops, index, &machine, &mut memo)?,
            Some(&n) => {
                let keep = 8 - u64::from(n.min(7));
                let less = Machine { spm_bytes: machine.spm_bytes * keep / 8, ..machine.clone() };
                lower_group(&kernel, &readers, &body.ops, index, &less, &mut Memo::default())?
            }
        };
        program.groups.push(group.code);
        lowered.groups.push(group.report);
    }
    lowered.problems = memo.len();
    let context = module.context().clone();
    program.drams = drams(&kernel, &func, &context, module)?;
    module.remove("main");
    module.put_program(&program)?;
    Ok(lowered)
}

/// The DRAM tensors, one for each array of the kernel under the same number.
fn drams(
    kernel: &Kernel,
    func: &Func,
    context: &Context,
    module: &mut Module,
) -> Result<Vec<Dram>, LowerError> {
    let mut drams = Vec::new();
    for (i, array) in kernel.arrays.iter().enumerate() {
        let shape: Vec<usize> = array.shape.iter().map(|&e| e as usize).collect();
        let ty = TensorType::new(array.dtype, shape);
        let port = |port: &Port, dtype: DType| {
            let mut port = port.clone();
            if dtype == DType::Bool && port.host_type.is_none() {
                port.host_type = Some(DType::Bool);
            }
            port
        };
        let (name, kind) = match &array.kind {
            ArrayKind::Input(n) => {
                let value = func.arg_values().nth(*n);
                let dtype = value.map_or(array.dtype, |v| func.ty(v).dtype);
                (format!("in{n}"), DramKind::Input(port(&func.args[*n], dtype)))
            }
            ArrayKind::Output(n) => {
                let (value, result) = &func.results[*n];
                (format!("out{n}"), DramKind::Output(port(result, func.ty(*value).dtype)))
            }
            ArrayKind::Weight { file, offset } => {
                let bytes = ty.size_bytes() as u64;
                let part = Part {
                    file: *file,
                    file_offset: *offset,
                    rows: 1,
                    row_bytes: bytes,
                    file_pitch: bytes,
                    offset: 0,
                    pitch: bytes,
                };
                (format!("w{i}"), DramKind::Weight(vec![part]))
            }
            ArrayKind::Placed(parts) => (format!("w{i}"), DramKind::Weight(parts.clone())),
            ArrayKind::Fold(node) => {
                let name = format!("fold{i}");
                let mut fold = FuncBuilder::fold(context, &name)?;
                let value = if let Kind::Const { id, .. } = &kernel.graph.node(*node).kind {
                    let data = kernel.graph.const_bytes(*id).clone();
                    fold.constant(&Tensor { dtype: ty.dtype, shape: ty.shape.clone(), data })?
                } else {
                    let value = crate::axes::to_nn(&recipe::fold(kernel.graph, *node), &mut fold)?[0];
                    // A mask lies in memory as numbers.
                    if fold.ty(value).dtype == ty.dtype {
                        value
                    } else {
                        fold.op(&OpKind::Cast { dtype: ty.dtype }, &[value])?[0]
                    }
                };
                fold.finish(module, &[(value, Port::default())])?;
                (format!("c{i}"), DramKind::Fold(name))
            }
            ArrayKind::Temp => (format!("t{i}"), DramKind::Temp),
        };
        drams.push(Dram { name, kind, ty, origin: Origin::default() });
    }
    // An argument that nothing reads (an empty past, say) is still part of the program's interface.
    for (n, value) in func.arg_values().enumerate() {
        if kernel.arrays.iter().any(|array| matches!(array.kind, ArrayKind::Input(m) if m == n)) {
            continue;
        }
        let kind = DramKind::Input(func.args[n].clone());
        drams.push(Dram {
            name: format!("in{n}"),
            kind,
            ty: func.ty(value).clone(),
            origin: Origin::default(),
        });
    }
    Ok(drams)
}
#[cfg(test)]
mod tests;
