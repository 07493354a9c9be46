use campana_ir::graph::{Attribute, Dim, Node};
use campana_tensor::{ElementType, Tensor, TensorData};
use prost::Message;

use super::*;
use crate::picture::{Channels, Image, Layout};
use crate::proto::{Block, ImmediateKind, TensorKind, ValueKind};

fn value(name: &str, shape: &[usize]) -> Value {
    Value {
        element_type: Some(ElementType::F32),
        shape: Some(shape.iter().map(|&extent| Dim::Fixed(extent)).collect()),
        ..Value::named(name)
    }
}

fn graph(nodes: Vec<Node>, input: &[usize], output: &[usize]) -> Graph {
    Graph {
        nodes,
        inputs: vec![value("x", input)],
        outputs: vec![value("y", output)],
        ..Graph::default()
    }
}

fn constant(graph: &mut Graph, name: &str, shape: &[usize], values: Vec<f32>) {
    let tensor = Tensor::new(shape.to_vec(), TensorData::F32(values)).unwrap();
    graph.constants.insert(name.to_owned(), tensor);
}

fn model(graph: &Graph, options: &Options) -> Model {
    let package = convert(graph, options).unwrap();
    Model::decode(package.model.as_slice()).unwrap()
}

fn block(model: &Model) -> &Block {
    &model.ml_program.as_ref().unwrap().functions["main"].blocks[OPSET]
}

/// The operations that compute, in their order.
fn kinds(model: &Model) -> Vec<&str> {
    let operations = block(model).operations.iter();
    let kinds = operations.map(|operation| operation.kind.as_str());
    kinds.filter(|kind| *kind != "const").collect()
}

fn float32() -> Options {
    Options::new(Precision::Float32)
}

fn refusal(graph: &Graph) -> String {
    convert(graph, &float32()).unwrap_err().to_string()
}

#[test]
fn a_normalization_is_part_of_its_layer() {
    let inputs = ["x", "w", "b"];
    let conv = Node::new("Conv", &inputs, &["c"]);
    let norm = Node::new("BatchNormalization", &["c", "s", "t", "m", "v"], &["y"]);
    let mut graph = graph(vec![conv, norm], &[1, 1, 4, 4], &[1, 2, 4, 4]);
    constant(&mut graph, "w", &[2, 1, 1, 1], vec![1.0, 2.0]);
    for (name, values) in [
        ("b", [1.0, 2.0]),
        ("s", [3.0, 0.0]),
        ("t", [0.5, 0.25]),
        ("m", [1.0, 1.0]),
        ("v", [1.0, 4.0]),
    ] {
        constant(&mut graph, name, &[2], values.to_vec());
    }
    // The second channel's factor is zero: its term cannot stand before it.
    assert_eq!(kinds(&model(&graph, &float32())), ["conv", "mul", "add"]);
    constant(&mut graph, "s", &[2], vec![3.0, 1.0]);
    assert_eq!(kinds(&model(&graph, &float32())), ["conv", "mul"]);
}

#[test]
fn precision_is_that_of_the_values_between() {
    let graph = graph(vec![Node::new("Relu", &["x"], &["y"])], &[1, 4], &[1, 4]);
    assert_eq!(kinds(&model(&graph, &float32())), ["relu"]);
    let half = model(&graph, &Options::new(Precision::Float16));
    assert_eq!(kinds(&half), ["cast", "relu", "cast"]);
    assert_eq!(block(&half).outputs, ["y"]);
}

#[test]
fn names_are_kept_and_made_valid() {
    let mut graph = graph(
        vec![Node::new("Relu", &["x"], &["1/y:0"])],
        &[1, 4],
        &[1, 4],
    );
    graph.outputs[0].name = "1/y:0".to_owned();
    let model = model(&graph, &float32());
    assert_eq!(block(&model).outputs, ["_1_y_0"]);
}

#[test]
fn an_input_that_is_an_output_too_is_copied() {
    let mut graph = graph(vec![Node::new("Relu", &["x"], &["y"])], &[1, 4], &[1, 4]);
    graph.nodes.push(Node::new("Identity", &["x"], &["z"]));
    graph.outputs.push(value("z", &[1, 4]));
    let model = model(&graph, &float32());
    assert_eq!(kinds(&model), ["relu", "identity"]);
    assert_eq!(block(&model).outputs, ["y", "z"]);
}

