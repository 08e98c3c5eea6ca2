//! The instruction set, as one table.
//!
//! From a row come the variant of [`Inst`], encoding and decoding, the assembly syntax, the operand roles, the
//! method of [`Visitor`] that every simulator must have, and the page in `docs/isa.md`. Durations are in
//! [`crate::duration`], where the compiler asks for an arm for each row.
//!
//! **Reading a row.**
//! ```text
//! /// Summary.                                       first line: what it does; the rest: notes
//! mma = Mma @ 0x40, 2 words of Mxu {                 mnemonic = variant @ opcode, words, engine class
//!     acc: View, mov: View, k: Parts, …              fields from bit 8 upwards, as named in assembly
//! } touches {                                        operands in memory: use, field, extents
//!     accumulate(cont) acc over shape(m, n0, n1, n2);
//! } model "…" timing "…" traps "…";                  for the manual
//! ```
//! **Naming.** A mnemonic starts with the unit where there is a choice: `d…` DMA, `v…` VEC, `act…` ACT, `m…` MXU,
//! `c…` COL; the rest says the operation (`dga` = DMA gather, `vts` = VEC tensor-scalar).

pub mod bits;
pub mod choice;
pub mod engine;
pub mod field;
pub mod manual;
pub mod operand;
pub mod text;

use std::fmt;

pub use bits::{BitReader, BitWriter, WORD_BITS, Word};
pub use choice::*;
pub use engine::{Class, Engine};
pub use field::*;
pub use operand::*;
pub use text::{Cursor, SyntaxError};

use crate::random::Rng;

/// A value that the instruction's encoding cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{mnemonic}: operand `{operand}`: {source}")]
pub struct EncodeError {
    /// The instruction.
    pub mnemonic: &'static str,
    /// The field of its row.
    pub operand: &'static str,
    /// Why.
    pub source: OutOfRange,
}

/// Words that are no instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No row has this opcode.
    #[error("no instruction has opcode {opcode:#04x}")]
    Opcode {
        /// Bits 0..8.
        opcode: u8,
    },
    /// The stream ends inside a two-word instruction.
    #[error("{mnemonic}: the second word is missing")]
    Truncated {
        /// The instruction.
        mnemonic: &'static str,
    },
    /// A field holds a pattern without meaning.
    #[error("{mnemonic}: operand `{operand}`: {source}")]
    Field {
        /// The instruction.
        mnemonic: &'static str,
        /// The field of its row.
        operand: &'static str,
        /// Why.
        source: NoMeaning,
    },
    /// Bits beyond the last field are set.
    #[error("{mnemonic}: reserved bits are not zero")]
    Reserved {
        /// The instruction.
        mnemonic: &'static str,
    },
}

/// One field of a row.
#[derive(Clone, Copy, Debug)]
pub struct FieldRow {
    /// Name of the operand.
    pub name: &'static str,
    /// What it holds.
    pub kind: &'static str,
    /// Width.
    pub bits: u32,
    /// Whether it is written `name=value`.
    pub named: bool,
    /// Whether it may be left out.
    pub optional: fn() -> bool,
}

impl FieldRow {
    /// How the operand is written, with its kind for a value.
    pub fn syntax(&self) -> String {
        match (self.named, (self.optional)()) {
            (true, true) => format!("[{}=<{}>]", self.name, self.kind),
            (true, false) => format!("{}=<{}>", self.name, self.kind),
            (false, _) => format!("<{}: {}>", self.name, self.kind),
        }
    }
}

/// One row of the table, for manuals and listings.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name in assembly.
    pub mnemonic: &'static str,
    /// Bits 0..8 of the first word.
    pub opcode: u8,
    /// Length in 256-bit words, 1 or 2.
    pub words: u32,
    /// Which engine executes it.
    pub class: Class,
    /// Its fields, in encoding order.
    pub fields: &'static [FieldRow],
    /// Summary and notes.
    pub doc: &'static str,
    /// What it computes.
    pub model: &'static str,
    /// How it rounds, saturates, and treats NaN and subnormals.
    pub numerics: &'static str,
    /// How long it takes, in words.
    pub timing: &'static str,
    /// When it traps.
    pub traps: &'static str,
}

fn free(parts: Parts, n0: Len, n1: Len, n2: Len) -> Shape {
    Shape::new(parts.0, [n0.0, n1.0, n2.0])
}

