//! Field kinds: how each operand of an instruction is stored in bits, written in assembly, and drawn at random.
//!
//! Closed lists of names are in [`super::choice`], composite operands in [`super::operand`]. A kind is a plain value type implementing [`Field`]. Values out of a field's range cannot be encoded and are
//! reported with the field's kind; bit patterns without a meaning cannot be decoded. Text forms are canonical:
//! printing and parsing are inverse.

use std::fmt::{self, Formatter};

use super::bits::{BitReader, BitWriter, fits_signed, sign_extend};
use super::text::{Cursor, SyntaxError};
use crate::random::Rng;

/// A value that no encoding of this field can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} cannot hold {value}")]
pub struct OutOfRange {
    /// The field kind, as in the manual.
    pub kind: &'static str,
    /// The value, as text.
    pub value: String,
}

/// A bit pattern that is no value of this field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:#x} is not a {kind}")]
pub struct NoMeaning {
    /// The field kind, as in the manual.
    pub kind: &'static str,
    /// The offending bits.
    pub value: u64,
}

/// An operand kind of the instruction table.
pub trait Field: Copy + PartialEq {
    /// Width in bits.
    const BITS: u32;
    /// Name in the manual.
    const KIND: &'static str;
    /// Whether the text form is `name=value` (else the bare value, known by position).
    const NAMED: bool = false;
    /// Appends the bits.
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange>;
    /// Reads the bits back.
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning>;
    /// The value meant when a named operand is left out.
    fn absent() -> Option<Self> {
        None
    }
    /// Writes the text form.
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result;
    /// Reads the text form.
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError>;
    /// Any legal value, for tests that cover the whole table.
    fn draw(rng: &mut Rng) -> Self;
}

fn check(ok: bool, kind: &'static str, value: impl ToString) -> Result<(), OutOfRange> {
    if ok { Ok(()) } else { Err(OutOfRange { kind, value: value.to_string() }) }
}

/// Plain integers of a native width.
macro_rules! integer_field {
    ($($T:ty, $bits:literal, $kind:literal;)*) => { $(
        impl Field for $T {
            const BITS: u32 = $bits;
            const KIND: &'static str = $kind;
            const NAMED: bool = true;
            fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
                w.put(self as u64 & (u64::MAX >> (64 - $bits)), $bits);
                Ok(())
            }
            fn get(r: &mut BitReader) -> Result<Self, NoMeaning> { Ok(r.get($bits) as $T) }
            fn absent() -> Option<Self> { Some(0) }
            fn print(&self, f: &mut Formatter<'_>) -> fmt::Result { write!(f, "{self}") }
            fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
                c.integer(<$T>::MIN as i128, <$T>::MAX as i128).map(|v| v as $T)
            }
            fn draw(rng: &mut Rng) -> Self { rng.edgy($bits) as $T }
        }
    )* };
}
integer_field! {
    u8,  8,  "u8";
    u16, 16, "u16";
    u32, 32, "u32";
    i32, 32, "i32";
    i64, 64, "i64";
}

impl Field for bool {
    const BITS: u32 = 1;
    const KIND: &'static str = "flag";
    const NAMED: bool = true;
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        w.put(self.into(), 1);
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        Ok(r.get(1) != 0)
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u8::from(*self))
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        c.integer(0, 1).map(|v| v != 0)
    }
    fn draw(rng: &mut Rng) -> Self {
        rng.below(2) == 1
    }
}

/// Numbered things (`r3`, `ap1`, `sem7`): prefix in text, plain index in bits.
macro_rules! numbered_field {
    ($($(#[doc = $doc:literal])* $Name:ident($T:ty), $bits:literal, $prefix:literal, $named:literal, $kind:literal;)*) => { $(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(pub $T);

        impl Field for $Name {
            const BITS: u32 = $bits;
            const KIND: &'static str = $kind;
            const NAMED: bool = $named;
            fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
                check(u64::from(self.0) >> $bits == 0, $kind, self.0)?;
                w.put(self.0.into(), $bits);
                Ok(())
            }
            fn get(r: &mut BitReader) -> Result<Self, NoMeaning> { Ok($Name(r.get($bits) as $T)) }
            fn absent() -> Option<Self> { if $named { Some($Name(0)) } else { None } }
            fn print(&self, f: &mut Formatter<'_>) -> fmt::Result { write!(f, concat!($prefix, "{}"), self.0) }
            fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
                c.numbered($prefix, $kind, 1 << $bits).map(|v| $Name(v as $T))
            }
            fn draw(rng: &mut Rng) -> Self { $Name(rng.edgy($bits) as $T) }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result { self.print(f) }
        }
    )* };
}
numbered_field! {
    /// Destination or source scalar register; `r0` reads zero and ignores writes.
    Reg(u8), 5, "r", false, "register";
    /// Register added to an address or count; left out it is `r0`, that is nothing.
    Add(u8), 5, "r", true, "register";
    /// Access-pattern register.
    Ap(u8), 4, "ap", false, "access-pattern register";
    /// Semaphore.
    Sem(u8), 8, "sem", false, "semaphore";
    /// Lookup table of ACT.
    Lut(u8), 4, "lut", false, "lookup table";
}

