//! The named-axis graph as work and storage: which nodes compute, which are only addresses, and where each value lies
//! in DRAM when it is not kept on chip.
//!
//! Slices, reversals, renamings, broadcasts and row-major re-readings are strides on the storage of their operand;
//! concatenations and paddings are storage that several producers fill. None of them costs an instruction. What is made
//! of weights only is storage too ([`recipe`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::axes::{AxisId, Graph, Kind, NodeId, TopKPart};
use kiln_ir::nn::{MapKind, OpKind as NnOp, ReduceKind, ScanKind};
use kiln_ir::tile::Part;
use kiln_ir::types::{DType, Scalar};

use super::order;
use super::recipe::{self, Recipe};
use crate::lower::LowerError;

/// A DRAM array by index into [`Kernel::arrays`].
pub type ArrayId = usize;
/// A value by index into [`Kernel::values`]; graph nodes come first, under their own numbers.
pub type ValueId = usize;

/// What a DRAM array is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArrayKind {
    /// Argument number.
    Input(usize),
    /// Result number.
    Output(usize),
    /// Bytes of a model file.
    Weight {
        /// File number of the module.
        file: u32,
        /// First byte.
        offset: u64,
    },
    /// Weights placed side by side.
    Placed(Vec<Part>),
    /// A node of the graph that depends on constants only.
    Fold(NodeId),
    /// Written and read by groups.
    Temp,
}

/// A dense array in DRAM.
#[derive(Clone, Debug)]
pub struct Array {
    /// What it is.
    pub kind: ArrayKind,
    /// Stored type.
    pub dtype: DType,
    /// Extents, row-major.
    pub shape: Vec<u64>,
}

/// Where a value lies: element offset and strides in an array; an axis without a stride repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The array.
    pub array: ArrayId,
    /// Element offset of index zero.
    pub offset: i64,
    /// Elements between neighbours, by axis.
    pub strides: BTreeMap<AxisId, i64>,
}

impl Home {
    /// The stride along `axis`, 0 where the storage repeats.
    pub fn stride(&self, axis: AxisId) -> i64 {
        self.strides.get(&axis).copied().unwrap_or(0)
    }
}

/// A value: what an op makes or what lies in DRAM.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its axes, in storage order of a fresh array.
    pub axes: Vec<AxisId>,
    /// Element type on chip (`Bool` is `U8`).
    pub dtype: DType,
    /// Its storage, once known.
    pub home: Option<Home>,
    /// Ops that must have run before the storage holds the value.
    pub writers: Vec<usize>,
    /// The op that makes it on chip, none for leaves and views.
    pub producer: Option<usize>,
    /// Whether its storage is read by a view or is a result of the program.
    pub is_stored: bool,
}

/// What an op of the kernel computes, over named axes.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Elementwise.
    Map(MapKind),
    /// Element conversion.
    Cast,
    /// Reduction over the axes, in chain order.
    Reduce(ReduceKind, Vec<AxisId>),
    /// Contraction over the axes, in chain order.
    Contract(Vec<AxisId>),
    /// A constant.
    Fill(Scalar),
    /// Index along an axis.
    Iota(AxisId),
    /// Rows of the data's storage picked by the operand.
    Gather {
        /// The data value; read in DRAM.
        data: ValueId,
        /// The data's axis that is picked from.
        axis: AxisId,
    },
    /// Cumulative.
    Scan {
        /// What is accumulated.
        kind: ScanKind,
        /// Along which axis.
        axis: AxisId,
        /// Element itself left out.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    },
    /// Selection along `axis` to the first elements along `to`; results are values and indices.
    TopK {
        /// The axis selected from.
        axis: AxisId,
        /// The result's axis, none for one element.
        to: Option<AxisId>,
        /// Greatest first.
        largest: bool,
    },
    /// From one storage to another.
    Copy,
    /// Rows of the value written to where the index says; operands: value, index.
    Scatter {
        /// The storage written to (strides over the value's axes).
        target: Home,
        /// Elements between rows.
        row_stride: i64,
        /// Number of rows.
        rows: u64,
    },
}

/// An operand of an op.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A value, on chip or from its storage.
    Value(ValueId),
    /// A scalar.
    Scalar(Scalar),
}

