//! Reductions and scans: chains in ascending order, whatever the chunks they come in.

use kiln_machine::isa::{Dims, RedOp, Shape};
use kiln_machine::numerics;

use super::Arg;
use crate::elementwise::{Kept, Role, Scratch, Scratched, each_block, each_chunk, each_part};
use crate::error::TrapKind;
use crate::lane::{OnChip, Place};

/// Fold the marked dims, in ascending order.
pub(crate) fn reduce(
    chip: &mut OnChip,
    op: RedOp,
    dst: Arg<'_>,
    src: Arg<'_>,
    shape: Shape,
    dims: Dims,
    continues: bool,
) -> Result<(), TrapKind> {
    let from = src.place(chip, shape)?;
    let to = dst.place(chip, shape.without(dims))?;
    let kept = Kept::new(shape.n, [0, 1, 2].map(|d| dims.has(d)));
    if matches!(op, RedOp::Argmax | RedOp::Argmin) {
        if continues {
            return Err(TrapKind::Absent("argmax or argmin that continue"));
        }
        return if src.is_integer() {
            arg_reduce::<i32>(chip, op, &to, &from, shape, kept)
        } else {
            arg_reduce::<f32>(chip, op, &to, &from, shape, kept)
        };
    }
    if src.is_integer() {
        fold_as::<i32>(chip, op, shape, &to, &from, kept, continues)
    } else {
        fold_as::<f32>(chip, op, shape, &to, &from, kept, continues)
    }
}

/// Chains that are continued at once, since the steps of one wait for each other.
pub(crate) const TOGETHER: usize = 8;

/// What folds and sorts need of a number.
pub(crate) trait Fold: Scratched {
    /// What a chain of `op` starts from.
    fn start(op: RedOp) -> Self;
    /// Continue a chain by the elements of a row.
    fn fold(op: RedOp, acc: Self, row: &[Self]) -> Self;
    /// Continue several chains by the elements of a row each, all of the same length.
    fn fold_together(op: RedOp, acc: &mut [Self; TOGETHER], rows: [&[Self]; TOGETHER]);
    /// Continue a chain in each element.
    fn fold_each(op: RedOp, acc: &mut [Self], row: &[Self]);
    /// Whether `x` takes the place of `best` in an arg reduction.
    fn arg_replaces(op: RedOp, best: Self, x: Self) -> bool;
    /// The order of [`top_k`].
    fn order(self, other: Self) -> std::cmp::Ordering;
}

/// The arms of a reduction with its operation known, so that the loops in them have no branch.
macro_rules! fold_number {
    ($d:tt $N:ty, $start:path, $step:path, $replaces:expr, $order:expr) => {
        impl Fold for $N {
            fn start(op: RedOp) -> Self {
                $start(op)
            }

            fn fold(op: RedOp, acc: Self, row: &[Self]) -> Self {
                macro_rules! by_op {
                    ($d($op:ident)*) => {
                        match op {
                            $d(RedOp::$op => row.iter().fold(acc, |acc, x| $step(RedOp::$op, acc, *x)),)*
                        }
                    };
                }
                by_op!(Sum Prod Max Min Argmax Argmin)
            }

            fn fold_together(op: RedOp, acc: &mut [Self; TOGETHER], rows: [&[Self]; TOGETHER]) {
                let len = rows[0].len();
                let rows = rows.map(|row| &row[..len]);
                macro_rules! by_op {
                    ($d($op:ident)*) => {
                        match op {
                            $d(RedOp::$op => for i in 0..len {
                                for (acc, row) in acc.iter_mut().zip(rows) {
                                    *acc = $step(RedOp::$op, *acc, row[i]);
                                }
                            })*
                        }
                    };
                }
                by_op!(Sum Prod Max Min Argmax Argmin);
            }

            fn fold_each(op: RedOp, acc: &mut [Self], row: &[Self]) {
                let pairs = acc.iter_mut().zip(row);
                macro_rules! by_op {
                    ($d($op:ident)*) => {
                        match op {
                            $d(RedOp::$op => pairs.for_each(|(acc, x)| *acc = $step(RedOp::$op, *acc, *x)),)*
                        }
                    };
                }
                by_op!(Sum Prod Max Min Argmax Argmin);
            }

            fn arg_replaces(op: RedOp, best: Self, x: Self) -> bool {
                $replaces(op, best, x)
            }

            fn order(self, other: Self) -> std::cmp::Ordering {
                $order(&self, &other)
            }
        }
    };
}
fold_number!(
    $ f32,
    numerics::start_f32,
    numerics::red_f32,
    numerics::arg_replaces_f32,
    |a: &f32, b: &f32| numerics::topk_order(*a, *b)
);
fold_number!(
    $ i32,
    numerics::start_i32,
    numerics::red_i32,
    |op, best, x| if op == RedOp::Argmin { x < best } else { x > best },
    i32::cmp
);

/// Chains of one partition, one for each kept element.
pub(crate) fn fold_rows<N: Fold>(op: RedOp, kept: Kept, start: usize, values: &[N], chains: &mut [N]) {
    kept.rows(start, values.len(), |to, range, moves| {
        let row = &values[range];
        if moves {
            N::fold_each(op, &mut chains[to..to + row.len()], row);
        } else {
            chains[to] = N::fold(op, chains[to], row);
        }
    });
}

