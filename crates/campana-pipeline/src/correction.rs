//! Which images the correction of a quantized model looks at.

use std::path::Path;

use campana_eval::{BatchOptions, Dataset, Selection, Sidecar};
use campana_onnx::Model;
use campana_quantize::{
    Corrected, MethodChoice, Options, QuantizedModel, Rounding, Samples, correct,
};

use crate::error::{Context, causes};
use crate::monitor::check;
use crate::{Error, ErrorKind, Monitor, sidecar};

/// The images that a correction looks at.
#[derive(Clone, Copy, Debug)]
pub enum SampleChoice<'a> {
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
///
/// # Errors
///
/// Where the images or the model's sidecar cannot be read, the model cannot be
/// corrected on them, or `monitor` says to stop.
pub fn correct_model(
    model: &Model,
    quantized: &mut QuantizedModel<'_>,
    input: &Path,
    options: &Options,
    choice: SampleChoice<'_>,
    threads: usize,
    monitor: &dyn Monitor,
) -> Result<Result<Corrected, String>, Error> {
    if quantized
        .tensors
        .iter()
        .all(|tensor| tensor.quantized.is_none())
    {
        return Ok(Err("nothing is quantized".to_owned()));
    }
    let samples = load_samples(input, choice, threads, monitor)?;
    correct_on(model, quantized, input, options, &samples, threads, monitor)
}

/// The images of a choice.
pub(crate) fn load_samples(
    input: &Path,
    choice: SampleChoice<'_>,
    threads: usize,
    monitor: &dyn Monitor,
) -> Result<Samples, Error> {
    Ok(match choice {
        // The sidecar helps where the model does not tell the size of its images.
        SampleChoice::Synthetic => Samples::Synthetic {
            size: Sidecar::beside(input)?.map(|sidecar| sidecar.preprocessing.size),
        },
        SampleChoice::Images { data, count } => {
            sample_images(input, data, count, threads, monitor)?
        }
    })
}

/// As [`correct_model`], on images that are there.
pub(crate) fn correct_on(
    model: &Model,
    quantized: &mut QuantizedModel<'_>,
    input: &Path,
    options: &Options,
    samples: &Samples,
    threads: usize,
    monitor: &dyn Monitor,
) -> Result<Result<Corrected, String>, Error> {
    // A method that is asked for by name chooses the codes.
    let rounding = match options.method {
        _ if options.rate.is_some() => Rounding::AtRate,
        MethodChoice::Auto => Rounding::Compensate,
        MethodChoice::Fixed(_) => Rounding::Keep,
    };
    match correct(model, quantized, samples, rounding, threads, monitor) {
        Ok(corrected) => Ok(Ok(corrected)),
        Err(error)
            if error.kind() == campana_quantize::ErrorKind::Unsupported
                && matches!(samples, Samples::Synthetic { .. }) =>
        {
            Ok(Err(causes(&error)))
        }
        Err(error) => Err(error).context(|| format!("cannot correct '{}'", input.display())),
    }
}

/// The user's images as the model takes them: at most `count`, evenly spread;
/// labels are not read.
///
/// # Errors
///
/// Where the model has no sidecar that says how images are prepared, no image
/// can be read, or `monitor` says to stop.
pub fn sample_images(
    model: &Path,
    data: &Path,
    count: usize,
    threads: usize,
    monitor: &dyn Monitor,
) -> Result<Samples, Error> {
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
        check(monitor)?;
        let batch = batch?;
        for failure in &batch.failures {
            monitor.image_skipped(&failure.name, &failure.error.to_string());
        }
        values.extend_from_slice(&batch.input);
    }
    let images = values.len() / settings.input_len().max(1);
    if images == 0 {
        return Err(Error::new(
            ErrorKind::Malformed,
            format!("no image of '{}' could be read", data.display()),
        ));
    }
    Ok(Samples::Images {
        shape: settings.input_shape(images).to_vec(),
        data: values,
    })
}
