//! Which images the correction of a quantized model looks at.

use std::cell::{OnceCell, RefCell};
use std::path::Path;

use campana_calibrate::{
    Corrected, CorrectionSettings, FinishedLayers, InputScale, Rounding, Samples, correct,
    has_open_size, open_size,
};
use campana_eval::{
    BatchOptions, Dataset, Preprocessing, Selection, Sidecar, input_scale, open_input,
};
use campana_ir::format::onnx::{self, InputShape};
use campana_ir::graph::Value;
use campana_onnx::Model;
use campana_quantize::graph::float_graph;
use campana_quantize::{QuantizedModel, TensorOutcome, causes};

use crate::error::Context;
use crate::job::{QuantizeJob, SampleChoice};
use crate::journal::LayerJournal;
use crate::monitor::check;
use crate::sample_arrays::{is_arrays, sample_arrays};
use crate::{Error, ErrorKind, Monitor, sidecar_or};

/// Why a model without quantized weights is not corrected.
pub(crate) const NOTHING_QUANTIZED: &str = "nothing is quantized";

/// What all corrections of a job share: its images, loaded when they are first
/// needed, and the layers that are finished.
pub(crate) struct JobSamples<'a> {
    job: &'a QuantizeJob<'a>,
    model: &'a Model,
    inputs: Vec<Value>,
    monitor: &'a dyn Monitor,
    loaded: OnceCell<Samples>,
    finished: RefCell<Option<LayerJournal>>,
}

impl<'a> JobSamples<'a> {
    pub(crate) fn new(
        job: &'a QuantizeJob<'a>,
        model: &'a Model,
        finished: Option<LayerJournal>,
        monitor: &'a dyn Monitor,
    ) -> Self {
        Self {
            job,
            model,
            inputs: onnx::inputs(model),
            monitor,
            loaded: OnceCell::new(),
            finished: RefCell::new(finished),
        }
    }

    /// Those of a model in memory: these, or synthetic ones as the sidecar says.
    pub(crate) fn in_memory(
        job: &'a QuantizeJob<'a>,
        model: &'a Model,
        sidecar: Option<&Sidecar>,
        samples: Option<Samples>,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let preprocessing = sidecar.map(|sidecar| &sidecar.preprocessing);
        let samples = samples.unwrap_or_else(|| synthetic(preprocessing, model, job.input_range));
        Self {
            loaded: OnceCell::from(samples),
            ..Self::new(job, model, None, monitor)
        }
    }

    /// The images; synthetic ones where the job is to correct on none.
    pub(crate) fn get(&self) -> Result<&Samples, Error> {
        if let Some(samples) = self.loaded.get() {
            return Ok(samples);
        }
        let job = self.job;
        let QuantizeJob { input, threads, .. } = *job;
        let chosen = job.samples.or(job.range_samples);
        let samples = match chosen.unwrap_or(SampleChoice::Synthetic) {
            SampleChoice::Synthetic => {
                let sidecar = Sidecar::beside(input)?;
                let preprocessing = sidecar.as_ref().map(|sidecar| &sidecar.preprocessing);
                synthetic(preprocessing, self.model, job.input_range)
            }
            SampleChoice::Images { data, count } => sample_inputs(
                (input, None),
                &self.inputs,
                data,
                count,
                threads,
                self.monitor,
            )?,
            SampleChoice::Arrays { arrays, count } => {
                Samples::arrays(&self.inputs, arrays.to_vec(), count)
                    .context(|| "cannot use the arrays to calibrate with".to_owned())?
            }
        };
        Ok(self.loaded.get_or_init(|| samples))
    }
}

/// Synthetic samples for a model, as its sidecar says where it has one.
///
/// Where nothing tells the size of images, it is one that the network runs on.
fn synthetic(
    preprocessing: Option<&Preprocessing>,
    model: &Model,
    range: Option<[f32; 2]>,
) -> Samples {
    let scale = match (range, preprocessing) {
        (Some(range), _) => InputScale::Range(range),
        (None, Some(preprocessing)) => input_scale(preprocessing),
        (None, None) => InputScale::Unknown,
    };
    Samples::Synthetic {
        size: match preprocessing {
            Some(preprocessing) => Some(preprocessing.size),
            None if has_open_size(&onnx::inputs(model)) => {
                let graph = float_graph(model).ok();
                graph.and_then(|graph| open_size(&graph, &graph.inputs))
            }
            None => None,
        },
        scale,
    }
}

