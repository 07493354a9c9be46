//! The page of `campana compare`: accuracy, error and size of every design.

use crate::chart::{Path, Scale, picture, ticks};
use crate::page::{self, decibels, escape, file_name, fixed, percent, plural, thousands, tile};
use campana_eval::{CompareRow, pareto_front};

/// Units of a plot's canvas.
const CANVAS: (i32, i32) = (1000, 500);

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
    let body = [
        page::header("compare", title, &lead),
        "<main>\n".to_owned(),
        tiles(report),
        "<section>\n<h2>Plots <small>full lines: a scale or codebook per channel; broken lines: one per tensor; \
         point at a dot for its numbers</small></h2>\n"
            .to_owned(),
        accuracy_by_bits(report),
        error_by_bits(report),
        accuracy_by_size(report, &front),
        "</section>\n".to_owned(),
        table(report, &front),
        heat(report),
        "</main>".to_owned(),
    ];
    page::document(title, &body.concat())
}

/// The best design of each of the widths that people ask for first.
fn tiles(report: &CompareReport) -> String {
    let mut tiles = report.reference_top1.map_or_else(String::new, |top1| {
        tile(&percent(top1), "Float model", "right answers (top-1)")
    });
    for bits in [2, 3, 4, 8] {
        let rows = report.rows.iter().filter(|row| row.bits == bits);
        let best = rows
            .filter(|row| row.top1.is_some())
            .max_by(|a, b| a.top1.partial_cmp(&b.top1).expect("shares are numbers"));
        if let Some(row) = best {
            tiles.push_str(&tile(
                &percent(row.top1.unwrap_or_default()),
                &format!("Best at {}", plural(bits.into(), "bit")),
                &format!(
                    "{} per {}, {} bytes",
                    escape(&row.method),
                    escape(&row.granularity),
                    thousands(row.output_bytes)
                ),
            ));
        }
    }
    format!("<dl class=\"tiles\">\n{tiles}</dl>\n")
}

/// The methods in the order in which they first appear.
fn methods(rows: &[CompareRow]) -> Vec<&str> {
    let mut methods = Vec::new();
    for row in rows {
        if !methods.contains(&row.method.as_str()) {
            methods.push(row.method.as_str());
        }
    }
    methods
}

/// A colour for each method, spread around the wheel; the next in lightness
/// too, so that neighbours differ. Readable on light and dark cards.
fn colour(index: usize, count: usize) -> String {
    let hue = 360 * index / count.max(1);
    let lightness = if index.is_multiple_of(2) { 42 } else { 58 };
    format!("hsl({hue},75%,{lightness}%)")
}

/// One point of a plot with what is said when it is pointed at.
struct Point {
    x: f64,
    y: f64,
    said: String,
}

/// A plot with a line for each method and granularity.
struct Plot<'a> {
    id: &'a str,
    title: &'a str,
    note: &'a str,
    x_name: &'a str,
    /// Labels of the vertical axis.
    y_label: fn(f64) -> String,
    /// Values of a row; `None` leaves it out.
    value: &'a dyn Fn(&CompareRow) -> Option<(f64, f64)>,
    /// Joins the dots of a method and granularity.
    joined: bool,
    /// Rows on the Pareto front, where it is drawn.
    front: Option<&'a [bool]>,
    /// Horizontal line of the float model.
    reference: Option<f64>,
}

