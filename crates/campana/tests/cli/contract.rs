//! What scripts and readers rely on: help texts, tables, JSON keys, streams.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

use crate::support::models::{conv_model, every_layer};
use crate::support::{Folder, Outcome, fixture};

/// The fixture, and the folder it is copied to.
fn fixture_folder() -> Folder {
    Folder::with_model(std::fs::read(fixture()).unwrap())
}

#[test]
fn help_states_defaults_and_units() {
    let folder = Folder::new();
    insta::assert_snapshot!("help", folder.run(&["--help"]).succeeds());
    for command in [
        "demo",
        "inspect",
        "quantize",
        "evaluate",
        "compare",
        "merge",
        "run",
        "bench",
        "verify",
        "export",
        "completions",
        "man",
    ] {
        let help = folder.run(&[command, "--help"]).succeeds();
        insta::assert_snapshot!(format!("help_{command}"), help);
    }
}

#[test]
fn the_version_is_the_packages() {
    let version = Folder::new().run(&["--version"]).succeeds();
    assert_eq!(version, format!("campana {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Folder::new().run(&["completions", shell]).succeeds();
        assert!(script.contains("quantize"), "{shell}");
        // Values too: methods, targets, runtimes.
        for value in ["kmeans", "lut-uint4", "percentile", "openvino"] {
            assert!(script.contains(value), "{shell}: {value}");
        }
    }
}

#[test]
fn the_short_help_has_no_examples_and_fewer_options() {
    let folder = Folder::new();
    let short = folder.run(&["quantize", "-h"]).succeeds();
    let long = folder.run(&["quantize", "--help"]).succeeds();
    for text in ["Examples:", "--rate", "--activation-ranges"] {
        assert!(long.contains(text) && !short.contains(text), "{text}");
    }
    assert!(short.contains("--calibrate"));
}

#[test]
fn tables_fit_the_terminal_unless_they_shall_be_wide() {
    let folder = fixture_folder();
    let quantize = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--no-correct",
        "--force",
    ];
    for args in [&["inspect", "model.onnx"][..], &quantize] {
        for columns in [60, 80, 200] {
            let run = |more: &[&str]| {
                let args = [args, more].concat();
                let columns = columns.to_string();
                let mut command = folder.command(&args);
                let output = command.env("COLUMNS", columns).output();
                Outcome::of(output.expect("the command runs")).succeeds()
            };
            let widest = |text: &str| {
                let rules = text.lines().filter(|line| line.starts_with('═'));
                rules.map(|line| line.chars().count()).max().unwrap()
            };
            let (narrow, wide) = (run(&[]), run(&["--wide"]));
            assert!(widest(&narrow) <= columns, "{columns}: {narrow}");
            assert_eq!(
                narrow.contains("--wide"),
                columns < 200,
                "{columns}: {narrow}"
            );
            assert!(wide.contains("stage2.shortcut.conv.weight") && wide.contains("shape"));
        }
    }
}

#[test]
fn quiet_commands_say_errors_alone() {
    let folder = fixture_folder();
    let run = |args: &[&str]| folder.run(args);
    let quantized = run(&[
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--no-correct",
        "-q",
    ]);
    assert_eq!(quantized.succeeds(), "");
    let json = run(&["inspect", "out.onnx", "--quiet", "--json"]).json();
    assert!(
        json["quantized"]
            .as_array()
            .is_some_and(|tensors| !tensors.is_empty()),
        "{json}"
    );
    run(&["inspect", "nothing.onnx", "--quiet"]).is_refusal(&["nothing.onnx"]);
}

#[test]
fn it_is_said_where_a_page_is() {
    let folder = fixture_folder();
    let text = folder
        .run(&["inspect", "model.onnx", "--html", "page.html"])
        .succeeds();
    assert!(text.ends_with("Page: page.html\n"), "{text}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = Folder::new();
    folder.run(&["man", "pages"]).succeeds();
    let help = folder.run(&["--help"]).succeeds();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let mut pages = 0;
    for line in commands.take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
            let page = folder.read(&format!("pages/campana-{name}.1"));
            assert!(page.starts_with(b".ie"), "{name}");
            let examples = page.windows(8).any(|window| window == b"EXAMPLES");
            let has_none = ["demo", "completions", "man"].contains(&name);
            assert!(examples != has_none, "{name}");
            pages += 1;
        }
    }
    assert!(pages >= 10 && !folder.read("pages/campana.1").is_empty());
    assert!(!folder.path("pages/campana-verify-worker.1").exists());
}

