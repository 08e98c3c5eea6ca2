//! The same graph after algebra gives the same bits on every machine: every reduction and product is one ascending
//! chain, whatever the tiles. A reduction that is split would be an exception; the compiler splits none.

use crate::compiled::{Machine, Model, compiled};
use kiln_testsuite::models;

/// Other memories, and other numbers of partitions.
const MACHINES: &[Machine] = &[
    ("edge", &[]),
    ("core", &[("spm_bytes", "64K")]),
    ("edge", &[("partitions", "24"), ("row_groups", "1"), ("spm_bytes", "393216"), ("acc_bytes", "98304")]),
];

#[test]
fn every_machine_gives_the_same_bits() {
    let mut differing = Vec::new();
    for model in models().expect("the models are there") {
        let mut all = MACHINES.iter().map(|machine| {
            let Model { what, compiled, inputs } = compiled(&model, *machine);
            let run = compiled.run(&inputs).unwrap_or_else(|e| panic!("{what}: {}", e.in_one_line()));
            (what, run.outputs)
        });
        let Some((_, first)) = all.next() else { continue };
        for (what, outputs) in all {
            for (name, tensor) in &outputs {
                if tensor.data != first[name].data {
                    differing.push(format!("{name} of {what}"));
                }
            }
        }
    }
    assert!(differing.is_empty(), "not the bits of edge:\n  {}", differing.join("\n  "));
}
