//! `kiln run MODEL`: compile, simulate, and say what came out and what it cost.

use super::{
    model_args::{ModelArgs, named_file},
    targets::bytes,
};
use crate::{
    compare::statistics,
    compile::{Compiled, Run, compile},
    error::{Error, exit},
    inputs::{self, Tensors},
    npy, sanitize,
    segments::HostOp,
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Compile a model, run it on the simulated NPU, and print cycles, traffic and outputs.
#[derive(clap::Args)]
pub struct Args {
    /// An ONNX file, or a folder with model.onnx.
    model: PathBuf,
    #[command(flatten)]
    compile: ModelArgs,
    /// An input from a .npy file; may be repeated. Inputs not given get seeded random numbers.
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = named_file, help_heading = "Data")]
    inputs: Vec<(String, PathBuf)>,
    /// Inputs from input_0.pb, input_1.pb, … in this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "inputs", help_heading = "Data")]
    data_set: Option<PathBuf>,
    /// Seed of the random inputs.
    #[arg(long, default_value_t = 0, help_heading = "Data")]
    seed: u64,
    /// Write each output to <name>.npy in this folder.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    output_dir: Option<PathBuf>,
    /// Count cycles without computing values; the outputs are then not written.
    #[arg(long, conflicts_with = "output_dir")]
    timing_only: bool,
    /// Look for races, uninitialised reads and other faults of the program.
    #[arg(long)]
    sanitize: bool,
    /// Print nothing but errors.
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// Print one JSON object instead of the summary.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    let mut options = args.compile.options(args.model.clone())?;
    options.sanitize = args.sanitize;
    let names: Vec<String> =
        crate::compile::inputs(&options.model)?.into_iter().map(|input| input.name).collect();
    let mut given = match &args.data_set {
        Some(folder) => inputs::from_data_set(folder, "input", &names)?,
        None => inputs::from_files(&args.inputs)?,
    };
    for (name, tensor) in &given {
        options.shapes.insert(name.clone(), tensor.shape.clone());
    }
    let chosen = options.choose_unbound_dims()?;
    let compiled = compile(&options)?;
    let wanted = compiled.wanted();
    let random: Vec<String> =
        wanted.iter().filter(|want| !given.contains_key(&want.name)).map(|want| want.name.clone()).collect();
    inputs::fill(&wanted, &mut given, args.seed);
    let run = if args.timing_only { compiled.time()? } else { compiled.run(&given)? };
    if let Some(folder) = &args.output_dir {
        write_outputs(folder, &run.outputs)?;
    }
    if args.json {
        println!("{}", summary_json(args, &compiled, &run)?);
    } else if !args.quiet {
        if !chosen.is_empty() {
            let dims: Vec<String> = chosen.iter().map(|(name, value)| format!("{name}={value}")).collect();
            println!("Dimensions chosen here (--dim NAME=N changes them): {}", dims.join(", "));
        }
        if !random.is_empty() {
            println!("Random inputs, seed {}: {}", args.seed, random.join(", "));
        }
        print!("{}", summary(&compiled, &run));
        if args.sanitize {
            print!("{}", sanitize::summary(&run.findings));
        }
    }
    // The compiler wrote the program.
    Ok(if run.findings.faults().next().is_none() { exit::OK } else { exit::INTERNAL })
}

pub fn write_outputs(folder: &std::path::Path, outputs: &Tensors) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::write(folder, source))?;
    for (name, tensor) in outputs {
        // An ONNX name may hold any character; a file name may not.
        let file: String = name.chars().map(|c| if c == '/' || c == '\0' { '_' } else { c }).collect();
        npy::write(&folder.join(format!("{file}.npy")), tensor)?;
    }
    Ok(())
}

