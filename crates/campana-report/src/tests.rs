//! The pages as a browser would take them apart: as a tree of elements.

mod bench;
mod quantize;

use std::collections::HashSet;

use campana_design::{Summary, predicted_sqnr_db};
use campana_quantize::inspect::{HISTOGRAM_BINS, Histogram, Inspection, TensorInspection};
use roxmltree::{Document, Node, ParsingOptions};

use crate::{DemoReport, DemoRow, demo_page, inspect_page};

/// What a page of 60 tensors may take: a limit that keeps EfficientNet-Lite0
/// (50 tensors) far below the 2 MB that are promised.
const MAX_BYTES_OF_60_TENSORS: usize = 1_500_000;

/// A name that would take the page over if any place forgot to escape it.
const HOSTILE: &str = "</title></style><script>alert(1)</script>&amp;\"'><img onerror=x>\u{202e}";

/// Quantiles of a Laplace distribution: no chance, and a peak with tails.
fn laplace_weights(count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| {
            let p = (index as f32 + 0.5) / count as f32;
            if p < 0.5 {
                0.1 * (2.0 * p).ln()
            } else {
                -0.1 * (2.0 - 2.0 * p).ln()
            }
        })
        .collect()
}

fn tensor(name: &str, weights: &[f32]) -> TensorInspection {
    let summary = Summary::of(weights);
    let (moments, fits) = (summary.moments(), summary.fits());
    let std = moments.std();
    let reach = if std > 0.0 { 6.0 * std } else { 1.0 };
    let (low, high) = (moments.mean - reach, moments.mean + reach);
    let mut counts = vec![0; HISTOGRAM_BINS];
    for &weight in weights {
        let share = (f64::from(weight) - low) / (high - low);
        counts[((share * HISTOGRAM_BINS as f64) as usize).min(HISTOGRAM_BINS - 1)] += 1;
    }
    let best = fits.best();
    TensorInspection {
        name: name.to_owned(),
        op: "Conv".to_owned(),
        shape: vec![weights.len()],
        count: weights.len() as u64,
        mean: moments.mean,
        std,
        kurtosis: moments.kurtosis,
        min: moments.min,
        max: moments.max,
        outliers: 1,
        d_gaussian: fits.d_gaussian,
        d_laplace: fits.d_laplace,
        d_ggd: summary.d_generalized_gaussian(),
        family: best.family.to_string(),
        gaussian: [fits.gaussian.location, fits.gaussian.scale],
        laplace: [fits.laplace.location, fits.laplace.scale],
        ggd: {
            let ggd = summary.generalized_gaussian();
            [ggd.location, ggd.scale, ggd.shape]
        },
        predicted_sqnr_db: (1..=8)
            .map(|bits| (bits.to_string(), predicted_sqnr_db(best, moments, bits)))
            .collect(),
        histogram: Histogram { low, high, counts },
        fitted: Some(*best),
    }
}

fn inspection(tensors: Vec<TensorInspection>) -> Inspection {
    Inspection {
        model: "/home/someone/net.onnx".to_owned(),
        weights: tensors.iter().map(|tensor| tensor.count).sum(),
        tensors,
        quantized: Vec::new(),
    }
}

fn demo_row(name: &str, bytes: u64) -> DemoRow {
    DemoRow {
        name: name.to_owned(),
        bytes,
        bits_per_weight: 4.2,
        sqnr_db: 20.5,
        top1: None,
        agreement: None,
        median_ms: None,
    }
}

fn demo(rows: Vec<DemoRow>) -> DemoReport {
    DemoReport {
        title: "A network".to_owned(),
        rows,
        inspection: inspection(vec![tensor("w", &laplace_weights(1000))]),
        bits: 4,
    }
}

fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(page, options).expect("the page is well-formed")
}

fn elements<'a>(document: &'a Document<'_>, name: &str) -> Vec<Node<'a, 'a>> {
    let named = |node: &Node<'_, '_>| node.has_tag_name(name);
    document.descendants().filter(named).collect()
}

fn text(node: Node<'_, '_>) -> String {
    node.descendants()
        .filter(Node::is_text)
        .filter_map(|node| node.text())
        .collect()
}

fn paths<'a>(document: &'a Document<'_>, class: &str) -> Vec<&'a str> {
    elements(document, "path")
        .into_iter()
        .filter(|path| path.attribute("class") == Some(class))
        .filter_map(|path| path.attribute("d"))
        .collect()
}

