//! Checks against peers in Python: the official ONNX checker, onnxruntime old
//! and new, OpenVINO, LiteRT, coremltools, scipy and kmeans1d. They run where
//! `tools/peers/setup.sh` made the environments, and say so where it did not.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use campana_onnx::NewNode;

use support::models::{
    NewModel, add_conv, conv_model, every_layer, external, little_endian, random_weights,
};
use support::{CAMPANA, Folder, fixture, root, skipped};

const METHODS: [&str; 14] = [
    "auto", "ks", "gaussian", "laplace", "ggd", "kmeans", "ecsq", "minmax", "mse", "aciq", "pwlq",
    "pot", "apot", "nf",
];

/// Groups of 24 weights divide no row of the layers evenly.
const GRANULARITIES: [&str; 3] = ["tensor", "channel", "group=24"];

/// Python with the peers; `None`, said loudly, where there is none.
fn python() -> Option<PathBuf> {
    let python = root().join(".venv-peers/bin/python");
    if !python.exists() {
        skipped("no Python peers; make them with tools/peers/setup.sh");
        return None;
    }
    Some(python)
}

/// Runs a script of `tools/peers`, which must succeed, and shows its output.
#[track_caller]
fn check(python: &Path, script: &str, args: &[&str]) {
    let script = root().join("tools/peers").join(script);
    let output = Command::new(python)
        .arg(&script)
        .args(args)
        .output()
        .expect("Python runs");
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    eprintln!("{stdout}");
    assert!(
        output.status.success(),
        "{}:\n{stdout}\n{stderr}",
        script.display()
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// Arguments that name images for the fixture, and how they are prepared.
fn on_fixture_images() -> Vec<String> {
    let fixtures = fixture().parent().expect("a folder").to_owned();
    let of = |name: &str| text(&fixtures.join(name)).to_owned();
    let [data, sidecar] = ["cifar10_test_500.bin", "cifar10_resnet8.json"].map(of);
    let options = ["--data", &data, "--sidecar", &sidecar, "--limit", "200"];
    options.map(str::to_owned).to_vec()
}

/// Writes `{name}.{target}.onnx` of `model.onnx` for each target.
#[track_caller]
fn quantize(folder: &Folder, name: &str, targets: &[&str], options: &[&str]) {
    for target in targets {
        let output = format!("{name}.{target}.onnx");
        let args = ["quantize", "model.onnx", "-o", &output, "--target", target];
        folder
            .run(&[&args, options].concat())
            .may_warn("no image and of unknown scale")
            .succeeds();
    }
}

/// A few layers whose weights fill no whole bytes, or have few of a channel.
fn small_model() -> NewModel {
    conv_model()
        .weights("odd.w", &[37, 33])
        .input("odd.x", &[1, 37])
        .node(NewNode::new("MatMul", ["odd.x", "odd.w"], ["odd.y"]))
        .output("odd.y", &[1, 33])
        .weights("depthwise.w", &[128, 1, 3, 3])
        .input("depthwise.x", &[1, 128, 3, 3])
        .node(
            NewNode::new("Conv", ["depthwise.x", "depthwise.w"], ["depthwise.y"])
                .attribute("group", 128_i64),
        )
        .output("depthwise.y", &[1, 128, 1, 1])
}

#[test]
fn every_method_width_and_granularity_decodes_exactly() {
    let Some(python) = python() else { return };
    let folder = Folder::with_model(small_model().into_bytes());
    for method in METHODS {
        for granularity in GRANULARITIES {
            for bits in ["1", "2", "3", "4", "5", "6", "7", "8"] {
                let name = format!("{method}-{granularity}-{bits}");
                let options = [
                    "--method",
                    method,
                    "--granularity",
                    granularity,
                    "--bits",
                    bits,
                ];
                let targets = if bits == "4" {
                    &["lut", "float", "lut-uint4"][..]
                } else {
                    &["lut", "float"]
                };
                quantize(&folder, &name, targets, &options);
            }
        }
    }
    check(&python, "check_model.py", &[text(&folder.path("."))]);
}

#[test]
fn every_kind_of_layer_decodes_exactly() {
    let Some(python) = python() else { return };
    let folder = Folder::with_model(every_layer().into_bytes());
    for granularity in GRANULARITIES {
        for bits in ["1", "2", "3", "4", "5", "6", "7", "8"] {
            let options = ["--granularity", granularity, "--bits", bits];
            quantize(
                &folder,
                &format!("{granularity}-{bits}"),
                &["lut", "float", "lut-uint4"],
                &options,
            );
        }
    }
    check(&python, "check_model.py", &[text(&folder.path("."))]);
}

#[test]
fn the_fixture_decodes_exactly_in_the_reference_evaluator_too() {
    let Some(python) = python() else { return };
    let folder = Folder::with_model(std::fs::read(fixture()).expect("the fixture"));
    for bits in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        quantize(
            &folder,
            bits,
            &["lut", "float", "lut-uint4"],
            &["--bits", bits],
        );
    }
    check(
        &python,
        "check_model.py",
        &["--reference", text(&folder.path("."))],
    );
}

#[test]
fn old_models_decode_exactly() {
    let Some(python) = python() else { return };
    // IR version 3: initializers are inputs as well.
    let folder = Folder::with_model(
        conv_model()
            .versions(3, 8)
            .input("w", &[16, 8, 3, 3])
            .into_bytes(),
    );
    for bits in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        quantize(&folder, bits, &["lut", "float"], &["--bits", bits]);
    }
    check(&python, "check_model.py", &[text(&folder.path("."))]);
}