/// Calls `$m!` with every row.
#[macro_export]
#[rustfmt::skip] // a table
macro_rules! for_each_inst { ($m:ident) => { $m! {
    // ---- control, on every stream -------------------------------------------------------------------------------
    /// Does nothing for one cycle.
    nop = Nop @ 0x01, 1 words of Any {} touches {}
        model "nothing" numerics "nothing is computed" timing "control" traps "none";
    /// Ends the stream.
    /// The program ends when every stream has ended and every transfer is complete.
    halt = Halt @ 0x02, 1 words of Any {} touches {}
        model "the stream ends" numerics "nothing is computed" timing "control" traps "none";
    /// Loads a register with a constant.
    li = Li @ 0x03, 1 words of Any { rd: Reg, imm: i64 } touches {}
        model "rd = imm" numerics "exact" timing "control" traps "none";
    /// Scalar arithmetic.
    alu = Alu @ 0x04, 1 words of Any { op: AluOp, rd: Reg, ra: Reg, rb: Reg, imm: i64 } touches {}
        model "rd = ra op (rb + imm)" numerics "64-bit two's complement, wrapping; `div` truncates, the least value by −1 wraps to itself" timing "control" traps "arithmetic: `div` or `mod` by zero";
    /// Branches on two registers.
    br = Br @ 0x05, 1 words of Any { cond: Cond, ra: Reg, rb: Reg, to: Pc } touches {}
        model "if ra cond rb { pc = to }" numerics "compares as signed" timing "control" traps "illegal: `to` is not the first word of an instruction of this stream";
    /// Opens a counted loop.
    /// The body runs `count + rc` times; `end` is the word index of the matching `endl`. With 0 or fewer iterations
    /// execution goes on after that `endl` and no step is applied. Loops nest to a depth of 8.
    r#loop = Loop @ 0x06, 1 words of Any { count: u32, rc: Add, end: Pc, step: Steps } touches {}
        model "repeat count + rc times { body; for (r, s) in step { r += s } }; every r of step = its value at entry" numerics "steps wrap at 64 bits"
        timing "control" traps "illegal: `end` is no `endl`; nesting deeper than 8";
    /// Closes the innermost loop.
    endl = Endl @ 0x07, 1 words of Any {} touches {}
        model "next iteration, or leave" numerics "as `loop`" timing "none: the fetch unit closes loops (a hardware loop)" traps "illegal: no loop is open";
    /// Waits for a semaphore.
    semw = Semw @ 0x08, 1 words of Any { sem: Sem, n: u16 } touches {}
        model "block until sem ≥ n; sem -= n" numerics "counts are 0 to 65535" timing "control, and the time blocked" traps "illegal: no such semaphore; deadlock: every stream waits";
    /// Signals a semaphore.
    /// The addition happens when all earlier instructions of this stream are complete; the stream goes on at once.
    sems = Sems @ 0x09, 1 words of Any { sem: Sem, n: u16 } touches {}
        model "sem += n" numerics "counts are 0 to 65535" timing "control; the signal arrives `sem_latency_cycles` after completion" traps "illegal: no such semaphore; semaphore overflow above 65535";
    /// Waits until all earlier instructions of this stream are complete.
    fence = Fence @ 0x0a, 1 words of Any {} touches {}
        model "block until all earlier instructions of the stream are complete" numerics "nothing is computed" timing "control, and the time blocked" traps "none";
    /// Loads a register from one on-chip element.
    /// The element is that of partition `src.part`; integers are sign- or zero-extended by their type, an f32 gives its bits.
    lds = Lds @ 0x0b, 1 words of Any { rd: Reg, src: View }
        touches { Role::Read => src, src, Shape::new(1, [1, 1, 1]); }
        model "rd = src[0]" numerics "exact" timing "control, then one access of the memory" traps "bounds; alignment; uninitialised";
    /// Stores a register to one on-chip element.
    sts = Sts @ 0x0c, 1 words of Any { rs: Reg, dst: View }
        touches { Role::Write => dst, dst, Shape::new(1, [1, 1, 1]); }
        model "dst[0] = low bits of rs" numerics "high bits of `rs` are dropped" timing "control, then one access of the memory" traps "bounds; alignment";
    /// Sets an access-pattern register.
    apset = Apset @ 0x0d, 2 words of Any { ap: Ap, pattern: AccessPattern } touches {}
        model "ap = pattern" numerics "exact" timing "control" traps "none";
    /// Reads a control register.
    csr = ReadCsr @ 0x0e, 1 words of Any { rd: Reg, which: Csr } touches {}
        model "rd = runtime scalar | cycle | core" numerics "exact" timing "control" traps "illegal: a scalar that the program does not declare";
    /// Stops the program with a code.
    trap = Trap @ 0x0f, 1 words of Any { code: u16 } touches {}
        model "stop" numerics "nothing is computed" timing "control" traps "always, with `code`";

    // ---- DMA ----------------------------------------------------------------------------------------------------
    /// Loads from DRAM.
    /// A stride of 0 repeats; repeated elements are read from DRAM once. Types convert as `vcvt` mode `cast`.
    dld = Dld @ 0x10, 1 words of Dma { dst: View, ap: Ap, reg: Add }
        touches { Role::Write => dst, dst, Extent::Pattern(ap); Role::Read => ap, (ap, reg), Extent::Pattern(ap); }
        model "for (p, i0, i1, i2) in ap.size: dst[p, i0, i1, i2] = convert(dram[ap.base + reg + (p·stride0 + i0·stride1 + i1·stride2 + i2·stride3)·size(ap.dt)])" numerics "conversion `cast`, once; equal types keep their bits"
        timing "dma, runs along the last dims" traps "bounds; alignment; uninitialised";
    /// Stores to DRAM.
    dst = Dst @ 0x11, 1 words of Dma { ap: Ap, reg: Add, src: View }
        touches { Role::Read => src, src, Extent::Pattern(ap); Role::Write => ap, (ap, reg), Extent::Pattern(ap); }
        model "for (p, i0, i1, i2) in ap.size: dram[ap.base + reg + …] = convert(src[p, i0, i1, i2])" numerics "as `dld`"
        timing "dma, runs along the last dims" traps "bounds; alignment; uninitialised; illegal: two elements at one address";
    /// Loads from DRAM, transposing.
    /// The values are those of `dld`; the queue walks the partition dim innermost, so that data contiguous along it
    /// comes in whole bursts.
    dtr = Dtr @ 0x12, 1 words of Dma { dst: View, ap: Ap, reg: Add }
        touches { Role::Write => dst, dst, Extent::Pattern(ap); Role::Read => ap, (ap, reg), Extent::Pattern(ap); }
        model "as dld" numerics "as `dld`" timing "dma, runs along the partition dim; on-chip bytes count `dma_transpose_factor` times" traps "as dld";
    /// Moves between on-chip places, any partitions.
    dmv = Dmv @ 0x13, 2 words of Dma { dst: View, src: View, shape: Shape }
        touches { Role::Write => dst, dst, shape; Role::Read => src, src, shape; }
        model "dst[p, i] = convert(src[p, i])" numerics "as `dld`" timing "dma, no DRAM" traps "bounds; alignment; uninitialised; illegal: overlap";
    /// Gathers rows from DRAM by indices on chip (embeddings, paged caches, experts).
    /// Dim 0 of the pattern is the indexed one: its size bounds the indices, its stride is the row pitch. `idx` holds
    /// i32 and is read with its strides for (n0).
    dga = Dga @ 0x14, 1 words of Dma { dst: View, ap: Ap, reg: Add, idx: View, parts: Parts, n0: Len }
        touches {
            Role::Write => dst, dst, Extent::Gather { parts, n0, ap };
            Role::Read => idx, idx, Shape::new(parts.0, [n0.0, 1, 1]);
            Role::Read => ap, (ap, reg), Extent::Gather { parts, n0, ap };
        }
        model "dst[p, i0, i1, i2] = convert(dram[ap.base + reg + (idx[p, i0]·stride0 + i1·stride1 + i2·stride2)·size])" numerics "as `dld`"
        timing "dma, each row its own run" traps "bounds, also an index outside 0..ap.size0; alignment; uninitialised";
    /// Scatters rows to DRAM by indices on chip.
    /// With equal indices the last row in order (p, n0) stays.
    dsc = Dsc @ 0x15, 1 words of Dma { src: View, ap: Ap, reg: Add, idx: View, parts: Parts, n0: Len }
        touches {
            Role::Read => src, src, Extent::Gather { parts, n0, ap };
            Role::Read => idx, idx, Shape::new(parts.0, [n0.0, 1, 1]);
            Role::Write => ap, (ap, reg), Extent::Gather { parts, n0, ap };
        }
        model "dram[ap.base + reg + (idx[p, i0]·stride0 + i1·stride1 + i2·stride2)·size] = convert(src[p, i0, i1, i2])" numerics "as `dld`"
        timing "dma, each row its own run" traps "as dga";
    /// Fills on-chip memory.
    dfill = Dfill @ 0x16, 1 words of Dma { dst: View, shape: Shape, imm: Imm32 }
        touches { Role::Write => dst, dst, shape; }
        model "dst[p, i] = convert(imm), imm an f32 for float types, else an i32" numerics "conversion `cast`, once" timing "dma, no DRAM" traps "bounds; alignment";

    /// Loads quantised elements from DRAM and decodes them by group scales (and zero points).
    /// The three patterns have equal extents; where a scale or zero point holds for a group of elements its strides are
    /// 0, and it is read from DRAM once. Elements are of any type, mostly `i4` or `u4`. Padding is `dfill` before it.
    dlq = Dlq @ 0x17, 1 words of Dma { dst: View, ap: Ap, reg: Add, sap: Ap, sreg: Add, zap: Option<Ap>, zreg: Add }
        touches {
            Role::Write => dst, dst, Extent::Pattern(ap);
            Role::Read => ap, (ap, reg), Extent::Pattern(ap);
            Role::Read => sap, (sap, sreg), Extent::Pattern(sap);
            Role::Read => zap, (zap, zreg), Extent::Pattern(ap);
        }
        model "dst[p, i] = convert((x − z)·s), with x, s and z at (p, i) of the patterns ap, sap and zap; z = 0 without zap"
        numerics "in f32: conversion of all three, a subtraction and a product, each rounded to nearest even (exact for x and z of at most 16 bits, but for the product); conversion `cast`"
        timing "dma, the bytes of all patterns, runs along the last dims" traps "bounds; alignment; uninitialised; illegal: extents that differ";

    // ---- MXU ----------------------------------------------------------------------------------------------------
    /// Loads the stationary operand, contracted dim on partitions.
    /// Grid rows `src.part ..+k`, columns `col ..+m`; the free dim is the last (`s2`).
    ldw = Ldw @ 0x20, 1 words of Mxu { src: View, k: Parts, m: Parts, col: u8 }
        touches { Role::Read => src, src, Shape::new(k.0, [1, 1, m.0.into()]); }
        model "S[src.part + r, col + c] = src[r, c]" numerics "exact: f32 holds every float type of the array, and integers keep their 8 bits" timing "stationary load of k rows" traps "bounds; alignment; uninitialised; illegal: type";
    /// Loads the stationary operand, output dim on partitions.
    /// Grid rows `row ..+k`, columns `col ..+m`: the transpose of what `ldw` reads.
    ldwt = Ldwt @ 0x21, 1 words of Mxu { src: View, k: Parts, m: Parts, row: u8, col: u8 }
        touches { Role::Read => src, src, Shape::new(m.0, [1, 1, k.0.into()]); }
        model "S[row + r, col + c] = src[c, r]" numerics "as `ldw`" timing "stationary load of `ldwt_factor` × max(k, m) rows" traps "as ldw";
    /// Multiplies: the moving operand streams over the stationary grid.
    /// Rows `mov.part ..+k`, columns `acc.part ..+m`. `cont` continues the chain from the accumulator, else it starts
    /// at 0; k ascends. Floats chain in f32 by fma; integers in i32, wrapping, after subtracting the zero points.
    mma = Mma @ 0x22, 2 words of Mxu { acc: View, mov: View, k: Parts, m: Parts, n0: Len, n1: Len, n2: Len, cont: bool, zs: u8, zx: u8 }
        touches { Role::accumulate(cont) => acc, acc, free(m, n0, n1, n2); Role::Read => mov, mov, free(k, n0, n1, n2); }
        model "for c in 0..m, i: a = cont ? acc[c, i] : 0; for r in 0..k: a = fma(S[mov.part + r, acc.part + c] − zs, mov[r, i] − zx, a); acc[c, i] = a" numerics "floats: each step one f32 fma, rounded to nearest even, subnormals kept, overflow to infinity, NaN from 0·∞ and ∞ − ∞ and from NaN; a sum of no step from 0 is +0. Integers: i32, wrapping, nothing saturates"
        timing "mma" traps "bounds; alignment; uninitialised; illegal: types, more columns than a bank holds, not in ACC";
    /// Multiplies block-scaled operands (one power-of-two scale, in u8 E8M0, for every 32 along k).
    mmax = Mmax @ 0x23, 2 words of Mxu { acc: View, mov: View, ss: View, sx: View, k: Parts, m: Parts, n0: Len, n1: Len, n2: Len, cont: bool }
        touches {
            Role::accumulate(cont) => acc, acc, free(m, n0, n1, n2);
            Role::Read => mov, mov, free(k, n0, n1, n2);
            Role::Read => ss, ss, Shape::new(k.0.div_ceil(32), [1, 1, m.0.into()]);
            Role::Read => sx, sx, Shape::new(k.0.div_ceil(32), [n0.0, n1.0, n2.0]);
        }
        model "as mma with S·2^(ss[r/32, c] − 127) and mov·2^(sx[r/32, i] − 127)" numerics "as `mma`; each operand is scaled in f32 before the chain: exact, but that it rounds below 2⁻¹²⁶ and overflows above f32; scale 255 is NaN" timing "mma" traps "as mma";
    /// Transposes through the array.
    mtrn = Mtrn @ 0x24, 1 words of Mxu { dst: View, src: View, parts: Parts, n: Parts }
        touches { Role::Write => dst, dst, Shape::new(n.0, [1, 1, parts.0.into()]); Role::Read => src, src, Shape::new(parts.0, [1, 1, n.0.into()]); }
        model "dst[f, p] = src[p, f] for p in 0..parts, f in 0..n" numerics "conversion `cast`, once, through f32 or i32" timing "mma with `parts` columns" traps "bounds; alignment; uninitialised; illegal: `dst` not in ACC";

    // ---- VEC ----------------------------------------------------------------------------------------------------
    /// Tensor-tensor arithmetic.
    /// In i32 when both sources are integers, else in f32; comparisons give 1 or 0; the result converts to `dst`'s type.
    vtt = Vtt @ 0x30, 2 words of Vec { op: VecOp, dst: View, a: View, b: View, shape: Shape }
        touches { Role::Write => dst, dst, shape; Role::Read => a, a, shape; Role::Read => b, b, shape; }
        model "dst[p, i] = a[p, i] op b[p, i]" numerics "see VEC arithmetic, then conversion `cast`" timing "vec" traps "bounds; alignment; uninitialised; illegal: bit operations on floats";
    /// Tensor-scalar arithmetic; `rev` swaps the operands.
    vts = Vts @ 0x31, 2 words of Vec { op: VecOp, dst: View, a: View, imm: Imm32, rev: bool, shape: Shape }
        touches { Role::Write => dst, dst, shape; Role::Read => a, a, shape; }
        model "dst[p, i] = rev ? imm op a[p, i] : a[p, i] op imm, imm an i32 when `a` is an integer, else an f32" numerics "as `vtt`" timing "vec" traps "as vtt";
    /// Chooses elementwise.
    vmrg = Vmrg @ 0x32, 2 words of Vec { dst: View, mask: View, a: View, b: View, shape: Shape }
        touches { Role::Write => dst, dst, shape; Role::Read => mask, mask, shape; Role::Read => a, a, shape; Role::Read => b, b, shape; }
        model "dst[p, i] = mask[p, i] ≠ 0 ? a[p, i] : b[p, i]" numerics "conversion `cast` of what is chosen, through f32 unless both sources are integers; a NaN mask chooses `a`" timing "vec" traps "as vtt";
    /// Chooses by an affine predicate (causal, window, length masks).
    vsel = Vsel @ 0x33, 2 words of Vec { dst: View, src: View, shape: Shape, base: i32, reg: Add, cp: Coef, c0: Coef, c1: Coef, c2: Coef, imm: Imm32 }
        touches { Role::Write => dst, dst, shape; Role::Read => src, src, shape; }
        model "dst[p, i] = base + reg + cp·p + c0·i0 + c1·i1 + c2·i2 ≥ 0 ? src[p, i] : imm (read as in vts)" numerics "the predicate is exact in 64 bits; conversion `cast` of what is chosen" timing "vec" traps "as vtt";
    /// Converts.
    vcvt = Vcvt @ 0x34, 2 words of Vec { mode: CvtMode, dst: View, src: View, shape: Shape }
        touches { Role::Write => dst, dst, shape; Role::Read => src, src, shape; }
        model "dst[p, i] = convert(mode, src[p, i])" numerics "the named conversion, once" timing "vec" traps "as vtt";
    /// Reduces over marked free dims.
    /// One chain in ascending row-major order of the marked dims; `cont` continues it from `dst` (not for arg kinds).
    vred = Vred @ 0x35, 2 words of Vec { op: RedOp, dst: View, src: View, shape: Shape, dims: Dims, cont: bool }
        touches { Role::accumulate(cont) => dst, dst, shape.without(dims); Role::Read => src, src, shape; }
        model "for each kept i: a = cont ? dst[p, i] : start(op); for each marked j ascending: a = a op src[p, i, j]; dst[p, i] = a" numerics "floats: a chain in f32, each step rounded to nearest even; max and min propagate NaN, argmax and argmin take the first NaN. Integers: i32, sums and products wrap. Then conversion `cast`" timing "vec" traps "as vtt; illegal: `cont` with argmax or argmin";
    /// Cumulates along the last dim.
    /// `carry`, where present, is the starting value of each row (read at index 0 of the last dim).
    vscan = Vscan @ 0x36, 2 words of Vec { op: RedOp, dst: View, src: View, carry: Option<View>, shape: Shape, exclusive: bool, reverse: bool }
        touches { Role::Write => dst, dst, shape; Role::Read => src, src, shape; Role::Read => carry, carry, shape.without(Dims(4)); }
        model "a = carry or start(op); for i2 ascending (descending if reverse): exclusive ? { dst = a; a = a op src } : { a = a op src; dst = a }" numerics "as `vred`; every element stored is converted, the chain is not" timing "vec, one element a cycle and partition" traps "as vtt";
    /// Gathers along the last dim inside each partition.
    vshuf = Vshuf @ 0x37, 2 words of Vec { dst: View, src: View, idx: View, shape: Shape, bound: Len }
        touches { Role::Write => dst, dst, shape; Role::Read => src, src, Shape::new(shape.parts, [shape.n[0], shape.n[1], bound.0]); Role::Read => idx, idx, shape; }
        model "dst[p, i0, i1, i2] = src[p, i0, i1, idx[p, i0, i1, i2]], 0 ≤ idx < bound" numerics "conversion `cast`" timing "vec, one element a cycle and partition" traps "as vtt; bounds: index";
    /// The k largest or smallest along the last dim, sorted; the lower index first among equals.
    vtopk = Vtopk @ 0x38, 2 words of Vec { values: View, indices: View, src: View, shape: Shape, k: Len, smallest: bool }
        touches {
            Role::Write => values, values, Shape::new(shape.parts, [shape.n[0], shape.n[1], k.0]);
            Role::Write => indices, indices, Shape::new(shape.parts, [shape.n[0], shape.n[1], k.0]);
            Role::Read => src, src, shape;
        }
        model "values[p, i0, i1, j], indices[p, i0, i1, j] = the j-th of src[p, i0, i1, ..] and its i2; NaN counts as largest" numerics "comparisons are exact, NaN is above +∞ and zeros of both signs are equal; conversion `cast`" timing "vec, once over the row for every 8 of k" traps "as vtt; illegal: k > n2";
    /// Writes an affine function of the position.
    viota = Viota @ 0x39, 2 words of Vec { dst: View, shape: Shape, base: i32, reg: Add, cp: Coef, c0: Coef, c1: Coef, c2: Coef }
        touches { Role::Write => dst, dst, shape; }
        model "dst[p, i] = convert(base + reg + cp·p + c0·i0 + c1·i1 + c2·i2)" numerics "exact in 64 bits, the low 32 bits are kept as i32; conversion `cast`" timing "vec" traps "bounds; alignment";

    // ---- ACT ----------------------------------------------------------------------------------------------------
    /// Applies a function after scale and bias, with optional sums.
    /// `sum`, where present, receives (or continues, with `sumc`) the ascending chain of the f32 results over the marked
    /// dims, before they round to `dst`'s type.
    act = Act @ 0x40, 2 words of Act { func: ActFunc, dst: View, src: View, bias: Option<View>, sum: Option<View>, over: Dims, sumc: bool, scale: ImmF32, shape: Shape }
        touches {
            Role::Write => dst, dst, shape; Role::Read => src, src, shape; Role::Read => bias, bias, shape;
            Role::accumulate(sumc) => sum, sum, shape.without(over);
        }
        model "y = f(round(scale·src[p, i]) + bias[p, i]); dst[p, i] = convert(y); sum[p, i without over] += y" numerics "scale and bias each round once in f32; then the function within its bound (see ACT functions); sums are f32 chains; conversion `cast`" timing "act" traps "bounds; alignment; uninitialised";
    /// Applies a function after a scale from memory and a bias.
    actr = Actr @ 0x41, 2 words of Act { func: ActFunc, dst: View, src: View, scale: View, bias: Option<View>, shape: Shape }
        touches { Role::Write => dst, dst, shape; Role::Read => src, src, shape; Role::Read => scale, scale, shape; Role::Read => bias, bias, shape; }
        model "dst[p, i] = convert(f(round(scale[p, i]·src[p, i]) + bias[p, i]))" numerics "as `act`" timing "act" traps "as act";
    /// Loads a lookup table: 258 f32 of the pattern: low end, step reciprocal, then 256 knots.
    lutld = Lutld @ 0x42, 1 words of Act { lut: Lut, ap: Ap, reg: Add }
        touches { Role::Read => ap, (ap, reg), Extent::Pattern(ap); }
        model "table[lut] = dram[ap]" numerics "exact" timing "dma latency and 1032 bytes" traps "bounds";

    // ---- COL ----------------------------------------------------------------------------------------------------
    /// Sends a tensor to a place of another core.
    /// It is there when the instruction is complete; `bar` behind it lets the other core know. To the own core it is a copy.
    cput = Cput @ 0x50, 2 words of Col { core: u8, dst: View, src: View, shape: Shape }
        touches { Role::Read => src, src, shape; }
        model "core's dst[p, i] = src[p, i]" numerics "as `dld`" timing "message" traps "bounds; alignment; uninitialised; illegal: no such core, or none that runs";
    /// Reduces a tensor over a group of cores, in ascending core order.
    /// Every core of the group executes one with the same operation, shape and source type, and gets the result. Group 0
    /// is every core that the program runs on, 1 those of the own row of the torus, 2 those of the own column.
    cred = Cred @ 0x51, 2 words of Col { op: RedOp, dst: View, src: View, shape: Shape, group: u8 }
        touches { Role::Write => dst, dst, shape; Role::Read => src, src, shape; }
        model "a = start(op); for each core of the group ascending: a = a op its src[p, i]; dst[p, i] = a" numerics "as `vred`" timing "reduction" traps "bounds; alignment; uninitialised; illegal: no such group, cores that reduce differently, argmax and argmin; deadlock: a core that never comes";
    /// Waits for every core of a group.
    /// Groups are those of `cred`. A core comes when all earlier instructions of this stream are complete.
    bar = Bar @ 0x52, 1 words of Col { group: u8 } touches {}
        model "block until every core of the group has come here" numerics "nothing is computed" timing "barrier" traps "illegal: no such group; deadlock: a core that never comes";
}}}

