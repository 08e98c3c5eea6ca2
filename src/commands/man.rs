//! `kiln man`: the manual pages, made from the same definition as the parser.

use crate::error::{Error, exit};
use std::path::PathBuf;

/// Write the manual pages: one for kiln and one for each command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder to write kiln.1, kiln-run.1, … into.
    #[arg(long, default_value = ".")]
    output_dir: PathBuf,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    std::fs::create_dir_all(&args.output_dir).map_err(|source| Error::write(&args.output_dir, source))?;
    clap_mangen::generate_to(super::definition(), &args.output_dir)
        .map_err(|source| Error::write(&args.output_dir, source))?;
    Ok(exit::OK)
}
