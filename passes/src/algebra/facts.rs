//! The e-class analysis: what holds of every term of a class, whatever the inputs.

use bytes::Bytes;
use egg::{Analysis, DidMerge, Id};
use indexmap::IndexSet;
use kiln_ir::DType;
use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_ir::types::is_float;

use super::range::Range;
use super::split::Part;
use super::term::{EGraph, Term};
use crate::axes::{AxisId, ConstId, Kind, number};

/// What terms refer to: extents of axes, bytes of constants, ranges of inputs.
pub struct World {
    extents: Vec<u64>,
    consts: IndexSet<Bytes>,
    inputs: Vec<Range>,
}

/// Facts of a class. Two terms of one class always agree on `axes` and `dtype`; the applier sees to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Sorted.
    pub axes: Vec<AxisId>,
    pub dtype: DType,
    /// Made of constants and weights only.
    pub is_const: bool,
    /// Made of weights, perhaps among other things.
    pub has_weight: bool,
    /// The value, for a scalar constant.
    pub number: Option<f64>,
    pub range: Range,
}

impl World {
    pub fn of(part: &Part) -> Self {
        World {
            extents: part.graph.axes.clone(),
            consts: part.graph.consts.clone(),
            inputs: part.ranges.clone(),
        }
    }

    pub fn extents(&self) -> &[u64] {
        &self.extents
    }

    pub fn consts(&self) -> &IndexSet<Bytes> {
        &self.consts
    }

    pub fn extent(&self, axis: AxisId) -> u64 {
        self.extents[axis.0 as usize]
    }

    pub fn elements(&self, axes: &[AxisId]) -> u64 {
        axes.iter().map(|&a| self.extent(a)).product()
    }

    pub fn add_axis(&mut self, extent: u64) -> AxisId {
        self.extents.push(extent);
        AxisId(self.extents.len() as u32 - 1)
    }

    pub fn add_const(&mut self, bytes: Bytes) -> ConstId {
        ConstId(self.consts.insert_full(bytes).0 as u32)
    }

    pub fn const_bytes(&self, id: ConstId) -> &Bytes {
        &self.consts[id.0 as usize]
    }
}

impl Analysis<Term> for World {
    type Data = Facts;

    fn make(egraph: &mut EGraph, term: &Term, _id: Id) -> Facts {
        let of = |i: usize| &egraph[term.children[i]].data;
        let world = &egraph.analysis;
        let operands: Vec<&[AxisId]> = (0..term.children.len()).map(|i| of(i).axes.as_slice()).collect();
        let mut axes = term.kind.result_axes(&operands);
        axes.sort_unstable();
        let is_const = match &term.kind {
            Kind::Input { .. } | Kind::Opaque { .. } => false,
            _ => (0..term.children.len()).all(|i| of(i).is_const),
        };
        let has_weight = matches!(term.kind, Kind::Weight { .. })
            || (is_const && (0..term.children.len()).any(|i| of(i).has_weight));
        let number = match &term.kind {
            Kind::Const { id, axes } if axes.is_empty() => {
                number::from_bytes(world.const_bytes(*id), term.dtype)
            }
            Kind::Map(kind) if is_float(term.dtype) || term.dtype == DType::I32 => {
                let numbers: Option<Vec<f64>> = (0..term.children.len()).map(|i| of(i).number).collect();
                numbers.and_then(|n| fold(*kind, &n, term.dtype))
            }
            _ => None,
        };
        let range = match number {
            Some(n) => Range::point(n),
            None => range_of(egraph, term),
        };
        Facts { axes, dtype: term.dtype, is_const, has_weight, number, range }
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        let merged = Facts {
            axes: a.axes.clone(),
            dtype: a.dtype,
            is_const: a.is_const || b.is_const,
            has_weight: a.has_weight && b.has_weight,
            number: a.number.or(b.number),
            range: a.range.meet(b.range),
        };
        let changed = DidMerge(merged != *a, merged != b);
        *a = merged;
        changed
    }

    /// A scalar that is known becomes a constant term of its class.
    fn modify(egraph: &mut EGraph, id: Id) {
        let facts = &egraph[id].data;
        let (Some(n), true) = (facts.number, facts.axes.is_empty()) else { return };
        let dtype = facts.dtype;
        if egraph[id].nodes.iter().any(|t| matches!(t.kind, Kind::Const { .. })) {
            return;
        }
        if let Some(bytes) = number::to_bytes(n, dtype) {
            let const_id = egraph.analysis.add_const(bytes);
            let term = Term { kind: Kind::Const { id: const_id, axes: vec![] }, dtype, children: vec![] };
            let constant = egraph.add(term);
            egraph.union(id, constant);
        }
    }
}

