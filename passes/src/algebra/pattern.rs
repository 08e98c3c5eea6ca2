//! Patterns over terms: how a rule's two sides are written.
//!
//! `(div ?e ?l)` is a head with operands, `?x` any class, a number a scalar constant of that value.
//! Heads are map kinds (`add`, `exp`, `select`, …), node names (`ein`, `red-sum`, `red-max`, `cast`,
//! `slice`, `cat`, `gather`, `rename`, `bc`, `iota`, …), and `map1`, `map2`, `map3` for any map of
//! that arity. `(ein@e ?a ?b)` on the left names the matched term; on the right the same writing is a
//! term with its attributes. Commutative heads match in both orders, so no rule states commutativity.

use egg::{Id, Language};
use kiln_ir::nn::MapKind;

use super::term::{EGraph, Head, Term};
use crate::axes::Kind;

/// A parsed side of a rule.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub root: Pat,
    /// Names of variables, by index.
    pub vars: Vec<String>,
    /// Names of bound terms, by index.
    pub bound: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Pat {
    Var(usize),
    Number(f64),
    Node { head: PatHead, bind: Option<usize>, args: Vec<Pat> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PatHead {
    One(Head),
    AnyMap(usize),
}

/// A way in which a class matches a left side.
#[derive(Clone, Debug)]
pub struct Match {
    pub class: Id,
    pub vars: Vec<Option<Id>>,
    pub bound: Vec<Option<Term>>,
    /// All matched terms, root first: the origins of what replaces them.
    pub terms: Vec<Term>,
}

impl Pattern {
    /// Parses a side. `names` are the variables and bound terms already known from the other side.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut p = Parser { text, rest: text, vars: Vec::new(), bound: Vec::new() };
        let root = p.pat()?;
        p.space();
        if !p.rest.is_empty() {
            return Err(format!("`{}` is left over in `{text}`", p.rest));
        }
        Ok(Pattern { root, vars: p.vars, bound: p.bound })
    }

    /// The class a variable of this pattern stands for.
    pub fn var(&self, m: &Match, name: &str) -> Option<Id> {
        let i = self.vars.iter().position(|v| v == name)?;
        m.vars[i]
    }

    /// The term matched where the pattern says `@name`.
    pub fn term<'m>(&self, m: &'m Match, name: &str) -> Option<&'m Term> {
        let i = self.bound.iter().position(|b| b == name)?;
        m.bound[i].as_ref()
    }

    /// All matches at `class`, at most `limit`.
    pub fn search(&self, egraph: &EGraph, class: Id, limit: usize) -> Vec<Match> {
        let mut search = Search { egraph, limit, found: Vec::new() };
        let state = Match {
            class: egraph.find(class),
            vars: vec![None; self.vars.len()],
            bound: vec![None; self.bound.len()],
            terms: Vec::new(),
        };
        search.go(&mut vec![(&self.root, egraph.find(class))], state);
        search.found
    }

    /// The heads a matching class must have one of; none for any.
    pub fn heads(&self) -> Option<Vec<Head>> {
        match &self.root {
            Pat::Node { head: PatHead::One(head), .. } => Some(vec![*head]),
            Pat::Node { head: PatHead::AnyMap(n), .. } => {
                Some(MapKind::ALL.iter().filter(|k| k.arity() == *n).map(|k| Head::Map(*k)).collect())
            }
            _ => None,
        }
    }
}

struct Search<'a> {
    egraph: &'a EGraph,
    limit: usize,
    found: Vec<Match>,
}

