use campana_ir::graph::{Dim, Graph, Node, Value};
use campana_tensor::{ElementType, Tensor, TensorData};

use super::*;
use crate::{PlanErrorKind, PlanOptions, Session};

fn constant(shape: &[usize], values: Vec<f32>) -> Tensor {
    Tensor::new(shape.to_vec(), TensorData::F32(values)).unwrap()
}

fn value(name: &str, shape: &[usize]) -> Value {
    Value {
        name: name.into(),
        element_type: Some(ElementType::F32),
        shape: Some(shape.iter().map(|&extent| Dim::Fixed(extent)).collect()),
    }
}

/// A graph with a pair of QuantizeLinear and DequantizeLinear before each value
/// that a list names `name/rounded`.
fn graph(nodes: Vec<Node>, rounded: &[(&str, f32, u8)], shape: &[usize]) -> Graph {
    let mut graph = Graph {
        inputs: vec![value("x", shape)],
        outputs: vec![value("y", &[])],
        ..Graph::default()
    };
    graph.outputs[0].shape = None;
    let mut all = Vec::new();
    let round = |name: &str, all: &mut Vec<Node>| {
        if rounded.iter().any(|(found, ..)| *found == name) {
            let parts = ["scale", "zero", "codes", "rounded"].map(|part| format!("{name}/{part}"));
            let [scale, zero, codes, result] = parts.each_ref().map(String::as_str);
            all.push(Node::new("QuantizeLinear", &[name, scale, zero], &[codes]));
            all.push(Node::new(
                "DequantizeLinear",
                &[codes, scale, zero],
                &[result],
            ));
        }
    };
    round("x", &mut all);
    for node in nodes {
        let output = node.outputs[0].clone();
        all.push(node);
        round(&output, &mut all);
    }
    for (name, scale, zero) in rounded {
        graph
            .constants
            .insert(format!("{name}/scale"), constant(&[], vec![*scale]));
        let zero = Tensor::new(vec![], TensorData::U8(vec![*zero])).unwrap();
        graph.constants.insert(format!("{name}/zero"), zero);
    }
    graph.nodes = all;
    graph
}

#[test]
fn a_dense_layer_is_what_the_session_computes() {
    let nodes = vec![Node::new("MatMul", &["x/rounded", "w"], &["y"])];
    let mut graph = graph(nodes, &[("x", 0.05, 100)], &[1, 4]);
    let weights = vec![0.5, -1.0, 0.25, 1.5, -0.75, 0.0, 1.0, 0.5];
    graph
        .constants
        .insert("w".into(), constant(&[4, 2], weights));
    let network = IntegerNetwork::new(&graph).unwrap();
    let [step] = &network.steps[..] else {
        panic!("one step, not {:?}", network.steps);
    };
    let Operation::Product(product) = &step.operation else {
        panic!("a product, not {:?}", step.operation);
    };
    let codes = [3u8, 100, 255, 17];
    let params = network.values[network.inputs[0]].codes.unwrap();
    let input = codes.map(|code| params.value(code)).to_vec();
    let plan = crate::Plan::new(&graph, PlanOptions::default()).unwrap();
    let outputs = Session::new(plan, 1)
        .run(&[("x", (&constant(&[1, 4], input)).into())])
        .unwrap();
    let TensorData::F32(expected) = outputs[0].data() else {
        panic!("floats");
    };
    for (filter, expected) in expected.iter().enumerate() {
        let weights = &product.weights[filter * 4..][..4];
        let pairs = codes.iter().zip(weights);
        let sum: i32 = pairs.map(|(&c, &w)| i32::from(c) * i32::from(w)).sum();
        let channel = product.rounding.channels[filter];
        let sum = channel.bias + (channel.initial + sum) as f32;
        assert_eq!(sum.mul_add(channel.multiplier, channel.offset), *expected);
    }
}

#[test]
fn functions_between_codes_become_tables() {
    let nodes = vec![
        Node::new("Sigmoid", &["x/rounded"], &["s"]),
        Node::new("Mul", &["x/rounded", "s"], &["y"]),
    ];
    let mut graph = graph(nodes, &[("x", 0.05, 100), ("y", 0.03, 9)], &[1, 4]);
    graph.outputs[0].name = "y/rounded".into();
    let network = IntegerNetwork::new(&graph).unwrap();
    let [step] = &network.steps[..] else {
        panic!("one step, not {:?}", network.steps);
    };
    let Operation::Map(table) = &step.operation else {
        panic!("a table, not {:?}", step.operation);
    };
    let output = network.values[network.outputs[0]].codes.unwrap();
    let plan = crate::Plan::new(&graph, PlanOptions::default()).unwrap();
    let session = Session::new(plan, 1);
    for codes in (0..=255u8).collect::<Vec<_>>().chunks_exact(4) {
        let params = network.values[network.inputs[0]].codes.unwrap();
        let input = codes.iter().map(|&code| params.value(code)).collect();
        let outputs = session
            .run(&[("x", (&constant(&[1, 4], input)).into())])
            .unwrap();
        let TensorData::F32(values) = outputs[0].data() else {
            panic!("floats");
        };
        let found = values.iter().map(|&value| output.code(value));
        let expected = codes.iter().map(|&code| table[usize::from(code)]);
        assert!(found.eq(expected), "{codes:?}");
    }
}

#[test]
fn what_computes_in_floats_is_refused_by_name() {
    let nodes = vec![Node {
        name: "last".into(),
        ..Node::new("Softmax", &["x/rounded"], &["y"])
    }];
    let graph = graph(nodes, &[("x", 0.05, 100)], &[1, 4]);
    let error = IntegerNetwork::new(&graph).unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::Unsupported);
    assert!(error.to_string().contains("\"last\" (Softmax)"), "{error}");
}
