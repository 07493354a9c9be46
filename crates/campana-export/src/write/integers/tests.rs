use campana_calibrate::{QuantizedNetwork, Samples, calibrate};
use campana_ir::format::onnx;
use campana_onnx::{Content, Dim, NewNode, NewTensor, NewValueInfo, Source, opset_import, schema};
use campana_quantize::{
    Options, RangeMethod, Silent, Target, quantize, quantized_graph, round_levels,
};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::{Granularity, Tensor};

use super::*;
use crate::small_models::numbers;
use crate::{OutputModel, Placement};

/// Share of the largest output that rounding may change.
const MAX_RELATIVE_ERROR: f32 = 0.02;

/// A convolution, a normalization of four channels, clamping, pooling and a dense layer.
fn model(gains: [f32; 4], variances: [f32; 4]) -> Model {
    let floats = |name: &str, dims: &[usize], values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        NewTensor::raw(name, dims, ElementType::F32, bytes)
    };
    let value = |name: &str, dims: &[i64]| {
        let dims: Vec<_> = dims.iter().map(|&dim| Dim::Value(dim)).collect();
        NewValueInfo::tensor(name, ElementType::F32, Some(&dims))
    };
    let nodes = [
        NewNode::new("Conv", ["x", "w", "b"], ["conv"]),
        NewNode::new("BatchNormalization", ["conv", "g", "o", "m", "v"], ["norm"]),
        NewNode::new("Relu", ["norm"], ["relu"]),
        NewNode::new("Flatten", ["relu"], ["flat"]),
        NewNode::new("Gemm", ["flat", "d", "e"], ["y"]),
    ];
    let tensors = [
        floats("w", &[4, 3, 3, 3], &numbers(1, 108)),
        floats("b", &[4], &numbers(2, 4)),
        floats("g", &[4], &gains),
        floats("o", &[4], &[0.3, 0.4, 0.2, 0.1]),
        floats("m", &[4], &numbers(3, 4)),
        floats("v", &[4], &variances),
        floats("d", &[64, 32], &numbers(4, 64 * 32)),
        floats("e", &[32], &numbers(5, 32)),
    ];
    let mut graph = Content::default().string(schema::graph::NAME, "net");
    for node in nodes {
        graph = graph.message(schema::graph::NODE, node);
    }
    for tensor in tensors {
        graph = graph.message(schema::graph::INITIALIZER, tensor);
    }
    let graph = graph
        .message(schema::graph::INPUT, value("x", &[1, 3, 6, 6]))
        .message(schema::graph::OUTPUT, value("y", &[1, 32]));
    let bytes = Content::default()
        .int(schema::model::IR_VERSION, 8)
        .message(schema::model::GRAPH, graph)
        .message(schema::model::OPSET_IMPORT, opset_import("", 13))
        .into_bytes()
        .unwrap();
    Model::parse(Source::from_bytes(bytes)).unwrap()
}

/// The model in integers, with its activations rounded as images show.
fn integers_of(model: &Model) -> Model {
    let options = Options {
        bits: 8,
        granularity: Granularity::PerChannel,
        target: Target::Int8,
        ..Options::default()
    };
    let mut quantized = quantize(model, &options, &Silent).unwrap();
    round_levels(&mut quantized, Target::Int8);
    let graph = quantized_graph(model, &quantized).unwrap();
    let samples = Samples::Images {
        shape: vec![8, 3, 6, 6],
        data: numbers(6, 8 * 108),
    };
    let method = RangeMethod::MinMax;
    let network = QuantizedNetwork {
        graph: &graph,
        integer_weights: &quantized.changed_names().collect(),
        original: None,
    };
    let ranges = calibrate(network, &samples, method, Target::Int8, 1, &Silent).unwrap();
    let placement = Placement::of("in.onnx".as_ref(), "out.onnx".as_ref());
    let written = OutputModel::new(model, &quantized, &ranges.scales, Target::Int8, &placement);
    let mut bytes = Vec::new();
    written.unwrap().write(&mut bytes).unwrap();
    Model::parse(Source::from_bytes(bytes)).unwrap()
}

fn outputs(model: &Model) -> Vec<f32> {
    let graph = onnx::graph(model).unwrap();
    let session = Session::new(Plan::new(&graph, PlanOptions::default()).unwrap(), 1);
    let image = Tensor::new(vec![1, 3, 6, 6], TensorData::F32(numbers(7, 108))).unwrap();
    let outputs = session.run(&[("x", Input::Tensor(&image))]).unwrap();
    match outputs[0].data() {
        TensorData::F32(values) => values.clone(),
        other => panic!("{:?} for an output", other.element_type()),
    }
}

#[test]
fn normalizations_become_part_of_their_layers() {
    let cases = [
        ("plain", [1.0, 0.8, 1.2, 0.9], [0.5, 1.0, 1.5, 1.0]),
        (
            "negative gain",
            [-1.0, 0.8, -1.2, 0.9],
            [0.5, 1.0, 1.5, 1.0],
        ),
        (
            "channel of a bias alone",
            [1.0, 0.0, 1e-12, 0.9],
            [0.5, 1.0, 1.5, 1e6],
        ),
    ];
    for (name, gains, variances) in cases {
        let model = model(gains, variances);
        let integers = integers_of(&model);
        let count = |op_type: &str| {
            let nodes = integers.graph.nodes.iter();
            nodes.filter(|node| node.op_type == op_type).count()
        };
        assert_eq!(count("BatchNormalization"), 0, "{name}");
        // Image, clamped sums, the same flattened; behind them, two weights and two biases.
        assert_eq!(count("QuantizeLinear"), 3, "{name}");
        assert_eq!(count("DequantizeLinear"), 3 + 4, "{name}");
        let (expected, found) = (outputs(&model), outputs(&integers));
        let largest = expected.iter().fold(0f32, |max, v| max.max(v.abs()));
        for (expected, found) in expected.iter().zip(&found) {
            let error = (expected - found).abs() / largest;
            assert!(error < MAX_RELATIVE_ERROR, "{name}: {found} for {expected}");
        }
    }
}

#[test]
fn biases_are_whole_numbers_in_units_of_the_sums() {
    let integers = integers_of(&model([1.0; 4], [1.0; 4]));
    let network = onnx::graph(&integers).unwrap();
    let floats = |name: &str| match network.constants[name].data() {
        TensorData::F32(values) => values.clone(),
        other => panic!("{name} is {:?}", other.element_type()),
    };
    let input_of = |node: &Node, index: usize| -> Node {
        let makes = |maker: &&Node| maker.outputs.contains(&node.inputs[index]);
        integers.graph.nodes.iter().find(makes).unwrap().clone()
    };
    for node in &integers.graph.nodes {
        if !matches!(node.op_type.as_str(), "Conv" | "Gemm") {
            continue;
        }
        let [input, weights, bias] = [0, 1, 2].map(|index| input_of(node, index));
        let units = input_of(&bias, 1);
        assert_eq!(units.op_type, "Mul");
        assert_eq!(units.inputs[0], weights.inputs[1], "{}", node.op_type);
        assert_eq!(floats(&units.inputs[1]), floats(&input.inputs[1]));
        let kind = network.constants[&bias.inputs[0]].data().element_type();
        assert_eq!(kind, ElementType::I32);
    }
}
