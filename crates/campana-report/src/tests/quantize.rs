//! The page about a quantized model.

use crate::QuantizeReport;
use campana_calibrate::CorrectionReport;
use campana_quantize::{Sharing, StoredTensor, TensorReport, VectorTable};

use super::*;
use crate::quantize_page;

/// A 4-bit tensor of 16 levels and four channels.
fn stored(index: usize, name: &str, sharing: Sharing) -> StoredTensor {
    StoredTensor {
        index,
        weights: tensor(name, &laplace_weights(2000)),
        sharing,
        levels: (0..16).map(|level| 0.05 * (level as f32 - 7.5)).collect(),
        vectors: (sharing == Sharing::Vectors).then(|| VectorTable {
            dimension: 4,
            values: (0..1024).map(|at| (at * 37 % 101) as f32 - 50.0).collect(),
        }),
        channel_errors: vec![0.05, 0.0, 0.4, 0.1],
    }
}

fn tensor_report(name: &str, sqnr_db: f64) -> TensorReport {
    TensorReport {
        name: name.to_owned(),
        op: "Conv".to_owned(),
        shape: vec![4, 500],
        bits: Some(4),
        method: Some("auto".to_owned()),
        family: Some("laplace".to_owned()),
        granularity: Some("channel".to_owned()),
        clip: Some([-0.4, 0.4]),
        mse: Some(1e-4),
        sqnr_db: Some(sqnr_db),
        divergence: None,
        byte_price: None,
        bits_per_weight: 4.2,
        kept: None,
        input_bytes: 8000,
        output_bytes: 1050,
    }
}

fn kept(name: &str, reason: &str) -> TensorReport {
    TensorReport {
        bits: None,
        method: None,
        family: None,
        granularity: None,
        clip: None,
        mse: None,
        sqnr_db: None,
        kept: Some(reason.to_owned()),
        input_bytes: 64,
        output_bytes: 64,
        ..tensor_report(name, 0.0)
    }
}

fn report(tensors: Vec<TensorReport>) -> QuantizeReport {
    QuantizeReport {
        input: "/home/someone/net.onnx".to_owned(),
        output: "/home/someone/smaller.onnx".to_owned(),
        input_bytes: 10_000 * tensors.len() as u64 + 500,
        output_bytes: 1500 * tensors.len() as u64 + 500,
        weights: 2000 * tensors.len() as u64,
        bits_per_weight: 4.2,
        zeros: None,
        mse: 1e-4,
        sqnr_db: 20.0,
        elapsed_s: 0.1,
        correction: Some(CorrectionReport {
            samples: "synthetic",
            images: 256,
            compensated: 1,
            corrected: 2,
            skipped: Vec::new(),
        }),
        distilled: None,
        not_corrected: None,
        corrected: true,
        assumed_inputs: Vec::new(),
        warnings: Vec::new(),
        allocation: None,
        target: "lut".to_owned(),
        rounded_activations: 0,
        float_activations: None,
        integer_layers: None,
        tensors,
        stated_options: Vec::new(),
    }
}

/// A page of tensors with these SQNR, each `w{index}`.
fn page_of(sqnr_db: &[f64]) -> String {
    let names: Vec<String> = (0..sqnr_db.len())
        .map(|index| format!("w{index}"))
        .collect();
    let tensors = names.iter().zip(sqnr_db);
    let reports = tensors.map(|(name, &db)| tensor_report(name, db)).collect();
    let stored: Vec<StoredTensor> = names
        .iter()
        .enumerate()
        .map(|(index, name)| stored(index, name, Sharing::Scaled))
        .collect();
    quantize_page(&report(reports), &stored)
}

fn commands(page: &str) -> Vec<String> {
    elements(&parse(page), "code")
        .into_iter()
        .map(text)
        .filter(|code| code.starts_with("campana ") && code.contains(' ') && code.contains(".onnx"))
        .collect()
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    let page = page_of(&[20.0, 12.0, f64::INFINITY]);
    leads_somewhere(&page);
    loads_nothing(&page);
    assert!(!page.contains("someone"), "folders are shown");
    let body = text(elements(&parse(&page), "main")[0]);
    for bad in ["NaN", "inf "] {
        assert!(!body.contains(bad), "{bad}");
    }
}

