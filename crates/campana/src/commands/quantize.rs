//! `campana quantize`: a smaller model.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use campana_onnx::Model;
use campana_quantize::{
    CorrectionReport, DataFile, Options, OutputModel, Placement, QuantizeReport, QuantizedModel,
    Target, quantize, sqnr_db,
};

use crate::args::{Global, Quantize};
use crate::correction::{SampleChoice, correct_model};
use crate::interrupt;
use crate::output_file::{OutputFile, Overwrite, check_differs};
use crate::printer;
use crate::progress::Bar;

pub(crate) fn run(args: &Quantize, global: &Global) -> Result<()> {
    let options = Options {
        bits: args.bits,
        method: args.method,
        granularity: args
            .granularity
            .unwrap_or_else(|| args.method.default_granularity()),
        keep: args.keep.clone(),
        bits_for: args.bits_for.clone(),
        means_are_corrected: !args.no_correct,
        target: args.target,
    };
    check_differs(&args.model, &args.output)?;
    let overwrite = Overwrite::from_force(args.force);
    let samples = match &args.calibrate {
        _ if args.no_correct => None,
        Some(data) => Some(SampleChoice::Images {
            data,
            count: args.samples.get(),
        }),
        None => Some(SampleChoice::Synthetic),
    };
    let threads = global.thread_count();
    let report = quantize_file(
        &args.model,
        &args.output,
        &options,
        samples,
        threads,
        overwrite,
    )?;
    if global.json {
        return printer::print_json(&report);
    }
    printer::print_quantized(&report);
    if options.target == Target::Float {
        anstream::println!(
            "The weights are as after quantization, but stored as floats: for other converters."
        );
    } else {
        anstream::println!(
            "Smaller to ship and to store. ONNX runtimes decode the weights when they load the model: memory and \
             speed there stay those of the float model."
        );
    }
    Ok(())
}

/// Reads, quantizes and writes one model.
pub(crate) fn quantize_file(
    input: &Path,
    output: &Path,
    options: &Options,
    samples: Option<SampleChoice<'_>>,
    threads: usize,
    overwrite: Overwrite,
) -> Result<QuantizeReport> {
    let start = Instant::now();
    // Refuse what cannot be written before working for it.
    let mut file = OutputFile::create(output, overwrite)?;
    let model = Model::open(input).with_context(|| format!("cannot read '{}'", input.display()))?;
    let mut quantized = quantize(&model, options, &Bar::new())
        .with_context(|| format!("cannot quantize '{}'", input.display()))?;
    let correction = match samples {
        Some(choice) => correct_model(&model, &mut quantized, input, options, choice, threads)?,
        None => Err("--no-correct".to_owned()),
    };
    interrupt::check()?;
    let context = || format!("cannot write '{}'", output.display());
    let placement = Placement::of(input, output);
    let mut written =
        OutputModel::new(&model, &quantized, options.target, &placement).with_context(context)?;
    let mut data_files = Vec::new();
    for data_file in std::mem::take(&mut written.data_files) {
        data_files.push(write_data_file(data_file, output, overwrite)?);
    }
    written.write(&mut file).with_context(context)?;
    // The model last: it is complete only with the files it refers to.
    let mut output_bytes = 0;
    for data_file in data_files {
        output_bytes += data_file.finish()?;
    }
    output_bytes += file.finish()?;
    Ok(report(
        &quantized,
        [(input, input_len(&model)), (output, output_bytes)],
        options,
        correction,
        start,
    ))
}

fn write_data_file(
    data_file: DataFile<'_>,
    output: &Path,
    overwrite: Overwrite,
) -> Result<OutputFile> {
    let path = output.with_file_name(&data_file.location);
    check_differs(&data_file.origin, &path)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder '{}'", folder.display()))?;
    }
    let mut file = OutputFile::create(&path, overwrite)?;
    data_file
        .write(&mut file)
        .with_context(|| format!("cannot write '{}'", path.display()))?;
    Ok(file)
}

fn report(
    quantized: &QuantizedModel<'_>,
    [(input, input_bytes), (output, output_bytes)]: [(&Path, u64); 2],
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
    let weights: u64 = changed()
        .map(|t| t.report.shape.iter().product::<usize>() as u64)
        .sum();
    let stored: u64 = changed().map(|t| t.report.output_bytes).sum();
    let energy: f64 = changed().map(|t| t.energy).sum();
    let squared_error: f64 = changed().map(|t| t.squared_error).sum();
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
        target: options.target.to_string(),
        tensors: quantized
            .tensors
            .iter()
            .map(|tensor| tensor.report.clone())
            .collect(),
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
