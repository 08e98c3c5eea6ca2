//! The order of a program's accesses, worked out the slow way: every stream unrolled, every instruction a node, every
//! semaphore unit an edge, and the transitive closure of it all. It shares nothing with the sanitizer that it judges.

use std::collections::BTreeMap;

use kiln_machine::isa::{AccessPattern, AluOp, Cond, Inst, Operand, Space};
use kiln_machine::program::DeviceSegment;

/// Instructions in a program that is unrolled; more are too many for a closure.
const MOST_NODES: usize = 24_000;
/// Steps after which a stream is taken to run for ever.
const MOST_STEPS: usize = 2_000_000;

/// Bytes that an operand touches: a memory, partitions, and ranges of bytes in each of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bytes {
    memory: u8,
    parts: (u64, u64),
    ranges: Vec<(i64, i64)>,
}

/// What an executed instruction does.
#[derive(Clone, Debug)]
enum Act {
    Wait {
        sem: u8,
        n: u64,
    },
    Signal {
        sem: u8,
        n: u64,
    },
    /// Index of its bytes, and whether it writes them.
    Touch(Vec<(usize, bool)>),
}

#[derive(Clone, Debug)]
struct Node {
    stream: usize,
    pc: u32,
    act: Act,
}

/// A device segment, unrolled.
pub struct Unrolled {
    nodes: Vec<Node>,
    /// Nodes of each stream, in order.
    streams: Vec<Vec<usize>>,
    /// For each set of bytes those that share one with it.
    meets: Vec<Vec<usize>>,
}

/// Which nodes are known to come before which.
pub struct Order {
    /// Whether the node is ever executed.
    reached: Vec<bool>,
    /// For each node a bit for each that comes before it.
    before: Vec<Vec<u64>>,
}

impl Unrolled {
    /// Unrolls a segment; `None` if control depends on data, or there is too much of it.
    pub fn new(segment: &DeviceSegment) -> Option<Unrolled> {
        let mut sets: BTreeMap<Bytes, usize> = BTreeMap::new();
        let mut nodes = Vec::new();
        let mut streams = Vec::new();
        for stream in segment.streams.values() {
            let mut insts = Vec::new();
            let mut pc = 0;
            while pc < stream.words.len() {
                let (inst, words) = Inst::decode(&stream.words[pc..]).ok()?;
                insts.push((pc as u32, inst));
                pc += words;
            }
            let first = nodes.len();
            unroll(&insts, streams.len(), &mut nodes, &mut sets)?;
            streams.push((first..nodes.len()).collect());
        }
        let mut list: Vec<&Bytes> = vec![&EMPTY; sets.len()];
        sets.iter().for_each(|(bytes, index)| list[*index] = bytes);
        let mut written = vec![false; sets.len()];
        for node in &nodes {
            if let Act::Touch(touches) = &node.act {
                touches.iter().filter(|(_, writes)| *writes).for_each(|(set, _)| written[*set] = true);
            }
        }
        let meets = (0..list.len())
            .map(|a| {
                (0..list.len()).filter(|b| (written[a] || written[*b]) && list[a].meets(list[*b])).collect()
            })
            .collect();
        Some(Unrolled { nodes, streams, meets })
    }

