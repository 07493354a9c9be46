//! A job as the options of `campana quantize`, for pages that say how to go on.

use std::path::Path;

use campana_quantize::{Options, RateGoal};

use crate::job::{Bound, QuantizeJob, SampleChoice};

/// The words that ask for what is not the default, without the files of input
/// and output; of paths only file names, for a page may be passed on.
pub(crate) fn stated_options(job: &QuantizeJob<'_>) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    let options = job.options;
    match job.bound {
        Some(Bound::BitsPerWeight(bits)) => add("--bits", average(bits)),
        Some(Bound::OutputBytes(bytes)) => add("--max-size", format!("{bytes}B")),
        Some(Bound::Drop { most, data }) => {
            add("--max-drop", format!("{}%", 100.0 * most));
            if let Some(data) = data {
                add("--data", name(data));
            }
        }
        // A measure of the caller's own has no words.
        Some(Bound::DropOf { .. }) => {}
        None if options.bits != options.target.default_bits() => {
            add("--bits", options.bits.to_string());
        }
        None => {}
    }
    let default = Options::default();
    if options.method != default.method {
        add("--method", options.method.to_string());
    }
    if options.granularity != options.method.default_granularity() {
        add("--granularity", options.granularity.to_string());
    }
    for pattern in &options.keep {
        add("--keep", pattern.as_str().to_owned());
    }
    for (pattern, bits) in &options.bits_for {
        add("--bits-for", format!("{}={bits}", pattern.as_str()));
    }
    if options.effort != default.effort {
        add("--effort", options.effort.to_string());
    }
    match job.samples.or(job.range_samples) {
        Some(SampleChoice::Images { data, count }) => {
            add("--calibrate", name(data));
            add("--samples", count.to_string());
        }
        Some(SampleChoice::Arrays { count, .. }) => {
            add("--calibrate", "IMAGES".to_owned());
            add("--samples", count.to_string());
        }
        Some(SampleChoice::Synthetic) | None => {}
    }
    if let Some(budget) = job.distill {
        add("--distill", budget.to_string());
    }
    if let Some([low, high]) = job.input_range {
        add("--input-range", format!("{low},{high}"));
    }
    for shape in job.shapes {
        add("--shape", shape.to_string());
    }
    if options.target != default.target {
        add("--target", options.target.to_string());
    }
    if options.activation_ranges != default.activation_ranges {
        add("--activation-ranges", options.activation_ranges.to_string());
    }
    match options.rate {
        Some(RateGoal::Bits(bits)) => add("--rate", bits.to_string()),
        Some(RateGoal::Zeros(share)) => add("--sparsity", format!("{}%", 100.0 * share)),
        None => {}
    }
    if let Some(plan) = job.applied_plan {
        add("--plan", name(plan));
    }
    if options.round_all_activations {
        words.push("--round-all-activations".to_owned());
    }
    if job.samples.is_none() {
        words.push("--no-correct".to_owned());
    }
    words
}

/// With a point, which tells an average from a width.
fn average(bits: f64) -> String {
    format!("{bits:?}")
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use campana_quantize::{Effort, Target};
    use campana_tensor::Granularity;

    use super::*;

    #[test]
    fn only_what_was_asked_for_is_said() {
        let default = Options::default();
        let job = QuantizeJob::new("a.onnx".as_ref(), "b.onnx".as_ref(), &default);
        assert_eq!(stated_options(&job), Vec::<String>::new());
        let options = Options {
            granularity: Granularity::PerTensor,
            bits_for: vec![("layer1*".parse().unwrap(), 6)],
            effort: Effort::Quick,
            target: Target::W4a8,
            ..Options::default()
        };
        let job = QuantizeJob {
            bound: Some(Bound::BitsPerWeight(4.0)),
            samples: Some(SampleChoice::Images {
                data: "/home/someone/train".as_ref(),
                count: 64,
            }),
            input_range: Some([0.0, 255.0]),
            ..QuantizeJob::new("a.onnx".as_ref(), "b.onnx".as_ref(), &options)
        };
        assert_eq!(
            stated_options(&job).join(" "),
            "--bits 4.0 --granularity tensor --bits-for layer1*=6 --effort quick --calibrate train --samples 64 \
             --input-range 0,255 --target w4a8"
        );
        let job = QuantizeJob {
            bound: Some(Bound::Drop {
                most: 0.01,
                data: Some("test.bin".as_ref()),
            }),
            samples: None,
            ..QuantizeJob::new("a.onnx".as_ref(), "b.onnx".as_ref(), &default)
        };
        let said = stated_options(&job).join(" ");
        assert_eq!(said, "--max-drop 1% --data test.bin --no-correct");
    }
}
