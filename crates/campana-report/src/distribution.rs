//! The picture of a tensor: its histogram, both fitted densities, and the
//! optimal quantizer of the closer one.

use campana_design::lloyd_max;
use campana_design::{Distribution, Family};
use campana_quantize::inspect::{Histogram, TensorInspection};
use campana_quantize::{Sharing, StoredTensor};

use crate::chart::{self, Path, Scale, ticks};
use crate::page::{capitalized, percent, plural, significant};

/// Canvas units of a histogram bin.
const BIN_WIDTH: i32 = 20;

/// Canvas units of the space for the bars and curves.
const HEIGHT: i32 = 600;

/// Canvas units of the strip below, which holds the levels.
const STRIP: i32 = 60;

/// The picture reaches at least so far to either side of the mean, that
/// pictures of short-tailed and long-tailed tensors can be compared.
const MIN_REACH_DEVIATIONS: f64 = 4.0;

/// Points of a density's curve in each bin of the histogram.
const POINTS_PER_BIN: i32 = 2;

/// Up to so many thresholds cross the whole picture; more of them would hide
/// it, and stay in the strip.
const MAX_LONG_THRESHOLDS: usize = 31;

/// A bin may be so many times as high as the higher density before it is cut.
const MAX_BIN_OVER_DENSITY: f64 = 1.6;

/// The quantizer that the picture shows.
pub(super) struct Quantizer {
    pub(super) levels: Vec<f64>,
    /// Empty where groups of weights have levels of their own, which no
    /// common thresholds part.
    pub(super) thresholds: Vec<f64>,
    /// What the levels are, as a part of a sentence.
    pub(super) said: String,
    /// What the horizontal axis shows.
    pub(super) unit: &'static str,
}

impl Quantizer {
    /// What has the least mean squared error for the fitted density: the
    /// Lloyd–Max table of its family, shifted and scaled.
    pub(super) fn optimal(fit: &Distribution, bits: u8) -> Self {
        let table = lloyd_max::table(fit.family, bits);
        let moved = |values: &[f64]| {
            let place = |value| fit.location + fit.std() * value;
            values.iter().copied().map(place).collect()
        };
        Self {
            levels: moved(&table.levels),
            thresholds: moved(&table.thresholds),
            said: format!("Its optimal {bits}-bit quantizer has"),
            unit: "value of a weight",
        }
    }

    /// Levels that were stored, ascending; those in common are parted by
    /// thresholds midway between them.
    pub(super) fn stored(tensor: &StoredTensor) -> Self {
        let levels: Vec<f64> = tensor.levels.iter().map(|&level| level.into()).collect();
        let midway = |pair: &[f64]| 0.5 * (pair[0] + pair[1]);
        let (thresholds, said, unit) = match tensor.sharing {
            Sharing::Same => (true, "Stored are", "value of a weight"),
            Sharing::Scaled => (
                true,
                "Stored for all channels together are",
                "value of a weight in its channel's scale",
            ),
            Sharing::Own => (false, "Stored for all channels are", "value of a weight"),
            Sharing::Vectors => (
                false,
                "The vectors that are stored have components of",
                "value of a weight in its channel's scale",
            ),
        };
        Self {
            thresholds: if thresholds {
                levels.windows(2).map(midway).collect()
            } else {
                Vec::new()
            },
            levels,
            said: said.to_owned(),
            unit,
        }
    }
}

/// The fits of a tensor, Gaussian first.
pub(super) fn fits(tensor: &TensorInspection) -> [Distribution; 2] {
    [
        (Family::Gaussian, tensor.gaussian),
        (Family::Laplace, tensor.laplace),
    ]
    .map(|(family, [location, scale])| Distribution {
        family,
        location,
        scale,
    })
}

/// A figure with a legend, the picture on a linear and on a logarithmic scale
/// (the style shows one of them), and its axis; nothing for a tensor whose
/// weights are all equal.
pub(super) fn figure(id: &str, tensor: &TensorInspection, quantizer: Quantizer) -> String {
    let Some(plot) = Plot::new(tensor, quantizer) else {
        return String::new();
    };
    let lines = plot.vertical_ticks();
    let picture = chart::picture(
        id,
        (plot.width, HEIGHT + STRIP),
        &format!("Distribution of the weights of {}", tensor.name),
        &plot.description(),
        &format!(
            "{under}<g class=\"lin\">{linear}</g><g class=\"log\">{log}</g>{over}",
            under = plot.outside(),
            linear = plot.shapes(&plot.linear),
            log = plot.shapes(&plot.logarithmic),
            over = plot.quantizer_marks(),
        ),
    );
    format!(
        "<figure class=\"plot\">\n{legend}\n<div class=\"canvas\">{picture}{lines}</div>\n\
         <div class=\"axis\" aria-hidden=\"true\">{axis}</div>\n\
         <figcaption>{unit}{beyond}{cut}</figcaption></figure>",
        unit = plot.quantizer.unit,
        legend = plot.legend(),
        axis = plot.axis(),
        beyond = plot.beyond(),
        cut = plot.cut(),
    )
}