/// An op of the kernel.
#[derive(Clone, Debug)]
pub struct KernelOp {
    /// What it computes.
    pub work: Work,
    /// Operands.
    pub ins: Vec<Source>,
    /// Results; for `Copy` the value stands for the target storage.
    pub outs: Vec<ValueId>,
    /// Origins: indices into the graph's names.
    pub origins: BTreeSet<u32>,
    /// Ops that must run before it, through storage that it reads as a view or fills in part.
    pub after: Vec<usize>,
}

/// A program as ops between storages.
#[derive(Clone, Debug)]
pub struct Kernel<'g> {
    /// The graph it was made from.
    pub graph: &'g Graph,
    /// DRAM arrays.
    pub arrays: Vec<Array>,
    /// Values.
    pub values: Vec<Value>,
    /// Ops in a topological order.
    pub ops: Vec<KernelOp>,
}

/// The on-chip element type of a graph dtype.
pub fn chip_dtype(dtype: DType) -> DType {
    if dtype == DType::Bool { DType::U8 } else { dtype }
}

fn row_major(graph: &Graph, axes: &[AxisId]) -> BTreeMap<AxisId, i64> {
    let mut strides = BTreeMap::new();
    let mut stride = 1;
    for &axis in axes.iter().rev() {
        strides.insert(axis, stride);
        stride *= graph.extent(axis) as i64;
    }
    strides
}

/// The one value of all elements of a constant, where they are equal.
fn splat(dtype: DType, bytes: &[u8]) -> Option<Scalar> {
    let size = dtype.size_bytes();
    let first = bytes.get(..size)?;
    if !bytes.chunks_exact(size).all(|c| c == first) {
        return None;
    }
    Some(match dtype {
        DType::F32 => Scalar::float(f64::from(f32::from_le_bytes(first.try_into().ok()?))),
        DType::F64 => Scalar::float(f64::from_le_bytes(first.try_into().ok()?)),
        DType::F16 => Scalar::float(half::f16::from_le_bytes(first.try_into().ok()?).to_f64()),
        DType::BF16 => Scalar::float(half::bf16::from_le_bytes(first.try_into().ok()?).to_f64()),
        DType::I32 => Scalar::Int(i64::from(i32::from_le_bytes(first.try_into().ok()?))),
        DType::I64 => Scalar::Int(i64::from_le_bytes(first.try_into().ok()?)),
        DType::I16 => Scalar::Int(i64::from(i16::from_le_bytes(first.try_into().ok()?))),
        DType::U16 => Scalar::Int(i64::from(u16::from_le_bytes(first.try_into().ok()?))),
        DType::U32 => Scalar::Int(i64::from(u32::from_le_bytes(first.try_into().ok()?))),
        DType::I8 => Scalar::Int(i64::from(first[0] as i8)),
        DType::U8 | DType::Bool => Scalar::Int(i64::from(first[0])),
        _ => return None,
    })
}

struct Maker<'g> {
    k: Kernel<'g>,
    live: Vec<bool>,
    recipes: Vec<Option<Recipe>>,
    /// Axes of each node in the order that its storage has.
    orders: Vec<Vec<AxisId>>,
    /// Storage that a consumer wants a computed node to have.
    claims: Vec<Option<Home>>,
}

impl<'g> Kernel<'g> {
    /// The kernel of `graph`.
    ///
    /// # Errors
    /// [`LowerError::Unsupported`] for a node that the machine has no way to run.
    pub fn new(graph: &'g Graph) -> Result<Self, LowerError> {
        let values = graph
            .nodes
            .iter()
            .map(|n| Value {
                axes: n.axes.clone(),
                dtype: chip_dtype(n.dtype),
                home: None,
                writers: Vec::new(),
                producer: None,
                is_stored: false,
            })
            .collect();
        let recipes = recipe::recipes(graph);
        let mut live = vec![false; graph.nodes.len()];
        for port in &graph.outputs {
            live[port.node.0 as usize] = true;
        }
        for i in (0..graph.nodes.len()).rev() {
            if live[i] && recipes[i].is_none() {
                graph.nodes[i].operands.iter().for_each(|o| live[o.0 as usize] = true);
            }
        }
        let claims = vec![None; graph.nodes.len()];
        let k = Kernel { graph, arrays: Vec::new(), values, ops: Vec::new() };
        let mut m = Maker { k, live, recipes, orders: order::orders(graph), claims };
        m.claim_outputs();
        m.claim_backwards();
        for i in 0..graph.nodes.len() {
            if m.live[i] {
                m.node(i)?;
            }
        }
        m.write_outputs();
        Ok(m.k)
    }

