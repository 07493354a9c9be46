//! What people read: tables, sizes, errors.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anstyle::{AnsiColor, Reset, Style};
use campana_calibrate::DistillReport;
use campana_pipeline::{PackReport, SYNTHETIC_IMAGES, is_stdout};
use campana_quantize::TensorReport;
use campana_quantize::inspect::{Inspection, OUTLIER_DEVIATIONS, QuantizedInspection};
use campana_report::thousands;
use campana_report::{AllocationReport, DropReport, QuantizeReport};

use crate::table::Table;

const BOLD: Mark = Mark('\u{fdd0}');
const DIM: Mark = Mark('\u{fdd1}');
const GOOD: Mark = Mark('\u{fdd2}');
const BAD: Mark = Mark('\u{fdd3}');

/// Ends a style.
const PLAIN: char = '\u{fdd4}';

/// A style within text, as a character that no text holds, until the text is
/// printed: what comes from files cannot be told from our own escape
/// sequences otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark(char);

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char(if f.alternate() { PLAIN } else { self.0 })
    }
}

impl Mark {
    fn style(mark: char) -> Option<Style> {
        Some(match Self(mark) {
            BOLD => Style::new().bold(),
            DIM => Style::new().dimmed(),
            GOOD => AnsiColor::Green.on_default().bold(),
            BAD => AnsiColor::Red.on_default().bold(),
            _ => return None,
        })
    }
}

/// What was said, until the command ends.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Whether an output goes to the standard output, so that text does not.
static IS_STDOUT_TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether nothing but errors is said.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Whether tables may be wider than the terminal.
static IS_WIDE: AtomicBool = AtomicBool::new(false);

/// What the whole command line asks for.
pub(crate) fn set(quiet: bool, wide: bool) {
    IS_QUIET.store(quiet, Ordering::Relaxed);
    IS_WIDE.store(wide, Ordering::Relaxed);
}

/// Whether nothing but errors is said.
pub(crate) fn is_quiet() -> bool {
    IS_QUIET.load(Ordering::Relaxed)
}

/// Says a line of the command's result.
macro_rules! say {
    ($($text:tt)*) => { $crate::printer::say_line(format_args!($($text)*)) };
}

/// Says a line beside the command's result, at once.
macro_rules! note {
    ($($text:tt)*) => { $crate::printer::note_line(format_args!($($text)*)) };
}

pub(crate) use {note, say};

/// See the macro.
pub(crate) fn say_line(text: std::fmt::Arguments<'_>) {
    if is_quiet() {
        return;
    }
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(said, "{text}");
}

/// See the macro. A standard error that takes nothing is no error.
pub(crate) fn note_line(text: std::fmt::Arguments<'_>) {
    if !is_quiet() {
        say_at_once(text);
    }
}

fn say_at_once(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr(), "{}", shown(&text.to_string()));
}

/// Prints what was said, at the end of a command.
///
/// # Errors
///
/// Where the standard output does not take it.
pub(crate) fn finish() -> anyhow::Result<()> {
    let said = std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner));
    let shown = shown(&said);
    if IS_STDOUT_TAKEN.load(Ordering::Relaxed) {
        let _ = anstream::stderr().write_all(shown.as_bytes());
        return Ok(());
    }
    print(&mut anstream::stdout().lock(), shown.as_bytes())
}

/// Where one of these outputs goes to the standard output, text goes to the
/// standard error.
///
/// # Errors
///
/// Where JSON is to be printed too.
pub(crate) fn make_way(outputs: &[Option<&Path>], json: bool) -> anyhow::Result<()> {
    if outputs.iter().flatten().any(|output| is_stdout(output)) {
        anyhow::ensure!(
            !json,
            "--json prints on the standard output, where an output goes already; name a file for it"
        );
        IS_STDOUT_TAKEN.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Prints bytes on the standard output as they are.
///
/// # Errors
///
/// Where it does not take them.
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    print(&mut io::stdout().lock(), bytes)
}

fn print(out: &mut dyn io::Write, bytes: &[u8]) -> anyhow::Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(unwritten),
    }
}

/// The error of a standard output that takes nothing more.
pub(crate) fn unwritten(error: io::Error) -> anyhow::Error {
    anyhow::anyhow!("cannot write to the standard output: {error}")
}

/// Text as a terminal may get it: styles for their marks, and escapes for
/// control characters, which names from files may hold.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match Mark::style(char) {
            Some(style) => shown.push_str(&style.render().to_string()),
            None if char == PLAIN => shown.push_str(&Reset.render().to_string()),
            None if char == '\n' => shown.push(char),
            None => push_visible(char, &mut shown),
        }
    }
    shown
}

