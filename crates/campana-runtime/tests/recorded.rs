//! Whole networks on integers give the recorded bits, on every processor and at
//! every ISA (`CAMPANA_CPU`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use campana_ir::format::onnx;
use campana_onnx::{Model, Source};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::TensorData;

/// Images whose logits are recorded.
const IMAGES: usize = 4;

/// Bytes of an image in the file of test images, behind a byte of label.
const PIXELS: usize = 3 * 32 * 32;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded")
}

/// The first images of each of some classes, about as the network wants them.
fn images() -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cifar10_test_500.bin");
    let bytes = std::fs::read(path).unwrap();
    let images = bytes.chunks(1 + PIXELS).step_by(51).take(IMAGES);
    let pixels = images.flat_map(|image| &image[1..]);
    pixels.map(|&pixel| f32::from(pixel) / 64.0 - 2.0).collect()
}

fn logits(model: &str, threads: usize) -> Vec<f32> {
    // From memory: WebAssembly has no positioned reads.
    let bytes = std::fs::read(folder().join(model)).unwrap();
    let graph = onnx::graph(&Model::parse(Source::from_bytes(bytes)).unwrap()).unwrap();
    let session = Session::new(Plan::new(&graph, PlanOptions::default()).unwrap(), threads);
    let name = session.plan().inputs()[0].name.clone();
    let data = images();
    let shape = [IMAGES, 3, 32, 32];
    let input = Input::F32 {
        shape: &shape,
        data: &data,
    };
    let outputs = session.run(&[(&name, input)]).unwrap();
    match outputs[0].data() {
        TensorData::F32(values) => values.clone(),
        other => panic!("logits of {}", other.element_type()),
    }
}

/// A line for each image, its logits as numbers and as bits.
fn lines(logits: &[f32]) -> String {
    let mut text = String::new();
    for image in logits.chunks(10) {
        for logit in image {
            write!(text, " {logit:.3}={:08x}", logit.to_bits()).unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn networks_on_integers_give_the_recorded_bits() {
    for form in ["int8", "w4a8"] {
        for threads in [1, 2] {
            let lines = lines(&logits(&format!("resnet8-{form}.onnx"), threads));
            let path = folder().join(format!("resnet8-{form}.txt"));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &lines).unwrap();
            }
            let recorded = std::fs::read_to_string(&path).unwrap();
            assert_eq!(lines, recorded, "{form} on {threads} threads");
        }
    }
}
