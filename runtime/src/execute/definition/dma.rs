//! Random transfers against their definition: one element at a time, over all types in DRAM and on chip.

use super::*;
use crate::dram::{Cursor, Extent as Run, SharedDram, Source};

/// Bytes of DRAM.
const DRAM: usize = 1 << 14;

/// Elements of a pattern that its dims walk over in DRAM, 4-bit ones by their number.
fn element(pattern: &AccessPattern, i: [usize; 4]) -> i64 {
    pattern.stride.iter().zip(i).map(|(stride, i)| stride * i as i64).sum()
}

fn read(dram: &[u8], pattern: &AccessPattern, i: [usize; 4]) -> u32 {
    let element = element(pattern, i);
    let Some(size) = pattern.dt.bytes() else {
        let byte = dram[(pattern.base as i64 + element.div_euclid(2)) as usize];
        return u32::from(if element.rem_euclid(2) == 0 { byte & 15 } else { byte >> 4 });
    };
    let at = (pattern.base as i64 + element * i64::from(size)) as usize;
    (0..size as usize).rev().fold(0, |bits, b| bits << 8 | u32::from(dram[at + b]))
}

fn write(dram: &mut [u8], pattern: &AccessPattern, i: [usize; 4], bits: u32) {
    let size = (pattern.dt.bits() / 8) as usize;
    let at = (pattern.base as i64 + element(pattern, i) * size as i64) as usize;
    dram[at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
}

/// What the instruction does to the plain memories, by its row in the table.
fn define(plain: &mut Plain, dram: &mut [u8], patterns: &[AccessPattern; 16], inst: &Inst) {
    let of = |ap: Ap| patterns[usize::from(ap.0)];
    let over = |pattern: &AccessPattern| {
        let [p, n0, n1, n2] = pattern.size;
        positions(Shape::new(p as u16, [n0, n1, n2])).map(|(p, [a, b, c])| (p, [a, b, c], [p, a, b, c]))
    };
    let cast = |from: Dt, to: Dt, bits| convert(from, to, CvtMode::Cast, bits);
    match *inst {
        Inst::Dld { dst, ap, .. } | Inst::Dtr { dst, ap, .. } => {
            for (p, i, at) in over(&of(ap)) {
                plain.set(&dst, p, i, cast(of(ap).dt, dst.dt, read(dram, &of(ap), at)));
            }
        }
        Inst::Dlq { dst, ap, sap, zap, .. } => {
            for (p, i, at) in over(&of(ap)) {
                let number = |ap: Ap| to_f32(of(ap).dt, read(dram, &of(ap), at));
                let y = (number(ap) - zap.map_or(0.0, number)) * number(sap);
                plain.set(&dst, p, i, from_f32(dst.dt, CvtMode::Cast, y));
            }
        }
        Inst::Dst { ap, src, .. } => {
            for (p, i, at) in over(&of(ap)) {
                write(dram, &of(ap), at, cast(src.dt, of(ap).dt, plain.get(&src, p, i)));
            }
        }
        Inst::Dga { dst, ap, idx, parts, n0, .. } => {
            let [_, n1, n2, _] = of(ap).size;
            for (p, i) in positions(Shape::new(parts.0, [n0.0, n1, n2])) {
                let row = plain.get(&idx, p, [i[0], 0, 0]) as usize;
                plain.set(&dst, p, i, cast(of(ap).dt, dst.dt, read(dram, &of(ap), [row, i[1], i[2], 0])));
            }
        }
        Inst::Dsc { src, ap, idx, parts, n0, .. } => {
            let [_, n1, n2, _] = of(ap).size;
            for (p, i) in positions(Shape::new(parts.0, [n0.0, n1, n2])) {
                let row = plain.get(&idx, p, [i[0], 0, 0]) as usize;
                let bits = cast(src.dt, of(ap).dt, plain.get(&src, p, i));
                write(dram, &of(ap), [row, i[1], i[2], 0], bits);
            }
        }
        Inst::Dfill { dst, shape, imm } => {
            for (p, i) in positions(shape) {
                let from = if dst.dt.is_integer() { Dt::I32 } else { Dt::F32 };
                plain.set(&dst, p, i, cast(from, dst.dt, imm.0));
            }
        }
        _ => unreachable!("not drawn"),
    }
}

impl Draw {
    /// A pattern of these extents inside DRAM; its elements at different addresses if they are written.
    fn pattern(&mut self, size: [u32; 4], written: bool, types: &[Dt]) -> AccessPattern {
        let dt = self.pick(types);
        let mut order = [3, 2, 1, 0];
        if self.below(2) == 0 {
            order.swap(self.below(4) as usize, self.below(4) as usize);
        }
        let (mut stride, mut reach) = ([0i64; 4], 1);
        for d in order {
            stride[d] = reach;
            reach *= i64::from(size[d]);
            // Gaps between rows; 4-bit rows mostly start with a byte.
            if self.below(3) == 0 {
                reach += 1 + self.below(5) as i64;
            }
            if dt.bytes().is_none() && self.below(3) > 0 {
                reach += reach % 2;
            }
        }
        if !written {
            for stride in &mut stride {
                if self.below(5) == 0 {
                    *stride = 0;
                }
            }
        }
        let bytes = u64::from(dt.bytes().unwrap_or(1));
        let mut base = bytes * self.below(64);
        let d = self.below(4) as usize;
        if self.below(4) == 0 && dt.bytes().is_some() {
            base += bytes * stride[d] as u64 * u64::from(size[d] - 1);
            stride[d] = -stride[d];
        }
        AccessPattern { dt, base, size, stride }
    }

    /// A transfer, and the patterns that it names.
    fn transfer(&mut self, plain: &Plain) -> (Inst, [AccessPattern; 16]) {
        let shape = Shape { n: [1, 2, 6].map(|n| 1 + self.below(n) as u32), ..self.shape() };
        let [n0, n1, n2] = shape.n;
        let size = [u32::from(shape.parts), n0, n1, n2];
        let chip = self.view(0, shape.n, true, &TYPES);
        let mut patterns = [AccessPattern::default(); 16];
        let (ap, sap, zap, reg) = (Ap(1), Ap(2), Ap(3), Add::NONE);
        patterns[1] = self.pattern(size, false, Dt::ALL);
        patterns[2] = self.pattern(size, false, &[Dt::F32, Dt::F16, Dt::Bf16, Dt::F8e4m3]);
        patterns[3] = self.pattern(size, false, &[Dt::I4, Dt::U4, Dt::I8, Dt::U8, Dt::I32]);
        let inst = match self.below(7) {
            0 => Inst::Dld { dst: chip, ap, reg },
            1 => Inst::Dtr { dst: chip, ap, reg },
            2 => {
                let zap = (self.below(2) == 1).then_some(zap);
                Inst::Dlq { dst: chip, ap, reg, sap, sreg: reg, zap, zreg: reg }
            }
            3 => {
                patterns[1] = self.pattern(size, true, &TYPES);
                Inst::Dst { ap, reg, src: chip }
            }
            4 => Inst::Dfill { dst: chip, shape, imm: self.pick(&[Imm32::f32(-2.75), Imm32::i32(300)]) },
            choice => {
                // Indices of a byte in i32: written so by the caller.
                let idx = View { part: chip.part, ..View::spm(0, INDICES, Dt::I32) }.with_strides([1, 0, 0]);
                let rows = 1
                    + (0..usize::from(shape.parts))
                        .flat_map(|p| (0..n0 as usize).map(move |i| (p, i)))
                        .map(|(p, i)| plain.get(&idx, p, [i, 0, 0]))
                        .max()
                        .unwrap_or(0);
                let table = [rows, n1, n2, 1];
                let (parts, n0) = (Parts(shape.parts), Len(n0));
                if choice == 5 {
                    patterns[1] = self.pattern(table, false, &TYPES);
                    Inst::Dga { dst: chip, ap, reg, idx, parts, n0 }
                } else {
                    patterns[1] = self.pattern(table, true, &TYPES);
                    Inst::Dsc { src: chip, ap, reg, idx, parts, n0 }
                }
            }
        };
        (inst, patterns)
    }
}

/// Where in each partition indices stand.
const INDICES: u32 = 32768 - 64;

#[test]
fn transfers_do_what_their_definition_says() {
    let target = Target::preset("edge").expect("a preset");
    let mut draw = Draw(Rng::new(12));
    let (mut memories, mut plain) = filled(&target, &mut draw.0);
    for part in 0..PARTS {
        let view = View { part: part as u8, ..View::spm(0, INDICES, Dt::I32) };
        let numbers: Vec<i32> = (0..16).map(|_| draw.below(9) as i32).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        put(&mut memories, &View { dt: Dt::U8, ..view }, &bytes);
        numbers.iter().enumerate().for_each(|(i, n)| plain.set(&view, 0, [0, 0, i], *n as u32));
    }
    // Small exponents, so that products of three types stay finite mostly.
    let mut dram: Vec<u8> = (0..DRAM).map(|_| draw.below(256) as u8).collect();
    let source = Source::Bytes { bytes: dram.clone().into(), offset: 0, pitch: 0 };
    let run = Run { address: 0, pitch: 0, rows: 1, row_bytes: DRAM as u64, source };
    memories.dram = SharedDram::new(Dram::new(DRAM as u64, vec![run]));
    for _ in 0..3000 {
        let (inst, patterns) = draw.transfer(&plain);
        let mut stream = Stream::default();
        stream.patterns = patterns;
        define(&mut plain, &mut dram, &patterns, &inst);
        memories.execute(0, &inst, &mut stream).unwrap_or_else(|kind| panic!("{inst} {patterns:?}: {kind}"));
        assert_eq!(memories.flow.finish(), None, "{inst}");
        let context = format!("{inst}, {:?}", &patterns[1..4]);
        compare_chip(&inst, &patterns, &mut memories, &mut plain, &context);
        let mut found = vec![0; DRAM];
        memories.dram.read().read(&mut Cursor::default(), 0, &mut found).expect("all written");
        let changed = matches!(inst, Inst::Dst { .. } | Inst::Dsc { .. });
        if changed {
            compare_dram(&patterns[1], &found, &mut dram, &context);
        }
        assert!(found == dram, "{context}: bytes beside the pattern");
    }
}

/// What was written on chip: the same bits, or both NaN, whose payload is then taken over.
fn compare_chip(
    inst: &Inst,
    patterns: &[AccessPattern; 16],
    memories: &mut Memories,
    plain: &mut Plain,
    context: &str,
) {
    for operand in inst.operands() {
        let Operand::OnChip { role: Role::Write, view, extent, .. } = operand else { continue };
        for (p, i) in positions(extent.resolve(patterns).expect("a shape")) {
            let (part, byte) = Plain::at(&view, p, i);
            let one = View { part: part as u8, off: byte as u32, strides: [0; 3], ..view };
            let bits = get(memories, &one);
            let (found, expected) = (u32::from_le_bytes(bits), plain.get(&view, p, i));
            assert!(
                alike(view.dt, found, expected),
                "{context}: {p}, {i:?}: {found:#x}, by definition {expected:#x}"
            );
            plain.set(&view, p, i, found);
        }
    }
}

/// The same of the elements of a pattern.
fn compare_dram(pattern: &AccessPattern, found: &[u8], dram: &mut [u8], context: &str) {
    for (p, [i0, i1, i2]) in positions(Shape::new(pattern.size[0] as u16, [1, 2, 3].map(|d| pattern.size[d])))
    {
        let at = [p, i0, i1, i2];
        let (bits, expected) = (read(found, pattern, at), read(dram, pattern, at));
        assert!(
            alike(pattern.dt, bits, expected),
            "{context}: {at:?}: {bits:#x}, by definition {expected:#x}"
        );
        write(dram, pattern, at, bits);
    }
}

fn alike(dt: Dt, a: u32, b: u32) -> bool {
    let nan = |bits| !dt.is_integer() && to_f32(dt, bits).is_nan();
    a == b || (nan(a) && nan(b))
}
