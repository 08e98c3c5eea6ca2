//! `tile` programs as data: the tree that passes build and the backend reads.
//!
//! `tile.sub` does not show: an operand is a [`View`] that carries its offsets. Writing a program into a module
//! makes the views into ops again, reading it folds them (chains of views, too) back into the operands.

use crate::nn::{MapKind, Port, ReduceKind, ScanKind, keyword_enum};
use crate::origin::Origin;
use crate::types::{DType, TensorType};

/// A DRAM tensor, by position in [`Program::drams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DramId(pub u32);

/// A buffer, by position in [`Group::bufs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufId(pub u32);

/// A loop variable; unique within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IvId(pub u32);

impl DramId {
    /// Position in [`Program::drams`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl BufId {
    /// Position in [`Group::bufs`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

keyword_enum! {
    /// On-chip memories.
    Space { Spm = "spm", Acc = "acc" }
}

/// Type of an on-chip buffer. Index `i` along axis `part` lives in partition `i mod P`, chunk `i div P`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufType {
    /// Element type: F32 BF16 F16 I32 I8 U8 F8E4M3 F8E5M2; masks are U8 0/1.
    pub dtype: DType,
    /// Extent of each axis of the group, 1 where the tensor lacks it.
    pub shape: Vec<usize>,
    /// Memory; ACC holds F32 and I32 only.
    pub space: Space,
    /// The partition axis.
    pub part: usize,
}

impl BufType {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A box of a buffer: the offset of axis `a` is `offsets[a] + Σ coef[a]·iv`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The buffer.
    pub buf: BufId,
    /// Constant offset along each axis.
    pub offsets: Vec<i64>,
    /// Extent along each axis.
    pub shape: Vec<usize>,
    /// Loop variables with their coefficient along each axis.
    pub ivs: Vec<(IvId, Vec<i64>)>,
}

impl View {
    /// All of a buffer.
    pub fn whole(buf: BufId, ty: &BufType) -> Self {
        View { buf, offsets: vec![0; ty.shape.len()], shape: ty.shape.clone(), ivs: Vec::new() }
    }

    /// True when the view is all of a buffer of this type.
    pub fn is_whole(&self, ty: &BufType) -> bool {
        self.shape == ty.shape && self.ivs.is_empty()
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Where a DRAM access starts and steps: `offset + Σ coef·iv + Σ_a i_a·strides[a]`, in elements of the tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access {
    /// Constant offset.
    pub offset: i64,
    /// Stride of each axis of the on-chip view; 0 broadcasts.
    pub strides: Vec<i64>,
    /// Loop variables with their coefficients.
    pub ivs: Vec<(IvId, i64)>,
}

/// An integer for each element: `base + Σ_a axes[a]·i_a + Σ coef·iv`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affine {
    /// Constant term.
    pub base: i64,
    /// Coefficient of the index along each axis.
    pub axes: Vec<i64>,
    /// Loop variables with their coefficients.
    pub ivs: Vec<(IvId, i64)>,
}

/// A source of an elementwise op.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A buffer; an extent of 1 broadcasts along free axes.
    View(View),
    /// A number.
    Number(f64),
}

/// A statement of `tile`; the meaning of each is in docs/ir.md.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are the operands and attributes of docs/ir.md
pub enum Op {
    Load { dram: DramId, at: Access, dst: View },
    Store { src: View, dram: DramId, at: Access },
    Gather { dram: DramId, at: Access, idx: View, row_stride: i64, rows: i64, dst: View },
    Scatter { src: View, idx: View, dram: DramId, at: Access, row_stride: i64, rows: i64 },
    Fill { dst: View, value: f64 },
    Iota { dst: View, form: Affine },
    Matmul { acc: View, s: View, x: View, accumulate: bool },
    Map { kind: MapKind, dst: View, srcs: Vec<Source> },
    Cast { dst: View, src: View },
    Mask { dst: View, src: View, form: Affine, fill: f64 },
    Reduce { kind: ReduceKind, dst: View, src: View, accumulate: bool },
    Transpose { dst: View, src: View },
    Scan { kind: ScanKind, dst: View, src: View, axis: usize, exclusive: bool, reverse: bool },
    TopK { values: View, indices: View, src: View, axis: usize, largest: bool },
    Shuffle { dst: View, src: View, idx: View, axis: usize },
}

