//! Rows over elementwise maps and casts.

use kiln_ir::DType;
use kiln_ir::nn::MapKind;
use kiln_ir::types::is_float;

use super::{ALWAYS, Equations, Right::*, Rule, Side};
use crate::algebra::Grade::*;
use crate::algebra::apply::{Build, Compiled};
use crate::algebra::pattern::Match;
use crate::axes::{AxisId, Kind};

const FLOAT: Side = Side { text: "x is a float", holds: |v| is_float(v.facts("x").dtype) };

#[rustfmt::skip] // a table
pub(super) const ROWS: &[Rule] = &[
    Rule { name: "mul-one",        left: "(mul ?x 1)",                    right: Term("?x"),                        when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "add-zero",       left: "(add ?x 0)",                    right: Term("?x"),                        when: ALWAYS, grade: E1, bound: 0, doc: "−0 + 0 is +0: the sign of a zero may differ" },
    Rule { name: "mul-self",       left: "(mul ?x ?x)",                   right: Term("(square ?x)"),               when: ALWAYS, grade: E0, bound: 0, doc: "" },
    Rule { name: "pow-three",      left: "(pow ?x 3)",                    right: Term("(mul (square ?x) ?x)"),      when: FLOAT,  grade: E1, bound: 8, doc: "" },
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
    Rule { name: "cast-same",      left: "(cast@c ?x)",                   right: Term("?x"),                        when: CAST_SAME, grade: E0, bound: 0, doc: "" },
    Rule { name: "cast-cast",      left: "(cast@a (cast@b ?x))",          right: Build("(cast ?x)", cast_cast),     when: HOLDS,  grade: E0, bound: 0, doc: "" },
    Rule { name: "div-by-power",   left: "(div ?x ?c)",                   right: Build("(mul ?x 1/c)", div_by_number), when: POWER, grade: E0, bound: 0, doc: "Scaling by a power of two rounds as division by its inverse does" },
    Rule { name: "sub-number",     left: "(sub ?x ?c)",                   right: Build("(add ?x −c)", sub_number),  when: NUMBER, grade: E0, bound: 0, doc: "So that rows on sums see differences" },
    Rule { name: "map1-bc",        left: "(map1@f (bc@b ?x))",            right: Term("(bc@b (map1@f ?x))"),        when: ALWAYS, grade: E0, bound: 0, doc: "Computed before it is repeated" },
    Rule { name: "cast-bc",        left: "(cast@c (bc@b ?x))",            right: Term("(bc@b (cast@c ?x))"),        when: ALWAYS, grade: E0, bound: 0, doc: "" },
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
const CAST_SAME: Side =
    Side { text: "x has the dtype already", holds: |v| v.facts("x").dtype == v.term("c").dtype };

const HOLDS: Side = Side {
    text: "the middle type holds every value of x's, and two integer types have no float between them",
    holds: |v| {
        let (x, b, a) = (v.facts("x").dtype, v.term("b").dtype, v.term("a").dtype);
        holds(b, x) && (is_float(x) || !is_float(b) || is_float(a) || x == DType::Bool)
    },
};
const POWER: Side = Side {
    text: "c is a power of two within 2^±14 and not 1, x a float",
    holds: |v| {
        let is_power = |n: f64| n != 1.0 && n.abs().log2().fract() == 0.0 && n.abs().log2().abs() <= 14.0;
        is_float(v.facts("x").dtype) && v.facts("c").number.is_some_and(is_power)
    },
};
const NUMBER: Side = Side {
    text: "c is a number, x a float and no number",
    holds: |v| {
        let (x, c) = (v.facts("x"), v.facts("c"));
        is_float(x.dtype) && x.number.is_none() && c.number.is_some_and(f64::is_finite)
    },
};

/// Whether every value of `narrow` is one of `wide`.
fn holds(wide: DType, narrow: DType) -> bool {
    use DType::*;
    wide == narrow
        || match narrow {
            Bool => wide != Bool,
            F16 | BF16 | F8E4M3 | F8E5M2 => matches!(wide, F32 | F64),
            F32 => wide == F64,
            I8 => matches!(wide, I16 | I32 | I64 | F16 | BF16 | F32 | F64),
            U8 => matches!(wide, I16 | U16 | I32 | U32 | I64 | U64 | F16 | BF16 | F32 | F64),
            I16 => matches!(wide, I32 | I64 | F32 | F64),
            U16 => matches!(wide, I32 | U32 | I64 | U64 | F32 | F64),
            I32 => matches!(wide, I64 | F64),
            U32 => matches!(wide, I64 | U64 | F64),
            _ => false,
        }
}

fn cast_cast(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (x, dtype) = (rule.var(m, "x"), rule.term(m, "a").dtype);
    let same = b.egraph[x].data.dtype == dtype;
    Some(vec![(m.class, if same { x } else { b.term(Kind::Cast, dtype, vec![x]) })])
}

fn sub_number(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (x, c) = (rule.var(m, "x"), rule.var(m, "c"));
    let negative = -b.egraph[c].data.number?;
    let dtype = b.egraph[x].data.dtype;
    let c = b.number(negative, dtype)?;
    Some(vec![(m.class, b.map(MapKind::Add, &[x, c]))])
}

fn div_by_number(b: &mut Build, rule: &Compiled, m: &Match) -> Option<Equations> {
    let (x, c) = (rule.var(m, "x"), rule.var(m, "c"));
    let n = b.egraph[c].data.number?;
    let dtype = b.egraph[x].data.dtype;
    let inverse = b.number(1.0 / n, dtype)?;
    Some(vec![(m.class, b.map(MapKind::Mul, &[x, inverse]))])
}
