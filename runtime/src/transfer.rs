//! The values of DMA: what each transfer moves and how it converts.
//!
//! Elements of one type on both sides move as they are. Otherwise floats, and integers into floats, go through
//! f32, integers into integers through i32.

use std::ops::Range;

use kiln_machine::isa::{AccessPattern, Dt, Imm32, RedOp, Shape, Space, View};
use kiln_machine::numerics;

use crate::convert::{self, Number};
use crate::dram::{Cursor, SharedDram, Unwritten};
use crate::elementwise::{Role, prepare};
use crate::error::TrapKind;
use crate::kernels::arena::{Granted, Rect};
use crate::kernels::flow::Touch;
use crate::lane::{Borrowed, OnChip, Place, Rows};
use crate::pattern::DramPlace;

/// Bytes from which a transfer is worth a task for each thread.
const PARALLEL_BYTES: usize = 1 << 16;

/// Bytes from which rows are borrowed rather than copied.
const BORROWED_BYTES: usize = 1 << 13;

/// Partitions that are read together from DRAM where they lie side by side in it.
const TOGETHER: usize = 32;

/// Partitions that are asked for ahead of moving them.
const AHEAD: usize = 4;

/// The on-chip side of a transfer: a view and its register's value.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) view: &'a View,
    pub(crate) reg: i64,
}

impl Side<'_> {
    fn place(&self, chip: &mut OnChip, parts: u32, n: [u32; 3]) -> Result<Place, TrapKind> {
        if parts > 256 || n.iter().any(|n| *n > 1 << 16) {
            return Err(TrapKind::Extents(format!("no on-chip shape is {parts}:{n:?}")));
        }
        Ok(chip.place(self.view, self.reg, parts as usize, n)?)
    }
}

/// An access pattern and the value added to its base.
#[derive(Clone, Copy)]
pub(crate) struct Pattern<'a> {
    pub(crate) pattern: &'a AccessPattern,
    pub(crate) reg: i64,
}

impl Pattern<'_> {
    /// (partitions, free extents); `None` if it is empty.
    fn shape(&self) -> Option<(u32, [u32; 3])> {
        let [parts, n0, n1, n2] = self.pattern.size;
        (self.pattern.elements() > 0).then_some((parts, [n0, n1, n2]))
    }
}

/// What a task touches in DRAM.
fn in_dram(chip: &OnChip, place: &DramPlace, writes: bool) -> Touch {
    let (first, end) = place.span();
    let rect = Rect { parts: (0, 1), bytes: (first as usize, end as usize) };
    Touch { memory: chip.flow().other(0), rect, writes, field: 0 }
}

/// Load `dst` from DRAM.
pub(crate) fn load(
    chip: &mut OnChip,
    dram: &SharedDram,
    dst: Side<'_>,
    from: Pattern<'_>,
) -> Result<(), TrapKind> {
    let Some((parts, n)) = from.shape() else { return Ok(()) };
    let to = dst.place(chip, parts, n)?;
    let from = DramPlace::new(from.pattern, from.reg, dram.size())?;
    let parts = parts as usize;
    chip.mark(&to, to.part..to.part + parts);
    if let Some(rows) = borrowed(chip, dram, &to, &from, parts) {
        chip.borrow(rows);
        return Ok(());
    }
    let row_bytes = to.elements() * dense_size(from.dense_dt());
    let whole = (1..parts).any(|p| from.splits_a_byte(p as i64));
    let tasks = if whole || row_bytes * parts < PARALLEL_BYTES { 1 } else { chip.threads().min(parts) };
    let each = parts.div_ceil(tasks);
    for first in (0..parts).step_by(each) {
        let count = each.min(parts - first);
        let uses = [(&to, to.part + first..to.part + first + count, true)];
        let touched = in_dram(chip, &if whole { from } else { from.rows(first, count) }, false);
        let dram = dram.clone();
        chip.submit(None, &uses, &[touched], move |granted| {
            let loaded = if whole {
                load_whole(granted, &dram, &to, &from, count)
            } else {
                load_rows(granted, &dram, &to, &from, first..first + count)
            };
            loaded.map_err(unwritten)
        });
    }
    Ok(())
}

