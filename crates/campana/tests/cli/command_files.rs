//! Outputs that are inputs or other outputs, and outputs that are no files.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use campana_onnx::Model;

use crate::support::models::{
    NewModel, add_conv, conv_model, external, little_endian, random_weights,
};
use crate::support::{Folder, Outcome, fixture, skipped};

/// A model with external data and a sidecar, images, a plan.
fn folder() -> Folder {
    let model = NewModel::new().initializer(external("w", &[16, 8, 3, 3], "w.bin", 0));
    let folder = Folder::with_model(add_conv(model, "").into_bytes());
    folder.write("w.bin", little_endian(&random_weights("w", 16 * 8 * 9)));
    folder.write(
        "model.json",
        r#"{"input":{"size":6,"mean":[0,0,0],"std":[1,1,1]}}"#,
    );
    let plan = [
        "quantize",
        "model.onnx",
        "-o",
        "o.onnx",
        "--bits=3.2",
        "--plan=plan.toml",
    ];
    folder
        .run(&[&plan[..], &["--no-correct"]].concat())
        .succeeds();
    folder.write("images/1.png", "");
    folder.write("images/labels.tsv", "1.png\t0\n");
    folder
}

#[track_caller]
fn refuses(folder: &Folder, args: &[&str], words: &[&str]) {
    let args = [args, &["--force"]].concat();
    folder.refuses(&args, words);
}

#[test]
fn no_output_is_an_input() {
    let folder = folder();
    symlink("w.bin", folder.path("link")).unwrap();
    fs::hard_link(folder.path("plan.toml"), folder.path("hard")).unwrap();
    let quantize = ["quantize", "model.onnx", "-o"];
    for (args, words) in [
        (
            &["w.bin"][..],
            ["the output 'w.bin'", "the data of the input"],
        ),
        (&["link"], ["the output 'link'", "the data of the input"]),
        (&["model.json"], ["the output", "the sidecar of the input"]),
        (
            &["o.onnx", "--report=w.bin"],
            ["the report", "the data of the input"],
        ),
        (
            &["o.onnx", "--report=./model.json"],
            ["the report", "the sidecar"],
        ),
        (
            &["o.onnx", "--bits=3.2", "--plan=w.bin"],
            ["the plan", "the data of the input"],
        ),
        (
            &["o.onnx", "--plan=plan.toml", "--report=hard"],
            ["the report", "the plan"],
        ),
        (
            &["o.onnx", "--resume=w.bin"],
            ["the journal", "the data of the input"],
        ),
        (
            &["o.onnx", "--calibrate=images", "--report=images/1.png"],
            ["the report", "a file of the calibration data"],
        ),
        (
            &[
                "o.onnx",
                "--max-drop=1%",
                "--data=images",
                "--report=images/labels.tsv",
            ],
            ["the report", "a file of the data"],
        ),
    ] {
        refuses(&folder, &[&quantize[..], args].concat(), &words);
    }
    for (args, words) in [
        (
            ["inspect", "model.onnx", "--html", "w.bin"],
            "the data of the input",
        ),
        (
            ["inspect", "model.onnx", "--html", "model.json"],
            "the sidecar of the input",
        ),
        (
            ["bench", "model.onnx", "--html", "w.bin"],
            "the data of the model",
        ),
        (
            ["pack", "model.onnx", "-o", "w.bin"],
            "the data of the input",
        ),
        (["unpack", "plan.toml", "-o", "hard"], "the input"),
    ] {
        refuses(&folder, &args, &[words, "itself"]);
    }
    for output in ["--csv", "--html", "--markdown"] {
        let compare = ["compare", "model.onnx", "--data", "images", output];
        for (file, words) in [
            ("w.bin", "the data of the input"),
            ("model.json", "the sidecar"),
            ("images/1.png", "a file of the data"),
        ] {
            refuses(
                &folder,
                &[&compare[..], &[file]].concat(),
                &[words, "itself"],
            );
        }
    }
}

#[test]
fn no_output_is_another_output() {
    let folder = folder();
    let quantize = ["quantize", "model.onnx", "-o", "a"];
    for (args, words) in [
        (&["--report=./a"][..], ["the report", "the output"]),
        (
            &["--bits=3.2", "--plan=r", "--report=r"],
            ["the plan", "the report"],
        ),
        (&["--resume=a"], ["the journal", "the output"]),
    ] {
        refuses(&folder, &[&quantize[..], args].concat(), &words);
    }
    let compare = ["compare", "model.onnx", "--data=images", "--csv=z"];
    for args in [["--html=z"], ["--markdown=./z"], ["--resume=z"]] {
        let words = ["the CSV file", "itself"];
        refuses(&folder, &[&compare[..], &args].concat(), &words);
    }
}

