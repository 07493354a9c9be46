//! What quantization does to activations is undone, with images or without.

use std::fs;

use campana_onnx::NewNode;

use crate::support::models::NewModel;
use crate::support::{Folder, assert_same_files, fixture, root};

/// The fixture with its sidecar and images.
fn folder() -> Folder {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let read = |name: &str| fs::read(root().join("fixtures").join(name)).unwrap();
    folder.write("model.json", read("cifar10_resnet8.json"));
    folder.write("out.json", read("cifar10_resnet8.json"));
    folder.write("images.bin", read("cifar10_test_500.bin"));
    folder
}

/// Top-1 of the 2-bit model that `options` give, and what was reported.
fn two_bits(folder: &Folder, options: &[&str]) -> (f64, serde_json::Value) {
    with_bits("2", folder, options)
}

/// The same of a model of this width.
fn with_bits(bits: &str, folder: &Folder, options: &[&str]) -> (f64, serde_json::Value) {
    let quantize = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--bits",
        bits,
        "--json",
        "--force",
    ];
    let report = folder.run(&[&quantize, options].concat()).json();
    let evaluate = ["evaluate", "out.onnx", "--data", "images.bin", "--json"];
    let top1 = folder.run(&evaluate).json()["models"][0]["top1"]
        .as_f64()
        .unwrap();
    (top1, report)
}

/// A standard error of the accuracy on 500 images.
const CHANCE: f64 = 0.016;

#[test]
fn correction_recovers_most_of_what_one_bit_loses() {
    let folder = folder();
    let (plain, report) = with_bits("1", &folder, &["--no-correct"]);
    assert!(report["correction"].is_null());
    assert_eq!(report["not_corrected"], "--no-correct");
    let (corrected, report) = with_bits("1", &folder, &[]);
    assert_eq!(report["correction"]["samples"], "synthetic");
    assert!(report["correction"]["compensated"].as_u64().unwrap() >= 8);
    assert!(report["not_corrected"].is_null());
    let calibrate = ["--calibrate", "images.bin", "--samples", "100"];
    let (calibrated, report) = with_bits("1", &folder, &calibrate);
    assert_eq!(report["correction"]["samples"], "given");
    assert_eq!(report["correction"]["images"], 100);
    assert!(corrected > plain + 0.1, "{plain} {corrected}");
    assert!(calibrated > corrected - CHANCE, "{corrected} {calibrated}");
}

#[test]
fn a_method_that_is_asked_for_keeps_its_codes() {
    let folder = folder();
    let method = ["--method", "ks", "--granularity", "channel"];
    let (plain, plain_report) = two_bits(&folder, &[&method[..], &["--no-correct"]].concat());
    let (corrected, report) = two_bits(&folder, &method);
    assert_eq!(report["correction"]["compensated"], 0);
    assert!(report["correction"]["corrected"].as_u64().unwrap() > 0);
    assert_eq!(report["mse"], plain_report["mse"]);
    assert!(corrected > plain, "{plain} {corrected}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = folder();
    let outputs = ["1", "2"].map(|threads| {
        two_bits(&folder, &["--threads", threads]);
        folder.read("out.onnx")
    });
    assert!(outputs[0] == outputs[1]);
}

#[test]
fn an_interrupted_correction_goes_on_from_its_journal() {
    let folder = folder();
    two_bits(&folder, &[]);
    let expected = folder.read("out.onnx");
    let resume = ["--resume", "layers.jsonl"];
    two_bits(&folder, &resume);
    assert!(folder.read("out.onnx") == expected);

    // An interruption leaves some layers, the last one in the middle of its line.
    let whole = String::from_utf8(folder.read("layers.jsonl")).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    assert!(lines.len() > 8, "a header and a line for each layer");
    let left = lines[..5].concat() + &lines[5][..lines[5].len() / 2];
    folder.write("layers.jsonl", left);
    for _ in ["some layers are there", "all are"] {
        two_bits(&folder, &resume);
        assert!(folder.read("out.onnx") == expected);
        assert!(folder.read("layers.jsonl") == whole.as_bytes());
    }

    // Layers of other images are others.
    let calibrate = ["--calibrate", "images.bin", "--samples", "50"];
    two_bits(&folder, &calibrate);
    let expected = folder.read("out.onnx");
    two_bits(&folder, &[&calibrate[..], &resume].concat());
    assert!(folder.read("out.onnx") == expected);
    let both = String::from_utf8(folder.read("layers.jsonl")).unwrap();
    assert!(both.starts_with(&whole));
    assert_eq!(both.lines().count(), 2 * lines.len() - 1);
}

#[test]
fn a_journal_of_something_else_is_refused_and_kept() {
    let folder = folder();
    folder.write("notes", "no journal\nof mine");
    let damaged = "{\"crc32\":\"00000000\",\"record\":{\"campana_quantize\":\"0.1.0\"}}\n";
    folder.write("damaged", damaged);
    let quantize = ["quantize", "model.onnx", "-o", "out.onnx", "--resume"];
    for (journal, words) in [
        ("notes", &["notes", "no journal"][..]),
        ("damaged", &["damaged", "line 1", "checksum"]),
        ("model.onnx", &["model.onnx", "journal"]),
        ("out.onnx", &["out.onnx", "the journal", "is the output"]),
    ] {
        let before = folder.listing();
        folder
            .run(&[&quantize[..], &[journal]].concat())
            .is_refusal(words);
        assert_same_files(&before, &folder.listing());
    }
    // Nor does a command that is refused leave a journal.
    folder.write("out.onnx", "mine");
    let before = folder.listing();
    let refused = folder.run(&[&quantize[..], &["new"]].concat());
    refused.is_refusal(&["out.onnx", "exists", "--force"]);
    assert_same_files(&before, &folder.listing());
}

#[test]
fn images_that_cannot_be_had_are_an_error() {
    let folder = folder();
    let quantize = ["quantize", "model.onnx", "-o", "out.onnx"];
    let missing = folder.run(&[&quantize[..], &["--calibrate", "nowhere.bin"]].concat());
    missing.is_refusal(&["nowhere.bin"]);
    fs::remove_file(folder.path("model.json")).unwrap();
    let no_sidecar = folder.run(&[&quantize[..], &["--calibrate", "images.bin"]].concat());
    no_sidecar.is_refusal(&["model.json"]);
    assert!(!folder.path("out.onnx").exists());
}

#[test]
fn what_could_not_be_corrected_is_said_at_the_end_too() {
    let model = NewModel::new()
        .weights("w", &[16, 8, 3, 3])
        .input("x", &[1, 8, 12, 12])
        .node(NewNode::new("Unheard", ["x"], ["u"]))
        .node(NewNode::new("Conv", ["u", "w"], ["y"]))
        .output("y", &[1, 16, 10, 10]);
    let folder = Folder::with_model(model.into_bytes());
    let range = "--input-range=-1,1";
    let stdout = folder
        .run(&["quantize", "model.onnx", "-o", "out.onnx", range])
        .warns("not corrected: Conv 'y'")
        .succeeds();
    let closing = "Nothing corrected with 256 synthetic samples: 1 layer could not be";
    assert!(stdout.contains(closing), "{stdout}");
}