    /// The order that the semaphores make.
    pub fn order(&self) -> Order {
        // Which signal gives the last unit that a wait takes.
        let mut given: BTreeMap<u8, Vec<(u64, usize)>> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            if let Act::Signal { sem, n } = node.act {
                let list = given.entry(sem).or_default();
                let total = list.last().map_or(0, |(total, _)| *total) + n;
                list.push((total, i));
            }
        }
        let mut taken: BTreeMap<u8, u64> = BTreeMap::new();
        let mut cause: Vec<Option<Option<usize>>> = vec![None; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            if let Act::Wait { sem, n } = node.act {
                let total = taken.entry(sem).or_default();
                *total += n;
                let list = given.get(&sem).map_or(&[][..], Vec::as_slice);
                cause[i] = Some(list.iter().find(|(upto, _)| upto >= total).map(|(_, signal)| *signal));
            }
        }
        let words = self.nodes.len().div_ceil(64);
        let mut reached = vec![false; self.nodes.len()];
        let mut before: Vec<Vec<u64>> = vec![Vec::new(); self.nodes.len()];
        let mut at = vec![0; self.streams.len()];
        loop {
            let mut moved = false;
            for (stream, at) in self.streams.iter().zip(&mut at) {
                while let Some(&node) = stream.get(*at) {
                    let signal = match cause[node] {
                        // No signal is left for it.
                        Some(None) => break,
                        Some(Some(signal)) if !reached[signal] => break,
                        Some(Some(signal)) => Some(signal),
                        None => None,
                    };
                    let mut mine = vec![0u64; words];
                    for earlier in signal.into_iter().chain((*at > 0).then(|| stream[*at - 1])) {
                        mine.iter_mut().zip(&before[earlier]).for_each(|(mine, other)| *mine |= other);
                        mine[earlier / 64] |= 1 << (earlier % 64);
                    }
                    before[node] = mine;
                    reached[node] = true;
                    *at += 1;
                    moved = true;
                }
            }
            if !moved {
                return Order { reached, before };
            }
        }
    }

    /// Pairs of executed accesses of different streams to common bytes, one of them a write: each with `visit`.
    fn conflicts(&self, reached: &[bool], mut visit: impl FnMut(usize, usize)) {
        let mut users: Vec<Vec<(usize, bool)>> = vec![Vec::new(); self.meets.len()];
        for (i, node) in self.nodes.iter().enumerate().filter(|(i, _)| reached[*i]) {
            let Act::Touch(touches) = &node.act else { continue };
            for (set, writes) in touches {
                for (other, wrote) in self.meets[*set].iter().flat_map(|met| &users[*met]) {
                    if (*writes || *wrote) && self.nodes[*other].stream != node.stream {
                        visit(*other, i);
                    }
                }
            }
            touches.iter().for_each(|(set, writes)| users[*set].push((i, *writes)));
        }
    }

    /// Two conflicting accesses that nothing orders, as (stream, word) each.
    pub fn race(&self, order: &Order) -> Option<[(usize, u32); 2]> {
        let mut found = None;
        self.conflicts(&order.reached, |a, b| {
            if found.is_none() && !order.is_before(a, b) && !order.is_before(b, a) {
                found = Some([a, b].map(|i| (self.nodes[i].stream, self.nodes[i].pc)));
            }
        });
        found
    }

    /// Whether another order of the same nodes orders the same conflicting accesses the same way.
    pub fn same(&self, ours: &Order, other: &Order) -> bool {
        let mut same = ours.reached == other.reached;
        self.conflicts(&ours.reached, |a, b| {
            same &= ours.is_before(a, b) == other.is_before(a, b)
                && ours.is_before(b, a) == other.is_before(b, a);
        });
        same
    }

    /// The same accesses without the waits and signals at this word.
    pub fn without(&self, stream: usize, pc: u32) -> Unrolled {
        let mut nodes = self.nodes.clone();
        for node in nodes.iter_mut().filter(|node| node.stream == stream && node.pc == pc) {
            node.act = Act::Touch(Vec::new());
        }
        Unrolled { nodes, streams: self.streams.clone(), meets: self.meets.clone() }
    }
}

impl Order {
    fn is_before(&self, a: usize, b: usize) -> bool {
        self.before[b].get(a / 64).is_some_and(|word| word >> (a % 64) & 1 == 1)
    }

    /// Whether every instruction is executed.
    pub fn is_complete(&self) -> bool {
        self.reached.iter().all(|reached| *reached)
    }
}

static EMPTY: Bytes = Bytes { memory: 0, parts: (0, 0), ranges: Vec::new() };

