//! Differential fuzzing: random graphs over random targets, the simulator against the evaluator of `nn`.
//!
//! A seed gives a graph, its inputs and the targets. With grade `e0` no rewrite may change a bit, so the simulated
//! outputs are those of the evaluator, bit for bit (but for functions like tanh, whose last bit is the machine's own);
//! with the default grade they are near. With either they are the same bits on every target. A failure
//! is shrunk to the ops that matter before it is told.

mod case;
mod draw;
mod graph;
mod shrink;
mod stages;

pub use case::{Failure, check, explain};
pub use graph::Graph;
pub use shrink::shrink;
