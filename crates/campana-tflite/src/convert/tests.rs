use std::collections::BTreeMap;

use campana_ir::graph::{Attribute, Dim, Graph, Node, Value};
use campana_tensor::{ElementType, Tensor, TensorData};

use super::{Interpreter, convert, model};
use crate::error::ErrorKind;
use crate::schema::{Activation, Code, Model, Options, Padding, TensorType};

fn value(name: &str, dims: &[usize]) -> Value {
    Value {
        name: name.to_owned(),
        element_type: Some(ElementType::F32),
        shape: Some(dims.iter().map(|&dim| Dim::Fixed(dim)).collect()),
    }
}

fn with_ints(mut node: Node, attribute: &str, values: &[i64]) -> Node {
    let values = Attribute::Ints(values.to_vec());
    node.attributes.insert(attribute.to_owned(), values);
    node
}

fn floats(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| i as f32).collect();
    Tensor::new(shape.to_vec(), TensorData::F32(values)).unwrap()
}

fn list(values: &[i64]) -> Tensor {
    Tensor::new(vec![values.len()], TensorData::I64(values.to_vec())).unwrap()
}

/// A graph that gives its last node's output.
fn graph(inputs: Vec<Value>, nodes: Vec<Node>, constants: Vec<(&str, Tensor)>) -> Graph {
    let constants = constants.into_iter();
    Graph {
        outputs: vec![Value {
            shape: None,
            ..value(&nodes.last().unwrap().outputs[0], &[])
        }],
        inputs,
        nodes,
        constants: constants.map(|(n, t)| (n.to_owned(), t)).collect(),
        opsets: BTreeMap::from([(String::new(), 13)]),
        ..Graph::default()
    }
}

/// QuantizeLinear and DequantizeLinear of a value, to `{value} rounded`.
fn pair(value: &str, scale: f32, zero_point: u8) -> (Vec<Node>, Vec<(String, Tensor)>) {
    let name = |what: &str| format!("{value} {what}");
    let [codes, rounded, step, zero] = ["codes", "rounded", "step", "zero"].map(name);
    let nodes = vec![
        Node::new("QuantizeLinear", &[value, &step, &zero], &[&codes]),
        Node::new("DequantizeLinear", &[&codes, &step, &zero], &[&rounded]),
    ];
    let step_of = Tensor::new(vec![], TensorData::F32(vec![scale])).unwrap();
    let zero_of = Tensor::new(vec![], TensorData::U8(vec![zero_point])).unwrap();
    (nodes, vec![(step, step_of), (zero, zero_of)])
}

/// A convolution of 3 x 3 with int8 weights between rounded activations, and
/// what `behind` makes of its output `c`.
fn rounded_convolution(behind: Vec<Node>, output: &str) -> Graph {
    let (before, step_in) = pair("x", 0.5, 138);
    let (after, step_out) = pair(output, 0.25, 0);
    let weights = vec![3; 4 * 3 * 9];
    let weights = Tensor::new(vec![4, 3, 3, 3], TensorData::I8(weights)).unwrap();
    let scales = TensorData::F32(vec![0.5, 0.25, 0.125, 1.0]);
    let mut decode = Node::new("DequantizeLinear", &["codes", "scales"], &["w"]);
    decode
        .attributes
        .insert("axis".to_owned(), Attribute::Int(0));
    let convolution = Node::new("Conv", &["x rounded", "w", "b"], &["c"]);
    let convolution = with_ints(convolution, "pads", &[1, 1, 1, 1]);
    let nodes = [before, vec![decode, convolution], behind, after].concat();
    let constants = vec![
        ("codes", weights),
        ("scales", Tensor::new(vec![4], scales).unwrap()),
        ("b", floats(&[4])),
    ];
    let mut graph = graph(vec![value("x", &[1, 3, 8, 6])], nodes, constants);
    graph.constants.extend(step_in.into_iter().chain(step_out));
    graph
}

