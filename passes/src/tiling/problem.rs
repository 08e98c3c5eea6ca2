//! A group as the tile solver sees it: positions, tensors with strides, ops; no names and no addresses.
//!
//! Two groups with equal problems have equal schedules, so a problem is also the key of the solver's memo: the
//! layers of a model differ in weights and addresses only and are solved once.

use kiln_ir::nn::{MapKind, ReduceKind, ScanKind};
use kiln_ir::types::{DType, Scalar};

/// A set of axis positions, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AxisSet(pub u32);

impl AxisSet {
    /// Whether position `axis` is in the set.
    pub fn has(self, axis: usize) -> bool {
        self.0 >> axis & 1 == 1
    }

    /// The set with `axis` added.
    pub fn with(self, axis: usize) -> Self {
        AxisSet(self.0 | 1 << axis)
    }

    /// Union.
    pub fn or(self, other: Self) -> Self {
        AxisSet(self.0 | other.0)
    }

    /// Difference.
    pub fn minus(self, other: Self) -> Self {
        AxisSet(self.0 & !other.0)
    }

    /// Intersection.
    pub fn and(self, other: Self) -> Self {
        AxisSet(self.0 & other.0)
    }

    /// Whether no axis is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The positions, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..32).filter(move |&a| self.has(a))
    }

    /// The last position, if any.
    pub fn last(self) -> Option<usize> {
        (self.0 != 0).then(|| 31 - self.0.leading_zeros() as usize)
    }
}

/// A set of ops of one problem, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpSet(u128);

impl OpSet {
    /// The most ops that a problem may have.
    pub const MOST: usize = u128::BITS as usize;

    /// The set with `op` added.
    pub fn with(self, op: usize) -> Self {
        OpSet(self.0 | 1 << op)
    }

    /// Union.
    pub fn or(self, other: Self) -> Self {
        OpSet(self.0 | other.0)
    }

    /// Whether some op is in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The ops, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let op = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(op)
        })
    }
}

impl FromIterator<usize> for OpSet {
    fn from_iter<I: IntoIterator<Item = usize>>(ops: I) -> Self {
        ops.into_iter().fold(OpSet::default(), OpSet::with)
    }
}

/// How a tensor lies in DRAM: element strides by position (0 where it lacks the axis) and the stored type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// Elements between neighbours along each position.
    pub strides: Vec<i64>,
    /// The element type in DRAM; the DMA converts.
    pub dtype: DType,
}

/// Where a tensor lives on chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// The scratchpad.
    Spm,
    /// The accumulator memory: results of contracts only.
    Acc,
}

/// A tensor of a group: loaded, produced, stored, or several of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tensor {
    /// Extent at each position, 1 where the tensor lacks the axis.
    pub shape: Vec<u64>,
    /// Element type on chip.
    pub dtype: DType,
    /// Memory.
    pub space: Space,
    /// Where it is read from, for an input of the group.
    pub load: Option<Access>,
    /// Where it is written to, for an output of the group.
    pub store: Option<Access>,
}

impl Tensor {
    /// Whether it is only read, with the same elements at every index along `axis`.
    pub fn repeats(&self, axis: usize) -> bool {
        let is_constant = |a: &Access| a.strides[axis] == 0;
        self.shape[axis] > 1 && self.store.is_none() && self.load.as_ref().is_some_and(is_constant)
    }

    /// Positions along which its elements differ.
    pub fn varies(&self) -> AxisSet {
        self.axes().iter().filter(|&a| !self.repeats(a)).fold(AxisSet::default(), AxisSet::with)
    }

    /// Positions with an extent above one.
    pub fn axes(&self) -> AxisSet {
        let mut set = AxisSet::default();
        for (axis, &extent) in self.shape.iter().enumerate() {
            if extent > 1 {
                set = set.with(axis);
            }
        }
        set
    }
}

/// An operand: a tensor of the problem or an immediate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum In {
    /// Tensor by index.
    Tensor(usize),
    /// A scalar in the instruction.
    Scalar(Scalar),
}

/// What an op computes; axes are positions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// Elementwise.
    Map(MapKind),
    /// Element type conversion.
    Cast,
    /// Reduction over the axes that the result lacks.
    Reduce(ReduceKind),
    /// Sum of products over the axes that the result lacks.
    Contract,
    /// Nothing: its operand is loaded and stored again.
    Copy,
    /// A constant everywhere.
    Fill(Scalar),
    /// Index along `axis`.
    Iota {
        /// The counted position.
        axis: usize,
    },
    /// `out[i] = data[Σ stride·i + index·row_stride]`; operand 0 is the index, the data stays in DRAM.
    Gather {
        /// Strides of the data over the result's positions.
        data: Access,
        /// Elements between rows.
        row_stride: i64,
        /// Number of rows; an index outside is a trap.
        rows: u64,
    },
    /// The reverse of a gather: operands are the value and the index; the result is in DRAM.
    Scatter {
        /// Strides of the target over the value's positions.
        data: Access,
        /// Elements between rows.
        row_stride: i64,
        /// Number of rows.
        rows: u64,
    },
    /// Cumulative reduction along `axis`.
    Scan {
        /// What is accumulated.
        kind: ScanKind,
        /// Along which position.
        axis: usize,
        /// Whether the element itself is left out.
        exclusive: bool,
        /// Whether it runs from the end.
        reverse: bool,
    },
    /// The `k` greatest or least along `axis`, sorted: two results, values and i32 indices.
    TopK {
        /// Along which position.
        axis: usize,
        /// Greatest first.
        largest: bool,
    },
}

