//! ONNX → `nn`.
//!
//! [`import`] decodes a model without copying a weight, binds every dim, checks everything and builds the
//! `nn` function; [`check`] does all but the last. All problems of a model are told at once, each with its
//! node. [`inspect`] lists the inputs and their dims; [`tensor_pb`] reads and writes tensor files.
//!
//! The way through the crate: [`model_file`](self) maps and decodes → `inputs` binds dims → `graph` walks the
//! nodes in order → `ops`, one file an operator, composes `nn` ops in the `draft`, which folds and types →
//! `emit` builds the function.

#![forbid(unsafe_code)]

mod call;
mod diagnostics;
mod dims;
mod draft;
mod emit;
mod fold;
mod graph;
mod inputs;
mod model_file;
mod node_text;
pub mod onnx;
pub mod ops;
pub mod ops_doc;
pub mod tensor_pb;
mod windows;

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use kiln_ir::Module;
use kiln_ir::types::TensorType;
use kiln_machine::tensor::DType;

pub use diagnostics::{Code, Diagnostic, Diagnostics, NodeRef};
pub use dims::{DimExpr, DimOp, DimSpec};
pub use inputs::{Binding, InputSpec};
pub use model_file::SourceFile;

use draft::{Draft, Range, Val};
use graph::Walker;
use model_file::ModelFile;

/// What the caller decides about an import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Sizes of named dims.
    pub dims: IndexMap<String, i64>,
    /// Shapes of inputs that are at hand; they bind the dims.
    pub input_shapes: IndexMap<String, Vec<usize>>,
    /// Inclusive ranges of integer inputs, which the runtime checks.
    pub input_ranges: IndexMap<String, [i64; 2]>,
    /// Where external data lies, when not beside the model.
    pub data_folder: Option<PathBuf>,
}

/// An imported model.
pub struct Imported {
    /// `func.func @main`, and the bytes that stand in no file.
    pub module: Module,
    /// The files that weights refer to, numbered as in the module's `nn.files` (whose entry `""`, the
    /// module's own bytes, is not listed here).
    pub files: Vec<SourceFile>,
    /// How the dims were bound.
    pub binding: Binding,
    /// Inputs and outputs as the user sees them: name, dtype and shape.
    pub inputs: Vec<(String, TensorType)>,
    /// See `inputs`.
    pub outputs: Vec<(String, TensorType)>,
}

/// The inputs of the model at `path`, with their dims as the model names them.
///
/// # Errors
/// When the file is no model, or declares inputs that are no tensors.
pub fn inspect(path: &Path) -> Result<Vec<InputSpec>, Diagnostics> {
    let model = ModelFile::open(path, None)?;
    inputs::declared(&model.proto.graph.unwrap_or_default())
}

/// Checks the model as [`import`] does, without building anything.
///
/// # Errors
/// All problems of the model.
pub fn check(path: &Path, options: &ImportOptions) -> Result<Binding, Diagnostics> {
    let mut model = ModelFile::open(path, options.data_folder.as_deref())?;
    Ok(build(&mut model, options)?.binding)
}

/// Imports the model at `path`: every dim bound, every op composed of `nn` ops.
///
/// # Errors
/// All problems of the model.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported, Diagnostics> {
    let mut model = ModelFile::open(path, options.data_folder.as_deref())?;
    let built = build(&mut model, options)?;
    let ports = |list: &mut dyn Iterator<Item = (String, Val)>| {
        list.map(|(name, v)| (name, built.draft.ty(v).clone())).collect::<Vec<_>>()
    };
    let module = emit::emit(&built.draft, &built.inputs, &built.outputs, &model.files).map_err(|e| {
        let message = format!("internal error while building IR: {e}");
        Diagnostic::new(Code::InvalidGraph, message).help("this is a fault of the importer; please report it")
    })?;
    Ok(Imported {
        inputs: ports(&mut built.inputs.iter().map(|(s, v)| (s.name.clone(), *v))),
        outputs: ports(&mut built.outputs.iter().cloned()),
        module,
        files: model.files.iter().cloned().collect(),
        binding: built.binding,
    })
}

