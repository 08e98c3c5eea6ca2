//! Our ONNX reader against a second one: random models are written by the crate `onnx-protobuf`, read by ours,
//! written by ours, and must come back to `onnx-protobuf` as they were.

use kiln_frontend::onnx;
use kiln_machine::random::Rng;
use kiln_testsuite::{models, onnx as build};
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message as _, ModelProto, NodeProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, TypeProto, attribute_proto::AttributeType,
    tensor_proto::DataLocation,
};
use prost::Message as _;
use protobuf::{EnumOrUnknown, MessageField};
use std::fs;

/// Through our reader and writer and back.
fn through_ours(bytes: &[u8]) -> ModelProto {
    let ours = onnx::ModelProto::decode(bytes).expect("our reader takes it");
    ModelProto::parse_from_bytes(&ours.encode_to_vec()).expect("what we write is a model")
}

#[test]
fn random_models_are_read_alike() {
    for seed in 0..200 {
        let model = Writer(Rng::new(seed)).model();
        let bytes = model.write_to_bytes().expect("a model can be written");
        assert_eq!(through_ours(&bytes), model, "seed {seed}");
    }
}

#[test]
fn real_models_are_read_alike() {
    for folder in models().expect("the models are there") {
        let bytes = fs::read(folder.join("model.onnx")).expect("a model file");
        let model = ModelProto::parse_from_bytes(&bytes).expect("the second reader takes it");
        // The second reader stops at IR version 10; what it does not know it keeps as unknown fields.
        assert_eq!(through_ours(&bytes), model, "{}", folder.display());
    }
}

/// Draws messages with every kind of field that readers treat differently: packed and unpacked numbers, raw and
/// typed tensor data, nested graphs, one-ofs, unset and empty fields.
struct Writer(Rng);

impl Writer {
    fn model(&mut self) -> ModelProto {
        let mut model = build::model(self.graph(0));
        model.ir_version = self.0.below(14) as i64;
        model.producer_version = self.text();
        model.model_version = self.0.next_u64() as i64;
        model.metadata_props = self.several(|w| w.entry());
        model.functions = self.several(|w| w.function());
        model
    }

    fn graph(&mut self, depth: u64) -> GraphProto {
        GraphProto {
            name: self.text(),
            doc_string: self.text(),
            node: self.several(|w| w.node(depth)),
            initializer: self.several(|w| w.tensor()),
            sparse_initializer: self.several(|w| w.sparse()),
            input: self.several(|w| build::value("in", w.0.below(20) as i32, &["batch", "3", "seq + 1"])),
            output: self.several(|w| build::value("out", w.0.below(20) as i32, &[])),
            ..Default::default()
        }
    }

    fn node(&mut self, depth: u64) -> NodeProto {
        let mut node = build::node(&self.text(), &self.text(), &["a", "", "b"], &["c"]);
        node.domain = self.text();
        node.attribute = self.several(|w| w.attribute(depth));
        node
    }

    fn attribute(&mut self, depth: u64) -> AttributeProto {
        let mut attribute = AttributeProto { name: self.text(), ..Default::default() };
        let kind = match self.0.below(if depth < 2 { 10 } else { 8 }) {
            0 => {
                attribute.f = self.float();
                AttributeType::FLOAT
            }
            1 => {
                attribute.i = self.0.next_u64() as i64;
                AttributeType::INT
            }
            2 => {
                attribute.s = self.bytes();
                AttributeType::STRING
            }
            3 => {
                attribute.t = MessageField::some(self.tensor());
                AttributeType::TENSOR
            }
            4 => {
                attribute.floats = self.several(|w| w.float());
                AttributeType::FLOATS
            }
            5 => {
                attribute.ints = self.several(|w| w.0.edgy(64) as i64);
                AttributeType::INTS
            }
            6 => {
                attribute.strings = self.several(|w| w.bytes());
                AttributeType::STRINGS
            }
            7 => {
                attribute.tp =
                    MessageField::some(TypeProto { denotation: self.text(), ..Default::default() });
                AttributeType::TYPE_PROTO
            }
            8 => {
                attribute.g = MessageField::some(self.graph(depth + 1));
                AttributeType::GRAPH
            }
            _ => {
                attribute.graphs = vec![self.graph(depth + 1)];
                AttributeType::GRAPHS
            }
        };
        attribute.type_ = EnumOrUnknown::new(kind);
        attribute
    }

    fn tensor(&mut self) -> TensorProto {
        let mut tensor = TensorProto { name: self.text(), ..Default::default() };
        tensor.dims = self.several(|w| w.0.below(5) as i64);
        tensor.data_type = self.0.below(24) as i32;
        match self.0.below(7) {
            0 => tensor.raw_data = self.bytes(),
            1 => tensor.float_data = self.several(|w| w.float()),
            2 => tensor.int32_data = self.several(|w| w.0.edgy(32) as i32),
            3 => tensor.int64_data = self.several(|w| w.0.edgy(64) as i64),
            4 => tensor.uint64_data = self.several(|w| w.0.edgy(64)),
            5 => tensor.string_data = self.several(|w| w.bytes()),
            _ => {
                tensor.data_location = EnumOrUnknown::new(DataLocation::EXTERNAL);
                tensor.external_data = self.several(|w| w.entry());
            }
        }
        tensor
    }

    fn sparse(&mut self) -> SparseTensorProto {
        SparseTensorProto {
            values: MessageField::some(self.tensor()),
            indices: MessageField::some(self.tensor()),
            dims: vec![3, 4],
            ..Default::default()
        }
    }

    fn function(&mut self) -> FunctionProto {
        FunctionProto {
            name: self.text(),
            domain: self.text(),
            input: self.several(|w| w.text()),
            attribute: self.several(|w| w.text()),
            attribute_proto: self.several(|w| w.attribute(2)),
            node: self.several(|w| w.node(2)),
            ..Default::default()
        }
    }

    fn entry(&mut self) -> StringStringEntryProto {
        StringStringEntryProto { key: self.text(), value: self.text(), ..Default::default() }
    }

    fn several<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.0.below(4)).map(|_| one(self)).collect()
    }

    fn text(&mut self) -> String {
        ["", "x", "/layer.0/MatMul", "名前", "a b"][self.0.below(5) as usize].into()
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.0.below(20)).map(|_| self.0.edgy(8) as u8).collect()
    }

    /// Any float but NaN, which is not equal to itself.
    fn float(&mut self) -> f32 {
        let value = f32::from_bits(self.0.edgy(32) as u32);
        if value.is_nan() { f32::INFINITY } else { value }
    }
}
