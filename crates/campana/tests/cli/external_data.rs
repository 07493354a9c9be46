//! Models whose weights are in files beside them.

use std::fs;
use std::os::unix::fs::symlink;

use campana_onnx::{DataLocation, Model, NewNode, NewTensor};
use campana_tensor::ElementType;

use crate::support::Folder;
use crate::support::models::{NewModel, add_conv, external, floats, little_endian, random_weights};

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

/// Where a model's tensor `other` is: a file whose name begins and ends so,
/// with a digest between.
#[track_caller]
fn location(folder: &Folder, model: &str, begins: &str, ends: &str) -> String {
    let location = tensor(folder, model, "other").0.expect("a data file");
    let digest = location
        .strip_prefix(begins)
        .and_then(|rest| rest.strip_suffix(ends));
    assert_eq!(digest.map(str::len), Some(16), "{location}");
    location
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
    let report = folder
        .run(&args)
        .warns("no image and of unknown scale")
        .json();
    let data_file = location(&folder, "small.onnx", "small.onnx.", ".data");
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
    assert_eq!(report["output_bytes"], bytes(["small.onnx", &data_file]));
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
        folder
            .run(&args)
            .may_warn("no image and of unknown scale")
            .succeeds();
        let (found, values) = tensor(&folder, "out/small.onnx", "other");
        if keep == "*" {
            assert_eq!(found.as_deref(), Some("model.onnx.data"));
        } else {
            location(&folder, "out/small.onnx", "small.onnx.", ".data");
        }
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
    let report = folder
        .run(&args)
        .warns("no image and of unknown scale")
        .json();
    let (_, decoded) = tensor(&folder, "float.onnx", "w");
    location(&folder, "float.onnx", "float.onnx.", ".data");
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
        .warns("no image and of unknown scale")
        .succeeds();
    location(&folder, "small.onnx", "weights/small.all.", ".bin");
}

#[test]
fn a_file_that_is_there_keeps_its_content() {
    let folder = folder();
    folder.write("small.onnx.data", "precious");
    let args = ["quantize", "model.onnx", "-o", "small.onnx", "--keep=other"];
    folder
        .run(&args)
        .warns("no image and of unknown scale")
        .succeeds();
    let first = location(&folder, "small.onnx", "small.onnx.", ".data");
    let written = folder.read(&first);
    folder
        .run(&[&args[..], &["--force"]].concat())
        .warns("no image and of unknown scale")
        .succeeds();
    assert!(folder.read("small.onnx.data") == b"precious");
    // The same content has the same name.
    assert_eq!(
        location(&folder, "small.onnx", "small.onnx.", ".data"),
        first
    );
    // A name is not enough: other content is not overwritten without --force.
    folder.write(&first, "precious");
    fs::remove_file(folder.path("small.onnx")).unwrap();
    folder.refuses(&args, &[&first, "exists", "--force"]);
    folder
        .run(&[&args[..], &["--force"]].concat())
        .warns("no image and of unknown scale")
        .succeeds();
    assert!(folder.read(&first) == written);
}

#[test]
fn an_output_whose_data_has_the_name_of_the_inputs_leaves_that_alone() {
    let folder = Folder::new();
    folder.write("a.onnx", model("b.onnx.data"));
    folder.write("b.onnx.data", data());
    folder
        .run(&["quantize", "a.onnx", "-o", "b.onnx"])
        .warns("no image and of unknown scale")
        .succeeds();
    assert!(folder.read("b.onnx.data") == data(), "the input's data");
    assert_eq!(
        tensor(&folder, "a.onnx", "w").1,
        random_weights("w", 16 * 8 * 9)
    );
}

/// What is not looked at here takes no time.
const FAST: [&str; 2] = ["--method=minmax", "--no-correct"];

