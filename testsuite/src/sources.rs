//! The workspace's own source files, for the tidy tests.

use crate::repository;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A package of the workspace, by name and folder.
pub const PACKAGES: &[(&str, &str)] = &[
    ("kiln", ""),
    ("kiln-ir", "ir"),
    ("kiln-frontend", "frontend"),
    ("kiln-passes", "passes"),
    ("kiln-backend", "backend"),
    ("kiln-machine", "backend/machine"),
    ("kiln-runtime", "runtime"),
    ("kiln-testsuite", "testsuite"),
    ("minilm", "examples/minilm"),
];

/// A Rust source file.
pub struct Source {
    /// Relative to the repository.
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    /// The part before the unit tests, which by convention end a file or are in `tests.rs`.
    pub fn product(&self) -> &str {
        if self.file_name() == "tests.rs" {
            return "";
        }
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or(&self.text)
    }

    pub fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or("")
    }
}

/// Every `.rs` file under each package's `src`, in order of path.
///
/// # Errors
/// When a folder or file cannot be read.
pub fn all() -> io::Result<Vec<Source>> {
    let mut paths = Vec::new();
    for (_, folder) in PACKAGES {
        files(&repository().join(folder).join("src"), "rs", &mut paths)?;
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path)?;
            let path = path.strip_prefix(repository()).map(Path::to_path_buf).unwrap_or(path);
            Ok(Source { path, text })
        })
        .collect()
}

/// Appends every file with one of `extension` under `folder`.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, extension, into)?;
        } else if path.extension().is_some_and(|e| e == extension) {
            into.push(path);
        }
    }
    Ok(())
}
