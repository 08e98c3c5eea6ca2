//! The values of the matrix engine: the stationary grid and products with it.
//!
//! A load keeps the operand as a panel in the order in which it came; a product reads the newest panel under its
//! window where it lies. Only where a window is pieced together from several loads are they laid into one grid.

mod panel;

use kiln_machine::isa::{Dt, Space, View};

use crate::error::TrapKind;
use crate::kernels::Isa;
use crate::kernels::product::{COLS, Offsets, Product, Quad, Stationary, Term, product};
use crate::lane::{self, Fault, OnChip, Place, Source};
use panel::{Integers, Panel, Terms};

/// What a cell of the grid holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Empty,
    Float,
    Integer,
}

/// The stationary operand, one number in each element of the array.
pub(crate) struct Grid {
    side: usize,
    /// Results that a bank of the accumulators holds in a partition.
    bank: usize,
    /// Loads in their order, none of which lies wholly under a later one.
    panels: Vec<Panel>,
    /// What was loaded before all panels.
    cells: Vec<Cell>,
    floats: Vec<f32>,
    integers: Vec<i16>,
    /// Memory of panels that are no more.
    spare: Vec<Panel>,
}

/// Panels that are kept apart.
const KEPT: usize = 8;

/// Rows and columns of the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) col: usize,
    pub(crate) cols: usize,
}

impl Window {
    /// Whether all of `other` lies in it.
    fn covers(&self, other: &Window) -> bool {
        self.row <= other.row
            && other.row + other.rows <= self.row + self.rows
            && self.col <= other.col
            && other.col + other.cols <= self.col + self.cols
    }

