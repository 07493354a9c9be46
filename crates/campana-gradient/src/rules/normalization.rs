//! Normalizations and softmax.

use campana_ir::op::{BatchNormalization, axis_from_start};
use rayon::prelude::*;

use crate::error::Fault;
use crate::rule::{Gradients, Reads, Rule, Step};

/// `BatchNormalization` by stored statistics.
#[derive(Debug)]
pub(crate) struct Batch(pub(crate) BatchNormalization);

/// `Softmax` and `LogSoftmax`.
#[derive(Debug)]
pub(crate) struct Softmax {
    is_log: bool,
    opset: i64,
}

/// `LayerNormalization` and `InstanceNormalization`.
#[derive(Debug)]
pub(crate) struct Normalized {
    is_instance: bool,
}

/// The opset since which a softmax is over one axis, the last by default.
const SOFTMAX_OF_ONE_AXIS: i64 = 13;

/// The rule of an operator of this name.
pub(crate) fn of(name: &str, opset: i64) -> Result<Box<dyn Rule>, Fault> {
    Ok(match name {
        "Softmax" | "LogSoftmax" => Box::new(Softmax {
            is_log: name == "LogSoftmax",
            opset,
        }),
        "LayerNormalization" | "InstanceNormalization" => Box::new(Normalized {
            is_instance: name == "InstanceNormalization",
        }),
        _ => return Err(Fault::no_gradient()),
    })
}

impl Rule for Batch {
    fn reads(&self, wanted: &[bool]) -> Reads {
        let of = |input: usize| wanted.get(input).copied().unwrap_or(false);
        let mut inputs = vec![1, 3, 4];
        if of(1) {
            inputs.push(0);
        }
        Reads::inputs(&inputs)
    }

    /// Mean and variance have no gradient: scale and bias span the same
    /// functions.
    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        if at.wants(3) || at.wants(4) {
            return Err(Fault::unsupported("the gradient of stored statistics"));
        }
        let shape = at.shape(0)?;
        let channels = shape.get(1).copied().unwrap_or(1);
        let plane: usize = shape.iter().skip(2).product();
        let (scale, mean, variance) = (at.floats(1)?, at.floats(3)?, at.floats(4)?);
        if [scale, mean, variance]
            .iter()
            .any(|values| values.len() != channels)
        {
            return Err(Fault::invalid(format!(
                "parameters of other than {channels} channels"
            )));
        }
        let inverse: Vec<f32> = variance
            .iter()
            .map(|variance| (variance + self.0.epsilon).sqrt().recip())
            .collect();
        let mut gradients = vec![None; at.node.inputs.len()];
        if at.wants(1) {
            let planes = at.floats(0)?.chunks_exact(plane.max(1));
            let mut own = vec![0.0; channels];
            for (i, (x, gradient)) in planes.zip(gradient.chunks_exact(plane.max(1))).enumerate() {
                let channel = i % channels;
                let products = x.iter().zip(gradient).map(|(x, g)| (x - mean[channel]) * g);
                own[channel] += products.sum::<f32>() * inverse[channel];
            }
            gradients[1] = Some(own);
        }
        if at.wants(2) {
            gradients[2] = Some(super::convolution::channel_sums(&gradient, channels, plane));
        }
        if at.wants(0) {
            let mut own = gradient;
            let planes = own.par_chunks_exact_mut(plane.max(1)).enumerate();
            planes.for_each(|(i, plane)| {
                let factor = scale[i % channels] * inverse[i % channels];
                plane.iter_mut().for_each(|value| *value *= factor);
            });
            gradients[0] = Some(own);
        }
        Ok(gradients)
    }
}

impl Rule for Softmax {
    fn reads(&self, _: &[bool]) -> Reads {
        Reads::OUTPUT
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let mut own = Step::first(outputs)?;
        let output = at.output()?;
        let shape = at.output_shape(0)?;
        let is_one = self.opset >= SOFTMAX_OF_ONE_AXIS;
        let axis = at.node.int("axis", if is_one { -1 } else { 1 });
        let axis = axis_from_start(axis, shape.len())
            .ok_or_else(|| Fault::invalid(format!("axis {axis}")))?;
        // Before, over all axes from this one on.
        let (len, stride) = match is_one {
            true => (shape[axis], shape[axis + 1..].iter().product()),
            false => (shape[axis..].iter().product(), 1usize),
        };
        for start in (0..own.len()).filter(|at| at / stride % len == 0) {
            let places = || (start..).step_by(stride).take(len);
            if self.is_log {
                let sum: f32 = places().map(|at| own[at]).sum();
                places().for_each(|at| own[at] -= output[at].exp() * sum);
            } else {
                let sum: f32 = places().map(|at| own[at] * output[at]).sum();
                places().for_each(|at| own[at] = output[at] * (own[at] - sum));
            }
        }
        Ok(vec![Some(own)])
    }
}

impl Rule for Normalized {
    fn reads(&self, _: &[bool]) -> Reads {
        Reads::inputs(&[0, 1])
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        let shape = at.shape(0)?;
        let axis = match self.is_instance {
            true => 2,
            false => {
                let axis = at.node.int("axis", -1);
                axis_from_start(axis, shape.len())
                    .ok_or_else(|| Fault::invalid(format!("axis {axis}")))?
            }
        };
        let len: usize = shape.iter().skip(axis).product();
        let (x, scale) = (at.floats(0)?, at.floats(1)?);
        let epsilon = at.node.float("epsilon", 1e-5);
        // Which scale an element has: of its channel, or of its place.
        let channels = shape.get(1).copied().unwrap_or(1);
        let factor = |row: usize, i: usize| match self.is_instance {
            true => row % channels,
            false => i % scale.len().max(1),
        };
        let mut own = vec![0.0; x.len()];
        let mut scale_gradient = vec![0.0; scale.len()];
        let mut bias_gradient = vec![0.0; scale.len()];
        let rows = x
            .chunks_exact(len.max(1))
            .zip(gradient.chunks_exact(len.max(1)));
        for (row, (x, gradient)) in rows.enumerate() {
            let mean = x.iter().sum::<f32>() / len as f32;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / len as f32;
            let inverse = (variance + epsilon).sqrt().recip();
            let normalized: Vec<f32> = x.iter().map(|x| (x - mean) * inverse).collect();
            let mut scaled = Vec::with_capacity(len);
            for (i, (gradient, normalized)) in gradient.iter().zip(&normalized).enumerate() {
                let at = factor(row, i);
                scale_gradient[at] += gradient * normalized;
                bias_gradient[at] += gradient;
                scaled.push(gradient * scale[at]);
            }
            let mean_gradient = scaled.iter().sum::<f32>() / len as f32;
            let products = scaled.iter().zip(&normalized).map(|(g, n)| g * n);
            let along = products.sum::<f32>() / len as f32;
            let own = &mut own[row * len..][..len];
            for ((own, scaled), normalized) in own.iter_mut().zip(&scaled).zip(&normalized) {
                *own = inverse * (scaled - mean_gradient - normalized * along);
            }
        }
        let mut gradients = vec![Some(own), Some(scale_gradient), Some(bias_gradient)];
        gradients.truncate(at.node.inputs.len());
        Ok(gradients)
    }
}
