//! The page of `campana quantize`: what became of a model, what it costs,
//! which layers hurt and what to do about them.

mod advice;

use crate::QuantizeReport;
use campana_quantize::{StoredTensor, Target, TensorReport};

use crate::distribution::thumbnail;
use crate::page::{
    self, bytes, decibels, escape, file_name, fixed, percent, plural, relative_error, shape,
    thousands, tile,
};
use crate::row::Row;
use crate::stored;
use crate::tensor::badge;

/// The page about a quantized model: one HTML file that needs no other and no
/// network.
///
/// `tensors` are those of [`stored_tensors`](campana_quantize::stored_tensors)
/// for the same model. Sizes and the error come first, then the layers whose
/// error stands out with the command that mends them, then a table of all
/// tensors, which sorts by any column, and a card a tensor: its histogram with
/// the fitted densities and the levels that were stored, and the error of each
/// channel. Of paths only file names are shown. The page takes about 10 kB a
/// tensor.
///
/// # Panics
///
/// Where a tensor's index is not one of the report.
pub fn quantize_page(report: &QuantizeReport, tensors: &[StoredTensor]) -> String {
    let rows: Vec<Row<'_>> = tensors
        .iter()
        .map(|stored| Row {
            report: &report.tensors[stored.index],
            stored,
        })
        .collect();
    let name = file_name(&report.output);
    let body = [
        page::header("quantize", name, &lead(report)),
        "<main>\n".to_owned(),
        tiles(report),
        sizes(report),
        advice::section(report, &rows),
        glossary(report),
        table(&rows),
        kept(report),
        cards(&rows),
        "</main>".to_owned(),
    ];
    page::document(name, &body.concat())
}

fn lead(report: &QuantizeReport) -> String {
    let name = escape(file_name(&report.input)).to_string();
    let factor = report.input_bytes as f64 / report.output_bytes.max(1) as f64;
    if report.weights == 0 {
        format!("Nothing in <bdi>{name}</bdi> could be made smaller; below is why.")
    } else if factor > 1.0 {
        format!(
            "<bdi>{name}</bdi>, {} times smaller, without training it again.",
            fixed(factor, 1)
        )
    } else {
        format!("<bdi>{name}</bdi> with the weights of fewer bits, stored as floats.")
    }
}

fn tiles(report: &QuantizeReport) -> String {
    let mut tiles = tile(
        &format!(
            "{} <i>→</i> {}",
            bytes(report.input_bytes),
            bytes(report.output_bytes)
        ),
        "Size of the file",
        &format!(
            "{} of it",
            percent(report.output_bytes as f64 / report.input_bytes.max(1) as f64)
        ),
    );
    if report.weights > 0 {
        let before = 8.0 * part_bytes(report, true, |t| t.input_bytes) as f64;
        tiles.push_str(&tile(
            &format!(
                "{} <i>→</i> {}",
                fixed(before / report.weights as f64, 0),
                fixed(report.bits_per_weight, 2)
            ),
            "Bits a weight",
            &format!(
                "{}; levels and scales counted",
                plural(report.weights, "weight")
            ),
        ));
        tiles.push_str(&tile(
            &percent(relative_error(report.sqnr_db)),
            "Error of a typical weight",
            &format!("SQNR {} dB", decibels(report.sqnr_db)),
        ));
        tiles.push_str(&correction(report));
        tiles.push_str(&distillation(report).unwrap_or_default());
    }
    format!("<dl class=\"tiles\">\n{tiles}</dl>\n")
}

fn correction(report: &QuantizeReport) -> String {
    match &report.correction {
        Some(correction) => tile(
            &plural(
                (correction.compensated + correction.corrected) as u64,
                "tensor",
            ),
            "Corrected for the error of outputs",
            &format!(
                "on {} {} images",
                thousands(correction.images as u64),
                escape(correction.samples)
            ),
        ),
        None => tile(
            "no",
            "Corrected for the error of outputs",
            &escape(report.not_corrected.as_deref().unwrap_or_default()).to_string(),
        ),
    }
}

/// What was learned from the float network's answers, if that was asked for.
fn distillation(report: &QuantizeReport) -> Option<String> {
    let distilled = report.distilled.as_ref()?;
    let judged = match distilled.held_back {
        0 => "the same samples".to_owned(),
        count => format!("{} held back", plural(count as u64, "sample")),
    };
    let [before, after] = [distilled.divergence_before, distilled.divergence_after];
    Some(tile(
        &match distilled.kept_step {
            0 => "no gain".to_owned(),
            step => plural(u64::from(step), "step"),
        },
        "Distilled from the float network",
        &format!("divergence {before:.4}, then {after:.4}, on {judged}"),
    ))
}

