//! The method `auto`: for each tensor, the design with the least measured
//! error at equal stored bytes.
//!
//! Designs of different granularity take different numbers of bytes. One more
//! bit a weight lowers the squared error of any good quantizer by a factor of
//! four (6.02 dB), so designs are compared at equal bytes by
//! `error * 4^(bits per weight)`.
//!
//! The error is that of the layer's output rather than of its weights. For
//! inputs of variance 1 and mean m, independent of each other, the output of a
//! channel with weight errors e has the mean squared error
//!
//! ```text
//! sum(e^2) + m^2 * sum(e)^2
//! ```
//!
//! What a ReLU makes of a Gaussian input has m^2 = 0.467. The second term is
//! what tells apart two designs of the same MSE of which one shifts the mean
//! of its channels: on ResNet-20 at 4 bits that costs 1.2 points of accuracy
//! at 0.1 dB.

use campana_codebook::QuantizedTensor;
use campana_design::{Levels, kmeans_levels};
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::shared::{GroupParameters, gather, shared_levels};
use crate::store::{Precision, Stored, store};

/// Squared mean over variance of max(0, x) for x ~ N(0, 1):
/// (1 / 2 pi) / (1/2 - 1 / 2 pi).
const RELU_MEAN_SQUARE_OVER_VARIANCE: f64 = 0.466_942_206_924_259_9;

/// The best of: one codebook for the tensor; one codebook with a scale, or a
/// scale and a shift, for each group; a codebook for each group. The last
/// three are tried where the partition has several groups.
pub(crate) fn best_design(
    weights: &[f32],
    shape: &[usize],
    channel_axis: Option<usize>,
    partition: &Partition,
    levels: usize,
) -> Stored {
    let whole = Partition::new(shape, None, Granularity::PerTensor);
    let mut candidates = vec![store(
        weights,
        shape,
        &whole,
        &[Levels::Free(kmeans_levels(weights, levels))],
        Precision::Coarse,
    )];
    if partition.group_count() > 1 {
        for parameters in [GroupParameters::Scale, GroupParameters::ScaleAndShift] {
            let designs = shared_levels(weights, partition, levels, parameters);
            candidates.push(store(
                weights,
                shape,
                partition,
                &designs,
                Precision::Coarse,
            ));
        }
        if partition.group_len() > levels {
            let designs: Vec<Levels> = (0..partition.group_count())
                .into_par_iter()
                .map(|group| {
                    Levels::Free(kmeans_levels(&gather(weights, partition, group), levels))
                })
                .collect();
            candidates.push(store(
                weights,
                shape,
                partition,
                &designs,
                Precision::Coarse,
            ));
        }
    }
    let channels = Partition::new(shape, channel_axis, Granularity::PerChannel);
    candidates
        .into_iter()
        .map(|stored| (cost(weights, &channels, &stored.tensor), stored))
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, stored)| stored)
        .expect("there is at least the design of the whole tensor")
}

/// Output error at equal bytes, up to a constant factor; see the module.
fn cost(weights: &[f32], channels: &Partition, tensor: &QuantizedTensor) -> f64 {
    let bits_per_weight = tensor.len_bytes() as f64 * 8.0 / weights.len() as f64;
    output_error(weights, &tensor.dequantize(), channels) * 4f64.powf(bits_per_weight)
}

/// Expected squared error of a layer's outputs for inputs as a ReLU makes
/// them, summed over output channels.
fn output_error(weights: &[f32], decoded: &[f32], channels: &Partition) -> f64 {
    let errors: Vec<f64> = (0..channels.group_count())
        .into_par_iter()
        .map(|channel| {
            let (mut sum, mut sum_of_squares) = (0.0, 0.0);
            for run in channels.runs(channel) {
                for (&weight, &decoded) in weights[run.clone()].iter().zip(&decoded[run]) {
                    let error = f64::from(decoded) - f64::from(weight);
                    sum += error;
                    sum_of_squares += error * error;
                }
            }
            sum_of_squares + RELU_MEAN_SQUARE_OVER_VARIANCE * sum * sum
        })
        .collect();
    errors.iter().sum()
}
