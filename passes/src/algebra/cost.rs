//! What a term costs: an integer estimate of machine work, for choosing among equal terms.
//!
//! The unit is one bf16 multiply-accumulate slot of a 128×128 array. The other rates follow from the
//! balance of the shipped targets (about 80 slots an elementwise result, 110 a byte of DRAM); exact
//! durations belong to the tile solver, which sees tile sizes and fusion. What matters here is order:
//! fewer products, then fewer elements touched, then fewer bytes rewritten at compile time.

use egg::Id;
use kiln_ir::DType;
use kiln_ir::nn::MapKind;

use super::facts::Facts;
use super::term::{EGraph, Term};
use crate::axes::{AxisId, Kind};

/// Rows and columns of the array that products are padded to.
const ARRAY: u64 = 128;
/// A result of the vector or activation engine.
const ELEMENT: u64 = 80;
/// A byte moved to or from DRAM.
const BYTE: u64 = 110;
/// A byte rewritten at compile time: it is read, written into the program and loaded with it. A weight of n
/// columns is worth rewriting to save one operation an element from about 1.6·n rows.
const FOLDED_BYTE: u64 = 32;
/// Something that is never to be chosen where anything else will do.
const REFUSED: u64 = 1 << 48;

/// How weights reach the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weights {
    /// Rewritten where that saves work.
    #[default]
    Rewritten,
    /// Only addressed: no byte of a weight changes.
    ByReference,
}

/// The cost of computing `term` once its operands are there.
pub fn own_cost(egraph: &EGraph, class: Id, term: &Term, weights: Weights) -> u64 {
    let facts = &egraph[class].data;
    let elements = |axes: &[AxisId]| egraph.analysis.elements(axes);
    let of = |i: usize| -> &Facts { &egraph[term.children[i]].data };
    let out = elements(&facts.axes);
    if facts.is_const {
        return const_cost(term, facts, out, weights);
    }
    let widest = (0..term.children.len()).map(|i| elements(&of(i).axes)).max().unwrap_or(0);
    match &term.kind {
        Kind::Input { .. } | Kind::Weight { .. } | Kind::Const { .. } => 0,
        Kind::Map(kind) => out * map_weight(*kind) * ELEMENT / 4,
        Kind::Cast => out * ELEMENT,
        Kind::Ein { contracted, .. } => ein_cost(egraph, of(0), of(1), contracted),
        Kind::Reduce { .. } => widest * ELEMENT,
        Kind::Scan { .. } => widest * ELEMENT * 2,
        // Views of what lies in memory: cheap, but not for nothing.
        Kind::Slice { .. } | Kind::Rename { .. } | Kind::Broadcast { .. } => out * 2,
        Kind::Relayout { .. } => out * 8,
        Kind::Concat { .. } | Kind::Pad { .. } => out * 60,
        Kind::Iota { .. } => out * ELEMENT,
        Kind::Reverse { .. } | Kind::Gather { .. } => out * BYTE,
        Kind::TopK { .. } | Kind::Opaque { .. } => (out + widest) * BYTE * 2,
    }
}

/// Constants cost no time on the machine, but what rewrites bytes must be worth it.
fn const_cost(term: &Term, facts: &Facts, out: u64, weights: Weights) -> u64 {
    let addressing = matches!(
        term.kind,
        Kind::Weight { .. }
            | Kind::Const { .. }
            | Kind::Slice { .. }
            | Kind::Concat { .. }
            | Kind::Rename { .. }
            | Kind::Relayout { .. }
            | Kind::Broadcast { .. }
    );
    match (addressing, facts.has_weight, weights) {
        (true, ..) => 1,
        (false, true, Weights::ByReference) => REFUSED,
        _ => 1 + out * facts.dtype.size_bytes() as u64 * FOLDED_BYTE,
    }
}

/// Elementwise cost in quarters of a plain operation: a division or a power is several.
fn map_weight(kind: MapKind) -> u64 {
    match kind {
        MapKind::Div | MapKind::Reciprocal => 6,
        MapKind::Mod | MapKind::Fmod => 12,
        MapKind::Pow => 24,
        // Free on the way through another engine: sign flips and scalings ride along.
        MapKind::Neg | MapKind::Identity => 2,
        _ => 4,
    }
}

/// Padded multiply-accumulates, with either operand as the stationary one, and the operands' streams.
fn ein_cost(egraph: &EGraph, a: &Facts, b: &Facts, contracted: &[AxisId]) -> u64 {
    let elements = |axes: &[AxisId]| egraph.analysis.elements(axes);
    let only = |x: &Facts, y: &Facts| -> u64 {
        let axes: Vec<AxisId> =
            x.axes.iter().filter(|i| !y.axes.contains(i) && !contracted.contains(i)).copied().collect();
        elements(&axes)
    };
    let both: Vec<AxisId> =
        a.axes.iter().filter(|i| b.axes.contains(i) && !contracted.contains(i)).copied().collect();
    let (m, n, k, batch) = (only(a, b), only(b, a), elements(contracted), elements(&both));
    let pad = |x: u64| x.div_ceil(ARRAY) * ARRAY;
    let slots = pad(k) * (pad(m) * n).min(m * pad(n)) * batch;
    let rate = if a.dtype == DType::F32 || b.dtype == DType::F32 { 4 } else { 1 };
    // A stream passes the array once for each full width of the other operand.
    slots * rate + (elements(&a.axes) + elements(&b.axes)) * 24
}
