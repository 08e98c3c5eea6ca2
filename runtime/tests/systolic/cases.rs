//! Random machines and instruction sequences, on the simulator and on the model: the same cycles and the same bits.

use std::num::NonZeroUsize;

use half::{bf16, f16};
use indexmap::IndexMap;
use kiln_machine::isa::{AccessPattern, Add, Ap, Dt, Engine, Inst, Len, Parts, Sem, Space, View};
use kiln_machine::program::{
    Binding, BindingRole, DeviceSegment, ImageExtent, ImageSource, Program, Segment, Stream,
};
use kiln_machine::random::Rng;
use kiln_machine::target::Target;
use kiln_machine::tensor::DType;
use kiln_runtime::{Options, Simulator};

use super::{Array, Load, Machine, Number, Op, Product, Region, Span};

/// Bytes of a partition: an area for each type, the last for block scales.
const SPM: usize = 2048;
const ACC: usize = 512;

const AREA: usize = 256;
const FLOATS: [Dt; 5] = [Dt::F32, Dt::Bf16, Dt::F16, Dt::F8e4m3, Dt::F8e5m2];
const INTEGERS: [Dt; 2] = [Dt::I8, Dt::U8];
const SCALES: usize = 7 * AREA;

fn area(dt: Dt) -> usize {
    let position = FLOATS.iter().chain(&INTEGERS).position(|other| *other == dt);
    position.expect("a type of the array") * AREA
}

/// An 8-bit float by its definition: `bias` and the number of mantissa bits.
fn small_float(bits: u8, mantissa_bits: i32, bias: i32) -> f32 {
    let mantissa = f64::from(bits & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
    let exponent = i32::from(bits & 0x7f) >> mantissa_bits;
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(1 - bias),
        _ => (1.0 + mantissa) * 2f64.powi(exponent - bias),
    };
    (if bits & 0x80 == 0 { magnitude } else { -magnitude }) as f32
}

