//! `kiln sim PROGRAM`: run a program file or an assembly text.

use super::{
    model_args::{load_target, named_file, pair},
    run::write_outputs,
    targets::bytes,
};
use crate::{
    compare::statistics,
    compile::wanted_by,
    error::{Error, exit},
    host::Evaluator,
    inputs::{self, Wanted},
    sanitize,
};
use kiln_machine::{
    asm::assemble,
    program::{Program, RuntimeScalar},
    tensor::{DType, Tensor},
};
use kiln_runtime::{EngineReport, Options, Report, Simulator, perfetto};
use serde_json::json;
use std::{num::NonZeroUsize, ops::Range, path::PathBuf};

/// Cycles after which a run ends with an error unless told otherwise: minutes of the machine's time, hundreds of times
/// what the longest program of `docs/simulator.md` takes.
const DEFAULT_LIMIT: &str = "1000000000000";

/// The cycles that a run may take; none: any number.
#[derive(Clone, Copy)]
struct Limit(Option<u64>);

/// Run a program on the simulated NPU: a file written by `kiln compile` or `kiln asm`, or assembly text (*.s).
#[derive(clap::Args)]
pub struct Args {
    /// A program file, or assembly text ending in .s.
    program: PathBuf,
    /// The NPU; without it the one that the program names.
    #[arg(long)]
    target: Option<String>,
    /// Change a value of the target, e.g. spm_bytes=64K.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Folder that the program's weight files lie in; without it the program's own.
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// An input from a .npy file; may be repeated. Inputs not given get seeded random numbers.
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = named_file)]
    inputs: Vec<(String, PathBuf)>,
    /// Seed of the random inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write each output to <name>.npy in this folder.
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Count cycles without computing values.
    #[arg(long, conflicts_with = "output_dir")]
    timing_only: bool,
    /// Stop with an error after so many cycles; `none`: never.
    #[arg(long, value_name = "CYCLES", default_value = DEFAULT_LIMIT, value_parser = cycle_limit)]
    cycle_limit: Limit,
    /// Threads that compute values; without it as many as the host has. No result depends on it.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print every element of the outputs, a row of the last axis on a line.
    #[arg(long, conflicts_with_all = ["json", "timing_only"])]
    values: bool,
    /// With --timing-only, simulate every period of a steady state instead of jumping over repetitions.
    #[arg(long, requires = "timing_only")]
    every_period: bool,
    /// Look for races, uninitialised reads, deadlocks and other faults, whatever the timing hides; and for waits that
    /// can go. Indices of gathers are not followed with --timing-only.
    #[arg(long)]
    sanitize: bool,
    /// Write a trace to this file, which ui.perfetto.dev opens: every instruction on its engine, arrows along the
    /// semaphores, DRAM bandwidth and live scratchpad bytes.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Trace only what is under way from cycle A to cycle B.
    #[arg(long, value_name = "A..B", value_parser = window, requires = "trace")]
    trace_window: Option<Range<u64>>,
    /// Trace no more instructions than that; how many were left out is told.
    #[arg(long, value_name = "N", default_value_t = 200_000, requires = "trace")]
    trace_limit: usize,
    /// Print one JSON object instead of the summary.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    let is_text = args.program.extension().is_some_and(|e| e == "s");
    let mut program = if is_text {
        let text =
            std::fs::read_to_string(&args.program).map_err(|source| Error::read(&args.program, source))?;
        assemble(&text, None)?
    } else {
        Program::read(&args.program)?
    };
    let target = load_target(args.target.as_deref().unwrap_or(&program.target_name), &args.set)?;
    if is_text {
        // Text is assembled for the target it is run on; a program file keeps the one it was made for.
        program.target_name.clone_from(&target.name);
        program.target_digest = target.digest();
    }
    let beside = args.program.parent().map(PathBuf::from).unwrap_or_default();
    let options = Options {
        model_dir: args.model_dir.clone().unwrap_or(beside),
        timing_only: args.timing_only,
        cycle_limit: args.cycle_limit.0,
        every_period: args.every_period,
        threads: args.threads,
        trace: args.trace.is_some(),
        trace_window: args.trace_window.clone(),
        trace_limit: Some(args.trace_limit),
        sanitize: args.sanitize,
        host: Some(Box::new(Evaluator)),
    };
    let mut given = inputs::from_files(&args.inputs)?;
    let mut wanted = wanted_by(&program);
    wanted.extend(program.scalars.iter().map(scalar));
    inputs::fill(&wanted, &mut given, args.seed);
    let mut simulator = Simulator::new(&program, &target, options)?;
    let (outputs, report) = match simulator.run(&given) {
        Ok(outcome) => outcome,
        Err(cause) if args.sanitize => {
            if args.json {
                println!("{}", json!({ "sanitizer": sanitize::json(simulator.findings()) }));
            } else {
                print!("{}", sanitize::summary(simulator.findings()));
            }
            return Err(cause.into());
        }
        Err(cause) => return Err(cause.into()),
    };
    let findings = simulator.findings();
    let code = if findings.faults().next().is_none() { exit::OK } else { exit::INPUT };
    if let Some(folder) = &args.output_dir {
        write_outputs(folder, &outputs)?;
    }
    if let Some(file) = &args.trace {
        let trace = perfetto(&program, &target, &report);
        std::fs::write(file, trace).map_err(|source| Error::write(file, source))?;
        let timeline = &report.timeline;
        if let Some(tick) = timeline.left_out_from {
            eprintln!(
                "trace: {} instructions are in it; {} more, from cycle {} on, are not: \
                 --trace-window A..B or --trace-limit N chooses others",
                report.trace.len(),
                timeline.left_out,
                target.mxu_cycles(tick)
            );
        }
    }
    let dram = report.dram_read_bytes + report.dram_write_bytes;
    if args.json {
        let mut object = json!({
            "program": args.program.display().to_string(),
            "target": target.name,
            "cycles": report.cycles,
            "seconds": report.seconds,
            "dram_bytes": dram,
            "spm_peak_bytes": report.spm_peak_bytes,
            "energy_j": report.energy_joules,
            "static_j": report.static_joules,
            "engines": engines_json(&report),
            "instructions": report.instructions.values().sum::<u64>(),
        });
        if args.sanitize {
            object["sanitizer"] = sanitize::json(findings);
        }
        println!("{object}");
        return Ok(code);
    }
    println!(
        "On {}: {} cycles, {:.2} µs, {} of DRAM traffic",
        target.name,
        report.cycles,
        report.seconds * 1e6,
        bytes(dram)
    );
    for (engine, counters) in &report.engines {
        if counters.instructions == 0 {
            continue;
        }
        println!(
            "  {engine:4} {:>8} instructions, busy {:>9} ticks, waiting {:>9}",
            counters.instructions, counters.busy_ticks, counters.semaphore_ticks
        );
    }
    for (name, tensor) in &outputs {
        if args.values {
            print!("{}", elements(name, tensor));
            continue;
        }
        let s = statistics(tensor);
        println!(
            "{name}: {} {:?}  min {:.4}  max {:.4}  mean {:.4}",
            tensor.dtype, tensor.shape, s.min, s.max, s.mean
        );
    }
    if args.sanitize {
        print!("{}", sanitize::summary(findings));
    }
    Ok(code)
}

