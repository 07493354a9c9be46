//! Layers of whole numbers in ONNX, as engines that compute on codes recognize
//! them: 8-bit weights and 32-bit biases behind a DequantizeLinear each, the
//! bias in units of the sums of products, and no BatchNormalization between a
//! convolution and the rounding of its results.

use std::collections::HashSet;

use campana_codebook::{LevelTables, QuantizedTensor, Storage};
use campana_ir::decoder::encode::StoredTensor;
use campana_ir::graph::Graph as Network;
use campana_ir::op::BatchNormalization;
use campana_ir::weights::Role;
use campana_onnx::{AttributeValue, Edits, Model, Node};
use campana_quantize::{ActivationScale, QuantizedModel, Target, TensorOutcome};
use campana_tensor::{ElementType, Granularity, Partition, TensorData};

use super::activations::operand_scale;
use super::decoding::DecoderWriter;
use super::initializers::unused_prefix;
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
    /// The tensor, where its codes are stored rather than its numbers.
    coded: Option<&'a QuantizedTensor>,
    /// Factor of the numbers of each channel whose bias asked for it.
    shrunk: Vec<f32>,
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
/// changed accordingly. `network` has the constants' values. Tensors with
/// other groups than channels, or in graphs inside of nodes, are left out, and so are
/// those of a `MatMul` of floats: behind a DequantizeLinear of weights alone onnxruntime
/// makes a `MatMulNBits` of it, which rounds each 32 of its inputs to 8 bits by itself
/// (an accuracy level of 4; a bank of filters before a logarithm 39.4 -> 2.7 dB).
pub(super) fn layers<'a>(
    model: &'a Model,
    network: &Network,
    quantized: &'a QuantizedModel<'a>,
    activations: &[ActivationScale],
    wiring: &mut Wiring<'_>,
) -> Layers<'a> {
    let nodes = &model.graph.nodes;
    let mut found = Layers {
        layers: Vec::new(),
        merged: HashSet::new(),
    };
    // What graphs inside of nodes read is not looked into.
    let is_nested = nodes.iter().any(holds_graph);
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
    let multiplies_floats = |&reader: &usize| {
        let node = &nodes[reader];
        node.op_type == "MatMul" && operand_scale(model, activations, &node.inputs[0]).is_none()
    };
    for outcome in &quantized.tensors {
        let Some(tensor) = &outcome.quantized else {
            continue;
        };
        let name = outcome.tensor.name;
        if readers(name).iter().any(multiplies_floats) {
            continue;
        }
        let Some(mut layer) = Layer::new(model, outcome, tensor, quantized.target) else {
            continue;
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
                    .and_then(|at| Some((at, affine_of(&nodes[at], node, channels, constant)?)))
                    .filter(|(_, affine)| layer.takes(affine));
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
                        input_scale: operand_scale(model, activations, &nodes[reader].inputs[0]),
                    });
                }
            }
        }
        found.layers.push(layer);
    }
    found
}

fn holds_graph(node: &Node) -> bool {
    node.attributes.iter().any(|attribute| {
        matches!(
            attribute.value,
            AttributeValue::Graph(_) | AttributeValue::Graphs(_)
        )
    })
}

/// Along which axis a weight's scales lie, where it has several.
fn channel_axis(outcome: &TensorOutcome<'_>, tensor: &QuantizedTensor) -> Option<usize> {
    let Role::Weight {
        channel_axis: Some(axis),
        ..
    } = outcome.tensor.role
    else {
        return None;
    };
    let by_channel = Partition::new(&tensor.shape, Some(axis), Granularity::PerChannel);
    (tensor.partition == by_channel).then_some(axis)
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
    let normalization = BatchNormalization {
        epsilon: match node.attribute("epsilon").map(|a| &a.value) {
            Some(AttributeValue::Float(epsilon)) => *epsilon,
            _ => 1e-5,
        },
        training: false,
    };
    let of = |index: usize| constant(&node.inputs[index]).filter(|v| v.len() == channels);
    let affine = normalization.affine([of(1)?, of(2)?, of(3)?, of(4)?])?;
    affine
        .iter()
        .flatten()
        .all(|v| v.is_finite())
        .then_some(affine)
}

