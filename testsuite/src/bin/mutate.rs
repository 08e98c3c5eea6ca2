//! `mutate [--target NAME] [--count N] [--missed yes] [PATH…]`: breaks programs in one place each and prints how many of
//! the mutants that change behaviour the sanitizer reports. A path is an assembly text or a folder with model.onnx;
//! without any, all hand-written programs and all models of the tests. `--count` draws so many mutants of each program.
#![forbid(unsafe_code)]

use kiln_testsuite::mutate::{Kind, Score, Subject, compiled, sample, written};
use std::{collections::BTreeMap, env, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("mutate: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (mut target, mut count, mut tells, mut paths) = ("edge".to_owned(), usize::MAX, false, Vec::new());
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "--target" => target = value()?,
            "--count" => count = value()?.parse().map_err(|error| format!("--count: {error}"))?,
            "--missed" => tells = value()? == "yes",
            _ if arg.starts_with('-') => return Err(format!("no option {arg}")),
            _ => paths.push(PathBuf::from(arg)),
        }
    }
    if paths.is_empty() {
        paths = kiln_testsuite::hand_written().map_err(|error| error.to_string())?;
        paths.extend(kiln_testsuite::models().map_err(|error| error.to_string())?);
    }
    let mut totals: BTreeMap<Kind, Score> = BTreeMap::new();
    for path in &paths {
        let subject: Result<Subject, String> = if path.extension().is_some_and(|ext| ext == "s") {
            written(path)
        } else {
            compiled(path, &target)
        };
        let subject = match subject {
            Ok(subject) => subject,
            Err(reason) => {
                println!("{}: left out: {reason}", path.display());
                continue;
            }
        };
        let all = subject.mutations();
        let (scores, missed) = subject.score(sample(&all, count, 1));
        println!("{}: {} mutants", path.display(), all.len());
        for (kind, score) in scores {
            println!("  {kind:?}: {score}");
            totals.entry(kind).or_default().add(score);
        }
        for mutation in missed.into_iter().filter(|_| tells) {
            println!("  missed: {}", subject.describe(mutation));
        }
    }
    println!("in all");
    for (kind, score) in totals {
        println!("  {kind:?}: {score}");
    }
    Ok(())
}
