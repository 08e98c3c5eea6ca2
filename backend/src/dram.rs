//! DRAM addresses: what the program keeps stays put, temporaries share addresses by lifetime in groups.

use std::collections::BTreeMap;

use kiln_ir::tile;
use kiln_machine::target::Target;

use crate::emit::dram_uses;
use crate::error::BackendError;
use crate::lir::Lir;
use crate::placement::Extent;

/// Tensors start at multiples of this.
pub const ALIGN_BYTES: u64 = 256;

/// Where a segment of a larger program may put its tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The first address of what the segment places itself, a multiple of [`ALIGN_BYTES`].
    pub base: u64,
    /// Addresses of inputs, by name of their port.
    pub inputs: BTreeMap<String, u64>,
    /// Addresses of outputs, by name of their port.
    pub outputs: BTreeMap<String, u64>,
}

impl Layout {
    /// The address that others chose for a tensor.
    fn address(&self, kind: &tile::DramKind) -> Option<u64> {
        match kind {
            tile::DramKind::Input(port) => self.inputs.get(&port.name).copied(),
            tile::DramKind::Output(port) => self.outputs.get(&port.name).copied(),
            _ => None,
        }
    }
}

/// The addresses of all DRAM tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DramPlan {
    pub extents: Vec<Extent>,
    pub bytes: u64,
    pub temp_bytes: u64,
}

/// Places every tensor: first those of the host and of the image in order, then temporaries by first fit.
pub(crate) fn place(
    source: &tile::Program,
    lir: &Lir,
    target: &Target,
    layout: &Layout,
) -> Result<DramPlan, BackendError> {
    let uses = dram_uses(lir);
    let size = |d: &tile::Dram| (d.ty.size_bytes() as u64).next_multiple_of(ALIGN_BYTES);
    let mut extents = vec![Extent { base: 0, bytes: 0 }; source.drams.len()];
    let mut kept = layout.base;
    for (d, extent) in source.drams.iter().zip(&mut extents) {
        extent.bytes = d.ty.size_bytes() as u64;
        if let Some(address) = layout.address(&d.kind) {
            extent.base = address;
        } else if d.kind != tile::DramKind::Temp {
            extent.base = kept;
            kept += size(d);
        }
    }
    // largest first; a temporary may lie where others lie that are dead or not yet born
    let mut temps: Vec<usize> =
        (0..extents.len()).filter(|i| source.drams[*i].kind == tile::DramKind::Temp).collect();
    temps.retain(|i| uses.contains_key(&(*i as u32)));
    temps.sort_by_key(|i| (std::cmp::Reverse(size(&source.drams[*i])), *i));
    let mut placed: Vec<usize> = Vec::new();
    let mut end = kept;
    for i in temps {
        let live = uses[&(i as u32)];
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(|j| {
                let other = uses[&(**j as u32)];
                live.0 <= other.1 && other.0 <= live.1
            })
            .map(|j| (extents[*j].base, extents[*j].base + size(&source.drams[*j])))
            .collect();
        taken.sort_unstable();
        let mut base = kept;
        for (lo, hi) in taken {
            if base + size(&source.drams[i]) <= lo {
                break;
            }
            base = base.max(hi);
        }
        extents[i].base = base;
        end = end.max(base + size(&source.drams[i]));
        placed.push(i);
    }
    if end > target.dram_bytes {
        return Err(BackendError::DramFull { needed_bytes: end, available_bytes: target.dram_bytes });
    }
    Ok(DramPlan { extents, bytes: end, temp_bytes: end - kept })
}
