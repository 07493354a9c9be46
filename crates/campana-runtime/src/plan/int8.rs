//! Finding what can be computed on codes: calibrated models round activations
//! to 256 levels, so that convolutions may multiply whole numbers.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use campana_kernels::elementwise::Unary;
use campana_kernels::int8::{Affine, PackedWeights, StoredWeights};
use campana_model::graph::{Attribute, Node};
use campana_tensor::{Tensor, TensorData};

use super::pack::Packed;
use super::{Constants, PlannedNode, Quantized, UNBOUNDED, constant_call};
use crate::ops::{OWN_DOMAIN, elementwise_unary};

/// Whole numbers that weights become, on either side of zero.
const LARGEST: i32 = 127;

/// Operators that only move values: of codes they give codes of the same
/// scale.
pub const MOVES_CODES: [&str; 7] = [
    "MaxPool",
    "Slice",
    "Pad",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

/// How far from a whole number a weight may be, in units of its scale, to be one.
const WHOLE: f32 = 2e-3;

/// Weights of a layer whose inputs are codes.
#[derive(Debug)]
pub(crate) struct Int8Layer {
    /// What the inputs stand for.
    pub(crate) input: Affine,
    pub(crate) weights: Int8Weights,
    /// Extents of the weights as ONNX has them.
    pub(crate) shape: Vec<usize>,
    /// The value of 1 in each output channel's weights.
    pub(crate) scales: Vec<f32>,
    pub(crate) bias: Vec<f32>,
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
pub(crate) fn affine_of(node: &Node) -> Option<Affine> {
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
    sound.then_some(Affine {
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
        .any(|planned| affine_of(&planned.node).is_some())
    {
        return;
    }
    let mut uses: HashMap<String, usize> = HashMap::new();
    for planned in nodes.iter() {
        for name in planned.node.inputs.iter().chain(&planned.residual) {
            *uses.entry(name.clone()).or_default() += 1;
        }
    }
    let only_use = |name: &str| uses.get(name) == Some(&1) && !graph_outputs.contains(name);
    let mut done: Vec<PlannedNode> = Vec::with_capacity(nodes.len());
    let mut makers: HashMap<String, usize> = HashMap::new();
    let mut codes: HashMap<String, Affine> = HashMap::new();
    for mut planned in nodes.drain(..) {
        // What was rounded like this and only moved about since is as it was.
        if let Some(affine) = affine_of(&planned.node)
            && codes.get(&planned.node.inputs[0]) == Some(&affine)
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
        if let Some(affine) = codes_of(&done[at], &codes) {
            codes.insert(done[at].node.outputs[0].clone(), affine);
        }
    }
    *nodes = done;
}

/// Whether the maker of a node's input took the node into itself.
fn takes(
    maker: &mut PlannedNode,
    next: &PlannedNode,
    constants: &Constants<'_>,
    opset: i64,
) -> bool {
    if let Some(affine) = affine_of(&next.node) {
        let own = affine_of(&maker.node).is_some();
        if !own {
            maker.quantize = Some(affine);
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
    if let Ok(Unary::Clamp { at_least, at_most }) = elementwise_unary(&call) {
        maker.bounds = [at_least, at_most];
        return true;
    }
    false
}

/// What the values that are codes stand for, by name.
pub(super) fn codes(nodes: &[PlannedNode]) -> HashMap<String, Affine> {
    let mut codes: HashMap<String, Affine> = HashMap::new();
    for planned in nodes {
        if let Some(affine) = codes_of(planned, &codes) {
            codes.insert(planned.node.outputs[0].clone(), affine);
        }
    }
    codes
}

/// What a node's first output stands for, where it is codes.
fn codes_of(planned: &PlannedNode, codes: &HashMap<String, Affine>) -> Option<Affine> {
    let node = &planned.node;
    let kept = || {
        let op_type = node.op_type.as_str();
        let moves = MOVES_CODES.contains(&op_type) || op_type == "Identity";
        codes.get(node.inputs.first()?).copied().filter(|_| moves)
    };
    planned.quantize.or(affine_of(node)).or_else(kept)
}

/// The weights of a Conv, Gemm or MatMul over codes, and which inputs they replace.
pub(super) fn pack(
    planned: &PlannedNode,
    constants: &Constants<'_>,
    quantized: &Quantized<'_>,
    codes: &HashMap<String, Affine>,
    opset: i64,
) -> Option<(Packed, Vec<usize>)> {
    let node = &planned.node;
    let input = *codes.get(node.inputs.first()?)?;
    let constant = |index: usize| -> Option<&Tensor> {
        constants.get(node.inputs.get(index)?).map(Cow::as_ref)
    };
    // Codes are decoded for as long as their numbers are sought.
    let decoded;
    let (values, shape) = match quantized.get(node.inputs.get(1)?.as_str()) {
        Some(tensor) => {
            decoded = tensor.dequantize();
            (&decoded, tensor.shape.clone())
        }
        None => match constant(1)?.data() {
            TensorData::F32(values) => (values, constant(1)?.shape().to_vec()),
            _ => return None,
        },
    };
    let has_bias = node.inputs.get(2).is_some_and(|name| !name.is_empty());
    let call = constant_call(node, opset, |name| constants.get(name).map(Cow::as_ref));
    let bias_of = |len: usize, factor: f32| -> Option<Vec<f32>> {
        if !has_bias {
            return Some(vec![0.0; len]);
        }
        match constant(2)?.data() {
            TensorData::F32(bias) if bias.len() == len => {
                Some(bias.iter().map(|v| v * factor).collect())
            }
            _ => None,
        }
    };
    let (weights, mut scales, bias) = match node.op_type.as_str() {
        "Conv" => {
            let &[filters, channels, kh, kw] = &shape[..] else {
                return None;
            };
            let groups = usize::try_from(call.int("group", 1).ok()?).ok()?;
            if groups == 0
                || filters == 0
                || !filters.is_multiple_of(groups)
                || channels * kh * kw == 0
            {
                return None;
            }
            let (numbers, scales) = whole_rows(values, channels * kh * kw)?;
            let weights = if groups > 1 && channels == 1 && filters == groups {
                Int8Weights::Depthwise(numbers)
            } else {
                let dilations = call.ints("dilations").ok()?;
                let joined =
                    groups == 1 && dilations.is_none_or(|dilations| dilations.last() == Some(&1));
                let (runs, run_len) = if joined {
                    (kh, kw * channels)
                } else {
                    (kh * kw, channels)
                };
                let per_group = filters / groups;
                let matrices = (0..groups).map(|group| {
                    let number = |row: usize, column: usize| {
                        let (tap, channel) = (row / channels, row % channels);
                        numbers[((group * per_group + column) * channels + channel) * kh * kw + tap]
                    };
                    pack_matrix(runs, run_len, per_group, &number)
                });
                Int8Weights::Groups {
                    groups: matrices.collect(),
                    joined,
                }
            };
            (weights, scales, bias_of(filters, 1.0)?)
        }
        "Gemm" | "MatMul" => {
            let &[rows, columns] = &shape[..] else {
                return None;
            };
            let is_gemm = node.op_type == "Gemm";
            let flag = |name: &str| Some(is_gemm && call.int(name, 0).ok()? != 0);
            if flag("transA")? || rows * columns == 0 {
                return None;
            }
            let (alpha, beta) = if is_gemm {
                (
                    call.float("alpha", 1.0).ok()?,
                    call.float("beta", 1.0).ok()?,
                )
            } else {
                (1.0, 1.0)
            };
            let turned;
            let (values, depth, columns) = if flag("transB")? {
                (values, columns, rows)
            } else {
                let mut columns_first = vec![0.0; values.len()];
                campana_kernels::layout::transpose(values, rows, columns, &mut columns_first);
                turned = columns_first;
                (&turned, rows, columns)
            };
            let (numbers, mut scales) = whole_rows(values, depth)?;
            scales.iter_mut().for_each(|scale| *scale *= alpha);
            let number = |row: usize, column: usize| numbers[column * depth + row];
            let weights = Int8Weights::Groups {
                groups: vec![pack_matrix(1, depth, columns, &number)],
                joined: true,
            };
            let bias = if is_gemm {
                bias_of(columns, beta)?
            } else {
                vec![0.0; columns]
            };
            (weights, scales, bias)
        }
        _ => return None,
    };
    for (scale, factor) in scales.iter_mut().zip(&planned.factors) {
        *scale *= factor;
    }
    let layer = Int8Layer {
        input,
        weights,
        shape,
        scales,
        bias,
    };
    let replaced = if node.op_type == "MatMul" {
        vec![1]
    } else {
        vec![1, 2]
    };
    Some((Packed::Int8(Arc::new(layer)), replaced))
}

/// A matrix in as few bits as its numbers need.
fn pack_matrix(
    runs: usize,
    run_len: usize,
    columns: usize,
    number: &dyn Fn(usize, usize) -> i8,
) -> PackedWeights {
    let mut places = [None; 256];
    let mut table = [0i8; 16];
    let mut levels = 0;
    for column in 0..columns {
        for row in 0..runs * run_len {
            let value = number(row, column);
            let place = &mut places[usize::from(value.cast_unsigned())];
            if place.is_none() {
                if levels < table.len() {
                    table[levels] = value;
                }
                *place = Some(levels as u8);
                levels += 1;
            }
        }
    }
    let code = |row: usize, column: usize| {
        places[usize::from(number(row, column).cast_unsigned())].unwrap_or(0)
    };
    let stored = match levels {
        0..=4 => StoredWeights::Codes {
            bits: 2,
            table,
            code: &code,
        },
        5..=16 => StoredWeights::Codes {
            bits: 4,
            table,
            code: &code,
        },
        _ => StoredWeights::Int8(number),
    };
    PackedWeights::pack(runs, run_len, columns, stored)
}

/// Rows of this length as whole numbers times a scale each; `None` where they are none.
fn whole_rows(values: &[f32], len: usize) -> Option<(Vec<i8>, Vec<f32>)> {
    let mut numbers = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(values.len() / len);
    for row in values.chunks_exact(len) {
        let scale = scale_of(row)?;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let largest = LARGEST as f32;
        numbers.extend(
            row.iter()
                .map(|v| (v * inverse).round_ties_even().clamp(-largest, largest) as i8),
        );
        scales.push(scale);
    }
    Some((numbers, scales))
}

/// The greatest number that all values are multiples of, where the multiples are small.
fn scale_of(row: &[f32]) -> Option<f32> {
    let max = row.iter().fold(0f32, |max, value| max.max(value.abs()));
    if row.iter().any(|value| !value.is_finite()) {
        return None;
    }
    if max < f32::MIN_POSITIVE * LARGEST as f32 {
        return Some(0.0);
    }
    let is_whole = |scale: f32| {
        let inverse = 1.0 / scale;
        row.iter().all(|value| {
            let number = value * inverse;
            (number - number.round_ties_even()).abs() < WHOLE
        })
    };
    (1..=LARGEST)
        .map(|multiple| max / multiple as f32)
        .find(|&scale| is_whole(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_of_a_scale_are_found_again() {
        let numbers = [-64i8, 3, 17, 0, 63, -1, 40];
        for scale in [1.0, 0.0371, 1e-6, 12.0] {
            let row: Vec<f32> = numbers.iter().map(|&n| f32::from(n) * scale).collect();
            let (found, scales) = whole_rows(&row, row.len()).unwrap();
            assert_eq!(found, numbers);
            assert!((scales[0] / scale - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn other_weights_are_no_whole_numbers() {
        let row: Vec<f32> = (0..300).map(|i| (i as f32 * 0.37).sin()).collect();
        assert_eq!(whole_rows(&row, row.len()), None);
    }

    #[test]
    fn zeros_and_non_finite_rows_have_no_scale() {
        assert_eq!(whole_rows(&[0.0, -0.0], 2), Some((vec![0, 0], vec![0.0])));
        assert_eq!(whole_rows(&[0.0, f32::NAN], 2), None);
    }
}
