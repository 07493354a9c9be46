use campana_design::Method;
use campana_ir::decoder::encode::{Decoder, decoded_len_bytes};
use campana_ir::format::onnx;
use campana_onnx::{
    AttributeValue, Dim, NewAttribute, NewNode, NewTensor, NewValueInfo, Node, Source, opset_import,
};
use campana_quantize::{MethodChoice, Options, Silent, quantize, round_levels};
use campana_tensor::Granularity;

use super::*;
use crate::small_models::SmallGraph;

/// Longer than any short length that is stored in one byte, so that no change
/// of the graph changes the size of its own length.
const LONG_NAME: [u8; 200] = [b'n'; 200];

/// A convolution of 16 x 16 filters.
fn model() -> Model {
    let weights = (0..16 * 16 * 9).flat_map(|i| {
        let weight = (i as f32 * 0.7).sin().powi(3) * (1.0 + (i / 144) as f32);
        weight.to_le_bytes()
    });
    let weights = NewTensor::raw(
        "conv.weight",
        &[16, 16, 3, 3],
        ElementType::F32,
        weights.collect::<Vec<u8>>(),
    );
    let value = |name: &str| {
        let dims = [1, 16, 6, 6].map(Dim::Value);
        NewValueInfo::tensor(name, ElementType::F32, Some(&dims))
    };
    let name = String::from_utf8_lossy(&LONG_NAME);
    let graph = Content::default()
        .string(schema::graph::NAME, &name)
        .message(
            schema::graph::NODE,
            NewNode::new("Conv", ["x", "conv.weight"], ["y"]),
        )
        .message(schema::graph::INITIALIZER, weights)
        .message(schema::graph::INPUT, value("x"))
        .message(schema::graph::OUTPUT, value("y"));
    let bytes = Content::default()
        .int(schema::model::IR_VERSION, 8)
        .message(schema::model::GRAPH, graph)
        .message(
            schema::model::OPSET_IMPORT,
            opset_import("", Decoder::MIN_OPSET),
        )
        .into_bytes()
        .unwrap();
    Model::parse(Source::from_bytes(bytes)).unwrap()
}

/// What writing takes beyond the model without the weights and the price of
/// the quantized ones.
fn beyond_the_price(bits: u8, granularity: Granularity) -> u64 {
    let model = model();
    let options = Options {
        bits,
        method: MethodChoice::Fixed(Method::Minmax),
        granularity,
        ..Options::default()
    };
    let quantized = quantize(&model, &options, &Silent).unwrap();
    let outcome = &quantized.tensors[0];
    let tensor = outcome.quantized.as_ref().expect("quantized");
    let mut without = Edits::new(&model);
    without.remove(outcome.tensor.proto.message);
    let placement = Placement::of("in.onnx".as_ref(), "out.onnx".as_ref());
    let written = OutputModel::new(&model, &quantized, &[], Target::Lut, &placement).unwrap();
    let written = written.len_bytes().unwrap();
    let price = decoded_len_bytes(tensor, outcome.tensor.name);
    written - without.encoded_len().unwrap() - price
}

#[test]
fn the_price_of_a_tensor_is_what_is_written_of_it() {
    for bits in 1..=8 {
        let per_tensor = beyond_the_price(bits, Granularity::PerTensor);
        // The table of what a byte holds is for all tensors.
        assert_eq!(per_tensor == 0, bits == 8, "{bits} bits: {per_tensor}");
        for granularity in [Granularity::PerChannel, Granularity::PerGroup(36)] {
            let other = beyond_the_price(bits, granularity);
            assert_eq!(other, per_tensor, "{bits} bits, {granularity}");
        }
    }
}

fn scale(name: &str, scale: f32) -> ActivationScale {
    ActivationScale {
        name: name.to_owned(),
        scale,
        zero_point: 128,
    }
}

/// The model quantized to 4 bits (8 for int8) and written.
fn written(model: &Model, target: Target, activations: &[ActivationScale]) -> Model {
    let options = Options {
        bits: if target == Target::Int8 { 8 } else { 4 },
        granularity: Granularity::PerChannel,
        target,
        ..Options::default()
    };
    let mut quantized = quantize(model, &options, &Silent).expect("quantized");
    round_levels(&mut quantized, target);
    let placement = Placement::of("in.onnx".as_ref(), "out.onnx".as_ref());
    let output = OutputModel::new(model, &quantized, activations, target, &placement);
    let mut bytes = Vec::new();
    output.expect("a form").write(&mut bytes).expect("bytes");
    Model::parse(Source::from_bytes(bytes)).expect("a model")
}

fn maker<'m>(model: &'m Model, name: &str) -> &'m Node {
    let makes = |node: &&Node| node.outputs.iter().any(|output| output == name);
    let mut nodes = model.graph.nodes.iter();
    nodes
        .find(makes)
        .unwrap_or_else(|| panic!("nothing makes '{name}'"))
}

