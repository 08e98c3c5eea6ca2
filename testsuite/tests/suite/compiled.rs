//! Models of the suite, compiled for a machine, with inputs to run them on.

use kiln::{CompileOptions, Compiled, Tensors, inputs::fill};
use kiln_machine::target::Target;
use std::path::Path;

/// A preset and changes of it.
pub type Machine = (&'static str, &'static [(&'static str, &'static str)]);

/// A compiled model.
pub struct Model {
    /// What and for which machine, for messages.
    pub what: String,
    pub compiled: Compiled,
    /// Random inputs, the same for every machine.
    pub inputs: Tensors,
}

/// Compile a model for a machine, dims that it leaves open bound as `kiln run` does.
pub fn compiled(model: &Path, (preset, set): Machine) -> Model {
    let what = format!("{} on {preset} {set:?}", model.display());
    let mut target = Target::preset(preset).expect("a preset");
    target.set_all(set.iter().copied()).expect("values that go together");
    let mut options = CompileOptions::new(model.to_path_buf(), target);
    options.device_only = true;
    options.choose_unbound_dims().expect("dims");
    let compiled = kiln::compile(&options).unwrap_or_else(|e| panic!("{what}: {}", e.in_one_line()));
    let mut inputs = Tensors::new();
    fill(&compiled.wanted(), &mut inputs, 1);
    Model { what, compiled, inputs }
}
