//! The named-axis graph: what a program computes when no tensor has an order of dims.
//!
//! Every value is a *set* of atomic axes. Reshapes that split or merge dims, transposes and
//! broadcasts are the identity here, so two programs that differ only in layout are one graph, and a
//! rewrite rule needs no variant per layout. Order lives in three places only: the `axes` of a leaf
//! (its storage, row-major), the ports (what the caller sees), and the chain order of a contraction.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use indexmap::IndexSet;
use kiln_ir::DType;
use kiln_ir::Scalar;
use kiln_ir::nn::{self, MapKind, OpKind, ReduceKind, ScanKind};

/// An atomic axis of a [`Graph`]: an index into [`Graph::axes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AxisId(pub u32);

/// A node of a [`Graph`]: an index into [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// The bytes of a constant: an index into [`Graph::consts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConstId(pub u32);

/// One position of a shape: the atoms it is made of, outermost first; none means extent 1.
pub type Dim = Vec<AxisId>;

/// What a node computes. Axis ids are those of the graph; `kind` and the operands' axes give the
/// result's axes ([`Kind::result_axes`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Argument number `index`, stored row-major in the order of `axes` (units dropped).
    Input { index: u32, axes: Vec<AxisId> },
    /// Bytes `offset..offset+length` of file `file`, stored row-major in the order of `axes`.
    Weight { file: u32, offset: u64, length: u64, axes: Vec<AxisId> },
    /// A constant, stored row-major in the order of `axes`.
    Const { id: ConstId, axes: Vec<AxisId> },
    /// The index along `axis`.
    Iota { axis: AxisId },
    /// Elementwise over the union of the operands' axes; an operand repeats along axes it lacks.
    Map(MapKind),
    /// Conversion to the node's dtype.
    Cast,
    /// Σ over `contracted` of the product of two operands: one `fma` chain in the stated order,
    /// accumulated in `acc`. A contracted axis may be missing from one operand, never from both.
    Ein { contracted: Vec<AxisId>, acc: DType },
    /// `axes` are removed; one chain in their order. `argmax`/`argmin` have exactly one axis.
    Reduce { kind: ReduceKind, axes: Vec<AxisId> },
    /// Cumulative along `axis`.
    Scan { kind: ScanKind, axis: AxisId, exclusive: bool, reverse: bool },
    /// Elements `start + i·stride` of `from`; `to` is the new axis, none for a single element.
    Slice { from: AxisId, to: Option<AxisId>, start: u64, stride: u64 },
    /// `from` (none: extent 1) stands at `low` in `to`, everything else is `value`.
    Pad { from: Option<AxisId>, to: AxisId, low: u64, value: Scalar },
    /// Operand i's `from[i]` (none: extent 1) follow one another along `to`.
    Concat { from: Vec<Option<AxisId>>, to: AxisId },
    /// Backwards along `axis`.
    Reverse { axis: AxisId },
    /// data, indices → `data[axis := indices]`. The result has the data's other axes and the
    /// indices' axes; an axis in both is looked up pointwise (a batched gather).
    Gather { axis: AxisId },
    /// The same values under other axis names of the same extents, `(old, new)`.
    Rename { pairs: Vec<(AxisId, AxisId)> },
    /// The axes `from`, laid out row-major in this order, are read again as `to`.
    Relayout { from: Vec<AxisId>, to: Vec<AxisId> },
    /// Repetition along axes that the operand lacks, where a consumer needs them present.
    Broadcast { axes: Vec<AxisId> },
    /// The first `to` of the sorted elements along `axis`, or their indices.
    TopK { axis: AxisId, to: Option<AxisId>, largest: bool, part: TopKPart },
    /// Anything else: an `nn` op with positional operands and results.
    Opaque { op: Box<OpKind>, operands: Vec<Vec<Dim>>, results: Vec<Vec<Dim>>, result: u32 },
}

/// Which result of a top-k a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopKPart {
    Values,
    Indices,
}