#[test]
fn a_link_stays_and_its_target_is_written() {
    let folder = Folder::with_model(conv_model().into_bytes());
    folder.write("below/target.onnx", "old");
    symlink("below/target.onnx", folder.path("link.onnx")).unwrap();
    let args = ["quantize", "model.onnx", "-o", "link.onnx"];
    folder.refuses(&args, &["'link.onnx'", "exists", "--force"]);
    folder.run(&[&args[..], &["--force"]].concat()).succeeds();
    let link = fs::read_link(folder.path("link.onnx")).unwrap();
    assert_eq!(link.to_str(), Some("below/target.onnx"));
    Model::open(folder.path("below/target.onnx")).unwrap();
    assert_eq!(folder.listing().len(), 4);
}

#[test]
fn pipes_and_sockets_are_no_outputs() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let made = Command::new("mkfifo").arg(folder.path("pipe")).status();
    if !made.is_ok_and(|status| status.success()) {
        skipped("there is no mkfifo");
        return;
    }
    std::os::unix::net::UnixListener::bind(folder.path("socket")).unwrap();
    for output in ["pipe", "socket", "/dev/null", "/dev/full", "."] {
        let args = ["quantize", "model.onnx", "-o", output, "--force"];
        let outcome = folder.run(&args);
        outcome.is_refusal(&[output, "no regular file"]);
        let args = ["inspect", "model.onnx", "--html", output, "--force"];
        folder.run(&args).is_refusal(&[output, "no regular file"]);
    }
}

#[test]
fn a_minus_and_dev_stdout_are_the_standard_output() {
    let folder = Folder::with_model(conv_model().into_bytes());
    folder
        .run(&["quantize", "model.onnx", "-o", "out.onnx"])
        .succeeds();
    let expected = folder.read("out.onnx");
    let before = folder.listing();
    for output in ["-", "/dev/stdout"] {
        for options in [&[][..], &["--force"]] {
            let args = [&["quantize", "model.onnx", "-o", output], options].concat();
            let printed = folder.command(&args).output().unwrap();
            assert!(printed.status.success(), "{printed:?}");
            assert!(printed.stdout == expected, "{output}");
            let text = String::from_utf8(printed.stderr).unwrap();
            assert!(text.contains("of the size"), "{text}");
        }
        let json = ["quantize", "model.onnx", "-o", output, "--json"];
        folder.refuses(&json, &["--json", "standard output"]);
        let twice = ["quantize", "model.onnx", "-o", output, "--report=-"];
        folder.refuses(&twice, &["the report '-'", "the output"]);
    }
    crate::support::assert_same_files(&before, &folder.listing());
}

#[test]
fn the_standard_output_is_the_file_that_it_leads_to() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let before = folder.read("model.onnx");
    let path = folder.path("model.onnx");
    let model = OpenOptions::new().append(true).open(path).unwrap();
    let args = ["quantize", "model.onnx", "-o", "-", "--no-correct"];
    let refused = folder.command(&args).stdout(model).output().unwrap();
    let outcome = Outcome::of(refused);
    outcome.is_refusal(&["the output '-' is the input 'model.onnx' itself"]);
    assert!(folder.read("model.onnx") == before);
}

#[test]
fn a_picture_of_any_ending_that_labels_name_is_an_input() {
    let folder = folder();
    folder.write("images/b.dat", "");
    folder.write("images/labels.tsv", "b.dat\t0\n");
    let args = [
        "quantize",
        "model.onnx",
        "-o",
        "x.onnx",
        "--calibrate=images",
    ];
    let report = ["--report", "images/b.dat"];
    refuses(&folder, &[&args[..], &report].concat(), &["images/b.dat"]);
    assert!(folder.read("images/b.dat").is_empty());
}

#[test]
fn a_replaced_file_keeps_its_permissions() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let args = ["quantize", "model.onnx", "-o", "out.onnx", "--no-correct"];
    folder.run(&args).succeeds();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(folder.path("out.onnx"), mode).unwrap();
    folder.run(&[&args[..], &["--force"]].concat()).succeeds();
    let kept = fs::metadata(folder.path("out.onnx")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
}

#[test]
fn data_that_a_copy_of_a_model_refers_to_stays() {
    let folder = folder();
    let args = ["quantize", "model.onnx", "-o", "out.onnx", "--no-correct"];
    folder.run(&args).succeeds();
    fs::copy(folder.path("out.onnx"), folder.path("backup.model")).unwrap();
    let copied = Model::open(folder.path("backup.model")).unwrap();
    let again = folder.run(&[&args[..], &["--force", "--bits=3"]].concat());
    again.succeeds();
    let tensors = copied.tensors();
    let files = tensors
        .iter()
        .filter_map(|tensor| copied.external_path(tensor).unwrap());
    let files: Vec<_> = files.collect();
    assert!(
        !files.is_empty() && files.iter().all(|file| file.exists()),
        "{files:?}"
    );
}

#[test]
fn containers_go_through_pipes_too() {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let packed = folder.command(&["pack", "model.onnx", "-o", "-"]).output();
    folder.write("packed.campana", packed.unwrap().stdout);
    let unpacked = folder
        .command(&["unpack", "packed.campana", "-o", "/dev/stdout"])
        .output();
    assert!(unpacked.unwrap().stdout == folder.read("model.onnx"));
}

