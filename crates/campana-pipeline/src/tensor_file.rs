//! Weights without a graph: safetensors, NumPy and PyTorch files. Tensors are
//! read, quantized and written a few at a time, so memory does not grow with
//! the file.

use std::path::Path;
use std::time::Instant;

use campana_formats::{TensorEntry, TensorFile, encode_f32};
use campana_quantize::inspect::{Inspection, TensorInspection, inspect_values};
use campana_quantize::{
    Options, Prices, QuantizeReport, QuantizedWeights, SafetensorsForm, TOO_SMALL, Target,
    TensorReport, Weights, quantize_weights,
};
use rayon::prelude::*;

use crate::error::Context;
use crate::monitor::check;
use crate::output_file::folder_of;
use crate::{Error, ErrorKind, Monitor, OutputFile, QuantizeJob, SampleChoice, check_differs};

/// Bytes of tensors that are worked on at once; a larger tensor is alone.
const BATCH_BYTES: u64 = 96 << 20;

/// The axis of the output channels: first in every framework that these
/// formats come from.
pub(crate) const CHANNEL_AXIS: usize = 0;

/// Names of tensors with two axes or more that are no weights all the same.
const NOT_WEIGHTS: [&str; 4] = ["bias", "running_mean", "running_var", "num_batches_tracked"];

/// Why a tensor is no weight tensor; `None` where it is one.
fn no_weight(tensor: &TensorEntry) -> Option<String> {
    if !tensor.is_float() {
        return Some(format!("no float tensor ({})", tensor.type_name));
    }
    no_weight_by_shape(&tensor.name, &tensor.shape).map(str::to_owned)
}

/// Why a float tensor is no weight tensor; `None` where it is one.
pub(crate) fn no_weight_by_shape<'a>(name: &'a str, shape: &[usize]) -> Option<&'a str> {
    let last = name.rsplit('.').next().unwrap_or_default();
    if NOT_WEIGHTS.contains(&last) {
        Some(last)
    } else if shape.len() < 2 {
        Some("fewer than two axes: bias or normalization")
    } else if shape.contains(&0) {
        Some("empty")
    } else {
        None
    }
}

/// Reads a file and describes its weight tensors.
pub(crate) fn inspect(path: &Path, monitor: &dyn Monitor) -> Result<Inspection, Error> {
    let file = open(path)?;
    let weights: Vec<&TensorEntry> = weights_of(&file).collect();
    monitor.start(weights.iter().map(|tensor| tensor.count() as u64).sum());
    let mut tensors = Vec::new();
    for batch in batches(&weights) {
        let inspected: Vec<Result<TensorInspection, Error>> = batch
            .par_iter()
            .map(|tensor| {
                check(monitor)?;
                let values = file.read_f32(tensor)?;
                let inspected = inspect_values(&tensor.name, "", tensor.shape.clone(), &values)
                    .context(|| format!("cannot inspect '{}'", path.display()))?;
                monitor.tensor_done(&tensor.name, inspected.count);
                Ok(inspected)
            })
            .collect();
        // The first error in the file's order, whichever thread met one first.
        for tensor in inspected {
            tensors.push(tensor?);
        }
    }
    Ok(Inspection::new(path.display().to_string(), tensors))
}

