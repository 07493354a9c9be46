//! The card of a tensor: its picture, which density is closer and why, and
//! what each bit width would cost.

use campana_design::Family;
use campana_quantize::inspect::{OUTLIER_DEVIATIONS, TensorInspection};

use crate::chart::{self, Path, Scale};
use crate::distribution::{Quantizer, figure, is_constant, tensor_class};
use crate::page::{
    capitalized, decibels, escape, percent, plural, relative_error, shape, significant,
};

/// Kurtosis this many times that of the fitted family, or one over it, is
/// worth a word about the tails.
const NOTABLE_KURTOSIS_RATIO: f64 = 1.3;

/// With fewer weights a fit says little.
const FEW_WEIGHTS: u64 = 200;

/// The card; `index` makes its anchor `t{index}` and its ids unique.
pub(super) fn card(index: usize, tensor: &TensorInspection, bits: u8) -> String {
    format!(
        "<section class=\"card\" id=\"t{index}\">\n\
         <header><h3><bdi>{name}</bdi></h3>{badge}<a class=\"up\" href=\"#tensors\">↑ table</a>\n\
         <p class=\"meta\">{op} · {shape} · {count}</p></header>\n\
         <div class=\"columns\">\n{left}\n<div class=\"facts\">\n{right}</div>\n</div>\n</section>\n",
        name = escape(&tensor.name),
        badge = badge(tensor),
        op = escape(&tensor.op),
        shape = shape(&tensor.shape),
        count = plural(tensor.count, "weight"),
        left = if is_constant(tensor) {
            constant_note(tensor)
        } else {
            optimal_figure(index, tensor, bits)
        },
        right = if is_constant(tensor) {
            numbers(tensor)
        } else {
            [
                closeness(tensor),
                prediction(index, tensor, bits),
                numbers(tensor),
            ]
            .concat()
        },
    )
}

/// The picture with the quantizer that is optimal for the closer density.
fn optimal_figure(index: usize, tensor: &TensorInspection, bits: u8) -> String {
    let Some(fit) = &tensor.fitted else {
        return String::new();
    };
    figure(&format!("p{index}"), tensor, Quantizer::optimal(fit, bits))
}

/// The family's name in its colour.
pub(super) fn badge(tensor: &TensorInspection) -> String {
    format!(
        "<span class=\"badge {}\">{}</span>",
        tensor_class(tensor),
        escape(&family_name(tensor))
    )
}

/// The family's name as text; weights that are all equal belong to none.
pub(super) fn family_name(tensor: &TensorInspection) -> String {
    if is_constant(tensor) {
        "Constant".to_owned()
    } else {
        capitalized(&tensor.family)
    }
}

/// The share of the weights that are outliers.
pub(super) fn outlier_share(tensor: &TensorInspection) -> f64 {
    tensor.outliers as f64 / tensor.count.max(1) as f64
}

fn constant_note(tensor: &TensorInspection) -> String {
    format!(
        "<p class=\"note\">Every weight is {}: a single level stores this tensor without any error, and there is no \
         distribution to draw.</p>",
        significant(f64::from(tensor.min), 4)
    )
}

/// D of both families as bars, and a sentence.
pub(super) fn closeness(tensor: &TensorInspection) -> String {
    let rows = [
        (Family::Gaussian, "gaussian", tensor.d_gaussian),
        (Family::Laplace, "laplace", tensor.d_laplace),
    ];
    let widest = tensor.d_gaussian.max(tensor.d_laplace);
    let bars: String = rows
        .iter()
        .map(|(family, class, d)| {
            let chosen = tensor.fitted.is_some_and(|fit| fit.family == *family);
            format!(
                "<li{}><span>{}</span>{}<b>{}</b></li>\n",
                if chosen { " class=\"closer\"" } else { "" },
                capitalized(family.as_str()),
                chart::bar(d / widest, class),
                significant(*d, 3),
            )
        })
        .collect();
    format!(
        "<h4>Which curve is closer? <small>D, less is closer</small></h4>\n<ul class=\"bars\">\n{bars}</ul>\n<p>{}{}</p>\n",
        verdict(tensor),
        caveat(tensor)
    )
}

fn verdict(tensor: &TensorInspection) -> String {
    let (gaussian, laplace) = (tensor.d_gaussian, tensor.d_laplace);
    if gaussian == laplace {
        return "Both curves are equally far from the weights; the Gaussian is taken.".to_owned();
    }
    let (closer, d, other, other_d) = if laplace < gaussian {
        ("Laplace", laplace, "Gaussian", gaussian)
    } else {
        ("Gaussian", gaussian, "Laplace", laplace)
    };
    format!(
        "<b>{closer}.</b> Where it is farthest off, this curve misplaces {} of the weights; the {other} {}.",
        percent(d),
        percent(other_d),
    )
}

