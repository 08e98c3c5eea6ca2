//! Arguments that every command taking a model shares.

use crate::{compile::CompileOptions, error::Error};
use kiln_machine::target::Target;
use kiln_passes::algebra::{Grade, Weights};
use std::{num::NonZeroUsize, path::PathBuf};

#[derive(clap::Args)]
pub struct ModelArgs {
    /// The NPU: a preset (`kiln targets` lists them) or a TOML file.
    #[arg(long, default_value = "core", help_heading = "Target")]
    pub target: String,
    /// Change a value of the target, e.g. spm_bytes=64K.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair, help_heading = "Target")]
    pub set: Vec<(String, String)>,
    /// Bind a named dimension of the model's inputs, e.g. seq=128.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dim, help_heading = "Compilation")]
    pub dim: Vec<(String, i64)>,
    /// Give an input's shape, e.g. input_ids=1x128.
    #[arg(long = "shape", value_name = "INPUT=AxB", value_parser = shape, help_heading = "Compilation")]
    pub shape: Vec<(String, Vec<usize>)>,
    /// Refuse models of which some part cannot run on the device.
    #[arg(long, help_heading = "Compilation")]
    pub device_only: bool,
    /// Which rewrites are allowed: e0 keeps every bit, e1 may reassociate, e2 and e3 may round to narrower types.
    #[arg(long, default_value = "e1", value_parser = str::parse::<Grade>, help_heading = "Compilation")]
    pub grade: Grade,
    /// Whether weights may be rewritten where that saves work; by-reference is the default above 1 GiB.
    #[arg(long, value_enum, help_heading = "Compilation")]
    pub weights: Option<WeightsArg>,
    /// Folder of the model's external data, where it does not lie beside the model.
    #[arg(long, value_name = "DIR", help_heading = "Compilation")]
    pub data_folder: Option<PathBuf>,
    /// Threads of the simulator; without it as many as the host has. No result depends on it.
    #[arg(long, value_name = "N", help_heading = "Compilation")]
    pub threads: Option<NonZeroUsize>,
}

/// The values of `--weights`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum WeightsArg {
    Rewritten,
    ByReference,
}

impl ModelArgs {
    /// The target with its `--set` values applied.
    ///
    /// # Errors
    /// When there is no such preset or file, or a key or value is wrong.
    pub fn target(&self) -> Result<Target, Error> {
        load_target(&self.target, &self.set)
    }

    /// # Errors
    /// When the target or the grade is wrong.
    pub fn options(&self, model: PathBuf) -> Result<CompileOptions, Error> {
        let mut options = CompileOptions::new(model, self.target()?);
        options.dims = self.dim.iter().cloned().collect();
        options.shapes = self.shape.iter().cloned().collect();
        options.device_only = self.device_only;
        options.grade = self.grade;
        options.weights = self.weights.map(|weights| match weights {
            WeightsArg::Rewritten => Weights::Rewritten,
            WeightsArg::ByReference => Weights::ByReference,
        });
        options.data_folder = self.data_folder.clone();
        options.threads = self.threads;
        Ok(options)
    }
}

/// Loads a preset or file and applies `key=value` changes in order.
pub fn load_target(name: &str, set: &[(String, String)]) -> Result<Target, Error> {
    let mut target = Target::load(name)?;
    for (key, value) in set {
        target.set(key, value)?;
    }
    Ok(target)
}

/// `key=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("nothing before the '='".into());
    }
    Ok((key.into(), value.into()))
}

fn dim(text: &str) -> Result<(String, i64), String> {
    let (name, value) = pair(text)?;
    let extent = value.parse().ok().filter(|n| *n >= 0);
    Ok((name, extent.ok_or_else(|| format!("'{value}' is not a number of elements"))?))
}

fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, value) = pair(text)?;
    let extents: Result<Vec<usize>, _> =
        value.split('x').filter(|part| !part.is_empty()).map(str::parse).collect();
    Ok((name, extents.map_err(|_| format!("'{value}' is not a shape like 1x128"))?))
}

/// `name=file`.
pub fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = pair(text)?;
    Ok((name, file.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_dims_are_read() {
        assert_eq!(shape("x=1x128"), Ok(("x".into(), vec![1, 128])));
        assert_eq!(shape("scalar="), Ok(("scalar".into(), vec![])));
        assert_eq!(dim("seq=128"), Ok(("seq".into(), 128)));
        assert!(dim("seq=-1").is_err() && shape("x=1,2").is_err() && pair("=3").is_err());
    }
}
