//! Models whose weights are in files beside them.

use std::fs;
use std::os::unix::fs::symlink;

use campana_onnx::{DataLocation, Model, NewNode};

use crate::support::models::{NewModel, add_conv, external, little_endian, random_weights};
use crate::support::{Folder, assert_same_files};

const LARGE: [usize; 4] = [16, 8, 3, 3];
const OTHER: [usize; 2] = [64, 64];

/// Two weight tensors in `location`, the second from byte 8192 on.
fn model(location: &str) -> Vec<u8> {
    let model = NewModel::new()
        .initializer(external("w", &LARGE, location, 0))
        .initializer(external("other", &OTHER, location, 8192))
        .input("v", &[1, 64])
        .node(NewNode::new("MatMul", ["v", "other"], ["u"]))
        .output("u", &[1, 64]);
    add_conv(model, "").into_bytes()
}

/// The contents of that file.
fn data() -> Vec<u8> {
    let mut bytes = little_endian(&random_weights("w", 16 * 8 * 9));
    bytes.resize(8192, 0);
    bytes.extend(little_endian(&random_weights("other", 64 * 64)));
    bytes
}

/// A folder with the model and its data file.
fn folder() -> Folder {
    let folder = Folder::with_model(model("model.onnx.data"));
    folder.write("model.onnx.data", data());
    folder
}

/// The location and elements of a tensor of a model in the folder.
fn tensor(folder: &Folder, model: &str, name: &str) -> (Option<String>, Vec<f32>) {
    let model = Model::open(folder.path(model)).unwrap();
    let tensor = model
        .graph
        .initializers
        .iter()
        .find(|tensor| tensor.name == name)
        .unwrap();
    let location = match &tensor.data {
        DataLocation::External(external) => Some(external.location.clone()),
        _ => None,
    };
    (location, model.read_f32(tensor).unwrap())
}

#[track_caller]
fn refuses(folder: &Folder, words: &[&str]) {
    let words = [&["model.onnx", "'w'"], words].concat();
    folder.refuses(&["quantize", "model.onnx", "-o", "out.onnx"], &words);
    folder.refuses(&["inspect", "model.onnx"], &words);
}

#[test]
fn a_missing_data_file_is_named() {
    refuses(
        &Folder::with_model(model("gone.bin")),
        &["gone.bin", "beside the model"],
    );
}

#[test]
fn data_outside_the_models_folder_is_refused() {
    let folder = Folder::with_model(model("../outside.bin"));
    refuses(&folder, &["../outside.bin", "outside the model's folder"]);
    let outside = Folder::new();
    let path = outside.write("outside.bin", data());
    let path = path.to_str().unwrap();
    refuses(
        &Folder::with_model(model(path)),
        &[path, "outside the model's folder"],
    );
}

#[test]
fn a_link_that_leaves_the_models_folder_is_refused() {
    let outside = Folder::new();
    let path = outside.write("outside.bin", data());
    let folder = Folder::with_model(model("inside.bin"));
    symlink(path, folder.path("inside.bin")).unwrap();
    refuses(
        &folder,
        &["inside.bin", "link", "outside the model's folder"],
    );
}

#[test]
fn a_data_file_that_is_too_short_is_named() {
    let folder = folder();
    folder.write("model.onnx.data", &data()[..4000]);
    refuses(&folder, &["4608 bytes", "model.onnx.data", "4000"]);
}

#[test]
fn beside_the_input_a_new_data_file_is_named_after_the_output() {
    let folder = folder();
    let args = [
        "quantize",
        "model.onnx",
        "-o",
        "small.onnx",
        "--json",
        "--keep=other",
    ];
    let report = folder.run(&args).json();
    assert_eq!(
        tensor(&folder, "small.onnx", "other").0.as_deref(),
        Some("small.onnx.data")
    );
    assert_eq!(
        tensor(&folder, "small.onnx", "other").1,
        tensor(&folder, "model.onnx", "other").1
    );
    assert!(folder.read("model.onnx.data") == data(), "the input's data");
    let bytes = |names: [&str; 2]| {
        names
            .map(|name| folder.read(name).len())
            .iter()
            .sum::<usize>()
    };
    assert_eq!(
        report["input_bytes"],
        bytes(["model.onnx", "model.onnx.data"])
    );
    assert_eq!(
        report["output_bytes"],
        bytes(["small.onnx", "small.onnx.data"])
    );
}