/// Reads, quantizes and writes the tensors of a file.
pub(crate) fn quantize(
    job: &QuantizeJob<'_>,
    monitor: &dyn Monitor,
) -> Result<QuantizeReport, Error> {
    let start = Instant::now();
    let &QuantizeJob { input, output, .. } = job;
    let form = OutputForm::of(job)?;
    let mut out = OutputFile::create(output, job.overwrite, monitor)?;
    let file = open(input)?;
    for part in file.files() {
        check_differs(part, output)?;
    }
    let options = Options {
        means_are_corrected: false,
        ..job.options.clone()
    };
    let weights: Vec<&TensorEntry> = weights_of(&file).collect();
    let names: Vec<&str> = weights.iter().map(|tensor| tensor.name.as_str()).collect();
    options
        .check_names(&names)
        .context(|| format!("cannot quantize '{}'", input.display()))?;
    let counts = weights
        .iter()
        .filter(|tensor| !options.keeps(&tensor.name))
        .map(|tensor| tensor.count());
    let total = counts.clone().sum();
    monitor.start(total as u64);
    let mut run = Run {
        job,
        file: &file,
        options: &options,
        prices: Prices::new(counts.count(), total, false),
        monitor,
        reports: Vec::new(),
        energies: [0.0; 2],
    };
    match form {
        OutputForm::Codes => run.write_safetensors(&mut out, false)?,
        OutputForm::FloatSafetensors => run.write_safetensors(&mut out, true)?,
        OutputForm::FloatAsInput => run.rewrite(&mut out)?,
    }
    let Run {
        mut reports,
        energies,
        ..
    } = run;
    let output_bytes = out.finish()?;
    sort_as(&mut reports, &file);
    let reason = "the file has no graph to run".to_owned();
    Ok(QuantizeReport::new(
        reports,
        energies,
        [(input, file.len_bytes()), (output, output_bytes)],
        options.target,
        Err(reason),
        start.elapsed(),
    ))
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputForm {
    /// Codes and levels as safetensors.
    Codes,
    /// Decoded weights in the format that was read.
    FloatAsInput,
    /// Decoded weights as safetensors.
    FloatSafetensors,
}

impl OutputForm {
    fn of(job: &QuantizeJob<'_>) -> Result<Self, Error> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
        let (input, output) = (job.input.display(), job.output.display());
        if let Some(SampleChoice::Images { .. }) = job.samples {
            return refuse(format!(
                "'{input}' holds weights without a graph, which --calibrate would have to run; export the model to ONNX"
            ));
        }
        if job.page.is_some() {
            return refuse(format!(
                "'{input}' holds weights without a graph, of which no --report is written; `campana inspect --html` \
                 shows its distributions"
            ));
        }
        let extension = job.output.extension().unwrap_or_default();
        let is_safetensors = extension.eq_ignore_ascii_case("safetensors");
        match job.options.target {
            Target::Float if is_safetensors => Ok(Self::FloatSafetensors),
            Target::Float => Ok(Self::FloatAsInput),
            Target::Lut if is_safetensors => Ok(Self::Codes),
            Target::Lut => refuse(format!(
                "'{input}' holds weights without a graph, so the result is a safetensors file with codes and levels; \
                 name the output so ('{output}' does not end in .safetensors), or use --target float"
            )),
            other => refuse(format!(
                "'{input}' holds weights without a graph, which --target {other} needs; export the model to ONNX"
            )),
        }
    }
}

/// A file under way.
struct Run<'a> {
    job: &'a QuantizeJob<'a>,
    file: &'a TensorFile,
    options: &'a Options,
    prices: Prices,
    monitor: &'a dyn Monitor,
    reports: Vec<TensorReport>,
    energies: [f64; 2],
}

/// What became of a tensor.
enum Outcome {
    Quantized(Box<QuantizedWeights>),
    /// Its bytes and why.
    Kept(Vec<u8>, String),
}