fn picture_options() -> Options {
    let image = Image {
        channels: Channels::Rgb,
        layout: Layout::Nhwc,
        size: [4, 6],
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
    };
    Options {
        image: Some(image),
        labels: ["cat", "dog", "cat"].map(str::to_owned).to_vec(),
        ..float32()
    }
}

#[test]
fn pictures_are_normalized_and_classes_named() {
    let mean = Node {
        attributes: [
            ("axes".to_owned(), Attribute::Ints(vec![1, 2])),
            ("keepdims".to_owned(), Attribute::Int(0)),
        ]
        .into(),
        ..Node::new("ReduceMean", &["x"], &["y"])
    };
    let graph = graph(vec![mean], &[1, 4, 6, 3], &[1, 3]);
    let model = model(&graph, &picture_options());
    let expected = [
        "mul",
        "add",
        "transpose",
        "reduce_mean",
        "softmax",
        "classify",
    ];
    assert_eq!(kinds(&model), expected);
    let description = model.description.as_ref().unwrap();
    assert_eq!(description.predicted_feature_name, "classLabel");
    assert_eq!(description.output.len(), 3);
    let classify = block(&model).operations.last().unwrap();
    let classes = &classify.inputs["classes"].arguments[0].bound;
    let Some(crate::proto::Bound::Value(classes)) = classes else {
        panic!("classes are a value");
    };
    let Some(ValueKind::Immediate(immediate)) = &classes.kind else {
        panic!("classes are in the program");
    };
    let Some(ImmediateKind::List(list)) = &immediate.kind else {
        panic!("classes are a list");
    };
    let texts = list.values.iter().map(|value| match &value.kind {
        Some(ValueKind::Immediate(immediate)) => match &immediate.kind {
            Some(ImmediateKind::Tensor(tensor)) => match &tensor.kind {
                Some(TensorKind::Strings(strings)) => strings.values[0].clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["cat", "dog", "cat (2)"]);
}

#[test]
fn what_fits_no_picture_is_an_array() {
    let graph = graph(
        vec![Node::new("Relu", &["x"], &["y"])],
        &[1, 5, 6, 3],
        &[1, 5, 6, 3],
    );
    let model = model(&graph, &picture_options());
    assert_eq!(kinds(&model), ["relu"]);
}

#[test]
fn what_has_no_form_is_named() {
    for (op, words) in [
        ("Hardmax", "node 'y' (Hardmax)"),
        ("NonZero", "node 'y' (NonZero)"),
    ] {
        let graph = graph(vec![Node::new(op, &["x"], &["y"])], &[1, 4], &[1, 4]);
        let message = refusal(&graph);
        assert!(message.contains(words), "{message}");
    }
    let mut open = graph(vec![Node::new("Relu", &["x"], &["y"])], &[1, 4], &[1, 4]);
    open.inputs[0].shape = Some(vec![Dim::Fixed(1), Dim::Symbol("h".to_owned())]);
    let error = convert(&open, &float32()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OpenShape);
    assert!(error.to_string().contains("'x'"), "{error}");
}

#[test]
fn constants_that_16_bits_do_not_hold_are_refused() {
    let mut graph = graph(
        vec![Node::new("Mul", &["x", "c"], &["y"])],
        &[1, 4],
        &[1, 4],
    );
    constant(&mut graph, "c", &[1], vec![1e6]);
    convert(&graph, &float32()).unwrap();
    let error = convert(&graph, &Options::new(Precision::Float16)).unwrap_err();
    assert!(error.to_string().contains("coreml-float32"), "{error}");
}

#[test]
fn constants_are_written_once() {
    let node = |inputs: [&str; 2], output| Node::new("Add", &inputs, &[output]);
    let mut graph = graph(
        vec![node(["x", "c"], "z"), node(["z", "d"], "y")],
        &[1, 4],
        &[1, 4],
    );
    constant(&mut graph, "c", &[1], vec![0.5]);
    constant(&mut graph, "d", &[1], vec![0.5]);
    let model = model(&graph, &float32());
    assert_eq!(block(&model).operations.len(), 3);
}