/// A convolution with a bias, as large as a decoder pays for.
fn conv_net(ir_version: i64, bias: &[f32]) -> Model {
    SmallGraph::new()
        .ir_version(ir_version)
        .input("x", &[1, 16, 8, 8])
        .weights("w", &[32, 16, 3, 3])
        .floats("b", &[32], bias)
        .node(NewNode::new("Conv", ["x", "w", "b"], ["y"]))
        .output("y", &[1, 32, 6, 6])
        .into_model()
}

#[test]
fn each_new_initializer_is_an_input_below_ir_version_4() {
    let model = conv_net(3, &[0.1; 32]);
    for target in [Target::Lut, Target::W4a8, Target::Int8] {
        let written = written(&model, target, &[scale("x", 0.02)]);
        for tensor in &written.graph.initializers {
            let mut inputs = written.graph.inputs.iter();
            assert!(
                inputs.any(|input| input.name == tensor.name),
                "{target}: {}",
                tensor.name
            );
        }
    }
}

#[test]
fn coded_weights_reach_their_layer_as_8_bit_integers() {
    let model = conv_net(8, &[0.1; 32]);
    let written = written(&model, Target::W4a8, &[scale("x", 0.02)]);
    let conv = maker(&written, "y");
    let decoded = maker(&written, &conv.inputs[1]);
    assert_eq!(decoded.op_type, "DequantizeLinear");
    let levels = maker(&written, &decoded.inputs[0]);
    assert_eq!(levels.op_type, "Gather");
    let bias = maker(&written, &conv.inputs[2]);
    assert_eq!(bias.op_type, "DequantizeLinear");
    // campana's own reader takes them as codes.
    let graph = onnx::graph(&written).expect("a graph");
    assert_eq!(graph.quantized.len(), 1);
    let expected = 4 * 32 * 16 * 9 / 8;
    let stored = written
        .graph
        .initializers
        .iter()
        .find(|tensor| tensor.name == "q0");
    assert_eq!(stored.expect("codes").dims, [expected]);
}

#[test]
fn weights_of_a_product_of_floats_are_decoded_to_floats() {
    let model = SmallGraph::new()
        .input("x", &[1, 64])
        .weights("w", &[64, 96])
        .node(NewNode::new("MatMul", ["x", "w"], ["y"]))
        .output("y", &[1, 96])
        .into_model();
    for target in [Target::W4a8, Target::Int8] {
        let is_dequantized = |activations: &[ActivationScale]| {
            let written = written(&model, target, activations);
            let product = maker(&written, "y");
            maker(&written, &product.inputs[1]).op_type == "DequantizeLinear"
        };
        assert!(is_dequantized(&[scale("x", 0.02)]), "{target}");
        assert!(!is_dequantized(&[]), "{target}");
    }
}

#[test]
fn a_bias_beyond_the_accumulator_costs_only_its_channel() {
    let mut bias = [0.1; 32];
    bias[5] = 3e8;
    let model = conv_net(8, &bias);
    for target in [Target::W4a8, Target::Int8] {
        let written = written(&model, target, &[scale("x", 0.02)]);
        let graph = onnx::graph(&written).expect("a graph");
        let conv = maker(&written, "y");
        let bias = maker(&written, &conv.inputs[2]);
        let campana_tensor::TensorData::I32(units) = graph.constants[&bias.inputs[0]].data() else {
            panic!("a bias in units of its accumulator");
        };
        assert!(
            units.iter().all(|unit| unit.abs() <= 1 << 28),
            "{target}: {units:?}"
        );
        let scales = scales(&written, &graph, &bias.inputs[1]);
        let values: Vec<f32> = units
            .iter()
            .zip(&scales)
            .map(|(&u, s)| u as f32 * s)
            .collect();
        assert!((values[5] - 3e8).abs() < 3e3, "{target}: {}", values[5]);
        assert!((values[4] - 0.1).abs() < 1e-3, "{target}: {}", values[4]);
        if target == Target::W4a8 {
            let tensor = graph.quantized.values().next().expect("codes");
            let weights = tensor.dequantize();
            let float = crate::small_models::numbers(2, 32 * 144);
            let other = weights[..144].iter().zip(&float[..144]);
            assert!(
                other.clone().all(|(a, b)| (a - b).abs() < 0.1),
                "other channels stay"
            );
        }
    }
}

/// What a constant, or a Cast or Mul of constants, holds.
fn scales(model: &Model, graph: &campana_ir::graph::Graph, name: &str) -> Vec<f32> {
    use campana_tensor::TensorData;
    match graph.constants.get(name).map(campana_tensor::Tensor::data) {
        Some(TensorData::F32(values)) => return values.clone(),
        Some(TensorData::F16(values)) => return values.iter().map(|v| v.to_f32()).collect(),
        _ => {}
    }
    let node = maker(model, name);
    let first = scales(model, graph, &node.inputs[0]);
    if node.op_type == "Cast" {
        return first;
    }
    let factor = scales(model, graph, &node.inputs[1])[0];
    first.into_iter().map(|value| value * factor).collect()
}

