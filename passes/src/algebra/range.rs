//! Value ranges: what an element can be.

use kiln_ir::DType;
use kiln_ir::nn::MapKind;
use kiln_ir::types::is_float;

/// Every element that is no NaN lies in `lo..=hi`; `nan` says whether one may be NaN.
/// Bounds are kept outward of rounding, so a strict bound is never claimed of a rounded result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub lo: f64,
    pub hi: f64,
    pub nan: bool,
}

impl Range {
    /// Anything the dtype can hold.
    pub fn all(dtype: DType) -> Self {
        let between = Range::between;
        match dtype {
            DType::Bool => between(0.0, 1.0),
            DType::I8 => between(-128.0, 127.0),
            DType::U8 => between(0.0, 255.0),
            DType::I16 => between(-32768.0, 32767.0),
            DType::U16 => between(0.0, 65535.0),
            DType::I32 => between(-2147483648.0, 2147483647.0),
            DType::U32 => between(0.0, 4294967295.0),
            DType::I64 => between(i64::MIN as f64, i64::MAX as f64),
            DType::U64 => between(0.0, u64::MAX as f64),
            _ => Range { lo: f64::NEG_INFINITY, hi: f64::INFINITY, nan: true },
        }
    }

    pub fn between(lo: f64, hi: f64) -> Self {
        Range { lo, hi, nan: false }
    }

    pub fn point(n: f64) -> Self {
        if n.is_nan() { Range { lo: 0.0, hi: 0.0, nan: true } } else { Range::between(n, n) }
    }

    /// The least range of some elements; none when one is unknown or there is none.
    pub fn hull(elements: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let mut range: Option<Range> = None;
        for e in elements {
            let p = Range::point(e?);
            range = Some(range.map_or(p, |r| r.join(p)));
        }
        range
    }

