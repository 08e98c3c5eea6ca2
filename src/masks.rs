//! What constant masks exclude: shares of a value's elements that no program has to compute, because a constant
//! says that they are −∞ or 0 or that nobody reads them.
//!
//! A share is an upper bound of what is needed, so that a bound counted with it stays one. Inputs are taken to be
//! finite: zero times an infinity is not waited for.

use std::rc::Rc;

use kiln_ir::{
    eval::{Array, Files, array::Data, nn::eval_op},
    nn::{Func, MapKind, OpKind, ValueId},
    types::TensorType,
};

/// Larger constants than this many elements are not looked into.
const MOST_ELEMENTS: usize = 1 << 21;
/// Scores below this have no weight beside any that a mask leaves.
const DARK: f32 = -1e30;

/// A part of the elements of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    pub const ALL: Share = Share { part: 1, whole: 1 };
    pub const NONE: Share = Share { part: 0, whole: 1 };

    fn min(self, other: Share) -> Share {
        if self.is_below(other) { self } else { other }
    }

    fn max(self, other: Share) -> Share {
        if self.is_below(other) { other } else { self }
    }

    fn is_below(self, other: Share) -> bool {
        (self.part as u128) * (other.whole as u128) < (other.part as u128) * (self.whole as u128)
    }

    fn rest(self) -> Share {
        Share { part: self.whole - self.part, whole: self.whole }
    }

    /// So many of `elements`, rounded down.
    pub fn of(self, elements: u64) -> u64 {
        ((elements as u128) * (self.part as u128) / (self.whole as u128)) as u64
    }
}

/// What is known of a value's elements.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    /// At most this share is true, at least `sure` is: of masks.
    lit: Share,
    sure: Share,
    /// At most this share is not −∞.
    open: Share,
    /// At most this share is not 0.
    nonzero: Share,
}

const NOTHING: Known = Known { lit: Share::ALL, sure: Share::NONE, open: Share::ALL, nonzero: Share::ALL };

/// Shares of a function's values.
pub struct Masks {
    known: Vec<Known>,
    wanted: Vec<Share>,
}

impl Masks {
    pub fn of(func: &Func) -> Masks {
        let mut reader = Reader::new(func);
        let mut known = vec![NOTHING; func.value_count()];
        for op in &func.ops {
            let result = op.results[0];
            known[result.index()] = if reader.constant[result.index()] {
                // Looked into where a map reads it.
                NOTHING
            } else {
                let operands: Vec<Known> =
                    op.operands.iter().map(|v| reader.known(*v, &known, &op.kind)).collect();
                made(&op.kind, &operands)
            };
        }
        let mut wanted = vec![Share::NONE; func.value_count()];
        func.results.iter().for_each(|(v, _)| wanted[v.index()] = Share::ALL);
        for op in func.ops.iter().rev() {
            let asked = op.results.iter().map(|r| wanted[r.index()]).fold(Share::NONE, Share::max);
            let of = |i: usize, reader: &mut Reader| reader.known(op.operands[i], &known, &op.kind);
            for (i, operand) in op.operands.iter().enumerate() {
                let share = match &op.kind {
                    OpKind::Map { kind: MapKind::Select } if i == 1 => asked.min(of(0, &mut reader).lit),
                    OpKind::Map { kind: MapKind::Select } if i == 2 => {
                        asked.min(of(0, &mut reader).sure.rest())
                    }
                    OpKind::Map { kind: MapKind::Add } => asked.min(of(1 - i, &mut reader).open),
                    OpKind::Map { .. }
                    | OpKind::Cast { .. }
                    | OpKind::Reshape { .. }
                    | OpKind::Transpose { .. } => asked,
                    _ if asked == Share::NONE => asked,
                    _ => Share::ALL,
                };
                wanted[operand.index()] = wanted[operand.index()].max(share);
            }
        }
        Masks { known, wanted }
    }

    /// The share of `v` that must be computed where it is made.
    pub fn computed(&self, v: ValueId) -> Share {
        let known = &self.known[v.index()];
        self.wanted[v.index()].min(known.open).min(known.nonzero)
    }

    /// The share of products with `v` that are not 0.
    pub fn nonzero(&self, v: ValueId) -> Share {
        self.known[v.index()].nonzero
    }
}

