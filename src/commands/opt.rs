//! `kiln opt`: mlir-opt with our dialects and passes. It parses its own arguments.

use crate::error::{Error, exit};

/// Transform IR: mlir-opt with the dialects `nn` and `tile` and our passes (`kiln opt --help` lists all options).
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// mlir-opt's arguments: a file, pass pipelines, printing options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    kiln_ir::pass::register(kiln_passes::registry());
    let mut all = vec!["kiln opt".to_string()];
    all.extend(args.args.iter().cloned());
    let code = kiln_ir::pass::opt_main(&all);
    Ok(if code == 0 { exit::OK } else { exit::INPUT })
}
