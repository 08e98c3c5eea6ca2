//! ONNX graphs built by the crate `onnx-protobuf`, which shares no code with our reader.

use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_shape_proto, type_proto,
};
use protobuf::{EnumOrUnknown, MessageField};

/// ONNX's numbers of the element types used here.
pub mod elem {
    pub const F32: i32 = 1;
    pub const U8: i32 = 2;
    pub const I64: i32 = 7;
    pub const STRING: i32 = 8;
    pub const BOOL: i32 = 9;
    pub const F16: i32 = 10;
    pub const COMPLEX64: i32 = 14;
}

/// A model of one graph at opset 17.
pub fn model(graph: GraphProto) -> ModelProto {
    let opset = OperatorSetIdProto { version: 17, ..Default::default() };
    ModelProto {
        ir_version: 8,
        producer_name: "kiln-testsuite".into(),
        opset_import: vec![opset],
        graph: MessageField::some(graph),
        ..Default::default()
    }
}

/// A graph input or output; a dimension is a number or a name.
pub fn value(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    let dims = dims.iter().map(|dim| {
        let value = match dim.parse() {
            Ok(extent) => tensor_shape_proto::dimension::Value::DimValue(extent),
            Err(_) => tensor_shape_proto::dimension::Value::DimParam((*dim).into()),
        };
        tensor_shape_proto::Dimension { value: Some(value), ..Default::default() }
    });
    let shape = TensorShapeProto { dim: dims.collect(), ..Default::default() };
    let tensor = type_proto::Tensor { elem_type, shape: MessageField::some(shape), ..Default::default() };
    let type_ = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(type_), ..Default::default() }
}

pub fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        name: name.into(),
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    }
}

pub fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: value,
        type_: EnumOrUnknown::new(AttributeType::INT),
        ..Default::default()
    }
}

/// An f32 weight, its values as raw data.
pub fn weight(name: &str, dims: &[i64], values: impl IntoIterator<Item = f32>) -> TensorProto {
    let raw_data: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: elem::F32,
        raw_data,
        ..Default::default()
    }
}
