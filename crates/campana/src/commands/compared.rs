//! What a comparison writes and prints, in one run or put together from several.

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use campana_eval::{CompareRow, CompareTable, compare_csv, compare_markdown, pareto_front};
use campana_pipeline::{OutputFile, Overwrite};
use campana_report::{CompareReport, compare_page, thousands};
use serde::Serialize;

use crate::args::Global;
use crate::printer::{self, accuracy, decibels, say};
use crate::progress::Bar;

/// What a journal is said to be where a file is none.
pub(crate) const JOURNAL: &str = "journal of a comparison";

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    n: u64,
    skipped: &'a [String],
    reference_top1: Option<f64>,
    rows: &'a [CompareRow],
}

/// The files that are asked for: CSV, page and tables.
pub(crate) struct Outputs<'a> {
    files: [Option<OutputFile<'a>>; 3],
    paths: [Option<&'a Path>; 3],
}

impl<'a> Outputs<'a> {
    /// Refuses what cannot be written, before there is work for it.
    pub(crate) fn create(
        paths: [Option<&'a Path>; 3],
        force: bool,
        global: &Global,
        monitor: &'a Bar,
    ) -> Result<Self> {
        printer::make_way(&paths, global.json)?;
        let mut files = [None, None, None];
        for (file, path) in files.iter_mut().zip(paths) {
            if let Some(path) = path {
                let overwrite = Overwrite::from_force(force);
                *file = Some(OutputFile::create(path, overwrite, monitor)?);
            }
        }
        Ok(Self { files, paths })
    }

    fn write(self, report: &CompareReport) -> Result<()> {
        let contents = [
            compare_csv(&report.rows),
            compare_page(report),
            compare_markdown(&report.rows),
        ];
        for (file, content) in self.files.into_iter().zip(contents) {
            if let Some(mut file) = file {
                file.write_all(content.as_bytes())?;
                file.finish()?;
            }
        }
        Ok(())
    }
}

/// Writes the rows of a table into the files, and prints them.
pub(crate) fn show(
    table: CompareTable,
    rows: Vec<CompareRow>,
    outputs: Outputs<'_>,
    global: &Global,
) -> Result<()> {
    let report = CompareReport {
        model: table.model,
        data: table.data,
        images: table.images,
        reference_top1: table.reference_top1,
        rows,
    };
    let [csv, html, markdown] = outputs.paths;
    outputs.write(&report)?;
    if global.json {
        return printer::print_json(&Report {
            model: &report.model,
            n: report.images,
            skipped: &table.skipped,
            reference_top1: report.reference_top1,
            rows: &report.rows,
        });
    }
    print(&report);
    printer::say_written(&[("CSV", csv), ("Page", html), ("Tables", markdown)]);
    Ok(())
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
    )
    .dispensable(&["MSE", "bits/weight", "SQNR dB"]);
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
                accuracy(row.top1),
                accuracy(row.agreement),
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
