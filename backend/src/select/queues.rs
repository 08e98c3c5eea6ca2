//! Which DMA queues serve which transfers of a group.

use std::collections::BTreeMap;

use kiln_ir::tile;
use kiln_machine::duration::least_queues;

use super::dma::Direction;
use super::geometry::DramTensor;
use crate::lir::Engine;

/// What a queue is for. A transfer that waits for what the program itself computed holds up no other on its queue
/// that could run ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Loads of weights and inputs, which are there from the start.
    Ahead,
    /// Loads of what a group stored.
    Behind,
    /// Stores.
    Store,
}

/// The queues of each role in a group, and what each queue was given.
pub(super) struct Queues {
    count: u32,
    /// Queues that one transfer is spread over at most.
    spread: u32,
    of_role: BTreeMap<Role, std::ops::Range<u32>>,
    /// Bytes in this group, and in all so far.
    given: Vec<(u64, u64)>,
}

impl Queues {
    pub fn new(count: u32, spread: u32) -> Self {
        Queues { count, spread, of_role: BTreeMap::new(), given: vec![(0, 0); count as usize] }
    }

    /// Shares out the queues by the bytes that each role moves in a group. Loads ahead of the group have the first
    /// ones, stores the last: those change their role least from group to group.
    pub fn share_out(&mut self, bytes: &BTreeMap<Role, u64>) {
        let roles: Vec<(Role, u64)> = bytes.iter().map(|(r, b)| (*r, (*b).max(1))).collect();
        let least = least_queues(u64::from(self.count)) as u32;
        let mut shares: Vec<u32> = vec![least; roles.len()];
        let mut left = self.count.saturating_sub(least * roles.len() as u32);
        while left > 0 && !roles.is_empty() {
            // to the role with the most bytes for each of its queues
            let most =
                (0..roles.len()).max_by_key(|&i| (roles[i].1 / u64::from(shares[i]), std::cmp::Reverse(i)));
            shares[most.unwrap_or(0)] += 1;
            left -= 1;
        }
        let mut next = 0;
        self.of_role.clear();
        for ((role, _), share) in roles.iter().zip(shares) {
            // with fewer queues than roles, the roles share the last one
            let first = next.min(self.count - 1);
            self.of_role.insert(*role, first..(next + share).clamp(first + 1, self.count));
            next += share;
        }
        self.given.iter_mut().for_each(|g| g.0 = 0);
    }

    fn range(&self, role: Role) -> std::ops::Range<u32> {
        self.of_role.get(&role).cloned().unwrap_or(0..1)
    }

    /// Queues of a role that one transfer may use.
    pub fn most(&self, role: Role) -> u32 {
        (self.range(role).len() as u32).min(self.spread)
    }

    /// The queue with the fewest bytes in this group, which then has `bytes` more.
    pub fn take(&mut self, role: Role, bytes: u64) -> Engine {
        let least = self.range(role).min_by_key(|&q| (self.given[q as usize], q)).unwrap_or(0);
        let given = &mut self.given[least as usize];
        *given = (given.0 + bytes.max(1), given.1 + bytes.max(1));
        Engine::queue(least)
    }
}

/// Bytes that each role moves in a run of a group.
pub(super) fn bytes_by_role(
    body: &[tile::Stmt],
    drams: &[DramTensor],
    is_written: &[bool],
) -> BTreeMap<Role, u64> {
    fn visit(
        body: &[tile::Stmt],
        drams: &[DramTensor],
        is_written: &[bool],
        runs: u64,
        bytes: &mut BTreeMap<Role, u64>,
    ) {
        for stmt in body {
            match stmt {
                tile::Stmt::Alloc { .. } => {}
                tile::Stmt::For { trip, body, .. } => {
                    visit(body, drams, is_written, runs * *trip as u64, bytes);
                }
                tile::Stmt::Op { op, .. } => {
                    let (direction, dram, shape, strides) = match op {
                        tile::Op::Load { dram, at, dst } => {
                            (Direction::Load, dram, &dst.shape, Some(&at.strides))
                        }
                        tile::Op::Gather { dram, dst, .. } => (Direction::Load, dram, &dst.shape, None),
                        tile::Op::Store { src, dram, .. } | tile::Op::Scatter { src, dram, .. } => {
                            (Direction::Store, dram, &src.shape, None)
                        }
                        _ => continue,
                    };
                    let walked = |a: usize| strides.is_none_or(|s| s[a] != 0);
                    let elements: u64 = shape
                        .iter()
                        .enumerate()
                        .filter(|(a, _)| walked(*a))
                        .map(|(_, n)| *n as u64)
                        .product();
                    let role = role(direction, is_written[dram.index()]);
                    *bytes.entry(role).or_default() += runs * drams[dram.index()].dt.bytes_of(elements);
                }
            }
        }
    }
    let mut bytes = BTreeMap::new();
    visit(body, drams, is_written, 1, &mut bytes);
    bytes
}

/// The role of a transfer from or to a tensor that the program writes or not.
pub(super) fn role(direction: Direction, is_written: bool) -> Role {
    match direction {
        Direction::Store => Role::Store,
        Direction::Load if is_written => Role::Behind,
        Direction::Load => Role::Ahead,
    }
}

/// Whether the program writes a DRAM tensor of this kind.
pub(super) fn is_written(kind: &tile::DramKind) -> bool {
    matches!(kind, tile::DramKind::Temp | tile::DramKind::Output(_))
}
