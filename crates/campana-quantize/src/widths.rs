//! Widths under `--bits N`: more than N for small layers, in networks with
//! depthwise convolutions and up to 2 bits in all, where levels are not those of
//! a fixed method; and for depthwise filters, where products are on integers.
//!
//! Layers disturb a network by their error relative to their output's energy,
//! large layers and small ones alike (see [`auto`](crate::auto)), and one more
//! bit a weight lowers that error by a factor of four. The sum of the errors is
//! then least for its bytes where each is in proportion to the layer's number
//! of weights: a layer of a quarter of the weights gets one bit more. The layers
//! that are widened (the first ones, and depthwise ones) are many but hold few
//! weights.
//!
//! In a residual block a layer disturbs the network by its block's
//! [share](crate::residual) of the sum only: it counts as if it had as many
//! weights as would give the same error by themselves, its own over the share.
//! Blocks that nothing leads around, as the last one often is, have no share to
//! hide behind.
//!
//! Large layers never get less than was asked for: the largest is often the
//! classifier, whose errors no later layer averages out. Networks without depthwise
//! convolutions keep the width everywhere from 3 bits on: their small layers are
//! sums of a hundred products and more, and the ResNets at hand lose next to
//! nothing at 4 bits. At 2 bits a ResNet-20 on CIFAR-100, calibrated, gained two
//! points by a third bit for its small layers, 7 % of the file.
//!
//! Where products are on integers, kernels look up codes of up to 4 bits at the
//! same speed: small layers are not widened beyond. TFLite has weights of 4 and 8
//! bits: small layers get 8.

use campana_design::lloyd_max::MAX_BITS;

use crate::choice::{GRID_BITS, MethodChoice, Target, TensorChoice};
use crate::options::Options;

/// Bits of depthwise filters of a `w4a8` model.
///
/// They are a few percent of the weights (in MobileNetV1 0.25, 2 % of the
/// file), nine a channel, so that their errors do not average out; rounded
/// activations come on top. The kernels compute them in 8 bits at any width.
const DEPTHWISE_BITS: u8 = 8;

/// Bytes that wider codes may take in all, as a share of those of the codes
/// that were asked for: a third of a bit at 4 bits. Rather a choice than an
/// optimum; it is as much as a codebook for each channel takes in small
/// networks.
const MAX_GROWTH: f64 = 1.0 / 12.0;

/// Up to this width small layers are widened in every network.
const WIDENED_EVERYWHERE: u8 = 2;

/// The widest codes that integer kernels look up in registers.
const LOOKED_UP_BITS: u8 = 4;

/// Steps of an octave in which the size is sought from which on layers get
/// what was asked for.
const STEPS: f64 = 4.0;

/// What the width of a layer's weights depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer {
    /// Number of weights.
    pub(crate) count: usize,
    /// Its share of the energy of the sum that it goes into, or 1.
    pub(crate) share: f64,
    /// Whether the weights are those of a depthwise convolution.
    pub(crate) is_depthwise: bool,
}

/// The widths of one network's layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Widths {
    bits: u8,
    /// No layer is widened beyond.
    most: u8,
    /// What more bits than those of a grid are stored in, where nothing lies
    /// between.
    above_grid: Option<u8>,
    /// A layer of this many weights gets what was asked for, exactly; 0 for
    /// the same width everywhere.
    reference: f64,
}

