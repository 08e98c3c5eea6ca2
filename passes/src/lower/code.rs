//! The code of a group before it is written as `tile` ops: a tree with numbered buffers and variables.

use crate::tiling::problem::{OpKind, Space};
use kiln_ir::types::{DType, Scalar};

/// A box of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Buffer number.
    pub buffer: usize,
    /// Constant part of the offset by position.
    pub offsets: Vec<i64>,
    /// Extents.
    pub sizes: Vec<u64>,
    /// Variables with their coefficient at each position.
    pub variables: Vec<(usize, Vec<i64>)>,
}

/// An affine address in a DRAM array, in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Array number.
    pub array: usize,
    /// Constant part.
    pub offset: i64,
    /// Stride of each position.
    pub strides: Vec<i64>,
    /// Variables with their coefficients.
    pub variables: Vec<(usize, i64)>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// On chip.
    View(View),
    /// In the instruction.
    Scalar(Scalar),
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// A buffer.
    Alloc {
        /// Its number.
        buffer: usize,
        /// Extents.
        shape: Vec<u64>,
        /// Element type.
        dtype: DType,
        /// Memory.
        space: Space,
        /// Partition axis.
        part: usize,
        /// Instances in flight.
        depth: u64,
    },
    /// A loop.
    For {
        /// Number of its variable.
        variable: usize,
        /// Trip count.
        trip: u64,
        /// What is repeated.
        body: Vec<Code>,
    },
    /// DRAM to chip.
    Load {
        /// Source.
        from: Address,
        /// Destination.
        to: View,
    },
    /// Chip to DRAM.
    Store {
        /// Source.
        from: View,
        /// Destination.
        to: Address,
    },
    /// An op.
    Op {
        /// What it computes.
        kind: OpKind,
        /// Results.
        outs: Vec<View>,
        /// Operands.
        ins: Vec<Operand>,
        /// Which operand of a contract is stationary.
        stationary: usize,
        /// Whether it continues the chain in its result.
        accumulates: bool,
        /// The DRAM operand of a gather or scatter.
        address: Option<Address>,
        /// Of an iota: the coefficient of each position.
        counts: Vec<i64>,
        /// Of an iota: the value at index zero.
        base: i64,
        /// Of an iota: variables with coefficients.
        variables: Vec<(usize, i64)>,
        /// The kernel op it comes from.
        from: usize,
    },
}
