//! The page of `campana inspect`: how the weights of a model are distributed.

use campana_quantize::inspect::{Inspection, OUTLIER_DEVIATIONS, TensorInspection};

use crate::distribution::{tensor_class, thumbnail};
use crate::page::{
    self, bytes, decibels, escape, file_name, percent, plural, shape, significant, thousands, tile,
};
use crate::tensor::{badge, card, family_name, outlier_share, predicted_sqnr_db};

/// Bit widths whose predicted SQNR the table shows, as `campana inspect` does.
const TABLE_BITS: [u8; 4] = [2, 3, 4, 8];

/// The page about an inspected model, drawn with the levels of `bits`-bit
/// quantizers: one HTML file that needs no other and no network.
///
/// A table of all tensors, which sorts by any column, is followed by a card a
/// tensor: its histogram with both fitted densities, the decision thresholds
/// and levels of the quantizer that is optimal for the closer one, D of both,
/// and the predicted SQNR at 1 to 8 bits. Of the model's path only the file
/// name is shown. The page takes about 10 kB a tensor.
///
/// # Panics
///
/// If `bits` is not in 1 to 8.
pub fn inspect_page(inspection: &Inspection, bits: u8) -> String {
    let name = file_name(&inspection.model);
    let body = [
        page::header("inspect", name, &lead(inspection)),
        "<main>\n".to_owned(),
        tiles(inspection, bits),
        sections(inspection, bits),
        "</main>".to_owned(),
    ];
    page::document(name, &body.concat())
}

fn lead(inspection: &Inspection) -> String {
    format!(
        "How the {} of this network are distributed, and what fewer bits for each would cost.",
        plural(inspection.weights, "weight")
    )
}

/// The model in four numbers.
fn tiles(inspection: &Inspection, bits: u8) -> String {
    let float_bytes = inspection.weights.saturating_mul(4);
    let code_bytes = inspection
        .weights
        .saturating_mul(u64::from(bits))
        .div_ceil(8);
    let mut tiles = [
        tile(
            &thousands(inspection.weights),
            "Weights",
            &format!("in {}", plural(inspection.tensors.len() as u64, "tensor")),
        ),
        families_tile(inspection),
        tile(
            &format!("{} <i>→</i> {}", bytes(float_bytes), bytes(code_bytes)),
            "Size of the weights",
            &format!("32-bit numbers → {bits}-bit codes"),
        ),
    ]
    .concat();
    if let Some(db) = overall_sqnr_db(inspection, bits) {
        tiles.push_str(&tile(
            &format!("{} dB", decibels(db)),
            &format!("Predicted SQNR at {}", plural(u64::from(bits), "bit")),
            &format!(
                "error: {} of a typical weight",
                percent(page::relative_error(db))
            ),
        ));
    }
    format!("<dl class=\"tiles\">\n{tiles}</dl>\n")
}

/// Families by number of tensors, most frequent first.
fn families_tile(inspection: &Inspection) -> String {
    let mut families: Vec<(&TensorInspection, u64)> = Vec::new();
    for tensor in &inspection.tensors {
        match families
            .iter_mut()
            .find(|(known, _)| family_name(known) == family_name(tensor))
        {
            Some((_, count)) => *count += 1,
            None => families.push((tensor, 1)),
        }
    }
    families.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let names: Vec<String> = families
        .iter()
        .map(|(tensor, count)| {
            format!(
                "<em class=\"{}\">{}</em> {}",
                tensor_class(tensor),
                escape(&family_name(tensor)),
                thousands(*count)
            )
        })
        .collect();
    let note = if families.len() > 1 {
        "tensors closer to each curve"
    } else {
        "the closer curve of every tensor"
    };
    tile(&names.join(" · "), "Families found", note)
}

/// Prediction for all weights together: signal over the sum of all errors.
fn overall_sqnr_db(inspection: &Inspection, bits: u8) -> Option<f64> {
    let (mut signal, mut noise) = (0.0, 0.0);
    for tensor in &inspection.tensors {
        let energy = tensor.count as f64 * (tensor.mean * tensor.mean + tensor.std * tensor.std);
        signal += energy;
        noise += energy * 10f64.powf(-predicted_sqnr_db(tensor, bits)? / 10.0);
    }
    let db = 10.0 * (signal / noise).log10();
    db.is_finite().then_some(db)
}

