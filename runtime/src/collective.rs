//! The torus of links between cores, and the meetings of their collective engines, in time.
//!
//! Cores stand row by row on a torus of `torus_rows` rows; each has a link to each neighbour. A message goes along its
//! row first, the shorter way round (of two equal ways the one to higher numbers), then along its column. It is cut
//! through: its head takes a link latency a hop, its bytes follow at the link's rate, so link `i` of its way is taken
//! from `i` latencies after the start for as long as the bytes take. It starts when every link of its way is free for
//! that; of two messages the one that was issued first goes first.

use std::collections::BTreeMap;

use kiln_machine::duration;
use kiln_machine::target::Target;

use crate::error::TrapKind;

/// A link: the core that it leaves, and its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    core: u64,
    direction: Direction,
}

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    East,
    West,
    South,
    North,
}

/// When a message starts, when its last byte has left, and when it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Journey {
    pub(crate) start: u64,
    pub(crate) left: u64,
    pub(crate) arrived: u64,
}

/// All links.
pub(crate) struct Torus {
    rows: u64,
    columns: u64,
    hop: u64,
    /// When each link is free; those that were never taken are left out.
    free: BTreeMap<Link, u64>,
}

impl Torus {
    pub(crate) fn new(target: &Target) -> Self {
        let rows = target.torus_rows;
        Self {
            rows,
            columns: target.cores / rows,
            hop: duration::link_latency(target),
            free: BTreeMap::new(),
        }
    }

    /// The links from one core to another, in their order.
    fn way(&self, from: u64, to: u64) -> Vec<Link> {
        let mut links = Vec::new();
        let (mut row, mut column) = (from / self.columns, from % self.columns);
        let mut walk = |at: &mut u64, to: u64, length: u64, up, down, core: &dyn Fn(u64) -> u64| {
            let ahead = (to + length - *at) % length;
            let upwards = 2 * ahead <= length;
            for _ in 0..if upwards { ahead } else { length - ahead } {
                links.push(Link { core: core(*at), direction: if upwards { up } else { down } });
                *at = (*at + if upwards { 1 } else { length - 1 }) % length;
            }
        };
        let columns = self.columns;
        walk(&mut column, to % columns, columns, Direction::East, Direction::West, &|c| row * columns + c);
        walk(&mut row, to / columns, self.rows, Direction::South, Direction::North, &|r| {
            r * columns + column
        });
        links
    }

    /// Links from one core to another.
    pub(crate) fn distance(&self, from: u64, to: u64) -> u64 {
        self.way(from, to).len() as u64
    }

    /// Ticks that a meeting of these cores takes once all are there: the longest way between two of them.
    pub(crate) fn meeting(&self, members: &[u64]) -> u64 {
        let ways = members.iter().flat_map(|a| members.iter().map(move |b| self.distance(*a, *b)));
        ways.max().unwrap_or(0) * self.hop
    }

    /// A message of `busy` ticks at the link's rate, from now on.
    pub(crate) fn send(&mut self, now: u64, from: u64, to: u64, busy: u64) -> Journey {
        self.take(now, &self.way(from, to), busy)
    }

    /// A reduction: a chain of sums through the members in their order and the results back the same way.
    pub(crate) fn reduce(&mut self, now: u64, members: &[u64], busy: u64) -> Journey {
        let there = members.windows(2).flat_map(|pair| self.way(pair[0], pair[1]));
        let back = members.windows(2).rev().flat_map(|pair| self.way(pair[1], pair[0]));
        let links: Vec<Link> = there.chain(back).collect();
        self.take(now, &links, busy)
    }

    /// Take the links one after another, each a hop later than the one before.
    fn take(&mut self, now: u64, links: &[Link], busy: u64) -> Journey {
        let free = |(i, link): (usize, &Link)| {
            self.free.get(link).map_or(0, |free| free.saturating_sub(i as u64 * self.hop))
        };
        let start = links.iter().enumerate().map(free).fold(now, u64::max);
        for (i, link) in links.iter().enumerate() {
            self.free.insert(*link, start + i as u64 * self.hop + busy);
        }
        Journey { start, left: start + busy, arrived: start + busy + links.len() as u64 * self.hop }
    }

