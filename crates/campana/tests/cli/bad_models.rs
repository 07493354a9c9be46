//! Models that cannot be read, or whose weights cannot be quantized.

use std::fs;

use campana_onnx::{NewNode, NewTensor};
use campana_tensor::ElementType;
use serde_json::Value;

use crate::support::models::{CONV_LEN, NewModel, conv_model, conv_with, random_weights};
use crate::support::{Folder, fixture};

const QUANTIZE: [&str; 4] = ["quantize", "model.onnx", "-o", "out.onnx"];
const INSPECT: [&str; 2] = ["inspect", "model.onnx"];

/// Both commands refuse this file, naming it and saying each of `words`.
#[track_caller]
fn is_refused(bytes: impl AsRef<[u8]>, words: &[&str]) {
    let folder = Folder::with_model(bytes);
    let words = [&["model.onnx"], words].concat();
    folder.refuses(&QUANTIZE, &words);
    folder.refuses(&INSPECT, &words);
}

/// The same options without the tensors that match.
fn keeping(pattern: &str) -> Vec<&str> {
    [&QUANTIZE[..], &["--keep", pattern]].concat()
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::new();
    folder.refuses(&QUANTIZE, &["model.onnx", "No such file"]);
    folder.refuses(&INSPECT, &["model.onnx", "No such file"]);
}

#[test]
fn a_folder_is_no_model() {
    let folder = Folder::new();
    fs::create_dir(folder.path("model.onnx")).unwrap();
    folder.refuses(&QUANTIZE, &["model.onnx", "not a regular file"]);
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    let model = fs::read(fixture()).unwrap();
    for share in [1, 10, 50, 90, 99] {
        is_refused(&model[..model.len() * share / 100], &["byte"]);
    }
    is_refused(&model[..model.len() - 1], &["byte"]);
}

#[test]
fn other_formats_are_recognized() {
    is_refused(b"", &["not an ONNX file", "empty"]);
    is_refused(
        b"<!DOCTYPE html>\n<html>404</html>",
        &["not an ONNX file", "HTML"],
    );
    is_refused(
        b"PK\x03\x04\x14\x00\x00\x00\x08\x00",
        &["not an ONNX file", "zip", "export"],
    );
    is_refused(b"{\"model\": [1, 2]}", &["not an ONNX file", "JSON"]);
    is_refused(b"just some words\n", &["not an ONNX file", "text"]);
}

#[test]
fn random_bytes_are_refused() {
    for seed in ["a", "b", "c", "d"] {
        let values = random_weights(seed, 1000);
        let bytes: Vec<u8> = values
            .iter()
            .map(|value| (value * 1e4) as i32 as u8)
            .collect();
        is_refused(bytes, &[]);
    }
}

#[test]
fn weights_that_are_not_finite_are_named_and_counted() {
    let mut values = random_weights("w", CONV_LEN);
    values[7] = f32::NAN;
    values[8] = f32::INFINITY;
    values[1000] = f32::NEG_INFINITY;
    let bytes = conv_with(&values).into_bytes();
    is_refused(&bytes, &["'w'", "3 NaN or infinite", "1152", "--keep 'w'"]);
    // What the message advises works.
    let folder = Folder::with_model(&bytes);
    folder.run(&keeping("w")).succeeds();
    assert!(folder.read("out.onnx") == bytes, "nothing else to quantize");
}

#[test]
fn one_bad_tensor_kept_lets_the_others_be_quantized() {
    let bytes = conv_model()
        .floats("bad", &[40, 40], &[f32::NAN; 1600])
        .input("v", &[1, 40])
        .node(NewNode::new("MatMul", ["v", "bad"], ["u"]))
        .output("u", &[1, 40])
        .into_bytes();
    is_refused(&bytes, &["'bad'", "1600 NaN or infinite"]);
    let folder = Folder::with_model(&bytes);
    let report = folder
        .run(&[&keeping("bad")[..], &["--json"]].concat())
        .warns("no image and of unknown scale")
        .json();
    assert_eq!(report["weights"], CONV_LEN);
}

#[test]
fn a_bias_that_is_not_finite_is_none_of_our_business() {
    let bytes = conv_model()
        .floats("bias", &[16], &[f32::NAN; 16])
        .input("b.x", &[1, 8, 3, 3])
        .node(NewNode::new("Conv", ["b.x", "w", "bias"], ["b.y"]))
        .output("b.y", &[1, 16, 1, 1])
        .into_bytes();
    Folder::with_model(bytes).run(&QUANTIZE).succeeds();
}

