//! The values of VEC.

use kiln_machine::isa::{ActFunc, CvtMode, Dt, Imm32, Shape, VecOp, View};
use kiln_machine::numerics;

use crate::elementwise::{CHUNK, Role, Scratch, Scratched, each_chunk, each_part};
use crate::error::TrapKind;
use crate::kernels;
use crate::lane::{OnChip, Place};

mod fold;
mod order;

pub(crate) use fold::{ScanOrder, TOGETHER, fold_rows, fold_runs, reduce, scan};
pub(crate) use order::{shuffle, top_k};

/// An operand as the instruction gives it: the view and its register's value.
#[derive(Clone, Copy)]
pub(crate) struct Arg<'a> {
    pub(crate) view: &'a View,
    pub(crate) reg: i64,
}

impl Arg<'_> {
    pub(crate) fn place(&self, chip: &mut OnChip, shape: Shape) -> Result<Place, TrapKind> {
        Ok(chip.place(self.view, self.reg, usize::from(shape.parts), shape.n)?)
    }

    fn is_integer(&self) -> bool {
        self.view.dt.is_integer()
    }
}

/// An affine function of the position: `base + cp·p + c0·i0 + c1·i1 + c2·i2`.
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) base: i64,
    pub(crate) part: i64,
    pub(crate) free: [i64; 3],
}

impl Affine {
    /// Its values at elements `start..start + out.len()` of a partition.
    fn fill(&self, shape: Shape, part: usize, start: usize, out: &mut [i64]) {
        let [_, n1, n2] = shape.n.map(|n| n as usize);
        let base = self.base + self.part * part as i64;
        let mut done = 0;
        while done < out.len() {
            let at = start + done;
            let (i2, i1, i0) = (at % n2, at / n2 % n1, at / n2 / n1);
            let run = (n2 - i2).min(out.len() - done);
            let row = base + self.free[0] * i0 as i64 + self.free[1] * i1 as i64;
            for (i, out) in out[done..done + run].iter_mut().enumerate() {
                *out = row + self.free[2] * (i2 + i) as i64;
            }
            done += run;
        }
    }
}

/// `dst = a op b`.
pub(crate) fn binary(
    chip: &mut OnChip,
    op: VecOp,
    dst: Arg<'_>,
    a: Arg<'_>,
    b: Arg<'_>,
    shape: Shape,
) -> Result<(), TrapKind> {
    let integer = a.is_integer() && b.is_integer();
    check_op(op, integer, a.view.dt)?;
    let [pa, pb, to] = [a.place(chip, shape)?, b.place(chip, shape)?, dst.place(chip, shape)?];
    if integer {
        let op = IntegerOp::new(op, a.view.dt);
        map2(chip, shape, &to, [&pa, &pb], move |a, b, out| op.apply(a, b, out))
    } else {
        map2(chip, shape, &to, [&pa, &pb], move |a, b, out| kernels::binary_f32(op, a, b, out))
    }
}

/// `dst = a op imm`, or `imm op a` if reversed.
pub(crate) fn with_scalar(
    chip: &mut OnChip,
    op: VecOp,
    dst: Arg<'_>,
    a: Arg<'_>,
    imm: Imm32,
    reversed: bool,
    shape: Shape,
) -> Result<(), TrapKind> {
    check_op(op, a.is_integer(), a.view.dt)?;
    let [from, to] = [a.place(chip, shape)?, dst.place(chip, shape)?];
    if a.is_integer() {
        let op = IntegerOp::new(op, a.view.dt);
        let scalar = [imm.as_i32(); CHUNK];
        map1(chip, shape, &to, &from, move |a, out| match &scalar[..a.len()] {
            scalar if reversed => op.apply(scalar, a, out),
            scalar => op.apply(a, scalar, out),
        })
    } else {
        let scalar = [imm.as_f32(); CHUNK];
        map1(chip, shape, &to, &from, move |a, out| match &scalar[..a.len()] {
            scalar if reversed => kernels::binary_f32(op, scalar, a, out),
            scalar => kernels::binary_f32(op, a, scalar, out),
        })
    }
}

