//! Constraints between groups through memory that changes hands: on-chip bytes and reused DRAM addresses.
//!
//! Groups are not separated by a barrier: an engine may start on the next group while others finish the last one,
//! as far as no byte is touched too early.

use std::collections::{BTreeMap, BTreeSet};

use crate::depend::Edge;
use crate::lir::{BlockId, BufId, DramId, Engine, Item, Lir, Mode, ROOT, Storage};
use crate::placement::Placement;

/// Who touched which bytes, as of a root item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Touch {
    lo: u64,
    hi: u64,
    engine: Engine,
    item: usize,
    mode: Mode,
}

/// Adds the constraints between root items of different groups that share memory without sharing a tensor.
pub fn constraints(lir: &Lir, placement: &Placement, edges: &mut BTreeSet<Edge>) {
    let touched: Vec<BTreeSet<(Storage, Engine, Mode)>> =
        lir.blocks[ROOT.index()].items.iter().map(|item| of_item(lir, item)).collect();
    on_chip(lir, placement, &touched, edges);
    dram(placement, &touched, edges);
}

fn of_item(lir: &Lir, item: &Item) -> BTreeSet<(Storage, Engine, Mode)> {
    let mut all = BTreeSet::new();
    match item {
        Item::Work(w) => all.extend(w.accesses.iter().map(|a| (a.storage, w.engine, a.mode))),
        Item::Loop(body) => gather(lir, *body, &mut all),
    }
    all
}

fn gather(lir: &Lir, block: BlockId, all: &mut BTreeSet<(Storage, Engine, Mode)>) {
    for item in &lir.blocks[block.index()].items {
        match item {
            Item::Work(w) => all.extend(w.accesses.iter().map(|a| (a.storage, w.engine, a.mode))),
            Item::Loop(body) => gather(lir, *body, all),
        }
    }
}

fn on_chip(
    lir: &Lir,
    placement: &Placement,
    touched: &[BTreeSet<(Storage, Engine, Mode)>],
    edges: &mut BTreeSet<Edge>,
) {
    let mut history = [Vec::<Touch>::new(), Vec::new()];
    for group in &lir.groups {
        let mut own = [Vec::<Touch>::new(), Vec::new()];
        for item in group.items.clone() {
            for (storage, engine, mode) in &touched[item] {
                let Storage::Buf(BufId(b)) = *storage else { continue };
                let slot = &placement.slots[b as usize];
                let space = slot.space as usize;
                for (lo, hi) in slot.ranges() {
                    let now = Touch { lo, hi, engine: *engine, item, mode: *mode };
                    for before in history[space].iter().filter(|t| t.lo < hi && lo < t.hi) {
                        if before.engine != *engine && (before.mode == Mode::Write || *mode == Mode::Write) {
                            let from = (before.engine, before.item);
                            edges.insert(Edge { distance: 0, from, to: (*engine, item) });
                        }
                    }
                    own[space].push(now);
                }
            }
        }
        for (history, own) in history.iter_mut().zip(own) {
            for now in &own {
                *history = trim(history, now);
            }
            let mut latest: BTreeMap<(u64, u64, Engine, Mode), usize> = BTreeMap::new();
            for t in own {
                let last = latest.entry((t.lo, t.hi, t.engine, t.mode)).or_default();
                *last = t.item.max(*last);
            }
            let last =
                latest.into_iter().map(|((lo, hi, engine, mode), item)| Touch { lo, hi, engine, item, mode });
            history.extend(last);
        }
    }
}

/// Drops what a later group's access makes redundant: it already waits for the bytes it overwrites, and an engine's
/// own later access stands for its earlier ones.
fn trim(history: &[Touch], now: &Touch) -> Vec<Touch> {
    let mut kept = Vec::with_capacity(history.len());
    for t in history {
        let covers = now.mode == Mode::Write || (t.engine == now.engine && t.mode == Mode::Read);
        if !covers || t.hi <= now.lo || now.hi <= t.lo {
            kept.push(*t);
            continue;
        }
        if t.lo < now.lo {
            kept.push(Touch { hi: now.lo, ..*t });
        }
        if now.hi < t.hi {
            kept.push(Touch { lo: now.hi, ..*t });
        }
    }
    kept
}

/// A tensor placed where another lived waits for all accesses of the one before.
fn dram(placement: &Placement, touched: &[BTreeSet<(Storage, Engine, Mode)>], edges: &mut BTreeSet<Edge>) {
    let mut uses: BTreeMap<DramId, BTreeSet<(usize, Engine)>> = BTreeMap::new();
    let mut order = Vec::new();
    for (item, set) in touched.iter().enumerate() {
        for (storage, engine, _) in set {
            if let Storage::Dram(d) = *storage {
                let list = uses.entry(d).or_default();
                if list.is_empty() {
                    order.push(d);
                }
                list.insert((item, *engine));
            }
        }
    }
    // byte ranges with the tensor that lives there now
    let mut occupants: Vec<(u64, u64, DramId)> = Vec::new();
    for d in order {
        let at = placement.drams[d.index()];
        let (lo, hi) = (at.base, at.base + at.bytes);
        let mut kept = Vec::with_capacity(occupants.len() + 1);
        for (from, to, before) in occupants {
            if to <= lo || hi <= from {
                kept.push((from, to, before));
                continue;
            }
            for (item, engine) in &uses[&d] {
                for (earlier, other) in uses[&before].iter().filter(|(_, other)| other != engine) {
                    edges.insert(Edge { distance: 0, from: (*other, *earlier), to: (*engine, *item) });
                }
            }
            if from < lo {
                kept.push((from, lo, before));
            }
            if hi < to {
                kept.push((hi, to, before));
            }
        }
        kept.push((lo, hi, d));
        occupants = kept;
    }
}