    /// The members of a core's group among `running`, in ascending order: 0 is every core, 1 its row, 2 its column.
    pub(crate) fn members(&self, core: u64, group: u8, running: &[u64]) -> Result<Vec<u64>, TrapKind> {
        let alike = |other: &u64| match group {
            0 => true,
            1 => other / self.columns == core / self.columns,
            _ => other % self.columns == core % self.columns,
        };
        match group {
            0..=2 => Ok(running.iter().copied().filter(alike).collect()),
            _ => Err(TrapKind::Absent("another group of cores than 0 (all), 1 (its row) and 2 (its column)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 × 4, a hop of 100 ticks.
    fn torus() -> Torus {
        Torus { rows: 2, columns: 4, hop: 100, free: BTreeMap::new() }
    }

    #[test]
    fn ways_are_shortest_and_go_along_rows_first() {
        let torus = torus();
        let cores = |from, to| torus.way(from, to).iter().map(|link| link.core).collect::<Vec<_>>();
        assert_eq!(cores(0, 1), [0]);
        assert_eq!(cores(0, 3), [0], "round the back");
        assert_eq!(cores(0, 2), [0, 1], "of equal ways the one to higher numbers");
        assert_eq!(cores(2, 0), [2, 3]);
        assert_eq!(cores(0, 7), [0, 3], "west, then south");
        assert_eq!(cores(6, 1), [6, 5], "west, then north");
        assert_eq!(cores(5, 5), [0; 0]);
        assert_eq!(torus.meeting(&[0, 1, 2, 3, 4, 5, 6, 7]), 300);
        assert_eq!((torus.meeting(&[0, 1]), torus.meeting(&[3])), (100, 0));
    }

    #[test]
    fn messages_share_links_one_after_another() {
        let mut torus = torus();
        // 50 ticks of bytes over two links.
        assert_eq!(torus.send(10, 0, 2, 50), Journey { start: 10, left: 60, arrived: 260 });
        // The link from 1 to 2 is taken from 110 to 160: a message of core 1 waits for it, one of 0 to 1 for the first link.
        assert_eq!(torus.send(20, 1, 2, 50), Journey { start: 160, left: 210, arrived: 310 });
        assert_eq!(torus.send(20, 0, 1, 50), Journey { start: 60, left: 110, arrived: 210 });
        // The other way is free.
        assert_eq!(torus.send(20, 2, 1, 50).start, 20);
        // Along 0, 1, 2 now: the first link is free at 110, the second at 210, and is reached a hop later.
        assert_eq!(torus.send(30, 0, 2, 50).start, 110);
    }

    #[test]
    fn a_reduction_goes_through_its_members_and_back() {
        let mut torus = torus();
        // Three links there and three back.
        assert_eq!(torus.reduce(0, &[0, 1, 2, 3], 40), Journey { start: 0, left: 40, arrived: 640 });
        // Its last link, from 1 to 0, is taken from 500 to 540.
        assert_eq!(torus.send(0, 1, 0, 40).start, 540);
        assert_eq!(torus.reduce(7, &[5], 40).arrived, 47);
    }

    #[test]
    fn groups_are_all_a_row_and_a_column() {
        let torus = torus();
        let running: Vec<u64> = (0..8).collect();
        let members = |core, group| torus.members(core, group, &running).expect("a group");
        assert_eq!(members(5, 1), [4, 5, 6, 7]);
        assert_eq!(members(5, 2), [1, 5]);
        assert_eq!(members(5, 0).len(), 8);
        assert_eq!(torus.members(5, 0, &[2, 5]).expect("a group"), [2, 5]);
        assert!(torus.members(5, 3, &running).is_err());
    }
}
