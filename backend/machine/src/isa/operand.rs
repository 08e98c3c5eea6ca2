//! Composite operands: on-chip views, shapes, DRAM access patterns, loop steps; and what an instruction touches.

use std::fmt::{self, Display, Formatter};

use super::bits::{BitReader, BitWriter, fits_signed, sign_extend};
use super::choice::{Dt, Space};
use super::field::{Add, Ap, Dims, Field, Len, NoMeaning, OutOfRange, Parts, Reg};
use super::text::{Cursor, SyntaxError};
use crate::random::Rng;

/// Bits of a byte offset inside a partition.
pub const OFFSET_BITS: u32 = 22;
/// Bits of an on-chip element stride.
pub const STRIDE_BITS: u32 = 20;
/// Bits of a DRAM byte address.
pub const DRAM_ADDRESS_BITS: u32 = 48;
/// Bits of a DRAM element stride and of a loop step.
pub const LONG_STRIDE_BITS: u32 = 40;

fn in_range(ok: bool, kind: &'static str, value: impl Display) -> Result<(), OutOfRange> {
    if ok { Ok(()) } else { Err(OutOfRange { kind, value: value.to_string() }) }
}

/// An on-chip operand: where its first element lies and how three free dims walk over each partition.
///
/// Element (p, i0, i1, i2) is in partition `part + p` at byte `off + reg + (i0·s0 + i1·s1 + i2·s2)·size(dt)`.
/// Stride 0 repeats; all strides 0 is one scalar per partition. The extents come from the instruction.
///
/// Text: `spm[0:0x400+r3].f32<0,64,1>` (partition 0, byte 0x400 plus r3, strides in elements).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Which memory.
    pub space: Space,
    /// First partition.
    pub part: u8,
    /// Byte offset in the partition, 22 bits.
    pub off: u32,
    /// Register whose value is added to `off`.
    pub reg: Add,
    /// Element type.
    pub dt: Dt,
    /// Element strides of the three free dims, 20 bits signed.
    pub strides: [i32; 3],
}

impl View {
    /// A view of scratchpad bytes with the last dim contiguous and the others of stride 0.
    pub fn spm(part: u8, off: u32, dt: Dt) -> Self {
        View { space: Space::Spm, part, off, reg: Add::NONE, dt, strides: [0, 0, 1] }
    }
    /// The same in the accumulators.
    pub fn acc(part: u8, off: u32, dt: Dt) -> Self {
        View { space: Space::Acc, ..View::spm(part, off, dt) }
    }
    /// The same place with other strides.
    pub fn with_strides(self, strides: [i32; 3]) -> Self {
        View { strides, ..self }
    }
    /// The same place, offset also by a register.
    pub fn plus(self, reg: impl Into<Add>) -> Self {
        View { reg: reg.into(), ..self }
    }
    /// Dense row-major strides for these extents.
    pub fn dense(self, n: [u32; 3]) -> Self {
        self.with_strides([(n[1] * n[2]) as i32, n[2] as i32, 1])
    }
    /// Lowest and highest element offset reached with these extents, relative to `off + reg`.
    pub fn reach(&self, n: [u32; 3]) -> (i64, i64) {
        let (mut low, mut high) = (0, 0);
        for (s, n) in self.strides.iter().zip(n) {
            let end = i64::from(*s) * (i64::from(n) - 1);
            low += end.min(0);
            high += end.max(0);
        }
        (low, high)
    }
    /// First and one-past-last byte in each partition reached with these extents when `reg` holds `reg_value`.
    pub fn byte_range(&self, n: [u32; 3], reg_value: i64) -> (i64, i64) {
        let (low, high) = self.reach(n);
        let bits = i64::from(self.dt.bits());
        let base = i64::from(self.off) + reg_value;
        (base + (low * bits).div_euclid(8), base + ((high + 1) * bits + 7).div_euclid(8))
    }
}

