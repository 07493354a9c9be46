//! `campana compare` as its users run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What the command did.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn campana(folder: &Path, args: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_campana"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("the command runs");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// A comparison on the repository's network and images, with the options
/// changed or added that `more` has.
fn compare(folder: &Path, more: &[&str]) -> Outcome {
    let model = fixture("cifar10_resnet8.onnx");
    let data = fixture("cifar10_test_500.bin");
    let mut args = vec!["compare", model.to_str().unwrap()];
    for (option, value) in [
        ("--data", data.to_str().unwrap()),
        ("--methods", "ks,kmeans"),
        ("--bits", "4"),
        ("--limit", "20"),
    ] {
        if !more.contains(&option) {
            args.extend([option, value]);
        }
    }
    args.extend(more);
    campana(folder, &args)
}

#[test]
fn a_comparison_is_printed_written_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    let outputs = [
        "--json",
        "--csv",
        "rows.csv",
        "--html",
        "page.html",
        "--resume",
        "journal",
        "--force",
    ];
    let first = compare(folder, &outputs);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let report: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(report["n"], 20);
    assert!(report["reference_top1"].as_f64().unwrap() > 0.5);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        for key in ["mse", "sqnr_db", "bits_per_weight", "top1", "agreement"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key}");
        }
        assert!(row["output_bytes"].as_u64().unwrap() < 100_000);
    }
    assert_eq!(read("rows.csv").lines().count(), 5);
    assert!(read("page.html").starts_with("<!DOCTYPE html>"));

    // A result that was changed is refused.
    let mut journal = read("journal");
    let top1 = journal.find("\"top1\":0").unwrap();
    let changed = journal[..top1].to_owned() + "\"top1\":7" + &journal[top1 + 8..];
    fs::write(folder.join("journal"), changed).unwrap();
    let refused = compare(folder, &outputs);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("checksum"), "{}", refused.stderr);

    // The last line was cut off: three rows are left.
    journal.truncate(journal.len() - 10);
    fs::write(folder.join("journal"), journal).unwrap();
    let second = compare(folder, &outputs);
    assert!(second.stderr.contains("3 of 4 rows"), "{}", second.stderr);
    assert_eq!(second.stdout, first.stdout);

    let other = compare(folder, &["--limit", "10", "--resume", "journal"]);
    assert_eq!(other.code, Some(2));
}

#[test]
fn the_size_is_that_of_the_written_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = fixture("cifar10_resnet8.onnx");
    let methods = [
        "--methods",
        "kmeans,kmeans+free",
        "--granularity",
        "channel",
    ];
    let compared = compare(folder, &[&["--json"], &methods[..]].concat());
    let compared: Value = serde_json::from_str(&compared.stdout).unwrap();
    for (row, correction) in [&["--no-correct"][..], &[]].into_iter().enumerate() {
        let quantize = [
            "quantize",
            model.to_str().unwrap(),
            "-o",
            "out.onnx",
            "--method",
            "kmeans",
            "--granularity",
            "channel",
            "--json",
            "--force",
        ];
        let written = campana(folder, &[&quantize, correction].concat());
        let written: Value = serde_json::from_str(&written.stdout).unwrap();
        for key in ["output_bytes", "mse", "sqnr_db", "bits_per_weight"] {
            assert_eq!(
                compared["rows"][row][key], written[key],
                "{key} {correction:?}"
            );
        }
    }
}

#[test]
fn corrected_models_are_rows_beside_the_plain_one() {
    let folder = tempfile::tempdir().unwrap();
    let images = fixture("cifar10_test_500.bin");
    let methods = "auto,auto+free,auto+calibrated";
    let mut options = vec![
        "--methods",
        methods,
        "--bits",
        "2",
        "--limit",
        "200",
        "--json",
    ];
    options.extend(["--granularity", "channel"]);
    let refused = compare(folder.path(), &options);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--calibrate"), "{}", refused.stderr);
    options.extend(["--calibrate", images.to_str().unwrap(), "--samples", "64"]);
    let compared = compare(folder.path(), &options);
    assert_eq!(compared.code, Some(0), "{}", compared.stderr);
    let report: Value = serde_json::from_str(&compared.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["method"].as_str().unwrap())
        .collect();
    assert_eq!(names.join(","), methods);
    let top1: Vec<_> = rows
        .iter()
        .map(|row| row["top1"].as_f64().unwrap())
        .collect();
    assert!(
        top1[1] > top1[0] + 0.1 && top1[2] > top1[0] + 0.1,
        "{top1:?}"
    );
}

#[test]
fn bad_arguments_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("notes"), "no journal\n").unwrap();
    for (more, said) in [
        (["--methods", "best"], "not a method"),
        (["--bits", "9"], "1..=8"),
        (["--limit", "0"], "limit"),
        (["--resume", "notes"], "no journal of a comparison"),
        (["--csv", "missing/rows.csv"], "missing"),
        (["--data", "missing.bin"], "missing.bin"),
    ] {
        let outcome = compare(folder, &more);
        assert_eq!(outcome.code, Some(2), "{more:?}");
        assert!(
            outcome.stderr.contains(said),
            "{more:?}: {}",
            outcome.stderr
        );
    }
    assert_eq!(fs::read(folder.join("notes")).unwrap(), b"no journal\n");
}
