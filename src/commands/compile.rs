//! `kiln compile MODEL -o PROGRAM`: a program file.

use super::{model_args::ModelArgs, run::host_lines, targets::bytes};
use crate::{
    compile::compile,
    error::{Error, exit},
};
use serde_json::json;
use std::path::PathBuf;

/// Compile a model into a program file, which `kiln sim` runs.
#[derive(clap::Args)]
pub struct Args {
    /// An ONNX file, or a folder with model.onnx.
    model: PathBuf,
    /// The program file to write. It names its weights by paths relative to the model's folder.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    compile: ModelArgs,
    /// Print nothing but errors.
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// Print one JSON object instead of the summary.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    let compiled = compile(&args.compile.options(args.model.clone())?)?;
    compiled.program.write(&args.output)?;
    let program_bytes = args.output.metadata().map_err(|source| Error::read(&args.output, source))?.len();
    let stats = &compiled.stats;
    if args.json {
        let stages: serde_json::Map<_, _> =
            stats.stages.iter().map(|(name, seconds)| (name.to_string(), json!(seconds))).collect();
        let object = json!({
            "model": args.model.display().to_string(),
            "target": compiled.target.name,
            "compile_s": stats.seconds,
            "stages_s": stages,
            "groups": stats.lowered.groups.len(),
            "instructions": stats.instructions(),
            "dram_bytes_compulsory": stats.bound.bytes,
            "bound_cycles": stats.bound.cycles,
            "bound_by": stats.bound.by.name(),
            "reduced_bound_cycles": stats.reduced_bound.cycles,
            "reduced_bound_by": stats.reduced_bound.by.name(),
            "program_bytes": program_bytes,
            "text_bytes": stats.emitted.text_bytes,
            "host_segments": stats.host_segments,
        });
        println!("{object}");
    } else if !args.quiet {
        println!(
            "{}: {} groups, {} instructions, {} of text in {}, {} s",
            args.output.display(),
            stats.lowered.groups.len(),
            stats.instructions(),
            bytes(stats.emitted.text_bytes),
            bytes(program_bytes),
            (stats.seconds * 100.0).round() / 100.0,
        );
        if stats.host_segments > 0 {
            println!("{} segments run on the host:", stats.host_segments);
            print!("{}", host_lines(&stats.host_ops));
        }
    }
    Ok(exit::OK)
}
