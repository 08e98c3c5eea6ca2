//! Elementwise ops on numbers, one function a dtype class. Transcendental functions are the crate `libm`'s, so that
//! a constant folded at compile time has the same bits on every host.

use super::array::{Array, Data, round_f32, wrap_int};
use crate::nn::MapKind;
use crate::types::DType;

/// `kind` of operands of one shape; the verifier has checked arity and dtypes. f16 and bf16 compute in f32 and round
/// once.
pub fn map(kind: MapKind, operands: &[&Array]) -> Array {
    let shape = operands[0].shape.clone();
    if kind == MapKind::Select {
        let (mask, a, b) = (operands[0].indices(), operands[1], operands[2]);
        return Array { dtype: a.dtype, shape, data: select(mask, &a.data, &b.data) };
    }
    let (a, dtype) = (operands[0], operands[0].dtype);
    if let Some(b) = operands.get(1) {
        if kind.is_compare() {
            return Array {
                dtype: DType::Bool,
                shape,
                data: Data::Int(compare(kind, dtype, &a.data, &b.data)),
            };
        }
        let data = match (&a.data, &b.data) {
            (Data::F32(a), Data::F32(b)) => {
                Data::F32(a.iter().zip(b).map(|(a, b)| round_f32(dtype, binary_f32(kind, *a, *b))).collect())
            }
            (Data::F64(a), Data::F64(b)) => {
                Data::F64(a.iter().zip(b).map(|(a, b)| binary_f64(kind, *a, *b)).collect())
            }
            (Data::Int(a), Data::Int(b)) => Data::Int(
                a.iter().zip(b).map(|(a, b)| wrap_int(dtype, binary_int(kind, dtype, *a, *b))).collect(),
            ),
            _ => a.data.clone(),
        };
        return Array { dtype, shape, data };
    }
    if matches!(kind, MapKind::IsNan | MapKind::IsInf) {
        let test = |x: f64| i64::from(if kind == MapKind::IsNan { x.is_nan() } else { x.is_infinite() });
        let data = match &a.data {
            Data::F32(v) => v.iter().map(|x| test(f64::from(*x))).collect(),
            Data::F64(v) => v.iter().map(|x| test(*x)).collect(),
            Data::Int(v) => vec![0; v.len()],
        };
        return Array { dtype: DType::Bool, shape, data: Data::Int(data) };
    }
    let data = match &a.data {
        Data::F32(v) => Data::F32(v.iter().map(|x| round_f32(dtype, unary_f32(kind, *x))).collect()),
        Data::F64(v) => Data::F64(v.iter().map(|x| unary_f64(kind, *x)).collect()),
        Data::Int(v) => Data::Int(v.iter().map(|x| wrap_int(dtype, unary_int(kind, dtype, *x))).collect()),
    };
    Array { dtype, shape, data }
}

fn select(mask: &[i64], a: &Data, b: &Data) -> Data {
    fn pick<T: Copy>(mask: &[i64], a: &[T], b: &[T]) -> Vec<T> {
        mask.iter().zip(a.iter().zip(b)).map(|(m, (a, b))| if *m != 0 { *a } else { *b }).collect()
    }
    match (a, b) {
        (Data::F32(a), Data::F32(b)) => Data::F32(pick(mask, a, b)),
        (Data::F64(a), Data::F64(b)) => Data::F64(pick(mask, a, b)),
        (Data::Int(a), Data::Int(b)) => Data::Int(pick(mask, a, b)),
        _ => a.clone(),
    }
}

fn compare(kind: MapKind, dtype: DType, a: &Data, b: &Data) -> Vec<i64> {
    fn each<T: PartialOrd + Copy>(
        kind: MapKind,
        a: impl Iterator<Item = T>,
        b: impl Iterator<Item = T>,
    ) -> Vec<i64> {
        let holds = |a: T, b: T| match kind {
            MapKind::Eq => a == b,
            MapKind::Ne => a != b,
            MapKind::Lt => a < b,
            MapKind::Le => a <= b,
            MapKind::Gt => a > b,
            _ => a >= b,
        };
        a.zip(b).map(|(a, b)| i64::from(holds(a, b))).collect()
    }
    match (a, b) {
        (Data::F32(a), Data::F32(b)) => each(kind, a.iter().copied(), b.iter().copied()),
        (Data::F64(a), Data::F64(b)) => each(kind, a.iter().copied(), b.iter().copied()),
        (Data::Int(a), Data::Int(b)) if dtype == DType::U64 => {
            each(kind, a.iter().map(|x| *x as u64), b.iter().map(|x| *x as u64))
        }
        (Data::Int(a), Data::Int(b)) => each(kind, a.iter().copied(), b.iter().copied()),
        _ => Vec::new(),
    }
}

