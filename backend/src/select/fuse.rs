//! Operations that one ACT instruction does at once: `f(round(scale·x) + bias)`, and a sum of the results.
//!
//! Two operations become one instruction where the bits stay the same: what stands between them is an f32 that nothing
//! else reads, and what is summed is stored as the f32 that it is. The sum may come some operations later in the block
//! than what it sums, as long as nothing touches either in between.

use std::collections::BTreeSet;

use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_ir::{DType, Origin, tile};
use kiln_machine::isa::ActFunc;

use super::maps::{Engines, engines, is_integer};

/// A statement of a group, as instructions will do it.
pub(super) enum Node<'a> {
    Alloc { buf: tile::BufId, depth: usize },
    For { iv: tile::IvId, trip: usize, body: Vec<Node<'a>> },
    Op(&'a tile::Op, &'a Origin),
    Act(Act<'a>, Origin),
}

/// Several operations as one ACT instruction.
pub(super) struct Act<'a> {
    pub(super) func: ActFunc,
    pub(super) dst: &'a tile::View,
    pub(super) form: Form<'a>,
    /// Where the results' sum goes, and whether it continues.
    pub(super) sum: Option<(&'a tile::View, bool)>,
    /// The operation that gives the results.
    pub(super) of: &'a tile::Op,
    /// That one and the sum, if VEC could do them one after the other.
    pub(super) apart: Option<[(&'a tile::Op, &'a Origin); 2]>,
}

impl<'a> Act<'a> {
    /// One operation.
    pub(super) fn of(op: &'a tile::Op, dst: &'a tile::View, (func, form): (ActFunc, Form<'a>)) -> Self {
        Self { func, dst, form, sum: None, of: op, apart: None }
    }
}

/// The factor of an ACT instruction.
#[derive(Clone, Copy)]
pub(super) enum Scale<'a> {
    Number(f32),
    View(&'a tile::View),
}

/// The group's statements on an array of so many partitions; fused only if that is wanted.
pub(super) fn nodes(group: &tile::Group, partitions: usize, fuses: bool) -> Vec<Node<'_>> {
    let mut uses = vec![Uses::default(); group.bufs.len()];
    group.for_each_op(&mut |op, _| {
        op.writes().iter().for_each(|(view, _)| uses[view.buf.index()].writes += 1);
        op.reads().iter().for_each(|view| uses[view.buf.index()].reads += 1);
    });
    Planner { group, partitions, fuses, uses, gone: BTreeSet::new() }.block(&group.body)
}

/// How many operands of the group are written and read in a buffer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Uses {
    writes: usize,
    reads: usize,
}

struct Planner<'a> {
    group: &'a tile::Group,
    partitions: usize,
    fuses: bool,
    uses: Vec<Uses>,
    /// Buffers that nothing touches any more.
    gone: BTreeSet<tile::BufId>,
}

/// What a fused instruction replaces: places in the block.
struct Found<'a> {
    act: Act<'a>,
    /// In the block's order; the instruction stands where the one stands that gives the results.
    replaced: Vec<usize>,
}

