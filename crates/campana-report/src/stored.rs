//! The card of a quantized tensor: its weights and the levels that replaced
//! them, the error of each channel, and what was stored.

use campana_quantize::Sharing;

use crate::chart::{self, Path, Scale};
use crate::distribution::{Quantizer, figure, is_constant};
use crate::page::{bytes, decibels, escape, fixed, percent, plural, shape, significant, thousands};
use crate::row::Row;
use crate::tensor::{badge, closeness, predicted_sqnr_db};

/// Columns of the chart of channels; of more channels several share one.
const MAX_COLUMNS: usize = 128;

/// The card; its anchor is `t{index}`.
pub(super) fn card(row: &Row<'_>) -> String {
    let Row { report, stored } = row;
    let (index, weights) = (stored.index, &stored.weights);
    let count: u64 = report.shape.iter().map(|&dim| dim as u64).product();
    let picture = figure(&format!("p{index}"), weights, Quantizer::stored(stored));
    let left = if picture.is_empty() {
        "<p class=\"note\">All weights are equal: there is no distribution to draw.</p>".to_owned()
    } else {
        picture
    };
    let curves = if is_constant(weights) {
        String::new()
    } else {
        closeness(weights)
    };
    format!(
        "<section class=\"card\" id=\"t{index}\">\n\
         <header><h3><bdi>{name}</bdi></h3>{badge}<a class=\"up\" href=\"#tensors\">↑ table</a>\n\
         <p class=\"meta\">{op} · {shape} · {count}</p></header>\n\
         <div class=\"columns\">\n{left}\n<div class=\"facts\">\n{verdict}{vectors}{channels}{curves}{numbers}</div>\n</div>\n</section>\n",
        name = escape(&report.name),
        badge = badge(weights),
        op = escape(&report.op),
        shape = shape(&report.shape),
        count = plural(count, "weight"),
        verdict = verdict(row),
        vectors = vectors(row),
        channels = channels(row),
        numbers = numbers(row),
    )
}

fn verdict(row: &Row<'_>) -> String {
    let levels = match row.stored.sharing {
        Sharing::Same => "one set of levels for all weights",
        Sharing::Scaled => "one set of levels, and a scale for each channel",
        Sharing::Own => "levels of its own for each channel",
        Sharing::Vectors => "256 vectors of weights, and a scale for each channel",
    };
    let bits = row.report.bits.unwrap_or_default();
    format!(
        "<p><b>{}: the error is {} of a typical weight</b>, with {levels}.</p>\n",
        plural(u64::from(bits), "bit"),
        percent(row.error()),
    )
}

/// The first two weights of each vector of a codebook as dots.
fn vectors(row: &Row<'_>) -> String {
    const SIDE: i32 = 600;
    let Some(codebook) = &row.stored.vectors else {
        return String::new();
    };
    let values = &codebook.values;
    let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
    let scale = |start, end| Scale::new(-f64::from(largest), f64::from(largest), start, end);
    let side = f64::from(SIDE);
    let [across, up] = [scale(0.0, side), scale(side, 0.0)];
    let mut dots = Path::default();
    for vector in values.chunks_exact(codebook.dimension) {
        let [x, y] = [vector[0], vector[1]].map(f64::from);
        dots.dot(across.place(x), up.place(y));
    }
    let said = format!(
        "a byte names one of them: {} at once; shown are the first two of each",
        plural(codebook.dimension as u64, "weight"),
    );
    let middle = SIDE / 2;
    let axes = [
        Path::polyline([(0, middle), (SIDE, middle)]),
        Path::polyline([(middle, 0), (middle, SIDE)]),
    ];
    let picture = chart::picture(
        &format!("v{}", row.stored.index),
        (SIDE, SIDE),
        "The codebook of vectors",
        &format!("256 vectors: {said}."),
        &format!(
            "{}{}",
            axes.map(|axis| axis.element("base")).concat(),
            dots.element("levels many"),
        ),
    );
    format!(
        "<h4>Codebook <small>256 vectors of {}</small></h4>\n<div class=\"vectors\">{picture}</div>\n\
         <p class=\"caption\">{said}</p>\n",
        plural(codebook.dimension as u64, "weight"),
    )
}

