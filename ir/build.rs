//! Generates the dialects' C++ from `dialects/*.td` and compiles the shim in `cpp/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What mlir-tblgen generates: the stem of the file in `dialects/`, the generator, its flags, the output's stem.
#[rustfmt::skip] // a table
const GENERATED: &[(&str, &str, &[&str], &str)] = &[
    ("Kinds", "enum",    &[],                          "Kinds"),
    ("Nn",    "dialect", &["-dialect=nn"],             "NnDialect"),
    ("Nn",    "op",      &[],                          "NnOps"),
    ("Tile",  "dialect", &["-dialect=tile"],           "TileDialect"),
    ("Tile",  "typedef", &["-typedefs-dialect=tile"],  "TileTypes"),
    ("Tile",  "op",      &[],                          "TileOps"),
];

fn main() {
    let prefix = PathBuf::from(env::var("MLIR_SYS_220_PREFIX").unwrap_or_else(|_| "/usr/lib/llvm-22".into()));
    println!("cargo:rerun-if-env-changed=MLIR_SYS_220_PREFIX");
    println!("cargo:rerun-if-changed=dialects");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rustc-env=KILN_MLIR_TBLGEN={}", prefix.join("bin/mlir-tblgen").display());
    let include = prefix.join("include");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (source, what, flags, target) in GENERATED {
        for (kind, extension) in [("decls", "h.inc"), ("defs", "cpp.inc")] {
            let mut tblgen = Command::new(prefix.join("bin/mlir-tblgen"));
            tblgen.arg(format!("-gen-{what}-{kind}")).args(*flags).arg(format!("dialects/{source}.td"));
            tblgen.arg("-I").arg(&include).arg("-Idialects");
            run(&mut tblgen, &out.join(format!("{target}.{extension}")));
        }
    }
    let mut sources: Vec<PathBuf> = fs::read_dir("cpp")
        .expect("cpp/ exists")
        .map(|entry| entry.expect("cpp/ can be read").path())
        .filter(|p| p.extension().is_some_and(|e| e == "cpp"))
        .collect();
    sources.sort();
    cc::Build::new()
        .cpp(true)
        .compiler(env::var("KILN_CXX").unwrap_or_else(|_| clang(&prefix)))
        .std("c++17")
        .files(sources)
        .include("cpp")
        .include(&out)
        .flag(format!("-isystem{}", include.display()))
        .flag("-fno-exceptions")
        .flag("-fno-rtti")
        .flag("-fvisibility=hidden")
        .flag("-fvisibility-inlines-hidden")
        .flag("-Wno-unused-parameter")
        .debug(false)
        .opt_level(if env::var("PROFILE").as_deref() == Ok("release") { 2 } else { 0 })
        .compile("kiln_ir_shim");
}

/// LLVM's own clang++ where it is installed, else the system's.
fn clang(prefix: &Path) -> String {
    let own = prefix.join("bin/clang++");
    if own.exists() { own.display().to_string() } else { "clang++-22".into() }
}

/// Runs mlir-tblgen into `file`, leaving the file alone when it would not change.
fn run(tblgen: &mut Command, file: &Path) {
    let out = tblgen.output().unwrap_or_else(|e| panic!("cannot run {tblgen:?}: {e}; install mlir-22-tools"));
    assert!(out.status.success(), "{tblgen:?}\n{}", String::from_utf8_lossy(&out.stderr));
    if fs::read(file).ok().as_deref() != Some(&out.stdout) {
        fs::write(file, &out.stdout).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
    }
}
