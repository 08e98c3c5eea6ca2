//! `kiln verify PATH…`: models in ONNX's test layout against their stored outputs.

use super::model_args::ModelArgs;
use crate::{
    compare::Tolerance,
    error::{Error, exit},
    verify::{Case, Status, Verdict, cases, verify},
};
use serde_json::json;
use std::{io::Write, path::PathBuf};

/// Run models in ONNX's test layout (model.onnx, test_data_set_*/input_*.pb, output_*.pb) against their outputs.
///
/// An element is right when |a − b| ≤ atol + rtol·|b|; dtypes and shapes must be equal, NaN matches NaN, integers
/// and bools must be exact.
#[derive(clap::Args)]
pub struct Args {
    /// Folders of one case, folders of such folders, or model files.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Folder of the data sets, where they do not stand beside the model.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Relative tolerance.
    #[arg(long, default_value_t = 1e-3)]
    rtol: f64,
    /// Absolute tolerance.
    #[arg(long, default_value_t = 1e-4)]
    atol: f64,
    /// A case is right only if the sanitizer finds no fault in its program.
    #[arg(long)]
    sanitize: bool,
    /// One JSON object a line: case, status, max_abs, max_rel, seconds, message.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    let mut found: Vec<Case> = Vec::new();
    for path in &args.paths {
        found.extend(cases(path, args.data.as_deref())?);
    }
    let mut options = args.model.options(PathBuf::new())?;
    options.sanitize = args.sanitize;
    let tolerance = Tolerance { rtol: args.rtol, atol: args.atol };
    let width = found.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in &found {
        let verdict = verify(case, &options, tolerance);
        match verdict.status {
            Status::Device | Status::Host => passed += 1,
            Status::Failed => failed += 1,
            Status::Skipped => skipped += 1,
        }
        let line = if args.json { json_line(&verdict) } else { text_line(&verdict, width) };
        // A closed pipe ends the run quietly, as it does for any filter.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return Ok(exit::INPUT);
        }
    }
    if !args.json {
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
    Ok(if failed == 0 { exit::OK } else { exit::INPUT })
}

fn json_line(verdict: &Verdict) -> String {
    json!({
        "case": verdict.case,
        "status": verdict.status.name(),
        "max_abs": verdict.max_abs,
        "max_rel": verdict.max_rel,
        "seconds": verdict.seconds,
        "message": verdict.message,
    })
    .to_string()
}

fn text_line(verdict: &Verdict, width: usize) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_string(), |value| format!("{value:.1e}"));
    let line = format!(
        "{:7} {:width$}  abs {:>7}  rel {:>7}  {:6.2} s  {}",
        verdict.status.name(),
        verdict.case,
        number(verdict.max_abs),
        number(verdict.max_rel),
        verdict.seconds,
        verdict.message
    );
    line.trim_end().to_string()
}