macro_rules! define { ($(
    $(#[doc = $doc:literal])*
    $method:ident = $Name:ident @ $code:literal, $words:literal words of $Class:ident { $($f:ident : $T:ty),* }
    touches { $($role:expr => $operand:ident, $source:expr, $extent:expr;)* }
    model $model:literal numerics $numerics:literal timing $timing:literal traps $traps:literal;
)*) => {
    /// An instruction with its operands.
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[allow(missing_docs)]
    pub enum Inst { $( $(#[doc = $doc])* $Name { $($f: $T),* } ),* }

    /// One method per instruction, so that none can be forgotten.
    #[allow(clippy::too_many_arguments)]
    pub trait Visitor {
        /// What a visit gives.
        type Out;
        $( $(#[doc = $doc])* fn $method(&mut self $(, $f: $T)*) -> Self::Out; )*
    }

    /// Every row, by opcode.
    pub static ROWS: &[Row] = &[$(Row {
        mnemonic: mnemonic(stringify!($method)),
        opcode: $code,
        words: $words,
        class: Class::$Class,
        fields: &[$(FieldRow {
            name: stringify!($f),
            kind: <$T as Field>::KIND,
            bits: <$T as Field>::BITS,
            named: <$T as Field>::NAMED,
            optional: || <$T as Field>::absent().is_some(),
        }),*],
        doc: concat!($($doc, "\n"),*),
        model: $model,
        numerics: $numerics,
        timing: $timing,
        traps: $traps,
    }),*];

    impl Inst {
        /// The name in assembly.
        pub fn mnemonic(&self) -> &'static str { self.row().mnemonic }

        /// Its row of the table.
        pub fn row(&self) -> &'static Row { &ROWS[self.row_index()] }

        fn row_index(&self) -> usize {
            const CODES: &[u8] = &[$($code),*];
            const AT: [u8; 256] = positions(CODES);
            AT[match self { $(Inst::$Name { .. } => $code,)* }] as usize
        }

        /// Which engine executes it.
        pub fn class(&self) -> Class { match self { $(Inst::$Name { .. } => Class::$Class,)* } }

        /// Length in 256-bit words.
        pub fn words(&self) -> u32 { match self { $(Inst::$Name { .. } => $words,)* } }

        /// Calls the visitor's method for this instruction.
        pub fn visit<V: Visitor>(self, v: &mut V) -> V::Out { match self { $(Inst::$Name { $($f),* } => v.$method($($f),*),)* } }

        /// Appends the words of this instruction.
        ///
        /// # Errors
        /// An operand that its field cannot hold.
        pub fn encode(self, out: &mut Vec<Word>) -> Result<(), EncodeError> {
            let mut w = BitWriter::default();
            let words = match self { $(Inst::$Name { $($f),* } => {
                w.put($code, 8);
                $( $f.put(&mut w).map_err(|source| EncodeError { mnemonic: mnemonic(stringify!($method)), operand: stringify!($f), source })?; )*
                $words
            })* };
            out.extend_from_slice(&w.words()[..words]);
            Ok(())
        }

        /// The instruction at the start of `words`, and how many words it takes.
        ///
        /// # Errors
        /// Anything that [`Inst::encode`] cannot have written: what decodes encodes to the same words.
        pub fn decode(words: &[Word]) -> Result<(Inst, usize), DecodeError> {
            let Some(first) = words.first() else { return Err(DecodeError::Truncated { mnemonic: "instruction" }) };
            let second = words.get(1);
            let inst = match first[0] as u8 {
                $( $code => {
                    let mnemonic = mnemonic(stringify!($method));
                    let none = [0; 4];
                    let second = match ($words, second) { (1, _) => &none, (_, Some(word)) => word, _ => return Err(DecodeError::Truncated { mnemonic }) };
                    let mut r = BitReader::new(first, second);
                    r.get(8);
                    $( let $f = <$T as Field>::get(&mut r).map_err(|source| DecodeError::Field { mnemonic, operand: stringify!($f), source })?; )*
                    if !r.rest_is_zero() { return Err(DecodeError::Reserved { mnemonic }) }
                    Inst::$Name { $($f),* }
                } )*
                opcode => return Err(DecodeError::Opcode { opcode }),
            };
            Ok((inst, inst.words() as usize))
        }

        /// Reads the operands of an instruction whose mnemonic has been read; `None` if there is no such mnemonic.
        pub(crate) fn parse_operands(name: &str, c: &mut Cursor<'_>) -> Option<Result<Inst, SyntaxError>> {
            $( if name == mnemonic(stringify!($method)) {
                #[allow(unused_mut, unused_variables)]
                let mut read = || { let mut first = true; Ok(Inst::$Name { $($f: c.operand::<$T>(stringify!($f), &mut first)?),* }) };
                return Some(read());
            } )*
            None
        }

        /// What it reads and writes in memory.
        #[allow(unused_variables)]
        pub fn operands(&self) -> Vec<Operand> {
            let mut list = Vec::new();
            match *self { $(Inst::$Name { $($f),* } => {
                $( OperandSource::declare($source, stringify!($operand), $role, Extent::from($extent), &mut list); )*
            })* }
            list
        }

        /// A random legal instruction of row `row`.
        pub fn draw(row: usize, rng: &mut Rng) -> Inst {
            let draws: &[fn(&mut Rng) -> Inst] = &[$( |_rng| Inst::$Name { $($f: <$T as Field>::draw(_rng)),* } ),*];
            draws[row % draws.len()](rng)
        }
    }

    impl fmt::Display for Inst {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.mnemonic())?;
            #[allow(unused_mut, unused_assignments)]
            match self { $(Inst::$Name { $($f),* } => {
                let mut _sep = " ";
                $( if Field::absent().as_ref() != Some($f) || !<$T as Field>::NAMED {
                    f.write_str(_sep)?;
                    if <$T as Field>::NAMED { f.write_str(concat!(stringify!($f), "="))?; }
                    Field::print($f, f)?;
                    _sep = ", ";
                } )*
            })* }
            Ok(())
        }
    }

    // The table checks itself: what is wrong here does not compile.
    const _: () = {
        $( assert!(8 $(+ <$T as Field>::BITS)* <= $words * WORD_BITS, "a row does not fit in its words"); )*
        let codes: &[u8] = &[$($code),*];
        let mut i = 0;
        while i < codes.len() {
            let mut j = i + 1;
            while j < codes.len() { assert!(codes[i] != codes[j], "two rows have one opcode"); j += 1; }
            i += 1;
        }
    };
}}
for_each_inst!(define);

/// `stringify!` keeps the `r#` of a raw identifier.
const fn mnemonic(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Position of each opcode in the table (0 where there is none: never asked).
const fn positions(codes: &[u8]) -> [u8; 256] {
    let mut at = [0; 256];
    let mut i = 0;
    while i < codes.len() {
        at[codes[i] as usize] = i as u8;
        i += 1;
    }
    at
}

#[cfg(test)]
mod tests;
