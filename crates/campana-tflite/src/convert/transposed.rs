//! Transposed convolutions: TRANSPOSE_CONV.

use campana_ir::op::{AutoPad, Convolution};

use super::convolution::{Arrangement, as_images};
use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::{channels_last, laid_out};
use crate::schema::{Code, Options};

impl Converter<'_> {
    /// Without padding, as many elements as are made; what ONNX cuts off is
    /// sliced off behind.
    pub(super) fn transposed_convolution(
        &mut self,
        at: usize,
        convolution: &Convolution,
    ) -> Converted {
        let node = self.network.node(at);
        let input = node.inputs[0].as_str();
        if convolution.groups != 1 || convolution.window.is_dilated() {
            return Err("is grouped or dilated, which TRANSPOSE_CONV is not".to_owned());
        }
        let shape = self.values.shape(input)?;
        let kernel = self.weights_shape(&node.inputs[1])?;
        let channels = *kernel.get(1).ok_or(NO_FORM)?;
        let [full, cut, outputs] = transposed_extents(convolution, &shape, &kernel)?;
        let [weights, bias] = self.transposed_weights(at, channels)?;
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
        let part = self.values.reshaped(part, laid_out(&shape, &order));
        self.values.define(&node.outputs[0], shape, order, part);
        Ok(())
    }

    /// The weights and biases of a transposed convolution, as floats.
    fn transposed_weights(&mut self, at: usize, channels: usize) -> Converted<[usize; 2]> {
        let node = self.network.node(at);
        let weights = node.inputs[1].as_str();
        let values = self.weights(weights, 1)?;
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
            takes_int4: false,
        };
        let weights = self.weights_tensor(weights, as_images(values), arrangement);
        let name = format!("{}/bias", node.outputs[0]);
        let bias = self.values.floats(&name, vec![channels], &bias);
        Ok([weights, bias])
    }
}

/// Extents `[height, width]` of all that a transposed convolution makes, how
/// much of it is cut off before, and what stays.
fn transposed_extents(
    convolution: &Convolution,
    shape: &[usize],
    kernel: &[usize],
) -> Converted<[[usize; 2]; 3]> {
    if !matches!(convolution.window.padding, AutoPad::Explicit(_)) {
        return Err("has automatic padding".to_owned());
    }
    if !convolution.output_shape.is_empty() {
        return Err("has its output's shape as an attribute".to_owned());
    }
    let spatial = shape.len().saturating_sub(2);
    if !matches!(spatial, 1 | 2) || kernel.len() != shape.len() {
        return Err(NO_FORM.to_owned());
    }
    let mut found = [[1, 1], [0, 0], [1, 1]];
    for axis in 0..spatial {
        let at = axis + 2 - spatial;
        let places =
            convolution.transposed_along((axis, spatial), shape[axis + 2], kernel[axis + 2]);
        let places = places.ok_or("cuts off more than it makes")?;
        found[0][at] = places.reached.max(places.before + places.count);
        found[1][at] = places.before;
        found[2][at] = places.count;
    }
    Ok(found)
}
