//! Inputs that are missing, are no files, or have no end.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Folder, Outcome, fixture, skipped};

/// More than any machine takes to refuse an input.
const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's network with its sidecar, images and plan.
fn folder() -> Folder {
    let path = fixture();
    let folder = Folder::with_model(fs::read(&path).unwrap());
    let sidecar = fs::read(path.with_extension("json")).unwrap();
    folder.write("model.json", sidecar);
    let images = path.with_file_name("cifar10_test_500.bin");
    folder.write("images.bin", fs::read(images).unwrap());
    folder
}

/// Every input of every command, `BAD` in the place of one.
const INPUTS: [&[&str]; 20] = [
    &["inspect", "BAD"],
    &["quantize", "BAD", "-o", "out.onnx"],
    &["quantize", "model.onnx", "-o", "out.onnx", "--plan", "BAD"],
    &[
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--resume",
        "BAD",
    ],
    &[
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--calibrate",
        "BAD",
    ],
    &[
        "quantize",
        "model.onnx",
        "-o",
        "o",
        "--max-drop=1%",
        "--data",
        "BAD",
    ],
    &["evaluate", "BAD", "--data", "images.bin"],
    &["evaluate", "model.onnx", "--data", "BAD"],
    &[
        "evaluate",
        "model.onnx",
        "--data",
        "images.bin",
        "--reference",
        "BAD",
    ],
    &["compare", "BAD", "--data", "images.bin"],
    &["compare", "model.onnx", "--data", "BAD"],
    &[
        "compare",
        "model.onnx",
        "--data",
        "images.bin",
        "--resume",
        "BAD",
    ],
    &[
        "compare",
        "model.onnx",
        "--data",
        "images.bin",
        "--calibrate",
        "BAD",
    ],
    &["run", "BAD", "images.bin"],
    &["run", "model.onnx", "BAD"],
    &["bench", "BAD"],
    &["bench", "model.onnx", "--reference", "BAD"],
    &["pack", "BAD", "-o", "out.campana"],
    &["unpack", "BAD", "-o", "out.onnx"],
    &["verify", "BAD"],
];

/// Runs a command that must not take long.
#[track_caller]
fn run_soon(folder: &Folder, args: &[&str]) -> Outcome {
    let mut child = folder
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{args:?} does not end");
        }
        sleep(Duration::from_millis(5));
    }
    Outcome::of(child.wait_with_output().unwrap())
}

fn with<'a>(args: &[&'a str], bad: &'a str) -> Vec<&'a str> {
    let put = |arg: &&'a str| if *arg == "BAD" { bad } else { arg };
    args.iter().map(put).collect()
}

#[test]
fn pipes_and_devices_are_refused_as_inputs() {
    let folder = folder();
    let made = Command::new("mkfifo").arg(folder.path("pipe")).status();
    if !made.is_ok_and(|status| status.success()) {
        skipped("there is no mkfifo");
        return;
    }
    symlink("/dev/zero", folder.path("zero.onnx")).unwrap();
    for bad in ["pipe", "zero.onnx", "/dev/zero"] {
        for args in INPUTS {
            let outcome = run_soon(&folder, &with(args, bad));
            outcome.is_refusal(&[bad, "regular file"]);
        }
    }
}

#[test]
fn what_lies_beside_a_model_is_no_pipe_either() {
    let folder = folder();
    fs::remove_file(folder.path("model.json")).unwrap();
    symlink("/dev/zero", folder.path("model.json")).unwrap();
    fs::create_dir(folder.path("pictures")).unwrap();
    symlink("/dev/zero", folder.path("pictures/labels.tsv")).unwrap();
    for args in [
        &["run", "model.onnx", "images.bin"][..],
        &["evaluate", "model.onnx", "--data", "images.bin"],
        &["evaluate", "model.onnx", "--data", "pictures"],
    ] {
        run_soon(&folder, args).is_refusal(&["regular file"]);
    }
}

#[test]
fn missing_files_are_named_in_one_way() {
    let folder = folder();
    for args in INPUTS {
        if args.contains(&"--resume") {
            continue;
        }
        let outcome = run_soon(&folder, &with(args, "missing.onnx"));
        let said = "cannot read 'missing.onnx'\n  because No such file or directory";
        let plan = "cannot read the plan 'missing.onnx'\n  because No such file or directory";
        assert!(
            outcome.stderr.contains(said) || outcome.stderr.contains(plan),
            "{args:?}: {}",
            outcome.stderr
        );
        assert_eq!(
            outcome.stderr.lines().count(),
            2,
            "{args:?}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn labels_do_not_name_files_outside_their_folder() {
    let folder = folder();
    folder.write("outside.png", "");
    let absolute = folder.path("outside.png");
    for path in [
        "../outside.png",
        absolute.to_str().unwrap(),
        "a/../../outside.png",
    ] {
        folder.write("pictures/labels.tsv", format!("{path}\t0\n"));
        folder.refuses(
            &["evaluate", "model.onnx", "--data", "pictures"],
            &["labels.tsv", "line 1", "a path within the folder"],
        );
    }
}

#[test]
fn numbers_of_threads_have_a_maximum() {
    let folder = folder();
    for threads in ["0", "1025", "100000", "-1", "many"] {
        for command in [
            &["inspect", "model.onnx"][..],
            &["run", "model.onnx", "images.bin"],
            &["quantize", "model.onnx", "-o", "out.onnx"],
            &["bench", "model.onnx"],
        ] {
            let option = format!("--threads={threads}");
            let args = [command, &[&option]].concat();
            let words = ["--threads", "a whole number from 1 to 1024", threads];
            folder.refuses(&args, &words);
        }
    }
}
