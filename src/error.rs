//! What can go wrong between a model file and its outputs, and which exit code says so.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Exit codes of the command line.
pub mod exit {
    pub const OK: u8 = 0;
    /// The input is wrong: a model, a data file, a target.
    pub const INPUT: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// Our fault.
    pub const INTERNAL: u8 = 101;
}

/// Every failure of the façade. The part that found it keeps its own message, code and help.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("{0}")]
    #[diagnostic(code(kiln::usage))]
    Usage(String),

    #[error("{path} cannot be {verb}: {source}")]
    #[diagnostic(code(kiln::io))]
    Io { path: PathBuf, verb: &'static str, source: io::Error },

    #[error("{path} {what}")]
    #[diagnostic(code(kiln::npy), help("numpy.save(path, array) writes what is read here"))]
    Npy { path: PathBuf, what: String },

    #[error("the data set {folder}: {what}")]
    #[diagnostic(code(kiln::data_set))]
    DataSet { folder: PathBuf, what: String },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Target(#[from] kiln_machine::target::TargetError),

    #[error("the input {name} {what}")]
    #[diagnostic(code(kiln::input))]
    Input { name: String, what: String },
}

impl Error {
    /// The exit code that this failure ends the process with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => exit::USAGE,
            _ => exit::INPUT,
        }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Error::Usage(message.into())
    }

    pub fn read(path: &Path, source: io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), verb: "read", source }
    }

    pub fn write(path: &Path, source: io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), verb: "written", source }
    }
}
