//! Convolutions: CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV.

use campana_ir::op::{AutoPad, Convolution};

use super::epilogue::{Made, Tail};
use super::window::Windows;
use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::{channels_last, permuted};
use crate::parameters::Integers;
use crate::schema::{Code, Options, Padding, Quantization, Tensor, TensorType};
use crate::values::Params;

/// Weights of a layer: numbers for products of integers, floats for others.
pub(super) enum Weights {
    Floats(Vec<usize>, Vec<f32>),
    Integers(Integers),
}

impl Weights {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Floats(shape, _) => shape,
            Self::Integers(integers) => &integers.shape,
        }
    }
}

/// Where the channels are in the weights of a layer, and how weights lie in
/// TFLite.
#[derive(Clone, Copy)]
pub(super) struct Arrangement<'a> {
    /// The axis of the output's channels.
    pub(super) channels: usize,
    /// The weights' axes in TFLite's order.
    pub(super) order: &'a [usize],
    /// What the weights of each channel are multiplied with; empty for nothing.
    pub(super) factors: &'a [f64],
    /// Whether the layer is computed on int8.
    pub(super) on_integers: bool,
}

impl<'n> Converter<'n> {
    pub(super) fn convolution(&mut self, at: usize, convolution: &Convolution) -> Converted {
        let layer = self.network.layer(at).ok_or(VARIABLE_WEIGHTS)?;
        let shape = self.values.shape(layer.input)?;
        let kernel = self.weights_shape(layer.weights)?;
        let (channels, groups) = (kernel[0], convolution.groups);
        let windows = Windows::new(
            &convolution.window,
            shape.get(2..).unwrap_or_default(),
            kernel.get(2..).unwrap_or_default(),
            false,
        )?;
        let (weights, tail, params) = self.layer(&layer, channels, 0)?;
        let is_depthwise = convolution.is_depthwise(weights.shape());
        let weights = as_images(weights);
        let order = if is_depthwise {
            [1, 2, 3, 0]
        } else {
            [0, 2, 3, 1]
        };
        let arrangement = Arrangement {
            channels: 0,
            order: &order,
            factors: &tail.factors,
            on_integers: params.is_some(),
        };
        let input_params = params.map(|[input, _]| input);
        let weights = self.weights_tensor(layer.weights, weights, arrangement);
        let bias = self.bias_tensor(layer.output, &tail, weights, input_params);
        let (input, padding) = self.window_input(layer.input, input_params, &windows, None)?;
        self.take_tail(&tail);
        let [height, width] = windows.outputs;
        let made = self.image(&shape, channels, &windows, params.map(|[_, output]| output));
        let extents = vec![shape[0], height, width, channels];
        let (strides, dilations) = (windows.strides, windows.dilations);
        self.finish_activated(
            &tail.epilogue,
            made,
            extents,
            |values, output, activation| {
                let inputs = vec![input, weights, bias];
                let (code, options) = match is_depthwise {
                    true => (
                        Code::DepthwiseConv2d,
                        Options::Depthwise {
                            padding,
                            strides,
                            dilations,
                            multiplier: channels / groups,
                            activation,
                        },
                    ),
                    false => (
                        Code::Conv2d,
                        Options::Conv {
                            padding,
                            strides,
                            dilations,
                            activation,
                        },
                    ),
                };
                values.operator(code, inputs, output, options);
            },
        );
        Ok(())
    }

