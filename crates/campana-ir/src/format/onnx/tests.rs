use std::borrow::Cow;

use campana_onnx::{
    Content, Model, NewNode, NewTensor, NewValueInfo, Source, opset_import, schema,
};
use campana_tensor::{ElementType, Tensor, TensorData};

use super::graph;
use crate::format::{Error, ErrorKind};
use crate::graph::{Attribute, Dim, Graph};

/// The bytes of a graph: names of inputs and outputs, and further fields.
fn graph_of<'a>(inputs: &[&str], outputs: &[&str], fields: Content<'a>) -> Content<'a> {
    let mut content = fields;
    let dims = [
        campana_onnx::Dim::Symbol("n".into()),
        campana_onnx::Dim::Value(3),
    ];
    for name in inputs {
        let value = NewValueInfo::tensor(name, ElementType::F32, Some(&dims));
        content = content.message(schema::graph::INPUT, value);
    }
    for name in outputs {
        let value = NewValueInfo::tensor(name, ElementType::F32, None);
        content = content.message(schema::graph::OUTPUT, value);
    }
    content
}

fn node<'a>(content: Content<'a>, node: NewNode<'a>) -> Content<'a> {
    content.message(schema::graph::NODE, node)
}

fn nodes<'a>(nodes: impl IntoIterator<Item = NewNode<'a>>) -> Content<'a> {
    nodes.into_iter().fold(Content::default(), node)
}

fn floats(name: &str, values: &[f32]) -> NewTensor<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    NewTensor::raw(name, &[values.len()], ElementType::F32, Cow::from(bytes))
}

/// Converts a model of this graph and these further fields.
fn convert<'a>(graph_fields: Content<'a>, model_fields: Content<'a>) -> Result<Graph, Error> {
    let bytes = Content::default()
        .int(schema::model::IR_VERSION, 8)
        .message(schema::model::GRAPH, graph_fields)
        .message(schema::model::OPSET_IMPORT, opset_import("", 17))
        .then(model_fields)
        .into_bytes()
        .expect("encoded");
    let model = Model::parse(Source::from_bytes(bytes)).expect("a valid file");
    graph(&model)
}

#[test]
fn inputs_are_those_of_the_graph_without_its_constants() {
    let fields = nodes([NewNode::new("Mul", ["x", "w"], ["y"])])
        .message(schema::graph::INITIALIZER, floats("w", &[1.0, 2.0, 3.0]));
    let bytes = Content::default()
        .int(schema::model::IR_VERSION, 3)
        .message(schema::model::GRAPH, graph_of(&["w", "x"], &["y"], fields))
        .message(schema::model::OPSET_IMPORT, opset_import("", 17))
        .into_bytes()
        .expect("encoded");
    let model = Model::parse(Source::from_bytes(bytes)).expect("a valid file");
    let found = super::inputs(&model);
    assert_eq!(found, graph(&model).expect("a graph").inputs);
    assert_eq!(found.len(), 1);
}

fn expect_error(graph_fields: Content<'_>, kind: ErrorKind, words: &[&str]) {
    let error = convert(graph_fields, Content::default()).expect_err("an error");
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word} in: {error}");
    }
}

#[test]
fn initializers_and_constant_nodes_become_constants() {
    let fields = nodes([
        NewNode::new("Constant", [""; 0], ["c0"]).attribute("value", floats("", &[1.0, 2.0])),
        NewNode::new("Constant", [""; 0], ["c1"]).attribute("value_float", 0.5),
        NewNode::new("Constant", [""; 0], ["c2"]).attribute("value_ints", vec![3, -4]),
        NewNode::new("Constant", [""; 0], ["c3"]).attribute("value_int", 7),
        NewNode::new("Constant", [""; 0], ["c4"]).attribute("value_string", "s"),
        NewNode::new("Sum", ["x", "w", "c0", "c1"], ["y"]),
    ])
    .message(schema::graph::INITIALIZER, floats("w", &[9.0]));
    // An initializer that is an input too, as before IR version 4.
    let graph = convert(graph_of(&["x", "w"], &["y"], fields), Content::default()).expect("valid");
    assert_eq!(graph.nodes.len(), 1);
    let inputs: Vec<_> = graph.inputs.iter().map(|input| &*input.name).collect();
    assert_eq!(inputs, ["x"]);
    assert_eq!(graph.inputs[0].element_type, Some(ElementType::F32));
    let shape = [Dim::Symbol("n".into()), Dim::Fixed(3)];
    assert_eq!(graph.inputs[0].shape.as_deref(), Some(&shape[..]));
    let constant = |name: &str| graph.constants[name].clone();
    let tensor = |shape: &[usize], data| Tensor::new(shape.to_vec(), data).expect("a tensor");
    assert_eq!(constant("w"), tensor(&[1], TensorData::F32(vec![9.0])));
    assert_eq!(
        constant("c0"),
        tensor(&[2], TensorData::F32(vec![1.0, 2.0]))
    );
    assert_eq!(constant("c1"), tensor(&[], TensorData::F32(vec![0.5])));
    assert_eq!(constant("c2"), tensor(&[2], TensorData::I64(vec![3, -4])));
    assert_eq!(constant("c3"), tensor(&[], TensorData::I64(vec![7])));
    assert_eq!(
        constant("c4"),
        tensor(&[], TensorData::String(vec!["s".into()]))
    );
    assert_eq!(graph.opsets[""], 17);
}