/// The ops of two floats; `mod` takes the sign of the divisor, `fmod` that of the dividend; `max` and `min` give NaN
/// when either operand is.
macro_rules! binary_float {
    ($name:ident, $float:ty, $pow:path) => {
        /// One elementwise op on two floats.
        pub fn $name(kind: MapKind, a: $float, b: $float) -> $float {
            match kind {
                MapKind::Add => a + b,
                MapKind::Sub => a - b,
                MapKind::Mul => a * b,
                MapKind::Div => a / b,
                MapKind::Max if a.is_nan() || b.is_nan() => <$float>::NAN,
                MapKind::Max => {
                    if a > b {
                        a
                    } else {
                        b
                    }
                }
                MapKind::Min if a.is_nan() || b.is_nan() => <$float>::NAN,
                MapKind::Min => {
                    if a < b {
                        a
                    } else {
                        b
                    }
                }
                MapKind::Pow => $pow(a, b),
                MapKind::Fmod => a % b,
                MapKind::Mod => {
                    let r = a % b;
                    if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
                }
                // The remaining kinds are not defined on floats; the verifier refuses them.
                _ => a,
            }
        }
    };
}
binary_float!(binary_f32, f32, libm::powf);
binary_float!(binary_f64, f64, libm::pow);

macro_rules! unary_float {
    ($name:ident, $float:ty, $exp:path, $log:path, $tanh:path, $erf:path, $sin:path, $cos:path, $log1p:path, $rint:path) => {
        /// One elementwise op on a float.
        pub fn $name(kind: MapKind, x: $float) -> $float {
            match kind {
                MapKind::Neg => -x,
                MapKind::Abs => x.abs(),
                MapKind::Sign => {
                    if x > 0.0 {
                        1.0
                    } else if x < 0.0 {
                        -1.0
                    } else {
                        x
                    }
                }
                MapKind::Exp => $exp(x),
                MapKind::Log => $log(x),
                MapKind::Sqrt => x.sqrt(),
                MapKind::Rsqrt => 1.0 / x.sqrt(),
                MapKind::Reciprocal => 1.0 / x,
                MapKind::Tanh => $tanh(x),
                MapKind::Erf => $erf(x),
                MapKind::Sigmoid => 1.0 / (1.0 + $exp(-x)),
                MapKind::Sin => $sin(x),
                MapKind::Cos => $cos(x),
                MapKind::Floor => x.floor(),
                MapKind::Ceil => x.ceil(),
                MapKind::Round => $rint(x),
                // max(x, 0), which of two zeros is the second; NaN stays.
                MapKind::Relu => {
                    if x > 0.0 || x.is_nan() {
                        x
                    } else {
                        0.0
                    }
                }
                MapKind::Square => x * x,
                // ln(1 + eˣ) without overflow: x above 0 leaves the logarithm.
                MapKind::Softplus => $log1p($exp(-x.abs())) + if x > 0.0 { x } else { 0.0 },
                _ => x,
            }
        }
    };
}
unary_float!(
    unary_f32,
    f32,
    libm::expf,
    libm::logf,
    libm::tanhf,
    libm::erff,
    libm::sinf,
    libm::cosf,
    libm::log1pf,
    libm::rintf
);
unary_float!(
    unary_f64,
    f64,
    libm::exp,
    libm::log,
    libm::tanh,
    libm::erf,
    libm::sin,
    libm::cos,
    libm::log1p,
    libm::rint
);

