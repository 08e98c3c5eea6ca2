//! Instructions that involve several cores: messages, reductions, barriers.

use kiln_machine::duration::Cost;
use kiln_machine::isa::{Engine, Inst, RedOp, Shape, View};

use super::{Device, Meeting};
use crate::code::{Code, Step};
use crate::error::TrapKind;
use crate::execute::side;
use crate::lane::OnChip;
use crate::transfer;

impl<'a> Device<'a> {
    /// A message of `cput`: its values now, its time over the links.
    pub(super) fn put(
        &mut self,
        index: usize,
        step: &Step,
        core: u8,
        (dst, src, shape): (&View, &View, Shape),
    ) -> Result<Cost, TrapKind> {
        if u64::from(core) >= self.settings.target.cores {
            return Err(TrapKind::Absent("another core"));
        }
        let from = self.slots[index];
        let Some(to) = self.memories.slot(core) else {
            return Err(TrapKind::Absent("a program on the core that this is sent to"));
        };
        if self.settings.values {
            let stream = &self.streams[index];
            let (dst, src) = (side(dst, stream), side(src, stream));
            let cores = &mut self.memories.cores;
            cores.iter().for_each(|core| core.chip.begin());
            match cores.get_disjoint_mut([from, to]) {
                Ok([from, to]) => transfer::send(&mut from.chip, &mut to.chip, dst, src, shape)?,
                // The own core.
                Err(_) => transfer::copy(&mut cores[from].chip, dst, src, shape)?,
            }
        }
        let busy = step.cost.busy;
        let journey = self.torus.send(self.now, self.codes[index].core.into(), core.into(), busy);
        Ok(Cost { issue: journey.left - self.now, busy, latency: journey.arrived - self.now, ..step.cost })
    }

    /// A stream has come to the meeting of a group: if it is the last one, the meeting takes place and all go on from
    /// its end.
    pub(super) fn meet(&mut self, index: usize, group: u8) -> Result<(), TrapKind> {
        let codes = self.codes;
        let members = self.members(index, group)?;
        let there: Option<Vec<usize>> = members.iter().map(|core| self.at_meeting(*core, group)).collect();
        let Some(streams) = there else { return Ok(()) };
        let insts: Vec<&Inst> =
            streams.iter().map(|stream| &codes[*stream].steps[self.streams[*stream].at].inst).collect();
        let reduce = insts.iter().filter(|inst| matches!(inst, Inst::Cred { .. })).count();
        if reduce > 0 && reduce < insts.len() {
            return Err(TrapKind::Extents("one core of a group reduces, another waits".into()));
        }
        if let Some(sanitizer) = &mut self.sanitizer {
            sanitizer.meet(&streams, &self.streams);
        }
        let end = match insts[0] {
            Inst::Cred { op, src, shape, .. } => {
                let alike = |inst: &&Inst| matches!(inst, Inst::Cred { op: o, src: s, shape: n, .. } if (o, s.dt, n) == (op, src.dt, shape));
                if !insts.iter().all(alike) {
                    return Err(TrapKind::Extents("the cores of a group reduce differently".into()));
                }
                if self.settings.values {
                    self.reduce(&streams, *op, *shape)?;
                }
                let at = self.streams[index].at;
                let busy = codes[index].steps[at].cost.busy;
                self.torus.reduce(self.now, &members, busy).arrived
            }
            _ => self.now + self.torus.meeting(&members),
        };
        for stream in streams {
            self.meetings[stream] = Meeting::Over;
            self.clocks[stream].next = end;
        }
        Ok(())
    }

    /// The cores of a stream's group that have streams, in ascending order.
    fn members(&self, index: usize, group: u8) -> Result<Vec<u64>, TrapKind> {
        let cores = self.memories.cores.iter().map(|core| core.number);
        let running: Vec<u64> =
            cores.filter(|core| self.codes.iter().any(|code| code.core == *core)).map(u64::from).collect();
        self.torus.members(self.codes[index].core.into(), group, &running)
    }

    /// The collective stream of a core, if it has come to the meeting of this group.
    fn at_meeting(&self, core: u64, group: u8) -> Option<usize> {
        let of_core = |code: &Code| u64::from(code.core) == core && code.engine == Engine::Col;
        let stream = self.codes.iter().position(of_core)?;
        (self.meetings[stream] == Meeting::There && self.group_of(stream) == Some(group)).then_some(stream)
    }

    /// The cores that a stream at a meeting waits for.
    pub(crate) fn missing(&self, index: usize, group: u8) -> Vec<u8> {
        let members = self.members(index, group).unwrap_or_default();
        members
            .iter()
            .filter(|core| self.at_meeting(**core, group).is_none())
            .map(|core| *core as u8)
            .collect()
    }

    /// The group whose meeting a stream is at.
    fn group_of(&self, stream: usize) -> Option<u8> {
        match self.codes[stream].steps[self.streams[stream].at].inst {
            Inst::Bar { group } | Inst::Cred { group, .. } => Some(group),
            _ => None,
        }
    }

    /// The values of a reduction over these streams' cores.
    fn reduce(&mut self, streams: &[usize], op: RedOp, shape: Shape) -> Result<(), TrapKind> {
        let mut sides = Vec::new();
        for stream in streams {
            let state = &self.streams[*stream];
            if let Inst::Cred { dst, src, .. } = &self.codes[*stream].steps[state.at].inst {
                sides.push((side(dst, state), side(src, state)));
            }
        }
        let slots: Vec<usize> = streams.iter().map(|stream| self.slots[*stream]).collect();
        let of_member = self.memories.cores.iter_mut().enumerate();
        let mut chips: Vec<&mut OnChip> =
            of_member.filter(|(slot, _)| slots.contains(slot)).map(|(_, core)| &mut core.chip).collect();
        transfer::reduce(&mut chips, op, &sides, shape)
    }
}

/// What a reduction costs once its cores have met: nothing more.
pub(super) const MET: Cost = Cost { issue: 0, busy: 0, latency: 0, dram_read_bytes: 0, dram_write_bytes: 0 };
