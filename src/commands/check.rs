//! `kiln check MODEL`: everything that is wrong with a model, told at once.

use super::model_args::ModelArgs;
use crate::error::{Error, exit};
use std::path::PathBuf;

/// Check a model without compiling it: operators, attributes, dtypes and shapes, all problems at once.
#[derive(clap::Args)]
pub struct Args {
    /// An ONNX file, or a folder with model.onnx.
    model: PathBuf,
    #[command(flatten)]
    compile: ModelArgs,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    let mut options = args.compile.options(args.model.clone())?;
    let chosen = options.choose_unbound_dims()?;
    let binding = kiln_frontend::check(&options.model, &options.import_options())?;
    if !chosen.is_empty() {
        let dims: Vec<String> = chosen.iter().map(|(name, extent)| format!("{name}={extent}")).collect();
        println!("Dimensions chosen here (--dim NAME=N changes them): {}", dims.join(", "));
    }
    for (name, shape) in &binding.shapes {
        println!("input {name} {shape:?}");
    }
    println!("ok");
    Ok(exit::OK)
}
