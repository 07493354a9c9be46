//! Trained convolutional networks made small and fast without retraining.
//!
//! [`Quantizer`] turns a network in a file into a small one: codebooks designed
//! for the weights' distributions (Lloyd-Max), GPTQ with error feedback, batch-norm
//! re-estimation and bias correction, on synthetic inputs or the user's.
//!
//! ```
//! # fn main() -> Result<(), campana::Error> {
//! # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
//! # let folder = tempfile::tempdir().unwrap();
//! # let model = format!("{root}/cifar10_resnet8.onnx");
//! # let small = folder.path().join("small.onnx");
//! let report = campana::Quantizer::open(&model)?
//!     .bits(3)
//!     .effort(campana::Effort::Quick)
//!     .save(&small)?;
//! assert!(report.output_bytes * 5 < report.input_bytes);
//!
//! // Any ONNX runtime loads the file; campana's runs it on its codes.
//! let session = campana::open_session(&small)?;
//! assert_eq!(session.plan().inputs().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! | To | Use |
//! | --- | --- |
//! | quantize a file | [`Quantizer`], with a [`Goal`], a [`Target`] and a [`Correction`] |
//! | look at the weights, or at what is stored of them | [`inspect()`] |
//! | run a model | [`open_session`], [`Session::run`] |
//! | measure accuracy | [`evaluate()`] |
//! | design a codebook for values of one's own | [`Codebook`], [`Method`], [`kmeans_levels`] |
//!
//! `examples/` has a program for each. The `campana` command is
//! [`main_from`], which the Python package calls, too. The crates behind this
//! one have the stages apart: see ARCHITECTURE.md.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod examples;
mod front_door;
mod interrupt;
mod main_from;
mod named;
mod printer;
mod program;
mod progress;
mod quantizer;
mod table;

pub use campana_calibrate::{DistillBudget, DistillReport};
pub use campana_codebook::{Codebook, QuantizedTensor};
pub use campana_design::{Method, kmeans_levels};
pub use campana_pipeline::{Error, ErrorKind, EvaluateReport, Monitor};
pub use campana_quantize::inspect::Inspection;
pub use campana_quantize::{Effort, MethodChoice, NamePattern, RateGoal, Silent, Target};
pub use campana_report::QuantizeReport;
pub use campana_runtime::{Input, Session};
pub use campana_tensor::{Granularity, Tensor, TensorData};
pub use front_door::{evaluate, inspect, open_session};
pub use main_from::main_from;
pub use quantizer::{Correction, Goal, Quantizer};
