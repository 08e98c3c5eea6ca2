//! The `kiln` command line.
#![forbid(unsafe_code)]

/// Graphs, e-graphs and tilings are many small blocks: with the system's allocator a quarter of a compilation went
/// into finding and freeing them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    kiln::commands::main()
}
