//! The page of `campana compare`: accuracy, error and size of every design.

mod plot;
mod series;

use crate::page::{self, decibels, escape, file_name, fixed, percent, plural, thousands, tile};
use campana_eval::{CompareRow, Proportion, pareto_front};

use plot::Plot;
use series::Series;

/// How far below the float model the plot of size and accuracy reaches, as a
/// share of all images: what loses more is no candidate, and would squeeze the
/// others into one line.
const SHOWN_DROP: f64 = 0.15;

/// SQNR in dB at which a cell of the heat table has its full colour.
const FULL_HEAT_DB: f64 = 45.0;

/// What a comparison measured.
#[derive(Clone, Debug)]
pub struct CompareReport {
    /// File of the float model.
    pub model: String,
    /// File or folder of the images.
    pub data: String,
    /// Images that every design saw.
    pub images: u64,
    /// Share of the float model's right answers, 0 to 1; `None` without labels.
    pub reference_top1: Option<f64>,
    /// The designs, in the order of the table.
    pub rows: Vec<CompareRow>,
}

/// The page of a comparison: one HTML file that needs no other and no network.
///
/// Plots of top-1 against bits per weight, MSE against bits per weight and
/// top-1 against size with the Pareto front; the table of all designs; the
/// SQNR of every tensor as a heat table. Plots without any value are left out.
pub fn compare_page(report: &CompareReport) -> String {
    let title = file_name(&report.model);
    let lead = format!(
        "{} measured on {} of {}.",
        plural(report.rows.len() as u64, "design"),
        plural(report.images, "image"),
        escape(file_name(&report.data)),
    );
    let front = pareto_front(&report.rows);
    let series = Series::of(&report.rows, &front);
    let body = [
        page::header("compare", title, &lead),
        "<main>\n".to_owned(),
        tiles(report),
        "<section>\n<h2>Plots <small>full lines: a scale or codebook per channel; broken lines: one per tensor; \
         point at a dot, or touch it, for its numbers</small></h2>\n"
            .to_owned(),
        series.choice(),
        accuracy_by_bits(report, &series),
        error_by_bits(report, &series),
        accuracy_by_size(report, &series, &front),
        "</section>\n".to_owned(),
        table(report, &front),
        heat(report),
        "</main>".to_owned(),
    ];
    page::document(title, &body.concat())
}

/// What reaches most of each of the widths that people ask for first, and how
/// sure that is.
fn tiles(report: &CompareReport) -> String {
    let mut tiles = report.reference_top1.map_or_else(String::new, |top1| {
        tile(&percent(top1), "Float model", "right answers (top-1)")
    });
    for bits in [2, 3, 4, 8] {
        let rows = report.rows.iter().filter(|row| row.bits == bits);
        let shares = rows.filter_map(|row| Some((row, row.top1?)));
        let Some((row, top1)) = shares.clone().max_by(|a, b| a.1.total_cmp(&b.1)) else {
            continue;
        };
        let interval = Proportion {
            right: (top1 * report.images as f64).round() as u64,
            total: report.images,
        }
        .wilson_95();
        let others = shares.filter(|(_, share)| *share >= interval.low).count() - 1;
        let others = match others {
            0 => "no other of this width is".to_owned(),
            1 => "1 other of this width is".to_owned(),
            more => format!("{more} others of this width are"),
        };
        tiles.push_str(&tile(
            &percent(top1),
            &format!("Most at {}", plural(bits.into(), "bit")),
            &format!(
                "{} per {}, {} bytes; 95\u{a0}% interval {} to {}: {others} in it",
                escape(&row.method),
                escape(&row.granularity),
                thousands(row.output_bytes),
                percent(interval.low),
                percent(interval.high),
            ),
        ));
    }
    format!("<dl class=\"tiles\">\n{tiles}</dl>\n")
}

fn accuracy_by_bits(report: &CompareReport, series: &Series<'_>) -> String {
    Plot {
        id: "accuracy",
        title: "Right answers by bits per weight",
        note: "The horizontal line is the float model.",
        x_name: "Bits a weight, tables and scales included",
        y_label: percent,
        value: &|row| Some((row.bits_per_weight, row.top1?)),
        joined: true,
        front: None,
        reference: report.reference_top1,
    }
    .draw(&report.rows, series)
}

fn error_by_bits(report: &CompareReport, series: &Series<'_>) -> String {
    Plot {
        id: "error",
        title: "Mean squared error of the weights by bits per weight",
        note: "A step down of 1 in the exponent is a tenth of the error.",
        x_name: "Bits a weight, tables and scales included",
        y_label: power_of_ten,
        value: &|row| Some((row.bits_per_weight, row.mse.log10())),
        joined: true,
        front: None,
        reference: None,
    }
    .draw(&report.rows, series)
}

