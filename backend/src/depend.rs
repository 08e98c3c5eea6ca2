//! Which work must wait for which: exact box tests over buffers and DRAM tensors, placed at the lowest common block.
//!
//! Every constraint points forward in the order of the tile program (iterations counted over the whole run), so the
//! program order satisfies all of them and no set of them can deadlock in-order streams. Constraints between works of
//! one engine need none of this: a stream behaves as if sequential.

use std::collections::{BTreeMap, BTreeSet};

use crate::lir::{Access, BlockId, Engine, Item, IvId, Lir, Mode, ROOT, Region, Storage};
use crate::placement::Placement;

/// One constraint inside a block: `to` in execution `t + distance` starts after `from` in execution `t` is complete.
/// Executions of a block are counted over the whole run. Items are places in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub distance: u64,
    pub from: (Engine, usize),
    pub to: (Engine, usize),
}

/// The constraints of each block that has some, not yet reduced.
pub type Edges = BTreeMap<BlockId, BTreeSet<Edge>>;

/// A leaf access with where it happens.
#[derive(Clone, Debug)]
struct Site<'a> {
    engine: Engine,
    /// Block and item from the root down to the work.
    path: Vec<(BlockId, usize)>,
    access: &'a Access,
}

/// Finds every constraint between works of different engines.
pub fn constraints(lir: &Lir, placement: &Placement) -> Edges {
    let mut sites: BTreeMap<Storage, Vec<Site<'_>>> = BTreeMap::new();
    collect(lir, ROOT, &mut Vec::new(), &mut sites);
    let mut edges = Edges::new();
    for (storage, list) in &sites {
        for (i, a) in list.iter().enumerate() {
            for b in &list[i + 1..] {
                if a.engine != b.engine && (a.access.mode == Mode::Write || b.access.mode == Mode::Write) {
                    same_storage(lir, placement, *storage, a, b, &mut edges);
                }
            }
        }
    }
    for (one, other) in placement.aliases_within_groups(lir) {
        let (Some(a_list), Some(b_list)) = (sites.get(&one), sites.get(&other)) else { continue };
        for a in a_list {
            for b in b_list {
                if a.engine != b.engine && (a.access.mode == Mode::Write || b.access.mode == Mode::Write) {
                    let (first, second) = if a.path <= b.path { (a, b) } else { (b, a) };
                    aliased(lir, first, second, &mut edges);
                }
            }
        }
    }
    crate::handover::constraints(lir, placement, edges.entry(ROOT).or_default());
    edges
}

fn collect<'a>(
    lir: &'a Lir,
    block: BlockId,
    path: &mut Vec<(BlockId, usize)>,
    sites: &mut BTreeMap<Storage, Vec<Site<'a>>>,
) {
    for (at, item) in lir.blocks[block.index()].items.iter().enumerate() {
        path.push((block, at));
        match item {
            Item::Loop(body) => collect(lir, *body, path, sites),
            Item::Work(work) => {
                for access in &work.accesses {
                    let site = Site { engine: work.engine, path: path.clone(), access };
                    sites.entry(access.storage).or_default().push(site);
                }
            }
        }
        path.pop();
    }
}

/// The depth of the lowest common block in both paths.
fn common(a: &Site<'_>, b: &Site<'_>) -> usize {
    let mut level = 0;
    while level + 1 < a.path.len().min(b.path.len())
        && a.path[level] == b.path[level]
        && a.path[level + 1].0 == b.path[level + 1].0
    {
        level += 1;
    }
    level
}

/// Constraints of two accesses of one storage; `a` comes first in program order.
fn same_storage(lir: &Lir, placement: &Placement, storage: Storage, a: &Site, b: &Site, edges: &mut Edges) {
    let lowest = common(a, b);
    let scope = match storage {
        Storage::Buf(buf) => {
            let home = lir.buffers[buf.index()].block;
            a.path.iter().position(|(block, _)| *block == home).unwrap_or(0)
        }
        Storage::Dram(_) => 0,
    };
    let loops: Vec<(usize, IvId)> =
        (scope + 1..=lowest).filter_map(|l| Some((l, lir.blocks[a.path[l].0.index()].iv?))).collect();
    let all: BTreeSet<IvId> = loops.iter().map(|(_, iv)| *iv).collect();
    let mut add = |level: usize, from: &Site, to: &Site, distance: u64| {
        let block = a.path[level].0;
        edges.entry(block).or_default().insert(Edge {
            distance,
            from: (from.engine, from.path[level].1),
            to: (to.engine, to.path[level].1),
        });
    };
    if a.path[lowest].1 != b.path[lowest].1 && distance(lir, a.access, b.access, &all, None).is_some() {
        add(lowest, a, b, 0);
    }
    for (level, iv) in &loops {
        let equal: BTreeSet<IvId> = loops.iter().filter(|(l, _)| l < level).map(|(_, iv)| *iv).collect();
        for (from, to) in [(a, b), (b, a)] {
            if let Some(d) = distance(lir, from.access, to.access, &equal, Some(*iv)) {
                add(*level, from, to, d);
            }
        }
    }
    if let Storage::Buf(buf) = storage {
        let depth = u64::from(placement.depth(buf));
        let instances = lir.executions(a.path[scope].0);
        if scope > 0
            && instances > depth
            && distance(lir, a.access, b.access, &BTreeSet::new(), None).is_some()
        {
            add(scope, a, b, depth);
            add(scope, b, a, depth);
        }
    }
}

