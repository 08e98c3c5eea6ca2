//! What becomes one instruction, and what must not.

use kiln_ir::tile::{BufId, BufType, Group, IvId, Op, Source, Space, Stmt, View};

use super::*;

/// Buffers of 64 × 32 but for the last two, of 64 × 1.
const X: u32 = 0;
const T: u32 = 1;
const U: u32 = 2;
const Y: u32 = 3;
const SUM: u32 = 4;
const ROW: u32 = 5;

fn view(buf: u32) -> View {
    let shape = vec![64, if buf >= SUM { 1 } else { 32 }];
    View { buf: BufId(buf), offsets: vec![0; 2], shape, ivs: Vec::new() }
}

fn op(op: Op) -> Stmt {
    Stmt::Op { origin: Origin::node(op.name(), "Test"), op }
}

fn map(kind: MapKind, dst: u32, srcs: &[Source]) -> Stmt {
    op(Op::Map { kind, dst: view(dst), srcs: srcs.to_vec() })
}

fn of(buf: u32) -> Source {
    Source::View(view(buf))
}

fn sum(dst: u32, src: u32, accumulate: bool) -> Stmt {
    op(Op::Reduce { kind: ReduceKind::Sum, dst: view(dst), src: view(src), accumulate })
}

fn fill(dst: u32) -> Stmt {
    op(Op::Fill { dst: view(dst), value: 1.0 })
}

/// A group that makes X and ROW, does this and reads Y.
fn group(body: Vec<Stmt>) -> Group {
    let buf = |n: u32| BufType { dtype: DType::F32, shape: view(n).shape, space: Space::Spm, part: 0 };
    let alloc = |buf: u32| Stmt::Alloc { buf: BufId(buf), depth: 1 };
    let last = op(Op::Cast { dst: view(X), src: view(Y) });
    let body = (X..=ROW).map(alloc).chain([fill(X), fill(ROW)]).chain(body).chain([last]).collect();
    Group { name: "g".into(), bufs: (X..=ROW).map(buf).collect(), body }
}

/// The statements behind those that make X and ROW, a word each, and which buffers are left.
fn told(group: &Group) -> (String, Vec<u32>) {
    let nodes = nodes(group, 128, true);
    let mut words = Vec::new();
    let mut bufs = Vec::new();
    for node in &nodes {
        match node {
            Node::Alloc { buf, .. } => bufs.push(buf.0),
            Node::For { body, .. } => words.push(format!("for{}", body.len())),
            Node::Op(op, _) => words.push(op.name().trim_start_matches("tile.").to_owned()),
            Node::Act(act, origin) => {
                let scale = match act.form.scale {
                    Scale::Number(scale) => format!("{scale}"),
                    Scale::View(view) => format!("b{}", view.buf.0),
                };
                let bias = act.form.bias.map_or(String::new(), |bias| format!("+b{}", bias.buf.0));
                let sum = act.sum.map_or(String::new(), |(sum, on)| {
                    format!(",sum{}b{}", if on { "+" } else { "=" }, sum.buf.0)
                });
                words.push(format!("{}({scale}*b{}{bias}){sum}", act.func.name(), act.form.src.buf.0));
                assert!(!origin.is_empty());
            }
        }
    }
    (words[2..words.len() - 1].join(" "), bufs)
}

fn words(body: Vec<Stmt>) -> String {
    told(&group(body)).0
}

#[test]
fn a_function_takes_in_what_makes_its_source() {
    let number = Source::Number(0.5);
    let scaled = group(vec![map(MapKind::Mul, T, &[of(X), number.clone()]), map(MapKind::Erf, Y, &[of(T)])]);
    assert_eq!(told(&scaled), ("erf(0.5*b0)".into(), vec![X, U, Y, SUM, ROW]));
    let shifted = vec![map(MapKind::Sub, T, &[of(X), of(ROW)]), map(MapKind::Exp, Y, &[of(T)])];
    assert_eq!(words(shifted), "exp(-1*b5+b0)");
    let by_rows = vec![map(MapKind::Mul, T, &[of(X), of(ROW)]), map(MapKind::Exp, Y, &[of(T)])];
    assert_eq!(words(by_rows), "exp(b5*b0)");
    // A product, a sum and a function.
    let all = |first: &[Source]| {
        vec![
            map(MapKind::Mul, T, first),
            map(MapKind::Add, U, &[of(ROW), of(T)]),
            map(MapKind::Tanh, Y, &[of(U)]),
        ]
    };
    assert_eq!(words(all(&[number.clone(), of(X)])), "tanh(0.5*b0+b5)");
    assert_eq!(words(all(&[of(X), of(X)])), "tanh(b0*b0+b5)");
    let both = vec![
        map(MapKind::Mul, T, &[of(X), number]),
        map(MapKind::Sub, U, &[of(ROW), of(T)]),
        map(MapKind::Sigmoid, Y, &[of(U)]),
    ];
    assert_eq!(words(both), "sigmoid(-0.5*b0+b5)");
}

