//! Core ML packages.

use std::fs;

use campana_onnx::NewNode;

use crate::support::models::{NewModel, conv_model};
use crate::support::{Folder, fixture, root};

const FILES: [&str; 3] = [
    "Manifest.json",
    "Data/com.apple.CoreML/model.mlmodel",
    "Data/com.apple.CoreML/weights/weight.bin",
];

fn in_package(package: &str, file: &str) -> String {
    format!("{package}/{file}")
}

#[test]
fn the_name_of_an_output_asks_for_a_package() {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let sidecar = root().join("fixtures/cifar10_resnet8.json");
    folder.write("model.json", fs::read(sidecar).unwrap());
    let quantize = ["quantize", "model.onnx", "--no-correct", "--json", "-o"];
    let report = folder
        .run(&[&quantize[..], &["small.mlpackage"]].concat())
        .json();
    assert_eq!(report["target"], "coreml");
    assert_eq!(report["tensors"][0]["bits"], 4);
    let lens = FILES.map(|file| folder.read(&in_package("small.mlpackage", file)).len());
    assert_eq!(report["output_bytes"], lens.iter().sum::<usize>());
    assert!(lens.iter().sum::<usize>() * 4 < folder.read("model.onnx").len());
    let model = folder.read(&in_package("small.mlpackage", FILES[1]));
    for word in ["CoreML8", "classLabel", "airplane", "logits"] {
        let is_there = model
            .windows(word.len())
            .any(|part| part == word.as_bytes());
        assert!(is_there, "{word}");
    }
    let wide = ["wide.mlpackage", "--target", "coreml-float32"];
    let wide = folder.run(&[&quantize[..], &wide].concat()).json();
    assert!(wide["output_bytes"].as_u64() > report["output_bytes"].as_u64());
}

#[test]
fn a_package_is_replaced_whole_and_nothing_else_is() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let quantize = [
        "quantize",
        "model.onnx",
        "--no-correct",
        "-o",
        "a.mlpackage",
    ];
    let forced = [&quantize[..], &["--force", "--bits", "2"]].concat();
    folder.run(&quantize).succeeds();
    let first = folder.read(&in_package("a.mlpackage", FILES[1]));
    folder.refuses(&quantize, &["'a.mlpackage' exists", "--force"]);
    folder.run(&forced).succeeds();
    assert_ne!(folder.read(&in_package("a.mlpackage", FILES[1])), first);
    let notes = in_package("a.mlpackage", "Data/com.apple.CoreML/notes.txt");
    fs::write(folder.path(&notes), "mine").unwrap();
    folder.refuses(&forced, &["'Data/com.apple.CoreML/notes.txt'"]);
    assert_eq!(folder.read(&notes), b"mine");
    let page = in_package("a.mlpackage", "page.html");
    let inside = [&forced[..], &["--report", &page]].concat();
    folder.refuses(&inside, &["the report", "'a.mlpackage'"]);
    folder.write("file.mlpackage", b"no folder");
    let args = ["quantize", "model.onnx", "-o", "file.mlpackage", "--force"];
    folder.refuses(&args, &["'file.mlpackage' exists"]);
}

#[test]
fn a_folder_is_no_stream_and_has_no_other_name() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let quantize = ["quantize", "model.onnx", "--target", "coreml", "-o"];
    folder.refuses(&[&quantize[..], &["-"]].concat(), &["standard output"]);
    folder.refuses(&[&quantize[..], &["a.tflite"]].concat(), &["Core ML"]);
    let contrary = [
        "quantize",
        "model.onnx",
        "-o",
        "a.mlpackage",
        "--target=lut",
    ];
    folder.refuses(&contrary, &["a.mlpackage", "--target coreml"]);
}

#[test]
fn what_core_ml_cannot_say_is_refused_before_anything_is_written() {
    let model = NewModel::new()
        .input("x", &[1, 64])
        .output("z", &[1, 48])
        .weights("w", &[64, 48])
        .node(NewNode::new("MatMul", ["x", "w"], ["y"]))
        .node(NewNode::new("Hardmax", ["y"], ["z"]));
    let folder = Folder::with_model(model.into_bytes());
    for target in ["coreml", "coreml-float32"] {
        let args = ["quantize", "model.onnx", "-o", "a.mlpackage", "--target"];
        folder.refuses(
            &[&args[..], &[target]].concat(),
            &["'model.onnx'", "Core ML", "node 'z' (Hardmax)"],
        );
    }
}