/// A number of cycles, or `none`.
fn cycle_limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => text.parse().map(|cycles| Limit(Some(cycles))).map_err(|_| "expected a number or `none`".into()),
    }
}

/// `A..B`, with A below B; either may be left out.
fn window(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("two cycles with `..` between them")?;
    let cycle = |text: &str, otherwise: u64| match text.trim() {
        "" => Ok(otherwise),
        text => text.parse().map_err(|error| format!("{text}: {error}")),
    };
    let window = cycle(start, 0)?..cycle(end, u64::MAX)?;
    if window.is_empty() { Err("no cycle is in it".to_owned()) } else { Ok(window) }
}

/// A runtime scalar is given like an input without dims.
fn scalar(scalar: &RuntimeScalar) -> Wanted {
    let (low, high) = scalar.range;
    Wanted {
        name: scalar.name.clone(),
        dtype: DType::I32,
        shape: vec![],
        range: Some((low.into(), high.into())),
    }
}

/// `name: dtype [shape]`, then the rows of the last axis. Floats are written so that they read back to the same bits.
fn elements(name: &str, tensor: &Tensor) -> String {
    let mut text = format!("{name}: {} {:?}\n", tensor.dtype, tensor.shape);
    let row = tensor.shape.last().copied().unwrap_or(1).max(1);
    let words: Vec<String> = (0..tensor.elements())
        .map(|i| match tensor.dtype {
            DType::F32 | DType::F16 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2 => {
                (tensor.element_f64(i) as f32).to_string()
            }
            _ => tensor.element_f64(i).to_string(),
        })
        .collect();
    for words in words.chunks(row) {
        text += &format!("  {}\n", words.join(" "));
    }
    text
}

/// What each engine did, by its name.
pub fn engines_json(report: &Report) -> serde_json::Value {
    let one = |counters: &EngineReport| {
        json!({
            "instructions": counters.instructions,
            "busy_ticks": counters.busy_ticks,
            "semaphore_ticks": counters.semaphore_ticks,
            "hazard_ticks": counters.hazard_ticks,
            "energy_j": counters.energy_fj as f64 * 1e-15,
        })
    };
    report.engines.iter().map(|(engine, counters)| (engine.to_string(), one(counters))).collect()
}
