//! Random graphs over random targets (`fuzz`). `KILN_FUZZ_GRAPHS` and `KILN_FUZZ_SEED` say how many and from which;
//! `cargo run --release -p kiln-testsuite --bin fuzz -- --graphs 1000` does the same faster.

use kiln_testsuite::fuzz::{Graph, check, shrink};
use std::env;

/// Few in the ordinary run, so that it stays short.
const GRAPHS: u64 = 40;
const MOST_OPS: u64 = 10;

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn random_graphs_keep_their_values() {
    let from = number("KILN_FUZZ_SEED", 0);
    let folder = tempfile::tempdir().expect("a folder");
    let mut failures = Vec::new();
    for seed in from..from + number("KILN_FUZZ_GRAPHS", GRAPHS) {
        let graph = Graph::random(seed, MOST_OPS);
        if let Err(failure) = check(&graph, seed, folder.path()) {
            let (small, failure) = shrink(&graph, failure, seed, folder.path());
            failures.push(format!("seed {seed}: {}: {}\n{}", failure.kind, failure.what, small.text()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