#[test]
fn layers_that_stand_out_are_named_with_what_mends_them() {
    let page = page_of(&[20.5, 12.0, 19.0, 15.0]);
    let commands = commands(&page);
    assert_eq!(
        commands,
        [
            "campana quantize net.onnx -o smaller.onnx --bits-for w1=6 --bits-for w3=6 --force",
            "campana evaluate net.onnx smaller.onnx --data IMAGES --reference net.onnx",
        ]
    );
    // 2 tensors of 2000 weights, 2 bits more each.
    assert!(page.contains("about 1.00\u{a0}kB"), "{page}");
}

#[test]
fn layers_alike_need_no_advice() {
    let page = page_of(&[20.5, 19.5]);
    assert!(page.contains("No layer stands out"));
    assert_eq!(commands(&page).len(), 1);
}

#[test]
fn layers_of_8_bits_are_named_without_a_command() {
    let mut worst = tensor_report("w0", 5.0);
    worst.bits = Some(8);
    let page = quantize_page(&report(vec![worst]), &[stored(0, "w0", Sharing::Same)]);
    assert!(!page.contains("No layer stands out"));
    assert!(!page.contains("--bits-for"));
}

#[test]
fn hostile_names_stay_text_here_too() {
    let mut hostile = tensor_report(HOSTILE, 3.0);
    hostile.granularity = Some(HOSTILE.to_owned());
    hostile.method = Some(HOSTILE.to_owned());
    let mut report = report(vec![hostile, kept("b", HOSTILE)]);
    report.input = HOSTILE.replace('/', "|");
    report.output = report.input.clone();
    report.target = HOSTILE.to_owned();
    report.correction = None;
    report.not_corrected = Some(HOSTILE.to_owned());
    let page = quantize_page(&report, &[stored(0, HOSTILE, Sharing::Own)]);
    let document = parse(&page);
    assert_eq!(elements(&document, "script").len(), 1);
    assert!(elements(&document, "img").is_empty());
}

#[test]
fn common_levels_have_thresholds_and_own_ones_none() {
    for (sharing, thresholds) in [
        (Sharing::Same, 15),
        (Sharing::Scaled, 15),
        (Sharing::Own, 0),
        (Sharing::Vectors, 0),
    ] {
        let page = quantize_page(
            &report(vec![tensor_report("w", 20.0)]),
            &[stored(0, "w", sharing)],
        );
        let document = parse(&page);
        let dots = paths(&document, "levels")[0].matches('M').count();
        let lines = paths(&document, "thresholds");
        let lines = lines.first().map_or(0, |path| path.matches('M').count());
        assert_eq!((dots, lines), (16, thresholds), "{sharing:?}");
        let vectors = paths(&document, "levels many")
            .first()
            .map(|path| path.matches('M').count());
        let expected = (sharing == Sharing::Vectors).then_some(256);
        assert_eq!(vectors, expected, "{sharing:?}");
    }
}

#[test]
fn the_worst_channel_is_said() {
    let page = page_of(&[20.0]);
    assert!(page.contains("channel 2 has the most, 40.0\u{a0}%"));
    let mut tensor = stored(0, "w", Sharing::Same);
    tensor.channel_errors = vec![0.2, f64::NAN, 0.1, f64::NAN];
    let page = quantize_page(&report(vec![tensor_report("w", 20.0)]), &[tensor]);
    assert!(page.contains("channel 0 has the most, 20.0\u{a0}%"));
    assert!(page.contains("2 channels are off"));
    assert!(!text(elements(&parse(&page), "main")[0]).contains("NaN"));
}