impl Bytes {
    fn meets(&self, other: &Bytes) -> bool {
        let parts = self.parts.0 < other.parts.1 && other.parts.0 < self.parts.1;
        self.memory == other.memory && parts && {
            let (mut a, mut b) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
            loop {
                let (Some(x), Some(y)) = (a.peek(), b.peek()) else { return false };
                if x.0 < y.1 && y.0 < x.1 {
                    return true;
                }
                if x.0 < y.0 {
                    a.next()
                } else {
                    b.next()
                };
            }
        }
    }

    /// The bytes of elements of `bits` bits at multiples of strides from a bit.
    fn of(memory: u8, parts: (u64, u64), base: i64, bits: i64, dims: &[(u32, i64)]) -> Bytes {
        let mut elements = vec![base];
        for (n, stride) in dims {
            let before = std::mem::take(&mut elements);
            for i in 0..i64::from(*n) {
                elements.extend(before.iter().map(|element| element + i * stride * bits));
            }
            elements.sort_unstable();
            elements.dedup();
        }
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for element in elements {
            let (start, end) = (element.div_euclid(8), (element + bits + 7).div_euclid(8));
            match ranges.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => ranges.push((start, end)),
            }
        }
        Bytes { memory, parts, ranges }
    }
}

fn unroll(
    insts: &[(u32, Inst)],
    stream: usize,
    nodes: &mut Vec<Node>,
    sets: &mut BTreeMap<Bytes, usize>,
) -> Option<()> {
    let index_of = |pc: u32| insts.iter().position(|(at, _)| *at == pc);
    let mut registers = [0i64; 32];
    let mut patterns = [AccessPattern::default(); 16];
    // Index of the loop, iterations left, registers at entry.
    let mut loops: Vec<(usize, i64, Vec<i64>)> = Vec::new();
    let mut known: BTreeMap<(usize, Vec<i64>, String), Vec<(usize, bool)>> = BTreeMap::new();
    let mut at = 0;
    for _ in 0..MOST_STEPS {
        let Some((pc, inst)) = insts.get(at) else { return Some(()) };
        let value = |reg: u8| if reg == 0 { 0 } else { registers[usize::from(reg)] };
        let mut act = None;
        let mut next = at + 1;
        match *inst {
            Inst::Halt {} => return Some(()),
            Inst::Li { rd, imm } => registers[usize::from(rd.0)] = imm,
            Inst::Alu { op, rd, ra, rb, imm } => {
                let (a, b) = (value(ra.0), value(rb.0).wrapping_add(imm));
                registers[usize::from(rd.0)] = match op {
                    AluOp::Add => a.wrapping_add(b),
                    AluOp::Sub => a.wrapping_sub(b),
                    AluOp::Mul => a.wrapping_mul(b),
                    AluOp::Div => a.checked_div(b)?,
                    AluOp::Mod => a.checked_rem(b)?,
                    AluOp::And => a & b,
                    AluOp::Or => a | b,
                    AluOp::Xor => a ^ b,
                    AluOp::Shl => a << (b & 63),
                    AluOp::Shr => a >> (b & 63),
                    AluOp::Min => a.min(b),
                    AluOp::Max => a.max(b),
                };
            }
            Inst::Br { cond, ra, rb, to } => {
                let (a, b) = (value(ra.0), value(rb.0));
                let taken = match cond {
                    Cond::Al => true,
                    Cond::Eq => a == b,
                    Cond::Ne => a != b,
                    Cond::Lt => a < b,
                    Cond::Ge => a >= b,
                };
                if taken {
                    next = index_of(to.0)?;
                }
            }
            Inst::Loop { count, rc, end, step } => {
                let times = i64::from(count) + value(rc.reg().0);
                if times <= 0 {
                    next = index_of(end.0)? + 1;
                } else {
                    let entry = step.0.iter().map(|(reg, _)| value(reg.0)).collect();
                    loops.push((at, times - 1, entry));
                }
            }
            Inst::Endl {} => {
                let (start, left, entry) = loops.last_mut()?;
                let Inst::Loop { step, .. } = insts[*start].1 else { return None };
                if *left > 0 {
                    *left -= 1;
                    next = *start + 1;
                    for (reg, by) in step.0.iter().filter(|(reg, _)| reg.0 != 0) {
                        registers[usize::from(reg.0)] = registers[usize::from(reg.0)].wrapping_add(*by);
                    }
                } else {
                    for ((reg, _), value) in step.0.iter().zip(entry.iter()) {
                        registers[usize::from(reg.0)] = *value;
                    }
                    loops.pop();
                }
                registers[0] = 0;
            }
            Inst::Apset { ap, pattern } => patterns[usize::from(ap.0)] = pattern,
            // Registers from memory and the clock: not known here.
            Inst::Lds { .. } | Inst::ReadCsr { .. } | Inst::Trap { .. } => return None,
            Inst::Semw { sem, n } => act = Some(Act::Wait { sem: sem.0, n: n.into() }),
            Inst::Sems { sem, n } => act = Some(Act::Signal { sem: sem.0, n: n.into() }),
            _ => {
                let operands = inst.operands();
                let bases: Vec<i64> = operands
                    .iter()
                    .map(|operand| match operand {
                        Operand::OnChip { view, .. } => value(view.reg.reg().0),
                        Operand::Dram { reg, .. } => value(reg.reg().0),
                    })
                    .collect();
                let used: Vec<AccessPattern> = operands
                    .iter()
                    .filter_map(|operand| match operand {
                        Operand::Dram { ap, .. } => Some(patterns[usize::from(ap.0)]),
                        Operand::OnChip { .. } => None,
                    })
                    .collect();
                let touches = known.entry((at, bases.clone(), format!("{used:?}"))).or_insert_with(|| {
                    let one = |(operand, base): (&Operand, &i64)| {
                        let (bytes, writes) = bytes(inst, operand, *base, &patterns)?;
                        let number = sets.len();
                        Some((*sets.entry(bytes).or_insert(number), writes))
                    };
                    operands.iter().zip(&bases).filter_map(one).collect()
                });
                if !touches.is_empty() {
                    act = Some(Act::Touch(touches.clone()));
                }
            }
        }
        if let Some(act) = act {
            if nodes.len() >= MOST_NODES {
                return None;
            }
            nodes.push(Node { stream, pc: *pc, act });
        }
        at = next;
    }
    None
}

