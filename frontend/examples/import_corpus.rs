//! Imports folders in ONNX's test layout, each data set with its own shapes, and tells what is missing.
//!
//! `import_corpus DIR…`: DIR holds `model.onnx` and `test_data_set_*`, or such folders.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_frontend::{Code, Diagnostics, ImportOptions, import, inspect, tensor_pb};

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

fn run(model: &Path, set: &Path) -> Result<String, Box<dyn Error>> {
    let mut options = ImportOptions::default();
    let mut tensors = Vec::new();
    for (i, spec) in inspect(model)?.iter().enumerate() {
        let (_, tensor) = tensor_pb::read(&set.join(format!("input_{i}.pb")))?;
        options.input_shapes.insert(spec.name.clone(), tensor.shape.clone());
        tensors.push(tensor);
    }
    let imported = import(model, &options)?;
    imported.module.verify()?;
    Ok(format!("{} inputs", tensors.len()))
}
