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

use std::borrow::Cow;

use campana_codebook::{Packing, QuantizedTensor};
use campana_design::{Levels, kmeans_levels, quick_kmeans_levels};
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::shared::{GroupParameters, KMeans, gather, shared_levels};
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

/// Larger tensors choose their design by what a sample of their channels gains,
/// and take levels that are nearly the best: matrices of hundreds of megabytes
/// would take minutes otherwise.
const MAX_TRIED: usize = 1 << 20;

/// Channels of the sample: as many as it takes for scales to be stored as those
/// of all channels are.
const SAMPLED_CHANNELS: usize = 128;

/// Channels of it that are given codebooks of their own, which takes longest.
const SAMPLED_CODEBOOKS: usize = 32;

/// What levels are shared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Design {
    /// One codebook for the tensor.
    Whole,
    /// One table, and these parameters for each group.
    Shared(GroupParameters),
    /// A codebook for each group.
    Own,
}

/// Without a codebook for each group.
const QUICK_DESIGNS: [Design; 3] = [
    Design::Whole,
    Design::Shared(GroupParameters::Scale),
    Design::Shared(GroupParameters::ScaleAndShift),
];

/// The best of: one codebook for the tensor; one codebook with a scale, or a
/// scale and a shift, for each group; a codebook for each group. The last
/// three are tried where the partition has several groups.
///
/// Up to 2^20 weights all are carried out and compared. Beyond, all are carried
/// out on some channels, evenly spread, and the one that is best there, with
/// the bytes that it would take of all channels, on the tensor.
pub(crate) fn best_design(
    weights: &[f32],
    shape: &[usize],
    channel_axis: Option<usize>,
    partition: &Partition,
    levels: usize,
    prices: Prices,
) -> Stored {
    let layer = Layer {
        weights: weights.into(),
        shape: shape.to_vec(),
        channel_axis,
        partition: partition.clone(),
        levels,
        quick: weights.len() > MAX_TRIED,
    };
    if partition.group_count() == 1 {
        return layer.store(Design::Whole);
    }
    if layer.quick
        && let Some(sample) = layer.sample(SAMPLED_CHANNELS)
    {
        return layer.store(best_of_sample(&layer, &sample, prices));
    }
    let price = prices.byte(levels);
    let cost_of = layer.cost_function(prices);
    let cost = |stored: &Stored| {
        cost_of(&stored.tensor) + price * decoded_len_bytes(&stored.tensor, "") as f64
    };
    let (least, best) = QUICK_DESIGNS
        .map(|design| layer.store(design))
        .into_iter()
        .map(|stored| (cost(&stored), stored))
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .expect("there are quick designs");
    if !layer.may_own(price, best.tensor.packed.len(), least) {
        return best;
    }
    let own = layer.store(Design::Own);
    if cost(&own) < least { own } else { best }
}

/// The best design of a layer by what each costs a sample of its channels.
fn best_of_sample(layer: &Layer<'_>, sample: &Layer<'_>, prices: Prices) -> Design {
    let price = prices.byte(layer.levels);
    let cheapest = |sample: &Layer<'_>, designs: &[Design]| {
        let cost_of = sample.cost_function(prices);
        designs
            .iter()
            .map(|&design| {
                let tensor = sample.store(design).tensor;
                let cost = cost_of(&tensor) + price * layer.len_bytes_by(&tensor);
                (cost, design)
            })
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .expect("at least one design is tried")
    };
    let (least, best) = cheapest(sample, &QUICK_DESIGNS);
    let packed = Packing::densest(layer.levels).len_bytes(layer.weights.len());
    if !layer.may_own(price, packed, least) {
        return best;
    }
    let few = sample.sample(SAMPLED_CODEBOOKS);
    cheapest(few.as_ref().unwrap_or(sample), &[best, Design::Own]).1
}

/// Weights that are designed for together.
struct Layer<'a> {
    weights: Cow<'a, [f32]>,
    shape: Vec<usize>,
    channel_axis: Option<usize>,
    partition: Partition,
    levels: usize,
    /// Whether levels are nearly the best rather than the best.
    quick: bool,
}

