//! Layers of whole numbers in ONNX, as engines that compute on codes recognize
//! them: 8-bit weights and 32-bit biases behind a DequantizeLinear each, the
//! bias in units of the sums of products, and no BatchNormalization between a
//! convolution and the rounding of its results.

use std::collections::HashSet;

use campana_codebook::QuantizedTensor;
use campana_ir::graph::Graph as Network;
use campana_ir::op::moves_elements;
use campana_ir::weights::Role;
use campana_onnx::{AttributeValue, Content, Edits, Model, NewAttribute, NewNode, NewTensor};
use campana_onnx::{Node, schema};
use campana_quantize::{ActivationScale, Error, ErrorKind, QuantizedModel, TensorOutcome};
use campana_tensor::{ElementType, TensorData};

use super::removal::remove_constant;
use super::wiring::Wiring;

/// Oldest opset with a scale for each channel.
pub(super) const MIN_OPSET: i64 = 13;

/// Largest bias in units of its sums: leaves room for the sums in 32 bits.
const LARGEST_BIAS: f64 = (1 << 28) as f64;

/// What becomes of a layer.
pub(super) struct Layer<'a> {
    outcome: &'a TensorOutcome<'a>,
    axis: Option<usize>,
    numbers: Vec<i8>,
    scales: Vec<f32>,
    shape: &'a [usize],
    bias: Option<Bias>,
}

/// The bias of a layer, with that of the normalization behind it.
struct Bias {
    node: usize,
    values: Vec<f64>,
    /// Scale of the layer's input, where that is rounded.
    input_scale: Option<f32>,
}

/// The layers of a model, and the constants that become part of them.
pub(super) struct Layers<'a> {
    layers: Vec<Layer<'a>>,
    merged: HashSet<&'a str>,
}

/// Layers with what they take over from the nodes behind them; the wiring is
/// changed accordingly. `network` has the constants' values.
///
/// # Errors
///
/// Where scales are for other groups than channels.
pub(super) fn layers<'a>(
    model: &'a Model,
    network: &Network,
    quantized: &'a QuantizedModel<'_>,
    activations: &[ActivationScale],
    wiring: &mut Wiring<'_>,
) -> Result<Layers<'a>, Error> {
    let nodes = &model.graph.nodes;
    let mut found = Layers {
        layers: Vec::new(),
        merged: HashSet::new(),
    };
    // What graphs inside of nodes read is not looked into.
    let is_nested = nodes
        .iter()
        .flat_map(|node| &node.attributes)
        .any(|attribute| {
            matches!(
                attribute.value,
                AttributeValue::Graph(_) | AttributeValue::Graphs(_)
            )
        });
    let readers = |name: &str| -> Vec<usize> {
        let reads = |&i: &usize| nodes[i].inputs.iter().any(|input| input == name);
        (0..nodes.len()).filter(reads).collect()
    };
    let is_output = |name: &str| model.graph.outputs.iter().any(|value| value.name == name);
    let only_reader = |name: &str| match readers(name)[..] {
        [reader] if !is_output(name) && !is_nested => Some(reader),
        _ => None,
    };
    let constant = |name: &str| match network.constants.get(name)?.data() {
        TensorData::F32(values) => Some(values.as_slice()),
        _ => None,
    };
    for outcome in &quantized.tensors {
        let Some(tensor) = &outcome.quantized else {
            continue;
        };
        let name = outcome.tensor.name;
        let (numbers, scales) = numbers_and_scales(tensor);
        let mut layer = Layer {
            outcome,
            axis: channel_axis(outcome, tensor, scales.len())?,
            numbers,
            scales,
            shape: &tensor.shape,
            bias: None,
        };
        if let Some(reader) = only_reader(name)
            && let Some(channels) = channels_of(&nodes[reader], &tensor.shape)
            && nodes[reader]
                .inputs
                .get(1)
                .is_some_and(|input| input == name)
        {
            let node = &nodes[reader];
            let own = node.inputs.get(2).filter(|name| !name.is_empty());
            let values = match own {
                Some(name) => constant(name).filter(|values| values.len() == channels),
                None => Some(&[][..]),
            };
            if let Some(values) = values {
                let mut values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
                let normalization = (node.op_type == "Conv")
                    .then(|| only_reader(node.outputs.first()?))
                    .flatten()
                    .and_then(|at| Some((at, affine_of(&nodes[at], node, channels, constant)?)));
                if let Some((at, affine)) = normalization {
                    values.resize(channels, 0.0);
                    layer.normalize(&mut values, &affine);
                    let output = &nodes[at].outputs[0];
                    wiring.rename_output(reader, &node.outputs[0], output);
                    wiring.remove(at);
                    let own = nodes[at].inputs[1..].iter();
                    let own = own.filter(|name| only_reader(name).is_some());
                    found.merged.extend(own.map(String::as_str));
                }
                if !values.is_empty() {
                    let own = own.filter(|name| only_reader(name).is_some());
                    found.merged.extend(own.map(String::as_str));
                    layer.bias = Some(Bias {
                        node: reader,
                        values,
                        input_scale: scale_of(&nodes[reader].inputs[0], nodes, activations),
                    });
                }
            }
        }
        found.layers.push(layer);
    }
    Ok(found)
}

