//! The work of a job, between a model that was read and one that is written.

use std::collections::HashSet;
use std::time::Duration;

use campana_allocate::quantize_at_rate;
use campana_calibrate::{
    ActivationRanges, CorrectionReport, DistillReport, FloatActivations, InputScale, IntegerLayers,
    QuantizedNetwork, Samples, Skipped, calibrate, check_distillable, inputs_of_unknown_scale,
};
use campana_ir::format::onnx;
use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_onnx::Model;
use campana_quantize::graph::{float_graph, unsupported};
use campana_quantize::{
    ActivationScale, Options, QuantizedModel, quantize, quantized_graph, round_levels,
};
use campana_report::{AllocationReport, QuantizeReport};

use crate::bound::{Bounded, quantize_within};
use crate::correction::{JobSamples, NOTHING_QUANTIZED, correct_model};
use crate::error::Context;
use crate::job::QuantizeJob;
use crate::monitor::check;
use crate::stated_options::stated_options;
use crate::{Error, Monitor};

/// What came of a model, and what is said of it.
pub(crate) struct Worked<'m> {
    pub(crate) quantized: QuantizedModel<'m>,
    pub(crate) activations: Vec<ActivationScale>,
    float_activations: Option<FloatActivations>,
    correction: Result<CorrectionReport, String>,
    distilled: Option<DistillReport>,
    allocation: Option<AllocationReport>,
    integer_layers: Option<IntegerLayers>,
    warnings: Vec<String>,
    assumed_inputs: Vec<String>,
}

/// What is assumed of the scale of inputs.
enum Assumed {
    /// Nothing: something tells it, or it does not matter.
    Nothing,
    /// What a warning says.
    Warned(String),
    /// Mean 0 and deviation 1 of these, for the correction alone.
    Usual(Vec<String>),
}