    pub fn join(self, other: Range) -> Self {
        Range { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi), nan: self.nan || other.nan }
    }

    /// Both hold.
    pub fn meet(self, other: Range) -> Self {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        // Two terms of a class may differ by a rounding: an empty range would claim too much.
        if lo > hi { self } else { Range { lo, hi, nan: self.nan && other.nan } }
    }

    /// No NaN, no infinity.
    pub fn is_finite(self) -> bool {
        !self.nan && self.lo > f64::NEG_INFINITY && self.hi < f64::INFINITY
    }

    fn has_infinity(self) -> bool {
        self.lo == f64::NEG_INFINITY || self.hi == f64::INFINITY
    }

    fn has_zero(self) -> bool {
        self.lo <= 0.0 && self.hi >= 0.0
    }

    /// The sum of `n` elements.
    pub fn sum(self, n: f64) -> Self {
        let both = self.lo == f64::NEG_INFINITY && self.hi == f64::INFINITY;
        Range {
            lo: if self.lo >= 0.0 { self.lo } else { self.lo * n },
            hi: if self.hi <= 0.0 { self.hi } else { self.hi * n },
            nan: self.nan || both,
        }
    }

    /// Bounds past what f32 holds are infinite; rounding may reach the next float.
    pub fn rounded(self) -> Self {
        let max = f32::MAX as f64;
        Range {
            lo: if self.lo < -max { f64::NEG_INFINITY } else { self.lo },
            hi: if self.hi > max { f64::INFINITY } else { self.hi },
            nan: self.nan,
        }
    }

    /// An integer result that may leave its type wraps: then nothing is known.
    pub fn or_wrapped(self, dtype: DType) -> Self {
        let all = Range::all(dtype);
        if self.lo >= all.lo && self.hi <= all.hi { self } else { all }
    }

    pub fn cast(self, from: DType, to: DType) -> Self {
        match (is_float(from), is_float(to)) {
            _ if to == DType::Bool => Range::between(0.0, 1.0),
            // A narrower float rounds, possibly to infinity.
            (_, true) if matches!(to, DType::F32 | DType::F64) => self.widened(),
            (_, true) => Range { nan: self.nan, ..Range::all(to) },
            (true, false) if self.is_finite() => {
                Range::between(self.lo.trunc(), self.hi.trunc()).or_wrapped(to)
            }
            (true, false) => Range::all(to),
            (false, false) => self.or_wrapped(to),
        }
    }

    /// Room for one rounding to f32 of the bounds that are no small integers.
    fn widened(self) -> Self {
        let exact = |x: f64| x.fract() == 0.0 && x.abs() <= 16777216.0;
        let out = |x: f64, sign: f64| if exact(x) || x.is_infinite() { x } else { x + sign * x.abs() * 1e-6 };
        Range { lo: out(self.lo, -1.0), hi: out(self.hi, 1.0), nan: self.nan }
    }

    /// A map's result; `dtype` is that of its (last) operand.
    pub fn map(kind: MapKind, x: &[Range], dtype: DType) -> Self {
        use MapKind::*;
        let all = Range::all(dtype);
        let a = x[0];
        let b = x.get(1).copied().unwrap_or(a);
        let nan = x.iter().any(|r| r.nan);
        let range = |lo: f64, hi: f64| Range { lo, hi, nan };
        let corners = |f: fn(f64, f64) -> f64| {
            let c = [f(a.lo, b.lo), f(a.lo, b.hi), f(a.hi, b.lo), f(a.hi, b.hi)];
            c.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)))
        };
        let result = match kind {
            Add => Range {
                nan: nan || (a.has_infinity() && b.has_infinity()),
                ..range(a.lo + b.lo, a.hi + b.hi)
            },
            Sub => Range {
                nan: nan || (a.has_infinity() && b.has_infinity()),
                ..range(a.lo - b.hi, a.hi - b.lo)
            },
            Mul if a.has_infinity() || b.has_infinity() => {
                let positive = a.lo >= 0.0 && b.lo >= 0.0;
                let nan = nan || (a.has_infinity() && b.has_zero()) || (b.has_infinity() && a.has_zero());
                Range { lo: if positive { 0.0 } else { f64::NEG_INFINITY }, hi: f64::INFINITY, nan }
            }
            Mul => {
                let (lo, hi) = corners(|p, q| p * q);
                range(lo, hi)
            }
            Div if is_float(dtype) => {
                let nan = nan || (a.has_zero() && b.has_zero()) || (a.has_infinity() && b.has_infinity());
                let positive = a.lo >= 0.0 && b.lo > 0.0;
                if !b.has_zero() && !a.has_infinity() && !b.has_infinity() {
                    let (lo, hi) = corners(|p, q| p / q);
                    Range { lo, hi, nan }
                } else {
                    Range { lo: if positive { 0.0 } else { f64::NEG_INFINITY }, hi: f64::INFINITY, nan }
                }
            }
            Max => range(a.lo.max(b.lo), a.hi.max(b.hi)),
            Min => range(a.lo.min(b.lo), a.hi.min(b.hi)),
            Neg => range(-a.hi, -a.lo),
            Abs if a.lo >= 0.0 => a,
            Abs => range(0.0, a.hi.max(-a.lo)),
            Sign => range(-1.0, 1.0),
            Exp => range(if a.lo > -80.0 { a.lo.exp() } else { 0.0 }, a.hi.exp()),
            Sqrt => Range { nan: nan || a.lo < 0.0, ..range(0.0, a.hi.max(0.0).sqrt()) },
            Rsqrt => Range { nan: nan || a.lo < 0.0, ..range(0.0, f64::INFINITY) },
            Reciprocal if a.lo > 0.0 => range(1.0 / a.hi, 1.0 / a.lo),
            Tanh | Erf => range(-1.0, 1.0),
            Sin | Cos => Range { nan: nan || a.has_infinity(), ..range(-1.0, 1.0) },
            Sigmoid => range(0.0, 1.0),
            Softplus => range(0.0, f64::INFINITY),
            Relu => range(a.lo.max(0.0), a.hi.max(0.0)),
            Square => {
                let far = a.lo.abs().max(a.hi.abs());
                let near = if a.has_zero() { 0.0 } else { a.lo.abs().min(a.hi.abs()) };
                range(near * near, far * far)
            }
            Floor | Ceil | Round => range(a.lo.floor(), a.hi.ceil()),
            Identity => a,
            Select => x[1].join(x[2]),
            _ if kind.is_compare() => return Range::compare(kind, a, b),
            IsNan if !a.nan => return Range::point(0.0),
            IsInf if !a.has_infinity() => return Range::point(0.0),
            IsNan | IsInf => return Range::between(0.0, 1.0),
            Not if dtype == DType::Bool => return Range::between(1.0 - a.hi, 1.0 - a.lo),
            And if dtype == DType::Bool => return Range::between(a.lo.min(b.lo), a.hi.min(b.hi)),
            Or if dtype == DType::Bool => return Range::between(a.lo.max(b.lo), a.hi.max(b.hi)),
            _ => return all,
        };
        // Functions of the machine are within 2 ULP, sums and products within half of one.
        let exact =
            matches!(kind, Max | Min | Neg | Abs | Sign | Relu | Identity | Select | Floor | Ceil | Round);
        if exact || !is_float(dtype) { result } else { result.widened() }
    }

    /// True (1), false (0) or either.
    fn compare(kind: MapKind, a: Range, b: Range) -> Self {
        use MapKind::*;
        let decided = |always: bool, never: bool| match (always && !a.nan && !b.nan, never) {
            (true, _) => Range::point(1.0),
            (_, true) => Range::point(0.0),
            _ => Range::between(0.0, 1.0),
        };
        let single = a.lo == a.hi && b.lo == b.hi && a.lo == b.lo;
        let apart = a.hi < b.lo || b.hi < a.lo;
        match kind {
            Lt => decided(a.hi < b.lo, a.lo >= b.hi),
            Le => decided(a.hi <= b.lo, a.lo > b.hi),
            Gt => decided(a.lo > b.hi, a.hi <= b.lo),
            Ge => decided(a.lo >= b.hi, a.hi < b.lo),
            Eq => decided(single, apart),
            // NaN differs from everything: `ne` is the one comparison NaN makes true.
            _ => {
                let eq = Range::compare(Eq, a, b);
                Range::between(1.0 - eq.hi, 1.0 - eq.lo)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_functions() {
        let f = DType::F32;
        let any = Range::all(f);
        assert_eq!(Range::map(MapKind::Exp, &[any], f).lo, 0.0);
        let negative = Range { lo: f64::NEG_INFINITY, hi: 0.0, nan: false };
        let e = Range::map(MapKind::Exp, &[negative], f);
        assert!(e.hi <= 1.0 && e.lo == 0.0 && e.is_finite());
        let ids = Range::between(0.0, 99.0);
        assert_eq!(Range::map(MapKind::Lt, &[ids, Range::point(0.0)], DType::I32), Range::point(0.0));
        assert_eq!(Range::map(MapKind::Ge, &[ids, Range::point(0.0)], DType::I32), Range::point(1.0));
        assert_eq!(Range::map(MapKind::IsNan, &[ids], f), Range::point(0.0));
        assert!(Range::map(MapKind::Add, &[any, any], f).nan);
    }

    #[test]
    fn integers_that_may_wrap_are_unknown() {
        let big = Range::between(0.0, 2147483647.0);
        let sum = Range::map(MapKind::Add, &[big, big], DType::I32).or_wrapped(DType::I32);
        assert_eq!(sum, Range::all(DType::I32));
    }
}