/// Along which axis a weight's scales lie; `None` where there is one scale.
fn channel_axis(
    outcome: &TensorOutcome<'_>,
    tensor: &QuantizedTensor,
    scales: usize,
) -> Result<Option<usize>, Error> {
    match outcome.tensor.role {
        _ if scales == 1 => Ok(None),
        Role::Weight {
            channel_axis: Some(axis),
            ..
        } if tensor.shape.get(axis) == Some(&scales) => Ok(Some(axis)),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "'{}' has {scales} scales, which DequantizeLinear cannot apply; use --granularity channel or tensor",
                outcome.tensor.name,
            ),
        )),
    }
}

/// Channels of a layer's bias, where the layer adds one as it stands.
fn channels_of(node: &Node, shape: &[usize]) -> Option<usize> {
    let is_one = |name: &str| match node.attribute(name).map(|a| &a.value) {
        None => true,
        Some(AttributeValue::Float(value)) => *value == 1.0,
        Some(_) => false,
    };
    match node.op_type.as_str() {
        "Conv" => shape.first().copied(),
        "Gemm" if is_one("alpha") && is_one("beta") => {
            let rows_first = node.int("transB").unwrap_or(0) != 0;
            shape.get(usize::from(!rows_first)).copied()
        }
        _ => None,
    }
}

/// Factor and offset of each channel of a normalization behind a layer.
fn affine_of<'a>(
    node: &Node,
    layer: &Node,
    channels: usize,
    constant: impl Fn(&str) -> Option<&'a [f32]>,
) -> Option<Vec<[f64; 2]>> {
    let is_plain = node.op_type == "BatchNormalization"
        && node.inputs.len() == 5
        && node.inputs[0] == layer.outputs[0]
        && node.outputs.len() == 1
        && node.int("training_mode").unwrap_or(0) == 0
        && node.int("spatial").unwrap_or(1) != 0;
    if !is_plain {
        return None;
    }
    let epsilon = match node.attribute("epsilon").map(|a| &a.value) {
        Some(AttributeValue::Float(epsilon)) => f64::from(*epsilon),
        _ => f64::from(1e-5f32),
    };
    let of = |index: usize| constant(&node.inputs[index]).filter(|v| v.len() == channels);
    let (scale, bias, mean, variance) = (of(1)?, of(2)?, of(3)?, of(4)?);
    let affine = (0..channels).map(|c| {
        let factor = f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt();
        [factor, f64::from(bias[c]) - f64::from(mean[c]) * factor]
    });
    let affine: Vec<_> = affine.collect();
    affine
        .iter()
        .flatten()
        .all(|v| v.is_finite())
        .then_some(affine)
}