/// Constraints of two accesses whose buffers share memory: complete order at the lowest common block.
fn aliased(lir: &Lir, a: &Site, b: &Site, edges: &mut Edges) {
    let level = common(a, b);
    let block = a.path[level].0;
    let (from, to) = ((a.engine, a.path[level].1), (b.engine, b.path[level].1));
    let edges = edges.entry(block).or_default();
    edges.insert(Edge { distance: 0, from, to });
    if lir.executions(block) > 1 {
        edges.insert(Edge { distance: 1, from: to, to: from });
    }
}

/// The least number of iterations of `carried` after which `b` may touch what `a` touched: 0 without a carried loop,
/// else at least 1. The counters in `equal` have the same value on both sides, all others range freely.
fn distance(lir: &Lir, a: &Access, b: &Access, equal: &BTreeSet<IvId>, carried: Option<IvId>) -> Option<u64> {
    match (&a.boxed, &b.boxed, &a.flat, &b.flat) {
        (Some(x), Some(y), _, _) | (_, _, Some(x), Some(y)) => region_distance(lir, x, y, equal, carried),
        _ => Some(u64::from(carried.is_some())),
    }
}

fn region_distance(
    lir: &Lir,
    a: &Region,
    b: &Region,
    equal: &BTreeSet<IvId>,
    carried: Option<IvId>,
) -> Option<u64> {
    let trips = carried.map_or(1, |iv| lir.trip(iv) as i64);
    let (mut least, mut most) = if carried.is_some() { (1, trips - 1) } else { (0, 0) };
    let zeros = vec![0; a.lo.len()];
    let ivs: BTreeSet<IvId> = a.coefs.keys().chain(b.coefs.keys()).copied().collect();
    for axis in 0..a.lo.len() {
        // offset(a) − offset(b) at equal iterations of the carried loop lies in lo..=hi
        let (mut lo, mut hi) = (a.lo[axis] - b.lo[axis], a.lo[axis] - b.lo[axis]);
        let mut widen = |from: i64, to: i64| {
            lo += from.min(to);
            hi += from.max(to);
        };
        let mut step = 0;
        for iv in &ivs {
            let last = lir.trip(*iv) as i64 - 1;
            let ca = a.coefs.get(iv).unwrap_or(&zeros)[axis];
            let cb = b.coefs.get(iv).unwrap_or(&zeros)[axis];
            if equal.contains(iv) || (carried == Some(*iv) && ca == cb) {
                widen(0, (ca - cb) * last);
                if carried == Some(*iv) {
                    step = ca;
                }
            } else {
                widen(0, ca * last);
                widen(0, -cb * last);
            }
        }
        // they overlap at distance δ iff lo − step·δ < size(b) and hi − step·δ > −size(a)
        let (below, above) = (lo - b.size[axis], hi + a.size[axis]);
        match step {
            0 if below >= 0 || above <= 0 => return None,
            0 => {}
            s if s > 0 => {
                least = least.max(below.div_euclid(s) + 1);
                most = most.min((above - 1).div_euclid(s));
            }
            s => {
                let s = -s;
                least = least.max((-above).div_euclid(s) + 1);
                most = most.min((-below - 1).div_euclid(s));
            }
        }
    }
    (least <= most).then_some(least as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(lo: i64, size: i64, coefs: &[(IvId, i64)]) -> Region {
        Region {
            lo: vec![lo],
            size: vec![size],
            coefs: coefs.iter().map(|(iv, c)| (*iv, vec![*c])).collect(),
        }
    }

    #[test]
    fn slices_of_a_loop_meet_only_where_they_overlap() {
        let mut lir = Lir::new();
        let i = lir.new_iv(8);
        let none = BTreeSet::new();
        let slices = region(0, 4, &[(i, 4)]);
        assert_eq!(region_distance(&lir, &slices, &slices, &none, Some(i)), None);
        let overlapping = region(0, 9, &[(i, 4)]);
        assert_eq!(region_distance(&lir, &overlapping, &overlapping, &none, Some(i)), Some(1));
        let ahead = region(12, 4, &[(i, 4)]);
        assert_eq!(region_distance(&lir, &ahead, &slices, &none, Some(i)), Some(3));
        assert_eq!(region_distance(&lir, &slices, &ahead, &none, Some(i)), None);
        let whole = region(0, 32, &[]);
        assert_eq!(region_distance(&lir, &slices, &whole, &BTreeSet::from([i]), None), Some(0));
        assert_eq!(region_distance(&lir, &slices, &whole, &none, Some(i)), Some(1));
        assert_eq!(region_distance(&lir, &region(32, 4, &[]), &slices, &none, None), None);
    }
}
