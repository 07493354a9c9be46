//! Ctrl-C and a request to terminate, while a model is quantized.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use campana_onnx::NewNode;

use crate::support::models::{NewModel, long_model};
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

#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    let folder = Folder::with_model(long_model(24));
    let work = ["quantize", "model.onnx", "-o", "out.onnx", "--threads=1"];
    let mut child = folder
        .command(&work)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_output(&folder);
    child.kill().unwrap();
    child.wait().unwrap();
    let left = || {
        let names = folder.listing().into_keys();
        names.filter(|name| name.to_string_lossy().starts_with(".campana-"))
    };
    assert_eq!(left().count(), 1);
    let inspect = ["inspect", "model.onnx", "--html", "page.html"];
    folder.run(&inspect).succeeds();
    assert_eq!(left().count(), 0);
}

/// A network whose one layer takes long, without looking at anything else.
fn slow_layer() -> Vec<u8> {
    NewModel::new()
        .weights("w", &[512, 512, 3, 3])
        .input("x", &[1, 512, 32, 32])
        .node(NewNode::new("Conv", ["x", "w"], ["y"]))
        .output("y", &[1, 512, 30, 30])
        .into_bytes()
}

#[cfg(target_os = "linux")]
#[test]
fn commands_that_do_not_listen_end_all_the_same() {
    for signal in ["INT", "TERM"] {
        let folder = Folder::with_model(slow_layer());
        let before = folder.listing();
        let work = ["quantize", "model.onnx", "-o", "out.onnx", "--threads=1"];
        let child = folder
            .command(&work)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_output(&folder);
        sleep(Duration::from_millis(300));
        let cpu_before = cpu_time(&child);
        send(signal, &child);
        // The process is looked at while it still can be.
        let mut cpu_after = cpu_before;
        let mut child = child;
        while child.try_wait().unwrap().is_none() {
            cpu_after = cpu_time(&child).max(cpu_after);
            sleep(Duration::from_millis(2));
        }
        let outcome = Outcome::of(child.wait_with_output().unwrap());
        outcome.is_refusal(&["interrupted; nothing was written"]);
        assert_same_files(&before, &folder.listing());
        let taken = cpu_after - cpu_before;
        assert!(taken <= MAX_CPU_TIME, "{taken:?} until the end");
    }
}

/// What a command may take after a signal.
#[cfg(target_os = "linux")]
const MAX_CPU_TIME: Duration = Duration::from_millis(250);

/// What a process has taken, to the hundredth of a second.
#[cfg(target_os = "linux")]
fn cpu_time(child: &Child) -> Duration {
    let status = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let behind_name = status.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks = |field: usize| {
        fields
            .get(field)
            .map_or(0, |field| field.parse().unwrap_or(0))
    };
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
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
    let is_temporary = |entry: fs::DirEntry| entry.path().extension().is_some_and(|e| e == "tmp");
    let names = || fs::read_dir(folder.path(".")).unwrap().flatten();
    while !names().any(is_temporary) {
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