impl<'a> Layer<'a> {
    /// `None` for what no DequantizeLinear decodes: scales of other groups than
    /// channels, levels that are not integers, graphs inside of nodes, weights
    /// of recurrent layers.
    fn new(
        model: &Model,
        outcome: &'a TensorOutcome<'a>,
        tensor: &'a QuantizedTensor,
        target: Target,
    ) -> Option<Self> {
        let axis = match tensor.partition.group_count() {
            1 => None,
            _ => Some(channel_axis(outcome, tensor)?),
        };
        let is_taken = !outcome.tensor.is_recurrent()
            && outcome.tensor.proto.element_type == ElementType::F32
            && !outcome.tensor.is_nested(model);
        if !is_taken {
            return None;
        }
        let (numbers, scales) = tensor.integers()?;
        Some(Self {
            outcome,
            axis,
            shape: &tensor.shape,
            bias: None,
            coded: (target == Target::W4a8).then_some(tensor),
            shrunk: vec![1.0; scales.len()],
            numbers,
            scales,
        })
    }

    /// Whether the layer can take over a normalization: codes cannot change
    /// their sign.
    fn takes(&self, affine: &[[f64; 2]]) -> bool {
        self.coded.is_none() || affine.iter().all(|&[factor, _]| factor > 0.0)
    }

    /// One scale for each of `channels` along the axis of the role, or `axis`
    /// without one.
    fn scale_channels(&mut self, channels: usize, axis: usize) {
        if self.axis.is_none() {
            self.scales = vec![self.scales[0]; channels];
            self.axis = Some(match self.outcome.tensor.role {
                Role::Weight {
                    channel_axis: Some(axis),
                    ..
                } => axis,
                _ => axis,
            });
        }
        self.shrunk.resize(channels, 1.0);
    }

    /// Applies the factors to the weights and, with the offsets, to the bias.
    fn normalize(&mut self, bias: &mut [f64], affine: &[[f64; 2]]) {
        self.scale_channels(affine.len(), 0);
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
        let channels = values.len();
        self.scale_channels(channels, 0);
        for (channel, value) in values.iter().enumerate() {
            let needed = (value.abs() / LARGEST_BIAS / input_scale) as f32;
            if self.scales[channel] < needed {
                self.shrunk[channel] = self.scales[channel] / needed;
                self.scales[channel] = needed;
            }
        }
        self.shrink();
        let units = self.scales.iter().zip(values);
        let whole = units.map(|(&scale, &value)| match f64::from(scale) * input_scale {
            0.0 => 0,
            unit => (value / unit).round_ties_even() as i32,
        });
        whole.collect()
    }

    /// Rounds the scales of codes to 16 bits, where that costs no range.
    fn halve_scales(&mut self) {
        if self.coded.is_some() && Storage::narrowest_float(&self.scales) == Storage::F16 {
            for scale in &mut self.scales {
                *scale = Storage::F16.round(*scale);
            }
        }
    }

    /// Makes the numbers of channels smaller whose scale was made larger.
    fn shrink(&mut self) {
        let Some(axis) = self.axis else { return };
        if self.shrunk.iter().all(|&shrunk| shrunk == 1.0) {
            return;
        }
        let inner: usize = self.shape[axis + 1..].iter().product();
        let channels = self.shrunk.len();
        for (i, number) in self.numbers.iter_mut().enumerate() {
            let shrunk = self.shrunk[i / inner % channels];
            *number = (f32::from(*number) * shrunk).round_ties_even() as i8;
        }
    }

    /// The scales; no engine divides by a scale of zero, whose numbers are
    /// zeros from now on.
    fn positive_scales(&mut self) -> Vec<f32> {
        for (scale, shrunk) in self.scales.iter_mut().zip(&mut self.shrunk) {
            if *scale <= 0.0 {
                [*scale, *shrunk] = [1.0, 0.0];
            }
        }
        if self.axis.is_some() {
            self.shrink();
        } else if self.shrunk == [0.0] {
            self.numbers.fill(0);
        }
        self.scales.clone()
    }

