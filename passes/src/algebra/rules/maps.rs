//! Rows over elementwise maps and casts.

use kiln_ir::DType;
use kiln_ir::nn::MapKind;
use kiln_ir::types::{is_float, is_int};

use super::{ALWAYS, Equations, Right::*, Rule, Side};
use crate::algebra::Grade::*;
use crate::algebra::apply::{Build, Compiled, View};
use crate::algebra::pattern::Match;
use crate::algebra::range::Range;
use crate::axes::{AxisId, Kind};

const FLOAT: Side = Side { text: "x is a float", holds: |v| is_float(v.facts("x").dtype) };

#[rustfmt::skip] // a table
pub(super) const ROWS: &[Rule] = &[
    Rule { name: "mul-one",        left: "(mul ?x 1)",                    right: Term("?x"),                        when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "div-one",        left: "(div ?x 1)",                    right: Term("?x"),                        when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "sub-zero",       left: "(sub ?x 0)",                    right: Term("?x"),                        when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "add-zero",       left: "(add ?x 0)",                    right: Term("?x"),                        when: ALWAYS, grade: E1, bound: 0, doc: "−0 + 0 is +0: the sign of a zero may differ" },
    Rule { name: "neg-neg",        left: "(neg (neg ?x))",                right: Term("?x"),                        when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "add-neg",        left: "(add ?x (neg ?y))",             right: Term("(sub ?x ?y)"),               when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "sub-neg",        left: "(sub ?x (neg ?y))",             right: Term("(add ?x ?y)"),               when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "mul-minus-one",  left: "(mul ?x -1)",                   right: Term("(neg ?x)"),                  when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "mul-neg",        left: "(mul (neg ?x) ?y)",             right: Term("(neg (mul ?x ?y))"),         when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "mul-self",       left: "(mul ?x ?x)",                   right: Term("(square ?x)"),               when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "pow-one",        left: "(pow ?x 1)",                    right: Term("?x"),                        when: FLOAT,  grade: E1, bound: 4, doc: "" },
    Rule { name: "pow-two",        left: "(pow ?x 2)",                    right: Term("(square ?x)"),               when: FLOAT,  grade: E1, bound: 8, doc: "" },
    Rule { name: "pow-three",      left: "(pow ?x 3)",                    right: Term("(mul (square ?x) ?x)"),      when: FLOAT,  grade: E1, bound: 8, doc: "" },
    Rule { name: "pow-half",       left: "(pow ?x 0.5)",                  right: Term("(sqrt ?x)"),                 when: FLOAT,  grade: E1, bound: 8, doc: "" },
    Rule { name: "pow-minus-half", left: "(pow ?x -0.5)",                 right: Term("(rsqrt ?x)"),                when: FLOAT,  grade: E1, bound: 8, doc: "" },
    Rule { name: "one-over",       left: "(div 1 ?x)",                    right: Term("(reciprocal ?x)"),           when: FLOAT,  grade: E1, bound: 4, doc: "" },
    Rule { name: "recip-sqrt",     left: "(reciprocal (sqrt ?x))",        right: Term("(rsqrt ?x)"),                when: ALWAYS, grade: E1, bound: 8, doc: "" },
    Rule { name: "div-sqrt",       left: "(div ?x (sqrt ?y))",            right: Term("(mul ?x (rsqrt ?y))"),       when: ALWAYS, grade: E1, bound: 8, doc: "" },
    Rule { name: "div-by-number",  left: "(div ?x ?c)",                   right: Build("(mul ?x 1/c)", div_by_number), when: NONZERO, grade: E1, bound: 2, doc: "" },
    Rule { name: "div-by-row",     left: "(div ?x ?l)",                   right: Term("(mul ?x (reciprocal ?l))"),  when: SMALLER, grade: E1, bound: 4, doc: "One division a row in place of one an element" },
    Rule { name: "mul-recip",      left: "(mul ?x (reciprocal ?l))",      right: Term("(div ?x ?l)"),               when: SAME,   grade: E1, bound: 4, doc: "" },
    Rule { name: "mul-consts",     left: "(mul (mul ?x ?a) ?b)",          right: Term("(mul ?x (mul ?a ?b))"),      when: CONSTS, grade: E1, bound: 8, doc: "" },
    Rule { name: "add-consts",     left: "(add (add ?x ?a) ?b)",          right: Term("(add ?x (add ?a ?b))"),      when: CONSTS, grade: E1, bound: 8, doc: "" },
    Rule { name: "scale-bias",     left: "(mul (add ?x ?a) ?b)",          right: Term("(add (mul ?x ?b) (mul ?a ?b))"), when: CONSTS, grade: E1, bound: 16, doc: "" },
    Rule { name: "mul-inward",     left: "(mul (mul ?x ?a) ?b)",          right: Term("(mul (mul ?x ?b) ?a)"),      when: INWARD, grade: E1, bound: 8, doc: "The factor with fewer elements first: it may meet its like, or leave a product" },
    Rule { name: "mul-rows",       left: "(mul (mul ?x ?a) ?b)",          right: Term("(mul ?x (mul ?a ?b))"),      when: ROWS_TOGETHER, grade: E1, bound: 8, doc: "Two small factors meet before they meet the large one" },
    Rule { name: "max-zero",       left: "(max ?x 0)",                    right: Term("(relu ?x)"),                 when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "clamp-low",      left: "(max ?x ?c)",                   right: Term("?x"),                        when: ABOVE,  grade: E0, bound: 0, doc: "" },
    Rule { name: "clamp-high",     left: "(min ?x ?c)",                   right: Term("?x"),                        when: BELOW,  grade: E0, bound: 0, doc: "" },
    Rule { name: "compare",        left: "(map2@f ?x ?y)",                right: Build("what the ranges say", decided), when: DECIDED, grade: E0, bound: 0, doc: "A comparison whose outcome the operands' ranges decide" },
    Rule { name: "is-nan",         left: "(is_nan@f ?x)",                 right: Build("0", decided),               when: NO_NAN, grade: E0, bound: 0, doc: "" },
    Rule { name: "is-inf",         left: "(is_inf@f ?x)",                 right: Build("0", decided),               when: FINITE, grade: E0, bound: 0, doc: "" },
    Rule { name: "select-known",   left: "(select ?m ?x ?y)",             right: Build("?x or ?y", select_known),   when: KNOWN,  grade: E0, bound: 0, doc: "" },
    Rule { name: "select-same",    left: "(select ?m ?x ?x)",             right: Term("?x"),                        when: COVERS, grade: E0, bound: 0, doc: "" },
    Rule { name: "select-not",     left: "(select (not ?m) ?x ?y)",       right: Term("(select ?m ?y ?x)"),         when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "not-not",        left: "(not (not ?x))",                right: Term("?x"),                        when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "and-true",       left: "(and ?x ?m)",                   right: Term("?x"),                        when: TRUE,   grade: E0, bound: 0, doc: "" },
    Rule { name: "or-false",       left: "(or ?x ?m)",                    right: Term("?x"),                        when: FALSE,  grade: E0, bound: 0, doc: "" },
    Rule { name: "cast-same",      left: "(cast@c ?x)",                   right: Term("?x"),                        when: CAST_SAME, grade: E0, bound: 0, doc: "" },
    Rule { name: "cast-back",      left: "(cast@c (cast@d ?x))",          right: Term("?x"),                        when: CAST_BACK, grade: E0, bound: 0, doc: "" },
    Rule { name: "cast-cast",      left: "(cast@c (cast@d ?x))",          right: Term("(cast@c ?x)"),               when: CAST_WIDE, grade: E0, bound: 0, doc: "" },
    Rule { name: "ne-zero",        left: "(ne (cast ?x) 0)",              right: Term("?x"),                        when: BOOL,   grade: E0, bound: 0, doc: "" },
    Rule { name: "eq-zero",        left: "(eq (cast ?x) 0)",              right: Term("(not ?x)"),                  when: BOOL,   grade: E0, bound: 0, doc: "" },
    Rule { name: "gt-zero",        left: "(gt (cast ?x) 0)",              right: Term("?x"),                        when: BOOL,   grade: E0, bound: 0, doc: "" },
    Rule { name: "one-minus",      left: "(sub 1 (cast@c ?x))",           right: Term("(cast@c (not ?x))"),         when: BOOL,   grade: E0, bound: 0, doc: "" },
    Rule { name: "bool-cast-back", left: "(cast@c (cast ?x))",            right: Term("?x"),                        when: BOOL_BACK, grade: E0, bound: 0, doc: "" },
];

