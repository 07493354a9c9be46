//! How well the models in files segment images.

use campana_eval::{ImageFailure, MaskedImages, SegmentationResult, evaluate_segmentation};
use serde::Serialize;

use crate::error::Context;
use crate::evaluate_files::Subjects;
use crate::{Error, EvaluateJob};

/// What is said of an evaluation on images with masks; the keys of the JSON are
/// a contract.
#[derive(Debug, Serialize)]
pub struct MasksReport {
    /// Number of images.
    pub n: u64,
    /// Images or masks that could not be read.
    #[serde(serialize_with = "names")]
    pub skipped: Vec<ImageFailure>,
    /// Each model.
    pub models: Vec<MasksOfModel>,
}

/// What is said of one model.
#[derive(Clone, Debug, Serialize)]
pub struct MasksOfModel {
    /// The model's file.
    pub model: String,
    /// Mean intersection over union of the classes that occur.
    pub mean_iou: Option<f64>,
    /// Intersection over union of each class; none for one that does not occur.
    pub class_iou: Vec<Option<f64>>,
    /// Share of the labelled pixels whose class is found.
    pub pixel_accuracy: Option<f64>,
    /// Share of the pixels with the reference's class.
    pub agreement: Option<f64>,
    /// Images that the network answers in a second.
    pub images_per_s: f64,
}

fn names<S: serde::Serializer>(
    failures: &[ImageFailure],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(failures.iter().map(|failure| &failure.name))
}

/// Evaluates models on the same images with masks, one image at a time.
/// `progress` hears after each image the number done and of all, and says
/// whether to go on.
///
/// # Errors
///
/// Where a model, its sidecar or the data cannot be read or do not fit, a model
/// gives no map of classes, or `progress` says to stop.
pub fn evaluate_masks(
    job: &EvaluateJob<'_>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<MasksReport, Error> {
    let subjects = Subjects::open(job)?;
    let data = MaskedImages::open(job.data)?;
    let images = job.limit.unwrap_or(usize::MAX).min(data.len()) as u64;
    let comparison = evaluate_segmentation(
        &subjects.candidates(),
        subjects.reference.as_ref(),
        &data,
        job.limit,
        &mut |results| progress(results[0].images, images),
    )
    .context(|| format!("cannot evaluate on '{}'", job.data.display()))?;
    let model = |(name, result): (String, &SegmentationResult)| MasksOfModel {
        model: name,
        mean_iou: result.tally.mean_iou(),
        class_iou: result.tally.class_iou(),
        pixel_accuracy: result.tally.pixel_accuracy().fraction(),
        agreement: result.tally.agreement().fraction(),
        images_per_s: result.images_per_s(),
    };
    let results = &comparison.results;
    Ok(MasksReport {
        n: results.first().map_or(0, |result| result.images),
        models: subjects
            .names()
            .into_iter()
            .zip(results)
            .map(model)
            .collect(),
        skipped: comparison.failures,
    })
}
