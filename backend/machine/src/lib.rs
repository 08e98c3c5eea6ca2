//! kiln-machine: the machine's datasheet as code.
//!
//! The instruction set ([`isa`]), its assembly text ([`asm`]), the exact meaning of its arithmetic ([`numerics`]),
//! how long everything takes ([`duration`]), the targets ([`target`]), the program file ([`program`]), and what
//! both sides of it need: host tensors ([`tensor`]) and mapped files ([`map`]). It knows nothing of the compiler.

#![deny(unsafe_code)]

pub mod asm;
pub mod duration;
pub mod isa;
pub mod map;
pub mod numerics;
pub mod program;
pub mod random;
pub mod target;
pub mod tensor;
