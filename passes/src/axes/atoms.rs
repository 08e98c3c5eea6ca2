//! Atoms: a union-find over dims that also splits them.
//!
//! Converting from positional dims starts with one atom per dim. Elementwise use merges atoms, a
//! reshape splits them, and a slice or concat links atoms so that one cannot be split without the
//! other. The invariant that makes a value a *set* of axes is kept by **spaces**: a space is a set of
//! atoms that occur together in one op, and two atoms of one space are never merged.

use std::collections::BTreeSet;

/// An atom; after merges and splits [`Atoms::resolve`] gives what it stands for now.
pub(super) type Atom = u32;

/// Why two lists of atoms cannot be made one.
pub(super) enum Clash {
    /// Their extents have no common refinement, or a locked atom stands in the way.
    Structure,
}

#[derive(Clone, Debug)]
enum State {
    Leaf,
    Merged(Atom),
    /// Outer and inner part; the outer one is missing when its extent is 1.
    Split(Option<Atom>, Atom),
}

/// Atoms that must be split together: offsets inside the group stay multiples of the inner extent.
#[derive(Clone, Debug)]
struct Link {
    members: Vec<Atom>,
    /// Every one of these must be a multiple of the inner extent.
    offsets: Vec<u64>,
}

#[derive(Default)]
pub(super) struct Atoms {
    states: Vec<State>,
    extents: Vec<u64>,
    locked: Vec<bool>,
    spaces: Vec<BTreeSet<u32>>,
    /// For each leaf the links it takes part in.
    links_of: Vec<Vec<usize>>,
    links: Vec<Link>,
    space_count: u32,
}

impl Atoms {
    /// A new atom of an extent other than 1.
    pub(super) fn fresh(&mut self, extent: u64) -> Atom {
        debug_assert_ne!(extent, 1);
        self.states.push(State::Leaf);
        self.extents.push(extent);
        self.locked.push(extent == 0);
        self.spaces.push(BTreeSet::new());
        self.links_of.push(Vec::new());
        self.states.len() as Atom - 1
    }

    /// A dim of one new atom, or of none for extent 1.
    pub(super) fn fresh_dim(&mut self, extent: u64) -> Vec<Atom> {
        if extent == 1 { Vec::new() } else { vec![self.fresh(extent)] }
    }

    pub(super) fn extent(&self, atom: Atom) -> u64 {
        self.extents[atom as usize]
    }

    /// From now on the atom is never split.
    pub(super) fn lock(&mut self, atom: Atom) {
        for leaf in self.resolve(&[atom]) {
            self.locked[leaf as usize] = true;
        }
    }

    /// States that the atoms (distinct leaves) occur together.
    pub(super) fn add_space(&mut self, atoms: &[Atom]) {
        let space = self.space_count;
        self.space_count += 1;
        for leaf in self.resolve(atoms) {
            let new = self.spaces[leaf as usize].insert(space);
            debug_assert!(new, "atoms of one space are distinct");
        }
    }

    /// Links atoms that a slice, pad or concat puts at `offsets` of one another.
    pub(super) fn link(&mut self, members: Vec<Atom>, offsets: Vec<u64>) {
        for &m in &members {
            self.links_of[m as usize].push(self.links.len());
        }
        self.links.push(Link { members, offsets });
    }

    /// The leaves that the atoms stand for now, in order.
    pub(super) fn resolve(&self, atoms: &[Atom]) -> Vec<Atom> {
        let mut leaves = Vec::with_capacity(atoms.len());
        let mut stack: Vec<Atom> = atoms.iter().rev().copied().collect();
        while let Some(a) = stack.pop() {
            match self.states[a as usize] {
                State::Leaf => leaves.push(a),
                State::Merged(into) => stack.push(into),
                State::Split(outer, inner) => {
                    stack.push(inner);
                    stack.extend(outer);
                }
            }
        }
        leaves
    }

    /// Refines both lists until they correspond leaf by leaf, and gives the pairs.
    pub(super) fn align(&mut self, a: &[Atom], b: &[Atom]) -> Result<Vec<(Atom, Atom)>, Clash> {
        loop {
            let (la, lb) = (self.resolve(a), self.resolve(b));
            match self.first_difference(&la, &lb)? {
                None => return Ok(la.into_iter().zip(lb).collect()),
                Some((atom, inner)) => self.split(atom, inner)?,
            }
        }
    }

    /// The first leaf, from the inside, that must be split, with the extent of its inner part.
    fn first_difference(&self, a: &[Atom], b: &[Atom]) -> Result<Option<(Atom, u64)>, Clash> {
        let mut pairs = a.iter().rev().zip(b.iter().rev());
        let differing = pairs.find(|(x, y)| self.extent(**x) != self.extent(**y));
        match differing {
            None if a.len() == b.len() => Ok(None),
            None => Err(Clash::Structure),
            Some((&x, &y)) => {
                let (large, small) =
                    if self.extent(x) > self.extent(y) { (x, self.extent(y)) } else { (y, self.extent(x)) };
                if small == 0 || !self.extent(large).is_multiple_of(small) {
                    return Err(Clash::Structure);
                }
                Ok(Some((large, small)))
            }
        }
    }

