//! The `kiln` command line.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    kiln::commands::main()
}
