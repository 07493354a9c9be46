//! Which layers of a quantized model hurt, and the command that mends them.

use crate::QuantizeReport;
use crate::chart;
use crate::page::{bytes, escape, file_name, percent, relative_error};
use crate::row::Row;

/// A layer's error stands out where its SQNR is so far below that of all
/// weights together: half as much error again.
const NOTABLE_DECIBELS: f64 = 3.5;

/// A layer's divergence stands out where it is so many times the mean.
const NOTABLE_DIVERGENCE: f64 = 2.0;

/// Layers named at most as those that hurt.
const MAX_NAMED: usize = 6;

/// Bits more that are proposed for a layer that hurts: a quarter of its error.
const MORE_BITS: u8 = 2;

/// The section; nothing where no tensor was quantized.
pub(super) fn section(report: &QuantizeReport, rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let (layers, worst) = match divergent(rows) {
        Some(worst) => worst,
        None => by_error(report, rows),
    };
    format!(
        "<section>\n<h2>Which layers hurt, and what to do</h2>\n<div class=\"panel advice\">{layers}{}{}</div>\n</section>\n",
        more_bits(report, &worst),
        measure(report),
    )
}

/// What is said of layers by what each alone does to the network's outputs, and
/// those that stand out, the worst first; `None` where that was not measured.
fn divergent<'a, 'b>(rows: &'b [Row<'a>]) -> Option<(String, Vec<&'b Row<'a>>)> {
    let measured = rows
        .iter()
        .filter_map(|row| Some((row, row.report.divergence?)));
    let mut measured: Vec<(&Row<'_>, f64)> = measured.collect();
    let total: f64 = measured.iter().map(|(_, divergence)| divergence).sum();
    if measured.is_empty() || !(total.is_finite() && total > 0.0) {
        return None;
    }
    let notable = NOTABLE_DIVERGENCE * total / measured.len() as f64;
    measured.retain(|(_, divergence)| *divergence >= notable);
    measured.sort_by(|a, b| b.1.total_cmp(&a.1));
    measured.truncate(MAX_NAMED);
    let shares = measured
        .iter()
        .map(|(row, divergence)| (*row, divergence / total));
    let text = if measured.is_empty() {
        "<p>No layer stands out: none does much more to the network’s outputs than the others.</p>\n".to_owned()
    } else {
        format!(
            "<p>What each layer alone, quantized as here, does to the network’s outputs (their divergence) was measured; \
             these have the largest shares of it:</p>\n{}",
            bars(shares)
        )
    };
    Some((text, measured.into_iter().map(|(row, _)| row).collect()))
}

/// The same by the error of their weights.
fn by_error<'a, 'b>(report: &QuantizeReport, rows: &'b [Row<'a>]) -> (String, Vec<&'b Row<'a>>) {
    let sqnr_db = |row: &Row<'_>| row.report.sqnr_db.unwrap_or(f64::INFINITY);
    let mut worst: Vec<&Row<'_>> = rows
        .iter()
        .filter(|row| sqnr_db(row) < report.sqnr_db - NOTABLE_DECIBELS)
        .collect();
    worst.sort_by(|a, b| sqnr_db(a).total_cmp(&sqnr_db(b)));
    worst.truncate(MAX_NAMED);
    let overall = percent(relative_error(report.sqnr_db));
    let text = if worst.is_empty() {
        format!(
            "<p>No layer stands out: none has much more than the error of all weights together, {overall}.</p>\n"
        )
    } else {
        format!(
            "<p>The error of a typical weight is {overall} in the whole network, and more in these layers:</p>\n{}",
            bars(worst.iter().map(|row| (*row, row.error())))
        )
    };
    (text, worst)
}

/// A bar for each layer, as long as its share of the first one's value.
fn bars<'a, 'b: 'a>(layers: impl Iterator<Item = (&'a Row<'b>, f64)>) -> String {
    let mut highest = None;
    let items: String = layers
        .map(|(row, value)| {
            let highest = *highest.get_or_insert(value);
            format!(
                "<li><span><a href=\"#t{}\"><bdi>{}</bdi></a></span>{}<b>{}</b></li>\n",
                row.stored.index,
                escape(&row.report.name),
                chart::bar(value / highest, "hurt"),
                percent(value),
            )
        })
        .collect();
    format!("<ul class=\"bars named\">\n{items}</ul>\n")
}

/// The command that gives the worst layers more bits, and its price.
fn more_bits(report: &QuantizeReport, worst: &[&Row<'_>]) -> String {
    if let Some(allocation) = &report.allocation {
        return format!(
            "<p>The widths are those that together do least to the outputs within the bound, {}: a larger bound loses \
             less, and more bits for one layer would be taken from others.</p>\n",
            escape(&allocation.bound)
        );
    }
    let wider: Vec<(&Row<'_>, u8, u8)> = worst
        .iter()
        .filter_map(|row| {
            let bits = row.report.bits.filter(|&bits| bits < 8)?;
            Some((*row, bits, (bits + MORE_BITS).min(8)))
        })
        .collect();
    if wider.is_empty() {
        return String::new();
    }
    let added: u64 = wider
        .iter()
        .map(|(row, bits, more)| row.weights() * u64::from(more - bits) / 8)
        .sum();
    let stated = report.stated_options.iter().map(|word| quoted(word));
    let options = wider
        .iter()
        .map(|(row, _, more)| quoted(&format!("{}={more}", row.report.name)))
        .flat_map(|value| ["--bits-for".to_owned(), value]);
    let options: Vec<String> = stated.chain(options).collect();
    let command = format!(
        "campana quantize {} -o {} {} --force",
        quoted(file_name(&report.input)),
        quoted(file_name(&report.output)),
        options.join(" "),
    );
    format!(
        "<p>Two bits more leave a quarter of a layer's error. For all of these that is about {}, {} of the file:</p>\n\
         <pre><code>{}</code></pre>\n",
        bytes(added),
        percent(added as f64 / report.output_bytes.max(1) as f64),
        escape(&command),
    )
}

fn measure(report: &QuantizeReport) -> String {
    let (input, output) = (
        quoted(file_name(&report.input)),
        quoted(file_name(&report.output)),
    );
    format!(
        "<p>The error of weights is not yet that of answers: some networks bear 10 %, others not 2 %. What counts is \
         measured on images:</p>\n<pre><code>{}</code></pre>\n",
        escape(&format!(
            "campana evaluate {input} {output} --data IMAGES --reference {input}"
        )),
    )
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        let cases = [
            ("conv1.weight=6", "conv1.weight=6"),
            ("a b", "'a b'"),
            ("layer*", "'layer*'"),
            ("it's", "'it'\\''s'"),
            ("$(rm)", "'$(rm)'"),
            ("", "''"),
        ];
        for (word, expected) in cases {
            assert_eq!(quoted(word), expected);
        }
    }
}
