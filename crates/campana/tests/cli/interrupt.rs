//! Ctrl-C and a request to terminate, while a model is quantized.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::models::long_model;
use crate::support::{Folder, Outcome, assert_same_files};

/// More than any machine takes to start the command.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn ctrl_c_leaves_nothing_behind() {
    is_stopped_by("INT", &[]);
}

#[test]
fn a_request_to_terminate_leaves_nothing_behind() {
    is_stopped_by("TERM", &["--json"]);
}

fn is_stopped_by(signal: &str, options: &[&str]) {
    let folder = Folder::with_model(long_model(24));
    let before = folder.listing();
    // Far longer than the signal takes, on any machine.
    let work = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--bits=8",
        "--threads=1",
    ];
    let child = folder
        .command(&[&work, options].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_output(&folder);
    send(signal, &child);
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    outcome.is_refusal(&["interrupted"]);
    assert_same_files(&before, &folder.listing());
}

/// Waits until the command has begun its output: it listens by then.
fn wait_for_output(folder: &Folder) {
    let start = Instant::now();
    while fs::read_dir(folder.path(".")).unwrap().count() == 1 {
        assert!(start.elapsed() < PATIENCE, "the command does not begin");
        sleep(Duration::from_millis(5));
    }
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status();
    assert!(
        status.unwrap().success(),
        "the command ended before the signal"
    );
}
