//! Graphs of several nodes: order, folding, functions, branches, weights, ranges and origins.

use kiln_frontend::onnx::{FunctionProto, GraphProto, OperatorSetIdProto, ValueInfoProto, tensor_proto};
use kiln_frontend::{ImportOptions, import, tensor_pb};
use kiln_ir::nn::OpKind;
use kiln_machine::tensor::DType;

use crate::build::{Attr, attribute, b, f, i, info, info_of, model, node, numbers, run, run_file, written};

fn output(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.into()), ..Default::default() }
}

#[test]
fn nodes_may_stand_in_any_order_and_dead_ones_leave_nothing() {
    let graph = GraphProto {
        node: vec![
            node("Tanh", &["h"], &["dead"], &[]),
            node("Add", &["h", "x"], &["y"], &[]),
            node("Relu", &["x"], &["h"], &[]),
        ],
        input: vec![info_of("x", &f(&[2], &[0., 0.]))],
        output: vec![output("y")],
        ..Default::default()
    };
    let (_folder, path) = written(&model(graph, 21));
    let imported = import(&path, &ImportOptions::default()).expect("a good model");
    let func = imported.module.func("main").expect("a main function");
    assert_eq!(func.ops.len(), 2);
    let origins: Vec<String> = func.ops.iter().map(|op| op.origin.to_string()).collect();
    assert_eq!(origins, ["Relu_2 (Relu)", "Add_1 (Add)"]);
}

#[test]
fn index_arithmetic_folds_away() {
    // Reshape x to [shape(x)[0], -1] by Shape, Gather, Unsqueeze, Concat.
    let graph = GraphProto {
        node: vec![
            node("Shape", &["x"], &["s"], &[]),
            node("Gather", &["s", "zero"], &["n"], &[]),
            node("Unsqueeze", &["n", "axes"], &["n1"], &[]),
            node("Concat", &["n1", "rest"], &["shape"], &[("axis", Attr::Int(0))]),
            node("Reshape", &["x", "shape"], &["y"], &[]),
        ],
        initializer: vec![
            tensor_pb::from_tensor("zero", &i(&[], &[0.])),
            tensor_pb::from_tensor("axes", &i(&[1], &[0.])),
            tensor_pb::from_tensor("rest", &i(&[1], &[-1.])),
        ],
        input: vec![info("x", tensor_proto::DataType::Float as i32, &["batch", "2", "2"])],
        output: vec![output("y")],
        ..Default::default()
    };
    let (_folder, path) = written(&model(graph, 21));
    let options =
        ImportOptions { dims: [("batch".to_string(), 3)].into_iter().collect(), ..Default::default() };
    let imported = import(&path, &options).expect("a good model");
    let func = imported.module.func("main").expect("a main function");
    assert_eq!(func.ops.len(), 1);
    assert_eq!(func.ops[0].kind, OpKind::Reshape { shape: vec![3, 4] });
}

#[test]
fn weights_are_places_in_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let values: Vec<f64> = (0..8).map(f64::from).collect();
    let graph = GraphProto {
        node: vec![node("Mul", &["x", "w"], &["y"], &[])],
        initializer: vec![tensor_pb::from_tensor("w", &f(&[8], &values))],
        input: vec![info_of("x", &f(&[8], &[0.; 8]))],
        output: vec![output("y")],
        ..Default::default()
    };
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, prost::Message::encode_to_vec(&model(graph, 21))).expect("a file");
    let imported = import(&path, &ImportOptions::default()).expect("a good model");
    let func = imported.module.func("main").expect("a main function");
    let place = func.ops.iter().find_map(|op| match &op.kind {
        OpKind::Weight { file: 0, offset, length: 32, .. } => Some(*offset as usize),
        _ => None,
    });
    let at = place.expect("a weight in file 0");
    let bytes = std::fs::read(&path).expect("the file");
    assert_eq!(bytes[at..at + 32], f(&[8], &values).data[..]);
    let y = run_file(&path, &ImportOptions::default(), &[f(&[8], &[2.; 8])]).expect("a value");
    assert_eq!(numbers(&y[0]), values.iter().map(|v| v * 2.0).collect::<Vec<_>>());
}

