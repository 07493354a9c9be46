use campana_tensor::{Tensor, TensorData};

use super::*;
use crate::graph::Value;

fn with(mut node: Node, name: &str, value: Attribute) -> Node {
    node.attributes.insert(name.into(), value);
    node
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::new(vec![values.len()], TensorData::I64(values.to_vec())).unwrap()
}

fn batch_of(dims: &[usize]) -> Vec<Dim> {
    let fixed = dims.iter().map(|&extent| Dim::Fixed(extent));
    [Dim::Symbol("N".into())].into_iter().chain(fixed).collect()
}

fn graph(input: Vec<Dim>, nodes: Vec<Node>, constants: &[(&str, Tensor)]) -> Graph {
    Graph {
        nodes,
        inputs: vec![Value {
            name: "x".into(),
            element_type: Some(ElementType::F32),
            shape: Some(input),
        }],
        constants: constants
            .iter()
            .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()))
            .collect(),
        ..Graph::default()
    }
}

fn infer_all(graph: &Graph) -> Values {
    let ops = graph
        .nodes
        .iter()
        .map(|node| Op::parse(node, graph.opset()));
    infer(graph, &ops.collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
}

#[test]
fn windows_over_lists_have_no_shape() {
    let pool = Node::new("MaxPool", &["x"], &["y"]);
    let pool = with(pool, "kernel_shape", Attribute::Ints(vec![2, 2]));
    let values = infer_all(&graph(vec![Dim::Fixed(4)], vec![pool], &[]));
    assert_eq!(values["y"].shape, None);
}

#[test]
fn integers_are_known_where_shapes_determine_them() {
    let nodes = vec![
        Node::new("Shape", &["x"], &["shape"]),
        Node::new("Gather", &["shape", "places"], &["extents"]),
    ];
    let fixed = [2, 3, 5].map(Dim::Fixed).to_vec();
    let values = infer_all(&graph(fixed, nodes.clone(), &[("places", ints(&[2, 0]))]));
    assert_eq!(values["extents"].integers, Some(vec![5, 2]));
    let open = infer_all(&graph(
        batch_of(&[3, 5]),
        nodes,
        &[("places", ints(&[2, 0]))],
    ));
    assert_eq!(open["extents"].integers, None);
}

/// `x.view(x.size(0), -1)` as exporters write it.
#[test]
fn a_view_by_computed_shape_is_known() {
    let scalar = Tensor::new(vec![], TensorData::I64(vec![0])).unwrap();
    let nodes = vec![
        Node::new("Shape", &["x"], &["shape"]),
        Node::new("Gather", &["shape", "zero"], &["batch"]),
        with(
            Node::new("Unsqueeze", &["batch"], &["batches"]),
            "axes",
            Attribute::Ints(vec![0]),
        ),
        with(
            Node::new("Concat", &["batches", "rest"], &["to"]),
            "axis",
            Attribute::Int(0),
        ),
        Node::new("Reshape", &["x", "to"], &["y"]),
    ];
    let graph = graph(
        batch_of(&[4, 3, 3]),
        nodes,
        &[("zero", scalar), ("rest", ints(&[-1]))],
    );
    let values = infer_all(&graph);
    assert_eq!(values["shape"].element_type, Some(ElementType::I64));
    assert_eq!(values["y"].element_type, Some(ElementType::F32));
    assert_eq!(values["y"].shape, Some(batch_of(&[36])));
}

#[test]
fn windows_and_products_have_their_shapes() {
    let floats = |shape: &[usize]| {
        let len = shape.iter().product();
        Tensor::new(shape.to_vec(), TensorData::F32(vec![0.0; len])).unwrap()
    };
    let conv = with(
        Node::new("Conv", &["x", "w"], &["c"]),
        "pads",
        Attribute::Ints(vec![1; 4]),
    );
    let conv = with(conv, "strides", Attribute::Ints(vec![2, 2]));
    let nodes = vec![
        conv,
        Node::new("GlobalAveragePool", &["c"], &["g"]),
        Node::new("Flatten", &["g"], &["f"]),
        Node::new("MatMul", &["f", "m"], &["y"]),
    ];
    let constants = [("w", floats(&[8, 3, 3, 3])), ("m", floats(&[8, 10]))];
    let values = infer_all(&graph(batch_of(&[3, 17, 16]), nodes, &constants));
    assert_eq!(values["c"].shape, Some(batch_of(&[8, 9, 8])));
    assert_eq!(values["g"].shape, Some(batch_of(&[8, 1, 1])));
    assert_eq!(values["y"].shape, Some(batch_of(&[10])));
}

#[test]
fn types_follow_operators_not_names() {
    let nodes = vec![
        Node::new("Greater", &["x", "x"], &["mask"]),
        Node::new("Where", &["mask", "x", "x"], &["chosen"]),
        Node::new("DynamicQuantizeLinear", &["x"], &["codes", "scale", "zero"]),
        Node::new("TopK", &["x", "k"], &["best", "places"]),
        with(
            Node::new("Cast", &["places"], &["cast"]),
            "to",
            Attribute::Int(1),
        ),
    ];
    let values = infer_all(&graph(batch_of(&[4]), nodes, &[("k", ints(&[1]))]));
    let of = |name: &str| values[name].element_type.unwrap();
    assert_eq!(of("mask"), ElementType::Bool);
    assert_eq!(of("chosen"), ElementType::F32);
    assert_eq!(
        [of("codes"), of("scale"), of("zero")],
        [ElementType::U8, ElementType::F32, ElementType::U8]
    );
    assert_eq!(
        [of("best"), of("places"), of("cast")],
        [ElementType::F32, ElementType::I64, ElementType::F32]
    );
}

#[test]
fn operators_that_only_change_extents_have_their_shapes() {
    let floats =
        |values: &[f32]| Tensor::new(vec![values.len()], TensorData::F32(values.to_vec())).unwrap();
    let weights = Tensor::new(vec![8, 3, 3, 3], TensorData::F32(vec![0.0; 216])).unwrap();
    let int = |node: Node, name: &str, value| with(node, name, Attribute::Int(value));
    let list =
        |node: Node, name: &str, values: &[i64]| with(node, name, Attribute::Ints(values.to_vec()));
    let transposed = Node::new("ConvTranspose", &["x", "w"], &["y"]);
    let strided = list(transposed.clone(), "strides", &[2, 3]);
    let padded = list(
        list(strided.clone(), "pads", &[1; 4]),
        "output_padding",
        &[1, 0],
    );
    let grouped = int(transposed, "group", 2);
    let shaped = list(strided.clone(), "output_shape", &[1, 3, 10, 20]);
    let same = with(
        strided.clone(),
        "auto_pad",
        Attribute::String(b"SAME_UPPER".to_vec()),
    );
    let nodes = [
        (Node::new("Max", &["row", "x"], &["y"]), Some([8, 4, 6])),
        (Node::new("GlobalMaxPool", &["x"], &["y"]), Some([8, 1, 1])),
        (
            int(Node::new("DepthToSpace", &["x"], &["y"]), "blocksize", 2),
            Some([2, 8, 12]),
        ),
        (
            int(Node::new("SpaceToDepth", &["x"], &["y"]), "blocksize", 2),
            Some([32, 2, 3]),
        ),
        (
            Node::new("Tile", &["x", "repeats"], &["y"]),
            Some([8, 8, 18]),
        ),
        (
            Node::new("Resize", &["x", "", "scales"], &["y"]),
            Some([8, 8, 3]),
        ),
        (Node::new("Resize", &["x", "", "", "sizes"], &["y"]), None),
        (
            Node::new("Expand", &["x", "wider"], &["y"]),
            Some([8, 4, 6]),
        ),
        (
            Node::new("Slice", &["x", "start", "end", "axis", "step"], &["y"]),
            Some([8, 4, 3]),
        ),
        (
            Node::new("Slice", &["x", "start", "end", "axis"], &["y"]),
            Some([8, 4, 5]),
        ),
        (strided, Some([3, 9, 18])),
        (padded, Some([3, 8, 16])),
        (grouped, Some([6, 6, 8])),
        (shaped, Some([3, 10, 20])),
        (same, Some([3, 8, 18])),
    ];
    for (node, expected) in nodes {
        let constants = [
            ("row", floats(&[0.0; 6])),
            ("scales", floats(&[1.0, 1.0, 2.0, 0.5])),
            ("sizes", ints(&[2, 8, 5, 7])),
            ("repeats", ints(&[1, 1, 2, 3])),
            ("wider", ints(&[1, 1, 1, 6])),
            ("start", ints(&[1])),
            ("end", ints(&[i64::MAX])),
            ("axis", ints(&[-1])),
            ("step", ints(&[2])),
            ("w", weights.clone()),
        ];
        let label = format!("{node:?}");
        let values = infer_all(&graph(batch_of(&[8, 4, 6]), vec![node], &constants));
        let expected = match expected {
            Some(extents) => batch_of(&extents),
            // A size for the open batch says what becomes of it in no other run.
            None => [
                vec![Dim::Symbol(String::new())],
                [8, 5, 7].map(Dim::Fixed).to_vec(),
            ]
            .concat(),
        };
        assert_eq!(values["y"].shape, Some(expected), "{label}");
    }
}

#[test]
fn values_of_listed_extents_have_these() {
    let nodes = vec![
        Node::new("Shape", &["x"], &["extents"]),
        Node::new("ConstantOfShape", &["extents"], &["filled"]),
        Node::new("Expand", &["column", "extents"], &["wide"]),
    ];
    let column = Tensor::new(vec![4, 1], TensorData::F32(vec![0.0; 4])).unwrap();
    let values = infer_all(&graph(batch_of(&[4, 6]), nodes, &[("column", column)]));
    for name in ["filled", "wide"] {
        assert_eq!(values[name].shape, Some(batch_of(&[4, 6])), "{name}");
    }
}

#[test]
fn extents_beyond_all_numbers_are_not_known() {
    let constants = || {
        let scales = vec![1.0, 1.0, 1e30, 1e30];
        [
            ("repeats", ints(&[1, 1, i64::MAX, i64::MAX])),
            (
                "scales",
                Tensor::new(vec![4], TensorData::F32(scales)).unwrap(),
            ),
        ]
    };
    let blocks = |op_type: &str| {
        let node = Node::new(op_type, &["x"], &["y"]);
        with(node, "blocksize", Attribute::Int(i64::MAX))
    };
    let nodes = [
        blocks("DepthToSpace"),
        blocks("SpaceToDepth"),
        Node::new("Tile", &["x", "repeats"], &["y"]),
        Node::new("Resize", &["x", "", "scales"], &["y"]),
    ];
    for node in nodes {
        let label = node.op_type.clone();
        let values = infer_all(&graph(batch_of(&[8, 4, 6]), vec![node], &constants()));
        let fixed = |dim: &Dim| matches!(dim, Dim::Fixed(extent) if *extent > 8);
        let known = values["y"].shape.iter().flatten().any(fixed);
        assert!(!known, "{label}: {:?}", values["y"].shape);
    }
}
