//! `kiln bench sim`: how fast the simulator computes, beside other implementations on the same host.

use super::model_args::{load_target, pair};
use crate::{
    compile::wanted_by,
    error::{Error, exit},
    inputs,
};
use half::{bf16, f16};
use indexmap::IndexMap;
use kiln_machine::{
    asm::assemble,
    program::Program,
    target::Target,
    tensor::{DType, Tensor},
};
use kiln_runtime::{Options, Simulator, peers};
use serde_json::json;
use std::{
    fmt::Write as _,
    hint::black_box,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Instant,
};

/// Measure kiln itself.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Sim(Sim),
}

/// Measure the simulator's products against the better of the crates matrixmultiply and gemm (in f32, also beside f16
/// and bf16) and against an unrolled loop of 8-bit dot products (i8), in GMAC/s.
///
/// Square products of 128 to 1024, the median of five, alternating, with the same threads: MATMUL_NUM_THREADS of the
/// environment, else one for each core, at most 4.
#[derive(clap::Args)]
struct Sim {
    /// Also run this program file, and compare with the time that its MACs take in f32 at the peer's best rate.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Folder that the program's weight files lie in; without it the program's own.
    #[arg(long, value_name = "DIR", requires = "program")]
    model_dir: Option<PathBuf>,
    /// Run the program only: its seconds and rate, without products to compare with.
    #[arg(long, requires = "program")]
    program_only: bool,
    /// The NPU whose products are measured.
    #[arg(long, default_value = "core")]
    target: String,
    /// Change a value of the target, e.g. spm_bytes=64K.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Multiply-accumulates of one measurement, at least: so many that loading the operands hardly counts.
fn macs(dtype: DType) -> usize {
    if dtype == DType::I8 { 1 << 33 } else { 1 << 31 }
}

const MEASUREMENTS: usize = 5;
const SIDES: [usize; 4] = [128, 256, 512, 1024];

pub fn run(args: &Args) -> Result<u8, Error> {
    let What::Sim(args) = &args.what;
    let target = load_target(&args.target, &args.set)?;
    let threads = threads();
    let mut rows = Vec::new();
    let dtypes = [DType::F32, DType::F16, DType::BF16, DType::I8];
    for dtype in dtypes.into_iter().filter(|_| !args.program_only) {
        for side in SIDES {
            rows.push(measure(&target, dtype, side, threads)?);
        }
    }
    let program = match &args.program {
        Some(file) => Some(measure_program(args, file, threads, &rows)?),
        None => None,
    };
    if args.json {
        let products: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "dtype": row.dtype.name(), "side": row.side, "gmacs": row.simulator, "peer_gmacs": row.peer,
                    "ratio": row.simulator / row.peer,
                })
            })
            .collect();
        let program =
            program.map(|p| json!({ "seconds": p.seconds, "gmacs": p.rate, "gemm_seconds": p.bound }));
        println!("{}", json!({ "threads": threads, "products": products, "program": program }));
        return Ok(exit::OK);
    }
    println!("Threads: {threads}. GMAC/s, median of {MEASUREMENTS}");
    if !rows.is_empty() {
        println!("{:>5} {:>6} {:>10} {:>10} {:>7}", "type", "side", "simulator", "peer", "ratio");
    }
    for row in &rows {
        let ratio = row.simulator / row.peer;
        println!(
            "{:>5} {:>6} {:>10.1} {:>10.1} {ratio:>7.2}",
            row.dtype.name(),
            row.side,
            row.simulator,
            row.peer
        );
    }
    if let Some(p) = program {
        print!("Program: {:.3} s, {:.1} GMAC/s", p.seconds, p.rate);
        match p.bound {
            Some(bound) => {
                println!("; its MACs alone take {bound:.3} s in the peer ({:.2}×)", p.seconds / bound);
            }
            None => println!(),
        }
    }
    Ok(exit::OK)
}