#[test]
fn an_empty_tensor_stays_as_it_is() {
    let bytes = conv_model()
        .floats("empty", &[0, 40], &[])
        .input("v", &[1, 0])
        .node(NewNode::new("MatMul", ["v", "empty"], ["u"]))
        .output("u", &[1, 40])
        .into_bytes();
    let folder = Folder::with_model(&bytes);
    let report = folder
        .run(&[&QUANTIZE[..], &["--json"]].concat())
        .warns("cannot be made")
        .json();
    let empty = &report["tensors"].as_array().unwrap()[1];
    assert_eq!(empty["kept"], "empty");
    folder.run(&INSPECT).succeeds();
}

#[test]
fn constant_tensors_are_quantized_by_every_method() {
    let methods = [
        "auto", "ks", "gaussian", "laplace", "ggd", "kmeans", "ecsq", "minmax", "mse", "aciq",
        "pwlq", "pot", "apot", "nf",
    ];
    for value in [0.0, 0.25, -1.7e-3, 3.0e20, 1.0e-40] {
        let folder = Folder::with_model(conv_with(&[value; CONV_LEN]).into_bytes());
        folder.run(&INSPECT).succeeds();
        for method in methods {
            for granularity in ["tensor", "channel", "group=24"] {
                let args = [
                    "--method",
                    method,
                    "--granularity",
                    granularity,
                    "--json",
                    "--force",
                ];
                let report = folder
                    .run(&[&QUANTIZE[..], &args].concat())
                    .may_warn("nothing tells the scale")
                    .json();
                let tensor = &report["tensors"][0];
                assert_eq!(tensor["kept"], Value::Null, "{report}");
                // Exact; but a scale of each group may be rounded to 16 bits.
                let sqnr_db = tensor["sqnr_db"].as_f64();
                let is_near = granularity != "tensor"
                    && sqnr_db.is_some_and(|db| db > MIN_SQNR_OF_ROUNDED_SCALES_DB);
                assert!(tensor["mse"] == 0.0 || is_near, "{value}: {report}");
            }
        }
    }
}

/// SQNR of groups whose scale is off by up to 1/128.
const MIN_SQNR_OF_ROUNDED_SCALES_DB: f64 = 40.0;

#[test]
fn a_tensor_with_too_few_or_too_many_elements_is_named() {
    for count in [CONV_LEN - 1, CONV_LEN + 1] {
        let bytes = crate::support::models::little_endian(&vec![0.5; count]);
        let tensor = NewTensor::raw("w", &[16, 8, 3, 3], ElementType::F32, bytes);
        is_refused(conv_of(tensor), &["'w'", "4608", &(4 * count).to_string()]);
    }
}

#[test]
fn extents_that_overflow_are_refused_before_memory_is_asked_for() {
    let dims = [1 << 40, 1 << 40, 3, 3];
    let tensor = NewTensor::raw("w", &dims, ElementType::F32, vec![0; 16]);
    is_refused(conv_of(tensor), &["\"w\"", "more elements"]);
    let dims = [1 << 20, 1 << 20, 3, 3];
    let tensor = NewTensor::raw("w", &dims, ElementType::F32, vec![0; 16]);
    is_refused(conv_of(tensor), &["\"w\"", "more than"]);
}

#[test]
fn negative_extents_are_refused() {
    let dims = [usize::MAX, 8, 3, 3];
    let tensor = NewTensor::raw("w", &dims, ElementType::F32, vec![0; 16]);
    is_refused(conv_of(tensor), &["\"w\"", "-1"]);
}

/// A convolution with this tensor as its weights.
fn conv_of(tensor: NewTensor<'static>) -> Vec<u8> {
    crate::support::models::conv("", |model: NewModel| model.initializer(tensor)).into_bytes()
}

#[test]
fn a_model_without_weights_is_refused() {
    let bytes = NewModel::new()
        .input("x", &[1, 4])
        .node(NewNode::new("Relu", ["x"], ["y"]))
        .output("y", &[1, 4])
        .into_bytes();
    let folder = Folder::with_model(&bytes);
    folder.refuses(&QUANTIZE, &["model.onnx", "no weights to quantize"]);
    folder.run(&INSPECT).succeeds();
}
