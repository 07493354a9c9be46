//! Datasets, preprocessing and metrics: what turns a network and a folder of
//! pictures into numbers.
//!
//! A [`Sidecar`] says what a model expects of its input, a [`Dataset`] decodes
//! pictures to that in threads ahead of the inference, an [`AccuracyTally`]
//! counts the right answers.
//!
//! ```
//! use campana_eval::{AccuracyTally, BatchOptions, Dataset, DatasetOptions, Preprocessing};
//!
//! // Two black CIFAR-10 pictures of classes 3 and 7.
//! let mut bytes = vec![0; 2 * 3073];
//! (bytes[0], bytes[3073]) = (3, 7);
//! let dataset = Dataset::from_cifar_bytes(bytes, "two", &DatasetOptions::default())?;
//!
//! let settings = Preprocessing::new([32, 32], [0.5; 3], [0.5; 3]);
//! let mut tally = AccuracyTally::new();
//! for batch in dataset.batches(&settings, &BatchOptions::default())? {
//!     let batch = batch?;
//!     for (input, label) in batch.input.chunks(settings.input_len()).zip(&batch.labels) {
//!         assert_eq!(input[0], -1.0);
//!         // A network that always answers 3.
//!         let scores: [f32; 10] = std::array::from_fn(|class| f32::from(class == 3));
//!         tally.add(&scores, *label, None);
//!     }
//! }
//! assert_eq!(tally.top1().fraction(), Some(0.5));
//! # Ok::<(), campana_eval::Error>(())
//! ```
#![forbid(unsafe_code)]

mod compare;
mod dataset;
mod error;
mod evaluate;
mod input_file;
mod input_scale;
mod metric;
mod network;
mod outputs;
mod preprocess;
mod segmentation;
mod sidecar;

pub use compare::{
    CompareCell, CompareJournal, CompareRow, CompareTable, Correction, Design, Experiment,
    ExperimentKey, Shard, TensorSqnr, compare_csv, compare_markdown, merge_journals, pareto_front,
};
pub use dataset::{
    Batch, BatchOptions, Batches, Dataset, DatasetFormat, DatasetOptions, ImageFailure, Selection,
};
pub use error::{Error, ErrorKind};
pub use evaluate::{Candidate, Comparison, Evaluation, evaluate};
pub use input_file::{open_input, read_input};
pub use input_scale::input_scale;
pub use metric::{
    AccuracyTally, Distortion, Interval, Latency, Proportion, argmax, in_top, softmax, top,
};
pub use network::Network;
pub use outputs::{Likeness, Output, OutputSet, likeness};
pub use preprocess::{
    ChannelOrder, Interpolation, Layout, MAX_IMAGE_PIXELS, Preprocessing, Region, Resize, RgbImage,
    preprocess, preprocess_into, resize_region,
};
pub use segmentation::{
    MaskedImages, SegmentationComparison, SegmentationResult, SegmentationTally,
    evaluate_segmentation,
};
pub use sidecar::Sidecar;
