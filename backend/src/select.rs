//! Selection: each tile op becomes instructions of one engine, or of several DMA queues.
//!
//! The block tree of the result has the loops of the tile program; work order within a block is program order. Copies
//! and simple arithmetic run on VEC or ACT, whichever has less to do in the group; transfers go to the queue with the
//! fewest bytes among those of its role in the group: loads of what is there from the start, loads of what a group
//! stored, stores.

mod constants;
mod dma;
mod elementwise;
mod fault;
mod fuse;
mod geometry;
mod layout;
mod maps;
mod matmul;
mod queues;

use std::collections::{BTreeMap, BTreeSet};

use kiln_ir::{DType, Origin, tile};
use kiln_machine::duration::SPLIT_BYTES;
use kiln_machine::isa::{Dt, RedOp, Space};
use kiln_machine::target::Target;

use crate::error::BackendError;
use crate::lir::{
    Access, Block, BlockId, BufId, Buffer, Code, Engine, Group, Item, IvId, Lir, MOp, Mode, OriginId, ROOT,
    Terms, Work, add_term,
};
use constants::iota;
use dma::{Direction, DramView, Rows};
use elementwise::{Affine, walk};
use fault::Fault;
use fuse::Node;
use geometry::{DramTensor, Tile};
use queues::{Queues, bytes_by_role, is_written, role};

/// Selects the whole program, with at most `queues` DMA queues and a transfer on at most `spread` of them. In `tight`
/// groups each op has instructions of its own.
pub(crate) fn select(
    program: &tile::Program,
    target: &Target,
    (queues, spread): (u32, u32),
    tight: &BTreeSet<String>,
) -> Result<Lir, BackendError> {
    let drams = program
        .drams
        .iter()
        .enumerate()
        .map(|(i, d)| {
            let dt = device_type(d.ty.dtype).ok_or_else(|| {
                BackendError::Malformed(format!(
                    "DRAM tensor `{}` of {:?} has no device type",
                    d.name, d.ty.dtype
                ))
            })?;
            let shape = d.ty.shape.iter().map(|e| *e as u64).collect();
            Ok(DramTensor { id: crate::lir::DramId(i as u32), dt, shape })
        })
        .collect::<Result<Vec<_>, BackendError>>()?;
    let queues = Queues::new(queues, spread);
    let mut s = Selector {
        lir: Lir::new(),
        target,
        partitions: target.partitions as u32,
        drams,
        origins: BTreeMap::new(),
        queues,
        is_written: program.drams.iter().map(|d| is_written(&d.kind)).collect(),
        group: GroupState::default(),
    };
    for group in &program.groups {
        s.group(group, !tight.contains(&group.name))?;
    }
    Ok(s.lir)
}

/// The element type on the device; none for 64-bit types.
pub(crate) fn device_type(dtype: DType) -> Option<Dt> {
    Some(match dtype {
        DType::F32 => Dt::F32,
        DType::BF16 => Dt::Bf16,
        DType::F16 => Dt::F16,
        DType::F8E4M3 => Dt::F8e4m3,
        DType::F8E5M2 => Dt::F8e5m2,
        DType::I8 => Dt::I8,
        DType::U8 | DType::Bool => Dt::U8,
        DType::I16 => Dt::I16,
        DType::U16 => Dt::U16,
        DType::I32 => Dt::I32,
        DType::U32 => Dt::U32,
        _ => return None,
    })
}

/// What selection knows within a group.
#[derive(Default)]
struct GroupState {
    index: usize,
    bufs: Vec<Option<BufId>>,
    /// How each buffer's free axes lie.
    orders: Vec<Vec<usize>>,
    ivs: BTreeMap<u32, IvId>,
    /// Per-partition constants made at the start of the group, by bits and type.
    constants: BTreeMap<(u32, bool), Tile>,
    /// Works that make them.
    prelude: Vec<Work>,
    /// Rank of the group's buffers.
    rank: usize,
    /// Ticks of work given to VEC and ACT.
    vec_ticks: u64,
    act_ticks: u64,
}