    /// Without padding, as many elements as are made; what ONNX cuts off is
    /// sliced off behind.
    pub(super) fn transposed_convolution(
        &mut self,
        at: usize,
        convolution: &Convolution,
    ) -> Converted {
        let node = self.network.node(at);
        let (input, weights) = (node.inputs[0].as_str(), node.inputs[1].as_str());
        if convolution.groups != 1 || convolution.window.is_dilated() {
            return Err("is grouped or dilated, which TRANSPOSE_CONV is not".to_owned());
        }
        let shape = self.values.shape(input)?;
        let kernel = self.weights_shape(weights)?;
        let channels = *kernel.get(1).ok_or(NO_FORM)?;
        let [full, cut, outputs] = transposed_extents(node, convolution, &shape, &kernel)?;
        let integers = self.parameters.integers(weights);
        let is_by_channel = |own: &Integers| own.scales.len() == 1 || own.axis == 1;
        let values = match integers.filter(is_by_channel) {
            Some(integers) => Weights::Integers(integers),
            None => {
                let floats = self.parameters.floats(weights);
                let (shape, values) = floats.ok_or(VARIABLE_WEIGHTS)?;
                Weights::Floats(shape, values.into_owned())
            }
        };
        let bias = match node.inputs.get(2).filter(|name| !name.is_empty()) {
            Some(name) => {
                let bias = self.parameters.floats(name);
                bias.ok_or("adds a bias that is no constant")?
                    .1
                    .into_owned()
            }
            None => vec![0.0; channels],
        };
        let arrangement = Arrangement {
            channels: 1,
            order: &[1, 2, 3, 0],
            factors: &[],
            on_integers: false,
        };
        let weights = self.weights_tensor(weights, as_images(values), arrangement);
        let bias = self.values.floats("bias", vec![channels], &bias);
        let tensor = self
            .values
            .operand(input, None, &channels_last(shape.len()))?;
        let in_images = match shape.len() {
            3 => vec![shape[0], 1, shape[2], shape[1]],
            _ => vec![shape[0], shape[2], shape[3], shape[1]],
        };
        let tensor = self.values.reshaped(tensor, in_images);
        let made = vec![shape[0], full[0], full[1], channels];
        let asked: Vec<i32> = made.iter().map(|&extent| extent as i32).collect();
        let asked = self.values.integers("shape", &asked);
        let stride = |axis: usize| convolution.window.stride(axis);
        let strides = match shape.len() {
            3 => [1, stride(0)],
            _ => [stride(0), stride(1)],
        };
        let whole = self.values.activation(&node.outputs[0], made, None);
        self.values.operator(
            Code::TransposeConv,
            vec![asked, weights, tensor, bias],
            whole,
            Options::TransposeConv { strides },
        );
        let [height, width] = outputs;
        let part = self.part(
            whole,
            &[0, cut[0], cut[1], 0],
            &[shape[0], height, width, channels],
            &[1; 4],
        );
        let spatial = if shape.len() == 3 {
            vec![width]
        } else {
            vec![height, width]
        };
        let shape = [vec![shape[0], channels], spatial].concat();
        let order = channels_last(shape.len());
        let part = self
            .values
            .reshaped(part, crate::layout::laid_out(&shape, &order));
        self.values.define(&node.outputs[0], shape, order, part);
        Ok(())
    }

    /// Extents and layout of an image that windows make.
    pub(super) fn image(
        &self,
        input: &[usize],
        channels: usize,
        windows: &Windows,
        params: Option<Params>,
    ) -> Made {
        let mut shape = vec![input[0], channels];
        shape.extend(&windows.outputs[4 - input.len()..]);
        Made {
            order: channels_last(shape.len()),
            shape,
            params,
        }
    }

    /// Extents of constant weights.
    fn weights_shape(&self, name: &str) -> Converted<Vec<usize>> {
        let shape = self.parameters.shape(name);
        shape.ok_or_else(|| VARIABLE_WEIGHTS.to_owned())
    }

    /// The tensor that windows slide over, `[batch, height, width, channels]`,
    /// and the padding that the operator has of its own. Other padding is added
    /// before it: zeros, or where given `border`.
    pub(super) fn window_input(
        &mut self,
        name: &str,
        params: Option<Params>,
        windows: &Windows,
        border: Option<f32>,
    ) -> Converted<(usize, Padding)> {
        let shape = self.values.shape(name)?;
        let tensor = self
            .values
            .operand(name, params, &channels_last(shape.len()))?;
        let [height, width] = windows.input;
        let (batch, channels) = (shape[0], shape[1]);
        let tensor = self
            .values
            .reshaped(tensor, vec![batch, height, width, channels]);
        if let Some(padding) = windows.own_padding() {
            return Ok((tensor, padding));
        }
        let [rows, columns] = windows.pads;
        let padded = self.padded(tensor, &[[0, 0], rows, columns, [0, 0]], border);
        Ok((padded, Padding::Valid))
    }
}

/// Said of layers whose weights an input decides.
pub(super) const VARIABLE_WEIGHTS: &str = "has weights that are no constants";

/// Weights of one spatial axis as those of images of height 1.
fn as_images(weights: Weights) -> Weights {
    let with_height = |shape: Vec<usize>| match shape.as_slice() {
        [outer, inner, width] => vec![*outer, *inner, 1, *width],
        _ => shape,
    };
    match weights {
        Weights::Floats(shape, values) => Weights::Floats(with_height(shape), values),
        Weights::Integers(integers) => Weights::Integers(Integers {
            shape: with_height(integers.shape),
            ..integers
        }),
    }
}

impl<'n> Converter<'n> {
    /// The weights, what follows, and the parameters of input and output where
    /// the layer is computed on integers.
    pub(super) fn layer(
        &self,
        layer: &campana_ir::network::Layer<'n>,
        channels: usize,
        channel_axis: usize,
    ) -> Converted<(Weights, Tail<'n>, Option<[Params; 2]>)> {
        let tail = self.tail(layer, channels, false)?;
        let is_by_channel =
            |integers: &Integers| integers.scales.len() == 1 || integers.axis == channel_axis;
        if let Some(integers) = self
            .parameters
            .integers(layer.weights)
            .filter(is_by_channel)
            && let Some(input) = self.values.params(layer.input)
            && let Some(output) = self.rounded(tail.epilogue.value)
        {
            return Ok((Weights::Integers(integers), tail, Some([input, output])));
        }
        if let Some(integers) = self
            .parameters
            .integers(layer.weights)
            .filter(is_by_channel)
        {
            return Ok((Weights::Integers(integers), tail, None));
        }
        let tail = self.tail(layer, channels, true)?;
        let (shape, values) = self
            .parameters
            .floats(layer.weights)
            .ok_or(VARIABLE_WEIGHTS)?;
        Ok((Weights::Floats(shape, values.into_owned()), tail, None))
    }