impl<'a> Planner<'a> {
    fn block(&mut self, body: &'a [tile::Stmt]) -> Vec<Node<'a>> {
        let mut replaced = BTreeSet::new();
        let mut acts: Vec<Option<(Act<'a>, Origin)>> = body.iter().map(|_| None).collect();
        for (at, act) in acts.iter_mut().enumerate() {
            let found =
                self.find(body, at).filter(|found| found.replaced.iter().all(|i| !replaced.contains(i)));
            let Some(Found { act: found_act, replaced: places }) = found else { continue };
            let origins = places.iter().filter_map(|i| match &body[*i] {
                tile::Stmt::Op { origin, .. } => Some(origin),
                _ => None,
            });
            *act = Some((found_act, Origin::fuse(origins)));
            for place in &places {
                if let (tile::Stmt::Op { op: tile::Op::Map { dst, .. }, .. }, true) =
                    (&body[*place], *place < at)
                {
                    self.gone.insert(dst.buf);
                }
            }
            replaced.extend(places);
        }
        // A sum that comes earlier than it stood needs its buffer earlier.
        let sums: BTreeSet<tile::BufId> =
            acts.iter().flatten().filter_map(|(act, _)| act.sum.map(|(view, _)| view.buf)).collect();
        let moved = |buf: &tile::BufId| sums.contains(buf);
        let alloc = |stmt: &tile::Stmt| match stmt {
            tile::Stmt::Alloc { buf, depth } if moved(buf) => Some(Node::Alloc { buf: *buf, depth: *depth }),
            _ => None,
        };
        let mut nodes: Vec<Node<'a>> = body.iter().filter_map(alloc).collect();
        for (at, stmt) in body.iter().enumerate() {
            match (stmt, acts[at].take()) {
                (_, Some((act, origin))) => nodes.push(Node::Act(act, origin)),
                (tile::Stmt::Alloc { buf, depth }, _) => nodes.push(Node::Alloc { buf: *buf, depth: *depth }),
                (tile::Stmt::For { iv, trip, body }, _) => {
                    nodes.push(Node::For { iv: *iv, trip: *trip, body: self.block(body) });
                }
                (tile::Stmt::Op { op, origin }, _) if !replaced.contains(&at) => {
                    nodes.push(Node::Op(op, origin))
                }
                (tile::Stmt::Op { .. }, _) => {}
            }
        }
        let mut seen = BTreeSet::new();
        nodes.retain(|node| match node {
            Node::Alloc { buf, .. } => !self.gone.contains(buf) && seen.insert(*buf),
            _ => true,
        });
        nodes
    }

    /// The instruction for the operation at a place and what can be done with it, if there is anything.
    fn find(&self, body: &'a [tile::Stmt], at: usize) -> Option<Found<'a>> {
        let tile::Stmt::Op { op, origin } = &body[at] else { return None };
        let by = engines(self.group, op);
        let tile::Op::Map { kind, dst, srcs } = op else { return None };
        if !self.fuses || !matches!(by, Engines::Act | Engines::Either) || !self.fits(dst) {
            return None;
        }
        let (func, mut form) = Form::on_act(*kind, srcs)?;
        let mut replaced = Vec::new();
        if by == Engines::Act && self.same_lanes(form.src, dst) && form.src.shape == dst.shape {
            replaced = self.take_in(body, at, dst, &mut form);
        }
        let sum = self.sum_of(body, at, dst, &form);
        if replaced.is_empty() && sum.is_none() {
            return None;
        }
        replaced.push(at);
        let mut act = Act::of(op, dst, (func, form));
        if let Some((place, reduce, its_origin)) = sum
            && let tile::Op::Reduce { dst: sum, accumulate, .. } = reduce
        {
            act.sum = Some((sum, *accumulate));
            act.apart = (by == Engines::Either).then_some([(op, origin), (reduce, its_origin)]);
            replaced.push(place);
        }
        Some(Found { act, replaced })
    }

    /// Take the operations into the form that make its source and can be done before the function; where they stand.
    fn take_in(
        &self,
        body: &'a [tile::Stmt],
        at: usize,
        dst: &tile::View,
        form: &mut Form<'a>,
    ) -> Vec<usize> {
        let Some((place, inner)) = self.maker(body, at, dst, form.src) else { return Vec::new() };
        *form = inner;
        let mut places = vec![place];
        // A sum of which one term is a product.
        if let (Scale::Number(sign), Some(bias)) = (form.scale, form.bias) {
            let terms =
                if sign == 1.0 { vec![(form.src, bias), (bias, form.src)] } else { vec![(form.src, bias)] };
            let product = terms.into_iter().find_map(|(factor, bias)| {
                let (place, inner) = self.maker(body, at, dst, factor)?;
                match (inner.scale, inner.bias) {
                    (Scale::Number(scale), None) => {
                        Some((place, inner.src, Scale::Number(scale * sign), bias))
                    }
                    (Scale::View(scale), None) if sign == 1.0 => {
                        Some((place, inner.src, Scale::View(scale), bias))
                    }
                    _ => None,
                }
            });
            if let Some((place, src, scale, bias)) = product {
                *form = Form { src, scale, bias: Some(bias) };
                places.insert(0, place);
            }
        }
        places
    }

    /// The operation that makes a view which nothing else reads, if it can as well be done at a later place.
    fn maker(
        &self,
        body: &'a [tile::Stmt],
        at: usize,
        dst: &tile::View,
        view: &tile::View,
    ) -> Option<(usize, Form<'a>)> {
        let once = Uses { writes: 1, reads: 1 };
        if self.uses[view.buf.index()] != once || self.dtype(view) != DType::F32 || view.shape != dst.shape {
            return None;
        }
        let makes = |stmt: &'a tile::Stmt| match stmt {
            tile::Stmt::Op { op: op @ tile::Op::Map { kind, dst, srcs }, .. } if dst == view => {
                Some((op, *kind, srcs))
            }
            _ => None,
        };
        let (place, (op, kind, srcs)) =
            body[..at].iter().enumerate().find_map(|(place, stmt)| Some((place, makes(stmt)?)))?;
        let form = Form::of(kind, srcs)?;
        let movable = op.reads().into_iter().all(|source| {
            let in_place = source.buf != dst.buf || source == dst;
            !is_integer(self.dtype(source))
                && in_place
                && source.buf != view.buf
                && self.same_lanes(source, dst)
                && !body[place + 1..at].iter().any(|stmt| writes(stmt, source.buf))
        });
        movable.then_some((place, form))
    }

    /// A later sum of all that an operation gives; an instruction with a factor from memory has none.
    fn sum_of(
        &self,
        body: &'a [tile::Stmt],
        at: usize,
        dst: &tile::View,
        form: &Form<'_>,
    ) -> Option<(usize, &'a tile::Op, &'a Origin)> {
        let sums = |stmt: &'a tile::Stmt| match stmt {
            tile::Stmt::Op { op: op @ tile::Op::Reduce { kind: ReduceKind::Sum, src, .. }, origin }
                if src == dst =>
            {
                Some((op, origin))
            }
            _ => None,
        };
        let (place, (op, origin)) =
            body.iter().enumerate().skip(at + 1).find_map(|(place, stmt)| Some((place, sums(stmt)?)))?;
        let tile::Op::Reduce { dst: sum, .. } = op else { return None };
        let part = self.group.bufs[dst.buf.index()].part;
        let plain = self.dtype(dst) == DType::F32 && self.dtype(sum) == DType::F32;
        let kept = sum.shape[part] == dst.shape[part] && self.same_lanes(sum, dst);
        let untouched = !body[at + 1..place]
            .iter()
            .any(|stmt| writes(stmt, dst.buf) || writes(stmt, sum.buf) || reads(stmt, sum.buf));
        let apart =
            form.views().all(|source| source.buf != sum.buf) && matches!(form.scale, Scale::Number(_));
        (plain && kept && untouched && apart && sum.buf != dst.buf).then_some((place, op, origin))
    }

    fn dtype(&self, view: &tile::View) -> DType {
        self.group.bufs[view.buf.index()].dtype
    }

    /// Whether two views lie in the same partitions.
    fn same_lanes(&self, a: &tile::View, b: &tile::View) -> bool {
        self.group.bufs[a.buf.index()].part == self.group.bufs[b.buf.index()].part
    }

    /// Whether one instruction walks all of a view, however its operands lie.
    fn fits(&self, view: &tile::View) -> bool {
        let part = self.group.bufs[view.buf.index()].part;
        let free = view.shape.iter().enumerate().filter(|(axis, n)| *axis != part && **n > 1).count();
        free + usize::from(view.shape[part] > self.partitions) <= 3
    }
}

/// `scale·src + bias`.
pub(super) struct Form<'a> {
    pub(super) src: &'a tile::View,
    pub(super) scale: Scale<'a>,
    pub(super) bias: Option<&'a tile::View>,
}

