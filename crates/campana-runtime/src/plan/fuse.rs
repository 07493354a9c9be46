//! Making what follows a convolution part of it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use campana_kernels::elementwise::Unary;
use campana_tensor::{Tensor, TensorData};

use super::{Constants, PlannedNode, Quantized, UNBOUNDED, constant_call};
use crate::ops::elementwise_unary;
use crate::ops::normalize_affine;

/// Fuses batch normalization, residual sums and clamping activations into the
/// convolutions and matrix products before them.
pub(super) fn fuse(
    nodes: &mut Vec<PlannedNode>,
    constants: &mut Constants<'_>,
    quantized: &Quantized<'_>,
    graph_outputs: &HashSet<&str>,
    opset: i64,
) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for name in nodes.iter().flat_map(|planned| &planned.node.inputs) {
        *uses.entry(name.clone()).or_default() += 1;
    }
    let only_use = |name: &str| {
        uses.get(name) == Some(&1) && !graph_outputs.contains(name) && !name.is_empty()
    };
    let mut done: Vec<PlannedNode> = Vec::with_capacity(nodes.len());
    // The node that makes each value, by its place in `done`.
    let mut makers: HashMap<String, usize> = HashMap::new();
    for planned in nodes.drain(..) {
        let target = match planned.node.op_type.as_str() {
            "BatchNormalization" => fuse_normalization(
                &planned, &mut done, &makers, constants, quantized, only_use, opset,
            ),
            "Relu" | "Clip" => fuse_activation(
                &planned, &mut done, &makers, constants, quantized, only_use, opset,
            ),
            "Add" => fuse_sum(&planned, &mut done, &makers, constants, quantized, only_use),
            _ => None,
        };
        let at = match target {
            // The fused node moves to where its last operand is known.
            Some(at) => {
                let output = planned.node.outputs[0].clone();
                done[at].node.outputs[0] = output;
                at
            }
            None => {
                done.push(planned);
                done.len() - 1
            }
        };
        for name in &done[at].node.outputs {
            makers.insert(name.clone(), at);
        }
    }
    *nodes = in_order(done);
}

/// The node in `done` that makes this value and may take more into itself.
fn maker<'a>(
    name: &str,
    done: &'a mut [PlannedNode],
    makers: &HashMap<String, usize>,
    only_use: impl Fn(&str) -> bool,
) -> Option<(usize, &'a mut PlannedNode)> {
    let at = *makers.get(name).filter(|_| only_use(name))?;
    let planned = &mut done[at];
    let fusable = matches!(planned.node.op_type.as_str(), "Conv" | "Gemm" | "MatMul")
        && planned.bounds == UNBOUNDED
        && planned.node.domain.is_empty();
    fusable.then_some((at, planned))
}

/// Whether the weights of a node are constant: floats, or codes.
fn has_constant_weights(
    planned: &PlannedNode,
    constants: &Constants<'_>,
    quantized: &Quantized<'_>,
) -> bool {
    let weights = planned.node.inputs.get(1).map_or("", String::as_str);
    let constant = |index: usize| {
        let name = planned.node.inputs.get(index).map_or("", String::as_str);
        constants
            .get(name)
            .is_some_and(|t| matches!(t.data(), TensorData::F32(_)))
    };
    let bias = planned.node.inputs.get(2).map_or("", String::as_str);
    (quantized.contains_key(weights) || constant(1)) && (bias.is_empty() || constant(2))
}

fn weights_shape<'a>(
    planned: &PlannedNode,
    constants: &'a Constants<'_>,
    quantized: &'a Quantized<'_>,
) -> Option<&'a [usize]> {
    let name = planned.node.inputs.get(1)?.as_str();
    match quantized.get(name) {
        Some(tensor) => Some(&tensor.shape),
        None => Some(constants.get(name)?.shape()),
    }
}

