//! Convolutions: CONV_2D, DEPTHWISE_CONV_2D.

use campana_ir::op::Convolution;

use super::epilogue::Tail;
use super::window::Windows;
use super::{Converter, Interpreter};
use crate::error::Converted;
use crate::layout::{channels_last, permuted};
use crate::parameters::Integers;
use crate::schema::{Code, Options, Padding, Quantization, Tensor, TensorType};
use crate::values::{Made, Params};

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
    /// Whether runtimes compute the layer with weights of 4 bits.
    pub(super) takes_int4: bool,
}

impl<'n> Converter<'n> {
    pub(super) fn convolution(&mut self, at: usize, convolution: &Convolution) -> Converted {
        let layer = self.network.layer(at).ok_or(VARIABLE_WEIGHTS)?;
        let shape = self.values.shape(layer.input)?;
        let kernel = self.weights_shape(layer.weights)?;
        let channels = *kernel.first().ok_or(VARIABLE_WEIGHTS)?;
        let groups = convolution.groups;
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
            takes_int4: !is_depthwise && groups == 1,
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
    pub(super) fn weights_shape(&self, name: &str) -> Converted<Vec<usize>> {
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
        let tensor = self.images(name, params, windows)?;
        Ok(match windows.own_padding() {
            Some(padding) => (tensor, padding),
            None => (
                self.padded(tensor, &windows.border(), border),
                Padding::Valid,
            ),
        })
    }

    /// A value as `[batch, height, width, channels]`.
    pub(super) fn images(
        &mut self,
        name: &str,
        params: Option<Params>,
        windows: &Windows,
    ) -> Converted<usize> {
        let shape = self.values.shape(name)?;
        let order = channels_last(shape.len());
        let tensor = self.values.operand(name, params, &order)?;
        let [height, width] = windows.input;
        let extents = vec![shape[0], height, width, shape[1]];
        Ok(self.values.reshaped(tensor, extents))
    }
}

/// What 4 bits hold.
const INT4: std::ops::RangeInclusive<i8> = -8..=7;

/// Two numbers in a byte, the first in its low half.
fn packed_int4(numbers: &[i8]) -> Vec<u8> {
    let nibble = |number: &i8| number.cast_unsigned() & 0xf;
    let bytes = numbers.chunks(2).map(|pair| {
        let high = pair.get(1).map_or(0, nibble);
        nibble(&pair[0]) | high << 4
    });
    bytes.collect()
}

/// Said of layers whose weights an input decides.
pub(super) const VARIABLE_WEIGHTS: &str = "has weights that are no constants";

/// Weights of one spatial axis as those of images of height 1.
pub(super) fn as_images(weights: Weights) -> Weights {
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
        let weights = self.weights(layer.weights, channel_axis)?;
        let is_float = matches!(weights, Weights::Floats(..));
        let tail = self.tail(layer, channels, is_float)?;
        let input = self.values.params(layer.input).filter(|_| !is_float);
        let params = input.zip(self.rounded(tail.epilogue.value));
        Ok((weights, tail, params.map(|(input, output)| [input, output])))
    }

    /// The weights of that name: as numbers where these have one scale or one for
    /// each channel along this axis.
    pub(super) fn weights(&self, name: &str, channel_axis: usize) -> Converted<Weights> {
        let is_by_channel =
            |integers: &Integers| integers.scales.len() == 1 || integers.axis == channel_axis;
        if let Some(integers) = self.parameters.integers(name).filter(is_by_channel) {
            return Ok(Weights::Integers(integers));
        }
        let (shape, values) = self.parameters.floats(name).ok_or(VARIABLE_WEIGHTS)?;
        Ok(Weights::Floats(shape, values.into_owned()))
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
            takes_int4,
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
            // TFLite Micro decodes by one scale alone, but looks floats up as well.
            Weights::Integers(integers)
                if !on_integers && self.interpreter == Interpreter::Micro =>
            {
                let values = permuted(&integers.decoded(), &integers.shape, order);
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
                let is_int4 = takes_int4
                    && on_integers
                    && self.interpreter == Interpreter::TfLite
                    && numbers.iter().all(|number| INT4.contains(number));
                let (element, data) = match is_int4 {
                    true => (TensorType::Int4, packed_int4(&numbers)),
                    false => {
                        let bytes = numbers.into_iter().map(i8::cast_unsigned);
                        (TensorType::Int8, bytes.collect())
                    }
                };
                let numbers = self.values.tensor(Tensor {
                    name: name.to_owned(),
                    shape: extents,
                    element,
                    data: Some(data),
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
