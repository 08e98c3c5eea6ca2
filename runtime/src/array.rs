//! The values of the matrix engine: the stationary grid and products with it.
//!
//! A load makes a panel of the operand in the order in which it lies; a product reads the newest panel under its
//! window. Only where a window is pieced together from several loads are they laid into one grid. Panels are never
//! changed, so a product may still read one while the next is loaded, and a product whose operands lie in one dim is
//! cut along its columns into a task for each thread. Rows of f32 are not even copied: products read them in the
//! scratchpad, until something else is written there and a panel has to be made after all.

mod load;
mod moving;
mod panel;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use kiln_machine::isa::{Dt, Space, View};
use smallvec::{SmallVec, smallvec};

use crate::elementwise::{Role, prepare};
use crate::error::TrapKind;
use crate::kernels::Isa;
use crate::kernels::ahead::Span;
use crate::kernels::arena::{Granted, Lines, Rect};
use crate::kernels::flow::Touch;
use crate::kernels::product::{COLS, Moving, Offsets, Product, Stationary, Term, product};
use crate::lane::{OnChip, Pinned, Place, Rows, Use};
use load::{InPlace, Load};
use moving::{Panels, Rest, SCALED_ROWS, Scaled};
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
    loads: Vec<Load>,
    /// Number of the next load.
    next: usize,
    /// Where results were last computed in pieces.
    cut: Vec<Rect>,
    /// What was loaded before all panels.
    cells: Vec<Cell>,
    floats: Vec<f32>,
    integers: Vec<i16>,
}

