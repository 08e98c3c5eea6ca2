//! `expect FILE`: compares standard input with the output blessed in FILE; with `KILN_BLESS=1` blesses it.
#![forbid(unsafe_code)]

use kiln_testsuite::{diff, golden};
use std::{env, fs, io::Read, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("expect: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let path = env::args().nth(1).ok_or("usage: expect FILE < output")?;
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).map_err(|e| format!("standard input: {e}"))?;
    let actual = golden::normalise(&String::from_utf8_lossy(&input));
    let golden =
        golden::split(&text).ok_or(format!("{path} has no EXPECT line (a comment mark, then EXPECT)"))?;
    if golden::normalise(&golden.output) == actual {
        return Ok(true);
    }
    if env::var_os("KILN_BLESS").is_some() {
        fs::write(&path, golden::bless(&golden, &actual)).map_err(|e| format!("{path}: {e}"))?;
        return Ok(true);
    }
    eprintln!("{path}: the output changed (- blessed, + now); scripts/bless accepts it");
    eprint!("{}", diff::lines(&golden.output, &actual, 3));
    Ok(false)
}
