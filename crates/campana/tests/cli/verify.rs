//! `campana verify`: one model in every runtime of a machine.

use std::fs;

use campana_formats::TensorFile;
use campana_onnx::NewNode;
use campana_tensor::ElementType;
use serde_json::Value;

use crate::support::models::NewModel;
use crate::support::{Folder, Outcome, fixture, root, skipped};

/// The fixture, and its 4-bit form.
fn folder() -> Folder {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let quantize = ["quantize", "model.onnx", "-o", "out.onnx", "--no-correct"];
    folder.run(&quantize).succeeds();
    folder
}

const VERIFY: [&str; 8] = [
    "verify",
    "out.onnx",
    "--reference",
    "model.onnx",
    "--runs",
    "3",
    "--random",
    "4",
];

/// Largest difference, as a share of the largest output, between engines that
/// sum floats in another order.
const MAX_DIFFERENCE: f64 = 1e-4;

fn rows<'a>(report: &'a Value, runtime: &str) -> Vec<&'a Value> {
    let rows = report["rows"].as_array().unwrap();
    rows.iter()
        .filter(|row| row["runtime"] == runtime)
        .collect()
}

#[test]
fn without_a_python_campana_alone_is_measured() {
    let folder = folder();
    let mut command = folder.command(&[&VERIFY[..], &["--json"]].concat());
    command.env("PATH", folder.path("nothing"));
    let report = Outcome::of(command.output().unwrap()).json();
    let rows = rows(&report, "campana");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["is_reference"], true);
    let bytes = |row: &Value| row["file_bytes"].as_u64().unwrap();
    assert_eq!(bytes(rows[1]), folder.read("out.onnx").len() as u64);
    assert!(bytes(rows[1]) < bytes(rows[0]) / 3);
    assert!(
        rows.iter()
            .all(|row| row["median_ms"].as_f64().unwrap() > 0.0)
    );
    let missing = report["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 3);
    assert!(missing[0]["reason"].as_str().unwrap().contains("python3"));
    assert_eq!(report["verdicts"][0]["smaller_on_disk"], true);
}

#[test]
fn the_table_says_what_was_not_run() {
    let folder = folder();
    let mut command = folder.command(&VERIFY);
    command.env("PATH", folder.path("nothing"));
    let table = Outcome::of(command.output().unwrap()).succeeds();
    for said in [
        "not run: onnxruntime: there is no python3; name one with --python",
        "campana beside the reference: smaller on disk",
        "4 random inputs",
    ] {
        assert!(table.contains(said), "{said} in\n{table}");
    }
}

#[test]
fn a_python_that_is_named_must_be_there() {
    folder().refuses(
        &[&VERIFY[..], &["--python", "no/python"]].concat(),
        &["no/python", "no Python that starts"],
    );
}

#[test]
fn what_is_no_model_is_refused() {
    let folder = folder();
    folder.write("bad.onnx", "not a model");
    folder.refuses(&["verify", "bad.onnx"], &["bad.onnx"]);
    folder.refuses(&["verify", "none.onnx"], &["none.onnx"]);
    folder.refuses(
        &[
            "verify",
            "out.onnx",
            "--reference",
            "bad.onnx",
            "--runtimes",
            "campana",
        ],
        &["bad.onnx"],
    );
    folder.refuses(
        &["verify", "out.onnx", "--random", "0"],
        &["nothing to run"],
    );
}