fn summary_json(args: &Args, compiled: &Compiled, run: &Run) -> Result<Value, Error> {
    let (stats, report) = (&compiled.stats, &run.report);
    let nodes: serde_json::Map<String, Value> = report
        .origins
        .iter()
        .map(|(name, cost)| (name.clone(), json!(cost.energy_fj as f64 * 1e-15)))
        .collect();
    let outputs: Vec<Value> = run
        .outputs
        .iter()
        .map(|(name, tensor)| {
            let s = statistics(tensor);
            json!({
                "name": name, "dtype": tensor.dtype.name(), "shape": tensor.shape,
                "min": s.min, "max": s.max, "mean": s.mean, "not_finite": s.not_finite,
            })
        })
        .collect();
    let mut summary = json!({
        "model": args.model.display().to_string(),
        "target": compiled.target.name,
        "compile_s": stats.seconds,
        "cycles": report.cycles,
        "seconds": report.seconds,
        "mxu_utilization": stats.utilization(report.cycles),
        "dram_bytes": report.dram_read_bytes + report.dram_write_bytes,
        "dram_bytes_compulsory": stats.bound.bytes,
        "bound_cycles": stats.bound.cycles,
        "bound_by": stats.bound.by.name(),
        "spm_peak_bytes": report.spm_peak_bytes,
        "program_bytes": compiled.program_bytes()?,
        "text_bytes": stats.emitted.text_bytes,
        "energy_j": report.energy_joules,
        "static_j": report.static_joules,
        "engines": super::sim::engines_json(report),
        "host_segments": stats.host_segments,
        "energy_j_by_node": nodes,
        "outputs": outputs,
    });
    if args.sanitize {
        summary["sanitizer"] = sanitize::json(&run.findings);
    }
    Ok(summary)
}

/// What runs on the host and why, one line for each kind of op.
pub fn host_lines(ops: &[HostOp]) -> String {
    let mut kinds: indexmap::IndexMap<(&str, &str), (usize, &[String])> = indexmap::IndexMap::new();
    for op in ops {
        kinds.entry((&op.op, &op.reason)).or_insert((0, &op.origin)).0 += 1;
    }
    let mut text = String::new();
    for ((op, reason), (count, origin)) in kinds {
        let node =
            origin.first().map_or_else(String::new, |o| format!(", of {}", o.replace('|', " (") + ")"));
        text += &format!("             {count} × {op}{node}: {reason}\n");
    }
    text
}

fn summary(compiled: &Compiled, run: &Run) -> String {
    let (stats, report, bound) = (&compiled.stats, &run.report, &compiled.stats.bound);
    let dram = report.dram_read_bytes + report.dram_write_bytes;
    let ratio = |value: u64, least: u64| value as f64 / least.max(1) as f64;
    let mut text = format!(
        "Compiled in {:.2} s: {} groups, {} instructions ({})\n",
        stats.seconds,
        stats.lowered.groups.len(),
        stats.instructions(),
        bytes(stats.emitted.text_bytes),
    );
    text += &format!(
        "On {}: {} cycles, {:.1} µs, MXU utilisation {:.1} %\n",
        compiled.target.name,
        report.cycles,
        report.seconds * 1e6,
        100.0 * stats.utilization(report.cycles),
    );
    text += &format!(
        "  bound      {} cycles by {} ({:.2}× of it taken)\n",
        bound.cycles,
        bound.by.name(),
        ratio(report.cycles, bound.cycles)
    );
    let reduced = &stats.reduced_bound;
    if reduced.cycles < bound.cycles {
        text += &format!("             {} cycles by {} after algebra\n", reduced.cycles, reduced.by.name());
    }
    text += &format!(
        "  DRAM       {} moved, {} compulsory ({:.2}×)\n",
        bytes(dram),
        bytes(bound.bytes),
        ratio(dram, bound.bytes)
    );
    text += &format!(
        "  SPM        {} of {} at most\n",
        bytes(report.spm_peak_bytes),
        bytes(compiled.target.spm_bytes)
    );
    if stats.host_segments > 0 {
        text += &format!("  host       {} segments ran on the host\n", stats.host_segments);
        text += &host_lines(&stats.host_ops);
    }
    for (name, tensor) in &run.outputs {
        let s = statistics(tensor);
        text += &format!(
            "{name}: {} {:?}  min {:.4}  max {:.4}  mean {:.4}{}\n",
            tensor.dtype,
            tensor.shape,
            s.min,
            s.max,
            s.mean,
            if s.not_finite > 0 { format!("  {} not finite", s.not_finite) } else { String::new() },
        );
    }
    text
}
