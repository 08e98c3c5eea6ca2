//! `nn` → named axes → `nn` is the identity: evaluated, bit for bit.

use kiln_ir::eval::{self, Files};
use kiln_ir::nn::{ContractDims, Func, FuncBuilder, MapKind, OpKind, Port, ReduceKind, ScanKind, ValueId};
use kiln_ir::{Context, DType, Module, Scalar, Tensor, TensorType};

use super::{Graph, Kind, from_nn, replace};

/// A small generator of pseudo-random numbers (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    /// A tensor of quarters in −3..3, small integers, or truth values.
    pub(crate) fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let data: Vec<u8> = (0..n)
            .flat_map(|_| match dtype {
                DType::F32 => ((self.below(25) as f32 - 12.0) / 4.0).to_le_bytes().to_vec(),
                DType::Bool => vec![self.below(2) as u8],
                _ => super::number::to_bytes(self.below(3) as f64, dtype).unwrap_or_default().to_vec(),
            })
            .collect();
        Tensor { dtype, shape: shape.to_vec(), data: data.into() }
    }
}

type Built = kiln_ir::Result<Vec<ValueId>>;

/// The function before and after the round trip, and the graph between.
fn round_trip(
    args: &[(DType, &[usize])],
    build: impl FnOnce(&mut FuncBuilder) -> Built,
) -> (Func, Func, Graph, Files) {
    let context = Context::new();
    let mut module = Module::new(&context);
    let args: Vec<_> = args
        .iter()
        .enumerate()
        .map(|(i, (dtype, shape))| (TensorType::new(*dtype, shape.to_vec()), Port::named(format!("x{i}"))))
        .collect();
    let mut b = FuncBuilder::new(&context, "main", &args).unwrap();
    let results = build(&mut b).unwrap();
    let results: Vec<_> =
        results.into_iter().enumerate().map(|(i, v)| (v, Port::named(format!("y{i}")))).collect();
    b.finish(&mut module, &results).unwrap();
    let before = module.func("main").unwrap();
    let graph = from_nn(&before);
    replace(&mut module, &before, &graph).unwrap();
    module.verify().unwrap();
    let files = Files::of(&module, vec![]);
    (before, module.func("main").unwrap(), graph, files)
}

fn check(args: &[(DType, &[usize])], build: impl FnOnce(&mut FuncBuilder) -> Built) -> Graph {
    let (before, after, graph, files) = round_trip(args, build);
    let mut random = Random::new(7);
    let inputs: Vec<Tensor> = args.iter().map(|(dtype, shape)| random.tensor(*dtype, shape)).collect();
    let want = eval::nn::eval(&before, &inputs, &files).unwrap();
    let got = eval::nn::eval(&after, &inputs, &files).unwrap();
    for (a, b) in want.iter().zip(&got) {
        assert_eq!((a.dtype, &a.shape), (b.dtype, &b.shape));
        let size = a.dtype.size_bytes();
        for (x, y) in a.data.chunks(size).zip(b.data.chunks(size)) {
            // A sum over one element keeps the sign of a zero that a chain from 0 loses.
            let zero = |e: &[u8]| a.dtype == DType::F32 && (e == [0, 0, 0, 0] || e == [0, 0, 0, 0x80]);
            assert!(x == y || (zero(x) && zero(y)), "{before:?}");
        }
    }
    graph
}

fn count(graph: &Graph, name: &str) -> usize {
    graph.nodes.iter().filter(|n| n.kind.name() == name).count()
}

const F: DType = DType::F32;

#[test]
fn a_product_with_itself_transposed_needs_one_rename() {
    let graph = check(&[(F, &[3, 4])], |b| {
        let x = b.arg(0);
        let t = b.transpose(x, &[1, 0])?;
        Ok(vec![b.contract(x, t, &ContractDims::matmul(0))?])
    });
    assert_eq!(count(&graph, "rename"), 1);
    assert_eq!(graph.nodes.len(), 3);
}

#[test]
fn a_sum_with_the_transpose_swaps_names() {
    let graph = check(&[(F, &[4, 4])], |b| {
        let x = b.arg(0);
        let t = b.transpose(x, &[1, 0])?;
        Ok(vec![b.map(MapKind::Add, &[x, t])?])
    });
    assert_eq!(count(&graph, "rename"), 1);
}

