//! A slow model of the matrix engine, element by element and cycle by cycle, apart from the simulator: it knows the
//! manual, not the simulator's code and not the duration functions.
//!
//! ```text
//!   operand rows ─▶ stages ─▶ r registers ─▶ PE PE PE PE    x moves right, an element a cycle
//!                                            PE PE PE PE    sums move down, an element a cycle,
//!   ACC read ─▶ c registers, above column c ──▲   │         in a lane for each band
//!   ACC write ◀─ the other registers, below ──────┘
//! ```
//!
//! - The feeder of a band earns its type's MACs per 4 cycles as credit and sends a column for every 4. What it sends in
//!   one cycle is a *beat*; a product's first cycle always sends one, without columns if there is no credit for one. It
//!   leads the product: each element that it passes takes over the plane that was loaded.
//! - A beat passes `startup` stages, reads its accumulators, goes through r or c registers to row r or column c, crosses
//!   the array, and is written in all columns at once. A write comes before a read of the same cycle.
//! - The rows of a load leave the port one a cycle, pass `startup` stages, then r registers, then c elements of their row.
//! - A product on the accumulators of a former one enters when the former's leading beat is out, and so late that its
//!   feeding ends no sooner than the former's last result is written. On accumulators that overlap otherwise it enters
//!   when all is written.

pub mod cases;

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// What a machine's description says of the array.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub side: usize,
    pub bands: usize,
    pub startup: usize,
    pub control: usize,
}

/// A number as the array computes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Float(f32),
    Integer(i32),
}

/// A rectangle of accumulators and how it is walked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    pub parts: (usize, usize),
    pub bytes: (usize, usize),
    pub strides: [i32; 3],
    pub extents: [u32; 3],
}

/// An instruction of the engine with its operands read.
#[derive(Clone, Debug)]
pub enum Op {
    Load(Load),
    Product(Product),
}

/// Rows of the grid from `row`, columns from `col`; the port takes `port` cycles, the rows leave it in the last of them.
#[derive(Clone, Debug)]
pub struct Load {
    pub row: usize,
    pub col: usize,
    pub port: usize,
    pub values: Vec<Vec<Number>>,
}

/// A product, or a transpose, whose results cross the array unchanged.
#[derive(Clone, Debug)]
pub struct Product {
    pub row: usize,
    pub rows: usize,
    pub col: usize,
    pub cols: usize,
    /// MACs of an element in 4 cycles.
    pub rate: usize,
    /// `[column][row]`, less its zero point, times its scale.
    pub moving: Vec<Vec<Number>>,
    /// Zero point of the stationary operand.
    pub zero: i32,
    /// Of the stationary operand, `[row][column of the grid]`.
    pub scales: Option<Vec<Vec<f64>>>,
    pub region: Region,
    /// Byte of each column's result in a partition.
    pub places: Vec<usize>,
    pub continues: bool,
    /// Results of a transpose, `[column][column of the grid]`.
    pub turned: Option<Vec<Vec<Number>>>,
}

/// When an instruction entered its unit and was complete, in cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// Columns sent in one cycle, and their sums on the way.
struct Beat {
    op: usize,
    leads: bool,
    columns: Vec<usize>,
    /// `[column of the beat][column of the grid]`.
    sums: Vec<Vec<Number>>,
}

#[derive(Clone, Copy)]
struct Element {
    stationary: Option<Number>,
    /// The second plane.
    loaded: Option<Number>,
}

struct Feeding {
    op: usize,
    sent: usize,
    credit: usize,
    cycles: usize,
}

struct Loading {
    op: usize,
    /// Cycles since it entered.
    age: usize,
}

/// A product that is not written.
struct Pending {
    op: usize,
    leader_out: bool,
    left: usize,
}

/// Registers in a row, each holding a beat or a row of a load (load, row), or nothing.
type Line<T> = VecDeque<Option<T>>;

fn line<T: Clone>(len: usize) -> Line<T> {
    std::iter::repeat_n(None, len).collect()
}

/// Put in at one end what is given, take out at the other.
fn shift<T>(line: &mut Line<T>, given: Option<T>) -> Option<T> {
    line.push_front(given);
    line.pop_back().flatten()
}

