//! Whole jobs, file in, file out: what the command line and the Python
//! package share. Nothing is printed; a [`Monitor`] hears how far a job is and
//! may stop it.
//!
//! ```no_run
//! use campana_pipeline::{QuantizeJob, quantize_file};
//! use campana_quantize::{Options, Silent};
//!
//! let options = Options { means_are_corrected: true, ..Options::default() };
//! let job = QuantizeJob {
//!     threads: 2,
//!     ..QuantizeJob::new("model.onnx".as_ref(), "smaller.onnx".as_ref(), &options)
//! };
//! let report = quantize_file(&job, &Silent)?;
//! println!("{} bytes", report.output_bytes);
//! # Ok::<(), campana_pipeline::Error>(())
//! ```
#![forbid(unsafe_code)]

mod arrays;
mod bound;
mod command_files;
mod compare_outputs;
mod container;
mod core_ml;
mod correction;
mod data_files;
mod destination;
mod error;
mod evaluate_files;
mod evaluate_masks;
mod export_firmware;
mod file_system;
mod inspect_file;
mod job;
mod journal;
mod model_output;
mod monitor;
mod output_file;
mod output_folder;
mod output_len;
mod output_name;
mod plan_file;
mod quantity;
mod quantize_file;
mod quantize_memory;
mod run_arrays;
mod sample_arrays;
mod sidecar;
mod stated_options;
mod tensor_file;
mod threads;
mod unfinished;
mod worked;

pub use arrays::{NamedArray, inspect_arrays, quantize_arrays};
pub use bound::SYNTHETIC_IMAGES;
pub use campana_quantize::causes;
pub use command_files::{CommandFiles, data_files};
pub use compare_outputs::{OutputsJob, OutputsOfModel, OutputsReport, compare_outputs};
pub use container::{PackReport, pack_file, unpack_file};
pub use correction::{check_images, model_inputs, sample_images, sample_inputs};
pub use destination::is_stdout;
pub use error::{Error, ErrorKind};
pub use evaluate_files::{
    EvaluateJob, EvaluateOutcome, EvaluateReport, EvaluationKind, ModelReport, evaluate_files,
};
pub use evaluate_masks::{MasksOfModel, MasksReport, evaluate_masks};
pub use export_firmware::{
    FirmwareJob, FirmwareReport, LayerReport, ShortfallReport, export_firmware,
};
pub use file_system::{FileSystem, SystemFiles};
pub use inspect_file::inspect_file;
pub use job::{Bound, CALIBRATION_SAMPLES, Measure, QuantizeJob, SampleChoice};
pub use journal::Journal;
pub use monitor::Monitor;
pub use output_file::{OutputFile, Overwrite, write_file};
pub use plan_file::read_plan;
pub use quantity::{parse_percent, parse_size};
pub use quantize_file::quantize_file;
pub use quantize_memory::{QuantizedBytes, decode_pictures, quantize_bytes};
pub use run_arrays::{OutputSummary, RunArraysJob, RunArraysReport, run_arrays};
pub use sample_arrays::is_arrays;
pub use sidecar::{find_sidecar, sidecar, sidecar_or};
pub use threads::{MAX_THREADS, check_threads, parse_threads};
pub use unfinished::{discard_unfinished, try_discard_unfinished};