/// One elementwise op on two integers before wrapping. Division truncates; a division by zero gives 0, and 0 its
/// remainder.
pub fn binary_int(kind: MapKind, dtype: DType, a: i64, b: i64) -> i64 {
    let (ua, ub) = (a as u64, b as u64);
    let unsigned = dtype == DType::U64;
    let bits = 8 * dtype.size_bytes() as i64;
    match kind {
        MapKind::Add => a.wrapping_add(b),
        MapKind::Sub => a.wrapping_sub(b),
        MapKind::Mul => a.wrapping_mul(b),
        MapKind::Div | MapKind::Mod | MapKind::Fmod if b == 0 => 0,
        MapKind::Div if unsigned => (ua / ub) as i64,
        MapKind::Div => a.wrapping_div(b),
        MapKind::Mod | MapKind::Fmod if unsigned => (ua % ub) as i64,
        MapKind::Fmod => a.wrapping_rem(b),
        MapKind::Mod => {
            let r = a.wrapping_rem(b);
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        MapKind::Max if unsigned => ua.max(ub) as i64,
        MapKind::Min if unsigned => ua.min(ub) as i64,
        MapKind::Max => a.max(b),
        MapKind::Min => a.min(b),
        MapKind::Pow => power(a, b),
        MapKind::And => a & b,
        MapKind::Or => a | b,
        MapKind::Xor => a ^ b,
        MapKind::Shl | MapKind::Shr if b < 0 || b >= bits => 0,
        MapKind::Shl => a.wrapping_shl(b as u32),
        MapKind::Shr if unsigned => (ua >> b) as i64,
        MapKind::Shr => a >> b,
        _ => a,
    }
}

/// aᵇ with wrapping; a negative exponent gives the truncated reciprocal.
fn power(a: i64, b: i64) -> i64 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 => {
                if b % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        };
    }
    let (mut result, mut base, mut rest) = (1i64, a, b);
    while rest > 0 {
        if rest & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        rest >>= 1;
    }
    result
}

/// One elementwise op on an integer before wrapping; `not` of a bool is logical.
pub fn unary_int(kind: MapKind, dtype: DType, x: i64) -> i64 {
    match kind {
        MapKind::Neg => x.wrapping_neg(),
        MapKind::Abs if dtype == DType::U64 => x,
        MapKind::Abs => x.wrapping_abs(),
        MapKind::Sign if dtype == DType::U64 => i64::from(x != 0),
        MapKind::Sign => x.signum(),
        MapKind::Not if dtype == DType::Bool => i64::from(x == 0),
        MapKind::Not => !x,
        MapKind::Relu if dtype != DType::U64 => x.max(0),
        MapKind::Square => x.wrapping_mul(x),
        _ => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_remainders() {
        let int = |kind, a, b| binary_int(kind, DType::I32, a, b);
        assert_eq!((int(MapKind::Mod, -7, 3), int(MapKind::Mod, 7, -3)), (2, -2));
        assert_eq!((int(MapKind::Fmod, -7, 3), int(MapKind::Fmod, 7, -3)), (-1, 1));
        assert_eq!((int(MapKind::Div, -7, 2), int(MapKind::Div, 7, 0)), (-3, 0));
        assert_eq!(binary_f32(MapKind::Mod, -7.0, 3.0), 2.0);
        assert_eq!(binary_f32(MapKind::Fmod, -7.0, 3.0), -1.0);
    }

    #[test]
    fn max_keeps_nan_and_round_goes_to_even() {
        assert!(
            binary_f32(MapKind::Max, f32::NAN, 1.0).is_nan()
                && binary_f32(MapKind::Min, 1.0, f32::NAN).is_nan()
        );
        assert_eq!((unary_f32(MapKind::Round, 2.5), unary_f32(MapKind::Round, -3.5)), (2.0, -4.0));
        assert_eq!(unary_f32(MapKind::Softplus, 200.0), 200.0);
        for x in [-1.0, -0.0, 0.0, 2.5] {
            let (relu, max) = (unary_f32(MapKind::Relu, x), binary_f32(MapKind::Max, x, 0.0));
            assert_eq!(relu.to_bits(), max.to_bits(), "{x}");
        }
        assert!(unary_f32(MapKind::Relu, f32::NAN).is_nan());
    }

    #[test]
    fn unsigned_64_bit_integers_compare_as_such() {
        let a = Data::Int(vec![-1]);
        assert_eq!(compare(MapKind::Gt, DType::U64, &a, &Data::Int(vec![1])), [1]);
        assert_eq!(compare(MapKind::Gt, DType::I64, &a, &Data::Int(vec![1])), [0]);
    }
}
