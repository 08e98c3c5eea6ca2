//! The values of ACT: a function after scale and bias, with optional sums, and the lookup tables.

use std::sync::Arc;

use kiln_machine::isa::{ActFunc, Dims, Dt, RedOp, Shape};
use kiln_machine::numerics::act::{LUT_LEN, lut};

use crate::dram::{Cursor, Dram};
use crate::elementwise::{Kept, Role, Scratch, each_block};
use crate::error::TrapKind;
use crate::kernels;
use crate::lane::OnChip;
use crate::pattern::DramPlace;
use crate::transfer::Pattern;
use crate::vector::{Arg, TOGETHER, fold_rows, fold_runs};

/// Where the scale comes from.
pub(crate) enum Scale<'a> {
    Immediate(f32),
    Operand(Arg<'a>),
}

/// Sums of the results.
pub(crate) struct Sum<'a> {
    pub(crate) to: Arg<'a>,
    pub(crate) over: Dims,
    pub(crate) continues: bool,
}

/// One ACT instruction.
pub(crate) struct Call<'a> {
    pub(crate) func: ActFunc,
    pub(crate) dst: Arg<'a>,
    pub(crate) src: Arg<'a>,
    pub(crate) scale: Scale<'a>,
    pub(crate) bias: Option<Arg<'a>>,
    pub(crate) sum: Option<Sum<'a>>,
    pub(crate) shape: Shape,
}

/// The lookup tables of ACT; the last one loaded is in use.
#[derive(Default)]
pub(crate) struct Tables {
    tables: [Option<Arc<[f32; LUT_LEN]>>; 16],
    current: usize,
}

impl Tables {
    /// Load a table from DRAM.
    pub(crate) fn load(&mut self, dram: &Dram, number: u8, from: Pattern<'_>) -> Result<(), TrapKind> {
        let place = DramPlace::new(from.pattern, from.reg, dram.size())?;
        if place.elements() != LUT_LEN || place.dt != Dt::F32 {
            return Err(TrapKind::Extents(format!("a lookup table is {LUT_LEN} f32")));
        }
        let mut bytes = [0; LUT_LEN * 4];
        place
            .read(dram, &mut Cursor::default(), &mut bytes)
            .map_err(|hole| TrapKind::DramUnwritten { byte: hole.0 })?;
        let mut table = [0.0; LUT_LEN];
        for (value, bytes) in table.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        self.current = usize::from(number) % self.tables.len();
        self.tables[self.current] = Some(Arc::new(table));
        Ok(())
    }

    /// The table in use.
    fn current(&self) -> Option<Arc<[f32; LUT_LEN]>> {
        self.tables[self.current].clone()
    }
}

/// `dst = f(round(scale·src) + bias)`, and the sums.
pub(crate) fn apply(chip: &mut OnChip, tables: &Tables, call: &Call<'_>) -> Result<(), TrapKind> {
    let table = match (call.func, tables.current()) {
        (ActFunc::Lut, None) => return Err(TrapKind::Absent("a lookup table: none was loaded")),
        (ActFunc::Lut, table) => table,
        _ => None,
    };
    let shape = call.shape;
    let [from, to] = [call.src.place(chip, shape)?, call.dst.place(chip, shape)?];
    let bias = call.bias.map(|bias| bias.place(chip, shape)).transpose()?;
    let scale = match &call.scale {
        Scale::Immediate(_) => None,
        Scale::Operand(scale) => Some(scale.place(chip, shape)?),
    };
    let factor = if let Scale::Immediate(factor) = call.scale { factor } else { 1.0 };
    let sum = match &call.sum {
        Some(sum) => Some((sum.to.place(chip, shape.without(sum.over))?, sum.continues)),
        None => None,
    };
    let over = call.sum.as_ref().map(|sum| sum.over);
    let kept = over.map(|over| Kept::new(shape.n, [0, 1, 2].map(|d| over.has(d))));
    let func = call.func;
    let read = bias.iter().chain(&scale).map(|place| (place, Role::Read));
    let summed =
        sum.iter().map(|(place, continues)| (place, if *continues { Role::Update } else { Role::Write }));
    let places: Vec<_> =
        [(&to, Role::Write), (&from, Role::Read)].into_iter().chain(read).chain(summed).collect();
    let (run, count) = (kept.and_then(|kept| kept.run()), kept.map_or(0, |kept| kept.count()));
    // Sums of several partitions are made together where they can be made of what was stored.
    let size = if sum.is_some() { TOGETHER } else { 1 };
    each_block(chip, shape.parts.into(), &places, size, move |reach, block, scratch: &mut Scratch<f32>| {
        let Scratch { out, x, y, mask, .. } = scratch;
        let mut chains = vec![0.0f32; count * block.len()];
        let stored = run.filter(|_| reach.rows::<f32>(&to, block.clone()).is_some());
        for (number, index) in block.clone().enumerate() {
            reach.index = index;
            let chains = &mut chains[number * count..][..count];
            if let Some((place, true)) = &sum {
                reach.load(place, 0, chains);
            }
            reach.compute_each((&to, out), |reach, start, out| {
                let len = out.len();
                let from = reach.numbers(&from, start, &mut x[..len]);
                let scale = scale.as_ref().map(|scale| reach.numbers(scale, start, &mut y[..len]));
                let bias = bias.as_ref().map(|bias| reach.numbers(bias, start, &mut mask[..len]));
                let plain = scale.is_none() && bias.is_none() && factor == 1.0;
                if !plain {
                    kernels::scale_and_bias(from, factor, scale, bias, out);
                }
                match &table {
                    Some(table) if plain => {
                        out.iter_mut().zip(from).for_each(|(out, x)| *out = lut(table, *x))
                    }
                    Some(table) => out.iter_mut().for_each(|x| *x = lut(table, *x)),
                    None if plain => kernels::activate(func, from, out),
                    None => kernels::activate_in_place(func, out),
                }
                if let (Some(kept), None) = (kept, stored) {
                    fold_rows(RedOp::Sum, kept, start, out, chains);
                }
            });
        }
        if let (Some(run), Some(rows)) = (stored, reach.rows(&to, block.clone())) {
            fold_runs(RedOp::Sum, run, &rows, &mut chains);
        }
        if let Some((place, _)) = &sum {
            for (index, chains) in block.zip(chains.chunks(count)) {
                reach.index = index;
                reach.store(place, 0, chains);
            }
        }
    })
}