fn number(dt: Dt, bytes: &[u8]) -> Number {
    let half = || u16::from_le_bytes([bytes[0], bytes[1]]);
    match dt {
        Dt::F32 => Number::Float(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        Dt::Bf16 => Number::Float(bf16::from_bits(half()).to_f32()),
        Dt::F16 => Number::Float(f16::from_bits(half()).to_f32()),
        Dt::F8e4m3 => Number::Float(small_float(bytes[0], 3, 7)),
        Dt::F8e5m2 => Number::Float(small_float(bytes[0], 2, 15)),
        Dt::I8 => Number::Integer((bytes[0] as i8).into()),
        Dt::U8 => Number::Integer(bytes[0].into()),
        _ => panic!("not a type of the array"),
    }
}

struct Case {
    rng: Rng,
    target: Target,
    machine: Machine,
    integers: bool,
    spm: Vec<Vec<u8>>,
    acc: Vec<Vec<Number>>,
    insts: Vec<Inst>,
    ops: Vec<Op>,
    /// The accumulators of the last product: view, rows of results, extents.
    last: Option<(View, usize, [u32; 3])>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut pick = |from: &[usize]| from[rng.below(from.len() as u64) as usize];
        let side = pick(&[2, 4, 4, 4, 4, 8, 8, 8]);
        let bands = pick(&[1, 2, 4]).min(side);
        let (startup, control) = (pick(&[0, 1, 1, 2, 3, 5, 8, 12]), pick(&[1, 1, 1, 2, 3]));
        let [rates, more] = [(); 2].map(|()| [(); 2].map(|()| pick(&[1, 2, 3, 4, 4, 8, 8, 16])));
        let (factor, div) = (pick(&[1, 1, 2, 3]), pick(&[1, 2, 3]));
        let keys = [
            ("partitions", side),
            ("spm_bytes", side * SPM),
            ("acc_bytes", side * ACC),
            ("acc_banks", 4),
            ("row_groups", bands),
            ("mxu_startup_cycles", startup),
            ("control_cycles", control),
            ("mxu_f32_macs_per_4_cycles", rates[0]),
            ("mxu_bf16_macs_per_4_cycles", rates[1]),
            ("mxu_f8_macs_per_4_cycles", more[0]),
            ("mxu_i8_macs_per_4_cycles", more[1]),
            ("ldwt_factor", factor),
            ("mxu_clock_div", div),
            ("has_mmax", 1),
        ];
        let mut target = Target::preset("edge").expect("a preset");
        let keys = keys.map(|(key, value)| (key, value.to_string()));
        target.set_all(keys.iter().map(|(key, value)| (*key, value.as_str()))).expect("a machine");
        let integers = rng.below(3) == 0;
        let spm = (0..side).map(|_| bytes(&mut rng)).collect();
        let mut start = || match integers {
            true => Number::Integer(rng.next_u64() as i32),
            false => Number::Float((rng.below(2001) as f32 - 1000.0) / 7.0),
        };
        let acc = (0..side).map(|_| (0..ACC / 4).map(|_| start()).collect()).collect();
        let machine = Machine { side, bands, startup, control };
        let mut case =
            Self { rng, target, machine, integers, spm, acc, insts: Vec::new(), ops: Vec::new(), last: None };
        case.load(true);
        for _ in 0..1 + case.below(6) {
            match case.below(20) {
                0..5 => case.load(false),
                5..7 => case.load_transposed(),
                7 => case.transpose(),
                _ => case.multiply(),
            }
        }
        case
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.below(n as u64) as usize
    }

    /// A range of `len` in 0..n with its start.
    fn range(&mut self, n: usize) -> (usize, usize) {
        let len = 1 + self.below(n);
        (self.below(n - len + 1), len)
    }

    /// Rows of the array, mostly of one band.
    fn rows(&mut self) -> (usize, usize) {
        let each = self.machine.side / self.machine.bands;
        if self.below(2) == 0 {
            return self.range(self.machine.side);
        }
        let band = self.below(self.machine.bands);
        let (start, len) = self.range(each);
        (band * each + start, len)
    }

    fn dt(&mut self) -> Dt {
        let types = if self.integers { &INTEGERS[..] } else { &FLOATS };
        types[self.below(types.len())]
    }

    /// A view of the type's area that these extents do not leave.
    fn view(&mut self, part: usize, dt: Dt, n: [u32; 3]) -> View {
        let size = (dt.bits() / 8) as usize;
        let mut strides = [0, 1, 2].map(|_| self.below(4) as i32);
        if self.below(2) == 0 {
            strides = [(n[1] * n[2]) as i32, n[2] as i32, 1];
        }
        let reach =
            |strides: [i32; 3]| strides.iter().zip(n).map(|(s, n)| *s as usize * (n as usize - 1)).sum();
        let mut far: usize = reach(strides);
        while (far + 1) * size > AREA {
            strides = strides.map(|s| s / 2);
            far = reach(strides);
        }
        let off = area(dt) + size * self.below((AREA / size - far).min(8));
        View { space: Space::Spm, part: part as u8, off: off as u32, reg: Add::NONE, dt, strides }
    }

    fn fetch(&self, view: &View, part: usize, i: [u32; 3]) -> Number {
        let element: usize = view.strides.iter().zip(i).map(|(s, i)| *s as usize * i as usize).sum();
        let at = view.off as usize + element * (view.dt.bits() / 8) as usize;
        number(view.dt, &self.spm[usize::from(view.part) + part][at..])
    }

    fn load(&mut self, whole: bool) {
        let side = self.machine.side;
        let ((row, k), (col, m)) =
            if whole { ((0, side), (0, side)) } else { (self.rows(), self.range(side)) };
        let dt = self.dt();
        let src = self.view(row, dt, [1, 1, m as u32]);
        let values =
            (0..k).map(|r| (0..m).map(|c| self.fetch(&src, r, [0, 0, c as u32])).collect()).collect();
        self.insts.push(Inst::Ldw { src, k: Parts(k as u16), m: Parts(m as u16), col: col as u8 });
        self.ops.push(Op::Load(Load { row, col, port: k, values }));
    }

    fn load_transposed(&mut self) {
        let ((row, k), (col, m)) = (self.rows(), self.range(self.machine.side));
        let part = self.below(self.machine.side - m + 1);
        let dt = self.dt();
        let src = self.view(part, dt, [1, 1, k as u32]);
        let values =
            (0..k).map(|r| (0..m).map(|c| self.fetch(&src, c, [0, 0, r as u32])).collect()).collect();
        let (k16, m16) = (Parts(k as u16), Parts(m as u16));
        self.insts.push(Inst::Ldwt { src, k: k16, m: m16, row: row as u8, col: col as u8 });
        let port = k.max(m) * self.target.ldwt_factor as usize;
        self.ops.push(Op::Load(Load { row, col, port, values }));
    }

    /// Accumulators for `m` rows of results, often those of the product before.
    fn results(&mut self, m: Option<usize>, n: Option<[u32; 3]>) -> (View, usize, [u32; 3]) {
        if let Some(last) = self.last
            && self.below(3) > 0
            && m.is_none_or(|m| m == last.1)
            && n.is_none_or(|n| n == last.2)
        {
            return last;
        }
        let side = self.machine.side;
        let m = m.unwrap_or_else(|| 1 + self.below(side));
        let n = n.unwrap_or_else(|| {
            [1 + self.below(2) as u32, 1 + self.below(2) as u32, 1 + self.below(8) as u32]
        });
        let dt = if self.integers { Dt::I32 } else { Dt::F32 };
        let off = [0, 0, 4, 64, 256][self.below(5)];
        let strides = match self.below(3) {
            0 => [n[2] as i32, (n[0] * n[2]) as i32, 1],
            _ => [(n[1] * n[2]) as i32, n[2] as i32, 1],
        };
        let part = self.below(side - m + 1) as u8;
        (View { space: Space::Acc, part, off, reg: Add::NONE, dt, strides }, m, n)
    }

    fn rate(&self, dt: Dt) -> usize {
        (match dt {
            Dt::F32 => self.target.mxu_f32_macs_per_4_cycles,
            Dt::Bf16 | Dt::F16 => self.target.mxu_bf16_macs_per_4_cycles,
            Dt::F8e4m3 | Dt::F8e5m2 => self.target.mxu_f8_macs_per_4_cycles,
            _ => self.target.mxu_i8_macs_per_4_cycles,
        }) as usize
    }

    fn multiply(&mut self) {
        let (row, k) = self.rows();
        let (acc, m, n) = self.results(None, None);
        let dt = self.dt();
        let mov = self.view(row, dt, n);
        let zeros = if self.integers { [(); 2].map(|()| self.below(256) as u8) } else { [0; 2] };
        let continues = self.below(2) == 0;
        let scaled = !self.integers && self.below(6) == 0;
        let blocks = k.div_ceil(32);
        let scale_view = |case: &mut Self, n: [u32; 3]| {
            let part = case.below(case.machine.side - blocks + 1);
            let view = case.view(part, Dt::U8, n);
            View { off: view.off - area(Dt::U8) as u32 + SCALES as u32, ..view }
        };
        let scales = scaled.then(|| [scale_view(self, [1, 1, m as u32]), scale_view(self, n)]);
        let power = |case: &Self, view: &View, r: usize, i| match case.fetch(view, r / 32, i) {
            Number::Integer(255) => f64::NAN,
            Number::Integer(scale) => 2f64.powi(scale - 127),
            Number::Float(_) => panic!("scales are bytes"),
        };
        let columns: Vec<[u32; 3]> =
            (0..n[0] * n[1] * n[2]).map(|j| [j / (n[1] * n[2]), j / n[2] % n[1], j % n[2]]).collect();
        let x = |i: &[u32; 3], r: usize| match (self.fetch(&mov, r, *i), &scales) {
            (Number::Integer(x), _) => Number::Integer(x - i32::from(zeros[1])),
            (Number::Float(x), None) => Number::Float(x),
            (Number::Float(x), Some([_, sx])) => {
                Number::Float((f64::from(x) * power(self, sx, r, *i)) as f32)
            }
        };
        let moving = columns.iter().map(|i| (0..k).map(|r| x(i, r)).collect()).collect();
        let col = usize::from(acc.part);
        let scale_of = |ss: &View, r: usize, c: usize| match c.checked_sub(col).filter(|c| *c < m) {
            Some(c) => power(self, ss, r, [0, 0, c as u32]),
            None => 1.0,
        };
        let side = self.machine.side;
        let grid_scales = scales
            .as_ref()
            .map(|[ss, _]| (0..k).map(|r| (0..side).map(|c| scale_of(ss, r, c)).collect()).collect());
        let (k16, m16, [n0, n1, n2]) = (Parts(k as u16), Parts(m as u16), n.map(Len));
        self.insts.push(match scales {
            None => {
                let [zs, zx] = zeros;
                Inst::Mma { acc, mov, k: k16, m: m16, n0, n1, n2, cont: continues, zs, zx }
            }
            Some([ss, sx]) => Inst::Mmax { acc, mov, ss, sx, k: k16, m: m16, n0, n1, n2, cont: continues },
        });
        let (places, region) = places(&acc, m, n);
        self.ops.push(Op::Product(Product {
            row,
            rows: k,
            col,
            cols: m,
            rate: self.rate(dt),
            moving,
            zero: zeros[0].into(),
            scales: grid_scales,
            region,
            places,
            continues,
            turned: None,
        }));
        self.last = Some((acc, m, n));
    }

    fn transpose(&mut self) {
        let ((row, parts), n) = (self.rows(), 1 + self.below(self.machine.side));
        let dt = self.dt();
        let src = self.view(row, dt, [1, 1, n as u32]);
        let (dst, _, extents) = self.results(Some(n), Some([1, 1, parts as u32]));
        let (places, region) = places(&dst, n, extents);
        let col = usize::from(dst.part);
        let zero = if self.integers { Number::Integer(0) } else { Number::Float(0.0) };
        let turned = (0..parts)
            .map(|p| {
                let mut column = vec![zero; self.machine.side];
                (0..n).for_each(|f| column[col + f] = self.fetch(&src, p, [0, 0, f as u32]));
                column
            })
            .collect();
        self.insts.push(Inst::Mtrn { dst, src, parts: Parts(parts as u16), n: Parts(n as u16) });
        self.ops.push(Op::Product(Product {
            row,
            rows: parts,
            col,
            cols: n,
            rate: self.rate(dt),
            moving: Vec::new(),
            zero: 0,
            scales: None,
            region,
            places,
            continues: false,
            turned: Some(turned),
        }));
        self.last = Some((dst, n, extents));
    }

    /// The instructions in a program that loads both memories first and stores the accumulators at the end.
    fn program(&self) -> Program {
        let side = self.machine.side;
        let acc: Vec<u8> = self.acc.iter().flatten().flat_map(|number| bits(*number).to_le_bytes()).collect();
        let rows = |width: usize, base: u64| AccessPattern {
            dt: Dt::U8,
            base,
            size: [side as u32, 1, 1, width as u32],
            stride: [width as i64, 0, 0, 1],
        };
        let (spm_at, acc_at, out_at) = (0u64, (side * SPM) as u64, (side * (SPM + ACC)) as u64);
        let (ap, reg) = (Ap(0), Add::NONE);
        let view = |space| View { space, ..View::spm(0, 0, Dt::U8) };
        let queue = [
            Inst::Apset { ap, pattern: rows(SPM, spm_at) },
            Inst::Dld { dst: view(Space::Spm), ap, reg },
            Inst::Apset { ap, pattern: rows(ACC, acc_at) },
            Inst::Dld { dst: view(Space::Acc), ap, reg },
            Inst::Sems { sem: Sem(0), n: 1 },
            Inst::Semw { sem: Sem(1), n: 1 },
            Inst::Apset { ap, pattern: rows(ACC, out_at) },
            Inst::Dst { ap, reg, src: view(Space::Acc) },
            Inst::Halt {},
        ];
        let matrix = [Inst::Semw { sem: Sem(0), n: 1 }]
            .into_iter()
            .chain(self.insts.iter().copied())
            .chain([Inst::Sems { sem: Sem(1), n: 1 }, Inst::Halt {}]);
        let stream = |insts: &mut dyn Iterator<Item = Inst>| {
            let mut words = Vec::new();
            insts.for_each(|inst| inst.encode(&mut words).expect("operands fit"));
            Stream { words, ..Stream::default() }
        };
        let streams =
            [(Engine::Queue(0), stream(&mut queue.into_iter())), (Engine::Mxu, stream(&mut { matrix }))];
        let blob: Vec<u8> = self.spm.iter().flatten().copied().chain(acc).collect();
        let length = blob.len() as u64;
        let source = ImageSource::Blob { blob: 0, offset: 0, pitch: length };
        Program {
            target_name: self.target.name.clone(),
            dram_bytes: length + (side * ACC) as u64,
            bindings: vec![Binding {
                name: "acc".into(),
                role: BindingRole::Output,
                dtype: DType::U8,
                host_dtype: DType::U8,
                shape: vec![side, ACC],
                address: out_at,
                range: None,
                alias_of: None,
            }],
            blobs: vec![blob.into()],
            image: vec![ImageExtent { address: 0, pitch: length, rows: 1, row_bytes: length, source }],
            segments: vec![Segment::Device(DeviceSegment::of_one_core(streams.into()))],
            ..Program::default()
        }
    }

    /// Run both and compare.
    fn check(&self, seed: u64) {
        let told = || format!("seed {seed}, {:?}\n{}", self.machine, self.listing());
        let options = Options { trace: true, threads: NonZeroUsize::new(1), ..Options::default() };
        let program = self.program();
        let mut simulator = Simulator::new(&program, &self.target, options).unwrap_or_else(|e| panic!("{e}"));
        let (outputs, report) =
            simulator.run(&IndexMap::new()).unwrap_or_else(|error| panic!("{error:?}\n{}", told()));
        let mut array = Array::new(self.machine, &self.ops, self.acc.clone());
        array.run();
        let events: Vec<_> = report.trace.iter().filter(|event| event.engine == Engine::Mxu).collect();
        let cycles = |tick: u64| ((tick - events[0].start) / self.target.mxu_clock_div) as usize;
        let found: Vec<Span> =
            events.iter().map(|e| Span { start: cycles(e.start), end: cycles(e.end) }).collect();
        assert_eq!(found, array.spans, "{}", told());
        let found = outputs["acc"].data.as_chunks::<4>().0.iter();
        for (i, (found, expected)) in found.zip(array.acc.iter().flatten()).enumerate() {
            let found = u32::from_le_bytes(*found);
            let nan = matches!(expected, Number::Float(x) if x.is_nan()) && f32::from_bits(found).is_nan();
            let place = (i / (ACC / 4), i % (ACC / 4) * 4);
            assert!(nan || found == bits(*expected), "{place:?}: {found:#x}, {expected:?} {}", told());
        }
    }

    fn listing(&self) -> String {
        self.insts.iter().map(|inst| format!("{inst}\n")).collect()
    }
}

