//! `campana compare`: what each method costs at each width.

use std::io::Write;

use anyhow::{Context, Result, bail};
use campana_eval::{
    BatchOptions, CompareJournal, CompareRow, Correction, Dataset, DatasetOptions, Design,
    Experiment, compare_csv, compare_markdown, pareto_front,
};
use campana_onnx::Model;
use campana_pipeline::{
    CommandFiles, Journal, OutputFile, Overwrite, check_images, sample_images, sidecar,
};
use campana_report::{CompareReport, compare_page, thousands};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::{Compare, Global, Methods};
use crate::interrupt;
use crate::printer::{self, decibels, note, say};
use crate::progress::Bar;

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    n: u64,
    skipped: Vec<String>,
    reference_top1: Option<f64>,
    rows: &'a [CompareRow],
}

pub(crate) fn run(args: &Compare, global: &Global) -> Result<()> {
    let designs = designs(args);
    let is_calibrated = |design: &Design| design.correction == Correction::Calibrated;
    if args.calibrate.is_none() && designs.iter().any(is_calibrated) {
        bail!("a method with +calibrated needs images: name them with --calibrate PATH");
    }
    CommandFiles::new()
        .model("the input", &args.model)
        .images("the data", args.data.as_path())
        .images("the calibration data", args.calibrate.as_deref())
        .output("the CSV file", args.csv.as_deref())
        .output("the page", args.html.as_deref())
        .output("the tables", args.markdown.as_deref())
        .output("the journal", args.resume.as_deref())
        .check()?;
    let outputs = [&args.csv, &args.html, &args.markdown].map(Option::as_deref);
    printer::make_way(&outputs, global.json)?;
    // Refuse what cannot be written before working for it.
    let overwrite = Overwrite::from_force(args.force);
    let monitor = Bar::new();
    let create = |path: &Option<std::path::PathBuf>| -> Result<_> {
        let Some(path) = path else { return Ok(None) };
        Ok(Some(OutputFile::create(path, overwrite, &monitor)?))
    };
    let (csv, html) = (create(&args.csv)?, create(&args.html)?);
    let markdown = create(&args.markdown)?;

    for data in [Some(&args.data), args.calibrate.as_ref()]
        .into_iter()
        .flatten()
    {
        check_images(data)?;
    }
    let journal = args.resume.as_deref();
    let journal = journal.map(|path| Journal::read(path, "journal of a comparison"));
    let journal = journal.transpose()?;

    let sidecar = sidecar(&args.model)?;
    let model = Model::open(&args.model)
        .with_context(|| format!("cannot read '{}'", args.model.display()))?;
    let dataset = Dataset::open_with(
        &args.data,
        &DatasetOptions {
            class_names: &sidecar.labels,
            ..DatasetOptions::default()
        },
    )?;
    let options = BatchOptions {
        batch: args.batch.get(),
        limit: args.limit,
        threads: global.thread_count(),
        ..BatchOptions::default()
    };
    let go_on = || !interrupt::is_requested();
    let mut experiment = Experiment::new(
        &model,
        &args.model,
        &dataset,
        &sidecar.preprocessing,
        options,
        &go_on,
    )?;
    if let Some(data) = &args.calibrate {
        let (count, threads) = (args.samples.get(), global.thread_count());
        let settings = &sidecar.preprocessing;
        experiment.calibrate(sample_images(settings, data, count, threads, &monitor)?);
    }
    for failure in experiment.failures() {
        note!("skipped {}: {}", failure.name, failure.error);
    }
    let mut finished = match journal {
        Some(journal) => Finished::open(journal, &experiment)?,
        None => Finished::default(),
    };
    let rows = measure(&mut experiment, &designs, &mut finished)?;

    let report = CompareReport {
        model: args.model.display().to_string(),
        data: args.data.display().to_string(),
        images: experiment.image_count(),
        reference_top1: experiment.reference_top1().fraction(),
        rows,
    };
    for (file, content) in [
        (csv, compare_csv(&report.rows)),
        (html, compare_page(&report)),
        (markdown, compare_markdown(&report.rows)),
    ] {
        if let Some(mut file) = file {
            file.write_all(content.as_bytes())?;
            file.finish()?;
        }
    }
    if global.json {
        return printer::print_json(&Report {
            model: report.model.clone(),
            n: report.images,
            skipped: experiment
                .failures()
                .iter()
                .map(|failure| failure.name.clone())
                .collect(),
            reference_top1: report.reference_top1,
            rows: &report.rows,
        });
    }
    print(&report);
    Ok(())
}