#[test]
fn in_another_folder_the_data_lies_beside_the_output() {
    let folder = folder();
    fs::create_dir(folder.path("out")).unwrap();
    for keep in ["other", "*"] {
        let args = [
            "quantize",
            "model.onnx",
            "-o",
            "out/small.onnx",
            "--force",
            "--keep",
            keep,
        ];
        folder.run(&args).succeeds();
        let (location, values) = tensor(&folder, "out/small.onnx", "other");
        let renamed = keep != "*";
        assert_eq!(
            location.as_deref(),
            Some(if renamed {
                "small.onnx.data"
            } else {
                "model.onnx.data"
            })
        );
        assert_eq!(values, tensor(&folder, "model.onnx", "other").1);
    }
    assert!(folder.read("out/small.onnx") == folder.read("model.onnx"));
    assert!(folder.read("out/model.onnx.data") == data());
}

#[test]
fn float_weights_take_the_place_of_the_old_ones() {
    let folder = folder();
    let args = [
        "quantize",
        "model.onnx",
        "-o",
        "float.onnx",
        "--target=float",
        "--keep=other",
        "--json",
    ];
    let report = folder.run(&args).json();
    let (location, decoded) = tensor(&folder, "float.onnx", "w");
    assert_eq!(location.as_deref(), Some("float.onnx.data"));
    let weights = tensor(&folder, "model.onnx", "w").1;
    let errors = weights
        .iter()
        .zip(&decoded)
        .map(|(a, b)| f64::from(a - b).powi(2));
    let mse = errors.sum::<f64>() / weights.len() as f64;
    let reported = report["mse"].as_f64().unwrap();
    assert!(
        (mse - reported).abs() < 1e-6 * mse,
        "{mse}, reported {reported}"
    );
    assert_eq!(
        tensor(&folder, "float.onnx", "other").1,
        tensor(&folder, "model.onnx", "other").1
    );
}

#[test]
fn with_nothing_to_quantize_the_output_refers_to_the_same_data() {
    let folder = folder();
    let args = ["quantize", "model.onnx", "-o", "same.onnx", "--keep=*"];
    folder.run(&args).succeeds();
    assert!(folder.read("same.onnx") == folder.read("model.onnx"));
    assert_eq!(folder.listing().len(), 3);
}

#[test]
fn data_in_a_folder_below_goes_to_a_folder_below() {
    let folder = Folder::with_model(model("weights/all.bin"));
    folder.write("weights/all.bin", data());
    folder
        .run(&["quantize", "model.onnx", "-o", "small.onnx", "--keep=other"])
        .succeeds();
    assert_eq!(
        tensor(&folder, "small.onnx", "other").0.as_deref(),
        Some("weights/small.all.bin")
    );
}

#[test]
fn an_existing_data_file_is_overwritten_only_with_force() {
    let folder = folder();
    folder.write("small.onnx.data", "precious");
    let args = ["quantize", "model.onnx", "-o", "small.onnx"];
    folder.refuses(&args, &["small.onnx.data", "exists", "--force"]);
    folder.run(&[&args[..], &["--force"]].concat()).succeeds();
    assert!(folder.read("small.onnx.data") != b"precious");
}

#[test]
fn an_output_whose_data_would_replace_the_inputs_is_refused() {
    // The output's name makes its data file that of the input.
    let folder = Folder::new();
    folder.write("a.onnx", model("b.onnx.data"));
    folder.write("b.onnx.data", data());
    let before = folder.listing();
    let outcome = folder.run(&["quantize", "a.onnx", "-o", "b.onnx", "--force"]);
    if outcome.status == Some(2) {
        assert_same_files(&before, &folder.listing());
    }
    assert!(folder.read("b.onnx.data") == data(), "the input's data");
}
