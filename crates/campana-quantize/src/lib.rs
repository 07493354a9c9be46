//! From a model to a quantized model: what each tensor becomes, the design of
//! its levels, and the model written again in the form that was asked for.
//!
//! ```no_run
//! use campana_onnx::Model;
//! use campana_quantize::{Options, OutputModel, Placement, Silent, Target, quantize};
//!
//! let (input, output) = ("model.onnx".as_ref(), "smaller.onnx".as_ref());
//! let model = Model::open(input)?;
//! let quantized = quantize(&model, &Options { bits: 4, ..Options::default() }, &Silent)?;
//! let placement = Placement::of(input, output);
//! let written = OutputModel::new(&model, &quantized, &[], Target::Lut, &placement)?;
//! written.write(&mut std::fs::File::create(output)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod activations;
mod admission;
mod allocate;
mod auto;
mod correct;
mod error;
mod external;
pub mod inspect;
pub mod lut;
mod opset;
mod opset_upgrade;
mod options;
mod progress;
mod quantize;
mod rate;
mod report;
mod residual;
mod safetensors_form;
mod shared;
#[cfg(test)]
mod small_models;
mod store;
mod stored;
mod whole_levels;
mod widths;
mod write;

pub use activations::{ActivationScale, RangeMethod, calibrate};
pub use admission::admit;
pub use allocate::{
    Allocation, Allocator, Budget, DropEstimate, DropEstimator, OutputLen, Plan, PlannedTensor,
    Sensitivity, assumed_sensitivities, sensitivities,
};
pub use auto::Prices;
pub use correct::{
    Corrected, CorrectionReport, FinishedLayer, FinishedLayers, Rounding, Samples, correct,
    quantized_graph,
};
pub use error::{Error, ErrorKind, causes};
pub use external::{DataFile, Placement};
pub use options::{MethodChoice, NamePattern, Options, Target, TensorChoice};
pub use progress::{Progress, Silent};
pub use quantize::{
    QuantizedModel, QuantizedWeights, TOO_SMALL, TensorOutcome, Weights, quantize,
    quantize_weights, sqnr_db,
};
pub use rate::{RateGoal, quantize_at_rate, zero_share};
pub use report::{AllocationReport, DropReport, QuantizeReport, TensorReport};
pub use safetensors_form::SafetensorsForm;
pub use stored::{NEARLY_NOTHING, Sharing, StoredTensor, stored_tensors};
pub use whole_levels::round_levels;
pub use write::OutputModel;
