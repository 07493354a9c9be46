//! `campana quantize --report`: a page about the result.

use std::fs;

use crate::support::{Folder, fixture};

fn folder() -> Folder {
    Folder::with_model(fs::read(fixture()).unwrap())
}

const QUANTIZE: [&str; 6] = [
    "quantize",
    "model.onnx",
    "-o",
    "out.onnx",
    "--report",
    "r.html",
];

#[test]
fn the_page_tells_of_every_quantized_tensor() {
    let folder = folder();
    let report = folder.run(&[&QUANTIZE[..], &["--json"]].concat()).json();
    let page = String::from_utf8(folder.read("r.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    let tensors = report["tensors"].as_array().unwrap();
    for (index, tensor) in tensors.iter().enumerate() {
        let has_card = page.contains(&format!("id=\"t{index}\""));
        assert_eq!(has_card, tensor["kept"].is_null(), "{tensor}");
    }
    assert!(page.contains("campana evaluate model.onnx out.onnx"));
}

#[test]
fn a_page_that_exists_is_kept_without_force() {
    let folder = folder();
    folder.write("r.html", "mine");
    folder.refuses(&QUANTIZE, &["r.html", "--force"]);
    folder
        .run(&[&QUANTIZE[..], &["--force"]].concat())
        .succeeds();
    assert!(folder.read("r.html").starts_with(b"<!DOCTYPE"));
}

#[test]
fn the_page_is_neither_the_model_nor_the_output() {
    let folder = folder();
    for page in ["model.onnx", "out.onnx"] {
        let args = [
            "quantize",
            "model.onnx",
            "-o",
            "out.onnx",
            "--report",
            page,
            "--force",
        ];
        folder.refuses(&args, &[page, "name another file"]);
    }
}

#[test]
fn a_page_that_cannot_be_written_leaves_no_model() {
    let args = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--report",
        "no/folder.html",
    ];
    folder().refuses(&args, &["'no'"]);
}