fn accuracy_by_size(report: &CompareReport, series: &Series<'_>, front: &[bool]) -> String {
    let lowest = report.reference_top1.unwrap_or(0.0) - SHOWN_DROP;
    Plot {
        id: "size",
        title: "Right answers by size of the file",
        note: &format!(
            "The stepped line is the Pareto front: nothing is smaller and at least as accurate. Designs that lose more \
             than {} are left out here.",
            percent(SHOWN_DROP)
        ),
        x_name: "kB",
        y_label: percent,
        value: &|row| {
            let top1 = row.top1.filter(|&top1| top1 >= lowest)?;
            Some((row.output_bytes as f64 / 1000.0, top1))
        },
        joined: false,
        front: Some(front),
        reference: report.reference_top1,
    }
    .draw(&report.rows, series)
}

/// Ten to a power that is rounded to hundredths: 10⁻³·⁴.
fn power_of_ten(exponent: f64) -> String {
    let rounded = (100.0 * exponent).round() / 100.0;
    // Without a sign of nothing.
    let digits = format!("{}", rounded + 0.0);
    let raised = digits.chars().map(|digit| match digit {
        '-' => '⁻',
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '·',
    });
    "10".chars().chain(raised).collect()
}

fn heading(name: &str, class: &str) -> String {
    format!("<th scope=\"col\" class=\"{class}\"><button type=\"button\">{name}</button></th>")
}

fn table(report: &CompareReport, front: &[bool]) -> String {
    let head: String = [
        ("Method", "text"),
        ("Per", "text"),
        ("Bits", ""),
        ("MSE", ""),
        ("SQNR dB", ""),
        ("Bits a weight", ""),
        ("Bytes", ""),
        ("Top-1", ""),
        ("Same answer", ""),
        ("Front", ""),
    ]
    .map(|(name, class)| heading(name, class))
    .concat();
    let number = |value: Option<f64>, text: String| {
        let key = value.map(|value| value.to_string()).unwrap_or_default();
        format!("<td data-v=\"{key}\">{text}</td>")
    };
    let mut body = String::new();
    for (row, &on_front) in report.rows.iter().zip(front) {
        let share = |value: Option<f64>| {
            number(
                value,
                value.map_or_else(
                    || "–".to_owned(),
                    |share| format!("{}\u{a0}%", fixed(100.0 * share, 2)),
                ),
            )
        };
        body.push_str(&format!(
            "<tr><th scope=\"row\" class=\"text\">{}</th><td class=\"text\">{}</td>{}{}{}{}{}{}{}{}</tr>\n",
            escape(&row.method),
            escape(&row.granularity),
            number(Some(row.bits.into()), row.bits.to_string()),
            number(Some(row.mse), page::significant(row.mse, 3)),
            number(row.sqnr_db, decibels(row.sqnr_db.unwrap_or(f64::INFINITY))),
            number(Some(row.bits_per_weight), fixed(row.bits_per_weight, 2)),
            number(Some(row.output_bytes as f64), thousands(row.output_bytes)),
            share(row.top1),
            share(row.agreement),
            number(
                Some(f64::from(u8::from(on_front))),
                if on_front { "✓" } else { "" }.to_owned()
            ),
        ));
    }
    format!(
        "<section>\n<h2>Designs <small>a click on a heading sorts</small></h2>\n<div class=\"scroll\" role=\"region\" \
         aria-label=\"Designs\" tabindex=\"0\"><table class=\"sortable\">\n<thead><tr>{head}</tr></thead>\n\
         <tbody>\n{body}</tbody>\n</table></div>\n</section>\n"
    )
}

/// SQNR of each tensor under each design.
fn heat(report: &CompareReport) -> String {
    let mut names: Vec<&str> = Vec::new();
    for tensor in report.rows.iter().flat_map(|row| &row.tensors) {
        if !names.contains(&tensor.name.as_str()) {
            names.push(&tensor.name);
        }
    }
    let head: String = names
        .iter()
        .map(|name| format!("<th scope=\"col\"><bdi>{}</bdi></th>", escape(name)))
        .collect();
    let mut body = String::new();
    for row in &report.rows {
        body.push_str(&format!(
            "<tr><th scope=\"row\" class=\"text\">{}, {} bits, {}</th>",
            escape(&row.method),
            row.bits,
            escape(&row.granularity)
        ));
        for name in &names {
            let tensor = row.tensors.iter().find(|tensor| tensor.name == *name);
            body.push_str(&match tensor.map(|tensor| tensor.sqnr_db) {
                None => "<td>–</td>".to_owned(),
                Some(db) => {
                    let db = db.unwrap_or(f64::INFINITY);
                    let heat = (db / FULL_HEAT_DB).clamp(0.0, 1.0) * 60.0;
                    format!(
                        "<td style=\"background:color-mix(in srgb,var(--level) {heat:.0}%,transparent)\">{}</td>",
                        decibels(db)
                    )
                }
            });
        }
        body.push_str("</tr>\n");
    }
    format!(
        "<section>\n<h2>SQNR of each tensor <small>in dB; fuller colour is less error</small></h2>\n\
         <div class=\"scroll\" role=\"region\" aria-label=\"SQNR of each tensor\" tabindex=\"0\"><table>\n\
         <thead><tr><th scope=\"col\" class=\"text\">Design</th>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n\
         </table></div>\n</section>\n"
    )
}

