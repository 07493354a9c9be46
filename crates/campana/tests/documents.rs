//! Every command of the README and of the pages in `docs/`, run as a reader
//! would: the `sh` blocks of a page one after another in one folder.
//!
//! Lines of other programs than those in [`RUN`], and blocks after a comment
//! `<!-- not run: reason -->`, are listed and not run.
#![cfg(unix)]

mod support;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use campana_formats::write_npz;
use campana_tensor::{Tensor, TensorData};
use support::{CAMPANA, Folder, fixture, root, skipped, with_plain_output};

/// Programs whose lines are run.
const RUN: [&str; 3] = ["campana", "cp", "gzip"];

/// Pages whose commands need data that is not in the repository.
const NEEDS_SHARED_DATA: [&str; 1] = ["results.md"];

/// Pictures in the data sets of the folder: the commands are tried, not their
/// figures.
const PICTURES: usize = 20;

/// Bytes of a CIFAR-10 record.
const RECORD: usize = 3073;

/// A line of an `sh` block, or the reason why it is not run.
#[derive(Debug, PartialEq)]
enum Line {
    Run(String),
    Skipped(String, String),
}

/// The lines of a page's `sh` blocks, continued ones joined.
fn lines(page: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut reason: Option<String> = None;
    let mut inside = false;
    let mut joined = String::new();
    for line in page.lines() {
        if inside && line.starts_with("```") {
            inside = false;
            reason = None;
        } else if inside {
            if let Some(begun) = line.strip_suffix('\\') {
                joined.push_str(begun);
                continue;
            }
            let line = std::mem::take(&mut joined) + line;
            let program = line.split_whitespace().next().unwrap_or("#");
            if program.starts_with('#') {
                continue;
            }
            found.push(match &reason {
                Some(reason) => Line::Skipped(line, reason.clone()),
                None if RUN.contains(&program) => Line::Run(line),
                None => {
                    let reason = format!("'{program}' is not run here");
                    Line::Skipped(line, reason)
                }
            });
        } else if line == "```sh" {
            inside = true;
        } else if let Some(comment) = line.strip_prefix("<!-- not run: ") {
            reason = Some(comment.trim_end_matches(" -->").to_owned());
        } else if !line.trim().is_empty() {
            reason = None;
        }
    }
    found
}

/// What the pages' commands find where they are run.
fn folder() -> Folder {
    let folder = Folder::new();
    let fixtures = fixture().parent().expect("a folder").to_owned();
    let read = |name: &str| fs::read(fixtures.join(name)).expect("the fixture");
    let pictures = &read("cifar10_test_500.bin")[..PICTURES * RECORD];
    for name in ["model", "fixtures/cifar10_resnet8"] {
        folder.write(&format!("{name}.onnx"), read("cifar10_resnet8.onnx"));
        folder.write(&format!("{name}.json"), read("cifar10_resnet8.json"));
    }
    for name in [
        "test.bin",
        "fixtures/cifar10_test_500.bin",
        "training_images",
    ] {
        folder.write(name, pictures);
    }
    folder.write("picture.jpg", picture());
    folder.write("inputs.npz", arrays());
    folder
}

/// Two samples of the network's input.
fn arrays() -> Vec<u8> {
    let values = TensorData::F32(vec![0.5; 2 * 3 * 32 * 32]);
    let samples = Tensor::new(vec![2, 3, 32, 32], values).expect("as many as there are");
    let mut file = Cursor::new(Vec::new());
    write_npz(&mut file, [("samples", &samples)]).expect("arrays");
    file.into_inner()
}

/// A grey picture of 32 x 32, as PNG: what a file is called does not matter.
fn picture() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 32, 32);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    writer
        .write_image_data(&[128; 32 * 32 * 3])
        .expect("the picture");
    drop(writer);
    bytes
}

/// Runs a page's commands; returns how many there were.
fn try_page(page: &Path) -> usize {
    let text = fs::read_to_string(page).expect("a page");
    let name = page.file_name().expect("a name").to_string_lossy();
    let folder = folder();
    let lines = lines(&text);
    // This page goes on where the quick start ended.
    if name == "runtimes.md" {
        let args = ["quantize", "model.onnx", "-o", "smaller.onnx"];
        folder.run(&args).succeeds();
        fs::copy(folder.path("model.json"), folder.path("smaller.json")).expect("a copy");
    }
    let mut paths = vec![Path::new(CAMPANA).parent().expect("a folder").to_owned()];
    paths.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let path = std::env::join_paths(paths).expect("a path");
    let mut run = 0;
    for line in lines {
        let line = match line {
            Line::Run(line) => line,
            Line::Skipped(line, reason) => {
                skipped(&format!("in {name}: {line} ({reason})"));
                continue;
            }
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", &line])
            .current_dir(folder.path("."))
            .env("PATH", &path);
        with_plain_output(&mut command);
        let output = command.output().expect("a shell");
        assert!(
            output.status.success(),
            "{name}: {line}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        run += 1;
    }
    run
}

#[test]
fn every_command_of_the_readme_works() {
    assert!(try_page(&root().join("README.md")) >= 8);
}

#[test]
fn every_command_of_the_pages_works() {
    let mut pages: Vec<PathBuf> = fs::read_dir(root().join("docs"))
        .expect("the folder docs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    let mut run = 0;
    for page in pages {
        if NEEDS_SHARED_DATA.iter().any(|name| page.ends_with(name)) {
            skipped(&format!(
                "{}: its data is not in the repository",
                page.display()
            ));
            continue;
        }
        run += try_page(&page);
    }
    assert!(run >= 15, "only {run} commands were found");
}

#[test]
fn every_page_is_in_the_summary() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).expect("the summary");
    for folder in ["", "results"] {
        let entries = fs::read_dir(docs.join(folder)).expect("a folder");
        for entry in entries.map(|entry| entry.expect("an entry").path()) {
            let name = entry
                .strip_prefix(&docs)
                .expect("a page")
                .display()
                .to_string();
            if name.ends_with(".md") && name != "SUMMARY.md" {
                assert!(
                    summary.contains(&format!("({name})")),
                    "{name} is not in the summary"
                );
            }
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    let docs = fs::read_dir(root().join("docs")).expect("the folder docs");
    pages.extend(docs.map(|entry| entry.expect("an entry").path()));
    let mut links = 0;
    for page in pages.iter().filter(|page| page.is_file()) {
        let text = fs::read_to_string(page).expect("a page");
        for target in text.split("](").skip(1) {
            let target = target.split(')').next().expect("a part");
            let file = target.split('#').next().expect("a part");
            if target.contains("://") || file.is_empty() || target.contains('\n') {
                continue;
            }
            let path = page.parent().expect("a folder").join(file);
            assert!(path.exists(), "{} links to {target}", page.display());
            links += 1;
        }
    }
    assert!(links > 10, "only {links} links were found");
}

#[test]
fn lines_are_taken_out_of_blocks() {
    let page = "\
campana not in a block
```sh
campana a \\
    b
# a remark
cargo build
```
<!-- not run: no network -->
```sh
campana c
```
```python
campana d
```
";
    let skipped = |line: &str, reason: &str| Line::Skipped(line.into(), reason.into());
    assert_eq!(
        lines(page),
        [
            Line::Run("campana a     b".into()),
            skipped("cargo build", "'cargo' is not run here"),
            skipped("campana c", "no network"),
        ]
    );
}
