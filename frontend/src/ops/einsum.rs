//! `Einsum` of one or two operands: sums, transposes and one contraction.
//!
//! ```text
//! bij,bjk->bik   →   nn.contract batch [b] contract [j]
//! ```

use kiln_ir::nn::{ContractDims, ReduceKind};

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Result, Val};

/// `Einsum`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let equation: String = c.required(c.string("equation")?, "equation")?.split_whitespace().collect();
    let inputs = c.all_inputs()?;
    let bad = |why: &str| Diagnostic::new(Code::Attribute, format!("equation {equation:?} {why}"));
    if !equation.is_ascii() || equation.contains('.') {
        return Err(bad("is not handled: no ellipsis is"));
    }
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, right.to_string()),
        None => (&equation[..], implicit_result(&equation)),
    };
    let terms: Vec<Vec<char>> = left.split(',').map(|t| t.chars().collect()).collect();
    let result: Vec<char> = right.chars().collect();
    if terms.len() != inputs.len() || !(1..=2).contains(&terms.len()) {
        return Err(bad("has more operands than are handled, or another number than the node"));
    }
    let mut parts = Vec::new();
    for (i, (term, &v)) in terms.iter().zip(&inputs).enumerate() {
        let repeated = term.iter().enumerate().any(|(at, l)| term[..at].contains(l));
        if term.len() != c.draft.rank(v) || repeated {
            return Err(bad(&format!("does not fit operand {i}, or repeats an index in it")));
        }
        // What only this operand has is summed first.
        let others =
            |l: &char| result.contains(l) || terms.iter().enumerate().any(|(j, t)| j != i && t.contains(l));
        let alone: Vec<usize> = (0..term.len()).filter(|&d| !others(&term[d])).collect();
        let summed = c.draft.reduce(ReduceKind::Sum, v, &alone, Keep::No)?;
        parts.push((summed, term.iter().copied().filter(others).collect::<Vec<char>>()));
    }
    let (product, labels) = match &parts[..] {
        [(v, labels)] => (*v, labels.clone()),
        [a, b] => contracted(c.draft, a, b, &result)?,
        _ => return Err(bad("has no operand")),
    };
    let perm: Option<Vec<usize>> = result.iter().map(|l| labels.iter().position(|m| m == l)).collect();
    let perm = perm.filter(|p| p.len() == labels.len()).ok_or_else(|| bad("names an index of no operand"))?;
    Ok(vec![c.draft.transpose(product, &perm)?])
}

fn contracted(
    d: &mut Draft,
    (a, la): &(Val, Vec<char>),
    (b, lb): &(Val, Vec<char>),
    result: &[char],
) -> Result<(Val, Vec<char>)> {
    let both: Vec<char> = la.iter().copied().filter(|l| lb.contains(l)).collect();
    let at = |labels: &[char], wanted: &[char]| -> Vec<usize> {
        wanted.iter().filter_map(|l| labels.iter().position(|m| m == l)).collect()
    };
    let batch: Vec<char> = both.iter().copied().filter(|l| result.contains(l)).collect();
    let summed: Vec<char> = both.iter().copied().filter(|l| !result.contains(l)).collect();
    let dims = ContractDims {
        lhs_batch: at(la, &batch),
        rhs_batch: at(lb, &batch),
        lhs_contract: at(la, &summed),
        rhs_contract: at(lb, &summed),
    };
    let dtype = d.dtype(*a);
    let product = d.contract(*a, *b, dims, dtype)?;
    let free = |labels: &[char]| labels.iter().copied().filter(|l| !both.contains(l)).collect::<Vec<_>>();
    Ok((product, [batch, free(la), free(lb)].concat()))
}

/// Without an arrow the result has the indices that occur once, in alphabetical order.
fn implicit_result(equation: &str) -> String {
    let mut letters: Vec<char> = equation.chars().filter(char::is_ascii_alphabetic).collect();
    letters.sort_unstable();
    letters.iter().copied().filter(|l| letters.iter().filter(|m| *m == l).count() == 1).collect()
}
