//! `Einsum`: sums, diagonals, transposes and one contraction for each further operand.
//!
//! ```text
//! bij,bjk->bik   →   nn.contract batch [b] contract [j]
//! ```

use kiln_ir::nn::{ContractDims, MapKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Keep, Result, Val};

/// An index of the equation: a letter, or a dim of the ellipsis counted from its right end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// A value with the label of each dim.
type Term = (Val, Vec<Label>);

/// `Einsum`.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let equation: String = c.required(c.string("equation")?, "equation")?.split_whitespace().collect();
    let inputs = c.all_inputs()?;
    let bad = |why: &str| Diagnostic::new(Code::Attribute, format!("equation {equation:?} {why}"));
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (&equation[..], None),
    };
    let texts: Vec<&str> = left.split(',').collect();
    if texts.len() != inputs.len() || inputs.is_empty() {
        return Err(bad("has another number of operands than the node"));
    }
    let mut terms: Vec<Term> = Vec::new();
    for (i, (text, &v)) in texts.iter().zip(&inputs).enumerate() {
        let rank = c.draft.rank(v);
        let labels = labels(text, rank).ok_or_else(|| bad(&format!("does not fit operand {i}")))?;
        terms.push(diagonal(c.draft, v, labels)?);
    }
    let widest = terms.iter().flat_map(|(_, l)| l).filter(|l| matches!(l, Label::Ellipsis(_))).max().copied();
    let dims = widest.map_or(0, |l| if let Label::Ellipsis(n) = l { n + 1 } else { 0 });
    let result = match right {
        Some(right) => {
            let letters = right.chars().filter(char::is_ascii_alphabetic).count();
            let rank = letters + if right.contains("...") { dims } else { 0 };
            labels(right, rank).ok_or_else(|| bad("has a result that is no term"))?
        }
        None => implicit_result(left, dims),
    };
    drop_ones(c.draft, &mut terms)?;
    let mut left = terms.into_iter();
    let mut product = left.next().ok_or_else(|| bad("has no operand"))?;
    let rest: Vec<Term> = left.collect();
    for (i, term) in rest.iter().enumerate() {
        let wanted = |l: &Label| result.contains(l) || rest[i + 1..].iter().any(|(_, t)| t.contains(l));
        product = contracted(c.draft, &product, term, &wanted)?;
    }
    product = summed(c.draft, &product, &|l| result.contains(l))?;
    let (value, labels) = product;
    // Dims of extent 1 were dropped on the way.
    let known: Vec<Label> = result.iter().copied().filter(|l| labels.contains(l)).collect();
    let perm: Vec<usize> = known.iter().filter_map(|l| labels.iter().position(|m| m == l)).collect();
    let unknown = result.iter().any(|l| !texts.iter().any(|t| mentions(t, *l)));
    let twice = (1..result.len()).any(|i| result[..i].contains(&result[i]));
    if unknown || twice || perm.len() != labels.len() {
        return Err(bad("names an index of no operand, or one twice, in its result"));
    }
    let y = c.draft.transpose(value, &perm)?;
    let mut extents = c.draft.shape(y).to_vec().into_iter();
    let shape: Vec<usize> =
        result.iter().map(|l| if labels.contains(l) { extents.next().unwrap_or(1) } else { 1 }).collect();
    Ok(vec![c.draft.reshape(y, &shape)?])
}

fn mentions(text: &str, label: Label) -> bool {
    match label {
        Label::Ellipsis(_) => text.contains("..."),
        Label::Letter(l) => text.contains(l),
    }
}

/// The labels of a term of `rank` dims; none when it does not fit.
fn labels(text: &str, rank: usize) -> Option<Vec<Label>> {
    let letters = |part: &str| -> Option<Vec<Label>> {
        part.chars().map(|l| l.is_ascii_alphabetic().then_some(Label::Letter(l))).collect()
    };
    let Some((before, after)) = text.split_once("...") else {
        return letters(text).filter(|l| l.len() == rank);
    };
    let (before, after) = (letters(before)?, letters(after)?);
    let dims = rank.checked_sub(before.len() + after.len())?;
    let ellipsis: Vec<Label> = (0..dims).rev().map(Label::Ellipsis).collect();
    Some([before, ellipsis, after].concat())
}

