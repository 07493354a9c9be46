//! The scale of inputs by the first normalization that stands behind more than a
//! layer: clamps, pools or further layers lie between (Conv, Relu,
//! BatchNormalization, as Keras users write it).
//!
//! What is between is not linear, so that factor and offset are searched for: those
//! with which synthetic inputs give the statistics that the normalization remembers.

use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_quantize::Error;

use crate::correct::activation_cache::ActivationCache;
use crate::correct::statistics::ChannelStatistics;
use crate::samples::{Batches, Samples};

/// Samples that are shown.
const SAMPLES: usize = 4;

/// Factors that are tried first: inputs from 0 to 1, of deviation 1, from 0 to 255,
/// and between them.
const FACTORS: [f64; 7] = [1.0, 0.25, 0.5, 2.0, 4.0, 16.0, 64.0];

/// Offsets that are tried first, in units of the factor: pixels have a mean of about
/// twice their deviation.
const OFFSETS: [f64; 3] = [0.0, 2.0, -2.0];

/// How often the steps of the search are halved.
const HALVINGS: usize = 4;

/// What a channel counts at most: some channels see what synthetic inputs lack.
const MAX_DISTANCE: f64 = 4.0;

/// The distance, as a share of that of inputs of deviation 1, that makes another scale
/// likelier than this.
const LIKELIER: f64 = 0.7;

/// A normalization of what is made of an input.
pub(super) struct LaterNormalization<'g> {
    /// What is normalized.
    value: &'g str,
    means: &'g [f32],
    variances: &'g [f32],
}

/// The first normalization of a network, behind its only input.
pub(super) fn later_normalization<'g>(network: &Network<'g>) -> Option<LaterNormalization<'g>> {
    let graph = network.graph();
    if graph.inputs.len() != 1 {
        return None;
    }
    (0..graph.nodes.len()).find_map(|node| {
        let inputs = &network.node(node).inputs;
        let is_stored = matches!(network.op(node), Op::BatchNormalization(op) if !op.training);
        if !is_stored || !network.is_activation(inputs.first()?) {
            return None;
        }
        let (_, means) = network.constant(inputs.get(3)?)?;
        let (_, variances) = network.constant(inputs.get(4)?)?;
        (means.len() == variances.len()).then(|| LaterNormalization {
            value: inputs[0].as_str(),
            means,
            variances,
        })
    })
}

