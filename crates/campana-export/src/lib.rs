//! Quantized models as files that others read: ONNX in its forms, with the
//! files of external data beside it, TFLite, Core ML, and safetensors for
//! weights without a graph.
//!
//! ```no_run
//! use campana_export::{OutputModel, Placement};
//! use campana_onnx::Model;
//! use campana_quantize::{Options, Silent, Target, quantize};
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

mod admission;
mod aliases;
mod computed_weights;
mod coreml_form;
mod data_inside;
mod external;
mod global_pools;
mod inline_functions;
mod opset;
mod opset_upgrade;
mod safetensors_form;
mod single_precision;
#[cfg(test)]
mod small_models;
mod tflite_form;
mod whole_slices;
mod wide_constants;
mod write;

pub use admission::admit;
pub use coreml_form::coreml_package;
pub use external::{DataFile, Placement, is_same_content};
pub use safetensors_form::SafetensorsForm;
pub use tflite_form::tflite_bytes;
pub use write::OutputModel;
