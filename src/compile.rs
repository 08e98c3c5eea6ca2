//! The whole pipeline on one screen: model file in, program out; and running what was compiled.

use crate::{
    bound::{Bound, bound},
    error::Error,
    host::{Evaluator, Folds},
    inputs::{Tensors, Wanted},
    link::Linker,
    progress::STAGE,
    segments::{self, Cut, HostOp, Side},
};
use indexmap::IndexMap;
use kiln_backend::{BackendError, EmitReport, Layout};
use kiln_frontend::{DimSpec, ImportOptions, Imported, InputSpec, SourceFile};
use kiln_ir::{Module, TensorType};
use kiln_machine::{
    isa::Space,
    program::{Binding, BindingRole, Program, Segment},
    target::Target,
};
use kiln_passes::{
    algebra::{Grade, Weights},
    lower::{Lowered, lower_again},
};
use kiln_runtime::{Findings, Options as SimOptions, Report, Simulator};
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Instant,
};

/// The extent that `kiln run` gives to a dimension that nothing binds: small enough for any model's position table,
/// large enough to fill tiles. The first dimension of an input, its batch, is 1.
const UNBOUND_EXTENT: i64 = 16;

/// Everything that a compilation depends on, besides the model's bytes.
#[derive(Debug, Clone)]
pub struct CompileOptions {
    pub model: PathBuf,
    pub target: Target,
    /// Named dimensions of the inputs.
    pub dims: IndexMap<String, i64>,
    /// Shapes of inputs.
    pub shapes: IndexMap<String, Vec<usize>>,
    /// Folder of external data, where it does not lie beside the model.
    pub data_folder: Option<PathBuf>,
    /// Refuse host segments.
    pub device_only: bool,
    /// Which rewrites are allowed.
    pub grade: Grade,
    /// Whether weights may be rewritten; by size of the model's files when none is given.
    pub weights: Option<Weights>,
    /// Threads of a run; as many as the host runs at once when none are given. No result depends on it.
    pub threads: Option<NonZeroUsize>,
    /// Whether runs look for races and other faults of the program.
    pub sanitize: bool,
}

/// Models above this many bytes keep their weights by reference.
const REWRITTEN_AT_MOST_BYTES: u64 = 1 << 30;

/// How often a program whose buffers did not fit is planned again with less memory.
const MOST_ATTEMPTS: u32 = 32;

impl CompileOptions {
    /// `model` is an ONNX file, or a folder with `model.onnx`.
    pub fn new(model: PathBuf, target: Target) -> Self {
        CompileOptions {
            model: model_file(&model),
            target,
            dims: IndexMap::new(),
            shapes: IndexMap::new(),
            data_folder: None,
            device_only: false,
            grade: Grade::default(),
            weights: None,
            threads: None,
            sanitize: false,
        }
    }

    /// What the frontend is asked for.
    pub fn import_options(&self) -> ImportOptions {
        ImportOptions {
            dims: self.dims.clone(),
            input_shapes: self.shapes.clone(),
            data_folder: self.data_folder.clone(),
            ..ImportOptions::default()
        }
    }

    /// Binds every dimension that neither `dims` nor `shapes` does, and says which.
    ///
    /// # Errors
    /// When the model cannot be read.
    pub fn choose_unbound_dims(&mut self) -> Result<Vec<(String, i64)>, Error> {
        let mut chosen = Vec::new();
        for input in inputs(&self.model)? {
            let dims = match (&input.dims, self.shapes.contains_key(&input.name)) {
                (Some(dims), false) => dims,
                _ => continue,
            };
            for (axis, dim) in dims.iter().enumerate() {
                let names = match dim {
                    DimSpec::Fixed(_) => vec![],
                    DimSpec::Expr(expr) => expr.names().into_iter().map(String::from).collect(),
                    DimSpec::Unnamed => vec![format!("{}.{axis}", input.name)],
                };
                let extent = if axis == 0 { 1 } else { UNBOUND_EXTENT };
                for name in names {
                    if !self.dims.contains_key(&name) && !self.bound_by_shapes(&name)? {
                        self.dims.insert(name.clone(), extent);
                        chosen.push((name, extent));
                    }
                }
            }
        }
        Ok(chosen)
    }

    fn bound_by_shapes(&self, name: &str) -> Result<bool, Error> {
        let names = |dim: &DimSpec| matches!(dim, DimSpec::Expr(e) if e.as_name() == Some(name));
        let given = |input: &InputSpec| self.shapes.contains_key(&input.name);
        Ok(inputs(&self.model)?.iter().filter(|i| given(i)).any(|i| i.dims.iter().flatten().any(names)))
    }
}