fn codes(model: &Model) -> Vec<Code> {
    let operators = model.operators.iter();
    operators.map(|operator| operator.code).collect()
}

/// What a constant holds, by its name.
fn data<'m>(model: &'m Model, name: &str) -> &'m crate::schema::Tensor {
    let mut tensors = model.tensors.iter();
    tensors.find(|tensor| tensor.name == name).unwrap()
}

#[test]
fn weights_and_images_have_their_channels_last() {
    let convolution = with_ints(
        Node::new("Conv", &["x", "w"], &["c"]),
        "pads",
        &[1, 1, 1, 1],
    );
    let nodes = vec![convolution, Node::new("Relu", &["c"], &["y"])];
    let weights = ("w", floats(&[4, 3, 3, 3]));
    let graph = graph(vec![value("x", &[1, 3, 8, 6])], nodes, vec![weights]);
    let model = model(&graph, Interpreter::TfLite).unwrap();
    assert_eq!(codes(&model), [Code::Conv2d, Code::Transpose]);
    assert_eq!(model.tensors[model.inputs[0]].shape, [1, 8, 6, 3]);
    assert_eq!(model.tensors[model.outputs[0]].shape, [1, 4, 8, 6]);
    let weights = data(&model, "w");
    assert_eq!(weights.shape, [4, 3, 3, 3]);
    let bytes = weights.data.as_ref().unwrap();
    // The second element is that of the next input channel.
    assert_eq!(bytes[4..8], 9f32.to_le_bytes());
    let Options::Conv {
        padding,
        activation,
        ..
    } = model.operators[0].options
    else {
        panic!("{:?}", model.operators[0])
    };
    assert_eq!((padding, activation), (Padding::Same, Activation::Relu));
}

#[test]
fn between_rounded_activations_layers_compute_on_int8() {
    let clamp = Node::new("Relu", &["c"], &["y"]);
    let model = model(&rounded_convolution(vec![clamp], "y"), Interpreter::TfLite).unwrap();
    let expected = [
        Code::Quantize,
        Code::Conv2d,
        Code::Dequantize,
        Code::Transpose,
    ];
    let mut found = codes(&model);
    found.sort_by_key(|code| expected.iter().position(|known| known == code));
    assert_eq!(found, expected);
    let convolution = &model.operators[1];
    let at = |place: usize| &model.tensors[convolution.inputs[place]];
    let input = at(0).quantization.as_ref().unwrap();
    assert_eq!((input.scales[0], input.zero_point), (0.5, 10));
    assert_eq!(at(1).quantization.as_ref().unwrap().axis, 0);
    // The second bias is 1, the unit of its sums 0.5 * 0.25.
    assert_eq!(at(2).element, TensorType::Int32);
    assert_eq!(at(2).data.as_ref().unwrap()[4..8], 8i32.to_le_bytes());
    let output = &model.tensors[convolution.outputs[0]];
    assert_eq!(output.quantization.as_ref().unwrap().zero_point, -128);
    // What is rounded to numbers from 0 on needs no clamp.
    let Options::Conv { activation, .. } = convolution.options else {
        panic!("{convolution:?}")
    };
    assert_eq!(activation, Activation::None);
}

#[test]
fn weights_of_few_numbers_have_4_bits_where_runtimes_take_them() {
    let weights = |graph: &Graph, interpreter| {
        let model = model(graph, interpreter).unwrap();
        let tensor = data(&model, "w");
        (tensor.element, tensor.data.clone().unwrap())
    };
    let with_numbers = |numbers: Vec<i8>| {
        let mut graph = rounded_convolution(Vec::new(), "c");
        let tensor = Tensor::new(vec![4, 3, 3, 3], TensorData::I8(numbers)).unwrap();
        graph.constants.insert("codes".to_owned(), tensor);
        graph
    };
    let mut numbers = vec![0; 108];
    // The first two input channels of the first place.
    (numbers[0], numbers[9]) = (-8, 7);
    let graph = with_numbers(numbers.clone());
    let (element, packed) = weights(&graph, Interpreter::TfLite);
    assert_eq!(
        (element, packed.len(), packed[0]),
        (TensorType::Int4, 54, 0x78)
    );
    assert_eq!(weights(&graph, Interpreter::Micro).0, TensorType::Int8);
    numbers[107] = 8;
    let graph = with_numbers(numbers);
    assert_eq!(weights(&graph, Interpreter::TfLite).0, TensorType::Int8);
}

