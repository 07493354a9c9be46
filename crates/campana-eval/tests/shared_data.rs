//! The sidecars and datasets that `CAMPANA_SHARED` names (default: `shared` beside the repository).

use std::path::Path;

use campana_eval::{BatchOptions, Dataset, DatasetFormat, DatasetOptions, Selection, Sidecar};
use campana_testing::shared;

fn sidecar(shared: &Path, model: &str) -> Sidecar {
    let model = shared.join("models").join(model);
    Sidecar::beside(&model).unwrap().expect("a sidecar")
}

fn open(shared: &Path, name: &str, class_names: &[String]) -> Dataset {
    let options = DatasetOptions {
        class_names,
        ..DatasetOptions::default()
    };
    Dataset::open_with(&shared.join("data").join(name), &options).unwrap()
}

#[test]
fn every_cifar_file_is_recognized() {
    let Some(shared) = shared("") else { return };
    let cases = [
        (
            "cifar10_test.bin",
            "cifar10_resnet20.onnx",
            DatasetFormat::Cifar10,
            10_000,
            3,
        ),
        (
            "cifar10_calib.bin",
            "cifar10_resnet20.onnx",
            DatasetFormat::Cifar10,
            2048,
            2,
        ),
        (
            "cifar100_test.bin",
            "cifar100_resnet20.onnx",
            DatasetFormat::Cifar100,
            10_000,
            80,
        ),
        (
            "cifar100_calib.bin",
            "cifar100_resnet20.onnx",
            DatasetFormat::Cifar100,
            2048,
            27,
        ),
    ];
    for (name, model, format, len, first_label) in cases {
        let sidecar = sidecar(&shared, model);
        let dataset = open(&shared, name, &sidecar.labels);
        assert_eq!(dataset.format(), format, "{name}");
        assert_eq!(dataset.len(), len, "{name}");
        assert_eq!(dataset.label(0), Some(first_label), "{name}");
        assert!(dataset.decode(len - 1, &sidecar.preprocessing).is_ok());
    }
}

#[test]
fn folders_with_labels_become_inputs_of_the_model() {
    let Some(shared) = shared("") else { return };
    let sidecar = sidecar(&shared, "imagenet_efficientnet_lite0_bn.onnx");
    for (name, len) in [
        ("imagenet_sample1000", 1000),
        ("imagenet_nips2017_500", 500),
        ("imagenet_calib384", 384),
    ] {
        let dataset = open(&shared, name, &sidecar.labels);
        assert_eq!(dataset.format(), DatasetFormat::LabelsTsv);
        assert_eq!(dataset.len(), len);
        assert!(dataset.check_labels(1000).is_ok());
        let options = BatchOptions {
            batch: 8,
            limit: Some(24),
            selection: Selection::Spread,
            threads: 2,
        };
        let input_len = sidecar.preprocessing.input_len();
        assert_eq!(input_len, 3 * 224 * 224);
        for batch in dataset.batches(&sidecar.preprocessing, &options).unwrap() {
            let batch = batch.unwrap();
            assert!(batch.failures.is_empty());
            assert_eq!(batch.input.len(), 8 * input_len);
            // Normalized to about -1 to 1.
            assert!(batch.input.iter().all(|value| value.abs() < 1.01));
        }
    }
}

#[test]
fn the_thousand_class_folders_are_in_the_order_of_their_classes() {
    let Some(shared) = shared("") else { return };
    let labelled = open(&shared, "imagenet_sample1000", &[]);
    let options = DatasetOptions {
        format: Some(DatasetFormat::ClassFolders),
        class_count: Some(1000),
        ..DatasetOptions::default()
    };
    let path = shared.join("data/imagenet_sample1000");
    let folders = Dataset::open_with(&path, &options).unwrap();
    assert_eq!(folders.len(), 1000);
    for index in 0..1000 {
        assert_eq!(folders.image_name(index), labelled.image_name(index));
        assert_eq!(folders.label(index), labelled.label(index));
    }
    let subset = shared.join("data/imagenet_nips2017_500");
    let error = Dataset::open_with(&subset, &options).unwrap_err();
    assert!(error.to_string().contains("found 305 folders"), "{error}");
}

#[test]
fn every_sidecar_is_understood() {
    let Some(shared) = shared("") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(shared.join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let sidecar = Sidecar::read(&path).unwrap();
            assert!([10, 100, 1000].contains(&sidecar.labels.len()));
            count += 1;
        }
    }
    assert!(count > 0);
}
