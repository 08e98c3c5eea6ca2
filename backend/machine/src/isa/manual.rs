//! The instruction-set manual, written from the table.

use std::fmt::{self, Write};

use crate::numerics::act::BOUNDS;

use super::{AccessPattern, Field, LONG_STRIDE_BITS, OFFSET_BITS, STRIDE_BITS, Steps};
use super::{
    ActFunc, AluOp, BitWriter, Class, Cond, CvtMode, Dt, ROWS, RedOp, Row, Shape, Space, VecOp, View,
    WORD_BITS,
};

/// The page `docs/isa.md`.
pub fn manual() -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_manual(&mut text);
    text
}

fn write_manual(out: &mut String) -> fmt::Result {
    out.write_str(PREFACE)?;
    for (func, bound) in BOUNDS {
        writeln!(out, "| `{func}` | {bound} |")?;
    }
    out.write_str(FIELD_KINDS)?;
    write_composites(out)?;
    write_choices(out)?;
    writeln!(
        out,
        "\n## Instructions\n\n| mnemonic | opcode | words | runs on | summary |\n|---|---|---|---|---|"
    )?;
    for row in ROWS {
        let (m, code, words, class) = (row.mnemonic, row.opcode, row.words, class_name(row.class));
        writeln!(out, "| [`{m}`](#{m}) | `{code:#04x}` | {words} | {class} | {} |", summary(row))?;
    }
    ROWS.iter().try_for_each(|row| write_row(out, row))
}

const PREFACE: &str = "\
# The instruction set

Written from the table in `backend/machine/src/isa.rs` by `cargo test -p kiln-machine`; do not edit. After a change
of the table, `KILN_BLESS=1 cargo test -p kiln-machine manual` rewrites this page.

## Streams and words

Each engine (`ctl mxu vec act col`) and each DMA queue (`q0` … `q15`) runs its own stream of 256-bit words, with its
own program counter, 32 registers of 64 bits (`r0` reads 0), 16 access-pattern registers and a stack of 8 loops. A
stream issues in order, and its instructions take effect as if one after another; streams are ordered among
themselves only by semaphores. An instruction is one or two words, little-endian; bits 0 to 7 of the first are the
opcode, the fields follow from bit 8 in the order of the row, the rest is zero. What decodes encodes to the same
words; anything else is an illegal instruction.

## Exceptions

An exception (a trap) ends the run and names engine, word, cycle, instruction and ONNX node. There are
*illegal* (no such instruction, operand or type here), *bounds* (outside a memory), *alignment* (an element not at a
multiple of its size), *uninitialised* (reading what nothing wrote), *race* (two streams touch one place without a
semaphore between them), *semaphore* overflow, *deadlock* (every stream waits), *arithmetic* (scalar division by zero).

## Timing

Ticks of the base clock; the numbers are keys of the target (`kiln targets`), the formulas are in
`backend/machine/src/duration.rs`, which solver, scheduler and simulator share.

| class | the stream goes on after | the unit is busy for | complete after |
|---|---|---|---|
| control | `control_cycles` | the same | the same |
| mma | `control_cycles` | 4·n / (MACs per 4 cycles of the type) cycles for n columns | busy + `mxu_startup_cycles` + 2·`partitions` cycles |
| stationary load | `control_cycles` | a cycle a row, on the grid's load port beside a running mma | busy + `mxu_startup_cycles` |
| vec | busy | `vec_startup_cycles` + ⌈n·factor·`partitions` / `vec_lanes`⌉ cycles, n elements a partition; factor `vec_div_factor` for div, mod, fmod, `vec_pow_factor` for pow | busy |
| act | busy | `act_startup_cycles` + ⌈n·`partitions` / `act_lanes`⌉ cycles | busy |
| dma | `dma_issue_cycles` | the greater of DRAM bytes at `dma_queue_bytes_per_second` and on-chip bytes at `dma_spm_bytes_per_second` | issue + `dma_latency_ns` (if DRAM takes part) + moving |

DRAM bytes are those of the contiguous runs of the access pattern, walked innermost dim first, each run in whole
bursts of `dram_burst_bytes`; a dim of stride 0 is read once. All queues together share `dram_bytes_per_second`. 

**Cores.** Core c of a target with several is in row ⌊c/columns⌋ and column c mod columns of a torus of `torus_rows`
rows; each core has a link to each neighbour. All cores share DRAM and its bandwidth; everything else each has for itself.