#[test]
fn references_within_a_page_lead_somewhere_and_only_there() {
    let tensors = (0..3).map(|index| tensor(&format!("w{index}"), &laplace_weights(500)));
    let inspected = inspection(tensors.collect());
    let shown = demo(vec![demo_row("float", 4000), demo_row("4-bit", 600)]);
    for page in [
        inspect_page(&inspected, 1),
        inspect_page(&inspected, 4),
        inspect_page(&inspected, 8),
        demo_page(&shown),
    ] {
        leads_somewhere(&page);
    }
}

/// Asserts that ids are unique and that all references lead to one.
fn leads_somewhere(page: &str) {
    let document = parse(page);
    let mut ids = HashSet::new();
    for id in document
        .descendants()
        .filter_map(|node| node.attribute("id"))
    {
        assert!(ids.insert(id), "id {id} twice");
    }
    for node in document.descendants() {
        if let Some(target) = node.attribute("href").filter(|_| node.has_tag_name("a")) {
            assert!(ids.contains(target.strip_prefix('#').unwrap()), "{target}");
        }
        for label in node
            .attribute("aria-labelledby")
            .unwrap_or("")
            .split_whitespace()
        {
            assert!(ids.contains(label), "{label}");
        }
    }
}

#[test]
fn pages_load_nothing() {
    loads_nothing(&inspect_page(
        &inspection(vec![tensor("w", &laplace_weights(500))]),
        4,
    ));
}

fn loads_nothing(page: &str) {
    for loader in [
        "http:", "https:", "url(", "src=", "@import", "fetch", "href=\"/",
    ] {
        assert!(!page.contains(loader), "{loader}");
    }
    let document = parse(page);
    let links = elements(&document, "link");
    assert!(
        links
            .iter()
            .all(|link| link.attribute("href") == Some("data:,"))
    );
    let policy = elements(&document, "meta")
        .into_iter()
        .find(|meta| meta.attribute("http-equiv").is_some());
    let policy = policy.and_then(|meta| meta.attribute("content")).unwrap();
    assert!(policy.starts_with("default-src 'none'"));
}

#[test]
fn hostile_names_stay_text() {
    let mut hostile = tensor(HOSTILE, &laplace_weights(500));
    hostile.op = HOSTILE.to_owned();
    hostile.family = HOSTILE.to_owned();
    let mut inspected = inspection(vec![hostile]);
    inspected.model = HOSTILE.replace('/', "|");
    let page = inspect_page(&inspected, 4);
    let mut report = demo(vec![demo_row(HOSTILE, 4000), demo_row(HOSTILE, 600)]);
    report.inspection = inspected;
    report.title = HOSTILE.to_owned();
    for page in [page, demo_page(&report)] {
        let document = parse(&page);
        assert_eq!(elements(&document, "script").len(), 1);
        assert_eq!(elements(&document, "style").len(), 1);
        assert!(elements(&document, "img").is_empty());
        let names: Vec<_> = elements(&document, "h3").into_iter().map(text).collect();
        assert!(names.iter().any(|name| name == HOSTILE), "{names:?}");
    }
}

#[test]
fn control_characters_in_names_leave_the_page_well_formed() {
    let names: String = (0..=0xffff).filter_map(char::from_u32).collect();
    parse(&inspect_page(
        &inspection(vec![tensor(&names, &laplace_weights(100))]),
        4,
    ));
}

#[test]
fn a_page_of_60_tensors_is_small() {
    let weights = laplace_weights(20_000);
    let tensors = (0..60).map(|index| tensor(&format!("features.{index}.conv.weight"), &weights));
    let inspected = inspection(tensors.collect());
    for bits in [4, 8] {
        let len = inspect_page(&inspected, bits).len();
        assert!(len <= MAX_BYTES_OF_60_TENSORS, "{len} bytes at {bits} bits");
    }
}

#[test]
fn odd_tensors_have_cards_without_nan() {
    let mut spike = vec![0.0; 10_000];
    spike.extend(laplace_weights(100));
    let mut outlier = laplace_weights(1000);
    outlier.push(1e6);
    let cases: [(&str, Vec<f32>); 8] = [
        ("one", vec![0.25]),
        ("constant", vec![-3.0; 50]),
        ("zeros", vec![0.0; 50]),
        ("two", vec![1.0, 2.0]),
        ("spike", spike),
        ("outlier", outlier),
        (
            "huge",
            laplace_weights(300).iter().map(|w| w * 1e38).collect(),
        ),
        (
            "subnormal",
            laplace_weights(300).iter().map(|w| w * 1e-43).collect(),
        ),
    ];
    let tensors = cases.iter().map(|(name, weights)| tensor(name, weights));
    let inspected = inspection(tensors.collect());
    for bits in 1..=8 {
        let page = inspect_page(&inspected, bits);
        let document = parse(&page);
        let cards = elements(&document, "section")
            .into_iter()
            .filter(|section| section.attribute("class") == Some("card"));
        assert_eq!(cards.count(), cases.len());
        let body = text(elements(&document, "main")[0]);
        for bad in ["NaN", "inf"] {
            assert!(!body.contains(bad), "{bad} at {bits} bits");
        }
        for path in elements(&document, "path") {
            let drawn = path.attribute("d").unwrap();
            assert!(drawn.len() > 3 && !drawn.contains(['N', 'i']), "{drawn}");
        }
    }
    assert!(inspect_page(&inspection(Vec::new()), 4).contains("0 weights"));
}

