//! The same graph after algebra gives the same bits on every machine: every reduction and product is one ascending
//! chain, whatever the tiles. A reduction that is split would be an exception; the compiler splits none.

use kiln::{CompileOptions, Tensors, inputs::fill};
use kiln_machine::target::Target;
use kiln_testsuite::models;
use std::path::Path;

/// A preset and changes of it: other memories, and other numbers of partitions.
const MACHINES: &[(&str, &[(&str, &str)])] = &[
    ("edge", &[]),
    ("core", &[("spm_bytes", "64K")]),
    ("edge", &[("partitions", "24"), ("row_groups", "1"), ("spm_bytes", "393216"), ("acc_bytes", "98304")]),
];

fn outputs(model: &Path, preset: &str, set: &[(&str, &str)]) -> Tensors {
    let mut target = Target::preset(preset).expect("a preset");
    target.set_all(set.iter().copied()).expect("values that go together");
    let mut options = CompileOptions::new(model.to_path_buf(), target);
    options.device_only = true;
    options.choose_unbound_dims().expect("dims");
    let what = format!("{} on {preset} {set:?}", model.display());
    let compiled = kiln::compile(&options).unwrap_or_else(|e| panic!("{what}: {}", e.in_one_line()));
    let mut given = Tensors::new();
    fill(&compiled.wanted(), &mut given, 1);
    compiled.run(&given).unwrap_or_else(|e| panic!("{what}: {}", e.in_one_line())).outputs
}

#[test]
fn every_machine_gives_the_same_bits() {
    let mut differing = Vec::new();
    for model in models().expect("the models are there") {
        let mut all = MACHINES.iter().map(|(preset, set)| (preset, set, outputs(&model, preset, set)));
        let Some((.., first)) = all.next() else { continue };
        for (preset, set, outputs) in all {
            for (name, tensor) in &outputs {
                if tensor.data != first[name].data {
                    differing.push(format!("{}: {name} on {preset} {set:?}", model.display()));
                }
            }
        }
    }
    assert!(differing.is_empty(), "not the bits of edge:\n  {}", differing.join("\n  "));
}
