//! Shrinking a failing graph: fewer outputs, shorter prefixes, values cut off into inputs.

use super::{Failure, Graph, check};
use crate::onnx::elem;
use std::path::Path;

/// The least graph found that fails as `graph` does, and how.
pub fn shrink(graph: &Graph, failure: Failure, seed: u64, folder: &Path) -> (Graph, Failure) {
    let (mut best, mut failure) = (graph.clone(), failure);
    loop {
        let size = best.ops.len();
        let smaller = candidates(&best).into_iter().find_map(|candidate| {
            let fails = check(&candidate, seed, folder).err().filter(|f| f.kind == failure.kind);
            fails.map(|f| (candidate, f))
        });
        match smaller {
            Some((graph, f)) if graph.ops.len() < size || graph.outputs.len() < best.outputs.len() => {
                (best, failure) = (graph, f);
            }
            _ => return (best, failure),
        }
    }
}

/// Graphs that compute less, the smallest first.
fn candidates(graph: &Graph) -> Vec<Graph> {
    let mut found = Vec::new();
    let mut add = |mut candidate: Graph| {
        candidate.drop_unused();
        let less = candidate.ops.len() < graph.ops.len() || candidate.outputs.len() < graph.outputs.len();
        if !candidate.ops.is_empty() && !candidate.outputs.is_empty() && less {
            found.push(candidate);
        }
    };
    let is_float = |name: &String| graph.type_of(name).is_some_and(|ty| ty.elem == elem::F32);
    for output in &graph.outputs {
        add(Graph { outputs: vec![output.clone()], ..graph.clone() });
    }
    for op in &graph.ops {
        let Some(made) = op.node.output.first().filter(|name| is_float(name)) else { continue };
        // Only this value.
        add(Graph { outputs: vec![made.clone()], ..graph.clone() });
        // Everything but what makes it.
        let Some(ty) = graph.type_of(made) else { continue };
        let mut cut = graph.clone();
        cut.ops.retain(|other| other.node.output != op.node.output);
        cut.outputs.retain(|name| name != made);
        cut.inputs.insert(made.clone(), ty.clone());
        add(cut);
        // Its operand in its place.
        let operand = op.node.input.iter().find(|input| graph.type_of(input) == Some(ty));
        if let Some(operand) = operand {
            let mut without = graph.clone();
            without.ops.retain(|other| other.node.output != op.node.output);
            for other in &mut without.ops {
                for input in other.node.input.iter_mut().filter(|input| *input == made) {
                    *input = operand.clone();
                }
            }
            without.outputs.retain(|name| name != made);
            add(without);
        }
    }
    found.sort_by_key(|candidate| candidate.ops.len());
    found
}
