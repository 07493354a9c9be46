//! The front door for Rust: from a trained network in a file to a small one.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use campana_calibrate::DistillBudget;
use campana_eval::open_input;
use campana_pipeline::{
    Bound, CALIBRATION_SAMPLES, Error, ErrorKind, Monitor, Overwrite, QuantizeJob, SampleChoice,
    quantize_file,
};
use campana_quantize::{Effort, MethodChoice, NamePattern, Options, RateGoal, Silent, Target};
use campana_report::QuantizeReport;
use campana_tensor::Granularity;

/// What the size of a quantized network follows from.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// So many bits a code in all tensors, 1 to 8.
    Bits(u8),
    /// At most so many stored bits a weight on average; tensors get their own
    /// widths (mixed-precision bit allocation).
    AverageBits(f64),
    /// At most so many bytes of output, data files included.
    MaxSize(u64),
    /// The smallest output that loses at most this share of right answers, 0 to
    /// 1, on labelled images.
    MaxDrop {
        /// The share.
        most: f64,
        /// The images; without, the loss is estimated on what the correction
        /// sees.
        data: Option<PathBuf>,
    },
    /// So many bits a weight of the container's entropy coder, or so many zeros;
    /// for [`Target::Campana`].
    Rate(RateGoal),
}

/// What the correction of activations looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Correction {
    /// No correction.
    None,
    /// Synthetic inputs: needs no data.
    Synthetic,
    /// Images in a dataset, or arrays (`.npy`, `.npz`).
    Samples {
        /// Where they are; labels are not read.
        data: PathBuf,
        /// How many to take at most, evenly spread.
        count: usize,
    },
}

/// A quantization to be: a builder with the defaults of `campana quantize`.
///
/// ```no_run
/// # fn main() -> Result<(), campana::Error> {
/// let report = campana::Quantizer::open("model.onnx")?
///     .bits(4)
///     .calibrate("images")
///     .save("small.onnx")?;
/// println!("{} bytes of {}", report.output_bytes, report.input_bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Quantizer {
    input: PathBuf,
    target: Option<Target>,
    goal: Option<Goal>,
    method: MethodChoice,
    granularity: Option<Granularity>,
    keep: Vec<NamePattern>,
    correction: Correction,
    effort: Effort,
    distill: Option<DistillBudget>,
    input_range: Option<[f32; 2]>,
    threads: NonZeroUsize,
    overwrite: Overwrite,
}