#[test]
fn heads_split_and_merge_without_a_node() {
    let graph = check(&[(F, &[5, 12]), (F, &[12, 12])], |b| {
        let y = b.contract(b.arg(0), b.arg(1), &ContractDims::matmul(0))?;
        let heads = b.reshape(y, &[5, 3, 4])?;
        let t = b.transpose(heads, &[1, 0, 2])?;
        let s = b.map(MapKind::Neg, &[t])?;
        let back = b.transpose(s, &[1, 0, 2])?;
        Ok(vec![b.reshape(back, &[5, 12])?])
    });
    assert_eq!(graph.nodes.len(), 4, "two inputs, a product and a map: {graph:?}");
}

#[test]
fn a_reshape_that_does_not_factor_is_a_relayout() {
    let graph = check(&[(F, &[6, 4])], |b| Ok(vec![b.reshape(b.arg(0), &[8, 3])?]));
    assert_eq!(count(&graph, "relayout"), 1);
}

#[test]
fn thirds_of_a_merged_product_split_into_heads() {
    // The slices' axes split, so the sliced axis does too: no relayout.
    let graph = check(&[(F, &[5, 24])], |b| {
        let mut parts = Vec::new();
        for i in 0..3 {
            let part = b.slice(b.arg(0), &[0, 8 * i], &[5, 8], &[1, 1])?;
            parts.push(b.reshape(part, &[5, 2, 4])?);
        }
        Ok(parts)
    });
    assert_eq!(count(&graph, "relayout"), 0);
    assert_eq!(count(&graph, "slice"), 3);
}

#[test]
fn extents_of_one_and_scalars_have_no_axes() {
    let graph = check(&[(F, &[1, 3, 1]), (F, &[])], |b| {
        let s = b.broadcast(b.arg(1), &[], &[1, 3, 1])?;
        let y = b.map(MapKind::Mul, &[b.arg(0), s])?;
        let r = b.reduce(ReduceKind::Sum, y, &[0, 2])?;
        Ok(vec![y, r])
    });
    assert_eq!(graph.axes, [3]);
}

#[test]
fn empty_tensors_survive() {
    check(&[(F, &[0, 4]), (F, &[2, 4])], |b| {
        let all = b.concat(&[b.arg(0), b.arg(1)], 0)?;
        let flat = b.reshape(b.arg(0), &[4, 0])?;
        let sum = b.reduce(ReduceKind::Sum, b.arg(0), &[0])?;
        Ok(vec![all, flat, sum])
    });
}

#[test]
fn equal_subgraphs_under_different_names_meet() {
    check(&[(F, &[3, 4]), (F, &[4, 4])], |b| {
        let (x, w) = (b.arg(0), b.arg(1));
        let p = b.contract(x, w, &ContractDims::matmul(0))?;
        let q = b.contract(p, w, &ContractDims::matmul(0))?;
        Ok(vec![b.map(MapKind::Add, &[x, q])?, b.map(MapKind::Sub, &[p, q])?])
    });
}

#[test]
fn a_diagonal_is_a_masked_sum() {
    check(&[(F, &[4, 4])], |b| {
        let (i, j) = (b.iota(DType::I32, &[4, 4], 0)?, b.iota(DType::I32, &[4, 4], 1)?);
        let on = b.map(MapKind::Eq, &[i, j])?;
        let zero = b.splat(F, 0.0, &[4, 4])?;
        let x = b.arg(0);
        let kept = b.map(MapKind::Select, &[on, x, zero])?;
        Ok(vec![b.reduce(ReduceKind::Sum, kept, &[1])?])
    });
}

#[test]
fn one_axis_repeated_for_each_group_disappears() {
    // Keys shared by the heads of a group: repeating them is no node.
    let graph = check(&[(F, &[2, 3, 5, 4]), (F, &[2, 5, 4])], |b| {
        let k = b.broadcast(b.arg(1), &[0, 2, 3], &[2, 3, 5, 4])?;
        let k = b.reshape(k, &[6, 5, 4])?;
        let q = b.reshape(b.arg(0), &[6, 5, 4])?;
        let dims = ContractDims {
            lhs_batch: vec![0],
            rhs_batch: vec![0],
            lhs_contract: vec![2],
            rhs_contract: vec![2],
        };
        Ok(vec![b.contract(q, k, &dims)?])
    });
    assert_eq!((count(&graph, "bc"), count(&graph, "relayout")), (0, 0));
}

#[test]
fn random_functions_survive() {
    for seed in 0..300 {
        let args: &[(DType, &[usize])] = &[(F, &[4, 6]), (F, &[2, 3, 4]), (F, &[1, 12])];
        check(args, |b| {
            let mut random = Random::new(seed);
            let mut values: Vec<ValueId> = (0..args.len()).map(|i| b.arg(i)).collect();
            for _ in 0..10 {
                if let Some(v) = random_op(b, &mut random, &values)? {
                    values.push(v);
                }
            }
            Ok(values[args.len()..].to_vec())
        });
    }
}

