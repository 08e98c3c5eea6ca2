//! `tile.map` and `tile.cast`: which engine, which instruction.
//!
//! Bit-exact alternatives on ACT, whose function is `f(round(scale·x) + bias)`: `a + b` is the identity of a with bias
//! b, `a − b` of b with scale −1 and bias a, `a · number` of a with that scale, `a · b` of a with scale b.

use kiln_ir::nn::MapKind;
use kiln_ir::{DType, tile};
use kiln_machine::isa::{ActFunc, CvtMode, VecOp};

use super::elementwise::walk;
use super::fuse::{Act, Form, Scale};
use super::geometry::Tile;
use super::{Fault, Place, Selector};
use crate::lir::{Engine, MOp, Mode, RowSum};

/// Which engines can execute an op with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engines {
    Vec,
    Act,
    Either,
    /// The op is neither engine's.
    Neither,
}

/// Where an op of this group can run.
pub(super) fn engines(group: &tile::Group, op: &tile::Op) -> Engines {
    let integer = |v: &tile::View| is_integer(group.bufs[v.buf.index()].dtype);
    match op {
        tile::Op::Cast { dst, src } if integer(dst) || integer(src) => Engines::Vec,
        tile::Op::Cast { .. } => Engines::Either,
        tile::Op::Map { kind, dst, srcs } => {
            let numbers = srcs.iter().filter(|s| matches!(s, tile::Source::Number(_))).count();
            let from_integers = op.reads().iter().any(|v| integer(v));
            let integers = from_integers || integer(dst);
            match kind {
                _ if kind.arity() == 1 && from_integers => Engines::Vec,
                MapKind::Identity | MapKind::Relu | MapKind::Square | MapKind::Neg => Engines::Either,
                _ if kind.arity() == 1 => Engines::Act,
                MapKind::Add | MapKind::Sub | MapKind::Mul if !integers && numbers == 0 => Engines::Either,
                MapKind::Mul if !integers && numbers == 1 => Engines::Either,
                _ => Engines::Vec,
            }
        }
        tile::Op::Mask { .. }
        | tile::Op::Reduce { .. }
        | tile::Op::Fill { .. }
        | tile::Op::Iota { .. }
        | tile::Op::Scan { .. }
        | tile::Op::TopK { .. }
        | tile::Op::Shuffle { .. } => Engines::Vec,
        _ => Engines::Neither,
    }
}

pub(super) fn is_integer(dtype: DType) -> bool {
    !matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64 | DType::F8E4M3 | DType::F8E5M2)
}

/// The 32 bits of a number as an immediate beside operands of that kind.
pub(super) fn immediate(value: f64, integer: bool) -> u32 {
    if integer { value as i64 as u32 } else { (value as f32).to_bits() }
}

/// A source with its layout.
enum Src {
    Tile(Tile),
    Number(f64),
}