/// The columns of registers around one lane of sums.
struct Lane {
    above: Vec<Line<usize>>,
    inside: Vec<Vec<Option<usize>>>,
    below: Vec<Line<usize>>,
}

/// The matrix engine.
pub struct Array<'a> {
    machine: Machine,
    ops: &'a [Op],
    /// `[partition][entry of 4 bytes]`.
    pub acc: Vec<Vec<Number>>,
    /// Of each instruction.
    pub spans: Vec<Span>,
    cycle: usize,
    elements: Vec<Vec<Element>>,
    beats: Vec<Beat>,
    /// By band; a product over several is fed by the first, which the others point to.
    feeding: Vec<Option<Feeding>>,
    held: Vec<Option<usize>>,
    stages: Vec<Line<usize>>,
    skew: Vec<Line<usize>>,
    x: Vec<Vec<Option<usize>>>,
    lanes: Vec<Lane>,
    out: Vec<usize>,
    pending: Vec<Pending>,
    loading: Vec<Loading>,
    load_stages: Line<(usize, usize)>,
    load_skew: Vec<Line<(usize, usize)>>,
    load_x: Vec<Vec<Option<(usize, usize)>>>,
}

impl<'a> Array<'a> {
    /// An idle engine with these accumulators and nothing loaded.
    pub fn new(machine: Machine, ops: &'a [Op], acc: Vec<Vec<Number>>) -> Self {
        let n = machine.side;
        let lane = |_| Lane {
            above: (0..n).map(line).collect(),
            inside: vec![vec![None; n]; n],
            below: (0..n).map(|c| line(n - 1 - c)).collect(),
        };
        Self {
            machine,
            ops,
            acc,
            spans: vec![Span::default(); ops.len()],
            cycle: 0,
            elements: vec![vec![Element { stationary: None, loaded: None }; n]; n],
            beats: Vec::new(),
            feeding: (0..machine.bands).map(|_| None).collect(),
            held: vec![None; machine.bands],
            stages: (0..machine.bands).map(|_| line(machine.startup)).collect(),
            skew: (0..n).map(line).collect(),
            x: vec![vec![None; n]; n],
            lanes: (0..machine.bands).map(lane).collect(),
            out: Vec::new(),
            pending: Vec::new(),
            loading: Vec::new(),
            load_stages: line(machine.startup),
            load_skew: (0..n).map(line).collect(),
            load_x: vec![vec![None; n]; n],
        }
    }

    /// Run everything; cycles count from 0.
    pub fn run(&mut self) {
        let (mut next, mut may_issue) = (0, 0);
        while next < self.ops.len() || !self.pending.is_empty() || !self.loading.is_empty() {
            self.write();
            if next < self.ops.len() && self.cycle >= may_issue && self.accepts(next) {
                self.enter(next);
                (next, may_issue) = (next + 1, self.cycle + self.machine.control);
            }
            self.finish();
            self.compute();
            let read = self.feed();
            self.advance(read);
            self.load();
            self.cycle += 1;
            assert!(self.cycle < 100_000, "the model stands still");
        }
    }