/// A name on one line, its control characters escaped.
pub(crate) fn visible(name: &str) -> String {
    let mut visible = String::with_capacity(name.len());
    name.chars()
        .for_each(|char| push_visible(char, &mut visible));
    visible
}

/// Control characters, and those that turn the direction of text.
fn push_visible(char: char, text: &mut String) {
    let turns = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if char.is_control() || turns {
        text.extend(char.escape_default());
    } else {
        text.push(char);
    }
}

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
    say_at_once(format_args!("{BAD}error:{BAD:#} {message}"));
}

/// One JSON object on stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    // JSON itself escapes the control characters of ASCII alone.
    let mut text = String::new();
    for char in serde_json::to_string(value)?.chars() {
        match char {
            '\u{7f}'..='\u{9f}' => write!(text, "\\u{:04x}", u32::from(char))?,
            _ => text.push(char),
        }
    }
    text.push('\n');
    print_bytes(text.as_bytes())
}

/// What the table below is about.
pub(crate) fn print_heading(text: &str) {
    say!("\n{BOLD}{text}{BOLD:#}");
}

/// The table of `campana inspect`.
pub(crate) fn print_inspection(inspection: &Inspection) {
    if !inspection.quantized.is_empty() {
        print_quantized_weights(&inspection.quantized);
    }
    // A quantized model without float weights has nothing else to show.
    if !inspection.tensors.is_empty() || inspection.quantized.is_empty() {
        print_distributions(inspection);
    }
}

/// How a file holds weights that are quantized already.
fn print_quantized_weights(tensors: &[QuantizedInspection]) {
    let mut table = new_table(
        &["quantized tensor", "shape", "form"],
        &["weights", "levels", "tables or scales", "bits/weight"],
    )
    .dispensable(&["tables or scales", "form"]);
    for tensor in tensors {
        let row = [
            tensor.name.clone(),
            shape(&tensor.shape),
            tensor.form.to_owned(),
            thousands(tensor.count),
            tensor.levels.to_string(),
            thousands(tensor.tables),
            format!("{:.2}", tensor.bits_per_weight),
        ];
        add_row(&mut table, row);
    }
    say!("{table}");
    let count: u64 = tensors.iter().map(|tensor| tensor.count).sum();
    let bits = tensors
        .iter()
        .map(|tensor| tensor.bits_per_weight * tensor.count as f64);
    say!(
        "The model is quantized: {} weights in {} tensors at {:.2} bits each, as the model holds them in memory and in \
         an ONNX file.",
        thousands(count),
        tensors.len(),
        bits.sum::<f64>() / count.max(1) as f64,
    );
}

fn print_distributions(inspection: &Inspection) {
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
    )
    .dispensable(&[
        "kurtosis",
        "std",
        "outliers",
        "D gauss",
        "D laplace",
        "op",
        "shape",
    ]);
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
        add_row(&mut table, row);
    }
    say!("{table}");
    say!(
        "{BOLD}{}{BOLD:#}: {} weights in {} tensors",
        inspection.model,
        thousands(inspection.weights),
        inspection.tensors.len(),
    );
    say!(
        "{DIM}D: largest distance between the distribution of the weights and the fitted density's (0 = equal); the \
         smaller one names the family.\nOutliers: beyond {OUTLIER_DEVIATIONS} standard deviations. SQNR: signal to \
         quantization noise that the family's optimal quantizer predicts, one per tensor; 6 dB more halve the \
         error.{DIM:#}",
    );
}

/// What distillation did.
fn distilled_line(report: &DistillReport) -> String {
    let judged = match report.held_back {
        0 => "the same samples, too few to hold any back".to_owned(),
        count => format!("{count} held back"),
    };
    let [before, after] = [report.divergence_before, report.divergence_after];
    let learned = format!(
        "Distilled in {} steps: {} numbers learned from the float network's answers on {} samples",
        thousands(u64::from(report.steps)),
        thousands(report.parameters as u64),
        thousands(report.samples as u64),
    );
    match report.kept_step {
        0 => format!(
            "{learned}; none was better on {judged} (divergence {before:.4}): nothing is changed"
        ),
        _ => format!("{learned}; divergence {before:.4} -> {after:.4} on {judged}"),
    }
}

