//! The drawing of a random graph, op by op: every operand has the shape and dtype that its op wants.

use super::graph::{Graph, Op, Type};
use crate::onnx::{self, elem};
use kiln_machine::random::Rng;
use onnx_protobuf::{AttributeProto, TensorProto};
use std::collections::BTreeSet;

/// Extents: around the sizes of vectors, arrays and tiles, and those that nothing divides.
const EXTENTS: &[usize] =
    &[1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 72, 96, 100, 128, 130];
/// Most elements of one value.
const MOST_ELEMENTS: usize = 1 << 14;

impl Graph {
    /// The graph of a seed, of up to `most_ops` ops.
    pub fn random(seed: u64, most_ops: u64) -> Self {
        let mut draw = Draw { rng: Rng::new(seed), graph: Graph::default(), values: Vec::new(), names: 0 };
        for _ in 0..=draw.rng.below(2) {
            draw.input();
        }
        let ops = 1 + draw.rng.below(most_ops);
        for _ in 0..ops {
            draw.op();
        }
        draw.finish()
    }
}

struct Draw {
    rng: Rng,
    graph: Graph,
    /// Every float value made so far.
    values: Vec<(String, Type)>,
    names: usize,
}

/// An attribute that is a list of integers.
fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        type_: protobuf::EnumOrUnknown::new(onnx_protobuf::attribute_proto::AttributeType::INTS),
        ..Default::default()
    }
}

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.rng.below(n as u64) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn name(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}{}", self.names)
    }

    fn input(&mut self) {
        let rank = 1 + self.below(4);
        let mut dims = vec![1; rank];
        for dim in &mut dims {
            *dim = self.pick(EXTENTS);
        }
        // The first dims shrink until the tensor is small.
        for i in 0..rank {
            while dims.iter().product::<usize>() > MOST_ELEMENTS / 2 && dims[i] > 1 {
                dims[i] = dims[i].div_ceil(2);
            }
        }
        let name = self.name("x");
        let ty = Type::f32(&dims);
        self.graph.inputs.insert(name.clone(), ty.clone());
        self.values.push((name, ty));
    }

    /// A value made so far, later ones more likely.
    fn value(&mut self) -> (String, Type) {
        let last = self.values.len() - 1;
        let back = self.below(self.values.len()).min(self.below(self.values.len()));
        self.values[last - back].clone()
    }

    fn weight(&mut self, dims: &[usize], scale: f32) -> String {
        let name = self.name("w");
        let count: usize = dims.iter().product();
        let values: Vec<f32> =
            (0..count).map(|_| ((self.rng.below(2001) as f32) / 1000.0 - 1.0) * scale).collect();
        let dims: Vec<i64> = dims.iter().map(|d| *d as i64).collect();
        self.graph.weights.push(onnx::weight(&name, &dims, values));
        name
    }

    fn indices(&mut self, values: &[i64]) -> String {
        let name = self.name("i");
        self.graph.weights.push(TensorProto {
            name: name.clone(),
            dims: vec![values.len() as i64],
            data_type: elem::I64,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
        name
    }

    /// Appends an op of one result and gives the result's name.
    fn push(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, ty: Type) -> String {
        let output = self.name("v");
        let node_name = self.name("n");
        let mut node = onnx::node(&node_name, op, inputs, &[&output]);
        node.attribute = attributes;
        let jumps = matches!(
            op,
            "Greater" | "LessOrEqual" | "Floor" | "Round" | "Sign" | "ArgMax" | "ArgMin" | "Cast"
        );
        self.graph.ops.push(Op { node, types: vec![ty.clone()], jumps });
        if ty.elem == elem::F32 {
            self.values.push((output.clone(), ty));
        }
        output
    }

    fn op(&mut self) {
        let (x, ty) = self.value();
        let rank = ty.dims.len();
        match self.below(30) {
            0..=3 => self.map(&x, &ty),
            4..=7 => self.binary(&x, &ty),
            8..=10 => self.matmul(&x, &ty),
            11 => self.square_product(&x, &ty),
            12..=13 => self.reduce(&x, &ty),
            14 => {
                let axis = self.below(rank.max(1)) as i64;
                if rank > 0 {
                    let op = self.pick(&["Softmax", "LogSoftmax"]);
                    self.push(op, &[&x], vec![onnx::int_attribute("axis", axis)], ty);
                }
            }
            15 => self.layer_norm(&x, &ty),
            16..=17 => self.transpose(&x, &ty),
            18..=19 => self.reshape(&x, &ty),
            20 => self.slice(&x, &ty),
            21 => self.concat(&x, &ty),
            22 => self.gather(&x, &ty),
            23 => self.select(&x, &ty),
            24 => self.pad(&x, &ty),
            25 => self.half(&x, &ty),
            26 => self.expand(&x, &ty),
            27 => self.cumulative(&x, &ty),
            28 => self.greatest(&x, &ty),
            _ => self.selection(&x, &ty),
        }
    }

    fn map(&mut self, x: &str, ty: &Type) {
        let op = self
            .pick(&["Tanh", "Sigmoid", "Relu", "Neg", "Abs", "Erf", "Gelu", "Sin", "Cos", "Floor", "Sign"]);
        let y = self.push(op, &[x], vec![], ty.clone());
        // What needs a bounded or positive operand gets one.
        match self.below(6) {
            0 => {
                let bounded = self.push("Tanh", &[&y], vec![], ty.clone());
                self.push("Exp", &[&bounded], vec![], ty.clone());
            }
            1 => {
                let positive = self.push("Abs", &[&y], vec![], ty.clone());
                self.push("Sqrt", &[&positive], vec![], ty.clone());
            }
            _ => {}
        }
    }

    /// With a value of the same shape, a weight that broadcasts, or a reduction of the operand.
    fn binary(&mut self, x: &str, ty: &Type) {
        let op = self.pick(&["Add", "Sub", "Mul", "Max", "Min"]);
        let same: Vec<String> =
            self.values.iter().filter(|(_, other)| other == ty).map(|(name, _)| name.clone()).collect();
        let other = match self.below(3) {
            0 => self.pick(&same),
            1 => {
                let skip = self.below(ty.dims.len() + 1);
                let mut dims = ty.dims[skip..].to_vec();
                for dim in &mut dims {
                    if self.below(3) == 0 {
                        *dim = 1;
                    }
                }
                self.weight(&dims, 1.0)
            }
            _ if !ty.dims.is_empty() => {
                let axis = self.below(ty.dims.len());
                self.reduced(x, ty, axis, true).0
            }
            _ => self.pick(&same),
        };
        let (a, b) = if self.below(2) == 0 { (x, other.as_str()) } else { (other.as_str(), x) };
        self.push(op, &[a, b], vec![], ty.clone());
    }

    /// By a weight, stored as [K, N] or [N, K].
    fn matmul(&mut self, x: &str, ty: &Type) {
        let Some(&k) = ty.dims.last() else { return };
        let rows = ty.elements() / k.max(1);
        let n = self.pick(EXTENTS);
        if rows * n > MOST_ELEMENTS {
            return;
        }
        let mut dims = ty.dims.clone();
        dims.pop();
        dims.push(n);
        let scale = 1.0 / (k as f32).sqrt();
        let w = if self.below(2) == 0 {
            self.weight(&[k, n], scale)
        } else {
            let stored = self.weight(&[n, k], scale);
            let turned = self.name("t");
            let mut node = onnx::node(&turned, "Transpose", &[&stored], &[&turned]);
            node.attribute = vec![ints("perm", &[1, 0])];
            self.graph.ops.push(Op { node, types: vec![Type::f32(&[k, n])], jumps: false });
            turned
        };
        self.push("MatMul", &[x, &w], vec![], Type::f32(&dims));
    }

    /// x · xᵀ, perhaps softmax, · x: what attention is made of.
    fn square_product(&mut self, x: &str, ty: &Type) {
        let rank = ty.dims.len();
        if rank < 2 {
            return;
        }
        let (s, d) = (ty.dims[rank - 2], ty.dims[rank - 1]);
        if ty.elements() / d * s > MOST_ELEMENTS {
            return;
        }
        let mut perm: Vec<i64> = (0..rank as i64).collect();
        perm.swap(rank - 1, rank - 2);
        let mut turned = ty.dims.clone();
        turned.swap(rank - 1, rank - 2);
        let t = self.push("Transpose", &[x], vec![ints("perm", &perm)], Type::f32(&turned));
        let mut square = ty.dims.clone();
        square[rank - 1] = s;
        let mut y = self.push("MatMul", &[x, &t], vec![], Type::f32(&square));
        let c = self.weight(&[], 1.0 / d as f32);
        y = self.push("Mul", &[&y, &c], vec![], Type::f32(&square));
        if self.below(2) == 0 {
            y = self.push("Softmax", &[&y], vec![onnx::int_attribute("axis", -1)], Type::f32(&square));
        }
        if self.below(3) > 0 {
            self.push("MatMul", &[&y, x], vec![], ty.clone());
        }
    }

    fn reduced(&mut self, x: &str, ty: &Type, axis: usize, keep: bool) -> (String, Type) {
        let op = self.pick(&["ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum"]);
        let mut dims = ty.dims.clone();
        if keep {
            dims[axis] = 1;
        } else {
            dims.remove(axis);
        }
        let axes = self.indices(&[axis as i64]);
        let keepdims = onnx::int_attribute("keepdims", i64::from(keep));
        let result = Type::f32(&dims);
        (self.push(op, &[x, &axes], vec![keepdims], result.clone()), result)
    }

    fn reduce(&mut self, x: &str, ty: &Type) {
        if !ty.dims.is_empty() {
            let axis = self.below(ty.dims.len());
            let keep = self.below(2) == 0;
            self.reduced(x, ty, axis, keep);
        }
    }

    fn layer_norm(&mut self, x: &str, ty: &Type) {
        let Some(&features) = ty.dims.last() else { return };
        let (gain, bias) = (self.weight(&[features], 1.0), self.weight(&[features], 1.0));
        let axis = onnx::int_attribute("axis", -1);
        // Epsilon is 1e-5: rows of one element, or of equal ones, stay finite.
        self.push("LayerNormalization", &[x, &gain, &bias], vec![axis], ty.clone());
    }

    fn transpose(&mut self, x: &str, ty: &Type) {
        let mut perm: Vec<usize> = (0..ty.dims.len()).collect();
        for i in (1..perm.len()).rev() {
            let j = self.below(i + 1);
            perm.swap(i, j);
        }
        let dims: Vec<usize> = perm.iter().map(|&p| ty.dims[p]).collect();
        let perm: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
        self.push("Transpose", &[x], vec![ints("perm", &perm)], Type::f32(&dims));
    }

    /// Splits a dim, merges two neighbours, or anything else of as many elements.
    fn reshape(&mut self, x: &str, ty: &Type) {
        let mut dims = ty.dims.clone();
        let at = self.below(dims.len().max(1));
        match self.below(3) {
            0 if at + 1 < dims.len() => {
                dims[at] *= dims.remove(at + 1);
            }
            1 if !dims.is_empty() && dims.len() < 5 => {
                let divisors: Vec<usize> = (1..=dims[at]).filter(|d| dims[at].is_multiple_of(*d)).collect();
                let inner = self.pick(&divisors);
                dims[at] /= inner;
                dims.insert(at + 1, inner);
            }
            _ => {
                let count = ty.elements();
                let divisors: Vec<usize> = (1..=count).filter(|d| count.is_multiple_of(*d)).collect();
                let rows = self.pick(&divisors);
                dims = vec![rows, count / rows];
            }
        }
        let shape: Vec<i64> = dims.iter().map(|d| *d as i64).collect();
        let shape = self.indices(&shape);
        self.push("Reshape", &[x, &shape], vec![], Type::f32(&dims));
    }

    fn slice(&mut self, x: &str, ty: &Type) {
        if ty.dims.is_empty() {
            return;
        }
        let axis = self.below(ty.dims.len());
        let extent = ty.dims[axis];
        let start = self.below(extent);
        let end = start + 1 + self.below(extent - start);
        let step = 1 + self.below(3);
        let mut dims = ty.dims.clone();
        dims[axis] = (end - start).div_ceil(step);
        let operands = [start, end, axis, step].map(|v| self.indices(&[v as i64]));
        let mut inputs = vec![x];
        inputs.extend(operands.iter().map(String::as_str));
        self.push("Slice", &inputs, vec![], Type::f32(&dims));
    }

    /// With itself or another value that differs along one axis only.
    fn concat(&mut self, x: &str, ty: &Type) {
        if ty.dims.is_empty() || ty.elements() * 2 > MOST_ELEMENTS {
            return;
        }
        let axis = self.below(ty.dims.len());
        let fits: Vec<(String, Type)> = self
            .values
            .iter()
            .filter(|(_, other)| {
                other.dims.len() == ty.dims.len()
                    && (0..ty.dims.len()).all(|i| i == axis || other.dims[i] == ty.dims[i])
            })
            .cloned()
            .collect();
        let (other, other_ty) = self.pick(&fits);
        let mut dims = ty.dims.clone();
        dims[axis] += other_ty.dims[axis];
        if dims.iter().product::<usize>() <= MOST_ELEMENTS {
            self.push(
                "Concat",
                &[x, &other],
                vec![onnx::int_attribute("axis", axis as i64)],
                Type::f32(&dims),
            );
        }
    }

    fn gather(&mut self, x: &str, ty: &Type) {
        if ty.dims.is_empty() {
            return;
        }
        let axis = self.below(ty.dims.len());
        let count = 1 + self.below(9);
        let mut dims = ty.dims.clone();
        dims[axis] = count;
        if dims.iter().product::<usize>() > MOST_ELEMENTS {
            return;
        }
        let extent = ty.dims[axis] as i64;
        let at: Vec<i64> = (0..count).map(|_| self.rng.below(2 * extent as u64) as i64 - extent).collect();
        let indices = if axis == 0 && self.below(2) == 0 {
            // Known at run time only.
            let name = self.name("ids");
            self.graph.inputs.insert(name.clone(), Type { elem: elem::I64, dims: vec![count] });
            name
        } else {
            self.indices(&at)
        };
        self.push("Gather", &[x, &indices], vec![onnx::int_attribute("axis", axis as i64)], Type::f32(&dims));
    }

    /// A mask from a comparison chooses between two values.
    fn select(&mut self, x: &str, ty: &Type) {
        let same: Vec<String> =
            self.values.iter().filter(|(_, other)| other == ty).map(|(name, _)| name.clone()).collect();
        let (a, b) = (self.pick(&same), self.pick(&same));
        let limit = self.weight(&[], 0.5);
        let op = self.pick(&["Greater", "LessOrEqual"]);
        let mask = self.push(op, &[x, &limit], vec![], Type { elem: elem::BOOL, dims: ty.dims.clone() });
        let other = if self.below(2) == 0 { b } else { self.weight(&[], 1.0) };
        self.push("Where", &[&mask, &a, &other], vec![], ty.clone());
    }

    fn pad(&mut self, x: &str, ty: &Type) {
        let rank = ty.dims.len();
        if rank == 0 {
            return;
        }
        let mut pads = vec![0i64; 2 * rank];
        let axis = self.below(rank);
        pads[axis] = self.below(3) as i64;
        pads[rank + axis] = self.below(4) as i64;
        let mut dims = ty.dims.clone();
        dims[axis] += (pads[axis] + pads[rank + axis]) as usize;
        if dims.iter().product::<usize>() > MOST_ELEMENTS {
            return;
        }
        let (pads, value) = (self.indices(&pads), self.weight(&[], 2.0));
        self.push("Pad", &[x, &pads, &value], vec![], Type::f32(&dims));
    }

    /// Through f16 and back, with an op between.
    fn half(&mut self, x: &str, ty: &Type) {
        let f16 = Type { elem: elem::F16, dims: ty.dims.clone() };
        let to = |elem: i32| onnx::int_attribute("to", elem.into());
        let narrow = self.push("Cast", &[x], vec![to(elem::F16)], f16.clone());
        let op = self.pick(&["Relu", "Tanh", "Abs", "Neg"]);
        let y = self.push(op, &[&narrow], vec![], f16);
        self.push("Cast", &[&y], vec![to(elem::F32)], ty.clone());
    }

    /// Repeats along a new dim and those of extent 1, of which there is one more after a reduction.
    fn expand(&mut self, x: &str, ty: &Type) {
        let (mut x, mut ty) = (x.to_string(), ty.clone());
        if !ty.dims.is_empty() && self.below(2) == 0 {
            let axis = self.below(ty.dims.len());
            (x, ty) = self.reduced(&x, &ty, axis, true);
        }
        let mut dims = ty.dims.clone();
        for dim in dims.iter_mut().filter(|dim| **dim == 1) {
            *dim = self.pick(EXTENTS);
        }
        if dims.len() < 4 && self.below(2) == 0 {
            dims.insert(0, 1 + self.below(5));
        }
        if dims.iter().product::<usize>() <= MOST_ELEMENTS {
            let shape: Vec<i64> = dims.iter().map(|d| *d as i64).collect();
            let shape = self.indices(&shape);
            self.push("Expand", &[&x, &shape], vec![], Type::f32(&dims));
        }
    }

    fn cumulative(&mut self, x: &str, ty: &Type) {
        if ty.dims.is_empty() {
            return;
        }
        let axis = self.below(ty.dims.len()) as i64;
        let axis = self.indices(&[axis]);
        let flag = |name: &str, value: usize| onnx::int_attribute(name, value as i64);
        let flags = vec![flag("exclusive", self.below(2)), flag("reverse", self.below(2))];
        self.push("CumSum", &[x, &axis], flags, ty.clone());
    }

    /// The place of the greatest or least element, as a float.
    fn greatest(&mut self, x: &str, ty: &Type) {
        if ty.dims.is_empty() {
            return;
        }
        let axis = self.below(ty.dims.len());
        let op = self.pick(&["ArgMax", "ArgMin"]);
        let mut dims = ty.dims.clone();
        dims[axis] = 1;
        let at = Type { elem: elem::I64, dims: dims.clone() };
        let at = self.push(op, &[x], vec![onnx::int_attribute("axis", axis as i64)], at);
        let to = onnx::int_attribute("to", elem::F32.into());
        self.push("Cast", &[&at], vec![to], Type::f32(&dims));
    }

    /// The first of the sorted elements, sometimes picked again by their places.
    fn selection(&mut self, x: &str, ty: &Type) {
        if ty.dims.is_empty() {
            return;
        }
        let axis = self.below(ty.dims.len());
        let count = 1 + self.below(ty.dims[axis].min(9));
        let mut dims = ty.dims.clone();
        dims[axis] = count;
        let k = self.indices(&[count as i64]);
        let axis = onnx::int_attribute("axis", axis as i64);
        let largest = onnx::int_attribute("largest", self.below(2) as i64);
        let (values, at, node) = (self.name("v"), self.name("v"), self.name("n"));
        let mut node = onnx::node(&node, "TopK", &[x, &k], &[&values, &at]);
        node.attribute = vec![axis.clone(), largest];
        let types = vec![Type::f32(&dims), Type { elem: elem::I64, dims: dims.clone() }];
        self.graph.ops.push(Op { node, types, jumps: true });
        self.values.push((values, Type::f32(&dims)));
        if self.below(2) == 0 {
            self.push("GatherElements", &[x, &at], vec![axis], Type::f32(&dims));
        }
    }

    /// What nothing reads is an output, and sometimes one value more.
    fn finish(mut self) -> Graph {
        let read: BTreeSet<String> = self.graph.ops.iter().flat_map(|op| op.node.input.clone()).collect();
        let made = self.graph.ops.iter().flat_map(|op| op.node.output.iter().zip(&op.types));
        let mut outputs: Vec<String> = made
            .filter(|(name, ty)| !read.contains(*name) && ty.elem == elem::F32)
            .map(|(name, _)| name.clone())
            .collect();
        if self.below(3) == 0 {
            let (extra, _) = self.value();
            if !outputs.contains(&extra) && !self.graph.inputs.contains_key(&extra) {
                outputs.push(extra);
            }
        }
        // At most three, so that shrinking has less to do; the rest is dropped.
        while outputs.len() > 3 {
            let at = self.below(outputs.len());
            outputs.remove(at);
        }
        self.graph.outputs = outputs;
        self.graph.drop_unused();
        self.graph
    }
}
