use super::*;
use crate::graph::{Attribute, Dim, Value};

fn floats(shape: &[usize]) -> Tensor {
    let len = shape.iter().product();
    Tensor::new(shape.to_vec(), TensorData::F32(vec![0.5; len])).unwrap()
}

fn graph(nodes: Vec<Node>, constants: &[(&str, &[usize])], outputs: &[&str]) -> Graph {
    let value = |name: &str| Value {
        name: name.into(),
        element_type: Some(ElementType::F32),
        shape: None,
    };
    Graph {
        nodes,
        inputs: vec![value("x")],
        outputs: outputs.iter().map(|name| value(name)).collect(),
        constants: constants
            .iter()
            .map(|(name, shape)| ((*name).to_owned(), floats(shape)))
            .collect(),
        ..Graph::default()
    }
}

#[test]
fn a_sum_with_one_constant_a_channel_is_a_bias() {
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["c"]),
        Node::new("Add", &["b", "c"], &["y"]),
    ];
    for (shape, is_bias) in [
        (&[1, 4, 1, 1][..], true),
        (&[4, 1, 1], true),
        (&[4], false),
        (&[1, 1, 1, 4], false),
        (&[1], false),
    ] {
        let graph = graph(nodes.clone(), &[("w", &[4, 3, 1, 1]), ("b", shape)], &["y"]);
        let network = Network::new(&graph).unwrap();
        let layer = network.layer(0).unwrap();
        let expected = is_bias.then_some(Bias {
            name: "b",
            sum: Some(1),
            output: "y",
        });
        assert_eq!(network.bias(&layer), expected, "{shape:?}");
    }
}

#[test]
fn a_residual_block_is_quantized_at_its_ends() {
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["c1"]),
        Node::new("Relu", &["c1"], &["r1"]),
        Node::new("Conv", &["r1", "v"], &["c2"]),
        Node::new("Add", &["c2", "x"], &["s"]),
        Node::new("Relu", &["s"], &["r2"]),
        Node::new("Conv", &["r2", "v"], &["y"]),
    ];
    let constants: [(&str, &[usize]); 2] = [("w", &[3, 3, 1, 1]), ("v", &[3, 3, 1, 1])];
    let graph = graph(nodes, &constants, &["y"]);
    let network = Network::new(&graph).unwrap();
    let found = |sums| quantized_activations(&network, sums);
    assert_eq!(found(ResidualSums::Fused), ["x", "r1", "r2"]);
    assert_eq!(found(ResidualSums::Separate), ["x", "r1", "c2", "r2"]);
}

#[test]
fn what_layers_give_to_others_is_quantized_for_integer_layers() {
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["c1"]),
        Node::new("Relu", &["c1"], &["r1"]),
        Node::new("Conv", &["x", "w"], &["c2"]),
        Node::new("Concat", &["r1", "c2"], &["k"]),
        Node::new("Conv", &["k", "v"], &["c3"]),
        Node::new("Softmax", &["c3"], &["y"]),
    ];
    let constants: [(&str, &[usize]); 2] = [("w", &[3, 3, 1, 1]), ("v", &[3, 6, 1, 1])];
    let graph = graph(nodes, &constants, &["y"]);
    let network = Network::new(&graph).unwrap();
    let found = |sums| quantized_activations(&network, sums);
    assert_eq!(found(ResidualSums::Separate), ["x", "k"]);
    // The answer, which no layer reads, stays float.
    let integer_layers = found(ResidualSums::SeparateForIntegerLayers);
    assert_eq!(integer_layers, ["x", "r1", "c2", "k"]);
}

#[test]
fn integers_and_parameters_are_never_quantized() {
    let nodes = vec![
        Node::new("Shape", &["x"], &["shape"]),
        Node::new("Slice", &["shape", "a", "b"], &["part"]),
        Node::new("Reshape", &["x", "part"], &["v"]),
        Node::new("Tanh", &["p"], &["t"]),
        Node::new("MatMul", &["v", "t"], &["m"]),
        Node::new("Add", &["m", "p2"], &["y0"]),
        Node::new("MatMul", &["y0", "w"], &["y"]),
    ];
    let constants: [(&str, &[usize]); 5] = [
        ("a", &[1]),
        ("b", &[1]),
        ("p", &[4, 4]),
        ("p2", &[4]),
        ("w", &[4, 4]),
    ];
    let graph = graph(nodes, &constants, &["y"]);
    let network = Network::new(&graph).unwrap();
    assert!(network.is_parameter("t") && !network.is_activation("t"));
    assert!(
        network.layer(4).is_some(),
        "weights computed from parameters"
    );
    let found = quantized_activations(&network, ResidualSums::Fused);
    assert_eq!(found, ["x", "y0"]);
}

