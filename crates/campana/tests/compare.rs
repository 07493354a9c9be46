//! `campana compare` as its users run it.

use std::fs;
use std::path::Path;
use std::process::Command;

use campana_testing::fixture;
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
        "1",
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

/// The options that make a table of twelve cells.
const TABLE: [&str; 8] = [
    "--methods",
    "ks,kmeans,mse",
    "--bits",
    "2,4",
    "--limit",
    "20",
    "--threads",
    "1",
];

/// Measures the shares of that table.
fn shards(folder: &Path, count: usize) -> Vec<String> {
    let names = (1..=count).map(|index| {
        let (shard, rows) = (format!("{index}/{count}"), format!("{index}-of-{count}"));
        let options = ["--shard", &shard, "--out", &rows];
        let outcome = compare(folder, &[&TABLE[..], &options].concat());
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(
            outcome.stdout.contains("of 12 rows are share"),
            "{}",
            outcome.stdout
        );
        rows
    });
    names.collect()
}

/// The table of some rows in every form.
fn merged(folder: &Path, rows: &[String]) -> Vec<String> {
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let files = ["--csv", "c", "--html", "h", "--markdown", "m", "--force"];
    let outcome = campana(folder, &[&["merge", "--json"], &files[..], &rows].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let printed = campana(folder, &[&["merge"], &rows[..]].concat());
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    vec![
        outcome.stdout,
        printed.stdout,
        read("c"),
        read("h"),
        read("m"),
    ]
}

#[test]
fn any_number_of_shares_makes_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let files = ["--csv", "c", "--html", "h", "--markdown", "m"];
    let json = compare(folder, &[&TABLE[..], &files, &["--json"]].concat());
    assert_eq!(json.code, Some(0), "{}", json.stderr);
    let printed = compare(folder, &TABLE);
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    let whole = vec![json.stdout, printed.stdout, read("c"), read("h"), read("m")];
    for count in [1, 2, 3, 7] {
        let mut rows = shards(folder, count);
        rows.reverse();
        assert_eq!(merged(folder, &rows), whole, "{count} shares");
    }
    // A share that was killed: half of a line is left, the same command goes on.
    let path = folder.join("2-of-3");
    let finished = fs::read(&path).unwrap();
    fs::write(&path, &finished[..finished.len() - 40]).unwrap();
    let incomplete = campana(folder, &["merge", "1-of-3", "2-of-3", "3-of-3"]);
    assert_eq!(incomplete.code, Some(2));
    assert!(
        incomplete.stderr.contains("none for 1: "),
        "{}",
        incomplete.stderr
    );
    let rows = shards(folder, 3);
    assert_eq!(fs::read(&path).unwrap(), finished);
    assert_eq!(merged(folder, &rows), whole);
}

#[test]
fn rows_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let small = ["--methods", "ks", "--bits", "2", "--granularity", "tensor"];
    for (name, more) in [
        ("a", &["--limit", "20"][..]),
        ("images", &["--limit", "10"]),
        ("cells", &["--limit", "20", "--methods", "mse"]),
    ] {
        let mut options = [more, &["--out", name]].concat();
        for option in small.chunks(2).filter(|option| !more.contains(&option[0])) {
            options.extend(option);
        }
        let outcome = compare(folder, &options);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    }
    let rows = fs::read_to_string(folder.join("a")).unwrap();
    fs::write(
        folder.join("version"),
        rows.replace(env!("CARGO_PKG_VERSION"), "9.9.9"),
    )
    .unwrap();
    fs::write(folder.join("words"), "method,bits\n").unwrap();
    for (other, said) in [
        ("images", "other images"),
        ("cells", "other methods"),
        ("version", "checksum"),
        ("words", "is no journal of a comparison"),
        ("nowhere", "'nowhere'"),
    ] {
        let outcome = campana(folder, &["merge", "a", other, "--csv", "table.csv"]);
        assert_eq!(outcome.code, Some(2), "{other}");
        assert!(outcome.stderr.contains(said), "{other}: {}", outcome.stderr);
        assert!(!folder.join("table.csv").exists(), "{other}");
    }
    for shard in [&["--shard", "1/2"][..], &["--shard", "3/2", "--out", "b"]] {
        assert_eq!(compare(folder, shard).code, Some(2), "{shard:?}");
    }
}