#[test]
fn rounding_behind_what_moves_elements_is_done_before_it() {
    let pool = with_ints(
        Node::new("MaxPool", &["c"], &["m"]),
        "kernel_shape",
        &[2, 2],
    );
    let turn = with_ints(
        Node::new("Transpose", &["m"], &["y"]),
        "perm",
        &[0, 2, 3, 1],
    );
    let model = model(
        &rounded_convolution(vec![pool, turn], "y"),
        Interpreter::TfLite,
    )
    .unwrap();
    assert_eq!(
        codes(&model),
        [
            Code::Quantize,
            Code::Conv2d,
            Code::MaxPool2d,
            Code::Dequantize
        ]
    );
}

#[test]
fn layers_with_float_outputs_keep_their_int8_weights() {
    let mut graph = rounded_convolution(Vec::new(), "c");
    graph.outputs[0].name = "c".to_owned();
    let model = model(&graph, Interpreter::TfLite).unwrap();
    assert!(codes(&model).contains(&Code::Conv2d));
    assert_eq!(data(&model, "w").element, TensorType::Int8);
    let decoded = data(&model, "w/dequantized");
    assert_eq!(
        (decoded.element, &decoded.data),
        (TensorType::Float32, &None)
    );
}

#[test]
fn channels_last_inputs_are_not_moved() {
    let turned = with_ints(
        Node::new("Transpose", &["x"], &["t"]),
        "perm",
        &[0, 3, 1, 2],
    );
    let convolution = Node::new("Conv", &["t", "w"], &["c"]);
    let back = with_ints(
        Node::new("Transpose", &["c"], &["y"]),
        "perm",
        &[0, 2, 3, 1],
    );
    let weights = ("w", floats(&[4, 3, 3, 3]));
    let nodes = vec![turned, convolution, back];
    let graph = graph(vec![value("x", &[1, 8, 6, 3])], nodes, vec![weights]);
    assert_eq!(
        codes(&model(&graph, Interpreter::TfLite).unwrap()),
        [Code::Conv2d]
    );
}

#[test]
fn places_are_put_in_order_before_they_are_a_list() {
    let convolution = || Node::new("Conv", &["x", "w"], &["c"]);
    let weights = || ("w", floats(&[4, 3, 3, 3]));
    let lists = |nodes| {
        let inputs = vec![value("x", &[1, 3, 8, 6])];
        codes(&model(&graph(inputs, nodes, vec![weights()]), Interpreter::TfLite).unwrap())
    };
    let plain = vec![convolution(), Node::new("Flatten", &["c"], &["y"])];
    assert_eq!(lists(plain), [Code::Conv2d, Code::Transpose, Code::Reshape]);
    let pooled = vec![
        convolution(),
        Node::new("GlobalAveragePool", &["c"], &["p"]),
        Node::new("Flatten", &["p"], &["y"]),
    ];
    assert_eq!(lists(pooled), [Code::Conv2d, Code::Mean, Code::Reshape]);
}

#[test]
fn an_open_batch_is_one_image() {
    let mut input = value("x", &[1, 3, 8, 6]);
    input.shape.as_mut().unwrap()[0] = Dim::Symbol("N".to_owned());
    let nodes = vec![Node::new("Relu", &["x"], &["y"])];
    let model = model(&graph(vec![input], nodes, Vec::new()), Interpreter::TfLite).unwrap();
    assert_eq!(model.tensors[model.inputs[0]].shape, [1, 3, 8, 6]);
    assert_eq!(codes(&model), [Code::Relu]);
}

