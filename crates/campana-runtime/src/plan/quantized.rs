//! Joining a quantization and the dequantization after it: what calibrated
//! models do to every activation becomes one pass over floats.

use std::collections::{HashMap, HashSet};

use campana_ir::graph::{Attribute, Node};
use campana_tensor::{Tensor, TensorData};

use super::{Constants, PlannedNode};
use crate::ops::{OWN_DOMAIN, code_range};

/// Replaces each pair with the same scalar parameters by one node.
pub(super) fn join(
    nodes: &mut Vec<PlannedNode>,
    constants: &Constants<'_>,
    graph_outputs: &HashSet<&str>,
) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for name in nodes.iter().flat_map(|planned| &planned.node.inputs) {
        *uses.entry(name.clone()).or_default() += 1;
    }
    let mut quantized: HashMap<String, (usize, [f32; 4])> = HashMap::new();
    let mut joined = HashSet::new();
    for i in 0..nodes.len() {
        let node = &nodes[i].node;
        if node.inputs.is_empty() {
            continue;
        }
        match node.op_type.as_str() {
            "QuantizeLinear" => {
                if let Some(parameters) = parameters(node, constants) {
                    quantized.insert(node.outputs[0].clone(), (i, parameters));
                }
            }
            "DequantizeLinear" => {
                let Some(&(first, known)) = quantized.get(&node.inputs[0]) else {
                    continue;
                };
                if parameters(node, constants) != Some(known) {
                    continue;
                }
                let [scale, zero_point, low, high] = known;
                let attributes = [
                    ("scale", scale),
                    ("zero_point", zero_point),
                    ("low", low),
                    ("high", high),
                ];
                let codes = node.inputs[0].clone();
                nodes[i].node = Node {
                    name: node.name.clone(),
                    op_type: "QuantizeDequantize".into(),
                    domain: OWN_DOMAIN.into(),
                    inputs: vec![nodes[first].node.inputs[0].clone()],
                    outputs: node.outputs.clone(),
                    attributes: attributes
                        .map(|(name, value)| (name.to_owned(), Attribute::Float(value)))
                        .into(),
                };
                let left = uses.entry(codes.clone()).or_default();
                *left -= 1;
                if *left == 0 && !graph_outputs.contains(codes.as_str()) {
                    joined.insert(first);
                }
            }
            _ => {}
        }
    }
    let mut i = 0;
    nodes.retain(|_| {
        i += 1;
        !joined.contains(&(i - 1))
    });
}

/// Scale, zero point, lowest and highest code, where all are constant scalars.
fn parameters(node: &Node, constants: &Constants<'_>) -> Option<[f32; 4]> {
    let constant =
        |index: usize| -> Option<&Tensor> { Some(constants.get(node.inputs.get(index)?)?) };
    let scale = match constant(1)?.data() {
        TensorData::F32(values) if values.len() == 1 => values[0],
        _ => return None,
    };
    // Without a zero point the type of the codes is not said here.
    let zeros = constant(2)?.data();
    let zero_point = match zeros {
        TensorData::U8(values) if values.len() == 1 => f32::from(values[0]),
        TensorData::I8(values) if values.len() == 1 => f32::from(values[0]),
        TensorData::U16(values) if values.len() == 1 => f32::from(values[0]),
        TensorData::I16(values) if values.len() == 1 => f32::from(values[0]),
        _ => return None,
    };
    let (low, high) = code_range(zeros.element_type()).ok()?;
    Some([scale, zero_point, low as f32, high as f32])
}
