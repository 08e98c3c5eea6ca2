//! One graph, compiled for several targets and compared with the evaluator.

use super::{Graph, stages::first_wrong};
use kiln::{
    CompileOptions, Tensors,
    compare::{Tolerance, compare},
    host::Folds,
    inputs::fill,
};
use kiln_frontend::{ImportOptions, Imported};
use kiln_ir::{
    Module, TensorType,
    eval::{
        self,
        array::{self, Array},
    },
};
use kiln_machine::{random::Rng, target::Target, tensor::Tensor};
use kiln_passes::algebra::Grade;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// What went wrong, by kind: a graph is shrunk as long as the kind stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `import`, `evaluate`, `compile`, `run`, `bits`, `values`, `targets` or `panic`, and the error's code.
    pub kind: String,
    /// In words, with the target.
    pub what: String,
}

impl Failure {
    pub(super) fn new(kind: impl Into<String>, what: impl Into<String>) -> Self {
        Failure { kind: kind.into(), what: what.into() }
    }
}

/// Where the values of a graph go wrong, for the grades and targets of `seed`, one a line.
pub fn explain(graph: &Graph, seed: u64, folder: &Path) -> Result<String, String> {
    let path = folder.join("model.onnx");
    fs::write(&path, graph.bytes()?).map_err(|e| e.to_string())?;
    let mut text = String::new();
    for grade in [Grade::E0, Grade::E1] {
        for (name, target) in targets(seed) {
            let mut given = Tensors::new();
            let options = CompileOptions::new(path.clone(), target.clone());
            let Ok(compiled) = kiln::compile(&options) else { continue };
            fill(&compiled.wanted(), &mut given, seed);
            let stage = first_wrong(&path, &given, &target, grade)
                .unwrap_or_else(|f| format!("{}: {}", f.kind, f.what));
            text += &format!("{name}, {grade}: first wrong: {stage}\n");
        }
    }
    Ok(text)
}

/// Compiles `graph` for the targets of `seed`, runs it and compares. `folder` takes the model file.
///
/// # Errors
/// The first difference or error. A group that does not fit is none: small scratchpads are among the targets.
pub fn check(graph: &Graph, seed: u64, folder: &Path) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(|| compare_all(graph, seed, folder))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default();
        Err(Failure::new("panic", text))
    })
}

fn compare_all(graph: &Graph, seed: u64, folder: &Path) -> Result<(), Failure> {
    let path = folder.join("model.onnx");
    let bytes = graph.bytes().map_err(|e| Failure::new("write", e))?;
    fs::write(&path, bytes).map_err(|e| Failure::new("write", e.to_string()))?;
    let mut given = Tensors::new();
    let mut expected: Option<Tensors> = None;
    for grade in [Grade::E0, Grade::E1] {
        let mut first: Option<(String, Tensors)> = None;
        for (name, target) in targets(seed) {
            let mut options = CompileOptions::new(path.clone(), target);
            options.grade = grade;
            options.device_only = true;
            let compiled = match kiln::compile(&options) {
                Ok(compiled) => compiled,
                Err(error) if error.in_one_line().contains("does not fit") => continue,
                Err(error) => {
                    let text = error.in_one_line();
                    let code = text.split([':', ' ']).next().unwrap_or("").to_string();
                    return Err(Failure::new(format!("compile {code}"), format!("{name}, {grade}: {text}")));
                }
            };
            fill(&compiled.wanted(), &mut given, seed);
            let expected = match &mut expected {
                Some(expected) => expected,
                None => expected.insert(evaluate(&path, &given)?),
            };
            let run = compiled
                .run(&given)
                .map_err(|e| Failure::new("run", format!("{name}, {grade}: {}", e.in_one_line())))?;
            match grade {
                Grade::E0 if !graph.rounds() => {
                    same_bits("bits", &format!("{name}, e0, against nn"), &run.outputs, expected)?
                }
                _ if !graph.jumps() => near(&format!("{name}, {grade}"), &run.outputs, expected)?,
                _ => {}
            }
            match &first {
                Some((other, outputs)) => {
                    same_bits("targets", &format!("{name} against {other}, {grade}"), &run.outputs, outputs)?;
                }
                None => first = Some((name, run.outputs)),
            }
        }
    }
    Ok(())
}

/// `nn` as imported, evaluated.
fn evaluate(path: &Path, inputs: &Tensors) -> Result<Tensors, Failure> {
    let imported = kiln_frontend::import(path, &ImportOptions::default());
    let Imported { module, files, outputs, .. } =
        imported.map_err(|e| Failure::new("import", e.to_string()))?;
    evaluate_nn(&module, &Folds { files: &files }, inputs, &outputs)
}