impl<'a> Form<'a> {
    /// A source as it is.
    pub(super) fn plain(src: &'a tile::View) -> Self {
        Self { src, scale: Scale::Number(1.0), bias: None }
    }

    /// A map as ACT does it: a function of this form.
    pub(super) fn on_act(kind: MapKind, srcs: &'a [tile::Source]) -> Option<(ActFunc, Self)> {
        match srcs {
            [tile::Source::View(src)] => Some((ActFunc::by_name(kind.name())?, Self::plain(src))),
            _ => Some((ActFunc::Identity, Self::of(kind, srcs)?)),
        }
    }

    /// What is read.
    pub(super) fn views(&self) -> impl Iterator<Item = &'a tile::View> {
        let scale = if let Scale::View(view) = self.scale { Some(view) } else { None };
        [Some(self.src), scale, self.bias].into_iter().flatten()
    }

    /// What an operation of two operands is in this form.
    fn of(kind: MapKind, srcs: &'a [tile::Source]) -> Option<Self> {
        use tile::Source::{Number, View};
        let one = Scale::Number(1.0);
        Some(match (kind, srcs) {
            (MapKind::Add, [View(a), View(b)]) => Self { src: a, scale: one, bias: Some(b) },
            (MapKind::Sub, [View(a), View(b)]) => Self { src: b, scale: Scale::Number(-1.0), bias: Some(a) },
            (MapKind::Mul, [View(a), View(b)]) => Self { src: a, scale: Scale::View(b), bias: None },
            (MapKind::Mul, [View(a), Number(number)] | [Number(number), View(a)]) => {
                Self { src: a, scale: Scale::Number(*number as f32), bias: None }
            }
            _ => return None,
        })
    }
}

/// Whether a statement writes a buffer.
fn writes(stmt: &tile::Stmt, buf: tile::BufId) -> bool {
    match stmt {
        tile::Stmt::Alloc { .. } => false,
        tile::Stmt::For { body, .. } => body.iter().any(|stmt| writes(stmt, buf)),
        tile::Stmt::Op { op, .. } => op.writes().iter().any(|(view, _)| view.buf == buf),
    }
}

/// Whether a statement reads a buffer.
fn reads(stmt: &tile::Stmt, buf: tile::BufId) -> bool {
    match stmt {
        tile::Stmt::Alloc { .. } => false,
        tile::Stmt::For { body, .. } => body.iter().any(|stmt| reads(stmt, buf)),
        tile::Stmt::Op { op, .. } => op.reads().iter().any(|view| view.buf == buf),
    }
}

#[cfg(test)]
mod tests;
