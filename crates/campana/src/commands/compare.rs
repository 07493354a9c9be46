//! `campana compare`: what each method costs at each width.

use std::path::Path;

use anyhow::{Context, Result, bail};
use campana_eval::{
    BatchOptions, CompareJournal, CompareRow, CompareTable, Correction, Dataset, DatasetOptions,
    Design, Experiment, Shard,
};
use campana_onnx::Model;
use campana_pipeline::{CommandFiles, Journal, check_images, sample_images, sidecar};
use indicatif::{ProgressBar, ProgressStyle};

use super::compared::{self, JOURNAL, Outputs};
use crate::args::{Compare, Global, Methods};
use crate::interrupt;
use crate::printer::{note, say};
use crate::progress::{self, Bar};

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
    let paths = [&args.csv, &args.html, &args.markdown].map(Option::as_deref);
    let monitor = Bar::new();
    let outputs = Outputs::create(paths, args.force, global, &monitor)?;

    for data in [Some(&args.data), args.calibrate.as_ref()]
        .into_iter()
        .flatten()
    {
        check_images(data)?;
    }
    let journal = args.resume.as_deref();
    let journal = journal.map(|path| Journal::read(path, JOURNAL));
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
    let name = |path: &Path| path.display().to_string();
    let table = experiment.table(name(&args.model), name(&args.data), &designs);
    let mut finished = match journal {
        Some(journal) => Finished::open(journal, &experiment, &table)?,
        None => Finished::default(),
    };
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let own = designs.iter().enumerate();
    let own: Vec<Design> = own
        .filter_map(|(position, design)| shard.takes(position).then_some(*design))
        .collect();
    let rows = measure(&mut experiment, &own, &mut finished)?;
    match &args.shard {
        Some(shard) if !global.json => {
            let (count, all) = (rows.len(), table.cells.len());
            say!(
                "{count} of {all} rows are share {shard}; campana merge makes one table of all shares."
            );
            Ok(())
        }
        _ => compared::show(table, rows, outputs, global),
    }
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
    let bar = progress::shown(ProgressBar::new(designs.len() as u64));
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} {msg}, {eta} left",
    )?);
    let mut rows = Vec::new();
    let mut taken = 0;
    for design in designs {
        bar.set_message(design.to_string());
        let row = match finished.rows.iter().find(|row| row.cell() == design.cell()) {
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
    fn open(
        mut journal: Journal,
        experiment: &Experiment<'_>,
        table: &CompareTable,
    ) -> Result<Self> {
        let cannot = || format!("cannot use the journal '{}'", journal.name());
        let found = CompareJournal::read(journal.records()).with_context(cannot)?;
        let known = match found {
            Some(known) => {
                known.check_key(experiment.key()).with_context(cannot)?;
                known
            }
            None => {
                let new = CompareJournal::new(experiment.key().clone());
                journal.append(&new.first_record())?;
                new
            }
        };
        if known.table.as_ref() != Some(table) {
            journal.append(&CompareJournal::table_record(table))?;
        }
        interrupt::advise_journal(journal.name().as_ref());
        Ok(Self {
            rows: known.rows,
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