/// The histogram alone, small.
pub(super) fn thumbnail(tensor: &TensorInspection) -> String {
    const BINS: usize = 48;
    let counts = &tensor.histogram.counts;
    if counts.is_empty() || is_constant(tensor) {
        return String::new();
    }
    // The middle two thirds: four deviations to either side.
    let skipped = counts.len() / 6;
    let middle = &counts[skipped..counts.len() - skipped];
    let merged: Vec<u64> = middle
        .chunks(middle.len().div_ceil(BINS))
        .map(|bins| bins.iter().map(|&count| u64::from(count)).sum())
        .collect();
    let highest = merged.iter().copied().max().unwrap_or(0).max(1);
    let scale = Scale::new(0.0, highest as f64, 30.0, 1.0);
    let tops: Vec<i32> = merged.iter().map(|&n| scale.place(n as f64)).collect();
    let edges: Vec<i32> = (0..=merged.len() as i32).map(|bin| 2 * bin).collect();
    let size = (2 * merged.len() as i32, 30);
    chart::ornament(
        "thumbnail",
        size,
        &Path::steps(&edges, &tops, 30).element(&tensor_class(tensor)),
    )
}

/// Whether all weights of a tensor are equal.
pub(super) fn is_constant(tensor: &TensorInspection) -> bool {
    tensor.std == 0.0 || tensor.min == tensor.max
}

/// The class that colours what belongs to a tensor's family.
pub(super) fn tensor_class(tensor: &TensorInspection) -> String {
    tensor
        .fitted
        .filter(|_| !is_constant(tensor))
        .map_or("", |fit| family_class(fit.family))
        .to_owned()
}

fn family_class(family: Family) -> &'static str {
    match family {
        Family::Gaussian => "gaussian",
        Family::Laplace => "laplace",
        _ => "",
    }
}

/// Vertical scale of shares of all weights in one bin.
struct Vertical {
    scale: Scale,
    logarithmic: bool,
    /// Places of round shares, with their labels.
    marks: Vec<(i32, String)>,
}

impl Vertical {
    fn place(&self, share: f64) -> i32 {
        // The logarithm of 0 is minus infinity and ends at the base line.
        self.scale.place(if self.logarithmic {
            share.log10()
        } else {
            share
        })
    }
}

struct Plot<'a> {
    tensor: &'a TensorInspection,
    fits: [Distribution; 2],
    chosen: Distribution,
    quantizer: Quantizer,
    /// Share of the weights in each bin that is drawn.
    shares: Vec<f64>,
    /// Values at the left and right edge.
    range: (f64, f64),
    horizontal: Scale,
    width: i32,
    linear: Vertical,
    logarithmic: Vertical,
}

impl<'a> Plot<'a> {
    fn new(tensor: &'a TensorInspection, quantizer: Quantizer) -> Option<Self> {
        let histogram = &tensor.histogram;
        let chosen = tensor.fitted?;
        let total: f64 = histogram.counts.iter().map(|&count| f64::from(count)).sum();
        let bin = bin_width(histogram);
        if is_constant(tensor)
            || quantizer.levels.is_empty()
            || !(bin.is_normal() && chosen.scale > 0.0 && total > 0.0)
        {
            return None;
        }
        let bins = drawn_bins(tensor, &quantizer);
        let range = (
            histogram.low + bin * bins.start as f64,
            histogram.low + bin * bins.end as f64,
        );
        let width = bins.len() as i32 * BIN_WIDTH;
        let counts = &histogram.counts[bins];
        let shares: Vec<f64> = counts.iter().map(|&n| f64::from(n) / total).collect();
        let fits = fits(tensor);
        let highest_bin = shares.iter().copied().fold(0.0, f64::max);
        let highest_density = fits
            .iter()
            .map(|fit| fit.pdf(fit.location) * bin)
            .filter(|density| density.is_finite())
            .fold(0.0, f64::max);
        let top =
            1.06 * highest_density.max(highest_bin.min(MAX_BIN_OVER_DENSITY * highest_density));
        let (base, height) = (f64::from(HEIGHT), 0.0);
        let scale = Scale::new(0.0, top, base, height);
        let linear = Vertical {
            scale,
            logarithmic: false,
            marks: ticks(0.0, 100.0 * top, 5)
                .into_iter()
                .skip(1)
                .map(|(value, label)| (scale.place(value / 100.0), label))
                .collect(),
        };
        // Half of one weight is as little as a bin can tell.
        let lowest = (0.5 / total).log10();
        let highest = highest_bin.max(highest_density).log10() + 0.15;
        let scale = Scale::new(lowest, highest, base, height);
        let logarithmic = Vertical {
            scale,
            logarithmic: true,
            marks: (lowest.ceil() as i32..=highest.floor() as i32)
                .map(|exponent| {
                    let label = significant(10f64.powi(exponent + 2), 1);
                    (scale.place(f64::from(exponent)), label)
                })
                .collect(),
        };
        Some(Self {
            tensor,
            fits,
            chosen,
            quantizer,
            shares,
            range,
            horizontal: Scale::new(range.0, range.1, 0.0, f64::from(width)),
            width,
            linear,
            logarithmic,
        })
    }

