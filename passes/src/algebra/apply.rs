//! The one applier: every rule row goes through it.
//!
//! It checks the side condition, the grade and the budget, builds the right side, refuses it when the
//! two sides do not have the same axes and dtype or when it would close a cycle, records origins, and
//! logs. Congruence can close a cycle too, so after every rebuild the e-graph is made acyclic again.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;
use kiln_ir::DType;
use kiln_ir::nn::{MapKind, ReduceKind};

use super::pattern::{Match, Pat, PatHead, Pattern};
use super::rules::{Right, Rule};
use super::term::{EGraph, Head, Program, Term, TermOrigins};
use super::{Grade, acyclic, steps};
use crate::axes::{AxisId, Kind, Origins, number};

/// What saturation did: per rule, in table order, how often it fired and how many terms it made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub fired: BTreeMap<&'static str, Fired>,
    /// Classes that one application equated at once; extraction tries them together.
    pub joint: Vec<Vec<(Id, Term)>>,
    pub rounds: u32,
    /// The first row whose sides disagree in axes or dtype: a fault of the table.
    pub unsound: Option<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    pub times: u32,
    pub terms: u32,
    pub refused_cycle: u32,
}

/// A rule with its left side (and right side, if written) parsed.
pub struct Compiled {
    pub rule: &'static Rule,
    pub left: Pattern,
    right: Option<Pattern>,
}

impl Compiled {
    /// # Errors
    /// What does not parse, or a name on the right that the left lacks.
    pub fn new(rule: &'static Rule) -> Result<Self, String> {
        let left = Pattern::parse(rule.left)?;
        let right = match rule.right {
            Right::Term(text) => Some(Pattern::parse(text)?),
            Right::Build(..) => None,
        };
        if let Some(r) = &right {
            let unknown = r
                .vars
                .iter()
                .find(|v| !left.vars.contains(v))
                .or(r.bound.iter().find(|b| !left.bound.contains(b)));
            if let Some(name) = unknown {
                return Err(format!("{}: `{name}` is not on the left", rule.name));
            }
        }
        Ok(Compiled { rule, left, right })
    }
}

/// Bounds on the work of one saturation.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub rounds: u32,
    /// New terms a rule may make.
    pub terms_per_rule: u32,
    pub matches_per_class: usize,
}

/// Applies the rules until nothing changes or the budget is spent. The classes `exact`, and what they are made
/// of elementwise, are rewritten by E0 rows only.
pub fn saturate(
    program: &mut Program,
    rules: &[Compiled],
    grade: Grade,
    budget: Budget,
    exact: &[Id],
) -> Log {
    let mut log = Log::default();
    for _ in 0..budget.rounds {
        log.rounds += 1;
        let mut round = Round {
            grade,
            budget,
            ranks: acyclic::ranks(&program.egraph),
            kept: steps::of_egraph(&program.egraph, exact),
        };
        let mut changed = false;
        let mut found: Vec<(usize, Vec<Match>)> = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            if rule.rule.grade > grade {
                continue;
            }
            let egraph = &program.egraph;
            let mut classes: BTreeSet<Id> = BTreeSet::new();
            match rule.left.heads() {
                Some(heads) => {
                    for h in heads {
                        classes
                            .extend(egraph.classes_for_op(&h).into_iter().flatten().map(|c| egraph.find(c)));
                    }
                }
                None => classes.extend(egraph.classes().map(|c| c.id)),
            }
            let matches = classes
                .into_iter()
                .flat_map(|c| rule.left.search(egraph, c, budget.matches_per_class))
                .collect();
            found.push((i, matches));
        }
        for (i, matches) in found {
            for m in matches {
                changed |= apply(program, &rules[i], &m, &mut round, &mut log);
            }
        }
        program.egraph.rebuild();
        acyclic::restore(&mut program.egraph);
        program.origins.refresh(&program.egraph);
        if !changed {
            break;
        }
    }
    log
}

/// What holds during a round.
struct Round {
    grade: Grade,
    budget: Budget,
    ranks: BTreeMap<Id, u32>,
    /// Classes that only E0 rows may rewrite.
    kept: BTreeSet<Id>,
}

