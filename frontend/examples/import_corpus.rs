//! Imports folders in ONNX's test layout, each data set with its own shapes, and tells what is missing.
//!
//! `import_corpus DIR…`: DIR holds `model.onnx` and `test_data_set_*`, or such folders.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_frontend::{Code, Diagnostics, ImportOptions, import, inspect, tensor_pb};
use kiln_ir::eval::{Files, nn::eval};
use kiln_machine::tensor::{DType, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    let (mut passed, mut failed) = (0, 0);
    for folder in std::env::args().skip(1).flat_map(|dir| cases(Path::new(&dir))) {
        for set in sets(&folder)? {
            let started = std::time::Instant::now();
            match run(&folder.join("model.onnx"), &set) {
                Ok(text) => {
                    passed += 1;
                    println!("ok   {} {text} {} ms", set.display(), started.elapsed().as_millis());
                }
                Err(error) => {
                    failed += 1;
                    println!("FAIL {}: {error}", set.display());
                    if let Some(problems) = error.downcast_ref::<Diagnostics>() {
                        for problem in problems.iter().filter(|p| p.code == Code::UnknownOp) {
                            let op = problem.node.as_ref().map_or("?", |n| n.op_type.as_str());
                            *missing.entry(op.to_string()).or_default() += 1;
                        }
                    }
                }
            }
        }
    }
    for (op, nodes) in missing {
        println!("missing {op}: {nodes} nodes");
    }
    println!("{passed} passed, {failed} failed");
    Ok(())
}

fn cases(dir: &Path) -> Vec<PathBuf> {
    if dir.join("model.onnx").exists() {
        return vec![dir.to_path_buf()];
    }
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.join("model.onnx").exists())
        .collect();
    found.sort();
    found
}

fn sets(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut sets: Vec<PathBuf> = fs::read_dir(folder)?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("test_data_set")))
        .collect();
    sets.sort();
    Ok(sets)
}

/// Imports with the set's shapes, evaluates, and compares; the text tells the worst error.
fn run(model: &Path, set: &Path) -> Result<String, Box<dyn Error>> {
    let (rtol, atol) = if model.to_string_lossy().contains("16") { (2e-2, 2e-2) } else { (1e-3, 1e-4) };
    let mut options = ImportOptions {
        data_folder: std::env::var_os("DATA_FOLDER").map(PathBuf::from),
        ..Default::default()
    };
    let mut tensors = Vec::new();
    for (i, spec) in inspect(model)?.iter().enumerate() {
        let (_, tensor) = tensor_pb::read(&set.join(format!("input_{i}.pb")))?;
        options.input_shapes.insert(spec.name.clone(), tensor.shape.clone());
        tensors.push(tensor);
    }
    let imported = import(model, &options)?;
    imported.module.verify()?;
    let func = imported.module.func("main")?;
    let files = Files::of(&imported.module, imported.files.iter().map(|f| f.bytes.clone()).collect());
    let mut device = Vec::new();
    for (v, tensor) in func.arg_values().zip(&tensors) {
        let dtype = func.ty(v).dtype;
        device.push(if dtype == tensor.dtype { tensor.clone() } else { convert(tensor, dtype)? });
    }
    let outputs = eval(&func, &device, &files)?;
    let mut worst = (0.0f64, 0.0f64);
    for (i, (output, (name, ty))) in outputs.iter().zip(&imported.outputs).enumerate() {
        let file = set.join(format!("output_{i}.pb"));
        if !file.exists() {
            continue;
        }
        let (_, expected) = tensor_pb::read(&file)?;
        if ty.dtype != expected.dtype || output.shape != expected.shape {
            return Err(format!("{name}: {ty} instead of {}{:?}", expected.dtype, expected.shape).into());
        }
        let (got, want) = (numbers(output)?, numbers(&expected)?);
        for (at, (&a, &b)) in got.iter().zip(&want).enumerate() {
            let error = (a - b).abs();
            let fine = (a.is_nan() && b.is_nan()) || a == b || error <= atol + rtol * b.abs();
            if !fine {
                return Err(format!("{name}[{at}] = {a} instead of {b}").into());
            }
            if error.is_finite() {
                worst = (worst.0.max(error), worst.1.max(error / b.abs().max(1e-3)));
            }
        }
    }
    Ok(format!("{} ops, max abs {:.1e} rel {:.1e}", func.ops.len(), worst.0, worst.1))
}

fn convert(tensor: &Tensor, dtype: DType) -> Result<Tensor, Box<dyn Error>> {
    let data = numbers(tensor)?.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect::<Vec<u8>>();
    match dtype {
        DType::I32 => Ok(Tensor { dtype, shape: tensor.shape.clone(), data: data.into() }),
        other => Err(format!("{} held as {other}", tensor.dtype).into()),
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, Box<dyn Error>> {
    fn each<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
    }
    let d = &tensor.data[..];
    Ok(match tensor.dtype {
        DType::F32 => each(d, |b| f32::from_le_bytes(b).into()),
        DType::F16 => each(d, |b| half::f16::from_le_bytes(b).into()),
        DType::BF16 => each(d, |b| half::bf16::from_le_bytes(b).into()),
        DType::F64 => each(d, f64::from_le_bytes),
        DType::I64 => each(d, |b| i64::from_le_bytes(b) as f64),
        DType::I32 => each(d, |b| i32::from_le_bytes(b).into()),
        DType::U8 | DType::Bool => each(d, |b: [u8; 1]| b[0].into()),
        DType::I8 => each(d, |b| i8::from_le_bytes(b).into()),
        other => return Err(format!("{other} is not compared").into()),
    })
}
