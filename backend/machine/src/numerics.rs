//! The exact meaning of every arithmetic operation, the same bits on any host.
//!
//! Built from IEEE basic operations, fma and square root only, never the host's libm. Scalar functions are the
//! definition; slice versions apply them so that the compiler vectorises. VEC's operations are here, ACT's functions
//! in [`act`], conversions in [`convert`].

pub mod act;
pub mod convert;
mod power;
mod trig;

use crate::isa::{RedOp, VecOp};

pub use act::{act, act_slice};
pub use power::pow;

/// Whether VEC has this operation on floats.
pub const fn is_float_op(op: VecOp) -> bool {
    !matches!(op, VecOp::And | VecOp::Or | VecOp::Xor | VecOp::Shl | VecOp::Shr)
}

/// The greater; NaN if either is NaN; of two zeros the second.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The lesser; NaN if either is NaN; of two zeros the second.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

/// A two-operand VEC operation on floats; comparisons give 1 or 0. NaN for the bit operations, which
/// [`is_float_op`] excludes and the machine traps on.
#[inline(always)]
pub fn vec_f32(op: VecOp, a: f32, b: f32) -> f32 {
    let flag = |holds: bool| if holds { 1.0 } else { 0.0 };
    match op {
        VecOp::Add => a + b,
        VecOp::Sub => a - b,
        VecOp::Mul => a * b,
        VecOp::Div => a / b,
        VecOp::Max => max(a, b),
        VecOp::Min => min(a, b),
        VecOp::Pow => pow(a, b),
        VecOp::Mod => modulo(a, b),
        VecOp::Fmod => a % b,
        VecOp::Eq => flag(a == b),
        VecOp::Ne => flag(a != b),
        VecOp::Lt => flag(a < b),
        VecOp::Le => flag(a <= b),
        VecOp::Gt => flag(a > b),
        VecOp::Ge => flag(a >= b),
        VecOp::And | VecOp::Or | VecOp::Xor | VecOp::Shl | VecOp::Shr => f32::NAN,
    }
}

/// Remainder with the divisor's sign. The remainder of truncation is exact; one addition corrects its sign.
fn modulo(a: f32, b: f32) -> f32 {
    let r = a % b;
    if r != 0.0 && (r < 0.0) != (b < 0.0) {
        r + b
    } else if r == 0.0 {
        0f32.copysign(b)
    } else {
        r
    }
}