impl Kind {
    /// The axes of the result, in a canonical order of first appearance.
    pub fn result_axes(&self, operands: &[&[AxisId]]) -> Vec<AxisId> {
        let union = || {
            let mut axes: Vec<AxisId> = Vec::new();
            // The widest operand first: its order is the likeliest layout of the result.
            let mut order: Vec<usize> = (0..operands.len()).collect();
            order.sort_by_key(|&i| std::cmp::Reverse(operands[i].len()));
            for i in order {
                axes.extend(operands[i].iter().filter(|a| !axes.contains(a)).collect::<Vec<_>>());
            }
            axes
        };
        let replace = |from: Option<AxisId>, to: Option<AxisId>| {
            let mut axes: Vec<AxisId> = Vec::new();
            for &a in operands[0] {
                if Some(a) == from { axes.extend(to) } else { axes.push(a) }
            }
            if from.is_none() {
                axes.extend(to);
            }
            axes
        };
        match self {
            Kind::Input { axes, .. } | Kind::Weight { axes, .. } | Kind::Const { axes, .. } => axes.clone(),
            Kind::Iota { axis } => vec![*axis],
            Kind::Map(_) => union(),
            Kind::Cast | Kind::Scan { .. } | Kind::Reverse { .. } => operands[0].to_vec(),
            Kind::Ein { contracted, .. } => {
                let (a, b) = (operands[0], operands[1]);
                let keep = |x: &&AxisId| !contracted.contains(x);
                let mut axes: Vec<AxisId> =
                    a.iter().filter(keep).filter(|x| b.contains(x)).copied().collect();
                axes.extend(a.iter().filter(keep).filter(|x| !b.contains(x)));
                axes.extend(b.iter().filter(keep).filter(|x| !a.contains(x)));
                axes
            }
            Kind::Reduce { axes, .. } => operands[0].iter().filter(|a| !axes.contains(a)).copied().collect(),
            Kind::Slice { from, to, .. } => replace(Some(*from), *to),
            Kind::Pad { from, to, .. } => replace(*from, Some(*to)),
            Kind::Concat { from, to } => {
                let mut axes: Vec<AxisId> = Vec::new();
                let mut parts: Vec<(&&[AxisId], &Option<AxisId>)> = operands.iter().zip(from).collect();
                parts.sort_by_key(|(operand, _)| std::cmp::Reverse(operand.len()));
                for (operand, from) in parts {
                    for a in operand.iter() {
                        let a = if Some(*a) == *from { *to } else { *a };
                        if !axes.contains(&a) {
                            axes.push(a);
                        }
                    }
                }
                if !axes.contains(to) {
                    axes.push(*to);
                }
                axes
            }
            Kind::Gather { axis } => {
                let mut axes: Vec<AxisId> = Vec::new();
                for a in operands[0] {
                    if a == axis {
                        axes.extend(operands[1].iter().filter(|i| !operands[0].contains(i)));
                    } else {
                        axes.push(*a);
                    }
                }
                axes.extend(operands[1].iter().filter(|i| !axes.contains(i)).collect::<Vec<_>>());
                axes
            }
            Kind::Rename { pairs } => operands[0]
                .iter()
                .map(|a| pairs.iter().find(|(old, _)| old == a).map_or(*a, |(_, new)| *new))
                .collect(),
            Kind::Relayout { from, to } => {
                let mut axes: Vec<AxisId> = Vec::new();
                let mut placed = false;
                for a in operands[0] {
                    if !from.contains(a) {
                        axes.push(*a);
                    } else if !placed {
                        axes.extend(to);
                        placed = true;
                    }
                }
                if !placed {
                    axes.extend(to);
                }
                axes
            }
            Kind::Broadcast { axes } => axes.iter().chain(operands[0]).copied().collect(),
            Kind::TopK { axis, to, .. } => replace(Some(*axis), *to),
            Kind::Opaque { results, result, .. } => {
                results[*result as usize].iter().flatten().copied().collect()
            }
        }
    }