impl Field for View {
    const BITS: u32 = 1 + 8 + OFFSET_BITS + 5 + 4 + 3 * STRIDE_BITS;
    const KIND: &'static str = "view";
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        in_range(self.off >> OFFSET_BITS == 0, "byte offset of a view", self.off)?;
        for s in self.strides {
            in_range(fits_signed(s.into(), STRIDE_BITS), "element stride of a view", s)?;
        }
        self.space.put(w)?;
        w.put(self.part.into(), 8);
        w.put(self.off.into(), OFFSET_BITS);
        self.reg.put(w)?;
        self.dt.put(w)?;
        self.strides.iter().for_each(|s| w.put(*s as u64 & ((1 << STRIDE_BITS) - 1), STRIDE_BITS));
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        Ok(View {
            space: Space::get(r)?,
            part: r.get(8) as u8,
            off: r.get(OFFSET_BITS) as u32,
            reg: Add::get(r)?,
            dt: Dt::get(r)?,
            strides: [0; 3].map(|_: i32| sign_extend(r.get(STRIDE_BITS), STRIDE_BITS) as i32),
        })
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}:{:#x}", self.space, self.part, self.off)?;
        if self.reg != Add::NONE {
            write!(f, "+{}", self.reg)?;
        }
        let [s0, s1, s2] = self.strides;
        write!(f, "].{}<{s0},{s1},{s2}>", self.dt)
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let space = Space::parse(c)?;
        c.expect("[")?;
        let part = c.integer(0, 255)? as u8;
        c.expect(":")?;
        let off = c.integer(0, (1 << OFFSET_BITS) - 1)? as u32;
        let reg = if c.eat("+") { Add::parse(c)? } else { Add::NONE };
        c.expect("]")?;
        c.expect(".")?;
        let dt = Dt::parse(c)?;
        let mut strides = [0, 0, 1];
        if c.eat("<") {
            let limit = 1 << (STRIDE_BITS - 1);
            for (i, s) in strides.iter_mut().enumerate() {
                if i > 0 {
                    c.expect(",")?;
                }
                *s = c.integer(-limit, limit - 1)? as i32;
            }
            c.expect(">")?;
        }
        Ok(View { space, part, off, reg, dt, strides })
    }
    fn draw(rng: &mut Rng) -> Self {
        View {
            space: Space::draw(rng),
            part: rng.edgy(8) as u8,
            off: rng.edgy(OFFSET_BITS) as u32,
            reg: Add::draw(rng),
            dt: Dt::draw(rng),
            strides: [0; 3].map(|_: i32| sign_extend(rng.edgy(STRIDE_BITS), STRIDE_BITS) as i32),
        }
    }
}

impl Display for View {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.print(f)
    }
}

/// An operand that may be absent: one presence bit, then the view (all zero when absent). Text: `-` or left out.
impl Field for Option<View> {
    const BITS: u32 = 1 + View::BITS;
    const KIND: &'static str = "optional view";
    const NAMED: bool = true;
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        w.put(self.is_some().into(), 1);
        match self {
            Some(view) => view.put(w)?,
            None => {
                w.put(0, 64);
                w.put(0, View::BITS - 64);
            }
        }
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        if r.get(1) == 1 {
            return View::get(r).map(Some);
        }
        match r.get(64) | r.get(View::BITS - 64) {
            0 => Ok(None),
            value => Err(NoMeaning { kind: "absent view", value }),
        }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Some(view) => view.print(f),
            None => f.write_str("-"),
        }
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        if c.eat("-") { Ok(None) } else { View::parse(c).map(Some) }
    }
    fn draw(rng: &mut Rng) -> Self {
        (rng.below(3) > 0).then(|| View::draw(rng))
    }
}

/// A pattern that may be absent: one presence bit, then the register (zero when absent). Text: `-` or left out.
impl Field for Option<Ap> {
    const BITS: u32 = 1 + Ap::BITS;
    const KIND: &'static str = "optional access-pattern register";
    const NAMED: bool = true;
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        w.put(self.is_some().into(), 1);
        self.unwrap_or_default().put(w)
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        match (r.get(1), Ap::get(r)?) {
            (1, ap) => Ok(Some(ap)),
            (_, Ap(0)) => Ok(None),
            (_, ap) => Err(NoMeaning { kind: "absent access-pattern register", value: ap.0.into() }),
        }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Some(ap) => ap.print(f),
            None => f.write_str("-"),
        }
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        if c.eat("-") { Ok(None) } else { Ap::parse(c).map(Some) }
    }
    fn draw(rng: &mut Rng) -> Self {
        (rng.below(3) > 0).then(|| Ap::draw(rng))
    }
}