#[test]
fn names_that_promise_another_form_are_refused() {
    let folder = Folder::with_model(conv_model().into_bytes());
    for (args, words) in [
        (
            &["quantize", "model.onnx", "-o", "a.tflite", "--target=lut"][..],
            "--target tflite",
        ),
        (&["quantize", "model.onnx", "-o", "a.mlmodel"], "Core ML"),
        (
            &["quantize", "model.onnx", "-o", "a.safetensors"],
            "safetensors",
        ),
        (
            &["quantize", "model.onnx", "-o", "a.campana", "--target=lut"],
            "--target campana",
        ),
        (
            &["quantize", "model.onnx", "-o", "a.onnx", "--target=campana"],
            "container",
        ),
        (
            &["quantize", "model.onnx", "-o", "a.onnx", "--target=tflite"],
            "TensorFlow Lite",
        ),
        (&["pack", "model.onnx", "-o", "a.onnx"], "container"),
        (&["unpack", "model.onnx", "-o", "a.campana"], "container"),
    ] {
        folder.refuses(args, &[args[3], words]);
    }
    for size in ["60", "3.5", "1e3"] {
        let size = format!("--max-size={size}");
        let args = ["quantize", "model.onnx", "-o", "a.onnx", &size];
        folder.refuses(&args, &["--max-size", "unit"]);
    }
}

#[test]
fn an_output_named_like_a_container_is_one() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let args = ["quantize", "model.onnx", "-o", "a.campana", "--no-correct"];
    folder.run(&args).succeeds();
    let unpack = ["unpack", "a.campana", "-o", "b.onnx"];
    folder.run(&unpack).succeeds();
    let report = folder.run(&["inspect", "a.campana", "--json"]).json();
    assert_eq!(report["quantized"][0]["form"], "codebook");
    assert_eq!(report["tensors"].as_array().map(Vec::len), Some(0));
    let shown = folder.run(&["inspect", "b.onnx"]).succeeds();
    assert!(shown.contains("The model is quantized"), "{shown}");
}

#[test]
fn the_sidecar_goes_with_the_output_unless_there_is_one() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let sidecar = fs::read(fixture().with_extension("json")).unwrap();
    folder.write("model.json", &sidecar);
    let quantize = |output: &str| {
        let args = ["quantize", "model.onnx", "-o", output, "--no-correct"];
        folder.run(&args).succeeds();
    };
    quantize("a.onnx");
    assert_eq!(folder.read("a.json"), sidecar);
    folder.write("b.json", "{}");
    quantize("b.onnx");
    assert_eq!(folder.read("b.json"), b"{}");
}

#[test]
fn a_full_standard_output_is_an_error_in_one_line() {
    let folder = Folder::with_model(conv_model().into_bytes());
    let run = |args: &[&str]| {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut command = folder.command(args);
        command.stdout(full).stderr(Stdio::piped());
        Outcome::of(command.output().unwrap())
    };
    for args in [
        &["inspect", "model.onnx"][..],
        &["inspect", "model.onnx", "--json"],
        &["quantize", "model.onnx", "-o", "out.onnx"],
        &["quantize", "model.onnx", "-o", "-"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
    ] {
        let outcome = run(args);
        outcome.is_refusal(&["cannot write to the standard output", "No space left"]);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    }
    assert!(Model::open(folder.path("out.onnx")).is_ok());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = Folder::with_model(conv_model().into_bytes());
    for args in [
        &["inspect", "model.onnx"][..],
        &["inspect", "model.onnx", "--json"],
        &["quantize", "model.onnx", "-o", "-"],
        &["completions", "bash"],
    ] {
        let mut child = folder
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let outcome = Outcome::of(child.wait_with_output().unwrap());
        assert_eq!(outcome.status, Some(0), "{args:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("error"), "{}", outcome.stderr);
    }
    // Nor is a standard error that takes nothing.
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = folder
        .command(&["inspect", "missing"])
        .stderr(full)
        .status();
    assert_eq!(status.unwrap().code(), Some(2));
}

#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    let name = "w\u{1b}]0;title\u{7}\u{9b}31m\n";
    let model = NewModel::new()
        .weights(name, &[16, 8, 3, 3])
        .input("x", &[1, 8, 6, 6])
        .node(campana_onnx::NewNode::new("Conv", ["x", name], ["y"]))
        .output("y", &[1, 16, 4, 4]);
    let folder = Folder::with_model(model.into_bytes());
    let is_clean = |text: &str| text.chars().all(|char| char == '\n' || !char.is_control());
    for args in [
        &["inspect", "model.onnx"][..],
        &["inspect", "model.onnx", "--json"],
        &["quantize", "model.onnx", "-o", "out.onnx"],
        &["inspect", "missing\u{1b}[31m.onnx"],
    ] {
        let Outcome { stdout, stderr, .. } = folder.run(args);
        assert!(
            is_clean(&stdout) && is_clean(&stderr),
            "{args:?}: {stdout}{stderr}"
        );
    }
    let printed = folder.run(&["inspect", "model.onnx"]).succeeds();
    assert!(
        printed.contains(r"w\u{1b}]0;title\u{7}\u{9b}31m\n"),
        "{printed}"
    );
}