#[test]
fn external_data_decodes_exactly() {
    let Some(python) = python() else { return };
    let model = NewModel::new()
        .initializer(external("w", &[16, 8, 3, 3], "weights.bin", 0))
        .initializer(external("kept", &[40, 40], "weights.bin", 4608))
        .input("v", &[1, 40])
        .node(NewNode::new("MatMul", ["v", "kept"], ["u"]))
        .output("u", &[1, 40]);
    let folder = Folder::with_model(add_conv(model, "").into_bytes());
    let data = [
        random_weights("w", 16 * 8 * 9),
        random_weights("kept", 40 * 40),
    ]
    .concat();
    folder.write("weights.bin", little_endian(&data));
    for bits in ["2", "3", "4", "8"] {
        quantize(
            &folder,
            bits,
            &["lut", "float", "lut-uint4"],
            &["--bits", bits, "--keep", "kept"],
        );
    }
    check(&python, "check_model.py", &[text(&folder.path("."))]);
}

#[test]
fn runtimes_old_and_new_agree_on_the_same_file() {
    let Some(python) = python() else { return };
    let folder = Folder::with_model(std::fs::read(fixture()).expect("the fixture"));
    let images = on_fixture_images();
    let old = root().join(".venv-peers-old/bin/python");
    for (name, options) in [
        ("auto4", &["--bits=4"][..]),
        ("auto3", &["--bits=3"]),
        ("ks2", &["--bits=2", "--method=ks", "--granularity=tensor"]),
        ("kmeans8", &["--bits=8", "--method=kmeans"]),
    ] {
        let targets = if name == "auto4" {
            &["lut", "float", "lut-uint4"][..]
        } else {
            &["lut", "float"]
        };
        quantize(&folder, name, targets, options);
        let models: Vec<PathBuf> = targets
            .iter()
            .filter(|target| **target != "float")
            .map(|target| folder.path(&format!("{name}.{target}.onnx")))
            .collect();
        let float = folder.path(&format!("{name}.float.onnx"));
        let mut args = vec![text(&float)];
        args.extend(models.iter().map(|model| text(model)));
        args.extend(images.iter().map(String::as_str));
        if old.exists() {
            args.extend(["--old-python", text(&old)]);
        } else {
            skipped("no onnxruntime 1.16.3; make it with tools/peers/setup.sh");
        }
        check(&python, "check_runtimes.py", &args);
    }
}

#[test]
fn stock_runtimes_compute_int8_models_on_integers() {
    let Some(python) = python() else { return };
    let folder = Folder::with_model(std::fs::read(fixture()).expect("the fixture"));
    quantize(&folder, "fixture", &["int8"], &["--no-correct"]);
    let model = folder.path("fixture.int8.onnx");
    let images = on_fixture_images();
    let mut args = vec![text(&model)];
    args.extend(images.iter().map(String::as_str));
    check(&python, "check_integers.py", &args);
}

/// Every n-th network in the tests; the script alone checks all.
const SAMPLE: &str = "12";

#[test]
fn forms_run_in_stock_runtimes_at_every_opset() {
    let Some(python) = python() else { return };
    check(&python, "check_forms.py", &[CAMPANA, "--sample", SAMPLE]);
}

#[test]
fn networks_that_went_wrong_are_as_they_should_be() {
    let Some(python) = python() else { return };
    if campana_testing::shared("cases/files").is_none() {
        return;
    }
    check(&python, "check_cases.py", &[CAMPANA]);
}

#[test]
fn statistics_and_kmeans_equal_scipy_and_kmeans1d() {
    let Some(python) = python() else { return };
    check(&python, "check_design.py", &[CAMPANA, text(&fixture())]);
}

#[test]
fn the_documented_decoder_of_weight_files_is_exact() {
    let Some(python) = python() else { return };
    let folder = Folder::new();
    let weights = random_weights("w", 24 * 120);
    let header = r#"{"w":{"dtype":"F32","shape":[24,120],"data_offsets":[0,11520]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(weights.iter().flat_map(|weight| weight.to_le_bytes()));
    let input = folder.write("in.safetensors", bytes);
    let page = root().join("docs/safetensors-form.md");
    for bits in 1..=8 {
        for granularity in ["tensor", "channel", "group=24"] {
            let run = |name: &str, target: &str| {
                let output = folder.path(name);
                let status = Command::new(CAMPANA)
                    .args(["quantize", text(&input), "-o", text(&output), "--force"])
                    .args([
                        format!("--target={target}"),
                        format!("--bits={bits}"),
                        format!("--granularity={granularity}"),
                    ])
                    .output()
                    .expect("campana runs")
                    .status;
                assert!(status.success(), "{bits} bits, {granularity}");
                output
            };
            let (codes, floats) = (
                run("codes.safetensors", "lut"),
                run("floats.safetensors", "float"),
            );
            check(
                &python,
                "check_safetensors_form.py",
                &[text(&page), text(&codes), text(&floats)],
            );
        }
    }
}