#[test]
fn what_has_to_stay_apart() {
    let scaled = || map(MapKind::Mul, T, &[of(X), Source::Number(0.5)]);
    let erf = || map(MapKind::Erf, Y, &[of(T)]);
    assert_eq!(words(vec![scaled(), erf(), map(MapKind::Add, U, &[of(T), of(Y)])]), "map map map");
    assert_eq!(words(vec![scaled(), fill(X), erf()]), "map fill map");
    let refill = Stmt::For { iv: IvId(0), trip: 2, body: vec![fill(X)] };
    assert_eq!(words(vec![scaled(), refill, erf()]), "map for1 map");
    // The function's operation is in a loop, what makes its source is not.
    assert_eq!(words(vec![scaled(), Stmt::For { iv: IvId(0), trip: 2, body: vec![erf()] }]), "map for1");
    // A narrower type in between rounds.
    let mut narrow = group(vec![scaled(), erf()]);
    narrow.bufs[T as usize].dtype = DType::BF16;
    assert_eq!(told(&narrow).0, "map map");
    let mut turned = group(vec![scaled(), erf()]);
    turned.bufs[X as usize].part = 1;
    assert_eq!(told(&turned).0, "map map");
    // There may be no room for it.
    let plain = group(vec![scaled(), erf()]);
    assert!(nodes(&plain, 128, false).iter().all(|node| !matches!(node, Node::Act(..))));
    // VEC may be the better one for both.
    assert_eq!(words(vec![scaled(), map(MapKind::Relu, Y, &[of(T)])]), "map map");
    assert_eq!(words(vec![map(MapKind::Div, T, &[of(X), of(ROW)]), erf()]), "map map");
}

#[test]
fn a_function_sums_its_results() {
    let exp = || map(MapKind::Exp, Y, &[of(X)]);
    assert_eq!(words(vec![exp(), sum(SUM, Y, false)]), "exp(1*b0),sum=b4");
    assert_eq!(words(vec![exp(), sum(SUM, Y, true)]), "exp(1*b0),sum+b4");
    let shifted = map(MapKind::Sub, T, &[of(X), of(ROW)]);
    let softmax = vec![shifted, map(MapKind::Exp, Y, &[of(T)]), fill(U), sum(SUM, Y, false)];
    assert_eq!(words(softmax), "exp(-1*b5+b0),sum=b4 fill");
    assert_eq!(
        words(vec![map(MapKind::Add, Y, &[of(X), of(ROW)]), sum(SUM, Y, false)]),
        "identity(1*b0+b5),sum=b4"
    );
    // The product of two operands has no sum.
    assert_eq!(words(vec![map(MapKind::Mul, Y, &[of(X), of(ROW)]), sum(SUM, Y, false)]), "map reduce");
    // Something else is summed, or stands where the sum goes.
    assert_eq!(words(vec![exp(), fill(Y), sum(SUM, Y, false)]), "map fill reduce");
    assert_eq!(words(vec![exp(), fill(SUM), sum(SUM, Y, true)]), "map fill reduce");
    assert_eq!(
        words(vec![exp(), map(MapKind::Add, U, &[of(X), of(SUM)]), sum(SUM, Y, false)]),
        "map map reduce"
    );
    assert_eq!(words(vec![map(MapKind::Exp, Y, &[of(SUM)]), sum(SUM, Y, false)]), "map reduce");
    let over =
        vec![map(MapKind::Sub, T, &[of(X), of(SUM)]), map(MapKind::Exp, Y, &[of(T)]), sum(SUM, Y, false)];
    assert_eq!(words(over), "exp(-1*b4+b0) reduce");
    let mut narrow = group(vec![exp(), sum(SUM, Y, false)]);
    narrow.bufs[Y as usize].dtype = DType::F16;
    assert_eq!(told(&narrow).0, "map reduce");
    let max = op(Op::Reduce { kind: ReduceKind::Max, dst: view(SUM), src: view(Y), accumulate: false });
    assert_eq!(words(vec![exp(), max]), "map reduce");
}

#[test]
fn a_sum_that_comes_earlier_has_its_buffer_earlier() {
    let mut late = group(vec![map(MapKind::Exp, Y, &[of(X)]), sum(SUM, Y, false)]);
    let at = late.body.iter().position(|stmt| matches!(stmt, Stmt::Alloc { buf, .. } if buf.0 == SUM));
    let alloc = late.body.remove(at.expect("it is there"));
    late.body.insert(late.body.len() - 2, alloc);
    assert_eq!(told(&late), ("exp(1*b0),sum=b4".into(), vec![SUM, X, T, U, Y, ROW]));
}
