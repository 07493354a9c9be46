//! How often networks are right.

use std::time::{Duration, Instant};

use crate::dataset::nothing_readable;
use crate::{
    AccuracyTally, BatchOptions, Dataset, Error, ImageFailure, Network, Preprocessing, argmax,
};

/// A network to be evaluated and how its images are prepared.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The network.
    pub network: &'a Network,
    /// What its images go through.
    pub settings: &'a Preprocessing,
}

/// What came of a network.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Right answers, and answers equal to the reference's.
    pub tally: AccuracyTally,
    /// Time in the network alone.
    pub elapsed: Duration,
}

impl Evaluation {
    /// Images that the network answers in a second, decoding not counted.
    pub fn images_per_s(&self) -> f64 {
        self.tally.images() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What came of all networks.
#[derive(Debug, Default)]
pub struct Comparison {
    /// One for each candidate, in their order.
    pub evaluations: Vec<Evaluation>,
    /// Images that could not be read, and were left out.
    pub failures: Vec<ImageFailure>,
}

/// Runs every image through every network, and through `reference` for
/// agreement. All see the same images, in turn. `progress` hears the results so
/// far after each batch and says whether to go on.
///
/// # Errors
///
/// Where settings differ (all networks must take the same input), images
/// cannot be prepared, a label exceeds a network's classes, a network fails,
/// or no image could be read.
pub fn evaluate(
    candidates: &[Candidate<'_>],
    reference: Option<&Network>,
    dataset: &Dataset,
    options: &BatchOptions,
    progress: &mut dyn FnMut(&[Evaluation]) -> bool,
) -> Result<Comparison, Error> {
    let Some(settings) = check_same_input(candidates, reference)? else {
        return Ok(Comparison::default());
    };
    let mut comparison = Comparison {
        evaluations: vec![Evaluation::default(); candidates.len()],
        failures: Vec::new(),
    };
    let mut labels_checked = false;
    for batch in dataset.batches(settings, options)? {
        let batch = batch?;
        comparison.failures.extend(batch.failures);
        let count = batch.labels.len();
        if count == 0 {
            continue;
        }
        let expected: Option<Vec<Option<usize>>> = match reference {
            Some(network) => {
                let (scores, classes) = network.scores(&batch.input, count, settings)?;
                Some(scores.chunks(classes).map(argmax).collect())
            }
            None => None,
        };
        for (candidate, evaluation) in candidates.iter().zip(&mut comparison.evaluations) {
            let start = Instant::now();
            let (scores, classes) = candidate.network.scores(&batch.input, count, settings)?;
            evaluation.elapsed += start.elapsed();
            if !labels_checked {
                dataset.check_labels(classes)?;
            }
            for (image, scores) in scores.chunks(classes).enumerate() {
                let reference = expected.as_ref().and_then(|expected| expected[image]);
                evaluation.tally.add(scores, batch.labels[image], reference);
            }
        }
        labels_checked = true;
        if !progress(&comparison.evaluations) {
            return Err(Error::Interrupted);
        }
    }
    if comparison.evaluations[0].tally.images() == 0 {
        return Err(nothing_readable(dataset.name(), &comparison.failures));
    }
    Ok(comparison)
}

/// What the images of all candidates go through; `None` without a candidate.
///
/// # Errors
///
/// Where settings differ, or do not fit a network's input.
pub(crate) fn check_same_input<'a>(
    candidates: &[Candidate<'a>],
    reference: Option<&Network>,
) -> Result<Option<&'a Preprocessing>, Error> {
    let Some(first) = candidates.first() else {
        return Ok(None);
    };
    let settings = first.settings;
    if let Some(other) = candidates
        .iter()
        .find(|candidate| candidate.settings != settings)
    {
        let message = format!(
            "needs other preprocessing than {}; evaluate it apart",
            first.network.name()
        );
        return Err(Error::unsuitable_model(other.network.name(), &message));
    }
    let networks = candidates.iter().map(|candidate| candidate.network);
    for network in networks.chain(reference) {
        network.check_input(settings)?;
    }
    Ok(Some(settings))
}