/// A model whose weights are in files that differ by name alone, each with a
/// tensor that is kept.
fn model_in_files(locations: &[&str]) -> NewModel {
    let mut model = NewModel::new();
    for (number, location) in locations.iter().enumerate() {
        let [v, name, u] = ["v", "kept", "u"].map(|name| format!("{name}{number}"));
        model = model
            .initializer(external(&name, &OTHER, location, 0))
            .input(&v, &[1, 64])
            .node(NewNode::new("MatMul", [&v, &name], [&u]))
            .output(&u, &[1, 64]);
    }
    model
}

fn kept_values(number: usize) -> Vec<f32> {
    random_weights(&format!("kept{number}"), 64 * 64)
}

#[test]
fn files_that_would_get_one_name_get_two() {
    for output in ["small.onnx", "net.onnx"] {
        for changed in ["float", "lut"] {
            let folder = Folder::new();
            let locations = ["net.onnx_data", "onnx_data", "net.onnx.onnx_data"];
            folder.write("in/net.onnx", model_in_files(&locations).into_bytes());
            for (number, location) in locations.iter().enumerate() {
                let bytes = little_endian(&kept_values(number));
                folder.write(&format!("in/{location}"), bytes);
            }
            let target = format!("--target={changed}");
            let args = [
                "quantize",
                "in/net.onnx",
                "-o",
                output,
                "--bits=8",
                FAST[0],
                FAST[1],
                &target,
            ];
            folder.run(&args).succeeds();
            if changed == "float" {
                for number in 0..locations.len() {
                    let name = format!("kept{number}");
                    let (_, values) = tensor(&folder, output, &name);
                    let expected = kept_values(number);
                    let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 0.01;
                    assert!(!values.iter().zip(&expected).any(differs), "{name}");
                }
            }
            let model = Model::open(folder.path(output)).unwrap();
            let tensors = model.tensors().into_iter();
            let files = tensors.filter_map(|tensor| model.external_path(tensor).unwrap());
            let files: std::collections::BTreeSet<_> = files.collect();
            assert_eq!(files.len(), locations.len(), "{output} {changed}");
        }
    }
}

#[test]
fn one_file_under_two_spellings_stays_one() {
    for (options, changed) in [
        (&["--keep=kept1", "--target=float"][..], true),
        (&["--keep=*"], false),
    ] {
        let folder = Folder::new();
        folder.write(
            "in/net.onnx",
            model_in_files(&["w.bin", "./w.bin"]).into_bytes(),
        );
        folder.write("in/w.bin", little_endian(&kept_values(0)));
        let args = [
            "quantize",
            "in/net.onnx",
            "-o",
            "out.onnx",
            "--bits=8",
            FAST[0],
            FAST[1],
        ];
        folder.run(&[&args[..], options].concat()).succeeds();
        assert_eq!(tensor(&folder, "out.onnx", "kept1").1, kept_values(0));
        assert_eq!(
            tensor(&folder, "out.onnx", "kept0").1 == kept_values(0),
            !changed
        );
        let files = fs::read_dir(folder.path(".")).unwrap().count();
        assert_eq!(files, 3, "the folder in, the model, one data file");
    }
}

#[test]
fn a_data_file_that_is_called_as_the_output_gets_another_name() {
    let folder = Folder::new();
    folder.write("in/net.onnx", model_in_files(&["out.onnx"]).into_bytes());
    folder.write("in/out.onnx", little_endian(&kept_values(0)));
    for options in [
        &["--keep=*"][..],
        &["--target=float", "--bits=8", FAST[0], FAST[1], "--force"],
    ] {
        let args = ["quantize", "in/net.onnx", "-o", "out.onnx"];
        folder.run(&[&args[..], options].concat()).succeeds();
        let (location, values) = tensor(&folder, "out.onnx", "kept0");
        assert_ne!(location.as_deref(), Some("out.onnx"));
        let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 0.01;
        assert!(!values.iter().zip(&kept_values(0)).any(differs));
    }
}

