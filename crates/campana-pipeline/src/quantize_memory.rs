//! From a model in memory to a smaller one in memory, where there are no files.

use std::time::Duration;

use campana_calibrate::Samples;
use campana_eval::{Preprocessing, RgbImage, Sidecar, preprocess};
use campana_export::{OutputModel, Placement, admit};
use campana_ir::format::onnx;
use campana_onnx::{Model, Source};
use campana_quantize::stored_tensors;
use campana_report::{QuantizeReport, quantize_page};

use crate::correction::JobSamples;
use crate::error::Context;
use crate::job::QuantizeJob;
use crate::output_len::{Encoded, encoded, is_encoded};
use crate::quantize_file::has_data_beside;
use crate::worked::Worked;
use crate::{Error, ErrorKind, Monitor};

/// A quantized model in memory.
#[derive(Clone, Debug)]
pub struct QuantizedBytes {
    /// The file that the target has.
    pub model: Vec<u8>,
    /// What became of it; its time is zero, since not every place has a clock.
    pub report: QuantizeReport,
    /// The page about it.
    pub page: String,
}

/// Quantizes and corrects a model that lies in memory.
///
/// The job's paths are names for messages, and the names of its samples for the
/// page: what it looks at is `samples` where they are given, or synthetic.
/// `sidecar` says what the model takes, where that is known. With the same job a
/// file comes to the same bytes.
///
/// # Errors
///
/// As [`quantize_file`](crate::quantize_file), where the model keeps data in
/// files beside it, or the target is a folder.
pub fn quantize_bytes(
    job: &QuantizeJob<'_>,
    bytes: Vec<u8>,
    sidecar: Option<&Sidecar>,
    samples: Option<Samples>,
    monitor: &dyn Monitor,
) -> Result<QuantizedBytes, Error> {
    let (input, target) = (job.input.display(), job.options.target);
    let input_bytes = bytes.len() as u64;
    if target.is_folder() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("--target {target} writes a folder: use the command line"),
        ));
    }
    let model = Model::parse(Source::from_bytes(bytes))
        .and_then(|model| onnx::with_input_shapes(model, job.shapes))
        .context(|| format!("cannot read '{input}'"))?;
    if has_data_beside(&model) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("'{input}' keeps data in files beside it: use the command line"),
        ));
    }
    let model = admit(model, job.options).context(|| format!("cannot quantize '{input}'"))?;
    let samples = JobSamples::in_memory(job, &model, sidecar, samples, monitor);
    let worked = Worked::on(job, &model, &samples, monitor)?;
    if !worked.is_written() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("'{input}' cannot be made as small as that; allow more bits or bytes"),
        ));
    }
    let writing = || format!("cannot write '{}'", job.output.display());
    let written = OutputModel::new(
        &model,
        &worked.quantized,
        &worked.activations,
        target,
        &Placement::of(job.input, job.output),
    )
    .context(writing)?;
    let halved: Vec<String> = written.halved.iter().map(|&name| name.to_owned()).collect();
    let model_bytes = if is_encoded(target) {
        match encoded(written, target, sidecar).context(writing)? {
            Encoded::File(bytes) => bytes,
            Encoded::Folder(_) => unreachable!("targets that are folders were refused"),
        }
    } else {
        let mut bytes = Vec::new();
        written.write(&mut bytes).context(writing)?;
        bytes
    };
    let lens = [input_bytes, model_bytes.len() as u64];
    let report = worked.report(job, lens, &halved, Duration::ZERO);
    let page = quantize_page(&report, &stored_tensors(&model, &worked.quantized)?);
    Ok(QuantizedBytes {
        model: model_bytes,
        report,
        page,
    })
}

/// PNG and JPEG pictures, by their names, as a model takes them. Those that
/// cannot be read are told to `monitor` and left out.
///
/// # Errors
///
/// Where none can be read.
pub fn decode_pictures<'p>(
    settings: &Preprocessing,
    pictures: impl IntoIterator<Item = (&'p str, &'p [u8])>,
    monitor: &dyn Monitor,
) -> Result<Samples, Error> {
    let mut data = Vec::new();
    let mut images = 0;
    for (name, bytes) in pictures {
        let image = RgbImage::decode(bytes, name);
        match image.and_then(|image| preprocess(&image, settings, name)) {
            Ok(values) => {
                data.extend(values);
                images += 1;
            }
            Err(error) => monitor.image_skipped(name, &error.to_string()),
        }
    }
    if images == 0 {
        return Err(Error::new(
            ErrorKind::Malformed,
            "none of the pictures could be read: they must be PNG or JPEG",
        ));
    }
    Ok(Samples::Images {
        shape: settings.input_shape(images).to_vec(),
        data,
    })
}

#[cfg(test)]
mod tests;
