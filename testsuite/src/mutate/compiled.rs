//! Subjects out of models.

use std::path::Path;

use kiln::CompileOptions;
use kiln_machine::target::Target;

use super::Subject;

/// A model compiled for a target, dimensions that it leaves open bound as `kiln run` does.
///
/// # Errors
/// See [`Subject::new`]; a model that does not compile.
pub fn compiled(folder: &Path, target: &str) -> Result<Subject, String> {
    let target = Target::preset(target).map_err(|error| error.to_string())?;
    let mut options = CompileOptions::new(folder.to_path_buf(), target.clone());
    options.device_only = true;
    options.choose_unbound_dims().map_err(|error| error.in_one_line())?;
    let compiled = kiln::compile(&options).map_err(|error| error.in_one_line())?;
    Subject::new(compiled.program, target, folder)
}
