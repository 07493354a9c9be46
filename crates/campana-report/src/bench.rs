//! The page of `campana bench`: how long models take, layer by layer, beside
//! what the machine could do.

use serde::{Deserialize, Serialize};

use crate::chart;
use crate::page::{
    self, bytes, escape, file_name, fixed, percent, plural, significant, thousands, tile,
};
use campana_eval::Latency;
use campana_runtime::Peak;

/// What `campana bench` measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Threads that each model ran on.
    pub threads: usize,
    /// Images of a run.
    pub batch: usize,
    /// Timed runs of each model.
    pub runs: usize,
    /// The model in question, then the one that it is compared with, if any.
    pub models: Vec<BenchModel>,
    /// Where layers were timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<BenchPeak>,
}

impl BenchReport {
    /// Of a model and its reference, how they compare, as a sentence; `None` of
    /// one model alone.
    pub fn verdict(&self) -> Option<String> {
        let [model, reference, ..] = self.models.as_slice() else {
            return None;
        };
        let name = |model: &BenchModel| file_name(&model.model).to_owned();
        let (latency, other) = (model.latency, reference.latency);
        let ratio = other.median_ms / latency.median_ms;
        Some(if latency.is_about(&other) {
            format!(
                "{} takes about the same time as {}: the middle halves of their runs overlap",
                name(model),
                name(reference)
            )
        } else if ratio > 1.0 {
            let times = fixed(ratio, 2);
            format!(
                "{} is {times} times as fast as {}",
                name(model),
                name(reference)
            )
        } else {
            let times = fixed(1.0 / ratio, 2);
            format!(
                "{} takes {times} times as long as {}",
                name(model),
                name(reference)
            )
        })
    }

    /// What is to be known of times that vary, a sentence for each model.
    pub fn warnings(&self) -> Vec<String> {
        let unsteady = self
            .models
            .iter()
            .filter(|model| model.latency.is_unsteady());
        let sentence = |model: &BenchModel| {
            format!(
                "the times of {} vary: 95 % of the runs are within {} ms, the fastest took {}; something else may run on \
                 this machine",
                file_name(&model.model),
                milliseconds(model.latency.p95_ms),
                milliseconds(model.latency.min_ms),
            )
        };
        unsteady.map(sentence).collect()
    }
}

/// One model of a [`BenchReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchModel {
    /// Its file.
    pub model: String,
    /// Times of its runs.
    #[serde(flatten)]
    pub latency: Latency,
    /// Reading and planning the model.
    pub load_ms: f64,
    /// The first run, which lays out memory for the shape of its input.
    pub first_ms: f64,
    /// Largest memory of a process that loads and runs this model alone; `None`
    /// where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// Weights and other constants in memory.
    pub weight_bytes: usize,
    /// In the order in which they run; none where they were not timed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<BenchLayer>,
}

impl BenchModel {
    /// The share of the peak that all layers with products reach together: the
    /// time that they would take at the peak of what each computes on, as a
    /// share of the time that they take. `None` without such layers.
    pub fn peak_share(&self) -> Option<f64> {
        let (mut at_peak_ms, mut total_ms) = (0.0, 0.0);
        for layer in &self.layers {
            if let Some(share) = layer.peak_share {
                at_peak_ms += share * layer.median_ms;
                total_ms += layer.median_ms;
            }
        }
        (total_ms > 0.0).then(|| at_peak_ms / total_ms)
    }
}

/// A node, and what was fused into it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchLayer {
    /// The node's name, or its outputs'.
    pub node: String,
    /// The node's operator.
    pub op: String,
    /// Median time.
    pub median_ms: f64,
    /// Multiplications and additions a second, in 10^9; `None` where there are none.
    pub gops: Option<f64>,
    /// Whether it multiplies 8-bit codes.
    pub on_codes: bool,
    /// Its `gops` as a share of the measured peak of what it computes on.
    pub peak_share: Option<f64>,
}

/// The measured [`Peak`] of all threads together, in 10^9 operations a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchPeak {
    /// On 8-bit codes.
    pub integer_gops: f64,
    /// On 32-bit floats.
    pub float_gops: f64,
}

