//! E-graph A, algebra: the named-axis graph under the rule table, and the cheapest equal program.
//!
//! Saturation and extraction are functions of the graph and the options: no clock, no hash order,
//! integer costs.

mod acyclic;
mod apply;
mod cost;
mod extract;
mod facts;
mod pattern;
mod range;
mod rules;
#[cfg(test)]
mod soundness;
mod split;
mod steps;
mod term;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use apply::{Budget, Fired, Log};
pub use cost::Weights;
pub use rules::{RULES, Right, Rule};

use split::Part;

use crate::axes::{Graph, NodeId};
use crate::regions;

/// What a rule may change in the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// Bit-exact.
    E0,
    /// An identity over the reals: roundings may differ, within a stated bound.
    #[default]
    E1,
    /// An intermediate is rounded to a narrower type at another place.
    E2,
    /// A narrower type is used.
    E3,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["e0", "e1", "e2", "e3"][*self as usize])
    }
}

impl FromStr for Grade {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "e0" => Ok(Grade::E0),
            "e1" => Ok(Grade::E1),
            "e2" => Ok(Grade::E2),
            "e3" => Ok(Grade::E3),
            _ => Err(format!("`{s}` is no grade: give e0, e1, e2 or e3")),
        }
    }
}

/// What to optimise for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub grade: Grade,
    pub weights: Weights,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Per rule, how often it fired during saturation.
    pub fired: BTreeMap<&'static str, Fired>,
    pub rounds: u32,
    pub terms: usize,
    pub cost_before: u64,
    pub cost: u64,
    /// No program in the e-graph costs less.
    pub lower_bound: u64,
    /// Bodies that were rewritten once for several instances.
    pub repeated: Vec<Repeated>,
}

/// A repeated region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Nodes of the body as it was.
    pub nodes: usize,
    pub instances: usize,
}

impl Report {
    /// Adds a part that stands `times` in the program; rules fire once for all of them.
    fn add(&mut self, part: Report, times: u64) {
        for (rule, fired) in part.fired {
            let sum = self.fired.entry(rule).or_default();
            sum.times += fired.times;
            sum.terms += fired.terms;
            sum.refused_cycle += fired.refused_cycle;
        }
        self.rounds = self.rounds.max(part.rounds);
        self.terms += part.terms;
        self.cost_before += part.cost_before * times;
        self.cost += part.cost * times;
        self.lower_bound += part.lower_bound * times;
    }
}

/// A fault of ours, never of the model.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AlgebraError {
    #[error("rule table: {0}")]
    Table(String),
    #[error("extraction found no finite term for class {0}")]
    Extraction(usize),
    #[error("rule `{rule}` equates values of different types: {detail}")]
    Unsound { rule: &'static str, detail: String },
    #[error(transparent)]
    Ir(#[from] kiln_ir::IrError),
}

/// Rewrites a graph; each body that it repeats once.
///
/// # Errors
/// Internal faults only.
pub fn optimise(graph: &Graph, options: Options) -> Result<(Graph, Report), AlgebraError> {
    let rules = compile_rules()?;
    let regions = regions::find(graph);
    if !regions.is_empty()
        && let Some(done) = split::optimise(graph, &regions, &rules, options)?
    {
        return Ok(done);
    }
    rewrite(&Part::whole(graph), &rules, options)
}

/// Rewrites one part of a program.
fn rewrite(
    part: &Part,
    rules: &[apply::Compiled],
    options: Options,
) -> Result<(Graph, Report), AlgebraError> {
    let graph = &part.graph;
    let mut program = term::load(part);
    let cost_before = cost_of(graph, &program, options.weights);
    let n = graph.nodes.len() as u32;
    let budget = Budget { rounds: 12, terms_per_rule: 2 * n + 200, matches_per_class: 64 };
    let class_of = |id: &NodeId| program.classes[id.0 as usize];
    let exact: Vec<egg::Id> = part.exact.iter().map(class_of).collect();
    let log = apply::saturate(&mut program, rules, options.grade, budget, &exact);
    if let Some((rule, detail)) = log.unsound {
        return Err(AlgebraError::Unsound { rule, detail });
    }
    let roots: Vec<egg::Id> =
        graph.outputs.iter().map(|p| program.egraph.find(program.classes[p.node.0 as usize])).collect();
    let class = |id: egg::Id| AlgebraError::Extraction(id.into());
    // Later nodes of one class first, so that the earliest has the last word.
    let own: Vec<(egg::Id, term::Term)> = graph
        .nodes
        .iter()
        .zip(&program.classes)
        .rev()
        .map(|(node, class)| {
            let children = node.operands.iter().map(|o| program.classes[o.0 as usize]).collect();
            (*class, term::Term { kind: node.kind.clone(), dtype: node.dtype, children })
        })
        .collect();
    let found =
        extract::extract(&program.egraph, &roots, &own, &log.joint, options.weights).map_err(class)?;
    let out = term::unload(graph, &program, &|id| found.choice.get(&id).cloned()).map_err(class)?;
    let report = Report {
        fired: log.fired,
        rounds: log.rounds,
        terms: program.egraph.total_size(),
        cost_before,
        cost: found.cost,
        lower_bound: found.lower_bound,
        repeated: Vec::new(),
    };
    Ok((out, report))
}

/// The cost of a graph as it stands.
fn cost_of(graph: &Graph, program: &term::Program, weights: Weights) -> u64 {
    let needed: std::collections::BTreeSet<egg::Id> = {
        let mut live = vec![false; graph.nodes.len()];
        let mut stack: Vec<NodeId> = graph.outputs.iter().map(|p| p.node).collect();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut live[id.0 as usize], true) {
                stack.extend(&graph.node(id).operands);
            }
        }
        live.iter().zip(&program.classes).filter(|(l, _)| **l).map(|(_, c)| program.egraph.find(*c)).collect()
    };
    let egraph = &program.egraph;
    needed.into_iter().map(|c| cost::own_cost(egraph, c, &egraph[c].nodes[0], weights)).sum()
}

fn compile_rules() -> Result<Vec<apply::Compiled>, AlgebraError> {
    RULES.iter().map(|r| apply::Compiled::new(r).map_err(AlgebraError::Table)).collect()
}

/// Rewrites function `main` of a module.
///
/// # Errors
/// Internal faults only.
pub fn run(module: &mut kiln_ir::Module, options: Options) -> Result<Report, AlgebraError> {
    let func = module.func("main")?;
    let graph = crate::axes::from_nn(&func);
    let (graph, report) = optimise(&graph, options)?;
    crate::axes::replace(module, &func, &graph)?;
    Ok(report)
}
