//! The exact meaning of every arithmetic operation, the same bits on any host.

pub mod convert;
