//! The same model, target and options give the same program bytes: run again, with other numbers of threads, from
//! another folder.

use kiln_testsuite::model;
use std::{fs, path::Path, process::Command};

fn compiled(name: &str, target: &str, dims: &[&str], out: &Path, threads: &str, folder: &Path) -> Vec<u8> {
    let status = Command::new(env!("CARGO_BIN_EXE_kiln-under-test"))
        .args(["compile", "--quiet", "--target", target, "--threads", threads, "-o"])
        .arg(out)
        .arg(model(name))
        .args(dims.iter().flat_map(|dim| ["--dim", dim]))
        .current_dir(folder)
        .status()
        .expect("start kiln");
    assert!(status.success());
    fs::read(out).expect("a program file")
}

/// Models with their dims: dynamic ones, one with external data, one in f16.
const MODELS: &[(&str, &str, &[&str])] = &[
    ("attention", "edge", &[]),
    ("embedding", "core", &["batch=2", "seq=5"]),
    ("bert", "core", &["batch=1", "seq=12"]),
    ("vit_f16", "edge", &["batch=1"]),
];

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Path::new("/");
    for (name, target, dims) in MODELS {
        let path = folder.path().join(format!("{name}.kiln"));
        let first = compiled(name, target, dims, &path, "1", root);
        for (threads, from) in [("1", root), ("2", folder.path())] {
            let again = compiled(name, target, dims, &path, threads, from);
            let lengths = (first.len(), again.len());
            assert!(first == again, "{name}, {threads} threads: {lengths:?} bytes, and they differ");
        }
    }
}

/// Nor do the outputs depend on the threads that compute them.
#[test]
fn threads_do_not_change_the_outputs() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |threads: &str| {
        let out = folder.path().join(threads);
        let status = Command::new(env!("CARGO_BIN_EXE_kiln-under-test"))
            .args(["run", "--quiet", "--target", "core", "--threads", threads, "--output-dir"])
            .arg(&out)
            .arg(model("gemm_bias_gelu"))
            .status()
            .expect("start kiln");
        assert!(status.success());
        fs::read(out.join("y.npy")).expect("an output")
    };
    assert!(run("1") == run("3"), "3 threads give other bits than 1");
}

/// Nor do they depend on the target or on how much fits on chip: sums are chains whatever the tiles.
#[test]
fn targets_and_memories_do_not_change_the_outputs() {
    let folder = tempfile::tempdir().expect("a folder");
    let configurations: [&[&str]; 4] = [
        &["--target", "core"],
        &["--target", "edge"],
        &["--target", "core", "--set", "spm_bytes=64K"],
        &["--target", "edge", "--set", "spm_bytes=64K"],
    ];
    for name in ["gpt2", "relu2_attention", "gemm_bias_gelu"] {
        let outputs = configurations.iter().enumerate().map(|(i, options)| {
            let out = folder.path().join(format!("{name}.{i}"));
            let status = Command::new(env!("CARGO_BIN_EXE_kiln-under-test"))
                .args(["run", "--quiet", "--output-dir"])
                .arg(&out)
                .args(*options)
                .arg(model(name))
                .status()
                .expect("start kiln");
            assert!(status.success(), "{name} {options:?}");
            let mut files: Vec<_> =
                fs::read_dir(&out).expect("outputs").map(|f| f.expect("a file").path()).collect();
            files.sort();
            files.iter().map(|path| fs::read(path).expect("an output")).collect::<Vec<_>>()
        });
        let outputs: Vec<Vec<Vec<u8>>> = outputs.collect();
        assert!(!outputs[0].is_empty());
        for (options, other) in configurations.iter().zip(&outputs).skip(1) {
            assert!(*other == outputs[0], "{name}: other bits with {options:?}");
        }
    }
}
