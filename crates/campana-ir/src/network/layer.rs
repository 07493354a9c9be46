//! Layers: products of an activation and constant weights, with what follows
//! them in their epilogue.

use std::collections::HashSet;

use super::Network;
use crate::graph::Dim;
use crate::op::{Binary, Op, Unary, axis_from_start};

/// A product of an activation and constant weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer<'g> {
    /// The node, by its position in the graph.
    pub node: usize,
    /// The weights.
    pub weights: &'g str,
    /// The activation that is multiplied.
    pub input: &'g str,
    /// The product.
    pub output: &'g str,
    /// Whether it is a depthwise convolution.
    pub is_depthwise: bool,
    /// The axis of the output's channels; counted from the end where negative.
    pub channel_axis: i64,
}

/// The constant that is added to each channel of a layer's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bias<'g> {
    /// The constant.
    pub name: &'g str,
    /// The sum that adds it; `None` where it is the layer's own input.
    pub sum: Option<usize>,
    /// The layer's output with the bias.
    pub output: &'g str,
}

impl<'g> Network<'g> {
    /// The layer of a node: a convolution, `Gemm` or `MatMul` of an activation
    /// (input 0) with weights that depend on constants alone.
    pub fn layer(&self, node: usize) -> Option<Layer<'g>> {
        let is_transposed = matches!(self.op(node), Op::ConvTranspose(_));
        self.product(node).filter(|_| !is_transposed)
    }

    /// The layer of a node, or a transposed convolution with such weights, which
    /// engines compute on floats.
    pub fn product(&self, node: usize) -> Option<Layer<'g>> {
        let found = self.node(node);
        let (input, weights) = (found.inputs.first()?, found.inputs.get(1)?);
        let output = found.outputs.first()?;
        let is_layer = self.is_parameter(weights) && !self.is_parameter(input);
        let (is_depthwise, channel_axis) = match self.op(node) {
            Op::Conv(convolution) => {
                let shape = self.constant_shape(weights);
                (
                    shape.is_some_and(|shape| convolution.is_depthwise(shape)),
                    1,
                )
            }
            Op::ConvTranspose(_) => (false, 1),
            Op::Gemm(_) | Op::MatMul => (false, -1),
            _ => return None,
        };
        is_layer.then_some(Layer {
            node,
            weights,
            input,
            output,
            is_depthwise,
            channel_axis,
        })
    }

    /// The network with the weights of its layers as floats, but for those that
    /// are made of constants which become integers.
    pub fn with_integer_weights(mut self, is_integer: impl Fn(&str) -> bool) -> Self {
        let has_float_weights = |&node: &usize| {
            let is_product = matches!(
                self.op(node),
                Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul
            );
            let weights = self.node(node).inputs.get(1);
            let weights = weights.filter(|weights| is_product && self.is_parameter(weights));
            weights.is_some_and(|weights| !self.is_made_of(weights, &is_integer))
        };
        self.float_layers = (0..self.graph().nodes.len())
            .filter(has_float_weights)
            .collect();
        self
    }

    /// Whether a node multiplies by weights that stay floats
    /// ([`with_integer_weights`](Self::with_integer_weights)): engines compute it on floats
    /// whatever it reads.
    pub fn has_float_weights(&self, node: usize) -> bool {
        self.float_layers.contains(&node)
    }

    /// Whether a value that depends on constants alone depends on one of some.
    fn is_made_of(&self, value: &'g str, is_one: impl Fn(&str) -> bool) -> bool {
        let mut waiting = vec![value];
        let mut seen = HashSet::from([value]);
        while let Some(name) = waiting.pop() {
            if is_one(name) {
                return true;
            }
            if let Some(producer) = self.producer(name) {
                let inputs = self.node(producer).inputs.iter().map(String::as_str);
                waiting.extend(inputs.filter(|input| seen.insert(input)));
            }
        }
        false
    }

    /// All layers, in the graph's order.
    pub fn layers(&self) -> impl Iterator<Item = Layer<'g>> {
        (0..self.graph().nodes.len()).filter_map(|node| self.layer(node))
    }

    /// All layers and transposed convolutions, in the graph's order.
    pub fn products(&self) -> impl Iterator<Item = Layer<'g>> {
        (0..self.graph().nodes.len()).filter_map(|node| self.product(node))
    }

    /// Multiply-accumulates of a layer in one run, as far as the inferred shape of its
    /// output tells them: each open extent counts as 1, and an output of unknown
    /// shape as one element a channel.
    pub fn multiply_accumulates(&self, layer: &Layer<'g>) -> f64 {
        let weights = self.constant_shape(layer.weights).unwrap_or(&[]);
        let weights: f64 = weights.iter().map(|&extent| extent as f64).product();
        let output = self
            .value(layer.output)
            .and_then(|value| value.shape.as_ref());
        let Some(shape) = output else {
            return weights;
        };
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(extent) => *extent as f64,
            Dim::Symbol(_) => 1.0,
        };
        let channels =
            axis_from_start(layer.channel_axis, shape.len()).map(|axis| extent(&shape[axis]));
        match channels.filter(|&channels| channels > 0.0) {
            Some(channels) => weights * shape.iter().map(extent).product::<f64>() / channels,
            None => weights,
        }
    }

    /// The layer whose accumulators a value is: its output, with bias and
    /// normalization where these follow, as far as nothing else reads what is
    /// between.
    pub fn layer_of(&self, value: &str) -> Option<Layer<'g>> {
        let mut at = self.producer(value)?;
        loop {
            if let Some(layer) = self.layer(at) {
                return Some(layer);
            }
            let input = self.epilogue_input(at)?;
            self.sole_use(input)?;
            at = self.producer(input)?;
        }
    }

    /// The activation that a normalization or the addition of a bias changes.
    fn epilogue_input(&self, node: usize) -> Option<&'g str> {
        let inputs = &self.node(node).inputs;
        match self.op(node) {
            Op::BatchNormalization(_) => inputs.first().map(String::as_str),
            Op::Binary(Binary::Add) => {
                let input = inputs.iter().find(|name| !self.is_parameter(name))?;
                let layer = self.layer(self.producer(input)?)?;
                let bias = self.added_bias(&layer)?;
                (bias.sum == Some(node)).then_some(input)
            }
            _ => None,
        }
    }

    /// The bias of a layer: its third input, or the constant of the sum that is
    /// its output's only reader, one element for each channel.
    pub fn bias(&self, layer: &Layer<'g>) -> Option<Bias<'g>> {
        let own = self.node(layer.node).inputs.get(2);
        match own.filter(|name| !name.is_empty()) {
            Some(name) => Some(Bias {
                name,
                sum: None,
                output: layer.output,
            }),
            None => self.added_bias(layer),
        }
    }

    fn added_bias(&self, layer: &Layer<'g>) -> Option<Bias<'g>> {
        let (sum, input) = self.sole_use(layer.output)?;
        if *self.op(sum) != Op::Binary(Binary::Add) {
            return None;
        }
        let node = self.node(sum);
        let name = node.inputs.get(1 - input)?;
        let shape = self.constant_shape(name)?;
        let weights = self.constant_shape(layer.weights)?;
        // Axes behind that of the channels.
        let (channels, after) = match self.op(layer.node) {
            Op::Conv(_) => (*weights.first()?, weights.len().checked_sub(2)?),
            Op::ConvTranspose(convolution) => (
                weights.get(1)?.checked_mul(convolution.groups)?,
                weights.len().checked_sub(2)?,
            ),
            Op::Gemm(gemm) if gemm.transpose_b => (*weights.first()?, 0),
            _ => (*weights.last()?, 0),
        };
        let at = shape.len().checked_sub(1 + after)?;
        let is_bias = shape.len() <= weights.len()
            && shape[at] == channels
            && shape.iter().product::<usize>() == channels;
        is_bias.then(|| Bias {
            name,
            sum: Some(sum),
            output: &node.outputs[0],
        })
    }

    /// The output of a layer with its bias, wherever that is added.
    pub fn biased_output(&self, layer: &Layer<'g>) -> &'g str {
        self.bias(layer).map_or(layer.output, |bias| bias.output)
    }

    /// The batch normalization that alone reads a layer's output.
    pub fn normalization(&self, layer: &Layer<'g>) -> Option<usize> {
        let (node, input) = self.sole_use(self.biased_output(layer))?;
        (input == 0 && matches!(self.op(node), Op::BatchNormalization(_))).then_some(node)
    }

    /// Whether a node is a ReLU, or a clip to constant bounds.
    pub fn is_clamp(&self, node: usize) -> bool {
        match self.op(node) {
            Op::Unary(Unary::Relu) => true,
            Op::Unary(Unary::Clip) => {
                let mut bounds = self.node(node).inputs.iter().skip(1);
                bounds.all(|name| name.is_empty() || self.is_parameter(name))
            }
            _ => false,
        }
    }

    /// The two operands of a sum of activations.
    pub fn summands(&self, node: usize) -> Option<[&'g str; 2]> {
        if *self.op(node) != Op::Binary(Binary::Add) {
            return None;
        }
        match self.node(node).inputs.as_slice() {
            [left, right] if !self.is_parameter(left) && !self.is_parameter(right) => {
                Some([left, right])
            }
            _ => None,
        }
    }
}
