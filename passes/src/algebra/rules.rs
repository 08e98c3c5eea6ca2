//! The rule table: one row each. A rule is an equation with a name.
//!
//! **Names** say what moves and where: `ein-scale-out` takes a scale out of an `ein`; `cast-cast` has
//! a cast of a cast on its left. No row knows a model or an op pattern with a name of its own: what
//! looks like attention or a norm is reached by these steps or not at all.
//!
//! **Conditions** must be provable from the facts of the classes ([`facts`](super::facts)). **Grades**
//! are [`Grade`]'s; `bound` is the largest difference that the row's soundness test accepts, in units
//! in the last place of the result's largest element (0 for E0: equal bits).

mod maps;
#[cfg(test)]
mod page;
mod products;
mod views;

use egg::Id;

use super::Grade;
use super::apply::{Build, Compiled, View};
use super::pattern::Match;

/// Classes made equal, each with its new side.
pub type Equations = Vec<(Id, Id)>;

/// How the right side is given.
#[derive(Clone, Copy)]
pub enum Right {
    /// As a pattern over the left side's names.
    Term(&'static str),
    /// Built by code, because axes or constants are computed; the text says what.
    Build(&'static str, fn(&mut Build, &Compiled, &Match) -> Option<Equations>),
}

impl Right {
    pub fn text(&self) -> &'static str {
        match self {
            Right::Term(text) | Right::Build(text, _) => text,
        }
    }
}

/// A condition with its statement.
#[derive(Clone, Copy)]
pub struct Side {
    pub text: &'static str,
    pub holds: fn(&View) -> bool,
}

/// No condition.
pub const ALWAYS: Side = Side { text: "", holds: |_| true };

/// One row.
pub struct Rule {
    pub name: &'static str,
    pub left: &'static str,
    pub right: Right,
    pub when: Side,
    pub grade: Grade,
    pub bound: u32,
    pub doc: &'static str,
}

/// The tables with their titles, in the order in which they are tried.
const TABLES: [(&str, &[Rule]); 3] =
    [("Elementwise maps", maps::ROWS), ("Views", views::ROWS), ("Contractions", products::ROWS)];

/// All rows, in the order in which they are tried.
pub const RULES: &[&Rule] = {
    const COUNT: usize = TABLES[0].1.len() + TABLES[1].1.len() + TABLES[2].1.len();
    const ALL: [&Rule; COUNT] = {
        let mut all: [&Rule; COUNT] = [&TABLES[0].1[0]; COUNT];
        let (mut n, mut t) = (0, 0);
        while t < TABLES.len() {
            let mut i = 0;
            while i < TABLES[t].1.len() {
                all[n] = &TABLES[t].1[i];
                n += 1;
                i += 1;
            }
            t += 1;
        }
        all
    };
    &ALL
};
