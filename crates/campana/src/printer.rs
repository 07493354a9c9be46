//! What people read: tables, sizes, errors.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use campana_pipeline::{PackReport, SYNTHETIC_IMAGES};
use campana_quantize::TensorReport;
use campana_quantize::inspect::{Inspection, OUTLIER_DEVIATIONS};
use campana_report::thousands;
use campana_report::{AllocationReport, DropReport, QuantizeReport};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// Lines above, below and under the header only.
const TABLE_STYLE: TableStyle = UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// An error and its causes, on stderr.
pub(crate) fn print_error(error: &anyhow::Error) {
    let mut causes = error.chain();
    let mut message = causes.next().map(ToString::to_string).unwrap_or_default();
    for cause in causes {
        let cause = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !message.contains(&cause) {
            let _ = write!(message, "\n  because {cause}");
        }
    }
    anstream::eprintln!("{BAD}error:{BAD:#} {message}");
}

/// One JSON object on stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    anstream::println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// What the table below is about.
pub(crate) fn print_heading(text: &str) {
    anstream::println!("\n{BOLD}{text}{BOLD:#}");
}

/// The table of `campana inspect`.
pub(crate) fn print_inspection(inspection: &Inspection) {
    let mut table = new_table(
        &[
            "tensor",
            "op",
            "shape",
            "std",
            "kurtosis",
            "outliers",
            "D gauss",
            "D laplace",
            "family",
        ],
        &["SQNR dB at 2", "3", "4", "8 bits"],
    );
    for tensor in &inspection.tensors {
        let mut row = vec![
            tensor.name.clone(),
            tensor.op.clone(),
            shape(&tensor.shape),
            format!("{:.3e}", tensor.std),
            format!("{:.1}", tensor.kurtosis),
            percent(tensor.outliers as f64 / tensor.count as f64),
            format!("{:.4}", tensor.d_gaussian),
            format!("{:.4}", tensor.d_laplace),
            tensor.family.clone(),
        ];
        row.extend(
            ["2", "3", "4", "8"].map(|bits| format!("{:.1}", tensor.predicted_sqnr_db[bits])),
        );
        table.add_row(row);
    }
    anstream::println!("{table}");
    anstream::println!(
        "{BOLD}{}{BOLD:#}: {} weights in {} tensors",
        inspection.model,
        thousands(inspection.weights),
        inspection.tensors.len(),
    );
    anstream::println!(
        "{DIM}D: largest distance between the distribution of the weights and the fitted density's (0 = equal); the \
         smaller one names the family.\nOutliers: beyond {OUTLIER_DEVIATIONS} standard deviations. SQNR: signal to \
         quantization noise that the family's optimal quantizer predicts, one per tensor; 6 dB more halve the \
         error.{DIM:#}",
    );
}

/// The table of `campana quantize`.
pub(crate) fn print_quantized(report: &QuantizeReport) {
    let mut numbers = vec!["bits/weight", "SQNR dB", "bytes before", "after", "%"];
    if report.allocation.is_some() {
        numbers.push("divergence");
    }
    let mut table = new_table(&["tensor", "shape", "family", "per", "bits"], &numbers);
    let (quantized, kept): (Vec<_>, Vec<_>) = report
        .tensors
        .iter()
        .partition(|tensor| tensor.kept.is_none());
    for tensor in &quantized {
        let mut row = vec![
            tensor.name.clone(),
            shape(&tensor.shape),
            tensor.family.clone().unwrap_or_default(),
            tensor.granularity.clone().unwrap_or_default(),
            tensor.bits.map(|bits| bits.to_string()).unwrap_or_default(),
            format!("{:.2}", tensor.bits_per_weight),
            decibels(tensor.sqnr_db.unwrap_or(f64::INFINITY)),
            thousands(tensor.input_bytes),
            thousands(tensor.output_bytes),
            percent(tensor.output_bytes as f64 / tensor.input_bytes as f64),
        ];
        // What a plan weighs against the bytes.
        if report.allocation.is_some() {
            row.push(
                tensor
                    .divergence
                    .map(|d| format!("{d:.1e}"))
                    .unwrap_or_default(),
            );
        }
        table.add_row(row);
    }
    if !quantized.is_empty() {
        anstream::println!("{table}");
    }
    for line in kept_lines(&kept) {
        anstream::println!("{DIM}{line}{DIM:#}");
    }
    print_sizes(
        [&report.input, &report.output],
        [report.input_bytes, report.output_bytes],
    );
    if !quantized.is_empty() {
        anstream::println!(
            "{} weights at {:.2} bits each, SQNR {} dB, in {:.2} s",
            thousands(report.weights),
            report.bits_per_weight,
            decibels(report.sqnr_db),
            report.elapsed_s,
        );
        if let Some(zeros) = report.zeros {
            anstream::println!("{} of the weights are zero", percent(zeros));
        }
        anstream::println!("{}", correction_line(report));
    }
    if let Some(allocation) = &report.allocation {
        print_allocation(allocation);
    }
}

