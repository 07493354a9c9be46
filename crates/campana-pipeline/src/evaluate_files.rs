//! How often the models in files are right.

use std::path::{Path, PathBuf};

use campana_eval::{
    BatchOptions, Candidate, Comparison, Dataset, DatasetOptions, Evaluation, MaskedImages,
    Network, Sidecar, evaluate,
};
use serde::Serialize;

use crate::error::Context;
use crate::{Error, ErrorKind, is_arrays, sidecar_or};

/// What an evaluation is of, as its data allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvaluationKind {
    /// Images with a class each: [`evaluate_files`].
    Accuracy,
    /// Images with a mask of classes each: [`evaluate_masks`](crate::evaluate_masks).
    MeanIou,
    /// Images without labels, or arrays, beside a reference:
    /// [`compare_outputs`](crate::compare_outputs).
    Outputs,
}

impl EvaluationKind {
    /// The evaluation on these data.
    pub fn on(data: &Path) -> Self {
        let is_unlabelled = || Dataset::open(data).is_ok_and(|dataset| !dataset.has_labels());
        if MaskedImages::is_at(data) {
            Self::MeanIou
        } else if is_arrays(data) || is_unlabelled() {
            Self::Outputs
        } else {
            Self::Accuracy
        }
    }
}

/// Models and the labelled images, by classes or masks, that they answer.
#[derive(Clone, Copy, Debug)]
pub struct EvaluateJob<'a> {
    /// The models, at least one; each with its sidecar beside it or, where the
    /// reference has one, without.
    pub models: &'a [PathBuf],
    /// The model whose answers the others are compared with. Its sidecar
    /// serves models that have none.
    pub reference: Option<&'a Path>,
    /// A dataset of any form that campana knows.
    pub data: &'a Path,
    /// Only this many images, from the first on.
    pub limit: Option<usize>,
    /// Images that go through a network at once.
    pub batch: usize,
    /// Threads to use.
    pub threads: usize,
}

/// What came of each model.
#[derive(Debug)]
pub struct EvaluateOutcome {
    /// The models' names, in the job's order.
    pub names: Vec<String>,
    /// What came of them, in the same order.
    pub comparison: Comparison,
}

/// What is said of an evaluation; the keys of the JSON are a contract.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluateReport {
    /// Number of images.
    pub n: u64,
    /// Images that could not be read.
    pub skipped: Vec<String>,
    /// Each model.
    pub models: Vec<ModelReport>,
}

/// What is said of one model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    /// The model's file.
    pub model: String,
    /// Share of images whose likeliest class is the right one.
    pub top1: Option<f64>,
    /// Wilson's interval of that share.
    pub top1_interval_95: [f64; 2],
    /// Share of images whose right class is among the five likeliest.
    pub top5: Option<f64>,
    /// Share of images with the reference's answer.
    pub agreement: Option<f64>,
    /// Images that the network answers in a second.
    pub images_per_s: f64,
}

/// Evaluates models on the same images. `progress` hears after each batch the
/// results so far and the number of images in all, and says whether to go on.
///
/// # Errors
///
/// Where a model, its sidecar or the dataset cannot be read or do not fit, or
/// `progress` says to stop.
pub fn evaluate_files(
    job: &EvaluateJob<'_>,
    progress: &mut dyn FnMut(&[Evaluation], u64) -> bool,
) -> Result<EvaluateOutcome, Error> {
    let subjects = Subjects::open(job)?;
    let candidates = subjects.candidates();
    let dataset = Dataset::open_with(
        job.data,
        &DatasetOptions {
            class_names: &subjects.sidecars[0].labels,
            ..DatasetOptions::default()
        },
    )?;
    let options = BatchOptions {
        batch: job.batch,
        limit: job.limit,
        threads: job.threads,
        ..BatchOptions::default()
    };
    let images = job.limit.unwrap_or(usize::MAX).min(dataset.len()) as u64;
    let comparison = evaluate(
        &candidates,
        subjects.reference.as_ref(),
        &dataset,
        &options,
        &mut |evaluations| progress(evaluations, images),
    )
    .context(|| format!("cannot evaluate on '{}'", job.data.display()))?;
    Ok(EvaluateOutcome {
        names: subjects.names(),
        comparison,
    })
}

/// The networks of a job, and what their images go through.
pub(crate) struct Subjects {
    networks: Vec<Network>,
    pub(crate) reference: Option<Network>,
    /// As many as networks, at least one.
    sidecars: Vec<Sidecar>,
}

impl Subjects {
    pub(crate) fn open(job: &EvaluateJob<'_>) -> Result<Self, Error> {
        if job.models.is_empty() {
            let message = "no model to evaluate";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let open = |model: &Path| Network::open(model, job.threads);
        let networks = job.models.iter().map(|model| open(model));
        let sidecars = job.models.iter();
        Ok(Self {
            networks: networks.collect::<Result<_, _>>()?,
            reference: job.reference.map(open).transpose()?,
            sidecars: sidecars
                .map(|model| sidecar_or(model, job.reference))
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn candidates(&self) -> Vec<Candidate<'_>> {
        let pairs = self.networks.iter().zip(&self.sidecars);
        pairs
            .map(|(network, sidecar)| Candidate {
                network,
                settings: &sidecar.preprocessing,
            })
            .collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.networks.iter().map(Network::name);
        names.map(str::to_owned).collect()
    }
}

impl EvaluateOutcome {
    /// What is said of it.
    pub fn report(&self) -> EvaluateReport {
        let model = |(name, evaluation): (&String, &Evaluation)| {
            let interval = evaluation.tally.top1().wilson_95();
            ModelReport {
                model: name.clone(),
                top1: evaluation.tally.top1().fraction(),
                top1_interval_95: [interval.low, interval.high],
                top5: evaluation.tally.top5().fraction(),
                agreement: evaluation.tally.agreement().fraction(),
                images_per_s: evaluation.images_per_s(),
            }
        };
        let evaluations = &self.comparison.evaluations;
        EvaluateReport {
            n: evaluations
                .first()
                .map_or(0, |evaluation| evaluation.tally.images()),
            skipped: self
                .comparison
                .failures
                .iter()
                .map(|failure| failure.name.clone())
                .collect(),
            models: self.names.iter().zip(evaluations).map(model).collect(),
        }
    }
}
