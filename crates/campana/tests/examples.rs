//! The programs of `examples/`, run on the repository's network, and what the
//! front door refuses.

use std::path::PathBuf;

use campana::{Correction, ErrorKind, Goal, Quantizer, RateGoal, inspect};
use campana_testing::fixture;

#[path = "../examples/allocate.rs"]
mod allocate;
#[path = "../examples/compare_methods.rs"]
mod compare_methods;
#[path = "../examples/own_codebook.rs"]
mod own_codebook;
#[path = "../examples/quantize.rs"]
mod quantize;
#[path = "../examples/run.rs"]
mod run;

/// A folder with the network and its sidecar in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cifar10_resnet8.onnx", "cifar10_resnet8.json"] {
        std::fs::copy(fixture(name), folder.path().join(name)).unwrap();
    }
    let model = folder.path().join("cifar10_resnet8.onnx");
    (folder, model)
}

#[test]
fn a_network_is_quantized_inspected_and_run() {
    let (folder, model) = folder();
    let small = folder.path().join("small.onnx");
    quantize::quantize(&model, &small).unwrap();
    let inspection = inspect(&small).unwrap();
    assert!(!inspection.quantized.is_empty());
    assert!(run::run(&small).unwrap().is_some());
}

#[test]
fn a_network_fits_into_the_bytes_that_are_given() {
    let (folder, model) = folder();
    let small = folder.path().join("small.onnx");
    let bytes = allocate::allocate(&model, &small, 45_000).unwrap();
    assert_eq!(bytes, std::fs::metadata(&small).unwrap().len());
    assert!(bytes <= 45_000);
}

#[test]
fn a_bound_that_cannot_be_kept_leaves_nothing() {
    let (folder, model) = folder();
    let small = folder.path().join("small.onnx");
    let error = allocate::allocate(&model, &small, 5000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BoundMissed);
    assert!(!small.exists());
}

#[test]
fn designed_levels_beat_uniform_ones_at_two_bits() {
    let (folder, model) = folder();
    let data = fixture("cifar10_test_500.bin");
    let report = compare_methods::compare(&model, &data, folder.path()).unwrap();
    let [uniform, designed] = &report.models[..] else {
        panic!("two models");
    };
    assert!(designed.agreement > uniform.agreement);
}

#[test]
fn a_bit_more_is_worth_about_six_decibels() {
    let values: Vec<f32> = (-500..=500).map(|i| i as f32 / 500.0).collect();
    let gain = own_codebook::sqnr_db(&values, 16) - own_codebook::sqnr_db(&values, 8);
    // Exactly 20 log10 2 for a uniform density.
    assert!((gain - 6.02).abs() < 0.3, "{gain}");
}

#[test]
fn choices_that_do_not_fit_are_refused_before_work() {
    let (folder, model) = folder();
    let output = folder.path().join("small.onnx");
    let open = || {
        Quantizer::open(&model)
            .unwrap()
            .correction(Correction::None)
    };
    let drop = |most| Goal::MaxDrop { most, data: None };
    for goal in [
        Goal::Bits(9),
        Goal::AverageBits(0.0),
        drop(1.0),
        drop(f64::NAN),
        Goal::Rate(RateGoal::Bits(2.0)),
    ] {
        let error = open().goal(goal.clone()).save(&output).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::InvalidArgument,
            "{goal:?}: {error}"
        );
        assert!(!output.exists());
    }
    let missing = Quantizer::open(folder.path().join("none.onnx")).unwrap_err();
    assert!(missing.to_string().contains("none.onnx"), "{missing}");
}
