//! The ops of `nn` as data: attributes only, operands aside.
//!
//! An [`OpKind`] is comparable and hashable, so that it can key a table or be an opaque term of an e-graph.

use crate::types::{DType, Scalar, TensorType};
use bytes::Bytes;

/// Declares an enum whose cases are spelled as keywords in the IR; the order is the order in the `.td`.
macro_rules! keyword_enum {
    ($(#[$doc:meta])* $name:ident { $($case:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum $name { $($case),* }

        impl $name {
            /// All cases, in the order of the dialect's table.
            pub const ALL: &'static [$name] = &[$($name::$case),*];

            /// The keyword in the IR.
            pub fn name(self) -> &'static str {
                match self { $($name::$case => $word),* }
            }

            /// The case spelled `word`.
            pub fn from_name(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$case),)* _ => None }
            }

            pub(crate) fn from_index(index: i64) -> Option<Self> {
                usize::try_from(index).ok().and_then(|i| Self::ALL.get(i)).copied()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use keyword_enum;

keyword_enum! {
    /// Kinds of `nn.map`: binary, then unary, then the ternary `select`.
    MapKind {
        Add = "add", Sub = "sub", Mul = "mul", Div = "div", Max = "max", Min = "min", Pow = "pow",
        Mod = "mod", Fmod = "fmod", And = "and", Or = "or", Xor = "xor", Shl = "shl", Shr = "shr",
        Eq = "eq", Ne = "ne", Lt = "lt", Le = "le", Gt = "gt", Ge = "ge",
        Neg = "neg", Abs = "abs", Sign = "sign", Not = "not", Exp = "exp", Log = "log", Sqrt = "sqrt",
        Rsqrt = "rsqrt", Reciprocal = "reciprocal", Tanh = "tanh", Erf = "erf", Sigmoid = "sigmoid",
        Sin = "sin", Cos = "cos", Floor = "floor", Ceil = "ceil", Round = "round", Relu = "relu",
        Square = "square", IsNan = "is_nan", IsInf = "is_inf", Identity = "identity", Softplus = "softplus",
        Select = "select",
    }
}

impl MapKind {
    /// Number of operands: 1, 2 or 3.
    pub fn arity(self) -> usize {
        match self {
            MapKind::Select => 3,
            k if k < MapKind::Neg => 2,
            _ => 1,
        }
    }

    /// True for the six comparisons, which give `i1`.
    pub fn is_compare(self) -> bool {
        (MapKind::Eq..=MapKind::Ge).contains(&self)
    }

    /// True for `f(a, b) = f(b, a)`, bit for bit (NaN payloads aside).
    pub fn is_commutative(self) -> bool {
        use MapKind::*;
        matches!(self, Add | Mul | Max | Min | And | Or | Xor | Eq | Ne)
    }
}

keyword_enum! {
    /// Kinds of `nn.reduce`; `argmax` and `argmin` give i32, the first index wins.
    ReduceKind { Sum = "sum", Max = "max", Min = "min", Prod = "prod", Argmax = "argmax", Argmin = "argmin" }
}

keyword_enum! {
    /// Kinds of `nn.scan`.
    ScanKind { Sum = "sum", Max = "max", Prod = "prod" }
}

keyword_enum! {
    /// What the scatters do with the element already there.
    ScatterReduction { None = "none", Add = "add", Mul = "mul", Max = "max", Min = "min" }
}

/// The dims of `nn.contract`; result dims are batch, lhs free, rhs free.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContractDims {
    /// Batch dims of the left operand, paired with `rhs_batch`.
    pub lhs_batch: Vec<usize>,
    /// Batch dims of the right operand.
    pub rhs_batch: Vec<usize>,
    /// Contracted dims of the left operand, outermost of the chain first, paired with `rhs_contract`.
    pub lhs_contract: Vec<usize>,
    /// Contracted dims of the right operand.
    pub rhs_contract: Vec<usize>,
}

impl ContractDims {
    /// `[..batch, m, k] × [..batch, k, n]` with `batch` leading batch dims.
    pub fn matmul(batch: usize) -> Self {
        let dims: Vec<usize> = (0..batch).collect();
        ContractDims {
            lhs_batch: dims.clone(),
            rhs_batch: dims,
            lhs_contract: vec![batch + 1],
            rhs_contract: vec![batch],
        }
    }

    /// Dims of the left operand that are neither batch nor contracted, in order.
    pub fn lhs_free(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|d| !self.lhs_batch.contains(d) && !self.lhs_contract.contains(d)).collect()
    }

    /// Dims of the right operand that are neither batch nor contracted, in order.
    pub fn rhs_free(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|d| !self.rhs_batch.contains(d) && !self.rhs_contract.contains(d)).collect()
    }
}