/// Bytes of the results' columns in a partition, and the region that they make up.
fn places(acc: &View, m: usize, n: [u32; 3]) -> (Vec<usize>, Region) {
    let mut places = Vec::new();
    for i0 in 0..n[0] as usize {
        for i1 in 0..n[1] as usize {
            for i2 in 0..n[2] as usize {
                let [s0, s1, s2] = acc.strides.map(|s| s as usize);
                places.push(acc.off as usize + 4 * (i0 * s0 + i1 * s1 + i2 * s2));
            }
        }
    }
    let (first, last) = (places.iter().min(), places.iter().max());
    let bytes = (*first.expect("a column"), last.expect("a column") + 4);
    let parts = (usize::from(acc.part), usize::from(acc.part) + m);
    (places, Region { parts, bytes, strides: acc.strides, extents: n })
}

fn bits(number: Number) -> u32 {
    match number {
        Number::Float(x) => x.to_bits(),
        Number::Integer(x) => x as u32,
    }
}

/// Bytes of a partition: moderate numbers of every type, some subnormal ones, and scales around one.
fn bytes(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < AREA {
        let x = (rng.below(65_536) as f32 - 32_768.0) / 3000.0;
        let x = if rng.below(20) == 0 { f32::from_bits(rng.below(1 << 23) as u32) } else { x };
        bytes.extend(x.to_le_bytes());
    }
    let halves = (0..AREA / 2).map(|_| (rng.below(4001) as f32 - 2000.0) / 170.0);
    let halves: Vec<f32> = halves.collect();
    bytes.extend(halves.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()));
    bytes.extend(halves.iter().flat_map(|x| f16::from_f32(*x / 4096.0).to_le_bytes()));
    // No NaN and no infinity: those are in the tests of conversions.
    bytes.extend((0..AREA).map(|_| (rng.below(0x7f) | rng.below(2) << 7) as u8));
    bytes.extend((0..AREA).map(|_| (rng.below(0x7c) | rng.below(2) << 7) as u8));
    bytes.extend((0..2 * AREA).map(|_| rng.below(256) as u8));
    bytes.extend((0..AREA).map(|_| if rng.below(100) == 0 { 255 } else { 117 + rng.below(20) as u8 }));
    bytes
}

/// More than 10,000 products on random machines, in two halves at once.
#[test]
fn simulator_and_array_agree_in_cycles_and_bits() {
    let half = |seeds: std::ops::Range<u64>| -> usize {
        seeds
            .map(|seed| {
                let case = Case::new(seed);
                case.check(seed);
                case.ops.iter().filter(|op| matches!(op, Op::Product(_))).count()
            })
            .sum()
    };
    let products = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(2500..5000));
        half(0..2500) + other.join().expect("no panic")
    });
    assert!(products >= 10_000, "{products}");
}