/// A map of scalars, computed as the machine would (f32, rounded once); none where it is not exact
/// to say (transcendental functions have their own polynomials).
fn fold(kind: MapKind, n: &[f64], dtype: DType) -> Option<f64> {
    use MapKind::*;
    if dtype == DType::I32 {
        let (a, b) = (*n.first()?, *n.get(1)?);
        let r = match kind {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            _ => return None,
        };
        return (r.abs() < 2147483648.0).then_some(r);
    }
    if dtype != DType::F32 {
        return None;
    }
    let a = *n.first()? as f32;
    let b = n.get(1).map(|b| *b as f32);
    let r = match (kind, b) {
        (Add, Some(b)) => a + b,
        (Sub, Some(b)) => a - b,
        (Mul, Some(b)) => a * b,
        (Div, Some(b)) => a / b,
        (Neg, None) => -a,
        (Abs, None) => a.abs(),
        (Square, None) => a * a,
        (Sqrt, None) => a.sqrt(),
        _ => return None,
    };
    r.is_finite().then_some(r as f64)
}

fn range_of(egraph: &EGraph, term: &Term) -> Range {
    let world = &egraph.analysis;
    let of = |i: usize| egraph[term.children[i]].data.range;
    let float = is_float(term.dtype);
    let all = Range::all(term.dtype);
    let range = match &term.kind {
        Kind::Input { index, .. } => world.inputs.get(*index as usize).copied().unwrap_or(all),
        Kind::Const { id, .. } => {
            let size = term.dtype.size_bytes();
            let elements = world.const_bytes(*id).chunks_exact(size);
            Range::hull(elements.map(|e| number::from_bytes(e, term.dtype))).unwrap_or(all)
        }
        Kind::Iota { axis } => Range::between(0.0, world.extent(*axis).saturating_sub(1) as f64),
        Kind::Map(MapKind::Sub) if is_maximum_of(egraph, term.children[1], term.children[0]) => {
            // x ≤ max x; a row of infinities gives NaN.
            let x = of(0);
            Range { hi: 0.0, ..Range::map(MapKind::Sub, &[x, of(1)], term.dtype) }
        }
        Kind::Map(kind) => {
            let operands: Vec<Range> = (0..term.children.len()).map(of).collect();
            Range::map(
                *kind,
                &operands,
                egraph[*term.children.last().unwrap_or(&term.children[0])].data.dtype,
            )
        }
        Kind::Cast => of(0).cast(egraph[term.children[0]].data.dtype, term.dtype),
        Kind::Reduce { kind, axes } => {
            let x = of(0);
            let n = world.elements(axes) as f64;
            match kind {
                _ if n == 0.0 => all,
                ReduceKind::Max | ReduceKind::Min => x,
                ReduceKind::Argmax | ReduceKind::Argmin => Range::between(0.0, n - 1.0),
                ReduceKind::Sum => x.sum(n),
                ReduceKind::Prod => all,
            }
        }
        Kind::Slice { .. }
        | Kind::Reverse { .. }
        | Kind::Rename { .. }
        | Kind::Relayout { .. }
        | Kind::Broadcast { .. }
        | Kind::Gather { .. } => of(0),
        Kind::Concat { .. } => (0..term.children.len()).map(of).reduce(Range::join).unwrap_or(all),
        Kind::TopK { axis, part, .. } => match part {
            crate::axes::TopKPart::Values => of(0),
            crate::axes::TopKPart::Indices => Range::between(0.0, world.extent(*axis) as f64 - 1.0),
        },
        _ => all,
    };
    if float { range.rounded() } else { range.or_wrapped(term.dtype) }
}

/// Whether class `max` holds a maximum of class `x` over some axes.
pub fn is_maximum_of(egraph: &EGraph, max: Id, x: Id) -> bool {
    holds_reduction(egraph, max, x, ReduceKind::Max)
}

/// Whether class `sum` holds a sum of class `x` over some axes.
pub fn is_sum_of(egraph: &EGraph, sum: Id, x: Id) -> bool {
    holds_reduction(egraph, sum, x, ReduceKind::Sum)
}

fn holds_reduction(egraph: &EGraph, class: Id, x: Id, wanted: ReduceKind) -> bool {
    egraph[class].nodes.iter().any(|t| {
        matches!(t.kind, Kind::Reduce { kind, .. } if kind == wanted)
            && egraph.find(t.children[0]) == egraph.find(x)
    })
}
