//! From an instruction with its registers to the values it makes.

use std::sync::Arc;

use kiln_machine::isa::{Add, Ap, Inst, View};
use kiln_machine::target::Target;

use crate::activation;
use crate::array::{Grid, Mma, Window};
use crate::dram::{Dram, SharedDram};
use crate::error::TrapKind;
use crate::kernels::arena::Arena;
use crate::kernels::flow::Flow;
use crate::lane::OnChip;
use crate::stream::Stream;
use crate::transfer::{self, Direction, Pattern, Side};
use crate::vector::{self, Affine, Arg};

/// Everything that holds values.
pub(crate) struct Memories {
    /// Of each core that runs anything, in the order of their numbers.
    pub(crate) cores: Vec<CoreMemory>,
    pub(crate) dram: SharedDram,
    /// Who computes in them.
    pub(crate) flow: Arc<Flow>,
}

/// The memories of one core.
pub(crate) struct CoreMemory {
    pub(crate) number: u8,
    pub(crate) chip: OnChip,
    pub(crate) grid: Grid,
    pub(crate) tables: activation::Tables,
}

impl Memories {
    /// This DRAM, and on-chip memories of these cores of the machine with nothing in them.
    pub(crate) fn new(target: &Target, dram: Dram, threads: usize, cores: &[u8]) -> Self {
        let sizes = [target.spm_partition_bytes(), target.acc_partition_bytes()];
        let arena = |size: u64| Arena::new(target.partitions as usize, size as usize);
        let arenas = cores.iter().flat_map(|_| sizes.map(arena)).collect();
        let flow = Arc::new(Flow::new(threads, arenas));
        let core = |(slot, number): (usize, &u8)| CoreMemory {
            number: *number,
            chip: OnChip::new(Arc::clone(&flow), slot * sizes.len()),
            grid: Grid::new(target.partitions as usize, target.acc_bank_entries() as usize),
            tables: activation::Tables::default(),
        };
        let cores = cores.iter().enumerate().map(core).collect();
        Self { cores, dram: SharedDram::new(dram), flow }
    }

    /// Forget what is on chip.
    pub(crate) fn clear_chip(&mut self) {
        self.flow.drain();
        for core in &mut self.cores {
            core.chip.clear();
            core.grid.clear();
            core.tables = activation::Tables::default();
        }
    }

    /// Where the memories of a core are.
    pub(crate) fn slot(&self, core: u8) -> Option<usize> {
        self.cores.iter().position(|memory| memory.number == core)
    }

