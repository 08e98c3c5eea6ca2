//! The least that any program for a graph must do, and so the least time it can take.
//!
//! For the graph after folding and dead code, at the dtypes executed: compulsory bytes, multiply-accumulates, exps and
//! vector work, each over the target's peak rate; the greatest of them bounds the time. It calls none of the duration
//! functions that the solver, the scheduler and the simulator share: a program that runs faster than this shows a
//! fault in them. What a constant mask excludes (the later half of a causal product) is not counted.

use crate::masks::Masks;
use kiln_ir::{
    nn::{Func, MapKind, Op, OpKind, ValueId},
    types::DType,
};
use kiln_machine::{isa::Dt, target::Target};

/// What bounds the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// The matrix unit's peak.
    Macs,
    /// The activation unit's peak.
    Exps,
    /// The vector unit's peak.
    Vector,
    /// DRAM bandwidth.
    Bytes,
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Resource::Macs => "macs",
            Resource::Exps => "exps",
            Resource::Vector => "vector",
            Resource::Bytes => "bytes",
        }
    }
}

/// The work of a graph and the time it implies on one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Bytes of weights and inputs that can reach an output, each once (gathered tables count rows), and of outputs.
    pub bytes: u64,
    /// Multiply-accumulates of contractions and convolutions; those that sum nothing are vector work.
    pub macs: u64,
    /// Elements of functions that only ACT computes.
    pub exps: u64,
    /// Elements of other elementwise ops.
    pub vector: u64,
    /// MXU cycles, rounded down: no program takes fewer.
    pub cycles: u64,
    /// The resource that takes them.
    pub by: Resource,
    /// MXU cycles in which the array at its peak does just the multiply-accumulates.
    pub mac_cycles: f64,
}

impl Bound {
    /// The bound of programs that run one after another, by what bounds the longest.
    pub fn sum(bounds: &[Bound]) -> Bound {
        let longest = bounds.iter().max_by_key(|b| b.cycles);
        Bound {
            bytes: bounds.iter().map(|b| b.bytes).sum(),
            macs: bounds.iter().map(|b| b.macs).sum(),
            exps: bounds.iter().map(|b| b.exps).sum(),
            vector: bounds.iter().map(|b| b.vector).sum(),
            cycles: bounds.iter().map(|b| b.cycles).sum(),
            by: longest.map_or(Resource::Bytes, |b| b.by),
            mac_cycles: bounds.iter().map(|b| b.mac_cycles).sum(),
        }
    }
}

/// Computes the bound of `func` on `target`.
pub fn bound(func: &Func, target: &Target) -> Bound {
    let work = Work::of(func, target);
    let clock = |div: u64| target.base_clock_hz as f64 / div as f64;
    let mxu_hz = clock(target.mxu_clock_div);
    let vec_rate = target.vec_lanes as f64 * clock(target.vec_clock_div);
    let act_rate = target.act_lanes as f64 * clock(target.act_clock_div);
    // One ACT instruction multiplies, adds, applies its function and sums: four elementwise ops an element.
    let elementwise_rate = vec_rate + 4.0 * act_rate;
    let cycles = [
        (Resource::Macs, work.least_mac_cycles),
        (Resource::Exps, work.exps as f64 / act_rate * mxu_hz),
        (Resource::Vector, work.vector as f64 / elementwise_rate * mxu_hz),
        (Resource::Bytes, work.bytes as f64 / target.dram_bytes_per_second as f64 * mxu_hz),
    ];
    let mut most = cycles[0];
    for candidate in cycles {
        if candidate.1 > most.1 {
            most = candidate;
        }
    }
    Bound {
        bytes: work.bytes,
        macs: work.macs,
        exps: work.exps,
        vector: work.vector,
        cycles: most.1 as u64,
        by: most.0,
        mac_cycles: work.mac_cycles,
    }
}

#[derive(Default)]
struct Work {
    bytes: u64,
    macs: u64,
    mac_cycles: f64,
    /// Without what masks exclude.
    least_mac_cycles: f64,
    exps: u64,
    vector: u64,
}

/// A demand of some elements of a value; those of a slice say which.
struct Demand {
    elements: u64,
    slice: Option<Vec<(usize, usize)>>,
}

