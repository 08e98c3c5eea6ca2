//! The one test binary of the workspace's own suite.
#![forbid(unsafe_code)]

mod bits;
mod closed_pipe;
mod compiled;
mod cross_reader;
mod determinism;
mod differential;
mod fusion;
mod golden;
mod mutation;
mod random;
mod readme;
mod tidy;
mod timing;
