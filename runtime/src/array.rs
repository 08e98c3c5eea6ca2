//! The values of the matrix engine: the stationary grid and products with it.
//!
//! A load keeps the operand as a panel in the order in which it came; a product reads the newest panel under its
//! window where it lies. Only where a window is pieced together from several loads are they laid into one grid.

mod panel;

use kiln_machine::isa::{Dt, Space, View};

use crate::error::TrapKind;
use crate::kernels::team::Team;
use crate::kernels::{self, COLS, Isa, Pair, Product, Stationary};
use crate::lane::{Fault, OnChip, Place};
use panel::{Panel, Terms};

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
    moving: Vec<f32>,
    moving_pairs: Vec<Pair>,
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
            moving: Vec::new(),
            moving_pairs: Vec::new(),
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
                    Terms::Integers(terms) => {
                        let row = &mut self.integers[cells..][..cols];
                        row.iter_mut().enumerate().for_each(|(m, cell)| *cell = terms[panel.at(k, m)]);
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
        let mut x = std::mem::take(&mut self.moving);
        let packed = pack_floats(chip, &moving, shape, &mut x);
        let done = packed.map_err(TrapKind::from).and_then(|()| {
            let scaled;
            let stationary = match (mma.scales, panel) {
                (Some(scales), _) => {
                    scaled = self.scaled(chip, mma, panel, &window, scales, shape, &mut x)?;
                    Stationary { terms: &scaled, row: 1, step: shape.rows }
                }
                (None, Some(panel)) => self.panels[panel].floats(&window),
                (None, None) => Stationary {
                    terms: &self.floats[window.row * self.side + window.col..],
                    row: 1,
                    step: self.side,
                },
            };
            with_result(chip, &acc, mma, |team, rows| {
                kernels::product(team, Isa::detect(), shape, stationary, &x, rows);
            })
        });
        self.moving = x;
        done
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
        let shape = Product { depth: mma.k.div_ceil(2), ..shape };
        let mut x = std::mem::take(&mut self.moving_pairs);
        let packed = pack_pairs(chip, moving, mma, shape, &mut x);
        let done = packed.map_err(TrapKind::from).and_then(|()| {
            let whole;
            let stationary = match panel {
                Some(panel) => self.panels[panel].pairs(window, mma.zero.0),
                None => {
                    let cells = &self.integers[window.row * self.side + window.col..];
                    whole = panel::pairs(window, mma.zero.0, |k, m| cells[k * self.side + m]);
                    Stationary { terms: &whole, row: 1, step: mma.m }
                }
            };
            with_result(chip, acc, mma, |team, rows| {
                kernels::product(team, Isa::detect(), shape, stationary, &x, rows);
            })
        });
        self.moving_pairs = x;
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

    /// The stationary operand with its block scales, `[k][m]`; the packed moving operand is scaled in place.
    #[allow(clippy::too_many_arguments)]
    fn scaled(
        &self,
        chip: &OnChip,
        mma: &Mma<'_>,
        panel: Option<usize>,
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
        let grid = match panel {
            Some(panel) => self.panels[panel].floats(window),
            None => Stationary {
                terms: &self.floats[window.row * self.side + window.col..],
                row: 1,
                step: self.side,
            },
        };
        let mut stationary = Vec::with_capacity(mma.k * shape.rows);
        let mut exponents = vec![0i32; shape.rows.max(shape.cols)];
        for block in 0..blocks {
            let rows = block * 32..((block + 1) * 32).min(mma.k);
            chip.lanes[ss.part + block].load(&ss, 0, &mut exponents[..shape.rows])?;
            for (k, m) in rows.clone().flat_map(|k| (0..shape.rows).map(move |m| (k, m))) {
                let term = grid.terms[m * grid.row + k * grid.step];
                stationary.push(term * power_of_two(exponents[m] - 127));
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

/// Bytes of a moving operand from which packing is worth spreading over threads.
const PARALLEL_BYTES: usize = 1 << 14;

/// How many partitions ahead of its reading a row is asked for.
const AHEAD: usize = 8;

/// Panels of [`COLS`] columns of the moving operand; the padding of the last may hold anything.
fn pack_floats(chip: &OnChip, place: &Place, shape: Product, packed: &mut Vec<f32>) -> Result<(), Fault> {
    packed.resize(shape.packed_moving_len(), 0.0);
    let lanes = &chip.lanes[place.part..place.part + shape.depth];
    let plain = place.is_dense() && place.dt == Dt::F32;
    pack(&chip.team, shape, packed, |start, panel: &mut [f32]| {
        let columns = COLS.min(shape.cols - start);
        for (k, (lane, row)) in lanes.iter().zip(panel.as_chunks_mut::<COLS>().0).enumerate() {
            if plain {
                if let Some(ahead) = lanes.get(k + AHEAD) {
                    ahead.prefetch(place, start * 4, columns * 4);
                }
                let bytes = lane.checked_bytes(place, start * 4, columns * 4)?;
                for (slot, bytes) in row.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *slot = f32::from_le_bytes(*bytes);
                }
            } else {
                lane.load(place, start, &mut row[..columns])?;
            }
        }
        Ok(())
    })
}

/// The same of integers less their zero point, two rows in a term.
fn pack_pairs(
    chip: &OnChip,
    place: &Place,
    mma: &Mma<'_>,
    shape: Product,
    packed: &mut Vec<Pair>,
) -> Result<(), Fault> {
    packed.resize(shape.packed_moving_len(), Pair::default());
    let lanes = &chip.lanes[place.part..place.part + mma.k];
    let zero = i32::from(mma.zero.1);
    pack(&chip.team, shape, packed, |start, panel: &mut [Pair]| {
        let columns = COLS.min(shape.cols - start);
        for (lanes, row) in lanes.chunks(2).zip(panel.as_chunks_mut::<COLS>().0) {
            // A last step alone is paired with a zero.
            let mut numbers = [[0i32; COLS]; 2];
            for (lane, numbers) in lanes.iter().zip(&mut numbers) {
                lane.load(place, start, &mut numbers[..columns])?;
                numbers.iter_mut().for_each(|number| *number -= zero);
            }
            for (i, slot) in row.iter_mut().enumerate() {
                *slot = Pair([numbers[0][i] as i16, numbers[1][i] as i16]);
            }
        }
        Ok(())
    })
}

/// Run `work(first column, panel)` for each panel; the error is that of the first panel with one.
fn pack<T: kernels::Term>(
    team: &Team,
    shape: Product,
    packed: &mut [T],
    work: impl Fn(usize, &mut [T]) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    let size = COLS * shape.depth;
    if packed.len() * 4 < PARALLEL_BYTES {
        return packed.chunks_mut(size).enumerate().try_for_each(|(panel, terms)| work(panel * COLS, terms));
    }
    team.try_each_chunk(packed, size, |first, terms| work(first / size * COLS, terms))
}

/// Let `work` update the result rows, in place if each is one run of bytes, else on the side.
fn with_result(
    chip: &mut OnChip,
    acc: &Place,
    mma: &Mma<'_>,
    work: impl FnOnce(&Team, &mut [&mut [u8]]),
) -> Result<(), TrapKind> {
    let (lanes, team) = (&mut chip.lanes[acc.part..acc.part + mma.m], &chip.team);
    if mma.continues {
        for lane in lanes.iter() {
            lane.check(acc)?;
        }
    }
    if acc.is_dense() {
        let mut rows: Vec<&mut [u8]> = lanes.iter_mut().map(|lane| lane.dense_bytes_mut(acc)).collect();
        work(team, &mut rows);
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
    work(team, &mut side.chunks_mut(elements * 4).collect::<Vec<_>>());
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
