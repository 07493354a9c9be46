//! A plot with a line for each method and granularity, names beside them.

use campana_eval::CompareRow;

use super::series::Series;
use crate::chart::{Path, Scale, picture, ticks};
use crate::page::{escape, fixed, percent, thousands};

/// Units of a plot's canvas.
const CANVAS: (i32, i32) = (1000, 500);

/// Where lines end, so that their names have room beside them.
const LINES_END: f64 = 850.0;

/// Canvas units that a name takes up.
const NAME: (i32, i32) = (150, 24);

/// One point of a plot with what is said when it is pointed at.
struct Point {
    x: f64,
    y: f64,
    said: String,
}

/// A name beside what it names, in canvas units.
struct Name<'a> {
    method: &'a str,
    at: (i32, i32),
}

/// A plot with a line for each method and granularity.
pub(super) struct Plot<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) note: &'a str,
    pub(super) x_name: &'a str,
    /// Labels of the vertical axis.
    pub(super) y_label: fn(f64) -> String,
    /// Values of a row; `None` leaves it out.
    pub(super) value: &'a dyn Fn(&CompareRow) -> Option<(f64, f64)>,
    /// Joins the dots of a method and granularity.
    pub(super) joined: bool,
    /// Rows on the Pareto front, where it is drawn.
    pub(super) front: Option<&'a [bool]>,
    /// Horizontal line of the float model.
    pub(super) reference: Option<f64>,
}

impl Plot<'_> {
    pub(super) fn draw(&self, rows: &[CompareRow], series: &Series<'_>) -> String {
        let points: Vec<Option<Point>> = rows.iter().map(|row| self.point(row)).collect();
        let known = || points.iter().flatten();
        if known().next().is_none() {
            return String::new();
        }
        let (x_low, x_high) = range(known().map(|point| point.x));
        let (y_low, y_high) = range(known().map(|point| point.y).chain(self.reference));
        let x = Scale::new(x_low, x_high, 0.0, LINES_END);
        let y = Scale::new(y_low, y_high, f64::from(CANVAS.1), 0.0);
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
        if let Some(front) = self.front {
            body.push_str(&front_line(front, &points, x, y));
        }
        body.push_str(&self.lines(rows, &points, series, (x, y)));
        let marks: String = y_ticks
            .iter()
            .map(|(value, _)| {
                let (top, label) = (share(y.place(*value), CANVAS.1), (self.y_label)(*value));
                format!("<span class=\"mark\" style=\"top:{top:.1}%\">{label}</span>")
            })
            .collect();
        let axis: String = ticks(x_low, x_high, 8)
            .iter()
            .map(|(value, label)| {
                let left = share(x.place(*value), CANVAS.0);
                format!("<span style=\"left:{left:.1}%\">{label}</span>")
            })
            .collect();
        format!(
            "<div class=\"panel\"><h3>{title}</h3><figure class=\"plot\"><div class=\"canvas tall\">{picture}{marks}{names}\
             </div><div class=\"axis\">{axis}</div><figcaption>{x_name}. {note}<output></output></figcaption></figure></div>\n",
            title = self.title,
            picture = picture(
                self.id,
                CANVAS,
                self.title,
                "The table below has all numbers.",
                &body
            ),
            names = named(&self.names(rows, &points, series, (x, y)), series),
            x_name = self.x_name,
            note = self.note,
        )
    }

    fn point(&self, row: &CompareRow) -> Option<Point> {
        let (x, y) = (self.value)(row)?;
        (x.is_finite() && y.is_finite()).then(|| Point {
            x,
            y,
            said: said(row),
        })
    }

    /// Lines and dots of every method and granularity.
    fn lines(
        &self,
        rows: &[CompareRow],
        points: &[Option<Point>],
        series: &Series<'_>,
        (x, y): (Scale, Scale),
    ) -> String {
        let mut drawn = String::new();
        for (method, class) in series.iter() {
            let colour = series.look(method).map_or_else(String::new, |look| look.1);
            drawn.push_str(&format!("<g class=\"{class}\">"));
            for whole_tensor in [true, false] {
                let own = line(rows, points, method, whole_tensor);
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
                let mut dots = Path::default();
                for point in &own {
                    dots.dot(x.place(point.x), y.place(point.y));
                }
                let style = format!("stroke:{colour};stroke-width:8px;stroke-linecap:round");
                drawn.push_str(&styled(&dots, &style));
                // What a finger hits is larger than what is seen.
                for point in own {
                    drawn.push_str(&format!(
                        "<path class=\"hit\" d=\"M{} {}h0\"><title>{}</title></path>",
                        x.place(point.x),
                        y.place(point.y),
                        escape(&point.said)
                    ));
                }
            }
            drawn.push_str("</g>");
        }
        drawn
    }

    /// The names of methods: at the ends of lines, or at dots on the front.
    fn names<'a>(
        &self,
        rows: &'a [CompareRow],
        points: &[Option<Point>],
        series: &Series<'a>,
        (x, y): (Scale, Scale),
    ) -> Vec<Name<'a>> {
        if let Some(front) = self.front {
            let own = rows.iter().zip(points).zip(front).filter(|(_, on)| **on);
            let names = own.filter_map(|((row, point), _)| {
                let point = point.as_ref()?;
                Some(Name {
                    method: &row.method,
                    at: (x.place(point.x) + 8, y.place(point.y) + NAME.1 / 2),
                })
            });
            return without_overlaps(names.collect());
        }
        let mut names = Vec::new();
        for (method, _) in series.iter() {
            let ends = [false, true].map(|tensor| line(rows, points, method, tensor).pop());
            if let Some(end) = ends.into_iter().flatten().next() {
                names.push(Name {
                    method,
                    at: (x.place(end.x) + 8, y.place(end.y)),
                });
            }
        }
        let (mut shown, rest): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|name| series.is_shown(name.method));
        pushed_apart(&mut shown);
        shown.extend(rest);
        shown
    }
}

