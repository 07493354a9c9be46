use campana_onnx::{
    Content, Dim, NewAttribute, NewNode, NewTensor, NewValueInfo, Source, opset_import, schema,
};

use super::*;

/// Fields of a graph: nodes, and float tensors of zeros.
fn fields(nodes: Vec<NewNode<'static>>, tensors: &[(&str, &[usize])]) -> Content<'static> {
    let graph = Content::default().string(schema::graph::NAME, "net");
    let graph = nodes.into_iter().fold(graph, |graph, node| {
        graph.message(schema::graph::NODE, node)
    });
    tensors.iter().fold(graph, |graph, (name, dims)| {
        let data = vec![0; 4 * dims.iter().product::<usize>()];
        let tensor = NewTensor::raw(name, dims, ElementType::F32, data);
        graph.message(schema::graph::INITIALIZER, tensor)
    })
}

fn model(graph: Content<'static>) -> Model {
    let input = NewValueInfo::tensor("x", ElementType::F32, Some(&[Dim::Unknown]));
    let bytes = Content::default()
        .int(schema::model::IR_VERSION, 8)
        .message(
            schema::model::GRAPH,
            graph.message(schema::graph::INPUT, input),
        )
        .message(schema::model::OPSET_IMPORT, opset_import("", 13))
        .into_bytes()
        .expect("bytes");
    Model::parse(Source::from_bytes(bytes)).expect("a model")
}

#[test]
fn layers_have_their_channels_along_these_axes() {
    // A layer, the shape of "w", and its channel axis where it is a weight.
    type Case = (NewNode<'static>, &'static [usize], Option<Option<usize>>);
    let cases: Vec<Case> = vec![
        (
            NewNode::new("Conv", ["x", "w"], ["y"]),
            &[8, 4, 3],
            Some(Some(0)),
        ),
        (
            NewNode::new("ConvTranspose", ["x", "w"], ["y"]),
            &[8, 4, 3, 3],
            Some(Some(1)),
        ),
        (
            NewNode::new("MatMul", ["x", "w"], ["y"]),
            &[2, 8, 4],
            Some(Some(2)),
        ),
        (
            NewNode::new("MatMul", ["w", "x"], ["y"]),
            &[8, 4],
            Some(Some(0)),
        ),
        (
            NewNode::new("LSTM", ["x", "w", "x"], ["y"]),
            &[1, 32, 8],
            Some(Some(1)),
        ),
        (
            NewNode::new("GRU", ["x", "x", "w"], ["y"]),
            &[2, 24, 8],
            Some(Some(1)),
        ),
        (
            NewNode::new("RNN", ["x", "x", "x", "w"], ["y"]),
            &[2, 24],
            None,
        ),
        (
            NewNode::new("Einsum", ["x", "w"], ["y"]).attribute("equation", "bij, jk -> bik"),
            &[8, 4],
            Some(Some(1)),
        ),
        (
            NewNode::new("Einsum", ["x", "w"], ["y"]).attribute("equation", "ij,ij->ij"),
            &[8, 4],
            None,
        ),
        (
            NewNode::new("Gather", ["w", "x"], ["y"]),
            &[1000, 16],
            Some(Some(0)),
        ),
        (NewNode::new("Gather", ["w", "x"], ["y"]), &[10, 16], None),
        (NewNode::new("Add", ["x", "w"], ["y"]), &[1000, 16], None),
    ];
    for (node, dims, expected) in cases {
        let model = model(fields(vec![node], &[("w", dims)]));
        let tensors = constant_tensors(&model);
        let found = match tensors[0].role {
            Role::Weight { channel_axis, .. } => Some(channel_axis),
            Role::Other(_) => None,
        };
        assert_eq!(found, expected, "{} {dims:?}", model.graph.nodes[0].op_type);
    }
}

fn branches(then: Content<'static>, other: Content<'static>) -> NewNode<'static> {
    NewNode::new("If", ["c"], ["y"])
        .attribute("then_branch", NewAttribute::Graph(then))
        .attribute("else_branch", NewAttribute::Graph(other))
}

fn conv(weights: &str) -> Vec<NewNode<'static>> {
    vec![NewNode::new("Conv", ["x", weights], ["y"])]
}

