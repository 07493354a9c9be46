//! Rounding of activations in ONNX: pairs of QuantizeLinear and
//! DequantizeLinear, which engines that compute on codes recognize and all
//! others compute as they stand.

use campana_ir::op::moves_elements;
use campana_onnx::{Content, Edits, Model, NewNode, NewTensor, schema};
use campana_quantize::ActivationScale;
use campana_tensor::ElementType;

use super::wiring::Wiring;

/// Oldest opset with QuantizeLinear.
pub(super) const MIN_OPSET: i64 = 10;

/// The values that only move codes of rounded values, with the scales of
/// these: runtimes recognize what moves codes by a pair behind it.
pub(super) fn moved(model: &Model, scales: &[ActivationScale]) -> Vec<ActivationScale> {
    let graph = &model.graph;
    let mut moved: Vec<ActivationScale> = Vec::new();
    for node in &graph.nodes {
        let (Some(input), Some(output)) = (node.inputs.first(), node.outputs.first()) else {
            continue;
        };
        let is_output = graph.outputs.iter().any(|value| value.name == *output);
        let is_input = |scale: &&ActivationScale| scale.name == *input;
        let from = scales.iter().chain(&moved).find(is_input).cloned();
        if let Some(from) = from
            && moves_elements(&node.op_type)
            && node.outputs.len() == 1
            && !is_output
            && !scales.iter().any(|scale| scale.name == *output)
        {
            let name = output.clone();
            moved.push(ActivationScale { name, ..from });
        }
    }
    moved
}

/// Puts a pair behind each of these values, so that everything that read the
/// value reads its rounded form.
pub(super) fn add_pairs(
    model: &Model,
    edits: &mut Edits<'_>,
    scales: &[ActivationScale],
    wiring: &mut Wiring<'_>,
    prefix: &str,
) {
    let graph = &model.graph;
    let mut before_all = Content::default();
    for (i, scale) in scales.iter().enumerate() {
        let name = |what: &str| format!("{prefix}a{i}{what}");
        let parameters = [
            NewTensor::raw(
                &name("s"),
                &[],
                ElementType::F32,
                scale.scale.to_le_bytes().to_vec(),
            ),
            NewTensor::raw(&name("z"), &[], ElementType::U8, vec![scale.zero_point]),
        ];
        for tensor in parameters {
            let field = Content::default().message(schema::graph::INITIALIZER, tensor);
            edits.append(graph.message, field);
        }
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
            let nodes: Vec<usize> = wiring.nodes().collect();
            for node in nodes {
                for index in 0..wiring.inputs(node).len() {
                    if wiring.inputs(node)[index] == scale.name {
                        wiring.set_input(node, index, rounded.clone());
                    }
                }
            }
            continue;
        };
        wiring.rename_output(maker, &scale.name, &raw);
        edits.insert_after(graph.nodes[maker].message, pair);
    }
    if let Some(first) = graph.nodes.first()
        && !before_all.is_empty()
    {
        edits.insert_before(first.message, before_all);
    }
}