fn fuse_normalization(
    planned: &PlannedNode,
    done: &mut [PlannedNode],
    makers: &HashMap<String, usize>,
    constants: &mut Constants<'_>,
    quantized: &Quantized<'_>,
    only_use: impl Fn(&str) -> bool,
    opset: i64,
) -> Option<usize> {
    let (at, conv) = maker(planned.node.inputs.first()?, done, makers, only_use)?;
    if conv.node.op_type != "Conv"
        || conv.residual.is_some()
        || !has_constant_weights(conv, constants, quantized)
    {
        return None;
    }
    let call = constant_call(&planned.node, opset, |name| {
        constants.get(name).map(Cow::as_ref)
    });
    let (scale, offset) = normalize_affine(&call).ok()?;
    let filters = *weights_shape(conv, constants, quantized)?.first()?;
    if filters != scale.len() {
        return None;
    }
    let bias = match conv.node.inputs.get(2).and_then(|name| constants.get(name)) {
        Some(bias) => match bias.data() {
            TensorData::F32(bias) => bias.clone(),
            _ => return None,
        },
        None => vec![0.0; filters],
    };
    let bias = (0..filters)
        .map(|f| bias[f] * scale[f] + offset[f])
        .collect();
    let bias = Tensor::new(vec![filters], TensorData::F32(bias))?;
    // A name that no graph can contain: its own end where the zero begins.
    let name = format!("{}\0bias", planned.node.outputs[0]);
    conv.node.inputs.resize(3, String::new());
    conv.node.inputs[2].clone_from(&name);
    constants.insert(name, Cow::Owned(bias));
    // Weights stay as they are until they are laid out.
    if conv.factors.is_empty() {
        conv.factors = scale;
    } else {
        conv.factors
            .iter_mut()
            .zip(&scale)
            .for_each(|(f, s)| *f *= s);
    }
    Some(at)
}

fn fuse_activation(
    planned: &PlannedNode,
    done: &mut [PlannedNode],
    makers: &HashMap<String, usize>,
    constants: &Constants<'_>,
    quantized: &Quantized<'_>,
    only_use: impl Fn(&str) -> bool,
    opset: i64,
) -> Option<usize> {
    let input = planned.node.inputs.first()?;
    let bounds = &planned.node.inputs[1..];
    if bounds
        .iter()
        .any(|name| !name.is_empty() && !constants.contains_key(name))
    {
        return None;
    }
    let call = constant_call(&planned.node, opset, |name| {
        constants.get(name).map(Cow::as_ref)
    });
    let Unary::Clamp { at_least, at_most } = elementwise_unary(&call).ok()?? else {
        return None;
    };
    let (at, target) = maker(input, done, makers, only_use)?;
    if !has_constant_weights(target, constants, quantized) {
        return None;
    }
    target.bounds = [at_least, at_most];
    Some(at)
}

fn fuse_sum(
    planned: &PlannedNode,
    done: &mut [PlannedNode],
    makers: &HashMap<String, usize>,
    constants: &Constants<'_>,
    quantized: &Quantized<'_>,
    only_use: impl Fn(&str) -> bool + Copy,
) -> Option<usize> {
    let [left, right] = planned.node.inputs.as_slice() else {
        return None;
    };
    // The later of two makers, so that the other operand is known by then.
    let mut choices = [(left, right), (right, left)];
    choices.sort_by_key(|(name, _)| std::cmp::Reverse(makers.get(name.as_str()).copied()));
    for (name, other) in choices {
        if constants.contains_key(other.as_str()) || name == other {
            continue;
        }
        let Some((at, target)) = maker(name, done, makers, only_use) else {
            continue;
        };
        let dense_filters = has_constant_weights(target, constants, quantized)
            && target.node.op_type == "Conv"
            && weights_shape(target, constants, quantized).is_some_and(|shape| {
                // What no kernel takes has no place for a sum.
                matches!(shape, [_, channels, _] | [_, channels, _, _] if *channels > 1)
            });
        if target.residual.is_none() && dense_filters {
            target.residual = Some(other.clone());
            return Some(at);
        }
    }
    None
}

/// The nodes in an order in which they can run: fused ones wait for their residual.
fn in_order(nodes: Vec<PlannedNode>) -> Vec<PlannedNode> {
    let made: HashSet<String> = nodes
        .iter()
        .flat_map(|n| n.node.outputs.iter().cloned())
        .collect();
    let mut waiting = nodes;
    let mut known: HashSet<String> = HashSet::new();
    let mut result = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut later = Vec::new();
        for planned in waiting {
            let ready = planned
                .node
                .inputs
                .iter()
                .chain(&planned.residual)
                .all(|name| !made.contains(name) || known.contains(name));
            if ready {
                known.extend(planned.node.outputs.iter().cloned());
                result.push(planned);
            } else {
                later.push(planned);
            }
        }
        if later.len() == before {
            // A circle, which fusion makes none of; the compiler will name the value.
            result.extend(later);
            break;
        }
        waiting = later;
    }
    result
}
