use std::fs;
use std::path::PathBuf;

use campana_pipeline::quantize_file;
use campana_quantize::Silent;

use super::*;

fn fixture() -> PathBuf {
    campana_testing::fixture("cifar10_resnet8.onnx")
}

fn network(bytes: Vec<u8>) -> Network {
    Network::read("net.onnx", bytes).expect("a network")
}

fn sidecar() -> serde_json::Value {
    let text = fs::read_to_string(campana_testing::fixture("cifar10_resnet8.json"));
    serde_json::from_str(&text.expect("the sidecar")).expect("JSON")
}

#[test]
fn the_network_is_the_command_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = fixture();
    let network = network(fs::read(&input).expect("the fixture"));
    for (bits, method, target, correct) in [
        (4, "mse", "lut", true),
        (3, "ks", "lut", false),
        (4, "mse", "w4a8", true),
        (8, "mse", "tflite", false),
    ] {
        let choices = Choices {
            bits: Some(bits),
            method: Some(method.to_owned()),
            target: Some(target.to_owned()),
            correct: Some(correct),
            sidecar: Some(sidecar()),
            ..Choices::default()
        };
        let smaller = network.quantize(&choices, &Silent).expect("quantized");
        let options = choices.options().expect("options");
        let output = folder.path().join(&smaller.name);
        let job = QuantizeJob {
            samples: correct.then_some(SampleChoice::Synthetic),
            ..QuantizeJob::new(&input, &output, &options)
        };
        quantize_file(&job, &Silent).expect("quantized");
        let expected = fs::read(output).expect("the output");
        assert!(smaller.model == expected, "{target}");
        assert!(smaller.page.contains("net.onnx</bdi>, "), "the factor");
        let report: serde_json::Value = serde_json::from_str(&smaller.report).expect("JSON");
        assert_eq!(report["corrected"], correct, "{target}");
    }
}

#[test]
fn names_say_what_files_are() {
    let name = |bits, target: &str| smaller_name("net.onnx", bits, target.parse().unwrap());
    assert_eq!(name(4, "lut"), "net-4bit.onnx");
    assert_eq!(name(4, "w4a8"), "net-w4a8-4bit.onnx");
    assert_eq!(name(8, "tflite"), "net-8bit.tflite");
}

#[test]
fn choices_out_of_range_are_refused() {
    let network = network(fs::read(fixture()).expect("the fixture"));
    for (json, expected) in [
        (r#"{"bits": 0}"#, "bits must be"),
        (r#"{"bits": 9}"#, "bits must be"),
        (r#"{"method": "magic"}"#, "'magic' is not a method"),
        (r#"{"target": "coreml"}"#, "writes a folder"),
        (r#"{"bitz": 4}"#, "unknown field `bitz`"),
        (r#"{"sidecar": {}}"#, "input"),
    ] {
        let error = Choices::parse(json)
            .and_then(|choices| network.quantize(&choices, &Silent))
            .expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
    }
    network.inspect(0, &Silent).expect_err("no width");
}

#[test]
fn pictures_without_a_sidecar_are_refused() {
    let mut network = network(fs::read(fixture()).expect("the fixture"));
    network.add_picture("a.png", Vec::new());
    let error = network.quantize(&Choices::default(), &Silent);
    assert!(error.expect_err("refused").to_string().contains("sidecar"));
    let choices = Choices {
        sidecar: Some(sidecar()),
        ..Choices::default()
    };
    let error = network.quantize(&choices, &Silent);
    assert!(
        error
            .expect_err("refused")
            .to_string()
            .contains("PNG or JPEG")
    );
}

#[test]
fn what_is_no_network_is_refused_by_name() {
    let error = Network::read("photo.png", b"\x89PNG\r\n\x1a\n".to_vec()).expect_err("no network");
    assert!(
        error.to_string().starts_with("cannot read 'photo.png': "),
        "{error}"
    );
}

#[test]
fn a_network_that_is_cut_off_is_refused() {
    let mut bytes = fs::read(fixture()).expect("the fixture");
    let whole = bytes.len();
    bytes.truncate(whole - 1);
    Network::read("cut.onnx", bytes).expect_err("cut off");
}

#[test]
fn every_method_and_target_has_a_name_that_is_understood() {
    for method in methods() {
        let choices = Choices {
            method: Some(method),
            ..Choices::default()
        };
        choices.options().expect("a method");
    }
    for target in targets() {
        target.parse::<Target>().expect("a target");
    }
    assert_eq!([&*methods()[0], &*targets()[0]], ["auto", "lut"]);
}
