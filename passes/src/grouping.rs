//! Grouping: which ops run together, so that what lies between them never leaves the chip.

pub mod egraph;
pub mod group;
pub mod kernel;
pub mod merge;
mod order;
pub mod recipe;
#[cfg(test)]
pub(crate) mod tests;