    /// Ops that `op` must run after: producers of its operands, writers of the storage it reads.
    pub fn dependences(&self, op: usize) -> BTreeSet<usize> {
        let o = &self.ops[op];
        let mut before: BTreeSet<usize> = o.after.iter().copied().collect();
        for source in &o.ins {
            if let Source::Value(v) = source {
                before.extend(self.values[*v].producer);
                before.extend(&self.values[*v].writers);
            }
        }
        if let Work::Gather { data, .. } = &o.work {
            before.extend(self.values[*data].producer);
            before.extend(&self.values[*data].writers);
        }
        before.remove(&op);
        before
    }
}

/// Whether a node is made by an op (rather than being storage or a view of it).
fn computes(kind: &Kind) -> bool {
    use Kind::*;
    matches!(
        kind,
        Iota { .. }
            | Map(_)
            | Cast
            | Ein { .. }
            | Reduce { .. }
            | Scan { .. }
            | Gather { .. }
            | TopK { .. }
            | Opaque { .. }
    )
}

impl Maker<'_> {
    fn array(&mut self, kind: ArrayKind, dtype: DType, axes: &[AxisId]) -> Home {
        let shape = axes.iter().map(|&a| self.k.graph.extent(a)).collect();
        self.k.arrays.push(Array { kind, dtype: chip_dtype(dtype), shape });
        Home { array: self.k.arrays.len() - 1, offset: 0, strides: row_major(self.k.graph, axes) }
    }

    fn is_claimable(&self, node: NodeId) -> bool {
        let i = node.0 as usize;
        let kind = &self.k.graph.node(node).kind;
        self.claims[i].is_none()
            && self.recipes[i].is_none()
            && (computes(kind) || matches!(kind, Kind::Concat { .. } | Kind::Pad { .. }))
    }

    /// A result's storage is what makes it, where that is an op.
    fn claim_outputs(&mut self) {
        let graph = self.k.graph;
        for (i, port) in graph.outputs.iter().enumerate() {
            let axes: Vec<AxisId> = port.dims.iter().flatten().copied().collect();
            let node = graph.node(port.node);
            let shape: Vec<u64> =
                port.dims.iter().map(|d| d.iter().map(|&a| graph.extent(a)).product()).collect();
            let home = self.array(ArrayKind::Output(i), node.dtype, &axes);
            self.k.arrays[home.array].shape = shape;
            let same: BTreeSet<_> = node.axes.iter().collect();
            if self.is_claimable(port.node) && same == axes.iter().collect() {
                self.claims[port.node.0 as usize] = Some(home);
            }
        }
    }

    /// Concatenations and paddings hand parts of their storage to the producers of their operands; a row-major
    /// re-reading asks for a layout.
    fn claim_backwards(&mut self) {
        let graph = self.k.graph;
        for i in (0..graph.nodes.len()).rev() {
            let node = &graph.nodes[i];
            if !self.live[i] || self.recipes[i].is_some() {
                continue;
            }
            match &node.kind {
                Kind::Concat { from, to } => {
                    let home = self.claim_or_temp(i);
                    let mut at = 0;
                    for (&operand, from) in node.operands.iter().zip(from) {
                        let piece = piece(&home, *from, *to, at);
                        at += from.map_or(1, |a| graph.extent(a));
                        self.claim_piece(operand, piece);
                    }
                }
                Kind::Pad { from, to, low, .. } => {
                    let home = self.claim_or_temp(i);
                    self.claim_piece(node.operands[0], piece(&home, *from, *to, *low));
                }
                Kind::Relayout { from, .. } if self.is_claimable(node.operands[0]) => {
                    let source = graph.node(node.operands[0]);
                    let mut axes: Vec<AxisId> =
                        source.axes.iter().copied().filter(|a| !from.contains(a)).collect();
                    axes.extend(from);
                    let home = self.array(ArrayKind::Temp, source.dtype, &axes);
                    self.claims[node.operands[0].0 as usize] = Some(home);
                }
                _ => {}
            }
        }
    }

    fn claim_or_temp(&mut self, i: usize) -> Home {
        if self.claims[i].is_none() {
            let node = &self.k.graph.nodes[i];
            let axes = self.ordered(i);
            self.claims[i] = Some(self.array(ArrayKind::Temp, node.dtype, &axes));
        }
        self.claims[i].clone().unwrap_or_else(|| Home { array: 0, offset: 0, strides: BTreeMap::new() })
    }

    fn claim_piece(&mut self, operand: NodeId, piece: Home) {
        let same = self.k.graph.node(operand).axes.iter().copied().collect::<BTreeSet<_>>()
            == piece.strides.keys().copied().collect();
        if same && self.is_claimable(operand) {
            self.claims[operand.0 as usize] = Some(piece);
        }
    }

    /// The axes of a value in the order that its storage has.
    fn ordered(&self, v: ValueId) -> Vec<AxisId> {
        self.orders.get(v).unwrap_or(&self.k.values[v].axes).clone()
    }

    /// Storage of value `v`, fresh where nothing claims it.
    fn home(&mut self, v: ValueId) -> Home {
        if let Some(home) = &self.k.values[v].home {
            return home.clone();
        }
        let home = match self.claims.get(v).cloned().flatten() {
            Some(home) => home,
            None => {
                let (dtype, axes) = (self.k.values[v].dtype, self.ordered(v));
                self.array(ArrayKind::Temp, dtype, &axes)
            }
        };
        self.k.values[v].home = Some(home.clone());
        home
    }

    fn op(&mut self, work: Work, ins: Vec<Source>, outs: Vec<ValueId>, origins: BTreeSet<u32>) -> usize {
        self.k.ops.push(KernelOp { work, ins, outs, origins, after: Vec::new() });
        self.k.ops.len() - 1
    }

    fn compute(&mut self, i: usize, work: Work, ins: Vec<Source>) {
        let origins = self.k.graph.nodes[i].origins.clone();
        let op = self.op(work, ins, vec![i], origins);
        self.k.values[i].producer = Some(op);
        self.k.values[i].writers = vec![op];
        self.home(i);
    }

    /// A broadcast is its operand: consumers repeat it along what it lacks.
    fn through_broadcast(&self, mut node: NodeId) -> NodeId {
        while let Kind::Broadcast { .. } = self.k.graph.node(node).kind {
            node = self.k.graph.node(node).operands[0];
        }
        node
    }

    fn source(&self, node: NodeId) -> Source {
        let node = self.through_broadcast(node);
        let n = self.k.graph.node(node);
        if let Kind::Const { id, .. } = &n.kind
            && let Some(scalar) = splat(n.dtype, self.k.graph.const_bytes(*id))
        {
            return Source::Scalar(scalar);
        }
        Source::Value(node.0 as usize)
    }

    /// As [`Maker::source`], for operands that cannot be immediates.
    fn tensor(&self, node: NodeId) -> Source {
        Source::Value(self.through_broadcast(node).0 as usize)
    }

    /// As [`Maker::tensor`], for an operand that must have `axes`: one that does not vary along some of them is read
    /// from its storage, once for each index of those. A chain along them then has as many steps as it is written to
    /// have, which a sum of the other operand would not.
    fn tensor_over(&mut self, node: NodeId, axes: &[AxisId]) -> Source {
        let below = self.through_broadcast(node);
        let lacked_by = |n: NodeId| -> Vec<AxisId> {
            let has = &self.k.graph.node(n).axes;
            axes.iter().filter(|a| !has.contains(a)).copied().collect()
        };
        if lacked_by(below).is_empty() {
            return Source::Value(below.0 as usize);
        }
        if lacked_by(node).is_empty() {
            return Source::Value(node.0 as usize);
        }
        let lacked = lacked_by(below);
        let below = below.0 as usize;
        self.store(below);
        let Value { dtype, home, writers, .. } = self.k.values[below].clone();
        let axes = [self.ordered(below), lacked].concat();
        self.k.values.push(Value { axes, dtype, home, writers, producer: None, is_stored: true });
        Source::Value(self.k.values.len() - 1)
    }

    fn node(&mut self, i: usize) -> Result<(), LowerError> {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        if let Some(recipe) = &self.recipes[i] {
            let kind = match recipe {
                Recipe::Placed(parts) => ArrayKind::Placed(parts.clone()),
                Recipe::Folded => ArrayKind::Fold(NodeId(i as u32)),
            };
            let home = self.array(kind, node.dtype, &node.axes);
            self.k.values[i].home = Some(home);
            return Ok(());
        }
        if self.k.values[i].producer.is_some() {
            // The second result of an op that stands before.
            return Ok(());
        }
        let unsupported = |what: &str| LowerError::Unsupported {
            what: what.to_string(),
            origin: node.origins.iter().filter_map(|&o| graph.names.get_index(o as usize)).cloned().collect(),
        };
        match &node.kind {
            Kind::Input { index, axes } => {
                let home = self.array(ArrayKind::Input(*index as usize), node.dtype, axes);
                self.k.arrays[home.array].shape =
                    graph.inputs.get(*index as usize).map_or_else(Vec::new, |p| {
                        p.dims.iter().map(|d| d.iter().map(|&a| graph.extent(a)).product()).collect()
                    });
                self.k.values[i].home = Some(home);
            }
            Kind::Weight { file, offset, axes, .. } => {
                let home = self.array(ArrayKind::Weight { file: *file, offset: *offset }, node.dtype, axes);
                self.k.values[i].home = Some(home);
            }
            Kind::Const { axes, .. } => {
                let home = self.array(ArrayKind::Fold(NodeId(i as u32)), node.dtype, axes);
                self.k.values[i].home = Some(home);
            }
            Kind::Slice { .. }
            | Kind::Reverse { .. }
            | Kind::Rename { .. }
            | Kind::Broadcast { .. }
            | Kind::Relayout { .. } => {
                self.view(i);
            }
            Kind::Concat { from, to } => self.concat(i, from, *to),
            Kind::Pad { from, to, low, value } => self.pad(i, *from, *to, *low, *value),
            kind => {
                if matches!(node.dtype, DType::F64 | DType::I64 | DType::U64) {
                    return Err(unsupported(&format!("arithmetic on {:?}", node.dtype)));
                }
                let (work, ins) = self.work(i, kind).ok_or_else(|| unsupported(kind.name()))?;
                self.compute(i, work, ins);
                if matches!(kind, Kind::TopK { .. }) {
                    self.second_result(i);
                }
            }
        }
        Ok(())
    }

    /// A selection makes values and indices. Where the graph wants both, they are the results of one op; one that it
    /// does not want lives on chip only.
    fn second_result(&mut self, i: usize) {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let Kind::TopK { axis, to, largest, part } = node.kind else { return };
        let Some(op) = self.k.values[i].producer else { return };
        let (missing, dtype) = match part {
            TopKPart::Values => (TopKPart::Indices, DType::I32),
            TopKPart::Indices => (TopKPart::Values, self.k.values[node.operands[0].0 as usize].dtype),
        };
        let twin = Kind::TopK { axis, to, largest, part: missing };
        let is_twin = |j: &usize| graph.nodes[*j].kind == twin && graph.nodes[*j].operands == node.operands;
        let other = match (i + 1..graph.nodes.len())
            .filter(|&j| self.live[j] && self.recipes[j].is_none())
            .find(is_twin)
        {
            Some(j) => {
                self.k.values[j].producer = Some(op);
                self.k.values[j].writers = vec![op];
                self.k.ops[op].origins.extend(&graph.nodes[j].origins);
                self.home(j);
                j
            }
            None => {
                self.k.values.push(Value {
                    axes: self.k.values[i].axes.clone(),
                    dtype,
                    home: None,
                    writers: Vec::new(),
                    producer: Some(op),
                    is_stored: false,
                });
                self.k.values.len() - 1
            }
        };
        self.k.ops[op].outs = if part == TopKPart::Values { vec![i, other] } else { vec![other, i] };
    }

    fn work(&mut self, i: usize, kind: &Kind) -> Option<(Work, Vec<Source>)> {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let dtype_of = |n: NodeId| graph.node(n).dtype;
        let zero = |d: DType| if kiln_ir::types::is_float(d) { Scalar::float(0.0) } else { Scalar::Int(0) };
        Some(match kind {
            Kind::Map(MapKind::Not) if node.dtype == DType::Bool => {
                (Work::Map(MapKind::Eq), vec![self.source(node.operands[0]), Source::Scalar(Scalar::Int(0))])
            }
            Kind::Map(k) => (Work::Map(*k), node.operands.iter().map(|&o| self.source(o)).collect()),
            Kind::Cast if node.dtype == DType::Bool => {
                let from = zero(dtype_of(node.operands[0]));
                (Work::Map(MapKind::Ne), vec![self.source(node.operands[0]), Source::Scalar(from)])
            }
            Kind::Cast => match self.source(node.operands[0]) {
                Source::Scalar(s) => (Work::Fill(s), Vec::new()),
                source => (Work::Cast, vec![source]),
            },
            Kind::Ein { contracted, .. } if contracted.is_empty() => {
                (Work::Map(MapKind::Mul), node.operands.iter().map(|&o| self.source(o)).collect())
            }
            Kind::Ein { contracted, .. } => {
                // The array sums over what both operands have.
                let ins = node.operands.iter().map(|&o| self.tensor_over(o, contracted)).collect();
                (Work::Contract(contracted.clone()), ins)
            }
            Kind::Reduce { kind, axes } => {
                (Work::Reduce(*kind, axes.clone()), vec![self.tensor_over(node.operands[0], axes)])
            }
            Kind::Scan { kind, axis, exclusive, reverse } => (
                Work::Scan { kind: *kind, axis: *axis, exclusive: *exclusive, reverse: *reverse },
                vec![self.tensor_over(node.operands[0], &[*axis])],
            ),
            Kind::Iota { axis } => (Work::Iota(*axis), Vec::new()),
            Kind::Gather { axis } => {
                let data = self.through_broadcast(node.operands[0]).0 as usize;
                (Work::Gather { data, axis: *axis }, vec![self.tensor(node.operands[1])])
            }
            Kind::TopK { axis, to, largest, .. } => (
                Work::TopK { axis: *axis, to: *to, largest: *largest },
                vec![self.tensor_over(node.operands[0], &[*axis])],
            ),
            Kind::Opaque { op, .. } => match **op {
                NnOp::Conv { .. } => return None,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Marks the storage of `v` as read by an address computation.
    fn store(&mut self, v: ValueId) {
        self.home(v);
        self.k.values[v].is_stored = true;
    }

    fn view(&mut self, i: usize) {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let mut source = node.operands[0].0 as usize;
        if let Kind::Broadcast { .. } = node.kind {
            // Read through wherever it is an operand; as storage it repeats.
            source = self.through_broadcast(node.operands[0]).0 as usize;
        }
        if let Kind::Relayout { from, .. } = &node.kind
            && !self.is_row_major(source, from)
        {
            source = self.copy_to_layout(source, from, &node.origins);
        }
        self.store(source);
        let mut home = self.home(source);
        match &node.kind {
            Kind::Slice { from, to, start, stride } => {
                let step = home.strides.remove(from).unwrap_or(0);
                home.offset += step * *start as i64;
                if let Some(to) = to {
                    home.strides.insert(*to, step * *stride as i64);
                }
            }
            Kind::Reverse { axis } => {
                let step = home.stride(*axis);
                home.offset += step * (graph.extent(*axis) as i64 - 1);
                home.strides.insert(*axis, -step);
            }
            Kind::Rename { pairs } => {
                let moved: Vec<(AxisId, i64)> = pairs
                    .iter()
                    .filter_map(|(old, new)| home.strides.remove(old).map(|s| (*new, s)))
                    .collect();
                home.strides.extend(moved);
            }
            Kind::Relayout { from, to } => {
                let step = from.last().map_or(1, |a| home.stride(*a));
                for a in from {
                    home.strides.remove(a);
                }
                home.strides.extend(row_major(graph, to).into_iter().map(|(a, s)| (a, s * step)));
            }
            _ => {}
        }
        self.k.values[i].home = Some(home);
        self.k.values[i].writers = self.k.values[source].writers.clone();
    }

    fn is_row_major(&mut self, v: ValueId, order: &[AxisId]) -> bool {
        let home = self.home(v);
        let extent = |a: &AxisId| self.k.graph.extent(*a) as i64;
        order.windows(2).all(|w| home.stride(w[0]) == home.stride(w[1]) * extent(&w[1]))
    }

    /// A copy of `v` that is row-major over `order` innermost.
    fn copy_to_layout(&mut self, v: ValueId, order: &[AxisId], origins: &BTreeSet<u32>) -> ValueId {
        let mut axes: Vec<AxisId> =
            self.k.values[v].axes.iter().copied().filter(|a| !order.contains(a)).collect();
        axes.extend(order);
        let dtype = self.k.values[v].dtype;
        let home = self.array(ArrayKind::Temp, dtype, &axes);
        self.copy(v, home, axes, origins.clone())
    }

    /// A copy of `v` into `home`.
    fn copy(&mut self, v: ValueId, home: Home, axes: Vec<AxisId>, origins: BTreeSet<u32>) -> ValueId {
        let v = match self.k.graph.nodes.get(v).map(|n| &n.kind) {
            Some(Kind::Broadcast { .. }) => self.through_broadcast(NodeId(v as u32)).0 as usize,
            _ => v,
        };
        self.store(v);
        let dtype = self.k.values[v].dtype;
        let target = self.k.values.len();
        self.k.values.push(Value {
            axes,
            dtype,
            home: Some(home),
            writers: Vec::new(),
            producer: None,
            is_stored: true,
        });
        let op = self.op(Work::Copy, vec![Source::Value(v)], vec![target], origins);
        self.k.values[target].writers = vec![op];
        target
    }

    fn concat(&mut self, i: usize, from: &[Option<AxisId>], to: AxisId) {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let home = self.home(i);
        let mut at = 0;
        for (&operand, from) in node.operands.iter().zip(from) {
            let part = piece(&home, *from, to, at);
            at += from.map_or(1, |a| graph.extent(a));
            self.fill_piece(i, operand, part);
        }
        self.k.values[i].is_stored = true;
    }

    /// Makes sure that `operand` lies at `part` of node `i`'s storage.
    fn fill_piece(&mut self, i: usize, operand: NodeId, part: Home) {
        let v = operand.0 as usize;
        let writers = if self.k.values[v].home.as_ref() == Some(&part) {
            self.k.values[v].is_stored = true;
            self.k.values[v].writers.clone()
        } else {
            let axes: Vec<AxisId> = part.strides.keys().copied().collect();
            let origins = self.k.graph.nodes[i].origins.clone();
            let copied = self.copy(v, part, axes, origins);
            self.k.values[copied].writers.clone()
        };
        self.k.values[i].writers.extend(writers);
    }

    fn pad(&mut self, i: usize, from: Option<AxisId>, to: AxisId, low: u64, value: Scalar) {
        let graph = self.k.graph;
        let node = &graph.nodes[i];
        let home = self.home(i);
        self.fill_piece(i, node.operands[0], piece(&home, from, to, low));
        let inner = from.map_or(1, |a| graph.extent(a));
        let high = graph.extent(to) - low - inner;
        for (start, size) in [(0, low), (low + inner, high)] {
            if size == 0 {
                continue;
            }
            // The border is a value of its own over the other axes, one slab at a time.
            for slab in 0..size {
                let part = piece(&home, None, to, start + slab);
                let axes: Vec<AxisId> = part.strides.keys().copied().collect();
                let target = self.k.values.len();
                let (dtype, home) = (self.k.values[i].dtype, Some(part));
                self.k.values.push(Value {
                    axes,
                    dtype,
                    home,
                    writers: Vec::new(),
                    producer: None,
                    is_stored: true,
                });
                let op = self.op(Work::Fill(value), Vec::new(), vec![target], node.origins.clone());
                self.k.values[target].producer = Some(op);
                self.k.values[target].writers = vec![op];
                self.k.values[i].writers.push(op);
            }
        }
        self.k.values[i].is_stored = true;
    }

    fn write_outputs(&mut self) {
        let graph = self.k.graph;
        for (i, port) in graph.outputs.iter().enumerate() {
            let Some(array) = self.k.arrays.iter().position(|a| a.kind == ArrayKind::Output(i)) else {
                continue;
            };
            let axes: Vec<AxisId> = port.dims.iter().flatten().copied().collect();
            if graph.elements(&axes) == 0 {
                continue;
            }
            let home = Home { array, offset: 0, strides: row_major(graph, &axes) };
            let v = port.node.0 as usize;
            if self.k.values[v].home.as_ref() == Some(&home) {
                self.k.values[v].is_stored = true;
                continue;
            }
            self.copy(v, home, axes, graph.node(port.node).origins.clone());
        }
    }
}

/// The part of `home` where `from` stands from `at` on along `to`.
fn piece(home: &Home, from: Option<AxisId>, to: AxisId, at: u64) -> Home {
    let mut part = home.clone();
    let step = part.strides.remove(&to).unwrap_or(0);
    part.offset += step * at as i64;
    if let Some(from) = from {
        part.strides.insert(from, step);
    }
    part
}
