//! Rows over views: slices, concatenations, gathers, repetitions, renamings, and reductions of them.

use egg::Id;
use kiln_ir::DType;
use kiln_ir::types::is_float;

use super::{ALWAYS, Equations, Right::*, Rule, Side};
use crate::algebra::Grade::*;
use crate::algebra::apply::{Build, Compiled, View};
use crate::algebra::pattern::Match;
use crate::algebra::term::Term as Node;
use crate::axes::{AxisId, Kind};

#[rustfmt::skip] // a table
pub(super) const ROWS: &[Rule] = &[
    Rule { name: "slice-of-slice",  left: "(slice@s (slice@t ?x))",      right: Build("one slice", slice_of_slice),              when: SAME_AXIS, grade: E0, bound: 0, doc: "" },
    Rule { name: "slice-of-cat",    left: "(slice@s ?x)",                right: Build("a slice of one part", slice_of_cat),      when: OF_CAT, grade: E0, bound: 0, doc: "" },
    Rule { name: "slice-map1",      left: "(slice@s (map1@f ?x))",       right: Term("(map1@f (slice@s ?x))"),                   when: SLICED_X, grade: E0, bound: 0, doc: "Only what is kept is computed" },
    Rule { name: "slice-map2",      left: "(slice@s (map2@f ?x ?y))",    right: Build("f of the slices", slice_map),             when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "slice-ein",       left: "(slice@s (ein@e ?x ?y))",     right: Build("ein of the slices", slice_ein),           when: ALWAYS, grade: E0, bound: 0, doc: "A product of which a part is read is a product of parts" },
    Rule { name: "slice-red-sum",   left: "(slice@s (red-sum@r ?x))",    right: Term("(red-sum@r (slice@s ?x))"),                when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "cat-of-slices",   left: "(cat@c (slice@s ?x) (slice@t ?x))", right: Build("?x renamed", cat_of_slices),        when: ADJACENT, grade: E0, bound: 0, doc: "" },
    Rule { name: "map-bc",          left: "(map2@f ?x ?y)",              right: Build("the map without it", map_bc),             when: HAS_BC, grade: E0, bound: 0, doc: "A map repeats its operands itself" },
    Rule { name: "max-scale",       left: "(red-max@r (mul ?x ?s))",     right: Term("(mul (red-max@r ?x) ?s)"),                 when: MAX_FREE, grade: E0, bound: 0, doc: "Rounding is monotone: the maximum's product is the product's maximum" },
    Rule { name: "max-shift",       left: "(red-max@r (add ?x ?s))",     right: Term("(add (red-max@r ?x) ?s)"),                 when: SHIFT_FREE, grade: E0, bound: 0, doc: "As max-scale, for a shift" },
    Rule { name: "red-scale-out",   left: "(red-sum@r (mul ?x ?s))",     right: Term("(mul (red-sum@r ?x) ?s)"),                 when: SUM_FREE, grade: E1, bound: 64, doc: "A factor that the sum does not run over" },
    Rule { name: "slice-map3",      left: "(slice@s (map3@f ?x ?y ?z))", right: Build("f of the slices", slice_map),             when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "slice-cast",      left: "(slice@s (cast@c ?x))",       right: Term("(cast@c (slice@s ?x))"),                   when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "slice-red-max",   left: "(slice@s (red-max@r ?x))",    right: Term("(red-max@r (slice@s ?x))"),                when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "gather-map1",     left: "(gather@g (map1@f ?x) ?i)",   right: Term("(map1@f (gather@g ?x ?i))"),               when: FEWER, grade: E0, bound: 0, doc: "Only the rows taken are computed" },
    Rule { name: "gather-cast",     left: "(gather@g (cast@c ?x) ?i)",   right: Term("(cast@c (gather@g ?x ?i))"),               when: FEWER, grade: E0, bound: 0, doc: "" },
    Rule { name: "gather-map2",     left: "(gather@g (map2@f ?x ?y) ?i)", right: Build("f of the rows", gather_map),             when: FEWER, grade: E0, bound: 0, doc: "" },
    Rule { name: "rename-rename",   left: "(rename@a (rename@b ?x))",    right: Build("one renaming", rename_rename),            when: ALWAYS, grade: E0, bound: 0, doc: "" },
];

const SAME_AXIS: Side = Side {
    text: "both along one axis",
    holds: |v| match (&v.term("s").kind, &v.term("t").kind) {
        (Kind::Slice { from, .. }, Kind::Slice { to, .. }) => *to == Some(*from),
        _ => false,
    },
};
const OF_CAT: Side = Side {
    text: "x is a concatenation along the sliced axis, and one part has all elements",
    holds: |v| part_of_cat(v.egraph, v.term("s")).is_some(),
};
const SLICED_X: Side =
    Side { text: "x has the sliced axis", holds: |v| sliced(v).is_some_and(|a| v.axes("x").contains(&a)) };
