//! Convolutions and transposed convolutions, as matrix products over columns of
//! windows; depthwise ones window by window.

use campana_ir::graph::Node;
use campana_ir::op::{AutoPad, Convolution, Window};
use rayon::prelude::*;

use crate::error::Fault;
use crate::product::Matrix;
use crate::rule::{Gradients, Reads, Rule, Step};
use crate::window::Windows;

/// Parts of a batch whose gradients of the weights are summed by themselves:
/// fixed, so that sums do not depend on the number of threads.
const PARTS: usize = 4;

/// `Conv`.
#[derive(Debug)]
pub(crate) struct Conv(pub(crate) Convolution);

/// `ConvTranspose`.
#[derive(Debug)]
pub(crate) struct ConvTranspose(Convolution);

impl ConvTranspose {
    /// The rule of a node, where its padding is stated.
    pub(crate) fn new(convolution: &Convolution, node: &Node) -> Result<Self, Fault> {
        let is_explicit = matches!(convolution.window.padding, AutoPad::Explicit(_))
            && !node.attributes.contains_key("output_shape");
        match is_explicit {
            true => Ok(Self(convolution.clone())),
            false => Err(Fault::unsupported(
                "no gradient of a transposed convolution without explicit padding is known",
            )),
        }
    }
}

impl Rule for Conv {
    fn reads(&self, wanted: &[bool]) -> Reads {
        Reads::of_product(wanted)
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        let layer = Layer::new(&self.0, at.shape(0)?, at.shape(1)?, at.output_shape(0)?)?;
        let mut gradients = vec![None; at.node.inputs.len()];
        if at.wants(0) {
            gradients[0] = Some(layer.input_gradient(at.floats(1)?, &gradient));
        }
        if at.wants(1) {
            gradients[1] = Some(layer.weight_gradient(at.floats(0)?, &gradient));
        }
        if at.wants(2) {
            gradients[2] = Some(channel_sums(&gradient, layer.filters, layer.windows.output));
        }
        Ok(gradients)
    }
}

impl Rule for ConvTranspose {
    fn reads(&self, wanted: &[bool]) -> Reads {
        Reads::of_product(wanted)
    }

    /// A transposed convolution is the way back through a convolution from its
    /// output to its input, so its own way back is that convolution.
    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        let layer = Layer::new(&self.0, at.output_shape(0)?, at.shape(1)?, at.shape(0)?)?;
        let mut gradients = vec![None; at.node.inputs.len()];
        if at.wants(0) {
            gradients[0] = Some(layer.forward(&gradient, at.floats(1)?));
        }
        if at.wants(1) {
            gradients[1] = Some(layer.weight_gradient(&gradient, at.floats(0)?));
        }
        if at.wants(2) {
            gradients[2] = Some(channel_sums(&gradient, layer.channels, layer.windows.input));
        }
        Ok(gradients)
    }
}

/// The sum of each channel of `[batch, channels, plane]`.
pub(crate) fn channel_sums(values: &[f32], channels: usize, plane: usize) -> Vec<f32> {
    let mut sums = vec![0.0; channels];
    for (i, plane) in values.chunks_exact(plane.max(1)).enumerate() {
        sums[i % channels] += plane.iter().sum::<f32>();
    }
    sums
}

/// The extents of a convolution.
struct Layer {
    channels: usize,
    filters: usize,
    groups: usize,
    windows: Windows,
}

impl Layer {
    fn new(
        convolution: &Convolution,
        input: &[usize],
        weights: &[usize],
        output: &[usize],
    ) -> Result<Self, Fault> {
        let window: &Window = &convolution.window;
        let groups = convolution.groups;
        let ([_, channels, input @ ..], [_, filters, output @ ..], [first, own, kernel @ ..]) =
            (input, output, weights)
        else {
            return Err(Fault::invalid("fewer than two axes"));
        };
        let fits = filters == first && own * groups == *channels && filters.is_multiple_of(groups);
        if !fits {
            return Err(Fault::invalid(format!(
                "weights {weights:?} in {groups} groups for {channels} channels"
            )));
        }
        Ok(Self {
            channels: *channels,
            filters: *filters,
            groups,
            windows: Windows::new(window, kernel, input, output)?,
        })
    }

    /// Channels and filters of a group, and products for each output.
    fn of_group(&self) -> [usize; 3] {
        let channels = self.channels / self.groups;
        [
            channels,
            self.filters / self.groups,
            channels * self.windows.taps,
        ]
    }

    /// Whether each filter sees one channel: then windows are gone through one by
    /// one.
    fn is_depthwise(&self) -> bool {
        self.groups == self.channels
    }

    fn images(&self, output: &[f32]) -> usize {
        output.len() / (self.filters * self.windows.output).max(1)
    }

