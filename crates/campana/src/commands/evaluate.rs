//! `campana evaluate`: how often models are right.

use anyhow::{Result, bail};
use campana_pipeline::{
    EvaluateJob, EvaluateOutcome, EvaluationKind, MasksReport, OutputsJob, OutputsReport,
    compare_outputs, evaluate_files, evaluate_masks,
};
use campana_report::thousands;

use crate::args::{Evaluate, Global};
use crate::interrupt;
use crate::printer::{self, accuracy, decibels, note, percent, say};
use crate::progress::{self, Bar};

pub(crate) fn run(args: &Evaluate, global: &Global) -> Result<()> {
    match EvaluationKind::on(&args.data) {
        EvaluationKind::Accuracy => run_on_classes(args, global),
        EvaluationKind::MeanIou => run_on_masks(args, global),
        EvaluationKind::Outputs => run_without_labels(args, global),
    }
}

fn job<'a>(args: &'a Evaluate, global: &Global) -> EvaluateJob<'a> {
    EvaluateJob {
        models: &args.models,
        reference: args.reference.as_deref(),
        data: &args.data,
        limit: args.limit,
        batch: args.batch.get(),
        threads: global.thread_count(),
    }
}

fn run_on_classes(args: &Evaluate, global: &Global) -> Result<()> {
    let bar = progress::counting("{bar:30} {pos}/{len} {msg}");
    let outcome = evaluate_files(&job(args, global), &mut |evaluations, images| {
        let first = &evaluations[0];
        bar.set_length(images);
        bar.set_position(first.tally.images());
        bar.set_message(format!(
            "{:.0} images/s, top-1 {}",
            first.images_per_s(),
            accuracy(first.tally.top1().fraction())
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

fn run_on_masks(args: &Evaluate, global: &Global) -> Result<()> {
    let bar = progress::counting("{bar:30} {pos}/{len} images");
    let report = evaluate_masks(&job(args, global), &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        !interrupt::is_requested()
    });
    bar.finish_and_clear();
    let report = report?;
    for failure in &report.skipped {
        note!("skipped {}: {}", failure.name, failure.error);
    }
    if global.json {
        return printer::print_json(&report);
    }
    print_masks(&report);
    Ok(())
}

fn print_masks(report: &MasksReport) {
    let mut table = printer::new_table(
        &["model"],
        &["mean IoU", "pixels right", "agreement", "images/s"],
    );
    for model in &report.models {
        let shares = [model.mean_iou, model.pixel_accuracy, model.agreement];
        let [iou, right, agreement] = shares.map(accuracy);
        let speed = format!("{:.0}", model.images_per_s);
        printer::add_row(
            &mut table,
            [model.model.clone(), iou, right, agreement, speed],
        );
    }
    say!("{table}");
    let classes = report
        .models
        .iter()
        .map(|model| model.class_iou.iter().flatten().count());
    let least = classes.clone().min().unwrap_or_default();
    let most = classes.max().unwrap_or_default();
    let classes = match least == most {
        true => most.to_string(),
        false => format!("{least} to {most}"),
    };
    say!(
        "{} images, {} skipped; mean over the {classes} classes that occur, at the resolution of the output",
        thousands(report.n),
        report.skipped.len(),
    );
}

/// Compares outputs with those of the reference.
fn run_without_labels(args: &Evaluate, global: &Global) -> Result<()> {
    if args.reference.is_none() {
        bail!(
            "'{}' has no labels: name the model that gives the expected outputs with --reference",
            args.data.display()
        );
    }
    let job = OutputsJob {
        models: &args.models,
        reference: args.reference.as_deref(),
        data: &args.data,
        limit: args.limit,
        threads: global.thread_count(),
    };
    let report = progress::counted("runs", |go_on| compare_outputs(&job, &Bar::new(), go_on))?;
    if global.json {
        return printer::print_json(&report);
    }
    print_outputs(&report);
    Ok(())
}

fn print_outputs(report: &OutputsReport) {
    let mut table = printer::new_table(
        &["model", "output"],
        &["SQNR dB", "cosine", "difference", "agreement"],
    )
    .dispensable(&["difference", "cosine"]);
    for model in &report.models {
        for output in &model.outputs {
            let row = [
                model.model.clone(),
                output.output.clone(),
                decibels(output.sqnr_db),
                format!("{:.6}", output.cosine),
                format!("{:.1e}", output.relative_difference),
                output.agreement.map(percent).unwrap_or_default(),
            ];
            printer::add_row(&mut table, row);
        }
    }
    say!("{table}");
    say!(
        "{} samples, beside the outputs of {}. Difference: the largest of a value, as a share of the largest; agreement: \
         share of the samples with the same largest score, where an output is one list of scores.",
        report.n,
        report.reference,
    );
}

fn print(outcome: &EvaluateOutcome) {
    let comparison = &outcome.comparison;
    let mut table = printer::new_table(
        &["model"],
        &["top-1", "95 % interval", "top-5", "agreement", "images/s"],
    )
    .dispensable(&["images/s", "top-5"]);
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
                accuracy(evaluation.tally.top1().fraction()),
                bounds,
                accuracy(evaluation.tally.top5().fraction()),
                accuracy(evaluation.tally.agreement().fraction()),
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
