//! What is said of a quantized model; the keys of the JSON are a contract.

use std::path::Path;
use std::time::Duration;

use campana_calibrate::{CorrectionReport, DistillReport, FloatActivations, IntegerLayers};
use campana_quantize::{Options, QuantizedModel, Target, TensorReport, sqnr_db, zero_share};
use serde::Serialize;

/// What became of a model.
#[derive(Clone, Debug, Serialize)]
pub struct QuantizeReport {
    /// The model that was read.
    pub input: String,
    /// The model that was written.
    pub output: String,
    /// Size of the model that was read, external data included.
    pub input_bytes: u64,
    /// Size of the model that was written, external data included.
    pub output_bytes: u64,
    /// Number of quantized weights.
    pub weights: u64,
    /// Bits a quantized weight takes: codes, codebooks, scales and padding.
    pub bits_per_weight: f64,
    /// Share of the quantized weights that are zero; null where codes were not
    /// chosen for an entropy coder.
    pub zeros: Option<f64>,
    /// Mean squared error of the quantized weights.
    pub mse: f64,
    /// Ratio of the energies of quantized weights and error, in dB; null
    /// where nothing was lost.
    pub sqnr_db: f64,
    /// Time from reading to written, in seconds.
    pub elapsed_s: f64,
    /// What was corrected; null where nothing was.
    pub correction: Option<CorrectionReport>,
    /// What was learned after the correction; left out where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distilled: Option<DistillReport>,
    /// Why nothing was corrected; null where something was.
    pub not_corrected: Option<String>,
    /// Whether the network was corrected, none of its layers left out.
    pub corrected: bool,
    /// What users rely on and did not happen, one sentence each.
    pub warnings: Vec<String>,
    /// Inputs of which nothing tells the scale, so that the synthetic samples of the
    /// correction have mean 0 and deviation 1; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed_inputs: Vec<String>,
    /// How widths were chosen under a bound; null where none was asked for.
    pub allocation: Option<AllocationReport>,
    /// The form of the model that was written.
    pub target: String,
    /// Activations that are rounded to 8 bits.
    pub rounded_activations: usize,
    /// Activations that stay floats, since their rounding would make up most of
    /// the error of the outputs; null where none do.
    pub float_activations: Option<FloatActivations>,
    /// How many layers lie between rounded activations; null where none are
    /// rounded or the layers cannot be told.
    pub integer_layers: Option<IntegerLayers>,
    /// Each tensor of the model, quantized or kept.
    pub tensors: Vec<TensorReport>,
    /// The options of the command that were asked for, without the files of
    /// input and output: a page that proposes another command keeps them.
    #[serde(skip)]
    pub stated_options: Vec<String>,
}

impl QuantizeReport {
    /// Says of tensors that stay floats that they are stored in 16 bits.
    pub fn set_halved(&mut self, names: &[String]) {
        for tensor in &mut self.tensors {
            if names.contains(&tensor.name) {
                let weights = tensor.shape.iter().product::<usize>() as u64;
                tensor.output_bytes = 2 * weights;
                tensor.bits_per_weight = 16.0;
            }
        }
    }

    /// What is said of a quantized model; `files` are the one that was read
    /// and the one that was written, each with its length in bytes.
    pub fn of(
        quantized: &QuantizedModel<'_>,
        files: [(&Path, u64); 2],
        options: &Options,
        correction: Result<CorrectionReport, String>,
        allocation: Option<AllocationReport>,
        elapsed: Duration,
    ) -> Self {
        let tensors = &quantized.tensors;
        let changed = || tensors.iter().filter(|tensor| tensor.quantized.is_some());
        let energy = changed().map(|tensor| tensor.energy).sum();
        let squared_error = changed().map(|tensor| tensor.squared_error).sum();
        Self {
            allocation,
            zeros: options.rate.map(|_| zero_share(quantized)),
            ..Self::new(
                tensors.iter().map(|tensor| tensor.report.clone()).collect(),
                [energy, squared_error],
                files,
                options.target,
                correction,
                elapsed,
            )
        }
    }

    /// The report of a model from those of its tensors; `energies` are those
    /// of the quantized weights and of their errors, `files` as in
    /// [`of`](Self::of).
    pub fn new(
        tensors: Vec<TensorReport>,
        [energy, squared_error]: [f64; 2],
        [(input, input_bytes), (output, output_bytes)]: [(&Path, u64); 2],
        target: Target,
        correction: Result<CorrectionReport, String>,
        elapsed: Duration,
    ) -> Self {
        let changed = || tensors.iter().filter(|tensor| tensor.kept.is_none());
        let weights: u64 = changed()
            .map(|tensor| tensor.shape.iter().product::<usize>() as u64)
            .sum();
        let stored: u64 = changed().map(|tensor| tensor.output_bytes).sum();
        let per_weight = |total: f64| {
            if weights == 0 {
                0.0
            } else {
                total / weights as f64
            }
        };
        Self {
            input: input.display().to_string(),
            output: output.display().to_string(),
            input_bytes,
            output_bytes,
            weights,
            bits_per_weight: per_weight(8.0 * stored as f64),
            zeros: None,
            mse: per_weight(squared_error),
            sqnr_db: sqnr_db(energy, squared_error),
            elapsed_s: elapsed.as_secs_f64(),
            not_corrected: correction.as_ref().err().cloned(),
            corrected: correction
                .as_ref()
                .is_ok_and(|found| found.skipped.is_empty()),
            warnings: Vec::new(),
            assumed_inputs: Vec::new(),
            correction: correction.ok(),
            distilled: None,
            allocation: None,
            target: target.to_string(),
            rounded_activations: 0,
            float_activations: None,
            integer_layers: None,
            tensors,
            stated_options: Vec::new(),
        }
    }
}

/// How the widths of a model's tensors were chosen under a bound.
#[derive(Clone, Debug, Serialize)]
pub struct AllocationReport {
    /// The bound, in words.
    pub bound: String,
    /// Whether it is met.
    pub met: bool,
    /// Whether the model was written.
    pub written: bool,
    /// How the tensors' sensitivities are known.
    pub sensitivities: String,
    /// Sum of the divergences of the network's outputs that the tensors cause
    /// one by one.
    pub divergence: f64,
    /// What is lost, where that is bounded.
    pub drop: Option<DropReport>,
}

/// What a quantized network loses.
#[derive(Clone, Debug, Serialize)]
pub struct DropReport {
    /// Drop of the share of right answers.
    pub drop: f64,
    /// `measured` with labels or `estimated` without.
    pub how: &'static str,
    /// Number of images.
    pub images: u64,
    /// What images these are.
    pub data: String,
    /// Share of images whose answer is another than the float network's; null
    /// where the drop was measured.
    pub changed: Option<f64>,
    /// Share of right answers of the float and of the quantized network; null
    /// where the drop was estimated.
    pub top1: Option<[f64; 2]>,
    /// What the caller's own metric tells of both; null where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<[f64; 2]>,
}