    /// The bars and both curves, the chosen one on top.
    fn shapes(&self, vertical: &Vertical) -> String {
        let edges: Vec<i32> = (0..=self.shares.len() as i32)
            .map(|bin| bin * BIN_WIDTH)
            .collect();
        let tops: Vec<i32> = self.shares.iter().map(|&s| vertical.place(s)).collect();
        let mut shapes = Path::steps(&edges, &tops, HEIGHT).element("bins");
        let mut ordered = self.fits;
        ordered.sort_by_key(|fit| fit.family == self.chosen.family);
        for fit in &ordered {
            let class = family_class(fit.family);
            let kind = if fit.family == self.chosen.family {
                "chosen"
            } else {
                "other"
            };
            shapes.push_str(
                &self
                    .curve(fit, vertical)
                    .element(&format!("curve {kind} {class}")),
            );
        }
        shapes
    }

    fn curve(&self, fit: &Distribution, vertical: &Vertical) -> Path {
        let bin = bin_width(&self.tensor.histogram);
        let point = |value: f64| {
            let share = fit.pdf(value) * bin;
            (self.horizontal.place(value), vertical.place(share))
        };
        let points = self.shares.len() as i32 * POINTS_PER_BIN;
        let step = bin / f64::from(POINTS_PER_BIN);
        let mut values: Vec<f64> = (0..=points)
            .map(|index| self.range.0 + step * f64::from(index))
            .collect();
        // The peak of a Laplace density is sharp and must be met.
        if self.horizontal.holds(fit.location) {
            values.push(fit.location);
            values.sort_by(f64::total_cmp);
        }
        // Below half a weight a logarithmic curve has left the picture.
        let shown = |point: &(i32, i32)| !vertical.logarithmic || point.1 < HEIGHT;
        Path::polyline(values.into_iter().map(point).filter(shown))
    }

    /// Shades what lies outside of the clipping range.
    fn outside(&self) -> String {
        let levels = &self.quantizer.levels;
        let (Some(&lowest), Some(&highest)) = (levels.first(), levels.last()) else {
            return String::new();
        };
        let (left, right) = (
            self.horizontal.place(lowest),
            self.horizontal.place(highest),
        );
        let mut path = Path::default();
        for (start, end) in [(0, left), (right, self.width)] {
            path.move_to(start, 0);
            path.line_to(end, 0);
            path.line_to(end, HEIGHT + STRIP);
            path.line_to(start, HEIGHT + STRIP);
            path.close();
        }
        path.element("outside")
    }

    /// Thresholds as lines, levels as dots.
    fn quantizer_marks(&self) -> String {
        let long = self.quantizer.thresholds.len() <= MAX_LONG_THRESHOLDS;
        let start = if long { 0 } else { HEIGHT };
        let mut lines = Path::default();
        for &threshold in self.visible(&self.quantizer.thresholds) {
            let x = self.horizontal.place(threshold);
            lines.move_to(x, start);
            lines.line_to(x, HEIGHT + STRIP);
        }
        let few = self.quantizer.levels.len() <= MAX_LONG_THRESHOLDS + 1;
        let mut dots = Path::default();
        let mut last = None;
        for &level in self.visible(&self.quantizer.levels) {
            let x = self.horizontal.place(level);
            // Many levels may share one place of the canvas.
            if last.replace(x) != Some(x) {
                dots.dot(x, HEIGHT + STRIP / 2);
            }
        }
        let base = Path::polyline([(0, HEIGHT), (self.width, HEIGHT)]).element("base");
        let density = if few { "levels" } else { "levels many" };
        format!(
            "{}{base}{}",
            lines.element("thresholds"),
            dots.element(density)
        )
    }

