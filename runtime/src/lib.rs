//! kiln-runtime: the simulator of the machine.
//!
//! It loads a [program](kiln_machine::program::Program), binds host tensors to it, and executes its instruction
//! streams: values and cycles come from one pass over one binary. It knows nothing of the compiler; what an
//! instruction means and how long it takes is `kiln-machine`'s. The model, the timing rules and the invariants
//! are in `docs/simulator.md`.

#![deny(unsafe_code)]

mod activation;
mod array;
mod bandwidth;
mod bind;
mod code;
mod collective;
mod convert;
mod counters;
mod deadlock;
mod device;
mod dram;
mod elementwise;
mod error;
mod execute;
#[allow(unsafe_code)]
mod kernels;
mod lane;
mod live;
mod mxu;
mod pattern;
mod period;
mod queue;
mod recorder;
mod report;
mod sanitize;
mod semaphore;
mod shadow;
mod simulator;
mod stream;
mod trace;
mod transfer;
mod vector;

/// Other implementations of a matrix product on this host, to measure the simulator's against.
#[cfg(feature = "peers")]
pub mod peers {
    pub use crate::kernels::peer::{Integers, gemm_f32, matrixmultiply_f32};
}

pub use error::{SimError, Trap, TrapKind, Waiting};
pub use report::{EngineReport, Flow, OriginReport, Report, Timeline, TraceEvent};
pub use sanitize::{Bytes, Finding, FindingKind, Findings, Memory, Site};
pub use simulator::{HostExecutor, Options, Simulator};
pub use trace::perfetto;
