//! Decoders in unusual forms, and what only looks like one. That the forms
//! that campana writes come back is tested beside their writer.

use std::collections::BTreeMap;

use campana_tensor::{Tensor, TensorData};
use proptest::prelude::*;

use super::take;
use crate::graph::{Attribute, Graph, Node, Value};

fn tensor(shape: &[usize], data: TensorData) -> Tensor {
    Tensor::new(shape.to_vec(), data).expect("elements of the shape")
}

fn cast(input: &str, output: &str, to: i64) -> Node {
    Node {
        attributes: BTreeMap::from([("to".into(), Attribute::Int(to))]),
        ..Node::new("Cast", &[input], &[output])
    }
}

const INT32: i64 = 6;

/// A graph that decodes two-bit codes from bytes and gives a MatMul the result.
fn two_bit_graph() -> Graph {
    let table: Vec<f32> = (0..256)
        .flat_map(|byte| [0, 2, 4, 6].map(|shift| [-3.0, -1.0, 1.0, 2.0][byte >> shift & 3]))
        .collect();
    let constants = BTreeMap::from([
        (
            "codes".into(),
            tensor(&[2], TensorData::U8(vec![0b11_10_01_00, 0b00_00_00_11])),
        ),
        ("table".into(), tensor(&[256, 4], TensorData::F32(table))),
        ("shape".into(), tensor(&[2], TensorData::I64(vec![2, -1]))),
        (
            "scale".into(),
            tensor(&[2, 1], TensorData::F32(vec![0.5, 2.0])),
        ),
    ]);
    Graph {
        nodes: vec![
            cast("codes", "positions", INT32),
            Node::new("Gather", &["table", "positions"], &["values"]),
            Node::new("Reshape", &["values", "shape"], &["matrix"]),
            Node::new("Mul", &["matrix", "scale"], &["w"]),
            Node::new("MatMul", &["x", "w"], &["y"]),
        ],
        outputs: vec![Value {
            name: "y".into(),
            element_type: None,
            shape: None,
        }],
        constants,
        ..Graph::default()
    }
}

#[test]
fn levels_looked_up_by_byte_become_codes() {
    let mut graph = two_bit_graph();
    take(&mut graph);
    let found = &graph.quantized["w"];
    assert_eq!(found.shape, [2, 4]);
    assert_eq!(found.partition.extents(), [1, 1, 2, 1, 4]);
    assert_eq!(found.packed, [0b11_10_01_00, 0b00_00_00_11]);
    assert_eq!(found.tables.values(), [-3.0, -1.0, 1.0, 2.0]);
    assert_eq!(
        found.dequantize(),
        [-1.5, -0.5, 0.5, 1.0, 4.0, -6.0, -6.0, -6.0]
    );
    assert_eq!(graph.nodes.len(), 1, "{:?}", graph.nodes);
    assert!(graph.constants.is_empty(), "{:?}", graph.constants.keys());
}

#[test]
fn what_something_else_reads_stays() {
    let mut graph = two_bit_graph();
    graph.nodes.push(Node::new("Relu", &["matrix"], &["z"]));
    graph.nodes.push(Node::new("Identity", &["scale"], &["s"]));
    take(&mut graph);
    let kept: Vec<_> = graph.nodes.iter().map(|n| n.outputs[0].as_str()).collect();
    assert_eq!(kept, ["y", "z", "s"]);
    assert_eq!(
        graph.quantized.len(),
        2,
        "matrix is read as it is and scaled"
    );
    assert_eq!(graph.constants.keys().collect::<Vec<_>>(), ["scale"]);
}

#[test]
fn bytes_that_something_else_reads_are_kept() {
    let mut graph = two_bit_graph();
    graph.nodes.push(Node::new("Identity", &["codes"], &["z"]));
    take(&mut graph);
    assert_eq!(graph.quantized["w"].packed, [0b11_10_01_00, 0b00_00_00_11]);
    assert_eq!(graph.constants.keys().collect::<Vec<_>>(), ["codes"]);
}

#[test]
fn weights_that_are_an_output_are_computed() {
    let mut graph = two_bit_graph();
    graph.outputs[0].name = "w".into();
    let before = graph.clone();
    take(&mut graph);
    assert_eq!(graph, before);
}

/// A way to make the graph something that no quantized tensor describes.
type Change = fn(&mut Graph);

