//! What the operands of an instruction touch: bytes of a core's memories or of DRAM, and the buffers they belong to.

use std::rc::Rc;

use kiln_machine::isa::{AccessPattern, Add, Inst, Operand, Role};
use kiln_machine::program::Memory;

use super::footprint::Footprint;
use crate::code::{Code, Step};
use crate::lane::OnChip;
use crate::stream::Stream;

/// An operand of an instruction, ready to be followed.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    pub(super) footprint: Rc<Footprint>,
    pub(super) role: Role,
    pub(super) reg: Add,
    /// On chip: the core whose memory it is, by its place among all cores.
    pub(super) core: usize,
    /// The buffer that it belongs to, if that is known.
    pub(super) buffer: Option<u32>,
}

/// What an instruction of a core touches, but the DRAM rows that indices name: what it reads first, so that it does not
/// make its own operands written. `cores` are the numbers of all cores.
pub(super) fn touches(step: &Step, code: &Code, core: usize, cores: &[u8], stream: &Stream) -> Vec<Touch> {
    let indexed = matches!(step.inst, Inst::Dga { .. } | Inst::Dsc { .. });
    let one = |(number, operand): (usize, Operand)| {
        let memory = Memory::of(&operand);
        let (footprint, role, reg) = match operand {
            Operand::OnChip { role, view, extent, .. } => {
                (Footprint::on_chip(memory, &view, extent.resolve(&stream.patterns)?), role, view.reg)
            }
            Operand::Dram { .. } if indexed => return None,
            Operand::Dram { role, ap, reg, .. } => (Footprint::in_dram(stream.pattern(ap))?, role, reg),
        };
        Some(Touch { footprint: Rc::new(footprint), role, reg, core, buffer: code.buffer(step, number) })
    };
    let mut found: Vec<Touch> = step.inst.operands().into_iter().enumerate().filter_map(one).collect();
    // What is sent to a core arrives there; that there is none stops the instruction itself.
    if let Inst::Cput { core, dst, shape, .. } = step.inst
        && let Some(core) = cores.iter().position(|number| *number == core)
    {
        let footprint = Rc::new(Footprint::on_chip(dst.space.into(), &dst, shape));
        found.push(Touch { footprint, role: Role::Write, reg: dst.reg, core, buffer: None });
    }
    found.sort_by_key(|touch| !touch.role.reads());
    found
}

/// All rows that the indices of a gather or scatter may name.
pub(super) fn table(step: &Step, code: &Code, core: usize, stream: &Stream) -> Option<Touch> {
    let (Inst::Dga { ap, .. } | Inst::Dsc { ap, .. }) = &step.inst else { return None };
    step.inst.operands().into_iter().enumerate().find_map(|(number, operand)| {
        let Operand::Dram { role, reg, .. } = operand else { return None };
        let pattern = stream.pattern(*ap);
        let [rows, n1, n2, _] = pattern.size;
        let footprint = Footprint::in_dram(&AccessPattern { size: [rows, n1, n2, 1], ..*pattern })?;
        Some(Touch { footprint: Rc::new(footprint), role, reg, core, buffer: code.buffer(step, number) })
    })
}

/// The DRAM rows of a gather or scatter.
pub(super) enum Rows {
    None,
    /// The indices are not known.
    Unknown,
    /// A row, and the bytes that each of them begins at relative to it.
    Known {
        row: Touch,
        bases: Vec<i64>,
    },
}

/// The DRAM rows that an instruction of a core touches; `chip` holds their indices, where values are computed.
pub(super) fn indexed_rows(
    step: &Step,
    code: &Code,
    core: usize,
    stream: &Stream,
    chip: Option<&mut OnChip>,
) -> Rows {
    let (ap, reg, idx, parts, n0) = match &step.inst {
        Inst::Dga { ap, reg, idx, parts, n0, .. } | Inst::Dsc { ap, reg, idx, parts, n0, .. } => {
            (ap, reg, idx, parts, n0)
        }
        _ => return Rows::None,
    };
    let operands = step.inst.operands();
    let in_dram = operands.iter().enumerate().find_map(|(number, operand)| match operand {
        Operand::Dram { role, .. } => Some((number, *role)),
        Operand::OnChip { .. } => None,
    });
    let Some((number, role)) = in_dram else { return Rows::None };
    let Some(chip) = chip else { return Rows::Unknown };
    let pattern = stream.pattern(*ap);
    let [_, n1, n2, _] = pattern.size;
    let [pitch, s1, s2, _] = pattern.stride;
    let one = AccessPattern { size: [1, 1, n1, n2], stride: [0, 0, s1, s2], ..*pattern };
    let Some(footprint) = Footprint::in_dram(&one) else { return Rows::None };
    let row =
        Touch { footprint: Rc::new(footprint), role, reg: *reg, core, buffer: code.buffer(step, number) };
    // Indices that cannot be read, or are none, stop the instruction itself.
    let Ok(place) = chip.place(idx, stream.added(idx.reg), parts.0.into(), [n0.0, 1, 1]) else {
        return Rows::None;
    };
    let places = place.part..place.part + usize::from(parts.0);
    if chip.check(&place, places.clone()).is_err() {
        return Rows::None;
    }
    let mut indices = vec![0i32; n0.0 as usize];
    let mut bases = Vec::new();
    for part in places.clone() {
        chip.now(&[(&place, places.clone(), false)], |granted| granted.load(&place, part, 0, &mut indices));
        let valid =
            indices.iter().filter(|index| (0..i64::from(pattern.size[0])).contains(&i64::from(**index)));
        bases.extend(valid.map(|index| {
            stream.added(*reg) + (i64::from(*index) * pitch * i64::from(pattern.dt.bits())).div_euclid(8)
        }));
    }
    bases.sort_unstable();
    bases.dedup();
    Rows::Known { row, bases }
}