/// A two-operand VEC operation on integers of at most 32 bits, `u32` excepted.
#[inline(always)]
pub fn vec_i32(op: VecOp, a: i32, b: i32) -> i32 {
    match op {
        VecOp::Add => a.wrapping_add(b),
        VecOp::Sub => a.wrapping_sub(b),
        VecOp::Mul => a.wrapping_mul(b),
        VecOp::Div => {
            if b == 0 {
                0
            } else {
                a.wrapping_div(b)
            }
        }
        VecOp::Max => a.max(b),
        VecOp::Min => a.min(b),
        VecOp::Pow => pow_i32(a, b),
        VecOp::Mod => {
            let r = if b == 0 { 0 } else { a.wrapping_rem(b) };
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        VecOp::Fmod => {
            if b == 0 {
                0
            } else {
                a.wrapping_rem(b)
            }
        }
        VecOp::And => a & b,
        VecOp::Or => a | b,
        VecOp::Xor => a ^ b,
        VecOp::Shl => {
            if (0..32).contains(&b) {
                a << b
            } else {
                0
            }
        }
        VecOp::Shr => {
            if (0..32).contains(&b) {
                a >> b
            } else {
                a >> 31
            }
        }
        VecOp::Eq => (a == b).into(),
        VecOp::Ne => (a != b).into(),
        VecOp::Lt => (a < b).into(),
        VecOp::Le => (a <= b).into(),
        VecOp::Gt => (a > b).into(),
        VecOp::Ge => (a >= b).into(),
    }
}

/// The same where the first source is `u32`: quotient, remainder, order and right shift are unsigned.
#[inline(always)]
pub fn vec_u32(op: VecOp, a: u32, b: u32) -> u32 {
    match op {
        VecOp::Div => a.checked_div(b).unwrap_or(0),
        VecOp::Mod | VecOp::Fmod => a.checked_rem(b).unwrap_or(0),
        VecOp::Max => a.max(b),
        VecOp::Min => a.min(b),
        VecOp::Shr => a.checked_shr(b).unwrap_or(0),
        VecOp::Shl => a.checked_shl(b).unwrap_or(0),
        VecOp::Pow => a.wrapping_pow(b),
        VecOp::Lt => (a < b).into(),
        VecOp::Le => (a <= b).into(),
        VecOp::Gt => (a > b).into(),
        VecOp::Ge => (a >= b).into(),
        _ => vec_i32(op, a as i32, b as i32) as u32,
    }
}

/// Integer power, wrapping; a negative exponent gives the truncated quotient.
fn pow_i32(a: i32, b: i32) -> i32 {
    match (a, b) {
        (_, 0..) => a.wrapping_pow(b as u32),
        (1, _) => 1,
        (-1, _) => {
            if b % 2 == 0 {
                1
            } else {
                -1
            }
        }
        _ => 0,
    }
}

/// Where a float reduction starts. The arg kinds start with the extremum's value.
pub const fn start_f32(op: RedOp) -> f32 {
    match op {
        RedOp::Sum => 0.0,
        RedOp::Prod => 1.0,
        RedOp::Max | RedOp::Argmax => f32::NEG_INFINITY,
        RedOp::Min | RedOp::Argmin => f32::INFINITY,
    }
}

/// Where an integer reduction starts.
pub const fn start_i32(op: RedOp) -> i32 {
    match op {
        RedOp::Sum => 0,
        RedOp::Prod => 1,
        RedOp::Max | RedOp::Argmax => i32::MIN,
        RedOp::Min | RedOp::Argmin => i32::MAX,
    }
}

/// One step of a float reduction (of its extremum's value, for the arg kinds).
#[inline(always)]
pub fn red_f32(op: RedOp, acc: f32, x: f32) -> f32 {
    match op {
        RedOp::Sum => acc + x,
        RedOp::Prod => acc * x,
        RedOp::Max | RedOp::Argmax => max(acc, x),
        RedOp::Min | RedOp::Argmin => min(acc, x),
    }
}

/// One step of an integer reduction.
#[inline(always)]
pub fn red_i32(op: RedOp, acc: i32, x: i32) -> i32 {
    match op {
        RedOp::Sum => acc.wrapping_add(x),
        RedOp::Prod => acc.wrapping_mul(x),
        RedOp::Max | RedOp::Argmax => acc.max(x),
        RedOp::Min | RedOp::Argmin => acc.min(x),
    }
}

/// Whether `x` replaces the best so far as the extremum of an arg reduction: the first wins among equals, and the
/// first NaN wins over everything.
#[inline(always)]
pub fn arg_replaces_f32(op: RedOp, best: f32, x: f32) -> bool {
    let better = if op == RedOp::Argmin { x < best } else { x > best };
    better || (x.is_nan() && !best.is_nan())
}

/// The order of `vtopk`: the values in rising order with NaN largest; equal values compare equal.
pub fn topk_order(a: f32, b: f32) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_wins_and_order_does_not_matter() {
        for op in [VecOp::Max, VecOp::Min] {
            assert!(vec_f32(op, f32::NAN, 1.0).is_nan() && vec_f32(op, 1.0, f32::NAN).is_nan());
        }
        assert_eq!(vec_f32(VecOp::Max, -1.0, f32::INFINITY), f32::INFINITY);
    }

    #[test]
    fn remainders_have_the_stated_signs() {
        let cases = [(7.0, 3.0), (-7.0, 3.0), (7.0, -3.0), (-7.0, -3.0)];
        assert_eq!(cases.map(|(a, b)| vec_f32(VecOp::Mod, a, b)), [1.0, 2.0, -2.0, -1.0]);
        assert_eq!(cases.map(|(a, b)| vec_f32(VecOp::Fmod, a, b)), [1.0, -1.0, 1.0, -1.0]);
        assert_eq!(cases.map(|(a, b)| vec_i32(VecOp::Mod, a as i32, b as i32)), [1, 2, -2, -1]);
        assert_eq!(cases.map(|(a, b)| vec_i32(VecOp::Fmod, a as i32, b as i32)), [1, -1, 1, -1]);
        assert_eq!(cases.map(|(a, b)| vec_i32(VecOp::Div, a as i32, b as i32)), [2, -2, -2, 2]);
    }

    #[test]
    fn integers_never_fault() {
        for op in VecOp::ALL {
            for a in [i32::MIN, -1, 0, 1, 31, 32, i32::MAX] {
                for b in [i32::MIN, -1, 0, 1, 31, 32, i32::MAX] {
                    let _ = (vec_i32(*op, a, b), vec_u32(*op, a as u32, b as u32));
                }
            }
        }
        assert_eq!(vec_i32(VecOp::Div, i32::MIN, -1), i32::MIN);
        assert_eq!(vec_i32(VecOp::Shl, 1, 32), 0);
        assert_eq!(vec_i32(VecOp::Shr, -8, 1), -4);
        assert_eq!(vec_u32(VecOp::Shr, 0x8000_0000, 31), 1);
        assert_eq!((pow_i32(3, 4), pow_i32(-1, -3), pow_i32(2, -1)), (81, -1, 0));
    }

    #[test]
    fn arg_reductions_take_the_first() {
        let pick = |op, values: &[f32]| {
            let mut best = (start_f32(op), 0);
            for (i, x) in values.iter().enumerate() {
                if i == 0 || arg_replaces_f32(op, best.0, *x) {
                    best = (*x, i);
                }
            }
            best.1
        };
        assert_eq!(pick(RedOp::Argmax, &[1.0, 3.0, 3.0]), 1);
        assert_eq!(pick(RedOp::Argmin, &[1.0, f32::NAN, 0.0]), 1);
    }
}
