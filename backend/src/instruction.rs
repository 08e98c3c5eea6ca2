//! From symbolic instructions to the machine's: one arm per row that selection uses.

use kiln_machine::isa::{Add, Ap, Coef, Dims, Imm32, ImmF32, Inst, Len, Parts, Shape, View};

use crate::error::BackendError;
use crate::lir::{DramOpnd, Grid, MOp, Opnd, Terms};
use crate::placement::Placement;
use crate::sync::Sem;

/// How one instruction's symbolic operands came out.
pub(crate) struct Resolved<'a> {
    pub view: &'a dyn Fn(&Opnd) -> Result<View, BackendError>,
    pub ap: Ap,
    /// Added to the pattern's base.
    pub reg: Add,
    /// Added to the base of an affine predicate.
    pub scalar: Add,
}

/// Waits for a count.
pub(crate) fn wait(sem: Sem, n: u32) -> Inst {
    Inst::Semw { sem: kiln_machine::isa::Sem(sem.0 as u8), n: n as u16 }
}

/// Signals a count.
pub(crate) fn signal(sem: Sem, n: u32) -> Inst {
    Inst::Sems { sem: kiln_machine::isa::Sem(sem.0 as u8), n: n as u16 }
}

/// The view of a placed operand.
pub(crate) fn view(opnd: &Opnd, placement: &Placement, reg: Add) -> Result<View, BackendError> {
    let slot = &placement.slots[opnd.addr.buf.index()];
    let off = slot.base as i64 + opnd.addr.off;
    let narrow = |what: &str, value: i64| {
        i32::try_from(value).map_err(|_| BackendError::Encoding {
            op: "operand".into(),
            reason: format!("{what} {value} does not fit a view"),
        })
    };
    let mut strides = [0; 3];
    for (to, from) in strides.iter_mut().zip(opnd.strides) {
        *to = narrow("stride", from)?;
    }
    let off = u32::try_from(off).map_err(|_| BackendError::Encoding {
        op: "operand".into(),
        reason: format!("offset {off} does not fit a view"),
    })?;
    let part = u8::try_from(opnd.addr.part).map_err(|_| BackendError::Encoding {
        op: "operand".into(),
        reason: format!("partition {} does not fit a view", opnd.addr.part),
    })?;
    Ok(View { space: slot.space, part, off, reg, dt: opnd.dt, strides })
}

impl MOp {
    /// The on-chip operands.
    pub(crate) fn on_chip(&self) -> Vec<&Opnd> {
        match self {
            MOp::Load { dst, .. } | MOp::Fill { dst, .. } | MOp::Viota { dst, .. } => vec![dst],
            MOp::Store { src, .. } | MOp::Ldw { src, .. } | MOp::Ldwt { src, .. } => vec![src],
            MOp::Gather { dst, idx, .. } => vec![dst, idx],
            MOp::Scatter { src, idx, .. } => vec![src, idx],
            MOp::Copy { dst, src, .. }
            | MOp::Mtrn { dst, src, .. }
            | MOp::Vsel { dst, src, .. }
            | MOp::Vcvt { dst, src, .. }
            | MOp::Vred { dst, src, .. } => vec![dst, src],
            MOp::Vscan { dst, src, carry, .. } => [dst, src].into_iter().chain(carry).collect(),
            MOp::Vts { dst, a, .. } => vec![dst, a],
            MOp::Mma { acc, mov, .. } => vec![acc, mov],
            MOp::Vtt { dst, a, b, .. } => vec![dst, a, b],
            MOp::Vmrg { dst, mask, a, b, .. } => vec![dst, mask, a, b],
            MOp::Vshuf { dst, src, idx, .. } => vec![dst, src, idx],
            MOp::Vtopk { values, indices, src, .. } => vec![values, indices, src],
            MOp::Actr { dst, src, scale, bias, .. } => [dst, src, scale].into_iter().chain(bias).collect(),
            MOp::Act { dst, src, bias, sum, .. } => {
                [dst, src].into_iter().chain(bias).chain(sum.as_ref().map(|s| &s.dst)).collect()
            }
        }
    }

    /// The DRAM operand.
    pub(crate) fn dram(&self) -> Option<&DramOpnd> {
        match self {
            MOp::Load { src: d, .. }
            | MOp::Store { dst: d, .. }
            | MOp::Gather { src: d, .. }
            | MOp::Scatter { dst: d, .. } => Some(d),
            _ => None,
        }
    }

    /// Loop terms of a scalar that the instruction takes from a register.
    pub(crate) fn scalar_terms(&self) -> Option<&Terms> {
        match self {
            MOp::Vsel { terms, .. } | MOp::Viota { terms, .. } => Some(terms),
            _ => None,
        }
    }
}