/// The rows that a load brings, if they can stay where they are: as they are on chip, one run of bytes each, in a file.
fn borrowed(
    chip: &OnChip,
    dram: &SharedDram,
    to: &Place,
    from: &DramPlace,
    parts: usize,
) -> Option<Borrowed> {
    let (address, len, pitch) = from.rows_of_bytes()?;
    if to.space != Space::Spm || !to.is_dense() || to.dt != from.dt || len * parts < BORROWED_BYTES {
        return None;
    }
    let touched = in_dram(chip, from, false);
    if !chip.flow().is_settled(touched.memory, &touched.rect) {
        return None;
    }
    let (source, offset, pitch) = dram.read().rows_of_source(address, (parts, len, pitch))?;
    Some(Borrowed::new(to, to.part..to.part + parts, source, offset, pitch))
}

/// All partitions from one dense copy.
fn load_whole(
    granted: &mut Granted<'_>,
    dram: &SharedDram,
    to: &Place,
    from: &DramPlace,
    parts: usize,
) -> Result<(), Unwritten> {
    let dt = from.dense_dt();
    let row_bytes = to.elements() * dense_size(dt);
    let mut bytes = vec![0; row_bytes * parts];
    from.read(&dram.read(), &mut Cursor::default(), &mut bytes)?;
    for (part, row) in bytes.chunks(row_bytes).enumerate() {
        put(granted, to, to.part + part, row, dt);
    }
    Ok(())
}

/// Some partitions, one after another.
fn load_rows(
    granted: &mut Granted<'_>,
    dram: &SharedDram,
    to: &Place,
    from: &DramPlace,
    parts: Range<usize>,
) -> Result<(), Unwritten> {
    let dt = from.dense_dt();
    let row_bytes = to.elements() * dense_size(dt);
    let (dram, mut cursor) = (dram.read(), Cursor::default());
    if from.runs_over_partitions() {
        let mut bytes = vec![0; row_bytes * TOGETHER.min(parts.len())];
        for first in parts.clone().step_by(TOGETHER) {
            let count = TOGETHER.min(parts.end - first);
            let bytes = &mut bytes[..row_bytes * count];
            from.rows(first, count).read_turned(&dram, &mut cursor, bytes)?;
            for (part, row) in (first..).zip(bytes.chunks(row_bytes)) {
                put(granted, to, to.part + part, row, dt);
            }
        }
        return Ok(());
    }
    let walk = from.row(0).walk();
    let direct = to.is_dense() && to.dt == from.dt;
    let mut bytes = vec![0; if direct { 0 } else { row_bytes }];
    for part in parts.start..parts.end + AHEAD {
        if part < parts.end {
            from.row(part as i64).prefetch(&walk, &dram, &mut cursor);
            granted.ask_for(to, to.part + part);
        }
        let Some(part) = part.checked_sub(AHEAD).filter(|part| *part >= parts.start) else { continue };
        let row = from.row(part as i64);
        if direct {
            row.read_by(&walk, &dram, &mut cursor, granted.dense_mut(to, to.part + part))?;
        } else {
            row.read_by(&walk, &dram, &mut cursor, &mut bytes)?;
            put(granted, to, to.part + part, &bytes, dt);
        }
    }
    Ok(())
}

/// Load `dst` from DRAM as `(value − zero) · scale` in f32.
pub(crate) fn load_quantised(
    chip: &mut OnChip,
    dram: &SharedDram,
    dst: Side<'_>,
    values: Pattern<'_>,
    scales: Pattern<'_>,
    zeros: Option<Pattern<'_>>,
) -> Result<(), TrapKind> {
    for other in [Some(&scales), zeros.as_ref()].into_iter().flatten() {
        if other.pattern.size != values.pattern.size {
            let (a, b) = (values.pattern.size, other.pattern.size);
            return Err(TrapKind::Extents(format!("elements {a:?} and their scales or zero points {b:?}")));
        }
    }
    let Some((parts, n)) = values.shape() else { return Ok(()) };
    let parts = parts as usize;
    let to = dst.place(chip, parts as u32, n)?;
    let place = |of: Pattern<'_>| DramPlace::new(of.pattern, of.reg, dram.size());
    let (values, scales, zeros) = (place(values)?, place(scales)?, zeros.map(place).transpose()?);
    chip.mark(&to, to.part..to.part + parts);
    let touched: Vec<Touch> =
        [&values, &scales].into_iter().chain(&zeros).map(|place| in_dram(chip, place, false)).collect();
    let dram = dram.clone();
    chip.submit(None, &[(&to, to.part..to.part + parts, true)], &touched, move |granted| {
        let dram = dram.read();
        let read = |from: &DramPlace| -> Result<Vec<f32>, TrapKind> {
            let dt = from.dense_dt();
            let mut bytes = vec![0; to.elements() * parts * dense_size(dt)];
            from.read(&dram, &mut Cursor::default(), &mut bytes).map_err(unwritten)?;
            Ok(numbers(&bytes, dt))
        };
        let mut decoded = read(&values)?;
        if let Some(zeros) = &zeros {
            decoded.iter_mut().zip(read(zeros)?).for_each(|(x, zero)| *x -= zero);
        }
        decoded.iter_mut().zip(read(&scales)?).for_each(|(x, scale)| *x *= scale);
        for (part, row) in decoded.chunks(to.elements()).enumerate() {
            granted.store(&to, to.part + part, 0, row);
        }
        Ok(())
    });
    Ok(())
}

