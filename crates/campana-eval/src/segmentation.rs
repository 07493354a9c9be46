//! Semantic segmentation: images with a mask of classes, and mean intersection over union.

mod class_map;
mod data;
mod tally;

use std::time::{Duration, Instant};

pub use data::MaskedImages;
pub use tally::SegmentationTally;

use class_map::ClassMap;

use crate::evaluate::check_same_input;
use crate::{Candidate, Error, ImageFailure, Network};

/// What came of a network on images with masks.
#[derive(Clone, Debug, Default)]
pub struct SegmentationResult {
    /// Pixels by class.
    pub tally: SegmentationTally,
    /// Images that were compared.
    pub images: u64,
    /// Time in the network alone.
    pub elapsed: Duration,
}

impl SegmentationResult {
    /// Images that the network answers in a second, decoding not counted.
    pub fn images_per_s(&self) -> f64 {
        self.images as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What came of all networks on images with masks.
#[derive(Debug, Default)]
pub struct SegmentationComparison {
    /// One for each candidate, in their order.
    pub results: Vec<SegmentationResult>,
    /// Images or masks that could not be read, and were left out.
    pub failures: Vec<ImageFailure>,
}

/// Runs the first `limit` images through every network, and through `reference` for agreement.
/// Masks are compared at the resolution of the network's output, by nearest neighbour. `progress`
/// hears the results so far after each image and says whether to go on.
///
/// # Errors
///
/// Where settings differ, an image cannot be prepared, a network's first output is no map of
/// classes, a mask has a class that the network lacks, a network fails, or no image could be read.
pub fn evaluate_segmentation(
    candidates: &[Candidate<'_>],
    reference: Option<&Network>,
    data: &MaskedImages,
    limit: Option<usize>,
    progress: &mut dyn FnMut(&[SegmentationResult]) -> bool,
) -> Result<SegmentationComparison, Error> {
    let Some(settings) = check_same_input(candidates, reference)? else {
        return Ok(SegmentationComparison::default());
    };
    let mut comparison = SegmentationComparison {
        results: vec![SegmentationResult::default(); candidates.len()],
        failures: Vec::new(),
    };
    for index in 0..data.len().min(limit.unwrap_or(usize::MAX)) {
        let (input, mask) = match data.read(index, settings) {
            Ok(read) => read,
            Err(error) if error.is_skippable() => {
                let name = data.image_name(index);
                comparison
                    .failures
                    .push(ImageFailure { index, name, error });
                continue;
            }
            Err(error) => return Err(error),
        };
        let answer = |network: &Network| {
            let output = network.first_output(&input, 1, settings)?;
            ClassMap::of_output(&output, settings.size)
                .ok_or_else(|| not_a_class_map(network, output.shape()))
        };
        let expected = reference.map(answer).transpose()?;
        for (candidate, result) in candidates.iter().zip(&mut comparison.results) {
            let start = Instant::now();
            let found = answer(candidate.network)?;
            result.elapsed += start.elapsed();
            result.images += 1;
            let labels = mask.at_output(settings, [found.height, found.width]);
            if let Some(classes) = found.class_count {
                data.check_labels(index, &labels, classes)?;
            }
            result.tally.add(&found.classes, &labels);
            if let Some(expected) = &expected {
                result
                    .tally
                    .add_agreement(&found.classes, &expected.classes);
            }
        }
        if !progress(&comparison.results) {
            return Err(Error::Interrupted);
        }
    }
    if comparison.results[0].images == 0 {
        return Err(data.nothing_readable(&comparison.failures));
    }
    Ok(comparison)
}

fn not_a_class_map(network: &Network, shape: &[usize]) -> Error {
    let message = format!(
        "gives an output of shape {shape:?}, which is no map of classes: expected scores [1, classes, H, W] or \
         [1, H, W, classes], or class numbers [1, H, W]"
    );
    Error::unsuitable_model(network.name(), &message)
}