    /// A layer's weights, their axes in TFLite's order: a constant, or what int8
    /// numbers stand for where the layer is computed in floats.
    pub(super) fn weights_tensor(
        &mut self,
        name: &str,
        weights: Weights,
        arrangement: Arrangement<'_>,
    ) -> usize {
        let Arrangement {
            channels,
            order,
            factors,
            on_integers,
        } = arrangement;
        let extents = order.iter().map(|&axis| weights.shape()[axis]).collect();
        match weights {
            Weights::Floats(shape, mut values) => {
                let inner: usize = shape[channels + 1..].iter().product();
                if !factors.is_empty() {
                    for (i, value) in values.iter_mut().enumerate() {
                        let factor = factors[i / inner % factors.len()];
                        *value = (f64::from(*value) * factor) as f32;
                    }
                }
                let values = permuted(&values, &shape, order);
                self.values.floats(name, extents, &values)
            }
            Weights::Integers(integers) => {
                let count = integers.shape[channels];
                let numbers = permuted(&integers.numbers, &integers.shape, order);
                let scales = match integers.scales.as_slice() {
                    [scale] => vec![*scale; count],
                    scales => scales.to_vec(),
                };
                let quantization = Quantization {
                    scales,
                    zero_point: 0,
                    axis: crate::layout::place(order, channels),
                };
                let numbers = self.values.tensor(Tensor {
                    name: name.to_owned(),
                    shape: extents,
                    element: TensorType::Int8,
                    data: Some(numbers.into_iter().map(i8::cast_unsigned).collect()),
                    quantization: Some(quantization),
                });
                match on_integers {
                    true => numbers,
                    false => self.values.retyped(numbers, None),
                }
            }
        }
    }

    /// A constant of a layer's biases: floats, or integers in the unit of the
    /// sums.
    pub(super) fn bias_tensor(
        &mut self,
        output: &str,
        tail: &Tail<'_>,
        weights: usize,
        input: Option<Params>,
    ) -> usize {
        let name = format!("{output}/bias");
        let shape = vec![tail.bias.len()];
        let quantization = self.values.model.tensors[weights].quantization.as_ref();
        let (Some(input), Some(weights)) = (input, quantization) else {
            let values: Vec<f32> = tail.bias.iter().map(|&value| value as f32).collect();
            return self.values.floats(&name, shape, &values);
        };
        let scales: Vec<f32> = weights.scales.iter().map(|s| s * input.scale).collect();
        let units = tail.bias.iter().zip(&weights.scales).map(|(bias, scale)| {
            let unit = f64::from(*scale) * f64::from(input.scale);
            (bias / unit).round_ties_even() as i32
        });
        let data = units.flat_map(i32::to_le_bytes).collect();
        self.values.tensor(Tensor {
            name,
            shape,
            element: TensorType::Int32,
            data: Some(data),
            quantization: Some(Quantization {
                scales,
                zero_point: 0,
                axis: 0,
            }),
        })
    }
}

/// Extents `[height, width]` of all that a transposed convolution makes, how
/// much of it is cut off before, and what stays.
fn transposed_extents(
    node: &campana_ir::graph::Node,
    convolution: &Convolution,
    shape: &[usize],
    kernel: &[usize],
) -> Converted<[[usize; 2]; 3]> {
    let list = |name: &str| match node.attributes.get(name) {
        Some(campana_ir::graph::Attribute::Ints(values)) => values.clone(),
        _ => Vec::new(),
    };
    let AutoPad::Explicit(pads) = &convolution.window.padding else {
        return Err("has automatic padding".to_owned());
    };
    if !list("output_shape").is_empty() {
        return Err("has its output's shape as an attribute".to_owned());
    }
    let spatial = shape.len().saturating_sub(2);
    if !matches!(spatial, 1 | 2) || kernel.len() != shape.len() {
        return Err(NO_FORM.to_owned());
    }
    let added = list("output_padding");
    let mut found = [[1, 1], [0, 0], [1, 1]];
    for axis in 0..spatial {
        let at = axis + 2 - spatial;
        let pad = |at: usize| pads.get(at).copied().unwrap_or(0);
        let (before, after) = (pad(axis), pad(axis + pads.len() / 2));
        let reached = (shape[axis + 2] - 1) * convolution.window.stride(axis) + kernel[axis + 2];
        let added = added.get(axis).map_or(0, |&extent| extent.max(0) as usize);
        let outputs = (reached + added).checked_sub(before + after);
        let outputs = outputs.ok_or("cuts off more than it makes")?;
        found[0][at] = reached.max(before + outputs);
        found[1][at] = before;
        found[2][at] = outputs;
    }
    Ok(found)
}