    /// The same op with every axis replaced, in a fixed order of places.
    pub fn map_axes(&self, f: &mut impl FnMut(AxisId) -> AxisId) -> Kind {
        let list = |axes: &[AxisId], f: &mut dyn FnMut(AxisId) -> AxisId| -> Vec<AxisId> {
            axes.iter().map(|&a| f(a)).collect()
        };
        match self {
            Kind::Input { index, axes } => Kind::Input { index: *index, axes: list(axes, f) },
            Kind::Weight { file, offset, length, axes } => {
                Kind::Weight { file: *file, offset: *offset, length: *length, axes: list(axes, f) }
            }
            Kind::Const { id, axes } => Kind::Const { id: *id, axes: list(axes, f) },
            Kind::Iota { axis } => Kind::Iota { axis: f(*axis) },
            Kind::Map(_) | Kind::Cast => self.clone(),
            Kind::Ein { contracted, acc } => Kind::Ein { contracted: list(contracted, f), acc: *acc },
            Kind::Reduce { kind, axes } => Kind::Reduce { kind: *kind, axes: list(axes, f) },
            Kind::Scan { kind, axis, exclusive, reverse } => {
                Kind::Scan { kind: *kind, axis: f(*axis), exclusive: *exclusive, reverse: *reverse }
            }
            Kind::Slice { from, to, start, stride } => {
                Kind::Slice { from: f(*from), to: to.map(f), start: *start, stride: *stride }
            }
            Kind::Pad { from, to, low, value } => {
                Kind::Pad { from: from.map(&mut *f), to: f(*to), low: *low, value: *value }
            }
            Kind::Concat { from, to } => {
                Kind::Concat { from: from.iter().map(|a| a.map(&mut *f)).collect(), to: f(*to) }
            }
            Kind::Reverse { axis } => Kind::Reverse { axis: f(*axis) },
            Kind::Gather { axis } => Kind::Gather { axis: f(*axis) },
            Kind::Rename { pairs } => {
                Kind::Rename { pairs: pairs.iter().map(|(old, new)| (f(*old), f(*new))).collect() }
            }
            Kind::Relayout { from, to } => Kind::Relayout { from: list(from, f), to: list(to, f) },
            Kind::Broadcast { axes } => Kind::Broadcast { axes: list(axes, f) },
            Kind::TopK { axis, to, largest, part } => {
                Kind::TopK { axis: f(*axis), to: to.map(f), largest: *largest, part: *part }
            }
            Kind::Opaque { op, operands, results, result } => {
                let mut dims = |all: &[Vec<Dim>]| -> Vec<Vec<Dim>> {
                    all.iter().map(|d| d.iter().map(|dim| list(dim, f)).collect()).collect()
                };
                let (operands, results) = (dims(operands), dims(results));
                Kind::Opaque { op: op.clone(), operands, results, result: *result }
            }
        }
    }

    /// A short name, as rules and listings use it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Input { .. } => "in",
            Kind::Weight { .. } => "w",
            Kind::Const { .. } => "c",
            Kind::Iota { .. } => "iota",
            Kind::Map(kind) => kind.name(),
            Kind::Cast => "cast",
            Kind::Ein { .. } => "ein",
            Kind::Reduce { .. } => "red",
            Kind::Scan { .. } => "scan",
            Kind::Slice { .. } => "slice",
            Kind::Pad { .. } => "pad",
            Kind::Concat { .. } => "cat",
            Kind::Reverse { .. } => "reverse",
            Kind::Gather { .. } => "gather",
            Kind::Rename { .. } => "rename",
            Kind::Relayout { .. } => "relayout",
            Kind::Broadcast { .. } => "bc",
            Kind::TopK { .. } => "topk",
            Kind::Opaque { .. } => "opaque",
        }
    }

    /// Whether the node is storage rather than work.
    pub fn is_leaf(&self) -> bool {
        matches!(self, Kind::Input { .. } | Kind::Weight { .. } | Kind::Const { .. })
    }
}

/// The ONNX nodes that a node stems from: sorted indices into [`Graph::names`].
pub type Origins = BTreeSet<u32>;

/// One operation with one result.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: Kind,
    /// Earlier nodes only.
    pub operands: Vec<NodeId>,
    pub dtype: DType,
    /// The result's axes, in the order the value takes when it becomes positional again.
    pub axes: Vec<AxisId>,
    pub origins: Origins,
}