/// Some op on values so far; none where the one drawn does not fit them.
fn random_op(b: &mut FuncBuilder, r: &mut Random, values: &[ValueId]) -> kiln_ir::Result<Option<ValueId>> {
    let x = values[r.below(values.len())];
    let shape = b.shape(x).to_vec();
    let rank = shape.len();
    let elements: usize = shape.iter().product();
    if elements > 600 || elements == 0 || rank == 0 {
        return Ok(None);
    }
    let d = r.below(rank);
    let unit = vec![1; rank];
    Ok(Some(match r.below(15) {
        0 | 1 => {
            let same: Vec<ValueId> = values.iter().copied().filter(|v| b.shape(*v) == shape).collect();
            let y = same[r.below(same.len())];
            let kind = [MapKind::Add, MapKind::Mul, MapKind::Sub, MapKind::Max][r.below(4)];
            b.map(kind, &[x, y])?
        }
        2 => b.map(MapKind::Neg, &[x])?,
        3 | 4 => {
            let mut left = elements;
            let mut to = Vec::new();
            while left > 1 {
                let factors: Vec<usize> = (1..=left).filter(|f| left.is_multiple_of(*f)).collect();
                let f = factors[r.below(factors.len())];
                to.push(f);
                left /= f;
                if to.len() > 3 {
                    to.push(left);
                    break;
                }
            }
            b.reshape(x, &to)?
        }
        5 => {
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.swap(d, r.below(rank));
            b.transpose(x, &perm)?
        }
        6 => {
            let (mut offsets, mut sizes, mut strides) = (vec![0; rank], shape.clone(), unit);
            offsets[d] = r.below(shape[d]);
            strides[d] = 1 + r.below(2);
            sizes[d] = 1 + r.below((shape[d] - offsets[d]).div_ceil(strides[d]));
            b.slice(x, &offsets, &sizes, &strides)?
        }
        7 => {
            let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
            low[d] = r.below(3);
            high[d] = r.below(3);
            b.op(&OpKind::Pad { low, high, value: Scalar::float(1.5) }, &[x])?[0]
        }
        8 => {
            let fits = |v: &ValueId| {
                b.shape(*v).len() == rank && (0..rank).all(|e| e == d || b.shape(*v)[e] == shape[e])
            };
            let parts: Vec<ValueId> = values.iter().copied().filter(fits).take(3).collect();
            b.concat(&parts, d)?
        }
        9 => b.reduce([ReduceKind::Sum, ReduceKind::Max][r.below(2)], x, &[d])?,
        10 | 11 => {
            let y = values[r.below(values.len())];
            let Some(e) = b.shape(y).iter().position(|n| *n == shape[d]) else { return Ok(None) };
            let size: usize = elements * b.shape(y).iter().product::<usize>() / shape[d];
            if size > 4000 {
                return Ok(None);
            }
            let dims = ContractDims {
                lhs_batch: vec![],
                rhs_batch: vec![],
                lhs_contract: vec![d],
                rhs_contract: vec![e],
            };
            b.contract(x, y, &dims)?
        }
        12 => {
            let index = Tensor {
                dtype: DType::I32,
                shape: vec![2],
                data: [(shape[d] - 1) as i32, 0]
                    .iter()
                    .flat_map(|i| i.to_le_bytes())
                    .collect::<Vec<u8>>()
                    .into(),
            };
            let index = b.constant(&index)?;
            b.gather(x, index, d)?
        }
        13 => {
            let scan = OpKind::Scan {
                kind: ScanKind::Sum,
                axis: d,
                exclusive: r.below(2) == 1,
                reverse: r.below(2) == 1,
            };
            b.op(&scan, &[x])?[0]
        }
        _ if r.below(2) == 0 => b.reverse(x, &[d])?,
        _ => b.op(&OpKind::TopK { k: 1 + r.below(shape[d]), axis: d, largest: true }, &[x])?[0],
    }))
}

#[test]
fn what_is_not_modelled_is_opaque() {
    let graph = check(&[(F, &[3, 4]), (F, &[2])], |b| {
        let index = Tensor {
            dtype: DType::I32,
            shape: vec![2, 2],
            data: [0i32, 1, 2, 3].iter().flat_map(|i| i.to_le_bytes()).collect::<Vec<u8>>().into(),
        };
        let index = b.constant(&index)?;
        let picked = b.gather_nd(b.arg(0), index, 0)?;
        Ok(vec![b.map(MapKind::Add, &[picked, b.arg(1)])?])
    });
    assert!(graph.nodes.iter().any(|n| matches!(n.kind, Kind::Opaque { .. })));
}