    /// Splits a leaf, and every atom linked to it, into an outer part and one shared inner part.
    fn split(&mut self, atom: Atom, inner: u64) -> Result<(), Clash> {
        let (members, links) = self.linked(atom);
        for &m in &members {
            if self.locked[m as usize] || !self.extent(m).is_multiple_of(inner) {
                return Err(Clash::Structure);
            }
        }
        for &l in &links {
            if self.links[l].offsets.iter().any(|o| o % inner != 0) {
                return Err(Clash::Structure);
            }
        }
        // The inner parts become one atom, so no space may hold two members.
        for (i, &x) in members.iter().enumerate() {
            if members[..i].iter().any(|&y| self.share_space(x, y)) {
                return Err(Clash::Structure);
            }
        }
        let shared = self.fresh(inner);
        let mut outer_of = std::collections::BTreeMap::new();
        for &m in &members {
            let outer_extent = self.extent(m) / inner;
            let outer = (outer_extent != 1).then(|| self.fresh(outer_extent));
            let spaces = self.spaces[m as usize].clone();
            if let Some(o) = outer {
                self.spaces[o as usize] = spaces.clone();
                self.links_of[o as usize] = std::mem::take(&mut self.links_of[m as usize]);
            }
            self.spaces[shared as usize].extend(spaces);
            self.states[m as usize] = State::Split(outer, shared);
            outer_of.insert(m, outer);
        }
        for l in links {
            let members = self.resolved_members(l);
            let outers: Vec<Atom> =
                members.iter().filter_map(|m| outer_of.get(m).copied().flatten()).collect();
            // Where a member has become a single element, the others' parts are told apart by it.
            if outers.len() < members.len() {
                outers.iter().for_each(|&o| self.locked[o as usize] = true);
            }
            let link = &mut self.links[l];
            link.members = outers;
            link.offsets.iter_mut().for_each(|o| *o /= inner);
        }
        Ok(())
    }

    /// A link's members before this split, as the atoms they were merged into.
    fn resolved_members(&self, link: usize) -> Vec<Atom> {
        let followed = |mut m: Atom| {
            while let State::Merged(into) = self.states[m as usize] {
                m = into;
            }
            m
        };
        self.links[link].members.iter().map(|&m| followed(m)).collect()
    }

    /// The leaves linked to `atom`, itself first, and the links that tie them.
    fn linked(&self, atom: Atom) -> (Vec<Atom>, Vec<usize>) {
        let mut members = vec![atom];
        let mut links = BTreeSet::new();
        let mut next = 0;
        while next < members.len() {
            for &l in &self.links_of[members[next] as usize] {
                if links.insert(l) {
                    for m in self.resolve(&self.links[l].members) {
                        if !members.contains(&m) {
                            members.push(m);
                        }
                    }
                }
            }
            next += 1;
        }
        (members, links.into_iter().collect())
    }

    fn share_space(&self, a: Atom, b: Atom) -> bool {
        let (small, large) = (&self.spaces[a as usize], &self.spaces[b as usize]);
        let (small, large) = if small.len() > large.len() { (large, small) } else { (small, large) };
        small.iter().any(|s| large.contains(s))
    }

    /// Makes two leaves one; false when some op has both of them.
    pub(super) fn merge(&mut self, a: Atom, b: Atom) -> bool {
        let (a, b) = (self.resolve(&[a]), self.resolve(&[b]));
        let (&[a], &[b]) = (a.as_slice(), b.as_slice()) else { return false };
        if a == b {
            return true;
        }
        if self.extent(a) != self.extent(b) || self.share_space(a, b) {
            return false;
        }
        let (keep, gone) =
            if self.spaces[a as usize].len() >= self.spaces[b as usize].len() { (a, b) } else { (b, a) };
        let spaces = std::mem::take(&mut self.spaces[gone as usize]);
        self.spaces[keep as usize].extend(spaces);
        let links = std::mem::take(&mut self.links_of[gone as usize]);
        for &l in &links {
            self.links[l].members.iter_mut().filter(|m| **m == gone).for_each(|m| *m = keep);
        }
        self.links_of[keep as usize].extend(links);
        self.locked[keep as usize] |= self.locked[gone as usize];
        self.states[gone as usize] = State::Merged(keep);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_refine_to_a_common_one() {
        let mut atoms = Atoms::default();
        let (a, b, c) = (atoms.fresh(24), atoms.fresh(2), atoms.fresh(12));
        assert!(atoms.align(&[a], &[b, c]).is_ok());
        let (d, e) = (atoms.fresh(6), atoms.fresh(4));
        assert!(atoms.align(&[a], &[d, e]).is_ok());
        let extents: Vec<u64> = atoms.resolve(&[a]).into_iter().map(|x| atoms.extent(x)).collect();
        assert_eq!(extents, [2, 3, 4]);
    }

    #[test]
    fn six_by_four_is_not_eight_by_three() {
        let mut atoms = Atoms::default();
        let list = [6, 4, 8, 3].map(|n| atoms.fresh(n));
        assert!(atoms.align(&list[..2], &list[2..]).is_err());
    }

    #[test]
    fn atoms_of_one_space_stay_apart() {
        let mut atoms = Atoms::default();
        let (a, b) = (atoms.fresh(5), atoms.fresh(5));
        atoms.add_space(&[a, b]);
        assert!(!atoms.merge(a, b));
        let c = atoms.fresh(5);
        assert!(atoms.merge(a, c));
        assert!(!atoms.merge(c, b));
    }

    #[test]
    fn a_split_spreads_over_links_or_fails_whole() {
        let mut atoms = Atoms::default();
        let (from, to) = (atoms.fresh(36), atoms.fresh(12));
        atoms.link(vec![from, to], vec![12]);
        let parts = [atoms.fresh(3), atoms.fresh(4)];
        assert!(atoms.align(&[to], &parts).is_ok());
        assert_eq!(atoms.resolve(&[from]).len(), 2);
        assert_eq!(atoms.resolve(&[from])[1], atoms.resolve(&[to])[1]);

        let (from, to) = (atoms.fresh(36), atoms.fresh(12));
        atoms.link(vec![from, to], vec![7]);
        let parts = [atoms.fresh(3), atoms.fresh(4)];
        assert!(atoms.align(&[to], &parts).is_err());
    }
}