/// The points of a method per tensor or otherwise, from left to right.
fn line<'p>(
    rows: &[CompareRow],
    points: &'p [Option<Point>],
    method: &str,
    whole_tensor: bool,
) -> Vec<&'p Point> {
    let is_own =
        |row: &CompareRow| row.method == method && (row.granularity == "tensor") == whole_tensor;
    let own = rows.iter().zip(points).filter(|(row, _)| is_own(row));
    let mut own: Vec<&Point> = own.filter_map(|(_, point)| point.as_ref()).collect();
    own.sort_by(|a, b| a.x.total_cmp(&b.x));
    own
}

/// Least and greatest value with a margin around them.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    let margin = if high > low { 0.03 * (high - low) } else { 0.5 };
    (low - margin, high + margin)
}

/// Moves names of one column down, and up again where that leaves the canvas.
fn pushed_apart(names: &mut [Name<'_>]) {
    names.sort_by_key(|name| name.at.1);
    let mut free = NAME.1 / 2;
    for name in names.iter_mut() {
        name.at.1 = name.at.1.max(free);
        free = name.at.1 + NAME.1;
    }
    let mut last = CANVAS.1 - NAME.1 / 2;
    for name in names.iter_mut().rev() {
        name.at.1 = name.at.1.min(last);
        last = name.at.1 - NAME.1;
    }
}

/// Leaves out names that would lie over one before.
fn without_overlaps(names: Vec<Name<'_>>) -> Vec<Name<'_>> {
    let mut kept: Vec<Name<'_>> = Vec::new();
    for name in names {
        let lies_on = |other: &Name<'_>| {
            let (dx, dy) = (name.at.0 - other.at.0, name.at.1 - other.at.1);
            dx.abs() < NAME.0 && dy.abs() < NAME.1
        };
        if !kept.iter().any(lies_on) {
            kept.push(name);
        }
    }
    kept
}

fn named(names: &[Name<'_>], series: &Series<'_>) -> String {
    let mut text = String::new();
    for name in names {
        let Some((class, colour)) = series.look(name.method) else {
            continue;
        };
        text.push_str(&format!(
            "<span class=\"name {class}\" style=\"left:{:.1}%;top:{:.1}%;color:{colour}\">{}</span>",
            share(name.at.0, CANVAS.0),
            share(name.at.1, CANVAS.1),
            escape(name.method)
        ));
    }
    text
}

/// A place as a percentage of the whole.
fn share(place: i32, whole: i32) -> f64 {
    100.0 * f64::from(place) / f64::from(whole)
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
        "stroke:var(--muted);stroke-width:2px;fill:none",
    )
}

fn styled(path: &Path, style: &str) -> String {
    let commands = path.to_string();
    if commands.is_empty() {
        return String::new();
    }
    format!("<path style=\"{style}\" d=\"{commands}\" />")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tops: &[i32]) -> Vec<Name<'static>> {
        let name = |&top| Name {
            method: "ks",
            at: (100, top),
        };
        tops.iter().map(name).collect()
    }

    fn tops(names: &[Name<'_>]) -> Vec<i32> {
        names.iter().map(|name| name.at.1).collect()
    }

    #[test]
    fn names_of_a_column_do_not_overlap() {
        for places in [&[10, 10, 12, 400][..], &[490, 495, 480], &[250; 8]] {
            let mut names = names(places);
            pushed_apart(&mut names);
            let tops = tops(&names);
            assert!(
                tops.windows(2).all(|pair| pair[1] - pair[0] >= NAME.1),
                "{tops:?}"
            );
            assert!(
                tops.iter().all(|&top| (0..=CANVAS.1).contains(&top)),
                "{tops:?}"
            );
        }
    }

    #[test]
    fn names_over_others_are_left_out() {
        assert_eq!(tops(&without_overlaps(names(&[10, 20, 40, 50]))), [10, 40]);
    }
}
