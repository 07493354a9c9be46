//! `campana evaluate`: how often models are right.

use std::path::Path;

use anyhow::{Context, Result};
use campana_eval::{
    BatchOptions, Candidate, Comparison, Dataset, DatasetOptions, Evaluation, Network,
    Preprocessing, Proportion, Sidecar, evaluate,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::{Evaluate, Global};
use crate::interrupt;
use crate::printer::{self, thousands};

#[derive(Serialize)]
struct Report {
    n: u64,
    skipped: Vec<String>,
    models: Vec<ModelReport>,
}

#[derive(Serialize)]
struct ModelReport {
    model: String,
    top1: Option<f64>,
    top1_interval_95: [f64; 2],
    top5: Option<f64>,
    agreement: Option<f64>,
    images_per_s: f64,
}

pub(crate) fn run(args: &Evaluate, global: &Global) -> Result<()> {
    let threads = global.thread_count();
    let networks: Vec<Network> = args
        .models
        .iter()
        .map(|model| Network::open(model, threads))
        .collect::<Result<_, _>>()?;
    let reference = args
        .reference
        .as_ref()
        .map(|model| Network::open(model, threads))
        .transpose()?;
    let sidecars: Vec<Sidecar> = args
        .models
        .iter()
        .map(|model| sidecar(model))
        .collect::<Result<_>>()?;
    let settings: Vec<&Preprocessing> = sidecars
        .iter()
        .map(|sidecar| &sidecar.preprocessing)
        .collect();
    let candidates: Vec<Candidate<'_>> = networks
        .iter()
        .zip(settings)
        .map(|(network, settings)| Candidate { network, settings })
        .collect();
    let labels = &sidecars[0].labels;
    let dataset = Dataset::open_with(
        &args.data,
        &DatasetOptions {
            class_names: labels,
            ..DatasetOptions::default()
        },
    )?;
    let options = BatchOptions {
        batch: args.batch.get(),
        limit: args.limit,
        threads,
        ..BatchOptions::default()
    };
    let bar = ProgressBar::new(args.limit.unwrap_or(usize::MAX).min(dataset.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let comparison = evaluate(
        &candidates,
        reference.as_ref(),
        &dataset,
        &options,
        &mut |evaluations| {
            let first = &evaluations[0];
            bar.set_position(first.tally.images());
            bar.set_message(format!(
                "{:.0} images/s, top-1 {}",
                first.images_per_s(),
                share(first.tally.top1())
            ));
            !interrupt::is_requested()
        },
    );
    bar.finish_and_clear();
    let comparison =
        comparison.with_context(|| format!("cannot evaluate on '{}'", args.data.display()))?;
    for failure in &comparison.failures {
        anstream::eprintln!("skipped {}: {}", failure.name, failure.error);
    }
    if global.json {
        return printer::print_json(&report(&networks, &comparison));
    }
    print(&networks, &comparison);
    Ok(())
}

/// What a model expects of its input; the file beside it must say so.
pub(crate) fn sidecar(model: &Path) -> Result<Sidecar> {
    let found = Sidecar::beside(model)?;
    found.with_context(|| {
        format!(
            "'{}' says how images are prepared for '{}', but is not there; write one (README, \"Sidecar\") or copy \
             the float model's",
            Sidecar::path_of(model).display(),
            model.display()
        )
    })
}

fn report(networks: &[Network], comparison: &Comparison) -> Report {
    let model = |(network, evaluation): (&Network, &Evaluation)| {
        let interval = evaluation.tally.top1().wilson_95();
        ModelReport {
            model: network.name().to_owned(),
            top1: evaluation.tally.top1().fraction(),
            top1_interval_95: [interval.low, interval.high],
            top5: evaluation.tally.top5().fraction(),
            agreement: evaluation.tally.agreement().fraction(),
            images_per_s: evaluation.images_per_s(),
        }
    };
    Report {
        n: comparison.evaluations[0].tally.images(),
        skipped: comparison
            .failures
            .iter()
            .map(|failure| failure.name.clone())
            .collect(),
        models: networks
            .iter()
            .zip(&comparison.evaluations)
            .map(model)
            .collect(),
    }
}

fn print(networks: &[Network], comparison: &Comparison) {
    let mut table = printer::new_table(
        &["model"],
        &["top-1", "95 % interval", "top-5", "agreement", "images/s"],
    );
    for (network, evaluation) in networks.iter().zip(&comparison.evaluations) {
        let interval = evaluation.tally.top1().wilson_95();
        let bounds = if evaluation.tally.top1().total == 0 {
            String::new()
        } else {
            format!(
                "{:.2} - {:.2} %",
                100.0 * interval.low,
                100.0 * interval.high
            )
        };
        table.add_row([
            network.name().to_owned(),
            share(evaluation.tally.top1()),
            bounds,
            share(evaluation.tally.top5()),
            share(evaluation.tally.agreement()),
            format!("{:.0}", evaluation.images_per_s()),
        ]);
    }
    anstream::println!("{table}");
    let images = comparison.evaluations[0].tally.images();
    anstream::println!(
        "{} images, {} skipped",
        thousands(images),
        comparison.failures.len()
    );
}

fn share(proportion: Proportion) -> String {
    proportion
        .fraction()
        .map(|share| format!("{:.2} %", 100.0 * share))
        .unwrap_or_default()
}