/// The sum over the tensors that were quantized, or over those that were not.
fn part_bytes(report: &QuantizeReport, quantized: bool, len: fn(&TensorReport) -> u64) -> u64 {
    let tensors = report.tensors.iter();
    tensors
        .filter(|tensor| tensor.kept.is_none() == quantized)
        .map(len)
        .sum()
}

/// Where the bytes went, before and after.
fn sizes(report: &QuantizeReport) -> String {
    let largest = report.input_bytes.max(report.output_bytes).max(1);
    // The container codes all tensors together: none takes bytes of its own.
    let is_coded = report.target == Target::Campana.as_str();
    let bar = |name: &str, total: u64, is_coded: bool, len: fn(&TensorReport) -> u64| {
        let (weights, kept) = (
            part_bytes(report, true, len),
            part_bytes(report, false, len),
        );
        let rest = total.checked_sub(weights + kept).filter(|_| !is_coded);
        let Some(rest) = rest else {
            let width = 100.0 * total as f64 / largest as f64;
            return format!(
                "<li><span>{name}</span><span class=\"bar\"><i class=\"small\" style=\"width:{width:.2}%\"></i></span>\
                 <b>{}</b></li>\n<li><span></span><small>all parts coded together</small><b></b></li>\n",
                bytes(total)
            );
        };
        let parts: String = [("small", weights), ("kept", kept), ("float", rest)]
            .iter()
            .map(|(class, part)| {
                let width = 100.0 * *part as f64 / largest as f64;
                format!("<i class=\"{class}\" style=\"width:{width:.2}%\"></i>")
            })
            .collect();
        format!(
            "<li><span>{name}</span><span class=\"bar\">{parts}</span><b>{}</b></li>\n\
             <li><span></span><small>{}</small><b></b></li>\n",
            bytes(total),
            [
                ("weights", weights),
                ("kept as floats", kept),
                ("the rest", rest)
            ]
            .iter()
            .filter(|(_, part)| *part > 0)
            .map(|(name, part)| format!("{name} {}", bytes(*part)))
            .collect::<Vec<_>>()
            .join(", "),
        )
    };
    // The float form stores what the codes say as floats.
    let after: fn(&TensorReport) -> u64 = if report.target == "float" {
        |tensor| tensor.input_bytes
    } else {
        |tensor| tensor.output_bytes
    };
    format!(
        "<section>\n<h2>What became of the file</h2>\n<div class=\"panel\"><ul class=\"bars wide\">\n{}{}</ul>\n\
         <ul class=\"legend\"><li><i class=\"key small\"></i>weights that were quantized</li>\
         <li><i class=\"key kept\"></i>tensors kept as floats</li>\
         <li><i class=\"key bins\"></i>the rest: operators, names</li></ul>\n<p>{}</p></div>\n</section>\n",
        bar("before", report.input_bytes, false, |tensor| tensor
            .input_bytes),
        bar("after", report.output_bytes, is_coded, after),
        form(&report.target),
    )
}

/// What the form of the file means for whoever runs it.
fn form(target: &str) -> &'static str {
    match target {
        "lut" => {
            "It is a plain ONNX model that any runtime loads. <b>The file is smaller, to ship and to store.</b> Other \
             runtimes decode the weights when they load it: speed and memory there stay those of the float model. \
             <code>campana verify</code> shows what the runtimes of a machine do."
        }
        "lut-uint4" => {
            "It is an ONNX model of opset 21 with 4-bit tensors, which recent runtimes load. <b>The file is smaller, to \
             ship and to store.</b> They decode the weights when they load it: speed and memory there stay those of \
             the float model. <code>campana verify</code> shows what the runtimes of a machine do."
        }
        "float" => {
            "The weights have the values of the quantized ones, but are stored as floats: <b>the file is not smaller</b> \
             until another converter, as Core ML's palettization or a zip, profits from the few values."
        }
        "coreml" | "coreml-float32" => {
            "It is a Core ML package for iOS 18, macOS 15 and later. <b>The file is smaller, to ship and to store</b>: weights \
             stay codes and tables in it."
        }
        _ => "<code>campana verify</code> shows what the runtimes of a machine make of it.",
    }
}

