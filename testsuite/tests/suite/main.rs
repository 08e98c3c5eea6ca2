//! The one test binary of the workspace's own suite.
#![forbid(unsafe_code)]

mod golden;
mod tidy;
