use campana_quantize::{Options, Silent, Target};
use campana_testing::fixture;

use super::*;
use crate::quantize_file;

/// What a file and its sidecar come to, and what their bytes do.
fn both(options: &Options) -> [Vec<u8>; 2] {
    let folder = tempfile::tempdir().unwrap();
    let (model, sidecar) = (
        fixture("cifar10_resnet8.onnx"),
        fixture("cifar10_resnet8.json"),
    );
    let output = folder
        .path()
        .join(format!("out.{}", options.target.ending()));
    let job = QuantizeJob::new(&model, &output, options);
    quantize_file(&job, &Silent).unwrap();
    let sidecar = Sidecar::read(&sidecar).unwrap();
    let bytes = std::fs::read(&model).unwrap();
    let made = quantize_bytes(&job, bytes, Some(&sidecar), None, &Silent).unwrap();
    assert!(made.report.corrected, "{:?}", made.report.not_corrected);
    [std::fs::read(output).unwrap(), made.model]
}

#[test]
fn bytes_come_to_what_a_file_comes_to() {
    for target in [Target::Lut, Target::W4a8, Target::Campana] {
        let options = Options {
            target,
            method: "mse".parse().unwrap(),
            means_are_corrected: true,
            ..Options::default()
        };
        let [by_file, in_memory] = both(&options);
        assert!(by_file == in_memory, "{target}");
    }
}

#[test]
fn folders_and_damaged_bytes_are_refused() {
    let bytes = || std::fs::read(fixture("cifar10_resnet8.onnx")).unwrap();
    let refuse = |target, bytes| {
        let options = Options {
            target,
            ..Options::default()
        };
        let job = QuantizeJob::new("a.onnx".as_ref(), "b".as_ref(), &options);
        quantize_bytes(&job, bytes, None, None, &Silent)
            .unwrap_err()
            .to_string()
    };
    assert!(refuse(Target::CoreMl, bytes()).contains("writes a folder"));
    let cut = refuse(Target::Lut, bytes()[..1000].to_vec());
    assert!(cut.contains("cannot read 'a.onnx'"), "{cut}");
}

#[test]
fn pictures_that_cannot_be_read_are_left_out() {
    let settings = Preprocessing::new([32, 32], [0.5; 3], [0.5; 3]);
    let none = decode_pictures(&settings, [("a.png", &b"no picture"[..])], &Silent);
    assert!(none.unwrap_err().to_string().contains("PNG or JPEG"));
}
