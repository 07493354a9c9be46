//! What a model computes from arrays.

use std::path::Path;

use campana_eval::Output;
use campana_formats::write_npz;
use campana_tensor::{Tensor, TensorData};
use serde::Serialize;

use crate::compare_outputs::Subject;
use crate::error::Context;
use crate::{CommandFiles, Error, ErrorKind, Monitor, OutputFile, OutputsJob, Overwrite};

/// A model, and the arrays that it is run on.
#[derive(Clone, Copy, Debug)]
pub struct RunArraysJob<'a> {
    /// The model.
    pub model: &'a Path,
    /// A `.npz` with one array for each input, or a `.npy` for the only one; the
    /// first axis counts samples.
    pub data: &'a Path,
    /// Where the outputs are written as `.npz`, if anywhere.
    pub output: Option<(&'a Path, Overwrite)>,
    /// Threads to use.
    pub threads: usize,
}

/// What is said of a model's outputs; the keys of the JSON are a contract.
#[derive(Clone, Debug, Serialize)]
pub struct RunArraysReport {
    /// The file of arrays.
    pub data: String,
    /// Number of samples.
    pub n: usize,
    /// Each output over all samples.
    pub outputs: Vec<OutputSummary>,
}

/// The values of one output.
#[derive(Clone, Debug, Serialize)]
pub struct OutputSummary {
    /// The output's name.
    pub output: String,
    /// Extents for the first sample.
    pub shape: Vec<usize>,
    /// The least value; `None` where there is none.
    pub least: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
    /// The greatest value.
    pub greatest: Option<f64>,
}

/// Runs a model on arrays, sample by sample. `go_on` hears the number of samples
/// that are done and of all, and says whether to go on.
///
/// # Errors
///
/// Where a file cannot be read, the arrays do not fit the model, it cannot run, its
/// outputs for different samples cannot be joined for the output file, or
/// `go_on` says to stop.
pub fn run_arrays(
    job: &RunArraysJob<'_>,
    monitor: &dyn Monitor,
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<RunArraysReport, Error> {
    let RunArraysJob { model, data, .. } = *job;
    let written = job.output.map(|(path, _)| path);
    CommandFiles::new()
        .model("the model", model)
        .input("the arrays", data)
        .output("the output", written)
        .check()?;
    let output = job.output;
    let output = output.map(|(path, overwrite)| OutputFile::create(path, overwrite, monitor));
    let output = output.transpose()?;
    let subject = Subject::open(
        model,
        &OutputsJob {
            models: &[],
            reference: None,
            data,
            limit: None,
            threads: job.threads,
        },
        monitor,
    )?;
    let mut outputs: Vec<Vec<Tensor>> = Vec::new();
    for index in 0..subject.batches.len() {
        if !go_on(index, subject.batches.len()) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let tensors = subject.tensors(index)?;
        outputs.resize_with(tensors.len(), Vec::new);
        for (output, tensor) in outputs.iter_mut().zip(tensors) {
            output.push(tensor);
        }
    }
    let names = subject
        .session
        .plan()
        .outputs()
        .iter()
        .map(|value| &*value.name);
    let outputs: Vec<(&str, Vec<Tensor>)> = names.zip(outputs).collect();
    let report = RunArraysReport {
        data: data.display().to_string(),
        n: subject.batches.samples(),
        outputs: outputs
            .iter()
            .map(|(name, values)| summary(name, values))
            .collect(),
    };
    if let Some(mut file) = output {
        write(&outputs, &mut file)?;
        file.finish()?;
    }
    Ok(report)
}

fn summary(name: &str, values: &[Tensor]) -> OutputSummary {
    let (mut least, mut greatest, mut sum, mut count) =
        (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0usize);
    for tensor in values {
        let output = Output::new(name, tensor.clone());
        for value in output.map(|output| output.values).unwrap_or_default() {
            let value = f64::from(value);
            least = least.min(value);
            greatest = greatest.max(value);
            sum += value;
            count += 1;
        }
    }
    let known = |value: f64| (count > 0).then_some(value);
    OutputSummary {
        output: name.to_owned(),
        shape: values.first().map_or(&[][..], Tensor::shape).to_vec(),
        least: known(least),
        mean: known(sum / count as f64),
        greatest: known(greatest),
    }
}

fn write(outputs: &[(&str, Vec<Tensor>)], file: &mut OutputFile<'_>) -> Result<(), Error> {
    let joined = outputs
        .iter()
        .map(|(name, values)| Ok((*name, joined(name, values)?)));
    let joined: Vec<(&str, Tensor)> = joined.collect::<Result<_, Error>>()?;
    let message = format!("cannot write '{}'", file.name().display());
    let arrays = joined.iter().map(|(name, tensor)| (*name, tensor));
    write_npz(file, arrays).context(|| message)
}

/// The outputs of all samples one after another, along the first axis where each
/// counts one sample there, else along an axis of their own.
fn joined(name: &str, values: &[Tensor]) -> Result<Tensor, Error> {
    let [first, rest @ ..] = values else {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "there are no samples",
        ));
    };
    if rest.is_empty() {
        return Ok(first.clone());
    }
    let differs = || {
        let message = format!(
            "output '{name}' has another shape or type for each sample: give one sample at a time"
        );
        Error::new(ErrorKind::Unsupported, message)
    };
    let element_type = first.data().element_type();
    let mut bytes = Vec::new();
    for tensor in values {
        let is_alike =
            tensor.shape() == first.shape() && tensor.data().element_type() == element_type;
        let own = tensor.data().to_le_bytes().filter(|_| is_alike);
        bytes.extend(own.ok_or_else(differs)?);
    }
    let mut shape = first.shape().to_vec();
    match shape.first_mut() {
        Some(batch) if *batch == 1 => *batch = values.len(),
        _ => shape.insert(0, values.len()),
    }
    let data = TensorData::from_le_bytes(element_type, &bytes);
    data.and_then(|data| Tensor::new(shape, data))
        .ok_or_else(differs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_joined_along_the_batch_or_an_axis_of_their_own() {
        let tensor = |shape: &[usize], value: f32| {
            let len = shape.iter().product();
            Tensor::new(shape.to_vec(), TensorData::F32(vec![value; len])).unwrap()
        };
        let batch = joined("y", &[tensor(&[1, 2], 1.0), tensor(&[1, 2], 2.0)]).unwrap();
        let expected = TensorData::F32(vec![1.0, 1.0, 2.0, 2.0]);
        assert_eq!((batch.shape(), batch.data()), (&[2, 2][..], &expected));
        let loose = joined("y", &[tensor(&[2], 1.0), tensor(&[2], 2.0)]).unwrap();
        assert_eq!((loose.shape(), loose.data()), (&[2, 2][..], &expected));
        let error = joined("y", &[tensor(&[1, 2], 1.0), tensor(&[1, 3], 2.0)]).unwrap_err();
        assert!(error.to_string().contains("output 'y'"), "{error}");
    }

    #[test]
    fn the_summary_is_over_all_samples() {
        let tensor = |value: f32| Tensor::new(vec![1, 1], TensorData::F32(vec![value])).unwrap();
        let found = summary("y", &[tensor(1.0), tensor(-3.0)]);
        let values = (found.least, found.mean, found.greatest);
        assert_eq!(values, (Some(-3.0), Some(-1.0), Some(1.0)));
        assert_eq!(summary("y", &[]).mean, None);
    }
}