impl Work {
    /// Walks the graph backwards, from what the outputs need to what must be read.
    fn of(func: &Func, target: &Target) -> Work {
        let mut work = Work::default();
        let producers = func.producers();
        let constant = constants(func);
        let masks = Masks::of(func);
        let mut demands: Vec<Vec<Demand>> = (0..func.value_count()).map(|_| Vec::new()).collect();
        for (value, _) in &func.results {
            let elements = func.ty(*value).elements() as u64;
            work.bytes += elements * func.ty(*value).dtype.size_bytes() as u64;
            demands[value.index()].push(Demand { elements, slice: None });
        }
        for (index, op) in func.ops.iter().enumerate().rev() {
            let needed: Vec<u64> = op.results.iter().map(|r| united(&demands[r.index()])).collect();
            if needed.iter().all(|n| *n == 0) {
                continue;
            }
            let constant_op = op.results.iter().all(|r| constant[r.index()]);
            if constant_op && !op.kind.is_view() {
                // Computed once at compile time, or read: at best the smaller of the two is moved.
                let size = func.ty(op.results[0]).dtype.size_bytes() as u64;
                work.bytes += (needed[0] * size).min(source_bytes(func, &producers, index));
                continue;
            }
            if !constant_op {
                work.count(func, target, &masks, op);
            }
            demand_operands(func, &op.kind, &op.operands, op.results[0], needed[0], &mut demands);
        }
        for arg in func.arg_values() {
            work.bytes += united(&demands[arg.index()]) * func.ty(arg).dtype.size_bytes() as u64;
        }
        work
    }

    fn count(&mut self, func: &Func, target: &Target, masks: &Masks, op: &Op) {
        let (operands, result) = (&op.operands, op.results[0]);
        let elements = func.ty(result).elements() as u64;
        match &op.kind {
            OpKind::Contract { dims, .. } => {
                let lhs = func.ty(operands[0]);
                let chain: u64 = dims.lhs_contract.iter().map(|d| lhs.shape[*d] as u64).product();
                let macs = elements * chain;
                let least = [masks.computed(result), masks.nonzero(operands[0]), masks.nonzero(operands[1])];
                let least = least.iter().map(|share| share.of(macs)).min().unwrap_or(macs);
                match chain {
                    // Nothing is summed: VEC can multiply.
                    1 => self.vector += least,
                    _ => self.count_macs(func, target, operands, macs, least),
                }
            }
            OpKind::Conv { .. } => {
                // Each result element sums over one filter: the weight's extents past the first.
                let filter: u64 = func.ty(operands[1]).shape.iter().skip(1).map(|n| *n as u64).product();
                match filter {
                    1 => self.vector += elements,
                    _ => self.count_macs(func, target, operands, elements * filter, elements * filter),
                }
            }
            OpKind::Map { kind } => match class(*kind) {
                Class::Function => self.exps += masks.computed(result).of(elements),
                Class::Arithmetic => self.vector += masks.computed(result).of(elements),
                Class::Nothing => {}
            },
            _ => {}
        }
    }

    fn count_macs(&mut self, func: &Func, target: &Target, operands: &[ValueId], macs: u64, least: u64) {
        self.macs += macs;
        // At the faster of the operands' rates, so that the bound stays one whatever mixes a machine takes.
        let rate = operands[..2]
            .iter()
            .filter_map(|v| machine_dtype(func.ty(*v).dtype))
            .filter_map(|dt| target.mxu_rate(dt))
            .max();
        if let Some(rate) = rate {
            let cycles =
                |macs: u64| macs as f64 * 4.0 / (rate * target.partitions * target.partitions) as f64;
            self.mac_cycles += cycles(macs);
            self.least_mac_cycles += cycles(least);
        }
    }
}

enum Class {
    Function,
    Arithmetic,
    Nothing,
}

/// Functions that no engine but ACT computes are exps here.
fn class(kind: MapKind) -> Class {
    use MapKind::*;
    match kind {
        Exp | Log | Tanh | Erf | Sigmoid | Sin | Cos | Softplus => Class::Function,
        Identity => Class::Nothing,
        _ => Class::Arithmetic,
    }
}

fn machine_dtype(dtype: DType) -> Option<Dt> {
    match dtype {
        DType::F32 => Some(Dt::F32),
        DType::BF16 => Some(Dt::Bf16),
        DType::F16 => Some(Dt::F16),
        DType::F8E4M3 => Some(Dt::F8e4m3),
        DType::F8E5M2 => Some(Dt::F8e5m2),
        DType::I8 => Some(Dt::I8),
        DType::U8 => Some(Dt::U8),
        _ => None,
    }
}

/// Values that depend on no input.
fn constants(func: &Func) -> Vec<bool> {
    let mut constant = vec![false; func.value_count()];
    for op in &func.ops {
        let all = op.operands.iter().all(|v| constant[v.index()]);
        op.results.iter().for_each(|r| constant[r.index()] = all);
    }
    constant
}

