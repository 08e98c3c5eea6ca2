//! The dialect `nn`: ops as data, type inference, reading functions, building them.

mod builder;
pub(crate) mod codec;
mod func;
mod infer;
mod kind;

pub use builder::FuncBuilder;
pub use func::{Func, Op, Port, ValueId};
pub(crate) use kind::keyword_enum;
pub use kind::{ContractDims, MapKind, OpKind, ReduceKind, ScanKind, ScatterReduction};