    /// The codes with tables of their own for channels whose numbers were made
    /// smaller.
    fn codes(&self, tensor: &QuantizedTensor) -> QuantizedTensor {
        let mut tensor = tensor.clone();
        if self.shrunk.iter().all(|&shrunk| shrunk == 1.0) {
            return tensor;
        }
        let levels = tensor.tables.levels();
        let mut values = tensor.tables.values().to_vec();
        let mut table_of_group = Vec::with_capacity(self.shrunk.len());
        let mut shifts = Vec::with_capacity(self.shrunk.len());
        for (channel, &shrunk) in self.shrunk.iter().enumerate() {
            let group = channel.min(tensor.partition.group_count() - 1);
            let (table, shift) = (tensor.group_table(group), tensor.group_shift(group));
            if shrunk == 1.0 {
                table_of_group.push(table as u16);
                shifts.push(shift);
                continue;
            }
            let smaller = |level: &f32| ((level + shift) * shrunk).round_ties_even();
            let smaller: Vec<f32> = tensor.tables.table(table).iter().map(smaller).collect();
            let known = values
                .chunks_exact(levels)
                .position(|table| table == smaller);
            let at = known.unwrap_or(values.len() / levels);
            if known.is_none() {
                values.extend(smaller);
            }
            table_of_group.push(at as u16);
            shifts.push(0.0);
        }
        if let Some(axis) = self.axis {
            tensor.partition = Partition::new(self.shape, Some(axis), Granularity::PerChannel);
        }
        tensor.tables = LevelTables::new(values, levels, Storage::I8);
        tensor.table_of_group = Some(table_of_group);
        if let Some((old, _)) = &mut tensor.shift {
            *old = shifts;
        }
        tensor
    }
}

impl<'a> Layers<'a> {
    /// Whether a constant has become part of a layer.
    pub(super) fn has_merged(&self, name: &str) -> bool {
        self.merged.contains(name)
    }

    /// Weights and biases as integers, and a DequantizeLinear before all other
    /// operators for each; constants that became part of a layer go.
    pub(super) fn write(
        self,
        writer: &mut DecoderWriter<'a, '_>,
        wiring: &mut Wiring<'_>,
        edits: &mut Edits<'_>,
        quantized: &QuantizedModel<'_>,
    ) {
        for outcome in &quantized.tensors {
            if self.has_merged(outcome.tensor.name) && !outcome.tensor.is_nested(writer.model) {
                remove_constant(edits, &outcome.tensor);
            }
        }
        let prefix = unused_prefix(writer.model);
        for (i, mut layer) in self.layers.into_iter().enumerate() {
            let name = |what: &str| format!("{prefix}{what}{i}");
            let decoder = &mut writer.decoder;
            let bias = layer.bias.take();
            layer.halve_scales();
            let units = bias.as_ref().and_then(|bias| {
                let scale = bias.input_scale?;
                Some((layer.whole_bias(&bias.values, scale), scale))
            });
            let values = layer.positive_scales();
            let scales = decoder.scales(&values, layer.axis);
            if let Some(bias) = bias {
                let dims = vec![bias.values.len()];
                if let Some((units, scale)) = units {
                    let units = units.iter().flat_map(|v| v.to_le_bytes()).collect();
                    let units = stored(&name("b"), dims, ElementType::I32, units);
                    let scales = decoder.scaled(&scales, scale);
                    decoder.add_dequantized(units, &scales, &name("c"));
                } else {
                    let values = bias.values.iter().flat_map(|&v| (v as f32).to_le_bytes());
                    let values = stored(&name("c"), dims, ElementType::F32, values.collect());
                    decoder.tensors.push(values);
                }
                wiring.set_input(bias.node, 2, name("c"));
            }
            let weight = layer.outcome.tensor.name;
            let codes = match layer.coded {
                Some(tensor) => decoder.add_integers(&layer.codes(tensor), weight, &scales),
                None => {
                    let numbers = layer.numbers.iter().map(|n| n.cast_unsigned()).collect();
                    let dims = layer.shape.to_vec();
                    let numbers = stored(&name("w"), dims, ElementType::I8, numbers);
                    decoder.add_dequantized(numbers, &scales, weight);
                    name("w")
                }
            };
            writer.take_place(layer.outcome, codes);
        }
    }
}

fn stored(name: &str, dims: Vec<usize>, element_type: ElementType, data: Vec<u8>) -> StoredTensor {
    StoredTensor {
        name: name.to_owned(),
        dims,
        element_type,
        data,
    }
}

#[cfg(test)]
mod tests;
