//! What the test binary and its helper programs share: where things are, and the golden comparison.
#![forbid(unsafe_code)]

pub mod diff;
pub mod faulty;
pub mod fuzz;
pub mod golden;
pub mod mutate;
pub mod onnx;
pub mod onnx_text;
pub mod sources;

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    let testsuite = Path::new(env!("CARGO_MANIFEST_DIR"));
    testsuite.parent().unwrap_or(testsuite).to_path_buf()
}

/// A folder of the models kept for the tests, in ONNX's test layout.
pub fn model(name: &str) -> PathBuf {
    repository().join("testsuite/models").join(name)
}

/// The hand-written programs of `testsuite/golden/asm` for one core, which the sanitizer follows, in order of name.
pub fn hand_written() -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository().join("testsuite/golden/asm"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "s")
            && !std::fs::read_to_string(&path)?.lines().any(|line| line.starts_with(".core "))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Every folder of `testsuite/models`, in order of name.
pub fn models() -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository().join("testsuite/models"))? {
        let path = entry?.path();
        if path.join("model.onnx").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
