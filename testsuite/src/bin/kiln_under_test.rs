//! The `kiln` command line, linked where this package's tests can find it.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    kiln::commands::main()
}
