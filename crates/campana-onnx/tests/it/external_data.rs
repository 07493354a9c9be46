//! Tensors whose elements are in other files.

use std::fs;
use std::path::Path;

use campana_onnx::{DataLocation, Error, ErrorKind, ExternalData, Model, NewTensor};
use campana_tensor::ElementType;

use crate::common::{initializer, model_bytes};

fn external(location: &str, offset: u64, length: Option<u64>) -> ExternalData {
    ExternalData {
        location: location.to_owned(),
        offset,
        length,
        checksum: None,
    }
}

/// The model of one float tensor `[4]` with these elements, in `folder`.
fn open(folder: &Path, external: &ExternalData) -> Model {
    let tensor = NewTensor::external("far", &[4], ElementType::F32, external);
    let path = folder.join("model.onnx");
    fs::write(&path, model_bytes(initializer(tensor))).expect("written");
    Model::open(path).expect("a valid model")
}

fn read(model: &Model) -> Result<Vec<f32>, Error> {
    model.read_f32(&model.graph.initializers[0])
}

/// A folder with a model's data of 24 bytes in `sub/w.bin`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("sub")).expect("a folder");
    let values = [0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(folder.path().join("sub/w.bin"), bytes).expect("written");
    folder
}

#[test]
fn elements_are_read_from_the_file_beside_the_model() {
    let folder = folder();
    for length in [None, Some(16)] {
        let model = open(folder.path(), &external("sub/w.bin", 8, length));
        let tensor = &model.graph.initializers[0];
        assert!(matches!(&tensor.data, DataLocation::External(e) if e.length == length));
        assert_eq!(read(&model).expect("read"), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(read(&model).expect("read again"), [2.0, 3.0, 4.0, 5.0]);
        let path = model
            .external_path(tensor)
            .expect("a path")
            .expect("a path");
        assert!(path.ends_with("sub/w.bin"));
    }
    let model = open(folder.path(), &external("./sub/w.bin", 0, Some(16)));
    assert_eq!(read(&model).expect("read"), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn each_refusal_names_tensor_and_file_and_says_what_to_do() {
    let folder = folder();
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("secret"), [0; 64]).expect("written");
    let absolute = outside.path().join("secret").display().to_string();
    let up = format!(
        "../{}/secret",
        outside
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy()
    );
    let cases = [
        (external("", 0, None), "no file is named"),
        (external(&absolute, 0, None), "outside the model's folder"),
        (external(&up, 0, None), "outside the model's folder"),
        (
            external("sub/../sub/w.bin", 0, None),
            "outside the model's folder",
        ),
        (external("missing.bin", 0, None), "keep it beside the model"),
        (external("sub", 0, None), "cannot be read"),
        (external("sub/w.bin", 12, None), "which has 24 bytes"),
        (external("sub/w.bin", u64::MAX, None), "which has 24 bytes"),
        (external("sub/w.bin", 0, Some(20)), "given as 20 bytes"),
    ];
    for (external, words) in cases {
        let error = read(&open(folder.path(), &external)).expect_err(words);
        assert_eq!(error.kind(), ErrorKind::ExternalData, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("tensor \"far\"") && text.contains(words),
            "{words} in: {text}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused_and_one_inside_followed() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("secret"), [0; 64]).expect("written");
    symlink(outside.path().join("secret"), folder.path().join("out.bin")).expect("a link");
    symlink(outside.path(), folder.path().join("out")).expect("a link");
    symlink("sub/w.bin", folder.path().join("in.bin")).expect("a link");
    for location in ["out.bin", "out/secret"] {
        let model = open(folder.path(), &external(location, 0, None));
        let error = read(&model).expect_err("outside");
        assert_eq!(error.kind(), ErrorKind::ExternalData);
        assert!(error.message().contains("a link to"), "{error}");
    }
    let model = open(folder.path(), &external("in.bin", 0, None));
    assert_eq!(read(&model).expect("read"), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn a_model_in_memory_has_no_files_beside_it() {
    let tensor = NewTensor::external("far", &[4], ElementType::F32, &external("w.bin", 0, None));
    let model = crate::common::model(initializer(tensor));
    let error = read(&model).expect_err("no folder");
    assert_eq!(error.kind(), ErrorKind::ExternalData);
    assert!(
        error.message().contains("not read from a folder"),
        "{error}"
    );
}
