//! An `nn` function read from a module: an owned, ordered list of ops over small value ids.
//!
//! It is a snapshot: later changes of the module do not show, and nothing in it can dangle.

use super::kind::OpKind;
use crate::origin::Origin;
use crate::types::{DType, TensorType};

/// A value of one function: an argument or an op's result. Meaningful only with its function or builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) u32);

impl ValueId {
    /// Position in the function's table of values.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the outside knows of an argument or a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// The ONNX name; empty for an internal function.
    pub name: String,
    /// The dtype the user sees, when the device holds another (`i64` held as `i32`).
    pub host_type: Option<DType>,
    /// Inclusive range of the values, checked when a tensor is bound.
    pub range: Option<[i64; 2]>,
}

impl Port {
    /// A port with a name and nothing else.
    pub fn named(name: impl Into<String>) -> Self {
        Port { name: name.into(), ..Port::default() }
    }
}

/// One op: its attributes, operands, results and origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The op and its attributes.
    pub kind: OpKind,
    /// Operands, in order.
    pub operands: Vec<ValueId>,
    /// Results, in order (two for `nn.topk`, else one).
    pub results: Vec<ValueId>,
    /// The ONNX nodes it comes from.
    pub origin: Origin,
}

/// A function: arguments are the first values, then the ops' results in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Func {
    /// Symbol name.
    pub name: String,
    /// True for a function that only others use (a fold).
    pub private: bool,
    /// Ports of the arguments; argument `i` is value `i`.
    pub args: Vec<Port>,
    /// Ops in order: operands come before their uses.
    pub ops: Vec<Op>,
    /// Returned values with their ports.
    pub results: Vec<(ValueId, Port)>,
    pub(crate) types: Vec<TensorType>,
}

impl Func {
    /// The arguments' values.
    pub fn arg_values(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.args.len() as u32).map(ValueId)
    }

    /// Type of a value.
    ///
    /// # Panics
    /// When `value` belongs to a larger function.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.types[value.index()]
    }

    /// Number of values.
    pub fn value_count(&self) -> usize {
        self.types.len()
    }

    /// For each value the index of the op that makes it; none for arguments.
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut by_value = vec![None; self.types.len()];
        for (i, op) in self.ops.iter().enumerate() {
            for r in &op.results {
                by_value[r.index()] = Some(i);
            }
        }
        by_value
    }

    /// For each value the ops that read it, in order, once for each operand position.
    pub fn users(&self) -> Vec<Vec<usize>> {
        let mut by_value = vec![Vec::new(); self.types.len()];
        for (i, op) in self.ops.iter().enumerate() {
            for o in &op.operands {
                by_value[o.index()].push(i);
            }
        }
        by_value
    }
}