fn apply(program: &mut Program, rule: &Compiled, m: &Match, round: &mut Round, log: &mut Log) -> bool {
    if rule.rule.grade > Grade::E0 && round.kept.contains(&program.egraph.find(m.class)) {
        return false;
    }
    let fired = log.fired.entry(rule.rule.name).or_default();
    if fired.terms >= round.budget.terms_per_rule {
        return false;
    }
    let view = View { egraph: &program.egraph, rule, m };
    if !(rule.rule.when.holds)(&view) {
        return false;
    }
    // Where a value is narrower than f32, another place of rounding is a grade of its own.
    let narrow =
        m.terms.iter().any(|t| matches!(t.dtype, DType::F16 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2));
    if narrow && rule.rule.grade > Grade::E0 && round.grade < Grade::E2 {
        return false;
    }
    let mut from = Origins::new();
    for t in &m.terms {
        from.extend(program.origins.of(&canonical(&program.egraph, t)));
    }
    let mut build = Build { egraph: &mut program.egraph, origins: &mut program.origins, from, created: 0 };
    let equations: Vec<(Id, Id)> = match (&rule.rule.right, &rule.right) {
        (Right::Build(_, f), _) => match f(&mut build, rule, m) {
            Some(equations) => equations,
            None => return false,
        },
        (_, Some(right)) => match build.side(right, &right.root, rule, m, None) {
            Some(id) => vec![(m.class, id)],
            None => return false,
        },
        _ => return false,
    };
    fired.terms += build.created;
    let mut changed = false;
    let mut joint = Vec::new();
    let egraph = &mut program.egraph;
    for &(a, b) in &equations {
        let (a, b) = (egraph.find(a), egraph.find(b));
        if a == b {
            continue;
        }
        if egraph[a].data.axes != egraph[b].data.axes || egraph[a].data.dtype != egraph[b].data.dtype {
            let (x, y) = (&egraph[a].data, &egraph[b].data);
            let detail = format!("{:?} {} and {:?} {} for {:?}", x.axes, x.dtype, y.axes, y.dtype, m.terms);
            log.unsound.get_or_insert((rule.rule.name, detail));
            return changed;
        }
        if acyclic::reaches(egraph, b, a, &round.ranks) {
            fired.refused_cycle += 1;
            return changed;
        }
        let top = egraph[b].nodes[0].clone();
        egraph.union(a, b);
        if round.kept.contains(&a) || round.kept.contains(&b) {
            round.kept.insert(egraph.find(a));
        }
        joint.push((a, top));
        changed = true;
    }
    if changed {
        fired.times += 1;
        if joint.len() > 1 {
            log.joint.push(joint);
        }
    }
    changed
}

fn canonical(egraph: &EGraph, term: &Term) -> Term {
    let children = term.children.iter().map(|c| egraph.find(*c)).collect();
    Term { children, ..term.clone() }
}

/// What a side condition sees.
pub struct View<'a> {
    pub egraph: &'a EGraph,
    pub rule: &'a Compiled,
    pub m: &'a Match,
}

impl View<'_> {
    /// The class of variable `name`.
    ///
    /// # Panics
    /// When the rule's left side has no such variable: a mistake in the table, found by its test.
    pub fn var(&self, name: &str) -> Id {
        self.rule.var(self.m, name)
    }

    pub fn facts(&self, name: &str) -> &super::facts::Facts {
        &self.egraph[self.var(name)].data
    }

    pub fn axes(&self, name: &str) -> &[AxisId] {
        &self.facts(name).axes
    }

    pub fn term(&self, name: &str) -> &Term {
        self.rule.term(self.m, name)
    }

    /// Whether the axes of two variables have none in common.
    pub fn disjoint(&self, a: &[AxisId], b: &[AxisId]) -> bool {
        a.iter().all(|x| !b.contains(x))
    }

    pub fn elements(&self, axes: &[AxisId]) -> u64 {
        self.egraph.analysis.elements(axes)
    }
}

impl Compiled {
    pub fn var(&self, m: &Match, name: &str) -> Id {
        self.left.var(m, name).unwrap_or_else(|| panic!("{}: no variable ?{name}", self.rule.name))
    }

    pub fn term<'m>(&self, m: &'m Match, name: &str) -> &'m Term {
        self.left.term(m, name).unwrap_or_else(|| panic!("{}: no term @{name}", self.rule.name))
    }
}

/// Builds right sides; every new term gets the origins of what it replaces.
pub struct Build<'a> {
    pub egraph: &'a mut EGraph,
    origins: &'a mut TermOrigins,
    from: Origins,
    created: u32,
}

