//! What normalizations take up: differences of means and variances.

use campana_ir::graph::{Attribute, Node};
use campana_quantize::Error;
use campana_quantize::graph::replace;

use crate::correct::merge::{Normalization, epsilon, round_to_halves};
use crate::correct::state::Correction;
use crate::correct::statistics::{MIN_SEEN_VARIANCE, VARIANCE_FACTORS};

impl Correction<'_, '_, '_> {
    /// Mean and variance of a normalization take the differences of those of its
    /// input.
    pub(super) fn correct_normalization(&mut self, node: &Node) -> Result<(), Error> {
        let (Some((mean_place, mut means)), Some((variance_place, mut variances))) =
            (self.own_constant(node, 3), self.own_constant(node, 4))
        else {
            return Ok(());
        };
        let training = matches!(
            node.attributes.get("training_mode"),
            Some(Attribute::Int(1))
        );
        let [float, quantized] = self.statistics(&node.inputs[0], Some(1))?;
        let (float, quantized) = (
            (float.means(), float.variances()),
            (quantized.means(), quantized.variances()),
        );
        if training || float.0.len() != means.len() || variances.len() != means.len() {
            return Ok(());
        }
        let (mut float_means, mut float_variances) = (means.clone(), variances.clone());
        let (mut seen_means, mut seen_variances) = (means.clone(), variances.clone());
        for channel in 0..means.len() {
            let variance = f64::from(variances[channel]);
            if float.1[channel] <= MIN_SEEN_VARIANCE * variance || variance <= 0.0 {
                continue;
            }
            let [least, most] = VARIANCE_FACTORS;
            let factor = (quantized.1[channel] / float.1[channel]).clamp(least, most);
            let difference = quantized.0[channel] - float.0[channel];
            means[channel] += difference as f32;
            variances[channel] = (variance * factor) as f32;
            if self.align {
                float_means[channel] = float.0[channel] as f32;
                float_variances[channel] = float.1[channel] as f32;
                seen_means[channel] = quantized.0[channel] as f32;
                seen_variances[channel] = (float.1[channel] * factor) as f32;
            } else {
                seen_means[channel] = means[channel];
                seen_variances[channel] = variances[channel];
            }
        }
        if self.align {
            replace(&mut self.graph, &node.inputs[3], float_means)?;
            replace(&mut self.graph, &node.inputs[4], float_variances)?;
        }
        self.set(mean_place, means, seen_means)?;
        self.set(variance_place, variances, seen_variances)
    }

    /// Corrected means and variances become part of scale and bias where
    /// nothing else reads these.
    pub(super) fn merge_normalizations(&mut self) {
        let nodes = self.graph.nodes.iter();
        for node in nodes.filter(|node| node.op_type == "BatchNormalization") {
            let own = |input| self.own_constant(node, input);
            let (Some(scale), Some(bias), Some(mean), Some(variance)) =
                (own(1), own(2), own(3), own(4))
            else {
                continue;
            };
            let corrected = |place: usize| self.quantized.tensors[place].corrected.clone();
            let (Some(means), Some(variances)) = (corrected(mean.0), corrected(variance.0)) else {
                continue;
            };
            let given = Normalization {
                // Distilled, where that was asked for.
                scale: corrected(scale.0).unwrap_or(scale.1),
                bias: corrected(bias.0).unwrap_or(bias.1),
                mean: means,
                variance: variances,
            };
            let Some(merged) = given.merged(epsilon(node)) else {
                continue;
            };
            let values = [merged.scale, merged.bias, merged.mean, merged.variance];
            for (place, values) in [scale.0, bias.0, mean.0, variance.0]
                .into_iter()
                .zip(values)
            {
                self.quantized.tensors[place].corrected = Some(values);
            }
        }
    }

    /// What was corrected is stored in 16 bits.
    pub(super) fn round_parameters(&mut self) {
        for outcome in &mut self.quantized.tensors {
            if let Some(values) = &mut outcome.corrected {
                round_to_halves(values);
            }
        }
    }

    /// The variances in training of a layer's outputs, where a normalization
    /// follows that knows them.
    pub(super) fn variances_behind(&self, node: &Node) -> Option<Vec<f32>> {
        let normalization = self.epilogue(node)?.normalization?;
        Some(self.own_constant(&self.graph.nodes[normalization], 4)?.1)
    }
}
