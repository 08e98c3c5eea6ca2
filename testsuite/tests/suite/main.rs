//! The one test binary of the workspace's own suite.
#![forbid(unsafe_code)]

mod cross_reader;
mod determinism;
mod differential;
mod golden;
mod random;
mod tidy;
