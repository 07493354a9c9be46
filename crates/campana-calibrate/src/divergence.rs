//! How far a network's outputs are from those of the float network.

use campana_ir::graph::Graph;
use campana_quantize::Error;
use campana_tensor::Tensor;

use crate::correct::activation_cache::{ActivationCache, floats};

/// A divergence that stands for all larger ones, and for what is not finite.
const LARGEST: f64 = 1e6;

/// The outputs of the float network, batch by batch.
pub(crate) struct Outputs {
    /// The values of each output, with its kind.
    outputs: Vec<(Kind, Vec<Tensor>)>,
}

/// What an output means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Scores of classes, before softmax.
    Scores,
    /// Probabilities of classes.
    Probabilities,
    /// Anything else.
    Values,
}

impl Kind {
    /// The kind of an output that is a row for each image.
    pub fn of_output(graph: &Graph, name: &str) -> Self {
        let is_made_by_softmax = graph.nodes.iter().any(|node| {
            node.op_type == "Softmax" && node.outputs.iter().any(|output| output == name)
        });
        if is_made_by_softmax {
            Self::Probabilities
        } else {
            Self::Scores
        }
    }
}

impl Outputs {
    pub(crate) fn of(
        cache: &ActivationCache,
        graph: &Graph,
        threads: usize,
    ) -> Result<Self, Error> {
        let mut outputs = Vec::new();
        for output in &graph.outputs {
            let mut batches: Vec<Tensor> = Vec::new();
            cache.visit(graph, &output.name, threads, |batch| {
                floats(batch)?;
                batches.push(batch.clone());
                Ok(())
            })?;
            let is_row = batches
                .first()
                .is_some_and(|batch| matches!(batch.shape(), [_, classes] if *classes > 1));
            let kind = if is_row && graph.outputs.len() == 1 {
                Kind::of_output(graph, &output.name)
            } else {
                Kind::Values
            };
            outputs.push((kind, batches));
        }
        Ok(Self { outputs })
    }

    /// The mean divergence of another network's outputs from these: for class
    /// scores the Kullback-Leibler divergence of the probabilities, for other
    /// outputs the squared error relative to their energy.
    pub(crate) fn divergence(
        &self,
        cache: &ActivationCache,
        graph: &Graph,
        threads: usize,
    ) -> Result<f64, Error> {
        let mut total = 0.0;
        for ((kind, reference), output) in self.outputs.iter().zip(&graph.outputs) {
            let mut sums = [0.0; 2];
            let mut batches = reference.iter();
            cache.visit(graph, &output.name, threads, |batch| {
                if let Some(reference) = batches.next() {
                    let [sum, weight] = divergence(*kind, reference, batch)?;
                    sums = [sums[0] + sum, sums[1] + weight];
                }
                Ok(())
            })?;
            total += sums[0] / sums[1].max(f64::MIN_POSITIVE);
        }
        Ok(if total.is_finite() {
            total.clamp(0.0, LARGEST)
        } else {
            LARGEST
        })
    }
}

/// A sum of divergences, and what to divide it by.
fn divergence(kind: Kind, reference: &Tensor, changed: &Tensor) -> Result<[f64; 2], Error> {
    let (expected, found) = (floats(reference)?, floats(changed)?);
    if kind == Kind::Values {
        return Ok(error_and_energy(expected, found));
    }
    let classes = reference.shape().last().copied().unwrap_or(1).max(1);
    let rows = expected.chunks(classes).zip(found.chunks(classes));
    let sum = rows
        .map(|(expected, found)| {
            let (p, q) = (
                log_probabilities_of(kind, expected),
                log_probabilities_of(kind, found),
            );
            p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
        })
        .sum();
    Ok([sum, (expected.len() / classes) as f64])
}

/// How many times as large as what differs, in squares, a value may be that does not.
const MASKED: f64 = 1e6;

/// The sum of squares of what is wrong, and that of what was expected. Values that both
/// have, out of all proportion to the others, say nothing and would hide these: masked
/// scores of -1e9 or minus infinity.
pub(crate) fn error_and_energy(expected: &[f32], found: &[f32]) -> [f64; 2] {
    let pairs = || expected.iter().copied().zip(found.iter().copied());
    let is_same = |&(a, b): &(f32, f32)| a == b || a.is_nan() && b.is_nan();
    let (mut error, mut energy, mut count) = (0.0, 0.0, 0.0);
    for (a, b) in pairs().filter(|pair| !is_same(pair)) {
        error += square(a - b);
        energy += square(a);
        count += 1.0;
    }
    if count == 0.0 {
        return [0.0; 2];
    }
    let most = MASKED * energy / count;
    let same = pairs().filter(is_same).map(|(a, _)| square(a));
    [
        error,
        energy + same.filter(|energy| *energy <= most).sum::<f64>(),
    ]
}

fn square(value: f32) -> f64 {
    f64::from(value) * f64::from(value)
}

/// The logarithms of the probabilities of a row of classes.
pub fn log_probabilities_of(kind: Kind, row: &[f32]) -> Vec<f64> {
    if kind == Kind::Probabilities {
        let smallest = f64::from(f32::MIN_POSITIVE);
        return row
            .iter()
            .map(|&p| f64::from(p).max(smallest).ln())
            .collect();
    }
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row
        .iter()
        .map(|&score| f64::from(score - largest).exp())
        .sum();
    let log_sum = sum.ln();
    row.iter()
        .map(|&score| f64::from(score - largest) - log_sum)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_scores_do_not_hide_the_others() {
        let expected = [1.0, 2.0, -1e9, 3.0, f32::NEG_INFINITY, f32::NAN];
        let mut found = expected;
        assert_eq!(error_and_energy(&expected, &found), [0.0; 2]);
        found[0] = 1.5;
        assert_eq!(error_and_energy(&expected, &found), [0.25, 14.0]);
        found[4] = 0.0;
        assert_eq!(error_and_energy(&expected, &found)[0], f64::INFINITY);
    }
    use campana_tensor::TensorData;

    fn row(values: &[f32]) -> Tensor {
        Tensor::new(vec![1, values.len()], TensorData::F32(values.to_vec())).unwrap()
    }

    #[test]
    fn scores_diverge_as_their_probabilities_do() {
        let (a, b) = (row(&[0.0, 0.0]), row(&[5.0, 5.0 + 3f32.ln()]));
        // Probabilities 1/2, 1/2 against 1/4, 3/4.
        let expected = 0.5 * (2f64.ln() + (2.0f64 / 3.0).ln());
        let [sum, rows] = divergence(Kind::Scores, &a, &b).unwrap();
        assert!((sum - expected).abs() < 1e-6, "{sum} {expected}");
        assert_eq!(rows, 1.0);
        let (a, b) = (row(&[0.5, 0.5]), row(&[0.25, 0.75]));
        let [sum, _] = divergence(Kind::Probabilities, &a, &b).unwrap();
        assert!((sum - expected).abs() < 1e-6, "{sum} {expected}");
    }

    #[test]
    fn values_diverge_by_their_relative_error() {
        let [error, energy] =
            divergence(Kind::Values, &row(&[3.0, 4.0]), &row(&[3.0, 5.0])).unwrap();
        assert_eq!([error, energy], [1.0, 25.0]);
    }
}