impl Search<'_> {
    fn go(&mut self, goals: &mut Vec<(&Pat, Id)>, state: Match) {
        if self.found.len() >= self.limit {
            return;
        }
        let Some((pat, class)) = goals.pop() else {
            self.found.push(state);
            return;
        };
        match pat {
            Pat::Var(v) => match state.vars[*v] {
                Some(bound) if bound != class => {}
                _ => {
                    let mut next = state;
                    next.vars[*v] = Some(class);
                    self.go(goals, next);
                }
            },
            Pat::Number(n) => {
                let facts = &self.egraph[class].data;
                if facts.number == Some(*n) && facts.axes.is_empty() {
                    self.go(goals, state);
                }
            }
            Pat::Node { head, bind, args } => {
                for term in &self.egraph[class].nodes {
                    if !head.fits(term) || term.children.len() != args.len() {
                        continue;
                    }
                    let swapped = is_commutative(term) && term.children[0] != term.children[1];
                    for swap in [false, true].into_iter().take(1 + usize::from(swapped)) {
                        let mut next = state.clone();
                        next.terms.push(term.clone());
                        if let Some(b) = bind {
                            next.bound[*b] = Some(term.clone());
                        }
                        let mut children: Vec<Id> =
                            term.children.iter().map(|c| self.egraph.find(*c)).collect();
                        if swap {
                            children.reverse();
                        }
                        let mut deeper = goals.clone();
                        deeper.extend(args.iter().zip(children).rev());
                        self.go(&mut deeper, next);
                    }
                }
            }
        }
    }
}

impl PatHead {
    fn fits(self, term: &Term) -> bool {
        match self {
            PatHead::One(head) => term.discriminant() == head,
            PatHead::AnyMap(arity) => matches!(term.kind, Kind::Map(_)) && term.children.len() == arity,
        }
    }
}

/// Whether the operands of a term may change places.
pub fn is_commutative(term: &Term) -> bool {
    match &term.kind {
        Kind::Map(kind) => kind.is_commutative(),
        Kind::Ein { .. } => true,
        _ => false,
    }
}

struct Parser<'t> {
    text: &'t str,
    rest: &'t str,
    vars: Vec<String>,
    bound: Vec<String>,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn word(&mut self) -> Result<&str, String> {
        let end = self.rest.find([' ', '(', ')']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if word.is_empty() { Err(format!("a word is missing in `{}`", self.text)) } else { Ok(word) }
    }

    fn pat(&mut self) -> Result<Pat, String> {
        self.space();
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.rest = rest;
            return self.node();
        }
        let word = self.word()?.to_string();
        if let Some(name) = word.strip_prefix('?') {
            return Ok(Pat::Var(index(&mut self.vars, name)));
        }
        word.parse().map(Pat::Number).map_err(|_| format!("`{word}` is no variable, number or term"))
    }

    fn node(&mut self) -> Result<Pat, String> {
        let word = self.word()?.to_string();
        let (name, bind) = match word.split_once('@') {
            Some((name, bind)) => (name, Some(index(&mut self.bound, bind))),
            None => (word.as_str(), None),
        };
        let head = match name.strip_prefix("map").and_then(|n| n.parse().ok()) {
            Some(arity) => PatHead::AnyMap(arity),
            None => PatHead::One(match MapKind::from_name(name) {
                Some(kind) => Head::Map(kind),
                None => Head::Other(known(name).ok_or_else(|| format!("`{name}` is no head"))?),
            }),
        };
        let mut args = Vec::new();
        loop {
            self.space();
            if let Some(rest) = self.rest.strip_prefix(')') {
                self.rest = rest;
                return Ok(Pat::Node { head, bind, args });
            }
            args.push(self.pat()?);
        }
    }
}

fn index(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|n| n == name).unwrap_or_else(|| {
        names.push(name.to_string());
        names.len() - 1
    })
}

/// Node names that stand as heads.
#[rustfmt::skip] // a list
const HEADS: &[&str] = &[
    "in", "w", "c", "iota", "cast", "ein", "red", "red-sum", "red-max", "red-min", "scan", "slice", "pad", "cat",
    "reverse", "gather", "rename", "relayout", "bc", "topk", "opaque",
];

fn known(name: &str) -> Option<&'static str> {
    HEADS.iter().find(|h| **h == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_parse_or_say_why_not() {
        let p = Pattern::parse("(ein@e (mul ?x ?s) ?y)").unwrap();
        assert_eq!(
            (p.vars.as_slice(), p.bound.as_slice()),
            (&["x", "s", "y"].map(String::from)[..], &["e".to_string()][..])
        );
        assert!(Pattern::parse("(softmax ?x)").is_err());
        assert!(Pattern::parse("(add ?x ?y").is_err());
        assert!(Pattern::parse("(add ?x ?y) ?z").is_err());
    }
}
