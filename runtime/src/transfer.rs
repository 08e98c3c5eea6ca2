//! The values of DMA: what each transfer moves and how it converts.
//!
//! Elements of one type on both sides move as they are. Otherwise floats, and integers into floats, go through
//! f32, integers into integers through i32.

use kiln_machine::isa::{AccessPattern, Dt, Imm32, RedOp, Shape, View};
use kiln_machine::numerics;

use crate::convert::{self, Number};
use crate::dram::{Cursor, Dram, Unwritten};
use crate::error::TrapKind;
use crate::lane::{Lane, OnChip, Place};
use crate::pattern::DramPlace;

/// Bytes from which a transfer is worth spreading over threads.
const PARALLEL_BYTES: usize = 1 << 14;

/// Partitions that one item of a spread transfer moves: many of them together read what lies side by side in DRAM,
/// of few, each is long.
fn lanes_of_item(over_partitions: bool, parts: usize) -> usize {
    match (over_partitions, parts) {
        (true, _) => 32,
        (false, ..=16) => 2,
        (false, _) => 16,
    }
}

/// Partitions that are asked for ahead of moving them.
const AHEAD: usize = 4;

/// The on-chip side of a transfer: a view and its register's value.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) view: &'a View,
    pub(crate) reg: i64,
}

impl Side<'_> {
    fn place(&self, chip: &OnChip, parts: u32, n: [u32; 3]) -> Result<Place, TrapKind> {
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

/// Load `dst` from DRAM.
pub(crate) fn load(chip: &mut OnChip, dram: &Dram, dst: Side<'_>, from: Pattern<'_>) -> Result<(), TrapKind> {
    let Some((parts, n)) = from.shape() else { return Ok(()) };
    let to = dst.place(chip, parts, n)?;
    let from = DramPlace::new(from.pattern, from.reg, dram)?;
    let (free, dt) = (to.elements(), from.dense_dt());
    let row_bytes = free * dense_size(dt);
    let (lanes, team) = (&mut chip.lanes[to.part..to.part + parts as usize], &chip.team);
    if (1..parts).any(|p| from.splits_a_byte(p.into())) {
        let mut bytes = vec![0; row_bytes * lanes.len()];
        from.read(dram, &mut Cursor::default(), &mut bytes).map_err(unwritten)?;
        for (lane, row) in lanes.iter_mut().zip(bytes.chunks(row_bytes)) {
            put(lane, &to, row, dt);
        }
        return Ok(());
    }
    let over_partitions = from.runs_over_partitions();
    let walk = from.row(0).walk();
    let direct = to.is_dense() && to.dt == from.dt;
    let some = |first: usize, lanes: &mut [Lane]| -> Result<(), Unwritten> {
        let mut cursor = Cursor::default();
        if over_partitions {
            let mut bytes = vec![0; row_bytes * lanes.len()];
            from.rows(first, lanes.len()).read_turned(dram, &mut cursor, &mut bytes)?;
            for (lane, row) in lanes.iter_mut().zip(bytes.chunks(row_bytes)) {
                put(lane, &to, row, dt);
            }
            return Ok(());
        }
        let ask = |part: usize, lane: &Lane, cursor: &mut Cursor| {
            from.row((first + part) as i64).prefetch(&walk, dram, cursor);
            lane.ask_for(&to);
        };
        for (part, lane) in lanes.iter().enumerate().take(AHEAD) {
            ask(part, lane, &mut cursor);
        }
        let mut bytes = vec![0; if direct { 0 } else { row_bytes }];
        for part in 0..lanes.len() {
            if let Some(lane) = lanes.get(part + AHEAD) {
                ask(part + AHEAD, lane, &mut cursor);
            }
            let (row, lane) = (from.row((first + part) as i64), &mut lanes[part]);
            if direct {
                row.read_by(&walk, dram, &mut cursor, lane.dense_bytes_mut(&to))?;
                lane.mark(&to);
            } else {
                row.read_by(&walk, dram, &mut cursor, &mut bytes)?;
                put(lane, &to, &bytes, dt);
            }
        }
        Ok(())
    };
    let item = lanes_of_item(over_partitions, lanes.len());
    if row_bytes * lanes.len() >= PARALLEL_BYTES {
        team.try_each_chunk(lanes, item, some).map_err(unwritten)
    } else {
        let mut items = lanes.chunks_mut(item).enumerate();
        items.try_for_each(|(number, lanes)| some(number * item, lanes)).map_err(unwritten)
    }
}

/// Load `dst` from DRAM as `(value − zero) · scale` in f32.
pub(crate) fn load_quantised(
    chip: &mut OnChip,
    dram: &Dram,
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
    let to = dst.place(chip, parts, n)?;
    let place = |of: Pattern<'_>| DramPlace::new(of.pattern, of.reg, dram);
    let (values, scales, zeros) = (place(values)?, place(scales)?, zeros.map(place).transpose()?);
    let elements = to.elements() * parts as usize;
    let read = |from: &DramPlace| -> Result<Vec<f32>, TrapKind> {
        let dt = from.dense_dt();
        let mut bytes = vec![0; elements * dense_size(dt)];
        from.read(dram, &mut Cursor::default(), &mut bytes).map_err(unwritten)?;
        Ok(numbers(&bytes, dt))
    };
    let mut decoded = read(&values)?;
    if let Some(zeros) = &zeros {
        decoded.iter_mut().zip(read(zeros)?).for_each(|(x, zero)| *x -= zero);
    }
    decoded.iter_mut().zip(read(&scales)?).for_each(|(x, scale)| *x *= scale);
    for (lane, row) in chip.lanes[to.part..].iter_mut().zip(decoded.chunks(to.elements())) {
        lane.store(&to, 0, row);
    }
    Ok(())
}

/// Store `src` to DRAM.
pub(crate) fn store(chip: &OnChip, dram: &mut Dram, to: Pattern<'_>, src: Side<'_>) -> Result<(), TrapKind> {
    let Some((parts, n)) = to.shape() else { return Ok(()) };
    let from = src.place(chip, parts, n)?;
    let to = DramPlace::new(to.pattern, to.reg, dram)?;
    if to.repeats() {
        return Err(TrapKind::Extents("two elements are stored to one address".into()));
    }
    let row_bytes = from.elements() * dense_size(to.dt);
    let lanes = &chip.lanes[from.part..from.part + parts as usize];
    if to.runs_over_partitions() {
        let mut bytes = vec![0; row_bytes * lanes.len()];
        for (lane, row) in lanes.iter().zip(bytes.chunks_mut(row_bytes)) {
            take(lane, &from, row, to.dt)?;
        }
        return to.write(dram, &bytes);
    }
    let mut bytes = vec![0; row_bytes];
    let walk = to.row(0).walk();
    for (part, lane) in lanes.iter().enumerate() {
        if let Some(lane) = lanes.get(part + AHEAD) {
            lane.ask_for(&from);
        }
        let row = to.row(part as i64);
        if from.is_dense() && from.dt == to.dt {
            row.write_by(&walk, dram, lane.checked_bytes(&from, 0, row_bytes)?)?;
        } else {
            take(lane, &from, &mut bytes, to.dt)?;
            row.write_by(&walk, dram, &bytes)?;
        }
    }
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
    let mut bytes = vec![0; from.elements() * from.element_bytes()];
    for part in 0..parts {
        chip.lanes[from.part + part].copy_out(&from, 0, &mut bytes)?;
        put(&mut chip.lanes[to.part + part], &to, &bytes, from.dt);
    }
    Ok(())
}

/// Move from one core to another.
pub(crate) fn send(
    from_chip: &OnChip,
    to_chip: &mut OnChip,
    dst: Side<'_>,
    src: Side<'_>,
    shape: Shape,
) -> Result<(), TrapKind> {
    let from = src.place(from_chip, shape.parts.into(), shape.n)?;
    let to = dst.place(to_chip, shape.parts.into(), shape.n)?;
    let mut bytes = vec![0; from.elements() * from.element_bytes()];
    for part in 0..usize::from(shape.parts) {
        from_chip.lanes[from.part + part].copy_out(&from, 0, &mut bytes)?;
        put(&mut to_chip.lanes[to.part + part], &to, &bytes, from.dt);
    }
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
    for (chip, (dst, src)) in chips.iter().zip(sides) {
        let from = src.place(chip, shape.parts.into(), shape.n)?;
        places.push(dst.place(chip, shape.parts.into(), shape.n)?);
        for (part, chains) in chains.chunks_mut(numbers.len()).enumerate().take(parts) {
            chip.lanes[from.part + part].load(&from, 0, &mut numbers)?;
            chains.iter_mut().zip(&numbers).for_each(|(chain, x)| *chain = step(*chain, *x));
        }
    }
    for (chip, to) in chips.iter_mut().zip(&places) {
        for (part, chains) in chains.chunks(numbers.len()).enumerate() {
            chip.lanes[to.part + part].store(to, 0, chains);
        }
    }
    Ok(())
}

/// Fill with a constant.
pub(crate) fn fill(chip: &mut OnChip, dst: Side<'_>, shape: Shape, value: Imm32) -> Result<(), TrapKind> {
    let to = dst.place(chip, shape.parts.into(), shape.n)?;
    for lane in &mut chip.lanes[to.part..to.part + usize::from(shape.parts)] {
        if to.dt.is_integer() {
            lane.store(&to, 0, &vec![value.as_i32(); to.elements()]);
        } else {
            lane.store(&to, 0, &vec![value.as_f32(); to.elements()]);
        }
    }
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
    dram: &mut Dram,
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
    let table = DramPlace::new(&table, rows.reg, dram)?;
    let dt = table.dense_dt();
    let mut bytes = vec![0; (n1 * n2) as usize * dense_size(dt)];
    let mut indices = vec![0i32; n0 as usize];
    let mut cursor = Cursor::default();
    let row_elements = (n1 * n2) as usize;
    for part in 0..parts {
        chip.lanes[index.part + part].load(&index, 0, &mut indices)?;
        for (i0, &at) in indices.iter().enumerate() {
            if at < 0 || at as u32 >= count {
                return Err(TrapKind::Index { index: at.into(), size: count });
            }
            if table.splits_a_byte(at.into()) {
                return Err(TrapKind::ElementType { dt: table.dt });
            }
            let row = table.row(at.into());
            let lane = &mut chip.lanes[here.part + part];
            let start = i0 * row_elements;
            if direction == Direction::Gather {
                row.read(dram, &mut cursor, &mut bytes).map_err(unwritten)?;
                put_from(lane, &here, start, &bytes, dt);
            } else {
                take_from(lane, &here, start, &mut bytes, dt)?;
                row.write(dram, &bytes)?;
            }
        }
    }
    Ok(())
}

fn unwritten(hole: Unwritten) -> TrapKind {
    TrapKind::DramUnwritten { byte: hole.0 }
}

fn dense_size(dt: Dt) -> usize {
    dt.bytes().unwrap_or(1) as usize
}

/// All elements of `to` from dense bytes of type `dt`.
fn put(lane: &mut Lane, to: &Place, bytes: &[u8], dt: Dt) {
    put_from(lane, to, 0, bytes, dt);
}

fn put_from(lane: &mut Lane, to: &Place, start: usize, bytes: &[u8], dt: Dt) {
    if to.dt == dt {
        lane.copy_in(to, start, bytes);
    } else if dt.is_integer() && to.dt.is_integer() {
        lane.store(to, start, &numbers::<i32>(bytes, dt));
    } else {
        lane.store(to, start, &numbers::<f32>(bytes, dt));
    }
}

/// All elements of `from` as dense bytes of type `dt`.
fn take(lane: &Lane, from: &Place, out: &mut [u8], dt: Dt) -> Result<(), TrapKind> {
    take_from(lane, from, 0, out, dt)
}

fn take_from(lane: &Lane, from: &Place, start: usize, out: &mut [u8], dt: Dt) -> Result<(), TrapKind> {
    if from.dt == dt {
        lane.copy_out(from, start, out)?;
    } else if dt.is_integer() && from.dt.is_integer() {
        dense::<i32>(lane, from, start, out, dt)?;
    } else {
        dense::<f32>(lane, from, start, out, dt)?;
    }
    Ok(())
}

fn numbers<N: Number>(bytes: &[u8], dt: Dt) -> Vec<N> {
    let size = dense_size(dt);
    let mut numbers = vec![N::default(); bytes.len() / size];
    convert::load_run(bytes, 0, size as isize, dt, &mut numbers);
    numbers
}

fn dense<N: Number>(lane: &Lane, from: &Place, start: usize, out: &mut [u8], dt: Dt) -> Result<(), TrapKind> {
    let size = dense_size(dt);
    let mut numbers = vec![N::default(); out.len() / size];
    lane.load(from, start, &mut numbers)?;
    convert::store_run(out, 0, size as isize, dt, &numbers);
    Ok(())
}