| class | rule |
|---|---|
| message | goes along its row, the shorter way round (of equal ways to higher numbers), then along its column. Link i of its way is taken for bytes / `link_bytes_per_second` from i·`link_latency_ns` after the start, which is the first moment at which all of them are free for that; earlier issued goes first. The stream goes on when the bytes have left, it is complete a latency a link later |
| barrier | ends, for all, the longest way between two members after the last has come; then takes one control time |
| reduction | starts when the last member has come, as a message from member to member in ascending order and back: the bytes once, a latency for each of those links |

**The array.** Rows are the partitions of the moving operand, columns those of the accumulators. The feeder of a row band
earns the type's MACs per 4 cycles as credit and sends a column for every 4. A column passes `mxu_startup_cycles` stages, reads
its accumulators, enters row r after r registers and its sums column c after c registers, crosses the array an element a
cycle, and is written in all its accumulators at once, 2·`partitions` cycles after it read them. A product enters when its
bands have been fed and their loads are complete; behind a product on the same accumulators (rectangle, strides and
extents) no sooner than the array's depth, `mxu_startup_cycles` + 2·`partitions`, after that one entered, and so late that
it is fed to its end no sooner than that one is complete; behind one on accumulators that overlap otherwise, when that
is complete. A load reads a row a cycle into the second plane of elements, which the next product takes over on its way;
loads follow one another on one port.

## Numerics

Everything is exact or rounded to nearest, ties to even, as IEEE 754 says; subnormals are kept, on input and output, in
every type; nothing traps on a float. The same program gives the same bits on any host and with any number of threads,
but for the sign and payload of a NaN that an operation makes, which are not defined.

**Conversion `cast`** (`vcvt`, and wherever an operand's type is not the one computed in):

| from \\ to | f32 | bf16, f16, f8e5m2 | f8e4m3 | integer |
|---|---|---|---|---|
| float | exact from narrower types | nearest even; what rounds beyond the greatest finite number is ∞ (f16 from 65520, f8e5m2 from 61440); NaN is quiet NaN | nearest even; what rounds beyond 448 (above 464), and ∞, is NaN `s.1111.111` | toward zero, saturating at the type's ends; NaN is 0 |
| integer | nearest even (exact below 2²⁴) | through f32: two roundings beyond 2²⁴ | through f32 | the low bits; a wider type extends by the sign, or by zero from an unsigned one |

`i4` and `u4` are extended to `i8` and `u8` when they are loaded. Conversion `round` differs in float to integer only:
nearest even. `nonzero` gives 0 or 1 of the type; −0 is zero and NaN is not.

**VEC arithmetic** is in i32 when both sources are integers (unsigned order, quotient, remainder and right shift when the
first is u32), else in f32. Floats: `add sub mul div` round once; `fmod` is exact and `mod` rounds once more where it adds
the divisor; `max min` give NaN if either is NaN, and of two zeros the second; comparisons with NaN are false, but `ne`;
`pow` is within 1 ULP, with IEEE 754's special cases. Integers wrap; division and remainder by zero give 0.

**ACT functions** compute in f32. Those that are not exact or correctly rounded have a bound in units in the last place of
the f32 result; `cargo run --release -p kiln-machine --example numerics` measures them over all 2³² arguments, which takes
some minutes for each function. The greatest found over all of them were 1.0604 for `erf`, 1.4797 for `sigmoid`, 1.9899
for `softplus`, 0.5010 for `sin` and `cos`:

| function | ULP at most |
|---|---|
";

const FIELD_KINDS: &str = "
## Field kinds

";

fn write_composites(out: &mut String) -> fmt::Result {
    writeln!(out, "| kind | bits | text | contents, from the lowest bit |\n|---|---|---|---|")?;
    writeln!(
        out,
        "| view | {} | `spm[0:0x400+r3].f32<0,64,1>` | space 1, first partition 8, byte offset {OFFSET_BITS}, register 5, type 4, \
         three element strides of {STRIDE_BITS} signed. Element (p, i0, i1, i2) is in partition `part + p` at byte \
         `off + reg + (i0·s0 + i1·s1 + i2·s2)·size`. Strides left out are `<0,0,1>` |",
        View::BITS
    )?;
    writeln!(
        out,
        "| optional view | {} | a view, or left out | presence 1, then the view, zero when absent |",
        <Option<View>>::BITS
    )?;
    writeln!(
        out,
        "| shape | {} | `128:1x4x64` | partitions 8 and three free extents of 16, each stored minus one |",
        Shape::BITS
    )?;
    writeln!(
        out,
        "| access pattern | {} | `f32 @0x1000 [128,1,4,64] <256,0,64,1>` | type 4, DRAM byte address 48, four extents of 32, \
         four element strides of {LONG_STRIDE_BITS} signed; outermost first |",
        AccessPattern::BITS
    )?;
    writeln!(
        out,
        "| loop steps | {} | `r3:64 r4:-128` | four times register 5 and step {LONG_STRIDE_BITS} signed |",
        Steps::BITS
    )?;
    writeln!(out, "| partition count, extent | 8, 16 | `128` | stored minus one |")?;
    writeln!(out, "| word index | 24 | a label, or `@12` | index of a word of the own stream |")?;
    writeln!(out, "| set of free dims | 3 | `n1n2`, `-` | bit d for free dim d |")?;
    writeln!(
        out,
        "| control register | 8 | `scalar3`, `cycle`, `core` | 0 to 239 runtime scalars, 240, 241 |"
    )?;
    writeln!(
        out,
        "| 32-bit immediate | 32 | `5`, `1.5f`, `inf`, `0x7fc00000` | bits of an i32 or f32, as the operand types say |"
    )?;
    writeln!(out, "| f32 immediate | 32 | `0.125` | |\n")?;
    writeln!(
        out,
        "Named operands are written `name=value`; those in brackets may be left out and then are zero, absent, or"
    )?;
    writeln!(out, "one (scales and extents).")
}

fn write_choices(out: &mut String) -> fmt::Result {
    type Choice = (&'static str, u32, &'static [(&'static str, &'static str)], Vec<u64>);
    fn codes<T: Field>(all: &[T]) -> Vec<u64> {
        all.iter()
            .map(|value| {
                let mut w = BitWriter::default();
                // A choice always fits.
                let _ = value.put(&mut w);
                w.words()[0][0]
            })
            .collect()
    }
    macro_rules! choice {
        ($T:ty) => {
            (<$T as Field>::KIND, <$T as Field>::BITS, <$T>::meanings(), codes(<$T>::ALL))
        };
    }
    let choices: Vec<Choice> = vec![
        choice!(Dt),
        choice!(Space),
        choice!(AluOp),
        choice!(Cond),
        choice!(VecOp),
        choice!(RedOp),
        choice!(CvtMode),
        choice!(ActFunc),
    ];
    for (kind, bits, meanings, codes) in choices {
        writeln!(
            out,
            "\n**{kind}** ({bits} bit{})\n\n| code | name | meaning |\n|---|---|---|",
            if bits == 1 { "" } else { "s" }
        )?;
        for ((name, meaning), code) in meanings.iter().zip(codes) {
            writeln!(out, "| {code} | `{name}` | {} |", meaning.trim().replace('|', "\\|"))?;
        }
    }
    Ok(())
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Any => "every stream",
        Class::Dma => "DMA queues",
        Class::Mxu => "mxu",
        Class::Vec => "vec",
        Class::Act => "act",
        Class::Col => "col",
    }
}