#[test]
fn nodes_out_of_order_are_sorted_and_others_stay() {
    let fields = nodes([
        NewNode::new("Relu", ["b"], ["c"]),
        NewNode::new("Neg", ["x"], ["unrelated"]),
        NewNode::new("Abs", ["a"], ["b"]),
        NewNode::new("Exp", ["x"], ["a"]),
    ]);
    let graph = convert(graph_of(&["x"], &["c"], fields), Content::default()).expect("valid");
    let order: Vec<_> = graph.nodes.iter().map(|node| &*node.op_type).collect();
    assert_eq!(order, ["Neg", "Exp", "Abs", "Relu"]);
}

#[test]
fn what_a_nested_graph_reads_orders_its_node() {
    let branch = || graph_of(&[], &["t"], nodes([NewNode::new("Neg", ["late"], ["t"])]));
    let fields = nodes([
        NewNode::new("If", ["flag"], ["y"])
            .attribute("then_branch", campana_onnx::NewAttribute::Graph(branch()))
            .attribute("else_branch", campana_onnx::NewAttribute::Graph(branch())),
        NewNode::new("Abs", ["x"], ["late"]),
    ]);
    let graph = convert(graph_of(&["x", "flag"], &["y"], fields), Content::default());
    let graph = graph.expect("valid");
    assert_eq!(graph.nodes[0].op_type, "Abs");
    let Attribute::Graph(branch) = &graph.nodes[1].attributes["then_branch"] else {
        panic!("a graph");
    };
    assert_eq!(branch.nodes[0].inputs, ["late"]);
}

#[test]
fn contradictions_name_the_node_and_the_value() {
    let circle = nodes([
        NewNode::new("Add", ["x", "b"], ["a"]).name("first"),
        NewNode::new("Neg", ["a"], ["b"]),
    ]);
    let malformed = ErrorKind::Malformed;
    expect_error(
        graph_of(&["x"], &["b"], circle),
        malformed,
        &["\"first\"", "waits"],
    );
    let unknown = nodes([NewNode::new("Neg", ["ghost"], ["y"])]);
    expect_error(
        graph_of(&["x"], &["y"], unknown),
        malformed,
        &["ghost", "Neg"],
    );
    let twice = nodes([
        NewNode::new("Neg", ["x"], ["y"]),
        NewNode::new("Abs", ["x"], ["y"]),
    ]);
    expect_error(
        graph_of(&["x"], &["y"], twice),
        malformed,
        &["Abs", "\"y\""],
    );
    expect_error(
        graph_of(&["x"], &["y"], Content::default()),
        malformed,
        &["output", "\"y\""],
    );
    let over_input = nodes([NewNode::new("Neg", ["x"], ["x"])]);
    expect_error(graph_of(&["x"], &["x"], over_input), malformed, &["\"x\""]);
    let constants = Content::default()
        .message(schema::graph::INITIALIZER, floats("w", &[1.0]))
        .message(schema::graph::INITIALIZER, floats("w", &[1.0]));
    expect_error(
        graph_of(&["x"], &["x"], constants),
        malformed,
        &["\"w\"", "twice"],
    );
    let none = nodes([NewNode::new("Constant", [""; 0], ["c"])]);
    expect_error(
        graph_of(&[], &["c"], none),
        ErrorKind::Unsupported,
        &["\"c\"", "one attribute"],
    );
}

#[test]
fn a_sparse_initializer_is_named_as_unsupported() {
    let sparse = Content::default()
        .message(schema::sparse_tensor::VALUES, floats("thin", &[1.0]))
        .ints(schema::sparse_tensor::DIMS, &[5]);
    let fields = Content::default().message(schema::graph::SPARSE_INITIALIZER, sparse);
    expect_error(
        graph_of(&[], &[], fields),
        ErrorKind::Unsupported,
        &["thin"],
    );
}

