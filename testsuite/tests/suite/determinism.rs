//! The same model, target and options give the same program bytes: run again, with other numbers of threads, from
//! another folder.

use kiln_testsuite::model;
use std::{fs, path::Path, process::Command};

fn compiled(out: &Path, threads: &str, folder: &Path) -> Vec<u8> {
    let status = Command::new(env!("CARGO_BIN_EXE_kiln-under-test"))
        .args(["compile", "--quiet", "--target", "edge", "-o"])
        .arg(out)
        .arg(model("attention"))
        .env("RAYON_NUM_THREADS", threads)
        .current_dir(folder)
        .status()
        .expect("start kiln");
    assert!(status.success());
    fs::read(out).expect("a program file")
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = compiled(&folder.path().join("a.kiln"), "1", Path::new("/"));
    let second = compiled(&folder.path().join("b.kiln"), "2", folder.path());
    assert!(first == second, "two compilations differ: {} and {} bytes", first.len(), second.len());
}
