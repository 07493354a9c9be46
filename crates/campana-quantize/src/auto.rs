//! The method `auto`: for each tensor, the design with the least measured
//! error for its bytes.
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
//! at 0.1 dB. Where the mean is [corrected](crate::correct) afterwards, it
//! counts nothing.
//!
//! Designs of different granularity take different numbers of bytes, those of
//! the operators that decode them included. Layers
//! disturb a network by their error relative to their output's energy, large
//! layers and small ones alike, so bytes have one price in the whole network.
//! One more bit a weight lowers the error of any good quantizer by a factor of
//! four; for a layer of average size that makes a byte worth
//! `8 ln(4) error / weights`, with the error of 4 bits.
//!
//! A scale for each channel of a small layer then pays, though it is much for
//! its weights, and one for each channel of a large layer pays only where it
//! lowers the error of many weights.

use campana_codebook::QuantizedTensor;
use campana_design::{Levels, kmeans_levels};
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::shared::{GroupParameters, gather, shared_levels};
use crate::store::{Precision, Stored, store};
use crate::write::decoded_len_bytes;

/// Squared mean over variance of max(0, x) for x ~ N(0, 1):
/// (1 / 2 pi) / (1/2 - 1 / 2 pi).
const RELU_MEAN_SQUARE_OVER_VARIANCE: f64 = 0.466_942_206_924_259_9;

/// What errors and bytes cost in one network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Weights of a layer of average size.
    weights: f64,
    /// Squared mean over variance of inputs, for errors that remain.
    mean_square: f64,
    /// The price of a byte where a plan names it.
    byte: Option<f64>,
}

impl Prices {
    /// For a network of this many layers and weights.
    pub fn new(layers: usize, weights: usize, means_are_corrected: bool) -> Self {
        Self {
            weights: weights as f64 / layers.max(1) as f64,
            mean_square: if means_are_corrected {
                0.0
            } else {
                RELU_MEAN_SQUARE_OVER_VARIANCE
            },
            byte: None,
        }
    }

    /// The same with this price of a byte, whatever the number of levels.
    pub(crate) fn with_byte(self, price: f64) -> Self {
        Self {
            byte: Some(price),
            ..self
        }
    }

    /// Relative output error that a byte must save to be worth it, at about
    /// this many levels.
    fn byte(&self, levels: usize) -> f64 {
        if let Some(price) = self.byte {
            return price;
        }
        let error = PRICED_ERROR * (PRICED_LEVELS / levels as f64).min(1.0);
        8.0 * 4f64.ln() * error / self.weights.max(1.0)
    }
}

/// The error that prices a byte up to 16 levels: that of a Gaussian's optimal
/// quantizer of 16 levels (Max 1960, table I), 0.0095 of the variance.
///
/// At fewer levels errors are larger, but they cost more than in proportion:
/// activations are disturbed beyond what later layers were trained to bear.
/// On the one network where it was measured (a ResNet-20 for CIFAR-100), a byte
/// that a codebook for each channel takes at 2 bits gains several times what a
/// byte gains that is spent on more bits; so the price does not rise with the
/// error.
const PRICED_ERROR: f64 = 0.0095;
const PRICED_LEVELS: f64 = 16.0;

/// Which tables of levels a tensor may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// One for the tensor, the same for each group but for a scale.
    One,
    /// Also shifted ones, or one for each group.
    Any,
}

/// The best of: one codebook for the tensor; one codebook with a scale, or a
/// scale and a shift, for each group; a codebook for each group. The last
/// three are tried where the partition has several groups, and the last two
/// where `tables` allows them.
pub(crate) fn best_design(
    weights: &[f32],
    shape: &[usize],
    channel_axis: Option<usize>,
    partition: &Partition,
    levels: usize,
    prices: Prices,
    tables: Tables,
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
        let parameters: &[_] = match tables {
            Tables::One => &[GroupParameters::Scale],
            Tables::Any => &[GroupParameters::Scale, GroupParameters::ScaleAndShift],
        };
        for &parameters in parameters {
            let designs = shared_levels(weights, partition, levels, parameters);
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
    let energy = output_error(weights, &vec![0.0; weights.len()], &channels, 0.0);
    let price = prices.byte(levels);
    let cost = |tensor: &QuantizedTensor| {
        let decoded = tensor.dequantize();
        let error = output_error(weights, &decoded, &channels, prices.mean_square);
        error / energy.max(f64::MIN_POSITIVE) + price * decoded_len_bytes(tensor, "") as f64
    };
    let (least, best) = candidates
        .into_iter()
        .map(|stored| (cost(&stored.tensor), stored))
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .expect("there is at least the design of the whole tensor");
    // A codebook for each group takes long to design: not where its bytes alone
    // cost more than another design's bytes and error.
    let table_bytes = partition.group_count() * levels;
    if tables == Tables::One
        || partition.group_count() == 1
        || partition.group_len() <= levels
        || price * (best.tensor.packed.len() + table_bytes) as f64 > least
    {
        return best;
    }
    let designs: Vec<Levels> = (0..partition.group_count())
        .into_par_iter()
        .map(|group| Levels::Free(kmeans_levels(&gather(weights, partition, group), levels)))
        .collect();
    let own = store(weights, shape, partition, &designs, Precision::Coarse);
    if cost(&own.tensor) < least { own } else { best }
}

/// Expected squared error of a layer's outputs for inputs of variance 1 and
/// this squared mean, summed over output channels.
fn output_error(weights: &[f32], decoded: &[f32], channels: &Partition, mean_square: f64) -> f64 {
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
            sum_of_squares + mean_square * sum * sum
        })
        .collect();
    errors.iter().sum()
}