#[test]
fn the_table_of_inspect() {
    let table = fixture_folder().run(&["inspect", "model.onnx"]).succeeds();
    insta::assert_snapshot!("table_inspect", table);
}

#[test]
fn the_table_of_quantize() {
    let folder = fixture_folder();
    let args = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--method=ks",
        "--granularity=tensor",
    ];
    let table = folder.run(&args).succeeds();
    insta::assert_snapshot!("table_quantize", without_times(&table));
}

/// `in 0.12 s` as `in [time] s`.
fn without_times(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for at in 1..words.len().saturating_sub(1) {
        let is_time = words[at - 1] == "in" && words[at + 1].starts_with("s\n");
        if is_time && words[at].parse::<f64>().is_ok() {
            words[at] = "[time]";
        }
    }
    words.join(" ")
}

#[test]
fn inspect_prints_the_keys_of_the_contract() {
    let report = fixture_folder()
        .run(&["inspect", "model.onnx", "--json"])
        .json();
    has_keys(&report, &["model", "weights", "tensors"]);
    let tensors = report["tensors"].as_array().unwrap();
    assert!(!tensors.is_empty());
    for tensor in tensors {
        has_keys(
            tensor,
            &[
                "name",
                "op",
                "shape",
                "count",
                "mean",
                "std",
                "kurtosis",
                "d_gaussian",
                "d_laplace",
                "family",
                "predicted_sqnr_db",
            ],
        );
        has_keys(
            &tensor["predicted_sqnr_db"],
            &["1", "2", "3", "4", "5", "6", "7", "8"],
        );
        let count: u64 = tensor["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dim| dim.as_u64().unwrap())
            .product();
        assert_eq!(tensor["count"], count);
        assert!(["gaussian", "laplace"].contains(&tensor["family"].as_str().unwrap()));
    }
    let total: u64 = tensors
        .iter()
        .map(|tensor| tensor["count"].as_u64().unwrap())
        .sum();
    assert_eq!(report["weights"], total);
    insta::assert_snapshot!("keys_inspect", keys(&report));
}

#[test]
fn quantize_prints_the_keys_of_the_contract() {
    let folder = fixture_folder();
    let args = ["quantize", "model.onnx", "-o", "out.onnx", "--json"];
    let report = folder.run(&args).json();
    has_keys(
        &report,
        &[
            "input",
            "output",
            "input_bytes",
            "output_bytes",
            "weights",
            "bits_per_weight",
            "mse",
            "sqnr_db",
            "elapsed_s",
            "tensors",
        ],
    );
    assert_eq!(report["input"], "model.onnx");
    assert_eq!(report["output"], "out.onnx");
    assert_eq!(report["input_bytes"], folder.read("model.onnx").len());
    assert_eq!(report["output_bytes"], folder.read("out.onnx").len());
    for tensor in report["tensors"].as_array().unwrap() {
        has_keys(
            tensor,
            &[
                "name",
                "shape",
                "bits",
                "method",
                "family",
                "granularity",
                "clip",
                "mse",
                "sqnr_db",
                "bits_per_weight",
                "kept",
            ],
        );
        // A tensor is kept, with a reason, or quantized.
        assert_eq!(
            tensor["kept"].is_null(),
            tensor["bits"].is_u64(),
            "{tensor}"
        );
        if tensor["kept"].is_null() {
            let [low, high] = [0, 1].map(|at| tensor["clip"][at].as_f64().unwrap());
            assert!(low < high, "{tensor}");
        }
    }
    insta::assert_snapshot!("keys_quantize", keys(&report));
}

#[test]
fn evaluate_and_bench_print_the_keys_of_the_contract() {
    let path = fixture();
    let images = path.with_file_name("cifar10_test_500.bin");
    let [model, data] = [&path, &images].map(|path| path.to_str().unwrap());
    let folder = Folder::new();
    let report = folder
        .run(&["evaluate", model, "--data", data, "--limit=20", "--json"])
        .json();
    assert_eq!(report["n"], 20);
    has_keys(
        &report["models"][0],
        &["model", "top1", "top5", "agreement", "images_per_s"],
    );
    let [top1, top5] = ["top1", "top5"].map(|key| report["models"][0][key].as_f64().unwrap());
    assert!(0.5 < top1 && top1 <= top5 && top5 <= 1.0, "{report}");
    let report = folder.run(&["bench", model, "--runs=2", "--json"]).json();
    has_keys(&report, &["threads"]);
    has_keys(
        &report["models"][0],
        &[
            "model",
            "median_ms",
            "quartiles_ms",
            "p95_ms",
            "min_ms",
            "load_ms",
            "first_ms",
            "peak_rss_bytes",
            "weight_bytes",
        ],
    );
}

#[test]
fn bench_tells_how_far_layers_are_from_the_peak() {
    let path = fixture();
    let model = path.to_str().unwrap();
    let folder = Folder::new();
    let args = ["bench", model, "--reference", model, "--runs=2", "--layers"];
    let report = folder.run(&[&args[..], &["--json"]].concat()).json();
    for key in ["integer_gops", "float_gops"] {
        assert!(report["peak"][key].as_f64().unwrap() > 0.0, "{report}");
    }
    for model in report["models"].as_array().unwrap() {
        let layers = model["layers"].as_array().unwrap();
        for layer in layers {
            has_keys(layer, &["node", "op", "median_ms", "gops", "on_codes"]);
            assert_eq!(layer["gops"].is_null(), layer["peak_share"].is_null());
        }
        assert!(layers.iter().any(|layer| layer["peak_share"].is_f64()));
    }
    let plain = folder.run(&["bench", model, "--runs=2", "--json"]).json();
    assert!(plain.get("peak").is_none() && plain["models"][0].get("layers").is_none());
    let printed = folder.run(&args).succeeds();
    assert_eq!(printed.matches("of peak").count(), 2, "{printed}");
    assert_eq!(printed.matches("measured peak").count(), 2, "{printed}");
}

#[test]
fn bench_draws_a_page_and_overwrites_none_by_itself() {
    let folder = fixture_folder();
    folder.write(
        "model.json",
        std::fs::read(fixture().with_extension("json")).unwrap(),
    );
    let args = ["bench", "model.onnx", "--runs=2", "--html", "page.html"];
    let printed = folder.run(&args).succeeds();
    assert!(printed.contains("of peak"), "{printed}");
    let page = String::from_utf8(folder.read("page.html")).unwrap();
    assert!(page.contains("of peak") && page.contains("GOPS"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
    folder.refuses(&args, &["'page.html'", "exists", "--force"]);
    folder
        .run(&[&args[..], &["--force", "--json"]].concat())
        .json();
    for input in ["model.onnx", "other.onnx"] {
        folder.write("other.onnx", folder.read("model.onnx"));
        let args = ["bench", "model.onnx", "--reference", "other.onnx"];
        folder.refuses(
            &[&args[..], &["--html", input, "--force"]].concat(),
            &["the page", "itself"],
        );
    }
}

#[test]
fn the_sidecar_of_the_reference_serves_models_without_one() {
    let path = fixture();
    let images = path.with_file_name("cifar10_test_500.bin");
    let [model, data] = [&path, &images].map(|path| path.to_str().unwrap());
    let folder = Folder::with_model(std::fs::read(&path).unwrap());
    let evaluate = ["evaluate", "model.onnx", "--data", data, "--limit=20"];
    folder.run(&evaluate).is_refusal(&["model.json"]);
    let report = folder
        .run(&[&evaluate[..], &["--reference", model, "--json"]].concat())
        .json();
    assert_eq!(report["models"][0]["agreement"], 1.0, "{report}");
    let bench = ["bench", "model.onnx", "--runs=2", "--json"];
    folder
        .run(&[&bench[..], &["--reference", model]].concat())
        .json();
    // A damaged one is no missing one.
    folder.write("model.json", b"{");
    let refused = folder.run(&[&evaluate[..], &["--reference", model]].concat());
    refused.is_refusal(&["model.json"]);
}

#[track_caller]
fn has_keys(object: &Value, keys: &[&str]) {
    for key in keys {
        assert!(object.get(key).is_some(), "no key '{key}' in {object}");
    }
}

/// The keys of an object and of the objects in its arrays, one a line.
fn keys(object: &Value) -> String {
    let mut paths = BTreeSet::new();
    collect(object, "", &mut paths);
    paths.into_iter().collect::<Vec<_>>().join("\n")
}

fn collect(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(value, &path, paths);
                paths.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, paths)),
        _ => {}
    }
}