/// What the operands tell of the result.
fn made(kind: &OpKind, of: &[Known]) -> Known {
    use MapKind::*;
    let kind = match kind {
        OpKind::Map { kind } => *kind,
        OpKind::Cast { .. }
        | OpKind::Reshape { .. }
        | OpKind::Transpose { .. }
        | OpKind::Broadcast { .. } => {
            return of[0];
        }
        _ => return NOTHING,
    };
    match kind {
        And => Known { lit: of[0].lit.min(of[1].lit), ..NOTHING },
        Or => Known { sure: of[0].sure.max(of[1].sure), ..NOTHING },
        Not => Known { lit: of[0].sure.rest(), sure: of[0].lit.rest(), ..NOTHING },
        Select => {
            let (mask, a, b) = (of[0], of[1], of[2]);
            let chosen = |a: Share, b: Share| match (a, b) {
                (a, b) if b.part == 0 => mask.lit.min(a),
                (a, b) if a.part == 0 => mask.sure.rest().min(b),
                _ => Share::ALL,
            };
            Known { open: chosen(a.open, b.open), nonzero: chosen(a.nonzero, b.nonzero), ..NOTHING }
        }
        Add => Known { open: of[0].open.min(of[1].open), ..NOTHING },
        Sub => Known { open: of[0].open, ..NOTHING },
        Exp => Known { nonzero: of[0].open, ..NOTHING },
        Mul => Known { nonzero: of[0].nonzero.min(of[1].nonzero), ..NOTHING },
        Div => Known { nonzero: of[0].nonzero, ..NOTHING },
        _ => NOTHING,
    }
}

/// Evaluates constants where they are asked for.
struct Reader<'f> {
    func: &'f Func,
    producers: Vec<Option<usize>>,
    /// Depends on neither inputs nor weights.
    constant: Vec<bool>,
    arrays: Vec<Option<Option<Rc<Array>>>>,
    counted: Vec<Option<Known>>,
}

impl<'f> Reader<'f> {
    fn new(func: &'f Func) -> Self {
        let mut constant = vec![false; func.value_count()];
        for op in &func.ops {
            let all =
                !matches!(op.kind, OpKind::Weight { .. }) && op.operands.iter().all(|v| constant[v.index()]);
            op.results.iter().for_each(|r| constant[r.index()] = all);
        }
        let n = func.value_count();
        Reader { func, producers: func.producers(), constant, arrays: vec![None; n], counted: vec![None; n] }
    }

    /// What is known of `v` where an op of `kind` reads it.
    fn known(&mut self, v: ValueId, computed: &[Known], kind: &OpKind) -> Known {
        use MapKind::*;
        if !self.constant[v.index()] {
            return computed[v.index()];
        }
        match kind {
            OpKind::Map { kind: And | Or | Not | Select | Add | Mul } => self.counted(v),
            _ => NOTHING,
        }
    }

    fn counted(&mut self, v: ValueId) -> Known {
        if let Some(known) = self.counted[v.index()] {
            return known;
        }
        let op = self.producers[v.index()].map(|at| &self.func.ops[at]);
        let known = match op {
            Some(op) if is_rearranged(&op.kind) => self.counted(op.operands[0]),
            _ => self.array(v).map_or(NOTHING, |array| count(&array)),
        };
        self.counted[v.index()] = Some(known);
        known
    }

    fn array(&mut self, v: ValueId) -> Option<Rc<Array>> {
        if let Some(known) = &self.arrays[v.index()] {
            return known.clone();
        }
        let func = self.func;
        let op = &func.ops[self.producers[v.index()]?];
        let types: Vec<&TensorType> = op.results.iter().map(|r| func.ty(*r)).collect();
        let array = if types.iter().all(|ty| ty.elements() <= MOST_ELEMENTS) && op.results.len() == 1 {
            let operands: Option<Vec<Rc<Array>>> = op.operands.iter().map(|o| self.array(*o)).collect();
            operands.and_then(|operands| {
                let operands: Vec<&Array> = operands.iter().map(Rc::as_ref).collect();
                eval_op(op, &operands, &types, &Files::default()).ok()?.pop().map(Rc::new)
            })
        } else {
            None
        };
        self.arrays[v.index()] = Some(array.clone());
        array
    }
}

/// Every element of the operand stands equally often in the result.
fn is_rearranged(kind: &OpKind) -> bool {
    matches!(kind, OpKind::Broadcast { .. } | OpKind::Reshape { .. } | OpKind::Transpose { .. })
}

fn count(array: &Array) -> Known {
    let whole = array.elements().max(1) as u64;
    let share = |part: usize| Share { part: part as u64, whole };
    match &array.data {
        Data::F32(v) => Known {
            open: share(v.iter().filter(|x| **x > DARK || x.is_nan()).count()),
            nonzero: share(v.iter().filter(|x| **x != 0.0).count()),
            ..NOTHING
        },
        Data::Int(v) => {
            let lit = share(v.iter().filter(|x| **x != 0).count());
            Known { lit, sure: lit, nonzero: lit, ..NOTHING }
        }
        Data::F64(_) => NOTHING,
    }
}
