//! Whether a correction was worth it: the error of the outputs with and without.

use campana_ir::graph::Graph;
use campana_quantize::graph::replace;
use campana_quantize::{Error, ErrorKind, TensorOutcome, round_outcome};

use crate::correct::state::Correction;
use crate::output_errors::OutputErrors;
use crate::running::{run, session};
use crate::samples::Batches;

/// How much larger the error of the outputs may be with the correction, by the
/// few samples that judge it: 0.2 dB.
const MOST_LOST: f64 = 1.05;

impl Correction<'_, '_, '_> {
    /// Compares the error of the outputs without the correction and with it, in
    /// the network as the walk left it. One that cannot be run whole is not
    /// judged.
    ///
    /// # Errors
    ///
    /// Of kind `NoGain` where it is larger with the correction.
    pub(super) fn judge(
        &self,
        uncorrected: &[TensorOutcome<'_>],
        samples: &Batches,
    ) -> Result<(), Error> {
        let mut without = self.graph.clone();
        for outcome in uncorrected {
            let mut outcome = outcome.clone();
            if self.quantized.target.rounds_activations() {
                // Levels as they would be stored.
                round_outcome(&mut outcome, self.quantized.target);
            }
            if let Some(tensor) = &outcome.quantized {
                replace(&mut without, outcome.tensor.name, tensor.dequantize())?;
            }
        }
        let found = [&without, &self.quantized_graph];
        match output_errors(&self.graph, found, samples, self.threads) {
            // Not a number is more, too.
            Ok([without, with])
                if without.is_finite() && (with > without * MOST_LOST || with.is_nan()) =>
            {
                let [without, with] = [without, with].map(|error| -10.0 * error.log10());
                Err(Error::new(
                    ErrorKind::NoGain,
                    format!(
                        "on the samples the outputs would keep {with:.1} dB with the correction, and keep \
                         {without:.1} dB without"
                    ),
                ))
            }
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(error),
            _ => Ok(()),
        }
    }
}

/// The relative squared error of each network's outputs on the samples, beside
/// those of `expected`.
///
/// # Errors
///
/// Of kind `Unsupported` where a network cannot be run.
fn output_errors(
    expected: &Graph,
    found: [&Graph; 2],
    samples: &Batches,
    threads: usize,
) -> Result<[f64; 2], Error> {
    let expected = session(expected, threads)?;
    let found = [session(found[0], threads)?, session(found[1], threads)?];
    let mut errors = [OutputErrors::default(), OutputErrors::default()];
    for batch in 0..samples.len() {
        let outputs = run(&expected, samples.batch(batch))?;
        for (errors, session) in errors.iter_mut().zip(&found) {
            errors.add(&outputs, &run(session, samples.batch(batch))?);
        }
    }
    Ok(errors.map(|errors| errors.total()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_ir::graph::{Dim, Node, Value};
    use campana_tensor::{Tensor, TensorData};

    use crate::samples::Samples;

    /// `y = factor * x`
    fn scaled(factor: f32) -> Graph {
        let factor = Tensor::new(vec![1], TensorData::F32(vec![factor])).unwrap();
        Graph {
            nodes: vec![Node::new("Mul", &["x", "factor"], &["y"])],
            inputs: vec![Value {
                shape: Some(vec![Dim::Fixed(1), Dim::Fixed(2)]),
                ..Value::named("x")
            }],
            outputs: vec![Value::named("y")],
            constants: [("factor".to_owned(), factor)].into(),
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    #[test]
    fn errors_are_relative_to_what_is_expected() {
        let expected = scaled(2.0);
        let array = Tensor::new(
            vec![3, 2],
            TensorData::F32(vec![1.0, -2.0, 0.5, 3.0, 0.0, 1.0]),
        );
        let samples = Samples::Arrays(vec![("x".into(), array.unwrap())]);
        let samples = Batches::new(&expected.inputs, &samples).unwrap();
        let found = [&scaled(2.0), &scaled(3.0)];
        let [none, half] = output_errors(&expected, found, &samples, 1).unwrap();
        assert_eq!(none, 0.0);
        assert!((half - 0.25).abs() < 1e-6, "{half}");
    }
}
