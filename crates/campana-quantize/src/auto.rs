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
//! at 0.1 dB. Where the mean is corrected afterwards, it
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
//!
//! For engines that multiply integers the error is that of levels rounded to these,
//! and each channel's is relative to its own energy: a table for the whole tensor
//! then has steps that are large for channels of small weights, which the next
//! layer may amplify.

use campana_codebook::QuantizedTensor;
use campana_design::integer_levels::round_to_integers;
use campana_design::{Levels, kmeans_levels, kmeans_nearly};
use campana_ir::decoder::encode::decoded_len_bytes;
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::shared::{GroupParameters, gather, shared_levels, spread};
use crate::store::{Precision, Stored, store};

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
    /// The largest integer of levels, where products are on integers.
    integers: Option<f32>,
}

impl Prices {
    /// For a network of this many layers and weights, whose errors of the mean
    /// stay.
    pub fn new(layers: usize, weights: usize) -> Self {
        Self {
            weights: weights as f64 / layers.max(1) as f64,
            mean_square: RELU_MEAN_SQUARE_OVER_VARIANCE,
            byte: None,
            integers: None,
        }
    }

    /// The same for levels that are rounded to integers of at most this size.
    pub(crate) fn on_integers(self, largest: f32) -> Self {
        Self {
            integers: Some(largest),
            ..self
        }
    }

    /// The same for a tensor whose errors of the mean are corrected.
    #[must_use]
    pub fn with_corrected_mean(self) -> Self {
        Self {
            mean_square: 0.0,
            ..self
        }
    }

    /// The same with this price of a byte, whatever the number of levels.
    pub(crate) fn with_byte(self, price: f64) -> Self {
        Self {
            byte: Some(price),
            ..self
        }
    }

    /// For this share of a layer, the error of which is relative to its own
    /// output.
    fn of_share(self, share: f64) -> Self {
        Self {
            weights: self.weights * share,
            byte: self.byte.map(|price| price / share),
            ..self
        }
    }

    /// What a tensor costs in place of these weights, of which `energies` are the
    /// energies of the outputs.
    fn cost(
        &self,
        tensor: &QuantizedTensor,
        weights: &[f32],
        channels: &Partition,
        energies: &[f64],
    ) -> f64 {
        let decoded = match self.integers {
            Some(largest) => {
                let mut rounded = tensor.clone();
                round_to_integers(&mut rounded, largest);
                rounded.dequantize()
            }
            None => tensor.dequantize(),
        };
        let errors = output_errors(weights, &decoded, channels, self.mean_square);
        let error = match self.integers {
            Some(_) => relative_by_channel(&errors, energies),
            None => {
                let energy: f64 = energies.iter().sum();
                errors.iter().sum::<f64>() / energy.max(f64::MIN_POSITIVE)
            }
        };
        let bytes = decoded_len_bytes(tensor, "") as f64;
        error + self.byte(tensor.tables.levels()) * bytes
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
    /// One with a scale for each group.
    Scaled,
}

/// Weights from which the kind of design is chosen on some channels alone: 8 MB
/// of floats.
const MIN_SAMPLED: usize = 1 << 21;

/// Weights of these channels, and how many channels there must be. All designs
/// are compared on the same weights, so that their differences are far more
/// certain than the errors.
const SAMPLE: usize = 1 << 17;
const MIN_SAMPLED_CHANNELS: usize = 8;

/// How levels are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Design {
    /// One codebook for the tensor.
    Whole,
    /// One codebook with parameters for each group.
    Shared(GroupParameters),
    /// A codebook for each group.
    Own,
}

/// The best of: one codebook for the tensor; one codebook with a scale, or a
/// scale and a shift, for each group; a codebook for each group. The last
/// three are tried where the tensor has several groups, the last two where
/// `tables` allows them, and all for large tensors on some channels only.
pub(crate) fn best_design(
    weights: &[f32],
    shape: &[usize],
    channel_axis: Option<usize>,
    granularity: Granularity,
    levels: usize,
    prices: Prices,
    tables: Tables,
) -> Stored {
    let tensor = Subject::new(weights, shape, channel_axis, granularity, levels, tables);
    if tensor.groups.group_count() > 1
        && let Some(sample) = sample(weights, &tensor.channels)
    {
        let channel_len = tensor.channels.group_len();
        let shape = [sample.len() / channel_len, channel_len];
        let part = Subject {
            effort: Effort::Sample,
            ..Subject::new(&sample, &shape, Some(0), granularity, levels, tables)
        };
        let share = sample.len() as f64 / weights.len() as f64;
        let (design, _) = part.best(prices.of_share(share));
        return tensor.store(design);
    }
    tensor.best(prices).1
}

/// Some channels of a large tensor.
fn sample(weights: &[f32], channels: &Partition) -> Option<Vec<f32>> {
    if weights.len() < MIN_SAMPLED || channels.group_len() * MIN_SAMPLED_CHANNELS > SAMPLE {
        return None;
    }
    let sampled = spread(channels.group_count(), SAMPLE / channels.group_len());
    let weights_of = |channel| gather(weights, channels, channel);
    let sampled: Vec<_> = sampled.into_iter().map(weights_of).collect();
    Some(sampled.concat())
}

