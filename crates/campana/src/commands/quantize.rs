//! `campana quantize`: a smaller model.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use campana_calibrate::{FloatActivations, IntegerLayers};
use campana_pipeline::{
    Bound, ErrorKind, Overwrite, QuantizeJob, SampleChoice, quantize_file, read_plan,
};
use campana_quantize::{Options, RateGoal, Target};
use campana_report::QuantizeReport;

use crate::args::{Bits, Global, Quantize};
use crate::interrupt;
use crate::printer::{self, note, say};
use crate::progress::Bar;

/// The exit status where a bound is not met.
const BOUND_MISSED: u8 = 1;

pub(crate) fn run(args: &Quantize, global: &Global) -> Result<u8> {
    let bound = match (args.bits, args.max_size, args.max_drop) {
        (Some(Bits::Average(bits)), ..) => Some(Bound::BitsPerWeight(bits)),
        (_, Some(bytes), _) => Some(Bound::OutputBytes(bytes)),
        (.., Some(most)) => Some(Bound::Drop {
            most,
            data: args.data.as_deref(),
        }),
        _ => None,
    };
    if args.best_effort && bound.is_none() {
        bail!(
            "--best-effort is about a bound: add --max-size, --max-drop or an average as --bits 3.2"
        );
    }
    let is_planned = args.bits.is_none() && bound.is_none();
    let [applied, saved] = match &args.plan {
        Some(plan) if is_planned => [Some(plan), None],
        plan => [None, plan.as_ref()],
    };
    let zeros = args.sparsity.map(RateGoal::Zeros);
    let goal = args.rate.map(RateGoal::Bits).or(zeros);
    let target = args
        .target
        .unwrap_or_else(|| Target::of_output(&args.output));
    if goal.is_some() && target != Target::Campana {
        let option = if zeros.is_some() {
            "--sparsity"
        } else {
            "--rate"
        };
        bail!("{option} is for the entropy coder of the container: add --target campana");
    }
    let options = Options {
        bits: match args.bits {
            Some(Bits::Width(bits)) => bits,
            _ => target.default_bits(),
        },
        method: args.method,
        granularity: args
            .granularity
            .unwrap_or_else(|| args.method.default_granularity()),
        keep: args.keep.clone(),
        bits_for: args.bits_for.clone(),
        plan: applied.map(|plan| read_plan(plan)).transpose()?,
        means_are_corrected: !args.no_correct,
        rate: goal,
        target,
        activation_ranges: args.activation_ranges,
        round_all_activations: args.round_all_activations,
        effort: args.effort,
    };
    let chosen = match &args.calibrate {
        Some(data) => SampleChoice::Images {
            data,
            count: args.samples.get(),
        },
        None => SampleChoice::Synthetic,
    };
    let job = QuantizeJob {
        samples: (!args.no_correct).then_some(chosen),
        range_samples: Some(chosen),
        input_range: args.input_range,
        shapes: &args.shape,
        threads: global.thread_count(),
        page: args.report.as_deref(),
        overwrite: Overwrite::from_force(args.force),
        bound,
        best_effort: args.best_effort,
        save_plan: saved.map(PathBuf::as_path),
        applied_plan: applied.map(PathBuf::as_path),
        distill: args.distill,
        resume: args.resume.as_deref(),
        ..QuantizeJob::new(&args.model, &args.output, &options)
    };
    let outputs = [Some(&args.output), args.report.as_ref(), saved];
    printer::make_way(&outputs.map(|path| path.map(PathBuf::as_path)), global.json)?;
    let advice_if_stopped = args.resume.as_deref().map(interrupt::advise_journal);
    let report = quantize_file(&job, &Bar::new()).map_err(|error| match advice_if_stopped {
        Some(advice) if error.kind() == ErrorKind::Interrupted => anyhow!(advice),
        _ => error.into(),
    })?;
    for warning in &report.warnings {
        note!("warning: {warning}");
    }
    let is_met = report.allocation.as_ref().is_none_or(|found| found.met);
    let is_written = report.allocation.as_ref().is_none_or(|found| found.written);
    let status = if is_met { 0 } else { BOUND_MISSED };
    if global.json {
        printer::print_json(&report)?;
        return Ok(status);
    }
    printer::print_quantized(&report);
    if !is_written {
        say!("Nothing is written; write the best that was found with --best-effort.");
        return Ok(status);
    }
    if let Some(plan) = saved {
        say!(
            "What became of each tensor is in {}: edit it, and apply it with --plan.",
            plan.display()
        );
    }
    printer::say_written(&[("Page", args.report.as_deref())]);
    say!("{}", advice(&report, target, args.calibrate.is_some()));
    Ok(status)
}

