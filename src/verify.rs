//! Running models in ONNX's test layout against their stored outputs.
//!
//! A case is a folder with `model.onnx` and `test_data_set_*/input_*.pb, output_*.pb`, as ONNX's own backend tests
//! have them.

use crate::{
    compare::{self, Tolerance},
    compile::{CompileOptions, Compiled, compile},
    error::Error,
    inputs::{self, Tensors},
};
use indexmap::{IndexMap, IndexSet};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Instant,
};

/// One model with its data sets, in order of name.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub model: PathBuf,
    pub data_sets: Vec<PathBuf>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Right, and every op ran on the device.
    Device,
    /// Right, with host segments.
    Host,
    Failed,
    /// Nothing to compare with.
    Skipped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Device => "device",
            Status::Host => "host",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
        }
    }
}

/// The outcome of one case over all its data sets.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub case: String,
    pub status: Status,
    pub max_abs: Option<f64>,
    pub max_rel: Option<f64>,
    pub seconds: f64,
    /// The first fault, with its place; of a host case, what ran there and why.
    pub message: String,
}

/// Finds the cases below `path`: a model file, a folder with one, or a folder of such folders.
/// `data` names the folder of data sets where they do not stand beside the model.
///
/// # Errors
/// When the path does not exist or holds no model.
pub fn cases(path: &Path, data: Option<&Path>) -> Result<Vec<Case>, Error> {
    let metadata = path.metadata().map_err(|source| Error::read(path, source))?;
    if metadata.is_file() {
        let beside = path.parent().unwrap_or(Path::new("."));
        return Ok(vec![case(path, data.unwrap_or(beside))?]);
    }
    let model = path.join("model.onnx");
    if model.is_file() {
        return Ok(vec![case(&model, data.unwrap_or(path))?]);
    }
    let mut found = Vec::new();
    for folder in folders(path)? {
        let model = folder.join("model.onnx");
        if model.is_file() {
            found.push(case(&model, &folder)?);
        }
    }
    if found.is_empty() {
        let what = "holds neither model.onnx nor folders with one".into();
        return Err(Error::DataSet { folder: path.to_path_buf(), what });
    }
    Ok(found)
}

fn case(model: &Path, data: &Path) -> Result<Case, Error> {
    let is_set = |folder: &PathBuf| file_name(folder).starts_with("test_data_set_");
    let data_sets = folders(data)?.into_iter().filter(is_set).collect();
    let stem = model.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = match (stem.as_str(), model.parent()) {
        ("model", Some(folder)) => file_name(&folder.canonicalize().unwrap_or(folder.to_path_buf())),
        _ => stem,
    };
    Ok(Case { name, model: model.to_path_buf(), data_sets })
}

fn folders(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let fault = |source| Error::read(path, source);
    let mut found = Vec::new();
    for entry in path.read_dir().map_err(fault)? {
        let entry = entry.map_err(fault)?.path();
        if entry.is_dir() {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs one case; every failure, a panic of ours included, is a verdict.
pub fn verify(case: &Case, options: &CompileOptions, tolerance: Tolerance) -> Verdict {
    let start = Instant::now();
    let mut verdict = Verdict {
        case: case.name.clone(),
        status: Status::Skipped,
        max_abs: None,
        max_rel: None,
        seconds: 0.0,
        message: String::new(),
    };
    let mut worst = |set: &compare::Worst| {
        verdict.max_abs = Some(verdict.max_abs.unwrap_or(0.0).max(set.max_abs));
        verdict.max_rel = Some(verdict.max_rel.unwrap_or(0.0).max(set.max_rel));
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| run_sets(case, options, tolerance, &mut worst)));
    (verdict.status, verdict.message) = match outcome {
        Ok(Ok(Some(reasons))) => (if reasons.is_empty() { Status::Device } else { Status::Host }, reasons),
        Ok(Ok(None)) => (Status::Skipped, "no data sets".to_string()),
        Ok(Err(message)) => (Status::Failed, message),
        Err(payload) => (Status::Failed, format!("internal error: {}", panic_message(payload.as_ref()))),
    };
    verdict.seconds = start.elapsed().as_secs_f64();
    verdict
}

/// Why parts ran on the host (nothing when none did), or `None` when there was nothing to run.
fn run_sets(
    case: &Case,
    options: &CompileOptions,
    tolerance: Tolerance,
    worst: &mut dyn FnMut(&compare::Worst),
) -> Result<Option<String>, String> {
    let line = |e: Error| e.in_one_line();
    let names: Vec<String> =
        crate::compile::inputs(&case.model).map_err(line)?.into_iter().map(|i| i.name).collect();
    // Data sets of one shape share a program.
    let mut programs: IndexMap<Vec<(String, Vec<usize>)>, Compiled> = IndexMap::new();
    let mut fault = None;
    for folder in &case.data_sets {
        let set = file_name(folder);
        let inputs = inputs::from_data_set(folder, "input", &names).map_err(line)?;
        let shapes: Vec<_> =
            inputs.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
        if !programs.contains_key(&shapes) {
            let mut options = options.clone();
            options.model = case.model.clone();
            options.shapes = shapes.iter().cloned().collect();
            programs.insert(shapes.clone(), compile(&options).map_err(line)?);
        }
        let compiled = &programs[&shapes];
        let names: Vec<String> = compiled.outputs.iter().map(|(name, _)| name.clone()).collect();
        let wanted = inputs::from_data_set(folder, "output", &names).map_err(line)?;
        let run = compiled.run(&inputs).map_err(|e| format!("{set}: {}", e.in_one_line()))?;
        if let Some(finding) = run.findings.faults().next() {
            let text = finding.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
            fault.get_or_insert(format!("{set}: {text} [{}]", finding.kind.code()));
        }
        if let Some(message) = compare_all(&run.outputs, &wanted, tolerance, worst) {
            fault.get_or_insert(format!("{set}: {message}"));
        }
    }
    match fault {
        Some(message) => Err(message),
        None if programs.is_empty() => Ok(None),
        None => Ok(Some(host_reasons(programs.values()))),
    }
}

/// Each kind of op that ran on the host, once, with its reason.
fn host_reasons<'a>(programs: impl Iterator<Item = &'a Compiled>) -> String {
    let ops = programs.flat_map(|compiled| &compiled.stats.host_ops);
    let told: IndexSet<String> = ops.map(|op| format!("{}: {}", op.op, op.reason)).collect();
    told.into_iter().collect::<Vec<_>>().join("; ")
}

/// The first fault among the outputs, in words.
fn compare_all(
    got: &Tensors,
    wanted: &Tensors,
    tolerance: Tolerance,
    worst: &mut dyn FnMut(&compare::Worst),
) -> Option<String> {
    let mut fault = None;
    for (name, want) in wanted {
        let message = match got.get(name) {
            None => Some("is not among the model's outputs".to_string()),
            Some(got) => match compare::compare(got, want, tolerance) {
                Err(message) => Some(message),
                Ok(found) => {
                    worst(&found);
                    (found.outside > 0).then(|| {
                        let Tolerance { rtol, atol } = tolerance;
                        format!(
                            "{} of {} elements outside rtol {rtol} atol {atol}, worst by {:.3e} at {:?}",
                            found.outside,
                            want.elements(),
                            found.max_abs,
                            found.at
                        )
                    })
                }
            },
        };
        if let Some(message) = message {
            fault.get_or_insert(format!("output {name}: {message}"));
        }
    }
    fault
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "panic",
    }
}
