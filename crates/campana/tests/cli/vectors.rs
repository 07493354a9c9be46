//! Codebooks of vectors of weights: what takes them, in every form.

use std::fs;

use crate::support::{Folder, fixture, root};

/// The fixture with its sidecar and images.
fn folder() -> Folder {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let read = |name: &str| fs::read(root().join("fixtures").join(name)).unwrap();
    folder.write("model.json", read("cifar10_resnet8.json"));
    folder.write("images.bin", read("cifar10_test_500.bin"));
    folder
}

/// What is reported of the tensors that `options` give as OUTPUT.
fn methods(folder: &Folder, output: &str, options: &[&str]) -> Vec<String> {
    let quantize = ["quantize", "model.onnx", "-o", output, "--json", "--force"];
    let report = folder.run(&[&quantize, options].concat()).json();
    let tensors = report["tensors"].as_array().unwrap();
    let method = |tensor: &serde_json::Value| Some(tensor["method"].as_str()?.to_owned());
    tensors.iter().filter_map(method).collect()
}

fn top1(folder: &Folder, model: &str) -> f64 {
    folder.write(
        &format!("{}.json", model.split('.').next().unwrap()),
        fs::read(root().join("fixtures/cifar10_resnet8.json")).unwrap(),
    );
    let evaluate = ["evaluate", model, "--data", "images.bin", "--json"];
    let report = folder.run(&evaluate).json();
    report["models"][0]["top1"].as_f64().unwrap()
}

#[test]
fn up_to_two_bits_weights_are_stored_in_vectors() {
    let folder = folder();
    for (bits, some) in [("1", true), ("2", true), ("3", false), ("4", false)] {
        let found = methods(&folder, "out.onnx", &["--bits", bits, "--no-correct"]);
        assert_eq!(
            found.iter().any(|method| method == "vq"),
            some,
            "{bits} bits: {found:?}"
        );
    }
    let found = methods(
        &folder,
        "out.onnx",
        &["--bits", "4", "--method", "vq", "--no-correct"],
    );
    assert!(found.iter().any(|method| method == "vq"), "{found:?}");
}

#[test]
fn every_form_holds_the_same_vectors() {
    let folder = folder();
    let options = ["--bits", "2"];
    methods(&folder, "lut.onnx", &options);
    let expected = top1(&folder, "lut.onnx");
    for (output, target) in [("float.onnx", "float"), ("packed.campana", "campana")] {
        let target = ["--target", target];
        methods(&folder, output, &[&options[..], &target[..]].concat());
        assert_eq!(top1(&folder, output), expected, "{output}");
    }
    methods(&folder, "w4a8.onnx", &["--bits", "2", "--target", "w4a8"]);
    let rounded = top1(&folder, "w4a8.onnx");
    assert!(
        rounded > expected - 0.05,
        "{rounded}, {expected} with float activations"
    );
    let inspected = folder.run(&["inspect", "lut.onnx", "--json"]).json();
    let quantized = inspected["quantized"].as_array().unwrap();
    assert!(
        quantized
            .iter()
            .any(|tensor| tensor["form"] == "vectors" && tensor["levels"] == 256),
        "{quantized:?}"
    );
}

#[test]
fn vectors_do_not_depend_on_threads_nor_on_being_resumed() {
    let folder = folder();
    let one = ["--bits", "2", "--threads", "1", "--resume", "journal"];
    methods(&folder, "one.onnx", &one);
    methods(&folder, "seven.onnx", &["--bits", "2", "--threads", "7"]);
    assert!(folder.read("one.onnx") == folder.read("seven.onnx"));
    methods(&folder, "again.onnx", &one);
    assert!(folder.read("one.onnx") == folder.read("again.onnx"));
}

#[test]
fn widths_that_no_byte_holds_are_refused() {
    let folder = folder();
    let command = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--method",
        "vq",
        "--bits",
        "3",
    ];
    folder.refuses(&command, &["1, 2 or 4 bits", "not 3"]);
}
