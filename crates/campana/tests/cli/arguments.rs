//! Options that are out of range, misspelt or fit nothing.

use crate::support::Folder;
use crate::support::models::conv_model;

fn folder() -> Folder {
    Folder::with_model(conv_model().into_bytes())
}

/// `quantize model.onnx -o out.onnx` with these options.
#[track_caller]
fn refuses(options: &[&str], words: &[&str]) {
    let args = [&["quantize", "model.onnx", "-o", "out.onnx"], options].concat();
    folder().refuses(&args, words);
}

#[test]
fn bits_are_1_to_8() {
    for bits in ["0", "9", "256", "-1", "0.9", "8.5", "many"] {
        let option = format!("--bits={bits}");
        refuses(&[&option], &["--bits", bits]);
    }
    refuses(&["--bits=0"], &["1 to 8"]);
    refuses(&["--bits"], &["--bits"]);
}

#[test]
fn best_effort_is_about_a_bound() {
    let advice = ["--best-effort", "--max-size", "--max-drop"];
    refuses(&["--best-effort"], &advice);
    refuses(&["--best-effort", "--bits=3"], &advice);
}

#[test]
fn bits_for_takes_a_pattern_and_a_width() {
    refuses(&["--bits-for", "w"], &["GLOB=N"]);
    for option in ["w=0", "w=9", "w=", "w=many"] {
        refuses(&["--bits-for", option], &["1 to 8"]);
    }
    refuses(&["--bits-for", "[=4"], &["pattern"]);
}

#[test]
fn patterns_that_fit_no_weight_tensor_are_named() {
    let advice = "campana inspect";
    refuses(
        &["--keep", "nothing*"],
        &["--keep", "'nothing*'", "fits no weight tensor", advice],
    );
    refuses(
        &["--bits-for", "nothing=3"],
        &["--bits-for", "'nothing'", "fits no weight tensor", advice],
    );
    refuses(&["--keep", "w", "--keep", "x"], &["'x'"]);
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    refuses(
        &["--method", "best"],
        &["best", "auto", "ks", "kmeans", "nf"],
    );
    refuses(
        &["--target", "openvino"],
        &["openvino", "lut", "lut-uint4", "float", "tflite", "coreml"],
    );
    for granularity in ["row", "group", "group=0", "group=-1", "group=x"] {
        refuses(
            &["--granularity", granularity],
            &[granularity, "tensor, channel or group=N"],
        );
    }
    refuses(&["--bit", "4"], &["--bit", "--bits"]);
}

#[test]
fn missing_arguments_are_named() {
    folder().refuses(&["quantize"], &["<MODEL>", "--output"]);
    folder().refuses(&["quantize", "model.onnx"], &["--output"]);
    folder().refuses(&["inspect"], &["<MODEL>"]);
    folder().refuses(&["shrink"], &["shrink"]);
}

#[test]
fn threads_are_at_least_one() {
    refuses(&["--threads", "0"], &["--threads", "1 to 1024"]);
}

#[test]
fn bare_names_without_a_command_show_the_help() {
    let outcome = folder().run(&[]);
    assert_eq!(outcome.status, Some(2));
    assert!(
        outcome.stderr.contains("Usage: campana"),
        "{}",
        outcome.stderr
    );
}