/// An `nn` op without its operands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the fields are the attributes of docs/ir.md
pub enum OpKind {
    /// A small constant: dense row-major little-endian bytes (`Bool`: one byte, 0 or 1).
    Constant {
        ty: TensorType,
        bytes: Bytes,
    },
    /// `length` bytes at `offset` of file number `file` of the module's `nn.files`.
    Weight {
        ty: TensorType,
        file: u32,
        offset: u64,
        length: u64,
    },
    /// Elementwise.
    Map {
        kind: MapKind,
    },
    /// Element conversion.
    Cast {
        dtype: DType,
    },
    /// Generalised matrix product, accumulated in `acc` (F32 or I32), rounded to `dtype`.
    Contract {
        dims: ContractDims,
        acc: DType,
        dtype: DType,
    },
    /// Reduction; the axes (ascending) are removed. argmax/argmin take one axis.
    Reduce {
        kind: ReduceKind,
        axes: Vec<usize>,
    },
    Reshape {
        shape: Vec<usize>,
    },
    /// Result dim `i` is operand dim `perm[i]`.
    Transpose {
        perm: Vec<usize>,
    },
    /// Operand dim `i` becomes result dim `dims[i]` (ascending); an operand extent of 1 stretches.
    Broadcast {
        dims: Vec<usize>,
        shape: Vec<usize>,
    },
    Slice {
        offsets: Vec<usize>,
        sizes: Vec<usize>,
        strides: Vec<usize>,
    },
    Pad {
        low: Vec<usize>,
        high: Vec<usize>,
        value: Scalar,
    },
    Concat {
        axis: usize,
    },
    Reverse {
        axes: Vec<usize>,
    },
    /// The index along `axis`.
    Iota {
        ty: TensorType,
        axis: usize,
    },
    /// numpy's `take`: data, indices.
    Gather {
        axis: usize,
    },
    GatherElements {
        axis: usize,
    },
    GatherNd {
        batch_dims: usize,
    },
    /// data, indices, updates.
    ScatterNd {
        reduction: ScatterReduction,
    },
    /// data, indices, updates.
    ScatterElements {
        axis: usize,
        reduction: ScatterReduction,
    },
    /// Cumulative.
    Scan {
        kind: ScanKind,
        axis: usize,
        exclusive: bool,
        reverse: bool,
    },
    /// Values and i32 indices, sorted, the lower index first on ties.
    TopK {
        k: usize,
        axis: usize,
        largest: bool,
    },
    /// N,C,spatial… × O,I/groups,kernel…
    Conv {
        strides: Vec<usize>,
        pads_low: Vec<usize>,
        pads_high: Vec<usize>,
        dilations: Vec<usize>,
        groups: usize,
    },
}

impl OpKind {
    /// The op's name in the IR.
    pub fn name(&self) -> &'static str {
        match self {
            OpKind::Constant { .. } => "nn.constant",
            OpKind::Weight { .. } => "nn.weight",
            OpKind::Map { .. } => "nn.map",
            OpKind::Cast { .. } => "nn.cast",
            OpKind::Contract { .. } => "nn.contract",
            OpKind::Reduce { .. } => "nn.reduce",
            OpKind::Reshape { .. } => "nn.reshape",
            OpKind::Transpose { .. } => "nn.transpose",
            OpKind::Broadcast { .. } => "nn.broadcast",
            OpKind::Slice { .. } => "nn.slice",
            OpKind::Pad { .. } => "nn.pad",
            OpKind::Concat { .. } => "nn.concat",
            OpKind::Reverse { .. } => "nn.reverse",
            OpKind::Iota { .. } => "nn.iota",
            OpKind::Gather { .. } => "nn.gather",
            OpKind::GatherElements { .. } => "nn.gather_elements",
            OpKind::GatherNd { .. } => "nn.gather_nd",
            OpKind::ScatterNd { .. } => "nn.scatter_nd",
            OpKind::ScatterElements { .. } => "nn.scatter_elements",
            OpKind::Scan { .. } => "nn.scan",
            OpKind::TopK { .. } => "nn.topk",
            OpKind::Conv { .. } => "nn.conv",
        }
    }

    /// True for `nn.constant` and `nn.weight`, the leaves of a recipe.
    pub fn is_leaf(&self) -> bool {
        matches!(self, OpKind::Constant { .. } | OpKind::Weight { .. })
    }

    /// True for ops that only move elements about: no arithmetic, any dtype.
    pub fn is_view(&self) -> bool {
        matches!(
            self,
            OpKind::Reshape { .. }
                | OpKind::Transpose { .. }
                | OpKind::Broadcast { .. }
                | OpKind::Slice { .. }
                | OpKind::Concat { .. }
                | OpKind::Reverse { .. }
        )
    }
}