/// Bytes of the distinct weights that a constant op is computed from; literals cost nothing, for they may be made
/// on the device.
fn source_bytes(func: &Func, producers: &[Option<usize>], op: usize) -> u64 {
    let mut seen = vec![false; func.ops.len()];
    let mut stack = vec![op];
    let mut bytes = 0;
    while let Some(at) = stack.pop() {
        if std::mem::replace(&mut seen[at], true) {
            continue;
        }
        if let OpKind::Weight { ty, .. } = &func.ops[at].kind {
            bytes += ty.size_bytes() as u64;
        }
        stack.extend(func.ops[at].operands.iter().filter_map(|v| producers[v.index()]));
    }
    bytes
}

/// Elements that the demands touch at least: the sum of disjoint slices, else the greatest demand.
fn united(demands: &[Demand]) -> u64 {
    let slices: Option<Vec<_>> = demands.iter().map(|d| d.slice.as_ref()).collect();
    let apart =
        |a: &[(usize, usize)], b: &[(usize, usize)]| a.iter().zip(b).any(|(a, b)| a.1 <= b.0 || b.1 <= a.0);
    let disjoint = slices.is_some_and(|slices| {
        slices.iter().enumerate().all(|(i, a)| slices[..i].iter().all(|b| apart(a, b)))
    });
    if disjoint {
        demands.iter().map(|d| d.elements).sum()
    } else {
        demands.iter().map(|d| d.elements).max().unwrap_or(0)
    }
}

