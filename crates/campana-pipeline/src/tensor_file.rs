//! Weights without a graph: safetensors, NumPy and PyTorch files. Tensors are
//! read, quantized and written a few at a time, so memory does not grow with
//! the file; while some are quantized, those before are written and those
//! behind are read.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use campana_export::SafetensorsForm;
use campana_formats::{Format, TensorEntry, TensorFile, encode_f32};
use campana_quantize::inspect::{Inspection, TensorInspection, inspect_values};
use campana_quantize::{
    Options, Prices, QuantizedWeights, TOO_SMALL, Target, TensorReport, Weights, quantize_weights,
};
use campana_report::QuantizeReport;
use rayon::prelude::*;

use crate::error::Context;
use crate::monitor::check;
use crate::output_name::check_name;
use crate::{Error, ErrorKind, Monitor, OutputFile, QuantizeJob, SampleChoice};

/// Bytes of tensors, as floats, that are worked on at once; a larger tensor is
/// alone. The next are read ahead where both together are at most twice as many.
const BATCH_BYTES: u64 = 64 << 20;

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
    for batch in batches(&weights, BATCH_BYTES) {
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
    quantize_in_batches(job, BATCH_BYTES, monitor)
}

fn quantize_in_batches(
    job: &QuantizeJob<'_>,
    batch_bytes: u64,
    monitor: &dyn Monitor,
) -> Result<QuantizeReport, Error> {
    let start = Instant::now();
    let &QuantizeJob { input, output, .. } = job;
    let form = OutputForm::of(job)?;
    let mut out = OutputFile::create(output, job.overwrite, monitor)?;
    let file = open(input)?;
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
    let run = Run {
        job,
        file: &file,
        options: &options,
        prices: Prices::new(counts.count(), total),
        batch_bytes,
        monitor,
    };
    let Account {
        mut reports,
        energies,
    } = match form {
        OutputForm::Codes => run.write_safetensors(&mut out, false)?,
        OutputForm::FloatSafetensors => run.write_safetensors(&mut out, true)?,
        OutputForm::FloatAsInput => run.rewrite(&mut out)?,
    };
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
        if let Some(SampleChoice::Images { .. } | SampleChoice::Arrays { .. }) = job.samples {
            return refuse(format!(
                "'{input}' holds weights without a graph, which --calibrate would have to run; export the model to ONNX"
            ));
        }
        if job.resume.is_some() {
            return refuse(format!(
                "'{input}' holds weights without a graph, of which no layers are corrected that --resume could keep"
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
            Target::Float => {
                let ending = Format::of(job.input).map_or("", ending);
                let advice = "name it so, or .safetensors for that form";
                check_name(job.output, ending, advice)?;
                Ok(Self::FloatAsInput)
            }
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
    batch_bytes: u64,
    monitor: &'a dyn Monitor,
}

/// What is said of the tensors that are written.
#[derive(Default)]
struct Account {
    reports: Vec<TensorReport>,
    /// Of the weights, and of their errors.
    energies: [f64; 2],
}

impl Account {
    fn quantized(&mut self, quantized: QuantizedWeights) {
        self.energies[0] += quantized.energy;
        self.energies[1] += quantized.squared_error;
        self.reports.push(quantized.report);
    }
}

/// Memory of weights that are no longer needed.
type Buffers = Vec<Vec<f32>>;

/// A tensor that was read.
enum Content {
    Weights(Vec<f32>),
    /// Its bytes, and why it stays as it is.
    Kept(Vec<u8>, String),
}

/// What became of a tensor.
enum Outcome {
    Quantized(Box<QuantizedWeights>),
    /// Its bytes and why.
    Kept(Vec<u8>, String),
}

/// A safetensors file under way, with what is said of its tensors.
struct Written<'a> {
    form: SafetensorsForm,
    output: &'a Path,
    /// Whether weights are written decoded.
    decode: bool,
    account: Account,
}

impl Written<'_> {
    fn add(&mut self, tensor: &TensorEntry, outcome: Outcome) -> Result<(), Error> {
        let Self { form, account, .. } = self;
        let writing = || format!("cannot write '{}'", self.output.display());
        match outcome {
            Outcome::Kept(bytes, reason) => {
                form.copy(tensor, &bytes).context(writing)?;
                account.reports.push(kept(tensor, reason));
            }
            Outcome::Quantized(quantized) if self.decode => {
                let bytes = decoded(tensor, &quantized);
                form.copy(tensor, &bytes).context(writing)?;
                account.quantized(*quantized);
            }
            Outcome::Quantized(mut quantized) => {
                let stored = &quantized.tensor;
                let len = form
                    .add(&tensor.name, &tensor.type_name, stored)
                    .context(writing)?;
                let report = &mut quantized.report;
                report.output_bytes = len;
                report.bits_per_weight = 8.0 * len as f64 / tensor.count() as f64;
                account.quantized(*quantized);
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    fn write_safetensors(&self, out: &mut OutputFile<'_>, decode: bool) -> Result<Account, Error> {
        let output = self.job.output;
        let writing = || format!("cannot write '{}'", output.display());
        let mut form = SafetensorsForm::new(out.folder()).context(writing)?;
        for (key, text) in self.file.metadata() {
            form.metadata(key, text);
        }
        let mut written = Written {
            form,
            output,
            decode,
            account: Account::default(),
        };
        let tensors: Vec<&TensorEntry> = self.file.tensors().iter().collect();
        let batches = batches(&tensors, self.batch_bytes);
        let mut buffers = Buffers::new();
        let mut contents = None;
        let mut outcomes = Vec::new();
        for (index, &batch) in batches.iter().enumerate() {
            let read = match contents.take() {
                Some(read) => read,
                None => self.read(batch, &mut buffers),
            };
            let next = batches.get(index + 1).filter(|next| {
                bytes_as_floats(batch) + bytes_as_floats(next) <= 2 * self.batch_bytes
            });
            let finished = std::mem::take(&mut outcomes);
            let ((quantized, no_longer_needed), beside) = rayon::join(
                || self.quantize_batch(batch, read),
                || -> Result<_, Error> {
                    for (tensor, outcome) in finished {
                        written.add(tensor, outcome?)?;
                    }
                    Ok(next.map(|next| self.read(next, &mut buffers)))
                },
            );
            contents = beside?;
            outcomes.extend(batch.iter().copied().zip(quantized));
            buffers.extend(no_longer_needed);
        }
        for (tensor, outcome) in outcomes {
            written.add(tensor, outcome?)?;
        }
        check(self.monitor)?;
        let (header, mut data) = written.form.into_parts().context(writing)?;
        out.write_all(&header).context(writing)?;
        out.append(&mut data).context(writing)?;
        Ok(written.account)
    }

    /// Reads tensors, weights into buffers that are no longer needed, as long
    /// as there are any.
    fn read(&self, batch: &[&TensorEntry], buffers: &mut Buffers) -> Vec<Result<Content, Error>> {
        let read = |tensor: &&TensorEntry| {
            check(self.monitor)?;
            if let Some(reason) = self.kept_beforehand(tensor) {
                return Ok(Content::Kept(self.file.read_bytes(tensor)?, reason));
            }
            let buffer = buffers.pop();
            // No small tensor holds on to the buffer of a large one.
            let fits = |buffer: &Vec<f32>| buffer.capacity() <= 2 * tensor.count();
            let mut values = buffer.filter(fits).unwrap_or_default();
            self.file.read_f32_into(tensor, &mut values)?;
            Ok(Content::Weights(values))
        };
        let contents = batch.iter().map(read).collect();
        // What this batch had no use for is not kept for later ones.
        buffers.clear();
        contents
    }

    /// Quantizes tensors; gives the buffers of their weights back.
    fn quantize_batch(
        &self,
        batch: &[&TensorEntry],
        contents: Vec<Result<Content, Error>>,
    ) -> (Vec<Result<Outcome, Error>>, Buffers) {
        let quantize = |(tensor, content): (&&TensorEntry, Result<Content, Error>)| match content {
            Err(error) => (Err(error), None),
            Ok(Content::Kept(bytes, reason)) => (Ok(Outcome::Kept(bytes, reason)), None),
            Ok(Content::Weights(values)) => (self.outcome(tensor, &values), Some(values)),
        };
        let tensors = batch.par_iter().zip(contents);
        let (outcomes, buffers): (Vec<_>, Vec<_>) = tensors.map(quantize).unzip();
        (outcomes, buffers.into_iter().flatten().collect())
    }

    fn rewrite(&self, out: &mut OutputFile<'_>) -> Result<Account, Error> {
        let mut account = Account::default();
        self.file.rewrite(out, &mut |tensor| -> Result<_, Error> {
            check(self.monitor)?;
            if let Some(reason) = self.kept_beforehand(tensor) {
                account.reports.push(kept(tensor, reason));
                return Ok(None);
            }
            match self.quantize(tensor, &self.file.read_f32(tensor)?)? {
                None => {
                    account.reports.push(kept(tensor, TOO_SMALL.to_owned()));
                    Ok(None)
                }
                Some(quantized) => {
                    let bytes = decoded(tensor, &quantized);
                    account.quantized(quantized);
                    Ok(Some(bytes))
                }
            }
        })?;
        Ok(account)
    }

    fn outcome(&self, tensor: &TensorEntry, values: &[f32]) -> Result<Outcome, Error> {
        check(self.monitor)?;
        Ok(match self.quantize(tensor, values)? {
            Some(quantized) => Outcome::Quantized(Box::new(quantized)),
            None => Outcome::Kept(self.file.read_bytes(tensor)?, TOO_SMALL.to_owned()),
        })
    }

    fn kept_beforehand(&self, tensor: &TensorEntry) -> Option<String> {
        no_weight(tensor).or_else(|| {
            let kept = self.options.keeps(&tensor.name);
            kept.then(|| "kept by --keep".to_owned())
        })
    }

    fn quantize(
        &self,
        tensor: &TensorEntry,
        values: &[f32],
    ) -> Result<Option<QuantizedWeights>, Error> {
        let weights = Weights {
            name: &tensor.name,
            op: "",
            shape: &tensor.shape,
            channel_axis: Some(CHANNEL_AXIS),
            float_bytes: tensor.len_bytes as usize,
            values,
        };
        let quantized = quantize_weights(&weights, self.options, self.prices)
            .context(|| format!("cannot quantize '{}'", self.job.input.display()))?;
        self.monitor
            .tensor_done(&tensor.name, tensor.count() as u64);
        Ok(quantized)
    }
}

/// How files of a format are named; one that is not known here, as any.
fn ending(format: Format) -> &'static str {
    match format {
        Format::Safetensors | Format::SafetensorsIndex => "safetensors",
        Format::Npy => "npy",
        Format::Npz => "npz",
        Format::PyTorch | Format::PyTorchLegacy => "pt",
        _ => "",
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

/// Consecutive tensors of this many bytes at most, or one.
fn batches<'a, 't>(tensors: &'a [&'t TensorEntry], batch_bytes: u64) -> Vec<&'a [&'t TensorEntry]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        let len = bytes_as_floats(&[tensor]);
        if index > start && bytes + len > batch_bytes {
            batches.push(&tensors[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += len;
    }
    batches.push(&tensors[start..]);
    batches
}

/// Bytes of tensors in memory, elements of fewer as of four.
fn bytes_as_floats(tensors: &[&TensorEntry]) -> u64 {
    let bytes = |tensor: &&TensorEntry| tensor.len_bytes.max(4 * tensor.count() as u64);
    tensors.iter().map(bytes).sum()
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

#[cfg(test)]
mod tests {
    use campana_formats::SafetensorsWriter;
    use campana_quantize::Silent;
    use campana_tensor::ElementType;

    use super::*;

    /// Weights, small ones and biases among them, of many lengths.
    fn write_weights(path: &Path) {
        let mut writer = SafetensorsWriter::new(path.parent().unwrap()).unwrap();
        for (number, rows) in [64, 1, 8, 40, 40, 3, 128].into_iter().enumerate() {
            let value = |at: usize| ((at * 37 % 101) as f32 - 50.0) * 0.01;
            let bytes = |count: usize| -> Vec<u8> {
                let values = (number..number + count).map(value);
                values.flat_map(f32::to_le_bytes).collect()
            };
            let mut add = |name: String, shape: &[usize]| {
                let bytes = bytes(shape.iter().product());
                writer.tensor(&name, ElementType::F32, shape, &bytes)
            };
            add(format!("{number}.weight"), &[rows, 16]).unwrap();
            add(format!("{number}.bias"), &[rows]).unwrap();
        }
        writer
            .finish(&mut std::fs::File::create(path).unwrap())
            .unwrap();
    }

    #[test]
    fn tensors_that_are_read_ahead_or_not_give_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.safetensors");
        write_weights(&input);
        let options = Options::default();
        let quantized = |batch_bytes: u64| {
            let output = folder.path().join(format!("{batch_bytes}.safetensors"));
            let job = QuantizeJob {
                samples: None,
                ..QuantizeJob::new(&input, &output, &options)
            };
            let report = quantize_in_batches(&job, batch_bytes, &Silent).unwrap();
            assert_eq!(report.tensors.len(), 14);
            std::fs::read(output).unwrap()
        };
        let at_once = quantized(BATCH_BYTES);
        for batch_bytes in [1, 300, 3_000, 6_000] {
            assert!(quantized(batch_bytes) == at_once, "{batch_bytes} bytes");
        }
    }
}