#[test]
fn operators_compute_alike_in_tflite() {
    let Some(python) = python() else { return };
    check(&python, "check_tflite_cases.py", &[CAMPANA]);
}

#[test]
fn tflite_answers_as_the_int8_form_does() {
    let Some(python) = python() else { return };
    let folder = Folder::with_model(std::fs::read(fixture()).expect("the fixture"));
    let sidecar = fixture().with_extension("json");
    folder.write("model.json", std::fs::read(sidecar).expect("a sidecar"));
    for (output, target) in [("int8.onnx", "int8"), ("int8.tflite", "tflite")] {
        let args = ["quantize", "model.onnx", "-o", output, "--target", target];
        folder
            .run(&[&args[..], &["--no-correct"]].concat())
            .succeeds();
    }
    let [onnx, tflite] = ["int8.onnx", "int8.tflite"].map(|name| folder.path(name));
    let mut args = vec![text(&onnx).to_owned(), text(&tflite).to_owned()];
    args.extend(on_fixture_images());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    check(&python, "check_tflite.py", &args);
}

/// Bytes of the fixture for TFLite Micro at most, by the bits of its codes.
const MICRO_BYTES: [(&str, u64); 2] = [("4", 62_000), ("3", 52_000)];

#[test]
fn weights_are_codes_in_tflite_micro() {
    let Some(python) = python() else { return };
    let folder = Folder::with_model(std::fs::read(fixture()).expect("the fixture"));
    let sidecar = std::fs::read(fixture().with_extension("json")).expect("a sidecar");
    folder.write("model.json", sidecar);
    for (bits, most) in MICRO_BYTES {
        let args = ["quantize", "model.onnx", "-o", "micro.tflite", "--force"];
        let options = ["--target", "tflm", "--bits", bits, "--json"];
        let report = folder.run(&[args, options].concat()).json();
        let bytes = report["output_bytes"].as_u64().expect("a number");
        assert!(bytes <= most, "{bytes} bytes at {bits} bits");
        let micro = folder.path("micro.tflite");
        let mut args = vec![text(&micro).to_owned(), "--decodes=8".to_owned()];
        args.extend(on_fixture_images());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        check(&python, "check_tflm.py", &args);
    }
    let args = [
        "verify",
        "micro.tflite",
        "--reference",
        "model.onnx",
        "--runs",
        "1",
    ];
    let python = ["--python", text(&python), "--json"];
    let found = folder.run(&[&args[..], &python].concat()).json();
    let rows = found["rows"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["runtime"] == "tflm");
    let row = row.unwrap_or_else(|| panic!("{found}"));
    assert_eq!(row["is_reference"], false);
    assert!(row["reference_sqnr_db"].as_f64() > Some(6.0), "{row}");
}

#[test]
fn operators_compute_alike_in_core_ml() {
    let Some(python) = python() else { return };
    check(&python, "check_coreml_cases.py", &[CAMPANA]);
}

/// Bytes of a package at most, in those of the `lut` form of the same network.
const MAX_PACKAGE_OF_LUT: f64 = 1.1;

#[test]
fn core_ml_packages_are_what_their_floats_are() {
    // What is compared does not depend on how codes are chosen.
    const QUICKLY: [&str; 4] = ["quantize", "model.onnx", "--effort", "quick"];

    let Some(python) = python() else { return };
    let mut models = vec![fixture()];
    models.extend(campana_testing::shared_models());
    for model in models {
        let folder = Folder::with_model(std::fs::read(&model).expect("a model"));
        let sidecar = model.with_extension("json");
        folder.write("model.json", std::fs::read(&sidecar).expect("a sidecar"));
        for (output, target) in [
            ("lut.onnx", "lut"),
            ("float.onnx", "float"),
            ("half.mlpackage", "coreml"),
            ("single.mlpackage", "coreml-float32"),
        ] {
            let args = [&QUICKLY[..], &["-o", output, "--target", target]].concat();
            folder.run(&args).may_warn("").succeeds();
        }
        let lut = folder.read("lut.onnx").len() as f64;
        // The ONNX form has no names of classes.
        std::fs::remove_file(folder.path("model.json")).expect("a file");
        let args = [&QUICKLY[..], &["-o", "plain.mlpackage", "--json"]].concat();
        let plain = folder.run(&args).may_warn("").json();
        let bytes = plain["output_bytes"].as_f64().expect("a number");
        assert!(
            bytes <= MAX_PACKAGE_OF_LUT * lut,
            "{}: {bytes} bytes",
            model.display()
        );
        let sidecar = text(&sidecar).to_owned();
        let float = folder.path("float.onnx");
        for package in ["half.mlpackage", "single.mlpackage"] {
            let package = folder.path(package);
            let args = [text(&package), text(&float), "--sidecar", &sidecar];
            check(&python, "check_coreml.py", &args);
        }
    }
}
