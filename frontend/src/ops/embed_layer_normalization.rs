//! `com.microsoft.EmbedLayerNormalization`: word, position and segment embeddings added and normalised.

use kiln_ir::nn::{MapKind, ReduceKind};
use kiln_machine::tensor::DType;

use crate::call::Call;
use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Keep, Result, Val};
use crate::ops::{gather, layer_normalization};

/// Inputs: ids, segment ids, word, position and segment embeddings, γ, β, mask, position ids.
pub fn import(c: &mut Call) -> Result<Vec<Val>> {
    let (ids, words, positions) = (c.input(0)?, c.input(2)?, c.input(3)?);
    let (gamma, beta) = (c.input(5)?, c.input(6)?);
    let epsilon = c.float_or("epsilon", 1e-12)?;
    c.ignore(&["mask_index_type"]);
    let dtype = c.expect_float(words)?;
    let &[batch, rows] = c.draft.shape(ids) else {
        return Err(Diagnostic::new(Code::Shape, format!("ids {:?} are not [B, S]", c.draft.shape(ids))));
    };
    let mut sum = gather::take(c.draft, words, ids, 0)?;
    let place = match c.optional(8) {
        Some(given) => gather::take(c.draft, positions, given, 0)?,
        None => c.draft.slice_axis(positions, 0, 0, rows)?,
    };
    sum = c.draft.map2(MapKind::Add, sum, place)?;
    if let (Some(segments), Some(table)) = (c.optional(1), c.optional(4)) {
        let segment = gather::take(c.draft, table, segments, 0)?;
        sum = c.draft.map2(MapKind::Add, sum, segment)?;
    }
    let (normal, ..) = layer_normalization::normalize(c.draft, sum, &[2], epsilon.into(), DType::F32)?;
    let normal = c.draft.cast(normal, dtype)?;
    let scaled = c.draft.map2(MapKind::Mul, normal, gamma)?;
    let y = c.draft.map2(MapKind::Add, scaled, beta)?;
    // How many positions of each sequence the mask keeps.
    let count = match c.optional(7) {
        Some(mask) => {
            let set = c.draft.map_scalar(MapKind::Eq, mask, 1.0)?;
            let ones = c.draft.cast(set, DType::I32)?;
            c.draft.reduce(ReduceKind::Sum, ones, &[1], Keep::No)?
        }
        None => c.draft.full(0.0, DType::I32, &[batch])?,
    };
    Ok(vec![y, count, sum])
}