/// The scale of a value that is rounded or moved about since it was.
fn scale_of(name: &str, nodes: &[Node], activations: &[ActivationScale]) -> Option<f32> {
    let mut name = name;
    loop {
        if let Some(found) = activations.iter().find(|scale| scale.name == name) {
            return Some(found.scale);
        }
        let maker = nodes
            .iter()
            .find(|node| node.outputs.iter().any(|output| output == name))?;
        if !moves_elements(&maker.op_type) {
            return None;
        }
        name = maker.inputs.first()?;
    }
}

impl Layer<'_> {
    /// Applies the factors to the weights and, with the offsets, to the bias.
    fn normalize(&mut self, bias: &mut [f64], affine: &[[f64; 2]]) {
        if self.axis.is_none() {
            self.scales = vec![self.scales[0]; affine.len()];
            self.axis = Some(0);
        }
        let row = self.numbers.len() / affine.len();
        for (channel, &[factor, offset]) in affine.iter().enumerate() {
            bias[channel] = bias[channel] * factor + offset;
            self.scales[channel] = (f64::from(self.scales[channel]) * factor.abs()) as f32;
            if factor < 0.0 {
                let numbers = &mut self.numbers[channel * row..(channel + 1) * row];
                numbers.iter_mut().for_each(|number| *number = -*number);
            }
        }
    }

    /// The bias in units of the sums. Channels with little but a bias get a
    /// scale that the bias can be counted in.
    fn whole_bias(&mut self, values: &[f64], input_scale: f32) -> Vec<i32> {
        let input_scale = f64::from(input_scale);
        if self.axis.is_none() {
            self.scales = vec![self.scales[0]; values.len()];
            self.axis = Some(match self.outcome.tensor.role {
                Role::Weight {
                    channel_axis: Some(axis),
                    ..
                } => axis,
                _ => 0,
            });
        }
        let axis = self.axis.unwrap_or(0);
        let inner: usize = self.shape[axis + 1..].iter().product();
        let channels = values.len();
        let mut shrunk = vec![1.0; channels];
        for (channel, value) in values.iter().enumerate() {
            let needed = (value.abs() / LARGEST_BIAS / input_scale) as f32;
            if self.scales[channel] < needed {
                shrunk[channel] = self.scales[channel] / needed;
                self.scales[channel] = needed;
            }
        }
        if shrunk.iter().any(|&shrunk| shrunk != 1.0) {
            for (i, number) in self.numbers.iter_mut().enumerate() {
                let shrunk = shrunk[i / inner % channels];
                *number = (f32::from(*number) * shrunk).round_ties_even() as i8;
            }
        }
        let units = self.scales.iter().zip(values);
        let whole = units.map(|(&scale, &value)| match f64::from(scale) * input_scale {
            0.0 => 0,
            unit => (value / unit).round_ties_even() as i32,
        });
        whole.collect()
    }
}

