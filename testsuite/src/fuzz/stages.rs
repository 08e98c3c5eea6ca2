//! Which stage of a compilation changes a graph's values: for whoever has a failure before him.

use super::case::{Failure, evaluate_nn, near};
use kiln::{CompileOptions, Tensors, host::Folds};
use kiln_frontend::{ImportOptions, Imported};
use kiln_ir::{
    eval::{
        self,
        array::{self, Array},
    },
    tile::DramKind,
};
use kiln_machine::target::Target;
use kiln_passes::{
    algebra::{Grade, Weights},
    lower::lower,
};
use std::{collections::BTreeMap, path::Path};

/// The first stage for `target` whose values are not near those of `nn` as imported: `algebra`, `tile` or `program`.
///
/// # Errors
/// When a stage does not run at all.
pub fn first_wrong(path: &Path, inputs: &Tensors, target: &Target, grade: Grade) -> Result<String, Failure> {
    let fault = |stage: &str, e: String| Failure::new(stage, e);
    let imported = kiln_frontend::import(path, &ImportOptions::default());
    let Imported { mut module, files, outputs, .. } = imported.map_err(|e| fault("import", e.to_string()))?;
    let folds = Folds { files: &files };
    let expected = evaluate_nn(&module, &folds, inputs, &outputs)?;
    let options = kiln_passes::Options {
        target: target.clone(),
        grade,
        weights: Weights::Rewritten,
        retries: BTreeMap::new(),
    };
    kiln_passes::optimise(&mut module, &options).map_err(|e| fault("algebra", e.to_string()))?;
    if near("algebra", &evaluate_nn(&module, &folds, inputs, &outputs)?, &expected).is_err() {
        return Ok(format!("algebra\n{}", module.print()));
    }
    lower(&mut module, target).map_err(|e| fault("lower", e.to_string()))?;
    let program = module.program("main").map_err(|e| fault("tile", e.to_string()))?;
    let mut given = indexmap::IndexMap::new();
    for dram in &program.drams {
        if let DramKind::Input(port) = &dram.kind
            && let Some(tensor) = inputs.get(&port.name)
        {
            given.insert(
                port.name.clone(),
                array::cast(&Array::from_tensor(tensor), dram.ty.dtype).to_tensor(),
            );
        }
    }
    let results = eval::tile::run(&module, &program, &folds.contents(&module), &given)
        .map_err(|e| fault("tile", e.to_string()))?;
    let results: Tensors = results
        .iter()
        .map(|(name, tensor)| {
            let dtype = expected.get(name).map_or(tensor.dtype, |want| want.dtype);
            (name.clone(), array::cast(&Array::from_tensor(tensor), dtype).to_tensor())
        })
        .collect();
    if near("tile", &results, &expected).is_err() {
        return Ok(format!("tile\n{}", module.print()));
    }
    let mut compile = CompileOptions::new(path.to_path_buf(), target.clone());
    compile.grade = grade;
    let run = kiln::compile(&compile).and_then(|compiled| compiled.run(inputs));
    let run = run.map_err(|e| fault("program", e.in_one_line()))?;
    match near("program", &run.outputs, &expected) {
        Err(_) => Ok("program".into()),
        Ok(()) => Ok("none".into()),
    }
}
