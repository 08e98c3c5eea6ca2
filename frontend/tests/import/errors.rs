//! One model for each kind of error: the code, the node and the help.

use kiln_frontend::onnx::{GraphProto, StringStringEntryProto, TensorProto, ValueInfoProto, tensor_proto};
use kiln_frontend::{Code, Diagnostics, ImportOptions, check};
use prost::Message;

use crate::build::{Attr, f, info, model, node, one_node, run, written};

const FLOAT: i32 = tensor_proto::DataType::Float as i32;

fn problems(graph: GraphProto) -> Diagnostics {
    let (_folder, path) = written(&model(graph, 21));
    check(&path, &ImportOptions::default()).expect_err("a model with a problem")
}

fn codes(graph: GraphProto) -> Vec<Code> {
    problems(graph).iter().map(|d| d.code).collect()
}

fn unary(op: &str, attributes: &[(&str, Attr)]) -> GraphProto {
    one_node(node(op, &[], &[], attributes), &[(Some(f(&[2], &[1., 2.])), false)], 1)
}

#[test]
fn all_problems_are_told_at_once_each_with_its_node() {
    let mut graph = unary("NoSuchOp", &[]);
    graph.node.push(node("Concat", &["x0"], &["b"], &[]));
    graph.node.push(node("Relu", &["y0"], &["c"], &[]));
    graph.node.push(node("Tanh", &["nothing"], &["d"], &[]));
    let problems = problems(graph);
    let told: Vec<(Code, &str)> =
        problems.iter().map(|d| (d.code, d.node.as_ref().map_or("", |n| n.name.as_str()))).collect();
    // The Relu only suffers from the first problem, and is not mentioned.
    let want =
        [(Code::UnknownOp, "NoSuchOp_0"), (Code::Attribute, "Concat_1"), (Code::UndefinedValue, "Tanh_3")];
    assert_eq!(told, want);
    assert!(problems.to_string().contains("3 problems"));
}

#[test]
fn attributes_that_are_not_handled_are_named() {
    assert_eq!(codes(unary("Relu", &[("slope", Attr::Int(1))])), [Code::Attribute]);
    assert_eq!(codes(unary("Softmax", &[("axis", Attr::Float(1.0))])), [Code::Attribute]);
    assert_eq!(codes(unary("Softmax", &[("axis", Attr::Int(1))])), [Code::Shape]);
}

#[test]
fn graphs_that_are_no_graphs() {
    let mut twice = unary("Relu", &[]);
    twice.node.push(node("Tanh", &["x0"], &["y0"], &[]));
    assert_eq!(codes(twice), [Code::InvalidGraph]);
    let mut circle = unary("Add", &[]);
    circle.node[0].input.push("z".into());
    circle.node.push(node("Relu", &["y0"], &["z"], &[]));
    let problems = problems(circle);
    assert_eq!(problems.iter().next().map(|d| d.code), Some(Code::CyclicGraph));
    assert!(problems.to_string().contains("Add_0, Relu_1"), "{problems}");
    let mut nothing = unary("Relu", &[]);
    nothing.output.push(ValueInfoProto { name: Some("missing".into()), ..Default::default() });
    assert_eq!(codes(nothing), [Code::UndefinedValue]);
}

#[test]
fn shapes_dims_and_options() {
    let mut graph = unary("Relu", &[]);
    graph.input[0] = info("x0", FLOAT, &["batch", "2"]);
    let (_folder, path) = written(&model(graph.clone(), 21));
    let with = |dims: &[(&str, i64)]| {
        let dims = dims.iter().map(|(n, v)| (n.to_string(), *v)).collect();
        check(&path, &ImportOptions { dims, ..Default::default() }).map(|b| b.shapes["x0"].clone())
    };
    let unbound = with(&[]).expect_err("a dim without a value");
    assert!(unbound.iter().all(
        |d| d.code == Code::UnboundDim && d.help.as_deref().is_some_and(|h| h.contains("--dim batch=N"))
    ));
    assert_eq!(with(&[("batch", 3)]).ok(), Some(vec![3, 2]));
    assert_eq!(
        with(&[("batch", 3), ("seq", 1)]).expect_err("an unknown dim").iter().next().map(|d| d.code),
        Some(Code::Option)
    );
    assert_eq!(
        with(&[("batch", -1)]).expect_err("a negative dim").iter().next().map(|d| d.code),
        Some(Code::Shape)
    );
    assert_eq!(
        with(&[("batch", i64::MAX)]).expect_err("an absurd dim").iter().next().map(|d| d.code),
        Some(Code::Shape)
    );
    let wrong = run(graph, 21, &[f(&[2, 3], &[0.; 6])]).expect_err("a wrong input shape");
    assert!(wrong.to_string().contains("3 elements along axis 1"), "{wrong}");
}

