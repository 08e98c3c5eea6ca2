//! `mlir-opt` with Kiln's dialects and nothing else.

fn main() {
    let args: Vec<String> = std::env::args().collect();
    std::process::exit(kiln_ir::pass::opt_main(&args));
}
