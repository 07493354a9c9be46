//! What the rows of a comparison belong to.

use serde::{Deserialize, Serialize};

/// What rows were measured on, and by what: only those of equal keys stand in
/// one table. Fingerprints are hexadecimal digits, for JSON's numbers do not
/// hold 64 bits everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExperimentKey {
    /// Version that measured: designs may differ between versions.
    campana_compare: String,
    /// Of the model's operators and weights.
    model: String,
    /// Of the images as the model sees them, and their labels.
    data: String,
    /// Of the images that corrections look at; `None` where there are none.
    calibration: Option<String>,
    /// Of the float model's answers: processors may round differently.
    answers: String,
}

impl ExperimentKey {
    /// The key of this version's results.
    pub fn new(model: u64, data: u64, answers: u64) -> Self {
        Self {
            campana_compare: env!("CARGO_PKG_VERSION").to_owned(),
            model: digits(model),
            data: digits(data),
            calibration: None,
            answers: digits(answers),
        }
    }

    pub(crate) fn set_calibration(&mut self, images: u64) {
        self.calibration = Some(digits(images));
    }

    /// What is different in another key, in words that follow "measured"; `None`
    /// where nothing is.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.campana_compare != other.campana_compare {
            let (own, other) = (&self.campana_compare, &other.campana_compare);
            return Some(format!("by version {other}, not {own}"));
        }
        let differences = [
            (self.model != other.model, "with another model"),
            (self.data != other.data, "on other images, labels or limits"),
            (
                self.calibration != other.calibration,
                "with other calibration images",
            ),
            (
                self.answers != other.answers,
                "on a processor that rounds differently: the float model's answers are others there",
            ),
        ];
        let found = differences.into_iter().find(|(is_other, _)| *is_other);
        found.map(|(_, words)| words.to_owned())
    }
}

fn digits(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}