#[test]
fn greatest_values_of_floats_are_joined_in_floats() {
    let nodes = |from: &str| {
        let mut joined = Node::new("Concat", &["greatest", "mean"], &["joined"]);
        joined.attributes.insert("axis".into(), Attribute::Int(1));
        vec![
            Node::new("Conv", &["x", "w"], &["a"]),
            Node::new("Sigmoid", &["a"], &["s"]),
            Node::new("ReduceMax", &[from], &["greatest"]),
            Node::new("ReduceMean", &[from], &["mean"]),
            joined,
            Node::new("Conv", &["joined", "w"], &["y"]),
        ]
    };
    let weights: [(&str, &[usize]); 1] = [("w", &[3, 3, 1, 1])];
    for (from, is_rounded) in [("s", false), ("x", true)] {
        let graph = graph(nodes(from), &weights, &["y"]);
        let network = Network::new(&graph).unwrap();
        let found = quantized_activations(&network, ResidualSums::Separate);
        assert_eq!(
            found.contains(&"joined".to_owned()),
            is_rounded,
            "{found:?}"
        );
    }
}

#[test]
fn layers_with_float_weights_read_no_codes_and_make_none() {
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["a"]),
        Node::new("Transpose", &["v"], &["t"]),
        Node::new("Conv", &["a", "t"], &["b"]),
        Node::new("Conv", &["b", "u"], &["c"]),
        Node::new("Conv", &["c", "w"], &["y"]),
    ];
    let shape: &[usize] = &[3, 3, 1, 1];
    let graph = graph(nodes, &[("u", shape), ("v", shape), ("w", shape)], &["y"]);
    let network = Network::new(&graph).unwrap();
    let found = quantized_activations(&network, ResidualSums::Separate);
    assert_eq!(found, ["x", "a", "b", "c"]);
    let network = network.with_integer_weights(|name| name != "u");
    let found = quantized_activations(&network, ResidualSums::Fused);
    assert_eq!(found, ["x", "a", "c"]);
    // For speed also what the last layer on integers before it gives.
    let found = quantized_activations(&network, ResidualSums::Separate);
    assert_eq!(found, ["x", "a", "b", "c"]);
    let network = network.with_integer_weights(|name| name == "w");
    let found = quantized_activations(&network, ResidualSums::Fused);
    assert_eq!(found, ["x", "c"]);
    assert!(network.has_float_weights(2) && !network.has_float_weights(4));
}

#[test]
fn invalid_attributes_name_the_node() {
    let mut conv = Node::new("Conv", &["x", "w"], &["c"]);
    conv.name = "stem".into();
    conv.attributes.insert("group".into(), Attribute::Int(0));
    let graph = graph(vec![conv], &[("w", &[4, 3, 1, 1])], &["c"]);
    let error = Network::new(&graph).unwrap_err();
    assert!(error.to_string().starts_with("Conv \"stem\""), "{error}");
}

#[test]
fn what_is_moved_to_floats_is_rounded_for_layers_alone() {
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["c"]),
        Node::new("Relu", &["c"], &["r"]),
        // Made by a layer.
        Node::new("MaxPool", &["r"], &["m"]),
        Node::new("Exp", &["m"], &["e"]),
        // Made by no layer, and read by none behind the view.
        Node::new("Reshape", &["e", "shape"], &["v"]),
        Node::new("Log", &["v"], &["l"]),
        // Read by a layer behind a view.
        Node::new("Reshape", &["l", "shape"], &["u"]),
        Node::new("Conv", &["u", "w"], &["y"]),
    ];
    let constants: [(&str, &[usize]); 2] = [("w", &[3, 3, 1, 1]), ("shape", &[4])];
    let mut graph = graph(nodes, &constants, &["y"]);
    let kernel = Attribute::Ints(vec![1, 1]);
    graph.nodes[2]
        .attributes
        .insert("kernel_shape".into(), kernel);
    let network = Network::new(&graph).unwrap();
    let found = quantized_activations(&network, ResidualSums::Separate);
    assert_eq!(found, ["x", "r", "l"]);
}

#[test]
fn sums_between_floats_are_not_rounded() {
    let energy = [
        Node::new("Sin", &["x"], &["a"]),
        Node::new("Cos", &["x"], &["b"]),
        Node::new("Mul", &["a", "a"], &["a2"]),
        Node::new("Mul", &["b", "b"], &["b2"]),
        Node::new("Add", &["a2", "b2"], &["s"]),
    ];
    let floats = [
        Node::new("Log", &["s"], &["l"]),
        Node::new("Conv", &["l", "w"], &["y"]),
    ];
    let codes = [
        Node::new("Relu", &["s"], &["r"]),
        Node::new("Conv", &["r", "w"], &["y"]),
    ];
    for (readers, expected) in [(floats, &["l"][..]), (codes, &["a2", "b2", "r"])] {
        let nodes = [&energy[..], &readers].concat();
        let graph = graph(nodes, &[("w", &[3, 3, 1, 1])], &["y"]);
        let network = Network::new(&graph).unwrap();
        let found = quantized_activations(&network, ResidualSums::Separate);
        assert_eq!(found, expected);
    }
}