/// Store `src` to DRAM.
pub(crate) fn store(
    chip: &mut OnChip,
    dram: &SharedDram,
    to: Pattern<'_>,
    src: Side<'_>,
) -> Result<(), TrapKind> {
    let Some((parts, n)) = to.shape() else { return Ok(()) };
    let parts = parts as usize;
    let from = src.place(chip, parts as u32, n)?;
    let to = DramPlace::new(to.pattern, to.reg, dram.size())?;
    if to.repeats() {
        return Err(TrapKind::Extents("two elements are stored to one address".into()));
    }
    if to.dt.bytes().is_none() {
        return Err(TrapKind::ElementType { dt: to.dt });
    }
    let of_parts = from.part..from.part + parts;
    chip.check(&from, of_parts.clone())?;
    let touched = [in_dram(chip, &to, true)];
    let dram = dram.clone();
    chip.submit(None, &[(&from, of_parts, false)], &touched, move |granted| {
        let row_bytes = from.elements() * dense_size(to.dt);
        if to.runs_over_partitions() {
            let mut bytes = vec![0; row_bytes * parts];
            for (part, row) in bytes.chunks_mut(row_bytes).enumerate() {
                take(granted, &from, from.part + part, row, to.dt);
            }
            return to.write(&mut dram.write(), &bytes);
        }
        let mut bytes = vec![0; row_bytes];
        let (walk, mut dram) = (to.row(0).walk(), dram.write());
        for part in 0..parts {
            if part + AHEAD < parts {
                granted.ask_for(&from, from.part + part + AHEAD);
            }
            let row = to.row(part as i64);
            if from.is_dense() && from.dt == to.dt {
                row.write_by(
                    &walk,
                    &mut dram,
                    Rows::default().dense(granted, &from, from.part + part, 0, row_bytes),
                )?;
            } else {
                take(granted, &from, from.part + part, &mut bytes, to.dt);
                row.write_by(&walk, &mut dram, &bytes)?;
            }
        }
        Ok(())
    });
    Ok(())
}

/// Move on chip.
pub(crate) fn copy(chip: &mut OnChip, dst: Side<'_>, src: Side<'_>, shape: Shape) -> Result<(), TrapKind> {
    let from = src.place(chip, shape.parts.into(), shape.n)?;
    let to = dst.place(chip, shape.parts.into(), shape.n)?;
    let parts = usize::from(shape.parts);
    let same_lanes = from.part < to.part + parts && to.part < from.part + parts;
    if from.space == to.space && same_lanes && from.span.0 < to.span.1 && to.span.0 < from.span.1 {
        let identical = from.part == to.part && from.is_dense() && to.is_dense() && from.span == to.span;
        if !identical {
            return Err(TrapKind::Extents("source and destination overlap".into()));
        }
    }
    prepare(chip, parts, &[(&from, Role::Read), (&to, Role::Write)])?;
    let of = |place: &Place| place.part..place.part + parts;
    chip.submit(None, &[(&from, of(&from), false), (&to, of(&to), true)], &[], move |granted| {
        let mut bytes = vec![0; from.elements() * from.element_bytes()];
        for part in 0..parts {
            granted.copy_out(&from, from.part + part, 0, &mut bytes);
            put(granted, &to, to.part + part, &bytes, from.dt);
        }
        Ok(())
    });
    Ok(())
}