/// What `matrixmultiply` takes, too.
fn threads() -> usize {
    let given = std::env::var("MATMUL_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(4);
    given.filter(|threads| *threads > 0).unwrap_or_else(cores)
}

/// Rates in GMAC/s.
struct Row {
    dtype: DType,
    side: usize,
    simulator: f64,
    /// Of the best peer.
    peer: f64,
}

fn measure(target: &Target, dtype: DType, side: usize, threads: usize) -> Result<Row, Error> {
    let rounds = (macs(dtype) / side.pow(3)).max(1);
    let program = assemble(&product_stream(target, dtype, side, rounds), Some(target))?;
    let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
    let mut simulator = Simulator::new(&program, target, options)?;
    let given = operands(dtype, side);
    let mut peers = peers_of(dtype, side, threads);
    // Once unmeasured, so that memory and threads are there.
    simulator.run(&given)?;
    peers.iter_mut().for_each(|peer| peer());
    let mut ours = [0.0; MEASUREMENTS];
    let mut theirs = vec![[0.0; MEASUREMENTS]; peers.len()];
    for turn in 0..MEASUREMENTS {
        let start = Instant::now();
        simulator.run(&given)?;
        ours[turn] = start.elapsed().as_secs_f64();
        for (peer, seconds) in peers.iter_mut().zip(&mut theirs) {
            let start = Instant::now();
            (0..rounds).for_each(|_| peer());
            seconds[turn] = start.elapsed().as_secs_f64();
        }
    }
    let rate = |mut seconds: [f64; MEASUREMENTS]| {
        seconds.sort_by(f64::total_cmp);
        (rounds * side.pow(3)) as f64 / seconds[MEASUREMENTS / 2] / 1e9
    };
    Ok(Row { dtype, side, simulator: rate(ours), peer: theirs.into_iter().map(rate).fold(0.0, f64::max) })
}

/// One product of each other implementation.
fn peers_of(dtype: DType, side: usize, threads: usize) -> Vec<Box<dyn FnMut()>> {
    let elements = side * side;
    if dtype == DType::I8 {
        let team = peers::Integers::new(threads);
        let (a, b, mut c) = (vec![3i8; elements], vec![5; elements], vec![0; elements]);
        return vec![Box::new(move || team.multiply(side, black_box(&a), black_box(&b), black_box(&mut c)))];
    }
    let operands = || (vec![0.5f32; elements], vec![0.25f32; elements], vec![0.0f32; elements]);
    let (a, b, mut c) = operands();
    let matrixmultiply =
        move || peers::matrixmultiply_f32(side, black_box(&a), black_box(&b), black_box(&mut c));
    let (a, b, mut c) = operands();
    let gemm = move || peers::gemm_f32(threads, side, black_box(&a), black_box(&b), black_box(&mut c));
    vec![Box::new(matrixmultiply), Box::new(gemm)]
}

/// A program that loads two square matrices and multiplies them `rounds` times: for each block of the array a
/// stationary load, and products of at most a bank of columns.
fn product_stream(target: &Target, dtype: DType, side: usize, rounds: usize) -> String {
    let (parts, bank) = (target.partitions as usize, target.acc_bank_entries() as usize);
    let (dt, size, acc) = match dtype {
        DType::I8 => ("i8", 1, "i32"),
        dtype => (dtype.name(), dtype.size_bytes(), "f32"),
    };
    let (row, blocks) = (side * size, side.div_ceil(parts));
    let matrix = side * row;
    let mut text =
        format!(".input x {dt} [{side},{side}] @0x0\n.input w {dt} [{side},{side}] @{matrix:#x}\n");
    let rows = |block: usize| parts.min(side - block * parts);
    text += ".engine q0\n";
    // Writing to a string cannot fail.
    for (block, matrix) in (0..2 * blocks).map(|i| (i % blocks, i / blocks * matrix)) {
        let address = matrix + block * parts * row;
        let place = (block + if matrix > 0 { blocks } else { 0 }) * row;
        let _ = writeln!(text, "apset ap0, {dt} @{address:#x} [{},1,1,{side}] <{side},0,0,1>", rows(block));
        let _ = writeln!(text, "dld spm[0:{place:#x}].{dt}, ap0");
    }
    let _ = writeln!(text, "sems sem0, n=1\nhalt\n.engine mxu\nsemw sem0, n=1\nloop count={rounds}, END");
    for m in 0..blocks {
        for k in 0..blocks {
            let w = (blocks + k) * row + m * parts * size;
            let _ = writeln!(text, "ldw spm[0:{w:#x}].{dt}, k={}, m={}", rows(k), rows(m));
            for n in (0..side).step_by(bank) {
                let x = k * row + n * size;
                let _ = writeln!(
                    text,
                    "mma acc[0:{:#x}].{acc}, spm[0:{x:#x}].{dt}, k={}, m={}, n2={}, cont={}",
                    n * 4,
                    rows(k),
                    rows(m),
                    bank.min(side - n),
                    u8::from(k > 0)
                );
            }
        }
    }
    text + "END:\nendl\nhalt\n"
}

fn operands(dtype: DType, side: usize) -> IndexMap<String, Tensor> {
    let bytes = |i: usize| match dtype {
        DType::F32 => ((i % 17) as f32 * 0.0625 - 0.5).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32((i % 17) as f32 * 0.0625 - 0.5).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f32((i % 17) as f32 * 0.0625 - 0.5).to_le_bytes().to_vec(),
        _ => vec![(i % 251) as u8],
    };
    let data: Vec<u8> = (0..side * side).flat_map(bytes).collect();
    let tensor = Tensor { dtype, shape: vec![side, side], data: data.into() };
    [("x".to_owned(), tensor.clone()), ("w".to_owned(), tensor)].into_iter().collect()
}

/// A whole program beside a plain product.
struct Whole {
    seconds: f64,
    /// GMAC/s.
    rate: f64,
    /// Seconds that its MACs take at the peer's best rate in f32, if that was measured.
    bound: Option<f64>,
}

fn measure_program(args: &Sim, file: &Path, threads: usize, rows: &[Row]) -> Result<Whole, Error> {
    let program = Program::read(file)?;
    let target = load_target(&program.target_name, &args.set)?;
    let beside = file.parent().map(PathBuf::from).unwrap_or_default();
    let options = Options {
        model_dir: args.model_dir.clone().unwrap_or(beside),
        threads: NonZeroUsize::new(threads),
        ..Options::default()
    };
    let mut given = IndexMap::new();
    inputs::fill(&wanted_by(&program), &mut given, 0);
    let mut simulator = Simulator::new(&program, &target, options)?;
    let macs = simulator.run(&given)?.1.macs as f64;
    let mut seconds = [0.0; MEASUREMENTS];
    for seconds in &mut seconds {
        let start = Instant::now();
        simulator.run(&given)?;
        *seconds = start.elapsed().as_secs_f64();
    }
    seconds.sort_by(f64::total_cmp);
    let seconds = seconds[MEASUREMENTS / 2];
    let best = rows.iter().filter(|row| row.dtype == DType::F32).map(|row| row.peer).max_by(f64::total_cmp);
    Ok(Whole { seconds, rate: macs / seconds / 1e9, bound: best.map(|best| macs / best / 1e9) })
}