/// A value as the outside sees it: `node` with its dims in order. A dim may name axes that the node
/// lacks: the value repeats along them.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub node: NodeId,
    pub dims: Vec<Dim>,
    /// Name, dtype and range as the function's signature states them.
    pub outside: nn::Port,
}

/// A program over named axes: nodes in topological order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Extents, never 1.
    pub axes: Vec<u64>,
    pub nodes: Vec<Node>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Interned constants: dense little-endian bytes, one byte for a bool.
    pub consts: IndexSet<Bytes>,
    /// Origin names, `"<node name>|<op type>"`.
    pub names: IndexSet<String>,
}

impl Graph {
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub fn extent(&self, axis: AxisId) -> u64 {
        self.axes[axis.0 as usize]
    }

    /// Number of elements of a value over `axes`.
    pub fn elements(&self, axes: &[AxisId]) -> u64 {
        axes.iter().map(|&a| self.extent(a)).product()
    }

    /// A new axis of the given extent.
    pub fn add_axis(&mut self, extent: u64) -> AxisId {
        self.axes.push(extent);
        AxisId(self.axes.len() as u32 - 1)
    }

    /// Appends a node; its axes follow from `kind` and the operands.
    pub fn add(&mut self, kind: Kind, operands: Vec<NodeId>, dtype: DType, origins: Origins) -> NodeId {
        let axes = {
            let of: Vec<&[AxisId]> = operands.iter().map(|&o| self.node(o).axes.as_slice()).collect();
            kind.result_axes(&of)
        };
        self.nodes.push(Node { kind, operands, dtype, axes, origins });
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// The part that computes `nodes` (ascending, operands among them or the inputs) from `inputs`, with
    /// `outputs` for results, each dim one axis. Axes, constants and origins keep their numbers.
    pub fn part(&self, inputs: &[NodeId], nodes: &[NodeId], outputs: &[NodeId]) -> Graph {
        let mut part = Graph {
            axes: self.axes.clone(),
            consts: self.consts.clone(),
            names: self.names.clone(),
            ..Graph::default()
        };
        let mut new: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        for (index, &id) in inputs.iter().enumerate() {
            let node = self.node(id);
            let kind = Kind::Input { index: index as u32, axes: node.axes.clone() };
            let input = part.add(kind, vec![], node.dtype, node.origins.clone());
            part.inputs.push(part.port(input));
            new.insert(id, input);
        }
        for &id in nodes {
            let node = self.node(id);
            let operands = node.operands.iter().filter_map(|o| new.get(o).copied()).collect();
            let added = part.add(node.kind.clone(), operands, node.dtype, node.origins.clone());
            new.insert(id, added);
        }
        for id in outputs {
            if let Some(&node) = new.get(id) {
                part.outputs.push(part.port(node));
            }
        }
        part
    }

    /// A port without a name, each dim one axis.
    fn port(&self, node: NodeId) -> Port {
        let dims = self.node(node).axes.iter().map(|a| vec![*a]).collect();
        Port { node, dims, outside: nn::Port::default() }
    }

    /// Interns a constant by content.
    pub fn add_const(&mut self, bytes: Bytes) -> ConstId {
        ConstId(self.consts.insert_full(bytes).0 as u32)
    }

    /// The bytes of a constant.
    pub fn const_bytes(&self, id: ConstId) -> &Bytes {
        &self.consts[id.0 as usize]
    }

    /// Node ids in order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// For each node, the nodes that read it, in order and once each.
    pub fn users(&self) -> Vec<Vec<NodeId>> {
        let mut users: Vec<Vec<NodeId>> = vec![Vec::new(); self.nodes.len()];
        for id in self.ids() {
            for operand in &self.node(id).operands {
                let list = &mut users[operand.0 as usize];
                if list.last() != Some(&id) {
                    list.push(id);
                }
            }
        }
        users
    }

    /// The index of an origin name, added when new.
    pub fn intern_origin(&mut self, name: &str) -> u32 {
        self.names.insert_full(name.to_string()).0 as u32
    }
}
