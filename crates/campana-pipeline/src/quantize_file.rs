//! From a model in a file to a smaller one in another.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use campana_eval::report::quantize_page;
use campana_formats::Format;
use campana_model::format::container;
use campana_model::graph::Graph;
use campana_onnx::{Model, Source};
use campana_quantize::{
    ActivationScale, Corrected, DataFile, Options, OutputModel, Placement, QuantizeReport,
    QuantizedModel, Target, admit, calibrate, quantize, quantize_at_rate, quantized_graph,
    round_levels, stored_tensors,
};

use crate::bound::{Bounded, quantize_within};
use crate::correction::{JobSamples, SampleChoice, correct_model};
use crate::error::Context;
use crate::journal::LayerJournal;
use crate::monitor::check;
use crate::output_file::{OutputFile, Overwrite, check_differs};
use crate::plan_file::plan_of;
use crate::{Bound, Error, ErrorKind, Monitor, tensor_file};

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
            threads: 1,
            page: None,
            overwrite: Overwrite::Refused,
            bound: None,
            best_effort: false,
            save_plan: None,
            resume: None,
        }
    }
}

/// Reads, quantizes, corrects and writes one model.
///
/// # Errors
///
/// Where the model cannot be read or quantized, an option does not fit it, the
/// output is the input or cannot be written, or `monitor` says to stop.
/// Nothing half-written is left. A bound that cannot be met is no error: the
/// report says so, and whether the model was written.
pub fn quantize_file(
    job: &QuantizeJob<'_>,
    monitor: &dyn Monitor,
) -> Result<QuantizeReport, Error> {
    let start = Instant::now();
    let &QuantizeJob {
        input,
        output,
        options,
        overwrite,
        ..
    } = job;
    check_differs(input, output)?;
    if Format::of(input).is_some() {
        if job.bound.is_some() || job.save_plan.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "'{}' has no graph to choose widths by; use --bits with a whole number and --bits-for",
                    input.display()
                ),
            ));
        }
        return tensor_file::quantize(job, monitor);
    }
    let finished = job.resume.map(|journal| finished_layers(job, journal));
    let finished = finished.transpose()?;
    // Refuse what cannot be written before working for it.
    let mut file = OutputFile::create(output, overwrite, monitor)?;
    let page = job.page.map(|page| create_page(job, page, monitor));
    let page = page.transpose()?;
    let plan_file = job
        .save_plan
        .map(|path| {
            check_differs(input, path)?;
            OutputFile::create(path, overwrite, monitor)
        })
        .transpose()?;
    let model = Model::open(input).context(|| format!("cannot read '{}'", input.display()))?;
    let input_bytes = input_len(&model);
    let model =
        admit(model, options).context(|| format!("cannot quantize '{}'", input.display()))?;
    let samples = JobSamples::new(job, finished, monitor);
    let Bounded {
        mut quantized,
        correction,
        allocation,
    } = match &job.bound {
        Some(bound) => quantize_within(bound, job, &model, &samples, monitor)?,
        None => quantize_as_told(job, &model, &samples, monitor)?,
    };
    check(monitor)?;
    let (correction, graph) = match correction {
        Ok(Corrected { report, graph }) => (Ok(report), Some(graph)),
        Err(reason) => {
            round_levels(&mut quantized, options.target);
            (Err(reason), None)
        }
    };
    let activations = if options.target.rounds_activations() {
        activations(job, &model, &quantized, graph, &samples, monitor)?
    } else {
        Vec::new()
    };
    let context = || format!("cannot write '{}'", output.display());
    let placement = Placement::of(input, output);
    let mut written =
        OutputModel::new(&model, &quantized, &activations, options.target, &placement)
            .context(context)?;
    let is_written = allocation.as_ref().is_none_or(|found| found.written);
    let report = |output_bytes| QuantizeReport {
        rounded_activations: activations.len(),
        ..QuantizeReport::of(
            &quantized,
            [(input, input_bytes), (output, output_bytes)],
            options,
            correction,
            allocation,
            start.elapsed(),
        )
    };
    if !is_written {
        let output_bytes = output_len(written, options.target).context(context)?;
        return Ok(report(output_bytes));
    }
    let mut data_files = Vec::new();
    for data_file in std::mem::take(&mut written.data_files) {
        data_files.push(write_data_file(data_file, output, overwrite, monitor)?);
    }
    if options.target == Target::Campana {
        if !data_files.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "'{}' keeps data in files beside it, and a container holds one file; store it \
                     with its data inside first, or use --target lut",
                    input.display()
                ),
            ));
        }
        let packed = packed(written).context(context)?;
        file.write_all(&packed).context(context)?;
    } else {
        written.write(&mut file).context(context)?;
    }
    // The model last: it is complete only with the files it refers to.
    let mut output_bytes = 0;
    for data_file in data_files {
        output_bytes += data_file.finish()?;
    }
    output_bytes += file.finish()?;
    if let Some(mut plan_file) = plan_file {
        let text = plan_of(&quantized, options).to_string();
        plan_file
            .write_all(text.as_bytes())
            .context(|| "cannot write the plan".to_owned())?;
        plan_file.finish()?;
    }
    let report = report(output_bytes);
    if let Some(page) = page {
        write_page(page, &report, &model, &quantized)?;
    }
    Ok(report)
}