/// Extents of an on-chip operation: partitions and three free dims, each at least 1. Text: `128:1x4x64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Partitions, 1 to 256.
    pub parts: u16,
    /// Free extents, 1 to 65536 each.
    pub n: [u32; 3],
}

impl Shape {
    /// Partitions and free extents; checked when encoded.
    pub fn new(parts: u16, n: [u32; 3]) -> Self {
        Shape { parts, n }
    }
    /// Elements in each partition.
    pub fn free(&self) -> u64 {
        self.n.iter().map(|n| u64::from(*n)).product()
    }
    /// Elements in all partitions.
    pub fn elements(&self) -> u64 {
        u64::from(self.parts) * self.free()
    }
    /// The shape after reducing these dims to extent 1.
    pub fn without(self, dims: Dims) -> Self {
        let mut n = self.n;
        (0..3).filter(|d| dims.has(*d)).for_each(|d| n[d] = 1);
        Shape { n, ..self }
    }
}

impl Field for Shape {
    const BITS: u32 = 8 + 3 * 16;
    const KIND: &'static str = "shape";
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        Parts(self.parts).put(w)?;
        self.n.iter().try_for_each(|n| Len(*n).put(w))
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        Ok(Shape { parts: Parts::get(r)?.0, n: [Len::get(r)?.0, Len::get(r)?.0, Len::get(r)?.0] })
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}x{}x{}", self.parts, self.n[0], self.n[1], self.n[2])
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let parts = Parts::parse(c)?.0;
        c.expect(":")?;
        let n0 = Len::parse(c)?.0;
        c.expect("x")?;
        let n1 = Len::parse(c)?.0;
        c.expect("x")?;
        Ok(Shape { parts, n: [n0, n1, Len::parse(c)?.0] })
    }
    fn draw(rng: &mut Rng) -> Self {
        Shape { parts: Parts::draw(rng).0, n: [Len::draw(rng).0, Len::draw(rng).0, Len::draw(rng).0] }
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.print(f)
    }
}

/// The contents of an access-pattern register: four dims over DRAM, outermost first.
///
/// For transfers the dims are (partitions, n0, n1, n2). Element (i0, i1, i2, i3) of type `dt` lies at byte
/// `base + reg + (Σ i·stride)·size(dt)`; `reg` comes from the instruction that uses the pattern.
///
/// Text: `f32 @0x1000 [128,1,4,64] <256,0,64,1>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessPattern {
    /// Element type in DRAM.
    pub dt: Dt,
    /// Byte address of element 0, 48 bits.
    pub base: u64,
    /// Extents. Zero moves nothing.
    pub size: [u32; 4],
    /// Strides in elements, 40 bits signed.
    pub stride: [i64; 4],
}

impl Default for AccessPattern {
    /// What the registers hold at the start: nothing.
    fn default() -> Self {
        AccessPattern { dt: Dt::F32, base: 0, size: [0; 4], stride: [0; 4] }
    }
}

impl AccessPattern {
    /// Number of elements, counting repeated ones.
    pub fn elements(&self) -> u64 {
        self.size.iter().map(|n| u64::from(*n)).fold(1, u64::saturating_mul)
    }
}