/// A draft with its ends.
struct Built {
    draft: Draft,
    binding: Binding,
    inputs: Vec<(InputSpec, Val)>,
    outputs: Vec<(String, Val)>,
}

/// How large int64 inputs without a declared range may be: tried in turn until all arithmetic fits 32 bits.
/// The runtime checks the range that was needed. When none does, the first holds and the host computes what may
/// not fit.
const INPUT_BOUNDS: [i64; 3] = [i32::MAX as i64, 1 << 24, 1 << 16];

fn build(model: &mut ModelFile, options: &ImportOptions) -> Result<Built, Diagnostics> {
    let _span = tracing::info_span!("import").entered();
    let graph = model.proto.graph.take().unwrap_or_default();
    let specs = inputs::declared(&graph)?;
    let binding = inputs::bind(&specs, &options.dims, &options.input_shapes)?;
    let mut ranges = declared_ranges(&specs, options)?;
    let mut attempt = 0;
    // Each round either is the last or makes a range narrower, but for one that takes the widest again.
    loop {
        let bound = *INPUT_BOUNDS.get(attempt).unwrap_or(&INPUT_BOUNDS[0]);
        let mut walker = Walker::new(&mut model.files, &model.proto.functions, &binding.dims);
        let mut inputs = Vec::new();
        for (position, spec) in specs.iter().enumerate() {
            let ty = TensorType::new(spec.dtype, binding.shapes[&spec.name].clone());
            let range = ranges[position].unwrap_or_else(|| default_range(spec.dtype, bound));
            inputs.push((spec.clone(), walker.draft.input(position, ty, range)));
        }
        let names = inputs.iter().map(|(s, v)| (s.name.clone(), Some(*v))).collect();
        let values = walker.main(&graph, &model.proto.opset_import, names);
        let (draft, problems) = (walker.draft, walker.problems);
        let mut narrowed = false;
        for (&position, &wanted) in draft.demands() {
            if !draft.range(inputs[position].1).is_within(wanted) {
                ranges[position] = Some(wanted);
                narrowed = true;
            }
        }
        if narrowed {
            continue;
        }
        let open = specs.iter().zip(&ranges).any(|(s, r)| s.dtype == DType::I64 && r.is_none());
        if draft.exceeds_32_bits() && open && attempt < INPUT_BOUNDS.len() {
            attempt += 1;
            continue;
        }
        problems.or(())?;
        let outputs =
            graph.output.iter().zip(values).filter_map(|(o, v)| Some((o.name().to_string(), v?))).collect();
        return Ok(Built { draft, binding, inputs, outputs });
    }
}

fn default_range(dtype: DType, bound: i64) -> Range {
    match dtype {
        DType::I64 => Range::new(-bound - i64::from(bound == i32::MAX as i64), bound),
        other => Range::of_dtype(other),
    }
}

/// The ranges that the options give, by input position.
fn declared_ranges(specs: &[InputSpec], options: &ImportOptions) -> Result<Vec<Option<Range>>, Diagnostics> {
    let mut problems = Diagnostics::default();
    for (name, [lo, hi]) in &options.input_ranges {
        match specs.iter().find(|s| s.name == *name) {
            None => problems.push(Diagnostic::new(Code::Option, format!("the model has no input {name:?}"))),
            Some(spec) if !Range::new(*lo, *hi).is_within(Range::of_dtype(spec.dtype)) || lo > hi => {
                problems.push(
                    Diagnostic::new(
                        Code::Option,
                        format!("the range {lo} to {hi} of {name:?} is impossible"),
                    )
                    .help("the device holds int64 in 32 bits"),
                );
            }
            Some(_) => {}
        }
    }
    let of = |s: &InputSpec| options.input_ranges.get(&s.name).map(|[lo, hi]| Range::new(*lo, *hi));
    problems.or(specs.iter().map(of).collect())
}
