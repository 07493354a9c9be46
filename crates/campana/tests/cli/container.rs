//! Models in the entropy-coded container, and out of it byte for byte.

use std::fs;

use crate::support::models::{NewModel, conv_model, external};
use crate::support::{Folder, fixture, root};

fn folder() -> Folder {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let read = |name: &str| fs::read(root().join("fixtures").join(name)).unwrap();
    for name in ["model.json", "small.json"] {
        folder.write(name, read("cifar10_resnet8.json"));
    }
    folder.write("images.bin", read("cifar10_test_500.bin"));
    folder
}

#[test]
fn unpacking_gives_back_what_was_packed() {
    let folder = folder();
    let unquantized = conv_model().into_bytes();
    folder.write("other.onnx", &unquantized);
    let quantize = ["quantize", "model.onnx", "--no-correct", "--json", "-o"];
    folder
        .run(&[&quantize[..], &["4.onnx", "--bits", "4"]].concat())
        .json();
    folder
        .run(&[&quantize[..], &["3.onnx", "--bits", "3"]].concat())
        .json();
    for (name, share) in [("4", 0.95), ("3", 0.95), ("model", 0.95), ("other", 0.97)] {
        let (onnx, packed) = (format!("{name}.onnx"), format!("{name}.campana"));
        let report = folder.run(&["pack", &onnx, "-o", &packed, "--json"]).json();
        assert_eq!(report["input_bytes"], folder.read(&onnx).len());
        assert_eq!(report["output_bytes"], folder.read(&packed).len());
        let smaller = folder.read(&packed).len() as f64 / folder.read(&onnx).len() as f64;
        assert!(smaller < share, "{name}: {smaller}");
        folder
            .run(&["unpack", &packed, "-o", "back.onnx", "--force"])
            .succeeds();
        assert!(folder.read("back.onnx") == folder.read(&onnx), "{name}");
    }
}

#[test]
fn the_target_is_the_packed_lut_model() {
    let folder = folder();
    let quantize = ["quantize", "model.onnx", "--no-correct", "--json", "-o"];
    folder.run(&[&quantize[..], &["lut.onnx"]].concat()).json();
    let target = ["small.campana", "--target", "campana"];
    let report = folder.run(&[&quantize[..], &target].concat()).json();
    assert_eq!(report["target"], "campana");
    folder
        .run(&["unpack", "small.campana", "-o", "back.onnx"])
        .succeeds();
    assert!(folder.read("back.onnx") == folder.read("lut.onnx"));
}

#[test]
fn a_rate_is_kept_and_correction_pays_there_too() {
    let folder = folder();
    let at_rate = |options: &[&str]| {
        let quantize = [
            "quantize",
            "model.onnx",
            "-o",
            "small.campana",
            "--target",
            "campana",
            "--rate",
            "2",
            "--force",
            "--json",
        ];
        let report = folder.run(&[&quantize, options].concat()).json();
        let bits = report["bits_per_weight"].as_f64().unwrap();
        assert!((1.85..=2.0).contains(&bits), "{bits} bits");
        let evaluate = [
            "evaluate",
            "small.campana",
            "--data",
            "images.bin",
            "--json",
        ];
        folder.run(&evaluate).json()["models"][0]["top1"]
            .as_f64()
            .unwrap()
    };
    let plain = at_rate(&["--no-correct"]);
    let corrected = at_rate(&[]);
    let calibrated = at_rate(&["--calibrate", "images.bin", "--samples", "100"]);
    assert!(corrected > plain, "{plain} {corrected}");
    // The float network is right on 87 % of them.
    assert!(calibrated > 0.8, "{calibrated}");
}

#[test]
fn at_least_the_share_asked_for_becomes_zero() {
    let folder = folder();
    let quantize = "quantize model.onnx -o pruned.campana --target campana --sparsity 70% --json";
    let report = folder.run(&quantize.split(' ').collect::<Vec<_>>()).json();
    let zeros = report["zeros"].as_f64().unwrap();
    assert!((0.7..0.75).contains(&zeros), "{zeros}");
    folder
        .run(&["unpack", "pruned.campana", "-o", "pruned.onnx"])
        .succeeds();
    let evaluate = ["evaluate", "pruned.onnx", "--data", "images.bin", "--json"];
    folder.write("pruned.json", folder.read("model.json"));
    let top1 = folder.run(&evaluate).json()["models"][0]["top1"]
        .as_f64()
        .unwrap();
    // The float network is right on 87 % of them.
    assert!(top1 > 0.7, "{top1}");
}

#[test]
fn what_is_no_container_is_refused() {
    let folder = folder();
    let unpack = ["unpack", "model.onnx", "-o", "out.onnx"];
    folder.refuses(&unpack, &["'model.onnx'", "no campana container"]);
    folder
        .run(&["pack", "model.onnx", "-o", "whole.campana"])
        .succeeds();
    let whole = folder.read("whole.campana");
    folder.write("cut.campana", &whole[..whole.len() / 2]);
    let unpack = ["unpack", "cut.campana", "-o", "out.onnx"];
    folder.refuses(&unpack, &["'cut.campana'", "damaged or cut off"]);
    let evaluate = ["evaluate", "cut.campana", "--data", "images.bin"];
    folder.write("cut.json", folder.read("model.json"));
    folder.refuses(&evaluate, &["cut.campana", "damaged or cut off"]);
    folder.refuses(
        &["unpack", "none.campana", "-o", "out.onnx"],
        &["'none.campana'"],
    );
    let pack = ["pack", "whole.campana", "-o", "out.campana"];
    folder.refuses(&pack, &["'whole.campana'"]);
}

#[test]
fn data_beside_a_model_is_not_left_behind() {
    let model = NewModel::new().initializer(external("w", &[8, 8, 3, 3], "w.bin", 0));
    let folder = Folder::with_model(model.into_bytes());
    folder.write("w.bin", [0; 8 * 8 * 9 * 4]);
    let pack = ["pack", "model.onnx", "-o", "out.campana"];
    folder.refuses(&pack, &["tensor 'w'", "beside the model"]);
}

#[test]
fn a_rate_needs_the_coder() {
    let quantize = ["quantize", "model.onnx", "-o", "out.onnx", "--rate", "2"];
    folder().refuses(&quantize, &["--rate", "--target campana"]);
    let quantize = ["quantize", "model.onnx", "-o", "out.onnx", "--sparsity=60%"];
    folder().refuses(&quantize, &["--sparsity", "--target campana"]);
    for goal in ["--rate=2", "--sparsity=60%"] {
        for other in ["--max-size=60kB", "--max-drop=1%", "--plan=plan.toml"] {
            let options = [&quantize[..4], &["--target=campana", goal, other]].concat();
            let (option, _) = other.split_once('=').unwrap();
            folder().refuses(&options, &[option, "cannot be used with"]);
        }
    }
}
