//! `kiln disasm PROGRAM`: the program as text.

use crate::error::{Error, exit};
use kiln_machine::{
    asm::{BlobText, disassemble},
    program::Program,
};
use std::{io::Write, path::PathBuf};

/// Print a program as assembly text.
#[derive(clap::Args)]
pub struct Args {
    /// A program file.
    program: PathBuf,
    /// Write every byte of the program's data, so that the text assembles again.
    #[arg(long)]
    whole: bool,
}

/// Data above this many bytes is left out of text made for reading.
const SHOWN_BYTES: usize = 256;

pub fn run(args: &Args) -> Result<u8, Error> {
    let program = Program::read(&args.program)?;
    let text = disassemble(&program, if args.whole { BlobText::Whole } else { BlobText::Above(SHOWN_BYTES) });
    // A closed pipe ends the output, as for any filter.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(exit::OK)
}