#[test]
fn work_is_weights_times_places() {
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["c"]),
        Node::new("NonZero", &["c"], &["places"]),
        Node::new("Cast", &["places"], &["p"]),
        Node::new("MatMul", &["p", "v"], &["y"]),
    ];
    let constants: [(&str, &[usize]); 2] = [("w", &[4, 3, 1, 1]), ("v", &[5, 2])];
    let mut graph = graph(nodes, &constants, &["y"]);
    graph.nodes[2]
        .attributes
        .insert("to".into(), Attribute::Int(1));
    graph.inputs[0].shape = Some([1, 3, 5, 7].map(Dim::Fixed).to_vec());
    let network = Network::new(&graph).unwrap();
    let work: Vec<f64> = network
        .layers()
        .map(|layer| network.multiply_accumulates(&layer))
        .collect();
    // Of the second nothing but the weights is known.
    assert_eq!(work, [12.0 * 35.0, 10.0]);
}

#[test]
fn what_a_layer_hands_to_a_spelled_activation_function_is_quantized() {
    let hard_swish = [
        Node::new("Add", &["c", "one"], &["a"]),
        Node::new("Clip", &["a"], &["b"]),
        Node::new("Mul", &["c", "b"], &["d"]),
        Node::new("Div", &["d", "one"], &["e"]),
    ];
    let scaled = [Node::new("Mul", &["c", "one"], &["e"])];
    let gated = [
        Node::new("Exp", &["x"], &["g"]),
        Node::new("Mul", &["c", "g"], &["a"]),
        Node::new("Mul", &["a", "a"], &["e"]),
    ];
    let cases = [
        (&hard_swish[..], &["x", "c"][..]),
        (&scaled, &["x"]),
        (&gated, &["x"]),
    ];
    for (function, of_answer) in cases {
        let first = [Node::new("Conv", &["x", "w"], &["c"])];
        let constants: [(&str, &[usize]); 2] = [("w", &[3, 3, 1, 1]), ("one", &[])];
        let nodes = [&first, function].concat();
        let answer = graph(nodes.clone(), &constants, &["e"]);
        let last = [Node::new("Conv", &["e", "w"], &["y"])];
        let inner = graph([nodes, last.to_vec()].concat(), &constants, &["y"]);
        for (graph, expected) in [(answer, of_answer), (inner, &["x", "c", "e"])] {
            let network = Network::new(&graph).unwrap();
            let found = quantized_activations(&network, ResidualSums::Separate);
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn what_layers_hand_to_a_concatenation_is_rounded_as_its_result_is() {
    let axis = |mut node: Node| {
        node.attributes.insert("axis".into(), Attribute::Int(1));
        node
    };
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["a"]),
        Node::new("Sin", &["x"], &["b"]),
        axis(Node::new("Concat", &["a", "b", "x", "p"], &["inner"])),
        Node::new("Conv", &["x", "w"], &["twice"]),
        axis(Node::new("Concat", &["inner", "twice"], &["outer"])),
        axis(Node::new("Split", &["outer"], &["left", "right"])),
        Node::new("Conv", &["right", "w"], &["c"]),
        axis(Node::new("Concat", &["left", "c", "twice"], &["mixed"])),
        Node::new("Sin", &["mixed"], &["s"]),
        Node::new("Conv", &["s", "w"], &["d"]),
        // The answer.
        axis(Node::new("Concat", &["d", "p"], &["y"])),
    ];
    let constants: [(&str, &[usize]); 2] = [("w", &[3, 3, 1, 1]), ("p", &[1, 1, 1, 1])];
    let graph = graph(nodes, &constants, &["y"]);
    let network = Network::new(&graph).unwrap();
    let found = |sums| quantized_activations(&network, sums);
    assert_eq!(found(ResidualSums::Fused), ["x", "outer", "s"]);
    let own = found(ResidualSums::Separate);
    assert_eq!(own, ["x", "twice", "outer", "c", "s"]);
    let for_speed = quantized_for_speed(&network, ResidualSums::Separate);
    assert_eq!(for_speed, ["twice", "c"].map(str::to_owned).into());
    assert!(quantized_for_speed(&network, ResidualSums::Fused).is_empty());
    let with_result = concatenated_activations(&network, |name| own.iter().any(|own| own == name));
    assert_eq!(
        with_result,
        [["a", "outer"], ["b", "outer"], ["inner", "outer"]]
    );
}

#[test]
fn a_layer_whose_result_is_only_moved_to_the_answer_keeps_it() {
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["c"]),
        Node::new("Reshape", &["c", "shape"], &["y"]),
    ];
    let constants: [(&str, &[usize]); 2] = [("w", &[3, 3, 1, 1]), ("shape", &[2])];
    let graph = graph(nodes, &constants, &["y"]);
    let network = Network::new(&graph).unwrap();
    for sums in [ResidualSums::Fused, ResidualSums::Separate] {
        assert_eq!(quantized_activations(&network, sums), ["x"]);
    }
}
