//! Steps: where a difference in the last place becomes a whole unit. What reaches a rounding to integers, a
//! comparison or a choice of the largest through elementwise ops keeps its bits: rows above E0 leave it alone.
//!
//! The walk back stops at sums, whose rounding no two machines share.

use std::collections::BTreeSet;

use egg::Id;
use kiln_ir::DType;
use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_ir::types::is_float;

use super::term::EGraph;
use crate::axes::{Graph, Kind, NodeId, number};

/// What is known of an operand.
#[derive(Clone, Copy)]
struct Operand {
    dtype: DType,
    number: Option<f64>,
}

/// Whether the op's result jumps where an operand changes a little.
fn is_step(kind: &Kind, dtype: DType, operands: &[Operand]) -> bool {
    use MapKind::*;
    let float = operands.first().is_some_and(|o| is_float(o.dtype));
    // Next to an infinity nothing finite is equal or on the other side.
    let finite = operands.iter().all(|o| o.number.is_none_or(f64::is_finite));
    float
        && match kind {
            Kind::Map(Floor | Ceil | Round | Sign | Mod | Fmod) | Kind::TopK { .. } => true,
            Kind::Map(kind) => kind.is_compare() && finite,
            Kind::Cast => !is_float(dtype),
            Kind::Reduce { kind, .. } => matches!(kind, ReduceKind::Argmax | ReduceKind::Argmin),
            _ => false,
        }
}

/// Whether a change of an operand shows in single elements of the result.
fn hands_on(kind: &Kind) -> bool {
    match kind {
        Kind::Reduce { kind, .. } => matches!(kind, ReduceKind::Max | ReduceKind::Min),
        Kind::Ein { .. } | Kind::Scan { .. } | Kind::Opaque { .. } => false,
        kind => !kind.is_leaf(),
    }
}

/// The nodes of a program that must keep their bits.
pub fn of_graph(graph: &Graph) -> Vec<bool> {
    let known = |id: NodeId| {
        let node = graph.node(id);
        let number = match &node.kind {
            Kind::Const { id, axes } if axes.is_empty() => {
                number::from_bytes(graph.const_bytes(*id), node.dtype)
            }
            _ => None,
        };
        Operand { dtype: node.dtype, number }
    };
    let mut exact = vec![false; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        let operands: Vec<Operand> = node.operands.iter().map(|&o| known(o)).collect();
        if is_step(&node.kind, node.dtype, &operands) || (exact[i] && hands_on(&node.kind)) {
            node.operands.iter().for_each(|o| exact[o.0 as usize] = true);
        }
    }
    exact
}

/// The classes that must keep their bits; `outside` are those that reach a step in another part.
pub fn of_egraph(egraph: &EGraph, outside: &[Id]) -> BTreeSet<Id> {
    let mut open: Vec<Id> = outside.iter().map(|c| egraph.find(*c)).collect();
    for class in egraph.classes() {
        for term in &class.nodes {
            let known = |c: &Id| {
                let facts = &egraph[*c].data;
                Operand { dtype: facts.dtype, number: facts.number }
            };
            let operands: Vec<Operand> = term.children.iter().map(known).collect();
            if is_step(&term.kind, term.dtype, &operands) {
                open.extend(term.children.iter().map(|c| egraph.find(*c)));
            }
        }
    }
    let mut exact = BTreeSet::new();
    while let Some(class) = open.pop() {
        if exact.insert(class) {
            let through = egraph[class].nodes.iter().filter(|t| hands_on(&t.kind));
            open.extend(through.flat_map(|t| &t.children).map(|c| egraph.find(*c)));
        }
    }
    exact
}

#[cfg(test)]
mod tests {
    use kiln_ir::nn::ContractDims;

    use super::*;
    use crate::algebra::{Options, optimise};
    use crate::regions::tests::toy;

    #[test]
    fn what_is_rounded_keeps_its_division() {
        let count = |rounded: bool| {
            let (_, graph) = toy(|t, h, _| {
                let scale = t.b.reduce(ReduceKind::Max, h, &[0, 1])?;
                let scale = t.b.broadcast(scale, &[], &[6, 8])?;
                let y = t.b.map(MapKind::Div, &[h, scale])?;
                if rounded { t.b.map(MapKind::Round, &[y]) } else { Ok(y) }
            });
            let (after, _) = optimise(&graph, Options::default()).unwrap();
            after.nodes.iter().filter(|n| n.kind.name() == "div").count()
        };
        assert_eq!((count(true), count(false)), (1, 0));
    }

    #[test]
    fn sums_and_infinities_stand_between() {
        let (_, graph) = toy(|t, h, _| {
            let w = t.b.weight(0, 0, &[8, 8], DType::F32)?;
            let doubled = t.b.map(MapKind::Add, &[h, h])?;
            let y = t.b.contract(doubled, w, &ContractDims::matmul(0))?;
            let infinite = t.b.splat(DType::F32, f64::NEG_INFINITY, &[6, 8])?;
            let dark = t.b.map(MapKind::Eq, &[h, infinite])?;
            let round = t.b.map(MapKind::Round, &[y])?;
            t.b.map(MapKind::Select, &[dark, h, round])
        });
        let exact = of_graph(&graph);
        let of =
            |name: &str| graph.nodes.iter().zip(&exact).find(|(n, _)| n.kind.name() == name).map(|(_, e)| *e);
        assert_eq!((of("ein"), of("add"), of("in")), (Some(true), Some(false), Some(false)));
    }
}