impl Run<'_> {
    fn write_safetensors(&mut self, out: &mut OutputFile<'_>, decode: bool) -> Result<(), Error> {
        let writing = || format!("cannot write '{}'", self.job.output.display());
        let mut form = SafetensorsForm::new(folder_of(self.job.output)).context(writing)?;
        for (key, text) in self.file.metadata() {
            form.metadata(key, text);
        }
        let tensors: Vec<&TensorEntry> = self.file.tensors().iter().collect();
        for batch in batches(&tensors) {
            let outcomes: Vec<_> = batch
                .par_iter()
                .map(|tensor| self.outcome(tensor))
                .collect();
            for (tensor, outcome) in batch.iter().zip(outcomes) {
                match outcome? {
                    Outcome::Kept(bytes, reason) => {
                        form.copy(tensor, &bytes).context(writing)?;
                        self.reports.push(kept(tensor, reason));
                    }
                    Outcome::Quantized(quantized) if decode => {
                        let bytes = decoded(tensor, &quantized);
                        form.copy(tensor, &bytes).context(writing)?;
                        self.keep_account(*quantized);
                    }
                    Outcome::Quantized(mut quantized) => {
                        let stored = &quantized.tensor;
                        let len = form
                            .add(&tensor.name, &tensor.type_name, stored)
                            .context(writing)?;
                        let report = &mut quantized.report;
                        report.output_bytes = len;
                        report.bits_per_weight = 8.0 * len as f64 / tensor.count() as f64;
                        self.keep_account(*quantized);
                    }
                }
            }
        }
        check(self.monitor)?;
        form.finish(out).context(writing)?;
        Ok(())
    }

    fn rewrite(&mut self, out: &mut OutputFile<'_>) -> Result<(), Error> {
        self.file.rewrite(out, &mut |tensor| {
            check(self.monitor)?;
            if let Some(reason) = self.kept_beforehand(tensor) {
                self.reports.push(kept(tensor, reason));
                return Ok(None);
            }
            match self.quantize(tensor)? {
                None => {
                    self.reports.push(kept(tensor, TOO_SMALL.to_owned()));
                    Ok(None)
                }
                Some(quantized) => {
                    let bytes = decoded(tensor, &quantized);
                    self.keep_account(quantized);
                    Ok(Some(bytes))
                }
            }
        })
    }

    fn keep_account(&mut self, quantized: QuantizedWeights) {
        self.energies[0] += quantized.energy;
        self.energies[1] += quantized.squared_error;
        self.reports.push(quantized.report);
    }

    fn outcome(&self, tensor: &TensorEntry) -> Result<Outcome, Error> {
        check(self.monitor)?;
        let reason = match self.kept_beforehand(tensor) {
            Some(reason) => reason,
            None => match self.quantize(tensor)? {
                Some(quantized) => return Ok(Outcome::Quantized(Box::new(quantized))),
                None => TOO_SMALL.to_owned(),
            },
        };
        Ok(Outcome::Kept(self.file.read_bytes(tensor)?, reason))
    }

    fn kept_beforehand(&self, tensor: &TensorEntry) -> Option<String> {
        no_weight(tensor).or_else(|| {
            let kept = self.options.keeps(&tensor.name);
            kept.then(|| "kept by --keep".to_owned())
        })
    }

    fn quantize(&self, tensor: &TensorEntry) -> Result<Option<QuantizedWeights>, Error> {
        let values = self.file.read_f32(tensor)?;
        let weights = Weights {
            name: &tensor.name,
            op: "",
            shape: &tensor.shape,
            channel_axis: Some(CHANNEL_AXIS),
            float_bytes: tensor.len_bytes as usize,
            values: &values,
        };
        let quantized = quantize_weights(&weights, self.options, self.prices)
            .context(|| format!("cannot quantize '{}'", self.job.input.display()))?;
        self.monitor
            .tensor_done(&tensor.name, tensor.count() as u64);
        Ok(quantized)
    }
}

fn open(path: &Path) -> Result<TensorFile, Error> {
    TensorFile::open(path).context(|| format!("cannot read '{}'", path.display()))
}

fn weights_of(file: &TensorFile) -> impl Iterator<Item = &TensorEntry> {
    file.tensors()
        .iter()
        .filter(|tensor| no_weight(tensor).is_none())
}

/// Consecutive tensors of [`BATCH_BYTES`] at most, or one.
fn batches<'a, 't>(tensors: &'a [&'t TensorEntry]) -> Vec<&'a [&'t TensorEntry]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        if index > start && bytes + tensor.len_bytes > BATCH_BYTES {
            batches.push(&tensors[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += tensor.len_bytes;
    }
    batches.push(&tensors[start..]);
    batches
}

fn decoded(tensor: &TensorEntry, quantized: &QuantizedWeights) -> Vec<u8> {
    encode_f32(&quantized.tensor.dequantize(), tensor.element_type)
}

fn kept(tensor: &TensorEntry, reason: String) -> TensorReport {
    TensorReport::kept(
        &tensor.name,
        tensor.shape.clone(),
        tensor.element_type.bits().unwrap_or(0),
        tensor.len_bytes,
        reason,
    )
}

/// Reports in the order of the file's tensors; what is missing shares its
/// elements with another tensor.
fn sort_as(reports: &mut Vec<TensorReport>, file: &TensorFile) {
    let mut by_name: std::collections::HashMap<String, TensorReport> = reports
        .drain(..)
        .map(|report| (report.name.clone(), report))
        .collect();
    let in_order = file.tensors().iter().map(|tensor| {
        by_name
            .remove(&tensor.name)
            .unwrap_or_else(|| kept(tensor, "shares its elements with another tensor".to_owned()))
    });
    *reports = in_order.collect();
}
