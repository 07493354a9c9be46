//! Outputs that must not or cannot be written.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::models::{conv_model, long_model};
use crate::support::{CAMPANA, Folder, Outcome, skipped, with_plain_output};

fn folder() -> Folder {
    Folder::with_model(conv_model().into_bytes())
}

#[track_caller]
fn refuses(folder: &Folder, output: &str, words: &[&str]) {
    let words = [&[output], words].concat();
    folder.refuses(&["quantize", "model.onnx", "-o", output], &words);
}

#[test]
fn the_output_is_never_the_input() {
    let folder = folder();
    fs::hard_link(folder.path("model.onnx"), folder.path("hard.onnx")).unwrap();
    symlink("model.onnx", folder.path("soft.onnx")).unwrap();
    for output in ["model.onnx", "./model.onnx", "hard.onnx", "soft.onnx"] {
        refuses(&folder, output, &["is the input", "itself"]);
        let args = ["quantize", "model.onnx", "-o", output, "--force"];
        folder.refuses(&args, &["is the input", "itself"]);
    }
    // Nor is it when the input is named by a link.
    let args = ["quantize", "soft.onnx", "-o", "model.onnx", "--force"];
    folder.refuses(&args, &["is the input", "itself"]);
}

#[test]
fn an_existing_output_is_overwritten_only_with_force() {
    let folder = folder();
    folder.write("out.onnx", "precious");
    refuses(&folder, "out.onnx", &["exists", "--force"]);
    folder
        .run(&["quantize", "model.onnx", "-o", "out.onnx", "--force"])
        .succeeds();
    assert!(folder.read("out.onnx") != b"precious");
}

#[test]
fn a_failed_run_with_force_keeps_the_old_output() {
    let folder = Folder::with_model("no model");
    folder.write("out.onnx", "precious");
    folder.refuses(
        &["quantize", "model.onnx", "-o", "out.onnx", "--force"],
        &["not an ONNX file"],
    );
}

#[test]
fn folders_and_devices_are_no_outputs() {
    let folder = folder();
    fs::create_dir(folder.path("sub")).unwrap();
    refuses(&folder, "sub", &["no regular file"]);
    refuses(&folder, "/dev/null", &["no regular file"]);
    let args = ["quantize", "model.onnx", "-o", "sub", "--force"];
    folder.refuses(&args, &["no regular file"]);
}

#[test]
fn folders_that_cannot_be_written_are_named() {
    let folder = folder();
    folder.write("file", "");
    // The last two fail for root as well.
    for parent in ["missing", "file", "/proc"] {
        let output = format!("{parent}/out.onnx");
        let words = [
            &*format!("cannot write to the folder '{parent}'"),
            "because",
        ];
        folder.refuses(&["quantize", "model.onnx", "-o", &output], &words);
    }
}

#[test]
fn a_folder_without_write_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let locked = folder.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(locked.join("probe"), "").is_ok() {
        skipped("this user writes to folders without permission");
        return;
    }
    let args = ["quantize", "model.onnx", "-o", "locked/out.onnx"];
    folder.refuses(&args, &["folder 'locked'", "Permission denied"]);
}

#[test]
fn a_file_that_may_not_grow_leaves_nothing_behind() {
    let folder = Folder::with_model(long_model(2));
    let before = folder.listing();
    // The limit is in blocks of 512 bytes or of 1 KiB; the output takes more.
    let script = "ulimit -f 16; exec \"$0\" quantize model.onnx -o out.onnx";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, CAMPANA])
        .current_dir(folder.path("."));
    with_plain_output(&mut command);
    let outcome = Outcome::of(command.output().unwrap());
    outcome.is_refusal(&["cannot write 'out.onnx'", "File too large"]);
    crate::support::assert_same_files(&before, &folder.listing());
}

#[test]
#[cfg(target_os = "linux")]
fn memory_that_runs_out_is_an_error_that_leaves_nothing_behind() {
    let folder = Folder::with_model(long_model(2));
    let before = folder.listing();
    let mut refused = 0;
    for kilobytes in (20_000..200_000).step_by(12_000) {
        let script = format!(
            "ulimit -v {kilobytes}; exec \"$0\" quantize model.onnx -o out.onnx --threads 1"
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, CAMPANA])
            .current_dir(folder.path("."));
        with_plain_output(&mut command);
        let outcome = Outcome::of(command.output().unwrap());
        if outcome.stderr.contains("there is not enough memory") {
            refused += 1;
            assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
            crate::support::assert_same_files(&before, &folder.listing());
        } else if folder.path("out.onnx").exists() {
            break;
        }
    }
    assert!(refused > 0, "no limit was too small");
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let folder = Folder::with_model(long_model(2));
    fs::create_dir(folder.path("disk")).unwrap();
    // A file system of 64 KiB that only this process sees.
    let script = "mount -t tmpfs -o size=64k none disk || exit 77
        \"$0\" quantize model.onnx -o disk/out.onnx; status=$?
        ls -A disk; exit $status";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, CAMPANA])
        .current_dir(folder.path("."));
    with_plain_output(&mut command);
    let outcome = match command.output() {
        Ok(output) if ![Some(77), Some(1)].contains(&output.status.code()) => Outcome::of(output),
        _ => {
            skipped("this user cannot mount a file system");
            return;
        }
    };
    outcome.is_refusal(&["cannot write 'disk/out.onnx'", "No space left on device"]);
}
