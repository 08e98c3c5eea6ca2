//! `fuzz [--from SEED] [--graphs N] [--ops N] [--keep DIR] [--explain yes]`: runs random graphs and prints the failures, shrunk.
#![forbid(unsafe_code)]

use kiln_testsuite::fuzz::{Graph, check, explain, shrink};
use std::{env, fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("fuzz: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<u64, String> {
    let (mut from, mut graphs, mut ops, mut keep, mut explains) = (0, 100, 12, None, false);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{arg} {value}: {e}"));
        match arg.as_str() {
            "--from" => from = number()?,
            "--graphs" => graphs = number()?,
            "--ops" => ops = number()?.max(1),
            "--keep" => keep = Some(PathBuf::from(&value)),
            "--explain" => explains = value == "yes",
            _ => return Err(format!("no option {arg}")),
        }
    }
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    // Panics are caught and told with their graph.
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = 0;
    for seed in from..from + graphs {
        let graph = Graph::random(seed, ops);
        if graph.ops.is_empty() {
            continue;
        }
        let Err(failure) = check(&graph, seed, folder.path()) else { continue };
        failed += 1;
        let (small, failure) = shrink(&graph, failure, seed, folder.path());
        println!("seed {seed}: {}: {}\n{}", failure.kind, failure.what, small.text());
        if explains && matches!(failure.kind.as_str(), "bits" | "values" | "targets") {
            println!("{}", explain(&small, seed, folder.path())?);
        }
        if let Some(keep) = &keep {
            fs::create_dir_all(keep).map_err(|e| e.to_string())?;
            fs::write(keep.join(format!("seed{seed}.onnx")), small.bytes()?).map_err(|e| e.to_string())?;
        }
    }
    println!("{graphs} graphs, {failed} failed");
    Ok(failed)
}