/// `main` of a module on host tensors, its results as the user sees them.
pub(super) fn evaluate_nn(
    module: &Module,
    folds: &Folds<'_>,
    inputs: &Tensors,
    outputs: &[(String, TensorType)],
) -> Result<Tensors, Failure> {
    let fault = |e: kiln_ir::IrError| Failure::new("evaluate", e.to_string());
    let func = module.func("main").map_err(fault)?;
    let cast = |tensor: &Tensor, dtype| array::cast(&Array::from_tensor(tensor), dtype).to_tensor();
    let mut ordered = Vec::new();
    for (port, value) in func.args.iter().zip(func.arg_values()) {
        let dtype = func.ty(value).dtype;
        match inputs.get(&port.name) {
            Some(tensor) => ordered.push(cast(tensor, dtype)),
            None => return Err(Failure::new("evaluate", format!("no value for {}", port.name))),
        }
    }
    let results = eval::nn::eval(&func, &ordered, &folds.contents(module)).map_err(fault)?;
    let named = func.results.iter().zip(results);
    Ok(named
        .map(|((_, port), tensor)| {
            let host = outputs.iter().find(|(name, _)| *name == port.name).map(|(_, ty)| ty.dtype);
            (port.name.clone(), cast(&tensor, host.unwrap_or(tensor.dtype)))
        })
        .collect())
}

/// Presets, and machines with few partitions, odd sizes or little memory.
fn targets(seed: u64) -> Vec<(String, Target)> {
    let mut rng = Rng::new(seed ^ 0x7a);
    let mut made = Vec::new();
    let preset = if rng.below(2) == 0 { "edge" } else { "core" };
    let sets: [Vec<(&str, String)>; 3] = [vec![], vec![("spm_bytes", format!("{}K", 32 << rng.below(4)))], {
        let partitions = [4, 8, 12, 16, 20, 36][rng.below(6) as usize];
        let spm = partitions * 4 * (256 + 64 * rng.below(32));
        // Four banks of whole elements.
        let acc = partitions * 16 * (16 + rng.below(64));
        vec![
            ("partitions", partitions.to_string()),
            ("spm_bytes", spm.to_string()),
            ("acc_bytes", acc.to_string()),
            ("acc_banks", "4".into()),
            ("has_mtrn", rng.below(2).to_string()),
            ("dma_queues", (1 + rng.below(8)).to_string()),
        ]
    }];
    for set in sets {
        let name = if set.is_empty() {
            preset.to_string()
        } else {
            set.iter().fold(preset.to_string(), |name, (key, value)| format!("{name} --set {key}={value}"))
        };
        let Ok(mut target) = Target::preset(preset) else { continue };
        let pairs = set.iter().map(|(key, value)| (*key, value.as_str()));
        if target.set_all(pairs).is_ok() {
            made.push((name, target));
        }
    }
    made
}

fn same_bits(kind: &str, what: &str, got: &Tensors, want: &Tensors) -> Result<(), Failure> {
    for (name, want) in want {
        let Some(got) = got.get(name) else {
            return Err(Failure::new(kind, format!("{what}: no output {name}")));
        };
        if got.shape != want.shape || got.dtype != want.dtype {
            let what = format!("{what}: {name} is {} {:?}, not {:?}", got.dtype, got.shape, want.shape);
            return Err(Failure::new(kind, what));
        }
        let size = want.dtype.size_bytes();
        let differ = |i: &usize| {
            let range = i * size..(i + 1) * size;
            got.data[range.clone()] != want.data[range]
                && !(got.element_f64(*i).is_nan() && want.element_f64(*i).is_nan())
        };
        let count = (0..want.elements()).filter(differ).count();
        if let Some(at) = (0..want.elements()).find(differ) {
            let what = format!(
                "{what}: {count} of {} elements of {name} differ, the first at {at}: {} where {} is expected",
                want.elements(),
                got.element_f64(at),
                want.element_f64(at)
            );
            return Err(Failure::new(kind, what));
        }
    }
    Ok(())
}

pub(super) fn near(what: &str, got: &Tensors, want: &Tensors) -> Result<(), Failure> {
    for (name, want) in want {
        let Some(got) = got.get(name) else {
            return Err(Failure::new("values", format!("{what}: no output {name}")));
        };
        let largest =
            want.to_f64_vec().into_iter().filter(|v| v.is_finite()).fold(1.0, |m: f64, v| m.max(v.abs()));
        let tolerance = Tolerance { rtol: 1e-3, atol: 1e-3 * largest };
        let worst = compare(got, want, tolerance)
            .map_err(|e| Failure::new("values", format!("{what}: {name}: {e}")))?;
        if worst.outside > 0 {
            return Err(Failure::new("values", format!("{what}: {name}: {worst:?}")));
        }
    }
    Ok(())
}