struct Selector<'a> {
    lir: Lir,
    target: &'a Target,
    partitions: u32,
    drams: Vec<DramTensor>,
    origins: BTreeMap<Vec<String>, OriginId>,
    queues: Queues,
    /// Whether the program writes each DRAM tensor.
    is_written: Vec<bool>,
    group: GroupState,
}

/// Where a statement stands.
#[derive(Clone, Copy)]
struct Place {
    block: BlockId,
    origin: OriginId,
    /// How often it runs.
    runs: u64,
}

impl Selector<'_> {
    fn group(&mut self, group: &tile::Group, fuses: bool) -> Result<(), BackendError> {
        let index = self.lir.groups.len();
        self.group = GroupState {
            index,
            bufs: vec![None; group.bufs.len()],
            orders: layout::orders(group),
            rank: group.bufs.first().map_or(1, |b| b.shape.len()),
            ..GroupState::default()
        };
        let nodes = fuse::nodes(group, self.partitions as usize, fuses);
        self.survey(group, &nodes, 1);
        self.queues.share_out(&bytes_by_role(&group.body, &self.drams, &self.is_written));
        let start = self.lir.blocks[ROOT.index()].items.len();
        self.body(group, &nodes, ROOT, 1)?;
        let prelude = std::mem::take(&mut self.group.prelude);
        let shift = prelude.len();
        for block in &mut self.lir.blocks {
            if let Some((ROOT, item)) = &mut block.parent
                && *item >= start
            {
                *item += shift;
            }
        }
        self.lir.blocks[ROOT.index()].items.splice(start..start, prelude.into_iter().map(Item::Work));
        let end = self.lir.blocks[ROOT.index()].items.len();
        self.lir.groups.push(Group { name: group.name.clone(), items: start..end });
        Ok(())
    }

    /// Adds up the work that has no choice of engine.
    fn survey(&mut self, group: &tile::Group, nodes: &[Node<'_>], runs: u64) {
        for node in nodes {
            let op = match node {
                Node::Alloc { .. } => continue,
                Node::For { trip, body, .. } => {
                    self.survey(group, body, runs * *trip as u64);
                    continue;
                }
                Node::Op(op, _) => *op,
                Node::Act(act, _) => act.of,
            };
            match maps::engines(group, op) {
                maps::Engines::Vec => self.group.vec_ticks += runs * self.ticks(group, op, Engine::VEC),
                maps::Engines::Act => self.group.act_ticks += runs * self.ticks(group, op, Engine::ACT),
                maps::Engines::Either | maps::Engines::Neither => {}
            }
        }
    }

    /// About how long VEC or ACT takes for an op.
    fn ticks(&self, group: &tile::Group, op: &tile::Op, engine: Engine) -> u64 {
        let views = op.writes().into_iter().map(|(v, _)| v).chain(op.reads());
        let free = |v: &tile::View| {
            let part = group.bufs[v.buf.index()].part;
            let chunks = v.shape[part].div_ceil(self.partitions as usize);
            (v.shape.iter().enumerate().filter(|(a, _)| *a != part).map(|(_, n)| *n).product::<usize>()
                * chunks) as u64
        };
        let n = views.map(free).max().unwrap_or(0);
        let t = self.target;
        let (start, lanes, div) = match engine {
            Engine::VEC => (t.vec_startup_cycles, t.vec_lanes, t.vec_clock_div),
            _ => (t.act_startup_cycles, t.act_lanes, t.act_clock_div),
        };
        (start + (n * t.partitions).div_ceil(lanes)) * div
    }

    fn body(
        &mut self,
        group: &tile::Group,
        nodes: &[Node<'_>],
        block: BlockId,
        runs: u64,
    ) -> Result<(), BackendError> {
        for node in nodes {
            match node {
                Node::Alloc { buf, depth } => self.alloc(group, *buf, *depth, block)?,
                Node::For { iv, trip, body } => {
                    let counter = self.lir.new_iv(*trip as u64);
                    self.group.ivs.insert(iv.0, counter);
                    let id = BlockId(self.lir.blocks.len() as u32);
                    let at = self.lir.blocks[block.index()].items.len();
                    self.lir.blocks.push(Block {
                        parent: Some((block, at)),
                        iv: Some(counter),
                        items: Vec::new(),
                    });
                    self.lir.blocks[block.index()].items.push(Item::Loop(id));
                    self.body(group, body, id, runs * *trip as u64)?;
                }
                Node::Op(op, origin) => {
                    let place = Place { block, origin: self.intern(origin), runs };
                    self.op(group, op, place).map_err(|fault| fault.of(op, origin))?;
                }
                Node::Act(act, origin) => {
                    let place = Place { block, origin: self.intern(origin), runs };
                    match act.apart.filter(|[_, (sum, _)]| !self.sums_on_act(group, act.of, sum, runs)) {
                        None => self.act(act, place).map_err(|fault| fault.of(act.of, origin))?,
                        Some(both) => {
                            for (op, origin) in both {
                                let place = Place { block, origin: self.intern(origin), runs };
                                self.op(group, op, place).map_err(|fault| fault.of(op, origin))?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn intern(&mut self, origin: &Origin) -> OriginId {
        let names: Vec<String> = origin.names().map(str::to_owned).collect();
        let next = OriginId(self.origins.len() as u32);
        let id = *self.origins.entry(names.clone()).or_insert(next);
        if id == next {
            self.lir.origins.push(names);
        }
        id
    }

    fn alloc(
        &mut self,
        group: &tile::Group,
        buf: tile::BufId,
        depth: usize,
        block: BlockId,
    ) -> Result<(), BackendError> {
        let ty = &group.bufs[buf.index()];
        let dt = device_type(ty.dtype)
            .ok_or_else(|| BackendError::Malformed(format!("buffer {} of {:?}", buf.0, ty.dtype)))?;
        let id = BufId(self.lir.buffers.len() as u32);
        self.lir.buffers.push(Buffer {
            group: self.group.index,
            extents: ty.shape.iter().map(|e| *e as u32).collect(),
            part: ty.part,
            order: self.group.orders[buf.index()].clone(),
            dt,
            space: match ty.space {
                tile::Space::Spm => Space::Spm,
                tile::Space::Acc => Space::Acc,
            },
            depth: depth as u32,
            block,
        });
        self.group.bufs[buf.index()] = Some(id);
        Ok(())
    }

    fn tile(&self, view: &tile::View) -> Result<Tile, Fault> {
        let buf = self
            .group
            .bufs
            .get(view.buf.index())
            .copied()
            .flatten()
            .ok_or("a buffer is used before its alloc")?;
        let mut coefs: BTreeMap<IvId, Vec<i64>> = BTreeMap::new();
        for (iv, c) in &view.ivs {
            if c.iter().any(|c| *c != 0) {
                coefs.insert(self.iv(*iv)?, c.clone());
            }
        }
        let sizes: Vec<u32> = view.shape.iter().map(|s| *s as u32).collect();
        if sizes.contains(&0) {
            return Err("a view without elements".into());
        }
        let buffer = &self.lir.buffers[buf.index()];
        Ok(Tile::new(buffer, buf, self.partitions, &view.offsets, &sizes, &coefs)?)
    }

    fn iv(&self, iv: tile::IvId) -> Result<IvId, Fault> {
        Ok(*self.group.ivs.get(&iv.0).ok_or("a loop variable is used outside its loop")?)
    }

    fn terms(&self, ivs: &[(tile::IvId, i64)]) -> Result<Terms, Fault> {
        let mut terms = Terms::new();
        for (iv, c) in ivs {
            add_term(&mut terms, self.iv(*iv)?, *c);
        }
        Ok(terms)
    }

    fn affine(&self, form: &tile::Affine) -> Result<Affine, Fault> {
        Ok(Affine { base: form.base, axes: form.axes.clone(), terms: self.terms(&form.ivs)? })
    }

    fn push(&mut self, place: Place, engine: Engine, code: Vec<Code>, accesses: Vec<Access>) {
        let work = Work { engine, code, accesses, origin: place.origin };
        self.lir.blocks[place.block.index()].items.push(Item::Work(work));
    }

    fn op(&mut self, group: &tile::Group, op: &tile::Op, place: Place) -> Result<(), Fault> {
        match op {
            tile::Op::Load { dram, at, dst } => self.transfer(Direction::Load, *dram, at, dst, place),
            tile::Op::Store { src, dram, at } => self.transfer(Direction::Store, *dram, at, src, place),
            tile::Op::Gather { dram, at, idx, row_stride, rows, dst } => {
                self.indexed(Direction::Load, *dram, at, idx, (*rows, *row_stride), dst, place)
            }
            tile::Op::Scatter { src, idx, dram, at, row_stride, rows } => {
                self.indexed(Direction::Store, *dram, at, idx, (*rows, *row_stride), src, place)
            }
            tile::Op::Matmul { acc, s, x, accumulate } => self.matmul(acc, s, x, *accumulate, place),
            tile::Op::Transpose { dst, src } => self.transpose(dst, src, place),
            tile::Op::Fill { dst, value } => self.fill(dst, *value, place),
            tile::Op::Iota { dst, form } => {
                let (dst, form) = (self.tile(dst)?, self.affine(form)?);
                let accesses = vec![dst.access(Mode::Write)];
                let code = walk(&mut self.lir, self.partitions, &[&dst], &[], Some(&form), &mut |step| {
                    let [d] = step.opnds else { return Vec::new() };
                    step.predicate.iter().map(|f| iota(d.clone(), step.grid, f)).collect()
                })?;
                self.push(place, Engine::VEC, code, accesses);
                Ok(())
            }
            tile::Op::Mask { dst, src, form, fill } => {
                let (dst, src, form) = (self.tile(dst)?, self.tile(src)?, self.affine(form)?);
                let accesses = vec![src.access(Mode::Read), dst.access(Mode::Write)];
                let imm = maps::immediate(*fill, src.dt.is_integer());
                let code =
                    walk(&mut self.lir, self.partitions, &[&dst, &src], &[], Some(&form), &mut |step| {
                        let ([d, s], Some(f)) = (step.opnds, step.predicate) else { return Vec::new() };
                        let (base, terms, cp, c) = (f.base, f.terms, f.cp, f.c);
                        vec![MOp::Vsel {
                            dst: d.clone(),
                            src: s.clone(),
                            grid: step.grid,
                            base,
                            terms,
                            cp,
                            c,
                            imm,
                        }]
                    })?;
                self.push(place, Engine::VEC, code, accesses);
                Ok(())
            }
            tile::Op::Reduce { kind, dst, src, accumulate } => {
                let op =
                    RedOp::by_name(kind.name()).ok_or_else(|| format!("no reduction `{}`", kind.name()))?;
                self.reduce(op, dst, src, *accumulate, place)
            }
            tile::Op::Scan { kind, dst, src, axis, exclusive, reverse } => {
                let op = RedOp::by_name(kind.name()).ok_or_else(|| format!("no scan `{}`", kind.name()))?;
                let (dst, src) = (self.tile(dst)?, self.tile(src)?);
                let accesses = vec![src.access(Mode::Read), dst.access(Mode::Write)];
                let n2 = src.sizes[*axis];
                let (exclusive, reverse) = (*exclusive, *reverse);
                let code = elementwise::along(
                    &mut self.lir,
                    self.partitions,
                    &[&dst, &src],
                    *axis,
                    &mut |o, parts, n| {
                        let grid = crate::lir::Grid { parts, n: [n[0], n[1], n2] };
                        let (dst, src) = (o[0].clone(), o[1].clone());
                        MOp::Vscan { op, dst, src, carry: None, grid, exclusive, reverse }
                    },
                )?;
                self.push(place, Engine::VEC, code, accesses);
                Ok(())
            }
            tile::Op::TopK { values, indices, src, axis, largest } => {
                let (values, indices, src) = (self.tile(values)?, self.tile(indices)?, self.tile(src)?);
                let accesses =
                    vec![src.access(Mode::Read), values.access(Mode::Write), indices.access(Mode::Write)];
                let (k, n2, largest) = (values.sizes[*axis], src.sizes[*axis], *largest);
                let tiles = [&values, &indices, &src];
                let code =
                    elementwise::along(&mut self.lir, self.partitions, &tiles, *axis, &mut |o, parts, n| {
                        let grid = crate::lir::Grid { parts, n: [n[0], n[1], n2] };
                        let (values, indices, src) = (o[0].clone(), o[1].clone(), o[2].clone());
                        MOp::Vtopk { values, indices, src, grid, k, largest }
                    })?;
                self.push(place, Engine::VEC, code, accesses);
                Ok(())
            }
            tile::Op::Shuffle { dst, src, idx, axis } => {
                let (dst, src, idx) = (self.tile(dst)?, self.tile(src)?, self.tile(idx)?);
                let accesses = vec![src.access(Mode::Read), idx.access(Mode::Read), dst.access(Mode::Write)];
                let (bound, n2) = (src.sizes[*axis], dst.sizes[*axis]);
                let tiles = [&dst, &src, &idx];
                let code =
                    elementwise::along(&mut self.lir, self.partitions, &tiles, *axis, &mut |o, parts, n| {
                        let grid = crate::lir::Grid { parts, n: [n[0], n[1], n2] };
                        MOp::Vshuf { dst: o[0].clone(), src: o[1].clone(), idx: o[2].clone(), grid, bound }
                    })?;
                self.push(place, Engine::VEC, code, accesses);
                Ok(())
            }
            tile::Op::Map { kind, dst, srcs } => self.map(group, op, *kind, dst, srcs, place),
            tile::Op::Cast { dst, src } => self.cast(group, op, dst, src, place),
        }
    }

    fn transfer(
        &mut self,
        direction: Direction,
        dram: tile::DramId,
        at: &tile::Access,
        view: &tile::View,
        place: Place,
    ) -> Result<(), Fault> {
        let tile = self.tile(view)?;
        let tensor = self.drams[dram.index()].clone();
        let side = DramView {
            tensor: &tensor,
            offset: at.offset,
            terms: self.terms(&at.ivs)?,
            strides: at.strides.clone(),
        };
        let walked = tile.sizes.iter().zip(&at.strides).filter(|(_, s)| **s != 0).map(|(n, _)| u64::from(*n));
        let bytes = tensor.dt.bytes_of(walked.product());
        let repeats = tile.parts() > 1 && at.strides[tile.part] == 0;
        let role = role(direction, self.is_written[dram.index()]);
        let most = if repeats { 1 } else { self.queues.most(role).into() };
        let ways = (bytes / SPLIT_BYTES).clamp(1, most) as u32;
        for share in dma::shares(&tile, &side.strides, self.partitions, ways, bytes) {
            let moved = bytes * u64::from(share.count) / u64::from(tile.sizes[share.axis]);
            let queue = self.queues.take(role, moved * place.runs);
            let (lir, partitions) = (&mut self.lir, self.partitions);
            let part = if share.axis == tile.part {
                dma::transfer(lir, partitions, direction, &tile, &side, (share.first, share.count))?
            } else {
                let (tile, side) = dma::sliced(&tile, &side, share);
                dma::transfer(lir, partitions, direction, &tile, &side, (0, tile.parts()))?
            };
            self.push(place, queue, part.code, part.accesses);
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn indexed(
        &mut self,
        direction: Direction,
        dram: tile::DramId,
        at: &tile::Access,
        idx: &tile::View,
        (rows, row_stride): (i64, i64),
        view: &tile::View,
        place: Place,
    ) -> Result<(), Fault> {
        let (tile, idx) = (self.tile(view)?, self.tile(idx)?);
        let tensor = self.drams[dram.index()].clone();
        let side = DramView {
            tensor: &tensor,
            offset: at.offset,
            terms: self.terms(&at.ivs)?,
            strides: at.strides.clone(),
        };
        let count = u32::try_from(rows).map_err(|_| format!("{rows} rows"))?;
        let rows = Rows { count, stride: row_stride };
        let part = dma::indexed(&mut self.lir, self.partitions, direction, &tile, &idx, &side, rows)?;
        let bytes = tile.sizes.iter().map(|n| u64::from(*n)).product::<u64>() * tile.element_bytes() as u64;
        let role = role(direction, self.is_written[dram.index()]);
        let queue = self.queues.take(role, bytes * place.runs);
        self.push(place, queue, part.code, part.accesses);
        Ok(())
    }

    fn matmul(
        &mut self,
        acc: &tile::View,
        s: &tile::View,
        x: &tile::View,
        accumulate: bool,
        place: Place,
    ) -> Result<(), Fault> {
        let (acc, s, x) = (self.tile(acc)?, self.tile(s)?, self.tile(x)?);
        let space = |t: &Tile| self.lir.buffers[t.buf.index()].space;
        if let Some(reason) = matmul::wrong_space(space(&acc), space(&s), space(&x)) {
            return Err(reason.into());
        }
        let array = matmul::Array {
            partitions: self.partitions,
            bank_entries: self.target.acc_bank_entries() as u32,
            has_ldwt: self.target.has_ldwt != 0,
        };
        let mut accesses = vec![s.access(Mode::Read), x.access(Mode::Read), acc.access(Mode::Write)];
        if accumulate {
            accesses.push(acc.access(Mode::Read));
        }
        let code = matmul::select(&mut self.lir, array, &acc, &s, &x, accumulate)?;
        self.push(place, Engine::MXU, code, accesses);
        Ok(())
    }

    fn transpose(&mut self, dst: &tile::View, src: &tile::View, place: Place) -> Result<(), Fault> {
        if self.target.has_mtrn == 0 {
            return Err("this target has no `mtrn`".into());
        }
        let (dst, src) = (self.tile(dst)?, self.tile(src)?);
        let accesses = vec![src.access(Mode::Read), dst.access(Mode::Write)];
        let code = elementwise::transpose(&mut self.lir, self.partitions, &dst, &src)?;
        self.push(place, Engine::MXU, code, accesses);
        Ok(())
    }

    fn reduce(
        &mut self,
        op: RedOp,
        dst: &tile::View,
        src: &tile::View,
        accumulate: bool,
        place: Place,
    ) -> Result<(), Fault> {
        let (dst, src) = (self.tile(dst)?, self.tile(src)?);
        let reduced: Vec<usize> =
            (0..dst.sizes.len()).filter(|a| dst.sizes[*a] == 1 && src.sizes[*a] > 1).collect();
        if reduced.contains(&src.part) {
            return Err("the partition axis is reduced".into());
        }
        let mut accesses = vec![src.access(Mode::Read), dst.access(Mode::Write)];
        if accumulate {
            accesses.push(dst.access(Mode::Read));
        }
        let code = walk(&mut self.lir, self.partitions, &[&dst, &src], &reduced, None, &mut |step| {
            let [d, s] = step.opnds else { return Vec::new() };
            let (dst, src, grid, dims) = (d.clone(), s.clone(), step.grid, step.reduced);
            vec![MOp::Vred { op, dst, src, grid, dims, accumulate }]
        })?;
        self.push(place, Engine::VEC, code, accesses);
        Ok(())
    }
}