    fn overlaps(&self, other: &Window) -> bool {
        self.row < other.row + other.rows
            && other.row < self.row + self.rows
            && self.col < other.col + other.cols
            && other.col < self.col + self.cols
    }
}

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
    /// An array of `side` rows and columns with nothing loaded, and accumulator banks of `bank` results.
    pub(crate) fn new(side: usize, bank: usize) -> Self {
        Self {
            side,
            bank,
            cells: vec![Cell::Empty; side * side],
            floats: vec![0.0; side * side],
            integers: vec![0; side * side],
            panels: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Forget what is loaded.
    pub(crate) fn clear(&mut self) {
        self.cells.fill(Cell::Empty);
        self.spare.append(&mut self.panels);
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
        operand_kind(src)?;
        self.drop_panels_under(&window);
        let mut panel = self.spare.pop().unwrap_or_default();
        panel.load(chip, window, &place, transposed)?;
        self.panels.push(panel);
        Ok(())
    }

    /// Panels wholly under a new load are no more; the rest is laid into the grid if they become many.
    fn drop_panels_under(&mut self, window: &Window) {
        let under = |panel: &mut Panel| window.covers(&panel.window);
        self.spare.extend(self.panels.extract_if(.., under));
        if self.panels.len() == KEPT {
            self.lay_panels();
        }
    }

    /// Lay all panels into the grid, oldest first.
    fn lay_panels(&mut self) {
        for panel in &self.panels {
            let Window { row, rows, col, cols } = panel.window;
            for k in 0..rows {
                let cells = (row + k) * self.side + col;
                match &panel.terms {
                    Terms::Floats(terms) => {
                        let row = &mut self.floats[cells..][..cols];
                        row.iter_mut().enumerate().for_each(|(m, cell)| *cell = terms[panel.at(k, m)]);
                        self.cells[cells..][..cols].fill(Cell::Float);
                    }
                    Terms::Integers(_) => {
                        let row = &mut self.integers[cells..][..cols];
                        row.iter_mut().enumerate().for_each(|(m, cell)| *cell = panel.integer(k, m));
                        self.cells[cells..][..cols].fill(Cell::Integer);
                    }
                }
            }
        }
        self.spare.append(&mut self.panels);
    }

    /// The panel that holds all of the window, if there is one; else the grid does.
    fn panel_of(&mut self, window: &Window) -> Option<usize> {
        let newest = self.panels.iter().rposition(|panel| panel.window.overlaps(window))?;
        if self.panels[newest].window.covers(window) {
            return Some(newest);
        }
        self.lay_panels();
        None
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
        if acc.elements() > self.bank {
            let (what, needed) = ("results in a bank of the accumulators", acc.elements());
            return Err(TrapKind::Array { what, needed, limit: self.bank });
        }
        let kind = operand_kind(mma.moving)?;
        let panel = self.panel_of(&window);
        self.check_loaded(panel, &window, kind)?;
        let result_type = if kind == Cell::Integer { Dt::I32 } else { Dt::F32 };
        if acc.dt != result_type {
            return Err(TrapKind::ElementType { dt: acc.dt });
        }
        let shape = Product { rows: mma.m, cols: acc.elements(), depth: mma.k, accumulate: mma.continues };
        if kind == Cell::Integer {
            return self.multiply_integers(chip, mma, panel, &window, shape, (&acc, &moving));
        }
        let lanes = &chip.lanes[moving.part..][..mma.k];
        lanes.iter().try_for_each(|lane| lane.check(&moving))?;
        let scaled = match mma.scales {
            Some(scales) => Some(self.scaled(chip, mma, panel, &window, scales, shape)?),
            None => None,
        };
        let stationary = match (&scaled, panel) {
            (Some(scaled), _) => scaled.stationary(),
            (None, Some(panel)) => self.panels[panel].floats(&window),
            (None, None) => self.cells_as_floats(&window),
        };
        let pack = |sources: &[Source<'_>], start: usize, columns: usize, panels: &mut [f32]| {
            pack_floats(sources, &moving, start, columns, panels);
            if let Some(scaled) = &scaled {
                scaled.scale(start, columns, panels);
            }
        };
        compute(chip, (&acc, &moving), mma.k, shape, stationary, pack)
    }

    fn multiply_integers(
        &mut self,
        chip: &mut OnChip,
        mma: &Mma<'_>,
        panel: Option<usize>,
        window: &Window,
        shape: Product,
        (acc, moving): (&Place, &Place),
    ) -> Result<(), TrapKind> {
        let lanes = &chip.lanes[moving.part..][..mma.k];
        lanes.iter().try_for_each(|lane| lane.check(moving))?;
        let mut shape = Product { depth: mma.k.div_ceil(4), ..shape };
        let operands = match panel {
            Some(panel) => vec![self.panels[panel].integers(window)],
            None => self.cells_as_integers(window),
        };
        // The bytes of u8 stand 128 above those that the kernel takes as signed ones.
        let above = if moving.dt == Dt::U8 { 128 } else { 0 };
        let zero_x = i32::from(mma.zero.1) - above;
        for (i, integers) in operands.iter().enumerate() {
            // The zero point belongs to the first operand alone if their sum is the stationary operand.
            let zero_s = integers.above + if i == 0 { i32::from(mma.zero.0) } else { 0 };
            let rows = integers.row_offsets(window, zero_s, zero_x);
            let stationary = integers.stationary(Offsets { rows: &rows, factor: zero_s });
            shape.accumulate = mma.continues || i > 0;
            let pack = |sources: &[Source<'_>], start: usize, columns: usize, panels: &mut [Quad]| {
                pack_quads(sources, moving, start, columns, panels);
            };
            compute(chip, (acc, moving), mma.k, shape, stationary, pack)?;
        }
        Ok(())
    }

    /// A window of the grid under several loads.
    fn cells_as_floats(&self, window: &Window) -> Stationary<'_, f32> {
        let terms = &self.floats[window.row * self.side + window.col..];
        Stationary { terms, row: 1, step: self.side, offsets: Offsets::NONE }
    }

    /// The same of integers: one operand, and, if some are signed and some beyond signed ones, another to add to it.
    fn cells_as_integers(&self, window: &Window) -> Vec<Integers<'static>> {
        let cell = |k: usize, m: usize| self.integers[(window.row + k) * self.side + window.col + m];
        let low = Integers::new(window, 128, |k, m| (cell(k, m).min(127) + 128) as u8);
        let high = Integers::new(window, 0, |k, m| (cell(k, m).max(127) - 127) as u8);
        if high.are_zero() { vec![low] } else { vec![low, high] }
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

    /// Trap unless the window is loaded with numbers of this kind.
    fn check_loaded(&self, panel: Option<usize>, window: &Window, kind: Cell) -> Result<(), TrapKind> {
        if panel.is_some_and(|panel| self.panels[panel].kind() == kind) {
            return Ok(());
        }
        for row in window.row..window.row + window.rows {
            let whole;
            let cells = match panel {
                Some(panel) => {
                    whole = vec![self.panels[panel].kind(); window.cols];
                    &whole
                }
                None => &self.cells[row * self.side + window.col..][..window.cols],
            };
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

    /// The stationary operand with its block scales, and those of the moving operand.
    fn scaled(
        &self,
        chip: &OnChip,
        mma: &Mma<'_>,
        panel: Option<usize>,
        window: &Window,
        scales: [(&View, i64); 2],
        shape: Product,
    ) -> Result<Scaled, TrapKind> {
        let blocks = mma.k.div_ceil(SCALED_ROWS);
        let [(ss, ss_reg), (sx, sx_reg)] = scales;
        if let Some(view) = [ss, sx].into_iter().find(|view| view.dt != Dt::U8) {
            return Err(TrapKind::ElementType { dt: view.dt });
        }
        let ss = chip.place(ss, ss_reg, blocks, [1, 1, mma.m as u32])?;
        let sx = chip.place(sx, sx_reg, blocks, mma.n)?;
        let grid = match panel {
            Some(panel) => self.panels[panel].floats(window),
            None => self.cells_as_floats(window),
        };
        let mut stationary = Vec::with_capacity(mma.k * shape.rows);
        let mut exponents = vec![0i32; shape.rows.max(shape.cols)];
        let mut factors = Vec::with_capacity(blocks * shape.cols);
        for block in 0..blocks {
            chip.lanes[ss.part + block].load(&ss, 0, &mut exponents[..shape.rows])?;
            for k in block * SCALED_ROWS..((block + 1) * SCALED_ROWS).min(mma.k) {
                let terms = (0..shape.rows).map(|m| grid.terms[m * grid.row + k * grid.step]);
                stationary.extend(
                    terms.zip(&exponents).map(|(term, exponent)| term * power_of_two(exponent - 127)),
                );
            }
            chip.lanes[sx.part + block].load(&sx, 0, &mut exponents[..shape.cols])?;
            factors.extend(exponents[..shape.cols].iter().map(|exponent| power_of_two(exponent - 127)));
        }
        Ok(Scaled { stationary, rows: shape.rows, factors, cols: shape.cols })
    }
}

/// Rows of an operand that share their scales.
const SCALED_ROWS: usize = 32;

/// The operands of a block-scaled product.
struct Scaled {
    /// `[k][m]`, scaled.
    stationary: Vec<f32>,
    rows: usize,
    /// The moving operand's scales, `[k / 32][n]`.
    factors: Vec<f32>,
    cols: usize,
}

impl Scaled {
    fn stationary(&self) -> Stationary<'_, f32> {
        Stationary { terms: &self.stationary, row: 1, step: self.rows, offsets: Offsets::NONE }
    }

    /// Scale panels of the moving operand.
    fn scale(&self, start: usize, columns: usize, panels: &mut [f32]) {
        let size = panels.len() / columns.div_ceil(COLS);
        for (panel, first) in panels.chunks_mut(size).zip((start..start + columns).step_by(COLS)) {
            for (k, row) in panel.as_chunks_mut::<COLS>().0.iter_mut().enumerate() {
                let factors = &self.factors[k / SCALED_ROWS * self.cols + first..];
                row[..COLS.min(start + columns - first)]
                    .iter_mut()
                    .zip(factors)
                    .for_each(|(x, factor)| *x *= factor);
            }
        }
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

/// How many partitions ahead of its reading a row is asked for.
const AHEAD: usize = 8;

/// Panels of the moving operand.
fn pack_floats(sources: &[Source<'_>], place: &Place, start: usize, columns: usize, panels: &mut [f32]) {
    let plain = place.is_dense() && place.dt == Dt::F32;
    let size = sources.len() * COLS;
    for (k, source) in sources.iter().enumerate() {
        if plain {
            if let Some(ahead) = sources.get(k + AHEAD) {
                ahead.prefetch(place, start * 4, columns * 4);
            }
            let bytes = source.dense_bytes(place, start * 4, columns * 4);
            for (panel, bytes) in panels.chunks_mut(size).zip(bytes.chunks(COLS * 4)) {
                let row = &mut panel[k * COLS..][..COLS];
                for (slot, bytes) in row.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *slot = f32::from_le_bytes(*bytes);
                }
            }
        } else {
            for (panel, first) in panels.chunks_mut(size).zip((start..start + columns).step_by(COLS)) {
                let width = COLS.min(start + columns - first);
                source.load(place, first, &mut panel[k * COLS..][..width]);
            }
        }
    }
}

/// The same of integers, as signed bytes: those of u8 less 128.
fn pack_quads(sources: &[Source<'_>], place: &Place, start: usize, columns: usize, panels: &mut [Quad]) {
    let flip = if place.dt == Dt::U8 { 0x80 } else { 0 };
    let size = sources.len().div_ceil(4) * COLS;
    for (k, four) in sources.chunks(4).enumerate() {
        if place.is_dense() {
            for ahead in sources.iter().skip(k * 4 + AHEAD).take(4) {
                ahead.prefetch(place, start, columns);
            }
        }
        let four = [0, 1, 2, 3].map(|i| four.get(i).copied());
        for (panel, first) in panels.chunks_mut(size).zip((start..start + columns).step_by(COLS)) {
            let width = COLS.min(start + columns - first);
            lane::interleave(four, place, first, flip, &mut panel[k * COLS..][..width]);
        }
    }
}

/// `result (+)= stationary · moving` in the accumulators: in place if each of their rows is one run of bytes, else on
/// the side. The moving operand has been checked; `pack` is that of [`product`] with the partitions to read.
fn compute<T: Term>(
    chip: &mut OnChip,
    (acc, moving): (&Place, &Place),
    parts: usize,
    shape: Product,
    stationary: Stationary<'_, T>,
    pack: impl Fn(&[Source<'_>], usize, usize, &mut [T]) + Sync,
) -> Result<(), TrapKind> {
    let isa = Isa::detect();
    let results = acc.part..acc.part + shape.rows;
    if shape.accumulate {
        chip.lanes[results.clone()].iter().try_for_each(|lane| lane.check(acc))?;
    }
    let size = COLS * shape.depth;
    // What is read from the accumulators is read before they change.
    let early = (moving.space == Space::Acc).then(|| {
        let sources: Vec<_> =
            chip.lanes[moving.part..][..parts].iter().map(|lane| lane.source(moving.space)).collect();
        let mut panels = vec![T::default(); shape.cols.div_ceil(COLS) * size];
        pack(&sources, 0, shape.cols, &mut panels);
        panels
    });
    let (mut sources, mut rows) = (Vec::with_capacity(parts), Vec::with_capacity(shape.rows));
    let dense = acc.is_dense();
    let mut side = if dense { Vec::new() } else { side_rows(chip, acc, shape)? };
    for (part, lane) in chip.lanes.iter_mut().enumerate() {
        let (source, result) = lane.split(acc);
        if (moving.part..moving.part + parts).contains(&part) {
            sources.push(source);
        }
        if dense && results.contains(&part) {
            rows.push(result);
        }
    }
    if !dense {
        rows.extend(side.chunks_mut(shape.cols * 4));
    }
    let pack = |start: usize, columns: usize, panels: &mut [T]| match &early {
        Some(early) => panels.copy_from_slice(&early[start / COLS * size..][..panels.len()]),
        None => pack(&sources, start, columns, panels),
    };
    product(&chip.team, isa, shape, stationary, pack, &mut rows);
    let lanes = &mut chip.lanes[results];
    if dense {
        lanes.iter_mut().for_each(|lane| lane.mark(acc));
    } else {
        for (lane, row) in lanes.iter_mut().zip(side.chunks(shape.cols * 4)) {
            lane.copy_in(acc, 0, row);
        }
    }
    Ok(())
}

/// What the accumulators hold, row by row; zeros if the product starts its chains.
fn side_rows(chip: &OnChip, acc: &Place, shape: Product) -> Result<Vec<u8>, Fault> {
    let row_bytes = shape.cols * 4;
    let mut side = vec![0; row_bytes * shape.rows];
    if shape.accumulate && row_bytes > 0 {
        for (lane, row) in chip.lanes[acc.part..].iter().zip(side.chunks_mut(row_bytes)) {
            lane.copy_out(acc, 0, row)?;
        }
    }
    Ok(side)
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
