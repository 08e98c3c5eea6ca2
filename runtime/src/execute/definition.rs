//! Random instructions against their definition: one element at a time, with `kiln-machine`'s scalar functions.

use kiln_machine::isa::*;
use kiln_machine::numerics::{
    self, act::act, convert::convert, convert::from_f32, convert::to_f32, convert::to_i32,
};
use kiln_machine::random::Rng;

mod dma;

use super::Memories;
use crate::dram::Dram;
use crate::stream::Stream;
use kiln_machine::target::Target;

const PARTS: usize = 64;

/// Both memories as plain bytes.
#[derive(Clone, PartialEq)]
struct Plain([Vec<u8>; 2]);

impl Plain {
    fn at(view: &View, p: usize, i: [usize; 3]) -> (usize, usize) {
        let element: i64 = (0..3).map(|d| i64::from(view.strides[d]) * i[d] as i64).sum();
        let byte = i64::from(view.off) + element * i64::from(view.dt.bits() / 8);
        (usize::from(view.part) + p, byte as usize)
    }

    fn size(space: Space) -> usize {
        if space == Space::Spm { 32768 } else { 4096 }
    }

    fn get(&self, view: &View, p: usize, i: [usize; 3]) -> u32 {
        let (part, byte) = Self::at(view, p, i);
        let size = (view.dt.bits() / 8) as usize;
        let mut bits = [0; 4];
        let at = part * Self::size(view.space) + byte;
        bits[..size].copy_from_slice(&self.0[view.space as usize][at..at + size]);
        u32::from_le_bytes(bits)
    }