/// What D does not see.
fn caveat(tensor: &TensorInspection) -> String {
    let Some(fit) = tensor.fitted else {
        return String::new();
    };
    if tensor.count < FEW_WEIGHTS {
        return " So few weights say little about any curve.".to_owned();
    }
    let expected = family_kurtosis(fit.family);
    let ratio = tensor.kurtosis / expected;
    let tails = if ratio > NOTABLE_KURTOSIS_RATIO {
        "longer, so the prediction is optimistic"
    } else if ratio < 1.0 / NOTABLE_KURTOSIS_RATIO {
        "shorter, so the prediction is cautious"
    } else {
        return String::new();
    };
    format!(
        " The tails of the weights are {tails} (kurtosis {}, this curve {expected}).",
        significant(tensor.kurtosis, 2),
    )
}

fn family_kurtosis(family: Family) -> f64 {
    match family {
        Family::Laplace => 6.0,
        _ => 3.0,
    }
}

/// Predicted SQNR at 1 to 8 bits as columns, and a sentence about `bits`.
fn prediction(index: usize, tensor: &TensorInspection, bits: u8) -> String {
    const COLUMN: i32 = 100;
    const GAP: i32 = 12;
    const HEIGHT: i32 = 200;
    let values: Vec<(u8, f64)> = (1..=8)
        .filter_map(|bits| Some((bits, predicted_sqnr_db(tensor, bits)?)))
        .collect();
    let highest = values
        .iter()
        .map(|&(_, db)| db)
        .filter(|db| db.is_finite())
        .fold(1.0, f64::max);
    let scale = Scale::new(0.0, highest, f64::from(HEIGHT), 0.0);
    let (mut shapes, mut labels, mut spoken) = (String::new(), String::new(), Vec::new());
    for (column, &(width, db)) in values.iter().enumerate() {
        let left = column as i32 * COLUMN + GAP;
        let right = left + COLUMN - 2 * GAP;
        let chosen = width == bits;
        let path = Path::steps(&[left, right], &[scale.place(db)], HEIGHT);
        shapes.push_str(&path.element(if chosen { "column chosen" } else { "column" }));
        labels.push_str(&format!(
            "<span{}>{}<b>{width}</b></span>",
            if chosen { " class=\"chosen\"" } else { "" },
            rounded_decibels(db),
        ));
        spoken.push(format!("{width}: {}", decibels(db)));
    }
    let picture = chart::picture(
        &format!("q{index}"),
        (values.len().max(1) as i32 * COLUMN, HEIGHT),
        "Predicted SQNR by bits a weight",
        &format!("In dB: {}.", spoken.join(", ")),
        &shapes,
    );
    format!(
        "<h4>What would each bit width keep? <small>predicted SQNR in dB</small></h4>\n\
         <div class=\"quality\">{picture}<div class=\"labels\" aria-hidden=\"true\">{labels}</div>\
         <p class=\"caption\" aria-hidden=\"true\">bits a weight</p></div>\n{}",
        predicted_sqnr_db(tensor, bits).map_or_else(String::new, |db| {
            format!("<p>{}</p>\n", in_words(bits, db))
        }),
    )
}

fn rounded_decibels(db: f64) -> String {
    if db == f64::INFINITY {
        "∞".to_owned()
    } else {
        crate::page::fixed(db, 0)
    }
}

/// What an SQNR means: the error beside the weights.
fn in_words(bits: u8, db: f64) -> String {
    format!(
        "At {}: {} dB, the error is {} of a typical weight.",
        plural(u64::from(bits), "bit"),
        decibels(db),
        percent(relative_error(db)),
    )
}

/// The prediction for a bit width, where there is one.
pub(super) fn predicted_sqnr_db(tensor: &TensorInspection, bits: u8) -> Option<f64> {
    tensor.predicted_sqnr_db.get(&bits.to_string()).copied()
}

fn numbers(tensor: &TensorInspection) -> String {
    let three = |value| significant(value, 3);
    let mut rows = vec![
        ("mean", three(tensor.mean)),
        ("standard deviation", three(tensor.std)),
        ("kurtosis", three(tensor.kurtosis)),
        (
            "range",
            format!(
                "{} to {}",
                three(f64::from(tensor.min)),
                three(f64::from(tensor.max))
            ),
        ),
        ("outliers", percent(outlier_share(tensor))),
    ];
    if let Some(fit) = tensor.fitted.filter(|_| !is_constant(tensor)) {
        let far = OUTLIER_DEVIATIONS * tensor.std;
        let expected = fit.cdf(tensor.mean - far) + 1.0 - fit.cdf(tensor.mean + far);
        rows.push(("outliers on the curve", percent(expected)));
    }
    let rows: String = rows
        .into_iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"))
        .collect();
    format!("<dl class=\"numbers\">\n{rows}</dl>\n")
}