/// Panels that are kept apart.
const KEPT: usize = 8;
/// Columns from which a product is worth cutting.
const CUT: usize = 64;

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

    /// Partitions of an operand that fills it, and elements in each of them.
    fn extents(&self, transposed: bool) -> (usize, usize) {
        if transposed { (self.cols, self.rows) } else { (self.rows, self.cols) }
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
            loads: Vec::new(),
            cut: Vec::new(),
            next: 0,
        }
    }

    /// Forget what is loaded.
    pub(crate) fn clear(&mut self) {
        self.cells.fill(Cell::Empty);
        self.loads.clear();
        self.cut.clear();
    }

    /// Load a window from `rows` partitions of `cols` elements, or, transposed, from `cols` partitions of `rows`.
    pub(crate) fn load(
        &mut self,
        chip: &mut OnChip,
        window: Window,
        src: &View,
        src_reg: i64,
        transposed: bool,
    ) -> Result<(), TrapKind> {
        self.check(&window)?;
        let (parts, free) = window.extents(transposed);
        let place = chip.place(src, src_reg, parts, [1, 1, free as u32])?.as_last_operand();
        let kind = operand_kind(src)?;
        prepare(chip, parts, &[(&place, Role::Read)])?;
        // Loads wholly under this one are no more; the rest is laid into the grid if they become many.
        self.loads.retain(|load| !window.covers(&load.window));
        if self.loads.len() == KEPT {
            self.lay_loads(chip);
        }
        let mut load = Load { number: self.next, window, kind, panel: Arc::default(), in_place: None };
        self.next += 1;
        let panel = Arc::clone(&load.panel);
        let parts = place.part..place.part + parts;
        let rows = chip.rows(&place, parts.clone());
        let plain = place.is_dense() && place.dt == Dt::F32 && place.space == Space::Spm;
        if plain && !rows.are_borrowed() && cfg!(target_endian = "little") {
            chip.own(&place, parts.clone());
            let touches = [chip.touch(&(&place, parts.clone(), false)), load.touch(chip, true)];
            let is_released = AtomicBool::new(false);
            let in_place = Arc::new(InPlace { place, window, transposed, is_released, panel, touches });
            let reader: Arc<dyn Pinned> = Arc::clone(&in_place) as _;
            chip.pin(&place, parts, Arc::downgrade(&reader));
            load.in_place = Some(in_place);
        } else {
            let uses: SmallVec<[Use<'_>; 1]> =
                (!rows.are_borrowed()).then_some((&place, parts, false)).into_iter().collect();
            chip.submit(None, &uses, &[load.touch(chip, true)], move |granted| {
                panel.get_or_init(|| Panel::load(granted, &rows, window, &place, transposed));
                Ok(())
            });
        }
        self.loads.push(load);
        Ok(())
    }

    /// Lay all panels into the grid, oldest first.
    fn lay_loads(&mut self, chip: &OnChip) {
        for in_place in self.loads.iter().filter_map(Load::in_place) {
            Arc::clone(in_place).release(chip.flow());
        }
        chip.flow().drain();
        for load in std::mem::take(&mut self.loads) {
            // A load that failed has left none; the run ends.
            let Some(panel) = load.panel.get() else { continue };
            let Window { row, rows, col, cols } = load.window;
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
    }

    /// The load that holds all of the window, if there is one; else the grid does.
    fn load_of(&mut self, chip: &OnChip, window: &Window) -> Option<Load> {
        let newest = self.loads.iter().rev().find(|load| load.window.overlaps(window))?;
        if newest.window.covers(window) {
            return Some(newest.clone());
        }
        self.lay_loads(chip);
        None
    }

    /// What is loaded under a window, as the panels whose sum it is: one, but for integers of the grid, of which some
    /// may be signed and some beyond signed ones. And what a task touches that reads it.
    fn stationary(
        &mut self,
        chip: &OnChip,
        window: &Window,
        kind: Cell,
    ) -> Result<(Held, Option<Touch>), TrapKind> {
        if let Some(load) = self.load_of(chip, window) {
            if load.kind != kind {
                self.check_kind(window, kind, |_, _| load.kind)?;
            }
            if let Some(in_place) = load.in_place() {
                return Ok((Held::InPlace(Arc::clone(in_place)), None));
            }
            let touch = load.touch(chip, false);
            return Ok((Held::Panel(load.panel), Some(touch)));
        }
        self.check_kind(window, kind, |row, col| self.cells[row * self.side + col])?;
        let at = |k: usize, m: usize| (window.row + k) * self.side + window.col + m;
        if kind == Cell::Float {
            let panel = OnceLock::from(Panel::of_floats(*window, |k, m| self.floats[at(k, m)]));
            return Ok((Held::Panel(Arc::new(panel)), None));
        }
        let cell = |k: usize, m: usize| self.integers[at(k, m)];
        let low = Integers::new(window, 128, |k, m| (cell(k, m).min(127) + 128) as u8);
        let high = Integers::new(window, 0, |k, m| (cell(k, m).max(127) - 127) as u8);
        let both = if high.are_zero() { vec![low] } else { vec![low, high] };
        Ok((Held::Integers(both.into()), None))
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
        let (held, touch) = self.stationary(chip, &window, kind)?;
        let result_type = if kind == Cell::Integer { Dt::I32 } else { Dt::F32 };
        if acc.dt != result_type {
            return Err(TrapKind::ElementType { dt: acc.dt });
        }
        let (k, m) = (mma.k, mma.m);
        prepare(chip, k, &[(&moving, Role::Read)])?;
        prepare(chip, m, &[(&acc, if mma.continues { Role::Update } else { Role::Write })])?;
        let scales = match mma.scales {
            Some(scales) if kind == Cell::Float => {
                Some(scale_places(chip, scales, k.div_ceil(SCALED_ROWS), m, mma.n)?)
            }
            _ => None,
        };
        let touched: SmallVec<[Touch; 1]> = touch.into_iter().collect();
        let rows = chip.rows(&moving, moving.part..moving.part + k);
        let cols = acc.elements();
        // A product that reads accumulators may read what another task of it writes.
        let apart = moving.space == Space::Spm && scales.is_none();
        // Pieces share the stationary operand, so whole products are better where there is enough else to do; but one
        // that goes on where pieces are under way would wait for all of them, and whatever follows for it.
        let target = chip.touch(&(&acc, acc.part..acc.part + m, true));
        let was_cut = self.cut.iter().position(|cut| *cut == target.rect);
        let goes_on = || was_cut.is_some() && !chip.flow().is_settled(target.memory, &target.rect);
        let cuts = apart && cols >= 2 * CUT && (chip.flow().is_short_of_work() || goes_on());
        match was_cut {
            Some(number) if !cuts => drop(self.cut.swap_remove(number)),
            None if cuts => self.cut.push(target.rect),
            _ => {}
        }
        let tasks = if cuts { chip.threads().min(cols / CUT) } else { 1 };
        let each = cols.div_ceil(tasks).next_multiple_of(16);
        let pieces: Option<Vec<(Place, Place)>> = (0..cols)
            .step_by(each)
            .map(|first| {
                let len = each.min(cols - first);
                Some((acc.part_of(first, len)?, moving.part_of(first, len)?))
            })
            .collect();
        // Products that are not cut keep to a thread by their accumulators.
        let whole = if pieces.as_ref().is_some_and(|pieces| pieces.len() > 1) {
            0
        } else {
            acc.span.0 / (cols * 4).max(1)
        };
        for (piece, (acc, moving)) in pieces.unwrap_or_else(|| vec![(acc, moving)]).into_iter().enumerate() {
            let shape = Product { rows: m, cols: acc.elements(), depth: k, accumulate: mma.continues };
            let rows = rows.clone();
            let task = Task { window, shape, acc, moving, rows, zero: mma.zero, scales };
            let mut uses: SmallVec<[Use<'_>; 4]> = smallvec![(&acc, acc.part..acc.part + m, true)];
            if !task.rows.are_borrowed() {
                uses.push((&moving, moving.part..moving.part + k, false));
            }
            for scales in scales.iter().flatten() {
                uses.push((scales, scales.part..scales.part + k.div_ceil(SCALED_ROWS), false));
            }
            if let Held::InPlace(in_place) = &held {
                uses.push((&in_place.place, in_place.parts(), false));
            }
            let first_read = if moving.is_dense() { task.rows.span(&moving, COLS) } else { Span::NONE };
            let held = held.clone();
            chip.submit_reading(Some(piece + whole), &uses, &touched, first_read, move |granted| {
                task.run(granted, &held);
                Ok(())
            });
        }
        Ok(())
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
        prepare(chip, parts, &[(&from, Role::Read)])?;
        prepare(chip, n, &[(&to, Role::Write)])?;
        let uses = [(&from, from.part..from.part + parts, false), (&to, to.part..to.part + n, true)];
        chip.submit(None, &uses, &[], move |granted| {
            if from.dt.is_integer() {
                transpose_as::<i32>(granted, &from, &to, parts, n);
            } else {
                transpose_as::<f32>(granted, &from, &to, parts, n);
            }
            Ok(())
        });
        Ok(())
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
    fn check_kind(
        &self,
        window: &Window,
        kind: Cell,
        loaded: impl Fn(usize, usize) -> Cell,
    ) -> Result<(), TrapKind> {
        for row in window.row..window.row + window.rows {
            for column in window.col..window.col + window.cols {
                let found = loaded(row, column);
                if found != kind {
                    return Err(match found {
                        Cell::Empty => TrapKind::NoStationary { row, column },
                        Cell::Float => {
                            TrapKind::Extents("a float stationary with an integer moving operand".into())
                        }
                        Cell::Integer => {
                            TrapKind::Extents("an integer stationary with a float moving operand".into())
                        }
                    });
                }
            }
        }
        Ok(())
    }
}

/// The stationary operand of a product.
#[derive(Clone)]
enum Held {
    Panel(Arc<OnceLock<Panel>>),
    InPlace(Arc<InPlace>),
    /// Integers that were pieced together: their sum.
    Integers(Arc<[Integers<'static>]>),
}

/// Some columns of a product.
struct Task {
    window: Window,
    shape: Product,
    acc: Place,
    moving: Place,
    /// Where the moving operand's rows are.
    rows: Rows,
    zero: (u8, u8),
    scales: Option<[Place; 2]>,
}

impl Task {
    fn run(&self, granted: &mut Granted<'_>, held: &Held) {
        match held {
            Held::Integers(all) => self.run_integers(granted, all),
            // Without a panel an earlier task has failed, and the run ends.
            Held::Panel(panel) => match panel.get() {
                None => {}
                Some(Panel { terms: Terms::Integers(_), .. }) => {
                    let integers = panel.get().map(|panel| panel.integers(&self.window));
                    self.run_integers(granted, integers.as_slice());
                }
                Some(panel) => self.run_floats(granted, &Source::Terms(panel.floats(&self.window))),
            },
            Held::InPlace(in_place) => self.run_floats(granted, &Source::InPlace(in_place, &self.window)),
        }
    }

    fn run_floats(&self, granted: &mut Granted<'_>, stationary: &Source<'_, f32>) {
        let Self { shape, moving, rows, .. } = self;
        let scaled = self
            .scales
            .as_ref()
            .map(|scales| Scaled::new(granted, scales, &stationary.terms(granted), (shape.depth, *shape)));
        let of_scaled = scaled.as_ref().map(|scaled| Source::Terms(scaled.stationary()));
        let stationary = of_scaled.as_ref().unwrap_or(stationary);
        let moving = Rest { place: moving, rows, depth: shape.depth, scaled: scaled.as_ref() };
        compute(granted, &self.acc, *shape, stationary, moving);
    }

    fn run_integers(&self, granted: &mut Granted<'_>, operands: &[Integers<'_>]) {
        let Self { window, shape, moving, rows: from, zero, .. } = self;
        // The bytes of u8 stand 128 above those that the kernel takes as signed ones.
        let above = if moving.dt == Dt::U8 { 128 } else { 0 };
        let zero_x = i32::from(zero.1) - above;
        for (i, integers) in operands.iter().enumerate() {
            // The zero point belongs to the first operand alone if their sum is the stationary operand.
            let zero_s = integers.above + if i == 0 { i32::from(zero.0) } else { 0 };
            let rows = integers.row_offsets(window, zero_s, zero_x);
            let stationary = integers.stationary(Offsets { rows: &rows, factor: zero_s });
            let depth = shape.depth.div_ceil(4);
            let of_quads = Product { depth, accumulate: shape.accumulate || i > 0, ..*shape };
            let moving = Rest { place: moving, rows: from, depth: shape.depth, scaled: None };
            compute(granted, &self.acc, of_quads, &Source::Terms(stationary), moving);
        }
    }
}

/// Where the block scales of the two operands are.
fn scale_places(
    chip: &mut OnChip,
    [(ss, ss_reg), (sx, sx_reg)]: [(&View, i64); 2],
    blocks: usize,
    m: usize,
    n: [u32; 3],
) -> Result<[Place; 2], TrapKind> {
    if let Some(view) = [ss, sx].into_iter().find(|view| view.dt != Dt::U8) {
        return Err(TrapKind::ElementType { dt: view.dt });
    }
    let places = [chip.place(ss, ss_reg, blocks, [1, 1, m as u32])?, chip.place(sx, sx_reg, blocks, n)?];
    for place in &places {
        prepare(chip, blocks, &[(place, Role::Read)])?;
    }
    Ok(places)
}

/// Whether an operand of the array is computed in floats or integers.
fn operand_kind(view: &View) -> Result<Cell, TrapKind> {
    match view.dt {
        Dt::F32 | Dt::Bf16 | Dt::F16 | Dt::F8e4m3 | Dt::F8e5m2 => Ok(Cell::Float),
        Dt::I8 | Dt::U8 => Ok(Cell::Integer),
        dt => Err(TrapKind::ElementType { dt }),
    }
}

/// The stationary operand of a task: terms, or a load in place and the window of it.
enum Source<'a, T> {
    Terms(Stationary<'a, T>),
    InPlace(&'a InPlace, &'a Window),
}

impl<T: Term> Source<'_, T> {
    fn terms<'a>(&'a self, granted: &'a Granted<'_>) -> Stationary<'a, T> {
        match self {
            Source::Terms(terms) => *terms,
            Source::InPlace(in_place, window) => in_place.stationary(granted, window),
        }
    }
}

/// `result (+)= stationary · moving` in the accumulators: in place if each of their rows is one run of bytes that the
/// moving operand does not share, else on the side.
fn compute<T: Term>(
    granted: &mut Granted<'_>,
    acc: &Place,
    shape: Product,
    stationary: &Source<'_, T>,
    rest: Rest<'_>,
) where
    for<'a, 'g> Panels<'a, 'g>: Moving<T>,
{
    let (isa, row_bytes) = (Isa::detect(), shape.cols * 4);
    if acc.is_dense() && granted.is_apart(acc.field()) {
        let (mut lines, others) = granted.lines(acc.field(), (acc.part, shape.rows), (acc.span.0, row_bytes));
        let stationary = stationary.terms(&others);
        return product(isa, shape, stationary, &Panels::new(&others, rest), &mut lines);
    }
    let mut side = vec![0; row_bytes * shape.rows];
    if shape.accumulate && row_bytes > 0 {
        for (part, row) in (acc.part..).zip(side.chunks_mut(row_bytes)) {
            granted.copy_out(acc, part, 0, row);
        }
    }
    let mut lines = Lines::of(&mut side, row_bytes, shape.rows, row_bytes);
    product(isa, shape, stationary.terms(granted), &Panels::new(granted, rest), &mut lines);
    for (part, row) in (acc.part..).zip(side.chunks(row_bytes.max(1))) {
        granted.copy_in(acc, part, 0, row);
    }
}

fn transpose_as<N: crate::convert::Number>(
    granted: &mut Granted<'_>,
    from: &Place,
    to: &Place,
    parts: usize,
    n: usize,
) {
    let mut values = vec![N::default(); parts * n];
    let mut row = vec![N::default(); n];
    for part in 0..parts {
        granted.load(from, from.part + part, 0, &mut row);
        for (f, value) in row.iter().enumerate() {
            values[f * parts + part] = *value;
        }
    }
    for (f, row) in values.chunks(parts).enumerate() {
        granted.store(to, to.part + f, 0, row);
    }
}