#[test]
fn files_begin_as_those_of_tflite_do() {
    let bytes = convert(&rounded_convolution(Vec::new(), "c"), Interpreter::TfLite).unwrap();
    assert_eq!(&bytes[4..8], b"TFL3");
}

#[test]
fn what_tflite_cannot_say_is_refused_by_name() {
    let image = || vec![value("x", &[1, 3, 8, 6])];
    let weights = vec![("w", floats(&[3, 4, 3, 3]))];
    let mut grouped = Node::new("ConvTranspose", &["x", "w"], &["y"]);
    grouped
        .attributes
        .insert("group".to_owned(), Attribute::Int(3));
    let volume = vec![value("x", &[1, 1, 4, 4, 4])];
    let volumes = vec![("w", floats(&[2, 1, 3, 3, 3]))];
    let dilated = with_ints(
        Node::new("MaxPool", &["x"], &["y"]),
        "kernel_shape",
        &[2, 2],
    );
    let dilated = with_ints(dilated, "dilations", &[2, 2]);
    let negative = vec![("p", list(&[0, 0, -1, 0, 0, 0, 0, 0]))];
    let cases = [
        (image(), Node::new("Erf", &["x"], &["y"]), vec![], "no form"),
        (
            volume,
            Node::new("Conv", &["x", "w"], &["y"]),
            volumes,
            "3 axes",
        ),
        (image(), dilated, vec![], "dilated"),
        (
            image(),
            Node::new("Pad", &["x", "p"], &["y"]),
            negative,
            "negative",
        ),
        (
            [image(), vec![value("w", &[4, 3, 3, 3])]].concat(),
            Node::new("Conv", &["x", "w"], &["y"]),
            vec![],
            "no constants",
        ),
        (image(), grouped, weights, "grouped"),
    ];
    for (inputs, node, constants, reason) in cases {
        let name = node.name.clone();
        let error =
            convert(&graph(inputs, vec![node], constants), Interpreter::TfLite).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let message = error.to_string();
        assert!(
            message.contains(&name) && message.contains(reason),
            "{message}"
        );
    }
}

#[test]
fn open_extents_and_other_types_are_refused() {
    let nodes = || vec![Node::new("Relu", &["x"], &["y"])];
    let mut open = value("x", &[1, 3, 8, 6]);
    open.shape.as_mut().unwrap()[2] = Dim::Symbol("height".to_owned());
    let error = convert(&graph(vec![open], nodes(), Vec::new()), Interpreter::TfLite).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OpenShape);
    let message = error.to_string();
    assert!(
        message.contains("'x'") && message.contains("height"),
        "{message}"
    );
    let other = Value {
        element_type: Some(ElementType::I64),
        ..value("x", &[1, 3])
    };
    let error = convert(
        &graph(vec![other], nodes(), Vec::new()),
        Interpreter::TfLite,
    )
    .unwrap_err();
    assert!(error.to_string().contains("'x' is int64"), "{error}");
}

#[test]
fn shared_weights_are_stored_once() {
    let layer = |input: &str, output: &str| Node::new("MatMul", &[input, "w"], &[output]);
    let nodes = |second: Node| {
        let join = Node::new("Add", &["a", "b"], &["c"]);
        vec![layer("x", "a"), second, join]
    };
    let len = |second: Node, weights: &[(&str, Tensor)]| {
        let inputs = vec![value("x", &[1, 64]), value("z", &[1, 64])];
        let graph = graph(inputs, nodes(second), weights.to_vec());
        convert(&graph, Interpreter::TfLite).unwrap().len()
    };
    let weights = floats(&[64, 64]);
    let bytes = 4 * 64 * 64;
    let shared = len(layer("z", "b"), &[("w", weights.clone())]);
    assert!(shared < bytes + 4096, "{shared}");
    // Equal ones under another name are.
    let copy = Node::new("MatMul", &["z", "v"], &["b"]);
    let equal = len(copy, &[("w", weights.clone()), ("v", weights)]);
    assert!(equal < bytes + 4096, "{equal}");
}