    /// Execute an instruction of the core in a slot: what is wrong with its operands is told at once, what is wrong with
    /// their values by the flow. What involves other cores is in [`collective`](crate::collective).
    pub(crate) fn execute(&mut self, slot: usize, inst: &Inst, stream: &mut Stream) -> Result<(), TrapKind> {
        let Self { cores, dram, .. } = self;
        let CoreMemory { chip, grid, tables, .. } = &mut cores[slot];
        chip.begin();
        match inst {
            Inst::Nop {}
            | Inst::Halt {}
            | Inst::Li { .. }
            | Inst::Alu { .. }
            | Inst::Br { .. }
            | Inst::Loop { .. }
            | Inst::Endl {}
            | Inst::Semw { .. }
            | Inst::Sems { .. }
            | Inst::Fence {}
            | Inst::Apset { .. }
            | Inst::ReadCsr { .. }
            | Inst::Trap { .. }
            | Inst::Cput { .. }
            | Inst::Cred { .. }
            | Inst::Bar { .. } => Ok(()),
            Inst::Lds { rd, src } => {
                let value = vector::load_scalar(chip, arg(src, stream))?;
                stream.set_register(*rd, value);
                Ok(())
            }
            Inst::Sts { rs, dst } => vector::store_scalar(chip, arg(dst, stream), stream.register(*rs)),

            Inst::Dld { dst, ap, reg } | Inst::Dtr { dst, ap, reg } => {
                transfer::load(chip, dram, side(dst, stream), pattern(stream, *ap, *reg))
            }
            Inst::Dst { ap, reg, src } => {
                transfer::store(chip, dram, pattern(stream, *ap, *reg), side(src, stream))
            }
            Inst::Dlq { dst, ap, reg, sap, sreg, zap, zreg } => {
                let [values, scales] = [(*ap, *reg), (*sap, *sreg)].map(|(ap, reg)| pattern(stream, ap, reg));
                let zeros = zap.map(|zap| pattern(stream, zap, *zreg));
                transfer::load_quantised(chip, dram, side(dst, stream), values, scales, zeros)
            }
            Inst::Dmv { dst, src, shape } => {
                transfer::copy(chip, side(dst, stream), side(src, stream), *shape)
            }
            Inst::Dga { dst, ap, reg, idx, parts, n0 } => transfer::indexed(
                chip,
                dram,
                Direction::Gather,
                side(dst, stream),
                pattern(stream, *ap, *reg),
                side(idx, stream),
                (usize::from(parts.0), n0.0),
            ),
            Inst::Dsc { src, ap, reg, idx, parts, n0 } => transfer::indexed(
                chip,
                dram,
                Direction::Scatter,
                side(src, stream),
                pattern(stream, *ap, *reg),
                side(idx, stream),
                (usize::from(parts.0), n0.0),
            ),
            Inst::Dfill { dst, shape, imm } => transfer::fill(chip, side(dst, stream), *shape, *imm),

            Inst::Ldw { src, k, m, col } => {
                let window = Window {
                    row: usize::from(src.part),
                    rows: usize::from(k.0),
                    col: usize::from(*col),
                    cols: usize::from(m.0),
                };
                grid.load(chip, window, src, stream.added(src.reg), false)
            }
            Inst::Ldwt { src, k, m, row, col } => {
                let window = Window {
                    row: usize::from(*row),
                    rows: usize::from(k.0),
                    col: usize::from(*col),
                    cols: usize::from(m.0),
                };
                grid.load(chip, window, src, stream.added(src.reg), true)
            }
            Inst::Mma { acc, mov, k, m, n0, n1, n2, cont, zs, zx } => {
                let mma = Mma {
                    acc,
                    acc_reg: stream.added(acc.reg),
                    moving: mov,
                    moving_reg: stream.added(mov.reg),
                    k: usize::from(k.0),
                    m: usize::from(m.0),
                    n: [n0.0, n1.0, n2.0],
                    continues: *cont,
                    zero: (*zs, *zx),
                    scales: None,
                };
                grid.multiply(chip, &mma)
            }
            Inst::Mmax { acc, mov, ss, sx, k, m, n0, n1, n2, cont } => {
                let mma = Mma {
                    acc,
                    acc_reg: stream.added(acc.reg),
                    moving: mov,
                    moving_reg: stream.added(mov.reg),
                    k: usize::from(k.0),
                    m: usize::from(m.0),
                    n: [n0.0, n1.0, n2.0],
                    continues: *cont,
                    zero: (0, 0),
                    scales: Some([ss, sx].map(|view| (view, stream.added(view.reg)))),
                };
                grid.multiply(chip, &mma)
            }
            Inst::Mtrn { dst, src, parts, n } => Grid::transpose(
                chip,
                (dst, stream.added(dst.reg)),
                (src, stream.added(src.reg)),
                usize::from(parts.0),
                usize::from(n.0),
            ),

            Inst::Vtt { op, dst, a, b, shape } => {
                vector::binary(chip, *op, arg(dst, stream), arg(a, stream), arg(b, stream), *shape)
            }
            Inst::Vts { op, dst, a, imm, rev, shape } => {
                vector::with_scalar(chip, *op, arg(dst, stream), arg(a, stream), *imm, *rev, *shape)
            }
            Inst::Vmrg { dst, mask, a, b, shape } => vector::merge(
                chip,
                arg(dst, stream),
                arg(mask, stream),
                [arg(a, stream), arg(b, stream)],
                *shape,
            ),
            Inst::Vsel { dst, src, shape, base, reg, cp, c0, c1, c2, imm } => {
                let predicate = affine(stream, *base, *reg, cp.0, [c0.0, c1.0, c2.0]);
                vector::select(chip, arg(dst, stream), arg(src, stream), *shape, predicate, *imm)
            }
            Inst::Vcvt { mode, dst, src, shape } => {
                vector::convert(chip, *mode, arg(dst, stream), arg(src, stream), *shape)
            }
            Inst::Vred { op, dst, src, shape, dims, cont } => {
                vector::reduce(chip, *op, arg(dst, stream), arg(src, stream), *shape, *dims, *cont)
            }
            Inst::Vscan { op, dst, src, carry, shape, exclusive, reverse } => {
                let carry = carry.as_ref().map(|view| arg(view, stream));
                let order = vector::ScanOrder { exclusive: *exclusive, reverse: *reverse };
                vector::scan(chip, *op, arg(dst, stream), arg(src, stream), carry, *shape, order)
            }
            Inst::Vshuf { dst, src, idx, shape, bound } => {
                let operands = [arg(dst, stream), arg(src, stream), arg(idx, stream)];
                vector::shuffle(chip, operands, *shape, bound.0)
            }
            Inst::Vtopk { values, indices, src, shape, k, smallest } => {
                let operands = [arg(values, stream), arg(indices, stream), arg(src, stream)];
                vector::top_k(chip, operands, *shape, k.0, *smallest)
            }
            Inst::Viota { dst, shape, base, reg, cp, c0, c1, c2 } => {
                let values = affine(stream, *base, *reg, cp.0, [c0.0, c1.0, c2.0]);
                vector::iota(chip, arg(dst, stream), *shape, values)
            }

            Inst::Act { func, dst, src, bias, sum, over, sumc, scale, shape } => {
                let sum = sum.as_ref().map(|view| activation::Sum {
                    to: arg(view, stream),
                    over: *over,
                    continues: *sumc,
                });
                let call = activation::Call {
                    func: *func,
                    dst: arg(dst, stream),
                    src: arg(src, stream),
                    scale: activation::Scale::Immediate(scale.get()),
                    bias: bias.as_ref().map(|view| arg(view, stream)),
                    sum,
                    shape: *shape,
                };
                activation::apply(chip, tables, &call)
            }
            Inst::Actr { func, dst, src, scale, bias, shape } => {
                let call = activation::Call {
                    func: *func,
                    dst: arg(dst, stream),
                    src: arg(src, stream),
                    scale: activation::Scale::Operand(arg(scale, stream)),
                    bias: bias.as_ref().map(|view| arg(view, stream)),
                    sum: None,
                    shape: *shape,
                };
                activation::apply(chip, tables, &call)
            }
            Inst::Lutld { lut, ap, reg } => {
                self.flow.drain();
                tables.load(&dram.read(), lut.0, pattern(stream, *ap, *reg))
            }
        }
    }
}

pub(crate) fn side<'a>(view: &'a View, stream: &Stream) -> Side<'a> {
    Side { view, reg: stream.added(view.reg) }
}

fn arg<'a>(view: &'a View, stream: &Stream) -> Arg<'a> {
    Arg { view, reg: stream.added(view.reg) }
}

fn pattern(stream: &Stream, ap: Ap, reg: Add) -> Pattern<'_> {
    Pattern { pattern: stream.pattern(ap), reg: stream.added(reg) }
}

fn affine(stream: &Stream, base: i32, reg: Add, part: i32, free: [i32; 3]) -> Affine {
    Affine {
        base: i64::from(base).wrapping_add(stream.added(reg)),
        part: part.into(),
        free: free.map(i64::from),
    }
}

#[cfg(test)]
mod definition;
