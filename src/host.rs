//! Constant subgraphs, evaluated once at compile time by the reference evaluator.

use bytes::Bytes;
use kiln_backend::FoldEvaluator;
use kiln_frontend::SourceFile;
use kiln_ir::{
    IN_MEMORY, Module, Tensor,
    eval::{Files, nn},
};

/// The files of an imported model, for whoever needs their bytes.
pub struct Folds<'a> {
    pub files: &'a [SourceFile],
}

impl Folds<'_> {
    /// The contents of the module's files in its order.
    pub fn contents(&self, module: &Module) -> Files {
        let find = |name: &String| self.files.iter().find(|file| file.name == *name);
        let maps = module
            .files()
            .iter()
            .map(|name| find(name).map(|f| f.bytes.clone()).unwrap_or_default())
            .collect();
        Files::of(module, maps)
    }
}

impl FoldEvaluator for Folds<'_> {
    fn evaluate(&self, module: &Module, function: &str) -> Result<Tensor, String> {
        let func = module.func(function).map_err(|e| e.to_string())?;
        let results = nn::eval(&func, &[], &self.contents(module)).map_err(|e| e.to_string())?;
        results.into_iter().next().ok_or_else(|| format!("the function @{function} has no result"))
    }

    fn file(&self, path: &str) -> Result<Bytes, String> {
        debug_assert_ne!(path, IN_MEMORY);
        let found = self.files.iter().find(|file| file.name == path);
        found.map(|file| file.bytes.clone()).ok_or_else(|| format!("the model has no file {path}"))
    }
}