impl LaterNormalization<'_> {
    /// Factor and offset of the input that give the remembered statistics; `None`
    /// where no others are likelier than 1 and 0.
    pub(super) fn revealed(
        &self,
        graph: &Graph,
        input: &str,
        samples: &Samples,
    ) -> Option<[f32; 2]> {
        let batches = Batches::of_length(&graph.inputs, samples, SAMPLES).ok()?;
        let batches = batches.first();
        let distance = |[factor, offset]: [f64; 2]| {
            let scale = [factor, factor * offset].map(|value| value as f32);
            let found = self.distance(graph, &batches, input, scale);
            found.unwrap_or(f64::INFINITY)
        };
        let usual = distance([1.0, 0.0]);
        let mut best = ([1.0, 0.0], usual);
        let take = |tried: [f64; 2], best: &mut ([f64; 2], f64)| {
            let found = distance(tried);
            if found < best.1 {
                *best = (tried, found);
            }
        };
        for factor in FACTORS {
            for offset in OFFSETS {
                take([factor, offset], &mut best);
            }
        }
        let (mut ratio, mut step) = (std::f64::consts::SQRT_2, 1.0);
        for _ in 0..HALVINGS {
            let [factor, offset] = best.0;
            for tried in [
                [factor * ratio, offset],
                [factor / ratio, offset],
                [factor, offset + step],
                [factor, offset - step],
            ] {
                take(tried, &mut best);
            }
            (ratio, step) = (ratio.sqrt(), step / 2.0);
        }
        let ([factor, offset], found) = best;
        let scale = [factor, factor * offset].map(|value| value as f32);
        (found < LIKELIER * usual).then_some(scale)
    }

    /// How far the statistics that an input of this scale gives are from those
    /// remembered: for each channel the squares of the means' difference in
    /// deviations and of that of the deviations' logarithms.
    fn distance(
        &self,
        graph: &Graph,
        batches: &Batches,
        input: &str,
        scale: [f32; 2],
    ) -> Result<f64, Error> {
        let mut batches = batches.clone();
        batches.rescale(input, scale);
        let cache = ActivationCache::at_inputs(batches);
        let mut statistics = ChannelStatistics::default();
        cache.visit(graph, self.value, 1, |batch| statistics.add(batch, 1))?;
        let seen = statistics.means().into_iter().zip(statistics.variances());
        let remembered = self.means.iter().zip(self.variances);
        let mut sum = 0.0;
        let mut count = 0;
        for ((mean, variance), (&own_mean, &own_variance)) in seen.zip(remembered) {
            let (own_mean, own_variance) = (f64::from(own_mean), f64::from(own_variance));
            let is_alive = own_variance > f64::from(f32::MIN_POSITIVE);
            if !is_alive {
                continue;
            }
            let of_means = (mean - own_mean).powi(2) / own_variance;
            let of_deviations = (0.5 * (variance / own_variance).ln()).powi(2);
            // Zero variance is infinitely far.
            sum += (of_means + of_deviations).min(MAX_DISTANCE);
            count += 1;
        }
        Ok(sum / f64::from(count.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use campana_ir::graph::{Dim, Node, Value};
    use campana_tensor::{ElementType, Tensor, TensorData};

    use super::*;
    use crate::samples::InputScale;
    use crate::scale::{batches_for, inputs_of_unknown_scale};

    fn constant(shape: &[usize], values: Vec<f32>) -> Tensor {
        Tensor::new(shape.to_vec(), TensorData::F32(values)).unwrap()
    }

    const CHANNELS: usize = 8;

    /// Conv, Relu, BatchNormalization; the latter with these statistics.
    fn network([means, variances]: [Vec<f32>; 2]) -> Graph {
        let weights = (0..CHANNELS * 27).map(|i| ((i * 37 % 29) as f32 - 13.5) / 40.0);
        let ones = constant(&[CHANNELS], vec![1.0; CHANNELS]);
        let extents = [1, 3, 32, 32].map(Dim::Fixed);
        Graph {
            nodes: vec![
                Node::new("Conv", &["x", "w"], &["c"]),
                Node::new("Relu", &["c"], &["r"]),
                Node::new(
                    "BatchNormalization",
                    &["r", "one", "one", "mean", "variance"],
                    &["y"],
                ),
            ],
            inputs: vec![Value {
                name: "x".into(),
                element_type: Some(ElementType::F32),
                shape: Some(extents.to_vec()),
            }],
            constants: [
                ("w", constant(&[CHANNELS, 3, 3, 3], weights.collect())),
                ("one", ones),
                ("mean", constant(&[CHANNELS], means)),
                ("variance", constant(&[CHANNELS], variances)),
            ]
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .into(),
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    #[test]
    fn a_normalization_behind_a_clamp_reveals_the_scale() {
        let open = network([vec![0.0; CHANNELS], vec![1.0; CHANNELS]]);
        let samples = |scale| Samples::Synthetic { size: None, scale };
        let pixels = samples(InputScale::Range([0.0, 255.0]));
        let batches = Batches::of_length(&open.inputs, &pixels, 16).unwrap();
        let mut statistics = ChannelStatistics::default();
        ActivationCache::at_inputs(batches)
            .visit(&open, "r", 1, |batch| statistics.add(batch, 1))
            .unwrap();
        let remembered = [statistics.means(), statistics.variances()];
        let graph = network(remembered.map(|values| values.iter().map(|&v| v as f32).collect()));
        let unknown = samples(InputScale::Unknown);
        assert!(inputs_of_unknown_scale(&graph, &unknown).is_empty());
        let batches = batches_for(&graph, &unknown, Some(4)).unwrap();
        let mut seen = ChannelStatistics::default();
        let (_, tensor) = batches.batch(0).next().unwrap();
        seen.add(tensor, 0).unwrap();
        let (mean, deviation) = (seen.means()[0], seen.variances()[0].sqrt());
        assert!((80.0..170.0).contains(&mean), "{mean}");
        assert!((35.0..110.0).contains(&deviation), "{deviation}");
    }
}
