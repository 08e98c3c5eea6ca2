//! The order in which an on-chip buffer holds its free axes.
//!
//! Any order does, since every operand has strides. A buffer holds them as they are numbered, but for one that only
//! transfers fill and only the matrix engine reads: that has the axes along which one instruction reads it innermost, so
//! that the array reads runs of neighbours, and a transfer of a matrix that lies so in DRAM moves whole rows.

use kiln_ir::tile;

/// For each buffer of the group, its free axes, outermost first.
pub(super) fn orders(group: &tile::Group) -> Vec<Vec<usize>> {
    let mut wanted = vec![Wanted::Nothing; group.bufs.len()];
    let mut want = |view: &tile::View, inner: Option<Vec<usize>>| {
        if let Some(wanted) = wanted.get_mut(view.buf.index()) {
            wanted.add(inner);
        }
    };
    group.for_each_op(&mut |op, _| match op {
        tile::Op::Load { .. } => {}
        tile::Op::Matmul { acc, s, x, .. } => {
            let (in_s, in_x) = read_by_one_instruction(group, acc, s, x);
            want(s, Some(in_s));
            want(x, Some(in_x));
            want(acc, None);
        }
        op => {
            let touched = op.writes().into_iter().map(|(view, _)| view).chain(op.reads());
            touched.for_each(|view| want(view, None));
        }
    });
    let order = |(buf, wanted): (&tile::BufType, Wanted)| {
        let inner = if let Wanted::Inner(axes) = wanted { axes } else { Vec::new() };
        let free = || (0..buf.shape.len()).filter(|axis| *axis != buf.part);
        let outer = free().filter(|axis| !inner.contains(axis));
        outer.chain(free().filter(|axis| inner.contains(axis))).collect()
    };
    group.bufs.iter().zip(wanted).map(order).collect()
}

/// What the instructions that touch a buffer want of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    /// These axes innermost.
    Inner(Vec<usize>),
    /// The axes as they are numbered: something else touches it, or two instructions disagree.
    AsNumbered,
}

impl Wanted {
    fn add(&mut self, inner: Option<Vec<usize>>) {
        *self = match (&*self, inner) {
            (Self::Nothing, Some(inner)) => Self::Inner(inner),
            (Self::Inner(other), Some(inner)) if *other == inner => return,
            _ => Self::AsNumbered,
        };
    }
}

/// The free axes that one load of the array and one multiplication walk, of the stationary and the moving operand.
fn read_by_one_instruction(
    group: &tile::Group,
    acc: &tile::View,
    s: &tile::View,
    x: &tile::View,
) -> (Vec<usize>, Vec<usize>) {
    let part = |view: &tile::View| group.bufs.get(view.buf.index()).map_or(0, |buf| buf.part);
    let wide = |view: &tile::View, axis: usize| view.shape.get(axis).is_some_and(|extent| *extent > 1);
    let (contracted, rows) = (part(x), part(acc));
    let along = if part(s) == contracted { rows } else { contracted };
    let columns = |axis: &usize| wide(acc, *axis) && wide(x, *axis) && !wide(s, *axis);
    (vec![along], (0..acc.shape.len()).filter(columns).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::{DType, Origin};

    /// Heads on axis 1: a product of each, rows on axis 0, columns on axis 2, contracted over 3.
    fn heads(others: impl Fn(&[tile::View]) -> Vec<tile::Op>) -> Vec<Vec<usize>> {
        let buf = |shape: [usize; 4], part: usize| {
            let space = if part == 0 { tile::Space::Acc } else { tile::Space::Spm };
            tile::BufType { dtype: DType::F32, shape: shape.to_vec(), space, part }
        };
        let bufs = vec![buf([128, 6, 512, 1], 0), buf([128, 6, 1, 64], 3), buf([1, 6, 512, 64], 3)];
        let view = |number: u32| tile::View::whole(tile::BufId(number), &bufs[number as usize]);
        let views = [view(0), view(1), view(2)];
        let [acc, s, x] = views.clone();
        let load = |dst: &tile::View| {
            let (dram, at) = (tile::DramId(0), tile::Access { strides: vec![1; 4], ..Default::default() });
            tile::Op::Load { dram, at, dst: dst.clone() }
        };
        let mut ops = vec![load(&s), load(&x)];
        ops.extend(others(&views));
        ops.push(tile::Op::Matmul { acc, s, x, accumulate: false });
        let inner = ops.into_iter().map(|op| tile::Stmt::Op { op, origin: Origin::default() }).collect();
        let body = vec![tile::Stmt::For { iv: tile::IvId(0), trip: 2, body: inner }];
        orders(&tile::Group { name: "g".into(), bufs, body })
    }

    #[test]
    fn what_the_array_reads_has_its_axis_innermost() {
        assert_eq!(heads(|_| Vec::new()), [[1, 2, 3], [1, 2, 0], [0, 1, 2]]);
    }

    #[test]
    fn what_anything_else_touches_lies_as_numbered() {
        let fill = |views: &[tile::View]| vec![tile::Op::Fill { dst: views[1].clone(), value: 0.0 }];
        assert_eq!(heads(fill)[1], [0, 1, 2]);
        // The other way round heads are rows of the array.
        let turned = |views: &[tile::View]| {
            let [acc, s, x] = [2, 0, 1].map(|i: usize| views[i].clone());
            vec![tile::Op::Matmul { acc, s, x, accumulate: false }]
        };
        assert_eq!(heads(turned)[1..], [[0, 1, 2], [0, 1, 2]]);
    }
}
