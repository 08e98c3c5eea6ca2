//! kiln-machine

#![deny(unsafe_code)]

pub mod map;
pub mod tensor;