/// What the model that was written is good for.
fn advice(report: &QuantizeReport, target: Target, calibrated: bool) -> String {
    let smaller = "Smaller to ship and to store. ONNX runtimes decode the weights when they load the model: memory and \
                   speed there stay those of the float model.";
    if report.weights == 0 {
        return "No weights are quantized: the model is as it was.".to_owned();
    }
    if report.output_bytes >= report.input_bytes && target.onnx_form() != Target::Float {
        return "The file does not get smaller: ship the model that it was made from.".to_owned();
    }
    let layers = report.integer_layers.unwrap_or_default();
    let text = match target {
        Target::Float => {
            "The weights are as after quantization, but stored as floats: for other converters."
                .to_owned()
        }
        Target::Lut | Target::LutUint4 => smaller.to_owned(),
        Target::Campana => {
            "The smallest to ship. campana unpack makes an ONNX model of it that every runtime loads; campana evaluate \
             reads it as it is."
                .to_owned()
        }
        Target::W4a8 => format!(
            "{} ONNX runtimes decode the weights to 8 bits when they load the model.",
            on_integers(layers, "ONNX runtimes compute")
        ),
        Target::Int8 => on_integers(layers, "ONNX runtimes compute"),
        Target::TfLite => on_integers(layers, "TFLite computes"),
        Target::TfLiteMicro => format!(
            "{} Its DECODE operator looks codes up before each layer; TFLite on phones lacks it.",
            on_integers(layers, "TFLite Micro computes")
        ),
        Target::TfLiteFloat => {
            "The weights are as after quantization, but stored as floats: for devices that compute in floats.".to_owned()
        }
        Target::CoreMl | Target::CoreMlFloat32 => {
            "Smaller to ship: weights stay codes and tables in the package, which iOS 18, macOS 15 and later load.".to_owned()
        }
    };
    let text = match &report.float_activations {
        Some(floats) => format!("{text}\n{}", stay_floats(floats)),
        None => text,
    };
    if target.rounds_activations() && !calibrated {
        return format!(
            "{text}\nThe ranges of activations come from synthetic images; with --calibrate IMAGES (16 are enough) they \
             fit what the network will see, and less is lost."
        );
    }
    text
}

/// Which activations are not rounded, and what that gains.
fn stay_floats(floats: &FloatActivations) -> String {
    const SHOWN: usize = 4;
    let [rounded, kept] = floats.sqnr_db;
    let loss = match (rounded.is_finite(), kept.is_finite()) {
        (false, _) => format!("{} would be infinite or no numbers", floats.of),
        (_, false) => format!(
            "the SQNR of {} would be {rounded:.1} dB, not exact",
            floats.of
        ),
        _ => format!(
            "the SQNR of {} would be {rounded:.1} dB, not {kept:.1} dB,",
            floats.of
        ),
    };
    let names: Vec<String> = floats
        .names
        .iter()
        .take(SHOWN)
        .map(|name| format!("'{name}'"))
        .collect();
    let more = match floats.names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "Activations that stay floats: {}{more}. With them rounded {loss} \
         on a few of the samples; --round-all-activations rounds them all the same.",
        names.join(", ")
    )
}

/// How much of a model lies between rounded activations.
fn on_integers(
    IntegerLayers {
        on_integers,
        layers,
        others,
    }: IntegerLayers,
    who_computes: &str,
) -> String {
    let counted = match others {
        0 => "layers".to_owned(),
        _ => {
            format!("layers ({others} transposed, recurrent or of weights that stand first aside)")
        }
    };
    match layers - on_integers {
        _ if layers == 0 => "No layer is known to lie between 8-bit activations.".to_owned(),
        0 => format!(
            "All {layers} {counted} lie between 8-bit activations, to be computed on integers."
        ),
        rest => format!(
            "{on_integers} of {layers} {counted} lie between 8-bit activations, to be computed on integers; the outputs \
             or inputs of {rest} are not rounded: {who_computes} those in floats."
        ),
    }
}
