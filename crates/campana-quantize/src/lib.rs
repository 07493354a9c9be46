//! What becomes of a model's weights: which tensors, the design of their
//! levels, and how they are stored.
//!
//! ```no_run
//! use campana_onnx::Model;
//! use campana_quantize::{Options, Silent, quantize};
//!
//! let model = Model::open("model.onnx")?;
//! let quantized = quantize(&model, &Options { bits: 4, ..Options::default() }, &Silent)?;
//! for outcome in &quantized.tensors {
//!     println!("{}: {} bytes", outcome.tensor.name, outcome.report.output_bytes);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod activation;
mod auto;
mod choice;
mod error;
pub mod graph;
pub mod inspect;
mod integer_levels;
pub mod kept;
mod options;
pub mod outcome;
mod plan;
mod progress;
mod quantize;
mod residual;
pub mod shared;
mod solved;
pub mod store;
mod stored;
pub mod vectors;
pub mod weights;
mod widths;

pub use activation::{ActivationScale, RangeMethod};
pub use auto::Prices;
pub use choice::{Effort, MethodChoice, Target, TensorChoice};
pub use error::{Error, ErrorKind, causes};
pub use graph::quantized_graph;
pub use integer_levels::{round_levels, round_outcome, round_tensor};
pub use options::{NamePattern, Options, RateGoal};
pub use outcome::{QuantizedModel, TensorOutcome, TensorReport, sqnr_db, zero_share};
pub use plan::{Plan, PlannedTensor};
pub use progress::{Progress, Silent, check_cancelled};
pub use quantize::{
    QuantizedWeights, TOO_SMALL, Weights, quantize, quantize_tensor, quantize_weights,
};
pub use residual::shares_in_sums;
pub use solved::{LAYERS, solved_weights};
pub use stored::{NEARLY_NOTHING, Sharing, StoredTensor, VectorTable, stored_tensors};
pub use vectors::SharedVectors;
