//! Pictures as SVG: scales, ticks, compact paths, bars.
//!
//! A picture is drawn in whole units of a wide canvas, stretched to whatever
//! room the page has; strokes keep their width (`vector-effect` in the style),
//! dots are strokes of length zero with round caps, and text stands beside the
//! picture in HTML, where it keeps its size on a phone.

use std::fmt::{self, Write as _};

use crate::page::{escape, minus, significant};

/// A linear map from values to canvas units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// Maps `low` to `start` and `high` to `end`.
    pub(super) fn new(low: f64, high: f64, start: f64, end: f64) -> Self {
        Self {
            low,
            high,
            start,
            end,
        }
    }

    /// The place of `value`, kept within the canvas; of NaN, the start.
    pub(super) fn place(&self, value: f64) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        let share = if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        };
        (self.start + share * (self.end - self.start)).round() as i32
    }

    /// Whether `value` lies between both ends.
    pub(super) fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Round values between two others: multiples of 1, 2 or 5 times a power of
/// ten, at most `most` of them, with their labels.
pub(super) fn ticks(low: f64, high: f64, most: usize) -> Vec<(f64, String)> {
    let room = (high - low) / most.max(1) as f64;
    if !(room.is_finite() && room > 0.0) {
        return Vec::new();
    }
    let exponent = room.log10().floor() as i32;
    let step = [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|round| round * 10f64.powi(exponent))
        .find(|&step| step >= room * (1.0 - 1e-9));
    let Some(step) = step.filter(|step| step.is_normal()) else {
        return Vec::new();
    };
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    // Far from zero the step may be lost in rounding.
    let last = last.min(first.saturating_add(most as i64));
    let decimals = -(step.log10() + 1e-9).floor() as i32;
    (first..=last)
        .map(|multiple| {
            let value = multiple as f64 * step;
            let label = match decimals {
                0..=5 => minus(&format!("{value:.*}", decimals as usize)),
                -5..0 => minus(&format!("{value:.0}")),
                _ => significant(value, 2),
            };
            (value, label)
        })
        .collect()
}

/// The outline of shapes in as few characters as whole units allow.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    commands: String,
    at: (i32, i32),
}

impl Path {
    /// Begins a line at a point.
    pub(super) fn move_to(&mut self, x: i32, y: i32) {
        let _ = write!(self.commands, "M{x} {y}");
        self.at = (x, y);
    }

    /// Goes on to a point.
    pub(super) fn line_to(&mut self, x: i32, y: i32) {
        let (dx, dy) = (x - self.at.0, y - self.at.1);
        let _ = match (dx, dy) {
            (0, 0) => Ok(()),
            (_, 0) => write!(self.commands, "h{dx}"),
            (0, _) => write!(self.commands, "v{dy}"),
            // The sign of a negative number also separates.
            (_, ..0) => write!(self.commands, "l{dx}{dy}"),
            _ => write!(self.commands, "l{dx} {dy}"),
        };
        self.at = (x, y);
    }

    /// Closes the shape.
    pub(super) fn close(&mut self) {
        self.commands.push('z');
    }

    /// A dot, once it is stroked with round caps.
    pub(super) fn dot(&mut self, x: i32, y: i32) {
        self.move_to(x, y);
        self.commands.push_str("h0");
    }

    /// A line through points.
    pub(super) fn polyline(points: impl IntoIterator<Item = (i32, i32)>) -> Self {
        let mut path = Self::default();
        for (x, y) in points {
            if path.commands.is_empty() {
                path.move_to(x, y);
            } else {
                path.line_to(x, y);
            }
        }
        path
    }

    /// Bars side by side on a base line, as one shape: `edges` are one more
    /// than `tops`.
    pub(super) fn steps(edges: &[i32], tops: &[i32], base: i32) -> Self {
        let mut path = Self::default();
        if let Some(&first) = edges.first() {
            path.move_to(first, base);
        }
        let mut run = tops.iter().zip(edges.iter().skip(1)).peekable();
        while let Some((&top, &edge)) = run.next() {
            path.line_to(path.at.0, top);
            // Equal neighbours are one line.
            if run.peek().is_none_or(|&(&next, _)| next != top) {
                path.line_to(edge, top);
            }
        }
        path.line_to(path.at.0, base);
        path.close();
        path
    }

