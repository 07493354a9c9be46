//! The page about how long models take.

use campana_eval::Latency;

use super::*;
use crate::{BenchLayer, BenchModel, BenchPeak, BenchReport, bench_page};

const PEAK: BenchPeak = BenchPeak {
    integer_gops: 200.0,
    float_gops: 50.0,
};

fn layer(node: &str, median_ms: f64, gops: Option<f64>, on_codes: bool) -> BenchLayer {
    let peak_gops = if on_codes {
        PEAK.integer_gops
    } else {
        PEAK.float_gops
    };
    BenchLayer {
        node: node.to_owned(),
        op: "Conv".to_owned(),
        median_ms,
        gops,
        on_codes,
        peak_share: gops.map(|gops| gops / peak_gops),
    }
}

fn model(name: &str, median_ms: f64, layers: Vec<BenchLayer>) -> BenchModel {
    BenchModel {
        model: format!("/home/someone/{name}"),
        latency: Latency {
            median_ms,
            quartiles_ms: [0.95 * median_ms, 1.1 * median_ms],
            p95_ms: 1.3 * median_ms,
            min_ms: 0.9 * median_ms,
        },
        load_ms: 10.0,
        first_ms: 2.0 * median_ms,
        peak_rss_bytes: Some(10_000_000),
        weight_bytes: 123_456,
        layers,
    }
}

fn report(models: Vec<BenchModel>) -> BenchReport {
    BenchReport {
        threads: 2,
        batch: 1,
        runs: 50,
        models,
        peak: Some(PEAK),
    }
}

/// Integers at half of their peak and a layer without products, beside floats
/// at a fifth of theirs.
fn both() -> BenchReport {
    let smaller = vec![
        layer("a", 0.5, Some(100.0), true),
        layer("b", 0.1, None, false),
    ];
    let float = vec![layer("a", 2.0, Some(10.0), false)];
    report(vec![
        model("smaller.onnx", 0.6, smaller),
        model("net.onnx", 2.1, float),
    ])
}

/// Class and width of each part of each layer's bar.
fn bars(document: &Document<'_>) -> Vec<Vec<(String, String)>> {
    let lists = elements(document, "ul").into_iter().filter(|list| {
        list.attribute("class")
            .is_some_and(|class| class.contains("layers"))
    });
    let items = lists.flat_map(|list| list.children().filter(Node::is_element));
    let part = |part: Node<'_, '_>| {
        let [class, style] = ["class", "style"].map(|name| part.attribute(name).unwrap());
        (class.to_owned(), style.to_owned())
    };
    items
        .map(|item| {
            let parts = item.descendants().filter(|node| node.has_tag_name("i"));
            parts.map(part).collect()
        })
        .collect()
}

#[test]
fn the_page_leads_somewhere_and_loads_nothing() {
    let page = bench_page(&both());
    leads_somewhere(&page);
    loads_nothing(&page);
    assert!(!page.contains("someone"));
}

#[test]
fn every_layer_has_a_bar_with_its_time_at_the_peak() {
    let page = bench_page(&both());
    let parts = |parts: [(&str, &str); 2]| {
        parts.map(|(class, width)| (class.to_owned(), format!("width:{width}%")))
    };
    assert_eq!(
        bars(&parse(&page)),
        [
            parts([("integers", "12.5"), ("integers beyond", "12.5")]),
            parts([("nothing", "5.0"), ("nothing beyond", "0.0")]),
            parts([("floats", "20.0"), ("floats beyond", "80.0")]),
        ]
    );
    for shown in [
        "0.5000 ms",
        "100 GOPS",
        "50.0\u{a0}% of peak",
        "2.10 <i>→</i> 0.600",
        "3.50 ×",
        "200 GOPS on 8-bit integers and 50.0 on floats",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn shares_of_the_peak_weigh_by_time() {
    // 0.5 of 1 ms and 0.2 of 2 ms.
    let layers = vec![
        layer("a", 1.0, Some(100.0), true),
        layer("b", 7.0, None, false),
        layer("c", 2.0, Some(10.0), false),
    ];
    let share = model("net.onnx", 10.0, layers).peak_share().unwrap();
    assert!((share - 0.3).abs() < 1e-12, "{share}");
    assert_eq!(model("net.onnx", 1.0, Vec::new()).peak_share(), None);
}

#[test]
fn hostile_names_of_layers_stay_text() {
    let mut hostile = both();
    for model in &mut hostile.models {
        model.model = HOSTILE.replace('/', "|");
        for layer in &mut model.layers {
            (layer.node, layer.op) = (HOSTILE.to_owned(), HOSTILE.to_owned());
        }
    }
    let page = bench_page(&hostile);
    let document = parse(&page);
    assert_eq!(elements(&document, "script").len(), 1);
    assert_eq!(elements(&document, "style").len(), 1);
    assert!(elements(&document, "img").is_empty());
    let names: Vec<_> = elements(&document, "bdi").into_iter().map(text).collect();
    assert_eq!(names.iter().filter(|name| *name == HOSTILE).count(), 3);
}

#[test]
fn what_is_missing_leaves_no_gap() {
    let mut alone = report(vec![model("net.onnx", 1.0, Vec::new())]);
    (alone.peak, alone.models[0].peak_rss_bytes) = (None, None);
    // Noise may take a layer past the peak, and a clock may be too coarse for one.
    let odd = vec![
        layer("fast", 1.0, Some(300.0), true),
        layer("none", 0.0, Some(0.0), false),
    ];
    let untimed = vec![layer("none", 0.0, None, false)];
    for report in [
        alone,
        report(Vec::new()),
        report(vec![model("net.onnx", 0.0, odd)]),
        report(vec![model("net.onnx", 0.0, untimed)]),
    ] {
        let page = bench_page(&report);
        let document = parse(&page);
        let body = text(elements(&document, "main")[0]);
        for bad in ["NaN", "inf", "Speed", "Share"] {
            let is_known = bad == "Share" && !bars(&document).is_empty();
            assert!(is_known || !body.contains(bad), "{bad}");
        }
    }
}

#[test]
fn times_that_overlap_are_no_verdict() {
    let of = |ms: f64, other: f64| {
        let models = [("a.onnx", ms), ("b.onnx", other)];
        report(
            models
                .map(|(name, ms)| model(name, ms, Vec::new()))
                .to_vec(),
        )
    };
    for (ms, other, said) in [
        (1.0, 1.1, "a.onnx takes about the same time as b.onnx"),
        (1.0, 2.0, "a.onnx is 2.00 times as fast as b.onnx"),
        (3.0, 2.0, "a.onnx takes 1.50 times as long as b.onnx"),
    ] {
        let report = of(ms, other);
        assert!(report.verdict().unwrap().starts_with(said), "{report:?}");
        assert!(report.warnings().is_empty());
        let page = bench_page(&report);
        assert_eq!(page.contains("about the same"), said.contains("about"));
    }
    assert_eq!(
        report(vec![model("a.onnx", 1.0, Vec::new())]).verdict(),
        None
    );
}

#[test]
fn times_that_vary_are_warned_of() {
    let mut unsteady = model("a.onnx", 1.0, Vec::new());
    unsteady.latency.p95_ms = 4.0;
    let report = report(vec![unsteady]);
    assert!(
        report.warnings()[0].contains("within 4.00 ms, the fastest took 0.900"),
        "{report:?}"
    );
    assert!(bench_page(&report).contains("Note: the times of a.onnx vary"));
}
