//! Semaphores for constraints: redundant ones dropped, the rest counted on as few semaphores as their order allows.
//!
//! All constraints within iterations from one engine to another share one semaphore: signals and waits are counted in
//! order, a wait takes what its latest signal needs beyond earlier waits, every iteration takes exactly what an
//! iteration gives, and before a loop that counts on the semaphore all given so far is taken. Constraints at a
//! distance `d` share one inside a block; it starts with the credits of `d` iterations, given at the start of the
//! program. They stay in flight from loop nest to loop nest (one that follows continues the count, and gives or takes
//! the difference first where it needs another number) and are taken back at the end. Semaphores belong to an ordered
//! pair of engines for the whole program, so each has one producer and one consumer.
//!
//! What one DMA queue hands to another goes through CTL, which has nothing else to do: it waits for the one and then
//! signals the other, in program order. So `n` queues need `2 n` semaphores among them and not `n²`.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeFiltered;

use crate::depend::{Edge, Edges};
use crate::lir::{BlockId, Engine, Lir, ROOT};

/// A semaphore's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sem(pub u32);

/// Semaphores and counts at one place of one stream.
pub type Counts = BTreeMap<(BlockId, usize, Engine), Vec<(Sem, u32)>>;

/// What each stream waits for and signals, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncPlan {
    /// Before the item.
    pub waits: Counts,
    /// After the item.
    pub signals: Counts,
    /// Before the item, by the producer: credits for the loops in it.
    pub gifts: Counts,
    /// Before the item and after its waits, by CTL: what it passes on.
    pub passes: Counts,
    /// At the start of the program, by the producer.
    pub credits: BTreeMap<Engine, Vec<(Sem, u32)>>,
    /// At the end of the program, by the consumer.
    pub drains: BTreeMap<Engine, Vec<(Sem, u32)>>,
    /// Producer and consumer of each semaphore.
    pub owners: Vec<(Engine, Engine)>,
    /// Constraints before and after reduction.
    pub found: usize,
    pub kept: usize,
}

/// What decides which semaphore serves constraints between iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    from: Engine,
    to: Engine,
    /// Counted per root item.
    number: usize,
}

/// Constraints of one block from one engine to another at one distance.
type Classes = BTreeMap<(u64, Engine, Engine), Vec<Edge>>;

/// Reduces the constraints and assigns semaphores.
pub fn plan(lir: &Lir, edges: &Edges) -> SyncPlan {
    let mut plan = SyncPlan { found: edges.values().map(BTreeSet::len).sum(), ..SyncPlan::default() };
    let mut classes: BTreeMap<BlockId, Classes> = BTreeMap::new();
    for (block, set) in edges {
        let kept = reduce(set);
        plan.kept += kept.len();
        let of_block = classes.entry(*block).or_default();
        for e in kept {
            of_block.entry((e.distance, e.from.0, e.to.0)).or_default().push(e);
        }
    }
    relay(&mut classes);
    forward(lir, &classes, &mut plan);
    carried(lir, &classes, &mut plan);
    plan
}

/// Leads constraints within iterations from queue to queue through CTL where that takes fewer semaphores.
fn relay(classes: &mut BTreeMap<BlockId, Classes>) {
    let is_queue = |e: Engine| e.queue_index().is_some();
    let is_handover =
        |(distance, from, to): &(u64, Engine, Engine)| *distance == 0 && is_queue(*from) && is_queue(*to);
    let pairs: BTreeSet<(Engine, Engine)> =
        classes.values().flat_map(BTreeMap::keys).filter(|k| is_handover(k)).map(|k| (k.1, k.2)).collect();
    let from: BTreeSet<Engine> = pairs.iter().map(|p| p.0).collect();
    let to: BTreeSet<Engine> = pairs.iter().map(|p| p.1).collect();
    if pairs.len() <= from.len() + to.len() {
        return;
    }
    for of_block in classes.values_mut() {
        let handovers: Vec<(u64, Engine, Engine)> =
            of_block.keys().filter(|k| is_handover(k)).copied().collect();
        for key in handovers {
            for edge in of_block.remove(&key).unwrap_or_default() {
                let relay = (Engine::CTL, edge.to.1);
                of_block.entry((0, key.1, Engine::CTL)).or_default().push(Edge { to: relay, ..edge });
                of_block.entry((0, Engine::CTL, key.2)).or_default().push(Edge { from: relay, ..edge });
            }
        }
    }
}