#[test]
fn a_link_into_another_folder_is_no_output_for_data_files() {
    let folder = folder();
    fs::create_dir(folder.path("out")).unwrap();
    symlink("out/target.onnx", folder.path("link.onnx")).unwrap();
    let args = ["quantize", "model.onnx", "-o", "link.onnx"];
    folder.refuses(&args, &["link.onnx", "a link into another folder"]);
    folder.refuses(
        &["quantize", "model.onnx", "-o", "-"],
        &["data in files beside it", "standard output"],
    );
}

#[test]
fn forms_of_one_file_or_folder_have_the_data_inside() {
    let folder = folder();
    let whole = NewModel::new()
        .weights("w", &LARGE)
        .weights("other", &OTHER)
        .input("v", &[1, 64])
        .node(NewNode::new("MatMul", ["v", "other"], ["u"]))
        .output("u", &[1, 64]);
    folder.write("whole.onnx", add_conv(whole, "").into_bytes());
    let quantize = |input: &str, output: &str, target: &str| {
        let args = ["quantize", input, "-o", output, "--target", target];
        let options = ["--no-correct", "--input-range=-1,1", "--json"];
        folder.run(&[&args[..], &options].concat()).json()
    };
    for target in ["tflite", "tflite-float"] {
        let [beside, inside] = ["model", "whole"].map(|input| {
            let output = format!("{input}-{target}.tflite");
            quantize(&format!("{input}.onnx"), &output, target);
            folder.read(&output)
        });
        assert!(beside == inside, "{target}");
    }
    quantize("model.onnx", "small.mlpackage", "coreml");
    let report = quantize("model.onnx", "small.campana", "campana");
    assert_eq!(
        report["output_bytes"],
        folder.read("small.campana").len() as u64
    );
    let unpack = ["unpack", "small.campana", "-o", "unpacked.onnx"];
    folder.run(&unpack).succeeds();
    let unpacked = Model::open(folder.path("unpacked.onnx")).unwrap();
    let is_beside = |data: &DataLocation| matches!(data, DataLocation::External(_));
    let tensors = unpacked.tensors();
    assert!(!tensors.iter().any(|tensor| is_beside(&tensor.data)));
}

#[test]
fn biases_beside_the_model_become_integers_like_those_inside() {
    let model = |place: fn(&str, &[usize], u64) -> NewTensor<'static>| {
        NewModel::new()
            .initializer(place("w", &LARGE, 0))
            .initializer(place("bias", &[16], 8192))
            .input("x", &[1, 8, 12, 12])
            .node(NewNode::new("Conv", ["x", "w", "bias"], ["c"]))
            .node(NewNode::new("Relu", ["c"], ["y"]))
            .output("y", &[1, 16, 10, 10])
            .into_bytes()
    };
    let beside = model(|name, dims, offset| external(name, dims, "model.onnx.data", offset));
    let inside =
        model(|name, dims, _| floats(name, dims, &random_weights(name, dims.iter().product())));
    let mut data = little_endian(&random_weights("w", 16 * 8 * 9));
    data.resize(8192, 0);
    data.extend(little_endian(&random_weights("bias", 16)));
    for target in ["int8", "w4a8"] {
        let biases = [&beside, &inside].map(|model| {
            let folder = Folder::with_model(model);
            folder.write("model.onnx.data", &data);
            let target = ["--target", target, "--input-range=-1,1", "--no-correct"];
            let args = [&["quantize", "model.onnx", "-o", "out.onnx"], &target[..]].concat();
            folder.run(&args).succeeds();
            let model = Model::open(folder.path("out.onnx")).unwrap();
            let initializers = model.graph.initializers.iter();
            let bias = initializers
                .filter(|tensor| tensor.element_type == ElementType::I32)
                .map(|tensor| model.read_tensor(tensor).unwrap());
            bias.collect::<Vec<_>>()
        });
        assert_eq!(biases[0].len(), 1, "{target}");
        assert_eq!(biases[0], biases[1], "{target}");
    }
}
