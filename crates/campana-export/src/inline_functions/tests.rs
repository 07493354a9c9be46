use super::*;

use campana_onnx::{NewAttribute, NewTensor, Source};
use campana_tensor::ElementType;

fn function(name: &str, version: i64, body: Vec<NewNode<'static>>) -> Content<'static> {
    let mut content = Content::default()
        .string(schema::function::NAME, name)
        .string(schema::function::DOMAIN, "own")
        .string(schema::function::INPUT, "in")
        .string(schema::function::OUTPUT, "out")
        .string(schema::function::ATTRIBUTE, "slope")
        .message(schema::function::OPSET_IMPORT, opset_import("", version));
    for node in body {
        content = content.message(schema::function::NODE, node);
    }
    Content::default().message(schema::model::FUNCTIONS, content)
}

fn model(nodes: Vec<NewNode<'static>>, functions: Content<'static>) -> Model {
    let mut graph = Content::default().string(schema::graph::NAME, "net");
    for node in nodes {
        graph = graph.message(schema::graph::NODE, node);
    }
    let bytes = Content::default()
        .int(schema::model::IR_VERSION, 8)
        .message(schema::model::GRAPH, graph)
        .message(schema::model::OPSET_IMPORT, opset_import("", 17))
        .then(functions)
        .into_bytes();
    Model::parse(Source::from_bytes(bytes.unwrap())).unwrap()
}

fn call(name: &str, input: &str, output: &str) -> NewNode<'static> {
    NewNode::new(name, [input], [output]).domain("own")
}

/// A leaky ReLU whose slope the call gives, behind a product with a constant.
fn leaky() -> Vec<NewNode<'static>> {
    let slope = Content::default()
        .string(schema::attribute::NAME, "alpha")
        .int(schema::attribute::TYPE, 1)
        .string(schema::attribute::REF_ATTR_NAME, "slope");
    let weights = NewTensor::raw("", &[2, 2], ElementType::F32, vec![0; 16]);
    let none: [&str; 0] = [];
    vec![
        NewNode::new("Constant", none, ["w"]).attribute("value", NewAttribute::Tensor(weights)),
        NewNode::new("MatMul", ["in", "w"], ["mid"]).name("product"),
        NewNode::new("LeakyRelu", ["mid"], ["out"])
            .with(Content::default().message(schema::node::ATTRIBUTE, slope)),
    ]
}

#[test]
fn calls_become_the_nodes_of_their_functions() {
    let outer = vec![
        call("Leak", "in", "inner").with(
            Content::default().message(
                schema::node::ATTRIBUTE,
                Content::default()
                    .string(schema::attribute::NAME, "slope")
                    .int(schema::attribute::TYPE, 1)
                    .string(schema::attribute::REF_ATTR_NAME, "slope"),
            ),
        ),
        NewNode::new("Neg", ["inner"], ["out"]),
    ];
    let model = model(
        vec![
            call("Outer", "x", "a").attribute("slope", 0.25),
            // Of the name that a value of the second call would get.
            NewNode::new("Neg", ["a"], ["Leak.3/mid"]),
            call("Leak", "Leak.3/mid", "y"),
        ],
        function("Leak", 17, leaky()).then(function("Outer", 17, outer)),
    );
    assert!(has_layers_in_functions(&model));
    let inlined = with_inlined_functions(&model).unwrap().expect("inlined");
    assert!(inlined.functions.is_empty());
    let nodes = &inlined.graph.nodes;
    let ops: Vec<&str> = nodes.iter().map(|node| &*node.op_type).collect();
    assert_eq!(
        ops,
        [
            "Constant",
            "MatMul",
            "LeakyRelu",
            "Neg",
            "Neg",
            "Constant",
            "MatMul",
            "LeakyRelu"
        ]
    );
    assert_eq!(nodes[1].inputs, ["x", "Leak.2/w"]);
    assert_eq!(nodes[1].name, "Leak.2/product");
    assert_eq!(nodes[2].outputs, ["Outer.1/inner"]);
    assert_eq!(nodes[3].outputs, ["a"]);
    assert_eq!(nodes[6].outputs, ["Leak.4/mid"]);
    assert_eq!(nodes[7].outputs, ["y"]);
    let slope = |node: &Node| node.attribute("alpha").map(|found| found.value.clone());
    assert_eq!(slope(&nodes[2]), Some(AttributeValue::Float(0.25)));
    assert_eq!(slope(&nodes[7]), None);
}

#[test]
fn what_cannot_be_inlined_says_why() {
    let refused = |nodes, functions| {
        let result = with_inlined_functions(&model(nodes, functions));
        result.expect_err("a reason")
    };
    let calls = || vec![call("Leak", "x", "y")];
    let reason = refused(calls(), function("Leak", 12, leaky()));
    assert!(
        reason.contains("'Leak' is written for opset 12"),
        "{reason}"
    );
    let recursive = function("Leak", 17, vec![call("Leak", "in", "out")]);
    assert!(refused(calls(), recursive).contains("deep"));
    let branch = NewAttribute::Graph(Content::default());
    let branches = vec![NewNode::new("If", ["in"], ["out"]).attribute("then_branch", branch)];
    let reason = refused(calls(), function("Leak", 17, branches));
    assert!(reason.contains("graph of its own"), "{reason}");
    let many = NewNode::new("Leak", ["x", "x"], ["y"]).domain("own");
    let reason = refused(vec![many], function("Leak", 17, leaky()));
    assert!(reason.contains("more inputs"), "{reason}");
}

#[test]
fn models_without_functions_stay() {
    let plain = model(vec![NewNode::new("Neg", ["x"], ["y"])], Content::default());
    assert!(with_inlined_functions(&plain).unwrap().is_none());
    let negation = vec![NewNode::new("Neg", ["in"], ["out"])];
    let without_layers = model(vec![call("Turn", "x", "y")], function("Turn", 17, negation));
    assert!(!has_layers_in_functions(&without_layers));
}