/// The table of `campana quantize`.
pub(crate) fn print_quantized(report: &QuantizeReport) {
    let mut numbers = vec!["bits/weight", "SQNR dB", "bytes before", "after", "%"];
    if report.allocation.is_some() {
        numbers.push("divergence");
    }
    let mut table = new_table(&["tensor", "shape", "family", "per", "bits"], &numbers)
        .dispensable(&["family", "bytes before", "per", "shape"]);
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
        add_row(&mut table, row);
    }
    if !quantized.is_empty() {
        say!("{table}");
    }
    for line in kept_lines(&kept) {
        say!("{DIM}{line}{DIM:#}");
    }
    print_sizes(
        [&report.input, &report.output],
        [report.input_bytes, report.output_bytes],
    );
    if !quantized.is_empty() {
        say!(
            "{} weights at {:.2} bits each, SQNR {} dB, in {:.2} s",
            thousands(report.weights),
            report.bits_per_weight,
            decibels(report.sqnr_db),
            report.elapsed_s,
        );
        if let Some(zeros) = report.zeros {
            say!("{} of the weights are zero", percent(zeros));
        }
        say!("{}", correction_line(report));
        if let Some(distilled) = &report.distilled {
            say!("{}", distilled_line(distilled));
        }
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
    say!(
        "Widths chosen for {bound}: sensitivities {sensitivities}, divergence {divergence:.1e} in all"
    );
    if let Some(drop) = &allocation.drop {
        say!("{}", drop_line(drop));
    }
    if !allocation.met {
        say!("{BAD}The bound is not met{BAD:#}: this is the best that was found.");
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
    say!(
        "{BOLD}{input}{BOLD:#} {} bytes -> {BOLD}{output}{BOLD:#} {} bytes: {GOOD}{}{GOOD:#} of the size",
        thousands(before),
        thousands(after),
        percent(after as f64 / before as f64),
    );
}

/// What was corrected, or why nothing was.
fn correction_line(report: &QuantizeReport) -> String {
    let Some(correction) = &report.correction else {
        let reason = report.not_corrected.as_deref();
        return format!("Not corrected: {}", reason.unwrap_or_default());
    };
    let skipped = match correction.skipped.len() {
        0 => None,
        1 => Some("1 layer could not be, see the warning".to_owned()),
        count => Some(format!("{count} layers could not be, see the warning")),
    };
    let (images, samples) = (correction.images, correction.samples);
    if correction.compensated == 0 && correction.corrected == 0 {
        let untouched = "no layer needs it, or none is of a kind that can be";
        let reason = skipped.as_deref().unwrap_or(untouched);
        return format!("Nothing corrected with {images} {samples} samples: {reason}");
    }
    let rest = skipped.map(|skipped| format!("; {skipped}"));
    let assumed = match report.assumed_inputs.as_slice() {
        [] => String::new(),
        names => format!(
            " of mean 0 and deviation 1, since nothing tells the scale of '{}' (--input-range LO,HI would)",
            names.join("', '")
        ),
    };
    format!(
        "Corrected with {images} {samples} samples{assumed}: codes of {} tensors, values of {} normalizations and biases{}",
        correction.compensated,
        correction.corrected,
        rest.unwrap_or_default(),
    )
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

/// A table whose first columns are text and whose last are numbers; it fits the
/// terminal, unless --wide is given or there is none.
pub(crate) fn new_table(text: &[&str], numbers: &[&str]) -> Table {
    let room = if IS_WIDE.load(Ordering::Relaxed) {
        None
    } else {
        terminal_width()
    };
    Table::new(text, numbers, room)
}

/// Columns of the terminal that the standard output is; `COLUMNS` states other
/// ones, also of what is none.
fn terminal_width() -> Option<usize> {
    let stated = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    stated.or_else(|| {
        let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
        Some(width.0.into())
    })
}

/// Adds a row; what names hold of control characters is escaped.
pub(crate) fn add_row(table: &mut Table, cells: impl IntoIterator<Item = String>) {
    let cells = cells.into_iter().map(|cell| visible(&cell));
    table.add_row(cells.collect());
}

/// Says where the files are that were asked for beside the result.
pub(crate) fn say_written(files: &[(&str, Option<&Path>)]) {
    for (what, path) in files {
        if let Some(path) = path.filter(|path| !is_stdout(path)) {
            say!("{what}: {}", path.display());
        }
    }
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

/// A share of right answers, in hundredths of a percent; nothing where it is not
/// known.
pub(crate) fn accuracy(share: Option<f64>) -> String {
    share
        .map(|share| format!("{:.2} %", 100.0 * share))
        .unwrap_or_default()
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_names_are_escaped() {
        let name = "a\x1b]0;title\x07\n\u{9b}31m\u{202e}é";
        let expected = "a\\u{1b}]0;title\\u{7}\\n\\u{9b}31m\\u{202e}é";
        assert_eq!(visible(name), expected);
        assert_eq!(shown(&visible(name)), expected);
        assert_eq!(shown("a\x1b[31m\nb"), "a\\u{1b}[31m\nb");
    }

    #[test]
    fn our_own_styles_stay() {
        let text = shown(&format!("{BOLD}net{BOLD:#}"));
        let (bold, reset) = (Style::new().bold().render(), Reset.render());
        assert_eq!(text, format!("{bold}net{reset}"));
    }
}