/// Every combination once, methods innermost.
fn designs(args: &Compare) -> Vec<Design> {
    let mut designs = Vec::new();
    for &granularity in &args.granularity {
        for &bits in &args.bits {
            for (method, correction) in args.methods.iter().flat_map(Methods::expand) {
                let design = Design {
                    method,
                    correction,
                    bits,
                    granularity,
                };
                if !designs.contains(&design) {
                    designs.push(design);
                }
            }
        }
    }
    designs
}

/// A row for each design: the finished ones as they are, the others measured.
fn measure(
    experiment: &mut Experiment<'_>,
    designs: &[Design],
    finished: &mut Finished,
) -> Result<Vec<CompareRow>> {
    let bar = ProgressBar::new(designs.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} {msg}, {eta} left",
    )?);
    let mut rows = Vec::new();
    let mut taken = 0;
    for design in designs {
        bar.set_message(design.to_string());
        let row = match finished.rows.iter().find(|row| row.is_of(design)) {
            Some(row) => {
                taken += 1;
                row.clone()
            }
            None => {
                let row = experiment
                    .run(design, &|| !interrupt::is_requested())
                    .map_err(|error| finished.explain(error))?;
                finished.append(&row)?;
                row
            }
        };
        rows.push(row);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if taken > 0 {
        note!("{taken} of {} rows are taken from the journal", rows.len());
    }
    Ok(rows)
}

/// Rows of earlier runs, and the journal to which new ones go.
#[derive(Default)]
struct Finished {
    rows: Vec<CompareRow>,
    journal: Option<Journal>,
}

impl Finished {
    fn open(mut journal: Journal, experiment: &Experiment<'_>) -> Result<Self> {
        let header = CompareJournal::new(experiment.fingerprint());
        let rows = header
            .rows(journal.records())
            .with_context(|| format!("cannot use the journal '{}'", journal.name()))?;
        if journal.records().is_empty() {
            journal.append(&header.first_record())?;
        }
        interrupt::advise_journal(journal.name().as_ref());
        Ok(Self {
            rows,
            journal: Some(journal),
        })
    }

    fn append(&mut self, row: &CompareRow) -> Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.append(&CompareJournal::row_record(row))?;
        }
        Ok(())
    }

    /// What an interrupted user can do.
    fn explain(&self, error: campana_eval::Error) -> anyhow::Error {
        match (&self.journal, &error) {
            (Some(journal), campana_eval::Error::Interrupted) => {
                anyhow::anyhow!(interrupt::advise_journal(journal.name().as_ref()))
            }
            _ => error.into(),
        }
    }
}

fn print(report: &CompareReport) {
    let mut table = printer::new_table(
        &["method", "bits", "per"],
        &[
            "MSE",
            "SQNR dB",
            "bits/weight",
            "bytes",
            "top-1",
            "agreement",
            "front",
        ],
    );
    let share = |value: Option<f64>| {
        value
            .map(|share| format!("{:.2} %", 100.0 * share))
            .unwrap_or_default()
    };
    for (row, front) in report.rows.iter().zip(pareto_front(&report.rows)) {
        printer::add_row(
            &mut table,
            [
                row.method.clone(),
                row.bits.to_string(),
                row.granularity.clone(),
                format!("{:.3e}", row.mse),
                decibels(row.sqnr_db.unwrap_or(f64::INFINITY)),
                format!("{:.2}", row.bits_per_weight),
                thousands(row.output_bytes),
                share(row.top1),
                share(row.agreement),
                if front { "*" } else { "" }.to_owned(),
            ],
        );
    }
    say!("{table}");
    let reference = match report.reference_top1 {
        Some(top1) => format!("float top-1 {:.2} %", 100.0 * top1),
        None => "no labels".to_owned(),
    };
    say!(
        "{} images, {reference}. Agreement: how often the answer is the float model's. *: no other row is smaller and \
         at least as accurate.",
        thousands(report.images)
    );
}