#[test]
fn versions_dtypes_and_data_dependence() {
    let (_folder, path) = written(&model(unary("Relu", &[]), 99));
    let old = check(&path, &ImportOptions::default()).expect_err("a future opset");
    assert_eq!(old.iter().next().map(|d| d.code), Some(Code::Opset));
    let mut strings = unary("Relu", &[]);
    strings.input[0] = info("x0", tensor_proto::DataType::String as i32, &["2"]);
    assert_eq!(codes(strings), [Code::DType]);
    let mut range = unary("Relu", &[]);
    range.node[0] = node("Range", &["x0", "x0", "x0"], &["y0"], &[]);
    assert_eq!(codes(range), [Code::DataDependent]);
    let mut mixed = unary("Relu", &[]);
    mixed.initializer.push(kiln_frontend::tensor_pb::from_tensor("n", &crate::build::i(&[1], &[1.])));
    mixed.node[0] = node("Add", &["x0", "n"], &["y0"], &[]);
    assert_eq!(codes(mixed), [Code::DType]);
}

#[test]
fn what_is_no_model() {
    let proto = model(unary("Relu", &[]), 21);
    let (_folder, path) = written(&proto);
    let bytes = proto.encode_to_vec();
    let code = |content: &[u8]| {
        std::fs::write(&path, content).expect("a file");
        check(&path, &ImportOptions::default()).err().and_then(|e| e.iter().next().map(|d| d.code))
    };
    assert_eq!(code(&bytes[..bytes.len() - 3]), Some(Code::NotOnnx));
    assert_eq!(code(b"not a model at all"), Some(Code::NotOnnx));
    assert_eq!(code(b""), Some(Code::NotOnnx));
    let missing = check(path.with_file_name("none.onnx").as_path(), &ImportOptions::default());
    assert_eq!(missing.err().and_then(|e| e.iter().next().map(|d| d.code)), Some(Code::Io));
}

/// A weight of two floats in an external file.
fn external(location: &str, offset: &str, length: &str) -> GraphProto {
    let entry = |k: &str, v: &str| StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
    let mut graph = unary("Relu", &[]);
    graph.node[0] = node("Add", &["x0", "w"], &["y0"], &[]);
    graph.initializer.push(TensorProto {
        name: Some("w".into()),
        data_type: Some(FLOAT),
        dims: vec![2],
        data_location: Some(tensor_proto::DataLocation::External as i32),
        external_data: vec![entry("location", location), entry("offset", offset), entry("length", length)],
        ..Default::default()
    });
    graph
}

#[test]
fn external_data_stays_in_the_folder() {
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("secret.bin");
    std::fs::write(&secret, [0; 64]).expect("a file");
    let refused = |location: &str, offset: &str, length: &str, content: Option<&[u8]>| {
        let (folder, path) = written(&model(external(location, offset, length), 21));
        if let Some(content) = content {
            std::fs::write(folder.path().join("w.bin"), content).expect("a file");
        }
        std::os::unix::fs::symlink(&secret, folder.path().join("link.bin")).expect("a link");
        check(&path, &ImportOptions::default()).err().map(|e| e.iter().map(|d| d.code).collect::<Vec<_>>())
    };
    let no = Some(vec![Code::ExternalData]);
    assert_eq!(refused("w.bin", "8", "8", Some(&[0; 16])), None);
    assert_eq!(refused("../secret.bin", "0", "8", None), no);
    assert_eq!(refused(secret.to_str().expect("a path"), "0", "8", None), no);
    assert_eq!(refused("link.bin", "0", "8", None), no);
    assert_eq!(refused("w.bin", "0", "8", None), no);
    assert_eq!(refused("w.bin", "9", "8", Some(&[0; 16])), no);
    assert_eq!(refused("w.bin", "0", "4", Some(&[0; 16])), no);
    assert_eq!(refused("w.bin", "18446744073709551615", "8", Some(&[0; 16])), no);
}
