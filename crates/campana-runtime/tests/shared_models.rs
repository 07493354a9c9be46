//! The real networks of the shared folder: agreement of folded and unfolded
//! models, and top-1 on real images.

use campana_ir::format;
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::TensorData;
use campana_testing::shared;

/// Batch normalization folded by whoever exported the model, and by the plan:
/// the models' README gives 3e-5 for logits of size 10.
const MAX_FOLDING_ERROR: f32 = 1e-4;

/// Images of a CIFAR-10 file: one byte of label, then 3072 of pixels.
const RECORD_LEN: usize = 3073;

fn session(folder: &std::path::Path, model: &str, threads: usize) -> Session {
    let graph = format::load(folder.join("models").join(format!("{model}.onnx"))).unwrap();
    Session::new(Plan::new(&graph, PlanOptions::default()).unwrap(), threads)
}

fn logits(session: &Session, shape: &[usize], data: &[f32]) -> Vec<f32> {
    let name = session.plan().inputs()[0].name.clone();
    let outputs = session.run(&[(&name, Input::F32 { shape, data })]).unwrap();
    match outputs[0].data() {
        TensorData::F32(values) => values.clone(),
        other => panic!("logits of {}", other.element_type()),
    }
}

#[test]
fn folded_and_unfolded_models_agree() {
    let Some(folder) = shared("") else { return };
    for (model, size) in [
        ("cifar10_resnet20", 32),
        ("cifar10_resnet8_mlperf", 32),
        ("imagenet_mobilenetv1_025", 224),
    ] {
        let shape = [2, 3, size, size];
        let data: Vec<f32> = (0..6 * size * size)
            .map(|i| (i * 7919 % 1013) as f32 / 506.5 - 1.0)
            .collect();
        let folded = logits(&session(&folder, model, 1), &shape, &data);
        let unfolded = logits(&session(&folder, &format!("{model}_bn"), 2), &shape, &data);
        let size = folded.iter().fold(0.0f32, |max, v| max.max(v.abs()));
        for (a, b) in folded.iter().zip(&unfolded) {
            assert!(
                (a - b).abs() <= MAX_FOLDING_ERROR * size,
                "{model}: {a} and {b}"
            );
        }
    }
}

#[test]
fn resnet20_recognizes_nine_of_ten_images() {
    const IMAGES: usize = 300;
    const MIN_TOP1: f64 = 0.88;
    let Some(folder) = shared("") else { return };
    let file = std::fs::read(folder.join("data/cifar10_test.bin")).unwrap();
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let mut data = Vec::new();
    let mut labels = Vec::new();
    for record in file.chunks_exact(RECORD_LEN).take(IMAGES) {
        labels.push(usize::from(record[0]));
        for (channel, plane) in record[1..].chunks_exact(1024).enumerate() {
            data.extend(
                plane
                    .iter()
                    .map(|&v| (f32::from(v) / 255.0 - mean[channel]) / std[channel]),
            );
        }
    }
    let session = session(&folder, "cifar10_resnet20", 2);
    let logits = logits(&session, &[IMAGES, 3, 32, 32], &data);
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let right = logits
        .chunks_exact(10)
        .zip(&labels)
        .filter(|(row, label)| best(row) == Some(**label))
        .count();
    assert!(
        right as f64 >= MIN_TOP1 * IMAGES as f64,
        "{right} of {IMAGES}"
    );
}
