//! The whole pipeline on one screen: model file in, program out; and running what was compiled.

use crate::{
    bound::{Bound, bound},
    error::Error,
    host::Folds,
    inputs::{Tensors, Wanted},
};
use indexmap::IndexMap;
use kiln_backend::EmitReport;
use kiln_frontend::{DimSpec, ImportOptions, Imported, InputSpec, SourceFile};
use kiln_ir::{Module, TensorType};
use kiln_machine::{
    program::{Binding, BindingRole, Program, Segment},
    target::Target,
};
use kiln_passes::lower::{Lowered, lower};
use kiln_runtime::{Options as SimOptions, Report, Simulator};
use std::{
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
}

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
        }
    }

    fn import_options(&self) -> ImportOptions {
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
    pub lowered: Lowered,
    pub emitted: EmitReport,
    pub host_segments: usize,
    /// The bound of the graph as imported, against whose MACs utilisation is counted.
    pub bound: Bound,
}

impl Stats {
    /// MACs of the imported model over what the array at its peak does in `cycles`.
    pub fn utilization(&self, cycles: u64) -> f64 {
        self.bound.mac_cycles / cycles.max(1) as f64
    }

    /// Instructions in the text of all streams.
    pub fn instructions(&self) -> usize {
        self.emitted.instructions.values().sum()
    }
}

/// Runs the stages with their wall times.
#[derive(Default)]
struct Stages(Vec<(&'static str, f64)>);

impl Stages {
    fn run<T>(&mut self, name: &'static str, stage: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let _span = tracing::info_span!("stage", name).entered();
        let start = Instant::now();
        let result = stage();
        self.0.push((name, start.elapsed().as_secs_f64()));
        result
    }
}

/// Compiles a model for a target.
///
/// # Errors
/// Everything that is wrong with the model or the options, and our own faults, each with its stage.
pub fn compile(options: &CompileOptions) -> Result<Compiled, Error> {
    let start = Instant::now();
    let target = &options.target;
    let mut stages = Stages::default();
    let Imported { mut module, files, binding, outputs, .. } =
        stages.run("import", || Ok(kiln_frontend::import(&options.model, &options.import_options())?))?;
    let bound = stages.run("bound", || Ok(bound(&module.func("main")?, target)))?;
    let lowered = stages.run("lower", || Ok(lower(&mut module, target)?))?;
    let (program, emitted) = stages.run("emit", || emit(&module, target, &files))?;
    let is_host = |segment: &&Segment| matches!(segment, Segment::Host(_));
    let host_segments = program.segments.iter().filter(is_host).count();
    let folder = match &options.data_folder {
        Some(folder) => folder.clone(),
        None => options.model.parent().map(Path::to_path_buf).unwrap_or_default(),
    };
    let seconds = start.elapsed().as_secs_f64();
    let stats =
        Stats { seconds, stages: stages.0, dims: binding.dims, lowered, emitted, host_segments, bound };
    Ok(Compiled { program, target: target.clone(), stats, folder, outputs })
}

fn emit(module: &Module, target: &Target, files: &[SourceFile]) -> Result<(Program, EmitReport), Error> {
    Ok(kiln_backend::emit_with_report(module, target, &Folds { files })?)
}

/// The outputs of a run, in the model's order, and its counters.
pub struct Run {
    pub outputs: Tensors,
    pub report: Report,
}

impl Compiled {
    /// What the program wants to be given.
    pub fn wanted(&self) -> Vec<Wanted> {
        let is_input = |binding: &&Binding| binding.role == BindingRole::Input;
        let wanted = |binding: &Binding| Wanted {
            name: binding.name.clone(),
            dtype: binding.host_dtype,
            shape: binding.shape.iter().map(|n| *n as usize).collect(),
            range: binding.range,
        };
        self.program.bindings.iter().filter(is_input).map(wanted).collect()
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

    fn simulate(&self, inputs: &Tensors, timing_only: bool) -> Result<Run, Error> {
        let options = SimOptions { model_dir: self.folder.clone(), timing_only, ..SimOptions::default() };
        let mut simulator = Simulator::new(&self.program, &self.target, options)?;
        let (mut outputs, report) = simulator.run(inputs)?;
        // A program that is faster than any can be shows a fault in the timing.
        if report.cycles < self.stats.bound.cycles {
            tracing::warn!(cycles = report.cycles, bound = self.stats.bound.cycles, "faster than the bound");
        }
        let ordered = self.outputs.iter().filter_map(|(name, _)| outputs.shift_remove_entry(name)).collect();
        Ok(Run { outputs: ordered, report })
    }
}
