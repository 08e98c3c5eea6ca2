//! Elements chosen along the last dim of each partition: by index, and by size.

use kiln_machine::isa::Shape;

use super::Arg;
use super::fold::Fold;
use crate::elementwise::{Role, Scratch, Scratched, each_part, prepare};
use crate::error::TrapKind;
use crate::lane::{OnChip, Place};

/// `dst[p, i0, i1, i2] = src[p, i0, i1, idx[p, i0, i1, i2]]`.
pub(crate) fn shuffle(
    chip: &mut OnChip,
    [dst, src, idx]: [Arg<'_>; 3],
    shape: Shape,
    bound: u32,
) -> Result<(), TrapKind> {
    let source = Shape { n: [shape.n[0], shape.n[1], bound], ..shape };
    let [to, from, idx] = [dst.place(chip, shape)?, src.place(chip, source)?, idx.place(chip, shape)?];
    if !idx.dt.is_integer() {
        return Err(TrapKind::ElementType { dt: idx.dt });
    }
    if src.is_integer() && dst.is_integer() {
        shuffle_as::<i32>(chip, shape, [&to, &from, &idx], bound as usize)
    } else {
        shuffle_as::<f32>(chip, shape, [&to, &from, &idx], bound as usize)
    }
}

fn shuffle_as<N: Scratched>(
    chip: &mut OnChip,
    shape: Shape,
    [to, from, idx]: [&Place; 3],
    bound: usize,
) -> Result<(), TrapKind> {
    let [n0, n1, n2] = shape.n.map(|n| n as usize);
    let parts = usize::from(shape.parts);
    prepare(chip, parts, &[(idx, Role::Read)])?;
    let of = |place: &Place| place.part..place.part + parts;
    let reads = [(from, of(from), false), (idx, of(idx), false)];
    // What no index names need not be written, so the indices are looked at first.
    let named = chip.now(&reads, |granted| {
        let mut indices = vec![0i32; n0 * n1 * n2 * parts];
        for (part, indices) in indices.chunks_mut(n0 * n1 * n2).enumerate() {
            granted.load(idx, idx.part + part, 0, indices);
        }
        indices
    });
    let mut elements = Vec::with_capacity(named.len());
    for (i, index) in named.iter().enumerate() {
        if *index < 0 || *index as usize >= bound {
            return Err(TrapKind::Index { index: (*index).into(), size: bound as u32 });
        }
        let (part, row) = (i / (n0 * n1 * n2), i / n2 % (n0 * n1));
        let element = row * bound + *index as usize;
        chip.check_element(from, from.part + part, element)?;
        elements.push(element);
    }
    prepare(chip, parts, &[(to, Role::Write)])?;
    chip.now(&[(from, of(from), false), (to, of(to), true)], |granted| {
        let mut out = vec![N::default(); n0 * n1 * n2];
        for (part, elements) in elements.chunks(out.len()).enumerate() {
            for (out, element) in out.iter_mut().zip(elements) {
                granted.load(from, from.part + part, *element, std::slice::from_mut(out));
            }
            granted.store(to, to.part + part, 0, &out);
        }
    });
    Ok(())
}

/// The k largest or smallest of each row, sorted, with their indices.
pub(crate) fn top_k(
    chip: &mut OnChip,
    [values, indices, src]: [Arg<'_>; 3],
    shape: Shape,
    k: u32,
    smallest: bool,
) -> Result<(), TrapKind> {
    if k > shape.n[2] {
        return Err(TrapKind::Extents(format!("the {k} first of {} elements", shape.n[2])));
    }
    let result = Shape { n: [shape.n[0], shape.n[1], k], ..shape };
    let places = [values.place(chip, result)?, indices.place(chip, result)?, src.place(chip, shape)?];
    if src.is_integer() {
        top_k_as::<i32>(chip, shape, &places, k as usize, smallest)
    } else {
        top_k_as::<f32>(chip, shape, &places, k as usize, smallest)
    }
}

fn top_k_as<N: Fold>(
    chip: &mut OnChip,
    shape: Shape,
    [values, indices, src]: &[Place; 3],
    k: usize,
    smallest: bool,
) -> Result<(), TrapKind> {
    let [n0, n1, n2] = shape.n.map(|n| n as usize);
    let (src, values, indices) = (*src, *values, *indices);
    let places = [(&src, Role::Read), (&values, Role::Write), (&indices, Role::Write)];
    each_part(chip, shape.parts.into(), &places, move |reach, _: &mut Scratch<N>| {
        let mut row = vec![N::default(); n2];
        for index in 0..n0 * n1 {
            reach.load(&src, index * n2, &mut row);
            let mut order: Vec<i32> = (0..n2 as i32).collect();
            // Stable, so the lower index stays first among equals. NaN counts as the largest.
            order.sort_by(|a, b| {
                let (x, y) = (row[*a as usize], row[*b as usize]);
                let ascending = x.order(y);
                if smallest { ascending } else { ascending.reverse() }
            });
            order.truncate(k);
            let picked: Vec<N> = order.iter().map(|at| row[*at as usize]).collect();
            reach.store(&values, index * k, &picked);
            reach.store(&indices, index * k, &order);
        }
    })
}