#[cfg(test)]
mod tests {
    use roxmltree::{Document, ParsingOptions};

    use super::*;
    use campana_eval::TensorSqnr;

    fn row(method: &str, bits: u8, output_bytes: u64, top1: Option<f64>) -> CompareRow {
        CompareRow {
            method: method.to_owned(),
            bits,
            granularity: "tensor".to_owned(),
            mse: 1.5e-5,
            sqnr_db: Some(20.0),
            bits_per_weight: f64::from(bits) + 0.1,
            output_bytes,
            top1,
            agreement: top1,
            tensors: vec![TensorSqnr {
                name: "w".to_owned(),
                sqnr_db: Some(20.0),
            }],
        }
    }

    fn page(rows: Vec<CompareRow>) -> String {
        let report = CompareReport {
            model: "folder/<net>.onnx".to_owned(),
            data: "folder/images.bin".to_owned(),
            images: 20,
            reference_top1: Some(0.9),
            rows,
        };
        let page = compare_page(&report);
        let options = ParsingOptions {
            allow_dtd: true,
            ..ParsingOptions::default()
        };
        Document::parse_with_options(&page, options).expect("the page is well-formed");
        assert!(!page.contains("folder/"));
        page
    }

    #[test]
    fn every_design_has_a_dot_and_a_row() {
        let page = page(vec![
            row("ks", 4, 100, Some(0.85)),
            row("kmeans", 4, 110, Some(0.89)),
            row("kmeans", 2, 60, Some(0.2)),
        ]);
        // Three dots in each of two plots, and two where the worst is left out.
        assert_eq!(page.matches("</title></path>").count(), 8);
        assert_eq!(page.matches("✓").count(), 3);
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn exponents_are_raised_and_rounded() {
        for (exponent, text) in [
            (-3.400_000_000_000_000_4, "10⁻³·⁴"),
            (-0.0, "10⁰"),
            (-0.001, "10⁰"),
            (-12.5, "10⁻¹²·⁵"),
            (2.0, "10²"),
        ] {
            assert_eq!(power_of_ten(exponent), text);
        }
    }

    #[test]
    fn what_is_most_has_an_interval_and_rivals() {
        let page = page(vec![
            row("ks", 4, 100, Some(0.85)),
            row("kmeans", 4, 110, Some(0.9)),
            row("mse", 4, 60, Some(0.1)),
            row("mse", 2, 60, Some(0.5)),
        ]);
        assert!(!page.contains("Best"));
        let four = "kmeans per tensor, 110 bytes; 95\u{a0}% interval 69.9\u{a0}% to 97.2\u{a0}%: 1 other of this width is in it";
        assert!(page.contains(four), "{page}");
        assert!(page.contains("no other of this width is in it"));
    }

    #[test]
    fn few_lines_are_shown_at_first() {
        let method = |index: usize| format!("m{index}");
        let mut rows: Vec<_> = (0..14)
            .map(|index| row(&method(index), 4, 100 + index as u64, Some(0.8)))
            .collect();
        rows.push(row("auto+free", 4, 500, Some(0.7)));
        let page = page(rows);
        // The smallest is the front; auto is always there.
        assert_eq!(page.matches("checked=\"\"").count(), 2);
        assert_eq!(page.matches("data-series=").count(), 15);
        assert_eq!(page.matches("<g class=\"s0\">").count(), 3);
        assert_eq!(page.matches(" off\">").count() % 13, 0);
        // Names stand at the lines that are shown.
        assert!(page.contains(">auto+free</span>"));
    }

    #[test]
    fn missing_values_leave_plots_out() {
        let mut exact = row("ks", 8, 100, None);
        (exact.mse, exact.sqnr_db) = (0.0, None);
        exact.tensors[0].sqnr_db = None;
        let page = page(vec![exact]);
        assert!(!page.contains("<svg role"));
        assert!(page.contains("exact"));
        self::page(Vec::new());
    }
}
