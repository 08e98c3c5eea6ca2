//! Intervals of integer values: what shows that int64 fits the device's 32 bits, and that an index is legal.

use kiln_ir::nn::{MapKind, OpKind, ReduceKind, ScanKind};
use kiln_ir::types::TensorType;
use kiln_machine::tensor::{DType, Tensor};

use super::{Def, Draft, Val};
use crate::fold::{self, is_float};

/// An inclusive interval; wide enough that sums and products of two 64-bit bounds cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Least value.
    pub lo: i128,
    /// Greatest value.
    pub hi: i128,
}

impl Range {
    /// What a float has: nothing is known of it.
    pub const ANY: Range = Range { lo: i64::MIN as i128, hi: i64::MAX as i128 };

    /// The interval from `lo` to `hi`.
    pub fn new(lo: i64, hi: i64) -> Range {
        Range { lo: lo.into(), hi: hi.into() }
    }

    /// All values that the device can hold of `dtype`.
    pub fn of_dtype(dtype: DType) -> Range {
        match dtype {
            DType::Bool => Range::new(0, 1),
            DType::I8 => Range::new(i8::MIN.into(), i8::MAX.into()),
            DType::U8 => Range::new(0, u8::MAX.into()),
            DType::I16 => Range::new(i16::MIN.into(), i16::MAX.into()),
            DType::U16 => Range::new(0, u16::MAX.into()),
            DType::U32 => Range::new(0, u32::MAX.into()),
            DType::I32 | DType::I64 => Range::new(i32::MIN.into(), i32::MAX.into()),
            DType::U64 => Range::new(0, i32::MAX.into()),
            _ => Range::ANY,
        }
    }

    /// The least and greatest element.
    pub fn of_known(tensor: &Tensor) -> Range {
        match fold::ints(tensor) {
            Some(values) if !values.is_empty() => Range::new(
                values.iter().copied().min().unwrap_or(0),
                values.iter().copied().max().unwrap_or(0),
            ),
            Some(_) => Range::new(0, 0),
            None => Range::ANY,
        }
    }

    /// True when every value of `self` is one of `other`.
    pub fn is_within(self, other: Range) -> bool {
        self.lo >= other.lo && self.hi <= other.hi
    }

    /// The values of both; `other`'s nearest when they have none in common.
    pub fn intersect(self, other: Range) -> Range {
        Range { lo: self.lo.clamp(other.lo, other.hi), hi: self.hi.clamp(other.lo, other.hi) }
    }