/// The bytes of an operand, and whether they are written.
fn bytes(inst: &Inst, operand: &Operand, base: i64, patterns: &[AccessPattern; 16]) -> Option<(Bytes, bool)> {
    match operand {
        Operand::OnChip { role, view, extent, .. } => {
            let shape = extent.resolve(patterns)?;
            let parts = (view.part.into(), u64::from(view.part) + u64::from(shape.parts));
            let dims: Vec<(u32, i64)> = shape.n.into_iter().zip(view.strides.map(i64::from)).collect();
            let memory = if view.space == Space::Spm { 0 } else { 1 };
            let first = (i64::from(view.off) + base) * 8;
            Some((Bytes::of(memory, parts, first, view.dt.bits().into(), &dims), role.writes()))
        }
        Operand::Dram { role, ap, .. } => {
            let pattern = patterns[usize::from(ap.0)];
            let mut dims: Vec<(u32, i64)> = pattern.size.into_iter().zip(pattern.stride).collect();
            if matches!(inst, Inst::Dga { .. } | Inst::Dsc { .. }) {
                // Any row of the table.
                dims.truncate(3);
            }
            if dims.iter().any(|(n, _)| *n == 0) {
                return None;
            }
            let first = (pattern.base as i64 + base) * 8;
            Some((Bytes::of(2, (0, 1), first, pattern.dt.bits().into(), &dims), role.writes()))
        }
    }
}