impl From<Peak> for BenchPeak {
    fn from(peak: Peak) -> Self {
        Self {
            integer_gops: peak.integer_ops_per_s / 1e9,
            float_gops: peak.float_ops_per_s / 1e9,
        }
    }
}

/// The page of a measurement: one HTML file that needs no other and no network.
///
/// Latency and memory of the models, then for each model a bar for each layer
/// in the order in which they run, with the time that the layer would take at
/// the machine's peak. Of paths only file names are shown.
pub fn bench_page(report: &BenchReport) -> String {
    let title = report
        .models
        .first()
        .map_or("no model", |model| file_name(&model.model));
    let lead = format!(
        "The median of {} of {} each, on {}.",
        plural(report.runs as u64, "run"),
        plural(report.batch as u64, "image"),
        plural(report.threads as u64, "thread"),
    );
    let body = [
        page::header("bench", title, &lead),
        "<main>\n".to_owned(),
        tiles(report),
        table(report),
        charts(report),
        "</main>".to_owned(),
    ];
    page::document(title, &body.concat())
}

/// A model's name as markup.
fn name(model: &BenchModel) -> String {
    format!("<bdi>{}</bdi>", escape(file_name(&model.model)))
}

/// A time in milliseconds without its unit.
fn milliseconds(time: f64) -> String {
    significant(time, 3)
}

fn tiles(report: &BenchReport) -> String {
    let Some(model) = report.models.first() else {
        return String::new();
    };
    let reference = report.models.get(1);
    let beside = |value: &dyn Fn(&BenchModel) -> String| match reference {
        Some(reference) => format!("{} <i>→</i> {}", value(reference), value(model)),
        None => value(model),
    };
    let note = reference.map_or_else(String::new, |reference| {
        format!("{}, then {}", name(reference), name(model))
    });
    let mut tiles = tile(
        &format!(
            "{}\u{a0}ms",
            beside(&|model| milliseconds(model.latency.median_ms))
        ),
        "Median latency",
        &note,
    );
    if let Some(reference) = reference {
        tiles.push_str(&tile(
            &if model.latency.is_about(&reference.latency) {
                "about the same".to_owned()
            } else {
                let ratio = reference.latency.median_ms / model.latency.median_ms;
                format!("{} ×", fixed(ratio, 2))
            },
            "Speed",
            &format!("runs in the time that {} takes for one", name(reference)),
        ));
    }
    if report.models.iter().all(|m| m.peak_rss_bytes.is_some()) {
        tiles.push_str(&tile(
            &beside(&|model| bytes(model.peak_rss_bytes.unwrap_or_default())),
            "Peak memory",
            "of a process that runs it alone",
        ));
    }
    tiles.push_str(&tile(
        &beside(&|model| bytes(model.weight_bytes as u64)),
        "Weights in memory",
        "with other constants",
    ));
    if report.models.iter().all(|m| m.peak_share().is_some()) {
        tiles.push_str(&tile(
            &beside(&|model| percent(model.peak_share().unwrap_or_default())),
            "Share of the machine’s peak",
            "convolutions and fully connected layers",
        ));
    }
    format!("<dl class=\"tiles\">\n{tiles}</dl>\n")
}

fn table(report: &BenchReport) -> String {
    let models = &report.models;
    let columns = [
        "Median ms",
        "Middle half ms",
        "p95 ms",
        "Min ms",
        "Load ms",
        "First run ms",
        "Peak memory",
        "Weights in memory",
    ];
    let cells = |model: &BenchModel| {
        let latency = &model.latency;
        let times = [
            latency.median_ms,
            latency.p95_ms,
            latency.min_ms,
            model.load_ms,
            model.first_ms,
        ];
        let mut cells: Vec<String> = times.map(milliseconds).to_vec();
        cells.insert(1, latency.quartiles_ms.map(milliseconds).join("–"));
        let peak = model.peak_rss_bytes.map(thousands);
        cells.push(peak.unwrap_or_else(|| "–".to_owned()));
        cells.push(thousands(model.weight_bytes as u64));
        cells
    };
    let rows: Vec<_> = models
        .iter()
        .map(|model| (file_name(&model.model), cells(model)))
        .collect();
    let notes: String = report
        .warnings()
        .iter()
        .map(|warning| format!("<p class=\"note\">Note: {}.</p>\n", escape(warning)))
        .collect();
    format!(
        "<section>\n<h2>Models <small>memory in bytes</small></h2>\n{}{notes}</section>\n",
        page::models_table(&columns, &rows)
    )
}