/// Move from one core to another.
pub(crate) fn send(
    from_chip: &mut OnChip,
    to_chip: &mut OnChip,
    dst: Side<'_>,
    src: Side<'_>,
    shape: Shape,
) -> Result<(), TrapKind> {
    let from = src.place(from_chip, shape.parts.into(), shape.n)?;
    let to = dst.place(to_chip, shape.parts.into(), shape.n)?;
    let parts = usize::from(shape.parts);
    prepare(from_chip, parts, &[(&from, Role::Read)])?;
    prepare(to_chip, parts, &[(&to, Role::Write)])?;
    let row_bytes = from.elements() * from.element_bytes();
    let mut bytes = vec![0; row_bytes * parts];
    from_chip.now(&[(&from, from.part..from.part + parts, false)], |granted| {
        for (part, row) in bytes.chunks_mut(row_bytes).enumerate() {
            granted.copy_out(&from, from.part + part, 0, row);
        }
    });
    to_chip.now(&[(&to, to.part..to.part + parts, true)], |granted| {
        for (part, row) in bytes.chunks(row_bytes).enumerate() {
            put(granted, &to, to.part + part, row, from.dt);
        }
    });
    Ok(())
}

/// Reduce over cores: a chain over their sources in the order given, to each one's destination.
pub(crate) fn reduce(
    chips: &mut [&mut OnChip],
    op: RedOp,
    sides: &[(Side<'_>, Side<'_>)],
    shape: Shape,
) -> Result<(), TrapKind> {
    if matches!(op, RedOp::Argmax | RedOp::Argmin) {
        return Err(TrapKind::Absent("argmax or argmin over cores"));
    }
    if sides.iter().all(|(_, src)| src.view.dt.is_integer()) {
        reduce_as::<i32>(chips, sides, shape, numerics::start_i32(op), |a, x| numerics::red_i32(op, a, x))
    } else {
        reduce_as::<f32>(chips, sides, shape, numerics::start_f32(op), |a, x| numerics::red_f32(op, a, x))
    }
}

fn reduce_as<N: Number>(
    chips: &mut [&mut OnChip],
    sides: &[(Side<'_>, Side<'_>)],
    shape: Shape,
    start: N,
    step: impl Fn(N, N) -> N,
) -> Result<(), TrapKind> {
    let parts = usize::from(shape.parts);
    let mut chains = vec![start; shape.elements() as usize];
    let mut numbers = vec![N::default(); shape.free() as usize];
    let mut places = Vec::new();
    for (chip, (dst, src)) in chips.iter_mut().zip(sides) {
        chip.begin();
        let from = src.place(chip, shape.parts.into(), shape.n)?;
        places.push(dst.place(chip, shape.parts.into(), shape.n)?);
        prepare(chip, parts, &[(&from, Role::Read)])?;
        chip.now(&[(&from, from.part..from.part + parts, false)], |granted| {
            for (part, chains) in chains.chunks_mut(numbers.len()).enumerate().take(parts) {
                granted.load(&from, from.part + part, 0, &mut numbers);
                chains.iter_mut().zip(&numbers).for_each(|(chain, x)| *chain = step(*chain, *x));
            }
        });
    }
    for (chip, to) in chips.iter_mut().zip(&places) {
        prepare(chip, parts, &[(to, Role::Write)])?;
        chip.now(&[(to, to.part..to.part + parts, true)], |granted| {
            for (part, chains) in chains.chunks(numbers.len()).enumerate() {
                granted.store(to, to.part + part, 0, chains);
            }
        });
    }
    Ok(())
}

/// Fill with a constant.
pub(crate) fn fill(chip: &mut OnChip, dst: Side<'_>, shape: Shape, value: Imm32) -> Result<(), TrapKind> {
    let to = dst.place(chip, shape.parts.into(), shape.n)?;
    let parts = to.part..to.part + usize::from(shape.parts);
    chip.mark(&to, parts.clone());
    chip.submit(None, &[(&to, parts.clone(), true)], &[], move |granted| {
        for part in parts {
            if to.dt.is_integer() {
                granted.store(&to, part, 0, &vec![value.as_i32(); to.elements()]);
            } else {
                granted.store(&to, part, 0, &vec![value.as_f32(); to.elements()]);
            }
        }
        Ok(())
    });
    Ok(())
}

/// Which way the rows of a gather or scatter move.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Gather,
    Scatter,
}