/// How widths were chosen, what was lost, and whether the bound is met.
fn print_allocation(allocation: &AllocationReport) {
    let AllocationReport {
        bound,
        sensitivities,
        divergence,
        ..
    } = allocation;
    anstream::println!(
        "Widths chosen for {bound}: sensitivities {sensitivities}, divergence {divergence:.1e} in all"
    );
    if let Some(drop) = &allocation.drop {
        anstream::println!("{}", drop_line(drop));
    }
    if !allocation.met {
        anstream::println!("{BAD}The bound is not met{BAD:#}: this is the best that was found.");
    }
}

fn drop_line(drop: &DropReport) -> String {
    let (images, data) = (thousands(drop.images), &drop.data);
    let points = format!("{:.2} points of top-1", 100.0 * drop.drop);
    match (drop.top1, drop.changed) {
        (Some([float, now]), _) => format!(
            "Loses {points}, {:.2} to {:.2} %: measured on {images} images of {data}",
            100.0 * float,
            100.0 * now,
        ),
        (None, changed) if drop.data == SYNTHETIC_IMAGES => format!(
            "Loses less than {points}, most likely: {} of the answers to {images} synthetic images change, which are \
             harder to tell than photographs. --calibrate IMAGES estimates it better, --data measures it",
            percent(changed.unwrap_or_default()),
        ),
        (None, changed) => format!(
            "Loses about {points}: estimated without labels on {images} {data}, where {} of the answers change",
            percent(changed.unwrap_or_default()),
        ),
    }
}

/// What became of a file's size.
pub(crate) fn print_packed(report: &PackReport) {
    print_sizes(
        [&report.input, &report.output],
        [report.input_bytes, report.output_bytes],
    );
}

/// Names and sizes of an input and an output.
fn print_sizes([input, output]: [&str; 2], [before, after]: [u64; 2]) {
    anstream::println!(
        "{BOLD}{input}{BOLD:#} {} bytes -> {BOLD}{output}{BOLD:#} {} bytes: {GOOD}{}{GOOD:#} of the size",
        thousands(before),
        thousands(after),
        percent(after as f64 / before as f64),
    );
}

/// What was corrected, or why nothing was.
fn correction_line(report: &QuantizeReport) -> String {
    match &report.correction {
        Some(correction) => format!(
            "Corrected with {} {} images: codes of {} tensors, values of {} normalizations and biases",
            correction.images, correction.samples, correction.compensated, correction.corrected,
        ),
        None => format!(
            "Not corrected: {}",
            report.not_corrected.as_deref().unwrap_or_default()
        ),
    }
}

/// What stays float, one line a reason.
fn kept_lines(kept: &[&TensorReport]) -> Vec<String> {
    let mut reasons: Vec<(&str, usize, u64)> = Vec::new();
    for tensor in kept {
        let reason = tensor.kept.as_deref().unwrap_or_default();
        match reasons.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, count, bytes)) => {
                *count += 1;
                *bytes += tensor.output_bytes;
            }
            None => reasons.push((reason, 1, tensor.output_bytes)),
        }
    }
    reasons
        .iter()
        .map(|(reason, count, bytes)| {
            let tensors = if *count == 1 {
                "tensor stays"
            } else {
                "tensors stay"
            };
            format!(
                "{count} {tensors} float ({} bytes): {reason}",
                thousands(*bytes)
            )
        })
        .collect()
}

/// A table whose first columns are text and whose last are numbers.
pub(crate) fn new_table(text: &[&str], numbers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(TABLE_STYLE);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(text.iter().chain(numbers));
    for column in table.column_iter_mut().skip(text.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn shape(dims: &[usize]) -> String {
    dims.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("x")
}

pub(crate) fn decibels(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.2}")
    } else {
        "exact".to_owned()
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
