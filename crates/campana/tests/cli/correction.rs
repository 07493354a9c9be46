//! What quantization does to activations is undone, with images or without.

use std::fs;

use crate::support::{Folder, fixture, root};

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
    let quantize = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--bits",
        "2",
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

#[test]
fn correction_recovers_most_of_what_two_bits_lose() {
    let folder = folder();
    let (plain, report) = two_bits(&folder, &["--no-correct"]);
    assert!(report["correction"].is_null());
    assert_eq!(report["not_corrected"], "--no-correct");
    let (corrected, report) = two_bits(&folder, &[]);
    assert_eq!(report["correction"]["samples"], "synthetic");
    assert!(report["correction"]["compensated"].as_u64().unwrap() >= 8);
    assert!(report["not_corrected"].is_null());
    let (calibrated, report) =
        two_bits(&folder, &["--calibrate", "images.bin", "--samples", "100"]);
    assert_eq!(report["correction"]["samples"], "given");
    assert_eq!(report["correction"]["images"], 100);
    assert!(corrected > plain + 0.1, "{plain} {corrected}");
    assert!(calibrated > corrected, "{corrected} {calibrated}");
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