impl Build<'_> {
    pub fn term(&mut self, kind: Kind, dtype: DType, children: Vec<Id>) -> Id {
        let children: Vec<Id> = children.into_iter().map(|c| self.egraph.find(c)).collect();
        let term = Term { kind, dtype, children };
        if let Some(id) = self.egraph.lookup(term.clone()) {
            return id;
        }
        self.created += 1;
        self.origins.record(term.clone(), &self.from);
        self.egraph.add(term)
    }

    /// A map; its dtype follows from the operands.
    pub fn map(&mut self, kind: MapKind, operands: &[Id]) -> Id {
        let of = |i: usize| self.egraph[operands[i]].data.dtype;
        let dtype = match kind {
            k if k.is_compare() => DType::Bool,
            MapKind::IsNan | MapKind::IsInf => DType::Bool,
            MapKind::Select => of(1),
            _ => of(0),
        };
        self.term(Kind::Map(kind), dtype, operands.to_vec())
    }

    /// A term with the attributes of another, over other operands.
    pub fn like(&mut self, term: &Term, children: Vec<Id>) -> Id {
        let dtype = match &term.kind {
            Kind::Map(kind) => return self.map(*kind, &children),
            Kind::Cast | Kind::Ein { .. } | Kind::TopK { .. } | Kind::Opaque { .. } => term.dtype,
            Kind::Reduce { kind: ReduceKind::Argmax | ReduceKind::Argmin, .. } => term.dtype,
            // The others move or accumulate what they are given.
            _ => children.first().map_or(term.dtype, |c| self.egraph[*c].data.dtype),
        };
        self.term(term.kind.clone(), dtype, children)
    }

    /// A scalar constant; none if the dtype cannot hold it.
    pub fn number(&mut self, value: f64, dtype: DType) -> Option<Id> {
        let bytes = number::to_bytes(value, dtype)?;
        let id = self.egraph.analysis.add_const(bytes);
        Some(self.term(Kind::Const { id, axes: vec![] }, dtype, vec![]))
    }

    pub fn axes(&self, id: Id) -> &[AxisId] {
        &self.egraph[id].data.axes
    }

    /// The axis along which `parts` are concatenated: that of an earlier concatenation of them, or new.
    pub fn merged_axis(&mut self, parts: &[Id], axis: AxisId, extent: u64) -> AxisId {
        let parts: Vec<Id> = parts.iter().map(|p| self.egraph.find(*p)).collect();
        let known = self.egraph.classes_for_op(&Head::Other("cat")).into_iter().flatten().find_map(|class| {
            self.egraph[class].nodes.iter().find_map(|t| match &t.kind {
                Kind::Concat { from, to }
                    if from.iter().all(|f| *f == Some(axis))
                        && t.children.iter().map(|c| self.egraph.find(*c)).eq(parts.iter().copied()) =>
                {
                    Some(*to)
                }
                _ => None,
            })
        });
        known.unwrap_or_else(|| self.egraph.analysis.add_axis(extent))
    }

    /// A written right side. `like` is the dtype a bare number takes.
    fn side(
        &mut self,
        right: &Pattern,
        pat: &Pat,
        rule: &Compiled,
        m: &Match,
        like: Option<DType>,
    ) -> Option<Id> {
        match pat {
            Pat::Var(v) => Some(rule.var(m, &right.vars[*v])),
            Pat::Number(n) => self.number(*n, like?),
            Pat::Node { head, bind, args } => {
                // Numbers take the dtype of the operand beside them, else of the root.
                let mut children: Vec<Option<Id>> = Vec::new();
                for a in args {
                    let number = matches!(a, Pat::Number(_));
                    children.push(if number { None } else { Some(self.side(right, a, rule, m, like)?) });
                }
                let beside =
                    children.iter().flatten().map(|c| self.egraph[*c].data.dtype).next_back().or(like);
                let root = self.egraph[m.class].data.dtype;
                let children: Option<Vec<Id>> = args
                    .iter()
                    .zip(children)
                    .map(|(a, c)| match (a, c) {
                        (_, Some(c)) => Some(c),
                        (Pat::Number(n), None) => self.number(*n, beside.unwrap_or(root)),
                        _ => None,
                    })
                    .collect();
                let children = children?;
                match (head, bind) {
                    (_, Some(b)) => {
                        let term = rule.term(m, &right.bound[*b]);
                        Some(self.like(term, children))
                    }
                    (PatHead::One(Head::Map(kind)), None) => Some(self.map(*kind, &children)),
                    _ => None,
                }
            }
        }
    }
}