impl Quantizer {
    /// A quantization of the ONNX model, safetensors, NumPy or PyTorch file at
    /// this path, on all processors.
    ///
    /// # Errors
    ///
    /// Where there is no such file, or it cannot be opened.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let input = path.into();
        open_input(&input).map_err(|error| {
            let message = format!("cannot read '{}': {error}", input.display());
            Error::new(ErrorKind::Io, message)
        })?;
        Ok(Self {
            input,
            target: None,
            goal: None,
            method: MethodChoice::Auto,
            granularity: None,
            keep: Vec::new(),
            correction: Correction::Synthetic,
            effort: Effort::default(),
            distill: None,
            input_range: None,
            threads: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            overwrite: Overwrite::Refused,
        })
    }

    /// So many bits a code, 1 to 8: [`Goal::Bits`].
    #[must_use]
    pub fn bits(self, bits: u8) -> Self {
        self.goal(Goal::Bits(bits))
    }

    /// What the size follows from; by default 4 bits, 8 for [`Target::Int8`].
    #[must_use]
    pub fn goal(self, goal: Goal) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    /// The form to write; by default what the output's name says (`.campana`),
    /// else [`Target::Lut`].
    #[must_use]
    pub fn target(self, target: Target) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    /// How levels are designed; by default [`MethodChoice::Auto`].
    #[must_use]
    pub fn method(self, method: MethodChoice) -> Self {
        Self { method, ..self }
    }

    /// What shares a codebook or a scale; by default the method's.
    #[must_use]
    pub fn granularity(self, granularity: Granularity) -> Self {
        Self {
            granularity: Some(granularity),
            ..self
        }
    }

    /// Weight tensors whose names fit stay float.
    #[must_use]
    pub fn keep(mut self, pattern: NamePattern) -> Self {
        self.keep.push(pattern);
        self
    }

    /// Corrects on up to 256 of these images or arrays.
    #[must_use]
    pub fn calibrate(self, data: impl Into<PathBuf>) -> Self {
        self.correction(Correction::Samples {
            data: data.into(),
            count: CALIBRATION_SAMPLES.get(),
        })
    }

    /// What the correction looks at; by default synthetic inputs.
    #[must_use]
    pub fn correction(self, correction: Correction) -> Self {
        Self { correction, ..self }
    }

    /// How much time the correction may take.
    #[must_use]
    pub fn effort(self, effort: Effort) -> Self {
        Self { effort, ..self }
    }

    /// How long to learn from the float network's answers after the correction;
    /// not at all by default.
    #[must_use]
    pub fn distill(self, budget: DistillBudget) -> Self {
        Self {
            distill: Some(budget),
            ..self
        }
    }

    /// Least and greatest value of synthetic float inputs.
    #[must_use]
    pub fn input_range(self, low: f32, high: f32) -> Self {
        Self {
            input_range: Some([low, high]),
            ..self
        }
    }

    /// Threads to use; results do not depend on their number.
    #[must_use]
    pub fn threads(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// An existing output is replaced.
    #[must_use]
    pub fn overwrite(self) -> Self {
        Self {
            overwrite: Overwrite::Allowed,
            ..self
        }
    }

    /// Quantizes and writes the model; it appears whole or not at all.
    ///
    /// # Errors
    ///
    /// Where a choice fits neither the model nor another choice, something
    /// cannot be read or written, the output exists, or the goal cannot be met.
    pub fn save(&self, output: impl AsRef<Path>) -> Result<QuantizeReport, Error> {
        self.save_with(output, &Silent)
    }

    /// As [`save`](Self::save), heard by a monitor that can stop it.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save), and where the monitor stops it.
    pub fn save_with(
        &self,
        output: impl AsRef<Path>,
        monitor: &dyn Monitor,
    ) -> Result<QuantizeReport, Error> {
        let output = output.as_ref();
        let options = self.options(self.target.unwrap_or_else(|| Target::of_output(output)));
        let samples = self.samples();
        let job = QuantizeJob {
            samples,
            range_samples: samples.or(Some(SampleChoice::Synthetic)),
            input_range: self.input_range,
            distill: self.distill,
            threads: self.threads.get(),
            overwrite: self.overwrite,
            bound: self.bound(),
            ..QuantizeJob::new(&self.input, output, &options)
        };
        let report = quantize_file(&job, monitor)?;
        match &report.allocation {
            Some(found) if !found.written => Err(Error::new(
                ErrorKind::BoundMissed,
                format!(
                    "nothing is written to '{}': the best that was found has {} bytes and does not keep to the bound",
                    output.display(),
                    report.output_bytes
                ),
            )),
            _ => Ok(report),
        }
    }

    fn options(&self, target: Target) -> Options {
        Options {
            bits: match self.goal {
                Some(Goal::Bits(bits)) => bits,
                _ => target.default_bits(),
            },
            method: self.method,
            granularity: self
                .granularity
                .unwrap_or_else(|| self.method.default_granularity()),
            keep: self.keep.clone(),
            means_are_corrected: self.correction != Correction::None,
            rate: match self.goal {
                Some(Goal::Rate(goal)) => Some(goal),
                _ => None,
            },
            target,
            effort: self.effort,
            ..Options::default()
        }
    }

    fn samples(&self) -> Option<SampleChoice<'_>> {
        match &self.correction {
            Correction::None => None,
            Correction::Synthetic => Some(SampleChoice::Synthetic),
            Correction::Samples { data, count } => Some(SampleChoice::Images {
                data,
                count: *count,
            }),
        }
    }

    fn bound(&self) -> Option<Bound<'_>> {
        match self.goal.as_ref()? {
            Goal::Bits(_) | Goal::Rate(_) => None,
            Goal::AverageBits(bits) => Some(Bound::BitsPerWeight(*bits)),
            Goal::MaxSize(bytes) => Some(Bound::OutputBytes(*bytes)),
            Goal::MaxDrop { most, data } => Some(Bound::Drop {
                most: *most,
                data: data.as_deref(),
            }),
        }
    }
}