impl Layer<'_> {
    /// This many channels, evenly spread; `None` where there are not twice as
    /// many.
    fn sample(&self, channels: usize) -> Option<Layer<'static>> {
        let axis = self.channel_axis.filter(|&axis| axis < self.shape.len())?;
        let extents = self.partition.extents();
        let all = extents[2];
        if all < 2 * channels {
            return None;
        }
        let row_len = extents[3] * extents[4];
        let mut weights = Vec::with_capacity(self.weights.len() / all * channels);
        for outer in self.weights.chunks_exact(all * row_len) {
            for channel in 0..channels {
                let row = channel * all / channels * row_len;
                weights.extend_from_slice(&outer[row..row + row_len]);
            }
        }
        let mut shape = self.shape.clone();
        shape[axis] = channels;
        Some(Layer {
            weights: weights.into(),
            shape,
            channel_axis: self.channel_axis,
            partition: Partition::from_extents([
                extents[0], extents[1], channels, extents[3], extents[4],
            ]),
            levels: self.levels,
            quick: self.quick,
        })
    }

    fn store(&self, design: Design) -> Stored {
        let (weights, levels) = (&*self.weights, self.levels);
        let kmeans: KMeans = if self.quick {
            quick_kmeans_levels
        } else {
            kmeans_levels
        };
        let store = |partition: &Partition, designs: &[Levels]| {
            store(weights, &self.shape, partition, designs, Precision::Coarse)
        };
        match design {
            Design::Whole => {
                let whole = Partition::new(&self.shape, None, Granularity::PerTensor);
                store(&whole, &[Levels::Free(kmeans(weights, levels))])
            }
            Design::Shared(parameters) => {
                let designs = shared_levels(weights, &self.partition, levels, parameters, kmeans);
                store(&self.partition, &designs)
            }
            Design::Own => {
                let levels_of = |group| {
                    let weights = gather(weights, &self.partition, group);
                    Levels::Free(kmeans(&weights, levels))
                };
                let groups = 0..self.partition.group_count();
                let designs: Vec<Levels> = groups.into_par_iter().map(levels_of).collect();
                store(&self.partition, &designs)
            }
        }
    }

    /// The error of the layer's output, relative to the output, by its stored
    /// weights.
    fn cost_function(&self, prices: Prices) -> impl Fn(&QuantizedTensor) -> f64 {
        let channels = Partition::new(&self.shape, self.channel_axis, Granularity::PerChannel);
        let weights = &self.weights;
        let energy = output_error(weights, &vec![0.0; weights.len()], &channels, 0.0);
        move |tensor| {
            let error = output_error(weights, &tensor.dequantize(), &channels, prices.mean_square);
            error / energy.max(f64::MIN_POSITIVE)
        }
    }

    /// Whether codebooks for each group may pay. They take long to design: not
    /// where their bytes alone cost more than another design's bytes and error.
    fn may_own(&self, price: f64, packed_len: usize, least: f64) -> bool {
        let table_bytes = self.partition.group_count() * self.levels;
        self.partition.group_len() > self.levels
            && price * (packed_len + table_bytes) as f64 <= least
    }

    /// Bytes that this layer would take if it was stored as some of its channels
    /// are.
    fn len_bytes_by(&self, sampled: &QuantizedTensor) -> f64 {
        let ratio = self.weights.len() as f64 / sampled.partition.len() as f64;
        let shared_table = match sampled.table_of_group {
            Some(_) => 0,
            None => sampled.tables.len_bytes(),
        };
        let in_proportion = (sampled.len_bytes() - shared_table) as f64;
        decoded_len_bytes(sampled, "") as f64 + in_proportion * (ratio - 1.0)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the bytes expected by a sample, relative.
    const MAX_LEN_ERROR: f64 = 0.01;

    /// Weights of channels that are `spread` times as large, one after another,
    /// up to the last.
    fn layer(channels: usize, channel_len: usize, spread: f32) -> Layer<'static> {
        let mut state = 9u64;
        let mut uniform = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let weights: Vec<f32> = (0..channels * channel_len)
            .map(|i| {
                let place = (i / channel_len) as f32 / channels as f32;
                spread.powf(place) * (uniform() + uniform() + uniform() + uniform())
            })
            .collect();
        let shape = vec![channels, channel_len];
        Layer {
            weights: weights.into(),
            partition: Partition::new(&shape, Some(0), Granularity::PerChannel),
            shape,
            channel_axis: Some(0),
            levels: 16,
            quick: true,
        }
    }

    #[test]
    fn a_sample_tells_which_design_a_layer_wants() {
        let prices = Prices::new(1, 512 * 256, true);
        let chosen = |spread| {
            let layer = layer(512, 256, spread);
            let sample = layer.sample(SAMPLED_CHANNELS).expect("many channels");
            best_of_sample(&layer, &sample, prices)
        };
        assert_eq!(chosen(1.0), Design::Whole);
        assert!(matches!(chosen(100.0), Design::Shared(_)));
    }

    #[test]
    fn bytes_of_all_channels_are_known_from_some() {
        let layer = layer(512, 256, 3.0);
        let sample = layer.sample(SAMPLED_CHANNELS).expect("many channels");
        for design in [Design::Whole, QUICK_DESIGNS[1], Design::Own] {
            let expected = layer.len_bytes_by(&sample.store(design).tensor);
            let found = decoded_len_bytes(&layer.store(design).tensor, "") as f64;
            let error = (expected - found).abs() / found;
            assert!(error <= MAX_LEN_ERROR, "{design:?}: {expected} of {found}");
        }
    }

    #[test]
    fn a_sample_has_whole_channels_along_any_axis() {
        let mut layer = layer(4, 6, 1.0);
        layer.weights = (0..24).map(|i| i as f32).collect::<Vec<_>>().into();
        layer.shape = vec![2, 4, 3];
        layer.channel_axis = Some(1);
        layer.partition = Partition::new(&layer.shape, Some(1), Granularity::PerChannel);
        let sample = layer.sample(2).expect("twice as many channels");
        assert_eq!(sample.shape, [2, 2, 3]);
        let expected = [0, 1, 2, 6, 7, 8, 12, 13, 14, 18, 19, 20].map(|i| i as f32);
        assert_eq!(*sample.weights, expected);
        assert!(layer.sample(3).is_none());
    }
}
