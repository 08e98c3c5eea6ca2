//! The values of the matrix engine: the stationary grid and products with it.

use kiln_machine::isa::{Dt, Space, View};

use crate::error::TrapKind;
use crate::kernels::{self, COLS, Isa, Product, ROWS};
use crate::lane::{OnChip, Place};

/// What a cell of the grid holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Empty,
    Float,
    Integer,
}

/// The stationary operand, one number in each element of the array.
pub(crate) struct Grid {
    side: usize,
    cells: Vec<Cell>,
    floats: Vec<f32>,
    integers: Vec<i32>,
    /// The last packings; those that a load overlaps are dropped.
    packed: Vec<Packed>,
    moving: Vec<f32>,
    moving_integers: Vec<i32>,
}

/// A window of the grid, packed for the kernel.
struct Packed {
    window: Window,
    floats: Vec<f32>,
}

/// Rows and columns of the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) col: usize,
    pub(crate) cols: usize,
}

impl Window {
    fn overlaps(&self, other: &Window) -> bool {
        self.row < other.row + other.rows
            && other.row < self.row + self.rows
            && self.col < other.col + other.cols
            && other.col < self.col + self.cols
    }
}

/// How many packings are kept: one for each band of rows.
const KEPT: usize = 4;

/// One product with the grid.
pub(crate) struct Mma<'a> {
    pub(crate) acc: &'a View,
    pub(crate) acc_reg: i64,
    pub(crate) moving: &'a View,
    pub(crate) moving_reg: i64,
    pub(crate) k: usize,
    pub(crate) m: usize,
    pub(crate) n: [u32; 3],
    pub(crate) continues: bool,
    /// Zero points of the stationary and the moving operand, for integers.
    pub(crate) zero: (u8, u8),
    /// Block scales of the stationary and the moving operand, with their registers' values.
    pub(crate) scales: Option<[(&'a View, i64); 2]>,
}

impl Grid {
    /// An array of `side` rows and columns with nothing loaded.
    pub(crate) fn new(side: usize) -> Self {
        Self {
            side,
            cells: vec![Cell::Empty; side * side],
            floats: vec![0.0; side * side],
            integers: vec![0; side * side],
            packed: Vec::new(),
            moving: Vec::new(),
            moving_integers: Vec::new(),
        }
    }

    /// Forget what is loaded.
    pub(crate) fn clear(&mut self) {
        self.cells.fill(Cell::Empty);
        self.packed.clear();
    }

    /// Load a window from `rows` partitions of `cols` elements, or, transposed, from `cols` partitions of `rows`.
    pub(crate) fn load(
        &mut self,
        chip: &OnChip,
        window: Window,
        src: &View,
        src_reg: i64,
        transposed: bool,
    ) -> Result<(), TrapKind> {
        self.check(&window)?;
        let (parts, free) = if transposed { (window.cols, window.rows) } else { (window.rows, window.cols) };
        let place = chip.place(src, src_reg, parts, [1, 1, free as u32])?;
        let kind = operand_kind(src)?;
        self.packed.retain(|packed| !packed.window.overlaps(&window));
        let mut floats = vec![0.0f32; free];
        let mut integers = vec![0i32; free];
        for part in 0..parts {
            let lane = &chip.lanes[place.part + part];
            match kind {
                Cell::Integer => lane.load(&place, 0, &mut integers)?,
                _ => lane.load(&place, 0, &mut floats)?,
            }
            let (first, step) = if transposed {
                (window.row * self.side + window.col + part, self.side)
            } else {
                ((window.row + part) * self.side + window.col, 1)
            };
            for i in 0..free {
                let cell = first + i * step;
                self.cells[cell] = kind;
                self.floats[cell] = floats[i];
                self.integers[cell] = integers[i];
            }
        }
        Ok(())
    }

    /// `acc[m, n] (+)= Σ_k S[k, m] · moving[k, n]`.
    pub(crate) fn multiply(&mut self, chip: &mut OnChip, mma: &Mma<'_>) -> Result<(), TrapKind> {
        let window = Window {
            row: usize::from(mma.moving.part),
            rows: mma.k,
            col: usize::from(mma.acc.part),
            cols: mma.m,
        };
        self.check(&window)?;
        if mma.acc.space != Space::Acc {
            return Err(TrapKind::Absent("products into the scratchpad"));
        }
        let moving = chip.place(mma.moving, mma.moving_reg, mma.k, mma.n)?;
        let acc = chip.place(mma.acc, mma.acc_reg, mma.m, mma.n)?;
        let kind = operand_kind(mma.moving)?;
        self.check_loaded(&window, kind)?;
        let result_type = if kind == Cell::Integer { Dt::I32 } else { Dt::F32 };
        if acc.dt != result_type {
            return Err(TrapKind::ElementType { dt: acc.dt });
        }
        let shape = Product { rows: mma.m, cols: acc.elements(), depth: mma.k, accumulate: mma.continues };
        if kind == Cell::Integer {
            let stationary = self.pack_integers(&window, mma.zero.0);
            self.pack_moving_integers(chip, &moving, shape, mma.zero.1)?;
            let moving = std::mem::take(&mut self.moving_integers);
            let done = with_result(chip, &acc, mma, |rows| {
                kernels::product_i32(shape, &stationary, &moving, rows);
            });
            self.moving_integers = moving;
            return done;
        }
        self.pack_moving(chip, &moving, shape)?;
        let mut operands = (std::mem::take(&mut self.moving), Vec::new());
        let stationary = match mma.scales {
            None => self.pack(&window),
            Some(scales) => {
                operands.1 = self.scaled(chip, mma, &window, scales, shape, &mut operands.0)?;
                &operands.1
            }
        };
        let done = with_result(chip, &acc, mma, |rows| {
            kernels::product_f32(Isa::detect(), shape, stationary, &operands.0, rows);
        });
        self.moving = operands.0;
        done
    }

    /// `dst[f, p] = src[p, f]`.
    pub(crate) fn transpose(
        chip: &mut OnChip,
        dst: (&View, i64),
        src: (&View, i64),
        parts: usize,
        n: usize,
    ) -> Result<(), TrapKind> {
        if dst.0.space != Space::Acc {
            return Err(TrapKind::Absent("transposes into the scratchpad"));
        }
        let from = chip.place(src.0, src.1, parts, [1, 1, n as u32])?;
        let to = chip.place(dst.0, dst.1, n, [1, 1, parts as u32])?;
        if src.0.dt.is_integer() != dst.0.dt.is_integer() {
            return Err(TrapKind::ElementType { dt: dst.0.dt });
        }
        if src.0.dt.is_integer() {
            transpose_as::<i32>(chip, &from, &to, parts, n)
        } else {
            transpose_as::<f32>(chip, &from, &to, parts, n)
        }
    }

    fn check(&self, window: &Window) -> Result<(), TrapKind> {
        for (what, needed) in [("rows", window.row + window.rows), ("columns", window.col + window.cols)] {
            if needed > self.side {
                return Err(TrapKind::Array { what, needed, limit: self.side });
            }
        }
        Ok(())
    }

    fn check_loaded(&self, window: &Window, kind: Cell) -> Result<(), TrapKind> {
        for row in window.row..window.row + window.rows {
            let cells = &self.cells[row * self.side + window.col..][..window.cols];
            if let Some(i) = cells.iter().position(|cell| *cell != kind) {
                return Err(match cells[i] {
                    Cell::Empty => TrapKind::NoStationary { row, column: window.col + i },
                    Cell::Float => {
                        TrapKind::Extents("a float stationary with an integer moving operand".into())
                    }
                    Cell::Integer => {
                        TrapKind::Extents("an integer stationary with a float moving operand".into())
                    }
                });
            }
        }
        Ok(())
    }

    /// The window packed for the kernel, from the last packings if it is there.
    fn pack(&mut self, window: &Window) -> &[f32] {
        let found = self.packed.iter().position(|packed| packed.window == *window);
        let index = found.unwrap_or_else(|| {
            let floats = pack_window(&self.floats, self.side, window, |value| value);
            if self.packed.len() == KEPT {
                self.packed.remove(0);
            }
            self.packed.push(Packed { window: *window, floats });
            self.packed.len() - 1
        });
        &self.packed[index].floats
    }

    fn pack_integers(&self, window: &Window, zero: u8) -> Vec<i32> {
        pack_window(&self.integers, self.side, window, |value| value - i32::from(zero))
    }

    fn pack_moving(&mut self, chip: &OnChip, place: &Place, shape: Product) -> Result<(), TrapKind> {
        self.moving.resize(shape.packed_moving_len(), 0.0);
        pack_rows(chip, place, shape, &mut self.moving, |value| value)
    }

    fn pack_moving_integers(
        &mut self,
        chip: &OnChip,
        place: &Place,
        shape: Product,
        zero: u8,
    ) -> Result<(), TrapKind> {
        self.moving_integers.resize(shape.packed_moving_len(), 0);
        pack_rows(chip, place, shape, &mut self.moving_integers, |value: i32| value - i32::from(zero))
    }

    /// The packed stationary with its block scales; the packed moving operand is scaled in place.
    fn scaled(
        &self,
        chip: &OnChip,
        mma: &Mma<'_>,
        window: &Window,
        scales: [(&View, i64); 2],
        shape: Product,
        moving: &mut [f32],
    ) -> Result<Vec<f32>, TrapKind> {
        let blocks = mma.k.div_ceil(32);
        let [(ss, ss_reg), (sx, sx_reg)] = scales;
        if let Some(view) = [ss, sx].into_iter().find(|view| view.dt != Dt::U8) {
            return Err(TrapKind::ElementType { dt: view.dt });
        }
        let ss = chip.place(ss, ss_reg, blocks, [1, 1, mma.m as u32])?;
        let sx = chip.place(sx, sx_reg, blocks, mma.n)?;
        let mut stationary = pack_window(&self.floats, self.side, window, |value| value);
        let mut exponents = vec![0i32; shape.rows.max(shape.cols)];
        for block in 0..blocks {
            let rows = block * 32..((block + 1) * 32).min(mma.k);
            chip.lanes[ss.part + block].load(&ss, 0, &mut exponents[..shape.rows])?;
            for (k, column) in rows.clone().flat_map(|k| (0..shape.rows).map(move |c| (k, c))) {
                let at = column / ROWS * ROWS * mma.k + k * ROWS + column % ROWS;
                stationary[at] *= power_of_two(exponents[column] - 127);
            }
            chip.lanes[sx.part + block].load(&sx, 0, &mut exponents[..shape.cols])?;
            for (k, column) in rows.flat_map(|k| (0..shape.cols).map(move |c| (k, c))) {
                let at = column / COLS * COLS * mma.k + k * COLS + column % COLS;
                moving[at] *= power_of_two(exponents[column] - 127);
            }
        }
        Ok(stationary)
    }
}

/// 2 to the `exponent`, for −127 to 128; the last is the NaN of E8M0.
fn power_of_two(exponent: i32) -> f32 {
    match exponent {
        -127 => f32::from_bits(1 << 22),
        128 => f32::NAN,
        _ => f32::from_bits(((exponent + 127) as u32) << 23),
    }
}

/// Whether an operand of the array is computed in floats or integers.
fn operand_kind(view: &View) -> Result<Cell, TrapKind> {
    match view.dt {
        Dt::F32 | Dt::Bf16 | Dt::F16 | Dt::F8e4m3 | Dt::F8e5m2 => Ok(Cell::Float),
        Dt::I8 | Dt::U8 => Ok(Cell::Integer),
        dt => Err(TrapKind::ElementType { dt }),
    }
}

/// Blocks of [`ROWS`] columns of the grid, padded with zeros.
fn pack_window<N: Copy + Default>(
    grid: &[N],
    side: usize,
    window: &Window,
    convert: impl Fn(N) -> N,
) -> Vec<N> {
    let mut packed = vec![N::default(); window.cols.div_ceil(ROWS) * ROWS * window.rows];
    for k in 0..window.rows {
        let row = &grid[(window.row + k) * side + window.col..][..window.cols];
        for (block, columns) in row.chunks(ROWS).enumerate() {
            let at = block * ROWS * window.rows + k * ROWS;
            for (slot, value) in packed[at..].iter_mut().zip(columns) {
                *slot = convert(*value);
            }
        }
    }
    packed
}

/// Panels of [`COLS`] columns of the moving operand; the padding of the last may hold anything.
fn pack_rows<N: crate::convert::Number>(
    chip: &OnChip,
    place: &Place,
    shape: Product,
    packed: &mut [N],
    convert: impl Fn(N) -> N,
) -> Result<(), TrapKind> {
    let mut row = vec![N::default(); shape.cols];
    for k in 0..shape.depth {
        chip.lanes[place.part + k].load(place, 0, &mut row)?;
        for (panel, columns) in row.chunks(COLS).enumerate() {
            let at = panel * COLS * shape.depth + k * COLS;
            for (slot, value) in packed[at..at + columns.len()].iter_mut().zip(columns) {
                *slot = convert(*value);
            }
        }
    }
    Ok(())
}

/// Let `work` update the result rows, in place if each is one run of bytes, else on the side.
fn with_result(
    chip: &mut OnChip,
    acc: &Place,
    mma: &Mma<'_>,
    work: impl FnOnce(&mut [&mut [u8]]),
) -> Result<(), TrapKind> {
    let lanes = &mut chip.lanes[acc.part..acc.part + mma.m];
    if mma.continues {
        for lane in lanes.iter() {
            lane.check(acc)?;
        }
    }
    if acc.is_dense() {
        let mut rows: Vec<&mut [u8]> = lanes.iter_mut().map(|lane| lane.dense_bytes_mut(acc)).collect();
        work(&mut rows);
        lanes.iter_mut().for_each(|lane| lane.mark(acc));
        return Ok(());
    }
    let elements = acc.elements();
    let mut numbers = vec![0i32; elements];
    let bits = acc.as_bits();
    let mut side = vec![0u8; elements * 4 * mma.m];
    if mma.continues {
        for (lane, row) in lanes.iter().zip(side.chunks_mut(elements * 4)) {
            lane.load(&bits, 0, &mut numbers)?;
            for (bytes, number) in row.as_chunks_mut::<4>().0.iter_mut().zip(&numbers) {
                *bytes = number.to_le_bytes();
            }
        }
    }
    work(&mut side.chunks_mut(elements * 4).collect::<Vec<_>>());
    for (lane, row) in lanes.iter_mut().zip(side.chunks(elements * 4)) {
        for (bytes, number) in row.as_chunks::<4>().0.iter().zip(&mut numbers) {
            *number = i32::from_le_bytes(*bytes);
        }
        lane.store(&bits, 0, &numbers);
    }
    Ok(())
}

fn transpose_as<N: crate::convert::Number>(
    chip: &mut OnChip,
    from: &Place,
    to: &Place,
    parts: usize,
    n: usize,
) -> Result<(), TrapKind> {
    let mut values = vec![N::default(); parts * n];
    let mut row = vec![N::default(); n];
    for part in 0..parts {
        chip.lanes[from.part + part].load(from, 0, &mut row)?;
        for (f, value) in row.iter().enumerate() {
            values[f * parts + part] = *value;
        }
    }
    for (f, row) in values.chunks(parts).enumerate() {
        chip.lanes[to.part + f].store(to, 0, row);
    }
    Ok(())
}
