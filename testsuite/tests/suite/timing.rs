//! Counting time only, a run that goes ahead of the event loop and jumps tells what one that does neither tells: each
//! figure of the report, of every model.

use kiln::{CompileOptions, Tensors, inputs::fill};
use kiln_machine::target::Target;
use kiln_runtime::{Options, Report, Simulator};
use kiln_testsuite::models;
use std::path::Path;

/// A preset, and a small scratchpad, for which tiles are many.
const MACHINES: &[(&str, &[(&str, &str)])] = &[("core", &[]), ("edge", &[("spm_bytes", "64K")])];

fn reports(model: &Path, preset: &str, set: &[(&str, &str)]) -> [Report; 2] {
    let mut target = Target::preset(preset).expect("a preset");
    target.set_all(set.iter().copied()).expect("values that go together");
    let mut options = CompileOptions::new(model.to_path_buf(), target);
    options.device_only = true;
    options.choose_unbound_dims().expect("dims");
    let what = format!("{} on {preset} {set:?}", model.display());
    let compiled = kiln::compile(&options).unwrap_or_else(|e| panic!("{what}: {}", e.in_one_line()));
    let mut inputs = Tensors::new();
    fill(&compiled.wanted(), &mut inputs, 1);
    [true, false].map(|every_period| {
        let options = Options { timing_only: true, every_period, ..Options::default() };
        let simulator = Simulator::new(&compiled.program, &compiled.target, options);
        simulator.and_then(|mut simulator| simulator.run(&inputs)).unwrap_or_else(|e| panic!("{what}: {e}")).1
    })
}

#[test]
fn going_ahead_counts_the_same() {
    for model in models().expect("the models are there") {
        for (preset, set) in MACHINES {
            let [plain, ahead] = reports(&model, preset, set);
            assert_eq!(ahead, plain, "{} on {preset} {set:?}", model.display());
            assert!(plain.instructions.len() > 5);
        }
    }
}