impl Field for AccessPattern {
    const BITS: u32 = 4 + DRAM_ADDRESS_BITS + 4 * 32 + 4 * LONG_STRIDE_BITS;
    const KIND: &'static str = "access pattern";
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        in_range(self.base >> DRAM_ADDRESS_BITS == 0, "DRAM address", self.base)?;
        for s in self.stride {
            in_range(fits_signed(s, LONG_STRIDE_BITS), "element stride of an access pattern", s)?;
        }
        self.dt.put(w)?;
        w.put(self.base, DRAM_ADDRESS_BITS);
        self.size.iter().for_each(|n| w.put((*n).into(), 32));
        self.stride.iter().for_each(|s| w.put(*s as u64 & ((1 << LONG_STRIDE_BITS) - 1), LONG_STRIDE_BITS));
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        Ok(AccessPattern {
            dt: Dt::get(r)?,
            base: r.get(DRAM_ADDRESS_BITS),
            size: [0; 4].map(|_: u32| r.get(32) as u32),
            stride: [0; 4].map(|_: i64| sign_extend(r.get(LONG_STRIDE_BITS), LONG_STRIDE_BITS)),
        })
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ([a, b, c, d], [s, t, u, v]) = (self.size, self.stride);
        write!(f, "{} @{:#x} [{a},{b},{c},{d}] <{s},{t},{u},{v}>", self.dt, self.base)
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let dt = Dt::parse(c)?;
        c.expect("@")?;
        let base = c.integer(0, (1 << DRAM_ADDRESS_BITS) - 1)? as u64;
        let mut pattern = AccessPattern { dt, base, size: [1; 4], stride: [0; 4] };
        c.expect("[")?;
        for (i, n) in pattern.size.iter_mut().enumerate() {
            if i > 0 {
                c.expect(",")?;
            }
            *n = c.integer(0, u32::MAX.into())? as u32;
        }
        c.expect("]")?;
        c.expect("<")?;
        for (i, s) in pattern.stride.iter_mut().enumerate() {
            if i > 0 {
                c.expect(",")?;
            }
            let limit = 1 << (LONG_STRIDE_BITS - 1);
            *s = c.integer(-limit, limit - 1)? as i64;
        }
        c.expect(">")?;
        Ok(pattern)
    }
    fn draw(rng: &mut Rng) -> Self {
        AccessPattern {
            dt: Dt::draw(rng),
            base: rng.edgy(DRAM_ADDRESS_BITS),
            size: [0; 4].map(|_: u32| rng.edgy(32) as u32),
            stride: [0; 4].map(|_: i64| sign_extend(rng.edgy(LONG_STRIDE_BITS), LONG_STRIDE_BITS)),
        }
    }
}

/// Registers advanced at the end of each loop iteration. Text: `r3:64 r4:-128`; left out, none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Steps(pub [(Reg, i64); 4]);

impl Steps {
    /// Up to four steps; `None` if there are more.
    pub fn of(steps: &[(Reg, i64)]) -> Option<Self> {
        let mut all = Steps::default();
        all.0.get_mut(..steps.len())?.copy_from_slice(steps);
        Some(all)
    }
    /// The steps that do something.
    pub fn active(&self) -> impl Iterator<Item = (Reg, i64)> + '_ {
        self.0.iter().copied().filter(|(r, step)| *r != Reg(0) && *step != 0)
    }
}

impl Field for Steps {
    const BITS: u32 = 4 * (5 + LONG_STRIDE_BITS);
    const KIND: &'static str = "loop steps";
    const NAMED: bool = true;
    fn put(self, w: &mut BitWriter) -> Result<(), OutOfRange> {
        for (reg, step) in self.0 {
            in_range(fits_signed(step, LONG_STRIDE_BITS), "loop step", step)?;
            reg.put(w)?;
            w.put(step as u64 & ((1 << LONG_STRIDE_BITS) - 1), LONG_STRIDE_BITS);
        }
        Ok(())
    }
    fn get(r: &mut BitReader) -> Result<Self, NoMeaning> {
        let mut all = Steps::default();
        for slot in &mut all.0 {
            *slot = (Reg::get(r)?, sign_extend(r.get(LONG_STRIDE_BITS), LONG_STRIDE_BITS));
        }
        Ok(all)
    }
    fn absent() -> Option<Self> {
        Some(Steps::default())
    }
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let used = 4 - self.0.iter().rev().take_while(|s| **s == (Reg(0), 0)).count();
        for (i, (reg, step)) in self.0[..used].iter().enumerate() {
            write!(f, "{}{reg}:{step}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
    fn parse(c: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let mut all = Steps::default();
        for (i, slot) in all.0.iter_mut().enumerate() {
            if i > 0 && !c.ahead("r") {
                break;
            }
            let reg = Reg::parse(c)?;
            c.expect(":")?;
            let limit = 1 << (LONG_STRIDE_BITS - 1);
            *slot = (reg, c.integer(-limit, limit - 1)? as i64);
        }
        Ok(all)
    }
    fn draw(rng: &mut Rng) -> Self {
        let mut all = Steps::default();
        let used = rng.below(5) as usize;
        for slot in &mut all.0[..used] {
            *slot = (Reg::draw(rng), sign_extend(rng.edgy(LONG_STRIDE_BITS), LONG_STRIDE_BITS));
        }
        all
    }
}

/// How an instruction uses an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Its elements are read.
    Read,
    /// Its elements are overwritten.
    Write,
    /// Both.
    Update,
}

impl Role {
    /// [`Role::Update`] if the operation continues from what is there, else [`Role::Write`].
    pub fn accumulate(continues: bool) -> Self {
        if continues { Role::Update } else { Role::Write }
    }
    /// Whether the old contents matter.
    pub fn reads(self) -> bool {
        self != Role::Write
    }
    /// Whether the contents change.
    pub fn writes(self) -> bool {
        self != Role::Read
    }
}

/// Over which elements an on-chip operand ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Given by the instruction.
    Shape(Shape),
    /// (partitions, n0, n1, n2) are the four sizes of an access pattern.
    Pattern(Ap),
    /// Partitions and n0 from the instruction, n1 and n2 from the pattern's dims 1 and 2.
    Gather {
        /// Partitions.
        parts: Parts,
        /// Indexed rows in each partition.
        n0: Len,
        /// The pattern.
        ap: Ap,
    },
}