    fn product(&self, op: usize) -> &'a Product {
        let Op::Product(product) = &self.ops[op] else { panic!("instruction {op} is a load") };
        product
    }

    fn load_of(&self, op: usize) -> &'a Load {
        let Op::Load(load) = &self.ops[op] else { panic!("instruction {op} is a product") };
        load
    }

    fn bands(&self, row: usize, rows: usize) -> RangeInclusive<usize> {
        let each = self.machine.side / self.machine.bands;
        row / each..=(row + rows - 1) / each
    }

    /// Cycles in which a feeder is busy with a product.
    fn feeding_cycles(&self, product: &Product) -> usize {
        (4 * product.places.len()).div_ceil(product.rate)
    }

    fn accepts(&self, op: usize) -> bool {
        let product = match &self.ops[op] {
            Op::Load(_) => return self.loading.iter().all(|other| other.age >= self.load_of(other.op).port),
            Op::Product(product) => product,
        };
        let bands = self.bands(product.row, product.rows);
        let loaded = self.loading.iter().all(|other| {
            let load = self.load_of(other.op);
            let other = self.bands(load.row, load.values.len());
            other.end() < bands.start() || bands.end() < other.start()
        });
        let free = bands.clone().all(|band| self.held[band].is_none());
        free && loaded && self.pending.iter().all(|former| self.may_follow(product, former))
    }

    fn may_follow(&self, product: &Product, former: &Pending) -> bool {
        let (a, b) = (product.region, self.product(former.op).region);
        let meet = |x: (usize, usize), y: (usize, usize)| x.0 < y.1 && y.0 < x.1;
        if !meet(a.parts, b.parts) || !meet(a.bytes, b.bytes) {
            return true;
        }
        let depth = self.machine.startup + 2 * self.machine.side;
        let written = self.spans[former.op].start + self.feeding_cycles(self.product(former.op)) + depth;
        a == b && former.leader_out && self.cycle + self.feeding_cycles(product) >= written
    }

    fn enter(&mut self, op: usize) {
        self.spans[op].start = self.cycle;
        match &self.ops[op] {
            Op::Load(_) => self.loading.push(Loading { op, age: 0 }),
            Op::Product(product) => {
                let bands = self.bands(product.row, product.rows);
                self.feeding[*bands.start()] = Some(Feeding { op, sent: 0, credit: 0, cycles: 0 });
                bands.for_each(|band| self.held[band] = Some(op));
                self.pending.push(Pending { op, leader_out: false, left: product.places.len() });
            }
        }
    }

    /// What has left the array is written.
    fn write(&mut self) {
        for beat in std::mem::take(&mut self.out) {
            let Beat { op, leads, columns, sums } = &self.beats[beat];
            let product = self.product(*op);
            for (column, sums) in columns.iter().zip(sums) {
                for (c, sum) in sums.iter().enumerate().skip(product.col).take(product.cols) {
                    self.acc[c][product.places[*column] / 4] = *sum;
                }
            }
            let pending = self.pending.iter_mut().find(|pending| pending.op == *op).expect("not written yet");
            pending.leader_out |= leads;
            pending.left -= columns.len();
        }
    }

    /// Products whose last results are written in this cycle are complete at its end.
    fn finish(&mut self) {
        for done in self.pending.extract_if(.., |pending| pending.left == 0) {
            self.spans[done.op].end = self.cycle + 1;
        }
    }

    /// Every element with a beat of its row multiplies and adds to the sum that passes.
    fn compute(&mut self) {
        for r in 0..self.machine.side {
            for c in 0..self.machine.side {
                let Some(number) = self.x[r][c] else { continue };
                let beat = &mut self.beats[number];
                let Op::Product(product) = &self.ops[beat.op] else { panic!("a load is no beat") };
                let element = &mut self.elements[r][c];
                if beat.leads && element.loaded.is_some() {
                    element.stationary = element.loaded.take();
                }
                let lane = product.row * self.machine.bands / self.machine.side;
                assert_eq!(self.lanes[lane].inside[r][c], Some(number), "sum and operand meet");
                if product.turned.is_some() || !(product.col..product.col + product.cols).contains(&c) {
                    continue;
                }
                for (column, sums) in beat.columns.iter().zip(&mut beat.sums) {
                    let x = product.moving[*column][r - product.row];
                    let scale = product.scales.as_ref().map(|scales| scales[r - product.row][c]);
                    let s = element.stationary.expect("something is loaded");
                    sums[c] = multiply_add(s, x, sums[c], product.zero, scale);
                }
            }
        }
    }

    /// Each feeder sends; the beats, by band, that read their accumulators now.
    fn feed(&mut self) -> Vec<Option<usize>> {
        let mut read = Vec::new();
        for band in 0..self.machine.bands {
            let mut sent = None;
            if let Some(feeding) = &mut self.feeding[band] {
                let op = feeding.op;
                let Op::Product(product) = &self.ops[op] else { panic!("a load is not fed") };
                feeding.credit += product.rate;
                let columns = (feeding.credit / 4).min(product.places.len() - feeding.sent);
                feeding.credit -= 4 * columns;
                let columns: Vec<usize> = (feeding.sent..feeding.sent + columns).collect();
                feeding.sent += columns.len();
                feeding.cycles += 1;
                let leads = feeding.cycles == 1;
                if leads || !columns.is_empty() {
                    sent = Some(self.beats.len());
                    self.beats.push(Beat { op, leads, columns, sums: Vec::new() });
                }
                if feeding.sent == product.places.len() {
                    self.feeding[band] = None;
                    self.held.iter_mut().filter(|held| **held == Some(op)).for_each(|held| *held = None);
                }
            }
            let beat = shift(&mut self.stages[band], sent);
            if let Some(beat) = beat {
                self.read(beat);
            }
            read.push(beat);
        }
        read
    }

    /// A beat's sums start at zero or where the accumulators stand.
    fn read(&mut self, beat: usize) {
        let product = self.product(self.beats[beat].op);
        let zero = match product.moving.first().and_then(|column| column.first()) {
            Some(Number::Integer(_)) => Number::Integer(0),
            _ => Number::Float(0.0),
        };
        let start = |column: &usize| -> Vec<Number> {
            match &product.turned {
                Some(turned) => turned[*column].clone(),
                None if product.continues => {
                    self.acc.iter().map(|part| part[product.places[*column] / 4]).collect()
                }
                None => vec![zero; self.machine.side],
            }
        };
        self.beats[beat].sums = self.beats[beat].columns.iter().map(start).collect();
    }

    /// Everything in the array moves on by one register.
    fn advance(&mut self, read: Vec<Option<usize>>) {
        let side = self.machine.side;
        for r in 0..side {
            let mine = |beat: &usize| {
                let product = self.product(self.beats[*beat].op);
                (product.row..product.row + product.rows).contains(&r)
            };
            let mut given = read.iter().flatten().copied().filter(mine);
            let (first, second) = (given.next(), given.next());
            assert!(second.is_none(), "two beats for row {r}");
            drop(given);
            let entering = shift(&mut self.skew[r], first);
            self.x[r].rotate_right(1);
            self.x[r][0] = entering;
        }
        for (lane, read) in self.lanes.iter_mut().zip(&read) {
            let mut leaving = Vec::new();
            for c in 0..side {
                let left = shift(&mut lane.below[c], lane.inside[side - 1][c]);
                leaving.push(left);
                for r in (1..side).rev() {
                    lane.inside[r][c] = lane.inside[r - 1][c];
                }
                lane.inside[0][c] = shift(&mut lane.above[c], *read);
            }
            assert!(leaving.iter().all(|left| *left == leaving[0]), "a beat leaves all columns at once");
            self.out.extend(leaving[0]);
        }
    }

    /// Rows of loads move on: from the port through the stages and registers along their row of elements.
    fn load(&mut self) {
        // What stands at an element is there at the end of the cycle, behind a beat that leads.
        for r in 0..self.machine.side {
            for c in 0..self.machine.side {
                if let Some((op, row)) = self.load_x[r][c] {
                    let load = self.load_of(op);
                    if let Some(value) = c.checked_sub(load.col).and_then(|c| load.values[row].get(c)) {
                        self.elements[r][c].loaded = Some(*value);
                    }
                }
            }
        }
        let mut from_port = None;
        for loading in &mut self.loading {
            let Op::Load(load) = &self.ops[loading.op] else { panic!("a product is not loaded") };
            let waits = load.port - load.values.len();
            if (waits..load.port).contains(&loading.age) {
                from_port = Some((loading.op, loading.age - waits));
            }
            loading.age += 1;
            if loading.age == load.port + self.machine.startup {
                self.spans[loading.op].end = self.cycle + 1;
            }
        }
        self.loading.retain(|loading| self.spans[loading.op].end == 0);
        let staged = shift(&mut self.load_stages, from_port);
        for r in 0..self.machine.side {
            let here = staged.filter(|(op, row)| self.load_of(*op).row + row == r);
            let entering = shift(&mut self.load_skew[r], here);
            self.load_x[r].rotate_right(1);
            self.load_x[r][0] = entering;
        }
    }
}

/// One step of a chain.
fn multiply_add(s: Number, x: Number, sum: Number, zero: i32, scale: Option<f64>) -> Number {
    match (s, x, sum) {
        (Number::Float(s), Number::Float(x), Number::Float(sum)) => {
            let s = scale.map_or(s, |scale| (f64::from(s) * scale) as f32);
            Number::Float(s.mul_add(x, sum))
        }
        (Number::Integer(s), Number::Integer(x), Number::Integer(sum)) => {
            Number::Integer(sum.wrapping_add((s - zero).wrapping_mul(x)))
        }
        _ => panic!("numbers of two kinds"),
    }
}
