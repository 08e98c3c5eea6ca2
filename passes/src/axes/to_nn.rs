//! Named axes → `nn`: every node takes its axes in a fixed order and becomes positional again.

use std::collections::BTreeMap;

use kiln_ir::nn::{ContractDims, FuncBuilder, OpKind, ReduceKind, ValueId};
use kiln_ir::{DType, IrError, Origin, TensorType};

use super::graph::{AxisId, Dim, Graph, Kind, NodeId, TopKPart};

/// Builds the function body: the arguments of `builder` are the graph's inputs, in order.
///
/// # Errors
/// When a node does not obey its op's rules; a graph from [`super::from_nn`] always does.
pub fn to_nn(graph: &Graph, builder: &mut FuncBuilder) -> Result<Vec<ValueId>, IrError> {
    let mut e = Emitter { graph, builder, values: Vec::new(), shared: BTreeMap::new() };
    for id in graph.ids() {
        let node = graph.node(id);
        let names = node.origins.iter().filter_map(|&o| graph.names.get_index(o as usize));
        e.builder.set_origin(&Origin::from_names(names));
        let value = e.node(id)?;
        e.values.push(value);
    }
    e.builder.set_origin(&Origin::default());
    let outputs = graph.outputs.iter();
    outputs.map(|port| e.positional(port.node, &port.dims)).collect()
}

struct Emitter<'a> {
    graph: &'a Graph,
    builder: &'a mut FuncBuilder,
    /// Per node, with dims in the order of its axes.
    values: Vec<ValueId>,
    /// Results of ops with several, by what they compute.
    shared: BTreeMap<(Kind, Vec<NodeId>), Vec<ValueId>>,
}

