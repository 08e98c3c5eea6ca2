//! Field kinds that are closed lists of names: element types, memories, operations, conditions.

use std::fmt::{self, Formatter};

use super::bits::{BitReader, BitWriter};
use super::field::{Field, NoMeaning, OutOfRange};
use super::text::{Cursor, SyntaxError};
use crate::random::Rng;

/// A closed list of names.
macro_rules! choice_field {
    ($($(#[doc = $doc:literal])* $Name:ident, $bits:literal, $kind:literal {
        $($(#[doc = $vdoc:literal])* $Variant:ident = $code:literal $text:literal),* $(,)?
    })*) => { $(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Name { $($(#[doc = $vdoc])* $Variant = $code),* }

        impl $Name {
            /// Every value in encoding order.
            pub const ALL: &'static [$Name] = &[$($Name::$Variant),*];
            /// The name in assembly.
            pub fn name(self) -> &'static str { match self { $($Name::$Variant => $text),* } }
            /// The value of that name.
            pub fn by_name(name: &str) -> Option<Self> { match name { $($text => Some($Name::$Variant),)* _ => None } }
            /// One line per value, for the manual.
            pub fn meanings() -> &'static [(&'static str, &'static str)] { &[$(($text, concat!($($vdoc),*))),*] }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result { f.write_str(self.name()) }
        }

        const _: () = { $(assert!(($code as u64) >> $bits == 0, "the code does not fit its field");)* };

        impl Field for $Name {
            const BITS: u32 = $bits;
            const KIND: &'static str = $kind;
            fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> { w.put(self as u64, $bits); Ok(()) }
            fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
                match r.get($bits) {
                    $($code => Ok($Name::$Variant),)*
                    value => Err(NoMeaning { kind: $kind, value }),
                }
            }
            fn print(&self, f: &mut Formatter<'_>) -> fmt::Result { f.write_str(self.name()) }
            fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> { c.choice($kind, $Name::by_name) }
            fn draw(rng: &mut Rng) -> Self { Self::ALL[rng.below(Self::ALL.len() as u64) as usize] }
        }
    )* };
}

#[rustfmt::skip] // tables
mod choices { use super::*; choice_field! {
    /// Element type of an on-chip operand or of DRAM elements.
    Dt, 4, "element type" {
        /// IEEE binary32
        F32 = 0 "f32",
        /// bfloat16
        Bf16 = 1 "bf16",
        /// IEEE binary16
        F16 = 2 "f16",
        /// 8-bit float, 4-bit exponent, no infinity (OCP E4M3)
        F8e4m3 = 3 "f8e4m3",
        /// 8-bit float, 5-bit exponent (OCP E5M2)
        F8e5m2 = 4 "f8e5m2",
        /// signed 8-bit
        I8 = 5 "i8",
        /// unsigned 8-bit; also masks, 0 or 1
        U8 = 6 "u8",
        /// signed 32-bit
        I32 = 7 "i32",
        /// signed 4-bit, two to a byte, low nibble first (DRAM only)
        I4 = 8 "i4",
        /// unsigned 4-bit, two to a byte, low nibble first (DRAM only)
        U4 = 9 "u4",
        /// signed 16-bit
        I16 = 10 "i16",
        /// unsigned 16-bit
        U16 = 11 "u16",
        /// unsigned 32-bit
        U32 = 12 "u32",
    }
    /// On-chip memory.
    Space, 1, "space" {
        /// scratchpad
        Spm = 0 "spm",
        /// accumulators
        Acc = 1 "acc",
    }
    /// Operation of the scalar unit of a stream, on 64-bit two's-complement values.
    AluOp, 4, "scalar operation" {
        /// sum, wrapping
        Add = 0 "add",
        /// difference, wrapping
        Sub = 1 "sub",
        /// product, wrapping
        Mul = 2 "mul",
        /// quotient toward zero; by zero traps
        Div = 3 "div",
        /// remainder of `div`; by zero traps
        Mod = 4 "mod",
        /// bitwise and
        And = 5 "and",
        /// bitwise or
        Or = 6 "or",
        /// bitwise exclusive or
        Xor = 7 "xor",
        /// left shift by the low 6 bits
        Shl = 8 "shl",
        /// arithmetic right shift by the low 6 bits
        Shr = 9 "shr",
        /// the lesser, signed
        Min = 10 "min",
        /// the greater, signed
        Max = 11 "max",
    }
    /// Condition of a branch, signed.
    Cond, 3, "condition" {
        /// always
        Al = 0 "al",
        /// equal
        Eq = 1 "eq",
        /// not equal
        Ne = 2 "ne",
        /// less
        Lt = 3 "lt",
        /// greater or equal
        Ge = 4 "ge",
    }
    /// Two-operand operation of VEC: in i32 when both operands are integers, else in f32.
    VecOp, 5, "vector operation" {
        /// a + b
        Add = 0 "add",
        /// a − b
        Sub = 1 "sub",
        /// a · b
        Mul = 2 "mul",
        /// a / b; integers truncate, division by zero gives 0
        Div = 3 "div",
        /// the greater; NaN if either is NaN
        Max = 4 "max",
        /// the lesser; NaN if either is NaN
        Min = 5 "min",
        /// a to the power b
        Pow = 6 "pow",
        /// remainder with the divisor's sign
        Mod = 7 "mod",
        /// remainder with the dividend's sign
        Fmod = 8 "fmod",
        /// bitwise and (integers)
        And = 9 "and",
        /// bitwise or (integers)
        Or = 10 "or",
        /// bitwise exclusive or (integers)
        Xor = 11 "xor",
        /// left shift; 0 for shifts of 32 and more (integers)
        Shl = 12 "shl",
        /// right shift, arithmetic for signed types (integers)
        Shr = 13 "shr",
        /// 1 if a = b else 0
        Eq = 14 "eq",
        /// 1 if a ≠ b else 0
        Ne = 15 "ne",
        /// 1 if a < b else 0
        Lt = 16 "lt",
        /// 1 if a ≤ b else 0
        Le = 17 "le",
        /// 1 if a > b else 0
        Gt = 18 "gt",
        /// 1 if a ≥ b else 0
        Ge = 19 "ge",
    }
    /// Reduction of VEC, one ascending chain.
    RedOp, 3, "reduction" {
        /// sum from 0
        Sum = 0 "sum",
        /// product from 1
        Prod = 1 "prod",
        /// maximum from −∞ (smallest integer); NaN wins
        Max = 2 "max",
        /// minimum from +∞ (largest integer); NaN wins
        Min = 3 "min",
        /// index of the first maximum, row-major over the reduced dims
        Argmax = 4 "argmax",
        /// index of the first minimum, row-major over the reduced dims
        Argmin = 5 "argmin",
    }
    /// Rounding of a conversion.
    CvtMode, 2, "conversion mode" {
        /// floats round to nearest even; float to integer truncates toward zero and saturates; integers wrap
        Cast = 0 "cast",
        /// float to integer rounds to nearest even and saturates
        Round = 1 "round",
        /// 1 if the element is not zero (NaN counts), else 0
        Nonzero = 2 "nonzero",
    }
    /// Function of ACT on f32.
    ActFunc, 6, "ACT function" {
        /// x
        Identity = 0 "identity",
        /// e to the x
        Exp = 1 "exp",
        /// natural logarithm
        Log = 2 "log",
        /// square root, correctly rounded
        Sqrt = 3 "sqrt",
        /// 1 / √x, two roundings
        Rsqrt = 4 "rsqrt",
        /// 1 / x, correctly rounded
        Reciprocal = 5 "reciprocal",
        /// hyperbolic tangent
        Tanh = 6 "tanh",
        /// error function
        Erf = 7 "erf",
        /// 1 / (1 + e to the −x)
        Sigmoid = 8 "sigmoid",
        /// sine
        Sin = 9 "sin",
        /// cosine
        Cos = 10 "cos",
        /// log(1 + e to the x)
        Softplus = 11 "softplus",
        /// max(x, 0); NaN stays
        Relu = 12 "relu",
        /// x · x
        Square = 13 "square",
        /// |x|
        Abs = 14 "abs",
        /// −x
        Neg = 15 "neg",
        /// −1, 0 or 1; NaN stays
        Sign = 16 "sign",
        /// toward −∞
        Floor = 17 "floor",
        /// toward +∞
        Ceil = 18 "ceil",
        /// to nearest, ties to even
        Round = 19 "round",
        /// 1 if x = 0 else 0
        Not = 20 "not",
        /// 1 if NaN else 0
        IsNan = 21 "is_nan",
        /// 1 if infinite else 0
        IsInf = 22 "is_inf",
        /// piecewise linear in the loaded table: see `lutld`
        Lut = 23 "lut",
    }
}}
pub use choices::*;

impl Dt {
    /// Bits of one element.
    pub const fn bits(self) -> u32 {
        match self {
            Dt::F32 | Dt::I32 | Dt::U32 => 32,
            Dt::Bf16 | Dt::F16 | Dt::I16 | Dt::U16 => 16,
            Dt::F8e4m3 | Dt::F8e5m2 | Dt::I8 | Dt::U8 => 8,
            Dt::I4 | Dt::U4 => 4,
        }
    }
    /// Bytes of one element; none for the 4-bit types.
    pub const fn bytes(self) -> Option<u32> {
        if self.bits() < 8 { None } else { Some(self.bits() / 8) }
    }
    /// Bytes of `elements` dense elements, a last half byte rounded up.
    pub const fn bytes_of(self, elements: u64) -> u64 {
        (elements * self.bits() as u64).div_ceil(8)
    }
    /// Whether arithmetic on it is integer arithmetic.
    pub const fn is_integer(self) -> bool {
        !matches!(self, Dt::F32 | Dt::Bf16 | Dt::F16 | Dt::F8e4m3 | Dt::F8e5m2)
    }
}
