//! What samples tell: correction of what quantization does to a network's
//! activations, ranges of the activations that are rounded, and what each
//! tensor's quantization does to the outputs.
//!
//! A network is run node by node on preprocessed or synthetic images with
//! bounded memory ([`ActivationCache`]); [`correct`](correct()) chooses codes and
//! levels anew for the least error of outputs and lets normalizations and
//! biases take up what remains, [`calibrate`] gives the scales of rounded
//! activations, [`sensitivities`] says which tensors matter.
//!
//! ```no_run
//! use campana_calibrate::{CorrectionSettings, InputScale, Rounding, Samples, correct};
//! use campana_onnx::Model;
//! use campana_quantize::{Options, Silent, quantize};
//!
//! let model = Model::open("model.onnx")?;
//! let mut quantized = quantize(&model, &Options::default(), &Silent)?;
//! let samples = Samples::Synthetic { size: None, scale: InputScale::Unknown };
//! let settings = CorrectionSettings::new(Rounding::Compensate, 2);
//! let corrected = correct(&model, &mut quantized, &samples, settings, None, &Silent)?;
//! println!("{} images", corrected.report.images);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod activations;
mod comparable;
mod correct;
mod distill;
mod divergence;
mod indices;
mod integer_layers;
mod open_size;
mod output_errors;
mod running;
mod samples;
mod scale;
mod sensitivity;
mod value_sizes;

pub use activations::{
    ActivationRanges, FloatActivations, QuantizedNetwork, calibrate, uncalibrated,
};
pub use comparable::Compared;
pub use correct::activation_cache::{ActivationCache, floats};
pub use correct::merge::epsilon;
pub use correct::{
    Corrected, CorrectionReport, CorrectionSettings, FinishedLayer, FinishedLayers, Rounding,
    Skipped, correct,
};
pub use distill::{DistillBudget, DistillReport, check_distillable};
pub use divergence::{Kind, log_probabilities_of};
pub use integer_layers::IntegerLayers;
pub use open_size::{has_open_size, open_size};
pub use samples::{Batches, InputScale, Samples, run_shapes, typed_values};
pub use scale::{UnknownScale, batches_for, inputs_of_unknown_scale};
pub use sensitivity::{Sensitivity, align, assumed_sensitivities, sensitivities};
