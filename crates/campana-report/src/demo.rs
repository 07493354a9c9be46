//! The page of `campana demo`: one network at several sizes, then how its
//! weights are distributed.

use campana_quantize::inspect::Inspection;

use crate::chart;
use crate::inspect::sections;
use crate::page::{self, bytes, decibels, escape, fixed, percent, plural, thousands, tile};

/// What the demo measured.
#[derive(Clone, Debug)]
pub struct DemoReport {
    /// Heading of the page.
    pub title: String,
    /// The float model first, which the others are compared with, then the
    /// quantized ones in the order of the table.
    pub rows: Vec<DemoRow>,
    /// The float model's distributions.
    pub inspection: Inspection,
    /// Bits of the quantizers drawn into the distributions, 1 to 8.
    pub bits: u8,
}

/// One model of a [`DemoReport`].
#[derive(Clone, Debug)]
pub struct DemoRow {
    /// What the model is called, such as `4-bit`.
    pub name: String,
    /// Length of the model file.
    pub bytes: u64,
    /// Bits a weight takes with all tables and scales; 32 for the float model.
    pub bits_per_weight: f64,
    /// Signal to quantization noise of the weights; infinite for the float
    /// model.
    pub sqnr_db: f64,
    /// Share of the images whose best answer is the label, 0 to 1.
    pub top1: Option<f64>,
    /// Share of the images on which the best answer is the float model's, 0
    /// to 1.
    pub agreement: Option<f64>,
    /// Median time of one image, in milliseconds.
    pub median_ms: Option<f64>,
}

/// The page of a demo: one HTML file that needs no other and no network.
///
/// A table and a chart of the models' sizes and quality are followed by what
/// [`inspect_page`](crate::inspect_page) shows. Top-1, agreement and latency
/// have a column where any row knows them.
///
/// # Panics
///
/// If `report.bits` is not in 1 to 8.
pub fn demo_page(report: &DemoReport) -> String {
    let body = [
        page::header("demo", &report.title, &lead(report)),
        "<main>\n".to_owned(),
        tiles(report),
        "<section>\n<h2>Before and after</h2>\n".to_owned(),
        table(&report.rows),
        sizes(&report.rows),
        "</section>\n".to_owned(),
        sections(&report.inspection, report.bits),
        "</main>".to_owned(),
    ];
    page::document(&report.title, &body.concat())
}

fn lead(report: &DemoReport) -> String {
    format!(
        "A trained network of {} made smaller without training it again and without any data.",
        plural(report.inspection.weights, "weight")
    )
}

/// The first quantized model beside the float one.
fn tiles(report: &DemoReport) -> String {
    let [float, first, ..] = report.rows.as_slice() else {
        return String::new();
    };
    let name = escape(&first.name).to_string();
    let mut tiles = tile(
        &format!("{} <i>→</i> {}", bytes(float.bytes), bytes(first.bytes)),
        "Size of the file",
        &format!("{} of it, {name}", percent(share(first, float))),
    );
    if let (Some(before), Some(after)) = (float.top1, first.top1) {
        tiles.push_str(&tile(
            &format!("{} <i>→</i> {}", percent(before), percent(after)),
            "Right answers (top-1)",
            &format!("before and after, {name}"),
        ));
    }
    if let Some(agreement) = first.agreement {
        tiles.push_str(&tile(
            &percent(agreement),
            "Same answer as before",
            &format!("share of the images, {name}"),
        ));
    }
    tiles.push_str(&tile(
        &format!("{} dB", decibels(first.sqnr_db)),
        "SQNR of the weights",
        &format!(
            "error: {} of a typical weight, {name}",
            percent(page::relative_error(first.sqnr_db))
        ),
    ));
    format!("<dl class=\"tiles\">\n{tiles}</dl>\n")
}

fn share(row: &DemoRow, float: &DemoRow) -> f64 {
    row.bytes as f64 / float.bytes as f64
}

/// A column that some rows may not fill.
type Column = (&'static str, fn(&DemoRow) -> Option<String>);

fn table(rows: &[DemoRow]) -> String {
    let Some(float) = rows.first() else {
        return String::new();
    };
    let measured: [Column; 3] = [
        ("Top-1", |row| row.top1.map(percent)),
        ("Same answer", |row| row.agreement.map(percent)),
        ("ms an image", |row| row.median_ms.map(|ms| fixed(ms, 2))),
    ];
    let measured: Vec<Column> = measured
        .into_iter()
        .filter(|(_, value)| rows.iter().any(|row| value(row).is_some()))
        .collect();
    let columns: Vec<&str> = ["Bytes", "% of float", "Bits a weight", "SQNR dB"]
        .into_iter()
        .chain(measured.iter().map(|(name, _)| *name))
        .collect();
    let cells = |row: &DemoRow| {
        let mut cells = vec![
            thousands(row.bytes),
            percent(share(row, float)),
            fixed(row.bits_per_weight, 2),
            // Of the float model itself there is nothing to say.
            fixed(row.sqnr_db, 1),
        ];
        cells.extend(
            measured
                .iter()
                .map(|(_, value)| value(row).unwrap_or_else(|| "–".to_owned())),
        );
        cells
    };
    let rows: Vec<_> = rows.iter().map(|row| (&*row.name, cells(row))).collect();
    page::models_table(&columns, &rows)
}

/// The files' sizes as bars.
fn sizes(rows: &[DemoRow]) -> String {
    let largest = rows.iter().map(|row| row.bytes).max().unwrap_or(0);
    let bars: String = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            format!(
                "<li><span><bdi>{}</bdi></span>{}<b>{}</b></li>\n",
                escape(&row.name),
                chart::bar(
                    row.bytes as f64 / largest as f64,
                    if index == 0 { "float" } else { "small" }
                ),
                bytes(row.bytes),
            )
        })
        .collect();
    format!(
        "<div class=\"panel\"><h3>Size of the files</h3>\n<ul class=\"bars wide\">\n{bars}</ul></div>\n"
    )
}