/// One line for each word that a newcomer cannot know.
fn glossary(bits: u8) -> String {
    let terms = [
        (
            "Levels, thresholds",
            format!(
                "With {} a weight there are {} values it can take, the levels (dots). Thresholds (thin lines) part the \
                 weights: each is replaced by the level of its cell. Here they are placed for the least squared error.",
                plural(u64::from(bits), "bit"),
                1u32 << bits
            ),
        ),
        (
            "Gaussian, Laplace",
            "Two shapes that trained weights come close to: the bell, and the sharper peak with longer tails. The \
             closer one (the full line) places the levels."
                .to_owned(),
        ),
        (
            "D",
            "How far a curve is from the weights: the largest difference between the share of weights below a value \
             and the share the curve expects there. 0 is equal. No curve is exact, so D compares, it does not prove."
                .to_owned(),
        ),
        (
            "SQNR",
            "Signal to quantization noise, in decibels: how much stronger the weights are than the error. 6 dB more halve \
             the error, and a bit more gives nearly that. Predicted here for one set of levels a tensor; \
             <code>campana quantize</code> measures it."
                .to_owned(),
        ),
        (
            "Outliers",
            format!(
                "Weights more than {OUTLIER_DEVIATIONS} standard deviations from the mean. Few, but far from every \
                 level: the shaded zone lies beyond the outermost levels."
            ),
        ),
        (
            "Kurtosis",
            "How long the tails are: 3 for a Gaussian, 6 for a Laplace distribution, more with more outliers."
                .to_owned(),
        ),
    ];
    page::glossary(&terms)
}

/// The table of `campana inspect`, with a small histogram in each row.
fn table(inspection: &Inspection, bits: u8) -> String {
    let mut widths = TABLE_BITS.to_vec();
    if !widths.contains(&bits) {
        widths.push(bits);
        widths.sort_unstable();
    }
    let mut head = String::new();
    let mut column = |name: &str, class: &str, title: &str| {
        head.push_str(&page::sort_button(name, class, title));
    };
    column("Tensor", "text", "");
    column("Closer curve", "text", "The family with the smaller D");
    column("Op", "text", "The operator that uses the tensor");
    column("Shape", "text", "");
    column("Weights", "", "");
    column("Std", "", "Standard deviation");
    column("Kurtosis", "", "Length of the tails: Gaussian 3, Laplace 6");
    column(
        "Outliers",
        "",
        "Share of weights beyond 4 standard deviations",
    );
    column("D Gauss", "", "Distance of the fitted Gaussian, 0 to 1");
    column(
        "D Laplace",
        "",
        "Distance of the fitted Laplace distribution, 0 to 1",
    );
    for &width in &widths {
        let class = if width == bits { "chosen" } else { "" };
        column(
            &format!("{width} bit"),
            class,
            &format!("Predicted SQNR in dB at {width} bits"),
        );
    }
    let rows: String = inspection
        .tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| row(index, tensor, &widths, bits))
        .collect();
    format!(
        "<section id=\"tensors\">\n<h2>Tensors <small>a click on a heading sorts; the last columns are predicted SQNR in dB</small></h2>\n\
         <div class=\"scroll\" role=\"region\" aria-label=\"Tensors\" tabindex=\"0\"><table class=\"sortable\">\n\
         <thead><tr>\n{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n</section>\n",
    )
}

fn row(index: usize, tensor: &TensorInspection, widths: &[u8], bits: u8) -> String {
    let number = page::number_cell;
    let mut cells = [
        number(tensor.count as f64, thousands(tensor.count)),
        number(tensor.std, significant(tensor.std, 3)),
        number(tensor.kurtosis, page::fixed(tensor.kurtosis, 1)),
        number(outlier_share(tensor), percent(outlier_share(tensor))),
        number(tensor.d_gaussian, page::fixed(tensor.d_gaussian, 4)),
        number(tensor.d_laplace, page::fixed(tensor.d_laplace, 4)),
    ]
    .concat();
    for &width in widths {
        let db = predicted_sqnr_db(tensor, width).unwrap_or(f64::NAN);
        let cell = number(db, decibels(db));
        cells.push_str(&if width == bits {
            cell.replacen("<td", "<td class=\"chosen\"", 1)
        } else {
            cell
        });
    }
    format!(
        "<tr><th scope=\"row\" class=\"text\"><a href=\"#t{index}\"><bdi>{name}</bdi></a></th>\
         <td class=\"text\">{thumbnail}{badge}</td><td class=\"text\">{op}</td><td class=\"text\">{shape}</td>{cells}</tr>\n",
        name = escape(&tensor.name),
        thumbnail = thumbnail(tensor),
        badge = badge(tensor),
        op = escape(&tensor.op),
        shape = shape(&tensor.shape),
    )
}

/// A card for each tensor, and the switch between both vertical scales.
fn cards(inspection: &Inspection, bits: u8) -> String {
    let cards: String = inspection
        .tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| card(index, tensor, bits))
        .collect();
    format!("{}{cards}", page::scale_switch("Distributions"))
}

/// The parts that other pages take over: what the words mean, the table and
/// the cards.
pub(super) fn sections(inspection: &Inspection, bits: u8) -> String {
    [
        glossary(bits),
        table(inspection, bits),
        cards(inspection, bits),
    ]
    .concat()
}
