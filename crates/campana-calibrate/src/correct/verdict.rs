//! Whether a correction was worth it: the error of the outputs with and without.

use campana_ir::graph::Graph;
use campana_quantize::graph::replace;
use campana_quantize::{Error, ErrorKind, TensorOutcome, round_outcome};
use campana_tensor::Tensor;

use crate::correct::activation_cache::ActivationCache;
use crate::correct::state::Correction;
use crate::output_errors::OutputErrors;
use crate::running::{run, session};
use crate::samples::Batches;

/// Of so many batches one is looked at to judge the correction.
pub(super) const JUDGED_SHARE: usize = 4;

/// How much larger the error of the outputs may be with the correction, by the
/// few samples that judge it: 0.2 dB.
const MOST_LOST: f64 = 1.05;

/// What the float network gives for some of the batches.
pub(super) struct Expected<'b> {
    samples: &'b Batches,
    /// The number of each batch, and its outputs.
    outputs: Vec<(usize, Vec<Tensor>)>,
}

impl Expected<'_> {
    /// The relative squared error of a network's outputs.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` where it cannot be run.
    pub(super) fn error_of(&self, graph: &Graph, threads: usize) -> Result<f64, Error> {
        let session = session(graph, threads)?;
        let mut errors = OutputErrors::default();
        for (batch, expected) in &self.outputs {
            errors.add(expected, &run(&session, self.samples.batch(*batch))?);
        }
        Ok(errors.total())
    }
}

impl<'m> Correction<'_, 'm, '_> {
    /// Compares the error of the outputs without the correction and with it, in
    /// the network as the walk left it, and undoes what of it does harm. One that
    /// cannot be run whole is not judged.
    ///
    /// # Errors
    ///
    /// Of kind `NoGain` where it is larger with the correction of any layer.
    pub(super) fn judge(
        &mut self,
        uncorrected: &[TensorOutcome<'m>],
        samples: &Batches,
    ) -> Result<(), Error> {
        let mut without = self.graph.clone();
        for outcome in uncorrected {
            if let Some(tensor) = &self.as_stored(outcome).quantized {
                replace(&mut without, outcome.tensor.name, tensor.dequantize())?;
            }
        }
        let judged = self.judged(samples).and_then(|(expected, with)| {
            let without = expected.error_of(&without, self.threads)?;
            Ok((expected, [without, with]))
        });
        let (expected, [without, with]) = match judged {
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
            judged => judged?,
        };
        // Not a number is more, too.
        if !without.is_finite() || with <= without * MOST_LOST {
            return Ok(());
        }
        if self.undo_where_worse(uncorrected, &expected, [without, with])? {
            return Ok(());
        }
        let [without, with] = [without, with].map(decibels);
        Err(Error::new(
            ErrorKind::NoGain,
            format!(
                "on the samples {} would keep {with:.1} dB with the correction, and keep {without:.1} dB without",
                self.compared
            ),
        ))
    }

    /// What was quantized with its levels as they would be stored.
    pub(super) fn as_stored(&self, outcome: &TensorOutcome<'m>) -> TensorOutcome<'m> {
        let mut outcome = outcome.clone();
        if self.quantized.target.rounds_activations() {
            round_outcome(&mut outcome, self.quantized.target);
        }
        outcome
    }

    /// The outputs of both networks, where the walk ended, for some of the samples:
    /// those of the float one, and the error of the other's.
    fn judged<'b>(&self, samples: &'b Batches) -> Result<(Expected<'b>, f64), Error> {
        let names = self.graph.outputs.iter().map(|value| value.name.as_str());
        let names: Vec<&str> = names.collect();
        let mut outputs = Vec::new();
        let mut errors = OutputErrors::default();
        ActivationCache::visit_some(
            [&self.caches[0], &self.caches[1]],
            [&self.graph, &self.quantized_graph],
            &names,
            self.threads,
            |batch| batch.is_multiple_of(JUDGED_SHARE),
            |batch, values| {
                let of = |side: usize| -> Vec<Tensor> {
                    let values = values.iter().map(|pair| pair[side].clone());
                    values.collect()
                };
                let expected = of(0);
                errors.add(&expected, &of(1));
                outputs.push((batch, expected));
                Ok(())
            },
        )?;
        Ok((Expected { samples, outputs }, errors.total()))
    }
}

/// A relative squared error as an SQNR.
pub(super) fn decibels(error: f64) -> f64 {
    -10.0 * error.log10()
}
