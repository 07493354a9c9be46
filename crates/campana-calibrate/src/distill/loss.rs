//! How far the student's values are from the teacher's, and the gradient of it.

use campana_ir::graph::Dim;
use campana_ir::network::Network;
use campana_tensor::Tensor;

use crate::divergence::{Kind, error_and_energy, log_probabilities_of};

/// Share of the error of inner values in the loss, beside that of the outputs.
const INNER: f64 = 0.5;

/// Values of a network that are compared, and as what.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    /// The outputs; scores of classes in place of their probabilities.
    outputs: Vec<(String, Kind)>,
    /// Inputs of layers.
    inner: Vec<String>,
}

impl Loss {
    pub(super) fn of(network: &Network<'_>) -> Self {
        let graph = network.graph();
        let outputs: Vec<(String, Kind)> = graph
            .outputs
            .iter()
            .filter(|output| network.is_activation(&output.name))
            .map(|output| compared(network, &output.name))
            .collect();
        let mut inner: Vec<String> = Vec::new();
        for layer in network.layers() {
            let is_input = graph.inputs.iter().any(|input| input.name == layer.input);
            let is_known = inner.iter().any(|name| name == layer.input)
                || outputs.iter().any(|(name, _)| name == layer.input);
            if !is_input && !is_known && network.is_activation(layer.input) {
                inner.push(layer.input.to_owned());
            }
        }
        Self { outputs, inner }
    }

    /// All values that are compared.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let outputs = self.outputs.iter().map(|(name, _)| name.as_str());
        outputs.chain(self.inner.iter().map(String::as_str))
    }

    /// The outputs alone.
    pub(super) fn outputs(&self) -> &[(String, Kind)] {
        &self.outputs
    }

    /// The loss on the values of a pass, each of teacher and student, and its
    /// gradient with regard to the student's, by name; both times `share`.
    pub(super) fn of_pass<'v>(
        &self,
        values: impl Fn(&str) -> Option<[&'v [f32]; 2]>,
        classes: impl Fn(&str) -> usize,
        share: f64,
    ) -> (f64, Vec<(String, Vec<f32>)>) {
        let mut total = 0.0;
        let mut gradients = Vec::new();
        for (name, kind) in &self.outputs {
            if let Some(pair) = values(name) {
                let (loss, gradient) = of_output(*kind, pair, classes(name), share);
                total += loss;
                gradients.push((name.clone(), gradient));
            }
        }
        let inner_share = share * INNER / self.inner.len().max(1) as f64;
        for name in &self.inner {
            if let Some(pair) = values(name) {
                let (loss, gradient) = relative_error(pair, inner_share);
                total += loss;
                gradients.push((name.clone(), gradient));
            }
        }
        (total, gradients)
    }
}

/// What is compared of an output: where it is made by a softmax, the scores
/// that go in.
fn compared(network: &Network<'_>, output: &str) -> (String, Kind) {
    let is_row = |name: &str| {
        let shape = network.value(name).and_then(|info| info.shape.as_ref());
        shape.is_some_and(|shape| matches!(&**shape, [_, Dim::Fixed(classes)] if *classes > 1))
    };
    if !is_row(output) || network.graph().outputs.len() != 1 {
        return (output.to_owned(), Kind::Values);
    }
    if Kind::of_output(network.graph(), output) != Kind::Probabilities {
        return (output.to_owned(), Kind::Scores);
    }
    let softmax = network.producer(output).map(|node| network.node(node));
    match softmax.and_then(|node| node.inputs.first()) {
        Some(scores) if is_row(scores) => (scores.clone(), Kind::Scores),
        _ => (output.to_owned(), Kind::Values),
    }
}

fn of_output(kind: Kind, pair: [&[f32]; 2], classes: usize, share: f64) -> (f64, Vec<f32>) {
    if kind != Kind::Scores {
        return relative_error(pair, share);
    }
    let [expected, found] = pair;
    let rows = expected.chunks(classes).zip(found.chunks(classes));
    let share = share / (expected.len() / classes.max(1)).max(1) as f64;
    let mut loss = 0.0;
    let mut gradient = Vec::with_capacity(found.len());
    for (expected, found) in rows {
        let [p, q] = [expected, found].map(|row| log_probabilities_of(kind, row));
        for (p, q) in p.into_iter().zip(q) {
            loss += share * p.exp() * (p - q);
            gradient.push((share * (q.exp() - p.exp())) as f32);
        }
    }
    (loss, gradient)
}

/// The squared error relative to the energy of what was expected.
fn relative_error([expected, found]: [&[f32]; 2], share: f64) -> (f64, Vec<f32>) {
    let [error, energy] = error_and_energy(expected, found);
    let share = share / energy.max(f64::MIN_POSITIVE);
    let factor = (2.0 * share) as f32;
    let pairs = expected.iter().zip(found);
    let gradient = pairs.map(|(expected, found)| factor * (found - expected));
    (share * error, gradient.collect())
}

/// How many rows of scores have the same greatest one, and how many there are.
pub(super) fn agreement([expected, found]: [&[f32]; 2], classes: usize) -> [usize; 2] {
    let greatest = |row: &[f32]| {
        let scores = row.iter().enumerate();
        scores.max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at)
    };
    let rows = expected.chunks(classes).zip(found.chunks(classes));
    let agreeing = rows.filter(|(expected, found)| greatest(expected) == greatest(found));
    [agreeing.count(), expected.len() / classes.max(1)]
}

/// Values in the last axis of a tensor.
pub(super) fn classes_of(tensor: &Tensor) -> usize {
    tensor.shape().last().copied().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a central difference, relative.
    const TOLERANCE: f64 = 1e-3;

    #[test]
    fn rows_agree_in_their_greatest_score() {
        let expected = [0.0, 2.0, 1.0, 5.0, 4.0, 3.0];
        let found = [0.5, 0.9, 0.7, 1.0, 2.0, 0.0];
        assert_eq!(agreement([&expected, &found], 3), [1, 2]);
    }

    #[test]
    fn gradients_are_those_of_the_losses() {
        let expected = [1.0f32, 2.0, -1.0, 0.5, 0.0, 3.0];
        let found = [0.5f32, 2.5, -1.5, 1.0, 0.25, 2.0];
        for kind in [Kind::Scores, Kind::Values] {
            let loss = |found: &[f32]| of_output(kind, [&expected, found], 3, 0.7);
            let (_, gradient) = loss(&found);
            for at in 0..found.len() {
                let moved = |step: f32| {
                    let mut moved = found;
                    moved[at] += step;
                    loss(&moved).0
                };
                let difference = (moved(0.01) - moved(-0.01)) / 0.02;
                let error = (difference - f64::from(gradient[at])).abs();
                assert!(error < TOLERANCE, "{kind:?} {at}: {difference}");
            }
            assert_eq!(loss(&expected).0, 0.0);
        }
    }
}
