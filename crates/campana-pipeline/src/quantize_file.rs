//! From a model in a file to a smaller one in another.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use campana_eval::report::quantize_page;
use campana_formats::Format;
use campana_model::format::container;
use campana_onnx::{Model, Source};
use campana_quantize::{
    CorrectionReport, DataFile, Options, OutputModel, Placement, QuantizeReport, QuantizedModel,
    Target, TensorReport, quantize, quantize_at_rate, sqnr_db, stored_tensors,
};

use crate::correction::{SampleChoice, correct_model};
use crate::error::Context;
use crate::monitor::check;
use crate::output_file::{OutputFile, Overwrite, check_differs};
use crate::{Error, ErrorKind, Monitor, tensor_file};

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
}

/// Reads, quantizes, corrects and writes one model.
///
/// # Errors
///
/// Where the model cannot be read or quantized, an option does not fit it, the
/// output is the input or cannot be written, or `monitor` says to stop.
/// Nothing half-written is left.
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
        return tensor_file::quantize(job, monitor);
    }
    // Refuse what cannot be written before working for it.
    let mut file = OutputFile::create(output, overwrite, monitor)?;
    let page = job.page.map(|page| create_page(job, page, monitor));
    let page = page.transpose()?;
    let model = Model::open(input).context(|| format!("cannot read '{}'", input.display()))?;
    let correct = |quantized: &mut QuantizedModel<'_>| match job.samples {
        Some(choice) => correct_model(
            &model,
            quantized,
            input,
            options,
            choice,
            job.threads,
            monitor,
        ),
        None => Ok(Err("--no-correct".to_owned())),
    };
    let (quantized, correction) = match options.rate {
        Some(bits) => quantize_at_rate(&model, options, bits, monitor, correct)?,
        None => {
            let mut quantized = quantize(&model, options, monitor)
                .context(|| format!("cannot quantize '{}'", input.display()))?;
            let correction = correct(&mut quantized)?;
            (quantized, correction)
        }
    };
    check(monitor)?;
    let context = || format!("cannot write '{}'", output.display());
    let placement = Placement::of(input, output);
    let mut written =
        OutputModel::new(&model, &quantized, options.target, &placement).context(context)?;
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
        let mut plain = Vec::new();
        written.write(&mut plain).context(context)?;
        let plain = Model::parse(Source::from_bytes(plain)).context(context)?;
        let packed = container::pack(&plain).context(context)?;
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
    let report = report(
        &quantized,
        [(input, input_len(&model)), (output, output_bytes)],
        options,
        correction,
        start,
    );
    if let Some(page) = page {
        write_page(page, &report, &model, &quantized)?;
    }
    Ok(report)
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

fn report(
    quantized: &QuantizedModel<'_>,
    files: [(&Path, u64); 2],
    options: &Options,
    correction: Result<CorrectionReport, String>,
    start: Instant,
) -> QuantizeReport {
    let changed = || {
        quantized
            .tensors
            .iter()
            .filter(|tensor| tensor.quantized.is_some())
    };
    let energy: f64 = changed().map(|t| t.energy).sum();
    let squared_error: f64 = changed().map(|t| t.squared_error).sum();
    let tensors = quantized.tensors.iter().map(|t| t.report.clone());
    summarize(
        tensors.collect(),
        [energy, squared_error],
        files,
        options.target,
        correction,
        start,
    )
}

/// The report of a model from those of its tensors; `energies` are those of
/// the quantized weights and of their errors.
pub(crate) fn summarize(
    tensors: Vec<TensorReport>,
    [energy, squared_error]: [f64; 2],
    [(input, input_bytes), (output, output_bytes)]: [(&Path, u64); 2],
    target: Target,
    correction: Result<CorrectionReport, String>,
    start: Instant,
) -> QuantizeReport {
    let changed = || tensors.iter().filter(|tensor| tensor.kept.is_none());
    let weights: u64 = changed()
        .map(|tensor| tensor.shape.iter().product::<usize>() as u64)
        .sum();
    let stored: u64 = changed().map(|tensor| tensor.output_bytes).sum();
    let per_weight = |total: f64| {
        if weights == 0 {
            0.0
        } else {
            total / weights as f64
        }
    };
    QuantizeReport {
        input: input.display().to_string(),
        output: output.display().to_string(),
        input_bytes,
        output_bytes,
        weights,
        bits_per_weight: per_weight(8.0 * stored as f64),
        mse: per_weight(squared_error),
        sqnr_db: sqnr_db(energy, squared_error),
        elapsed_s: start.elapsed().as_secs_f64(),
        not_corrected: correction.as_ref().err().cloned(),
        correction: correction.ok(),
        target: target.to_string(),
        tensors,
    }
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
