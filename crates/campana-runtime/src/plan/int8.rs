//! Finding what can be computed on codes: calibrated models round activations
//! to 256 levels, so that convolutions may multiply whole numbers.

mod concat;
mod weights;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use campana_ir::graph::{Attribute, Node};
use campana_ir::op::Op;
use campana_kernels::elementwise::Unary;
use campana_kernels::int8::{PackedWeights, QuantParams};

use super::{Constants, PlannedNode, UNBOUNDED, constant_call};
use crate::ops::{OWN_DOMAIN, elementwise_unary};

pub(super) use weights::pack;

/// Weights of a layer whose inputs are codes.
#[derive(Debug)]
pub(crate) struct Int8Layer {
    /// What the inputs stand for.
    pub(crate) input: QuantParams,
    pub(crate) weights: Int8Weights,
    /// Extents of the weights as ONNX has them.
    pub(crate) shape: Vec<usize>,
    /// The value of 1 in each output channel's weights.
    pub(crate) scales: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// The weights as they were, `[filters, channels of a group, taps]`; empty
    /// where they were not to be kept.
    pub(crate) numbers: Vec<i8>,
}

/// Whole numbers as a kernel reads them.
#[derive(Debug)]
pub(crate) enum Int8Weights {
    /// A matrix for each group; `joined` where a row of a window is one run.
    Groups {
        groups: Vec<PackedWeights>,
        joined: bool,
    },
    /// `[channels, taps]`.
    Depthwise(Vec<i8>),
}

impl Int8Layer {
    pub(crate) fn len_bytes(&self) -> usize {
        let weights = match &self.weights {
            Int8Weights::Groups { groups, .. } => groups.iter().map(PackedWeights::len_bytes).sum(),
            Int8Weights::Depthwise(weights) => weights.len(),
        };
        weights + size_of::<f32>() * (self.scales.len() + self.bias.len())
    }
}

/// What the codes of a quantization stand for, where they are bytes.
pub(crate) fn quant_params_of(node: &Node) -> Option<QuantParams> {
    if node.op_type != "QuantizeDequantize" || node.domain != OWN_DOMAIN {
        return None;
    }
    let number = |name: &str| match node.attributes.get(name) {
        Some(Attribute::Float(value)) => Some(*value),
        _ => None,
    };
    // Signed codes are unsigned ones, moved.
    let shift = match (number("low")?, number("high")?) {
        (0.0, 255.0) => 0.0,
        (-128.0, 127.0) => 128.0,
        _ => return None,
    };
    let scale = number("scale")?;
    let zero_point = number("zero_point")? + shift;
    let sound = scale.is_normal() && scale > 0.0 && (0.0..=255.0).contains(&zero_point);
    sound.then_some(QuantParams {
        scale,
        zero_point: zero_point as u8,
    })
}

/// Makes quantizations part of what computes their input, and clamping
/// activations part of the sums before them.
pub(super) fn fuse(
    nodes: &mut Vec<PlannedNode>,
    constants: &Constants<'_>,
    graph_outputs: &HashSet<&str>,
    opset: i64,
) {
    if !nodes
        .iter()
        .any(|planned| quant_params_of(&planned.node).is_some())
    {
        return;
    }
    let uses = use_counts(nodes);
    let only_use = |name: &str| uses.get(name) == Some(&1) && !graph_outputs.contains(name);
    concat::round_before(nodes, constants, only_use);
    let uses = use_counts(nodes);
    let only_use = |name: &str| uses.get(name) == Some(&1) && !graph_outputs.contains(name);
    let mut done: Vec<PlannedNode> = Vec::with_capacity(nodes.len());
    let mut makers: HashMap<String, usize> = HashMap::new();
    let mut codes: HashMap<String, QuantParams> = HashMap::new();
    for mut planned in nodes.drain(..) {
        // What was rounded like this and only moved about since is as it was.
        if let Some(params) = quant_params_of(&planned.node)
            && codes.get(&planned.node.inputs[0]) == Some(&params)
        {
            planned.node.op_type = "Identity".to_owned();
            planned.node.domain = String::new();
            planned.node.attributes.clear();
        }
        let target = planned
            .node
            .inputs
            .first()
            .filter(|name| only_use(name))
            .and_then(|name| makers.get(name).copied())
            .filter(|&at| done[at].quantize.is_none() && done[at].node.outputs.len() == 1);
        let at = match target {
            Some(at) if takes(&mut done[at], &planned, constants, opset) => {
                done[at].node.outputs[0] = planned.node.outputs[0].clone();
                at
            }
            _ => {
                done.push(planned);
                done.len() - 1
            }
        };
        for name in &done[at].node.outputs {
            makers.insert(name.clone(), at);
        }
        add_codes(&done[at], &mut codes, opset);
    }
    *nodes = done;
}

/// How often each value is read.
fn use_counts(nodes: &[PlannedNode]) -> HashMap<String, usize> {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for planned in nodes {
        for name in planned.node.inputs.iter().chain(&planned.residual) {
            *uses.entry(name.clone()).or_default() += 1;
        }
    }
    uses
}

/// Whether the maker of a node's input took the node into itself.
fn takes(
    maker: &mut PlannedNode,
    next: &PlannedNode,
    constants: &Constants<'_>,
    opset: i64,
) -> bool {
    if let Some(params) = quant_params_of(&next.node) {
        let own = quant_params_of(&maker.node).is_some();
        if !own {
            maker.quantize = Some(params);
        }
        return !own;
    }
    let is_clamp = matches!(next.node.op_type.as_str(), "Relu" | "Clip");
    let bounds_are_constant = next.node.inputs[1..]
        .iter()
        .all(|name| name.is_empty() || constants.contains_key(name));
    if !is_clamp || !bounds_are_constant || maker.node.op_type != "Add" || maker.bounds != UNBOUNDED
    {
        return false;
    }
    let call = constant_call(&next.node, opset, |name| {
        constants.get(name).map(Cow::as_ref)
    });
    if let Ok(Some(Unary::Clamp { at_least, at_most })) = elementwise_unary(&call) {
        maker.bounds = [at_least, at_most];
        return true;
    }
    false
}

/// What the values that are codes stand for, by name.
pub(super) fn codes(nodes: &[PlannedNode], opset: i64) -> HashMap<String, QuantParams> {
    let mut codes: HashMap<String, QuantParams> = HashMap::new();
    for planned in nodes {
        add_codes(planned, &mut codes, opset);
    }
    codes
}

/// Adds what a node's outputs stand for, where they are codes.
fn add_codes(planned: &PlannedNode, codes: &mut HashMap<String, QuantParams>, opset: i64) {
    let node = &planned.node;
    let of = |name: &String| codes.get(name).copied();
    let op = Op::parse(node, opset).ok();
    let moved = || match op {
        Some(Op::Concat { .. }) => {
            let first = node.inputs.first().and_then(of);
            first.filter(|_| node.inputs.iter().all(|name| of(name) == first))
        }
        _ => node.inputs.first().and_then(of),
    };
    let made = planned.quantize.or(quant_params_of(node));
    let outputs = match (&op, made) {
        (Some(Op::Concat { .. }), _) | (_, Some(_)) => 1,
        (op, None) => op.as_ref().map_or(0, Op::moved_outputs),
    };
    let Some(params) = made.or_else(moved) else {
        return;
    };
    for name in node.outputs.iter().take(outputs) {
        codes.insert(name.clone(), params);
    }
}
