//! What the host computes with the reference evaluator: constant subgraphs at compile time, host segments in a run.

use bytes::Bytes;
use kiln_backend::FoldEvaluator;
use kiln_frontend::SourceFile;
use kiln_ir::{
    Context, DType, IN_MEMORY, Module, Tensor,
    eval::{Array, Files, array::cast, nn},
    nn::Func,
};
use kiln_machine::program::HostSegment;
use kiln_runtime::HostExecutor;

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
    fn evaluate(&self, function: &Func, files: &Files) -> Result<Tensor, String> {
        let results = nn::eval(function, &[], files).map_err(|e| e.to_string())?;
        results.into_iter().next().ok_or_else(|| format!("the function @{} has no result", function.name))
    }

    fn contents(&self, module: &Module) -> Files {
        Folds::contents(self, module)
    }

    fn file(&self, path: &str) -> Result<Bytes, String> {
        debug_assert_ne!(path, IN_MEMORY);
        let found = self.files.iter().find(|file| file.name == path);
        found.map(|file| file.bytes.clone()).ok_or_else(|| format!("the model has no file {path}"))
    }
}

/// Runs host segments: their bytecode is a module whose `main` is evaluated.
#[derive(Debug, Default)]
pub struct Evaluator;

impl HostExecutor for Evaluator {
    fn execute(&self, segment: &HostSegment, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let module = Module::parse(&Context::new(), &segment.bytecode).map_err(|e| e.to_string())?;
        let func = module.func("main").map_err(|e| e.to_string())?;
        let inputs: Vec<Tensor> = func
            .arg_values()
            .zip(inputs)
            .map(|(value, tensor)| converted(tensor, func.ty(value).dtype))
            .collect();
        let results = nn::eval(&func, &inputs, &Files::of(&module, Vec::new())).map_err(|e| e.to_string())?;
        let as_the_host_sees = |(tensor, (_, port)): (Tensor, &(_, kiln_ir::nn::Port))| match port.host_type {
            Some(dtype) => converted(&tensor, dtype),
            None => tensor,
        };
        Ok(results.into_iter().zip(&func.results).map(as_the_host_sees).collect())
    }
}

/// A tensor in the dtype that holds it elsewhere; its values fit both.
fn converted(tensor: &Tensor, dtype: DType) -> Tensor {
    if tensor.dtype == dtype { tensor.clone() } else { cast(&Array::from_tensor(tensor), dtype).to_tensor() }
}
