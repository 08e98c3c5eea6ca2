//! What the sanitizer sees of programs that are broken in one place.
//!
//! A sample; `cargo run --release -p kiln-testsuite --bin mutate` breaks everything that can be broken.

use std::collections::BTreeMap;

use kiln_testsuite::mutate::{Kind, Score, compiled, sample, written};
use kiln_testsuite::{hand_written, model};

/// Mutants of each compiled program.
const SAMPLE: usize = 150;

#[test]
fn mutants_that_change_behaviour_are_reported() {
    let mut subjects = Vec::new();
    for path in hand_written().expect("they are there") {
        subjects.push((path.display().to_string(), written(&path)));
    }
    for name in ["gemm_bias_gelu", "attention", "softmax", "matmul_nk", "layer_norm", "vit"] {
        subjects.push((name.to_owned(), compiled(&model(name), "edge")));
    }
    let mut totals: BTreeMap<Kind, Score> = BTreeMap::new();
    let mut unnoticed = Vec::new();
    for (name, subject) in subjects {
        let subject = subject.unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let all = subject.mutations();
        let (scores, missed) = subject.score(sample(&all, SAMPLE, 1));
        scores.into_iter().for_each(|(kind, score)| totals.entry(kind).or_default().add(score));
        let judged = missed.into_iter().filter(|mutation| mutation.kind != Kind::Pattern);
        unnoticed.extend(judged.map(|mutation| format!("{name}: {}", subject.describe(mutation))));
    }
    for (kind, score) in &totals {
        println!("{kind:?}: {score}");
    }
    // One operand that moves by an element may stay in its buffer and read what another row holds: a different
    // program, but one without a fault.
    for (kind, least) in
        [(Kind::Wait, 0.99), (Kind::Signal, 0.99), (Kind::Buffer, 0.99), (Kind::Operand, 0.98)]
    {
        let score = totals[&kind];
        assert!(score.changing >= 20, "{kind:?}: too few to judge by: {score}");
        assert!(score.ratio() >= least, "{kind:?}: {score}\n{}", unnoticed.join("\n"));
    }
}
