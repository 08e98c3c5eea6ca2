//! What the passes over `nn` do to models, checked against the reference evaluator:
//! `algebra [--no-eval] [--print] FOLDER…`, each folder with `model.onnx` and `test_data_set_0`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use kiln_frontend::{ImportOptions, import, tensor_pb};
use kiln_ir::eval::{self, Files};
use kiln_ir::{DType, Module, Tensor};
use kiln_passes::algebra::{Grade, Weights};

type Failure = Box<dyn std::error::Error>;

fn main() {
    let (flags, folders): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let mut totals: BTreeMap<&str, u32> = BTreeMap::new();
    for folder in &folders {
        match one(Path::new(folder), &flags) {
            Ok(fired) => fired.into_iter().for_each(|(name, n)| *totals.entry(name).or_default() += n),
            Err(e) => println!("{folder}: FAILED: {e}"),
        }
    }
    println!("models that a rule fired on:");
    for rule in kiln_passes::algebra::RULES {
        println!("  {:<18} {}", rule.name, totals.get(rule.name).copied().unwrap_or(0));
    }
}

fn one(folder: &Path, flags: &[String]) -> Result<Vec<(&'static str, u32)>, Failure> {
    let has = |f: &str| flags.iter().any(|x| x == f);
    let inputs = read_inputs(folder)?;
    let mut options = ImportOptions::default();
    for (name, tensor) in &inputs {
        options.input_shapes.insert(name.clone(), tensor.shape.clone());
    }
    let imported = import(&folder.join("model.onnx"), &options).map_err(|e| e.to_string())?;
    let mut module = imported.module;
    let maps = |module: &Module| -> Files {
        let mut sources = imported.files.iter();
        let names = module.files();
        let maps = names.iter().map(|name| match name.is_empty() {
            true => Default::default(),
            false => sources.next().map(|s| s.bytes.clone()).unwrap_or_default(),
        });
        Files::of(module, maps.collect())
    };
    let before = module.func("main")?;
    let files = maps(&module);
    let options = kiln_passes::Options {
        target: kiln_machine::target::Target::preset("core")?,
        grade: if has("--e0") { Grade::E0 } else { Grade::E1 },
        weights: if has("--by-reference") { Weights::ByReference } else { Weights::Rewritten },
        retries: BTreeMap::new(),
    };
    let start = Instant::now();
    let report = kiln_passes::optimise(&mut module, &options)?;
    let elapsed = start.elapsed();
    let after = module.func("main")?;
    if has("--print") {
        println!("{}", module.print_elided(16));
    }
    let r = &report.algebra;
    println!(
        "{}: {} ops to {}, cost {} to {} (at least {}), {} terms in {} rounds, {:.0} ms",
        folder.file_name().unwrap_or_default().to_string_lossy(),
        before.ops.len(),
        after.ops.len(),
        r.cost_before,
        r.cost,
        r.lower_bound,
        r.terms,
        r.rounds,
        elapsed.as_secs_f64() * 1e3
    );
    if has("--rules") {
        for (name, f) in &r.fired {
            println!(
                "    {name:<18} {:>5} times, {:>5} terms, {} refused",
                f.times, f.terms, f.refused_cycle
            );
        }
    }
    if !has("--no-eval") {
        let mut args = Vec::new();
        for (v, port) in before.arg_values().zip(&before.args) {
            let (_, tensor) =
                inputs.iter().find(|(n, _)| *n == port.name).ok_or(format!("no input {}", port.name))?;
            args.push(narrowed(tensor, before.ty(v).dtype));
        }
        let want = eval::nn::eval(&before, &args, &files)?;
        let got = eval::nn::eval(&after, &args, &maps(&module))?;
        for ((a, b), (_, port)) in want.iter().zip(&got).zip(&before.results) {
            let (worst, scale) = difference(a, b)?;
            let limit = if a.dtype == DType::F32 { 1e-4 } else { 2e-2 };
            let verdict = if worst <= limit * (1.0 + scale) { "ok" } else { "DIFFERS" };
            println!("    {verdict} {}: |difference| ≤ {worst:.2e}, values to {scale:.2e}", port.name);
        }
    }
    Ok(r.fired.iter().filter(|(_, f)| f.times > 0).map(|(name, _)| (*name, 1)).collect())
}

fn read_inputs(folder: &Path) -> Result<Vec<(String, Tensor)>, Failure> {
    let mut inputs = Vec::new();
    for i in 0.. {
        let path = folder.join(format!("test_data_set_0/input_{i}.pb"));
        if !path.exists() {
            break;
        }
        inputs.push(tensor_pb::read(&path).map_err(|e| e.to_string())?);
    }
    Ok(inputs)
}

/// An i64 tensor as the device holds it.
fn narrowed(tensor: &Tensor, dtype: DType) -> Tensor {
    if tensor.dtype != DType::I64 || dtype != DType::I32 {
        return tensor.clone();
    }
    let words = tensor.data.chunks_exact(8);
    let data: Vec<u8> = words.flat_map(|w| w[..4].to_vec()).collect();
    Tensor { dtype, shape: tensor.shape.clone(), data: data.into() }
}

/// The largest difference, and the largest finite value.
fn difference(a: &Tensor, b: &Tensor) -> Result<(f64, f64), Failure> {
    if a.dtype != b.dtype || a.shape != b.shape {
        return Err("an output changed its type".into());
    }
    let size = a.dtype.size_bytes();
    let read = |c: &[u8]| kiln_passes::axes::number::from_bytes(c, a.dtype).unwrap_or(f64::NAN);
    let (mut worst, mut scale): (f64, f64) = (0.0, 0.0);
    for (x, y) in a.data.chunks_exact(size).zip(b.data.chunks_exact(size)) {
        let (x, y) = (read(x), read(y));
        if x.is_nan() != y.is_nan() {
            worst = f64::INFINITY;
        } else if x != y && !x.is_nan() {
            worst = worst.max((x - y).abs());
        }
        if x.is_finite() {
            scale = scale.max(x.abs());
        }
    }
    Ok((worst, scale))
}