fn cast(mut node: Node, to: i64) -> Node {
    node.attributes.insert("to".to_owned(), Attribute::Int(to));
    node
}

/// The operators that a graph of one image and these nodes becomes.
fn codes_of(nodes: Vec<Node>, constants: Vec<(&str, Tensor)>) -> Vec<Code> {
    let graph = graph(vec![value("x", &[1, 3, 8, 6])], nodes, constants);
    codes(&model(&graph, Interpreter::TfLite).unwrap())
}

#[test]
fn peaks_are_compared_and_cast() {
    let pool = Node::new("MaxPool", &["x"], &["m"]);
    let pool = with_ints(pool, "kernel_shape", &[3, 3]);
    let nodes = vec![
        with_ints(pool, "pads", &[1, 1, 1, 1]),
        Node::new("Equal", &["m", "x"], &["is peak"]),
        cast(Node::new("Cast", &["is peak"], &["peaks"]), 1),
        Node::new("Mul", &["x", "peaks"], &["y"]),
    ];
    let graph = graph(vec![value("x", &[1, 3, 8, 6])], nodes, Vec::new());
    let model = model(&graph, Interpreter::TfLite).unwrap();
    let expected = [
        Code::MaxPool2d,
        Code::Equal,
        Code::Cast,
        Code::Mul,
        Code::Transpose,
    ];
    assert_eq!(codes(&model), expected);
    assert_eq!(data(&model, "is peak").element, TensorType::Bool);
    assert_eq!(data(&model, "peaks").element, TensorType::Float32);
    let types = [TensorType::Bool, TensorType::Float32];
    assert_eq!(model.operators[2].options, Options::Cast(types));
}

#[test]
fn booleans_are_combined_moved_and_choose() {
    let flags = vec![true, false, true, false, true, false];
    let flags = Tensor::new(vec![6], TensorData::Bool(flags)).unwrap();
    let turn = Node::new("Transpose", &["inside"], &["turned"]);
    let nodes = vec![
        Node::new("Greater", &["x", "row"], &["above"]),
        Node::new("Not", &["above"], &["below"]),
        Node::new("And", &["below", "flags"], &["inside"]),
        with_ints(turn, "perm", &[0, 1, 3, 2]),
        with_ints(
            Node::new("Transpose", &["x"], &["t"]),
            "perm",
            &[0, 1, 3, 2],
        ),
        Node::new("Where", &["turned", "t", "zero"], &["y"]),
    ];
    let zero = Tensor::new(Vec::new(), TensorData::F32(vec![0.0])).unwrap();
    let constants = vec![("row", floats(&[6])), ("flags", flags), ("zero", zero)];
    let graph = graph(vec![value("x", &[1, 3, 8, 6])], nodes, constants);
    let model = model(&graph, Interpreter::TfLite).unwrap();
    let expected = [
        Code::Greater,
        Code::LogicalNot,
        Code::LogicalAnd,
        Code::SelectV2,
        Code::Transpose,
    ];
    assert_eq!(codes(&model), expected);
    let flags = data(&model, "flags");
    assert_eq!(
        (flags.element, &*flags.shape),
        (TensorType::Bool, &[1, 1, 1, 6][..])
    );
    assert_eq!(flags.data, Some(vec![1, 0, 1, 0, 1, 0]));
}

#[test]
fn booleans_that_a_graph_gives_are_refused() {
    let nodes = vec![Node::new("Less", &["x", "x"], &["y"])];
    let graph = graph(vec![value("x", &[1, 3, 8, 6])], nodes, Vec::new());
    let error = convert(&graph, Interpreter::TfLite).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("output 'y' is an integer, a truth"), "{text}");
}