    /// The gradient of the input, shape `[batch, channels, ..]`.
    fn input_gradient(&self, weights: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (Self { windows, .. }, [channels, filters, depth]) = (self, self.of_group());
        let mut input = vec![0.0; self.images(gradient) * self.channels * windows.input];
        let groups = input.par_chunks_exact_mut((channels * windows.input).max(1));
        let gradients = gradient.par_chunks_exact((filters * windows.output).max(1));
        if self.is_depthwise() {
            groups
                .zip(gradients)
                .enumerate()
                .for_each(|(at, (plane, gradients))| {
                    let weights = &weights[at % self.groups * filters * depth..][..filters * depth];
                    let own = gradients.chunks_exact(windows.output.max(1));
                    for (gradient, weights) in own.zip(weights.chunks_exact(depth)) {
                        for span in &windows.spans {
                            let outputs = &gradient[span.outputs()];
                            windows.add_span(span, plane, outputs, weights[span.tap]);
                        }
                    }
                });
            return input;
        }
        let transposed: Vec<Vec<f32>> = weights
            .chunks_exact((filters * depth).max(1))
            .map(|own| Matrix::new(own, filters, depth).transposed())
            .collect();
        groups
            .zip(gradients)
            .enumerate()
            .for_each(|(at, (planes, gradient))| {
                let weights = Matrix::new(&transposed[at % self.groups], depth, filters);
                let gradient = Matrix::new(gradient, filters, windows.output);
                if windows.is_pointwise() {
                    weights.multiply_add(gradient, planes);
                } else {
                    let mut columns = vec![0.0; depth * windows.output];
                    weights.multiply_add(gradient, &mut columns);
                    windows.scatter(&columns, planes);
                }
            });
        input
    }

    /// The gradient of the weights, shape `[filters, channels / groups, ..]`.
    fn weight_gradient(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let [_, filters, depth] = self.of_group();
        if self.is_depthwise() {
            return self.depthwise_weight_gradient(input, gradient);
        }
        let images = self.images(gradient);
        let parts = PARTS.min(images).max(1);
        let sums: Vec<Vec<f32>> = (0..self.groups * parts)
            .into_par_iter()
            .map(|job| {
                let (group, part) = (job / parts, job % parts);
                // Transposed: [depth, filters].
                let mut sums = vec![0.0; depth * filters];
                for image in (part..images).step_by(parts) {
                    self.add_weight_gradient([image, group], input, gradient, &mut sums);
                }
                sums
            })
            .collect();
        let mut weights = vec![0.0; self.filters * depth];
        for (group, parts) in sums.chunks_exact(parts).enumerate() {
            let own = &mut weights[group * filters * depth..][..filters * depth];
            for part in parts {
                for (filter, own) in own.chunks_exact_mut(depth.max(1)).enumerate() {
                    let column = part[filter..].iter().step_by(filters);
                    own.iter_mut()
                        .zip(column)
                        .for_each(|(sum, &value)| *sum += value);
                }
            }
        }
        weights
    }

    /// Adds what one group of one image has for its weights.
    fn add_weight_gradient(
        &self,
        [image, group]: [usize; 2],
        input: &[f32],
        gradient: &[f32],
        sums: &mut [f32],
    ) {
        let (Self { windows, .. }, [channels, filters, depth]) = (self, self.of_group());
        let at = image * self.groups + group;
        let planes = &input[at * channels * windows.input..][..channels * windows.input];
        let gradient = &gradient[at * filters * windows.output..][..filters * windows.output];
        let gradient = Matrix::new(gradient, filters, windows.output);
        if windows.is_pointwise() {
            Matrix::new(planes, depth, windows.output).multiply_transposed_add(gradient, sums);
        } else {
            let columns = windows.columns(planes);
            Matrix::new(&columns, depth, windows.output).multiply_transposed_add(gradient, sums);
        }
    }

    fn depthwise_weight_gradient(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (Self { windows, .. }, [_, filters, taps]) = (self, self.of_group());
        let images = self.images(gradient);
        let mut weights = vec![0.0; self.filters * taps];
        let of_filters = weights.par_chunks_exact_mut(taps.max(1)).enumerate();
        of_filters.for_each(|(filter, weights)| {
            for image in 0..images {
                let channel = image * self.channels + filter / filters;
                let plane = &input[channel * windows.input..][..windows.input];
                let own = (image * self.filters + filter) * windows.output;
                let gradient = &gradient[own..own + windows.output];
                for span in &windows.spans {
                    let outputs = &gradient[span.outputs()];
                    weights[span.tap] += if windows.stride == 1 {
                        dot(&plane[span.input..span.input + span.len], outputs)
                    } else {
                        let inputs = span.inputs(windows.stride);
                        inputs
                            .zip(outputs)
                            .map(|(at, output)| plane[at] * output)
                            .sum()
                    };
                }
            }
        });
        weights
    }

    /// The convolution itself, shape `[batch, filters, ..]`.
    fn forward(&self, input: &[f32], weights: &[f32]) -> Vec<f32> {
        let (Self { windows, .. }, [channels, filters, depth]) = (self, self.of_group());
        let images = input.len() / (self.channels * windows.input).max(1);
        let mut output = vec![0.0; images * self.filters * windows.output];
        let groups = output.par_chunks_exact_mut((filters * windows.output).max(1));
        let planes = input.par_chunks_exact((channels * windows.input).max(1));
        groups
            .zip(planes)
            .enumerate()
            .for_each(|(at, (output, planes))| {
                let own = &weights[at % self.groups * filters * depth..][..filters * depth];
                let columns = windows.columns(planes);
                let columns = Matrix::new(&columns, depth, windows.output);
                Matrix::new(own, filters, depth).multiply_add(columns, output);
            });
        output
    }
}

/// A dot product in as many sums as a vector register holds.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0f32; LANES];
    let (lefts, rights) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = lefts.remainder().iter().zip(rights.remainder());
    let rest: f32 = rest.map(|(left, right)| left * right).sum();
    for (left, right) in lefts.zip(rights) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    sums.iter().sum::<f32>() + rest
}