impl Add {
    /// No register.
    pub const NONE: Add = Add(0);
    /// The register whose value is added.
    pub fn reg(self) -> Reg {
        Reg(self.0)
    }
}

impl From<Reg> for Add {
    fn from(r: Reg) -> Self {
        Add(r.0)
    }
}

/// Extents stored minus one.
macro_rules! extent_field {
    ($($(#[doc = $doc:literal])* $Name:ident($T:ty), $bits:literal, $absent:expr, $kind:literal;)*) => { $(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(pub $T);

        impl $Name {
            /// The largest extent.
            pub const MAX: $T = 1 << $bits;
        }

        impl Field for $Name {
            const BITS: u32 = $bits;
            const KIND: &'static str = $kind;
            const NAMED: bool = true;
            fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
                check((1..=Self::MAX).contains(&self.0), $kind, self.0)?;
                w.put(u64::from(self.0) - 1, $bits);
                Ok(())
            }
            fn get(r: &mut BitReader) -> Result<Self, NoMeaning> { Ok($Name(r.get($bits) as $T + 1)) }
            fn absent() -> Option<Self> { $absent }
            fn print(&self, f: &mut Formatter<'_>) -> fmt::Result { write!(f, "{}", self.0) }
            fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
                c.integer(1, Self::MAX.into()).map(|v| $Name(v as $T))
            }
            fn draw(rng: &mut Rng) -> Self { $Name(rng.edgy($bits) as $T + 1) }
        }
    )* };
}
extent_field! {
    /// A number of partitions, rows or columns, 1 to 256.
    Parts(u16), 8, None, "partition count";
    /// A number of elements along one free dim, 1 to 65536.
    Len(u32), 16, Some(Len(1)), "extent";
}

/// Signed fields narrower than their native type.
macro_rules! signed_field {
    ($($(#[doc = $doc:literal])* $Name:ident($T:ty), $bits:literal, $kind:literal;)*) => { $(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(pub $T);

        impl Field for $Name {
            const BITS: u32 = $bits;
            const KIND: &'static str = $kind;
            const NAMED: bool = true;
            fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
                check(fits_signed(self.0.into(), $bits), $kind, self.0)?;
                w.put(self.0 as u64 & (u64::MAX >> (64 - $bits)), $bits);
                Ok(())
            }
            fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
                Ok($Name(sign_extend(r.get($bits), $bits) as $T))
            }
            fn absent() -> Option<Self> { Some($Name(0)) }
            fn print(&self, f: &mut Formatter<'_>) -> fmt::Result { write!(f, "{}", self.0) }
            fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
                c.integer(-(1 << ($bits - 1)), (1 << ($bits - 1)) - 1).map(|v| $Name(v as $T))
            }
            fn draw(rng: &mut Rng) -> Self { $Name(sign_extend(rng.edgy($bits), $bits) as $T) }
        }
    )* };
}
signed_field! {
    /// Coefficient of an index in an affine predicate or iota.
    Coef(i32), 24, "coefficient";
}

/// A word index in the instruction's own stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pc(pub u32);

impl Field for Pc {
    const BITS: u32 = 24;
    const KIND: &'static str = "word index";
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        check(self.0 >> 24 == 0, Self::KIND, self.0)?;
        w.put(self.0.into(), 24);
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        Ok(Pc(r.get(24) as u32))
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        if c.eat("@") {
            return c.integer(0, (1 << 24) - 1).map(|v| Pc(v as u32));
        }
        c.label().map(Pc)
    }
    fn draw(rng: &mut Rng) -> Self {
        Pc(rng.edgy(24) as u32)
    }
}

/// 32 raw bits: an f32 or an i32, as the instruction's operand types decide.
///
/// Text: an integer, a float with the suffix `f`, or `0x` bits. Small integers print as such, other finite floats
/// as floats, the rest as bits, so that every pattern has one form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Imm32(pub u32);

impl Imm32 {
    /// The bits of a float.
    pub fn f32(value: f32) -> Self {
        Imm32(value.to_bits())
    }
    /// The bits of an integer.
    pub fn i32(value: i32) -> Self {
        Imm32(value as u32)
    }
    /// The bits read as a float.
    pub fn as_f32(self) -> f32 {
        f32::from_bits(self.0)
    }
    /// The bits read as an integer.
    pub fn as_i32(self) -> i32 {
        self.0 as i32
    }
}