const ADJACENT: Side = Side {
    text: "the slices follow one another and are all of x",
    holds: |v| match (&v.term("c").kind, &v.term("s").kind, &v.term("t").kind) {
        (
            Kind::Concat { from, .. },
            Kind::Slice { from: a, to: a_to, start: 0, stride: 1 },
            Kind::Slice { from: b, to: b_to, start, stride: 1 },
        ) => {
            let extent = |to: Option<AxisId>| to.map_or(1, |t| v.egraph.analysis.extent(t));
            a == b
                && from.as_slice() == [*a_to, *b_to]
                && *start == extent(*a_to)
                && extent(*a_to) + extent(*b_to) == v.egraph.analysis.extent(*a)
        }
        _ => false,
    },
};
const HAS_BC: Side = Side {
    text: "an operand is repeated",
    holds: |v| v.term("f").children.iter().any(|c| repeated(v.egraph, *c).is_some()),
};
const MAX_FREE: Side = Side {
    text: "s is a positive number, x a float",
    holds: |v| {
        let s = v.facts("s");
        is_float(v.facts("x").dtype) && s.number.is_some_and(|n| n > 0.0) && free_scale(v)
    },
};

const SHIFT_FREE: Side = Side {
    text: "s is finite and lacks the reduced axes, which x has; x is a float",
    holds: |v| is_float(v.facts("x").dtype) && v.facts("s").range.is_finite() && free_scale(v),
};
const SUM_FREE: Side = Side {
    text: "s lacks the reduced axes, which x has; x is a float that is kept as it was summed",
    holds: |v| v.facts("x").dtype == DType::F32 && free_scale(v),
};
const FEWER: Side = Side {
    text: "fewer elements are taken than there are",
    holds: |v| {
        let map = &v.egraph[v.term("g").children[0]].data;
        v.elements(&v.egraph[v.m.class].data.axes) < v.elements(&map.axes)
    },
};

fn free_scale(v: &View) -> bool {
    match &v.term("r").kind {
        Kind::Reduce { axes, .. } => {
            v.disjoint(v.axes("s"), axes) && axes.iter().all(|a| v.axes("x").contains(a))
        }
        _ => false,
    }
}

fn sliced(v: &View) -> Option<AxisId> {
    match v.term("s").kind {
        Kind::Slice { from, .. } => Some(from),
        _ => None,
    }
}

fn slice_of_slice(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (outer, inner) = (rule.term(m, "s"), rule.term(m, "t"));
    let Kind::Slice { to, start, stride, .. } = outer.kind else { return None };
    let Kind::Slice { from, start: first, stride: step, .. } = inner.kind else { return None };
    let kind = Kind::Slice { from, to, start: first + start * step, stride: stride * step };
    Some(vec![(m.class, b.term(kind, outer.dtype, vec![rule.var(m, "x")]))])
}

/// The concatenation under a slice with the one operand that has all of it, and that one's offset.
fn part_of_cat(egraph: &crate::algebra::term::EGraph, slice: &Node) -> Option<(Node, usize, u64)> {
    let Kind::Slice { from, to, start, stride } = slice.kind else { return None };
    let last = start + (to.map_or(1, |t| egraph.analysis.extent(t)).max(1) - 1) * stride;
    egraph[slice.children[0]].nodes.iter().find_map(|t| {
        let Kind::Concat { from: parts, to } = &t.kind else { return None };
        if *to != from {
            return None;
        }
        let mut offset = 0;
        for (i, part) in parts.iter().enumerate() {
            let extent = part.map_or(1, |p| egraph.analysis.extent(p));
            if start >= offset && last < offset + extent {
                return Some((t.clone(), i, offset));
            }
            offset += extent;
        }
        None
    })
}

fn slice_of_cat(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let slice = rule.term(m, "s");
    let Kind::Slice { to, start, stride, .. } = slice.kind else { return None };
    let (cat, i, offset) = part_of_cat(b.egraph, slice)?;
    let Kind::Concat { from: parts, .. } = &cat.kind else { return None };
    let x = cat.children[i];
    let new = match parts[i] {
        None => x,
        Some(part) if b.egraph.analysis.extent(part) == to.map_or(1, |t| b.egraph.analysis.extent(t)) => {
            let to = to?;
            rename_to(b, x, part, to)
        }
        Some(from) if b.axes(x).contains(&from) => {
            b.term(Kind::Slice { from, to, start: start - offset, stride }, slice.dtype, vec![x])
        }
        Some(_) => x,
    };
    repeat_to(b, m.class, new)
}

fn rename_to(b: &mut Build, x: Id, old: AxisId, new: AxisId) -> Id {
    if old == new || !b.axes(x).contains(&old) {
        return x;
    }
    let dtype = b.egraph[x].data.dtype;
    b.term(Kind::Rename { pairs: vec![(old, new)] }, dtype, vec![x])
}