/// One op.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op {
    /// What it computes.
    pub kind: OpKind,
    /// Operands.
    pub ins: Vec<In>,
    /// Results (tensor indices): one; two for `TopK`; none for `Scatter`.
    pub outs: Vec<usize>,
}

impl Op {
    /// Operand tensors.
    pub fn tensors(&self) -> impl Iterator<Item = usize> + '_ {
        self.ins.iter().filter_map(|i| match i {
            In::Tensor(t) => Some(*t),
            In::Scalar(_) => None,
        })
    }
}

/// A group to be tiled. The last position is a unit axis, where scalars and degenerate contracts find a partition axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// Extent of each position.
    pub extents: Vec<u64>,
    /// Tensors.
    pub tensors: Vec<Tensor>,
    /// Ops in a topological order.
    pub ops: Vec<Op>,
}

impl Problem {
    /// The unit position.
    pub fn unit(&self) -> usize {
        self.extents.len() - 1
    }

    /// Positions that `op` runs over.
    pub fn touched(&self, op: usize) -> AxisSet {
        let op = &self.ops[op];
        op.tensors()
            .chain(op.outs.iter().copied())
            .fold(AxisSet::default(), |s, t| s.or(self.tensors[t].axes()))
    }

    /// Positions that `op` reduces: in an operand, not in the result. Empty for movement and elementwise ops.
    pub fn reduced(&self, op: usize) -> AxisSet {
        let o = &self.ops[op];
        match o.kind {
            OpKind::Reduce(_) | OpKind::Contract => {
                let ins = o.tensors().fold(AxisSet::default(), |s, t| s.or(self.tensors[t].axes()));
                ins.minus(self.tensors[o.outs[0]].axes())
            }
            _ => AxisSet::default(),
        }
    }

    /// Positions of `op` that must not be cut: the axis of a scan or a selection, argument reductions.
    pub fn uncut(&self, op: usize) -> AxisSet {
        match &self.ops[op].kind {
            OpKind::Scan { axis, .. } | OpKind::TopK { axis, .. } => AxisSet::default().with(*axis),
            OpKind::Reduce(ReduceKind::Argmax | ReduceKind::Argmin) => self.reduced(op),
            _ => AxisSet::default(),
        }
    }

    /// Whether the order of the chain over the reduced axes shows in the result.
    pub fn is_chain(&self, op: usize) -> bool {
        matches!(self.ops[op].kind, OpKind::Contract | OpKind::Reduce(ReduceKind::Sum | ReduceKind::Prod))
    }

    /// The op that produces `tensor`.
    pub fn producer(&self, tensor: usize) -> Option<usize> {
        self.ops.iter().position(|o| o.outs.contains(&tensor))
    }
}

/// What is asked of a problem again and again, worked out once.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Axes of each tensor.
    pub axes: Vec<AxisSet>,
    /// Axes of each tensor along which its elements differ.
    pub varies: Vec<AxisSet>,
    /// Axes that each op runs over.
    pub touched: Vec<AxisSet>,
    /// Axes that each op reduces.
    pub reduced: Vec<AxisSet>,
    /// Axes that each op needs whole.
    pub uncut: Vec<AxisSet>,
    /// Ops that read or write each tensor, ascending.
    pub users: Vec<Vec<usize>>,
    /// The same as sets.
    pub referring: Vec<OpSet>,
    /// The op that makes each tensor.
    pub producer: Vec<Option<usize>>,
    /// The op after which each stored tensor is stored.
    pub writer: Vec<Option<usize>>,
    /// Ops that make an operand of each op.
    pub before: Vec<OpSet>,
}

impl Facts {
    /// The facts of `problem`.
    pub fn new(problem: &Problem) -> Self {
        let ops = 0..problem.ops.len();
        let users = |t: usize| {
            let refers =
                |o: &usize| problem.ops[*o].outs.contains(&t) || problem.ops[*o].tensors().any(|x| x == t);
            ops.clone().filter(refers).collect()
        };
        let users: Vec<Vec<usize>> = (0..problem.tensors.len()).map(users).collect();
        let producer: Vec<Option<usize>> = (0..problem.tensors.len()).map(|t| problem.producer(t)).collect();
        let writer = |t: usize| {
            let copies = |o: &Op| matches!(o.kind, OpKind::Copy) && o.tensors().any(|x| x == t);
            producer[t].or_else(|| problem.ops.iter().position(copies))
        };
        let makes = |o: usize| -> OpSet {
            let read: Vec<usize> = problem.ops[o].tensors().collect();
            ops.clone().filter(|&b| problem.ops[b].outs.iter().any(|t| read.contains(t))).collect()
        };
        Facts {
            axes: problem.tensors.iter().map(Tensor::axes).collect(),
            varies: problem.tensors.iter().map(Tensor::varies).collect(),
            touched: ops.clone().map(|o| problem.touched(o)).collect(),
            reduced: ops.clone().map(|o| problem.reduced(o)).collect(),
            uncut: ops.clone().map(|o| problem.uncut(o)).collect(),
            referring: users.iter().map(|list| list.iter().copied().collect()).collect(),
            writer: (0..problem.tensors.len()).map(writer).collect(),
            before: ops.clone().map(makes).collect(),
            users,
            producer,
        }
    }
}
