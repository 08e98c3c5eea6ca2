//! From `tile` to instruction streams: select, place, synchronise, emit; and an independent checker.
//!
//! ```text
//! tile.program ─ select ─▶ lir ─ allocate ─▶ placement ─ depend, sync ─▶ semaphores ─ stream ─▶ Program
//! ```
//! Selection gives every tile op to one engine (or several DMA queues) as instructions with symbolic addresses;
//! each engine's stream is the projection of the loop nest on its own instructions.

#![forbid(unsafe_code)]

pub mod allocate;
mod buffers;
pub mod check;
pub mod depend;
mod dram;
mod emit;
pub mod error;
mod handover;
mod instruction;
pub mod lir;
pub mod placement;
mod select;
pub mod stream;
pub mod sync;

pub use dram::{ALIGN_BYTES, Layout};
pub use emit::{EmitReport, FoldEvaluator, GroupWords, emit, emit_with_report};
pub use error::BackendError;
