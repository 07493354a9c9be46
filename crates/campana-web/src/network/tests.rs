use std::fs;
use std::path::PathBuf;

use campana_pipeline::{QuantizeJob, quantize_file};
use campana_quantize::Silent;

use super::*;

fn fixture() -> PathBuf {
    campana_testing::fixture("cifar10_resnet8.onnx")
}

fn network(bytes: Vec<u8>) -> Network {
    Network::read("net.onnx", bytes).expect("a network")
}

#[test]
fn the_network_is_the_command_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = fixture();
    let network = network(fs::read(&input).expect("the fixture"));
    for (bits, method) in [(4, "auto"), (3, "ks")] {
        let smaller = network.quantize(bits, method, &Silent).expect("quantized");
        let options = options(bits, method).expect("options");
        let output = folder.path().join(format!("{method}.onnx"));
        let job = QuantizeJob {
            samples: None,
            ..QuantizeJob::new(&input, &output, &options)
        };
        quantize_file(&job, &Silent).expect("quantized");
        assert_eq!(smaller.model, fs::read(output).expect("the output"));
        assert_eq!(smaller.name, format!("net-{bits}bit.onnx"));
        assert!(smaller.page.contains("net.onnx</bdi>, "), "the factor");
    }
}

#[test]
fn choices_out_of_range_are_refused() {
    let network = network(fs::read(fixture()).expect("the fixture"));
    for (bits, method, expected) in [
        (0, "auto", "bits must be"),
        (9, "auto", "bits must be"),
        (4, "magic", "'magic' is not a method"),
    ] {
        let error = network
            .quantize(bits, method, &Silent)
            .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(expected), "{error}");
    }
    network.inspect(0, &Silent).expect_err("no width");
}

#[test]
fn what_is_no_network_is_refused_by_name() {
    let error = Network::read("photo.png", b"\x89PNG\r\n\x1a\n".to_vec()).expect_err("no network");
    assert_eq!(error.to_string(), "cannot read 'photo.png'");
}

#[test]
fn a_network_that_is_cut_off_is_refused() {
    let mut bytes = fs::read(fixture()).expect("the fixture");
    let whole = bytes.len();
    bytes.truncate(whole - 1);
    Network::read("cut.onnx", bytes).expect_err("cut off");
}

#[test]
fn every_method_has_a_name_that_is_understood() {
    for method in methods() {
        options(4, &method).expect("a method");
    }
    assert_eq!(methods()[0], "auto");
}