#[test]
fn reported_bits_per_weight_and_error_are_those_of_the_tensors() {
    let folder = Folder::with_model(every_layer().into_bytes());
    for options in [["--method=auto", "--bits=4"], ["--method=ks", "--bits=3"]] {
        let args = [
            "quantize",
            "model.onnx",
            "-o",
            "out.onnx",
            "--json",
            "--force",
        ];
        let report = folder
            .run(&[&args[..], &options].concat())
            .may_warn("no image and of unknown scale")
            .json();
        let (mut weights, mut bits, mut squared_error) = (0.0, 0.0, 0.0);
        for tensor in report["tensors"].as_array().unwrap() {
            if tensor["kept"].is_null() {
                let dims = tensor["shape"].as_array().unwrap().iter();
                let count: f64 = dims.map(|dim| dim.as_f64().unwrap()).product();
                weights += count;
                bits += count * tensor["bits_per_weight"].as_f64().unwrap();
                squared_error += count * tensor["mse"].as_f64().unwrap();
            }
        }
        let reported =
            ["weights", "bits_per_weight", "mse"].map(|key| report[key].as_f64().unwrap());
        for (reported, expected) in
            reported
                .into_iter()
                .zip([weights, bits / weights, squared_error / weights])
        {
            assert!(
                (reported - expected).abs() <= MAX_SUM_ERROR * expected,
                "{reported}, not {expected}"
            );
        }
    }
}