/// Equates the class with `x`, repeated along the axes it lacks.
fn repeat_to(b: &mut Build, class: Id, x: Id) -> Option<Equations> {
    let missing: Vec<AxisId> = b.axes(class).iter().filter(|a| !b.axes(x).contains(a)).copied().collect();
    if missing.is_empty() {
        return Some(vec![(class, x)]);
    }
    let dtype = b.egraph[x].data.dtype;
    Some(vec![(class, b.term(Kind::Broadcast { axes: missing }, dtype, vec![x]))])
}

/// The operand sliced, if it has the axis.
fn slice_operand(b: &mut Build, slice: &Node, x: Id) -> Id {
    match slice.kind {
        Kind::Slice { from, .. } if b.axes(x).contains(&from) => {
            let dtype = b.egraph[x].data.dtype;
            b.term(slice.kind.clone(), dtype, vec![x])
        }
        _ => x,
    }
}

fn slice_map(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (slice, map) = (rule.term(m, "s").clone(), rule.term(m, "f").clone());
    let operands = map.children.iter().map(|&x| slice_operand(b, &slice, x)).collect();
    Some(vec![(m.class, b.term(map.kind, map.dtype, operands))])
}

fn gather_map(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (gather, map) = (rule.term(m, "g").clone(), rule.term(m, "f").clone());
    let Kind::Gather { axis } = gather.kind else { return None };
    let indices = rule.var(m, "i");
    let operands = map.children.iter().map(|&x| {
        if !b.axes(x).contains(&axis) {
            return x;
        }
        let dtype = b.egraph[x].data.dtype;
        b.term(gather.kind.clone(), dtype, vec![x, indices])
    });
    let operands = operands.collect();
    Some(vec![(m.class, b.term(map.kind, map.dtype, operands))])
}

fn rename_rename(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (outer, inner) = (rule.term(m, "a"), rule.term(m, "b"));
    let (Kind::Rename { pairs: last }, Kind::Rename { pairs: first }) = (&outer.kind, &inner.kind) else {
        return None;
    };
    let x = rule.var(m, "x");
    let renamed = |pairs: &[(AxisId, AxisId)], axis| {
        pairs.iter().find(|(old, _)| *old == axis).map_or(axis, |(_, new)| *new)
    };
    let pairs: Vec<(AxisId, AxisId)> = b
        .axes(x)
        .iter()
        .map(|&a| (a, renamed(last, renamed(first, a))))
        .filter(|(old, new)| old != new)
        .collect();
    if pairs.is_empty() {
        return Some(vec![(m.class, x)]);
    }
    Some(vec![(m.class, b.term(Kind::Rename { pairs }, outer.dtype, vec![x]))])
}

fn slice_ein(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    slice_map_like(b, m, rule.term(m, "s").clone(), rule.term(m, "e").clone())
}

/// Operands of a term, sliced; the sliced axis is one of the result's, so it is not contracted.
fn slice_map_like(b: &mut Build, m: &Match, slice: Node, term: Node) -> Option<Equations> {
    let Kind::Slice { to: Some(to), .. } = slice.kind else {
        // A single element leaves nothing of the axis: the product keeps its other axes.
        let operands = term.children.iter().map(|&x| slice_operand(b, &slice, x)).collect();
        return Some(vec![(m.class, b.term(term.kind, term.dtype, operands))]);
    };
    if term.children.iter().any(|&x| b.axes(x).contains(&to)) {
        return None;
    }
    let operands = term.children.iter().map(|&x| slice_operand(b, &slice, x)).collect();
    Some(vec![(m.class, b.term(term.kind, term.dtype, operands))])
}

fn cat_of_slices(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let Kind::Concat { to, .. } = rule.term(m, "c").kind else { return None };
    let Kind::Slice { from, .. } = rule.term(m, "s").kind else { return None };
    let new = rename_to(b, rule.var(m, "x"), from, to);
    Some(vec![(m.class, new)])
}

/// The operand of a repetition in the class, if there is one.
fn repeated(egraph: &crate::algebra::term::EGraph, class: Id) -> Option<Id> {
    egraph[class].nodes.iter().find(|t| matches!(t.kind, Kind::Broadcast { .. })).map(|t| t.children[0])
}

fn map_bc(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let map = rule.term(m, "f").clone();
    let operands: Vec<Id> =
        map.children.iter().map(|&c| repeated(b.egraph, c).unwrap_or(b.egraph.find(c))).collect();
    if operands.iter().zip(&map.children).all(|(a, c)| *a == b.egraph.find(*c)) {
        return None;
    }
    let new = b.term(map.kind, map.dtype, operands);
    repeat_to(b, m.class, new)
}