/// The container of an output without files beside it.
fn packed(written: OutputModel<'_>) -> Result<Vec<u8>, campana_quantize::Error> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        campana_quantize::Error::new(campana_quantize::ErrorKind::Io, "cannot pack the model")
            .with_source(error)
    };
    let mut plain = Vec::new();
    written.write(&mut plain)?;
    let plain = Model::parse(Source::from_bytes(plain)).map_err(|error| failed(error.into()))?;
    container::pack(&plain).map_err(|error| failed(error.into()))
}

/// Bytes of an output and of the files beside it.
pub(crate) fn output_len(
    written: OutputModel<'_>,
    target: Target,
) -> Result<u64, campana_quantize::Error> {
    if target == Target::Campana && written.data_files.is_empty() {
        return Ok(packed(written)?.len() as u64);
    }
    written.len_bytes()
}

/// Begins the page's file, which is neither the input nor the output.
fn create_page<'a>(
    job: &QuantizeJob<'_>,
    page: &Path,
    monitor: &'a dyn Monitor,
) -> Result<OutputFile<'a>, Error> {
    check_differs(job.input, page)?;
    if page == job.output {
        let message = format!(
            "the report '{}' is the output itself; name another file",
            page.display()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    OutputFile::create(page, job.overwrite, monitor)
}

/// The layers that earlier runs of the job finished.
fn finished_layers(job: &QuantizeJob<'_>, journal: &Path) -> Result<LayerJournal, Error> {
    let others = [Some(job.input), Some(job.output), job.page, job.save_plan];
    if others.contains(&Some(journal)) {
        let message = format!(
            "the journal '{}' is also an input or output; name another file",
            journal.display()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    LayerJournal::read(journal)
}

fn write_page(
    mut page: OutputFile<'_>,
    report: &QuantizeReport,
    model: &Model,
    quantized: &QuantizedModel<'_>,
) -> Result<(), Error> {
    let tensors = stored_tensors(model, quantized)?;
    page.write_all(quantize_page(report, &tensors).as_bytes())
        .context(|| "cannot write the report".to_owned())?;
    page.finish()?;
    Ok(())
}

/// Every tensor as the options say.
fn quantize_as_told<'m>(
    job: &QuantizeJob<'_>,
    model: &'m Model,
    samples: &JobSamples<'_>,
    monitor: &dyn Monitor,
) -> Result<Bounded<'m>, Error> {
    let &QuantizeJob { input, options, .. } = job;
    let correct =
        |quantized: &mut QuantizedModel<'_>| correct_model(job, model, quantized, samples, monitor);
    let (quantized, correction) = match options.rate {
        Some(goal) => quantize_at_rate(model, options, goal, monitor, correct)?,
        None => {
            let mut quantized = quantize(model, options, monitor)
                .context(|| format!("cannot quantize '{}'", input.display()))?;
            let correction = correct(&mut quantized)?;
            (quantized, correction)
        }
    };
    Ok(Bounded {
        quantized,
        correction,
        allocation: None,
    })
}

/// How activations are rounded, by what the samples show; without a
/// correction the network is shown synthetic images.
fn activations(
    job: &QuantizeJob<'_>,
    model: &Model,
    quantized: &QuantizedModel<'_>,
    graph: Option<Graph>,
    samples: &JobSamples<'_>,
    monitor: &dyn Monitor,
) -> Result<Vec<ActivationScale>, Error> {
    let context = || format!("cannot calibrate '{}'", job.input.display());
    let graph = match graph {
        Some(graph) => graph,
        None => quantized_graph(model, quantized).context(context)?,
    };
    let options = job.options;
    calibrate(
        &graph,
        samples.get()?,
        options.activation_ranges,
        options.target,
        job.threads,
        monitor,
    )
    .context(context)
}

fn write_data_file<'a>(
    data_file: DataFile<'_>,
    output: &Path,
    overwrite: Overwrite,
    monitor: &'a dyn Monitor,
) -> Result<OutputFile<'a>, Error> {
    let path = output.with_file_name(&data_file.location);
    check_differs(&data_file.origin, &path)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .context(|| format!("cannot make the folder '{}'", folder.display()))?;
    }
    let mut file = OutputFile::create(&path, overwrite, monitor)?;
    data_file
        .write(&mut file)
        .context(|| format!("cannot write '{}'", path.display()))?;
    Ok(file)
}

/// Bytes of a model and of the files beside it.
fn input_len(model: &Model) -> u64 {
    let mut files: Vec<_> = model
        .tensors()
        .iter()
        .filter_map(|tensor| model.external_path(tensor).ok().flatten())
        .collect();
    files.sort();
    files.dedup();
    let lens = files
        .iter()
        .filter_map(|file| Some(std::fs::metadata(file).ok()?.len()));
    model.source().len() + lens.sum::<u64>()
}
