//! Rows over contractions.

use egg::Id;
use kiln_ir::DType;
use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_ir::types::is_float;

use super::{Equations, Right::*, Rule, Side};
use crate::algebra::Grade::*;
use crate::algebra::apply::{Build, Compiled, View};
use crate::algebra::facts::is_sum_of;
use crate::algebra::pattern::Match;
use crate::algebra::term::Term as Node;
use crate::axes::{AxisId, Kind};

#[rustfmt::skip] // a table
pub(super) const ROWS: &[Rule] = &[
    Rule { name: "ein-scale-out",     left: "(ein@e (mul ?x ?s) ?y)",      right: Term("(mul (ein@e ?x ?y) ?s)"),      when: SCALE_FREE, grade: E1, bound: 64, doc: "(x·r)W = r·(xW): a scale that the product does not contract waits until after it" },
    Rule { name: "ein-scale-in",      left: "(mul (ein@e ?x ?y) ?s)",      right: Term("(ein@e (mul ?x ?s) ?y)"),      when: SCALE_FITS, grade: E1, bound: 64, doc: "A scale meets the smaller operand, or a constant one, which is folded" },
    Rule { name: "ein-div-out",       left: "(ein@e (div ?x ?l) ?y)",      right: Term("(div (ein@e ?x ?y) ?l)"),      when: DIV_FREE,   grade: E1, bound: 64, doc: "(e/l)V = (eV)/l" },
    Rule { name: "ein-scale-across",  left: "(ein@e (mul ?x ?s) ?y)",      right: Term("(ein@e ?x (mul ?y ?s))"),      when: ACROSS,     grade: E1, bound: 64, doc: "A constant factor along a contracted axis goes into the constant operand" },
    Rule { name: "ein-add-const",     left: "(ein@e (add ?x ?b) ?w)",      right: Term("(add (ein@e ?x ?w) (ein@e ?b ?w))"), when: CONST_SUM, grade: E1, bound: 64, doc: "A constant addend becomes part of the bias after the product" },
    Rule { name: "ein-factor",        left: "(add (ein@e ?x ?w) (ein@f ?y ?w))", right: Term("(ein@e (add ?x ?y) ?w)"), when: SAME_SUM,  grade: E1, bound: 64, doc: "" },
    Rule { name: "ein-assoc",         left: "(ein@e (ein@f ?x ?y) ?z)",    right: Build("(ein ?x (ein ?y ?z))", assoc), when: CHEAPER,   grade: E1, bound: 256, doc: "Only where it takes fewer products" },
    Rule { name: "ein-siblings",      left: "(ein@e ?x ?v)",               right: Build("slices of one (ein ?x (cat ?v ?w))", siblings), when: NARROW, grade: E0, bound: 0, doc: "Two products of one value by constants of one form, each too narrow to fill the array, are one" },
    Rule { name: "zero-point",        left: "(ein@e (sub ?x ?z) ?w)",      right: Build("(sub (ein@e ?x ?w) (mul ?z (red-sum ?w)))", zero_point), when: ZERO_POINT, grade: E0, bound: 0, doc: "Integers wrap, so the correction by the weights' sums is exact" },
    Rule { name: "sum-of-products",   left: "(red-sum@r (mul ?x ?y))",     right: Build("(ein ?x ?y)", sum_of_products), when: BOTH_SUMMED, grade: E1, bound: 64, doc: "A sum of products is a contraction" },
];