impl Layers<'_> {
    /// Whether a constant has become part of a layer.
    pub(super) fn has_merged(&self, name: &str) -> bool {
        self.merged.contains(name)
    }

    /// Weights and biases as whole numbers, and a DequantizeLinear before all
    /// other operators for each.
    pub(super) fn write(
        self,
        model: &Model,
        edits: &mut Edits<'_>,
        quantized: &QuantizedModel<'_>,
        wiring: &mut Wiring<'_>,
        prefix: &str,
    ) {
        let graph = &model.graph;
        for outcome in &quantized.tensors {
            if self.has_merged(outcome.tensor.name) {
                remove_constant(model, edits, &outcome.tensor);
            }
        }
        let mut writer = Writer {
            tensors: Content::default(),
            nodes: Content::default(),
        };
        for (i, mut layer) in self.layers.into_iter().enumerate() {
            let name = |what: &str| format!("{prefix}{what}{i}");
            remove_constant(model, edits, &layer.outcome.tensor);
            if let Some(bias) = layer.bias.take() {
                let count = bias.values.len();
                match bias.input_scale {
                    Some(scale) => {
                        let whole = layer.whole_bias(&bias.values, scale);
                        let scales: Vec<f32> = layer.scales.iter().map(|s| s * scale).collect();
                        let whole = whole.iter().flat_map(|v| v.to_le_bytes()).collect();
                        let zeros = vec![0; 4 * count];
                        let kind = ElementType::I32;
                        writer.dequantized(
                            &name("b"),
                            &[count],
                            kind,
                            [whole, zeros],
                            &scales,
                            Some(0),
                            &name("c"),
                        );
                    }
                    None => {
                        let values = bias.values.iter().flat_map(|&v| (v as f32).to_le_bytes());
                        writer.tensor(&name("c"), &[count], ElementType::F32, values.collect());
                    }
                }
                wiring.set_input(bias.node, 2, name("c"));
            }
            let numbers = layer.numbers.iter().map(|n| n.cast_unsigned()).collect();
            // No engine divides by a scale of zero, whose numbers are zeros.
            let scales: Vec<f32> = layer
                .scales
                .iter()
                .map(|&scale| if scale > 0.0 { scale } else { 1.0 })
                .collect();
            let data = [numbers, vec![0; scales.len()]];
            writer.dequantized(
                &name("w"),
                layer.shape,
                ElementType::I8,
                data,
                &scales,
                layer.axis,
                layer.outcome.tensor.name,
            );
        }
        edits.append(graph.message, writer.tensors);
        match graph.nodes.first() {
            Some(first) => edits.insert_before(first.message, writer.nodes),
            None => edits.prepend(graph.message, writer.nodes),
        }
    }
}

/// Fields of a graph.
struct Writer {
    tensors: Content<'static>,
    nodes: Content<'static>,
}

impl Writer {
    fn tensor(&mut self, name: &str, shape: &[usize], kind: ElementType, data: Vec<u8>) {
        let tensor = NewTensor::raw(name, shape, kind, data);
        let tensors = std::mem::take(&mut self.tensors);
        self.tensors = tensors.message(schema::graph::INITIALIZER, tensor);
    }

    /// Whole numbers with their scales, and the operator that makes them floats.
    #[expect(
        clippy::too_many_arguments,
        reason = "a tensor, its scales and its names"
    )]
    fn dequantized(
        &mut self,
        name: &str,
        shape: &[usize],
        kind: ElementType,
        [data, zeros]: [Vec<u8>; 2],
        scales: &[f32],
        axis: Option<usize>,
        output: &str,
    ) {
        let [scale_name, zero_name] = ["s", "z"].map(|what| format!("{name}.{what}"));
        let dims = if axis.is_some() {
            vec![scales.len()]
        } else {
            Vec::new()
        };
        let scales = scales
            .iter()
            .flat_map(|scale| scale.to_le_bytes())
            .collect();
        self.tensor(name, shape, kind, data);
        self.tensor(&scale_name, &dims, ElementType::F32, scales);
        self.tensor(&zero_name, &dims, kind, zeros);
        let inputs = [name, &scale_name, &zero_name];
        let mut node = NewNode::new("DequantizeLinear", inputs, [output]);
        if let Some(axis) = axis {
            node = node.attribute("axis", NewAttribute::Int(axis as i64));
        }
        let nodes = std::mem::take(&mut self.nodes);
        self.nodes = nodes.message(schema::graph::NODE, node);
    }
}

/// The numbers of a tensor whose levels are whole, and the scale of each group.
fn numbers_and_scales(tensor: &QuantizedTensor) -> (Vec<i8>, Vec<f32>) {
    let groups = tensor.partition.group_count();
    let codes = tensor.codes();
    let mut numbers = vec![0; codes.len()];
    let mut scales = Vec::with_capacity(groups);
    for group in 0..groups {
        let table = tensor.tables.table(tensor.group_table(group));
        let shift = tensor.group_shift(group);
        for run in tensor.partition.runs(group) {
            for (number, &code) in numbers[run.clone()].iter_mut().zip(&codes[run]) {
                *number = (table[usize::from(code)] + shift) as i8;
            }
        }
        scales.push(tensor.group_scale(group).unwrap_or(1.0));
    }
    (numbers, scales)
}

#[cfg(test)]
mod tests;
