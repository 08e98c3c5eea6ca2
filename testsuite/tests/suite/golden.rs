//! Runs lit over `testsuite/golden/`: every `.mlir`, `.s`, `.onnxtxt` and `.test` file there is a test.
//!
//! `LIT_FILTER=<regex>` selects some; `scripts/bless` accepts changed output.

use kiln_testsuite::repository;
use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

const LLVM_BIN: &str = "/usr/lib/llvm-22/bin";

#[test]
fn goldens() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let bin = out.join("bin");
    fs::create_dir_all(&bin).expect("create the folder of tools");
    let tools = [
        ("kiln", env!("CARGO_BIN_EXE_kiln-under-test").to_string()),
        ("expect", env!("CARGO_BIN_EXE_expect").to_string()),
        ("import-text", env!("CARGO_BIN_EXE_import-text").to_string()),
        ("FileCheck", format!("{LLVM_BIN}/FileCheck")),
        ("not", format!("{LLVM_BIN}/not")),
        ("split-file", format!("{LLVM_BIN}/split-file")),
    ];
    for (name, path) in tools {
        let link = bin.join(name);
        let _ = fs::remove_file(&link);
        symlink(path, link).expect("link a tool");
    }
    kiln_testsuite::faulty::write_all(&out.join("faulty")).expect("write the small models");
    let status = Command::new(format!("{LLVM_BIN}/lit"))
        .args(["-v", "--no-progress-bar", "--order=lexical"])
        .arg(repository().join("testsuite/golden"))
        .env("KILN_TEST_OUT", out.join("golden"))
        .env("KILN_TEST_BIN", &bin)
        .env("KILN_TEST_FAULTY", out.join("faulty"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status()
        .expect("start lit (scripts/setup installs it)");
    assert!(status.success(), "a golden failed; if the new output is right, scripts/bless accepts it");
}