const SCALE_FREE: Side = Side {
    text: "s lacks the contracted axes; the product is kept in its accumulation type",
    holds: |v| {
        let (contracted, acc) = ein(v.term("e"));
        v.disjoint(v.axes("s"), contracted)
            && kept(v, acc)
            && contracted.iter().all(|a| v.axes("x").contains(a) || v.axes("y").contains(a))
            && v.elements(v.axes("s")) < v.elements(v.axes("x"))
    },
};
const SCALE_FITS: Side = Side {
    text: "x has the axes of s; both are constant, or x is smaller than the product",
    holds: |v| {
        let (contracted, acc) = ein(v.term("e"));
        let both_const = v.facts("x").is_const && v.facts("s").is_const && !v.facts("y").is_const;
        v.axes("s").iter().all(|a| v.axes("x").contains(a))
            && v.disjoint(v.axes("s"), contracted)
            && kept(v, acc)
            && (both_const || v.elements(v.axes("x")) < v.elements(&v.egraph[v.m.class].data.axes))
    },
};
const DIV_FREE: Side = Side {
    text: "l lacks the contracted axes; x is within 0..=1 and l is a sum of it; the product is kept in its accumulation type",
    holds: |v| {
        let (contracted, acc) = ein(v.term("e"));
        let x = v.facts("x").range;
        v.disjoint(v.axes("l"), contracted)
            && contracted.iter().all(|a| v.axes("x").contains(a) || v.axes("y").contains(a))
            && kept(v, acc)
            && x.lo >= 0.0
            && x.hi <= 1.0 + 1e-5
            && is_sum_of(v.egraph, v.var("l"), v.var("x"))
    },
};
const ACROSS: Side = Side {
    text: "s and y are constants, y has the axes of s, x is no constant and has all contracted axes that y lacks",
    holds: |v| {
        let (contracted, _) = ein(v.term("e"));
        v.facts("s").is_const
            && v.facts("y").is_const
            && !v.facts("x").is_const
            && is_float(v.facts("x").dtype)
            && v.axes("s").iter().all(|a| v.axes("y").contains(a))
            && v.axes("s").iter().any(|a| contracted.contains(a))
    },
};
const CONST_SUM: Side = Side {
    text: "b and w are constants, w has the contracted axes, x is no constant and has the axes of b",
    holds: |v| {
        let (contracted, _) = ein(v.term("e"));
        v.facts("b").is_const
            && v.facts("w").is_const
            && !v.facts("x").is_const
            && is_float(v.facts("x").dtype)
            && contracted.iter().all(|a| v.axes("w").contains(a))
            && v.axes("b").iter().all(|a| v.axes("x").contains(a))
    },
};
const SAME_SUM: Side = Side {
    text: "both contract the same axes; x and y have the same axes",
    holds: |v| {
        v.term("e").kind == v.term("f").kind && v.axes("x") == v.axes("y") && is_float(v.facts("x").dtype)
    },
};
const CHEAPER: Side = Side {
    text: "fewer multiplications, and the inner product's axes lie in y",
    holds: |v| {
        let ((second, acc), (first, _)) = (ein(v.term("e")), ein(v.term("f")));
        let union = |lists: &[&[AxisId]]| -> Vec<AxisId> {
            let mut all: Vec<AxisId> = lists.concat();
            all.sort_unstable();
            all.dedup();
            all
        };
        let (x, y, z) = (v.axes("x"), v.axes("y"), v.axes("z"));
        // y·z contracts what only y and z have; x meets the rest of what was contracted.
        let inner: Vec<AxisId> = second.iter().filter(|a| !x.contains(a)).copied().collect();
        let yz: Vec<AxisId> = union(&[y, z]).into_iter().filter(|a| !inner.contains(a)).collect();
        let before = v.elements(&union(&[x, y]))
            + v.elements(&union(&[&v.egraph[v.term("e").children[0]].data.axes, z]));
        let after = v.elements(&union(&[y, z])) + v.elements(&union(&[x, &yz]));
        kept(v, acc)
            && v.disjoint(z, first)
            && !inner.is_empty()
            && inner.iter().all(|a| y.contains(a))
            && second.iter().all(|a| inner.contains(a) || x.contains(a))
            && after < before
    },
};
const NARROW: Side = Side {
    text: "v is a constant whose own axes are fewer than the array's columns, and x has another such product",
    holds: |v| sibling(v.egraph, v.m.class, v.term("e"), v.var("x"), v.var("v")).is_some(),
};

const ZERO_POINT: Side = Side {
    text: "all are 32-bit integers, w is a constant with the contracted axes, which z lacks, and x is no constant",
    holds: |v| {
        let (contracted, acc) = ein(v.term("e"));
        let (x, z, w) = (v.facts("x"), v.facts("z"), v.facts("w"));
        [acc, v.term("e").dtype, x.dtype, z.dtype, w.dtype].iter().all(|d| *d == DType::I32)
            && w.is_const
            && !x.is_const
            && contracted.iter().all(|a| w.axes.contains(a) && x.axes.contains(a))
            && v.disjoint(&z.axes, contracted)
            && v.disjoint(&z.axes, &w.axes)
    },
};
const BOTH_SUMMED: Side = Side {
    text: "x and y are f32 and have the summed axes; one has an axis that the other lacks",
    holds: |v| {
        let (x, y) = (v.facts("x"), v.facts("y"));
        let own = |a: &[AxisId], b: &[AxisId]| a.iter().any(|i| !b.contains(i));
        x.dtype == DType::F32
            && summed(v.term("r")).iter().all(|a| x.axes.contains(a) && y.axes.contains(a))
            && own(&x.axes, &y.axes) != own(&y.axes, &x.axes)
    },
};

fn summed(term: &Node) -> &[AxisId] {
    match &term.kind {
        Kind::Reduce { axes, .. } => axes,
        _ => &[],
    }
}

