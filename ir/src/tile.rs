//! The dialect `tile`: programs as data, written into a module and read from it.

mod emit;
mod program;
mod read;

pub use program::{
    Access, Affine, BufId, BufType, Dram, DramId, DramKind, Group, IvId, Op, Part, Program, Source, Space,
    Stmt, View,
};