    fn set(&mut self, view: &View, p: usize, i: [usize; 3], bits: u32) {
        let (part, byte) = Self::at(view, p, i);
        let size = (view.dt.bits() / 8) as usize;
        let at = part * Self::size(view.space) + byte;
        self.0[view.space as usize][at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
    }
}

/// A value computed in the class of its operands.
#[derive(Clone, Copy)]
enum Value {
    Float(f32),
    Integer(i32),
    /// The bits of a u32.
    Unsigned(u32),
}

fn store(dt: Dt, value: Value) -> u32 {
    match value {
        Value::Float(x) => from_f32(dt, CvtMode::Cast, x),
        Value::Integer(x) => numerics::convert::from_i32(dt, CvtMode::Cast, x),
        Value::Unsigned(x) => numerics::convert::from_i32(dt, CvtMode::Cast, x as i32),
    }
}

fn binary(op: VecOp, (da, a): (Dt, u32), (db, b): (Dt, u32)) -> Value {
    match (da.is_integer() && db.is_integer(), da) {
        (true, Dt::U32) => Value::Unsigned(numerics::vec_u32(op, a, to_i32(db, b) as u32)),
        (true, _) => Value::Integer(numerics::vec_i32(op, to_i32(da, a), to_i32(db, b))),
        _ => Value::Float(numerics::vec_f32(op, to_f32(da, a), to_f32(db, b))),
    }
}

fn immediate(dt: Dt, imm: Imm32) -> (Dt, u32) {
    (if dt.is_integer() { Dt::I32 } else { Dt::F32 }, imm.0)
}

fn positions(shape: Shape) -> impl Iterator<Item = (usize, [usize; 3])> {
    let [n0, n1, n2] = shape.n.map(|n| n as usize);
    (0..usize::from(shape.parts) * n0 * n1 * n2)
        .map(move |at| (at / (n0 * n1 * n2), [at / (n1 * n2) % n0, at / n2 % n1, at % n2]))
}

fn without(dims: Dims, i: [usize; 3]) -> [usize; 3] {
    [0, 1, 2].map(|d| if dims.has(d) { 0 } else { i[d] })
}

/// What the instruction does, by its row in the table.
fn define(plain: &mut Plain, inst: &Inst) {
    match *inst {
        Inst::Vtt { op, dst, a, b, shape } => {
            for (p, i) in positions(shape) {
                let value = binary(op, (a.dt, plain.get(&a, p, i)), (b.dt, plain.get(&b, p, i)));
                plain.set(&dst, p, i, store(dst.dt, value));
            }
        }
        Inst::Vts { op, dst, a, imm, rev, shape } => {
            for (p, i) in positions(shape) {
                let (x, y) = ((a.dt, plain.get(&a, p, i)), immediate(a.dt, imm));
                let value = if rev {
                    // An immediate in front of a u32 is one.
                    let y = if a.dt == Dt::U32 { (Dt::U32, y.1) } else { y };
                    binary(op, y, x)
                } else {
                    binary(op, x, y)
                };
                plain.set(&dst, p, i, store(dst.dt, value));
            }
        }
        Inst::Vmrg { dst, mask, a, b, shape } => {
            for (p, i) in positions(shape) {
                let from = if to_f32(mask.dt, plain.get(&mask, p, i)) != 0.0 { &a } else { &b };
                let bits = plain.get(from, p, i);
                let value = if a.dt.is_integer() && b.dt.is_integer() {
                    Value::Integer(to_i32(from.dt, bits))
                } else {
                    Value::Float(to_f32(from.dt, bits))
                };
                plain.set(&dst, p, i, store(dst.dt, value));
            }
        }
        Inst::Vsel { dst, src, shape, base, cp, c0, c1, c2, imm, .. } => {
            for (p, i) in positions(shape) {
                let sum = i64::from(base) + i64::from(cp.0) * p as i64;
                let free: i64 = [c0, c1, c2].iter().zip(i).map(|(c, i)| i64::from(c.0) * i as i64).sum();
                let (dt, bits) =
                    if sum + free >= 0 { (src.dt, plain.get(&src, p, i)) } else { immediate(src.dt, imm) };
                let value = if dt.is_integer() {
                    Value::Integer(to_i32(dt, bits))
                } else {
                    Value::Float(to_f32(dt, bits))
                };
                plain.set(&dst, p, i, store(dst.dt, value));
            }
        }
        Inst::Vcvt { mode, dst, src, shape } => {
            for (p, i) in positions(shape) {
                let bits = plain.get(&src, p, i);
                plain.set(&dst, p, i, convert(src.dt, dst.dt, mode, bits));
            }
        }
        Inst::Dmv { dst, src, shape } => {
            for (p, i) in positions(shape) {
                let bits = plain.get(&src, p, i);
                plain.set(&dst, p, i, convert(src.dt, dst.dt, CvtMode::Cast, bits));
            }
        }
        Inst::Viota { dst, shape, base, cp, c0, c1, c2, .. } => {
            for (p, i) in positions(shape) {
                let free: i64 = [c0, c1, c2].iter().zip(i).map(|(c, i)| i64::from(c.0) * i as i64).sum();
                let value = i64::from(base) + i64::from(cp.0) * p as i64 + free;
                plain.set(&dst, p, i, store(dst.dt, Value::Integer(value as i32)));
            }
        }
        Inst::Vred { op, dst, src, shape, dims, cont } => reduce(plain, op, &dst, &src, shape, dims, cont),
        Inst::Act { func, dst, src, bias, sum, over, sumc, scale, shape } => {
            if let Some(sum) = &sum {
                for (p, i) in positions(shape.without(over)) {
                    let start = if sumc { to_f32(sum.dt, plain.get(sum, p, i)) } else { 0.0 };
                    let rest = positions(Shape::new(1, shape.n)).filter(|(_, j)| without(over, *j) == i);
                    let chain = rest.fold(start, |acc, (_, j)| {
                        acc + activate(plain, func, &src, bias.as_ref(), scale.get(), p, j)
                    });
                    plain.set(sum, p, i, from_f32(sum.dt, CvtMode::Cast, chain));
                }
            }
            let before = plain.clone();
            for (p, i) in positions(shape) {
                let y = activate(&before, func, &src, bias.as_ref(), scale.get(), p, i);
                plain.set(&dst, p, i, from_f32(dst.dt, CvtMode::Cast, y));
            }
        }
        Inst::Actr { func, dst, src, scale, bias, shape } => {
            for (p, i) in positions(shape) {
                let x = to_f32(src.dt, plain.get(&src, p, i)) * to_f32(scale.dt, plain.get(&scale, p, i));
                let bias = bias.map(|bias| to_f32(bias.dt, plain.get(&bias, p, i)));
                let y = act(func, bias.map_or(x, |bias| x + bias));
                plain.set(&dst, p, i, from_f32(dst.dt, CvtMode::Cast, y));
            }
        }
        Inst::Vscan { op, dst, src, carry, shape, exclusive, reverse } => {
            let last = shape.n[2] as usize;
            for (p, [i0, i1, _]) in positions(shape.without(Dims(4))) {
                let start = carry.map(|carry| (carry.dt, plain.get(&carry, p, [i0, i1, 0])));
                let row: Vec<u32> = (0..last).map(|i2| plain.get(&src, p, [i0, i1, i2])).collect();
                let places: Vec<usize> =
                    if reverse { (0..last).rev().collect() } else { (0..last).collect() };
                let mut float = start.map_or(numerics::start_f32(op), |(dt, bits)| to_f32(dt, bits));
                let mut integer = start.map_or(numerics::start_i32(op), |(dt, bits)| to_i32(dt, bits));
                for at in places {
                    let before = (float, integer);
                    float = numerics::red_f32(op, float, to_f32(src.dt, row[at]));
                    integer = numerics::red_i32(op, integer, to_i32(src.dt, row[at]));
                    let (float, integer) = if exclusive { before } else { (float, integer) };
                    let value =
                        if src.dt.is_integer() { Value::Integer(integer) } else { Value::Float(float) };
                    plain.set(&dst, p, [i0, i1, at], store(dst.dt, value));
                }
            }
        }
        Inst::Vshuf { dst, src, idx, shape, .. } => {
            for (p, i) in positions(shape) {
                let at = to_i32(idx.dt, plain.get(&idx, p, i)) as usize;
                let bits = plain.get(&src, p, [i[0], i[1], at]);
                let value = if src.dt.is_integer() && dst.dt.is_integer() {
                    Value::Integer(to_i32(src.dt, bits))
                } else {
                    Value::Float(to_f32(src.dt, bits))
                };
                plain.set(&dst, p, i, store(dst.dt, value));
            }
        }
        Inst::Vtopk { values, indices, src, shape, k, smallest } => {
            for (p, [i0, i1, _]) in positions(shape.without(Dims(4))) {
                let row: Vec<u32> =
                    (0..shape.n[2] as usize).map(|i2| plain.get(&src, p, [i0, i1, i2])).collect();
                let less = |a: u32, b: u32| {
                    let (x, y) = (to_f32(src.dt, a), to_f32(src.dt, b));
                    match src.dt.is_integer() {
                        true => to_i32(src.dt, a) < to_i32(src.dt, b),
                        false => x < y || (y.is_nan() && !x.is_nan()),
                    }
                };
                let mut left: Vec<usize> = (0..row.len()).collect();
                for j in 0..k.0 as usize {
                    // The first of those that no other one goes before.
                    let before = |a: usize, b: usize| {
                        if smallest { less(row[a], row[b]) } else { less(row[b], row[a]) }
                    };
                    let first = (0..left.len()).find(|c| !left.iter().any(|other| before(*other, left[*c])));
                    let at = left.remove(first.expect("an order"));
                    let value = if src.dt.is_integer() {
                        Value::Integer(to_i32(src.dt, row[at]))
                    } else {
                        Value::Float(to_f32(src.dt, row[at]))
                    };
                    plain.set(&values, p, [i0, i1, j], store(values.dt, value));
                    plain.set(&indices, p, [i0, i1, j], store(indices.dt, Value::Integer(at as i32)));
                }
            }
        }
        _ => unreachable!("not drawn"),
    }
}

fn activate(
    plain: &Plain,
    f: ActFunc,
    src: &View,
    bias: Option<&View>,
    scale: f32,
    p: usize,
    i: [usize; 3],
) -> f32 {
    let x = to_f32(src.dt, plain.get(src, p, i)) * scale;
    act(f, bias.map_or(x, |bias| x + to_f32(bias.dt, plain.get(bias, p, i))))
}

fn reduce(plain: &mut Plain, op: RedOp, dst: &View, src: &View, shape: Shape, dims: Dims, cont: bool) {
    for (p, i) in positions(shape.without(dims)) {
        let rest: Vec<u32> = positions(Shape::new(1, shape.n))
            .filter(|(_, j)| without(dims, *j) == i)
            .map(|(_, j)| plain.get(src, p, j))
            .collect();
        let old = plain.get(dst, p, i);
        let value = if matches!(op, RedOp::Argmax | RedOp::Argmin) {
            let mut best = 0;
            for (at, bits) in rest.iter().enumerate().skip(1) {
                let (a, b) = (to_f32(src.dt, rest[best]), to_f32(src.dt, *bits));
                let (ai, bi) = (to_i32(src.dt, rest[best]), to_i32(src.dt, *bits));
                let better = if src.dt.is_integer() {
                    if op == RedOp::Argmin { bi < ai } else { bi > ai }
                } else {
                    numerics::arg_replaces_f32(op, a, b)
                };
                if better {
                    best = at;
                }
            }
            Value::Integer(best as i32)
        } else if src.dt.is_integer() {
            let start = if cont { to_i32(dst.dt, old) } else { numerics::start_i32(op) };
            Value::Integer(rest.iter().fold(start, |acc, x| numerics::red_i32(op, acc, to_i32(src.dt, *x))))
        } else {
            let start = if cont { to_f32(dst.dt, old) } else { numerics::start_f32(op) };
            Value::Float(rest.iter().fold(start, |acc, x| numerics::red_f32(op, acc, to_f32(src.dt, *x))))
        };
        plain.set(dst, p, i, store(dst.dt, value));
    }
}

const TYPES: [Dt; 11] =
    [Dt::F32, Dt::Bf16, Dt::F16, Dt::F8e4m3, Dt::F8e5m2, Dt::I8, Dt::U8, Dt::I32, Dt::I16, Dt::U16, Dt::U32];

/// Draws instructions whose operands lie in quarters of the memories, so that they never overlap.
struct Draw(Rng);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.below(from.len() as u64) as usize]
    }

    fn shape(&mut self) -> Shape {
        let [parts, n0, n1, n2] = [5, 3, 4, 20].map(|n| 1 + self.below(n) as u32);
        Shape::new(parts as u16, [n0, n1, n2])
    }

    /// A view in a quarter; of each byte only one element if it is written.
    fn view(&mut self, quarter: u32, n: [u32; 3], written: bool, types: &[Dt]) -> View {
        let dt = self.pick(types);
        let space = self.pick(&[Space::Spm, Space::Spm, Space::Acc]);
        let quarter_bytes = Plain::size(space) as u32 / 4;
        let size = dt.bits() / 8;
        let dense = [n[1] * n[2], n[2], 1].map(|s| s as i32);
        let mut strides = match self.below(4) {
            0 => [1, n[0] as i32, (n[0] * n[1]) as i32],
            _ => dense,
        };
        if !written {
            for stride in &mut strides {
                if self.below(6) == 0 {
                    *stride = 0;
                }
            }
        }
        let mut off = quarter * quarter_bytes + size * self.below(8) as u32;
        // Walk a dim backwards.
        let d = self.below(3) as usize;
        if self.below(4) == 0 {
            off += strides[d] as u32 * (n[d] - 1) * size;
            strides[d] = -strides[d];
        }
        View { space, part: self.below(50) as u8, off, reg: Add::NONE, dt, strides }
    }

    fn inst(&mut self) -> Inst {
        let shape = self.shape();
        let all = &TYPES[..];
        let dst = self.view(0, shape.n, true, all);
        let a = self.view(1, shape.n, false, all);
        let b = self.view(2, shape.n, false, all);
        let imm = self.pick(&[Imm32::f32(1.5), Imm32::f32(-0.25), Imm32::i32(3), Imm32::i32(-2)]);
        let coefs = [(); 5].map(|()| Coef(self.below(9) as i32 - 4));
        let dims = Dims(self.below(8) as u8);
        let floats = [VecOp::Add, VecOp::Sub, VecOp::Mul, VecOp::Div, VecOp::Max, VecOp::Min, VecOp::Mod];
        let compares = [VecOp::Fmod, VecOp::Eq, VecOp::Ne, VecOp::Lt, VecOp::Le, VecOp::Gt, VecOp::Ge];
        let bits = [VecOp::And, VecOp::Or, VecOp::Xor, VecOp::Shl, VecOp::Shr, VecOp::Pow];
        let mut op = |integer: bool| match self.0.below(if integer { 3 } else { 2 }) {
            0 => floats[self.0.below(7) as usize],
            1 => compares[self.0.below(7) as usize],
            _ => bits[self.0.below(6) as usize],
        };
        let (op2, op1) = (op(a.dt.is_integer() && b.dt.is_integer()), op(a.dt.is_integer()));
        match self.below(14) {
            10 => Inst::Actr {
                func: ActFunc::ALL[self.below(23) as usize],
                dst,
                src: a,
                scale: b,
                bias: (self.below(2) == 1).then(|| self.view(3, shape.n, false, all)),
                shape,
            },
            11 => Inst::Vscan {
                op: self.pick(&[RedOp::Sum, RedOp::Prod, RedOp::Max, RedOp::Min]),
                dst,
                src: a,
                carry: (self.below(2) == 1).then(|| self.view(2, shape.without(Dims(4)).n, false, all)),
                shape,
                exclusive: self.below(2) == 1,
                reverse: self.below(2) == 1,
            },
            12 => {
                // Whatever a byte holds is an index.
                let idx = self.view(3, shape.n, false, &[Dt::U8]);
                let src = View { off: Plain::size(a.space) as u32 / 4, strides: [0, 0, 1], ..a };
                Inst::Vshuf { dst, src, idx, shape, bound: Len(256) }
            }
            13 => {
                let k = 1 + self.below(shape.n[2].into()) as u32;
                let n = [shape.n[0], shape.n[1], k];
                let (values, indices) =
                    (self.view(0, n, true, all), self.view(3, n, true, &[Dt::I32, Dt::U16, Dt::F32]));
                Inst::Vtopk { values, indices, src: a, shape, k: Len(k), smallest: self.below(2) == 1 }
            }
            0 | 1 => Inst::Vtt { op: op2, dst, a, b, shape },
            2 => Inst::Vts { op: op1, dst, a, imm, rev: self.below(2) == 1, shape },
            3 => Inst::Vmrg { dst, mask: self.view(3, shape.n, false, all), a, b, shape },
            4 => {
                let [c, cp, c0, c1, c2] = coefs;
                Inst::Vsel { dst, src: a, shape, base: c.0, reg: Add::NONE, cp, c0, c1, c2, imm }
            }
            5 => Inst::Vcvt { mode: self.pick(CvtMode::ALL), dst, src: a, shape },
            6 => {
                let [c, cp, c0, c1, c2] = coefs;
                Inst::Viota { dst, shape, base: c.0, reg: Add::NONE, cp, c0, c1, c2 }
            }
            7 => {
                let op = self.pick(RedOp::ALL);
                let cont = self.below(2) == 1 && !matches!(op, RedOp::Argmax | RedOp::Argmin);
                let dst = self.view(0, shape.without(dims).n, true, all);
                Inst::Vred { op, dst, src: a, shape, dims, cont }
            }
            8 => Inst::Dmv { dst, src: a, shape },
            _ => Inst::Act {
                func: ActFunc::ALL[self.below(23) as usize],
                dst,
                src: a,
                bias: (self.below(2) == 1).then_some(b),
                sum: (self.below(2) == 1)
                    .then(|| self.view(3, shape.without(dims).n, true, &[Dt::F32, Dt::Bf16])),
                over: dims,
                sumc: self.below(2) == 1,
                scale: self.pick(&[ImmF32::ONE, ImmF32::new(0.125)]),
                shape,
            },
        }
    }
}