#[test]
fn bars_that_are_cut_are_said_to_be() {
    let mut weights = vec![0.0; 4000];
    let caption = |weights: &[f32]| {
        let page = inspect_page(&inspection(vec![tensor("w", weights)]), 4);
        text(elements(&parse(&page), "figcaption")[0])
    };
    assert!(!caption(&laplace_weights(1000)).contains("is cut"));
    weights.extend(laplace_weights(1000));
    assert!(
        caption(&weights).contains("is cut"),
        "{}",
        caption(&weights)
    );
}

#[test]
fn constant_tensors_belong_to_no_family() {
    let page = inspect_page(&inspection(vec![tensor("w", &[0.5; 100])]), 4);
    let document = parse(&page);
    let badges = elements(&document, "span").into_iter().filter(|span| {
        span.attribute("class")
            .is_some_and(|c| c.starts_with("badge"))
    });
    assert_eq!(
        badges.map(text).collect::<Vec<_>>(),
        ["Constant", "Constant"]
    );
    assert!(page.contains("Every weight is 0.5000"));
}

#[test]
fn the_picture_has_every_level_and_threshold() {
    for bits in 1..=4u8 {
        let page = inspect_page(&inspection(vec![tensor("w", &laplace_weights(5000))]), bits);
        let document = parse(&page);
        let count = |class: &str| paths(&document, class)[0].matches('M').count();
        assert_eq!(count("levels"), 1 << bits);
        assert_eq!(count("thresholds"), (1 << bits) - 1);
    }
}

#[test]
fn the_closer_curve_is_drawn_last_and_full() {
    let page = inspect_page(&inspection(vec![tensor("w", &laplace_weights(5000))]), 4);
    let document = parse(&page);
    let linear = elements(&document, "g")
        .into_iter()
        .find(|group| group.attribute("class") == Some("lin"))
        .unwrap();
    let classes: Vec<_> = linear
        .children()
        .filter_map(|path| path.attribute("class"))
        .collect();
    assert_eq!(
        classes,
        ["bins", "curve other gaussian", "curve chosen laplace"]
    );
}

#[test]
fn the_folders_of_a_model_are_not_shown() {
    let page = inspect_page(&inspection(vec![tensor("w", &laplace_weights(500))]), 4);
    assert!(page.contains("net.onnx") && !page.contains("someone"));
}

#[test]
fn the_table_shows_the_bit_width_that_was_asked_for() {
    let inspected = inspection(vec![tensor("w", &laplace_weights(500))]);
    let columns = |bits| {
        let page = inspect_page(&inspected, bits);
        let document = parse(&page);
        let names: Vec<_> = elements(&document, "button")
            .into_iter()
            .map(text)
            .collect();
        names[names.len() - 5..].join(", ")
    };
    assert_eq!(columns(4), "D Laplace, 2 bit, 3 bit, 4 bit, 8 bit");
    assert_eq!(columns(6), "2 bit, 3 bit, 4 bit, 6 bit, 8 bit");
}

#[test]
fn demo_columns_appear_with_their_numbers() {
    let rows = vec![demo_row("float", 4000), demo_row("4-bit", 600)];
    let plain = demo_page(&demo(rows.clone()));
    for column in ["Top-1", "Same answer", "ms an image", "Right answers"] {
        assert!(!plain.contains(column), "{column}");
    }
    assert!(plain.contains("15.0\u{a0}%"));

    let mut measured = rows;
    measured[0].top1 = Some(0.87);
    measured[1].top1 = Some(0.8654);
    measured[1].agreement = Some(0.97);
    measured[1].median_ms = Some(1.25);
    let page = demo_page(&demo(measured));
    for shown in [
        "Top-1",
        "Same answer",
        "ms an image",
        "Right answers",
        "86.5\u{a0}%",
        ">1.25<",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn demos_of_no_models_are_pages_too() {
    parse(&demo_page(&demo(Vec::new())));
    parse(&demo_page(&demo(vec![demo_row("float", 0)])));
}
