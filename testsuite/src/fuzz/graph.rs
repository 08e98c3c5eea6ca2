//! ONNX graphs in which every value has a known type.

use crate::onnx::{self, elem};
use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};

/// Element type and extents of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    pub elem: i32,
    pub dims: Vec<usize>,
}

impl Type {
    pub(super) fn f32(dims: &[usize]) -> Self {
        Type { elem: elem::F32, dims: dims.to_vec() }
    }

    pub(super) fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// An op with the types of its results.
#[derive(Clone, Debug)]
pub struct Op {
    pub node: NodeProto,
    pub types: Vec<Type>,
    /// A small change of its operands may change its result by a lot.
    pub jumps: bool,
}

/// A graph whose every value has a known type.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub inputs: BTreeMap<String, Type>,
    pub weights: Vec<TensorProto>,
    pub ops: Vec<Op>,
    pub outputs: Vec<String>,
}

impl Graph {
    /// The type of a value that is not a weight.
    pub fn type_of(&self, name: &str) -> Option<&Type> {
        let made = self.ops.iter().flat_map(|op| op.node.output.iter().zip(&op.types));
        self.inputs.get(name).or_else(|| made.filter(|(output, _)| *output == name).map(|(_, ty)| ty).next())
    }

    /// Whether an output may differ by a lot when roundings differ.
    pub fn jumps(&self) -> bool {
        self.ops.iter().any(|op| op.jumps)
    }

    /// Whether it holds a function that the evaluator takes from elsewhere than the machine: then the last bits differ.
    pub fn rounds(&self) -> bool {
        const FUNCTIONS: &[&str] = &[
            "Tanh",
            "Sigmoid",
            "Erf",
            "Gelu",
            "Sin",
            "Cos",
            "Exp",
            "Softmax",
            "LogSoftmax",
            "LayerNormalization",
        ];
        self.ops.iter().any(|op| FUNCTIONS.contains(&op.node.op_type.as_str()))
    }

    /// Drops ops, weights and inputs that no output needs.
    pub fn drop_unused(&mut self) {
        let mut used: BTreeSet<String> = self.outputs.iter().cloned().collect();
        for op in self.ops.iter().rev() {
            if op.node.output.iter().any(|output| used.contains(output)) {
                used.extend(op.node.input.iter().cloned());
            }
        }
        self.ops.retain(|op| op.node.output.iter().any(|output| used.contains(output)));
        self.weights.retain(|weight| used.contains(&weight.name));
        self.inputs.retain(|name, _| used.contains(name));
    }

    /// As an ONNX model.
    pub fn model(&self) -> ModelProto {
        let value = |name: &str, ty: &Type| {
            let dims: Vec<String> = ty.dims.iter().map(usize::to_string).collect();
            onnx::value(name, ty.elem, &dims.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let graph = GraphProto {
            name: "random".into(),
            node: self.ops.iter().map(|op| op.node.clone()).collect(),
            input: self.inputs.iter().map(|(name, ty)| value(name, ty)).collect(),
            output: self
                .outputs
                .iter()
                .filter_map(|name| self.type_of(name).map(|ty| value(name, ty)))
                .collect(),
            initializer: self.weights.clone(),
            ..Default::default()
        };
        let mut model = onnx::model(graph);
        model.opset_import[0].version = 20;
        model
    }

    /// The model's bytes.
    ///
    /// # Errors
    /// When protobuf cannot write it.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        self.model().write_to_bytes().map_err(|e| e.to_string())
    }

    /// One op a line, with the types of what it makes.
    pub fn text(&self) -> String {
        let ty =
            |ty: &Type| format!("{}{:?}", if ty.elem == elem::F32 { "f32" } else { "i64|bool|f16" }, ty.dims);
        let mut text = String::new();
        for (name, input) in &self.inputs {
            text += &format!("input {name}: {}\n", ty(input));
        }
        for weight in &self.weights {
            text += &format!("weight {}: {:?}\n", weight.name, weight.dims);
        }
        for Op { node, types, .. } in &self.ops {
            let attributes: Vec<String> =
                node.attribute.iter().map(|a| format!("{}={}{:?}", a.name, a.i, a.ints)).collect();
            text += &format!(
                "{} = {} <{}> ({}): {}\n",
                node.output.join(", "),
                node.op_type,
                attributes.join(", "),
                node.input.join(", "),
                types.iter().map(ty).collect::<Vec<_>>().join(", ")
            );
        }
        text + &format!("outputs {}\n", self.outputs.join(", "))
    }
}
