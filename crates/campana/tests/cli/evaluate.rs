//! `campana evaluate` on masks and on images without labels.

use std::fs;

use campana_onnx::NewNode;

use crate::support::Folder;
use crate::support::models::NewModel;

/// A network that finds class 1 where a grey image is bright: scores `[0, x]`
/// of an image less one half.
fn bright_or_dark() -> Vec<u8> {
    NewModel::new()
        .floats("w", &[2, 1, 1, 1], &[0.0, 1.0])
        .input("x", &[1, 1, 4, 4])
        .node(NewNode::new("Conv", ["x", "w"], ["y"]))
        .output("y", &[1, 2, 4, 4])
        .into_bytes()
}

const SIDECAR: &str =
    r#"{"input": {"size": 4, "resize": 4, "mean": 0.5, "std": 1, "channels": "grey"}}"#;

fn grey_png(side: u32, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

/// An image whose upper half is bright, and a mask that calls its left half 1.
fn folder() -> Folder {
    let folder = Folder::with_model(bright_or_dark());
    folder.write("model.json", SIDECAR);
    for name in ["data/images", "data/masks"] {
        fs::create_dir_all(folder.path(name)).unwrap();
    }
    let half = |is_one: &dyn Fn(usize) -> bool, one: u8| -> Vec<u8> {
        (0..16).map(|at| if is_one(at) { one } else { 0 }).collect()
    };
    folder.write("data/images/a.png", grey_png(4, &half(&|at| at < 8, 255)));
    folder.write("data/masks/a.png", grey_png(4, &half(&|at| at % 4 < 2, 1)));
    folder
}

#[test]
fn masks_give_the_mean_intersection_over_union() {
    let folder = folder();
    let evaluate = [
        "evaluate",
        "model.onnx",
        "--data",
        "data",
        "--reference",
        "model.onnx",
    ];
    let report = folder.run(&[&evaluate[..], &["--json"]].concat()).json();
    assert_eq!(report["n"], 1);
    let model = &report["models"][0];
    // Of each class 4 pixels are right, 12 are it in one of both.
    assert_eq!(model["mean_iou"], 1.0 / 3.0);
    assert_eq!(
        model["class_iou"],
        serde_json::json!([1.0 / 3.0, 1.0 / 3.0])
    );
    assert_eq!(model["pixel_accuracy"], 0.5);
    assert_eq!(model["agreement"], 1.0);
    let table = folder.run(&evaluate).succeeds();
    assert!(table.contains("33.33 %"), "{table}");
    assert!(table.contains("the 2 classes that occur"), "{table}");
}

#[test]
fn a_mask_with_a_class_that_the_network_lacks_is_named() {
    let folder = folder();
    folder.write("data/masks/a.png", grey_png(4, &[7; 16]));
    folder.refuses(
        &["evaluate", "model.onnx", "--data", "data"],
        &["masks/a.png", "label 7", "below 2"],
    );
}

#[test]
fn a_mask_of_another_size_is_left_out() {
    let folder = folder();
    folder.write("data/masks/a.png", grey_png(2, &[0; 4]));
    folder.refuses(
        &["evaluate", "model.onnx", "--data", "data"],
        &[
            "masks/a.png",
            "expected 4 x 4 pixels as in images/a.png",
            "found 2 x 2",
        ],
    );
}

#[test]
fn images_without_labels_are_compared_with_a_reference() {
    let folder = folder();
    let evaluate = ["evaluate", "model.onnx", "--data", "data/images"];
    folder.refuses(&evaluate, &["data/images", "no labels", "--reference"]);
    let with_reference = [&evaluate[..], &["--reference", "model.onnx", "--json"]].concat();
    let report = folder.run(&with_reference).json();
    assert_eq!(report["n"], 1);
    assert_eq!(report["models"][0]["outputs"][0]["max_difference"], 0.0);
}