/// The model file that a path means: itself, or `model.onnx` in it.
pub fn model_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("model.onnx") } else { path.to_path_buf() }
}

/// The inputs that a model declares.
///
/// # Errors
/// When the model cannot be read.
pub fn inputs(model: &Path) -> Result<Vec<InputSpec>, Error> {
    Ok(kiln_frontend::inspect(model)?)
}

/// A program with the target it is for and what is known about it without running it.
pub struct Compiled {
    pub program: Program,
    pub target: Target,
    pub stats: Stats,
    /// The folder that the program's file references start from.
    pub folder: PathBuf,
    /// Threads of a run.
    pub threads: Option<NonZeroUsize>,
    /// Whether runs look for races and other faults of the program.
    pub sanitize: bool,
    /// Outputs as the user sees them.
    pub outputs: Vec<(String, TensorType)>,
}

/// What a compilation says about itself.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Wall time of the compilation.
    pub seconds: f64,
    /// Wall time of each stage, in order.
    pub stages: Vec<(&'static str, f64)>,
    /// Dimensions of the inputs as bound.
    pub dims: IndexMap<String, i64>,
    pub optimised: kiln_passes::Report,
    pub lowered: Lowered,
    pub emitted: EmitReport,
    pub host_segments: usize,
    /// What runs on the host, and why.
    pub host_ops: Vec<HostOp>,
    /// The bound of the graph as imported, against whose MACs utilisation is counted.
    pub bound: Bound,
    /// The bound of the graph after algebra, which may do less work.
    pub reduced_bound: Bound,
}

impl Stats {
    /// The sums over the device segments.
    fn of(pieces: Vec<Piece>) -> Stats {
        let bounds: Vec<Bound> = pieces.iter().map(|p| p.bound.clone()).collect();
        let reduced: Vec<Bound> = pieces.iter().map(|p| p.reduced_bound.clone()).collect();
        let mut stats = Stats {
            seconds: 0.0,
            stages: Vec::new(),
            dims: IndexMap::new(),
            optimised: kiln_passes::Report::default(),
            lowered: Lowered::default(),
            emitted: EmitReport::default(),
            host_segments: 0,
            host_ops: Vec::new(),
            bound: Bound::sum(&bounds),
            reduced_bound: Bound::sum(&reduced),
        };
        let mut pieces = pieces.into_iter();
        if let Some(first) = pieces.next() {
            (stats.optimised, stats.lowered, stats.emitted) = (first.optimised, first.lowered, first.emitted);
        }
        pieces.for_each(|piece| stats.add(piece));
        stats
    }

    fn add(&mut self, piece: Piece) {
        for (rule, fired) in piece.optimised.algebra.fired {
            self.optimised.algebra.fired.entry(rule).or_insert(fired);
        }
        self.optimised.algebra.terms += piece.optimised.algebra.terms;
        self.lowered.groups.extend(piece.lowered.groups);
        self.lowered.problems += piece.lowered.problems;
        self.lowered.lower_bound_ticks += piece.lowered.lower_bound_ticks;
        self.lowered.alternatives += piece.lowered.alternatives;
        let (all, one) = (&mut self.emitted, piece.emitted);
        for (stream, count) in one.instructions {
            *all.instructions.entry(stream).or_default() += count;
        }
        all.text_bytes += one.text_bytes;
        all.semaphores = all.semaphores.max(one.semaphores);
        all.constraints = (all.constraints.0 + one.constraints.0, all.constraints.1 + one.constraints.1);
        all.sync_executed += one.sync_executed;
        all.spm_peak_bytes = all.spm_peak_bytes.max(one.spm_peak_bytes);
        all.acc_peak_bytes = all.acc_peak_bytes.max(one.acc_peak_bytes);
        all.packings.extend(one.packings);
        all.group_words.extend(one.group_words);
        all.dram_bytes = all.dram_bytes.max(one.dram_bytes);
        all.temp_bytes += one.temp_bytes;
    }

    /// MACs of the imported model over what the array at its peak does in `cycles`.
    pub fn utilization(&self, cycles: u64) -> f64 {
        self.bound.mac_cycles / cycles.max(1) as f64
    }

    /// Instructions in the text of all streams.
    pub fn instructions(&self) -> usize {
        self.emitted.instructions.values().sum()
    }
}