/// What an ONNX model declares of its inputs, with the shapes that are stated of
/// them.
///
/// # Errors
///
/// Where the model cannot be read, or a shape does not fit it.
pub fn model_inputs(model: &Path, shapes: &[InputShape]) -> Result<Vec<Value>, Error> {
    let model = Model::open(model)
        .and_then(|model| onnx::with_input_shapes(model, shapes))
        .context(|| format!("cannot read '{}'", model.display()))?;
    Ok(onnx::inputs(&model))
}

/// The user's data as the model takes them: images, prepared as its sidecar or
/// else that of `reference` says, or arrays for its `inputs`.
///
/// # Errors
///
/// As [`sample_images`], and where arrays cannot be read or name no input.
pub fn sample_inputs(
    (model, reference): (&Path, Option<&Path>),
    inputs: &[Value],
    data: &Path,
    count: usize,
    threads: usize,
    monitor: &dyn Monitor,
) -> Result<Samples, Error> {
    if is_arrays(data) {
        return sample_arrays(inputs, data, count);
    }
    let settings = sidecar_or(model, reference)?.preprocessing;
    sample_images(&settings, data, count, threads, monitor)
}

/// Corrects a quantized model as the job says, or says why that is not done.
pub(crate) fn correct_model(
    job: &QuantizeJob<'_>,
    model: &Model,
    quantized: &mut QuantizedModel<'_>,
    samples: &JobSamples<'_>,
    monitor: &dyn Monitor,
) -> Result<Result<Corrected, String>, Error> {
    if job.samples.is_none() {
        return Ok(Err("--no-correct".to_owned()));
    }
    let is_kept = |tensor: &TensorOutcome<'_>| tensor.quantized.is_none();
    if quantized.tensors.iter().all(is_kept) {
        return Ok(Err(NOTHING_QUANTIZED.to_owned()));
    }
    let mut finished = samples.finished.borrow_mut();
    let finished = finished
        .as_mut()
        .map(|layers| layers as &mut dyn FinishedLayers);
    let samples = samples.get()?;
    let rounding = match job.options.rate {
        Some(_) => Rounding::AtRate,
        None => job.options.method.into(),
    };
    let settings = CorrectionSettings {
        distill: job.distill,
        ..CorrectionSettings::new(rounding, job.threads)
    };
    match correct(model, quantized, samples, settings, finished, monitor) {
        Ok(corrected) => Ok(Ok(corrected)),
        Err(error) if error.kind() == campana_quantize::ErrorKind::NoGain => {
            Ok(Err(causes(&error)))
        }
        Err(error)
            if error.kind() == campana_quantize::ErrorKind::Unsupported
                && matches!(samples, Samples::Synthetic { .. }) =>
        {
            Ok(Err(causes(&error)))
        }
        Err(error) => Err(error).context(|| format!("cannot correct '{}'", job.input.display())),
    }
}

/// Refuses, before long work, images that cannot be read after it: what is
/// neither a folder nor a regular file.
///
/// # Errors
///
/// Where that is so.
pub fn check_images(data: &Path) -> Result<(), Error> {
    let context = || format!("cannot read '{}'", data.display());
    if !std::fs::metadata(data).context(context)?.is_dir() {
        open_input(data).context(context)?;
    }
    Ok(())
}

/// The user's images, prepared as the settings say: at most `count`, evenly
/// spread; labels are not read.
///
/// # Errors
///
/// Where no image can be read, or `monitor` says to stop.
pub fn sample_images(
    settings: &Preprocessing,
    data: &Path,
    count: usize,
    threads: usize,
    monitor: &dyn Monitor,
) -> Result<Samples, Error> {
    let dataset = Dataset::open(data)?;
    let options = BatchOptions {
        limit: Some(count),
        selection: Selection::Spread,
        threads,
        ..BatchOptions::default()
    };
    let mut values = Vec::new();
    for batch in dataset.batches(settings, &options)? {
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