/// A field of a function called `name` in domain `own` that leaks `alpha` of
/// its input, negates it, and calls `inner` where one is named.
fn function(name: &str, version: i64, body: Vec<NewNode<'static>>) -> Content<'static> {
    let mut content = Content::default()
        .string(schema::function::NAME, name)
        .string(schema::function::DOMAIN, "own")
        .string(schema::function::INPUT, "in")
        .string(schema::function::OUTPUT, "out")
        .string(schema::function::ATTRIBUTE, "alpha")
        .message(schema::function::OPSET_IMPORT, opset_import("", version));
    for node in body {
        content = content.message(schema::function::NODE, node);
    }
    Content::default().message(schema::model::FUNCTIONS, content)
}

fn leaky_body() -> Vec<NewNode<'static>> {
    let reference = Content::default()
        .string(schema::attribute::NAME, "alpha")
        .int(schema::attribute::TYPE, 1)
        .string(schema::attribute::REF_ATTR_NAME, "alpha");
    vec![
        NewNode::new("LeakyRelu", ["in"], ["mid"])
            .with(Content::default().message(schema::node::ATTRIBUTE, reference)),
        NewNode::new("Neg", ["mid"], ["out"]),
    ]
}

#[test]
fn calls_of_functions_are_replaced_by_their_nodes() {
    let calls = || {
        nodes([
            NewNode::new("Leak", ["x"], ["a"])
                .domain("own")
                .attribute("alpha", 0.25),
            NewNode::new("Leak", ["a"], ["y"]).domain("own"),
        ])
    };
    let graph = graph_of(&["x"], &["y"], calls());
    let graph = convert(graph, function("Leak", 17, leaky_body())).expect("valid");
    let ops: Vec<_> = graph.nodes.iter().map(|node| &*node.op_type).collect();
    assert_eq!(ops, ["LeakyRelu", "Neg", "LeakyRelu", "Neg"]);
    assert_eq!(graph.nodes[0].inputs, ["x"]);
    assert_eq!(graph.nodes[1].outputs, ["a"]);
    assert_eq!(graph.nodes[0].attributes["alpha"], Attribute::Float(0.25));
    assert!(graph.nodes[2].attributes.is_empty());
    assert_ne!(graph.nodes[0].outputs, graph.nodes[2].outputs);
    assert_eq!(graph.nodes[3].outputs, ["y"]);

    let fields = graph_of(&["x"], &["y"], calls());
    let error = convert(fields, function("Leak", 12, leaky_body())).expect_err("a version");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn functions_that_call_themselves_or_multiply_end_in_an_error() {
    let own = vec![NewNode::new("Loop", ["in"], ["out"]).domain("own")];
    let fields = nodes([NewNode::new("Loop", ["x"], ["y"]).domain("own")]);
    let fields = graph_of(&["x"], &["y"], fields);
    let error = convert(fields, function("Loop", 17, own)).expect_err("a recursion");
    assert_eq!(error.kind(), ErrorKind::Limit);

    // Each calls the one before 16 times: 16^8 nodes, were it not for the limit.
    let mut functions = function("F0", 17, leaky_body());
    for level in 1..9 {
        let body = (0..16).map(|call| {
            let inner = format!("F{}", level - 1);
            let input = if call == 0 {
                "in".to_owned()
            } else {
                format!("v{call}")
            };
            let output = if call == 15 {
                "out".to_owned()
            } else {
                format!("v{}", call + 1)
            };
            NewNode::new(&inner, [input], [output]).domain("own")
        });
        functions = functions.then(function(&format!("F{level}"), 17, body.collect()));
    }
    let fields = nodes([NewNode::new("F8", ["x"], ["y"]).domain("own")]);
    let error = convert(graph_of(&["x"], &["y"], fields), functions).expect_err("too many");
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn the_shared_models_become_graphs() {
    for path in campana_testing::shared_models() {
        let graph = crate::format::load(&path).expect("a graph");
        assert_eq!(
            (graph.inputs.len(), graph.outputs.len()),
            (1, 1),
            "{path:?}"
        );
        assert!(!graph.constants.is_empty());
    }
}

#[test]
fn a_convolution_fixes_the_channels_that_its_input_leaves_open() {
    let open: Vec<_> = ["n", "c", "h", "w"]
        .map(|name| campana_onnx::Dim::Symbol(name.into()))
        .to_vec();
    let value = NewValueInfo::tensor("x", ElementType::F32, Some(&open));
    let weights = NewTensor::raw("w", &[2, 3, 1, 1], ElementType::F32, vec![0; 24]);
    let fields = nodes([NewNode::new("Conv", ["x", "w"], ["y"])])
        .message(schema::graph::INITIALIZER, weights)
        .message(schema::graph::INPUT, value);
    let graph = convert(graph_of(&[], &["y"], fields), Content::default()).unwrap();
    let shape = graph.inputs[0].shape.as_ref().unwrap();
    assert_eq!(shape[1], Dim::Fixed(3));
    assert_eq!(shape[2], Dim::Symbol("h".into()));
}