/// Memories full of moderate numbers of every type, the same in both.
fn filled(target: &Target, rng: &mut Rng) -> (Memories, Plain) {
    let mut memories = Memories::new(target, Dram::new(0, Vec::new()), 2, &[0]);
    let mut plain = Plain([vec![0; PARTS * 32768], vec![0; PARTS * 4096]]);
    for space in [Space::Spm, Space::Acc] {
        let size = Plain::size(space);
        for part in 0..PARTS {
            let bytes: Vec<u8> = (0..size).map(|_| rng.below(256) as u8).collect();
            plain.0[space as usize][part * size..][..size].copy_from_slice(&bytes);
            let view = View { space, ..View::spm(part as u8, 0, Dt::U8) };
            put(&mut memories, &view, &bytes);
        }
    }
    (memories, plain)
}

/// Write bytes from the view's first on.
fn put(memories: &mut Memories, view: &View, bytes: &[u8]) {
    let chip = &mut memories.cores[0].chip;
    let place = chip.place(view, 0, 1, [1, 1, bytes.len() as u32]).expect("a partition");
    let parts = place.part..place.part + 1;
    chip.mark(&place, parts.clone());
    chip.now(&[(&place, parts, true)], |granted| granted.copy_in(&place, place.part, 0, bytes));
}