impl Selector<'_> {
    /// The engine of an op with a choice: the one that will be done first.
    fn choose(&mut self, group: &tile::Group, op: &tile::Op, place: Place) -> Engine {
        match engines(group, op) {
            Engines::Act => Engine::ACT,
            Engines::Vec | Engines::Neither => Engine::VEC,
            Engines::Either => {
                let (vec, act) = (self.ticks(group, op, Engine::VEC), self.ticks(group, op, Engine::ACT));
                let (vec, act) = (vec * place.runs, act * place.runs);
                if self.group.vec_ticks + vec <= self.group.act_ticks + act {
                    self.group.vec_ticks += vec;
                    Engine::VEC
                } else {
                    self.group.act_ticks += act;
                    Engine::ACT
                }
            }
        }
    }

    /// Whether ACT is the first to be done with an op and a sum of its results, which it makes in one; counts the sum,
    /// which VEC makes otherwise.
    pub(super) fn sums_on_act(
        &mut self,
        group: &tile::Group,
        op: &tile::Op,
        sum: &tile::Op,
        runs: u64,
    ) -> bool {
        let (vec, act) = (self.ticks(group, op, Engine::VEC), self.ticks(group, op, Engine::ACT));
        let sum = self.ticks(group, sum, Engine::VEC);
        let on_act = self.group.act_ticks + act * runs < self.group.vec_ticks + (vec + sum) * runs;
        if on_act {
            self.group.act_ticks += act * runs;
        } else {
            self.group.vec_ticks += sum * runs;
        }
        on_act
    }

    /// What one instruction of ACT does: an operation, or several at once.
    pub(super) fn act(&mut self, act: &Act<'_>, place: Place) -> Result<(), Fault> {
        let Form { src, scale: factor, bias } = &act.form;
        let (dst, src) = (self.tile(act.dst)?, self.tile(src)?);
        let scale = if let Scale::View(view) = factor { Some(self.tile(view)?) } else { None };
        let bias = bias.map(|view| self.tile(view)).transpose()?;
        let sum = act.sum.map(|(view, _)| self.tile(view)).transpose()?;
        let accumulate = act.sum.is_some_and(|(_, accumulate)| accumulate);
        let read = [&src].into_iter().chain(&scale).chain(&bias);
        let mut accesses: Vec<_> = read.map(|tile| tile.access(Mode::Read)).collect();
        accesses.push(dst.access(Mode::Write));
        if let Some(sum) = &sum {
            accesses.push(sum.access(Mode::Write));
            accesses.extend(accumulate.then(|| sum.access(Mode::Read)));
        }
        let summed =
            |axis: &usize| sum.as_ref().is_some_and(|sum| sum.sizes[*axis] == 1 && dst.sizes[*axis] > 1);
        let reduced: Vec<usize> = (0..dst.sizes.len()).filter(summed).collect();
        let tiles: Vec<&Tile> = [&dst, &src].into_iter().chain(&scale).chain(&bias).chain(&sum).collect();
        let func = act.func;
        let code = walk(&mut self.lir, self.partitions, &tiles, &reduced, None, &mut |step| {
            let mut operands = step.opnds.iter().cloned();
            let (Some(dst), Some(src)) = (operands.next(), operands.next()) else { return Vec::new() };
            let grid = step.grid;
            let from_memory = scale.as_ref().and_then(|_| operands.next());
            let bias = bias.as_ref().and_then(|_| operands.next());
            let sum = operands.next().map(|dst| RowSum { dst, over: step.reduced, accumulate });
            vec![match (from_memory, *factor) {
                (Some(scale), _) => MOp::Actr { func, dst, src, scale, bias, grid },
                (None, Scale::Number(scale)) => MOp::Act { func, dst, src, bias, sum, scale, grid },
                (None, Scale::View(_)) => return Vec::new(),
            }]
        })?;
        self.push(place, Engine::ACT, code, accesses);
        Ok(())
    }

    /// A conversion on VEC, or a copy on ACT if it rounds the same.
    pub(super) fn cast(
        &mut self,
        group: &tile::Group,
        op: &tile::Op,
        dst: &tile::View,
        src: &tile::View,
        place: Place,
    ) -> Result<(), Fault> {
        if self.choose(group, op, place) == Engine::ACT {
            return self.act(&Act::of(op, dst, (ActFunc::Identity, Form::plain(src))), place);
        }
        let (dst, src) = (self.tile(dst)?, self.tile(src)?);
        let accesses = vec![src.access(Mode::Read), dst.access(Mode::Write)];
        let code = walk(&mut self.lir, self.partitions, &[&dst, &src], &[], None, &mut |step| {
            let [d, s] = step.opnds else { return Vec::new() };
            vec![MOp::Vcvt { dst: d.clone(), src: s.clone(), mode: CvtMode::Cast, grid: step.grid }]
        })?;
        self.push(place, Engine::VEC, code, accesses);
        Ok(())
    }

    pub(super) fn map(
        &mut self,
        group: &tile::Group,
        op: &tile::Op,
        kind: MapKind,
        dst: &tile::View,
        srcs: &[tile::Source],
        place: Place,
    ) -> Result<(), Fault> {
        let engine = self.choose(group, op, place);
        if engine == Engine::ACT {
            let form = Form::on_act(kind, srcs).ok_or_else(|| format!("no function `{}`", kind.name()))?;
            return self.act(&Act::of(op, dst, form), place);
        }
        let dst = self.tile(dst)?;
        let mut sources = Vec::new();
        for s in srcs {
            sources.push(match s {
                tile::Source::View(v) => Src::Tile(self.tile(v)?),
                tile::Source::Number(n) => Src::Number(*n),
            });
        }
        match (kind.arity(), sources.as_slice()) {
            (1, [Src::Tile(a)]) => self.unary(kind, &dst, a, place),
            (2, [Src::Tile(a), Src::Tile(b)]) => self.binary(kind, &dst, a, b, place),
            (2, [Src::Tile(a), Src::Number(n)]) => self.with_number(kind, &dst, a, (*n, false), place),
            (2, [Src::Number(n), Src::Tile(b)]) => self.with_number(kind, &dst, b, (*n, true), place),
            (3, [mask, a, b]) => self.choice(&dst, mask, a, b, place),
            _ => Err(format!("`{}` of numbers alone", kind.name()).into()),
        }
    }

    fn unary(&mut self, kind: MapKind, dst: &Tile, a: &Tile, place: Place) -> Result<(), Fault> {
        let integer = a.dt.is_integer();
        let accesses = vec![a.access(Mode::Read), dst.access(Mode::Write)];
        if integer && kind == MapKind::Abs && dst.buf == a.buf {
            return Err("the absolute value of integers in place".into());
        }
        let mut unknown = false;
        let code = walk(&mut self.lir, self.partitions, &[dst, a], &[], None, &mut |step| {
            let [d, s] = step.opnds else { return Vec::new() };
            let (dst, src, grid) = (d.clone(), s.clone(), step.grid);
            let vts = |op, dst, a, value: f64, reversed| MOp::Vts {
                op,
                dst,
                a,
                imm: immediate(value, integer),
                reversed,
                grid,
            };
            match kind {
                MapKind::Identity | MapKind::Floor | MapKind::Ceil | MapKind::Round => {
                    vec![MOp::Vcvt { dst, src, mode: CvtMode::Cast, grid }]
                }
                MapKind::Relu => vec![vts(VecOp::Max, dst, src, 0.0, false)],
                MapKind::Square => vec![MOp::Vtt { op: VecOp::Mul, dst, a: src.clone(), b: src, grid }],
                MapKind::Neg if integer => vec![vts(VecOp::Sub, dst, src, 0.0, true)],
                MapKind::Neg => vec![vts(VecOp::Mul, dst, src, -1.0, false)],
                MapKind::Abs => vec![
                    vts(VecOp::Sub, dst.clone(), src.clone(), 0.0, true),
                    MOp::Vtt { op: VecOp::Max, dst: dst.clone(), a: dst, b: src, grid },
                ],
                MapKind::Sign => {
                    vec![
                        vts(VecOp::Max, dst.clone(), src, -1.0, false),
                        vts(VecOp::Min, dst.clone(), dst, 1.0, false),
                    ]
                }
                MapKind::Not => vec![vts(VecOp::Eq, dst, src, 0.0, false)],
                MapKind::IsNan | MapKind::IsInf => vec![vts(VecOp::And, dst, src, 0.0, false)],
                _ => {
                    unknown = true;
                    Vec::new()
                }
            }
        })?;
        if unknown {
            return Err(format!("`{}` of {}", kind.name(), a.dt).into());
        }
        self.push(place, Engine::VEC, code, accesses);
        Ok(())
    }

    fn binary(&mut self, kind: MapKind, dst: &Tile, a: &Tile, b: &Tile, place: Place) -> Result<(), Fault> {
        let op =
            VecOp::by_name(kind.name()).ok_or_else(|| format!("no vector operation `{}`", kind.name()))?;
        let accesses = vec![a.access(Mode::Read), b.access(Mode::Read), dst.access(Mode::Write)];
        let code = walk(&mut self.lir, self.partitions, &[dst, a, b], &[], None, &mut |step| {
            let [d, a, b] = step.opnds else { return Vec::new() };
            let (dst, a, b, grid) = (d.clone(), a.clone(), b.clone(), step.grid);
            vec![MOp::Vtt { op, dst, a, b, grid }]
        })?;
        self.push(place, Engine::VEC, code, accesses);
        Ok(())
    }

    fn with_number(
        &mut self,
        kind: MapKind,
        dst: &Tile,
        a: &Tile,
        (number, reversed): (f64, bool),
        place: Place,
    ) -> Result<(), Fault> {
        let op =
            VecOp::by_name(kind.name()).ok_or_else(|| format!("no vector operation `{}`", kind.name()))?;
        let imm = immediate(number, a.dt.is_integer());
        let accesses = vec![a.access(Mode::Read), dst.access(Mode::Write)];
        let code = walk(&mut self.lir, self.partitions, &[dst, a], &[], None, &mut |step| {
            let [d, s] = step.opnds else { return Vec::new() };
            let (dst, a, grid) = (d.clone(), s.clone(), step.grid);
            vec![MOp::Vts { op, dst, a, imm, reversed, grid }]
        })?;
        self.push(place, Engine::VEC, code, accesses);
        Ok(())
    }

    fn choice(&mut self, dst: &Tile, mask: &Src, a: &Src, b: &Src, place: Place) -> Result<(), Fault> {
        let integer = dst.dt.is_integer();
        let mut tiles = Vec::new();
        for s in [mask, a, b] {
            tiles.push(match s {
                Src::Tile(t) => t.clone(),
                Src::Number(n) => self.constant_like(*n, integer, dst, place)?,
            });
        }
        let mut accesses: Vec<_> = tiles.iter().map(|t| t.access(Mode::Read)).collect();
        accesses.push(dst.access(Mode::Write));
        let all = [dst, &tiles[0], &tiles[1], &tiles[2]];
        let code = walk(&mut self.lir, self.partitions, &all, &[], None, &mut |step| {
            let [d, mask, a, b] = step.opnds else { return Vec::new() };
            let (dst, mask, a, b) = (d.clone(), mask.clone(), a.clone(), b.clone());
            vec![MOp::Vmrg { dst, mask, a, b, grid: step.grid }]
        })?;
        self.push(place, Engine::VEC, code, accesses);
        Ok(())
    }
}
