//! `campana evaluate`: how often models are right.

use anyhow::Result;
use campana_eval::Proportion;
use campana_pipeline::{EvaluateJob, EvaluateOutcome, evaluate_files};
use campana_report::thousands;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Evaluate, Global};
use crate::interrupt;
use crate::printer::{self, note, say};

pub(crate) fn run(args: &Evaluate, global: &Global) -> Result<()> {
    let job = EvaluateJob {
        models: &args.models,
        reference: args.reference.as_deref(),
        data: &args.data,
        limit: args.limit,
        batch: args.batch.get(),
        threads: global.thread_count(),
    };
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let outcome = evaluate_files(&job, &mut |evaluations, images| {
        let first = &evaluations[0];
        bar.set_length(images);
        bar.set_position(first.tally.images());
        bar.set_message(format!(
            "{:.0} images/s, top-1 {}",
            first.images_per_s(),
            share(first.tally.top1())
        ));
        !interrupt::is_requested()
    });
    bar.finish_and_clear();
    let outcome = outcome?;
    for failure in &outcome.comparison.failures {
        note!("skipped {}: {}", failure.name, failure.error);
    }
    if global.json {
        return printer::print_json(&outcome.report());
    }
    print(&outcome);
    Ok(())
}

fn print(outcome: &EvaluateOutcome) {
    let comparison = &outcome.comparison;
    let mut table = printer::new_table(
        &["model"],
        &["top-1", "95 % interval", "top-5", "agreement", "images/s"],
    );
    for (name, evaluation) in outcome.names.iter().zip(&comparison.evaluations) {
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
        printer::add_row(
            &mut table,
            [
                name.clone(),
                share(evaluation.tally.top1()),
                bounds,
                share(evaluation.tally.top5()),
                share(evaluation.tally.agreement()),
                format!("{:.0}", evaluation.images_per_s()),
            ],
        );
    }
    say!("{table}");
    let images = comparison.evaluations[0].tally.images();
    say!(
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
