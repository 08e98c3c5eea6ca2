//! The tile solver: for one group, the partition axes, loop order, tile extents and hold levels of least time.

pub mod cost;
pub mod machine;
#[cfg(test)]
mod oracle;
pub mod partition;
pub mod pipeline;
pub mod plan;
pub mod prices;
pub mod problem;
pub mod solve;
#[cfg(test)]
mod tests;
