//! Small models in a temporary folder, and what the evaluator makes of them.

use std::path::{Path, PathBuf};

use kiln_frontend::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_shape_proto, type_proto,
};
use kiln_frontend::{Diagnostics, ImportOptions, import, tensor_pb};
use kiln_ir::eval::{Files, nn::eval};
use kiln_machine::tensor::{DType, Tensor};
use prost::Message;
use tempfile::TempDir;

/// A tensor of `dtype` from numbers.
pub fn tensor(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "values of {shape:?}");
    let bytes = |v: &f64| -> Vec<u8> {
        match dtype {
            DType::F32 => (*v as f32).to_le_bytes().to_vec(),
            DType::F16 => half::f16::from_f64(*v).to_le_bytes().to_vec(),
            DType::F64 => v.to_le_bytes().to_vec(),
            DType::I64 => (*v as i64).to_le_bytes().to_vec(),
            DType::I32 => (*v as i32).to_le_bytes().to_vec(),
            DType::I8 => (*v as i8).to_le_bytes().to_vec(),
            DType::U8 | DType::Bool => vec![*v as u8],
            other => panic!("no test needs {other}"),
        }
    };
    Tensor { dtype, shape: shape.to_vec(), data: values.iter().flat_map(bytes).collect::<Vec<u8>>().into() }
}

pub fn f(shape: &[usize], values: &[f64]) -> Tensor {
    tensor(DType::F32, shape, values)
}

pub fn i(shape: &[usize], values: &[f64]) -> Tensor {
    tensor(DType::I64, shape, values)
}

pub fn b(shape: &[usize], values: &[f64]) -> Tensor {
    tensor(DType::Bool, shape, values)
}

/// The elements as numbers.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    fn each<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
    }
    let d = &tensor.data[..];
    match tensor.dtype {
        DType::F32 => each(d, |b| f32::from_le_bytes(b).into()),
        DType::F16 => each(d, |b| half::f16::from_le_bytes(b).into()),
        DType::F64 => each(d, f64::from_le_bytes),
        DType::I64 => each(d, |b| i64::from_le_bytes(b) as f64),
        DType::I32 => each(d, |b| i32::from_le_bytes(b).into()),
        DType::I8 => each(d, |b| i8::from_le_bytes(b).into()),
        DType::U8 | DType::Bool => each(d, |b: [u8; 1]| b[0].into()),
        other => panic!("no test needs {other}"),
    }
}

/// An attribute's value.
#[derive(Clone)]
pub enum Attr {
    Int(i64),
    Float(f32),
    Text(&'static str),
    Ints(Vec<i64>),
    Tensor(Tensor),
    Graph(GraphProto),
}

pub fn attribute(name: &str, value: &Attr) -> AttributeProto {
    let mut a = AttributeProto { name: Some(name.into()), ..Default::default() };
    let kind = match value {
        Attr::Int(v) => {
            a.i = Some(*v);
            AttributeType::Int
        }
        Attr::Float(v) => {
            a.f = Some(*v);
            AttributeType::Float
        }
        Attr::Text(v) => {
            a.s = Some(v.as_bytes().to_vec());
            AttributeType::String
        }
        Attr::Ints(v) => {
            a.ints = v.clone();
            AttributeType::Ints
        }
        Attr::Tensor(v) => {
            a.t = Some(tensor_pb::from_tensor("", v));
            AttributeType::Tensor
        }
        Attr::Graph(v) => {
            a.g = Some(v.clone());
            AttributeType::Graph
        }
    };
    a.r#type = Some(kind as i32);
    a
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Attr)]) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        attribute: attributes.iter().map(|(n, v)| attribute(n, v)).collect(),
        ..Default::default()
    }
}

/// A value of `elem_type` (ONNX's number) with dims given as numbers or names.
pub fn info(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| {
        let value = match text.parse() {
            Ok(n) => tensor_shape_proto::dimension::Value::DimValue(n),
            Err(_) => tensor_shape_proto::dimension::Value::DimParam(text.to_string()),
        };
        tensor_shape_proto::Dimension { value: Some(value), ..Default::default() }
    };
    let shape = kiln_frontend::onnx::TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(elem_type), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

pub fn info_of(name: &str, t: &Tensor) -> ValueInfoProto {
    let dims: Vec<String> = t.shape.iter().map(usize::to_string).collect();
    let elem_type = tensor_pb::from_tensor("", t).data_type();
    info(name, elem_type, &dims.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A model of one graph.
pub fn model(graph: GraphProto, opset: i64) -> ModelProto {
    let import =
        |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![import("", opset), import("com.microsoft", 1)],
        graph: Some(graph),
        ..Default::default()
    }
}

/// The model as a file in a folder of its own.
pub fn written(model: &ModelProto) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).expect("a model file");
    (folder, path)
}

/// What a model of this graph gives for `inputs`, in the dtypes the user sees.
pub fn run(graph: GraphProto, opset: i64, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostics> {
    let (_folder, path) = written(&model(graph, opset));
    run_file(&path, &ImportOptions::default(), inputs)
}

pub fn run_file(path: &Path, options: &ImportOptions, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostics> {
    let mut options = options.clone();
    for (spec, t) in kiln_frontend::inspect(path)?.iter().zip(inputs) {
        options.input_shapes.insert(spec.name.clone(), t.shape.clone());
    }
    let imported = import(path, &options)?;
    imported.module.verify().expect("a module that verifies");
    let func = imported.module.func("main").expect("a main function");
    let files = Files::of(&imported.module, imported.files.iter().map(|f| f.bytes.clone()).collect());
    let held: Vec<Tensor> =
        func.arg_values().zip(inputs).map(|(v, t)| tensor(func.ty(v).dtype, &t.shape, &numbers(t))).collect();
    let outputs = eval(&func, &held, &files).expect("a value");
    let seen =
        outputs.iter().zip(&imported.outputs).map(|(t, (_, ty))| tensor(ty.dtype, &t.shape, &numbers(t)));
    Ok(seen.collect())
}

/// A graph of one node whose inputs are `x0`, `x1`, …: those with `known` set are initializers.
pub fn one_node(mut node: NodeProto, inputs: &[(Option<Tensor>, bool)], outputs: usize) -> GraphProto {
    let mut graph = GraphProto { name: Some("g".into()), ..Default::default() };
    for (n, (t, known)) in inputs.iter().enumerate() {
        let name = format!("x{n}");
        match t {
            None => node.input.push(String::new()),
            Some(t) => {
                node.input.push(name.clone());
                if *known {
                    graph.initializer.push(TensorProto { ..tensor_pb::from_tensor(&name, t) });
                } else {
                    graph.input.push(info_of(&name, t));
                }
            }
        }
    }
    for n in 0..outputs {
        node.output.push(format!("y{n}"));
        graph.output.push(ValueInfoProto { name: Some(format!("y{n}")), ..Default::default() });
    }
    graph.node.push(node);
    graph
}