#[test]
fn normalized_lengths_are_roots_of_sums() {
    let norm = with_ints(Node::new("ReduceL2", &["x"], &["norm"]), "axes", &[1]);
    let least = Tensor::new(Vec::new(), TensorData::F32(vec![1e-12])).unwrap();
    let nodes = vec![
        norm,
        Node::new("Clip", &["norm", "least"], &["held"]),
        Node::new("Shape", &["x"], &["extents"]),
        Node::new("Expand", &["held", "extents"], &["wide"]),
        Node::new("Div", &["x", "wide"], &["y"]),
    ];
    let expected = [Code::Mul, Code::Sum, Code::Sqrt, Code::Maximum, Code::Div];
    assert_eq!(codes_of(nodes, vec![("least", least)]), expected);
}

#[test]
fn norms_are_sums_of_terms() {
    let cases: [(&str, &[Code]); 3] = [
        ("ReduceL1", &[Code::Abs, Code::Sum]),
        ("ReduceSumSquare", &[Code::Mul, Code::Sum]),
        ("ReduceLogSum", &[Code::Sum, Code::Log]),
    ];
    for (op_type, expected) in cases {
        let node = with_ints(Node::new(op_type, &["x"], &["y"]), "axes", &[2]);
        assert_eq!(codes_of(vec![node], Vec::new()), expected, "{op_type}");
    }
}

#[test]
fn values_are_expanded_where_their_readers_do_not_broadcast() {
    let pool = || Node::new("GlobalAveragePool", &["x"], &["p"]);
    let expand = || Node::new("Expand", &["p", "wide"], &["e"]);
    let wide = || vec![("wide", list(&[1, 1, 8, 6]))];
    let joined = Node::new("Concat", &["x", "e"], &["y"]);
    let expected = [
        Code::Mean,
        Code::BroadcastTo,
        Code::Concatenation,
        Code::Transpose,
    ];
    assert_eq!(codes_of(vec![pool(), expand(), joined], wide()), expected);
    let product = Node::new("Mul", &["x", "e"], &["y"]);
    let expected = [Code::Mean, Code::Mul, Code::Transpose];
    assert_eq!(codes_of(vec![pool(), expand(), product], wide()), expected);
    // Nobody else has the extents of the square.
    let square = Node::new("Mul", &["e", "e"], &["y"]);
    let expected = [Code::Mean, Code::BroadcastTo, Code::Mul, Code::Transpose];
    assert_eq!(codes_of(vec![pool(), expand(), square], wide()), expected);
}

#[test]
fn what_extents_and_constants_determine_is_folded() {
    let scalar = |value| Tensor::new(Vec::new(), TensorData::I64(vec![value])).unwrap();
    let nodes = vec![
        Node::new("Shape", &["x"], &["extents"]),
        Node::new("Gather", &["extents", "last"], &["width"]),
        Node::new("Range", &["zero", "width", "one"], &["places"]),
        cast(Node::new("Cast", &["places"], &["grid"]), 1),
        Node::new("Add", &["x", "grid"], &["moved"]),
        Node::new("Reshape", &["moved", "rows"], &["y"]),
    ];
    let constants = vec![
        ("last", scalar(3)),
        ("zero", scalar(0)),
        ("one", scalar(1)),
        ("rows", list(&[-1, 6])),
    ];
    let graph = graph(vec![value("x", &[1, 3, 8, 6])], nodes, constants);
    let model = model(&graph, Interpreter::TfLite).unwrap();
    assert_eq!(codes(&model), [Code::Add, Code::Reshape]);
    assert_eq!(data(&model, "grid").shape, [1, 1, 1, 6]);
    assert_eq!(model.tensors[model.outputs[0]].shape, [24, 6]);
}