impl Emitter<'_> {
    fn value(&self, id: NodeId) -> ValueId {
        self.values[id.0 as usize]
    }

    fn axes(&self, id: NodeId) -> &[AxisId] {
        &self.graph.node(id).axes
    }

    fn shape(&self, axes: &[AxisId]) -> Vec<usize> {
        axes.iter().map(|&a| self.graph.extent(a) as usize).collect()
    }

    fn op(&mut self, kind: OpKind, operands: &[ValueId]) -> Result<ValueId, IrError> {
        Ok(self.builder.op(&kind, operands)?[0])
    }

    fn reshape(&mut self, x: ValueId, shape: Vec<usize>) -> Result<ValueId, IrError> {
        if self.builder.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(OpKind::Reshape { shape }, &[x])
    }

    fn node(&mut self, id: NodeId) -> Result<ValueId, IrError> {
        let node = self.graph.node(id);
        let axes = &node.axes;
        let dtype = node.dtype;
        let ops = &node.operands;
        match &node.kind {
            Kind::Input { index, axes } => {
                let value = self.builder.arg(*index as usize);
                let shape = self.shape(axes);
                self.reshape(value, shape)
            }
            Kind::Weight { file, offset, length, axes } => {
                let ty = TensorType::new(dtype, self.shape(axes));
                self.op(OpKind::Weight { ty, file: *file, offset: *offset, length: *length }, &[])
            }
            Kind::Const { id, axes } => {
                let ty = TensorType::new(dtype, self.shape(axes));
                self.op(OpKind::Constant { ty, bytes: self.graph.const_bytes(*id).clone() }, &[])
            }
            Kind::Iota { axis } => {
                let ty = TensorType::new(dtype, self.shape(&[*axis]));
                self.op(OpKind::Iota { ty, axis: 0 }, &[])
            }
            Kind::Map(kind) => {
                let operands = ops.iter().map(|&o| self.arrange(o, axes)).collect::<Result<Vec<_>, _>>()?;
                self.op(OpKind::Map { kind: *kind }, &operands)
            }
            Kind::Cast => self.op(OpKind::Cast { dtype }, &[self.value(ops[0])]),
            Kind::Ein { contracted, acc } => self.ein(ops[0], ops[1], contracted, *acc, dtype),
            Kind::Reduce { kind, axes } => self.reduce(ops[0], *kind, axes),
            Kind::Scan { kind, axis, exclusive, reverse } => {
                let axis = self.position(ops[0], *axis)?;
                let scan = OpKind::Scan { kind: *kind, axis, exclusive: *exclusive, reverse: *reverse };
                self.op(scan, &[self.value(ops[0])])
            }
            Kind::Slice { from, to, start, stride } => {
                let d = self.position(ops[0], *from)?;
                let mut sizes = self.shape(self.axes(ops[0]));
                let mut offsets = vec![0; sizes.len()];
                let mut strides = vec![1; sizes.len()];
                sizes[d] = to.map_or(1, |t| self.graph.extent(t) as usize);
                offsets[d] = *start as usize;
                strides[d] = *stride as usize;
                let x = self.op(OpKind::Slice { offsets, sizes, strides }, &[self.value(ops[0])])?;
                let shape = self.shape(axes);
                self.reshape(x, shape)
            }
            Kind::Pad { from, to, low, value } => {
                let (x, d) = self.with_dim(ops[0], *from, axes, *to)?;
                let rank = axes.len();
                let (mut lows, mut highs) = (vec![0; rank], vec![0; rank]);
                let inside = from.map_or(1, |f| self.graph.extent(f));
                lows[d] = *low as usize;
                highs[d] = (self.graph.extent(*to) - low - inside) as usize;
                self.op(OpKind::Pad { low: lows, high: highs, value: *value }, &[x])
            }
            Kind::Concat { from, to } => {
                let mut parts = Vec::new();
                let mut axis = 0;
                for (&o, &from) in ops.iter().zip(from) {
                    let (x, d) = self.with_dim(o, from, axes, *to)?;
                    parts.push(x);
                    axis = d;
                }
                self.op(OpKind::Concat { axis }, &parts)
            }
            Kind::Reverse { axis } => {
                let d = self.position(ops[0], *axis)?;
                self.op(OpKind::Reverse { axes: vec![d] }, &[self.value(ops[0])])
            }
            Kind::Gather { axis } => self.gather(ops[0], ops[1], *axis, axes),
            Kind::Rename { .. } => Ok(self.value(ops[0])),
            Kind::Relayout { from, .. } => {
                let mut order: Vec<AxisId> = Vec::new();
                for a in self.axes(ops[0]) {
                    if !from.contains(a) {
                        order.push(*a);
                    } else if !order.contains(a) {
                        order.extend(from);
                    }
                }
                let x = self.arrange(ops[0], &order)?;
                let shape = self.shape(axes);
                self.reshape(x, shape)
            }
            Kind::Broadcast { .. } => self.arrange(ops[0], axes),
            Kind::TopK { axis, to, largest, part } => {
                let results = self.topk(ops[0], *axis, *to, *largest)?;
                let shape = self.shape(axes);
                self.reshape(results[usize::from(*part == TopKPart::Indices)], shape)
            }
            Kind::Opaque { op, operands: dims, results, result } => {
                let mut key = node.kind.clone();
                if let Kind::Opaque { result, .. } = &mut key {
                    *result = 0;
                }
                let key = (key, ops.clone());
                let values = match self.shared.get(&key) {
                    Some(values) => values.clone(),
                    None => {
                        let operands = ops
                            .iter()
                            .zip(dims)
                            .map(|(&o, dims)| self.positional(o, dims))
                            .collect::<Result<Vec<_>, _>>()?;
                        let values = self.builder.op(op, &operands)?;
                        self.shared.insert(key, values.clone());
                        values
                    }
                };
                let shape = self.shape(&results[*result as usize].concat());
                self.reshape(values[*result as usize], shape)
            }
        }
    }

    fn position(&self, id: NodeId, axis: AxisId) -> Result<usize, IrError> {
        self.axes(id).iter().position(|&a| a == axis).ok_or_else(|| IrError::Malformed {
            message: format!("axis {} is missing from the operand of a named-axis node", axis.0),
        })
    }

    /// The value with exactly the dims `target`: transposed, and repeated along those it lacks.
    fn arrange(&mut self, id: NodeId, target: &[AxisId]) -> Result<ValueId, IrError> {
        let axes = self.axes(id).to_vec();
        self.arrange_value(self.value(id), &axes, target)
    }

    fn arrange_value(
        &mut self,
        mut x: ValueId,
        axes: &[AxisId],
        target: &[AxisId],
    ) -> Result<ValueId, IrError> {
        if axes == target {
            return Ok(x);
        }
        let order: Vec<AxisId> = target.iter().filter(|a| axes.contains(a)).copied().collect();
        if order != axes {
            let perm = order.iter().filter_map(|a| axes.iter().position(|b| a == b)).collect();
            x = self.op(OpKind::Transpose { perm }, &[x])?;
        }
        if order.len() != target.len() {
            let dims = (0..target.len()).filter(|&d| order.contains(&target[d])).collect();
            x = self.op(OpKind::Broadcast { dims, shape: self.shape(target) }, &[x])?;
        }
        Ok(x)
    }

    /// The value with positional dims, each of any number of axes.
    fn positional(&mut self, id: NodeId, dims: &[Dim]) -> Result<ValueId, IrError> {
        let x = self.arrange(id, &dims.concat())?;
        let shape = dims.iter().map(|d| self.graph.elements(d) as usize).collect();
        self.reshape(x, shape)
    }

    /// The value over `axes`, with `from` (or a dim of extent 1) in the place of `to`; that place.
    fn with_dim(
        &mut self,
        id: NodeId,
        from: Option<AxisId>,
        axes: &[AxisId],
        to: AxisId,
    ) -> Result<(ValueId, usize), IrError> {
        let d = axes.iter().position(|&a| a == to).ok_or_else(|| IrError::Malformed {
            message: format!("axis {} is missing from the result of a named-axis node", to.0),
        })?;
        let mut order = axes.to_vec();
        let x = match from {
            Some(f) => {
                order[d] = f;
                self.arrange(id, &order)?
            }
            None => {
                order.remove(d);
                let x = self.arrange(id, &order)?;
                let mut shape = self.shape(&order);
                shape.insert(d, 1);
                self.reshape(x, shape)?
            }
        };
        Ok((x, d))
    }

    fn ein(
        &mut self,
        lhs: NodeId,
        rhs: NodeId,
        contracted: &[AxisId],
        acc: DType,
        dtype: DType,
    ) -> Result<ValueId, IrError> {
        // A contracted axis that one operand lacks: that operand repeats along it.
        let complete = |id: NodeId| -> Vec<AxisId> {
            let axes = self.axes(id);
            axes.iter().chain(contracted.iter().filter(|k| !axes.contains(k))).copied().collect()
        };
        let (a, b) = (complete(lhs), complete(rhs));
        let (x, y) = (self.arrange(lhs, &a)?, self.arrange(rhs, &b)?);
        let find = |list: &[AxisId], axis: AxisId| list.iter().position(|&l| l == axis);
        let mut dims =
            ContractDims { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![], rhs_contract: vec![] };
        for (d, &axis) in a.iter().enumerate() {
            if let (Some(e), false) = (find(&b, axis), contracted.contains(&axis)) {
                dims.lhs_batch.push(d);
                dims.rhs_batch.push(e);
            }
        }
        for &k in contracted {
            dims.lhs_contract.extend(find(&a, k));
            dims.rhs_contract.extend(find(&b, k));
        }
        self.op(OpKind::Contract { dims, acc, dtype }, &[x, y])
    }

    /// The chain runs over the reduced axes in their stated order: they stand in that order.
    fn reduce(&mut self, x: NodeId, kind: ReduceKind, axes: &[AxisId]) -> Result<ValueId, IrError> {
        let all = self.axes(x).to_vec();
        let mut next = axes.iter();
        let order: Vec<AxisId> =
            all.iter().map(|a| if axes.contains(a) { *next.next().unwrap_or(a) } else { *a }).collect();
        let value = self.arrange(x, &order)?;
        let axes = (0..order.len()).filter(|&d| axes.contains(&order[d])).collect();
        self.op(OpKind::Reduce { kind, axes }, &[value])
    }

    fn gather(
        &mut self,
        data: NodeId,
        indices: NodeId,
        axis: AxisId,
        result: &[AxisId],
    ) -> Result<ValueId, IrError> {
        let (a, b) = (self.axes(data).to_vec(), self.axes(indices).to_vec());
        if b.iter().all(|i| !a.contains(i)) {
            let d = self.position(data, axis)?;
            return self.op(OpKind::Gather { axis: d }, &[self.value(data), self.value(indices)]);
        }
        // Pointwise along the common axes: one dim of lookups per element of the data's other axes.
        let rest: Vec<AxisId> = a.iter().filter(|&&x| x != axis).copied().collect();
        let own: Vec<AxisId> = b.iter().filter(|x| !rest.contains(x)).copied().collect();
        let with = |list: &[AxisId]| -> Vec<AxisId> { rest.iter().chain(list).copied().collect() };
        let x = self.arrange(data, &with(&[axis]))?;
        let i = self.arrange(indices, &with(&own))?;
        let mut shape = self.shape(&rest);
        shape.push(self.graph.elements(&own) as usize);
        let i = self.reshape(i, shape)?;
        let picked = self.op(OpKind::GatherElements { axis: rest.len() }, &[x, i])?;
        let full = with(&own);
        let shape = self.shape(&full);
        let picked = self.reshape(picked, shape)?;
        self.arrange_value(picked, &full, result)
    }

    fn topk(
        &mut self,
        x: NodeId,
        axis: AxisId,
        to: Option<AxisId>,
        largest: bool,
    ) -> Result<Vec<ValueId>, IrError> {
        let key = (Kind::TopK { axis, to, largest, part: TopKPart::Values }, vec![x]);
        if let Some(values) = self.shared.get(&key) {
            return Ok(values.clone());
        }
        let d = self.position(x, axis)?;
        let k = to.map_or(1, |t| self.graph.extent(t) as usize);
        let values = self.builder.op(&OpKind::TopK { k, axis: d, largest }, &[self.value(x)])?;
        self.shared.insert(key, values.clone());
        Ok(values)
    }
}
