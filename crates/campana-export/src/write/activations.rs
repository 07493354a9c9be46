//! Rounding of activations in ONNX: pairs of QuantizeLinear and
//! DequantizeLinear, which engines that compute on codes recognize and all
//! others compute as they stand.

use std::collections::HashSet;

use campana_ir::decoder::encode::StoredTensor;
use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_ir::op::moved_outputs;
use campana_onnx::{AttributeValue, Content, Edits, Model, NewNode, Node, schema};
use campana_quantize::{ActivationScale, QuantizedModel};
use campana_tensor::ElementType;

use super::initializers::{add_initializer, unused_prefix};
use super::wiring::Wiring;

/// Oldest opset with QuantizeLinear.
pub(super) const MIN_OPSET: i64 = 10;

/// The values that only move codes of rounded values, with the scales of
/// these: runtimes recognize what moves codes by a pair behind it.
pub(super) fn moved(model: &Model, scales: &[ActivationScale]) -> Vec<ActivationScale> {
    let graph = &model.graph;
    let mut moved: Vec<ActivationScale> = Vec::new();
    for node in &graph.nodes {
        let Some(input) = node.inputs.first() else {
            continue;
        };
        let is_input = |scale: &&ActivationScale| scale.name == *input;
        let from = scales.iter().chain(&moved).find(is_input).cloned();
        // Other outputs are the places of what is moved.
        let only_moves = moved_outputs(&node.op_type) >= node.outputs.len();
        let Some(from) = from.filter(|_| only_moves) else {
            continue;
        };
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            let is_output = graph.outputs.iter().any(|value| value.name == *output);
            if !is_output && !scales.iter().any(|scale| scale.name == *output) {
                let name = output.clone();
                moved.push(ActivationScale {
                    name,
                    ..from.clone()
                });
            }
        }
    }
    moved
}

/// Largest ratio of the scales of a pool's input and output: runtimes that
/// compute averages on codes take factors below 256.
const LARGEST_RATIO: f32 = 128.0;

/// The scales with those of averages within what runtimes compute: where a
/// pool's output is far smaller than one step of its input, its own steps
/// become larger.
pub(super) fn within_range(model: &Model, scales: &[ActivationScale]) -> Vec<ActivationScale> {
    let mut scales = scales.to_vec();
    let place = |scales: &[ActivationScale], name: &String| {
        scales.iter().position(|scale| scale.name == *name)
    };
    for node in &model.graph.nodes {
        let is_pool = matches!(node.op_type.as_str(), "AveragePool" | "GlobalAveragePool");
        if !is_pool {
            continue;
        }
        let ends = (node.inputs.first(), node.outputs.first());
        let (Some(input), Some(output)) = ends else {
            continue;
        };
        let scale_in = operand_scale(model, &scales, input);
        if let (Some(scale_in), Some(at)) = (scale_in, place(&scales, output)) {
            let least = scale_in / LARGEST_RATIO;
            let scale = &mut scales[at];
            if scale.scale < least {
                let zero = f32::from(scale.zero_point) * (scale.scale / least);
                scale.zero_point = zero.round() as u8;
                scale.scale = least;
            }
        }
    }
    scales
}

/// The scale of a value that is rounded, or moved about since it was.
pub(super) fn operand_scale(model: &Model, scales: &[ActivationScale], name: &str) -> Option<f32> {
    let mut name = name;
    loop {
        if let Some(found) = scales.iter().find(|scale| scale.name == name) {
            return Some(found.scale);
        }
        let makes = |node: &&Node| node.outputs.iter().any(|output| output == name);
        let maker = model.graph.nodes.iter().find(makes)?;
        if moved_outputs(&maker.op_type) == 0 {
            return None;
        }
        name = maker.inputs.first()?;
    }
}

/// Whether the form of an operator that computes on codes lacks one of the
/// node's attributes, so that its input must not look like codes.
fn lacks_integer_form(node: &Node) -> bool {
    let is_dilated = |node: &Node| match node.attribute("dilations").map(|found| &found.value) {
        Some(AttributeValue::Ints(dilations)) => dilations.iter().any(|&dilation| dilation != 1),
        _ => false,
    };
    node.op_type == "AveragePool" && is_dilated(node)
}

/// Outputs of the nodes whose weights stay floats. Where these read codes and
/// their result becomes codes, onnxruntime rounds their weights too, with one scale for
/// all.
pub(super) fn results_of_float_weights(
    network: &Graph,
    quantized: &QuantizedModel<'_>,
) -> HashSet<String> {
    let names: HashSet<&str> = quantized.changed_names().collect();
    // What cannot be analysed has no activations that are rounded.
    let Ok(analysed) = Network::new(network) else {
        return HashSet::new();
    };
    let analysed = analysed.with_integer_weights(|name| names.contains(name));
    let nodes = network.nodes.iter().enumerate();
    let floats = nodes.filter(|&(node, _)| analysed.has_float_weights(node));
    let results = floats.flat_map(|(_, node)| &node.outputs);
    results.cloned().collect()
}

/// Puts a pair behind each of these values, so that what read the value reads
/// its rounded form, but for nodes without a form on codes, those that give
/// `float_results` among them.
pub(super) fn add_pairs(
    model: &Model,
    edits: &mut Edits<'_>,
    scales: &[ActivationScale],
    float_results: &HashSet<String>,
    wiring: &mut Wiring<'_>,
) {
    let graph = &model.graph;
    let prefix = unused_prefix(model);
    let is_on_floats = |node: &Node| {
        let mut outputs = node.outputs.iter();
        lacks_integer_form(node) || outputs.any(|output| float_results.contains(output))
    };
    let mut before_all = Content::default();
    for (i, scale) in scales.iter().enumerate() {
        let name = |what: &str| format!("{prefix}a{i}{what}");
        let parameter = |what: &str, element_type, data| StoredTensor {
            name: name(what),
            dims: Vec::new(),
            element_type,
            data,
        };
        let step = scale.scale.to_le_bytes().to_vec();
        let zero = vec![scale.zero_point];
        add_initializer(model, edits, parameter("s", ElementType::F32, step));
        add_initializer(model, edits, parameter("z", ElementType::U8, zero));
        let maker = wiring.maker(&scale.name);
        // A node's output gets another name; an input of the graph keeps its
        // own, and its readers read another.
        let (raw, rounded) = match maker {
            Some(_) => (name("r"), scale.name.clone()),
            None => (scale.name.clone(), name("d")),
        };
        let parameters = [name("s"), name("z")];
        let operator = |op_type: &str, input: String, output: String| {
            let inputs = [vec![input], parameters.to_vec()].concat();
            NewNode::new(op_type, inputs, [output])
        };
        let pair = Content::default()
            .message(
                schema::graph::NODE,
                operator("QuantizeLinear", raw.clone(), name("q")),
            )
            .message(
                schema::graph::NODE,
                operator("DequantizeLinear", name("q"), rounded.clone()),
            );
        let Some(maker) = maker else {
            before_all = before_all.then(pair);
            wiring.redirect(&scale.name, &rounded, |node| !is_on_floats(node));
            continue;
        };
        wiring.rename_output(maker, &scale.name, &raw);
        wiring.redirect(&scale.name, &raw, is_on_floats);
        edits.insert_after(graph.nodes[maker].message, pair);
    }
    if let Some(first) = graph.nodes.first()
        && !before_all.is_empty()
    {
        edits.insert_before(first.message, before_all);
    }
}
