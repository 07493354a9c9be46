//! What a verification found; the keys of the JSON are a contract.

use campana_eval::Latency;
use serde::Serialize;

/// A model that takes at least this share of the float model's time is not
/// called faster, and up to the inverse not slower: what a quiet machine
/// measures twice differs by less.
const NOTABLE_TIME_RATIO: f64 = 0.9;

/// What is saved in memory counts where it is at least this share of what is
/// saved on disk: allocators round by more than nothing.
const NOTABLE_MEMORY_SHARE: f64 = 0.5;

/// What all runtimes did with a model and its reference.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The model.
    pub model: String,
    /// The float model it was compared with.
    pub reference: Option<String>,
    /// Threads of each runtime.
    pub threads: usize,
    /// Random inputs.
    pub random_inputs: usize,
    /// Inputs that were given.
    pub given_inputs: usize,
    /// Timed runs of each model in each runtime.
    pub runs: usize,
    /// What was run: a runtime and a file each.
    pub rows: Vec<Row>,
    /// What could not be run, and why.
    pub missing: Vec<Missing>,
    /// What the model gains over the reference, runtime by runtime.
    pub verdicts: Vec<Verdict>,
}

/// One file in one runtime.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The runtime's name.
    pub runtime: String,
    /// Its version.
    pub version: String,
    /// The file.
    pub model: String,
    /// Whether the file is the reference.
    pub is_reference: bool,
    /// Bytes of the file and of the files it refers to.
    pub file_bytes: u64,
    /// Time until the first run can begin.
    pub load_ms: f64,
    /// Times of its runs.
    #[serde(flatten)]
    pub latency: Latency,
    /// Resident memory that loading and running added; null where the system
    /// does not tell.
    pub memory_bytes: Option<u64>,
    /// The same at its peak.
    pub peak_bytes: Option<u64>,
    /// Largest difference of an output value to campana's; null for a value
    /// that is no number in one of both.
    pub max_difference: Option<f64>,
    /// The same as a share of campana's largest value of that output.
    pub relative_difference: Option<f64>,
    /// Share of the inputs with campana's best answer on the same file: of the
    /// given inputs, or of the random ones where none are given. Null where the
    /// first output is no list of scores, one for each class.
    pub agreement: Option<f64>,
    /// Share of them with the best answer of the reference in the same runtime.
    pub reference_agreement: Option<f64>,
    /// Signal to noise ratio in dB over the same inputs, the reference's outputs
    /// in the same runtime being the signal; of several outputs the least. Null
    /// for equal outputs too, where `reference_cosine` is 1.
    pub reference_sqnr_db: Option<f64>,
    /// Cosine between both, of several outputs the least.
    pub reference_cosine: Option<f64>,
}

/// A file that could not be run in a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The runtime's name.
    pub runtime: String,
    /// The file; null where the runtime itself is missing.
    pub model: Option<String>,
    /// Why.
    pub reason: String,
}

/// What a model gains over its reference in one runtime.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The runtime's name.
    pub runtime: String,
    /// Size of the file over the reference's.
    pub disk_ratio: f64,
    /// Memory over the reference's.
    pub memory_ratio: Option<f64>,
    /// Median time over the reference's.
    pub time_ratio: f64,
    /// Whether the file is smaller.
    pub smaller_on_disk: bool,
    /// Whether the model is smaller in memory too; null where the system does
    /// not tell.
    pub smaller_in_memory: Option<bool>,
    /// Faster, as fast or slower.
    pub speed: Gain,
}

/// How a time compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gain {
    /// It takes notably less.
    Faster,
    /// It makes no notable difference.
    Same,
    /// It takes notably more.
    Slower,
}