    fn hull(self, other: Range) -> Range {
        Range { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    fn corners(self, other: Range, f: impl Fn(i128, i128) -> i128) -> Range {
        let values = [f(self.lo, other.lo), f(self.lo, other.hi), f(self.hi, other.lo), f(self.hi, other.hi)];
        let (mut lo, mut hi) = (values[0], values[0]);
        for v in values {
            (lo, hi) = (lo.min(v), hi.max(v));
        }
        Range { lo, hi }
    }

    fn add(self, other: Range) -> Range {
        Range { lo: self.lo.saturating_add(other.lo), hi: self.hi.saturating_add(other.hi) }
    }

    fn neg(self) -> Range {
        Range { lo: -self.hi, hi: -self.lo }
    }

    fn abs(self) -> Range {
        let hi = self.lo.abs().max(self.hi.abs());
        let lo = if self.lo <= 0 && self.hi >= 0 { 0 } else { self.lo.abs().min(self.hi.abs()) };
        Range { lo, hi }
    }

    fn times(self, n: usize) -> Range {
        let n = n as i128;
        Range { lo: self.lo.saturating_mul(n).min(0), hi: self.hi.saturating_mul(n).max(0) }
    }
}

impl Draft {
    /// The interval of an op's result. Narrower types wrap, as in ONNX; what may not fit the 32 bits in which the
    /// device holds an int64 has an interval that says so.
    pub(super) fn result_range(&self, kind: &OpKind, operands: &[Val], ty: &TensorType) -> Range {
        if is_float(ty.dtype) {
            return Range::ANY;
        }
        let exact = self.exact_range(kind, operands, ty);
        if exact.is_within(Range::of_dtype(ty.dtype)) {
            return exact;
        }
        match ty.dtype {
            DType::I64 => exact.intersect(Range::ANY),
            DType::U64 => Range { lo: 0, hi: u64::MAX.into() },
            narrow => Range::of_dtype(narrow),
        }
    }

    fn exact_range(&self, kind: &OpKind, operands: &[Val], ty: &TensorType) -> Range {
        let of = |i: usize| self.range(operands[i]);
        let wide = Range::of_dtype(ty.dtype);
        // What no rule bounds: all that the dtype holds.
        let any = match ty.dtype {
            DType::I64 | DType::U64 => Range::ANY,
            _ => wide,
        };
        match kind {
            OpKind::Map { kind } => self.map_range(*kind, operands).unwrap_or(any),
            OpKind::Cast { dtype } => match (is_float(self.dtype(operands[0])), dtype) {
                (_, DType::Bool) => Range::new(0, 1),
                // ONNX leaves what does not fit undefined.
                (true, _) => wide,
                // Narrowing wraps, except that int64 was never more than 32 bits here.
                (false, _) => {
                    if of(0).is_within(wide) {
                        of(0)
                    } else {
                        wide
                    }
                }
            },
            OpKind::Contract { dims, .. } => {
                let shape = self.shape(operands[0]);
                let k: usize = dims.lhs_contract.iter().map(|&d| shape[d]).product();
                of(0).corners(of(1), |a, b| a.saturating_mul(b)).times(k)
            }
            OpKind::Reduce { kind, axes } => {
                let shape = self.shape(operands[0]);
                let n: usize = axes.iter().map(|&a| shape[a]).product();
                match kind {
                    ReduceKind::Sum => of(0).times(n),
                    ReduceKind::Max | ReduceKind::Min => of(0),
                    ReduceKind::Prod => any,
                    ReduceKind::Argmax | ReduceKind::Argmin => Range::new(0, n.max(1) as i64 - 1),
                }
            }
            OpKind::Pad { value, .. } => {
                let fill = value.as_f64() as i64;
                of(0).hull(Range::new(fill, fill))
            }
            OpKind::Concat { .. } => {
                operands.iter().map(|&v| self.range(v)).reduce(Range::hull).unwrap_or(wide)
            }
            OpKind::Iota { axis, .. } => Range::new(0, ty.shape[*axis].max(1) as i64 - 1),
            OpKind::Scan { kind: ScanKind::Sum, axis, .. } => of(0).times(ty.shape[*axis]),
            OpKind::Scan { kind: ScanKind::Prod, .. } => any,
            OpKind::Scan { kind: ScanKind::Max, .. } => of(0).hull(Range::new(0, 0)),
            OpKind::ScatterNd { reduction } | OpKind::ScatterElements { reduction, .. } => match reduction {
                kiln_ir::nn::ScatterReduction::None
                | kiln_ir::nn::ScatterReduction::Max
                | kiln_ir::nn::ScatterReduction::Min => of(0).hull(of(2)),
                _ => any,
            },
            // Of `nn.topk` the second result, an index, shares this: the hull holds both.
            OpKind::TopK { axis, .. } => {
                let index = Range::new(0, self.shape(operands[0])[*axis].max(1) as i64 - 1);
                if is_float(self.dtype(operands[0])) { index } else { of(0).hull(index) }
            }
            OpKind::Reshape { .. }
            | OpKind::Transpose { .. }
            | OpKind::Broadcast { .. }
            | OpKind::Slice { .. }
            | OpKind::Reverse { .. }
            | OpKind::Gather { .. }
            | OpKind::GatherNd { .. }
            | OpKind::GatherElements { .. } => of(0),
            _ => wide,
        }
    }

    fn map_range(&self, kind: MapKind, operands: &[Val]) -> Option<Range> {
        let a = self.range(operands[0]);
        let b = operands.get(1).map_or(a, |&v| self.range(v));
        Some(match kind {
            k if k.is_compare() => Range::new(0, 1),
            MapKind::IsNan | MapKind::IsInf => Range::new(0, 1),
            MapKind::Add => a.add(b),
            MapKind::Sub => a.add(b.neg()),
            MapKind::Mul => a.corners(b, i128::saturating_mul),
            MapKind::Square => Range { lo: 0, hi: a.abs().hi.saturating_mul(a.abs().hi) },
            MapKind::Div => {
                let most = a.abs().hi;
                // Truncation brings a quotient nearer to zero, never past it.
                Range { lo: if a.lo >= 0 && b.lo >= 0 { 0 } else { -most }, hi: most }
            }
            MapKind::Mod if b.lo > 0 => Range { lo: 0, hi: b.hi - 1 },
            MapKind::Mod | MapKind::Fmod => {
                let most = (b.abs().hi - 1).max(0);
                Range { lo: -most, hi: most }
            }
            MapKind::Max => Range { lo: a.lo.max(b.lo), hi: a.hi.max(b.hi) },
            MapKind::Min => Range { lo: a.lo.min(b.lo), hi: a.hi.min(b.hi) },
            MapKind::Neg => a.neg(),
            MapKind::Abs => a.abs(),
            MapKind::Sign => Range::new(-1, 1),
            MapKind::Relu => Range { lo: a.lo.max(0), hi: a.hi.max(0) },
            MapKind::Identity => a,
            MapKind::Select => b.hull(self.range(operands[2])),
            MapKind::And if a.lo >= 0 && b.lo >= 0 => Range { lo: 0, hi: a.hi.min(b.hi) },
            _ => return None,
        })
    }

    /// `v` with the promise that its values lie in `range`.
    pub(crate) fn assume(&mut self, v: Val, range: Range) -> Val {
        let mut slot = self.slot(v).clone();
        slot.range = slot.range.intersect(range);
        self.slots.push(slot);
        Val((self.slots.len() - 1) as u32)
    }

    /// Notes that `index` must lie in `wanted`: an input that is that index, but for views, gets this range.
    pub(crate) fn demand(&mut self, index: Val, wanted: Range) {
        let mut v = index;
        loop {
            match &self.slot(v).def {
                Def::Input(position) => {
                    let position = *position;
                    let known = self.demands.get(&position).copied().unwrap_or(self.range(v));
                    self.demands.insert(position, known.intersect(wanted));
                    return;
                }
                Def::Op { op, .. } if keeps_values(&self.ops[*op].kind) => v = self.ops[*op].operands[0],
                _ => return,
            }
        }
    }
}

/// Ops whose every result element is an element of the operand, and each element of it is used.
fn keeps_values(kind: &OpKind) -> bool {
    matches!(
        kind,
        OpKind::Reshape { .. } | OpKind::Transpose { .. } | OpKind::Broadcast { .. } | OpKind::Reverse { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_every_result() {
        let (a, b) = (Range::new(-3, 5), Range::new(2, 4));
        assert_eq!(a.add(b), Range::new(-1, 9));
        assert_eq!(a.corners(b, i128::saturating_mul), Range::new(-12, 20));
        assert_eq!(a.abs(), Range::new(0, 5));
        assert_eq!(Range::new(-7, -2).abs(), Range::new(2, 7));
        assert_eq!(a.times(3), Range::new(-9, 15));
        assert_eq!(Range::new(2, 3).times(0), Range::new(0, 0));
    }
}