/// Move rows between `chip_side` and the DRAM rows that `index` names.
///
/// `counts` are the partitions and the rows in each.
pub(crate) fn indexed(
    chip: &mut OnChip,
    dram: &SharedDram,
    direction: Direction,
    chip_side: Side<'_>,
    rows: Pattern<'_>,
    index: Side<'_>,
    counts: (usize, u32),
) -> Result<(), TrapKind> {
    let (parts, n0) = counts;
    let [count, n1, n2, _] = rows.pattern.size;
    if n1 == 0 || n2 == 0 {
        return Ok(());
    }
    let here = chip_side.place(chip, parts as u32, [n0, n1, n2])?;
    let index = index.place(chip, parts as u32, [n0, 1, 1])?;
    if index.dt != Dt::I32 {
        return Err(TrapKind::ElementType { dt: index.dt });
    }
    let [stride, s1, s2, _] = rows.pattern.stride;
    let table = AccessPattern { size: [count, 1, n1, n2], stride: [stride, 0, s1, s2], ..*rows.pattern };
    let table = DramPlace::new(&table, rows.reg, dram.size())?;
    let gathers = direction == Direction::Gather;
    let role = if gathers { Role::Write } else { Role::Read };
    prepare(chip, parts, &[(&index, Role::Read), (&here, role)])?;
    let of = |place: &Place| place.part..place.part + parts;
    let touched = [in_dram(chip, &table, !gathers)];
    let dram = dram.clone();
    chip.submit(
        None,
        &[(&here, of(&here), gathers), (&index, of(&index), false)],
        &touched,
        move |granted| {
            let dt = table.dense_dt();
            let mut bytes = vec![0; (n1 * n2) as usize * dense_size(dt)];
            let mut indices = vec![0i32; n0 as usize];
            let mut cursor = Cursor::default();
            let row_elements = (n1 * n2) as usize;
            for part in 0..parts {
                granted.load(&index, index.part + part, 0, &mut indices);
                for (i0, &at) in indices.iter().enumerate() {
                    if at < 0 || at as u32 >= count {
                        return Err(TrapKind::Index { index: at.into(), size: count });
                    }
                    if table.splits_a_byte(at.into()) {
                        return Err(TrapKind::ElementType { dt: table.dt });
                    }
                    let (row, start) = (table.row(at.into()), i0 * row_elements);
                    if gathers {
                        row.read(&dram.read(), &mut cursor, &mut bytes).map_err(unwritten)?;
                        put_from(granted, &here, here.part + part, start, &bytes, dt);
                    } else {
                        take_from(granted, &here, here.part + part, start, &mut bytes, dt);
                        row.write(&mut dram.write(), &bytes)?;
                    }
                }
            }
            Ok(())
        },
    );
    Ok(())
}

fn unwritten(hole: Unwritten) -> TrapKind {
    TrapKind::DramUnwritten { byte: hole.0 }
}

fn dense_size(dt: Dt) -> usize {
    dt.bytes().unwrap_or(1) as usize
}

/// All elements of a partition of `to` from dense bytes of type `dt`.
fn put(granted: &mut Granted<'_>, to: &Place, part: usize, bytes: &[u8], dt: Dt) {
    put_from(granted, to, part, 0, bytes, dt);
}

fn put_from(granted: &mut Granted<'_>, to: &Place, part: usize, start: usize, bytes: &[u8], dt: Dt) {
    if to.dt == dt {
        granted.copy_in(to, part, start, bytes);
    } else if dt.is_integer() && to.dt.is_integer() {
        granted.store(to, part, start, &numbers::<i32>(bytes, dt));
    } else {
        granted.store(to, part, start, &numbers::<f32>(bytes, dt));
    }
}

/// All elements of a partition of `from` as dense bytes of type `dt`.
fn take(granted: &Granted<'_>, from: &Place, part: usize, out: &mut [u8], dt: Dt) {
    take_from(granted, from, part, 0, out, dt);
}

fn take_from(granted: &Granted<'_>, from: &Place, part: usize, start: usize, out: &mut [u8], dt: Dt) {
    if from.dt == dt {
        granted.copy_out(from, part, start, out);
    } else if dt.is_integer() && from.dt.is_integer() {
        dense::<i32>(granted, from, part, start, out, dt);
    } else {
        dense::<f32>(granted, from, part, start, out, dt);
    }
}

fn numbers<N: Number>(bytes: &[u8], dt: Dt) -> Vec<N> {
    let size = dense_size(dt);
    let mut numbers = vec![N::default(); bytes.len() / size];
    convert::load_run(bytes, 0, size as isize, dt, &mut numbers);
    numbers
}

fn dense<N: Number>(granted: &Granted<'_>, from: &Place, part: usize, start: usize, out: &mut [u8], dt: Dt) {
    let size = dense_size(dt);
    let mut numbers = vec![N::default(); out.len() / size];
    granted.load(from, part, start, &mut numbers);
    convert::store_run(out, 0, size as isize, dt, &numbers);
}