/// `dst = mask ≠ 0 ? a : b`.
pub(crate) fn merge(
    chip: &mut OnChip,
    dst: Arg<'_>,
    mask: Arg<'_>,
    [a, b]: [Arg<'_>; 2],
    shape: Shape,
) -> Result<(), TrapKind> {
    let places = [mask.place(chip, shape)?, a.place(chip, shape)?, b.place(chip, shape)?];
    let to = dst.place(chip, shape)?;
    if a.is_integer() && b.is_integer() {
        merge_as::<i32>(chip, shape, &to, &places)
    } else {
        merge_as::<f32>(chip, shape, &to, &places)
    }
}

fn merge_as<N: Scratched>(
    chip: &mut OnChip,
    shape: Shape,
    to: &Place,
    [mask, a, b]: &[Place; 3],
) -> Result<(), TrapKind> {
    let (to, mask, a, b) = (*to, *mask, *a, *b);
    let places = [(&to, Role::Write), (&mask, Role::Read), (&a, Role::Read), (&b, Role::Read)];
    each_part(chip, shape.parts.into(), &places, move |reach, scratch: &mut Scratch<N>| {
        each_chunk(to.elements(), |start, len| {
            let Scratch { mask: m, x, y, .. } = scratch;
            let (m, x, y) = (&mut m[..len], &mut x[..len], &mut y[..len]);
            reach.load(&mask, start, m);
            reach.load(&a, start, x);
            reach.load(&b, start, y);
            for ((m, x), y) in m.iter().zip(x.iter_mut()).zip(y) {
                *x = if *m != 0.0 { *x } else { *y };
            }
            reach.store(&to, start, x);
        });
    })
}

/// `dst = predicate ≥ 0 ? src : imm`.
pub(crate) fn select(
    chip: &mut OnChip,
    dst: Arg<'_>,
    src: Arg<'_>,
    shape: Shape,
    predicate: Affine,
    imm: Imm32,
) -> Result<(), TrapKind> {
    let [from, to] = [src.place(chip, shape)?, dst.place(chip, shape)?];
    if src.is_integer() {
        select_as::<i32>(chip, shape, &to, &from, predicate, imm.as_i32())
    } else {
        select_as::<f32>(chip, shape, &to, &from, predicate, imm.as_f32())
    }
}

fn select_as<N: Scratched>(
    chip: &mut OnChip,
    shape: Shape,
    to: &Place,
    from: &Place,
    predicate: Affine,
    other: N,
) -> Result<(), TrapKind> {
    let (to, from) = (*to, *from);
    each_part(
        chip,
        shape.parts.into(),
        &[(&to, Role::Write), (&from, Role::Read)],
        move |reach, scratch: &mut Scratch<N>| {
            each_chunk(to.elements(), |start, len| {
                let (keep, x) = (&mut scratch.wide[..len], &mut scratch.x[..len]);
                predicate.fill(shape, reach.index, start, keep);
                reach.load(&from, start, x);
                for (x, keep) in x.iter_mut().zip(keep) {
                    *x = if *keep >= 0 { *x } else { other };
                }
                reach.store(&to, start, x);
            });
        },
    )
}

/// `dst = convert(mode, src)`.
pub(crate) fn convert(
    chip: &mut OnChip,
    mode: CvtMode,
    dst: Arg<'_>,
    src: Arg<'_>,
    shape: Shape,
) -> Result<(), TrapKind> {
    let [from, to] = [src.place(chip, shape)?, dst.place(chip, shape)?];
    let integers = src.is_integer() && dst.is_integer();
    match mode {
        CvtMode::Cast | CvtMode::Round if integers => {
            map1(chip, shape, &to, &from, |x: &[i32], out| out.copy_from_slice(x))
        }
        // There is nothing to round to in a float.
        CvtMode::Round if dst.is_integer() => {
            map1(chip, shape, &to, &from, |x, out| kernels::activate(ActFunc::Round, x, out))
        }
        CvtMode::Cast | CvtMode::Round => {
            map1(chip, shape, &to, &from, |x: &[f32], out| out.copy_from_slice(x))
        }
        CvtMode::Nonzero => map1(chip, shape, &to, &from, |x: &[f32], out| {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = f32::from(u8::from(*x != 0.0)));
        }),
    }
}

/// `dst = base + cp·p + Σ c·i`.
pub(crate) fn iota(chip: &mut OnChip, dst: Arg<'_>, shape: Shape, values: Affine) -> Result<(), TrapKind> {
    let to = dst.place(chip, shape)?;
    each_part(chip, shape.parts.into(), &[(&to, Role::Write)], move |reach, scratch: &mut Scratch<i32>| {
        let Scratch { wide, x, .. } = scratch;
        each_chunk(to.elements(), |start, len| {
            values.fill(shape, reach.index, start, &mut wide[..len]);
            for (x, wide) in x.iter_mut().zip(&wide[..len]) {
                *x = *wide as i32;
            }
            reach.store(&to, start, &x[..len]);
        });
    })
}

