//! `kiln asm TEXT -o PROGRAM`: assemble.

use super::model_args::{load_target, pair};
use crate::error::{Error, exit};
use kiln_machine::asm::assemble;
use std::path::PathBuf;

/// Assemble a program; the syntax of every instruction is in docs/isa.md.
#[derive(clap::Args)]
pub struct Args {
    /// The assembly text.
    text: PathBuf,
    /// The program file to write; without it the text is only checked.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Check the program against this target: a preset or a TOML file.
    #[arg(long)]
    target: Option<String>,
    /// Change a value of the target, e.g. spm_bytes=64K.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair, requires = "target")]
    set: Vec<(String, String)>,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    let text = std::fs::read_to_string(&args.text).map_err(|source| Error::read(&args.text, source))?;
    let target = args.target.as_ref().map(|name| load_target(name, &args.set)).transpose()?;
    let program = assemble(&text, target.as_ref())?;
    if let Some(output) = &args.output {
        program.write(output)?;
    }
    Ok(exit::OK)
}