impl Field for Imm32 {
    const BITS: u32 = 32;
    const KIND: &'static str = "32-bit immediate";
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        w.put(self.0.into(), 32);
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        Ok(Imm32(r.get(32) as u32))
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (int, float) = (self.as_i32(), self.as_f32());
        if int.unsigned_abs() < 1 << 20 {
            write!(f, "{int}")
        } else if float.is_normal() || self.0 == 1 << 31 {
            write!(f, "{float:?}f")
        } else if float.is_infinite() {
            write!(f, "{}", if float > 0.0 { "inf" } else { "-inf" })
        } else {
            write!(f, "{:#010x}", self.0)
        }
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        c.immediate32().map(Imm32)
    }
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(4) {
            0 => Imm32::f32((rng.below(2001) as f32 - 1000.0) / 8.0),
            1 => Imm32::i32(rng.below(200) as i32 - 100),
            _ => Imm32(rng.edgy(32) as u32),
        }
    }
}

/// A float immediate; any f32 bit pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImmF32(pub u32);

impl ImmF32 {
    /// One: the scale that changes nothing.
    pub const ONE: ImmF32 = ImmF32(0x3f80_0000);
    /// From a float.
    pub fn new(value: f32) -> Self {
        ImmF32(value.to_bits())
    }
    /// As a float.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl Field for ImmF32 {
    const BITS: u32 = 32;
    const KIND: &'static str = "f32 immediate";
    const NAMED: bool = true;
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        w.put(self.0.into(), 32);
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        Ok(ImmF32(r.get(32) as u32))
    }
    fn absent() -> Option<Self> {
        Some(ImmF32::ONE)
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let v = ImmF32::get(*self);
        match v.is_nan() {
            true => write!(f, "{:#010x}", self.0),
            false => write!(f, "{v:?}"),
        }
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        c.float_bits().map(ImmF32)
    }
    fn draw(rng: &mut Rng) -> Self {
        ImmF32(Imm32::draw(rng).0)
    }
}

/// A set of the three free dims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dims(pub u8);

impl Dims {
    /// No dim.
    pub const NONE: Dims = Dims(0);
    /// All three.
    pub const ALL: Dims = Dims(7);
    /// The set of the given dims (0, 1, 2).
    pub fn of(dims: &[usize]) -> Self {
        Dims(dims.iter().fold(0, |set, d| set | 1 << d))
    }
    /// Whether free dim `d` is in the set.
    pub fn has(self, d: usize) -> bool {
        self.0 >> d & 1 != 0
    }
}

impl Field for Dims {
    const BITS: u32 = 3;
    const KIND: &'static str = "set of free dims";
    const NAMED: bool = true;
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        check(self.0 < 8, Self::KIND, self.0)?;
        w.put(self.0.into(), 3);
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        Ok(Dims(r.get(3) as u8))
    }
    fn absent() -> Option<Self> {
        Some(Dims(0))
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("-");
        }
        (0..3).filter(|d| self.has(*d)).try_for_each(|d| write!(f, "n{d}"))
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        if c.eat("-") {
            return Ok(Dims::NONE);
        }
        let mut set = Dims::NONE;
        for d in 0..3 {
            if c.eat(["n0", "n1", "n2"][d]) {
                set.0 |= 1 << d;
            }
        }
        if set == Dims::NONE { Err(c.expected("free dims such as `n2` or `n1n2`")) } else { Ok(set) }
    }
    fn draw(rng: &mut Rng) -> Self {
        Dims(rng.below(8) as u8)
    }
}

/// What a control register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Csr {
    /// Runtime scalar by number, 0 to 239.
    Scalar(u8),
    /// MXU cycles since the start.
    Cycle,
    /// Number of this core.
    Core,
}

impl Field for Csr {
    const BITS: u32 = 8;
    const KIND: &'static str = "control register";
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        let code = match self {
            Csr::Scalar(n) => {
                check(n < 240, Self::KIND, n)?;
                n
            }
            Csr::Cycle => 240,
            Csr::Core => 241,
        };
        w.put(code.into(), 8);
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        match r.get(8) {
            240 => Ok(Csr::Cycle),
            241 => Ok(Csr::Core),
            n if n < 240 => Ok(Csr::Scalar(n as u8)),
            value => Err(NoMeaning { kind: Self::KIND, value }),
        }
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Csr::Scalar(n) => write!(f, "scalar{n}"),
            Csr::Cycle => f.write_str("cycle"),
            Csr::Core => f.write_str("core"),
        }
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        if c.eat("cycle") {
            Ok(Csr::Cycle)
        } else if c.eat("core") {
            Ok(Csr::Core)
        } else {
            c.numbered("scalar", Self::KIND, 240).map(|n| Csr::Scalar(n as u8))
        }
    }
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(3) {
            0 => Csr::Cycle,
            1 => Csr::Core,
            _ => Csr::Scalar(rng.below(240) as u8),
        }
    }
}