/// How near to the best levels are designed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// The best.
    Full,
    /// Of a tensor that takes long: those of groups nearly the best.
    Large,
    /// Of channels that only tell which kind of design is best: all nearly the
    /// best.
    Sample,
}

/// A tensor, or some channels of one, to be designed for.
struct Subject<'a> {
    weights: &'a [f32],
    shape: &'a [usize],
    groups: Partition,
    channels: Partition,
    levels: usize,
    tables: Tables,
    effort: Effort,
}

impl<'a> Subject<'a> {
    fn new(
        weights: &'a [f32],
        shape: &'a [usize],
        channel_axis: Option<usize>,
        granularity: Granularity,
        levels: usize,
        tables: Tables,
    ) -> Self {
        Self {
            weights,
            shape,
            groups: Partition::new(shape, channel_axis, granularity),
            channels: Partition::new(shape, channel_axis, Granularity::PerChannel),
            levels,
            tables,
            effort: if weights.len() >= MIN_SAMPLED {
                Effort::Large
            } else {
                Effort::Full
            },
        }
    }

    fn store(&self, design: Design) -> Stored {
        let &Self {
            weights,
            shape,
            ref groups,
            levels,
            ..
        } = self;
        let whole = Partition::new(shape, None, Granularity::PerTensor);
        let nearly = self.effort == Effort::Sample;
        let (partition, designs) = match design {
            Design::Whole if nearly => (&whole, vec![Levels::Free(kmeans_nearly(weights, levels))]),
            Design::Whole => (&whole, vec![Levels::Free(kmeans_levels(weights, levels))]),
            Design::Shared(parameters) => (
                groups,
                shared_levels(weights, groups, levels, parameters, nearly),
            ),
            Design::Own => (groups, self.own_levels()),
        };
        store(weights, shape, partition, &designs, Precision::Coarse)
    }

    /// A codebook for each group.
    fn own_levels(&self) -> Vec<Levels> {
        let design = match self.effort {
            Effort::Full => kmeans_levels,
            Effort::Large | Effort::Sample => kmeans_nearly,
        };
        let own = |group| design(&gather(self.weights, &self.groups, group), self.levels);
        let groups = (0..self.groups.group_count()).into_par_iter();
        groups.map(own).map(Levels::Free).collect()
    }

    /// The design of least cost, and what it makes of the weights.
    fn best(&self, prices: Prices) -> (Design, Stored) {
        let &Self {
            weights,
            ref groups,
            ref channels,
            levels,
            ..
        } = self;
        let energies = output_errors(weights, &vec![0.0; weights.len()], channels, 0.0);
        let price = prices.byte(levels);
        let cost = |tensor: &QuantizedTensor| prices.cost(tensor, weights, channels, &energies);
        let scaled = Design::Shared(GroupParameters::Scale);
        let shifted = Design::Shared(GroupParameters::ScaleAndShift);
        let designs = match self.tables {
            _ if groups.group_count() == 1 => vec![Design::Whole],
            Tables::Scaled => vec![scaled],
            Tables::One => vec![Design::Whole, scaled],
            Tables::Any => vec![Design::Whole, scaled, shifted],
        };
        let stored: Vec<_> = designs
            .into_par_iter()
            .map(|design| {
                let stored = self.store(design);
                (cost(&stored.tensor), design, stored)
            })
            .collect();
        let (least, design, best) = stored
            .into_iter()
            .min_by(|(a, ..), (b, ..)| a.total_cmp(b))
            .expect("there is at least the design of the whole tensor");
        // A codebook for each group takes long to design: not where its bytes
        // alone cost more than another design's bytes and error.
        let table_bytes = groups.group_count() * levels;
        if self.tables != Tables::Any
            || groups.group_count() == 1
            || groups.group_len() <= levels
            || price * (best.tensor.packed.len() + table_bytes) as f64 > least
        {
            return (design, best);
        }
        let own = self.store(Design::Own);
        if cost(&own.tensor) < least {
            (Design::Own, own)
        } else {
            (design, best)
        }
    }
}

/// Expected squared error of each output channel of a layer for inputs of variance 1
/// and this squared mean.
fn output_errors(
    weights: &[f32],
    decoded: &[f32],
    channels: &Partition,
    mean_square: f64,
) -> Vec<f64> {
    (0..channels.group_count())
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
        .collect()
}

/// Share of the mean energy below which a channel counts less: weights a hundredth of
/// the others' are normalized by some networks, and are noise in others.
const QUIET: f64 = 1e-4;

/// Mean of the channels' errors, each relative to its own energy.
fn relative_by_channel(errors: &[f64], energies: &[f64]) -> f64 {
    let len = energies.len().max(1) as f64;
    let least = (QUIET * energies.iter().sum::<f64>() / len).max(f64::MIN_POSITIVE);
    let pairs = errors.iter().zip(energies);
    pairs
        .map(|(error, energy)| error / energy.max(least))
        .sum::<f64>()
        / len
}

#[cfg(test)]
mod tests;