/// The bits of the view's first element.
fn get(memories: &mut Memories, view: &View) -> [u8; 4] {
    let chip = &mut memories.cores[0].chip;
    let place = chip.place(view, 0, 1, [1, 1, 1]).expect("in bounds");
    let parts = place.part..place.part + 1;
    chip.check(&place, parts.clone()).expect("written");
    let mut bits = [0; 4];
    let out = &mut bits[..place.element_bytes()];
    chip.now(&[(&place, parts, false)], |granted| granted.copy_out(&place, place.part, 0, out));
    bits
}

/// The same bytes, but that any NaN stands for any other.
fn same(inst: &Inst, memories: &mut Memories, plain: &Plain) {
    let written = inst.operands().into_iter().filter_map(|operand| match operand {
        Operand::OnChip { role, view, extent: Extent::Shape(shape), .. } if role.writes() => {
            Some((view, shape))
        }
        _ => None,
    });
    for (view, shape) in written {
        for (p, i) in positions(shape) {
            let (part, byte) = Plain::at(&view, p, i);
            let one = View { part: part as u8, off: byte as u32, strides: [0; 3], ..view };
            let bits = get(memories, &one);
            let (found, expected) = (u32::from_le_bytes(bits), plain.get(&view, p, i));
            let nan = |bits| !view.dt.is_integer() && to_f32(view.dt, bits).is_nan();
            assert!(
                found == expected || (nan(found) && nan(expected)),
                "{inst}: element {p}, {i:?} is {found:#x}, by definition {expected:#x}"
            );
        }
    }
}