const NONZERO: Side = Side {
    text: "c is a number whose reciprocal is finite, x a float",
    holds: |v| {
        is_float(v.facts("x").dtype)
            && v.facts("c").number.is_some_and(|n| n != 1.0 && n.abs() > 1e-30 && n.abs() < 1e30)
    },
};
const SMALLER: Side = Side {
    text: "l has fewer elements than the result, and is no number",
    holds: |v| {
        is_float(v.facts("x").dtype)
            && v.facts("l").number.is_none()
            && v.elements(v.axes("l")) < v.elements(&v.egraph[v.m.class].data.axes)
    },
};
const SAME: Side = Side {
    text: "l has as many elements as the result",
    holds: |v| v.facts("l").axes == v.egraph[v.m.class].data.axes,
};
const CONSTS: Side = Side {
    text: "a and b are constants, x is not",
    holds: |v| {
        is_float(v.facts("x").dtype)
            && v.facts("a").is_const
            && v.facts("b").is_const
            && !v.facts("x").is_const
    },
};
const INWARD: Side = Side {
    text: "b has fewer elements than a, and a is no maker of its axes",
    holds: |v| {
        is_float(v.facts("x").dtype)
            && v.elements(v.axes("b")) < v.elements(v.axes("a"))
            && v.elements(v.axes("a")) < v.elements(v.axes("x"))
    },
};
const ROWS_TOGETHER: Side = Side {
    text: "a and b together have fewer elements than x",
    holds: |v| {
        let mut both: Vec<AxisId> = v.axes("a").iter().chain(v.axes("b")).copied().collect();
        both.sort_unstable();
        both.dedup();
        is_float(v.facts("x").dtype) && v.elements(&both) < v.elements(v.axes("x"))
    },
};
const ABOVE: Side = Side {
    text: "x ≥ c always",
    holds: |v| v.facts("x").range.lo >= v.facts("c").range.hi && no_nan(v) && covers(v, "x"),
};
const BELOW: Side = Side {
    text: "x ≤ c always",
    holds: |v| v.facts("x").range.hi <= v.facts("c").range.lo && no_nan(v) && covers(v, "x"),
};
const DECIDED: Side = Side {
    text: "the ranges of x and y decide the comparison",
    holds: |v| matches!(v.term("f").kind, Kind::Map(k) if k.is_compare()) && is_point(v),
};
const NO_NAN: Side = Side { text: "x is never NaN", holds: |v| !v.facts("x").range.nan };
const FINITE: Side = Side { text: "x is finite", holds: is_point };
const KNOWN: Side = Side {
    text: "m is always true or always false",
    holds: |v| {
        let m = v.facts("m").range;
        m.lo == m.hi && covers(v, if m.lo == 1.0 { "x" } else { "y" })
    },
};
const COVERS: Side = Side { text: "x has all axes of the result", holds: |v| covers(v, "x") };
const TRUE: Side = Side {
    text: "m is always true",
    holds: |v| v.facts("m").range == Range::point(1.0) && v.facts("x").dtype == DType::Bool && covers(v, "x"),
};
const FALSE: Side = Side {
    text: "m is always false",
    holds: |v| v.facts("m").range == Range::point(0.0) && v.facts("x").dtype == DType::Bool && covers(v, "x"),
};
const CAST_SAME: Side =
    Side { text: "x has the dtype already", holds: |v| v.facts("x").dtype == v.term("c").dtype };