#[test]
fn an_index_input_gets_its_range() {
    let graph = GraphProto {
        node: vec![node("Gather", &["table", "ids"], &["y"], &[])],
        initializer: vec![tensor_pb::from_tensor("table", &f(&[5], &[0., 1., 2., 3., 4.]))],
        input: vec![info_of("ids", &i(&[1, 2], &[0., 0.]))],
        output: vec![output("y")],
        ..Default::default()
    };
    let (_folder, path) = written(&model(graph.clone(), 21));
    let imported = import(&path, &ImportOptions::default()).expect("a good model");
    let func = imported.module.func("main").expect("a main function");
    assert_eq!((func.args[0].host_type, func.args[0].range), (Some(DType::I64), Some([-5, 4])));
    assert_eq!(numbers(&run(graph, 21, &[i(&[1, 2], &[-1., 2.])]).expect("a value")[0]), [4., 2.]);
    // Ids that are declared to be no negative ones need no wrapping.
    let input_ranges = [("ids".to_string(), [0, 4])].into_iter().collect();
    let declared =
        import(&path, &ImportOptions { input_ranges, ..Default::default() }).expect("a good model");
    assert!(declared.module.func("main").expect("a main function").ops.len() < func.ops.len());
}

#[test]
fn sums_that_may_overflow_narrow_the_inputs() {
    let graph = GraphProto {
        node: vec![node("CumSum", &["mask", "axis"], &["y"], &[])],
        initializer: vec![tensor_pb::from_tensor("axis", &i(&[], &[1.]))],
        input: vec![info_of("mask", &i(&[1, 4], &[0.; 4]))],
        output: vec![output("y")],
        ..Default::default()
    };
    let (_folder, path) = written(&model(graph, 21));
    let imported = import(&path, &ImportOptions::default()).expect("a good model");
    let func = imported.module.func("main").expect("a main function");
    assert_eq!(func.args[0].range, Some([-(1 << 24), 1 << 24]));
}

#[test]
fn a_branch_on_a_shape_is_taken_at_import() {
    let branch = |op: &str| {
        Attr::Graph(GraphProto {
            node: vec![node(op, &["x"], &["r"], &[])],
            output: vec![output("r")],
            ..Default::default()
        })
    };
    let graph = |known: f64| GraphProto {
        node: vec![node(
            "If",
            &["c"],
            &["y"],
            &[("then_branch", branch("Neg")), ("else_branch", branch("Relu"))],
        )],
        initializer: vec![tensor_pb::from_tensor("c", &b(&[], &[known]))],
        input: vec![info_of("x", &f(&[1], &[0.]))],
        output: vec![output("y")],
        ..Default::default()
    };
    assert_eq!(numbers(&run(graph(1.), 21, &[f(&[1], &[-3.])]).expect("a value")[0]), [3.]);
    assert_eq!(numbers(&run(graph(0.), 21, &[f(&[1], &[-3.])]).expect("a value")[0]), [0.]);
}

#[test]
fn local_functions_are_inlined_with_their_attributes() {
    let mut scaled = node("LeakyRelu", &["a"], &["b"], &[("alpha", Attr::Float(0.0))]);
    scaled.attribute[0].ref_attr_name = Some("slope".into());
    let function = FunctionProto {
        name: Some("Twice".into()),
        domain: Some("local".into()),
        input: vec!["a".into()],
        output: vec!["c".into()],
        node: vec![scaled, node("LeakyRelu", &["b"], &["c"], &[("alpha", Attr::Float(0.5))])],
        attribute_proto: vec![attribute("slope", &Attr::Float(0.25))],
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(21) }],
        ..Default::default()
    };
    let graph = |attributes: &[(&str, Attr)]| {
        let mut call = node("Twice", &["x"], &["y"], attributes);
        call.domain = Some("local".into());
        call.name = Some("call".into());
        GraphProto {
            node: vec![call],
            input: vec![info_of("x", &f(&[1], &[0.]))],
            output: vec![output("y")],
            ..Default::default()
        }
    };
    for (attributes, want) in [(vec![], -1.0), (vec![("slope", Attr::Float(2.0))], -8.0)] {
        let mut m = model(graph(&attributes), 21);
        m.functions.push(function.clone());
        let (_folder, path) = written(&m);
        let y = run_file(&path, &ImportOptions::default(), &[f(&[1], &[-8.])]).expect("a value");
        assert_eq!(numbers(&y[0]), [want]);
        let imported = import(&path, &ImportOptions::default()).expect("a good model");
        let func = imported.module.func("main").expect("a main function");
        assert!(func.ops.iter().all(|op| op.origin.to_string().starts_with("call/LeakyRelu_")));
    }
}
