//! Widths chosen under a bound, the plan they make, and bounds that are missed.

use std::fs;

use crate::support::{Folder, Outcome, fixture, root};

/// The fixture with its sidecar and images.
fn folder() -> Folder {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let read = |name: &str| fs::read(root().join("fixtures").join(name)).unwrap();
    folder.write("model.json", read("cifar10_resnet8.json"));
    folder.write("images.bin", read("cifar10_test_500.bin"));
    folder
}

fn quantize(folder: &Folder, options: &[&str]) -> Outcome {
    let command = ["quantize", "model.onnx", "-o", "out.onnx", "--json"];
    folder.run(&[&command, options].concat())
}

/// The widths of the quantized tensors.
fn widths(report: &serde_json::Value) -> Vec<u64> {
    let tensors = report["tensors"].as_array().unwrap();
    tensors.iter().filter_map(|t| t["bits"].as_u64()).collect()
}

#[test]
fn outputs_on_integers_fill_the_size_that_they_may_have() {
    const MOST: u64 = 45_000;
    let folder = folder();
    for (output, target) in [("a.onnx", "w4a8"), ("a.tflite", "tflm")] {
        let command = ["quantize", "model.onnx", "-o", output, "--target", target];
        let options = ["--max-size", "45kB", "--no-correct", "--json"];
        let report = folder.run(&[&command[..], &options].concat()).json();
        let bytes = report["output_bytes"].as_u64().unwrap();
        assert!(bytes <= MOST && 20 * bytes > 19 * MOST, "{target}: {bytes}");
    }
    let command = ["quantize", "model.onnx", "-o", "b.tflite", "--target"];
    let options = ["tflite", "--max-size", "60kB", "--no-correct", "--json"];
    let report = folder.run(&[&command[..], &options].concat()).json();
    let chosen = widths(&report);
    assert!(
        chosen.iter().all(|bits| [4, 8].contains(bits)),
        "{chosen:?}"
    );
    assert!(report["output_bytes"].as_u64() <= Some(60_000));
}

#[test]
fn a_plan_is_saved_edited_and_applied() {
    let folder = folder();
    let report = quantize(&folder, &["--bits", "3.2", "--plan", "plan.toml"]).json();
    let bits = report["bits_per_weight"].as_f64().unwrap();
    assert!((3.0..=3.2).contains(&bits), "{bits}");
    assert_eq!(report["allocation"]["met"], true);
    let chosen = widths(&report);
    assert!(chosen.iter().max() > chosen.iter().min(), "{chosen:?}");
    let first = folder.read("out.onnx");

    let applied = quantize(&folder, &["--plan", "plan.toml", "--force"]).json();
    assert_eq!(widths(&applied), chosen);
    assert!(applied["allocation"].is_null());
    assert!(
        folder.read("out.onnx") == first,
        "a plan gives the model it was made from"
    );

    let plan = String::from_utf8(folder.read("plan.toml")).unwrap();
    let line = format!("bits = {}\n", chosen[0]);
    folder.write("plan.toml", plan.replacen(&line, "bits = 0\n", 1));
    let edited = quantize(&folder, &["--plan", "plan.toml", "--force"]).json();
    assert_eq!(widths(&edited).len(), chosen.len() - 1);
    folder.write("plan.toml", plan.replacen(&line, "bits = 11\n", 1));
    quantize(&folder, &["--plan", "plan.toml", "--force"]).is_refusal(&["plan.toml", "not 11"]);
    folder.write("plan.toml", plan.replacen("name = \"", "name = \"no_", 1));
    quantize(&folder, &["--plan", "plan.toml", "--force"]).is_refusal(&[
        "no_",
        "is no weight tensor",
        "campana inspect",
    ]);
    quantize(
        &folder,
        &[
            "--bits",
            "3.2",
            "--plan",
            "plan.toml",
            "--force",
            "--keep",
            "*",
        ],
    )
    .json();
}

#[test]
fn the_output_is_no_larger_than_it_may_be_and_little_smaller() {
    let folder = folder();
    let report = quantize(&folder, &["--max-size", "34kB"]).json();
    let bytes = folder.read("out.onnx").len();
    assert_eq!(report["output_bytes"].as_u64(), Some(bytes as u64));
    assert!((33_000..=34_000).contains(&bytes), "{bytes}");
}

#[test]
fn a_bound_that_cannot_be_met_is_status_1_and_writes_with_best_effort_alone() {
    let folder = folder();
    let before = folder.listing();
    let missed = quantize(&folder, &["--max-size", "3kB", "--no-correct"]);
    assert_eq!(missed.status, Some(1), "{missed:?}");
    let report: serde_json::Value = serde_json::from_str(&missed.stdout).unwrap();
    assert_eq!(report["allocation"]["met"], false);
    assert_eq!(report["allocation"]["written"], false);
    let best = report["output_bytes"].as_u64().unwrap();
    assert!(best > 3_000, "{best}");
    crate::support::assert_same_files(&before, &folder.listing());
    let written = quantize(
        &folder,
        &["--max-size", "3kB", "--no-correct", "--best-effort"],
    );
    assert_eq!(written.status, Some(1), "{written:?}");
    assert_eq!(folder.read("out.onnx").len() as u64, best);
}

#[test]
fn a_drop_is_measured_with_labels_and_estimated_without() {
    let folder = folder();
    let options = ["--max-drop", "4%", "--no-correct", "--force"];
    let measured = quantize(&folder, &[&options[..], &["--data", "images.bin"]].concat()).json();
    let drop = &measured["allocation"]["drop"];
    assert_eq!(drop["how"], "measured");
    assert_eq!(drop["images"], 500);
    assert!(drop["drop"].as_f64().unwrap() <= 0.04, "{drop}");
    let evaluate = ["evaluate", "out.onnx", "--data", "images.bin", "--json"];
    folder.write("out.json", folder.read("model.json"));
    let top1 = folder.run(&evaluate).json()["models"][0]["top1"].as_f64();
    assert_eq!(drop["top1"][1].as_f64(), top1);

    let estimated = quantize(&folder, &options).json();
    let drop = &estimated["allocation"]["drop"];
    assert_eq!(drop["how"], "estimated");
    assert_eq!(drop["data"], "synthetic images");
    assert!(drop["drop"].as_f64().unwrap() <= 0.04, "{drop}");
}

#[test]
fn bounds_exclude_each_other_and_name_their_units() {
    let folder = folder();
    for (options, words) in [
        (
            ["--max-size", "3MB", "--bits", "4"],
            ["cannot be used with", "--bits"],
        ),
        (
            ["--max-size", "3MB", "--max-drop", "1%"],
            ["cannot be used with", "--max-drop"],
        ),
        (
            ["--max-size", "3 bits", "--plan", "p"],
            ["'bits' is no unit", "kB"],
        ),
        (
            ["--max-drop", "1", "--plan", "p"],
            ["use a percentage", "1%"],
        ),
        (
            ["--data", "images.bin", "--plan", "p"],
            ["required", "--max-drop"],
        ),
        (
            ["--bits", "9.5", "--plan", "p"],
            ["whole number from 1 to 8", "3.2"],
        ),
    ] {
        quantize(&folder, &options).is_refusal(&words);
    }
}