fn zero_point(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let e = rule.term(m, "e").clone();
    let (x, z, w) = (rule.var(m, "x"), rule.var(m, "z"), rule.var(m, "w"));
    let (contracted, _) = ein(&e);
    let product = b.term(e.kind.clone(), e.dtype, vec![x, w]);
    let sums = b.term(Kind::Reduce { kind: ReduceKind::Sum, axes: contracted.to_vec() }, e.dtype, vec![w]);
    let correction = b.map(MapKind::Mul, &[z, sums]);
    Some(vec![(m.class, b.map(MapKind::Sub, &[product, correction]))])
}

fn sum_of_products(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let r = rule.term(m, "r");
    let kind = Kind::Ein { contracted: summed(r).to_vec(), acc: DType::F32 };
    Some(vec![(m.class, b.term(kind, r.dtype, vec![rule.var(m, "x"), rule.var(m, "y")]))])
}

/// A product's contracted axes and accumulation type.
fn ein(term: &Node) -> (&[AxisId], DType) {
    match &term.kind {
        Kind::Ein { contracted, acc } => (contracted, *acc),
        _ => (&[], DType::F32),
    }
}

/// The product is stored as it was accumulated, so nothing overflows that did not before.
fn kept(v: &View, acc: DType) -> bool {
    v.term("e").dtype == acc && is_float(acc)
}

fn assoc(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (outer, inner) = (rule.term(m, "e").clone(), rule.term(m, "f").clone());
    let (x, y, z) = (rule.var(m, "x"), rule.var(m, "y"), rule.var(m, "z"));
    let (Kind::Ein { contracted: second, acc }, Kind::Ein { contracted: first, .. }) =
        (outer.kind, inner.kind)
    else {
        return None;
    };
    let (yz, rest): (Vec<AxisId>, Vec<AxisId>) = second.into_iter().partition(|a| !b.axes(x).contains(a));
    let product = b.term(Kind::Ein { contracted: yz, acc }, outer.dtype, vec![y, z]);
    let contracted = first.into_iter().chain(rest).collect();
    Some(vec![(m.class, b.term(Kind::Ein { contracted, acc }, outer.dtype, vec![x, product]))])
}

/// Columns of the array that a product should fill.
const COLUMNS: u64 = 128;

/// Another product of `x` with a constant over the same axes as `v`, that comes later.
fn sibling(
    egraph: &crate::algebra::term::EGraph,
    class: Id,
    term: &Node,
    x: Id,
    v: Id,
) -> Option<(Id, Node, Id, AxisId)> {
    let (contracted, _) = ein(term);
    let (x, v, class) = (egraph.find(x), egraph.find(v), egraph.find(class));
    let own: Vec<AxisId> = {
        let x = &egraph[x].data.axes;
        egraph[v].data.axes.iter().filter(|a| !x.contains(a) && !contracted.contains(a)).copied().collect()
    };
    let facts = &egraph[v].data;
    // Merged products are not merged again.
    let merged = egraph[v].nodes.iter().any(|t| matches!(t.kind, Kind::Concat { .. }));
    if !facts.is_const
        || merged
        || own.is_empty()
        || egraph[x].data.is_const
        || egraph.analysis.elements(&own) >= COLUMNS
    {
        return None;
    }
    let axis = own[0];
    for parent in egraph[x].parents() {
        let other = egraph.id_to_node(parent);
        let to = egraph.find(parent);
        if other.kind != term.kind || other.dtype != term.dtype || to <= class {
            continue;
        }
        let children: Vec<Id> = other.children.iter().map(|c| egraph.find(*c)).collect();
        let w = match children.as_slice() {
            [a, w] if *a == x => *w,
            [w, a] if *a == x => *w,
            _ => continue,
        };
        let same = egraph[w].data.is_const
            && egraph[w].data.axes == facts.axes
            && egraph[w].data.dtype == facts.dtype;
        if same && w != v && w != x && contracted.iter().all(|a| facts.axes.contains(a)) {
            return Some((to, other.clone(), w, axis));
        }
    }
    None
}

fn siblings(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let term = rule.term(m, "e").clone();
    let (x, v) = (rule.var(m, "x"), rule.var(m, "v"));
    let (other, _, w, axis) = sibling(b.egraph, m.class, &term, x, v)?;
    let extent = b.egraph.analysis.extent(axis);
    // The merged axis is found again when the pair was merged before.
    let to = b.merged_axis(&[v, w], axis, 2 * extent);
    let dtype = b.egraph[v].data.dtype;
    let both = b.term(Kind::Concat { from: vec![Some(axis), Some(axis)], to }, dtype, vec![v, w]);
    let product = b.term(term.kind, term.dtype, vec![x, both]);
    let part = |b: &mut Build, start| {
        b.term(Kind::Slice { from: to, to: Some(axis), start, stride: 1 }, term.dtype, vec![product])
    };
    let (first, second) = (part(b, 0), part(b, extent));
    Some(vec![(m.class, first), (other, second)])
}
