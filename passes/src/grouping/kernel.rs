//! The named-axis graph as work and storage: which nodes compute, which are only addresses, and where each value lies
//! in DRAM when it is not kept on chip.
//!
//! Slices, reversals, renamings, broadcasts and row-major re-readings are strides on the storage of their operand;
//! concatenations and paddings are storage that several producers fill. None of them costs an instruction. What is made
//! of weights only is storage too ([`super::recipe`]).

mod maker;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use crate::axes::{AxisId, Graph, NodeId};
use kiln_ir::nn::{MapKind, ReduceKind, ScanKind};
use kiln_ir::tile::Part;
use kiln_ir::types::{DType, Scalar};

use crate::lower::LowerError;
use maker::Maker;

/// A DRAM array by index into [`Kernel::arrays`].
pub type ArrayId = usize;
/// A value by index into [`Kernel::values`]; graph nodes come first, under their own numbers.
pub type ValueId = usize;

/// What a DRAM array is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArrayKind {
    /// Argument number.
    Input(usize),
    /// Result number.
    Output(usize),
    /// Bytes of a model file.
    Weight {
        /// File number of the module.
        file: u32,
        /// First byte.
        offset: u64,
    },
    /// Weights placed side by side.
    Placed(Vec<Part>),
    /// A node of the graph that depends on constants only.
    Fold(NodeId),
    /// Written and read by groups.
    Temp,
}

/// A dense array in DRAM.
#[derive(Clone, Debug)]
pub struct Array {
    /// What it is.
    pub kind: ArrayKind,
    /// Stored type.
    pub dtype: DType,
    /// Extents, row-major.
    pub shape: Vec<u64>,
}

/// Where a value lies: element offset and strides in an array; an axis without a stride repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The array.
    pub array: ArrayId,
    /// Element offset of index zero.
    pub offset: i64,
    /// Elements between neighbours, by axis.
    pub strides: BTreeMap<AxisId, i64>,
}

impl Home {
    /// The stride along `axis`, 0 where the storage repeats.
    pub fn stride(&self, axis: AxisId) -> i64 {
        self.strides.get(&axis).copied().unwrap_or(0)
    }
}

/// A value: what an op makes or what lies in DRAM.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its axes, in storage order of a fresh array.
    pub axes: Vec<AxisId>,
    /// Element type on chip (`Bool` is `U8`).
    pub dtype: DType,
    /// Its storage, once known.
    pub home: Option<Home>,
    /// Ops that must have run before the storage holds the value.
    pub writers: Vec<usize>,
    /// The op that makes it on chip, none for leaves and views.
    pub producer: Option<usize>,
    /// Whether its storage is read by a view or is a result of the program.
    pub is_stored: bool,
}

/// What an op of the kernel computes, over named axes.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Elementwise.
    Map(MapKind),
    /// Element conversion.
    Cast,
    /// Reduction over the axes, in chain order.
    Reduce(ReduceKind, Vec<AxisId>),
    /// Contraction over the axes, in chain order.
    Contract(Vec<AxisId>),
    /// A constant.
    Fill(Scalar),
    /// Index along an axis.
    Iota(AxisId),
    /// Rows of the data's storage picked by the operand.
    Gather {
        /// The data value; read in DRAM.
        data: ValueId,
        /// The data's axis that is picked from.
        axis: AxisId,
    },
    /// Cumulative.
    Scan {
        /// What is accumulated.
        kind: ScanKind,
        /// Along which axis.
        axis: AxisId,
        /// Element itself left out.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    },
    /// Selection along `axis` to the first elements along `to`; results are values and indices.
    TopK {
        /// The axis selected from.
        axis: AxisId,
        /// The result's axis, none for one element.
        to: Option<AxisId>,
        /// Greatest first.
        largest: bool,
    },
    /// From one storage to another.
    Copy,
    /// Rows of the value written to where the index says; operands: value, index.
    Scatter {
        /// The storage written to (strides over the value's axes).
        target: Home,
        /// Elements between rows.
        row_stride: i64,
        /// Number of rows.
        rows: u64,
    },
}

/// An operand of an op.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A value, on chip or from its storage.
    Value(ValueId),
    /// A scalar.
    Scalar(Scalar),
}

/// An op of the kernel.
#[derive(Clone, Debug)]
pub struct KernelOp {
    /// What it computes.
    pub work: Work,
    /// Operands.
    pub ins: Vec<Source>,
    /// Results; for `Copy` the value stands for the target storage.
    pub outs: Vec<ValueId>,
    /// Origins: indices into the graph's names.
    pub origins: BTreeSet<u32>,
    /// Ops that must run before it, through storage that it reads as a view or fills in part.
    pub after: Vec<usize>,
}

/// A program as ops between storages.
#[derive(Clone, Debug)]
pub struct Kernel<'g> {
    /// The graph it was made from.
    pub graph: &'g Graph,
    /// DRAM arrays.
    pub arrays: Vec<Array>,
    /// Values.
    pub values: Vec<Value>,
    /// Ops in a topological order.
    pub ops: Vec<KernelOp>,
}

/// The on-chip element type of a graph dtype.
pub fn chip_dtype(dtype: DType) -> DType {
    if dtype == DType::Bool { DType::U8 } else { dtype }
}

impl<'g> Kernel<'g> {
    /// The kernel of `graph`.
    ///
    /// # Errors
    /// [`LowerError::Unsupported`] for a node that the machine has no way to run.
    pub fn new(graph: &'g Graph) -> Result<Self, LowerError> {
        Maker::new(graph).make()
    }

    /// Ops that `op` must run after: producers of its operands, writers of the storage it reads.
    pub fn dependences(&self, op: usize) -> BTreeSet<usize> {
        let o = &self.ops[op];
        let mut before: BTreeSet<usize> = o.after.iter().copied().collect();
        for source in &o.ins {
            if let Source::Value(v) = source {
                before.extend(self.values[*v].producer);
                before.extend(&self.values[*v].writers);
            }
        }
        if let Work::Gather { data, .. } = &o.work {
            before.extend(self.values[*data].producer);
            before.extend(&self.values[*data].writers);
        }
        before.remove(&op);
        before
    }

    /// A value in words, for errors: an argument by its name, anything else by the ONNX node that it stems from.
    pub fn describe(&self, v: ValueId) -> String {
        let value = &self.values[v];
        let kind = value.home.as_ref().map(|h| &self.arrays[h.array].kind);
        if let Some(&ArrayKind::Input(i)) = kind
            && let Some(port) = self.graph.inputs.get(i)
        {
            return format!("input `{}`", port.outside.name);
        }
        let maker = value.producer.or(value.writers.last().copied());
        let origins = self.graph.nodes.get(v).map(|n| &n.origins).filter(|o| !o.is_empty());
        let origins = origins.or(maker.map(|op| &self.ops[op].origins));
        let name = origins.and_then(|o| o.first()).and_then(|&o| self.graph.names.get_index(o as usize));
        let what = match kind {
            Some(ArrayKind::Weight { .. } | ArrayKind::Placed(_) | ArrayKind::Fold(_)) => "a constant",
            _ => "a value",
        };
        match name.map(|n| n.split_once('|').unwrap_or((n, ""))) {
            Some((node, op)) => format!("{what} of {node} ({op})"),
            None => what.to_string(),
        }
    }
}