impl Verdict {
    /// Compares two rows of one runtime.
    pub fn of(reference: &Row, model: &Row) -> Self {
        let ratio = |value: f64, of: f64| if of > 0.0 { value / of } else { 1.0 };
        let time_ratio = ratio(model.latency.median_ms, reference.latency.median_ms);
        let saved_on_disk = reference.file_bytes as f64 - model.file_bytes as f64;
        let memory = reference.memory_bytes.zip(model.memory_bytes);
        Self {
            runtime: model.runtime.clone(),
            disk_ratio: ratio(model.file_bytes as f64, reference.file_bytes as f64),
            memory_ratio: memory.map(|(before, after)| ratio(after as f64, before as f64)),
            time_ratio,
            smaller_on_disk: saved_on_disk > 0.0,
            smaller_in_memory: memory.map(|(before, after)| {
                let saved = before as f64 - after as f64;
                saved > 0.0 && saved >= NOTABLE_MEMORY_SHARE * saved_on_disk
            }),
            speed: if model.latency.is_about(&reference.latency) {
                Gain::Same
            } else if time_ratio <= NOTABLE_TIME_RATIO {
                Gain::Faster
            } else if time_ratio * NOTABLE_TIME_RATIO >= 1.0 {
                Gain::Slower
            } else {
                Gain::Same
            },
        }
    }

    /// The verdict as a sentence without its full stop.
    pub fn sentence(&self) -> String {
        let size = match (self.smaller_on_disk, self.smaller_in_memory) {
            (true, Some(true)) => "smaller on disk and in memory",
            (true, Some(false)) => "smaller on disk only, not in memory",
            (true, None) => "smaller on disk",
            (false, Some(true)) => "smaller in memory, not on disk",
            (false, _) => "not smaller",
        };
        let speed = match self.speed {
            Gain::Faster => "faster",
            Gain::Same => "about as fast",
            Gain::Slower => "slower",
        };
        format!("{size}, {speed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(file_bytes: u64, memory_bytes: Option<u64>, median_ms: f64) -> Row {
        Row {
            runtime: "any".to_owned(),
            version: String::new(),
            model: String::new(),
            is_reference: false,
            file_bytes,
            load_ms: 1.0,
            latency: Latency::of(&[0.99 * median_ms, median_ms, 1.01 * median_ms]),
            memory_bytes,
            peak_bytes: memory_bytes,
            max_difference: None,
            relative_difference: None,
            agreement: None,
            reference_agreement: None,
            reference_sqnr_db: None,
            reference_cosine: None,
        }
    }

    #[test]
    fn verdicts_say_what_is_gained_and_what_is_not() {
        let float = row(1000, Some(5000), 10.0);
        let cases = [
            (
                row(130, Some(4990), 10.2),
                "smaller on disk only, not in memory, about as fast",
            ),
            (
                row(130, Some(4200), 8.0),
                "smaller on disk and in memory, faster",
            ),
            (row(130, None, 12.0), "smaller on disk, slower"),
            (row(1000, Some(5000), 9.5), "not smaller, about as fast"),
            (
                row(1010, Some(3000), 10.0),
                "smaller in memory, not on disk, about as fast",
            ),
        ];
        for (model, sentence) in cases {
            assert_eq!(Verdict::of(&float, &model).sentence(), sentence);
        }
    }

    #[test]
    fn times_that_overlap_are_the_same() {
        let (float, mut model) = (row(1000, None, 10.0), row(1000, None, 8.0));
        assert_eq!(Verdict::of(&float, &model).speed, Gain::Faster);
        model.latency.quartiles_ms[1] = 10.0;
        assert_eq!(Verdict::of(&float, &model).speed, Gain::Same);
    }

    #[test]
    fn ratios_are_those_of_the_model_to_the_reference() {
        let verdict = Verdict::of(&row(1000, Some(4000), 10.0), &row(250, Some(1000), 5.0));
        assert_eq!(
            (verdict.disk_ratio, verdict.memory_ratio, verdict.time_ratio),
            (0.25, Some(0.25), 0.5)
        );
    }
}