const CAST_BACK: Side = Side {
    text: "d holds every value of x, and c is x's dtype",
    holds: |v| v.facts("x").dtype == v.term("c").dtype && holds_all(v.term("d").dtype, v.facts("x").dtype),
};
const CAST_WIDE: Side = Side {
    text: "d holds every value of x",
    holds: |v| {
        let (x, d, c) = (v.facts("x").dtype, v.term("d").dtype, v.term("c").dtype);
        holds_all(d, x) && c != x && c != DType::Bool
    },
};
const BOOL: Side = Side { text: "x is a truth value", holds: |v| v.facts("x").dtype == DType::Bool };
const BOOL_BACK: Side = Side {
    text: "x and the result are truth values",
    holds: |v| v.facts("x").dtype == DType::Bool && v.term("c").dtype == DType::Bool,
};

fn no_nan(v: &View) -> bool {
    !v.facts("x").range.nan && !v.facts("c").range.nan
}

/// Whether the variable has every axis of the result.
fn covers(v: &View, name: &str) -> bool {
    v.facts(name).axes == v.egraph[v.m.class].data.axes
}

fn is_point(v: &View) -> bool {
    let range = v.egraph[v.m.class].data.range;
    !range.nan && range.lo == range.hi
}

/// Whether every value of `from` is one of `to`, exactly.
fn holds_all(to: DType, from: DType) -> bool {
    use DType::*;
    let bits = |d: DType| d.size_bytes() * 8;
    match (from, to) {
        _ if from == to => true,
        (Bool, _) => true,
        (_, Bool) => false,
        (F16 | BF16 | F8E4M3 | F8E5M2, F32 | F64) | (F32, F64) => true,
        _ if is_float(from) => false,
        (I8 | U8 | I16 | U16, F32 | F64) | (I32 | U32, F64) => true,
        _ if is_int(to) => {
            let signed = |d: DType| matches!(d, I8 | I16 | I32 | I64);
            match (signed(from), signed(to)) {
                (true, false) => false,
                (false, true) => bits(to) > bits(from),
                _ => bits(to) >= bits(from),
            }
        }
        _ => false,
    }
}

fn div_by_number(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (x, c) = (rule.var(m, "x"), rule.var(m, "c"));
    let n = b.egraph[c].data.number?;
    let dtype = b.egraph[x].data.dtype;
    let inverse = b.number(1.0 / n, dtype)?;
    Some(vec![(m.class, b.map(MapKind::Mul, &[x, inverse]))])
}

/// The class's range is a single value: a constant, repeated along the class's axes.
fn decided(b: &mut Build, _rule: &Compiled, m: &Match) -> Option<Equations> {
    let facts = b.egraph[m.class].data.clone();
    let mut value = b.number(facts.range.lo, facts.dtype)?;
    if !facts.axes.is_empty() {
        value = b.term(Kind::Broadcast { axes: facts.axes }, facts.dtype, vec![value]);
    }
    Some(vec![(m.class, value)])
}

fn select_known(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let known = b.egraph[rule.var(m, "m")].data.range.lo;
    Some(vec![(m.class, rule.var(m, if known == 1.0 { "x" } else { "y" }))])
}
