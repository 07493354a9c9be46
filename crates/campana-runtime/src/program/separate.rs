//! Whether the images of a batch can be run one after another.
//!
//! They are then: the activations of one image stay in the caches, memory is
//! that of a batch of one, and threads take an image each.

use campana_ir::graph::{Attribute, Node};

use super::Program;
use crate::plan::Plan;

/// Whether running each image by itself (the program `single`) gives what
/// running the batch at once (`whole`) gives.
///
/// Nothing in the graph may work across the first axis, and every value's
/// shape must be that of one image but for that axis.
pub(crate) fn is_separable(plan: &Plan, whole: &Program, single: &Program, batch: usize) -> bool {
    let shapes_agree = || {
        whole.shapes.len() == single.shapes.len()
            && whole.shapes.iter().all(|(name, shape)| {
                let Some((first, rest)) = shape.split_first() else {
                    return false;
                };
                *first == batch
                    && single
                        .shapes
                        .get(name)
                        .and_then(|shape| shape.split_first())
                        .is_some_and(|(first, single)| *first == 1 && single == rest)
            })
    };
    !whole.mixes_batch
        && !single.mixes_batch
        && plan
            .nodes
            .iter()
            .all(|planned| is_per_image(plan, whole, &planned.node))
        && shapes_agree()
}

/// Whether an operator treats each index of the first axis by itself, given
/// that shapes agree and the steps found no mixing.
fn is_per_image(plan: &Plan, program: &Program, node: &Node) -> bool {
    let constant = |index: usize| {
        node.inputs
            .get(index)
            .is_none_or(|name| name.is_empty() || plan.constants.contains_key(name))
    };
    let rank = node
        .inputs
        .first()
        .and_then(|name| program.shapes.get(name))
        .map_or(0, |shape| shape.len() as i64);
    let axis = |default: i64| match node.attributes.get("axis") {
        Some(Attribute::Int(axis)) => *axis,
        _ => default,
    };
    let not_first = |axis: i64| axis != 0 && axis != -rank;
    match node.op_type.as_str() {
        "Conv"
        | "Relu"
        | "Clip"
        | "Sigmoid"
        | "HardSigmoid"
        | "HardSwish"
        | "LeakyRelu"
        | "Exp"
        | "Tanh"
        | "Elu"
        | "Selu"
        | "Gelu"
        | "Mish"
        | "Softplus"
        | "Softsign"
        | "Sqrt"
        | "Neg"
        | "Abs"
        | "Erf"
        | "Cast"
        | "Identity"
        | "Dropout"
        | "MaxPool"
        | "AveragePool"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "LRN"
        | "InstanceNormalization"
        | "Slice"
        | "Pad"
        | "Transpose"
        | "Reshape"
        | "Add"
        | "Sub"
        | "Mul"
        | "Div"
        | "DepthToSpace"
        | "SpaceToDepth" => true,
        "BatchNormalization" => (1..5).all(constant),
        "ConvTranspose" => (1..3).all(constant),
        "Flatten" => axis(1) == 1,
        "Concat" => not_first(axis(1)),
        "Softmax" | "LogSoftmax" => not_first(axis(if plan.opset < 13 { 1 } else { -1 })),
        "LayerNormalization" => not_first(axis(-1)),
        "Gemm" => {
            !matches!(node.attributes.get("transA"), Some(Attribute::Int(1)))
                // Packed: the bias has been found to be one row.
                && plan.nodes.iter().any(|p| std::ptr::eq(&p.node, node) && p.packed.is_some())
        }
        "MatMul" => {
            rank >= 2
                && plan
                    .nodes
                    .iter()
                    .any(|p| std::ptr::eq(&p.node, node) && p.packed.is_some())
        }
        _ => false,
    }
}