impl<'m> Worked<'m> {
    /// Quantizes and corrects a model, and rounds its activations, as the job says.
    pub(crate) fn on(
        job: &QuantizeJob<'_>,
        model: &'m Model,
        samples: &JobSamples<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Self, Error> {
        let assumed = checked_samples(job, model, samples)?;
        let Bounded {
            mut quantized,
            correction,
            allocation,
        } = match &job.bound {
            Some(bound) => quantize_within(bound, job, model, samples, monitor)?,
            None => quantize_as_told(job, model, samples, monitor)?,
        };
        check(monitor)?;
        let (correction, distilled, graph) = match correction {
            Ok(corrected) => (
                Ok(corrected.report),
                corrected.distilled,
                Some(corrected.graph),
            ),
            Err(reason) => {
                round_levels(&mut quantized, job.options.target);
                (Err(reason), None, None)
            }
        };
        let mut warnings = correction_warnings(job, &correction);
        let assumed_inputs = match assumed {
            Assumed::Usual(names) if correction.is_ok() => names,
            Assumed::Warned(warning) => {
                warnings.push(warning);
                Vec::new()
            }
            Assumed::Usual(_) | Assumed::Nothing => Vec::new(),
        };
        let distilled = match distilled {
            Some(Err(reason)) => {
                warnings.push(format!("not distilled: {reason}"));
                None
            }
            distilled => distilled.and_then(Result::ok),
        };
        let (ranges, integer_layers) = if job.options.target.rounds_activations() {
            activations(job, model, &quantized, graph, samples, monitor)?
        } else {
            (ActivationRanges::default(), None)
        };
        warnings.extend(poor_outputs(&ranges));
        Ok(Self {
            quantized,
            activations: ranges.scales,
            float_activations: ranges.floats,
            correction,
            distilled,
            allocation,
            integer_layers,
            warnings,
            assumed_inputs,
        })
    }

    /// Whether it keeps to the job's bound, or is wanted all the same.
    pub(crate) fn is_written(&self) -> bool {
        let allocation = self.allocation.as_ref();
        allocation.is_none_or(|found| found.written)
    }

    /// What is said of it, with the bytes of input and output.
    pub(crate) fn report(
        &self,
        job: &QuantizeJob<'_>,
        [input_bytes, output_bytes]: [u64; 2],
        halved: &[String],
        elapsed: Duration,
    ) -> QuantizeReport {
        let mut report = QuantizeReport {
            rounded_activations: self.activations.len(),
            float_activations: self.float_activations.clone(),
            integer_layers: self.integer_layers,
            warnings: self.warnings.clone(),
            assumed_inputs: self.assumed_inputs.clone(),
            stated_options: stated_options(job),
            distilled: self.distilled.clone(),
            ..QuantizeReport::of(
                &self.quantized,
                [(job.input, input_bytes), (job.output, output_bytes)],
                job.options,
                self.correction.clone(),
                self.allocation.clone(),
                elapsed,
            )
        };
        report.set_halved(halved);
        report
    }
}

/// Refuses, before working for it, a model that needs samples and can have none;
/// says what is assumed of their scale.
fn checked_samples(
    job: &QuantizeJob<'_>,
    model: &Model,
    samples: &JobSamples<'_>,
) -> Result<Assumed, Error> {
    let input = job.input.display();
    if job.options.target.rounds_activations() {
        let inputs = onnx::inputs(model);
        let checked = samples.get()?.check(&inputs);
        checked.context(|| format!("cannot calibrate '{input}'"))?;
    }
    if job.distill.is_some() {
        check_distillable(model, samples.get()?).context(|| format!("cannot distill '{input}'"))?;
    }
    assumed_scale(job, model, samples).context(|| format!("cannot quantize '{input}'"))
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
            let context = || format!("cannot quantize '{}'", input.display());
            let mut quantized = quantize(model, options, monitor).context(context)?;
            let correction = correct(&mut quantized)?;
            if correction.is_err() && options.means_are_corrected {
                // Levels for what happens: errors of means stay as they are.
                let uncorrected = Options {
                    means_are_corrected: false,
                    ..options.clone()
                };
                quantized = quantize(model, &uncorrected, monitor).context(context)?;
            }
            (quantized, correction)
        }
    };
    Ok(Bounded {
        quantized,
        correction,
        allocation: None,
    })
}

/// How activations are rounded, by what the samples show, and how many layers
/// lie between rounded ones; without a correction the network is shown
/// synthetic images.
fn activations(
    job: &QuantizeJob<'_>,
    model: &Model,
    quantized: &QuantizedModel<'_>,
    graph: Option<Graph>,
    samples: &JobSamples<'_>,
    monitor: &dyn Monitor,
) -> Result<(ActivationRanges, Option<IntegerLayers>), Error> {
    let context = || format!("cannot calibrate '{}'", job.input.display());
    let graph = match graph {
        Some(graph) => graph,
        None => quantized_graph(model, quantized).context(context)?,
    };
    let (options, samples) = (job.options, samples.get()?);
    let original = match options.round_all_activations {
        true => None,
        false => Some(float_graph(model).context(context)?),
    };
    let integer_weights: HashSet<&str> = quantized.changed_names().collect();
    let ranges = calibrate(
        QuantizedNetwork {
            graph: &graph,
            integer_weights: &integer_weights,
            original: original.as_ref(),
        },
        samples,
        options.activation_ranges,
        options.target,
        job.threads,
        monitor,
    )
    .context(context)?;
    let names: HashSet<&str> = ranges.scales.iter().map(|scale| &*scale.name).collect();
    let layers = Network::new(&graph)
        .map(|network| {
            let network = network.with_integer_weights(|name| integer_weights.contains(name));
            let rounds_moved = options.target.rounds_moved();
            IntegerLayers::of(&network, rounds_moved, |name| names.contains(name))
        })
        .ok();
    Ok((ranges, layers))
}