fn glossary(report: &QuantizeReport) -> String {
    let compensated = report
        .correction
        .as_ref()
        .is_some_and(|correction| correction.compensated > 0);
    let mut terms = vec![
        (
            "Levels",
            "A weight can no longer have any value, only one of a few: the levels (dots). What is stored of each weight \
             is its code, the number of its level.",
        ),
        (
            "Thresholds",
            "Thin lines midway between levels: each weight belongs to the level of its cell.",
        ),
        (
            "Error of a typical weight",
            "How far the weights moved, beside how large they are (root mean square). 10 % is an SQNR of 20 dB.",
        ),
        (
            "SQNR",
            "Signal to quantization noise, in decibels: the same turned round, as is custom. 6 dB more halve the error.",
        ),
        (
            "Channel's scale",
            "Channels of a layer often differ in size. They share a table of levels, and each has a factor that fits it \
             to its weights; the pictures show the weights with this factor undone.",
        ),
        (
            "Gaussian, Laplace",
            "Two shapes that trained weights come close to: the bell, and the sharper peak with longer tails. D is the \
             largest difference between the share of weights below a value and the share a curve expects there.",
        ),
    ];
    if compensated {
        terms.push((
            "Corrected for the error of outputs",
            "Codes were chosen for the error of the layer's answers, not of its weights alone: some weights take a \
             level that is not the nearest, to undo the errors of others. The error of weights then is larger, that of answers smaller.",
        ));
    }
    page::glossary(&terms)
}

fn table(rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        ("Tensor", "text", ""),
        ("Closer curve", "text", "The family with the smaller D"),
        ("Per", "text", "What shares levels or a scale"),
        ("Shape", "text", ""),
        ("Weights", "", ""),
        ("Bits", "", "Bits of a code"),
        ("Bits a weight", "", "With levels, scales and padding"),
        ("Error", "chosen", "Error of a typical weight"),
        ("SQNR dB", "", "Signal to quantization noise"),
        ("Worst channel", "", "Error of a typical weight there"),
        ("Before", "", "Bytes of the tensor before"),
        ("After", "", "Bytes of codes, levels and scales"),
    ];
    let head: String = columns
        .iter()
        .map(|(name, class, title)| page::sort_button(name, class, title))
        .collect();
    let body: String = rows.iter().map(table_row).collect();
    format!(
        "<section id=\"tensors\">\n<h2>Layers <small>a click on a heading sorts</small></h2>\n\
         <div class=\"scroll\" role=\"region\" aria-label=\"Layers\" tabindex=\"0\"><table class=\"sortable\">\n\
         <thead><tr>\n{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n</section>\n"
    )
}

fn table_row(row: &Row<'_>) -> String {
    let Row { report, stored } = row;
    let number = page::number_cell;
    let sqnr_db = report.sqnr_db.unwrap_or(f64::INFINITY);
    let worst = row.worst_channel().map_or(f64::NAN, |(_, error)| error);
    let cells = [
        number(row.weights() as f64, thousands(row.weights())),
        number(
            f64::from(report.bits.unwrap_or(0)),
            report.bits.unwrap_or(0).to_string(),
        ),
        number(report.bits_per_weight, fixed(report.bits_per_weight, 2)),
        number(row.error(), percent(row.error())).replacen("<td", "<td class=\"chosen\"", 1),
        number(sqnr_db, decibels(sqnr_db)),
        number(worst, percent(worst)),
        number(report.input_bytes as f64, thousands(report.input_bytes)),
        number(report.output_bytes as f64, thousands(report.output_bytes)),
    ]
    .concat();
    format!(
        "<tr><th scope=\"row\" class=\"text\"><a href=\"#t{index}\"><bdi>{name}</bdi></a></th>\
         <td class=\"text\">{thumbnail}{badge}</td><td class=\"text\">{granularity}</td>\
         <td class=\"text\">{shape}</td>{cells}</tr>\n",
        index = stored.index,
        name = escape(&report.name),
        thumbnail = thumbnail(&stored.weights),
        badge = badge(&stored.weights),
        granularity = escape(report.granularity.as_deref().unwrap_or_default()),
        shape = shape(&report.shape),
    )
}

/// What stays float, one line a reason.
fn kept(report: &QuantizeReport) -> String {
    let mut reasons: Vec<(&str, u64, u64)> = Vec::new();
    for tensor in &report.tensors {
        let Some(reason) = tensor.kept.as_deref() else {
            continue;
        };
        match reasons.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, tensors, len)) => {
                *tensors += 1;
                *len += tensor.output_bytes;
            }
            None => reasons.push((reason, 1, tensor.output_bytes)),
        }
    }
    if reasons.is_empty() {
        return String::new();
    }
    let items: String = reasons
        .iter()
        .map(|(reason, tensors, len)| {
            format!(
                "<li>{}, {}: {}</li>\n",
                plural(*tensors, "tensor"),
                bytes(*len),
                escape(reason)
            )
        })
        .collect();
    format!(
        "<section class=\"stays\">\n<h2>What stays as it was</h2>\n<ul>\n{items}</ul>\n</section>\n"
    )
}

fn cards(rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let cards: String = rows.iter().map(stored::card).collect();
    format!("{}{cards}", page::scale_switch("Layer by layer"))
}