/// An index that stands twice in a term: the elements where both dims agree.
fn diagonal(d: &mut Draft, mut v: Val, mut labels: Vec<Label>) -> Result<Term> {
    while let Some(second) = (1..labels.len()).find(|&i| labels[..i].contains(&labels[i])) {
        let first = labels.iter().position(|l| *l == labels[second]).unwrap_or(second);
        let shape = d.shape(v).to_vec();
        if shape[first] != shape[second] {
            return Err(Diagnostic::new(Code::Shape, format!("{shape:?} has no diagonal")));
        }
        let index = |d: &mut Draft, axis: usize| -> Result<Val> {
            let mut along = vec![1; shape.len()];
            along[axis] = shape[axis];
            d.iota(&along, axis, DType::I32)
        };
        let (row, column) = (index(d, first)?, index(d, second)?);
        let on = d.map2(MapKind::Eq, row, column)?;
        let zero = d.scalar(0.0, d.dtype(v));
        let kept = d.select(on, v, zero)?;
        v = d.reduce(ReduceKind::Sum, kept, &[second], Keep::No)?;
        labels.remove(second);
    }
    Ok((v, labels))
}

/// Dims of extent 1 that have another extent elsewhere are broadcast: the term does without them.
fn drop_ones(d: &mut Draft, terms: &mut [Term]) -> Result<()> {
    let extent = |d: &Draft, t: &Term, l: &Label| t.1.iter().position(|m| m == l).map(|i| d.shape(t.0)[i]);
    for i in 0..terms.len() {
        let wide = |l: &Label| terms.iter().any(|t| extent(d, t, l).is_some_and(|n| n != 1));
        let (v, labels) = &terms[i];
        let shape = d.shape(*v).to_vec();
        let kept: Vec<usize> = (0..labels.len()).filter(|&j| shape[j] != 1 || !wide(&labels[j])).collect();
        if kept.len() < labels.len() {
            let labels = kept.iter().map(|&j| labels[j]).collect();
            let shape: Vec<usize> = kept.iter().map(|&j| shape[j]).collect();
            terms[i] = (d.reshape(*v, &shape)?, labels);
        }
    }
    Ok(())
}

/// The term without the dims that nobody wants.
fn summed(d: &mut Draft, (v, labels): &Term, wanted: &dyn Fn(&Label) -> bool) -> Result<Term> {
    let alone: Vec<usize> = (0..labels.len()).filter(|&i| !wanted(&labels[i])).collect();
    let sum = d.reduce(ReduceKind::Sum, *v, &alone, Keep::No)?;
    Ok((sum, labels.iter().copied().filter(wanted).collect()))
}

fn contracted(d: &mut Draft, a: &Term, b: &Term, wanted: &dyn Fn(&Label) -> bool) -> Result<Term> {
    // What only one of them has is summed first.
    let (a, b) =
        (summed(d, a, &|l| wanted(l) || b.1.contains(l))?, summed(d, b, &|l| wanted(l) || a.1.contains(l))?);
    let ((va, la), (vb, lb)) = (&a, &b);
    let both: Vec<Label> = la.iter().copied().filter(|l| lb.contains(l)).collect();
    let at = |labels: &[Label], wanted: &[Label]| -> Vec<usize> {
        wanted.iter().filter_map(|l| labels.iter().position(|m| m == l)).collect()
    };
    let (batch, sums): (Vec<Label>, Vec<Label>) = both.iter().partition(|l| wanted(l));
    let dims = ContractDims {
        lhs_batch: at(la, &batch),
        rhs_batch: at(lb, &batch),
        lhs_contract: at(la, &sums),
        rhs_contract: at(lb, &sums),
    };
    let dtype = d.dtype(*va);
    let product = d.contract(*va, *vb, dims, dtype)?;
    let free = |labels: &[Label]| labels.iter().copied().filter(|l| !both.contains(l)).collect::<Vec<_>>();
    Ok((product, [batch, free(la), free(lb)].concat()))
}

/// Without an arrow the result has the ellipsis, then the indices that occur once, in alphabetical order.
fn implicit_result(equation: &str, dims: usize) -> Vec<Label> {
    let mut letters: Vec<char> = equation.chars().filter(char::is_ascii_alphabetic).collect();
    letters.sort_unstable();
    let once = |l: &char| letters.iter().filter(|m| *m == l).count() == 1;
    let ellipsis = (0..dims).rev().map(Label::Ellipsis);
    ellipsis.chain(letters.iter().copied().filter(once).map(Label::Letter)).collect()
}
