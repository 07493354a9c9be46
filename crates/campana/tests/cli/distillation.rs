//! Learning from the float network's answers.

use std::fs;

use campana_onnx::NewNode;

use crate::support::models::NewModel;
use crate::support::{Folder, fixture, root};

/// The fixture with its sidecar and images.
fn folder() -> Folder {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let read = |name: &str| fs::read(root().join("fixtures").join(name)).unwrap();
    folder.write("model.json", read("cifar10_resnet8.json"));
    folder.write("images.bin", read("cifar10_test_500.bin"));
    folder
}

/// Distills the fixture at 1 bit.
const DISTILL: [&str; 10] = [
    "quantize",
    "model.onnx",
    "--bits",
    "1",
    "--calibrate",
    "images.bin",
    "--samples",
    "256",
    "--json",
    "--force",
];

#[test]
fn answers_come_nearer_to_the_float_networks() {
    let folder = folder();
    let options = ["-o", "small.onnx", "--distill", "24"];
    let report = folder.run(&[&DISTILL[..], &options].concat()).json();
    let distilled = &report["distilled"];
    assert_eq!(distilled["steps"], 24);
    assert_eq!(distilled["samples"], 224);
    assert_eq!(distilled["held_back"], 32);
    assert!(distilled["kept_step"].as_u64().unwrap() > 0, "{distilled}");
    let of = |key: &str| distilled[key].as_f64().unwrap();
    assert!(
        of("divergence_after") < 0.98 * of("divergence_before"),
        "{distilled}"
    );
    // Nothing but values changed: the file is as large as without.
    let plain = folder
        .run(&[&DISTILL[..], &["-o", "plain.onnx"]].concat())
        .json();
    assert_eq!(plain["output_bytes"], report["output_bytes"]);
    assert!(plain.get("distilled").is_none());
    let [small, plain] = ["small.onnx", "plain.onnx"].map(|name| folder.read(name));
    assert_ne!(small, plain);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = folder();
    for (output, threads) in [("one.onnx", "1"), ("three.onnx", "3")] {
        let options = ["-o", output, "--distill", "3", "--threads", threads];
        folder.run(&[&DISTILL[..], &options].concat()).json();
    }
    assert_eq!(folder.read("one.onnx"), folder.read("three.onnx"));
}

#[test]
fn every_form_holds_what_was_learned() {
    let folder = folder();
    let distill = |output: &str, options: &[&str]| {
        let all = [&DISTILL[..], &["-o", output, "--distill", "8"], options].concat();
        folder.run(&all).json()["distilled"].clone()
    };
    let top1 = |model: &str| {
        let stem = model.split('.').next().unwrap();
        let sidecar = fs::read(root().join("fixtures/cifar10_resnet8.json")).unwrap();
        folder.write(&format!("{stem}.json"), sidecar);
        let evaluate = ["evaluate", model, "--data", "images.bin", "--json"];
        let report = folder.run(&evaluate).json();
        report["models"][0]["top1"].as_f64().unwrap()
    };
    let lut = distill("lut.onnx", &[]);
    let float = distill("float.onnx", &["--target", "float"]);
    let packed = distill("packed.campana", &["--target", "campana"]);
    assert_eq!([&float, &packed], [&lut, &lut]);
    let expected = top1("lut.onnx");
    assert_eq!(top1("float.onnx"), expected);
    assert_eq!(top1("packed.campana"), expected);
    // Levels that are integers stay such.
    distill("w4a8.onnx", &["--target", "w4a8"]);
    let rounded = top1("w4a8.onnx");
    assert!(rounded > expected - 0.06, "{rounded}, {expected}");
}

#[test]
fn a_bound_on_the_size_is_kept() {
    let folder = folder();
    let options = [
        "quantize",
        "model.onnx",
        "-o",
        "small.onnx",
        "--max-size",
        "30kB",
        "--calibrate",
        "images.bin",
        "--samples",
        "64",
        "--distill",
        "2",
        "--json",
    ];
    let report = folder.run(&options).json();
    assert_eq!(report["distilled"]["steps"], 2);
    assert!(report["output_bytes"].as_u64().unwrap() <= 30_000);
}

#[test]
fn what_cannot_be_distilled_is_refused() {
    let folder = folder();
    let quantize = [
        "quantize",
        "model.onnx",
        "-o",
        "small.onnx",
        "--distill",
        "5",
    ];
    for options in [
        &["--no-correct"][..],
        &["--max-drop", "1%"],
        &["--target", "campana", "--rate", "1.5"],
    ] {
        folder.refuses(&[&quantize[..], options].concat(), &["cannot be used with"]);
    }
    for budget in ["0", "5 minutes", "-1", "1d"] {
        let budget = format!("--distill={budget}");
        let quantize = ["quantize", "model.onnx", "-o", "small.onnx", &budget];
        folder.refuses(&quantize, &["300, 90s, 5m or 1h"]);
    }
}

#[test]
fn an_operator_without_a_gradient_is_named() {
    let model = NewModel::new()
        .input("x", &[1, 3, 8, 8])
        .output("y", &[1, 4, 6, 6])
        .weights("w", &[4, 3, 3, 3])
        .node(NewNode::new("Conv", ["x", "w"], ["c"]))
        .node(NewNode::new("Ceil", ["c"], ["y"]));
    let folder = Folder::with_model(model.into_bytes());
    let quantize = [
        "quantize",
        "model.onnx",
        "-o",
        "small.onnx",
        "--distill",
        "5",
    ];
    folder.refuses(&quantize, &["cannot distill", "Ceil \"y\"", "gradient"]);
}
