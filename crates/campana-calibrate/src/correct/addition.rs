//! The sums that layers' outputs go into.

use campana_ir::graph::{Attribute, Node};
use campana_quantize::Error;

use crate::correct::state::Correction;
use crate::correct::statistics::{ChannelStatistics, MIN_SEEN_VARIANCE};

/// Epsilon of a normalization that does not say it.
const DEFAULT_EPSILON: f64 = 1e-5;

/// Channels that a normalization multiplies with less than this pass nothing
/// on.
const MIN_GAIN: f64 = 1e-3;

impl Correction<'_, '_, '_> {
    /// The value that the outputs of a convolution are added to, behind a
    /// normalization where there is one, if it is known by now; and for each
    /// output channel how much of the output is one of the sum.
    pub(super) fn addition(
        &self,
        node: &Node,
        channels: usize,
    ) -> Result<Option<(String, Vec<f64>)>, Error> {
        let nodes = &self.graph.nodes;
        let only_reader = |value: &str| {
            let mut readers = nodes
                .iter()
                .filter(|node| node.inputs.iter().any(|input| input == value));
            readers.next().filter(|_| self.uses.get(value) == Some(&1))
        };
        let Some(output) = node.outputs.first() else {
            return Ok(None);
        };
        let next = only_reader(output);
        let normalization = next
            .filter(|next| next.op_type == "BatchNormalization")
            .cloned();
        let (output, sum) = match &normalization {
            Some(next) => (&next.outputs[0], only_reader(&next.outputs[0])),
            None => (output, next),
        };
        let Some(sum) = sum.filter(|sum| sum.op_type == "Add") else {
            return Ok(None);
        };
        let Some(other) = sum.inputs.iter().find(|input| *input != output).cloned() else {
            return Ok(None);
        };
        let place = |found: &dyn Fn(&Node) -> bool| nodes.iter().position(found);
        let here = place(&|other| other.outputs == node.outputs);
        let made = place(&|node| node.outputs.contains(&other));
        if made.is_none() || made >= here {
            return Ok(None);
        }
        let Some(normalization) = normalization else {
            return Ok(Some((other, vec![1.0; channels])));
        };
        let (Some((_, gains)), Some((_, variances))) = (
            self.own_constant(&normalization, 1),
            self.own_constant(&normalization, 4),
        ) else {
            return Ok(None);
        };
        let epsilon = match normalization.attributes.get("epsilon") {
            Some(Attribute::Float(epsilon)) => f64::from(*epsilon),
            _ => DEFAULT_EPSILON,
        };
        let mut seen: Vec<f64> = variances.iter().map(|&v| f64::from(v)).collect();
        if self.align {
            // The normalization will be by what these images show.
            let output = &normalization.inputs[0];
            let mut statistics = ChannelStatistics::default();
            self.caches[0].visit(&self.graph, output, self.threads, |batch| {
                statistics.add(batch, 1)
            })?;
            seen = statistics.variances();
        }
        if seen.len() != channels || gains.len() != channels {
            return Ok(None);
        }
        let units = gains
            .iter()
            .zip(&seen)
            .zip(&variances)
            .map(|((&gain, &seen), &variance)| {
                // Of channels that normalization all but silences, or that the
                // images do not show, nothing can be asked.
                let known = f64::from(gain.abs()) > MIN_GAIN
                    && seen > MIN_SEEN_VARIANCE * f64::from(variance);
                if known {
                    (seen + epsilon).sqrt() / f64::from(gain)
                } else {
                    0.0
                }
            });
        Ok(Some((other, units.collect())))
    }
}