/// The layers of every model on one scale, and what the figures mean.
fn charts(report: &BenchReport) -> String {
    let layers = report.models.iter().flat_map(|model| &model.layers);
    let longest_ms = layers.map(|layer| layer.median_ms).fold(0.0, f64::max);
    if longest_ms <= 0.0 {
        return String::new();
    }
    let charts: String = report
        .models
        .iter()
        .map(|model| chart(model, longest_ms))
        .collect();
    format!("{charts}{}", explanation(report))
}

fn chart(model: &BenchModel, longest_ms: f64) -> String {
    let total_ms: f64 = model.layers.iter().map(|layer| layer.median_ms).sum();
    let bars: String = model
        .layers
        .iter()
        .map(|layer| bar(layer, longest_ms))
        .collect();
    format!(
        "<section>\n<h2>Layers of {} <small>{}, {} ms together</small></h2>\n<div class=\"panel\">{}\
         <ul class=\"bars layers\">\n{bars}</ul></div>\n</section>\n",
        name(model),
        plural(model.layers.len() as u64, "layer"),
        milliseconds(total_ms),
        legend(&model.layers),
    )
}

/// What a layer computes on: a class of the style.
fn class(layer: &BenchLayer) -> &'static str {
    match (layer.gops, layer.on_codes) {
        (None, _) => "nothing",
        (_, true) => "integers",
        (_, false) => "floats",
    }
}

fn bar(layer: &BenchLayer, longest_ms: f64) -> String {
    let class = class(layer);
    let length = layer.median_ms / longest_ms;
    let at_peak = layer.peak_share.map_or(1.0, |share| share.min(1.0));
    let parts = [
        (length * at_peak, class.to_owned()),
        (length * (1.0 - at_peak), format!("{class} beyond")),
    ];
    let [gops, share] = [
        layer
            .gops
            .map(|gops| format!("{} GOPS", significant(gops, 3))),
        layer
            .peak_share
            .map(|share| format!("{} of peak", percent(share))),
    ]
    .map(Option::unwrap_or_default);
    format!(
        "<li><span><bdi>{}</bdi> <small>{}</small></span>{}<b>{} ms</b><b>{gops}</b><b>{share}</b></li>\n",
        escape(&layer.node),
        escape(&layer.op),
        chart::stacked_bar(&parts),
        fixed(layer.median_ms, 4),
    )
}

/// The colours that occur.
fn legend(layers: &[BenchLayer]) -> String {
    let entries: String = [
        ("integers", "multiplies 8-bit integers"),
        ("floats", "multiplies floats"),
        ("nothing", "multiplies no weights"),
    ]
    .into_iter()
    .filter(|(colour, _)| layers.iter().any(|layer| class(layer) == *colour))
    .map(|(colour, text)| format!("<li><i class=\"key {colour}\"></i>{text}</li>"))
    .collect();
    format!(
        "<ul class=\"legend\">{entries}<li>full colour: the time it would take at the machine’s peak</li></ul>\n"
    )
}

fn explanation(report: &BenchReport) -> String {
    let Some(peak) = report.peak else {
        return String::new();
    };
    let scale = match report.models.len() {
        1 => "",
        _ => " The bars of all models have one scale.",
    };
    format!(
        "<p class=\"note\">GOPS are billions of multiplications and additions a second; the peak is what this machine \
         reached on {} in a loop that did nothing else, {} GOPS on 8-bit integers and {} on floats, so a layer at half \
         of it could at best take half the time.{scale}</p>\n",
        plural(report.threads as u64, "thread"),
        significant(peak.integer_gops, 3),
        significant(peak.float_gops, 3),
    )
}