/// One semaphore for all constraints within iterations from one engine to another: before a loop that counts on it,
/// the consumer takes what was given in the block so far, which the loop's own first signal implies anyway.
fn forward(lir: &Lir, classes: &BTreeMap<BlockId, Classes>, plan: &mut SyncPlan) {
    let mut sems: BTreeMap<(Engine, Engine), Sem> = BTreeMap::new();
    // items of a block that hold loops which count on a pair's semaphore
    let mut inside: BTreeMap<(BlockId, Engine, Engine), BTreeSet<usize>> = BTreeMap::new();
    // loops have greater numbers than the blocks around them
    for (block, classes) in classes.iter().rev() {
        for ((_, from, to), class) in classes.iter().filter(|((distance, ..), _)| *distance == 0) {
            let sem = *sems.entry((*from, *to)).or_insert_with(|| {
                plan.owners.push((*from, *to));
                Sem(plan.owners.len() as u32 - 1)
            });
            for (around, item) in lir.path(*block) {
                if let Some(item) = item {
                    inside.entry((around, *from, *to)).or_default().insert(item);
                }
            }
            let points: BTreeSet<usize> = class.iter().map(|e| e.from.1).collect();
            let taken_before = inside.get(&(*block, *from, *to)).cloned().unwrap_or_default();
            count(plan, *block, (*from, *to, sem), &points, class, &taken_before);
        }
    }
}

/// Semaphores with credits for constraints from one iteration to a later one; nests of loops use them in turn.
fn carried(lir: &Lir, classes: &BTreeMap<BlockId, Classes>, plan: &mut SyncPlan) {
    let mut sems: BTreeMap<Key, Sem> = BTreeMap::new();
    // Credits and blocks of each semaphore of a pair in a root item.
    let mut used: BTreeMap<(usize, Engine, Engine), Vec<(u64, Vec<BlockId>)>> = BTreeMap::new();
    let mut in_flight: BTreeMap<Sem, u64> = BTreeMap::new();
    let mut blocks: Vec<(usize, BlockId)> =
        classes.keys().filter_map(|block| Some((lir.path(*block)[0].1?, *block))).collect();
    blocks.sort_unstable();
    for (root_item, block) in blocks {
        for ((distance, from, to), class) in classes[&block].iter().filter(|((d, ..), _)| *d > 0) {
            let (from, to) = (*from, *to);
            let points: BTreeSet<usize> = class.iter().map(|e| e.from.1).collect();
            let credits = distance * points.len() as u64;
            // Loops that follow one another with as many credits take turns.
            let list = used.entry((root_item, from, to)).or_default();
            let follows = |(held, blocks): &(u64, Vec<BlockId>)| {
                *held == credits && blocks.iter().all(|other| are_apart(lir, block, *other))
            };
            let number = match list.iter().position(follows) {
                Some(number) => {
                    list[number].1.push(block);
                    number
                }
                None => {
                    list.push((credits, vec![block]));
                    list.len() - 1
                }
            };
            let fresh = Sem(plan.owners.len() as u32);
            let sem = *sems.entry(Key { from, to, number }).or_insert(fresh);
            let before = in_flight.insert(sem, credits);
            match before {
                None => {
                    plan.owners.push((from, to));
                    plan.credits.entry(from).or_default().push((sem, credits as u32));
                }
                // a loop nest with another number of credits than the one before it gives more or takes some back
                Some(before) if before < credits => {
                    let more = (sem, (credits - before) as u32);
                    plan.gifts.entry((ROOT, root_item, from)).or_default().push(more);
                }
                Some(before) if before > credits => {
                    let less = (sem, (before - credits) as u32);
                    plan.waits.entry((ROOT, root_item, to)).or_default().push(less);
                }
                Some(_) => {}
            }
            count(plan, block, (from, to, sem), &points, class, &BTreeSet::new());
        }
    }
    for (sem, credits) in in_flight {
        plan.drains.entry(plan.owners[sem.0 as usize].1).or_default().push((sem, credits as u32));
    }
}