/// What an op needs of its operands for `needed` elements of its result.
fn demand_operands(
    func: &Func,
    kind: &OpKind,
    operands: &[ValueId],
    result: ValueId,
    needed: u64,
    demands: &mut [Vec<Demand>],
) {
    let size = |v: ValueId| func.ty(v).elements() as u64;
    let mut demand = |v: ValueId, elements: u64, slice| demands[v.index()].push(Demand { elements, slice });
    match kind {
        OpKind::Reshape { .. } | OpKind::Transpose { .. } | OpKind::Reverse { .. } => {
            demand(operands[0], needed, None)
        }
        OpKind::Broadcast { .. } => demand(operands[0], needed.min(size(operands[0])), None),
        OpKind::Slice { offsets, sizes, strides } => {
            let span = |axis: usize| (sizes[axis].max(1) - 1) * strides[axis] + 1;
            let ranges = (0..offsets.len()).map(|axis| (offsets[axis], offsets[axis] + span(axis)));
            demand(operands[0], needed, Some(ranges.collect()));
        }
        OpKind::Concat { .. } => {
            // What is not needed of the result may all lie in one operand.
            let spare = size(result) - needed.min(size(result));
            for operand in operands {
                demand(*operand, size(*operand).saturating_sub(spare), None);
            }
        }
        OpKind::Gather { axis } => {
            let (data, indices) = (operands[0], operands[1]);
            let rows = func.ty(data).shape[*axis] as u64;
            let row = size(data) / rows.max(1);
            // Indices may repeat, but a program cannot know.
            demand(data, (size(indices) * row).min(size(data)), None);
            demand(indices, size(indices), None);
        }
        OpKind::GatherElements { .. } | OpKind::GatherNd { .. } => {
            demand(operands[0], needed.min(size(operands[0])), None);
            demand(operands[1], size(operands[1]), None);
        }
        _ => {
            for operand in operands {
                demand(*operand, size(*operand), None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::{
        Context, Module,
        nn::{ContractDims, FuncBuilder, Port},
        types::TensorType,
    };

    /// Builds `main` over `args` (all f32 but the last letter `i`: i32) and gives its bound on `core`.
    fn bound_of(
        args: &[(&str, &[usize])],
        build: impl FnOnce(&mut FuncBuilder, &[ValueId]) -> kiln_ir::Result<ValueId>,
    ) -> Bound {
        let context = Context::new();
        let dtype = |name: &str| if name.ends_with('i') { DType::I32 } else { DType::F32 };
        let args: Vec<_> = args
            .iter()
            .map(|(name, shape)| (TensorType::new(dtype(name), shape.to_vec()), Port::named(*name)))
            .collect();
        let mut module = Module::new(&context);
        module.add_file("model.onnx");
        let mut b = FuncBuilder::new(&context, "main", &args).expect("a function");
        let values: Vec<ValueId> = (0..args.len()).map(|i| b.arg(i)).collect();
        let result = build(&mut b, &values).expect("well-formed ops");
        b.finish(&mut module, &[(result, Port::named("y"))]).expect("a well-formed function");
        let core = Target::preset("core").expect("a preset");
        bound(&module.func("main").expect("main"), &core)
    }

    #[test]
    fn a_product_counts_its_operands_once() {
        let b = bound_of(&[("x", &[128, 256])], |b, v| {
            let w = b.weight(0, 0, &[256, 64], DType::F32)?;
            b.contract(v[0], w, &ContractDims::matmul(0))
        });
        assert_eq!((b.macs, b.exps, b.vector), (128 * 256 * 64, 0, 0));
        assert_eq!(b.bytes, 4 * (128 * 256 + 256 * 64 + 128 * 64));
        // f32 runs at a quarter of a MAC an element and cycle on 128×128 elements.
        assert_eq!(b.mac_cycles, (128 * 64 * 256 * 4) as f64 / (128.0 * 128.0));
    }

    #[test]
    fn a_product_that_sums_nothing_is_vector_work() {
        let b = bound_of(&[("x", &[24, 1]), ("y", &[1, 30])], |b, v| {
            b.contract(v[0], v[1], &ContractDims::matmul(0))
        });
        assert_eq!((b.macs, b.vector), (0, 24 * 30));
    }

    #[test]
    fn a_table_counts_the_rows_taken() {
        let b = bound_of(&[("i", &[7])], |b, v| {
            let table = b.weight(0, 0, &[1000, 16], DType::F32)?;
            b.gather(table, v[0], 0)
        });
        assert_eq!(b.bytes, 7 * 4 + 7 * 16 * 4 + 7 * 16 * 4);
    }

    #[test]
    fn disjoint_slices_add_up_and_overlapping_ones_do_not() {
        let two = |first: usize, second: usize| {
            bound_of(&[("x", &[10])], |b, v| {
                let low = b.slice(v[0], &[first], &[4], &[1])?;
                let high = b.slice(v[0], &[second], &[4], &[1])?;
                b.map(MapKind::Add, &[low, high])
            })
        };
        assert_eq!(two(0, 5).bytes, 4 * (8 + 4));
        assert_eq!(two(0, 2).bytes, 4 * (4 + 4));
    }

    #[test]
    fn what_reaches_no_output_costs_nothing() {
        let b = bound_of(&[("x", &[8]), ("unused", &[4096])], |b, v| {
            let dead = b.map(MapKind::Exp, &[v[1]])?;
            b.map(MapKind::Neg, &[dead])?;
            b.map(MapKind::Exp, &[v[0]])
        });
        assert_eq!((b.bytes, b.exps), (64, 8));
    }

    #[test]
    fn constants_are_computed_before() {
        let b = bound_of(&[("x", &[8])], |b, v| {
            let w = b.weight(0, 0, &[8], DType::F32)?;
            let folded = b.map(MapKind::Exp, &[w])?;
            b.map(MapKind::Add, &[v[0], folded])
        });
        assert_eq!((b.bytes, b.exps, b.vector), (3 * 32, 0, 8));
    }

    #[test]
    fn what_a_constant_mask_excludes_is_not_counted() {
        // softmax(mask(QKᵀ))V over 64 tokens: of 64·64 scores 64·65/2 lie under the diagonal.
        let attention = |causal: bool| {
            bound_of(&[("q", &[64, 16]), ("k", &[64, 16]), ("v", &[64, 16])], |b, v| {
                let kt = b.transpose(v[1], &[1, 0])?;
                let scores = b.contract(v[0], kt, &ContractDims::matmul(0))?;
                let row = TensorType::new(DType::I32, vec![64]);
                let i = b.op(&OpKind::Iota { ty: row.clone(), axis: 0 }, &[])?[0];
                let (rows, columns) = (b.broadcast(i, &[0], &[64, 64])?, b.broadcast(i, &[1], &[64, 64])?);
                let kind = if causal { MapKind::Ge } else { MapKind::Eq };
                let below = b.map(kind, &[rows, if causal { columns } else { rows }])?;
                let dark = b.splat(DType::F32, f64::NEG_INFINITY, &[64, 64])?;
                let scores = b.map(MapKind::Select, &[below, scores, dark])?;
                let e = b.map(MapKind::Exp, &[scores])?;
                let sum = b.reduce(kiln_ir::nn::ReduceKind::Sum, e, &[1])?;
                let sum = b.broadcast(sum, &[0], &[64, 64])?;
                let p = b.map(MapKind::Div, &[e, sum])?;
                b.contract(p, v[2], &ContractDims::matmul(0))
            })
        };
        let (causal, full) = (attention(true), attention(false));
        assert_eq!(causal.mac_cycles, full.mac_cycles);
        assert_eq!((full.macs, full.exps), (2 * 64 * 64 * 16, 64 * 64));
        assert_eq!((causal.macs, causal.exps), (2 * 64 * 64 * 16, 64 * 65 / 2));
        assert!(causal.vector < full.vector);
    }
}