impl Plot<'_> {
    fn draw(&self, rows: &[CompareRow]) -> String {
        let points: Vec<Option<Point>> = rows
            .iter()
            .map(|row| {
                let (x, y) = (self.value)(row)?;
                (x.is_finite() && y.is_finite()).then(|| Point {
                    x,
                    y,
                    said: said(row),
                })
            })
            .collect();
        let known = || points.iter().flatten();
        if known().next().is_none() {
            return String::new();
        }
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
            let margin = if high > low { 0.03 * (high - low) } else { 0.5 };
            (low - margin, high + margin)
        };
        let (x_low, x_high) = range(&mut known().map(|point| point.x));
        let (y_low, y_high) = range(&mut known().map(|point| point.y).chain(self.reference));
        let x = Scale::new(x_low, x_high, 0.0, f64::from(CANVAS.0));
        let y = Scale::new(y_low, y_high, f64::from(CANVAS.1), 0.0);

        let x_ticks = ticks(x_low, x_high, 8);
        let y_ticks = ticks(y_low, y_high, 6);
        let mut body = String::new();
        let mut grid = Path::default();
        for (value, _) in &y_ticks {
            grid.move_to(0, y.place(*value));
            grid.line_to(CANVAS.0, y.place(*value));
        }
        body.push_str(&styled(&grid, "stroke:var(--line);fill:none"));
        if let Some(reference) = self.reference {
            let at = y.place(reference);
            let line = Path::polyline([(0, at), (CANVAS.0, at)]);
            body.push_str(&styled(&line, "stroke:var(--muted);fill:none"));
        }
        body.push_str(&self.lines(rows, &points, x, y));
        if let Some(front) = self.front {
            body.push_str(&front_line(front, &points, x, y));
        }
        let share = |place: i32, whole: i32| 100.0 * f64::from(place) / f64::from(whole);
        let marks: String = y_ticks
            .iter()
            .map(|(value, _)| {
                format!(
                    "<span class=\"mark\" style=\"top:{:.1}%\">{}</span>",
                    share(y.place(*value), CANVAS.1),
                    (self.y_label)(*value)
                )
            })
            .collect();
        let axis: String = x_ticks
            .iter()
            .map(|(value, label)| {
                format!(
                    "<span style=\"left:{:.1}%\">{label}</span>",
                    share(x.place(*value), CANVAS.0)
                )
            })
            .collect();
        format!(
            "<div class=\"panel\"><h3>{title}</h3>{legend}<figure class=\"plot\"><div class=\"canvas\" \
             style=\"min-height:24rem\">{picture}{marks}</div><div class=\"axis\">{axis}</div>\
             <figcaption>{x_name}. {note}</figcaption></figure></div>\n",
            title = self.title,
            legend = legend(rows),
            picture = picture(
                self.id,
                CANVAS,
                self.title,
                "The table below has all numbers.",
                &body
            ),
            x_name = self.x_name,
            note = self.note,
        )
    }

    /// Lines and dots of every method and granularity.
    fn lines(&self, rows: &[CompareRow], points: &[Option<Point>], x: Scale, y: Scale) -> String {
        let methods = methods(rows);
        let mut drawn = String::new();
        for (index, method) in methods.iter().enumerate() {
            let colour = colour(index, methods.len());
            for whole_tensor in [true, false] {
                let mut own: Vec<&Point> = rows
                    .iter()
                    .zip(points)
                    .filter(|(row, _)| {
                        row.method == *method && (row.granularity == "tensor") == whole_tensor
                    })
                    .filter_map(|(_, point)| point.as_ref())
                    .collect();
                own.sort_by(|a, b| a.x.total_cmp(&b.x));
                if self.joined {
                    let line = Path::polyline(own.iter().map(|p| (x.place(p.x), y.place(p.y))));
                    let dashes = if whole_tensor {
                        ";stroke-dasharray:6 4"
                    } else {
                        ""
                    };
                    let style = format!("stroke:{colour};stroke-width:1.5px;fill:none{dashes}");
                    drawn.push_str(&styled(&line, &style));
                }
                for point in own {
                    drawn.push_str(&format!(
                        "<path style=\"stroke:{colour};stroke-width:8px;stroke-linecap:round\" d=\"M{} {}h0\">\
                         <title>{}</title></path>",
                        x.place(point.x),
                        y.place(point.y),
                        escape(&point.said)
                    ));
                }
            }
        }
        drawn
    }
}

/// The designs that none beats, joined by a line of steps.
fn front_line(front: &[bool], points: &[Option<Point>], x: Scale, y: Scale) -> String {
    let mut best: Vec<&Point> = front
        .iter()
        .zip(points)
        .filter(|(on_front, _)| **on_front)
        .filter_map(|(_, point)| point.as_ref())
        .collect();
    best.sort_by(|a, b| a.x.total_cmp(&b.x));
    let mut corners = Vec::new();
    for point in best {
        let (at_x, at_y) = (x.place(point.x), y.place(point.y));
        if let Some(&(_, before)) = corners.last() {
            corners.push((at_x, before));
        }
        corners.push((at_x, at_y));
    }
    styled(
        &Path::polyline(corners),
        "stroke:var(--ink);stroke-width:2px;fill:none",
    )
}

fn styled(path: &Path, style: &str) -> String {
    let commands = path.to_string();
    if commands.is_empty() {
        return String::new();
    }
    format!("<path style=\"{style}\" d=\"{commands}\" />")
}

fn legend(rows: &[CompareRow]) -> String {
    let methods = methods(rows);
    let entries: String = methods
        .iter()
        .enumerate()
        .map(|(index, method)| {
            format!(
                "<li><span class=\"key\" style=\"background:{}\"></span>{}</li>",
                colour(index, methods.len()),
                escape(method)
            )
        })
        .collect();
    format!("<ul class=\"legend\">{entries}</ul>")
}

fn said(row: &CompareRow) -> String {
    let top1 = row
        .top1
        .map(|top1| format!(", top-1 {}", percent(top1)))
        .unwrap_or_default();
    format!(
        "{}, {} bits, per {}: {} bits a weight, {} bytes{top1}",
        row.method,
        row.bits,
        row.granularity,
        fixed(row.bits_per_weight, 2),
        thousands(row.output_bytes)
    )
}

fn accuracy_by_bits(report: &CompareReport) -> String {
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
    .draw(&report.rows)
}

fn error_by_bits(report: &CompareReport) -> String {
    Plot {
        id: "error",
        title: "Mean squared error of the weights by bits per weight",
        note: "Each step down of 1 on the vertical axis, which is the exponent of ten, is a tenth of the error.",
        x_name: "Bits a weight, tables and scales included",
        y_label: |exponent| format!("10^{}", page::minus(&format!("{exponent}"))),
        value: &|row| Some((row.bits_per_weight, row.mse.log10())),
        joined: true,
        front: None,
        reference: None,
    }
    .draw(&report.rows)
}

fn accuracy_by_size(report: &CompareReport, front: &[bool]) -> String {
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
    .draw(&report.rows)
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
        assert_eq!(page.matches("h0\"><title>").count(), 8);
        assert_eq!(page.matches("✓").count(), 3);
        assert!(!page.contains("NaN"));
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