/// Whether neither block lies in the other.
fn are_apart(lir: &Lir, a: BlockId, b: BlockId) -> bool {
    let holds = |outer: BlockId, inner: BlockId| lir.path(inner).iter().any(|(block, _)| *block == outer);
    !holds(a, b) && !holds(b, a)
}

/// Places the signals and waits of one class of constraints. Before the items of `taken_before`, in which loops count
/// on the same semaphore, all signals given so far are taken.
fn count(
    plan: &mut SyncPlan,
    block: BlockId,
    (from, to, sem): (Engine, Engine, Sem),
    points: &BTreeSet<usize>,
    class: &[Edge],
    taken_before: &BTreeSet<usize>,
) {
    let signals = if from == Engine::CTL { &mut plan.passes } else { &mut plan.signals };
    for p in points {
        signals.entry((block, *p, from)).or_default().push((sem, 1));
    }
    let mut needs: BTreeMap<usize, usize> =
        taken_before.iter().map(|item| (*item, points.range(..item).count())).collect();
    for e in class {
        let rank = points.range(..=e.from.1).count();
        let need = needs.entry(e.to.1).or_insert(0);
        *need = rank.max(*need);
    }
    let mut taken = 0;
    for (item, need) in needs {
        if need > taken {
            plan.waits.entry((block, item, to)).or_default().push((sem, (need - taken) as u32));
            taken = need;
        }
    }
}

/// Drops constraints that others and the streams' own order imply.
fn reduce(edges: &BTreeSet<Edge>) -> Vec<Edge> {
    let forward: Vec<Edge> = edges.iter().filter(|e| e.distance == 0).copied().collect();
    let mut kept = reduce_forward(&forward);
    let carried: Vec<Edge> = edges.iter().filter(|e| e.distance > 0).copied().collect();
    if !carried.is_empty() {
        let carried = reduce_carried(&kept, &undominated(&carried));
        kept.extend(carried);
    }
    kept
}

/// Forward constraints by vector clocks: what an engine knows to be complete when it starts an item.
fn reduce_forward(edges: &[Edge]) -> Vec<Edge> {
    let engines = edges.iter().flat_map(|e| [e.from.0, e.to.0]).map(|e| e.index() + 1).max().unwrap_or(0);
    let mut by_target: BTreeMap<(usize, Engine), BTreeMap<Engine, usize>> = BTreeMap::new();
    for e in edges {
        let latest = by_target.entry((e.to.1, e.to.0)).or_default().entry(e.from.0).or_insert(e.from.1);
        *latest = e.from.1.max(*latest);
    }
    // what each engine knows, and from which item on; in item order
    let mut knows: Vec<Vec<(usize, Vec<usize>)>> = vec![vec![(0, vec![0; engines])]; engines];
    let mut kept = Vec::new();
    for ((item, to), sources) in by_target {
        let known = knows[to.index()].last().map(|(_, k)| k.clone()).unwrap_or_default();
        let clocks: Vec<(Engine, usize, Vec<usize>)> = sources
            .iter()
            .filter(|(from, at)| known[from.index()] <= **at)
            .map(|(from, at)| {
                let upto = knows[from.index()].partition_point(|(since, _)| since <= at);
                let mut clock = knows[from.index()][upto - 1].1.clone();
                clock[from.index()] = at + 1;
                (*from, *at, clock)
            })
            .collect();
        let mut next = known;
        for (from, at, clock) in &clocks {
            let implied = clocks.iter().any(|(other, _, c)| other != from && c[from.index()] > *at);
            if !implied {
                kept.push(Edge { distance: 0, from: (*from, *at), to: (to, item) });
            }
            for (n, c) in next.iter_mut().zip(clock) {
                *n = (*n).max(*c);
            }
        }
        knows[to.index()].push((item, next));
    }
    kept
}