fn branch(name: &str) -> Content<'static> {
    SmallGraph::new()
        .weights("w", &[32, 16, 3, 3])
        .node(NewNode::new("Conv", ["x", "w"], [name]))
        .output(name, &[1, 32, 6, 6])
        .into_fields()
}

#[test]
fn weights_of_branches_are_decoded_inside_of_them() {
    let node = NewNode::new("If", ["c"], ["y"])
        .attribute("then_branch", NewAttribute::Graph(branch("a")))
        .attribute("else_branch", NewAttribute::Graph(branch("b")));
    let model = SmallGraph::new()
        .input("x", &[1, 16, 8, 8])
        .input("c", &[])
        .node(node)
        .output("y", &[1, 32, 6, 6])
        .into_model();
    for target in [Target::Lut, Target::W4a8, Target::Int8] {
        let written = written(&model, target, &[]);
        let node = maker(&written, "y");
        for attribute in &node.attributes {
            let AttributeValue::Graph(graph) = &attribute.value else {
                panic!("a graph");
            };
            assert!(graph.initializers.is_empty(), "no weights stay float");
            let place = |name: &str| {
                let makes = |node: &Node| node.outputs.iter().any(|output| output == name);
                graph.nodes.iter().position(makes)
            };
            assert!(place("w").expect("a decoder") < graph.nodes.len() - 1);
            assert_eq!(graph.nodes.last().expect("the layer").op_type, "Conv");
        }
        // What both branches need stands before them.
        let made: Vec<_> = written
            .graph
            .nodes
            .iter()
            .map(|node| node.op_type.as_str())
            .collect();
        assert_eq!(made.last(), Some(&"If"));
        assert!(made.contains(&"Cast"));
    }
}

#[test]
fn dilated_averages_read_values_that_are_not_rounded() {
    let pool = NewNode::new("AveragePool", ["c"], ["p"])
        .attribute("kernel_shape", vec![2, 2])
        .attribute("dilations", vec![2, 2]);
    let model = SmallGraph::new()
        .opset(19)
        .input("x", &[1, 16, 8, 8])
        .weights("w", &[32, 16, 3, 3])
        .weights("v", &[8, 32, 1, 1])
        .node(NewNode::new("Conv", ["x", "w"], ["c"]))
        .node(pool)
        .node(NewNode::new("Conv", ["p", "v"], ["y"]))
        .output("y", &[1, 8, 4, 4])
        .into_model();
    let scales = ["x", "c", "p"].map(|name| scale(name, 0.02));
    let written = written(&model, Target::Int8, &scales);
    let pool = written
        .graph
        .nodes
        .iter()
        .find(|node| node.op_type == "AveragePool");
    let input = maker(&written, &pool.expect("the pool").inputs[0]);
    assert_eq!(input.op_type, "Conv");
}

#[test]
fn steps_of_averages_are_no_finer_than_runtimes_take() {
    let model = SmallGraph::new()
        .input("x", &[1, 16, 8, 8])
        .weights("w", &[32, 16, 3, 3])
        .node(NewNode::new("Conv", ["x", "w"], ["c"]))
        .node(NewNode::new("GlobalAveragePool", ["c"], ["p"]))
        .node(NewNode::new("Relu", ["p"], ["y"]))
        .output("y", &[1, 32, 1, 1])
        .into_model();
    let scales = [scale("c", 1.0), scale("p", 1e-6)];
    let kept = activations::within_range(&model, &scales);
    assert_eq!(kept[0], scales[0]);
    assert_eq!(kept[1].scale, 1.0 / 128.0);
    assert_eq!(kept[1].zero_point, 0);
}

#[test]
fn a_table_for_one_small_tensor_is_not_paid_for() {
    let model = SmallGraph::new()
        .input("x", &[1, 16, 8, 8])
        .weights("w", &[16, 1, 3, 3])
        .node(NewNode::new("Conv", ["x", "w"], ["y"]).attribute("group", 16))
        .output("y", &[1, 16, 6, 6])
        .into_model();
    for bits in 1..=8 {
        let options = Options {
            bits,
            granularity: Granularity::PerTensor,
            ..Options::default()
        };
        let quantized = quantize(&model, &options, &Silent).expect("quantized");
        let placement = Placement::of("in.onnx".as_ref(), "out.onnx".as_ref());
        let output = OutputModel::new(&model, &quantized, &[], Target::Lut, &placement);
        let len = output.expect("a form").len_bytes().expect("a length");
        assert!(len <= model.source().len(), "{bits} bits: {len} bytes");
    }
}