/// The error of each channel as columns, and which is the worst.
fn channels(row: &Row<'_>) -> String {
    const COLUMN: i32 = 10;
    const HEIGHT: i32 = 200;
    let errors = &row.stored.channel_errors;
    let Some((worst, error)) = row.worst_channel() else {
        return String::new();
    };
    let merged = errors.len().div_ceil(MAX_COLUMNS);
    let columns: Vec<f64> = errors
        .chunks(merged)
        .map(|channels| channels.iter().copied().fold(0.0, f64::max))
        .collect();
    let highest = columns.iter().copied().fold(0.0, f64::max);
    let scale = Scale::new(
        0.0,
        if highest > 0.0 { highest } else { 1.0 },
        f64::from(HEIGHT),
        4.0,
    );
    let edges: Vec<i32> = (0..=columns.len() as i32).map(|at| at * COLUMN).collect();
    let tops: Vec<i32> = columns.iter().map(|&error| scale.place(error)).collect();
    let mut shapes = Path::steps(&edges, &tops, HEIGHT).element("column");
    let at = worst / merged;
    let marked = Path::steps(&edges[at..at + 2], &tops[at..=at], HEIGHT);
    shapes.push_str(&marked.element("column hurt"));
    let average = scale.place(row.error());
    let line = Path::polyline([(0, average), (COLUMN * columns.len() as i32, average)]);
    shapes.push_str(&line.element("average"));
    let off = errors.iter().filter(|error| error.is_nan()).count();
    let mut said = if error == 0.0 {
        "no channel has any error".to_owned()
    } else {
        format!(
            "channel {} has the most, {}; the line is all of them together",
            thousands(worst as u64),
            percent(error),
        )
    };
    if off > 0 {
        said.push_str(&format!(
            "; {} off, with next to no weights",
            plural_are(off as u64)
        ));
    }
    let picture = chart::picture(
        &format!("q{}", row.stored.index),
        (COLUMN * columns.len() as i32, HEIGHT),
        "Error of each output channel",
        &format!("{}: {said}.", plural(errors.len() as u64, "channel")),
        &shapes,
    );
    format!(
        "<h4>Error by channel <small>{}</small></h4>\n<div class=\"quality\">{picture}\n\
         <p class=\"caption\">{said}</p></div>\n",
        plural(errors.len() as u64, "channel"),
    )
}

/// `1 channel is`, `2 channels are`.
fn plural_are(channels: u64) -> String {
    let verb = if channels == 1 { "is" } else { "are" };
    format!("{} {verb}", plural(channels, "channel"))
}

fn numbers(row: &Row<'_>) -> String {
    let Row { report, stored } = row;
    let bits = report.bits.unwrap_or_default();
    let mut rows = vec![
        (
            "SQNR",
            format!("{} dB", decibels(report.sqnr_db.unwrap_or(f64::INFINITY))),
        ),
        ("bits a weight as stored", fixed(report.bits_per_weight, 2)),
        (
            "bytes",
            format!(
                "{} → {}",
                bytes(report.input_bytes),
                bytes(report.output_bytes)
            ),
        ),
        (
            "method",
            escape(report.method.as_deref().unwrap_or_default()).to_string(),
        ),
        ("kurtosis", significant(stored.weights.kurtosis, 3)),
    ];
    if let Some(predicted) = predicted_sqnr_db(&stored.weights, bits).filter(|db| db.is_finite()) {
        rows.insert(
            1,
            ("the curve predicts", format!("{} dB", decibels(predicted))),
        );
    }
    if let Some([low, high]) = report.clip {
        rows.push((
            "lowest and highest level",
            format!(
                "{} to {}",
                significant(f64::from(low), 3),
                significant(f64::from(high), 3)
            ),
        ));
    }
    let rows: String = rows
        .into_iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"))
        .collect();
    format!("<dl class=\"numbers\">\n{rows}</dl>\n")
}
