//! What is asked of a quantization.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::path::Path;

use campana_calibrate::DistillBudget;
use campana_ir::format::onnx::InputShape;
use campana_ir::graph::Graph;
use campana_quantize::Options;
use campana_tensor::Tensor;

use crate::output_file::Overwrite;
use crate::{Error, ErrorKind};

/// Samples that a calibration takes at most unless a number is given.
pub const CALIBRATION_SAMPLES: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The images that a correction looks at.
#[derive(Clone, Copy, Debug)]
pub enum SampleChoice<'a> {
    /// Synthetic ones: needs no data.
    Synthetic,
    /// The user's.
    Images {
        /// A dataset of images, whose labels are not read, or arrays (`.npy`,
        /// `.npz` with one array for each input).
        data: &'a Path,
        /// How many to take at most, evenly spread.
        count: usize,
    },
    /// The user's, in memory.
    Arrays {
        /// One array for each input, by its name.
        arrays: &'a [(String, Tensor)],
        /// How many samples to take at most, evenly spread.
        count: usize,
    },
}

/// The user's own measure of how good a network is, on the user's own data.
pub trait Measure: Debug + Sync {
    /// What it tells of a network that runs on this many threads; more is
    /// better.
    ///
    /// # Errors
    ///
    /// Where the network cannot be run or measured.
    fn measure(&self, graph: &Graph, threads: usize) -> Result<f64, Error>;

    /// Number of samples that it looks at.
    fn samples(&self) -> u64;

    /// Whether it is the share of right answers.
    fn is_top1(&self) -> bool;
}

/// What a quantized model must keep to.
#[derive(Clone, Copy, Debug)]
pub enum Bound<'a> {
    /// At most this many bits for a quantized weight on average, everything
    /// that is stored for it counted.
    BitsPerWeight(f64),
    /// At most this many bytes of output.
    OutputBytes(u64),
    /// The smallest output that loses at most this share of right answers.
    Drop {
        /// At most this share of all images, from 0 to 1.
        most: f64,
        /// Labelled images to measure it on; without, it is estimated on the
        /// images that the correction looks at.
        data: Option<&'a Path>,
    },
    /// The smallest output that loses at most so much of a measure.
    DropOf {
        /// At most this much less than of the float network.
        most: f64,
        /// What is measured.
        measure: &'a dyn Measure,
    },
}

impl Bound<'_> {
    /// Whether the bound is in its range.
    ///
    /// # Errors
    ///
    /// Where an average is not above 0 and at most 8 bits, or a share of right
    /// answers not from 0 to below 1.
    pub fn check(&self) -> Result<(), Error> {
        let message = match *self {
            Self::BitsPerWeight(bits) if !(bits > 0.0 && bits <= 8.0) => {
                format!("an average must be above 0 and at most 8 bits, not {bits}")
            }
            Self::Drop { most, .. } if !(0.0..1.0).contains(&most) => {
                format!("a loss is a share of right answers from 0 to below 1, not {most}")
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }
}

/// A model to be made smaller.
#[derive(Clone, Copy, Debug)]
pub struct QuantizeJob<'a> {
    /// The model to read.
    pub input: &'a Path,
    /// The model to write.
    pub output: &'a Path,
    /// What becomes of the weights.
    pub options: &'a Options,
    /// What the correction looks at; `None` leaves out the correction.
    pub samples: Option<SampleChoice<'a>>,
    /// What ranges of activations come from where nothing is corrected; `None`
    /// for synthetic samples.
    pub range_samples: Option<SampleChoice<'a>>,
    /// Least and greatest value of synthetic float inputs, where known.
    pub input_range: Option<[f32; 2]>,
    /// Shapes of inputs that the model leaves open.
    pub shapes: &'a [InputShape],
    /// Threads that run the network for the correction.
    pub threads: usize,
    /// Where to write a page about the result, if anywhere.
    pub page: Option<&'a Path>,
    /// Whether an existing output or page may be replaced.
    pub overwrite: Overwrite,
    /// What the output must keep to, rather than the width of the options:
    /// each tensor gets its own.
    pub bound: Option<Bound<'a>>,
    /// Whether the best that is found is written where the bound cannot be
    /// met.
    pub best_effort: bool,
    /// Where to write what became of each tensor, to be edited and applied.
    pub save_plan: Option<&'a Path>,
    /// Where the plan of the options was read from, if from a file.
    pub applied_plan: Option<&'a Path>,
    /// How long to learn from the float network after the correction; not at all
    /// where that is none.
    pub distill: Option<DistillBudget>,
    /// Journal of the layers that the correction finished: taken from it where
    /// they follow from the same things, and appended to it.
    pub resume: Option<&'a Path>,
}

impl<'a> QuantizeJob<'a> {
    /// A job with synthetic samples for the correction, on one thread, that
    /// replaces no file and keeps to no bound.
    pub fn new(input: &'a Path, output: &'a Path, options: &'a Options) -> Self {
        Self {
            input,
            output,
            options,
            samples: Some(SampleChoice::Synthetic),
            range_samples: None,
            input_range: None,
            shapes: &[],
            threads: 1,
            page: None,
            overwrite: Overwrite::Refused,
            bound: None,
            best_effort: false,
            save_plan: None,
            applied_plan: None,
            distill: None,
            resume: None,
        }
    }
}