impl Widths {
    /// For the layers whose weights get `options.bits`.
    pub(crate) fn new(options: &Options, layers: &[Layer]) -> Self {
        let bits = options.bits;
        // Where codes are looked up for products of integers, the width is a promise of speed.
        let is_looked_up = options.target.rounds_activations() && !options.target.stores_integers();
        let most = match is_looked_up {
            true => LOOKED_UP_BITS.max(bits),
            false => MAX_BITS,
        };
        let same = Self {
            bits,
            most,
            above_grid: (options.target == Target::TfLite && bits <= GRID_BITS).then_some(MAX_BITS),
            reference: 0.0,
        };
        let has_depthwise = layers.iter().any(|layer| layer.is_depthwise);
        let is_fixed = matches!(options.method, MethodChoice::Fixed(_));
        if options.plan.is_some() || is_fixed || !(has_depthwise || bits <= WIDENED_EVERYWHERE) {
            return same;
        }
        let counts: Vec<(f64, f64)> = layers
            .iter()
            .map(|layer| (layer.count as f64, layer.share))
            .collect();
        let room =
            MAX_GROWTH * f64::from(bits) * counts.iter().map(|(count, _)| count).sum::<f64>();
        let taken = |widths: &Self| -> f64 {
            let more = |&(count, share): &(f64, f64)| {
                count * f64::from(widths.by_size(count, share) - bits)
            };
            counts.iter().map(more).sum()
        };
        let sizes = counts.iter().map(|(count, share)| count / share);
        let largest = sizes.fold(0.0, f64::max);
        // No layer is widened beyond 8 bits, wherever it would end.
        (0..=(largest * 4f64.powi(8)).max(1.0).log2() as u32 * STEPS as u32)
            .map(|step| Self {
                reference: (f64::from(step) / STEPS).exp2(),
                ..same
            })
            .take_while(|widths| taken(widths) <= room)
            .last()
            .unwrap_or(same)
    }

    /// What becomes of a weight tensor; a plan or a pattern that names its width
    /// comes first.
    pub(crate) fn choice_of(&self, options: &Options, name: &str, layer: Layer) -> TensorChoice {
        let choice = options.choice_of(name);
        if options.plan.is_some() || options.bits_for(name).is_some() {
            return choice;
        }
        let has_8_bits = match options.target {
            Target::W4a8 => layer.is_depthwise,
            // Runtimes have products of 4 bits for other layers alone.
            Target::TfLite => layer.is_depthwise && self.bits <= GRID_BITS,
            _ => false,
        };
        let bits = match has_8_bits {
            true => DEPTHWISE_BITS,
            false => self.by_size(layer.count as f64, layer.share),
        };
        TensorChoice {
            bits: Some(bits),
            ..choice
        }
    }