#[test]
fn instructions_do_what_their_definition_says() {
    let target = Target::preset("edge").expect("a preset");
    let mut draw = Draw(Rng::new(11));
    let mut stream = Stream::default();
    for _ in 0..3 {
        let (mut memories, mut plain) = filled(&target, &mut draw.0);
        for _ in 0..600 {
            let inst = draw.inst();
            define(&mut plain, &inst);
            memories.execute(0, &inst, &mut stream).unwrap_or_else(|kind| panic!("{inst}: {kind}"));
            assert_eq!(memories.flow.finish(), None, "{inst}");
            same(&inst, &mut memories, &plain);
            resync(&inst, &mut memories, &mut plain);
        }
    }
}

/// Take over NaN payloads, which may differ.
fn resync(inst: &Inst, memories: &mut Memories, plain: &mut Plain) {
    for operand in inst.operands() {
        if let Operand::OnChip { role, view, extent: Extent::Shape(shape), .. } = operand
            && role.writes()
        {
            for (p, i) in positions(shape) {
                let (part, byte) = Plain::at(&view, p, i);
                let one = View { part: part as u8, off: byte as u32, strides: [0; 3], ..view };
                plain.set(&view, p, i, u32::from_le_bytes(get(memories, &one)));
            }
        }
    }
}