#[test]
fn weights_of_branches_are_weights() {
    let branch = || fields(conv("w"), &[("w", &[8, 4, 3, 3])]);
    let model = model(fields(vec![branches(branch(), branch())], &[]));
    let tensors = constant_tensors(&model);
    assert_eq!(tensors.len(), 2, "each branch has a tensor of this name");
    for tensor in &tensors {
        assert!(matches!(tensor.role, Role::Weight { .. }), "{tensor:?}");
        assert!(tensor.is_nested(&model));
        assert_eq!(tensor.op_type, "Conv");
    }
    assert_ne!(tensors[0].graph.message, tensors[1].graph.message);
}

#[test]
fn weights_that_only_branches_read_are_weights() {
    let branch = || fields(conv("w"), &[]);
    let model = model(fields(
        vec![branches(branch(), branch())],
        &[("w", &[8, 4, 3, 3])],
    ));
    let tensors = constant_tensors(&model);
    assert_eq!(tensors.len(), 1);
    assert!(matches!(tensors[0].role, Role::Weight { .. }));
    assert!(!tensors[0].is_nested(&model));
}

#[test]
fn what_a_branch_makes_hides_names_around_it() {
    let made = vec![
        NewNode::new("Relu", ["x"], ["w"]),
        NewNode::new("Conv", ["x", "w"], ["y"]),
    ];
    let node = branches(fields(made, &[]), fields(Vec::new(), &[]));
    let model = model(fields(vec![node], &[("w", &[8, 4, 3, 3])]));
    let tensors = constant_tensors(&model);
    assert_eq!(
        tensors[0].role,
        Role::Other("read by no operator".to_owned())
    );
}

/// Gates in another order, and an axis for directions, as exporters write
/// recurrent layers.
fn reordered(weights: &str) -> Vec<NewNode<'static>> {
    vec![
        NewNode::new("Slice", [weights, "starts", "ends"], ["a"]),
        NewNode::new("Slice", [weights, "starts", "ends"], ["b"]),
        NewNode::new("Concat", ["a", "b"], ["joined"]).attribute("axis", 0),
        NewNode::new("Unsqueeze", ["joined"], ["w"]).attribute("axes", vec![0i64]),
        NewNode::new("LSTM", ["x", "w", "x"], ["y"]),
    ]
}

#[test]
fn parts_of_weights_joined_again_are_weights() {
    let model = model(fields(reordered("gates"), &[("gates", &[32, 8])]));
    let tensors = constant_tensors(&model);
    assert!(tensors[0].is_recurrent());
    let role = Role::Weight {
        channel_axis: Some(0),
        depthwise: false,
    };
    assert_eq!(tensors[0].role, role);
}

#[test]
fn a_constant_joined_to_what_is_computed_is_no_weight() {
    let nodes = vec![
        NewNode::new("Concat", ["token", "x"], ["joined"]).attribute("axis", 1),
        NewNode::new("MatMul", ["joined", "x"], ["y"]),
    ];
    let model = model(fields(nodes, &[("token", &[1, 1, 64])]));
    let tensors = constant_tensors(&model);
    assert!(
        matches!(tensors[0].role, Role::Other(_)),
        "{:?}",
        tensors[0].role
    );
}

#[test]
fn a_weight_that_reaches_an_output_is_none() {
    let output = |name: &str| {
        let value = NewValueInfo::tensor(name, ElementType::F32, None);
        Content::default().message(schema::graph::OUTPUT, value)
    };
    let nodes = || {
        vec![
            NewNode::new("Conv", ["x", "w"], ["y"]),
            NewNode::new("Transpose", ["w"], ["t"]).attribute("perm", vec![1, 0, 2, 3]),
        ]
    };
    for (name, is_weight) in [("w", false), ("t", false), ("y", true)] {
        let model = model(fields(nodes(), &[("w", &[8, 4, 3, 3])]).then(output(name)));
        let tensors = constant_tensors(&model);
        let role = &tensors[0].role;
        let stays = Role::Other("also an output of the graph".to_owned());
        assert_eq!(matches!(role, Role::Weight { .. }), is_weight, "{name}");
        assert_eq!(*role == stays, !is_weight, "{name}");
    }
}
