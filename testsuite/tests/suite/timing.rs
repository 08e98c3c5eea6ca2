//! Counting time only, a run that goes ahead of the event loop and jumps tells what one that does neither tells: each
//! figure of the report, of every model.

use crate::compiled::{Machine, Model, compiled};
use kiln_runtime::{Options, Simulator};
use kiln_testsuite::models;

/// A preset, and a small scratchpad, for which tiles are many.
const MACHINES: &[Machine] = &[("core", &[]), ("edge", &[("spm_bytes", "64K")])];

#[test]
fn going_ahead_counts_the_same() {
    for model in models().expect("the models are there") {
        for machine in MACHINES {
            let Model { what, compiled, inputs } = compiled(&model, *machine);
            let [plain, ahead] = [true, false].map(|every_period| {
                let options = Options { timing_only: true, every_period, ..Options::default() };
                let simulator = Simulator::new(&compiled.program, &compiled.target, options);
                let run = simulator.and_then(|mut simulator| simulator.run(&inputs));
                run.unwrap_or_else(|e| panic!("{what}: {e}")).1
            });
            assert_eq!(ahead, plain, "{what}");
            assert!(plain.instructions.len() > 5);
        }
    }
}
