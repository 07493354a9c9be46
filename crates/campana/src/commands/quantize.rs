//! `campana quantize`: a smaller model.

use anyhow::{Result, bail};
use campana_pipeline::{Overwrite, QuantizeJob, SampleChoice, quantize_file};
use campana_quantize::{Options, Target};

use crate::args::{Global, Quantize};
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
        rate: args.rate,
        target: args.target,
    };
    if args.rate.is_some() && args.target != Target::Campana {
        bail!("--rate is for the entropy coder of the container: add --target campana");
    }
    let samples = match &args.calibrate {
        _ if args.no_correct => None,
        Some(data) => Some(SampleChoice::Images {
            data,
            count: args.samples.get(),
        }),
        None => Some(SampleChoice::Synthetic),
    };
    let job = QuantizeJob {
        input: &args.model,
        output: &args.output,
        options: &options,
        samples,
        threads: global.thread_count(),
        page: args.report.as_deref(),
        overwrite: Overwrite::from_force(args.force),
    };
    let report = quantize_file(&job, &Bar::new())?;
    if global.json {
        return printer::print_json(&report);
    }
    printer::print_quantized(&report);
    if options.target == Target::Campana {
        anstream::println!(
            "The smallest to ship. campana unpack makes an ONNX model of it that every runtime loads; campana evaluate \
             reads it as it is."
        );
    } else if options.target == Target::Float {
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
