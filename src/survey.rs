//! What the passes make of a model, told without compiling it for a target: which rules fire, what repeats, and
//! what the algebra does not model.

use crate::{compile::CompileOptions, error::Error};
use kiln_passes::{
    algebra::Report,
    axes::{self, Kind},
};

/// An op that the algebra takes as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque {
    /// Its name in `nn`.
    pub op: &'static str,
    /// The ONNX nodes it stems from, `"<node name>|<op type>"`.
    pub origin: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Nodes of the named-axis graph before algebra.
    pub nodes: usize,
    pub opaque: Vec<Opaque>,
    pub algebra: Report,
}

/// Imports a model and runs the passes over `nn`; dimensions that nothing binds are chosen as `kiln run` does.
///
/// # Errors
/// What is wrong with the model.
pub fn survey(options: &mut CompileOptions) -> Result<Survey, Error> {
    options.choose_unbound_dims()?;
    let mut module = kiln_frontend::import(&options.model, &options.import_options())?.module;
    kiln_passes::prepare(&mut module)?;
    let graph = axes::from_nn(&module.func("main")?);
    let opaque = graph.nodes.iter().filter_map(|node| match &node.kind {
        // An op of several results stands there once for each of them.
        Kind::Opaque { op, result: 0, .. } => {
            let names = node.origins.iter().filter_map(|o| graph.names.get_index(*o as usize));
            Some(Opaque { op: op.name(), origin: names.cloned().collect() })
        }
        _ => None,
    });
    let opaque = opaque.collect();
    let passes = kiln_passes::Options {
        target: options.target.clone(),
        grade: options.grade,
        weights: options.weights.unwrap_or_default(),
        retries: Default::default(),
    };
    let report = kiln_passes::rewrite(&mut module, &passes)?;
    Ok(Survey { nodes: graph.nodes.len(), opaque, algebra: report.algebra })
}