/// Of constraints between the same engines, those that no later signal, earlier wait and shorter distance implies.
fn undominated(edges: &[Edge]) -> Vec<Edge> {
    let dominates =
        |a: &Edge, b: &Edge| a != b && a.from.1 >= b.from.1 && a.to.1 <= b.to.1 && a.distance <= b.distance;
    edges
        .iter()
        .filter(|b| !edges.iter().any(|a| a.from.0 == b.from.0 && a.to.0 == b.to.0 && dominates(a, b)))
        .copied()
        .collect()
}

/// Loop-carried constraints by shortest paths over iterations: one is implied if another way takes no more of them.
fn reduce_carried(forward: &[Edge], carried: &[Edge]) -> Vec<Edge> {
    let mut nodes: BTreeMap<(Engine, usize), NodeIndex> = BTreeMap::new();
    let mut graph: DiGraph<(), (u64, Option<usize>)> = DiGraph::new();
    for e in forward.iter().chain(carried) {
        for node in [e.from, e.to] {
            nodes.entry(node).or_insert_with(|| graph.add_node(()));
        }
    }
    let order: Vec<((Engine, usize), NodeIndex)> = nodes.iter().map(|(k, v)| (*k, *v)).collect();
    for pair in order.windows(2) {
        if pair[0].0.0 == pair[1].0.0 {
            graph.add_edge(pair[0].1, pair[1].1, (0, None));
        }
    }
    let mut first = 0;
    for i in 0..order.len() {
        if order[first].0.0 != order[i].0.0 {
            first = i;
        }
        if order.get(i + 1).is_none_or(|next| next.0.0 != order[i].0.0) {
            graph.add_edge(order[i].1, order[first].1, (1, None));
        }
    }
    for e in forward {
        graph.add_edge(nodes[&e.from], nodes[&e.to], (0, None));
    }
    for (i, e) in carried.iter().enumerate() {
        graph.add_edge(nodes[&e.from], nodes[&e.to], (e.distance, Some(i)));
    }
    let mut dropped = BTreeSet::new();
    let mut weakest: Vec<usize> = (0..carried.len()).collect();
    weakest.sort_by_key(|i| {
        let e = &carried[*i];
        (std::cmp::Reverse(e.distance), e.from.1 as i64 - e.to.1 as i64, *i)
    });
    for i in weakest {
        let e = &carried[i];
        let others = EdgeFiltered::from_fn(&graph, |edge| {
            edge.weight().1.is_none_or(|other| other != i && !dropped.contains(&other))
        });
        let reached = dijkstra(&others, nodes[&e.from], Some(nodes[&e.to]), |edge| edge.weight().0);
        if reached.get(&nodes[&e.to]).is_some_and(|d| *d <= e.distance) {
            dropped.insert(i);
        }
    }
    carried.iter().enumerate().filter(|(i, _)| !dropped.contains(i)).map(|(_, e)| *e).collect()
}