/// What is assumed of the scale of inputs where nothing tells it and synthetic
/// ones are shown; ranges of activations are not chosen from inputs that the
/// weights contradict.
fn assumed_scale(
    job: &QuantizeJob<'_>,
    model: &Model,
    samples: &JobSamples<'_>,
) -> Result<Assumed, campana_quantize::Error> {
    let rounds_activations = job.options.target.rounds_activations();
    if !rounds_activations && job.samples.is_none() {
        return Ok(Assumed::Nothing);
    }
    let is_open = |samples: &&Samples| {
        let Samples::Synthetic { scale, .. } = samples else {
            return false;
        };
        *scale == InputScale::Unknown
    };
    // What cannot be had or run is said where it is needed.
    let Some(samples) = samples.get().ok().filter(is_open) else {
        return Ok(Assumed::Nothing);
    };
    let Ok(graph) = float_graph(model) else {
        return Ok(Assumed::Nothing);
    };
    let unknown = inputs_of_unknown_scale(&graph, samples);
    let tell = "give --input-range LO,HI, a sidecar, or data with --calibrate";
    if let Some(scale) = unknown.iter().find(|scale| scale.is_unusual()) {
        let (input, gain) = (&scale.input, scale.gain.unwrap_or(1.0));
        let found = format!(
            "nothing tells the scale of the input '{input}', and the weights that it meets are for values of deviation \
             {:.2}, not 1",
            gain.recip()
        );
        if rounds_activations {
            return Err(unsupported(format!("{found}: {tell}")));
        }
        return Ok(Assumed::Warned(format!(
            "{found}, which is assumed; {tell}"
        )));
    }
    if let Some(scale) = unknown.iter().find(|scale| !scale.is_image)
        && rounds_activations
    {
        let input = &scale.input;
        return Err(unsupported(format!(
            "nothing tells the scale of the input '{input}', and it is no image that synthetic samples would \
             resemble: {tell}"
        )));
    }
    let names: Vec<String> = unknown.into_iter().map(|scale| scale.input).collect();
    Ok(match (names.is_empty(), rounds_activations) {
        (true, _) => Assumed::Nothing,
        (_, false) => Assumed::Usual(names),
        (_, true) => Assumed::Warned(format!(
            "nothing tells the scale of the input '{}': mean 0 and deviation 1 are assumed; {tell}",
            names.join("', '")
        )),
    })
}

/// The SQNR of outputs below which few networks are of use.
const POOR_DB: f64 = 15.0;

/// That rounding activations leaves little of the outputs.
fn poor_outputs(ranges: &ActivationRanges) -> Option<String> {
    let sqnr = ranges.output_sqnr_db.filter(|&sqnr| sqnr < POOR_DB)?;
    // Not as -0.0.
    let shown = (10.0 * sqnr).round() / 10.0 + 0.0;
    let found = match sqnr.is_finite() {
        true => format!("leaves {} an SQNR of {shown:.1} dB", ranges.of),
        false => format!("makes {} infinite or no numbers", ranges.of),
    };
    Some(format!(
        "rounding activations to 8 bits {found}, on a few of the samples: compare outputs with campana evaluate \
         --reference, or quantize the weights alone with --target lut"
    ))
}

/// What of the correction did not happen, where it was asked for.
fn correction_warnings(
    job: &QuantizeJob<'_>,
    correction: &Result<CorrectionReport, String>,
) -> Vec<String> {
    match correction {
        Err(reason) if job.samples.is_some() && reason != NOTHING_QUANTIZED => {
            let done = match job.distill {
                Some(_) => "not corrected and not distilled",
                None => "not corrected",
            };
            vec![format!("{done}: {reason}")]
        }
        Ok(report) => match report.skipped.as_slice() {
            [] => Vec::new(),
            [first, others @ ..] => {
                let more = match others.len() {
                    0 => String::new(),
                    count => format!(", and {count} more"),
                };
                let Skipped { name, op, reason } = first;
                vec![format!("not corrected: {op} '{name}'{more}: {reason}")]
            }
        },
        Err(_) => Vec::new(),
    }
}