/// One element of the first partition as a scalar register holds it.
pub(crate) fn load_scalar(chip: &mut OnChip, src: Arg<'_>) -> Result<i64, TrapKind> {
    let place = src.place(chip, Shape::new(1, [1, 1, 1]))?;
    let parts = place.part..place.part + 1;
    chip.check(&place, parts.clone())?;
    let mut bytes = [0; 8];
    let out = &mut bytes[..place.element_bytes()];
    chip.now(&[(&place, parts, false)], |granted| granted.copy_out(&place, place.part, 0, out));
    let unused = 64 - 8 * place.element_bytes() as u32;
    let value = i64::from_le_bytes(bytes);
    let signed = matches!(place.dt, Dt::I8 | Dt::I16 | Dt::I32);
    Ok(if signed { value << unused >> unused } else { value })
}

/// The low bits of a register as one element of the first partition.
pub(crate) fn store_scalar(chip: &mut OnChip, dst: Arg<'_>, value: i64) -> Result<(), TrapKind> {
    let place = dst.place(chip, Shape::new(1, [1, 1, 1]))?;
    let parts = place.part..place.part + 1;
    chip.mark(&place, parts.clone());
    chip.submit(None, &[(&place, parts, true)], &[], move |granted| {
        granted.copy_in(&place, place.part, 0, &value.to_le_bytes()[..place.element_bytes()]);
        Ok(())
    });
    Ok(())
}

/// Elementwise over one operand.
fn map1<N: Scratched>(
    chip: &mut OnChip,
    shape: Shape,
    to: &Place,
    from: &Place,
    apply: impl Fn(&[N], &mut [N]) + Send + Sync + 'static,
) -> Result<(), TrapKind> {
    let (to, from) = (*to, *from);
    let places = [(&to, Role::Write), (&from, Role::Read)];
    each_part(chip, shape.parts.into(), &places, move |reach, scratch: &mut Scratch<N>| {
        let Scratch { out, x, .. } = scratch;
        reach.compute((&to, out), [(&from, x)], |[x], out| apply(x, out));
    })
}

/// Elementwise over two operands.
fn map2<N: Scratched>(
    chip: &mut OnChip,
    shape: Shape,
    to: &Place,
    [a, b]: [&Place; 2],
    apply: impl Fn(&[N], &[N], &mut [N]) + Send + Sync + 'static,
) -> Result<(), TrapKind> {
    let (to, a, b) = (*to, *a, *b);
    let places = [(&to, Role::Write), (&a, Role::Read), (&b, Role::Read)];
    each_part(chip, shape.parts.into(), &places, move |reach, scratch: &mut Scratch<N>| {
        let Scratch { out, x, y, .. } = scratch;
        reach.compute((&to, out), [(&a, x), (&b, y)], |[a, b], out| apply(a, b, out));
    })
}

/// An operation on integers; unsigned if the first source is u32.
#[derive(Clone, Copy)]
struct IntegerOp {
    op: VecOp,
    unsigned: bool,
}

impl IntegerOp {
    fn new(op: VecOp, first: Dt) -> Self {
        Self { op, unsigned: first == Dt::U32 }
    }

    fn apply(self, a: &[i32], b: &[i32], out: &mut [i32]) {
        let each = out.iter_mut().zip(a).zip(b);
        match self.op {
            op if self.unsigned => {
                each.for_each(|((out, a), b)| *out = numerics::vec_u32(op, *a as u32, *b as u32) as i32);
            }
            VecOp::Add => each.for_each(|((out, a), b)| *out = numerics::vec_i32(VecOp::Add, *a, *b)),
            VecOp::Sub => each.for_each(|((out, a), b)| *out = numerics::vec_i32(VecOp::Sub, *a, *b)),
            VecOp::Mul => each.for_each(|((out, a), b)| *out = numerics::vec_i32(VecOp::Mul, *a, *b)),
            op => each.for_each(|((out, a), b)| *out = numerics::vec_i32(op, *a, *b)),
        }
    }
}

/// Bit operations are for integers only.
fn check_op(op: VecOp, integer: bool, dt: Dt) -> Result<(), TrapKind> {
    let bitwise = matches!(op, VecOp::And | VecOp::Or | VecOp::Xor | VecOp::Shl | VecOp::Shr);
    if bitwise && !integer { Err(TrapKind::ElementType { dt }) } else { Ok(()) }
}