/// Relative error of sums that are added in another order.
const MAX_SUM_ERROR: f64 = 1e-12;

#[test]
fn threads_and_repetition_change_no_byte() {
    let folder = Folder::with_model(every_layer().into_bytes());
    for method in ["auto", "ks", "kmeans", "pwlq"] {
        let output = |threads: &str| {
            let args = [
                "quantize",
                "model.onnx",
                "-o",
                "out.onnx",
                "--force",
                "--threads",
                threads,
                "--method",
                method,
            ];
            folder
                .run(&args)
                .may_warn("no image and of unknown scale")
                .succeeds();
            folder.read("out.onnx")
        };
        let one = output("1");
        assert!(one == output("2") && one == output("5"), "{method}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_panic() {
    let folder = Folder::with_model(every_layer().into_bytes());
    for args in [
        &["inspect", "model.onnx"][..],
        &["inspect", "model.onnx", "--json"],
        &["completions", "bash"],
    ] {
        let mut child = folder
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

#[test]
fn colour_and_bars_are_for_terminals() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let args = ["quantize", "model.onnx", "-o", "out.onnx"];
    let stdout = folder.run(&args).succeeds();
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
    let outcome = folder.run(&args);
    assert!(!outcome.stderr.contains('\u{1b}'), "{}", outcome.stderr);
}

#[test]
fn demo_needs_no_argument_and_runs_twice() {
    let folder = Folder::new();
    let stdout = folder.run(&["demo"]).succeeds();
    for words in ["4-bit", "3-bit", "2-bit", "campana quantize"] {
        assert!(stdout.contains(words), "no '{words}' in\n{stdout}");
    }
    let before: Vec<_> = folder.listing().into_keys().collect();
    let report = folder.run(&["demo", "--json"]).json();
    assert_eq!(before, folder.listing().into_keys().collect::<Vec<_>>());
    let models = report["models"].as_array().unwrap();
    let bytes: Vec<u64> = models
        .iter()
        .map(|model| model["bytes"].as_u64().unwrap())
        .collect();
    assert!(
        bytes.len() == 4 && bytes.is_sorted_by(|more, less| more > less),
        "{bytes:?}"
    );
    let page = String::from_utf8(folder.read("campana-demo/report.html")).unwrap();
    assert!(page.to_lowercase().starts_with("<!doctype html>"));
    let files = folder.listing();
    let written = files
        .iter()
        .filter(|(name, _)| name.extension().is_some_and(|e| e == "onnx"));
    let mut written: Vec<u64> = written
        .map(|(_, bytes)| bytes.as_ref().unwrap().len() as u64)
        .collect();
    written.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(written, bytes, "sizes of the models in the folder");
}

#[test]
fn demo_says_where_it_cannot_write() {
    let folder = Folder::new();
    folder.write("file", "");
    folder.refuses(&["demo", "--output", "file"], &["'file'"]);
    folder.refuses(&["demo", "--output", "file/below"], &["'file/below'"]);
}

#[test]
fn inspect_draws_one_page_that_needs_no_network() {
    let folder = fixture_folder();
    let args = ["inspect", "model.onnx", "--html", "page.html"];
    folder.run(&args).succeeds();
    let page = String::from_utf8(folder.read("page.html")).unwrap();
    assert!(page.contains("stage1.first.conv.weight"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
    folder.refuses(&args, &["'page.html'", "exists", "--force"]);
    folder
        .run(&[&args[..], &["--force", "--bits=2", "--json"]].concat())
        .json();
    let args = ["inspect", "model.onnx", "--html", "model.onnx", "--force"];
    folder.refuses(&args, &["the page", "itself"]);
    folder.refuses(
        &["inspect", "model.onnx", "--html", "missing/page.html"],
        &["folder 'missing'"],
    );
}
