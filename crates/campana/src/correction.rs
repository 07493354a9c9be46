//! Which images the correction of a quantized model looks at.

use std::path::Path;

use anyhow::{Context, Result, bail};
use campana_eval::{BatchOptions, Dataset, Selection, Sidecar};
use campana_onnx::Model;
use campana_quantize::{
    CorrectionReport, ErrorKind, MethodChoice, Options, QuantizedModel, Rounding, Samples, correct,
};

use crate::commands::evaluate::sidecar;
use crate::interrupt;
use crate::progress::Bar;

/// The images that a correction looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SampleChoice<'a> {
    /// Synthetic ones: needs no data.
    Synthetic,
    /// The user's.
    Images {
        /// The dataset; labels are not read.
        data: &'a Path,
        /// How many to take at most, evenly spread.
        count: usize,
    },
}

/// Corrects a quantized model, or says why that cannot be done without data.
pub(crate) fn correct_model(
    model: &Model,
    quantized: &mut QuantizedModel<'_>,
    input: &Path,
    options: &Options,
    choice: SampleChoice<'_>,
    threads: usize,
) -> Result<Result<CorrectionReport, String>> {
    if quantized
        .tensors
        .iter()
        .all(|tensor| tensor.quantized.is_none())
    {
        return Ok(Err("nothing is quantized".to_owned()));
    }
    let samples = match choice {
        // The sidecar helps where the model does not tell the size of its images.
        SampleChoice::Synthetic => Samples::Synthetic {
            size: Sidecar::beside(input)?.map(|sidecar| sidecar.preprocessing.size),
        },
        SampleChoice::Images { data, count } => images(input, data, count, threads)?,
    };
    // A method that is asked for by name chooses the codes.
    let rounding = match options.method {
        MethodChoice::Auto => Rounding::Compensate,
        MethodChoice::Fixed(_) => Rounding::Keep,
    };
    match correct(model, quantized, &samples, rounding, threads, &Bar::new()) {
        Ok(report) => Ok(Ok(report)),
        Err(error)
            if error.kind() == ErrorKind::Unsupported
                && matches!(choice, SampleChoice::Synthetic) =>
        {
            Ok(Err(causes(&error)))
        }
        Err(error) => Err(error).with_context(|| format!("cannot correct '{}'", input.display())),
    }
}

/// The user's images as the model takes them.
fn images(model: &Path, data: &Path, count: usize, threads: usize) -> Result<Samples> {
    let settings = sidecar(model)?.preprocessing;
    let dataset = Dataset::open(data)?;
    let options = BatchOptions {
        limit: Some(count),
        selection: Selection::Spread,
        threads,
        ..BatchOptions::default()
    };
    let mut values = Vec::new();
    for batch in dataset.batches(&settings, &options)? {
        interrupt::check()?;
        let batch = batch?;
        for failure in &batch.failures {
            anstream::eprintln!("skipped {}: {}", failure.name, failure.error);
        }
        values.extend_from_slice(&batch.input);
    }
    let images = values.len() / settings.input_len().max(1);
    if images == 0 {
        bail!("no image of '{}' could be read", data.display());
    }
    Ok(Samples::Images {
        shape: settings.input_shape(images).to_vec(),
        data: values,
    })
}

/// An error and what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