impl Op {
    /// The op's name in the IR.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Load { .. } => "tile.load",
            Op::Store { .. } => "tile.store",
            Op::Gather { .. } => "tile.gather",
            Op::Scatter { .. } => "tile.scatter",
            Op::Fill { .. } => "tile.fill",
            Op::Iota { .. } => "tile.iota",
            Op::Matmul { .. } => "tile.matmul",
            Op::Map { .. } => "tile.map",
            Op::Cast { .. } => "tile.cast",
            Op::Mask { .. } => "tile.mask",
            Op::Reduce { .. } => "tile.reduce",
            Op::Transpose { .. } => "tile.transpose",
            Op::Scan { .. } => "tile.scan",
            Op::TopK { .. } => "tile.topk",
            Op::Shuffle { .. } => "tile.shuffle",
        }
    }

    /// The views it writes, and whether it also reads them (an accumulation).
    pub fn writes(&self) -> Vec<(&View, bool)> {
        match self {
            Op::Store { .. } | Op::Scatter { .. } => vec![],
            Op::Matmul { acc, accumulate, .. } => vec![(acc, *accumulate)],
            Op::Reduce { dst, accumulate, .. } => vec![(dst, *accumulate)],
            Op::TopK { values, indices, .. } => vec![(values, false), (indices, false)],
            Op::Load { dst, .. }
            | Op::Gather { dst, .. }
            | Op::Fill { dst, .. }
            | Op::Iota { dst, .. }
            | Op::Map { dst, .. }
            | Op::Cast { dst, .. }
            | Op::Mask { dst, .. }
            | Op::Transpose { dst, .. }
            | Op::Scan { dst, .. }
            | Op::Shuffle { dst, .. } => vec![(dst, false)],
        }
    }

    /// The views it reads; an accumulated destination is in [`Op::writes`].
    pub fn reads(&self) -> Vec<&View> {
        match self {
            Op::Load { .. } | Op::Fill { .. } | Op::Iota { .. } => vec![],
            Op::Gather { idx, .. } => vec![idx],
            Op::Scatter { src, idx, .. } | Op::Shuffle { src, idx, .. } => vec![src, idx],
            Op::Matmul { s, x, .. } => vec![s, x],
            Op::Map { srcs, .. } => {
                srcs.iter().filter_map(|s| if let Source::View(v) = s { Some(v) } else { None }).collect()
            }
            Op::Store { src, .. }
            | Op::Cast { src, .. }
            | Op::Mask { src, .. }
            | Op::Reduce { src, .. }
            | Op::Transpose { src, .. }
            | Op::Scan { src, .. }
            | Op::TopK { src, .. } => vec![src],
        }
    }

    /// The DRAM tensor it reads or writes, with true for a write.
    pub fn dram(&self) -> Option<(DramId, bool)> {
        match self {
            Op::Load { dram, .. } | Op::Gather { dram, .. } => Some((*dram, false)),
            Op::Store { dram, .. } | Op::Scatter { dram, .. } => Some((*dram, true)),
            _ => None,
        }
    }
}

/// A node of a group's body.
#[allow(clippy::large_enum_variant)] // nearly all nodes are ops
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// A buffer comes to life; inside a loop a fresh instance each iteration, in a ring of at most `depth` slots.
    Alloc {
        /// The buffer.
        buf: BufId,
        /// Upper bound of the ring.
        depth: usize,
    },
    /// `iv` runs from 0 to `trip`.
    For {
        /// The loop variable.
        iv: IvId,
        /// Number of iterations, at least 1.
        trip: usize,
        /// What is repeated.
        body: Vec<Stmt>,
    },
    /// An op with where it comes from.
    Op {
        /// The op.
        op: Op,
        /// The ONNX nodes it does the work of.
        origin: Origin,
    },
}

/// Groups run one after another; all on-chip contents end with the group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Symbol name.
    pub name: String,
    /// Types of the buffers; all of one rank.
    pub bufs: Vec<BufType>,
    /// Statements in order.
    pub body: Vec<Stmt>,
}

impl Group {
    /// Visits every op in program order (each once, whatever the trip counts).
    pub fn for_each_op<'a>(&'a self, visit: &mut impl FnMut(&'a Op, &'a Origin)) {
        fn walk<'a>(body: &'a [Stmt], visit: &mut impl FnMut(&'a Op, &'a Origin)) {
            for stmt in body {
                match stmt {
                    Stmt::Alloc { .. } => {}
                    Stmt::For { body, .. } => walk(body, visit),
                    Stmt::Op { op, origin } => visit(op, origin),
                }
            }
        }
        walk(&self.body, visit);
    }
}

/// `rows` rows of `row_bytes` bytes of a file, and where they lie in the tensor; all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Number of the file in `nn.files`.
    pub file: u32,
    /// First byte in the file.
    pub file_offset: u64,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Distance of rows in the file.
    pub file_pitch: u64,
    /// First byte in the tensor.
    pub offset: u64,
    /// Distance of rows in the tensor.
    pub pitch: u64,
}

/// The role of a DRAM tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DramKind {
    /// Bound by the user before a run.
    Input(Port),
    /// Given to the user after a run.
    Output(Port),
    /// Bytes of files, placed by address.
    Weight(Vec<Part>),
    /// The result of this `nn` function without arguments, evaluated once.
    Fold(String),
    /// Lives between groups.
    Temp,
}

/// A dense row-major array in DRAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dram {
    /// Symbol name.
    pub name: String,
    /// Role.
    pub kind: DramKind,
    /// Element type and shape.
    pub ty: TensorType,
    /// The ONNX nodes or tensors it comes from.
    pub origin: Origin,
}

/// A `tile.program`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Symbol name.
    pub name: String,
    /// DRAM tensors.
    pub drams: Vec<Dram>,
    /// Groups in order.
    pub groups: Vec<Group>,
}

impl Program {
    /// The DRAM tensor called `name`.
    pub fn find_dram(&self, name: &str) -> Option<DramId> {
        self.drams.iter().position(|d| d.name == name).map(|i| DramId(i as u32))
    }
}