    /// Bits of a code for a tensor of this many weights and this share.
    fn by_size(&self, count: f64, share: f64) -> u8 {
        let more = 0.5 * (self.reference * share / count.max(1.0)).log2();
        let most = f64::from(self.most - self.bits);
        let bits = self.bits + more.round().clamp(0.0, most) as u8;
        match self.above_grid {
            Some(wide) if bits > GRID_BITS => wide,
            _ => bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPTHWISE: Layer = Layer {
        count: 18,
        share: 1.0,
        is_depthwise: true,
    };

    fn layer(count: usize, share: f64) -> Layer {
        Layer {
            count,
            share,
            is_depthwise: false,
        }
    }

    /// Widths of layers of so many weights beside a depthwise filter.
    fn widths(options: &Options, counts: &[usize]) -> Vec<u8> {
        let layers: Vec<(usize, f64)> = counts.iter().map(|&count| (count, 1.0)).collect();
        widths_of_shares(options, &layers)
    }

    /// The same with shares of sums.
    fn widths_of_shares(options: &Options, layers: &[(usize, f64)]) -> Vec<u8> {
        let mut all: Vec<Layer> = layers
            .iter()
            .map(|&(count, share)| layer(count, share))
            .collect();
        all.push(DEPTHWISE);
        let widths = Widths::new(options, &all);
        layers
            .iter()
            .map(|&(count, share)| widths.by_size(count as f64, share))
            .collect()
    }

    #[test]
    fn networks_without_depthwise_filters_keep_the_width() {
        let layers = [432, 36_864, 640].map(|count| layer(count, 0.5));
        let widths = Widths::new(&Options::default(), &layers);
        assert!(
            [432.0, 36_864.0, 640.0]
                .iter()
                .all(|&count| widths.by_size(count, 0.5) == 4)
        );
    }

    #[test]
    fn a_quarter_of_a_sum_counts_as_four_times_the_weights() {
        let widths = |share| {
            let layers = [(15_000, share), (60_000, 1.0), (1_000_000, 1.0)];
            widths_of_shares(&Options::default(), &layers)
        };
        let alone = widths(1.0);
        assert_eq!(alone[0], alone[1] + 1);
        let quarter = widths(0.25);
        assert_eq!(quarter[0], quarter[1]);
        assert!(widths(1e-9)[0] == 4 && widths(1e-9)[1] >= alone[1]);
    }

    #[test]
    fn small_layers_get_a_bit_for_each_quarter_of_the_weights() {
        let counts = [100, 400, 1600, 6400, 1_000_000];
        let found = widths(&Options::default(), &counts);
        assert!(found.is_sorted_by(|a, b| a >= b), "{found:?}");
        assert_eq!(found[..4], [8, 8, 8, 8], "they are next to nothing");
        assert_eq!(found[4], 4);
        let counts = [15_000, 240_000, 1_000_000];
        assert_eq!(widths(&Options::default(), &counts), [7, 5, 4]);
    }

    #[test]
    fn wider_codes_take_no_more_than_their_share() {
        for bits in 1..=8 {
            let options = Options {
                bits,
                ..Options::default()
            };
            for counts in [
                &[][..],
                &[0],
                &[5],
                &[1000; 20],
                &[9, 900, 2304, 9216, 36_864, 36_864],
            ] {
                let asked: usize = counts.iter().map(|n| n * usize::from(bits)).sum();
                // The depthwise filter has room to give.
                let asked = asked + 18 * usize::from(bits);
                let found = widths(&options, counts);
                let taken = counts.iter().zip(&found);
                let taken: usize = taken.map(|(n, &width)| n * usize::from(width)).sum();
                assert!(found.iter().all(|width| (bits..=8).contains(width)));
                assert!(
                    taken as f64 <= (1.0 + MAX_GROWTH) * asked as f64,
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn the_float_model_is_what_the_codes_decode_to() {
        let counts = [100, 1600, 1_000_000];
        for target in [Target::Float, Target::LutUint4, Target::Campana] {
            let options = Options {
                target,
                ..Options::default()
            };
            let lut = widths(&Options::default(), &counts);
            assert_eq!(widths(&options, &counts), lut, "{target}");
        }
    }

    #[test]
    fn depthwise_filters_have_8_bits_where_products_are_on_integers() {
        let depthwise_bits = |target, bits_for: &str| {
            let options = Options {
                target,
                method: MethodChoice::Fixed(campana_design::Method::Kmeans),
                bits_for: vec![(bits_for.parse().unwrap(), 5)],
                ..Options::default()
            };
            let widths = Widths::new(&options, &[DEPTHWISE]);
            widths.choice_of(&options, "conv", DEPTHWISE).bits
        };
        assert_eq!(depthwise_bits(Target::W4a8, "other"), Some(8));
        assert_eq!(depthwise_bits(Target::W4a8, "conv"), Some(5));
        assert_eq!(depthwise_bits(Target::TfLite, "other"), Some(8));
        assert_eq!(depthwise_bits(Target::TfLite, "conv"), Some(5));
        assert_eq!(depthwise_bits(Target::Lut, "other"), Some(4));
    }

    #[test]
    fn named_methods_and_whole_number_targets_keep_the_width() {
        let counts = [100, 1_000_000];
        let named = Options {
            method: MethodChoice::Fixed(campana_design::Method::Kmeans),
            ..Options::default()
        };
        let whole = Options {
            target: Target::W4a8,
            ..Options::default()
        };
        for options in [named, whole] {
            assert_eq!(widths(&options, &counts), [4, 4]);
        }
    }
}