/// Chains of runs of `run` elements, the next run of the rows for each.
pub(crate) fn fold_runs<N: Fold>(op: RedOp, run: usize, rows: &[&[N]], chains: &mut [N]) {
    let mut runs = rows.iter().flat_map(|row| row.chunks(run));
    let (together, rest) = chains.as_chunks_mut::<TOGETHER>();
    let nothing: &[N] = &[];
    for chains in together {
        N::fold_together(op, chains, std::array::from_fn(|_| runs.next().unwrap_or(nothing)));
    }
    for (chain, row) in rest.iter_mut().zip(runs) {
        *chain = N::fold(op, *chain, row);
    }
}

fn fold_as<N: Fold>(
    chip: &mut OnChip,
    op: RedOp,
    shape: Shape,
    to: &Place,
    from: &Place,
    kept: Kept,
    continues: bool,
) -> Result<(), TrapKind> {
    let (from, to) = (*from, *to);
    let role = if continues { Role::Update } else { Role::Write };
    let places = [(&from, Role::Read), (&to, role)];
    let (count, run) = (kept.count(), kept.run());
    each_block(chip, shape.parts.into(), &places, TOGETHER, move |reach, block, scratch: &mut Scratch<N>| {
        let mut chains = vec![N::start(op); count * block.len()];
        if continues {
            for (index, chains) in block.clone().zip(chains.chunks_mut(count)) {
                reach.index = index;
                reach.load(&to, 0, chains);
            }
        }
        if let Some(run) = run
            && let Some(rows) = reach.rows(&from, block.clone())
        {
            fold_runs(op, run, &rows, &mut chains);
        } else {
            for (index, chains) in block.clone().zip(chains.chunks_mut(count)) {
                reach.index = index;
                each_chunk(from.elements(), |start, len| {
                    let sources = reach.sources();
                    let x = sources.numbers(&from, start, &mut scratch.x[..len]);
                    fold_rows(op, kept, start, x, chains);
                });
            }
        }
        for (index, chains) in block.zip(chains.chunks(count)) {
            reach.index = index;
            reach.store(&to, 0, chains);
        }
    })
}

fn arg_reduce<N: Fold>(
    chip: &mut OnChip,
    op: RedOp,
    to: &Place,
    from: &Place,
    shape: Shape,
    kept: Kept,
) -> Result<(), TrapKind> {
    let (from, to) = (*from, *to);
    let places = [(&from, Role::Read), (&to, Role::Write)];
    each_part(chip, shape.parts.into(), &places, move |reach, scratch: &mut Scratch<N>| {
        // (best, its index, elements met) of each kept element.
        let mut best = vec![(N::default(), 0i32, 0i32); kept.count()];
        let x = &mut scratch.x;
        each_chunk(from.elements(), |start, len| {
            reach.load(&from, start, &mut x[..len]);
            kept.rows(start, len, |first, range, moves| {
                for (i, x) in x[range].iter().enumerate() {
                    let (best, at, met) = &mut best[if moves { first + i } else { first }];
                    if *met == 0 || N::arg_replaces(op, *best, *x) {
                        (*best, *at) = (*x, *met);
                    }
                    *met += 1;
                }
            });
        });
        let indices: Vec<i32> = best.iter().map(|(_, at, _)| *at).collect();
        reach.store(&to, 0, &indices);
    })
}

/// Options of [`scan`].
#[derive(Clone, Copy)]
pub(crate) struct ScanOrder {
    pub(crate) exclusive: bool,
    pub(crate) reverse: bool,
}

/// Cumulate along the last dim.
pub(crate) fn scan(
    chip: &mut OnChip,
    op: RedOp,
    dst: Arg<'_>,
    src: Arg<'_>,
    carry: Option<Arg<'_>>,
    shape: Shape,
    order: ScanOrder,
) -> Result<(), TrapKind> {
    if matches!(op, RedOp::Argmax | RedOp::Argmin) {
        return Err(TrapKind::Absent("cumulating argmax or argmin"));
    }
    let [from, to] = [src.place(chip, shape)?, dst.place(chip, shape)?];
    let carry = carry.map(|carry| carry.place(chip, shape.without(Dims::of(&[2])))).transpose()?;
    if src.is_integer() {
        scan_as::<i32>(chip, op, &to, &from, carry, shape, order)
    } else {
        scan_as::<f32>(chip, op, &to, &from, carry, shape, order)
    }
}

fn scan_as<N: Fold>(
    chip: &mut OnChip,
    op: RedOp,
    to: &Place,
    from: &Place,
    carry: Option<Place>,
    shape: Shape,
    order: ScanOrder,
) -> Result<(), TrapKind> {
    let [n0, n1, n2] = shape.n.map(|n| n as usize);
    let (from, to) = (*from, *to);
    let carried = carry.as_ref().map(|carry| (carry, Role::Read));
    let places: Vec<_> = [(&from, Role::Read), (&to, Role::Write)].into_iter().chain(carried).collect();
    each_part(chip, shape.parts.into(), &places, move |reach, _: &mut Scratch<N>| {
        let mut row = vec![N::default(); n2];
        for index in 0..n0 * n1 {
            let mut acc = [N::start(op)];
            if let Some(carry) = &carry {
                reach.load(carry, index, &mut acc);
            }
            reach.load(&from, index * n2, &mut row);
            let step = |x: &mut N| {
                let next = N::fold(op, acc[0], std::slice::from_ref(x));
                *x = if order.exclusive { acc[0] } else { next };
                acc[0] = next;
            };
            if order.reverse {
                row.iter_mut().rev().for_each(step)
            } else {
                row.iter_mut().for_each(step)
            }
            reach.store(&to, index * n2, &row);
        }
    })
}
