//! `kiln completions SHELL`: a completion script on standard output.

use crate::error::{Error, exit};

/// Print a completion script for a shell, e.g. `kiln completions bash > /etc/bash_completion.d/kiln`.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    clap_complete::generate(args.shell, &mut super::definition(), "kiln", &mut std::io::stdout());
    Ok(exit::OK)
}