    fn visible<'b>(&self, values: &'b [f64]) -> impl Iterator<Item = &'b f64> {
        let horizontal = self.horizontal;
        values.iter().filter(move |&&value| horizontal.holds(value))
    }

    /// Labels of the vertical scales, beside the picture.
    fn vertical_ticks(&self) -> String {
        let mut labels = String::new();
        for (class, vertical) in [("lin", &self.linear), ("log", &self.logarithmic)] {
            for (place, label) in &vertical.marks {
                let top = 100.0 * f64::from(*place) / f64::from(HEIGHT + STRIP);
                labels.push_str(&format!(
                    "<span class=\"mark {class}\" style=\"top:{top:.1}%\" aria-hidden=\"true\">{label} %</span>",
                ));
            }
        }
        labels
    }

    fn axis(&self) -> String {
        let place = |value| 100.0 * f64::from(self.horizontal.place(value)) / f64::from(self.width);
        ticks(self.range.0, self.range.1, 8)
            .into_iter()
            .map(|(value, label)| {
                format!("<span style=\"left:{:.1}%\">{label}</span>", place(value))
            })
            .collect()
    }

    fn legend(&self) -> String {
        let curve = |fit: &Distribution| {
            let chosen = fit.family == self.chosen.family;
            format!(
                "<li class=\"{}{}\"><i class=\"key line {}\"></i>{}</li>",
                family_class(fit.family),
                if chosen { " closer" } else { "" },
                if chosen { "chosen" } else { "other" },
                capitalized(fit.family.as_str()),
            )
        };
        format!(
            "<ul class=\"legend\"><li><i class=\"key bins\"></i>weights</li>{}{}\
             <li><i class=\"key dot\"></i>{}</li>{}</ul>",
            curve(&self.fits[0]),
            curve(&self.fits[1]),
            plural(self.quantizer.levels.len() as u64, "level"),
            if self.quantizer.thresholds.is_empty() {
                ""
            } else {
                "<li><i class=\"key threshold\"></i>thresholds</li>"
            },
        )
    }

    /// Says how many weights the picture's edges cut off, if any.
    fn beyond(&self) -> String {
        let (low, high) = self.range;
        let (min, max) = (f64::from(self.tensor.min), f64::from(self.tensor.max));
        if min >= low && max <= high {
            return String::new();
        }
        format!(
            "; the picture ends at {} and {}, the weights at {} and {}, the rest is counted at the edges",
            significant(low, 2),
            significant(high, 2),
            significant(min, 2),
            significant(max, 2),
        )
    }

    /// Says how high the highest bar is where the linear scale cuts it.
    fn cut(&self) -> String {
        let highest = self.shares.iter().copied().fold(0.0, f64::max);
        if self.linear.scale.holds(highest) {
            return String::new();
        }
        format!(
            "<span class=\"lin\">; the highest bar, {}, is cut</span>",
            percent(highest)
        )
    }

    fn description(&self) -> String {
        let levels = &self.quantizer.levels;
        format!(
            "Histogram of {}, from {} to {}, most of them near {}. The fitted {} density is closer than the other. \
             {} {} levels from {} to {}. Weights beyond 4 standard deviations: {}.",
            plural(self.tensor.count, "weight"),
            significant(f64::from(self.tensor.min), 3),
            significant(f64::from(self.tensor.max), 3),
            significant(self.chosen.location, 2),
            capitalized(self.chosen.family.as_str()),
            self.quantizer.said,
            levels.len(),
            significant(levels[0], 3),
            significant(levels[levels.len() - 1], 3),
            percent(self.tensor.outliers as f64 / self.tensor.count.max(1) as f64),
        )
    }
}

fn bin_width(histogram: &Histogram) -> f64 {
    (histogram.high - histogram.low) / histogram.counts.len() as f64
}

/// The bins from the first to the last that holds a weight or a level, and
/// those near the mean.
fn drawn_bins(tensor: &TensorInspection, quantizer: &Quantizer) -> std::ops::Range<usize> {
    let histogram = &tensor.histogram;
    let bins = histogram.counts.len();
    let place = |value: f64| (value - histogram.low) / bin_width(histogram);
    let reach = MIN_REACH_DEVIATIONS * tensor.std;
    let full = |count: &u32| *count > 0;
    let mut first = histogram.counts.iter().position(full).unwrap_or(0);
    let mut last = histogram.counts.iter().rposition(full).unwrap_or(0) + 1;
    for value in [
        tensor.mean - reach,
        tensor.mean + reach,
        quantizer.levels[0],
        quantizer.levels[quantizer.levels.len() - 1],
    ] {
        // Half a bin more leaves room for a dot; what is negative becomes 0.
        first = first.min((place(value) - 0.5).floor() as usize);
        last = last.max((place(value) + 0.5).ceil() as usize);
    }
    first..last.min(bins)
}