fn summary(row: &Row) -> &'static str {
    row.doc.lines().next().unwrap_or_default().trim()
}

fn write_row(out: &mut String, row: &Row) -> fmt::Result {
    writeln!(out, "\n### {}\n\n{}", row.mnemonic, summary(row))?;
    let notes: Vec<&str> = row.doc.lines().skip(1).map(str::trim).collect();
    if !notes.is_empty() {
        writeln!(out, "\n{}", notes.join("\n"))?;
    }
    let operands: Vec<String> = row.fields.iter().map(|f| f.syntax()).collect();
    writeln!(out, "\n**Syntax.** `{}`", format!("{} {}", row.mnemonic, operands.join(", ")).trim())?;
    writeln!(
        out,
        "\n**Encoding.** {} word{}, opcode `{:#04x}`",
        row.words,
        if row.words == 1 { "" } else { "s" },
        row.opcode
    )?;
    if !row.fields.is_empty() {
        writeln!(out, "\n| bits | field | kind |\n|---|---|---|")?;
        let mut at = 8;
        for f in row.fields {
            writeln!(out, "| {at}–{} | `{}` | {} |", at + f.bits - 1, f.name, f.kind)?;
            at += f.bits;
        }
        let end = row.words * WORD_BITS;
        if at < end {
            writeln!(out, "| {at}–{} | | zero |", end - 1)?;
        }
    }
    writeln!(out, "\n**Functional model.** `{}`", row.model)?;
    for (title, body) in [("Numerics", row.numerics), ("Timing", row.timing), ("Exceptions", row.traps)] {
        writeln!(out, "\n**{title}.** {body}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/isa.md");
        let text = manual();
        if std::env::var_os("KILN_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        let differs = text.lines().zip(found.lines()).position(|(a, b)| a != b);
        assert!(
            text == found,
            "docs/isa.md is stale (first at line {}); run KILN_BLESS=1 cargo test -p kiln-machine manual",
            differs.unwrap_or_else(|| text.lines().count().min(found.lines().count())) + 1
        );
    }
}