/// Semaphore operations executed over a whole run, for the report.
pub fn executed(lir: &Lir, plan: &SyncPlan) -> u64 {
    let at = |counts: &Counts| -> u64 {
        counts.iter().map(|((b, _, _), list)| lir.executions(*b) * list.len() as u64).sum()
    };
    debug_assert!(lir.executions(ROOT) == 1);
    at(&plan.waits) + at(&plan.signals) + at(&plan.gifts) + at(&plan.passes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q0: Engine = Engine(5);

    fn edge(distance: u64, from: (Engine, usize), to: (Engine, usize)) -> Edge {
        Edge { distance, from, to }
    }

    #[test]
    fn a_chain_implies_its_shortcut() {
        let direct = edge(0, (Q0, 0), (Engine::ACT, 2));
        let chain = [edge(0, (Q0, 0), (Engine::VEC, 1)), edge(0, (Engine::VEC, 1), (Engine::ACT, 2))];
        let kept = reduce(&chain.iter().copied().chain([direct]).collect());
        assert_eq!(kept, chain);
        assert_eq!(reduce(&BTreeSet::from([direct])), [direct]);
    }

    #[test]
    fn credits_go_round_the_loop_once() {
        // load → matmul → store, each ring two deep: the store's credit to the load is implied by the two others
        let (load, mma, store) = ((Q0, 0), (Engine::MXU, 1), (Engine(6), 2));
        let ring = [edge(0, load, mma), edge(0, mma, store), edge(2, mma, load), edge(2, store, mma)];
        let kept = reduce(&ring.iter().copied().chain([edge(4, store, load)]).collect());
        assert_eq!(kept, ring);
    }

    #[test]
    fn queues_hand_over_through_ctl() {
        // each of three stores comes before each of three loads
        let queue = |n: usize| Engine::queue(n as u32);
        let edges = |count: usize| -> BTreeSet<Edge> {
            let all = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
            all.map(|(a, b)| edge(0, (queue(a), a), (queue(8 + b), 8 + b))).collect()
        };
        let plan = |count| plan(&Lir::new(), &BTreeMap::from([(ROOT, edges(count))]));
        let relayed = plan(3);
        assert_eq!(relayed.owners.len(), 6);
        assert!(relayed.owners.iter().all(|(from, to)| (*from == Engine::CTL) != (*to == Engine::CTL)));
        // it waits for all three before the first load, and then signals each load in turn
        let waits: Vec<usize> = relayed
            .waits
            .iter()
            .filter(|((_, _, e), _)| *e == Engine::CTL)
            .map(|((_, at, _), _)| *at)
            .collect();
        let passes: Vec<usize> = relayed.passes.keys().map(|(_, at, _)| *at).collect();
        assert_eq!((waits, passes), (vec![8], vec![8, 9, 10]));
        // one store and one load need nobody between them
        let direct = plan(1);
        assert_eq!((direct.owners.as_slice(), direct.passes.len()), ([(queue(0), queue(8))].as_slice(), 0));
    }

    #[test]
    fn counts_of_crossing_constraints_balance() {
        let mut lir = Lir::new();
        let body = crate::lir::BlockId(1);
        let iv = lir.new_iv(3);
        lir.blocks.push(crate::lir::Block { parent: Some((ROOT, 0)), iv: Some(iv), items: Vec::new() });
        let edges = BTreeMap::from([(
            body,
            BTreeSet::from([
                edge(0, (Q0, 0), (Engine::VEC, 5)),
                edge(0, (Q0, 1), (Engine::VEC, 4)),
                edge(0, (Q0, 3), (Engine::VEC, 6)),
                edge(2, (Engine::VEC, 6), (Q0, 0)),
            ]),
        )]);
        let plan = plan(&lir, &edges);
        let waits: Vec<_> = plan.waits.iter().map(|((_, item, e), list)| (*item, *e, list[0].1)).collect();
        assert_eq!(waits, [(0, Q0, 1), (4, Engine::VEC, 1), (6, Engine::VEC, 1)]);
        assert_eq!(plan.signals.len(), 3);
        assert_eq!(plan.credits[&Engine::VEC], plan.drains[&Q0]);
        assert_eq!(plan.credits[&Engine::VEC][0].1, 2);
    }
}
