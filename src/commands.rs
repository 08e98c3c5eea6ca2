//! The command line: one file a command, each with its arguments and its `run`.

mod asm;
mod bench;
mod check;
mod compile;
mod completions;
mod disasm;
mod explain;
mod man;
mod model_args;
mod ops;
mod opt;
mod passes;
mod rules;
mod run;
mod sim;
mod targets;
mod verify;

use crate::{
    error::{Error, exit},
    progress::Progress,
};
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// A compiler from ONNX transformer graphs to a tiled NPU, with the NPU's simulator.
#[derive(Parser)]
#[command(
    name = "kiln",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Completions(completions::Args),
    Run(run::Args),
    Compile(compile::Args),
    Verify(verify::Args),
    Check(check::Args),
    Explain(explain::Args),
    Opt(opt::Args),
    Asm(asm::Args),
    Disasm(disasm::Args),
    Sim(sim::Args),
    Bench(bench::Args),
    Targets(targets::Args),
    Passes(passes::Args),
    Ops(ops::Args),
    Rules(rules::Args),
    Man(man::Args),
}

/// Parses the process's arguments, runs the command and gives the exit code: 0 ok, 1 the input is wrong,
/// 2 usage, 101 our fault.
pub fn main() -> ExitCode {
    report_panics();
    let outcome = std::panic::catch_unwind(|| {
        let cli = match Cli::try_parse() {
            Ok(cli) => cli,
            Err(error) => {
                // Help and version are "errors" that go to standard output.
                let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
                let _ = error.print();
                return code;
            }
        };
        watch(cli.command.is_quiet());
        match dispatch(cli.command) {
            Ok(code) => code,
            Err(error) => {
                let code = error.exit_code();
                eprintln!("{:?}", miette::Report::new(error));
                code
            }
        }
    });
    ExitCode::from(outcome.unwrap_or(exit::INTERNAL))
}

impl Command {
    /// Whether only errors are wanted.
    fn is_quiet(&self) -> bool {
        match self {
            Command::Run(args) => args.quiet,
            Command::Compile(args) => args.quiet,
            _ => false,
        }
    }
}

fn dispatch(command: Command) -> Result<u8, Error> {
    match command {
        Command::Passes(args) => passes::run(&args),
        Command::Ops(args) => ops::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Opt(args) => opt::run(&args),
        Command::Asm(args) => asm::run(&args),
        Command::Disasm(args) => disasm::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Targets(args) => targets::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The command line's definition, for completions and the manual page.
fn definition() -> clap::Command {
    Cli::command()
}

/// A panic is our fault: say so in a few lines, with the command that shows it again.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let what = info.payload_as_str().unwrap_or("panic");
        // A closed pipe ends the output, as for any filter.
        if what.starts_with("failed printing to stdout") {
            std::process::exit(exit::INPUT.into());
        }
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        let again: Vec<String> = std::env::args().map(|arg| quoted(&arg)).collect();
        eprintln!("internal error: {what}{place}");
        eprintln!("This is a fault of kiln, not of its input. It is shown again by:\n  {}", again.join(" "));
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
    }));
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.into()
    } else {
        format!("'{}'", arg.replace('\'', "'\\''"))
    }
}

/// `KILN_LOG=debug` (tracing's filter syntax) shows what the parts are doing; a terminal shows the stage that runs.
fn watch(is_quiet: bool) {
    let filter = EnvFilter::try_from_env("KILN_LOG").unwrap_or_else(|_| "warn".into());
    let log =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time().with_filter(filter);
    let progress = if is_quiet { None } else { Progress::new() };
    let _ = tracing_subscriber::registry().with(log).with(progress).try_init();
}
