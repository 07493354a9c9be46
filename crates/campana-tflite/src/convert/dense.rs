//! Matrix products: FULLY_CONNECTED with constant weights, BATCH_MATMUL without.

use campana_ir::network::Layer;
use campana_ir::op::Gemm;

use super::Converter;
use super::convolution::{Arrangement, VARIABLE_WEIGHTS};
use crate::error::Converted;
use crate::layout::native;
use crate::schema::{Code, Options};
use crate::values::{Made, Params};

impl<'n> Converter<'n> {
    pub(super) fn gemm(&mut self, at: usize, gemm: Gemm) -> Converted {
        let layer = self.network.layer(at).ok_or(VARIABLE_WEIGHTS)?;
        let shape = self.values.shape(layer.input)?;
        if gemm.transpose_a || shape.len() != 2 {
            return Err("multiplies a transposed input, which FULLY_CONNECTED does not".to_owned());
        }
        if gemm.beta != 1.0 && self.network.bias(&layer).is_some() || gemm.alpha != 1.0 {
            return Err("has an alpha or beta other than 1".to_owned());
        }
        self.fully_connected(&layer, &shape, usize::from(!gemm.transpose_b))
    }

    pub(super) fn matmul(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        if let Some(layer) = self.network.layer(at) {
            let kernel = self.parameters.shape(layer.weights);
            let shape = self.values.shape(layer.input)?;
            if kernel.is_some_and(|kernel| kernel.len() == 2) && shape.len() >= 2 {
                return self.fully_connected(&layer, &shape, 1);
            }
        }
        let mut operands = Vec::new();
        let mut shapes = Vec::new();
        let output = node.outputs[0].as_str();
        let params = node.inputs.iter().map(|name| self.values.params(name));
        let params: Option<Vec<Params>> = params.collect();
        let params = params.zip(self.rounded(output));
        for (i, name) in node.inputs.iter().enumerate() {
            let (shape, operand) = match self.parameters.floats(name) {
                Some((shape, values)) => {
                    let values = values.into_owned();
                    let operand = self.values.floats(name, shape.clone(), &values);
                    (shape, operand)
                }
                None => {
                    let shape = self.values.shape(name)?;
                    let own = params.as_ref().map(|(inputs, _)| inputs[i]);
                    let operand = self.values.operand(name, own, &native(shape.len()))?;
                    (shape, operand)
                }
            };
            shapes.push(shape);
            operands.push(operand);
        }
        let (left, right) = (&shapes[0], &shapes[1]);
        if left.len() != right.len() || left.len() < 2 {
            return Err("multiplies tensors of different ranks".to_owned());
        }
        let outer = left.len() - 2;
        let extents = (0..outer).map(|axis| left[axis].max(right[axis]));
        let shape: Vec<usize> = extents.chain([left[outer], right[outer + 1]]).collect();
        let epilogue = self.epilogue(output);
        let made = Made {
            order: native(shape.len()),
            params: params.map(|(_, output)| output),
            shape: shape.clone(),
        };
        self.finish(&epilogue, made, shape, |values, output| {
            values.operator(Code::BatchMatmul, operands, output, Options::BatchMatmul);
        });
        Ok(())
    }

    /// A product with a matrix of weights whose output channels are an axis of
    /// it, over the last axis of the input.
    fn fully_connected(
        &mut self,
        layer: &Layer<'n>,
        shape: &[usize],
        channel_axis: usize,
    ) -> Converted {
        let kernel = self.parameters.shape(layer.weights);
        let kernel = kernel.filter(|kernel| kernel.len() == 2);
        let kernel = kernel.ok_or("has weights that are no constant matrix")?;
        let channels = *kernel.get(channel_axis).ok_or(VARIABLE_WEIGHTS)?;
        let (weights, tail, params) = self.layer(layer, channels, channel_axis)?;
        let order = [channel_axis, 1 - channel_axis];
        let arrangement = Arrangement {
            channels: channel_axis,
            order: &order,
            factors: &tail.factors,
            on_integers: params.is_some(),
            takes_int4: true,
        };
        let input_params = params.map(|[input, _]| input);
        let weights = self.weights_tensor(layer.weights, weights, arrangement);
        let bias = self.bias_tensor(layer.output, &tail, weights, input_params);
        let input = self
            .values
            .operand(layer.input, input_params, &native(shape.len()))?;
        self.take_tail(&tail);
        let mut made = shape.to_vec();
        if let Some(last) = made.last_mut() {
            *last = channels;
        }
        let keeps_axes = shape.len() > 2;
        let extents = made.clone();
        let made = Made {
            order: native(shape.len()),
            shape: made,
            params: params.map(|[_, output]| output),
        };
        self.finish_activated(
            &tail.epilogue,
            made,
            extents,
            |values, output, activation| {
                let options = Options::FullyConnected {
                    keeps_axes,
                    activation,
                };
                let inputs = vec![input, weights, bias];
                values.operator(Code::FullyConnected, inputs, output, options);
            },
        );
        Ok(())
    }
}