#[test]
fn tensors_that_stay_are_listed_by_reason() {
    let tensors = vec![
        tensor_report("w", 20.0),
        kept("a", "bias"),
        kept("b", "bias"),
        kept("c", "too small to gain"),
    ];
    let page = quantize_page(&report(tensors), &[stored(0, "w", Sharing::Same)]);
    assert!(page.contains("2 tensors, 128 bytes: bias"));
    assert!(page.contains("1 tensor, 64 bytes: too small to gain"));
}

#[test]
fn a_model_without_weights_has_a_page() {
    let mut report = report(vec![kept("b", "bias")]);
    report.weights = 0;
    report.sqnr_db = f64::NAN;
    let page = quantize_page(&report, &[]);
    assert!(page.contains("could be made smaller"));
    leads_somewhere(&page);
    assert!(!text(elements(&parse(&page), "main")[0]).contains("NaN"));
}

#[test]
fn a_quantize_page_of_60_tensors_is_small() {
    let len = page_of(&[20.0; 60]).len();
    assert!(len <= MAX_BYTES_OF_60_TENSORS, "{len} bytes");
}

/// The page of a report and its tensors.
fn page_of_report(report: &QuantizeReport) -> String {
    let quantized = report.tensors.iter().enumerate();
    let quantized = quantized.filter(|(_, tensor)| tensor.kept.is_none());
    let stored: Vec<StoredTensor> = quantized
        .map(|(index, tensor)| stored(index, &tensor.name, Sharing::Scaled))
        .collect();
    quantize_page(report, &stored)
}

#[test]
fn advice_keeps_the_options_that_were_given() {
    let mut report = report(vec![tensor_report("w0", 20.0), tensor_report("w1", 12.0)]);
    report.stated_options = ["--calibrate", "my images", "--bits", "3"]
        .map(str::to_owned)
        .to_vec();
    let page = page_of_report(&report);
    assert_eq!(
        commands(&page)[0],
        "campana quantize net.onnx -o smaller.onnx --calibrate 'my images' --bits 3 --bits-for w1=6 --force"
    );
}

#[test]
fn layers_are_ranked_by_what_was_measured() {
    // The one with the largest error of weights does least to the outputs.
    let mut tensors: Vec<_> = [20.0, 12.0, 20.0].map(|db| tensor_report("", db)).to_vec();
    for (index, (tensor, divergence)) in tensors.iter_mut().zip([0.9, 0.0, 0.1]).enumerate() {
        (tensor.name, tensor.divergence) = (format!("w{index}"), Some(divergence));
    }
    let mut report = report(tensors);
    let page = page_of_report(&report);
    assert!(page.contains("was measured"), "{page}");
    let commands = commands(&page);
    assert!(
        commands[0].contains("--bits-for w0=6 --force"),
        "{commands:?}"
    );
    report.allocation = Some(crate::AllocationReport {
        bound: "at most 3.9 bits a weight".to_owned(),
        met: true,
        written: true,
        sensitivities: String::new(),
        divergence: 1.0,
        drop: None,
    });
    let page = page_of_report(&report);
    assert!(
        page.contains("within the bound, at most 3.9 bits a weight"),
        "{page}"
    );
    assert!(!page.contains("--bits-for"));
}

#[test]
fn parts_of_a_file_add_up_or_are_not_told() {
    let mut report = report(vec![tensor_report("w", 20.0), kept("scale", "no weights")]);
    report.set_halved(&["scale".to_owned()]);
    // 2,000 weights, each with 2 bytes now.
    assert_eq!(report.tensors[1].output_bytes, 4000);
    report.output_bytes = 1050 + 4000;
    let page = page_of_report(&report);
    assert!(
        page.contains("weights 1.05\u{a0}kB, kept as floats 4.00\u{a0}kB</small>"),
        "{page}"
    );
    assert!(!page.contains("the rest 0"));
    // An entropy coder takes fewer bytes than all codes, or by chance as many.
    report.target = "campana".to_owned();
    assert!(page_of_report(&report).contains("all parts coded together"));
}