/// Runs the stages with their wall times; a stage that runs again adds to its own.
#[derive(Default)]
struct Stages(Vec<(&'static str, f64)>);

impl Stages {
    fn run<T>(&mut self, name: &'static str, stage: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let _span = tracing::info_span!(STAGE, name).entered();
        let start = Instant::now();
        let result = stage();
        let seconds = start.elapsed().as_secs_f64();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.0.push((name, seconds)),
        }
        result
    }
}

/// Compiles a model for a target.
///
/// # Errors
/// Everything that is wrong with the model or the options, and our own faults, each with its stage.
pub fn compile(options: &CompileOptions) -> Result<Compiled, Error> {
    let start = Instant::now();
    let mut stages = Stages::default();
    let target = &options.target;
    let Imported { mut module, files, binding, outputs, .. } =
        stages.run("import", || Ok(kiln_frontend::import(&options.model, &options.import_options())?))?;
    stages.run("prepare", || Ok(kiln_passes::prepare(&mut module)?))?;
    let folds = Folds { files: &files };
    let whole = module.func("main")?;
    let mut host_ops = Vec::new();
    let (program, pieces) = match stages
        .run("cut", || Ok(segments::cut(&module, &folds.contents(&module))?))?
    {
        Cut::Whole => {
            let layout = Layout::default();
            let (program, piece) = device_segment(options, &mut module, &files, &layout, &mut stages)?;
            (program, vec![piece])
        }
        Cut::Parts(parts) => {
            host_ops.extend(parts.iter().flat_map(|part| part.host_ops.iter().cloned()));
            if options.device_only {
                return Err(Error::HostOnly(host_ops));
            }
            let mut linker = Linker::new(&module, &whole, &parts, target, &folds)?;
            let mut pieces = Vec::new();
            for mut part in parts {
                match part.side {
                    Side::Host => linker.host(&part)?,
                    Side::Device => {
                        let (emitted, piece) =
                            device_segment(options, &mut part.module, &files, linker.layout(), &mut stages)?;
                        linker.device(emitted);
                        pieces.push(piece);
                    }
                }
            }
            (linker.finish(target)?, pieces)
        }
    };
    stages.run("check", || Ok(kiln_backend::check::check(&program, target)?))?;
    let folder = match &options.data_folder {
        Some(folder) => folder.clone(),
        None => options.model.parent().map(Path::to_path_buf).unwrap_or_default(),
    };
    let is_host = |segment: &&Segment| matches!(segment, Segment::Host(_));
    let stats = Stats {
        seconds: start.elapsed().as_secs_f64(),
        stages: stages.0,
        dims: binding.dims,
        host_segments: program.segments.iter().filter(is_host).count(),
        host_ops,
        ..Stats::of(pieces)
    };
    Ok(Compiled {
        program,
        target: target.clone(),
        stats,
        folder,
        threads: options.threads,
        sanitize: options.sanitize,
        outputs,
    })
}

/// What is known of one device segment.
struct Piece {
    optimised: kiln_passes::Report,
    lowered: Lowered,
    emitted: EmitReport,
    bound: Bound,
    reduced_bound: Bound,
}

/// Compiles `main` of a prepared module to a program of one segment.
fn device_segment(
    options: &CompileOptions,
    module: &mut Module,
    files: &[SourceFile],
    layout: &Layout,
    stages: &mut Stages,
) -> Result<(Program, Piece), Error> {
    let target = &options.target;
    let imported = stages.run("bound", || Ok(bound(&module.func("main")?, target)))?;
    let passes = kiln_passes::Options {
        target: target.clone(),
        grade: options.grade,
        weights: options.weights.unwrap_or_else(|| default_weights(files)),
        retries: BTreeMap::new(),
    };
    let optimised = stages.run("algebra", || Ok(kiln_passes::rewrite(module, &passes)?))?;
    let func = module.func("main")?;
    let reduced = stages.run("bound", || Ok(bound(&func, target)))?;
    let folds = Folds { files };
    let (mut plan, mut attempts) = (Plan::default(), 0);
    loop {
        let planning = plan.target(target)?;
        let lowered = stages.run("lower", || Ok(lower_again(module, &planning, &plan.groups)?))?;
        let emitted =
            stages.run("emit", || Ok(kiln_backend::emit_with_report(module, target, &folds, layout)?));
        match emitted {
            // The planner and the allocator count differently: what did not fit is planned again for less memory.
            Err(Error::Backend(BackendError::DoesNotFit { group, space, missing_bytes }))
                if attempts < MOST_ATTEMPTS && plan.retry(&group, space) =>
            {
                attempts += 1;
                tracing::debug!(group, %space, missing_bytes, attempts, "planning again");
                segments::restore(module, &func)?;
            }
            Err(error) => return Err(error),
            Ok((program, emitted)) => {
                let piece = Piece { optimised, lowered, emitted, bound: imported, reduced_bound: reduced };
                return Ok((program, piece));
            }
        }
    }
}

/// How much less memory is planned with than there is.
#[derive(Default)]
struct Plan {
    /// Groups that are tiled for a scratchpad some eighths smaller.
    groups: BTreeMap<String, u32>,
    /// Eighths by which all groups are tiled for smaller accumulators.
    acc_eighths: u64,
}

impl Plan {
    /// Plans with less of `space`; false when there is no less.
    fn retry(&mut self, group: &str, space: Space) -> bool {
        match space {
            Space::Spm => {
                let eighths = self.groups.entry(group.to_string()).or_default();
                *eighths += 1;
                *eighths < 8
            }
            Space::Acc => {
                // Other accumulators give other groups, so that the names mean others.
                self.groups.clear();
                self.acc_eighths += 1;
                self.acc_eighths < 8
            }
        }
    }

    /// The target that is planned for.
    fn target(&self, target: &Target) -> Result<Target, Error> {
        let mut planning = target.clone();
        if self.acc_eighths > 0 {
            let unit = target.partitions * target.acc_banks * 4;
            let less = (target.acc_bytes - target.acc_bytes / 8 * self.acc_eighths) / unit * unit;
            planning.set("acc_bytes", &less.to_string())?;
        }
        Ok(planning)
    }
}

fn default_weights(files: &[SourceFile]) -> Weights {
    let bytes: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
    if bytes > REWRITTEN_AT_MOST_BYTES { Weights::ByReference } else { Weights::Rewritten }
}

/// What a program wants to be given.
pub fn wanted_by(program: &Program) -> Vec<Wanted> {
    let is_input = |binding: &&Binding| binding.role == BindingRole::Input;
    let wanted = |binding: &Binding| Wanted {
        name: binding.name.clone(),
        dtype: binding.host_dtype,
        shape: binding.shape.to_vec(),
        range: binding.range,
    };
    program.bindings.iter().filter(is_input).map(wanted).collect()
}

/// The outputs of a run, in the model's order, and its counters.
pub struct Run {
    pub outputs: Tensors,
    pub report: Report,
    /// What the sanitizer found, if it was asked for.
    pub findings: Findings,
}

impl Compiled {
    /// What the program wants to be given.
    pub fn wanted(&self) -> Vec<Wanted> {
        wanted_by(&self.program)
    }

    /// Bytes of the program file.
    ///
    /// # Errors
    /// When it breaks a limit of the format.
    pub fn program_bytes(&self) -> Result<usize, Error> {
        Ok(self.program.to_bytes()?.len())
    }

    /// Simulates the program on `inputs`.
    ///
    /// # Errors
    /// Inputs that the program does not take, files that changed since, and traps.
    pub fn run(&self, inputs: &Tensors) -> Result<Run, Error> {
        self.simulate(inputs, false)
    }

    /// Counts cycles without computing values; there are no outputs.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn time(&self) -> Result<Run, Error> {
        self.simulate(&Tensors::new(), true)
    }

    /// Every instruction's stay on its unit, with values left out.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn trace(&self) -> Result<Vec<kiln_runtime::TraceEvent>, Error> {
        let options = SimOptions {
            model_dir: self.folder.clone(),
            timing_only: true,
            trace: true,
            ..SimOptions::default()
        };
        let mut simulator = Simulator::new(&self.program, &self.target, options)?;
        Ok(simulator.run(&Tensors::new())?.1.trace)
    }

    fn simulate(&self, inputs: &Tensors, timing_only: bool) -> Result<Run, Error> {
        let options = SimOptions {
            model_dir: self.folder.clone(),
            timing_only,
            threads: self.threads,
            sanitize: self.sanitize,
            host: Some(Box::new(Evaluator)),
            ..SimOptions::default()
        };
        let _span = tracing::info_span!(STAGE, name = "simulate").entered();
        let mut simulator = Simulator::new(&self.program, &self.target, options)?;
        let outcome = simulator.run(inputs);
        let findings = simulator.findings().clone();
        let (mut outputs, report) = match outcome {
            Ok(outcome) => outcome,
            Err(cause) if self.sanitize => {
                return Err(Error::Sanitized { findings: Box::new(findings), cause: Box::new(cause) });
            }
            Err(cause) => return Err(cause.into()),
        };
        // A program that is faster than any can be shows a fault in the timing.
        let least = self.stats.bound.cycles.min(self.stats.reduced_bound.cycles);
        if report.cycles < least {
            return Err(Error::FasterThanBound { cycles: report.cycles, bound: least });
        }
        let ordered = self.outputs.iter().filter_map(|(name, _)| outputs.shift_remove_entry(name)).collect();
        Ok(Run { outputs: ordered, report, findings })
    }
}
