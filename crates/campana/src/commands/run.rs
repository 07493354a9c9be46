//! `campana run`: what pictures show, or what a model computes from arrays.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use campana_eval::{Network, RgbImage, preprocess, softmax, top};
use campana_pipeline::{Overwrite, RunArraysJob, RunArraysReport, is_arrays, run_arrays, sidecar};
use serde::Serialize;

use crate::args::{Global, Run};
use crate::printer::{self, percent, say};
use crate::progress::{self, Bar};

/// Labels shown for each picture.
const TOP: usize = 5;

#[derive(Serialize)]
struct Report {
    images: Vec<ImageReport>,
}

#[derive(Serialize)]
struct ArraysReport {
    arrays: RunArraysReport,
}

#[derive(Serialize)]
struct ImageReport {
    image: String,
    top: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    label: String,
    index: usize,
    probability: f32,
}

pub(crate) fn run(args: &Run, global: &Global) -> Result<()> {
    let arrays = args.images.iter().find(|path| is_arrays(path));
    match (arrays, &*args.images) {
        (Some(data), [_]) => run_on_arrays(args, data, global),
        (Some(data), _) => bail!(
            "'{}' holds arrays: give it alone, or pictures",
            data.display()
        ),
        (None, _) => {
            ensure!(
                args.output.is_none(),
                "--output takes what a model computes from arrays (.npz or .npy), not from pictures"
            );
            run_on_pictures(args, global)
        }
    }
}

fn run_on_arrays(args: &Run, data: &Path, global: &Global) -> Result<()> {
    let overwrite = Overwrite::from_force(args.force);
    let job = RunArraysJob {
        model: &args.model,
        data,
        output: args.output.as_deref().map(|path| (path, overwrite)),
        threads: global.thread_count(),
    };
    let report = progress::counted("samples", |go_on| run_arrays(&job, &Bar::new(), go_on))?;
    if global.json {
        return printer::print_json(&ArraysReport { arrays: report });
    }
    print_arrays(&report);
    if let Some(output) = &args.output {
        say!("Wrote {}", output.display());
    }
    Ok(())
}

fn print_arrays(report: &RunArraysReport) {
    let mut table = printer::new_table(&["output", "shape"], &["least", "mean", "greatest"]);
    let number = |value: Option<f64>| value.map(|value| format!("{value:.6}")).unwrap_or_default();
    for output in &report.outputs {
        let extents: Vec<String> = output.shape.iter().map(ToString::to_string).collect();
        let row = [
            output.output.clone(),
            extents.join(" x "),
            number(output.least),
            number(output.mean),
            number(output.greatest),
        ];
        printer::add_row(&mut table, row);
    }
    say!("{table}");
    let samples = match report.n {
        1 => "1 sample".to_owned(),
        n => format!("{n} samples, one at a time; the shape is for the first"),
    };
    say!("{samples}");
}

fn run_on_pictures(args: &Run, global: &Global) -> Result<()> {
    let sidecar = sidecar(&args.model)?;
    let settings = &sidecar.preprocessing;
    let network = Network::open(&args.model, global.thread_count())?;
    network.check_input(settings)?;
    let mut images = Vec::new();
    for path in &args.images {
        let name = path.display().to_string();
        let input = preprocess(&RgbImage::read(path)?, settings, &name)?;
        let (scores, _) = network.scores(&input, 1, settings)?;
        let probabilities = probabilities(&scores);
        let answers = top(&scores, TOP).into_iter().map(|index| Answer {
            label: sidecar
                .labels
                .get(index)
                .cloned()
                .unwrap_or_else(|| format!("class {index}")),
            index,
            probability: probabilities[index],
        });
        images.push(ImageReport {
            image: name,
            top: answers.collect(),
        });
    }
    if global.json {
        return printer::print_json(&Report { images });
    }
    for image in &images {
        say!("{}", image.image);
        for answer in &image.top {
            say!(
                "  {:>7}  {}",
                percent(answer.probability.into()),
                answer.label
            );
        }
    }
    Ok(())
}

/// Scores as probabilities: as they are where they already sum to 1.
fn probabilities(scores: &[f32]) -> Vec<f32> {
    let sum: f32 = scores.iter().sum();
    let already =
        (sum - 1.0).abs() < 1e-3 && scores.iter().all(|score| (0.0..=1.0).contains(score));
    if already {
        scores.to_vec()
    } else {
        softmax(scores)
    }
}