    /// The path as an element of a class.
    pub(super) fn element(&self, class: &str) -> String {
        if self.commands.is_empty() {
            return String::new();
        }
        format!("<path class=\"{class}\" d=\"{self}\" />")
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.commands)
    }
}

/// A picture with a title and a description for those who cannot see it, both
/// text; `id` is unique in the page, `body` is markup.
pub(super) fn picture(
    id: &str,
    size: (i32, i32),
    title: &str,
    description: &str,
    body: &str,
) -> String {
    format!(
        "<svg role=\"img\" aria-labelledby=\"{id}t {id}d\" viewBox=\"0 0 {} {}\" \
         preserveAspectRatio=\"none\"><title id=\"{id}t\">{}</title><desc id=\"{id}d\">{}</desc>{body}</svg>",
        size.0,
        size.1,
        escape(title),
        escape(description),
    )
}

/// A picture that says nothing the text beside it does not say.
pub(super) fn ornament(class: &str, size: (i32, i32), body: &str) -> String {
    format!(
        "<svg class=\"{class}\" aria-hidden=\"true\" viewBox=\"0 0 {} {}\" \
         preserveAspectRatio=\"none\">{body}</svg>",
        size.0, size.1
    )
}

/// A horizontal bar that fills a share of its room; `class` colours it.
pub(super) fn bar(share: f64, class: &str) -> String {
    stacked_bar(&[(share, class)])
}

/// Parts of a horizontal bar one after another, each a share of its room and
/// the class that colours it.
pub(super) fn stacked_bar(parts: &[(f64, impl fmt::Display)]) -> String {
    let mut drawn = String::new();
    for (share, class) in parts {
        let share = if share.is_nan() { 0.0 } else { *share };
        let width = 100.0 * share.clamp(0.0, 1.0);
        let _ = write!(
            drawn,
            "<i class=\"{class}\" style=\"width:{width:.1}%\"></i>"
        );
    }
    format!("<span class=\"bar\">{drawn}</span>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_keep_every_value_on_the_canvas() {
        let scale = Scale::new(-1.0, 1.0, 0.0, 100.0);
        let places = [-1.0, 0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        assert_eq!(places.map(|v| scale.place(v)), [0, 50, 100, 100, 0, 0]);
        let empty = Scale::new(1.0, 1.0, 0.0, 100.0);
        assert_eq!(empty.place(1.0), 0);
    }

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |low, high| {
            let ticks = ticks(low, high, 5);
            ticks
                .into_iter()
                .map(|(_, label)| label)
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(-0.23, 0.31), ["−0.2", "0.0", "0.2"]);
        assert_eq!(labels(0.0, 10.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(-3e7, 3e7), ["−2.0e7", "0", "2.0e7"]);
        assert_eq!(labels(0.0, 3e-9)[1], "1.0e-9");
        for (low, high) in [
            (0.0, 0.0),
            (1.0, f64::NAN),
            (0.0, f64::INFINITY),
            (0.0, 5e-324),
        ] {
            assert!(ticks(low, high, 5).is_empty());
        }
        assert!(ticks(1e30, 1e30 + 1e15, 5).len() <= 6);
    }

    #[test]
    fn paths_are_relative_and_merge_equal_steps() {
        let path = Path::polyline([(0, 5), (10, 5), (20, 3), (20, 8), (30, 9)]);
        assert_eq!(path.to_string(), "M0 5h10l10-2v5l10 1");
        let steps = Path::steps(&[0, 10, 20, 30], &[5, 5, 2], 9);
        assert_eq!(steps.to_string(), "M0 9v-4h20v-3h10v7z");
    }
}