#[test]
fn what_is_no_decoder_is_left_alone() {
    let set = |graph: &mut Graph, name: &str, shape: &[usize], data| {
        graph.constants.insert(name.into(), tensor(shape, data));
    };
    let changes: [(&str, Change); 7] = [
        ("a negative scale", |graph| {
            graph.constants.insert(
                "scale".into(),
                tensor(&[2, 1], TensorData::F32(vec![0.5, -2.0])),
            );
        }),
        ("a scale that makes the weights larger", |graph| {
            graph.constants.insert(
                "scale".into(),
                tensor(&[3, 1, 1], TensorData::F32(vec![0.5; 3])),
            );
        }),
        ("a scale after a scale", |graph| {
            graph
                .nodes
                .insert(4, Node::new("Mul", &["w", "scale"], &["v"]));
            graph.nodes[5].inputs[1] = "v".into();
        }),
        ("codes of no byte", |graph| {
            graph.nodes[0].attributes.clear();
        }),
        ("a table without a row for each byte", |graph| {
            graph.constants.insert(
                "table".into(),
                tensor(&[2, 4], TensorData::F32(vec![0.0; 8])),
            );
        }),
        ("a shape that does not fit", |graph| {
            graph
                .constants
                .insert("shape".into(), tensor(&[1], TensorData::I64(vec![7])));
        }),
        ("an axis that is not the first", |graph| {
            let axis = ("axis".into(), Attribute::Int(1));
            graph.nodes[1].attributes.extend([axis]);
        }),
    ];
    for (what, change) in changes {
        let mut graph = two_bit_graph();
        change(&mut graph);
        let before = graph.clone();
        take(&mut graph);
        assert_eq!(graph, before, "{what}");
    }
    let mut graph = two_bit_graph();
    set(&mut graph, "scale", &[1, 4], TensorData::F32(vec![1.0; 4]));
    take(&mut graph);
    assert_eq!(graph.quantized["w"].partition.extents(), [1, 2, 4, 1, 1]);
}

#[test]
fn a_file_cannot_ask_for_more_memory_than_it_explains() {
    // Each lookup would make a thousand bytes of one.
    let mut graph = two_bit_graph();
    let wide = tensor(&[256, 1000], TensorData::U8(vec![1; 256_000]));
    graph.constants.insert("wide".into(), wide);
    graph.nodes.insert(1, cast("wide", "wide.cast", INT32));
    graph.nodes.insert(
        2,
        Node::new("Gather", &["wide.cast", "positions"], &["many"]),
    );
    graph
        .nodes
        .insert(3, Node::new("Gather", &["wide.cast", "many"], &["more"]));
    graph.nodes[4].inputs[1] = "more".into();
    let before = graph.clone();
    take(&mut graph);
    assert_eq!(graph, before);
}

/// A constant of any kind that decoders use, of a small shape with zeros in it.
fn any_constant() -> impl Strategy<Value = Tensor> {
    let shape = prop::collection::vec(0usize..5, 0..4);
    (shape, 0..6, any::<u8>()).prop_map(|(shape, kind, seed)| {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| seed.wrapping_mul(i as u8 | 1) >> (i % 7));
        let data = match kind {
            0 => TensorData::U8(values.collect()),
            1 => TensorData::I32(values.map(i32::from).collect()),
            2 => TensorData::I64(values.map(|v| i64::from(v % 6) - 1).collect()),
            3 => TensorData::I8(values.map(u8::cast_signed).collect()),
            4 => TensorData::U16(values.map(u16::from).collect()),
            _ => TensorData::F32(values.map(f32::from).collect()),
        };
        tensor(&shape, data)
    })
}

proptest! {
    #[test]
    fn no_graph_of_decoding_operators_panics(
        constants in prop::collection::vec(any_constant(), 6),
        operators in prop::collection::vec(
            (0..8usize, prop::collection::vec(0..16usize, 0..4), -2i64..8),
            1..10,
        ),
    ) {
        let constants = constants.into_iter().enumerate();
        let mut graph = Graph {
            constants: constants.map(|(i, tensor)| (format!("v{i}"), tensor)).collect(),
            ..Graph::default()
        };
        for (i, (op_type, inputs, number)) in operators.into_iter().enumerate() {
            // Any earlier value, the last one most often.
            let made = i + 6;
            let inputs = inputs.into_iter().map(|at| format!("v{}", at.min(made - 1))).collect();
            let attributes = ["to", "axis", "keepdims"].map(|name| (name.into(), Attribute::Int(number)));
            graph.nodes.push(Node {
                op_type: super::DECODING[op_type].into(),
                inputs,
                outputs: vec![format!("v{made}")],
                attributes: attributes.into(),
                ..Node::default()
            });
        }
        let last = format!("v{}", graph.nodes.len() + 5);
        graph.nodes.push(Node::new("Relu", &[&last], &["y"]));
        take(&mut graph);
        for tensor in graph.quantized.values() {
            prop_assert_eq!(tensor.check(), Ok(()));
        }
    }
}
