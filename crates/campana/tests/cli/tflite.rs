//! Models in TFLite's own format.

use std::fs;

use campana_onnx::NewNode;

use crate::support::models::{NewModel, conv_model};
use crate::support::{Folder, fixture, root};

/// The fixture with what tells the scale of its input.
fn folder() -> Folder {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let sidecar = root().join("fixtures/cifar10_resnet8.json");
    folder.write("model.json", fs::read(sidecar).unwrap());
    folder
}

#[test]
fn the_name_of_an_output_asks_for_tflite() {
    let folder = folder();
    let quantize = ["quantize", "model.onnx", "--no-correct", "--json", "-o"];
    let report = folder
        .run(&[&quantize[..], &["small.tflite"]].concat())
        .json();
    assert_eq!(report["target"], "tflite");
    assert_eq!(report["tensors"][0]["bits"], 8);
    let float = ["float.tflite", "--target", "tflite-float"];
    folder.run(&[&quantize[..], &float].concat()).json();
    let [small, float] = ["small.tflite", "float.tflite"].map(|name| folder.read(name));
    for file in [&small, &float] {
        assert_eq!(&file[4..8], b"TFL3");
    }
    assert!(small.len() * 3 < float.len());
    assert_eq!(report["output_bytes"], small.len());
}

#[test]
fn weights_have_as_many_bits_as_the_interpreter_reads() {
    let folder = folder();
    let quantize = ["quantize", "model.onnx", "--no-correct", "--target"];
    let mut bytes = Vec::new();
    for (target, bits) in [("tflm", "2"), ("tflite", "4"), ("tflite", "8")] {
        let output = ["-o", "a.tflite", "--force", "--bits", bits, "--json"];
        let args = [&quantize[..], &[target], &output].concat();
        let report = folder.run(&args).json();
        assert_eq!(report["target"], target);
        bytes.push(report["output_bytes"].as_u64().unwrap());
    }
    assert!(bytes[0] * 4 < bytes[1] * 3, "{bytes:?}");
    assert!(bytes[1] * 3 < bytes[2] * 2, "{bytes:?}");
    let narrow = ["tflite", "-o", "b.tflite", "--bits", "3"];
    folder.refuses(
        &[&quantize[..], &narrow].concat(),
        &["4 and 8 bits", "tflm"],
    );
    let vectors = ["tflm", "-o", "b.tflite", "--method", "vq", "--bits", "2"];
    folder.refuses(&[&quantize[..], &vectors].concat(), &["TFLite Micro", "vq"]);
    let contradicting = ["tflm", "-o", "b.onnx"];
    folder.refuses(&[&quantize[..], &contradicting].concat(), &["b.onnx"]);
}

#[test]
fn what_tflite_cannot_say_is_refused_before_anything_is_written() {
    let erf = NewNode::new("Erf", ["y"], ["z"]);
    let model = NewModel::new()
        .input("x", &[1, 64])
        .output("z", &[1, 48])
        .weights("w", &[64, 48])
        .node(NewNode::new("MatMul", ["x", "w"], ["y"]))
        .node(erf);
    let folder = Folder::with_model(model.into_bytes());
    for target in ["tflite", "tflite-float"] {
        let args = ["quantize", "model.onnx", "-o", "a.tflite", "--target"];
        let range = "--input-range=-1,1";
        folder.refuses(
            &[&args[..], &[target, range]].concat(),
            &["'model.onnx'", "TFLite", "node 'z' (Erf)"],
        );
    }
}

#[test]
fn a_tflite_model_is_verified_beside_its_reference() {
    let folder = Folder::with_model(conv_model().into_bytes());
    folder.write("a.tflite", b"\x10\0\0\0TFL3");
    folder.refuses(&["verify", "a.tflite"], &["a.tflite", "--reference"]);
}