#[test]
fn runtimes_give_campanas_answers() {
    let python = root().join(".venv-peers/bin/python");
    if !python.exists() {
        skipped("no Python peers; make them with tools/peers/setup.sh");
        return;
    }
    let folder = folder();
    let read = |name: &str| fs::read(root().join("fixtures").join(name)).unwrap();
    folder.write("out.json", read("cifar10_resnet8.json"));
    folder.write("images.bin", read("cifar10_test_500.bin"));
    let python = python.to_str().unwrap();
    let more = [
        "--json",
        "--python",
        python,
        "--data",
        "images.bin",
        "--samples",
        "20",
    ];
    let report = folder.run(&[&VERIFY[..], &more].concat()).json();
    assert_eq!(
        (&report["random_inputs"], &report["given_inputs"]),
        (&4.into(), &20.into())
    );
    for runtime in ["onnxruntime", "openvino"] {
        let rows = rows(&report, runtime);
        assert_eq!(rows.len(), 2, "{report}");
        for row in rows {
            let difference = row["relative_difference"].as_f64().unwrap();
            assert!(difference > 0.0 && difference < MAX_DIFFERENCE, "{row}");
            assert_eq!(row["agreement"], 1.0, "{row}");
            assert!(row["memory_bytes"].as_u64().unwrap() > 0);
        }
    }
    let agreement = rows(&report, "onnxruntime")[1]["reference_agreement"]
        .as_f64()
        .unwrap();
    assert!(agreement > 0.5 && agreement <= 1.0);
    let missing = report["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 1);
    assert!(
        missing[0]["reason"]
            .as_str()
            .unwrap()
            .contains("out.tflite")
    );
}

/// A layer whose output is added to a row of a state: two float inputs and an
/// index.
fn with_state() -> Folder {
    let index = NewNode::new("Gather", ["state", "index"], ["row"]).attribute("axis", 0);
    let model = NewModel::new()
        .input("x", &[1, 64])
        .input("state", &[2, 1, 48])
        .input_of("index", &[], ElementType::I64)
        .output("y", &[1, 48])
        .output("next", &[2, 1, 48])
        .weights("w", &[64, 48])
        .node(NewNode::new("MatMul", ["x", "w"], ["product"]))
        .node(index)
        .node(NewNode::new("Add", ["product", "row"], ["y"]))
        .node(NewNode::new("Tanh", ["state"], ["next"]));
    let folder = Folder::with_model(model.into_bytes());
    let quantize = ["quantize", "model.onnx", "-o", "out.onnx", "--no-correct"];
    folder.run(&quantize).succeeds();
    folder
}

#[test]
fn all_inputs_and_outputs_of_a_model_are_verified_and_timed() {
    let folder = with_state();
    let args = [&VERIFY[..], &["--runtimes=campana", "--json"]].concat();
    let report = folder.run(&args).json();
    let rows = rows(&report, "campana");
    assert_eq!(rows.len(), 2);
    let sqnr = rows[1]["reference_sqnr_db"].as_f64().unwrap();
    assert!((10.0..40.0).contains(&sqnr), "{sqnr}");
    assert!(rows[1]["reference_cosine"].as_f64().unwrap() > 0.9);
    let bench = [
        "bench",
        "out.onnx",
        "--reference",
        "model.onnx",
        "--runs=2",
        "--json",
    ];
    let report = folder.run(&bench).json();
    assert_eq!(report["models"].as_array().map(Vec::len), Some(2));
    folder.refuses(
        &["bench", "out.onnx", "--batch", "4"],
        &["1 samples at once, not 4"],
    );
    folder.refuses(
        &["verify", "out.onnx", "--shape", "x=2x64"],
        &["'x'", "[1, 64]", "[2, 64] contradicts"],
    );
}

#[test]
fn outputs_are_compared_on_arrays_without_labels() {
    let folder = with_state();
    folder.write("x.npy", npy(&[1, 64], &vec![0.5; 64]));
    folder.refuses(
        &["evaluate", "out.onnx", "--data", "x.npy"],
        &["'x.npy' has no labels", "--reference"],
    );
    let args = [
        "evaluate",
        "out.onnx",
        "--reference",
        "model.onnx",
        "--data",
        "x.npy",
    ];
    folder.refuses(&args, &["no array 'state'"]);
    let single = NewModel::new()
        .input("x", &[1, 64])
        .output("y", &[1, 48])
        .weights("w", &[64, 48])
        .node(NewNode::new("MatMul", ["x", "w"], ["y"]));
    let folder = Folder::with_model(single.into_bytes());
    folder.write("x.npy", npy(&[3, 64], &vec![0.5; 192]));
    let quantize = ["quantize", "model.onnx", "-o", "out.onnx", "--no-correct"];
    folder.run(&quantize).succeeds();
    let report = folder.run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(report["n"], 3);
    let output = &report["models"][0]["outputs"][0];
    assert_eq!(output["output"], "y");
    assert!(
        (10.0..80.0).contains(&output["sqnr_db"].as_f64().unwrap()),
        "{output}"
    );
    assert!(output["agreement"].is_number());
}

#[test]
fn what_is_computed_from_arrays_is_said_and_written() {
    let single = NewModel::new()
        .input("x", &[1, 64])
        .output("y", &[1, 48])
        .weights("w", &[64, 48])
        .node(NewNode::new("MatMul", ["x", "w"], ["y"]));
    let folder = Folder::with_model(single.into_bytes());
    folder.write("x.npy", npy(&[3, 64], &vec![0.5; 192]));
    let args = ["run", "model.onnx", "x.npy", "-o", "y.npz"];
    let text = folder.run(&args).succeeds();
    for expected in ["1 x 48", "3 samples", "y.npz"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let written = TensorFile::open(&folder.path("y.npz")).unwrap();
    let output = &written.tensors()[0];
    assert_eq!((&*output.name, &*output.shape), ("y", &[3, 48][..]));
    let values = written.read_f32(output).unwrap();
    let report = folder.run(&["run", "model.onnx", "x.npy", "--json"]).json();
    let said = &report["arrays"]["outputs"][0];
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    assert_eq!(said["greatest"].as_f64(), Some(f64::from(greatest)));
    assert_eq!(report["arrays"]["n"], 3);

    folder.refuses(&args, &["'y.npz' exists", "--force"]);
    folder.refuses(
        &["run", "model.onnx", "x.npy", "-o", "x.npy", "--force"],
        &["the output 'x.npy' is the arrays 'x.npy' itself"],
    );
    folder.refuses(
        &["run", "model.onnx", "x.npy", "picture.jpg"],
        &["'x.npy' holds arrays: give it alone"],
    );
    folder.refuses(
        &["run", "model.onnx", "picture.jpg", "-o", "z.npz"],
        &["--output takes what a model computes from arrays"],
    );
}

#[test]
fn arrays_of_float32_are_taken_for_inputs_of_float16() {
    let to_float = NewNode::new("Cast", ["x"], ["wide"]).attribute("to", 1);
    let model = NewModel::new()
        .input_of("x", &[1, 64], ElementType::F16)
        .output("y", &[1, 48])
        .weights("w", &[64, 48])
        .node(to_float)
        .node(NewNode::new("MatMul", ["wide", "w"], ["y"]));
    let folder = Folder::with_model(model.into_bytes());
    folder.write("x.npy", npy(&[2, 64], &[0.5; 128]));
    let args = [
        "evaluate",
        "model.onnx",
        "--reference",
        "model.onnx",
        "--data",
        "x.npy",
        "--json",
    ];
    let report = folder.run(&args).json();
    assert_eq!(report["n"], 2);
    assert_eq!(report["models"][0]["outputs"][0]["max_difference"], 0.0);
}

/// A NumPy array of 32-bit floats.
fn npy(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let extents: Vec<String> = shape.iter().map(|extent| format!("{extent},")).collect();
    let header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({})}}",
        extents.concat()
    );
    let len = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((len as u16).to_le_bytes());
    file.extend(format!("{header:<width$}\n", width = len - 1).into_bytes());
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

#[test]
fn a_model_whose_outputs_have_another_size_than_the_references_is_refused() {
    let model = |kernel: usize| {
        let side = 13 - kernel;
        NewModel::new()
            .input("x", &[1, 8, 12, 12])
            .weights("w", &[16, 8, kernel, kernel])
            .node(NewNode::new("Conv", ["x", "w"], ["y"]))
            .output("y", &[1, 16, side, side])
            .into_bytes()
    };
    let folder = Folder::with_model(model(3));
    folder.write("out.onnx", model(1));
    let args = [&VERIFY[..], &["--runtimes=campana"]].concat();
    folder.refuses(
        &args,
        &["outputs of other number or size", "out.onnx", "model.onnx"],
    );
}