impl Extent {
    /// The shape once the access patterns are known; `None` if it is empty or larger than any shape.
    pub fn resolve(self, patterns: &[AccessPattern; 16]) -> Option<Shape> {
        let shape = match self {
            Extent::Shape(shape) => shape,
            Extent::Pattern(ap) => {
                let [p, n0, n1, n2] = patterns[usize::from(ap.0 & 15)].size;
                Shape::new(u16::try_from(p).ok()?, [n0, n1, n2])
            }
            Extent::Gather { parts, n0, ap } => {
                let size = patterns[usize::from(ap.0 & 15)].size;
                Shape::new(parts.0, [n0.0, size[1], size[2]])
            }
        };
        let legal =
            (1..=Parts::MAX).contains(&shape.parts) && shape.n.iter().all(|n| (1..=Len::MAX).contains(n));
        legal.then_some(shape)
    }
}

impl From<Shape> for Extent {
    fn from(shape: Shape) -> Self {
        Extent::Shape(shape)
    }
}

/// One operand in memory, as the instruction's row declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// In SPM or ACC.
    OnChip {
        /// The row's name of the operand.
        name: &'static str,
        /// How it is used.
        role: Role,
        /// Where it is.
        view: View,
        /// Over which elements.
        extent: Extent,
    },
    /// In DRAM, through an access pattern.
    Dram {
        /// The row's name of the operand.
        name: &'static str,
        /// How it is used.
        role: Role,
        /// The pattern.
        ap: Ap,
        /// The register added to its base.
        reg: Add,
    },
}

impl Operand {
    /// How it is used.
    pub fn role(&self) -> Role {
        match self {
            Self::OnChip { role, .. } | Self::Dram { role, .. } => *role,
        }
    }
}

/// What a table row may name as an operand.
pub trait OperandSource {
    /// Appends the operand, if there is one.
    fn declare(self, name: &'static str, role: Role, extent: Extent, list: &mut Vec<Operand>);
}

impl OperandSource for View {
    fn declare(self, name: &'static str, role: Role, extent: Extent, list: &mut Vec<Operand>) {
        list.push(Operand::OnChip { name, role, view: self, extent });
    }
}

impl OperandSource for Option<View> {
    fn declare(self, name: &'static str, role: Role, extent: Extent, list: &mut Vec<Operand>) {
        if let Some(view) = self {
            view.declare(name, role, extent, list);
        }
    }
}

/// A DRAM operand of a row: the pattern and the register added to its base.
impl OperandSource for (Ap, Add) {
    fn declare(self, name: &'static str, role: Role, _extent: Extent, list: &mut Vec<Operand>) {
        list.push(Operand::Dram { name, role, ap: self.0, reg: self.1 });
    }
}

impl OperandSource for (Option<Ap>, Add) {
    fn declare(self, name: &'static str, role: Role, extent: Extent, list: &mut Vec<Operand>) {
        if let Some(ap) = self.0 {
            (ap, self.1).declare(name, role, extent, list);
        }
    }
}