/// The machine instruction of a symbolic one.
pub(crate) fn build(op: &MOp, r: &Resolved<'_>) -> Result<Inst, BackendError> {
    let view = |o: &Opnd| (r.view)(o);
    let optional = |o: &Option<Opnd>| o.as_ref().map(|o| (r.view)(o)).transpose();
    let (ap, reg) = (r.ap, r.reg);
    Ok(match op {
        MOp::Load { dst, transposing: false, .. } => Inst::Dld { dst: view(dst)?, ap, reg },
        MOp::Load { dst, transposing: true, .. } => Inst::Dtr { dst: view(dst)?, ap, reg },
        MOp::Store { src, .. } => Inst::Dst { ap, reg, src: view(src)? },
        MOp::Gather { dst, idx, parts, n0, .. } => {
            Inst::Dga { dst: view(dst)?, ap, reg, idx: view(idx)?, parts: count(*parts), n0: Len(*n0) }
        }
        MOp::Scatter { src, idx, parts, n0, .. } => {
            Inst::Dsc { src: view(src)?, ap, reg, idx: view(idx)?, parts: count(*parts), n0: Len(*n0) }
        }
        MOp::Copy { dst, src, grid } => Inst::Dmv { dst: view(dst)?, src: view(src)?, shape: shape(grid) },
        MOp::Fill { dst, grid, imm } => Inst::Dfill { dst: view(dst)?, shape: shape(grid), imm: Imm32(*imm) },
        MOp::Ldw { src, k, m, col } => {
            Inst::Ldw { src: view(src)?, k: count(*k), m: count(*m), col: *col as u8 }
        }
        MOp::Ldwt { src, k, m, row, col } => {
            Inst::Ldwt { src: view(src)?, k: count(*k), m: count(*m), row: *row as u8, col: *col as u8 }
        }
        MOp::Mma { acc, mov, k, m, n, accumulate } => Inst::Mma {
            acc: view(acc)?,
            mov: view(mov)?,
            k: count(*k),
            m: count(*m),
            n0: Len(n[0]),
            n1: Len(n[1]),
            n2: Len(n[2]),
            cont: *accumulate,
            zs: 0,
            zx: 0,
        },
        MOp::Mtrn { dst, src, parts, n } => {
            Inst::Mtrn { dst: view(dst)?, src: view(src)?, parts: count(*parts), n: count(*n) }
        }
        MOp::Vtt { op, dst, a, b, grid } => {
            Inst::Vtt { op: *op, dst: view(dst)?, a: view(a)?, b: view(b)?, shape: shape(grid) }
        }
        MOp::Vts { op, dst, a, imm, reversed, grid } => Inst::Vts {
            op: *op,
            dst: view(dst)?,
            a: view(a)?,
            imm: Imm32(*imm),
            rev: *reversed,
            shape: shape(grid),
        },
        MOp::Vmrg { dst, mask, a, b, grid } => {
            Inst::Vmrg { dst: view(dst)?, mask: view(mask)?, a: view(a)?, b: view(b)?, shape: shape(grid) }
        }
        MOp::Vsel { dst, src, grid, base, cp, c, imm, .. } => Inst::Vsel {
            dst: view(dst)?,
            src: view(src)?,
            shape: shape(grid),
            base: narrow(*base)?,
            reg: r.scalar,
            cp: Coef(narrow(*cp)?),
            c0: Coef(narrow(c[0])?),
            c1: Coef(narrow(c[1])?),
            c2: Coef(narrow(c[2])?),
            imm: Imm32(*imm),
        },
        MOp::Viota { dst, grid, base, cp, c, .. } => Inst::Viota {
            dst: view(dst)?,
            shape: shape(grid),
            base: narrow(*base)?,
            reg: r.scalar,
            cp: Coef(narrow(*cp)?),
            c0: Coef(narrow(c[0])?),
            c1: Coef(narrow(c[1])?),
            c2: Coef(narrow(c[2])?),
        },
        MOp::Vcvt { dst, src, mode, grid } => {
            Inst::Vcvt { mode: *mode, dst: view(dst)?, src: view(src)?, shape: shape(grid) }
        }
        MOp::Vred { op, dst, src, grid, dims, accumulate } => Inst::Vred {
            op: *op,
            dst: view(dst)?,
            src: view(src)?,
            shape: shape(grid),
            dims: *dims,
            cont: *accumulate,
        },
        MOp::Vscan { op, dst, src, carry, grid, exclusive, reverse } => Inst::Vscan {
            op: *op,
            dst: view(dst)?,
            src: view(src)?,
            carry: optional(carry)?,
            shape: shape(grid),
            exclusive: *exclusive,
            reverse: *reverse,
        },
        MOp::Vshuf { dst, src, idx, grid, bound } => Inst::Vshuf {
            dst: view(dst)?,
            src: view(src)?,
            idx: view(idx)?,
            shape: shape(grid),
            bound: Len(*bound),
        },
        MOp::Vtopk { values, indices, src, grid, k, largest } => Inst::Vtopk {
            values: view(values)?,
            indices: view(indices)?,
            src: view(src)?,
            shape: shape(grid),
            k: Len(*k),
            smallest: !*largest,
        },
        MOp::Actr { func, dst, src, scale, bias, grid } => Inst::Actr {
            func: *func,
            dst: view(dst)?,
            src: view(src)?,
            scale: view(scale)?,
            bias: optional(bias)?,
            shape: shape(grid),
        },
        MOp::Act { func, dst, src, bias, sum, scale, grid } => Inst::Act {
            func: *func,
            dst: view(dst)?,
            src: view(src)?,
            bias: optional(bias)?,
            sum: sum.as_ref().map(|s| view(&s.dst)).transpose()?,
            over: sum.as_ref().map_or(Dims::NONE, |s| s.over),
            sumc: sum.as_ref().is_some_and(|s| s.accumulate),
            scale: ImmF32::new(*scale),
            shape: shape(grid),
        },
    })
}

fn count(n: u32) -> Parts {
    Parts(n as u16)
}

fn shape(grid: &Grid) -> Shape {
    Shape::new(grid.parts as u16, grid.n)
}

fn narrow(value: i64) -> Result<i32, BackendError> {
    i32::try_from(value).map_err(|_| BackendError::Encoding {
        op: "affine predicate".into(),
        reason: format!("{value} does not fit 32 bits"),
    })
}
